/* test_place_use.c - what surrounds mo_place: maps by hand, measuring, what is streamed when, text
 * and JSON, errors. */
#include "test_place.h"

#include <math.h>

/* ---- maps by hand -------------------------------------------------------------------------- */

static void add_names(problem *p) {
    begin(p);
    for (int d = 0; d < 3; d++) add_device(p, 100, d == 0 ? 0 : 10, 0);
    add_item(p, "wte.weight", 1, 0);
    add_item(p, "h.1.attn.weight", 2, 0);
    add_item(p, "h.1.mlp.weight", 4, 0);
    add_item(p, "h.10.mlp.weight", 8, 0);
    add_item(p, "h.1", 16, 0);
}

static void the_longest_prefix_wins_at_dots(void **state) {
    (void)state;
    const mo_place_rule rules[] = {{"h.1", 1}, {"", 2}, {"h.1.mlp", 0}};
    const size_t expected[] = {2, 1, 0, 2, 1};
    problem p;
    add_names(&p);
    test_ok(mo_place_map(&p.desc, rules, n_elements(rules), p.device));
    assert_memory_equal(p.device, expected, sizeof expected);
    test_ok(mo_place_measure(&p.desc, p.device, p.use, &p.result));
    assert_true(p.use[0].bytes == 4 && p.use[1].bytes == 18 && p.use[2].bytes == 9);
    assert_true(p.result.moved_bytes == 27 && p.result.over_bytes == 0);
}

static void what_no_rule_covers_is_named(void **state) {
    (void)state;
    const mo_place_rule rules[] = {{"h.1", 1}, {"wte.w", 0}};
    problem p;
    test_log logged;
    mo_log log = test_log_begin(&logged);
    add_names(&p);
    p.desc.log = &log;
    p.device[0] = 77;
    assert_int_equal(mo_place_map(&p.desc, rules, 2, p.device), MO_E_NOT_FOUND);
    assert_string_equal(logged.text, "place: no rule covers item 'wte.weight', nor 1 more");
    assert_int_equal(p.device[0], 77);
}

static void rules_that_make_no_sense_are_named(void **state) {
    (void)state;
    const mo_place_rule far[] = {{"", 3}}, twice[] = {{"h", 0}, {"", 0}, {"h", 0}};
    const mo_place_rule none[] = {{NULL, 0}}, all[] = {{"", 0}};
    problem p;
    test_log logged;
    mo_log log = test_log_begin(&logged);
    add_names(&p);
    p.desc.log = &log;
    assert_int_equal(mo_place_map(&p.desc, far, 1, p.device), MO_E_INVALID);
    assert_string_equal(logged.text, "place: rule '': device 3 of 3");
    assert_int_equal(mo_place_map(&p.desc, twice, 3, p.device), MO_E_INVALID);
    assert_string_equal(logged.text, "place: rule 'h' twice");
    assert_int_equal(mo_place_map(&p.desc, none, 1, p.device), MO_E_INVALID);
    assert_int_equal(mo_place_map(NULL, all, 1, p.device), MO_E_INVALID);
    assert_int_equal(mo_place_map(&p.desc, NULL, 1, p.device), MO_E_INVALID);
    assert_int_equal(mo_place_map(&p.desc, all, 1, NULL), MO_E_INVALID);
    p.items[2].name = NULL;
    assert_int_equal(mo_place_map(&p.desc, all, 1, p.device), MO_E_INVALID);
    assert_string_equal(logged.text, "place: item 2 has no name");
}

/* ---- measuring ----------------------------------------------------------------------------- */

