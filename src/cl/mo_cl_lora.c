/* mo_cl_lora.c - see mo_cl_lora.h. Rows are cut as mo_lora.c cuts them. */

/* The same on the host, for sizes and the scale; what is there alone stays 0. */
static mo_lora_desc moi_cl_lora_like(const mo_cl_lora_desc *d) {
    mo_lora_desc like;
    memset(&like, 0, sizeof like);
    like.rows = d->rows;
    like.rank = d->rank;
    like.alpha = d->alpha;
    like.rslora = d->rslora;
    like.in_out = d->in_out;
    like.dropout = d->dropout;
    like.chunk_rows = d->chunk_rows;
    return like;
}

size_t mo_cl_lora_workspace_size(const mo_cl_lora_desc *desc, const mo_cl_weight *weight) {
    if (!desc || !weight) return 0;
    const mo_lora_desc like = moi_cl_lora_like(desc);
    const mo_weight w = moi_cl_weight_like(weight);
    return mo_lora_workspace_size(&like, &w);
}

size_t mo_cl_lora_merge_workspace_size(const mo_cl_lora_desc *desc, const mo_cl_weight *weight) {
    if (!desc || !weight) return 0;
    const mo_lora_desc like = moi_cl_lora_like(desc);
    const mo_weight w = moi_cl_weight_like(weight);
    return mo_lora_merge_workspace_size(&like, &w);
}

/* ---- kernels ------------------------------------------------------------------------------- */

mo_status mo_cl_lora_init(
    mo_cl *cl, size_t in, size_t out, size_t rank, uint64_t seed, mo_cl_mem a, mo_cl_mem b) {
    size_t n_a, n_b;
    if (!cl || in == 0 || out == 0 || rank == 0) return MO_E_INVALID;
    if (!moi_mul(in, rank, &n_a) || !moi_mul(out, rank, &n_b)) return MO_E_OVERFLOW;
    if (!moi_cl_has_floats(&a, n_a) || !moi_cl_has_floats(&b, n_b)) return MO_E_INVALID;
    moi_cl_call uniform = moi_cl_begin(cl, MOI_CL_mo_cl_lora_init, "-DMO_ADD=0");
    moi_cl_mem_arg(&uniform, &a, sizeof(float), n_a);
    moi_cl_u64_arg(&uniform, n_a);
    moi_cl_u64_arg(&uniform, seed);
    moi_cl_f32_arg(&uniform, (float)(1 / sqrt((double)in)));
    const mo_status status = moi_cl_run(&uniform, moi_cl_tiles(cl, n_a));
    if (status != MO_OK) return status;
    moi_cl_call zero = moi_cl_begin(cl, MOI_CL_mo_cl_fill_u32, NULL);
    moi_cl_mem_arg(&zero, &b, sizeof(float), n_b);
    moi_cl_u32_arg(&zero, 0);
    moi_cl_u64_arg(&zero, n_b);
    return moi_cl_run(&zero, moi_cl_tiles(cl, n_b));
}

/* Rows of x from row on as the adapter sees them, or what comes back from it added to them. */
static mo_status moi_cl_lora_drop(const mo_cl_lora_desc *d, int add, size_t in, size_t row,
    size_t rows, mo_cl_mem from, mo_cl_mem to) {
    mo_cl *cl = d->env->cl;
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_lora_drop, add ? "-DMO_ADD=1" : "-DMO_ADD=0");
    moi_cl_mem_arg(&call, &from, sizeof(float), rows * in);
    moi_cl_mem_arg(&call, &to, sizeof(float), rows * in);
    moi_cl_u64_arg(&call, rows * in);
    moi_cl_u64_arg(&call, d->seed);
    moi_cl_u64_arg(&call, (uint64_t)row * in);
    moi_cl_u32_arg(&call, (uint32_t)((double)d->dropout * 4294967296.0));
    moi_cl_f32_arg(&call, (float)(1 / (1 - (double)d->dropout)));
    return moi_cl_run(&call, moi_cl_tiles(cl, rows * in));
}

/* ---- forward and backward ------------------------------------------------------------------ */

typedef struct moi_cl_lora_job {
    const mo_cl_lora_desc *d;
    const mo_cl_lora_tensors *t;
    size_t in, out, y_stride, dx_stride, chunk;
    float scale;
    mo_cl_mem h, between, dropped;
    mo_cl_gemm_operand weight;
} moi_cl_lora_job;

/* So many floats at the beginning of rest, which moves behind them. */
static mo_cl_mem moi_cl_lora_carve(mo_cl_mem *rest, size_t n) {
    const size_t bytes = (n * sizeof(float) + MOI_CACHE_LINE - 1) & ~(size_t)(MOI_CACHE_LINE - 1);
    const mo_cl_mem part = mo_cl_part(rest, 0, bytes);
    *rest = moi_cl_weight_from(*rest, bytes);
    return part;
}

