/* mo_accum.h - what happens to gradients between backward and the step: accumulation over
 * micro-batches, the global norm and clipping, loss scaling. */
#ifndef MEMOPT_ACCUM_H
#define MEMOPT_ACCUM_H

#include "mo_base.h"

/* mo_accum_add - sum[i] += scale * grad[i]: one micro-batch into the sum.
 *
 * grad  in      [n]
 * sum   in out  [n]
 *
 * Memory:  none
 * Threads: safe for distinct sums
 * Cost:    bytes moved: 12 n
 * Since:   0.1 */
MEMOPT_API void mo_accum_add(
    const float *grad, float scale, float *sum, size_t n, const mo_parallel *parallel);

/* mo_accum_square_sum - the sum of grad[i]^2 in double; inf or NaN when a gradient is. Add the
 * sums of all tensors; the global norm is the square root.
 *
 * Memory:  none
 * Threads: safe; the result does not depend on their number
 * Cost:    bytes moved: 4 n
 * Since:   0.1 */
MEMOPT_API double mo_accum_square_sum(const float *grad, size_t n, const mo_parallel *parallel);

/* mo_accum_clip_scale - what gradients of that norm must be multiplied with so that their norm is
 * at most max_norm: min(1, max_norm / (norm + 1e-6)); 1 for max_norm 0 (no clipping). Give it to
 * the optimizer as grad_scale instead of sweeping the gradients once more. No scale helps against
 * a norm that is not finite (1 is returned): such a step must be skipped, see
 * mo_loss_scaler_update.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API double mo_accum_clip_scale(double norm, double max_norm);

/* mo_loss_scaler_desc - dynamic loss scaling for half-precision gradients.
 *
 * initial    0 = 65536
 * growth     factor after growth_interval steps without overflow; 0 = 2
 * backoff    factor after an overflow; 0 = 0.5
 * interval   0 = 2000 steps
 * is_static  not 0: the scale stays at initial; overflowing steps are still skipped
 * Since: 0.1 */
typedef struct mo_loss_scaler_desc {
    double initial, growth, backoff;
    uint32_t interval;
    int is_static;
} mo_loss_scaler_desc;

/* mo_loss_scaler - multiply the loss with scale; divide the gradients by it (grad_scale =
 * 1 / scale). Since: 0.1 */
typedef struct mo_loss_scaler {
    double scale;
    uint32_t good_steps; /* since the last change of scale */
    uint64_t skipped;    /* steps in all */
    mo_loss_scaler_desc desc;
} mo_loss_scaler;

/* mo_loss_scaler_init - start; desc NULL = all defaults.
 *
 * Threads: safe for distinct scalers
 * Errors:  MO_E_INVALID (NULL, negative or non-finite numbers, growth < 1, backoff > 1)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_loss_scaler_init(
    mo_loss_scaler *scaler, const mo_loss_scaler_desc *desc);

/* mo_loss_scaler_update - after backward, before the step: adapt the scale.
 *
 * square_sum  in  of all gradients, as mo_accum_square_sum gives it; inf or NaN means overflow
 *
 * Returns 1 when the step should be taken, 0 when it must be skipped. Behaves as
 * torch.amp.GradScaler: backoff at once, growth after interval good steps in a row.
 *
 * Threads: one at a time per scaler
 * Since:   0.1 */
MEMOPT_API int mo_loss_scaler_update(mo_loss_scaler *scaler, double square_sum);

#endif
