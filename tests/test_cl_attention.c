/* test_cl_attention.c - attention on a device: against softmax in double, fused strides, tiles. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

/* One problem: q, k, v in one block as a fused QKV activation (stride 3 channels) or behind each
 * other. */
typedef struct problem {
    mo_cl_attention_desc d;
    mo_cl_attention_tensors t;
    mo_cl_mem on_qkv, on_dqkv;
    size_t n_in, n_out, n_lse, part, stride;
    float *qkv, *dout;
} problem;

static mo_cl_mem third(const problem *p, const mo_cl_mem *mem, size_t i) {
    return mo_cl_part(mem, i * p->part * 4, mem->size - i * p->part * 4);
}
/* What is written starts as 1e30. */
static mo_cl_mem output(test_cl *t, size_t n, size_t offset) {
    mo_cl_mem mem = test_cl_new(t, n * 4, offset);
    test_ok(mo_cl_fill_u32(&t->heap, MO_CL_COMPUTE, &mem, 0, n, test_bits(1e30f), NULL, NULL));
    return mem;
}
static problem problem_begin(
    test_cl *t, size_t batch, size_t seq, size_t heads, size_t head_size, int fused, int full) {
    const size_t channels = heads * head_size;
    problem p = {.d = {.batch = batch,
                     .seq = seq,
                     .heads = heads,
                     .head_size = head_size,
                     .stride = fused ? 3 * channels : 0,
                     .full = full},
        .n_in = batch * seq * channels * 3,
        .n_out = batch * seq * channels,
        .n_lse = batch * heads * seq,
        .part = fused ? channels : batch * seq * channels,
        .stride = fused ? 3 * channels : channels};
    p.qkv = test_normals(&t->rng, p.n_in, 1);
    p.dout = test_normals(&t->rng, p.n_out, 1);
    p.on_qkv = test_cl_put(t, p.qkv, p.n_in * 4, 4);
    p.on_dqkv = output(t, p.n_in, 12);
    p.t.q = third(&p, &p.on_qkv, 0);
    p.t.k = third(&p, &p.on_qkv, 1);
    p.t.v = third(&p, &p.on_qkv, 2);
    p.t.out = output(t, p.n_out, 8);
    p.t.lse = output(t, p.n_lse, 20);
    p.t.dout = test_cl_put(t, p.dout, p.n_out * 4, 28);
    p.t.dq = third(&p, &p.on_dqkv, 0);
    p.t.dk = third(&p, &p.on_dqkv, 1);
    p.t.dv = third(&p, &p.on_dqkv, 2);
    p.d.workspace = output(t, mo_cl_attention_workspace_size(&p.d) / 4, 4);
    return p;
}
static void problem_end(test_cl *t, problem *p) {
    test_cl_clear(t);
    free(p->qkv), free(p->dout);
}
static void run(test_cl *t, const problem *p) {
    test_ok(mo_cl_attention_forward(&t->cl, &p->d, &p->t));
    test_ok(mo_cl_attention_backward(&t->cl, &p->d, &p->t));
}

/* ---- the reference -------------------------------------------------------------------------- */

typedef struct reference {
    double *out, *lse, *dqkv;
} reference;

