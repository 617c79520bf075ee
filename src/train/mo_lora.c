/* mo_lora.c - see mo_lora.h. The weight's product takes all rows at once, so that it is decoded
 * once; the adapter's products take chunks of them, so that what lies between A and B is small. */

enum { moi_lora_chunk = 256, moi_lora_piece = 1 << 18 }; /* rows; numbers that are merged at once */

static size_t moi_lora_in(const mo_lora_desc *d, const mo_weight *w) {
    return d->in_out ? w->rows : w->columns;
}
static size_t moi_lora_out(const mo_lora_desc *d, const mo_weight *w) {
    return d->in_out ? w->columns : w->rows;
}

float mo_lora_scale(const mo_lora_desc *desc) {
    const double rank = (double)desc->rank, alpha = (double)desc->alpha;
    if (desc->alpha == 0.0f) return desc->rslora ? (float)sqrt(rank) : 1.0f;
    return (float)(alpha / (desc->rslora ? sqrt(rank) : rank));
}

static uint32_t moi_lora_bits(uint64_t seed, uint64_t i) {
    return moi_random_mix((uint32_t)i ^ moi_random_key(seed, i >> 32));
}

mo_status mo_lora_init(size_t in, size_t out, size_t rank, uint64_t seed, float *a, float *b) {
    size_t n_a, n_b;
    if (!a || !b || in == 0 || out == 0 || rank == 0) return MO_E_INVALID;
    if (!moi_mul(in, rank, &n_a) || !moi_mul(out, rank, &n_b)) return MO_E_OVERFLOW;
    const float bound = (float)(1 / sqrt((double)in));
    for (size_t i = 0; i < n_a; i++) /* exact up to the last product */
        a[i] = ((float)(moi_lora_bits(seed, i) >> 8) * 1.1920929e-7f - 1.0f) * bound;
    for (size_t i = 0; i < n_b; i++) b[i] = 0.0f;
    return MO_OK;
}

/* ---- dropout ------------------------------------------------------------------------------- */

/* Which numbers an adapter sees: number i of n is number first + i of x. */
typedef struct moi_lora_mask {
    uint64_t seed, first;
    uint32_t limit;
    float scale;
    const float *from;
    float *to;
    int add;
} moi_lora_mask;

static moi_lora_mask moi_lora_mask_of(const mo_lora_desc *d, uint64_t first) {
    moi_lora_mask mask;
    memset(&mask, 0, sizeof mask);
    mask.seed = d->seed;
    mask.first = first;
    mask.limit = (uint32_t)((double)d->dropout * 4294967296.0);
    mask.scale = (float)(1 / (1 - (double)d->dropout));
    return mask;
}

/* A run whose indices have the same upper half. */
static void moi_lora_drop_run(
    const moi_lora_mask *m, uint32_t low, uint32_t key, size_t begin, size_t n) {
    const float *MOI_RESTRICT from = m->from + begin;
    float *MOI_RESTRICT to = m->to + begin;
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = moi_random_mix((low + (uint32_t)i) ^ key);
        const float kept = bits >= m->limit ? from[i] * m->scale : 0.0f;
        to[i] = m->add ? to[i] + kept : kept;
    }
}

static void moi_lora_drop(const void *context, size_t begin, size_t end) {
    const moi_lora_mask *m = (const moi_lora_mask *)context;
    while (begin < end) {
        const uint64_t index = m->first + begin, left = 0x100000000u - (index & 0xffffffffu);
        const size_t n = end - begin < left ? end - begin : (size_t)left;
        moi_lora_drop_run(m, (uint32_t)index, moi_random_key(m->seed, index >> 32), begin, n);
        begin += n;
    }
}

/* ---- workspace ----------------------------------------------------------------------------- */

/* Where the parts of the workspace lie, in floats; h and d are [chunk x rank]. */
typedef struct moi_lora_parts {
    size_t chunk, h, d, dropped, scales, total;
} moi_lora_parts;

static int moi_lora_part(size_t n, size_t width, size_t *begin, size_t *total) {
    size_t floats;
    *begin = *total;
    return moi_mul(n, width, &floats) && floats <= SIZE_MAX / 8 &&
        moi_align_up(floats, MOI_CACHE_LINE / sizeof(float), &floats) &&
        moi_add(*total, floats, total) && *total <= SIZE_MAX / 8;
}

