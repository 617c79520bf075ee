/* mo_stream.c - see mo_stream.h.
 *
 * Layers lie anywhere in the window, in a list that is sorted by offset: the first gap that is
 * large enough is taken, where the size classes of mo_suballoc would miss gaps that just fit.
 *
 * What comes is known, so eviction follows Belady 1966 (A study of replacement algorithms for a
 * virtual-storage computer): the layer goes that is needed last, and only for one that is needed
 * sooner. Reading far ahead undoes that (the farther, the more it is first in, first out), which is
 * why depth is small by default. */

enum { MOI_STREAM_ABSENT = 0, MOI_STREAM_READING, MOI_STREAM_READY };
/* Bytes that are read at once; those to decode should still be in a cache then. */
enum { MOI_STREAM_PIECE = 2 << 20, MOI_STREAM_DECODED_PIECE = 128 << 10, MOI_STREAM_CHUNK = 4096 };
static const size_t moi_stream_none = SIZE_MAX;

/* The share of one thread in the reading of a layer: every n_parts-th piece. */
typedef struct moi_stream_part {
    mo_queue_job job;
    struct moi_stream *stream;
    size_t layer, number;
    size_t tensor; /* that could not be read */
    uint64_t bytes;
    double seconds;
} moi_stream_part;

typedef struct moi_stream_slot { /* a layer */
    size_t size, first;          /* in the window; its first tensor among all */
    size_t off, above;           /* unless it is absent; the next layer above it */
    uint64_t next_use;           /* position in the whole sequence; UINT64_MAX = never */
    int state;
} moi_stream_slot;

struct moi_stream {
    mo_stream_desc desc; /* with all defaults replaced, but order */
    mo_queue own;
    size_t n_parts, n_tensors;
    moi_stream_slot *slots; /* [n_layers] */
    moi_stream_part *parts; /* [n_layers][n_parts] */
    void **data;            /* [n_tensors] */
    size_t *order, *again;  /* [n_order] layers; steps until the same one comes again */
    char *window;
    size_t lowest, current; /* layers, or none */
    uint64_t position, end;
    mo_stream_stats stats;
};

/* ---- sources ------------------------------------------------------------------------------- */

/* On other threads, so without a log. */
static mo_status moi_stream_read_input(const mo_input *in, uint64_t data_off, uint64_t data_size,
    uint64_t offset, void *dst, size_t size) {
    if (offset > data_size || size > data_size - offset) return MO_E_INVALID;
    return moi_input_read(in, NULL, data_off + offset, dst, size);
}

static mo_status moi_stream_read_safetensors(void *self, uint64_t offset, void *dst, size_t size) {
    const mo_safetensors *st = (const mo_safetensors *)self;
    return moi_stream_read_input(&st->input, st->data_off, st->data_size, offset, dst, size);
}

static mo_status moi_stream_read_gguf(void *self, uint64_t offset, void *dst, size_t size) {
    const mo_gguf *g = (const mo_gguf *)self;
    return moi_stream_read_input(&g->input, g->data_off, g->data_size, offset, dst, size);
}

static mo_status moi_stream_read_memory(void *self, uint64_t offset, void *dst, size_t size) {
    memcpy(dst, (const char *)self + (size_t)offset, size);
    return MO_OK;
}

static mo_stream_source moi_stream_source_of(
    mo_status (*read)(void *, uint64_t, void *, size_t), const void *self, const char *name) {
    mo_stream_source source;
    source.read = read;
    source.self = (void *)(uintptr_t)self;
    source.name = name;
    return source;
}

mo_stream_source mo_stream_safetensors(const mo_safetensors *st) {
    return moi_stream_source_of(moi_stream_read_safetensors, st, st->input.path);
}
mo_stream_source mo_stream_gguf(const mo_gguf *g) {
    return moi_stream_source_of(moi_stream_read_gguf, g, g->input.path);
}
mo_stream_source mo_stream_memory(const void *base) {
    return moi_stream_source_of(moi_stream_read_memory, base, NULL);
}

static mo_stream_tensor moi_stream_tensor_at(
    mo_stream_source source, const char *name, uint64_t begin, uint64_t end) {
    mo_stream_tensor tensor;
    memset(&tensor, 0, sizeof tensor);
    tensor.source = source;
    tensor.offset = begin;
    tensor.bytes = (size_t)(end - begin);
    tensor.name = name;
    return tensor;
}

