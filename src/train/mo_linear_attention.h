/* mo_linear_attention.h - attention whose cost grows with the length of the sequence, not with its
 * square: the softmax gives way to a product of features, which is summed in any order. */
#ifndef MEMOPT_LINEAR_ATTENTION_H
#define MEMOPT_LINEAR_ATTENTION_H

#include "mo_base.h"

/* mo_linear_attention_desc - batch x heads independent attentions of seq positions.
 *
 * batch, seq, heads, head_size  sizes
 * stride          elements from position to position in q, k, v and their gradients; 0 = heads *
 *                 head_size. A fused QKV activation has 3 * heads * head_size, with k and v
 *                 starting one and two thirds into the row.
 * full            not 0: every position sees every other; 0: causal, position t sees 0..t
 * chunk           positions that are computed at once; 0 = 64
 * epsilon         added to the sum of the weights of a position; 0 = 1e-6
 * workspace       mo_linear_attention_workspace_size bytes, 64-byte aligned
 * workspace_size  bytes
 * parallel        NULL = default
 * Since: 0.1 */
typedef struct mo_linear_attention_desc {
    size_t batch, seq, heads, head_size, stride;
    int full;
    size_t chunk;
    float epsilon;
    void *workspace;
    size_t workspace_size;
    const mo_parallel *parallel;
} mo_linear_attention_desc;

/* mo_linear_attention_tensors - what forward and backward read and write; head h of a position
 * starts h * head_size into its row.
 *
 * q, k, v     in   [batch x seq] rows of desc.stride
 * out         out  [batch x seq x heads x head_size], rows follow each other; backward reads it
 * norm        out  [batch x heads x seq]: the sum of the weights of each position, with epsilon;
 *                  backward reads it
 * dout        in   backward: gradient of out, same shape
 * dq, dk, dv  out  backward: gradients, shaped as q, k, v; written, not added to
 * Since: 0.1 */
typedef struct mo_linear_attention_tensors {
    const float *q, *k, *v;
    float *out, *norm;
    const float *dout;
    float *dq, *dk, *dv;
} mo_linear_attention_tensors;

/* mo_linear_attention_workspace_size - bytes that forward and backward need: for each thread the
 * head_size^2 numbers of a state, and a chunk of positions, whatever the length of the sequence; 0
 * when the sizes do not fit. With less, down to one thread's share, fewer threads run.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_linear_attention_workspace_size(const mo_linear_attention_desc *desc);

/* mo_linear_attention_forward - out[t] = f(q[t]) S[t] / (f(q[t]) z[t] + epsilon), head by head
 * mo_linear_attention_backward - dq, dk, dv from dout; the sums are taken again, from the front for
 * dq and from the back for dk and dv.
 *
 *   S[t] = sum of f(k[j])^T v[j],  z[t] = sum of f(k[j]),  over the positions that t sees
 *   f(x) = elu(x) + 1 = x + 1 above 0, e^x below (0 below -60)
 *
 * Memory:  the workspace; nothing of the size of the sequence but norm
 * Threads: one at a time per workspace; heads run on the desc's threads
 * Errors:  MO_E_INVALID (NULL, a size of 0, stride below heads * head_size, epsilon below 0 or
 *          NaN), MO_E_OVERFLOW, MO_E_NO_SPACE (workspace)
 * Cost:    seq head_size (4 head_size + 4 chunk) operations a head in forward; 10 and 12 for the
 *          two 4s in backward
 * Source:  Katharopoulos et al. 2020, arXiv:2006.16236; epsilon as in the authors' code
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_linear_attention_forward(
    const mo_linear_attention_desc *desc, const mo_linear_attention_tensors *tensors);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_linear_attention_backward(
    const mo_linear_attention_desc *desc, const mo_linear_attention_tensors *tensors);

#endif
