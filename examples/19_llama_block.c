// 19_llama_block.c - forward and backward of one Llama block that keeps its input and a few numbers
// for each row: what else backward needs is computed again, to the bit.
//     cc -I. examples/19_llama_block.c memopt.c -o llama_block -lm
#include "memopt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 128, WIDTH = 96, HEADS = 4, HEAD = WIDTH / HEADS, HIDDEN = 256 };
enum { QKV = 3 * WIDTH, WIDE = 2 * HIDDEN };

// Weights, or their gradients; linear ones are [out x in].
typedef struct block {
    float norm1[WIDTH], qkv[QKV * WIDTH], out[WIDTH * WIDTH];
    float norm2[WIDTH], wide[WIDE * WIDTH], down[WIDTH * HIDDEN];
} block;

// What is kept of each block, and what all blocks can share.
typedef struct kept {
    float x[ROWS * WIDTH], rstd1[ROWS], rstd2[ROWS], lse[ROWS * HEADS];
} kept;
typedef struct scratch {
    float normed[ROWS * WIDTH], qkv[ROWS * QKV], mixed[ROWS * WIDTH], middle[ROWS * WIDTH];
    float normed2[ROWS * WIDTH], wide[ROWS * WIDE], units[ROWS * HIDDEN];
} scratch;

static mo_gemm_env env;
static mo_attention_desc attention = {
    .batch = 1, .seq = ROWS, .heads = HEADS, .head_size = HEAD, .stride = QKV};
static float turns[ROWS * HEAD];
static const mo_rope_desc rope = {
    .batch = 1, .seq = ROWS, .heads = 2 * HEADS, .head_size = HEAD, .stride = QKV, .table = turns};
static const mo_swiglu_desc gated = {.rows = ROWS, .hidden = HIDDEN, .stride = WIDE};

static void must(mo_status status) {
    if (status == MO_OK) return;
    fprintf(stderr, "llama_block: %s\n", mo_status_text(status));
    exit(1);
}

// y = x w^T (+ y)
static void linear(const float *x, const float *w, size_t in, size_t out, float *y, float beta) {
    const mo_gemm_desc d = {.m = ROWS, .n = out, .k = in, .trans_b = 1, .beta = beta};
    must(mo_gemm(&env, &d, x, w, y));
}
// dw += dy^T x, dx = dy w
static void linear_back(
    const float *x, const float *w, const float *dy, size_t in, size_t out, float *dw, float *dx) {
    const mo_gemm_desc weight = {.m = out, .n = in, .k = ROWS, .trans_a = 1, .beta = 1};
    const mo_gemm_desc input = {.m = ROWS, .n = in, .k = out};
    must(mo_gemm(&env, &weight, dy, x, dw));
    must(mo_gemm(&env, &input, dy, w, dx));
}
static mo_rmsnorm_desc norm(const float *weight, float *rstd, float *dweight) {
    return (mo_rmsnorm_desc){
        .n = ROWS, .channels = WIDTH, .weight = weight, .rstd = rstd, .dweight = dweight, .add = 1};
}

// again: the norms take their rstd from the first time; y NULL: nobody needs it.
static void forward(const block *w, kept *k, scratch *s, int again, float *y) {
    const mo_rmsnorm_desc n1 = norm(w->norm1, k->rstd1, NULL), n2 = norm(w->norm2, k->rstd2, NULL);
    const mo_attention_tensors t = {
        s->qkv, s->qkv + WIDTH, s->qkv + 2 * WIDTH, s->mixed, k->lse, NULL, NULL, NULL, NULL};
    must((again ? mo_rmsnorm_apply : mo_rmsnorm_forward)(&n1, k->x, s->normed));
    linear(s->normed, w->qkv, WIDTH, QKV, s->qkv, 0);
    must(mo_rope_forward(&rope, s->qkv));
    must(mo_attention_forward(&attention, &t));
    memcpy(s->middle, k->x, sizeof s->middle);
    linear(s->mixed, w->out, WIDTH, WIDTH, s->middle, 1);
    must((again ? mo_rmsnorm_apply : mo_rmsnorm_forward)(&n2, s->middle, s->normed2));
    linear(s->normed2, w->wide, WIDTH, WIDE, s->wide, 0);
    must(mo_swiglu_forward(&gated, s->wide, s->wide + HIDDEN, s->units));
    if (!y) return;
    memcpy(y, s->middle, sizeof s->middle);
    linear(s->units, w->down, HIDDEN, WIDTH, y, 1);
}

