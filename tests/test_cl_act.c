/* test_cl_act.c - GELU, SwiGLU and rotary embedding on a device: against double, and against the
 * CPU. */
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

/* ---- SwiGLU, rotary embedding -------------------------------------------------------------- */

/* The bits of the CPU where the device divides correctly, else near them. */
static void assert_as_on_the_cpu(test_cl *t, mo_cl_mem mem, const float *want, size_t n) {
    float *got = test_floats(n);
    test_cl_get(t, mem, got, n * sizeof *got);
    if (t->cl.info.correctly_rounded && !test_cl_flushes())
        assert_same_bits(got, want, n * sizeof *got);
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(got[i] - want[i]) <= 1e-5f * fabsf(want[i]) + 1e-6f);
    free(got);
}

/* Rows, hidden; fused rows; y as wide as they are. */
static void swiglu_is_that_of_the_cpu_also_in_fused_rows(void **state) {
    test_cl *t = test_cl_of(state);
    static const size_t shapes[][3] = {
        {1, 1, 0}, {3, 15, 0}, {1, 5000, 0}, {7, 37, 1}, {64, 100, 1}, {3, 2731, 1}, {9, 48, 2}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        const size_t rows = shapes[k][0], hidden = shapes[k][1], fused = shapes[k][2];
        const size_t width = fused ? 2 * hidden : hidden, y_width = fused > 1 ? width : hidden;
        const mo_swiglu_desc d = {rows, hidden, fused ? width : 0, fused > 1 ? width : 0, NULL};
        const size_t half = fused ? hidden : rows * hidden, n = 2 * rows * hidden;
        if (test_cl_small() && n > 1000) continue;
        float *x = test_normals(&t->rng, n, 4), *dy = test_normals(&t->rng, rows * y_width, 1);
        float *y = test_copy(dy, rows * y_width), *dx = test_floats(n);
        const mo_cl_mem on_x = test_cl_put(t, x, n * 4, 4);
        const mo_cl_mem on_up = mo_cl_part(&on_x, half * 4, (n - half) * 4);
        const mo_cl_mem on_dy = test_cl_put(t, dy, rows * y_width * 4, 8);
        const mo_cl_mem on_y = test_cl_put(t, y, rows * y_width * 4, 12);
        const mo_cl_mem on_dx = test_cl_new(t, n * 4, 20);
        const mo_cl_mem on_dup = mo_cl_part(&on_dx, half * 4, (n - half) * 4);
        test_ok(mo_swiglu_forward(&d, x, x + half, y));
        test_ok(mo_cl_swiglu_forward(&t->cl, &d, on_x, on_up, on_y));
        assert_as_on_the_cpu(t, on_y, y, rows * y_width);
        test_ok(mo_swiglu_backward(&d, x, x + half, dy, dx, dx + half));
        test_ok(mo_cl_swiglu_backward(&t->cl, &d, on_x, on_up, on_dy, on_dx, on_dup));
        assert_as_on_the_cpu(t, on_dx, dx, n);
        test_ok(mo_cl_swiglu_backward(&t->cl, &d, on_x, on_up, on_dy, on_x, on_up)); /* in place */
        assert_as_on_the_cpu(t, on_x, dx, n);
        free(x), free(dy), free(y), free(dx);
        test_cl_clear(t);
    }
}

static void swiglu_of_special_values_is_that_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    enum { N = 35 };
    float gate[N], one[N], y[N], want[N];
    const mo_swiglu_desc d = {1, N, 0, 0, NULL};
    for (int i = 0; i < N; i++) {
        const float values[] = {0, 1e10f, -1e10f, NAN, -60};
        gate[i] = values[i % 5];
        one[i] = 1;
    }
    const mo_cl_mem x = test_cl_put(t, gate, sizeof gate, 4),
                    u = test_cl_put(t, one, sizeof one, 0);
    test_ok(mo_swiglu_forward(&d, gate, one, want));
    test_ok(mo_cl_swiglu_forward(&t->cl, &d, x, u, x));
    test_cl_get(t, x, y, sizeof y);
    for (int i = 0; i < N; i++)
        assert_true(i % 5 == 3 ? isnan(y[i]) : fabsf(y[i] - want[i]) <= 1e-20f);
    test_cl_clear(t);
}

