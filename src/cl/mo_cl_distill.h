/* mo_cl_distill.h - mo_distill.h on a device: a student's head learns from a teacher's, whose
 * logits exist for a chunk of rows only, or from a few log-probabilities of each row. */
#ifndef MEMOPT_CL_DISTILL_H
#define MEMOPT_CL_DISTILL_H

#include "mo_cl_loss.h"

/* mo_cl_linear_kd_desc - cross-entropy of the student, mixed with its divergence from the teacher.
 *
 * ce                the student's: sizes, scale, smoothing, ignored rows, workspace, all as there;
 *                   the workspace has mo_cl_linear_kd_workspace_size bytes
 * teacher_channels  columns of teacher_x and teacher_w; 0 = the student's
 * k                 0 = the teacher is there; else so many of its log-probabilities are, from
 *                   mo_cl_linear_kd_topk or mo_linear_kd_topk, 1..vocab
 * temperature       both sides' logits are divided by it; 0 = 2
 * weight            0..1, of the divergence; the rest is that of cross-entropy; 0 = 0.5. With 1 the
 *                   targets may be missing.
 * Since: 0.1 */
typedef struct mo_cl_linear_kd_desc {
    mo_cl_linear_ce_desc ce;
    size_t teacher_channels, k;
    float temperature, weight;
} mo_cl_linear_kd_desc;

/* mo_cl_linear_kd_tensors
 *
 * ce         as for mo_cl_linear_ce; a row's loss is -FLT_MAX also where an index is outside the
 *            vocabulary
 * teacher_x  in  [rows x teacher_channels] float; not read with k
 * teacher_w  in  [vocab x teacher_channels] float; not read with k
 * indices    in  [rows x k] uint16_t where vocab <= 65536, else uint32_t; read with k only
 * log_probs  in  [rows x k] fp16; read with k only
 * Since: 0.1 */
typedef struct mo_cl_linear_kd_tensors {
    mo_cl_linear_ce_tensors ce;
    mo_cl_mem teacher_x, teacher_w, indices, log_probs;
} mo_cl_linear_kd_tensors;

/* mo_cl_linear_kd_workspace_size - bytes: chunk_rows * vocab floats of logits for each side, or k
 * per row in the teacher's place; 0 when the sizes do not fit. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_cl_linear_kd_workspace_size(const mo_cl_linear_kd_desc *desc);

/* mo_cl_linear_kd - losses, and where asked for the student's gradients, in one pass over the
 * chunks, on the compute queue. The formula, and what the k leave out: see mo_linear_kd.
 *
 * loss  out  as for mo_cl_linear_ce; mo_cl_linear_ce_read has it later
 *
 * Memory:  the workspace, and the env's
 * Threads: one at a time
 * Errors:  as mo_cl_linear_ce; MO_E_INVALID (temperature below 0, weight outside 0..1, k above
 *          vocab)
 * Source:  Hinton et al. 2015, arXiv:1503.02531, section 2
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_linear_kd(
    const mo_cl_linear_kd_desc *desc, const mo_cl_linear_kd_tensors *tensors, double *loss);

/* mo_cl_linear_kd_topk_desc - which of a teacher's log-probabilities are written down.
 *
 * rows, channels, vocab  x is rows x channels, w is vocab x channels: the teacher's
 * chunk_rows             rows of logits that exist at a time; 0 = all
 * k                      1..vocab
 * temperature            logits are divided by it; 0 = 2
 * env                    the device and its products
 * workspace              mo_cl_linear_kd_topk_workspace_size bytes
 * Since: 0.1 */
typedef struct mo_cl_linear_kd_topk_desc {
    size_t rows, channels, vocab, chunk_rows, k;
    float temperature;
    const mo_cl_gemm_env *env;
    mo_cl_mem workspace;
} mo_cl_linear_kd_topk_desc;

/* mo_cl_linear_kd_topk_workspace_size - bytes: chunk_rows * vocab floats; 0 when the sizes do not
 * fit. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_cl_linear_kd_topk_workspace_size(const mo_cl_linear_kd_topk_desc *desc);

/* mo_cl_linear_kd_topk - the k largest of log(softmax(x w^T / temperature)) in each row, falling;
 * among equal ones those of the lower index. On the compute queue.
 *
 * x          in   [rows x channels] float
 * w          in   [vocab x channels] float
 * indices    out  [rows x k] uint16_t where vocab <= 65536, else uint32_t
 * log_probs  out  [rows x k] fp16, to nearest
 *
 * Memory:  the workspace, and the env's
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, a size of 0, sizes, k, temperature), MO_E_NO_SPACE (workspace),
 *          MO_E_OVERFLOW, those of mo_cl_gemm
 * Cost:    k sweeps over the logits
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_linear_kd_topk(const mo_cl_linear_kd_topk_desc *desc,
    mo_cl_mem x, mo_cl_mem w, mo_cl_mem indices, mo_cl_mem log_probs);

#endif
