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
