/* test_base.c - mo_base: status codes, heap, hooks, instruction sets. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* popen, readlink */
#endif
#include "test_util.h"
#include <pthread.h>
#include <unistd.h>

/* ---- examples ------------------------------------------------------------------------------ */

static void every_status_has_its_name_and_a_text(void **state) {
    (void)state;
    static const struct {
        mo_status status;
        int value;
        const char *name;
    } all[] = {{MO_OK, 0, "MO_OK"}, {MO_E_INVALID, -1, "MO_E_INVALID"},
        {MO_E_OVERFLOW, -2, "MO_E_OVERFLOW"}, {MO_E_NO_MEMORY, -3, "MO_E_NO_MEMORY"},
        {MO_E_NO_SPACE, -4, "MO_E_NO_SPACE"}, {MO_E_NO_DEVICE_MEMORY, -5, "MO_E_NO_DEVICE_MEMORY"},
        {MO_E_IO, -6, "MO_E_IO"}, {MO_E_FORMAT, -7, "MO_E_FORMAT"},
        {MO_E_NOT_FOUND, -8, "MO_E_NOT_FOUND"}, {MO_E_UNSUPPORTED, -9, "MO_E_UNSUPPORTED"},
        {MO_E_STATE, -10, "MO_E_STATE"}};
    for (size_t i = 0; i < n_elements(all); i++) {
        assert_int_equal((int)all[i].status, all[i].value);
        assert_string_equal(mo_status_name(all[i].status), all[i].name);
        assert_true(strlen(mo_status_text(all[i].status)) > 3);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(mo_status_text(all[i].status), mo_status_text(all[j].status));
    }
}

#define COUNT_ONE(name, value, text) +1
static void the_list_of_statuses_has_no_other_code(void **state) {
    (void)state;
    assert_int_equal(0 MEMOPT_STATUS_LIST(COUNT_ONE), 11);
}

static void an_unknown_status_is_a_question_mark(void **state) {
    (void)state;
    assert_string_equal(mo_status_name((mo_status)-9999), "?");
    assert_string_equal(mo_status_text((mo_status)-9999), "?");
    assert_string_equal(mo_status_name((mo_status)1), "?");
}

static void version_is_the_three_macros(void **state) {
    (void)state;
    char version[64];
    snprintf(version, sizeof version, "%d.%d.%d", MEMOPT_VERSION_MAJOR, MEMOPT_VERSION_MINOR,
        MEMOPT_VERSION_PATCH);
    assert_string_equal(mo_version(), version);
}

static void every_category_has_a_name(void **state) {
    (void)state;
    assert_string_equal(mo_category_name(MO_CATEGORY_OTHER), "other");
    assert_string_equal(mo_category_name(MO_CATEGORY_INPUT), "input");
    for (int i = 0; i < MO_CATEGORY_COUNT; i++)
        assert_string_not_equal(mo_category_name((mo_category)i), "?");
    assert_string_equal(mo_category_name(MO_CATEGORY_COUNT), "?");
    assert_string_equal(mo_category_name((mo_category)-1), "?");
}

static void a_heap_block_of_no_bytes_is_refused(void **state) {
    (void)state;
    assert_null(mo_alloc(NULL, 0, 16));
}

static void an_alignment_that_is_no_power_of_two_is_refused(void **state) {
    (void)state;
    assert_null(mo_alloc(NULL, 64, 0));
    assert_null(mo_alloc(NULL, 64, 3));
    assert_null(mo_alloc(NULL, 64, 48));
}

static void a_size_that_overflows_is_refused(void **state) {
    (void)state;
    assert_null(mo_alloc(NULL, SIZE_MAX, 64));
    assert_null(mo_alloc(NULL, SIZE_MAX - 64, 64));
}

static void freeing_nothing_does_nothing(void **state) {
    (void)state;
    test_heap heap;
    mo_allocator a = test_heap_begin(&heap, -1);
    mo_free(NULL, NULL, 64, 64);
    mo_free(&a, NULL, 64, 64);
    assert_int_equal(heap.live_blocks, 0);
}

static void an_allocator_without_alloc_is_the_heap(void **state) {
    (void)state;
    const mo_allocator zero = {NULL, NULL, NULL};
    void *p = mo_alloc(&zero, 100, 64);
    assert_non_null(p);
    memset(p, 1, 100);
    mo_free(&zero, p, 100, 64);
}

