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
    const int n = test_cl_small() ? 16 : 240;
    const size_t most = test_cl_small() ? 20 : 80;
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
    const size_t n = test_cl_small() ? 4 : sizeof shapes / sizeof *shapes;
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
    const size_t M = test_cl_small() ? 20 : 150, N = test_cl_small() ? 20 : 140,
                 K = test_cl_small() ? 70 : 300;
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

/* ---- operands of every type ---------------------------------------------------------------- */

typedef struct stored {
    mo_cl_gemm_operand operand;
    float *decoded;
    size_t n;
} stored;

/* A random matrix of a type on the device, and decoded here. */
static stored stored_begin(test_cl *t, mo_gemm_type type, size_t rows, size_t columns, size_t ld,
    size_t block, size_t offset) {
    const size_t n = extent(rows, columns, ld), n_scales = type == MO_GEMM_INT8 ? rows : n / 32 + 1;
    static const size_t sizes[] = {4, 2, 2, 1, 1, 1};
    stored s = {.decoded = test_normals(&t->rng, n, 1), .n = n};
    void *data = test_array(n, 4);
    float *absmax = test_floats(n_scales);
    size_t used = 0;
    if (type == MO_GEMM_F32) memcpy(data, s.decoded, n * sizeof(float));
    if (type == MO_GEMM_BF16) {
        mo_f32_to_bf16(s.decoded, data, n, NULL);
        mo_bf16_to_f32(data, s.decoded, n, NULL);
    }
    if (type == MO_GEMM_F16) {
        mo_f32_to_f16(s.decoded, data, n, NULL);
        mo_f16_to_f32(data, s.decoded, n, NULL);
    }
    for (size_t i = 0; type == MO_GEMM_INT8 && i < rows; i++) {
        const mo_int8_desc row = {1, i + 1 < rows ? ld : columns, 0, NULL};
        int8_t *codes = (int8_t *)data + i * ld;
        test_ok(mo_int8_encode(&row, s.decoded + i * ld, codes, absmax + i, NULL));
        test_ok(mo_int8_decode(&row, codes, absmax + i, NULL, s.decoded + i * ld));
        used = rows;
    }
    if (type >= MO_GEMM_NF4) {
        const mo_quant4_desc q4 = {type == MO_GEMM_FP4 ? MO_QUANT_FP4 : MO_QUANT_NF4, block, NULL};
        test_ok(mo_quant4_encode(&q4, s.decoded, n, data, absmax));
        test_ok(mo_quant4_decode(&q4, data, absmax, 0, n, s.decoded));
        used = (n + block - 1) / block;
    }
    const size_t bytes = type >= MO_GEMM_NF4 ? (n + 1) / 2 : n * sizes[type];
    s.operand.type = type;
    s.operand.block = block;
    s.operand.data = test_cl_put(t, data, bytes, offset * sizes[type]);
    if (used) s.operand.absmax = test_cl_put(t, absmax, used * sizeof *absmax, offset * 4);
    free(data), free(absmax);
    return s;
}

static void check_mixed(test_cl *t, mo_gemm_desc d, mo_gemm_type ta, mo_gemm_type tb) {
    const mo_cl_gemm_env env = own(t);
    const size_t block = (size_t)32 << test_below(&t->rng, 4), n_c = d.m * d.n;
    const size_t rows_a = d.trans_a ? d.k : d.m, rows_b = d.trans_b ? d.n : d.k;
    stored a = stored_begin(t, ta, rows_a, columns_a(&d), lda(&d), block, 3);
    stored b = stored_begin(t, tb, rows_b, columns_b(&d), ldb(&d), block, 1);
    float *c = test_normals(&t->rng, n_c, 1), *want = test_floats(n_c);
    mo_cl_mem plain_a = test_cl_put(t, a.decoded, a.n * sizeof *c, 0);
    mo_cl_mem plain_b = test_cl_put(t, b.decoded, b.n * sizeof *c, 0);
    mo_cl_mem on_want = test_cl_put(t, c, n_c * sizeof *c, 0);
    mo_cl_mem on_c = test_cl_put(t, c, n_c * sizeof *c, 0);
    test_ok(mo_cl_gemm(&env, &d, plain_a, plain_b, on_want));
    test_ok(mo_cl_gemm_mixed(&env, &d, &a.operand, &b.operand, on_c));
    test_cl_get(t, on_want, want, n_c * sizeof *c);
    test_cl_get(t, on_c, c, n_c * sizeof *c);
    assert_same_bits(c, want, n_c * sizeof *c);
    test_cl_clear(t);
    free(a.decoded), free(b.decoded), free(c), free(want);
}

