/* test_active.c - mo_active: whose turn it is, and where the states of a turn lie. */
#include "test_optim.h"

enum { BLOCKS = 7, PERIOD = 5 };

static mo_active_desc desc_of(mo_active_order order, size_t n_active) {
    mo_active_desc d;
    memset(&d, 0, sizeof d);
    d.order = order;
    d.n_blocks = BLOCKS;
    d.n_active = n_active;
    d.period = PERIOD;
    d.seed = 42;
    return d;
}

/* Bit b of the result: block b trains. */
static unsigned active(const mo_active_desc *d, uint64_t t) {
    unsigned mask = 0;
    for (size_t b = 0; b < d->n_blocks; b++)
        if (mo_active_has(d, t, b)) mask |= 1u << b;
    return mask;
}
static unsigned count(unsigned mask) { return mask ? (mask & 1u) + count(mask >> 1) : 0; }

/* ---- turns ----------------------------------------------------------------------------------- */

static void a_cycle_goes_through_the_blocks_in_their_order(void **state) {
    (void)state;
    const mo_active_desc d = desc_of(MO_ACTIVE_CYCLE, 0);
    for (uint64_t t = 1; t <= 3 * BLOCKS * PERIOD; t++) {
        const mo_active_turn turn = mo_active_at(&d, t);
        assert_int_equal(turn.number, (t - 1) / PERIOD);
        assert_int_equal(turn.t, (t - 1) % PERIOD + 1);
        assert_int_equal(active(&d, t), 1u << turn.number % BLOCKS);
    }
}

static void a_shuffled_round_has_every_block_once(void **state) {
    (void)state;
    const mo_active_desc d = desc_of(MO_ACTIVE_SHUFFLE, 1);
    unsigned orders[2][BLOCKS];
    for (uint64_t round = 0; round < 50; round++) {
        unsigned seen = 0;
        for (uint64_t k = 0; k < BLOCKS; k++) {
            const unsigned now = active(&d, (round * BLOCKS + k) * PERIOD + 1);
            assert_int_equal(count(now), 1);
            assert_int_equal(seen & now, 0);
            assert_int_equal(active(&d, (round * BLOCKS + k + 1) * PERIOD), now);
            seen |= now;
            if (round < 2) orders[round][k] = now;
        }
        assert_int_equal(seen, (1u << BLOCKS) - 1);
    }
    assert_true(memcmp(orders[0], orders[1], sizeof orders[0]) != 0);
}

static void several_at_a_time_have_turns_of_that_many(void **state) {
    (void)state;
    for (int order = 0; order < MO_ACTIVE_ORDER_COUNT; order++)
        for (size_t n = 1; n <= BLOCKS; n++) {
            const mo_active_desc d = desc_of((mo_active_order)order, n);
            const uint64_t turns = (BLOCKS + n - 1) / n;
            unsigned seen = 0;
            for (uint64_t k = 0; k < turns; k++) {
                const unsigned now = active(&d, k * PERIOD + 1);
                assert_int_equal(count(now), n);
                seen |= now;
            }
            if (order != MO_ACTIVE_DRAW) assert_int_equal(seen, (1u << BLOCKS) - 1);
        }
}

/* 2 of 7 in 700 turns: 200 for each on average, with a deviation of sqrt(700 2/7 5/7) = 12. */
static void blocks_are_drawn_as_often_as_each_other(void **state) {
    (void)state;
    const mo_active_desc d = desc_of(MO_ACTIVE_DRAW, 2);
    int times[BLOCKS] = {0};
    for (uint64_t k = 0; k < 700; k++) {
        const unsigned now = active(&d, k * PERIOD + 1);
        assert_int_equal(count(now), 2);
        for (int b = 0; b < BLOCKS; b++) times[b] += now >> b & 1;
    }
    for (int b = 0; b < BLOCKS; b++) assert_in_range(times[b], 200 - 48, 200 + 48);
}

static void the_order_depends_on_the_seed(void **state) {
    (void)state;
    const mo_active_desc a = desc_of(MO_ACTIVE_DRAW, 1);
    mo_active_desc b = a;
    int n_same = 0;
    b.seed++;
    for (uint64_t k = 0; k < 70; k++) n_same += active(&a, k * 5 + 1) == active(&b, k * 5 + 1);
    assert_in_range(n_same, 1, 25); /* 10 on average, deviation 3 */
}

/* ---- states ---------------------------------------------------------------------------------- */

enum { TENSORS = 9 };
static const size_t numbers[TENSORS] = {300, 5000, 100, 64, 4096, 700, 1, 900, 1200};
static const size_t blocks[TENSORS] = {SIZE_MAX, 0, 0, 1, 2, 3, 4, 5, SIZE_MAX};

