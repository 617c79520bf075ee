// cases_device_model.c - products, attention and the loss on an OpenCL device: what is bound by
// arithmetic.
#ifndef NO_OPENCL
#include "device.h"

#include <string.h>

// ---- gemm -----------------------------------------------------------------------------------

typedef struct product {
    mo_cl_gemm_env env;
    mo_gemm_desc desc;
    mo_cl_mem a, b, c;
    mo_cl_gemm_operand weight; // of gemm.nf4
} product;

static void multiply(void *state) {
    product *s = state;
    must(mo_cl_gemm(&s->env, &s->desc, s->a, s->b, s->c));
}
static void multiply_nf4(void *state) {
    product *s = state;
    const mo_cl_gemm_operand a = {.data = s->a};
    must(mo_cl_gemm_mixed(&s->env, &s->desc, &a, &s->weight, s->c));
}

static bool setup_gemm(work *w) {
    product *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    const mo_gemm_desc *d = &gemm_shapes[w->variant];
    s->desc = *d;
    s->env.cl = &w->device->cl;
    const size_t size = mo_cl_gemm_workspace_size(&s->env, d);
    if (size) s->env.workspace = device_take(w, size);
    s->a = device_take_random(w, d->m * d->k, 1);
    s->b = device_take_random(w, d->k * d->n, 1);
    s->c = device_take(w, 4 * d->m * d->n);
    w->state = s;
    w->units = 1;
    w->flops = 2.0 * (double)d->m * (double)d->n * (double)d->k;
    const mo_cl_mem all[] = {s->a, s->b, s->c};
    return device_took(all, 3);
}

static bool setup_gemm_nf4(work *w) {
    if (!setup_gemm(w)) return false;
    product *s = w->state;
    const size_t n = s->desc.n * s->desc.k;
    const mo_quant4_desc nf4 = {0};
    s->weight = (mo_cl_gemm_operand){.type = MO_GEMM_NF4,
        .data = device_take(w, n / 2 + 1),
        .absmax = device_take(w, 4 * (n / 64 + 1))};
    if (!s->weight.data.buffer || !s->weight.absmax.buffer) return false;
    must(mo_cl_quant4_encode(s->env.cl, &nf4, s->b, n, s->weight.data, s->weight.absmax));
    return true;
}

// ---- attention ------------------------------------------------------------------------------

typedef struct heads {
    mo_cl *cl;
    mo_cl_attention_desc desc;
    mo_cl_attention_tensors tensors;
} heads;

static void attention_forward(void *state) {
    heads *s = state;
    must(mo_cl_attention_forward(s->cl, &s->desc, &s->tensors));
}
static void attention_backward(void *state) {
    heads *s = state;
    must(mo_cl_attention_backward(s->cl, &s->desc, &s->tensors));
}

static void attention_both(void *state) {
    attention_forward(state);
    attention_backward(state);
}

// As in cases_model.c.
static heads *take_heads(work *w, size_t seq, size_t batch, size_t kv_heads) {
    heads *s = take(w, sizeof *s);
    if (!s) return NULL;
    memset(s, 0, sizeof *s);
    s->cl = &w->device->cl;
    mo_cl_attention_desc *d = &s->desc;
    mo_cl_attention_tensors *t = &s->tensors;
    d->seq = seq;
    d->batch = batch;
    d->heads = 6;
    d->kv_heads = kv_heads;
    d->head_size = 64;
    const size_t rows = d->batch * d->heads * d->seq, n = rows * d->head_size;
    t->q = device_take_random(w, n, 1);
    t->k = device_take_random(w, n, 1);
    t->v = device_take_random(w, n, 1);
    t->dout = device_take_random(w, n, 1);
    t->out = device_take(w, 4 * n);
    t->lse = device_take(w, 4 * rows);
    t->dq = device_take(w, 4 * n);
    t->dk = device_take(w, 4 * n);
    t->dv = device_take(w, 4 * n);
    d->workspace = device_take(w, mo_cl_attention_workspace_size(d));
    const mo_cl_mem all[] = {
        t->q, t->k, t->v, t->dout, t->out, t->lse, t->dq, t->dk, t->dv, d->workspace};
    if (!device_took(all, sizeof all / sizeof *all)) return NULL;
    w->state = s;
    w->units = 1;
    return s;
}

