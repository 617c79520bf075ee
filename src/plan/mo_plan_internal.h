/* mo_plan_internal.h - what a plan is made of; shared by the files that make, run, check and write
 * it.
 *
 * Time is counted in sub-steps: every op takes as many as its stage's forward or backward has, and
 * a move one. A "life" is one stretch of time in which a tensor must keep its bytes; a tensor that
 * is computed twice, or comes back from the store, has two. Lives are what the layout places and
 * what steps hand out. */
#ifndef MEMOPT_PLAN_INTERNAL_H
#define MEMOPT_PLAN_INTERNAL_H

/* Life 0 stands for "no tensor": its address is NULL for ever. */
typedef struct moi_plan_life {
    const char *name;
    size_t size, off;
    size_t first, last;
    mo_category category;
    int is_read; /* somebody needs it; else it gets no memory */
    int is_live; /* begun and not ended, in the run */
    void *address;
} moi_plan_life;

/* A tensor of the chain. While the plan is being made: its latest life, the one being copied to
 * the store, and where it lies within what is moved together. */
typedef struct moi_plan_slot {
    const char *name;
    size_t life, leaving, store_off;
} moi_plan_slot;

/* What is moved together: x, or what a stage saved. start: the latest OFFLOAD or PREFETCH;
 * first to last: the sub-steps in which the store holds it. */
typedef struct moi_plan_move {
    size_t start;
    size_t first, last;
    size_t size, off; /* in the store */
} moi_plan_move;
enum { MOI_PLAN_MOVE_X, MOI_PLAN_MOVE_SAVED, MOI_PLAN_MOVES };

/* slot: the first of the stage's: output, its gradient, then the tensors. moves: n + 1 of it among
 * the plan's; 0 = nothing. */
typedef struct moi_plan_stage {
    size_t slot;
    size_t moves[MOI_PLAN_MOVES];
} moi_plan_stage;

/* Where an op's lives are in the table: x, y, dy, dx, then the tensors of its stage; and what it
 * copies. */
typedef struct moi_plan_op {
    size_t begin, end; /* sub-steps, inclusive */
    size_t row;
    size_t copy, n_copies;
} moi_plan_op;
enum { MOI_PLAN_X, MOI_PLAN_Y, MOI_PLAN_DY, MOI_PLAN_DX, MOI_PLAN_TENSORS };

typedef struct moi_plan_copy {
    size_t off, size, store_off;
} moi_plan_copy;

typedef struct moi_plan_block {
    const char *name;
    size_t size, off;
    mo_category category;
    void *address;
} moi_plan_block;

/* How many elements the arrays of a plan have. */
typedef struct moi_plan_counts {
    size_t ops, stages, tensors, slots, table, lives, events, moves, copies, row, fixed, names;
} moi_plan_counts;

struct mo_plan {
    mo_allocator allocator;
    mo_log log;
    size_t align, piece;
    uint64_t seed, pass;
    mo_plan_info info;
    mo_chain chain;      /* a copy, with stages and tensors */
    moi_plan_counts max; /* of the arrays */
    size_t n_ops, n_lives, n_events, n_moves, n_copies, n_names;
    mo_remat_op *ops;
    moi_plan_op *spans;
    mo_stage *stages;
    mo_stage_tensor *tensors;
    moi_plan_stage *stage_slots;
    moi_plan_slot *slots;
    size_t *table;
    moi_plan_life *lives;
    moi_layout_key *events; /* a = sub-step, b = 0 end or 1 begin, index = life */
    moi_plan_move *moves;
    moi_plan_copy *copies;
    moi_plan_block *fixed;
    char *names;
    void **row;               /* the addresses of the current step */
    mo_plan_copy *row_copies; /* and what it copies */
    mo_arena *arena;
    mo_track *track;
    size_t at, at_event;
    int in_step; /* the track was told that a step has begun */
};

/* Schedule, lives and offsets of an empty plan; what it allocated is freed by destroy. */
static mo_status moi_plan_make(mo_plan *plan, const mo_plan_desc *desc);
static void moi_plan_free_arrays(mo_plan *plan);

/* The costs of another chain of the same stages: the schedule stays. */
static void moi_plan_set_costs(mo_plan *plan, const mo_chain *chain);

/* The step of op k with the addresses of the row, and the copies. */
static void moi_plan_fill_step(
    const mo_plan *plan, size_t k, void *const *row, const mo_plan_copy *copies, mo_step *step);

#endif
