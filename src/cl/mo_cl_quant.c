/* mo_cl_quant.c - see mo_cl_quant.h. */

/* The exponent of a block size; -1 where it is none. */
static int moi_cl_block_shift(size_t block, size_t least) {
    int shift = 0;
    if (!moi_is_pow2(block) || block < least || block > moi_q8_max_block) return -1;
    while ((size_t)1 << shift < block) shift++;
    return shift;
}

static int moi_cl_quant8_shift(const mo_quant8_desc *desc) {
    if (!desc || (unsigned)desc->map >= MO_QUANT_MAP_COUNT) return -1;
    return moi_cl_block_shift(desc->block == 0 ? 256 : desc->block, 64);
}

/* Blocks that n numbers make. */
static uint64_t moi_cl_blocks(uint64_t n, int shift) {
    return (n >> shift) + ((n & (((uint64_t)1 << shift) - 1)) != 0);
}

/* Whether n elements of size bytes are inside mem, as moi_cl_mem_arg checks. */
static int moi_cl_quant_holds(const mo_cl_mem *mem, size_t size, uint64_t n) {
    return mem->buffer && mem->off % size == 0 && n <= mem->size / size;
}

/* A part of mem to the host, or from there (write); returns when it is complete. */
static mo_status moi_cl_quant_move(
    mo_cl *cl, const mo_cl_mem *mem, uint64_t off, void *data, size_t size, int write) {
    cl_command_queue queue = cl->queues[MO_CL_COMPUTE];
    const size_t at = (size_t)(mem->off + off);
    const cl_int code = write
        ? clEnqueueWriteBuffer(queue, mem->buffer, CL_TRUE, at, size, data, 0, NULL, NULL)
        : clEnqueueReadBuffer(queue, mem->buffer, CL_TRUE, at, size, data, 0, NULL, NULL);
    if (code == CL_SUCCESS) return MO_OK;
    return moi_cl_fail(
        &cl->log, write ? "clEnqueueWriteBuffer" : "clEnqueueReadBuffer", code, "%zu bytes", size);
}

/* Codes of x - offset. */
static mo_status moi_cl_quant8_encode(mo_cl *cl, const mo_quant8_desc *desc, const mo_cl_mem *x,
    uint64_t n, float offset, const mo_cl_mem *codes, const mo_cl_mem *absmax) {
    static const uint32_t zeros[MO_QUANT_MAP_COUNT] = {127, 0, 128, 0};
    const int shift = moi_cl_quant8_shift(desc);
    if (shift < 0) return MO_E_INVALID;
    const uint32_t no_zero = desc->no_zero != 0, map = (uint32_t)desc->map;
    moi_cl_call call =
        moi_cl_begin(cl, MOI_CL_mo_cl_quant8_encode, "-DMO_OUT=0 -DMO_NESTED=0"); /* any */
    moi_cl_tables_arg(&call);
    moi_cl_mem_arg(&call, x, sizeof(float), n);
    moi_cl_mem_arg(&call, codes, 1, n);
    moi_cl_mem_arg(&call, absmax, sizeof(float), moi_cl_blocks(n, shift));
    moi_cl_u64_arg(&call, n);
    moi_cl_u32_arg(&call, (uint32_t)shift);
    moi_cl_f32_arg(&call, offset);
    moi_cl_u32_arg(&call, moi_cl_table_cells + (2 * map + no_zero) * moi_cl_table_cell_words);
    moi_cl_u32_arg(&call, zeros[map]);
    moi_cl_u32_arg(&call, no_zero);
    moi_cl_f32_arg(&call, mo_quant8_table(desc->map)[0]);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

static mo_status moi_cl_quant8_decode(mo_cl *cl, const mo_quant8_desc *desc, const char *options,
    const mo_cl_mem *codes, const mo_cl_mem *absmax, uint64_t n, float offset, size_t width,
    const mo_cl_mem *x) {
    const int shift = moi_cl_quant8_shift(desc);
    if (shift < 0) return MO_E_INVALID;
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_quant8_decode, options);
    moi_cl_tables_arg(&call);
    moi_cl_mem_arg(&call, codes, 1, n);
    moi_cl_mem_arg(&call, absmax, sizeof(float), moi_cl_blocks(n, shift));
    moi_cl_mem_arg(&call, x, width, n);
    moi_cl_u64_arg(&call, n);
    moi_cl_u32_arg(&call, (uint32_t)shift);
    moi_cl_f32_arg(&call, offset);
    moi_cl_u32_arg(&call, 256 * (uint32_t)desc->map);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

mo_status mo_cl_quant8_encode(mo_cl *cl, const mo_quant8_desc *desc, mo_cl_mem x, size_t n,
    mo_cl_mem codes, mo_cl_mem absmax) {
    return moi_cl_quant8_encode(cl, desc, &x, n, 0.0f, &codes, &absmax);
}

mo_status mo_cl_quant8_decode(mo_cl *cl, const mo_quant8_desc *desc, mo_cl_mem codes,
    mo_cl_mem absmax, size_t n, mo_cl_mem x) {
    return moi_cl_quant8_decode(
        cl, desc, "-DMO_OUT=0 -DMO_NESTED=0", &codes, &absmax, n, 0.0f, sizeof(float), &x);
}
mo_status mo_cl_quant8_decode_bf16(mo_cl *cl, const mo_quant8_desc *desc, mo_cl_mem codes,
    mo_cl_mem absmax, size_t n, mo_cl_mem x) {
    return moi_cl_quant8_decode(
        cl, desc, "-DMO_OUT=1 -DMO_NESTED=0", &codes, &absmax, n, 0.0f, 2, &x);
}
mo_status mo_cl_quant8_decode_f16(mo_cl *cl, const mo_quant8_desc *desc, mo_cl_mem codes,
    mo_cl_mem absmax, size_t n, mo_cl_mem x) {
    return moi_cl_quant8_decode(
        cl, desc, "-DMO_OUT=2 -DMO_NESTED=0", &codes, &absmax, n, 0.0f, 2, &x);
}
