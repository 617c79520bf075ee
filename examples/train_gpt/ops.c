// ops.c - what the stages compute: every step of the plan comes here.
#include "app.h"

#include <string.h>

// ---- linear layers ----------------------------------------------------------------------------

// Matrices side by side: each makes some of the columns of the output.
enum { MAX_BESIDE = 3 };
typedef struct linear {
    size_t rows, in, out, n;
    const mo_param *weights, *bias; // [n]; NULL = none
    bool out_in;                    // weights are [out x in], else [in x out]
    bool is_adapted;
    gpt_adapted adapted[MAX_BESIDE];
} linear;

static size_t columns_of(const linear *l, size_t i) {
    return l->weights[i].shape[l->out_in ? 0 : 1];
}

static linear block_linear(const gpt_run *run, size_t layer, int part) {
    const gpt_config *c = run->config;
    const mo_param *w = gpt_part(c, run->params, layer, part);
    linear l = {.rows = run->batch * c->seq,
        .in = w->shape[c->arch->llama ? 1 : 0],
        .n = c->arch->parts[part].n,
        .weights = w,
        .bias = c->arch->llama ? NULL : w + 1,
        .out_in = c->arch->llama,
        .is_adapted = run->weights != NULL};
    for (size_t i = 0; i < l.n; i++) l.out += columns_of(&l, i);
    for (size_t i = 0; i < l.n && l.is_adapted; i++) {
        l.adapted[i] = lora_linear(run, layer, part, i);
        l.adapted[i].y_stride = l.out;
    }
    return l;
}

// y = x weight (+ bias) (+ residual): y is filled first, so that the product adds to it
static void linear_forward(
    const gpt_run *run, const linear *l, const float *x, const float *residual, float *y) {
    if (l->bias) run->kernels->bias_forward(run, l->bias->data, residual, l->rows, l->out, y);
    else if (residual && residual != y) run->kernels->copy(run, residual, y, l->rows * l->out);
    const bool add = l->bias || residual;
    for (size_t i = 0, at = 0; i < l->n; at += columns_of(l, i++)) {
        const mo_gemm_desc d = {.m = l->rows,
            .n = columns_of(l, i),
            .k = l->in,
            .trans_b = l->out_in,
            .ldc = l->out,
            .beta = add ? 1 : 0};
        gpt_adapted a = l->adapted[i];
        a.add = add;
        if (l->is_adapted) run->kernels->lora_forward(run, &a, x, y + at);
        else run->kernels->gemm_param(run, &d, x, &l->weights[i], y + at);
    }
}

// dweight += x^T dy, or dy^T x; dbias += sum of dy; or the same for an adapter alone. What is
// frozen has no gradient.
static void linear_backward_weight(
    const gpt_run *run, const linear *l, const float *x, const float *dy) {
    if (l->bias && l->bias->grad)
        run->kernels->bias_backward(run, dy, l->rows, l->out, l->bias->grad);
    for (size_t i = 0, at = 0; i < l->n; at += columns_of(l, i++)) {
        const gpt_adapted *a = &l->adapted[i];
        if (l->is_adapted && (a->a->grad || a->b->grad))
            run->kernels->lora_backward_adapter(run, a, x, dy + at);
        if (!l->weights[i].grad) continue;
        mo_gemm_desc d = {.m = l->in, .n = columns_of(l, i), .k = l->rows, .trans_a = 1};
        d.beta = run->fresh ? 0 : 1;
        if (l->out_in) {
            d.m = d.n, d.n = l->in, d.lda = l->out;
            run->kernels->gemm(run, &d, dy + at, x, l->weights[i].grad);
        } else {
            d.ldb = l->out;
            run->kernels->gemm(run, &d, x, dy + at, l->weights[i].grad);
        }
    }
}

// dx = dy weight^T, in rows that are ld apart
static void linear_backward_input(
    const gpt_run *run, const linear *l, const float *dy, float *dx, size_t ld) {
    for (size_t i = 0, at = 0; i < l->n; at += columns_of(l, i++)) {
        gpt_adapted a = l->adapted[i];
        a.add = i != 0;
        a.dx_stride = ld;
        if (l->is_adapted) {
            run->kernels->lora_backward_input(run, &a, dy + at, dx);
            continue;
        }
        const mo_gemm_desc d = {.m = l->rows,
            .n = l->in,
            .k = columns_of(l, i),
            .trans_b = !l->out_in,
            .lda = l->out,
            .ldc = ld,
            .beta = i == 0 ? 0 : 1};
        run->kernels->gemm_param(run, &d, dy + at, &l->weights[i], dx);
    }
}

