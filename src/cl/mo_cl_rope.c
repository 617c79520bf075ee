/* mo_cl_rope.c - see mo_cl_rope.h. */

static mo_status moi_cl_rope_run(
    mo_cl *cl, const mo_rope_desc *desc, const mo_cl_mem *table, const mo_cl_mem *x, float sign) {
    mo_rope_desc d;
    size_t rows;
    const mo_status status = moi_rope_check(desc, &d, &rows);
    if (status != MO_OK) return status;
    const uint64_t width = (uint64_t)d.heads * d.head_size, pairs = rows * (width / 2);
    if (d.heads > UINT32_MAX || d.head_size > UINT32_MAX / 2) return MO_E_OVERFLOW;
    moi_cl_call call = moi_cl_begin(
        cl, MOI_CL_mo_cl_rope_turn, d.interleaved ? "-DMO_INTERLEAVED=1" : "-DMO_INTERLEAVED=0");
    moi_cl_mem_arg(&call, table, sizeof(float), (uint64_t)(d.first + d.seq) * d.head_size);
    moi_cl_mem_arg(&call, x, sizeof(float), moi_cl_span(rows, (size_t)width, d.stride));
    moi_cl_f32_arg(&call, sign);
    moi_cl_u64_arg(&call, pairs);
    moi_cl_u64_arg(&call, d.seq);
    moi_cl_u64_arg(&call, d.first);
    moi_cl_u32_arg(&call, (uint32_t)d.heads);
    moi_cl_u32_arg(&call, (uint32_t)(d.head_size / 2));
    moi_cl_u64_arg(&call, d.stride);
    return moi_cl_run(&call, moi_cl_tiles(cl, pairs));
}

mo_status mo_cl_rope_forward(mo_cl *cl, const mo_rope_desc *desc, mo_cl_mem table, mo_cl_mem x) {
    return moi_cl_rope_run(cl, desc, &table, &x, 1.0f);
}

mo_status mo_cl_rope_backward(mo_cl *cl, const mo_rope_desc *desc, mo_cl_mem table, mo_cl_mem dx) {
    return moi_cl_rope_run(cl, desc, &table, &dx, -1.0f);
}
