/* mo_compress.h - compressed activations: what forward saves for backward, in 8 or 4 bits a number
 * instead of 32. Rounding is stochastic, so that what is linear in it is right on average. */
#ifndef MEMOPT_COMPRESS_H
#define MEMOPT_COMPRESS_H

#include "mo_base.h"

/* mo_compress_desc
 *
 * bits      8 or 4; 0 = 8
 * block     numbers that share a range, a power of two, 64..256; 0 = 256 for 8 bits, 64 for 4
 * seed      of the random bits: another one for each tensor and pass
 * parallel  NULL = default
 * Since: 0.1 */
typedef struct mo_compress_desc {
    int bits;
    size_t block;
    uint64_t seed;
    const mo_parallel *parallel;
} mo_compress_desc;

/* mo_compress_size - bytes for n numbers: 8 for each block, then the codes: with the default block
 * 8.25 or 5 bits a number. 4 bits gain from small blocks: in a small GPT those of 128
 * disturbed the first losses 2.4 times as much.
 *
 * Threads: safe
 * Errors:  0 (NULL, bits, block, or more than size_t holds)
 * Since:   0.1 */
MEMOPT_API size_t mo_compress_size(const mo_compress_desc *desc, size_t n);

/* mo_compress_encode - codes and ranges.
 *
 *   low = min x, step = (max x - low) / (2^bits - 1)                 of a block
 *   code[i] = floor((x[i] - low) / step + u[i])                      u uniform in [0, 1)
 *
 * The expected value of low + step code[i] is x[i], and |low + step code[i] - x[i]| < step (in
 * fp32: both but for 1e-6 of a block's largest magnitude). u[i] has 22 bits (8-bit codes) or 26 of
 * the index i under seed, by the rule of mo_half_encode.
 *
 * Minimum and maximum rather than the largest magnitude: activations are not symmetric. Behind a
 * GELU or ReLU half of the codes of a symmetric range would never be used, and before it a mean
 * that is not 0 costs as much.
 *
 * x      in   [n] finite; the last block may be short
 * codes  out  [mo_compress_size], aligned to 4: {float low, step} of each block, then a byte for
 *             each number, or for two, with the first in its high half
 *
 * Bit-identical on every CPU and for any number of threads. A block whose numbers lie within 2^-70
 * decodes to its least number; one that holds an infinity or NaN, or spans more than FLT_MAX, to
 * NaN.
 *
 * Memory:  none; codes must not overlap x
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, bits, block)
 * Cost:    bytes moved: 5 n or 4.6 n
 * Source:  Chen et al. 2021, ActNN, arXiv:2104.14129; Liu et al. 2022, GACT, arXiv:2206.11357
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_compress_encode(
    const mo_compress_desc *desc, const float *x, size_t n, void *codes);

/* mo_compress_decode - x[i] = low + step code[i]. The seed is not used.
 *
 * codes  in   [mo_compress_size], aligned to 4
 * x      out  [n]
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, bits, block)
 * Cost:    bytes moved: 5 n or 4.6 n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_compress_decode(
    const mo_compress_desc *desc, const void *codes, size_t n, float *x);

#endif
