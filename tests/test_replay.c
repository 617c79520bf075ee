/* test_replay.c - mo_replay: a step recorded, planned, and served from the plan. */
#include "test_replay.h"

/* ---- examples ------------------------------------------------------------------------------ */

static void the_second_step_is_served_from_the_plan_of_the_first(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 64 * KIB);
    small_step(&replay, 7, KIB);
    assert_int_equal(stats_of(&replay).reserved_bytes, 10 * KIB);
    assert_int_equal(stats_of(&replay).replayed_bytes, 0);
    for (int i = 0; i < 3; i++) small_step(&replay, 7, KIB);
    assert_steps(&replay, 3, 1, 0);
    assert_int_equal(stats_of(&replay).live_peak_bytes, 6 * KIB);
    assert_int_equal(stats_of(&replay).replayed_bytes, 6 * KIB);
    assert_int_equal(stats_of(&replay).live_bytes, 0);
    assert_int_equal(stats_of(&replay).n_layouts, 1);
    mo_replay_free(&replay);
}

static void a_plan_lies_behind_what_was_allocated_before(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 64 * KIB);
    size_t weights = take(&replay, 20 * KIB);
    for (int i = 0; i < 3; i++) small_step(&replay, 7, KIB);
    assert_int_equal(stats_of(&replay).replayed_bytes, 26 * KIB);
    size_t more = take(&replay, 10 * KIB); /* between steps the plan's place is free */
    assert_int_equal(more, 20 * KIB);
    small_step(&replay, 7, KIB);
    assert_int_equal(stats_of(&replay).replayed_bytes, 36 * KIB);
    assert_steps(&replay, 3, 1, 0);
    give(&replay, weights);
    small_step(&replay, 7, KIB);
    assert_int_equal(stats_of(&replay).replayed_bytes, 36 * KIB);
    give(&replay, more);
    mo_replay_free(&replay);
}

static void a_block_that_is_too_large_leaves_the_plan_for_a_new_one(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 64 * KIB);
    small_step(&replay, 7, KIB);
    small_step(&replay, 7, KIB + 1);
    assert_steps(&replay, 0, 1, 1);
    assert_int_equal(stats_of(&replay).n_plans, 1);
    small_step(&replay, 7, KIB + 1);
    assert_steps(&replay, 1, 1, 1);
    small_step(&replay, 7, KIB); /* smaller ones fit into their places */
    assert_steps(&replay, 2, 1, 1);
    mo_replay_free(&replay);
}

static void a_plan_that_is_left_gives_its_rest_away(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 12 * KIB); /* 6 KiB beside a whole plan */
    small_step(&replay, 7, KIB);
    begin(&replay, 7);
    size_t a = take(&replay, 4 * KIB), b = take(&replay, KIB);
    give(&replay, a);
    size_t c = take(&replay, 5 * KIB + 1), d = take(&replay, 2 * KIB);
    assert_true(c >= b + KIB || c + 5 * KIB + 1 <= b);
    assert_true(d >= b + KIB || d + 2 * KIB <= b);
    assert_true(d >= c + 5 * KIB + 1 || d + 2 * KIB <= c);
    give(&replay, c);
    give(&replay, d);
    give(&replay, b);
    end(&replay);
    assert_steps(&replay, 0, 1, 1);
    size_t all = take(&replay, 12 * KIB); /* nothing is lost */
    give(&replay, all);
    mo_replay_free(&replay);
}

/* a and b live at the same time or not, by when b is freed before c needs its place. */
static void free_in_order(mo_replay *replay, const char *order) {
    size_t off[26] = {0};
    begin(replay, 1);
    for (; *order; order++) {
        if (*order >= 'a') off[*order - 'a'] = take(replay, (size_t)(*order - 'a' + 1) * KIB);
        else give(replay, off[*order - 'A']);
    }
    end(replay);
}

static void blocks_may_be_freed_early_and_in_another_order(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 64 * KIB);
    free_in_order(&replay, "abcABdCD");
    free_in_order(&replay, "abcBAdDC");
    free_in_order(&replay, "aAbcCBdD");
    assert_steps(&replay, 2, 1, 0);
    mo_replay_free(&replay);
}

