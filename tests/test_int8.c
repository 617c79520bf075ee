/* test_int8.c - mo_int8: rows of 8-bit integers, outliers, against double arithmetic. */
#include "test_numeric.h"

typedef struct coded_rows {
    int8_t *codes;
    float *absmax;
    mo_int8_outliers outliers;
} coded_rows;

static coded_rows encode_rows(const mo_int8_desc *d, const float *x) {
    coded_rows c;
    memset(&c, 0, sizeof c);
    c.codes = (int8_t *)test_array(d->rows * d->columns, 1);
    c.absmax = test_floats(d->rows);
    test_ok(mo_int8_outlier_count(d, x, &c.outliers.capacity));
    c.outliers.list = (mo_int8_outlier *)test_array(c.outliers.capacity, sizeof *c.outliers.list);
    test_ok(mo_int8_encode(d, x, c.codes, c.absmax, &c.outliers));
    assert_int_equal(c.outliers.n, c.outliers.capacity);
    return c;
}
static void release_rows(coded_rows *c) {
    free(c->codes);
    free(c->absmax);
    free(c->outliers.list);
}

static int is_outlier(const mo_int8_desc *d, float x) {
    return d->threshold > 0 && !(fabsf(x) < d->threshold);
}

/* Scale, codes and list from scratch. */
static void assert_rows(const mo_int8_desc *d, const float *x, const coded_rows *c) {
    size_t n = 0;
    for (size_t r = 0; r < d->rows; r++) {
        const float *row = x + r * d->columns;
        float most = 0;
        for (size_t i = 0; i < d->columns; i++)
            if (!is_outlier(d, row[i])) most = fmaxf(most, fabsf(row[i]));
        if (most < 0x1p-121f) most = 0;
        assert_true(c->absmax[r] == most);
        for (size_t i = 0; i < d->columns; i++) {
            const int out = is_outlier(d, row[i]);
            const float t = out || most == 0 ? 0 : row[i] * (127 / most);
            assert_int_equal(c->codes[r * d->columns + i], (int)rintf(t));
            if (!out) continue;
            assert_true(n < c->outliers.n);
            const mo_int8_outlier *o = &c->outliers.list[n++];
            assert_true(o->row == r && o->column == i);
            assert_int_equal(test_bits(o->value), test_bits(row[i]));
        }
    }
    assert_int_equal(n, c->outliers.n);
}

/* ---- examples ------------------------------------------------------------------------------ */

static void two_rows_by_hand(void **state) {
    (void)state;
    const float x[] = {127, -127, 2.5f, 3.5f, 0, 1, -0.5f, 0.25f, 60, -0.0f};
    static const int8_t want[] = {127, -127, 2, 4, 0, 127, -64, 32, 0, 0};
    const mo_int8_desc d = {2, 5, 0, NULL};
    coded_rows c = encode_rows(&d, x);
    assert_memory_equal(c.codes, want, 5);
    const mo_int8_desc split = {1, 5, 10, NULL};
    coded_rows s = encode_rows(&split, x + 5);
    assert_memory_equal(s.codes, want + 5, 5);
    assert_true(s.outliers.n == 1 && s.outliers.list[0].column == 3 && s.absmax[0] == 1);
    float y[5];
    test_ok(mo_int8_decode(&split, s.codes, s.absmax, &s.outliers, y));
    assert_true(y[0] == 1 && y[3] == 60 && y[4] == 0);
    test_ok(mo_int8_decode(&split, s.codes, s.absmax, NULL, y));
    assert_true(y[3] == 0);
    release_rows(&c);
    release_rows(&s);
}

static void rows_of_zeros_and_of_the_smallest_numbers_have_scale_0(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    const float sizes[] = {0, 0x1p-149f, 0x1p-126f, 0x1.fffffep-122f, 0x1p-121f, 0x1p127f};
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t s = 0; s < n_elements(sizes); s++) {
            float x[37] = {0}, y[37];
            const mo_int8_desc d = {1, 37, 0, NULL};
            x[36] = -sizes[s], x[3] = sizes[s] / 2;
            coded_rows c = encode_rows(&d, x);
            assert_rows(&d, x, &c);
            assert_true((c.absmax[0] == 0) == (s < 4));
            test_ok(mo_int8_decode(&d, c.codes, c.absmax, NULL, y));
            for (size_t i = 0; i < 37; i++)
                assert_true(s < 4 ? y[i] == 0 : fabsf(y[i] - x[i]) <= sizes[s] / 200);
            release_rows(&c);
        }
}

