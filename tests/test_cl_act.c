/* test_cl_act.c - GELU on a device: against double, and against mo_act.h. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

static double gelu(double x) {
    const double u = 0.79788456080286535588 * (x + 0.044715 * x * x * x);
    return x / (1 + exp(-2 * u));
}
static double gelu_slope(double x) {
    const double u = 0.79788456080286535588 * (x + 0.044715 * x * x * x);
    const double du = 0.79788456080286535588 * (1 + 3 * 0.044715 * x * x);
    const double gate = 1 / (1 + exp(-2 * u));
    return gate + x * gate * (1 - gate) * 2 * du;
}

/* y = GELU of x, dx from dy; in place: both where their input was. */
static void run(
    test_cl *t, const float *x, const float *dy, size_t n, int in_place, float *y, float *dx) {
    const size_t bytes = n * sizeof(float);
    mo_cl_mem on_x = test_cl_put(t, x, bytes, 4), on_dy = test_cl_put(t, dy, bytes, 12);
    mo_cl_mem on_y = in_place ? on_x : test_cl_new(t, bytes, 20);
    mo_cl_mem on_dx = in_place ? on_dy : test_cl_new(t, bytes, 8);
    test_ok(mo_cl_gelu_backward(&t->cl, on_x, on_dy, on_dx, n));
    test_ok(mo_cl_gelu_forward(&t->cl, on_x, on_y, n));
    test_cl_get(t, on_y, y, bytes);
    test_cl_get(t, on_dx, dx, bytes);
    test_cl_clear(t);
}

/* As for the CPU: for x > 0 the error is that of 1 + e^-2u, a product and a quotient; for x < 0
 * y is about x e^2u, where the rounding of 2u counts. 1e-30: what underflows. */
static void values_and_slopes_match_double(void **state) {
    test_cl *t = test_cl_of(state);
    enum { N = 8001 };
    float *x = test_floats(N), *y = test_floats(N), *dy = test_floats(N), *dx = test_floats(N);
    for (int i = 0; i < N; i++) x[i] = 16.0f * (float)i / (N - 1) - 8, dy[i] = 2;
    run(t, x, dy, N, 0, y, dx);
    for (int i = 0; i < N; i++) {
        const double v = (double)x[i], u = fabs(1.5957691216 * (v + 0.044715 * v * v * v));
        const double allowed = (v < 0 ? 2.4e-7 * u + 4e-7 : 4e-7) * fabs(gelu(v)) + 1e-30;
        if (!(fabs((double)y[i] - gelu(v)) <= allowed))
            fail_msg("x %g: %g, not %g", v, (double)y[i], gelu(v));
        assert_true(fabs((double)dx[i] - 2 * gelu_slope(v)) <= 2 * 3e-6);
    }
    free(x), free(y), free(dy), free(dx);
}

static void every_size_is_near_the_cpu_and_the_same_in_place(void **state) {
    test_cl *t = test_cl_of(state);
    for (size_t i = 0; i < sizeof test_cl_sizes / sizeof *test_cl_sizes; i++) {
        const size_t n = test_cl_sizes[i];
        float *x = test_normals(&t->rng, n, 2), *dy = test_normals(&t->rng, n, 1);
        float *y = test_floats(n), *dx = test_floats(n), *y2 = test_floats(n),
              *dx2 = test_floats(n);
        run(t, x, dy, n, 0, y, dx);
        run(t, x, dy, n, 1, y2, dx2);
        assert_same_bits(y, y2, n * sizeof *y);
        assert_same_bits(dx, dx2, n * sizeof *dx);
        mo_gelu_forward(x, y2, n, NULL);
        mo_gelu_backward(x, dy, dx2, n, NULL);
        for (size_t k = 0; k < n; k++) {
            assert_true(fabsf(y[k] - y2[k]) <= 1e-6f * fabsf(y2[k]) + 1e-6f);
            assert_true(fabsf(dx[k] - dx2[k]) <= 6e-6f * fabsf(dy[k]));
        }
        free(x), free(dy), free(y), free(dx), free(y2), free(dx2);
    }
}

static void special_values_are_those_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    enum { N = 40 };
    float x[N], one[N], y[N], dx[N];
    for (int i = 0; i < N; i++) {
        const float values[] = {0, -0.0f, 20, -20, NAN, HUGE_VALF, 1e10f, -1e10f};
        x[i] = values[i % 8];
        one[i] = 1;
    }
    run(t, x, one, N, 0, y, dx);
    for (int i = 0; i < N; i += 8) {
        assert_true(y[i] == 0 && y[i + 1] == 0 && y[i + 2] == 20 && fabsf(y[i + 3]) < 1e-30f);
        assert_true(isnan(y[i + 4]) && isinf(y[i + 5]) && y[i + 6] == 1e10f);
        assert_true(fabsf(y[i + 7]) < 1e-20f);
        assert_true(dx[i] == 0.5f && dx[i + 2] == 1 && fabsf(dx[i + 3]) < 1e-30f);
        assert_true(isnan(dx[i + 4]) && dx[i + 6] == 1 && fabsf(dx[i + 7]) < 1e-8f);
    }
}

static void what_does_not_fit_its_block_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    float x[64] = {0};
    mo_cl_mem a = test_cl_put(t, x, sizeof x, 0), none = {0};
    assert_int_equal(mo_cl_gelu_forward(&t->cl, a, a, 65), MO_E_INVALID);
    assert_int_equal(mo_cl_gelu_forward(&t->cl, a, none, 1), MO_E_INVALID);
    assert_int_equal(mo_cl_gelu_backward(&t->cl, a, a, none, 1), MO_E_INVALID);
    assert_int_equal(mo_cl_gelu_backward(NULL, a, a, a, 1), MO_E_INVALID);
    test_ok(mo_cl_gelu_forward(&t->cl, a, a, 0));
    test_cl_clear(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_slopes_match_double),
        cmocka_unit_test(every_size_is_near_the_cpu_and_the_same_in_place),
        cmocka_unit_test(special_values_are_those_of_the_cpu),
        cmocka_unit_test(what_does_not_fit_its_block_is_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