// ---- block ------------------------------------------------------------------------------------

// Weight and bias, gradients, and where the norm's stats are.
mo_layernorm_desc gpt_norm(const gpt_run *run, const mo_param *w, float *stats) {
    const size_t rows = run->batch * run->config->seq;
    mo_layernorm_desc d = {.n = rows,
        .channels = run->config->channels,
        .weight = w[0].data,
        .dweight = w[0].grad,
        .rstd = stats};
    if (run->config->arch->llama) return d;
    d.bias = w[1].data;
    d.dbias = w[1].grad;
    d.mean = stats;
    d.rstd = stats + rows;
    return d;
}

static mo_layernorm_desc block_norm(const gpt_run *run, size_t layer, int part, float *stats) {
    return gpt_norm(run, gpt_part(run->config, run->params, layer, part), stats);
}

// Turns q and k of rows of q, k and v; or their gradients back.
static void rotate(const gpt_run *run, bool back, float *qkv) {
    const gpt_config *c = run->config;
    const mo_rope_desc d = {.batch = run->batch,
        .seq = c->seq,
        .heads = c->heads + c->kv_heads,
        .head_size = c->channels / c->heads,
        .stride = gpt_width(c, WIDTH_QKV),
        .table = run->rope_table};
    if (c->arch->llama) run->kernels->rope(run, &d, back, qkv);
}

static mo_swiglu_desc gated_units(const gpt_run *run) {
    const gpt_config *c = run->config;
    return (mo_swiglu_desc){
        .rows = run->batch * c->seq, .hidden = c->hidden, .stride = 2 * c->hidden};
}

// y: of what the first product of the MLP has made
static void activate(const gpt_run *run, const float *x, float *y) {
    const gpt_config *c = run->config;
    const mo_swiglu_desc d = gated_units(run);
    if (c->arch->llama) run->kernels->swiglu_forward(run, &d, x, y);
    else run->kernels->gelu_forward(run, x, y, run->batch * c->seq * c->hidden);
}

// In place: dx begins as dy, with gated units in the first half of each row.
static void activate_backward(const gpt_run *run, const float *x, float *dx) {
    const gpt_config *c = run->config;
    mo_swiglu_desc d = gated_units(run);
    d.y_stride = d.stride;
    if (c->arch->llama) run->kernels->swiglu_backward(run, &d, x, dx, dx);
    else run->kernels->gelu_backward(run, x, dx, dx, run->batch * c->seq * c->hidden);
}

static mo_attention_desc attention_desc(const gpt_run *run) {
    const gpt_config *c = run->config;
    return (mo_attention_desc){.batch = run->batch,
        .seq = c->seq,
        .heads = c->heads,
        .head_size = c->channels / c->heads,
        .stride = gpt_width(c, WIDTH_QKV),
        .kv_heads = c->kv_heads};
}

// Forward and backward of the halves of a block, t: their tensors; the numbers are the sub-steps of
// model.c. y NULL: a recompute whose output nobody reads; what backward computes again itself is
// left out then. dx may be where dy is. At the compressed level what backward needs becomes codes
// after its last use.
enum { OF_QKV = 1, OF_ATT, OF_FC, OF_RESIDUAL }; // seeds of their codes

static void attention_forward(
    const gpt_run *run, size_t layer, const float *x, float *const *t, float *y) {
    const size_t width = run->config->channels, v = width + gpt_width(run->config, WIDTH_KV);
    const mo_layernorm_desc norm = block_norm(run, layer, NORM1, t[STATS1]);
    const mo_attention_desc attention = attention_desc(run);
    const mo_attention_tensors qkv = {
        .q = t[QKV], .k = t[QKV] + width, .v = t[QKV] + v, .out = t[ATT], .lse = t[LSE]};
    const linear to_qkv = block_linear(run, layer, TO_QKV);
    const linear project = block_linear(run, layer, PROJECT);
    run->kernels->norm_forward(run, &norm, x, t[LN1]);  // 0
    linear_forward(run, &to_qkv, t[LN1], NULL, t[QKV]); // 1
    rotate(run, false, t[QKV]);
    run->kernels->attention_forward(run, &attention, &qkv); // 2
    gpt_compress(run, OF_QKV, t[QKV], to_qkv.rows * to_qkv.out, t[QKV_CODES]);
    if (y) linear_forward(run, &project, t[ATT], x, y); // 3
    gpt_compress(run, OF_ATT, t[ATT], project.rows * project.in, t[ATT_CODES]);
}

