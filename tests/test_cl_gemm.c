/* test_cl_gemm.c - matrix products on a device: against a double reference, and against
 * themselves. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

/* Tolerance of all comparisons with double: an element is a sum of k products. Its error is at most
 * (k + 3) eps times the sum of |a b|, and a few sqrt(k) eps times that in practice; 4 sqrt(k) eps
 * here tells a wrong product from a rounded one by many orders. */
static double bar(size_t k) { return 4 * sqrt((double)k + 3) * 0x1p-24; }

typedef struct problem {
    mo_gemm_desc d;
    float *a, *b, *c;
    size_t n_a, n_b, n_c; /* elements, of which the last is one of the matrix */
} problem;

static size_t or_else(size_t ld, size_t columns) { return ld ? ld : columns; }
static size_t columns_a(const mo_gemm_desc *d) { return d->trans_a ? d->m : d->k; }
static size_t columns_b(const mo_gemm_desc *d) { return d->trans_b ? d->k : d->n; }
static size_t lda(const mo_gemm_desc *d) { return or_else(d->lda, columns_a(d)); }
static size_t ldb(const mo_gemm_desc *d) { return or_else(d->ldb, columns_b(d)); }
static size_t ldc(const mo_gemm_desc *d) { return or_else(d->ldc, d->n); }
static size_t extent(size_t rows, size_t columns, size_t ld) {
    return rows == 0 || columns == 0 ? 0 : (rows - 1) * ld + columns;
}

/* what must not change between the columns of a padded matrix */
static const float padding = 12345.5f;

static float *matrix(test_rng *r, size_t rows, size_t columns, size_t ld, size_t *n) {
    *n = extent(rows, columns, ld);
    float *x = test_floats(*n);
    for (size_t i = 0; i < *n; i++) x[i] = i % ld < columns ? test_normal(r) : padding;
    return x;
}

static problem problem_begin(test_rng *r, mo_gemm_desc d) {
    problem p = {.d = d};
    p.a = matrix(r, d.trans_a ? d.k : d.m, columns_a(&d), lda(&d), &p.n_a);
    p.b = matrix(r, d.trans_b ? d.n : d.k, columns_b(&d), ldb(&d), &p.n_b);
    p.c = matrix(r, d.m, d.n, ldc(&d), &p.n_c);
    return p;
}
static void problem_end(problem *p) { free(p->a), free(p->b), free(p->c); }

static float a_at(const problem *p, size_t i, size_t l) {
    return p->d.trans_a ? p->a[l * lda(&p->d) + i] : p->a[i * lda(&p->d) + l];
}
static float b_at(const problem *p, size_t l, size_t j) {
    return p->d.trans_b ? p->b[j * ldb(&p->d) + l] : p->b[l * ldb(&p->d) + j];
}

/* p->c before the product became c: near the double result, and untouched in the padding. */
static void assert_product(const problem *p, const float *c) {
    const double alpha = p->d.alpha == 0 ? 1 : (double)p->d.alpha, beta = (double)p->d.beta;
    const size_t ld = ldc(&p->d);
    for (size_t at = 0; at < p->n_c; at++) {
        const size_t i = at / ld, j = at % ld;
        if (j >= p->d.n) {
            assert_true(c[at] == padding);
            continue;
        }
        double sum = 0, size = 0;
        for (size_t l = 0; l < p->d.k; l++) {
            const double term = (double)a_at(p, i, l) * (double)b_at(p, l, j);
            sum += term;
            size += fabs(term);
        }
        sum *= alpha;
        size *= fabs(alpha);
        if (beta != 0) sum += beta * (double)p->c[at], size += fabs(beta * (double)p->c[at]);
        if (!(fabs((double)c[at] - sum) <= bar(p->d.k) * size))
            fail_msg("%zu x %zu x %zu%s%s, c[%zu, %zu] = %g, not %g", p->d.m, p->d.n, p->d.k,
                p->d.trans_a ? " TA" : "", p->d.trans_b ? " TB" : "", i, j, (double)c[at], sum);
    }
}

static mo_cl_gemm_env own(test_cl *t) {
    const mo_cl_gemm_env env = {.cl = &t->cl, .use = MO_CL_GEMM_OWN};
    return env;
}

