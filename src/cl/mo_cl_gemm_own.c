/* mo_cl_gemm_own.c - products by the kernels of gemm.cl. */

/* ---- what is multiplied -------------------------------------------------------------------- */

/* A product with everything filled in, and the elements that each matrix reaches over. */
typedef struct moi_cl_gemm_job {
    mo_gemm_desc d;
    mo_cl_gemm_operand a, b;
    mo_cl_mem c;
    size_t n_a, n_b, n_c;
} moi_cl_gemm_job;

/* From the first to the last element of rows x columns. */
static mo_status moi_cl_gemm_extent(size_t rows, size_t columns, size_t ld, size_t *n) {
    *n = 0;
    if (rows == 0 || columns == 0) return MO_OK;
    if (!moi_mul(rows - 1, ld, n) || *n > SIZE_MAX - columns) return MO_E_OVERFLOW;
    *n += columns;
    return MO_OK;
}

static mo_status moi_cl_gemm_check_operand(mo_cl_gemm_operand *x) {
    if (!x->data.buffer || (unsigned)x->type >= MO_GEMM_TYPE_COUNT) return MO_E_INVALID;
    if (x->type >= MO_GEMM_INT8 && !x->absmax.buffer) return MO_E_INVALID;
    if (x->type < MO_GEMM_NF4) return MO_OK;
    if (x->block == 0) x->block = 64;
    return moi_is_pow2(x->block) && x->block >= 32 && x->block <= 4096 ? MO_OK : MO_E_INVALID;
}

/* What desc and operands leave open, filled in. */
static mo_status moi_cl_gemm_resolve(moi_cl_gemm_job *job) {
    mo_gemm_desc *d = &job->d;
    const size_t rows_a = d->trans_a ? d->k : d->m, columns_a = d->trans_a ? d->m : d->k;
    const size_t rows_b = d->trans_b ? d->n : d->k, columns_b = d->trans_b ? d->k : d->n;
    if (d->lda == 0) d->lda = columns_a;
    if (d->ldb == 0) d->ldb = columns_b;
    if (d->ldc == 0) d->ldc = d->n;
    if (d->alpha == 0.0f) d->alpha = 1.0f;
    if (d->lda < columns_a || d->ldb < columns_b || d->ldc < d->n) return MO_E_INVALID;
    mo_status status = moi_cl_gemm_check_operand(&job->a);
    if (status == MO_OK) status = moi_cl_gemm_check_operand(&job->b);
    if (status == MO_OK) status = job->c.buffer ? MO_OK : MO_E_INVALID;
    if (status == MO_OK) status = moi_cl_gemm_extent(rows_a, columns_a, d->lda, &job->n_a);
    if (status == MO_OK) status = moi_cl_gemm_extent(rows_b, columns_b, d->ldb, &job->n_b);
    if (status == MO_OK) status = moi_cl_gemm_extent(d->m, d->n, d->ldc, &job->n_c);
    if (status != MO_OK) return status;
    const size_t most = 0x7fffffff;
    return d->m > most || d->n > most || d->k > most ? MO_E_UNSUPPORTED : MO_OK;
}

/* ---- the own kernel ------------------------------------------------------------------------ */

/* How C is cut: a group computes rows x columns. */
typedef struct moi_cl_gemm_bands {
    size_t rows, columns;
} moi_cl_gemm_bands;

static size_t moi_cl_gemm_pieces(size_t n, size_t size) { return n / size + (n % size != 0); }

/* Floats of a vector on a CPU, as the kernel knows them. */
static unsigned moi_cl_gemm_lanes(const mo_cl *cl) {
    cl_uint width = 0;
    cl_int code = clGetDeviceInfo(
        cl->device, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, sizeof width, &width, NULL);
    if (code != CL_SUCCESS) return 8;
    return width >= 16 ? 16 : width == 4 ? 4 : 8;
}

static int moi_cl_gemm_has_fma(const mo_cl *cl) {
    cl_device_fp_config config = 0;
    cl_int code =
        clGetDeviceInfo(cl->device, CL_DEVICE_SINGLE_FP_CONFIG, sizeof config, &config, NULL);
    return code == CL_SUCCESS && (config & CL_FP_FMA) != 0;
}

static int moi_cl_gemm_deep(const mo_cl *cl) { return cl->info.local_bytes >= 256 * 1024; }

/* Items stand in a square or a rectangle twice as wide, and each has 8 x 8 elements. */
static moi_cl_gemm_bands moi_cl_gemm_bands_gpu(const mo_cl *cl) {
    moi_cl_gemm_bands bands;
    size_t across = 1;
    while (across < 16 && across * across * 4 <= cl->work_group) across *= 2;
    bands.columns = 8 * across;
    bands.rows = 8 * (cl->work_group / across);
    return bands;
}

