/* mo_dpo.h - direct preference optimization on chunks of logits: of two answers the model learns
 * which one is preferred. */
#ifndef MEMOPT_DPO_H
#define MEMOPT_DPO_H

#include "mo_loss.h"

/* mo_dpo_pairs_desc - how much the log-probabilities of answers cost.
 *
 * pairs            sequences 0..pairs-1 are preferred, each over that of number pairs + i
 * beta             how far the policy may leave the reference: less lets it go further; 0 = 0.1
 * label_smoothing  probability that a preference is the wrong way round (conservative DPO), 0..0.5;
 *                  0 = never
 * scale            what the sum over pairs is multiplied with; 0 = 1 / pairs
 * Since: 0.1 */
typedef struct mo_dpo_pairs_desc {
    size_t pairs;
    float beta, label_smoothing, scale;
} mo_dpo_pairs_desc;

/* mo_dpo_pairs - loss of pairs of sequences, given their log-probabilities, and its gradient.
 *
 *   loss = scale * sum over pairs of -(1 - s) log sigmoid(m) - s log sigmoid(-m)
 *   m = beta ((policy[i] - reference[i]) - (policy[pairs + i] - reference[pairs + i]))
 *
 * policy     in   [2 pairs] log-probability of each sequence
 * reference  in   [2 pairs] those of the model that the policy started from
 * gradients  out  [2 pairs] of the loss with respect to policy; NULL = not wanted
 * loss       out
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, pairs 0, beta below 0, label_smoothing outside 0..0.5)
 * Source:  Rafailov et al. 2023, arXiv:2305.18290, equation 7; E. Mitchell 2023, A note on DPO with
 *          noisy preferences
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_dpo_pairs(const mo_dpo_pairs_desc *desc,
    const double *policy, const double *reference, double *gradients, double *loss);

/* mo_linear_dpo_desc - the same from hidden states and the head.
 *
 * ce     rows, sizes, ignored rows and workspace as there; scale is not read, that of the pairs is;
 *        label_smoothing and z_loss are 0; the workspace has mo_linear_dpo_workspace_size bytes
 * pairs  the preferences
 * ends   [2 pairs] row behind the last one of each sequence, not falling, the last one rows;
 *        NULL = all sequences have rows / (2 pairs)
 * Since: 0.1 */
typedef struct mo_linear_dpo_desc {
    mo_linear_ce_desc ce;
    mo_dpo_pairs_desc pairs;
    const size_t *ends;
} mo_linear_dpo_desc;

/* mo_linear_dpo_workspace_size - bytes: that of mo_linear_ce, a float per row, and two doubles per
 * sequence; 0 when the sizes do not fit. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_linear_dpo_workspace_size(const mo_linear_dpo_desc *desc);

/* mo_linear_dpo_log_probs - of each sequence: the sum over its rows that count.
 *
 * tensors    in   weights, dx and dw are NULL
 * log_probs  out  [2 pairs]
 *
 * Of the model that training starts from, these are the reference: once, before the first step.
 *
 * Memory:  the workspace
 * Threads: one at a time per workspace
 * Errors:  as mo_linear_ce; MO_E_INVALID (pairs 0, ends, tensors or fields of ce that are to be 0)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_linear_dpo_log_probs(
    const mo_linear_dpo_desc *desc, const mo_linear_ce_tensors *tensors, double *log_probs);

/* mo_linear_dpo - loss of mo_dpo_pairs, and where asked for the gradients.
 *
 * tensors    in   as for mo_linear_ce; weights and losses are NULL
 * reference  in   [2 pairs]
 * log_probs  out  [2 pairs] the policy's; NULL = not wanted
 * loss       out
 *
 * A first sweep over the chunks has the log-probabilities, and a second one the gradients, since
 * what a row's are multiplied with depends on the whole pair.
 *
 * Memory:  the workspace
 * Threads: one at a time per workspace
 * Errors:  those of mo_linear_dpo_log_probs and mo_dpo_pairs
 * Cost:    four products, one of them twice that of the loss
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_linear_dpo(const mo_linear_dpo_desc *desc,
    const mo_linear_ce_tensors *tensors, const double *reference, double *log_probs, double *loss);

#endif
