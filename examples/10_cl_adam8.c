// 10_cl_adam8.c - a plain training loop on the host whose Adam moves to an OpenCL device: states of
// one byte a number there, gradients up, parameters down.
//     cc -I. examples/10_cl_adam8.c memopt.c memopt_cl.c -o cl_adam8 -lOpenCL -lm
//     cl_adam8 [auto | cl:P.D]
#include "memopt_cl.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// y = tanh(x W) v, fitted to a fixed function by least squares.
enum { INPUTS = 16, HIDDEN = 512, ROWS = 64, STEPS = 100, N_W = INPUTS * HIDDEN, N = N_W + HIDDEN };
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

// What the device holds: parameters, gradients, states.
typedef struct adam {
    mo_optim_desc desc; // AdamW, as kind is 0
    mo_cl_mem p, g, memory;
    mo_cl_optim_state state;
} adam;

static mo_status adam_begin(adam *a, mo_cl_heap *heap, const float *p) {
    const size_t bytes = N * sizeof *p, size = mo_optim_state_size(&a->desc, N);
    mo_status status = mo_cl_heap_alloc(heap, bytes, MO_CATEGORY_PARAM, "p", &a->p);
    if (status == MO_OK) status = mo_cl_heap_alloc(heap, bytes, MO_CATEGORY_GRAD, "g", &a->g);
    if (status == MO_OK)
        status = mo_cl_heap_alloc(heap, size, MO_CATEGORY_OPTIMIZER, "states", &a->memory);
    if (status == MO_OK)
        status = mo_cl_optim_state_init(heap->cl, &a->desc, N, a->memory, &a->state);
    if (status == MO_OK) status = mo_cl_upload(heap, MO_CL_COMPUTE, &a->p, 0, p, bytes, NULL, NULL);
    return status;
}

// was: adam(p, g, m, v, N, step, lr)
static mo_status adam_step(adam *a, mo_cl_heap *heap, int step, float *p, const float *g) {
    const size_t bytes = N * sizeof *p;
    mo_status status = mo_cl_upload(heap, MO_CL_COMPUTE, &a->g, 0, g, bytes, NULL, NULL);
    if (status == MO_OK)
        status = mo_cl_optim_step(heap->cl, &a->desc, (uint64_t)step, a->p, a->g, &a->state);
    if (status == MO_OK)
        status = mo_cl_download(heap, MO_CL_COMPUTE, p, &a->p, 0, bytes, NULL, NULL);
    return status;
}

static int train(mo_cl *cl, const char *name, mo_optim_precision precision) {
    static float p[N], g[N];
    adam a = {.desc = {.precision = precision, .lr = 2e-3}};
    const mo_cl_heap_desc heap_desc = {.buffer_bytes = 256 << 10};
    mo_cl_heap heap;
    mo_cl_heap_stats stats;
    float first = 0, last = 0;
    unsigned seed = 1;
    for (int i = 0; i < N; i++) p[i] = random_number(&seed) * (i < N_W ? 0.4f : 0.05f);
    mo_status status = mo_cl_heap_init(&heap, cl, &heap_desc);
    if (status != MO_OK) return 1;
    status = adam_begin(&a, &heap, p);
    for (int step = 1; step <= STEPS && status == MO_OK; step++) {
        last = loss_and_gradient(p, g);
        if (step == 1) first = last;
        status = adam_step(&a, &heap, step, p, g);
    }
    mo_cl_heap_get_stats(&heap, &stats);
    if (status == MO_OK)
        printf("%s: loss %.4f -> %.6f, states %6llu bytes, in all %6llu on the device\n", name,
            first, last, (unsigned long long)a.memory.size, (unsigned long long)stats.used_bytes);
    else printf("%s: %s\n", name, mo_status_text(status));
    mo_cl_heap_free(&heap);
    return status != MO_OK;
}

int main(int argc, char **argv) {
    const mo_cl_desc desc = {.device = argc > 1 ? argv[1] : "auto"};
    mo_cl cl;
    unsigned seed = 2;
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < INPUTS; i++) inputs[r][i] = random_number(&seed);
        targets[r] = inputs[r][0] * inputs[r][1] + 0.5f * inputs[r][2];
    }
    if (mo_cl_init(&cl, &desc) != MO_OK) {
        printf("no OpenCL device\n");
        return argc > 1; // to have none is an answer, unless one was asked for
    }
    printf("%s\n", cl.info.name);
    const int failed = train(&cl, "fp32 ", MO_OPTIM_F32) || train(&cl, "8-bit", MO_OPTIM_8BIT);
    mo_cl_free(&cl);
    return failed;
}
