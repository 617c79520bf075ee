/* test_gemm.c - mo_gemm: products against a reference in double, the hook, the workspace. */
#include "test_numeric.h"
#include <dlfcn.h>

/* Tolerance of all comparisons with double: an element is a sum of k products. Its error is at most
 * (k + 3) eps times the sum of |a b|, and a few sqrt(k) eps times that in practice; 4 sqrt(k) eps
 * here tells a wrong product from a rounded one by many orders. */
static double bar(size_t k) { return 4 * sqrt((double)k + 3) * 0x1p-24; }

typedef struct problem {
    mo_gemm_desc d;
    float *a, *b, *c;
    size_t rows_a, rows_b; /* as stored */
} problem;

static size_t stride_or(size_t ld, size_t columns) { return ld ? ld : columns; }
static size_t columns_a(const mo_gemm_desc *d) { return d->trans_a ? d->m : d->k; }
static size_t columns_b(const mo_gemm_desc *d) { return d->trans_b ? d->k : d->n; }
static size_t lda(const mo_gemm_desc *d) { return stride_or(d->lda, columns_a(d)); }
static size_t ldb(const mo_gemm_desc *d) { return stride_or(d->ldb, columns_b(d)); }
static size_t ldc(const mo_gemm_desc *d) { return stride_or(d->ldc, d->n); }

/* Arrays that end with the last element, so that a sanitizer sees a read behind them. */
static size_t extent(size_t rows, size_t columns, size_t ld) {
    return rows == 0 || columns == 0 ? 0 : (rows - 1) * ld + columns;
}

/* what must not change between the columns of a padded matrix */
static const float padding = 12345.5f;

static float *matrix(test_rng *r, size_t rows, size_t columns, size_t ld) {
    const size_t n = extent(rows, columns, ld);
    float *x = test_floats(n);
    for (size_t i = 0; i < n; i++) x[i] = i % ld < columns ? test_normal(r) : padding;
    return x;
}

static problem problem_begin(test_rng *r, mo_gemm_desc d) {
    problem p;
    p.d = d;
    p.rows_a = d.trans_a ? d.k : d.m;
    p.rows_b = d.trans_b ? d.n : d.k;
    p.a = matrix(r, p.rows_a, columns_a(&d), lda(&d));
    p.b = matrix(r, p.rows_b, columns_b(&d), ldb(&d));
    p.c = matrix(r, d.m, d.n, ldc(&d));
    return p;
}
static void problem_end(problem *p) {
    free(p->a);
    free(p->b);
    free(p->c);
}
static size_t extent_c(const problem *p) { return extent(p->d.m, p->d.n, ldc(&p->d)); }

static float a_at(const problem *p, size_t i, size_t l) {
    return p->d.trans_a ? p->a[l * lda(&p->d) + i] : p->a[i * lda(&p->d) + l];
}
static float b_at(const problem *p, size_t l, size_t j) {
    return p->d.trans_b ? p->b[j * ldb(&p->d) + l] : p->b[l * ldb(&p->d) + j];
}

/* c was p->c before the product; it must be near the double result, and untouched in the padding.
 * */
static void assert_product(const problem *p, const float *c) {
    const double alpha = p->d.alpha == 0 ? 1 : (double)p->d.alpha, beta = (double)p->d.beta;
    const size_t n = extent_c(p), ld = ldc(&p->d);
    for (size_t at = 0; at < n; at++) {
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
            fail_msg("%s %zu x %zu x %zu, c[%zu, %zu] = %g, not %g", mo_cpu_name(mo_cpu_current()),
                p->d.m, p->d.n, p->d.k, i, j, (double)c[at], sum);
    }
}

