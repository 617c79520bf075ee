/* mo_gemm.c - see mo_gemm.h. Blocks as in Goto and van de Geijn: a block of A stays in the second
 * level cache, one panel of B in the first, and the tile of C in registers. */

/* The scalar tile: MR x NR in plain C; compilers turn the inner loop into vectors. */
enum { moi_gemm_mr_scalar = 4, moi_gemm_nr_scalar = 8 };

static void moi_gemm_tile_scalar(size_t k, const float *a, size_t a_row, const float *b,
    float alpha, float beta, float *c, size_t ldc) {
    const size_t step = a_row == 1 ? moi_gemm_mr_scalar : 1;
    float sum[moi_gemm_mr_scalar][moi_gemm_nr_scalar] = {{0}};
    for (; k != 0; k--, a += step, b += moi_gemm_nr_scalar)
        for (size_t i = 0; i < moi_gemm_mr_scalar; i++)
            for (size_t j = 0; j < moi_gemm_nr_scalar; j++) sum[i][j] += a[i * a_row] * b[j];
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
    void (*tile)(size_t k, const float *a, size_t a_row, const float *b, float alpha, float beta,
        float *c, size_t ldc);
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

/* Asks for the cache line so many numbers after p: packing waits for memory more than for anything
 * else, and processors see no pattern in rows that are far apart. p need not be in an array. */
MOI_ALWAYS_INLINE void moi_gemm_fetch(const float *p, size_t ahead) {
#if MOI_X86
    _mm_prefetch((const char *)((uintptr_t)p + ahead * sizeof *p), _MM_HINT_T0);
#else
    (void)p, (void)ahead;
#endif
}

enum { moi_gemm_line = 16, moi_gemm_rows_ahead = 4, moi_gemm_depths_ahead = 8 };

/* One panel whose lines are contiguous along the depth: to[d][i] = from[i * stride + d], i < n <=
 * width, zero for the rest of the width. Four depths at a time, so that what is written stays
 * near. The next panel's lines are fetched meanwhile. */
static void moi_gemm_pack_across(
    size_t n, size_t depth, size_t width, const float *from, size_t stride, float *to) {
    const size_t whole = n / 4 * 4;
    size_t d = 0;
    for (; d + 4 <= depth; d += 4) {
        for (size_t i = 0; d % moi_gemm_line == 0 && i < width; i++)
            moi_gemm_fetch(from, (i + width) * stride + d);
        for (size_t i = 0; i < whole; i += 4)
            moi_transpose4(from + i * stride + d, stride, to + d * width + i, width);
    }
    for (; d < depth; d++)
        for (size_t i = 0; i < whole; i++) to[d * width + i] = from[i * stride + d];
    for (size_t i = whole; i < width; i++)
        for (d = 0; d < depth; d++) to[d * width + i] = i < n ? from[i * stride + d] : 0.0f;
}

/* Panels of which the last may reach over the end: a few depths at a time, so that memory is read
 * along its rows. The next ones are fetched meanwhile. */
MOI_ALWAYS_INLINE void moi_gemm_copy_along(size_t lines, size_t depth, size_t width,
    const float *from, size_t stride, float *to, size_t panel) {
    for (size_t d = 0; d < depth; d += moi_gemm_depths_ahead) {
        const size_t end = moi_min(d + moi_gemm_depths_ahead, depth);
        float *at = to;
        for (size_t i = 0; i + width <= lines; i += width, at += panel)
            for (size_t k = d; k < end; k++) {
                moi_gemm_fetch(from + i, (k + moi_gemm_depths_ahead) * stride);
                memcpy(at + k * width, from + k * stride + i, width * sizeof *at);
            }
        const size_t whole = lines / width * width;
        for (size_t k = d; whole < lines && k < end; k++)
            for (size_t i = 0; i < width; i++)
                at[k * width + i] = whole + i < lines ? from[k * stride + whole + i] : 0.0f;
    }
}

/* Panels whose lines are contiguous along the width, panel numbers apart: to[i][d] =
 * from[d * stride + i], zero up to a whole panel. The widths are constants, for the compiler. */
static void moi_gemm_pack_along(size_t lines, size_t depth, size_t width, const float *from,
    size_t stride, float *to, size_t panel) {
    switch (width) {
    case 6: moi_gemm_copy_along(lines, depth, 6, from, stride, to, panel); break;
    case 8: moi_gemm_copy_along(lines, depth, 8, from, stride, to, panel); break;
    case 12: moi_gemm_copy_along(lines, depth, 12, from, stride, to, panel); break;
    case 16: moi_gemm_copy_along(lines, depth, 16, from, stride, to, panel); break;
    case 32: moi_gemm_copy_along(lines, depth, 32, from, stride, to, panel); break;
    default: moi_gemm_copy_along(lines, depth, width, from, stride, to, panel); break;
    }
}

/* Floats of a block of lines x depth into panels of width lines. line is the stride from line to
 * line, along the one along the depth; one of them is 1. */
static void moi_gemm_pack_floats(size_t lines, size_t depth, size_t width, const float *from,
    size_t line, size_t along, float *to) {
    if (along != 1 || line == 1) {
        moi_gemm_pack_along(lines, depth, width, from, along, to, width * depth);
        return;
    }
    for (size_t i = 0; i < lines; i += width, to += width * depth)
        moi_gemm_pack_across(moi_min(width, lines - i), depth, width, from + i * line, line, to);
}

/* ---- packing what is not float ------------------------------------------------------------- */

/* Row by row: a matrix of one column is contiguous along both. */
static void moi_gemm_read_int8(const moi_gemm_view *view, size_t first, size_t n, float *to) {
    const int8_t *codes = (const int8_t *)view->from.data;
    while (n != 0) {
        const size_t row = first / view->ld, part = moi_min(n, (row + 1) * view->ld - first);
        const float scale = moi_i8_scale(view->from.absmax[row]);
        MOI_DISPATCH(moi_i8_decode_run, (moi_out_f32, codes + first, part, scale, to));
        first += part;
        to += part;
        n -= part;
    }
}

/* Numbers first .. first + n - 1, as floats. */
static void moi_gemm_read(const moi_gemm_view *view, size_t first, size_t n, float *to) {
    const mo_gemm_operand *from = &view->from;
    switch (from->type) {
    case MO_GEMM_BF16:
        mo_bf16_to_f32((const uint16_t *)from->data + first, to, n, &moi_serial);
        break;
    case MO_GEMM_F16:
        mo_f16_to_f32((const uint16_t *)from->data + first, to, n, &moi_serial);
        break;
    case MO_GEMM_INT8: moi_gemm_read_int8(view, first, n, to); break;
    case MO_GEMM_NF4:
    case MO_GEMM_FP4:
        MOI_DISPATCH(moi_q4_decode_run,
            (moi_out_f32, from->type == MO_GEMM_FP4 ? moi_fp4_map : moi_nf4_map,
                (const uint8_t *)from->data, from->absmax, from->block, first, n, to));
        break;
    default: memcpy(to, (const float *)from->data + first, n * sizeof *to); break;
    }
}

enum { moi_gemm_read_depth = 128, moi_gemm_read_lines = 384 }; /* a multiple of all widths */

/* Lines that are contiguous along the depth: a part of a panel is decoded, then packed. */
static void moi_gemm_read_across(size_t lines, size_t depth, size_t width,
    const moi_gemm_view *view, size_t first, size_t line, float *to) {
    MOI_ALIGNED(64) float part[moi_gemm_max_nr * moi_gemm_read_depth];
    for (size_t i = 0; i < lines; i += width, to += width * depth) {
        const size_t n = moi_min(width, lines - i);
        for (size_t d = 0; d < depth; d += moi_gemm_read_depth) {
            const size_t deep = moi_min(moi_gemm_read_depth, depth - d);
            for (size_t k = 0; k < n; k++)
                moi_gemm_read(
                    view, first + (i + k) * line + d, deep, part + k * moi_gemm_read_depth);
            moi_gemm_pack_across(n, deep, width, part, moi_gemm_read_depth, to + d * width);
        }
    }
}

/* Lines that are contiguous along the width: a piece of many panels is decoded, then dealt out. */
static void moi_gemm_read_along(size_t lines, size_t depth, size_t width, const moi_gemm_view *view,
    size_t first, size_t along, float *to) {
    MOI_ALIGNED(64) float part[moi_gemm_read_lines];
    for (size_t i = 0; i < lines; i += moi_gemm_read_lines) {
        const size_t n = moi_min(moi_gemm_read_lines, lines - i);
        for (size_t d = 0; d < depth; d++) {
            moi_gemm_read(view, first + i + d * along, n, part);
            moi_gemm_pack_along(n, 1, width, part, 0, to + i * depth + d * width, width * depth);
        }
    }
}

/* A block of a view, from number first on, into panels. */
static void moi_gemm_pack(size_t lines, size_t depth, size_t width, const moi_gemm_view *view,
    size_t first, size_t line, size_t along, float *to) {
    if (view->from.type == MO_GEMM_F32)
        moi_gemm_pack_floats(
            lines, depth, width, (const float *)view->from.data + first, line, along, to);
    else if (along == 1) moi_gemm_read_across(lines, depth, width, view, first, line, to);
    else moi_gemm_read_along(lines, depth, width, view, first, along, to);
}

/* Lines of A that are contiguous along the depth stay so: to[i][d], with lines of zeros up to a
 * whole tile. */
static void moi_gemm_copy(size_t lines, size_t depth, size_t width, const moi_gemm_view *view,
    size_t first, size_t line, float *to) {
    const int floats = view->from.type == MO_GEMM_F32;
    for (size_t i = 0; i < lines; i++, to += depth) {
        for (size_t d = 0; floats && d < depth; d += moi_gemm_line)
            moi_gemm_fetch(
                (const float *)view->from.data + d, first + (i + moi_gemm_rows_ahead) * line);
        moi_gemm_read(view, first + i * line, depth, to);
    }
    if (lines % width != 0) memset(to, 0, (width - lines % width) * depth * sizeof *to);
}

/* ---- the serial product -------------------------------------------------------------------- */

static size_t moi_gemm_floats(size_t m, size_t n, size_t k) {
    size_t rows = moi_min(m, moi_gemm_rows) + moi_gemm_max_mr;
    size_t columns = moi_min(n, moi_gemm_columns) + moi_gemm_max_nr;
    return (rows + columns) * moi_min(k, moi_gemm_depth) / 16 * 16 + 32;
}

/* A tile that reaches over the edge of C goes through a buffer. */
static void moi_gemm_edge(const moi_gemm_kernel *kernel, size_t m, size_t n, size_t k,
    const float *a, size_t a_row, const float *b, float alpha, float beta, float *c, size_t ldc) {
    MOI_ALIGNED(64) float tile[moi_gemm_max_mr * moi_gemm_max_nr];
    if (beta != 0.0f)
        for (size_t i = 0; i < kernel->mr * kernel->nr; i++) {
            size_t row = i / kernel->nr, column = i % kernel->nr;
            tile[i] = row < m && column < n ? c[row * ldc + column] : 0.0f;
        }
    kernel->tile(k, a, a_row, b, alpha, beta, tile, kernel->nr);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) c[i * ldc + j] = tile[i * kernel->nr + j];
}

