/* test_cl_loss.c - losses over chunks of logits on a device: cross-entropy against double, and all
 * of them against the CPU's. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include <float.h>
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
        for (int k = 0; k < 5; k++) assert_true(k == 4 - i ? losses[k] == -FLT_MAX : losses[k] > 0);
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
    mo_cl_linear_ce_desc d[10];
    for (int i = 0; i < 10; i++) d[i] = p->d;
    d[0].rows = d[1].channels = d[2].vocab = 0;
    d[3].env = NULL;
    d[4].env = &nothing;
    d[5].rows = 6;
    d[6].label_smoothing = 1.5f;
    d[7].ignore = 1; /* with a scale of 0, which needs the count */
    d[8].workspace = none;
    d[9].workspace.size -= 4;
    for (int i = 0; i < 10; i++)
        assert_int_equal(
            mo_cl_linear_ce(&d[i], &p->t, &loss), i < 8 ? MO_E_INVALID : MO_E_NO_SPACE);
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

/* ---- options, distillation, preferences ----------------------------------------------------- */

/* The same on the CPU, whose function is compared with double in test_loss.c. */
typedef struct twin {
    mo_gemm_env env;
    mo_linear_ce_desc d;
    mo_linear_ce_tensors t;
    float *dx, *dw;
} twin;

static twin twin_of(const problem *p) {
    const size_t n_dx = p->rows * p->channels, n_dw = p->vocab * p->channels;
    twin c = {.env = {.workspace_size = mo_gemm_workspace_size(NULL, NULL)}};
    c.env.workspace = mo_alloc(NULL, c.env.workspace_size, 64);
    c.dx = test_floats(n_dx), c.dw = test_floats(n_dw);
    for (size_t i = 0; i < n_dw; i++) c.dw[i] = 1;
    c.d = (mo_linear_ce_desc){.rows = p->rows,
        .channels = p->channels,
        .vocab = p->vocab,
        .label_smoothing = p->d.label_smoothing,
        .z_loss = p->d.z_loss,
        .ignore = p->d.ignore,
        .ignore_index = p->d.ignore_index,
        .workspace_size = 1 << 20,
        .workspace = mo_alloc(NULL, 1 << 20, 64)};
    c.t =
        (mo_linear_ce_tensors){.x = p->x, .w = p->w, .targets = p->targets, .dx = c.dx, .dw = c.dw};
    return c;
}
static void twin_end(twin *c) {
    mo_free(NULL, c->env.workspace, c->env.workspace_size, 64);
    mo_free(NULL, c->d.workspace, c->d.workspace_size, 64);
    free(c->dx), free(c->dw);
}
static void assert_near_floats(test_cl *t, mo_cl_mem mem, const float *ref, size_t n) {
    double *wide = test_doubles(n);
    for (size_t i = 0; i < n; i++) wide[i] = (double)ref[i];
    assert_near(t, mem, wide, n, 1e-5);
    free(wide);
}
static void assert_as_twin(test_cl *t, const problem *p, const twin *c, double loss, double ref) {
    assert_error_below(fabs(loss - ref), 1e-5 * (fabs(ref) + 0.1));
    assert_near_floats(t, p->t.dx, c->dx, p->rows * p->channels);
    assert_near_floats(t, p->t.dw, c->dw, p->vocab * p->channels);
}

