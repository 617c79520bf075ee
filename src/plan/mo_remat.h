/* mo_remat.h - rematerialization: a network as a chain of stages, and the schedule that says which
 * stage runs when, keeps what backward needs, or runs again because it kept nothing.
 *
 * The network is x[0] -> stage 0 -> x[1] -> stage 1 -> ... -> x[n - 1] -> stage n - 1, the loss.
 * dx[i] is the gradient of x[i] and has its size. */
#ifndef MEMOPT_REMAT_H
#define MEMOPT_REMAT_H

#include "mo_base.h"

/* What a tensor inside a stage is for, and so when it is live. */
typedef enum mo_tensor_role {
    MO_TENSOR_SAVED = 0, /* written by forward, read by backward: kept when the stage is saved */
    MO_TENSOR_CHEAP,     /* as SAVED at the full level; at the light level it lives only inside
                            forward, and backward computes it again */
    MO_TENSOR_FORWARD,   /* temporary of forward, and of a recompute */
    MO_TENSOR_BACKWARD,  /* temporary of backward */
    MO_TENSOR_WIDE,      /* as SAVED at the full and the light level; at the compressed level it
                            lives only inside forward, which encodes it, and again inside backward,
                            which decodes it */
    MO_TENSOR_CODES      /* at the compressed level, as SAVED: what a WIDE tensor is encoded to; at
                            the others there is none, its address is NULL */
} mo_tensor_role;

/* At which level a stage is saved: each keeps fewer bytes than the one before, for more time. */
typedef enum mo_remat_level {
    MO_LEVEL_FULL = 0,
    MO_LEVEL_LIGHT,     /* without CHEAP tensors */
    MO_LEVEL_COMPRESSED /* nor WIDE ones, but with their CODES */
} mo_remat_level;

/* mo_stage_tensor - one tensor inside a stage.
 *
 * name            for reports; NULL = "tensor"
 * size            bytes; 0 = none, its address is NULL
 * category        0 = workspace for FORWARD and BACKWARD, activation for the others. A gradient
 *                 that an update inside backward uses up is BACKWARD, of category GRAD
 * forward_first   sub-steps of the stage's forward in which it is live, inclusive; unused by
 * forward_last    BACKWARD. A saved tensor is live from forward_first until the stage's backward
 * backward_first  sub-steps of the stage's backward, inclusive; unused by FORWARD. A saved tensor
 * backward_last   is live until backward_last; backward_first is where the light level writes it
 *                 again, and the compressed one a WIDE tensor. CODES are written in forward_first,
 *                 where their WIDE tensor must be live, and read in its backward_first */
typedef struct mo_stage_tensor {
    const char *name;
    size_t size;
    mo_tensor_role role;
    mo_category category;
    unsigned forward_first, forward_last;
    unsigned backward_first, backward_last;
} mo_stage_tensor;

/* mo_stage - one stage of the chain: its output, its tensors, its costs.
 *
 * name            for reports; NULL = "stage"
 * output_size     bytes of x[i + 1]; that of the last stage lives during its own op only, 0 = none
 * forward_steps   sub-steps of forward, by which the tensors' lifetimes are given; 0 = 1
 * backward_steps  the same of backward; 0 = 1. The loss has none
 * output_first    sub-step of forward that writes x[i + 1] first; 0 = live during the whole op
 * gradient_first  sub-step of backward (of the loss: of forward) that writes dx[i] first
 * tensors         [n_tensors]; of the loss they live in its forward sub-steps, whatever their role,
 *                 and none may be BACKWARD or CODES
 * forward_s       costs in seconds, or in any other unit; the loss's op costs forward_s +
 *                 backward_s
 * backward_s
 * light_s         what backward takes more at the light level
 * output_s        part of forward_s that only makes x[i + 1]: a recompute whose x[i + 1] nobody
 *                 reads leaves it out
 * compress_s      what encoding in forward and decoding in backward take together, at the
 *                 compressed level; light_s is added to it
 * in_place        not 0 = backward may write dx[i] over dx[i + 1]: one address for both, where they
 *                 have the same size */
typedef struct mo_stage {
    const char *name;
    size_t output_size;
    unsigned forward_steps, backward_steps;
    unsigned output_first, gradient_first;
    const mo_stage_tensor *tensors;
    size_t n_tensors;
    double forward_s, backward_s, light_s, output_s;
    int in_place;
    double compress_s;
} mo_stage;

/* mo_chain - the network.
 *
 * input_size  bytes of x[0]; 0 = the caller keeps it, and dx[0] is not computed
 * stages      [n_stages], at least 1; the last one is the loss: one op computes the loss and the
 *             gradient of its input */
typedef struct mo_chain {
    size_t input_size;
    const mo_stage *stages;
    size_t n_stages;
} mo_chain;

/* Which stages keep what. */
typedef enum mo_remat_policy {
    MO_REMAT_NONE = 0, /* keep everything */
    MO_REMAT_LIGHT,    /* keep everything but CHEAP tensors */
    MO_REMAT_BLOCK,    /* keep x only; run each stage's forward again before its backward */
    MO_REMAT_SQRT,     /* keep x of segment inputs only; run each segment's forward again before its
                          backward, except the last segment, which keeps its tensors at once */
    MO_REMAT_INFERENCE /* forward only: every stage, the last too, runs FORWARD and keeps nothing */
} mo_remat_policy;

/* mo_remat_desc - how to choose the schedule.
 *
 * policy      0 = MO_REMAT_NONE
 * n_segments  of MO_REMAT_SQRT; more than there are stages = one stage each; 0 = the number with
 *             the lowest estimated peak, around sqrt(stages)
 * keep_cheap  of BLOCK and SQRT: not 0 = keep at the full level, so CHEAP tensors too; 0 = light
 * compress    not 0 = keep at the compressed level, whatever keep_cheap and the policy say */
