/* test_norm.c - mo_layernorm, mo_rmsnorm: against double, against differences, in place. */
#include "test_numeric.h"

/* Sizes that are and are not multiples of the vectors and of the column ranges. */
static const size_t sizes[][2] = {
    {1, 1}, {3, 2}, {5, 7}, {4, 16}, {9, 33}, {7, 64}, {65, 100}, {33, 768}, {130, 257}};

typedef struct layer {
    size_t n, channels;
    float *x, *dy, *weight, *bias, *mean, *rstd, *dweight, *dbias;
    mo_layernorm_desc d;
} layer;

static layer layer_begin(test_rng *r, size_t n, size_t channels) {
    layer l;
    memset(&l, 0, sizeof l);
    l.n = n;
    l.channels = channels;
    l.x = test_normals(r, n * channels, 2);
    for (size_t i = 0; i < n * channels; i++) l.x[i] += 1;
    l.dy = test_normals(r, n * channels, 1);
    l.weight = test_normals(r, channels, 1);
    l.bias = test_normals(r, channels, 1);
    l.mean = test_floats(n);
    l.rstd = test_floats(n);
    l.dweight = test_normals(r, channels, 1);
    l.dbias = test_normals(r, channels, 1);
    l.d.n = n;
    l.d.channels = channels;
    l.d.weight = l.weight;
    l.d.bias = l.bias;
    l.d.mean = l.mean;
    l.d.rstd = l.rstd;
    l.d.dweight = l.dweight;
    l.d.dbias = l.dbias;
    return l;
}
static void layer_end(layer *l) {
    float *all[] = {l->x, l->dy, l->weight, l->bias, l->mean, l->rstd, l->dweight, l->dbias};
    for (size_t i = 0; i < n_elements(all); i++) free(all[i]);
}

/* ---- the reference: one row in double ------------------------------------------------------- */

typedef struct row_stats {
    double mean, rstd;
} row_stats;
static row_stats stats_of(const layer *l, const double *x, double epsilon) {
    row_stats s = {0, 0};
    double square = 0;
    for (size_t c = 0; c < l->channels; c++) s.mean += x[c] / (double)l->channels;
    for (size_t c = 0; c < l->channels; c++) square += (x[c] - s.mean) * (x[c] - s.mean);
    s.rstd = 1 / sqrt(square / (double)l->channels + epsilon);
    return s;
}
static void forward_double(const layer *l, const double *x, double epsilon, double *y) {
    for (size_t i = 0; i < l->n; i++) {
        const row_stats s = stats_of(l, x + i * l->channels, epsilon);
        for (size_t c = 0; c < l->channels; c++)
            y[i * l->channels + c] =
                (x[i * l->channels + c] - s.mean) * s.rstd * (double)l->weight[c] +
                (double)l->bias[c];
    }
}
static void backward_double(const layer *l, const double *x, double *dx, double *dw, double *db) {
    const double channels = (double)l->channels;
    for (size_t i = 0; i < l->n; i++) {
        const double *row = x + i * l->channels;
        const float *dy = l->dy + i * l->channels;
        const row_stats s = stats_of(l, row, 1e-5);
        double g_mean = 0, gh_mean = 0;
        for (size_t c = 0; c < l->channels; c++) {
            const double h = (row[c] - s.mean) * s.rstd, g = (double)dy[c] * (double)l->weight[c];
            g_mean += g / channels;
            gh_mean += g * h / channels;
            dw[c] += (double)dy[c] * h;
            db[c] += (double)dy[c];
        }
        for (size_t c = 0; c < l->channels; c++) {
            const double h = (row[c] - s.mean) * s.rstd, g = (double)dy[c] * (double)l->weight[c];
            dx[i * l->channels + c] = s.rstd * (g - g_mean - h * gh_mean);
        }
    }
}
static double *as_double(const float *x, size_t n) {
    double *y = test_doubles(n);
    for (size_t i = 0; i < n; i++) y[i] = (double)x[i];
    return y;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void a_row_by_hand(void **state) {
    (void)state;
    const float x[] = {1, 3}, weight[] = {2, 1}, bias[] = {0, 5};
    float y[2], mean, rstd;
    mo_layernorm_desc d = {1, 2, 3, weight, bias, &mean, &rstd, NULL, NULL, 0, NULL};
    test_ok(mo_layernorm_forward(&d, x, y)); /* variance 1, with epsilon 3: rstd 1/2 */
    assert_true(mean == 2 && rstd == 0.5f);
    assert_true(y[0] == -1 && y[1] == 5.5f);
}

static void a_constant_row_becomes_the_bias(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, 1, 37);
    float y[37];
    for (size_t i = 0; i < 37; i++) l.x[i] = 8;
    test_ok(mo_layernorm_forward(&l.d, l.x, y));
    assert_same_bits(y, l.bias, sizeof y);
    layer_end(&l);
}

