/* mo_cl_half.c - see mo_cl_half.h. */

/* The bits of the numbers that larger ones become: infinity or what stands for it, or the largest
 * finite one. */
static const uint32_t moi_cl_half_limits[MO_HALF_FORMAT_COUNT][2] = {{0x47800000, 0x477fe000},
    {0x7f800000, 0x7f7f0000}, {0x43f00000, 0x43e00000}, {0x47800000, 0x47600000}};

static void moi_cl_half_options(mo_half_format format, int stochastic, char *out, size_t size) {
    snprintf(out, size, "-DMO_FORMAT=%d -DMO_STOCHASTIC=%d", (int)format, stochastic != 0);
}

mo_status mo_cl_half_encode(
    mo_cl *cl, const mo_half_desc *desc, mo_cl_mem x, size_t n, mo_cl_mem y) {
    char options[64];
    if (!desc || mo_half_bytes(desc->format) == 0) return MO_E_INVALID;
    moi_cl_half_options(desc->format, desc->stochastic, options, sizeof options);
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_half_encode, options);
    moi_cl_mem_arg(&call, &x, sizeof(float), n);
    moi_cl_mem_arg(&call, &y, mo_half_bytes(desc->format), n);
    moi_cl_u64_arg(&call, n);
    moi_cl_u32_arg(&call, moi_cl_half_limits[desc->format][desc->saturate != 0]);
    moi_cl_u64_arg(&call, desc->seed);
    moi_cl_u64_arg(&call, desc->offset);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

mo_status mo_cl_half_decode(
    mo_cl *cl, const mo_half_desc *desc, mo_cl_mem x, size_t n, mo_cl_mem y) {
    char options[64];
    if (!desc || mo_half_bytes(desc->format) == 0) return MO_E_INVALID;
    moi_cl_half_options(desc->format, 0, options, sizeof options);
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_half_decode, options);
    moi_cl_mem_arg(&call, &x, mo_half_bytes(desc->format), n);
    moi_cl_mem_arg(&call, &y, sizeof(float), n);
    moi_cl_u64_arg(&call, n);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

static mo_half_desc moi_cl_half_plain(mo_half_format format) {
    mo_half_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.format = format;
    return desc;
}

mo_status mo_cl_f32_to_f16(mo_cl *cl, mo_cl_mem x, mo_cl_mem y, size_t n) {
    const mo_half_desc desc = moi_cl_half_plain(MO_HALF_F16);
    return mo_cl_half_encode(cl, &desc, x, n, y);
}
mo_status mo_cl_f32_to_bf16(mo_cl *cl, mo_cl_mem x, mo_cl_mem y, size_t n) {
    const mo_half_desc desc = moi_cl_half_plain(MO_HALF_BF16);
    return mo_cl_half_encode(cl, &desc, x, n, y);
}
mo_status mo_cl_f16_to_f32(mo_cl *cl, mo_cl_mem x, mo_cl_mem y, size_t n) {
    const mo_half_desc desc = moi_cl_half_plain(MO_HALF_F16);
    return mo_cl_half_decode(cl, &desc, x, n, y);
}
mo_status mo_cl_bf16_to_f32(mo_cl *cl, mo_cl_mem x, mo_cl_mem y, size_t n) {
    const mo_half_desc desc = moi_cl_half_plain(MO_HALF_BF16);
    return mo_cl_half_decode(cl, &desc, x, n, y);
}
