/* test_optim.h - what the tests of mo_optim share: a tensor in training, all kinds, all
 * precisions. */
#ifndef TEST_OPTIM_H
#define TEST_OPTIM_H

#include "test_numeric.h"

/* Parameter, gradient, and states in memory of exactly the stated size. */
typedef struct tensor {
    mo_optim_desc d;
    size_t n, size;
    float *param, *grad;
    uint16_t *half; /* NULL, or the parameters in bf16; param is not used then */
    void *memory;
    mo_optim_state state;
} tensor;

static inline void tensor_state(tensor *t) {
    t->size = mo_optim_state_size(&t->d, t->n);
    t->memory = mo_alloc(NULL, t->size, 64);
    memset(t->memory, 0xee, t->size);
    test_ok(mo_optim_state_init(&t->d, t->n, t->memory, t->size, &t->state));
}
static inline tensor tensor_begin(test_rng *r, mo_optim_desc d, size_t n) {
    static const mo_parallel one = {NULL, NULL, 1};
    tensor t;
    t.d = d;
    if (!d.parallel) t.d.parallel = &one; /* tensors are small, steps are many */
    t.n = n;
    t.param = test_normals(r, n, 1);
    t.grad = test_normals(r, n, 0.01f);
    t.half = NULL;
    tensor_state(&t);
    return t;
}
/* with parameters in bf16; a master copy where d has one */
static inline tensor tensor_begin_half(test_rng *r, mo_optim_desc d, size_t n) {
    tensor t = tensor_begin(r, d, n);
    t.half = (uint16_t *)test_array(n, sizeof *t.half);
    mo_f32_to_bf16(t.param, t.half, n, NULL);
    if (d.master) test_ok(mo_optim_master_init(&t.state, t.half));
    return t;
}
static inline tensor tensor_copy(const tensor *from) {
    tensor t = *from;
    t.param = test_copy(from->param, t.n);
    t.grad = test_copy(from->grad, t.n);
    if (t.half) {
        t.half = (uint16_t *)test_array(t.n, sizeof *t.half);
        memcpy(t.half, from->half, t.n * sizeof *t.half);
    }
    tensor_state(&t);
    memcpy(t.memory, from->memory, t.size);
    return t;
}
static inline void tensor_end(tensor *t) {
    free(t->param);
    free(t->grad);
    free(t->half);
    mo_free(NULL, t->memory, t->size, 64);
}
/* part: of t, from begin */
static inline void step_slice(tensor *t, uint64_t at, size_t begin, const mo_optim_state *part) {
    if (t->half) test_ok(mo_optim_step_bf16(&t->d, at, t->half + begin, t->grad + begin, part));
    else test_ok(mo_optim_step(&t->d, at, t->param + begin, t->grad + begin, part));
}
static inline void step(tensor *t, uint64_t at) { step_slice(t, at, 0, &t->state); }
static inline void assert_same_tensor(const tensor *a, const tensor *b) {
    assert_same_bits(a->param, b->param, a->n * sizeof(float));
    if (a->half) assert_same_bits(a->half, b->half, a->n * sizeof *a->half);
    assert_same_bits(a->memory, b->memory, a->size);
}

static inline mo_optim_desc desc(mo_optim_kind kind, mo_optim_precision precision) {
    mo_optim_desc d;
    memset(&d, 0, sizeof d);
    d.kind = kind;
    d.precision = precision;
    d.lr = 1e-3;
    if (kind == MO_OPTIM_SGD || kind == MO_OPTIM_LARS) d.beta1 = 0.9;
    return d;
}
static inline mo_optim_desc decayed(mo_optim_kind kind, mo_optim_precision precision) {
    mo_optim_desc d = desc(kind, precision);
    d.weight_decay = 0.01;
    d.min_8bit_size = 1;
    return d;
}

/* All kinds and precisions, for loops; matrices have 4 columns. */
enum { N_PLAIN_DESCS = 3 * MO_OPTIM_KIND_COUNT, N_DESCS = N_PLAIN_DESCS + 7 };
static inline mo_optim_desc nth_desc(int i) {
    static const mo_optim_precision all[] = {MO_OPTIM_F32, MO_OPTIM_8BIT, MO_OPTIM_BF16};
    if (i < N_PLAIN_DESCS)
        return decayed((mo_optim_kind)(i % MO_OPTIM_KIND_COUNT), all[i / MO_OPTIM_KIND_COUNT]);
    if (i == N_PLAIN_DESCS) return decayed(MO_OPTIM_ADAMW, MO_OPTIM_4BIT);
    static const mo_optim_kind kinds[] = {MO_OPTIM_ADAM_MINI, MO_OPTIM_ADAFACTOR, MO_OPTIM_APOLLO,
        MO_OPTIM_APOLLO_MINI, MO_OPTIM_GALORE, MO_OPTIM_GALORE};
    mo_optim_desc d =
        decayed(kinds[i - N_PLAIN_DESCS - 1], i == N_DESCS - 1 ? MO_OPTIM_F32 : MO_OPTIM_8BIT);
    d.columns = 4;
    return d;
}

static inline const char *test_kind_name(mo_optim_kind kind) {
    static const char *const names[] = {"adamw", "sgd", "adam", "lion", "rmsprop", "adagrad",
        "ademamix", "lamb", "lars", "adam_mini", "adafactor", "apollo", "apollo_mini", "galore"};
    return names[kind];
}
static inline const char *test_precision_name(mo_optim_precision precision) {
    static const char *const names[] = {"f32", "8bit", "bf16", "4bit"};
    return names[precision];
}

/* The same tensor with its states in fp32, to look at. */
static inline tensor tensor_decoded(const tensor *from) {
    tensor t = *from;
    t.d.precision = MO_OPTIM_F32;
    t.param = test_copy(from->param, t.n);
    t.grad = test_copy(from->grad, t.n);
    t.half = NULL;
    tensor_state(&t);
    test_ok(mo_optim_state_copy(&t.state, &from->state, 0));
    return t;
}

#endif
