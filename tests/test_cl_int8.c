/* test_cl_int8.c - rows of 8-bit integers on a device, against those of mo_int8.h: every bit. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

/* Around the cuts of rows and of groups of rows, then a few large ones; a row has fewer than 2^15
 * numbers, since llvmpipe ends the loops of a work-item after 65535 turns. */
static const struct {
    size_t rows, columns;
} shapes[] = {{1, 1}, {3, 1}, {70, 1}, {5, 63}, {4, 64}, {7, 65}, {33, 300}, {2, 4096}, {3, 4097},
    {1, 16384}, {2, 16385}, {200, 77}, {17, 1}, {400, 40}, {1, 30000}};

static int is_too_large(size_t i) {
    return test_cl_small() && shapes[i].rows * shapes[i].columns > 5000;
}

/* Numbers with ties, outliers beyond 6, and rows of special kinds. */
static float *numbers(test_rng *r, size_t rows, size_t columns, int finite) {
    float *x = test_normals(r, rows * columns, 1);
    for (size_t row = 0; row < rows; row++) {
        float *at = x + row * columns;
        const size_t kind = test_below(r, 12);
        for (size_t i = 0; i < columns; i++) {
            if (kind == 0) at[i] = rintf(at[i] * 2) * 0.5f;
            if (kind == 1) at[i] *= i % 2 ? 0.0f : -0.0f;
            if (kind == 2) at[i] *= 0x1p-123f;
            if (kind == 3 && !test_cl_flushes()) at[i] *= 0x1p-120f;
            if (kind == 4) at[i] *= 0x1p+124f;
            if (kind >= 5 && test_below(r, 20) == 0) at[i] *= 10;
        }
        at[0] = kind == 0 ? 127.0f : at[0];
        if (kind == 5 && !finite) at[test_below(r, columns)] = -HUGE_VALF;
        if (kind == 6 && !finite) at[test_below(r, columns)] = test_float(0x7fffffff);
        if (kind == 7 && !finite) at[test_below(r, columns)] = test_float(0xff800001);
    }
    return x;
}

static void encode_case(test_cl *t, const mo_int8_desc *d, const float *x) {
    const size_t n = d->rows * d->columns;
    int8_t *codes = test_array(n, 1), *got = test_array(n + 1, 1);
    float *absmax = test_floats(d->rows), *got_absmax = test_floats(d->rows);
    mo_int8_outliers want = {NULL, 0, 0};
    mo_cl_int8_outliers outliers;
    size_t count = 77, cpu_count = 0;
    memset(&outliers, 0, sizeof outliers), memset(got, 0x55, n + 1);
    test_ok(mo_int8_outlier_count(d, x, &cpu_count));
    want.capacity = cpu_count;
    want.list = test_array(cpu_count, sizeof *want.list);
    mo_int8_outlier *got_list = test_array(cpu_count, sizeof *got_list);
    mo_cl_mem on_x = test_cl_put(t, x, n * sizeof *x, 4), on_codes = test_cl_put(t, got, n + 1, 3);
    mo_cl_mem on_absmax = test_cl_new(t, d->rows * sizeof *absmax, 4);
    outliers.list = test_cl_new(t, cpu_count * sizeof *got_list, 8);
    outliers.starts = test_cl_new(t, d->rows * sizeof(uint32_t), 12);
    test_ok(mo_cl_int8_outlier_count(&t->cl, d, on_x, outliers.starts, &count));
    assert_int_equal(count, cpu_count);
    outliers.capacity = cpu_count;
    test_ok(mo_cl_int8_encode(&t->cl, d, on_x, on_codes, on_absmax, &outliers));
    test_ok(mo_int8_encode(d, x, codes, absmax, &want));
    assert_int_equal(outliers.n, want.n);
    test_cl_get(t, on_absmax, got_absmax, d->rows * sizeof *absmax);
    test_cl_get(t, on_codes, got, n + 1);
    test_cl_get(t, outliers.list, got_list, want.n * sizeof *got_list);
    assert_same_bits(got_absmax, absmax, d->rows * sizeof *absmax);
    assert_same_bits(got, codes, n);
    assert_int_equal(got[n], 0x55);
    assert_same_bits(got_list, want.list, want.n * sizeof *got_list);
    test_cl_clear(t);
    free(codes), free(got), free(absmax), free(got_absmax), free(want.list), free(got_list);
}

