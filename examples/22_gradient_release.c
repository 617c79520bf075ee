// 22_gradient_release.c - a plain loop whose layers are updated inside backward: the gradients of
// one layer instead of all, the same losses, clipped by the global norm or not.
//     cc -I. examples/22_gradient_release.c memopt.c -o gradient_release -lm
#include "memopt.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// x = tanh(x W[l]) for each layer, fitted to a fixed function by least squares.
enum { LAYERS = 12, WIDTH = 32, ROWS = 16, STEPS = 25, N = WIDTH * WIDTH };
static float weights[LAYERS][N], x[LAYERS + 1][ROWS][WIDTH], targets[ROWS][WIDTH];
static mo_optim_state states[LAYERS];
static const mo_optim_desc adam = {.lr = 2e-3}; // AdamW, as kind is 0

static float forward(void) {
    float loss = 0;
    for (int l = 0; l < LAYERS; l++)
        for (int r = 0; r < ROWS; r++)
            for (int j = 0; j < WIDTH; j++) {
                float sum = 0;
                for (int i = 0; i < WIDTH; i++) sum += x[l][r][i] * weights[l][i * WIDTH + j];
                x[l + 1][r][j] = tanhf(sum);
            }
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < WIDTH; j++) {
            const float error = x[LAYERS][r][j] - targets[r][j];
            loss += error * error / ROWS;
        }
    return loss;
}

// The gradient of layer l from dx of its output, which becomes that of its input.
static void backward(int l, float dx[ROWS][WIDTH], float *grad) {
    memset(grad, 0, N * sizeof *grad);
    for (int r = 0; r < ROWS; r++) {
        float dsum[WIDTH];
        for (int j = 0; j < WIDTH; j++) dsum[j] = dx[r][j] * (1 - x[l + 1][r][j] * x[l + 1][r][j]);
        for (int i = 0; i < WIDTH; i++) {
            dx[r][i] = 0;
            for (int j = 0; j < WIDTH; j++) {
                grad[i * WIDTH + j] += x[l][r][i] * dsum[j];
                dx[r][i] += weights[l][i * WIDTH + j] * dsum[j];
            }
        }
    }
}

static void backward_of_loss(float dx[ROWS][WIDTH]) {
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < WIDTH; j++) dx[r][j] = 2 * (x[LAYERS][r][j] - targets[r][j]) / ROWS;
}

// As usual: all gradients, then their norm, then the updates.
static mo_status step_plainly(uint64_t t, double max_norm, float *grads) {
    static float dx[ROWS][WIDTH];
    mo_optim_desc clipped = adam;
    double sum = 0;
    backward_of_loss(dx);
    for (int l = LAYERS - 1; l >= 0; l--) backward(l, dx, grads + l * N);
    for (int l = 0; l < LAYERS; l++) sum += mo_accum_square_sum(grads + l * N, N, NULL);
    clipped.grad_scale = mo_accum_clip_scale(sqrt(sum), max_norm);
    for (int l = 0; l < LAYERS; l++) {
        const mo_status status = mo_optim_step(&clipped, t, weights[l], grads + l * N, &states[l]);
        if (status != MO_OK) return status;
    }
    return MO_OK;
}

// Released: one gradient, used up before the next layer's comes.
static mo_status step_released(uint64_t t, mo_release *release, float *grad) {
    static float dx[ROWS][WIDTH];
    mo_status status = MO_OK;
    mo_release_begin(release);
    while (mo_release_next(release)) {
        backward_of_loss(dx);
        for (int l = LAYERS - 1; l >= 0 && status == MO_OK; l--) {
            backward(l, dx, grad);
            status = mo_release_step(release, (size_t)l, &adam, t, weights[l], grad, &states[l]);
        }
    }
    return status;
}

static int train(const char *name, int released, mo_release_clip clip, double max_norm) {
    static double sums[LAYERS];
    const size_t size = mo_optim_state_size(&adam, N), bytes = (released ? 1 : LAYERS) * N * 4;
    const mo_release_desc desc = {
        .clip = clip, .max_norm = max_norm, .n_tensors = LAYERS, .square_sums = sums};
    mo_release release;
    float *grads = malloc(bytes), loss = 0;
    char *memory = mo_alloc(NULL, LAYERS * size, 64);
    int failed = !grads || !memory || mo_release_init(&release, &desc) != MO_OK;
    unsigned seed = 1;
    for (int l = 0; l < LAYERS; l++)
        for (int i = 0; i < N; i++) {
            seed = seed * 1664525u + 1013904223u;
            weights[l][i] = (float)(int)seed / 2147483648.0f * 0.4f;
        }
    for (size_t l = 0; l < LAYERS && !failed; l++)
        failed = mo_optim_state_init(&adam, N, memory + l * size, size, &states[l]) != MO_OK;
    for (uint64_t t = 1; t <= STEPS && !failed; t++) {
        loss = forward();
        failed = (released ? step_released(t, &release, grads)
                           : step_plainly(t, max_norm, grads)) != MO_OK;
    }
    if (!failed) printf("%-28s %8zu bytes of gradients, last loss %.6f\n", name, bytes, loss);
    mo_free(NULL, memory, LAYERS * size, 64);
    free(grads);
    return failed;
}

int main(void) {
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < WIDTH; i++) {
            x[0][r][i] = sinf((float)(3 * r + i));
            targets[r][i] = 0.5f * x[0][r][(i + 1) % WIDTH];
        }
    return train("all gradients", 0, MO_RELEASE_NONE, 0) ||
        train("released", 1, MO_RELEASE_NONE, 0) ||
        train("all gradients, clipped", 0, MO_RELEASE_NONE, 0.5) ||
        train("released, clipped exactly", 1, MO_RELEASE_EXACT, 0.5) ||
        train("released, by the norm before", 1, MO_RELEASE_PREVIOUS, 0.5) ||
        train("released, by tensor", 1, MO_RELEASE_TENSOR, 0.5);
}
