/* test_loss.h - what the tests of losses over chunks of logits share: a problem, its loss and
 * gradients in double, comparisons. */
#ifndef TEST_LOSS_H
#define TEST_LOSS_H

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

static inline void workspaces_begin(problem *p, size_t chunk, int threads) {
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
static inline void workspaces_end(problem *p) {
    mo_free(NULL, p->env.workspace, p->env.workspace_size, 64);
    mo_free(NULL, p->d.workspace, p->d.workspace_size, 64);
}

/* dw starts from 1 everywhere: it is added to. */
static inline problem *problem_begin(
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
static inline void problem_end(problem *p) {
    workspaces_end(p);
    free(p->x);
    free(p->w);
    free(p->dx);
    free(p->dw);
    free(p->targets);
    free(p);
}
static inline double run(problem *p) {
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
static inline double log_sum(const double *l, size_t n, double t) {
    double most = -HUGE_VAL, sum = 0;
    for (size_t v = 0; v < n; v++) most = fmax(most, l[v]);
    for (size_t v = 0; v < n; v++) sum += exp((l[v] - most) / t);
    return log(sum) + most / t;
}
static inline void logits_double(
    const float *x, const float *w, size_t channels, size_t n, double *l) {
    for (size_t v = 0; v < n; v++) {
        l[v] = 0;
        for (size_t c = 0; c < channels; c++) l[v] += (double)x[c] * (double)w[v * channels + c];
    }
}

/* Cross-entropy of row i with logits l, times a factor; its gradient is added to dl. */
static inline double ce_row_double(
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
static inline double kd_row_double(
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
static inline double loss_double(const problem *p, double scale, double *dx, double *dw) {
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

/* Runs, and compares. A logit is a sum of channels products: 1e-6 of the largest logit, which is
 * the relative error of a probability; gradients are sums of those. 1e-5 of the largest element. */
static inline void assert_as_in_double(problem *p, double scale) {
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

/* Of the loss in double. h is 1e-3 as the float steps it rounds to; h^2 times third derivatives of
 * order 0.1 is 1e-7, so 1e-5 is the fp32 kernel's. */
static inline void assert_central_differences(problem *p) {
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

#endif
