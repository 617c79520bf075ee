/* test_plan.h - networks by chance, schedules by chance, and a simulated network that runs a plan's
 * steps and knows every byte that it must find. */
#ifndef TEST_PLAN_H
#define TEST_PLAN_H

#include "test_util.h"

enum { MAX_STAGES = 9, MAX_TENSORS = 8, MAX_OPS = 512, MAX_VALUES = 4 + MAX_TENSORS };

typedef struct network {
    mo_chain chain;
    mo_stage stages[MAX_STAGES];
    mo_stage_tensor tensors[MAX_STAGES][MAX_TENSORS];
} network;

/* ---- a network by chance ------------------------------------------------------------------- */

static inline void random_range(test_rng *rng, unsigned steps, unsigned *first, unsigned *last) {
    *first = (unsigned)test_below(rng, steps);
    *last = *first + (unsigned)test_below(rng, steps - *first);
}

static inline size_t random_size(test_rng *rng) {
    static const size_t steps[] = {1, 8, 64};
    return test_below(rng, 8) ? steps[test_below(rng, 3)] * test_below(rng, 30) : 0;
}

static inline void random_stage(
    test_rng *rng, mo_stage *stage, mo_stage_tensor *tensors, int is_loss) {
    unsigned forward = (unsigned)test_below(rng, 5), backward = (unsigned)test_below(rng, 5);
    unsigned n_forward = forward ? forward : 1, n_backward = backward ? backward : 1;
    memset(stage, 0, sizeof *stage);
    stage->name = test_below(rng, 4) ? "block" : NULL;
    stage->output_size = random_size(rng);
    stage->forward_steps = forward;
    stage->backward_steps = backward;
    stage->output_first = (unsigned)test_below(rng, n_forward);
    stage->gradient_first = (unsigned)test_below(rng, is_loss ? n_forward : n_backward);
    stage->tensors = tensors;
    stage->n_tensors = test_below(rng, MAX_TENSORS + 1);
    stage->forward_s = 1 + test_uniform(rng);
    stage->backward_s = 2 + test_uniform(rng);
    stage->light_s = stage->output_s = 0.25;
    stage->compress_s = 0.125;
    stage->in_place = (int)test_below(rng, 2);
    for (size_t i = 0; i < stage->n_tensors; i++) {
        memset(&tensors[i], 0, sizeof tensors[i]);
        tensors[i].name = test_below(rng, 4) ? "tensor" : NULL;
        tensors[i].size = random_size(rng);
        tensors[i].role = (mo_tensor_role)test_below(rng, is_loss ? 3 : 6);
        tensors[i].category = (mo_category)test_below(rng, MO_CATEGORY_COUNT);
        random_range(rng, n_forward, &tensors[i].forward_first, &tensors[i].forward_last);
        random_range(rng, n_backward, &tensors[i].backward_first, &tensors[i].backward_last);
    }
}

static inline void random_network(test_rng *rng, network *net) {
    size_t n = 1 + test_below(rng, MAX_STAGES);
    for (size_t i = 0; i < n; i++) random_stage(rng, &net->stages[i], net->tensors[i], i + 1 == n);
    net->chain.input_size = random_size(rng);
    for (size_t i = 0, equal = test_below(rng, 2); equal && i < n; i++)
        net->stages[i].output_size = net->chain.input_size;
    net->chain.stages = net->stages;
    net->chain.n_stages = n;
}

/* Whether the level keeps a tensor: by role SAVED, CHEAP, FORWARD, BACKWARD, WIDE, CODES. */
static inline int keeps_tensor(const mo_stage_tensor *t, int level) {
    static const char *const kept[] = {"110010", "100010", "100001"};
    return t->size != 0 && kept[level][t->role] == '1';
}

static inline int keeps(const mo_stage *stage, int level) {
    for (size_t i = 0; i < stage->n_tensors; i++)
        if (keeps_tensor(&stage->tensors[i], level)) return 1;
    return 0;
}

static inline size_t add_op(
    mo_remat_op *ops, size_t n, mo_step_op op, size_t stage, int save, int light) {
    mo_remat_op entry = {op, stage, save, light};
    ops[n] = entry;
    return n + 1;
}

/* Each stage saves at once or later, at any level; now and then a stage runs again for
 * nothing. */
