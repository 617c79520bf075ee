// cases_device.c - the cases of cases_numeric.c and cases_train.c on an OpenCL device: those that
// sweep over memory.
#ifndef NO_OPENCL
#include "device.h"

#include <string.h>

typedef struct sweep {
    mo_cl *cl;
    mo_cl_heap *heap;
    size_t n;
    mo_half_desc half;
    mo_quant8_desc q8;
    mo_quant4_desc q4;
    mo_int8_desc rows;
    mo_optim_desc optim;
    mo_cl_optim_state state;
    mo_cl_layernorm_desc norm;
    mo_cl_rmsnorm_desc rms;
    mo_swiglu_desc swiglu;
    mo_rope_desc rope;
    mo_cl_mem up, dup, table;
    uint64_t t;
    mo_cl_mem x, y, dx, codes, absmax;
} sweep;

static sweep *take_sweep(work *w) {
    sweep *s = take(w, sizeof *s);
    if (!s) return NULL;
    memset(s, 0, sizeof *s);
    s->cl = &w->device->cl;
    s->heap = &w->device->heap;
    s->n = w->units = w->n;
    s->x = device_take_random(w, w->n, 1);
    w->state = s;
    return s->x.buffer ? s : NULL;
}

// ---- copies ---------------------------------------------------------------------------------

static bool setup_copy(work *w) {
    sweep *s = take_sweep(w);
    if (s) s->y = device_take(w, 4 * w->n);
    return s && s->y.buffer;
}
static void copy_by_kernel(void *state) {
    sweep *s = state;
    must(mo_cl_copy_u32(s->heap, MO_CL_COMPUTE, &s->y, 0, &s->x, 0, s->n, NULL, NULL));
}
static void copy_by_command(void *state) {
    sweep *s = state;
    must(mo_cl_copy(s->heap, MO_CL_COMPUTE, &s->y, 0, &s->x, 0, 4 * s->n, NULL, NULL));
}

// ---- half, quant ----------------------------------------------------------------------------

enum { STOCHASTIC = 16 }; // beside a mo_half_format

static void half_encode(void *state) {
    sweep *s = state;
    must(mo_cl_half_encode(s->cl, &s->half, s->x, s->n, s->codes));
}
static void half_decode(void *state) {
    sweep *s = state;
    must(mo_cl_half_decode(s->cl, &s->half, s->codes, s->n, s->x));
}
static bool setup_half(work *w) {
    sweep *s = take_sweep(w);
    if (!s) return false;
    s->half = (mo_half_desc){
        .format = (mo_half_format)(w->variant % STOCHASTIC), .stochastic = w->variant / STOCHASTIC};
    s->codes = device_take(w, w->n * mo_half_bytes(s->half.format));
    if (!s->codes.buffer) return false;
    half_encode(s);
    return true;
}

static void q8_encode(void *state) {
    sweep *s = state;
    must(mo_cl_quant8_encode(s->cl, &s->q8, s->x, s->n, s->codes, s->absmax));
}
static void q8_decode(void *state) {
    sweep *s = state;
    must(mo_cl_quant8_decode(s->cl, &s->q8, s->codes, s->absmax, s->n, s->x));
}
static void q4_encode(void *state) {
    sweep *s = state;
    must(mo_cl_quant4_encode(s->cl, &s->q4, s->x, s->n, s->codes, s->absmax));
}
static void q4_decode(void *state) {
    sweep *s = state;
    must(mo_cl_quant4_decode(s->cl, &s->q4, s->codes, s->absmax, 0, s->n, s->x));
}
static void int8_encode(void *state) {
    sweep *s = state;
    must(mo_cl_int8_encode(s->cl, &s->rows, s->x, s->codes, s->absmax, NULL));
}
static void int8_decode(void *state) {
    sweep *s = state;
    must(mo_cl_int8_decode(s->cl, &s->rows, s->codes, s->absmax, NULL, s->x));
}
static bool setup_codes(work *w, void (*encode)(void *state)) {
    sweep *s = take_sweep(w);
    if (!s) return false;
    s->q4.map = (mo_quant4_map)w->variant;
    s->rows.columns = w->n < 4096 ? w->n : 4096;
    s->rows.rows = w->n / s->rows.columns;
    s->codes = device_take(w, w->n);
    s->absmax = device_take(w, 4 * (w->n / 64 + 1));
    if (!s->codes.buffer || !s->absmax.buffer) return false;
    if (encode == int8_encode) w->units = s->rows.rows * s->rows.columns;
    encode(s);
    return true;
}
static bool setup_q8(work *w) { return setup_codes(w, q8_encode); }
static bool setup_q4(work *w) { return setup_codes(w, q4_encode); }
static bool setup_int8(work *w) { return setup_codes(w, int8_encode); }

