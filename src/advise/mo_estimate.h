/* mo_estimate.h - what a training run by a strategy takes, line by line, without running it: the
 * lines add up to the peak of the plan that the run takes.
 *
 *     mo_estimate e;
 *     if (mo_estimate_training(&e, &t, budget) != MO_OK) ...
 *     for (size_t i = 0; i < e.sum.n; i++) puts(e.sum.lines[i].formula);
 *     mo_estimate_free(&e);
 */
#ifndef MEMOPT_ESTIMATE_H
#define MEMOPT_ESTIMATE_H

#include "mo_footprint.h"
#include "mo_plan.h"
#include "mo_training.h"

/* mo_estimate_stage - a stage of the chain, and what it holds at the peak: its tensors, its output,
 * and its output's gradient. */
typedef struct mo_estimate_stage {
    char name[32];
    uint64_t bytes;
} mo_estimate_stage;

/* mo_estimate - the answer.
 *
 * sum          lines in the order weights, adapters, teacher, gradients, optimizer, activations,
 *              backward (gradients of activations), released (gradients of parameters that end
 *              within their stage), logits, workspace, teacher's activations, tokens, rotary, slack
 *              (alignment, and holes that no tensor fills at the peak); only those that there are.
 *              Logits that end before the peak are apart. total is the peak, to the byte; count and
 *              trained are numbers of parameters
 * plan         of it, mo_plan_describe
 * most_bytes   what a run may take whose stages cost otherwise: the budget where activations are
 *              moved by costs that were not measured, else the peak
 * stages       [n_stages] embedding, blocks or halves of them, head
 * store_bytes  beside the arena: activations that are moved there; paged_bytes: states in the file
 * seconds      of an update, see mo_training_update_s
 * measured     not 0: by costs that were measured; else seconds only compare
 * Since: 0.1 */
typedef struct mo_estimate {
    mo_footprint sum;
    mo_plan_info plan;
    mo_estimate_stage *stages;
    size_t n_stages;
    uint64_t most_bytes, store_bytes, paged_bytes;
    double seconds;
    int measured;
    mo_allocator allocator;
} mo_estimate;

/* mo_estimate_training - from the plan itself, mo_training_plan.
 * mo_estimate_free - give it back; NULL does nothing.
 *
 * With V words, P positions, h channels, q and k channels of all queries and keys, f hidden, L
 * blocks that are stored, T tokens of a micro-batch, N numbers and N_t of them trained, what does
 * not follow from the plan alone:
 *
 *   weights      V h + P h + L B + 2 h, B = 12 h^2 + 13 h; Llama's kind: V h (once more where the
 *                head is not tied) + L (h (q + 2 k) + q h + 3 h f + 2 h) + h; in bytes as stored
 *   gradients    4 bytes a number, but for those that are released
 *   optimizer    8 N_t of AdamW in fp32; else by mo_optim_state_size; paged: the resident pages
 *   activations  4 T n w: n stages hold a tensor of width w at the peak
 *
 * e       out  untouched on failure
 * budget  bytes of the arena, for MO_STRATEGY_OPTIMAL; 0 = no limit
 *
 * Memory:  the stages, from the run's allocator
 * Threads: safe for distinct estimates
 * Errors:  those of mo_training_plan
 * Cost:    of mo_training_plan
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_estimate_training(
    mo_estimate *e, const mo_training *t, uint64_t budget);
MEMOPT_API void mo_estimate_free(mo_estimate *e);

#endif
