/* test_rope.c - mo_rope: against double, against differences, turned and turned back. */
#include "test_numeric.h"

typedef struct turn {
    mo_rope_desc d;
    size_t n; /* floats of x */
    float *table, *x;
} turn;

static turn turn_begin(test_rng *r, size_t batch, size_t seq, size_t heads, size_t head_size) {
    turn t;
    memset(&t, 0, sizeof t);
    t.d.batch = batch;
    t.d.seq = seq;
    t.d.first = 3;
    t.d.heads = heads;
    t.d.head_size = head_size;
    t.d.stride = heads * head_size + 5; /* what is behind the heads is not turned */
    t.table = test_floats((seq + 3) * head_size);
    test_ok(mo_rope_table(head_size, seq + 3, 0, t.table));
    t.d.table = t.table;
    t.n = batch * seq * t.d.stride;
    t.x = test_normals(r, t.n, 1);
    return t;
}
static void turn_end(turn *t) { free(t->table), free(t->x); }

/* y: x turned by sign times the angles */
static void turn_double(const turn *t, const double *x, double sign, double *y) {
    const size_t half = t->d.head_size / 2;
    memcpy(y, x, t->n * sizeof *y);
    for (size_t row = 0; row < t->d.batch * t->d.seq; row++)
        for (size_t k = 0; k < t->d.heads * half; k++) {
            const size_t at = row * t->d.stride + k / half * t->d.head_size, i = k % half;
            const size_t a = at + (t->d.interleaved ? 2 * i : i);
            const size_t b = t->d.interleaved ? a + 1 : a + half;
            const double angle = (double)(t->d.first + row % t->d.seq) *
                pow(10000, -2 * (double)i / (double)t->d.head_size);
            const double c = cos(angle), s = sign * sin(angle);
            y[a] = x[a] * c - x[b] * s;
            y[b] = x[b] * c + x[a] * s;
        }
}

/* ---- examples ------------------------------------------------------------------------------ */

static void a_table_by_hand(void **state) {
    (void)state;
    float table[12];
    test_ok(mo_rope_table(4, 3, 100, table)); /* turns of 1 and 0.1 a position */
    assert_true(table[0] == 1 && table[1] == 1 && table[2] == 0 && table[3] == 0);
    assert_true(table[4] == (float)cos(1.0) && table[6] == (float)sin(1.0));
    assert_true(fabsf(table[5] - (float)cos(0.1)) < 1e-7f);
    assert_true(table[8] == (float)cos(2.0) && fabsf(table[11] - (float)sin(0.2)) < 1e-7f);
    assert_int_equal(mo_rope_table_size(4, 3), sizeof table);
    assert_int_equal(mo_rope_table_size(SIZE_MAX / 8, 3), 0);
    assert_int_equal(mo_rope_table_size(SIZE_MAX, 2), 0);
    test_ok(mo_rope_table(4, 0, 0, table));
}

/* A quarter of a turn: (a, b) becomes (-b, a). */
static void both_orders_of_pairs_by_hand(void **state) {
    (void)state;
    const float quarter[] = {0, 0, 1, 1};
    float x[] = {1, 2, 3, 4}, y[] = {1, 2, 3, 4};
    mo_rope_desc d;
    memset(&d, 0, sizeof d);
    d.batch = d.seq = d.heads = 1;
    d.head_size = 4;
    d.table = quarter;
    test_ok(mo_rope_forward(&d, x));
    assert_true(x[0] == -3 && x[1] == -4 && x[2] == 1 && x[3] == 2);
    test_ok(mo_rope_backward(&d, x));
    assert_true(x[0] == 1 && x[1] == 2 && x[2] == 3 && x[3] == 4);
    d.interleaved = 1;
    test_ok(mo_rope_forward(&d, y));
    assert_true(y[0] == -2 && y[1] == 1 && y[2] == -4 && y[3] == 3);
    test_ok(mo_rope_backward(&d, y));
    assert_true(y[0] == 1 && y[1] == 2 && y[2] == 3 && y[3] == 4);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    float x[64] = {0};
    mo_rope_desc good, bad[9];
    memset(&good, 0, sizeof good);
    good.batch = good.heads = 1;
    good.seq = 2;
    good.head_size = 4;
    good.table = x;
    for (size_t i = 0; i < 9; i++) bad[i] = good;
    bad[0].table = NULL;
    bad[1].head_size = 0;
    bad[2].head_size = 3;
    bad[3].heads = 0;
    bad[4].seq = 0;
    bad[5].stride = 3;
    bad[6].positions = 1;
    bad[7].first = SIZE_MAX;
    bad[8].stride = SIZE_MAX / 4;
    for (size_t i = 0; i < 9; i++) {
        const mo_status want = i < 7 ? MO_E_INVALID : MO_E_OVERFLOW;
        assert_int_equal(mo_rope_forward(&bad[i], x), want);
        assert_int_equal(mo_rope_backward(&bad[i], x), want);
    }
    assert_int_equal(mo_rope_forward(NULL, x), MO_E_INVALID);
    assert_int_equal(mo_rope_forward(&good, NULL), MO_E_INVALID);
    assert_int_equal(mo_rope_table(4, 2, 0, NULL), MO_E_INVALID);
    assert_int_equal(mo_rope_table(3, 2, 0, x), MO_E_INVALID);
    assert_int_equal(mo_rope_table(0, 2, 0, x), MO_E_INVALID);
    assert_int_equal(mo_rope_table(4, 2, -1, x), MO_E_INVALID);
    assert_int_equal(mo_rope_table(4, 2, (double)NAN, x), MO_E_INVALID);
    assert_int_equal(mo_rope_table(4, SIZE_MAX / 4, 0, x), MO_E_OVERFLOW);
    good.batch = 0;
    test_ok(mo_rope_forward(&good, x));
}

