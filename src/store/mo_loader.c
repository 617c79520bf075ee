/* mo_loader.c - see mo_loader.h.
 *
 * The caller's thread alone decides which sequences a batch has; the jobs only read them. So the
 * batches are the same for any number of threads, and a position is a few integers. */

enum { MOI_LOADER_ROUNDS = 8, MOI_LOADER_TEXT = 100 };

/* Sequences of the epoch's order that all ranks have taken. */
typedef struct moi_loader_cursor {
    uint64_t epoch, index;
} moi_loader_cursor;

typedef struct moi_loader_slot { /* a batch */
    mo_queue_job job;
    const struct moi_loader *loader;
    moi_loader_cursor cursor;
    int32_t *block;    /* [2 batch * seq] inputs, targets */
    int32_t *sequence; /* [seq + 1] */
    int has_failed;
    moi_tokens_error error;
    double seconds;
} moi_loader_slot;

struct moi_loader {
    mo_loader_desc desc; /* with all defaults replaced */
    mo_queue own;
    uint64_t n_sequences, n_epoch; /* n_epoch of them begin a batch in an epoch */
    uint64_t taken;                /* by a batch of each rank */
    uint64_t *begins; /* [n_files + 1] apart: first sequence of each file; NULL = not apart */
    moi_loader_slot *slots;
    size_t n_slots, block_bytes;
    size_t first, n_ahead;    /* the slot that is next; how many from there on are being prepared */
    moi_loader_cursor cursor; /* of the batch that is prepared next */
    mo_loader_stats stats;
};

/* ---- the order ----------------------------------------------------------------------------- */

uint64_t mo_loader_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t index) {
    const uint32_t key = moi_random_key(seed, epoch);
    unsigned half = 0;
    while (half < 32 && n > (uint64_t)1 << (2 * half)) half++;
    const uint32_t mask = half < 32 ? ((uint32_t)1 << half) - 1 : UINT32_MAX;
    uint64_t x = index;
    do {
        uint32_t left = (uint32_t)(x >> half) & mask, right = (uint32_t)x & mask;
        for (uint32_t k = 1; k <= MOI_LOADER_ROUNDS; k++) {
            const uint32_t mixed = moi_random_mix(right ^ moi_random_mix(key + 0x9e3779b9u * k));
            const uint32_t next = left ^ (mixed & mask);
            left = right;
            right = next;
        }
        x = (uint64_t)left << half | right;
    } while (x >= n);
    return x;
}

/* The first token of a sequence. */
static uint64_t moi_loader_token(const struct moi_loader *l, uint64_t sequence) {
    size_t low = 0, high = l->desc.tokens->n_files;
    if (!l->begins) return sequence * l->desc.seq;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (l->begins[middle] <= sequence) low = middle;
        else high = middle;
    }
    return l->desc.tokens->files[low].first + (sequence - l->begins[low]) * l->desc.seq;
}

/* The first token of sequence number b of a batch. Only with carry it may be of a later epoch. */
static uint64_t moi_loader_find(const struct moi_loader *l, moi_loader_cursor cursor, size_t b) {
    const uint64_t at = cursor.index + (uint64_t)l->desc.rank * l->desc.batch + b;
    const uint64_t epoch = cursor.epoch + at / l->n_sequences, index = at % l->n_sequences;
    if (!l->desc.shuffle) return moi_loader_token(l, index);
    return moi_loader_token(l, mo_loader_permute(l->desc.seed, epoch, l->n_sequences, index));
}

/* Where the next batch begins, when the one before ended here. */
static moi_loader_cursor moi_loader_settle(const struct moi_loader *l, moi_loader_cursor c) {
    if (l->desc.carry) {
        c.epoch += c.index / l->n_sequences;
        c.index %= l->n_sequences;
    } else if (c.index >= l->n_epoch || l->taken > l->n_sequences - c.index) {
        c.epoch++;
        c.index = 0;
    }
    return c;
}

/* ---- a batch, on a thread of the queue ----------------------------------------------------- */

static mo_status moi_loader_check_vocab(moi_loader_slot *slot, uint64_t at, size_t n) {
    const struct moi_loader *l = slot->loader;
    for (size_t i = 0; i < n && l->desc.vocab != 0; i++)
        if ((uint32_t)slot->sequence[i] >= l->desc.vocab)
            return moi_tokens_outside(
                l->desc.tokens, at + i, slot->sequence[i], l->desc.vocab, &slot->error);
    return MO_OK;
}

