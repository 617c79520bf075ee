/* mo_plan.h - a training step planned to the byte: the schedule of a chain of stages, and the
 * address of every tensor in every step. The caller pulls the steps and runs them.
 *
 *     mo_plan *plan;
 *     mo_plan_desc desc = {0};
 *     desc.chain = &chain;
 *     desc.remat.policy = MO_REMAT_BLOCK;
 *     if (mo_plan_create(&plan, &desc) != MO_OK) ...
 *     if (mo_plan_describe(plan).peak_bytes > budget) ...      nothing has been allocated yet
 *     if (mo_plan_bind(plan, &arena, NULL) != MO_OK) ...
 *     mo_step step;
 *     mo_plan_begin(plan);
 *     while (mo_plan_next(plan, &step)) run(&step);
 */
#ifndef MEMOPT_PLAN_H
#define MEMOPT_PLAN_H

#include "mo_arena.h"
#include "mo_base.h"
#include "mo_remat.h"
#include "mo_track.h"

/* mo_plan_fixed - memory that lives during the whole run: parameters, gradients, optimizer states,
 * workspaces.
 *
 * name  for reports; NULL = "fixed"
 * size  bytes; 0 = none, its address is NULL */
typedef struct mo_plan_fixed {
    const char *name;
    size_t size;
    mo_category category;
} mo_plan_fixed;

/* mo_plan_desc - what is planned. Everything is copied, names too; nothing needs to stay valid.
 *
 * chain      the network
 * remat      how to choose the schedule
 * ops        [n_ops] a schedule written by hand, instead of remat; NULL = by remat
 * fixed      [n_fixed] placed at the front, in this order
 * align      of every address, and of every offset in the store, a power of two; 0 = 64
 * piece      for memory that comes in pieces of so many bytes, such as the largest allocation of a
 *            device: no tensor and no fixed block crosses a multiple of it, and peak_bytes is a
 *            multiple of align. A multiple of align, at least 2 of them; 0 = one piece. The last
 *            align bytes of a piece stay empty where another follows
 * seed       of the steps' seeds
 * allocator  for the plan itself; NULL = heap
 * log        told what is wrong with chain or schedule; NULL = silent */
typedef struct mo_plan_desc {
    const mo_chain *chain;
    mo_remat_desc remat;
    const mo_remat_op *ops;
    size_t n_ops;
    const mo_plan_fixed *fixed;
    size_t n_fixed;
    size_t align, piece;
    uint64_t seed;
    const mo_allocator *allocator;
    const mo_log *log;
} mo_plan_desc;

/* mo_plan_info - what a plan needs.
 *
 * peak_bytes   of the arena, to the byte, fixed_bytes included
 * fixed_bytes  end of the fixed blocks
 * lower_bound  peak_bytes that no layout of this schedule can go below
 * live_bytes   the most bytes live at once: the sum of bytes
 * bytes        live_bytes by category; the gradients dx of x count as activation, x[0] as input
 * gap_bytes    peak_bytes - live_bytes: alignment, and holes that no live tensor fills then
 * store_bytes  of the other memory, the store, when the schedule moves something there
 * out_bytes    moved to the store in one pass; in_bytes: and back
 * n_steps      steps that mo_plan_next gives
 * n_tensors    tensors that begin and end in them: what a track must have room for. A pass is
 *              2 * (n_steps + n_tensors) of its events
 * peak_step    the first step in which live_bytes are live, counted from 0
 * proved       peak_bytes == lower_bound
 * cost_s       see mo_remat_cost; ideal_s: mo_remat_ideal_cost, for inference
 *              mo_remat_forward_cost */
typedef struct mo_plan_info {
    size_t peak_bytes, fixed_bytes, lower_bound;
    size_t live_bytes;
    size_t bytes[MO_CATEGORY_COUNT];
    size_t gap_bytes;
    size_t store_bytes, out_bytes, in_bytes;
    size_t n_steps, n_tensors, peak_step;
    int proved;
    double cost_s, ideal_s;
} mo_plan_info;

/* mo_plan_copy - bytes that go from an address to an offset in the store, or back. */
typedef struct mo_plan_copy {
    void *address;
    size_t size, store_off;
} mo_plan_copy;

