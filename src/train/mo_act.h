/* mo_act.h - GELU and SwiGLU, whose backward needs the input only, so that the output need not be
 * kept. */
#ifndef MEMOPT_ACT_H
#define MEMOPT_ACT_H

#include "mo_base.h"

/* mo_gelu_forward - y = x / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3): GELU with tanh.
 * mo_gelu_backward - dx = dy times the derivative at x.
 *
 * x, dy  in   [n]
 * y, dx  out  [n]; y may be x, dx may be dy or x
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  none; n may be 0. |x| up to 1e10. Relative error of y below 4e-7 for x > 0, 1e-5 for
 *          -8 < x < 0
 * Source:  Hendrycks and Gimpel 2016, arXiv:1606.08415
 * Since:   0.1 */
MEMOPT_API void mo_gelu_forward(const float *x, float *y, size_t n, const mo_parallel *parallel);
MEMOPT_API void mo_gelu_backward(
    const float *x, const float *dy, float *dx, size_t n, const mo_parallel *parallel);

/* mo_swiglu_desc - rows of hidden gated units.
 *
 * rows, hidden  shape of all matrices
 * stride        floats from a row of gate, up, dgate, dup to the next; 0 = hidden. 2 hidden with
 *               up = gate + hidden: one product has made both
 * y_stride      the same of y, dy; 0 = hidden
 * parallel      NULL = default
 * Since: 0.1 */
typedef struct mo_swiglu_desc {
    size_t rows, hidden;
    size_t stride, y_stride;
    const mo_parallel *parallel;
} mo_swiglu_desc;

/* mo_swiglu_forward - y = silu(gate) up, silu(x) = x s(x), s(x) = 1 / (1 + e^-x).
 * mo_swiglu_backward - dup = dy silu(gate), dgate = dy up s (1 + gate (1 - s)).
 *
 * gate, up, dy    in   [rows x hidden]
 * y, dgate, dup   out  [rows x hidden]; each may be the place of any input of the same stride
 *
 * The same bits on every CPU: products and sums are rounded one by one.
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, a stride below hidden), MO_E_OVERFLOW; rows and hidden may be 0.
 *          |gate| up to 1e10. Relative error of y below 1e-6 for gate > -87
 * Source:  Shazeer 2020, arXiv:2002.05202
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_swiglu_forward(
    const mo_swiglu_desc *desc, const float *gate, const float *up, float *y);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_swiglu_backward(const mo_swiglu_desc *desc,
    const float *gate, const float *up, const float *dy, float *dgate, float *dup);

#endif