static mo_cl_mem moi_cl_lora_rows(mo_cl_mem mem, size_t row, size_t columns) {
    return moi_cl_weight_from(mem, (uint64_t)row * columns * sizeof(float));
}

static mo_status moi_cl_lora_begin(moi_cl_lora_job *job, const mo_cl_lora_desc *d,
    const mo_cl_lora_tensors *t, const mo_cl_mem *x) {
    if (!d || !t || !d->env || !d->env->cl || mo_cl_weight_size(t->weight) == 0)
        return MO_E_INVALID;
    if (d->rows == 0 || d->rank == 0 || !(d->dropout >= 0.0f && d->dropout < 1.0f))
        return MO_E_INVALID;
    const mo_lora_desc like = moi_cl_lora_like(d);
    const size_t bytes = mo_cl_lora_workspace_size(d, t->weight);
    mo_cl_mem rest = d->workspace;
    if (bytes == 0) return MO_E_OVERFLOW;
    if (!moi_cl_has_floats(&rest, bytes / sizeof(float))) return MO_E_NO_SPACE;
    memset(job, 0, sizeof *job);
    job->d = d;
    job->t = t;
    job->in = d->in_out ? t->weight->rows : t->weight->columns;
    job->out = d->in_out ? t->weight->columns : t->weight->rows;
    job->y_stride = d->y_stride == 0 ? job->out : d->y_stride;
    job->dx_stride = d->dx_stride == 0 ? job->in : d->dx_stride;
    if (job->y_stride < job->out || job->dx_stride < job->in) return MO_E_INVALID;
    job->chunk = d->chunk_rows == 0 ? 256 : d->chunk_rows;
    if (job->chunk > d->rows) job->chunk = d->rows;
    job->scale = mo_lora_scale(&like);
    size_t n_x;
    if (!moi_mul(d->rows, job->in, &n_x)) return MO_E_OVERFLOW;
    if ((x && !moi_cl_has_floats(x, n_x)) || !moi_cl_has_floats(&t->a, d->rank * job->in) ||
        !moi_cl_has_floats(&t->b, d->rank * job->out))
        return MO_E_INVALID;
    job->h = moi_cl_lora_carve(&rest, job->chunk * d->rank);
    job->between = moi_cl_lora_carve(&rest, job->chunk * d->rank);
    if (d->dropout != 0.0f) job->dropped = moi_cl_lora_carve(&rest, job->chunk * job->in);
    return mo_cl_weight_operand(d->env->cl, t->weight, rest, &job->weight);
}

static mo_gemm_desc moi_cl_lora_product(size_t m, size_t n, size_t k, float alpha, float beta) {
    mo_gemm_desc g;
    memset(&g, 0, sizeof g);
    g.m = m;
    g.n = n;
    g.k = k;
    g.alpha = alpha;
    g.beta = beta;
    return g;
}

/* x times the weight, or its transpose */
static mo_status moi_cl_lora_weight(
    const moi_cl_lora_job *job, int transposed, mo_cl_mem x, mo_cl_mem y) {
    const mo_cl_lora_desc *d = job->d;
    const size_t n = transposed ? job->out : job->in, k = transposed ? job->in : job->out;
    mo_gemm_desc g = moi_cl_lora_product(d->rows, n, k, 1.0f, d->add ? 1.0f : 0.0f);
    mo_cl_gemm_operand from;
    memset(&from, 0, sizeof from);
    from.data = x;
    g.trans_b = transposed != (d->in_out != 0);
    g.lda = transposed ? 0 : job->y_stride;
    g.ldc = transposed ? job->y_stride : job->dx_stride;
    return mo_cl_gemm_mixed(d->env, &g, &from, &job->weight, y);
}

/* What the adapter sees of rows of x from row on. */
static mo_status moi_cl_lora_seen(
    const moi_cl_lora_job *job, mo_cl_mem x, size_t row, size_t rows, mo_cl_mem *seen) {
    *seen = moi_cl_lora_rows(x, row, job->in);
    if (job->d->dropout == 0.0f) return MO_OK;
    const mo_status status = moi_cl_lora_drop(job->d, 0, job->in, row, rows, *seen, job->dropped);
    *seen = job->dropped;
    return status;
}

/* h = seen A^T */
static mo_status moi_cl_lora_down(const moi_cl_lora_job *job, mo_cl_mem seen, size_t rows) {
    mo_gemm_desc g = moi_cl_lora_product(rows, job->d->rank, job->in, 1.0f, 0.0f);
    g.trans_b = 1;
    return mo_cl_gemm(job->d->env, &g, seen, job->t->a, job->h);
}