static void a_placement_by_hand_may_break_limits_groups_and_ties(void **state) {
    (void)state;
    const size_t device[] = {0, 1, 1, 2, SIZE_MAX};
    problem p;
    begin(&p);
    add_device(&p, 100, 0, 2);
    add_device(&p, 40, 10, 0);
    add_device(&p, SIZE_MAX, 5, 0);
    add_item(&p, NULL, 30, 1)->tied = 1;
    add_item(&p, NULL, 20, 1);
    add_item(&p, NULL, 30, 2)->tied = 1;
    add_item(&p, NULL, 10, 2);
    add_item(&p, NULL, 30, 3)->tied = 1;
    test_ok(mo_place_measure(&p.desc, device, p.use, &p.result));
    assert_true(p.use[0].bytes == 30 && p.use[1].bytes == 50 && p.use[2].bytes == 10);
    assert_int_equal(
        p.use[0].room_bytes, 80); /* the second group: 30 from one, 10 from the other */
    assert_true(p.use[0].over_bytes == 10 && p.use[1].over_bytes == 10);
    assert_int_equal(p.result.over_bytes, 20);
    assert_true(p.result.missing_bytes == 30 && p.result.n_missing == 1);
    assert_true(p.result.moved_bytes == 60 && p.result.step_s == 7);
}

/* ---- what is streamed ---------------------------------------------------------------------- */

/* Five layers of two items; 0 stays, the others travel. */
static void add_stream(problem *p) {
    begin(p);
    add_device(p, SIZE_MAX, 0, 2);
    add_device(p, SIZE_MAX, 10, 0);
    for (size_t i = 0; i < 10; i++) {
        add_item(p, NULL, 10 + i, 1 + i / 2);
        p->device[i] = i >= 2;
    }
}

static void fetches_come_in_order_and_start_when_a_buffer_is_free(void **state) {
    (void)state;
    problem p;
    mo_place_fetch fetches[MAX_ITEMS];
    size_t n;
    add_stream(&p);
    test_ok(mo_place_stream(&p.desc, p.device, 2, fetches, &n));
    assert_int_equal(n, 4);
    for (size_t k = 0; k < n; k++) {
        assert_int_equal(fetches[k].item, 2 + 2 * k);
        assert_int_equal(fetches[k].last, 3 + 2 * k);
        assert_int_equal(fetches[k].device, 1);
        assert_int_equal(fetches[k].bytes, 25 + 4 * k);
        assert_true(fabs(fetches[k].link_s - (2.5 + 0.4 * (double)k)) < 1e-12);
    }
    /* Of the four, the last two of a step leave their buffers to the first two of the next: one
     * behind item 7, in the step before, one behind its end. */
    assert_true(fetches[0].begin == 8 && fetches[0].wraps);
    assert_true(fetches[1].begin == 0 && !fetches[1].wraps);
    assert_true(fetches[2].begin == 4 && !fetches[2].wraps);
    assert_true(fetches[3].begin == 6 && !fetches[3].wraps);
}

static void one_buffer_is_filled_when_it_is_needed(void **state) {
    (void)state;
    problem p;
    mo_place_fetch fetches[MAX_ITEMS];
    size_t n;
    add_stream(&p);
    test_ok(mo_place_stream(&p.desc, p.device, 1, fetches, &n));
    for (size_t k = 1; k < n; k++) assert_int_equal(fetches[k].begin, fetches[k].item);
    assert_int_equal(fetches[0].begin, 0); /* while the first layer computes */
    test_ok(mo_place_stream(&p.desc, p.device, 9, fetches, &n));
    for (size_t k = 0; k < 3; k++)
        assert_true(fetches[k].begin == fetches[k].last + 1 && fetches[k].wraps);
}

static void tied_weights_are_fetched_for_each_layer(void **state) {
    (void)state;
    problem p;
    mo_place_fetch fetches[MAX_ITEMS];
    size_t n;
    add_stream(&p);
    p.items[2].bytes = p.items[3].bytes = p.items[9].bytes = 7;
    p.items[2].tied = p.items[3].tied = p.items[9].tied = 5;
    test_ok(mo_place_stream(&p.desc, p.device, 2, fetches, &n));
    assert_int_equal(fetches[0].bytes, 7);
    assert_int_equal(fetches[3].bytes, 25);
}

