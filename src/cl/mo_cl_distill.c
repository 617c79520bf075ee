/* mo_cl_distill.c - see mo_cl_distill.h. */

static size_t moi_cl_kd_index_size(size_t vocab) { return vocab <= 65536 ? 2 : 4; }
static float moi_cl_kd_temperature(float t) { return t == 0.0f ? 2.0f : t; }
static float moi_cl_kd_weight(float weight) { return weight == 0.0f ? 0.5f : weight; }

/* Whether n elements are inside mem, at a place that one of this size can have. */
static int moi_cl_kd_has(const mo_cl_mem *mem, size_t size, size_t n) {
    return mem->buffer && mem->off % size == 0 && n <= mem->size / size;
}

/* Rows row.. of a matrix whose elements have size bytes. */
static mo_cl_mem moi_cl_kd_rows_of(
    const mo_cl_mem *mem, size_t row, size_t rows, size_t columns, size_t size) {
    return mo_cl_part(mem, (uint64_t)row * columns * size, (uint64_t)rows * columns * size);
}

/* ---- the student --------------------------------------------------------------------------- */

size_t mo_cl_linear_kd_workspace_size(const mo_cl_linear_kd_desc *desc) {
    size_t n, size = desc ? mo_cl_linear_ce_workspace_size(&desc->ce) : 0;
    if (size == 0) return 0;
    if (!moi_mul(desc->k ? desc->k : desc->ce.vocab, moi_cl_loss_chunk(&desc->ce), &n)) return 0;
    return moi_mul(n, sizeof(float), &n) && moi_add(size, n, &n) ? n : 0;
}

static size_t moi_cl_kd_channels(const mo_cl_linear_kd_desc *d) {
    return d->teacher_channels ? d->teacher_channels : d->ce.channels;
}

/* Whether the teacher is there, or what is written down of it. */
static mo_status moi_cl_kd_teacher(
    const mo_cl_linear_kd_desc *d, const mo_cl_linear_kd_tensors *t) {
    size_t x, w;
    if (d->k) {
        if (!moi_mul(d->ce.rows, d->k, &x) || x > SIZE_MAX / 8) return MO_E_OVERFLOW;
        return moi_cl_kd_has(&t->indices, moi_cl_kd_index_size(d->ce.vocab), x) &&
                moi_cl_kd_has(&t->log_probs, 2, x)
            ? MO_OK
            : MO_E_INVALID;
    }
    mo_status status = moi_cl_matrix(d->ce.rows, moi_cl_kd_channels(d), &x);
    if (status == MO_OK) status = moi_cl_matrix(d->ce.vocab, moi_cl_kd_channels(d), &w);
    if (status != MO_OK) return status;
    return moi_cl_has_floats(&t->teacher_x, x) && moi_cl_has_floats(&t->teacher_w, w)
        ? MO_OK
        : MO_E_INVALID;
}

static mo_status moi_cl_kd_check(const mo_cl_linear_kd_desc *d, const mo_cl_linear_kd_tensors *t) {
    if (!d || !t || d->k > d->ce.vocab || !(d->temperature >= 0.0f) ||
        !(d->weight >= 0.0f && d->weight <= 1.0f))
        return MO_E_INVALID;
    const mo_status status = moi_cl_loss_check(
        &d->ce, &t->ce, mo_cl_linear_kd_workspace_size(d), moi_cl_kd_weight(d->weight) != 1.0f, 1);
    return status == MO_OK ? moi_cl_kd_teacher(d, t) : status;
}

typedef struct moi_cl_kd_call {
    const mo_cl_linear_kd_desc *desc;
    const mo_cl_linear_kd_tensors *tensors;
} moi_cl_kd_call;

/* What the workspace holds behind the student's logits. */
static mo_cl_mem moi_cl_kd_space(const mo_cl_linear_kd_desc *d) {
    const uint64_t size = mo_cl_linear_ce_workspace_size(&d->ce);
    return mo_cl_part(&d->ce.workspace, size, mo_cl_linear_kd_workspace_size(d) - size);
}

