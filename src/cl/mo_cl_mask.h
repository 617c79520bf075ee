/* mo_cl_mask.h - mo_mask.h on a device: ReLU, leaky ReLU and dropout whose backward needs one bit a
 * number, or the output alone. Masks and results are those of the CPU, bit for bit.
 *
 * Commands go to the compute queue in their order and are not waited for. */
#ifndef MEMOPT_CL_MASK_H
#define MEMOPT_CL_MASK_H

#include "mo_cl_heap.h"

/* mo_cl_relu_forward - y = x > 0 ? x : slope x; bit i of the mask is x[i] > 0.
 * mo_cl_relu_backward - dx = dy or slope dy, by the mask.
 * mo_cl_relu_backward_output - the same by the output, y > 0.
 *
 * x, dy  in   [n] float
 * slope  0 = ReLU; above 0: leaky
 * mask   out  [mo_mask_words] uint32_t by forward, where {0} = not wanted; in by backward
 * y, dx  out  [n] float; y may be x, dx may be dy or y
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, slope, sizes), MO_E_UNSUPPORTED (does not build), what OpenCL says;
 *          n may be 0
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_relu_forward(
    mo_cl *cl, mo_cl_mem x, float slope, mo_cl_mem mask, mo_cl_mem y, size_t n);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_relu_backward(
    mo_cl *cl, mo_cl_mem mask, mo_cl_mem dy, float slope, mo_cl_mem dx, size_t n);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_relu_backward_output(
    mo_cl *cl, mo_cl_mem y, mo_cl_mem dy, float slope, mo_cl_mem dx, size_t n);

/* mo_cl_dropout_forward - y = x / (1 - p), or 0 with the chance p; bit i of the mask is: kept.
 * mo_cl_dropout_backward - dx = dy / (1 - p), or 0, for the same numbers.
 *
 * desc   in   p, seed; parallel is not used
 * x, dy  in   [n] float
 * mask   out  [mo_mask_words] uint32_t by forward, in by backward; {0} = none: from the seed again
 * y, dx  out  [n] float; y may be x, dx may be dy
 *
 * Memory, Threads, Errors: those of mo_cl_relu_forward; p
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_dropout_forward(
    mo_cl *cl, const mo_dropout_desc *desc, mo_cl_mem x, mo_cl_mem mask, mo_cl_mem y, size_t n);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_dropout_backward(
    mo_cl *cl, const mo_dropout_desc *desc, mo_cl_mem mask, mo_cl_mem dy, mo_cl_mem dx, size_t n);

#endif
