/* mo_dtr_internal.h - the graph that mo_dtr keeps: ops and tensors in slots of arrays. An edge says
 * that an op reads a tensor and stands in a list of both. An op is forgotten when none of its
 * outputs is held by the caller or read by an op that is still known. */
#ifndef MEMOPT_DTR_INTERNAL_H
#define MEMOPT_DTR_INTERNAL_H

#define MOI_DTR_NONE 0xffffffffu
enum { MOI_DTR_ALIGN = 64, MOI_DTR_TENSORS = 16384, MOI_DTR_INPUTS_EACH = 4, MOI_DTR_ARGS = 64 };

typedef enum moi_dtr_state {
    MOI_DTR_ABSENT = 0, /* not made yet, or nobody needs it */
    MOI_DTR_RESIDENT,
    MOI_DTR_EVICTED
} moi_dtr_state;

typedef struct moi_dtr_tensor {
    const char *name;
    size_t size;
    uint64_t handle; /* in the block; 0 = not there */
    unsigned char *address;
    double used, h;  /* clock of the last use; what its eviction would cost */
    uint32_t op;     /* that makes it; NONE = constant, or the slot is free */
    uint32_t output; /* which one of op */
    uint32_t next_output, first_user, next_victim;
    uint32_t prev, next; /* resident outputs of ops; next: free slots */
    uint32_t generation, pins, locks;
    uint8_t state, held, kept;
} moi_dtr_tensor;

typedef struct moi_dtr_op {
    mo_status (*run)(void *self, const mo_dtr_call *call);
    void *self;
    const char *name;
    double cost;
    uint64_t seed, mark;
    uint32_t first_input, n_inputs, first_output, n_outputs;
    uint32_t n_needed, n_kept, n_evicted; /* outputs; kept: that are needed too */
    uint32_t group, group_prev, group_next;
    uint32_t below;   /* on the stack of ops to run, or to forget; free slots */
    uint32_t visited; /* on the stack of ops to look at */
    uint8_t has_run, forgetting;
} moi_dtr_op;

/* Why an input is pinned while its reader waits or runs. */
typedef enum moi_dtr_lock {
    MOI_DTR_UNLOCKED = 0,
    MOI_DTR_FOUND, /* it was there: given up when nothing else is left */
    MOI_DTR_MADE   /* it was made again, or its reader runs */
} moi_dtr_lock;

typedef struct moi_dtr_edge {
    uint32_t op, tensor;
    uint32_t next_input, next_user, prev_user; /* next_input: free slots */
    uint8_t lock;
} moi_dtr_edge;

/* Evicted ops that touch each other. As in the paper, a group does not fall apart again when an op
 * leaves it. Merging relabels the smaller one, so every group has a member and a slot is never
 * missing. */
typedef struct moi_dtr_group {
    double cost;
    uint64_t mark;
    uint32_t first, n; /* first: free slots */
} moi_dtr_group;

#endif
