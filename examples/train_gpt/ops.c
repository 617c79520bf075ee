// ops.c - what the stages compute: every step of the plan comes here.
#include "app.h"

#include <string.h>

// ---- linear layers ----------------------------------------------------------------------------

typedef struct linear {
    size_t rows, in, out;
    const float *weight, *bias; // [in x out], [out]
    float *dweight, *dbias;
} linear;

static linear block_linear(const gpt_run *run, size_t layer, int weight, size_t in, size_t out) {
    const mo_param *w = &run->params->items[2 + layer * N_BLOCK_PARAMS + (size_t)weight];
    const size_t width = run->config->channels, rows = run->batch * run->config->seq;
    return (linear){rows, in * width, out * width, w[0].data, w[1].data, w[0].grad, w[1].grad};
}

// y = x weight + bias (+ residual): y is filled first, so that the product adds to it
static void linear_forward(
    const gpt_run *run, const linear *l, const float *x, const float *residual, float *y) {
    const mo_gemm_desc d = {.m = l->rows, .n = l->out, .k = l->in, .beta = 1};
    run->kernels->bias_forward(run, l->bias, residual, l->rows, l->out, y);
    run->kernels->gemm(run, &d, x, l->weight, y);
}

// dweight += x^T dy, dbias += sum of dy
static void linear_backward_weight(
    const gpt_run *run, const linear *l, const float *x, const float *dy) {
    const mo_gemm_desc d = {.m = l->in, .n = l->out, .k = l->rows, .trans_a = 1, .beta = 1};
    run->kernels->bias_backward(run, dy, l->rows, l->out, l->dbias);
    run->kernels->gemm(run, &d, x, dy, l->dweight);
}

// dx = dy weight^T
static void linear_backward_input(const gpt_run *run, const linear *l, const float *dy, float *dx) {
    const mo_gemm_desc d = {.m = l->rows, .n = l->in, .k = l->out, .trans_b = 1};
    run->kernels->gemm(run, &d, dy, l->weight, dx);
}

// ---- block ------------------------------------------------------------------------------------

// Norm LN1_W or LN2_W of a block: weight, bias, gradients, and where its stats are.
static mo_layernorm_desc block_norm(const gpt_run *run, size_t layer, int which, float *stats) {
    const mo_param *w = &run->params->items[2 + layer * N_BLOCK_PARAMS + (size_t)which];
    const size_t rows = run->batch * run->config->seq;
    return (mo_layernorm_desc){.n = rows,
        .channels = run->config->channels,
        .weight = w[0].data,
        .bias = w[1].data,
        .dweight = w[0].grad,
        .dbias = w[1].grad,
        .mean = stats,
        .rstd = stats + rows};
}

static mo_attention_desc attention_desc(const gpt_run *run) {
    const gpt_config *c = run->config;
    return (mo_attention_desc){.batch = run->batch,
        .seq = c->seq,
        .heads = c->heads,
        .head_size = c->channels / c->heads,
        .stride = 3 * c->channels};
}

// Forward and backward of the halves of a block, t: their tensors; the numbers are the sub-steps of
// model.c. y NULL: a recompute whose output nobody reads; what backward computes again itself is
// left out then. dx may be where dy is.

static void attention_forward(
    const gpt_run *run, size_t layer, const float *x, float *const *t, float *y) {
    const size_t width = run->config->channels;
    const mo_layernorm_desc norm = block_norm(run, layer, LN1_W, t[STATS1]);
    const mo_attention_desc attention = attention_desc(run);
    const mo_attention_tensors qkv = {
        .q = t[QKV], .k = t[QKV] + width, .v = t[QKV] + 2 * width, .out = t[ATT], .lse = t[LSE]};
    const linear to_qkv = block_linear(run, layer, QKV_W, 1, 3);
    const linear project = block_linear(run, layer, PROJ_W, 1, 1);
    run->kernels->layernorm_forward(run, &norm, x, t[LN1]); // 0
    linear_forward(run, &to_qkv, t[LN1], NULL, t[QKV]);     // 1
    run->kernels->attention_forward(run, &attention, &qkv); // 2
    if (y) linear_forward(run, &project, t[ATT], x, y);     // 3
}

static void mlp_forward(
    const gpt_run *run, size_t layer, int light, const float *x, float *const *t, float *y) {
    const size_t n = run->batch * run->config->seq * 4 * run->config->channels;
    const mo_layernorm_desc norm = block_norm(run, layer, LN2_W, t[STATS2]);
    const linear fc = block_linear(run, layer, FC_W, 1, 4);
    const linear out = block_linear(run, layer, OUT_W, 4, 1);
    run->kernels->layernorm_forward(run, &norm, x, t[LN2]);              // 0
    linear_forward(run, &fc, t[LN2], NULL, t[FC]);                       // 1
    if (y || !light) run->kernels->gelu_forward(run, t[FC], t[GELU], n); // 2
    if (y) linear_forward(run, &out, t[GELU], x, y);                     // 3
}

// dx = dy, to which the rest of the gradient is added
static void pass_on(const gpt_run *run, const float *dy, float *dx) {
    if (dx != dy)
        run->kernels->copy(run, dy, dx, run->batch * run->config->seq * run->config->channels);
}

