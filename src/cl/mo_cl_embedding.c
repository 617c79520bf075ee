/* mo_cl_embedding.c - see mo_cl_embedding.h. */

static mo_status moi_cl_embedding_check(const mo_cl *cl, const mo_cl_embedding_desc *d) {
    size_t n;
    if (!cl || !d || d->seq == 0 || d->vocab == 0) return MO_E_INVALID;
    if (d->rows > UINT32_MAX || d->vocab > INT32_MAX) return MO_E_OVERFLOW;
    mo_status status = moi_cl_matrix(d->rows, d->channels, &n);
    if (status == MO_OK) status = moi_cl_matrix(d->vocab, d->channels, &n);
    return status == MO_OK ? moi_cl_matrix(d->seq, d->channels, &n) : status;
}

mo_status mo_cl_embedding_forward(mo_cl *cl, const mo_cl_embedding_desc *desc, mo_cl_mem tokens,
    mo_cl_mem wte, mo_cl_mem wpe, mo_cl_mem y) {
    mo_status status = moi_cl_embedding_check(cl, desc);
    if (status != MO_OK) return status;
    moi_cl_call call = moi_cl_begin(
        cl, MOI_CL_mo_cl_embedding_forward, wpe.buffer ? "-DMO_POSITIONS=1" : "-DMO_POSITIONS=0");
    moi_cl_mem_arg(&call, &tokens, sizeof(int32_t), desc->rows);
    moi_cl_mem_arg(&call, &wte, sizeof(float), (uint64_t)desc->vocab * desc->channels);
    if (wpe.buffer)
        moi_cl_mem_arg(&call, &wpe, sizeof(float), (uint64_t)desc->seq * desc->channels);
    moi_cl_mem_arg(&call, &y, sizeof(float), (uint64_t)desc->rows * desc->channels);
    moi_cl_u64_arg(&call, desc->seq);
    moi_cl_u32_arg(&call, (uint32_t)desc->channels);
    moi_cl_u32_arg(&call, (uint32_t)desc->vocab);
    return moi_cl_run(&call, desc->rows);
}

static mo_status moi_cl_embedding_dwte(mo_cl *cl, const mo_cl_embedding_desc *d,
    const mo_cl_mem *tokens, const mo_cl_mem *dy, const mo_cl_mem *dwte) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_embedding_dwte, NULL);
    moi_cl_mem_arg(&call, tokens, sizeof(int32_t), d->rows);
    moi_cl_mem_arg(&call, dy, sizeof(float), (uint64_t)d->rows * d->channels);
    moi_cl_mem_arg(&call, dwte, sizeof(float), (uint64_t)d->vocab * d->channels);
    moi_cl_u32_arg(&call, (uint32_t)d->rows);
    moi_cl_u32_arg(&call, (uint32_t)d->channels);
    moi_cl_u32_arg(&call, (uint32_t)d->vocab);
    return moi_cl_run(&call, d->rows);
}

static mo_status moi_cl_embedding_dwpe(
    mo_cl *cl, const mo_cl_embedding_desc *d, const mo_cl_mem *dy, const mo_cl_mem *dwpe) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_embedding_dwpe, NULL);
    moi_cl_mem_arg(&call, dy, sizeof(float), (uint64_t)d->rows * d->channels);
    moi_cl_mem_arg(&call, dwpe, sizeof(float), (uint64_t)d->seq * d->channels);
    moi_cl_u64_arg(&call, d->rows);
    moi_cl_u64_arg(&call, d->seq);
    moi_cl_u32_arg(&call, (uint32_t)d->channels);
    return moi_cl_run(&call, d->rows < d->seq ? d->rows : d->seq);
}

mo_status mo_cl_embedding_backward(mo_cl *cl, const mo_cl_embedding_desc *desc, mo_cl_mem tokens,
    mo_cl_mem dy, mo_cl_mem dwte, mo_cl_mem dwpe) {
    mo_status status = moi_cl_embedding_check(cl, desc);
    if (status != MO_OK) return status;
    const uint64_t channels = desc->channels;
    if (!moi_cl_has_floats(&tokens, desc->rows) || !moi_cl_has_floats(&dy, desc->rows * channels) ||
        (dwte.buffer && !moi_cl_has_floats(&dwte, desc->vocab * channels)) ||
        (dwpe.buffer && !moi_cl_has_floats(&dwpe, desc->seq * channels)))
        return MO_E_INVALID;
    if (dwte.buffer) status = moi_cl_embedding_dwte(cl, desc, &tokens, &dy, &dwte);
    if (status == MO_OK && dwpe.buffer) status = moi_cl_embedding_dwpe(cl, desc, &dy, &dwpe);
    return status;
}
