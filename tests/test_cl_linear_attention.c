/* test_cl_linear_attention.c - linear attention on a device: against the CPU. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

/* One problem: q, k, v as a fused QKV activation, in rows of 3 channels and one number more. */
typedef struct problem {
    mo_cl_linear_attention_desc d;
    mo_cl_linear_attention_tensors t;
    mo_cl_mem on_qkv, on_dqkv;
    size_t n_in, n_out, n_norm, channels;
    float *qkv, *dout;
} problem;

static mo_cl_mem part(const mo_cl_mem *mem, size_t off) {
    return mo_cl_part(mem, off * 4, mem->size - off * 4);
}
static problem problem_begin(
    test_cl *t, size_t batch, size_t seq, size_t heads, size_t head_size, int full) {
    const size_t channels = heads * head_size, stride = 3 * channels + 1;
    problem p = {.d = {.batch = batch,
                     .seq = seq,
                     .heads = heads,
                     .head_size = head_size,
                     .stride = stride,
                     .full = full},
        .n_in = batch * seq * stride,
        .n_out = batch * seq * channels,
        .n_norm = batch * heads * seq,
        .channels = channels};
    p.qkv = test_normals(&t->rng, p.n_in, 1);
    p.dout = test_normals(&t->rng, p.n_out, 1);
    p.on_qkv = test_cl_put(t, p.qkv, p.n_in * 4, 4);
    p.on_dqkv = test_cl_put(t, p.qkv, p.n_in * 4, 12);
    p.t.q = p.on_qkv;
    p.t.k = part(&p.on_qkv, channels);
    p.t.v = part(&p.on_qkv, 2 * channels);
    p.t.out = test_cl_new(t, p.n_out * 4, 8);
    p.t.norm = test_cl_new(t, p.n_norm * 4, 20);
    p.t.dout = test_cl_put(t, p.dout, p.n_out * 4, 28);
    p.t.dq = p.on_dqkv;
    p.t.dk = part(&p.on_dqkv, channels);
    p.t.dv = part(&p.on_dqkv, 2 * channels);
    p.d.workspace = test_cl_new(t, mo_cl_linear_attention_workspace_size(&p.d), 4);
    return p;
}
static void problem_end(test_cl *t, problem *p) {
    test_cl_clear(t);
    free(p->qkv), free(p->dout);
}
static void run(test_cl *t, const problem *p) {
    test_ok(mo_cl_linear_attention_forward(&t->cl, &p->d, &p->t));
    test_ok(mo_cl_linear_attention_backward(&t->cl, &p->d, &p->t));
}

static void assert_near(test_cl *t, mo_cl_mem mem, const float *want, size_t n) {
    float *got = test_floats(n);
    double *ref = test_doubles(n);
    test_cl_get(t, mem, got, n * 4);
    for (size_t i = 0; i < n; i++) ref[i] = (double)want[i];
    assert_error_below(test_error(got, ref, n), 1e-5);
    free(got), free(ref);
}
/* Sums of the same terms in another order. What lies between the rows keeps what it was. */
static void assert_as_on_the_cpu(test_cl *t, const problem *p) {
    const mo_parallel one = {NULL, NULL, 1};
    const size_t k = p->channels, v = 2 * p->channels;
    mo_linear_attention_desc d = {.batch = p->d.batch,
        .seq = p->d.seq,
        .heads = p->d.heads,
        .head_size = p->d.head_size,
        .stride = p->d.stride,
        .full = p->d.full,
        .parallel = &one};
    float *dqkv = test_copy(p->qkv, p->n_in), *out = test_floats(p->n_out);
    float *norm = test_floats(p->n_norm);
    d.workspace_size = mo_linear_attention_workspace_size(&d);
    d.workspace = mo_alloc(NULL, d.workspace_size, 64);
    assert_non_null(d.workspace);
    const mo_linear_attention_tensors same = {
        p->qkv, p->qkv + k, p->qkv + v, out, norm, p->dout, dqkv, dqkv + k, dqkv + v};
    test_ok(mo_linear_attention_forward(&d, &same));
    test_ok(mo_linear_attention_backward(&d, &same));
    assert_near(t, p->t.out, out, p->n_out);
    assert_near(t, p->t.norm, norm, p->n_norm);
    assert_near(t, p->on_dqkv, dqkv, p->n_in);
    mo_free(NULL, d.workspace, d.workspace_size, 64);
    free(dqkv), free(out), free(norm);
}