mo_status mo_cl_lora_forward(
    const mo_cl_lora_desc *desc, const mo_cl_lora_tensors *tensors, mo_cl_mem x, mo_cl_mem y) {
    moi_cl_lora_job job;
    mo_status status = moi_cl_lora_begin(&job, desc, tensors, &x);
    if (status == MO_OK) status = moi_cl_lora_weight(&job, 1, x, y);
    for (size_t row = 0; status == MO_OK && row < desc->rows; row += job.chunk) {
        const size_t rows = moi_min(job.chunk, desc->rows - row);
        mo_gemm_desc up = moi_cl_lora_product(rows, job.out, desc->rank, job.scale, 1.0f);
        mo_cl_mem seen;
        up.trans_b = 1;
        up.ldc = job.y_stride;
        status = moi_cl_lora_seen(&job, x, row, rows, &seen);
        if (status == MO_OK) status = moi_cl_lora_down(&job, seen, rows);
        if (status == MO_OK)
            status = mo_cl_gemm(
                desc->env, &up, job.h, tensors->b, moi_cl_lora_rows(y, row, job.y_stride));
    }
    return status;
}

/* da += d^T seen and db += s dy^T h */
static mo_status moi_cl_lora_gradients(
    const moi_cl_lora_job *job, mo_cl_mem seen, mo_cl_mem dy, size_t rows) {
    const size_t rank = job->d->rank;
    mo_gemm_desc to_a = moi_cl_lora_product(rank, job->in, rows, 1.0f, 1.0f);
    mo_gemm_desc to_b = moi_cl_lora_product(job->out, rank, rows, job->scale, 1.0f);
    mo_status status = MO_OK;
    to_a.trans_a = to_b.trans_a = 1;
    to_b.lda = job->y_stride;
    if (job->t->da.buffer) status = mo_cl_gemm(job->d->env, &to_a, job->between, seen, job->t->da);
    if (status != MO_OK || !job->t->db.buffer) return status;
    status = moi_cl_lora_down(job, seen, rows);
    return status == MO_OK ? mo_cl_gemm(job->d->env, &to_b, dy, job->h, job->t->db) : status;
}

/* dx += drop(what is in job->dropped): all rows at once where they follow each other. */
static mo_status moi_cl_lora_add_dropped(
    const moi_cl_lora_job *job, size_t row, size_t rows, mo_cl_mem dx) {
    const size_t at_once = job->dx_stride == job->in ? rows : 1;
    mo_status status = MO_OK;
    for (size_t i = 0; i < rows && status == MO_OK; i += at_once)
        status = moi_cl_lora_drop(job->d, 1, job->in, row + i, at_once,
            moi_cl_lora_rows(job->dropped, i, job->in),
            moi_cl_lora_rows(dx, row + i, job->dx_stride));
    return status;
}

/* dx += drop(d A) for rows of dx from row on; what was seen of x is no longer needed. */
static mo_status moi_cl_lora_input(
    const moi_cl_lora_job *job, size_t row, size_t rows, mo_cl_mem dx) {
    const mo_cl_lora_desc *d = job->d;
    const int drops = d->dropout != 0.0f;
    mo_gemm_desc g = moi_cl_lora_product(rows, job->in, d->rank, 1.0f, drops ? 0.0f : 1.0f);
    if (!drops) g.ldc = job->dx_stride;
    const mo_status status = mo_cl_gemm(d->env, &g, job->between, job->t->a,
        drops ? job->dropped : moi_cl_lora_rows(dx, row, job->dx_stride));
    return status == MO_OK && drops ? moi_cl_lora_add_dropped(job, row, rows, dx) : status;
}

mo_status mo_cl_lora_backward(const mo_cl_lora_desc *desc, const mo_cl_lora_tensors *tensors,
    mo_cl_mem x, mo_cl_mem dy, mo_cl_mem dx) {
    moi_cl_lora_job job;
    const int gradients = tensors && (tensors->da.buffer || tensors->db.buffer);
    mo_status status = moi_cl_lora_begin(&job, desc, tensors, gradients ? &x : NULL);
    if (status == MO_OK && dx.buffer) status = moi_cl_lora_weight(&job, 0, dy, dx);
    for (size_t row = 0; status == MO_OK && row < desc->rows; row += job.chunk) {
        const size_t rows = moi_min(job.chunk, desc->rows - row);
        const mo_cl_mem from = moi_cl_lora_rows(dy, row, job.y_stride);
        mo_gemm_desc down = moi_cl_lora_product(rows, desc->rank, job.out, job.scale, 0.0f);
        mo_cl_mem seen;
        down.lda = job.y_stride;
        status = mo_cl_gemm(desc->env, &down, from, tensors->b, job.between);
        if (status == MO_OK && gradients) {
            status = moi_cl_lora_seen(&job, x, row, rows, &seen);
            if (status == MO_OK) status = moi_cl_lora_gradients(&job, seen, from, rows);
        }
        if (status == MO_OK && dx.buffer) status = moi_cl_lora_input(&job, row, rows, dx);
    }
    return status;
}

