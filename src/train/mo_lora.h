/* mo_lora.h - low-rank adapters on a frozen weight, which may be stored in 16, 8 or 4 bits and is
 * never expanded: only the adapters have gradients and optimizer states. */
#ifndef MEMOPT_LORA_H
#define MEMOPT_LORA_H

#include "mo_base.h"
#include "mo_gemm.h"
#include "mo_weight.h"

/* mo_lora_desc - an adapted linear layer from in to out features.
 *
 * rows            of x and y
 * rank            of the adapter
 * alpha           its share is s = alpha / rank; 0 = rank, so s = 1
 * rslora          not 0: s = alpha / sqrt(rank)
 * in_out          0: the weight is [out x in], as a Linear of PyTorch; not 0: [in x out], as a
 *                 Conv1D of GPT-2 (PEFT's fan_in_fan_out)
 * add             not 0: forward adds to y and backward to dx instead of writing it
 * dropout         0..1, below 1: chance of a number of x to be 0 for the adapter; the others are
 *                 divided by 1 - dropout
 * seed            of the dropout: another one in each step and for each layer, but the same in
 *                 forward and backward of a step
 * chunk_rows      rows for which the adapter is computed at a time; 0 = 256
 * y_stride        floats from a row of y and dy to the next, where those of other layers stand
 *                 beside them; 0 = out
 * dx_stride       the same of dx; 0 = in
 * env             products and threads. A cblas takes those of floats only: with a weight that is
 *                 not F32 the workspace of the built-in kernel is needed too
 * workspace       mo_lora_workspace_size bytes, or mo_lora_merge_workspace_size for merging;
 *                 64-byte aligned
 * workspace_size  bytes
 * Since: 0.1 */
typedef struct mo_lora_desc {
    size_t rows, rank;
    float alpha;
    int rslora, in_out, add;
    float dropout;
    uint64_t seed;
    size_t chunk_rows, y_stride, dx_stride;
    const mo_gemm_env *env;
    void *workspace;
    size_t workspace_size;
} mo_lora_desc;

/* mo_lora_tensors - the weight and its adapter, which is laid out as PEFT's.
 *
 * weight  in      frozen; says what in and out are
 * a       in      [rank x in]
 * b       in      [out x rank]
 * da, db  in out  gradients, added to; NULL = not wanted
 * Since: 0.1 */
typedef struct mo_lora_tensors {
    const mo_weight *weight;
    const float *a, *b;
    float *da, *db;
} mo_lora_tensors;

/* mo_lora_scale - s of desc. Threads: safe. Since: 0.1 */
MEMOPT_API float mo_lora_scale(const mo_lora_desc *desc);

/* mo_lora_init - an adapter that changes nothing yet.
 *
 *   a[i] = (2 u - 1) / sqrt(in),  u = (r >> 8) / 2^24        b[i] = 0
 *
 * a     out  [rank x in] uniform: Kaiming's with a slope of sqrt(5), as PyTorch begins a Linear. r
 *            are the random bits of mo_half_encode for number i under seed
 * b     out  [out x rank]
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, a size of 0), MO_E_OVERFLOW
 * Source:  Hu et al. 2021, arXiv:2106.09685, section 4.1
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_lora_init(
    size_t in, size_t out, size_t rank, uint64_t seed, float *a, float *b);

/* mo_lora_workspace_size - bytes that forward and backward need: 2 rank floats for each row of a
 * chunk, with dropout in floats more, and a float for each nested scale of the weight; 0 when the
 * sizes do not fit.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_lora_workspace_size(const mo_lora_desc *desc, const mo_weight *weight);

/* mo_lora_forward - y = x W^T + s B (A drop(x)); W is [out x in] here, however it is stored.
 * mo_lora_backward - gradients; A drop(x) is computed again, so that forward leaves nothing behind.
 *
 *   d = s dy B,  da += d^T drop(x),  db += s dy^T (A drop(x)),  dx = dy W + drop(d A)
 *
 * x   in      [rows x in]; backward: NULL where neither da nor db is wanted
 * dy  in      [rows x out]
 * y   out     [rows x out], in out when desc.add
 * dx  out     [rows x in], in out when desc.add; NULL = not wanted
 *
 * Rows of y, dy and dx are as far apart as desc says; what lies between them is left alone. Number
 * i of x is dropped where its 32 random bits (see mo_half_encode) are below dropout 2^32. The
 * weight is decoded panel by panel, as mo_gemm_mixed says. Results are the same for any number of
 * threads; da and db depend on chunk_rows in their last bits.
 *
 * Memory:  the workspaces of desc and env
 * Threads: one at a time per workspace
 * Errors:  MO_E_INVALID (NULL, a size of 0, dropout, a stride below its row), MO_E_OVERFLOW,
 *          MO_E_NO_SPACE (workspaces)
 * Cost:    4 rank (in + out) more operations a row than the weight alone, backward 6
 * Source:  Hu et al. 2021, arXiv:2106.09685; Dettmers et al. 2023, arXiv:2305.14314; rslora:
 *          Kalajdzievski 2023, arXiv:2312.03732
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_lora_forward(
    const mo_lora_desc *desc, const mo_lora_tensors *tensors, const float *x, float *y);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_lora_backward(const mo_lora_desc *desc,
    const mo_lora_tensors *tensors, const float *x, const float *dy, float *dx);

/* mo_lora_merge_workspace_size - bytes that merging needs: about a MiB, or a row of the weight and
 * a block where that is more, and a float for each nested scale; 0 when the sizes do not fit.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_lora_merge_workspace_size(const mo_lora_desc *desc, const mo_weight *weight);

/* mo_lora_merge - W += s B A, so that the adapter is no longer needed.
 * mo_lora_unmerge - W -= s B A.
 *
 * desc    in      rank, alpha, rslora, in_out, env, workspace
 * weight  in out  decoded, added to and encoded again, a few rows at a time
 * a, b    in
 *
 * Lossy: the sum is rounded to what the weight is stored in. In F32 unmerging gives the weight back
 * up to a rounding; in the other formats each call changes numbers by up to half a step of the
 * format, and nested scales too, so a weight that is to come back exactly has to be kept.
 *
 * Memory:  the workspaces of desc and env
 * Threads: one at a time per workspace
 * Errors:  MO_E_INVALID (NULL, a size of 0), MO_E_OVERFLOW, MO_E_NO_SPACE (workspaces)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_lora_merge(
    const mo_lora_desc *desc, mo_weight *weight, const float *a, const float *b);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_lora_unmerge(
    const mo_lora_desc *desc, mo_weight *weight, const float *a, const float *b);

#endif
