/* test_remat_optimal_baseline.c - the schedules of others, and Revolve. */
#include "test_util.h"

enum { MAX_STAGES = 130 };

/* Equal layers: x 1 byte, kept 3, forward 1 s, backward 1 s. */
typedef struct equal_chain {
    mo_flat_chain chain;
    mo_flat_stage stages[MAX_STAGES];
    mo_flat_option options[2];
} equal_chain;

static void begin_equal(equal_chain *c, size_t n_layers) {
    memset(c, 0, sizeof *c);
    c->chain.input_size = 1;
    c->chain.stages = c->stages;
    c->chain.n_stages = n_layers + 1;
    c->options[0].kept = 3;
    c->options[1].kept = 2;
    c->options[1].extra_s = 0.25;
    for (size_t i = 0; i < n_layers; i++) {
        c->stages[i].forward_s = c->stages[i].backward_s = 1;
        c->stages[i].output_size = 1;
        c->stages[i].options = c->options;
        c->stages[i].n_options = 2;
    }
}

static mo_remat_solution solve(const equal_chain *c, mo_remat_baseline kind, size_t budget) {
    mo_remat_solution s;
    test_ok(mo_remat_baseline_solve(&c->chain, kind, budget, NULL, NULL, &s));
    if (s.feasible) {
        mo_flat_result result;
        test_ok(mo_remat_flat_simulate(&c->chain, 0, s.ops, s.n_ops, NULL, NULL, NULL, &result));
        assert_int_equal(result.peak_bytes, s.peak_bytes);
        assert_true(s.peak_bytes <= budget);
    }
    return s;
}

static void each_kind_has_its_cost_and_peak(void **state) {
    (void)state;
    static equal_chain c;
    begin_equal(&c, 8);
    static const struct {
        mo_remat_baseline kind;
        double cost_s;
        size_t peak;
    } cases[] = {
        {MO_BASELINE_NONE, 16, 1 + 8 * 3 + 2},
        {MO_BASELINE_LIGHT, 16 + 8 * 0.25, 1 + 8 * 2 + 2},
        {MO_BASELINE_BLOCK, 16 + 8, 8 + 3 + 2},
    };
    for (size_t i = 0; i < n_elements(cases); i++) {
        mo_remat_solution s = solve(&c, cases[i].kind, SIZE_MAX);
        assert_true(s.feasible && s.cost_s == cases[i].cost_s);
        assert_int_equal(s.peak_bytes, cases[i].peak);
        mo_remat_solution_free(&s);
        s = solve(&c, cases[i].kind, cases[i].peak - 1);
        assert_false(s.feasible);
        assert_int_equal(s.floor_bytes, cases[i].peak);
    }
}

/* 8 layers, k = 4 segments of 2: three inputs, two saved layers, and the rest of the moment. */
static void segments_are_torchs(void **state) {
    (void)state;
    static equal_chain c;
    begin_equal(&c, 8);
    mo_remat_solution s = solve(&c, MO_BASELINE_SEGMENTS, 4 + 2 * 3 + 2);
    assert_true(s.feasible && s.column == 4 && s.cost_s == 16 + 6);
    mo_remat_solution_free(&s);
    s = solve(&c, MO_BASELINE_SEGMENTS, SIZE_MAX);
    assert_true(s.feasible && s.column == 1 && s.cost_s == 16);
    mo_remat_solution_free(&s);
}

static void the_first_n_are_as_few_as_fit(void **state) {
    (void)state;
    static equal_chain c;
    begin_equal(&c, 8);
    for (size_t n = 0; n <= 7; n++) {
        mo_remat_solution s = solve(&c, MO_BASELINE_FIRST_N, 1 + 8 * 3 + 2 - 2 * n);
        assert_true(s.feasible && s.column == n && s.cost_s == 16 + (double)n);
        mo_remat_solution_free(&s);
    }
}

static void greedy_takes_what_frees_most_per_second(void **state) {
    (void)state;
    static equal_chain c;
    begin_equal(&c, 8);
    mo_flat_option large = {9, 0, 0, 0, 0};
    c.stages[5].options = &large;
    c.stages[5].n_options = 1;
    mo_remat_solution s = solve(&c, MO_BASELINE_GREEDY, 1 + 8 * 3 + 6 + 2 - 2);
    assert_true(s.feasible && s.column == 1 && s.cost_s == 17);
    for (size_t i = 0; i < s.n_ops; i++)
        if (s.ops[i].kind == MO_FLAT_KEEP) assert_int_equal(s.ops[i].stage, 5);
    mo_remat_solution_free(&s);
}

/* ---- Revolve ------------------------------------------------------------------------------- */