static int moi_lora_measure(const mo_lora_desc *d, const mo_weight *w, moi_lora_parts *p) {
    const size_t scales = mo_weight_workspace_size(w) / sizeof(float);
    memset(p, 0, sizeof *p);
    p->chunk = moi_min(d->rows, d->chunk_rows == 0 ? (size_t)moi_lora_chunk : d->chunk_rows);
    return moi_lora_part(p->chunk, d->rank, &p->h, &p->total) &&
        moi_lora_part(p->chunk, d->rank, &p->d, &p->total) &&
        moi_lora_part(
            d->dropout > 0.0f ? p->chunk : 0, moi_lora_in(d, w), &p->dropped, &p->total) &&
        moi_lora_part(scales, 1, &p->scales, &p->total);
}

size_t mo_lora_workspace_size(const mo_lora_desc *desc, const mo_weight *weight) {
    moi_lora_parts p;
    if (!desc || mo_weight_size(weight) == 0 || !moi_lora_measure(desc, weight, &p)) return 0;
    return p.total * sizeof(float);
}

/* ---- products ------------------------------------------------------------------------------ */

typedef struct moi_lora_job {
    const mo_lora_desc *d;
    const mo_lora_tensors *t;
    size_t in, out, y_stride, dx_stride;
    float scale;
    moi_lora_parts parts;
    float *h, *between, *dropped;
    mo_gemm_operand weight;
} moi_lora_job;

static mo_status moi_lora_begin(
    moi_lora_job *job, const mo_lora_desc *d, const mo_lora_tensors *t) {
    if (!d || !t || !d->env || !t->a || !t->b || mo_weight_size(t->weight) == 0)
        return MO_E_INVALID;
    if (d->rows == 0 || d->rank == 0 || !(d->dropout >= 0.0f && d->dropout < 1.0f))
        return MO_E_INVALID;
    memset(job, 0, sizeof *job);
    if (!moi_lora_measure(d, t->weight, &job->parts)) return MO_E_OVERFLOW;
    const size_t bytes = job->parts.total * sizeof(float);
    if (!d->workspace || d->workspace_size < bytes) return MO_E_NO_SPACE;
    float *workspace = (float *)d->workspace;
    job->d = d;
    job->t = t;
    job->in = moi_lora_in(d, t->weight);
    job->out = moi_lora_out(d, t->weight);
    job->y_stride = d->y_stride == 0 ? job->out : d->y_stride;
    job->dx_stride = d->dx_stride == 0 ? job->in : d->dx_stride;
    if (job->y_stride < job->out || job->dx_stride < job->in) return MO_E_INVALID;
    job->scale = mo_lora_scale(d);
    job->h = workspace + job->parts.h;
    job->between = workspace + job->parts.d;
    job->dropped = workspace + job->parts.dropped;
    return mo_weight_operand(t->weight, workspace + job->parts.scales,
        (job->parts.total - job->parts.scales) * sizeof(float), &job->weight);
}

static mo_gemm_desc moi_lora_product(size_t m, size_t n, size_t k, float alpha, float beta) {
    mo_gemm_desc g;
    memset(&g, 0, sizeof g);
    g.m = m;
    g.n = n;
    g.k = k;
    g.alpha = alpha;
    g.beta = beta;
    return g;
}

/* x times the weight, or its transpose; a BLAS reads floats only. */
static mo_status moi_lora_weight(
    const moi_lora_job *job, int transposed, const float *x, float *y) {
    const mo_lora_desc *d = job->d;
    const size_t n = transposed ? job->out : job->in, k = transposed ? job->in : job->out;
    mo_gemm_desc g = moi_lora_product(d->rows, n, k, 1.0f, d->add ? 1.0f : 0.0f);
    mo_gemm_env env = *d->env;
    const mo_gemm_operand from = moi_gemm_floats_at(x);
    if (job->weight.type != MO_GEMM_F32) env.cblas = NULL;
    g.trans_b = transposed != (d->in_out != 0);
    g.lda = transposed ? 0 : job->y_stride;
    g.ldc = transposed ? job->y_stride : job->dx_stride;
    return mo_gemm_mixed(&env, &g, &from, &job->weight, y);
}

/* What the adapter sees of rows of x from row on. */
static const float *moi_lora_seen(
    const moi_lora_job *job, const float *x, size_t row, size_t rows) {
    const mo_lora_desc *d = job->d;
    if (d->dropout == 0.0f) return x + row * job->in;
    moi_lora_mask mask = moi_lora_mask_of(d, (uint64_t)row * job->in);
    mask.from = x + row * job->in;
    mask.to = job->dropped;
    mo_parallel_for(d->env->parallel, rows * job->in, 4096, moi_lora_drop, &mask);
    return job->dropped;
}

/* h = seen A^T */
static mo_status moi_lora_down(const moi_lora_job *job, const float *seen, size_t rows) {
    mo_gemm_desc g = moi_lora_product(rows, job->d->rank, job->in, 1.0f, 0.0f);
    g.trans_b = 1;
    return mo_gemm(job->d->env, &g, seen, job->t->a, job->h);
}