/* Query i of one head: the whole row of probabilities in double, w and dw [seq]. */
static void row_double(
    const problem *p, size_t b, size_t h, size_t i, const reference *ref, double *w, double *dw) {
    const size_t seq = p->d.seq, n = p->d.head_size, keys = p->d.full ? seq : i + 1;
    const size_t in = b * seq * p->stride + h * n, channels = p->d.heads * n;
    const size_t out = b * seq * channels + h * n + i * channels, at_q = in + i * p->stride;
    const float *q = p->qkv + at_q, *k = p->qkv + p->part + in, *v = p->qkv + 2 * p->part + in;
    double *o = ref->out + out, *dq = ref->dqkv + at_q, *dk = ref->dqkv + p->part + in;
    double *dv = ref->dqkv + 2 * p->part + in, most = -HUGE_VAL, sum = 0, delta = 0;
    const double scale = p->d.scale == 0 ? 1 / sqrt((double)n) : (double)p->d.scale;
    for (size_t j = 0; j < keys; j++) {
        w[j] = dw[j] = 0;
        for (size_t c = 0; c < n; c++) {
            w[j] += scale * (double)q[c] * (double)k[j * p->stride + c];
            dw[j] += (double)p->dout[out + c] * (double)v[j * p->stride + c];
        }
        most = fmax(most, w[j]);
    }
    for (size_t j = 0; j < keys; j++) sum += w[j] = exp(w[j] - most);
    ref->lse[(b * p->d.heads + h) * seq + i] = most + log(sum);
    for (size_t c = 0; c < n; c++) {
        o[c] = 0;
        for (size_t j = 0; j < keys; j++) o[c] += w[j] / sum * (double)v[j * p->stride + c];
        delta += o[c] * (double)p->dout[out + c];
    }
    for (size_t j = 0; j < keys; j++) {
        const double ds = w[j] / sum * (dw[j] - delta) * scale;
        for (size_t c = 0; c < n; c++) {
            dq[c] += ds * (double)k[j * p->stride + c];
            dk[j * p->stride + c] += ds * (double)q[c];
            dv[j * p->stride + c] += w[j] / sum * (double)p->dout[out + c];
        }
    }
}
static reference reference_begin(const problem *p) {
    reference ref = {test_doubles(p->n_out), test_doubles(p->n_lse), test_doubles(p->n_in)};
    double *w = test_doubles(p->d.seq), *dw = test_doubles(p->d.seq);
    for (size_t i = 0; i < p->n_in; i++) ref.dqkv[i] = 0;
    for (size_t b = 0; b < p->d.batch; b++)
        for (size_t h = 0; h < p->d.heads; h++)
            for (size_t i = 0; i < p->d.seq; i++) row_double(p, b, h, i, &ref, w, dw);
    free(w), free(dw);
    return ref;
}
static void assert_near(test_cl *t, mo_cl_mem mem, const double *ref, size_t n, double bar) {
    float *got = test_floats(n);
    test_cl_get(t, mem, got, n * sizeof *got);
    assert_error_below(test_error(got, ref, n), bar);
    free(got);
}
/* As for the CPU: scores of size 5 with an error of some 1e-6 make probabilities with a relative
 * error of that size; gradients are sums of differences of them. */