mo_stream_tensor mo_stream_tensor_of(mo_stream_source source, const mo_safetensors_entry *entry) {
    if (!entry) return moi_stream_tensor_at(source, NULL, 0, 0);
    return moi_stream_tensor_at(source, entry->name, entry->begin, entry->end);
}

mo_stream_tensor mo_stream_gguf_tensor(mo_stream_source source, const mo_gguf_entry *entry) {
    if (!entry) return moi_stream_tensor_at(source, NULL, 0, 0);
    return moi_stream_tensor_at(source, entry->name, entry->begin, entry->end);
}

/* ---- reading, on a thread of the queue ----------------------------------------------------- */

static mo_half_format moi_stream_format(mo_stream_decode decode) {
    return (mo_half_format)((int)decode - (int)MO_STREAM_F16 + (int)MO_HALF_F16);
}

/* How many bytes one byte of the source becomes. */
static size_t moi_stream_growth(const mo_stream_tensor *t) {
    if (t->decode == MO_STREAM_RAW) return 1;
    return sizeof(float) / mo_half_bytes(moi_stream_format(t->decode));
}

/* The bytes are read to the end of the room that they become, and decoded from its front on: a
 * chunk is copied out before anything can overwrite it, since what it becomes ends where the rest
 * begins, or before. */
static mo_status moi_stream_decode(
    const mo_stream_tensor *t, const char *raw, size_t size, char *out) {
    const size_t growth = moi_stream_growth(t);
    mo_half_desc half;
    uint16_t chunk[MOI_STREAM_CHUNK / sizeof(uint16_t)];
    mo_status status = MO_OK;
    memset(&half, 0, sizeof half);
    half.format = moi_stream_format(t->decode);
    half.parallel = &moi_serial;
    for (size_t done = 0, n; done < size && status == MO_OK; done += n) {
        n = moi_min(sizeof chunk, size - done);
        memcpy(chunk, raw + done, n);
        float *to = (float *)(void *)(out + done * growth);
        status = mo_half_decode(&half, chunk, n / mo_half_bytes(half.format), to);
    }
    return status;
}

static mo_status moi_stream_read_piece(
    const mo_stream_tensor *t, size_t offset, size_t size, char *out) {
    const size_t growth = moi_stream_growth(t);
    char *dst = out + offset * growth, *raw = dst + size * (growth - 1);
    mo_status status = t->source.read(t->source.self, t->offset + offset, raw, size);
    if (status == MO_OK && growth > 1) status = moi_stream_decode(t, raw, size, dst);
    return status;
}

/* A tensor's pieces, of which this part's are counted from *piece on. */
static mo_status moi_stream_read_tensor(
    moi_stream_part *p, const mo_stream_tensor *t, char *out, size_t *piece) {
    const size_t most = t->decode == MO_STREAM_RAW ? MOI_STREAM_PIECE : MOI_STREAM_DECODED_PIECE;
    mo_status status = MO_OK;
    for (size_t offset = 0, size; offset < t->bytes && status == MO_OK; offset += size) {
        size = moi_min(most, t->bytes - offset);
        if ((*piece)++ % p->stream->n_parts != p->number) continue;
        status = moi_stream_read_piece(t, offset, size, out);
        p->bytes += size;
    }
    return status;
}

static mo_status moi_stream_run(void *self) {
    moi_stream_part *p = (moi_stream_part *)self;
    const struct moi_stream *s = p->stream;
    const mo_stream_layer *layer = &s->desc.layers[p->layer];
    const moi_stream_slot *slot = &s->slots[p->layer];
    const double begin_s = moi_os_now_s();
    mo_status status = MO_OK;
    size_t piece = 0;
    p->bytes = 0;
    for (size_t i = 0; i < layer->n_tensors && status == MO_OK; i++) {
        p->tensor = i;
        char *out = (char *)s->data[slot->first + i];
        status = moi_stream_read_tensor(p, &layer->tensors[i], out, &piece);
    }
    p->seconds = moi_os_now_s() - begin_s;
    return status;
}

/* ---- the window ---------------------------------------------------------------------------- */

static moi_stream_part *moi_stream_parts(struct moi_stream *s, size_t layer) {
    return &s->parts[layer * s->n_parts];
}

