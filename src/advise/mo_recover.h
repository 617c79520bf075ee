/* mo_recover.h - what a training run does when memory runs out: the next cheaper config of a fixed
 * ladder, and a driver that goes down it and does the same step again.
 *
 * THE LADDER, from its first step on; a step that is not allowed or changes nothing is passed over
 *
 *   1  BATCH  half the micro-batch, twice the accumulation, as often as it goes; from an odd
 *             micro-batch to the next smaller number that divides batch * accum
 *   2  LOSS   logits of some rows at a time
 *   3  LIGHT  backward computes again what is cheap, such as activation functions
 *   4  BLOCK  backward computes whole blocks again
 *   5  8BIT   optimizer states of 8 bits a number         only where the caller allows it
 *   6  4BIT   of 4 bits                                   only where the caller allows it
 *   7  PAGED  optimizer states in pages, most of them in host memory or a file
 *
 * batch * accum is the same on all rungs, and steps 1 to 4 and 7 give the same update, but for the
 * order in which sums are rounded in 1 and 2: as long as a sample's loss does not depend on the
 * others (no batch norm), and micro-batches are weighed alike (loss scale 1 / (batch * accum)). 5
 * and 6 change the result, so they are never taken unasked.
 *
 * THE DRIVER
 *
 *     mo_retry_desc desc = {0};
 *     desc.config.batch = 32;
 *     desc.calls.self = &run;
 *     desc.calls.prepare = prepare;                 allocates what a step with a config needs
 *     desc.calls.step = step;                       forward and backward, then the update
 *     desc.calls.release = release;                 frees what prepare allocated
 *     desc.ladder.steps = MO_RECOVER_BATCH;         what these can do
 *     if (mo_retry_init(&retry, &desc) != MO_OK) ...
 *     while (retry.stats.n_steps < n_steps)
 *         if (mo_retry_step(&retry) != MO_OK) ...
 *     mo_retry_free(&retry);
 *
 * Where the system promises more memory than it has, as Linux does by default, it ends the process
 * instead of refusing an allocation: give the arena, the track or the device's heap a budget. */
#ifndef MEMOPT_RECOVER_H
#define MEMOPT_RECOVER_H

#include "mo_base.h"
#include "mo_optim.h"

/* The steps, as bits; 0 = nothing is left. */
typedef enum mo_recover_step {
    MO_RECOVER_NONE = 0,
    MO_RECOVER_BATCH = 1,
    MO_RECOVER_LOSS = 2,
    MO_RECOVER_LIGHT = 4,
    MO_RECOVER_BLOCK = 8,
    MO_RECOVER_8BIT = 16,
    MO_RECOVER_4BIT = 32,
    MO_RECOVER_PAGED = 64,
    /* Those that keep the result, and all. */
    MO_RECOVER_SAME =
        MO_RECOVER_BATCH | MO_RECOVER_LOSS | MO_RECOVER_LIGHT | MO_RECOVER_BLOCK | MO_RECOVER_PAGED,
    MO_RECOVER_ALL = MO_RECOVER_SAME | MO_RECOVER_8BIT | MO_RECOVER_4BIT
} mo_recover_step;

/* What backward computes again, from the most memory to the least. */
typedef enum mo_recover_recompute {
    MO_RECOVER_KEEP_ALL = 0,
    MO_RECOVER_KEEP_LIGHT, /* what is cheap is not kept */
    MO_RECOVER_KEEP_BLOCK, /* the input of each block is kept */
    MO_RECOVER_KEEP_COUNT
} mo_recover_recompute;

/* mo_recover_config - what may change when memory runs out. {0} is a plain run of batch 1.
 *
 * batch      samples in a micro-batch; 0 = 1
 * accum      micro-batches in a step; 0 = 1
 * loss_rows  rows of logits that exist at a time: mo_linear_ce_desc.chunk_rows; 0 = all
 * recompute  see above
 * precision  of optimizer states
 * paged      not 0: optimizer states are in pages
 * Since: 0.1 */
