// cases_model.c - attention, the loss and adapters, which are bound by arithmetic.
#include "bench.h"

#include <string.h>

// ---- attention ------------------------------------------------------------------------------

typedef struct heads {
    mo_attention_desc desc;
    mo_attention_tensors tensors;
    mo_gemm_env env; // of the plain way, with its matrices
    float *p, *dp;   // [heads x seq x seq], [seq x seq]
} heads;

static void attention_forward(void *state) {
    heads *s = state;
    must(mo_attention_forward(&s->desc, &s->tensors));
}
static void attention_backward(void *state) {
    heads *s = state;
    must(mo_attention_backward(&s->desc, &s->tensors));
}
static void attention_both(void *state) {
    attention_forward(state);
    attention_backward(state);
}

// The plain way: the seq x seq matrix of each head, by the same products. e^x is mo_math.inc's, in
// a form that compilers make vectors of.
static float exp_of(float x) {
    x = x < -60 ? -60 : x;
    const float whole = x * 1.44269504f + 12582912.0f;
    const float n = whole - 12582912.0f, r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f * r + 1.3981999507e-3f, power;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    uint32_t bits;
    memcpy(&bits, &whole, sizeof bits);
    bits = (bits - 0x4b400000u + 127u) << 23;
    memcpy(&power, &bits, sizeof power);
    return (p * r * r + r + 1) * power;
}

typedef struct plain_rows {
    float *p, *dp, *lse;
    const float *out, *dout;
    size_t seq, n, stride;
    float scale;
} plain_rows;

static void plain_softmax(const void *context, size_t begin, size_t end) {
    const plain_rows *w = context;
    for (size_t i = begin; i < end; i++) {
        float *p = w->p + i * w->seq, most = p[0], sum = 0;
        for (size_t j = 1; j <= i; j++) most = p[j] > most ? p[j] : most;
        for (size_t j = 0; j <= i; j++) p[j] = exp_of(p[j] - most);
        for (size_t j = 0; j <= i; j++) sum += p[j];
        for (size_t j = 0; j <= i; j++) p[j] /= sum;
        for (size_t j = i + 1; j < w->seq; j++) p[j] = 0;
    }
}
static void plain_softmax_backward(const void *context, size_t begin, size_t end) {
    const plain_rows *w = context;
    for (size_t i = begin; i < end; i++) {
        const float *p = w->p + i * w->seq;
        float *dp = w->dp + i * w->seq, dot = 0;
        for (size_t c = 0; c < w->n; c++)
            dot += w->out[i * w->stride + c] * w->dout[i * w->stride + c];
        for (size_t j = 0; j < w->seq; j++) dp[j] = p[j] * (dp[j] - dot) * w->scale;
    }
}

static void plain_forward(void *state) {
    heads *s = state;
    const mo_attention_desc *d = &s->desc;
    const mo_attention_tensors *t = &s->tensors;
    const size_t seq = d->seq, n = d->head_size, stride = d->heads * n;
    for (size_t h = 0; h < d->heads; h++) {
        plain_rows rows = {.p = s->p + h * seq * seq, .seq = seq};
        const mo_gemm_desc scores = {.m = seq,
            .n = seq,
            .k = n,
            .trans_b = 1,
            .lda = stride,
            .ldb = stride,
            .alpha = 1 / sqrtf((float)n)};
        const mo_gemm_desc values = {.m = seq, .n = n, .k = seq, .ldb = stride, .ldc = stride};
        must(mo_gemm(&s->env, &scores, t->q + h * n, t->k + h * n, rows.p));
        mo_parallel_for(d->parallel, seq, 16, plain_softmax, &rows);
        must(mo_gemm(&s->env, &values, rows.p, t->v + h * n, t->out + h * n));
    }
}
static void plain_backward(void *state) {
    heads *s = state;
    const mo_attention_desc *d = &s->desc;
    const mo_attention_tensors *t = &s->tensors;
    const size_t seq = d->seq, n = d->head_size, stride = d->heads * n;
    for (size_t h = 0; h < d->heads; h++) {
        const size_t at = h * n;
        plain_rows rows = {.p = s->p + h * seq * seq,
            .dp = s->dp,
            .out = t->out + at,
            .dout = t->dout + at,
            .seq = seq,
            .n = n,
            .stride = stride,
            .scale = 1 / sqrtf((float)n)};
        const mo_gemm_desc to_p = {
            .m = seq, .n = seq, .k = n, .trans_b = 1, .lda = stride, .ldb = stride};
        const mo_gemm_desc down = {
            .m = seq, .n = n, .k = seq, .trans_a = 1, .ldb = stride, .ldc = stride};
        const mo_gemm_desc across = {.m = seq, .n = n, .k = seq, .ldb = stride, .ldc = stride};
        must(mo_gemm(&s->env, &to_p, t->dout + at, t->v + at, s->dp));
        must(mo_gemm(&s->env, &down, rows.p, t->dout + at, t->dv + at));
        mo_parallel_for(d->parallel, seq, 16, plain_softmax_backward, &rows);
        must(mo_gemm(&s->env, &down, s->dp, t->q + at, t->dk + at));
        must(mo_gemm(&s->env, &across, s->dp, t->k + at, t->dq + at));
    }
}

