/* mo_cl_accum.c - see mo_cl_accum.h. */

mo_status mo_cl_accum_add(mo_cl *cl, mo_cl_mem grad, float scale, mo_cl_mem sum, size_t n) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_accum_add, NULL);
    moi_cl_mem_arg(&call, &grad, sizeof(float), n);
    moi_cl_f32_arg(&call, scale);
    moi_cl_mem_arg(&call, &sum, sizeof(float), n);
    moi_cl_u64_arg(&call, n);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}