typedef struct mo_remat_desc {
    mo_remat_policy policy;
    size_t n_segments;
    int keep_cheap;
    int compress;
} mo_remat_desc;

/* What a step does. The last four move bytes between the memory that is planned and another, larger
 * one, the store: host memory or a file. The copies run beside the other steps. */
typedef enum mo_step_op {
    MO_STEP_FORWARD = 0,  /* the first run of a stage's forward */
    MO_STEP_RECOMPUTE,    /* its forward again: the same input gives the same tensors */
    MO_STEP_LOSS,         /* the last stage: the loss, and the gradient of its input */
    MO_STEP_BACKWARD,     /* its gradients */
    MO_STEP_OFFLOAD,      /* start to copy something into the store; it may still be read */
    MO_STEP_OFFLOAD_WAIT, /* wait for that copy: behind this step its bytes are free */
    MO_STEP_PREFETCH,     /* it has bytes again: start to copy it back */
    MO_STEP_PREFETCH_WAIT /* wait for that copy: behind this step it may be read */
} mo_step_op;

/* mo_remat_op - one op of a schedule.
 *
 * save   FORWARD, RECOMPUTE: keep the tensors that backward needs. OFFLOAD, PREFETCH and their
 *        WAITs: not 0 = what the stage saved is moved, 0 = x[stage]. Both are two ops
 * light  with save: the mo_remat_level; BACKWARD: the level at which this stage was saved, so not 0
 *        means that backward computes the CHEAP tensors again, and MO_LEVEL_COMPRESSED that it
 *        decodes the WIDE ones. Any other number counts as MO_LEVEL_LIGHT */
typedef struct mo_remat_op {
    mo_step_op op;
    size_t stage;
    int save;
    int light;
} mo_remat_op;

/* mo_chain_check - whether a chain makes sense: sub-steps in range and in order, roles and
 * categories known, costs not negative.
 *
 * log  NULL = silent
 *
 * Memory:  none
 * Threads: safe
 * Errors:  MO_E_INVALID; the log names the stage, the tensor and the value
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_chain_check(const mo_chain *chain, const mo_log *log);

/* mo_remat_desc_defaults - the desc with every zero replaced for this chain: n_segments. NULL = all
 * defaults.
 *
 * Threads: safe
 * Cost:    O(n_stages^1.5)
 * Since:   0.1 */
MEMOPT_API mo_remat_desc mo_remat_desc_defaults(const mo_remat_desc *desc, const mo_chain *chain);

/* mo_remat_schedule_capacity - ops that the schedule of this chain and policy has at most.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_remat_schedule_capacity(const mo_chain *chain, const mo_remat_desc *desc);

/* mo_remat_schedule - write the schedule.
 *
 * desc      NULL = all defaults
 * ops       out  [capacity]
 * capacity  see mo_remat_schedule_capacity
 * n_ops     out
 *
 * A stage of which nothing is kept at the level asked for (at the light level: no SAVED nor WIDE
 * tensor; at the full level no CHEAP one either) is not run again for its own backward.
 *
 * Memory:  none
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, chain, policy), MO_E_NO_SPACE (capacity; ops are undefined then)
 * Source:  Chen et al. 2016, arXiv:1604.06174 (segments)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_schedule(const mo_chain *chain,
    const mo_remat_desc *desc, mo_remat_op *ops, size_t capacity, size_t *n_ops);

/* mo_remat_check - whether a schedule, also one written by hand, computes the gradients:
 *
 * - FORWARD of every stage once, in order, and RECOMPUTE only after it, so that every input exists;
 * - LOSS once, after them, and BACKWARD of every stage once, in reverse order; or, for inference,
 *   neither of the two and FORWARD of the last stage;
 * - a stage that keeps tensors is saved exactly once before its BACKWARD, at the level of that op;
 * - what is moved goes OFFLOAD, OFFLOAD_WAIT, PREFETCH, PREFETCH_WAIT, with any other ops between;
 *   it is moved out once, and comes back at least once. What the stage saved is back before its
 *   BACKWARD. x[i] may come back several times, since the store keeps it until its last PREFETCH;
 * - no op reads x[i] behind OFFLOAD_WAIT until PREFETCH_WAIT, unless x[i] was computed again.
 *   x[0] leaves after FORWARD of stage 0, since the caller writes it there.
 *
 * x needs no op that drops it: each read takes the latest x[i] that was computed or came back
 * before it, and x[i] is live only until the last such read, OFFLOAD_WAIT counting as one. So
 * running a stage again shortens the life of its first output.
 *
 * log  NULL = silent
 *
 * Memory:  none
 * Threads: safe
 * Errors:  MO_E_INVALID; the log names the op, the stage and what is missing
 * Cost:    O(n_ops) for up to 256 stages, and once more for each further 256
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_remat_check(
    const mo_chain *chain, const mo_remat_op *ops, size_t n_ops, const mo_log *log);

/* mo_remat_copy_bytes - what OFFLOAD or PREFETCH moves; SIZE_MAX when that is more than a size_t
 * holds, 0 for other ops.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_remat_copy_bytes(const mo_chain *chain, const mo_remat_op *op);

/* mo_remat_cost - time of a schedule in the unit of the stages' costs; copies to and from the store
 * take none. mo_remat_ideal_cost - the same when everything is kept and nothing runs twice.
 * mo_remat_forward_cost - of the forward alone.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API double mo_remat_cost(const mo_chain *chain, const mo_remat_op *ops, size_t n_ops);
MEMOPT_API double mo_remat_ideal_cost(const mo_chain *chain);
MEMOPT_API double mo_remat_forward_cost(const mo_chain *chain);

#endif