static void with_tensors(mo_active_desc *d, mo_optim_desc *optim) {
    for (int i = 0; i < TENSORS; i++) {
        optim[i] = desc((mo_optim_kind)(i % 3), i % 2 ? MO_OPTIM_8BIT : MO_OPTIM_F32);
        optim[i].min_8bit_size = 1;
    }
    d->n_tensors = TENSORS;
    d->optim = optim;
    d->n = numbers;
    d->block = blocks; /* block 6 has none */
}

/* Over all turns the end of the last state is at the stated size once, never behind it. */
static void states_take_the_bytes_of_the_largest_turn(void **state) {
    (void)state;
    for (size_t n_active = 1; n_active <= 3; n_active++) {
        mo_optim_desc optim[TENSORS];
        mo_active_desc d = desc_of(MO_ACTIVE_DRAW, n_active);
        with_tensors(&d, optim);
        const size_t size = mo_active_state_size(&d);
        size_t most = 0, offsets[TENSORS];
        for (uint64_t k = 0; k < 500; k++) {
            size_t sum = 0;
            test_ok(mo_active_offsets(&d, k * PERIOD + 1, offsets));
            for (int i = 0; i < TENSORS; i++) {
                const int has = mo_active_has(&d, k * PERIOD + 1, blocks[i]);
                assert_int_equal(offsets[i] != SIZE_MAX, has);
                if (!has) continue;
                const size_t bytes = mo_optim_state_size(&optim[i], numbers[i]);
                assert_int_equal(offsets[i] % 64, 0);
                for (int j = 0; j < TENSORS; j++) /* none lies over another */
                    if (j != i && offsets[j] != SIZE_MAX && offsets[j] >= offsets[i])
                        assert_true(offsets[j] >= offsets[i] + bytes);
                if (offsets[i] + bytes > sum) sum = offsets[i] + bytes;
            }
            if (sum > most) most = sum;
            assert_int_equal(offsets[0], 0);
        }
        assert_int_equal(most, size);
    }
}

/* A model of TENSORS tensors in training; its states in memory for a turn. */
typedef struct model {
    float *param[TENSORS];
    void *memory;
    size_t size;
    mo_optim_state states[TENSORS];
} model;

static model model_begin(const mo_active_desc *d) {
    test_rng r = {3};
    model m;
    memset(&m, 0, sizeof m);
    m.size = mo_active_state_size(d);
    m.memory = mo_alloc(NULL, m.size, 64);
    for (int i = 0; i < TENSORS; i++) m.param[i] = test_normals(&r, numbers[i], 1);
    return m;
}
static void model_end(model *m) {
    for (int i = 0; i < TENSORS; i++) free(m->param[i]);
    mo_free(NULL, m->memory, m->size, 64);
}
static void model_step(model *m, const mo_active_desc *d, uint64_t t) {
    const mo_active_turn turn = mo_active_at(d, t);
    test_rng r = {t};
    size_t offsets[TENSORS];
    test_ok(mo_active_offsets(d, t, offsets));
    for (int i = 0; i < TENSORS; i++) {
        const int always = blocks[i] == SIZE_MAX;
        float *grad = test_normals(&r, numbers[i], 0.01f);
        if (offsets[i] != SIZE_MAX) {
            void *at = (char *)m->memory + offsets[i];
            const size_t size = mo_optim_state_size(&d->optim[i], numbers[i]);
            if (t == 1 || (turn.t == 1 && !always))
                test_ok(mo_optim_state_init(&d->optim[i], numbers[i], at, size, &m->states[i]));
            else test_ok(mo_optim_state_attach(&d->optim[i], numbers[i], at, size, &m->states[i]));
            test_ok(
                mo_optim_step(&d->optim[i], always ? t : turn.t, m->param[i], grad, &m->states[i]));
        }
        free(grad);
    }
}

/* In the middle of a turn another model gets the parameters and the memory, and nothing else. */
static void a_run_is_continued_from_its_step_number(void **state) {
    (void)state;
    for (int order = 0; order < MO_ACTIVE_ORDER_COUNT; order++) {
        mo_optim_desc optim[TENSORS];
        mo_active_desc d = desc_of((mo_active_order)order, 2);
        with_tensors(&d, optim);
        model a = model_begin(&d), b = model_begin(&d);
        for (uint64_t t = 1; t <= 13; t++) model_step(&a, &d, t);
        memcpy(b.memory, a.memory, a.size);
        for (int i = 0; i < TENSORS; i++)
            memcpy(b.param[i], a.param[i], numbers[i] * sizeof(float));
        for (uint64_t t = 14; t <= 30; t++) model_step(&a, &d, t), model_step(&b, &d, t);
        for (int i = 0; i < TENSORS; i++)
            assert_same_bits(a.param[i], b.param[i], numbers[i] * sizeof(float));
        model_end(&a);
        model_end(&b);
    }
}

