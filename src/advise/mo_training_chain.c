/* mo_training_chain.c - see mo_training.h: the stages of a transformer as the planner sees them. */

/* ---- tensors -------------------------------------------------------------------------------- */

/* How a tensor's size follows: rows of so many numbers; their mean and rstd, or rstd alone; one
 * number for each head. */
typedef enum moi_chain_count { MOI_CHAIN_WIDTH, MOI_CHAIN_STATS, MOI_CHAIN_HEADS } moi_chain_count;

/* Tensors of the two halves of a block, in the order of mo_training.h's names; lifetimes are the
 * sub-steps of forward and backward of the half. */
typedef struct moi_half_tensor {
    const char *name;
    mo_tensor_role role;
    moi_chain_count count;
    mo_model_width width;
    unsigned f0, f1, b0, b1;
} moi_half_tensor;

/* Forward: 0 norm, 1 q, k and v, 2 attention, 3 projection. Backward: 0 projection, 1 attention,
 * 2 gradients of q, k and v's matrices, 3 of their input, 4 norm. */
static const moi_half_tensor moi_attention_half[MO_TRAINING_N_ATTENTION] = {
    {"ln1", MO_TENSOR_CHEAP, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_CHANNELS, 0, 1, 2, 2},
    {"stats1", MO_TENSOR_SAVED, MOI_CHAIN_STATS, MO_MODEL_WIDTH_NONE, 0, 0, 0, 4},
    {"qkv", MO_TENSOR_WIDE, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_QKV, 1, 2, 1, 1},
    {"lse", MO_TENSOR_SAVED, MOI_CHAIN_HEADS, MO_MODEL_WIDTH_NONE, 2, 2, 0, 1},
    {"attention", MO_TENSOR_WIDE, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_QUERY, 2, 3, 0, 1},
    {"dattention", MO_TENSOR_BACKWARD, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_QUERY, 0, 0, 0, 1},
    {"dqkv", MO_TENSOR_BACKWARD, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_QKV, 0, 0, 1, 3},
    {"dln1", MO_TENSOR_BACKWARD, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_CHANNELS, 0, 0, 3, 4},
    {"qkv_codes", MO_TENSOR_CODES, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_QKV, 2, 2, 1, 1},
    {"attention_codes", MO_TENSOR_CODES, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_QUERY, 3, 3, 0, 0},
};
enum { MOI_ATTENTION_FORWARD_STEPS = 4, MOI_ATTENTION_BACKWARD_STEPS = 5 };

/* Forward: 0 norm, 1 first product, 2 activation, 3 second product. Backward: 0 gradient of the
 * second matrix, 1 of its input, 2 activation, 3 gradient of the first matrix, 4 of its input,
 * 5 norm. */
static const moi_half_tensor moi_mlp_half[MO_TRAINING_N_MLP] = {
    {"ln2", MO_TENSOR_CHEAP, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_CHANNELS, 0, 1, 3, 3},
    {"stats2", MO_TENSOR_SAVED, MOI_CHAIN_STATS, MO_MODEL_WIDTH_NONE, 0, 0, 0, 5},
    {"fc", MO_TENSOR_WIDE, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_WIDE, 1, 2, 0, 2},
    {"activation", MO_TENSOR_CHEAP, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_HIDDEN, 2, 3, 0, 0},
    {"dfc", MO_TENSOR_BACKWARD, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_WIDE, 0, 0, 1, 4},
    {"dln2", MO_TENSOR_BACKWARD, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_CHANNELS, 0, 0, 4, 5},
    {"fc_codes", MO_TENSOR_CODES, MOI_CHAIN_WIDTH, MO_MODEL_WIDTH_WIDE, 2, 2, 0, 0},
};
enum { MOI_MLP_FORWARD_STEPS = 4, MOI_MLP_BACKWARD_STEPS = 6 };

