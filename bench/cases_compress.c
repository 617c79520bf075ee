// cases_compress.c - compressed activations and masks, on the CPU and on an OpenCL device.
#ifdef NO_OPENCL
#include "bench.h"
#else
#include "device.h"
#endif

#include <string.h>

// Variants: bits of the codes.
#define ENCODE_8 "5.03 B: 4 + 1, and 8 bytes of range per 256"
#define ENCODE_4 "4.625 B: 4 + 1/2, and 8 bytes of range per 64"
enum { BLOCK_8 = 256, BLOCK_4 = 64 };

typedef struct codes {
    mo_compress_desc desc;
    mo_dropout_desc dropout;
    size_t n;
    float *x, *y;
    void *codes;
    uint32_t *mask;
} codes;

static void encode(void *state) {
    codes *s = state;
    s->desc.seed++;
    must(mo_compress_encode(&s->desc, s->x, s->n, s->codes));
}
static void decode(void *state) {
    codes *s = state;
    must(mo_compress_decode(&s->desc, s->codes, s->n, s->y));
}
static void relu(void *state) {
    codes *s = state;
    must(mo_relu_forward(s->x, 0, s->mask, s->y, s->n, s->desc.parallel));
}
static void dropout(void *state) {
    codes *s = state;
    s->dropout.seed++;
    must(mo_dropout_forward(&s->dropout, s->x, NULL, s->y, s->n));
}

static bool setup_codes(work *w) {
    codes *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    s->desc = (mo_compress_desc){.bits = w->variant, .parallel = w->parallel};
    s->dropout = (mo_dropout_desc){.p = 0.1f, .parallel = w->parallel};
    s->n = w->units = w->n;
    s->x = take_random(w, w->n, 1);
    s->y = take(w, w->n * sizeof *s->y);
    s->codes = take(w, mo_compress_size(&s->desc, w->n));
    s->mask = take(w, mo_mask_words(w->n) * sizeof *s->mask);
    w->state = s;
    if (!s->x || !s->y || !s->codes || !s->mask) return false;
    encode(s);
    return true;
}

const bench_case cases_compress[] = {
    {"compress.encode_8bit", "element", ENCODE_8, 5 + 8.0 / BLOCK_8, setup_codes, encode, 8},
    {"compress.decode_8bit", "element", ENCODE_8, 5 + 8.0 / BLOCK_8, setup_codes, decode, 8},
    {"compress.encode_4bit", "element", ENCODE_4, 4.5 + 8.0 / BLOCK_4, setup_codes, encode, 4},
    {"compress.decode_4bit", "element", ENCODE_4, 4.5 + 8.0 / BLOCK_4, setup_codes, decode, 4},
    {"compress.relu_mask", "element", "8.125 B: x read, y and a bit written", 8.125, setup_codes,
        relu, 8},
    {"compress.dropout", "element", "8 B: x read, y written", 8, setup_codes, dropout, 8}, {0}};

#ifdef NO_OPENCL
const bench_case cases_device_compress[] = {{0}};
#else
typedef struct device_codes {
    mo_cl *cl;
    mo_compress_desc desc;
    mo_dropout_desc dropout;
    size_t n;
    mo_cl_mem x, y, codes, mask;
} device_codes;

static void device_encode(void *state) {
    device_codes *s = state;
    s->desc.seed++;
    must(mo_cl_compress_encode(s->cl, &s->desc, s->x, s->n, s->codes));
}
static void device_decode(void *state) {
    device_codes *s = state;
    must(mo_cl_compress_decode(s->cl, &s->desc, s->codes, s->n, s->y));
}
static void device_relu(void *state) {
    device_codes *s = state;
    must(mo_cl_relu_forward(s->cl, s->x, 0, s->mask, s->y, s->n));
}
static void device_dropout(void *state) {
    device_codes *s = state;
    const mo_cl_mem none = {0};
    s->dropout.seed++;
    must(mo_cl_dropout_forward(s->cl, &s->dropout, s->x, none, s->y, s->n));
}

static bool setup_device_codes(work *w) {
    device_codes *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    s->cl = &w->device->cl;
    s->desc = (mo_compress_desc){.bits = w->variant};
    s->dropout = (mo_dropout_desc){.p = 0.1f};
    s->n = w->units = w->n;
    s->x = device_take_random(w, w->n, 1);
    s->y = device_take(w, 4 * w->n);
    s->codes = device_take(w, mo_compress_size(&s->desc, w->n));
    s->mask = device_take(w, 4 * mo_mask_words(w->n));
    w->state = s;
    const mo_cl_mem all[] = {s->x, s->y, s->codes, s->mask};
    if (!device_took(all, 4)) return false;
    device_encode(s);
    return true;
}

const bench_case cases_device_compress[] = {
    {"compress.encode_8bit", "element", ENCODE_8, 5 + 8.0 / BLOCK_8, setup_device_codes,
        device_encode, 8},
    {"compress.decode_8bit", "element", ENCODE_8, 5 + 8.0 / BLOCK_8, setup_device_codes,
        device_decode, 8},
    {"compress.encode_4bit", "element", ENCODE_4, 4.5 + 8.0 / BLOCK_4, setup_device_codes,
        device_encode, 4},
    {"compress.decode_4bit", "element", ENCODE_4, 4.5 + 8.0 / BLOCK_4, setup_device_codes,
        device_decode, 4},
    {"compress.relu_mask", "element", "8.125 B: x read, y and a bit written", 8.125,
        setup_device_codes, device_relu, 8},
    {"compress.dropout", "element", "8 B: x read, y written", 8, setup_device_codes, device_dropout,
        8},
    {0}};
#endif