typedef struct engine {
    mo_parallel parallel;
    mo_gemm_env env;
} engine;
static void engine_begin(engine *e, int threads) {
    memset(e, 0, sizeof *e);
    e->parallel.n_threads = threads;
    e->env.parallel = &e->parallel;
    e->env.workspace_size = mo_gemm_workspace_size(&e->parallel, NULL);
    e->env.workspace = mo_alloc(NULL, e->env.workspace_size, 64);
    assert_non_null(e->env.workspace);
    memset(e->env.workspace, 0xff, e->env.workspace_size); /* NaN */
}
static void engine_end(engine *e) { mo_free(NULL, e->env.workspace, e->env.workspace_size, 64); }

static float *product(const mo_gemm_env *env, const problem *p) {
    float *c = test_copy(p->c, extent_c(p));
    test_ok(mo_gemm(env, &p->d, p->a, p->b, c));
    return c;
}

static void check(const mo_gemm_env *env, test_rng *r, mo_gemm_desc d) {
    problem p = problem_begin(r, d);
    float *c = product(env, &p);
    assert_product(&p, c);
    free(c);
    problem_end(&p);
}

/* ---- examples ------------------------------------------------------------------------------ */

static void two_by_two_by_hand(void **state) {
    (void)state;
    engine e;
    engine_begin(&e, 1);
    const float a[] = {1, 2, 3, 4}, b[] = {5, 6, 7, 8};
    static const float want[2][2][4] = {
        {{19, 22, 43, 50}, {17, 23, 39, 53}}, {{26, 30, 38, 44}, {23, 31, 34, 46}}};
    for (int ta = 0; ta < 2; ta++)
        for (int tb = 0; tb < 2; tb++) {
            float c[4] = {NAN, NAN, NAN, NAN};
            const mo_gemm_desc d = {2, 2, 2, ta, tb, 0, 0, 0, 0, 0};
            test_ok(mo_gemm(&e.env, &d, a, b, c));
            assert_same_bits(c, want[ta][tb], sizeof c); /* small integers are exact */
        }
    engine_end(&e);
}

static void alpha_and_beta_scale_as_said(void **state) {
    (void)state;
    engine e;
    engine_begin(&e, 1);
    const float a[] = {2}, b[] = {3};
    float c[] = {10};
    const mo_gemm_desc d = {1, 1, 1, 0, 0, 0, 0, 0, 0.5f, -2};
    test_ok(mo_gemm(&e.env, &d, a, b, c));
    assert_true(c[0] == -17);
    engine_end(&e);
}

static void beta_0_overwrites_nan(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    engine e;
    engine_begin(&e, 1);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t n = 1; n < 80; n += 13) {
            const mo_gemm_desc d = {n, n + 5, 3, 0, 0, 0, 0, 0, 0, 0};
            problem p = problem_begin(&r, d);
            for (size_t i = 0; i < extent_c(&p); i++) p.c[i] = NAN;
            float *c = product(&e.env, &p);
            assert_product(&p, c);
            free(c);
            problem_end(&p);
        }
    engine_end(&e);
}

static void k_0_scales_c(void **state) {
    (void)state;
    engine e;
    engine_begin(&e, 1);
    const float any[1] = {NAN};
    const float betas[] = {0, 1, 3};
    for (size_t i = 0; i < 3; i++) {
        float c[] = {1, 2, -1, 3, 4, -1};
        const mo_gemm_desc d = {2, 2, 0, 0, 0, 1, 2, 3, 0, betas[i]};
        test_ok(mo_gemm(&e.env, &d, any, any, c));
        const float want[] = {betas[i], 2 * betas[i], -1, 3 * betas[i], 4 * betas[i], -1};
        assert_same_bits(c, want, sizeof c);
    }
    float nan[] = {NAN};
    const mo_gemm_desc d = {1, 1, 0, 0, 0, 0, 0, 0, 0, 0};
    test_ok(mo_gemm(&e.env, &d, any, any, nan));
    assert_true(nan[0] == 0);
    engine_end(&e);
}