static void a_block_that_is_freed_late_leaves_the_plan(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 64 * KIB);
    free_in_order(&replay, "abABcC");
    free_in_order(&replay, "abAcBC");
    assert_steps(&replay, 0, 1, 1);
    free_in_order(&replay, "abAcBC");
    assert_steps(&replay, 1, 1, 1);
    mo_replay_free(&replay);
}

static void more_blocks_than_planned_leave_the_plan_and_fewer_do_not(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 64 * KIB);
    free_in_order(&replay, "abAcBC");
    free_in_order(&replay, "abAcBdDC");
    assert_steps(&replay, 0, 1, 1);
    free_in_order(&replay, "abABcC");
    free_in_order(&replay, "aA");
    free_in_order(&replay, "");
    assert_steps(&replay, 3, 1, 1);
    free_in_order(&replay, "abAcBdDC");
    assert_steps(&replay, 4, 1, 1);
    mo_replay_free(&replay);
}

static void a_step_leaves_its_plan_rather_than_fail(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 7 * KIB);
    for (int i = 0; i < 2; i++) {
        begin(&replay, 1);
        size_t a = take(&replay, 2 * KIB), b = take(&replay, 5 * KIB);
        give(&replay, a);
        give(&replay, b);
        size_t carried = take(&replay, KIB); /* outlives the step, so it lies beside the plan */
        end(&replay);
        give(&replay, carried);
    }
    assert_steps(&replay, 0, 1, 1);
    mo_replay_free(&replay);
}

static void a_carried_block_stays_and_later_steps_follow_their_plan(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 64 * KIB);
    size_t carried = SIZE_MAX;
    for (int i = 0; i < 6; i++) { /* each step frees the block of the step before */
        begin(&replay, 1);
        size_t a = take(&replay, 4 * KIB), next = take(&replay, KIB);
        if (carried != SIZE_MAX) give(&replay, carried);
        carried = next;
        give(&replay, a);
        size_t b = take(&replay, 5 * KIB);
        assert_true(b >= next + KIB || b + 5 * KIB <= next);
        give(&replay, b);
        end(&replay);
        assert_int_equal(stats_of(&replay).live_bytes, KIB);
    }
    assert_steps(&replay, 5, 1, 0);
    mo_replay_free(&replay);
}

static void a_planned_block_that_outlives_its_step_stays(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 64 * KIB);
    small_step(&replay, 1, KIB);
    begin(&replay, 1);
    size_t a = take(&replay, 4 * KIB), b = take(&replay, KIB);
    give(&replay, a);
    end(&replay);
    assert_steps(&replay, 0, 1, 1);
    assert_int_equal(stats_of(&replay).n_live, 1);
    begin(&replay, 1);
    size_t c = take(&replay, 4 * KIB);
    assert_true(c >= b + KIB || c + 4 * KIB <= b);
    give(&replay, c);
    end(&replay);
    assert_steps(&replay, 1, 1, 1);
    give(&replay, b);
    assert_int_equal(mo_replay_dealloc(&replay, b), MO_E_INVALID);
    mo_replay_free(&replay);
}

/* The gradients are made in the first backward, between activations, and stay. */
static void lazy_step(mo_replay *replay, size_t *grads, int n) {
    size_t acts[256];
    begin(replay, 1);
    for (int i = 0; i < n; i++) acts[i] = take(replay, (size_t)(2 + i % 3) * KIB);
    for (int i = n; i-- > 0;) {
        size_t dx = take(replay, (size_t)(2 + i % 3) * KIB);
        if (grads[i] == SIZE_MAX) grads[i] = take(replay, KIB);
        give(replay, acts[i]);
        give(replay, dx);
    }
    end(replay);
}

