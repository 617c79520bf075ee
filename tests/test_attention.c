/* test_attention.c - mo_attention: against softmax in double, fused strides, tiles, threads. */
#include "test_numeric.h"

/* One problem: q, k, v in one array as a fused QKV activation (stride 3 channels) or in three. */
typedef struct problem {
    mo_attention_desc d;
    mo_attention_tensors t;
    size_t n_in, n_out, n_lse, stride;
    float *qkv, *out, *lse, *dout, *dqkv;
    mo_parallel parallel;
} problem;

static void fill(float *x, size_t n, float value) {
    for (size_t i = 0; i < n; i++) x[i] = value;
}

static void workspace_begin(problem *p, int threads) {
    p->parallel = test_threads(threads);
    p->d.parallel = &p->parallel;
    p->d.workspace_size = mo_attention_workspace_size(&p->d);
    p->d.workspace = mo_alloc(NULL, p->d.workspace_size, 64);
    assert_non_null(p->d.workspace);
    fill((float *)p->d.workspace, p->d.workspace_size / sizeof(float),
        1e30f); /* whatever was there */
}
static void workspace_end(problem *p) { mo_free(NULL, p->d.workspace, p->d.workspace_size, 64); }

static problem *problem_begin(test_rng *r, size_t batch, size_t seq, size_t heads, size_t head_size,
    int fused, int full, int threads) {
    problem *p = (problem *)test_array(1, sizeof *p);
    const size_t channels = heads * head_size;
    memset(p, 0, sizeof *p);
    p->d.batch = batch;
    p->d.seq = seq;
    p->d.heads = heads;
    p->d.head_size = head_size;
    p->d.full = full;
    p->stride = fused ? 3 * channels : channels;
    p->d.stride = fused ? p->stride : 0;
    p->n_in = batch * seq * channels * 3;
    p->n_out = batch * seq * channels;
    p->n_lse = batch * heads * seq;
    p->qkv = test_normals(r, p->n_in, 1);
    p->dqkv = test_floats(p->n_in);
    p->out = test_floats(p->n_out);
    p->lse = test_floats(p->n_lse);
    p->dout = test_normals(r, p->n_out, 1);
    fill(p->dqkv, p->n_in, NAN);
    fill(p->out, p->n_out, NAN);
    fill(p->lse, p->n_lse, NAN);
    const size_t part = fused ? channels : p->n_out;
    p->t.q = p->qkv;
    p->t.k = p->qkv + part;
    p->t.v = p->qkv + 2 * part;
    p->t.out = p->out;
    p->t.lse = p->lse;
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
    free(p->out);
    free(p->lse);
    free(p->dout);
    free(p);
}
static void run(problem *p) {
    test_ok(mo_attention_forward(&p->d, &p->t));
    test_ok(mo_attention_backward(&p->d, &p->t));
}

/* ---- the reference -------------------------------------------------------------------------- */

typedef struct reference {
    double *out, *lse, *dqkv;
} reference;

