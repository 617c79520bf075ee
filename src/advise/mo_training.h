/* mo_training.h - the plan of a training run of a transformer, before anything is allocated: what a
 * strategy needs to the byte, where every tensor lies, and how long an update takes. A program that
 * trains takes the same plan, so an estimate is what it uses.
 *
 *     mo_training t = {0};
 *     t.model = ...;                                complete, see mo_model_complete
 *     t.batch = 8, t.seq = 256;
 *     mo_plan *plan;
 *     double seconds;
 *     if (mo_training_plan(&plan, &t, budget, &seconds) != MO_OK) ...
 *     mo_plan_describe(plan).peak_bytes
 */
#ifndef MEMOPT_TRAINING_H
#define MEMOPT_TRAINING_H

#include "mo_base.h"
#include "mo_distill.h"
#include "mo_lora.h"
#include "mo_loss.h"
#include "mo_model.h"
#include "mo_model_params.h"
#include "mo_optim.h"
#include "mo_page_optim.h"
#include "mo_params.h"
#include "mo_plan.h"
#include "mo_strategy.h"

/* mo_training_sizes - what the workspace of a micro-batch depends on.
 *
 * rows      tokens
 * lora      bytes that adapters need at the end of it
 * n_params  of the list
 * mixed     not 0: some products read stored matrices of few bits
 * model     complete
 * Since: 0.1 */
typedef struct mo_training_sizes {
    size_t rows, seq, lora, n_params;
    int mixed;
    const mo_model *model;
} mo_training_sizes;

/* mo_training_target - where a run computes; zero is the CPU.
 *
 * align, piece    of its memory, as in mo_plan_desc
 * keeps_losses    not 0: of each row, behind the tokens
 * has_blas        not 0: products of floats need no workspace
 * parallel        the CPU's threads; NULL = default
 * workspace_size  bytes that all kernels share; NULL = the CPU's
 * self            the first argument of that
 * ce_size         bytes of the loss; NULL = mo_linear_ce_workspace_size
 * kd_size         with a teacher; NULL = mo_linear_kd_workspace_size
 * Since: 0.1 */
typedef struct mo_training_target {
    size_t align, piece;
    int keeps_losses, has_blas;
    const mo_parallel *parallel;
    size_t (*workspace_size)(void *self, const mo_training_sizes *sizes);
    void *self;
    size_t (*ce_size)(const mo_linear_ce_desc *desc);
    size_t (*kd_size)(const mo_linear_kd_desc *desc);
} mo_training_target;

/* mo_stage_costs - seconds of one stage: forward; of it what only makes the output; backward; what
 * the light level adds to it, and what the compressed one adds to both. Since: 0.1 */
typedef struct mo_stage_costs {
    double forward, output, backward, light, compress;
} mo_stage_costs;

/* mo_training_costs - seconds of the stages of a micro-batch of so many rows (tokens), and of an
 * update.
 *
 * rows              0 = not measured: those of a core with 100 GFLOP/s and 10 GB/s, where only how
 *                   they compare means something
 * teacher           its forward
 * copy_bytes_per_s  to other memory and back
 * Since: 0.1 */
typedef struct mo_training_costs {
    double rows;
    mo_stage_costs embedding, attention, mlp, head;
    double update, teacher, copy_bytes_per_s;
} mo_training_costs;

/* mo_training - a run.
 *
 * model           complete
 * strategy        what is traded for memory; share is the model's
 * batch, seq      sequences in a batch, tokens in a sequence
 * accum           batches in an update, each split by strategy.accum; 0 = 1
 * teacher         complete, a model that is learned from; NULL = none
 * target          where it runs
 * costs           what stages take
 * optim           kind and settings of the optimizer; its precision is the strategy's
 * seed            of the plan's steps
 * params          mo_training_add_params of it; teacher_params: mo_model_add_params of the teacher.
 *                 NULL = they are made for each call
 * allocator       of plans and lists; NULL = heap
 * log             NULL = silent
 * Since: 0.1 */
typedef struct mo_training {
    mo_model model;
    mo_strategy strategy;
    size_t batch, seq, accum;
    const mo_model *teacher;
    mo_training_target target;
    mo_training_costs costs;
    mo_optim_desc optim;
    uint64_t seed;
    const mo_params *params, *teacher_params;
    const mo_allocator *allocator;
    const mo_log *log;
} mo_training;

/* mo_training_check - whether model, strategy and sizes go together.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID, with a line in log: NULL, a size of 0, seq beyond the learned positions,
 *          accum that does not divide batch, what mo_strategy_check refuses
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_training_check(const mo_training *t);

/* mo_training_rows - tokens of a micro-batch. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_training_rows(const mo_training *t);

/* ---- parameters ------------------------------------------------------------------------------ */

