/* test_cl_heap.c - mo_cl_heap: blocks of device memory under a budget, and what is in them. */
#include "test_cl.h"

#ifndef NO_OPENCL

enum { KIB = 1024, MIB = 1024 * 1024 };

/* A device and a heap on it; the compiled kernels stay in memory only. */
typedef struct fixture {
    mo_cl cl;
    mo_cl_heap heap;
} fixture;

static void open_heap(fixture *f, const mo_cl_heap_desc *desc) {
    test_open(&f->cl, "");
    test_ok(mo_cl_heap_init(&f->heap, &f->cl, desc));
}
static void close_heap(fixture *f) {
    mo_cl_heap_free(&f->heap);
    mo_cl_free(&f->cl);
}

static mo_cl_heap_stats stats_of(const mo_cl_heap *heap) {
    mo_cl_heap_stats stats;
    mo_cl_heap_get_stats(heap, &stats);
    assert_true(stats.reserved_bytes <= stats.budget_bytes);
    assert_true(stats.used_bytes <= stats.reserved_bytes);
    return stats;
}

/* What a block takes: devices may ask for more than 512 bytes. */
static uint64_t rounded(const fixture *f, uint64_t size) {
    uint64_t align = 512;
    while (align < f->cl.info.base_align_bytes) align *= 2;
    return (size + align - 1) / align * align;
}

static mo_status take(fixture *f, uint64_t size, mo_cl_mem *mem) {
    return mo_cl_heap_alloc(&f->heap, size, MO_CATEGORY_OTHER, "test", mem);
}

/* ---- blocks -------------------------------------------------------------------------------- */

static void blocks_share_a_buffer_and_can_each_be_a_sub_buffer(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem[5];
    uint64_t used = 0;
    mo_cl_heap_desc desc = {.budget_bytes = 4 * MIB, .buffer_bytes = MIB};
    open_heap(&f, &desc);
    assert_int_equal(stats_of(&f.heap).n_buffers, 0);
    static const uint64_t sizes[] = {1, 513, 4096, 100003, 7};
    for (int i = 0; i < 5; i++) {
        test_ok(take(&f, sizes[i], &mem[i]));
        assert_ptr_equal(mem[i].buffer, mem[0].buffer);
        assert_int_equal(mem[i].size, sizes[i]);
        assert_int_equal(mem[i].off % 512, 0);
        used += rounded(&f, sizes[i]);
        assert_int_equal(mem[i].off % f.cl.info.base_align_bytes, 0);
        cl_buffer_region region = {(size_t)mem[i].off, (size_t)mem[i].size};
        cl_int code = CL_SUCCESS;
        cl_mem sub = clCreateSubBuffer(
            mem[i].buffer, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &region, &code);
        assert_int_equal(code, CL_SUCCESS);
        clReleaseMemObject(sub);
    }
    mo_cl_heap_stats stats = stats_of(&f.heap);
    assert_int_equal(stats.n_buffers, 1);
    assert_int_equal(stats.n_allocs, 5);
    assert_int_equal(stats.reserved_bytes, MIB);
    assert_int_equal(stats.used_bytes, used);
    for (int i = 0; i < 5; i++) test_ok(mo_cl_heap_dealloc(&f.heap, mem[i].handle));
    stats = stats_of(&f.heap);
    assert_int_equal(stats.used_bytes, 0);
    assert_int_equal(stats.largest_free_bytes, MIB);
    assert_int_equal(stats.peak_used_bytes, used);
    close_heap(&f);
}

