/* test_pareto.c - mo_pareto: which points nothing beats, and how they are written. */
#include "test_util.h"

static mo_pareto_point point(double seconds, uint64_t bytes, size_t index) {
    mo_pareto_point p = {.bytes = bytes, .seconds = seconds, .index = index};
    return p;
}

static size_t frontier(mo_pareto_point *p, size_t n) {
    size_t n_frontier = 999;
    test_ok(mo_pareto_frontier(p, n, NULL, &n_frontier));
    return n_frontier;
}

static void the_frontier_comes_first_from_the_fastest_to_the_smallest(void **state) {
    (void)state;
    mo_pareto_point p[] = {point(3, 30, 0), point(1, 50, 1), point(2, 60, 2), point(4, 10, 3),
        point(3, 40, 4), point(5, 10, 5)};
    assert_int_equal(frontier(p, 6), 3);
    const size_t want[] = {1, 0, 3, 2, 4, 5};
    for (size_t i = 0; i < 6; i++) assert_int_equal(p[i].index, want[i]);
}

static void of_equal_points_the_first_is_on_it(void **state) {
    (void)state;
    mo_pareto_point p[] = {point(1, 5, 7), point(1, 5, 3), point(1, 5, 9)};
    assert_int_equal(frontier(p, 3), 1);
    assert_int_equal(p[0].index, 3);
    size_t n_frontier;
    test_ok(mo_pareto_frontier(NULL, 0, NULL, &n_frontier));
    assert_int_equal(n_frontier, 0);
}

static int dominates(const mo_pareto_point *a, const mo_pareto_point *b) {
    if (a->bytes > b->bytes || a->seconds > b->seconds) return 0;
    return a->bytes < b->bytes || a->seconds < b->seconds || a->index < b->index;
}

static void the_frontier_is_what_comparing_all_pairs_leaves(void **state) {
    (void)state;
    enum { N = 60 };
    test_rng rng = test_rng_begin(__func__);
    for (int round = 0; round < 50; round++) {
        mo_pareto_point p[N], before[N];
        const size_t n = 1 + test_below(&rng, N);
        for (size_t i = 0; i < n; i++)
            p[i] = point((double)test_below(&rng, 30), test_below(&rng, 30), i);
        memcpy(before, p, sizeof p);
        const size_t n_frontier = frontier(p, n);
        for (size_t i = 0; i < n; i++) {
            int beaten = 0;
            for (size_t j = 0; j < n; j++) beaten |= dominates(&before[j], &p[i]);
            assert_int_equal(beaten, i >= n_frontier);
            assert_memory_equal(&p[i], &before[p[i].index], sizeof *p);
        }
        for (size_t i = 1; i < n_frontier; i++) {
            assert_true(p[i].seconds > p[i - 1].seconds);
            assert_true(p[i].bytes < p[i - 1].bytes);
        }
    }
}

static void the_best_is_the_fastest_within_the_budget(void **state) {
    (void)state;
    const mo_pareto_point p[] = {point(1, 50, 0), point(2, 30, 1), point(3, 10, 2)};
    assert_int_equal(mo_pareto_best(p, 3, 50), 0);
    assert_int_equal(mo_pareto_best(p, 3, 49), 1);
    assert_int_equal(mo_pareto_best(p, 3, 10), 2);
    assert_int_equal(mo_pareto_best(p, 3, 9), 3);
    assert_int_equal(mo_pareto_best(NULL, 0, 9), 0);
}

static void points_that_are_no_numbers_are_refused(void **state) {
    (void)state;
    size_t n_frontier = 5;
    mo_pareto_point p[] = {point(2, 1, 0), point(1, 1, 1)};
    p[1].seconds = -1;
    assert_int_equal(mo_pareto_frontier(p, 2, NULL, &n_frontier), MO_E_INVALID);
    p[1].seconds = strtod("nan", NULL);
    assert_int_equal(mo_pareto_frontier(p, 2, NULL, &n_frontier), MO_E_INVALID);
    p[1].seconds = strtod("inf", NULL);
    assert_int_equal(mo_pareto_frontier(p, 2, NULL, &n_frontier), MO_E_INVALID);
    assert_int_equal(mo_pareto_frontier(NULL, 2, NULL, &n_frontier), MO_E_INVALID);
    assert_int_equal(mo_pareto_frontier(p, 2, NULL, NULL), MO_E_INVALID);
    assert_int_equal(n_frontier, 5);
    assert_int_equal(p[0].index, 0);
}

/* ---- writing -------------------------------------------------------------------------------- */

typedef struct text {
    char data[16384];
    size_t size, most; /* refuses what goes beyond; 0 = the room */
} text;

static int take(void *self, const char *data, size_t size) {
    text *t = self;
    if (t->size + size > (t->most ? t->most : sizeof t->data - 1)) return 1;
    memcpy(t->data + t->size, data, size);
    t->size += size;
    t->data[t->size] = 0;
    return 0;
}