static void options_match_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (int k = 0; k < 4; k++) {
        problem *p = problem_begin(t, 11, 6, k % 2 ? 150 : 37, 4);
        float *weights = test_normals(&t->rng, 11, 1), losses[11], ref_losses[11];
        uint32_t counted = 9;
        size_t ref_counted = 0;
        double loss;
        p->d.label_smoothing = k == 0 ? 0.0f : 0.2f;
        p->d.z_loss = k == 1 ? 0.0f : 0.05f;
        p->d.ignore = k > 1;
        p->d.ignore_index = -100;
        p->targets[0] = p->targets[5] = p->d.ignore ? -100 : 3;
        p->t.targets = test_cl_put(t, p->targets, 44, 4);
        p->t.counted = test_cl_new(t, 4, 4);
        if (k == 3) p->t.weights = test_cl_put(t, weights, 44, 8);
        twin c = twin_of(p);
        c.d.env = &c.env;
        c.t.weights = k == 3 ? weights : NULL;
        c.t.losses = ref_losses;
        c.t.counted = &ref_counted;
        test_ok(mo_linear_ce(&c.d, &c.t, &loss));
        assert_as_twin(t, p, &c, run(p), loss);
        test_cl_get(t, p->t.losses, losses, sizeof losses);
        for (int i = 0; i < 11; i++)
            assert_true(fabsf(losses[i] - ref_losses[i]) <= 1e-5f * (fabsf(ref_losses[i]) + 1));
        test_cl_get(t, p->t.counted, &counted, 4);
        assert_int_equal(counted, ref_counted);
        twin_end(&c), free(weights);
        problem_end(t, p);
    }
}

static void without_a_row_that_counts_everything_is_0(void **state) {
    test_cl *t = test_cl_of(state);
    problem *p = problem_begin(t, 3, 4, 20, 2);
    float dx[12];
    p->d.ignore = 1;
    p->t.counted = test_cl_new(t, 4, 4);
    for (int i = 0; i < 3; i++) p->targets[i] = 0;
    p->t.targets = test_cl_put(t, p->targets, 12, 4);
    assert_true(run(p) == 0);
    test_cl_get(t, p->t.dx, dx, sizeof dx);
    for (int i = 0; i < 12; i++) assert_true(dx[i] == 0);
    problem_end(t, p);
}

/* Teachers of 5 channels: whole, and k of their log-probabilities from either side. */
static void distillation_matches_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    static const size_t shapes[][3] = {/* vocab, chunk, k */
        {40, 0, 0}, {150, 4, 0}, {37, 3, 5}, {150, 0, 70}, {20, 9, 20}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t vocab = shapes[i][0], k = shapes[i][2], n = 9 * (k ? k : 1);
        problem *p = problem_begin(t, 9, 6, vocab, shapes[i][1]);
        float *x = test_normals(&t->rng, 45, 1), *w = test_normals(&t->rng, vocab * 5, 0.5f);
        uint16_t *indices = test_array(n, 2), *log_probs = test_array(n, 2);
        double loss = 0, ref = 0;
        p->d.label_smoothing = 0.1f;
        p->d.ignore = i % 2 == 0;
        p->d.ignore_index = p->targets[2];
        p->t.counted = test_cl_new(t, 4, 4);
        twin c = twin_of(p);
        c.d.env = &c.env;
        const mo_linear_kd_topk_desc topk = {.rows = 9,
            .channels = 5,
            .vocab = vocab,
            .k = k,
            .env = &c.env,
            .workspace = c.d.workspace,
            .workspace_size = c.d.workspace_size};
        if (k) test_ok(mo_linear_kd_topk(&topk, x, w, indices, log_probs));
        const mo_linear_kd_desc cpu = {c.d, 5, k, 0, i == 1 ? 1.0f : 0.7f};
        const mo_linear_kd_tensors cpu_t = {c.t, x, w, indices, log_probs};
        test_ok(mo_linear_kd(&cpu, &cpu_t, &ref));
        mo_cl_linear_kd_desc d = {p->d, 5, k, 0, cpu.weight};
        const mo_cl_linear_kd_tensors kt = {p->t, test_cl_put(t, x, 180, 4),
            test_cl_put(t, w, vocab * 20, 8), test_cl_put(t, indices, 2 * n, 2),
            test_cl_put(t, log_probs, 2 * n, 6)};
        d.ce.workspace = test_cl_new(t, mo_cl_linear_kd_workspace_size(&d), 4);
        test_ok(mo_cl_linear_kd(&d, &kt, &loss));
        assert_as_twin(t, p, &c, loss, ref);
        twin_end(&c), free(x), free(w), free(indices), free(log_probs);
        problem_end(t, p);
    }
}

