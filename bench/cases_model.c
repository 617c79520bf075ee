// cases_model.c - attention and the loss, which are bound by arithmetic.
#include "bench.h"

#include <string.h>

// ---- attention ------------------------------------------------------------------------------

typedef struct heads {
    mo_attention_desc desc;
    mo_attention_tensors tensors;
} heads;

static void attention_forward(void *state) {
    heads *s = state;
    must(mo_attention_forward(&s->desc, &s->tensors));
}
static void attention_backward(void *state) {
    heads *s = state;
    must(mo_attention_backward(&s->desc, &s->tensors));
}

// The same number of tokens for every length. A product of the scores' size takes seq^2 head_size
// operations, since causal attention needs half of it; forward has two of them, backward five.
static bool setup_attention(work *w, double n_products) {
    heads *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    mo_attention_desc *d = &s->desc;
    mo_attention_tensors *t = &s->tensors;
    d->seq = (size_t)w->variant;
    d->batch = 1024 / d->seq;
    d->heads = 6;
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
        return false;
    attention_forward(s);
    w->state = s;
    w->units = 1;
    w->flops = n_products * (double)n * (double)d->seq;
    return true;
}
static bool setup_attention_forward(work *w) { return setup_attention(w, 2); }
static bool setup_attention_backward(work *w) { return setup_attention(w, 5); }

// ---- loss -----------------------------------------------------------------------------------

typedef struct head {
    mo_gemm_env env;
    mo_linear_ce_desc desc;
    mo_linear_ce_tensors tensors;
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

const bench_case cases_model[] = {
    {"attention.forward_256", "pass", "4 sequences of 256, 6 heads of 64, causal", 0,
        setup_attention_forward, attention_forward, 256},
    {"attention.forward_1024", "pass", "1 sequence of 1024, 6 heads of 64, causal", 0,
        setup_attention_forward, attention_forward, 1024},
    {"attention.backward_256", "pass", "4 sequences of 256, 6 heads of 64, causal", 0,
        setup_attention_backward, attention_backward, 256},
    {"attention.backward_1024", "pass", "1 sequence of 1024, 6 heads of 64, causal", 0,
        setup_attention_backward, attention_backward, 1024},
    {"loss.linear_ce", "pass", "1024 rows, 256 channels, 4096 words, all logits at once", 0,
        setup_loss, linear_ce, 0},
    {"loss.linear_ce_256", "pass", "the same, 256 rows of logits at a time", 0, setup_loss,
        linear_ce, 256},
    {0}};