static void mlp_backward(const gpt_run *run, size_t layer, int light, const float *x,
    const float *dy, float *const *t, float *dx) {
    const size_t n = run->batch * run->config->seq * 4 * run->config->channels;
    mo_layernorm_desc norm = block_norm(run, layer, LN2_W, t[STATS2]);
    const linear fc = block_linear(run, layer, FC_W, 1, 4);
    const linear out = block_linear(run, layer, OUT_W, 4, 1);
    norm.add = 1;

    if (light) run->kernels->gelu_forward(run, t[FC], t[GELU], n); // 0
    linear_backward_weight(run, &out, t[GELU], dy);
    linear_backward_input(run, &out, dy, t[DFC]);                    // 1
    run->kernels->gelu_backward(run, t[FC], t[DFC], t[DFC], n);      // 2
    if (light) run->kernels->layernorm_apply(run, &norm, x, t[LN2]); // 3
    linear_backward_weight(run, &fc, t[LN2], t[DFC]);
    linear_backward_input(run, &fc, t[DFC], t[DLN2]); // 4
    pass_on(run, dy, dx);                             // 5
    run->kernels->layernorm_backward(run, &norm, x, t[DLN2], dx);
}

static void attention_backward(const gpt_run *run, size_t layer, int light, const float *x,
    const float *dy, float *const *t, float *dx) {
    const size_t width = run->config->channels;
    mo_layernorm_desc norm = block_norm(run, layer, LN1_W, t[STATS1]);
    const mo_attention_desc attention = attention_desc(run);
    const mo_attention_tensors qkv = {.q = t[QKV],
        .k = t[QKV] + width,
        .v = t[QKV] + 2 * width,
        .out = t[ATT],
        .lse = t[LSE],
        .dout = t[DATT],
        .dq = t[DQKV],
        .dk = t[DQKV] + width,
        .dv = t[DQKV] + 2 * width};
    const linear to_qkv = block_linear(run, layer, QKV_W, 1, 3);
    const linear project = block_linear(run, layer, PROJ_W, 1, 1);
    norm.add = 1;

    linear_backward_weight(run, &project, t[ATT], dy); // 0
    linear_backward_input(run, &project, dy, t[DATT]);
    run->kernels->attention_backward(run, &attention, &qkv);         // 1
    if (light) run->kernels->layernorm_apply(run, &norm, x, t[LN1]); // 2
    linear_backward_weight(run, &to_qkv, t[LN1], t[DQKV]);
    linear_backward_input(run, &to_qkv, t[DQKV], t[DLN1]); // 3
    pass_on(run, dy, dx);                                  // 4
    run->kernels->layernorm_backward(run, &norm, x, t[DLN1], dx);
}

// ---- head -------------------------------------------------------------------------------------

static void head_step(gpt_run *run, const float *x, float *const *t, float *dx) {
    const size_t rows = run->batch * run->config->seq, width = run->config->channels;
    const mo_param *w = &run->params->items[2 + run->config->layers * N_BLOCK_PARAMS];
    const mo_layernorm_desc norm = {.n = rows,
        .channels = width,
        .weight = w[0].data,
        .bias = w[1].data,
        .dweight = w[0].grad,
        .dbias = w[1].grad,
        .mean = t[HEAD_STATS],
        .rstd = t[HEAD_STATS] + rows};
    mo_linear_ce_desc ce = {.rows = rows,
        .channels = width,
        .vocab = run->config->vocab,
        .chunk_rows = run->loss_rows,
        .scale = run->loss_scale,
        .workspace = t[HEAD_LOGITS]};
    ce.workspace_size = run->kernels->linear_ce_workspace_size(&ce);
    const mo_linear_ce_tensors tensors = {.x = t[HEAD_LNF],
        .w = w[2].data,
        .targets = run->targets,
        .dx = t[HEAD_DLNF],
        .dw = w[2].grad};
    run->kernels->layernorm_forward(run, &norm, x, t[HEAD_LNF]);
    run->kernels->linear_ce(run, &ce, &tensors);
    run->kernels->layernorm_backward(run, &norm, x, t[HEAD_DLNF], dx);
}

static void stage_forward(const gpt_run *run, const mo_step *s) {
    float *const *t = (float *const *)s->tensors;
    const size_t i = s->stage - 1; // stage 0 is the embedding
    if (!run->halves) {
        attention_forward(run, i, s->x, t, t[BLOCK_RESIDUAL]);
        mlp_forward(run, i, s->light, t[BLOCK_RESIDUAL], t + BLOCK_MLP, s->y);
    } else if (i % 2 == 0) attention_forward(run, i / 2, s->x, t, s->y);
    else mlp_forward(run, i / 2, s->light, s->x, t, s->y);
}

static void stage_backward(const gpt_run *run, const mo_step *s) {
    float *const *t = (float *const *)s->tensors;
    const size_t i = s->stage - 1;
    if (!run->halves) {
        mlp_backward(run, i, s->light, t[BLOCK_RESIDUAL], s->dy, t + BLOCK_MLP, s->dx);
        attention_backward(run, i, s->light, s->x, s->dx, t, s->dx);
    } else if (i % 2 == 0) attention_backward(run, i / 2, s->light, s->x, s->dy, t, s->dx);
    else mlp_backward(run, i / 2, s->light, s->x, s->dy, t, s->dx);
}

void gpt_step(gpt_run *run, const mo_step *step) {
    switch (step->op) {
    case MO_STEP_FORWARD:
    case MO_STEP_RECOMPUTE:
        if (step->stage == 0) run->kernels->embedding_forward(run, step->y);
        else stage_forward(run, step);
        break;
    case MO_STEP_LOSS: head_step(run, step->x, (float *const *)step->tensors, step->dx); break;
    case MO_STEP_BACKWARD:
        if (step->stage == 0) run->kernels->embedding_backward(run, step->dy);
        else stage_backward(run, step);
        break;
    default: break; // copies: the kernels' owner
    }
}
