/* mo_cl_loss.c - see mo_cl_loss.h. */

static size_t moi_cl_loss_chunk(const mo_cl_linear_ce_desc *d) {
    return d->chunk_rows == 0 || d->chunk_rows > d->rows ? d->rows : d->chunk_rows;
}

size_t mo_cl_linear_ce_workspace_size(const mo_cl_linear_ce_desc *desc) {
    size_t n;
    if (!desc || !moi_mul(desc->vocab, moi_cl_loss_chunk(desc), &n)) return 0;
    return moi_mul(n, sizeof(float), &n) ? n : 0;
}

/* ---- the sweep ----------------------------------------------------------------------------- */

/* Whether the scale is 1 / rows that count, which the device has to count. */
static int moi_cl_loss_counts(const mo_cl_linear_ce_desc *d, const mo_cl_linear_ce_tensors *t) {
    return d->ignore && d->scale == 0.0f && t->targets.buffer;
}

static int moi_cl_loss_has(const mo_cl_mem *mem, int needed, uint64_t n) {
    return mem->buffer || needed ? moi_cl_has_floats(mem, n) : 1;
}

static mo_status moi_cl_loss_check(const mo_cl_linear_ce_desc *d, const mo_cl_linear_ce_tensors *t,
    size_t needed, int has_targets, int has_losses) {
    size_t x, w;
    if (!d->env || !d->env->cl || d->rows == 0 || d->vocab == 0 ||
        !(d->label_smoothing >= 0.0f && d->label_smoothing <= 1.0f))
        return MO_E_INVALID;
    mo_status status = moi_cl_matrix(d->rows, d->channels, &x);
    if (status == MO_OK) status = moi_cl_matrix(d->vocab, d->channels, &w);
    if (status != MO_OK) return status;
    if (!moi_cl_has_floats(&t->x, x) || !moi_cl_has_floats(&t->w, w) ||
        !moi_cl_loss_has(&t->targets, has_targets, d->rows) ||
        !moi_cl_loss_has(&t->losses, has_losses, d->rows) || !moi_cl_loss_has(&t->dx, 0, x) ||
        !moi_cl_loss_has(&t->dw, 0, w) || !moi_cl_loss_has(&t->weights, 0, d->rows) ||
        !moi_cl_loss_has(&t->counted, moi_cl_loss_counts(d, t), 1))
        return MO_E_INVALID;
    if (needed == 0 || d->vocab > INT32_MAX || d->rows > UINT32_MAX) return MO_E_OVERFLOW;
    return moi_cl_has_floats(&d->workspace, needed / sizeof(float)) ? MO_OK : MO_E_NO_SPACE;
}

static mo_cl_mem moi_cl_rows_of(const mo_cl_mem *mem, size_t row, size_t rows, size_t columns) {
    return mo_cl_part(mem, (uint64_t)row * columns * 4, (uint64_t)rows * columns * 4);
}

/* A tensor of one number a row; what is not there is a buffer that is not read. */
static void moi_cl_loss_row_arg(
    moi_cl_call *call, const moi_cl_loss_sweep *s, const mo_cl_mem *mem, size_t row, size_t rows) {
    const mo_cl_mem part = moi_cl_rows_of(mem->buffer ? mem : &s->tensors->losses, row, rows, 1);
    moi_cl_mem_arg(call, &part, 4, rows);
}

