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

void gpt_init_param(const gpt_config *c, const mo_param *p, float *to, uint64_t *seed) {
    const bool norm = ends_with(p->name, ".weight") && p->n_dims == 1;
    const bool residual = ends_with(p->name, "c_proj.weight");
    for (size_t j = 0; j < p->n && p->n_dims == 1; j++) to[j] = norm ? 1.0f : 0.0f;
    if (p->n_dims != 1)
        fill_normal(to, p->n, residual ? 0.02 / sqrt(2.0 * (double)c->layers) : 0.02, seed);
}

// ---- the chain --------------------------------------------------------------------------------

// Tensors of the two halves of a block, in the order of app.h's names; lifetimes are the sub-steps
// that ops.c numbers. Sizes: rows of so many channels, or (0) set below.
typedef struct half_tensor {
    const char *name;
    mo_tensor_role role;
    unsigned channels, f0, f1, b0, b1;
} half_tensor;

static const half_tensor attention_tensors[N_ATTENTION_TENSORS] = {
    {"ln1", MO_TENSOR_CHEAP, 1, 0, 1, 2, 2},
    {"stats1", MO_TENSOR_SAVED, 0, 0, 0, 0, 4},
    {"qkv", MO_TENSOR_SAVED, 3, 1, 2, 0, 1},
    {"lse", MO_TENSOR_SAVED, 0, 2, 2, 0, 1},
    {"attention", MO_TENSOR_SAVED, 1, 2, 3, 0, 1},
    {"dattention", MO_TENSOR_BACKWARD, 1, 0, 0, 0, 1},
    {"dqkv", MO_TENSOR_BACKWARD, 3, 0, 0, 1, 3},
    {"dln1", MO_TENSOR_BACKWARD, 1, 0, 0, 3, 4},
};
enum { ATTENTION_FORWARD_STEPS = 4, ATTENTION_BACKWARD_STEPS = 5 };

static const half_tensor mlp_tensors[N_MLP_TENSORS] = {
    {"ln2", MO_TENSOR_CHEAP, 1, 0, 1, 3, 3},
    {"stats2", MO_TENSOR_SAVED, 0, 0, 0, 0, 5},
    {"fc", MO_TENSOR_SAVED, 4, 1, 2, 0, 2},
    {"gelu", MO_TENSOR_CHEAP, 4, 2, 3, 0, 0},
    {"dfc", MO_TENSOR_BACKWARD, 4, 0, 0, 1, 4},
    {"dln2", MO_TENSOR_BACKWARD, 1, 0, 0, 4, 5},
};
enum { MLP_FORWARD_STEPS = 4, MLP_BACKWARD_STEPS = 6 };

// Where forward and backward of the half begin within its stage.
static void build_half_tensors(mo_stage_tensor *t, const gpt_config *c, size_t rows,
    const half_tensor *from, size_t n, unsigned forward, unsigned backward) {
    for (size_t i = 0; i < n; i++) {
        t[i] = (mo_stage_tensor){.name = from[i].name,
            .size = from[i].channels * rows * c->channels * sizeof(float),
            .role = from[i].role,
            .forward_first = from[i].f0 + forward,
            .forward_last = from[i].f1 + forward,
            .backward_first = from[i].b0 + backward,
            .backward_last = from[i].b1 + backward};
        if (strncmp(from[i].name, "stats", 5) == 0) t[i].size = 2 * rows * sizeof(float);
        if (strcmp(from[i].name, "lse") == 0) t[i].size = rows * c->heads * sizeof(float);
    }
}

// A whole block: forward of the attention first, backward of the MLP first.
static void build_block_tensors(mo_stage_tensor *t, const gpt_config *c, size_t rows) {
    build_half_tensors(t, c, rows, attention_tensors, N_ATTENTION_TENSORS, 0, MLP_BACKWARD_STEPS);
    build_half_tensors(
        t + BLOCK_MLP, c, rows, mlp_tensors, N_MLP_TENSORS, ATTENTION_FORWARD_STEPS, 0);
    t[BLOCK_RESIDUAL] = (mo_stage_tensor){.name = "residual",
        .size = rows * c->channels * sizeof(float),
        .role = MO_TENSOR_SAVED,
        .forward_first = ATTENTION_FORWARD_STEPS - 1,
        .forward_last = ATTENTION_FORWARD_STEPS + MLP_FORWARD_STEPS - 1,
        .backward_last = MLP_BACKWARD_STEPS - 1};
}

static void build_head_tensors(mo_stage_tensor *t, const gpt_chain_desc *d, size_t rows) {
    const gpt_config *c = d->config;
    mo_linear_ce_desc ce = {.rows = rows, .channels = c->channels, .vocab = c->vocab};
    ce.chunk_rows = d->loss_rows;
    const size_t row = rows * c->channels * sizeof(float);
    const mo_stage_tensor head[N_HEAD_TENSORS] = {
        {"lnf", row, MO_TENSOR_FORWARD, MO_CATEGORY_ACTIVATION, 0, 1, 0, 0},
        {"stats", 2 * rows * sizeof(float), MO_TENSOR_FORWARD, MO_CATEGORY_ACTIVATION, 0, 2, 0, 0},
        {"logits", d->kernels->linear_ce_workspace_size(&ce), MO_TENSOR_FORWARD,
            MO_CATEGORY_ACTIVATION, 1, 1, 0, 0},
        {"dlnf", row, MO_TENSOR_FORWARD, MO_CATEGORY_OTHER, 1, 2, 0, 0},
    };
    memcpy(t, head, sizeof head);
}

