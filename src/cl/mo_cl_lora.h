/* mo_cl_lora.h - mo_lora.h on a device: low-rank adapters on a frozen weight of any format.
 *
 * Commands go to the compute queue in their order and are not waited for, but where merging encodes
 * nested scales. */
#ifndef MEMOPT_CL_LORA_H
#define MEMOPT_CL_LORA_H

#include "mo_cl_gemm.h"
#include "mo_cl_weight.h"

/* mo_cl_lora_desc - as mo_lora_desc.
 *
 * env        products
 * workspace  mo_cl_lora_workspace_size bytes, or mo_cl_lora_merge_workspace_size for merging
 * Since: 0.1 */
typedef struct mo_cl_lora_desc {
    size_t rows, rank;
    float alpha;
    int rslora, in_out, add;
    float dropout;
    uint64_t seed;
    size_t chunk_rows, y_stride, dx_stride;
    const mo_cl_gemm_env *env;
    mo_cl_mem workspace;
} mo_cl_lora_desc;

/* mo_cl_lora_tensors - as mo_lora_tensors; da, db {0} = not wanted. Since: 0.1 */
typedef struct mo_cl_lora_tensors {
    const mo_cl_weight *weight;
    mo_cl_mem a, b, da, db;
} mo_cl_lora_tensors;

/* mo_cl_lora_init - as mo_lora_init, to the bit.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, sizes), MO_E_OVERFLOW, MO_E_UNSUPPORTED (does not build), what
 *          OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_lora_init(
    mo_cl *cl, size_t in, size_t out, size_t rank, uint64_t seed, mo_cl_mem a, mo_cl_mem b);

/* mo_cl_lora_workspace_size, mo_cl_lora_merge_workspace_size - as those of mo_lora.h.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_cl_lora_workspace_size(
    const mo_cl_lora_desc *desc, const mo_cl_weight *weight);
MEMOPT_API size_t mo_cl_lora_merge_workspace_size(
    const mo_cl_lora_desc *desc, const mo_cl_weight *weight);

/* mo_cl_lora_forward, mo_cl_lora_backward - as mo_lora_forward and mo_lora_backward; the same
 * numbers are dropped. Products are those of mo_cl_gemm, with its accuracy.
 *
 * x   in      [rows x in] float; backward: {0} where neither da nor db is wanted
 * dy  in      [rows x out] float
 * y   out     [rows x out] float, in out when desc.add
 * dx  out     [rows x in] float, in out when desc.add; {0} = not wanted
 *
 * Memory:  the workspaces of desc and env
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, sizes, dropout, a stride below its row), MO_E_OVERFLOW,
 *          MO_E_NO_SPACE (workspace), MO_E_UNSUPPORTED (does not build), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_lora_forward(
    const mo_cl_lora_desc *desc, const mo_cl_lora_tensors *tensors, mo_cl_mem x, mo_cl_mem y);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_lora_backward(const mo_cl_lora_desc *desc,
    const mo_cl_lora_tensors *tensors, mo_cl_mem x, mo_cl_mem dy, mo_cl_mem dx);

/* mo_cl_lora_merge, mo_cl_lora_unmerge - as mo_lora_merge and mo_lora_unmerge, as lossy as they.
 *
 * Memory:  the workspaces of desc and env; nested scales: see mo_cl_quant_nested_encode
 * Threads: one at a time
 * Errors:  as mo_cl_lora_forward; MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_lora_merge(
    const mo_cl_lora_desc *desc, mo_cl_weight *weight, mo_cl_mem a, mo_cl_mem b);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_lora_unmerge(
    const mo_cl_lora_desc *desc, mo_cl_weight *weight, mo_cl_mem a, mo_cl_mem b);

#endif
