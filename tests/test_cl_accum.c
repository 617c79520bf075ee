/* test_cl_accum.c - accumulation on a device, against that of mo_accum.h. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

enum { N_SIZES = sizeof test_cl_sizes / sizeof *test_cl_sizes };

static uint16_t *bf16s(test_rng *r, size_t n, float scale) {
    float *x = test_normals(r, n, scale);
    uint16_t *y = test_array(n, sizeof *y);
    mo_f32_to_bf16(x, y, n, NULL);
    free(x);
    return y;
}

/* Sizes for slow devices too. */
static size_t size_of(size_t i) {
    const size_t n = test_cl_sizes[i];
    return test_cl_small() && n > 1000 ? n % 200 + 1 : n;
}

static double bits_of(double x) {
    if (x != x) return 0; /* any NaN */
    return x;
}

/* ---- sums ----------------------------------------------------------------------------------- */

static void a_sum_has_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (size_t i = 0; i < N_SIZES; i++) {
        const size_t n = size_of(i), bytes = n * sizeof(float);
        float *grad = test_normals(&t->rng, n, 1), *sum = test_normals(&t->rng, n, 10);
        float *got = test_floats(n);
        mo_cl_mem on_grad = test_cl_put(t, grad, bytes, 4), on_sum = test_cl_put(t, sum, bytes, 12);
        test_ok(mo_cl_accum_add(&t->cl, on_grad, 0.3f, on_sum, n));
        mo_accum_add(grad, 0.3f, sum, n, NULL);
        test_cl_get(t, on_sum, got, bytes);
        assert_same_bits(got, sum, bytes);
        test_cl_clear(t);
        free(grad), free(sum), free(got);
    }
}

static void a_stochastic_sum_has_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_accum_noise noises[] = {
        {0, 0}, {0x123456789abcdefu, 77}, {42, 0xffffffffu - 300}, {42, 0x5fffff001u}};
    for (size_t i = 0; i < N_SIZES; i++) {
        const size_t n = size_of(i), bytes = n * sizeof(uint16_t);
        float *grad = test_normals(&t->rng, n, 1);
        uint16_t *sum = bf16s(&t->rng, n, 10), *got = test_array(n, sizeof *got);
        if (n > 4) grad[3] = HUGE_VALF, grad[1] = test_float(0x7fc00000), sum[2] = 0x7f80;
        mo_cl_mem on_grad = test_cl_put(t, grad, n * sizeof(float), 4);
        mo_cl_mem on_sum = test_cl_put(t, sum, bytes, 6);
        for (size_t k = 0; k < 4; k++) {
            const mo_accum_noise *noise = k ? &noises[k] : NULL;
            test_ok(mo_cl_accum_add_bf16_stochastic(&t->cl, on_grad, 0.3f, on_sum, n, noise));
            mo_accum_add_bf16_stochastic(grad, 0.3f, sum, n, noise, NULL);
        }
        test_cl_get(t, on_sum, got, bytes);
        assert_same_bits(got, sum, bytes);
        test_cl_clear(t);
        free(grad), free(sum), free(got);
    }
}

static void a_kahan_sum_has_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (size_t i = 0; i < N_SIZES; i++) {
        const size_t n = size_of(i), bytes = n * sizeof(uint16_t);
        float *grad = test_normals(&t->rng, n, 1);
        uint16_t *sum = bf16s(&t->rng, n, 10), *lost = bf16s(&t->rng, n, 0.01f);
        uint16_t *got = test_array(n, sizeof *got);
        mo_cl_mem on_grad = test_cl_put(t, grad, n * sizeof(float), 8);
        mo_cl_mem on_sum = test_cl_put(t, sum, bytes, 2), on_lost = test_cl_put(t, lost, bytes, 0);
        for (int k = 0; k < 3; k++) {
            test_ok(mo_cl_accum_add_bf16_kahan(&t->cl, on_grad, 0.3f, on_sum, on_lost, n));
            mo_accum_add_bf16_kahan(grad, 0.3f, sum, lost, n, NULL);
        }
        test_cl_get(t, on_sum, got, bytes);
        assert_same_bits(got, sum, bytes);
        test_cl_get(t, on_lost, got, bytes);
        assert_same_bits(got, lost, bytes);
        test_cl_clear(t);
        free(grad), free(sum), free(lost), free(got);
    }
}

/* ---- squares -------------------------------------------------------------------------------- */

