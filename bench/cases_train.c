// cases_train.c - what sweeps over all parameters or activations: optim, accum, norm, act,
// rope.
#include "bench.h"

#include <string.h>

typedef struct arrays {
    const mo_parallel *parallel;
    size_t n;
    float *x, *dy, *dx;
    uint16_t *sum; // bf16, and after it what Kahan's sum lost
    // optim
    uint16_t *param16;
    mo_optim_desc desc;
    mo_optim_state state;
    uint64_t t;
    // norm
    mo_layernorm_desc norm;
    mo_rmsnorm_desc rms;
    // act, rope
    mo_swiglu_desc swiglu;
    mo_rope_desc rope;
    volatile double sink;
} arrays;

static bool setup_arrays(work *w) {
    arrays *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    s->parallel = w->parallel;
    s->n = w->units = w->n;
    s->x = take_random(w, w->n, 1);
    s->dy = take_random(w, w->n, 0.01f);
    s->dx = take(w, w->n * sizeof *s->dx);
    w->state = s;
    return s->x && s->dy && s->dx;
}

// ---- optim ----------------------------------------------------------------------------------

static void optim_step(void *state) {
    arrays *s = state;
    if (s->param16) must(mo_optim_step_bf16(&s->desc, ++s->t, s->param16, s->dy, &s->state));
    else must(mo_optim_step(&s->desc, ++s->t, s->x, s->dy, &s->state));
}

// Variants: a kind, a precision, whether parameters are bf16, and whether it is a low-rank kind.
#define VARIANT(kind, precision) ((kind) | (precision) << 8)
enum { VARIANT_BF16_PARAM = 1 << 16, VARIANT_LOW = 1 << 17 };

static bool setup_optim(work *w) {
    arrays *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    s->desc.kind = (mo_optim_kind)(w->variant & 255);
    s->desc.precision = (mo_optim_precision)(w->variant >> 8 & 255);
    s->desc.lr = 1e-5;
    s->desc.weight_decay = 0.01;
    s->desc.min_8bit_size = 1;
    s->desc.parallel = w->parallel;
    size_t n = w->n;
    if (w->variant & VARIANT_LOW && n >= 1024) {
        s->desc.columns = 1024;
        if (s->desc.kind != MO_OPTIM_APOLLO_MINI) s->desc.rank = 32;
        n = n / 1024 * 1024;
    }
    size_t size = mo_optim_state_size(&s->desc, n);
    void *memory = take(w, size);
    s->dy = take_random(w, w->n, 0.01f);
    const bool half = w->variant & VARIANT_BF16_PARAM;
    if (half) s->param16 = take(w, w->n * sizeof *s->param16);
    else s->x = take_random(w, w->n, 1);
    if (!memory || (half ? !s->param16 : !s->x) || !s->dy) return false;
    if (half) mo_f32_to_bf16(s->dy, s->param16, w->n, NULL);
    must(mo_optim_state_init(&s->desc, n, memory, size, &s->state));
    add_extra(w, "state_bytes", (double)size / (double)n);
    w->units = n;
    w->state = s;
    return true;
}

static void mezo_perturb(void *state) {
    arrays *s = state;
    const mo_mezo_desc desc = {.parallel = s->parallel};
    must(mo_mezo_perturb(&desc, ++s->t, 1, s->x, s->x, s->n));
}

// ---- accum, act -----------------------------------------------------------------------------

static void accum_add(void *state) {
    arrays *s = state;
    mo_accum_add(s->dy, 0.5f, s->x, s->n, s->parallel);
}
static void accum_norm(void *state) {
    arrays *s = state;
    s->sink = mo_accum_square_sum(s->dy, s->n, s->parallel);
}
static void accum_stochastic(void *state) {
    arrays *s = state;
    const mo_accum_noise noise = {++s->t, 0};
    mo_accum_add_bf16_stochastic(s->dy, 0.5f, s->sum, s->n, &noise, s->parallel);
}
static void accum_kahan(void *state) {
    arrays *s = state;
    mo_accum_add_bf16_kahan(s->dy, 0.5f, s->sum, s->sum + s->n, s->n, s->parallel);
}
static bool setup_bf16_sums(work *w) {
    if (!setup_arrays(w)) return false;
    arrays *s = w->state;
    s->sum = take(w, 2 * w->n * sizeof *s->sum);
    if (!s->sum) return false;
    memset(s->sum, 0, 2 * w->n * sizeof *s->sum);
    return true;
}
static void gelu_forward(void *state) {
    arrays *s = state;
    mo_gelu_forward(s->x, s->dx, s->n, s->parallel);
}
static void gelu_backward(void *state) {
    arrays *s = state;
    mo_gelu_backward(s->x, s->dy, s->dx, s->n, s->parallel);
}