/* One packed block of A times one packed block of B. */
static void moi_gemm_block(const moi_gemm_kernel *kernel, size_t m, size_t n, size_t k,
    const float *a, size_t a_row, const float *b, float alpha, float beta, float *c, size_t ldc) {
    for (size_t j = 0; j < n; j += kernel->nr)
        for (size_t i = 0; i < m; i += kernel->mr) {
            const float *at = a + i * k, *bt = b + j * k;
            float *ct = c + i * ldc + j;
            if (m - i >= kernel->mr && n - j >= kernel->nr)
                kernel->tile(k, at, a_row, bt, alpha, beta, ct, ldc);
            else
                moi_gemm_edge(kernel, moi_min(kernel->mr, m - i), moi_min(kernel->nr, n - j), k, at,
                    a_row, bt, alpha, beta, ct, ldc);
        }
}

/* Lines of A and B that are packed at a time. */
typedef struct moi_gemm_panels {
    size_t rows, columns;
} moi_gemm_panels;

/* The largest panels of m x n that so many floats hold; rows 0: none do. How a product is cut along
 * m and n does not change its bits, so less memory costs time only. */
static moi_gemm_panels moi_gemm_fit(size_t m, size_t n, size_t k, size_t floats) {
    const size_t edge = moi_gemm_max_mr + moi_gemm_max_nr;
    moi_gemm_panels panels = {moi_min(m, moi_gemm_rows), moi_min(n, moi_gemm_columns)};
    size_t lines = floats > 32 ? (floats - 32) / moi_min(k, moi_gemm_depth) : 0;
    lines = lines > edge ? lines - edge : 0;
    if (lines >= panels.rows + panels.columns) return panels;
    const size_t columns = lines * 4 / 5 / moi_gemm_max_nr * moi_gemm_max_nr;
    panels.columns = moi_min(panels.columns, moi_max(columns, moi_gemm_max_nr));
    lines = lines > panels.columns ? lines - panels.columns : 0;
    if (lines < panels.rows) panels.rows = lines / moi_gemm_max_mr * moi_gemm_max_mr;
    return panels;
}