/* ---- properties ---------------------------------------------------------------------------- */

/* Two products and a sum of numbers up to 5, cosines and sines rounded: 4e-7 of the largest. */
static void both_directions_match_double(void **state) {
    (void)state;
    static const size_t heads[][2] = {{1, 2}, {3, 6}, {2, 16}, {5, 34}, {4, 64}, {1, 130}};
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < 4 * n_elements(heads); k++) {
        turn t = turn_begin(&r, 2, 7, heads[k / 4][0], heads[k / 4][1]);
        double *x = test_doubles(t.n), *want = test_doubles(t.n);
        for (size_t i = 0; i < t.n; i++) x[i] = (double)t.x[i];
        t.d.interleaved = k % 4 / 2;
        turn_double(&t, x, k % 2 ? -1 : 1, want);
        test_ok(k % 2 ? mo_rope_backward(&t.d, t.x) : mo_rope_forward(&t.d, t.x));
        assert_error_below(test_error(t.x, want, t.n), 4e-7);
        for (size_t row = 0; row < t.d.batch * t.d.seq; row++)
            for (size_t i = row * t.d.stride + t.d.heads * t.d.head_size;
                 i < (row + 1) * t.d.stride; i++)
                assert_true((double)t.x[i] == x[i]);
        free(x), free(want);
        turn_end(&t);
    }
}

/* loss = sum(y dy) with y of turn_double is linear in x, so that any h is small enough. */
static void backward_matches_differences(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        turn t = turn_begin(&r, 1, 3, 2, 6);
        double *x = test_doubles(t.n), *high = test_doubles(t.n), *low = test_doubles(t.n);
        double *want = test_doubles(t.n);
        t.d.interleaved = interleaved;
        for (size_t i = 0; i < t.n; i++) x[i] = (double)test_normal(&r);
        for (size_t i = 0; i < t.n; i++) {
            const double at = x[i];
            x[i] = at + 0.5;
            turn_double(&t, x, 1, high);
            x[i] = at - 0.5;
            turn_double(&t, x, 1, low);
            x[i] = at;
            want[i] = 0;
            for (size_t j = 0; j < t.n; j++) want[i] += (high[j] - low[j]) * (double)t.x[j];
        }
        test_ok(mo_rope_backward(&t.d, t.x));
        assert_error_below(test_error(t.x, want, t.n), 1e-6);
        free(x), free(high), free(low), free(want);
        turn_end(&t);
    }
}

/* What attention sees: products of turned rows depend on the distance alone. */
static void products_depend_on_the_distance(void **state) {
    (void)state;
    enum { SIZE = 32 };
    test_rng r = test_rng_begin(__func__);
    float *q = test_normals(&r, SIZE, 1), *k = test_normals(&r, SIZE, 1);
    float *table = test_floats(200 * SIZE);
    double first = 0;
    test_ok(mo_rope_table(SIZE, 200, 0, table));
    for (size_t at = 0; at < 150; at += 50) {
        float a[SIZE], b[SIZE];
        double product = 0;
        mo_rope_desc d = {1, 1, at + 7, 200, 1, SIZE, 0, 0, table, NULL};
        memcpy(a, q, sizeof a), memcpy(b, k, sizeof b);
        test_ok(mo_rope_forward(&d, a));
        d.first = at;
        test_ok(mo_rope_forward(&d, b));
        for (size_t i = 0; i < SIZE; i++) product += (double)a[i] * (double)b[i];
        if (at == 0) first = product;
        assert_error_below(fabs(product - first), 1e-4);
    }
    free(q), free(k), free(table);
}

static void the_bits_are_the_same_everywhere(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        turn t = turn_begin(&r, 3, 100, 3, 38);
        float *x = test_copy(t.x, t.n), *first = NULL;
        t.d.interleaved = interleaved;
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
            for (int threads = 1; threads <= 5; threads += 2) {
                const mo_parallel p = test_threads(threads);
                t.d.parallel = &p;
                memcpy(t.x, x, t.n * sizeof *x);
                test_ok(mo_rope_forward(&t.d, t.x));
                t.d.first = 1;
                test_ok(mo_rope_backward(&t.d, t.x));
                t.d.first = 3;
                if (!first) first = test_copy(t.x, t.n);
                else assert_same_bits(t.x, first, t.n * sizeof *x);
            }
        free(x), free(first);
        turn_end(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_by_hand),
        cmocka_unit_test(both_orders_of_pairs_by_hand),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(both_directions_match_double),
        cmocka_unit_test(backward_matches_differences),
        cmocka_unit_test(products_depend_on_the_distance),
        cmocka_unit_test(the_bits_are_the_same_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
