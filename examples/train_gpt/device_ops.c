// device_ops.c - what the stages compute with on an OpenCL device. Every call is enqueued behind
// the ones before it.
#ifdef NO_OPENCL
typedef int device_ops_is_empty;
#else
#include "device.h"

#include <stdlib.h>
#include <string.h>

static mo_cl_mem workspace(const gpt_run *run) {
    return device_at(run->device, run->workspace, run->workspace_size);
}

// ---- linear layers -----------------------------------------------------------------------------

static void bias_forward(const gpt_run *run, const float *bias, const float *residual, size_t rows,
    size_t columns, float *y) {
    device *d = run->device;
    check(mo_cl_bias_forward(&d->cl, device_floats(d, bias, columns),
              device_floats(d, residual, rows * columns), rows, columns,
              device_floats(d, y, rows * columns)),
        "mo_cl_bias_forward");
}

static void bias_backward(
    const gpt_run *run, const float *dy, size_t rows, size_t columns, float *dbias) {
    device *d = run->device;
    check(mo_cl_bias_backward(&d->cl, device_floats(d, dy, rows * columns), rows, columns,
              device_floats(d, dbias, columns), workspace(run)),
        "mo_cl_bias_backward");
}

// rows x columns, or that transposed, in rows that are ld apart (0 = without a gap)
static mo_cl_mem matrix(
    const device *d, const float *x, size_t rows, size_t columns, int transposed, size_t ld) {
    const size_t n = transposed ? columns : rows, width = transposed ? rows : columns;
    return device_floats(d, x, (n - 1) * (ld ? ld : width) + width);
}

static void gemm(
    const gpt_run *run, const mo_gemm_desc *desc, const float *a, const float *b, float *c) {
    device *d = run->device;
    const mo_cl_gemm_env env = {.cl = &d->cl, .workspace = workspace(run)};
    const size_t m = desc->m, n = desc->n, k = desc->k;
    check(mo_cl_gemm(&env, desc, matrix(d, a, m, k, desc->trans_a, desc->lda),
              matrix(d, b, k, n, desc->trans_b, desc->ldb), matrix(d, c, m, n, 0, desc->ldc)),
        "mo_cl_gemm");
}

static void gemm_param(
    const gpt_run *run, const mo_gemm_desc *desc, const float *a, const mo_param *b, float *c) {
    device *d = run->device;
    const mo_cl_gemm_env env = {.cl = &d->cl, .workspace = workspace(run)};
    const size_t m = desc->m, n = desc->n;
    const mo_cl_gemm_operand left = {
        .type = MO_GEMM_F32, .data = matrix(d, a, m, desc->k, desc->trans_a, desc->lda)};
    const mo_cl_gemm_operand right = {
        .type = b->is_bf16 ? MO_GEMM_BF16 : MO_GEMM_F32, .data = device_param(d, b)};
    check(mo_cl_gemm_mixed(&env, desc, &left, &right, matrix(d, c, m, n, 0, desc->ldc)),
        "mo_cl_gemm_mixed");
}

// ---- adapters ---------------------------------------------------------------------------------

// The device's side of a frozen weight, whose addresses are the plan's.
static mo_cl_weight weight_at(const device *d, const mo_weight *w) {
    mo_cl_weight on = {.type = w->type,
        .rows = w->rows,
        .columns = w->columns,
        .block = w->block,
        .nested = w->nested,
        .offset = w->offset};
    check(mo_cl_weight_place(&on, device_at(d, w->data, mo_weight_size(w))), "mo_cl_weight_place");
    return on;
}

typedef struct adapter {
    mo_cl_gemm_env env;
    mo_cl_weight weight;
    mo_cl_lora_desc desc;
    mo_cl_lora_tensors tensors;
    size_t n_x, n_y, n_dx;
} adapter;

