/* mo_quant_internal.h - one block at a time, for the optimizers. */
#ifndef MEMOPT_QUANT_INTERNAL_H
#define MEMOPT_QUANT_INTERNAL_H

enum { moi_q8_max_block = 4096 };

/* What encoding with one map needs: for each range of float bits that share their upper 16, the
 * level, which is the number of values from 0 up to the nearest one, in the upper 8 bits, and below
 * it what carries into the level when the lower 16 bits of a magnitude beyond the range's one
 * half-way point are added. The ranges start at 2^-23, below every half-way point. */
enum {
    moi_q8_first_cell = 0x3400,
    moi_q8_cells = 0x3f80 - moi_q8_first_cell + 1 /* up to and with that of 1 */
};

typedef struct moi_q8_coder {
    const float *map;
    uint32_t zero, no_zero; /* the code of 0; whether other numbers must avoid it */
    uint32_t cells[moi_q8_cells];
} moi_q8_coder;

/* Takes about a microsecond. */
static void moi_q8_begin(moi_q8_coder *coder, mo_quant_map map, int no_zero);

#endif
