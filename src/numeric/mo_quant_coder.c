/* mo_quant_coder.c - see mo_quant_coder.h. */

/* A number above threshold i, but no higher one, has place i + 1 among the values (FP4: among the
 * magnitudes); the last ones are never exceeded. */
static const float moi_nf4_thresholds[16] = {-0.848096371f, -0.610632896f, -0.45999527f,
    -0.33967942f, -0.234607399f, -0.137911737f, -0.0455250181f, 0.0397901498f, 0.120255247f,
    0.203521252f, 0.292013764f, 0.389312536f, 0.501663446f, 0.64278692f, 0.861478448f, 2.0f};
static const float moi_fp4_thresholds[16] = {0.00260417f, 0.0859375f, 0.208333328f, 0.291666657f,
    0.416666687f, 0.583333015f, 0.833333313f, 2.0f, 2.0f, 2.0f, 2.0f, 2.0f, 2.0f, 2.0f, 2.0f, 2.0f};

/* Level i lasts up to half-way to value i + 1; the half-way point itself has the even code. */
static void moi_q8_begin(moi_q8_coder *coder, mo_quant_map map, int no_zero) {
    const float *values = mo_quant8_table(map);
    coder->map = values;
    coder->zero = map == MO_QUANT_SIGNED ? 127 : map == MO_QUANT_LINEAR_SIGNED ? 128 : 0;
    coder->no_zero = no_zero != 0;
    uint32_t *cell = coder->cells, *const end = cell + moi_q8_cells;
    uint32_t level = coder->no_zero;
    for (uint32_t code = coder->zero + level; code < 255; code++, level++) {
        const float half_way = (values[code] + values[code + 1]) * 0.5f;
        const uint32_t next = moi_float_bits(half_way) + (code % 2 == 0); /* first of level + 1 */
        uint32_t *const last = coder->cells + (next >> 16) - moi_q8_first_cell;
        while (cell < last) *cell++ = level << 24;
        *cell++ = (level << 24) + 0x1000000 - (next & 0xffff);
    }
    while (cell < end) *cell++ = level << 24;
}

static void moi_q4_begin(moi_q4_coder *coder, int is_signed) {
    static const float positive[9] = {
        0, 0.0055f, 0.0325f, 0.0775f, 0.2125f, 0.4375f, 0.6625f, 0.8875f, 1};
    for (int i = 0; i < 16; i++) {
        if (is_signed) coder->map[i] = i < 7 ? -positive[7 - i] : positive[i - 7];
        else coder->map[i] = (float)i / 15.0f;
    }
    for (int i = 0; i < 15; i++) coder->threshold[i] = (coder->map[i] + coder->map[i + 1]) * 0.5f;
    if (!is_signed) coder->threshold[0] = 0;
    coder->threshold[15] = HUGE_VALF;
    coder->zero = is_signed ? 7 : 0;
}
