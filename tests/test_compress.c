/* test_compress.c - compressed activations, and masks of one bit. */
#include "test_numeric.h"

static mo_compress_desc desc_of(int bits, size_t block, uint64_t seed) {
    mo_compress_desc d = {0};
    d.bits = bits;
    d.block = block;
    d.seed = seed;
    return d;
}

static void *encoded(const mo_compress_desc *d, const float *x, size_t n) {
    void *codes = test_array(mo_compress_size(d, n), 1);
    test_ok(mo_compress_encode(d, x, n, codes));
    return codes;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void sizes_are_those_of_ranges_and_codes(void **state) {
    (void)state;
    const mo_compress_desc d8 = desc_of(0, 0, 0), d4 = desc_of(4, 0, 0), d64 = desc_of(8, 64, 0);
    assert_int_equal(mo_compress_size(&d8, 1024), 1024 + 4 * 8);
    assert_int_equal(mo_compress_size(&d8, 1025), 1025 + 5 * 8);
    assert_int_equal(mo_compress_size(&d4, 1024), 512 + 16 * 8);
    assert_int_equal(mo_compress_size(&d4, 3), 2 + 8);
    assert_int_equal(mo_compress_size(&d64, 128), 128 + 2 * 8);
    assert_int_equal(mo_compress_size(&d8, 0), 0);
    assert_int_equal(mo_compress_size(&d8, SIZE_MAX), 0);
}

static void what_is_not_allowed_is_refused(void **state) {
    (void)state;
    float x[64] = {0};
    uint32_t codes[64];
    const mo_compress_desc bits = desc_of(5, 0, 0), odd = desc_of(8, 96, 0),
                           wide = desc_of(8, 512, 0);
    const mo_compress_desc good = desc_of(8, 0, 0);
    assert_int_equal(mo_compress_size(&bits, 64), 0);
    assert_int_equal(mo_compress_size(NULL, 64), 0);
    assert_int_equal(mo_compress_encode(&bits, x, 64, codes), MO_E_INVALID);
    assert_int_equal(mo_compress_encode(&odd, x, 64, codes), MO_E_INVALID);
    assert_int_equal(mo_compress_decode(&wide, codes, 64, x), MO_E_INVALID);
    assert_int_equal(mo_compress_encode(&good, NULL, 64, codes), MO_E_INVALID);
    assert_int_equal(mo_compress_encode(&good, x, 64, NULL), MO_E_INVALID);
    assert_int_equal(mo_compress_decode(&good, NULL, 64, x), MO_E_INVALID);
    assert_int_equal(mo_compress_encode(NULL, x, 64, codes), MO_E_INVALID);
}

/* Multiples of the step need no rounding, whatever the random bits. */
static void numbers_on_the_grid_come_back(void **state) {
    (void)state;
    float x[512], y[512];
    for (int bits = 4; bits <= 8; bits += 4)
        for (uint64_t seed = 0; seed < 4; seed++) {
            const int last = (1 << bits) - 1;
            const mo_compress_desc d = desc_of(bits, 256, seed);
            for (int i = 0; i < 512; i++) x[i] = (float)(i % (last + 1)) * 0.5f - 3;
            void *codes = encoded(&d, x, 512);
            test_ok(mo_compress_decode(&d, codes, 512, y));
            for (int i = 0; i < 512; i++) assert_true(fabsf(x[i] - y[i]) <= 1e-5f);
            free(codes);
        }
}

static void blocks_without_a_range_have_their_own_rules(void **state) {
    (void)state;
    float x[4 * 64], y[4 * 64];
    const mo_compress_desc d = desc_of(4, 64, 7);
    for (int i = 0; i < 64; i++) {
        x[i] = 1.25f;                            /* constant */
        x[64 + i] = i == 13 ? NAN : (float)i;    /* not finite */
        x[128 + i] = i % 2 ? 3e38f : -3e38f;     /* spans more than FLT_MAX */
        x[192 + i] = (float)i * 1e-30f - 1e-28f; /* within 2^-70 */
    }
    void *codes = encoded(&d, x, 256);
    test_ok(mo_compress_decode(&d, codes, 256, y));
    for (int i = 0; i < 64; i++) {
        assert_true(y[i] == 1.25f);
        assert_true(isnan(y[64 + i]) && isnan(y[128 + i]));
        assert_true(y[192 + i] == x[192]);
    }
    free(codes);
}

/* ---- properties ---------------------------------------------------------------------------- */

enum { N = 3000 + 37 };

/* What the codes of a tensor lose: below a step everywhere, and on average the variance of
 * stochastic rounding, step^2 / 6 where the numbers fall anywhere between the codes. */
static void errors_stay_below_a_step(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, N, 2), *y = test_floats(N);
    for (int bits = 4; bits <= 8; bits += 4)
        for (size_t block = 64; block <= 256; block *= 2) {
            const mo_compress_desc d = desc_of(bits, block, test_u64(&r));
            void *codes = encoded(&d, x, N);
            double squares = 0, expected = 0;
            test_ok(mo_compress_decode(&d, codes, N, y));
            for (size_t i = 0; i < N; i++) {
                const float *range = (const float *)codes + 2 * (i / block);
                const double step = (double)range[1], e = (double)y[i] - (double)x[i];
                assert_true(fabs(e) < step * 1.0001);
                squares += e * e;
                expected += step * step / 6;
            }
            assert_true(squares > 0.8 * expected && squares < 1.2 * expected);
            free(codes);
        }
    free(x);
    free(y);
}

