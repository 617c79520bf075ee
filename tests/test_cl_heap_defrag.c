/* test_cl_heap_defrag.c - blocks of device memory that move together, and the report when there is
 * no room. */
#include "test_cl.h"
#ifndef NO_OPENCL

enum { KIB = 1024, MIB = 1024 * 1024, BLOCK = 64 * KIB };

typedef struct fixture {
    mo_cl cl;
    mo_cl_heap heap;
} fixture;

static void open_heap(fixture *f, uint64_t budget, uint64_t buffer, const mo_allocator *allocator) {
    mo_cl_desc desc = {.device_id = test_device().id, .cache_folder = "", .allocator = allocator};
    mo_cl_heap_desc heap = {.budget_bytes = budget, .buffer_bytes = buffer, .max_allocs = 64};
    test_ok(mo_cl_init(&f->cl, &desc));
    test_ok(mo_cl_heap_init(&f->heap, &f->cl, &heap));
}
static void close_heap(fixture *f) {
    mo_cl_heap_free(&f->heap);
    mo_cl_free(&f->cl);
}
static mo_cl_heap_stats stats_of(const fixture *f) {
    mo_cl_heap_stats stats;
    mo_cl_heap_get_stats(&f->heap, &stats);
    assert_true(stats.reserved_bytes <= stats.budget_bytes);
    return stats;
}

/* A block whose words are seed, seed + 1 ... */
static mo_cl_mem take(fixture *f, uint64_t size, uint32_t seed) {
    mo_cl_mem mem;
    test_ok(mo_cl_heap_alloc(&f->heap, size, MO_CATEGORY_OTHER, "test", &mem));
    uint32_t *words = malloc(size);
    for (uint32_t i = 0; i < size / 4; i++) words[i] = seed + i;
    test_ok(mo_cl_upload(&f->heap, MO_CL_COMPUTE, &mem, 0, words, size, NULL, NULL));
    free(words);
    return mem;
}
static void assert_content(fixture *f, uint64_t handle, uint32_t seed) {
    mo_cl_mem mem;
    test_ok(mo_cl_heap_get(&f->heap, handle, &mem));
    assert_int_equal(mem.handle, handle);
    uint32_t *words = malloc(mem.size);
    test_ok(mo_cl_download(&f->heap, MO_CL_COMPUTE, words, &mem, 0, mem.size, NULL, NULL));
    for (uint32_t i = 0; i < mem.size / 4; i++)
        if (words[i] != seed + i) fail_msg("word %u is %u, not %u", i, words[i], seed + i);
    free(words);
}
static void drop(fixture *f, mo_cl_mem mem) { test_ok(mo_cl_heap_dealloc(&f->heap, mem.handle)); }

/* ---- moves --------------------------------------------------------------------------------- */

static void gaps_close_and_a_larger_block_fits(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem[16], large;
    mo_cl_heap_moved moved;
    open_heap(&f, MIB, MIB, NULL);
    for (uint32_t i = 0; i < 16; i++) mem[i] = take(&f, BLOCK, 1000000 * i);
    for (int i = 0; i < 16; i += 2) drop(&f, mem[i]);
    mo_cl_heap_stats before = stats_of(&f);
    assert_int_equal(before.largest_free_bytes, BLOCK);
    assert_true(before.fragmentation == 1 - 1.0 / 8);
    assert_int_equal(
        mo_cl_heap_alloc(&f.heap, 512 * KIB, MO_CATEGORY_OTHER, NULL, &large), MO_E_NO_SPACE);
    test_ok(mo_cl_heap_defrag(&f.heap, 0, &moved));
    assert_int_equal(moved.n_moves, 8);
    assert_int_equal(moved.bytes, 8 * BLOCK);
    assert_int_equal(moved.freed_bytes, 0);
    mo_cl_heap_stats after = stats_of(&f);
    assert_int_equal(after.largest_free_bytes, 512 * KIB);
    assert_true(after.fragmentation == 0);
    assert_int_equal(after.used_bytes, before.used_bytes);
    for (int i = 1; i < 16; i += 2) assert_content(&f, mem[i].handle, 1000000u * (uint32_t)i);
    large = take(&f, 512 * KIB, 5);
    for (int i = 1; i < 16; i += 2) assert_content(&f, mem[i].handle, 1000000u * (uint32_t)i);
    assert_content(&f, large.handle, 5);
    test_ok(mo_cl_heap_defrag(&f.heap, 0, &moved)); /* nothing left to do */
    assert_int_equal(moved.n_moves, 0);
    for (int i = 1; i < 16; i += 2) drop(&f, mem[i]);
    close_heap(&f);
}

