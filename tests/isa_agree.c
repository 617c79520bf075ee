/* isa_agree.c - every kernel under every instruction set of this CPU against the scalar one. No
 * test framework, so that it can be cross-compiled and run under an emulator:
 *
 *   aarch64-linux-gnu-gcc -static -O2 -Isrc -Isrc/base -Isrc/memory -Isrc/numeric -Isrc/train \
 *       -Isrc/plan -Isrc/store -Isrc/advise tests/isa_agree.c src/memopt.c -lm -o isa_agree
 *   qemu-aarch64-static ./isa_agree [PREFIX OF NAMES]
 *
 * Prints "name set ok|FAIL n": n is the number of outputs that differ in any bit, or, for kernels
 * that may round differently, that are further than 1e-5 of the largest output from the scalar one:
 * some tens of roundings of 2^-24. Exit status 1 when anything fails. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memopt.h"

#ifndef ISA_AGREE_N /* numbers a kernel; -DISA_AGREE_N=10000019 for the long run */
#define ISA_AGREE_N 1000003
#endif
enum { N = ISA_AGREE_N, MOST = 64 };

/* ---- inputs -------------------------------------------------------------------------------- */

static uint64_t rng_state = 20261120;
static uint64_t rng(void) {
    uint64_t z = (rng_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static float uniform(void) { return (float)(rng() >> 40) * 0x1p-23f - 1; }

static void *array(size_t n, size_t size) {
    void *p = calloc(n, size);
    if (!p) {
        puts("out of memory");
        exit(2);
    }
    return p;
}
static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* any bit pattern, and every eighth number one of the special ones */
static void fill_patterns(float *x, size_t n) {
    static const uint32_t specials[] = {0, 0x80000000, 1, 0x807fffff, 0x00800000, 0x7f7fffff,
        0x7f800000, 0xff800000, 0x7f800001, 0xffc00001, 0x477fefff, 0x477ff000, 0x33000000,
        0x33000001, 0x387fffff, 0x38800000, 0x3f800000, 0x3f808000, 0x3f818000, 0x7f7f8000};
    for (size_t i = 0; i < n; i++)
        x[i] = from_bits(
            i % 8 ? (uint32_t)rng() : specials[rng() % (sizeof specials / sizeof *specials)]);
}
/* finite, of all sizes, with zeros and subnormals */
static void fill_finite(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        x[i] = uniform() * powf(10, (float)(rng() % 14) - 12);
        if (i % 11 == 0) x[i] = 0;
        if (i % 13 == 0) x[i] = from_bits((uint32_t)rng() & 0x807fffff);
        if (i / 1000 % 9 == 0)
            x[i] = from_bits((uint32_t)rng() & 0x807fffff); /* whole blocks of them */
    }
}
static void fill_uniform(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = uniform();
}

/* ---- comparison ---------------------------------------------------------------------------- */

/* What a kernel wrote: any number of arrays, kept until the next set has run too. */
typedef struct output {
    void *data[MOST];
    size_t n[MOST], width[MOST]; /* elements, bytes each */
    int count;
} output;

static void keep(output *out, const void *data, size_t n, size_t width) {
    out->data[out->count] = array(n, width);
    memcpy(out->data[out->count], data, n * width);
    out->n[out->count] = n;
    out->width[out->count++] = width;
}
static void forget(output *out) {
    for (int i = 0; i < out->count; i++) free(out->data[i]);
    out->count = 0;
}

static size_t different_bits(const output *a, const output *b) {
    size_t wrong = 0;
    for (int k = 0; k < a->count; k++)
        for (size_t i = 0; i < a->n[k]; i++) {
            const size_t at = i * a->width[k];
            wrong += memcmp((char *)a->data[k] + at, (char *)b->data[k] + at, a->width[k]) != 0;
        }
    return wrong;
}
static size_t far_away(const output *a, const output *b) {
    size_t wrong = 0;
    for (int k = 0; k < a->count; k++) {
        const float *x = (const float *)a->data[k], *y = (const float *)b->data[k];
        float most = 0;
        for (size_t i = 0; i < a->n[k]; i++) most = fabsf(y[i]) > most ? fabsf(y[i]) : most;
        for (size_t i = 0; i < a->n[k]; i++) wrong += !(fabsf(x[i] - y[i]) <= 1e-5f * most);
    }
    return wrong;
}

/* ---- kernels that agree to the bit ---------------------------------------------------------- */

static float *patterns, *numbers;
static uint16_t *halves;
static int variant; /* most kernels below have some */

/* A failing call would go unnoticed as two equal outputs. */
static void must(mo_status status) {
    if (status == MO_OK) return;
    printf("status %s\n", mo_status_name(status));
    exit(2);
}

static void run_to_half(output *out) {
    uint16_t *y = (uint16_t *)array(N, sizeof *y);
    if (variant) mo_f32_to_bf16(patterns, y, N, NULL);
    else mo_f32_to_f16(patterns, y, N, NULL);
    keep(out, y, N, sizeof *y);
    free(y);
}
static void run_from_half(output *out) {
    float *y = (float *)array(N, sizeof *y);
    if (variant) mo_bf16_to_f32(halves, y, N, NULL);
    else mo_f16_to_f32(halves, y, N, NULL);
    keep(out, y, N, sizeof *y);
    free(y);
}

/* one format in every way: nearest or stochastic, saturating or not; and back */
static void run_half(output *out) {
    mo_half_desc d;
    memset(&d, 0, sizeof d);
    d.format = (mo_half_format)variant;
    const size_t bytes = mo_half_bytes(d.format);
    void *y = array(N, bytes);
    float *back = (float *)array(N, sizeof *back);
    for (int way = 0; way < 4; way++) {
        d.stochastic = way & 1;
        d.saturate = way >> 1;
        d.offset = 0xffffff00u; /* the high half of the index changes */
        must(mo_half_encode(&d, patterns, N, y));
        keep(out, y, N, bytes);
    }
    must(mo_half_decode(&d, halves, N, back));
    keep(out, back, N, sizeof *back);
    free(y);
    free(back);
}

static void encode(const mo_quant8_desc *d, const float *x, output *out) {
    const size_t blocks = N / d->block + 1;
    uint8_t *codes = (uint8_t *)array(N, 1);
    float *absmax = (float *)array(blocks, sizeof *absmax), *y = (float *)array(N, sizeof *y);
    must(mo_quant8_encode(d, x, N, codes, absmax));
    must(mo_quant8_decode(d, codes, absmax, N, y));
    keep(out, codes, N, 1);
    keep(out, absmax, blocks, sizeof *absmax);
    for (size_t i = 0; i < N; i++)
        if (y[i] != y[i]) y[i] = 0; /* the sign of infinity * 0 is the CPU's */
    keep(out, y, N, sizeof *y);
    free(codes);
    free(absmax);
    free(y);
}
static void run_quant8(output *out) {
    static const mo_quant_map maps[] = {
        MO_QUANT_SIGNED, MO_QUANT_UNSIGNED, MO_QUANT_LINEAR_SIGNED, MO_QUANT_LINEAR_UNSIGNED};
    const mo_quant8_desc small = {maps[variant % 4], 64, variant / 4, NULL};
    mo_quant8_desc large = small;
    large.block = 4096;
    encode(&small, numbers, out);
    encode(&large, numbers, out);
    encode(&small, patterns, out);
}

static void run_quant4(output *out) {
    const mo_quant4_desc d = {
        variant & 1 ? MO_QUANT_FP4 : MO_QUANT_NF4, variant & 2 ? 4096 : 32, NULL};
    const size_t blocks = N / d.block + 1;
    uint8_t *codes = (uint8_t *)array(N / 2 + 1, 1);
    float *absmax = (float *)array(blocks, sizeof *absmax), *y = (float *)array(N, sizeof *y);
    uint16_t *h = (uint16_t *)array(N, sizeof *h);
    for (int k = 0; k < 2; k++) {
        must(mo_quant4_encode(&d, k ? patterns : numbers, N, codes, absmax));
        must(mo_quant4_decode(&d, codes, absmax, 5, N - 5, y));
        keep(out, codes, N / 2 + 1, 1);
        keep(out, absmax, blocks, sizeof *absmax);
        keep(out, y, N, sizeof *y);
        must(mo_quant4_decode_bf16(&d, codes, absmax, 0, N, h));
        keep(out, h, N, sizeof *h);
        must(mo_quant4_decode_f16(&d, codes, absmax, 6, N - 6, h));
        keep(out, h, N, sizeof *h);
    }
    free(codes);
    free(absmax);
    free(y);
    free(h);
}

static void run_nested(output *out) {
    uint8_t *codes = (uint8_t *)array(N, 1);
    float *absmax2 = (float *)array(N / 256 + 1, sizeof *absmax2), offset;
    float *y = (float *)array(N, sizeof *y);
    must(mo_quant_nested_encode(numbers, N, codes, absmax2, &offset));
    must(mo_quant_nested_decode(codes, absmax2, offset, N, y));
    keep(out, codes, N, 1);
    keep(out, absmax2, N / 256 + 1, sizeof *absmax2);
    keep(out, y, N, sizeof *y);
    free(codes);
    free(absmax2);
    free(y);
}

/* A threshold also takes NaN and infinities out of the patterns. */
static void run_int8(output *out) {
    enum { COLUMNS = 1003, ROWS = N / COLUMNS, SIZE = ROWS * COLUMNS };
    const mo_int8_desc d = {ROWS, COLUMNS, variant ? 0.5f : 0, NULL};
    const float *x = variant ? patterns : numbers;
    mo_int8_outliers outliers = {NULL, 0, 0};
    int8_t *codes = (int8_t *)array(SIZE, 1);
    float absmax[ROWS], *y = (float *)array(SIZE, sizeof *y);
    uint16_t *h = (uint16_t *)array(SIZE, sizeof *h);
    must(mo_int8_outlier_count(&d, x, &outliers.capacity));
    outliers.list = (mo_int8_outlier *)array(outliers.capacity + 1, sizeof *outliers.list);
    must(mo_int8_encode(&d, x, codes, absmax, &outliers));
    keep(out, codes, SIZE, 1);
    keep(out, absmax, ROWS, sizeof *absmax);
    keep(out, outliers.list, outliers.n, sizeof *outliers.list);
    must(mo_int8_decode(&d, codes, absmax, &outliers, y));
    keep(out, y, SIZE, sizeof *y);
    must(mo_int8_decode_bf16(&d, codes, absmax, &outliers, h));
    keep(out, h, SIZE, sizeof *h);
    must(mo_int8_decode_f16(&d, codes, absmax, NULL, h));
    keep(out, h, SIZE, sizeof *h);
    free(outliers.list);
    free(codes);
    free(y);
    free(h);
}

/* steps of one kind: variant = precision, and 4 times 0 for parameters in fp32, 1 in bf16, 2 with
 * a master copy */
static void train(mo_optim_desc d, output *out) {
    enum { SIZE = N / 2450 * 172, STEPS = 5 }; /* whole rows */
    mo_optim_state state;
    d.precision = (mo_optim_precision)(variant % 4);
    d.weight_decay = 0.01;
    d.grad_scale = 0.3;
    d.lr = 1e-3;
    d.master = variant / 4 == 2;
    const size_t size = mo_optim_state_size(&d, SIZE);
    void *memory = mo_alloc(NULL, size, 64);
    float *param = (float *)array(SIZE, sizeof *param);
    uint16_t *half = (uint16_t *)array(SIZE, sizeof *half);
    memcpy(param, numbers + 500, SIZE * sizeof *param);
    mo_f32_to_bf16(param, half, SIZE, NULL);
    must(mo_optim_state_init(&d, SIZE, memory, size, &state));
    if (d.master) must(mo_optim_master_init(&state, half));
    for (uint64_t t = 1; t <= STEPS; t++)
        if (variant / 4) must(mo_optim_step_bf16(&d, t, half, numbers + t * SIZE, &state));
        else must(mo_optim_step(&d, t, param, numbers + t * SIZE, &state));
    keep(out, param, SIZE, sizeof *param);
    keep(out, half, SIZE, sizeof *half);
    keep(out, memory, size, 1);
    mo_free(NULL, memory, size, 64);
    free(param);
    free(half);
}

static void run_optim(output *out) {
    for (int kind = 0; kind < MO_OPTIM_KIND_COUNT; kind++) {
        mo_optim_desc d;
        memset(&d, 0, sizeof d);
        d.kind = (mo_optim_kind)kind;
        if (variant % 4 == MO_OPTIM_4BIT && d.kind != MO_OPTIM_ADAMW) break;
        train(d, out);
        if (d.kind < MO_OPTIM_ADAM_MINI) continue;
        d.columns = d.kind < MO_OPTIM_APOLLO ? 4 : 172;
        train(d, out);
    }
}

static void run_accum(output *out) {
    float *sum = (float *)array(N, sizeof *sum);
    memcpy(sum, numbers, N * sizeof *sum);
    mo_accum_add(numbers + 1, 1.0f / 3, sum, N - 1, NULL);
    const double square = mo_accum_square_sum(numbers, N, NULL);
    keep(out, sum, N, sizeof *sum);
    keep(out, &square, 1, sizeof square);
    const double norm = mo_accum_clip(sum, N, 1, NULL);
    keep(out, sum, N, sizeof *sum);
    keep(out, &norm, 1, sizeof norm);
    free(sum);
}

/* patterns too: sums and terms of any kind */
static void run_accum_bf16(output *out) {
    const mo_accum_noise noise = {7, 0xfffffff0u};
    const float *grads[] = {numbers, patterns, numbers + 1};
    uint16_t *sum = (uint16_t *)array(N, sizeof *sum), *lost = (uint16_t *)array(N, sizeof *lost);
    if (variant & 1) memcpy(sum, halves, N * sizeof *sum);
    for (size_t i = 0; i < 3; i++) {
        if (variant & 2) mo_accum_add_bf16_kahan(grads[i], 1.0f / 3, sum, lost, N - i, NULL);
        else mo_accum_add_bf16_stochastic(grads[i], 1.0f / 3, sum, N - i, &noise, NULL);
        for (size_t j = 0; j < N; j++) { /* the sign of a NaN is the CPU's */
            if ((sum[j] & 0x7fff) > 0x7f80) sum[j] = 0x7fc0;
            if ((lost[j] & 0x7fff) > 0x7f80) lost[j] = 0x7fc0;
        }
        keep(out, sum, N, sizeof *sum);
        keep(out, lost, N, sizeof *lost);
    }
    free(sum);
    free(lost);
}

/* ---- kernels that may round differently ------------------------------------------------------ */

static mo_gemm_env gemm_env(void) {
    mo_gemm_env env;
    memset(&env, 0, sizeof env);
    env.workspace_size = mo_gemm_workspace_size(NULL, NULL);
    env.workspace = mo_alloc(NULL, env.workspace_size, 64);
    return env;
}

static void run_gemm(output *out) {
    static const size_t shapes[][3] = {
        {7, 5, 3}, {65, 40, 401}, {1, 100, 33}, {50, 1, 17}, {13, 29, 64}};
    float *x = (float *)array(100000, sizeof *x), *c = (float *)array(10000, sizeof *c);
    mo_gemm_env env = gemm_env();
    rng_state = 1;
    fill_uniform(x, 100000);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t *s = shapes[i];
        mo_gemm_desc d = {
            s[0], s[1], s[2], variant & 1, variant >> 1, 0, 0, 0, 0.5f, i % 2 ? 1.0f : 0};
        fill_uniform(c, s[0] * s[1]);
        must(mo_gemm(&env, &d, x, x + 50000, c));
        keep(out, c, s[0] * s[1], sizeof *c);
    }
    mo_free(NULL, env.workspace, env.workspace_size, 64);
    free(x);
    free(c);
}

