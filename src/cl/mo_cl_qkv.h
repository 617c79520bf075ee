/* mo_cl_qkv.h - mo_qkv.h on a device: the projection to queries, keys and values as one product.
 *
 * Commands go to the compute queue in their order and are not waited for. */
#ifndef MEMOPT_CL_QKV_H
#define MEMOPT_CL_QKV_H

#include "mo_cl_attention.h"
#include "mo_cl_gemm.h"

/* mo_cl_qkv_desc - as mo_qkv_desc.
 *
 * env        what the products run on
 * workspace  for dbias, mo_cl_bias_workspace_size(cl, rows, width) bytes; {0} = none: slower
 * Since: 0.1 */
typedef struct mo_cl_qkv_desc {
    size_t rows, channels, heads, kv_heads, head_size;
    int transposed;
    const mo_cl_gemm_env *env;
    mo_cl_mem workspace;
} mo_cl_qkv_desc;

/* mo_cl_qkv_tensors - as mo_qkv_tensors, all float; {0} where that may be NULL. Since: 0.1 */
typedef struct mo_cl_qkv_tensors {
    mo_cl_mem x, weight, bias;
    mo_cl_mem qkv, dqkv;
    mo_cl_mem dx, dweight, dbias;
} mo_cl_qkv_tensors;

/* mo_cl_qkv_width - (heads + 2 kv_heads) head_size; 0 when it does not fit, or kv_heads does not
 * divide heads. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_cl_qkv_width(const mo_cl_qkv_desc *desc);

/* mo_cl_qkv_forward - qkv = x weight^T + bias
 * mo_cl_qkv_backward - dx = dqkv weight, dweight += dqkv^T x, dbias += sum of the rows of dqkv
 *
 * Memory:  the workspaces
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, a size of 0, kv_heads), MO_E_OVERFLOW, those of mo_cl_gemm and
 *          mo_cl_bias_backward
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_qkv_forward(
    const mo_cl_qkv_desc *desc, const mo_cl_qkv_tensors *tensors);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_qkv_backward(
    const mo_cl_qkv_desc *desc, const mo_cl_qkv_tensors *tensors);

/* mo_cl_qkv_attention - what mo_cl_attention reads from qkv, and where it puts its gradients.
 *
 * tensors            in      qkv; dqkv may be {0}
 * attention          in out  heads, kv_heads, head_size, stride and kv_stride are set
 * attention_tensors  in out  q, k, v are set, with dqkv also dq, dk, dv
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, a size of 0, kv_heads, sizes), MO_E_OVERFLOW
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_qkv_attention(const mo_cl_qkv_desc *desc,
    const mo_cl_qkv_tensors *tensors, mo_cl_attention_desc *attention,
    mo_cl_attention_tensors *attention_tensors);

#endif
