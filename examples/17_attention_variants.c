// 17_attention_variants.c - a long sequence through attention that sees everything, a window, or
// blocks, through shared heads of keys, and through linear attention: bytes and time of each.
//     cc -I. examples/17_attention_variants.c memopt.c -o attention_variants -lm
#include "memopt.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SEQ = 2048, HEADS = 4, SIZE = 64, CHANNELS = HEADS * SIZE, BLOCKS = SEQ / 128 };

static double now_ms(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static float *numbers(size_t n) {
    float *x = malloc(n * sizeof *x);
    unsigned seed = 1;
    for (size_t i = 0; x && i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int)seed / 2147483648.0f;
    }
    return x;
}

static void row(const char *name, size_t kv, size_t extra, double ms) {
    printf("%-24s %8zu %12zu %10.1f\n", name, kv >> 10, extra >> 10, ms);
}

// Forward and backward of rows of q, k and v, which follow each other as a fused product makes
// them. Prints KiB of k and v, KiB of all that attention itself needs, and the time.
static int attention(const char *name, mo_attention_desc d, const float *qkv, const float *dout) {
    const size_t kv_heads = d.kv_heads ? d.kv_heads : HEADS,
                 stride = CHANNELS + 2 * kv_heads * SIZE;
    const size_t k = CHANNELS, v = k + kv_heads * SIZE;
    d.batch = 1, d.seq = SEQ, d.heads = HEADS, d.head_size = SIZE, d.stride = stride;
    d.workspace_size = mo_attention_workspace_size(&d);
    d.workspace = mo_alloc(NULL, d.workspace_size, 64);
    float *out = numbers(SEQ * CHANNELS), *lse = numbers(SEQ * HEADS), *g = numbers(SEQ * stride);
    mo_attention_tensors t = {qkv, qkv + k, qkv + v, out, lse, dout, g, g + k, g + v};
    const double begin = now_ms();
    int failed = !d.workspace || !out || !lse || !g;
    if (!failed) failed = mo_attention_forward(&d, &t) || mo_attention_backward(&d, &t);
    if (!failed)
        row(name, 2 * SEQ * kv_heads * SIZE * sizeof(float),
            d.workspace_size + SEQ * HEADS * sizeof *lse, now_ms() - begin);
    mo_free(NULL, d.workspace, d.workspace_size, 64);
    free(out), free(lse), free(g);
    return failed;
}

static int linear(const float *qkv, const float *dout) {
    mo_linear_attention_desc d = {
        .batch = 1, .seq = SEQ, .heads = HEADS, .head_size = SIZE, .stride = 3 * CHANNELS};
    d.workspace_size = mo_linear_attention_workspace_size(&d);
    d.workspace = mo_alloc(NULL, d.workspace_size, 64);
    float *out = numbers(SEQ * CHANNELS), *norm = numbers(SEQ * HEADS);
    float *g = numbers(SEQ * 3 * CHANNELS);
    mo_linear_attention_tensors t = {qkv, qkv + CHANNELS, qkv + 2 * CHANNELS, out, norm, dout, g,
        g + CHANNELS, g + 2 * CHANNELS};
    const double begin = now_ms();
    int failed = !d.workspace || !out || !norm || !g;
    if (!failed)
        failed = mo_linear_attention_forward(&d, &t) || mo_linear_attention_backward(&d, &t);
    if (!failed)
        row("linear", 2 * SEQ * CHANNELS * sizeof(float),
            d.workspace_size + SEQ * HEADS * sizeof *norm, now_ms() - begin);
    mo_free(NULL, d.workspace, d.workspace_size, 64);
    free(out), free(norm), free(g);
    return failed;
}

int main(void) {
    float *qkv = numbers(SEQ * 3 * CHANNELS), *dout = numbers(SEQ * CHANNELS);
    static uint8_t blocks[BLOCKS * BLOCKS]; // of 128 see the first, the one before and themselves
    for (int i = 0; i < BLOCKS; i++)
        for (int j = 0; j < BLOCKS; j++) blocks[i * BLOCKS + j] = j == 0 || j + 1 >= i;
    if (!qkv || !dout) return 1;
    printf("%d positions, %d heads of %d; the matrix of scores would take %d KiB\n\n", SEQ, HEADS,
        SIZE, HEADS * SEQ * (SEQ / 1024) * 4);
    printf("%-24s %8s %12s %10s\n", "", "k, v KiB", "beside KiB", "ms");
    int failed = attention("causal", (mo_attention_desc){0}, qkv, dout) ||
        attention("the last 256", (mo_attention_desc){.window = 256}, qkv, dout) ||
        attention("blocks", (mo_attention_desc){.blocks = blocks, .block = 128}, qkv, dout) ||
        attention("one head of k and v", (mo_attention_desc){.kv_heads = 1}, qkv, dout) ||
        linear(qkv, dout);
    free(qkv), free(dout);
    return failed;
}
