/* test_loss.c - losses over chunks of logits: mo_linear_ce, mo_linear_kd, mo_linear_dpo against
 * double; chunks, refusals. */
#include "test_numeric.h"

typedef struct problem {
    size_t rows, channels, vocab;
    float *x, *w, *dx, *dw;
    int32_t *targets;
    mo_linear_ce_desc d;
    mo_linear_ce_tensors t;
    mo_linear_kd_desc kd; /* its ce is d */
    mo_linear_kd_tensors kt;
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
    if (p->kd.temperature == 0) {
        test_ok(mo_linear_ce(&p->d, &p->t, &loss));
        return loss;
    }
    p->kd.ce = p->d;
    p->kt.ce = p->t;
    p->kd.ce.workspace_size = mo_linear_kd_workspace_size(&p->kd);
    p->kd.ce.workspace = mo_alloc(NULL, p->kd.ce.workspace_size, 64);
    memset(p->kd.ce.workspace, 0xff, p->kd.ce.workspace_size);
    test_ok(mo_linear_kd(&p->kd, &p->kt, &loss));
    mo_free(NULL, p->kd.ce.workspace, p->kd.ce.workspace_size, 64);
    return loss;
}

/* log(sum e^(l / t)) */
static double log_sum(const double *l, size_t n, double t) {
    double most = -HUGE_VAL, sum = 0;
    for (size_t v = 0; v < n; v++) most = fmax(most, l[v]);
    for (size_t v = 0; v < n; v++) sum += exp((l[v] - most) / t);
    return log(sum) + most / t;
}
static void logits_double(const float *x, const float *w, size_t channels, size_t n, double *l) {
    for (size_t v = 0; v < n; v++) {
        l[v] = 0;
        for (size_t c = 0; c < channels; c++) l[v] += (double)x[c] * (double)w[v * channels + c];
    }
}

/* Cross-entropy of row i with logits l, times a factor; its gradient is added to dl. */
static double ce_row_double(
    const problem *p, size_t i, const double *l, double factor, double *dl) {
    const size_t n = p->vocab, target = (size_t)p->targets[i];
    const double z = log_sum(l, n, 1), s = (double)p->d.label_smoothing, c = (double)p->d.z_loss;
    double mean = 0;
    for (size_t v = 0; v < n; v++) mean += l[v] / (double)n;
    for (size_t v = 0; v < n; v++)
        dl[v] +=
            factor * ((1 + 2 * c * z) * exp(l[v] - z) - s / (double)n - (1 - s) * (v == target));
    return factor * (z - (1 - s) * l[target] - s * mean + c * z * z);
}

/* Divergence from the teacher's logits q, or from the k that are written down. */
static double kd_row_double(
    const problem *p, size_t i, const double *l, double factor, double *dl) {
    const size_t n = p->vocab, k = p->kd.k;
    const double t = (double)p->kd.temperature;
    double kl = 0, given = 0, own = 0, *q = test_doubles(n), *teacher = test_doubles(n);
    const double z = log_sum(l, n, t);
    memset(teacher, 0, n * sizeof *teacher);
    if (k == 0) {
        logits_double(p->kt.teacher_x + i * p->kd.teacher_channels, p->kt.teacher_w,
            p->kd.teacher_channels, n, q);
        const double zq = log_sum(q, n, t);
        for (size_t v = 0; v < n; v++) teacher[v] = exp(q[v] / t - zq);
    }
    for (size_t j = 0; j < k; j++) {
        float x;
        mo_f16_to_f32(p->kt.log_probs + i * k + j, &x, 1, NULL);
        teacher[((const uint16_t *)p->kt.indices)[i * k + j]] = exp((double)x);
    }
    for (size_t v = 0; v < n; v++) {
        given += teacher[v];
        if (teacher[v] > 0) own += exp(l[v] / t - z);
    }
    const double norm = k == n || given > 1 ? given : 1;
    const double rest = k == 0 || k == n || given > 1 ? 0 : 1 - given;
    for (size_t v = 0; v < n; v++) {
        const double pt = teacher[v] / norm, ps = exp(l[v] / t - z);
        if (teacher[v] > 0) {
            kl += pt * (log(pt) - log(ps));
            dl[v] += factor / t * (ps - pt);
        } else dl[v] += factor / t * ps * (1 - (rest > 0 ? rest / (1 - own) : 0));
    }
    if (rest > 0) kl += rest * (log(rest) - log(1 - own));
    free(q);
    free(teacher);
    return factor * kl;
}