static void moi_stream_fail(
    const struct moi_stream *s, const moi_stream_part *p, mo_status status) {
    const mo_stream_tensor *t = &s->desc.layers[p->layer].tensors[p->tensor];
    char file[300], name[200];
    const char *path = t->source.name ? t->source.name : "stream", *text = t->name ? t->name : "";
    moi_printable(path, strlen(path), file, sizeof file);
    moi_printable(text, strlen(text), name, sizeof name);
    moi_log(&s->desc.log, MO_LOG_ERROR,
        "%s: tensor '%s' (%llu of layer %llu), %llu bytes at %llu, cannot be read: %s", file, name,
        (unsigned long long)p->tensor, (unsigned long long)p->layer, (unsigned long long)t->bytes,
        (unsigned long long)t->offset, mo_status_text(status));
}

/* Until the layer is there, or its reading has failed. */
static mo_status moi_stream_wait(struct moi_stream *s, size_t layer) {
    moi_stream_part *parts = moi_stream_parts(s, layer);
    const moi_stream_part *failed = NULL;
    mo_status status = MO_OK;
    for (size_t i = 0; i < s->n_parts; i++) {
        const mo_status result = mo_queue_wait(s->desc.queue, &parts[i].job);
        s->stats.read_bytes += parts[i].bytes;
        s->stats.read_s += parts[i].seconds;
        if (result == MO_OK || failed) continue;
        failed = &parts[i];
        status = result;
    }
    if (failed) moi_stream_fail(s, failed, status);
    s->slots[layer].state = MOI_STREAM_READY;
    return status;
}

static void moi_stream_evict(struct moi_stream *s, size_t layer) {
    moi_stream_slot *slot = &s->slots[layer];
    size_t *link = &s->lowest;
    if (slot->state == MOI_STREAM_READING) (void)moi_stream_wait(s, layer); /* after a restart */
    while (*link != layer) link = &s->slots[*link].above;
    *link = slot->above;
    slot->state = MOI_STREAM_ABSENT;
    s->stats.resident_bytes -= slot->size;
}

/* Into the first gap that is large enough; 0 = there is none. */
static int moi_stream_place(struct moi_stream *s, size_t layer) {
    moi_stream_slot *slot = &s->slots[layer];
    size_t *link = &s->lowest, at = 0;
    for (; *link != moi_stream_none; link = &s->slots[*link].above) {
        const moi_stream_slot *next = &s->slots[*link];
        if (next->off - at >= slot->size) break;
        at = next->off + next->size;
    }
    if (*link == moi_stream_none && s->stats.window_bytes - at < slot->size) return 0;
    slot->off = at;
    slot->above = *link;
    *link = layer;
    s->stats.resident_bytes += slot->size;
    s->stats.peak_bytes = moi_max(s->stats.peak_bytes, s->stats.resident_bytes);
    return 1;
}

/* The resident layer that is needed last, and after position; none when there is none. */
static size_t moi_stream_victim(const struct moi_stream *s, uint64_t position) {
    size_t victim = moi_stream_none;
    for (size_t i = s->lowest; i != moi_stream_none; i = s->slots[i].above) {
        if (s->slots[i].next_use <= position) continue;
        if (victim == moi_stream_none || s->slots[i].next_use > s->slots[victim].next_use)
            victim = i;
    }
    return victim;
}

static void moi_stream_start(struct moi_stream *s, size_t layer) {
    moi_stream_slot *slot = &s->slots[layer];
    const mo_stream_layer *desc = &s->desc.layers[layer];
    char *at = s->window + slot->off;
    for (size_t i = 0; i < desc->n_tensors; i++) {
        const mo_stream_tensor *t = &desc->tensors[i];
        size_t size = t->bytes * moi_stream_growth(t);
        s->data[slot->first + i] = at;
        (void)moi_align_up(size, MOI_CACHE_LINE, &size); /* its sum has been checked */
        at += size;
    }
    slot->state = MOI_STREAM_READING;
    s->stats.n_reads++;
    for (size_t i = 0; i < s->n_parts; i++)
        mo_queue_submit(s->desc.queue, &moi_stream_parts(s, layer)[i].job);
}