static void plans_go_around_blocks_that_a_step_has_left_behind(void **state) {
    (void)state;
    enum { N = 40 };
    mo_replay replay;
    size_t grads[N];
    start(&replay, 1024 * KIB);
    memset(grads, 0xff, sizeof grads);
    lazy_step(&replay, grads, N);
    for (int i = 0; i < 3; i++) lazy_step(&replay, grads, N);
    assert_steps(&replay, 3, 1, 0);
    mo_replay_stats stats = stats_of(&replay);
    assert_int_equal(stats.n_live, N);
    assert_true(stats.replayed_bytes <= stats.reserved_bytes);
    assert_true((double)stats.reserved_bytes < 1.1 * (double)stats.live_peak_bytes);
    mo_replay_free(&replay);
}

static void a_plan_moves_when_another_step_leaves_a_block_in_its_place(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 64 * KIB);
    small_step(&replay, 1, KIB);
    small_step(&replay, 1, KIB);
    begin(&replay, 2);
    assert_int_equal(take(&replay, KIB), 0);
    end(&replay);
    small_step(&replay, 1, KIB);
    assert_steps(&replay, 2, 2, 0);
    assert_int_equal(stats_of(&replay).replayed_bytes, 7 * KIB);
    mo_replay_free(&replay);
}

/* Each item fits into one hole only, two at once, so the plan has five pieces. */
static void pieces_step(mo_replay *replay) {
    begin(replay, 1);
    for (size_t i = 1; i <= 3; i++) give(replay, take(replay, i * KIB));
    size_t four = take(replay, 4 * KIB), five = take(replay, 5 * KIB);
    give(replay, four);
    give(replay, five);
    end(replay);
}

static void a_plan_in_more_pieces_than_there_is_room_for_is_not_followed(void **state) {
    (void)state;
    mo_replay replay;
    mo_replay_desc desc = {.size = 15 * KIB + 6 * 64, .max_live = 8};
    size_t holes[4], two[2];
    test_ok(mo_replay_init(&replay, &desc));
    pieces_step(&replay);
    for (size_t i = 0; i < 4; i++) {
        holes[i] = take(&replay, (i + 1) * KIB + (i == 0 ? 128 : 0));
        (void)take(&replay, 64);
    }
    for (int i = 0; i < 4; i++) give(&replay, holes[i]);
    for (int i = 0; i < 2; i++) two[i] = take(&replay, 64); /* into the smallest hole */
    pieces_step(&replay);
    assert_steps(&replay, 0, 2, 0);
    for (int i = 0; i < 2; i++) give(&replay, two[i]);
    pieces_step(&replay);
    assert_steps(&replay, 1, 2, 0);
    assert_int_equal(stats_of(&replay).n_live, 4);
    mo_replay_free(&replay);
}

static void every_key_has_its_plan_and_the_longest_unused_makes_room(void **state) {
    (void)state;
    mo_replay replay;
    mo_replay_desc desc = {.size = 64 * KIB, .max_plans = 2};
    test_ok(mo_replay_init(&replay, &desc));
    small_step(&replay, 1, KIB);
    small_step(&replay, 2, 2 * KIB);
    small_step(&replay, 1, KIB);
    assert_steps(&replay, 1, 2, 0);
    small_step(&replay, 3, 3 * KIB); /* in the place of 2 */
    assert_int_equal(stats_of(&replay).n_plans, 2);
    small_step(&replay, 1, KIB);
    small_step(&replay, 3, 3 * KIB);
    assert_steps(&replay, 3, 3, 0);
    small_step(&replay, 2, 2 * KIB);
    assert_steps(&replay, 3, 4, 0);
    mo_replay_free(&replay);
}

static void with_ordered_keys_a_larger_plan_serves_smaller_steps(void **state) {
    (void)state;
    mo_replay replay;
    mo_replay_desc desc = {.size = 64 * KIB, .ordered_keys = 1};
    test_ok(mo_replay_init(&replay, &desc));
    small_step(&replay, 100, KIB);
    for (size_t k = 1; k < 100; k++) small_step(&replay, k, 10 * k);
    assert_steps(&replay, 99, 1, 0);
    assert_int_equal(stats_of(&replay).n_plans, 1);
    small_step(&replay, 101, KIB); /* not with the plan of a smaller key */
    assert_steps(&replay, 99, 2, 0);
    small_step(&replay, 50, 2 * KIB); /* the keys promised too much */
    assert_steps(&replay, 99, 2, 1);
    small_step(&replay, 50, 2 * KIB);
    assert_steps(&replay, 100, 2, 1);
    mo_replay_free(&replay);
}

