/* mo_distill.h - distillation: a student's head learns from a teacher's, whose logits exist for a
 * chunk of rows only, or from a few log-probabilities of each row, written down once. */
#ifndef MEMOPT_DISTILL_H
#define MEMOPT_DISTILL_H

#include "mo_loss.h"

/* mo_linear_kd_desc - cross-entropy of the student, mixed with its divergence from the teacher.
 *
 * ce                the student's: sizes, scale, smoothing, ignored rows, workspace, all as there;
 *                   the workspace has mo_linear_kd_workspace_size bytes
 * teacher_channels  columns of teacher_x and teacher_w; 0 = the student's
 * k                 0 = the teacher is there; else so many of its log-probabilities are, from
 *                   mo_linear_kd_topk, 1..vocab
 * temperature       both sides' logits are divided by it; 0 = 2. That of mo_linear_kd_topk.
 * weight            0..1, of the divergence; the rest is that of cross-entropy; 0 = 0.5. With 1 the
 *                   targets may be missing.
 * Since: 0.1 */
typedef struct mo_linear_kd_desc {
    mo_linear_ce_desc ce;
    size_t teacher_channels, k;
    float temperature, weight;
} mo_linear_kd_desc;

/* mo_linear_kd_tensors
 *
 * ce         as for mo_linear_ce: the student's, which alone has gradients. Losses are those of the
 *            mixture; weights multiply both parts.
 * teacher_x  in  [rows x teacher_channels]; not read with k
 * teacher_w  in  [vocab x teacher_channels]; not read with k
 * indices    in  [rows x k] uint16_t where vocab <= 65536, else uint32_t; read with k only
 * log_probs  in  [rows x k] fp16; read with k only
 * Since: 0.1 */
typedef struct mo_linear_kd_tensors {
    mo_linear_ce_tensors ce;
    const float *teacher_x, *teacher_w;
    const void *indices;
    const uint16_t *log_probs;
} mo_linear_kd_tensors;

/* mo_linear_kd_workspace_size - bytes: chunk_rows * vocab floats of logits for each side, or k per
 * row in the teacher's place, and one per row; 0 when the sizes do not fit. Threads: safe. Since:
 * 0.1 */
MEMOPT_API size_t mo_linear_kd_workspace_size(const mo_linear_kd_desc *desc);

/* mo_linear_kd - loss, and where asked for the student's gradients, in one pass over the chunks.
 *
 *   loss = scale * sum over rows of row weight * ((1 - weight) CE + weight T^2 KL(p, q))
 *   KL(p, q) = sum_v p[v] (log p[v] - log q[v]),  p, q = softmax of the teacher's and the student's
 *              logits / T
 *
 * loss  out  in double, summed in the order of the rows
 *
 * With k, all that is not among a row's k counts as one more outcome, whose probability is 1 less
 * the sum of the k on either side: the student is told how much there is beside them, not where.
 * Where the k sum to more than 1 by rounding, or are the whole vocabulary, they are divided by
 * their sum, and there is no such outcome.
 *
 * Memory:  the workspace
 * Threads: one at a time per workspace
 * Errors:  as mo_linear_ce; MO_E_INVALID (temperature below 0, weight outside 0..1, k above vocab,
 *          an index outside the vocabulary)
 * Cost:    with k = 0 a fourth product, the teacher's
 * Source:  Hinton et al. 2015, arXiv:1503.02531, section 2
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_linear_kd(
    const mo_linear_kd_desc *desc, const mo_linear_kd_tensors *tensors, double *loss);

/* mo_linear_kd_topk_desc - which of a teacher's log-probabilities are written down.
 *
 * rows, channels, vocab  x is rows x channels, w is vocab x channels: the teacher's
 * chunk_rows             rows of logits that exist at a time; 0 = all
 * k                      1..vocab
 * temperature            logits are divided by it; 0 = 2, as in mo_linear_kd_desc
 * env                    products and threads; see mo_gemm.h
 * workspace              mo_linear_kd_topk_workspace_size bytes, 64-byte aligned
 * workspace_size         bytes
 * Since: 0.1 */
typedef struct mo_linear_kd_topk_desc {
    size_t rows, channels, vocab, chunk_rows, k;
    float temperature;
    const mo_gemm_env *env;
    void *workspace;
    size_t workspace_size;
} mo_linear_kd_topk_desc;

/* mo_linear_kd_topk_workspace_size - bytes: chunk_rows * (vocab + 2 k + 1) * 4; 0 when the sizes do
 * not fit. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_linear_kd_topk_workspace_size(const mo_linear_kd_topk_desc *desc);

/* mo_linear_kd_topk - the k largest of log(softmax(x w^T / temperature)) in each row, falling;
 * among equal ones those of the lower index.
 *
 * x          in   [rows x channels]
 * w          in   [vocab x channels]
 * indices    out  [rows x k] uint16_t where vocab <= 65536, else uint32_t
 * log_probs  out  [rows x k] fp16, to nearest
 *
 * Four bytes each, or six; a vocabulary of 50257 with k = 32 takes 1/1571 of its logits' memory.
 *
 * Memory:  the workspace
 * Threads: one at a time per workspace
 * Errors:  MO_E_INVALID (NULL, a size of 0, k, temperature), MO_E_NO_SPACE (workspace),
 *          MO_E_OVERFLOW
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_linear_kd_topk(const mo_linear_kd_topk_desc *desc,
    const float *x, const float *w, void *indices, uint16_t *log_probs);

#endif
