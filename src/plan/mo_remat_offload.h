/* mo_remat_offload.h - activations in another memory: which stages' tensors travel over a link to
 * host memory and back while the chain runs, and which are kept or run again, chosen together.
 *
 *     mo_offload_desc desc = {0};
 *     desc.chain = &chain;
 *     desc.budget = 4u << 30;
 *     desc.link.out_bytes_per_s = desc.link.in_bytes_per_s = 25e9;
 *     mo_offload_solution solution;
 *     if (mo_remat_offload(&desc, &solution) != MO_OK) ...
 *     for (size_t i = 0; i < solution.n_ops; i++) run(&solution.ops[i]);
 *     mo_offload_solution_free(&solution);
 */
#ifndef MEMOPT_REMAT_OFFLOAD_H
#define MEMOPT_REMAT_OFFLOAD_H

#include "mo_base.h"
#include "mo_remat_flat.h"
#include "mo_remat_optimal.h"

/* mo_offload_link - two channels, one each way, that copy beside the computation, each one copy
 * after the other.
 *
 * out_bytes_per_s  bandwidth to the store, in bytes per unit of the chain's costs; 0 = no link
 * in_bytes_per_s   and back; 0 = as out
 * latency_s        before each copy */
typedef struct mo_offload_link {
    double out_bytes_per_s, in_bytes_per_s;
    double latency_s;
} mo_offload_link;

/* mo_offload_desc - what is solved. Nothing needs to stay valid.
 *
 * chain        the network
 * budget       bytes
 * link         0 = nothing can be offloaded
 * store_bytes  most bytes in the store at once; 0 = no limit
 * table        of this chain, for at least this budget; NULL = one is made for the call, with the
 *              defaults of mo_remat_table_desc
 * allocator    NULL = heap
 * log          told what is wrong with the chain; NULL = silent */
typedef struct mo_offload_desc {
    const mo_flat_chain *chain;
    size_t budget;
    mo_offload_link link;
    size_t store_bytes;
    const mo_remat_table *table;
    const mo_allocator *allocator;
    const mo_log *log;
} mo_offload_desc;

/* What happens to an item. Waits stand where the bytes must be free, or there, so that an executor
 * that copies at once is right as well, and needs no more bytes. */
typedef enum mo_offload_kind {
    MO_OFFLOAD_RUN = 0,  /* run an op of the flat chain */
    MO_OFFLOAD_OUT,      /* start to copy an item to the store; it may still be read */
    MO_OFFLOAD_OUT_WAIT, /* wait for that copy, then free the item's bytes */
    MO_OFFLOAD_IN,       /* take bytes for the item, start to copy it back */
    MO_OFFLOAD_IN_WAIT   /* wait for that copy: the item may be read */
} mo_offload_kind;

/* mo_offload_op - one op of the schedule.
 *
 * flat   RUN: the op. Else the item: kind MO_FLAT_SAVE is kept[stage], x[stage + 1] included, as
 *        saved by option; kind MO_FLAT_KEEP is plain x[stage + 1]
 * bytes  of the item; 0 for RUN */
typedef struct mo_offload_op {
    mo_offload_kind kind;
    mo_flat_op flat;
    size_t bytes;
} mo_offload_op;

/* mo_offload_solution - a schedule, with what a simulation of it says.
 *
 * feasible     0 = nothing fits that was looked at; ops is NULL then
 * ops          [n_ops], owned by the solution
 * peak_bytes   at most the budget. Bytes of an item are counted from the op that creates it, or
 *              from IN, to the last op that needs it, or to OUT_WAIT
 * store_bytes  in the store at most
 * n_items      that travel to the store and back; 0 = recomputation alone
 * makespan_s   time of the whole schedule: cost_s of its ops and stall_s of waiting
 * recompute_s  time of the best schedule without a link; INFINITY = there is none
 * ideal_s      see mo_flat_result */
typedef struct mo_offload_solution {
    int feasible;
    mo_offload_op *ops;
    size_t n_ops;
    size_t peak_bytes, store_bytes;
    size_t n_items;
    double makespan_s, cost_s, stall_s, recompute_s, ideal_s;
    size_t capacity;
    mo_allocator allocator;
} mo_offload_solution;

/* mo_remat_offload - the fastest schedule found under the budget.
 *
 * Looks at every n: of the first n stages all but the last, or only those with many bytes for their
 * cost, leave for the store, either with what they keep, or with their output alone, to be run
 * again; in regular patterns of both. The stages behind take the best schedule of the table for the
 * bytes that are left. Each candidate is simulated event by event; where bytes are missing, the
 * computation waits. Never slower than recomputation alone.
 *
 * solution  out  owned by the caller until mo_offload_solution_free
 *
 * That nothing fits is an outcome, not an error.
 *
 * Memory:  the ops, and some 100 bytes per op during the call, beside a table
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, chain, link; the log names stage and value), MO_E_OVERFLOW,
 *          MO_E_NO_MEMORY
 * Cost:    beside the table: 2 to 4 ms for 34 stages, 10 to 20 ms for 98
 * Source:  the problem: Beaumont et al. 2021, Efficient combination of rematerialization and
 *          offloading for training DNNs (POFO); the search is ours
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_offload(
    const mo_offload_desc *desc, mo_offload_solution *solution);

/* mo_offload_solution_free - free the ops; of a solution of zeros it does nothing.
 *
 * Since: 0.1 */
MEMOPT_API void mo_offload_solution_free(mo_offload_solution *solution);

/* mo_remat_offload_unflatten - the same schedule for the detailed chain, as a plan takes it. What a
 * stage keeps and its output travel as two copies there.
 *
 * ops       in   [n_ops] of the whole flat chain
 * out       out  [2 * n_ops] is always enough
 * n_out     out
 *
 * Memory:  1 byte per stage from allocator during the call; NULL = heap
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, chain, a stage that is not there), MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_offload_unflatten(const mo_chain *chain,
    const mo_offload_op *ops, size_t n_ops, const mo_allocator *allocator, mo_remat_op *out,
    size_t *n_out);

#endif
