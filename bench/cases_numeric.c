// cases_numeric.c - half, quant, gemm.
#include "bench.h"

#include <string.h>

// ---- half, quant ----------------------------------------------------------------------------

typedef struct arrays {
    const mo_parallel *parallel;
    size_t n;
    float *x;
    uint16_t *half;
    mo_quant8_desc desc;
    uint8_t *codes;
    float *absmax;
} arrays;

static void f32_to_bf16(void *state) {
    arrays *s = state;
    mo_f32_to_bf16(s->x, s->half, s->n, s->parallel);
}
static void bf16_to_f32(void *state) {
    arrays *s = state;
    mo_bf16_to_f32(s->half, s->x, s->n, s->parallel);
}
static void f32_to_f16(void *state) {
    arrays *s = state;
    mo_f32_to_f16(s->x, s->half, s->n, s->parallel);
}
static void f16_to_f32(void *state) {
    arrays *s = state;
    mo_f16_to_f32(s->half, s->x, s->n, s->parallel);
}
static void q8_encode(void *state) {
    arrays *s = state;
    must(mo_quant8_encode(&s->desc, s->x, s->n, s->codes, s->absmax));
}
static void q8_decode(void *state) {
    arrays *s = state;
    must(mo_quant8_decode(&s->desc, s->codes, s->absmax, s->n, s->x));
}

static bool setup_arrays(work *w) {
    arrays *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    s->parallel = s->desc.parallel = w->parallel;
    s->n = w->units = w->n;
    s->x = take_random(w, w->n, 1);
    w->state = s;
    return s->x;
}

static bool setup_half(work *w) {
    if (!setup_arrays(w)) return false;
    arrays *s = w->state;
    s->half = take(w, w->n * sizeof *s->half);
    if (!s->half) return false;
    if (w->variant == 16) f32_to_f16(s);
    else f32_to_bf16(s);
    return true;
}

static bool setup_quant(work *w) {
    if (!setup_arrays(w)) return false;
    arrays *s = w->state;
    s->codes = take(w, w->n);
    s->absmax = take(w, (w->n / 256 + 1) * sizeof *s->absmax);
    if (!s->codes || !s->absmax) return false;
    q8_encode(s);
    return true;
}

// ---- gemm -----------------------------------------------------------------------------------

typedef struct product {
    mo_gemm_env env;
    mo_gemm_desc desc;
    mo_cblas_sgemm *cblas;
    float *a, *b, *c;
} product;

// 1024 tokens of a 384-channel GPT, as train_gpt's default multiplies them.
static const mo_gemm_desc products[] = {
    {.m = 1024, .n = 1024, .k = 1024},
    {.m = 1024, .n = 1152, .k = 384},
    {.m = 1024, .n = 1536, .k = 384},
    {.m = 384, .n = 1536, .k = 1024, .trans_a = 1},
    {.m = 1024, .n = 384, .k = 1536, .trans_b = 1},
};

static void multiply(void *state) {
    product *s = state;
    must(mo_gemm(&s->env, &s->desc, s->a, s->b, s->c));
}

static void multiply_by_blas(void *state) {
    product *s = state;
    const mo_gemm_desc *d = &s->desc;
    s->cblas(101, d->trans_a ? 112 : 111, d->trans_b ? 112 : 111, (int)d->m, (int)d->n, (int)d->k,
        1, s->a, (int)(d->trans_a ? d->m : d->k), s->b, (int)(d->trans_b ? d->k : d->n), 0, s->c,
        (int)d->n);
}

static bool setup_gemm(work *w) {
    product *s = take(w, sizeof *s);
    if (!s) return false;
    const mo_gemm_desc *d = &products[w->variant];
    *s = (product){.desc = *d, .cblas = w->cblas};
    s->env.parallel = w->parallel;
    s->env.workspace_size = mo_gemm_workspace_size(w->parallel, NULL);
    s->env.workspace = take(w, s->env.workspace_size);
    s->a = take_random(w, d->m * d->k, 1);
    s->b = take_random(w, d->k * d->n, 1);
    s->c = take(w, d->m * d->n * sizeof *s->c);
    w->state = s;
    w->units = 1;
    w->flops = 2.0 * (double)d->m * (double)d->n * (double)d->k;
    if (w->cblas) w->rival = multiply_by_blas;
    return s->env.workspace && s->a && s->b && s->c;
}

const bench_case cases_numeric[] = {
    {"half.f32_to_bf16", "element", "6 B: 4 read, 2 written", 6, setup_half, f32_to_bf16, 0},
    {"half.bf16_to_f32", "element", "6 B: 2 read, 4 written", 6, setup_half, bf16_to_f32, 0},
    {"half.f32_to_f16", "element", "6 B: 4 read, 2 written", 6, setup_half, f32_to_f16, 16},
    {"half.f16_to_f32", "element", "6 B: 2 read, 4 written", 6, setup_half, f16_to_f32, 16},
    {"quant.q8_encode", "element", "5.016 B: x read, codes and a scale per 256 written",
        5 + 4.0 / 256, setup_quant, q8_encode, 0},
    {"quant.q8_decode", "element", "5.016 B: codes and scales read, x written", 5 + 4.0 / 256,
        setup_quant, q8_decode, 0},
    {"gemm.1024", "product", "1024 x 1024 x 1024", 0, setup_gemm, multiply, 0},
    {"gemm.gpt_qkv", "product", "m 1024, n 1152, k 384", 0, setup_gemm, multiply, 1},
    {"gemm.gpt_fc", "product", "m 1024, n 1536, k 384", 0, setup_gemm, multiply, 2},
    {"gemm.gpt_fc_dw", "product", "m 384, n 1536, k 1024, A transposed", 0, setup_gemm, multiply,
        3},
    {"gemm.gpt_fc_dx", "product", "m 1024, n 384, k 1536, B transposed", 0, setup_gemm, multiply,
        4},
    {0}};