/* Have the layer read that is needed at position, unless it is there; 0 = there is no room now. */
static int moi_stream_fetch(struct moi_stream *s, uint64_t position) {
    const size_t layer = s->order[position % s->desc.n_order];
    if (s->slots[layer].state != MOI_STREAM_ABSENT) return 1;
    while (!moi_stream_place(s, layer)) {
        const size_t victim = moi_stream_victim(s, position);
        if (victim == moi_stream_none) return 0;
        moi_stream_evict(s, victim);
    }
    moi_stream_start(s, layer);
    return 1;
}

/* ---- the order ----------------------------------------------------------------------------- */

static size_t moi_stream_ordered(const mo_stream_desc *desc, size_t step) {
    const size_t n = desc->n_layers;
    if (desc->order) return desc->order[step];
    if (desc->direction == MO_STREAM_FORWARD) return step;
    if (desc->direction == MO_STREAM_BACKWARD) return n - 1 - step;
    return step < n ? step : 2 * n - 1 - step;
}

/* Going through the order twice from its end, the layers' next uses are those of the pass after;
 * what they are at the begin is left in them. */
static void moi_stream_find_uses(struct moi_stream *s) {
    const size_t n = s->desc.n_order;
    for (size_t i = 0; i < s->desc.n_layers; i++) s->slots[i].next_use = UINT64_MAX;
    for (int pass = 1; pass >= 0; pass--)
        for (size_t step = n; step-- > 0;) {
            moi_stream_slot *slot = &s->slots[s->order[step]];
            const uint64_t at = (uint64_t)step + (pass ? n : 0);
            s->again[step] = (size_t)(slot->next_use - at);
            slot->next_use = at;
        }
}

/* The current layer has been used; it stays for as long as nothing needs its room. */
static void moi_stream_pass(struct moi_stream *s) {
    if (s->current == moi_stream_none) return;
    s->slots[s->current].next_use = s->position + s->again[s->position % s->desc.n_order];
    s->position++;
    s->current = moi_stream_none;
}

/* ---- init ---------------------------------------------------------------------------------- */

/* Bytes of a layer in the window. */
static mo_status moi_stream_measure(const mo_stream_layer *layer, size_t *bytes) {
    size_t sum = 0;
    if (!layer->tensors && layer->n_tensors > 0) return MO_E_INVALID;
    for (size_t i = 0; i < layer->n_tensors; i++) {
        const mo_stream_tensor *t = &layer->tensors[i];
        size_t size;
        if ((unsigned)t->decode >= MO_STREAM_DECODE_COUNT) return MO_E_INVALID;
        if (!t->source.read && t->bytes > 0) return MO_E_INVALID;
        if (t->bytes * moi_stream_growth(t) % (t->decode ? sizeof(float) : 1)) return MO_E_INVALID;
        if (t->offset > UINT64_MAX - t->bytes) return MO_E_OVERFLOW;
        if (!moi_mul(t->bytes, moi_stream_growth(t), &size) ||
            !moi_align_up(size, MOI_CACHE_LINE, &size) || !moi_add(sum, size, &sum))
            return MO_E_OVERFLOW;
    }
    *bytes = sum;
    return MO_OK;
}

static mo_status moi_stream_check(const mo_stream_desc *desc) {
    if (!desc || !desc->layers || desc->n_layers == 0) return MO_E_INVALID;
    if ((unsigned)desc->direction > MO_STREAM_BOTH) return MO_E_INVALID;
    if ((desc->order == NULL) != (desc->n_order == 0)) return MO_E_INVALID;
    for (size_t i = 0; i < desc->n_order; i++)
        if (desc->order[i] >= desc->n_layers) return MO_E_INVALID;
    return MO_OK;
}

/* The size of the window: no more than all layers together. */
static mo_status moi_stream_size_window(struct moi_stream *s) {
    size_t largest = 0, number = 0, all = 0, limit = s->desc.limit_bytes;
    for (size_t i = 0; i < s->desc.n_layers; i++) {
        const size_t size = s->slots[i].size;
        if (size > largest) largest = size, number = i;
        if (!moi_add(all, size, &all)) all = SIZE_MAX;
    }
    if (limit == 0 && !moi_mul(largest, 1 + s->desc.depth, &limit)) return MO_E_OVERFLOW;
    s->desc.limit_bytes = limit;
    s->stats.window_bytes = moi_min(limit, all);
    if (largest <= limit) return MO_OK;
    moi_log(&s->desc.log, MO_LOG_ERROR,
        "stream: layer %llu takes %llu bytes, but limit_bytes is %llu", (unsigned long long)number,
        (unsigned long long)largest, (unsigned long long)limit);
    return MO_E_NO_SPACE;
}

