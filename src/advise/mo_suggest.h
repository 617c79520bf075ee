/* mo_suggest.h - the strategy to train with under a memory budget: the fastest that fits, why, and
 * what each part of it saved; the largest batch or sequence that fits; all strategies, for a
 * frontier of time and memory. Nothing is allocated but plans: bytes are exact.
 *
 *     mo_suggest_desc d = {0};
 *     d.training.model = model;                      complete, see mo_model_complete
 *     d.training.batch = 8, d.training.seq = 256;
 *     d.budget = 300u << 20;
 *     mo_suggest_result r;
 *     if (mo_suggest(&d, &r) != MO_OK) ...
 *     if (!r.fits) ...                               r.least.bytes would do, r.missing_bytes more
 *     ... r.best.strategy
 *
 * WHAT IS TRIED. Fields of the strategy that are open take these values, everything else stays as
 * it is; of equal times the first counts:
 *
 *   ACCUM       what divides the batch, upwards from the given one
 *   OPTIM       f32, 8bit; with MO_SUGGEST_OPEN_4BIT also 4bit
 *   LOSS        all rows, then 1024, 512, .. 16 of them
 *   CHECKPOINT  none, light, optimal; where nothing fits, also block and sqrt
 *
 * What changes more than that comes one after the other, each only where nothing before it fits,
 * and together with what is before it:
 *
 *   RELEASE     gradients end inside backward: with an accumulation of 1 alone
 *   ACT         saved activations in 8 bits, or 4
 *   PRECISION   matrices of blocks in bf16
 *   PAGED       states in pages: it needs a disk, or the host's memory beside a device's
 *   LORA        adapters alone are trained, with the largest rank of 64, 32, 16, 8, 4 on weights in
 *               f32, else int8, else nf4: another training altogether
 *
 * Fewer bits are not free: 8-bit states count as a twentieth more of the time, 4-bit ones as a
 * tenth. */
#ifndef MEMOPT_SUGGEST_H
#define MEMOPT_SUGGEST_H

#include "mo_base.h"
#include "mo_machine.h"
#include "mo_strategy.h"
#include "mo_training.h"

/* More that may be open, beside MO_STRATEGY_OPEN_*. Since: 0.1 */
enum {
    MO_SUGGEST_OPEN_4BIT = 256,
    MO_SUGGEST_OPEN_RELEASE = 512,
    MO_SUGGEST_OPEN_ACT = 1024,
    MO_SUGGEST_OPEN_LORA = 2048
};

/* mo_suggest_desc - what is wanted.
 *
 * training  the run; its strategy is where the search starts, and stays where it is not open. With
 *           a machine its costs are not read. Its log hears what is wrong with it
 * open      MO_STRATEGY_OPEN_* and MO_SUGGEST_OPEN_*; 0 = MO_STRATEGY_OPEN_ALL
 * closed    not 0: nothing is open, whatever open says
 * budget    bytes; 0 = no limit, and what costs next to nothing is chosen without a search: light
 *           checkpoints, 256 rows of logits
 * seconds   that an update may take; 0 = any
 * machine   what strategies cost there; NULL = by the costs of training
 * explain   not 0: steps of the result are filled, for a plan each
 * Since: 0.1 */
typedef struct mo_suggest_desc {
    mo_training training;
    unsigned open;
    int closed;
    uint64_t budget;
    double seconds;
    const mo_machine *machine;
    int explain;
} mo_suggest_desc;

/* mo_suggest_trial - a strategy that was planned.
 *
 * bytes    peak_bytes of its plan
 * seconds  of an update; only how they compare means something without a machine or measured costs
 * budget   within which OPTIMAL has found its schedule: it is to be given again; 0 = no limit
 * Since: 0.1 */
typedef struct mo_suggest_trial {
    mo_strategy strategy;
    uint64_t bytes;
    double seconds;
    uint64_t budget;
} mo_suggest_trial;

/* mo_suggest_step - a part of the strategy, and what it changed; parts come in the order of what
 * they cost. Since: 0.1 */
