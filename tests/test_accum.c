/* test_accum.c - mo_accum: sums of gradients, norm, clipping, loss scaling. */
#include "test_numeric.h"
#include <float.h>

/* ---- examples ------------------------------------------------------------------------------ */

static void add_by_hand(void **state) {
    (void)state;
    const float grad[] = {1, -2, 0.5f};
    float sum[] = {10, 10, 10};
    mo_accum_add(grad, 2, sum, 3, NULL);
    assert_true(sum[0] == 12 && sum[1] == 6 && sum[2] == 11);
    mo_accum_add(grad, 1, sum, 0, NULL);
    assert_true(sum[0] == 12);
}

static void square_sum_by_hand(void **state) {
    (void)state;
    const float x[] = {3, -4, 0};
    assert_true(mo_accum_square_sum(x, 3, NULL) == 25);
    assert_true(mo_accum_square_sum(x, 0, NULL) == 0);
}

static void the_largest_floats_do_not_overflow(void **state) {
    (void)state;
    float x[100];
    for (int i = 0; i < 100; i++) x[i] = i % 2 ? FLT_MAX : -FLT_MAX;
    const double sum = mo_accum_square_sum(x, 100, NULL);
    assert_true(sum > 1.1e79 && isfinite(sum));
}

static void one_infinity_or_nan_anywhere_is_seen(void **state) {
    (void)state;
    enum { N = 1001 };
    const mo_cpu initial = mo_cpu_current();
    float x[N];
    for (size_t i = 0; i < N; i++) x[i] = 1;
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t at = 0; at < N; at += at < 40 ? 1 : 31) {
            const float bad[] = {HUGE_VALF, -HUGE_VALF, NAN};
            for (int b = 0; b < 3; b++) {
                x[at] = bad[b];
                assert_true(!isfinite(mo_accum_square_sum(x, N, NULL)));
            }
            x[at] = 1;
        }
    assert_true(mo_accum_square_sum(x, N, NULL) == N);
}

static void clip_scale_brings_the_norm_down_to_max_norm(void **state) {
    (void)state;
    assert_true(mo_accum_clip_scale(0.5, 1) == 1);
    assert_true(mo_accum_clip_scale(0, 1) == 1);
    assert_true(mo_accum_clip_scale(100, 0) == 1);
    assert_true(mo_accum_clip_scale(4, 1) == 1 / (4 + 1e-6));
    assert_true(mo_accum_clip_scale(1, 1) == 1 / (1 + 1e-6)); /* as torch does it */
    assert_true(mo_accum_clip_scale(HUGE_VAL, 1) == 1);
    assert_true(mo_accum_clip_scale(NAN, 1) == 1);
}

static void a_scaler_has_the_defaults_of_torch(void **state) {
    (void)state;
    mo_loss_scaler s;
    test_ok(mo_loss_scaler_init(&s, NULL));
    assert_true(s.scale == 65536 && s.desc.growth == 2 && s.desc.backoff == 0.5);
    assert_int_equal(s.desc.interval, 2000);
    assert_int_equal(s.skipped, 0);
}

static void a_scaler_refuses_numbers_that_make_no_sense(void **state) {
    (void)state;
    mo_loss_scaler s;
    const mo_loss_scaler_desc wrong[] = {{-1, 0, 0, 0, 0}, {HUGE_VAL, 0, 0, 0, 0},
        {NAN, 0, 0, 0, 0}, {0, 0.5, 0, 0, 0}, {0, NAN, 0, 0, 0}, {0, HUGE_VAL, 0, 0, 0},
        {0, 0, 1.5, 0, 0}, {0, 0, -0.5, 0, 0}, {0, 0, NAN, 0, 0}};
    for (size_t i = 0; i < n_elements(wrong); i++)
        assert_int_equal(mo_loss_scaler_init(&s, &wrong[i]), MO_E_INVALID);
    assert_int_equal(mo_loss_scaler_init(NULL, NULL), MO_E_INVALID);
}

/* What torch.amp.GradScaler(init_scale=1024, growth_interval=3) does: scale after each update. */
static void a_scaler_follows_the_table_of_torch(void **state) {
    (void)state;
    static const struct {
        int overflow;
        double scale;
        uint32_t good_steps;
    } table[] = {{0, 1024, 1}, {0, 1024, 2}, {0, 2048, 0}, {0, 2048, 1}, {1, 1024, 0}, {1, 512, 0},
        {0, 512, 1}, {0, 512, 2}, {1, 256, 0}, {0, 256, 1}, {0, 256, 2}, {0, 512, 0}, {0, 512, 1},
        {0, 512, 2}, {0, 1024, 0}};
    const mo_loss_scaler_desc d = {1024, 0, 0, 3, 0};
    mo_loss_scaler s;
    uint64_t skipped = 0;
    test_ok(mo_loss_scaler_init(&s, &d));
    for (size_t i = 0; i < n_elements(table); i++) {
        const double bad[] = {HUGE_VAL, NAN};
        const int go = mo_loss_scaler_update(&s, table[i].overflow ? bad[i % 2] : 1.0);
        assert_int_equal(go, !table[i].overflow);
        assert_true(s.scale == table[i].scale);
        assert_int_equal(s.good_steps, table[i].good_steps);
        skipped += (uint64_t)table[i].overflow;
        assert_int_equal(s.skipped, skipped);
    }
}