static mo_gemm_desc random_desc(test_cl *t, int i, size_t most) {
    mo_gemm_desc d = {1 + test_below(&t->rng, most), 1 + test_below(&t->rng, most),
        1 + test_below(&t->rng, 2 * most), i & 1, i >> 1 & 1, 0, 0, 0, 0, (float)(i % 3)};
    if (i % 5 == 0) d.lda = columns_a(&d) + test_below(&t->rng, 5);
    if (i % 5 == 1) d.ldb = columns_b(&d) + test_below(&t->rng, 5);
    return d;
}

/* Each program is built for its types and transposes, which takes most of the time here. */
static void products_of_any_types_have_the_bits_of_the_product_of_the_decoded(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t most = test_cl_small() ? 12 : 70;
    const int n = test_cl_small() ? 1 : 6;
    static const mo_gemm_type pairs[][2] = {{MO_GEMM_F16, MO_GEMM_BF16},
        {MO_GEMM_INT8, MO_GEMM_NF4}, {MO_GEMM_F32, MO_GEMM_INT8}, {MO_GEMM_FP4, MO_GEMM_F16},
        {MO_GEMM_NF4, MO_GEMM_FP4}};
    for (int i = 0; i < (int)(sizeof pairs / sizeof *pairs); i++)
        for (int trial = 0; trial < n; trial++)
            check_mixed(t, random_desc(t, 4 * trial + i % 4, most), pairs[i][0], pairs[i][1]);
}

/* ---- CLBlast ------------------------------------------------------------------------------- */

/* Its test multiplies matrices of 193 rows and more, which takes minutes on an interpreter. Its
 * kernels want groups of up to 256; a build that fails leaves a program behind in it. */
static mo_cl_gemm_env clblast(test_cl *t) {
    const mo_cl_gemm_env env = {.cl = &t->cl, .use = MO_CL_GEMM_CLBLAST};
    const mo_gemm_desc d = {1, 1, 1, 0, 0, 0, 0, 0, 0, 0};
    mo_cl_mem none = {0};
    if (test_cl_small() || t->cl.info.max_work_group < 256) skip();
    if (mo_cl_gemm(&env, &d, none, none, none) == MO_E_UNSUPPORTED) skip();
    return env;
}