static void no_rows_or_no_columns_are_no_work(void **state) {
    (void)state;
    engine e;
    engine_begin(&e, 1);
    float c[1] = {7};
    const mo_gemm_desc no_rows = {0, 4, 4, 0, 0, 0, 0, 0, 0, 0};
    const mo_gemm_desc no_columns = {4, 0, 4, 0, 0, 0, 0, 0, 0, 0};
    test_ok(mo_gemm(&e.env, &no_rows, c, c, c));
    test_ok(mo_gemm(&e.env, &no_columns, c, c, c));
    assert_true(c[0] == 7);
    engine_end(&e);
}

static void nothing_in_place_of_a_pointer_is_refused(void **state) {
    (void)state;
    engine e;
    engine_begin(&e, 1);
    float x[4] = {0}, c[4];
    const mo_gemm_desc d = {2, 2, 2, 0, 0, 0, 0, 0, 0, 0};
    assert_int_equal(mo_gemm(NULL, &d, x, x, c), MO_E_INVALID);
    assert_int_equal(mo_gemm(&e.env, NULL, x, x, c), MO_E_INVALID);
    assert_int_equal(mo_gemm(&e.env, &d, NULL, x, c), MO_E_INVALID);
    assert_int_equal(mo_gemm(&e.env, &d, x, NULL, c), MO_E_INVALID);
    assert_int_equal(mo_gemm(&e.env, &d, x, x, NULL), MO_E_INVALID);
    engine_end(&e);
}

static void a_row_shorter_than_its_matrix_is_refused(void **state) {
    (void)state;
    engine e;
    engine_begin(&e, 1);
    float x[64] = {0}, c[64] = {0};
    const mo_gemm_desc wrong[] = {{3, 4, 5, 0, 0, 4, 0, 0, 0, 0}, {3, 4, 5, 1, 0, 2, 0, 0, 0, 0},
        {3, 4, 5, 0, 0, 0, 3, 0, 0, 0}, {3, 4, 5, 0, 1, 0, 4, 0, 0, 0},
        {3, 4, 5, 0, 0, 0, 0, 3, 0, 0}};
    for (size_t i = 0; i < n_elements(wrong); i++)
        assert_int_equal(mo_gemm(&e.env, &wrong[i], x, x, c), MO_E_INVALID);
    engine_end(&e);
}

/* Panels shrink with the workspace, then threads go, until not one panel fits. */
static void a_smaller_workspace_gives_the_same_bits(void **state) {
    (void)state;
    engine e;
    test_rng r = test_rng_begin(__func__);
    engine_begin(&e, 3);
    enum { M = 130, N = 150, K = 400 };
    float *a = test_normals(&r, M * K, 1), *b = test_normals(&r, K * N, 1);
    float *want = test_floats(M * N), *c = test_floats(M * N);
    const mo_gemm_desc d = {M, N, K, 0, 0, 0, 0, 0, 0, 0};
    mo_gemm_env env = e.env;
    int n_fit = 0;
    assert_int_equal(e.env.workspace_size % 64, 0);
    test_ok(mo_gemm(&env, &d, a, b, want));
    env.workspace_size = mo_gemm_workspace_size(env.parallel, &d);
    assert_true(env.workspace_size < e.env.workspace_size);
    for (; env.workspace_size > 0; env.workspace_size = env.workspace_size * 7 / 8) {
        memset(c, 0xff, M * N * sizeof *c);
        if (mo_gemm(&env, &d, a, b, c) != MO_OK) break;
        assert_memory_equal(c, want, M * N * sizeof *c);
        n_fit++;
    }
    assert_true(n_fit > 10 && env.workspace_size > 32768);
    assert_int_equal(mo_gemm(&env, &d, a, b, c), MO_E_NO_SPACE);
    env.workspace = NULL;
    assert_int_equal(mo_gemm(&env, &d, a, b, c), MO_E_NO_SPACE);
    engine_end(&e);
    free(a);
    free(b);
    free(want);
    free(c);
}

