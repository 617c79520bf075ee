/* test_cl_norm.c - LayerNorm on a device against double, RMSNorm against mo_norm.h. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

/* One problem on host and device; gradients of the parameters start from 1, dx from 2. */
typedef struct problem {
    size_t n, channels;
    float *x, *dy, *weight, *bias;
    double *y, *dx, *dw, *db, *mean, *rstd;
    mo_cl_layernorm_desc d;
    mo_cl_mem on_x, on_dy, on_y, on_dx;
} problem;

static void reference_row(problem *p, size_t row) {
    const size_t n = p->channels;
    const float *x = p->x + row * n, *dy = p->dy + row * n;
    double mean = 0, variance = 0, g_mean = 0, gh_mean = 0;
    for (size_t i = 0; i < n; i++) mean += (double)x[i] / (double)n;
    for (size_t i = 0; i < n; i++) variance += pow((double)x[i] - mean, 2) / (double)n;
    const double rstd = 1 / sqrt(variance + 1e-5);
    p->mean[row] = mean;
    p->rstd[row] = rstd;
    for (size_t i = 0; i < n; i++) {
        const double h = ((double)x[i] - mean) * rstd, g = (double)dy[i] * (double)p->weight[i];
        p->y[row * n + i] = h * (double)p->weight[i] + (double)p->bias[i];
        g_mean += g / (double)n;
        gh_mean += g * h / (double)n;
        p->dw[i] += h * (double)dy[i];
        p->db[i] += (double)dy[i];
    }
    for (size_t i = 0; i < n; i++) {
        const double h = ((double)x[i] - mean) * rstd, g = (double)dy[i] * (double)p->weight[i];
        p->dx[row * n + i] = rstd * (g - g_mean - h * gh_mean);
    }
}

static problem problem_begin(test_cl *t, size_t rows, size_t channels, int workspace) {
    const size_t n = rows * channels;
    problem p = {.n = rows,
        .channels = channels,
        .x = test_normals(&t->rng, n, 2),
        .dy = test_normals(&t->rng, n, 1),
        .weight = test_normals(&t->rng, channels, 1),
        .bias = test_normals(&t->rng, channels, 1),
        .y = test_doubles(n),
        .dx = test_doubles(n),
        .dw = test_doubles(channels),
        .db = test_doubles(channels),
        .mean = test_doubles(rows),
        .rstd = test_doubles(rows)};
    float *ones = test_floats(n + channels);
    for (size_t i = 0; i < n; i++) p.x[i] += 3;
    for (size_t i = 0; i < n + channels; i++) ones[i] = 1;
    for (size_t i = 0; i < channels; i++) p.dw[i] = p.db[i] = 1;
    for (size_t row = 0; row < rows; row++) reference_row(&p, row);
    p.d.n = rows;
    p.d.channels = channels;
    p.d.weight = test_cl_put(t, p.weight, channels * 4, 4);
    p.d.bias = test_cl_put(t, p.bias, channels * 4, 12);
    p.d.mean = test_cl_new(t, rows * 4, 8);
    p.d.rstd = test_cl_new(t, rows * 4, 4);
    p.d.dweight = test_cl_put(t, ones, channels * 4, 20);
    p.d.dbias = test_cl_put(t, ones, channels * 4, 4);
    p.on_x = test_cl_put(t, p.x, n * 4, 4);
    p.on_dy = test_cl_put(t, p.dy, n * 4, 8);
    p.on_y = test_cl_new(t, n * 4, 12);
    p.on_dx = test_cl_put(t, ones, n * 4, 28);
    const size_t bytes = workspace ? mo_cl_layernorm_workspace_size(&t->cl, &p.d) : 0;
    if (bytes) p.d.workspace = test_cl_new(t, bytes, 4);
    free(ones);
    return p;
}
static void problem_end(test_cl *t, problem *p) {
    test_cl_clear(t);
    free(p->x), free(p->dy), free(p->weight), free(p->bias), free(p->y), free(p->dx);
    free(p->dw), free(p->db), free(p->mean), free(p->rstd);
}
static void assert_near(test_cl *t, mo_cl_mem mem, const double *ref, size_t n, double bar) {
    float *got = test_floats(n);
    test_cl_get(t, mem, got, n * sizeof *got);
    assert_error_below(test_error(got, ref, n), bar);
    free(got);
}