/* NF4 times int8: x holds the codes and the scales. */
static void run_gemm_mixed(output *out) {
    enum { M = 13, COLUMNS = 45, K = 401 };
    float *x = (float *)array(40000, sizeof *x), c[M * COLUMNS];
    uint8_t *codes = (uint8_t *)array(40000, 1);
    mo_gemm_env env = gemm_env();
    rng_state = 6;
    fill_uniform(x, 40000);
    for (size_t i = 0; i < 40000; i++) codes[i] = (uint8_t)rng();
    const mo_gemm_desc d = {M, COLUMNS, K, variant & 1, variant >> 1, 0, 0, 0, 0, 0};
    const mo_gemm_operand a = {MO_GEMM_NF4, codes, x, 0}, b = {MO_GEMM_INT8, codes, x, 0};
    must(mo_gemm_mixed(&env, &d, &a, &b, c));
    keep(out, c, M * COLUMNS, sizeof *c);
    mo_free(NULL, env.workspace, env.workspace_size, 64);
    free(x);
    free(codes);
}

static void run_compress(output *out) {
    mo_compress_desc d = {0};
    d.bits = variant;
    d.seed = 11;
    const size_t size = mo_compress_size(&d, N);
    void *codes = array(size, 1);
    float *y = (float *)array(N, sizeof *y);
    must(mo_compress_encode(&d, numbers, N, codes));
    must(mo_compress_decode(&d, codes, N, y));
    keep(out, codes, size, 1);
    keep(out, y, N, sizeof *y);
    free(codes);
    free(y);
}