/* Its new place overlaps the old one, by far or by little. */
static void a_block_slides_over_itself(void **state) {
    (void)state;
    fixture f;
    mo_cl_heap_moved moved;
    static const uint64_t gaps[] = {512, 1024, 5 * KIB, 100 * KIB, 300 * KIB};
    for (size_t k = 0; k < n_elements(gaps); k++) {
        open_heap(&f, MIB, MIB, NULL);
        mo_cl_mem gap = take(&f, gaps[k], 0), mem = take(&f, 300 * KIB + 4, 77), now;
        drop(&f, gap);
        test_ok(mo_cl_heap_defrag(&f.heap, 0, &moved));
        assert_int_equal(moved.n_moves, 1);
        test_ok(mo_cl_heap_get(&f.heap, mem.handle, &now));
        assert_int_equal(now.off, 0);
        assert_content(&f, mem.handle, 77);
        close_heap(&f);
    }
}

static void a_gap_that_is_not_worth_it_stays(void **state) {
    (void)state;
    fixture f;
    mo_cl_heap_moved moved;
    open_heap(&f, 4 * MIB, 4 * MIB, NULL);
    const size_t step = mo_cl_arena_align(&f.cl);                            /* of all blocks */
    mo_cl_mem gap = take(&f, step, 0), mem = take(&f, 2048 * step, 77), now; /* 2048 pieces */
    drop(&f, gap);
    test_ok(mo_cl_heap_defrag(&f.heap, 0, &moved));
    assert_int_equal(moved.n_moves, 0);
    test_ok(mo_cl_heap_get(&f.heap, mem.handle, &now));
    assert_memory_equal(&now, &mem, sizeof mem);
    close_heap(&f);
}

static void a_buffer_that_fits_into_others_is_released(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem[12];
    mo_cl_heap_moved moved;
    open_heap(&f, 3 * 4 * BLOCK, 4 * BLOCK, NULL); /* three buffers of four blocks */
    for (uint32_t i = 0; i < 12; i++) mem[i] = take(&f, BLOCK, 1000000 * i);
    static const int gone[] = {0, 2, 5, 6, 7, 9, 10};
    for (size_t k = 0; k < n_elements(gone); k++) {
        drop(&f, mem[gone[k]]);
        mem[gone[k]].handle = 0;
    }
    assert_int_equal(stats_of(&f).n_buffers, 3);
    test_ok(mo_cl_heap_defrag(&f.heap, 0, &moved));
    assert_int_equal(moved.freed_bytes, 4 * BLOCK);
    assert_int_equal(stats_of(&f).n_buffers, 2);
    assert_int_equal(stats_of(&f).reserved_bytes, 8 * BLOCK);
    for (uint32_t i = 0; i < 12; i++)
        if (mem[i].handle) assert_content(&f, mem[i].handle, 1000000 * i);
    /* Three of the five go: one buffer is enough. */
    drop(&f, mem[1]), drop(&f, mem[4]), drop(&f, mem[8]);
    test_ok(mo_cl_heap_defrag(&f.heap, 0, &moved));
    assert_int_equal(stats_of(&f).n_buffers, 1);
    assert_content(&f, mem[3].handle, 3000000);
    assert_content(&f, mem[11].handle, 11000000);
    drop(&f, mem[3]), drop(&f, mem[11]);
    test_ok(mo_cl_heap_defrag(&f.heap, 0, &moved));
    assert_int_equal(stats_of(&f).n_buffers, 0);
    close_heap(&f);
}

