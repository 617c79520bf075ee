/* mo_active.c - see mo_active.h. A turn has no memory: the order of a round is that of hashes. */

mo_active_desc mo_active_desc_defaults(const mo_active_desc *desc) {
    mo_active_desc d = *desc;
    if (d.n_active == 0) d.n_active = 1;
    if (d.period == 0) d.period = 100;
    return d;
}

static int moi_active_valid(const mo_active_desc *d) {
    if ((unsigned)d->order >= MO_ACTIVE_ORDER_COUNT || d->n_blocks == 0 ||
        d->n_active > d->n_blocks)
        return 0;
    return d->n_tensors == 0 || (d->optim && d->n && d->block);
}

mo_active_turn mo_active_at(const mo_active_desc *desc, uint64_t t) {
    const mo_active_desc d = mo_active_desc_defaults(desc);
    mo_active_turn turn = {0, 0};
    if (t == 0) return turn;
    turn.number = (t - 1) / d.period;
    turn.t = (t - 1) % d.period + 1;
    return turn;
}

static uint32_t moi_active_hash(const mo_active_desc *d, uint64_t round, size_t block) {
    const uint64_t seed = d->seed + round * 0x9e3779b97f4a7c15u;
    return moi_random_mix((uint32_t)block ^ moi_random_key(seed, (uint64_t)block >> 32));
}

/* The place of a block in the order of a round. */
static size_t moi_active_place(const mo_active_desc *d, uint64_t round, size_t block) {
    const uint32_t own = moi_active_hash(d, round, block);
    size_t place = 0;
    for (size_t i = 0; i < d->n_blocks; i++) {
        const uint32_t other = moi_active_hash(d, round, i);
        place += other < own || (other == own && i < block);
    }
    return place;
}

/* Whether place, of those in a round, has its turn: places first..first + n_active - 1. The last
 * turn of a round is filled up from the round's start. */
static int moi_active_is_in(const mo_active_desc *d, size_t first, size_t place) {
    const size_t behind = place >= first ? place - first : d->n_blocks - first + place;
    return behind < d->n_active;
}

int mo_active_has(const mo_active_desc *desc, uint64_t t, size_t block) {
    if (!desc || t == 0) return 0;
    const mo_active_desc d = mo_active_desc_defaults(desc);
    if (!moi_active_valid(&d)) return 0;
    if (block == SIZE_MAX) return 1;
    if (block >= d.n_blocks) return 0;
    const uint64_t number = mo_active_at(&d, t).number;
    const uint64_t turns = moi_ceil_div(d.n_blocks, d.n_active); /* of a round */
    const size_t first = (size_t)(number % turns) * d.n_active;
    if (d.order == MO_ACTIVE_CYCLE) return moi_active_is_in(&d, first, block);
    if (d.order == MO_ACTIVE_DRAW) return moi_active_place(&d, number, block) < d.n_active;
    return moi_active_is_in(&d, first, moi_active_place(&d, number / turns, block));
}

/* ---- where states lie ------------------------------------------------------------------------ */

/* Bytes of a tensor's states in whole cache lines; 0: it does not fit. */
static size_t moi_active_bytes(const mo_active_desc *d, size_t tensor) {
    const size_t size = mo_optim_state_size(&d->optim[tensor], d->n[tensor]);
    size_t bytes = 0;
    return moi_align_up(size, MOI_CACHE_LINE, &bytes) ? bytes : 0;
}

static mo_status moi_active_check(const mo_active_desc *d) {
    if (!moi_active_valid(d)) return MO_E_INVALID;
    for (size_t i = 0; i < d->n_tensors; i++) {
        if (d->block[i] >= d->n_blocks && d->block[i] != SIZE_MAX) return MO_E_INVALID;
        if (d->n[i] != 0 && moi_active_bytes(d, i) == 0) return MO_E_INVALID;
    }
    return MO_OK;
}

/* The sum over the tensors of a block; *fits = 0: more than a size_t. */
static size_t moi_active_block_bytes(const mo_active_desc *d, size_t block, int *fits) {
    size_t sum = 0;
    for (size_t i = 0; i < d->n_tensors; i++)
        if (d->block[i] == block && !moi_add(sum, moi_active_bytes(d, i), &sum)) *fits = 0;
    return sum;
}

/* Adds the n_active largest blocks to *size, from the largest size down, without a list of them. */
static int moi_active_largest(const mo_active_desc *d, size_t *size) {
    size_t most = SIZE_MAX, taken = 0, sum = *size;
    int fits = 1;
    while (taken < d->n_active) {
        size_t next = 0, count = 0;
        for (size_t b = 0; b < d->n_blocks; b++) {
            const size_t bytes = moi_active_block_bytes(d, b, &fits);
            if (bytes >= most || bytes < next) continue;
            count = bytes > next ? 1 : count + 1;
            next = bytes;
        }
        if (next == 0) break;
        for (; count > 0 && taken < d->n_active; count--, taken++)
            if (!moi_add(sum, next, &sum)) return 0;
        most = next;
    }
    *size = sum;
    return fits;
}

size_t mo_active_state_size(const mo_active_desc *desc) {
    if (!desc) return 0;
    const mo_active_desc d = mo_active_desc_defaults(desc);
    if (moi_active_check(&d) != MO_OK) return 0;
    int fits = 1;
    size_t size = moi_active_block_bytes(&d, SIZE_MAX, &fits);
    return fits && moi_active_largest(&d, &size) ? size : 0;
}

/* Tensors of the turn whose being always there is as given, from *at on. */
static mo_status moi_active_place_all(
    const mo_active_desc *d, uint64_t t, int always, size_t *at, size_t *offsets) {
    for (size_t i = 0; i < d->n_tensors; i++) {
        if ((d->block[i] == SIZE_MAX) != always || !mo_active_has(d, t, d->block[i])) continue;
        if (offsets) offsets[i] = *at;
        if (!moi_add(*at, moi_active_bytes(d, i), at)) return MO_E_OVERFLOW;
    }
    return MO_OK;
}

mo_status mo_active_offsets(const mo_active_desc *desc, uint64_t t, size_t *offsets) {
    if (!desc || !offsets || t == 0) return MO_E_INVALID;
    const mo_active_desc d = mo_active_desc_defaults(desc);
    mo_status status = moi_active_check(&d);
    size_t at = 0;
    if (status == MO_OK) status = moi_active_place_all(&d, t, 1, &at, NULL);
    if (status == MO_OK) status = moi_active_place_all(&d, t, 0, &at, NULL);
    if (status != MO_OK) return status;
    for (size_t i = 0; i < d.n_tensors; i++) offsets[i] = SIZE_MAX;
    at = 0;
    status = moi_active_place_all(&d, t, 1, &at, offsets);
    return status == MO_OK ? moi_active_place_all(&d, t, 0, &at, offsets) : status;
}