/* C after a product of arrays offset floats into their blocks. */
static float *product(test_cl *t, const mo_cl_gemm_env *env, const problem *p, size_t offset) {
    float *c = test_floats(p->n_c);
    mo_cl_mem a = test_cl_put(t, p->a, p->n_a * sizeof *c, offset * sizeof *c);
    mo_cl_mem b = test_cl_put(t, p->b, p->n_b * sizeof *c, (offset + 2) * sizeof *c);
    mo_cl_mem on_c = test_cl_put(t, p->c, p->n_c * sizeof *c, offset * sizeof *c);
    test_ok(mo_cl_gemm(env, &p->d, a, b, on_c));
    test_cl_get(t, on_c, c, p->n_c * sizeof *c);
    test_cl_clear(t);
    return c;
}

static void check(test_cl *t, const mo_cl_gemm_env *env, mo_gemm_desc d, size_t offset) {
    problem p = problem_begin(&t->rng, d);
    float *c = product(t, env, &p, offset);
    assert_product(&p, c);
    free(c);
    problem_end(&p);
}

static int small(void) { return getenv("TEST_CL_SMALL") != NULL; }

/* ---- examples ------------------------------------------------------------------------------ */

static void two_by_two_by_hand(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    const float a[] = {1, 2, 3, 4}, b[] = {5, 6, 7, 8};
    static const float want[2][2][4] = {
        {{19, 22, 43, 50}, {17, 23, 39, 53}}, {{26, 30, 38, 44}, {23, 31, 34, 46}}};
    for (int ta = 0; ta < 2; ta++)
        for (int tb = 0; tb < 2; tb++) {
            float c[4] = {NAN, NAN, NAN, NAN};
            const mo_gemm_desc d = {2, 2, 2, ta, tb, 0, 0, 0, 0, 0};
            mo_cl_mem on_a = test_cl_put(t, a, sizeof a, 0), on_b = test_cl_put(t, b, sizeof b, 4);
            mo_cl_mem on_c = test_cl_put(t, c, sizeof c, 8);
            test_ok(mo_cl_gemm(&env, &d, on_a, on_b, on_c));
            test_cl_get(t, on_c, c, sizeof c);
            assert_same_bits(c, want[ta][tb], sizeof c); /* small integers are exact */
            test_cl_clear(t);
        }
}

static void alpha_and_beta_scale_as_said(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    const float a[] = {2}, b[] = {3};
    float c[] = {10};
    const mo_gemm_desc d = {1, 1, 1, 0, 0, 0, 0, 0, 0.5f, -2};
    mo_cl_mem on_a = test_cl_put(t, a, 4, 0), on_b = test_cl_put(t, b, 4, 0);
    mo_cl_mem on_c = test_cl_put(t, c, 4, 0);
    test_ok(mo_cl_gemm(&env, &d, on_a, on_b, on_c));
    test_cl_get(t, on_c, c, 4);
    assert_true(c[0] == -17);
    test_cl_clear(t);
}

static void k_0_scales_c(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    const float any[1] = {NAN}, betas[] = {0, 1, 3};
    for (size_t i = 0; i < 3; i++) {
        float c[] = {1, 2, -1, 3, 4, -1};
        const mo_gemm_desc d = {2, 2, 0, 0, 0, 1, 2, 3, 0, betas[i]};
        mo_cl_mem on_any = test_cl_put(t, any, sizeof any, 0);
        mo_cl_mem on_c = test_cl_put(t, c, sizeof c, 0);
        test_ok(mo_cl_gemm(&env, &d, on_any, on_any, on_c));
        test_cl_get(t, on_c, c, sizeof c);
        const float want[] = {betas[i], 2 * betas[i], -1, 3 * betas[i], 4 * betas[i], -1};
        assert_same_bits(c, want, sizeof c);
        test_cl_clear(t);
    }
}

static void beta_0_overwrites_nan(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    const mo_gemm_desc d = {67, 37, 5, 0, 0, 0, 0, 0, 0, 0};
    problem p = problem_begin(&t->rng, d);
    for (size_t i = 0; i < p.n_c; i++) p.c[i] = NAN;
    float *c = product(t, &env, &p, 0);
    assert_product(&p, c);
    free(c);
    problem_end(&p);
}