static void codes_and_outliers_have_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (size_t i = 0; i < n_elements(shapes); i++)
        for (int kind = 0; kind < 3; kind++) {
            if (is_too_large(i)) continue;
            mo_int8_desc d = {shapes[i].rows, shapes[i].columns, kind ? 6.0f : 0.0f, NULL};
            if (kind == 2) d.threshold = 0.5f;
            float *x = numbers(&t->rng, d.rows, d.columns, 0);
            encode_case(t, &d, x);
            free(x);
        }
}

typedef mo_status (*decode_half)(
    const mo_int8_desc *, const int8_t *, const float *, const mo_int8_outliers *, uint16_t *);
typedef mo_status (*cl_decode)(
    mo_cl *, const mo_int8_desc *, mo_cl_mem, mo_cl_mem, const mo_cl_int8_outliers *, mo_cl_mem);

static void decode_case(test_cl *t, const mo_int8_desc *d, const int8_t *codes, const float *absmax,
    const mo_int8_outliers *o) {
    static const cl_decode on_device[] = {
        mo_cl_int8_decode, mo_cl_int8_decode_bf16, mo_cl_int8_decode_f16};
    static const decode_half on_cpu[] = {NULL, mo_int8_decode_bf16, mo_int8_decode_f16};
    const size_t n = d->rows * d->columns;
    mo_cl_int8_outliers outliers;
    memset(&outliers, 0, sizeof outliers);
    mo_cl_mem on_codes = test_cl_put(t, codes, n, 3);
    mo_cl_mem on_absmax = test_cl_put(t, absmax, d->rows * sizeof *absmax, 4);
    outliers.n = o ? o->n : 0;
    if (outliers.n) outliers.list = test_cl_put(t, o->list, o->n * sizeof *o->list, 4);
    for (int type = 0; type < 3; type++) {
        const size_t bytes = n * (type ? 2 : 4);
        uint8_t *got = test_array(bytes + 4, 1), *want = test_array(bytes + 4, 1);
        memset(want, 0x55, bytes + 4);
        mo_cl_mem on_x = test_cl_put(t, want, bytes + 4, 8);
        test_ok(on_device[type](&t->cl, d, on_codes, on_absmax, o ? &outliers : NULL, on_x));
        if (type) test_ok(on_cpu[type](d, codes, absmax, o, (uint16_t *)(void *)want));
        else test_ok(mo_int8_decode(d, codes, absmax, o, (float *)(void *)want));
        test_cl_get(t, on_x, got, bytes + 4);
        assert_same_bits(got, want, bytes + 4);
        free(got), free(want);
    }
    test_cl_clear(t);
}

static void numbers_have_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (size_t i = 0; i < n_elements(shapes); i++) {
        const mo_int8_desc d = {shapes[i].rows, shapes[i].columns, 6.0f, NULL};
        const size_t n = d.rows * d.columns;
        if (is_too_large(i)) continue;
        float *x = numbers(&t->rng, d.rows, d.columns, 1), *absmax = test_floats(d.rows);
        int8_t *codes = test_array(n, 1);
        mo_int8_outliers o = {test_array(n, sizeof(mo_int8_outlier)), n, 0};
        test_ok(mo_int8_encode(&d, x, codes, absmax, &o));
        for (size_t k = 0; test_cl_flushes() && k < d.rows; k++)
            if (absmax[k] < 0x1p-110f) absmax[k] = 0;
        decode_case(t, &d, codes, absmax, NULL);
        absmax[0] = HUGE_VALF;
        decode_case(t, &d, codes, absmax, &o);
        free(x), free(absmax), free(codes), free(o.list);
    }
}

