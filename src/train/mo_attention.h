/* mo_attention.h - exact attention without the seq x seq matrix: tiles of scores in a small
 * workspace, one number per row kept for backward. */
#ifndef MEMOPT_ATTENTION_H
#define MEMOPT_ATTENTION_H

#include "mo_base.h"

/* mo_attention_desc - batch x heads independent attentions of seq positions.
 *
 * batch, seq, heads, head_size  sizes
 * stride          elements from position to position in q, k, v and their gradients; 0 = heads *
 *                 head_size. A fused QKV activation has 3 * heads * head_size, with k and v
 *                 starting one and two thirds into the row.
 * scale           of the scores; 0 = 1 / sqrt(head_size)
 * full            not 0: every position sees every other; 0: causal, position t sees 0..t
 * workspace       mo_attention_workspace_size bytes, 64-byte aligned
 * workspace_size  bytes
 * parallel        NULL = default
 * Since: 0.1 */
typedef struct mo_attention_desc {
    size_t batch, seq, heads, head_size, stride;
    float scale;
    int full;
    void *workspace;
    size_t workspace_size;
    const mo_parallel *parallel;
} mo_attention_desc;

/* mo_attention_tensors - what forward and backward read and write; head h of a position starts
 * h * head_size into its row.
 *
 * q, k, v     in   [batch x seq] rows of desc.stride
 * out         out  [batch x seq x heads x head_size], rows follow each other; backward reads it
 * lse         out  [batch x heads x seq]: log of the sum of e^score of each row; backward reads it
 * dout        in   backward: gradient of out, same shape
 * dq, dk, dv  out  backward: gradients, shaped as q, k, v; written, not added to
 * Since: 0.1 */
typedef struct mo_attention_tensors {
    const float *q, *k, *v;
    float *out, *lse;
    const float *dout;
    float *dq, *dk, *dv;
} mo_attention_tensors;

/* mo_attention_workspace_size - bytes that forward and backward need: O(head_size) per thread,
 * whatever the length of the sequence; 0 when the sizes do not fit. With less, down to one thread's
 * share, fewer threads run.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_attention_workspace_size(const mo_attention_desc *desc);

/* mo_attention_forward - out = softmax(scale q k^T) v, head by head.
 * mo_attention_backward - dq, dk, dv from dout; the scores are computed again.
 *
 * Memory:  the workspace; O(batch heads seq) for lse instead of O(batch heads seq^2)
 * Threads: one at a time per workspace; heads run on the desc's threads
 * Errors:  MO_E_INVALID (NULL, a size of 0, stride below heads * head_size), MO_E_OVERFLOW,
 *          MO_E_NO_SPACE (workspace)
 * Source:  Rabe and Staats 2021, arXiv:2112.05682; Dao et al. 2022, arXiv:2205.14135
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_attention_forward(
    const mo_attention_desc *desc, const mo_attention_tensors *tensors);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_attention_backward(
    const mo_attention_desc *desc, const mo_attention_tensors *tensors);

#endif