static const size_t shapes[][2] = {/* rows, channels */
    {1, 1}, {3, 2}, {1, 17}, {65, 1}, {63, 15}, {17, 64}, {130, 65}, {64, 100}, {9, 384}, {3, 1000},
    {200, 128}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* What dx may be wrong by: a few roundings of g, which rstd then magnifies (two channels have an
 * exact dx near 0 and an rstd of up to 300). */
static void assert_dx_near(test_cl *t, const problem *p, mo_cl_mem mem, double offset) {
    const size_t n = p->n * p->channels;
    float *got = test_floats(n);
    double most = 1;
    test_cl_get(t, mem, got, n * sizeof *got);
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)p->dy[i] * (double)p->weight[i % p->channels]));
    for (size_t i = 0; i < n; i++)
        assert_error_below(fabs((double)got[i] - offset - p->dx[i]),
            2e-6 * (p->rstd[i / p->channels] * most + offset));
    free(got);
}

/* A few roundings of numbers of the size of the largest: h is up to 5, rows and columns sum up to
 * 1000. */
static void forward_and_backward_match_double(void **state) {
    test_cl *t = test_cl_of(state);
    for (int k = 0; k < 2 * N_SHAPES; k++) {
        problem p = problem_begin(t, shapes[k / 2][0], shapes[k / 2][1], k % 2);
        const size_t n = p.n * p.channels;
        test_ok(mo_cl_layernorm_forward(&t->cl, &p.d, p.on_x, p.on_y));
        assert_near(t, p.on_y, p.y, n, 2e-6);
        assert_near(t, p.d.mean, p.mean, p.n, 1e-6);
        assert_near(t, p.d.rstd, p.rstd, p.n, 2e-6);
        p.d.add = 1;
        test_ok(mo_cl_layernorm_backward(&t->cl, &p.d, p.on_x, p.on_dy, p.on_dx));
        assert_dx_near(t, &p, p.on_dx, 1);
        assert_near(t, p.d.dweight, p.dw, p.channels, 1e-5);
        assert_near(t, p.d.dbias, p.db, p.channels, 1e-5);
        p.d.add = 0;
        p.d.dweight = p.d.dbias = p.d.workspace = (mo_cl_mem){0};
        test_ok(mo_cl_layernorm_backward(&t->cl, &p.d, p.on_x, p.on_dy, p.on_dy));
        assert_dx_near(t, &p, p.on_dy, 0);
        problem_end(t, &p);
    }
}

static void apply_and_forward_in_place_have_the_bits_of_forward(void **state) {
    test_cl *t = test_cl_of(state);
    for (int k = 0; k < N_SHAPES; k++) {
        problem p = problem_begin(t, shapes[k][0], shapes[k][1], 0);
        const size_t bytes = p.n * p.channels * sizeof(float);
        float *y = test_floats(p.n * p.channels), *again = test_floats(p.n * p.channels);
        test_ok(mo_cl_layernorm_forward(&t->cl, &p.d, p.on_x, p.on_y));
        test_cl_get(t, p.on_y, y, bytes);
        test_ok(mo_cl_layernorm_apply(&t->cl, &p.d, p.on_x, p.on_dx));
        test_cl_get(t, p.on_dx, again, bytes);
        assert_same_bits(y, again, bytes);
        test_ok(mo_cl_layernorm_forward(&t->cl, &p.d, p.on_x, p.on_x));
        test_cl_get(t, p.on_x, again, bytes);
        assert_same_bits(y, again, bytes);
        free(y), free(again);
        problem_end(t, &p);
    }
}

