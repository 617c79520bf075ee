// ops.c - what the stages compute: every step of the plan comes here.
#include "app.h"

#include <string.h>

// tensors of a block and of the head, in the order of model.c
enum { LN1, STATS, QKV, LSE, ATT, RES, LN2, FC, GELU, DFC, DLN2, DATT, DQKV, DLN1 };
enum { HEAD_LNF, HEAD_STATS, HEAD_LOGITS, HEAD_DLNF };

// ---- rows and columns over threads ------------------------------------------------------------

typedef struct range_job {
    void (*task)(const void *job, size_t begin, size_t end);
    const void *job;
    size_t n, part;
} range_job;

static void range_task(void *context, int i) {
    const range_job *r = context;
    size_t begin = (size_t)i * r->part, end = begin + r->part;
    r->task(r->job, begin, end < r->n ? end : r->n);
}

// task for parts of 0..n-1 that are multiples of grain, whatever the number of threads
static void for_range(const mo_parallel *parallel, size_t n, size_t grain,
    void (*task)(const void *job, size_t begin, size_t end), const void *job) {
    size_t threads = (size_t)mo_parallel_threads(parallel), grains = (n + grain - 1) / grain;
    size_t part = (grains + threads - 1) / threads * grain;
    range_job r = {task, job, n, part};
    mo_parallel_run(parallel, (int)((n + part - 1) / part), range_task, &r);
}

// ---- linear layers ----------------------------------------------------------------------------

typedef struct fill_job {
    const float *bias, *residual;
    float *y;
    size_t columns;
} fill_job;

static void fill_rows(const void *context, size_t begin, size_t end) {
    const fill_job *f = context;
    for (size_t row = begin; row < end; row++) {
        float *restrict y = f->y + row * f->columns;
        const float *restrict r = f->residual ? f->residual + row * f->columns : NULL;
        if (r)
            for (size_t i = 0; i < f->columns; i++) y[i] = r[i] + f->bias[i];
        else memcpy(y, f->bias, f->columns * sizeof *y);
    }
}

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
    fill_job fill = {l->bias, residual, y, l->out};
    for_range(run->env.parallel, l->rows, 1, fill_rows, &fill);
    mo_gemm_desc d = {.m = l->rows, .n = l->out, .k = l->in, .beta = 1};
    check(mo_gemm(&run->env, &d, x, l->weight, y), "mo_gemm");
}

typedef struct column_job {
    const float *dy;
    float *sum;
    size_t rows, columns;
} column_job;

static void add_columns(const void *context, size_t begin, size_t end) {
    const column_job *c = context;
    for (size_t row = 0; row < c->rows; row++) {
        const float *restrict dy = c->dy + row * c->columns;
        float *restrict sum = c->sum;
        for (size_t i = begin; i < end; i++) sum[i] += dy[i];
    }
}

// dweight += x^T dy, dbias += sum of dy
static void linear_backward_weight(
    const gpt_run *run, const linear *l, const float *x, const float *dy) {
    column_job columns = {dy, l->dbias, l->rows, l->out};
    for_range(run->env.parallel, l->out, 64, add_columns, &columns);
    mo_gemm_desc d = {.m = l->in, .n = l->out, .k = l->rows, .trans_a = 1, .beta = 1};
    check(mo_gemm(&run->env, &d, x, dy, l->dweight), "mo_gemm");
}

// dx = dy weight^T
static void linear_backward_input(const gpt_run *run, const linear *l, const float *dy, float *dx) {
    mo_gemm_desc d = {.m = l->rows, .n = l->in, .k = l->out, .trans_b = 1};
    check(mo_gemm(&run->env, &d, dy, l->weight, dx), "mo_gemm");
}

// ---- embedding --------------------------------------------------------------------------------

typedef struct embedding_job {
    const gpt_run *run;
    float *y;        // forward
    const float *dy; // backward
} embedding_job;

static void embed_rows(const void *context, size_t begin, size_t end) {
    const embedding_job *e = context;
    const size_t width = e->run->config->channels, seq = e->run->config->seq;
    const float *wte = e->run->params->items[0].data, *wpe = e->run->params->items[1].data;
    for (size_t row = begin; row < end; row++) {
        const float *restrict token = wte + (size_t)e->run->inputs[row] * width;
        const float *restrict place = wpe + row % seq * width;
        float *restrict y = e->y + row * width;
        for (size_t i = 0; i < width; i++) y[i] = token[i] + place[i];
    }
}

