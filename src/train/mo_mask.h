/* mo_mask.h - activations whose backward needs one bit a number, or nothing but the output: ReLU,
 * leaky ReLU and dropout, all of which may work in place.
 *
 * A mask has bit i % 32 of word i / 32 for number i; the bits behind the last number are 0. */
#ifndef MEMOPT_MASK_H
#define MEMOPT_MASK_H

#include "mo_base.h"

/* mo_mask_words - 32-bit words of the mask of n numbers. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_mask_words(size_t n);

/* mo_relu_forward - y = x > 0 ? x : slope x; bit i of the mask is x[i] > 0.
 * mo_relu_backward - dx = dy or slope dy, by the mask.
 * mo_relu_backward_output - the same by the output, y > 0: with it the mask is not needed, nor x.
 *
 * x, dy  in   [n]; NaN counts as not above 0
 * slope  0 = ReLU; above 0: leaky. Not below: the sign of y must be that of x
 * mask   out  [mo_mask_words] by forward, where NULL = not wanted; in by backward
 * y, dx  out  [n]; y may be x, dx may be dy or y
 *
 * GELU has no such form: two inputs give the same output, so that mo_gelu_backward needs x.
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, slope); n may be 0
 * Cost:    bytes moved: 8.1 n; backward_output 12 n
 * Source:  Jain et al. 2018, Gist (the mask); Rota Bulo et al. 2018, arXiv:1712.02616 (in place)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_relu_forward(
    const float *x, float slope, uint32_t *mask, float *y, size_t n, const mo_parallel *parallel);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_relu_backward(const uint32_t *mask, const float *dy,
    float slope, float *dx, size_t n, const mo_parallel *parallel);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_relu_backward_output(
    const float *y, const float *dy, float slope, float *dx, size_t n, const mo_parallel *parallel);

/* mo_dropout_desc
 *
 * p         chance that a number becomes 0, 0 <= p < 1, in steps of 2^-24
 * seed      of the random bits: another one for each tensor and pass
 * parallel  NULL = default
 * Since: 0.1 */
typedef struct mo_dropout_desc {
    float p;
    uint64_t seed;
    const mo_parallel *parallel;
} mo_dropout_desc;

/* mo_dropout_forward - y = x / (1 - p), or 0 with the chance p; bit i of the mask is: kept.
 * mo_dropout_backward - dx = dy / (1 - p), or 0, for the same numbers.
 *
 * x, dy  in   [n]
 * mask   out  [mo_mask_words] by forward, in by backward. NULL = none: backward draws the bits of
 *             the seed again, which costs a few integer operations instead of memory
 * y, dx  out  [n]; y may be x, dx may be dy
 *
 * Number i is kept when the upper 24 of its random bits, by the rule of mo_half_encode for index i,
 * are not below p 2^24; it is multiplied with 1 / (1 - p).
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, p); n may be 0
 * Cost:    bytes moved: 8.1 n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_dropout_forward(
    const mo_dropout_desc *desc, const float *x, uint32_t *mask, float *y, size_t n);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_dropout_backward(
    const mo_dropout_desc *desc, const uint32_t *mask, const float *dy, float *dx, size_t n);

#endif
