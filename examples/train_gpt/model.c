// model.c - the stages of the model as the planner sees them.
#include "app.h"

#include <stdlib.h>
#include <string.h>

// ---- the chain --------------------------------------------------------------------------------

// Tensors of the two halves of a block, in the order of app.h's names; lifetimes are the sub-steps
// that ops.c numbers. Sizes: rows of so many numbers, or of their codes, or (WIDTH_NONE) set below.
typedef struct half_tensor {
    const char *name;
    mo_tensor_role role;
    param_width width;
    unsigned f0, f1, b0, b1;
} half_tensor;

static const half_tensor attention_tensors[N_ATTENTION_TENSORS] = {
    {"ln1", MO_TENSOR_CHEAP, WIDTH_CHANNELS, 0, 1, 2, 2},
    {"stats1", MO_TENSOR_SAVED, WIDTH_NONE, 0, 0, 0, 4},
    {"qkv", MO_TENSOR_WIDE, WIDTH_QKV, 1, 2, 1, 1},
    {"lse", MO_TENSOR_SAVED, WIDTH_NONE, 2, 2, 0, 1},
    {"attention", MO_TENSOR_WIDE, WIDTH_CHANNELS, 2, 3, 0, 1},
    {"dattention", MO_TENSOR_BACKWARD, WIDTH_CHANNELS, 0, 0, 0, 1},
    {"dqkv", MO_TENSOR_BACKWARD, WIDTH_QKV, 0, 0, 1, 3},
    {"dln1", MO_TENSOR_BACKWARD, WIDTH_CHANNELS, 0, 0, 3, 4},
    {"qkv_codes", MO_TENSOR_CODES, WIDTH_QKV, 2, 2, 1, 1},
    {"attention_codes", MO_TENSOR_CODES, WIDTH_CHANNELS, 3, 3, 0, 0},
};
enum { ATTENTION_FORWARD_STEPS = 4, ATTENTION_BACKWARD_STEPS = 5 };

static const half_tensor mlp_tensors[N_MLP_TENSORS] = {
    {"ln2", MO_TENSOR_CHEAP, WIDTH_CHANNELS, 0, 1, 3, 3},
    {"stats2", MO_TENSOR_SAVED, WIDTH_NONE, 0, 0, 0, 5},
    {"fc", MO_TENSOR_WIDE, WIDTH_WIDE, 1, 2, 0, 2},
    {"activation", MO_TENSOR_CHEAP, WIDTH_HIDDEN, 2, 3, 0, 0},
    {"dfc", MO_TENSOR_BACKWARD, WIDTH_WIDE, 0, 0, 1, 4},
    {"dln2", MO_TENSOR_BACKWARD, WIDTH_CHANNELS, 0, 0, 4, 5},
    {"fc_codes", MO_TENSOR_CODES, WIDTH_WIDE, 2, 2, 0, 0},
};
enum { MLP_FORWARD_STEPS = 4, MLP_BACKWARD_STEPS = 6 };

// Mean and rstd of the rows, or rstd alone.
static size_t stats_size(const gpt_config *c, size_t rows) {
    return (c->arch->llama ? 1 : 2) * rows * sizeof(float);
}

// Bytes of the codes of n numbers; 0 = there are none.
static size_t codes_size(int act, size_t n) {
    const mo_compress_desc d = {.bits = act};
    return act ? mo_compress_size(&d, n) : 0;
}

// Where forward and backward of the half begin within its stage.
static void build_half_tensors(mo_stage_tensor *t, const gpt_config *c, size_t rows, int act,
    const half_tensor *from, size_t n, unsigned forward, unsigned backward) {
    for (size_t i = 0; i < n; i++) {
        t[i] = (mo_stage_tensor){.name = from[i].name,
            .size = gpt_width(c, from[i].width) * rows * sizeof(float),
            .role = from[i].role,
            .forward_first = from[i].f0 + forward,
            .forward_last = from[i].f1 + forward,
            .backward_first = from[i].b0 + backward,
            .backward_last = from[i].b1 + backward};
        if (strncmp(from[i].name, "stats", 5) == 0) t[i].size = stats_size(c, rows);
        if (strcmp(from[i].name, "lse") == 0) t[i].size = rows * c->heads * sizeof(float);
        if (from[i].role == MO_TENSOR_CODES)
            t[i].size = codes_size(act, rows * gpt_width(c, from[i].width));
    }
}

