/* test_dpo.c - mo_dpo_pairs and mo_linear_dpo against double; chunks, refusals. */
#include "test_loss.h"

static void a_policy_that_is_its_reference_costs_log_2(void **state) {
    (void)state;
    const double policy[] = {-3, -7, -4, -1};
    mo_dpo_pairs_desc d = {2, 0.5f, 0, 0};
    double gradients[4], loss;
    test_ok(mo_dpo_pairs(&d, policy, policy, gradients, &loss));
    assert_true(fabs(loss - log(2)) < 1e-15);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(gradients[i] - (i < 2 ? -0.125 : 0.125)) < 1e-15); /* beta / 2 / pairs */
}

/* Preferences by far, either way: neither overflows. */
static void extreme_preferences_stay_finite(void **state) {
    (void)state;
    const double policy[] = {0, -1e6, -1e6, 0}, reference[4] = {0};
    const mo_dpo_pairs_desc d = {2, 1, 0, 1};
    double g[4], loss;
    test_ok(mo_dpo_pairs(&d, policy, reference, g, &loss));
    assert_true(loss == 1e6 && g[0] == 0 && g[1] == -1 && g[3] == 1);
}

/* Log-probability of a sequence of rows in double; g times its gradient is added. */
static double sequence_double(
    const problem *p, size_t begin, size_t end, double *dx, double g, double *dw) {
    double sum = 0, *l = test_doubles(p->vocab);
    for (size_t i = begin; i < end; i++) {
        if (p->d.ignore && p->targets[i] == p->d.ignore_index) continue;
        logits_double(p->x + i * p->channels, p->w, p->channels, p->vocab, l);
        const double z = log_sum(l, p->vocab, 1);
        sum += l[p->targets[i]] - z;
        for (size_t v = 0; dx && v < p->vocab; v++) {
            const double dl = g * ((v == (size_t)p->targets[i]) - exp(l[v] - z));
            for (size_t c = 0; c < p->channels; c++) {
                dx[i * p->channels + c] += dl * (double)p->w[v * p->channels + c];
                dw[v * p->channels + c] += dl * (double)p->x[i * p->channels + c];
            }
        }
    }
    free(l);
    return sum;
}

static const size_t answers[] = {3, 3, 9, 14, 15, 20}; /* the second one is empty */

static void prefer(problem *p, mo_linear_dpo_desc *d) {
    memset(d, 0, sizeof *d);
    d->ce = p->d;
    d->pairs.pairs = 3;
    d->pairs.beta = 0.3f;
    d->pairs.label_smoothing = 0.1f;
    d->ends = answers;
    d->ce.workspace_size = mo_linear_dpo_workspace_size(d);
    d->ce.workspace = mo_alloc(NULL, d->ce.workspace_size, 64);
    memset(d->ce.workspace, 0xff, d->ce.workspace_size);
}

static void preferences_match_double_in_any_chunks(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t chunk = 0; chunk < 8; chunk += 7) {
            problem *p = problem_begin(&r, 20, 6, 35, chunk);
            mo_linear_dpo_desc d;
            double want[6], got[6], g[6], loss, reference[6], want_loss;
            double *dx = test_doubles(120), *dw = test_doubles(210);
            p->d.ignore = 1;
            p->d.ignore_index = -100;
            p->targets[4] = p->targets[5] = p->targets[19] = -100;
            prefer(p, &d);
            for (size_t i = 0; i < 6; i++) {
                want[i] = sequence_double(p, i ? answers[i - 1] : 0, answers[i], NULL, 0, NULL);
                reference[i] = want[i] + 3 * (double)test_normal(&r);
            }
            test_ok(mo_dpo_pairs(&d.pairs, want, reference, g, &want_loss));
            for (size_t i = 0; i < 120; i++) dx[i] = 0;
            for (size_t i = 0; i < 210; i++) dw[i] = 1;
            for (size_t i = 0; i < 6; i++)
                sequence_double(p, i ? answers[i - 1] : 0, answers[i], dx, g[i], dw);
            test_ok(mo_linear_dpo(&d, &p->t, reference, got, &loss));
            for (size_t i = 0; i < 6; i++) assert_error_below(fabs(got[i] - want[i]), 1e-5);
            assert_error_below(fabs(loss - want_loss), 1e-5 * want_loss);
            assert_error_below(test_error(p->dx, dx, 120), 1e-5);
            assert_error_below(test_error(p->dw, dw, 210), 1e-5);
            p->t.dx = p->t.dw = NULL;
            test_ok(mo_linear_dpo_log_probs(&d, &p->t, want));
            assert_same_bits(want, got, sizeof want);
            mo_free(NULL, d.ce.workspace, d.ce.workspace_size, 64);
            free(dx);
            free(dw);
            problem_end(p);
        }
}

