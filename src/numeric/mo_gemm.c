/* mo_gemm.c - see mo_gemm.h. Blocks as in Goto and van de Geijn: a block of A stays in the second
 * level cache, one panel of B in the first, and the tile of C in registers. */

/* The scalar tile: MR x NR in plain C; compilers turn the inner loop into vectors. */
enum { moi_gemm_mr_scalar = 4, moi_gemm_nr_scalar = 8 };

static void moi_gemm_tile_scalar(
    size_t k, const float *a, const float *b, float alpha, float beta, float *c, size_t ldc) {
    float sum[moi_gemm_mr_scalar][moi_gemm_nr_scalar] = {{0}};
    for (; k != 0; k--, a += moi_gemm_mr_scalar, b += moi_gemm_nr_scalar)
        for (size_t i = 0; i < moi_gemm_mr_scalar; i++)
            for (size_t j = 0; j < moi_gemm_nr_scalar; j++) sum[i][j] += a[i] * b[j];
    for (size_t i = 0; i < moi_gemm_mr_scalar; i++)
        for (size_t j = 0; j < moi_gemm_nr_scalar; j++) {
            float *at = c + i * ldc + j;
            *at = beta == 0.0f ? alpha * sum[i][j] : alpha * sum[i][j] + beta * *at;
        }
}

#if MOI_X86
#define MOI_ISA     avx2
#define MOI_GEMM_MR 6
#include "mo_gemm.inc"
#undef MOI_ISA
#undef MOI_GEMM_MR
#define MOI_ISA     avx512
#define MOI_GEMM_MR 12
#include "mo_gemm.inc"
#undef MOI_ISA
#undef MOI_GEMM_MR
#endif
#if MOI_NEON
#define MOI_ISA     neon
#define MOI_GEMM_MR 12
#include "mo_gemm.inc"
#undef MOI_ISA
#undef MOI_GEMM_MR
#endif

typedef struct moi_gemm_kernel {
    size_t mr, nr;
    void (*tile)(
        size_t k, const float *a, const float *b, float alpha, float beta, float *c, size_t ldc);
} moi_gemm_kernel;

enum { moi_gemm_max_mr = 12, moi_gemm_max_nr = 32 };

static moi_gemm_kernel moi_gemm_select(void) {
    moi_gemm_kernel kernel = {moi_gemm_mr_scalar, moi_gemm_nr_scalar, moi_gemm_tile_scalar};
#if MOI_X86
    const moi_gemm_kernel avx2 = {6, 16, moi_gemm_tile_avx2};
    const moi_gemm_kernel avx512 = {12, 32, moi_gemm_tile_avx512};
    if (mo_cpu_current() == MO_CPU_AVX2) kernel = avx2;
    if (mo_cpu_current() == MO_CPU_AVX512) kernel = avx512;
#elif MOI_NEON
    const moi_gemm_kernel neon = {12, 8, moi_gemm_tile_neon};
    if (mo_cpu_current() == MO_CPU_NEON) kernel = neon;
#endif
    return kernel;
}

/* ---- packing ------------------------------------------------------------------------------- */

/* to[4 rows of width][4] = the 4 x 4 block at from, transposed */
MOI_ALWAYS_INLINE void moi_transpose4(const float *from, size_t stride, float *to, size_t width) {
#if MOI_X86
    __m128 r0 = _mm_loadu_ps(from), r1 = _mm_loadu_ps(from + stride);
    __m128 r2 = _mm_loadu_ps(from + 2 * stride), r3 = _mm_loadu_ps(from + 3 * stride);
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    _mm_storeu_ps(to, r0);
    _mm_storeu_ps(to + width, r1);
    _mm_storeu_ps(to + 2 * width, r2);
    _mm_storeu_ps(to + 3 * width, r3);
#else
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) to[j * width + i] = from[i * stride + j];
#endif
}

/* One panel whose lines are contiguous along the depth: to[d][i] = from[i * stride + d], i < n <=
 * width, zero for the rest of the width. Four depths at a time, so that what is written stays
 * near. */
static void moi_gemm_pack_across(
    size_t n, size_t depth, size_t width, const float *from, size_t stride, float *to) {
    const size_t whole = n / 4 * 4;
    size_t d = 0;
    for (; d + 4 <= depth; d += 4)
        for (size_t i = 0; i < whole; i += 4)
            moi_transpose4(from + i * stride + d, stride, to + d * width + i, width);
    for (; d < depth; d++)
        for (size_t i = 0; i < whole; i++) to[d * width + i] = from[i * stride + d];
    for (size_t i = whole; i < width; i++)
        for (d = 0; d < depth; d++) to[d * width + i] = i < n ? from[i * stride + d] : 0.0f;
}

