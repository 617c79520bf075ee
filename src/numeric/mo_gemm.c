/* mo_gemm.c - see mo_gemm.h. Blocks as in Goto and van de Geijn: a block of A stays in the second
 * level cache, one panel of B in the first, and the tile of C in registers. */

/* Cache lines to ask for: bytes after data, a step from each to the next. */
typedef struct moi_gemm_stream {
    const float *data;
    size_t at, step;
} moi_gemm_stream;

/* The scalar tile: MR x NR in plain C; compilers turn the inner loop into vectors. */
enum { moi_gemm_mr_scalar = 4, moi_gemm_nr_scalar = 8 };

static void moi_gemm_tile_scalar(size_t k, const float *a, size_t a_row, const float *b,
    float alpha, float beta, float *c, size_t ldc, moi_gemm_stream ahead) {
    (void)ahead;
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
        float *c, size_t ldc, moi_gemm_stream ahead);
} moi_gemm_kernel;

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

/* ---- the serial product -------------------------------------------------------------------- */

static size_t moi_gemm_floats(size_t m, size_t n, size_t k) {
    size_t rows = moi_min(m, moi_gemm_rows) + moi_gemm_max_mr;
    size_t columns = moi_min(n, moi_gemm_columns) + moi_gemm_max_nr;
    return (rows + columns) * moi_min(k, moi_gemm_depth) / 16 * 16 + 32;
}

/* What the next block of B is packed from, cut into streams: a tile's share is one of the parts of
 * a line. line, part and step are numbers from each to the next. */
typedef struct moi_gemm_ahead {
    const float *data;
    size_t first, tiles, parts, line, part, step;
} moi_gemm_ahead;

static moi_gemm_stream moi_gemm_stream_of(const moi_gemm_ahead *x, size_t tile, const float *near) {
    moi_gemm_stream stream = {near, 0, 0};
    if (tile >= x->tiles) return stream;
    stream.data = x->data;
    stream.at = (x->first + tile / x->parts * x->line + tile % x->parts * x->part) * sizeof(float);
    stream.step = x->step * sizeof(float);
    return stream;
}

/* A tile that reaches over the edge of C goes through a buffer. */
static void moi_gemm_edge(const moi_gemm_kernel *kernel, size_t m, size_t n, size_t k,
    const float *a, size_t a_row, const float *b, float alpha, float beta, float *c, size_t ldc,
    moi_gemm_stream ahead) {
    MOI_ALIGNED(64) float tile[moi_gemm_max_mr * moi_gemm_max_nr];
    if (beta != 0.0f)
        for (size_t i = 0; i < kernel->mr * kernel->nr; i++) {
            size_t row = i / kernel->nr, column = i % kernel->nr;
            tile[i] = row < m && column < n ? c[row * ldc + column] : 0.0f;
        }
    kernel->tile(k, a, a_row, b, alpha, beta, tile, kernel->nr, ahead);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) c[i * ldc + j] = tile[i * kernel->nr + j];
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

/* One thread's product, and its workspace. */
typedef struct moi_gemm_product {
    moi_gemm_kernel kernel;
    size_t m, n, k;
    float alpha, beta;
    const moi_gemm_view *a, *b;
    float *c;
    size_t ldc;
    moi_gemm_panels panels;
    int few_rows; /* one panel of A has them all */
    float *packed_a, *packed_b;
} moi_gemm_product;

/* Where a block begins. */
typedef struct moi_gemm_place {
    size_t depth, column, row;
} moi_gemm_place;

/* To the next block: rows change first, then columns. 0: there is none. */
static int moi_gemm_next(const moi_gemm_product *p, moi_gemm_place *at) {
    at->row += p->panels.rows;
    if (at->row < p->m) return 1;
    at->row = 0;
    at->column += p->panels.columns;
    if (at->column < p->n) return 1;
    at->column = 0;
    at->depth += moi_gemm_depth;
    return at->depth < p->k;
}

/* The block of A or B at a place, as op of it is seen. */
typedef struct moi_gemm_part {
    const moi_gemm_view *view;
    size_t row, column, rows, columns;
} moi_gemm_part;

static moi_gemm_part moi_gemm_part_a(const moi_gemm_product *p, const moi_gemm_place *at) {
    const moi_gemm_part part = {p->a, at->row, at->depth, moi_min(p->panels.rows, p->m - at->row),
        moi_min(moi_gemm_depth, p->k - at->depth)};
    return part;
}

static moi_gemm_part moi_gemm_part_b(const moi_gemm_product *p, const moi_gemm_place *at) {
    const moi_gemm_part part = {p->b, at->depth, at->column,
        moi_min(moi_gemm_depth, p->k - at->depth), moi_min(p->panels.columns, p->n - at->column)};
    return part;
}

static size_t moi_gemm_part_first(const moi_gemm_part *x) {
    return x->view->origin + x->row * x->view->row + x->column * x->view->column;
}

/* What packing of a part will read, if it can be fetched, by tiles of such a depth: along its
 * longer side. */