// ---- norm -----------------------------------------------------------------------------------

static void norm_forward(void *state) {
    arrays *s = state;
    must(mo_layernorm_forward(&s->norm, s->x, s->dx));
}
static void norm_backward(void *state) {
    arrays *s = state;
    must(mo_layernorm_backward(&s->norm, s->x, s->dy, s->dx));
}

static bool setup_norm(work *w) {
    if (!setup_arrays(w)) return false;
    arrays *s = w->state;
    mo_layernorm_desc *d = &s->norm;
    d->channels = w->n < 768 ? w->n : 768;
    d->n = w->n / d->channels;
    d->parallel = w->parallel;
    d->weight = take_random(w, d->channels, 1);
    d->bias = take_random(w, d->channels, 1);
    d->dweight = take_random(w, d->channels, 1);
    d->dbias = take_random(w, d->channels, 1);
    d->mean = take(w, d->n * sizeof(float));
    d->rstd = take(w, d->n * sizeof(float));
    w->units = d->n * d->channels;
    if (!d->weight || !d->bias || !d->dweight || !d->dbias || !d->mean || !d->rstd) return false;
    norm_forward(s);
    return true;
}

static void rms_forward(void *state) {
    arrays *s = state;
    must(mo_rmsnorm_forward(&s->rms, s->x, s->dx));
}
static void rms_backward(void *state) {
    arrays *s = state;
    must(mo_rmsnorm_backward(&s->rms, s->x, s->dy, s->dx));
}

static bool setup_rms(work *w) {
    if (!setup_norm(w)) return false;
    arrays *s = w->state;
    const mo_layernorm_desc *d = &s->norm;
    s->rms = (mo_rmsnorm_desc){.n = d->n,
        .channels = d->channels,
        .weight = d->weight,
        .rstd = d->rstd,
        .dweight = d->dweight,
        .parallel = w->parallel};
    rms_forward(s);
    return true;
}

// ---- gated units and rotary embedding in fused rows -----------------------------------------

static void swiglu_forward(void *state) {
    arrays *s = state;
    must(mo_swiglu_forward(&s->swiglu, s->x, s->x + s->swiglu.hidden, s->dy));
}
static void swiglu_backward(void *state) {
    arrays *s = state;
    const size_t hidden = s->swiglu.hidden;
    must(mo_swiglu_backward(&s->swiglu, s->x, s->x + hidden, s->dy, s->dx, s->dx + hidden));
}

// units: of y, half of what rows of gate and up have
static bool setup_swiglu(work *w) {
    if (!setup_arrays(w)) return false;
    arrays *s = w->state;
    const size_t hidden = w->n < 4096 ? w->n / 2 : 2048;
    if (hidden == 0) return false;
    s->swiglu = (mo_swiglu_desc){w->n / (2 * hidden), hidden, 2 * hidden, 0, w->parallel};
    w->units = s->swiglu.rows * hidden;
    return true;
}

static void rope_forward(void *state) {
    arrays *s = state;
    must(mo_rope_forward(&s->rope, s->x));
}

enum { ROPE_SEQ = 256, ROPE_HEADS = 24, ROPE_SIZE = 64 };

static bool setup_rope(work *w) {
    if (!setup_arrays(w)) return false;
    arrays *s = w->state;
    const size_t seq = ROPE_SEQ, size = ROPE_SIZE, width = ROPE_HEADS * ROPE_SIZE;
    float *table = take(w, mo_rope_table_size(size, seq));
    if (!table) return false;
    must(mo_rope_table(size, seq, 0, table));
    s->rope = (mo_rope_desc){.batch = w->n / (seq * width),
        .seq = seq,
        .heads = ROPE_HEADS,
        .head_size = size,
        .interleaved = w->variant,
        .table = table,
        .parallel = w->parallel};
    if (s->rope.batch == 0) s->rope.batch = 1, s->rope.seq = 1, s->rope.heads = 1;
    w->units = s->rope.batch * s->rope.seq * s->rope.heads * size;
    return w->units <= w->n;
}