static void no_rows_are_no_work(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, 1, 5);
    float *dw = test_copy(l.dweight, 5), y[5] = {7};
    l.d.n = 0;
    test_ok(mo_layernorm_forward(&l.d, l.x, y));
    test_ok(mo_layernorm_backward(&l.d, l.x, l.dy, y));
    assert_true(y[0] == 7);
    assert_same_bits(dw, l.dweight, 5 * sizeof *dw);
    free(dw);
    layer_end(&l);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, 2, 3);
    float y[6];
    mo_layernorm_desc bad[5];
    for (size_t i = 0; i < 5; i++) bad[i] = l.d;
    bad[0].weight = NULL;
    bad[1].bias = NULL;
    bad[2].mean = NULL;
    bad[3].rstd = NULL;
    bad[4].channels = 0;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(mo_layernorm_backward(&bad[i], l.x, l.dy, y), MO_E_INVALID);
        assert_int_equal(mo_layernorm_forward(&bad[i], l.x, y), MO_E_INVALID);
        assert_int_equal(mo_layernorm_apply(&bad[i], l.x, y), MO_E_INVALID);
    }
    assert_int_equal(mo_layernorm_forward(NULL, l.x, y), MO_E_INVALID);
    assert_int_equal(mo_layernorm_forward(&l.d, NULL, y), MO_E_INVALID);
    assert_int_equal(mo_layernorm_forward(&l.d, l.x, NULL), MO_E_INVALID);
    assert_int_equal(mo_layernorm_apply(NULL, l.x, y), MO_E_INVALID);
    assert_int_equal(mo_layernorm_backward(NULL, l.x, l.dy, y), MO_E_INVALID);
    assert_int_equal(mo_layernorm_backward(&l.d, NULL, l.dy, y), MO_E_INVALID);
    assert_int_equal(mo_layernorm_backward(&l.d, l.x, NULL, y), MO_E_INVALID);
    assert_int_equal(mo_layernorm_backward(&l.d, l.x, l.dy, NULL), MO_E_INVALID);
    layer_end(&l);
}

/* ---- properties ---------------------------------------------------------------------------- */

/* Sums of up to 768 floats in lanes or (scalar) one after the other: 1e-5 of the largest element.
 * The smallest rows are worst: with 1 or 2 channels the variance may nearly vanish, rstd is up to 1
 * / sqrt(epsilon) = 316 and so are the rounding errors of x - mean. */
static double bar(size_t channels) { return channels < 8 ? 2e-4 : 1e-5; }

static void forward_matches_double_and_apply_gives_the_same_bits(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t k = 0; k < n_elements(sizes); k++) {
            layer l = layer_begin(&r, sizes[k][0], sizes[k][1]);
            const size_t n = l.n * l.channels;
            float *y = test_floats(n), *again = test_floats(n);
            double *x = as_double(l.x, n), *want = test_doubles(n);
            l.d.epsilon = k % 2 ? 0.0f : 0.125f;
            forward_double(&l, x, k % 2 ? 1e-5 : 0.125, want);
            test_ok(mo_layernorm_forward(&l.d, l.x, y));
            assert_error_below(test_error(y, want, n), bar(l.channels));
            float *mean = test_copy(l.mean, l.n), *rstd = test_copy(l.rstd, l.n);
            test_ok(mo_layernorm_apply(&l.d, l.x, again));
            assert_same_bits(again, y, n * sizeof *y);
            assert_same_bits(l.mean, mean, l.n * sizeof *mean);
            assert_same_bits(l.rstd, rstd, l.n * sizeof *rstd);
            memcpy(again, l.x, n * sizeof *y); /* in place */
            test_ok(mo_layernorm_forward(&l.d, again, again));
            assert_same_bits(again, y, n * sizeof *y);
            free(mean);
            free(rstd);
            free(y);
            free(again);
            free(x);
            free(want);
            layer_end(&l);
        }
}