// Columns go to threads: rows of wte meet more than once.
static void embed_backward_columns(const void *context, size_t begin, size_t end) {
    const embedding_job *e = context;
    const size_t width = e->run->config->channels, seq = e->run->config->seq;
    float *dwte = e->run->params->items[0].grad, *dwpe = e->run->params->items[1].grad;
    for (size_t row = 0; row < e->run->batch * seq; row++) {
        const float *restrict dy = e->dy + row * width;
        float *token = dwte + (size_t)e->run->inputs[row] * width;
        float *place = dwpe + row % seq * width;
        for (size_t i = begin; i < end; i++) token[i] += dy[i];
        for (size_t i = begin; i < end; i++) place[i] += dy[i];
    }
}

// ---- block ------------------------------------------------------------------------------------

// Norm number n (0, 1) of a block: weight, bias, gradients, and its half of the stats.
static mo_layernorm_desc block_norm(const gpt_run *run, size_t layer, int which, float *stats) {
    const mo_param *w = &run->params->items[2 + layer * N_BLOCK_PARAMS + (size_t)which];
    const size_t rows = run->batch * run->config->seq;
    float *mean = stats + (which == LN1_W ? 0 : 2 * rows);
    return (mo_layernorm_desc){.n = rows,
        .channels = run->config->channels,
        .weight = w[0].data,
        .bias = w[1].data,
        .dweight = w[0].grad,
        .dbias = w[1].grad,
        .mean = mean,
        .rstd = mean + rows,
        .parallel = run->env.parallel};
}

static mo_attention_desc attention_desc(const gpt_run *run) {
    const gpt_config *c = run->config;
    return (mo_attention_desc){.batch = run->batch,
        .seq = c->seq,
        .heads = c->heads,
        .head_size = c->channels / c->heads,
        .stride = 3 * c->channels,
        .workspace = run->attention_workspace,
        .workspace_size = run->attention_workspace_size,
        .parallel = run->env.parallel};
}

size_t gpt_attention_workspace_size(
    const gpt_config *c, size_t batch, const mo_parallel *parallel) {
    mo_attention_desc d = {.batch = batch,
        .seq = c->seq,
        .heads = c->heads,
        .head_size = c->channels / c->heads,
        .parallel = parallel};
    return mo_attention_workspace_size(&d);
}

// y NULL: a recompute whose output nobody reads. What backward computes again itself is left out.
static void block_forward(
    const gpt_run *run, size_t layer, int light, const float *x, float *const *t, float *y) {
    const size_t width = run->config->channels, rows = run->batch * run->config->seq;
    const mo_layernorm_desc norm1 = block_norm(run, layer, LN1_W, t[STATS]);
    const mo_layernorm_desc norm2 = block_norm(run, layer, LN2_W, t[STATS]);
    const mo_attention_desc attention = attention_desc(run);
    const mo_attention_tensors qkv = {
        .q = t[QKV], .k = t[QKV] + width, .v = t[QKV] + 2 * width, .out = t[ATT], .lse = t[LSE]};
    const linear to_qkv = block_linear(run, layer, QKV_W, 1, 3);
    const linear project = block_linear(run, layer, PROJ_W, 1, 1);
    const linear fc = block_linear(run, layer, FC_W, 1, 4);
    const linear out = block_linear(run, layer, OUT_W, 4, 1);

    check(mo_layernorm_forward(&norm1, x, t[LN1]), "mo_layernorm_forward");                // 0
    linear_forward(run, &to_qkv, t[LN1], NULL, t[QKV]);                                    // 1
    check(mo_attention_forward(&attention, &qkv), "mo_attention_forward");                 // 2
    linear_forward(run, &project, t[ATT], x, t[RES]);                                      // 3
    check(mo_layernorm_forward(&norm2, t[RES], t[LN2]), "mo_layernorm_forward");           // 4
    linear_forward(run, &fc, t[LN2], NULL, t[FC]);                                         // 5
    if (y || !light) mo_gelu_forward(t[FC], t[GELU], rows * 4 * width, run->env.parallel); // 6
    if (y) linear_forward(run, &out, t[GELU], t[RES], y);                                  // 7
}