static void no_rows_or_no_columns_are_no_work(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    float c[1] = {7};
    mo_cl_mem on_c = test_cl_put(t, c, sizeof c, 0);
    const mo_gemm_desc no_rows = {0, 4, 4, 0, 0, 0, 0, 0, 0, 0};
    const mo_gemm_desc no_columns = {4, 0, 4, 0, 0, 0, 0, 0, 0, 0};
    mo_cl_mem sixteen = test_cl_new(t, 64, 0);
    test_ok(mo_cl_gemm(&env, &no_rows, sixteen, sixteen, on_c));
    test_ok(mo_cl_gemm(&env, &no_columns, sixteen, sixteen, on_c));
    test_cl_get(t, on_c, c, sizeof c);
    assert_true(c[0] == 7);
    test_cl_clear(t);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void random_shapes_match_double_for_all_transposes(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    const float alphas[] = {0, 1, -0.5f, 3}, betas[] = {0, 1, 0.25f};
    const int n = small() ? 16 : 240;
    const size_t most = small() ? 20 : 80;
    for (int i = 0; i < n; i++) {
        mo_gemm_desc d = {1 + test_below(&t->rng, most), 1 + test_below(&t->rng, most),
            1 + test_below(&t->rng, most), i & 1, i >> 1 & 1, 0, 0, 0,
            alphas[test_below(&t->rng, 4)], betas[test_below(&t->rng, 3)]};
        if (i & 4) d.lda = columns_a(&d) + test_below(&t->rng, 5);
        if (i & 8) d.ldb = columns_b(&d) + test_below(&t->rng, 5);
        if (i & 16) d.ldc = d.n + test_below(&t->rng, 5);
        check(t, &env, d, test_below(&t->rng, 5));
    }
}

/* Tiles have 6, 12, 32, 64 or 128 rows, up to 128 columns; depths are 8, 64 and 256, and bands of
 * rows 24 and 192. */
static void sizes_around_the_tiles_match_double(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    static const size_t shapes[][3] = {{12, 32, 8}, {13, 33, 9}, {1, 1, 257}, {6, 16, 64},
        {65, 63, 65}, {128, 128, 16}, {129, 130, 17}, {193, 40, 70}, {1, 200, 300}, {250, 1, 40},
        {7, 16, 513}, {200, 12, 256}, {25, 100, 128}, {384, 70, 20}};
    const size_t n = small() ? 4 : sizeof shapes / sizeof *shapes;
    for (size_t i = 0; i < n; i++)
        for (int trans = 0; trans < 4; trans++) {
            mo_gemm_desc d = {shapes[i][0], shapes[i][1], shapes[i][2], trans & 1, trans >> 1, 0, 0,
                0, 0, (float)(i % 2)};
            check(t, &env, d, i % 3);
        }
}

/* Rows and columns of a larger product are the same bits alone. */
static void an_element_depends_on_its_row_column_and_k_alone(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    const size_t M = small() ? 20 : 150, N = small() ? 20 : 140, K = small() ? 70 : 300;
    const mo_gemm_desc d = {M, N, K, 0, 0, 0, 0, 0, 0.3f, 0};
    problem p = problem_begin(&t->rng, d);
    float *whole = product(t, &env, &p, 0);
    const size_t cuts[][4] = {{0, 1, 0, N}, {M - 9, M, 3, 10}, {5, 18, N - 1, N}};
    for (size_t i = 0; i < 3; i++) {
        const size_t row = cuts[i][0], column = cuts[i][2];
        problem part = p;
        part.d.m = cuts[i][1] - row;
        part.d.n = cuts[i][3] - column;
        part.d.lda = K;
        part.d.ldb = part.d.ldc = N;
        part.a += row * K, part.b += column, part.c += row * N + column;
        part.n_a = extent(part.d.m, K, K);
        part.n_b = extent(K, part.d.n, N);
        part.n_c = extent(part.d.m, part.d.n, N);
        float *c = product(t, &env, &part, 1);
        for (size_t r = 0; r < part.d.m; r++)
            assert_same_bits(c + r * N, whole + (row + r) * N + column, part.d.n * sizeof *c);
        free(c);
    }
    free(whole);
    problem_end(&p);
}

static void a_and_b_may_be_the_same_matrix(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    const mo_gemm_desc d = {33, 33, 40, 0, 1, 0, 0, 0, 0, 0};
    problem p = problem_begin(&t->rng, d);
    memcpy(p.b, p.a, p.n_a * sizeof *p.a);
    mo_cl_mem a = test_cl_put(t, p.a, p.n_a * sizeof *p.a, 0);
    mo_cl_mem on_c = test_cl_put(t, p.c, p.n_c * sizeof *p.c, 0);
    float *c = test_floats(p.n_c);
    test_ok(mo_cl_gemm(&env, &d, a, a, on_c));
    test_cl_get(t, on_c, c, p.n_c * sizeof *c);
    assert_product(&p, c);
    test_cl_clear(t);
    free(c);
    problem_end(&p);
}

/* ---- errors -------------------------------------------------------------------------------- */

static void what_does_not_fit_its_block_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    mo_cl_gemm_env wrong = env;
    mo_cl_mem x = test_cl_new(t, 64, 0), c = test_cl_new(t, 64, 0), none = {0};
    mo_cl_mem less = mo_cl_part(&x, 0, 60), odd = mo_cl_part(&x, 2, 62);
    const mo_gemm_desc d = {4, 4, 4, 0, 0, 0, 0, 0, 0, 0};
    test_ok(mo_cl_gemm(&env, &d, x, x, c));
    assert_int_equal(mo_cl_gemm(NULL, &d, x, x, c), MO_E_INVALID);
    assert_int_equal(mo_cl_gemm(&env, NULL, x, x, c), MO_E_INVALID);
    assert_int_equal(mo_cl_gemm(&env, &d, none, x, c), MO_E_INVALID);
    assert_int_equal(mo_cl_gemm(&env, &d, x, none, c), MO_E_INVALID);
    assert_int_equal(mo_cl_gemm(&env, &d, x, x, none), MO_E_INVALID);
    assert_int_equal(mo_cl_gemm(&env, &d, less, x, c), MO_E_INVALID);
    assert_int_equal(mo_cl_gemm(&env, &d, x, less, c), MO_E_INVALID);
    assert_int_equal(mo_cl_gemm(&env, &d, x, c, less), MO_E_INVALID);
    assert_int_equal(mo_cl_gemm(&env, &d, odd, x, c), MO_E_INVALID);
    wrong.use = MO_CL_GEMM_USE_COUNT;
    assert_int_equal(mo_cl_gemm(&wrong, &d, x, x, c), MO_E_INVALID);
    wrong = env;
    wrong.cl = NULL;
    assert_int_equal(mo_cl_gemm(&wrong, &d, x, x, c), MO_E_INVALID);
    test_cl_clear(t);
}

