// 13_resume.c - a training loop that can be killed at any moment: started again, it continues where
// the last complete checkpoint was made, and ends with the same bits.
//     cc -I. examples/13_resume.c memopt.c -o resume -lm
//     resume [FILE]     kill it (Ctrl-C, kill -9, pull the plug) and start it again
#include "memopt.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { INPUTS = 8, HIDDEN = 64, ROWS = 32, STEPS = 5000, EVERY = 250, KEEP = 2 };

// y = tanh(x W) v, fitted to a fixed function of random inputs.
typedef struct model {
    mo_params params; // W and v
    mo_optim_desc adam;
    mo_optim_state states[2];
    uint64_t random; // the state of the generator: which inputs come next
    uint64_t step;
} model;

static float random_number(uint64_t *state) { // in -1..1
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*state >> 32) / 2147483648.0f;
}

static float train_step(model *m) {
    const mo_param *w = &m->params.items[0], *v = &m->params.items[1];
    float x[INPUTS], h[HIDDEN], loss = 0;
    for (size_t i = 0; i < w->n; i++) w->grad[i] = 0;
    for (size_t i = 0; i < v->n; i++) v->grad[i] = 0;
    for (int row = 0; row < ROWS; row++) {
        float y = 0;
        for (int i = 0; i < INPUTS; i++) x[i] = random_number(&m->random);
        for (int j = 0; j < HIDDEN; j++) {
            float sum = 0;
            for (int i = 0; i < INPUTS; i++) sum += x[i] * w->data[i * HIDDEN + j];
            y += (h[j] = tanhf(sum)) * v->data[j];
        }
        const float error = y - (sinf(3 * x[0]) - x[1]), dy = 2 * error / ROWS;
        loss += error * error / ROWS;
        for (int j = 0; j < HIDDEN; j++) {
            const float dsum = dy * v->data[j] * (1 - h[j] * h[j]);
            v->grad[j] += dy * h[j];
            for (int i = 0; i < INPUTS; i++) w->grad[i * HIDDEN + j] += dsum * x[i];
        }
    }
    m->step++;
    for (int i = 0; i < 2; i++) {
        const mo_param *p = &m->params.items[i];
        if (mo_optim_step(&m->adam, m->step, p->data, p->grad, &m->states[i]) != MO_OK) exit(1);
    }
    return loss;
}

// Parameters, gradients and 8-bit states, with the values that a run begins with.
static mo_status begin(model *m, mo_arena *arena) {
    const size_t shapes[2][2] = {{INPUTS, HIDDEN}, {HIDDEN, 1}};
    const mo_arena_desc desc = {.size = 1 << 20};
    mo_params_init(&m->params, NULL);
    mo_status status = mo_arena_init(arena, &desc);
    if (status == MO_OK) status = mo_params_add(&m->params, "w", shapes[0], 2, NULL);
    if (status == MO_OK) status = mo_params_add(&m->params, "v", shapes[1], 2, NULL);
    if (status != MO_OK) return status;
    const size_t size = mo_params_size(&m->params, MO_PARAMS_ALL);
    status = mo_params_bind(
        &m->params, mo_arena_alloc(arena, size, 64), mo_arena_alloc(arena, size, 64));
    m->adam = (mo_optim_desc){.precision = MO_OPTIM_8BIT, .min_8bit_size = 1, .lr = 3e-3};
    m->random = 7;
    for (int i = 0; i < 2 && status == MO_OK; i++) {
        const mo_param *p = &m->params.items[i];
        const size_t bytes = mo_optim_state_size(&m->adam, p->n);
        for (size_t k = 0; k < p->n; k++) p->data[k] = 0.3f * random_number(&m->random);
        status = mo_optim_state_init(
            &m->adam, p->n, mo_arena_alloc(arena, bytes, 64), bytes, &m->states[i]);
    }
    return status;
}

static void say(void *self, mo_log_level level, const char *text) {
    (void)self;
    if (level != MO_LOG_INFO) fprintf(stderr, "%s\n", text);
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "resume_example.safetensors";
    mo_arena arena = {0};
    model m = {0};
    if (begin(&m, &arena) != MO_OK) return 1;

    // All of the run: whatever is not here would begin anew.
    const mo_checkpoint_state states[2] = {
        {"w", &m.adam, &m.states[0], 0}, {"v", &m.adam, &m.states[1], 0}};
    mo_checkpoint_value random = {.key = "random"};
    mo_checkpoint run = {
        .params = &m.params, .states = states, .n_states = 2, .values = &random, .n_values = 1};
    const mo_checkpoint_desc desc = {.keep = KEEP, .log = {say, NULL}};

    char file[4096];
    const mo_status found = mo_checkpoint_latest(path, &desc, file, sizeof file);
    if (found == MO_OK) {
        if (mo_checkpoint_load(file, &run, &desc) != MO_OK) return 1;
        m.step = run.step;
        m.random = random.number;
        printf("continued from %s\n", file);
    } else if (found != MO_E_NOT_FOUND) return 1; // NOT_FOUND: this is the first start

    float loss = 0;
    while (m.step < STEPS) {
        loss = train_step(&m);
        if (m.step % EVERY != 0) continue;
        printf("step %4d  loss %.9f\n", (int)m.step, loss);
        fflush(stdout);
        run.step = m.step;
        random.number = m.random;
        if (mo_checkpoint_save(path, &run, &desc) != MO_OK) return 1;
    }

    // A real run would keep its last file; this one makes room for the next demonstration.
    for (int step = STEPS; step > STEPS - KEEP * EVERY; step -= EVERY)
        if (mo_checkpoint_name(path, &desc, (uint64_t)step, file, sizeof file) == MO_OK)
            remove(file);
    mo_params_free(&m.params);
    mo_arena_free(&arena);
    return 0;
}
