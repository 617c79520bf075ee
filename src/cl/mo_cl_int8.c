/* mo_cl_int8.c - see mo_cl_int8.h. Outliers are counted by row on the device; the host sums the
 * counts up to the place where each row's part of the list begins. */

/* A matrix, and how rows are shared out among groups. */
typedef struct moi_cl_int8_shape {
    uint64_t rows, columns, n;
    uint32_t limit, rows_each;
    uint64_t groups; /* of rows */
} moi_cl_int8_shape;

static mo_status moi_cl_int8_begin(
    const mo_cl *cl, const mo_int8_desc *desc, moi_cl_int8_shape *s) {
    const uint64_t most = 0xffffffffu;
    size_t n;
    memset(s, 0, sizeof *s);
    if (!cl || !cl->context || !desc || desc->rows > most || desc->columns > most ||
        !(desc->threshold >= 0.0f) || !moi_mul(desc->rows, desc->columns, &n) ||
        n > SIZE_MAX / sizeof(float))
        return MO_E_INVALID;
    s->rows = desc->rows;
    s->columns = desc->columns;
    s->n = n;
    /* -0 is 0; without a threshold no bits reach the limit */
    s->limit = desc->threshold > 0.0f ? moi_float_bits(desc->threshold) : 0x7fffffffu;
    s->rows_each = 1;
    if (cl->work_group == 1 && s->columns > 0 && s->columns < 16384)
        s->rows_each = (uint32_t)(16384 / s->columns);
    s->groups = s->rows / s->rows_each + (s->rows % s->rows_each != 0);
    return MO_OK;
}

/* ---- outliers ------------------------------------------------------------------------------ */

/* Whether the list has room for n; an empty one may be {0}. */
static int moi_cl_int8_list_holds(const mo_cl_int8_outliers *outliers, uint64_t n) {
    return n == 0 ||
        (n <= UINT64_MAX / 3 && moi_cl_quant_holds(&outliers->list, sizeof(uint32_t), 3 * n));
}

/* Counts to where they begin; how many there are. */
static mo_status moi_cl_int8_sum(uint32_t *counts, uint64_t rows, uint64_t *n) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < rows; i++) {
        const uint32_t count = counts[i];
        counts[i] = (uint32_t)sum;
        sum += count;
        if (sum > 0xffffffffu) return MO_E_OVERFLOW;
    }
    *n = sum;
    return MO_OK;
}

static mo_status moi_cl_int8_starts(
    mo_cl *cl, const mo_cl_mem *starts, uint32_t *counts, uint64_t rows, uint64_t *n) {
    const size_t size = (size_t)rows * sizeof *counts;
    mo_status status = moi_cl_quant_move(cl, starts, 0, counts, size, 0);
    if (status == MO_OK) status = moi_cl_int8_sum(counts, rows, n);
    if (status == MO_OK) status = moi_cl_quant_move(cl, starts, 0, counts, size, 1);
    return status;
}

/* starts of the rows, and how many outliers there are */
static mo_status moi_cl_int8_count(mo_cl *cl, const moi_cl_int8_shape *s, const mo_cl_mem *x,
    const mo_cl_mem *starts, uint64_t *n) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_int8_count, "-DMO_OUT=0");
    moi_cl_mem_arg(&call, x, sizeof(float), s->n);
    moi_cl_mem_arg(&call, starts, sizeof(uint32_t), s->rows);
    moi_cl_u64_arg(&call, s->rows);
    moi_cl_u32_arg(&call, (uint32_t)s->columns);
    moi_cl_u32_arg(&call, s->limit);
    moi_cl_u32_arg(&call, s->rows_each);
    if (s->columns >= (uint64_t)1 << 31) return MO_E_OVERFLOW;
    mo_status status = moi_cl_run(&call, s->groups);
    *n = 0;
    if (status != MO_OK || s->rows == 0) return status;
    uint32_t *counts = (uint32_t *)moi_cl_new(&cl->allocator, (size_t)s->rows, sizeof *counts);
    if (!counts) return MO_E_NO_MEMORY;
    status = moi_cl_int8_starts(cl, starts, counts, s->rows, n);
    moi_cl_delete(&cl->allocator, counts, (size_t)s->rows, sizeof *counts);
    return status;
}

static mo_status moi_cl_int8_collect(mo_cl *cl, const moi_cl_int8_shape *s, const mo_cl_mem *x,
    const mo_cl_int8_outliers *outliers, uint64_t n) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_int8_collect, "-DMO_OUT=0");
    moi_cl_mem_arg(&call, x, sizeof(float), s->n);
    moi_cl_mem_arg(&call, &outliers->starts, sizeof(uint32_t), s->rows);
    moi_cl_mem_arg(&call, &outliers->list, sizeof(uint32_t), 3 * n);
    moi_cl_u64_arg(&call, s->rows);
    moi_cl_u32_arg(&call, (uint32_t)s->columns);
    moi_cl_u32_arg(&call, s->limit);
    moi_cl_u32_arg(&call, (uint32_t)n);
    moi_cl_u32_arg(&call, s->rows_each);
    return moi_cl_run(&call, s->groups);
}

mo_status mo_cl_int8_outlier_count(
    mo_cl *cl, const mo_int8_desc *desc, mo_cl_mem x, mo_cl_mem starts, size_t *n) {
    moi_cl_int8_shape s;
    uint64_t count = 0;
    mo_status status = moi_cl_int8_begin(cl, desc, &s);
    if (status != MO_OK || !n || !moi_cl_quant_holds(&x, sizeof(float), s.n)) return MO_E_INVALID;
    if (desc->threshold > 0.0f) status = moi_cl_int8_count(cl, &s, &x, &starts, &count);
    if (status == MO_OK) *n = (size_t)count;
    return status;
}