/* The output knows its input to 2^-24 (1 + |bias / weight|) of a deviation. */
static void the_input_comes_back_from_the_output_in_place(void **state) {
    test_cl *t = test_cl_of(state);
    enum { ROWS = 33, CHANNELS = 100, N = ROWS * CHANNELS };
    problem p = problem_begin(t, ROWS, CHANNELS, 1);
    float x[N], y[N], weight[CHANNELS], bias[CHANNELS];
    test_cl_get(t, p.on_x, x, sizeof x);
    test_cl_get(t, p.d.weight, weight, sizeof weight);
    test_cl_get(t, p.d.bias, bias, sizeof bias);
    test_ok(mo_cl_layernorm_forward(&t->cl, &p.d, p.on_x, p.on_x));
    test_ok(mo_cl_layernorm_restore(&t->cl, &p.d, p.on_x, p.on_x));
    test_cl_get(t, p.on_x, y, sizeof y);
    for (size_t i = 0; i < N; i++) {
        const float unit = 1 + fabsf(bias[i % CHANNELS] / weight[i % CHANNELS]);
        assert_true(fabsf(x[i] - y[i]) <= 4e-6f * unit);
    }
    assert_int_equal(mo_cl_layernorm_restore(&t->cl, NULL, p.on_x, p.on_x), MO_E_INVALID);
    problem_end(t, &p);
}

static void gradients_have_the_same_bits_every_time(void **state) {
    test_cl *t = test_cl_of(state);
    float got[2][2 * 65];
    problem p = problem_begin(t, 300, 65, 1);
    for (int k = 0; k < 2; k++) {
        test_ok(mo_cl_layernorm_forward(&t->cl, &p.d, p.on_x, p.on_y));
        test_ok(mo_cl_fill_u32(&t->heap, MO_CL_COMPUTE, &p.d.dweight, 0, 65, 0, NULL, NULL));
        test_ok(mo_cl_fill_u32(&t->heap, MO_CL_COMPUTE, &p.d.dbias, 0, 65, 0, NULL, NULL));
        test_ok(mo_cl_layernorm_backward(&t->cl, &p.d, p.on_x, p.on_dy, p.on_dx));
        test_cl_get(t, p.d.dweight, got[k], 65 * 4);
        test_cl_get(t, p.d.dbias, got[k] + 65, 65 * 4);
    }
    assert_same_bits(got[0], got[1], sizeof got[0]);
    problem_end(t, &p);
}

/* With a workspace and without; the other gradient has the bits that it has beside it. */
static void one_gradient_may_be_left_out(void **state) {
    test_cl *t = test_cl_of(state);
    for (int k = 0; k < 2; k++) {
        float both[2][65], alone[65], ones[65];
        problem p = problem_begin(t, 70, 65, k);
        const mo_cl_mem grads[2] = {p.d.dweight, p.d.dbias};
        test_cl_get(t, grads[0], ones, sizeof ones);
        test_ok(mo_cl_layernorm_forward(&t->cl, &p.d, p.on_x, p.on_y));
        test_ok(mo_cl_layernorm_backward(&t->cl, &p.d, p.on_x, p.on_dy, p.on_dx));
        for (int i = 0; i < 2; i++) test_cl_get(t, grads[i], both[i], sizeof both[i]);
        for (int i = 0; i < 2; i++) {
            const mo_cl_mem fresh = test_cl_put(t, ones, sizeof ones, 4);
            p.d.dweight = i == 0 ? fresh : (mo_cl_mem){0};
            p.d.dbias = i == 1 ? fresh : (mo_cl_mem){0};
            test_ok(mo_cl_layernorm_backward(&t->cl, &p.d, p.on_x, p.on_dy, p.on_dx));
            test_cl_get(t, fresh, alone, sizeof alone);
            assert_same_bits(alone, both[i], sizeof alone);
        }
        problem_end(t, &p);
    }
}