static void assert_as_in_double(test_cl *t, const problem *p) {
    reference ref = reference_begin(p);
    assert_near(t, p->t.out, ref.out, p->n_out, 3e-6);
    assert_near(t, p->t.lse, ref.lse, p->n_lse, 3e-6);
    assert_near(t, p->on_dqkv, ref.dqkv, p->n_in, 1e-5);
    free(ref.out), free(ref.lse), free(ref.dqkv);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void sequences_of_any_length_match_double(void **state) {
    test_cl *t = test_cl_of(state);
    static const size_t shapes[][2] = {/* seq, head size */
        {1, 5}, {2, 1}, {15, 8}, {16, 32}, {17, 33}, {31, 7}, {33, 64}, {65, 16}, {100, 3},
        {129, 48}, {300, 2}, {70, 61}};
    const size_t n = sizeof shapes / sizeof *shapes / (test_cl_small() ? 2 : 1);
    for (size_t k = 0; k < 2 * n; k++) {
        problem p = problem_begin(t, 1, shapes[k / 2][0], 1, shapes[k / 2][1], 0, (int)(k % 2));
        run(t, &p);
        assert_as_in_double(t, &p);
        problem_end(t, &p);
    }
}

static void heads_of_any_size_match_double(void **state) {
    test_cl *t = test_cl_of(state);
    static const size_t sizes[] = {80, 128, 200, 256};
    /* PoCL compiles half a minute for each size where groups have many items; oclgrind, which runs
     * the small tests, does not */
    const size_t n = test_cl_small() ? 1 : t->cl.work_group > 1 ? 0 : 4;
    for (size_t k = 0; k < n; k++) {
        problem p = problem_begin(t, 1, 40, 1, sizes[k], 1, 0);
        run(t, &p);
        assert_as_in_double(t, &p);
        problem_end(t, &p);
    }
}

static void batches_and_heads_of_a_fused_activation_match_double(void **state) {
    test_cl *t = test_cl_of(state);
    for (int k = 0; k < 4; k++) {
        problem p =
            problem_begin(t, 2, test_cl_small() ? 20 : 70, 3, k & 2 ? 5 : 16, k & 1, k >> 1);
        run(t, &p);
        assert_as_in_double(t, &p);
        problem_end(t, &p);
    }
}

static void scales_of_either_sign_and_large_scores_match_double(void **state) {
    test_cl *t = test_cl_of(state);
    for (int k = 0; k < 2; k++) {
        problem p = problem_begin(t, 1, 50, 1, 8, 0, k);
        p.d.scale = -0.5f;
        run(t, &p);
        assert_as_in_double(t, &p);
        problem_end(t, &p);
    }
    problem p = problem_begin(t, 1, 100, 1, 4, 0, 1);
    float lse[100];
    p.d.scale = 100; /* e^500 and more: the largest wins */
    test_ok(mo_cl_attention_forward(&t->cl, &p.d, &p.t));
    reference ref = reference_begin(&p);
    test_cl_get(t, p.t.lse, lse, sizeof lse);
    assert_error_below(test_error(lse, ref.lse, 100), 1e-6);
    assert_near(
        t, p.t.out, ref.out, p.n_out, 1e-4); /* e^(s - lse) of s = 500 with an ulp of 3e-5 */
    free(ref.out), free(ref.lse), free(ref.dqkv);
    problem_end(t, &p);
}

static void what_lies_between_the_rows_is_left_alone(void **state) {
    test_cl *t = test_cl_of(state);
    problem p = problem_begin(t, 2, 20, 2, 3, 1, 0);
    float *got = test_floats(p.n_in);
    mo_cl_mem aside = output(t, p.n_in, 0);
    p.t.dq = p.t.dk = p.t.dv = aside; /* written one after the other */
    run(t, &p);
    test_cl_get(t, aside, got, p.n_in * 4);
    for (size_t i = 0; i < p.n_in; i++)
        assert_true(i % p.stride < 6 ? fabsf(got[i]) < 100 : got[i] == 1e30f);
    free(got);
    problem_end(t, &p);
}

/* ---- options: against the CPU ---------------------------------------------------------------- */

typedef struct options {
    size_t seq, heads, kv_heads, head_size;
    int full;
    size_t window, block;
    float dropout;
} options;

/* The problem of those options, with q, k and v of a fused activation in rows of p.stride. */
static problem problem_with(test_cl *t, const options *o) {
    const size_t stride = (o->heads + 2 * o->kv_heads) * o->head_size;
    problem p = {.d = {.batch = 2,
                     .seq = o->seq,
                     .heads = o->heads,
                     .head_size = o->head_size,
                     .stride = stride,
                     .full = o->full,
                     .kv_heads = o->kv_heads,
                     .window = o->window,
                     .block = o->block,
                     .dropout = o->dropout,
                     .seed = 0x123456789abcdefu,
                     .offset = 7},
        .n_in = 2 * o->seq * stride,
        .n_out = 2 * o->seq * o->heads * o->head_size,
        .n_lse = 2 * o->seq * o->heads,
        .stride = stride};
    p.qkv = test_normals(&t->rng, p.n_in, 1);
    p.dout = test_normals(&t->rng, p.n_out, 1);
    p.on_qkv = test_cl_put(t, p.qkv, p.n_in * 4, 4);
    p.on_dqkv = output(t, p.n_in, 12);
    p.t.out = output(t, p.n_out, 8);
    p.t.lse = output(t, p.n_lse, 20);
    p.t.dout = test_cl_put(t, p.dout, p.n_out * 4, 28);
    p.d.workspace = output(t, mo_cl_attention_workspace_size(&p.d) / 4, 4);
    const size_t k = o->heads * o->head_size * 4, v = k + o->kv_heads * o->head_size * 4;
    p.t.q = p.on_qkv, p.t.dq = p.on_dqkv;
    p.t.k = mo_cl_part(&p.on_qkv, k, p.n_in * 4 - k),
    p.t.v = mo_cl_part(&p.on_qkv, v, p.n_in * 4 - v);
    p.t.dk = mo_cl_part(&p.on_dqkv, k, p.n_in * 4 - k);
    p.t.dv = mo_cl_part(&p.on_dqkv, v, p.n_in * 4 - v);
    return p;
}

static void assert_near_floats(test_cl *t, mo_cl_mem mem, const float *want, size_t n) {
    double *ref = test_doubles(n);
    for (size_t i = 0; i < n; i++) ref[i] = (double)want[i];
    assert_near(t, mem, ref, n, 1e-5);
    free(ref);
}

/* blocks [n x n] as the CPU takes them, or NULL */
static void assert_as_on_the_cpu(test_cl *t, const problem *p, const uint8_t *blocks) {
    const mo_parallel one = {NULL, NULL, 1};
    mo_attention_desc d = {.batch = p->d.batch,
        .seq = p->d.seq,
        .heads = p->d.heads,
        .head_size = p->d.head_size,
        .stride = p->d.stride,
        .full = p->d.full,
        .parallel = &one,
        .kv_heads = p->d.kv_heads,
        .window = p->d.window,
        .blocks = blocks,
        .block = p->d.block,
        .dropout = p->d.dropout,
        .seed = p->d.seed,
        .offset = p->d.offset};
    const size_t k = d.heads * d.head_size, v = k + d.kv_heads * d.head_size;
    float *dqkv = test_floats(p->n_in), *out = test_floats(p->n_out), *lse = test_floats(p->n_lse);
    d.workspace_size = mo_attention_workspace_size(&d);
    d.workspace = mo_alloc(NULL, d.workspace_size, 64);
    assert_non_null(d.workspace);
    const mo_attention_tensors same = {
        p->qkv, p->qkv + k, p->qkv + v, out, lse, p->dout, dqkv, dqkv + k, dqkv + v};
    test_ok(mo_attention_forward(&d, &same));
    test_ok(mo_attention_backward(&d, &same));
    assert_near_floats(t, p->t.out, out, p->n_out);
    assert_near_floats(t, p->on_dqkv, dqkv, p->n_in);
    float *got = test_floats(p->n_lse);
    test_cl_get(t, p->t.lse, got, p->n_lse * 4);
    for (size_t i = 0; i < p->n_lse; i++) /* both may be -infinity */
        assert_true(got[i] == lse[i] || fabsf(got[i] - lse[i]) < 1e-5f * (1 + fabsf(lse[i])));
    mo_free(NULL, d.workspace, d.workspace_size, 64);
    free(dqkv), free(out), free(lse), free(got);
}

/* PoCL compiles for seconds where there are blocks or dropout or both, so each is compiled on one
 * of the axes alone. */
static void variants_match_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    static const options variants[] = {{40, 1, 1, 5, 0, 10, 0, 0}, {40, 1, 1, 5, 1, 10, 0, 0},
        {100, 1, 1, 3, 0, 33, 0, 0}, {33, 4, 2, 5, 0, 0, 0, 0}, {33, 3, 1, 5, 1, 0, 0, 0},
        {150, 4, 2, 7, 0, 40, 64, 0.25f}, {150, 4, 2, 7, 1, 90, 64, 0.25f},
        {200, 2, 1, 16, 0, 0, 128, 0.5f}, {150, 2, 1, 5, 1, 0, 64, 0},
        {70, 2, 1, 5, 0, 20, 0, 0.25f}};
    uint8_t blocks[9];
    for (size_t k = 0; k < sizeof variants / sizeof *variants; k++) {
        const options *o = &variants[k];
        if (k == (t->cl.work_group > 1 ? 8 : 9)) continue;
        if (test_cl_small() && o->seq > 100) continue;
        const size_t n = o->block ? (o->seq + o->block - 1) / o->block : 0;
        problem p = problem_with(t, o);
        for (size_t i = 0; i < n * n; i++) /* the second sees nothing */
            blocks[i] = (uint8_t)(i / n != 1 && (i % n == 0 || test_below(&t->rng, 2)));
        if (n) p.d.blocks = test_cl_put(t, blocks, n * n, 3);
        run(t, &p);
        assert_as_on_the_cpu(t, &p, n ? blocks : NULL);
        problem_end(t, &p);
    }
}

