/* mo_quant_internal.h - one block at a time, for the optimizers. */
#ifndef MEMOPT_QUANT_INTERNAL_H
#define MEMOPT_QUANT_INTERNAL_H

enum { moi_q8_max_block = 4096 };

/* What encoding with one map needs. A code is the number of thresholds below the value:
 * threshold[i + 1] lies half-way between map[i] and map[i + 1], one float lower where a tie must
 * go up to the even code; threshold[0] is -infinity and threshold[256] +infinity. */
typedef struct moi_q8_coder {
    const float *map;
    float threshold[257];
    int is_signed;
    uint32_t zero, no_zero; /* the code of 0; whether other numbers must avoid it */
} moi_q8_coder;

static void moi_q8_begin(moi_q8_coder *coder, mo_quant_map map, int no_zero);

#endif
