/* mo_remat_flat.h - the flat chain: each stage by a few numbers, for solvers that look at millions
 * of schedules. A schedule of it is simulated to the byte.
 *
 * The network is x[0] -> stage 0 -> x[1] -> ... -> x[n - 1] -> stage n - 1, the loss. dx[i] is the
 * gradient of x[i] and has its size. kept[i] is what stage i keeps for its backward by one of its
 * options, x[i + 1] included. */
#ifndef MEMOPT_REMAT_FLAT_H
#define MEMOPT_REMAT_FLAT_H

#include "mo_base.h"
#include "mo_remat.h"

/* mo_flat_option - one way to save a stage for its backward.
 *
 * kept          bytes of kept[i], at least those of x[i + 1]
 * extra_s       what backward costs more by this option
 * forward_tmp   bytes more while forward runs and saves
 * backward_tmp  bytes more while backward runs
 * unread_s      part of forward_s that a run leaves out when nobody reads its x[i + 1] */
typedef struct mo_flat_option {
    size_t kept;
    double extra_s;
    size_t forward_tmp, backward_tmp;
    double unread_s;
} mo_flat_option;

/* mo_flat_stage - one stage.
 *
 * name         for messages; NULL = "stage"
 * forward_s    costs in seconds, or in any other unit; the loss's op costs forward_s + backward_s
 * backward_s
 * output_size  bytes of x[i + 1]; unused by the loss
 * forward_tmp  bytes more while forward runs and saves nothing, or while the loss runs
 * options      [n_options], at least 1, the first is the one that store-all takes; unused by the
 *              loss */
typedef struct mo_flat_stage {
    const char *name;
    double forward_s, backward_s;
    size_t output_size;
    size_t forward_tmp;
    const mo_flat_option *options;
    size_t n_options;
} mo_flat_stage;

/* mo_flat_chain - the network.
 *
 * input_size  bytes of x[0] and of dx[0]; x[0] is there from the start
 * stages      [n_stages], at least 1; the last one is the loss */
typedef struct mo_flat_chain {
    size_t input_size;
    const mo_flat_stage *stages;
    size_t n_stages;
} mo_flat_chain;

/* What an op does to the items in memory: x, kept and dx. Its peak is what is there before it, plus
 * what it creates, plus its tmp.
 *
 * KEEP       needs x[i], plain or in kept[i - 1]; creates plain x[i + 1]
 * DROP       as KEEP, then frees plain x[i]
 * SAVE       needs x[i]; creates kept[i]
 * SAVE_DROP  as SAVE, then frees plain x[i]
 * LOSS       needs x[n - 1]; creates dx[n - 1]
 * BACKWARD   needs dx[i + 1], kept[i] and x[i]; creates dx[i], then frees dx[i + 1], kept[i] and
 *            plain x[i] */
typedef enum mo_flat_kind {
    MO_FLAT_KEEP = 0,
    MO_FLAT_DROP,
    MO_FLAT_SAVE,
    MO_FLAT_SAVE_DROP,
    MO_FLAT_LOSS,
    MO_FLAT_BACKWARD
} mo_flat_kind;

/* mo_flat_op - one op of a schedule.
 *
 * option  SAVE, SAVE_DROP: which one; BACKWARD: the one by which kept[stage] was saved; else 0 */
typedef struct mo_flat_op {
    size_t stage;
    mo_flat_kind kind;
    unsigned option;
} mo_flat_op;

/* mo_flat_result - what a schedule needs.
 *
 * peak_bytes  the most that is there at once, tmp included
 * peak_op     the first op with it, counted from 0
 * cost_s      time of all ops
 * ideal_s     the same when nothing runs twice and each stage takes the fastest option */
typedef struct mo_flat_result {
    size_t peak_bytes, peak_op;
    double cost_s, ideal_s;
} mo_flat_result;

/* mo_remat_flat_check - whether a flat chain makes sense: costs finite and not negative, options
 * there and not smaller than the stage's output.
 *
 * log  NULL = silent
 *
 * Memory:  none
 * Threads: safe
 * Errors:  MO_E_INVALID; the log names the stage and the value
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_flat_check(
    const mo_flat_chain *chain, const mo_log *log);

/* mo_remat_flat_simulate - run a schedule on the flat chain from stage first on: at the start there
 * is x[first] alone, at the end dx[first] alone, and no op names an earlier stage.
 *
 * chain   checked
 * first   0 = the whole chain; at most n_stages - 1
 * ops     in   [n_ops]
 * bytes   out  [n_ops] bytes at the peak of each op, tmp included; NULL = not wanted
 * result  out  may be NULL
 *
 * Memory:  10 bytes per stage from allocator during the call; NULL = heap
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, or the schedule lacks something: the log names op, stage, item),
 *          MO_E_OVERFLOW (more bytes than size_t counts), MO_E_NO_MEMORY
 * Cost:    O(n_stages + n_ops)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_flat_simulate(const mo_flat_chain *chain,
    size_t first, const mo_flat_op *ops, size_t n_ops, const mo_allocator *allocator,
    const mo_log *log, size_t *bytes, mo_flat_result *result);

/* mo_remat_flat_ideal - the cost when nothing runs twice and each stage takes the fastest option,
 * from stage first on.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API double mo_remat_flat_ideal(const mo_flat_chain *chain, size_t first);

/* mo_remat_flatten - the flat chain of a detailed one. Option 0 of a stage is the full level;
 * where there are CHEAP tensors the next one is the light level, and where there are CODES the last
 * one the compressed level. The tmp of an op follows from
 * the sub-steps in which its tensors live: no op has more bytes live in a plan of the schedule than
 * the flat chain counts. It counts more where x[i + 1] is dropped before backward of stage i.
 *
 * flat   out  owned by the caller; names point into the detailed chain
 *
 * Memory:  one block from allocator (NULL = heap), freed by mo_remat_flat_free with the same one
 * Threads: safe
 * Errors:  MO_E_INVALID (chain), MO_E_OVERFLOW, MO_E_NO_MEMORY
 * Cost:    O(tensors^2) per stage
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_flatten(
    const mo_chain *chain, const mo_allocator *allocator, const mo_log *log, mo_flat_chain *flat);
MEMOPT_API void mo_remat_flat_free(mo_flat_chain *flat, const mo_allocator *allocator);

/* mo_remat_unflatten - the schedule of the detailed chain for one of its flat chain: KEEP and DROP
 * become FORWARD or RECOMPUTE that saves nothing, SAVE and SAVE_DROP one that saves. A save of a
 * stage that keeps no tensor and whose output nobody reads is left out.
 *
 * ops       in   [n_ops] of the whole flat chain
 * out       out  [n_ops]
 * n_out     out  at most n_ops
 *
 * Memory:  1 byte per stage from allocator during the call; NULL = heap
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, chain, a stage that is not there), MO_E_NO_MEMORY
 * Cost:    O(n_stages + n_ops)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_unflatten(const mo_chain *chain,
    const mo_flat_op *ops, size_t n_ops, const mo_allocator *allocator, mo_remat_op *out,
    size_t *n_out);

#endif
