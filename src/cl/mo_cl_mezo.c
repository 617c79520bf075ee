/* mo_cl_mezo.c - see mo_cl_mezo.h. */

static mo_status moi_cl_mezo_run(mo_cl *cl, const mo_mezo_desc *desc, const moi_mezo_factors *f,
    uint64_t seed, const mo_cl_mem *x, const mo_cl_mem *y, size_t n) {
    float vector[8] = {0};
    memcpy(vector, f, sizeof *f);
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_mezo_move, NULL);
    moi_cl_mem_arg(&call, x, sizeof(float), n);
    moi_cl_mem_arg(&call, y, sizeof(float), n);
    moi_cl_raw_arg(&call, vector, sizeof vector);
    moi_cl_u64_arg(&call, seed);
    moi_cl_u64_arg(&call, desc->offset);
    moi_cl_u64_arg(&call, n);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

mo_status mo_cl_mezo_perturb(mo_cl *cl, const mo_mezo_desc *desc, uint64_t t, double times,
    mo_cl_mem x, mo_cl_mem y, size_t n) {
    moi_mezo_factors f;
    uint64_t seed;
    const mo_status status = moi_mezo_perturbation(desc, t, times, &f, &seed);
    return status == MO_OK ? moi_cl_mezo_run(cl, desc, &f, seed, &x, &y, n) : status;
}

mo_status mo_cl_mezo_step(
    mo_cl *cl, const mo_mezo_desc *desc, uint64_t t, double gradient, mo_cl_mem x, size_t n) {
    moi_mezo_factors f;
    uint64_t seed;
    int moves = 0;
    const mo_status status = moi_mezo_update(desc, t, gradient, &f, &seed, &moves);
    if (status != MO_OK || !moves) return status;
    return moi_cl_mezo_run(cl, desc, &f, seed, &x, &x, n);
}
