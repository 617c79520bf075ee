/* mo_act.h - activations whose backward needs the input only, so that the output need not be
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

#endif
