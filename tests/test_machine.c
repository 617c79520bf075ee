/* test_machine.c - mo_machine: rates by a clock that the test turns, and what follows from them. */
#include "test_util.h"

#include <math.h>

/* A clock that goes on by so much at each look; each third look by more. */
typedef struct clock_hand {
    double now, tick, third;
    int n;
} clock_hand;

static double look(void *self) {
    clock_hand *c = self;
    c->now += ++c->n % 3 == 0 && c->third > 0 ? c->third : c->tick;
    return c->now;
}

static mo_machine_desc desc_of(mo_profile_clock *clock, clock_hand *hand, double seconds) {
    clock->now_s = look;
    clock->self = hand;
    mo_machine_desc d = {.seconds = seconds, .memory = 8u << 20, .clock = clock};
    return d;
}

static mo_machine measure(clock_hand hand, double seconds) {
    mo_profile_clock clock;
    mo_machine m;
    const mo_machine_desc d = desc_of(&clock, &hand, seconds);
    test_ok(mo_machine_measure(&m, &d));
    return m;
}

static void rates_are_the_work_of_a_run_over_its_time(void **state) {
    (void)state;
    const clock_hand even = {.tick = 0.25};
    const mo_machine m = measure(even, 3);
    const mo_machine_rate *gemm = &m.items[MO_MACHINE_GEMM_WIDE];
    assert_int_equal(gemm->state, MO_MACHINE_GOOD);
    assert_true(gemm->spread == 0 && gemm->n_runs >= 3);
    assert_true(gemm->per_s == 2.0 * 512 * 1024 * 256 / 0.25);
    assert_true(m.items[MO_MACHINE_GEMM_FEW].per_s == 2.0 * 16 * 512 * 512 / 0.25);
    assert_true(m.items[MO_MACHINE_ATTENTION].per_s == 256.0 * 256 * 256 / 0.25);
    assert_true(m.items[MO_MACHINE_COPY].per_s == (4u << 20) / 0.25);
    for (int i = MO_MACHINE_NORM; i <= MO_MACHINE_EXPAND; i++)
        assert_true(m.items[i].per_s == (1u << 19) / 0.25);
    for (int i = MO_MACHINE_UPDATE_F32; i <= MO_MACHINE_UPDATE_4BIT; i++)
        assert_true(m.items[i].per_s == (1u << 18) / 0.25);
    assert_int_equal(m.items[MO_MACHINE_DISK_READ].state, MO_MACHINE_ABSENT);
    assert_true(m.n_threads >= 1);
    assert_true(m.seconds > 0);
}

static void runs_that_differ_are_noisy(void **state) {
    (void)state;
    const clock_hand uneven = {.tick = 0.25, .third = 2};
    const mo_machine m = measure(uneven, 8);
    assert_int_equal(m.items[MO_MACHINE_GEMM_WIDE].state, MO_MACHINE_NOISY);
    assert_true(m.items[MO_MACHINE_GEMM_WIDE].spread > 0.25);
}

static void without_time_every_item_runs_once(void **state) {
    (void)state;
    const clock_hand slow = {.tick = 10};
    const mo_machine m = measure(slow, 5);
    for (int i = 0; i < MO_MACHINE_DISK_WRITE; i++) {
        assert_int_equal(m.items[i].n_runs, 1);
        assert_int_equal(m.items[i].state, MO_MACHINE_SHORT);
    }
    assert_true(m.items[MO_MACHINE_GEMM_WIDE].per_s == 2.0 * 512 * 1024 * 256 / 10);
}

static void a_clock_that_stands_gives_typical_rates(void **state) {
    (void)state;
    const clock_hand stuck = {.now = 7};
    const mo_machine m = measure(stuck, 1), typical = mo_machine_typical();
    for (int i = 0; i < MO_MACHINE_DISK_WRITE; i++) {
        assert_int_equal(m.items[i].state, MO_MACHINE_NO_CLOCK);
        assert_true(m.items[i].per_s == typical.items[i].per_s);
    }
}

static void a_disk_is_measured_through_pages_of_a_file(void **state) {
    (void)state;
    clock_hand slow = {.tick = 10};
    mo_profile_clock clock;
    test_log heard;
    const mo_log log = test_log_begin(&heard);
    mo_machine m;
    mo_machine_desc d = desc_of(&clock, &slow, 5);
    d.folder = "build";
    d.log = &log;
    test_ok(mo_machine_measure(&m, &d));
    for (int i = MO_MACHINE_DISK_WRITE; i <= MO_MACHINE_DISK_READ; i++) {
        const mo_machine_state s = m.items[i].state;
        assert_true(s == MO_MACHINE_SHORT || s == MO_MACHINE_CACHED);
        assert_true(m.items[i].per_s == (16u << 20) / 10.0);
    }
    d.folder = "/no/such/folder";
    test_ok(mo_machine_measure(&m, &d));
    assert_int_equal(m.items[MO_MACHINE_DISK_WRITE].state, MO_MACHINE_FAILED);
    assert_true(m.items[MO_MACHINE_DISK_WRITE].per_s > 0);
    assert_non_null(strstr(heard.text, "/no/such/folder"));
}

/* ---- products ------------------------------------------------------------------------------- */

static double shape_s(const mo_machine *m, int item) {
    switch (item) {
    case MO_MACHINE_GEMM_WIDE: return mo_machine_product_s(m, 512, 1024, 256, 0);
    case MO_MACHINE_GEMM_NARROW: return mo_machine_product_s(m, 512, 256, 1024, 0);
    case MO_MACHINE_GEMM_GRADIENT: return mo_machine_product_s(m, 256, 1024, 512, 1);
    default: return mo_machine_product_s(m, 16, 512, 512, 0);
    }
}

