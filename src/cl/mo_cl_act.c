/* mo_cl_act.c - see mo_cl_act.h. */

mo_status mo_cl_gelu_forward(mo_cl *cl, mo_cl_mem x, mo_cl_mem y, size_t n) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_gelu_forward, NULL);
    moi_cl_mem_arg(&call, &x, sizeof(float), n);
    moi_cl_mem_arg(&call, &y, sizeof(float), n);
    moi_cl_u64_arg(&call, n);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

mo_status mo_cl_gelu_backward(mo_cl *cl, mo_cl_mem x, mo_cl_mem dy, mo_cl_mem dx, size_t n) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_gelu_backward, NULL);
    moi_cl_mem_arg(&call, &x, sizeof(float), n);
    moi_cl_mem_arg(&call, &dy, sizeof(float), n);
    moi_cl_mem_arg(&call, &dx, sizeof(float), n);
    moi_cl_u64_arg(&call, n);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

/* ---- SwiGLU ---------------------------------------------------------------------------------- */

/* Floats from the first to behind the last of rows that are stride apart; the desc is checked. */
static uint64_t moi_cl_span(size_t rows, size_t columns, size_t stride) {
    return rows == 0 ? 0 : (uint64_t)(rows - 1) * stride + columns;
}

static void moi_cl_swiglu_sizes(moi_cl_call *call, const mo_swiglu_desc *d, size_t n) {
    moi_cl_u64_arg(call, n);
    moi_cl_u64_arg(call, d->hidden);
    moi_cl_u64_arg(call, d->stride);
    moi_cl_u64_arg(call, d->y_stride);
}

mo_status mo_cl_swiglu_forward(
    mo_cl *cl, const mo_swiglu_desc *desc, mo_cl_mem gate, mo_cl_mem up, mo_cl_mem y) {
    mo_swiglu_desc d;
    size_t n;
    const mo_status status = moi_swiglu_check(desc, &d, &n);
    if (status != MO_OK) return status;
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_swiglu_forward, NULL);
    moi_cl_mem_arg(&call, &gate, sizeof(float), moi_cl_span(d.rows, d.hidden, d.stride));
    moi_cl_mem_arg(&call, &up, sizeof(float), moi_cl_span(d.rows, d.hidden, d.stride));
    moi_cl_mem_arg(&call, &y, sizeof(float), moi_cl_span(d.rows, d.hidden, d.y_stride));
    moi_cl_swiglu_sizes(&call, &d, n);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

mo_status mo_cl_swiglu_backward(mo_cl *cl, const mo_swiglu_desc *desc, mo_cl_mem gate, mo_cl_mem up,
    mo_cl_mem dy, mo_cl_mem dgate, mo_cl_mem dup) {
    mo_swiglu_desc d;
    size_t n;
    const mo_status status = moi_swiglu_check(desc, &d, &n);
    if (status != MO_OK) return status;
    const uint64_t span = moi_cl_span(d.rows, d.hidden, d.stride);
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_swiglu_backward, NULL);
    moi_cl_mem_arg(&call, &gate, sizeof(float), span);
    moi_cl_mem_arg(&call, &up, sizeof(float), span);
    moi_cl_mem_arg(&call, &dy, sizeof(float), moi_cl_span(d.rows, d.hidden, d.y_stride));
    moi_cl_mem_arg(&call, &dgate, sizeof(float), span);
    moi_cl_mem_arg(&call, &dup, sizeof(float), span);
    moi_cl_swiglu_sizes(&call, &d, n);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}