static void backward_matches_double_and_adds_where_it_should(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t k = 0; k < n_elements(sizes); k++) {
            layer l = layer_begin(&r, sizes[k][0], sizes[k][1]);
            const size_t n = l.n * l.channels;
            float *y = test_floats(n), *dx = test_floats(n), *sum = test_normals(&r, n, 1);
            double *x = as_double(l.x, n), *want = test_doubles(n), *want_sum = as_double(sum, n);
            double *dw = as_double(l.dweight, l.channels), *db = as_double(l.dbias, l.channels);
            float *dw0 = test_copy(l.dweight, l.channels), *db0 = test_copy(l.dbias, l.channels);
            backward_double(&l, x, want, dw, db);
            for (size_t i = 0; i < n; i++) want_sum[i] += want[i];
            test_ok(mo_layernorm_forward(&l.d, l.x, y));
            test_ok(mo_layernorm_backward(&l.d, l.x, l.dy, dx));
            if (l.channels > 2) assert_error_below(test_error(dx, want, n), bar(l.channels));
            assert_error_below(test_error(l.dweight, dw, l.channels), bar(l.channels));
            assert_error_below(test_error(l.dbias, db, l.channels), bar(l.channels));
            memcpy(l.dweight, dw0, l.channels * sizeof *dw0);
            memcpy(l.dbias, db0, l.channels * sizeof *db0);
            l.d.add = 1;
            test_ok(mo_layernorm_backward(&l.d, l.x, l.dy, sum));
            if (l.channels > 2) assert_error_below(test_error(sum, want_sum, n), bar(l.channels));
            l.d.add = 0; /* dx in the place of dy */
            test_ok(mo_layernorm_backward(&l.d, l.x, l.dy, l.dy));
            assert_same_bits(l.dy, dx, n * sizeof *dx);
            float *floats[] = {y, dx, sum, dw0, db0};
            double *doubles[] = {x, want, want_sum, dw, db};
            for (size_t i = 0; i < 5; i++) free(floats[i]), free(doubles[i]);
            layer_end(&l);
        }
}

static void one_gradient_may_be_left_out(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t k = 0; k < n_elements(sizes); k++) {
            layer l = layer_begin(&r, sizes[k][0], sizes[k][1]);
            const size_t n = l.n * l.channels, size = l.channels * sizeof(float);
            float *dx = test_floats(n), *dw = test_copy(l.dweight, l.channels);
            float *db = test_copy(l.dbias, l.channels);
            test_ok(mo_layernorm_forward(&l.d, l.x, dx));
            test_ok(mo_layernorm_backward(&l.d, l.x, l.dy, dx));
            l.d.dweight = dw, l.d.dbias = NULL;
            test_ok(mo_layernorm_backward(&l.d, l.x, l.dy, dx));
            l.d.dweight = NULL, l.d.dbias = db;
            test_ok(mo_layernorm_backward(&l.d, l.x, l.dy, dx));
            assert_same_bits(dw, l.dweight, size);
            assert_same_bits(db, l.dbias, size);
            free(dx), free(dw), free(db);
            layer_end(&l);
        }
}

/* loss = sum(y dy); central differences in double with h = 1e-5: error h^2 times third derivatives
 * of order 1, and 1e-16 / h from rounding, so 1e-5 relative is the fp32 kernel's own error. */