static inline size_t random_schedule(test_rng *rng, const mo_chain *chain, mo_remat_op *ops) {
    size_t n = 0, last = chain->n_stages - 1;
    int light[MAX_STAGES], is_saved[MAX_STAGES];
    for (size_t i = 0; i < last; i++) {
        light[i] = (int)test_below(rng, 3);
        is_saved[i] = (int)test_below(rng, 2);
        n = add_op(ops, n, MO_STEP_FORWARD, i, is_saved[i], light[i]);
        if (test_below(rng, 4) == 0)
            n = add_op(ops, n, MO_STEP_RECOMPUTE, test_below(rng, i + 1), 0, 0);
    }
    n = add_op(ops, n, MO_STEP_LOSS, last, 0, 0);
    for (size_t i = last; i > 0; i--) {
        for (size_t extra = test_below(rng, 3); extra > 0; extra--)
            n = add_op(ops, n, MO_STEP_RECOMPUTE, test_below(rng, i), 0, 0);
        if (!is_saved[i - 1] && keeps(&chain->stages[i - 1], light[i - 1]))
            n = add_op(ops, n, MO_STEP_RECOMPUTE, i - 1, 1, light[i - 1]);
        n = add_op(ops, n, MO_STEP_BACKWARD, i - 1, 0, light[i - 1]);
    }
    return n;
}

/* Puts ops at chance places behind each other, when the schedule stays valid. */
static inline size_t random_insert(test_rng *rng, const mo_chain *chain, mo_remat_op *ops, size_t n,
    const mo_remat_op *more, size_t n_more) {
    mo_remat_op longer[MAX_OPS];
    size_t at[4], n_longer = 0, taken = 0;
    for (size_t i = 0; i < n_more; i++) at[i] = test_below(rng, n + 1);
    for (size_t i = 0; i < n_more; i++)
        for (size_t j = i + 1; j < n_more; j++)
            if (at[j] < at[i]) {
                size_t swap = at[i];
                at[i] = at[j];
                at[j] = swap;
            }
    for (size_t i = 0; i <= n; i++) {
        while (taken < n_more && at[taken] == i) longer[n_longer++] = more[taken++];
        if (i < n) longer[n_longer++] = ops[i];
    }
    if (mo_remat_check(chain, longer, n_longer, NULL) != MO_OK) return n;
    memcpy(ops, longer, n_longer * sizeof *ops);
    return n_longer;
}

/* Moves of x and of saved tensors, some x more than once. */
static inline size_t random_moves(
    test_rng *rng, const mo_chain *chain, mo_remat_op *ops, size_t n) {
    for (size_t i = 0; i < chain->n_stages; i++)
        for (int trial = 0; trial < 80 && n + 4 <= MAX_OPS; trial++) {
            int save = (int)test_below(rng, 2), light = (int)test_below(rng, 3);
            const mo_remat_op all[4] = {{MO_STEP_OFFLOAD, i, save, light},
                {MO_STEP_OFFLOAD_WAIT, i, save, light}, {MO_STEP_PREFETCH, i, save, light},
                {MO_STEP_PREFETCH_WAIT, i, save, light}};
            if (test_below(rng, 4)) n = random_insert(rng, chain, ops, n, all, 4);
            else n = random_insert(rng, chain, ops, n, all + 2, 2);
        }
    return n;
}

/* ---- the simulated network ----------------------------------------------------------------- */

/* The store, and when copies happen: at once, or as late as they may. In both cases what a copy
 * goes to is spoilt from its start on. n_wrong counts bytes that were not as expected. */
typedef struct simulation {
    unsigned char *store;
    int is_late;
    size_t n_wrong;
} simulation;

/* A value in one op: bytes that only it has, written at sub-step first unless an earlier op did,
 * and unharmed in every sub-step until last. */
typedef struct value {
    unsigned char *at;
    size_t size;
    unsigned number;
    unsigned first, last;
    int is_written;
} value;

static inline unsigned char value_byte(unsigned number, size_t i) {
    return (unsigned char)(number * 151 + i * 7 + (i >> 8) * 13 + (number >> 8));
}

static inline void write_value(const value *v) {
    for (size_t i = 0; i < v->size; i++) v->at[i] = value_byte(v->number, i);
}

static inline void check_value(simulation *sim, const value *v) {
    for (size_t i = 0; i < v->size; i++) sim->n_wrong += v->at[i] != value_byte(v->number, i);
}

static inline void run_values(simulation *sim, value *values, size_t n, unsigned steps) {
    for (size_t i = 0; i < n; i++)
        if (values[i].is_written) check_value(sim, &values[i]);
    for (unsigned u = 0; u < steps; u++) {
        for (size_t i = 0; i < n; i++)
            if (values[i].first == u && !values[i].is_written) write_value(&values[i]);
        for (size_t i = 0; i < n; i++)
            if (values[i].first <= u && u <= values[i].last) check_value(sim, &values[i]);
    }
}

static inline size_t add_value(value *values, size_t n, const void *at, size_t size,
    unsigned number, unsigned first, unsigned last, int is_written) {
    value v = {(unsigned char *)(uintptr_t)at, size, number, first, last, is_written};
    if (size == 0 || !at) assert_null(at);
    assert_int_equal((uintptr_t)at % 64, 0);
    if (!at) return n;
    values[n] = v;
    return n + 1;
}

enum { NUMBER_X = 0, NUMBER_DX = 100, NUMBER_TENSOR = 200 };