static void a_workspace_is_asked_for_where_it_helps(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_layernorm_desc d = {.n = 64, .channels = 8};
    assert_int_equal(mo_cl_layernorm_workspace_size(&t->cl, &d), 0);
    d.n = 65;
    assert_int_equal(mo_cl_layernorm_workspace_size(&t->cl, &d), 2 * 2 * 8 * 4);
    d.n = 1000000;
    assert_true(mo_cl_layernorm_workspace_size(&t->cl, &d) <= 256 * 2 * 8 * 4);
    assert_int_equal(mo_cl_layernorm_workspace_size(&t->cl, NULL), 0);
    assert_int_equal(mo_cl_layernorm_workspace_size(NULL, &d), 0);
    d.n = d.channels = SIZE_MAX / 2;
    assert_int_equal(mo_cl_layernorm_workspace_size(&t->cl, &d), 0);
}

static void wrong_arguments_are_refused(void **state) {
    test_cl *t = test_cl_of(state);
    problem p = problem_begin(t, 65, 3, 1);
    const mo_cl_mem none = {0}, x = p.on_x, dy = p.on_dy, dx = p.on_dx;
    mo_cl_layernorm_desc bad[10];
    for (int i = 0; i < 10; i++) bad[i] = p.d;
    bad[0].channels = 0;
    bad[1].weight = none;
    bad[2].mean = none;
    bad[3].rstd = none;
    bad[4].n++;
    bad[5].bias = none;
    bad[6].dweight.size -= 4;
    bad[7].dbias.size -= 4;
    bad[8].workspace.size -= 4;
    bad[9].channels = SIZE_MAX / 8;
    for (int i = 0; i < 6; i++)
        assert_int_equal(mo_cl_layernorm_forward(&t->cl, &bad[i], x, p.on_y), MO_E_INVALID);
    for (int i = 0; i < 9; i++)
        if (i != 5)
            assert_int_equal(mo_cl_layernorm_backward(&t->cl, &bad[i], x, dy, dx),
                i == 8 ? MO_E_NO_SPACE : MO_E_INVALID);
    assert_int_equal(mo_cl_layernorm_apply(&t->cl, &bad[9], x, p.on_y), MO_E_OVERFLOW);
    assert_int_equal(mo_cl_layernorm_backward(&t->cl, &bad[9], x, dy, dx), MO_E_OVERFLOW);
    assert_int_equal(mo_cl_layernorm_forward(NULL, &p.d, x, p.on_y), MO_E_INVALID);
    assert_int_equal(mo_cl_layernorm_forward(&t->cl, NULL, x, p.on_y), MO_E_INVALID);
    assert_int_equal(mo_cl_layernorm_apply(&t->cl, &p.d, none, p.on_y), MO_E_INVALID);
    assert_int_equal(mo_cl_layernorm_backward(&t->cl, &p.d, x, none, dx), MO_E_INVALID);
    assert_int_equal(mo_cl_layernorm_backward(&t->cl, &p.d, x, dy, none), MO_E_INVALID);
    p.d.n = 0;
    test_ok(mo_cl_layernorm_forward(&t->cl, &p.d, x, p.on_y));
    test_ok(mo_cl_layernorm_backward(&t->cl, &p.d, x, dy, dx));
    problem_end(t, &p);
}

/* ---- RMSNorm ------------------------------------------------------------------------------- */

/* Host arrays and their copies on the device; gradients start from what is there. */
typedef struct rms {
    size_t n;
    float *x, *dy, *weight, *rstd, *dweight, *y, *dx;
    mo_rmsnorm_desc host;
    mo_cl_rmsnorm_desc d;
    mo_cl_mem on_x, on_dy, on_y, on_dx;
} rms;