// Products and an adapter share the workspace: its part is at the end.
static void adapter_at(const gpt_run *run, const gpt_adapted *l, bool gradients, adapter *at) {
    device *d = run->device;
    const mo_lora_desc like = lora_desc(run->config, run->rank, l->rows);
    const mo_lora_tensors t = lora_tensors(l, gradients);
    const mo_cl_mem all = workspace(run);
    const size_t rest = run->workspace_size - run->lora_size;
    at->weight = weight_at(d, l->weight);
    at->env = (mo_cl_gemm_env){.cl = &d->cl, .workspace = mo_cl_part(&all, 0, rest)};
    at->desc = (mo_cl_lora_desc){.rows = l->rows,
        .rank = like.rank,
        .alpha = like.alpha,
        .in_out = like.in_out,
        .add = l->add,
        .y_stride = l->y_stride,
        .dx_stride = l->dx_stride,
        .env = &at->env,
        .workspace = mo_cl_part(&all, rest, run->lora_size)};
    at->tensors = (mo_cl_lora_tensors){&at->weight, device_floats(d, t.a, l->a->n),
        device_floats(d, t.b, l->b->n), device_floats(d, t.da, l->a->n),
        device_floats(d, t.db, l->b->n)};
    const size_t in = l->a->shape[1], out = l->b->shape[0];
    at->n_x = l->rows * in;
    at->n_y = (l->rows - 1) * (l->y_stride ? l->y_stride : out) + out;
    at->n_dx = (l->rows - 1) * (l->dx_stride ? l->dx_stride : in) + in;
}

static void lora_forward(const gpt_run *run, const gpt_adapted *l, const float *x, float *y) {
    adapter at;
    adapter_at(run, l, false, &at);
    check(mo_cl_lora_forward(&at.desc, &at.tensors, device_floats(run->device, x, at.n_x),
              device_floats(run->device, y, at.n_y)),
        "mo_cl_lora_forward");
}

static void lora_backward_adapter(
    const gpt_run *run, const gpt_adapted *l, const float *x, const float *dy) {
    adapter at;
    adapter_at(run, l, true, &at);
    check(mo_cl_lora_backward(&at.desc, &at.tensors, device_floats(run->device, x, at.n_x),
              device_floats(run->device, dy, at.n_y), (mo_cl_mem){0}),
        "mo_cl_lora_backward");
}

static void lora_backward_input(
    const gpt_run *run, const gpt_adapted *l, const float *dy, float *dx) {
    adapter at;
    adapter_at(run, l, false, &at);
    check(mo_cl_lora_backward(&at.desc, &at.tensors, (mo_cl_mem){0},
              device_floats(run->device, dy, at.n_y), device_floats(run->device, dx, at.n_dx)),
        "mo_cl_lora_backward");
}

// ---- embedding --------------------------------------------------------------------------------

static mo_cl_embedding_desc embedding_desc(const gpt_run *run) {
    const gpt_config *c = run->config;
    return (mo_cl_embedding_desc){run->batch * c->seq, c->seq, c->channels, c->vocab};
}

static void embedding_forward(const gpt_run *run, float *y) {
    device *d = run->device;
    const mo_cl_embedding_desc e = embedding_desc(run);
    const gpt_config *c = run->config;
    const mo_param *p = run->params->items;
    check(mo_cl_embedding_forward(&d->cl, &e, device_at(d, run->inputs, e.rows * sizeof(int32_t)),
              device_floats(d, p[0].data, p[0].n),
              c->arch->positions ? device_floats(d, p[1].data, p[1].n) : (mo_cl_mem){0},
              device_floats(d, y, e.rows * e.channels)),
        "mo_cl_embedding_forward");
}

static void embedding_backward(const gpt_run *run, const float *dy) {
    device *d = run->device;
    const mo_cl_embedding_desc e = embedding_desc(run);
    const gpt_config *c = run->config;
    const mo_param *p = run->params->items;
    check(mo_cl_embedding_backward(&d->cl, &e, device_at(d, run->inputs, e.rows * sizeof(int32_t)),
              device_floats(d, dy, e.rows * e.channels), device_floats(d, p[0].grad, p[0].n),
              c->arch->positions ? device_floats(d, p[1].grad, p[1].n) : (mo_cl_mem){0}),
        "mo_cl_embedding_backward");
}

// ---- the rest of the stages -------------------------------------------------------------------

static mo_cl_layernorm_desc layernorm_desc(const gpt_run *run, const mo_layernorm_desc *from) {
    const device *d = run->device;
    return (mo_cl_layernorm_desc){.n = from->n,
        .channels = from->channels,
        .epsilon = from->epsilon,
        .weight = device_floats(d, from->weight, from->channels),
        .bias = device_floats(d, from->bias, from->channels),
        .mean = device_floats(d, from->mean, from->n),
        .rstd = device_floats(d, from->rstd, from->n),
        .dweight = device_floats(d, from->dweight, from->channels),
        .dbias = device_floats(d, from->dbias, from->channels),
        .add = from->add,
        .workspace = workspace(run)};
}

