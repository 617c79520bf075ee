/* test_checkpoint.h - a small run that has one of everything, for the tests of mo_checkpoint. */
#ifndef TEST_CHECKPOINT_H
#define TEST_CHECKPOINT_H

#include <sys/stat.h>

#define TEST_FILE "run.safetensors"
#include "test_folder.h"

enum { N_W = 2000, N_B = 50, N_FROZEN = 7, N_EMB = 15, N_RNG = 33, N_TEXT = 32 };

/* All contents lie in one struct, so that runs are compared and kept as a whole. */
typedef struct contents {
    float w[N_W], b[N_B], frozen[N_FROZEN];
    uint16_t emb[N_EMB];
    uint8_t rng[N_RNG];
    double scalar;
    char text[N_TEXT];
    uint64_t numbers[3], step;
    mo_loss_scaler scaler;
    uint8_t state_w[16448], state_b[640];
} contents;

typedef struct test_run {
    contents *data;
    mo_params params;
    mo_optim_desc desc_w, desc_b;
    mo_optim_state w, b;
    mo_checkpoint_array arrays[4];
    mo_checkpoint_state states[2];
    mo_checkpoint_value values[4];
    mo_checkpoint run;
} test_run;

static const uint64_t emb_shape[] = {3, 5}, rng_shape[] = {N_RNG}, empty_shape[] = {0, 4};

static void run_add_param(mo_params *params, const char *name, size_t a, size_t b, float *data) {
    const size_t shape[] = {a, b};
    size_t at = 0;
    test_ok(mo_params_add(params, name, shape, b ? 2 : 1, &at));
    params->items[at].data = data;
}

static void run_begin(test_run *r, mo_optim_precision precision) {
    memset(r, 0, sizeof *r);
    contents *c = r->data = (contents *)mo_alloc(NULL, sizeof *c, 64);
    memset(c, 0, sizeof *c);
    mo_params_init(&r->params, NULL);
    run_add_param(&r->params, "w", 40, 50, c->w);
    run_add_param(&r->params, "b", N_B, 0, c->b);
    run_add_param(&r->params, "frozen", N_FROZEN, 0, c->frozen);
    run_add_param(&r->params, "head", 40, 50, c->w);
    test_ok(mo_params_tie(&r->params, 3, 0));
    r->params.items[2].frozen = 1;
    r->desc_w.precision = precision;
    r->desc_w.min_8bit_size = 1;
    r->desc_b = r->desc_w;
    r->desc_b.min_8bit_size = 0; /* too small for 8 bits */
    uint8_t *at = c->state_w + (64 - (uintptr_t)c->state_w % 64) % 64;
    test_ok(mo_optim_state_init(
        &r->desc_w, N_W, at, (size_t)(c->state_w + sizeof c->state_w - at), &r->w));
    at = c->state_b + (64 - (uintptr_t)c->state_b % 64) % 64;
    test_ok(mo_optim_state_init(
        &r->desc_b, N_B, at, (size_t)(c->state_b + sizeof c->state_b - at), &r->b));
    const mo_checkpoint_array arrays[4] = {{"emb", MO_DTYPE_BF16, 2, emb_shape, c->emb},
        {"rng", MO_DTYPE_U8, 1, rng_shape, c->rng}, {"empty", MO_DTYPE_F32, 2, empty_shape, NULL},
        {"scalar", MO_DTYPE_F64, 0, NULL, &c->scalar}};
    const mo_checkpoint_state states[2] = {
        {"w", &r->desc_w, &r->w, 0}, {"b", &r->desc_b, &r->b, N_B}};
    const mo_checkpoint_value values[4] = {{"seed", 0, NULL, 0}, {"epoch", 0, NULL, 0},
        {"position", 0, NULL, 0}, {"order", 0, c->text, N_TEXT}};
    memcpy(r->arrays, arrays, sizeof arrays);
    memcpy(r->states, states, sizeof states);
    memcpy(r->values, values, sizeof values);
    r->run.params = &r->params;
    r->run.arrays = r->arrays, r->run.n_arrays = 4;
    r->run.states = r->states, r->run.n_states = 2;
    r->run.values = r->values, r->run.n_values = 4;
    r->run.scaler = &c->scaler;
    test_ok(mo_loss_scaler_init(&c->scaler, NULL));
}

static void run_end(test_run *r) {
    mo_params_free(&r->params);
    mo_free(NULL, r->data, sizeof *r->data, 64);
}

/* Random numbers everywhere, and a few steps, so that the states hold something. */
static void run_fill(test_run *r, uint64_t seed, uint64_t step) {
    test_rng rng = {seed};
    contents *c = r->data;
    float grad[N_W];
    for (size_t i = 0; i < N_W; i++) c->w[i] = test_normal(&rng), grad[i] = test_normal(&rng);
    for (size_t i = 0; i < N_B; i++) c->b[i] = test_normal(&rng);
    for (size_t i = 0; i < N_FROZEN; i++) c->frozen[i] = test_normal(&rng);
    for (size_t i = 0; i < N_EMB; i++) c->emb[i] = (uint16_t)test_u64(&rng);
    for (size_t i = 0; i < N_RNG; i++) c->rng[i] = (uint8_t)test_u64(&rng);
    c->scalar = test_uniform(&rng);
    for (int i = 0; i < 3; i++) r->values[i].number = test_u64(&rng);
    snprintf(c->text, sizeof c->text, "shuffled \"%llu\"", (unsigned long long)test_below(&rng, 9));
    c->scaler.scale = 1000 * test_uniform(&rng);
    c->scaler.good_steps = (uint32_t)test_below(&rng, 2000);
    c->scaler.skipped = test_below(&rng, 100);
    test_ok(mo_optim_step(&r->desc_w, step + 1, c->w, grad, &r->w));
    test_ok(mo_optim_step(&r->desc_b, step + 1, c->b, grad, &r->b));
    r->run.step = step;
}

/* The numbers of a run into its contents. */
static const contents *run_look(test_run *r) {
    for (int i = 0; i < 3; i++) r->data->numbers[i] = r->values[i].number;
    r->data->step = r->run.step;
    return r->data;
}
static int run_same(test_run *a, test_run *b) {
    return memcmp(run_look(a), run_look(b), sizeof(contents)) == 0;
}

#endif