/* E(n, s) = min over i of i + E(i, s) + E(n - i, s - 1). */
static void revolve_is_the_optimum_of_its_recurrence(void **state) {
    (void)state;
    static uint64_t e[MAX_STAGES][MAX_STAGES];
    for (size_t s = 1; s < MAX_STAGES; s++)
        for (size_t n = 1; n < MAX_STAGES; n++) {
            uint64_t extra;
            e[n][s] = s == 1 ? n * (n - 1) / 2 : n == 1 ? 0 : UINT64_MAX;
            for (size_t i = 1; s > 1 && i < n; i++) {
                uint64_t cost = i + e[i][s] + e[n - i][s - 1];
                if (cost < e[n][s]) e[n][s] = cost;
            }
            test_ok(mo_remat_revolve_extra(n, s, &extra));
            assert_true(extra == e[n][s]);
        }
}

/* From checkpoint_schedules and pyrevolve, which agree. */
static void revolve_has_the_published_values(void **state) {
    (void)state;
    static const struct {
        size_t n, s;
        uint64_t extra;
    } values[] = {{3, 1, 3}, {10, 3, 15}, {50, 6, 114}, {100, 2, 845}, {100, 32, 166},
        {200, 10, 522}, {1000, 1, 499500}, {1000, 8, 4285}, {1000, 32, 2405}};
    for (size_t i = 0; i < n_elements(values); i++) {
        uint64_t extra;
        test_ok(mo_remat_revolve_extra(values[i].n, values[i].s, &extra));
        assert_true(extra == values[i].extra);
    }
}

static void the_split_reaches_the_optimum_within_its_slots(void **state) {
    (void)state;
    static equal_chain c;
    for (size_t n = 1; n < MAX_STAGES - 1; n += n < 20 ? 1 : 17)
        for (size_t s = 1; s <= n; s++) {
            mo_remat_solution solution;
            uint64_t extra;
            begin_equal(&c, n);
            test_ok(mo_remat_revolve_extra(n, s, &extra));
            test_ok(mo_remat_revolve_solve(&c.chain, s, NULL, NULL, &solution));
            assert_true(solution.cost_s == (double)(2 * n + extra));
            /* s inputs, that of the stage at hand, kept, and the gradients of both ends */
            assert_true(solution.peak_bytes <= s + 1 + 3 + 2);
            mo_remat_solution_free(&solution);
        }
}

static void revolve_checks_its_input(void **state) {
    (void)state;
    uint64_t extra = 7;
    static equal_chain c;
    mo_remat_solution s;
    begin_equal(&c, 3);
    assert_int_equal(mo_remat_revolve_extra(0, 1, &extra), MO_E_INVALID);
    assert_int_equal(mo_remat_revolve_extra(1, 0, &extra), MO_E_INVALID);
    assert_int_equal(mo_remat_revolve_extra((size_t)1 << 32, 2, &extra), MO_E_OVERFLOW);
    assert_true(extra == 7);
    test_ok(mo_remat_revolve_extra(UINT32_MAX, UINT32_MAX, &extra));
    assert_true(extra == UINT32_MAX - 1u);
    test_ok(mo_remat_revolve_extra(UINT32_MAX, 2, &extra));
    assert_int_equal(mo_remat_revolve_advance(1, 1), 0);
    assert_int_equal(mo_remat_revolve_advance(5, 1), 4);
    assert_int_equal(mo_remat_revolve_solve(&c.chain, 0, NULL, NULL, &s), MO_E_INVALID);
}

static void every_failed_allocation_leaves_nothing(void **state) {
    (void)state;
    static equal_chain c;
    begin_equal(&c, 40);
    for (int kind = 0; kind <= MO_BASELINE_COUNT; kind++) {
        mo_status status = MO_E_NO_MEMORY;
        for (int k = 0; status != MO_OK; k++) {
            test_heap heap;
            mo_allocator allocator = test_heap_begin(&heap, k);
            mo_remat_solution s = {.n_ops = 77};
            status = kind == MO_BASELINE_COUNT
                ? mo_remat_revolve_solve(&c.chain, 2, &allocator, NULL, &s)
                : mo_remat_baseline_solve(
                      &c.chain, (mo_remat_baseline)kind, 70, &allocator, NULL, &s);
            if (status == MO_OK) mo_remat_solution_free(&s);
            else assert_int_equal(s.n_ops, 77);
            assert_int_equal(heap.live_blocks, 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_has_its_cost_and_peak),
        cmocka_unit_test(segments_are_torchs),
        cmocka_unit_test(the_first_n_are_as_few_as_fit),
        cmocka_unit_test(greedy_takes_what_frees_most_per_second),
        cmocka_unit_test(revolve_is_the_optimum_of_its_recurrence),
        cmocka_unit_test(revolve_has_the_published_values),
        cmocka_unit_test(the_split_reaches_the_optimum_within_its_slots),
        cmocka_unit_test(revolve_checks_its_input),
        cmocka_unit_test(every_failed_allocation_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