static void dx_matches_central_differences(void **state) {
    (void)state;
    enum { N = 3, C = 19 };
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, N, C);
    float y[N * C], dx[N * C];
    double *x = as_double(l.x, N * C), high[N * C], low[N * C], want[N * C];
    const double h = 1e-5;
    for (size_t i = 0; i < N * C; i++) {
        const double at = x[i];
        x[i] = at + h;
        forward_double(&l, x, 1e-5, high);
        x[i] = at - h;
        forward_double(&l, x, 1e-5, low);
        x[i] = at;
        want[i] = 0;
        for (size_t j = 0; j < N * C; j++)
            want[i] += (high[j] - low[j]) / (2 * h) * (double)l.dy[j];
    }
    test_ok(mo_layernorm_forward(&l.d, l.x, y));
    test_ok(mo_layernorm_backward(&l.d, l.x, l.dy, dx));
    assert_error_below(test_error(dx, want, N * C), 1e-5);
    free(x);
    layer_end(&l);
}

/* In place: forward over x, the input again over y, backward from that. Weights are 0.2 or more, so
 * an output of size 1 gives its input to 1e-6, and the gradient is as good as that of x. */
static void backward_in_place_matches_double(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t k = 0; k < n_elements(sizes); k++) {
            layer l = layer_begin(&r, sizes[k][0], sizes[k][1]);
            const size_t n = l.n * l.channels;
            if (l.channels < 8) { /* rstd is whatever rounding makes it */
                layer_end(&l);
                continue;
            }
            float *weight = l.weight, *dx = test_floats(n);
            for (size_t i = 0; i < l.channels; i++) weight[i] += weight[i] < 0 ? -0.2f : 0.2f;
            double *x = as_double(l.x, n), *want = test_doubles(n);
            double *dw = as_double(l.dweight, l.channels), *db = as_double(l.dbias, l.channels);
            backward_double(&l, x, want, dw, db);
            float *bytes = test_copy(l.x, n);
            test_ok(mo_layernorm_forward(&l.d, bytes, bytes));
            test_ok(mo_layernorm_restore(&l.d, bytes, bytes));
            assert_error_below(test_error(bytes, x, n), 2e-6);
            test_ok(mo_layernorm_backward(&l.d, bytes, l.dy, dx));
            assert_error_below(test_error(dx, want, n), 2e-5);
            assert_error_below(test_error(l.dweight, dw, l.channels), 2e-5);
            float *floats[] = {dx, bytes};
            double *doubles[] = {x, want, dw, db};
            for (size_t i = 0; i < n_elements(floats); i++) free(floats[i]);
            for (size_t i = 0; i < n_elements(doubles); i++) free(doubles[i]);
            layer_end(&l);
        }
}

static void a_weight_that_loses_its_channel_is_refused(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, 3, 19);
    float *weight = l.weight, *bias = l.bias;
    float y[3 * 19], x[3 * 19] = {0};
    for (size_t i = 0; i < 19; i++) weight[i] = 1, bias[i] = 1;
    test_ok(mo_layernorm_forward(&l.d, l.x, y));
    weight[7] = 0;
    assert_int_equal(mo_layernorm_restore(&l.d, y, x), MO_E_STATE);
    weight[7] = 0x1p-13f;
    assert_int_equal(mo_layernorm_restore(&l.d, y, x), MO_E_STATE);
    for (size_t i = 0; i < 3 * 19; i++) assert_true(x[i] == 0);
    bias[7] = 0;
    test_ok(mo_layernorm_restore(&l.d, y, x));
    assert_int_equal(mo_layernorm_restore(&l.d, NULL, x), MO_E_INVALID);
    assert_int_equal(mo_layernorm_restore(NULL, y, x), MO_E_INVALID);
    layer_end(&l);
}