/* What the builders share; scale: from the costs' rows to this micro-batch's. */
typedef struct moi_chain_builder {
    const moi_training_job *job;
    const mo_training *t;
    const mo_model_layout *layout;
    mo_training_costs costs;
    mo_training_chain *g;
    size_t layers, rows, row_bytes, n_layer_tensors;
    double scale;
} moi_chain_builder;

static size_t moi_chain_stats_size(const moi_chain_builder *b) {
    return (b->layout->llama ? 1 : 2) * b->rows * sizeof(float);
}

/* Bytes of the codes of n numbers; 0 = there are none. */
static size_t moi_chain_codes_size(const moi_chain_builder *b, size_t n) {
    mo_compress_desc d;
    memset(&d, 0, sizeof d);
    d.bits = b->t->strategy.act;
    return d.bits ? mo_compress_size(&d, n) : 0;
}

static size_t moi_chain_half_size(const moi_chain_builder *b, const moi_half_tensor *from) {
    const size_t n = b->rows * mo_model_size(&b->t->model, from->width);
    if (from->count == MOI_CHAIN_STATS) return moi_chain_stats_size(b);
    if (from->count == MOI_CHAIN_HEADS) return b->rows * b->t->model.heads * sizeof(float);
    return from->role == MO_TENSOR_CODES ? moi_chain_codes_size(b, n) : n * sizeof(float);
}

/* forward, backward: where those of the half begin within its stage. */
static void moi_chain_half(const moi_chain_builder *b, mo_stage_tensor *t,
    const moi_half_tensor *from, size_t n, unsigned forward, unsigned backward) {
    for (size_t i = 0; i < n; i++) {
        memset(&t[i], 0, sizeof t[i]);
        t[i].name = from[i].name;
        t[i].size = moi_chain_half_size(b, &from[i]);
        t[i].role = from[i].role;
        t[i].forward_first = from[i].f0 + forward;
        t[i].forward_last = from[i].f1 + forward;
        t[i].backward_first = from[i].b0 + backward;
        t[i].backward_last = from[i].b1 + backward;
    }
}

/* A whole block: forward of the attention first, backward of the MLP first. */
static void moi_chain_block(const moi_chain_builder *b, mo_stage_tensor *t) {
    const unsigned last = MOI_ATTENTION_FORWARD_STEPS + MOI_MLP_FORWARD_STEPS - 1;
    mo_stage_tensor *residual = &t[MO_TRAINING_RESIDUAL];
    mo_stage_tensor *codes = &t[MO_TRAINING_RESIDUAL_CODES];
    moi_chain_half(b, t, moi_attention_half, MO_TRAINING_N_ATTENTION, 0, MOI_MLP_BACKWARD_STEPS);
    moi_chain_half(
        b, t + MO_TRAINING_MLP, moi_mlp_half, MO_TRAINING_N_MLP, MOI_ATTENTION_FORWARD_STEPS, 0);
    memset(residual, 0, 2 * sizeof *residual); /* and the codes */
    residual->name = "residual";
    residual->size = b->row_bytes;
    residual->role = MO_TENSOR_WIDE;
    residual->forward_first = MOI_ATTENTION_FORWARD_STEPS - 1;
    residual->forward_last = last;
    residual->backward_first = 3;
    residual->backward_last = MOI_MLP_BACKWARD_STEPS - 1;
    codes->name = "residual_codes";
    codes->size = moi_chain_codes_size(b, b->rows * b->t->model.channels);
    codes->role = MO_TENSOR_CODES;
    codes->forward_first = codes->forward_last = last;
    codes->backward_first = codes->backward_last = 3;
}

/* ---- gradients ------------------------------------------------------------------------------ */

/* Of parameter i, until its stage's backward ends. */
static void moi_chain_gradient(
    const moi_chain_builder *b, mo_stage_tensor *t, const char *name, size_t i) {
    memset(t, 0, sizeof *t);
    t->name = name;
    t->size = moi_training_released(b->t, b->job->params, i);
    t->role = MO_TENSOR_BACKWARD;
    t->category = MO_CATEGORY_GRAD;
}