static void an_allocator_gets_size_and_alignment_back(void **state) {
    (void)state;
    test_heap heap;
    mo_allocator a = test_heap_begin(&heap, -1);
    void *p = mo_alloc(&a, 1000, 256);
    assert_non_null(p);
    assert_int_equal(heap.live_bytes, 1000);
    mo_free(&a, p, 1000, 256);
    assert_int_equal(heap.live_bytes, 0);
    assert_null(mo_alloc(&a, 0, 64)); /* refused before the hook sees it */
    assert_int_equal(heap.n_requests, 1);
}

static void an_allocator_without_free_keeps_its_blocks(void **state) {
    (void)state;
    mo_allocator a = mo_allocator_heap();
    void *p = mo_alloc(&a, 8, 8);
    const mo_allocator no_free = {a.alloc, NULL, NULL};
    mo_free(&no_free, p, 8, 8);
    *(uint64_t *)p = 1; /* still there */
    mo_free(&a, p, 8, 8);
}

static void instruction_sets_have_names(void **state) {
    (void)state;
    assert_string_equal(mo_cpu_name(MO_CPU_SCALAR), "scalar");
    assert_string_equal(mo_cpu_name(MO_CPU_AVX2), "avx2");
    assert_string_equal(mo_cpu_name(MO_CPU_AVX512), "avx512");
    assert_string_equal(mo_cpu_name(MO_CPU_NEON), "neon");
    assert_string_equal(mo_cpu_name(MO_CPU_COUNT), "?");
    assert_string_equal(mo_cpu_name((mo_cpu)-1), "?");
}

static void scalar_and_the_best_set_are_always_there(void **state) {
    (void)state;
    assert_true(mo_cpu_has(MO_CPU_SCALAR));
    assert_true(mo_cpu_has(mo_cpu_best()));
    assert_false(mo_cpu_has(MO_CPU_COUNT));
    assert_false(mo_cpu_has((mo_cpu)-1));
    assert_true(mo_cpu_has(MO_CPU_AVX2) >= mo_cpu_has(MO_CPU_AVX512));
    assert_false(mo_cpu_has(MO_CPU_AVX2) && mo_cpu_has(MO_CPU_NEON));
}

static void select_takes_what_is_there_and_refuses_the_rest(void **state) {
    (void)state;
    const mo_cpu before = mo_cpu_current();
    for (int i = -1; i <= MO_CPU_COUNT; i++) {
        const mo_cpu cpu = (mo_cpu)i, current = mo_cpu_current();
        if (mo_cpu_has(cpu)) {
            test_ok(mo_cpu_select(cpu));
            assert_int_equal(mo_cpu_current(), cpu);
        } else {
            assert_int_equal(mo_cpu_select(cpu), MO_E_UNSUPPORTED);
            assert_int_equal(mo_cpu_current(), current);
        }
    }
    test_ok(mo_cpu_select(before));
}

/* What this program prints when it is started with "--cpu" and MEMOPT_CPU set to value. */
static const char *cpu_with_environment(const char *value) {
    static char line[64];
    char path[512], command[640];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0) return NULL;
    path[n] = 0;
    snprintf(command, sizeof command, "%s%s '%s' --cpu",
        value ? "MEMOPT_CPU=" : "unset MEMOPT_CPU;", value ? value : "", path);
    FILE *pipe = popen(command, "r");
    if (!pipe || !fgets(line, sizeof line, pipe)) line[0] = 0;
    if (pipe) pclose(pipe);
    line[strcspn(line, "\n")] = 0;
    return line;
}

static void the_environment_chooses_the_set(void **state) {
    (void)state;
    if (!cpu_with_environment("scalar")) skip();
    for (int i = 0; i < MO_CPU_COUNT; i++) {
        const char *name = mo_cpu_name((mo_cpu)i);
        const char *want = mo_cpu_has((mo_cpu)i) ? name : mo_cpu_name(mo_cpu_best());
        assert_string_equal(cpu_with_environment(name), want);
    }
}