static void the_workspace_grows_with_the_threads(void **state) {
    (void)state;
    const mo_parallel one = test_threads(1), five = test_threads(5);
    assert_true(mo_gemm_workspace_size(&one, NULL) > 0);
    assert_int_equal(mo_gemm_workspace_size(&five, NULL), 5 * mo_gemm_workspace_size(&one, NULL));
    assert_true(mo_gemm_workspace_size(NULL, NULL) >= mo_gemm_workspace_size(&one, NULL));
}

/* ---- properties ---------------------------------------------------------------------------- */

static void random_shapes_match_double_for_all_transposes_on_every_instruction_set(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    const float alphas[] = {0, 1, -0.5f, 3}, betas[] = {0, 1, 0.25f};
    test_rng r = test_rng_begin(__func__);
    engine e;
    engine_begin(&e, 2);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (int i = 0; i < 600; i++) {
            mo_gemm_desc d = {1 + test_below(&r, 40), 1 + test_below(&r, 40),
                1 + test_below(&r, 40), i & 1, i >> 1 & 1, 0, 0, 0, alphas[test_below(&r, 4)],
                betas[test_below(&r, 3)]};
            if (i & 4) d.lda = columns_a(&d) + test_below(&r, 5);
            if (i & 8) d.ldb = columns_b(&d) + test_below(&r, 5);
            if (i & 16) d.ldc = d.n + test_below(&r, 5);
            check(&e.env, &r, d);
        }
    engine_end(&e);
}

static void products_larger_than_a_panel_match_double(void **state) {
    (void)state;
    static const size_t shapes[][3] = {{129, 257, 385}, {5, 1100, 800}, {1, 1, 2000}, {400, 33, 20},
        {1, 1600, 7}, {13, 1, 400}, {385, 3, 2}, {2, 1537, 3}};
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    engine e;
    engine_begin(&e, 2);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t i = 0; i < n_elements(shapes); i++)
            for (int t = 0; t < 4; t++) {
                const size_t *s = shapes[i];
                mo_gemm_desc d = {s[0], s[1], s[2], t & 1, t >> 1, 0, 0, 0, 0, 0};
                if (t != (int)(i + (size_t)cpu) % 4 && s[0] * s[1] > 10000) continue; /* time */
                if (t & 1) d.lda = columns_a(&d) + 3, d.ldc = d.n + 1, d.beta = 1;
                if (t & 2) d.ldb = columns_b(&d) + 2, d.alpha = -2, d.beta = 0.5f;
                check(&e.env, &r, d);
            }
    engine_end(&e);
}

/* Rows that are a page apart are copied, others read in place but for the last tile. */
static void rows_any_distance_apart_match_double(void **state) {
    (void)state;
    static const size_t strides[] = {0, 401, 512, 1023, 1024, 1025, 2048};
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    engine e;
    engine_begin(&e, 2);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t i = 0; i < n_elements(strides); i++)
            for (size_t m = 23; m <= 36; m++) {
                mo_gemm_desc d = {m, 40, 400, 0, 1, strides[i], 0, 0, 0, 1};
                check(&e.env, &r, d);
            }
    engine_end(&e);
}

static void any_number_of_threads_gives_the_same_bits(void **state) {
    (void)state;
    static const size_t shapes[][3] = {
        {129, 257, 385}, {5, 1100, 800}, {1, 3000, 70}, {700, 9, 41}};
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    engine one, more;
    engine_begin(&one, 1);
    for (int threads = 2; threads <= 5; threads++) {
        engine_begin(&more, threads);
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
            for (size_t i = 0; i < n_elements(shapes); i++) {
                const mo_gemm_desc d = {shapes[i][0], shapes[i][1], shapes[i][2], threads & 1,
                    (int)(i & 1), 0, 0, shapes[i][1] + 1, 0.75f, i & 1 ? 1.0f : 0.0f};
                problem p = problem_begin(&r, d);
                float *c1 = product(&one.env, &p), *c = product(&more.env, &p);
                assert_same_bits(c, c1, extent_c(&p) * sizeof *c);
                free(c1);
                free(c);
                problem_end(&p);
            }
        engine_end(&more);
    }
    engine_end(&one);
}

