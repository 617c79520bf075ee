/* test_cl_numeric.h - what the tests of kernels on a device share: the device under test, with a
 * heap; arrays on it at odd offsets.
 *
 * The environment chooses: MEMOPT_CL_DEVICE the device, TEST_CL_WORK_GROUP the work-items of a
 * group, TEST_CL_OPTIONS further options of the compiler, TEST_CL_SMALL fewer numbers. */
#ifndef TEST_CL_NUMERIC_H
#define TEST_CL_NUMERIC_H

#include "test_numeric.h"

typedef struct test_cl {
    mo_cl cl;
    mo_cl_heap heap;
    test_rng rng;
    mo_cl_mem blocks[64];
    size_t n_blocks;
} test_cl;

/* Sizes around everything that kernels cut at. */
static const size_t test_cl_sizes[] = {1, 2, 63, 64, 65, 255, 257, 1000, 4095, 4097, 16384, 16389};

/* The compiler was told to flush subnormal numbers: what needs them has other bits then. */
static inline int test_cl_flushes(void) {
    const char *options = getenv("TEST_CL_OPTIONS");
    return options && strstr(options, "denorms-are-zero");
}

/* The device is a simulator: a few numbers take it seconds. */
static inline int test_cl_small(void) { return getenv("TEST_CL_SMALL") != NULL; }

static inline void test_cl_say(void *self, mo_log_level level, const char *text) {
    (void)self;
    if (level == MO_LOG_ERROR && getenv("TEST_CL_LOG")) print_message("%s\n", text);
}

static int test_cl_setup(void **state) {
    static test_cl t;
    const char *group = getenv("TEST_CL_WORK_GROUP");
    const mo_log log = {test_cl_say, NULL};
    mo_cl_desc desc = {.device = NULL, .build_options = getenv("TEST_CL_OPTIONS"), .log = &log};
    mo_cl_device device;
    if (mo_cl_choose(NULL, &device, NULL) == MO_E_UNSUPPORTED) {
        print_message("no OpenCL device\n");
        *state = NULL;
        return 0;
    }
    memset(&t, 0, sizeof t);
    desc.work_group = group ? (size_t)atoi(group) : 0;
    if (mo_cl_init(&t.cl, &desc) != MO_OK) return -1;
    mo_cl_heap_desc heap = {.budget_bytes = (uint64_t)512 << 20};
    if (mo_cl_heap_init(&t.heap, &t.cl, &heap) != MO_OK) return -1;
    t.rng = test_rng_begin("cl");
    *state = &t;
    return 0;
}

static int test_cl_teardown(void **state) {
    test_cl *t = *state;
    if (!t) return 0;
    mo_cl_heap_free(&t->heap);
    mo_cl_free(&t->cl);
    return 0;
}

/* The group's device; the test is skipped when there is none. */
static inline test_cl *test_cl_of(void **state) {
    if (!*state) skip();
    return *state;
}

/* bytes of memory, offset bytes into a block. */
static inline mo_cl_mem test_cl_new(test_cl *t, size_t bytes, size_t offset) {
    mo_cl_mem block;
    assert_true(t->n_blocks < sizeof t->blocks / sizeof *t->blocks);
    test_ok(mo_cl_heap_alloc(&t->heap, bytes + offset + 1, MO_CATEGORY_OTHER, "test", &block));
    t->blocks[t->n_blocks++] = block;
    return mo_cl_part(&block, offset, bytes);
}
static inline mo_cl_mem test_cl_put(test_cl *t, const void *data, size_t bytes, size_t offset) {
    mo_cl_mem mem = test_cl_new(t, bytes, offset);
    test_ok(mo_cl_upload(&t->heap, MO_CL_COMPUTE, &mem, 0, data, bytes, NULL, NULL));
    return mem;
}
static inline void test_cl_get(test_cl *t, mo_cl_mem mem, void *data, size_t bytes) {
    test_ok(mo_cl_download(&t->heap, MO_CL_COMPUTE, data, &mem, 0, bytes, NULL, NULL));
}
static inline void test_cl_clear(test_cl *t) {
    while (t->n_blocks) test_ok(mo_cl_heap_dealloc(&t->heap, t->blocks[--t->n_blocks].handle));
}

/* for (int turn = 0; test_cl_next_double(t, &turn); turn++): the integers that stand in for double
 * are tested where there is double too. */
static inline int test_cl_next_double(test_cl *t, int *turn) {
    static int has;
    if (*turn == 0) has = t->cl.info.fp64;
    t->cl.info.fp64 = *turn == 0 ? has : 0;
    if (*turn < 2) return 1;
    t->cl.info.fp64 = has;
    return 0;
}

#endif