static void an_unknown_or_missing_name_in_the_environment_means_the_best_set(void **state) {
    (void)state;
    if (!cpu_with_environment("scalar")) skip();
    assert_string_equal(cpu_with_environment("pentium"), mo_cpu_name(mo_cpu_best()));
    assert_string_equal(cpu_with_environment("''"), mo_cpu_name(mo_cpu_best()));
    assert_string_equal(cpu_with_environment(NULL), mo_cpu_name(mo_cpu_best()));
}

static void every_dtype_is_found_by_its_name(void **state) {
    (void)state;
    for (int i = 0; i < MO_DTYPE_COUNT; i++) {
        assert_int_equal(mo_dtype_find(mo_dtype_name((mo_dtype)i)), i);
        assert_in_range(mo_dtype_bits((mo_dtype)i), 4, 64);
    }
    assert_int_equal(mo_dtype_find("F33"), MO_DTYPE_COUNT);
    assert_string_equal(mo_dtype_name(MO_DTYPE_COUNT), "?");
    assert_int_equal(mo_dtype_bits(MO_DTYPE_COUNT), 0);
    assert_int_equal(mo_dtype_bits(MO_DTYPE_BF16), 16);
}

/* ---- parallel ------------------------------------------------------------------------------ */

enum { MOST_TASKS = 1000 };
typedef struct counts {
    int of[MOST_TASKS];
} counts;

/* each index has a place of its own, so that threads need no lock */
static void count_task(void *context, int i) { ((counts *)context)->of[i]++; }

static void assert_each_once(const counts *c, int n) {
    for (int i = 0; i < MOST_TASKS; i++) assert_int_equal(c->of[i], i < n ? 1 : 0);
}

typedef struct backwards {
    int n_calls, last_n;
} backwards;
static void run_backwards(void *self, int n, void (*task)(void *context, int i), void *context) {
    backwards *b = (backwards *)self;
    b->n_calls++;
    b->last_n = n;
    for (int i = n - 1; i >= 0; i--) task(context, i);
}

typedef struct pthread_job {
    void (*task)(void *context, int i);
    void *context;
    int first, step, n;
} pthread_job;
static void *run_share(void *arg) {
    pthread_job *job = (pthread_job *)arg;
    for (int i = job->first; i < job->n; i += job->step) job->task(job->context, i);
    return NULL;
}
static void run_pthreads(void *self, int n, void (*task)(void *context, int i), void *context) {
    pthread_t thread[4];
    pthread_job job[4];
    (void)self;
    for (int i = 0; i < 4; i++) {
        pthread_job one = {task, context, i, 4, n};
        job[i] = one;
        assert_int_equal(pthread_create(&thread[i], NULL, run_share, &job[i]), 0);
    }
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
}

static void a_custom_hook_is_the_one_that_runs(void **state) {
    (void)state;
    backwards b = {0, 0};
    const mo_parallel hook = {run_backwards, &b, 3};
    counts c = {{0}};
    mo_parallel_run(&hook, 17, count_task, &c);
    assert_each_once(&c, 17);
    assert_int_equal(b.n_calls, 1);
    assert_int_equal(b.last_n, 17);
    assert_int_equal(mo_parallel_threads(&hook), 3);
}

static void every_index_runs_once_on_any_number_of_threads(void **state) {
    (void)state;
    const int n[] = {0, 1, 2, 3, 7, 64, MOST_TASKS};
    for (size_t i = 0; i < n_elements(n); i++) {
        for (int threads = 0; threads <= 9; threads++) {
            const mo_parallel p = {NULL, NULL, threads};
            counts c = {{0}};
            mo_parallel_run(&p, n[i], count_task, &c);
            assert_each_once(&c, n[i]);
        }
        const mo_parallel hook = {run_pthreads, NULL, 4};
        counts c = {{0}}, by_default = {{0}};
        mo_parallel_run(&hook, n[i], count_task, &c);
        assert_each_once(&c, n[i]);
        mo_parallel_run(NULL, n[i], count_task, &by_default);
        assert_each_once(&by_default, n[i]);
    }
}

typedef struct range_counts {
    counts *c;
    size_t grain;
} range_counts;

static void count_range(const void *context, size_t begin, size_t end) {
    const range_counts *r = (const range_counts *)context;
    assert_true(begin < end);
    assert_int_equal(begin % r->grain, 0);
    for (; begin < end; begin++) count_task(r->c, (int)begin);
}