static void a_row_shorter_than_its_matrix_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    mo_cl_mem x = test_cl_new(t, 256, 0), c = test_cl_new(t, 256, 0);
    const mo_gemm_desc wrong[] = {{3, 4, 5, 0, 0, 4, 0, 0, 0, 0}, {3, 4, 5, 1, 0, 2, 0, 0, 0, 0},
        {3, 4, 5, 0, 0, 0, 3, 0, 0, 0}, {3, 4, 5, 0, 1, 0, 4, 0, 0, 0},
        {3, 4, 5, 0, 0, 0, 0, 3, 0, 0}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(mo_cl_gemm(&env, &wrong[i], x, x, c), MO_E_INVALID);
    const mo_gemm_desc beyond = {3, 4, 5, 0, 0, SIZE_MAX / 2 + 9, 0, 0, 0, 0};
    assert_int_equal(mo_cl_gemm(&env, &beyond, x, x, c), MO_E_OVERFLOW);
    const mo_gemm_desc large = {1, 4, (size_t)1 << 31, 0, 0, 0, 0, 0, 0, 0};
    assert_int_equal(mo_cl_gemm(&env, &large, x, x, c), MO_E_UNSUPPORTED);
    test_cl_clear(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_by_two_by_hand),
        cmocka_unit_test(alpha_and_beta_scale_as_said),
        cmocka_unit_test(k_0_scales_c),
        cmocka_unit_test(beta_0_overwrites_nan),
        cmocka_unit_test(no_rows_or_no_columns_are_no_work),
        cmocka_unit_test(random_shapes_match_double_for_all_transposes),
        cmocka_unit_test(sizes_around_the_tiles_match_double),
        cmocka_unit_test(an_element_depends_on_its_row_column_and_k_alone),
        cmocka_unit_test(a_and_b_may_be_the_same_matrix),
        cmocka_unit_test(what_does_not_fit_its_block_is_refused),
        cmocka_unit_test(a_row_shorter_than_its_matrix_is_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