// ---- optim ----------------------------------------------------------------------------------

static void optim_step(void *state) {
    sweep *s = state;
    must(mo_cl_optim_step(s->cl, &s->optim, ++s->t, s->x, s->y, &s->state));
}

// Variants: a kind, a precision, and whether it is a low-rank kind.
#define VARIANT(kind, precision) ((kind) | (precision) << 8)
enum { VARIANT_LOW = 1 << 17 };

static void mezo_perturb(void *state) {
    sweep *s = state;
    const mo_mezo_desc desc = {0};
    must(mo_cl_mezo_perturb(s->cl, &desc, ++s->t, 1, s->x, s->x, s->n));
}

static bool setup_optim(work *w) {
    sweep *s = take_sweep(w);
    if (!s) return false;
    s->optim = (mo_optim_desc){.kind = (mo_optim_kind)(w->variant & 255),
        .precision = (mo_optim_precision)(w->variant >> 8 & 255),
        .lr = 1e-5,
        .weight_decay = 0.01,
        .min_8bit_size = 1};
    if (w->variant & VARIANT_LOW && w->n >= 1024) {
        s->optim.columns = 1024;
        if (s->optim.kind != MO_OPTIM_APOLLO_MINI) s->optim.rank = 32;
        w->units = s->n = w->n / 1024 * 1024;
    }
    const size_t size = mo_optim_state_size(&s->optim, s->n);
    const mo_cl_mem memory = device_take(w, size);
    s->y = device_take_random(w, w->n, 0.01f);
    if (!memory.buffer || !s->y.buffer) return false;
    must(mo_cl_optim_state_init(s->cl, &s->optim, s->n, memory, &s->state));
    add_extra(w, "state_bytes", (double)size / (double)s->n);
    return true;
}

// ---- accum, act, norm -----------------------------------------------------------------------

static bool setup_three(work *w) {
    sweep *s = take_sweep(w);
    if (!s) return false;
    s->y = device_take_random(w, w->n, 0.01f);
    s->dx = device_take(w, 4 * w->n);
    return s->y.buffer && s->dx.buffer;
}
static void accum_add(void *state) {
    sweep *s = state;
    must(mo_cl_accum_add(s->cl, s->y, 0.5f, s->x, s->n));
}
static void accum_norm(void *state) {
    sweep *s = state;
    must(mo_cl_accum_square_parts(s->cl, s->y, s->n, s->dx));
}
static void gelu_forward(void *state) {
    sweep *s = state;
    must(mo_cl_gelu_forward(s->cl, s->x, s->dx, s->n));
}
static void gelu_backward(void *state) {
    sweep *s = state;
    must(mo_cl_gelu_backward(s->cl, s->x, s->y, s->dx, s->n));
}

static void norm_forward(void *state) {
    sweep *s = state;
    must(mo_cl_layernorm_forward(s->cl, &s->norm, s->x, s->dx));
}
static void norm_backward(void *state) {
    sweep *s = state;
    must(mo_cl_layernorm_backward(s->cl, &s->norm, s->x, s->y, s->dx));
}
static bool setup_norm(work *w) {
    if (!setup_three(w)) return false;
    sweep *s = w->state;
    mo_cl_layernorm_desc *d = &s->norm;
    d->channels = w->n < 768 ? w->n : 768;
    d->n = w->n / d->channels;
    d->weight = device_take_random(w, d->channels, 1);
    d->bias = device_take_random(w, d->channels, 1);
    d->dweight = device_take_random(w, d->channels, 1);
    d->dbias = device_take_random(w, d->channels, 1);
    d->mean = device_take(w, 4 * d->n);
    d->rstd = device_take(w, 4 * d->n);
    d->workspace = device_take(w, mo_cl_layernorm_workspace_size(s->cl, d) + 1);
    w->units = d->n * d->channels;
    const mo_cl_mem all[] = {d->weight, d->bias, d->dweight, d->dbias, d->mean, d->rstd};
    if (!device_took(all, sizeof all / sizeof *all) || !d->workspace.buffer) return false;
    norm_forward(s);
    return true;
}

