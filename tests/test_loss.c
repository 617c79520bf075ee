/* test_loss.c - mo_linear_ce: loss and gradients against double, chunks, refusals. */
#include "test_numeric.h"

typedef struct problem {
    size_t rows, channels, vocab;
    float *x, *w, *dx, *dw;
    int32_t *targets;
    mo_linear_ce_desc d;
    mo_linear_ce_tensors t;
    mo_gemm_env env;
    mo_parallel parallel;
} problem;

static void workspaces_begin(problem *p, size_t chunk, int threads) {
    p->parallel = test_threads(threads);
    p->env.parallel = &p->parallel;
    p->env.workspace_size = mo_gemm_workspace_size(&p->parallel, NULL);
    p->env.workspace = mo_alloc(NULL, p->env.workspace_size, 64);
    p->d.env = &p->env;
    p->d.chunk_rows = chunk;
    p->d.workspace_size = mo_linear_ce_workspace_size(&p->d);
    p->d.workspace = mo_alloc(NULL, p->d.workspace_size, 64);
    assert_non_null(p->d.workspace);
    memset(p->d.workspace, 0xff, p->d.workspace_size);
}
static void workspaces_end(problem *p) {
    mo_free(NULL, p->env.workspace, p->env.workspace_size, 64);
    mo_free(NULL, p->d.workspace, p->d.workspace_size, 64);
}

/* dw starts from 1 everywhere: it is added to. */
static problem *problem_begin(
    test_rng *r, size_t rows, size_t channels, size_t vocab, size_t chunk) {
    problem *p = (problem *)test_array(1, sizeof *p);
    memset(p, 0, sizeof *p);
    p->d.rows = p->rows = rows;
    p->d.channels = p->channels = channels;
    p->d.vocab = p->vocab = vocab;
    p->x = test_normals(r, rows * channels, 1);
    p->w = test_normals(r, vocab * channels, 0.3f);
    p->dx = test_floats(rows * channels);
    p->dw = test_floats(vocab * channels);
    p->targets = (int32_t *)test_array(rows, sizeof *p->targets);
    for (size_t i = 0; i < rows; i++) p->targets[i] = (int32_t)test_below(r, vocab);
    for (size_t i = 0; i < vocab * channels; i++) p->dw[i] = 1;
    p->t.x = p->x;
    p->t.w = p->w;
    p->t.dx = p->dx;
    p->t.dw = p->dw;
    p->t.targets = p->targets;
    workspaces_begin(p, chunk, 1);
    return p;
}
static void problem_end(problem *p) {
    workspaces_end(p);
    free(p->x);
    free(p->w);
    free(p->dx);
    free(p->dw);
    free(p->targets);
    free(p);
}
static double run(problem *p) {
    double loss = -1;
    test_ok(mo_linear_ce(&p->d, &p->t, &loss));
    return loss;
}

/* Loss in double; dx and dw (added to) where they are not NULL. */
static double loss_double(const problem *p, double scale, double *dx, double *dw) {
    double loss = 0, *l = test_doubles(p->vocab);
    for (size_t i = 0; i < p->rows; i++) {
        const float *x = p->x + i * p->channels;
        double most = -HUGE_VAL, sum = 0;
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

/* ---- examples ------------------------------------------------------------------------------ */

static void equal_logits_cost_log_vocab(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 3, 2, 50, 0);
    memset(p->w, 0, 100 * sizeof(float));
    /* logf is within an ulp of a number below 4 */
    assert_true(fabs(run(p) - log(50)) < 1e-6);
    problem_end(p);
}

static void a_vocabulary_of_one_costs_nothing(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 3, 4, 1, 0);
    assert_true(run(p) == 0);
    for (int i = 0; i < 12; i++) assert_true(p->dx[i] == 0);
    for (int i = 0; i < 4; i++) assert_true(p->dw[i] == 1);
    problem_end(p);
}

