// 03_adam8bit.c - a plain training loop whose Adam is replaced by mo_optim_step: the same loss from
// states of one byte a number.
//     cc -I. examples/03_adam8bit.c memopt.c -o adam8bit -lm
#include "memopt.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// y = tanh(x W) v, fitted to a fixed function by least squares.
enum { INPUTS = 16, HIDDEN = 512, ROWS = 64, STEPS = 150, N_W = INPUTS * HIDDEN, N = N_W + HIDDEN };
static float inputs[ROWS][INPUTS], targets[ROWS];

static float loss_and_gradient(const float *p, float *g) {
    const float(*w)[HIDDEN] = (const float(*)[HIDDEN])p, *v = p + N_W;
    float(*dw)[HIDDEN] = (float(*)[HIDDEN])g, *dv = g + N_W, h[HIDDEN], loss = 0;
    for (int i = 0; i < N; i++) g[i] = 0;
    for (int r = 0; r < ROWS; r++) {
        float y = 0;
        for (int j = 0; j < HIDDEN; j++) {
            float sum = 0;
            for (int i = 0; i < INPUTS; i++) sum += inputs[r][i] * w[i][j];
            h[j] = tanhf(sum);
            y += h[j] * v[j];
        }
        const float error = y - targets[r], dy = 2 * error / ROWS;
        loss += error * error / ROWS;
        for (int j = 0; j < HIDDEN; j++) {
            const float dsum = dy * v[j] * (1 - h[j] * h[j]);
            dv[j] += dy * h[j];
            for (int i = 0; i < INPUTS; i++) dw[i][j] += dsum * inputs[r][i];
        }
    }
    return loss;
}

static float random_number(unsigned *seed) { // in -1..1
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int)*seed / 2147483648.0f;
}

static int train(const char *name, mo_optim_precision precision) {
    const mo_optim_desc desc = {.precision = precision, .lr = 2e-3}; // AdamW, as kind is 0
    const size_t size = mo_optim_state_size(&desc, N);
    mo_optim_state state;
    float *p = malloc(N * sizeof *p), *g = malloc(N * sizeof *g), loss = 0;
    void *memory = mo_alloc(NULL, size, 64);
    int failed = !p || !g || !memory;
    if (!failed) failed = mo_optim_state_init(&desc, N, memory, size, &state) != MO_OK;
    unsigned seed = 1;
    for (int i = 0; i < N && !failed; i++) p[i] = random_number(&seed) * (i < N_W ? 0.4f : 0.05f);
    for (int step = 1; step <= STEPS && !failed; step++) {
        loss = loss_and_gradient(p, g);
        if (step == 1 && precision == MO_OPTIM_F32) printf("loss at first: %.4f\n", loss);
        // was: adam(p, g, m, v, N, step, lr)
        failed = mo_optim_step(&desc, (uint64_t)step, p, g, &state) != MO_OK;
    }
    if (!failed) printf("%s: %6zu bytes of states, last loss %.6f\n", name, size, loss);
    mo_free(NULL, memory, size, 64);
    free(g);
    free(p);
    return failed;
}

int main(void) {
    unsigned seed = 2;
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < INPUTS; i++) inputs[r][i] = random_number(&seed);
        targets[r] = inputs[r][0] * inputs[r][1] + 0.5f * inputs[r][2];
    }
    return train("fp32 ", MO_OPTIM_F32) || train("8-bit", MO_OPTIM_8BIT);
}