static void moi_cl_loss_args(
    moi_cl_call *call, const moi_cl_loss_sweep *sweep, size_t row, size_t rows) {
    const mo_cl_linear_ce_desc *d = sweep->desc;
    const mo_cl_linear_ce_tensors *t = sweep->tensors;
    const int counts = moi_cl_loss_counts(d, t);
    moi_cl_mem_arg(call, &d->workspace, sizeof(float), (uint64_t)rows * d->vocab);
    moi_cl_loss_row_arg(call, sweep, &t->targets, row, rows);
    moi_cl_loss_row_arg(call, sweep, &t->losses, row, rows);
    moi_cl_loss_row_arg(call, sweep, &t->weights, row, rows);
    moi_cl_mem_arg(call, counts ? &t->counted : &t->losses, 4, 1);
    moi_cl_u32_arg(call, (uint32_t)d->vocab);
    moi_cl_f32_arg(call, d->scale == 0.0f ? 1.0f / (float)d->rows : d->scale);
    moi_cl_f32_arg(call, d->label_smoothing);
    moi_cl_f32_arg(call, d->z_loss);
    moi_cl_u32_arg(call, (uint32_t)d->ignore_index);
    moi_cl_u32_arg(call,
        (d->ignore ? 1u : 0u) | (t->weights.buffer ? 2u : 0u) | (counts ? 4u : 0u) |
            (t->targets.buffer ? 8u : 0u)); /* MO_LOSS_* of loss_row.cl */
}

static mo_status moi_cl_loss_count(
    const mo_cl_linear_ce_desc *d, const mo_cl_linear_ce_tensors *t) {
    moi_cl_call call = moi_cl_begin(d->env->cl, MOI_CL_mo_cl_linear_ce_count, NULL);
    moi_cl_mem_arg(&call, &t->targets, sizeof(int32_t), d->rows);
    moi_cl_mem_arg(&call, &t->counted, sizeof(uint32_t), 1);
    moi_cl_u32_arg(&call, (uint32_t)d->rows);
    moi_cl_u32_arg(&call, (uint32_t)d->ignore_index);
    moi_cl_u32_arg(&call, d->ignore ? 1u : 0u);
    return moi_cl_run(&call, 1);
}

/* Logits of a chunk, their losses, and the gradients. */
static mo_status moi_cl_loss_step(const moi_cl_loss_sweep *s, size_t row, size_t rows) {
    const mo_cl_linear_ce_desc *d = s->desc;
    const mo_cl_linear_ce_tensors *t = s->tensors;
    const mo_cl_mem x = moi_cl_rows_of(&t->x, row, rows, d->channels);
    mo_gemm_desc product = {rows, d->vocab, d->channels, 0, 1, 0, 0, 0, 0, 0};
    mo_status status = mo_cl_gemm(d->env, &product, x, t->w, d->workspace);
    if (status == MO_OK) status = s->rows(s, row, rows);
    if (status != MO_OK || !t->dx.buffer) return status;
    mo_gemm_desc to_x = {rows, d->channels, d->vocab, 0, 0, 0, 0, 0, 0, 0};
    status = mo_cl_gemm(
        d->env, &to_x, d->workspace, t->w, moi_cl_rows_of(&t->dx, row, rows, d->channels));
    if (status != MO_OK || !t->dw.buffer) return status;
    mo_gemm_desc to_w = {d->vocab, d->channels, rows, 1, 0, 0, 0, 0, 0, 1.0f};
    return mo_cl_gemm(d->env, &to_w, d->workspace, x, t->dw);
}

static mo_status moi_cl_loss_run(const moi_cl_loss_sweep *sweep) {
    const mo_cl_linear_ce_desc *d = sweep->desc;
    const mo_cl_linear_ce_tensors *t = sweep->tensors;
    const size_t chunk = moi_cl_loss_chunk(d);
    mo_status status = MO_OK;
    if (t->counted.buffer && t->targets.buffer) status = moi_cl_loss_count(d, t);
    for (size_t row = 0; row < d->rows && status == MO_OK; row += chunk) {
        const size_t left = d->rows - row;
        status = moi_cl_loss_step(sweep, row, left < chunk ? left : chunk);
    }
    return status;
}

/* ---- cross-entropy ------------------------------------------------------------------------- */

