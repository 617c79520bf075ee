// 26_oom_recovery.c - a training loop that runs out of memory and goes on: smaller micro-batches,
// more of them, the same samples in a step, and the loss of a run that had memory enough.
//     cc -I. examples/26_oom_recovery.c memopt.c -o oom_recovery -lm
#include "memopt.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

// logits = gelu(x W) V^T for the next token of SAMPLES sequences a step, which get longer.
enum { IN = 32, HIDDEN = 128, VOCAB = 256, N_W = IN * HIDDEN, N_V = VOCAB * HIDDEN };
enum { SAMPLES = 16, STEPS = 60, LONG_FROM = 30, SHORT = 32, LONG = 64 };
enum { GEMM_WORKSPACE = 192 << 10, LIMIT = 1280 << 10 };

typedef struct run {
    mo_arena arena; // parameters and states, then what a step needs
    size_t mark;    // begin of the latter
    float *w, *v, *dw, *dv;
    mo_optim_desc adam;
    mo_optim_state states[2];
    double loss;
} run;

static float *floats(run *r, size_t n) { return mo_arena_alloc(&r->arena, n * sizeof(float), 64); }

// One micro-batch: forward, backward, onto the gradients. The arena says at the end of the
// allocations whether all fitted.
static mo_status micro_batch(run *r, const mo_retry_turn *turn, uint64_t first) {
    const size_t length = turn->step < LONG_FROM ? SHORT : LONG, mark = mo_arena_mark(&r->arena);
    const size_t rows = turn->config.batch * length;
    float *x = floats(r, rows * IN), *a = floats(r, rows * HIDDEN);
    float *h = floats(r, rows * HIDDEN), *dh = floats(r, rows * HIDDEN);
    int32_t *targets = mo_arena_alloc(&r->arena, rows * sizeof *targets, 64);
    const mo_gemm_env env = {.workspace = mo_arena_alloc(&r->arena, GEMM_WORKSPACE, 64),
        .workspace_size = GEMM_WORKSPACE};
    mo_linear_ce_desc ce = {.rows = rows, .channels = HIDDEN, .vocab = VOCAB, .env = &env};
    ce.chunk_rows = turn->config.loss_rows;
    ce.scale = 1.0f / (float)(rows * turn->config.accum); // micro-batches add up to a mean
    ce.workspace_size = mo_linear_ce_workspace_size(&ce);
    ce.workspace = mo_arena_alloc(&r->arena, ce.workspace_size, 64);
    mo_status status = mo_arena_status(&r->arena);
    if (status != MO_OK) return status; // release rewinds

    for (size_t i = 0; i < rows; i++) { // 32 kinds of tokens, as waves
        const size_t n = (size_t)first + i / length + i % length, token = (7 * n + n * n / 9) % 32;
        for (size_t k = 0; k < IN; k++) x[i * IN + k] = sinf((float)(token * (k + 1)));
        targets[i] = (int32_t)((5 * token + 3) % VOCAB);
    }
    double loss;
    const mo_gemm_desc forward = {.m = rows, .n = HIDDEN, .k = IN};
    const mo_gemm_desc backward = {.m = IN, .n = HIDDEN, .k = rows, .trans_a = 1, .beta = 1};
    const mo_linear_ce_tensors t = {.x = h, .w = r->v, .targets = targets, .dx = dh, .dw = r->dv};
    status = mo_gemm(&env, &forward, x, r->w, a);
    mo_gelu_forward(a, h, rows * HIDDEN, NULL);
    if (status == MO_OK) status = mo_linear_ce(&ce, &t, &loss);
    mo_gelu_backward(a, dh, dh, rows * HIDDEN, NULL);
    if (status == MO_OK) status = mo_gemm(&env, &backward, x, dh, r->dw);
    if (status != MO_OK) return status;
    r->loss += loss;
    return mo_arena_rewind(&r->arena, mark);
}