static void a_stale_handle_is_recognized(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem, again, got;
    mo_cl_heap_desc desc = {.budget_bytes = MIB, .max_allocs = 2};
    open_heap(&f, &desc);
    test_ok(take(&f, 100, &mem));
    test_ok(mo_cl_heap_get(&f.heap, mem.handle, &got));
    assert_memory_equal(&got, &mem, sizeof mem);
    test_ok(mo_cl_heap_dealloc(&f.heap, mem.handle));
    test_ok(take(&f, 100, &again)); /* the same record and place */
    assert_int_equal(again.off, mem.off);
    assert_int_equal(mo_cl_heap_dealloc(&f.heap, mem.handle), MO_E_INVALID);
    assert_int_equal(mo_cl_heap_get(&f.heap, mem.handle, &got), MO_E_INVALID);
    assert_int_equal(mo_cl_heap_dealloc(&f.heap, 0), MO_E_INVALID);
    assert_int_equal(mo_cl_heap_dealloc(&f.heap, UINT64_MAX), MO_E_INVALID);
    test_ok(take(&f, 100, &mem));
    assert_int_equal(take(&f, 100, &got), MO_E_NO_SPACE); /* max_allocs */
    test_ok(mo_cl_heap_dealloc(&f.heap, again.handle));
    test_ok(take(&f, 100, &again));
    close_heap(&f);
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem;
    mo_cl_heap heap;
    open_heap(&f, NULL);
    assert_int_equal(mo_cl_heap_alloc(NULL, 1, MO_CATEGORY_OTHER, NULL, &mem), MO_E_INVALID);
    assert_int_equal(mo_cl_heap_alloc(&f.heap, 1, MO_CATEGORY_OTHER, NULL, NULL), MO_E_INVALID);
    assert_int_equal(take(&f, 0, &mem), MO_E_INVALID);
    assert_int_equal(mo_cl_heap_trim(NULL, NULL), MO_E_INVALID);
    mo_cl_heap_desc desc = {.align_bytes = 768};
    assert_int_equal(mo_cl_heap_init(&heap, &f.cl, &desc), MO_E_INVALID);
    desc.align_bytes = 4096;
    test_ok(mo_cl_heap_init(&heap, &f.cl, &desc));
    test_ok(mo_cl_heap_alloc(&heap, 1, MO_CATEGORY_OTHER, NULL, &mem));
    test_ok(mo_cl_heap_alloc(&heap, 1, MO_CATEGORY_OTHER, NULL, &mem));
    assert_int_equal(mem.off % 4096, 0);
    mo_cl_heap_free(&heap);
    close_heap(&f);
}

/* ---- budget -------------------------------------------------------------------------------- */

static void a_budget_is_enforced_before_a_buffer_is_created(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem first, second, third;
    test_log kept;
    mo_log log = test_log_begin(&kept);
    mo_cl_heap_desc desc = {.budget_bytes = 3 * MIB, .buffer_bytes = 2 * MIB};
    open_heap(&f, &desc);
    f.cl.log = log;
    test_ok(take(&f, 2 * MIB, &first));
    test_ok(take(&f, MIB, &second)); /* the last buffer takes what is left */
    assert_int_equal(stats_of(&f.heap).reserved_bytes, 3 * MIB);
    third.handle = 77;
    assert_int_equal(take(&f, 1, &third), MO_E_NO_SPACE);
    assert_int_equal(third.handle, 77);
    assert_int_equal(kept.n, 3); /* why, and each buffer: see test_cl_heap_defrag.c */
    assert_non_null(strstr(kept.text, "buffer of 2097152 bytes"));
    mo_cl_heap_stats stats = stats_of(&f.heap);
    assert_int_equal(stats.n_created, 2);
    assert_int_equal(stats.n_failed, 1);
    test_ok(mo_cl_heap_dealloc(&f.heap, second.handle));
    test_ok(take(&f, 1, &third)); /* a failure changes nothing */
    assert_int_equal(stats_of(&f.heap).n_created, 2);
    close_heap(&f);
}

static void empty_buffers_make_room_for_a_larger_block(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem small[3], large;
    mo_cl_heap_desc desc = {.budget_bytes = 3 * MIB, .buffer_bytes = MIB};
    open_heap(&f, &desc);
    for (int i = 0; i < 3; i++) test_ok(take(&f, MIB, &small[i]));
    for (int i = 0; i < 2; i++) test_ok(mo_cl_heap_dealloc(&f.heap, small[i].handle));
    test_ok(take(&f, 2 * MIB, &large));
    mo_cl_heap_stats stats = stats_of(&f.heap);
    assert_int_equal(stats.n_released, 2);
    assert_int_equal(stats.n_buffers, 2);
    assert_int_equal(stats.peak_reserved_bytes, 3 * MIB);
    close_heap(&f);
}