static bool setup_attention(work *w, double n_products) {
    const size_t seq = (size_t)w->variant;
    heads *s = take_heads(w, seq, 1024 / seq, 0);
    if (!s) return false;
    attention_forward(s);
    w->flops = n_products * 1024 * 6 * 64 * (double)seq;
    return true;
}
static bool setup_attention_forward(work *w) { return setup_attention(w, 2); }
static bool setup_attention_backward(work *w) { return setup_attention(w, 5); }

static bool setup_attention_gqa(work *w) {
    heads *s = take_heads(w, 1024, 1, 2);
    if (!s) return false;
    w->flops = 7.0 * 1024 * 6 * 64 * 1024;
    return true;
}

static bool setup_attention_window(work *w) {
    const double seq = 4096, window = w->variant ? w->variant : seq;
    heads *s = take_heads(w, 4096, 1, 0);
    if (!s) return false;
    s->desc.window = (size_t)w->variant;
    w->flops = 7 * 2 * 6 * 64 * (window * seq - window * window / 2);
    return true;
}

typedef struct linear_heads {
    mo_cl *cl;
    mo_cl_linear_attention_desc desc;
    mo_cl_linear_attention_tensors tensors;
} linear_heads;

static void linear_attention_both(void *state) {
    linear_heads *s = state;
    must(mo_cl_linear_attention_forward(s->cl, &s->desc, &s->tensors));
    must(mo_cl_linear_attention_backward(s->cl, &s->desc, &s->tensors));
}

static bool setup_attention_linear(work *w) {
    heads *same = take_heads(w, 4096, 1, 0);
    linear_heads *s = take(w, sizeof *s);
    if (!same || !s) return false;
    const mo_cl_attention_tensors *t = &same->tensors;
    s->cl = same->cl;
    s->desc = (mo_cl_linear_attention_desc){
        .batch = 1, .seq = 4096, .heads = 6, .head_size = 64, .workspace = same->desc.workspace};
    s->tensors = (mo_cl_linear_attention_tensors){
        t->q, t->k, t->v, t->out, t->lse, t->dout, t->dq, t->dk, t->dv};
    w->state = s;
    w->flops = 4096.0 * 6 * 64 * 16 * 64;
    return true;
}

// ---- loss -----------------------------------------------------------------------------------

typedef struct head {
    mo_cl_gemm_env env;
    mo_cl_linear_ce_desc desc;
    mo_cl_linear_ce_tensors tensors;
    mo_cl_linear_kd_desc kd;
    mo_cl_linear_kd_tensors taught;
} head;

static void linear_ce(void *state) {
    head *s = state;
    must(mo_cl_linear_ce(&s->desc, &s->tensors, NULL));
}

static bool setup_loss(work *w) {
    head *s = take(w, sizeof *s);
    int32_t *targets = take(w, 1024 * sizeof *targets);
    if (!s || !targets) return false;
    memset(s, 0, sizeof *s);
    s->env.cl = &w->device->cl;
    mo_cl_linear_ce_desc *d = &s->desc;
    mo_cl_linear_ce_tensors *t = &s->tensors;
    d->rows = 1024;
    d->channels = 256;
    d->vocab = 4096;
    d->chunk_rows = (size_t)w->variant;
    d->env = &s->env;
    d->workspace = device_take(w, mo_cl_linear_ce_workspace_size(d));
    t->x = device_take_random(w, d->rows * d->channels, 1);
    t->w = device_take_random(w, d->vocab * d->channels, 0.1f);
    t->targets = device_take(w, d->rows * sizeof *targets);
    t->dx = device_take(w, 4 * d->rows * d->channels);
    t->dw = device_take_random(w, d->vocab * d->channels, 0);
    t->losses = device_take(w, 4 * d->rows);
    const mo_cl_mem all[] = {d->workspace, t->x, t->w, t->targets, t->dx, t->dw, t->losses};
    if (!device_took(all, sizeof all / sizeof *all)) return false;
    for (size_t i = 0; i < d->rows; i++) targets[i] = (int32_t)(i * 7919 % d->vocab);
    must(mo_cl_upload(&w->device->heap, MO_CL_COMPUTE, &t->targets, 0, targets,
        d->rows * sizeof *targets, NULL, NULL));
    w->state = s;
    w->units = 1;
    w->flops = 6.0 * (double)d->rows * (double)d->channels * (double)d->vocab;
    add_extra(w, "workspace_mib", (double)d->workspace.size / 0x1p20);
    return true;
}

