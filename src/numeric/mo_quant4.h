/* mo_quant4.h - blockwise 4-bit codes, NF4 and FP4, and 8-bit codes for their scales: the tables
 * and the order of the nibbles are those of bitsandbytes, so that files interchange. */
#ifndef MEMOPT_QUANT4_H
#define MEMOPT_QUANT4_H

#include "mo_base.h"

/* Which 16 values the codes stand for.
 *
 * NF4  quantiles of the normal distribution, ascending from -1 to 1, code 7 = 0
 * FP4  sign, two bits of exponent, one of mantissa: bit 3 is the sign, the others stand for
 *      0, 1/192, 2/3, 1, 1/3, 1/2, 1/6, 1/4 in this order; code 8 = -0 */
typedef enum mo_quant4_map { MO_QUANT_NF4 = 0, MO_QUANT_FP4, MO_QUANT4_MAP_COUNT } mo_quant4_map;

/* mo_quant4_desc
 *
 * map       see above
 * block     numbers per scale, a power of two, 32..4096; 0 = 64
 * parallel  NULL = default
 * Since: 0.1 */
typedef struct mo_quant4_desc {
    mo_quant4_map map;
    size_t block;
    const mo_parallel *parallel;
} mo_quant4_desc;

/* mo_quant4_table - the 16 values of a map by code; NULL out of range.
 *
 * Memory:  static
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API const float *mo_quant4_table(mo_quant4_map map);

/* mo_quant4_encode - codes and scales.
 *
 *   absmax[b] = max |x[i]| of block b,  code of i = nearest(map, x[i] * (1 / absmax[b]))
 *
 * x       in   [n] finite; the last block may be short
 * codes   out  [ceil(n / 2)]: number 2k in the high half of byte k, 2k + 1 in the low half. An odd
 *              n is followed by the code of 0.
 * absmax  out  [ceil(n / block)]; 0 for an all-zero block, whose codes are the code of 0. A block
 *              whose numbers are all subnormal counts as all-zero.
 *
 * Nearest by the thresholds of bitsandbytes: a number on a threshold gets the lower value (FP4: the
 * lower magnitude), and three of FP4's thresholds lie some ulp beside the middle. FP4 sets the sign
 * of every number below 0, also of one that becomes -0. Bit-identical on every CPU and for any
 * number of threads. A block that holds an infinity or NaN has absmax infinity and decodes to
 * infinities.
 *
 * A part of an array encodes to the same codes when it starts at a multiple of the block.
 *
 * Memory:  none; outputs must not overlap x
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, map, block)
 * Cost:    bytes moved: (4.5 + 4 / block) n
 * Source:  Dettmers et al. 2023, arXiv:2305.14314, section 3
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_quant4_encode(
    const mo_quant4_desc *desc, const float *x, size_t n, uint8_t *codes, float *absmax);

/* mo_quant4_decode, mo_quant4_decode_bf16, mo_quant4_decode_f16 - numbers first .. first + n - 1.
 *
 *   x[i] = map[code of first + i] * absmax[(first + i) / block]
 *
 * codes   in   of the whole array
 * absmax  in   of the whole array
 * first   in   any number
 * x       out  [n] float; bf16 or fp16: that float rounded to nearest even
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, map, block)
 * Cost:    bytes moved: (4.5 + 4 / block) n; 2.5 for bf16 and fp16. From 8 MiB on, an x that is
 *          aligned to 64 bytes is written past the cache.
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_quant4_decode(const mo_quant4_desc *desc,
    const uint8_t *codes, const float *absmax, size_t first, size_t n, float *x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_quant4_decode_bf16(const mo_quant4_desc *desc,
    const uint8_t *codes, const float *absmax, size_t first, size_t n, uint16_t *x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_quant4_decode_f16(const mo_quant4_desc *desc,
    const uint8_t *codes, const float *absmax, size_t first, size_t n, uint16_t *x);

/* mo_quant_nested_encode - 8-bit codes for the scales of a 4-bit array (double quantization): 4.13
 * bits a number instead of 4.5 at block 64.
 *
 *   offset = mean of absmax,  codes, absmax2 = mo_quant8 (signed, block 256) of absmax - offset
 *
 * absmax   in   [n] finite
 * codes    out  [n]
 * absmax2  out  [ceil(n / 256)]
 * offset   out  summed in double, rounded once; 0 for n = 0
 *
 * Memory:  none; outputs must not overlap absmax
 * Threads: safe for distinct outputs; runs on one
 * Errors:  MO_E_INVALID (NULL)
 * Source:  Dettmers et al. 2023, arXiv:2305.14314, section 3
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_quant_nested_encode(
    const float *absmax, size_t n, uint8_t *codes, float *absmax2, float *offset);

/* mo_quant_nested_decode - absmax[i] = map[codes[i]] * absmax2[i / 256] + offset.
 *
 * codes    in   [n]
 * absmax2  in   [ceil(n / 256)]
 * absmax   out  [n]
 *
 * Memory:  none
 * Threads: safe for distinct outputs; runs on one
 * Errors:  MO_E_INVALID (NULL)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_quant_nested_decode(
    const uint8_t *codes, const float *absmax2, float offset, size_t n, float *absmax);

#endif
