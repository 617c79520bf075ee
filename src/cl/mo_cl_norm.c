/* mo_cl_norm.c - see mo_cl_norm.h. */

size_t mo_cl_layernorm_workspace_size(const mo_cl *cl, const mo_cl_layernorm_desc *desc) {
    return cl && desc ? moi_cl_columns_bytes(desc->n, desc->channels, 2) : 0;
}

static mo_status moi_cl_layernorm_run(mo_cl *cl, const mo_cl_layernorm_desc *desc,
    const char *options, const mo_cl_mem *x, const mo_cl_mem *y) {
    size_t n;
    if (!cl || !desc) return MO_E_INVALID;
    mo_status status = moi_cl_matrix(desc->n, desc->channels, &n);
    if (status != MO_OK) return status;
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_layernorm_forward, options);
    moi_cl_mem_arg(&call, x, sizeof(float), n);
    moi_cl_mem_arg(&call, &desc->weight, sizeof(float), desc->channels);
    moi_cl_mem_arg(&call, &desc->bias, sizeof(float), desc->channels);
    moi_cl_mem_arg(&call, &desc->mean, sizeof(float), desc->n);
    moi_cl_mem_arg(&call, &desc->rstd, sizeof(float), desc->n);
    moi_cl_mem_arg(&call, y, sizeof(float), n);
    moi_cl_f32_arg(&call, desc->epsilon == 0.0f ? 1e-5f : desc->epsilon);
    moi_cl_u64_arg(&call, desc->n);
    moi_cl_u32_arg(&call, (uint32_t)desc->channels);
    return moi_cl_run(&call, moi_cl_row_groups(cl, desc->n));
}

mo_status mo_cl_layernorm_forward(
    mo_cl *cl, const mo_cl_layernorm_desc *desc, mo_cl_mem x, mo_cl_mem y) {
    return moi_cl_layernorm_run(cl, desc, "-DMO_STATS=1", &x, &y);
}

mo_status mo_cl_layernorm_apply(
    mo_cl *cl, const mo_cl_layernorm_desc *desc, mo_cl_mem x, mo_cl_mem y) {
    return moi_cl_layernorm_run(cl, desc, "-DMO_STATS=0", &x, &y);
}

/* dw and db of chunks of chunk_rows rows, or of all of them, added; one of them may be none. */
static mo_status moi_cl_layernorm_columns(mo_cl *cl, const mo_cl_layernorm_desc *d,
    const mo_cl_mem *x, const mo_cl_mem *dy, uint64_t chunk_rows, int add, const mo_cl_mem *dw,
    const mo_cl_mem *db) {
    const uint64_t chunks = d->n / chunk_rows + (d->n % chunk_rows != 0);
    const uint64_t n = (add ? 1 : chunks) * d->channels;
    const char *options = !dw->buffer ? "-DMO_ADD=1 -DMO_DW=0"
        : !db->buffer                 ? "-DMO_ADD=1 -DMO_DB=0"
        : add                         ? "-DMO_ADD=1"
                                      : "-DMO_ADD=0";
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_columns_norm, options);
    moi_cl_mem_arg(&call, x, sizeof(float), (uint64_t)d->n * d->channels);
    moi_cl_mem_arg(&call, dy, sizeof(float), (uint64_t)d->n * d->channels);
    moi_cl_mem_arg(&call, &d->mean, sizeof(float), d->n);
    moi_cl_mem_arg(&call, &d->rstd, sizeof(float), d->n);
    moi_cl_mem_arg(&call, dw->buffer ? dw : db, sizeof(float), n);
    moi_cl_mem_arg(&call, db->buffer ? db : dw, sizeof(float), n);
    moi_cl_u64_arg(&call, d->n);
    moi_cl_u32_arg(&call, (uint32_t)d->channels);
    moi_cl_u64_arg(&call, chunk_rows);
    return moi_cl_run(&call, moi_cl_columns_groups(cl, d->channels, chunks));
}

