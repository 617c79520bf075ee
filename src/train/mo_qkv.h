/* mo_qkv.h - the projection to queries, keys and values as one product, and its gradients. */
#ifndef MEMOPT_QKV_H
#define MEMOPT_QKV_H

#include "mo_attention.h"
#include "mo_gemm.h"

/* mo_qkv_desc - rows of channels to rows of mo_qkv_width(desc): heads of q, then those of k, then
 * those of v, each of head_size numbers.
 *
 * rows, channels, heads, head_size  sizes; rows = batch * seq
 * kv_heads    heads of k and v, a divisor of heads; 0 = heads
 * transposed  0: the weight is [width x channels], as in PyTorch's Linear, with the rows of three
 *             separate weights behind each other; else [channels x width], as in GPT-2's files
 * env         what the products run on
 * Since: 0.1 */
typedef struct mo_qkv_desc {
    size_t rows, channels, heads, kv_heads, head_size;
    int transposed;
    const mo_gemm_env *env;
} mo_qkv_desc;

/* mo_qkv_tensors
 *
 * x        in      [rows x channels]
 * weight   in      see desc.transposed
 * bias     in      [width]; NULL = none
 * qkv      out     [rows x width]
 * dqkv     in      backward: gradient of qkv, same shape
 * dx       out     [rows x channels]: written, not added to; NULL = not wanted
 * dweight  in out  as weight: added to; NULL = the weight is frozen
 * dbias    in out  [width]: added to; NULL = none, or frozen
 * Since: 0.1 */
typedef struct mo_qkv_tensors {
    const float *x, *weight, *bias;
    float *qkv, *dqkv;
    float *dx, *dweight, *dbias;
} mo_qkv_tensors;

/* mo_qkv_width - (heads + 2 kv_heads) head_size; 0 when it does not fit, or kv_heads does not
 * divide heads. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_qkv_width(const mo_qkv_desc *desc);

/* mo_qkv_forward - qkv = x weight^T + bias
 * mo_qkv_backward - dx = dqkv weight, dweight += dqkv^T x, dbias += sum of the rows of dqkv
 *
 * Memory:  the workspace of env
 * Threads: one at a time per workspace; runs on the env's threads; results do not depend on them
 * Errors:  MO_E_INVALID (NULL, a size of 0, kv_heads), MO_E_OVERFLOW, those of mo_gemm
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_qkv_forward(
    const mo_qkv_desc *desc, const mo_qkv_tensors *tensors);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_qkv_backward(
    const mo_qkv_desc *desc, const mo_qkv_tensors *tensors);

/* mo_qkv_attention - what mo_attention reads from qkv, and where it puts its gradients.
 *
 * tensors           in      qkv; dqkv may be NULL
 * attention         in out  heads, kv_heads, head_size, stride and kv_stride are set
 * attention_tensors in out  q, k, v are set, with dqkv also dq, dk, dv
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, a size of 0, kv_heads), MO_E_OVERFLOW
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_qkv_attention(const mo_qkv_desc *desc,
    const mo_qkv_tensors *tensors, mo_attention_desc *attention,
    mo_attention_tensors *attention_tensors);

#endif