static void known_lifetimes_serve_the_first_step(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 6 * KIB);
    const mo_layout_item items[] = {{4 * KIB, 0, 10, 11}, {KIB, 0, 11, 30}, {5 * KIB, 0, 20, 20}};
    test_ok(mo_replay_add_plan(&replay, 9, items, 3));
    small_step(&replay, 9, KIB);
    assert_steps(&replay, 1, 0, 0);
    assert_int_equal(stats_of(&replay).reserved_bytes, 6 * KIB);
    mo_replay_free(&replay);
}

static void alignment_is_kept_in_plans(void **state) {
    (void)state;
    static unsigned char block[64 * KIB];
    mo_replay replay;
    mo_replay_desc desc = {.block = block + 1, .size = sizeof block - 1, .granule = 1};
    test_ok(mo_replay_init(&replay, &desc));
    mo_allocator allocator = mo_replay_allocator(&replay);
    for (int i = 0; i < 3; i++) {
        begin(&replay, 1);
        char *a = mo_alloc(&allocator, 3, 1), *b = mo_alloc(&allocator, 100, 64);
        char *c = mo_alloc(&allocator, 40, 8);
        assert_int_equal((uintptr_t)b % 64, 0);
        assert_int_equal((uintptr_t)c % 8, 0);
        memset(a, 1, 3), memset(b, 2, 100), memset(c, 3, 40);
        mo_free(&allocator, b, 100, 64);
        b = mo_alloc(&allocator, 64, 32);
        assert_int_equal((uintptr_t)b % 32, 0);
        memset(b, 4, 64);
        assert_true(a[2] == 1 && c[39] == 3);
        mo_free(&allocator, a, 3, 1);
        mo_free(&allocator, b, 64, 32);
        mo_free(&allocator, c, 40, 8);
        end(&replay);
    }
    assert_steps(&replay, 2, 1, 0);
    begin(&replay, 1);
    assert_int_equal((uintptr_t)mo_alloc(&allocator, 3, 64) % 64, 0); /* stricter than planned */
    end(&replay);
    assert_steps(&replay, 2, 1, 1);
    mo_replay_free(&replay);
    memset(block, 0, sizeof block);
}

static void an_arena_is_committed_as_needed_and_trimmed_to_the_plans(void **state) {
    (void)state;
    mo_arena arena;
    mo_arena_desc arena_desc = {.limit = (size_t)64 << 20};
    test_ok(mo_arena_init(&arena, &arena_desc));
    char *before = mo_arena_alloc(&arena, 100, 0);
    mo_replay replay, second;
    mo_replay_desc desc = {.arena = &arena};
    mo_arena_stats figures;
    test_ok(mo_replay_init(&replay, &desc));
    assert_int_equal(mo_replay_init(&second, &desc), MO_E_STATE);
    assert_null(mo_arena_alloc(&arena, 1, 1)); /* the rest of the arena is the range */
    small_step(&replay, 1, (size_t)1 << 20);
    small_step(&replay, 1, (size_t)1 << 20);
    mo_arena_get_stats(&arena, &figures);
    assert_true(figures.committed_bytes >= (size_t)10 << 20);
    assert_true(figures.committed_bytes < (size_t)32 << 20);
    mo_replay_trim(&replay);
    mo_arena_get_stats(&arena, &figures);
    assert_true(figures.committed_bytes <= ((size_t)6 << 20) + (128 << 10));
    mo_allocator allocator = mo_replay_allocator(&replay);
    begin(&replay, 1);
    char *a = mo_alloc(&allocator, (size_t)4 << 20, 4096);
    assert_int_equal((uintptr_t)a % 4096, 0);
    memset(a, 1, (size_t)4 << 20);
    mo_free(&allocator, a, (size_t)4 << 20, 4096);
    end(&replay);
    assert_int_equal(before[99] = 5, 5);
    mo_replay_free(&replay);
    assert_non_null(mo_arena_alloc(&arena, (size_t)60 << 20, 1));
    mo_arena_free(&arena);
}