static void mlp_forward(
    const gpt_run *run, size_t layer, int light, const float *x, float *const *t, float *y) {
    const mo_layernorm_desc norm = block_norm(run, layer, NORM2, t[STATS2]);
    const linear fc = block_linear(run, layer, TO_HIDDEN);
    const linear out = block_linear(run, layer, FROM_HIDDEN);
    run->kernels->norm_forward(run, &norm, x, t[LN2]); // 0
    linear_forward(run, &fc, t[LN2], NULL, t[FC]);     // 1
    if (y || !light) activate(run, t[FC], t[ACT]);     // 2
    gpt_compress(run, OF_FC, t[FC], fc.rows * fc.out, t[FC_CODES]);
    if (y) linear_forward(run, &out, t[ACT], x, y); // 3
}

// dx = dy, to which the rest of the gradient is added
static void pass_on(const gpt_run *run, const float *dy, float *dx) {
    if (dx != dy)
        run->kernels->copy(run, dy, dx, run->batch * run->config->seq * run->config->channels);
}

// x_codes NULL: x is there.
static void mlp_backward(const gpt_run *run, size_t layer, int light, float *x, const void *x_codes,
    const float *dy, float *const *t, float *dx) {
    mo_layernorm_desc norm = block_norm(run, layer, NORM2, t[STATS2]);
    const linear fc = block_linear(run, layer, TO_HIDDEN);
    const linear out = block_linear(run, layer, FROM_HIDDEN);
    norm.add = 1;

    gpt_expand(run, t[FC_CODES], fc.rows * fc.out, t[FC]); // 0
    if (light) activate(run, t[FC], t[ACT]);
    linear_backward_weight(run, &out, t[ACT], dy);
    linear_backward_input(run, &out, dy, t[DFC], fc.out); // 1
    activate_backward(run, t[FC], t[DFC]);                // 2
    gpt_expand(run, x_codes, fc.rows * fc.in, x);         // 3
    if (light) run->kernels->norm_apply(run, &norm, x, t[LN2]);
    linear_backward_weight(run, &fc, t[LN2], t[DFC]);
    linear_backward_input(run, &fc, t[DFC], t[DLN2], 0); // 4
    pass_on(run, dy, dx);                                // 5
    run->kernels->norm_backward(run, &norm, x, t[DLN2], dx);
}

static void attention_backward(const gpt_run *run, size_t layer, int light, const float *x,
    const float *dy, float *const *t, float *dx) {
    const size_t width = run->config->channels, v = width + gpt_width(run->config, WIDTH_KV);
    mo_layernorm_desc norm = block_norm(run, layer, NORM1, t[STATS1]);
    const mo_attention_desc attention = attention_desc(run);
    const mo_attention_tensors qkv = {.q = t[QKV],
        .k = t[QKV] + width,
        .v = t[QKV] + v,
        .out = t[ATT],
        .lse = t[LSE],
        .dout = t[DATT],
        .dq = t[DQKV],
        .dk = t[DQKV] + width,
        .dv = t[DQKV] + v};
    const linear to_qkv = block_linear(run, layer, TO_QKV);
    const linear project = block_linear(run, layer, PROJECT);
    norm.add = 1;

    gpt_expand(run, t[ATT_CODES], project.rows * project.in, t[ATT]); // 0
    linear_backward_weight(run, &project, t[ATT], dy);
    linear_backward_input(run, &project, dy, t[DATT], 0);
    gpt_expand(run, t[QKV_CODES], to_qkv.rows * to_qkv.out, t[QKV]);
    run->kernels->attention_backward(run, &attention, &qkv); // 1
    rotate(run, true, t[DQKV]);
    if (light) run->kernels->norm_apply(run, &norm, x, t[LN1]); // 2
    linear_backward_weight(run, &to_qkv, t[LN1], t[DQKV]);
    linear_backward_input(run, &to_qkv, t[DQKV], t[DLN1], 0); // 3
    pass_on(run, dy, dx);                                     // 4
    run->kernels->norm_backward(run, &norm, x, t[DLN1], dx);
}

// ---- head -------------------------------------------------------------------------------------

static void head_distill(
    gpt_run *run, const mo_linear_ce_desc *ce, const mo_linear_ce_tensors *tensors) {
    const distillation *from = run->distill;
    const mo_linear_kd_tensors t = {.ce = *tensors, .teacher_x = from->x, .teacher_w = from->w};
    mo_linear_kd_desc d = {.ce = *ce,
        .teacher_channels = from->channels,
        .temperature = from->temperature,
        .weight = from->weight};
    d.ce.workspace_size = run->kernels->linear_kd_workspace_size(&d);
    run->kernels->linear_kd(run, &d, &t);
}