/* As much as caches hold, but a few groups for every compute unit. */
static moi_cl_gemm_bands moi_cl_gemm_bands_cpu(const mo_cl *cl, size_t m, size_t n) {
    const size_t lanes = moi_cl_gemm_lanes(cl), tile_rows = lanes == 16 ? 12 : 6;
    const size_t tile_columns = 2 * lanes, block = moi_cl_gemm_deep(cl) ? 192 : 24;
    const size_t least_rows = 4 * tile_rows, least_columns = 4 * tile_columns;
    const size_t wanted = 3 * (size_t)cl->info.compute_units;
    size_t n_rows = moi_cl_gemm_pieces(m, block), n_columns = 1;
    moi_cl_gemm_bands bands;
    for (;;) {
        bands.rows = moi_cl_gemm_pieces(moi_cl_gemm_pieces(m, n_rows), tile_rows) * tile_rows;
        bands.columns =
            moi_cl_gemm_pieces(moi_cl_gemm_pieces(n, n_columns), tile_columns) * tile_columns;
        if (n_rows * n_columns >= wanted) break;
        if (bands.columns > bands.rows && bands.columns > least_columns) n_columns++;
        else if (bands.rows > least_rows) n_rows++;
        else if (bands.columns > least_columns) n_columns++;
        else break;
    }
    return bands;
}

/* rows and n elements as stored; an empty matrix has no scales. */
static void moi_cl_gemm_operand_args(
    moi_cl_call *call, const mo_cl_gemm_operand *x, size_t rows, size_t ld, size_t n) {
    static const size_t sizes[MO_GEMM_TYPE_COUNT] = {4, 2, 2, 1, 1, 1};
    const int is_4bit = x->type >= MO_GEMM_NF4;
    uint32_t shift = 0;
    moi_cl_mem_arg(call, &x->data, sizes[x->type], is_4bit ? n / 2 + n % 2 : n);
    moi_cl_u64_arg(call, ld);
    if (x->type < MO_GEMM_INT8) return;
    while (is_4bit && (size_t)1 << shift < x->block) shift++;
    moi_cl_mem_arg(call, &x->absmax, sizeof(float),
        n == 0        ? 0
            : is_4bit ? moi_cl_gemm_pieces(n, x->block)
                      : rows);
    moi_cl_u32_arg(call, shift);
}

static mo_status moi_cl_gemm_own(mo_cl *cl, const moi_cl_gemm_job *job) {
    const mo_gemm_desc *d = &job->d;
    const moi_cl_gemm_bands bands =
        cl->work_group == 1 ? moi_cl_gemm_bands_cpu(cl, d->m, d->n) : moi_cl_gemm_bands_gpu(cl);
    const size_t n_bands = moi_cl_gemm_pieces(d->m, bands.rows);
    char options[160];
    snprintf(options, sizeof options,
        "-DMO_TRANS_A=%d -DMO_TRANS_B=%d -DMO_TYPE_A=%d -DMO_TYPE_B=%d -DMO_FMA=%d -DMO_LANES=%u "
        "-DMO_DEEP=%d",
        d->trans_a != 0, d->trans_b != 0, (int)job->a.type, (int)job->b.type,
        moi_cl_gemm_has_fma(cl), moi_cl_gemm_lanes(cl), moi_cl_gemm_deep(cl));
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_gemm, options);
    moi_cl_gemm_operand_args(&call, &job->a, d->trans_a ? d->k : d->m, d->lda, job->n_a);
    moi_cl_gemm_operand_args(&call, &job->b, d->trans_b ? d->n : d->k, d->ldb, job->n_b);
    moi_cl_mem_arg(&call, &job->c, sizeof(float), job->n_c);
    moi_cl_u64_arg(&call, d->ldc);
    if (job->a.type >= MO_GEMM_NF4 || job->b.type >= MO_GEMM_NF4) moi_cl_tables_arg(&call);
    moi_cl_u32_arg(&call, (uint32_t)d->m);
    moi_cl_u32_arg(&call, (uint32_t)d->n);
    moi_cl_u32_arg(&call, (uint32_t)d->k);
    moi_cl_f32_arg(&call, d->alpha);
    moi_cl_f32_arg(&call, d->beta);
    moi_cl_u32_arg(&call, (uint32_t)bands.rows);
    moi_cl_u32_arg(&call, (uint32_t)bands.columns);
    moi_cl_u32_arg(&call, (uint32_t)n_bands);
    return moi_cl_run(&call, (uint64_t)n_bands * moi_cl_gemm_pieces(d->n, bands.columns));
}
