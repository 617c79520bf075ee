/* mo_cl_accum.c - see mo_cl_accum.h. */

mo_status mo_cl_accum_add(mo_cl *cl, mo_cl_mem grad, float scale, mo_cl_mem sum, size_t n) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_accum_add, NULL);
    moi_cl_mem_arg(&call, &grad, sizeof(float), n);
    moi_cl_f32_arg(&call, scale);
    moi_cl_mem_arg(&call, &sum, sizeof(float), n);
    moi_cl_u64_arg(&call, n);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

mo_status mo_cl_accum_add_bf16_stochastic(
    mo_cl *cl, mo_cl_mem grad, float scale, mo_cl_mem sum, size_t n, const mo_accum_noise *noise) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_accum_add_bf16_stochastic, NULL);
    moi_cl_mem_arg(&call, &grad, sizeof(float), n);
    moi_cl_f32_arg(&call, scale);
    moi_cl_mem_arg(&call, &sum, sizeof(uint16_t), n);
    moi_cl_u64_arg(&call, n);
    moi_cl_u64_arg(&call, noise ? noise->seed : 0);
    moi_cl_u64_arg(&call, noise ? noise->offset : 0);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

mo_status mo_cl_accum_add_bf16_kahan(
    mo_cl *cl, mo_cl_mem grad, float scale, mo_cl_mem sum, mo_cl_mem lost, size_t n) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_accum_add_bf16_kahan, NULL);
    moi_cl_mem_arg(&call, &grad, sizeof(float), n);
    moi_cl_f32_arg(&call, scale);
    moi_cl_mem_arg(&call, &sum, sizeof(uint16_t), n);
    moi_cl_mem_arg(&call, &lost, sizeof(uint16_t), n);
    moi_cl_u64_arg(&call, n);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

mo_status mo_cl_accum_scale(mo_cl *cl, mo_cl_mem grad, float scale, size_t n) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_accum_scale, NULL);
    moi_cl_mem_arg(&call, &grad, sizeof(float), n);
    moi_cl_f32_arg(&call, scale);
    moi_cl_u64_arg(&call, n);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

mo_status mo_cl_accum_unscale(
    mo_cl *cl, mo_cl_mem grad, float scale, size_t n, mo_cl_mem overflow) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_accum_unscale, NULL);
    moi_cl_mem_arg(&call, &grad, sizeof(float), n);
    moi_cl_f32_arg(&call, scale);
    moi_cl_u64_arg(&call, n);
    moi_cl_mem_arg(&call, &overflow, sizeof(uint32_t), 1);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

/* ---- squares -------------------------------------------------------------------------------- */

enum { moi_cl_parts = 64, moi_cl_sums_bytes = 2048 };

static const char *moi_cl_double_option(const mo_cl *cl) {
    return cl && cl->info.fp64 ? "-DMO_DOUBLE=1" : "-DMO_DOUBLE=0";
}

/* Groups in which each of n runs has a team of 16 lanes: see double.cl. */
static uint64_t moi_cl_teams(const mo_cl *cl, uint64_t n) {
    const uint64_t teams = cl && cl->work_group > 16 ? cl->work_group / 16 : 1;
    return n / teams + (n % teams != 0);
}

/* Room for a few sums, made at the first use. */
static mo_status moi_cl_sums(mo_cl *cl, mo_cl_mem *sums) {
    cl_int code = CL_SUCCESS;
    if (!cl || !cl->context) return MO_E_INVALID;
    if (!cl->sums)
        cl->sums = clCreateBuffer(cl->context, CL_MEM_READ_WRITE, moi_cl_sums_bytes, NULL, &code);
    if (!cl->sums)
        return moi_cl_fail(&cl->log, "clCreateBuffer", code, "%d bytes", (int)moi_cl_sums_bytes);
    memset(sums, 0, sizeof *sums);
    sums->buffer = cl->sums;
    sums->size = moi_cl_sums_bytes;
    return MO_OK;
}

