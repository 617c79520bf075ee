/* mo_cl_compress.c - see mo_cl_compress.h. */

/* The parts of a block of codes. */
typedef struct moi_cl_codes {
    int bits, shift;
    uint64_t n_ranges, n_bytes;
    mo_cl_mem ranges, codes;
} moi_cl_codes;

static int moi_cl_codes_of(
    const mo_compress_desc *desc, const mo_cl_mem *codes, size_t n, moi_cl_codes *out) {
    if (!desc || mo_compress_size(desc, n ? n : 1) == 0) return 0;
    out->bits = desc->bits == 4 ? 4 : 8;
    out->shift = moi_cl_block_shift(desc->block ? desc->block : out->bits == 4 ? 64 : 256, 64);
    if (out->shift < 0 || out->shift > 8) return 0;
    out->n_ranges = 2 * moi_cl_blocks(n, out->shift);
    out->n_bytes = out->bits == 4 ? moi_cl_blocks(n, 1) : n;
    if (codes->size < 4 * out->n_ranges + out->n_bytes) return 0;
    out->ranges = mo_cl_part(codes, 0, 4 * out->n_ranges);
    out->codes = mo_cl_part(codes, 4 * out->n_ranges, out->n_bytes);
    return 1;
}

static moi_cl_call moi_cl_compress_begin(mo_cl *cl, moi_cl_kernel id, const moi_cl_codes *codes) {
    return moi_cl_begin(cl, id, codes->bits == 4 ? "-DMO_BITS=4" : "-DMO_BITS=8");
}

mo_status mo_cl_compress_encode(
    mo_cl *cl, const mo_compress_desc *desc, mo_cl_mem x, size_t n, mo_cl_mem codes) {
    moi_cl_codes to;
    if (!moi_cl_codes_of(desc, &codes, n, &to)) return MO_E_INVALID;
    moi_cl_call call = moi_cl_compress_begin(cl, MOI_CL_mo_cl_compress_encode, &to);
    moi_cl_mem_arg(&call, &x, sizeof(float), n);
    moi_cl_mem_arg(&call, &to.ranges, sizeof(uint32_t), to.n_ranges);
    moi_cl_mem_arg(&call, &to.codes, 1, to.n_bytes);
    moi_cl_u64_arg(&call, n);
    moi_cl_u64_arg(&call, desc->seed);
    moi_cl_u32_arg(&call, (uint32_t)to.shift);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

mo_status mo_cl_compress_decode(
    mo_cl *cl, const mo_compress_desc *desc, mo_cl_mem codes, size_t n, mo_cl_mem x) {
    moi_cl_codes from;
    if (!moi_cl_codes_of(desc, &codes, n, &from)) return MO_E_INVALID;
    moi_cl_call call = moi_cl_compress_begin(cl, MOI_CL_mo_cl_compress_decode, &from);
    moi_cl_mem_arg(&call, &from.ranges, sizeof(float), from.n_ranges);
    moi_cl_mem_arg(&call, &from.codes, 1, from.n_bytes);
    moi_cl_mem_arg(&call, &x, sizeof(float), n);
    moi_cl_u64_arg(&call, n);
    moi_cl_u32_arg(&call, (uint32_t)from.shift);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}