const bench_case cases_train[] = {
    {"optim.adamw_f32", "element", "28 B: p, m, v read and written, g read", 28, setup_optim,
        optim_step, VARIANT(MO_OPTIM_ADAMW, MO_OPTIM_F32)},
    {"optim.adamw_8bit", "element", "16.06 B: p, 8-bit m and v read and written, g read",
        16 + 16.0 / 256, setup_optim, optim_step, VARIANT(MO_OPTIM_ADAMW, MO_OPTIM_8BIT)},
    {"optim.sgd_f32", "element", "20 B: p, m read and written, g read", 20, setup_optim, optim_step,
        VARIANT(MO_OPTIM_SGD, MO_OPTIM_F32)},
    {"optim.sgd_8bit", "element", "14.03 B: p, 8-bit m read and written, g read", 14 + 8.0 / 256,
        setup_optim, optim_step, VARIANT(MO_OPTIM_SGD, MO_OPTIM_8BIT)},
    {"optim.adamw_4bit", "element", "14.125 B: p, 4-bit m and v read and written, g read", 14.125,
        setup_optim, optim_step, VARIANT(MO_OPTIM_ADAMW, MO_OPTIM_4BIT)},
    {"optim.adamw_bf16", "element", "20 B: p, bf16 m and v read and written, g read", 20,
        setup_optim, optim_step, VARIANT(MO_OPTIM_ADAMW, MO_OPTIM_BF16)},
    {"optim.adamw_8bit_bf16_param", "element",
        "12.06 B: bf16 p, 8-bit m and v read and written, g read", 12 + 16.0 / 256, setup_optim,
        optim_step, VARIANT(MO_OPTIM_ADAMW, MO_OPTIM_8BIT) | VARIANT_BF16_PARAM},
    {"optim.lion_8bit", "element", "14.03 B: p, 8-bit m read and written, g read", 14 + 8.0 / 256,
        setup_optim, optim_step, VARIANT(MO_OPTIM_LION, MO_OPTIM_8BIT)},
    {"optim.apollo_f32", "element",
        "20 B: p read and written, g read thrice; rows of 1024, rank 32", 20, setup_optim,
        optim_step, VARIANT(MO_OPTIM_APOLLO, MO_OPTIM_F32) | VARIANT_LOW},
    {"optim.apollo_mini", "element", "20 B: p read and written, g read thrice; rows of 1024", 20,
        setup_optim, optim_step, VARIANT(MO_OPTIM_APOLLO_MINI, MO_OPTIM_F32) | VARIANT_LOW},
    {"optim.galore", "element", "16 B: p read and written, g read twice; rows of 1024, rank 32", 16,
        setup_optim, optim_step, VARIANT(MO_OPTIM_GALORE, MO_OPTIM_F32) | VARIANT_LOW},
    {"optim.mezo", "element", "8 B: p read and written", 8, setup_arrays, mezo_perturb, 0},
    {"accum.add_f32", "element", "12 B: both read, the sum written", 12, setup_arrays, accum_add,
        0},
    {"accum.add_bf16_sr", "element", "8 B: both read, the bf16 sum written", 8, setup_bf16_sums,
        accum_stochastic, 0},
    {"accum.add_bf16_kahan", "element", "12 B: all read, the bf16 sum and the lost part written",
        12, setup_bf16_sums, accum_kahan, 0},
    {"accum.norm", "element", "4 B: read", 4, setup_arrays, accum_norm, 0},
    {"norm.layernorm_forward", "element", "8 B: x read, y written; rows of 768", 8, setup_norm,
        norm_forward, 0},
    {"norm.layernorm_backward", "element", "12 B: x, dy read, dx written; rows of 768", 12,
        setup_norm, norm_backward, 0},
    {"act.gelu_forward", "element", "8 B: x read, y written", 8, setup_arrays, gelu_forward, 0},
    {"act.gelu_backward", "element", "12 B: x, dy read, dx written", 12, setup_arrays,
        gelu_backward, 0},
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