static void wrong_arguments_are_refused_and_change_nothing(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 5, 4, 7, 2);
    double loss = 5;
    p->dx[0] = 7;
    mo_linear_ce_desc d[6];
    for (int i = 0; i < 6; i++) d[i] = p->d;
    d[0].rows = d[1].channels = d[2].vocab = 0;
    d[3].env = NULL;
    d[4].workspace = NULL;
    d[5].workspace_size--;
    for (int i = 0; i < 6; i++)
        assert_int_equal(mo_linear_ce(&d[i], &p->t, &loss), i < 4 ? MO_E_INVALID : MO_E_NO_SPACE);
    mo_linear_ce_tensors t[3];
    for (int i = 0; i < 3; i++) t[i] = p->t;
    t[0].x = t[1].w = NULL;
    t[2].targets = NULL;
    for (int i = 0; i < 3; i++) assert_int_equal(mo_linear_ce(&p->d, &t[i], &loss), MO_E_INVALID);
    assert_int_equal(mo_linear_ce(NULL, &p->t, &loss), MO_E_INVALID);
    assert_int_equal(mo_linear_ce(&p->d, NULL, &loss), MO_E_INVALID);
    assert_int_equal(mo_linear_ce(&p->d, &p->t, NULL), MO_E_INVALID);
    const int32_t bad[] = {-1, 7, INT32_MIN, INT32_MAX};
    for (int i = 0; i < 4; i++) {
        const int32_t good = p->targets[4];
        p->targets[4] = bad[i]; /* in the last chunk */
        assert_int_equal(mo_linear_ce(&p->d, &p->t, &loss), MO_E_INVALID);
        p->targets[4] = good;
    }
    mo_gemm_env small = p->env;
    small.workspace_size = 64;
    mo_linear_ce_desc no_room = p->d;
    no_room.env = &small;
    assert_int_equal(mo_linear_ce(&no_room, &p->t, &loss), MO_E_NO_SPACE);
    mo_linear_ce_desc huge = p->d;
    huge.vocab = SIZE_MAX / 2;
    assert_int_equal(mo_linear_ce(&huge, &p->t, &loss), MO_E_OVERFLOW);
    assert_int_equal(mo_linear_ce_workspace_size(&huge), 0);
    assert_int_equal(mo_linear_ce_workspace_size(NULL), 0);
    assert_true(loss == 5 && p->dx[0] == 7);
    for (int i = 0; i < 28; i++) assert_true(p->dw[i] == 1);
    problem_end(p);
}

static void the_workspace_is_the_logits_of_a_chunk(void **state) {
    (void)state;
    mo_linear_ce_desc d;
    memset(&d, 0, sizeof d);
    d.rows = 1024;
    d.channels = 64;
    d.vocab = 255;
    assert_int_equal(mo_linear_ce_workspace_size(&d), 1024 * 256 * 4);
    d.chunk_rows = 16;
    assert_int_equal(mo_linear_ce_workspace_size(&d), 16 * 256 * 4);
    d.chunk_rows = 5000; /* not more than there are */
    assert_int_equal(mo_linear_ce_workspace_size(&d), 1024 * 256 * 4);
}

/* ---- properties ---------------------------------------------------------------------------- */

/* A logit is a sum of channels products: 1e-6 of the largest logit, which is the relative error of
 * a probability; gradients are sums of those. 1e-5 of the largest element. */
static void loss_and_gradients_match_double(void **state) {
    (void)state;
    static const size_t shapes[][4] = {/* rows, channels, vocab, chunk */
        {1, 1, 2, 0}, {3, 5, 7, 1}, {17, 33, 65, 4}, {64, 48, 256, 16}, {33, 20, 1003, 33}};
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t k = 0; k < n_elements(shapes); k++) {
            const size_t *s = shapes[k];
            problem *p = problem_begin(&r, s[0], s[1], s[2], s[3]);
            double *dx = test_doubles(s[0] * s[1]), *dw = test_doubles(s[2] * s[1]);
            for (size_t i = 0; i < s[0] * s[1]; i++) dx[i] = 0;
            for (size_t i = 0; i < s[2] * s[1]; i++) dw[i] = 1;
            p->d.scale = k % 2 ? 0.5f : 0.0f;
            const double want = loss_double(p, k % 2 ? 0.5 : 1.0 / (double)s[0], dx, dw);
            assert_error_below(fabs(run(p) - want), 1e-5 * fabs(want));
            assert_error_below(test_error(p->dx, dx, s[0] * s[1]), 1e-5);
            assert_error_below(test_error(p->dw, dw, s[2] * s[1]), 1e-5);
            free(dx);
            free(dw);
            problem_end(p);
        }
}

/* h is 1e-3 as the float steps it rounds to; h^2 times third derivatives of order 0.1 is 1e-7, so
 * 1e-5 is the fp32 kernel's. */
