/* test_numeric.h - what the tests of kernels share: arrays, instruction sets, errors, golden files.
 * */
#ifndef TEST_NUMERIC_H
#define TEST_NUMERIC_H

#include "test_util.h"
#include <math.h>

#ifndef TEST_DATA
#define TEST_DATA "tests/data"
#endif

/* n elements of exactly that size, so that a sanitizer sees one too many; free() them. */
static inline void *test_array(size_t n, size_t size) {
    void *p = malloc(n == 0 ? 1 : n * size);
    assert_non_null(p);
    return p;
}
static inline float *test_floats(size_t n) { return (float *)test_array(n, sizeof(float)); }
static inline double *test_doubles(size_t n) { return (double *)test_array(n, sizeof(double)); }
static inline float *test_normals(test_rng *r, size_t n, float scale) {
    float *x = test_floats(n);
    for (size_t i = 0; i < n; i++) x[i] = test_normal(r) * scale;
    return x;
}
static inline float *test_copy(const float *x, size_t n) {
    float *y = test_floats(n);
    if (n) memcpy(y, x, n * sizeof *x);
    return y;
}
static inline void assert_same_bits(const void *a, const void *b, size_t bytes) {
    if (bytes) assert_memory_equal(a, b, bytes);
}

static inline uint32_t test_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float test_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* largest |x - ref| over the largest |ref|: the error that a sum of terms of one size can have */
static inline double test_error(const float *x, const double *ref, size_t n) {
    double most = 0, error = 0;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs(ref[i]));
        if (!(fabs((double)x[i] - ref[i]) <= error)) error = fabs((double)x[i] - ref[i]);
    }
    return most > 0 ? error / most : error;
}
static inline void assert_error_below(double error, double bar) {
    if (!(error <= bar)) print_message("error %.3g, allowed %.3g\n", error, bar);
    assert_true(error <= bar);
}

/* Instruction sets: for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) runs with each one that
 * is here, and sets the initial one again at the end. */
static inline int test_next_cpu(int *cpu, mo_cpu initial) {
    for (; *cpu < MO_CPU_COUNT; ++*cpu)
        if (mo_cpu_select((mo_cpu)*cpu) == MO_OK) return 1;
    test_ok(mo_cpu_select(initial));
    return 0;
}
static inline mo_parallel test_threads(int n) {
    mo_parallel p = {NULL, NULL, n};
    return p;
}

/* A golden file: its bytes, to free(), and how many elements of that size. */
static inline void *test_golden(const char *name, size_t size, size_t *n) {
    char path[512];
    const char *folder = getenv("TEST_DATA");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : TEST_DATA, name);
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("cannot open %s; run from the repository root or set TEST_DATA", path);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long bytes = ftell(file);
    rewind(file);
    void *data = test_array((size_t)bytes, 1);
    assert_int_equal(fread(data, 1, (size_t)bytes, file), bytes);
    fclose(file);
    *n = (size_t)bytes / size;
    return data;
}

static inline uint64_t test_fnv1a(const void *data, size_t bytes) {
    const unsigned char *p = (const unsigned char *)data;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}

#endif
