/* mo_cl_gemm.c - see mo_cl_gemm.h. */

/* CLBlast's kernels want groups of up to 256; where they are refused, it leaks a program. */
static int moi_cl_gemm_by_clblast(const mo_cl_gemm_env *env) {
    const mo_cl_info *info = &env->cl->info;
    if (env->use != MO_CL_GEMM_AUTO) return env->use == MO_CL_GEMM_CLBLAST;
    return !(info->type & CL_DEVICE_TYPE_CPU) && info->max_work_group >= 256;
}

static mo_status moi_cl_gemm_valid(const mo_cl_gemm_env *env) {
    if (!env || !env->cl || !env->cl->context) return MO_E_INVALID;
    if ((unsigned)env->use >= MO_CL_GEMM_USE_COUNT) return MO_E_INVALID;
    return env->use == MO_CL_GEMM_CLBLAST && !moi_cl_clblast_built() ? MO_E_UNSUPPORTED : MO_OK;
}

mo_status mo_cl_gemm_mixed(const mo_cl_gemm_env *env, const mo_gemm_desc *desc,
    const mo_cl_gemm_operand *a, const mo_cl_gemm_operand *b, mo_cl_mem c) {
    int done = 0;
    mo_status status = moi_cl_gemm_valid(env);
    if (status == MO_OK && (!desc || !a || !b)) status = MO_E_INVALID;
    if (status != MO_OK) return status;
    moi_cl_gemm_job job;
    job.d = *desc;
    job.a = *a;
    job.b = *b;
    job.c = c;
    status = moi_cl_gemm_resolve(&job);
    if (status != MO_OK || job.d.m == 0 || job.d.n == 0) return status;
    if (moi_cl_gemm_by_clblast(env)) status = moi_cl_clblast_run(env, &job, &done);
    return status != MO_OK || done ? status : moi_cl_gemm_own(env->cl, &job);
}

mo_status mo_cl_gemm(
    const mo_cl_gemm_env *env, const mo_gemm_desc *desc, mo_cl_mem a, mo_cl_mem b, mo_cl_mem c) {
    mo_cl_gemm_operand from_a, from_b;
    memset(&from_a, 0, sizeof from_a);
    memset(&from_b, 0, sizeof from_b);
    from_a.data = a;
    from_b.data = b;
    return mo_cl_gemm_mixed(env, desc, &from_a, &from_b, c);
}

size_t mo_cl_gemm_workspace_size(const mo_cl_gemm_env *env, const mo_gemm_desc *largest) {
    if (moi_cl_gemm_valid(env) != MO_OK || !largest || !moi_cl_gemm_by_clblast(env)) return 0;
    return moi_cl_clblast_most(env->cl, largest);
}
