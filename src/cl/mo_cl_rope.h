/* mo_cl_rope.h - mo_rope.h on a device: rotary position embedding in place.
 *
 * Commands go to the compute queue in their order and are not waited for. */
#ifndef MEMOPT_CL_ROPE_H
#define MEMOPT_CL_ROPE_H

#include "mo_cl_heap.h"

/* mo_cl_rope_forward - x (a, b) = (a cos - b sin, b cos + a sin) for each pair of each head.
 * mo_cl_rope_backward - the same with -sin: gradients of what forward turned.
 *
 * desc   as for the CPU; its table and parallel are not used
 * table  in      [positions x head_size] float, from mo_rope_table
 * x, dx  in out  [batch x seq] rows of heads x head_size float
 *
 * The bits of the CPU.
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (as mo_rope_forward; sizes), MO_E_OVERFLOW, MO_E_UNSUPPORTED (does not
 *          build), what OpenCL says; batch may be 0
 * Cost:    bytes moved: 8 batch seq heads head_size
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_rope_forward(
    mo_cl *cl, const mo_rope_desc *desc, mo_cl_mem table, mo_cl_mem x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_rope_backward(
    mo_cl *cl, const mo_rope_desc *desc, mo_cl_mem table, mo_cl_mem dx);

#endif
