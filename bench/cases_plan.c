// cases_plan.c - layout and remat: what planning costs, and how good the plans are.
#include "bench.h"

#include <string.h>

// ---- layout ---------------------------------------------------------------------------------

typedef struct problem {
    mo_layout_item *items;
    size_t *offsets;
    size_t n;
    mo_layout_desc desc;
    mo_layout_result result;
} problem;

static void layout_solve(void *state) {
    problem *s = state;
    must(mo_layout_solve(&s->desc, s->items, s->n, s->offsets, &s->result));
}

static problem *new_problem(work *w, size_t n) {
    problem *s = take(w, sizeof *s);
    if (!s) return NULL;
    memset(s, 0, sizeof *s);
    s->n = n;
    s->items = take(w, n * sizeof *s->items);
    s->offsets = take(w, n * sizeof *s->offsets);
    return s->items && s->offsets ? s : NULL;
}

static void measure_layout(work *w, problem *s) {
    layout_solve(s);
    w->state = s;
    w->units = w->threads = 1;
    add_extra(w, "items", (double)s->n);
    add_extra(w, "nodes", (double)s->result.n_nodes);
    add_extra(w, "peak_per_bound", (double)s->result.peak / (double)s->result.live_bound);
}

static bool setup_layout(work *w) {
    problem *s = new_problem(w, GPT_MAX_ITEMS);
    if (!s) return false;
    gpt_shape shape = {12, 4, 256, 768, 12, 8192};
    s->n = gpt_lifetimes(&shape, 0, s->items);
    measure_layout(w, s);
    return true;
}

// Rectangles that fill 64 steps x 4096 bytes, cut at random: no greedy order puts them together
// again.
static bool setup_jigsaw(work *w) {
    enum { PIECES = 48, STEPS = 64, BYTES = 4096 };
    problem *s = new_problem(w, PIECES);
    if (!s) return false;
    uint32_t seed = 12345;
    s->items[0] = (mo_layout_item){BYTES, 1, 0, STEPS - 1};
    for (s->n = 1; s->n < PIECES;) {
        seed = seed * 1664525 + 1013904223;
        mo_layout_item *item = &s->items[(seed >> 8) % s->n], *other = &s->items[s->n];
        *other = *item;
        if (seed >> 31 && item->last > item->first) {
            item->last = item->first + (seed >> 16) % (item->last - item->first);
            other->first = item->last + 1;
            s->n++;
        } else if (!(seed >> 31) && item->size > 1) {
            item->size = 1 + (seed >> 16) % (item->size - 1);
            other->size -= item->size;
            s->n++;
        }
    }
    s->desc.max_nodes = 20000;
    measure_layout(w, s);
    return true;
}

// Short lives beside a few long ones.
static bool setup_many(work *w) {
    problem *s = new_problem(w, (size_t)w->variant);
    if (!s) return false;
    uint32_t seed = 1;
    for (size_t i = 0; i < s->n; i++) {
        seed = seed * 1664525 + 1013904223;
        size_t life = seed >> 30 ? (seed >> 8) % 10 : (seed >> 8) % 200;
        s->items[i] = (mo_layout_item){64 * (1 + (seed >> 16) % 5000), 0, i, i + life};
    }
    s->desc.max_nodes = 1; // greedy
    measure_layout(w, s);
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
    {"layout.jigsaw", "solve", "48 pieces that fill a block: greedy, then the search", 0,
        setup_jigsaw, layout_solve, 0},
    {"layout.greedy_10k", "solve", "10,000 items by greedy", 0, setup_many, layout_solve, 10000},
    {"layout.greedy_100k", "solve", "100,000 items by greedy", 0, setup_many, layout_solve, 100000},
    {"remat.plan_block", "plan", "12 blocks of 15 tensors: schedule and layout", 0, setup_plan,
        plan_create, 0},
    {0}};