static mo_status moi_loader_read(moi_loader_slot *slot, size_t b) {
    const mo_loader_desc *d = &slot->loader->desc;
    const uint64_t at = moi_loader_find(slot->loader, slot->cursor, b);
    int32_t *inputs = slot->block + b * d->seq, *targets = inputs + d->batch * d->seq;
    mo_status status = moi_tokens_read(d->tokens, at, d->seq + 1, slot->sequence, &slot->error);
    if (status == MO_OK) status = moi_loader_check_vocab(slot, at, d->seq + 1);
    if (status != MO_OK) return status;
    memcpy(inputs, slot->sequence, d->seq * sizeof *inputs);
    memcpy(targets, slot->sequence + 1, d->seq * sizeof *targets);
    return MO_OK;
}

static mo_status moi_loader_run(void *self) {
    moi_loader_slot *slot = (moi_loader_slot *)self;
    const double begin_s = moi_os_now_s();
    mo_status status = MO_OK;
    for (size_t b = 0; b < slot->loader->desc.batch && status == MO_OK; b++)
        status = moi_loader_read(slot, b);
    slot->seconds = moi_os_now_s() - begin_s;
    return status;
}

/* ---- init ---------------------------------------------------------------------------------- */

static uint64_t moi_loader_sequences_of(uint64_t n_tokens, size_t seq) {
    return n_tokens > 0 ? (n_tokens - 1) / seq : 0; /* the last target is one token further */
}

static mo_status moi_loader_count_sequences(struct moi_loader *l) {
    const mo_tokens *t = l->desc.tokens;
    l->n_sequences = moi_loader_sequences_of(t->n, l->desc.seq);
    if (!l->desc.apart) return MO_OK;
    l->begins = (uint64_t *)moi_alloc_array(&l->desc.allocator, t->n_files + 1, sizeof *l->begins);
    if (!l->begins) return MO_E_NO_MEMORY;
    l->begins[0] = 0;
    for (size_t i = 0; i < t->n_files; i++)
        l->begins[i + 1] = l->begins[i] + moi_loader_sequences_of(t->files[i].n, l->desc.seq);
    l->n_sequences = l->begins[t->n_files];
    return MO_OK;
}

static mo_status moi_loader_measure_epoch(struct moi_loader *l) {
    const mo_loader_desc *d = &l->desc;
    size_t taken, group;
    if (!moi_mul(d->batch, d->n_ranks, &taken) || !moi_mul(taken, d->group, &group))
        return MO_E_OVERFLOW;
    l->taken = taken;
    l->n_epoch = l->n_sequences - l->n_sequences % group;
    l->stats.n_sequences = l->n_sequences;
    l->stats.epoch_batches = (d->carry ? l->n_sequences : l->n_epoch) / taken;
    if (l->n_sequences >= (d->carry ? 1 : group)) return MO_OK;
    moi_log(&d->log, MO_LOG_ERROR,
        "loader: %llu sequences of %llu tokens are fewer than a group of batches takes: %llu",
        (unsigned long long)l->n_sequences, (unsigned long long)d->seq, (unsigned long long)group);
    return MO_E_INVALID;
}

static mo_status moi_loader_open_queue(struct moi_loader *l) {
    if (!l->desc.queue) {
        mo_queue_desc desc;
        desc.allocator = l->desc.allocator;
        desc.n_threads = l->desc.n_threads;
        const mo_status status = mo_queue_init(&l->own, &desc);
        if (status != MO_OK) return status;
        l->desc.queue = &l->own;
    }
    l->desc.n_threads = mo_queue_threads(l->desc.queue);
    return MO_OK;
}

/* One batch and the sequence beside it, in bytes; 0 = too many. */
static int moi_loader_block_bytes(const mo_loader_desc *d, size_t *bytes) {
    size_t n;
    return d->seq < SIZE_MAX && moi_mul(d->batch, d->seq, &n) &&
        moi_mul(n, 2 * sizeof(int32_t), bytes);
}

static mo_status moi_loader_alloc_slot(struct moi_loader *l, moi_loader_slot *slot) {
    slot->loader = l;
    slot->job.run = moi_loader_run;
    slot->job.self = slot;
    slot->block = (int32_t *)mo_alloc(&l->desc.memory, l->block_bytes, MOI_CACHE_LINE);
    slot->sequence =
        (int32_t *)moi_alloc_array(&l->desc.allocator, l->desc.seq + 1, sizeof *slot->sequence);
    return slot->block && slot->sequence ? MO_OK : MO_E_NO_MEMORY;
}