// What the plain way needs beside; it is timed in turns with the other.
static bool take_plain(work *w, heads *s, void (*rival)(void *)) {
    const size_t seq = s->desc.seq;
    s->env.parallel = w->parallel;
    s->env.workspace_size = mo_gemm_workspace_size(w->parallel, NULL);
    s->env.workspace = take(w, s->env.workspace_size);
    s->p = take(w, s->desc.heads * seq * seq * sizeof(float));
    s->dp = take(w, seq * seq * sizeof(float));
    if (!s->env.workspace || !s->p || !s->dp) return false;
    plain_forward(s);
    w->rival = rival;
    w->rival_is_plain = true;
    return true;
}

// A product of the scores' size takes 2 n_pairs head_size operations, n_pairs = keys that queries
// see; forward has two of them, backward five.
static heads *take_heads(work *w, size_t seq, size_t batch, size_t kv_heads) {
    heads *s = take(w, sizeof *s);
    if (!s) return NULL;
    memset(s, 0, sizeof *s);
    mo_attention_desc *d = &s->desc;
    mo_attention_tensors *t = &s->tensors;
    d->seq = seq;
    d->batch = batch;
    d->heads = 6;
    d->kv_heads = kv_heads;
    d->head_size = 64;
    d->parallel = w->parallel;
    d->workspace_size = mo_attention_workspace_size(d);
    d->workspace = take(w, d->workspace_size);
    const size_t rows = d->batch * d->heads * d->seq, n = rows * d->head_size;
    t->q = take_random(w, n, 1);
    t->k = take_random(w, n, 1);
    t->v = take_random(w, n, 1);
    t->dout = take_random(w, n, 1);
    t->out = take_random(w, n, 0);
    t->lse = take_random(w, rows, 0);
    t->dq = take_random(w, n, 0);
    t->dk = take_random(w, n, 0);
    t->dv = take_random(w, n, 0);
    if (!d->workspace || !t->q || !t->k || !t->v || !t->dout || !t->out || !t->lse || !t->dq ||
        !t->dk || !t->dv)
        return NULL;
    w->state = s;
    w->units = 1;
    return s;
}

// The same number of tokens for every length.
static bool setup_attention(work *w, double n_products, void (*rival)(void *)) {
    const size_t seq = (size_t)w->variant;
    heads *s = take_heads(w, seq, 1024 / seq, 0);
    if (!s || (seq == 1024 && !take_plain(w, s, rival))) return false;
    attention_forward(s);
    w->flops = n_products * 1024 * 6 * 64 * (double)seq;
    return true;
}
static bool setup_attention_forward(work *w) { return setup_attention(w, 2, plain_forward); }
static bool setup_attention_backward(work *w) { return setup_attention(w, 5, plain_backward); }

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
    mo_linear_attention_desc desc;
    mo_linear_attention_tensors tensors;
} linear_heads;