/* mo_training_add_params - append the model's parameters and behind them, with lora, A and B for
 * every matrix of the blocks, under PEFT's names.
 *
 * Threads: one at a time
 * Errors:  as mo_model_add_params
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_training_add_params(
    const mo_training *t, mo_params *params);

/* mo_training_trains - whether parameter i of the list has a gradient and states of its own.
 * mo_training_is_bf16 - whether it is kept in bf16.
 * mo_training_weight - whether it has an adapter and is stored as the strategy's base; *w has its
 * type and sizes then, no pointers (NULL = not wanted).
 * mo_training_param_bytes - of its numbers; 0 where it is tied to another.
 * mo_training_releases - whether its gradient has no memory of its own, but is one of the tensors
 * of its stage's backward.
 * mo_training_adapter - the place of the A of the model's parameter i, its B is next to it. Where i
 * has no adapter, that of the next one which has.
 * mo_training_lora - an adapter's desc without workspace.
 * mo_training_lora_size - bytes of workspace that adapters need.
 *
 * params  in  of mo_training_add_params; it may have adapters that the strategy does not use. What
 *             is marked as frozen there is never trained
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API int mo_training_trains(const mo_training *t, const mo_params *params, size_t i);
MEMOPT_API int mo_training_is_bf16(const mo_training *t, size_t i);
MEMOPT_API int mo_training_weight(
    const mo_training *t, const mo_params *params, size_t i, mo_weight *w);
MEMOPT_API size_t mo_training_param_bytes(const mo_training *t, const mo_params *params, size_t i);
MEMOPT_API int mo_training_releases(const mo_training *t, const mo_params *params, size_t i);
MEMOPT_API size_t mo_training_adapter(const mo_model *model, size_t i);
MEMOPT_API mo_lora_desc mo_training_lora(const mo_model *model, size_t rank, size_t rows);
MEMOPT_API size_t mo_training_lora_size(const mo_training *t, const mo_params *params);

/* mo_training_states - tensors that have optimizer states, in the order of their updates: with
 * release from the last one, since backward comes to it first.
 *
 * descs      [n_tensors] with the strategy's precision
 * n          [n_tensors] numbers
 * param_of   [n_tensors] whose they are
 * tensor_of  [n_params] and back; 0 where there is none
 * Since: 0.1 */
typedef struct mo_training_states {
    mo_optim_desc *descs;
    size_t *n, *param_of, *tensor_of;
    size_t n_tensors, n_params;
    mo_allocator allocator;
} mo_training_states;

/* mo_training_states_init - the list. mo_training_states_free - give it back.
 * mo_training_pages - how its states are paged: size, page_bytes, resident_bytes. Where resident is
 * 0, an eighth of the states, or what two pages need where that is more.
 *
 * Threads: safe for distinct lists
 * Errors:  MO_E_INVALID (NULL, nothing is trained), MO_E_NO_MEMORY; pages: MO_E_NO_SPACE (no two
 *          pages fit what may be resident; the log says so)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_training_states_init(
    mo_training_states *states, const mo_training *t, const mo_params *params);
MEMOPT_API void mo_training_states_free(mo_training_states *states);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_training_pages(
    const mo_training_states *states, const mo_training *t, mo_page_desc *pages);

/* ---- fixed memory ---------------------------------------------------------------------------- */

enum {
    MO_TRAINING_PARAM,
    MO_TRAINING_GRAD,
    MO_TRAINING_STATE,
    MO_TRAINING_TEACHER,
    MO_TRAINING_KIND_COUNT
};

/* mo_training_place - where a tensor lies in a fixed block; size 0 = none. Since: 0.1 */
typedef struct mo_training_place {
    size_t block, off, size;
} mo_training_place;

/* mo_training_fixed - what lives during the whole run: parameters, gradients and states in as few
 * blocks as the memory's pieces allow, and one block each for the rest.
 *
 * blocks     [n_blocks] of [n_room]
 * places     [n_places] by parameter; of states that are paged, by resident page
 * n_slots    resident pages; 0 = not paged
 * tokens, workspace, rope, teacher   blocks; 0 = none
 * Since: 0.1 */
typedef struct mo_training_fixed {
    mo_plan_fixed *blocks;
    size_t n_blocks, n_room;
    mo_training_place *places[MO_TRAINING_KIND_COUNT];
    size_t n_places[MO_TRAINING_KIND_COUNT];
    size_t n_slots;
    size_t tokens, workspace, rope, teacher;
    mo_allocator allocator;
} mo_training_fixed;

/* mo_training_fixed_init - the layout. mo_training_fixed_free - give it back.
 *
 * Threads: safe for distinct layouts
 * Errors:  those of mo_training_check and mo_training_pages, MO_E_OVERFLOW, MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_training_fixed_init(
    mo_training_fixed *fixed, const mo_training *t);
MEMOPT_API void mo_training_fixed_free(mo_training_fixed *fixed);

/* mo_training_teacher - where the activations of a teacher lie, bytes from the beginning: those of
 * one sequence and half a block, and the output of all sequences.
 *
 * ln, stats, qkv, lse, att, wide, activation   from half
 * Since: 0.1 */
