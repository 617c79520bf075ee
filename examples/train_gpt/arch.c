// arch.c - the parameters of the architectures: names, shapes, first values.
#include "app.h"

#include <math.h>
#include <string.h>

static const block_param gpt2_block[] = {
    {"ln_1.weight", WIDTH_CHANNELS, WIDTH_NONE},
    {"ln_1.bias", WIDTH_CHANNELS, WIDTH_NONE},
    {"attn.c_attn.weight", WIDTH_CHANNELS, WIDTH_QKV},
    {"attn.c_attn.bias", WIDTH_QKV, WIDTH_NONE},
    {"attn.c_proj.weight", WIDTH_CHANNELS, WIDTH_CHANNELS},
    {"attn.c_proj.bias", WIDTH_CHANNELS, WIDTH_NONE},
    {"ln_2.weight", WIDTH_CHANNELS, WIDTH_NONE},
    {"ln_2.bias", WIDTH_CHANNELS, WIDTH_NONE},
    {"mlp.c_fc.weight", WIDTH_CHANNELS, WIDTH_HIDDEN},
    {"mlp.c_fc.bias", WIDTH_HIDDEN, WIDTH_NONE},
    {"mlp.c_proj.weight", WIDTH_HIDDEN, WIDTH_CHANNELS},
    {"mlp.c_proj.bias", WIDTH_CHANNELS, WIDTH_NONE},
};

static const block_param llama_block[] = {
    {"input_layernorm.weight", WIDTH_CHANNELS, WIDTH_NONE},
    {"self_attn.q_proj.weight", WIDTH_CHANNELS, WIDTH_CHANNELS},
    {"self_attn.k_proj.weight", WIDTH_KV, WIDTH_CHANNELS},
    {"self_attn.v_proj.weight", WIDTH_KV, WIDTH_CHANNELS},
    {"self_attn.o_proj.weight", WIDTH_CHANNELS, WIDTH_CHANNELS},
    {"post_attention_layernorm.weight", WIDTH_CHANNELS, WIDTH_NONE},
    {"mlp.gate_proj.weight", WIDTH_HIDDEN, WIDTH_CHANNELS},
    {"mlp.up_proj.weight", WIDTH_HIDDEN, WIDTH_CHANNELS},
    {"mlp.down_proj.weight", WIDTH_CHANNELS, WIDTH_HIDDEN},
};

const gpt_arch gpt_archs[N_ARCHS] = {
    {.name = "gpt2",
        .embedding = "wte.weight",
        .positions = "wpe.weight",
        .last_norm = "ln_f.weight",
        .last_bias = "ln_f.bias",
        .params = gpt2_block,
        .n_params = sizeof gpt2_block / sizeof *gpt2_block,
        .parts = {{0, 1}, {2, 1}, {4, 1}, {6, 1}, {8, 1}, {10, 1}}},
    {.name = "llama",
        .embedding = "model.embed_tokens.weight",
        .last_norm = "model.norm.weight",
        .params = llama_block,
        .n_params = sizeof llama_block / sizeof *llama_block,
        .parts = {{0, 1}, {1, 3}, {4, 1}, {5, 1}, {6, 2}, {8, 1}},
        .llama = true},
};

const gpt_arch *gpt_arch_find(const char *name) {
    for (int i = 0; i < N_ARCHS; i++)
        if (strcmp(gpt_archs[i].name, name) == 0) return &gpt_archs[i];
    return NULL;
}

size_t gpt_default_hidden(const gpt_arch *arch, size_t channels) {
    return arch->llama ? (8 * channels / 3 + 31) / 32 * 32 : 4 * channels;
}

size_t gpt_width(const gpt_config *c, param_width width) {
    switch (width) {
    case WIDTH_CHANNELS: return c->channels;
    case WIDTH_KV: return c->channels / c->heads * c->kv_heads;
    case WIDTH_QKV: return c->channels + 2 * gpt_width(c, WIDTH_KV);
    case WIDTH_HIDDEN: return c->hidden;
    case WIDTH_WIDE: return c->arch->llama ? 2 * c->hidden : c->hidden;
    default: return 0;
    }
}

static void add(mo_params *params, const char *name, size_t rows, size_t columns) {
    size_t shape[2] = {rows, columns};
    check(mo_params_add(params, name, shape, columns ? 2 : 1, NULL), name);
}

void gpt_add_params(const gpt_config *c, mo_params *params) {
    const gpt_arch *arch = c->arch;
    char name[120];
    add(params, arch->embedding, c->vocab, c->channels);
    if (arch->positions) add(params, arch->positions, c->positions, c->channels);
    for (size_t layer = 0; layer < c->layers; layer++)
        for (size_t i = 0; i < arch->n_params; i++) {
            const block_param *p = &arch->params[i];
            const size_t again = layer % c->share, at = params->n;
            gpt_block_name(arch, layer / c->share, p->name, name, sizeof name);
            if (again != 0)
                snprintf(name + strlen(name), sizeof name - strlen(name), "@%zu", again);
            add(params, name, gpt_width(c, p->rows), gpt_width(c, p->columns));
            if (again != 0) check(mo_params_tie(params, at, at - again * arch->n_params), name);
        }
    add(params, arch->last_norm, c->channels, 0);
    if (arch->last_bias) add(params, arch->last_bias, c->channels, 0);
    // the head is the embedding: one tensor, two uses, one gradient
    add(params, "lm_head.weight", c->vocab, c->channels);
    check(mo_params_tie(params, params->n - 1, 0), "lm_head.weight");
}

void gpt_block_name(
    const gpt_arch *arch, size_t layer, const char *param, char *name, size_t size) {
    if (arch->llama) snprintf(name, size, "model.layers.%zu.%s", layer, param);
    else snprintf(name, size, "h.%zu.%s", layer, param);
}

size_t gpt_front(const gpt_config *c) { return c->arch->positions ? 2 : 1; }
size_t gpt_head_params(const gpt_config *c) { return c->arch->last_bias ? 2 : 1; }

bool gpt_is_block_matrix(const gpt_config *c, const mo_params *params, size_t i) {
    const size_t front = gpt_front(c), n = c->layers * c->arch->n_params;
    return i >= front && i < front + n && params->items[i].n_dims == 2;
}

bool gpt_gradient_is_local(const mo_params *params, size_t i) {
    for (size_t k = 0; k < params->n; k++)
        if (k != i && params->items[k].tied_to == i) return false;
    return params->items[i].tied_to == i;
}

const mo_param *gpt_part(const gpt_config *c, const mo_params *params, size_t layer, int part) {
    return &params->items[gpt_front(c) + layer * c->arch->n_params + c->arch->parts[part].first];
}

const mo_param *gpt_last_norm(const gpt_config *c, const mo_params *params) {
    return &params->items[gpt_front(c) + c->layers * c->arch->n_params];
}

// ---- first values -----------------------------------------------------------------------------

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
    const bool residual = ends_with(p->name, "c_proj.weight") ||
        ends_with(p->name, "o_proj.weight") || ends_with(p->name, "down_proj.weight");
    for (size_t j = 0; j < p->n && p->n_dims == 1; j++) to[j] = norm ? 1.0f : 0.0f;
    if (p->n_dims != 1)
        fill_normal(to, p->n, residual ? 0.02 / sqrt(2.0 * (double)c->layers) : 0.02, seed);
}
