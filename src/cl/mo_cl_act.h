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

/* mo_cl_swiglu_forward - y = silu(gate) up, silu(x) = x s(x), s(x) = 1 / (1 + e^-x).
 * mo_cl_swiglu_backward - dup = dy silu(gate), dgate = dy up s (1 + gate (1 - s)).
 *
 * desc            as for the CPU; its parallel is not used
 * gate, up, dy    in   [rows x hidden] float
 * y, dgate, dup   out  [rows x hidden] float; each may be the place of any input of the same stride
 *
 * Accuracy and range: those of mo_swiglu_forward; the same bits where the device divides correctly
 * (mo_cl_info).
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, a stride below hidden, sizes), MO_E_OVERFLOW, MO_E_UNSUPPORTED (does
 *          not build), what OpenCL says; rows and hidden may be 0
 * Cost:    bytes moved: 12 rows hidden forward, 20 backward
 * Source:  Shazeer 2020, arXiv:2002.05202
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_swiglu_forward(
    mo_cl *cl, const mo_swiglu_desc *desc, mo_cl_mem gate, mo_cl_mem up, mo_cl_mem y);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_swiglu_backward(mo_cl *cl, const mo_swiglu_desc *desc,
    mo_cl_mem gate, mo_cl_mem up, mo_cl_mem dy, mo_cl_mem dgate, mo_cl_mem dup);

#endif
