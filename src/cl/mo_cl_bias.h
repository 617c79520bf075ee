/* mo_cl_bias.h - biases on a device: what a product with beta 1 is added to, and sums of columns.
 *
 * Commands go to the compute queue in their order and are not waited for. */
#ifndef MEMOPT_CL_BIAS_H
#define MEMOPT_CL_BIAS_H

#include "mo_cl_heap.h"

/* mo_cl_bias_forward - y[row][i] = residual[row][i] + bias[i], to which x w is added then.
 *
 * bias      in   [columns] float
 * residual  in   [rows x columns] float; {0} = 0
 * y         out  [rows x columns] float; may be residual
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, columns 0, sizes), MO_E_OVERFLOW, MO_E_UNSUPPORTED (does not build),
 *          what OpenCL says; rows may be 0
 * Cost:    bytes moved: 4 rows columns; 8 with a residual
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_bias_forward(
    mo_cl *cl, mo_cl_mem bias, mo_cl_mem residual, size_t rows, size_t columns, mo_cl_mem y);

/* mo_cl_bias_workspace_size - bytes that make mo_cl_bias_backward parallel over the rows too: a sum
 * for each of up to 256 parts of the rows; 0 where that would not help, or does not fit.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_cl_bias_workspace_size(const mo_cl *cl, size_t rows, size_t columns);

/* mo_cl_bias_backward - dbias[i] += sum over the rows of dy[row][i].
 *
 * dy         in      [rows x columns] float
 * dbias      in out  [columns] float
 * workspace          mo_cl_bias_workspace_size bytes; {0} = none: slower, columns alone go to
 *                    groups
 *
 * The sum is taken in the order of the rows, inside each part and over the parts, so that it is the
 * same on every run and for every work_group; without a workspace there is one part.
 *
 * Memory:  the workspace
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, columns 0, sizes), MO_E_NO_SPACE (workspace), MO_E_OVERFLOW,
 *          MO_E_UNSUPPORTED (does not build), what OpenCL says; rows may be 0
 * Cost:    bytes moved: 4 rows columns
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_bias_backward(
    mo_cl *cl, mo_cl_mem dy, size_t rows, size_t columns, mo_cl_mem dbias, mo_cl_mem workspace);

#endif
