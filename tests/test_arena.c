/* test_arena.c - mo_arena */
#include "test_util.h"

static mo_arena arena_over(void *block, size_t size) {
    mo_arena arena;
    mo_arena_desc desc = {.block = block, .size = size};
    test_ok(mo_arena_init(&arena, &desc));
    return arena;
}

static mo_arena arena_of(size_t limit, const mo_log *log) {
    mo_arena arena;
    mo_arena_desc desc = {.limit = limit, .log = log};
    test_ok(mo_arena_init(&arena, &desc));
    return arena;
}

static mo_arena_stats stats_of(const mo_arena *arena) {
    mo_arena_stats stats;
    mo_arena_get_stats(arena, &stats);
    return stats;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void blocks_follow_each_other_at_their_alignment(void **state) {
    (void)state;
    _Alignas(64) unsigned char block[1024];
    mo_arena arena = arena_over(block, sizeof block);
    assert_ptr_equal(mo_arena_alloc(&arena, 10, 1), block);
    assert_ptr_equal(mo_arena_alloc(&arena, 10, 1), block + 10);
    assert_ptr_equal(mo_arena_alloc(&arena, 8, 8), block + 24);
    assert_ptr_equal(mo_arena_alloc(&arena, 1, 0), block + 64);
    mo_arena_stats stats = stats_of(&arena);
    assert_int_equal(stats.used_bytes, 65);
    assert_int_equal(stats.wasted_bytes, 4 + 32);
    assert_int_equal(stats.n_allocs, 4);
    mo_arena_free(&arena);
}

static void alignment_is_of_the_address_not_of_the_offset(void **state) {
    (void)state;
    _Alignas(64) unsigned char block[256];
    mo_arena arena = arena_over(block + 1, sizeof block - 1);
    assert_ptr_equal(mo_arena_alloc(&arena, 4, 64), block + 64);
    mo_arena_free(&arena);
}

static void the_whole_block_can_be_used(void **state) {
    (void)state;
    unsigned char block[100];
    mo_arena arena = arena_over(block, sizeof block);
    assert_non_null(mo_arena_alloc(&arena, 100, 1));
    assert_null(mo_arena_alloc(&arena, 1, 1));
    mo_arena_free(&arena);
}

static void a_full_arena_says_so_once_asked_and_in_the_log(void **state) {
    (void)state;
    test_log seen;
    mo_log log = test_log_begin(&seen);
    mo_arena arena = arena_of(1000, &log);
    assert_non_null(mo_arena_alloc(&arena, 600, 1));
    assert_int_equal(mo_arena_status(&arena), MO_OK);
    assert_null(mo_arena_alloc(&arena, 401, 1));
    assert_int_equal(mo_arena_status(&arena), MO_E_NO_SPACE);
    assert_int_equal(seen.n, 1);
    assert_non_null(strstr(seen.text, "401 bytes requested, 600 used, limit 1000"));
    assert_non_null(mo_arena_alloc(&arena, 400, 1));
    assert_int_equal(mo_arena_status(&arena), MO_E_NO_SPACE);
    mo_arena_reset(&arena);
    assert_int_equal(mo_arena_status(&arena), MO_OK);
    mo_arena_free(&arena);
}

static void senseless_requests_return_null_without_a_status(void **state) {
    (void)state;
    mo_arena arena = arena_of(1000, NULL);
    assert_null(mo_arena_alloc(&arena, 0, 8));
    assert_null(mo_arena_alloc(&arena, 8, 3));
    assert_int_equal(mo_arena_status(&arena), MO_OK);
    mo_arena_free(&arena);
}

static void sizes_near_the_end_of_size_t_do_not_wrap(void **state) {
    (void)state;
    mo_arena arena = arena_of(1000, NULL);
    assert_non_null(mo_arena_alloc(&arena, 1, 1));
    assert_null(mo_arena_alloc(&arena, SIZE_MAX, 1));
    assert_null(mo_arena_alloc(&arena, SIZE_MAX - 63, 64));
    assert_null(mo_arena_at(&arena, SIZE_MAX, 2));
    assert_null(mo_arena_at(&arena, 2, SIZE_MAX));
    assert_int_equal(stats_of(&arena).used_bytes, 1);
    mo_arena_free(&arena);
}

static void rewind_frees_what_came_after_the_mark(void **state) {
    (void)state;
    mo_arena arena = arena_of(1 << 20, NULL);
    assert_non_null(mo_arena_alloc(&arena, 100, 1));
    size_t mark = mo_arena_mark(&arena);
    void *first = mo_arena_alloc(&arena, 100, 1);
    test_ok(mo_arena_rewind(&arena, mark));
    assert_ptr_equal(mo_arena_alloc(&arena, 100, 1), first);
    assert_int_equal(stats_of(&arena).peak_bytes, 200);
    mo_arena_free(&arena);
}

static void rewind_to_a_later_mark_is_refused(void **state) {
    (void)state;
    mo_arena arena = arena_of(1 << 20, NULL);
    assert_non_null(mo_arena_alloc(&arena, 100, 1));
    assert_int_equal(mo_arena_rewind(&arena, 101), MO_E_INVALID);
    assert_int_equal(stats_of(&arena).used_bytes, 100);
    mo_arena_free(&arena);
}

static void alloc_zero_clears_used_memory(void **state) {
    (void)state;
    mo_arena arena = arena_of(1 << 20, NULL);
    memset(mo_arena_alloc(&arena, 1000, 1), 0xff, 1000);
    mo_arena_reset(&arena);
    const unsigned char *zero = mo_arena_alloc_zero(&arena, 2000, 1);
    for (int i = 0; i < 2000; i++) assert_int_equal(zero[i], 0);
    mo_arena_free(&arena);
}

static void trim_gives_memory_back_and_it_returns_as_zero(void **state) {
    (void)state;
    mo_arena arena = arena_of(1 << 22, NULL);
    memset(mo_arena_alloc(&arena, 1 << 20, 1), 0xff, 1 << 20);
    mo_arena_reset(&arena);
    assert_in_range(stats_of(&arena).committed_bytes, 1 << 20, 1 << 22);
    mo_arena_trim(&arena);
    assert_int_equal(stats_of(&arena).committed_bytes, 0);
    const unsigned char *zero = mo_arena_alloc_zero(&arena, 1 << 20, 1);
    for (int i = 0; i < 1 << 20; i += 997) assert_int_equal(zero[i], 0);
    mo_arena_free(&arena);
}

static void the_default_arena_is_large_and_costs_nothing(void **state) {
    (void)state;
    mo_arena arena;
    test_ok(mo_arena_init(&arena, NULL));
    assert_true(stats_of(&arena).limit_bytes >= (size_t)64 << 10);
    assert_int_equal(stats_of(&arena).committed_bytes, 0);
    assert_non_null(mo_arena_alloc(&arena, 1, 0));
    assert_int_equal(stats_of(&arena).committed_bytes, 64 << 10);
    mo_arena_free(&arena);
}

static void commits_double_and_never_pass_the_limit(void **state) {
    (void)state;
    size_t limit = ((size_t)1 << 20) + (64 << 10);
    mo_arena arena = arena_of(limit, NULL);
    assert_non_null(mo_arena_alloc(&arena, 1, 1));
    assert_int_equal(stats_of(&arena).committed_bytes, 64 << 10);
    assert_non_null(mo_arena_alloc(&arena, 65536, 1));
    assert_int_equal(stats_of(&arena).committed_bytes, 128 << 10);
    assert_non_null(mo_arena_alloc(&arena, 600 << 10, 1));
    assert_non_null(mo_arena_alloc(&arena, 400 << 10, 1));
    assert_in_range(stats_of(&arena).committed_bytes, 1 << 20, limit);
    mo_arena_free(&arena);
}

static void planned_ranges_raise_the_peak_to_the_byte(void **state) {
    (void)state;
    mo_arena arena = arena_of(100000, NULL);
    unsigned char *base = mo_arena_at(&arena, 0, 100);
    assert_ptr_equal(mo_arena_at(&arena, 5000, 77), base + 5000);
    assert_int_equal(stats_of(&arena).peak_bytes, 5077);
    assert_ptr_equal(mo_arena_at(&arena, 50, 1000), base + 50);
    assert_int_equal(stats_of(&arena).peak_bytes, 5077);
    assert_ptr_equal(mo_arena_alloc(&arena, 10, 1), base + 5077);
    assert_null(mo_arena_at(&arena, 99999, 2));
    assert_non_null(mo_arena_at(&arena, 99999, 1));
    assert_int_equal(stats_of(&arena).peak_bytes, 100000);
    mo_arena_free(&arena);
}

static void commit_backs_memory_up_to_the_limit(void **state) {
    (void)state;
    mo_arena arena = arena_of(1 << 20, NULL);
    test_ok(mo_arena_commit(&arena, 1 << 20));
    assert_int_equal(stats_of(&arena).committed_bytes, 1 << 20);
    assert_int_equal(stats_of(&arena).peak_bytes, 0);
    assert_int_equal(mo_arena_commit(&arena, (1 << 20) + 1), MO_E_NO_SPACE);
    mo_arena_free(&arena);
}

static void its_allocator_takes_back_only_the_most_recent_block(void **state) {
    (void)state;
    mo_arena arena = arena_of(1 << 20, NULL);
    mo_allocator allocator = mo_arena_allocator(&arena);
    void *a = mo_alloc(&allocator, 100, 64), *b = mo_alloc(&allocator, 50, 64);
    mo_free(&allocator, a, 100, 64);
    assert_int_equal(stats_of(&arena).used_bytes, 178);
    mo_free(&allocator, b, 50, 64);
    assert_int_equal(stats_of(&arena).used_bytes, 100);
    mo_free(&allocator, a, 100, 64);
    assert_int_equal(stats_of(&arena).used_bytes, 100);
    assert_ptr_equal(mo_alloc(&allocator, 50, 64), b);
    mo_arena_free(&arena);
}

static void bad_descs_are_refused(void **state) {
    (void)state;
    mo_arena arena;
    char byte;
    mo_arena_desc no_size = {.block = &byte}, too_large = {.size = SIZE_MAX};
    mo_arena_desc no_space = {.size = SIZE_MAX / 2};
    assert_int_equal(mo_arena_init(NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_arena_init(&arena, &no_size), MO_E_INVALID);
    assert_int_equal(mo_arena_init(&arena, &too_large), MO_E_NO_MEMORY);
    assert_int_equal(mo_arena_init(&arena, &no_space), MO_E_NO_MEMORY);
}

static void freeing_a_zeroed_arena_does_nothing(void **state) {
    (void)state;
    mo_arena arena;
    memset(&arena, 0, sizeof arena);
    mo_arena_free(&arena);
    assert_null(mo_arena_alloc(&arena, 1, 1));
}

/* Reading or writing there would end the program. */
static void tokens_are_addresses_without_memory(void **state) {
    (void)state;
    mo_arena arena;
    char byte;
    mo_arena_desc desc = {.size = (size_t)1 << 34, .tokens = 1};
    test_ok(mo_arena_init(&arena, &desc));
    unsigned char *a = mo_arena_alloc_zero(&arena, (size_t)1 << 33, 0);
    unsigned char *b = mo_arena_alloc(&arena, 100, 0);
    assert_ptr_equal(b, a + ((size_t)1 << 33));
    assert_ptr_equal(mo_arena_at(&arena, 512, 1), a + 512);
    test_ok(mo_arena_rewind(&arena, 0));
    assert_non_null(mo_arena_alloc_zero(&arena, 4096, 0));
    assert_null(mo_arena_alloc(&arena, (size_t)1 << 34, 0));
    assert_int_equal(mo_arena_status(&arena), MO_E_NO_SPACE);
    assert_int_equal(stats_of(&arena).committed_bytes, 0);
    assert_int_equal(stats_of(&arena).peak_bytes, ((size_t)1 << 33) + 100);
    mo_arena_free(&arena);
    mo_arena_desc both = {.block = &byte, .size = 1, .tokens = 1};
    assert_int_equal(mo_arena_init(&arena, &both), MO_E_INVALID);
}

/* ---- properties ---------------------------------------------------------------------------- */

/* Blocks carry a pattern; after random marks and rewinds all live ones must still hold it. */
static void random_marks_and_rewinds_keep_live_blocks_intact(void **state) {
    (void)state;
    enum { MAX = 200 };
    struct {
        unsigned char *at;
        size_t size, mark;
        unsigned char fill;
    } live[MAX];
    test_rng rng = test_rng_begin("arena");
    mo_arena arena = arena_of((size_t)1 << 20, NULL);
    size_t n = 0, peak = 0;
    for (int round = 0; round < 20000; round++) {
        if (n == MAX || (n > 0 && test_below(&rng, 10) == 0)) {
            n = test_below(&rng, n);
            test_ok(mo_arena_rewind(&arena, live[n].mark));
        } else {
            size_t size = 1 + test_below(&rng, 5000), align = (size_t)1 << test_below(&rng, 8);
            live[n].mark = mo_arena_mark(&arena);
            live[n].size = size;
            live[n].fill = (unsigned char)test_u64(&rng);
            int zero = test_below(&rng, 2) == 0;
            live[n].at = (zero ? mo_arena_alloc_zero : mo_arena_alloc)(&arena, size, align);
            if (!live[n].at) continue;
            assert_int_equal((uintptr_t)live[n].at % align, 0);
            for (size_t i = 0; zero && i < size; i++) assert_int_equal(live[n].at[i], 0);
            memset(live[n].at, live[n].fill, size);
            n++;
        }
        size_t used = stats_of(&arena).used_bytes;
        if (used > peak) peak = used;
        assert_int_equal(stats_of(&arena).peak_bytes, peak);
        size_t i = n ? test_below(&rng, n) : 0;
        for (size_t j = 0; n && j < live[i].size; j++)
            assert_int_equal(live[i].at[j], live[i].fill);
    }
    mo_arena_free(&arena);
}

#if defined(__SANITIZE_ADDRESS__)
int __asan_address_is_poisoned(void const volatile *addr);
static void memory_not_handed_out_is_poisoned(void **state) {
    (void)state;
    _Alignas(64) unsigned char block[256];
    mo_arena arena = arena_over(block, sizeof block);
    assert_true(__asan_address_is_poisoned(block));
    unsigned char *p = mo_arena_alloc(&arena, 13, 64);
    assert_false(__asan_address_is_poisoned(p + 12));
    assert_true(__asan_address_is_poisoned(p + 13));
    mo_arena_reset(&arena);
    assert_true(__asan_address_is_poisoned(p));
    assert_non_null(mo_arena_at(&arena, 64, 8));
    assert_false(__asan_address_is_poisoned(block + 64));
    assert_true(__asan_address_is_poisoned(block + 72));
    mo_arena_free(&arena);
    assert_false(__asan_address_is_poisoned(block + 255));
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_follow_each_other_at_their_alignment),
        cmocka_unit_test(alignment_is_of_the_address_not_of_the_offset),
        cmocka_unit_test(the_whole_block_can_be_used),
        cmocka_unit_test(a_full_arena_says_so_once_asked_and_in_the_log),
        cmocka_unit_test(senseless_requests_return_null_without_a_status),
        cmocka_unit_test(sizes_near_the_end_of_size_t_do_not_wrap),
        cmocka_unit_test(rewind_frees_what_came_after_the_mark),
        cmocka_unit_test(rewind_to_a_later_mark_is_refused),
        cmocka_unit_test(alloc_zero_clears_used_memory),
        cmocka_unit_test(trim_gives_memory_back_and_it_returns_as_zero),
        cmocka_unit_test(the_default_arena_is_large_and_costs_nothing),
        cmocka_unit_test(commits_double_and_never_pass_the_limit),
        cmocka_unit_test(planned_ranges_raise_the_peak_to_the_byte),
        cmocka_unit_test(commit_backs_memory_up_to_the_limit),
        cmocka_unit_test(its_allocator_takes_back_only_the_most_recent_block),
        cmocka_unit_test(bad_descs_are_refused),
        cmocka_unit_test(freeing_a_zeroed_arena_does_nothing),
        cmocka_unit_test(tokens_are_addresses_without_memory),
        cmocka_unit_test(random_marks_and_rewinds_keep_live_blocks_intact),
#if defined(__SANITIZE_ADDRESS__)
        cmocka_unit_test(memory_not_handed_out_is_poisoned),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