static mo_status moi_stream_size_layers(struct moi_stream *s) {
    for (size_t i = 0; i < s->desc.n_layers; i++) {
        const mo_status status = moi_stream_measure(&s->desc.layers[i], &s->slots[i].size);
        if (status != MO_OK) return status;
        s->slots[i].first = s->n_tensors;
        s->n_tensors += s->desc.layers[i].n_tensors;
    }
    return moi_stream_size_window(s);
}

static mo_status moi_stream_open_queue(struct moi_stream *s) {
    if (!s->desc.queue) {
        mo_queue_desc desc;
        desc.allocator = s->desc.allocator;
        desc.n_threads = s->desc.n_threads;
        const mo_status status = mo_queue_init(&s->own, &desc);
        if (status != MO_OK) return status;
        s->desc.queue = &s->own;
    }
    s->desc.n_threads = mo_queue_threads(s->desc.queue);
    s->n_parts = moi_max(s->desc.n_threads, 1);
    return MO_OK;
}

static void *moi_stream_alloc(const struct moi_stream *s, size_t n, size_t size) {
    void *array = moi_alloc_array(&s->desc.allocator, n, size);
    if (array) memset(array, 0, n * size);
    return array;
}

/* What is counted by the layers and the steps of the order. */
static mo_status moi_stream_alloc_lists(struct moi_stream *s) {
    const mo_stream_desc *desc = &s->desc;
    size_t n_parts;
    if (!moi_mul(desc->n_layers, s->n_parts, &n_parts)) return MO_E_OVERFLOW;
    s->slots = (moi_stream_slot *)moi_stream_alloc(s, desc->n_layers, sizeof *s->slots);
    s->parts = (moi_stream_part *)moi_stream_alloc(s, n_parts, sizeof *s->parts);
    s->order = (size_t *)moi_stream_alloc(s, desc->n_order, sizeof *s->order);
    s->again = (size_t *)moi_stream_alloc(s, desc->n_order, sizeof *s->again);
    return s->slots && s->parts && s->order && s->again ? MO_OK : MO_E_NO_MEMORY;
}

static mo_status moi_stream_alloc_window(struct moi_stream *s) {
    const size_t size = s->stats.window_bytes;
    if (s->n_tensors > 0) s->data = (void **)moi_stream_alloc(s, s->n_tensors, sizeof *s->data);
    if (size > 0) s->window = (char *)mo_alloc(&s->desc.allocator, size, MOI_CACHE_LINE);
    return (s->data || s->n_tensors == 0) && (s->window || size == 0) ? MO_OK : MO_E_NO_MEMORY;
}

static void moi_stream_link_parts(struct moi_stream *s) {
    for (size_t layer = 0; layer < s->desc.n_layers; layer++)
        for (size_t i = 0; i < s->n_parts; i++) {
            moi_stream_part *p = &moi_stream_parts(s, layer)[i];
            p->job.run = moi_stream_run;
            p->job.self = p;
            p->stream = s;
            p->layer = layer;
            p->number = i;
        }
}

static mo_status moi_stream_build(struct moi_stream *s) {
    mo_status status = moi_stream_open_queue(s);
    if (status == MO_OK) status = moi_stream_alloc_lists(s);
    if (status == MO_OK) status = moi_stream_size_layers(s);
    if (status == MO_OK) status = moi_stream_alloc_window(s);
    if (status != MO_OK) return status;
    for (size_t i = 0; i < s->desc.n_order; i++) s->order[i] = moi_stream_ordered(&s->desc, i);
    moi_stream_find_uses(s);
    moi_stream_link_parts(s);
    return MO_OK;
}

static void moi_stream_begin(struct moi_stream *s, const mo_stream_desc *desc) {
    memset(s, 0, sizeof *s);
    s->desc = *desc;
    if (s->desc.depth == 0) s->desc.depth = 2;
    if (s->desc.n_passes == 0) s->desc.n_passes = 1;
    if (!desc->order)
        s->desc.n_order = desc->direction == MO_STREAM_BOTH ? 2 * desc->n_layers : desc->n_layers;
    s->lowest = s->current = moi_stream_none;
    s->end = UINT64_MAX;
    if (s->desc.n_passes < UINT64_MAX / s->desc.n_order)
        s->end = s->desc.n_passes * s->desc.n_order;
}

