/* mo_quant_coder.h - what encoding looks codes up in, for the loops of the CPU and for devices;
 * never part of the public header. */
#ifndef MEMOPT_QUANT_CODER_H
#define MEMOPT_QUANT_CODER_H

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

/* 16 values, ascending, and the 15 thresholds between them; the 16th is never passed. */
typedef struct moi_q4_coder {
    float map[16], threshold[16];
    uint8_t zero;
} moi_q4_coder;

/* The optimizers' 4-bit codes. Signed: the dynamic map of 3 decades that torchao uses for first
 * moments. Unsigned: even steps for the square root of v. A v that is not 0 never gets the code of
 * 0: its threshold lies at 0. */
static void moi_q4_begin(moi_q4_coder *coder, int is_signed);

#endif