// Without a bias: RMSNorm.
static mo_cl_rmsnorm_desc rmsnorm_desc(const gpt_run *run, const mo_layernorm_desc *from) {
    const device *d = run->device;
    return (mo_cl_rmsnorm_desc){.n = from->n,
        .channels = from->channels,
        .epsilon = from->epsilon,
        .weight = device_floats(d, from->weight, from->channels),
        .rstd = device_floats(d, from->rstd, from->n),
        .dweight = device_floats(d, from->dweight, from->channels),
        .add = from->add,
        .workspace = workspace(run)};
}

static void norm_forward(
    const gpt_run *run, const mo_layernorm_desc *desc, const float *x, float *y) {
    device *d = run->device;
    const size_t n = desc->n * desc->channels;
    const mo_cl_mem from = device_floats(d, x, n), to = device_floats(d, y, n);
    const mo_cl_layernorm_desc norm = layernorm_desc(run, desc);
    const mo_cl_rmsnorm_desc rms = rmsnorm_desc(run, desc);
    check(desc->bias ? mo_cl_layernorm_forward(&d->cl, &norm, from, to)
                     : mo_cl_rmsnorm_forward(&d->cl, &rms, from, to),
        "norm");
}

static void norm_apply(
    const gpt_run *run, const mo_layernorm_desc *desc, const float *x, float *y) {
    device *d = run->device;
    const size_t n = desc->n * desc->channels;
    const mo_cl_mem from = device_floats(d, x, n), to = device_floats(d, y, n);
    const mo_cl_layernorm_desc norm = layernorm_desc(run, desc);
    const mo_cl_rmsnorm_desc rms = rmsnorm_desc(run, desc);
    check(desc->bias ? mo_cl_layernorm_apply(&d->cl, &norm, from, to)
                     : mo_cl_rmsnorm_apply(&d->cl, &rms, from, to),
        "norm");
}

static void norm_backward(
    const gpt_run *run, const mo_layernorm_desc *desc, const float *x, const float *dy, float *dx) {
    device *d = run->device;
    const size_t n = desc->n * desc->channels;
    const mo_cl_mem at = device_floats(d, x, n), from = device_floats(d, dy, n);
    const mo_cl_mem to = device_floats(d, dx, n);
    const mo_cl_layernorm_desc norm = layernorm_desc(run, desc);
    const mo_cl_rmsnorm_desc rms = rmsnorm_desc(run, desc);
    check(desc->bias ? mo_cl_layernorm_backward(&d->cl, &norm, at, from, to)
                     : mo_cl_rmsnorm_backward(&d->cl, &rms, at, from, to),
        "norm");
}

static mo_cl_attention_desc attention_desc(const gpt_run *run, const mo_attention_desc *from) {
    return (mo_cl_attention_desc){.batch = from->batch,
        .seq = from->seq,
        .heads = from->heads,
        .head_size = from->head_size,
        .stride = from->stride,
        .scale = from->scale,
        .full = from->full,
        .workspace = workspace(run),
        .kv_heads = from->kv_heads};
}

static mo_cl_attention_tensors attention_tensors(
    const device *d, const mo_attention_desc *desc, const mo_attention_tensors *t) {
    const size_t rows = desc->batch * desc->seq, width = desc->heads * desc->head_size;
    const size_t n = rows * width, before = (rows - 1) * desc->stride, strided = before + width;
    const size_t kv = before + desc->kv_heads * desc->head_size;
    return (mo_cl_attention_tensors){.q = device_floats(d, t->q, strided),
        .k = device_floats(d, t->k, kv),
        .v = device_floats(d, t->v, kv),
        .out = device_floats(d, t->out, n),
        .lse = device_floats(d, t->lse, rows * desc->heads),
        .dout = device_floats(d, t->dout, n),
        .dq = device_floats(d, t->dq, strided),
        .dk = device_floats(d, t->dk, kv),
        .dv = device_floats(d, t->dv, kv)};
}

