/* test_linear_attention.c - mo_linear_attention: against all pairs in double, chunks, threads. */
#include "test_numeric.h"

/* One problem: q, k, v in one array, as a fused QKV activation (stride 3 channels) or in three. */
typedef struct problem {
    mo_linear_attention_desc d;
    mo_linear_attention_tensors t;
    size_t n_in, n_out, n_norm, stride;
    float *qkv, *dqkv, *dout;
    mo_parallel parallel;
} problem;

static void workspace_begin(problem *p, int threads) {
    p->parallel = test_threads(threads);
    p->d.parallel = &p->parallel;
    p->d.workspace_size = mo_linear_attention_workspace_size(&p->d);
    p->d.workspace = mo_alloc(NULL, p->d.workspace_size, 64);
    assert_non_null(p->d.workspace);
    float *all = (float *)p->d.workspace; /* whatever was there */
    for (size_t i = 0; i < p->d.workspace_size / sizeof(float); i++) all[i] = NAN;
}
static void workspace_end(problem *p) { mo_free(NULL, p->d.workspace, p->d.workspace_size, 64); }

static problem *problem_begin(test_rng *r, size_t batch, size_t seq, size_t heads, size_t head_size,
    int full, size_t chunk, int threads) {
    problem *p = (problem *)test_array(1, sizeof *p);
    const size_t channels = heads * head_size, fused = seq % 2;
    memset(p, 0, sizeof *p);
    p->d.batch = batch;
    p->d.seq = seq;
    p->d.heads = heads;
    p->d.head_size = head_size;
    p->d.full = full;
    p->d.chunk = chunk;
    p->stride = fused ? 3 * channels : channels;
    p->d.stride = fused ? p->stride : 0;
    p->n_out = batch * seq * channels;
    p->n_in = 3 * p->n_out;
    p->n_norm = batch * heads * seq;
    p->qkv = test_normals(r, p->n_in, 1);
    p->dout = test_normals(r, p->n_out, 1);
    p->dqkv = test_floats(p->n_in);
    for (size_t i = 0; i < p->n_in; i++) p->dqkv[i] = NAN;
    const size_t part = fused ? channels : p->n_out;
    p->t.q = p->qkv;
    p->t.k = p->qkv + part;
    p->t.v = p->qkv + 2 * part;
    p->t.out = test_floats(p->n_out);
    p->t.norm = test_floats(p->n_norm);
    p->t.dout = p->dout;
    p->t.dq = p->dqkv;
    p->t.dk = p->dqkv + part;
    p->t.dv = p->dqkv + 2 * part;
    workspace_begin(p, threads);
    return p;
}
static void problem_end(problem *p) {
    workspace_end(p);
    free(p->qkv);
    free(p->dqkv);
    free(p->dout);
    free(p->t.out);
    free(p->t.norm);
    free(p);
}
static void run(problem *p) {
    test_ok(mo_linear_attention_forward(&p->d, &p->t));
    test_ok(mo_linear_attention_backward(&p->d, &p->t));
}

/* ---- the reference -------------------------------------------------------------------------- */

typedef struct reference {
    double *out, *norm, *dqkv;
} reference;

static double feature(float x) { return x > 0 ? (double)x + 1 : exp((double)x); }
static double derivative(float x) { return x > 0 ? 1 : exp((double)x); }