/* mo_step - one step, with its addresses in the arena. An address is valid during the step, and
 * until the last step that gives it again for the same tensor.
 *
 * op, stage, save, light  see mo_remat_op
 * x        input of the stage. NULL for stage 0 when the caller keeps the input
 *          (mo_chain.input_size == 0); else the caller writes x[0] into the first step's x before
 *          running it. In steps that move something: x[stage], when that is moved
 * y        FORWARD, RECOMPUTE, LOSS: output of the stage; NULL = nobody reads it, so the stage need
 *          not finish it. Of the last stage: valid during this step only
 * dy       BACKWARD: gradient of the output
 * dx       LOSS, BACKWARD: gradient of the input, to be written (not added to); NULL for stage 0
 *          when the caller keeps the input; dy for a stage with in_place
 * tensors  [n_tensors of the stage] addresses; NULL where the tensor is not live in this step, or
 *          not moved. Valid until the next mo_plan_next
 * copies   [n_copies] OFFLOAD: what to copy into the store, PREFETCH: out of it. The copies may go
 *          on until the WAIT, which gives the same list; a program that copies at once does nothing
 *          there. Neighbours are one copy. Valid until the next mo_plan_next
 * seed     for random numbers of this stage, such as dropout: in one pass the same in FORWARD,
 *          RECOMPUTE, LOSS and BACKWARD of a stage; another one for each stage and pass
 *
 * All are uninitialised when they are given for the first time. */
typedef struct mo_step {
    mo_step_op op;
    size_t stage;
    int save;
    int light;
    const void *x;
    void *y;
    const void *dy;
    void *dx;
    void *const *tensors;
    const mo_plan_copy *copies;
    size_t n_copies;
    uint64_t seed;
} mo_step;

/* mo_plan - opaque: schedule, lifetimes, offsets, position. */
typedef struct mo_plan mo_plan;

/* mo_plan_create - schedule and lay out; allocates nothing but the plan itself.
 * mo_plan_destroy - free it; NULL does nothing. Arena and track are not touched: see
 * mo_plan_unbind.
 *
 * plan  out  owned by the caller
 *
 * Memory:  about 200 bytes per tensor and op from desc->allocator, and as much during create
 * Threads: safe for distinct plans
 * Errors:  MO_E_INVALID (NULL, chain, schedule, alignment, piece; the log names stage, tensor and
 *          value), MO_E_NO_SPACE (something is larger than a piece), MO_E_OVERFLOW, MO_E_NO_MEMORY
 * Cost:    2 us per stage of 10 tensors, and mo_layout_solve: so a caller may try many
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_plan_create(mo_plan **plan, const mo_plan_desc *desc);
MEMOPT_API void mo_plan_destroy(mo_plan *plan);

/* mo_plan_describe - what the plan needs, before anything is allocated.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API mo_plan_info mo_plan_describe(const mo_plan *plan);

/* mo_plan_bind - take an arena over: commit the peak, place the fixed blocks, go to the first step.
 * mo_plan_unbind - let it go: the track is told that everything has ended. For a plan that is not
 * bound it does nothing.
 *
 * arena  empty; valid until unbind or destroy. Its first byte has the plan's alignment
 * track  told about the fixed blocks now, and later about every tensor's begin and end, and about
 *        every step as a stage (mo_track_begin); NULL = none. Valid until unbind. It remembers
 *        pointers to the plan's names in its events, so read those before the plan is destroyed
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, the arena's alignment), MO_E_STATE (bound already, or the arena is
 *          not empty), MO_E_NO_SPACE (the arena's or the track's limit), MO_E_NO_MEMORY; arena and
 *          track are as before then
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_plan_bind(mo_plan *plan, mo_arena *arena, mo_track *track);
MEMOPT_API void mo_plan_unbind(mo_plan *plan);

/* mo_plan_fixed_address - of fixed block i, aligned to the plan's alignment. The caller
 * initialises it.
 *
 * Threads: safe
 * Errors:  NULL (not bound, i out of range, size 0)
 * Since:   0.1 */
MEMOPT_API void *mo_plan_fixed_address(const mo_plan *plan, size_t i);

/* mo_plan_begin - go to the first step: once per micro-batch. mo_plan_begin_pass - the same for a
 * pass of this number. mo_plan_next - the next step.
 *
 * pass  makes the steps' seeds, so a run that is resumed goes on with the number it would have had.
 *       mo_plan_begin takes the one behind the pass that has run; bind, 0
 * step  out
 *
 * next returns 1, or 0 after the last step or when the plan is not bound. It claims every tensor
 * that begins in this step from the arena (so the arena's peak is measured, not copied from the
 * plan), and tells the track about begins and ends in the order of the sub-steps. A track that is
 * full or at its budget misses tensors; the steps are the same. Under AddressSanitizer a tensor's
 * bytes are poisoned when the step after its last one begins.
 *
 * Threads: one at a time
 * Cost:    about 10 ns per tensor, 50 ns with a track
 * Since:   0.1 */
MEMOPT_API void mo_plan_begin(mo_plan *plan);
MEMOPT_API void mo_plan_begin_pass(mo_plan *plan, uint64_t pass);
MEMOPT_API int mo_plan_next(mo_plan *plan, mo_step *step);

#endif