static void products_by_clblast_match_double(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = clblast(t);
    const mo_gemm_desc shapes[] = {{129, 130, 131, 0, 1, 140, 0, 133, 0.5f, 2},
        {1, 200, 400, 0, 1, 0, 0, 0, 0, 0}, {33, 1, 70, 0, 1, 0, 0, 0, -1, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check(t, &env, shapes[i], i);
    assert_int_equal(t->cl.clblast, 1u << 2); /* tested, for these transposes, and passed */
}

static void the_own_kernel_runs_where_clblast_failed_its_test(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_gemm_desc d = {60, 70, 300, 0, 1, 0, 0, 0, 0, 0};
    mo_cl_gemm_env env = clblast(t), owner = own(t);
    const unsigned tested = t->cl.clblast;
    problem p = problem_begin(&t->rng, d);
    t->cl.clblast = 16u << 2;
    float *c = product(t, &env, &p, 0), *want = product(t, &owner, &p, 0);
    assert_same_bits(c, want, p.n_c * sizeof *c);
    assert_int_equal(t->cl.clblast, 16u << 2);
    t->cl.clblast = tested;
    problem_end(&p);
    free(c), free(want);
}

/* The product of ones, and whether the scratch was written. */
static int uses_scratch(test_cl *t, mo_cl_gemm_env env, const mo_gemm_desc *d, size_t size) {
    const float one = 1;
    uint32_t bits;
    memcpy(&bits, &one, sizeof bits);
    unsigned char *scratch = test_array(size, 1);
    float *c = test_floats(d->m * d->n);
    mo_cl_mem a = test_cl_new(t, d->m * d->k * 4, 0), b = test_cl_new(t, d->k * d->n * 4, 0);
    mo_cl_mem on_c = test_cl_new(t, d->m * d->n * 4, 0);
    test_ok(mo_cl_fill_u32(&t->heap, MO_CL_COMPUTE, &a, 0, a.size / 4, bits, NULL, NULL));
    test_ok(mo_cl_fill_u32(&t->heap, MO_CL_COMPUTE, &b, 0, b.size / 4, bits, NULL, NULL));
    memset(scratch, 0xa5, size);
    env.workspace = test_cl_put(t, scratch, size, 0);
    test_ok(mo_cl_gemm(&env, d, a, b, on_c));
    test_cl_get(t, on_c, c, on_c.size);
    test_cl_get(t, env.workspace, scratch, size);
    for (size_t i = 0; i < d->m * d->n; i++) assert_true(c[i] == (float)d->k);
    int used = 0;
    for (size_t i = 0; i < size; i++) used |= scratch[i] != 0xa5;
    test_cl_clear(t);
    free(c), free(scratch);
    return used;
}

/* Large enough for the kernel that wants its operands padded, on every device. */
static void the_own_kernel_runs_where_the_scratch_of_clblast_does_not_fit(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_gemm_desc d = {970, 971, 969, 0, 1, 0, 0, 0, 0, 0};
    mo_cl_gemm_env env = clblast(t);
    const size_t size = mo_cl_gemm_workspace_size(&env, &d);
    assert_true(size > 3 * 969 * 969 * sizeof(float));
    assert_true(uses_scratch(t, env, &d, size));
    assert_false(uses_scratch(t, env, &d, 4096));
}

static void without_clblast_no_workspace_is_wanted(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    const mo_gemm_desc d = {450, 451, 449, 0, 1, 0, 0, 0, 0, 0};
    assert_int_equal(mo_cl_gemm_workspace_size(&env, &d), 0);
    assert_int_equal(mo_cl_gemm_workspace_size(NULL, &d), 0);
    assert_int_equal(mo_cl_gemm_workspace_size(&env, NULL), 0);
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

static void operands_that_say_too_little_are_refused(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_gemm_env env = own(t);
    mo_cl_mem x = test_cl_new(t, 64, 0), c = test_cl_new(t, 64, 0), none = {0};
    mo_cl_mem three = mo_cl_part(&x, 0, 12), seven = mo_cl_part(&x, 0, 7);
    const mo_gemm_desc d = {4, 4, 4, 0, 0, 0, 0, 0, 0, 0};
    const mo_cl_gemm_operand good = {MO_GEMM_F32, x, none, 0};
    const mo_cl_gemm_operand wrong[] = {{MO_GEMM_F32, none, none, 0}, {MO_GEMM_INT8, x, none, 0},
        {MO_GEMM_NF4, x, none, 0}, {MO_GEMM_FP4, x, x, 16}, {MO_GEMM_FP4, x, x, 8192},
        {MO_GEMM_NF4, x, x, 65}, {MO_GEMM_TYPE_COUNT, x, x, 0}, {(mo_gemm_type)-1, x, x, 0},
        {MO_GEMM_BF16, mo_cl_part(&x, 0, 31), none, 0}, {MO_GEMM_INT8, x, three, 0},
        {MO_GEMM_INT8, three, x, 0}, {MO_GEMM_NF4, seven, x, 0},
        {MO_GEMM_NF4, x, mo_cl_part(&x, 0, 3), 0}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(mo_cl_gemm_mixed(&env, &d, &wrong[i], &good, c), MO_E_INVALID);
        assert_int_equal(mo_cl_gemm_mixed(&env, &d, &good, &wrong[i], c), MO_E_INVALID);
    }
    assert_int_equal(mo_cl_gemm_mixed(&env, &d, NULL, &good, c), MO_E_INVALID);
    assert_int_equal(mo_cl_gemm_mixed(&env, &d, &good, NULL, c), MO_E_INVALID);
    assert_int_equal(mo_cl_gemm_mixed(NULL, &d, &good, &good, c), MO_E_INVALID);
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
        cmocka_unit_test(products_of_any_types_have_the_bits_of_the_product_of_the_decoded),
        cmocka_unit_test(products_by_clblast_match_double),
        cmocka_unit_test(the_own_kernel_runs_where_clblast_failed_its_test),
        cmocka_unit_test(the_own_kernel_runs_where_the_scratch_of_clblast_does_not_fit),
        cmocka_unit_test(without_clblast_no_workspace_is_wanted),
        cmocka_unit_test(what_does_not_fit_its_block_is_refused),
        cmocka_unit_test(a_row_shorter_than_its_matrix_is_refused),
        cmocka_unit_test(operands_that_say_too_little_are_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