static mo_status moi_loader_alloc_slots(struct moi_loader *l) {
    mo_status status = MO_OK;
    const mo_allocator *a = &l->desc.allocator;
    if (!moi_loader_block_bytes(&l->desc, &l->block_bytes)) return MO_E_OVERFLOW;
    if (!moi_add(l->desc.depth, 1, &l->n_slots)) return MO_E_OVERFLOW;
    l->slots = (moi_loader_slot *)moi_alloc_array(a, l->n_slots, sizeof *l->slots);
    if (!l->slots) return MO_E_NO_MEMORY;
    memset(l->slots, 0, l->n_slots * sizeof *l->slots);
    for (size_t i = 0; i < l->n_slots && status == MO_OK; i++)
        status = moi_loader_alloc_slot(l, &l->slots[i]);
    return status;
}

static mo_status moi_loader_build(struct moi_loader *l) {
    mo_status status = moi_loader_count_sequences(l);
    if (status == MO_OK) status = moi_loader_measure_epoch(l);
    if (status == MO_OK) status = moi_loader_open_queue(l);
    if (status == MO_OK) status = moi_loader_alloc_slots(l);
    return status;
}

static void moi_loader_begin(struct moi_loader *l, const mo_loader_desc *desc) {
    memset(l, 0, sizeof *l);
    l->desc = *desc;
    if (l->desc.group == 0) l->desc.group = 1;
    if (l->desc.n_ranks == 0) l->desc.n_ranks = 1;
    if (l->desc.depth == 0) l->desc.depth = 2;
    if (!l->desc.memory.alloc) l->desc.memory = l->desc.allocator;
}

mo_status mo_loader_init(mo_loader *loader, const mo_loader_desc *desc) {
    mo_loader made;
    if (!loader || !desc || !desc->tokens || desc->batch == 0 || desc->seq == 0)
        return MO_E_INVALID;
    if (desc->rank >= (desc->n_ranks ? desc->n_ranks : 1)) return MO_E_INVALID;
    made.impl = (struct moi_loader *)mo_alloc(&desc->allocator, sizeof *made.impl, MOI_CACHE_LINE);
    if (!made.impl) return MO_E_NO_MEMORY;
    moi_loader_begin(made.impl, desc);
    const mo_status status = moi_loader_build(made.impl);
    if (status == MO_OK) *loader = made;
    else mo_loader_free(&made);
    return status;
}

static void moi_loader_drain(struct moi_loader *l) {
    for (size_t i = 0; i < l->n_slots && l->slots; i++)
        if (l->slots[i].sequence) (void)mo_queue_wait(l->desc.queue, &l->slots[i].job);
    l->n_ahead = 0;
}

void mo_loader_free(mo_loader *loader) {
    struct moi_loader *l = loader ? loader->impl : NULL;
    if (!l) return;
    const mo_allocator a = l->desc.allocator;
    moi_loader_drain(l);
    mo_queue_free(&l->own);
    for (size_t i = 0; i < l->n_slots && l->slots; i++) {
        mo_free(&l->desc.memory, l->slots[i].block, l->block_bytes, MOI_CACHE_LINE);
        moi_free_array(&a, l->slots[i].sequence, l->desc.seq + 1, sizeof(int32_t));
    }
    moi_free_array(&a, l->slots, l->n_slots, sizeof *l->slots);
    moi_free_array(&a, l->begins, l->desc.tokens->n_files + 1, sizeof *l->begins);
    mo_free(&a, l, sizeof *l, MOI_CACHE_LINE);
    loader->impl = NULL;
}

/* ---- use ----------------------------------------------------------------------------------- */

/* Have all slots prepared that are not, but for a batch that the caller may still hold. */
static void moi_loader_prepare(struct moi_loader *l) {
    if (l->n_ahead > 0 && l->slots[l->first].has_failed) {
        l->slots[l->first].has_failed = 0;
        mo_queue_submit(l->desc.queue, &l->slots[l->first].job);
    }
    for (; l->n_ahead < l->n_slots; l->n_ahead++) {
        moi_loader_slot *slot = &l->slots[(l->first + l->n_ahead) % l->n_slots];
        slot->cursor = l->cursor = moi_loader_settle(l, l->cursor);
        l->cursor.index += l->taken;
        slot->has_failed = 0;
        mo_queue_submit(l->desc.queue, &slot->job);
    }
}