static void head_step(gpt_run *run, const float *x, float *const *t, float *dx) {
    const size_t rows = run->batch * run->config->seq, width = run->config->channels;
    const mo_param *w = gpt_last_norm(run->config, run->params);
    const mo_param *head = w + gpt_head_params(run->config); // behind the norm
    const mo_layernorm_desc norm = gpt_norm(run, w, t[HEAD_STATS]);
    mo_linear_ce_desc ce = {.rows = rows,
        .channels = width,
        .vocab = run->config->vocab,
        .chunk_rows = run->loss_rows,
        .scale = run->loss_scale,
        .workspace = t[HEAD_LOGITS]};
    mo_linear_ce_tensors tensors = {.x = t[HEAD_LNF],
        .w = head->data,
        .targets = run->targets,
        .dx = t[HEAD_DLNF],
        .dw = head->grad};
    run->kernels->norm_forward(run, &norm, x, t[HEAD_LNF]);
    if (run->evaluate) tensors.dx = tensors.dw = NULL;
    if (run->distill) head_distill(run, &ce, &tensors);
    else {
        ce.workspace_size = run->kernels->linear_ce_workspace_size(&ce);
        run->kernels->linear_ce(run, &ce, &tensors);
    }
    if (!run->evaluate) run->kernels->norm_backward(run, &norm, x, t[HEAD_DLNF], dx);
}

static void stage_forward(const gpt_run *run, const mo_step *s) {
    float *const *t = (float *const *)s->tensors;
    const size_t i = s->stage - 1; // stage 0 is the embedding
    if (!run->halves) {
        attention_forward(run, i, s->x, t, t[BLOCK_RESIDUAL]);
        mlp_forward(run, i, s->light, t[BLOCK_RESIDUAL], t + BLOCK_MLP, s->y);
        gpt_compress(run, OF_RESIDUAL, t[BLOCK_RESIDUAL],
            run->batch * run->config->seq * run->config->channels, t[BLOCK_RESIDUAL_CODES]);
    } else if (i % 2 == 0) attention_forward(run, i / 2, s->x, t, s->y);
    else mlp_forward(run, i / 2, s->light, s->x, t, s->y);
}

static void stage_backward(const gpt_run *run, const mo_step *s) {
    float *const *t = (float *const *)s->tensors;
    const size_t i = s->stage - 1;
    if (!run->halves) {
        mlp_backward(run, i, s->light, t[BLOCK_RESIDUAL], t[BLOCK_RESIDUAL_CODES], s->dy,
            t + BLOCK_MLP, s->dx);
        attention_backward(run, i, s->light, s->x, s->dx, t, s->dx);
    } else if (i % 2 == 0) attention_backward(run, i / 2, s->light, s->x, s->dy, t, s->dx);
    else mlp_backward(run, i / 2, s->light, (float *)(uintptr_t)s->x, NULL, s->dy, t, s->dx);
}

stage_params gpt_stage_params(const gpt_run *run, const mo_step *step) {
    const gpt_config *c = run->config;
    const size_t i = step->stage - 1, n = c->arch->n_params, second = c->arch->parts[NORM2].first;
    const size_t first = gpt_front(c) + (run->halves ? i / 2 : i) * n;
    if (step->stage == 0) return (stage_params){0, gpt_front(c), 0};
    if (step->op == MO_STEP_LOSS)
        return (stage_params){(size_t)(gpt_last_norm(c, run->params) - run->params->items),
            gpt_head_params(c), N_HEAD_TENSORS};
    if (!run->halves) return (stage_params){first, n, N_BLOCK_TENSORS};
    if (i % 2 == 0) return (stage_params){first, second, N_ATTENTION_TENSORS};
    return (stage_params){first + second, n - second, N_MLP_TENSORS};
}

static bool trains_embedding(const gpt_run *run) {
    const mo_param *p = run->params->items;
    return p[0].grad || (run->config->arch->positions && p[1].grad);
}

void gpt_step(gpt_run *run, const mo_step *step) {
    run->seed = step->seed;
    switch (step->op) {
    case MO_STEP_FORWARD:
    case MO_STEP_RECOMPUTE:
        if (step->stage == 0) run->kernels->embedding_forward(run, step->y);
        else stage_forward(run, step);
        break;
    case MO_STEP_LOSS: head_step(run, step->x, (float *const *)step->tensors, step->dx); break;
    case MO_STEP_BACKWARD:
        if (step->stage != 0) stage_backward(run, step);
        else if (trains_embedding(run)) run->kernels->embedding_backward(run, step->dy);
        break;
    default: break; // copies: the kernels' owner
    }
}
