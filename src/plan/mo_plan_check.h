/* mo_plan_check.h - a proof that the addresses of a plan are right, which does not ask how they
 * were found: the steps are played over a map of which byte was last written by whom. */
#ifndef MEMOPT_PLAN_CHECK_H
#define MEMOPT_PLAN_CHECK_H

#include "mo_base.h"
#include "mo_plan.h"

/* mo_plan_check_desc - steps as mo_plan_next gave them, or as another program made them.
 *
 * chain        the network
 * steps        [n_steps] one whole pass
 * base         address of the block that the steps' addresses are in
 * fixed_bytes  at its front: no step may touch them
 * size         of the block, fixed_bytes included
 * store_bytes  of the store
 * align        of every address of a tensor, counted from base; a power of two, 0 = 1
 * allocator    during the call only; NULL = heap
 * log          told what is wrong; NULL = silent */
typedef struct mo_plan_check_desc {
    const mo_chain *chain;
    const mo_step *steps;
    size_t n_steps;
    const void *base;
    size_t fixed_bytes, size;
    size_t store_bytes;
    size_t align;
    const mo_allocator *allocator;
    const mo_log *log;
} mo_plan_check_desc;

/* mo_plan_check_steps - whether a program that runs these steps computes what it would compute with
 * all memory of its own:
 *
 * - the schedule is one that mo_remat_check accepts;
 * - every step has the addresses that its op needs, inside the block and behind the fixed bytes;
 * - every byte that a step reads, from x, dy and what forward has kept, holds what was last written
 *   there for that tensor, in all sub-steps in which the step may read it;
 * - so does every byte that a step has written, for as long as the stage says;
 * - what is copied does not change until the WAIT, which gives the same copies; nobody writes to
 *   where it goes; and both ends lie within block and store.
 *
 * mo_plan_check - the same for the steps of a plan, bound or not.
 *
 * A recompute writes the bytes that the first run wrote. What is never read may be overwritten.
 *
 * log  NULL = silent
 *
 * Memory:  about 150 bytes per step and 50 per tensor in it, from the allocator of desc or plan
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL; the log names step, stage, tensor, and who wrote the byte last),
 *          MO_E_NO_MEMORY
 * Cost:    about 1 ms for 200 steps of 10 tensors
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_plan_check_steps(const mo_plan_check_desc *desc);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_plan_check(const mo_plan *plan, const mo_log *log);

#endif
