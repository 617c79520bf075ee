/* mo_norm.h - LayerNorm and RMSNorm, whose output need not be kept: backward works from the input
 * and two numbers per row, or one, and the output can be had again for the price of one pass. */
#ifndef MEMOPT_NORM_H
#define MEMOPT_NORM_H

#include "mo_base.h"

/* mo_layernorm_desc - one normalization of n rows of channels.
 *
 * n, channels      shape of x, y, dx, dy
 * epsilon          added to the variance; 0 = 1e-5
 * weight, bias     [channels]
 * mean, rstd       [n] each: written by forward, read by apply and backward
 * dweight, dbias   [channels]: added to by backward; NULL = weight or bias is frozen
 * add              not 0: backward adds to dx instead of writing it (residual connections)
 * parallel         NULL = default
 * Since: 0.1 */
typedef struct mo_layernorm_desc {
    size_t n, channels;
    float epsilon;
    const float *weight, *bias;
    float *mean, *rstd;
    float *dweight, *dbias;
    int add;
    const mo_parallel *parallel;
} mo_layernorm_desc;

/* mo_layernorm_forward - y = (x - mean) rstd weight + bias, row by row; writes mean and rstd.
 * mo_layernorm_apply - the same y, bit for bit, from the mean and rstd of an earlier forward.
 *
 * x  in   [n x channels]
 * y  out  [n x channels]; may be x in forward when x is not needed again
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_layernorm_forward(
    const mo_layernorm_desc *desc, const float *x, float *y);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_layernorm_apply(
    const mo_layernorm_desc *desc, const float *x, float *y);

/* mo_layernorm_backward - gradients of x, weight and bias.
 *
 *   h = (x - mean) rstd,  g = dy weight
 *   dx = rstd (g - mean(g) - h mean(g h)),  dweight += sum(dy h),  dbias += sum(dy)
 *
 * x, dy  in      [n x channels]
 * dx     in out  [n x channels]; may be dy when add is 0
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_layernorm_backward(
    const mo_layernorm_desc *desc, const float *x, const float *dy, float *dx);

/* mo_layernorm_restore - the input from the output, for a normalization in place: forward writes y
 * over x, which nobody keeps then; before mo_layernorm_backward this writes x over y again.
 *
 *   x = (y - bias) / weight / rstd + mean
 *
 * y  in   [n x channels] of the forward with this weight, bias, mean and rstd
 * x  out  [n x channels]; may be y
 *
 * The output knows (x - mean) rstd only up to its own rounding: the error of x is
 * 2^-24 (1 + |bias / weight|) / rstd. A weight of 0 would lose its channel, so it is an error, as
 * is one so small that the bias leaves fewer than 11 bits: |weight| < 2^-12 |bias|. A caller checks
 * this before forward (n = 0 does that alone), and keeps x where it fails.
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL), MO_E_STATE (a weight is 0, or too small beside its bias);
 *          nothing is written then
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_layernorm_restore(
    const mo_layernorm_desc *desc, const float *y, float *x);

/* mo_rmsnorm_desc - one normalization of n rows of channels by their root mean square.
 *
 * n, channels  shape of x, y, dx, dy
 * epsilon      added to the mean square; 0 = 1e-5
 * weight       [channels]
 * rstd         [n]: written by forward, read by apply and backward
 * dweight      [channels]: added to by backward; NULL = weight is frozen
 * add          not 0: backward adds to dx instead of writing it (residual connections)
 * parallel     NULL = default
 * Since: 0.1 */
typedef struct mo_rmsnorm_desc {
    size_t n, channels;
    float epsilon;
    const float *weight;
    float *rstd;
    float *dweight;
    int add;
    const mo_parallel *parallel;
} mo_rmsnorm_desc;

/* mo_rmsnorm_forward - y = x rstd weight, rstd = 1 / sqrt(mean(x^2) + epsilon), row by row.
 * mo_rmsnorm_apply - the same y, bit for bit, from the rstd of an earlier forward.
 *
 * x  in   [n x channels]
 * y  out  [n x channels]; may be x in forward when x is not needed again
 *
 * The same bits on every CPU: products and sums are rounded one by one, in sixteen sums.
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, channels 0); n may be 0
 * Source:  Zhang and Sennrich 2019, arXiv:1910.07467
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_rmsnorm_forward(
    const mo_rmsnorm_desc *desc, const float *x, float *y);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_rmsnorm_apply(
    const mo_rmsnorm_desc *desc, const float *x, float *y);

/* mo_rmsnorm_backward - gradients of x and weight.
 *
 *   h = x rstd,  dx = rstd (dy weight - h mean(dy weight h)),  dweight += sum(dy h)
 *
 * x, dy  in      [n x channels]
 * dx     in out  [n x channels]; may be dy when add is 0
 *
 * The same bits on every CPU.
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, channels 0); n may be 0
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_rmsnorm_backward(
    const mo_rmsnorm_desc *desc, const float *x, const float *dy, float *dx);

#endif