static void the_number_of_threads_does_not_matter(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        layer l = layer_begin(&r, 67, 331);
        const size_t n = l.n * l.channels;
        float *y1 = test_floats(n), *dx1 = test_floats(n), *y = test_floats(n),
              *dx = test_floats(n);
        float *dw0 = test_copy(l.dweight, l.channels), *dw1 = NULL;
        for (int threads = 1; threads <= 5; threads++) {
            const mo_parallel p = test_threads(threads);
            l.d.parallel = &p;
            memcpy(l.dweight, dw0, l.channels * sizeof *dw0);
            test_ok(mo_layernorm_forward(&l.d, l.x, threads == 1 ? y1 : y));
            test_ok(mo_layernorm_backward(&l.d, l.x, l.dy, threads == 1 ? dx1 : dx));
            if (threads == 1) {
                dw1 = test_copy(l.dweight, l.channels);
                continue;
            }
            assert_same_bits(y, y1, n * sizeof *y);
            assert_same_bits(dx, dx1, n * sizeof *dx);
            assert_same_bits(l.dweight, dw1, l.channels * sizeof *dw1);
        }
        float *all[] = {y1, dx1, y, dx, dw0, dw1};
        for (size_t i = 0; i < n_elements(all); i++) free(all[i]);
        layer_end(&l);
    }
}

/* ---- RMSNorm ------------------------------------------------------------------------------- */

/* The same arrays: mean and bias are not used. */
static mo_rmsnorm_desc rms_of(const layer *l) {
    mo_rmsnorm_desc d;
    memset(&d, 0, sizeof d);
    d.n = l->n;
    d.channels = l->channels;
    d.weight = l->weight;
    d.rstd = l->rstd;
    d.dweight = l->dweight;
    return d;
}
static double rms_rstd(const layer *l, const double *x, double epsilon) {
    double square = 0;
    for (size_t c = 0; c < l->channels; c++) square += x[c] * x[c];
    return 1 / sqrt(square / (double)l->channels + epsilon);
}
static void rms_forward_double(const layer *l, const double *x, double epsilon, double *y) {
    for (size_t i = 0; i < l->n * l->channels; i += l->channels) {
        const double rstd = rms_rstd(l, x + i, epsilon);
        for (size_t c = 0; c < l->channels; c++) y[i + c] = x[i + c] * rstd * (double)l->weight[c];
    }
}
static void rms_backward_double(const layer *l, const double *x, double *dx, double *dw) {
    for (size_t i = 0; i < l->n * l->channels; i += l->channels) {
        const double rstd = rms_rstd(l, x + i, 1e-5);
        double mean = 0;
        for (size_t c = 0; c < l->channels; c++) {
            mean += (double)l->dy[i + c] * (double)l->weight[c] * x[i + c] * rstd;
            dw[c] += (double)l->dy[i + c] * x[i + c] * rstd;
        }
        mean /= (double)l->channels;
        for (size_t c = 0; c < l->channels; c++)
            dx[i + c] =
                rstd * ((double)l->dy[i + c] * (double)l->weight[c] - x[i + c] * rstd * mean);
    }
}

static void a_root_mean_square_by_hand(void **state) {
    (void)state;
    const float x[] = {3, 4}, weight[] = {2, -1}, dy[] = {1, 1};
    float y[2], dx[2], rstd, dw[2] = {10, 20};
    const mo_rmsnorm_desc d = {1, 2, 12.5f, weight, &rstd, dw, 0, NULL};
    test_ok(mo_rmsnorm_forward(&d, x, y)); /* mean square 12.5, with epsilon 25: rstd 1/5 */
    assert_true(rstd == 0.2f);
    assert_true(fabsf(y[0] - 1.2f) < 1e-6f && fabsf(y[1] + 0.8f) < 1e-6f);
    test_ok(mo_rmsnorm_backward(&d, x, dy, dx)); /* g = (2, -1), h = (0.6, 0.8), mean(g h) = 0.2 */
    assert_true(fabsf(dx[0] - 0.376f) < 1e-6f && fabsf(dx[1] + 0.232f) < 1e-6f);
    assert_true(fabsf(dw[0] - 10.6f) < 1e-5f && fabsf(dw[1] - 20.8f) < 1e-5f);
}