/* Where tensor i of a stage must be usable in this op: 0 = nowhere. */
static inline int tensor_range(const mo_step *step, const mo_stage_tensor *t, unsigned steps,
    unsigned *first, unsigned *last, int *is_written) {
    int kept = keeps_tensor(t, step->light), is_backward = step->op == MO_STEP_BACKWARD;
    if (t->role == MO_TENSOR_CODES && !(kept && (is_backward || step->save))) return 0;
    if (t->size == 0 || t->role == (is_backward ? MO_TENSOR_FORWARD : MO_TENSOR_BACKWARD)) return 0;
    *is_written = is_backward && kept;
    *first = is_backward ? (kept ? 0 : t->backward_first) : t->forward_first;
    *last = is_backward ? t->backward_last : t->forward_last;
    if (step->save && kept) *last = steps - 1;
    return 1;
}

static inline size_t tensor_values(
    const mo_stage *stage, const mo_step *step, unsigned steps, value *values) {
    size_t n = 0;
    for (size_t i = 0; i < stage->n_tensors; i++) {
        unsigned first = 0, last = 0, number = (unsigned)(NUMBER_TENSOR + step->stage * 100 + i);
        int is_written = 0;
        if (!tensor_range(step, &stage->tensors[i], steps, &first, &last, &is_written)) {
            assert_null(step->tensors[i]);
            continue;
        }
        assert_non_null(step->tensors[i]);
        n = add_value(
            values, n, step->tensors[i], stage->tensors[i].size, number, first, last, is_written);
    }
    return n;
}

static inline void run_op(
    simulation *sim, const mo_chain *chain, const mo_step *step, int is_first) {
    const mo_stage *stage = &chain->stages[step->stage];
    int is_backward = step->op == MO_STEP_BACKWARD, is_last = step->stage + 1 == chain->n_stages;
    unsigned steps = is_backward ? stage->backward_steps : stage->forward_steps;
    unsigned last = steps ? steps - 1 : 0, s = (unsigned)step->stage;
    size_t x_size = s ? chain->stages[s - 1].output_size : chain->input_size;
    value values[MAX_VALUES];
    size_t n = tensor_values(stage, step, last + 1, values);
    if (x_size) assert_non_null(step->x);
    n = add_value(values, n, step->x, x_size, NUMBER_X + s, 0, last, 1);
    if (is_first && step->x) write_value(&values[n - 1]);
    if (step->op == MO_STEP_LOSS || is_last)
        assert_int_equal(step->y != NULL, stage->output_size > 0);
    n = add_value(
        values, n, step->y, stage->output_size, NUMBER_X + s + 1, stage->output_first, last, 0);
    if (is_backward) assert_int_equal(step->dy != NULL, stage->output_size > 0);
    else assert_null(step->dy);
    n = add_value(values, n, step->dy, stage->output_size, NUMBER_DX + s + 1, 0, last, 1);
    if (step->dy && step->dy == step->dx) { /* in place: dy is gone when dx is written */
        assert_true(stage->in_place && x_size == stage->output_size);
        values[n - 1].first = stage->gradient_first > 0 ? 0 : 1;
        values[n - 1].last = stage->gradient_first > 0 ? stage->gradient_first - 1 : 0;
    }
    if (step->op >= MO_STEP_LOSS) assert_int_equal(step->dx != NULL, x_size > 0);
    else assert_null(step->dx);
    n = add_value(values, n, step->dx, x_size, NUMBER_DX + s, stage->gradient_first, last, 0);
    run_values(sim, values, n, last + 1);
}

static inline void run_move(simulation *sim, const mo_step *step) {
    int is_out = step->op == MO_STEP_OFFLOAD || step->op == MO_STEP_OFFLOAD_WAIT;
    int is_start = step->op == MO_STEP_OFFLOAD || step->op == MO_STEP_PREFETCH;
    for (size_t i = 0; i < step->n_copies; i++) {
        unsigned char *stored = sim->store + step->copies[i].store_off;
        unsigned char *to = is_out ? stored : (unsigned char *)step->copies[i].address;
        unsigned char *from = is_out ? (unsigned char *)step->copies[i].address : stored;
        if (is_start) memset(to, 0xee, step->copies[i].size);
        if (is_start == !sim->is_late) memcpy(to, from, step->copies[i].size);
    }
}

static inline void run_step(
    simulation *sim, const mo_chain *chain, const mo_step *step, int is_first) {
    if (step->op >= MO_STEP_OFFLOAD) run_move(sim, step);
    else run_op(sim, chain, step, is_first);
}

static inline void run_plan(simulation *sim, mo_plan *plan, const mo_chain *chain, size_t n_steps) {
    mo_step step;
    size_t n = 0;
    mo_plan_begin(plan);
    for (; mo_plan_next(plan, &step); n++) run_step(sim, chain, &step, n == 0);
    assert_int_equal(n, n_steps);
    assert_int_equal(mo_plan_next(plan, &step), 0);
    assert_int_equal(sim->n_wrong, 0);
}

#endif
