/* mo_attention.h - exact attention without the seq x seq matrix: tiles of scores in a small
 * workspace, one number per row kept for backward. */
#ifndef MEMOPT_ATTENTION_H
#define MEMOPT_ATTENTION_H

#include "mo_base.h"

/* mo_attention_desc - batch x heads independent attentions of seq positions.
 *
 * batch, seq, heads, head_size  sizes
 * stride          elements from position to position in q and dq, and in k, v, dk and dv unless
 *                 kv_stride says otherwise; 0 = heads * head_size. A fused QKV activation has
 *                 (heads + 2 kv_heads) * head_size, with k and v behind q in the row.
 * scale           of the scores; 0 = 1 / sqrt(head_size)
 * full            not 0: every position sees every other; 0: causal, position t sees 0..t
 * workspace       mo_attention_workspace_size bytes, 64-byte aligned
 * workspace_size  bytes
 * parallel        NULL = default
 * kv_heads        heads of k and v, a divisor of heads: heads / kv_heads heads of q that follow
 *                 each other share one; 0 = heads
 * kv_stride       0 = stride, or kv_heads * head_size where that is 0 too
 * window          position t sees the last window positions, itself included: t - window + 1 .. t,
 *                 as in Mistral; full: those less than window away on either side. 0 = all
 * blocks          [n x n] bytes, n = ceil(seq / block), the same for all heads: positions of block
 *                 i see those of block j only where blocks[i n + j] is not 0, and causal and window
 *                 allow it; NULL = all. The caller's, read during the call
 * block           positions of a block, a multiple of 64; 0 = 64
 * dropout         part of the probabilities that becomes 0, the others are divided by
 *                 1 - dropout; 0..1, below 1
 * seed, offset    of the random bits that choose them: the same in forward and backward. Bits of
 *                 query i and key j are those of index 2^32 (offset + (b heads + h) seq + i) + j,
 *                 as mo_half_encode has them; below 2^32 dropout the probability is dropped
 *
 * A position that sees nothing has an out of 0 and an lse of -infinity.
 * Since: 0.1 */
typedef struct mo_attention_desc {
    size_t batch, seq, heads, head_size, stride;
    float scale;
    int full;
    void *workspace;
    size_t workspace_size;
    const mo_parallel *parallel;
    size_t kv_heads, kv_stride, window;
    const uint8_t *blocks;
    size_t block;
    float dropout;
    uint64_t seed, offset;
} mo_attention_desc;

/* mo_attention_tensors - what forward and backward read and write; head h of a position starts
 * h * head_size into its row.
 *
 * q           in   [batch x seq] rows of desc.stride
 * k, v        in   [batch x seq] rows of desc.kv_stride
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
 * Tiles of 64 queries by up to 512 keys of which nothing is seen are not computed. dk and dv of a
 * shared head are summed over its heads of q in their order.
 *
 * Memory:  the workspace; O(batch heads seq) for lse instead of O(batch heads seq^2)
 * Threads: one at a time per workspace; heads run on the desc's threads, in backward heads of k
 * Errors:  MO_E_INVALID (NULL, a size of 0, a stride below its heads * head_size, kv_heads, block,
 *          dropout), MO_E_OVERFLOW, MO_E_NO_SPACE (workspace)
 * Source:  Rabe and Staats 2021, arXiv:2112.05682; Dao et al. 2022, arXiv:2205.14135; Ainslie et
 *          al. 2023, arXiv:2305.13245 (shared heads); Jiang et al. 2023, arXiv:2310.06825 (window)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_attention_forward(
    const mo_attention_desc *desc, const mo_attention_tensors *tensors);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_attention_backward(
    const mo_attention_desc *desc, const mo_attention_tensors *tensors);

#endif
