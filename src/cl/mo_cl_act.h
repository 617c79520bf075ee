/* mo_cl_act.h - mo_act.h on a device.
 *
 * Commands go to the compute queue in their order and are not waited for. */
#ifndef MEMOPT_CL_ACT_H
#define MEMOPT_CL_ACT_H

#include "mo_cl_heap.h"

/* mo_cl_gelu_forward - y = x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3): GELU with tanh.
 * mo_cl_gelu_backward - dx = dy times the derivative at x.
 *
 * x, dy  in   [n] float
 * y, dx  out  [n] float; y may be x, dx may be dy or x
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, sizes), MO_E_UNSUPPORTED (does not build), what OpenCL says; n may
 *          be 0. Accuracy: that of mo_gelu_forward; the same bits where the device fuses a product
 *          and a sum as the CPU does
 * Cost:    bytes moved: 8 n forward, 12 n backward
 * Source:  Hendrycks and Gimpel 2016, arXiv:1606.08415
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_gelu_forward(
    mo_cl *cl, mo_cl_mem x, mo_cl_mem y, size_t n);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_gelu_backward(
    mo_cl *cl, mo_cl_mem x, mo_cl_mem dy, mo_cl_mem dx, size_t n);

#endif
