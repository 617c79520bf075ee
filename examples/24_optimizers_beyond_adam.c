// 24_optimizers_beyond_adam.c - one small network, trained by AdamW and by four ways to keep less
// than its two states: APOLLO-Mini, GaLore, BAdam, MeZO. Loss and bytes of states.
//     cc -I. examples/24_optimizers_beyond_adam.c memopt.c -o optimizers -lm
#include "memopt.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// y = v tanh(x W), fitted to a fixed function by least squares. W is kept in parts of 16 inputs.
enum { INPUTS = 32, HIDDEN = 128, ROWS = 48, PARTS = 2, TENSORS = PARTS + 1, STEPS = 300 };
enum { N_PART = INPUTS / PARTS * HIDDEN, N_W = PARTS * N_PART, N = N_W + HIDDEN };
static float inputs[ROWS][INPUTS], targets[ROWS], p[N], g[N];
static const size_t sizes[TENSORS] = {N_PART, N_PART, HIDDEN};
static const size_t blocks[TENSORS] = {0, 1, SIZE_MAX}; // of BAdam; v always trains

static float forward(int backward) {
    const float(*w)[HIDDEN] = (const float(*)[HIDDEN])p, *v = p + N_W;
    float(*dw)[HIDDEN] = (float(*)[HIDDEN])g, *dv = g + N_W, h[HIDDEN], loss = 0;
    for (int i = 0; i < N && backward; i++) g[i] = 0;
    for (int r = 0; r < ROWS; r++) {
        float y = 0;
        for (int j = 0; j < HIDDEN; j++) h[j] = 0;
        for (int i = 0; i < INPUTS; i++)
            for (int j = 0; j < HIDDEN; j++) h[j] += inputs[r][i] * w[i][j];
        for (int j = 0; j < HIDDEN; j++) y += (h[j] = tanhf(h[j])) * v[j];
        const float error = y - targets[r], dy = 2 * error / ROWS;
        loss += error * error / ROWS;
        for (int j = 0; j < HIDDEN && backward; j++) {
            dv[j] += dy * h[j];
            h[j] = dy * v[j] * (1 - h[j] * h[j]);
        }
        for (int i = 0; i < INPUTS && backward; i++)
            for (int j = 0; j < HIDDEN; j++) dw[i][j] += h[j] * inputs[r][i];
    }
    return loss;
}

static float random_number(unsigned *seed) { // in -1..1
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int)*seed / 2147483648.0f;
}

// AdamW is a turn that never ends for all blocks; BAdam has one block at a time.
static int train(
    const char *name, mo_optim_kind kind, double lr, size_t n_active, uint64_t period) {
    mo_optim_desc optim[TENSORS] = {{0}};
    size_t offsets[TENSORS];
    mo_optim_state states[TENSORS];
    for (int i = 0; i < TENSORS; i++) {
        optim[i].kind = kind;
        optim[i].lr = lr;
        optim[i].interval = 50;
        optim[i].columns = i < PARTS ? HIDDEN : 0; // v is a vector
    }
    const mo_active_desc active = {.n_blocks = PARTS,
        .n_active = n_active,
        .period = period,
        .n_tensors = TENSORS,
        .optim = optim,
        .n = sizes,
        .block = blocks};
    const size_t size = mo_active_state_size(&active);
    char *memory = mo_alloc(NULL, size, 64);
    int failed = !memory;
    for (uint64_t t = 1; t <= STEPS && !failed; t++) {
        const mo_active_turn turn = mo_active_at(&active, t);
        size_t at = 0;
        forward(1);
        failed = mo_active_offsets(&active, t, offsets) != MO_OK;
        for (int i = 0; i < TENSORS && !failed; at += sizes[i++]) {
            const uint64_t since = blocks[i] == SIZE_MAX ? t : turn.t;
            if (offsets[i] == SIZE_MAX) continue;
            if (since == 1)
                failed = mo_optim_state_init(&optim[i], sizes[i], memory + offsets[i],
                             size - offsets[i], &states[i]) != MO_OK;
            if (!failed) failed = mo_optim_step(&optim[i], since, p + at, g + at, &states[i]) != 0;
        }
    }
    if (!failed) printf("%-12s %7zu bytes of states, loss %.5f\n", name, size, forward(0));
    mo_free(NULL, memory, size, 64);
    return failed;
}

// Two forward passes a step, no gradient: many more steps.
static int train_mezo(void) {
    const mo_mezo_desc desc = {.lr = 1e-3, .seed = 7, .grid = 0x1p-22};
    int failed = mo_mezo_perturb(&desc, 1, 0, p, p, N) != MO_OK; // onto the grid
    for (uint64_t t = 1; t <= 8 * STEPS && !failed; t++) {
        failed = mo_mezo_perturb(&desc, t, 1, p, p, N) != MO_OK;
        const double plus = forward(0);
        if (!failed) failed = mo_mezo_perturb(&desc, t, -2, p, p, N) != MO_OK;
        const double minus = forward(0), slope = mo_mezo_gradient(&desc, plus, minus);
        if (!failed) failed = mo_mezo_perturb(&desc, t, 1, p, p, N) != MO_OK;
        if (!failed) failed = mo_mezo_step(&desc, t, slope, p, N) != MO_OK;
    }
    if (!failed)
        printf("%-12s %7d bytes of states, loss %.5f, no gradients\n", "MeZO", 0, forward(0));
    return failed;
}

static void start(void) {
    unsigned seed = 1;
    for (int i = 0; i < N; i++) p[i] = random_number(&seed) * (i < N_W ? 0.25f : 0.1f);
}

int main(void) {
    unsigned seed = 2;
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < INPUTS; i++) inputs[r][i] = random_number(&seed);
        targets[r] = inputs[r][0] * inputs[r][1] + 0.5f * inputs[r][2];
    }
    start();
    printf("loss at first: %.5f\n", forward(0));
    if (train("AdamW", MO_OPTIM_ADAMW, 2e-3, PARTS, STEPS)) return 1;
    start();
    if (train("APOLLO-Mini", MO_OPTIM_APOLLO_MINI, 2e-3, PARTS, STEPS)) return 1;
    start();
    if (train("GaLore", MO_OPTIM_GALORE, 1e-2, PARTS, STEPS)) return 1;
    start();
    if (train("BAdam", MO_OPTIM_ADAMW, 2e-3, 1, 25)) return 1;
    start();
    return train_mezo();
}