// A whole block: forward of the attention first, backward of the MLP first.
static void build_block_tensors(mo_stage_tensor *t, const gpt_config *c, size_t rows, int act) {
    build_half_tensors(
        t, c, rows, act, attention_tensors, N_ATTENTION_TENSORS, 0, MLP_BACKWARD_STEPS);
    build_half_tensors(
        t + BLOCK_MLP, c, rows, act, mlp_tensors, N_MLP_TENSORS, ATTENTION_FORWARD_STEPS, 0);
    t[BLOCK_RESIDUAL] = (mo_stage_tensor){.name = "residual",
        .size = rows * c->channels * sizeof(float),
        .role = MO_TENSOR_WIDE,
        .forward_first = ATTENTION_FORWARD_STEPS - 1,
        .forward_last = ATTENTION_FORWARD_STEPS + MLP_FORWARD_STEPS - 1,
        .backward_first = 3,
        .backward_last = MLP_BACKWARD_STEPS - 1};
    t[BLOCK_RESIDUAL_CODES] = (mo_stage_tensor){.name = "residual_codes",
        .size = codes_size(act, rows * c->channels),
        .role = MO_TENSOR_CODES,
        .forward_first = ATTENTION_FORWARD_STEPS + MLP_FORWARD_STEPS - 1,
        .forward_last = ATTENTION_FORWARD_STEPS + MLP_FORWARD_STEPS - 1,
        .backward_first = 3,
        .backward_last = 3};
}

// Gradients of n parameters until their stage's backward ends.
static size_t build_gradients(mo_stage_tensor *t, const mo_params *params, size_t first, size_t n) {
    if (!params) return 0;
    for (size_t i = 0; i < n; i++) {
        const bool local = gpt_gradient_is_local(params, first + i);
        t[i] = (mo_stage_tensor){.name = params->items[first + i].name,
            .size = local ? params->items[first + i].n * sizeof(float) : 0,
            .role = MO_TENSOR_BACKWARD,
            .category = MO_CATEGORY_GRAD};
    }
    return n;
}

// The sub-step of its half's backward that writes the gradients of a part's matrices. Those of
// vectors, which are small and added to, are set to zero before the first one.
static const unsigned gradient_first[N_PARTS] = {[TO_QKV] = 2, [TO_HIDDEN] = 3};

// Of parts first..last of a block, the halves' backward beginning at these sub-steps.
static size_t build_part_gradients(mo_stage_tensor *t, const gpt_chain_desc *d, int first, int last,
    unsigned attention, unsigned steps) {
    const gpt_arch *arch = d->config->arch;
    const size_t begin = arch->parts[first].first,
                 end = last + 1 < N_PARTS ? arch->parts[last + 1].first : arch->n_params;
    const size_t front = gpt_front(d->config);
    const size_t n = build_gradients(t, d->released, front + begin, end - begin);
    int part = first;
    for (size_t i = 0; i < n; i++) {
        const block_param *p = &arch->params[begin + i];
        if (part < last && begin + i == arch->parts[part + 1].first) part++;
        t[i].name = p->name;
        if (p->columns != WIDTH_NONE)
            t[i].backward_first = gradient_first[part] + (part < NORM2 ? attention : 0);
        t[i].backward_last = steps - 1;
    }
    return n;
}

static size_t build_head_tensors(mo_stage_tensor *t, const gpt_chain_desc *d, size_t rows) {
    const gpt_config *c = d->config;
    mo_linear_kd_desc kd = {.ce = {.rows = rows, .channels = c->channels, .vocab = c->vocab}};
    kd.ce.chunk_rows = d->loss_rows;
    const size_t logits = d->distill ? d->kernels->linear_kd_workspace_size(&kd)
                                     : d->kernels->linear_ce_workspace_size(&kd.ce);
    const size_t row = rows * c->channels * sizeof(float);
    const mo_stage_tensor head[N_HEAD_TENSORS] = {
        {"lnf", row, MO_TENSOR_FORWARD, MO_CATEGORY_ACTIVATION, 0, 1, 0, 0},
        {"stats", stats_size(c, rows), MO_TENSOR_FORWARD, MO_CATEGORY_ACTIVATION, 0, 2, 0, 0},
        {"logits", logits, MO_TENSOR_FORWARD, MO_CATEGORY_ACTIVATION, 1, 1, 0, 0},
        {"dlnf", row, MO_TENSOR_FORWARD, MO_CATEGORY_OTHER, 1, 2, 0, 0},
    };
    memcpy(t, head, sizeof head);
    t += N_HEAD_TENSORS;
    if (!d->released) return N_HEAD_TENSORS;
    const size_t first = (size_t)(gpt_last_norm(c, d->released) - d->released->items);
    const size_t n = build_gradients(t, d->released, first, gpt_head_params(c));
    for (size_t i = 0; i < n; i++) t[i].role = MO_TENSOR_FORWARD, t[i].forward_last = 2;
    return N_HEAD_TENSORS + n;
}

static stage_costs typical(
    double flops, double output_flops, double light_bytes, double compressed) {
    return (stage_costs){
        flops * 1e-11, output_flops * 1e-11, 2e-11 * flops, light_bytes * 1e-10, compressed * 1e-9};
}