static void nan_and_infinity_are_outliers_and_spoil_their_row_only_without_a_threshold(
    void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    const float bad[] = {HUGE_VALF, -HUGE_VALF, NAN, test_float(0xffc12345)};
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t b = 0; b < n_elements(bad); b++)
            for (size_t at = 0; at < 40; at += 13) {
                float x[80], y[80];
                for (size_t i = 0; i < 80; i++) x[i] = (float)i - 40;
                x[at] = bad[b];
                const mo_int8_desc plain = {2, 40, 0, NULL}, split = {2, 40, 1000, NULL};
                coded_rows c = encode_rows(&plain, x);
                test_ok(mo_int8_decode(&plain, c.codes, c.absmax, NULL, y));
                for (size_t i = 0; i < 80; i++) assert_true(isfinite(y[i]) ? i >= 40 : i < 40);
                release_rows(&c);
                c = encode_rows(&split, x);
                assert_rows(&split, x, &c);
                test_ok(mo_int8_decode(&split, c.codes, c.absmax, &c.outliers, y));
                for (size_t i = 0; i < 80; i++)
                    if (i == at) assert_int_equal(test_bits(y[i]), test_bits(x[i]));
                    else assert_true(fabsf(y[i] - x[i]) <= 40 / 253.0f);
                release_rows(&c);
            }
}

static void wrong_arguments_are_refused_and_nothing_is_written(void **state) {
    (void)state;
    float x[6] = {1, 9, 2, 8, 3, 7}, y[6], absmax[2] = {5, 5};
    int8_t codes[6] = {1, 1, 1, 1, 1, 1};
    uint16_t half[6];
    mo_int8_outlier list[3];
    mo_int8_outliers out = {list, 2, 7};
    size_t n = 7;
    const mo_int8_desc good = {2, 3, 0, NULL}, split = {2, 3, 7, NULL};
    const mo_int8_desc wrong[] = {{2, 3, -1, NULL}, {2, 3, NAN, NULL},
        {(size_t)1 << 32, 1, 0, NULL}, {1, (size_t)1 << 32, 0, NULL},
        {0xffffffffu, 0xffffffffu, 0, NULL}};
    for (size_t i = 0; i < n_elements(wrong); i++) {
        assert_int_equal(mo_int8_outlier_count(&wrong[i], x, &n), MO_E_INVALID);
        assert_int_equal(mo_int8_encode(&wrong[i], x, codes, absmax, &out), MO_E_INVALID);
        assert_int_equal(mo_int8_decode(&wrong[i], codes, absmax, NULL, y), MO_E_INVALID);
    }
    assert_int_equal(mo_int8_encode(NULL, x, codes, absmax, NULL), MO_E_INVALID);
    assert_int_equal(mo_int8_encode(&good, NULL, codes, absmax, NULL), MO_E_INVALID);
    assert_int_equal(mo_int8_encode(&good, x, NULL, absmax, NULL), MO_E_INVALID);
    assert_int_equal(mo_int8_encode(&good, x, codes, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_int8_encode(&split, x, codes, absmax, NULL), MO_E_INVALID);
    assert_int_equal(mo_int8_encode(&split, x, codes, absmax, &out), MO_E_NO_SPACE);
    assert_int_equal(mo_int8_decode(&good, codes, NULL, NULL, y), MO_E_INVALID);
    assert_int_equal(mo_int8_decode_bf16(&good, NULL, absmax, NULL, half), MO_E_INVALID);
    assert_int_equal(mo_int8_decode_f16(NULL, codes, absmax, NULL, half), MO_E_INVALID);
    list[0].row = 2, list[0].column = 0, out.n = 1;
    assert_int_equal(mo_int8_decode(&good, codes, absmax, &out, y), MO_E_INVALID);
    list[0].row = 0, list[0].column = 3;
    assert_int_equal(mo_int8_decode(&good, codes, absmax, &out, y), MO_E_INVALID);
    for (size_t i = 0; i < 6; i++) assert_int_equal(codes[i], 1);
    assert_true(absmax[0] == 5 && n == 7);
    out.capacity = 3;
    test_ok(mo_int8_encode(&split, x, codes, absmax, &out));
    assert_int_equal(out.n, 3);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void random_rows_agree_with_the_reference_on_every_set_and_number_of_threads(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int t = 0; t < 200; t++) {
        const mo_parallel threads = test_threads(1 + t % 4);
        const mo_int8_desc d = {
            test_below(&r, 30), test_below(&r, 200), t % 2 ? 2.5f : 0, &threads};
        const size_t n = d.rows * d.columns;
        float *x = test_normals(&r, n, 1), *y = test_floats(n), *want = test_floats(n);
        uint16_t *h = (uint16_t *)test_array(2 * n, sizeof *h);
        for (size_t i = 0; i < n; i += 7) x[i] = ldexpf(x[i], -(int)test_below(&r, 20));
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            coded_rows c = encode_rows(&d, x);
            assert_rows(&d, x, &c);
            for (size_t i = 0; i < n; i++)
                want[i] = (float)c.codes[i] * (c.absmax[i / d.columns] / 127);
            for (size_t i = 0; i < c.outliers.n; i++) {
                const mo_int8_outlier *o = c.outliers.list + i;
                want[o->row * d.columns + o->column] = o->value;
            }
            test_ok(mo_int8_decode(&d, c.codes, c.absmax, &c.outliers, y));
            assert_same_bits(y, want, n * sizeof *y);
            mo_f32_to_bf16(want, h, n, NULL);
            test_ok(mo_int8_decode_bf16(&d, c.codes, c.absmax, &c.outliers, h + n));
            assert_same_bits(h + n, h, n * sizeof *h);
            mo_f32_to_f16(want, h, n, NULL);
            test_ok(mo_int8_decode_f16(&d, c.codes, c.absmax, &c.outliers, h + n));
            assert_same_bits(h + n, h, n * sizeof *h);
            release_rows(&c);
        }
        free(x);
        free(y);
        free(want);
        free(h);
    }
}