static void gradients_match_central_differences(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 4, 5, 9, 3);
    float *arrays[] = {p->x, p->w}, *gradients[] = {p->dx, p->dw};
    const size_t sizes[] = {20, 45};
    double want[45];
    run(p);
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < sizes[k]; i++) {
            float *at = arrays[k] + i;
            const float x = *at, high = x + 1e-3f, low = x - 1e-3f;
            *at = high;
            const double above = loss_double(p, 0.25, NULL, NULL);
            *at = low;
            want[i] = (above - loss_double(p, 0.25, NULL, NULL)) / ((double)high - (double)low) + k;
            *at = x;
        }
        assert_error_below(test_error(gradients[k], want, sizes[k]), 1e-5);
    }
    problem_end(p);
}

static void chunks_change_no_bit_of_loss_and_dx(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        problem *p = problem_begin(&r, 50, 30, 300, 0);
        const double loss = run(p);
        float *dx = test_copy(p->dx, 50 * 30);
        double *dw = test_doubles(300 * 30);
        for (size_t i = 0; i < 300 * 30; i++) dw[i] = (double)p->dw[i];
        const size_t chunks[] = {1, 2, 7, 16, 49, 50, 1000};
        for (size_t k = 0; k < n_elements(chunks); k++) {
            workspaces_end(p);
            workspaces_begin(p, chunks[k], 1 + (int)(k % 3));
            for (size_t i = 0; i < 300 * 30; i++) p->dw[i] = 1;
            assert_true(run(p) == loss);
            assert_same_bits(p->dx, dx, 50 * 30 * sizeof *dx);
            /* up to 50 sums around 1, each rounded */
            assert_error_below(test_error(p->dw, dw, 300 * 30), 50 * 0x1p-24);
        }
        free(dx);
        free(dw);
        problem_end(p);
    }
}

static void threads_change_no_bit(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        problem *p = problem_begin(&r, 70, 65, 500, 32);
        const double loss = run(p);
        float *dx = test_copy(p->dx, 70 * 65), *dw = test_copy(p->dw, 500 * 65);
        for (int threads = 2; threads <= 5; threads++) {
            workspaces_end(p);
            workspaces_begin(p, 32, threads);
            for (size_t i = 0; i < 500 * 65; i++) p->dw[i] = 1;
            assert_true(run(p) == loss);
            assert_same_bits(p->dx, dx, 70 * 65 * sizeof *dx);
            assert_same_bits(p->dw, dw, 500 * 65 * sizeof *dw);
        }
        free(dx);
        free(dw);
        problem_end(p);
    }
}

static void without_gradients_the_loss_is_the_same(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 20, 10, 40, 8);
    const double loss = run(p);
    float *dx = test_copy(p->dx, 200), *dw = test_copy(p->dw, 400);
    p->t.dw = NULL; /* a frozen head */
    memset(p->dx, 0, 200 * sizeof(float));
    assert_true(run(p) == loss);
    assert_same_bits(p->dx, dx, 200 * sizeof *dx);
    assert_same_bits(p->dw, dw, 400 * sizeof *dw);
    p->t.dx = NULL; /* the loss alone */
    p->t.dw = p->dw;
    assert_true(run(p) == loss);
    assert_same_bits(p->dw, dw, 400 * sizeof *dw);
    free(dx);
    free(dw);
    problem_end(p);
}

static void logits_of_1e4_stay_finite(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        problem *p = problem_begin(&r, 9, 16, 77, 4);
        for (size_t i = 0; i < 9 * 16; i++) p->x[i] *= 1e4f;
        const double want = loss_double(p, 1.0 / 9, NULL, NULL);
        assert_error_below(fabs(run(p) - want), 1e-5 * want);
        for (size_t i = 0; i < 9 * 16; i++) assert_true(isfinite(p->dx[i]));
        for (size_t i = 0; i < 77 * 16; i++) assert_true(isfinite(p->dw[i]));
        problem_end(p);
    }
}

static void a_logit_that_is_nan_is_seen_in_the_loss(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t v = 0; v < 40; v++) {
            problem *p = problem_begin(&r, 3, 4, 40, 0);
            p->w[v * 4] = NAN;
            assert_true(isnan(run(p)));
            problem_end(p);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_logits_cost_log_vocab),
        cmocka_unit_test(a_vocabulary_of_one_costs_nothing),
        cmocka_unit_test(wrong_arguments_are_refused_and_change_nothing),
        cmocka_unit_test(the_workspace_is_the_logits_of_a_chunk),
        cmocka_unit_test(loss_and_gradients_match_double),
        cmocka_unit_test(gradients_match_central_differences),
        cmocka_unit_test(chunks_change_no_bit_of_loss_and_dx),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(without_gradients_the_loss_is_the_same),
        cmocka_unit_test(logits_of_1e4_stay_finite),
        cmocka_unit_test(a_logit_that_is_nan_is_seen_in_the_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