static void trim_releases_what_holds_no_block(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem a, b;
    uint64_t freed = 1;
    mo_cl_heap_desc desc = {.budget_bytes = 4 * MIB, .buffer_bytes = MIB};
    open_heap(&f, &desc);
    test_ok(mo_cl_heap_trim(&f.heap, &freed));
    assert_int_equal(freed, 0);
    test_ok(take(&f, MIB, &a));
    test_ok(take(&f, 10, &b));
    test_ok(mo_cl_heap_dealloc(&f.heap, a.handle));
    test_ok(mo_cl_heap_trim(&f.heap, &freed));
    assert_int_equal(freed, MIB);
    assert_int_equal(stats_of(&f.heap).reserved_bytes, MIB);
    test_ok(mo_cl_heap_dealloc(&f.heap, b.handle));
    test_ok(mo_cl_heap_trim(&f.heap, NULL));
    assert_int_equal(stats_of(&f.heap).reserved_bytes, 0);
    test_ok(take(&f, 10, &b));
    close_heap(&f);
}

static void a_budget_above_the_largest_allocation_takes_several_buffers(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem[5];
    test_open(&f.cl, "");
    f.cl.info.max_alloc_bytes = MIB + 100; /* as if the device had less */
    mo_cl_heap_desc desc = {.budget_bytes = 4 * MIB, .buffer_bytes = 64 * MIB};
    test_ok(mo_cl_heap_init(&f.heap, &f.cl, &desc));
    for (int i = 0; i < 4; i++) test_ok(take(&f, MIB - 100, &mem[i]));
    assert_int_equal(stats_of(&f.heap).n_buffers, 4);
    assert_int_equal(take(&f, MIB, &mem[4]), MO_E_NO_SPACE);
    assert_int_equal(take(&f, MIB + 513, &mem[4]), MO_E_UNSUPPORTED);
    assert_int_equal(take(&f, UINT64_MAX, &mem[4]), MO_E_UNSUPPORTED);
    assert_int_equal(stats_of(&f.heap).n_failed, 3);
    close_heap(&f);
}

static void the_environment_sets_the_budget_that_is_left_open(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {{"1048576", MIB}, {"3M", 3 * MIB}, {"5k", 5 * KIB}, {"2G", (uint64_t)2 << 30},
        {"M", 0}, {"12x", 0}, {"1MB", 0}, {"-1", 0}, {"0", 0}, {"99999999999999999999", 0},
        {"18446744073709551615G", 0}};
    mo_cl cl;
    mo_cl_heap heap;
    test_open(&cl, "");
    for (size_t i = 0; i < n_elements(cases); i++) {
        setenv("MEMOPT_CL_MEM", cases[i].text, 1);
        mo_status status = mo_cl_heap_init(&heap, &cl, NULL);
        unsetenv("MEMOPT_CL_MEM");
        assert_int_equal(status, cases[i].bytes ? MO_OK : MO_E_INVALID);
        if (status != MO_OK) continue;
        assert_int_equal(stats_of(&heap).budget_bytes, cases[i].bytes);
        mo_cl_heap_free(&heap);
    }
    test_ok(mo_cl_heap_init(&heap, &cl, NULL));
    assert_true(stats_of(&heap).budget_bytes < cl.info.global_bytes);
    assert_true(stats_of(&heap).budget_bytes >= cl.info.global_bytes / 2);
    mo_cl_heap_free(&heap);
    mo_cl_free(&cl);
}

/* ---- the track ----------------------------------------------------------------------------- */