static void run_mask(output *out) {
    mo_dropout_desc d = {0};
    uint32_t *mask = (uint32_t *)array(mo_mask_words(N), sizeof *mask);
    float *y = (float *)array(N, sizeof *y);
    d.p = 0.1f;
    must(mo_dropout_forward(&d, numbers, mask, y, N));
    keep(out, mask, mo_mask_words(N), sizeof *mask);
    must(mo_relu_forward(y, 0.25f, mask, y, N, NULL));
    keep(out, mask, mo_mask_words(N), sizeof *mask);
    must(mo_relu_backward(mask, y, 0.25f, y, N, NULL));
    keep(out, y, N, sizeof *y);
    free(mask);
    free(y);
}

static void run_gelu(output *out) {
    enum { SIZE = 10007 };
    float *x = (float *)array(SIZE, sizeof *x), *y = (float *)array(SIZE, sizeof *y);
    rng_state = 2;
    fill_uniform(x, SIZE);
    for (size_t i = 0; i < SIZE; i++) x[i] *= 8;
    mo_gelu_forward(x, y, SIZE, NULL);
    keep(out, y, SIZE, sizeof *y);
    mo_gelu_backward(x, numbers, y, SIZE, NULL);
    keep(out, y, SIZE, sizeof *y);
    free(x);
    free(y);
}