mo_status mo_stream_init(mo_stream *stream, const mo_stream_desc *desc) {
    mo_stream made;
    mo_status status = stream ? moi_stream_check(desc) : MO_E_INVALID;
    if (status != MO_OK) return status;
    made.impl = (struct moi_stream *)mo_alloc(&desc->allocator, sizeof *made.impl, MOI_CACHE_LINE);
    if (!made.impl) return MO_E_NO_MEMORY;
    moi_stream_begin(made.impl, desc);
    status = moi_stream_build(made.impl);
    if (status == MO_OK) *stream = made;
    else mo_stream_free(&made);
    return status;
}

void mo_stream_free(mo_stream *stream) {
    struct moi_stream *s = stream ? stream->impl : NULL;
    if (!s) return;
    const mo_allocator a = s->desc.allocator;
    for (size_t i = s->lowest; i != moi_stream_none; i = s->slots[i].above)
        if (s->slots[i].state == MOI_STREAM_READING) (void)moi_stream_wait(s, i);
    mo_queue_free(&s->own);
    mo_free(&a, s->window, s->stats.window_bytes, MOI_CACHE_LINE);
    moi_free_array(&a, s->data, s->n_tensors, sizeof *s->data);
    moi_free_array(&a, s->again, s->desc.n_order, sizeof *s->again);
    moi_free_array(&a, s->order, s->desc.n_order, sizeof *s->order);
    moi_free_array(&a, s->parts, s->desc.n_layers * s->n_parts, sizeof *s->parts);
    moi_free_array(&a, s->slots, s->desc.n_layers, sizeof *s->slots);
    mo_free(&a, s, sizeof *s, MOI_CACHE_LINE);
    stream->impl = NULL;
}

/* ---- use ----------------------------------------------------------------------------------- */

/* Ahead first, so that the thread goes on with the next while the caller waits for this one. */
static void moi_stream_read_ahead(struct moi_stream *s) {
    for (size_t ahead = 0; ahead <= s->desc.depth && ahead < s->end - s->position; ahead++)
        if (!moi_stream_fetch(s, s->position + ahead)) return;
}

static int moi_stream_is_there(struct moi_stream *s, size_t layer) {
    if (s->slots[layer].state == MOI_STREAM_READY) return 1;
    for (size_t i = 0; i < s->n_parts; i++)
        if (!mo_queue_is_done(s->desc.queue, &moi_stream_parts(s, layer)[i].job)) return 0;
    return 1;
}

/* Without threads all reading is done here, and is counted as waiting. */
static mo_status moi_stream_receive(struct moi_stream *s, size_t layer) {
    const double begin_s = moi_os_now_s();
    const uint64_t n_reads = s->stats.n_reads;
    moi_stream_read_ahead(s);
    int is_stall = !moi_stream_is_there(s, layer);
    mo_status status = MO_OK;
    if (s->slots[layer].state == MOI_STREAM_READING) status = moi_stream_wait(s, layer);
    if (status != MO_OK) moi_stream_evict(s, layer);
    if (s->desc.n_threads == 0) is_stall = s->stats.n_reads > n_reads;
    if (!is_stall) return status;
    s->stats.n_stalls++;
    s->stats.stall_s += moi_os_now_s() - begin_s;
    return status;
}

mo_status mo_stream_next(mo_stream *stream, mo_stream_layer_view *view) {
    struct moi_stream *s = stream->impl;
    mo_stream_layer_view made;
    memset(&made, 0, sizeof made);
    moi_stream_pass(s);
    made.is_end = s->position >= s->end;
    if (!made.is_end) {
        made.step = (size_t)(s->position % s->desc.n_order);
        made.pass = s->position / s->desc.n_order;
        made.index = s->order[made.step];
        const mo_status status = moi_stream_receive(s, made.index);
        if (status != MO_OK) return status;
        if (s->data) made.data = (const void *const *)(s->data + s->slots[made.index].first);
        s->current = made.index;
        s->stats.n_layers++;
    }
    *view = made;
    return MO_OK;
}

void mo_stream_restart(mo_stream *stream) {
    stream->impl->position = 0;
    stream->impl->current = moi_stream_none;
    moi_stream_find_uses(stream->impl);
}

mo_stream_stats mo_stream_get_stats(const mo_stream *stream) { return stream->impl->stats; }
