// 04_checkpoint_chain.c - a small network trained under two plans: everything kept, and recomputed.
//     cc -I. examples/04_checkpoint_chain.c memopt.c -o checkpoint_chain -lm
//     ./checkpoint_chain [PREFIX]    writes PREFIX0.svg, PREFIX0.json, PREFIX1.svg, PREFIX1.json
#include "memopt.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LAYERS = 16, WIDTH = 24, BATCH = 64, STEPS = 20 };
typedef float weights[WIDTH][WIDTH];
static float input[BATCH * WIDTH], target[BATCH * WIDTH];

// A layer is y = x + tanh(x W). Its backward needs x, which every plan gives, and h = tanh(x W).
static void layer_forward(weights w, const float *x, float *h, float *y) {
    for (int b = 0; b < BATCH; b++)
        for (int o = 0; o < WIDTH; o++) {
            float sum = 0;
            for (int i = 0; i < WIDTH; i++) sum += x[b * WIDTH + i] * w[i][o];
            h[b * WIDTH + o] = tanhf(sum);
            if (y) y[b * WIDTH + o] = x[b * WIDTH + o] + h[b * WIDTH + o]; // NULL: nobody reads it
        }
}

// pre = dy (1 - h^2); dW = x' pre; dx = dy + pre W'. dx is NULL for the first layer.
static void layer_backward(
    weights w, weights dw, const float *x, const float *h, const float *dy, float *pre, float *dx) {
    for (int k = 0; k < BATCH * WIDTH; k++) pre[k] = dy[k] * (1 - h[k] * h[k]);
    for (int b = 0; b < BATCH; b++)
        for (int i = 0; i < WIDTH; i++) {
            float sum = dy[b * WIDTH + i];
            for (int o = 0; o < WIDTH; o++) {
                dw[i][o] += x[b * WIDTH + i] * pre[b * WIDTH + o];
                sum += pre[b * WIDTH + o] * w[i][o];
            }
            if (dx) dx[b * WIDTH + i] = sum;
        }
}

static float loss_and_gradient(const float *x, float *dx) {
    float loss = 0;
    for (int k = 0; k < BATCH * WIDTH; k++) {
        float error = x[k] - target[k];
        dx[k] = 2 * error / BATCH;
        loss += error * error / BATCH;
    }
    return loss;
}

// One pass over the plan: the loss, and the gradients in dw. The caller keeps the input itself.
static float run_plan(mo_plan *plan, weights *w, weights *dw) {
    mo_step step;
    float loss = 0;
    memset(dw, 0, LAYERS * sizeof *dw);
    mo_plan_begin(plan);
    while (mo_plan_next(plan, &step)) {
        const float *x = step.stage == 0 ? input : step.x;
        switch (step.op) {
        case MO_STEP_FORWARD:
        case MO_STEP_RECOMPUTE: layer_forward(w[step.stage], x, step.tensors[0], step.y); break;
        case MO_STEP_LOSS: loss = loss_and_gradient(x, step.dx); break;
        case MO_STEP_BACKWARD:
            layer_backward(w[step.stage], dw[step.stage], x, step.tensors[0], step.dy,
                step.tensors[1], step.dx);
            break;
        default: break; // these plans move nothing to another memory
        }
    }
    return loss;
}

static int write_file(void *self, const char *text, size_t size) {
    return fwrite(text, 1, size, self) == size ? 0 : -1;
}

// The plan as a picture and as JSON, for other programs.
static mo_status show(const mo_plan *plan, const char *name, const char *prefix, int number) {
    static const char *const kinds[] = {"svg", "json"};
    for (int i = 0; i < 2; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s%d.%s", prefix, number, kinds[i]);
        FILE *file = fopen(path, "w");
        const mo_writer writer = {write_file, file};
        if (!file) return MO_E_IO;
        mo_status status =
            i == 0 ? mo_plan_write_svg(plan, name, &writer) : mo_plan_write_json(plan, &writer);
        if (fclose(file) != 0 || status != MO_OK) return MO_E_IO;
    }
    return MO_OK;
}

static mo_status train(
    const char *name, const mo_chain *chain, mo_remat_policy policy, const char *prefix) {
    const mo_plan_fixed fixed[] = {{"weights", LAYERS * sizeof(weights), MO_CATEGORY_PARAM},
        {"gradients", LAYERS * sizeof(weights), MO_CATEGORY_GRAD}};
    mo_plan *plan;
    mo_plan_desc desc = {.chain = chain, .remat = {.policy = policy}, .fixed = fixed, .n_fixed = 2};
    mo_arena arena;
    mo_arena_stats stats;
    float loss = 0;
    mo_status status = mo_plan_create(&plan, &desc);
    if (status != MO_OK) return status;
    mo_plan_info info = mo_plan_describe(plan); // known before anything is allocated
    mo_arena_desc arena_desc = {.limit = info.peak_bytes};
    status = mo_plan_check(plan, NULL); // proves that no step overwrites what another still needs
    if (status == MO_OK && prefix) status = show(plan, name, prefix, policy != MO_REMAT_NONE);
    if (status == MO_OK) status = mo_arena_init(&arena, &arena_desc);
    if (status == MO_OK) status = mo_plan_bind(plan, &arena, NULL);
    if (status == MO_OK) {
        float *w = mo_plan_fixed_address(plan, 0), *dw = mo_plan_fixed_address(plan, 1);
        for (int i = 0; i < LAYERS * WIDTH * WIDTH; i++) w[i] = 0.1f * sinf((float)i * 1.7f);
        for (int s = 0; s < STEPS; s++) {
            loss = run_plan(plan, (weights *)w, (weights *)dw);
            for (int i = 0; i < LAYERS * WIDTH * WIDTH; i++) w[i] -= 0.01f * dw[i];
        }
        mo_arena_get_stats(&arena, &stats);
        printf("%-10s planned %zu bytes, measured %zu, cost x%.2f, loss %.6f\n", name,
            info.peak_bytes, stats.peak_bytes, info.cost_s / info.ideal_s, loss);
        mo_arena_free(&arena);
    }
    mo_plan_destroy(plan);
    return status;
}

int main(int argc, char **argv) {
    const char *prefix = argc > 1 ? argv[1] : NULL;
    static const mo_stage_tensor tensors[] = {
        {.name = "h", .size = sizeof input, .role = MO_TENSOR_SAVED},
        {.name = "pre", .size = sizeof input, .role = MO_TENSOR_BACKWARD}};
    mo_stage stages[LAYERS + 1] = {{0}}; // the last one is the loss: it needs no tensors
    for (int i = 0; i < LAYERS; i++)
        stages[i] = (mo_stage){.name = "layer",
            .output_size = sizeof input,
            .tensors = tensors,
            .n_tensors = 2,
            .forward_s = 1,
            .backward_s = 2};
    mo_chain chain = {.stages = stages, .n_stages = LAYERS + 1};
    for (int k = 0; k < BATCH * WIDTH; k++) {
        input[k] = sinf((float)k * 0.37f);
        target[k] = cosf((float)k * 0.11f);
    }
    if (train("keep all", &chain, MO_REMAT_NONE, prefix) != MO_OK) return 1;
    return train("recompute", &chain, MO_REMAT_SQRT, prefix) != MO_OK;
}