static void rms_refuses_wrong_arguments(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, 2, 3);
    float y[6] = {7};
    mo_rmsnorm_desc bad[3];
    for (size_t i = 0; i < 3; i++) bad[i] = rms_of(&l);
    bad[0].weight = NULL;
    bad[1].rstd = NULL;
    bad[2].channels = 0;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mo_rmsnorm_forward(&bad[i], l.x, y), MO_E_INVALID);
        assert_int_equal(mo_rmsnorm_apply(&bad[i], l.x, y), MO_E_INVALID);
        assert_int_equal(mo_rmsnorm_backward(&bad[i], l.x, l.dy, y), MO_E_INVALID);
    }
    mo_rmsnorm_desc d = rms_of(&l);
    assert_int_equal(mo_rmsnorm_forward(NULL, l.x, y), MO_E_INVALID);
    assert_int_equal(mo_rmsnorm_forward(&d, NULL, y), MO_E_INVALID);
    assert_int_equal(mo_rmsnorm_apply(&d, l.x, NULL), MO_E_INVALID);
    assert_int_equal(mo_rmsnorm_backward(NULL, l.x, l.dy, y), MO_E_INVALID);
    assert_int_equal(mo_rmsnorm_backward(&d, NULL, l.dy, y), MO_E_INVALID);
    assert_int_equal(mo_rmsnorm_backward(&d, l.x, NULL, y), MO_E_INVALID);
    assert_int_equal(mo_rmsnorm_backward(&d, l.x, l.dy, NULL), MO_E_INVALID);
    d.n = 0;
    test_ok(mo_rmsnorm_forward(&d, l.x, y));
    test_ok(mo_rmsnorm_backward(&d, l.x, l.dy, y));
    assert_true(y[0] == 7);
    layer_end(&l);
}

static void rms_forward_matches_double_and_apply_gives_the_same_bits(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < n_elements(sizes); k++) {
        layer l = layer_begin(&r, sizes[k][0], sizes[k][1]);
        const size_t n = l.n * l.channels;
        mo_rmsnorm_desc d = rms_of(&l);
        float *y = test_floats(n), *again = test_floats(n);
        double *x = as_double(l.x, n), *want = test_doubles(n);
        d.epsilon = k % 2 ? 0.0f : 0.125f;
        rms_forward_double(&l, x, k % 2 ? 1e-5 : 0.125, want);
        test_ok(mo_rmsnorm_forward(&d, l.x, y));
        assert_error_below(test_error(y, want, n), 2e-6);
        float *rstd = test_copy(l.rstd, l.n);
        test_ok(mo_rmsnorm_apply(&d, l.x, again));
        assert_same_bits(again, y, n * sizeof *y);
        assert_same_bits(l.rstd, rstd, l.n * sizeof *rstd);
        memcpy(again, l.x, n * sizeof *y); /* in place */
        test_ok(mo_rmsnorm_forward(&d, again, again));
        assert_same_bits(again, y, n * sizeof *y);
        free(rstd), free(y), free(again), free(x), free(want);
        layer_end(&l);
    }
}

static void rms_backward_matches_double_and_adds_where_it_should(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < n_elements(sizes); k++) {
        layer l = layer_begin(&r, sizes[k][0], sizes[k][1]);
        const size_t n = l.n * l.channels;
        mo_rmsnorm_desc d = rms_of(&l);
        float *y = test_floats(n), *dx = test_floats(n), *sum = test_normals(&r, n, 1);
        double *x = as_double(l.x, n), *want = test_doubles(n), *want_sum = as_double(sum, n);
        double *dw = as_double(l.dweight, l.channels);
        rms_backward_double(&l, x, want, dw);
        for (size_t i = 0; i < n; i++) want_sum[i] += want[i];
        test_ok(mo_rmsnorm_forward(&d, l.x, y));
        test_ok(mo_rmsnorm_backward(&d, l.x, l.dy, dx));
        /* one channel has a dx of nearly 0 */
        if (l.channels > 2) assert_error_below(test_error(dx, want, n), 1e-5);
        assert_error_below(test_error(l.dweight, dw, l.channels), 1e-5);
        d.dweight = NULL; /* frozen */
        d.add = 1;
        test_ok(mo_rmsnorm_backward(&d, l.x, l.dy, sum));
        if (l.channels > 2) assert_error_below(test_error(sum, want_sum, n), 1e-5);
        d.add = 0; /* dx in the place of dy */
        test_ok(mo_rmsnorm_backward(&d, l.x, l.dy, l.dy));
        assert_same_bits(l.dy, dx, n * sizeof *dx);
        free(y), free(dx), free(sum), free(x), free(want), free(want_sum), free(dw);
        layer_end(&l);
    }
}