static void run_norm(output *out) {
    enum { ROWS = 13, COLUMNS = 83, SIZE = ROWS * COLUMNS };
    float x[SIZE], y[SIZE], w[2 * COLUMNS], dw[2 * COLUMNS] = {0}, stats[2 * ROWS];
    rng_state = 3;
    fill_uniform(x, SIZE);
    fill_uniform(w, 2 * COLUMNS);
    mo_layernorm_desc d = {
        ROWS, COLUMNS, 0, w, w + COLUMNS, stats, stats + ROWS, dw, dw + COLUMNS, 0, NULL};
    must(mo_layernorm_forward(&d, x, y));
    keep(out, y, SIZE, sizeof *y);
    must(mo_layernorm_backward(&d, x, y, y));
    keep(out, y, SIZE, sizeof *y);
    keep(out, dw, 2 * COLUMNS, sizeof *dw);
}

static void run_rmsnorm(output *out) {
    enum { ROWS = 13, COLUMNS = 83, SIZE = ROWS * COLUMNS };
    float x[SIZE], y[SIZE], w[COLUMNS], dw[COLUMNS] = {0}, rstd[ROWS];
    rng_state = 7;
    fill_uniform(x, SIZE);
    fill_uniform(w, COLUMNS);
    mo_rmsnorm_desc d = {ROWS, COLUMNS, 0, w, rstd, dw, 0, NULL};
    must(mo_rmsnorm_forward(&d, x, y));
    keep(out, y, SIZE, sizeof *y);
    must(mo_rmsnorm_backward(&d, x, y, y));
    keep(out, y, SIZE, sizeof *y);
    keep(out, dw, COLUMNS, sizeof *dw);
}

