/* mo_weight.c - see mo_weight.h. */

/* Bytes of each array, rounded up to a cache line, and how many scales there are. */
typedef struct moi_weight_sizes {
    size_t n, block, scales;
    size_t data, absmax, codes, absmax2, total;
} moi_weight_sizes;

static int moi_weight_is_4bit(const mo_weight *w) { return w->type >= MO_GEMM_NF4; }
static int moi_weight_is_nested(const mo_weight *w) { return moi_weight_is_4bit(w) && w->nested; }

static int moi_weight_bytes(size_t n, size_t width, size_t *bytes, size_t *total) {
    return moi_mul(n, width, bytes) && moi_align_up(*bytes, MOI_CACHE_LINE, bytes) &&
        moi_add(*total, *bytes, total);
}

/* 0 when something is wrong or does not fit. */
static int moi_weight_measure(const mo_weight *w, moi_weight_sizes *s) {
    static const size_t width[MO_GEMM_TYPE_COUNT] = {4, 2, 2, 1, 1, 1};
    memset(s, 0, sizeof *s);
    if (!w || (unsigned)w->type >= MO_GEMM_TYPE_COUNT || w->rows == 0 || w->columns == 0) return 0;
    if (!moi_mul(w->rows, w->columns, &s->n) || s->n > SIZE_MAX / 8) return 0;
    s->block = w->block == 0 ? 64 : w->block;
    if (w->type == MO_GEMM_INT8) s->scales = w->rows;
    if (moi_weight_is_4bit(w)) {
        if (!moi_is_pow2(s->block) || s->block < 32 || s->block > 4096) return 0;
        s->scales = moi_ceil_div(s->n, s->block);
    }
    const size_t stored = moi_weight_is_4bit(w) ? moi_ceil_div(s->n, 2) : s->n;
    const int nested = moi_weight_is_nested(w);
    return moi_weight_bytes(stored, width[w->type], &s->data, &s->total) &&
        moi_weight_bytes(nested ? 0 : s->scales, sizeof(float), &s->absmax, &s->total) &&
        moi_weight_bytes(nested ? s->scales : 0, 1, &s->codes, &s->total) &&
        moi_weight_bytes(nested ? moi_ceil_div(s->scales, moi_nested_block) : 0, sizeof(float),
            &s->absmax2, &s->total);
}

size_t mo_weight_size(const mo_weight *w) {
    moi_weight_sizes s;
    return moi_weight_measure(w, &s) ? s.total : 0;
}

size_t mo_weight_workspace_size(const mo_weight *w) {
    moi_weight_sizes s;
    size_t bytes = 0, total = 0;
    if (!moi_weight_measure(w, &s) || !moi_weight_is_nested(w)) return 0;
    return moi_weight_bytes(s.scales, sizeof(float), &bytes, &total) ? bytes : 0;
}

mo_status mo_weight_place(mo_weight *w, void *memory, size_t size) {
    moi_weight_sizes s;
    unsigned char *at = (unsigned char *)memory;
    if (!moi_weight_measure(w, &s) || !memory) return MO_E_INVALID;
    if (size < s.total) return MO_E_NO_SPACE;
    w->data = at;
    w->absmax = s.absmax ? (float *)(void *)(at + s.data) : NULL;
    w->codes = s.codes ? at + s.data + s.absmax : NULL;
    w->absmax2 = s.absmax2 ? (float *)(void *)(at + s.data + s.absmax + s.codes) : NULL;
    return MO_OK;
}

/* Whether everything is there that the type needs. */
static mo_status moi_weight_check(const mo_weight *w, moi_weight_sizes *s) {
    if (!moi_weight_measure(w, s) || !w->data) return MO_E_INVALID;
    if (moi_weight_is_nested(w)) return w->codes && w->absmax2 ? MO_OK : MO_E_INVALID;
    return s->scales == 0 || w->absmax ? MO_OK : MO_E_INVALID;
}

/* Scratch for nested scales. */
static mo_status moi_weight_scratch(
    const mo_weight *w, const void *workspace, size_t workspace_size) {
    const size_t bytes = mo_weight_workspace_size(w);
    if (bytes != 0 && !workspace) return MO_E_NO_SPACE;
    return workspace_size < bytes ? MO_E_NO_SPACE : MO_OK;
}

static mo_quant4_desc moi_weight_quant4(const mo_weight *w, const mo_parallel *parallel) {
    mo_quant4_desc d;
    d.map = w->type == MO_GEMM_FP4 ? MO_QUANT_FP4 : MO_QUANT_NF4;
    d.block = w->block;
    d.parallel = parallel;
    return d;
}

static mo_int8_desc moi_weight_int8(const mo_weight *w, size_t rows, const mo_parallel *parallel) {
    mo_int8_desc d;
    memset(&d, 0, sizeof d);
    d.rows = rows;
    d.columns = w->columns;
    d.parallel = parallel;
    return d;
}

/* Numbers first .. first + n - 1, which begin at a row (INT8) or a block (4 bits) and end at one or
 * at the end; absmax stands for w's. */
