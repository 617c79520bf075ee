// 16_lora.c - a frozen layer in 4 bits learns a new task by an adapter of rank 4, in a fourteenth
// of the memory that training all of it would take.
#include <stdio.h>
#include <stdlib.h>

#define MEMOPT_IMPLEMENTATION
#include "memopt.h"

enum { IN = 256, OUT = 192, RANK = 4, ROWS = 64, STEPS = 200 };

static float normal(unsigned *state) { // a sum of uniform numbers is close enough
    float sum = -6;
    for (int i = 0; i < 12; i++)
        sum += (float)((*state = *state * 1664525u + 1013904223u) >> 8) / 0x1p24f;
    return sum;
}

static void *block(size_t size) {
    void *p = mo_alloc(NULL, size, 64);
    if (!p) exit(1);
    return p;
}

static void check(mo_status status) {
    if (status == MO_OK) return;
    fprintf(stderr, "16_lora: %s\n", mo_status_text(status));
    exit(1);
}

int main(void) {
    static float w[OUT * IN], u[OUT * 2], v[2 * IN]; // the old task; the new one is w + u v
    static float x[ROWS * IN], y[ROWS * OUT], dy[ROWS * OUT], want[ROWS * OUT];
    static float a[RANK * IN], b[OUT * RANK], da[RANK * IN], db[OUT * RANK];
    unsigned seed = 1;
    for (int i = 0; i < OUT * IN; i++) w[i] = 0.06f * normal(&seed);
    for (int i = 0; i < OUT * 2; i++) u[i] = 0.3f * normal(&seed);
    for (int i = 0; i < 2 * IN; i++) v[i] = 0.1f * normal(&seed);

    // The weight is frozen: NF4, a scale for 64 numbers, the scales in 8 bits.
    mo_weight frozen = {.type = MO_GEMM_NF4, .rows = OUT, .columns = IN, .nested = 1};
    const size_t size = mo_weight_size(&frozen), scratch = mo_weight_workspace_size(&frozen);
    check(mo_weight_place(&frozen, block(size), size));
    check(mo_weight_encode(&frozen, w, block(scratch), scratch, NULL));

    mo_gemm_env env = {.workspace_size = mo_gemm_workspace_size(NULL, NULL)};
    env.workspace = block(env.workspace_size);
    mo_lora_desc lora = {.rows = ROWS, .rank = RANK, .alpha = 8, .env = &env};
    lora.workspace_size = mo_lora_workspace_size(&lora, &frozen);
    lora.workspace = block(lora.workspace_size);
    const mo_lora_tensors tensors = {&frozen, a, b, da, db};
    check(mo_lora_init(IN, OUT, RANK, 1337, a, b));

    mo_optim_desc adam = {.kind = MO_OPTIM_ADAMW, .lr = 1e-2f};
    mo_optim_state states[2];
    const size_t n[2] = {RANK * IN, OUT * RANK};
    float *const params[2] = {a, b}, *const grads[2] = {da, db};
    size_t adapter = 0;
    for (int i = 0; i < 2; i++) {
        const size_t bytes = mo_optim_state_size(&adam, n[i]);
        check(mo_optim_state_init(&adam, n[i], block(bytes), bytes, &states[i]));
        adapter += 2 * n[i] * sizeof(float) + bytes;
    }

    double loss = 0, first = 0;
    for (uint64_t step = 1; step <= STEPS; step++) {
        for (int i = 0; i < ROWS * IN; i++) x[i] = normal(&seed);
        for (int r = 0; r < ROWS; r++)
            for (int o = 0; o < OUT; o++) {
                float sum = 0, h[2] = {0, 0};
                for (int i = 0; i < IN; i++) {
                    sum += w[o * IN + i] * x[r * IN + i];
                    for (int k = 0; k < 2; k++) h[k] += v[k * IN + i] * x[r * IN + i];
                }
                want[r * OUT + o] = sum + u[o * 2] * h[0] + u[o * 2 + 1] * h[1];
            }
        check(mo_lora_forward(&lora, &tensors, x, y));
        loss = 0;
        for (int i = 0; i < ROWS * OUT; i++) {
            const float error = y[i] - want[i];
            loss += 0.5 * (double)error * (double)error / (ROWS * OUT);
            dy[i] = error / (ROWS * OUT);
        }
        if (step == 1) first = loss;
        for (int i = 0; i < RANK * IN; i++) da[i] = 0;
        for (int i = 0; i < OUT * RANK; i++) db[i] = 0;
        check(mo_lora_backward(&lora, &tensors, x, dy, NULL));
        for (int i = 0; i < 2; i++)
            check(mo_optim_step(&adam, step, params[i], grads[i], &states[i]));
    }
    printf("loss %.4f at first, %.4f after %d steps\n", first, loss, STEPS);
    printf("full fine-tuning: %zu bytes (weight, gradient, two states)\n", 4 * sizeof w);
    printf("adapter:          %zu bytes (weight in 4 bits %zu, the rest of rank %d %zu)\n",
        size + adapter, size, RANK, adapter);
    return loss < 0.1 * first ? 0 : 1;
}