/* Outputs that go past the cache. */
static void large_matrices_are_the_same_bits(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    const mo_parallel two = test_threads(2);
    const mo_int8_desc d = {4100, 1056, 0, &two}, first = {7, 1056, 0, NULL};
    const size_t n = d.rows * d.columns;
    test_rng r = test_rng_begin(__func__);
    float *x = test_floats(n), *y = (float *)mo_alloc(NULL, n * sizeof *y, 64);
    uint16_t *h = (uint16_t *)(void *)y, *g = (uint16_t *)test_array(n, sizeof *g);
    for (size_t i = 0; i < n; i++) x[i] = (float)test_uniform(&r) - 0.5f;
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        coded_rows c = encode_rows(&d, x);
        test_ok(mo_int8_decode(&d, c.codes, c.absmax, NULL, y));
        for (size_t i = 0; i < n; i++)
            assert_true(y[i] == (float)c.codes[i] * (c.absmax[i / d.columns] / 127));
        mo_f32_to_bf16(y, g, n, NULL);
        test_ok(mo_int8_decode_bf16(&d, c.codes, c.absmax, NULL, h));
        assert_same_bits(h, g, n * sizeof *h);
        test_ok(mo_int8_decode_f16(&d, c.codes, c.absmax, NULL, h));
        test_ok(mo_int8_decode_f16(&first, c.codes, c.absmax, NULL, g));
        assert_same_bits(h, g, first.rows * first.columns * sizeof *h);
        release_rows(&c);
    }
    mo_free(NULL, y, n * sizeof *y, 64);
    free(g);
    free(x);
}

/* ---- golden -------------------------------------------------------------------------------- */

static void golden_rows(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    size_t n, rows, n_q;
    float *x = (float *)test_golden("i8_x.f32", sizeof *x, &n);
    float *rowmax = (float *)test_golden("i8_rowmax.f32", sizeof *rowmax, &rows);
    int8_t *q = (int8_t *)test_golden("i8_q.i8", 1, &n_q);
    assert_true(n == n_q && rows == 8 && n == 768);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        const mo_int8_desc d = {8, 96, 0, NULL};
        coded_rows c = encode_rows(&d, x);
        assert_same_bits(c.absmax, rowmax, rows * sizeof *rowmax);
        assert_same_bits(c.codes, q, n);
        release_rows(&c);
    }
    free(x);
    free(rowmax);
    free(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_rows_by_hand),
        cmocka_unit_test(rows_of_zeros_and_of_the_smallest_numbers_have_scale_0),
        cmocka_unit_test(
            nan_and_infinity_are_outliers_and_spoil_their_row_only_without_a_threshold),
        cmocka_unit_test(wrong_arguments_are_refused_and_nothing_is_written),
        cmocka_unit_test(random_rows_agree_with_the_reference_on_every_set_and_number_of_threads),
        cmocka_unit_test(large_matrices_are_the_same_bits),
        cmocka_unit_test(golden_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