/* The mean of k draws is off by step sqrt(1/4 / k) at most, as a standard deviation; over 256
 * numbers 5 of them are never reached by chance. */
static void the_mean_over_seeds_is_the_number(void **state) {
    (void)state;
    enum { DRAWS = 400 };
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, 256, 1), y[256];
    for (int bits = 4; bits <= 8; bits += 4) {
        double sum[256] = {0}, all = 0;
        float step = 0;
        for (uint64_t seed = 0; seed < DRAWS; seed++) {
            const mo_compress_desc d = desc_of(bits, 256, seed);
            void *codes = encoded(&d, x, 256);
            test_ok(mo_compress_decode(&d, codes, 256, y));
            for (int i = 0; i < 256; i++) sum[i] += (double)y[i];
            step = ((const float *)codes)[1];
            free(codes);
        }
        for (int i = 0; i < 256; i++) {
            const double off = sum[i] / DRAWS - (double)x[i];
            assert_error_below(fabs(off), 5 * 0.5 * (double)step / sqrt(DRAWS));
            all += off;
        }
        assert_error_below(fabs(all) / 256, 5 * 0.5 * (double)step / sqrt(256.0 * DRAWS));
    }
    free(x);
}

/* An unlike seed gives unlike codes, the same seed the same. */
static void the_seed_decides(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, N, 1);
    const mo_compress_desc a = desc_of(8, 0, 1), b = desc_of(8, 0, 2);
    const size_t size = mo_compress_size(&a, N), ranges = (N + 255) / 256 * 8;
    unsigned char *first = encoded(&a, x, N), *again = encoded(&a, x, N),
                  *other = encoded(&b, x, N);
    size_t differ = 0;
    assert_same_bits(first, again, size);
    assert_same_bits(first, other, ranges);
    for (size_t i = ranges; i < size; i++) differ += first[i] != other[i];
    assert_true(differ > N / 5); /* a third on average */
    free(first);
    free(again);
    free(other);
    free(x);
}

static void threads_and_instruction_sets_do_not_matter(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, N, 1), *y = test_floats(N), *z = test_floats(N);
    for (size_t i = 0; i < N; i++)
        if (i / 64 % 5 == 0) x[i] = fmaxf(x[i], 0) * 1e-38f;
    for (int bits = 4; bits <= 8; bits += 4) {
        mo_compress_desc d = desc_of(bits, 64, 99);
        test_ok(mo_cpu_select(MO_CPU_SCALAR));
        void *want = encoded(&d, x, N);
        test_ok(mo_compress_decode(&d, want, N, y));
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            const mo_parallel threads = test_threads(1 + cpu);
            d.parallel = &threads;
            void *got = encoded(&d, x, N);
            assert_same_bits(got, want, mo_compress_size(&d, N));
            test_ok(mo_compress_decode(&d, got, N, z));
            assert_same_bits(z, y, N * sizeof *z);
            free(got);
            d.parallel = NULL;
        }
        free(want);
    }
    free(x);
    free(y);
    free(z);
}

/* ---- masks --------------------------------------------------------------------------------- */

static int bit(const uint32_t *mask, size_t i) { return (int)(mask[i / 32] >> i % 32 & 1); }