static void pinned_blocks_and_the_limit_of_bytes_hold(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem[8], now;
    mo_cl_heap_moved moved;
    open_heap(&f, 8 * BLOCK, 8 * BLOCK, NULL);
    for (uint32_t i = 0; i < 8; i++) mem[i] = take(&f, BLOCK, 1000000 * i);
    for (int i = 0; i < 8; i += 2) drop(&f, mem[i]);
    test_ok(mo_cl_heap_pin(&f.heap, mem[3].handle, 1));
    test_ok(mo_cl_heap_defrag(&f.heap, 2 * BLOCK, &moved));
    assert_int_equal(moved.bytes, 2 * BLOCK);
    test_ok(mo_cl_heap_get(&f.heap, mem[3].handle, &now));
    assert_memory_equal(&now, &mem[3], sizeof now);
    for (int i = 1; i < 8; i += 2) assert_content(&f, mem[i].handle, 1000000u * (uint32_t)i);
    test_ok(mo_cl_heap_pin(&f.heap, mem[3].handle, 0));
    test_ok(mo_cl_heap_defrag(&f.heap, 0, NULL));
    assert_int_equal(stats_of(&f).largest_free_bytes, 4 * BLOCK);
    for (int i = 1; i < 8; i += 2) assert_content(&f, mem[i].handle, 1000000u * (uint32_t)i);
    assert_int_equal(mo_cl_heap_pin(&f.heap, mem[0].handle, 1), MO_E_INVALID);
    assert_int_equal(mo_cl_heap_defrag(NULL, 0, NULL), MO_E_INVALID);
    /* A freed block's pin is gone with it. */
    test_ok(mo_cl_heap_pin(&f.heap, mem[7].handle, 1));
    drop(&f, mem[7]), drop(&f, mem[1]);
    mem[7] = take(&f, BLOCK, 9);
    close_heap(&f);
}

static void a_paged_array_finds_its_slots_again(void **state) {
    (void)state;
    fixture f;
    mo_cl_page page;
    mo_cl_heap_moved moved;
    mo_cl_mem mem;
    open_heap(&f, MIB, MIB, NULL);
    mo_cl_mem gap = take(&f, 100 * KIB, 0);
    mo_cl_page_desc desc = {.size = 5 * 4096, .page_bytes = 4096};
    test_ok(mo_cl_page_init(&page, &f.heap, &desc));
    test_ok(mo_cl_page_walk(&page, NULL, 5));
    for (uint32_t k = 0; k < 15; k++) {
        test_ok(mo_cl_page_acquire(&page, k % 5, MO_CL_OVERWRITE, &mem));
        test_ok(mo_cl_fill_u32(&f.heap, MO_CL_COMPUTE, &mem, 0, 1024, k, NULL, NULL));
        test_ok(mo_cl_page_release(&page, k % 5));
        if (k == 7) {
            drop(&f, gap);
            test_ok(mo_cl_heap_defrag(&f.heap, 0, &moved));
            assert_int_equal(moved.n_moves, 2);
        }
    }
    test_ok(mo_cl_page_sync(&page));
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(((uint32_t *)mo_cl_page_host(&page, i))[1023], 10 + i);
    mo_cl_page_free(&page);
    close_heap(&f);
}

enum { SLOTS = 30 };

static void random_heaps_keep_their_content(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem[SLOTS];
    uint32_t seeds[SLOTS];
    mo_cl_heap_moved moved;
    uint64_t n_moves = 0, n_freed = 0;
    test_rng rng = test_rng_begin("random defragmentation");
    const int n_rounds = getenv("TEST_CL_SMALL") ? 60 : 800;
    open_heap(&f, MIB, 128 * KIB, NULL);
    memset(mem, 0, sizeof mem);
    for (int round = 1; round <= n_rounds; round++) {
        const size_t i = test_below(&rng, SLOTS);
        if (mem[i].handle) {
            assert_content(&f, mem[i].handle, seeds[i]);
            drop(&f, mem[i]);
            mem[i].handle = 0;
        } else {
            const uint64_t size = 4 + 4 * test_below(&rng, 15 * KIB);
            seeds[i] = (uint32_t)round * 100000;
            mem[i] = take(&f, size, seeds[i]);
        }
        if (round % 20 != 0) continue;
        const mo_cl_heap_stats before = stats_of(&f);
        test_ok(mo_cl_heap_defrag(&f.heap, test_below(&rng, 3) * 100 * KIB, &moved));
        const mo_cl_heap_stats after = stats_of(&f);
        assert_int_equal(after.used_bytes, before.used_bytes);
        assert_int_equal(after.n_allocs, before.n_allocs);
        assert_int_equal(after.reserved_bytes, before.reserved_bytes - moved.freed_bytes);
        n_moves += moved.n_moves;
        n_freed += moved.freed_bytes;
        for (size_t k = 0; k < SLOTS; k++)
            if (mem[k].handle) assert_content(&f, mem[k].handle, seeds[k]);
    }
    assert_true(n_moves > 10);
    assert_true(n_freed > 0);
    close_heap(&f);
}