/* The two numbers of the formula give back what they were solved from. */
static void products_take_what_was_measured(void **state) {
    (void)state;
    const mo_machine m = mo_machine_typical();
    double want = 0, got = 0;
    for (int i = 0; i < 3; i++) {
        want += 2.0 * 512 * 1024 * 256 / m.items[i].per_s;
        got += shape_s(&m, i);
    }
    assert_true(fabs(got - want) < 1e-9 * want);
    want = 2.0 * 16 * 512 * 512 / m.items[MO_MACHINE_GEMM_FEW].per_s;
    assert_true(fabs(shape_s(&m, MO_MACHINE_GEMM_FEW) - want) < 1e-9 * want);
}

static void a_product_costs_more_for_each_flop_when_it_has_few_rows(void **state) {
    (void)state;
    const mo_machine m = mo_machine_typical();
    const double few = mo_machine_product_s(&m, 8, 1024, 1024, 0);
    const double many = mo_machine_product_s(&m, 1024, 1024, 1024, 0);
    assert_true(128 * few > 1.5 * many);
    assert_true(mo_machine_product_s(&m, 64, 64, 64, 1) > mo_machine_product_s(&m, 64, 64, 64, 0));
    assert_true(mo_machine_product_s(NULL, 64, 64, 64, 1) == 0);
}

/* Measurements may say that few rows are free, or that everything but bytes is. */
static void no_part_of_a_product_is_negative(void **state) {
    (void)state;
    mo_machine m = mo_machine_typical();
    m.items[MO_MACHINE_GEMM_FEW].per_s = 1e13;
    assert_true(mo_machine_product_s(&m, 1, 4096, 4096, 0) > 0);
    assert_true(fabs(shape_s(&m, 0) - 2.0 * 512 * 1024 * 256 / 1e11) < 1e-9);
    m.items[MO_MACHINE_GEMM_FEW].per_s = 1e8;
    assert_true(mo_machine_product_s(&m, 4096, 4096, 4096, 0) > 0);
    assert_true(mo_machine_product_s(&m, 1, 1, 1, 0) > 0);
}

/* ---- text, errors --------------------------------------------------------------------------- */

typedef struct text {
    char data[8192];
    size_t size;
} text;

static int take(void *self, const char *data, size_t size) {
    text *t = self;
    if (t->size + size >= sizeof t->data) return 1;
    memcpy(t->data + t->size, data, size);
    t->size += size;
    t->data[t->size] = 0;
    return 0;
}

static int refuse(void *self, const char *data, size_t size) {
    (void)self, (void)data, (void)size;
    return 1;
}

static void text_has_a_line_for_each_item(void **state) {
    (void)state;
    static text t;
    const mo_writer writer = {take, &t}, none = {refuse, NULL};
    mo_machine m = mo_machine_typical();
    m.items[0].state = MO_MACHINE_GOOD, m.items[0].n_runs = 5, m.items[0].spread = 0.105;
    m.items[0].per_s = 123.456e9;
    t.size = 0;
    test_ok(mo_machine_write_text(&m, &writer));
    size_t lines = 0;
    for (const char *c = t.data; *c; c++) lines += *c == '\n';
    assert_int_equal(lines, MO_MACHINE_ITEM_COUNT + 1);
    assert_non_null(strstr(t.data, "gemm.wide             123.46 G flop            10.5 %     5"));
    assert_int_equal(mo_machine_write_text(&m, &none), MO_E_IO);
    assert_int_equal(mo_machine_write_text(NULL, &writer), MO_E_INVALID);
    assert_int_equal(mo_machine_write_text(&m, NULL), MO_E_INVALID);
    assert_string_equal(mo_machine_item_name(MO_MACHINE_UPDATE_8BIT), "update.8bit");
    assert_string_equal(mo_machine_item_unit(MO_MACHINE_DISK_READ), "bytes");
    assert_string_equal(mo_machine_state_name(MO_MACHINE_NOISY), "noisy");
    assert_string_equal(mo_machine_item_name(MO_MACHINE_ITEM_COUNT), "?");
    assert_string_equal(mo_machine_item_unit(MO_MACHINE_ITEM_COUNT), "?");
    assert_string_equal(mo_machine_state_name(MO_MACHINE_STATE_COUNT), "?");
}

static void what_cannot_be_measured_is_refused(void **state) {
    (void)state;
    mo_machine m = mo_machine_typical();
    const mo_machine before = m;
    mo_machine_desc d = {.memory = (8u << 20) - 1};
    assert_int_equal(mo_machine_measure(&m, &d), MO_E_INVALID);
    d.memory = 0, d.seconds = -1;
    assert_int_equal(mo_machine_measure(&m, &d), MO_E_INVALID);
    assert_int_equal(mo_machine_measure(NULL, NULL), MO_E_INVALID);
    test_heap heap;
    const mo_allocator none = test_heap_begin(&heap, 0);
    d.seconds = 0, d.allocator = &none;
    assert_int_equal(mo_machine_measure(&m, &d), MO_E_NO_MEMORY);
    assert_memory_equal(&m, &before, sizeof m);
    assert_int_equal(heap.live_blocks, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_the_work_of_a_run_over_its_time),
        cmocka_unit_test(runs_that_differ_are_noisy),
        cmocka_unit_test(without_time_every_item_runs_once),
        cmocka_unit_test(a_clock_that_stands_gives_typical_rates),
        cmocka_unit_test(a_disk_is_measured_through_pages_of_a_file),
        cmocka_unit_test(products_take_what_was_measured),
        cmocka_unit_test(a_product_costs_more_for_each_flop_when_it_has_few_rows),
        cmocka_unit_test(no_part_of_a_product_is_negative),
        cmocka_unit_test(text_has_a_line_for_each_item),
        cmocka_unit_test(what_cannot_be_measured_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