static void offsets_alone_have_no_addresses(void **state) {
    (void)state;
    mo_replay replay;
    mo_replay_desc desc = {.size = (size_t)1 << 30};
    test_ok(mo_replay_init(&replay, &desc));
    mo_allocator allocator = mo_replay_allocator(&replay);
    assert_null(mo_alloc(&allocator, 64, 64));
    assert_int_equal(take(&replay, (size_t)1 << 30), 0);
    mo_replay_free(&replay);
}

static void what_is_no_block_is_refused(void **state) {
    (void)state;
    mo_replay replay;
    start(&replay, 64 * KIB);
    small_step(&replay, 1, KIB);
    for (int in_step = 0; in_step < 2; in_step++) {
        if (in_step) begin(&replay, 1);
        size_t a = take(&replay, 4 * KIB);
        assert_int_equal(mo_replay_dealloc(&replay, a + 64), MO_E_INVALID);
        assert_int_equal(mo_replay_dealloc(&replay, SIZE_MAX), MO_E_INVALID);
        give(&replay, a);
        assert_int_equal(mo_replay_dealloc(&replay, a), MO_E_INVALID);
        if (in_step) end(&replay);
    }
    assert_steps(&replay, 1, 1, 0);
    mo_replay_free(&replay);
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    mo_replay replay;
    mo_arena arena;
    size_t off = 1;
    char block[4 * KIB];
    mo_layout_item items[] = {{64, 0, 1, 1}, {64, 0, 0, 1}};
    test_ok(mo_arena_init(&arena, NULL));
    mo_replay_desc none = {0}, both = {.arena = &arena, .block = block, .size = 100};
    mo_replay_desc odd = {.size = KIB, .granule = 3}, far = {.arena = &arena, .size = SIZE_MAX / 2};
    mo_replay_desc many = {.size = KIB, .max_live = ((size_t)1 << 28) + 1};
    assert_int_equal(mo_replay_init(&replay, NULL), MO_E_INVALID);
    assert_int_equal(mo_replay_init(&replay, &none), MO_E_INVALID);
    assert_int_equal(mo_replay_init(&replay, &both), MO_E_INVALID);
    assert_int_equal(mo_replay_init(&replay, &odd), MO_E_INVALID);
    assert_int_equal(mo_replay_init(&replay, &many), MO_E_INVALID);
    assert_int_equal(mo_replay_init(&replay, &far), MO_E_NO_SPACE);
    start(&replay, KIB);
    assert_int_equal(mo_replay_end_step(&replay), MO_E_STATE);
    assert_int_equal(mo_replay_alloc(&replay, 0, 0, &off), MO_E_INVALID);
    assert_int_equal(mo_replay_alloc(&replay, 1, 3, &off), MO_E_INVALID);
    assert_int_equal(mo_replay_alloc(&replay, 1, 96, &off), MO_E_INVALID);
    assert_int_equal(mo_replay_alloc(&replay, KIB + 1, 0, &off), MO_E_NO_SPACE);
    assert_int_equal(mo_replay_alloc(&replay, SIZE_MAX, 0, &off), MO_E_NO_SPACE);
    assert_int_equal(off, 1);
    assert_int_equal(mo_replay_add_plan(&replay, 1, items, 0), MO_E_INVALID);
    assert_int_equal(mo_replay_add_plan(&replay, 1, items, 2), MO_E_INVALID);
    items[1].first = 2;
    assert_int_equal(mo_replay_add_plan(&replay, 1, items, 2), MO_E_INVALID);
    begin(&replay, 1);
    assert_int_equal(mo_replay_begin_step(&replay, 1), MO_E_STATE);
    assert_int_equal(mo_replay_add_plan(&replay, 1, items, 1), MO_E_STATE);
    mo_replay_free(&replay);
    mo_arena_free(&arena);
}

