/* test_act.c - mo_gelu: against double and against differences. */
#include "test_numeric.h"

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

/* ---- examples ------------------------------------------------------------------------------ */

static void known_points_have_known_values(void **state) {
    (void)state;
    const float x[] = {0, -0.0f, 20, -20, 1}, one[] = {1, 1, 1, 1, 1};
    float y[5], dx[5];
    mo_gelu_forward(x, y, 5, NULL);
    mo_gelu_backward(x, one, dx, 5, NULL);
    assert_true(y[0] == 0 && y[1] == 0 && y[2] == 20 && fabsf(y[3]) < 1e-30f);
    assert_true(fabsf(y[4] - 0.841192f) < 1e-6f);
    assert_true(dx[0] == 0.5f && dx[2] == 1 && fabsf(dx[3]) < 1e-30f);
    mo_gelu_forward(x, y, 0, NULL);
    mo_gelu_backward(x, one, dx, 0, NULL);
}

static void nan_stays_nan_and_infinity_infinity(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    float x[17], y[17];
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        for (int i = 0; i < 17; i++) x[i] = NAN;
        mo_gelu_forward(x, y, 17, NULL);
        for (int i = 0; i < 17; i++) assert_true(isnan(y[i]));
        for (int i = 0; i < 17; i++) x[i] = HUGE_VALF;
        mo_gelu_forward(x, y, 17, NULL);
        for (int i = 0; i < 17; i++) assert_true(isinf(y[i]) && y[i] > 0);
    }
}

/* ---- properties ---------------------------------------------------------------------------- */

enum { N = 32003 };

/* -8..8 evenly */
static float *grid(void) {
    float *x = test_floats(N);
    for (size_t i = 0; i < N; i++) x[i] = 16.0f * (float)i / (N - 1) - 8;
    return x;
}

/* For x > 0 the error of y is that of the sum 1 + e^-2u, a product and a quotient: 4e-7. For x < 0
 * y is about x e^2u, where the rounding of 2u (up to 49) is what counts: eps 2u + 4e-7. */
static void forward_matches_double(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    float *x = grid(), *y = test_floats(N);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        double worst_up = 0, worst_down = 0;
        mo_gelu_forward(x, y, N, NULL);
        for (size_t i = 0; i < N; i++) {
            const double at = (double)x[i], want = gelu(at);
            if (want == 0) continue;
            const double e = fabs((double)y[i] - want) / fabs(want);
            const double u2 = fabs(1.5957691216057308 * (at + 0.044715 * at * at * at));
            if (at > 0) worst_up = fmax(worst_up, e);
            else worst_down = fmax(worst_down, e / (4e-7 + u2 * 0x1p-22));
        }
        print_message("%s: x > 0 %.2g, x < 0 %.2f of the bar\n", mo_cpu_name(mo_cpu_current()),
            worst_up, worst_down);
        assert_error_below(worst_up, 4e-7);
        assert_error_below(worst_down, 1);
    }
    free(x);
    free(y);
}

/* The slope has 1 - gate in it, whose error of eps is multiplied with x (0.21 x^2 + 1.6), up to 20
 * where the gate is not yet 1: absolute 4e-6. */
static void backward_matches_double(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *x = grid(), *dy = test_normals(&r, N, 1), *dx = test_floats(N);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        double worst = 0;
        mo_gelu_backward(x, dy, dx, N, NULL);
        for (size_t i = 0; i < N; i++)
            worst = fmax(worst,
                fabs((double)dx[i] - (double)dy[i] * gelu_slope((double)x[i])) /
                    fmax(1e-3, fabs((double)dy[i])));
        print_message("%s: %.2g\n", mo_cpu_name(mo_cpu_current()), worst);
        assert_error_below(worst, 4e-6);
    }
    free(x);
    free(dy);
    free(dx);
}

/* central differences in double, h = 1e-5: 1e-10 from h^2, 1e-11 from rounding */
static void the_slope_is_the_derivative(void **state) {
    (void)state;
    const double h = 1e-5;
    for (double x = -8; x <= 8; x += 0.01)
        assert_error_below(fabs((gelu(x + h) - gelu(x - h)) / (2 * h) - gelu_slope(x)), 1e-9);
}

static void large_arguments_stay_finite(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    float x[40], one[40], y[40], dx[40];
    for (int i = 0; i < 40; i++) {
        x[i] = powf(10, (float)(i / 2)) * (i % 2 ? -1.0f : 1.0f) * 0.9f; /* to 9e18 */
        one[i] = 1;
    }
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        mo_gelu_forward(x, y, 40, NULL);
        mo_gelu_backward(x, one, dx, 40, NULL);
        for (int i = 20; i < 40; i++) {
            assert_true(i % 2 ? fabsf(y[i]) < 1e-6f : y[i] == x[i]);
            assert_true(isfinite(dx[i]));
        }
    }
}

static void outputs_may_take_the_place_of_inputs(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *x = grid(), *dy = test_normals(&r, N, 1), *y = test_floats(N), *dx = test_floats(N);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        mo_gelu_forward(x, y, N, NULL);
        mo_gelu_backward(x, dy, dx, N, NULL);
        float *place = test_copy(x, N);
        mo_gelu_forward(place, place, N, NULL);
        assert_same_bits(place, y, N * sizeof *y);
        memcpy(place, dy, N * sizeof *y);
        mo_gelu_backward(x, place, place, N, NULL);
        assert_same_bits(place, dx, N * sizeof *y);
        memcpy(place, x, N * sizeof *y);
        mo_gelu_backward(place, dy, place, N, NULL);
        assert_same_bits(place, dx, N * sizeof *y);
        free(place);
    }
    free(x);
    free(dy);
    free(y);
    free(dx);
}

static void the_number_of_threads_does_not_matter(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, N, 2), *dy = test_normals(&r, N, 1);
    float *y1 = test_floats(N), *y = test_floats(N);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (int backward = 0; backward < 2; backward++)
            for (int threads = 1; threads <= 5; threads++) {
                const mo_parallel p = test_threads(threads);
                float *out = threads == 1 ? y1 : y;
                if (backward) mo_gelu_backward(x, dy, out, N, &p);
                else mo_gelu_forward(x, out, N, &p);
                if (threads > 1) assert_same_bits(y, y1, N * sizeof *y);
            }
    free(x);
    free(dy);
    free(y);
    free(y1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_points_have_known_values),
        cmocka_unit_test(nan_stays_nan_and_infinity_infinity),
        cmocka_unit_test(forward_matches_double),
        cmocka_unit_test(backward_matches_double),
        cmocka_unit_test(the_slope_is_the_derivative),
        cmocka_unit_test(large_arguments_stay_finite),
        cmocka_unit_test(outputs_may_take_the_place_of_inputs),
        cmocka_unit_test(the_number_of_threads_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