static void a_row_of_a_big_product_has_the_bits_of_the_product_of_one_row(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    engine e;
    engine_begin(&e, 2);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (int t = 0; t < 4; t++) {
            const mo_gemm_desc d = {131, 77, 801, t & 1, t >> 1, 0, 0, 0, 1.5f, t == 2 ? 0.5f : 0};
            problem p = problem_begin(&r, d);
            float *c = product(&e.env, &p), row[77], column[131];
            for (size_t i = 0; i < d.m; i += 10) {
                mo_gemm_desc one = d;
                one.m = 1;
                one.lda = lda(&d);
                memcpy(row, p.c + i * d.n, sizeof row);
                test_ok(mo_gemm(&e.env, &one, p.a + (t & 1 ? i : i * one.lda), p.b, row));
                assert_same_bits(row, c + i * d.n, sizeof row);
            }
            for (size_t j = 0; j < d.n; j += 10) {
                mo_gemm_desc one = d;
                one.n = 1;
                one.ldb = ldb(&d);
                for (size_t i = 0; i < d.m; i++) column[i] = p.c[i * d.n + j];
                test_ok(mo_gemm(&e.env, &one, p.a, p.b + (t >> 1 ? j * one.ldb : j), column));
                for (size_t i = 0; i < d.m; i++) assert_true(column[i] == c[i * d.n + j]);
            }
            free(c);
            problem_end(&p);
        }
    engine_end(&e);
}

static void a_and_b_may_be_the_same_matrix(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    engine e;
    engine_begin(&e, 2);
    const mo_gemm_desc d = {40, 40, 30, 0, 1, 0, 0, 0, 0, 0};
    problem p = problem_begin(&r, d);
    memcpy(p.b, p.a, 40 * 30 * sizeof(float));
    float *c = product(&e.env, &p), *same = test_floats(40 * 40);
    test_ok(mo_gemm(&e.env, &d, p.a, p.a, same));
    assert_same_bits(same, c, 40 * 40 * sizeof *c);
    free(c);
    free(same);
    problem_end(&p);
    engine_end(&e);
}

/* ---- operands that are not float ------------------------------------------------------------- */

/* A random stored matrix of any type, and the floats that it decodes to. */
typedef struct stored {
    mo_gemm_operand operand;
    float *decoded;
    void *data;
    float *absmax;
} stored;

static stored stored_begin(
    test_rng *r, mo_gemm_type type, size_t rows, size_t columns, size_t ld, size_t block) {
    const size_t n = extent(rows, columns, ld);
    stored s;
    memset(&s, 0, sizeof s);
    s.decoded = test_normals(r, n, 1);
    s.data = test_array(n, 4);
    s.absmax = test_floats(n / 32 + rows + 1);
    s.operand.type = type;
    s.operand.data = s.data;
    s.operand.absmax = s.absmax;
    s.operand.block = block;
    const mo_quant4_desc q4 = {type == MO_GEMM_FP4 ? MO_QUANT_FP4 : MO_QUANT_NF4, block, NULL};
    if (type == MO_GEMM_F32) memcpy(s.data, s.decoded, n * sizeof(float));
    else if (type == MO_GEMM_BF16) {
        mo_f32_to_bf16(s.decoded, (uint16_t *)s.data, n, NULL);
        mo_bf16_to_f32((uint16_t *)s.data, s.decoded, n, NULL);
    } else if (type == MO_GEMM_F16) {
        mo_f32_to_f16(s.decoded, (uint16_t *)s.data, n, NULL);
        mo_f16_to_f32((uint16_t *)s.data, s.decoded, n, NULL);
    } else if (type == MO_GEMM_INT8) {
        for (size_t i = 0; i < rows; i++) {
            const mo_int8_desc row = {1, i + 1 < rows ? ld : columns, 0, NULL};
            int8_t *codes = (int8_t *)s.data + i * ld;
            test_ok(mo_int8_encode(&row, s.decoded + i * ld, codes, s.absmax + i, NULL));
            test_ok(mo_int8_decode(&row, codes, s.absmax + i, NULL, s.decoded + i * ld));
        }
    } else {
        test_ok(mo_quant4_encode(&q4, s.decoded, n, (uint8_t *)s.data, s.absmax));
        test_ok(mo_quant4_decode(&q4, (uint8_t *)s.data, s.absmax, 0, n, s.decoded));
    }
    return s;
}
static void stored_end(stored *s) {
    free(s->decoded);
    free(s->data);
    free(s->absmax);
}