static void run_swiglu(output *out) {
    enum { ROWS = 3, HIDDEN = N / 4 };
    const mo_swiglu_desc d = {ROWS, HIDDEN, 0, 0, NULL};
    float *gate = (float *)array(ROWS * HIDDEN, sizeof *gate);
    float *y = (float *)array(2 * ROWS * HIDDEN, sizeof *y);
    rng_state = 8;
    fill_uniform(gate, ROWS * HIDDEN);
    for (size_t i = 0; i < ROWS * HIDDEN; i++) gate[i] *= 100;
    must(mo_swiglu_forward(&d, gate, numbers, y));
    keep(out, y, ROWS * HIDDEN, sizeof *y);
    must(mo_swiglu_backward(&d, gate, numbers, numbers + 9, y, y + ROWS * HIDDEN));
    keep(out, y, 2 * ROWS * HIDDEN, sizeof *y);
    free(gate);
    free(y);
}

static void run_rope(output *out) {
    enum { SEQ = 50, HEADS = 3, HEAD = 38, SIZE = SEQ * HEADS * HEAD };
    float *x = (float *)array(SIZE, sizeof *x), table[SEQ * HEAD];
    mo_rope_desc d = {1, SEQ, 0, 0, HEADS, HEAD, 0, variant, table, NULL};
    must(mo_rope_table(HEAD, SEQ, 0, table));
    memcpy(x, numbers, SIZE * sizeof *x);
    must(mo_rope_forward(&d, x));
    keep(out, x, SIZE, sizeof *x);
    must(mo_rope_backward(&d, x));
    keep(out, x, SIZE, sizeof *x);
    free(x);
}

