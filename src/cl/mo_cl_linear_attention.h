/* mo_cl_linear_attention.h - mo_linear_attention.h on a device: attention whose cost grows with the
 * length of the sequence, not with its square.
 *
 * Commands go to the compute queue in their order and are not waited for. */
#ifndef MEMOPT_CL_LINEAR_ATTENTION_H
#define MEMOPT_CL_LINEAR_ATTENTION_H

#include "mo_cl_heap.h"

/* mo_cl_linear_attention_desc - batch x heads independent attentions of seq positions.
 *
 * batch, seq, heads, head_size  sizes; seq and batch * heads below 2^31, head_size up to 256
 * stride     elements from position to position in q, k, v and their gradients; 0 = heads *
 *            head_size. A fused QKV activation has 3 * heads * head_size.
 * full       not 0: every position sees every other; 0: causal, position t sees 0..t
 * epsilon    added to the sum of the weights of a position; 0 = 1e-6
 * workspace  for backward, mo_cl_linear_attention_workspace_size bytes
 * Since: 0.1 */
typedef struct mo_cl_linear_attention_desc {
    size_t batch, seq, heads, head_size, stride;
    int full;
    float epsilon;
    mo_cl_mem workspace;
} mo_cl_linear_attention_desc;

/* mo_cl_linear_attention_tensors - what forward and backward read and write, all float; head h of a
 * position starts h * head_size into its row.
 *
 * q, k, v     in   [batch x seq] rows of desc.stride, of which heads * head_size count
 * out         out  [batch x seq x heads x head_size], rows follow each other; backward reads it
 * norm        out  [batch x heads x seq]: the sum of the weights of each position, with epsilon;
 *                  backward reads it
 * dout        in   backward: gradient of out, same shape
 * dq, dk, dv  out  backward: gradients, shaped as q, k, v; written, not added to
 * Since: 0.1 */
typedef struct mo_cl_linear_attention_tensors {
    mo_cl_mem q, k, v, out, norm;
    mo_cl_mem dout, dq, dk, dv;
} mo_cl_linear_attention_tensors;

/* mo_cl_linear_attention_workspace_size - bytes that backward needs: one float for each row of each
 * head; 0 when the sizes do not fit. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_cl_linear_attention_workspace_size(const mo_cl_linear_attention_desc *desc);

/* mo_cl_linear_attention_forward - out[t] = f(q[t]) S[t] / (f(q[t]) z[t] + epsilon), head by head
 * mo_cl_linear_attention_backward - dq, dk, dv from dout; the sums are taken again.
 *
 * Every element is summed by one item in the order of the positions: the same bits on every run,
 * but not those of the CPU, which takes the positions of a chunk together.
 *
 * Memory:  the workspace in backward; the state is in private memory
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, a size of 0, stride below heads * head_size, sizes, epsilon below 0
 *          or NaN), MO_E_OVERFLOW, MO_E_NO_SPACE (workspace), MO_E_UNSUPPORTED (head_size above
 *          256; does not build), what OpenCL says
 * Cost:    4 seq head_size^2 operations a head in forward, 12 in backward; heads and columns of the
 *          state run in parallel, positions do not
 * Source:  Katharopoulos et al. 2020, arXiv:2006.16236
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_linear_attention_forward(mo_cl *cl,
    const mo_cl_linear_attention_desc *desc, const mo_cl_linear_attention_tensors *tensors);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_linear_attention_backward(mo_cl *cl,
    const mo_cl_linear_attention_desc *desc, const mo_cl_linear_attention_tensors *tensors);

#endif