/* Few head sizes, since PoCL compiles four programs for each. */
static void any_shape_matches_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t large = t->cl.work_group == 1 ? 130 : 64; /* whose columns take two groups */
    const size_t shapes[][4] = {                           /* batch, seq, heads, head size */
        {1, 1, 1, 5}, {2, 33, 3, 5}, {1, 130, 1, 15}, {1, 17, 2, large}};
    const size_t n = test_cl_small() ? 2 : 4;
    for (size_t i = 0; i < 2 * n; i++) {
        const size_t *s = shapes[i / 2];
        problem p = problem_begin(t, s[0], s[1], s[2], s[3], i % 2);
        run(t, &p);
        assert_as_on_the_cpu(t, &p);
        problem_end(t, &p);
    }
}

static void results_have_the_same_bits_every_time(void **state) {
    test_cl *t = test_cl_of(state);
    problem p = problem_begin(t, 1, 65, 2, 5, 0);
    float *first = test_floats(p.n_in), *again = test_floats(p.n_in);
    run(t, &p);
    test_cl_get(t, p.on_dqkv, first, p.n_in * 4);
    run(t, &p);
    test_cl_get(t, p.on_dqkv, again, p.n_in * 4);
    assert_same_bits(first, again, p.n_in * 4);
    free(first), free(again);
    problem_end(t, &p);
}

static void wrong_arguments_are_refused(void **state) {
    test_cl *t = test_cl_of(state);
    problem p = problem_begin(t, 1, 4, 2, 3, 0);
    mo_cl_linear_attention_desc bad[11];
    for (int i = 0; i < 11; i++) bad[i] = p.d;
    bad[0].batch = bad[1].seq = bad[2].heads = bad[3].head_size = 0;
    bad[4].stride = 5;
    bad[5].epsilon = -1;
    bad[6].epsilon = NAN;
    bad[7].seq = 5;
    bad[8].heads = SIZE_MAX / 2;
    bad[9].batch = SIZE_MAX / 4;
    bad[10].head_size = 257, bad[10].stride = 0;
    for (int i = 0; i < 11; i++) {
        const mo_status status = i < 8 ? MO_E_INVALID : i < 10 ? MO_E_OVERFLOW : MO_E_UNSUPPORTED;
        assert_int_equal(mo_cl_linear_attention_forward(&t->cl, &bad[i], &p.t), status);
        assert_int_equal(mo_cl_linear_attention_backward(&t->cl, &bad[i], &p.t), status);
    }
    assert_int_equal(mo_cl_linear_attention_forward(NULL, &p.d, &p.t), MO_E_INVALID);
    assert_int_equal(mo_cl_linear_attention_forward(&t->cl, NULL, &p.t), MO_E_INVALID);
    assert_int_equal(mo_cl_linear_attention_forward(&t->cl, &p.d, NULL), MO_E_INVALID);
    const mo_cl_mem none = {0};
    mo_cl_linear_attention_tensors tensors[9];
    for (int i = 0; i < 9; i++) tensors[i] = p.t;
    tensors[0].q = tensors[1].k = tensors[2].v = tensors[3].out = tensors[4].norm = none;
    tensors[5].dout = tensors[6].dq = tensors[7].dk = tensors[8].dv = none;
    for (int i = 0; i < 9; i++) {
        assert_int_equal(mo_cl_linear_attention_backward(&t->cl, &p.d, &tensors[i]), MO_E_INVALID);
        assert_int_equal(mo_cl_linear_attention_forward(&t->cl, &p.d, &tensors[i]),
            i < 5 ? MO_E_INVALID : MO_OK);
    }
    p.d.workspace = none;
    test_ok(mo_cl_linear_attention_forward(&t->cl, &p.d, &p.t));
    assert_int_equal(mo_cl_linear_attention_backward(&t->cl, &p.d, &p.t), MO_E_NO_SPACE);
    assert_int_equal(mo_cl_linear_attention_workspace_size(NULL), 0);
    assert_int_equal(mo_cl_linear_attention_workspace_size(&bad[8]), 0);
    problem_end(t, &p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_shape_matches_the_cpu),
        cmocka_unit_test(results_have_the_same_bits_every_time),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