/* Numbers of all sizes, so that roundings of every kind occur. */
static float *wide_numbers(test_cl *t, size_t n, int kind) {
    float *x = test_normals(&t->rng, n, 1);
    for (size_t i = 0; i < n; i++) {
        const int exponent = kind == 0 ? 0 : (int)test_below(&t->rng, kind == 1 ? 40 : 230) - 110;
        if (kind != 0) x[i] = ldexpf(x[i], exponent);
        if (kind == 3 && i % 3 == 0) x[i] = 0;
    }
    return x;
}

static void a_sum_of_squares_has_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t more[] = {15, 16, 17, 1023, 1024, 1025, 1040, 65536 + 5};
    for (int turn = 0; test_cl_next_double(t, &turn); turn++)
        for (size_t i = 0; i < N_SIZES + sizeof more / sizeof *more; i++)
            for (int kind = 0; kind < 4; kind++) {
                const size_t n = i < N_SIZES ? test_cl_sizes[i] : more[i - N_SIZES];
                if (test_cl_small() && (n > 300 || (i + (size_t)kind) % 4 != 0)) continue;
                float *x = wide_numbers(t, n, kind);
                mo_cl_mem on = test_cl_put(t, x, n * sizeof *x, 4);
                const double want = mo_accum_square_sum(x, n, NULL);
                double got = -1;
                test_ok(mo_cl_accum_square_sum(&t->cl, on, n, &got));
                assert_same_bits(&got, &want, sizeof got);
                test_cl_clear(t);
                free(x);
            }
}

static void squares_of_special_numbers_are_those_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const float special[] = {HUGE_VALF, -HUGE_VALF, 0.0f / 1.0f, test_float(0x7fc00001),
        test_float(0xff800001), test_float(0x7f7fffff), test_float(0x00800000),
        test_float(0x807fffff), test_float(1), -0.0f};
    for (int turn = 0; test_cl_next_double(t, &turn); turn++)
        for (size_t k = 0; k < sizeof special / sizeof *special; k++)
            for (size_t n = 1; n < 40; n += 19) {
                float x[40] = {0};
                for (size_t i = 0; i < n; i++) x[i] = k < 5 && i ? 3.0f : special[k];
                if (test_cl_small() && n != 20) continue;
                if (test_cl_flushes() && special[k] != 0 && fabsf(special[k]) < 1.2e-38f) continue;
                mo_cl_mem on = test_cl_put(t, x, n * sizeof *x, 0);
                double got = -1, want = bits_of(mo_accum_square_sum(x, n, NULL));
                test_ok(mo_cl_accum_square_sum(&t->cl, on, n, &got));
                got = bits_of(got);
                assert_same_bits(&got, &want, sizeof got);
                test_cl_clear(t);
            }
}

static void many_tensors_are_read_at_once(void **state) {
    test_cl *t = test_cl_of(state);
    enum { N = 11 };
    double got[N], want[N];
    mo_cl_mem parts = test_cl_new(t, N * MO_CL_ACCUM_PARTS_BYTES, 8);
    for (size_t i = 0; i < N; i++) {
        float *x = test_normals(&t->rng, 100 * i + 1, 1);
        mo_cl_mem on = test_cl_put(t, x, 400 * i + 4, 0);
        want[i] = mo_accum_square_sum(x, 100 * i, NULL);
        test_ok(mo_cl_accum_square_parts(&t->cl, on, 100 * i,
            mo_cl_part(&parts, i * MO_CL_ACCUM_PARTS_BYTES, MO_CL_ACCUM_PARTS_BYTES)));
        free(x);
    }
    test_ok(mo_cl_accum_square_sums(&t->cl, parts, N, got));
    assert_same_bits(got, want, sizeof got);
    test_ok(mo_cl_accum_square_sums(&t->cl, parts, 0, got));
    assert_int_equal(mo_cl_accum_square_sums(&t->cl, parts, N + 1, got), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_square_sums(&t->cl, parts, N, NULL), MO_E_INVALID);
    test_cl_clear(t);
}

/* ---- scaling -------------------------------------------------------------------------------- */