/* One panel whose lines are contiguous along the width: to[d][i] = from[d * stride + i]. */
static void moi_gemm_pack_along(
    size_t n, size_t depth, size_t width, const float *from, size_t stride, float *to) {
    for (size_t d = 0; d < depth; d++, from += stride, to += width) {
        if (n == width) {
            for (size_t i = 0; i < width; i++) to[i] = from[i];
        } else {
            for (size_t i = 0; i < width; i++) to[i] = i < n ? from[i] : 0.0f;
        }
    }
}

/* A block of lines x depth into panels of width lines. across: stride from line to line, the depth
 * being contiguous; else stride along the depth, the lines being contiguous. */
static void moi_gemm_pack(size_t lines, size_t depth, size_t width, const float *from, size_t line,
    size_t along, float *to) {
    for (size_t i = 0; i < lines; i += width, to += width * depth) {
        size_t n = moi_min(width, lines - i);
        if (along == 1 && line != 1)
            moi_gemm_pack_across(n, depth, width, from + i * line, line, to);
        else moi_gemm_pack_along(n, depth, width, from + i * line, along, to);
    }
}

/* ---- the serial product -------------------------------------------------------------------- */

static size_t moi_gemm_floats(size_t m, size_t n, size_t k) {
    size_t rows = moi_min(m, moi_gemm_rows) + moi_gemm_max_mr;
    size_t columns = moi_min(n, moi_gemm_columns) + moi_gemm_max_nr;
    return (rows + columns) * moi_min(k, moi_gemm_depth) / 16 * 16 + 32;
}

/* A tile that reaches over the edge of C goes through a buffer. */
static void moi_gemm_edge(const moi_gemm_kernel *kernel, size_t m, size_t n, size_t k,
    const float *a, const float *b, float alpha, float beta, float *c, size_t ldc) {
    MOI_ALIGNED(64) float tile[moi_gemm_max_mr * moi_gemm_max_nr];
    if (beta != 0.0f)
        for (size_t i = 0; i < kernel->mr * kernel->nr; i++) {
            size_t row = i / kernel->nr, column = i % kernel->nr;
            tile[i] = row < m && column < n ? c[row * ldc + column] : 0.0f;
        }
    kernel->tile(k, a, b, alpha, beta, tile, kernel->nr);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) c[i * ldc + j] = tile[i * kernel->nr + j];
}

/* One packed block of A times one packed block of B. */
static void moi_gemm_block(const moi_gemm_kernel *kernel, size_t m, size_t n, size_t k,
    const float *a, const float *b, float alpha, float beta, float *c, size_t ldc) {
    for (size_t j = 0; j < n; j += kernel->nr)
        for (size_t i = 0; i < m; i += kernel->mr) {
            const float *at = a + i * k, *bt = b + j * k;
            float *ct = c + i * ldc + j;
            if (m - i >= kernel->mr && n - j >= kernel->nr)
                kernel->tile(k, at, bt, alpha, beta, ct, ldc);
            else
                moi_gemm_edge(kernel, moi_min(kernel->mr, m - i), moi_min(kernel->nr, n - j), k, at,
                    bt, alpha, beta, ct, ldc);
        }
}

static void moi_gemm_serial(size_t m, size_t n, size_t k, float alpha, moi_matrix a, moi_matrix b,
    float beta, float *c, size_t ldc, float *workspace) {
    const moi_gemm_kernel kernel = moi_gemm_select();
    float *packed_a = workspace;
    float *packed_b = packed_a +
        (moi_min(m, moi_gemm_rows) + moi_gemm_max_mr) * moi_min(k, moi_gemm_depth) / 16 * 16 + 16;
    for (size_t pc = 0; pc < k; pc += moi_gemm_depth) {
        size_t depth = moi_min(k - pc, moi_gemm_depth);
        float scale = pc == 0 ? beta : 1.0f;
        for (size_t jc = 0; jc < n; jc += moi_gemm_columns) {
            size_t columns = moi_min(n - jc, moi_gemm_columns);
            moi_gemm_pack(columns, depth, kernel.nr, b.data + pc * b.row + jc * b.column, b.column,
                b.row, packed_b);
            for (size_t ic = 0; ic < m; ic += moi_gemm_rows) {
                size_t rows = moi_min(m - ic, moi_gemm_rows);
                moi_gemm_pack(rows, depth, kernel.mr, a.data + ic * a.row + pc * a.column, a.row,
                    a.column, packed_a);
                moi_gemm_block(&kernel, rows, columns, depth, packed_a, packed_b, alpha, scale,
                    c + ic * ldc + jc, ldc);
            }
        }
    }
}

/* ---- threads and the public function ------------------------------------------------------- */

size_t mo_gemm_workspace_size(const mo_parallel *parallel, const mo_gemm_desc *largest) {
    size_t floats = largest ? moi_gemm_floats(largest->m, largest->n, largest->k)
                            : moi_gemm_floats(SIZE_MAX, SIZE_MAX, SIZE_MAX);
    return (size_t)mo_parallel_threads(parallel) * floats * sizeof(float);
}

