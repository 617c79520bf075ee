/* test_act.c - mo_gelu, mo_swiglu: against double and against differences. */
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

/* ---- SwiGLU -------------------------------------------------------------------------------- */

static double silu(double x) { return x / (1 + exp(-x)); }
static double silu_slope(double x) {
    const double s = 1 / (1 + exp(-x));
    return s * (1 + x * (1 - s));
}

/* gate, up, dy, and where y, dgate, dup go: rows x hidden, stride and y_stride apart. */
typedef struct units {
    mo_swiglu_desc d;
    size_t n, y_n;
    float *gate, *up, *dy, *y, *dgate, *dup;
} units;
static units units_begin(test_rng *r, size_t rows, size_t hidden, size_t stride, size_t y_stride) {
    units u;
    memset(&u, 0, sizeof u);
    u.d.rows = rows;
    u.d.hidden = hidden;
    u.d.stride = stride;
    u.d.y_stride = y_stride;
    u.n = (rows - 1) * (stride ? stride : hidden) + hidden;
    u.y_n = (rows - 1) * (y_stride ? y_stride : hidden) + hidden;
    u.gate = test_normals(r, u.n, 3);
    u.up = test_normals(r, u.n, 1);
    u.dy = test_normals(r, u.y_n, 1);
    u.y = test_normals(r, u.y_n, 1);
    u.dgate = test_normals(r, u.n, 1);
    u.dup = test_normals(r, u.n, 1);
    return u;
}
static void units_end(units *u) {
    free(u->gate), free(u->up), free(u->dy), free(u->y), free(u->dgate), free(u->dup);
}
static void units_run(units *u) {
    test_ok(mo_swiglu_forward(&u->d, u->gate, u->up, u->y));
    test_ok(mo_swiglu_backward(&u->d, u->gate, u->up, u->dy, u->dgate, u->dup));
}

static void gated_units_by_hand(void **state) {
    (void)state;
    const float gate[] = {0, 30, -30, 1}, up[] = {5, 2, 2, 3}, dy[] = {2, 1, 1, 1};
    float y[4], dgate[4], dup[4];
    const mo_swiglu_desc d = {2, 2, 0, 0, NULL};
    test_ok(mo_swiglu_forward(&d, gate, up, y));
    test_ok(mo_swiglu_backward(&d, gate, up, dy, dgate, dup));
    assert_true(y[0] == 0 && y[1] == 60 && fabsf(y[2]) < 1e-11f);
    assert_true(fabsf(y[3] - 3 * 0.7310586f) < 1e-6f);
    assert_true(dgate[0] == 5 && dup[0] == 0); /* slope 1/2, times 2 and 5 */
    assert_true(dgate[1] == 2 && dup[1] == 30 && fabsf(dgate[2]) < 1e-10f);
    assert_true(fabsf(dgate[3] - 3 * 0.9276706f) < 1e-6f && fabsf(dup[3] - 0.7310586f) < 1e-6f);
}

/* A few roundings each: the exponential 3e-7, a sum, a quotient, products. The slope is a sum of
 * up to 1.1 that vanishes near -1.28: absolute there. */
static void swiglu_matches_double_on_a_grid(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    units u = units_begin(&r, 1, N, 0, 0);
    double worst_y = 0, worst_slope = 0;
    for (size_t i = 0; i < N; i++) u.gate[i] = 160.0f * (float)i / (N - 1) - 80;
    units_run(&u);
    for (size_t i = 0; i < N; i++) {
        const double gate = (double)u.gate[i], up = (double)u.up[i], dy = (double)u.dy[i];
        const double want = silu(gate) * up, dup = dy * silu(gate), dgate = dy * up;
        worst_y = fmax(worst_y, fabs((double)u.y[i] - want) / (fabs(want) + 1e-300));
        worst_y = fmax(worst_y, fabs((double)u.dup[i] - dup) / (fabs(dup) + 1e-300));
        worst_slope = fmax(worst_slope,
            fabs((double)u.dgate[i] - dgate * silu_slope(gate)) / (fabs(dgate) + 1e-300));
    }
    print_message("y, dup %.2g, dgate %.2g\n", worst_y, worst_slope);
    assert_error_below(worst_y, 1e-6);
    assert_error_below(worst_slope, 1e-6);
    units_end(&u);
}

static void swiglu_slopes_are_the_derivatives(void **state) {
    (void)state;
    const double h = 1e-5;
    for (double x = -20; x <= 20; x += 0.01)
        assert_error_below(fabs((silu(x + h) - silu(x - h)) / (2 * h) - silu_slope(x)), 1e-9);
}

