/* mo_cl_attention.h - mo_attention.h on a device: exact attention without the seq x seq matrix.
 *
 * Commands go to the compute queue in their order and are not waited for. */
#ifndef MEMOPT_CL_ATTENTION_H
#define MEMOPT_CL_ATTENTION_H

#include "mo_cl_heap.h"

/* mo_cl_attention_desc - batch x heads independent attentions of seq positions.
 *
 * batch, seq, heads, head_size  sizes; seq and batch * heads below 2^31, head_size up to 256
 * stride     elements from position to position in q and dq, and in k, v, dk and dv unless
 *            kv_stride says otherwise; 0 = heads * head_size. A fused QKV activation has (heads + 2
 *            kv_heads) * head_size, with k and v behind q in the row.
 * scale      of the scores; 0 = 1 / sqrt(head_size)
 * full       not 0: every position sees every other; 0: causal, position t sees 0..t
 * workspace  for backward, mo_cl_attention_workspace_size bytes
 * kv_heads, kv_stride, window, block, dropout, seed, offset  see mo_attention_desc
 * blocks     [n x n] bytes, n = ceil(seq / block): see mo_attention_desc; {0} = all see all
 * Since: 0.1 */
typedef struct mo_cl_attention_desc {
    size_t batch, seq, heads, head_size, stride;
    float scale;
    int full;
    mo_cl_mem workspace;
    size_t kv_heads, kv_stride, window;
    mo_cl_mem blocks;
    size_t block;
    float dropout;
    uint64_t seed, offset;
} mo_cl_attention_desc;

/* mo_cl_attention_tensors - what forward and backward read and write, all float; head h of a
 * position starts h * head_size into its row.
 *
 * q           in   [batch x seq] rows of desc.stride, of which heads * head_size count
 * k, v        in   [batch x seq] rows of desc.kv_stride, of which kv_heads * head_size count: with
 *                  q parts of one fused activation, or three blocks
 * out         out  [batch x seq x heads x head_size], rows follow each other; backward reads it
 * lse         out  [batch x heads x seq]: log of the sum of e^score of each row; backward reads it
 * dout        in   backward: gradient of out, same shape
 * dq, dk, dv  out  backward: gradients, shaped as q, k, v; written, not added to
 * Since: 0.1 */
typedef struct mo_cl_attention_tensors {
    mo_cl_mem q, k, v, out, lse;
    mo_cl_mem dout, dq, dk, dv;
} mo_cl_attention_tensors;

/* mo_cl_attention_workspace_size - bytes that backward needs: one float for each row of each head;
 * 0 when the sizes do not fit. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_cl_attention_workspace_size(const mo_cl_attention_desc *desc);

/* mo_cl_attention_forward - out = softmax(scale q k^T) v, head by head.
 * mo_cl_attention_backward - dq, dk, dv from dout; the scores are computed again.
 *
 * Every element is summed by one item in a fixed order: the same bits on every run, but not those
 * of the CPU, which sums in another order. Against exact arithmetic the error is of the same size
 * as that of mo_attention: some 1e-6 of the largest element.
 *
 * Tiles of which nothing is seen are not computed. dk and dv of a shared head are summed over its
 * heads of q in their order.
 *
 * Memory:  the workspace in backward; O(batch heads seq) for lse instead of O(batch heads seq^2)
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, a size of 0, a stride below its heads * head_size, sizes, kv_heads,
 *          block, dropout), MO_E_OVERFLOW, MO_E_NO_SPACE (workspace), MO_E_UNSUPPORTED (head_size
 *          above 256; blocks below the rows of a group of more than 512 items; does not build),
 *          what OpenCL says
 * Cost:    4 seq^2 head_size operations a head in forward, 14 in backward (10, and the scores of
 *          both of its kernels); half of it when causal, window / seq of it with a window
 * Source:  Rabe and Staats 2021, arXiv:2112.05682; Dao et al. 2022, arXiv:2205.14135; see
 *          mo_attention_forward
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_attention_forward(
    mo_cl *cl, const mo_cl_attention_desc *desc, const mo_cl_attention_tensors *tensors);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_attention_backward(
    mo_cl *cl, const mo_cl_attention_desc *desc, const mo_cl_attention_tensors *tensors);

#endif