/* ---- encode -------------------------------------------------------------------------------- */

/* The list of x, where the desc wants one; how many there are. */
static mo_status moi_cl_int8_list(mo_cl *cl, const moi_cl_int8_shape *s, const mo_cl_mem *x,
    const mo_cl_int8_outliers *outliers, uint64_t *n) {
    if (!moi_cl_quant_holds(&outliers->starts, sizeof(uint32_t), s->rows)) return MO_E_INVALID;
    if (!moi_cl_int8_list_holds(outliers, outliers->capacity)) return MO_E_INVALID;
    mo_status status = moi_cl_int8_count(cl, s, x, &outliers->starts, n);
    if (status != MO_OK || *n == 0) return status;
    if (*n > outliers->capacity) return MO_E_NO_SPACE;
    return moi_cl_int8_collect(cl, s, x, outliers, *n);
}

mo_status mo_cl_int8_encode(mo_cl *cl, const mo_int8_desc *desc, mo_cl_mem x, mo_cl_mem codes,
    mo_cl_mem absmax, mo_cl_int8_outliers *outliers) {
    moi_cl_int8_shape s;
    uint64_t n = 0;
    if (moi_cl_int8_begin(cl, desc, &s) != MO_OK) return MO_E_INVALID;
    if (!moi_cl_quant_holds(&x, sizeof(float), s.n) || !moi_cl_quant_holds(&codes, 1, s.n) ||
        !moi_cl_quant_holds(&absmax, sizeof(float), s.rows))
        return MO_E_INVALID;
    if (desc->threshold > 0.0f) {
        if (!outliers) return MO_E_INVALID;
        const mo_status status = moi_cl_int8_list(cl, &s, &x, outliers, &n);
        if (status != MO_OK) return status;
    }
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_int8_encode, "-DMO_OUT=0");
    moi_cl_mem_arg(&call, &x, sizeof(float), s.n);
    moi_cl_mem_arg(&call, &codes, 1, s.n);
    moi_cl_mem_arg(&call, &absmax, sizeof(float), s.rows);
    moi_cl_u64_arg(&call, s.rows);
    moi_cl_u64_arg(&call, s.columns);
    moi_cl_u32_arg(&call, s.limit);
    moi_cl_u32_arg(&call, s.rows_each);
    const mo_status status = moi_cl_run(&call, s.groups);
    if (status == MO_OK && outliers) outliers->n = (size_t)n;
    return status;
}

/* ---- decode -------------------------------------------------------------------------------- */

static mo_status moi_cl_int8_scatter(mo_cl *cl, const moi_cl_int8_shape *s, const char *options,
    const mo_cl_int8_outliers *outliers, size_t width, const mo_cl_mem *x) {
    if (!outliers || outliers->n == 0) return MO_OK;
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_int8_scatter, options);
    moi_cl_mem_arg(&call, &outliers->list, sizeof(uint32_t), 3 * (uint64_t)outliers->n);
    moi_cl_mem_arg(&call, x, width, s->n);
    moi_cl_u64_arg(&call, s->rows);
    moi_cl_u64_arg(&call, s->columns);
    moi_cl_u64_arg(&call, outliers->n);
    return moi_cl_run(&call, moi_cl_tiles(cl, outliers->n));
}

static mo_status moi_cl_int8_decode(mo_cl *cl, const mo_int8_desc *desc, const mo_cl_mem *codes,
    const mo_cl_mem *absmax, const mo_cl_int8_outliers *outliers, const char *options, size_t width,
    const mo_cl_mem *x) {
    moi_cl_int8_shape s;
    if (moi_cl_int8_begin(cl, desc, &s) != MO_OK) return MO_E_INVALID;
    if (outliers && !moi_cl_int8_list_holds(outliers, outliers->n)) return MO_E_INVALID;
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_int8_decode, options);
    moi_cl_mem_arg(&call, codes, 1, s.n);
    moi_cl_mem_arg(&call, absmax, sizeof(float), s.rows);
    moi_cl_mem_arg(&call, x, width, s.n);
    moi_cl_u64_arg(&call, s.rows);
    moi_cl_u64_arg(&call, s.columns);
    moi_cl_u32_arg(&call, s.rows_each);
    const mo_status status = moi_cl_run(&call, s.groups * moi_cl_tiles(cl, s.columns));
    return status == MO_OK ? moi_cl_int8_scatter(cl, &s, options, outliers, width, x) : status;
}

mo_status mo_cl_int8_decode(mo_cl *cl, const mo_int8_desc *desc, mo_cl_mem codes, mo_cl_mem absmax,
    const mo_cl_int8_outliers *outliers, mo_cl_mem x) {
    return moi_cl_int8_decode(cl, desc, &codes, &absmax, outliers, "-DMO_OUT=0", sizeof(float), &x);
}
mo_status mo_cl_int8_decode_bf16(mo_cl *cl, const mo_int8_desc *desc, mo_cl_mem codes,
    mo_cl_mem absmax, const mo_cl_int8_outliers *outliers, mo_cl_mem x) {
    return moi_cl_int8_decode(cl, desc, &codes, &absmax, outliers, "-DMO_OUT=1", 2, &x);
}
mo_status mo_cl_int8_decode_f16(mo_cl *cl, const mo_int8_desc *desc, mo_cl_mem codes,
    mo_cl_mem absmax, const mo_cl_int8_outliers *outliers, mo_cl_mem x) {
    return moi_cl_int8_decode(cl, desc, &codes, &absmax, outliers, "-DMO_OUT=2", 2, &x);
}