mo_status mo_lora_forward(
    const mo_lora_desc *desc, const mo_lora_tensors *tensors, const float *x, float *y) {
    moi_lora_job job;
    mo_status status = moi_lora_begin(&job, desc, tensors);
    if (status == MO_OK) status = x && y ? moi_lora_weight(&job, 1, x, y) : MO_E_INVALID;
    for (size_t row = 0; status == MO_OK && row < desc->rows; row += job.parts.chunk) {
        const size_t rows = moi_min(job.parts.chunk, desc->rows - row);
        mo_gemm_desc up = moi_lora_product(rows, job.out, desc->rank, job.scale, 1.0f);
        up.trans_b = 1;
        up.ldc = job.y_stride;
        status = moi_lora_down(&job, moi_lora_seen(&job, x, row, rows), rows);
        if (status == MO_OK)
            status = mo_gemm(desc->env, &up, job.h, tensors->b, y + row * job.y_stride);
    }
    return status;
}

/* da += d^T seen and db += s dy^T h */
static mo_status moi_lora_gradients(
    const moi_lora_job *job, const float *seen, const float *dy, size_t rows) {
    const size_t rank = job->d->rank;
    mo_gemm_desc to_a = moi_lora_product(rank, job->in, rows, 1.0f, 1.0f);
    mo_gemm_desc to_b = moi_lora_product(job->out, rank, rows, job->scale, 1.0f);
    mo_status status = MO_OK;
    to_a.trans_a = to_b.trans_a = 1;
    to_b.lda = job->y_stride;
    if (job->t->da) status = mo_gemm(job->d->env, &to_a, job->between, seen, job->t->da);
    if (status != MO_OK || !job->t->db) return status;
    status = moi_lora_down(job, seen, rows);
    return status == MO_OK ? mo_gemm(job->d->env, &to_b, dy, job->h, job->t->db) : status;
}

/* dx += drop(what is in job->dropped): all rows at once where they follow each other. */
static void moi_lora_add_dropped(const moi_lora_job *job, size_t row, size_t rows, float *dx) {
    const mo_lora_desc *d = job->d;
    const size_t at_once = job->dx_stride == job->in ? rows : 1;
    for (size_t i = 0; i < rows; i += at_once) {
        moi_lora_mask mask = moi_lora_mask_of(d, (uint64_t)(row + i) * job->in);
        mask.from = job->dropped + i * job->in;
        mask.to = dx + (row + i) * job->dx_stride;
        mask.add = 1;
        mo_parallel_for(d->env->parallel, at_once * job->in, 4096, moi_lora_drop, &mask);
    }
}

/* dx += drop(d A) for rows of dx from row on; what was seen of x is no longer needed. */
static mo_status moi_lora_input(const moi_lora_job *job, size_t row, size_t rows, float *dx) {
    const mo_lora_desc *d = job->d;
    const int drops = d->dropout != 0.0f;
    mo_gemm_desc g = moi_lora_product(rows, job->in, d->rank, 1.0f, drops ? 0.0f : 1.0f);
    if (!drops) g.ldc = job->dx_stride;
    const mo_status status = mo_gemm(
        d->env, &g, job->between, job->t->a, drops ? job->dropped : dx + row * job->dx_stride);
    if (status == MO_OK && drops) moi_lora_add_dropped(job, row, rows, dx);
    return status;
}

mo_status mo_lora_backward(const mo_lora_desc *desc, const mo_lora_tensors *tensors, const float *x,
    const float *dy, float *dx) {
    moi_lora_job job;
    mo_status status = moi_lora_begin(&job, desc, tensors);
    const int gradients = status == MO_OK && (tensors->da || tensors->db);
    if (status == MO_OK && (!dy || (gradients && !x))) status = MO_E_INVALID;
    if (status == MO_OK && dx) status = moi_lora_weight(&job, 0, dy, dx);
    for (size_t row = 0; status == MO_OK && row < desc->rows; row += job.parts.chunk) {
        const size_t rows = moi_min(job.parts.chunk, desc->rows - row);
        const float *from = dy + row * job.y_stride;
        mo_gemm_desc down = moi_lora_product(rows, desc->rank, job.out, job.scale, 0.0f);
        down.lda = job.y_stride;
        status = mo_gemm(desc->env, &down, from, tensors->b, job.between);
        if (status == MO_OK && gradients)
            status = moi_lora_gradients(&job, moi_lora_seen(&job, x, row, rows), from, rows);
        if (status == MO_OK && dx) status = moi_lora_input(&job, row, rows, dx);
    }
    return status;
}