static void run_attention(output *out) {
    enum { SEQ = 70, HEADS = 2, HEAD = 9, ROW = 3 * HEADS * HEAD, SIZE = SEQ * HEADS * HEAD };
    float *x = (float *)array(SEQ * ROW, sizeof *x), *dx = (float *)array(SEQ * ROW, sizeof *x);
    float *y = (float *)array(SIZE, sizeof *y), lse[SEQ * HEADS];
    static const uint8_t blocks[] = {1, 1, 1, 1};
    mo_attention_desc d;
    rng_state = 4;
    fill_uniform(x, SEQ * ROW);
    memset(&d, 0, sizeof d);
    d.batch = 1;
    d.seq = SEQ;
    d.heads = HEADS;
    d.head_size = HEAD;
    d.stride = ROW;
    d.full = variant == 1;
    if (variant == 2) {
        d.kv_heads = 1;
        d.window = 40;
        d.blocks = blocks;
        d.dropout = 0.2f;
    }
    d.workspace_size = mo_attention_workspace_size(&d);
    d.workspace = mo_alloc(NULL, d.workspace_size, 64);
    mo_attention_tensors t = {
        x, x + ROW / 3, x + 2 * ROW / 3, y, lse, y, dx, dx + ROW / 3, dx + 2 * ROW / 3};
    must(mo_attention_forward(&d, &t));
    must(mo_attention_backward(&d, &t));
    keep(out, y, SIZE, sizeof *y);
    keep(out, dx, SEQ * ROW, sizeof *dx);
    mo_free(NULL, d.workspace, d.workspace_size, 64);
    free(x);
    free(dx);
    free(y);
}

static void run_linear_attention(output *out) {
    enum { SEQ = 70, HEADS = 2, HEAD = 19, ROW = 3 * HEADS * HEAD, SIZE = SEQ * HEADS * HEAD };
    float *x = (float *)array(SEQ * ROW, sizeof *x), *dx = (float *)array(SEQ * ROW, sizeof *x);
    float *y = (float *)array(SIZE, sizeof *y), norm[SEQ * HEADS];
    mo_linear_attention_desc d;
    rng_state = 4;
    fill_uniform(x, SEQ * ROW);
    memset(&d, 0, sizeof d);
    d.batch = 1;
    d.seq = SEQ;
    d.heads = HEADS;
    d.head_size = HEAD;
    d.stride = ROW;
    d.full = variant;
    d.workspace_size = mo_linear_attention_workspace_size(&d);
    d.workspace = mo_alloc(NULL, d.workspace_size, 64);
    mo_linear_attention_tensors t = {
        x, x + ROW / 3, x + 2 * ROW / 3, y, norm, y, dx, dx + ROW / 3, dx + 2 * ROW / 3};
    must(mo_linear_attention_forward(&d, &t));
    must(mo_linear_attention_backward(&d, &t));
    keep(out, y, SIZE, sizeof *y);
    keep(out, dx, SEQ * ROW, sizeof *dx);
    mo_free(NULL, d.workspace, d.workspace_size, 64);
    free(x);
    free(dx);
    free(y);
}