static mo_status moi_weight_encode_part(const mo_weight *w, float *absmax, size_t first, size_t n,
    const float *x, const mo_parallel *parallel) {
    if (moi_weight_is_4bit(w)) {
        const mo_quant4_desc d = moi_weight_quant4(w, parallel);
        const size_t block = w->block == 0 ? 64 : w->block;
        return mo_quant4_encode(&d, x, n, (uint8_t *)w->data + first / 2, absmax + first / block);
    }
    if (w->type == MO_GEMM_INT8) {
        const mo_int8_desc d = moi_weight_int8(w, n / w->columns, parallel);
        return mo_int8_encode(&d, x, (int8_t *)w->data + first, absmax + first / w->columns, NULL);
    }
    if (w->type == MO_GEMM_BF16) mo_f32_to_bf16(x, (uint16_t *)w->data + first, n, parallel);
    else if (w->type == MO_GEMM_F16) mo_f32_to_f16(x, (uint16_t *)w->data + first, n, parallel);
    else memcpy((float *)w->data + first, x, n * sizeof *x);
    return MO_OK;
}

mo_status mo_weight_encode(mo_weight *w, const float *x, void *workspace, size_t workspace_size,
    const mo_parallel *parallel) {
    moi_weight_sizes s;
    mo_status status = moi_weight_check(w, &s);
    if (status == MO_OK && !x) status = MO_E_INVALID;
    if (status == MO_OK) status = moi_weight_scratch(w, workspace, workspace_size);
    if (status != MO_OK) return status;
    const int nested = moi_weight_is_nested(w);
    float *absmax = nested ? (float *)workspace : w->absmax;
    status = moi_weight_encode_part(w, absmax, 0, s.n, x, parallel);
    if (status != MO_OK || !nested) return status;
    return mo_quant_nested_encode(absmax, s.scales, w->codes, w->absmax2, &w->offset);
}

/* 4-bit numbers by groups of 256 blocks, whose scales are decoded to the stack. */
static mo_status moi_weight_decode_nested(
    const mo_weight *w, size_t first, size_t n, float *x, const mo_parallel *parallel) {
    const mo_quant4_desc d = moi_weight_quant4(w, parallel);
    const size_t block = w->block == 0 ? 64 : w->block, group = moi_nested_block * block;
    const size_t end = first + n, scales = moi_ceil_div(w->rows * w->columns, block);
    float absmax[moi_nested_block];
    mo_status status = MO_OK;
    for (size_t at = first; at < end && status == MO_OK;) {
        const size_t g = at / group, part = moi_min(end, (g + 1) * group) - at;
        const size_t scale = g * moi_nested_block;
        status = mo_quant_nested_decode(w->codes + scale, w->absmax2 + g, w->offset,
            moi_min(moi_nested_block, scales - scale), absmax);
        if (status == MO_OK)
            status = mo_quant4_decode(&d, (const uint8_t *)w->data + g * group / 2, absmax,
                at - g * group, part, x + (at - first));
        at += part;
    }
    return status;
}

mo_status mo_weight_decode(
    const mo_weight *w, size_t first, size_t n, float *x, const mo_parallel *parallel) {
    moi_weight_sizes s;
    const mo_status status = moi_weight_check(w, &s);
    if (status != MO_OK) return status;
    if (!x || first > w->rows || n > w->rows - first) return MO_E_INVALID;
    const size_t at = first * w->columns, count = n * w->columns;
    if (n == 0) return MO_OK;
    if (moi_weight_is_nested(w)) return moi_weight_decode_nested(w, at, count, x, parallel);
    if (moi_weight_is_4bit(w)) {
        const mo_quant4_desc d = moi_weight_quant4(w, parallel);
        return mo_quant4_decode(&d, (const uint8_t *)w->data, w->absmax, at, count, x);
    }
    if (w->type == MO_GEMM_INT8) {
        const mo_int8_desc d = moi_weight_int8(w, n, parallel);
        return mo_int8_decode(&d, (const int8_t *)w->data + at, w->absmax + first, NULL, x);
    }
    if (w->type == MO_GEMM_BF16) mo_bf16_to_f32((const uint16_t *)w->data + at, x, count, parallel);
    else if (w->type == MO_GEMM_F16)
        mo_f16_to_f32((const uint16_t *)w->data + at, x, count, parallel);
    else memcpy(x, (const float *)w->data + at, count * sizeof *x);
    return MO_OK;
}

mo_status mo_weight_operand(
    const mo_weight *w, void *workspace, size_t workspace_size, mo_gemm_operand *operand) {
    moi_weight_sizes s;
    mo_status status = moi_weight_check(w, &s);
    if (status == MO_OK && !operand) status = MO_E_INVALID;
    if (status == MO_OK) status = moi_weight_scratch(w, workspace, workspace_size);
    if (status != MO_OK) return status;
    const int nested = moi_weight_is_nested(w);
    float *scales = (float *)workspace;
    if (nested) status = mo_quant_nested_decode(w->codes, w->absmax2, w->offset, s.scales, scales);
    if (status != MO_OK) return status;
    operand->type = w->type;
    operand->data = w->data;
    operand->absmax = nested ? scales : w->absmax;
    operand->block = w->block;
    return MO_OK;
}
