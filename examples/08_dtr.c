// 08_dtr.c - a network whose depth is known only while it runs, trained on 8 tensors of memory.
//     cc -I. examples/08_dtr.c memopt.c -o dtr -lm
#include "memopt.h"
#include <math.h>
#include <stdio.h>

enum { N = 1024, BUDGET = 8 * N * sizeof(float), MAX_DEPTH = 200 };
static _Alignas(64) unsigned char block[BUDGET];

// y = x + sin(x) / 8, and its gradient. An op writes its outputs and nothing else.
static mo_status forward(void *self, const mo_dtr_call *call) {
    (void)self;
    const float *x = call->inputs[0];
    float *y = call->outputs[0];
    for (int i = 0; i < N; i++) y[i] = x[i] + sinf(x[i]) / 8;
    return MO_OK;
}
static mo_status backward(void *self, const mo_dtr_call *call) {
    (void)self;
    const float *x = call->inputs[0], *dy = call->inputs[1];
    float *dx = call->outputs[0];
    for (int i = 0; i < N; i++) dx[i] = dy[i] * (1 + cosf(x[i]) / 8);
    return MO_OK;
}

static mo_dtr_tensor run(mo_dtr *dtr, mo_status (*op)(void *, const mo_dtr_call *), double cost,
    mo_dtr_tensor a, mo_dtr_tensor b) {
    const size_t bytes = N * sizeof(float);
    const mo_dtr_tensor inputs[] = {a, b};
    mo_dtr_op_desc desc = {.run = op, .inputs = inputs, .n_inputs = b ? 2 : 1, .cost = cost};
    mo_dtr_tensor output;
    desc.output_sizes = &bytes;
    desc.n_outputs = 1;
    return mo_dtr_op(dtr, &desc, &output) == MO_OK ? output : 0;
}

int main(void) {
    static float input[N];
    mo_dtr_tensor x[MAX_DEPTH + 1], dx;
    mo_dtr dtr;
    mo_dtr_desc desc = {.block = block, .size = sizeof block};
    void *address;
    int depth = 0;
    for (int i = 0; i < N; i++) input[i] = 0.01f + (float)i / N;
    if (mo_dtr_init(&dtr, &desc) != MO_OK) return 1;
    if (mo_dtr_constant(&dtr, "input", sizeof input, input, &x[0]) != MO_OK) return 1;

    // Forward until the first element is large enough: nobody knows how long that takes.
    for (float first = 0; first < 1 && depth < MAX_DEPTH; depth++) {
        x[depth + 1] = run(&dtr, forward, 1, x[depth], 0);
        if (mo_dtr_acquire(&dtr, x[depth + 1], &address) != MO_OK) return 1;
        first = *(const float *)address;
        if (mo_dtr_release(&dtr, x[depth + 1]) != MO_OK) return 1;
    }
    // Backward; an x that was evicted is made again behind our back.
    dx = run(&dtr, forward, 1, x[depth], 0); // stands for the gradient of the loss
    for (int i = depth; i > 0; i--) {
        mo_dtr_tensor next = run(&dtr, backward, 1, x[i - 1], dx);
        if (!next || mo_dtr_drop(&dtr, dx) != MO_OK || mo_dtr_drop(&dtr, x[i]) != MO_OK) return 1;
        dx = next;
    }
    if (mo_dtr_acquire(&dtr, dx, &address) != MO_OK) return 1;
    mo_dtr_stats stats;
    mo_dtr_get_stats(&dtr, &stats);
    printf("depth %d in %d tensors of memory: gradient %.6f, %llu evictions, %.0f%% more ops\n",
        depth, (int)(BUDGET / (N * sizeof(float))), ((const float *)address)[0],
        (unsigned long long)stats.n_evictions, 100 * stats.recompute_cost / stats.cost);
    mo_dtr_free(&dtr);
    return 0;
}