static void ranges_cover_every_index_once_and_begin_at_multiples_of_grain(void **state) {
    (void)state;
    const int n[] = {0, 1, 2, 3, 7, 64, MOST_TASKS};
    for (size_t i = 0; i < n_elements(n); i++)
        for (size_t grain = 0; grain < 9; grain++)
            for (int threads = 1; threads <= 5; threads++) {
                backwards b = {0, 0};
                const mo_parallel hook = {run_backwards, &b, threads};
                counts c = {{0}};
                const range_counts r = {&c, grain ? grain : 1};
                mo_parallel_for(&hook, (size_t)n[i], grain, count_range, &r);
                assert_each_once(&c, n[i]);
                assert_true(b.last_n <= threads);
            }
}

static void the_number_of_threads_is_at_least_one(void **state) {
    (void)state;
    const mo_parallel zero = {NULL, NULL, 0}, hook = {run_pthreads, NULL, 0};
    assert_true(mo_parallel_threads(NULL) >= 1);
    assert_true(mo_parallel_threads(&zero) >= 1);
    assert_int_equal(mo_parallel_threads(&hook), 1);
}

static void results_are_the_same_under_any_hook(void **state) {
    (void)state;
    enum { N = 100003 };
    test_rng r = test_rng_begin(__func__);
    float *x = (float *)malloc(N * sizeof *x);
    for (size_t i = 0; i < N; i++) x[i] = test_normal(&r);
    backwards b = {0, 0};
    const mo_parallel serial = {NULL, NULL, 1}, reversed = {run_backwards, &b, 5},
                      threads = {run_pthreads, NULL, 4};
    const double sum = mo_accum_square_sum(x, N, &serial);
    assert_true(sum == mo_accum_square_sum(x, N, &reversed));
    assert_true(sum == mo_accum_square_sum(x, N, &threads));
    assert_true(sum == mo_accum_square_sum(x, N, NULL));
    free(x);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void a_heap_block_is_aligned_and_writable(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (size_t align = 1; align <= 4096; align *= 2)
        for (int i = 0; i < 50; i++) {
            const size_t size = 1 + test_below(&r, 5000);
            unsigned char *p = (unsigned char *)mo_alloc(NULL, size, align);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % align, 0);
            memset(p, 0xa5, size);
            mo_free(NULL, p, size, align);
        }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_name_and_a_text),
        cmocka_unit_test(the_list_of_statuses_has_no_other_code),
        cmocka_unit_test(an_unknown_status_is_a_question_mark),
        cmocka_unit_test(version_is_the_three_macros),
        cmocka_unit_test(every_category_has_a_name),
        cmocka_unit_test(a_heap_block_of_no_bytes_is_refused),
        cmocka_unit_test(an_alignment_that_is_no_power_of_two_is_refused),
        cmocka_unit_test(a_size_that_overflows_is_refused),
        cmocka_unit_test(freeing_nothing_does_nothing),
        cmocka_unit_test(an_allocator_without_alloc_is_the_heap),
        cmocka_unit_test(an_allocator_gets_size_and_alignment_back),
        cmocka_unit_test(an_allocator_without_free_keeps_its_blocks),
        cmocka_unit_test(instruction_sets_have_names),
        cmocka_unit_test(scalar_and_the_best_set_are_always_there),
        cmocka_unit_test(select_takes_what_is_there_and_refuses_the_rest),
        cmocka_unit_test(the_environment_chooses_the_set),
        cmocka_unit_test(an_unknown_or_missing_name_in_the_environment_means_the_best_set),
        cmocka_unit_test(every_dtype_is_found_by_its_name),
        cmocka_unit_test(a_custom_hook_is_the_one_that_runs),
        cmocka_unit_test(every_index_runs_once_on_any_number_of_threads),
        cmocka_unit_test(ranges_cover_every_index_once_and_begin_at_multiples_of_grain),
        cmocka_unit_test(the_number_of_threads_is_at_least_one),
        cmocka_unit_test(results_are_the_same_under_any_hook),
        cmocka_unit_test(a_heap_block_is_aligned_and_writable),
    };
    if (argc == 2 && strcmp(argv[1], "--cpu") == 0) {
        puts(mo_cpu_name(mo_cpu_current()));
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