/* Query i of one head; in, out: the head's first element. */
static void row_double(const problem *p, size_t in, size_t out, size_t i, const reference *ref) {
    const size_t n = p->d.head_size, channels = p->d.heads * n, at_q = in + i * p->stride;
    const size_t keys = p->d.full ? p->d.seq : i + 1, k_at = (size_t)(p->t.k - p->qkv);
    const size_t v_at = (size_t)(p->t.v - p->qkv), at_out = out + i * channels;
    const float *q = p->qkv + at_q, *k = p->qkv + k_at + in, *v = p->qkv + v_at + in;
    const float *dout = p->dout + at_out;
    double *o = ref->out + at_out, norm = p->d.epsilon == 0 ? 1e-6 : (double)p->d.epsilon;
    double *w = test_doubles(keys), dot = 0;
    for (size_t c = 0; c < n; c++) o[c] = 0;
    for (size_t j = 0; j < keys; j++) {
        w[j] = 0;
        for (size_t c = 0; c < n; c++) w[j] += feature(q[c]) * feature(k[j * p->stride + c]);
        norm += w[j];
        for (size_t c = 0; c < n; c++) o[c] += w[j] * (double)v[j * p->stride + c];
    }
    for (size_t c = 0; c < n; c++) o[c] /= norm, dot += o[c] * (double)dout[c];
    for (size_t j = 0; j < keys; j++) {
        const size_t at = in + j * p->stride;
        double dw = -dot / norm;
        for (size_t c = 0; c < n; c++) dw += (double)dout[c] * (double)p->qkv[v_at + at + c] / norm;
        for (size_t c = 0; c < n; c++) {
            const float key = p->qkv[k_at + at + c];
            ref->dqkv[at_q + c] += dw * feature(key) * derivative(q[c]);
            ref->dqkv[k_at + at + c] += dw * feature(q[c]) * derivative(key);
            ref->dqkv[v_at + at + c] += w[j] * (double)dout[c] / norm;
        }
    }
    ref->norm[out / (p->d.seq * channels) * p->d.heads * p->d.seq +
        out % (p->d.seq * channels) / n * p->d.seq + i] = norm;
    free(w);
}
static reference reference_begin(const problem *p) {
    const mo_linear_attention_desc *d = &p->d;
    reference ref = {test_doubles(p->n_out), test_doubles(p->n_norm), test_doubles(p->n_in)};
    for (size_t i = 0; i < p->n_in; i++) ref.dqkv[i] = 0;
    for (size_t b = 0; b < d->batch; b++)
        for (size_t h = 0; h < d->heads; h++)
            for (size_t i = 0; i < d->seq; i++)
                row_double(p, b * d->seq * p->stride + h * d->head_size,
                    (b * d->seq * d->heads + h) * d->head_size, i, &ref);
    return ref;
}
static void reference_end(reference *ref) {
    free(ref->out);
    free(ref->norm);
    free(ref->dqkv);
}
/* Sums of numbers of order 1, a few hundred of them: some 1e-6 of the largest. */
static void assert_near(const problem *p, const reference *ref) {
    assert_error_below(test_error(p->t.out, ref->out, p->n_out), 1e-5);
    assert_error_below(test_error(p->t.norm, ref->norm, p->n_norm), 1e-5);
    assert_error_below(test_error(p->dqkv, ref->dqkv, p->n_in), 1e-5);
}

/* ---- examples ------------------------------------------------------------------------------- */

static void one_position_returns_its_value(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 1, 1, 2, 3, 0, 0, 1);
    run(p);
    for (size_t c = 0; c < 6; c++) {
        assert_true(fabsf(p->t.out[c] - p->t.v[c]) < 1e-5f);
        assert_true(fabsf(p->t.dv[c] - p->dout[c]) < 1e-5f && fabsf(p->t.dq[c]) < 1e-5f);
    }
    problem_end(p);
}

static void equal_keys_give_the_mean_of_what_is_seen(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (int full = 0; full < 2; full++) {
        problem *p = problem_begin(&r, 1, 4, 1, 1, full, 2, 1);
        for (int i = 0; i < 4; i++) p->qkv[4 + i] = 0.5f, p->qkv[8 + i] = (float)(i + 1);
        run(p);
        for (int i = 0; i < 4; i++)
            assert_true(fabsf(p->t.out[i] - (full ? 2.5f : 1 + 0.5f * (float)i)) < 1e-5f);
        problem_end(p);
    }
}

/* e^-100 is 0, and epsilon keeps the quotient finite. */
static void positions_without_weight_give_zero(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 1, 6, 1, 2, 0, 0, 1);
    for (int i = 0; i < 24; i++) p->qkv[i] = -100;
    run(p);
    for (int i = 0; i < 12; i++) assert_true(p->t.out[i] == 0);
    for (int i = 0; i < 36; i++) assert_true(isfinite(p->dqkv[i]));
    problem_end(p);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 1, 4, 2, 3, 0, 0, 2);
    mo_linear_attention_desc bad[10];
    for (int i = 0; i < 10; i++) bad[i] = p->d;
    bad[0].batch = bad[1].seq = bad[2].heads = bad[3].head_size = 0;
    bad[4].stride = 5;
    bad[5].epsilon = -1;
    bad[6].epsilon = NAN;
    bad[7].heads = SIZE_MAX / 2;
    bad[8].batch = SIZE_MAX / 4;
    bad[9].head_size = SIZE_MAX / 32;
    for (int i = 0; i < 10; i++)
        assert_int_equal(
            mo_linear_attention_forward(&bad[i], &p->t), i < 7 ? MO_E_INVALID : MO_E_OVERFLOW);
    assert_int_equal(mo_linear_attention_workspace_size(&bad[9]), 0);
    assert_int_equal(mo_linear_attention_workspace_size(NULL), 0);
    assert_int_equal(mo_linear_attention_forward(NULL, &p->t), MO_E_INVALID);
    assert_int_equal(mo_linear_attention_forward(&p->d, NULL), MO_E_INVALID);
    mo_linear_attention_tensors t[9];
    for (int i = 0; i < 9; i++) t[i] = p->t;
    t[0].q = t[1].k = t[2].v = t[5].dout = NULL;
    t[3].out = t[4].norm = t[6].dq = t[7].dk = t[8].dv = NULL;
    for (int i = 0; i < 9; i++) {
        assert_int_equal(mo_linear_attention_backward(&p->d, &t[i]), MO_E_INVALID);
        assert_int_equal(mo_linear_attention_forward(&p->d, &t[i]), i < 5 ? MO_E_INVALID : MO_OK);
    }
    mo_linear_attention_desc d = p->d;
    const mo_parallel one = test_threads(1);
    d.parallel = &one; /* one thread's share is enough, less is not */
    d.workspace_size = mo_linear_attention_workspace_size(&d);
    test_ok(mo_linear_attention_forward(&d, &p->t));
    d.workspace_size--;
    assert_int_equal(mo_linear_attention_forward(&d, &p->t), MO_E_NO_SPACE);
    d.workspace = NULL;
    assert_int_equal(mo_linear_attention_backward(&d, &p->t), MO_E_NO_SPACE);
    problem_end(p);
}