static void a_scaler_uses_its_own_factors(void **state) {
    (void)state;
    const mo_loss_scaler_desc d = {100, 3, 0.25, 1, 0};
    mo_loss_scaler s;
    test_ok(mo_loss_scaler_init(&s, &d));
    assert_int_equal(mo_loss_scaler_update(&s, 0), 1);
    assert_true(s.scale == 300);
    assert_int_equal(mo_loss_scaler_update(&s, NAN), 0);
    assert_true(s.scale == 75);
}

static void a_static_scaler_skips_but_keeps_its_scale(void **state) {
    (void)state;
    const mo_loss_scaler_desc d = {128, 0, 0, 1, 1};
    mo_loss_scaler s;
    test_ok(mo_loss_scaler_init(&s, &d));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(mo_loss_scaler_update(&s, 1), 1);
        assert_int_equal(mo_loss_scaler_update(&s, HUGE_VAL), 0);
        assert_true(s.scale == 128);
    }
    assert_int_equal(s.skipped, 5);
}

/* As in torch: a scale that float cannot hold would make every loss infinite. */
static void a_scale_does_not_grow_beyond_float(void **state) {
    (void)state;
    const mo_loss_scaler_desc d = {0x1p100, 0, 0, 1, 0};
    mo_loss_scaler s;
    test_ok(mo_loss_scaler_init(&s, &d));
    for (int i = 0; i < 100; i++) assert_int_equal(mo_loss_scaler_update(&s, 0), 1);
    assert_true(s.scale == 0x1p127);
}

/* ---- properties ---------------------------------------------------------------------------- */

/* Each element is one product and one sum, each rounded once: exact comparison. */
static void add_is_two_roundings_on_any_number_of_threads(void **state) {
    (void)state;
    enum { N = 100003 };
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *grad = test_normals(&r, N, 1), *sum = test_normals(&r, N, 10), *want = test_floats(N);
    const float scale = 1.0f / 3;
    for (size_t i = 0; i < N; i++) {
        volatile float term = scale * grad[i]; /* no fused multiply-add here */
        want[i] = sum[i] + term;
    }
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (int threads = 1; threads <= 5; threads++) {
            const mo_parallel p = test_threads(threads);
            float *got = test_copy(sum, N);
            mo_accum_add(grad, scale, got, N, &p);
            assert_same_bits(got, want, N * sizeof *got);
            free(got);
        }
    free(grad);
    free(sum);
    free(want);
}

/* Squares of floats are exact in double. 64 x 8 partial sums of n / 512 terms each, then 512 more:
 * at most (n / 512 + 512) 2^-53 relative, since all terms are positive. */
static void square_sum_matches_long_double(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    const size_t lengths[] = {1, 7, 8, 63, 511, 512, 513, 4097, 300007};
    for (size_t k = 0; k < n_elements(lengths); k++) {
        const size_t n = lengths[k];
        float *x = test_floats(n);
        long double want = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = test_normal(&r) * powf(10.0f, (float)test_below(&r, 30) - 15);
            want += (long double)x[i] * (long double)x[i];
        }
        const double got = mo_accum_square_sum(x, n, NULL);
        assert_error_below(fabs((double)((long double)got - want)),
            (double)want * ((double)n / 512 + 512) * 0x1p-53);
        free(x);
    }
}

static void square_sum_is_the_same_bits_everywhere(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (size_t n = 1; n < 200000; n = n * 3 + 1) {
        float *x = test_normals(&r, n, 1);
        const mo_parallel one = test_threads(1);
        const double want = mo_accum_square_sum(x, n, &one);
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
            for (int threads = 1; threads <= 7; threads++) {
                const mo_parallel p = test_threads(threads);
                assert_true(mo_accum_square_sum(x, n, &p) == want);
            }
        free(x);
    }
}

static void clipped_gradients_have_at_most_max_norm(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    float x[1000];
    for (int round = 0; round < 100; round++) {
        const float size = powf(10.0f, (float)test_below(&r, 12) - 6);
        for (int i = 0; i < 1000; i++) x[i] = test_normal(&r) * size;
        const double norm = sqrt(mo_accum_square_sum(x, 1000, NULL));
        const double scale = mo_accum_clip_scale(norm, 1);
        assert_true(scale > 0 && scale <= 1 && norm * scale <= 1);
        if (norm < 0.999) assert_true(scale == 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add_by_hand),
        cmocka_unit_test(square_sum_by_hand),
        cmocka_unit_test(the_largest_floats_do_not_overflow),
        cmocka_unit_test(one_infinity_or_nan_anywhere_is_seen),
        cmocka_unit_test(clip_scale_brings_the_norm_down_to_max_norm),
        cmocka_unit_test(a_scaler_has_the_defaults_of_torch),
        cmocka_unit_test(a_scaler_refuses_numbers_that_make_no_sense),
        cmocka_unit_test(a_scaler_follows_the_table_of_torch),
        cmocka_unit_test(a_scaler_uses_its_own_factors),
        cmocka_unit_test(a_static_scaler_skips_but_keeps_its_scale),
        cmocka_unit_test(a_scale_does_not_grow_beyond_float),
        cmocka_unit_test(add_is_two_roundings_on_any_number_of_threads),
        cmocka_unit_test(square_sum_matches_long_double),
        cmocka_unit_test(square_sum_is_the_same_bits_everywhere),
        cmocka_unit_test(clipped_gradients_have_at_most_max_norm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