static mo_status moi_cl_layernorm_dw(
    mo_cl *cl, const mo_cl_layernorm_desc *d, const mo_cl_mem *x, const mo_cl_mem *dy) {
    const uint64_t chunks = moi_cl_chunks(d->n), half = chunks * d->channels * sizeof(float);
    if (chunks == 1 || !d->workspace.buffer)
        return moi_cl_layernorm_columns(cl, d, x, dy, d->n, 1, &d->dweight, &d->dbias);
    const mo_cl_mem dw = mo_cl_part(&d->workspace, 0, half);
    const mo_cl_mem db = mo_cl_part(&d->workspace, half, half);
    mo_status status = moi_cl_layernorm_columns(cl, d, x, dy, moi_cl_chunk_rows(d->n), 0, &dw, &db);
    if (status == MO_OK && d->dweight.buffer)
        status = moi_cl_columns_stage(cl, &dw, chunks, d->channels, chunks, 1, &d->dweight);
    if (status == MO_OK && d->dbias.buffer)
        status = moi_cl_columns_stage(cl, &db, chunks, d->channels, chunks, 1, &d->dbias);
    return status;
}

static mo_status moi_cl_layernorm_dx(mo_cl *cl, const mo_cl_layernorm_desc *d, const mo_cl_mem *x,
    const mo_cl_mem *dy, const mo_cl_mem *dx) {
    const uint64_t n = (uint64_t)d->n * d->channels;
    moi_cl_call call =
        moi_cl_begin(cl, MOI_CL_mo_cl_layernorm_dx, d->add ? "-DMO_ADD=1" : "-DMO_ADD=0");
    moi_cl_mem_arg(&call, x, sizeof(float), n);
    moi_cl_mem_arg(&call, dy, sizeof(float), n);
    moi_cl_mem_arg(&call, &d->weight, sizeof(float), d->channels);
    moi_cl_mem_arg(&call, &d->mean, sizeof(float), d->n);
    moi_cl_mem_arg(&call, &d->rstd, sizeof(float), d->n);
    moi_cl_mem_arg(&call, dx, sizeof(float), n);
    moi_cl_u64_arg(&call, d->n);
    moi_cl_u32_arg(&call, (uint32_t)d->channels);
    return moi_cl_run(&call, moi_cl_row_groups(cl, d->n));
}

/* Everything is checked before anything is enqueued. */
static mo_status moi_cl_layernorm_check(const mo_cl *cl, const mo_cl_layernorm_desc *d,
    const mo_cl_mem *x, const mo_cl_mem *dy, const mo_cl_mem *dx) {
    size_t n;
    if (!cl || !d) return MO_E_INVALID;
    mo_status status = moi_cl_matrix(d->n, d->channels, &n);
    if (status != MO_OK) return status;
    if (!moi_cl_has_floats(x, n) || !moi_cl_has_floats(dy, n) || !moi_cl_has_floats(dx, n) ||
        !moi_cl_has_floats(&d->weight, d->channels) || !moi_cl_has_floats(&d->mean, d->n) ||
        !moi_cl_has_floats(&d->rstd, d->n))
        return MO_E_INVALID;
    if (!d->dweight.buffer && !d->dbias.buffer) return MO_OK;
    if ((d->dweight.buffer && !moi_cl_has_floats(&d->dweight, d->channels)) ||
        (d->dbias.buffer && !moi_cl_has_floats(&d->dbias, d->channels)))
        return MO_E_INVALID;
    const size_t bytes = moi_cl_columns_bytes(d->n, d->channels, 2);
    return d->workspace.buffer && !moi_cl_has_floats(&d->workspace, bytes / sizeof(float))
        ? MO_E_NO_SPACE
        : MO_OK;
}

mo_status mo_cl_layernorm_backward(
    mo_cl *cl, const mo_cl_layernorm_desc *desc, mo_cl_mem x, mo_cl_mem dy, mo_cl_mem dx) {
    mo_status status = moi_cl_layernorm_check(cl, desc, &x, &dy, &dx);
    if (status != MO_OK || desc->n == 0) return status;
    if (desc->dweight.buffer || desc->dbias.buffer) status = moi_cl_layernorm_dw(cl, desc, &x, &dy);
    return status == MO_OK ? moi_cl_layernorm_dx(cl, desc, &x, &dy, &dx) : status;
}