static void relu_backward_needs_the_mask_or_the_output_alone(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    const size_t sizes[] = {0, 1, 31, 32, 33, N};
    float *x = test_normals(&r, N, 1), *dy = test_normals(&r, N, 1);
    x[0] = 0, x[1] = -0.0f, x[5] = NAN;
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t k = 0; k < 2 * n_elements(sizes); k++) {
            const size_t n = sizes[k / 2];
            const float slope = k % 2 ? 0.125f : 0;
            uint32_t *mask = test_array(mo_mask_words(n), sizeof *mask);
            float *y = test_copy(x, n), *dx = test_floats(n), *in_place = test_copy(dy, n);
            test_ok(mo_relu_forward(y, slope, mask, y, n, NULL));
            test_ok(mo_relu_backward(mask, dy, slope, dx, n, NULL));
            test_ok(mo_relu_backward_output(y, in_place, slope, in_place, n, NULL));
            assert_same_bits(dx, in_place, n * sizeof *dx);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(bit(mask, i), x[i] > 0);
                assert_true(dx[i] == (x[i] > 0 ? dy[i] : slope * dy[i]));
                if (i != 5) assert_true(y[i] == (x[i] > 0 ? x[i] : slope * x[i]));
            }
            for (size_t i = n; i < 32 * mo_mask_words(n); i++) assert_int_equal(bit(mask, i), 0);
            test_ok(mo_relu_forward(x, slope, NULL, y, n, NULL));
            free(mask);
            free(y);
            free(dx);
            free(in_place);
        }
    assert_int_equal(mo_relu_forward(x, -0.5f, NULL, dy, 4, NULL), MO_E_INVALID);
    assert_int_equal(mo_relu_backward(NULL, x, 0, dy, 4, NULL), MO_E_INVALID);
    assert_int_equal(mo_relu_backward_output(x, NULL, 0, dy, 4, NULL), MO_E_INVALID);
    free(x);
    free(dy);
}

static void dropout_drops_the_same_with_and_without_a_mask(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, N, 1), *y = test_floats(N), *dx = test_floats(N);
    float *again = test_floats(N);
    uint32_t *mask = test_array(mo_mask_words(N), sizeof *mask), first[96];
    mo_dropout_desc d = {0.25f, 17, NULL};
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        size_t kept = 0;
        test_ok(mo_dropout_forward(&d, x, mask, y, N));
        test_ok(mo_dropout_backward(&d, mask, x, dx, N));
        test_ok(mo_dropout_backward(&d, NULL, x, again, N));
        assert_same_bits(dx, y, N * sizeof *y);
        assert_same_bits(again, y, N * sizeof *y);
        for (size_t i = 0; i < N; i++) {
            assert_true(y[i] == (bit(mask, i) ? x[i] * (1 / 0.75f) : 0));
            kept += (size_t)bit(mask, i);
        }
        /* five standard deviations of N draws */
        assert_true(fabs((double)kept / N - 0.75) < 5 * sqrt(0.25 * 0.75 / N));
        if (cpu == 0) memcpy(first, mask, mo_mask_words(N) * sizeof *mask);
        assert_same_bits(first, mask, mo_mask_words(N) * sizeof *mask);
    }
    d.p = 0;
    test_ok(mo_dropout_forward(&d, x, NULL, y, N));
    assert_same_bits(x, y, N * sizeof *y);
    d.p = 1;
    assert_int_equal(mo_dropout_forward(&d, x, NULL, y, N), MO_E_INVALID);
    assert_int_equal(mo_dropout_backward(NULL, mask, x, y, N), MO_E_INVALID);
    free(x);
    free(y);
    free(dx);
    free(again);
    free(mask);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_those_of_ranges_and_codes),
        cmocka_unit_test(what_is_not_allowed_is_refused),
        cmocka_unit_test(numbers_on_the_grid_come_back),
        cmocka_unit_test(blocks_without_a_range_have_their_own_rules),
        cmocka_unit_test(errors_stay_below_a_step),
        cmocka_unit_test(the_mean_over_seeds_is_the_number),
        cmocka_unit_test(the_seed_decides),
        cmocka_unit_test(threads_and_instruction_sets_do_not_matter),
        cmocka_unit_test(relu_backward_needs_the_mask_or_the_output_alone),
        cmocka_unit_test(dropout_drops_the_same_with_and_without_a_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