static void rms_forward(void *state) {
    sweep *s = state;
    must(mo_cl_rmsnorm_forward(s->cl, &s->rms, s->x, s->dx));
}
static void rms_backward(void *state) {
    sweep *s = state;
    must(mo_cl_rmsnorm_backward(s->cl, &s->rms, s->x, s->y, s->dx));
}
static bool setup_rms(work *w) {
    if (!setup_norm(w)) return false;
    sweep *s = w->state;
    const mo_cl_layernorm_desc *d = &s->norm;
    s->rms = (mo_cl_rmsnorm_desc){.n = d->n,
        .channels = d->channels,
        .weight = d->weight,
        .rstd = d->rstd,
        .dweight = d->dweight,
        .workspace = d->workspace};
    rms_forward(s);
    return true;
}

// ---- gated units and rotary embedding in fused rows -----------------------------------------

static void swiglu_forward(void *state) {
    sweep *s = state;
    must(mo_cl_swiglu_forward(s->cl, &s->swiglu, s->x, s->up, s->y));
}
static void swiglu_backward(void *state) {
    sweep *s = state;
    must(mo_cl_swiglu_backward(s->cl, &s->swiglu, s->x, s->up, s->y, s->dx, s->dup));
}
static bool setup_swiglu(work *w) {
    if (!setup_three(w)) return false;
    sweep *s = w->state;
    const size_t hidden = w->n < 4096 ? w->n / 2 : 2048;
    if (hidden == 0) return false;
    s->swiglu = (mo_swiglu_desc){w->n / (2 * hidden), hidden, 2 * hidden, 0, NULL};
    s->up = mo_cl_part(&s->x, 4 * hidden, 4 * (w->n - hidden));
    s->dup = mo_cl_part(&s->dx, 4 * hidden, 4 * (w->n - hidden));
    w->units = s->swiglu.rows * hidden;
    return true;
}

static void rope_forward(void *state) {
    sweep *s = state;
    must(mo_cl_rope_forward(s->cl, &s->rope, s->table, s->x));
}
static bool setup_rope(work *w) {
    sweep *s = take_sweep(w);
    enum { SEQ = 256, HEADS = 24, SIZE = 64 };
    if (!s) return false;
    s->rope = (mo_rope_desc){.batch = w->n / (SEQ * HEADS * SIZE),
        .seq = SEQ,
        .heads = HEADS,
        .head_size = SIZE,
        .interleaved = w->variant};
    if (s->rope.batch == 0) s->rope.batch = 1, s->rope.seq = 1, s->rope.heads = 1;
    s->table = device_take_random(w, SEQ * SIZE, 1);
    w->units = s->rope.batch * s->rope.seq * s->rope.heads * SIZE;
    return s->table.buffer && w->units <= w->n;
}

