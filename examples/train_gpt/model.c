// model.c - GPT-2's parameters, and its stages as the planner sees them.
#include "app.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int rows, columns; // in channels; 0 columns: a vector. Linear weights are [in, out]
} block_params[N_BLOCK_PARAMS] = {
    {"ln_1.weight", 1, 0},
    {"ln_1.bias", 1, 0},
    {"attn.c_attn.weight", 1, 3},
    {"attn.c_attn.bias", 3, 0},
    {"attn.c_proj.weight", 1, 1},
    {"attn.c_proj.bias", 1, 0},
    {"ln_2.weight", 1, 0},
    {"ln_2.bias", 1, 0},
    {"mlp.c_fc.weight", 1, 4},
    {"mlp.c_fc.bias", 4, 0},
    {"mlp.c_proj.weight", 4, 1},
    {"mlp.c_proj.bias", 1, 0},
};

static void add(mo_params *params, const char *name, size_t rows, size_t columns) {
    size_t shape[2] = {rows, columns};
    check(mo_params_add(params, name, shape, columns ? 2 : 1, NULL), name);
}

void gpt_add_params(const gpt_config *c, mo_params *params) {
    const size_t channels = c->channels;
    char name[64];
    add(params, "wte.weight", c->vocab, channels);
    add(params, "wpe.weight", c->positions, channels);
    for (size_t layer = 0; layer < c->layers; layer++)
        for (int i = 0; i < N_BLOCK_PARAMS; i++) {
            snprintf(name, sizeof name, "h.%zu.%s", layer, block_params[i].name);
            add(params, name, (size_t)block_params[i].rows * channels,
                (size_t)block_params[i].columns * channels);
        }
    add(params, "ln_f.weight", channels, 0);
    add(params, "ln_f.bias", channels, 0);
    // the head is the embedding: one tensor, two uses, one gradient
    add(params, "lm_head.weight", c->vocab, channels);
    check(mo_params_tie(params, params->n - 1, 0), "lm_head.weight");
}

float *gpt_param(const mo_params *params, size_t layer, int which) {
    return params->items[2 + layer * N_BLOCK_PARAMS + (size_t)which].data;
}