/* Rows of a fused product; y and dy in the place of the gate: what lies between is untouched. */
static void swiglu_works_in_fused_rows_and_in_place(void **state) {
    (void)state;
    enum { ROWS = 5, HIDDEN = 37, FUSED = 2 * HIDDEN };
    test_rng r = test_rng_begin(__func__);
    units u = units_begin(&r, ROWS, HIDDEN, 0, 0);
    units_run(&u);
    float x[ROWS * FUSED], dx[ROWS * FUSED];
    mo_swiglu_desc d = {ROWS, HIDDEN, FUSED, 0, NULL};
    float y[ROWS * HIDDEN];
    for (size_t row = 0; row < ROWS; row++) {
        memcpy(x + row * FUSED, u.gate + row * HIDDEN, HIDDEN * sizeof *x);
        memcpy(x + row * FUSED + HIDDEN, u.up + row * HIDDEN, HIDDEN * sizeof *x);
        memcpy(dx + row * FUSED, u.dy + row * HIDDEN, HIDDEN * sizeof *x);
    }
    test_ok(mo_swiglu_forward(&d, x, x + HIDDEN, y));
    assert_same_bits(y, u.y, sizeof y);
    d.y_stride = FUSED; /* dy is where dgate goes */
    test_ok(mo_swiglu_backward(&d, x, x + HIDDEN, dx, dx, dx + HIDDEN));
    test_ok(mo_swiglu_forward(&d, x, x + HIDDEN, x));
    for (size_t row = 0; row < ROWS; row++) {
        const size_t at = row * HIDDEN;
        assert_same_bits(x + row * FUSED, u.y + at, HIDDEN * sizeof *x);
        assert_same_bits(x + row * FUSED + HIDDEN, u.up + at, HIDDEN * sizeof *x);
        assert_same_bits(dx + row * FUSED, u.dgate + at, HIDDEN * sizeof *x);
        assert_same_bits(dx + row * FUSED + HIDDEN, u.dup + at, HIDDEN * sizeof *x);
    }
    test_ok(mo_swiglu_backward(&u.d, u.gate, u.up, u.dy, u.gate, u.up));
    assert_same_bits(u.gate, u.dgate, u.n * sizeof *x);
    assert_same_bits(u.up, u.dup, u.n * sizeof *x);
    units_end(&u);
}

static void swiglu_has_the_same_bits_everywhere(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    units u = units_begin(&r, 33, 501, 600, 502);
    float *first[3] = {NULL, NULL, NULL}, *got[3] = {u.y, u.dgate, u.dup};
    const size_t n[3] = {u.y_n, u.n, u.n};
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (int threads = 1; threads <= 5; threads += 2) {
            const mo_parallel p = test_threads(threads);
            u.d.parallel = &p;
            units_run(&u);
            for (int i = 0; i < 3; i++)
                if (!first[i]) first[i] = test_copy(got[i], n[i]);
                else assert_same_bits(got[i], first[i], n[i] * sizeof(float));
        }
    for (int i = 0; i < 3; i++) free(first[i]);
    units_end(&u);
}

static void swiglu_of_nan_and_of_large_gates(void **state) {
    (void)state;
    const float gate[] = {NAN, 1e10f, -1e10f, 1, HUGE_VALF}, up[] = {1, 1, 1, NAN, 1};
    const float dy[] = {1, 1, 1, 1, 1};
    float y[5], dgate[5], dup[5];
    const mo_swiglu_desc d = {1, 5, 0, 0, NULL};
    test_ok(mo_swiglu_forward(&d, gate, up, y));
    test_ok(mo_swiglu_backward(&d, gate, up, dy, dgate, dup));
    assert_true(isnan(y[0]) && isnan(dgate[0]) && isnan(dup[0]) && isnan(y[3]) && isnan(dgate[3]));
    assert_true(y[1] == 1e10f && dgate[1] == 1 && dup[1] == 1e10f);
    assert_true(fabsf(y[2]) < 1e-20f && fabsf(dgate[2]) < 1e-20f && isinf(y[4]));
}

static void swiglu_refuses_wrong_arguments(void **state) {
    (void)state;
    float x[6] = {0};
    mo_swiglu_desc d = {2, 3, 0, 0, NULL};
    assert_int_equal(mo_swiglu_forward(NULL, x, x, x), MO_E_INVALID);
    assert_int_equal(mo_swiglu_forward(&d, NULL, x, x), MO_E_INVALID);
    assert_int_equal(mo_swiglu_forward(&d, x, NULL, x), MO_E_INVALID);
    assert_int_equal(mo_swiglu_forward(&d, x, x, NULL), MO_E_INVALID);
    assert_int_equal(mo_swiglu_backward(NULL, x, x, x, x, x), MO_E_INVALID);
    assert_int_equal(mo_swiglu_backward(&d, x, x, NULL, x, x), MO_E_INVALID);
    assert_int_equal(mo_swiglu_backward(&d, x, x, x, NULL, x), MO_E_INVALID);
    assert_int_equal(mo_swiglu_backward(&d, x, x, x, x, NULL), MO_E_INVALID);
    d.stride = 2;
    assert_int_equal(mo_swiglu_forward(&d, x, x, x), MO_E_INVALID);
    d.stride = 0;
    d.y_stride = 2;
    assert_int_equal(mo_swiglu_backward(&d, x, x, x, x, x), MO_E_INVALID);
    d.y_stride = SIZE_MAX / 4;
    assert_int_equal(mo_swiglu_forward(&d, x, x, x), MO_E_OVERFLOW);
    d.y_stride = 0;
    d.rows = SIZE_MAX / 2;
    assert_int_equal(mo_swiglu_forward(&d, x, x, x), MO_E_OVERFLOW);
    d.rows = 0;
    test_ok(mo_swiglu_forward(&d, x, x, x));
    d.rows = 2;
    d.hidden = 0;
    test_ok(mo_swiglu_backward(&d, x, x, x, x, x));
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
        cmocka_unit_test(gated_units_by_hand),
        cmocka_unit_test(swiglu_matches_double_on_a_grid),
        cmocka_unit_test(swiglu_slopes_are_the_derivatives),
        cmocka_unit_test(swiglu_works_in_fused_rows_and_in_place),
        cmocka_unit_test(swiglu_has_the_same_bits_everywhere),
        cmocka_unit_test(swiglu_of_nan_and_of_large_gates),
        cmocka_unit_test(swiglu_refuses_wrong_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