static void linear_kd(void *state) {
    head *s = state;
    must(mo_cl_linear_kd(&s->kd, &s->taught, NULL));
}

// A teacher of the student's size; with a variant only so many log-probabilities of it.
static bool setup_distill(work *w) {
    const int k = w->variant;
    const size_t n = 1024 * 64;
    w->variant = 256;
    if (!setup_loss(w)) return false;
    w->variant = k;
    head *s = w->state;
    uint16_t *pairs = take(w, 2 * n * sizeof *pairs);
    s->kd.ce = s->desc;
    s->kd.k = (size_t)k;
    s->kd.ce.workspace = device_take(w, mo_cl_linear_kd_workspace_size(&s->kd));
    s->taught = (mo_cl_linear_kd_tensors){.ce = s->tensors,
        .teacher_x = s->tensors.x,
        .teacher_w = s->tensors.w,
        .indices = device_take(w, n * sizeof *pairs),
        .log_probs = device_take(w, n * sizeof *pairs)};
    const mo_cl_mem all[] = {s->kd.ce.workspace, s->taught.indices, s->taught.log_probs};
    if (!pairs || !device_took(all, sizeof all / sizeof *all)) return false;
    for (size_t i = 0; i < n; i++)
        pairs[i] = (uint16_t)(i * 61 % s->desc.vocab), pairs[n + i] = 0xc500; // -5
    must(mo_cl_upload(&w->device->heap, MO_CL_COMPUTE, &s->taught.indices, 0, pairs,
        n * sizeof *pairs, NULL, NULL));
    must(mo_cl_upload(&w->device->heap, MO_CL_COMPUTE, &s->taught.log_probs, 0, pairs + n,
        n * sizeof *pairs, NULL, NULL));
    if (k == 0) w->flops *= 8.0 / 6.0;
    return true;
}

// ---- adapters -------------------------------------------------------------------------------

typedef struct adapted {
    mo_cl_gemm_env env;
    mo_cl_weight weight;
    mo_cl_lora_desc desc;
    mo_cl_lora_tensors tensors;
    mo_cl_mem x, dy, y, dx;
} adapted;

static void lora_forward(void *state) {
    adapted *s = state;
    must(mo_cl_lora_forward(&s->desc, &s->tensors, s->x, s->y));
}
static void lora_backward(void *state) {
    adapted *s = state;
    must(mo_cl_lora_backward(&s->desc, &s->tensors, s->x, s->dy, s->dx));
}

// As in cases_model.c.
static bool setup_lora(work *w) {
    enum { ROWS = 1024, IN = 384, OUT = 1536, RANK = 8 };
    adapted *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    mo_cl *cl = &w->device->cl;
    s->env.cl = cl;
    s->weight = (mo_cl_weight){.type = MO_GEMM_NF4, .rows = OUT, .columns = IN, .nested = 1};
    s->desc = (mo_cl_lora_desc){.rows = ROWS, .rank = RANK, .env = &s->env};
    const mo_gemm_desc largest = {.m = OUT, .n = OUT, .k = OUT};
    const size_t products = mo_cl_gemm_workspace_size(&s->env, &largest);
    if (products) s->env.workspace = device_take(w, products);
    s->desc.workspace = device_take(w, mo_cl_lora_workspace_size(&s->desc, &s->weight));
    const mo_cl_mem memory = device_take(w, mo_cl_weight_size(&s->weight));
    const mo_cl_mem scales = device_take(w, mo_cl_weight_workspace_size(&s->weight));
    const mo_cl_mem numbers = device_take_random(w, (size_t)OUT * IN, 0.1f);
    s->tensors = (mo_cl_lora_tensors){.weight = &s->weight,
        .a = device_take_random(w, (size_t)RANK * IN, 0.1f),
        .b = device_take_random(w, (size_t)OUT * RANK, 0.1f),
        .da = device_take_random(w, (size_t)RANK * IN, 0),
        .db = device_take_random(w, (size_t)OUT * RANK, 0)};
    s->x = device_take_random(w, (size_t)ROWS * IN, 1);
    s->dy = device_take_random(w, (size_t)ROWS * OUT, 1);
    s->y = device_take(w, sizeof(float) * ROWS * OUT);
    s->dx = device_take(w, sizeof(float) * ROWS * IN);
    const mo_cl_lora_tensors *t = &s->tensors;
    const mo_cl_mem all[] = {s->desc.workspace, memory, scales, numbers, t->a, t->b, t->da, t->db,
        s->x, s->dy, s->y, s->dx};
    if (!device_took(all, sizeof all / sizeof *all)) return false;
    must(mo_cl_weight_place(&s->weight, memory));
    must(mo_cl_weight_encode(cl, &s->weight, numbers, scales));
    w->state = s;
    w->units = 1;
    w->flops = 2.0 * ROWS * IN * OUT + w->variant * 2.0 * ROWS * RANK * (IN + OUT);
    return true;
}