static void clipping_has_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const double most[] = {0, 0.5, 1e9, 0.5};
    for (size_t k = 0; k < 4; k++) {
        const size_t n = 5003;
        float *x = test_normals(&t->rng, n, 1), *got = test_floats(n);
        if (k == 3) x[77] = HUGE_VALF;
        mo_cl_mem on = test_cl_put(t, x, n * sizeof *x, 4);
        double norm = -1;
        test_ok(mo_cl_accum_clip(&t->cl, on, n, most[k], &norm));
        const double want = mo_accum_clip(x, n, most[k], NULL);
        assert_same_bits(&norm, &want, sizeof norm);
        test_cl_get(t, on, got, n * sizeof *x);
        assert_same_bits(got, x, n * sizeof *x);
        test_cl_clear(t);
        free(x), free(got);
    }
}

/* Whether scale * x[at] being y sets the flag. */
static uint32_t unscaled(test_cl *t, size_t n, size_t at, float y, float scale, uint32_t was) {
    float *x = test_normals(&t->rng, n, 1), *got = test_floats(n);
    uint32_t overflow = was;
    if (at < n) x[at] = y;
    mo_cl_mem on = test_cl_put(t, x, n * sizeof *x, 4), flag = test_cl_put(t, &was, sizeof was, 8);
    test_ok(mo_cl_accum_unscale(&t->cl, on, scale, n, flag));
    test_cl_get(t, on, got, n * sizeof *x);
    test_cl_get(t, flag, &overflow, sizeof overflow);
    for (size_t i = 0; i < n; i++) {
        const float want = x[i] * scale;
        if (want == want) assert_same_bits(&got[i], &want, sizeof want);
        else assert_true(got[i] != got[i]);
    }
    test_cl_clear(t);
    free(x), free(got);
    return overflow;
}

static void unscaling_finds_what_is_not_finite(void **state) {
    test_cl *t = test_cl_of(state);
    const float bad[] = {HUGE_VALF, -HUGE_VALF, test_float(0x7fc00000), test_float(0xff800001)};
    for (size_t i = 0; i < N_SIZES; i++) {
        const size_t n = size_of(i);
        assert_int_equal(unscaled(t, n, n, 0, 0.25f, 0), 0);
        assert_int_equal(unscaled(t, n, n, 0, 0.25f, 1), 1); /* from the tensor before */
        assert_int_equal(unscaled(t, n, n - 1, 3e38f, 0.25f, 0), 0);
        assert_int_equal(unscaled(t, n, n - 1, 3e38f, 2.0f, 0), 1);
        for (size_t k = 0; k < 4; k++) {
            assert_int_equal(unscaled(t, n, n - 1, bad[k], 0.25f, 0), 1);
            assert_int_equal(unscaled(t, n, n / 2, bad[k], 0.25f, 0), 1);
        }
    }
}

static void what_does_not_fit_its_block_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    float x[64] = {0};
    double sum = 7;
    mo_cl *cl = &t->cl;
    mo_cl_mem a = test_cl_put(t, x, sizeof x, 0), none = {0};
    mo_cl_mem odd = mo_cl_part(&a, 4, 252), small = mo_cl_part(&a, 0, 255);
    assert_int_equal(mo_cl_accum_add(cl, a, 1, a, 65), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_add(cl, none, 1, a, 1), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_add(NULL, a, 1, a, 1), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_add_bf16_stochastic(cl, a, 1, a, 65, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_add_bf16_kahan(cl, a, 1, a, none, 1), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_scale(cl, small, 1, 64), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_unscale(cl, a, 1, 64, none), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_square_sum(cl, a, 65, &sum), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_square_sum(cl, a, 1, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_square_sum(NULL, a, 1, &sum), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_square_parts(cl, a, 1, a), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_square_sums(cl, odd, 0, &sum), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_clip(cl, a, 65, 1, &sum), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_clip(cl, a, 64, 1, NULL), MO_E_INVALID);
    assert_true(sum == 7);
    test_cl_clear(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sum_has_the_bits_of_the_cpu),
        cmocka_unit_test(a_stochastic_sum_has_the_bits_of_the_cpu),
        cmocka_unit_test(a_kahan_sum_has_the_bits_of_the_cpu),
        cmocka_unit_test(a_sum_of_squares_has_the_bits_of_the_cpu),
        cmocka_unit_test(squares_of_special_numbers_are_those_of_the_cpu),
        cmocka_unit_test(many_tensors_are_read_at_once),
        cmocka_unit_test(clipping_has_the_bits_of_the_cpu),
        cmocka_unit_test(unscaling_finds_what_is_not_finite),
        cmocka_unit_test(what_does_not_fit_its_block_is_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
