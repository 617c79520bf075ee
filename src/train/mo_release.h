/* mo_release.h - gradient release: a tensor is updated inside backward, as soon as its gradient is
 * complete, so that gradients need the memory of one stage only; and how they are clipped then.
 *
 *     mo_release_begin(&release);
 *     while (mo_release_next(&release))                       once; MO_RELEASE_EXACT: twice
 *         for each stage, from the last: backward, and for each of its tensors i
 *             mo_release_step(&release, i, &adam, t, param[i], grad[i], &state[i])
 *
 * A tensor that several stages use is stepped behind the backward of the first of them, the last to
 * add to its gradient. Its gradient stays in memory until then. */
#ifndef MEMOPT_RELEASE_H
#define MEMOPT_RELEASE_H

#include "mo_base.h"
#include "mo_optim.h"

/* How gradients are clipped when they are never in memory together. */
typedef enum mo_release_clip {
    MO_RELEASE_NONE = 0, /* not at all */
    MO_RELEASE_TENSOR,   /* each tensor's own norm is brought down to max_norm */
    MO_RELEASE_PREVIOUS, /* by the global norm of the step before */
    MO_RELEASE_EXACT,    /* by the global norm: backward runs twice, the first time to know it */
    MO_RELEASE_CLIP_COUNT
} mo_release_clip;

/* Whether a pass asks for norms. */
typedef enum mo_release_need {
    MO_RELEASE_NO_NORM = 0,
    MO_RELEASE_NORM_LATER, /* of every tensor, any time before mo_release_next */
    MO_RELEASE_NORM_FIRST  /* of a tensor before its mo_release_scale */
} mo_release_need;

/* mo_release_desc
 *
 * clip         see above
 * max_norm     > 0; not read for NONE
 * first_norm   PREVIOUS: the norm that scales the first step, such as the last one before a break;
 *              0 = the first step clips each tensor by itself
 * n_tensors    that are stepped
 * square_sums  [n_tensors] the caller's, valid as long as the object is used; NONE: not used
 * Since: 0.1 */
typedef struct mo_release_desc {
    mo_release_clip clip;
    double max_norm, first_norm;
    size_t n_tensors;
    double *square_sums;
} mo_release_desc;

/* mo_release - all its state.
 *
 * norm     of the latest step whose norm was measured and finite: first_norm of a run that goes on
 *          from here; 0 = none yet
 * skipped  EXACT: steps without an update, since their norm was not finite
 * pass     1, or 2; 0 = between steps
 * scale    EXACT: of this step
 * Since: 0.1 */
typedef struct mo_release {
    mo_release_desc desc;
    double norm, scale;
    uint64_t skipped;
    int pass;
} mo_release;

/* mo_release_init - nothing is measured yet.
 *
 * Threads: safe for distinct objects
 * Errors:  MO_E_INVALID (NULL, clip; unless NONE: max_norm, first_norm, no tensors)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_release_init(
    mo_release *release, const mo_release_desc *desc);

/* mo_release_begin - a step begins. mo_release_next - 1: run a backward pass; 0: the step is done.
 *
 * Before a pass the caller sets the gradients to zero. EXACT: both passes compute the same, forward
 * included where backward has used up what it kept; nothing may change in between. The second pass
 * does not come when the norm of the first is not finite. Other choices take such a step, in which
 * mo_optim_step leaves alone the numbers whose gradient is not finite.
 *
 * Threads: one at a time per object
 * Since:   0.1 */
MEMOPT_API void mo_release_begin(mo_release *release);
MEMOPT_API int mo_release_next(mo_release *release);

/* mo_release_updates - whether this pass updates; mo_release_needs - whether it asks for norms.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API int mo_release_updates(const mo_release *release);
MEMOPT_API mo_release_need mo_release_needs(const mo_release *release);

/* mo_release_measure - the sum of squares of a tensor's complete gradient, as mo_accum_square_sum
 * gives it. mo_release_scale - what the gradient must be multiplied with: give it to the optimizer
 * as grad_scale.
 *
 *   NONE      1
 *   TENSOR    mo_accum_clip_scale(norm of the tensor, max_norm)
 *   PREVIOUS  mo_accum_clip_scale(norm of the step before, max_norm)
 *   EXACT     mo_accum_clip_scale(norm, max_norm), norm^2 = sum of the tensors' in their order:
 *             the bits of a step that clips all gradients together
 *
 * For gradients elsewhere, such as on a device; mo_release_step does both.
 *
 * tensor  below n_tensors
 *
 * Threads: one at a time per object
 * Since:   0.1 */
MEMOPT_API void mo_release_measure(mo_release *release, size_t tensor, double square_sum);
MEMOPT_API double mo_release_scale(const mo_release *release, size_t tensor);

/* mo_release_step - what this pass does with a tensor's complete gradient: measure it, update, or
 * both. mo_release_step_bf16 - the same for parameters in bf16.
 *
 * tensor  below n_tensors; a pass steps each once, in any order
 * optim, t, param, grad, state  as of mo_optim_step; norms are those of optim->grad_scale * grad
 *
 * Memory:  none
 * Threads: one at a time per object
 * Errors:  MO_E_INVALID (NULL, tensor), MO_E_STATE (outside a pass), those of mo_optim_step
 * Cost:    that of mo_optim_step, and 4 bytes a number where the pass asks for norms
 * Source:  Lv et al. 2023, arXiv:2306.09782 (LOMO), section 3.2
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_release_step(mo_release *release, size_t tensor,
    const mo_optim_desc *optim, uint64_t t, float *param, const float *grad,
    const mo_optim_state *state);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_release_step_bf16(mo_release *release, size_t tensor,
    const mo_optim_desc *optim, uint64_t t, uint16_t *param, const float *grad,
    const mo_optim_state *state);

#endif