/* ---- merging ------------------------------------------------------------------------------- */

/* Numbers that are encoded at a time: whole rows, or with 4 bits whole blocks, whatever rows they
 * are in. sum holds all rows that they touch. */
typedef struct moi_lora_merging {
    size_t step, rows, sum, scales, total;
} moi_lora_merging;

static int moi_lora_merge_measure(const mo_weight *w, moi_lora_merging *m) {
    const size_t unit = moi_weight_is_4bit(w) ? (w->block == 0 ? 64 : w->block) : w->columns;
    memset(m, 0, sizeof *m);
    m->step = moi_max((size_t)moi_lora_piece / unit, 1) * unit;
    m->rows =
        moi_min(w->rows, moi_weight_is_4bit(w) ? m->step / w->columns + 2 : m->step / w->columns);
    return moi_lora_part(m->rows, w->columns, &m->sum, &m->total) &&
        moi_lora_part(mo_weight_workspace_size(w) / sizeof(float), 1, &m->scales, &m->total);
}

size_t mo_lora_merge_workspace_size(const mo_lora_desc *desc, const mo_weight *weight) {
    moi_lora_merging m;
    if (!desc || mo_weight_size(weight) == 0 || !moi_lora_merge_measure(weight, &m)) return 0;
    return m.total * sizeof(float);
}

/* sum = rows of the weight from first on + scale times those of B A, or of its transpose */
static mo_status moi_lora_sum(const mo_lora_desc *d, const mo_weight *w, size_t first, size_t rows,
    float scale, const float *a, const float *b, float *sum) {
    mo_gemm_desc g = moi_lora_product(rows, w->columns, d->rank, scale, 1.0f);
    mo_status status = mo_weight_decode(w, first, rows, sum, d->env->parallel);
    if (status != MO_OK) return status;
    if (!d->in_out) return mo_gemm(d->env, &g, b + first * d->rank, a, sum);
    g.trans_a = g.trans_b = 1;
    g.lda = w->rows;
    return mo_gemm(d->env, &g, a + first, b, sum);
}

/* plain: the weight with its scales as floats */
static mo_status moi_lora_merge_all(const mo_lora_desc *d, const mo_weight *plain,
    const moi_lora_merging *m, float scale, const float *a, const float *b) {
    const size_t n = plain->rows * plain->columns, columns = plain->columns;
    float *sum = (float *)d->workspace + m->sum;
    mo_status status = MO_OK;
    for (size_t at = 0; at < n && status == MO_OK; at += m->step) {
        const size_t part = moi_min(m->step, n - at), first = at / columns;
        const size_t rows = moi_ceil_div(at + part, columns) - first;
        status = moi_lora_sum(d, plain, first, rows, scale, a, b, sum);
        if (status == MO_OK)
            status = moi_weight_encode_part(
                plain, plain->absmax, at, part, sum + (at - first * columns), d->env->parallel);
    }
    return status;
}

static mo_status moi_lora_merge(
    const mo_lora_desc *d, mo_weight *w, int sign, const float *a, const float *b) {
    moi_lora_merging m;
    mo_gemm_operand as_floats;
    if (!d || !d->env || !a || !b || d->rank == 0 || mo_weight_size(w) == 0) return MO_E_INVALID;
    if (!moi_lora_merge_measure(w, &m)) return MO_E_OVERFLOW;
    if (!d->workspace || d->workspace_size < m.total * sizeof(float)) return MO_E_NO_SPACE;
    float *scales = (float *)d->workspace + m.scales;
    mo_status status =
        mo_weight_operand(w, scales, (m.total - m.scales) * sizeof(float), &as_floats);
    if (status != MO_OK) return status;
    mo_weight plain = *w;
    plain.nested = 0;
    if (moi_weight_is_nested(w)) plain.absmax = scales;
    status = moi_lora_merge_all(d, &plain, &m, (float)sign * mo_lora_scale(d), a, b);
    if (status != MO_OK || !moi_weight_is_nested(w)) return status;
    const size_t block = w->block == 0 ? 64 : w->block;
    return mo_quant_nested_encode(
        scales, moi_ceil_div(w->rows * w->columns, block), w->codes, w->absmax2, &w->offset);
}

mo_status mo_lora_merge(
    const mo_lora_desc *desc, mo_weight *weight, const float *a, const float *b) {
    return moi_lora_merge(desc, weight, 1, a, b);
}
mo_status mo_lora_unmerge(
    const mo_lora_desc *desc, mo_weight *weight, const float *a, const float *b) {
    return moi_lora_merge(desc, weight, -1, a, b);
}