const bench_case cases_device[] = {
    {"bandwidth.copy", "element", "8 B: by a kernel", 8, setup_copy, copy_by_kernel, 0},
    {"bandwidth.copy_buffer", "element", "8 B: by clEnqueueCopyBuffer", 8, setup_copy,
        copy_by_command, 0},
    {"half.f32_to_bf16", "element", "6 B: 4 read, 2 written", 6, setup_half, half_encode,
        MO_HALF_BF16},
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
    {"half.f32_to_bf16_sr", "element", "6 B: 4 read, 2 written", 6, setup_half, half_encode,
        STOCHASTIC + MO_HALF_BF16},
    {"quant.q8_encode", "element", "5.016 B: x read, codes and a scale per 256 written",
        5 + 4.0 / 256, setup_q8, q8_encode, 0},
    {"quant.q8_decode", "element", "5.016 B: codes and scales read, x written", 5 + 4.0 / 256,
        setup_q8, q8_decode, 0},
    {"quant.nf4_encode", "element", "4.563 B: x read, codes and a scale per 64 written",
        4.5 + 4.0 / 64, setup_q4, q4_encode, MO_QUANT_NF4},
    {"quant.nf4_decode", "element", "4.563 B: codes and scales read, x written", 4.5 + 4.0 / 64,
        setup_q4, q4_decode, MO_QUANT_NF4},
    {"quant.fp4_encode", "element", "4.563 B: x read, codes and a scale per 64 written",
        4.5 + 4.0 / 64, setup_q4, q4_encode, MO_QUANT_FP4},
    {"quant.fp4_decode", "element", "4.563 B: codes and scales read, x written", 4.5 + 4.0 / 64,
        setup_q4, q4_decode, MO_QUANT_FP4},
    {"quant.int8_encode", "element", "5 B: x read, codes written; rows of 4096", 5, setup_int8,
        int8_encode, 0},
    {"quant.int8_decode", "element", "5 B: codes read, x written; rows of 4096", 5, setup_int8,
        int8_decode, 0},
    {"optim.adamw_f32", "element", "28 B: p, m, v read and written, g read", 28, setup_optim,
        optim_step, VARIANT(MO_OPTIM_ADAMW, MO_OPTIM_F32)},
    {"optim.adamw_8bit", "element", "16.06 B: p, 8-bit m and v read and written, g read",
        16 + 16.0 / 256, setup_optim, optim_step, VARIANT(MO_OPTIM_ADAMW, MO_OPTIM_8BIT)},
    {"optim.adamw_4bit", "element", "14.125 B: p, 4-bit m and v read and written, g read", 14.125,
        setup_optim, optim_step, VARIANT(MO_OPTIM_ADAMW, MO_OPTIM_4BIT)},
    {"optim.adamw_bf16", "element", "20 B: p, bf16 m and v read and written, g read", 20,
        setup_optim, optim_step, VARIANT(MO_OPTIM_ADAMW, MO_OPTIM_BF16)},
    {"optim.lion_8bit", "element", "14.03 B: p, 8-bit m read and written, g read", 14 + 8.0 / 256,
        setup_optim, optim_step, VARIANT(MO_OPTIM_LION, MO_OPTIM_8BIT)},
    {"optim.apollo_f32", "element",
        "20 B: p read and written, g read thrice; rows of 1024, rank 32", 20, setup_optim,
        optim_step, VARIANT(MO_OPTIM_APOLLO, MO_OPTIM_F32) | VARIANT_LOW},
    {"optim.apollo_mini", "element", "20 B: p read and written, g read thrice; rows of 1024", 20,
        setup_optim, optim_step, VARIANT(MO_OPTIM_APOLLO_MINI, MO_OPTIM_F32) | VARIANT_LOW},
    {"optim.galore", "element", "16 B: p read and written, g read twice; rows of 1024, rank 32", 16,
        setup_optim, optim_step, VARIANT(MO_OPTIM_GALORE, MO_OPTIM_F32) | VARIANT_LOW},
    {"optim.mezo", "element", "8 B: p read and written", 8, setup_three, mezo_perturb, 0},
    {"accum.add_f32", "element", "12 B: both read, the sum written", 12, setup_three, accum_add, 0},
    {"accum.norm", "element", "4 B: read", 4, setup_three, accum_norm, 0},
    {"norm.layernorm_forward", "element", "8 B: x read, y written; rows of 768", 8, setup_norm,
        norm_forward, 0},
    {"norm.layernorm_backward", "element", "12 B: x, dy read, dx written; rows of 768", 12,
        setup_norm, norm_backward, 0},
    {"act.gelu_forward", "element", "8 B: x read, y written", 8, setup_three, gelu_forward, 0},
    {"act.gelu_backward", "element", "12 B: x, dy read, dx written", 12, setup_three, gelu_backward,
        0},
    {"norm.rmsnorm_forward", "element", "8 B: x read, y written; rows of 768", 8, setup_rms,
        rms_forward, 0},
    {"norm.rmsnorm_backward", "element", "12 B: x, dy read, dx written; rows of 768", 12, setup_rms,
        rms_backward, 0},
    {"act.swiglu_forward", "element", "12 B: gate, up read, y written; rows of 2048", 12,
        setup_swiglu, swiglu_forward, 0},
    {"act.swiglu_backward", "element", "20 B: gate, up, dy read, both gradients written", 20,
        setup_swiglu, swiglu_backward, 0},
    {"rope.halves", "element", "8 B: read and written; 24 heads of 64", 8, setup_rope, rope_forward,
        0},
    {"rope.interleaved", "element", "8 B: read and written; 24 heads of 64", 8, setup_rope,
        rope_forward, 1},
    {0}};
#else
typedef int cases_device_is_empty;
#endif
