/* mo_half.h - numbers of two bytes and of one: fp16, bf16, fp8.
 *
 * Both directions keep subnormals; NaN stays NaN, with its sign. Results are bit-identical on every
 * CPU and for any number of threads. An output of 8 MiB or more is written past the caches. */
#ifndef MEMOPT_HALF_H
#define MEMOPT_HALF_H

#include "mo_base.h"

/* mo_half_format - sign, exponent, mantissa; largest finite, smallest normal, smallest number
 *
 * F16      1, 5, 10; 65504, 2^-14, 2^-24
 * BF16     1, 8, 7;  3.39e38, 2^-126, 2^-133
 * F8_E4M3  1, 4, 3;  448, 2^-6, 2^-9; no infinity, NaN is 0x7f and 0xff (E4M3FN)
 * F8_E5M2  1, 5, 2;  57344, 2^-14, 2^-16
 *
 * Source: Micikevicius et al. 2022, arXiv:2209.05433; OCP 8-bit floating point (OFP8) 1.0
 * Since:  0.1 */
typedef enum mo_half_format {
    MO_HALF_F16 = 0,
    MO_HALF_BF16,
    MO_HALF_F8_E4M3,
    MO_HALF_F8_E5M2,
    MO_HALF_FORMAT_COUNT
} mo_half_format;

/* mo_half_desc
 *
 * format      see above; 0 = fp16
 * stochastic  0 = to nearest, ties to even; else up with a probability of the distance from the
 *             lower neighbour, in units of their distance
 * seed        of the random bits
 * offset      number i of a call has the random bits of index offset + i: a part of an array, with
 *             its position as offset, gets the bits that the whole gets
 * saturate    0 = a number that rounds to more than the largest finite one becomes infinity (E4M3:
 *             NaN); else the largest finite one, as does infinity
 * parallel    NULL = default
 * Since: 0.1 */
typedef struct mo_half_desc {
    mo_half_format format;
    int stochastic;
    uint64_t seed, offset;
    int saturate;
    const mo_parallel *parallel;
} mo_half_desc;

/* mo_half_bytes - bytes of a number: 2 or 1; 0 out of range. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_half_bytes(mo_half_format format);

/* mo_half_encode - y[i] = x[i] rounded to the format of desc.
 *
 *   stochastic:  y[i] = (bits(x[i]) + r % 2^s) >> s     s = bits of the fp32 mantissa that are cut
 *                r = mix(low ^ mix(seed_low + mix(seed_high + mix(high)))), mod 2^32
 *                mix(h):  h = (h ^ h >> 16) * 0x7feb352d;  h = (h ^ h >> 15) * 0x846ca68b;
 *                         h ^ h >> 16
 *                low, high = the halves of offset + i
 *
 * desc  in   format, stochastic, seed, offset, saturate, parallel
 * x     in   [n] any float
 * y     out  [n] of mo_half_bytes(format), aligned to it
 *
 * Zero, infinity and every number of the format keep their value under either rounding; NaN becomes
 * quiet. The carry of the stochastic sum may reach infinity, which saturate stops. Where the result
 * is subnormal and not bf16, s counts the bits below the smallest number that are left when x is
 * cut to a multiple of 2^-20 (fp16), 2^-27 (E4M3) or 2^-28 (E5M2) of it: 20, 27, 28.
 *
 * Memory:  none; x and y must not overlap
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, format)
 * Cost:    bytes moved: (4 + mo_half_bytes) n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_half_encode(
    const mo_half_desc *desc, const float *x, size_t n, void *y);

/* mo_half_decode - y[i] = x[i], exact. A NaN becomes quiet, but for bf16, whose bits do not change.
 *
 * desc  in   format, parallel
 * x     in   [n] of mo_half_bytes(format), aligned to it
 * y     out  [n]
 *
 * Memory:  none; x and y must not overlap
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, format)
 * Cost:    bytes moved: (4 + mo_half_bytes) n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_half_decode(
    const mo_half_desc *desc, const void *x, size_t n, float *y);

/* mo_f32_to_f16, mo_f32_to_bf16 - mo_half_encode to nearest even, overflow to infinity
 * mo_f16_to_f32, mo_bf16_to_f32 - mo_half_decode
 *
 * x         in   [n]
 * y         out  [n]
 * parallel  in   NULL = default
 *
 * Memory:  none; x and y must not overlap
 * Threads: safe for distinct outputs
 * Errors:  none; n may be 0
 * Cost:    bytes moved: 6 n
 * Since:   0.1 */
MEMOPT_API void mo_f32_to_f16(const float *x, uint16_t *y, size_t n, const mo_parallel *parallel);
MEMOPT_API void mo_f32_to_bf16(const float *x, uint16_t *y, size_t n, const mo_parallel *parallel);
MEMOPT_API void mo_f16_to_f32(const uint16_t *x, float *y, size_t n, const mo_parallel *parallel);
MEMOPT_API void mo_bf16_to_f32(const uint16_t *x, float *y, size_t n, const mo_parallel *parallel);

#endif