static void layers_that_are_needed_at_once_need_buffers(void **state) {
    (void)state;
    problem p;
    mo_place_fetch fetches[MAX_ITEMS];
    size_t n = 99;
    test_log logged;
    mo_log log = test_log_begin(&logged);
    add_stream(&p);
    add_device(&p, SIZE_MAX, 5, 0);
    p.desc.log = &log;
    p.device[2] = 2; /* half of a layer from another device */
    assert_int_equal(mo_place_stream(&p.desc, p.device, 1, fetches, &n), MO_E_NO_SPACE);
    assert_string_equal(
        logged.text, "place: items 2 and 3 are needed at once, and 1 buffers are too few");
    assert_int_equal(n, 99);
    test_ok(mo_place_stream(&p.desc, p.device, 2, fetches, &n));
    assert_int_equal(n, 5);
    assert_true(fetches[0].item == 2 && fetches[1].item == 3 && fetches[1].device == 1);
}

/* The room that solve keeps is a ring of buffers for the largest fetch. */
static void the_room_holds_the_buffers(void **state) {
    (void)state;
    test_rng rng = test_rng_begin(__func__);
    mo_place_fetch fetches[MAX_ITEMS];
    for (int round = 0; round < 200; round++) {
        problem p;
        size_t n, largest = 0;
        double seconds = 0;
        make_random(&p, &rng, 30, 3);
        for (size_t i = 0; i < p.desc.n_items; i++) {
            p.items[i].group = 1 + i / 3; /* in a row, so that any number of buffers will do */
            p.items[i].pinned = 0;
            p.items[i].uses = 1;
        }
        p.desc.max_nodes = 1000;
        solve(&p, MO_PLACE_OPTIMAL);
        test_ok(mo_place_stream(&p.desc, p.device, 1 + test_below(&rng, 3), fetches, &n));
        for (size_t k = 0; k < n; k++) {
            largest = fetches[k].bytes > largest ? fetches[k].bytes : largest;
            seconds += fetches[k].link_s;
            if (k > 0) assert_true(fetches[k].item > fetches[k - 1].last);
            if (!fetches[k].wraps) assert_true(fetches[k].begin <= fetches[k].item);
        }
        assert_int_equal(p.use[0].room_bytes, p.devices[0].n_buffers * largest);
        assert_true(fabs(seconds - p.result.step_s) <= 1e-9 * seconds);
    }
}

/* ---- text and JSON ------------------------------------------------------------------------- */

typedef struct text_buffer {
    char text[8192];
    size_t size, limit;
} text_buffer;

static int text_write(void *self, const char *text, size_t size) {
    text_buffer *b = self;
    if (b->size + size > b->limit) return 1;
    memcpy(b->text + b->size, text, size);
    b->text[b->size += size] = 0;
    return 0;
}

typedef mo_status write_function(const mo_place_desc *desc, const size_t *device,
    const mo_place_use *use, const mo_place_result *result, const mo_writer *writer);

static void make_written(problem *p) {
    begin(p);
    add_device(p, 100, 0, 1);
    add_device(p, SIZE_MAX, 10, 0);
    p->devices[1].name = "disk \"a\"";
    add_item(p, "embed", 40, 0);
    add_item(p, "h.0", 30, 0);
    add_item(p, "h.1", 30, 0);
    add_item(p, NULL, 30, 0);
    solve(p, MO_PLACE_OPTIMAL);
}

static const char *written(const problem *p, write_function *write, text_buffer *b) {
    const mo_writer writer = {text_write, b};
    b->size = 0;
    b->limit = sizeof b->text - 1;
    test_ok(write(&p->desc, p->device, p->use, &p->result, &writer));
    return b->text;
}