typedef struct moi_gemm_job {
    const mo_gemm_desc *desc;
    moi_matrix a, b;
    float *c;
    float *workspace;
    int parts_m, parts_n;
} moi_gemm_job;

static void moi_gemm_task(void *context, int i) {
    const moi_gemm_job *job = (const moi_gemm_job *)context;
    const mo_gemm_desc *d = job->desc;
    size_t row, row_end, column, column_end;
    moi_part(d->m, moi_gemm_max_mr, i % job->parts_m, job->parts_m, &row, &row_end);
    moi_part(d->n, moi_gemm_max_nr, i / job->parts_m, job->parts_n, &column, &column_end);
    if (row == row_end || column == column_end) return;
    moi_matrix a = job->a, b = job->b;
    a.data += row * a.row;
    b.data += column * b.column;
    moi_gemm_serial(row_end - row, column_end - column, d->k, d->alpha, a, b, d->beta,
        job->c + row * d->ldc + column, d->ldc,
        job->workspace + (size_t)i * moi_gemm_floats(d->m, d->n, d->k));
}

/* Cut C into threads parts as square as they can be: each part packs its own operands. */
static void moi_gemm_split(const mo_gemm_desc *d, int threads, int *parts_m, int *parts_n) {
    double least = 0;
    *parts_m = *parts_n = 1;
    for (int pm = 1; pm <= threads; pm++) {
        if (threads % pm != 0) continue;
        double packed = (double)d->m / pm + (double)d->n / (threads / pm);
        if (least != 0 && packed >= least) continue;
        least = packed;
        *parts_m = pm;
        *parts_n = threads / pm;
    }
}

static mo_status moi_gemm_cblas(
    mo_cblas_sgemm *cblas, const mo_gemm_desc *d, const float *a, const float *b, float *c) {
    const size_t most = 0x7fffffff;
    if (d->m > most || d->n > most || d->k > most || d->lda > most || d->ldb > most ||
        d->ldc > most)
        return MO_E_UNSUPPORTED;
    cblas(101, d->trans_a ? 112 : 111, d->trans_b ? 112 : 111, (int)d->m, (int)d->n, (int)d->k,
        d->alpha, a, (int)d->lda, b, (int)d->ldb, d->beta, c, (int)d->ldc);
    return MO_OK;
}

/* k = 0: nothing is multiplied, C is scaled. */
static void moi_gemm_scale(const mo_gemm_desc *d, float *c) {
    for (size_t i = 0; i < d->m; i++)
        for (size_t j = 0; j < d->n; j++)
            c[i * d->ldc + j] = d->beta == 0.0f ? 0.0f : d->beta * c[i * d->ldc + j];
}

mo_status mo_gemm(
    const mo_gemm_env *env, const mo_gemm_desc *desc, const float *a, const float *b, float *c) {
    if (!env || !desc || !a || !b || !c) return MO_E_INVALID;
    mo_gemm_desc d = *desc;
    size_t columns_a = d.trans_a ? d.m : d.k, columns_b = d.trans_b ? d.k : d.n;
    if (d.lda == 0) d.lda = columns_a;
    if (d.ldb == 0) d.ldb = columns_b;
    if (d.ldc == 0) d.ldc = d.n;
    if (d.alpha == 0.0f) d.alpha = 1.0f;
    if (d.lda < columns_a || d.ldb < columns_b || d.ldc < d.n) return MO_E_INVALID;
    if (d.m == 0 || d.n == 0) return MO_OK;
    if (d.k == 0) {
        moi_gemm_scale(&d, c);
        return MO_OK;
    }
    if (env->cblas) return moi_gemm_cblas(env->cblas, &d, a, b, c);
    int threads = mo_parallel_threads(env->parallel);
    if ((double)d.m * (double)d.n * (double)d.k < 65536.0) threads = 1;
    size_t floats = moi_gemm_floats(d.m, d.n, d.k);
    if (!env->workspace || env->workspace_size / sizeof(float) / floats < (size_t)threads)
        return MO_E_NO_SPACE;
    moi_gemm_job job;
    job.desc = &d;
    job.a.data = a;
    job.a.row = d.trans_a ? 1 : d.lda;
    job.a.column = d.trans_a ? d.lda : 1;
    job.b.data = b;
    job.b.row = d.trans_b ? 1 : d.ldb;
    job.b.column = d.trans_b ? d.ldb : 1;
    job.c = c;
    job.workspace = (float *)env->workspace;
    moi_gemm_split(&d, threads, &job.parts_m, &job.parts_n);
    mo_parallel_run(env->parallel, threads, moi_gemm_task, &job);
    return MO_OK;
}