/* A student of 19 channels and a teacher of 5; variant: what of it is written down. */
static void run_distill(output *out) {
    enum { ROWS = 9, CHANNELS = 19, WIDTH = 5, VOCAB = 67 };
    float x[ROWS * CHANNELS], w[VOCAB * CHANNELS], dx[ROWS * CHANNELS], tx[ROWS * WIDTH],
        tw[VOCAB * WIDTH], loss_f;
    uint16_t indices[ROWS * VOCAB], log_probs[ROWS * VOCAB];
    int32_t targets[ROWS];
    double loss;
    mo_gemm_env env = gemm_env();
    rng_state = 5;
    fill_uniform(x, ROWS * CHANNELS);
    fill_uniform(w, VOCAB * CHANNELS);
    fill_uniform(tx, ROWS * WIDTH);
    fill_uniform(tw, VOCAB * WIDTH);
    for (int i = 0; i < ROWS; i++) targets[i] = (int32_t)(rng() % VOCAB);
    mo_linear_kd_desc d;
    mo_linear_kd_topk_desc topk;
    mo_linear_kd_tensors t;
    memset(&d, 0, sizeof d), memset(&topk, 0, sizeof topk), memset(&t, 0, sizeof t);
    topk.rows = d.ce.rows = ROWS;
    topk.vocab = d.ce.vocab = VOCAB;
    d.ce.channels = CHANNELS;
    topk.channels = d.teacher_channels = WIDTH;
    topk.env = d.ce.env = &env;
    topk.k = d.k = (size_t)variant;
    topk.workspace_size = d.ce.workspace_size = 1 << 16;
    topk.workspace = d.ce.workspace = mo_alloc(NULL, 1 << 16, 64);
    t.ce.x = x, t.ce.w = w, t.ce.targets = targets, t.ce.dx = dx;
    t.teacher_x = tx, t.teacher_w = tw, t.indices = indices, t.log_probs = log_probs;
    if (variant) must(mo_linear_kd_topk(&topk, tx, tw, indices, log_probs));
    must(mo_linear_kd(&d, &t, &loss));
    loss_f = (float)loss;
    keep(out, &loss_f, 1, sizeof loss_f);
    keep(out, dx, ROWS * CHANNELS, sizeof *dx);
    mo_free(NULL, d.ce.workspace, 1 << 16, 64);
    mo_free(NULL, env.workspace, env.workspace_size, 64);
}
static void run_loss(output *out) {
    enum { ROWS = 11, CHANNELS = 19, VOCAB = 67 };
    float x[ROWS * CHANNELS], w[VOCAB * CHANNELS], dx[ROWS * CHANNELS], dw[VOCAB * CHANNELS] = {0},
                                                                                   loss_f;
    int32_t targets[ROWS];
    double loss;
    mo_gemm_env env = gemm_env();
    rng_state = 5;
    fill_uniform(x, ROWS * CHANNELS);
    fill_uniform(w, VOCAB * CHANNELS);
    for (int i = 0; i < ROWS; i++) targets[i] = (int32_t)(rng() % VOCAB);
    mo_linear_ce_desc d;
    memset(&d, 0, sizeof d);
    d.rows = ROWS;
    d.channels = CHANNELS;
    d.vocab = VOCAB;
    d.chunk_rows = 4;
    d.label_smoothing = variant ? 0.1f : 0;
    d.z_loss = variant ? 1e-3f : 0;
    d.env = &env;
    d.workspace_size = mo_linear_ce_workspace_size(&d);
    d.workspace = mo_alloc(NULL, d.workspace_size, 64);
    mo_linear_ce_tensors t = {x, w, targets, dx, dw, NULL, NULL, NULL};
    must(mo_linear_ce(&d, &t, &loss));
    loss_f = (float)loss;
    keep(out, &loss_f, 1, sizeof loss_f);
    keep(out, dx, ROWS * CHANNELS, sizeof *dx);
    keep(out, dw, VOCAB * CHANNELS, sizeof *dw);
    mo_free(NULL, d.workspace, d.workspace_size, 64);
    mo_free(NULL, env.workspace, env.workspace_size, 64);
}