static void moi_cl_kd_args(
    moi_cl_call *call, const moi_cl_loss_sweep *sweep, size_t row, size_t rows) {
    const mo_cl_linear_kd_desc *d = ((const moi_cl_kd_call *)sweep->self)->desc;
    moi_cl_loss_args(call, sweep, row, rows);
    moi_cl_f32_arg(call, moi_cl_kd_temperature(d->temperature));
    moi_cl_f32_arg(call, moi_cl_kd_weight(d->weight));
}

static mo_status moi_cl_kd_full_rows(const moi_cl_loss_sweep *sweep, size_t row, size_t rows) {
    const moi_cl_kd_call *c = (const moi_cl_kd_call *)sweep->self;
    const mo_cl_linear_kd_desc *d = c->desc;
    const size_t channels = moi_cl_kd_channels(d);
    const mo_cl_mem teacher = moi_cl_kd_space(d);
    mo_gemm_desc product = {rows, d->ce.vocab, channels, 0, 1, 0, 0, 0, 0, 0};
    const mo_status status =
        mo_cl_gemm(d->ce.env, &product, moi_cl_rows_of(&c->tensors->teacher_x, row, rows, channels),
            c->tensors->teacher_w, teacher);
    if (status != MO_OK) return status;
    moi_cl_call call = moi_cl_begin(d->ce.env->cl, MOI_CL_mo_cl_linear_kd_rows,
        sweep->tensors->dx.buffer ? "-DMO_GRADIENT=1 -DMO_WIDE=0" : "-DMO_GRADIENT=0 -DMO_WIDE=0");
    moi_cl_kd_args(&call, sweep, row, rows);
    moi_cl_mem_arg(&call, &teacher, sizeof(float), (uint64_t)rows * d->ce.vocab);
    return moi_cl_run(&call, rows);
}

static const char *moi_cl_kd_options(int gradient, size_t index_size) {
    static const char *const options[2][2] = {
        {"-DMO_GRADIENT=0 -DMO_WIDE=0", "-DMO_GRADIENT=1 -DMO_WIDE=0"},
        {"-DMO_GRADIENT=0 -DMO_WIDE=1", "-DMO_GRADIENT=1 -DMO_WIDE=1"}};
    return options[index_size == 4][gradient];
}

static mo_status moi_cl_kd_topk_rows(const moi_cl_loss_sweep *sweep, size_t row, size_t rows) {
    const moi_cl_kd_call *c = (const moi_cl_kd_call *)sweep->self;
    const mo_cl_linear_kd_desc *d = c->desc;
    const size_t size = moi_cl_kd_index_size(d->ce.vocab), n = rows * d->k;
    const mo_cl_mem kept = moi_cl_kd_space(d);
    const mo_cl_mem indices = moi_cl_kd_rows_of(&c->tensors->indices, row, rows, d->k, size);
    const mo_cl_mem log_probs = moi_cl_kd_rows_of(&c->tensors->log_probs, row, rows, d->k, 2);
    moi_cl_call call = moi_cl_begin(d->ce.env->cl, MOI_CL_mo_cl_linear_kd_topk_rows,
        moi_cl_kd_options(sweep->tensors->dx.buffer != NULL, size));
    moi_cl_kd_args(&call, sweep, row, rows);
    moi_cl_mem_arg(&call, &kept, sizeof(float), n);
    moi_cl_mem_arg(&call, &indices, size, n);
    moi_cl_mem_arg(&call, &log_probs, 2, n);
    moi_cl_u32_arg(&call, (uint32_t)d->k);
    return moi_cl_run(&call, rows);
}

mo_status mo_cl_linear_kd(
    const mo_cl_linear_kd_desc *desc, const mo_cl_linear_kd_tensors *tensors, double *loss) {
    mo_status status = moi_cl_kd_check(desc, tensors);
    if (status != MO_OK) return status;
    const moi_cl_kd_call call = {desc, tensors};
    const moi_cl_loss_sweep sweep = {
        &desc->ce, &tensors->ce, desc->k ? moi_cl_kd_topk_rows : moi_cl_kd_full_rows, &call};
    status = moi_cl_loss_run(&sweep);
    return status == MO_OK ? moi_cl_loss_get(&desc->ce, &tensors->ce, loss) : status;
}