static void text_is_a_table(void **state) {
    (void)state;
    problem p;
    text_buffer b;
    make_written(&p);
    assert_string_equal(written(&p, mo_place_write_text, &b),
        "placement: 60 bytes over links, 6 s in a step (optimal)\n"
        "           limit   items' bytes           room          moved   items  device\n"
        "             100             70             30              0       2  0\n"
        "               -             60              0             60       2  disk \"a\"\n"
        "           bytes   items  device  first .. last\n"
        "              70       2  0  embed .. h.0\n"
        "              60       2  disk \"a\"  h.1 .. 3\n");
}

static void text_says_what_is_missing(void **state) {
    (void)state;
    problem p;
    text_buffer b;
    make_written(&p);
    p.desc.n_devices = 1;
    solve(&p, MO_PLACE_OPTIMAL);
    const char *text = written(&p, mo_place_write_text, &b);
    assert_non_null(strstr(text, "no place for 1 items of 30 bytes\n"));
    assert_non_null(strstr(text, "  nowhere  "));
}

static void json_holds_the_whole_placement(void **state) {
    (void)state;
    problem p;
    text_buffer b;
    make_written(&p);
    p.device[3] = SIZE_MAX;
    test_ok(mo_place_measure(&p.desc, p.device, p.use, &p.result));
    assert_string_equal(written(&p, mo_place_write_json, &b),
        "{\"fits\":false,\"is_optimal\":false,\"step_s\":3,\"moved_bytes\":30,\"bound\":0,"
        "\"missing_bytes\":30,\"over_bytes\":0,\"devices\":["
        "{\"name\":\"0\",\"limit_bytes\":100,\"bytes\":70,\"room_bytes\":30,\"moved_bytes\":0,"
        "\"items\":2},"
        "{\"name\":\"disk \\\"a\\\"\",\"limit_bytes\":null,\"bytes\":30,\"room_bytes\":0,"
        "\"moved_bytes\":30,\"items\":1}],\"items\":["
        "{\"name\":\"embed\",\"bytes\":40,\"device\":\"0\"},"
        "{\"name\":\"h.0\",\"bytes\":30,\"device\":\"0\"},"
        "{\"name\":\"h.1\",\"bytes\":30,\"device\":\"disk \\\"a\\\"\"},"
        "{\"name\":\"3\",\"bytes\":30,\"device\":null}]}\n");
}

static void a_writer_that_refuses_is_reported(void **state) {
    (void)state;
    write_function *const writers[] = {mo_place_write_text, mo_place_write_json};
    problem p;
    text_buffer b;
    const mo_writer writer = {text_write, &b}, none = {NULL, NULL};
    make_written(&p);
    for (size_t i = 0; i < n_elements(writers); i++) {
        written(&p, writers[i], &b);
        const size_t size = b.size;
        for (b.limit = 0; b.limit < size; b.limit++) {
            b.size = 0;
            assert_int_equal(writers[i](&p.desc, p.device, p.use, &p.result, &writer), MO_E_IO);
        }
        const size_t device = p.device[0];
        p.device[0] = 2;
        assert_int_equal(writers[i](&p.desc, p.device, p.use, &p.result, &writer), MO_E_INVALID);
        p.device[0] = device;
        assert_int_equal(writers[i](NULL, p.device, p.use, &p.result, &writer), MO_E_INVALID);
        assert_int_equal(writers[i](&p.desc, NULL, p.use, &p.result, &writer), MO_E_INVALID);
        assert_int_equal(writers[i](&p.desc, p.device, NULL, &p.result, &writer), MO_E_INVALID);
        assert_int_equal(writers[i](&p.desc, p.device, p.use, NULL, &writer), MO_E_INVALID);
        assert_int_equal(writers[i](&p.desc, p.device, p.use, &p.result, &none), MO_E_INVALID);
    }
}

/* ---- errors -------------------------------------------------------------------------------- */