static void the_track_knows_every_block_by_category(void **state) {
    (void)state;
    fixture f;
    mo_track track;
    mo_track_stats stats;
    mo_cl_mem a, b, c;
    test_log kept;
    mo_log log = test_log_begin(&kept);
    mo_track_desc track_desc = {.log = &log};
    test_ok(mo_track_init(&track, &track_desc));
    mo_cl_heap_desc desc = {.budget_bytes = MIB, .track = &track};
    open_heap(&f, &desc);
    test_ok(mo_cl_heap_alloc(&f.heap, 1000, MO_CATEGORY_PARAM, "wte", &a));
    test_ok(mo_cl_heap_alloc(&f.heap, 512 * KIB, MO_CATEGORY_GRAD, "grads", &b));
    mo_track_get_stats(&track, &stats);
    assert_int_equal(stats.by_category[MO_CATEGORY_PARAM].current_bytes, 1024);
    assert_int_equal(stats.by_category[MO_CATEGORY_GRAD].current_bytes, 512 * KIB);
    assert_int_equal(stats.total.current_bytes, stats_of(&f.heap).used_bytes);
    assert_int_equal(
        mo_cl_heap_alloc(&f.heap, 600 * KIB, MO_CATEGORY_OPTIMIZER, "m", &c), MO_E_NO_SPACE);
    assert_true(kept.n > 0); /* the report of what is held */
    mo_track_get_stats(&track, &stats);
    assert_int_equal(stats.n_failed, 1);
    assert_int_equal(stats.total.n_current, 2);
    test_ok(mo_cl_heap_dealloc(&f.heap, a.handle));
    mo_track_get_stats(&track, &stats);
    assert_int_equal(stats.by_category[MO_CATEGORY_PARAM].current_bytes, 0);
    close_heap(&f); /* with b in it */
    mo_track_get_stats(&track, &stats);
    assert_int_equal(stats.total.n_current, 0);
    mo_track_free(&track);
}

static void the_budget_of_the_track_counts_too(void **state) {
    (void)state;
    fixture f;
    mo_track track;
    mo_cl_mem mem;
    mo_track_desc track_desc = {.budget_bytes = 5000};
    test_ok(mo_track_init(&track, &track_desc));
    mo_cl_heap_desc desc = {.budget_bytes = MIB, .track = &track};
    open_heap(&f, &desc);
    assert_int_equal(take(&f, 5001, &mem), MO_E_NO_SPACE);
    assert_int_equal(stats_of(&f.heap).n_buffers, 0);
    test_ok(take(&f, 500, &mem));
    close_heap(&f);
    mo_track_free(&track);
}

/* ---- content ------------------------------------------------------------------------------- */

static void odd_sizes_and_offsets_come_back_as_they_went(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem;
    test_rng rng = test_rng_begin("odd transfers");
    enum { SIZE = 100003 };
    static unsigned char sent[SIZE], got[SIZE];
    mo_cl_heap_desc desc = {.budget_bytes = MIB};
    open_heap(&f, &desc);
    test_ok(take(&f, 4097, &mem)); /* so that the next one does not begin at 0 */
    test_ok(take(&f, SIZE, &mem));
    for (int i = 0; i < SIZE; i++) sent[i] = (unsigned char)test_u64(&rng);
    test_ok(mo_cl_upload(&f.heap, MO_CL_COMPUTE, &mem, 0, sent, SIZE, NULL, NULL));
    for (int round = 0; round < 50; round++) {
        size_t off = test_below(&rng, SIZE), size = test_below(&rng, SIZE - off + 1);
        mo_cl_queue queue = (mo_cl_queue)(round % 2);
        for (size_t i = 0; i < size; i++) sent[off + i] ^= (unsigned char)round;
        test_ok(mo_cl_upload(&f.heap, queue, &mem, off, sent + off, size, NULL, NULL));
        memset(got, 0, sizeof got);
        test_ok(mo_cl_download(&f.heap, queue, got, &mem, 0, SIZE, NULL, NULL));
        assert_memory_equal(got, sent, SIZE);
    }
    assert_int_equal(
        mo_cl_upload(&f.heap, MO_CL_COMPUTE, &mem, 1, sent, SIZE, NULL, NULL), MO_E_INVALID);
    assert_int_equal(
        mo_cl_download(&f.heap, MO_CL_COMPUTE, got, &mem, SIZE + 1, 0, NULL, NULL), MO_E_INVALID);
    assert_int_equal(
        mo_cl_upload(&f.heap, MO_CL_COMPUTE, &mem, UINT64_MAX, sent, 2, NULL, NULL), MO_E_INVALID);
    close_heap(&f);
}