static stage_costs typical(double flops, double output_flops, double light_bytes) {
    return (stage_costs){flops * 1e-11, output_flops * 1e-11, 2e-11 * flops, light_bytes * 1e-10};
}

gpt_costs gpt_typical_costs(const gpt_config *c, size_t n_rows, size_t n_params) {
    const double rows = (double)n_rows, width = (double)c->channels;
    const double square = rows * width * width;
    return (gpt_costs){.rows = rows,
        .embedding = typical(rows * width, 0, 0),
        .attention =
            typical(8 * square + 2 * rows * width * (double)c->seq, 2 * square, 8 * rows * width),
        .mlp = typical(16 * square, 8 * square, 40 * rows * width),
        .head = typical(2 * rows * width * (double)c->vocab, 0, 0),
        .update = 3.6e-9 * (double)n_params,
        .copy_bytes_per_s = 5e9};
}

static void set_costs(mo_stage *s, const stage_costs *costs, double scale) {
    s->forward_s = costs->forward * scale;
    s->output_s = costs->output * scale;
    s->backward_s = costs->backward * scale;
    s->light_s = costs->light * scale;
}

// What the builders below share; scale: from the costs' rows to this micro-batch's.
typedef struct builder {
    const gpt_chain_desc *d;
    size_t rows, row_bytes;
    double scale;
} builder;

static void build_halves(const builder *b, gpt_chain *g) {
    const gpt_config *c = b->d->config;
    mo_stage_tensor *attention = g->tensors, *mlp = g->tensors + N_ATTENTION_TENSORS;
    build_half_tensors(attention, c, b->rows, attention_tensors, N_ATTENTION_TENSORS, 0, 0);
    build_half_tensors(mlp, c, b->rows, mlp_tensors, N_MLP_TENSORS, 0, 0);
    for (size_t i = 0; i < 2 * b->d->layers; i++) {
        const bool second = i % 2 != 0;
        mo_stage *s = &g->stages[1 + i];
        snprintf(g->names[i], sizeof *g->names, "h.%zu.%s", i / 2, second ? "mlp" : "attn");
        *s = (mo_stage){.name = g->names[i],
            .output_size = b->row_bytes,
            .forward_steps = second ? MLP_FORWARD_STEPS : ATTENTION_FORWARD_STEPS,
            .backward_steps = second ? MLP_BACKWARD_STEPS : ATTENTION_BACKWARD_STEPS,
            .output_first = 3,
            .tensors = second ? mlp : attention,
            .n_tensors = second ? N_MLP_TENSORS : N_ATTENTION_TENSORS,
            .in_place = 1};
        set_costs(s, second ? &b->d->costs->mlp : &b->d->costs->attention, b->scale);
    }
}

static void build_blocks(const builder *b, gpt_chain *g) {
    const stage_costs *x = &b->d->costs->attention, *y = &b->d->costs->mlp;
    const stage_costs both = {
        x->forward + y->forward, y->output, x->backward + y->backward, x->light + y->light};
    build_block_tensors(g->tensors, b->d->config, b->rows);
    for (size_t i = 0; i < b->d->layers; i++) {
        mo_stage *s = &g->stages[1 + i];
        snprintf(g->names[i], sizeof *g->names, "h.%zu", i);
        *s = (mo_stage){.name = g->names[i],
            .output_size = b->row_bytes,
            .forward_steps = ATTENTION_FORWARD_STEPS + MLP_FORWARD_STEPS,
            .backward_steps = MLP_BACKWARD_STEPS + ATTENTION_BACKWARD_STEPS,
            .output_first = ATTENTION_FORWARD_STEPS + MLP_FORWARD_STEPS - 1,
            .tensors = g->tensors,
            .n_tensors = N_BLOCK_TENSORS,
            .in_place = 1};
        set_costs(s, &both, b->scale);
    }
}

void gpt_chain_build(gpt_chain *g, const gpt_chain_desc *d) {
    const size_t rows = d->batch * d->config->seq, n = (d->halves ? 2 : 1) * d->layers;
    const builder b = {
        d, rows, rows * d->config->channels * sizeof(float), (double)rows / d->costs->rows};
    g->stages = allocate((n + 2) * sizeof *g->stages);
    g->names = allocate((n + 1) * sizeof *g->names);
    g->tensors = allocate((N_BLOCK_TENSORS + N_HEAD_TENSORS) * sizeof *g->tensors);
    g->stages[0] = (mo_stage){.name = "embedding", .output_size = b.row_bytes};
    set_costs(&g->stages[0], &d->costs->embedding, b.scale);
    if (d->halves) build_halves(&b, g);
    else build_blocks(&b, g);
    build_head_tensors(g->tensors + N_BLOCK_TENSORS, d, rows);
    mo_stage *head = &g->stages[n + 1];
    *head = (mo_stage){.name = "head",
        .forward_steps = 3,
        .gradient_first = 2,
        .tensors = g->tensors + N_BLOCK_TENSORS,
        .n_tensors = N_HEAD_TENSORS};
    set_costs(head, &d->costs->head, b.scale);
    g->chain = (mo_chain){.stages = g->stages, .n_stages = n + 2};
}

void gpt_chain_free(gpt_chain *g) {
    free(g->names);
    free(g->stages);
    free(g->tensors);
}