/* A product with NaN would be NaN, whatever the mask says afterwards. */
static void what_is_hidden_is_not_computed(void **state) {
    test_cl *t = test_cl_of(state);
    static const options o = {200, 1, 1, 4, 0, 10, 0, 0};
    problem p = problem_with(t, &o);
    for (int b = 0; b < 2; b++)
        for (size_t i = 0; i < 60; i++)
            for (size_t c = 4; c < 12; c++) p.qkv[(b * 200 + i) * 12 + c] = NAN;
    test_ok(mo_cl_upload(&t->heap, MO_CL_COMPUTE, &p.on_qkv, 0, p.qkv, p.n_in * 4, NULL, NULL));
    float *out = test_floats(p.n_out);
    test_ok(mo_cl_attention_forward(&t->cl, &p.d, &p.t));
    test_cl_get(t, p.t.out, out, p.n_out * 4);
    for (size_t i = 0; i < p.n_out; i++) assert_true(i / 4 % 200 < 128 || isfinite(out[i]));
    free(out);
    problem_end(t, &p);
}

static void results_have_the_same_bits_every_time(void **state) {
    test_cl *t = test_cl_of(state);
    problem p = problem_begin(t, 1, 65, 2, 17, 1, 0);
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
    problem p = problem_begin(t, 1, 4, 2, 3, 0, 0);
    mo_cl_attention_desc bad[15];
    for (int i = 0; i < 15; i++) bad[i] = p.d;
    bad[0].batch = bad[1].seq = bad[2].heads = bad[3].head_size = 0;
    bad[4].stride = 5;
    bad[5].seq = 5;
    bad[6].heads = SIZE_MAX / 2;
    bad[7].batch = SIZE_MAX / 4;
    bad[8].head_size = 257;
    bad[9].kv_heads = 3;
    bad[10].kv_stride = 2;
    bad[11].block = 65;
    bad[12].dropout = 1;
    bad[13].dropout = NAN;
    bad[14].blocks = mo_cl_part(&p.on_qkv, 0, 0); /* one byte is needed */
    for (int i = 0; i < 15; i++) {
        const mo_status status = i < 6 || i > 8 ? MO_E_INVALID
            : i < 8                             ? MO_E_OVERFLOW
                                                : MO_E_UNSUPPORTED;
        assert_int_equal(mo_cl_attention_forward(&t->cl, &bad[i], &p.t), status);
        assert_int_equal(mo_cl_attention_backward(&t->cl, &bad[i], &p.t), status);
    }
    assert_int_equal(mo_cl_attention_forward(NULL, &p.d, &p.t), MO_E_INVALID);
    assert_int_equal(mo_cl_attention_forward(&t->cl, NULL, &p.t), MO_E_INVALID);
    assert_int_equal(mo_cl_attention_forward(&t->cl, &p.d, NULL), MO_E_INVALID);
    const mo_cl_mem none = {0};
    mo_cl_attention_tensors tensors[9];
    for (int i = 0; i < 9; i++) tensors[i] = p.t;
    tensors[0].q = tensors[1].k = tensors[2].v = tensors[3].out = tensors[4].lse = none;
    tensors[5].dout = tensors[6].dq = tensors[7].dk = tensors[8].dv = none;
    for (int i = 0; i < 9; i++) {
        assert_int_equal(mo_cl_attention_backward(&t->cl, &p.d, &tensors[i]), MO_E_INVALID);
        assert_int_equal(
            mo_cl_attention_forward(&t->cl, &p.d, &tensors[i]), i < 5 ? MO_E_INVALID : MO_OK);
    }
    p.d.workspace = none;
    test_ok(mo_cl_attention_forward(&t->cl, &p.d, &p.t));
    assert_int_equal(mo_cl_attention_backward(&t->cl, &p.d, &p.t), MO_E_NO_SPACE);
    assert_int_equal(mo_cl_attention_workspace_size(NULL), 0);
    assert_int_equal(mo_cl_attention_workspace_size(&bad[6]), 0);
    problem_end(t, &p);
}

