/* mo_cl_accum.h - mo_accum.h on a device: what happens to gradients between backward and the step.
 *
 * Commands go to the compute queue in their order and are not waited for, unless a function hands
 * out a number. mo_accum_clip_scale, mo_percentile_clip and mo_loss_scaler take the sums of squares
 * that come from here; their bits are the CPU's.
 *
 *     for each tensor i:  mo_cl_accum_square_parts(&cl, grad[i], n[i], mo_cl_part(&parts,
 *                             i * MO_CL_ACCUM_PARTS_BYTES, MO_CL_ACCUM_PARTS_BYTES))
 *     mo_cl_accum_square_sums(&cl, parts, n_tensors, sums)      waits once
 *     desc.grad_scale = mo_accum_clip_scale(sqrt(sum of sums), max_norm) */
#ifndef MEMOPT_CL_ACCUM_H
#define MEMOPT_CL_ACCUM_H

#include "mo_cl_heap.h"

/* mo_cl_accum_add - sum[i] += scale * grad[i], bit for bit as mo_accum_add.
 *
 * grad  in      [n] float
 * sum   in out  [n] float; does not overlap grad
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, sizes), MO_E_UNSUPPORTED (does not build), what OpenCL says
 * Cost:    bytes moved: 12 n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_accum_add(
    mo_cl *cl, mo_cl_mem grad, float scale, mo_cl_mem sum, size_t n);

/* mo_cl_accum_add_bf16_stochastic, mo_cl_accum_add_bf16_kahan - bit for bit as the functions of
 * mo_accum.h.
 *
 * grad       in      [n] float
 * sum, lost  in out  [n] bf16; neither overlaps another
 * noise      in      NULL = both 0
 *
 * Threads: one at a time
 * Errors:  as mo_cl_accum_add
 * Cost:    bytes moved: 8 n, 12 n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_accum_add_bf16_stochastic(
    mo_cl *cl, mo_cl_mem grad, float scale, mo_cl_mem sum, size_t n, const mo_accum_noise *noise);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_accum_add_bf16_kahan(
    mo_cl *cl, mo_cl_mem grad, float scale, mo_cl_mem sum, mo_cl_mem lost, size_t n);

/* mo_cl_accum_square_sum - the sum of grad[i]^2, bit for bit as mo_accum_square_sum; inf or NaN
 * when a gradient is. It is added in double, on devices that have none by integers.
 *
 * grad  in   [n] float
 * sum   out
 *
 * Memory:  2 KiB of the device, kept by the mo_cl
 * Threads: one at a time
 * Errors:  as mo_cl_accum_add
 * Cost:    bytes moved: 4 n, in 1024 sums beside each other; waits for the result
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_accum_square_sum(
    mo_cl *cl, mo_cl_mem grad, size_t n, double *sum);

/* Bytes of the partial sums of one tensor. */
enum { MO_CL_ACCUM_PARTS_BYTES = 512 };

/* mo_cl_accum_square_parts - the sum of squares of one tensor in 64 parts, which stay on the
 * device.
 * mo_cl_accum_square_sums - the sums of squares of n tensors from their parts, each as
 * mo_cl_accum_square_sum gives it: one wait for all of them.
 *
 * parts  [MO_CL_ACCUM_PARTS_BYTES], of n tensors one behind the other; 8-byte aligned
 * sums   out  [n]
 *
 * Memory:  sums: the mo_cl's allocator, for the parts
 * Threads: one at a time
 * Errors:  as mo_cl_accum_add; MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_accum_square_parts(
    mo_cl *cl, mo_cl_mem grad, size_t n, mo_cl_mem parts);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_accum_square_sums(
    mo_cl *cl, mo_cl_mem parts, size_t n, double *sums);

/* mo_cl_accum_scale - grad[i] *= scale.
 *
 * Threads: one at a time
 * Errors:  as mo_cl_accum_add
 * Cost:    bytes moved: 8 n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_accum_scale(
    mo_cl *cl, mo_cl_mem grad, float scale, size_t n);

/* mo_cl_accum_unscale - the same, and whether the results are finite: to divide gradients by the
 * loss scale without another pass.
 *
 * overflow  in out  [1] uint32_t; 1 when a result is inf or NaN, else as it was. Set it to 0 before
 *                   the first tensor (mo_cl_fill_u32), read it after the last one
 *                   (mo_cl_download), and tell mo_loss_scaler_update: HUGE_VAL if it is set, else 0
 *
 * Threads: one at a time
 * Errors:  as mo_cl_accum_add
 * Cost:    bytes moved: 8 n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_accum_unscale(
    mo_cl *cl, mo_cl_mem grad, float scale, size_t n, mo_cl_mem overflow);

/* mo_cl_accum_clip - one tensor's own norm brought down to max_norm, bit for bit as mo_accum_clip.
 *
 * grad  in out  [n] float; untouched when its norm is small enough or not finite
 * norm  out     the norm before
 *
 * Threads: one at a time
 * Errors:  as mo_cl_accum_add
 * Cost:    bytes moved: 4 n, 12 n when it clips; waits for the norm
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_accum_clip(
    mo_cl *cl, mo_cl_mem grad, size_t n, double max_norm, double *norm);

#endif
