// arch.c - sizes as the library has them, and first values of the parameters.
#include "app.h"

#include <math.h>
#include <string.h>

const gpt_arch *gpt_arch_at(int i) {
    const mo_model like = {.arch = (mo_model_arch)i};
    return mo_model_layout_of(&like);
}

const gpt_arch *gpt_arch_find(const char *name) {
    return gpt_arch_at((int)mo_model_arch_find(name));
}

mo_model gpt_model(const gpt_config *c) {
    mo_model m = {.arch = c->arch->llama ? MO_MODEL_LLAMA : MO_MODEL_GPT2,
        .layers = c->layers,
        .share = c->share,
        .channels = c->channels,
        .heads = c->heads,
        .kv_heads = c->kv_heads,
        .hidden = c->hidden,
        .positions = c->arch->positions ? c->positions : 0,
        .vocab = c->vocab};
    m.head_size = c->channels / c->heads;
    return m;
}

size_t gpt_width(const gpt_config *c, int width) {
    const mo_model m = gpt_model(c);
    return mo_model_size(&m, (mo_model_width)width);
}

size_t gpt_front(const gpt_config *c) { return mo_model_front(c->arch); }
size_t gpt_head_params(const gpt_config *c) { return mo_model_n_norm_params(c->arch); }

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