static void a_chain_of_events_runs_over_both_queues(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem a, b;
    enum { N = 50001 };
    static uint32_t sent[N], got[N];
    cl_event events[3];
    mo_cl_heap_desc desc = {.budget_bytes = MIB};
    open_heap(&f, &desc);
    test_ok(take(&f, sizeof sent, &a));
    test_ok(take(&f, sizeof sent, &b));
    for (uint32_t i = 0; i < N; i++) sent[i] = i * 2654435761u;
    test_ok(mo_cl_upload(&f.heap, MO_CL_TRANSFER, &a, 0, sent, sizeof sent, NULL, &events[0]));
    mo_cl_wait_list after_upload = {&events[0], 1}, after_copy = {&events[1], 1};
    test_ok(mo_cl_copy_u32(&f.heap, MO_CL_COMPUTE, &b, 0, &a, 0, N, &after_upload, &events[1]));
    test_ok(mo_cl_flush(&f.cl, MO_CL_COMPUTE));
    test_ok(
        mo_cl_download(&f.heap, MO_CL_TRANSFER, got, &b, 0, sizeof got, &after_copy, &events[2]));
    test_ok(mo_cl_wait(&f.cl, 3, events));
    assert_memory_equal(sent, got, sizeof sent);
    for (int i = 0; i < 3; i++) clReleaseEvent(events[i]);
    mo_cl_wait_list bad = {NULL, 1};
    assert_int_equal(
        mo_cl_copy_u32(&f.heap, MO_CL_COMPUTE, &b, 0, &a, 0, N, &bad, NULL), MO_E_INVALID);
    close_heap(&f);
}