static void moi_gemm_views(size_t m, size_t n, size_t k, float alpha, const moi_gemm_view *a,
    const moi_gemm_view *b, float beta, float *c, size_t ldc, moi_gemm_panels panels,
    float *workspace) {
    const moi_gemm_kernel kernel = moi_gemm_select();
    float *packed_a = workspace;
    float *packed_b = packed_a +
        (moi_min(m, panels.rows) + moi_gemm_max_mr) * moi_min(k, moi_gemm_depth) / 16 * 16 + 16;
    for (size_t pc = 0; pc < k; pc += moi_gemm_depth) {
        size_t depth = moi_min(k - pc, moi_gemm_depth);
        float scale = pc == 0 ? beta : 1.0f;
        for (size_t jc = 0; jc < n; jc += panels.columns) {
            size_t columns = moi_min(n - jc, panels.columns);
            moi_gemm_pack(columns, depth, kernel.nr, b, b->origin + pc * b->row + jc * b->column,
                b->column, b->row, packed_b);
            for (size_t ic = 0; ic < m; ic += panels.rows) {
                size_t rows = moi_min(m - ic, panels.rows);
                const size_t first = a->origin + ic * a->row + pc * a->column;
                const int lines = a->column == 1 && a->row != 1;
                if (lines) moi_gemm_copy(rows, depth, kernel.mr, a, first, a->row, packed_a);
                else moi_gemm_pack(rows, depth, kernel.mr, a, first, a->row, a->column, packed_a);
                moi_gemm_block(&kernel, rows, columns, depth, packed_a, lines ? depth : 1, packed_b,
                    alpha, scale, c + ic * ldc + jc, ldc);
            }
        }
    }
}