/* An outlier that belongs to no place changes nothing. */
static void outliers_outside_are_passed_over(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_int8_desc d = {2, 3, 6.0f, NULL};
    const mo_int8_outlier list[] = {{1, 3, 1}, {2, 0, 1}, {0xffffffff, 0xffffffff, 1}, {1, 2, 9}};
    const int8_t codes[6] = {1, 2, 3, 4, 5, 6};
    const float absmax[2] = {127, 127}, want[6] = {1, 2, 3, 4, 5, 9};
    float got[6];
    mo_cl_int8_outliers o;
    memset(&o, 0, sizeof o);
    o.n = n_elements(list);
    o.list = test_cl_put(t, list, sizeof list, 4);
    mo_cl_mem on_codes = test_cl_put(t, codes, 6, 0), on_absmax = test_cl_put(t, absmax, 8, 0);
    mo_cl_mem on_x = test_cl_new(t, sizeof got, 0);
    test_ok(mo_cl_int8_decode(&t->cl, &d, on_codes, on_absmax, &o, on_x));
    test_cl_get(t, on_x, got, sizeof got);
    assert_same_bits(got, want, sizeof got);
    test_cl_clear(t);
}

static void what_does_not_fit_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl *cl = &t->cl;
    float x[64] = {0}, absmax[4] = {7, 7, 7, 7};
    size_t n = 77;
    mo_cl_int8_outliers o;
    memset(&o, 0, sizeof o);
    x[5] = 8, x[40] = -9;
    mo_cl_mem a = test_cl_put(t, x, sizeof x, 0), b = test_cl_new(t, 64, 0), none = {0};
    mo_cl_mem s = test_cl_put(t, absmax, 16, 0);
    const mo_int8_desc d = {4, 16, 6.0f, NULL}, plain = {4, 16, 0, NULL}, more = {4, 17, 0, NULL},
                       below = {4, 16, -1, NULL}, huge = {(size_t)1 << 33, 1, 0, NULL},
                       nan = {4, 16, NAN, NULL};
    assert_int_equal(mo_cl_int8_encode(cl, NULL, a, b, s, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_int8_encode(NULL, &plain, a, b, s, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_int8_encode(cl, &more, a, b, s, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_int8_encode(cl, &below, a, b, s, &o), MO_E_INVALID);
    assert_int_equal(mo_cl_int8_encode(cl, &nan, a, b, s, &o), MO_E_INVALID);
    assert_int_equal(mo_cl_int8_encode(cl, &huge, a, b, s, &o), MO_E_INVALID);
    assert_int_equal(mo_cl_int8_encode(cl, &d, a, b, s, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_int8_encode(cl, &d, a, b, s, &o), MO_E_INVALID); /* no starts */
    assert_int_equal(mo_cl_int8_encode(cl, &plain, a, none, s, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_int8_decode(cl, &more, b, s, NULL, a), MO_E_INVALID);
    o.n = 1;
    assert_int_equal(mo_cl_int8_decode(cl, &plain, b, s, &o, a), MO_E_INVALID);
    assert_int_equal(mo_cl_int8_outlier_count(cl, &d, a, none, &n), MO_E_INVALID);
    assert_int_equal(mo_cl_int8_outlier_count(cl, &d, a, s, NULL), MO_E_INVALID);
    assert_int_equal(n, 77);
    test_ok(mo_cl_int8_outlier_count(cl, &plain, a, none, &n));
    assert_int_equal(n, 0);
    o.n = 77, o.capacity = 1; /* and there are two */
    o.starts = test_cl_new(t, 16, 0), o.list = test_cl_new(t, sizeof(mo_int8_outlier), 0);
    assert_int_equal(mo_cl_int8_encode(cl, &d, a, b, s, &o), MO_E_NO_SPACE);
    assert_int_equal(o.n, 77);
    test_cl_get(t, s, x, 16);
    assert_same_bits(x, absmax, 16);
    test_cl_clear(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_and_outliers_have_the_bits_of_the_cpu),
        cmocka_unit_test(numbers_have_the_bits_of_the_cpu),
        cmocka_unit_test(outliers_outside_are_passed_over),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
