/* mo_model_params.c - see mo_model_params.h. */

static const mo_model_block_param moi_model_gpt2[] = {
    {"ln_1.weight", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_NONE},
    {"ln_1.bias", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_NONE},
    {"attn.c_attn.weight", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_QKV},
    {"attn.c_attn.bias", MO_MODEL_WIDTH_QKV, MO_MODEL_WIDTH_NONE},
    {"attn.c_proj.weight", MO_MODEL_WIDTH_QUERY, MO_MODEL_WIDTH_CHANNELS},
    {"attn.c_proj.bias", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_NONE},
    {"ln_2.weight", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_NONE},
    {"ln_2.bias", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_NONE},
    {"mlp.c_fc.weight", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_HIDDEN},
    {"mlp.c_fc.bias", MO_MODEL_WIDTH_HIDDEN, MO_MODEL_WIDTH_NONE},
    {"mlp.c_proj.weight", MO_MODEL_WIDTH_HIDDEN, MO_MODEL_WIDTH_CHANNELS},
    {"mlp.c_proj.bias", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_NONE},
};

static const mo_model_block_param moi_model_llama[] = {
    {"input_layernorm.weight", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_NONE},
    {"self_attn.q_proj.weight", MO_MODEL_WIDTH_QUERY, MO_MODEL_WIDTH_CHANNELS},
    {"self_attn.k_proj.weight", MO_MODEL_WIDTH_KV, MO_MODEL_WIDTH_CHANNELS},
    {"self_attn.v_proj.weight", MO_MODEL_WIDTH_KV, MO_MODEL_WIDTH_CHANNELS},
    {"self_attn.o_proj.weight", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_QUERY},
    {"post_attention_layernorm.weight", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_NONE},
    {"mlp.gate_proj.weight", MO_MODEL_WIDTH_HIDDEN, MO_MODEL_WIDTH_CHANNELS},
    {"mlp.up_proj.weight", MO_MODEL_WIDTH_HIDDEN, MO_MODEL_WIDTH_CHANNELS},
    {"mlp.down_proj.weight", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_HIDDEN},
};

/* Qwen2's. */
static const mo_model_block_param moi_model_llama_biased[] = {
    {"input_layernorm.weight", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_NONE},
    {"self_attn.q_proj.weight", MO_MODEL_WIDTH_QUERY, MO_MODEL_WIDTH_CHANNELS},
    {"self_attn.k_proj.weight", MO_MODEL_WIDTH_KV, MO_MODEL_WIDTH_CHANNELS},
    {"self_attn.v_proj.weight", MO_MODEL_WIDTH_KV, MO_MODEL_WIDTH_CHANNELS},
    {"self_attn.q_proj.bias", MO_MODEL_WIDTH_QUERY, MO_MODEL_WIDTH_NONE},
    {"self_attn.k_proj.bias", MO_MODEL_WIDTH_KV, MO_MODEL_WIDTH_NONE},
    {"self_attn.v_proj.bias", MO_MODEL_WIDTH_KV, MO_MODEL_WIDTH_NONE},
    {"self_attn.o_proj.weight", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_QUERY},
    {"post_attention_layernorm.weight", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_NONE},
    {"mlp.gate_proj.weight", MO_MODEL_WIDTH_HIDDEN, MO_MODEL_WIDTH_CHANNELS},
    {"mlp.up_proj.weight", MO_MODEL_WIDTH_HIDDEN, MO_MODEL_WIDTH_CHANNELS},
    {"mlp.down_proj.weight", MO_MODEL_WIDTH_CHANNELS, MO_MODEL_WIDTH_HIDDEN},
};

/* The last one is Llama's with biases. */
static const mo_model_layout moi_model_layouts[MO_MODEL_ARCH_COUNT + 1] = {
    {"gpt2", "wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias", moi_model_gpt2,
        sizeof moi_model_gpt2 / sizeof *moi_model_gpt2,
        {{0, 1}, {2, 1}, {4, 1}, {6, 1}, {8, 1}, {10, 1}}, 0},
    {"llama", "model.embed_tokens.weight", NULL, "model.norm.weight", NULL, moi_model_llama,
        sizeof moi_model_llama / sizeof *moi_model_llama,
        {{0, 1}, {1, 3}, {4, 1}, {5, 1}, {6, 2}, {8, 1}}, 1},
    {"llama", "model.embed_tokens.weight", NULL, "model.norm.weight", NULL, moi_model_llama_biased,
        sizeof moi_model_llama_biased / sizeof *moi_model_llama_biased,
        {{0, 1}, {1, 3}, {7, 1}, {8, 1}, {9, 2}, {11, 1}}, 1},
};

const mo_model_layout *mo_model_layout_of(const mo_model *m) {
    if (!m || m->arch < MO_MODEL_GPT2 || m->arch >= MO_MODEL_ARCH_COUNT) return NULL;
    const int biased = m->arch == MO_MODEL_LLAMA && m->qkv_bias;
    return &moi_model_layouts[biased ? (int)MO_MODEL_ARCH_COUNT : (int)m->arch];
}

