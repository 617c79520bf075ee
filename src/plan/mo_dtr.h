/* mo_dtr.h - dynamic tensor rematerialization: a program without a known graph runs its ops one by
 * one under a byte budget. When an output does not fit, tensors are evicted, the least missed
 * first; when an evicted tensor is needed again, the ops that made it run again.
 *
 *     mo_dtr dtr;
 *     mo_dtr_desc desc = {0};
 *     desc.block = block, desc.size = budget;
 *     if (mo_dtr_init(&dtr, &desc) != MO_OK) ...
 *     mo_dtr_tensor x, y;
 *     mo_dtr_constant(&dtr, "x", bytes, pixels, &x);
 *     op.run = relu, op.inputs = &x, op.n_inputs = 1, op.output_sizes = &bytes, op.n_outputs = 1;
 *     if (mo_dtr_op(&dtr, &op, &y) != MO_OK) ...                     relu runs now
 *     if (mo_dtr_acquire(&dtr, y, &address) != MO_OK) ...            and here again, if y is gone
 *     mo_dtr_release(&dtr, y);
 *     mo_dtr_drop(&dtr, y);
 */
#ifndef MEMOPT_DTR_H
#define MEMOPT_DTR_H

#include "mo_base.h"
#include "mo_suballoc.h"

/* mo_dtr_tensor - the name of a tensor; never 0. It is recognized as stale once dropped. */
typedef uint64_t mo_dtr_tensor;

/* Which tensors to evict: of all neighbours in the block that make enough room in one piece, those
 * with the smallest sum of h. cost = of the op that made it, size = its bytes, stale = cost of all
 * that ran since it was last used. */
typedef enum mo_dtr_heuristic {
    MO_DTR_EQ = 0, /* (cost + cost of the evicted components that it touches) / (size * stale) */
    MO_DTR_FULL,   /* (cost + cost of its evicted ancestors and descendants) / (size * stale) */
    MO_DTR_LOCAL,  /* cost / (size * stale) */
    MO_DTR_LRU,    /* 1 / stale */
    MO_DTR_SIZE,   /* 1 / size */
    MO_DTR_MSPS    /* (cost + cost of its evicted ancestors) / size */
} mo_dtr_heuristic;

/* mo_dtr_call - what an op gets. The addresses are valid during the call, aligned to 64.
 *
 * inputs   [n_inputs] in the order of the op's desc
 * outputs  [n_outputs] to be written in full; when the op runs again, some may hold their bytes
 *          still, and get the same ones
 * seed     of the op's desc: the same in every run
 * again    0 = the first run; else it is a recompute */
typedef struct mo_dtr_call {
    const void *const *inputs;
    size_t n_inputs;
    void *const *outputs;
    size_t n_outputs;
    uint64_t seed;
    int again;
} mo_dtr_call;

/* mo_dtr_op_desc - an op. It must be a pure function: the same inputs and seed give the same bytes,
 * and nothing else is written.
 *
 * name          for reports, valid as long as an output; NULL = "op"
 * run           runs it; must not call mo_dtr. A status other than MO_OK ends the whole call
 * self          given to run, valid as long as an output, or anything made from one, may be needed
 * inputs        [n_inputs] tensors, also the same one twice
 * output_sizes  [n_outputs] bytes, 1 or more each; at least one output
 * cost          in any unit, not negative; 0 = bytes of its inputs and outputs
 * seed          for ops with randomness */
typedef struct mo_dtr_op_desc {
    const char *name;
    mo_status (*run)(void *self, const mo_dtr_call *call);
    void *self;
    const mo_dtr_tensor *inputs;
    size_t n_inputs;
    const size_t *output_sizes;
    size_t n_outputs;
    double cost;
    uint64_t seed;
} mo_dtr_op_desc;

/* mo_dtr_desc - budget and size of the books.
 *
 * block        caller's memory for the tensors, aligned to 64, valid until mo_dtr_free; an arena's
 *              will do
 * size         bytes of block: the budget
 * heuristic    0 = MO_DTR_EQ
 * max_tensors  most tensors known at once, evicted and dropped ones that others are made from
 *              included, up to 2^28; 0 = 16384
 * max_inputs   most inputs of all known ops together, up to 2^30; 0 = 4 * max_tensors
 * max_args     most inputs and outputs of one op; 0 = 64
 * workspace    caller's memory of mo_dtr_workspace_size bytes, any alignment, valid until
 *              mo_dtr_free; NULL = taken from allocator
 * allocator    copied; NULL = heap
 * log          copied; told when the budget is too small, and for what; NULL = silent */
typedef struct mo_dtr_desc {
    void *block;
    size_t size;
    mo_dtr_heuristic heuristic;
    size_t max_tensors, max_inputs, max_args;
    void *workspace;
    const mo_allocator *allocator;
    const mo_log *log;
} mo_dtr_desc;

/* mo_dtr_stats - figures of this moment; costs in the unit of the ops.
 *
 * n_evictions      because something did not fit; those by mo_dtr_drop are not counted
 * n_recomputes     ops that ran again
 * cost             of all first runs; recompute_cost: of the others
 * resident_bytes   in the block now, rounded up to 64 for each tensor
 * peak_bytes       the most that ever were; at most the budget
 * n_tensors        known now, see mo_dtr_desc; n_resident of them are in the block */