/* ---- merging ------------------------------------------------------------------------------- */

enum { moi_cl_lora_piece = 1 << 18 }; /* as in mo_lora.c */

/* sum = rows of the weight from first on + scale times those of B A, or of its transpose */
static mo_status moi_cl_lora_sum(const mo_cl_lora_desc *d, const mo_cl_weight *w, size_t first,
    size_t rows, float scale, mo_cl_mem a, mo_cl_mem b, mo_cl_mem sum) {
    mo_gemm_desc g = moi_cl_lora_product(rows, w->columns, d->rank, scale, 1.0f);
    mo_status status = moi_cl_weight_decode_part(d->env->cl, w, w->absmax, first, rows, sum);
    if (status != MO_OK) return status;
    if (!d->in_out) return mo_cl_gemm(d->env, &g, moi_cl_lora_rows(b, first, d->rank), a, sum);
    g.trans_a = g.trans_b = 1;
    g.lda = w->rows;
    return mo_cl_gemm(d->env, &g, moi_cl_lora_rows(a, first, 1), b, sum);
}

/* plain: the weight with its scales as floats */
static mo_status moi_cl_lora_merge_all(const mo_cl_lora_desc *d, const mo_cl_weight *plain,
    float scale, mo_cl_mem a, mo_cl_mem b, mo_cl_mem sum) {
    const size_t n = plain->rows * plain->columns, columns = plain->columns;
    const size_t unit = moi_cl_weight_is_4bit(plain) ? moi_cl_weight_block(plain) : columns;
    const size_t step = moi_max((size_t)moi_cl_lora_piece / unit, 1) * unit;
    mo_status status = MO_OK;
    for (size_t at = 0; at < n && status == MO_OK; at += step) {
        const size_t part = moi_min(step, n - at), first = at / columns;
        const size_t rows = (at + part + columns - 1) / columns - first;
        status = moi_cl_lora_sum(d, plain, first, rows, scale, a, b, sum);
        if (status == MO_OK)
            status = moi_cl_weight_encode_part(d->env->cl, plain, plain->absmax, at, part,
                moi_cl_lora_rows(sum, at - first * columns, 1));
    }
    return status;
}

static mo_status moi_cl_lora_merge(
    const mo_cl_lora_desc *d, mo_cl_weight *w, int sign, mo_cl_mem a, mo_cl_mem b) {
    mo_cl_gemm_operand as_floats;
    if (!d || !d->env || !d->env->cl || d->rank == 0 || mo_cl_weight_size(w) == 0)
        return MO_E_INVALID;
    const size_t bytes = mo_cl_lora_merge_workspace_size(d, w);
    const size_t scales = mo_cl_weight_workspace_size(w);
    if (bytes == 0) return MO_E_OVERFLOW;
    if (!moi_cl_has_floats(&d->workspace, bytes / sizeof(float))) return MO_E_NO_SPACE;
    const mo_cl_mem sum = mo_cl_part(&d->workspace, 0, bytes - scales);
    const mo_cl_mem scratch = mo_cl_part(&d->workspace, bytes - scales, scales);
    mo_status status = mo_cl_weight_operand(d->env->cl, w, scratch, &as_floats);
    if (status != MO_OK) return status;
    const mo_lora_desc like = moi_cl_lora_like(d);
    mo_cl_weight plain = *w;
    plain.nested = 0;
    plain.absmax = as_floats.absmax;
    status = moi_cl_lora_merge_all(d, &plain, (float)sign * mo_lora_scale(&like), a, b, sum);
    if (status != MO_OK || !moi_cl_weight_is_nested(w)) return status;
    return mo_cl_quant_nested_encode(
        d->env->cl, scratch, moi_cl_weight_scales(w), w->codes, w->absmax2, &w->offset);
}

mo_status mo_cl_lora_merge(
    const mo_cl_lora_desc *desc, mo_cl_weight *weight, mo_cl_mem a, mo_cl_mem b) {
    return moi_cl_lora_merge(desc, weight, 1, a, b);
}
mo_status mo_cl_lora_unmerge(
    const mo_cl_lora_desc *desc, mo_cl_weight *weight, mo_cl_mem a, mo_cl_mem b) {
    return moi_cl_lora_merge(desc, weight, -1, a, b);
}