static void linear_attention_both(void *state) {
    linear_heads *s = state;
    must(mo_linear_attention_forward(&s->desc, &s->tensors));
    must(mo_linear_attention_backward(&s->desc, &s->tensors));
}

static bool setup_attention_linear(work *w) {
    heads *same = take_heads(w, 4096, 1, 0);
    linear_heads *s = take(w, sizeof *s);
    if (!same || !s) return false;
    const mo_attention_tensors *t = &same->tensors;
    s->desc = (mo_linear_attention_desc){
        .batch = 1, .seq = 4096, .heads = 6, .head_size = 64, .parallel = w->parallel};
    s->tensors = (mo_linear_attention_tensors){
        t->q, t->k, t->v, t->out, t->lse, t->dout, t->dq, t->dk, t->dv};
    s->desc.workspace_size = mo_linear_attention_workspace_size(&s->desc);
    s->desc.workspace = take(w, s->desc.workspace_size);
    if (!s->desc.workspace) return false;
    w->state = s;
    w->flops = 4096.0 * 6 * 64 * (14 * 64 + 16 * 64);
    return true;
}

// ---- loss -----------------------------------------------------------------------------------

typedef struct head {
    mo_gemm_env env;
    mo_linear_ce_desc desc;
    mo_linear_ce_tensors tensors;
    mo_linear_kd_desc kd;
    mo_linear_kd_tensors taught;
} head;

static void linear_ce(void *state) {
    head *s = state;
    double loss;
    must(mo_linear_ce(&s->desc, &s->tensors, &loss));
}

static bool setup_loss(work *w) {
    head *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    mo_linear_ce_desc *d = &s->desc;
    d->rows = 1024;
    d->channels = 256;
    d->vocab = 4096;
    d->chunk_rows = (size_t)w->variant;
    d->env = &s->env;
    s->env.parallel = w->parallel;
    s->env.workspace_size = mo_gemm_workspace_size(w->parallel, NULL);
    s->env.workspace = take(w, s->env.workspace_size);
    d->workspace_size = mo_linear_ce_workspace_size(d);
    d->workspace = take(w, d->workspace_size);
    int32_t *targets = take(w, d->rows * sizeof *targets);
    s->tensors = (mo_linear_ce_tensors){.x = take_random(w, d->rows * d->channels, 1),
        .w = take_random(w, d->vocab * d->channels, 0.1f),
        .targets = targets,
        .dx = take_random(w, d->rows * d->channels, 0),
        .dw = take_random(w, d->vocab * d->channels, 0)};
    const mo_linear_ce_tensors *t = &s->tensors;
    if (!s->env.workspace || !d->workspace || !targets || !t->x || !t->w || !t->dx || !t->dw)
        return false;
    for (size_t i = 0; i < d->rows; i++) targets[i] = (int32_t)(i * 7919 % d->vocab);
    w->state = s;
    w->units = 1;
    w->flops = 6.0 * (double)d->rows * (double)d->channels * (double)d->vocab;
    add_extra(w, "workspace_mib", (double)d->workspace_size / 0x1p20);
    return true;
}

static void linear_kd(void *state) {
    head *s = state;
    double loss;
    must(mo_linear_kd(&s->kd, &s->taught, &loss));
}

// A teacher of the student's size; with a variant only so many log-probabilities of it.
static bool setup_distill(work *w) {
    const int k = w->variant;
    w->variant = 256;
    if (!setup_loss(w)) return false;
    w->variant = k;
    head *s = w->state;
    mo_linear_ce_desc *d = &s->kd.ce;
    uint16_t *indices = take(w, 1024 * 64 * sizeof *indices),
             *log_probs = take(w, 1024 * 64 * sizeof *log_probs);
    s->kd.k = (size_t)k;
    *d = s->desc;
    d->workspace_size = mo_linear_kd_workspace_size(&s->kd);
    d->workspace = take(w, d->workspace_size);
    if (!d->workspace || !indices || !log_probs) return false;
    for (size_t i = 0; i < d->rows * (size_t)k; i++)
        indices[i] = (uint16_t)(i * 61 % d->vocab), log_probs[i] = 0xc500; // -5
    s->taught = (mo_linear_kd_tensors){s->tensors, s->tensors.x, s->tensors.w, indices, log_probs};
    if (k == 0) w->flops *= 8.0 / 6.0;
    return true;
}