/* Loss in double; dx and dw (added to) where they are not NULL. A temperature: of mo_linear_kd. */
static double loss_double(const problem *p, double scale, double *dx, double *dw) {
    double loss = 0, *l = test_doubles(p->vocab), *dl = test_doubles(p->vocab);
    const double t = (double)p->kd.temperature, kd = t > 0 ? (double)p->kd.weight : 0;
    for (size_t i = 0; i < p->rows; i++) {
        const float *x = p->x + i * p->channels;
        const double factor = scale * (p->t.weights ? (double)p->t.weights[i] : 1);
        if (p->d.ignore && p->targets[i] == p->d.ignore_index) continue;
        logits_double(x, p->w, p->channels, p->vocab, l);
        memset(dl, 0, p->vocab * sizeof *dl);
        loss += ce_row_double(p, i, l, factor * (1 - kd), dl);
        if (kd > 0) loss += kd_row_double(p, i, l, factor * kd * t * t, dl);
        for (size_t v = 0; dx && v < p->vocab; v++)
            for (size_t c = 0; c < p->channels; c++) {
                dx[i * p->channels + c] += dl[v] * (double)p->w[v * p->channels + c];
                dw[v * p->channels + c] += dl[v] * (double)x[c];
            }
    }
    free(l);
    free(dl);
    return loss;
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

/* Runs, and compares. A logit is a sum of channels products: 1e-6 of the largest logit, which is
 * the relative error of a probability; gradients are sums of those. 1e-5 of the largest element. */
static void assert_as_in_double(problem *p, double scale) {
    const size_t n_dx = p->rows * p->channels, n_dw = p->vocab * p->channels;
    double *dx = test_doubles(n_dx), *dw = test_doubles(n_dw);
    for (size_t i = 0; i < n_dx; i++) dx[i] = 0;
    for (size_t i = 0; i < n_dw; i++) dw[i] = 1;
    const double want = loss_double(p, scale, dx, dw);
    for (size_t i = 0; i < n_dw; i++) p->dw[i] = 1;
    assert_error_below(fabs(run(p) - want), 1e-5 * (fabs(want) + 0.1));
    assert_error_below(test_error(p->dx, dx, n_dx), 1e-5);
    assert_error_below(test_error(p->dw, dw, n_dw), 1e-5);
    free(dx);
    free(dw);
}

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

/* Of the loss in double. h is 1e-3 as the float steps it rounds to; h^2 times third derivatives of
 * order 0.1 is 1e-7, so 1e-5 is the fp32 kernel's. */
static void assert_central_differences(problem *p) {
    float *arrays[] = {p->x, p->w}, *gradients[] = {p->dx, p->dw};
    const size_t sizes[] = {20, 45};
    double want[45];
    for (size_t i = 0; i < 45; i++) p->dw[i] = 0;
    run(p);
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < sizes[k]; i++) {
            float *at = arrays[k] + i;
            const float x = *at, high = x + 1e-3f, low = x - 1e-3f;
            *at = high;
            const double above = loss_double(p, 0.25, NULL, NULL);
            *at = low;
            want[i] = (above - loss_double(p, 0.25, NULL, NULL)) / ((double)high - (double)low);
            *at = x;
        }
        assert_error_below(test_error(gradients[k], want, sizes[k]), 1e-5);
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

/* ---- distillation --------------------------------------------------------------------------- */

/* A teacher of 7 channels; or the k that are written down of it. */
static void teach(problem *p, test_rng *r, size_t k, float temperature, float weight) {
    const size_t chunk = p->d.chunk_rows;
    p->kd.teacher_channels = 7;
    p->kd.temperature = temperature;
    p->kd.weight = weight;
    p->kt.teacher_x = test_normals(r, p->rows * 7, 1);
    p->kt.teacher_w = test_normals(r, p->vocab * 7, 0.5f);
    if (k == 0) return;
    mo_linear_kd_topk_desc d;
    uint16_t *indices = (uint16_t *)test_array(p->rows * k, 2);
    uint16_t *log_probs = (uint16_t *)test_array(p->rows * k, 2);
    memset(&d, 0, sizeof d);
    d.rows = p->rows;
    d.channels = 7;
    d.vocab = p->vocab;
    d.chunk_rows = chunk;
    d.k = k;
    d.temperature = temperature;
    d.env = &p->env;
    d.workspace_size = mo_linear_kd_topk_workspace_size(&d);
    d.workspace = mo_alloc(NULL, d.workspace_size, 64);
    test_ok(mo_linear_kd_topk(&d, p->kt.teacher_x, p->kt.teacher_w, indices, log_probs));
    mo_free(NULL, d.workspace, d.workspace_size, 64);
    p->kd.k = k;
    p->kt.indices = indices;
    p->kt.log_probs = log_probs;
}
static void taught_end(problem *p) {
    free((void *)(uintptr_t)p->kt.teacher_x);
    free((void *)(uintptr_t)p->kt.teacher_w);
    free((void *)(uintptr_t)p->kt.indices);
    free((void *)(uintptr_t)p->kt.log_probs);
    problem_end(p);
}

static void a_student_equal_to_its_teacher_has_nothing_to_learn(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 6, 5, 40, 4);
    p->kd.temperature = 3;
    p->kd.weight = 1;
    p->kt.teacher_x = p->x;
    p->kt.teacher_w = p->w;
    p->t.targets = NULL; /* which weight 1 does not need */
    assert_true(fabs(run(p)) < 1e-5);
    for (size_t i = 0; i < 30; i++) assert_true(fabsf(p->dx[i]) < 1e-6f);
    problem_end(p);
}