const char *mo_model_arch_name(mo_model_arch arch) {
    const int known = arch >= MO_MODEL_GPT2 && arch < MO_MODEL_ARCH_COUNT;
    return known ? moi_model_layouts[arch].name : "?";
}

mo_model_arch mo_model_arch_find(const char *name) {
    int i = 0;
    while (i < MO_MODEL_ARCH_COUNT && strcmp(moi_model_layouts[i].name, name) != 0) i++;
    return (mo_model_arch)i;
}

size_t mo_model_size(const mo_model *m, mo_model_width width) {
    switch (width) {
    case MO_MODEL_WIDTH_CHANNELS: return m->channels;
    case MO_MODEL_WIDTH_QUERY: return m->heads * m->head_size;
    case MO_MODEL_WIDTH_KV: return m->kv_heads * m->head_size;
    case MO_MODEL_WIDTH_QKV: return (m->heads + 2 * m->kv_heads) * m->head_size;
    case MO_MODEL_WIDTH_HIDDEN: return m->hidden;
    case MO_MODEL_WIDTH_WIDE: return m->arch == MO_MODEL_LLAMA ? 2 * m->hidden : m->hidden;
    default: return 0;
    }
}

void mo_model_block_name(
    const mo_model_layout *layout, size_t layer, const char *param, char *name, size_t size) {
    snprintf(name, size, layout->llama ? "model.layers.%zu.%s" : "h.%zu.%s", layer, param);
}

size_t mo_model_front(const mo_model_layout *layout) { return layout->positions ? 2 : 1; }

size_t mo_model_n_block_params(const mo_model *model) {
    return model->layers * mo_model_layout_of(model)->n_params;
}

size_t mo_model_n_norm_params(const mo_model_layout *layout) { return layout->last_bias ? 2 : 1; }

size_t mo_model_n_params(const mo_model *model) {
    const mo_model_layout *layout = mo_model_layout_of(model);
    return mo_model_front(layout) + mo_model_n_block_params(model) +
        mo_model_n_norm_params(layout) + 1;
}

int mo_model_is_block_matrix(const mo_model *model, size_t i) {
    const mo_model_layout *layout = mo_model_layout_of(model);
    const size_t front = mo_model_front(layout);
    return i >= front && i - front < mo_model_n_block_params(model) &&
        layout->params[(i - front) % layout->n_params].columns != MO_MODEL_WIDTH_NONE;
}

static mo_status moi_model_add_param(
    mo_params *params, const char *name, size_t rows, size_t columns) {
    const size_t shape[2] = {rows, columns};
    return mo_params_add(params, name, shape, columns ? 2 : 1, NULL);
}

/* Every further time that a block is applied, its parameters are those of the first time. */
static mo_status moi_model_add_block_params(const mo_model *m, size_t layer, mo_params *params) {
    const mo_model_layout *layout = mo_model_layout_of(m);
    const size_t again = layer % m->share;
    mo_status status = MO_OK;
    char name[128];
    for (size_t i = 0; i < layout->n_params && status == MO_OK; i++) {
        const mo_model_block_param *p = &layout->params[i];
        const size_t at = params->n;
        mo_model_block_name(layout, layer / m->share, p->name, name, sizeof name);
        if (again != 0) snprintf(name + strlen(name), sizeof name - strlen(name), "@%zu", again);
        status = moi_model_add_param(
            params, name, mo_model_size(m, p->rows), mo_model_size(m, p->columns));
        if (status == MO_OK && again != 0)
            status = mo_params_tie(params, at, at - again * layout->n_params);
    }
    return status;
}

mo_status mo_model_add_params(const mo_model *m, mo_params *params) {
    const mo_model_layout *layout = mo_model_layout_of(m);
    if (!layout || !params || m->share == 0) return MO_E_INVALID;
    const size_t first = params->n;
    mo_status status = moi_model_add_param(params, layout->embedding, m->vocab, m->channels);
    if (status == MO_OK && layout->positions)
        status = moi_model_add_param(params, layout->positions, m->positions, m->channels);
    for (size_t layer = 0; layer < m->layers && status == MO_OK; layer++)
        status = moi_model_add_block_params(m, layer, params);
    if (status == MO_OK) status = moi_model_add_param(params, layout->last_norm, m->channels, 0);
    if (status == MO_OK && layout->last_bias)
        status = moi_model_add_param(params, layout->last_bias, m->channels, 0);
    if (status == MO_OK)
        status = moi_model_add_param(params, "lm_head.weight", m->vocab, m->channels);
    if (status != MO_OK || m->untied_head) return status;
    /* the head is the embedding: one tensor, two uses, one gradient */
    return mo_params_tie(params, params->n - 1, first);
}

int mo_model_gradient_is_local(const mo_params *params, size_t i) {
    for (size_t k = 0; k < params->n; k++)
        if (k != i && params->items[k].tied_to == i) return 0;
    return params->items[i].tied_to == i;
}