// The three calls of mo_retry. What updates is complete before the first weight changes.
static mo_status prepare(void *self, const mo_recover_config *config) {
    run *r = self;
    (void)config;
    r->dw = floats(r, N_W);
    r->dv = floats(r, N_V);
    return mo_arena_status(&r->arena);
}
static void release(void *self) { mo_arena_rewind(&((run *)self)->arena, ((run *)self)->mark); }
static mo_status step(void *self, const mo_retry_turn *turn, int *applied) {
    run *r = self;
    mo_status status = MO_OK;
    memset(r->dw, 0, N_W * sizeof *r->dw);
    memset(r->dv, 0, N_V * sizeof *r->dv);
    r->loss = 0;
    for (size_t i = 0; i < turn->config.accum && status == MO_OK; i++)
        status = micro_batch(r, turn, turn->first + i * turn->config.batch);
    if (status != MO_OK) return status;
    status = mo_optim_step(&r->adam, turn->step + 1, r->w, r->dw, &r->states[0]);
    if (status == MO_OK)
        status = mo_optim_step(&r->adam, turn->step + 1, r->v, r->dv, &r->states[1]);
    *applied = status == MO_OK;
    return status;
}

static mo_status begin(run *r, size_t limit) {
    const mo_arena_desc desc = {.limit = limit};
    unsigned seed = 1;
    mo_status status = mo_arena_init(&r->arena, &desc);
    if (status != MO_OK) return status;
    r->adam = (mo_optim_desc){.lr = 1e-2};
    r->w = floats(r, N_W);
    r->v = floats(r, N_V);
    const size_t sizes[] = {mo_optim_state_size(&r->adam, N_W), mo_optim_state_size(&r->adam, N_V)};
    void *memory[] = {floats(r, sizes[0] / 4), floats(r, sizes[1] / 4)};
    r->mark = mo_arena_mark(&r->arena);
    status = mo_arena_status(&r->arena);
    if (status != MO_OK) return status;
    for (size_t i = 0; i < N_W + N_V; i++) {
        seed = seed * 1664525u + 1013904223u;
        *(i < N_W ? r->w + i : r->v + i - N_W) = (float)(int)seed / 2147483648.0f * 0.2f;
    }
    status = mo_optim_state_init(&r->adam, N_W, memory[0], sizes[0], &r->states[0]);
    return status == MO_OK ? mo_optim_state_init(&r->adam, N_V, memory[1], sizes[1], &r->states[1])
                           : status;
}

static void say(void *self, mo_log_level level, const char *text) {
    (void)level;
    printf("%s  %s\n", (const char *)self, text);
}

static mo_status train(const char *name, size_t limit, double *loss, size_t *peak) {
    run r = {0};
    mo_retry retry = {0};
    mo_arena_stats stats;
    const mo_retry_desc desc = {.config = {.batch = SAMPLES},
        .ladder = {.steps = MO_RECOVER_BATCH | MO_RECOVER_LOSS, .loss_rows = 16},
        .calls = {.prepare = prepare, .step = step, .release = release, .self = &r},
        .log = {say, (void *)name}};
    mo_status status = begin(&r, limit);
    if (status == MO_OK) status = mo_retry_init(&retry, &desc);
    for (int i = 0; i < STEPS && status == MO_OK; i++) status = mo_retry_step(&retry);
    mo_arena_get_stats(&r.arena, &stats);
    *loss = r.loss;
    *peak = stats.peak_bytes;
    printf("%s  %d steps, ran out of memory %d times: batch %zu x %zu, peak %.2f MiB, loss %.7f\n",
        name, (int)retry.stats.n_steps, (int)retry.stats.n_failed, retry.config.batch,
        retry.config.accum, (double)*peak / 0x1p20, *loss);
    mo_retry_free(&retry);
    mo_arena_free(&r.arena);
    return status;
}

int main(void) {
    double plain, limited;
    size_t plain_peak, peak;
    if (train("plain  ", 0, &plain, &plain_peak) != MO_OK) return 1;
    if (train("limited", LIMIT, &limited, &peak) != MO_OK) return 1;
    printf("the limit of %.2f MiB held; the losses differ by %.1e\n", (double)LIMIT / 0x1p20,
        fabs(limited - plain));
    return peak > LIMIT || plain_peak <= LIMIT || !(fabs(limited - plain) < 1e-4);
}