static void distillation_matches_double(void **state) {
    (void)state;
    static const size_t shapes[][5] = {/* rows, channels, vocab, chunk, k */
        {3, 5, 7, 1, 0}, {17, 33, 65, 4, 0}, {20, 9, 300, 20, 0}, {3, 5, 7, 2, 1}, {9, 3, 65, 4, 8},
        {4, 5, 300, 0, 33}, {5, 4, 16, 3, 16}};
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t i = 0; i < n_elements(shapes); i++) {
            const size_t *s = shapes[i];
            problem *p = problem_begin(&r, s[0], s[1], s[2], s[3]);
            teach(p, &r, s[4], i % 3 ? 2.5f : 1.0f, i % 2 ? 0.7f : 1.0f);
            p->d.label_smoothing = 0.1f;
            p->d.ignore = i == 2 || i == 4;
            p->d.ignore_index = -1;
            if (p->d.ignore) p->targets[1] = -1;
            assert_as_in_double(p, 1.0 / (double)(s[0] - (p->d.ignore != 0)));
            taught_end(p);
        }
}

static void gradients_of_distillation_match_central_differences(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < 4; k += 3) {
        problem *p = problem_begin(&r, 4, 5, 9, 3);
        teach(p, &r, k, 2, 0.6f);
        assert_central_differences(p);
        taught_end(p);
    }
}

static void chunks_and_threads_change_no_bit_of_distillation(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < 10; k += 9) {
        problem *p = problem_begin(&r, 30, 12, 100, 0);
        teach(p, &r, k, 2, 0.6f);
        const double loss = run(p);
        float *dx = test_copy(p->dx, 30 * 12);
        for (size_t chunk = 1; chunk < 20; chunk += 6) {
            workspaces_end(p);
            workspaces_begin(p, chunk, 1 + (int)chunk % 3);
            assert_true(run(p) == loss);
            assert_same_bits(p->dx, dx, 30 * 12 * sizeof *dx);
        }
        free(dx);
        taught_end(p);
    }
}

static void the_largest_are_written_down_in_their_order(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    const float w[] = {1, 5, 3, 5, -2, 0, 5, 4};
    problem *p = problem_begin(&r, 1, 1, 8, 0);
    mo_linear_kd_topk_desc d;
    uint16_t indices[5], log_probs[5];
    double l[8];
    const float x = 1;
    memset(&d, 0, sizeof d);
    d.rows = d.channels = 1;
    d.vocab = 8;
    d.k = 5;
    d.env = &p->env;
    d.workspace_size = mo_linear_kd_topk_workspace_size(&d);
    assert_int_equal(d.workspace_size, 128); /* 8 logits and a loss, 5 values with indices */
    d.workspace = mo_alloc(NULL, 128, 64);
    test_ok(mo_linear_kd_topk(&d, &x, w, indices, log_probs));
    static const uint16_t want[] = {1, 3, 6, 7, 2};
    assert_memory_equal(indices, want, sizeof want);
    for (size_t i = 0; i < 8; i++) l[i] = (double)w[i];
    for (size_t i = 0; i < 5; i++) {
        float got;
        mo_f16_to_f32(log_probs + i, &got, 1, NULL);
        assert_true(fabs((double)got - (l[want[i]] / 2 - log_sum(l, 8, 2))) < 1e-3); /* fp16 */
    }
    mo_free(NULL, d.workspace, 128, 64);
    problem_end(p);
}