/* The sub-step of its half's backward that writes the gradients of a part's matrices. Those of
 * vectors, which are small and added to, are set to zero before the first one, and adapters too. */
static unsigned moi_chain_gradient_first(int part, unsigned attention) {
    const unsigned first = part == MO_MODEL_TO_QKV ? 2 : part == MO_MODEL_TO_HIDDEN ? 3 : 0;
    return first + (part < MO_MODEL_NORM2 ? attention : 0);
}

/* Of parts first..last of a layer; attention: where that half's backward begins in the stage. */
static size_t moi_chain_part_gradients(const moi_chain_builder *b, mo_stage_tensor *t, size_t layer,
    int first, int last, unsigned attention, unsigned steps) {
    const mo_model_layout *l = b->layout;
    const size_t begin = l->parts[first].first;
    const size_t end = last + 1 < MO_MODEL_PART_COUNT ? l->parts[last + 1].first : l->n_params;
    int part = first;
    if (!b->t->strategy.release) return 0;
    for (size_t i = begin; i < end; i++) {
        mo_stage_tensor *g = &t[i - begin];
        if (part < last && i == l->parts[part + 1].first) part++;
        moi_chain_gradient(b, g, l->params[i].name, mo_model_front(l) + layer * l->n_params + i);
        if (l->params[i].columns != MO_MODEL_WIDTH_NONE && b->t->strategy.lora == 0)
            g->backward_first = moi_chain_gradient_first(part, attention);
        g->backward_last = steps - 1;
    }
    return end - begin;
}

static size_t moi_chain_front_gradients(const moi_chain_builder *b, mo_stage_tensor *t) {
    if (!b->t->strategy.release) return 0;
    moi_chain_gradient(b, &t[0], b->layout->embedding, 0);
    if (b->layout->positions) moi_chain_gradient(b, &t[1], b->layout->positions, 1);
    return mo_model_front(b->layout);
}

/* Of the norm, and of a matrix that is not the embedding. */
static size_t moi_chain_head_gradients(const moi_chain_builder *b, mo_stage_tensor *t) {
    const size_t first = mo_model_front(b->layout) + mo_model_n_block_params(&b->t->model);
    const char *names[3] = {b->layout->last_norm, b->layout->last_bias, "lm_head.weight"};
    size_t n = mo_model_n_norm_params(b->layout);
    if (!b->t->strategy.release) return 0;
    if (b->t->model.untied_head) n++;
    if (!b->layout->last_bias) names[1] = names[2];
    for (size_t i = 0; i < n; i++) {
        moi_chain_gradient(b, &t[i], names[i], first + i);
        t[i].role = MO_TENSOR_FORWARD;
        t[i].forward_last = 2;
    }
    return n;
}

/* ---- the head ------------------------------------------------------------------------------- */

static size_t moi_chain_logits_size(const moi_chain_builder *b) {
    const mo_training_target *target = &b->t->target;
    mo_linear_kd_desc kd;
    memset(&kd, 0, sizeof kd);
    kd.ce.rows = b->rows;
    kd.ce.channels = b->t->model.channels;
    kd.ce.vocab = b->t->model.vocab;
    kd.ce.chunk_rows = b->t->strategy.loss_rows;
    if (b->t->teacher)
        return target->kd_size ? target->kd_size(&kd) : mo_linear_kd_workspace_size(&kd);
    return target->ce_size ? target->ce_size(&kd.ce) : mo_linear_ce_workspace_size(&kd.ce);
}

static size_t moi_chain_head(const moi_chain_builder *b, mo_stage_tensor *t) {
    const mo_stage_tensor head[MO_TRAINING_N_HEAD] = {
        {"lnf", b->row_bytes, MO_TENSOR_FORWARD, MO_CATEGORY_ACTIVATION, 0, 1, 0, 0},
        {"stats", moi_chain_stats_size(b), MO_TENSOR_FORWARD, MO_CATEGORY_ACTIVATION, 0, 2, 0, 0},
        {"logits", moi_chain_logits_size(b), MO_TENSOR_FORWARD, MO_CATEGORY_ACTIVATION, 1, 1, 0, 0},
        {"dlnf", b->row_bytes, MO_TENSOR_FORWARD, MO_CATEGORY_OTHER, 1, 2, 0, 0},
    };
    memcpy(t, head, sizeof head);
    return MO_TRAINING_N_HEAD + moi_chain_head_gradients(b, t + MO_TRAINING_N_HEAD);
}