static void the_workspace_does_not_grow_with_the_sequence(void **state) {
    (void)state;
    mo_linear_attention_desc d;
    memset(&d, 0, sizeof d);
    d.batch = d.heads = 1;
    d.head_size = 64;
    d.seq = 64;
    const size_t size = mo_linear_attention_workspace_size(&d);
    d.seq = 1000000;
    assert_true(size > 0);
    assert_int_equal(mo_linear_attention_workspace_size(&d), size);
}

/* ---- properties ----------------------------------------------------------------------------- */

static void sequences_and_chunks_of_any_length_match_double(void **state) {
    (void)state;
    static const size_t shapes[][3] = {/* seq, head size, chunk */
        {1, 5, 0}, {2, 1, 1}, {63, 5, 0}, {64, 32, 0}, {65, 1, 7}, {66, 20, 64}, {130, 17, 0},
        {101, 3, 200}, {140, 8, 50}};
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < n_elements(shapes); k++)
        for (int full = 0; full < 2; full++) {
            problem *p = problem_begin(&r, 2, shapes[k][0], 2, shapes[k][1], full, shapes[k][2], 2);
            reference ref = reference_begin(p);
            for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
                for (size_t i = 0; i < p->n_in; i++) p->dqkv[i] = NAN;
                run(p);
                assert_near(p, &ref);
            }
            reference_end(&ref);
            problem_end(p);
        }
}

/* As for mo_attention: x + h is the float it rounds to, and h^2 the error of the difference. */
static double loss_double(const problem *p) {
    reference ref = reference_begin(p);
    double loss = 0;
    for (size_t i = 0; i < p->n_out; i++) loss += ref.out[i] * (double)p->dout[i];
    reference_end(&ref);
    return loss;
}
static void gradients_match_central_differences(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (int full = 0; full < 2; full++) {
        problem *p = problem_begin(&r, 1, 7, 2, 3, full, 3, 1);
        double *want = test_doubles(p->n_in);
        for (size_t i = 0; i < p->n_in; i++) /* away from 0, where f is bent */
            if (fabsf(p->qkv[i]) < 1e-3f) p->qkv[i] = 0.1f;
        run(p);
        for (size_t i = 0; i < p->n_in; i++) {
            const float at = p->qkv[i], high = at + 1e-4f, low = at - 1e-4f;
            p->qkv[i] = high;
            const double above = loss_double(p);
            p->qkv[i] = low;
            want[i] = (above - loss_double(p)) / ((double)high - (double)low);
            p->qkv[i] = at;
        }
        assert_error_below(test_error(p->dqkv, want, p->n_in), 1e-5);
        free(want);
        problem_end(p);
    }
}

static void the_number_of_threads_does_not_matter(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 2, 101, 3, 16, 0, 0, 1);
    run(p);
    float *out = test_copy(p->t.out, p->n_out), *dqkv = test_copy(p->dqkv, p->n_in);
    for (int threads = 2; threads <= 7; threads++) {
        workspace_end(p);
        workspace_begin(p, threads);
        run(p);
        assert_same_bits(p->t.out, out, p->n_out * sizeof *out);
        assert_same_bits(p->dqkv, dqkv, p->n_in * sizeof *dqkv);
    }
    free(out);
    free(dqkv);
    problem_end(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_position_returns_its_value),
        cmocka_unit_test(equal_keys_give_the_mean_of_what_is_seen),
        cmocka_unit_test(positions_without_weight_give_zero),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(the_workspace_does_not_grow_with_the_sequence),
        cmocka_unit_test(sequences_and_chunks_of_any_length_match_double),
        cmocka_unit_test(gradients_match_central_differences),
        cmocka_unit_test(the_number_of_threads_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
