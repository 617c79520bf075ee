/* test_cl_loss.c - linear cross-entropy on a device: losses and gradients against double. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

typedef struct problem {
    size_t rows, channels, vocab;
    float *x, *w;
    int32_t *targets;
    mo_cl_linear_ce_desc d;
    mo_cl_linear_ce_tensors t;
    mo_cl_gemm_env env;
} problem;

/* dw starts from 1 everywhere: it is added to. The product's own kernel: CLBlast compiles long. */
static problem *problem_begin(
    test_cl *t, size_t rows, size_t channels, size_t vocab, size_t chunk) {
    problem *p = test_array(1, sizeof *p);
    const size_t n_dw = vocab * channels;
    float *ones = test_floats(n_dw);
    memset(p, 0, sizeof *p);
    p->env.cl = &t->cl;
    p->env.use = MO_CL_GEMM_OWN;
    p->d.env = &p->env;
    p->d.rows = p->rows = rows;
    p->d.channels = p->channels = channels;
    p->d.vocab = p->vocab = vocab;
    p->d.chunk_rows = chunk;
    p->x = test_normals(&t->rng, rows * channels, 1);
    p->w = test_normals(&t->rng, vocab * channels, 0.3f);
    p->targets = test_array(rows, sizeof *p->targets);
    for (size_t i = 0; i < rows; i++) p->targets[i] = (int32_t)test_below(&t->rng, vocab);
    for (size_t i = 0; i < n_dw; i++) ones[i] = 1;
    p->t.x = test_cl_put(t, p->x, rows * channels * 4, 4);
    p->t.w = test_cl_put(t, p->w, n_dw * 4, 12);
    p->t.targets = test_cl_put(t, p->targets, rows * 4, 8);
    p->t.losses = test_cl_new(t, rows * 4, 4);
    p->t.dx = test_cl_new(t, rows * channels * 4, 20);
    p->t.dw = test_cl_put(t, ones, n_dw * 4, 4);
    p->d.workspace = test_cl_new(t, mo_cl_linear_ce_workspace_size(&p->d), 4);
    free(ones);
    return p;
}
static void problem_end(test_cl *t, problem *p) {
    test_cl_clear(t);
    free(p->x), free(p->w), free(p->targets), free(p);
}
static double run(problem *p) {
    double loss = -1;
    test_ok(mo_cl_linear_ce(&p->d, &p->t, &loss));
    return loss;
}

/* Loss in double, of the rows with a valid target; dx and dw (added to) where they are not NULL. */
static double loss_double(const problem *p, double scale, double *dx, double *dw) {
    double loss = 0, *l = test_doubles(p->vocab);
    for (size_t i = 0; i < p->rows; i++) {
        const float *x = p->x + i * p->channels;
        double most = -HUGE_VAL, sum = 0;
        if (p->targets[i] < 0 || (size_t)p->targets[i] >= p->vocab) continue;
        for (size_t v = 0; v < p->vocab; v++) {
            l[v] = 0;
            for (size_t c = 0; c < p->channels; c++)
                l[v] += (double)x[c] * (double)p->w[v * p->channels + c];
            most = fmax(most, l[v]);
        }
        for (size_t v = 0; v < p->vocab; v++) sum += exp(l[v] - most);
        loss += log(sum) + most - l[p->targets[i]];
        for (size_t v = 0; dx && v < p->vocab; v++) {
            const double d = scale * (exp(l[v] - most) / sum - (v == (size_t)p->targets[i]));
            for (size_t c = 0; c < p->channels; c++) {
                dx[i * p->channels + c] += d * (double)p->w[v * p->channels + c];
                dw[v * p->channels + c] += d * (double)x[c];
            }
        }
    }
    free(l);
    return scale * loss;
}
static void assert_near(test_cl *t, mo_cl_mem mem, const double *ref, size_t n, double bar) {
    float *got = test_floats(n);
    test_cl_get(t, mem, got, n * sizeof *got);
    assert_error_below(test_error(got, ref, n), bar);
    free(got);
}
/* 1e-5: logits of size 5 have an error of some 1e-6, which e^l makes a relative one of p. */
static void assert_as_in_double(test_cl *t, problem *p, double loss, double scale) {
    const size_t n_dx = p->rows * p->channels, n_dw = p->vocab * p->channels;
    double *dx = test_doubles(n_dx), *dw = test_doubles(n_dw);
    for (size_t i = 0; i < n_dx; i++) dx[i] = 0;
    for (size_t i = 0; i < n_dw; i++) dw[i] = 1;
    const double ref = loss_double(p, scale, dx, dw);
    assert_error_below(fabs(loss - ref), 3e-6 * (fabs(ref) + 1));
    assert_near(t, p->t.dx, dx, n_dx, 1e-5);
    assert_near(t, p->t.dw, dw, n_dw, 1e-5);
    free(dx), free(dw);
}

