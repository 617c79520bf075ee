/* test_util.h - what every test file needs: cmocka, a seeded generator, an allocator that fails on
 * demand and counts what is live. */
#ifndef TEST_UTIL_H
#define TEST_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "memopt.h"

#define test_ok(call) assert_int_equal((call), MO_OK)
#define n_elements(a) (sizeof(a) / sizeof *(a))

/* splitmix64 */
typedef struct test_rng {
    uint64_t state;
} test_rng;
static inline uint64_t test_u64(test_rng *r) {
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static inline size_t test_below(test_rng *r, size_t n) { return (size_t)(test_u64(r) % n); }
static inline double test_uniform(test_rng *r) { return (double)(test_u64(r) >> 11) * 0x1p-53; }
/* mean 0, standard deviation near 1 (sum of uniforms) */
static inline float test_normal(test_rng *r) {
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += test_uniform(r);
    return (float)(sum - 6);
}
/* The seed of a property test: TEST_SEED of the environment, else a fixed one. Printed on failure
 * by test_rng_begin, so that a failing run can be repeated. */
static inline test_rng test_rng_begin(const char *what) {
    const char *text = getenv("TEST_SEED");
    test_rng r = {text ? strtoull(text, NULL, 0) : 20261120u};
    print_message("%s: TEST_SEED=%llu\n", what, (unsigned long long)r.state);
    return r;
}

/* An allocator over the heap that fails the k-th request (k counts from 0; -1 = never). */
typedef struct test_heap {
    int fail_at, n_requests;
    size_t live_blocks, live_bytes, peak_bytes;
} test_heap;
static inline void *test_heap_alloc(void *self, size_t size, size_t align) {
    test_heap *h = (test_heap *)self;
    if (h->n_requests++ == h->fail_at) return NULL;
    void *p = mo_alloc(NULL, size, align);
    if (p) h->live_blocks++, h->live_bytes += size;
    if (h->live_bytes > h->peak_bytes) h->peak_bytes = h->live_bytes;
    return p;
}
static inline void test_heap_free(void *self, void *ptr, size_t size, size_t align) {
    test_heap *h = (test_heap *)self;
    h->live_blocks--, h->live_bytes -= size;
    mo_free(NULL, ptr, size, align);
}
static inline mo_allocator test_heap_begin(test_heap *h, int fail_at) {
    memset(h, 0, sizeof *h);
    h->fail_at = fail_at;
    mo_allocator a = {test_heap_alloc, test_heap_free, h};
    return a;
}

/* A log hook that keeps the last message. */
typedef struct test_log {
    char text[1024];
    int n;
} test_log;
static inline void test_log_write(void *self, mo_log_level level, const char *text) {
    test_log *l = (test_log *)self;
    (void)level;
    l->n++;
    snprintf(l->text, sizeof l->text, "%s", text);
}
static inline mo_log test_log_begin(test_log *l) {
    memset(l, 0, sizeof *l);
    mo_log log = {test_log_write, l};
    return log;
}

#endif