typedef struct mo_suggest_step {
    char text[96];
    uint64_t bytes_before, bytes_after;
    double seconds_before, seconds_after;
} mo_suggest_step;

enum { MO_SUGGEST_MAX_STEPS = 12 };

/* mo_suggest_result - what was found.
 *
 * fits           best is within the budget
 * in_time        best is within the seconds; 1 where none were asked for
 * best           the fastest that fits; where nothing does, least
 * least          the smallest of all that were tried: the smallest budget that works
 * missed         the fastest that does not fit; bytes 0 = there was none
 * missing_bytes  least.bytes - budget where nothing fits, else 0
 * n_trials       plans that were made
 * plain          where the search started; only with explain
 * steps          [n_steps] from plain to best
 * Since: 0.1 */
typedef struct mo_suggest_result {
    int fits, in_time;
    mo_suggest_trial best, least, missed, plain;
    uint64_t missing_bytes;
    size_t n_trials;
    mo_suggest_step steps[MO_SUGGEST_MAX_STEPS];
    size_t n_steps;
} mo_suggest_result;

/* mo_suggest - the search. That nothing fits is an outcome, not an error; then every combination of
 * the values above has been tried, and least is the smallest of them, to the byte (with offload,
 * which is never chosen, of those that were looked at).
 *
 * result  out
 *
 * Memory:  plans, one at a time, from training.allocator
 * Threads: safe for distinct results
 * Errors:  MO_E_INVALID (NULL, open, seconds), those of mo_training_check, mo_training_plan and
 *          mo_machine_costs. What no piece of the target's memory can hold is no strategy; only
 *          where that leaves none it is MO_E_NO_SPACE
 * Cost:    192 plans for a batch of 8, when all is open; fewer where the fastest fits soon
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_suggest(
    const mo_suggest_desc *desc, mo_suggest_result *result);

/* What mo_suggest_fit makes larger. */
typedef enum mo_suggest_what {
    MO_SUGGEST_BATCH, /* sequences at a time: ACCUM is not chosen, and the given one divides it */
    MO_SUGGEST_SEQ    /* tokens in a sequence; learned positions that are as many grow with it */
} mo_suggest_what;

/* mo_suggest_fit_result - the largest that fits.
 *
 * n     it; 0 = not even the smallest fits
 * at    the strategy for it; of the smallest, where that does not fit
 * next  the same for the next larger one: what is missing there. Its least.bytes is 0 where n is
 *       the most that was asked for
 * Since: 0.1 */
typedef struct mo_suggest_fit_result {
    size_t n;
    mo_suggest_result at, next;
} mo_suggest_fit_result;

/* mo_suggest_fit - the largest batch or sequence under the budget, other fields given or open.
 *
 * desc    in   budget not 0; explain counts for at
 * what    in   see above
 * most    in   that is looked at, at least 1; 0 = 65536
 * result  out
 *
 * n fits and the next larger one does not: sizes are doubled until one does not fit, then halved in
 * between.
 *
 * Memory, Threads, Errors: as mo_suggest; MO_E_INVALID (budget, most below the given accumulation)
 * Cost:    for each of about 2 log2(n) sizes one plan where it fits, and a search where not
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_suggest_fit(
    const mo_suggest_desc *desc, mo_suggest_what what, size_t most, mo_suggest_fit_result *result);

/* mo_suggest_each - all strategies, whatever they need: for a frontier.
 *
 * visit  gets one at a time; returns 0 to go on, anything else to stop, which is no error
 * self   given to visit
 *
 * CHECKPOINT is all of none, light, block, sqrt, and of optimal the fastest schedules within five
 * budgets: unlimited, and evenly down to the least that it can do; and within desc.budget, where
 * that lies between. The other open fields take the values of mo_suggest, all with all.
 *
 * Memory, Threads, Errors: as mo_suggest
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_suggest_each(const mo_suggest_desc *desc,
    int (*visit)(void *self, const mo_suggest_trial *trial), void *self);

#endif