typedef struct mo_recover_config {
    size_t batch, accum, loss_rows;
    mo_recover_recompute recompute;
    mo_optim_precision precision;
    int paged;
} mo_recover_config;

/* mo_recover_desc - the ladder of a program.
 *
 * steps      bits of mo_recover_step that the program can do and its user wants; 0 = SAME
 * min_batch  BATCH does not go below it; 0 = 1
 * loss_rows  of LOSS; 0 = 256
 * Since: 0.1 */
typedef struct mo_recover_desc {
    unsigned steps;
    size_t min_batch, loss_rows;
} mo_recover_desc;

/* mo_recover_next - the next cheaper config: one rung down the ladder.
 *
 * desc    in   NULL = all defaults
 * config  in
 * next    out  untouched when nothing is left; may be config
 * step    out  which step it is; MO_RECOVER_NONE: nothing is left. NULL = not wanted
 *
 * From any config, NONE comes after at most log2(batch) + 6 calls where batch is a power of two,
 * and always after fewer than batch + 6.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, steps, recompute, precision), MO_E_OVERFLOW (batch * accum)
 * Cost:    up to batch divisions
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_recover_next(const mo_recover_desc *desc,
    const mo_recover_config *config, mo_recover_config *next, mo_recover_step *step);

/* mo_recover_text - what changes between two configs, for a log: "batch 8 x 1 -> 4 x 2", with a
 * comma between changes; "" where nothing does. from NULL: all of to, "batch 4 x 2, loss rows all,
 * recompute none, states f32 resident".
 *
 * text  out  [size] terminated, cut where it does not fit; 128 bytes are enough for one rung, 256
 *            for any two configs. May be NULL when size is 0
 *
 * returns the length of the whole text
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_recover_text(
    const mo_recover_config *from, const mo_recover_config *to, char *text, size_t size);

/* mo_recover_is_oom - whether a status says that memory ran out: host memory (MO_E_NO_MEMORY),
 * device memory (MO_E_NO_DEVICE_MEMORY), or a block or budget (MO_E_NO_SPACE). Threads: safe.
 * Since: 0.1 */
MEMOPT_API int mo_recover_is_oom(mo_status status);

/* ---- the driver ----------------------------------------------------------------------------- */

/* mo_retry_turn - the step that is to be done.
 *
 * config  to do it with; micro-batch i < accum has the samples first + i * batch and the next
 *         batch - 1 ones
 * step    from 0; the t of mo_optim_step is step + 1
 * first   number of the first sample: step * batch * accum
 * Since: 0.1 */
typedef struct mo_retry_turn {
    mo_recover_config config;
    uint64_t step, first;
} mo_retry_turn;

/* mo_retry_calls - what the program does. Memory that runs out is reported by a status for which
 * mo_recover_is_oom holds; any other error ends mo_retry_step, which returns it.
 *
 * convert   make the optimizer states of config to: from those of config from, whose precision or
 *           paged differs, or, where from is NULL, the first ones, zero. Called while nothing is
 *           prepared. When it fails, the states of from are as they were: it makes the new ones
 *           beside them (mo_optim_state_copy), and frees the old ones last. NULL: the states are
 *           the program's affair, and steps that change them are not taken
 * prepare   take what a step with this config needs and no step leaves anything in: activations,
 *           gradients, workspaces
 * step      do the step: set the gradients to zero, run turn->config.accum micro-batches, update.
 *           Where it fails it must not have updated anything, or else everything: *applied = 1,
 *           which is to be set right behind the update, says so. So what the update itself needs is
 *           taken before its first tensor; one inside backward (mo_release) needs all of it before
 *           backward. A repeated step is the whole step: it reads the same samples, and random
 *           numbers such as dropout's depend on turn->step and the sample alone
 * release   give back all that prepare and a failed step took. Called once after each prepare, also
 *           one that failed in the middle. On a device: wait for its queues first
 * estimate  bytes that a config needs, against budget_bytes; 0 = not known. Configs that need more,
 *           or no less than one that failed, are not tried. NULL = nothing is known
 * self      first argument of all
 *
 * mo_cl_heap_alloc returns MO_E_UNSUPPORTED for a block larger than any that the device has: where
 * a smaller config may help, return MO_E_NO_SPACE instead.
 * Since: 0.1 */
