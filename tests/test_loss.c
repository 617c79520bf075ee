/* test_loss.c - mo_linear_ce against double; chunks, refusals. */
#include "test_loss.h"

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
    mo_linear_ce_desc d[9];
    for (int i = 0; i < 9; i++) d[i] = p->d;
    d[0].rows = d[1].channels = d[2].vocab = 0;
    d[3].env = NULL;
    d[4].label_smoothing = -0.1f;
    d[5].label_smoothing = 1.1f;
    d[6].label_smoothing = NAN;
    d[7].workspace = NULL;
    d[8].workspace_size--;
    for (int i = 0; i < 9; i++)
        assert_int_equal(mo_linear_ce(&d[i], &p->t, &loss), i < 7 ? MO_E_INVALID : MO_E_NO_SPACE);
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
            p->d.scale = k % 2 ? 0.5f : 0.0f;
            assert_as_in_double(p, k % 2 ? 0.5 : 1.0 / (double)s[0]);
            p->d.label_smoothing = 0.1f;
            p->d.z_loss = 0.01f;
            assert_as_in_double(p, k % 2 ? 0.5 : 1.0 / (double)s[0]);
            problem_end(p);
        }
}

static void gradients_match_central_differences(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 4, 5, 9, 3);
    assert_central_differences(p);
    p->d.label_smoothing = 0.2f;
    p->d.z_loss = 0.05f;
    assert_central_differences(p);
    problem_end(p);
}

/* ---- rows that do not count, weights -------------------------------------------------------- */

static void the_loss_of_an_even_target_is_that_of_full_smoothing(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 2, 2, 8, 0);
    memset(p->w, 0, 16 * sizeof(float));
    p->d.label_smoothing = 1;
    p->d.z_loss = 0.5f;
    /* log 8, and half its square */
    assert_true(fabs(run(p) - (log(8) + 0.5 * log(8) * log(8))) < 1e-6);
    problem_end(p);
}

static void ignored_rows_change_nothing(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        problem *p = problem_begin(&r, 40, 10, 30, 0), *q = problem_begin(&r, 40, 10, 30, 0);
        size_t n = 0, counted = 0;
        p->d.ignore = 1;
        p->d.ignore_index = -100;
        p->t.counted = &counted;
        p->t.losses = test_floats(40);
        memcpy(q->w, p->w, 300 * sizeof *p->w);
        for (size_t i = 0; i < 40; i++) {
            if (i < 7 || i == 20 || i > 30) p->targets[i] = -100;
            else {
                memcpy(q->x + n * 10, p->x + i * 10, 10 * sizeof *p->x);
                q->targets[n++] = p->targets[i];
            }
        }
        q->d.rows = n;
        assert_true(run(p) == run(q));
        assert_int_equal(counted, n);
        n = 0;
        for (size_t i = 0; i < 40; i++) {
            const int ignored = p->targets[i] == -100;
            for (size_t c = 0; c < 10; c++)
                assert_true(p->dx[i * 10 + c] == (ignored ? 0 : q->dx[n * 10 + c]));
            assert_true(ignored ? p->t.losses[i] == 0 : p->t.losses[i] > 0);
            n += !ignored;
        }
        free(p->t.losses);
        p->t.losses = NULL;
        problem_end(p);
        problem_end(q);
    }
}

static void ignored_rows_around_a_chunk_are_not_read(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 20, 6, 30, 5);
    p->d.ignore = 1;
    for (size_t i = 0; i < 20; i++) {
        p->targets[i] = i < 3 || (i > 6 && i < 15) || i == 19 ? 0 : 1 + (int32_t)i;
        for (size_t c = 0; p->targets[i] == 0 && c < 6; c++) p->x[i * 6 + c] = NAN;
    }
    assert_as_in_double(p, 1.0 / 8);
    problem_end(p);
}

/* 50 rows in chunks of at most 40: 36 and 14, not 40 and 10. */
static void chunks_are_about_equal(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 50, 6, 30, 40);
    assert_as_in_double(p, 1.0 / 50);
    const float *logits = (const float *)p->d.workspace;
    for (size_t i = 0; i < 40 * 30; i++) assert_true(isnan(logits[i]) == (i >= 36 * 30));
    problem_end(p);
}

static void without_a_row_that_counts_everything_is_0(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 5, 3, 4, 2);
    size_t counted = 9;
    p->d.ignore = 1;
    p->d.ignore_index = 2;
    p->t.counted = &counted;
    for (size_t i = 0; i < 5; i++) p->targets[i] = 2;
    assert_true(run(p) == 0 && counted == 0);
    for (size_t i = 0; i < 15; i++) assert_true(p->dx[i] == 0);
    for (size_t i = 0; i < 12; i++) assert_true(p->dw[i] == 1);
    problem_end(p);
}

static void weights_multiply_losses_and_gradients(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        problem *p = problem_begin(&r, 12, 9, 33, 5);
        float *weights = test_normals(&r, 12, 1), *losses = test_floats(12),
              *plain = test_floats(12);
        p->t.losses = plain;
        run(p);
        p->t.weights = weights;
        p->t.losses = losses;
        assert_as_in_double(p, 1.0 / 12);
        for (size_t i = 0; i < 12; i++) assert_true(losses[i] == weights[i] * plain[i]);
        free(weights);
        free(losses);
        free(plain);
        problem_end(p);
    }
}

/* ---- chunks, threads, extremes -------------------------------------------------------------- */

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
        cmocka_unit_test(the_loss_of_an_even_target_is_that_of_full_smoothing),
        cmocka_unit_test(ignored_rows_change_nothing),
        cmocka_unit_test(ignored_rows_around_a_chunk_are_not_read),
        cmocka_unit_test(chunks_are_about_equal),
        cmocka_unit_test(without_a_row_that_counts_everything_is_0),
        cmocka_unit_test(weights_multiply_losses_and_gradients),
        cmocka_unit_test(chunks_change_no_bit_of_loss_and_dx),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(without_gradients_the_loss_is_the_same),
        cmocka_unit_test(logits_of_1e4_stay_finite),
        cmocka_unit_test(a_logit_that_is_nan_is_seen_in_the_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