/* ---- the teacher, written down ------------------------------------------------------------- */

typedef struct moi_cl_topk_call {
    const mo_cl_linear_kd_topk_desc *desc;
    const mo_cl_mem *indices, *log_probs;
} moi_cl_topk_call;

static mo_cl_linear_ce_desc moi_cl_topk_ce(const mo_cl_linear_kd_topk_desc *d) {
    mo_cl_linear_ce_desc ce;
    memset(&ce, 0, sizeof ce);
    ce.rows = d->rows;
    ce.channels = d->channels;
    ce.vocab = d->vocab;
    ce.chunk_rows = d->chunk_rows;
    ce.env = d->env;
    ce.workspace = d->workspace;
    return ce;
}

size_t mo_cl_linear_kd_topk_workspace_size(const mo_cl_linear_kd_topk_desc *desc) {
    if (!desc) return 0;
    const mo_cl_linear_ce_desc ce = moi_cl_topk_ce(desc);
    return mo_cl_linear_ce_workspace_size(&ce);
}

static mo_status moi_cl_topk_rows(const moi_cl_loss_sweep *sweep, size_t row, size_t rows) {
    const moi_cl_topk_call *c = (const moi_cl_topk_call *)sweep->self;
    const mo_cl_linear_kd_topk_desc *d = c->desc;
    const size_t size = moi_cl_kd_index_size(d->vocab);
    const mo_cl_mem indices = moi_cl_kd_rows_of(c->indices, row, rows, d->k, size);
    const mo_cl_mem log_probs = moi_cl_kd_rows_of(c->log_probs, row, rows, d->k, 2);
    moi_cl_call call =
        moi_cl_begin(d->env->cl, MOI_CL_mo_cl_linear_kd_topk, moi_cl_kd_options(0, size));
    moi_cl_mem_arg(&call, &d->workspace, sizeof(float), (uint64_t)rows * d->vocab);
    moi_cl_mem_arg(&call, &indices, size, (uint64_t)rows * d->k);
    moi_cl_mem_arg(&call, &log_probs, 2, (uint64_t)rows * d->k);
    moi_cl_u32_arg(&call, (uint32_t)d->vocab);
    moi_cl_u32_arg(&call, (uint32_t)d->k);
    moi_cl_f32_arg(&call, moi_cl_kd_temperature(d->temperature));
    return moi_cl_run(&call, rows);
}

mo_status mo_cl_linear_kd_topk(const mo_cl_linear_kd_topk_desc *desc, mo_cl_mem x, mo_cl_mem w,
    mo_cl_mem indices, mo_cl_mem log_probs) {
    size_t n;
    if (!desc || desc->k == 0 || desc->k > desc->vocab || !(desc->temperature >= 0.0f))
        return MO_E_INVALID;
    const mo_cl_linear_ce_desc ce = moi_cl_topk_ce(desc);
    const moi_cl_topk_call call = {desc, &indices, &log_probs};
    mo_cl_linear_ce_tensors tensors;
    memset(&tensors, 0, sizeof tensors);
    tensors.x = x;
    tensors.w = w;
    const mo_status status =
        moi_cl_loss_check(&ce, &tensors, mo_cl_linear_kd_topk_workspace_size(desc), 0, 0);
    if (status != MO_OK) return status;
    if (!moi_mul(desc->rows, desc->k, &n) || n > SIZE_MAX / 8) return MO_E_OVERFLOW;
    if (!moi_cl_kd_has(&indices, moi_cl_kd_index_size(desc->vocab), n) ||
        !moi_cl_kd_has(&log_probs, 2, n))
        return MO_E_INVALID;
    const moi_cl_loss_sweep sweep = {&ce, &tensors, moi_cl_topk_rows, &call};
    return moi_cl_loss_run(&sweep);
}
