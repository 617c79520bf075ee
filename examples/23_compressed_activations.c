// 23_compressed_activations.c - a network whose saved activations take 8 or 4 bits a number: the
// plan says what that saves, the loss what it costs.
//     cc -I. examples/23_compressed_activations.c memopt.c -o compressed_activations -lm
#include "memopt.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LAYERS = 16, WIDTH = 32, BATCH = 64, N = BATCH * WIDTH, STEPS = 100 };
typedef float weights[WIDTH][WIDTH];
static weights w[LAYERS], dw[LAYERS];
static float input[N], target[N];
enum { HIDDEN, CODES, SLOPE }; // tensors of a layer, as main lists them

// y = x + tanh(x W). Backward needs h = tanh(x W): it is kept as it is, or as codes.
static void layer_forward(weights m, const float *x, float *h, float *y) {
    for (int b = 0; b < BATCH; b++)
        for (int o = 0; o < WIDTH; o++) {
            float sum = 0;
            for (int i = 0; i < WIDTH; i++) sum += x[b * WIDTH + i] * m[i][o];
            h[b * WIDTH + o] = tanhf(sum);
            if (y) y[b * WIDTH + o] = x[b * WIDTH + o] + h[b * WIDTH + o];
        }
}

static void layer_backward(
    weights m, weights dm, const float *x, const float *h, const float *dy, float *pre, float *dx) {
    for (int k = 0; k < N; k++) pre[k] = dy[k] * (1 - h[k] * h[k]);
    for (int b = 0; b < BATCH; b++)
        for (int i = 0; i < WIDTH; i++) {
            float sum = dy[b * WIDTH + i];
            for (int o = 0; o < WIDTH; o++) {
                dm[i][o] += x[b * WIDTH + i] * pre[b * WIDTH + o];
                sum += pre[b * WIDTH + o] * m[i][o];
            }
            if (dx) dx[b * WIDTH + i] = sum;
        }
}

static float loss_and_gradient(const float *x, float *dx) {
    float loss = 0;
    for (int k = 0; k < N; k++) {
        dx[k] = 2 * (x[k] - target[k]) / BATCH;
        loss += (x[k] - target[k]) * (x[k] - target[k]) / BATCH;
    }
    return loss;
}

// One pass over the plan. The codes have an address at the compressed level alone.
static float run_plan(mo_plan *plan, mo_compress_desc d) {
    mo_step step;
    float loss = 0;
    memset(dw, 0, sizeof dw);
    mo_plan_begin(plan);
    while (mo_plan_next(plan, &step)) {
        const float *x = step.stage == 0 ? input : step.x;
        float *h = step.stage < LAYERS ? step.tensors[HIDDEN] : NULL;
        void *codes = step.stage < LAYERS ? step.tensors[CODES] : NULL;
        d.seed = step.seed; // another one for each layer and pass
        if (step.op == MO_STEP_LOSS) loss = loss_and_gradient(x, step.dx);
        else if (step.op == MO_STEP_BACKWARD) {
            if (codes && mo_compress_decode(&d, codes, N, h) != MO_OK) return NAN;
            layer_backward(
                w[step.stage], dw[step.stage], x, h, step.dy, step.tensors[SLOPE], step.dx);
        } else {
            layer_forward(w[step.stage], x, h, step.y);
            if (codes && mo_compress_encode(&d, h, N, codes) != MO_OK) return NAN;
        }
    }
    return loss;
}

static int train(mo_chain *chain, int bits, float *loss) {
    const mo_compress_desc d = {.bits = bits};
    mo_plan_desc desc = {.chain = chain, .remat = {.compress = bits != 0}};
    mo_plan *plan;
    mo_arena arena;
    float *flat = (float *)w, *dflat = (float *)dw;
    if (mo_plan_create(&plan, &desc) != MO_OK) return 1;
    const mo_plan_info info = mo_plan_describe(plan);
    const mo_arena_desc arena_desc = {.limit = info.peak_bytes};
    if (mo_plan_check(plan, NULL) != MO_OK || mo_arena_init(&arena, &arena_desc) != MO_OK) return 1;
    if (mo_plan_bind(plan, &arena, NULL) != MO_OK) return 1;
    for (int i = 0; i < LAYERS * WIDTH * WIDTH; i++) flat[i] = 0.1f * sinf((float)i * 1.7f);
    for (int s = 0; s < STEPS; s++) {
        *loss = run_plan(plan, d);
        for (int i = 0; i < LAYERS * WIDTH * WIDTH; i++) flat[i] -= 5e-4f * dflat[i];
    }
    printf("%2d bits a number: peak %6zu bytes, loss %.6f\n", bits ? bits : 32, info.peak_bytes,
        (double)*loss);
    mo_plan_destroy(plan);
    mo_arena_free(&arena);
    return 0;
}

int main(void) {
    float loss[3];
    for (int k = 0; k < N; k++)
        input[k] = sinf((float)k * 0.37f), target[k] = cosf((float)k * 0.11f);
    for (int i = 0; i < 3; i++) {
        const int bits = i == 0 ? 0 : i == 1 ? 8 : 4;
        const mo_compress_desc d = {.bits = bits};
        const mo_stage_tensor tensors[] = {{.name = "hidden",
                                               .size = sizeof input,
                                               .role = bits ? MO_TENSOR_WIDE : MO_TENSOR_SAVED},
            {.name = "codes", .size = bits ? mo_compress_size(&d, N) : 0, .role = MO_TENSOR_CODES},
            {.name = "slope", .size = sizeof input, .role = MO_TENSOR_BACKWARD}};
        mo_stage stages[LAYERS + 1] = {{0}}; // the last one is the loss
        for (int k = 0; k < LAYERS; k++)
            stages[k] = (mo_stage){.output_size = sizeof input, .tensors = tensors, .n_tensors = 3};
        mo_chain chain = {.stages = stages, .n_stages = LAYERS + 1};
        if (train(&chain, bits, &loss[i]) != 0) return 1;
    }
    return !(
        fabsf(loss[1] - loss[0]) < 0.002f * loss[0] && fabsf(loss[2] - loss[0]) < 0.01f * loss[0]);
}