// dx begins as dy; g: what gradients are added to.
static void backward(const block *w, kept *k, const scratch *s, scratch *d, block *g, float *dx) {
    const mo_rmsnorm_desc n1 = norm(w->norm1, k->rstd1, g->norm1);
    const mo_rmsnorm_desc n2 = norm(w->norm2, k->rstd2, g->norm2);
    const mo_attention_tensors t = {s->qkv, s->qkv + WIDTH, s->qkv + 2 * WIDTH, (float *)s->mixed,
        k->lse, d->mixed, d->qkv, d->qkv + WIDTH, d->qkv + 2 * WIDTH};
    linear_back(s->units, w->down, dx, HIDDEN, WIDTH, g->down, d->units);
    must(
        mo_swiglu_backward(&gated, s->wide, s->wide + HIDDEN, d->units, d->wide, d->wide + HIDDEN));
    linear_back(s->normed2, w->wide, d->wide, WIDTH, WIDE, g->wide, d->normed2);
    must(mo_rmsnorm_backward(&n2, s->middle, d->normed2, dx));
    linear_back(s->mixed, w->out, dx, WIDTH, WIDTH, g->out, d->mixed);
    must(mo_attention_backward(&attention, &t));
    must(mo_rope_backward(&rope, d->qkv));
    linear_back(s->normed, w->qkv, d->qkv, WIDTH, QKV, g->qkv, d->normed);
    must(mo_rmsnorm_backward(&n1, k->x, d->normed, dx));
}

static void fill(float *x, size_t n, float middle, float radius) { // evenly, always the same
    static unsigned seed = 1;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = middle + radius * (float)(int)seed / 2147483648.0f;
    }
}

int main(void) {
    static block w, g[2];
    static kept k;
    static scratch s, d;
    static float y[ROWS * WIDTH], dx[2][ROWS * WIDTH];
    env.workspace_size = mo_gemm_workspace_size(NULL, NULL);
    env.workspace = mo_alloc(NULL, env.workspace_size, 64);
    attention.workspace_size = mo_attention_workspace_size(&attention);
    attention.workspace = mo_alloc(NULL, attention.workspace_size, 64);
    if (!env.workspace || !attention.workspace) return 1;
    must(mo_rope_table(HEAD, ROWS, 0, turns));
    fill(w.norm1, WIDTH, 1, 0.2f), fill(w.norm2, WIDTH, 1, 0.2f);
    fill(w.qkv, QKV * WIDTH, 0, 0.2f), fill(w.out, WIDTH * WIDTH, 0, 0.2f);
    fill(w.wide, WIDE * WIDTH, 0, 0.2f), fill(w.down, WIDTH * HIDDEN, 0, 0.2f);
    fill(k.x, ROWS * WIDTH, 0, 1), fill(dx[0], ROWS * WIDTH, 0, 1);
    memcpy(dx[1], dx[0], sizeof dx[0]);

    forward(&w, &k, &s, 0, y); // everything is still in s
    backward(&w, &k, &s, &d, &g[0], dx[0]);

    memset(&s, 0xff, sizeof s); // other blocks have used it
    forward(&w, &k, &s, 1, NULL);
    backward(&w, &k, &s, &d, &g[1], dx[1]);

    const int same = memcmp(dx[0], dx[1], sizeof dx[0]) == 0 && memcmp(&g[0], &g[1], sizeof w) == 0;
    printf("everything kept: %zu bytes a block; input and statistics: %zu bytes, %.1f %%\n",
        sizeof k + sizeof s, sizeof k, 100.0 * sizeof k / (sizeof k + sizeof s));
    printf("gradients: %s\n", same ? "the same bits" : "DIFFERENT");
    mo_free(NULL, env.workspace, env.workspace_size, 64);
    mo_free(NULL, attention.workspace, attention.workspace_size, 64);
    return !same;
}