/* Words around the ends of a tile of the kernels; the words beside the range stay. */
static void fill_and_copy_touch_exactly_their_range(void **state) {
    (void)state;
    static const size_t counts[] = {0, 1, 2, 63, 64, 65, 16383, 16384, 16385, 32768, 40001};
    enum { N = 40100 };
    static uint32_t x[N], y[N];
    fixture f;
    mo_cl_mem a, b;
    mo_cl_heap_desc desc = {.budget_bytes = MIB};
    open_heap(&f, &desc);
    test_ok(take(&f, sizeof x, &a));
    test_ok(take(&f, sizeof y, &b));
    for (size_t i = 0; i < n_elements(counts); i++) {
        const size_t n = counts[i], at = 7 + i, to = 3 * i;
        const uint32_t value = 0xdeadbe00u + (uint32_t)i;
        mo_cl_heap *heap = &f.heap;
        test_ok(mo_cl_fill_u32(heap, MO_CL_COMPUTE, &a, 0, N, 1, NULL, NULL));
        test_ok(mo_cl_fill_u32(heap, MO_CL_COMPUTE, &b, 0, N, 2, NULL, NULL));
        test_ok(mo_cl_fill_u32(heap, MO_CL_COMPUTE, &a, 4 * at, n, value, NULL, NULL));
        test_ok(mo_cl_copy_u32(heap, MO_CL_COMPUTE, &b, 4 * to, &a, 4 * at, n, NULL, NULL));
        test_ok(mo_cl_download(heap, MO_CL_COMPUTE, x, &a, 0, sizeof x, NULL, NULL));
        test_ok(mo_cl_download(heap, MO_CL_COMPUTE, y, &b, 0, sizeof y, NULL, NULL));
        for (size_t k = 0; k < N; k++) {
            if (x[k] != (k >= at && k < at + n ? value : 1)) fail_msg("fill %zu at %zu", n, k);
            if (y[k] != (k >= to && k < to + n ? value : 2)) fail_msg("copy %zu at %zu", n, k);
        }
    }
    assert_int_equal(mo_cl_fill_u32(&f.heap, MO_CL_COMPUTE, &a, 2, 1, 0, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_fill_u32(&f.heap, MO_CL_COMPUTE, &a, 4, N, 0, NULL, NULL), MO_E_INVALID);
    assert_int_equal(
        mo_cl_fill_u32(&f.heap, MO_CL_COMPUTE, &a, 0, UINT64_MAX / 2, 0, NULL, NULL), MO_E_INVALID);
    close_heap(&f);
}

static void a_copy_within_a_block_must_not_overlap(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem;
    unsigned char bytes[64], got[64];
    mo_cl_heap_desc desc = {.budget_bytes = MIB};
    open_heap(&f, &desc);
    test_ok(take(&f, 64, &mem));
    for (int i = 0; i < 64; i++) bytes[i] = (unsigned char)i;
    test_ok(mo_cl_upload(&f.heap, MO_CL_COMPUTE, &mem, 0, bytes, 64, NULL, NULL));
    assert_int_equal(
        mo_cl_copy(&f.heap, MO_CL_COMPUTE, &mem, 12, &mem, 1, 12, NULL, NULL), MO_E_INVALID);
    assert_int_equal(
        mo_cl_copy_u32(&f.heap, MO_CL_COMPUTE, &mem, 4, &mem, 8, 2, NULL, NULL), MO_E_INVALID);
    test_ok(mo_cl_copy(&f.heap, MO_CL_COMPUTE, &mem, 33, &mem, 2, 31, NULL, NULL));
    memcpy(bytes + 33, bytes + 2, 31);
    test_ok(mo_cl_download(&f.heap, MO_CL_COMPUTE, got, &mem, 0, 64, NULL, NULL));
    assert_memory_equal(got, bytes, 64);
    close_heap(&f);
}

static void a_mapping_shows_and_changes_the_block(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem;
    unsigned char got[1000];
    void *ptr = NULL;
    mo_cl_heap_desc desc = {.budget_bytes = MIB};
    open_heap(&f, &desc);
    test_ok(take(&f, 700, &mem));
    test_ok(take(&f, 1000, &mem));
    test_ok(mo_cl_fill_u32(&f.heap, MO_CL_COMPUTE, &mem, 0, 250, 0x01010101u, NULL, NULL));
    mo_cl_heap *heap = &f.heap;
    test_ok(mo_cl_map(heap, MO_CL_COMPUTE, &mem, 3, 990, MO_CL_WRITE, NULL, &ptr));
    unsigned char *bytes = ptr;
    for (int i = 0; i < 990; i++) assert_int_equal(bytes[i]++, 1);
    test_ok(mo_cl_unmap(heap, MO_CL_COMPUTE, &mem, ptr, NULL));
    test_ok(mo_cl_map(heap, MO_CL_COMPUTE, &mem, 0, 2, MO_CL_OVERWRITE, NULL, &ptr));
    memset(ptr, 9, 2);
    test_ok(mo_cl_unmap(heap, MO_CL_COMPUTE, &mem, ptr, NULL));
    test_ok(mo_cl_download(heap, MO_CL_COMPUTE, got, &mem, 0, 1000, NULL, NULL));
    for (int i = 0; i < 1000; i++) assert_int_equal(got[i], i < 2 ? 9 : i >= 3 && i < 993 ? 2 : 1);
    assert_int_equal(
        mo_cl_map(heap, MO_CL_COMPUTE, &mem, 0, 0, MO_CL_READ, NULL, &ptr), MO_E_INVALID);
    assert_int_equal(
        mo_cl_map(heap, MO_CL_COMPUTE, &mem, 0, 1001, MO_CL_READ, NULL, &ptr), MO_E_INVALID);
    assert_int_equal(
        mo_cl_map(heap, MO_CL_COMPUTE, &mem, 0, 1, MO_CL_ACCESS_COUNT, NULL, &ptr), MO_E_INVALID);
    close_heap(&f);
}

/* ---- properties ---------------------------------------------------------------------------- */

enum { SLOTS = 40 };

static void check_value(fixture *f, const mo_cl_mem *mem, uint32_t value) {
    static uint32_t words[128 * KIB];
    const size_t n = (size_t)mem->size / 4;
    test_ok(mo_cl_download(&f->heap, MO_CL_COMPUTE, words, mem, 0, 4 * n, NULL, NULL));
    for (size_t i = 0; i < n; i++)
        if (words[i] != value) fail_msg("word %zu of %zu is %u, not %u", i, n, words[i], value);
}

static void random_blocks_keep_their_content_within_the_budget(void **state) {
    (void)state;
    fixture f;
    mo_cl_mem mem[SLOTS];
    uint32_t values[SLOTS], n_refused = 0;
    test_rng rng = test_rng_begin("random blocks");
    mo_cl_heap_desc desc = {.budget_bytes = 2 * MIB + 300, .buffer_bytes = 512 * KIB};
    open_heap(&f, &desc);
    memset(mem, 0, sizeof mem);
    for (uint32_t round = 1; round <= 600; round++) {
        size_t i = test_below(&rng, SLOTS);
        if (mem[i].handle) {
            check_value(&f, &mem[i], values[i]);
            test_ok(mo_cl_heap_dealloc(&f.heap, mem[i].handle));
            mem[i].handle = 0;
        } else {
            const uint64_t largest = test_below(&rng, 10) ? 100 * KIB : 512 * KIB;
            const uint64_t size = 1 + test_below(&rng, (size_t)largest);
            mo_status status = take(&f, size, &mem[i]);
            n_refused += status != MO_OK;
            assert_true(status == MO_OK || status == MO_E_NO_SPACE);
            if (status != MO_OK) continue;
            values[i] = round;
            test_ok(
                mo_cl_fill_u32(&f.heap, MO_CL_COMPUTE, &mem[i], 0, size / 4, round, NULL, NULL));
        }
        mo_cl_heap_stats stats = stats_of(&f.heap);
        uint64_t used = 0;
        for (size_t k = 0; k < SLOTS; k++)
            if (mem[k].handle) used += rounded(&f, mem[k].size);
        assert_int_equal(stats.used_bytes, used);
    }
    assert_true(n_refused > 0);
    for (size_t i = 0; i < SLOTS; i++)
        if (mem[i].handle) check_value(&f, &mem[i], values[i]);
    close_heap(&f);
}

/* ---- two devices --------------------------------------------------------------------------- */

static void two_sub_devices_are_two_devices(void **state) {
    (void)state;
    const mo_cl_device device = test_device();
    const cl_device_partition_property equally[] = {CL_DEVICE_PARTITION_EQUALLY, 1, 0};
    cl_device_id ids[2];
    cl_uint n = 0;
    clGetDeviceInfo(device.id, CL_DEVICE_PARTITION_MAX_SUB_DEVICES, sizeof n, &n, NULL);
    if (n < 2) skip();
    if (clCreateSubDevices(device.id, equally, 0, NULL, &n) != CL_SUCCESS || n != 2) skip();
    assert_int_equal(clCreateSubDevices(device.id, equally, 2, ids, NULL), CL_SUCCESS);
    cl_context context = clCreateContext(NULL, 2, ids, NULL, NULL, NULL);
    assert_non_null(context);
    test_folder folder = test_folder_make();
    mo_cl cl[2];
    mo_cl_heap heap[2];
    mo_cl_mem mem[2];
    for (int i = 0; i < 2; i++) {
        mo_cl_desc desc = {.context = context, .device_id = ids[i], .cache_folder = folder.path};
        mo_cl_heap_desc heap_desc = {.budget_bytes = MIB};
        test_ok(mo_cl_init(&cl[i], &desc));
        assert_int_equal(cl[i].info.compute_units, 1);
        test_ok(mo_cl_heap_init(&heap[i], &cl[i], &heap_desc));
        test_ok(mo_cl_heap_alloc(&heap[i], 400000, MO_CATEGORY_OTHER, NULL, &mem[i]));
        test_ok(mo_cl_fill_u32(
            &heap[i], MO_CL_COMPUTE, &mem[i], 0, 100000, 5u + (uint32_t)i, NULL, NULL));
    }
    /* In one context a block of one device can be read by the other, after its last command. */
    static uint32_t words[100000];
    test_ok(mo_cl_sync(&cl[0], MO_CL_COMPUTE));
    test_ok(mo_cl_copy_u32(&heap[1], MO_CL_COMPUTE, &mem[1], 0, &mem[0], 0, 50000, NULL, NULL));
    test_ok(mo_cl_download(&heap[1], MO_CL_COMPUTE, words, &mem[1], 0, 400000, NULL, NULL));
    for (int i = 0; i < 100000; i++) assert_int_equal(words[i], i < 50000 ? 5 : 6);
    assert_int_equal(cl[1].program_stats.n_disk, 1); /* they share a cache */
    for (int i = 0; i < 2; i++) {
        mo_cl_heap_free(&heap[i]);
        mo_cl_free(&cl[i]);
        clReleaseDevice(ids[i]);
    }
    clReleaseContext(context);
    test_folder_remove(&folder);
}

/* ---- failing allocations ------------------------------------------------------------------- */

/* Two buffers, a kernel, and everything freed. */
static mo_status use_heap(mo_cl *cl) {
    mo_cl_heap heap;
    mo_cl_mem a, b;
    mo_cl_heap_desc desc = {.budget_bytes = MIB, .buffer_bytes = 64 * KIB, .max_allocs = 16};
    mo_status status = mo_cl_heap_init(&heap, cl, &desc);
    if (status != MO_OK) return status;
    status = mo_cl_heap_alloc(&heap, 60000, MO_CATEGORY_OTHER, NULL, &a);
    if (status == MO_OK) status = mo_cl_heap_alloc(&heap, 60000, MO_CATEGORY_OTHER, NULL, &b);
    if (status == MO_OK) status = mo_cl_fill_u32(&heap, MO_CL_COMPUTE, &b, 0, 15000, 1, NULL, NULL);
    assert_int_equal(stats_of(&heap).n_buffers <= 2, 1);
    mo_cl_heap_free(&heap);
    return status;
}

static void every_failing_allocation_is_a_status_and_leaks_nothing(void **state) {
    (void)state;
    test_heap host;
    mo_cl cl;
    int fits = 0, n_failed = 0;
    for (int k = 0; !fits; k++) {
        mo_allocator allocator = test_heap_begin(&host, -1);
        mo_cl_desc desc = {
            .device_id = test_device().id, .cache_folder = "", .allocator = &allocator};
        test_ok(mo_cl_init(&cl, &desc));
        host.fail_at = host.n_requests + k;
        mo_status status = use_heap(&cl);
        assert_true(status == MO_OK || status == MO_E_NO_MEMORY);
        fits = host.n_requests <= host.fail_at;
        assert_int_equal(status == MO_OK, fits);
        n_failed += status != MO_OK;
        mo_cl_free(&cl);
        assert_int_equal(host.live_blocks, 0);
    }
    assert_true(n_failed >= 7); /* blocks, 2 buffers and their books, options, program, kernels */
}

int main(void) {
    unsetenv("MEMOPT_CL_DEBUG");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_share_a_buffer_and_can_each_be_a_sub_buffer),
        cmocka_unit_test(a_stale_handle_is_recognized),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(a_budget_is_enforced_before_a_buffer_is_created),
        cmocka_unit_test(empty_buffers_make_room_for_a_larger_block),
        cmocka_unit_test(trim_releases_what_holds_no_block),
        cmocka_unit_test(a_budget_above_the_largest_allocation_takes_several_buffers),
        cmocka_unit_test(the_environment_sets_the_budget_that_is_left_open),
        cmocka_unit_test(the_track_knows_every_block_by_category),
        cmocka_unit_test(the_budget_of_the_track_counts_too),
        cmocka_unit_test(odd_sizes_and_offsets_come_back_as_they_went),
        cmocka_unit_test(a_chain_of_events_runs_over_both_queues),
        cmocka_unit_test(fill_and_copy_touch_exactly_their_range),
        cmocka_unit_test(a_copy_within_a_block_must_not_overlap),
        cmocka_unit_test(a_mapping_shows_and_changes_the_block),
        cmocka_unit_test(random_blocks_keep_their_content_within_the_budget),
        cmocka_unit_test(two_sub_devices_are_two_devices),
        cmocka_unit_test(every_failing_allocation_is_a_status_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
