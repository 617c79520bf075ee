/* mo_remat_profile.h - the costs of a chain's stages, measured on the spot: a plan is run a few
 * times, and every step's time is taken. Schedules and offloading are then chosen by what this
 * machine does, in seconds.
 *
 *     mo_profile profile;
 *     mo_profile_desc desc = {0};
 *     desc.plan = plan, desc.run = run_step, desc.self = model;      a plan that is bound
 *     if (mo_profile_init(&profile, chain.n_stages, 0, NULL) != MO_OK) ...
 *     if (mo_profile_run(&profile, &desc) != MO_OK) ...
 *     mo_profile_fill(&profile, stages);                             the caller's copy of them
 *     mo_profile_free(&profile);
 *
 * Any plan will do that fits: one that recomputes shows what a run without output costs, one that
 * keeps everything what backward costs alone. Plans may be profiled one after the other into the
 * same profile. The steps are real: gradients add up, and are to be cleared afterwards. */
#ifndef MEMOPT_REMAT_PROFILE_H
#define MEMOPT_REMAT_PROFILE_H

#include "mo_base.h"
#include "mo_plan.h"
#include "mo_remat.h"

/* mo_profile_clock - what tells the time.
 *
 * now_s  seconds since any moment, never falling; NULL = the system's monotonic clock */
typedef struct mo_profile_clock {
    double (*now_s)(void *self);
    void *self;
} mo_profile_clock;

/* mo_profile_desc - how to run a plan.
 *
 * plan         bound; its chain has the stages of the profile
 * run          runs a step to its end: work on other threads or devices is waited for
 * self         given to run
 * min_repeats  passes over the plan at least, beside a first one that is not counted; 0 = 3
 * limit_s      when this much has gone by, no further pass begins; 0 = 1 second. Up to the limit
 *              passes are repeated while the profile has room
 * clock        0 = the system's */
typedef struct mo_profile_desc {
    mo_plan *plan;
    void (*run)(void *self, const mo_step *step);
    void *self;
    size_t min_repeats;
    double limit_s;
    mo_profile_clock clock;
} mo_profile_desc;

/* mo_profile - owned by the caller; every field is private. */
typedef struct mo_profile {
    double *samples;  /* [n_stages][kinds][max_repeats] */
    uint32_t *counts; /* [n_stages][kinds] */
    size_t n_stages, max_repeats;
    mo_allocator allocator;
} mo_profile;

/* mo_profile_init - no samples yet. mo_profile_free - give the memory back.
 *
 * n_stages     of the chain
 * max_repeats  samples that are kept of each step, the latest ones; 0 = 16
 * allocator    copied; NULL = heap
 *
 * Memory:  60 bytes per stage and repeat
 * Threads: one at a time, as everything here
 * Errors:  MO_E_INVALID (NULL, 0 stages), MO_E_OVERFLOW, MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_profile_init(
    mo_profile *profile, size_t n_stages, size_t max_repeats, const mo_allocator *allocator);
MEMOPT_API void mo_profile_free(mo_profile *profile);

/* mo_profile_run - run a plan several times and take the times. A pass takes every step once, so a
 * disturbance of the machine hits few samples of each.
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, limit), MO_E_STATE (the plan is not bound, or gives a stage that the
 *          profile does not have)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_profile_run(
    mo_profile *profile, const mo_profile_desc *desc);

/* mo_profile_fill - write the medians as costs of the stages.
 *
 * stages  in and out  [n_stages] forward_s, backward_s, light_s, output_s, compress_s
 *
 *   forward_s   = time of FORWARD
 *   output_s    = forward_s - time of a RECOMPUTE whose output nobody reads
 *   backward_s  = time of BACKWARD; light_s = what it takes more at the light level
 *   compress_s  = what FORWARD and BACKWARD take more at the compressed level, beside light_s;
 *                 such steps count for nothing else
 *   the loss:     forward_s + backward_s = time of LOSS
 *
 * What no plan has shown keeps its ratio to the rest: light_s and output_s to the cost that they
 * are a part of, compress_s to forward_s, and a sum of two that was measured is split as they were
 * before. Estimates of any unit may so stand in the stages before.
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL), MO_E_STATE (a stage has not run, or at the compressed level
 *          alone; no stage is changed)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_profile_fill(const mo_profile *profile, mo_stage *stages);

/* mo_profile_link_desc - what is copied.
 *
 * copy      copies to its end; NULL = memcpy
 * self      given to copy
 * to, from  blocks of size bytes, owned by the caller; only copy touches them
 * size      bytes, as many as an item of the schedule has
 * repeats   copies that are timed, beside a first one that is not, up to 64; 0 = 5
 * clock     NULL = the system's */
typedef struct mo_profile_link_desc {
    void (*copy)(void *self, void *to, const void *from, size_t size);
    void *self;
    void *to;
    const void *from;
    size_t size;
    size_t repeats;
    const mo_profile_clock *clock;
} mo_profile_link_desc;

/* mo_profile_link - how fast bytes are copied: to another memory, or a file, for offloading.
 *
 * bytes_per_s  out  by the median of the times
 *
 * Memory:  none
 * Threads: one at a time for a block
 * Errors:  MO_E_INVALID (NULL, size 0, repeats), MO_E_UNSUPPORTED (the clock did not move: the copy
 *          is too short)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_profile_link(
    const mo_profile_link_desc *desc, double *bytes_per_s);

#endif
