/* mo_cl_quant4.c - see mo_cl_quant4.h. */

static int moi_cl_quant4_shift(const mo_quant4_desc *desc) {
    if (!desc || (unsigned)desc->map >= MO_QUANT4_MAP_COUNT) return -1;
    return moi_cl_block_shift(desc->block == 0 ? 64 : desc->block, 32);
}

static moi_cl_call moi_cl_quant4_begin(
    mo_cl *cl, moi_cl_kernel id, const mo_quant4_desc *desc, int out) {
    char options[32];
    snprintf(options, sizeof options, "-DMO_FP4=%d -DMO_OUT=%d", desc->map == MO_QUANT_FP4, out);
    return moi_cl_begin(cl, id, options);
}

mo_status mo_cl_quant4_encode(mo_cl *cl, const mo_quant4_desc *desc, mo_cl_mem x, size_t n,
    mo_cl_mem codes, mo_cl_mem absmax) {
    const int shift = moi_cl_quant4_shift(desc);
    if (shift < 0) return MO_E_INVALID;
    moi_cl_call call = moi_cl_quant4_begin(cl, MOI_CL_mo_cl_quant4_encode, desc, 0);
    moi_cl_mem_arg(&call, &x, sizeof(float), n);
    moi_cl_mem_arg(&call, &codes, 1, moi_cl_blocks(n, 1));
    moi_cl_mem_arg(&call, &absmax, sizeof(float), moi_cl_blocks(n, shift));
    moi_cl_u64_arg(&call, n);
    moi_cl_u32_arg(&call, (uint32_t)shift);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

/* From the block on in which first is. */
static mo_status moi_cl_quant4_decode(mo_cl *cl, const mo_quant4_desc *desc, mo_cl_mem codes,
    mo_cl_mem absmax, uint64_t first, uint64_t n, int out, const mo_cl_mem *x) {
    const int shift = moi_cl_quant4_shift(desc);
    if (shift < 0) return MO_E_INVALID;
    const uint64_t lead = first & (((uint64_t)1 << shift) - 1), block = first >> shift;
    if (n > UINT64_MAX - first) return MO_E_OVERFLOW;
    codes = mo_cl_part(&codes, moi_cl_blocks(first - lead, 1), moi_cl_blocks(lead + n, 1));
    absmax = mo_cl_part(&absmax, 4 * block, 4 * moi_cl_blocks(lead + n, shift));
    moi_cl_call call = moi_cl_quant4_begin(cl, MOI_CL_mo_cl_quant4_decode, desc, out);
    moi_cl_tables_arg(&call);
    moi_cl_mem_arg(&call, &codes, 1, moi_cl_blocks(lead + n, 1));
    moi_cl_mem_arg(&call, &absmax, sizeof(float), moi_cl_blocks(lead + n, shift));
    moi_cl_mem_arg(&call, x, out == 0 ? 4 : 2, n);
    moi_cl_u64_arg(&call, n);
    moi_cl_u32_arg(&call, (uint32_t)shift);
    moi_cl_u32_arg(&call, (uint32_t)lead);
    return moi_cl_run(&call, n == 0 ? 0 : moi_cl_tiles(cl, lead + n));
}

mo_status mo_cl_quant4_decode(mo_cl *cl, const mo_quant4_desc *desc, mo_cl_mem codes,
    mo_cl_mem absmax, size_t first, size_t n, mo_cl_mem x) {
    return moi_cl_quant4_decode(cl, desc, codes, absmax, first, n, 0, &x);
}
mo_status mo_cl_quant4_decode_bf16(mo_cl *cl, const mo_quant4_desc *desc, mo_cl_mem codes,
    mo_cl_mem absmax, size_t first, size_t n, mo_cl_mem x) {
    return moi_cl_quant4_decode(cl, desc, codes, absmax, first, n, 1, &x);
}
mo_status mo_cl_quant4_decode_f16(mo_cl *cl, const mo_quant4_desc *desc, mo_cl_mem codes,
    mo_cl_mem absmax, size_t first, size_t n, mo_cl_mem x) {
    return moi_cl_quant4_decode(cl, desc, codes, absmax, first, n, 2, &x);
}

/* ---- scales of scales ---------------------------------------------------------------------- */

enum { moi_cl_nested_piece = 65536 };

static mo_quant8_desc moi_cl_nested_desc(void) {
    mo_quant8_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.map = MO_QUANT_SIGNED;
    desc.block = 256;
    return desc;
}

/* The sum in double, in the order of the numbers; through piece, which has room for
 * moi_cl_nested_piece of them. */
static mo_status moi_cl_nested_sum(
    mo_cl *cl, const mo_cl_mem *x, uint64_t n, float *piece, double *sum) {
    *sum = 0;
    for (uint64_t i = 0; i < n; i += moi_cl_nested_piece) {
        const size_t left = (size_t)(n - i);
        const size_t numbers = left < moi_cl_nested_piece ? left : (size_t)moi_cl_nested_piece;
        const mo_status status =
            moi_cl_quant_move(cl, x, i * sizeof *piece, piece, numbers * sizeof *piece, 0);
        if (status != MO_OK) return status;
        for (size_t k = 0; k < numbers; k++) *sum += (double)piece[k];
    }
    return MO_OK;
}

mo_status mo_cl_quant_nested_encode(
    mo_cl *cl, mo_cl_mem absmax, size_t n, mo_cl_mem codes, mo_cl_mem absmax2, float *offset) {
    const mo_quant8_desc desc = moi_cl_nested_desc();
    const uint64_t blocks = moi_cl_blocks(n, 8);
    double sum = 0;
    if (!cl || !cl->context || !offset || !moi_cl_quant_holds(&absmax, sizeof(float), n) ||
        !moi_cl_quant_holds(&codes, 1, n) || !moi_cl_quant_holds(&absmax2, sizeof(float), blocks))
        return MO_E_INVALID;
    float *piece = (float *)moi_cl_new(&cl->allocator, moi_cl_nested_piece, sizeof *piece);
    if (!piece) return MO_E_NO_MEMORY;
    mo_status status = moi_cl_nested_sum(cl, &absmax, n, piece, &sum);
    moi_cl_delete(&cl->allocator, piece, moi_cl_nested_piece, sizeof *piece);
    if (status != MO_OK) return status;
    const float mean = n == 0 ? 0.0f : (float)(sum / (double)n);
    status = moi_cl_quant8_encode(cl, &desc, &absmax, n, mean, &codes, &absmax2);
    if (status == MO_OK) *offset = mean;
    return status;
}

mo_status mo_cl_quant_nested_decode(
    mo_cl *cl, mo_cl_mem codes, mo_cl_mem absmax2, float offset, size_t n, mo_cl_mem absmax) {
    const mo_quant8_desc desc = moi_cl_nested_desc();
    return moi_cl_quant8_decode(
        cl, &desc, "-DMO_OUT=0 -DMO_NESTED=1", &codes, &absmax2, n, offset, sizeof(float), &absmax);
}