typedef struct mo_training_teacher {
    size_t x, y, half, rope, hidden, end;
    size_t ln, stats, qkv, lse, att, wide, activation;
} mo_training_teacher;
MEMOPT_API mo_training_teacher mo_training_teacher_space(const mo_training *t);

/* ---- the chain ------------------------------------------------------------------------------- */

/* Tensors of a stage, in the order of its list: of half a block; of a whole block, which has those
 * of both halves and what lies between them; of the head. Gradients that are released come behind
 * them, one for each parameter of the stage. */
enum {
    MO_TRAINING_LN1,
    MO_TRAINING_STATS1,
    MO_TRAINING_QKV,
    MO_TRAINING_LSE,
    MO_TRAINING_ATT,
    MO_TRAINING_DATT,
    MO_TRAINING_DQKV,
    MO_TRAINING_DLN1,
    MO_TRAINING_QKV_CODES,
    MO_TRAINING_ATT_CODES,
    MO_TRAINING_N_ATTENTION
};
enum {
    MO_TRAINING_LN2,
    MO_TRAINING_STATS2,
    MO_TRAINING_FC,
    MO_TRAINING_ACT,
    MO_TRAINING_DFC,
    MO_TRAINING_DLN2,
    MO_TRAINING_FC_CODES,
    MO_TRAINING_N_MLP
};
enum {
    MO_TRAINING_MLP = MO_TRAINING_N_ATTENTION, /* of a block: where the MLP's begin */
    MO_TRAINING_RESIDUAL = MO_TRAINING_MLP + MO_TRAINING_N_MLP,
    MO_TRAINING_RESIDUAL_CODES,
    MO_TRAINING_N_BLOCK
};
enum {
    MO_TRAINING_LNF,
    MO_TRAINING_HEAD_STATS,
    MO_TRAINING_LOGITS,
    MO_TRAINING_DLNF,
    MO_TRAINING_N_HEAD
};

/* mo_training_chain - embedding, blocks or halves of blocks, head with loss: what the planner works
 * on. Since: 0.1 */
typedef struct mo_training_chain {
    mo_chain chain;
    mo_stage *stages;
    mo_stage_tensor *tensors;
    char (*names)[32]; /* of the blocks */
    size_t n_tensors, n_names;
    mo_allocator allocator;
} mo_training_chain;

/* mo_training_chain_init - the chain. mo_training_chain_free - give it back.
 *
 * layers  of the model the chain has so many
 * halves  not 0: halves of blocks are stages, else blocks are
 *
 * Memory:  its tensors' names are those of the parameters and of the library
 * Threads: safe for distinct chains
 * Errors:  those of mo_training_check, MO_E_OVERFLOW, MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_training_chain_init(
    mo_training_chain *chain, const mo_training *t, size_t layers, int halves);
MEMOPT_API void mo_training_chain_free(mo_training_chain *chain);

/* ---- plans and seconds ----------------------------------------------------------------------- */

/* mo_training_plan - the plan of one micro-batch; OPTIMAL: the fastest schedule within the budget,
 * or what needs least where nothing fits. Which is the fastest, typical costs decide, so that one
 * budget has one plan, whatever was measured; with offload the training's costs do.
 *
 * budget   bytes of the arena; 0 = no limit
 * seconds  out  of a micro-batch by the training's costs; NULL = not wanted
 *
 * Memory:  what mo_plan_create and mo_plan_build take
 * Threads: safe for distinct plans
 * Errors:  those of mo_training_fixed_init, mo_plan_create and mo_plan_build
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_training_plan(
    mo_plan **plan, const mo_training *t, uint64_t budget, double *seconds);

/* Plans of a few blocks in halves, for measuring what their parts cost: each half runs again before
 * its backward; or everything is kept; or in codes; or whatever needs least. Since: 0.1 */
typedef enum mo_training_part {
    MO_TRAINING_PART_AGAIN,
    MO_TRAINING_PART_KEPT,
    MO_TRAINING_PART_COMPRESSED,
    MO_TRAINING_PART_LEAST
} mo_training_part;

/* mo_training_part_blocks - how many blocks those plans have: 3 at most.
 * mo_training_part_plan - one of them; *plan is NULL where it needs more than the budget (0 = no
 * limit).
 *
 * Threads: safe for distinct plans
 * Errors:  as mo_training_plan
 * Since:   0.1 */
MEMOPT_API size_t mo_training_part_blocks(const mo_training *t);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_training_part_plan(
    mo_plan **plan, const mo_training *t, mo_training_part part, uint64_t budget);

/* mo_training_update_s - seconds of an update whose micro-batches take so long.
 *
 *   strategy.accum * accum * passes * (micro_batch_s + teacher) + update
 *
 * passes is 2 where gradients that are released are clipped exactly.
 *
 * seconds  out
 *
 * Threads: safe
 * Errors:  those of mo_training_check, MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_training_update_s(
    const mo_training *t, double micro_batch_s, double *seconds);

#endif