static moi_gemm_view moi_gemm_view_of(
    const mo_gemm_operand *from, size_t ld, size_t row, size_t column) {
    moi_gemm_view view;
    view.from = *from;
    view.ld = ld;
    view.origin = 0;
    view.row = row;
    view.column = column;
    return view;
}

static mo_gemm_operand moi_gemm_floats_at(const float *data) {
    mo_gemm_operand operand;
    memset(&operand, 0, sizeof operand);
    operand.data = data;
    return operand;
}

static void moi_gemm_serial(size_t m, size_t n, size_t k, float alpha, moi_matrix a, moi_matrix b,
    float beta, float *c, size_t ldc, float *workspace) {
    const mo_gemm_operand from_a = moi_gemm_floats_at(a.data), from_b = moi_gemm_floats_at(b.data);
    const moi_gemm_view view_a = moi_gemm_view_of(&from_a, 0, a.row, a.column);
    const moi_gemm_view view_b = moi_gemm_view_of(&from_b, 0, b.row, b.column);
    const moi_gemm_panels panels = {moi_gemm_rows, moi_gemm_columns};
    moi_gemm_views(m, n, k, alpha, &view_a, &view_b, beta, c, ldc, panels, workspace);
}

/* ---- threads and the public function ------------------------------------------------------- */

/* Up to moi_gemm_full_threads threads get panels of full size; more of them share as much. */
enum { moi_gemm_full_threads = 8, moi_gemm_least_lines = 256 };

size_t mo_gemm_workspace_size(const mo_parallel *parallel, const mo_gemm_desc *largest) {
    const size_t threads = (size_t)mo_parallel_threads(parallel);
    const size_t k = largest ? largest->k : SIZE_MAX;
    const size_t full = largest ? moi_gemm_floats(largest->m, largest->n, k)
                                : moi_gemm_floats(SIZE_MAX, SIZE_MAX, k);
    const size_t least = moi_min(full, moi_gemm_least_lines * moi_min(k, moi_gemm_depth) + 32);
    const size_t shared = moi_max(moi_gemm_full_threads * full, threads * least);
    return moi_min(threads * full, shared) * sizeof(float);
}

typedef struct moi_gemm_job {
    const mo_gemm_desc *desc;
    moi_gemm_view a, b;
    float *c;
    float *workspace;
    size_t floats; /* for each part */
    moi_gemm_panels panels;
    int parts_m, parts_n;
} moi_gemm_job;