/* One head of one sequence: the whole row of probabilities in double. */
static void head_double(const problem *p, size_t b, size_t h, const reference *ref) {
    const mo_attention_desc *d = &p->d;
    const size_t seq = d->seq, size = d->head_size, in = b * seq * p->stride + h * size;
    const size_t channels = d->heads * size, out = b * seq * channels + h * size;
    const double scale = d->scale == 0 ? 1 / sqrt((double)size) : (double)d->scale;
    const size_t k_at = (size_t)(p->t.k - p->qkv), v_at = (size_t)(p->t.v - p->qkv);
    double *w = test_doubles(seq), *dw = test_doubles(seq);
    for (size_t i = 0; i < seq; i++) {
        const size_t keys = d->full ? seq : i + 1;
        const float *q = p->t.q + in + i * p->stride, *dout = p->dout + out + i * channels;
        double *o = ref->out + out + i * channels, most = -HUGE_VAL, sum = 0, delta = 0;
        for (size_t j = 0; j < keys; j++) {
            w[j] = 0;
            for (size_t c = 0; c < size; c++)
                w[j] += scale * (double)q[c] * (double)p->t.k[in + j * p->stride + c];
            most = fmax(most, w[j]);
        }
        for (size_t j = 0; j < keys; j++) sum += w[j] = exp(w[j] - most);
        ref->lse[(b * d->heads + h) * seq + i] = most + log(sum);
        for (size_t c = 0; c < size; c++) o[c] = 0;
        for (size_t j = 0; j < keys; j++) {
            const float *v = p->t.v + in + j * p->stride;
            w[j] /= sum;
            dw[j] = 0;
            for (size_t c = 0; c < size; c++) {
                o[c] += w[j] * (double)v[c];
                dw[j] += (double)dout[c] * (double)v[c];
            }
        }
        for (size_t c = 0; c < size; c++) delta += o[c] * (double)dout[c];
        for (size_t j = 0; j < keys; j++) {
            const double ds = w[j] * (dw[j] - delta) * scale;
            const size_t at = in + j * p->stride;
            double *dq = ref->dqkv + in + i * p->stride;
            for (size_t c = 0; c < size; c++) {
                dq[c] += ds * (double)p->t.k[at + c];
                ref->dqkv[k_at + at + c] += ds * (double)q[c];
                ref->dqkv[v_at + at + c] += w[j] * (double)dout[c];
            }
        }
    }
    free(w);
    free(dw);
}
static reference reference_begin(const problem *p) {
    reference ref = {test_doubles(p->n_out), test_doubles(p->n_lse), test_doubles(p->n_in)};
    for (size_t i = 0; i < p->n_in; i++) ref.dqkv[i] = 0;
    for (size_t b = 0; b < p->d.batch; b++)
        for (size_t h = 0; h < p->d.heads; h++) head_double(p, b, h, &ref);
    return ref;
}
static void reference_end(reference *ref) {
    free(ref->out);
    free(ref->lse);
    free(ref->dqkv);
}

/* Scores are sums of head_size products of order 1, so their absolute error is some 1e-6, which is
 * the relative error of a probability; gradients add up to seq of those. 1e-5 of the largest
 * element. */
static void assert_near(const problem *p, const reference *ref) {
    assert_error_below(test_error(p->out, ref->out, p->n_out), 1e-5);
    assert_error_below(test_error(p->lse, ref->lse, p->n_lse), 1e-5);
    assert_error_below(test_error(p->dqkv, ref->dqkv, p->n_in), 1e-5);
}

/* ---- examples ------------------------------------------------------------------------------ */

static void one_position_returns_its_value(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 1, 1, 2, 3, 1, 0, 1);
    run(p);
    assert_same_bits(p->out, p->t.v, 6 * sizeof(float));
    assert_same_bits(p->t.dv, p->dout, 6 * sizeof(float));
    for (int c = 0; c < 6; c++) assert_true(fabsf(p->t.dq[c]) < 1e-6f && fabsf(p->t.dk[c]) < 1e-6f);
    problem_end(p);
}

static void equal_scores_give_the_mean_of_what_is_seen(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (int full = 0; full < 2; full++) {
        problem *p = problem_begin(&r, 1, 4, 1, 1, 0, full, 1);
        for (int i = 0; i < 4; i++) p->qkv[i] = 0, p->qkv[8 + i] = (float)(i + 1);
        run(p);
        /* exact up to the rounding of the sum and of 1 / sum */
        for (int i = 0; i < 4; i++)
            assert_true(fabsf(p->out[i] - (full ? 2.5f : 1 + 0.5f * (float)i)) < 1e-6f);
        assert_true(fabsf(p->lse[3] - logf(4)) < 1e-6f);
        problem_end(p);
    }
}