static void rope_has_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    static const size_t shapes[][4] = {/* batch, seq, heads, head size */
        {1, 1, 1, 2}, {2, 5, 3, 6}, {1, 70, 2, 64}, {3, 33, 5, 38}, {1, 9, 1, 130}};
    for (size_t k = 0; k < 2 * sizeof shapes / sizeof *shapes; k++) {
        const size_t *s = shapes[k / 2], rows = s[0] * s[1], stride = s[2] * s[3] + 3;
        const size_t n = rows * stride, bytes = mo_rope_table_size(s[3], s[1] + 2);
        if (test_cl_small() && n > 1500) continue;
        float *x = test_normals(&t->rng, n, 1), *got = test_floats(n);
        float *table = test_array(1, bytes);
        mo_rope_desc d = {s[0], s[1], 2, 0, s[2], s[3], stride, (int)(k % 2), table, NULL};
        test_ok(mo_rope_table(s[3], s[1] + 2, 0, table));
        const mo_cl_mem on_x = test_cl_put(t, x, n * 4, 4);
        const mo_cl_mem on_table = test_cl_put(t, table, bytes, 12);
        test_ok(mo_rope_forward(&d, x));
        test_ok(mo_cl_rope_forward(&t->cl, &d, on_table, on_x));
        test_cl_get(t, on_x, got, n * 4);
        assert_same_bits(got, x, n * 4);
        d.first = 1;
        test_ok(mo_rope_backward(&d, x));
        test_ok(mo_cl_rope_backward(&t->cl, &d, on_table, on_x));
        test_cl_get(t, on_x, got, n * 4);
        assert_same_bits(got, x, n * 4);
        free(x), free(got), free(table);
        test_cl_clear(t);
    }
}

static void swiglu_and_rope_refuse_what_does_not_fit(void **state) {
    test_cl *t = test_cl_of(state);
    float x[64] = {0};
    const mo_cl_mem a = test_cl_put(t, x, sizeof x, 0), none = {0};
    const mo_cl_mem b = test_cl_put(t, x, sizeof x, 0);
    mo_swiglu_desc s = {2, 16, 48, 0, NULL};
    mo_rope_desc r = {.batch = 1, .seq = 4, .heads = 2, .head_size = 8};
    test_ok(mo_cl_swiglu_forward(&t->cl, &s, a, a, b));
    test_ok(mo_cl_rope_forward(&t->cl, &r, a, b));
    assert_int_equal(mo_cl_swiglu_forward(&t->cl, &s, a, none, a), MO_E_INVALID);
    assert_int_equal(mo_cl_swiglu_forward(NULL, &s, a, a, a), MO_E_INVALID);
    assert_int_equal(mo_cl_swiglu_forward(&t->cl, NULL, a, a, a), MO_E_INVALID);
    assert_int_equal(mo_cl_rope_forward(&t->cl, &r, none, a), MO_E_INVALID);
    assert_int_equal(mo_cl_rope_forward(NULL, &r, a, a), MO_E_INVALID);
    s.stride = 49;
    assert_int_equal(mo_cl_swiglu_backward(&t->cl, &s, a, a, a, a, a), MO_E_INVALID);
    s.stride = 15;
    assert_int_equal(mo_cl_swiglu_backward(&t->cl, &s, a, a, a, a, a), MO_E_INVALID);
    r.first = 5; /* beyond the table */
    assert_int_equal(mo_cl_rope_backward(&t->cl, &r, a, a), MO_E_INVALID);
    r.first = 0;
    r.stride = 17;
    assert_int_equal(mo_cl_rope_backward(&t->cl, &r, a, a), MO_E_INVALID);
    r.head_size = 7;
    assert_int_equal(mo_cl_rope_backward(&t->cl, &r, a, a), MO_E_INVALID);
    s.rows = 0;
    s.stride = 0;
    test_ok(mo_cl_swiglu_backward(&t->cl, &s, a, a, a, a, a));
    r.head_size = 8;
    r.batch = 0;
    test_ok(mo_cl_rope_backward(&t->cl, &r, a, a));
    test_cl_clear(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_slopes_match_double),
        cmocka_unit_test(every_size_is_near_the_cpu_and_the_same_in_place),
        cmocka_unit_test(special_values_are_those_of_the_cpu),
        cmocka_unit_test(what_does_not_fit_its_block_is_refused),
        cmocka_unit_test(swiglu_is_that_of_the_cpu_also_in_fused_rows),
        cmocka_unit_test(swiglu_of_special_values_is_that_of_the_cpu),
        cmocka_unit_test(rope_has_the_bits_of_the_cpu),
        cmocka_unit_test(swiglu_and_rope_refuse_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
