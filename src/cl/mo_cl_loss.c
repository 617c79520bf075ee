/* mo_cl_loss.c - see mo_cl_loss.h. */

static size_t moi_cl_loss_chunk(const mo_cl_linear_ce_desc *d) {
    return d->chunk_rows == 0 || d->chunk_rows > d->rows ? d->rows : d->chunk_rows;
}

size_t mo_cl_linear_ce_workspace_size(const mo_cl_linear_ce_desc *desc) {
    size_t n;
    if (!desc || !moi_mul(desc->vocab, moi_cl_loss_chunk(desc), &n)) return 0;
    return moi_mul(n, sizeof(float), &n) ? n : 0;
}

/* Everything is checked before anything is enqueued. */
static mo_status moi_cl_loss_check(
    const mo_cl_linear_ce_desc *d, const mo_cl_linear_ce_tensors *t) {
    size_t x, w;
    if (!d || !t || !d->env || !d->env->cl || d->rows == 0 || d->vocab == 0) return MO_E_INVALID;
    mo_status status = moi_cl_matrix(d->rows, d->channels, &x);
    if (status == MO_OK) status = moi_cl_matrix(d->vocab, d->channels, &w);
    if (status != MO_OK) return status;
    if (!moi_cl_has_floats(&t->x, x) || !moi_cl_has_floats(&t->w, w) ||
        !moi_cl_has_floats(&t->targets, d->rows) || !moi_cl_has_floats(&t->losses, d->rows) ||
        (t->dx.buffer && !moi_cl_has_floats(&t->dx, x)) ||
        (t->dw.buffer && !moi_cl_has_floats(&t->dw, w)))
        return MO_E_INVALID;
    const size_t bytes = mo_cl_linear_ce_workspace_size(d);
    if (bytes == 0 || d->vocab > INT32_MAX) return MO_E_OVERFLOW;
    return moi_cl_has_floats(&d->workspace, bytes / sizeof(float)) ? MO_OK : MO_E_NO_SPACE;
}

/* Rows row.. of a matrix of columns. */
static mo_cl_mem moi_cl_rows_of(const mo_cl_mem *mem, size_t row, size_t rows, size_t columns) {
    return mo_cl_part(mem, (uint64_t)row * columns * 4, (uint64_t)rows * columns * 4);
}

static mo_status moi_cl_loss_rows(const mo_cl_linear_ce_desc *d, const mo_cl_linear_ce_tensors *t,
    size_t row, size_t rows, float scale) {
    const mo_cl_mem targets = moi_cl_rows_of(&t->targets, row, rows, 1);
    const mo_cl_mem losses = moi_cl_rows_of(&t->losses, row, rows, 1);
    moi_cl_call call = moi_cl_begin(d->env->cl, MOI_CL_mo_cl_linear_ce_rows,
        t->dx.buffer ? "-DMO_GRADIENT=1" : "-DMO_GRADIENT=0");
    moi_cl_mem_arg(&call, &d->workspace, sizeof(float), (uint64_t)rows * d->vocab);
    moi_cl_mem_arg(&call, &targets, sizeof(int32_t), rows);
    moi_cl_mem_arg(&call, &losses, sizeof(float), rows);
    moi_cl_u32_arg(&call, (uint32_t)d->vocab);
    moi_cl_f32_arg(&call, scale);
    return moi_cl_run(&call, rows);
}

/* Logits of a chunk, their losses, and the gradients. */
static mo_status moi_cl_loss_step(const mo_cl_linear_ce_desc *d, const mo_cl_linear_ce_tensors *t,
    size_t row, size_t rows, float scale) {
    const mo_cl_mem x = moi_cl_rows_of(&t->x, row, rows, d->channels);
    mo_gemm_desc product = {rows, d->vocab, d->channels, 0, 1, 0, 0, 0, 0, 0};
    mo_status status = mo_cl_gemm(d->env, &product, x, t->w, d->workspace);
    if (status == MO_OK) status = moi_cl_loss_rows(d, t, row, rows, scale);
    if (status != MO_OK || !t->dx.buffer) return status;
    mo_gemm_desc to_x = {rows, d->channels, d->vocab, 0, 0, 0, 0, 0, 0, 0};
    status = mo_cl_gemm(
        d->env, &to_x, d->workspace, t->w, moi_cl_rows_of(&t->dx, row, rows, d->channels));
    if (status != MO_OK || !t->dw.buffer) return status;
    mo_gemm_desc to_w = {d->vocab, d->channels, rows, 1, 0, 0, 0, 0, 0, 1.0f};
    return mo_cl_gemm(d->env, &to_w, d->workspace, x, t->dw);
}

mo_status mo_cl_linear_ce(
    const mo_cl_linear_ce_desc *desc, const mo_cl_linear_ce_tensors *tensors, double *loss) {
    mo_status status = moi_cl_loss_check(desc, tensors);
    if (status != MO_OK) return status;
    const size_t chunk = moi_cl_loss_chunk(desc);
    const float scale = desc->scale == 0.0f ? 1.0f / (float)desc->rows : desc->scale;
    for (size_t row = 0; row < desc->rows && status == MO_OK; row += chunk) {
        const size_t left = desc->rows - row;
        status = moi_cl_loss_step(desc, tensors, row, left < chunk ? left : chunk, scale);
    }
    if (status != MO_OK || !loss) return status;
    return mo_cl_linear_ce_read(desc->env->cl, tensors->losses, desc->rows, desc->scale, loss);
}

mo_status mo_cl_linear_ce_read(
    mo_cl *cl, mo_cl_mem losses, size_t rows, float scale, double *loss) {
    float part[1024];
    double sum = 0;
    int outside = 0;
    if (!cl || !cl->context || !loss || rows == 0 || !moi_cl_has_floats(&losses, rows))
        return MO_E_INVALID;
    for (size_t row = 0; row < rows; row += 1024) {
        const size_t n = rows - row < 1024 ? rows - row : 1024;
        cl_int code = clEnqueueReadBuffer(cl->queues[MO_CL_COMPUTE], losses.buffer, CL_TRUE,
            (size_t)losses.off + row * sizeof(float), n * sizeof(float), part, 0, NULL, NULL);
        if (code != CL_SUCCESS) return moi_cl_fail(&cl->log, "clEnqueueReadBuffer", code, "losses");
        for (size_t i = 0; i < n; i++) {
            outside |= part[i] == -1.0f;
            sum += (double)part[i];
        }
    }
    if (outside) {
        moi_cl_say(&cl->log, MO_LOG_ERROR, "cl: a target is outside the vocabulary");
        return MO_E_INVALID;
    }
    *loss = sum * (scale == 0.0f ? 1.0 / (double)rows : (double)scale);
    return MO_OK;
}