static void check_mixed(
    const mo_gemm_env *env, test_rng *r, mo_gemm_desc d, mo_gemm_type ta, mo_gemm_type tb) {
    const size_t block = (size_t)32 << test_below(r, 4);
    stored a = stored_begin(r, ta, d.trans_a ? d.k : d.m, columns_a(&d), lda(&d), block);
    stored b = stored_begin(r, tb, d.trans_b ? d.n : d.k, columns_b(&d), ldb(&d), block);
    float *want = test_normals(r, d.m * d.n, 1), *c = test_copy(want, d.m * d.n);
    test_ok(mo_gemm(env, &d, a.decoded, b.decoded, want));
    test_ok(mo_gemm_mixed(env, &d, &a.operand, &b.operand, c));
    assert_same_bits(c, want, d.m * d.n * sizeof *c);
    free(want);
    free(c);
    stored_end(&a);
    stored_end(&b);
}

static void products_of_any_types_have_the_bits_of_the_product_of_the_decoded(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    engine e;
    engine_begin(&e, 3);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (int i = 0; i < 4 * MO_GEMM_TYPE_COUNT * MO_GEMM_TYPE_COUNT; i++) {
            mo_gemm_desc d = {1 + test_below(&r, 70), 1 + test_below(&r, 70),
                1 + test_below(&r, 150), i & 1, i >> 1 & 1, 0, 0, 0, 0, (float)(i % 3)};
            if (i % 5 == 0) d.lda = columns_a(&d) + test_below(&r, 5);
            if (i % 5 == 1) d.ldb = columns_b(&d) + test_below(&r, 5);
            check_mixed(&e.env, &r, d, (mo_gemm_type)(i / 4 % MO_GEMM_TYPE_COUNT),
                (mo_gemm_type)(i / 4 / MO_GEMM_TYPE_COUNT));
        }
    engine_end(&e);
}

static void products_of_any_types_larger_than_a_panel_too(void **state) {
    (void)state;
    static const size_t shapes[][3] = {{13, 1601, 9}, {401, 7, 395}, {3, 405, 1000}};
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    engine e;
    engine_begin(&e, 2);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t i = 0; i < n_elements(shapes); i++)
            for (int t = 0; t < 4; t++)
                for (int type = 1; type < MO_GEMM_TYPE_COUNT; type++) {
                    const mo_gemm_desc d = {
                        shapes[i][0], shapes[i][1], shapes[i][2], t & 1, t >> 1, 0, 0, 0, 0, 0};
                    check_mixed(&e.env, &r, d, (mo_gemm_type)type, (mo_gemm_type)type);
                }
    engine_end(&e);
}