/* As for dx of mo_layernorm, and dweight too. */
static void rms_gradients_match_central_differences(void **state) {
    (void)state;
    enum { N = 3, C = 19 };
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, N, C);
    mo_rmsnorm_desc d = rms_of(&l);
    float y[N * C], dx[N * C];
    double *x = as_double(l.x, N * C), high[N * C], low[N * C], want[N * C], want_w[C];
    const double h = 1e-5;
    for (size_t i = 0; i < N * C; i++) {
        const double at = x[i];
        x[i] = at + h;
        rms_forward_double(&l, x, 1e-5, high);
        x[i] = at - h;
        rms_forward_double(&l, x, 1e-5, low);
        x[i] = at;
        want[i] = 0;
        for (size_t j = 0; j < N * C; j++)
            want[i] += (high[j] - low[j]) / (2 * h) * (double)l.dy[j];
    }
    rms_forward_double(&l, x, 1e-5, high); /* linear in the weights */
    for (size_t i = 0; i < C; i++) {
        want_w[i] = 0;
        l.dweight[i] = 0;
        for (size_t j = i; j < N * C; j += C)
            want_w[i] += high[j] / (double)l.weight[i] * (double)l.dy[j];
    }
    test_ok(mo_rmsnorm_forward(&d, l.x, y));
    test_ok(mo_rmsnorm_backward(&d, l.x, l.dy, dx));
    assert_error_below(test_error(dx, want, N * C), 1e-5);
    assert_error_below(test_error(l.dweight, want_w, C), 1e-5);
    free(x);
    layer_end(&l);
}

/* Every set of instructions and every number of threads against the first. */
static void rms_has_the_same_bits_everywhere(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, 67, 331);
    const size_t n = l.n * l.channels;
    float *first[4], *got[4] = {test_floats(n), test_floats(n), l.dweight, l.rstd};
    const size_t sizes_of[4] = {n, n, l.channels, l.n};
    float *dw0 = test_copy(l.dweight, l.channels);
    int runs = 0;
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (int threads = 1; threads <= 5; threads += 2, runs++) {
            const mo_parallel p = test_threads(threads);
            mo_rmsnorm_desc d = rms_of(&l);
            d.parallel = &p;
            memcpy(l.dweight, dw0, l.channels * sizeof *dw0);
            test_ok(mo_rmsnorm_forward(&d, l.x, got[0]));
            test_ok(mo_rmsnorm_backward(&d, l.x, l.dy, got[1]));
            for (int i = 0; i < 4; i++)
                if (runs == 0) first[i] = test_copy(got[i], sizes_of[i]);
                else assert_same_bits(got[i], first[i], sizes_of[i] * sizeof(float));
        }
    for (int i = 0; i < 4; i++) free(first[i]);
    free(got[0]), free(got[1]), free(dw0);
    layer_end(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_by_hand),
        cmocka_unit_test(a_constant_row_becomes_the_bias),
        cmocka_unit_test(no_rows_are_no_work),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(forward_matches_double_and_apply_gives_the_same_bits),
        cmocka_unit_test(backward_matches_double_and_adds_where_it_should),
        cmocka_unit_test(one_gradient_may_be_left_out),
        cmocka_unit_test(dx_matches_central_differences),
        cmocka_unit_test(backward_in_place_matches_double),
        cmocka_unit_test(a_weight_that_loses_its_channel_is_refused),
        cmocka_unit_test(the_number_of_threads_does_not_matter),
        cmocka_unit_test(a_root_mean_square_by_hand),
        cmocka_unit_test(rms_refuses_wrong_arguments),
        cmocka_unit_test(rms_forward_matches_double_and_apply_gives_the_same_bits),
        cmocka_unit_test(rms_backward_matches_double_and_adds_where_it_should),
        cmocka_unit_test(rms_gradients_match_central_differences),
        cmocka_unit_test(rms_has_the_same_bits_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
