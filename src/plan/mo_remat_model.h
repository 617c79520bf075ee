/* mo_remat_model.h - private: the recurrence over parts of a flat chain, in bytes or in slots. The
 * table of costs, the floor and the way back from either to a schedule all walk it.
 *
 * A cell is stages first..last with x[first] there, and not counted; it ends with dx[first].
 * pending 0: dx[last + 1] is there (or last is the loss), and is counted.
 * pending 1 + o: last has been saved by option o, its input dropped; kept[last] and dx[last + 1]
 * are there and counted, and x[last] must be made again. */
#ifndef MEMOPT_REMAT_MODEL_H
#define MEMOPT_REMAT_MODEL_H

#include "mo_remat_optimal.h"

typedef struct moi_rm_cell {
    size_t first, last, pending;
} moi_rm_cell;

/* What happens first in a cell.
 *
 * BASE       its only stage: save (unless pending), then backward; or the loss
 * SAVE       first is saved; then first + 1..; then backward of first
 * KEEP       forward to x[k], which is kept; then k..; then first..k - 1
 * SAVE_DROP  forward to x[k]; k is saved and x[k] dropped; then k + 1..; then first..k pending */
typedef enum moi_rm_choice {
    MOI_RM_BASE,
    MOI_RM_SAVE,
    MOI_RM_KEEP,
    MOI_RM_SAVE_DROP
} moi_rm_choice;

/* need   units without which it cannot start
 * shift  units that it keeps while sub[0] runs; sub[1] has the cell's own
 * cost   its own, without that of the subs */
typedef struct moi_rm_candidate {
    moi_rm_choice choice;
    size_t k, option;
    size_t need, shift;
    double cost;
    size_t n_subs;
    moi_rm_cell sub[2];
} moi_rm_candidate;

/* The chain in units, with costs scaled by a power of two so that they fit into floats. Sums of
 * sizes saturate. Equal parts of the chain have the same row. */
typedef struct moi_rm_model {
    mo_allocator allocator;
    size_t n, n_options;
    size_t n_pending; /* options by which a stage may wait; 0 = a saved stage keeps its input */
    size_t *sizes;    /* one block: the arrays below */
    size_t *x, *tmp, *first_option, *kept, *forward_tmp, *backward_tmp;
    double *costs;            /* one block: the arrays below */
    double *forward;          /* [n + 1] of stages before i */
    double *backward;         /* [n] */
    double *extra, *unread;   /* [n_options] */
    double scale;             /* cost * scale = cost of the chain */
    uint32_t *rows;           /* one block: the arrays below */
    uint32_t *row, *type;     /* [n * (n + 1) / 2] by last and first; [n] */
    uint32_t *firsts, *lasts; /* [n_rows] the first part of the chain with this row */
    size_t n_rows;            /* a part's row is above those of the parts within it */
} moi_rm_model;

typedef struct moi_rm_scan {
    const moi_rm_model *model;
    moi_rm_cell cell;
    size_t held;    /* counted from the start: dx[last + 1], kept[last] */
    size_t highest; /* needed by forward from first to k, without held */
    size_t k, option;
} moi_rm_scan;

/* Stages of the chain put together to groups, with the flat chain that has a stage for each.
 *
 * begins  [n_groups + 1] the first stage of each group; the last group is the loss
 * levels  [n_options][n_stages] by which option a group's option saves a stage, or MOI_RG_NOT: it
 *         keeps x of the stage alone, and runs it again before its backward */
typedef struct moi_rg_groups {
    const mo_flat_chain *fine;
    mo_flat_chain chain;
    mo_flat_stage *stages;
    mo_flat_option *options;
    size_t n_groups;
    size_t *begins;
    uint32_t *levels;
} moi_rg_groups;
enum { MOI_RG_OPTIONS = 8 };
#define MOI_RG_NOT UINT32_MAX

/* A schedule that grows. */
typedef struct moi_rm_list {
    mo_allocator allocator;
    mo_flat_op *ops;
    size_t n, capacity;
} moi_rm_list;

#endif