/* ---- examples ------------------------------------------------------------------------------ */

static void equal_logits_cost_log_vocab(void **state) {
    test_cl *t = test_cl_of(state);
    problem *p = problem_begin(t, 3, 2, 50, 0);
    test_ok(mo_cl_fill_u32(&t->heap, MO_CL_COMPUTE, &p->t.w, 0, 100, 0, NULL, NULL));
    assert_error_below(fabs(run(p) - log(50)), 2e-6); /* a few ulp of log(50) */
    problem_end(t, p);
}

static void a_vocabulary_of_one_costs_nothing(void **state) {
    test_cl *t = test_cl_of(state);
    problem *p = problem_begin(t, 3, 4, 1, 0);
    float dx[12];
    assert_true(run(p) == 0);
    test_cl_get(t, p->t.dx, dx, sizeof dx);
    for (int i = 0; i < 12; i++) assert_true(dx[i] == 0);
    problem_end(t, p);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void losses_and_gradients_match_double(void **state) {
    test_cl *t = test_cl_of(state);
    static const size_t shapes[][4] = {/* rows, channels, vocab, chunk */
        {1, 1, 2, 0}, {5, 3, 15, 2}, {7, 17, 16, 0}, {4, 8, 63, 3}, {9, 5, 65, 4}, {3, 20, 257, 1},
        {65, 33, 130, 64}, {2, 7, 1000, 2}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        problem *p = problem_begin(t, shapes[k][0], shapes[k][1], shapes[k][2], shapes[k][3]);
        const double loss = run(p);
        assert_as_in_double(t, p, loss, 1 / (double)p->rows);
        problem_end(t, p);
    }
}

static void large_logits_neither_overflow_nor_vanish(void **state) {
    test_cl *t = test_cl_of(state);
    problem *p = problem_begin(t, 4, 1, 300, 0);
    for (size_t i = 0; i < 300; i++)
        p->w[i] = (float)i - 150; /* rising, so that every block rescales */
    for (size_t i = 0; i < 4; i++) p->x[i] = i % 2 ? -2.0f : 3.0f;
    p->t.w = test_cl_put(t, p->w, 1200, 4);
    p->t.x = test_cl_put(t, p->x, 16, 4);
    const double ref = loss_double(p, 0.25, NULL, NULL);
    assert_error_below(fabs(run(p) - ref), 1e-6 * ref);
    problem_end(t, p);
}

static void a_scale_multiplies_loss_and_gradients(void **state) {
    test_cl *t = test_cl_of(state);
    problem *p = problem_begin(t, 6, 5, 40, 4);
    p->d.scale = 0.01f;
    const double loss = run(p);
    assert_as_in_double(t, p, loss, (double)0.01f);
    problem_end(t, p);
}

static void the_loss_has_the_same_bits_without_gradients_in_chunks_and_read_later(void **state) {
    test_cl *t = test_cl_of(state);
    problem *p = problem_begin(t, 10, 5, 70, 0);
    const double whole = run(p);
    double later = -1;
    p->d.chunk_rows = 3;
    assert_true(run(p) == whole);
    p->t.dx = (mo_cl_mem){0};
    test_ok(mo_cl_linear_ce(&p->d, &p->t, NULL));
    test_ok(mo_cl_linear_ce_read(&t->cl, p->t.losses, 10, 0, &later));
    assert_true(later == whole);
    test_ok(mo_cl_linear_ce_read(&t->cl, p->t.losses, 10, 0.5f, &later));
    assert_error_below(fabs(later - 5 * whole), 1e-12 * whole);
    problem_end(t, p);
}

static void a_frozen_head_has_the_same_dx_and_an_untouched_dw(void **state) {
    test_cl *t = test_cl_of(state);
    problem *p = problem_begin(t, 6, 5, 40, 4);
    const mo_cl_mem dw = p->t.dw;
    float first[30], again[30], w[200];
    p->t.dw = (mo_cl_mem){0};
    run(p);
    test_cl_get(t, p->t.dx, first, sizeof first);
    test_cl_get(t, dw, w, sizeof w);
    for (int i = 0; i < 200; i++) assert_true(w[i] == 1);
    p->t.dw = dw;
    run(p);
    test_cl_get(t, p->t.dx, again, sizeof again);
    assert_same_bits(first, again, sizeof first);
    problem_end(t, p);
}

static void more_rows_than_one_transfer_are_summed_in_their_order(void **state) {
    test_cl *t = test_cl_of(state);
    enum { N = 3001 };
    float *losses = test_normals(&t->rng, N, 1);
    double sum = 0, got = 0;
    for (int i = 0; i < N; i++) losses[i] = fabsf(losses[i]), sum += (double)losses[i];
    test_ok(mo_cl_linear_ce_read(&t->cl, test_cl_put(t, losses, N * 4, 4), N, 1, &got));
    assert_true(got == sum);
    test_cl_clear(t);
    free(losses);
}

static void a_target_outside_the_vocabulary_has_no_gradient_and_is_reported(void **state) {
    test_cl *t = test_cl_of(state);
    const int32_t bad[] = {-1, 7, INT32_MIN, INT32_MAX};
    for (int i = 0; i < 4; i++) {
        problem *p = problem_begin(t, 5, 4, 7, 2);
        float losses[5];
        double loss = 5;
        p->targets[4 - i] = bad[i];
        p->t.targets = test_cl_put(t, p->targets, 20, 4);
        assert_int_equal(mo_cl_linear_ce(&p->d, &p->t, &loss), MO_E_INVALID);
        assert_true(loss == 5);
        test_cl_get(t, p->t.losses, losses, sizeof losses);
        for (int k = 0; k < 5; k++) assert_true(k == 4 - i ? losses[k] == -1 : losses[k] > 0);
        assert_as_in_double(t, p, loss_double(p, 0.2, NULL, NULL), 0.2);
        problem_end(t, p);
    }
}

static void wrong_arguments_are_refused_and_change_nothing(void **state) {
    test_cl *t = test_cl_of(state);
    problem *p = problem_begin(t, 5, 4, 7, 2);
    const mo_cl_gemm_env nothing = {NULL, {0}, MO_CL_GEMM_AUTO};
    const mo_cl_mem none = {0};
    double loss = 5;
    mo_cl_linear_ce_desc d[8];
    for (int i = 0; i < 8; i++) d[i] = p->d;
    d[0].rows = d[1].channels = d[2].vocab = 0;
    d[3].env = NULL;
    d[4].env = &nothing;
    d[5].rows = 6;
    d[6].workspace = none;
    d[7].workspace.size -= 4;
    for (int i = 0; i < 8; i++)
        assert_int_equal(
            mo_cl_linear_ce(&d[i], &p->t, &loss), i < 6 ? MO_E_INVALID : MO_E_NO_SPACE);
    mo_cl_linear_ce_tensors bad[6];
    for (int i = 0; i < 6; i++) bad[i] = p->t;
    bad[0].x = bad[1].w = bad[2].targets = bad[3].losses = none;
    bad[4].dx.size -= 4;
    bad[5].dw.size -= 4;
    for (int i = 0; i < 6; i++)
        assert_int_equal(mo_cl_linear_ce(&p->d, &bad[i], &loss), MO_E_INVALID);
    assert_int_equal(mo_cl_linear_ce(NULL, &p->t, &loss), MO_E_INVALID);
    assert_int_equal(mo_cl_linear_ce(&p->d, NULL, &loss), MO_E_INVALID);
    d[0] = p->d;
    d[0].vocab = SIZE_MAX / 2;
    assert_int_equal(mo_cl_linear_ce(&d[0], &p->t, &loss), MO_E_OVERFLOW);
    assert_int_equal(mo_cl_linear_ce_workspace_size(&d[0]), 0);
    assert_int_equal(mo_cl_linear_ce_workspace_size(NULL), 0);
    assert_int_equal(mo_cl_linear_ce_read(NULL, p->t.losses, 5, 0, &loss), MO_E_INVALID);
    assert_int_equal(mo_cl_linear_ce_read(&t->cl, none, 5, 0, &loss), MO_E_INVALID);
    assert_int_equal(mo_cl_linear_ce_read(&t->cl, p->t.losses, 6, 0, &loss), MO_E_INVALID);
    assert_int_equal(mo_cl_linear_ce_read(&t->cl, p->t.losses, 0, 0, &loss), MO_E_INVALID);
    assert_int_equal(mo_cl_linear_ce_read(&t->cl, p->t.losses, 5, 0, NULL), MO_E_INVALID);
    assert_true(loss == 5);
    problem_end(t, p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_logits_cost_log_vocab),
        cmocka_unit_test(a_vocabulary_of_one_costs_nothing),
        cmocka_unit_test(losses_and_gradients_match_double),
        cmocka_unit_test(large_logits_neither_overflow_nor_vanish),
        cmocka_unit_test(a_scale_multiplies_loss_and_gradients),
        cmocka_unit_test(the_loss_has_the_same_bits_without_gradients_in_chunks_and_read_later),
        cmocka_unit_test(a_frozen_head_has_the_same_dx_and_an_untouched_dw),
        cmocka_unit_test(more_rows_than_one_transfer_are_summed_in_their_order),
        cmocka_unit_test(a_target_outside_the_vocabulary_has_no_gradient_and_is_reported),
        cmocka_unit_test(wrong_arguments_are_refused_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