gpt_costs gpt_typical_costs(const gpt_config *c, size_t n_rows, size_t n_params) {
    const double rows = (double)n_rows, width = (double)c->channels;
    const double square = rows * width * width, qkv = (double)gpt_width(c, WIDTH_QKV);
    const double hidden = (double)c->hidden, wide = (double)gpt_width(c, WIDTH_WIDE);
    return (gpt_costs){.rows = rows,
        .embedding = typical(rows * width, 0, 0, 0),
        .attention =
            typical(2 * rows * width * qkv + 2 * square + 2 * rows * width * (double)c->seq,
                2 * square, 8 * rows * width, rows * (qkv + width)),
        .mlp = typical(2 * rows * width * (wide + hidden), 2 * rows * width * hidden,
            rows * (8 * width + 4 * (wide + hidden)), rows * wide),
        .head = typical(2 * rows * width * (double)c->vocab, 0, 0, 0),
        .update = 3.6e-9 * (double)n_params,
        .copy_bytes_per_s = 5e9};
}

static void set_costs(mo_stage *s, const stage_costs *costs, double scale) {
    s->forward_s = costs->forward * scale;
    s->output_s = costs->output * scale;
    s->backward_s = costs->backward * scale;
    s->light_s = costs->light * scale;
    s->compress_s = costs->compress * scale;
}

// What the builders below share; scale: from the costs' rows to this micro-batch's.
typedef struct builder {
    const gpt_chain_desc *d;
    size_t rows, row_bytes;
    double scale;
} builder;

static void build_halves(const builder *b, gpt_chain *g) {
    const gpt_config *c = b->d->config;
    mo_stage_tensor *attention = g->tensors;
    const size_t n_attention = N_ATTENTION_TENSORS +
        build_part_gradients(
            attention + N_ATTENTION_TENSORS, b->d, NORM1, PROJECT, 0, ATTENTION_BACKWARD_STEPS);
    mo_stage_tensor *mlp = attention + n_attention;
    const size_t n_mlp = N_MLP_TENSORS +
        build_part_gradients(mlp + N_MLP_TENSORS, b->d, NORM2, FROM_HIDDEN, 0, MLP_BACKWARD_STEPS);
    const int act = b->d->act;
    build_half_tensors(attention, c, b->rows, act, attention_tensors, N_ATTENTION_TENSORS, 0, 0);
    build_half_tensors(mlp, c, b->rows, act, mlp_tensors, N_MLP_TENSORS, 0, 0);
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
            .n_tensors = second ? n_mlp : n_attention,
            .in_place = 1};
        set_costs(s, second ? &b->d->costs->mlp : &b->d->costs->attention, b->scale);
    }
}

static void build_blocks(const builder *b, gpt_chain *g) {
    const stage_costs *x = &b->d->costs->attention, *y = &b->d->costs->mlp;
    const stage_costs both = {x->forward + y->forward, y->output, x->backward + y->backward,
        x->light + y->light, x->compress + y->compress};
    const unsigned steps = MLP_BACKWARD_STEPS + ATTENTION_BACKWARD_STEPS;
    const size_t n_tensors = N_BLOCK_TENSORS +
        build_part_gradients(
            g->tensors + N_BLOCK_TENSORS, b->d, NORM1, FROM_HIDDEN, MLP_BACKWARD_STEPS, steps);
    build_block_tensors(g->tensors, b->d->config, b->rows, b->d->act);
    for (size_t i = 0; i < b->d->layers; i++) {
        mo_stage *s = &g->stages[1 + i];
        snprintf(g->names[i], sizeof *g->names, "h.%zu", i);
        *s = (mo_stage){.name = g->names[i],
            .output_size = b->row_bytes,
            .forward_steps = ATTENTION_FORWARD_STEPS + MLP_FORWARD_STEPS,
            .backward_steps = steps,
            .output_first = ATTENTION_FORWARD_STEPS + MLP_FORWARD_STEPS - 1,
            .tensors = g->tensors,
            .n_tensors = n_tensors,
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
    const size_t n_block = N_BLOCK_TENSORS + d->config->arch->n_params;
    const size_t n_last = N_HEAD_TENSORS + gpt_head_params(d->config);
    g->tensors = allocate((n_block + n_last + gpt_front(d->config)) * sizeof *g->tensors);
    mo_stage_tensor *of_head = g->tensors + n_block, *of_embedding = of_head + n_last;
    g->stages[0] = (mo_stage){.name = "embedding",
        .output_size = b.row_bytes,
        .tensors = of_embedding,
        .n_tensors = build_gradients(of_embedding, d->released, 0, gpt_front(d->config))};
    set_costs(&g->stages[0], &d->costs->embedding, b.scale);
    if (d->halves) build_halves(&b, g);
    else build_blocks(&b, g);
    const size_t n_head = build_head_tensors(of_head, d, rows);
    mo_stage *head = &g->stages[n + 1];
    *head = (mo_stage){.name = "head",
        .forward_steps = 3,
        .gradient_first = 2,
        .tensors = of_head,
        .n_tensors = n_head};
    set_costs(head, &d->costs->head, b.scale);
    g->chain = (mo_chain){.stages = g->stages, .n_stages = n + 2};
}

void gpt_chain_free(gpt_chain *g) {
    free(g->names);
    free(g->stages);
    free(g->tensors);
}