static void operands_that_say_too_little_are_refused(void **state) {
    (void)state;
    engine e;
    engine_begin(&e, 1);
    float x[64] = {0}, c[64] = {7};
    const mo_gemm_desc d = {4, 4, 4, 0, 0, 0, 0, 0, 0, 0};
    const mo_gemm_operand good = {MO_GEMM_F32, x, NULL, 0}, nf4 = {MO_GEMM_NF4, x, x, 0};
    const mo_gemm_operand wrong[] = {{MO_GEMM_F32, NULL, NULL, 0}, {MO_GEMM_INT8, x, NULL, 0},
        {MO_GEMM_NF4, x, NULL, 0}, {MO_GEMM_FP4, x, x, 16}, {MO_GEMM_FP4, x, x, 8192},
        {MO_GEMM_NF4, x, x, 65}, {MO_GEMM_TYPE_COUNT, x, x, 0}, {(mo_gemm_type)-1, x, x, 0}};
    for (size_t i = 0; i < n_elements(wrong); i++) {
        assert_int_equal(mo_gemm_mixed(&e.env, &d, &wrong[i], &good, c), MO_E_INVALID);
        assert_int_equal(mo_gemm_mixed(&e.env, &d, &good, &wrong[i], c), MO_E_INVALID);
    }
    assert_int_equal(mo_gemm_mixed(&e.env, &d, NULL, &good, c), MO_E_INVALID);
    assert_int_equal(mo_gemm_mixed(&e.env, &d, &good, NULL, c), MO_E_INVALID);
    assert_int_equal(mo_gemm_mixed(NULL, &d, &good, &good, c), MO_E_INVALID);
    assert_true(c[0] == 7);
    test_ok(mo_gemm_mixed(&e.env, &d, &nf4, &good, c));
    engine_end(&e);
}

/* ---- the hook ------------------------------------------------------------------------------ */

typedef struct cblas_call {
    int n, order, ta, tb, m, columns, k, lda, ldb, ldc;
    float alpha, beta;
} cblas_call;
static cblas_call last_call;

static void fake_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
    int la, const float *b, int lb, float beta, float *c, int lc) {
    const cblas_call call = {last_call.n + 1, order, ta, tb, m, n, k, la, lb, lc, alpha, beta};
    last_call = call;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int l = 0; l < k; l++)
                sum += (double)a[ta == 112 ? l * la + i : i * la + l] *
                    (double)b[tb == 112 ? j * lb + l : l * lb + j];
            float *at = c + i * lc + j;
            *at = (float)((double)alpha * sum + (beta == 0 ? 0 : (double)beta * (double)*at));
        }
}

static void cblas_gets_the_arguments_and_its_result_is_the_product(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    const mo_gemm_env env = {NULL, fake_sgemm, NULL, 0}; /* no workspace needed */
    for (int t = 0; t < 4; t++) {
        const mo_gemm_desc d = {7, 5, 3, t & 1, t >> 1, t & 1 ? 9u : 0u, 0, 8, t & 1 ? 0.5f : 0, 1};
        problem p = problem_begin(&r, d);
        memset(&last_call, 0, sizeof last_call);
        float *c = product(&env, &p);
        assert_product(&p, c);
        assert_int_equal(last_call.n, 1);
        assert_int_equal(last_call.order, 101);
        assert_int_equal(last_call.ta, t & 1 ? 112 : 111);
        assert_int_equal(last_call.tb, t >> 1 ? 112 : 111);
        assert_int_equal(last_call.m, 7);
        assert_int_equal(last_call.columns, 5);
        assert_int_equal(last_call.k, 3);
        assert_int_equal(last_call.lda, (int)lda(&d));
        assert_int_equal(last_call.ldb, (int)ldb(&d));
        assert_int_equal(last_call.ldc, 8);
        assert_true(last_call.alpha == (t & 1 ? 0.5f : 1.0f) && last_call.beta == 1);
        free(c);
        problem_end(&p);
    }
}