static void refuses(problem *p, mo_status status, const char *message) {
    test_log logged;
    mo_log log = test_log_begin(&logged);
    const size_t before = p->device[0] = 77;
    p->desc.log = &log;
    assert_int_equal(mo_place_solve(&p->desc, p->device, NULL, NULL), status);
    assert_int_equal(p->device[0], before);
    assert_string_equal(logged.text, message);
}

static void make_simple(problem *p) {
    begin(p);
    add_device(p, 100, 0, 1);
    add_device(p, 100, 10, 0);
    p->devices[1].name = "cpu";
    add_item(p, "a", 10, 0);
    add_item(p, NULL, 20, 0);
}

static void input_that_makes_no_sense_is_named(void **state) {
    (void)state;
    static const double wrong[] = {-1, NAN, INFINITY};
    static const char *const words[] = {"-1", "nan", "inf"};
    problem p;
    char message[100];
    for (size_t i = 0; i < 3; i++) {
        make_simple(&p);
        p.devices[1].bytes_per_s = wrong[i];
        snprintf(message, sizeof message, "place: device 'cpu': %s bytes_per_s", words[i]);
        refuses(&p, MO_E_INVALID, message);
        make_simple(&p);
        p.items[1].uses = wrong[i];
        snprintf(message, sizeof message, "place: item 1: %s uses", words[i]);
        refuses(&p, MO_E_INVALID, message);
    }
    make_simple(&p);
    p.items[0].pinned = 1;
    p.items[0].device = 2;
    refuses(&p, MO_E_INVALID, "place: item 'a': pinned to device 2 of 2");
    make_simple(&p);
    p.items[0].tied = p.items[1].tied = 9;
    refuses(&p, MO_E_INVALID, "place: items 'a' and 1 are tied, but of 10 and 20 bytes");
    make_simple(&p);
    p.items[0].group = p.items[1].group = 9;
    p.items[0].pinned = p.items[1].pinned = 1;
    p.items[1].device = 1;
    refuses(
        &p, MO_E_INVALID, "place: item 1: pinned to device 1, but another that stays with it to 0");
    make_simple(&p);
    p.items[1].bytes = SIZE_MAX - 9;
    snprintf(message, sizeof message, "place: item 1: %zu bytes overflow the sum", SIZE_MAX - 9);
    refuses(&p, MO_E_OVERFLOW, message);
}