static void a_failing_allocation_moves_nothing(void **state) {
    (void)state;
    fixture f;
    test_heap host;
    mo_cl_heap_moved moved;
    mo_allocator allocator = test_heap_begin(&host, -1);
    open_heap(&f, MIB, MIB, &allocator);
    mo_cl_mem gap = take(&f, BLOCK, 0), mem = take(&f, BLOCK, 7), now;
    drop(&f, gap);
    host.fail_at = host.n_requests;
    assert_int_equal(mo_cl_heap_defrag(&f.heap, 0, &moved), MO_E_NO_MEMORY);
    test_ok(mo_cl_heap_get(&f.heap, mem.handle, &now));
    assert_memory_equal(&now, &mem, sizeof mem);
    test_ok(mo_cl_heap_defrag(&f.heap, 0, &moved));
    assert_content(&f, mem.handle, 7);
    close_heap(&f);
    assert_int_equal(host.live_blocks, 0);
}

/* ---- the report ---------------------------------------------------------------------------- */

typedef struct lines {
    char text[4096];
} lines;
static void keep_lines(void *self, mo_log_level level, const char *text) {
    lines *l = self;
    (void)level;
    const size_t n = strlen(l->text);
    snprintf(l->text + n, sizeof l->text - n, "%s\n", text);
}

static void the_report_shows_budget_buffers_and_fragmentation(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem[8], large;
    static lines kept;
    mo_log log = {keep_lines, &kept};
    open_heap(&f, 8 * BLOCK, 4 * BLOCK, NULL);
    for (uint32_t i = 0; i < 8; i++) mem[i] = take(&f, BLOCK, i);
    for (int i = 1; i < 7; i += 2) drop(&f, mem[i]);
    kept.text[0] = '\0';
    f.cl.log = log;
    assert_int_equal(
        mo_cl_heap_alloc(&f.heap, 2 * BLOCK, MO_CATEGORY_PARAM, "w", &large), MO_E_NO_SPACE);
    assert_string_equal(kept.text,
        "cl: no room for 131072 bytes: budget 524288, in 2 buffers 524288, used 327680 in 5 "
        "blocks, free 196608, largest free 65536, fragmentation 67 %; mo_cl_heap_defrag may make "
        "room\n"
        "cl:    1. buffer of 262144 bytes: used 196608 in 3 blocks, largest free 65536\n"
        "cl:    2. buffer of 262144 bytes: used 131072 in 2 blocks, largest free 65536\n");
    const mo_track_space space = mo_cl_heap_space("device", &f.heap);
    assert_string_equal(space.name, "device");
    assert_int_equal(space.reserved_bytes, 8 * BLOCK);
    assert_int_equal(space.used_bytes, 5 * BLOCK);
    assert_int_equal(space.peak_bytes, 8 * BLOCK);
    assert_int_equal(space.free_bytes, 3 * BLOCK);
    assert_int_equal(space.largest_free_bytes, BLOCK);
    assert_true(mo_track_fragmentation(&space) == 1 - 1.0 / 3);
    test_ok(mo_cl_heap_defrag(&f.heap, 0, NULL));
    test_ok(mo_cl_heap_alloc(&f.heap, 2 * BLOCK, MO_CATEGORY_PARAM, "w", &large));
    kept.text[0] = '\0';
    assert_int_equal(
        mo_cl_heap_alloc(&f.heap, 2 * BLOCK, MO_CATEGORY_PARAM, "w", &large), MO_E_NO_SPACE);
    assert_null(strstr(kept.text, "defrag"));
    close_heap(&f);
}

int main(void) {
    unsetenv("MEMOPT_CL_DEBUG");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaps_close_and_a_larger_block_fits),
        cmocka_unit_test(a_block_slides_over_itself),
        cmocka_unit_test(a_gap_that_is_not_worth_it_stays),
        cmocka_unit_test(a_buffer_that_fits_into_others_is_released),
        cmocka_unit_test(pinned_blocks_and_the_limit_of_bytes_hold),
        cmocka_unit_test(a_paged_array_finds_its_slots_again),
        cmocka_unit_test(random_heaps_keep_their_content),
        cmocka_unit_test(a_failing_allocation_moves_nothing),
        cmocka_unit_test(the_report_shows_budget_buffers_and_fragmentation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
