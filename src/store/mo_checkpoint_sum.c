/* mo_checkpoint_sum.c - the checksum of a checkpoint.
 *
 * Four lanes of rotate, xor, multiply: each step is a bijection of the word and of the lane, so
 * that one changed word always changes the sum. It is there for disks, not against forgery. */

enum { MOI_CK_STRIPE = 32, MOI_CK_PIECE = 1 << 16 };
static const uint64_t moi_ck_prime = UINT64_C(0x9e3779b97f4a7c15);

static uint64_t moi_ck_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Little-endian; compilers make one load of it. */
static uint64_t moi_ck_word(const unsigned char *p) {
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
        (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

static uint64_t moi_ck_round(uint64_t lane, uint64_t word) {
    return ((lane << 27 | lane >> 37) ^ word) * moi_ck_prime;
}

static void moi_ck_hash_begin(moi_ck_hash *h, uint64_t seed) {
    for (int i = 0; i < 4; i++) h->lanes[i] = moi_ck_mix(seed + (uint64_t)i + 1);
    h->size = 0;
}

static void moi_ck_stripes(moi_ck_hash *h, const unsigned char *p, size_t n) {
    uint64_t a = h->lanes[0], b = h->lanes[1], c = h->lanes[2], d = h->lanes[3];
    for (; n > 0; n--, p += MOI_CK_STRIPE) {
        a = moi_ck_round(a, moi_ck_word(p));
        b = moi_ck_round(b, moi_ck_word(p + 8));
        c = moi_ck_round(c, moi_ck_word(p + 16));
        d = moi_ck_round(d, moi_ck_word(p + 24));
    }
    h->lanes[0] = a, h->lanes[1] = b, h->lanes[2] = c, h->lanes[3] = d;
}

static void moi_ck_hash_add(moi_ck_hash *h, const void *data, size_t size) {
    const unsigned char *p = (const unsigned char *)data;
    unsigned char last[MOI_CK_STRIPE];
    const size_t whole = size / MOI_CK_STRIPE, rest = size % MOI_CK_STRIPE;
    h->size += size;
    moi_ck_stripes(h, p, whole);
    if (rest == 0) return;
    memset(last, 0, sizeof last);
    memcpy(last, p + whole * MOI_CK_STRIPE, rest);
    moi_ck_stripes(h, last, 1);
}

static uint64_t moi_ck_hash_end(const moi_ck_hash *h) {
    uint64_t x = h->size;
    for (int i = 0; i < 4; i++) x = moi_ck_mix(x ^ h->lanes[i]);
    return x;
}

static uint64_t moi_ck_text_hash(uint64_t seed, const char *text) {
    moi_ck_hash h;
    moi_ck_hash_begin(&h, seed);
    moi_ck_hash_add(&h, text, strlen(text));
    return moi_ck_hash_end(&h);
}

static uint64_t moi_ck_entry_seed(const mo_safetensors_entry *entry) {
    uint64_t x = moi_ck_text_hash(0, entry->name);
    x = moi_ck_text_hash(x, mo_dtype_name(entry->dtype));
    for (size_t i = 0; i < entry->n_dims; i++) x = moi_ck_mix(x ^ entry->shape[i]) + moi_ck_prime;
    return x;
}

static uint64_t moi_ck_pair_hash(const mo_safetensors_pair *pair) {
    return moi_ck_text_hash(moi_ck_text_hash(1, pair->key), pair->value);
}

static mo_status moi_ck_sum_tensor(
    const mo_safetensors *st, const mo_safetensors_entry *e, unsigned char *buffer, uint64_t *sum) {
    moi_ck_hash h;
    const uint64_t size = e->end - e->begin;
    moi_ck_hash_begin(&h, moi_ck_entry_seed(e));
    for (uint64_t at = 0; at < size; at += MOI_CK_PIECE) {
        const size_t n = size - at < MOI_CK_PIECE ? (size_t)(size - at) : (size_t)MOI_CK_PIECE;
        const mo_status status = mo_safetensors_read(st, e, at, buffer, n);
        if (status != MO_OK) return status;
        moi_ck_hash_add(&h, buffer, n);
    }
    *sum += moi_ck_hash_end(&h);
    return MO_OK;
}

static mo_status moi_ck_sum_file(const mo_safetensors *st, const mo_safetensors_entry *without,
    unsigned char *buffer, uint64_t *sum) {
    mo_status status = MO_OK;
    *sum = 0;
    for (size_t i = 0; i < st->n_metadata; i++) *sum += moi_ck_pair_hash(&st->metadata[i]);
    for (size_t i = 0; i < st->n && status == MO_OK; i++)
        if (&st->entries[i] != without)
            status = moi_ck_sum_tensor(st, &st->entries[i], buffer, sum);
    return status;
}

static mo_status moi_ck_sum_check(const mo_safetensors *st, const mo_allocator *allocator) {
    unsigned char stored[8];
    uint64_t sum = 0;
    const mo_safetensors_entry *e = mo_safetensors_find(st, moi_ck_sum_name);
    if (!e) return MO_OK;
    if (e->end - e->begin != sizeof stored)
        return moi_file_fail(&st->log, st->input.path, MO_E_FORMAT, "tensor '%s' has not %d bytes",
            moi_ck_sum_name, (int)sizeof stored);
    unsigned char *buffer = (unsigned char *)moi_alloc_array(allocator, MOI_CK_PIECE, 1);
    if (!buffer)
        return moi_file_fail(&st->log, st->input.path, MO_E_NO_MEMORY, "out of memory for %d bytes",
            (int)MOI_CK_PIECE);
    mo_status status = mo_safetensors_read(st, e, 0, stored, sizeof stored);
    if (status == MO_OK) status = moi_ck_sum_file(st, e, buffer, &sum);
    moi_free_array(allocator, buffer, MOI_CK_PIECE, 1);
    if (status == MO_OK && sum != moi_ck_word(stored))
        return moi_file_fail(&st->log, st->input.path, MO_E_FORMAT,
            "the file is damaged: its checksum is %016llx, not %016llx", (unsigned long long)sum,
            (unsigned long long)moi_ck_word(stored));
    return status;
}