typedef struct mo_retry_calls {
    mo_status (*convert)(void *self, const mo_recover_config *from, const mo_recover_config *to);
    mo_status (*prepare)(void *self, const mo_recover_config *config);
    mo_status (*step)(void *self, const mo_retry_turn *turn, int *applied);
    void (*release)(void *self);
    uint64_t (*estimate)(void *self, const mo_recover_config *config);
    void *self;
} mo_retry_calls;

/* mo_retry_desc
 *
 * ladder        see mo_recover_desc
 * config        to begin with
 * calls         see above
 * budget_bytes  for estimate; 0 = none
 * max_attempts  configs that one mo_retry_step tries; 0 = as many as the ladder has
 * first_step    number of the first step, of a run that is resumed
 * log           a warning for each rung, "step 12: out of host memory: batch 8 x 1 -> 4 x 2"; an
 *               error when nothing is left; zero = none
 * Since: 0.1 */
typedef struct mo_retry_desc {
    mo_recover_desc ladder;
    mo_recover_config config;
    mo_retry_calls calls;
    uint64_t budget_bytes;
    size_t max_attempts;
    uint64_t first_step;
    mo_log log;
} mo_retry_desc;

/* mo_retry_stats
 *
 * n_steps        applied, each once
 * n_attempts     configs tried, a successful one for each step
 * n_failed       of them those that ran out of memory
 * n_skipped      configs not tried, since the estimate says that they do not fit
 * n_rungs        taken in all; last: the last of them
 * missing_bytes  when nothing is left: what the last config needs beyond the budget, or beyond what
 *                has been seen to fail, by the estimate; else, or where it is not known, 0
 * Since: 0.1 */
typedef struct mo_retry_stats {
    uint64_t n_steps, n_attempts, n_failed, n_skipped, n_rungs;
    mo_recover_step last;
    uint64_t missing_bytes;
} mo_retry_stats;

/* mo_retry - owned by the caller; config and stats may be read, the rest is private.
 *
 * config  that the next step is done with
 * Since: 0.1 */
typedef struct mo_retry {
    mo_recover_config config;
    mo_retry_stats stats;
    mo_retry_desc desc;
    mo_recover_config states; /* what the optimizer states are, when has_states */
    int has_states, prepared;
    uint64_t limit_bytes; /* estimates above it are not tried */
} mo_retry;

/* mo_retry_init - nothing is called yet. mo_retry_free - release what is prepared; parameters and
 * optimizer states are the caller's. Also of a zeroed one.
 *
 * Memory:  none
 * Threads: one at a time, as everything here
 * Errors:  MO_E_INVALID (NULL, no prepare, step or release; those of mo_recover_next),
 *          MO_E_OVERFLOW (batch * accum)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_retry_init(mo_retry *retry, const mo_retry_desc *desc);
MEMOPT_API void mo_retry_free(mo_retry *retry);

/* mo_retry_step - do the next step, once: with the config of the last one, which is prepared only
 * when it has changed; when memory runs out, release, take the next config, convert, prepare, and
 * do the same step again.
 *
 * A step that ran out of memory behind its update (*applied) is not done again: the next one has a
 * cheaper config. No config is ever taken back.
 *
 * Memory:  what the calls take
 * Threads: one at a time; the calls run on the caller's thread
 * Errors:  MO_E_INVALID (NULL), what the calls return; the last out-of-memory status when nothing
 *          is left or max_attempts are reached, and MO_E_NO_SPACE when the estimate rules out all
 *          configs. Nothing is lost: called again, it goes on with the step that is not applied
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_retry_step(mo_retry *retry);

#endif
