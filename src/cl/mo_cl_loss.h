/* mo_cl_loss.h - mo_loss.h on a device: cross-entropy fused with the output projection; logits
 * exist for a chunk of rows only. */
#ifndef MEMOPT_CL_LOSS_H
#define MEMOPT_CL_LOSS_H

#include "mo_cl_gemm.h"

/* mo_cl_linear_ce_desc - mean cross-entropy of softmax(x w^T) against one target per row.
 *
 * rows, channels, vocab  x is rows x channels, w is vocab x channels
 * chunk_rows             rows of logits that exist at a time; 0 = all (plain cross-entropy). Fewer
 *                        rows save (rows - chunk_rows) * vocab * 4 bytes and sweep w and dw once
 *                        more per chunk.
 * scale                  what the sum over rows is multiplied with, in the gradients too;
 *                        0 = 1 / rows that count. With gradient accumulation: 1 / (rows *
 *                        micro-batches).
 * label_smoothing        0..1: this much of the target's probability is spread evenly over the
 *                        whole vocabulary, the target included; 0 = none
 * z_loss                 coefficient of log(sum_v e^l[v])^2; 0 = none
 * ignore, ignore_index   ignore not 0: rows whose target is ignore_index do not count. Their dx is
 *                        0, and their x, which is multiplied by 0, must be finite.
 * env                    the device and its products; see mo_cl_gemm.h
 * workspace              mo_cl_linear_ce_workspace_size bytes
 * Since: 0.1 */
typedef struct mo_cl_linear_ce_desc {
    size_t rows, channels, vocab, chunk_rows;
    float scale, label_smoothing, z_loss;
    int ignore;
    int32_t ignore_index;
    const mo_cl_gemm_env *env;
    mo_cl_mem workspace;
} mo_cl_linear_ce_desc;

/* mo_cl_linear_ce_tensors
 *
 * x        in      [rows x channels] float
 * w        in      [vocab x channels] float: the head, or the embedding it is tied to
 * targets  in      [rows] int32_t, 0..vocab-1, or ignore_index
 * losses   out     [rows] float: the loss of each row times its weight, before scale; 0 where it
 *                  does not count; -FLT_MAX where the target is outside the vocabulary
 * dx       out     [rows x channels] float; {0} = no gradients
 * dw       in out  [vocab x channels] float, added to; {0} = the head is frozen
 * weights  in      [rows] float: what the loss of each row is multiplied with; {0} = 1
 * counted  out     [1] uint32_t: rows that count; {0} = not wanted, but with ignore and scale 0 it
 *                  is needed
 * Since: 0.1 */
typedef struct mo_cl_linear_ce_tensors {
    mo_cl_mem x, w, targets, losses;
    mo_cl_mem dx, dw;
    mo_cl_mem weights, counted;
} mo_cl_linear_ce_tensors;

/* mo_cl_linear_ce_workspace_size - bytes: chunk_rows * vocab floats of logits; 0 when the sizes do
 * not fit. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_cl_linear_ce_workspace_size(const mo_cl_linear_ce_desc *desc);

/* mo_cl_linear_ce - losses, and where asked for the gradients, in one pass over the chunks, on the
 * compute queue.
 *
 *   loss = scale * sum over rows of weight * (z - (1 - s) l[target] - s mean_v l[v] + c z^2)
 *   l = w x,  z = log(sum_v e^l[v]),  s = label_smoothing,  c = z_loss
 *
 * loss  out  read by mo_cl_linear_ce_read, which waits for the device; NULL = nothing is read and
 *            nothing is waited for
 *
 * A row whose target is outside the vocabulary has no gradient; nothing outside is read or written,
 * and reading the loss says so. The sums of a row are taken in another order than on the CPU, and
 * the products are those of mo_cl_gemm: a loss agrees with that of mo_linear_ce to about 1e-6.
 *
 * Memory:  the workspace, and the env's
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, a size of 0, sizes, label_smoothing outside 0..1), MO_E_NO_SPACE
 *          (workspace), MO_E_OVERFLOW, those of mo_cl_gemm; with a loss: those of
 *          mo_cl_linear_ce_read
 * Source:  Hsu et al. 2024, arXiv:2410.10989, section 3 (fused linear cross-entropy)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_linear_ce(
    const mo_cl_linear_ce_desc *desc, const mo_cl_linear_ce_tensors *tensors, double *loss);

/* mo_cl_linear_ce_read - the loss of rows whose losses are on the device, or will be when what is
 * enqueued is complete. Those of several micro-batches may lie one behind the other and be read at
 * once.
 *
 * losses  in   [rows] float
 * scale   of the desc; 0 = 1 / rows, and not 1 / rows that count
 * loss    out  in double, summed in the order of the rows
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, rows 0, sizes; a target was outside the vocabulary), what OpenCL
 *          says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_linear_ce_read(
    mo_cl *cl, mo_cl_mem losses, size_t rows, float scale, double *loss);

#endif