static void missing_arguments_are_refused(void **state) {
    (void)state;
    problem p;
    mo_place_fetch fetch[2];
    size_t n, limits[2];
    make_simple(&p);
    assert_int_equal(mo_place_solve(NULL, p.device, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_place_solve(&p.desc, NULL, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_place_measure(&p.desc, NULL, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_place_measure(NULL, p.device, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_place_balanced(&p.desc, 0, NULL), MO_E_INVALID);
    assert_int_equal(mo_place_balanced(NULL, 0, limits), MO_E_INVALID);
    assert_int_equal(mo_place_stream(NULL, p.device, 1, fetch, &n), MO_E_INVALID);
    assert_int_equal(mo_place_stream(&p.desc, NULL, 1, fetch, &n), MO_E_INVALID);
    assert_int_equal(mo_place_stream(&p.desc, p.device, 0, fetch, &n), MO_E_INVALID);
    assert_int_equal(mo_place_stream(&p.desc, p.device, 1, NULL, &n), MO_E_INVALID);
    assert_int_equal(mo_place_stream(&p.desc, p.device, 1, fetch, NULL), MO_E_INVALID);
    p.device[1] = 2;
    assert_int_equal(mo_place_measure(&p.desc, p.device, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_place_stream(&p.desc, p.device, 1, fetch, &n), MO_E_INVALID);
    p.desc.n_devices = 0;
    assert_int_equal(mo_place_solve(&p.desc, p.device, NULL, NULL), MO_E_INVALID);
    make_simple(&p);
    p.desc.items = NULL;
    assert_int_equal(mo_place_solve(&p.desc, p.device, NULL, NULL), MO_E_INVALID);
    make_simple(&p);
    p.desc.time_limit_s = NAN;
    assert_int_equal(mo_place_solve(&p.desc, p.device, NULL, NULL), MO_E_INVALID);
    make_simple(&p);
    p.desc.method = (mo_place_method)7;
    assert_int_equal(mo_place_solve(&p.desc, p.device, NULL, NULL), MO_E_INVALID);
}

/* Sizes, limits and buffers near the largest number do not wrap around. */
static void numbers_at_the_edge_are_counted_right(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, SIZE_MAX, 0, SIZE_MAX);
    add_device(&p, SIZE_MAX - 1, 1, 0);
    add_item(&p, NULL, SIZE_MAX - 3, 0);
    add_item(&p, NULL, 3, 0);
    solve(&p, MO_PLACE_OPTIMAL);
    assert_int_equal(p.use[0].bytes, SIZE_MAX);
    assert_int_equal(p.result.missing_bytes, 0);
    p.device[0] = p.device[1] = 1; /* the room is more than there is */
    test_ok(mo_place_measure(&p.desc, p.device, p.use, &p.result));
    assert_int_equal(p.use[0].room_bytes, SIZE_MAX);
    assert_int_equal(p.use[1].over_bytes, 1);
    p.devices[0].limit_bytes = 10;
    p.devices[0].n_buffers = 1;
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "-0");
}

typedef mo_status call_function(problem *p);
static mo_status call_solve(problem *p) {
    return mo_place_solve(&p->desc, p->device, p->use, &p->result);
}
static mo_status call_measure(problem *p) {
    return mo_place_measure(&p->desc, p->device, p->use, &p->result);
}
static mo_status call_stream(problem *p) {
    mo_place_fetch fetches[MAX_ITEMS];
    size_t n;
    return mo_place_stream(&p->desc, p->device, 2, fetches, &n);
}
static mo_status call_balanced(problem *p) {
    size_t limits[MAX_DEVICES];
    return mo_place_balanced(&p->desc, 1, limits);
}

static void any_failed_allocation_is_reported(void **state) {
    (void)state;
    call_function *const calls[] = {call_solve, call_measure, call_stream, call_balanced};
    for (size_t c = 0; c < n_elements(calls); c++) {
        mo_status status = MO_E_NO_MEMORY;
        for (int k = 0; status != MO_OK; k++) {
            test_heap heap;
            const mo_allocator allocator = test_heap_begin(&heap, k);
            problem p;
            add_stream(&p);
            p.desc.allocator = &allocator;
            p.device[0] = 1;
            status = calls[c](&p);
            assert_int_equal(status, heap.n_requests > k ? MO_E_NO_MEMORY : MO_OK);
            assert_int_equal(heap.live_blocks, 0);
            if (status != MO_OK) assert_int_equal(p.device[0], 1);
            assert_true(k < 10);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_prefix_wins_at_dots),
        cmocka_unit_test(what_no_rule_covers_is_named),
        cmocka_unit_test(rules_that_make_no_sense_are_named),
        cmocka_unit_test(a_placement_by_hand_may_break_limits_groups_and_ties),
        cmocka_unit_test(fetches_come_in_order_and_start_when_a_buffer_is_free),
        cmocka_unit_test(one_buffer_is_filled_when_it_is_needed),
        cmocka_unit_test(tied_weights_are_fetched_for_each_layer),
        cmocka_unit_test(layers_that_are_needed_at_once_need_buffers),
        cmocka_unit_test(the_room_holds_the_buffers),
        cmocka_unit_test(text_is_a_table),
        cmocka_unit_test(text_says_what_is_missing),
        cmocka_unit_test(json_holds_the_whole_placement),
        cmocka_unit_test(a_writer_that_refuses_is_reported),
        cmocka_unit_test(input_that_makes_no_sense_is_named),
        cmocka_unit_test(missing_arguments_are_refused),
        cmocka_unit_test(numbers_at_the_edge_are_counted_right),
        cmocka_unit_test(any_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