static void moi_gemm_task(void *context, int i) {
    const moi_gemm_job *job = (const moi_gemm_job *)context;
    const mo_gemm_desc *d = job->desc;
    size_t row, row_end, column, column_end;
    moi_part(d->m, moi_gemm_max_mr, i % job->parts_m, job->parts_m, &row, &row_end);
    moi_part(d->n, moi_gemm_max_nr, i / job->parts_m, job->parts_n, &column, &column_end);
    if (row == row_end || column == column_end) return;
    moi_gemm_view a = job->a, b = job->b;
    a.origin = row * a.row;
    b.origin = column * b.column;
    moi_gemm_views(row_end - row, column_end - column, d->k, d->alpha, &a, &b, d->beta,
        job->c + row * d->ldc + column, d->ldc, job->panels,
        job->workspace + (size_t)i * job->floats);
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

/* What desc and operands leave open, filled in. */
static mo_status moi_gemm_resolve(mo_gemm_desc *d, mo_gemm_operand *a, mo_gemm_operand *b) {
    const size_t columns_a = d->trans_a ? d->m : d->k, columns_b = d->trans_b ? d->k : d->n;
    mo_gemm_operand *const both[2] = {a, b};
    if (d->lda == 0) d->lda = columns_a;
    if (d->ldb == 0) d->ldb = columns_b;
    if (d->ldc == 0) d->ldc = d->n;
    if (d->alpha == 0.0f) d->alpha = 1.0f;
    if (d->lda < columns_a || d->ldb < columns_b || d->ldc < d->n) return MO_E_INVALID;
    for (int i = 0; i < 2; i++) {
        mo_gemm_operand *x = both[i];
        if (!x->data || (unsigned)x->type >= MO_GEMM_TYPE_COUNT) return MO_E_INVALID;
        if (x->type >= MO_GEMM_INT8 && !x->absmax) return MO_E_INVALID;
        if (x->type < MO_GEMM_NF4) continue;
        if (x->block == 0) x->block = 64;
        if (!moi_is_pow2(x->block) || x->block < 32 || x->block > 4096) return MO_E_INVALID;
    }
    return MO_OK;
}

static mo_status moi_gemm_built_in(const mo_gemm_env *env, const mo_gemm_desc *d,
    const mo_gemm_operand *a, const mo_gemm_operand *b, float *c) {
    int threads = mo_parallel_threads(env->parallel);
    if ((double)d->m * (double)d->n * (double)d->k < 65536.0) threads = 1;
    const size_t room = env->workspace ? env->workspace_size / sizeof(float) : 0;
    moi_gemm_job job;
    do {
        job.floats = room / (size_t)threads / 16 * 16;
        job.panels = moi_gemm_fit(d->m, d->n, d->k, job.floats);
    } while (job.panels.rows == 0 && --threads > 0);
    if (threads == 0) return MO_E_NO_SPACE;
    job.desc = d;
    job.a = moi_gemm_view_of(a, d->lda, d->trans_a ? 1 : d->lda, d->trans_a ? d->lda : 1);
    job.b = moi_gemm_view_of(b, d->ldb, d->trans_b ? 1 : d->ldb, d->trans_b ? d->ldb : 1);
    job.c = c;
    job.workspace = (float *)env->workspace;
    moi_gemm_split(d, threads, &job.parts_m, &job.parts_n);
    mo_parallel_run(env->parallel, threads, moi_gemm_task, &job);
    return MO_OK;
}

mo_status mo_gemm_mixed(const mo_gemm_env *env, const mo_gemm_desc *desc, const mo_gemm_operand *a,
    const mo_gemm_operand *b, float *c) {
    if (!env || !desc || !a || !b || !c) return MO_E_INVALID;
    mo_gemm_desc d = *desc;
    mo_gemm_operand from_a = *a, from_b = *b;
    const mo_status status = moi_gemm_resolve(&d, &from_a, &from_b);
    if (status != MO_OK) return status;
    if (d.m == 0 || d.n == 0) return MO_OK;
    if (d.k == 0) {
        moi_gemm_scale(&d, c);
        return MO_OK;
    }
    if (!env->cblas) return moi_gemm_built_in(env, &d, &from_a, &from_b, c);
    if (from_a.type != MO_GEMM_F32 || from_b.type != MO_GEMM_F32) return MO_E_UNSUPPORTED;
    return moi_gemm_cblas(
        env->cblas, &d, (const float *)from_a.data, (const float *)from_b.data, c);
}

mo_status mo_gemm(
    const mo_gemm_env *env, const mo_gemm_desc *desc, const float *a, const float *b, float *c) {
    const mo_gemm_operand from_a = moi_gemm_floats_at(a), from_b = moi_gemm_floats_at(b);
    return mo_gemm_mixed(env, desc, &from_a, &from_b, c);
}
