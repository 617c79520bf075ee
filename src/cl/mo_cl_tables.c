/* mo_cl_tables.c - what the kernels of codec.cl look up, in one buffer that is filled once. */

/* Words of the buffer, as in codec.cl. */
enum {
    moi_cl_table_cells = MO_QUANT_MAP_COUNT * 256,
    moi_cl_table_cell_words = 2960, /* moi_q8_cells and some more */
    moi_cl_table_map4 = moi_cl_table_cells + 2 * MO_QUANT_MAP_COUNT * moi_cl_table_cell_words,
    moi_cl_table_pairs = moi_cl_table_map4 + 4 * 32,
    moi_cl_table_words = moi_cl_table_pairs + 4 * 512
};

static void moi_cl_tables_put8(uint32_t *words, int map) {
    moi_q8_coder coder;
    memcpy(words + 256 * map, mo_quant8_table((mo_quant_map)map), 256 * sizeof(float));
    for (int no_zero = 0; no_zero < 2; no_zero++) {
        moi_q8_begin(&coder, (mo_quant_map)map, no_zero);
        memcpy(words + moi_cl_table_cells + (2 * map + no_zero) * moi_cl_table_cell_words,
            coder.cells, sizeof coder.cells);
    }
}

static void moi_cl_tables_put4(
    uint32_t *words, int kind, const float *values, const float *thresholds) {
    uint32_t *to = words + moi_cl_table_map4 + 32 * kind;
    memcpy(to, values, 16 * sizeof(float));
    memcpy(to + 16, thresholds, 16 * sizeof(float));
    for (int byte = 0; byte < 256; byte++) { /* the high half first */
        uint32_t *pair = words + moi_cl_table_pairs + 512 * kind + 2 * byte;
        memcpy(pair, values + (byte >> 4), sizeof(float));
        memcpy(pair + 1, values + (byte & 15), sizeof(float));
    }
}

static void moi_cl_tables_fill(uint32_t *words) {
    moi_q4_coder coder;
    for (int map = 0; map < MO_QUANT_MAP_COUNT; map++) moi_cl_tables_put8(words, map);
    moi_cl_tables_put4(words, 0, mo_quant4_table(MO_QUANT_NF4), moi_nf4_thresholds);
    moi_cl_tables_put4(words, 1, mo_quant4_table(MO_QUANT_FP4), moi_fp4_thresholds);
    for (int is_signed = 1; is_signed >= 0; is_signed--) {
        moi_q4_begin(&coder, is_signed);
        moi_cl_tables_put4(words, 3 - is_signed, coder.map, coder.threshold);
    }
}

static mo_status moi_cl_tables_make(mo_cl *cl) {
    cl_int code = CL_SUCCESS;
    const size_t size = moi_cl_table_words * sizeof(uint32_t);
    uint32_t *words = (uint32_t *)moi_cl_new(&cl->allocator, size, 1);
    if (!words) return MO_E_NO_MEMORY;
    memset(words, 0, size);
    moi_cl_tables_fill(words);
    cl_mem tables =
        clCreateBuffer(cl->context, CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR, size, words, &code);
    moi_cl_delete(&cl->allocator, words, size, 1);
    if (!tables || code != CL_SUCCESS)
        return moi_cl_fail(&cl->log, "clCreateBuffer", code, "tables of %zu bytes", size);
    cl->tables = tables;
    return MO_OK;
}

static void moi_cl_tables_arg(moi_cl_call *call) {
    if (call->status == MO_OK && !call->cl->tables) call->status = moi_cl_tables_make(call->cl);
    if (call->status == MO_OK) moi_cl_raw_arg(call, &call->cl->tables, sizeof(cl_mem));
}