static void gradients_of_preferences_match_central_differences(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 20, 2, 9, 6);
    mo_linear_dpo_desc d;
    double reference[6] = {-5, 0, -20, -10, -3, -10}, loss, want[40], at[6];
    prefer(p, &d);
    test_ok(mo_linear_dpo(&d, &p->t, reference, NULL, &loss));
    for (size_t i = 0; i < 40; i++) {
        const float x = p->x[i];
        double side[2];
        for (int k = 0; k < 2; k++) {
            p->x[i] = x + (k ? 1e-3f : -1e-3f);
            for (size_t j = 0; j < 6; j++)
                at[j] = sequence_double(p, j ? answers[j - 1] : 0, answers[j], NULL, 0, NULL);
            test_ok(mo_dpo_pairs(&d.pairs, at, reference, NULL, &side[k]));
        }
        want[i] = (side[1] - side[0]) / ((double)(x + 1e-3f) - (double)(x - 1e-3f));
        p->x[i] = x;
    }
    assert_error_below(test_error(p->dx, want, 40), 1e-5);
    mo_free(NULL, d.ce.workspace, d.ce.workspace_size, 64);
    problem_end(p);
}

static void wrong_preferences_are_refused_and_change_nothing(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 20, 2, 9, 6);
    static const size_t falling[] = {3, 2, 9, 14, 15, 20}, short_ends[] = {3, 3, 9, 14, 15, 19},
                        long_ends[] = {3, 3, 9, 14, 15, 21};
    mo_linear_dpo_desc d[9];
    double reference[6] = {0}, log_probs[6] = {7}, loss = 5;
    prefer(p, &d[0]);
    p->dx[0] = 7;
    for (int i = 1; i < 9; i++) d[i] = d[0];
    d[0].ends = falling;
    d[1].ends = short_ends;
    d[2].ends = long_ends;
    d[3].ends = NULL; /* 20 rows are not six times as many */
    d[4].pairs.pairs = 0;
    d[5].ce.label_smoothing = 0.1f;
    d[6].pairs.label_smoothing = 0.6f;
    d[7].pairs.beta = -1;
    d[8].ce.workspace_size--;
    for (int i = 0; i < 9; i++)
        assert_int_equal(mo_linear_dpo(&d[i], &p->t, reference, log_probs, &loss),
            i < 8 ? MO_E_INVALID : MO_E_NO_SPACE);
    d[8] = d[7];
    d[8].pairs.beta = 0;
    assert_int_equal(mo_linear_dpo(&d[8], &p->t, NULL, log_probs, &loss), MO_E_INVALID);
    assert_int_equal(mo_linear_dpo(&d[8], NULL, reference, log_probs, &loss), MO_E_INVALID);
    assert_int_equal(mo_linear_dpo_log_probs(&d[8], &p->t, log_probs), MO_E_INVALID); /* has dx */
    p->t.weights = p->x;
    assert_int_equal(mo_linear_dpo(&d[8], &p->t, reference, log_probs, &loss), MO_E_INVALID);
    assert_int_equal(mo_linear_dpo_workspace_size(NULL), 0);
    assert_true(loss == 5 && log_probs[0] == 7 && p->dx[0] == 7);
    mo_free(NULL, d[8].ce.workspace, mo_linear_dpo_workspace_size(&d[8]), 64);
    problem_end(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_policy_that_is_its_reference_costs_log_2),
        cmocka_unit_test(extreme_preferences_stay_finite),
        cmocka_unit_test(preferences_match_double_in_any_chunks),
        cmocka_unit_test(gradients_of_preferences_match_central_differences),
        cmocka_unit_test(wrong_preferences_are_refused_and_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