/* Tensors of one block, trained for a turn, move as if they had been trained alone. */
static void a_turn_is_adam_from_its_start_on_the_block(void **state) {
    (void)state;
    mo_optim_desc optim[TENSORS];
    mo_active_desc d = desc_of(MO_ACTIVE_CYCLE, 1);
    with_tensors(&d, optim);
    model m = model_begin(&d);
    for (uint64_t t = 1; t <= 2 * PERIOD; t++) model_step(&m, &d, t);
    float *before[TENSORS];
    for (int i = 0; i < TENSORS; i++) before[i] = test_copy(m.param[i], numbers[i]);
    for (uint64_t t = 2 * PERIOD + 1; t <= 3 * PERIOD; t++) model_step(&m, &d, t);
    for (int i = 1; i + 1 < TENSORS; i++) {
        if (blocks[i] != 2) assert_same_bits(before[i], m.param[i], numbers[i] * sizeof(float));
        if (blocks[i] == 2) {
            test_rng unused = {0};
            tensor alone = tensor_begin(&unused, optim[i], numbers[i]);
            memcpy(alone.param, before[i], numbers[i] * sizeof(float));
            for (uint64_t t = 1; t <= PERIOD; t++) {
                test_rng r = {2 * PERIOD + t};
                for (int k = 0; k <= i; k++) {
                    float *grad = test_normals(&r, numbers[k], 0.01f);
                    if (k == i) memcpy(alone.grad, grad, numbers[i] * sizeof(float));
                    free(grad);
                }
                step(&alone, t);
            }
            assert_same_bits(alone.param, m.param[i], numbers[i] * sizeof(float));
            tensor_end(&alone);
        }
    }
    for (int i = 0; i < TENSORS; i++) free(before[i]);
    model_end(&m);
}

static void what_makes_no_sense_is_refused(void **state) {
    (void)state;
    mo_optim_desc optim[TENSORS];
    size_t offsets[TENSORS], bad_blocks[TENSORS], huge[TENSORS];
    mo_active_desc d = desc_of(MO_ACTIVE_CYCLE, 1), wrong[7];
    with_tensors(&d, optim);
    memcpy(bad_blocks, blocks, sizeof blocks);
    memcpy(huge, numbers, sizeof numbers);
    bad_blocks[3] = BLOCKS;
    huge[3] = SIZE_MAX / 2;
    for (size_t i = 0; i < n_elements(wrong); i++) wrong[i] = d;
    wrong[0].n_blocks = 0;
    wrong[1].n_active = BLOCKS + 1;
    wrong[2].order = MO_ACTIVE_ORDER_COUNT;
    wrong[3].optim = NULL;
    wrong[4].n = NULL;
    wrong[5].block = bad_blocks;
    wrong[6].n = huge;
    for (size_t i = 0; i < n_elements(wrong); i++) {
        assert_int_equal(mo_active_offsets(&wrong[i], 1, offsets), MO_E_INVALID);
        assert_int_equal(mo_active_state_size(&wrong[i]), 0);
    }
    assert_int_equal(mo_active_offsets(&d, 0, offsets), MO_E_INVALID);
    assert_int_equal(mo_active_offsets(&d, 1, NULL), MO_E_INVALID);
    assert_int_equal(mo_active_offsets(NULL, 1, offsets), MO_E_INVALID);
    assert_int_equal(mo_active_has(&d, 1, BLOCKS), 0);
    assert_int_equal(mo_active_has(&d, 1, SIZE_MAX), 1);
    assert_int_equal(mo_active_desc_defaults(&d).n_active, 1);
    d.period = 0;
    assert_int_equal(mo_active_desc_defaults(&d).period, 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cycle_goes_through_the_blocks_in_their_order),
        cmocka_unit_test(a_shuffled_round_has_every_block_once),
        cmocka_unit_test(several_at_a_time_have_turns_of_that_many),
        cmocka_unit_test(blocks_are_drawn_as_often_as_each_other),
        cmocka_unit_test(the_order_depends_on_the_seed),
        cmocka_unit_test(states_take_the_bytes_of_the_largest_turn),
        cmocka_unit_test(a_run_is_continued_from_its_step_number),
        cmocka_unit_test(a_turn_is_adam_from_its_start_on_the_block),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