mo_status mo_cl_layernorm_restore(
    mo_cl *cl, const mo_cl_layernorm_desc *desc, mo_cl_mem y, mo_cl_mem x) {
    size_t n;
    if (!cl || !desc) return MO_E_INVALID;
    mo_status status = moi_cl_matrix(desc->n, desc->channels, &n);
    if (status != MO_OK) return status;
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_layernorm_restore, NULL);
    moi_cl_mem_arg(&call, &y, sizeof(float), n);
    moi_cl_mem_arg(&call, &desc->weight, sizeof(float), desc->channels);
    moi_cl_mem_arg(&call, &desc->bias, sizeof(float), desc->channels);
    moi_cl_mem_arg(&call, &desc->mean, sizeof(float), desc->n);
    moi_cl_mem_arg(&call, &desc->rstd, sizeof(float), desc->n);
    moi_cl_mem_arg(&call, &x, sizeof(float), n);
    moi_cl_u64_arg(&call, desc->n);
    moi_cl_u32_arg(&call, (uint32_t)desc->channels);
    return moi_cl_run(&call, moi_cl_row_groups(cl, desc->n));
}

/* ---- RMSNorm --------------------------------------------------------------------------------- */

size_t mo_cl_rmsnorm_workspace_size(const mo_cl *cl, const mo_cl_rmsnorm_desc *desc) {
    return cl && desc ? moi_cl_columns_bytes(desc->n, desc->channels, 1) : 0;
}

static mo_status moi_cl_rmsnorm_run(mo_cl *cl, const mo_cl_rmsnorm_desc *desc, const char *options,
    const mo_cl_mem *x, const mo_cl_mem *y) {
    size_t n;
    if (!cl || !desc) return MO_E_INVALID;
    mo_status status = moi_cl_matrix(desc->n, desc->channels, &n);
    if (status != MO_OK) return status;
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_rmsnorm_forward, options);
    moi_cl_mem_arg(&call, x, sizeof(float), n);
    moi_cl_mem_arg(&call, &desc->weight, sizeof(float), desc->channels);
    moi_cl_mem_arg(&call, &desc->rstd, sizeof(float), desc->n);
    moi_cl_mem_arg(&call, y, sizeof(float), n);
    moi_cl_f32_arg(&call, desc->epsilon == 0.0f ? 1e-5f : desc->epsilon);
    moi_cl_u64_arg(&call, desc->n);
    moi_cl_u32_arg(&call, (uint32_t)desc->channels);
    return moi_cl_run(&call, moi_cl_row_groups(cl, desc->n));
}

mo_status mo_cl_rmsnorm_forward(
    mo_cl *cl, const mo_cl_rmsnorm_desc *desc, mo_cl_mem x, mo_cl_mem y) {
    return moi_cl_rmsnorm_run(cl, desc, "-DMO_STATS=1", &x, &y);
}

mo_status mo_cl_rmsnorm_apply(mo_cl *cl, const mo_cl_rmsnorm_desc *desc, mo_cl_mem x, mo_cl_mem y) {
    return moi_cl_rmsnorm_run(cl, desc, "-DMO_STATS=0", &x, &y);
}

/* dw of chunks of chunk_rows rows, or of all of them, added. */
static mo_status moi_cl_rmsnorm_columns(mo_cl *cl, const mo_cl_rmsnorm_desc *d, const mo_cl_mem *x,
    const mo_cl_mem *dy, uint64_t chunk_rows, int add, const mo_cl_mem *dw) {
    const uint64_t chunks = d->n / chunk_rows + (d->n % chunk_rows != 0);
    moi_cl_call call =
        moi_cl_begin(cl, MOI_CL_mo_cl_columns_rmsnorm, add ? "-DMO_ADD=1" : "-DMO_ADD=0");
    moi_cl_mem_arg(&call, x, sizeof(float), (uint64_t)d->n * d->channels);
    moi_cl_mem_arg(&call, dy, sizeof(float), (uint64_t)d->n * d->channels);
    moi_cl_mem_arg(&call, &d->rstd, sizeof(float), d->n);
    moi_cl_mem_arg(&call, dw, sizeof(float), (add ? 1 : chunks) * d->channels);
    moi_cl_u64_arg(&call, d->n);
    moi_cl_u32_arg(&call, (uint32_t)d->channels);
    moi_cl_u64_arg(&call, chunk_rows);
    return moi_cl_run(&call, moi_cl_columns_groups(cl, d->channels, chunks));
}