// ---- adapters -------------------------------------------------------------------------------

typedef struct adapted {
    mo_gemm_env env;
    mo_weight weight;
    mo_lora_desc desc;
    mo_lora_tensors tensors;
    float *x, *dy, *y, *dx;
} adapted;

static void lora_forward(void *state) {
    adapted *s = state;
    must(mo_lora_forward(&s->desc, &s->tensors, s->x, s->y));
}
static void lora_backward(void *state) {
    adapted *s = state;
    must(mo_lora_backward(&s->desc, &s->tensors, s->x, s->dy, s->dx));
}

// 1024 rows through a weight [1536 x 384] in NF4, its scales in 8 bits, rank 8.
static bool setup_lora(work *w) {
    enum { ROWS = 1024, IN = 384, OUT = 1536, RANK = 8 };
    adapted *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    s->weight = (mo_weight){.type = MO_GEMM_NF4, .rows = OUT, .columns = IN, .nested = 1};
    s->desc = (mo_lora_desc){.rows = ROWS, .rank = RANK, .env = &s->env};
    const size_t size = mo_weight_size(&s->weight);
    const size_t scratch = mo_weight_workspace_size(&s->weight);
    void *memory = take(w, size), *scales = take(w, scratch);
    const float *numbers = take_random(w, (size_t)OUT * IN, 0.1f);
    s->env.parallel = w->parallel;
    s->env.workspace_size = mo_gemm_workspace_size(w->parallel, NULL);
    s->env.workspace = take(w, s->env.workspace_size);
    s->desc.workspace_size = mo_lora_workspace_size(&s->desc, &s->weight);
    s->desc.workspace = take(w, s->desc.workspace_size);
    s->tensors = (mo_lora_tensors){.weight = &s->weight,
        .a = take_random(w, (size_t)RANK * IN, 0.1f),
        .b = take_random(w, (size_t)OUT * RANK, 0.1f),
        .da = take_random(w, (size_t)RANK * IN, 0),
        .db = take_random(w, (size_t)OUT * RANK, 0)};
    s->x = take_random(w, (size_t)ROWS * IN, 1);
    s->dy = take_random(w, (size_t)ROWS * OUT, 1);
    s->y = take_random(w, (size_t)ROWS * OUT, 0);
    s->dx = take_random(w, (size_t)ROWS * IN, 0);
    const mo_lora_tensors *t = &s->tensors;
    if (!memory || !scales || !numbers || !s->env.workspace || !s->desc.workspace || !t->a ||
        !t->b || !t->da || !t->db || !s->x || !s->dy || !s->y || !s->dx)
        return false;
    must(mo_weight_place(&s->weight, memory, size));
    must(mo_weight_encode(&s->weight, numbers, scales, scratch, w->parallel));
    w->state = s;
    w->units = 1;
    w->flops = 2.0 * ROWS * IN * OUT + w->variant * 2.0 * ROWS * RANK * (IN + OUT);
    add_extra(w, "weight_mib", (double)size / 0x1p20);
    return true;
}

const bench_case cases_model[] = {
    {"attention.forward_256", "pass", "4 sequences of 256, 6 heads of 64, causal", 0,
        setup_attention_forward, attention_forward, 256},
    {"attention.forward_1024", "pass", "1 sequence of 1024; rival: the matrix in memory", 0,
        setup_attention_forward, attention_forward, 1024},
    {"attention.backward_256", "pass", "4 sequences of 256, 6 heads of 64, causal", 0,
        setup_attention_backward, attention_backward, 256},
    {"attention.backward_1024", "pass", "1 sequence of 1024; rival: the matrix in memory", 0,
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