static void attention_forward(
    const gpt_run *run, const mo_attention_desc *desc, const mo_attention_tensors *t) {
    device *d = run->device;
    const mo_cl_attention_desc a = attention_desc(run, desc);
    const mo_cl_attention_tensors tensors = attention_tensors(d, desc, t);
    check(mo_cl_attention_forward(&d->cl, &a, &tensors), "mo_cl_attention_forward");
}

static void attention_backward(
    const gpt_run *run, const mo_attention_desc *desc, const mo_attention_tensors *t) {
    device *d = run->device;
    const mo_cl_attention_desc a = attention_desc(run, desc);
    const mo_cl_attention_tensors tensors = attention_tensors(d, desc, t);
    check(mo_cl_attention_backward(&d->cl, &a, &tensors), "mo_cl_attention_backward");
}

static void compress(
    const gpt_run *run, const mo_compress_desc *desc, const float *x, size_t n, void *codes) {
    device *d = run->device;
    check(mo_cl_compress_encode(&d->cl, desc, device_floats(d, x, n), n,
              device_at(d, codes, mo_compress_size(desc, n))),
        "mo_cl_compress_encode");
}

static void expand(
    const gpt_run *run, const mo_compress_desc *desc, const void *codes, size_t n, float *x) {
    device *d = run->device;
    check(mo_cl_compress_decode(&d->cl, desc, device_at(d, codes, mo_compress_size(desc, n)), n,
              device_floats(d, x, n)),
        "mo_cl_compress_decode");
}

static void gelu_forward(const gpt_run *run, const float *x, float *y, size_t n) {
    device *d = run->device;
    check(mo_cl_gelu_forward(&d->cl, device_floats(d, x, n), device_floats(d, y, n), n),
        "mo_cl_gelu_forward");
}

static void gelu_backward(
    const gpt_run *run, const float *x, const float *dy, float *dx, size_t n) {
    device *d = run->device;
    check(mo_cl_gelu_backward(
              &d->cl, device_floats(d, x, n), device_floats(d, dy, n), device_floats(d, dx, n), n),
        "mo_cl_gelu_backward");
}

// Of rows of gate and up, from where gate or up begins on.
static mo_cl_mem units(const device *d, const mo_swiglu_desc *s, const float *x) {
    return device_floats(d, x, (s->rows - 1) * s->stride + s->hidden);
}

static void swiglu_forward(
    const gpt_run *run, const mo_swiglu_desc *s, const float *gate_up, float *y) {
    device *d = run->device;
    check(mo_cl_swiglu_forward(&d->cl, s, units(d, s, gate_up), units(d, s, gate_up + s->hidden),
              device_floats(d, y, s->rows * s->hidden)),
        "mo_cl_swiglu_forward");
}

static void swiglu_backward(const gpt_run *run, const mo_swiglu_desc *s, const float *gate_up,
    const float *dy, float *dgate_up) {
    device *d = run->device;
    check(mo_cl_swiglu_backward(&d->cl, s, units(d, s, gate_up), units(d, s, gate_up + s->hidden),
              device_floats(d, dy, (s->rows - 1) * s->y_stride + s->hidden), units(d, s, dgate_up),
              units(d, s, dgate_up + s->hidden)),
        "mo_cl_swiglu_backward");
}

static void rope(const gpt_run *run, const mo_rope_desc *r, bool back, float *x) {
    device *d = run->device;
    const size_t rows = r->batch * r->seq, width = r->heads * r->head_size;
    const mo_cl_mem table = device_floats(d, r->table, r->seq * r->head_size);
    const mo_cl_mem at = device_floats(d, x, (rows - 1) * r->stride + width);
    check(
        back ? mo_cl_rope_backward(&d->cl, r, table, at) : mo_cl_rope_forward(&d->cl, r, table, at),
        "mo_cl_rope");
}

static mo_cl_linear_ce_desc linear_ce_desc(const mo_linear_ce_desc *from) {
    return (mo_cl_linear_ce_desc){.rows = from->rows,
        .channels = from->channels,
        .vocab = from->vocab,
        .chunk_rows = from->chunk_rows,
        .scale = from->scale};
}