/* Projection and attention there and back; numbers are small integers where sums are compared, so
 * that these are exact. */
static void qkv_matches_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    enum { rows = 20, channels = 6, width = 20, n = rows * width };
    float x[rows * channels], w[width * channels], bias[width], qkv[n], dqkv[n], got[n];
    float dx[rows * channels], dw[width * channels] = {0}, dbias[width] = {0};
    for (int i = 0; i < rows * channels; i++) x[i] = (float)test_below(&t->rng, 9) - 4;
    for (int i = 0; i < width * channels; i++) w[i] = (float)test_below(&t->rng, 9) - 4;
    for (int i = 0; i < n; i++) dqkv[i] = (float)test_below(&t->rng, 9) - 4;
    for (int i = 0; i < width; i++) bias[i] = (float)i;
    mo_gemm_env env = {.workspace_size = mo_gemm_workspace_size(NULL, NULL)};
    env.workspace = mo_alloc(NULL, env.workspace_size, 64);
    const mo_cl_gemm_env on = {.cl = &t->cl, .use = MO_CL_GEMM_OWN};
    for (int transposed = 0; transposed < 2; transposed++) {
        const mo_qkv_desc d = {rows, channels, 2, 1, 5, transposed, &env};
        const mo_qkv_tensors cpu = {x, w, bias, qkv, dqkv, dx, dw, dbias};
        const mo_cl_qkv_desc on_d = {rows, channels, 2, 1, 5, transposed, &on, {0}};
        const mo_cl_qkv_tensors device = {test_cl_put(t, x, sizeof x, 4),
            test_cl_put(t, w, sizeof w, 8), test_cl_put(t, bias, sizeof bias, 0), output(t, n, 4),
            test_cl_put(t, dqkv, sizeof dqkv, 4), output(t, rows * channels, 0),
            test_cl_put(t, dw, sizeof dw, 0), test_cl_put(t, dbias, sizeof dbias, 4)};
        test_ok(mo_qkv_forward(&d, &cpu));
        test_ok(mo_qkv_backward(&d, &cpu));
        test_ok(mo_cl_qkv_forward(&on_d, &device));
        test_ok(mo_cl_qkv_backward(&on_d, &device));
        test_cl_get(t, device.qkv, got, sizeof qkv);
        assert_same_bits(got, qkv, sizeof qkv);
        test_cl_get(t, device.dx, got, sizeof dx);
        assert_same_bits(got, dx, sizeof dx);
        test_cl_get(t, device.dweight, got, sizeof dw);
        assert_same_bits(got, dw, sizeof dw);
        test_cl_get(t, device.dbias, got, sizeof dbias);
        assert_same_bits(got, dbias, sizeof dbias);
        mo_cl_attention_desc shape = {.batch = 1, .seq = rows};
        mo_cl_attention_tensors parts = {.out = output(t, rows * 10, 0), .lse = output(t, 40, 0)};
        test_ok(mo_cl_qkv_attention(&on_d, &device, &shape, &parts));
        assert_true(shape.stride == width && shape.kv_stride == width && shape.kv_heads == 1);
        assert_true(parts.k.off - parts.q.off == 40 && parts.dv.off - parts.dq.off == 60);
        test_ok(mo_cl_attention_forward(&t->cl, &shape, &parts));
        mo_cl_qkv_desc bad = on_d;
        bad.kv_heads = 3;
        assert_int_equal(mo_cl_qkv_forward(&bad, &device), MO_E_INVALID);
        assert_int_equal(mo_cl_qkv_backward(NULL, &device), MO_E_INVALID);
        bad.kv_heads = 1, bad.rows = SIZE_MAX / 4;
        assert_int_equal(mo_cl_qkv_backward(&bad, &device), MO_E_OVERFLOW);
        test_cl_clear(t);
    }
    mo_free(NULL, env.workspace, env.workspace_size, 64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_of_any_length_match_double),
        cmocka_unit_test(heads_of_any_size_match_double),
        cmocka_unit_test(batches_and_heads_of_a_fused_activation_match_double),
        cmocka_unit_test(scales_of_either_sign_and_large_scores_match_double),
        cmocka_unit_test(what_lies_between_the_rows_is_left_alone),
        cmocka_unit_test(variants_match_the_cpu),
        cmocka_unit_test(what_is_hidden_is_not_computed),
        cmocka_unit_test(qkv_matches_the_cpu),
        cmocka_unit_test(results_have_the_same_bits_every_time),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