/* Without threads the reading is done in submit, and is counted as waiting. */
static mo_status moi_loader_receive(struct moi_loader *l) {
    moi_loader_slot *slot = &l->slots[l->first];
    const double begin_s = moi_os_now_s();
    moi_loader_prepare(l);
    const int is_stall = l->desc.n_threads == 0 || !mo_queue_is_done(l->desc.queue, &slot->job);
    const mo_status status = mo_queue_wait(l->desc.queue, &slot->job);
    l->stats.read_s += slot->seconds;
    slot->has_failed = status != MO_OK;
    if (is_stall) {
        l->stats.n_stalls++;
        l->stats.stall_s += moi_os_now_s() - begin_s;
    }
    return status == MO_OK ? MO_OK : moi_tokens_say(l->desc.tokens, &l->desc.log, &slot->error);
}

mo_status mo_loader_next(mo_loader *loader, mo_loader_batch *batch) {
    struct moi_loader *l = loader->impl;
    const mo_status status = moi_loader_receive(l);
    if (status != MO_OK) return status;
    const moi_loader_slot *slot = &l->slots[l->first];
    batch->inputs = slot->block;
    batch->targets = slot->block + l->desc.batch * l->desc.seq;
    batch->epoch = slot->cursor.epoch;
    l->first = (l->first + 1) % l->n_slots;
    l->n_ahead--;
    l->stats.n_batches++;
    return MO_OK;
}

mo_loader_state mo_loader_get_state(const mo_loader *loader) {
    const struct moi_loader *l = loader->impl;
    const moi_loader_cursor c =
        moi_loader_settle(l, l->n_ahead > 0 ? l->slots[l->first].cursor : l->cursor);
    mo_loader_state state;
    state.epoch = c.epoch;
    state.position = c.index * l->desc.seq;
    state.seed = l->desc.seed;
    state.shuffle = l->desc.shuffle != 0;
    return state;
}

void mo_loader_set_state(mo_loader *loader, const mo_loader_state *state) {
    struct moi_loader *l = loader->impl;
    const uint64_t seq = l->desc.seq;
    moi_loader_drain(l);
    l->desc.seed = state->seed;
    l->desc.shuffle = state->shuffle;
    l->cursor.epoch = state->epoch;
    l->cursor.index = state->position / seq + (state->position % seq != 0);
    if (l->cursor.index >= l->n_sequences) {
        l->cursor.epoch++;
        l->cursor.index = 0;
    }
}

mo_loader_stats mo_loader_get_stats(const mo_loader *loader) { return loader->impl->stats; }

/* ---- text ---------------------------------------------------------------------------------- */

mo_status mo_loader_format(const mo_loader_state *state, char *text, size_t size) {
    char made[MOI_LOADER_TEXT];
    if (!state || !text) return MO_E_INVALID;
    const int length = snprintf(made, sizeof made, "epoch=%llu position=%llu seed=%llu shuffle=%d",
        (unsigned long long)state->epoch, (unsigned long long)state->position,
        (unsigned long long)state->seed, state->shuffle != 0);
    if ((size_t)length >= size) return MO_E_NO_SPACE;
    memcpy(text, made, (size_t)length + 1);
    return MO_OK;
}

/* What is parsed has to give the same text again: no signs, spaces, zeros in front, overflows. */
mo_status mo_loader_parse(const char *text, mo_loader_state *state) {
    unsigned long long epoch, position, seed;
    mo_loader_state made;
    char again[MOI_LOADER_TEXT];
    int shuffle;
    if (!text || !state) return MO_E_INVALID;
    if (strlen(text) >= sizeof again) return MO_E_FORMAT;
    if (sscanf(text, "epoch=%llu position=%llu seed=%llu shuffle=%d", &epoch, &position, &seed,
            &shuffle) != 4)
        return MO_E_FORMAT;
    made.epoch = epoch;
    made.position = position;
    made.seed = seed;
    made.shuffle = shuffle;
    const mo_status status = mo_loader_format(&made, again, sizeof again);
    if (status != MO_OK || strcmp(text, again) != 0) return MO_E_FORMAT;
    *state = made;
    return MO_OK;
}