static mo_cl_linear_ce_tensors linear_ce_tensors(
    const gpt_run *run, const mo_linear_ce_desc *desc, const mo_linear_ce_tensors *t) {
    const device *d = run->device;
    const size_t rows = desc->rows, n = rows * desc->channels, size = desc->vocab * desc->channels;
    return (mo_cl_linear_ce_tensors){.x = device_floats(d, t->x, n),
        .w = device_floats(d, t->w, size),
        .targets = device_at(d, t->targets, rows * sizeof *t->targets),
        .losses = device_floats(d, run->losses, rows),
        .dx = device_floats(d, t->dx, n),
        .dw = device_floats(d, t->dw, size)};
}

static void linear_ce(gpt_run *run, const mo_linear_ce_desc *desc, const mo_linear_ce_tensors *t) {
    device *d = run->device;
    const mo_cl_gemm_env env = {.cl = &d->cl, .workspace = workspace(run)};
    const mo_cl_linear_ce_tensors tensors = linear_ce_tensors(run, desc, t);
    mo_cl_linear_ce_desc ce = linear_ce_desc(desc);
    ce.env = &env;
    ce.workspace = device_at(d, desc->workspace, desc->workspace_size);
    check(mo_cl_linear_ce(&ce, &tensors, NULL), "mo_cl_linear_ce");
}

static mo_cl_linear_kd_desc linear_kd_desc(const mo_linear_kd_desc *from) {
    return (mo_cl_linear_kd_desc){.ce = linear_ce_desc(&from->ce),
        .teacher_channels = from->teacher_channels,
        .temperature = from->temperature,
        .weight = from->weight};
}

static void linear_kd(gpt_run *run, const mo_linear_kd_desc *desc, const mo_linear_kd_tensors *t) {
    device *d = run->device;
    const mo_cl_gemm_env env = {.cl = &d->cl, .workspace = workspace(run)};
    const size_t channels = desc->teacher_channels;
    const mo_cl_linear_kd_tensors tensors = {.ce = linear_ce_tensors(run, &desc->ce, &t->ce),
        .teacher_x = device_floats(d, t->teacher_x, desc->ce.rows * channels),
        .teacher_w = device_floats(d, t->teacher_w, desc->ce.vocab * channels)};
    mo_cl_linear_kd_desc kd = linear_kd_desc(desc);
    kd.ce.env = &env;
    kd.ce.workspace = device_at(d, desc->ce.workspace, desc->ce.workspace_size);
    check(mo_cl_linear_kd(&kd, &tensors, NULL), "mo_cl_linear_kd");
}

static double last_loss(const gpt_run *run) {
    device *d = run->device;
    const size_t rows = run->batch * run->config->seq;
    double loss = 0;
    check(mo_cl_linear_ce_read(
              &d->cl, device_floats(d, run->losses, rows), rows, run->loss_scale, &loss),
        "mo_cl_linear_ce_read");
    return loss;
}

static void copy(const gpt_run *run, const float *from, float *to, size_t n) {
    device *d = run->device;
    const mo_cl_mem a = device_floats(d, from, n), b = device_floats(d, to, n);
    check(mo_cl_copy_u32(&d->arena.heap, MO_CL_COMPUTE, &b, 0, &a, 0, n, NULL, NULL),
        "mo_cl_copy_u32");
}

const gpt_kernels device_kernels = {.bias_forward = bias_forward,
    .bias_backward = bias_backward,
    .gemm = gemm,
    .gemm_param = gemm_param,
    .norm_forward = norm_forward,
    .norm_apply = norm_apply,
    .norm_backward = norm_backward,
    .lora_forward = lora_forward,
    .lora_backward_adapter = lora_backward_adapter,
    .lora_backward_input = lora_backward_input,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .gelu_forward = gelu_forward,
    .gelu_backward = gelu_backward,
    .swiglu_forward = swiglu_forward,
    .swiglu_backward = swiglu_backward,
    .rope = rope,
    .compress = compress,
    .expand = expand,
    .embedding_forward = embedding_forward,
    .embedding_backward = embedding_backward,
    .linear_ce_workspace_size = mo_cl_training_ce_size,
    .linear_ce = linear_ce,
    .linear_kd_workspace_size = mo_cl_training_kd_size,
    .linear_kd = linear_kd,
    .loss = last_loss,
    .copy = copy};
#endif