static rms rms_begin(test_cl *t, size_t rows, size_t channels, int workspace) {
    const size_t n = rows * channels;
    rms p = {.n = n,
        .x = test_normals(&t->rng, n, 2),
        .dy = test_normals(&t->rng, n, 1),
        .weight = test_normals(&t->rng, channels, 1),
        .rstd = test_floats(rows),
        .dweight = test_normals(&t->rng, channels, 1),
        .y = test_floats(n),
        .dx = test_normals(&t->rng, n, 1)};
    p.host = (mo_rmsnorm_desc){
        .n = rows, .channels = channels, .weight = p.weight, .rstd = p.rstd, .dweight = p.dweight};
    p.d = (mo_cl_rmsnorm_desc){.n = rows,
        .channels = channels,
        .weight = test_cl_put(t, p.weight, channels * 4, 4),
        .rstd = test_cl_new(t, rows * 4, 8),
        .dweight = test_cl_put(t, p.dweight, channels * 4, 20)};
    p.on_x = test_cl_put(t, p.x, n * 4, 4);
    p.on_dy = test_cl_put(t, p.dy, n * 4, 8);
    p.on_y = test_cl_new(t, n * 4, 12);
    p.on_dx = test_cl_put(t, p.dx, n * 4, 28);
    const size_t bytes = workspace ? mo_cl_rmsnorm_workspace_size(&t->cl, &p.d) : 0;
    if (bytes) p.d.workspace = test_cl_new(t, bytes, 4);
    return p;
}
static void rms_end(test_cl *t, rms *p) {
    test_cl_clear(t);
    free(p->x), free(p->dy), free(p->weight), free(p->rstd), free(p->dweight);
    free(p->y), free(p->dx);
}
static void assert_like(test_cl *t, mo_cl_mem mem, const float *want, size_t n, double bar) {
    double *ref = test_doubles(n);
    for (size_t i = 0; i < n; i++) ref[i] = (double)want[i];
    assert_near(t, mem, ref, n, bar);
    free(ref);
}

/* Sums of up to 1000 products in another order than the CPU's. */
static void rmsnorm_is_that_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (int k = 0; k < 2 * N_SHAPES; k++) {
        if (test_cl_small() && shapes[k / 2][0] * shapes[k / 2][1] > 1000) continue;
        rms p = rms_begin(t, shapes[k / 2][0], shapes[k / 2][1], k % 2);
        p.host.epsilon = p.d.epsilon = k % 4 == 0 ? 0.0f : 0.25f;
        test_ok(mo_rmsnorm_forward(&p.host, p.x, p.y));
        test_ok(mo_cl_rmsnorm_forward(&t->cl, &p.d, p.on_x, p.on_y));
        assert_like(t, p.on_y, p.y, p.n, 1e-6);
        assert_like(t, p.d.rstd, p.rstd, p.d.n, 1e-6);
        test_ok(mo_cl_rmsnorm_apply(&t->cl, &p.d, p.on_x, p.on_y));
        assert_like(t, p.on_y, p.y, p.n, 1e-6);
        p.host.add = p.d.add = 1;
        test_ok(mo_rmsnorm_backward(&p.host, p.x, p.dy, p.dx));
        test_ok(mo_cl_rmsnorm_backward(&t->cl, &p.d, p.on_x, p.on_dy, p.on_dx));
        assert_like(t, p.on_dx, p.dx, p.n, 3e-6);
        assert_like(t, p.d.dweight, p.dweight, p.d.channels, 1e-5);
        p.host.add = p.d.add = 0;
        p.d.dweight = p.d.workspace = (mo_cl_mem){0};
        test_ok(mo_rmsnorm_backward(&p.host, p.x, p.dy, p.dx));
        test_ok(mo_cl_rmsnorm_backward(&t->cl, &p.d, p.on_x, p.on_dy, p.on_dy)); /* in place */
        if (p.d.channels > 1) assert_like(t, p.on_dy, p.dx, p.n, 3e-6);
        rms_end(t, &p);
    }
}

