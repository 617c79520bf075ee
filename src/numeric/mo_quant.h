/* mo_quant.h - blockwise 8-bit codes: one byte a number, one scale a block. */
#ifndef MEMOPT_QUANT_H
#define MEMOPT_QUANT_H

#include "mo_base.h"

/* Which 256 values the codes stand for.
 *
 * SIGNED           dynamic, -0.993 .. 1, code 127 = 0: weights, gradients, first moments
 * UNSIGNED         dynamic, 0 .. 1, code 0 = 0: second moments and their square roots
 * LINEAR_SIGNED    -1 .. 1 in steps of 1 / 127, codes 127 and 128 = 0
 * LINEAR_UNSIGNED  0 .. 1 in steps of 1 / 255 */
typedef enum mo_quant_map {
    MO_QUANT_SIGNED = 0,
    MO_QUANT_UNSIGNED,
    MO_QUANT_LINEAR_SIGNED,
    MO_QUANT_LINEAR_UNSIGNED,
    MO_QUANT_MAP_COUNT
} mo_quant_map;

/* mo_quant8_desc
 *
 * map       see above
 * block     numbers per scale, a power of two, 64..4096; 0 = 256
 * no_zero   not 0: a number other than 0 never gets the code of 0, but the smallest of its sign.
 *           For states that are divided by.
 * parallel  NULL = default
 * Since: 0.1 */
typedef struct mo_quant8_desc {
    mo_quant_map map;
    size_t block;
    int no_zero;
    const mo_parallel *parallel;
} mo_quant8_desc;

/* mo_quant8_table - the 256 values of a map, ascending; NULL out of range.
 *
 * Memory:  static
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API const float *mo_quant8_table(mo_quant_map map);

/* mo_quant8_encode - codes and scales.
 *
 *   absmax[b] = max |x[i]| of block b,  codes[i] = nearest(map, x[i] * (1 / absmax[b]))
 *
 * x       in   [n] finite; the last block may be short
 * codes   out  [n]
 * absmax  out  [ceil(n / block)]; 0 for an all-zero block, whose codes are the code of 0. A block
 *              whose numbers are all subnormal counts as all-zero.
 *
 * Exactly nearest; a number half-way between two values gets the even code, or if it is negative
 * the mirror of its magnitude's code. Bit-identical on every CPU and for any number of threads. A
 * block that holds an infinity or NaN has absmax infinity and decodes to no finite number.
 *
 * Memory:  none; outputs must not overlap x
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, map, block)
 * Cost:    bytes moved: 5 n
 * Source:  Dettmers et al. 2022, arXiv:2110.02861, section 2
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_quant8_encode(
    const mo_quant8_desc *desc, const float *x, size_t n, uint8_t *codes, float *absmax);

/* mo_quant8_decode - x[i] = map[codes[i]] * absmax[i / block].
 * mo_quant8_decode_bf16, mo_quant8_decode_f16 - the same, rounded to nearest even.
 *
 * codes   in   [n]
 * absmax  in   [ceil(n / block)]
 * x       out  [n]; above 8 MiB it is written past the caches
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, map, block)
 * Cost:    bytes moved: 5 n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_quant8_decode(
    const mo_quant8_desc *desc, const uint8_t *codes, const float *absmax, size_t n, float *x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_quant8_decode_bf16(
    const mo_quant8_desc *desc, const uint8_t *codes, const float *absmax, size_t n, uint16_t *x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_quant8_decode_f16(
    const mo_quant8_desc *desc, const uint8_t *codes, const float *absmax, size_t n, uint16_t *x);

#endif
