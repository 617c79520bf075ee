/* test_layout.c - mo_layout: offsets from lifetimes. */
#include "test_util.h"

enum { MAX_ITEMS = 512 };

static mo_layout_result solve_and_check(const mo_layout_item *items, size_t n, size_t *offsets) {
    mo_layout_result result;
    test_ok(mo_layout_solve(NULL, items, n, offsets, &result));
    test_ok(mo_layout_check(NULL, items, n, offsets, result.peak));
    assert_true(result.peak >= result.lower_bound);
    assert_int_equal(result.proved, result.peak == result.lower_bound);
    return result;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void items_that_never_meet_share_bytes(void **state) {
    (void)state;
    const mo_layout_item items[] = {{4096, 0, 0, 1}, {4096, 0, 2, 3}, {1024, 0, 4, 4}};
    size_t offsets[3];
    mo_layout_result result = solve_and_check(items, 3, offsets);
    assert_int_equal(result.peak, 4096);
    assert_int_equal(result.peak_step, 0);
    assert_true(result.proved);
    for (int i = 0; i < 3; i++) assert_int_equal(offsets[i], 0);
}

static void last_step_is_inclusive(void **state) {
    (void)state;
    const mo_layout_item items[] = {{64, 0, 0, 2}, {128, 0, 2, 3}};
    size_t offsets[2];
    mo_layout_result result = solve_and_check(items, 2, offsets);
    assert_int_equal(result.peak, 192);
    assert_int_equal(result.peak_step, 2);
}

static void a_gap_is_filled(void **state) {
    (void)state;
    const mo_layout_item items[] = {
        {1024, 0, 0, 1}, {512, 0, 0, 5}, {256, 0, 3, 5}, {768, 0, 3, 5}};
    size_t offsets[4];
    assert_int_equal(solve_and_check(items, 4, offsets).peak, 1536);
}

static void nothing_and_empty_items_take_nothing(void **state) {
    (void)state;
    const mo_layout_item items[] = {{0, 0, 0, 9}, {100, 0, 0, 9}, {0, 4096, 3, 4}};
    size_t offsets[3] = {1, 1, 1};
    mo_layout_result result;
    test_ok(mo_layout_solve(NULL, NULL, 0, NULL, &result));
    assert_int_equal(result.peak, 0);
    assert_true(result.proved);
    assert_int_equal(solve_and_check(items, 3, offsets).peak, 100);
    for (int i = 0; i < 3; i++) assert_int_equal(offsets[i], 0);
    test_ok(mo_layout_solve(NULL, items, 1, offsets, &result));
    assert_int_equal(result.peak, 0);
    assert_true(result.proved);
}

static void only_the_topmost_item_is_not_rounded(void **state) {
    (void)state;
    const mo_layout_item items[] = {{100, 0, 0, 0}, {4, 0, 0, 0}};
    size_t offsets[2];
    mo_layout_result result = solve_and_check(items, 2, offsets);
    assert_int_equal(result.lower_bound, 128 + 4);
    assert_int_equal(result.peak, 128 + 4);
    assert_true(result.proved);
}

static void every_item_keeps_its_own_alignment(void **state) {
    (void)state;
    const mo_layout_item items[] = {{10, 1, 0, 0}, {10, 4096, 0, 0}, {10, 256, 0, 0}, {7, 0, 0, 0}};
    size_t offsets[4];
    mo_layout_result result = solve_and_check(items, 4, offsets);
    assert_int_equal(result.live_bound, 37);
    assert_true(
        result.proved); /* 7, 10, 10 at 0, 64, 256, and 10 at a multiple of 4096 cannot end */
    assert_int_equal(result.peak, 266);
    assert_int_equal(offsets[1] % 4096, 0);
    assert_int_equal(offsets[2] % 256, 0);
    assert_int_equal(offsets[3] % 64, 0);
}

static void the_desc_gives_the_default_alignment(void **state) {
    (void)state;
    const mo_layout_item items[] = {{10, 0, 0, 0}, {10, 0, 0, 0}};
    size_t offsets[2];
    mo_layout_result result;
    mo_layout_desc desc = {0};
    assert_int_equal(mo_layout_desc_defaults(NULL).align, 64);
    assert_int_equal(mo_layout_desc_defaults(&desc).align, 64);
    desc.align = 16;
    test_ok(mo_layout_solve(&desc, items, 2, offsets, &result));
    assert_int_equal(result.peak, 26);
}

/* The lifetimes of a GPT's training step: saved per block, temporaries within, gradients back. */
static size_t add_item(mo_layout_item *items, size_t n, size_t size, size_t first, size_t last) {
    mo_layout_item item = {size, 0, first, last};
    items[n] = item;
    return n + 1;
}

static size_t make_gpt(mo_layout_item *items, size_t n_blocks, size_t width) {
    size_t n = 0, steps = 6, total = 2 * steps * (n_blocks + 1);
    for (size_t b = 0; b < n_blocks; b++) {
        size_t f = b * steps, r = total - (b + 1) * steps;
        static const size_t saved[] = {1, 3, 1, 1, 4, 4}, temporary[] = {2, 1, 6, 1, 1, 2};
        for (size_t i = 0; i < steps; i++) {
            n = add_item(items, n, saved[i] * width, f + i, r + steps - 1 - i);
            n = add_item(items, n, temporary[i] * width, f + i, f + (i + 1 < steps ? i + 1 : i));
            n = add_item(items, n, 2 * temporary[i] * width, r + i, r + i);
        }
        n = add_item(items, n, width, r, r + 2 * steps - 1);
    }
    return add_item(items, n, 40 * width, n_blocks * steps, n_blocks * steps + steps);
}

static void greedy_orders_are_optimal_on_gpt_lifetimes(void **state) {
    (void)state;
    static mo_layout_item items[MAX_ITEMS];
    size_t offsets[MAX_ITEMS];
    for (size_t n_blocks = 1; n_blocks <= 24; n_blocks += 1) {
        size_t n = make_gpt(items, n_blocks, 393216);
        mo_layout_result result = solve_and_check(items, n, offsets);
        assert_true(result.proved);
        assert_int_equal(result.n_nodes, 0);
    }
}

/* ---- properties ---------------------------------------------------------------------------- */

static void random_items(test_rng *rng, mo_layout_item *items, size_t n, size_t n_steps) {
    for (size_t i = 0; i < n; i++) {
        static const size_t aligns[] = {0, 0, 0, 1, 16, 256};
        items[i].size = test_below(rng, 8) ? test_below(rng, 1000) : 0;
        items[i].align = aligns[test_below(rng, 6)];
        items[i].first = test_below(rng, n_steps);
        items[i].last = items[i].first + test_below(rng, n_steps / 3 + 1);
    }
}

/* Most bytes live at one step, each rounded up to the smallest alignment but one. */
static size_t slow_bound(const mo_layout_item *items, size_t n, size_t n_steps) {
    size_t grain = SIZE_MAX, bound = 0;
    for (size_t i = 0; i < n; i++) {
        size_t align = items[i].align ? items[i].align : 64;
        if (items[i].size && align < grain) grain = align;
    }
    for (size_t step = 0; step < n_steps; step++) {
        size_t live = 0, rest = 0;
        for (size_t i = 0; i < n; i++) {
            if (!items[i].size || items[i].first > step || items[i].last < step) continue;
            size_t rounded = (items[i].size + grain - 1) / grain * grain;
            live += rounded;
            if (rounded - items[i].size > rest) rest = rounded - items[i].size;
        }
        if (live - rest > bound) bound = live - rest;
    }
    return bound;
}

static void layouts_are_valid_and_bounds_are_right(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("layouts_are_valid_and_bounds_are_right");
    mo_layout_item items[64];
    size_t offsets[64], again[64];
    for (int round = 0; round < 600; round++) {
        size_t n = 1 + test_below(&rng, 64), n_steps = 1 + test_below(&rng, 40);
        random_items(&rng, items, n, n_steps);
        mo_layout_result result = solve_and_check(items, n, offsets);
        assert_int_equal(result.live_bound, slow_bound(items, n, 2 * n_steps));
        test_ok(mo_layout_solve(NULL, items, n, again, NULL));
        assert_memory_equal(offsets, again, n * sizeof *offsets);
    }
}

static void steps_far_apart_cost_nothing(void **state) {
    (void)state;
    const mo_layout_item items[] = {
        {64, 0, 0, SIZE_MAX}, {64, 0, SIZE_MAX, SIZE_MAX}, {64, 0, 7, SIZE_MAX - 1}};
    size_t offsets[3];
    assert_int_equal(solve_and_check(items, 3, offsets).peak, 128);
}

/* Every kind of many items: valid, and neither time nor memory explodes. */
typedef enum many { LOCAL, SAME, NESTED, LONG, APART, SLIDING, N_MANY } many;

static mo_layout_item one_of_many(test_rng *rng, many kind, size_t i, size_t n) {
    mo_layout_item item = {64 * (1 + test_below(rng, 5000)), 0, i, i};
    if (kind == LOCAL)
        item.last = i + (test_below(rng, 4) ? test_below(rng, 10) : test_below(rng, 400));
    if (kind == SAME) item.size = 4096, item.first = 0, item.last = 9;
    if (kind == NESTED) item.last = 2 * n - i;
    if (kind == LONG) item.first = test_below(rng, n), item.last = item.first + test_below(rng, n);
    if (kind == SLIDING) item.last = i + n / 2;
    return item;
}

static void many_items_of_every_kind_are_placed(void **state) {
    (void)state;
    enum { N = 100000 };
    test_rng rng = test_rng_begin("many_items_of_every_kind_are_placed");
    mo_layout_item *items = malloc(N * sizeof *items);
    size_t *offsets = malloc(N * sizeof *offsets);
    assert_true(items && offsets);
    for (int k = 0; k < 2 * N_MANY; k++) {
        many kind = (many)(k / 2);
        size_t n = kind == SAME || kind == APART ? N : k % 2 ? 2600 : 800;
        for (size_t i = 0; i < n; i++) items[i] = one_of_many(&rng, kind, i, n);
        mo_layout_result result = solve_and_check(items, n, offsets);
        assert_true(result.peak <= 2 * result.lower_bound);
        if (kind == SAME || kind == APART) assert_true(result.proved);
    }
    free(items);
    free(offsets);
}

/* ---- the limits of the search -------------------------------------------------------------- */

/* 15 bytes are enough; every greedy order takes 20. */
static const mo_layout_item tricky[] = {{9, 1, 3, 3}, {7, 1, 0, 0}, {6, 1, 2, 3}, {5, 1, 0, 2}};

static void the_search_finds_what_greedy_misses(void **state) {
    (void)state;
    size_t offsets[n_elements(tricky)];
    mo_layout_result result = solve_and_check(tricky, n_elements(tricky), offsets);
    assert_int_equal(result.peak, 15);
    assert_true(result.proved && result.n_nodes > 0);
    mo_layout_desc desc = {.capacity = 20};
    test_ok(mo_layout_solve(&desc, tricky, n_elements(tricky), offsets, &result));
    assert_int_equal(result.peak, 20);
    assert_int_equal(result.n_nodes, 0);
}

static void a_limit_of_nodes_holds(void **state) {
    (void)state;
    size_t offsets[n_elements(tricky)];
    mo_layout_result result;
    for (uint64_t max_nodes = 1; max_nodes < 100; max_nodes++) {
        mo_layout_desc desc = {.max_nodes = max_nodes};
        test_ok(mo_layout_solve(&desc, tricky, n_elements(tricky), offsets, &result));
        test_ok(mo_layout_check(&desc, tricky, n_elements(tricky), offsets, result.peak));
        assert_true(result.n_nodes <= max_nodes);
    }
}

static void a_limit_of_time_ends_the_search(void **state) {
    (void)state;
    size_t offsets[n_elements(tricky)];
    mo_layout_result result;
    mo_layout_desc desc = {.time_limit_s = 1e-9};
    test_ok(mo_layout_solve(&desc, tricky, n_elements(tricky), offsets, &result));
    assert_int_equal(result.n_nodes, 0);
    desc.time_limit_s = 1000;
    test_ok(mo_layout_solve(&desc, tricky, n_elements(tricky), offsets, &result));
    assert_true(result.proved);
    assert_true(result.n_nodes > 0);
}

/* ---- errors -------------------------------------------------------------------------------- */

static void wrong_items_are_named(void **state) {
    (void)state;
    mo_layout_item items[] = {{64, 0, 0, 2}, {64, 0, 5, 3}};
    size_t offsets[2] = {77, 77};
    mo_layout_result result;
    test_log text;
    mo_log log = test_log_begin(&text);
    mo_layout_desc desc = {0};
    desc.log = &log;
    assert_int_equal(mo_layout_solve(&desc, items, 2, offsets, &result), MO_E_INVALID);
    assert_string_equal(text.text, "layout: item 1: first step 5 > last step 3");
    items[1].last = 5;
    items[1].align = 24;
    assert_int_equal(mo_layout_solve(&desc, items, 2, offsets, &result), MO_E_INVALID);
    assert_string_equal(text.text, "layout: item 1: alignment 24 is no power of two");
    assert_int_equal(offsets[0], 77);
    assert_int_equal(mo_layout_solve(&desc, NULL, 2, offsets, &result), MO_E_INVALID);
    assert_int_equal(mo_layout_solve(&desc, items, 2, NULL, &result), MO_E_INVALID);
}

static void wrong_gaps_aliases_and_fixed_offsets_are_named(void **state) {
    (void)state;
    const mo_layout_item items[] = {{64, 0, 2, 5}, {128, 0, 5, 6}};
    const mo_layout_gap gaps[][2] = {{{0, 1, 3, 0, 0}, {1, 5, 5, 0, 0}},
        {{0, 2, 3, 0, 0}, {0, 3, 4, 0, 0}}, {{0, 2, 2, 0, 65}, {1, 6, 6, 0, 0}},
        {{0, 2, 2, 0, 0}, {2, 6, 6, 0, 0}}, {{0, 5, 4, 0, 0}, {1, 6, 6, 0, 0}},
        {{0, 2, 2, 9, 8}, {1, 6, 6, 0, 0}}};
    const mo_layout_alias aliases[] = {{1, 0}, {0, 1}, {1, 1}, {1, 2}};
    const size_t odd[] = {32, SIZE_MAX}, together[] = {0, 0}, apart[] = {0, 64};
    size_t offsets[2], taken[2];
    mo_layout_result result;
    test_log text;
    mo_log log = test_log_begin(&text);
    for (size_t k = 0; k < n_elements(gaps); k++) {
        mo_layout_desc desc = {.log = &log, .gaps = gaps[k], .n_gaps = 2};
        assert_int_equal(mo_layout_solve(&desc, items, 2, offsets, &result), MO_E_INVALID);
        assert_non_null(strstr(text.text, "does not lie within item"));
    }
    for (size_t k = 0; k < n_elements(aliases); k++) {
        mo_layout_desc desc = {.log = &log, .aliases = &aliases[k], .n_aliases = 1, .taken = taken};
        assert_int_equal(mo_layout_solve(&desc, items, 2, offsets, &result), MO_E_INVALID);
        assert_non_null(strstr(text.text, "cannot take over"));
    }
    mo_layout_desc desc = {.log = &log, .fixed = odd};
    assert_int_equal(mo_layout_solve(&desc, items, 2, offsets, &result), MO_E_INVALID);
    assert_string_equal(text.text, "layout: item 0: fixed offset 32 is no multiple of 64");
    desc.fixed = together;
    assert_int_equal(mo_layout_solve(&desc, items, 2, offsets, &result), MO_E_INVALID);
    assert_string_equal(
        text.text, "layout: items 0 (offset 0, size 64) and 1 (offset 0, size 128) overlap");
    desc.fixed = apart;
    test_ok(mo_layout_solve(&desc, items, 2, offsets, &result));
    assert_int_equal(result.peak, 192);
    assert_true(result.proved);
    assert_int_equal(mo_layout_check(&desc, items, 2, (size_t[]){64, 0}, 192), MO_E_INVALID);
    assert_string_equal(text.text, "layout: item 0: offset 64, but it is fixed at 0");
}

static void check_names_what_is_wrong(void **state) {
    (void)state;
    const mo_layout_item items[] = {{64, 0, 0, 2}, {100, 0, 2, 3}, {8, 0, 3, 3}};
    const size_t good[] = {128, 0, 128}, same[] = {64, 0, 128}, odd[] = {128, 0, 100};
    test_log text;
    mo_log log = test_log_begin(&text);
    mo_layout_desc desc = {0};
    desc.log = &log;
    test_ok(mo_layout_check(&desc, items, 3, good, 192));
    assert_int_equal(mo_layout_check(&desc, items, 3, good, 191), MO_E_INVALID);
    assert_string_equal(text.text, "layout: item 0: offset 128 and size 64 pass the peak 191");
    assert_int_equal(mo_layout_check(&desc, items, 3, same, 192), MO_E_INVALID);
    assert_string_equal(
        text.text, "layout: items 0 (offset 64, size 64) and 1 (offset 0, size 100) overlap");
    assert_int_equal(mo_layout_check(&desc, items, 3, odd, 192), MO_E_INVALID);
    assert_string_equal(text.text, "layout: item 2: offset 100 is no multiple of 64");
}

static void sizes_that_do_not_fit_overflow(void **state) {
    (void)state;
    const size_t half = SIZE_MAX / 2 + 1;
    const mo_layout_item together[] = {{half, 0, 0, 1}, {half, 0, 1, 2}};
    const mo_layout_item apart[] = {{half, 0, 0, 1}, {half, 0, 2, 3}};
    const mo_layout_item huge[] = {{SIZE_MAX, 0, 0, 1}};
    size_t offsets[2];
    mo_layout_result result;
    assert_int_equal(mo_layout_solve(NULL, together, 2, offsets, &result), MO_E_OVERFLOW);
    assert_int_equal(mo_layout_solve(NULL, huge, 1, offsets, &result), MO_E_OVERFLOW);
    test_ok(mo_layout_solve(NULL, apart, 2, offsets, &result));
    assert_int_equal(result.peak, half);
}

static void any_failed_allocation_is_reported(void **state) {
    (void)state;
    const mo_layout_gap gap = {0, 3, 3, 0, 4};
    const mo_layout_alias alias = {3, 1};
    const size_t spaces[] = {14, 9}, n = n_elements(tricky);
    for (int kind = 0; kind < 4; kind++) {
        mo_status status = MO_E_NO_MEMORY;
        for (int k = 0; status != MO_OK; k++) {
            test_heap heap;
            mo_allocator allocator = test_heap_begin(&heap, k);
            size_t offsets[] = {5, 5, 5, 5}, taken[] = {7, 7, 7, 7}, space[] = {3, 3, 3, 3}, set[4];
            mo_layout_desc desc = {.allocator = &allocator, .taken = taken};
            mo_layout_item items[] = {tricky[0], tricky[1], tricky[2], tricky[3]};
            if (kind == 1)
                desc.gaps = &gap, desc.n_gaps = desc.n_aliases = 1, desc.aliases = &alias;
            if (kind == 2) desc.spaces = spaces, desc.n_spaces = 2, desc.space = space;
            if (kind == 3) {
                mo_layout_reason reason;
                desc.capacity = 14;
                status = mo_layout_explain(&desc, items, n, offsets, set, &reason);
            } else {
                status = mo_layout_solve(&desc, items, n, offsets, NULL);
                if (status == MO_OK) status = mo_layout_check(&desc, items, n, offsets, 100);
                else assert_int_equal(offsets[0] + taken[0] + space[0], 5 + 7 + 3);
            }
            assert_int_equal(status, heap.n_requests > k ? MO_E_NO_MEMORY : MO_OK);
            assert_int_equal(heap.live_blocks, 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_that_never_meet_share_bytes),
        cmocka_unit_test(last_step_is_inclusive),
        cmocka_unit_test(a_gap_is_filled),
        cmocka_unit_test(nothing_and_empty_items_take_nothing),
        cmocka_unit_test(only_the_topmost_item_is_not_rounded),
        cmocka_unit_test(every_item_keeps_its_own_alignment),
        cmocka_unit_test(the_desc_gives_the_default_alignment),
        cmocka_unit_test(greedy_orders_are_optimal_on_gpt_lifetimes),
        cmocka_unit_test(layouts_are_valid_and_bounds_are_right),
        cmocka_unit_test(steps_far_apart_cost_nothing),
        cmocka_unit_test(many_items_of_every_kind_are_placed),
        cmocka_unit_test(the_search_finds_what_greedy_misses),
        cmocka_unit_test(a_limit_of_nodes_holds),
        cmocka_unit_test(a_limit_of_time_ends_the_search),
        cmocka_unit_test(wrong_items_are_named),
        cmocka_unit_test(wrong_gaps_aliases_and_fixed_offsets_are_named),
        cmocka_unit_test(check_names_what_is_wrong),
        cmocka_unit_test(sizes_that_do_not_fit_overflow),
        cmocka_unit_test(any_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