static void an_index_outside_the_vocabulary_has_no_gradient_and_is_reported(void **state) {
    test_cl *t = test_cl_of(state);
    problem *p = problem_begin(t, 3, 4, 20, 0);
    const uint16_t indices[] = {1, 2, 3, 20, 5, 6}, log_probs[6] = {0};
    float losses[3];
    double loss = 5;
    mo_cl_linear_kd_desc d = {p->d, 4, 2, 0, 0};
    const mo_cl_linear_kd_tensors kt = {
        p->t, {0}, {0}, test_cl_put(t, indices, 12, 2), test_cl_put(t, log_probs, 12, 2)};
    d.ce.workspace = test_cl_new(t, mo_cl_linear_kd_workspace_size(&d), 4);
    assert_int_equal(mo_cl_linear_kd(&d, &kt, &loss), MO_E_INVALID);
    test_cl_get(t, p->t.losses, losses, sizeof losses);
    assert_true(loss == 5 && losses[0] > 0 && losses[1] == -FLT_MAX && losses[2] > 0);
    problem_end(t, p);
}

/* Equal logits stand in the order of their indices; log-probabilities are within an ulp of fp16. */
static void the_largest_are_those_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    enum { ROWS = 3, K = 9, VOCAB = 90 };
    problem *p = problem_begin(t, ROWS, 2, VOCAB, 2);
    twin c = twin_of(p);
    uint16_t indices[ROWS * K], log_probs[ROWS * K], got[ROWS * K];
    float a[ROWS * K], b[ROWS * K];
    for (int i = 0; i < VOCAB * 2; i++) p->w[i] = (float)(i * 7 % 13) - 6; /* many of them equal */
    for (int i = 0; i < ROWS * 2; i++) p->x[i] = i % 2 ? 0.5f : 1.0f;
    const mo_linear_kd_topk_desc cpu = {.rows = ROWS,
        .channels = 2,
        .vocab = VOCAB,
        .k = K,
        .env = &c.env,
        .workspace = c.d.workspace,
        .workspace_size = c.d.workspace_size};
    test_ok(mo_linear_kd_topk(&cpu, p->x, p->w, indices, log_probs));
    const mo_cl_linear_kd_topk_desc d = {ROWS, 2, VOCAB, 2, K, 0, &p->env, p->d.workspace};
    const mo_cl_mem to = test_cl_new(t, sizeof got, 2), probs = test_cl_new(t, sizeof got, 6);
    test_ok(mo_cl_linear_kd_topk(
        &d, test_cl_put(t, p->x, ROWS * 8, 4), test_cl_put(t, p->w, VOCAB * 8, 4), to, probs));
    test_cl_get(t, to, got, sizeof got);
    assert_memory_equal(got, indices, sizeof got);
    test_cl_get(t, probs, got, sizeof got);
    mo_f16_to_f32(got, a, ROWS * K, NULL);
    mo_f16_to_f32(log_probs, b, ROWS * K, NULL);
    for (int i = 0; i < ROWS * K; i++) assert_true(fabsf(a[i] - b[i]) <= 0x1p-10f * fabsf(b[i]));
    twin_end(&c);
    problem_end(t, p);
}

