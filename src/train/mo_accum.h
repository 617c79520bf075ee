/* mo_accum.h - what happens to gradients between backward and the step: accumulation over
 * micro-batches in fp32 or bf16, norms and clipping, loss scaling. */
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

/* mo_accum_noise - which random bits a stochastic sum takes: element i those of index offset + i
 * under seed, as in mo_half_encode. Another seed for each call, e.g. the count of micro-batches; a
 * part of a tensor with its position as offset gets the bits that the whole gets. Since: 0.1 */
typedef struct mo_accum_noise {
    uint64_t seed, offset;
} mo_accum_noise;

/* mo_accum_add_bf16_stochastic - sum[i] += scale * grad[i] in fp32, rounded to bf16 up or down at
 * random so that the mean is right: small terms are not lost against a large sum.
 *
 * grad   in      [n]
 * sum    in out  [n] bf16; one that is not finite stays so
 * noise  in      NULL = both 0
 *
 * Bit-identical on every CPU, for any number of threads and for any cut into slices.
 *
 * Memory:  none
 * Threads: safe for distinct sums
 * Cost:    bytes moved: 8 n
 * Since:   0.1 */
MEMOPT_API void mo_accum_add_bf16_stochastic(const float *grad, float scale, uint16_t *sum,
    size_t n, const mo_accum_noise *noise, const mo_parallel *parallel);

/* mo_accum_add_bf16_kahan - sum[i] += scale * grad[i] to nearest, what the rounding lost kept aside
 * for the next call.
 *
 *   add = scale * grad + lost;  new = bf16(sum + add);  lost = bf16((sum - new) + add)
 *
 * grad  in      [n]
 * sum   in out  [n] bf16
 * lost  in out  [n] bf16; zero before the first call
 *
 * A call adds an error of little more than 2^-16 |sum| to sum + lost; |lost| is at most 2^-8 |sum|.
 * Bit-identical on every CPU and for any number of threads.
 *
 * Memory:  none
 * Threads: safe for distinct sums
 * Cost:    bytes moved: 12 n
 * Source:  Kahan 1965, Comm. ACM 8(1)
 * Since:   0.1 */
MEMOPT_API void mo_accum_add_bf16_kahan(const float *grad, float scale, uint16_t *sum,
    uint16_t *lost, size_t n, const mo_parallel *parallel);

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

/* mo_accum_clip - one tensor's own norm brought down to max_norm: grad[i] *= mo_accum_clip_scale.
 *
 * grad  in out  [n]; untouched when its norm is small enough or not finite
 *
 * Returns the norm before.
 *
 * Memory:  none
 * Threads: safe for distinct tensors; the result does not depend on their number
 * Cost:    bytes moved: 4 n, 12 n when it clips
 * Since:   0.1 */
MEMOPT_API double mo_accum_clip(
    float *grad, size_t n, double max_norm, const mo_parallel *parallel);

/* mo_percentile_clip - clip to a percentile of the norms of the last 100 steps. The struct is all
 * its state; save it as it is. Since: 0.1 */
enum { MO_PERCENTILE_HISTORY = 100 };
typedef struct mo_percentile_clip {
    double square_sums[MO_PERCENTILE_HISTORY]; /* slot step % 100 */
    uint64_t step;                             /* finite norms so far */
    uint32_t percentile;
} mo_percentile_clip;

/* mo_percentile_clip_init - percentile 0..100; 5 = the 6th smallest of 100 norms, 100 = no
 * clipping.
 *
 * Threads: safe for distinct objects
 * Errors:  MO_E_INVALID (NULL, percentile)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_percentile_clip_init(
    mo_percentile_clip *clip, uint32_t percentile);

/* mo_percentile_clip_update - remember this step's norm; what its gradients must be multiplied
 * with.
 *
 *   limit = sorted(history)[percentile];  scale = norm > limit ? limit / norm : 1
 *
 * square_sum  in  as mo_accum_square_sum gives it, of one tensor or of all. The first one fills the
 *                 history. One that is not finite is not remembered, and 1 is returned: such a step
 *                 must be skipped.
 *
 * Threads: one at a time per object
 * Source:  bitsandbytes 0.45, functional.percentile_clipping
 * Since:   0.1 */
MEMOPT_API double mo_percentile_clip_update(mo_percentile_clip *clip, double square_sum);

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