static void cblas_is_not_called_for_nothing_and_not_with_a_size_beyond_int(void **state) {
    (void)state;
    const mo_gemm_env env = {NULL, fake_sgemm, NULL, 0};
    float x[1] = {0}, c[1] = {5};
    const size_t big = (size_t)1 << 31;
    const mo_gemm_desc wrong[] = {{big, 1, 1, 0, 0, 0, 0, 0, 0, 0},
        {1, big, 1, 0, 0, 0, 0, 0, 0, 0}, {1, 1, big, 0, 0, 0, 0, 0, 0, 0},
        {1, 1, 1, 0, 0, big, 0, 0, 0, 0}, {1, 1, 1, 0, 0, 0, big, 0, 0, 0},
        {1, 1, 1, 0, 0, 0, 0, big, 0, 0}};
    memset(&last_call, 0, sizeof last_call);
    for (size_t i = 0; i < n_elements(wrong); i++)
        assert_int_equal(mo_gemm(&env, &wrong[i], x, x, c), MO_E_UNSUPPORTED);
    const mo_gemm_desc no_k = {1, 1, 0, 0, 0, 0, 0, 0, 0, 1};
    test_ok(mo_gemm(&env, &no_k, x, x, c));
    assert_int_equal(last_call.n, 0);
    assert_true(c[0] == 5);
}

static void cblas_takes_floats_only(void **state) {
    (void)state;
    const mo_gemm_env env = {NULL, fake_sgemm, NULL, 0};
    float x[4] = {1}, c[4] = {5};
    const mo_gemm_desc d = {2, 2, 2, 0, 0, 0, 0, 0, 0, 0};
    const mo_gemm_operand a = {MO_GEMM_F32, x, NULL, 0}, half = {MO_GEMM_BF16, x, NULL, 0};
    assert_int_equal(mo_gemm_mixed(&env, &d, &a, &half, c), MO_E_UNSUPPORTED);
    assert_int_equal(mo_gemm_mixed(&env, &d, &half, &a, c), MO_E_UNSUPPORTED);
    assert_true(c[0] == 5);
    test_ok(mo_gemm_mixed(&env, &d, &a, &a, c));
    assert_true(c[0] == 1);
}

static void openblas_fits_the_hook(void **state) {
    (void)state;
    void *library = dlopen("libopenblas.so.0", RTLD_NOW);
    void *symbol = library ? dlsym(library, "cblas_sgemm") : NULL;
    if (!symbol) skip();
    mo_gemm_env env = {NULL, NULL, NULL, 0};
    memcpy(&env.cblas, &symbol, sizeof symbol); /* ISO C has no cast from void * to a function */
    test_rng r = test_rng_begin(__func__);
    for (int t = 0; t < 4; t++) {
        const mo_gemm_desc d = {31, 45, 67, t & 1, t >> 1, 70, 71, 72, 0.5f, t & 1 ? 1.0f : 0.0f};
        check(&env, &r, d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_by_two_by_hand),
        cmocka_unit_test(alpha_and_beta_scale_as_said),
        cmocka_unit_test(beta_0_overwrites_nan),
        cmocka_unit_test(k_0_scales_c),
        cmocka_unit_test(no_rows_or_no_columns_are_no_work),
        cmocka_unit_test(nothing_in_place_of_a_pointer_is_refused),
        cmocka_unit_test(a_row_shorter_than_its_matrix_is_refused),
        cmocka_unit_test(a_smaller_workspace_gives_the_same_bits),
        cmocka_unit_test(the_workspace_grows_with_the_threads),
        cmocka_unit_test(random_shapes_match_double_for_all_transposes_on_every_instruction_set),
        cmocka_unit_test(products_larger_than_a_panel_match_double),
        cmocka_unit_test(rows_any_distance_apart_match_double),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(a_row_of_a_big_product_has_the_bits_of_the_product_of_one_row),
        cmocka_unit_test(a_and_b_may_be_the_same_matrix),
        cmocka_unit_test(products_of_any_types_have_the_bits_of_the_product_of_the_decoded),
        cmocka_unit_test(products_of_any_types_larger_than_a_panel_too),
        cmocka_unit_test(operands_that_say_too_little_are_refused),
        cmocka_unit_test(cblas_gets_the_arguments_and_its_result_is_the_product),
        cmocka_unit_test(cblas_is_not_called_for_nothing_and_not_with_a_size_beyond_int),
        cmocka_unit_test(cblas_takes_floats_only),
        cmocka_unit_test(openblas_fits_the_hook),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