/* ---- stages --------------------------------------------------------------------------------- */

static void moi_chain_set_costs(mo_stage *s, const mo_stage_costs *costs, double scale) {
    s->forward_s = costs->forward * scale;
    s->output_s = costs->output * scale;
    s->backward_s = costs->backward * scale;
    s->light_s = costs->light * scale;
    s->compress_s = costs->compress * scale;
}

static mo_stage moi_chain_stage(const char *name, mo_stage_tensor *tensors, size_t n_tensors) {
    mo_stage s;
    memset(&s, 0, sizeof s);
    s.name = name;
    s.tensors = tensors;
    s.n_tensors = n_tensors;
    return s;
}

static void moi_chain_halves(const moi_chain_builder *b) {
    const size_t first_half = MO_TRAINING_N_ATTENTION + b->layout->parts[MO_MODEL_NORM2].first;
    for (size_t i = 0; i < 2 * b->layers; i++) {
        const int mlp = i % 2 != 0;
        const unsigned steps =
            mlp ? (unsigned)MOI_MLP_BACKWARD_STEPS : (unsigned)MOI_ATTENTION_BACKWARD_STEPS;
        size_t n = mlp ? (size_t)MO_TRAINING_N_MLP : (size_t)MO_TRAINING_N_ATTENTION;
        mo_stage_tensor *t = b->g->tensors + i / 2 * b->n_layer_tensors + (mlp ? first_half : 0);
        moi_chain_half(b, t, mlp ? moi_mlp_half : moi_attention_half, n, 0, 0);
        n += moi_chain_part_gradients(b, t + n, i / 2, mlp ? MO_MODEL_NORM2 : MO_MODEL_NORM1,
            mlp ? MO_MODEL_FROM_HIDDEN : MO_MODEL_PROJECT, 0, steps);
        snprintf(b->g->names[i], sizeof *b->g->names, "h.%zu.%s", i / 2, mlp ? "mlp" : "attn");
        mo_stage *s = &b->g->stages[1 + i];
        *s = moi_chain_stage(b->g->names[i], t, n);
        s->output_size = b->row_bytes;
        s->forward_steps =
            mlp ? (unsigned)MOI_MLP_FORWARD_STEPS : (unsigned)MOI_ATTENTION_FORWARD_STEPS;
        s->backward_steps = steps;
        s->output_first = 3;
        s->in_place = 1;
        moi_chain_set_costs(s, mlp ? &b->costs.mlp : &b->costs.attention, b->scale);
    }
}

static void moi_chain_blocks(const moi_chain_builder *b) {
    const mo_stage_costs *x = &b->costs.attention, *y = &b->costs.mlp;
    const mo_stage_costs both = {x->forward + y->forward, y->output, x->backward + y->backward,
        x->light + y->light, x->compress + y->compress};
    const unsigned steps = MOI_MLP_BACKWARD_STEPS + MOI_ATTENTION_BACKWARD_STEPS;
    for (size_t i = 0; i < b->layers; i++) {
        mo_stage_tensor *t = b->g->tensors + i * b->n_layer_tensors;
        moi_chain_block(b, t);
        const size_t n = moi_chain_part_gradients(b, t + MO_TRAINING_N_BLOCK, i, MO_MODEL_NORM1,
            MO_MODEL_FROM_HIDDEN, MOI_MLP_BACKWARD_STEPS, steps);
        snprintf(b->g->names[i], sizeof *b->g->names, "h.%zu", i);
        mo_stage *s = &b->g->stages[1 + i];
        *s = moi_chain_stage(b->g->names[i], t, MO_TRAINING_N_BLOCK + n);
        s->output_size = b->row_bytes;
        s->forward_steps = MOI_ATTENTION_FORWARD_STEPS + MOI_MLP_FORWARD_STEPS;
        s->backward_steps = steps;
        s->output_first = MOI_ATTENTION_FORWARD_STEPS + MOI_MLP_FORWARD_STEPS - 1;
        s->in_place = 1;
        moi_chain_set_costs(s, &both, b->scale);
    }
}