/* What is in memory of the device, and what is to be there; they wait. */
static mo_status moi_cl_read(mo_cl *cl, const mo_cl_mem *mem, void *to, size_t size) {
    const cl_int code = clEnqueueReadBuffer(
        cl->queues[MO_CL_COMPUTE], mem->buffer, CL_TRUE, (size_t)mem->off, size, to, 0, NULL, NULL);
    if (code == CL_SUCCESS) return MO_OK;
    return moi_cl_fail(&cl->log, "clEnqueueReadBuffer", code, "%zu bytes", size);
}

static mo_status moi_cl_write(mo_cl *cl, const mo_cl_mem *mem, const void *from, size_t size) {
    const cl_int code = clEnqueueWriteBuffer(cl->queues[MO_CL_COMPUTE], mem->buffer, CL_TRUE,
        (size_t)mem->off, size, from, 0, NULL, NULL);
    if (code == CL_SUCCESS) return MO_OK;
    return moi_cl_fail(&cl->log, "clEnqueueWriteBuffer", code, "%zu bytes", size);
}

/* Every step'th of n numbers. */
static double moi_cl_total(const double *x, size_t n, size_t step) {
    double total = 0;
    for (size_t i = 0; i < n; i++) total += x[i * step];
    return total;
}

mo_status mo_cl_accum_square_parts(mo_cl *cl, mo_cl_mem grad, size_t n, mo_cl_mem parts) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_accum_square_parts, moi_cl_double_option(cl));
    moi_cl_mem_arg(&call, &grad, sizeof(float), n);
    moi_cl_u64_arg(&call, n);
    moi_cl_mem_arg(&call, &parts, sizeof(double), moi_cl_parts);
    return moi_cl_run(&call, moi_cl_teams(cl, moi_cl_parts));
}

mo_status mo_cl_accum_square_sums(mo_cl *cl, mo_cl_mem parts, size_t n, double *sums) {
    const size_t size = MO_CL_ACCUM_PARTS_BYTES;
    if (!cl || !cl->context || !sums || !parts.buffer || parts.off % sizeof(double) != 0 ||
        n > parts.size / size)
        return MO_E_INVALID;
    if (n == 0) return MO_OK;
    double *read = (double *)moi_cl_new(&cl->allocator, n, size);
    if (!read) return MO_E_NO_MEMORY;
    const mo_status status = moi_cl_read(cl, &parts, read, n * size);
    for (size_t i = 0; i < n && status == MO_OK; i++)
        sums[i] = moi_cl_total(read + i * moi_cl_parts, moi_cl_parts, 1);
    moi_cl_delete(&cl->allocator, read, n, size);
    return status;
}

mo_status mo_cl_accum_square_sum(mo_cl *cl, mo_cl_mem grad, size_t n, double *sum) {
    double parts[moi_cl_parts];
    mo_cl_mem sums;
    if (!sum) return MO_E_INVALID;
    mo_status status = moi_cl_sums(cl, &sums);
    if (status == MO_OK) status = mo_cl_accum_square_parts(cl, grad, n, sums);
    if (status == MO_OK) status = moi_cl_read(cl, &sums, parts, sizeof parts);
    if (status == MO_OK) *sum = moi_cl_total(parts, moi_cl_parts, 1);
    return status;
}

mo_status mo_cl_accum_clip(mo_cl *cl, mo_cl_mem grad, size_t n, double max_norm, double *norm) {
    double sum;
    if (!norm) return MO_E_INVALID;
    mo_status status = mo_cl_accum_square_sum(cl, grad, n, &sum);
    if (status != MO_OK) return status;
    const float scale = (float)mo_accum_clip_scale(sqrt(sum), max_norm);
    if (scale < 1) status = mo_cl_accum_scale(cl, grad, scale, n);
    if (status == MO_OK) *norm = sqrt(sum);
    return status;
}