static void the_scale_is_the_one_given(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 1, 20, 1, 16, 0, 0, 1), *by_default;
    p->d.scale = 0.25f; /* 1 / sqrt(16) */
    by_default = problem_begin(&r, 1, 20, 1, 16, 0, 0, 1);
    memcpy(by_default->qkv, p->qkv, p->n_in * sizeof(float));
    memcpy(by_default->dout, p->dout, p->n_out * sizeof(float));
    run(p);
    run(by_default);
    assert_same_bits(p->out, by_default->out, p->n_out * sizeof(float));
    assert_same_bits(p->dqkv, by_default->dqkv, p->n_in * sizeof(float));
    p->d.scale = -0.5f;
    run(p);
    reference ref = reference_begin(p);
    assert_near(p, &ref);
    reference_end(&ref);
    problem_end(p);
    problem_end(by_default);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 1, 4, 2, 3, 0, 0, 2);
    mo_attention_desc bad[5];
    for (int i = 0; i < 5; i++) bad[i] = p->d;
    bad[0].batch = 0;
    bad[1].seq = 0;
    bad[2].heads = 0;
    bad[3].head_size = 0;
    bad[4].stride = 5;
    for (int i = 0; i < 5; i++)
        assert_int_equal(mo_attention_forward(&bad[i], &p->t), MO_E_INVALID);
    assert_int_equal(mo_attention_forward(NULL, &p->t), MO_E_INVALID);
    assert_int_equal(mo_attention_forward(&p->d, NULL), MO_E_INVALID);
    const mo_attention_tensors none = {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL};
    mo_attention_tensors t[9];
    for (int i = 0; i < 9; i++) t[i] = p->t;
    t[0].q = t[1].k = t[2].v = t[5].dout = NULL;
    t[3].out = t[4].lse = t[6].dq = t[7].dk = t[8].dv = NULL;
    for (int i = 0; i < 9; i++) {
        assert_int_equal(mo_attention_backward(&p->d, &t[i]), MO_E_INVALID);
        assert_int_equal(mo_attention_forward(&p->d, &t[i]), i < 5 ? MO_E_INVALID : MO_OK);
    }
    assert_int_equal(mo_attention_forward(&p->d, &none), MO_E_INVALID);
    mo_attention_desc d = p->d;
    mo_parallel one = {NULL, NULL, 1};
    d.parallel = &one; /* one thread's share is enough, less is not */
    d.workspace_size = mo_attention_workspace_size(&d);
    test_ok(mo_attention_forward(&d, &p->t));
    d.workspace_size--;
    assert_int_equal(mo_attention_forward(&d, &p->t), MO_E_NO_SPACE);
    d.workspace = NULL;
    assert_int_equal(mo_attention_backward(&d, &p->t), MO_E_NO_SPACE);
    d = p->d;
    d.heads = SIZE_MAX / 2;
    assert_int_equal(mo_attention_forward(&d, &p->t), MO_E_OVERFLOW);
    d = p->d;
    d.batch = SIZE_MAX / 4;
    assert_int_equal(mo_attention_forward(&d, &p->t), MO_E_OVERFLOW);
    d = p->d;
    d.head_size = SIZE_MAX / 8;
    assert_int_equal(mo_attention_workspace_size(&d), 0);
    assert_int_equal(mo_attention_workspace_size(NULL), 0);
    problem_end(p);
}

static void the_workspace_does_not_grow_with_the_sequence(void **state) {
    (void)state;
    mo_attention_desc d;
    memset(&d, 0, sizeof d);
    d.batch = d.heads = 1;
    d.head_size = 64;
    d.seq = 512;
    const size_t size = mo_attention_workspace_size(&d);
    d.seq = 1000000;
    assert_true(size > 0);
    assert_int_equal(mo_attention_workspace_size(&d), size);
    d.seq = 10; /* and a short one needs less */
    assert_true(mo_attention_workspace_size(&d) < size);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void sequences_of_any_length_match_double(void **state) {
    (void)state;
    static const size_t shapes[][2] = {/* seq, head size */
        {1, 5}, {2, 1}, {63, 5}, {64, 32}, {65, 1}, {65, 80}, {130, 64}, {511, 8}, {513, 5},
        {600, 32}, {1100, 5}};
    const mo_cpu initial = mo_cpu_current();
    for (size_t k = 0; k < n_elements(shapes); k++)
        for (int full = 0; full < 2; full++) {
            test_rng r = test_rng_begin(__func__);
            problem *p = problem_begin(&r, 1, shapes[k][0], 1, shapes[k][1], (int)(k % 2), full, 1);
            reference ref = reference_begin(p);
            for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
                fill(p->dqkv, p->n_in, NAN);
                run(p);
                assert_near(p, &ref);
            }
            reference_end(&ref);
            problem_end(p);
        }
}

static void batches_and_heads_of_a_fused_activation_match_double(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int i = 0; i < 4; i++) {
        problem *p = problem_begin(&r, 2, 70, 3, i & 2 ? 5 : 16, i & 1, i >> 1, 2);
        reference ref = reference_begin(p);
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            run(p);
            assert_near(p, &ref);
        }
        reference_end(&ref);
        problem_end(p);
    }
}

