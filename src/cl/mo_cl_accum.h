/* mo_cl_accum.h - mo_accum.h on a device: what happens to gradients between backward and the step.
 *
 * Commands go to the compute queue in their order and are not waited for. */
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

#endif
