/* test_cl_heap_debug.c - the heap's debug mode: what writes around a block is found. */
#include "test_cl.h"
#ifndef NO_OPENCL

typedef struct fixture {
    mo_cl cl;
    mo_cl_heap heap;
    test_log kept;
} fixture;

static void open_heap(fixture *f, int debug) {
    mo_log log = test_log_begin(&f->kept);
    mo_cl_heap_desc desc = {.budget_bytes = 65536, .max_allocs = 16, .debug = debug};
    test_open(&f->cl, "");
    f->cl.log = log;
    test_ok(mo_cl_heap_init(&f->heap, &f->cl, &desc));
}
static void close_heap(fixture *f) {
    mo_cl_heap_free(&f->heap);
    mo_cl_free(&f->cl);
}
static mo_cl_mem take(fixture *f, uint64_t size, const char *name) {
    mo_cl_mem mem;
    test_ok(mo_cl_heap_alloc(&f->heap, size, MO_CATEGORY_OTHER, name, &mem));
    return mem;
}
static mo_cl_heap_stats stats_of(const fixture *f) {
    mo_cl_heap_stats stats;
    mo_cl_heap_get_stats(&f->heap, &stats);
    return stats;
}

/* One byte, as a kernel that counts wrong writes it: distance bytes before or behind the block. */
static void write_around(fixture *f, mo_cl_mem mem, int behind, uint64_t distance) {
    const unsigned char byte = 1;
    mem.off = behind ? mem.off + mem.size + distance - 1 : mem.off - distance;
    mem.size = 1;
    test_ok(mo_cl_upload(&f->heap, MO_CL_COMPUTE, &mem, 0, &byte, 1, NULL, NULL));
}

static void each_block_has_a_buffer_that_goes_with_it(void **state) {
    (void)state;
    fixture f;
    open_heap(&f, 1);
    mo_cl_mem a = take(&f, 1000, "a"), b = take(&f, 60000, "b"), c;
    assert_ptr_not_equal(a.buffer, b.buffer);
    assert_int_equal(a.off % 512, 0);
    mo_cl_heap_stats stats = stats_of(&f);
    assert_int_equal(stats.n_buffers, 2);
    assert_int_equal(stats.reserved_bytes, 1024 + 60416); /* without the zones */
    assert_int_equal(stats.used_bytes, stats.reserved_bytes);
    assert_int_equal(mo_cl_heap_alloc(&f.heap, 5000, MO_CATEGORY_OTHER, "c", &c), MO_E_NO_SPACE);
    uint32_t words[250];
    test_ok(mo_cl_download(&f.heap, MO_CL_COMPUTE, words, &a, 0, sizeof words, NULL, NULL));
    for (int i = 0; i < 250; i++) assert_int_equal(words[i], 0xffffffffu);
    test_ok(mo_cl_fill_u32(&f.heap, MO_CL_COMPUTE, &a, 0, 250, 7, NULL, NULL));
    test_ok(mo_cl_heap_check(&f.heap));
    test_ok(mo_cl_heap_defrag(&f.heap, 0, NULL));
    test_ok(mo_cl_heap_dealloc(&f.heap, b.handle));
    assert_int_equal(stats_of(&f).n_buffers, 1);
    test_ok(mo_cl_heap_dealloc(&f.heap, a.handle));
    assert_int_equal(stats_of(&f).reserved_bytes, 0);
    assert_int_equal(stats_of(&f).n_damaged, 0);
    close_heap(&f);
}

static void a_byte_next_to_a_block_is_found(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 511, 512, 1000, 4096};
    static const uint64_t distances[] = {1, 2, 77, 512};
    fixture f;
    open_heap(&f, 1);
    for (size_t i = 0; i < n_elements(sizes); i++)
        for (size_t k = 0; k < 2 * n_elements(distances); k++) {
            char expected[160];
            const int behind = k % 2;
            const uint64_t distance = distances[k / 2];
            mo_cl_mem mem = take(&f, sizes[i], "weights");
            write_around(&f, mem, behind, distance);
            assert_int_equal(mo_cl_heap_check(&f.heap), MO_E_STATE);
            snprintf(expected, sizeof expected,
                "cl: block 'weights' of %llu bytes: something was written %llu bytes %s",
                (unsigned long long)sizes[i], (unsigned long long)distance,
                behind ? "behind its end" : "before its begin");
            assert_string_equal(f.kept.text, expected);
            assert_int_equal(mo_cl_heap_dealloc(&f.heap, mem.handle), MO_E_STATE);
            assert_int_equal(mo_cl_heap_dealloc(&f.heap, mem.handle), MO_E_INVALID); /* freed */
        }
    assert_int_equal(stats_of(&f).n_buffers, 0);
    assert_int_equal(stats_of(&f).n_damaged, 4 * n_elements(sizes) * n_elements(distances));
    close_heap(&f);
}

/* A kernel that takes one word too many. */
static void a_kernel_that_runs_over_is_found_at_the_end(void **state) {
    (void)state;
    fixture f;
    open_heap(&f, 1);
    mo_cl_mem mem = take(&f, 400, NULL), longer = mem;
    test_ok(mo_cl_fill_u32(&f.heap, MO_CL_COMPUTE, &mem, 0, 100, 0, NULL, NULL));
    test_ok(mo_cl_heap_check(&f.heap));
    longer.size += 4;
    test_ok(mo_cl_fill_u32(&f.heap, MO_CL_COMPUTE, &longer, 0, 101, 0, NULL, NULL));
    mo_cl_heap_free(&f.heap);
    assert_string_equal(
        f.kept.text, "cl: block '?' of 400 bytes: something was written 1 bytes behind its end");
    mo_cl_free(&f.cl);
}

static void the_environment_turns_it_on(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int debug;
    } cases[] = {{"1", 1}, {"0", 0}, {"", 0}, {"yes", 1}};
    for (size_t i = 0; i < n_elements(cases); i++) {
        fixture f;
        setenv("MEMOPT_CL_DEBUG", cases[i].text, 1);
        open_heap(&f, 0);
        unsetenv("MEMOPT_CL_DEBUG");
        mo_cl_mem a = take(&f, 100, NULL), b = take(&f, 100, NULL);
        assert_int_equal(a.buffer != b.buffer, cases[i].debug);
        test_ok(mo_cl_heap_check(&f.heap));
        close_heap(&f);
    }
    assert_int_equal(mo_cl_heap_check(NULL), MO_E_INVALID);
}

int main(void) {
    unsetenv("MEMOPT_CL_DEBUG");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_block_has_a_buffer_that_goes_with_it),
        cmocka_unit_test(a_byte_next_to_a_block_is_found),
        cmocka_unit_test(a_kernel_that_runs_over_is_found_at_the_end),
        cmocka_unit_test(the_environment_turns_it_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