static void preferences_match_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    static const size_t ends[] = {3, 3, 8, 12};
    const double reference[] = {-9, -1, -17, -14};
    problem *p = problem_begin(t, 12, 5, 30, 5);
    double log_probs[4], ref[4], again[4], loss = 0, ref_loss = 0;
    p->d.ignore = 1;
    p->d.ignore_index = p->targets[4];
    twin c = twin_of(p);
    c.d.env = &c.env;
    const mo_dpo_pairs_desc pairs = {.pairs = 2, .beta = 0.4f, .label_smoothing = 0.1f};
    const mo_linear_dpo_desc cpu = {c.d, pairs, ends};
    test_ok(mo_linear_dpo(&cpu, &c.t, reference, ref, &ref_loss));
    mo_cl_linear_dpo_desc d = {p->d, pairs, ends};
    d.ce.workspace = test_cl_new(t, mo_cl_linear_dpo_workspace_size(&d), 4);
    test_ok(mo_cl_linear_dpo(&d, &p->t, reference, log_probs, &loss));
    for (int i = 0; i < 4; i++) assert_error_below(fabs(log_probs[i] - ref[i]), 1e-5);
    assert_as_twin(t, p, &c, loss, ref_loss);
    p->t.dx = p->t.dw = (mo_cl_mem){0};
    test_ok(mo_cl_linear_dpo_log_probs(&d, &p->t, again));
    assert_same_bits(again, log_probs, sizeof again);
    twin_end(&c);
    problem_end(t, p);
}

static void wrong_teachers_and_preferences_are_refused(void **state) {
    test_cl *t = test_cl_of(state);
    problem *p = problem_begin(t, 4, 4, 20, 0);
    double loss = 5, log_probs[4] = {7}, reference[4] = {0};
    static const size_t falling[] = {3, 2, 4, 4}, too_few[] = {1, 2, 3, 3};
    const mo_cl_mem space = test_cl_new(t, 4096, 4);
    p->d.workspace = space;
    const mo_cl_linear_kd_tensors kt = {p->t, p->t.x, p->t.w, space, space};
    mo_cl_linear_kd_desc kd[6];
    for (int i = 0; i < 6; i++) kd[i] = (mo_cl_linear_kd_desc){p->d, 4, 0, 0, 0};
    kd[0].temperature = -1;
    kd[1].weight = 2;
    kd[2].k = 21;
    kd[3].teacher_channels = 5; /* of which there are 4 */
    kd[4].ce.rows = 0;
    kd[5].ce.workspace.size = mo_cl_linear_kd_workspace_size(&kd[5]) - 4;
    for (int i = 0; i < 6; i++)
        assert_int_equal(mo_cl_linear_kd(&kd[i], &kt, &loss), i < 5 ? MO_E_INVALID : MO_E_NO_SPACE);
    mo_cl_linear_dpo_desc d[6];
    for (int i = 0; i < 6; i++) d[i] = (mo_cl_linear_dpo_desc){p->d, {.pairs = 2}, NULL};
    d[0].ends = falling;
    d[1].ends = too_few;
    d[2].pairs.pairs = 3;
    d[3].ce.z_loss = 1;
    d[4].pairs.beta = -1;
    d[5].ce.workspace.size = mo_cl_linear_dpo_workspace_size(&d[5]) - 4;
    for (int i = 0; i < 6; i++)
        assert_int_equal(mo_cl_linear_dpo(&d[i], &p->t, reference, log_probs, &loss),
            i < 5 ? MO_E_INVALID : MO_E_NO_SPACE);
    mo_cl_linear_kd_topk_desc topk = {4, 4, 20, 0, 0, 0, &p->env, space};
    assert_int_equal(mo_cl_linear_kd_topk(&topk, p->t.x, p->t.w, space, space), MO_E_INVALID);
    assert_int_equal(mo_cl_linear_kd_topk(NULL, p->t.x, p->t.w, space, space), MO_E_INVALID);
    assert_true(loss == 5 && log_probs[0] == 7);
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
        cmocka_unit_test(options_match_the_cpu),
        cmocka_unit_test(without_a_row_that_counts_everything_is_0),
        cmocka_unit_test(distillation_matches_the_cpu),
        cmocka_unit_test(an_index_outside_the_vocabulary_has_no_gradient_and_is_reported),
        cmocka_unit_test(the_largest_are_those_of_the_cpu),
        cmocka_unit_test(preferences_match_the_cpu),
        cmocka_unit_test(wrong_teachers_and_preferences_are_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
