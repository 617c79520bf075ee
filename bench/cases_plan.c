// cases_plan.c - layout and remat: what planning costs, and how good the plans are.
#include "bench.h"

#include <string.h>

// ---- layout ---------------------------------------------------------------------------------

typedef struct problem {
    mo_layout_item items[GPT_MAX_ITEMS];
    size_t offsets[GPT_MAX_ITEMS];
    size_t n;
    mo_layout_result result;
} problem;

static void layout_solve(void *state) {
    problem *s = state;
    must(mo_layout_solve(NULL, s->items, s->n, s->offsets, &s->result));
}

static bool setup_layout(work *w) {
    problem *s = take(w, sizeof *s);
    if (!s) return false;
    gpt_shape shape = {12, 4, 256, 768, 12, 8192};
    s->n = gpt_lifetimes(&shape, 0, s->items);
    layout_solve(s);
    w->state = s;
    w->units = w->threads = 1;
    add_extra(w, "items", (double)s->n);
    add_extra(w, "peak_per_bound", (double)s->result.peak / (double)s->result.lower_bound);
    return true;
}

// ---- remat ----------------------------------------------------------------------------------

enum { LAYERS = 12, N_TENSORS = 15, X = 4 * 256 * 768 * 4 }; // X: bytes of a block's input

// name, bytes, role, category, sub-steps of forward, sub-steps of backward
static const mo_stage_tensor tensors[N_TENSORS] = {
    {"ln1", X, MO_TENSOR_CHEAP, 0, 0, 1, 5, 6},
    {"qkv", 3 * X, MO_TENSOR_SAVED, 0, 1, 2, 0, 5},
    {"attention", X, MO_TENSOR_SAVED, 0, 2, 3, 0, 5},
    {"lse", X / 64, MO_TENSOR_SAVED, 0, 2, 2, 0, 5},
    {"projection", X, MO_TENSOR_FORWARD, 0, 3, 4, 0, 0},
    {"residual", X, MO_TENSOR_SAVED, 0, 4, 7, 0, 4},
    {"ln2", X, MO_TENSOR_CHEAP, 0, 4, 5, 2, 3},
    {"hidden", 4 * X, MO_TENSOR_SAVED, 0, 5, 6, 0, 2},
    {"gelu", 4 * X, MO_TENSOR_CHEAP, 0, 6, 7, 0, 1},
    {"dgelu", 4 * X, MO_TENSOR_BACKWARD, 0, 0, 0, 0, 1},
    {"dhidden", 4 * X, MO_TENSOR_BACKWARD, 0, 0, 0, 1, 3},
    {"dln2", X, MO_TENSOR_BACKWARD, 0, 0, 0, 3, 4},
    {"dresidual", X, MO_TENSOR_BACKWARD, 0, 0, 0, 4, 7},
    {"dqkv", 3 * X, MO_TENSOR_BACKWARD, 0, 0, 0, 5, 6},
    {"dln1", X, MO_TENSOR_BACKWARD, 0, 0, 0, 6, 7},
};

typedef struct chain {
    mo_stage stages[LAYERS + 1];
    mo_chain chain;
    mo_plan_desc desc;
    mo_plan_info info;
} chain;

static void plan_create(void *state) {
    chain *s = state;
    mo_plan *plan;
    must(mo_plan_create(&plan, &s->desc));
    s->info = mo_plan_describe(plan);
    mo_plan_destroy(plan);
}

static bool setup_plan(work *w) {
    static const mo_stage_tensor logits = {.name = "logits", .size = 4 * 256 * 8192 * 4};
    chain *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    for (int i = 0; i < LAYERS; i++)
        s->stages[i] = (mo_stage){.name = "block",
            .output_size = X,
            .forward_steps = 8,
            .backward_steps = 8,
            .output_first = 7,
            .gradient_first = 7,
            .tensors = tensors,
            .n_tensors = N_TENSORS,
            .forward_s = 1,
            .backward_s = 2};
    s->stages[LAYERS] = (mo_stage){
        .name = "loss", .tensors = &logits, .n_tensors = 1, .forward_s = 1, .backward_s = 2};
    s->chain = (mo_chain){.input_size = X, .stages = s->stages, .n_stages = LAYERS + 1};
    s->desc = (mo_plan_desc){.chain = &s->chain, .remat = {.policy = MO_REMAT_BLOCK}};
    plan_create(s);
    w->state = s;
    w->units = w->threads = 1;
    add_extra(w, "steps", (double)s->info.n_steps);
    add_extra(w, "peak_per_bound", (double)s->info.peak_bytes / (double)s->info.lower_bound);
    add_extra(w, "cost_per_ideal", s->info.cost_s / s->info.ideal_s);
    return true;
}

const bench_case cases_plan[] = {
    {"layout.gpt", "solve", "lifetimes of a 12-layer training step to offsets", 0, setup_layout,
        layout_solve, 0},
    {"remat.plan_block", "plan", "12 blocks of 15 tensors: schedule and layout", 0, setup_plan,
        plan_create, 0},
    {0}};