static moi_gemm_ahead moi_gemm_ahead_of(const moi_gemm_part *x, size_t depth) {
    const int by_rows = x->view->column == 1;
    const size_t n = by_rows ? x->rows : x->columns, length = by_rows ? x->columns : x->rows;
    const size_t stride = by_rows ? x->view->row : x->view->column;
    const size_t wide = moi_ceil_div(length, moi_gemm_line);
    const size_t each = moi_ceil_div(depth, moi_gemm_line);
    const int along = wide >= n;
    moi_gemm_ahead a;
    memset(&a, 0, sizeof a);
    if (x->view->from.type != MO_GEMM_F32 || n * length > moi_gemm_fetched) return a;
    a.data = (const float *)x->view->from.data;
    a.first = moi_gemm_part_first(x);
    a.parts = moi_ceil_div(along ? wide : n, each);
    a.tiles = a.parts * (along ? n : wide);
    a.step = along ? (size_t)moi_gemm_line : stride;
    a.line = along ? stride : (size_t)moi_gemm_line;
    a.part = each * a.step;
    return a;
}

/* A block of A as tiles read it: rows of whole tiles, step numbers apart, and the tile that reaches
 * over the end. row: the tile's a_row. */
typedef struct moi_gemm_block_a {
    const float *whole, *last;
    size_t n_whole, step, row;
} moi_gemm_block_a;

/* Rows of floats are read where they are, except for the last tile, unless they would crowd into a
 * few sets of the cache; everything else is packed. */
static moi_gemm_block_a moi_gemm_take_a(const moi_gemm_product *p, const moi_gemm_part *x) {
    const moi_gemm_view *v = x->view;
    const size_t first = moi_gemm_part_first(x), depth = x->columns, mr = p->kernel.mr;
    moi_gemm_block_a a = {p->packed_a, p->packed_a, x->rows, depth, depth};
    if (v->column != 1 || v->row == 1) {
        moi_gemm_pack(x->rows, depth, mr, v, first, v->row, v->column, p->packed_a);
        a.row = 1;
    } else if (v->from.type != MO_GEMM_F32 || v->row % moi_gemm_crowded == 0) {
        moi_gemm_copy(x->rows, depth, mr, v, first, v->row, p->packed_a);
    } else {
        a.whole = (const float *)v->from.data + first;
        a.n_whole = x->rows / mr * mr;
        a.step = a.row = v->row;
        moi_gemm_copy(
            x->rows - a.n_whole, depth, mr, v, first + a.n_whole * v->row, v->row, p->packed_a);
    }
    return a;
}

/* A block of A times the packed block of B, k deep, into the n columns of C from c on; each tile
 * fetches a part of ahead. */
static void moi_gemm_block(const moi_gemm_product *p, const moi_gemm_block_a *a, size_t m, size_t n,
    size_t k, float beta, float *c, const moi_gemm_ahead *ahead) {
    const size_t mr = p->kernel.mr, nr = p->kernel.nr;
    size_t tile = 0;
    for (size_t j = 0; j < n; j += nr)
        for (size_t i = 0; i < m; i += mr, tile++) {
            const int whole = i < a->n_whole;
            const float *at = whole ? a->whole + i * a->step : a->last, *bt = p->packed_b + j * k;
            const size_t row = whole ? a->row : k;
            float *ct = c + i * p->ldc + j;
            const moi_gemm_stream part = moi_gemm_stream_of(ahead, tile, at);
            if (m - i >= mr && n - j >= nr)
                p->kernel.tile(k, at, row, bt, p->alpha, beta, ct, p->ldc, part);
            else
                moi_gemm_edge(&p->kernel, moi_min(mr, m - i), moi_min(nr, n - j), k, at, row, bt,
                    p->alpha, beta, ct, p->ldc, part);
        }
}

/* Takes what a block has and the one before had not, and multiplies it. Where A has few rows, B is
 * packed for little work, and that would wait for memory: the next block is fetched meanwhile. */
static void moi_gemm_run(const moi_gemm_product *p) {
    moi_gemm_place at = {0, 0, 0}, next = at;
    moi_gemm_block_a block_a = {NULL, NULL, 0, 0, 0};
    int new_a = 1, new_b = 1, more = 1;
    while (more) {
        const moi_gemm_part a = moi_gemm_part_a(p, &at), b = moi_gemm_part_b(p, &at);
        if (new_a) block_a = moi_gemm_take_a(p, &a);
        if (new_b)
            moi_gemm_pack(b.columns, b.rows, p->kernel.nr, b.view, moi_gemm_part_first(&b),
                b.view->column, b.view->row, p->packed_b);
        more = moi_gemm_next(p, &next);
        new_a = next.row != at.row || next.depth != at.depth;
        new_b = next.column != at.column || next.depth != at.depth;
        moi_gemm_ahead ahead;
        memset(&ahead, 0, sizeof ahead);
        if (more && new_b && p->few_rows) {
            const moi_gemm_part next_b = moi_gemm_part_b(p, &next);
            ahead = moi_gemm_ahead_of(&next_b, a.columns);
        }
        moi_gemm_block(p, &block_a, a.rows, b.columns, a.columns, at.depth == 0 ? p->beta : 1.0f,
            p->c + at.row * p->ldc + at.column, &ahead);
        at = next;
    }
}

static void moi_gemm_views(size_t m, size_t n, size_t k, float alpha, const moi_gemm_view *a,
    const moi_gemm_view *b, float beta, float *c, size_t ldc, moi_gemm_panels panels,
    float *workspace) {
    const int few_rows = m <= panels.rows;
    if (few_rows) panels.columns = moi_min(panels.columns, moi_gemm_few_columns);
    const moi_gemm_product p = {moi_gemm_select(), m, n, k, alpha, beta, a, b, c, ldc, panels,
        few_rows, workspace,
        workspace +
            (moi_min(m, panels.rows) + moi_gemm_max_mr) * moi_min(k, moi_gemm_depth) / 16 * 16 +
            16};
    moi_gemm_run(&p);
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