/* ---- all of them --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(output *out);
    int variant, exact;
} kernels[] = {
    {"half.f32_to_f16", run_to_half, 0, 1},
    {"half.f32_to_bf16", run_to_half, 1, 1},
    {"half.f16_to_f32", run_from_half, 0, 1},
    {"half.bf16_to_f32", run_from_half, 1, 1},
    {"half.f16", run_half, MO_HALF_F16, 1},
    {"half.bf16", run_half, MO_HALF_BF16, 1},
    {"half.f8_e4m3", run_half, MO_HALF_F8_E4M3, 1},
    {"half.f8_e5m2", run_half, MO_HALF_F8_E5M2, 1},
    {"quant8.signed", run_quant8, 0, 1},
    {"quant8.unsigned", run_quant8, 1, 1},
    {"quant8.linear_signed", run_quant8, 2, 1},
    {"quant8.linear_unsigned", run_quant8, 3, 1},
    {"quant8.signed_no_zero", run_quant8, 4, 1},
    {"quant8.unsigned_no_zero", run_quant8, 5, 1},
    {"quant4.nf4_32", run_quant4, 0, 1},
    {"quant4.fp4_32", run_quant4, 1, 1},
    {"quant4.nf4_4096", run_quant4, 2, 1},
    {"quant4.fp4_4096", run_quant4, 3, 1},
    {"quant4.nested", run_nested, 0, 1},
    {"int8", run_int8, 0, 1},
    {"int8.outliers", run_int8, 1, 1},
    {"optim.f32", run_optim, 0, 1},
    {"optim.8bit", run_optim, 1, 1},
    {"optim.bf16", run_optim, 2, 1},
    {"optim.4bit", run_optim, 3, 1},
    {"optim.f32_bf16_param", run_optim, 4, 1},
    {"optim.8bit_bf16_param", run_optim, 5, 1},
    {"optim.bf16_bf16_param", run_optim, 6, 1},
    {"optim.4bit_bf16_param", run_optim, 7, 1},
    {"optim.f32_master", run_optim, 8, 1},
    {"optim.8bit_master", run_optim, 9, 1},
    {"optim.bf16_master", run_optim, 10, 1},
    {"optim.4bit_master", run_optim, 11, 1},
    {"accum", run_accum, 0, 1},
    {"accum.bf16_stochastic", run_accum_bf16, 0, 1},
    {"accum.bf16_stochastic_any", run_accum_bf16, 1, 1},
    {"accum.bf16_kahan", run_accum_bf16, 2, 1},
    {"accum.bf16_kahan_any", run_accum_bf16, 3, 1},
    {"compress.8", run_compress, 8, 1},
    {"compress.4", run_compress, 4, 1},
    {"mask", run_mask, 0, 1},
    {"gemm.nn", run_gemm, 0, 0},
    {"gemm.tn", run_gemm, 1, 0},
    {"gemm.nt", run_gemm, 2, 0},
    {"gemm.tt", run_gemm, 3, 0},
    {"gemm.mixed_nt", run_gemm_mixed, 2, 0},
    {"gemm.mixed_tn", run_gemm_mixed, 1, 0},
    {"gelu", run_gelu, 0, 0},
    {"layernorm", run_norm, 0, 0},
    {"rmsnorm", run_rmsnorm, 0, 1},
    {"swiglu", run_swiglu, 0, 1},
    {"rope.halves", run_rope, 0, 1},
    {"rope.interleaved", run_rope, 1, 1},
    {"attention.causal", run_attention, 0, 0},
    {"attention.full", run_attention, 1, 0},
    {"attention.all_options", run_attention, 2, 0},
    {"linear_attention.causal", run_linear_attention, 0, 0},
    {"linear_attention.full", run_linear_attention, 1, 0},
    {"linear_ce", run_loss, 0, 0},
    {"linear_ce.smooth", run_loss, 1, 0},
    {"linear_kd", run_distill, 0, 0},
    {"linear_kd.topk", run_distill, 9, 0},
};

#ifdef ISA_AGREE_KNOWN_BAD /* shows that a single wrong bit is found */
enum { KNOWN_BAD = 1 };
#else
enum { KNOWN_BAD = 0 };
#endif

int main(int argc, char **argv) {
    int failed = 0;
    patterns = (float *)array(N, sizeof *patterns);
    numbers = (float *)array(N, sizeof *numbers);
    halves = (uint16_t *)array(N, sizeof *halves);
    fill_patterns(patterns, N);
    fill_finite(numbers, N);
    for (size_t i = 0; i < N; i++) halves[i] = (uint16_t)(i < 65536 ? i : rng());
    for (size_t k = 0; k < (KNOWN_BAD ? 1 : sizeof kernels / sizeof *kernels); k++) {
        static output want, got;
        if (argc > 1 && strncmp(kernels[k].name, argv[1], strlen(argv[1])) != 0) continue;
        variant = kernels[k].variant;
        must(mo_cpu_select(MO_CPU_SCALAR));
        kernels[k].run(&want);
        for (int cpu = 1; cpu < MO_CPU_COUNT; cpu++) {
            if (mo_cpu_select((mo_cpu)cpu) != MO_OK) continue;
            kernels[k].run(&got);
            if (KNOWN_BAD) *(unsigned char *)got.data[0] ^= 1;
            const size_t wrong =
                kernels[k].exact ? different_bits(&got, &want) : far_away(&got, &want);
            printf("%s %s %s %zu\n", kernels[k].name, mo_cpu_name((mo_cpu)cpu),
                wrong ? "FAIL" : "ok", wrong);
            failed |= wrong != 0;
            forget(&got);
        }
        forget(&want);
    }
    free(patterns);
    free(numbers);
    free(halves);
    return failed;
}
