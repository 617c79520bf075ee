/* mo_loss.h - cross-entropy fused with the output projection: logits exist for a chunk of rows
 * only. */
#ifndef MEMOPT_LOSS_H
#define MEMOPT_LOSS_H

#include "mo_base.h"
#include "mo_gemm.h"

/* mo_linear_ce_desc - mean cross-entropy of softmax(x w^T) against one target per row.
 *
 * rows, channels, vocab  x is rows x channels, w is vocab x channels
 * chunk_rows             most rows of logits that exist at a time; 0 = all (plain cross-entropy).
 *                        Fewer rows save (rows - chunk_rows) * vocab * 4 bytes and sweep w and dw
 *                        once more per chunk. Chunks are about equal: a last one of few rows would
 *                        only wait for memory.
 * scale                  what the sum over rows is multiplied with, in the gradients too;
 *                        0 = 1 / rows that count. With gradient accumulation: 1 / (rows *
 *                        micro-batches).
 * label_smoothing        0..1: this much of the target's probability is spread evenly over the
 *                        whole vocabulary, the target included, as in PyTorch; 0 = none
 * z_loss                 coefficient of log(sum_v e^l[v])^2, which keeps logits near 0: 1e-4 in
 *                        PaLM; 0 = none
 * ignore, ignore_index   ignore not 0: rows whose target is ignore_index do not count. Their dx is
 *                        0, and their x, which is multiplied by 0, must be finite. Where they stand
 *                        at the ends of a chunk, as prompts and padding do, they cost nothing.
 * env                    products and threads; see mo_gemm.h
 * workspace              mo_linear_ce_workspace_size bytes, 64-byte aligned
 * workspace_size         bytes
 * Since: 0.1 */
typedef struct mo_linear_ce_desc {
    size_t rows, channels, vocab, chunk_rows;
    float scale, label_smoothing, z_loss;
    int ignore;
    int32_t ignore_index;
    const mo_gemm_env *env;
    void *workspace;
    size_t workspace_size;
} mo_linear_ce_desc;

/* mo_linear_ce_tensors
 *
 * x        in      [rows x channels]
 * w        in      [vocab x channels]: the head, or the embedding it is tied to
 * targets  in      [rows], 0..vocab-1, or ignore_index
 * dx       out     [rows x channels]; NULL = no gradients
 * dw       in out  [vocab x channels], added to; NULL = the head is frozen
 * weights  in      [rows] what the loss of each row is multiplied with, of any sign; NULL = 1
 * losses   out     [rows] the loss of each row times its weight, before scale; 0 where it does not
 *                  count; NULL = not wanted. Without smoothing, z_loss and weights this is the
 *                  negative log-probability of the target.
 * counted  out     rows that count, whatever their weights; NULL = not wanted
 * Since: 0.1 */
typedef struct mo_linear_ce_tensors {
    const float *x, *w;
    const int32_t *targets;
    float *dx, *dw;
    const float *weights;
    float *losses;
    size_t *counted;
} mo_linear_ce_tensors;

/* mo_linear_ce_workspace_size - bytes: chunk_rows * vocab floats of logits and one per row; 0 when
 * the sizes do not fit. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_linear_ce_workspace_size(const mo_linear_ce_desc *desc);

/* mo_linear_ce - loss, and where asked for the gradients, in one pass over the chunks.
 *
 *   loss = scale * sum over rows of weight * (z - (1 - s) l[target] - s mean_v l[v] + c z^2)
 *   l = w x,  z = log(sum_v e^l[v]),  s = label_smoothing,  c = z_loss
 *
 * loss  out  in double, summed in the order of the rows; 0 where no row counts
 *
 * The loss does not depend on chunk_rows; dw does in its last bits, since it is summed chunk by
 * chunk.
 *
 * Memory:  the workspace
 * Threads: one at a time per workspace
 * Errors:  MO_E_INVALID (NULL, a size of 0, label_smoothing outside 0..1, a target outside the
 *          vocabulary), MO_E_NO_SPACE (workspace), MO_E_OVERFLOW
 * Source:  Hsu et al. 2024, arXiv:2410.10989, section 3 (fused linear cross-entropy); Szegedy et
 *          al. 2016, arXiv:1512.00567, section 7 (label smoothing); Chowdhery et al. 2022,
 *          arXiv:2204.02311, section 5 (z-loss)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_linear_ce(
    const mo_linear_ce_desc *desc, const mo_linear_ce_tensors *tensors, double *loss);

#endif