static uint64_t random_u64(uint64_t *state) { // splitmix64
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void fill_normal(float *x, size_t n, double deviation, uint64_t *state) { // Box-Muller
    for (size_t i = 0; i < n; i++) {
        double u = (double)((random_u64(state) >> 11) + 1) * 0x1p-53;
        double v = (double)(random_u64(state) >> 11) * 0x1p-53;
        x[i] = (float)(deviation * sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
    }
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

void gpt_init_params(const gpt_config *c, mo_params *params, uint64_t seed) {
    for (size_t i = 0; i < params->n; i++) {
        const mo_param *p = &params->items[i];
        if (p->tied_to != i) continue;
        bool norm = ends_with(p->name, ".weight") && p->n_dims == 1;
        for (size_t j = 0; j < p->n && p->n_dims == 1; j++) p->data[j] = norm ? 1.0f : 0.0f;
        if (p->n_dims == 1) continue;
        bool residual = ends_with(p->name, "c_proj.weight");
        fill_normal(p->data, p->n, residual ? 0.02 / sqrt(2.0 * (double)c->layers) : 0.02, &seed);
    }
}

// ---- the chain --------------------------------------------------------------------------------

// Tensors of a block and of the head; lifetimes are sub-steps of ops.c's block_forward and
// block_backward. Sizes: rows of so many channels, or (0) set below.
static const struct {
    const char *name;
    mo_tensor_role role;
    unsigned channels, f0, f1, b0, b1;
} block_tensors[] = {
    {"ln1", MO_TENSOR_CHEAP, 1, 0, 1, 8, 8},
    {"stats", MO_TENSOR_SAVED, 0, 0, 4, 0, 10},
    {"qkv", MO_TENSOR_SAVED, 3, 1, 2, 0, 7},
    {"lse", MO_TENSOR_SAVED, 0, 2, 2, 0, 7},
    {"attention", MO_TENSOR_SAVED, 1, 2, 3, 0, 7},
    {"residual", MO_TENSOR_SAVED, 1, 3, 7, 0, 5},
    {"ln2", MO_TENSOR_CHEAP, 1, 4, 5, 3, 3},
    {"fc", MO_TENSOR_SAVED, 4, 5, 6, 0, 2},
    {"gelu", MO_TENSOR_CHEAP, 4, 6, 7, 0, 0},
    {"dfc", MO_TENSOR_BACKWARD, 4, 0, 0, 1, 4},
    {"dln2", MO_TENSOR_BACKWARD, 1, 0, 0, 4, 5},
    {"dattention", MO_TENSOR_BACKWARD, 1, 0, 0, 6, 7},
    {"dqkv", MO_TENSOR_BACKWARD, 3, 0, 0, 7, 9},
    {"dln1", MO_TENSOR_BACKWARD, 1, 0, 0, 9, 10},
};
enum { N_BLOCK_TENSORS = sizeof block_tensors / sizeof *block_tensors, N_HEAD_TENSORS = 4 };

static void build_head_tensors(
    mo_stage_tensor *t, const gpt_config *c, size_t rows, size_t loss_rows) {
    mo_linear_ce_desc ce = {.rows = rows, .channels = c->channels, .vocab = c->vocab};
    ce.chunk_rows = loss_rows;
    const size_t row = rows * c->channels * sizeof(float);
    const mo_stage_tensor head[N_HEAD_TENSORS] = {
        {"lnf", row, MO_TENSOR_FORWARD, MO_CATEGORY_ACTIVATION, 0, 1, 0, 0},
        {"stats", 2 * rows * sizeof(float), MO_TENSOR_FORWARD, MO_CATEGORY_ACTIVATION, 0, 2, 0, 0},
        {"logits", mo_linear_ce_workspace_size(&ce), MO_TENSOR_FORWARD, MO_CATEGORY_ACTIVATION, 1,
            1, 0, 0},
        {"dlnf", row, MO_TENSOR_FORWARD, MO_CATEGORY_OTHER, 1, 2, 0, 0},
    };
    memcpy(t, head, sizeof head);
}

// Costs in seconds of a core with 100 GFLOP/s and 10 GB/s: what matters is how they compare.
static void set_costs(mo_stage *s, double flops, double output_flops, double light_bytes) {
    s->forward_s = flops * 1e-11;
    s->backward_s = 2 * s->forward_s;
    s->output_s = output_flops * 1e-11;
    s->light_s = light_bytes * 1e-10;
}

void gpt_chain_build(gpt_chain *g, const gpt_config *c, size_t batch, size_t loss_rows) {
    const size_t rows = batch * c->seq, row = rows * c->channels * sizeof(float);
    const double n = (double)rows, width = (double)c->channels;
    g->stages = allocate((c->layers + 2) * sizeof *g->stages);
    g->names = allocate(c->layers * sizeof *g->names);
    g->tensors = allocate((N_BLOCK_TENSORS + N_HEAD_TENSORS) * sizeof *g->tensors);
    for (size_t i = 0; i < N_BLOCK_TENSORS; i++) {
        mo_stage_tensor *t = &g->tensors[i];
        t->name = block_tensors[i].name;
        t->size = block_tensors[i].channels * row;
        t->role = block_tensors[i].role;
        t->forward_first = block_tensors[i].f0, t->forward_last = block_tensors[i].f1;
        t->backward_first = block_tensors[i].b0, t->backward_last = block_tensors[i].b1;
        if (strcmp(t->name, "stats") == 0) t->size = 4 * rows * sizeof(float);
        if (strcmp(t->name, "lse") == 0) t->size = rows * c->heads * sizeof(float);
    }
    build_head_tensors(g->tensors + N_BLOCK_TENSORS, c, rows, loss_rows);

    g->stages[0] = (mo_stage){.name = "embedding", .output_size = row};
    set_costs(&g->stages[0], n * width, 0, 0);
    for (size_t i = 1; i <= c->layers; i++) {
        mo_stage *s = &g->stages[i];
        snprintf(g->names[i - 1], sizeof *g->names, "h.%zu", i - 1);
        *s = (mo_stage){.name = g->names[i - 1],
            .output_size = row,
            .forward_steps = 8,
            .backward_steps = 11,
            .output_first = 7,
            .gradient_first = 5,
            .tensors = g->tensors,
            .n_tensors = N_BLOCK_TENSORS};
        set_costs(s, 24 * n * width * width + 2 * n * width * (double)c->seq, 8 * n * width * width,
            4.0 * 12 * n * width);
    }
    mo_stage *head = &g->stages[c->layers + 1];
    *head = (mo_stage){.name = "head",
        .forward_steps = 3,
        .gradient_first = 2,
        .tensors = g->tensors + N_BLOCK_TENSORS,
        .n_tensors = N_HEAD_TENSORS};
    set_costs(head, 2 * n * width * (double)c->vocab, 0, 0);
    g->chain = (mo_chain){.stages = g->stages, .n_stages = c->layers + 2};
}

void gpt_chain_free(gpt_chain *g) {
    free(g->names);
    free(g->stages);
    free(g->tensors);
}