static const char *named(void *self, size_t index) {
    static char name[32];
    snprintf(name, sizeof name, "%s%zu", (const char *)self, index);
    return index == 2 ? NULL : name;
}

static const mo_pareto_point three[] = {{.bytes = 50, .seconds = 0.25, .index = 1},
    {.bytes = 30, .seconds = 2, .index = 2}, {.bytes = 60, .seconds = 0.5, .index = 0}};

static mo_pareto_view view_of(char *prefix) {
    mo_pareto_view v = {.points = three, .n = 3, .n_frontier = 2};
    if (prefix) v.name = named, v.self = prefix;
    return v;
}

static void csv_has_a_line_for_each_point(void **state) {
    (void)state;
    static text t;
    char prefix[] = "a \"b\", \n";
    const mo_writer writer = {take, &t};
    const mo_pareto_view v = view_of(prefix);
    t.size = 0;
    test_ok(mo_pareto_write_csv(&v, 55, &writer));
    assert_string_equal(t.data,
        "index,bytes,seconds,frontier,fits,name\n"
        "1,50,0.25,1,1,\"a \"\"b\"\", ?1\"\n"
        "2,30,2,1,1,\"2\"\n"
        "0,60,0.5,0,0,\"a \"\"b\"\", ?0\"\n");
    for (t.most = 0; t.most < 100; t.most++) {
        text full = {.most = t.most + 1};
        const mo_writer refuses = {take, &full};
        assert_int_equal(mo_pareto_write_csv(&v, 0, &refuses), MO_E_IO);
    }
}

static void svg_names_the_frontier_and_draws_the_budget(void **state) {
    (void)state;
    static text t;
    char prefix[] = "config ";
    const mo_writer writer = {take, &t};
    const mo_chart_desc desc = {.budget_bytes = 55};
    const mo_pareto_view v = view_of(prefix);
    t.size = t.most = 0;
    test_ok(mo_pareto_write_svg(&v, &desc, NULL, &writer));
    assert_non_null(strstr(t.data, "2 of 3 on the frontier; fastest within the budget: config 1"));
    assert_non_null(strstr(t.data, "class=\"budget\""));
    assert_non_null(strstr(t.data, "<title>config 0: 500 ms, 60 B</title>"));
    assert_non_null(strstr(t.data, "<title>2: 2 s, 30 B</title>"));
    const mo_pareto_view none = {0};
    t.size = 0;
    test_ok(mo_pareto_write_svg(&none, NULL, NULL, &writer));
}

static void views_that_are_none_are_refused(void **state) {
    (void)state;
    static text t;
    const mo_writer writer = {take, &t};
    mo_pareto_view v = view_of(NULL);
    assert_int_equal(mo_pareto_write_csv(NULL, 0, &writer), MO_E_INVALID);
    assert_int_equal(mo_pareto_write_csv(&v, 0, NULL), MO_E_INVALID);
    assert_int_equal(mo_pareto_write_svg(NULL, NULL, NULL, &writer), MO_E_INVALID);
    assert_int_equal(mo_pareto_write_svg(&v, NULL, NULL, NULL), MO_E_INVALID);
    v.n_frontier = 4;
    assert_int_equal(mo_pareto_write_csv(&v, 0, &writer), MO_E_INVALID);
    assert_int_equal(mo_pareto_write_svg(&v, NULL, NULL, &writer), MO_E_INVALID);
}

static void a_failed_allocation_leaves_the_points_as_they_were(void **state) {
    (void)state;
    test_heap heap;
    size_t n_frontier = 5;
    mo_pareto_point p[] = {point(3, 3, 0), point(1, 5, 1), point(2, 6, 2)};
    const mo_allocator none = test_heap_begin(&heap, 0);
    assert_int_equal(mo_pareto_frontier(p, 3, &none, &n_frontier), MO_E_NO_MEMORY);
    assert_int_equal(n_frontier, 5);
    assert_int_equal(p[0].index, 0);
    static text t;
    const mo_writer writer = {take, &t};
    const mo_pareto_view v = view_of(NULL);
    for (int k = 0; k < 2; k++) {
        const mo_allocator a = test_heap_begin(&heap, k);
        assert_int_equal(mo_pareto_write_svg(&v, NULL, &a, &writer), MO_E_NO_MEMORY);
        assert_int_equal(heap.live_blocks, 0);
    }
    assert_int_equal(t.size, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_frontier_comes_first_from_the_fastest_to_the_smallest),
        cmocka_unit_test(of_equal_points_the_first_is_on_it),
        cmocka_unit_test(the_frontier_is_what_comparing_all_pairs_leaves),
        cmocka_unit_test(the_best_is_the_fastest_within_the_budget),
        cmocka_unit_test(points_that_are_no_numbers_are_refused),
        cmocka_unit_test(csv_has_a_line_for_each_point),
        cmocka_unit_test(svg_names_the_frontier_and_draws_the_budget),
        cmocka_unit_test(views_that_are_none_are_refused),
        cmocka_unit_test(a_failed_allocation_leaves_the_points_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