/* 2^-11 of log-probabilities up to 8, and the temperature's square */
static void the_whole_vocabulary_written_down_teaches_as_the_teacher_does(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 8, 5, 50, 0);
    teach(p, &r, 50, 2, 1);
    const double written = run(p);
    p->kd.k = 0;
    assert_error_below(fabs(run(p) - written), 8 * 0x1p-11);
    taught_end(p);
}

static void wrong_teachers_are_refused_and_change_nothing(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 5, 4, 7, 2);
    teach(p, &r, 3, 2, 0.5f);
    run(p);
    double loss = 5;
    p->kd.ce.workspace = mo_alloc(NULL, p->kd.ce.workspace_size, 64);
    mo_linear_kd_desc d[6];
    for (int i = 0; i < 6; i++) d[i] = p->kd;
    d[0].temperature = -1;
    d[1].weight = 1.5f;
    d[2].k = 8;
    d[3].weight = -0.5f;
    d[4].ce.label_smoothing = 2;
    d[5].ce.workspace_size--;
    for (int i = 0; i < 6; i++)
        assert_int_equal(mo_linear_kd(&d[i], &p->kt, &loss), i < 5 ? MO_E_INVALID : MO_E_NO_SPACE);
    uint16_t *indices = (uint16_t *)(uintptr_t)p->kt.indices;
    const uint16_t good = indices[14];
    indices[14] = 7; /* of the last row */
    assert_int_equal(mo_linear_kd(&p->kd, &p->kt, &loss), MO_E_INVALID);
    indices[14] = good;
    mo_linear_kd_tensors t = p->kt;
    t.log_probs = NULL;
    assert_int_equal(mo_linear_kd(&p->kd, &t, &loss), MO_E_INVALID);
    t = p->kt;
    t.ce.targets = NULL; /* cross-entropy has its part */
    assert_int_equal(mo_linear_kd(&p->kd, &t, &loss), MO_E_INVALID);
    p->kd.k = 0;
    t = p->kt;
    t.teacher_w = NULL;
    assert_int_equal(mo_linear_kd(&p->kd, &t, &loss), MO_E_INVALID);
    assert_int_equal(mo_linear_kd(NULL, &t, &loss), MO_E_INVALID);
    mo_linear_kd_topk_desc topk;
    memset(&topk, 0, sizeof topk);
    assert_int_equal(mo_linear_kd_topk(&topk, p->x, p->w, indices, indices), MO_E_INVALID);
    assert_int_equal(mo_linear_kd_topk_workspace_size(NULL), 0);
    assert_int_equal(mo_linear_kd_workspace_size(NULL), 0);
    assert_true(loss == 5);
    p->kd.k = 3;
    mo_free(NULL, p->kd.ce.workspace, p->kd.ce.workspace_size, 64);
    taught_end(p);
}

/* ---- preferences ---------------------------------------------------------------------------- */

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
        cmocka_unit_test(a_student_equal_to_its_teacher_has_nothing_to_learn),
        cmocka_unit_test(distillation_matches_double),
        cmocka_unit_test(gradients_of_distillation_match_central_differences),
        cmocka_unit_test(chunks_and_threads_change_no_bit_of_distillation),
        cmocka_unit_test(the_largest_are_written_down_in_their_order),
        cmocka_unit_test(the_whole_vocabulary_written_down_teaches_as_the_teacher_does),
        cmocka_unit_test(wrong_teachers_are_refused_and_change_nothing),
        cmocka_unit_test(a_policy_that_is_its_reference_costs_log_2),
        cmocka_unit_test(extreme_preferences_stay_finite),
        cmocka_unit_test(preferences_match_double_in_any_chunks),
        cmocka_unit_test(gradients_of_preferences_match_central_differences),
        cmocka_unit_test(wrong_preferences_are_refused_and_change_nothing),
        cmocka_unit_test(chunks_change_no_bit_of_loss_and_dx),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(without_gradients_the_loss_is_the_same),
        cmocka_unit_test(logits_of_1e4_stay_finite),
        cmocka_unit_test(a_logit_that_is_nan_is_seen_in_the_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