static void mlp_backward(
    const gpt_run *run, size_t layer, int light, const float *dy, float *const *t, float *dx) {
    const size_t width = run->config->channels, rows = run->batch * run->config->seq;
    mo_layernorm_desc norm2 = block_norm(run, layer, LN2_W, t[STATS]);
    const linear fc = block_linear(run, layer, FC_W, 1, 4);
    const linear out = block_linear(run, layer, OUT_W, 4, 1);
    const mo_parallel *parallel = run->env.parallel;
    norm2.add = 1;

    if (light) mo_gelu_forward(t[FC], t[GELU], rows * 4 * width, parallel); // 0
    linear_backward_weight(run, &out, t[GELU], dy);
    linear_backward_input(run, &out, dy, t[DFC]);                                       // 1
    mo_gelu_backward(t[FC], t[DFC], t[DFC], rows * 4 * width, parallel);                // 2
    if (light) check(mo_layernorm_apply(&norm2, t[RES], t[LN2]), "mo_layernorm_apply"); // 3
    linear_backward_weight(run, &fc, t[LN2], t[DFC]);
    linear_backward_input(run, &fc, t[DFC], t[DLN2]); // 4
    memcpy(dx, dy, rows * width * sizeof *dx);        // 5
    check(mo_layernorm_backward(&norm2, t[RES], t[DLN2], dx), "mo_layernorm_backward");
}

static void attention_backward(
    const gpt_run *run, size_t layer, int light, const float *x, float *const *t, float *dx) {
    const size_t width = run->config->channels;
    mo_layernorm_desc norm1 = block_norm(run, layer, LN1_W, t[STATS]);
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
    norm1.add = 1;

    linear_backward_weight(run, &project, t[ATT], dx); // 6
    linear_backward_input(run, &project, dx, t[DATT]);
    check(mo_attention_backward(&attention, &qkv), "mo_attention_backward");       // 7
    if (light) check(mo_layernorm_apply(&norm1, x, t[LN1]), "mo_layernorm_apply"); // 8
    linear_backward_weight(run, &to_qkv, t[LN1], t[DQKV]);
    linear_backward_input(run, &to_qkv, t[DQKV], t[DLN1]);                         // 9
    check(mo_layernorm_backward(&norm1, x, t[DLN1], dx), "mo_layernorm_backward"); // 10
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
        .rstd = t[HEAD_STATS] + rows,
        .parallel = run->env.parallel};
    mo_linear_ce_desc ce = {.rows = rows,
        .channels = width,
        .vocab = run->config->vocab,
        .chunk_rows = run->loss_rows,
        .scale = run->loss_scale,
        .env = &run->env,
        .workspace = t[HEAD_LOGITS]};
    ce.workspace_size = mo_linear_ce_workspace_size(&ce);
    const mo_linear_ce_tensors tensors = {.x = t[HEAD_LNF],
        .w = w[2].data,
        .targets = run->targets,
        .dx = t[HEAD_DLNF],
        .dw = w[2].grad};
    check(mo_layernorm_forward(&norm, x, t[HEAD_LNF]), "mo_layernorm_forward");
    check(mo_linear_ce(&ce, &tensors, &run->loss), "mo_linear_ce");
    check(mo_layernorm_backward(&norm, x, t[HEAD_DLNF], dx), "mo_layernorm_backward");
}

void gpt_step(gpt_run *run, const mo_step *step) {
    float *const *t = (float *const *)step->tensors;
    const size_t rows = run->batch * run->config->seq;
    const size_t block = step->stage - 1; // stage 0 is the embedding
    embedding_job embedding = {run, step->y, step->dy};
    switch (step->op) {
    case MO_STEP_FORWARD:
    case MO_STEP_RECOMPUTE:
        if (step->stage == 0) for_range(run->env.parallel, rows, 1, embed_rows, &embedding);
        else block_forward(run, block, step->light, step->x, t, step->y);
        break;
    case MO_STEP_LOSS: head_step(run, step->x, t, step->dx); break;
    case MO_STEP_BACKWARD:
        if (step->stage == 0) {
            for_range(
                run->env.parallel, run->config->channels, 16, embed_backward_columns, &embedding);
        } else {
            mlp_backward(run, block, step->light, step->dy, t, step->dx);
            attention_backward(run, block, step->light, step->x, t, step->dx);
        }
        break;
    default: break; // this schedule moves nothing to another memory
    }
}
