/* mo_cl_norm.h - mo_norm.h on a device: LayerNorm and RMSNorm whose output need not be kept.
 *
 * Commands go to the compute queue in their order and are not waited for. */
#ifndef MEMOPT_CL_NORM_H
#define MEMOPT_CL_NORM_H

#include "mo_cl_heap.h"

/* mo_cl_layernorm_desc - one normalization of n rows of channels; all memory holds floats.
 *
 * n, channels      shape of x, y, dx, dy
 * epsilon          added to the variance; 0 = 1e-5
 * weight, bias     [channels]
 * mean, rstd       [n] each: written by forward, read by apply and backward
 * dweight, dbias   [channels]: added to by backward; {0} = weight or bias is frozen
 * add              not 0: backward adds to dx instead of writing it (residual connections)
 * workspace        for dweight and dbias, mo_cl_layernorm_workspace_size bytes; {0} = none: slower,
 *                  columns alone go to groups
 * Since: 0.1 */
typedef struct mo_cl_layernorm_desc {
    size_t n, channels;
    float epsilon;
    mo_cl_mem weight, bias;
    mo_cl_mem mean, rstd;
    mo_cl_mem dweight, dbias;
    int add;
    mo_cl_mem workspace;
} mo_cl_layernorm_desc;

/* mo_cl_layernorm_workspace_size - bytes that make dweight and dbias parallel over the rows too:
 * two sums for each of up to 256 parts of the rows; 0 where that would not help, or does not fit.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_cl_layernorm_workspace_size(const mo_cl *cl, const mo_cl_layernorm_desc *desc);

/* mo_cl_layernorm_forward - y = (x - mean) rstd weight + bias, row by row; writes mean and rstd.
 * mo_cl_layernorm_apply - the same y, bit for bit, from the mean and rstd of an earlier forward on
 * this device.
 *
 * x  in   [n x channels]
 * y  out  [n x channels]; may be x when x is not needed again
 *
 * The sums of a row are taken in another order than on the CPU: a relative error of rstd below
 * 1e-6 for rows of a few thousand channels.
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, channels 0, sizes), MO_E_OVERFLOW, MO_E_UNSUPPORTED (does not
 *          build), what OpenCL says; n may be 0
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_layernorm_forward(
    mo_cl *cl, const mo_cl_layernorm_desc *desc, mo_cl_mem x, mo_cl_mem y);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_layernorm_apply(
    mo_cl *cl, const mo_cl_layernorm_desc *desc, mo_cl_mem x, mo_cl_mem y);

/* mo_cl_layernorm_backward - gradients of x, weight and bias.
 *
 *   h = (x - mean) rstd,  g = dy weight
 *   dx = rstd (g - mean(g) - h mean(g h)),  dweight += sum(dy h),  dbias += sum(dy)
 *
 * x, dy  in      [n x channels]
 * dx     in out  [n x channels]; may be dy when add is 0
 *
 * The sums for dweight and dbias are taken in the order of the rows, as in mo_cl_bias_backward.
 *
 * Memory:  the workspace
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, channels 0, sizes), MO_E_NO_SPACE (workspace), MO_E_OVERFLOW,
 *          MO_E_UNSUPPORTED (does not build), what OpenCL says; n may be 0
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_layernorm_backward(
    mo_cl *cl, const mo_cl_layernorm_desc *desc, mo_cl_mem x, mo_cl_mem dy, mo_cl_mem dx);

/* mo_cl_layernorm_restore - the input from the output, for a normalization in place.
 *
 *   x = (y - bias) / weight / rstd + mean
 *
 * y  in   [n x channels] of the forward with this weight, bias, mean and rstd
 * x  out  [n x channels]; may be y
 *
 * The weights are not looked at: a caller checks them as mo_layernorm_restore says.
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, channels 0, sizes), MO_E_OVERFLOW, MO_E_UNSUPPORTED (does not
 *          build), what OpenCL says; n may be 0
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_layernorm_restore(
    mo_cl *cl, const mo_cl_layernorm_desc *desc, mo_cl_mem y, mo_cl_mem x);

/* mo_cl_rmsnorm_desc - one normalization of n rows of channels by their root mean square; all
 * memory holds floats.
 *
 * n, channels  shape of x, y, dx, dy
 * epsilon      added to the mean square; 0 = 1e-5
 * weight       [channels]
 * rstd         [n]: written by forward, read by apply and backward
 * dweight      [channels]: added to by backward; {0} = weight is frozen
 * add          not 0: backward adds to dx instead of writing it (residual connections)
 * workspace    for dweight, mo_cl_rmsnorm_workspace_size bytes; {0} = none: slower, columns alone
 *              go to groups
 * Since: 0.1 */
typedef struct mo_cl_rmsnorm_desc {
    size_t n, channels;
    float epsilon;
    mo_cl_mem weight;
    mo_cl_mem rstd;
    mo_cl_mem dweight;
    int add;
    mo_cl_mem workspace;
} mo_cl_rmsnorm_desc;

/* mo_cl_rmsnorm_workspace_size - bytes that make dweight parallel over the rows too; 0 where that
 * would not help, or does not fit.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_cl_rmsnorm_workspace_size(const mo_cl *cl, const mo_cl_rmsnorm_desc *desc);

/* mo_cl_rmsnorm_forward - y = x rstd weight, rstd = 1 / sqrt(mean(x^2) + epsilon), row by row.
 * mo_cl_rmsnorm_apply - the same y, bit for bit, from the rstd of an earlier forward on this
 *                       device.
 *
 * x  in   [n x channels]
 * y  out  [n x channels]; may be x when x is not needed again
 *
 * With groups of one work-item on a device that divides and takes roots correctly (mo_cl_info) the
 * bits of mo_rmsnorm_forward; else a relative error of rstd below 1e-6.
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, channels 0, sizes), MO_E_OVERFLOW, MO_E_UNSUPPORTED (does not
 *          build), what OpenCL says; n may be 0
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_rmsnorm_forward(
    mo_cl *cl, const mo_cl_rmsnorm_desc *desc, mo_cl_mem x, mo_cl_mem y);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_rmsnorm_apply(
    mo_cl *cl, const mo_cl_rmsnorm_desc *desc, mo_cl_mem x, mo_cl_mem y);

/* mo_cl_rmsnorm_backward - gradients of x and weight.
 *
 *   h = x rstd,  dx = rstd (dy weight - h mean(dy weight h)),  dweight += sum(dy h)
 *
 * x, dy  in      [n x channels]
 * dx     in out  [n x channels]; may be dy when add is 0
 *
 * Memory:  the workspace
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, channels 0, sizes), MO_E_NO_SPACE (workspace), MO_E_OVERFLOW,
 *          MO_E_UNSUPPORTED (does not build), what OpenCL says; n may be 0
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_rmsnorm_backward(
    mo_cl *cl, const mo_cl_rmsnorm_desc *desc, mo_cl_mem x, mo_cl_mem dy, mo_cl_mem dx);

#endif