static void max_live_is_reached_exactly(void **state) {
    (void)state;
    mo_replay replay;
    mo_replay_desc desc = {.size = 64 * KIB, .max_live = 5};
    size_t off[6];
    test_ok(mo_replay_init(&replay, &desc));
    for (int round = 0; round < 3; round++) { /* recorded, planned, and left at the last block */
        begin(&replay, 1);
        for (int i = 0; i < 5; i++) off[i] = take(&replay, round == 2 && i == 4 ? 2 * KIB : KIB);
        assert_int_equal(mo_replay_alloc(&replay, 1, 0, &off[5]), MO_E_NO_SPACE);
        for (int i = 0; i < 5; i++) give(&replay, off[i]);
        end(&replay);
    }
    assert_steps(&replay, 1, 1, 1);
    mo_replay_free(&replay);
}

#if defined(__SANITIZE_ADDRESS__)
int __asan_address_is_poisoned(void const volatile *addr);
static void memory_not_handed_out_is_poisoned(void **state) {
    (void)state;
    static _Alignas(64) char block[64 * KIB];
    mo_replay replay;
    mo_replay_desc desc = {.block = block, .size = sizeof block};
    test_ok(mo_replay_init(&replay, &desc));
    mo_allocator allocator = mo_replay_allocator(&replay);
    for (int i = 0; i < 2; i++) {
        assert_true(__asan_address_is_poisoned(block));
        begin(&replay, 1);
        char *a = mo_alloc(&allocator, 100, 1);
        assert_false(__asan_address_is_poisoned(a + 99));
        assert_true(__asan_address_is_poisoned(a + 100));
        mo_free(&allocator, a, 100, 1);
        assert_true(__asan_address_is_poisoned(a));
        end(&replay);
    }
    assert_steps(&replay, 1, 1, 0);
    mo_replay_free(&replay);
    assert_false(__asan_address_is_poisoned(block));
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_step_is_served_from_the_plan_of_the_first),
        cmocka_unit_test(a_plan_lies_behind_what_was_allocated_before),
        cmocka_unit_test(a_block_that_is_too_large_leaves_the_plan_for_a_new_one),
        cmocka_unit_test(a_plan_that_is_left_gives_its_rest_away),
        cmocka_unit_test(blocks_may_be_freed_early_and_in_another_order),
        cmocka_unit_test(a_block_that_is_freed_late_leaves_the_plan),
        cmocka_unit_test(more_blocks_than_planned_leave_the_plan_and_fewer_do_not),
        cmocka_unit_test(a_step_leaves_its_plan_rather_than_fail),
        cmocka_unit_test(a_carried_block_stays_and_later_steps_follow_their_plan),
        cmocka_unit_test(a_planned_block_that_outlives_its_step_stays),
        cmocka_unit_test(plans_go_around_blocks_that_a_step_has_left_behind),
        cmocka_unit_test(a_plan_moves_when_another_step_leaves_a_block_in_its_place),
        cmocka_unit_test(a_plan_in_more_pieces_than_there_is_room_for_is_not_followed),
        cmocka_unit_test(every_key_has_its_plan_and_the_longest_unused_makes_room),
        cmocka_unit_test(with_ordered_keys_a_larger_plan_serves_smaller_steps),
        cmocka_unit_test(known_lifetimes_serve_the_first_step),
        cmocka_unit_test(alignment_is_kept_in_plans),
        cmocka_unit_test(an_arena_is_committed_as_needed_and_trimmed_to_the_plans),
        cmocka_unit_test(offsets_alone_have_no_addresses),
        cmocka_unit_test(what_is_no_block_is_refused),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(max_live_is_reached_exactly),
#if defined(__SANITIZE_ADDRESS__)
        cmocka_unit_test(memory_not_handed_out_is_poisoned),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