static void moi_chain_ends(const moi_chain_builder *b, size_t n_middle) {
    mo_stage_tensor *of_head = b->g->tensors + b->layers * b->n_layer_tensors;
    mo_stage_tensor *of_embedding = of_head + MO_TRAINING_N_HEAD + 3;
    mo_stage *s = &b->g->stages[0], *head = &b->g->stages[n_middle + 1];
    *s = moi_chain_stage("embedding", of_embedding, moi_chain_front_gradients(b, of_embedding));
    s->output_size = b->row_bytes;
    moi_chain_set_costs(s, &b->costs.embedding, b->scale);
    *head = moi_chain_stage("head", of_head, moi_chain_head(b, of_head));
    head->forward_steps = 3;
    head->gradient_first = 2;
    moi_chain_set_costs(head, &b->costs.head, b->scale);
}

static mo_status moi_training_build(
    const moi_training_job *job, size_t layers, int halves, mo_training_chain *g) {
    const mo_training *t = job->t;
    const size_t n = (halves ? 2 : 1) * layers, rows = mo_training_rows(t);
    moi_chain_builder b;
    memset(g, 0, sizeof *g);
    b.job = job;
    b.t = t;
    b.layout = mo_model_layout_of(&t->model);
    b.costs = moi_training_costs_of(job);
    b.g = g;
    b.layers = layers;
    b.rows = rows;
    b.row_bytes = rows * t->model.channels * sizeof(float);
    b.n_layer_tensors = MO_TRAINING_N_BLOCK + b.layout->n_params;
    b.scale = (double)rows / b.costs.rows;
    g->allocator = t->allocator ? *t->allocator : mo_allocator_heap();
    g->n_names = n + 2;
    g->n_tensors = layers * b.n_layer_tensors + MO_TRAINING_N_HEAD + 3 + 2;
    g->stages = (mo_stage *)moi_alloc_array(&g->allocator, n + 2, sizeof *g->stages);
    g->names = (char(*)[32])moi_alloc_array(&g->allocator, g->n_names, sizeof *g->names);
    g->tensors =
        (mo_stage_tensor *)moi_alloc_array(&g->allocator, g->n_tensors, sizeof *g->tensors);
    if (!g->stages || !g->names || !g->tensors) {
        mo_training_chain_free(g);
        return MO_E_NO_MEMORY;
    }
    if (halves) moi_chain_halves(&b);
    else moi_chain_blocks(&b);
    moi_chain_ends(&b, n);
    g->chain.stages = g->stages;
    g->chain.n_stages = n + 2;
    return MO_OK;
}

mo_status mo_training_chain_init(
    mo_training_chain *chain, const mo_training *t, size_t layers, int halves) {
    moi_training_job job;
    mo_training_chain g;
    if (!chain || !t || layers == 0 || layers > t->model.layers) return MO_E_INVALID;
    mo_status status = moi_training_open(&job, t);
    if (status != MO_OK) return status;
    status = moi_training_build(&job, layers, halves, &g);
    moi_training_close(&job);
    if (status == MO_OK) *chain = g;
    return status;
}

void mo_training_chain_free(mo_training_chain *g) {
    if (!g) return;
    moi_free_array(&g->allocator, g->stages, g->n_names, sizeof *g->stages);
    moi_free_array(&g->allocator, g->names, g->n_names, sizeof *g->names);
    moi_free_array(&g->allocator, g->tensors, g->n_tensors, sizeof *g->tensors);
    memset(g, 0, sizeof *g);
}