static mo_status moi_cl_loss_ce_rows(const moi_cl_loss_sweep *sweep, size_t row, size_t rows) {
    moi_cl_call call = moi_cl_begin(sweep->desc->env->cl, MOI_CL_mo_cl_linear_ce_rows,
        sweep->tensors->dx.buffer ? "-DMO_GRADIENT=1" : "-DMO_GRADIENT=0");
    moi_cl_loss_args(&call, sweep, row, rows);
    return moi_cl_run(&call, rows);
}

mo_status mo_cl_linear_ce(
    const mo_cl_linear_ce_desc *desc, const mo_cl_linear_ce_tensors *tensors, double *loss) {
    const moi_cl_loss_sweep sweep = {desc, tensors, moi_cl_loss_ce_rows, NULL};
    if (!desc || !tensors) return MO_E_INVALID;
    mo_status status = moi_cl_loss_check(desc, tensors, mo_cl_linear_ce_workspace_size(desc), 1, 1);
    if (status == MO_OK) status = moi_cl_loss_run(&sweep);
    return status == MO_OK ? moi_cl_loss_get(desc, tensors, loss) : status;
}

/* ---- reading ------------------------------------------------------------------------------- */

static mo_status moi_cl_loss_fetch(
    mo_cl *cl, const mo_cl_mem *losses, size_t row, size_t n, float *to) {
    const cl_int code = clEnqueueReadBuffer(cl->queues[MO_CL_COMPUTE], losses->buffer, CL_TRUE,
        (size_t)losses->off + row * sizeof(float), n * sizeof(float), to, 0, NULL, NULL);
    if (code != CL_SUCCESS) return moi_cl_fail(&cl->log, "clEnqueueReadBuffer", code, "losses");
    for (size_t i = 0; i < n; i++) {
        if (moi_float_bits(to[i]) != 0xff7fffffu) continue; /* -FLT_MAX */
        moi_cl_say(&cl->log, MO_LOG_ERROR, "cl: a target is outside the vocabulary");
        return MO_E_INVALID;
    }
    return MO_OK;
}

static mo_status moi_cl_loss_sum(mo_cl *cl, const mo_cl_mem *losses, size_t rows, double *sum) {
    float part[1024];
    mo_status status = MO_OK;
    *sum = 0;
    for (size_t row = 0; row < rows && status == MO_OK; row += 1024) {
        const size_t n = rows - row < 1024 ? rows - row : 1024;
        status = moi_cl_loss_fetch(cl, losses, row, n, part);
        for (size_t i = 0; i < n && status == MO_OK; i++) *sum += (double)part[i];
    }
    return status;
}

static mo_status moi_cl_loss_get(
    const mo_cl_linear_ce_desc *d, const mo_cl_linear_ce_tensors *t, double *loss) {
    mo_cl *cl = d->env->cl;
    uint32_t counted = (uint32_t)d->rows;
    double sum;
    if (!loss) return MO_OK;
    const mo_status status = moi_cl_loss_sum(cl, &t->losses, d->rows, &sum);
    if (status != MO_OK) return status;
    if (moi_cl_loss_counts(d, t)) {
        const cl_int code = clEnqueueReadBuffer(cl->queues[MO_CL_COMPUTE], t->counted.buffer,
            CL_TRUE, (size_t)t->counted.off, sizeof counted, &counted, 0, NULL, NULL);
        if (code != CL_SUCCESS)
            return moi_cl_fail(&cl->log, "clEnqueueReadBuffer", code, "counted");
    }
    *loss = d->scale != 0.0f ? sum * (double)d->scale : counted ? sum / (double)counted : 0;
    return MO_OK;
}

mo_status mo_cl_linear_ce_read(
    mo_cl *cl, mo_cl_mem losses, size_t rows, float scale, double *loss) {
    double sum;
    if (!cl || !cl->context || !loss || rows == 0 || !moi_cl_has_floats(&losses, rows))
        return MO_E_INVALID;
    const mo_status status = moi_cl_loss_sum(cl, &losses, rows, &sum);
    if (status == MO_OK) *loss = sum * (scale == 0.0f ? 1.0 / (double)rows : (double)scale);
    return status;
}