/* Forward in double as a function of q, k, v; loss = sum(out dout). h = 1e-4 of numbers of order 1:
 * the error of the difference is h^2 = 1e-8, so 1e-5 is the fp32 kernel's. The inputs of the double
 * forward are floats, so x + h is taken as the float it rounds to and divided by the true distance.
 * */
static double loss_double(const problem *p) {
    reference ref = reference_begin(p);
    double loss = 0;
    for (size_t i = 0; i < p->n_out; i++) loss += ref.out[i] * (double)p->dout[i];
    reference_end(&ref);
    return loss;
}
static void gradients_match_central_differences(void **state) {
    (void)state;
    for (int full = 0; full < 2; full++) {
        test_rng r = test_rng_begin(__func__);
        problem *p = problem_begin(&r, 1, 7, 2, 3, 1, full, 1);
        double *want = test_doubles(p->n_in);
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

static void what_is_not_seen_does_not_matter(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        problem *p = problem_begin(&r, 1, 100, 1, 8, 0, 0, 1);
        test_ok(mo_attention_forward(&p->d, &p->t));
        float *before = test_copy(p->out, p->n_out);
        for (size_t i = 50 * 8; i < 100 * 8; i++) p->qkv[800 + i] *= -3, p->qkv[1600 + i] += 1;
        test_ok(mo_attention_forward(&p->d, &p->t));
        assert_same_bits(before, p->out, 50 * 8 * sizeof *before);
        free(before);
        problem_end(p);
    }
}

/* One sequence has scores around 1e4, the next around 0: nothing of the first may stay behind. The
 * order of the heads on one thread is the order of the batch. */
static void a_head_leaves_nothing_behind_for_the_next(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        problem *p = problem_begin(&r, 2, 40, 1, 8, 0, 1, 1);
        problem *second = problem_begin(&r, 1, 40, 1, 8, 0, 1, 1);
        for (size_t i = 0; i < 40 * 8; i++) p->qkv[i] = p->qkv[640 + i] = 60;
        for (size_t part = 0; part < 3; part++)
            memcpy(second->qkv + part * 320, p->qkv + part * 640 + 320, 320 * sizeof(float));
        memcpy(second->dout, p->dout + 320, 320 * sizeof(float));
        run(p);
        run(second);
        assert_same_bits(p->out + 320, second->out, 320 * sizeof(float));
        assert_same_bits(p->lse + 40, second->lse, 40 * sizeof(float));
        problem_end(p);
        problem_end(second);
    }
}

static void huge_scores_stay_finite(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        problem *p = problem_begin(&r, 1, 600, 1, 8, 0, 0, 1);
        for (size_t i = 0; i < 2 * p->n_out; i++) p->qkv[i] *= 100;
        run(p);
        for (size_t i = 0; i < p->n_out; i++) assert_true(isfinite(p->out[i]));
        for (size_t i = 0; i < p->n_in; i++) assert_true(isfinite(p->dqkv[i]));
        problem_end(p);
    }
}

static void the_number_of_threads_does_not_matter(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_begin(&r, 2, 150, 3, 16, 1, 0, 1);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        run(p);
        float *out = test_copy(p->out, p->n_out), *dqkv = test_copy(p->dqkv, p->n_in);
        for (int threads = 2; threads <= 7; threads++) {
            workspace_end(p);
            workspace_begin(p, threads);
            fill(p->out, p->n_out, NAN);
            fill(p->dqkv, p->n_in, NAN);
            run(p);
            assert_same_bits(p->out, out, p->n_out * sizeof *out);
            assert_same_bits(p->dqkv, dqkv, p->n_in * sizeof *dqkv);
        }
        free(out);
        free(dqkv);
        workspace_end(p);
        workspace_begin(p, 1);
    }
    problem_end(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_position_returns_its_value),
        cmocka_unit_test(equal_scores_give_the_mean_of_what_is_seen),
        cmocka_unit_test(the_scale_is_the_one_given),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(the_workspace_does_not_grow_with_the_sequence),
        cmocka_unit_test(sequences_of_any_length_match_double),
        cmocka_unit_test(batches_and_heads_of_a_fused_activation_match_double),
        cmocka_unit_test(gradients_match_central_differences),
        cmocka_unit_test(what_is_not_seen_does_not_matter),
        cmocka_unit_test(a_head_leaves_nothing_behind_for_the_next),
        cmocka_unit_test(huge_scores_stay_finite),
        cmocka_unit_test(the_number_of_threads_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