typedef struct mo_dtr_stats {
    uint64_t n_evictions, n_recomputes;
    double cost, recompute_cost;
    uint64_t resident_bytes, peak_bytes;
    size_t n_tensors, n_ops, n_resident;
} mo_dtr_stats;

/* mo_dtr - owned by the caller; every field is private. */
typedef struct mo_dtr {
    mo_suballoc sub;
    unsigned char *block;
    struct moi_dtr_tensor *tensors; /* [max_tensors] */
    struct moi_dtr_op *ops;         /* [max_tensors] */
    struct moi_dtr_edge *edges;     /* [max_inputs] */
    struct moi_dtr_group *groups;   /* [max_tensors] */
    uint32_t *owners;               /* tensor by the low half of its handle in the block */
    void **args;                    /* [max_args] */
    uint32_t max_tensors, max_edges, max_args;
    uint32_t n_tensors, n_ops, n_edges, n_groups; /* slots that were ever used */
    uint32_t free_tensor, free_op, free_edge, free_group;
    uint32_t live_tensors, live_ops, live_edges;
    uint32_t first_resident, waiting; /* waiting: ops for the one that runs */
    uint64_t epoch;
    mo_dtr_heuristic heuristic;
    int running;
    double clock, cost, recompute_cost;
    uint64_t n_evictions, n_recomputes;
    mo_log log;
    void *workspace; /* to be given back; NULL = the caller's */
    size_t workspace_size;
    mo_allocator allocator;
} mo_dtr;

/* mo_dtr_workspace_size - bytes of the books: 500 to 600 bytes per max_tensors.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, limits), MO_E_OVERFLOW
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_dtr_workspace_size(const mo_dtr_desc *desc, size_t *size);

/* mo_dtr_init - no tensors yet. mo_dtr_free - give the workspace back; all tensors are gone.
 *
 * Threads: one at a time, as everything here
 * Errors:  as mo_dtr_workspace_size; MO_E_INVALID (block, size below 64, heuristic), MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_dtr_init(mo_dtr *dtr, const mo_dtr_desc *desc);
MEMOPT_API void mo_dtr_free(mo_dtr *dtr);

/* mo_dtr_constant - a tensor that no op made and that is never evicted: an input, a parameter. Its
 * bytes must not change while anything made from it may be needed.
 *
 * name     for reports, valid as long as the tensor; NULL = "constant"
 * size     bytes, 1 or more
 * address  where the caller keeps it, valid as long as the tensor or anything made from it; NULL =
 *          in the block, uninitialised: the caller writes it at the address that mo_dtr_acquire
 *          gives
 * tensor   out
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, size), MO_E_NO_SPACE (budget, max_tensors), MO_E_STATE (inside an
 *          op), and what an op returned
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_dtr_constant(
    mo_dtr *dtr, const char *name, size_t size, void *address, mo_dtr_tensor *tensor);

/* mo_dtr_op - run an op once now, and again whenever an output is needed that has been evicted.
 *
 * outputs  out  [n_outputs]
 *
 * Inputs that are evicted are made again first. Inputs and outputs stay in the block while it runs;
 * nothing else that is not acquired does.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, sizes, an input that was dropped), MO_E_NO_SPACE (budget: the log
 *          names what is pinned; max_tensors, max_inputs, max_args), MO_E_STATE (inside an op), and
 *          what an op returned. The op is forgotten then; all other tensors are as before, though
 *          some may have been evicted
 * Cost:    an eviction looks at every tensor in the block: with MO_DTR_EQ at its inputs and users
 *          too, with MO_DTR_FULL and MO_DTR_MSPS at the whole evicted region around it
 * Source:  Kirisame et al. 2021, Dynamic Tensor Rematerialization, arXiv:2006.09616; neighbours:
 *          Zhang et al. 2023, Coop: Memory is not a Commodity, arXiv:2311.00591
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_dtr_op(
    mo_dtr *dtr, const mo_dtr_op_desc *desc, mo_dtr_tensor *outputs);

/* mo_dtr_acquire - pin a tensor: it is made again if it is evicted, and stays at its address until
 * it was released as often as acquired. mo_dtr_release - the counterpart.
 *
 * address  out  aligned to 64 when in the block
 *
 * Threads: one at a time
 * Errors:  acquire: as mo_dtr_op. release: MO_E_INVALID (dropped), MO_E_STATE (not acquired)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_dtr_acquire(
    mo_dtr *dtr, mo_dtr_tensor tensor, void **address);
MEMOPT_API mo_status mo_dtr_release(mo_dtr *dtr, mo_dtr_tensor tensor);

/* mo_dtr_drop - the caller needs the tensor no more. Its bytes are freed at once, except a
 * constant's or kept one's that others are made from; how it was made is remembered while those
 * live.
 * mo_dtr_keep - from now on the tensor is never evicted, and how it was made is forgotten, so that
 * what it was made from can go: for parameters that a step replaces.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (dropped before), MO_E_STATE (drop of an acquired tensor; inside an op).
 *          keep: as mo_dtr_acquire
 * Since:   0.1 */
MEMOPT_API mo_status mo_dtr_drop(mo_dtr *dtr, mo_dtr_tensor tensor);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_dtr_keep(mo_dtr *dtr, mo_dtr_tensor tensor);

/* mo_dtr_get_stats - figures of this moment. Threads: one at a time. Since: 0.1 */
MEMOPT_API void mo_dtr_get_stats(const mo_dtr *dtr, mo_dtr_stats *stats);

#endif
