/* mo_remat_offload_internal.h - private: the candidates that mo_remat_offload looks at. */
#ifndef MEMOPT_REMAT_OFFLOAD_INTERNAL_H
#define MEMOPT_REMAT_OFFLOAD_INTERNAL_H

#include "mo_remat_offload.h"

/* An op of a candidate.
 *
 * need  bytes during the op without the items that travel; a forward of the prefix counts the item
 *       that it makes
 * most  by moi_offload_plan_in */
typedef struct moi_offload_run {
    mo_flat_op flat;
    double cost;
    size_t need, most;
} moi_offload_run;

/* An item that travels; boundaries are indices of ops: before that op.
 *
 * reader, last    the first op on the way back that reads it, and the last
 * in_from         the boundary from which there is room for it
 * out_end, in_end when its copies end
 * out_wait, in    the boundaries at which its bytes go and come */
typedef struct moi_offload_item {
    size_t stage, bytes;
    size_t reader, last, in_from;
    double out_end, in_end;
    size_t out_wait, in;
} moi_offload_item;

/* Which stages of the middle run again. */
typedef enum moi_offload_again {
    MOI_OFFLOAD_ALL,
    MOI_OFFLOAD_DENSE,
    MOI_OFFLOAD_NONE, /* so that those behind it do */
    MOI_OFFLOAD_N_AGAIN
} moi_offload_again;

/* A candidate.
 *
 * n        stages of the prefix
 * stay     not 0 = only dense stages of the prefix travel: those with more bytes for their cost
 *          than the average
 * mid      stages of the middle
 * again    which of them run again; the others keep what they save
 * option   by which the prefix is saved
 * slack    how many items the schedule of the rest leaves room for, so that copies can come back
 *          while it runs
 * pattern  which stages of the prefix leave their output alone
 * hope     with this prefix none is faster when all of it travels */
typedef struct moi_offload_choice {
    size_t n, stay, mid, option, slack, pattern;
    moi_offload_again again;
    double hope;
} moi_offload_choice;
enum { MOI_OFFLOAD_SLACKS = 2 };

static const moi_offload_choice moi_offload_no_choice = {0, 0, 0, 0, 0, 0, MOI_OFFLOAD_ALL, 0};

/* Parts of the stages that leave all they keep, evenly spread. Behind these patterns come those
 * with the first stages leaving their output alone. */
static const double moi_offload_parts[] = {1, 0.85, 0.75, 2.0 / 3, 0.6, 0.5, 0.4, 1.0 / 3, 0.25, 0};
enum {
    MOI_OFFLOAD_PARTS = sizeof moi_offload_parts / sizeof *moi_offload_parts,
    MOI_OFFLOAD_FLAGS = 4 + MOI_OFFLOAD_PARTS
};

typedef struct moi_offload {
    const mo_flat_chain *chain;
    const mo_remat_table *table;
    mo_allocator allocator;
    size_t budget, store_bytes;
    mo_offload_link link;
    size_t n_last;           /* index of the loss */
    size_t n_options;        /* that a stage has at most */
    double *forward;         /* [n_stages] cost of the stages before it */
    double *backward;        /* the same */
    unsigned char *is_x;     /* [n_stages] the stage leaves its output alone */
    unsigned char *travels;  /* [n_stages] its item travels */
    unsigned char *is_dense; /* [n_stages] many bytes for its cost */
    unsigned char *flags;    /* [n_stages] scratch */
    unsigned char *spread;   /* [MOI_OFFLOAD_PARTS][n_stages] the patterns that are spread */
    moi_offload_item *items; /* [n_stages] that travel, by rising stage */
    size_t n_items;
    moi_offload_run *runs; /* of the candidate */
    size_t max_runs;
    mo_remat_solution suffix; /* the schedule behind prefix and middle of suffix_of */
    moi_offload_choice suffix_of;
    size_t held; /* x[0] and the items that stay */
    double *suffix_costs;
    size_t *suffix_bytes;
    size_t max_suffix;
} moi_offload;

/* What a simulation says. */
typedef struct moi_offload_times {
    double makespan, cost;
    size_t peak, store, n_runs;
} moi_offload_times;

#endif