static mo_status moi_cl_rmsnorm_dw(
    mo_cl *cl, const mo_cl_rmsnorm_desc *d, const mo_cl_mem *x, const mo_cl_mem *dy) {
    const uint64_t chunks = moi_cl_chunks(d->n);
    if (chunks == 1 || !d->workspace.buffer)
        return moi_cl_rmsnorm_columns(cl, d, x, dy, d->n, 1, &d->dweight);
    mo_status status =
        moi_cl_rmsnorm_columns(cl, d, x, dy, moi_cl_chunk_rows(d->n), 0, &d->workspace);
    if (status != MO_OK) return status;
    return moi_cl_columns_stage(cl, &d->workspace, chunks, d->channels, chunks, 1, &d->dweight);
}

static mo_status moi_cl_rmsnorm_dx(mo_cl *cl, const mo_cl_rmsnorm_desc *d, const mo_cl_mem *x,
    const mo_cl_mem *dy, const mo_cl_mem *dx) {
    const uint64_t n = (uint64_t)d->n * d->channels;
    moi_cl_call call =
        moi_cl_begin(cl, MOI_CL_mo_cl_rmsnorm_dx, d->add ? "-DMO_ADD=1" : "-DMO_ADD=0");
    moi_cl_mem_arg(&call, x, sizeof(float), n);
    moi_cl_mem_arg(&call, dy, sizeof(float), n);
    moi_cl_mem_arg(&call, &d->weight, sizeof(float), d->channels);
    moi_cl_mem_arg(&call, &d->rstd, sizeof(float), d->n);
    moi_cl_mem_arg(&call, dx, sizeof(float), n);
    moi_cl_u64_arg(&call, d->n);
    moi_cl_u32_arg(&call, (uint32_t)d->channels);
    return moi_cl_run(&call, moi_cl_row_groups(cl, d->n));
}

/* Everything is checked before anything is enqueued. */
static mo_status moi_cl_rmsnorm_check(const mo_cl *cl, const mo_cl_rmsnorm_desc *d,
    const mo_cl_mem *x, const mo_cl_mem *dy, const mo_cl_mem *dx) {
    size_t n;
    if (!cl || !d) return MO_E_INVALID;
    mo_status status = moi_cl_matrix(d->n, d->channels, &n);
    if (status != MO_OK) return status;
    if (!moi_cl_has_floats(x, n) || !moi_cl_has_floats(dy, n) || !moi_cl_has_floats(dx, n) ||
        !moi_cl_has_floats(&d->weight, d->channels) || !moi_cl_has_floats(&d->rstd, d->n))
        return MO_E_INVALID;
    if (!d->dweight.buffer) return MO_OK;
    if (!moi_cl_has_floats(&d->dweight, d->channels)) return MO_E_INVALID;
    const size_t bytes = mo_cl_rmsnorm_workspace_size(cl, d);
    return d->workspace.buffer && !moi_cl_has_floats(&d->workspace, bytes / sizeof(float))
        ? MO_E_NO_SPACE
        : MO_OK;
}

mo_status mo_cl_rmsnorm_backward(
    mo_cl *cl, const mo_cl_rmsnorm_desc *desc, mo_cl_mem x, mo_cl_mem dy, mo_cl_mem dx) {
    mo_status status = moi_cl_rmsnorm_check(cl, desc, &x, &dy, &dx);
    if (status != MO_OK || desc->n == 0) return status;
    if (desc->dweight.buffer) status = moi_cl_rmsnorm_dw(cl, desc, &x, &dy);
    return status == MO_OK ? moi_cl_rmsnorm_dx(cl, desc, &x, &dy, &dx) : status;
}