static void rmsnorm_apply_and_in_place_have_the_bits_of_forward(void **state) {
    test_cl *t = test_cl_of(state);
    for (int k = 0; k < N_SHAPES; k++) {
        if (test_cl_small() && shapes[k][0] * shapes[k][1] > 1000) continue;
        rms p = rms_begin(t, shapes[k][0], shapes[k][1], 0);
        const size_t bytes = p.n * sizeof(float);
        test_ok(mo_cl_rmsnorm_forward(&t->cl, &p.d, p.on_x, p.on_y));
        test_cl_get(t, p.on_y, p.y, bytes);
        test_ok(mo_cl_rmsnorm_apply(&t->cl, &p.d, p.on_x, p.on_dx));
        test_cl_get(t, p.on_dx, p.dx, bytes);
        assert_same_bits(p.y, p.dx, bytes);
        test_ok(mo_cl_rmsnorm_forward(&t->cl, &p.d, p.on_x, p.on_x));
        test_cl_get(t, p.on_x, p.dx, bytes);
        assert_same_bits(p.y, p.dx, bytes);
        if (t->cl.work_group == 1 && t->cl.info.correctly_rounded && !test_cl_flushes()) {
            test_ok(mo_rmsnorm_forward(&p.host, p.x, p.dx)); /* the CPU's too */
            assert_same_bits(p.y, p.dx, bytes);
        }
        rms_end(t, &p);
    }
}

static void rmsnorm_refuses_wrong_arguments(void **state) {
    test_cl *t = test_cl_of(state);
    rms p = rms_begin(t, 65, 3, 1);
    const mo_cl_mem none = {0}, x = p.on_x, dy = p.on_dy, dx = p.on_dx;
    mo_cl_rmsnorm_desc bad[7];
    for (int i = 0; i < 7; i++) bad[i] = p.d;
    bad[0].channels = 0;
    bad[1].weight = none;
    bad[2].rstd = none;
    bad[3].n++;
    bad[4].dweight.size -= 4;
    bad[5].workspace.size -= 4;
    bad[6].channels = SIZE_MAX / 8;
    for (int i = 0; i < 4; i++)
        assert_int_equal(mo_cl_rmsnorm_forward(&t->cl, &bad[i], x, p.on_y), MO_E_INVALID);
    for (int i = 0; i < 7; i++)
        assert_int_equal(mo_cl_rmsnorm_backward(&t->cl, &bad[i], x, dy, dx),
            i == 5       ? MO_E_NO_SPACE
                : i == 6 ? MO_E_OVERFLOW
                         : MO_E_INVALID);
    assert_int_equal(mo_cl_rmsnorm_apply(&t->cl, &bad[6], x, p.on_y), MO_E_OVERFLOW);
    assert_int_equal(mo_cl_rmsnorm_forward(NULL, &p.d, x, p.on_y), MO_E_INVALID);
    assert_int_equal(mo_cl_rmsnorm_forward(&t->cl, NULL, x, p.on_y), MO_E_INVALID);
    assert_int_equal(mo_cl_rmsnorm_apply(&t->cl, &p.d, none, p.on_y), MO_E_INVALID);
    assert_int_equal(mo_cl_rmsnorm_backward(&t->cl, &p.d, x, none, dx), MO_E_INVALID);
    assert_int_equal(mo_cl_rmsnorm_backward(NULL, &p.d, x, dy, dx), MO_E_INVALID);
    assert_int_equal(mo_cl_rmsnorm_workspace_size(&t->cl, &p.d), 2 * 3 * 4);
    assert_int_equal(mo_cl_rmsnorm_workspace_size(NULL, &p.d), 0);
    p.d.n = 0;
    test_ok(mo_cl_rmsnorm_forward(&t->cl, &p.d, x, p.on_y));
    test_ok(mo_cl_rmsnorm_backward(&t->cl, &p.d, x, dy, dx));
    rms_end(t, &p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_and_backward_match_double),
        cmocka_unit_test(apply_and_forward_in_place_have_the_bits_of_forward),
        cmocka_unit_test(the_input_comes_back_from_the_output_in_place),
        cmocka_unit_test(gradients_have_the_same_bits_every_time),
        cmocka_unit_test(one_gradient_may_be_left_out),
        cmocka_unit_test(a_workspace_is_asked_for_where_it_helps),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(rmsnorm_is_that_of_the_cpu),
        cmocka_unit_test(rmsnorm_apply_and_in_place_have_the_bits_of_forward),
        cmocka_unit_test(rmsnorm_refuses_wrong_arguments),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