const bench_case cases_device_model[] = {
    {"gemm.1024", "product", "1024 x 1024 x 1024", 0, setup_gemm, multiply, 0},
    {"gemm.gpt_qkv", "product", "m 1024, n 1152, k 384", 0, setup_gemm, multiply, 1},
    {"gemm.gpt_fc", "product", "m 1024, n 1536, k 384", 0, setup_gemm, multiply, 2},
    {"gemm.gpt_fc_dw", "product", "m 384, n 1536, k 1024, A transposed", 0, setup_gemm, multiply,
        3},
    {"gemm.gpt_fc_dx", "product", "m 1024, n 384, k 1536, B transposed", 0, setup_gemm, multiply,
        4},
    {"gemm.nf4", "product", "m 1024, n 384, k 1536, B transposed, NF4", 0, setup_gemm_nf4,
        multiply_nf4, 4},
    {"attention.forward_256", "pass", "4 sequences of 256, 6 heads of 64, causal", 0,
        setup_attention_forward, attention_forward, 256},
    {"attention.forward_1024", "pass", "1 sequence of 1024, 6 heads of 64, causal", 0,
        setup_attention_forward, attention_forward, 1024},
    {"attention.backward_256", "pass", "4 sequences of 256, 6 heads of 64, causal", 0,
        setup_attention_backward, attention_backward, 256},
    {"attention.backward_1024", "pass", "1 sequence of 1024, 6 heads of 64, causal", 0,
        setup_attention_backward, attention_backward, 1024},
    {"attention.gqa", "pass", "1024, 6 heads of 64 on 2 of keys; forward and backward", 0,
        setup_attention_gqa, attention_both, 0},
    {"attention.4096", "pass", "4096, 6 heads of 64, causal; forward and backward", 0,
        setup_attention_window, attention_both, 0},
    {"attention.window", "pass", "the same, each position sees the last 512", 0,
        setup_attention_window, attention_both, 512},
    {"attention.linear", "pass", "4096, 6 heads of 64, linear; forward and backward", 0,
        setup_attention_linear, linear_attention_both, 0},
    {"loss.linear_ce", "pass", "1024 rows, 256 channels, 4096 words, all logits at once", 0,
        setup_loss, linear_ce, 0},
    {"loss.linear_ce_256", "pass", "the same, 256 rows of logits at a time", 0, setup_loss,
        linear_ce, 256},
    {"loss.linear_kd_256", "pass", "with a teacher of the same size", 0, setup_distill, linear_kd,
        0},
    {"loss.linear_kd_top32", "pass", "with 32 log-probabilities of it", 0, setup_distill, linear_kd,
        32},
    {"lora.forward_nf4", "pass", "1024 rows, 384 to 1536 features in NF4, rank 8", 0, setup_lora,
        lora_forward, 1},
    {"lora.backward_nf4", "pass", "the same", 0, setup_lora, lora_backward, 3},
    {0},
};
#else
typedef int cases_device_model_is_empty;
#endif
