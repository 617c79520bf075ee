/* mo_cl_dpo.h - mo_dpo.h on a device: direct preference optimization on chunks of logits. */
#ifndef MEMOPT_CL_DPO_H
#define MEMOPT_CL_DPO_H

#include "mo_cl_loss.h"

/* mo_cl_linear_dpo_desc - preferences between sequences of rows.
 *
 * ce     rows, sizes, ignored rows and workspace as there; scale is not read, that of the pairs is;
 *        label_smoothing and z_loss are 0; the workspace has mo_cl_linear_dpo_workspace_size bytes
 * pairs  the preferences, see mo_dpo_pairs
 * ends   [2 pairs] row behind the last one of each sequence, not falling, the last one rows;
 *        NULL = all sequences have rows / (2 pairs)
 * Since: 0.1 */
typedef struct mo_cl_linear_dpo_desc {
    mo_cl_linear_ce_desc ce;
    mo_dpo_pairs_desc pairs;
    const size_t *ends;
} mo_cl_linear_dpo_desc;

/* mo_cl_linear_dpo_workspace_size - bytes: that of mo_cl_linear_ce and a float per row; 0 when the
 * sizes do not fit. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_cl_linear_dpo_workspace_size(const mo_cl_linear_dpo_desc *desc);

/* mo_cl_linear_dpo_log_probs - of each sequence: the sum over its rows that count.
 *
 * tensors    in   weights, dx and dw are {0}
 * log_probs  out  [2 pairs] of the host; waits for the device
 *
 * Memory:  the workspace, and the env's
 * Threads: one at a time
 * Errors:  as mo_cl_linear_ce; MO_E_INVALID (pairs 0, ends, tensors or fields of ce that are to
 *          be 0)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_linear_dpo_log_probs(
    const mo_cl_linear_dpo_desc *desc, const mo_cl_linear_ce_tensors *tensors, double *log_probs);

/* mo_cl_linear_dpo - loss of mo_dpo_pairs, and where asked for the gradients.
 *
 * tensors    in   as for mo_cl_linear_ce; weights is {0}, losses are what the sweeps leave there
 * reference  in   [2 pairs] of the host
 * log_probs  out  [2 pairs] of the host: the policy's
 * loss       out
 *
 * The host waits for the log-probabilities of the first sweep, and enqueues the second one.
 *
 * Memory:  the workspace, and the env's
 * Threads: one at a time
 * Errors:  those of mo_cl_linear_dpo_log_probs and mo_dpo_pairs
 * Cost:    four products, one of them twice that of the loss
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_linear_dpo(const mo_cl_linear_dpo_desc *desc,
    const mo_cl_linear_ce_tensors *tensors, const double *reference, double *log_probs,
    double *loss);

#endif
