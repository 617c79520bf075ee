// cases_numeric.c - half, quant, gemm.
#include "bench.h"

#include <string.h>

// ---- half, quant ----------------------------------------------------------------------------

typedef struct arrays {
    const mo_parallel *parallel;
    size_t n;
    float *x;
    mo_half_desc half_desc;
    void *half;
    mo_quant8_desc desc;
    uint8_t *codes;
    float *absmax;
} arrays;

static void half_encode(void *state) {
    arrays *s = state;
    must(mo_half_encode(&s->half_desc, s->x, s->n, s->half));
}
static void half_decode(void *state) {
    arrays *s = state;
    must(mo_half_decode(&s->half_desc, s->half, s->n, s->x));
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

enum { STOCHASTIC = 16 }; // beside a mo_half_format

static bool setup_half(work *w) {
    if (!setup_arrays(w)) return false;
    arrays *s = w->state;
    s->half_desc = (mo_half_desc){.format = (mo_half_format)(w->variant % STOCHASTIC),
        .stochastic = w->variant / STOCHASTIC,
        .parallel = w->parallel};
    s->half = take(w, w->n * mo_half_bytes(s->half_desc.format));
    if (!s->half) return false;
    half_encode(s);
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

// ---- quant4, int8 ---------------------------------------------------------------------------

typedef struct small_codes {
    mo_quant4_desc desc;
    mo_int8_desc rows;
    size_t n;
    float *x, *absmax;
    uint8_t *codes;
    uint16_t *half;
} small_codes;

static void q4_encode(void *state) {
    small_codes *s = state;
    must(mo_quant4_encode(&s->desc, s->x, s->n, s->codes, s->absmax));
}
static void q4_decode(void *state) {
    small_codes *s = state;
    must(mo_quant4_decode(&s->desc, s->codes, s->absmax, 0, s->n, s->x));
}
static void q4_decode_bf16(void *state) {
    small_codes *s = state;
    must(mo_quant4_decode_bf16(&s->desc, s->codes, s->absmax, 0, s->n, s->half));
}
static void int8_encode(void *state) {
    small_codes *s = state;
    must(mo_int8_encode(&s->rows, s->x, (int8_t *)s->codes, s->absmax, NULL));
}
static void int8_decode(void *state) {
    small_codes *s = state;
    must(mo_int8_decode(&s->rows, (int8_t *)s->codes, s->absmax, NULL, s->x));
}

// The variant is the map of quant4, or -1 for int8 in rows of 4096.
static bool setup_small_codes(work *w) {
    small_codes *s = take(w, sizeof *s);
    if (!s) return false;
    *s = (small_codes){.n = w->n, .desc.parallel = w->parallel, .rows.parallel = w->parallel};
    s->rows.columns = w->n < 4096 ? w->n : 4096;
    s->rows.rows = w->n / s->rows.columns;
    if (w->variant >= 0) s->desc.map = (mo_quant4_map)w->variant;
    s->x = take_random(w, w->n, 1);
    s->codes = take(w, w->n);
    s->absmax = take(w, (w->n / 64 + 1) * sizeof *s->absmax);
    s->half = take(w, w->n * sizeof *s->half);
    if (!s->x || !s->codes || !s->absmax || !s->half) return false;
    w->state = s;
    w->units = w->variant >= 0 ? w->n : s->rows.rows * s->rows.columns;
    if (w->variant >= 0) q4_encode(s);
    else int8_encode(s);
    return true;
}

// ---- gemm -----------------------------------------------------------------------------------

typedef struct product {
    mo_gemm_env env;
    mo_gemm_desc desc;
    mo_cblas_sgemm *cblas;
    float *a, *b, *c;
    mo_gemm_operand weight; // of gemm.nf4
} product;

const mo_gemm_desc gemm_shapes[N_GEMM_SHAPES] = {
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
    const mo_gemm_desc *d = &gemm_shapes[w->variant];
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

// The weight as NF4, as layers store it: a row per output.
static void multiply_nf4(void *state) {
    product *s = state;
    const mo_gemm_operand a = {.data = s->a};
    must(mo_gemm_mixed(&s->env, &s->desc, &a, &s->weight, s->c));
}

static bool setup_gemm_nf4(work *w) {
    if (!setup_gemm(w)) return false;
    product *s = w->state;
    const size_t size = s->desc.n * s->desc.k;
    float *absmax = take(w, (size / 64 + 1) * sizeof *absmax);
    uint8_t *codes = take(w, size / 2 + 1);
    if (!absmax || !codes) return false;
    const mo_quant4_desc nf4 = {.parallel = w->parallel};
    must(mo_quant4_encode(&nf4, s->b, size, codes, absmax));
    s->weight = (mo_gemm_operand){.type = MO_GEMM_NF4, .data = codes, .absmax = absmax};
    w->rival = NULL;
    return true;
}

const bench_case cases_numeric[] = {{"half.f32_to_bf16", "element", "6 B: 4 read, 2 written", 6,
                                        setup_half, half_encode, MO_HALF_BF16},
    {"half.bf16_to_f32", "element", "6 B: 2 read, 4 written", 6, setup_half, half_decode,
        MO_HALF_BF16},
    {"half.f32_to_f16", "element", "6 B: 4 read, 2 written", 6, setup_half, half_encode,
        MO_HALF_F16},
    {"half.f16_to_f32", "element", "6 B: 2 read, 4 written", 6, setup_half, half_decode,
        MO_HALF_F16},
    {"half.f32_to_f8e4m3", "element", "5 B: 4 read, 1 written", 5, setup_half, half_encode,
        MO_HALF_F8_E4M3},
    {"half.f8e4m3_to_f32", "element", "5 B: 1 read, 4 written", 5, setup_half, half_decode,
        MO_HALF_F8_E4M3},
    {"half.f32_to_f8e5m2", "element", "5 B: 4 read, 1 written", 5, setup_half, half_encode,
        MO_HALF_F8_E5M2},
    {"half.f8e5m2_to_f32", "element", "5 B: 1 read, 4 written", 5, setup_half, half_decode,
        MO_HALF_F8_E5M2},
    {"half.f32_to_bf16_sr", "element", "6 B: 4 read, 2 written", 6, setup_half, half_encode,
        STOCHASTIC + MO_HALF_BF16},
    {"half.f32_to_f16_sr", "element", "6 B: 4 read, 2 written", 6, setup_half, half_encode,
        STOCHASTIC + MO_HALF_F16},
    {"half.f32_to_f8e4m3_sr", "element", "5 B: 4 read, 1 written", 5, setup_half, half_encode,
        STOCHASTIC + MO_HALF_F8_E4M3},
    {"quant.q8_encode", "element", "5.016 B: x read, codes and a scale per 256 written",
        5 + 4.0 / 256, setup_quant, q8_encode, 0},
    {"quant.q8_decode", "element", "5.016 B: codes and scales read, x written", 5 + 4.0 / 256,
        setup_quant, q8_decode, 0},
    {"quant.nf4_encode", "element", "4.563 B: x read, codes and a scale per 64 written",
        4.5 + 4.0 / 64, setup_small_codes, q4_encode, MO_QUANT_NF4},
    {"quant.nf4_decode", "element", "4.563 B: codes and scales read, x written", 4.5 + 4.0 / 64,
        setup_small_codes, q4_decode, MO_QUANT_NF4},
    {"quant.nf4_decode_bf16", "element", "2.563 B: codes and scales read, bf16 written",
        2.5 + 4.0 / 64, setup_small_codes, q4_decode_bf16, MO_QUANT_NF4},
    {"quant.fp4_encode", "element", "4.563 B: x read, codes and a scale per 64 written",
        4.5 + 4.0 / 64, setup_small_codes, q4_encode, MO_QUANT_FP4},
    {"quant.fp4_decode", "element", "4.563 B: codes and scales read, x written", 4.5 + 4.0 / 64,
        setup_small_codes, q4_decode, MO_QUANT_FP4},
    {"quant.int8_encode", "element", "5 B: x read, codes written; rows of 4096", 5,
        setup_small_codes, int8_encode, -1},
    {"quant.int8_decode", "element", "5 B: codes read, x written; rows of 4096", 5,
        setup_small_codes, int8_decode, -1},
    {"gemm.1024", "product", "1024 x 1024 x 1024", 0, setup_gemm, multiply, 0},
    {"gemm.gpt_qkv", "product", "m 1024, n 1152, k 384", 0, setup_gemm, multiply, 1},
    {"gemm.gpt_fc", "product", "m 1024, n 1536, k 384", 0, setup_gemm, multiply, 2},
    {"gemm.gpt_fc_dw", "product", "m 384, n 1536, k 1024, A transposed", 0, setup_gemm, multiply,
        3},
    {"gemm.gpt_fc_dx", "product", "m 1024, n 384, k 1536, B transposed", 0, setup_gemm, multiply,
        4},
    {"gemm.nf4", "product", "m 1024, n 384, k 1536, B transposed, NF4", 0, setup_gemm_nf4,
        multiply_nf4, 4},
    {0}};
