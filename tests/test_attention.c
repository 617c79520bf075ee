/* test_attention.c - mo_attention: against softmax in double, fused strides, tiles, threads. */
#include "test_numeric.h"

/* One problem: q, k, v in one array as a fused QKV activation (stride 3 channels) or in three. */
typedef struct problem {
    mo_attention_desc d;
    mo_attention_tensors t;
    size_t n_in, n_out, n_lse, stride, kv_stride;
    uint8_t *blocks;
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

/* A problem of that shape, with its options; blocks are chosen by the caller. */
static problem *problem_of(test_rng *r, const mo_attention_desc *shape, int fused, int threads) {
    problem *p = (problem *)test_array(1, sizeof *p);
    memset(p, 0, sizeof *p);
    p->d = *shape;
    const size_t kv_heads = shape->kv_heads ? shape->kv_heads : shape->heads;
    const size_t rows = shape->batch * shape->seq, channels = shape->heads * shape->head_size;
    const size_t kv_channels = kv_heads * shape->head_size;
    p->stride = fused ? channels + 2 * kv_channels : channels;
    p->kv_stride = fused ? p->stride : kv_channels;
    p->d.stride = fused ? p->stride : 0;
    p->n_in = rows * (channels + 2 * kv_channels);
    p->n_out = rows * channels;
    p->n_lse = rows * shape->heads;
    p->qkv = test_normals(r, p->n_in, 1);
    p->dqkv = test_floats(p->n_in);
    p->out = test_floats(p->n_out);
    p->lse = test_floats(p->n_lse);
    p->dout = test_normals(r, p->n_out, 1);
    fill(p->dqkv, p->n_in, NAN);
    fill(p->out, p->n_out, NAN);
    fill(p->lse, p->n_lse, NAN);
    const size_t k_at = fused ? channels : p->n_out;
    const size_t v_at = k_at + (fused ? kv_channels : rows * kv_channels);
    p->t.q = p->qkv;
    p->t.k = p->qkv + k_at;
    p->t.v = p->qkv + v_at;
    p->t.out = p->out;
    p->t.lse = p->lse;
    p->t.dout = p->dout;
    p->t.dq = p->dqkv;
    p->t.dk = p->dqkv + k_at;
    p->t.dv = p->dqkv + v_at;
    workspace_begin(p, threads);
    return p;
}
static problem *problem_begin(test_rng *r, size_t batch, size_t seq, size_t heads, size_t head_size,
    int fused, int full, int threads) {
    mo_attention_desc shape;
    memset(&shape, 0, sizeof shape);
    shape.batch = batch;
    shape.seq = seq;
    shape.heads = heads;
    shape.head_size = head_size;
    shape.full = full;
    return problem_of(r, &shape, fused, threads);
}
static void problem_end(problem *p) {
    workspace_end(p);
    free(p->blocks);
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

static int sees(const mo_attention_desc *d, size_t i, size_t j) {
    const size_t block = d->block ? d->block : 64, n = (d->seq + block - 1) / block;
    if (d->window && (j + d->window <= i || i + d->window <= j)) return 0;
    if (d->blocks && !d->blocks[i / block * n + j / block]) return 0;
    return d->full || j <= i;
}

static uint32_t mix(uint32_t h) {
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    return h ^ h >> 16;
}
/* what a probability is multiplied with; row: of all queries of all heads */
static double kept(const mo_attention_desc *d, uint64_t row, size_t j) {
    if (d->dropout == 0) return 1;
    const uint32_t high = (uint32_t)(d->offset + row), seed = (uint32_t)d->seed;
    const uint32_t key = mix(seed + mix((uint32_t)(d->seed >> 32) + mix(high)));
    const double part = mix((uint32_t)j ^ key) / 4294967296.0;
    return part < (double)d->dropout ? 0 : 1 / (1 - (double)d->dropout);
}

/* One head of one sequence: the whole row of probabilities in double. */
static void head_double(const problem *p, size_t b, size_t h, const reference *ref) {
    const mo_attention_desc *d = &p->d;
    const size_t seq = d->seq, size = d->head_size, in = b * seq * p->stride + h * size;
    const size_t channels = d->heads * size, out = b * seq * channels + h * size;
    const size_t group = d->kv_heads ? d->heads / d->kv_heads : 1;
    const size_t kv = b * seq * p->kv_stride + h / group * size;
    const double scale = d->scale == 0 ? 1 / sqrt((double)size) : (double)d->scale;
    const size_t k_at = (size_t)(p->t.k - p->qkv), v_at = (size_t)(p->t.v - p->qkv);
    double *w = test_doubles(seq), *dw = test_doubles(seq), *keep = test_doubles(seq);
    for (size_t i = 0; i < seq; i++) {
        const uint64_t row = (b * d->heads + h) * seq + i;
        const float *q = p->t.q + in + i * p->stride, *dout = p->dout + out + i * channels;
        double *o = ref->out + out + i * channels, most = -HUGE_VAL, sum = 0, delta = 0;
        for (size_t j = 0; j < seq; j++) {
            w[j] = 0;
            keep[j] = -1; /* not seen */
            if (!sees(d, i, j)) continue;
            keep[j] = kept(d, row, j);
            for (size_t c = 0; c < size; c++)
                w[j] += scale * (double)q[c] * (double)p->t.k[kv + j * p->kv_stride + c];
            most = fmax(most, w[j]);
        }
        for (size_t j = 0; j < seq; j++)
            if (keep[j] >= 0) sum += w[j] = exp(w[j] - most);
        ref->lse[row] = most + log(sum);
        for (size_t c = 0; c < size; c++) o[c] = 0;
        for (size_t j = 0; j < seq; j++) {
            if (keep[j] < 0) continue;
            const float *v = p->t.v + kv + j * p->kv_stride;
            w[j] /= sum;
            dw[j] = 0;
            for (size_t c = 0; c < size; c++) {
                o[c] += keep[j] * w[j] * (double)v[c];
                dw[j] += keep[j] * (double)dout[c] * (double)v[c];
            }
        }
        for (size_t c = 0; c < size; c++) delta += o[c] * (double)dout[c];
        for (size_t j = 0; j < seq; j++) {
            if (keep[j] < 0) continue;
            const double ds = w[j] * (dw[j] - delta) * scale;
            const size_t at = kv + j * p->kv_stride;
            double *dq = ref->dqkv + in + i * p->stride;
            for (size_t c = 0; c < size; c++) {
                dq[c] += ds * (double)p->t.k[at + c];
                ref->dqkv[k_at + at + c] += ds * (double)q[c];
                ref->dqkv[v_at + at + c] += keep[j] * w[j] * (double)dout[c];
            }
        }
    }
    free(w);
    free(dw);
    free(keep);
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
    float *lse = test_floats(p->n_lse);
    double *want = test_doubles(p->n_lse);
    size_t n = 0;
    for (size_t i = 0; i < p->n_lse; i++) {
        if (ref->lse[i] < -1e30) assert_true(p->lse[i] == -HUGE_VALF); /* sees nothing */
        else lse[n] = p->lse[i], want[n++] = ref->lse[i];
    }
    assert_error_below(test_error(lse, want, n), 1e-5);
    free(lse);
    free(want);
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
    mo_attention_desc bad[12];
    for (int i = 0; i < 12; i++) bad[i] = p->d;
    bad[0].batch = 0;
    bad[1].seq = 0;
    bad[2].heads = 0;
    bad[3].head_size = 0;
    bad[4].stride = 5;
    bad[5].kv_heads = 4;
    bad[6].heads = 3, bad[6].kv_heads = 2;
    bad[7].kv_stride = 5;
    bad[8].block = 65;
    bad[9].dropout = 1;
    bad[10].dropout = -0.1f;
    bad[11].dropout = NAN;
    for (int i = 0; i < 12; i++)
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
    d.batch = 1;
    d.kv_stride = SIZE_MAX / 2;
    assert_int_equal(mo_attention_forward(&d, &p->t), MO_E_OVERFLOW);
    d = p->d;
    d.head_size = SIZE_MAX / 8;
    assert_int_equal(mo_attention_workspace_size(&d), 0);
    assert_int_equal(mo_attention_workspace_size(NULL), 0);
    problem_end(p);
}

static void the_workspace_does_not_grow_with_the_sequence(void **state) {
    (void)state;
    const mo_parallel one = test_threads(1);
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
    /* 8192 positions, 64 per head, for each thread: far below the 256 MiB of their scores */
    d.seq = 8192;
    d.parallel = &one;
    assert_true(mo_attention_workspace_size(&d) < d.seq * d.head_size * sizeof(float));
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

/* seq, heads, kv_heads, head_size, full, window, block (0 = no blocks), dropout in percent */
typedef struct options {
    size_t seq, heads, kv_heads, head_size;
    int full;
    size_t window, block;
    unsigned dropout;
} options;

/* Blocks see each other by chance, the last one sees nothing, the first one is seen by all. */
static void choose_blocks(problem *p, test_rng *r, size_t block) {
    const size_t n = (p->d.seq + block - 1) / block;
    p->blocks = (uint8_t *)test_array(n * n, 1);
    for (size_t i = 0; i < n * n; i++)
        p->blocks[i] = (uint8_t)(i / n + 1 == n && n > 1 ? 0 : i % n == 0 || test_below(r, 2));
    p->d.blocks = p->blocks;
    p->d.block = block == 64 ? 0 : block;
}
static problem *problem_with(test_rng *r, const options *o, int fused, int threads) {
    mo_attention_desc shape;
    memset(&shape, 0, sizeof shape);
    shape.batch = o->seq < 500 ? 2 : 1;
    shape.seq = o->seq;
    shape.heads = o->heads;
    shape.kv_heads = o->kv_heads;
    shape.head_size = o->head_size;
    shape.full = o->full;
    shape.window = o->window;
    shape.dropout = (float)o->dropout / 100;
    shape.seed = 0x123456789abcdefu;
    shape.offset = o->dropout;
    problem *p = problem_of(r, &shape, fused, threads);
    if (o->block) choose_blocks(p, r, o->block);
    return p;
}

static const options variants[] = {{130, 1, 0, 5, 0, 10, 0, 0}, /* a window */
    {130, 1, 0, 5, 1, 10, 0, 0},                                /* on both sides */
    {50, 1, 0, 3, 0, 64, 0, 0},                                 /* longer than the sequence */
    {70, 1, 0, 2, 0, 1, 0, 0},                                  /* itself alone */
    {620, 1, 0, 2, 0, 540, 0, 0},                               /* more than one tile of keys */
    {70, 4, 2, 5, 0, 0, 0, 0}, {70, 4, 2, 5, 1, 0, 0, 0},       /* shared heads */
    {33, 3, 1, 8, 0, 0, 0, 0},                                  /* one head of k and v */
    {200, 1, 0, 5, 1, 0, 64, 0},                                /* blocks */
    {700, 1, 0, 2, 1, 0, 128, 0},                               /* more than one tile of keys */
    {200, 2, 0, 5, 0, 0, 128, 0},                               /* with an order */
    {60, 1, 0, 5, 1, 0, 256, 0},                                /* one block */
    {65, 2, 0, 5, 0, 0, 0, 30},                                 /* dropout */
    {90, 1, 0, 3, 1, 0, 0, 90},                                 /* of most */
    {150, 2, 1, 16, 0, 40, 0, 0},                               /* pairs */
    {150, 2, 1, 7, 1, 0, 64, 0}, {150, 2, 0, 7, 1, 100, 64, 0}, {150, 4, 2, 7, 0, 0, 0, 20},
    {150, 1, 0, 7, 0, 70, 0, 20}, {150, 1, 0, 7, 1, 0, 64, 20},
    {211, 6, 2, 7, 0, 90, 64, 25}, /* all of them */
    {211, 6, 2, 7, 1, 90, 64, 25}};

static void variants_match_double(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < n_elements(variants); k++) {
        problem *p = problem_with(&r, &variants[k], k & 1, 2);
        reference ref = reference_begin(p);
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            fill(p->dqkv, p->n_in, NAN);
            fill(p->out, p->n_out, NAN);
            run(p);
            assert_near(p, &ref);
        }
        reference_end(&ref);
        problem_end(p);
    }
}

static void gradients_of_all_options_match_central_differences(void **state) {
    (void)state;
    static const options all = {67, 2, 1, 2, 0, 9, 64, 25};
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_with(&r, &all, 1, 1);
    p->blocks[2] = p->blocks[3] = 1; /* the last block sees both */
    double *want = test_doubles(p->n_in);
    float *got = test_floats(p->n_in);
    size_t n = 0;
    run(p);
    for (size_t i = 0; i < p->n_in; i += 13, n++) {
        const float at = p->qkv[i], high = at + 1e-4f, low = at - 1e-4f;
        p->qkv[i] = high;
        const double above = loss_double(p);
        p->qkv[i] = low;
        want[n] = (above - loss_double(p)) / ((double)high - (double)low);
        got[n] = p->dqkv[i];
        p->qkv[i] = at;
    }
    assert_error_below(test_error(got, want, n), 1e-5);
    free(want);
    free(got);
    problem_end(p);
}

/* A product with NaN would be NaN, whatever the mask says afterwards. */
static void what_is_hidden_is_not_computed(void **state) {
    (void)state;
    static const options window = {300, 1, 0, 4, 0, 10, 0, 0}, blocks = {300, 1, 0, 4, 1, 0, 64, 0};
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_with(&r, &window, 0, 1);
    for (int b = 0; b < 2; b++)
        for (size_t i = 0; i < 100 * 4; i++)
            p->qkv[p->n_out + b * 1200 + i] = p->qkv[2 * p->n_out + b * 1200 + i] = NAN;
    test_ok(mo_attention_forward(&p->d, &p->t));
    for (size_t i = 128 * 4; i < 300 * 4; i++) assert_true(isfinite(p->out[i]));
    problem_end(p);
    p = problem_with(&r, &blocks, 0, 1);
    for (size_t i = 0; i < 5; i++) p->blocks[5 * i + 1] = 0;
    for (int b = 0; b < 2; b++)
        for (size_t i = 64 * 4; i < 128 * 4; i++)
            p->qkv[p->n_out + b * 1200 + i] = p->qkv[2 * p->n_out + b * 1200 + i] = NAN;
    run(p);
    for (size_t i = 0; i < p->n_out; i++) assert_true(isfinite(p->out[i]));
    for (size_t i = 0; i < p->n_in; i++) assert_true(isfinite(p->dqkv[i]));
    problem_end(p);
}

static void part_of_a_batch_drops_what_the_whole_drops(void **state) {
    (void)state;
    static const options o = {80, 2, 1, 4, 0, 0, 0, 50};
    test_rng r = test_rng_begin(__func__);
    problem *p = problem_with(&r, &o, 1, 1);
    test_ok(mo_attention_forward(&p->d, &p->t));
    float *whole = test_copy(p->out, p->n_out);
    p->d.batch = 1;
    p->d.offset += 2 * 80;
    p->t.q += 80 * p->stride;
    p->t.k += 80 * p->stride;
    p->t.v += 80 * p->stride;
    test_ok(mo_attention_forward(&p->d, &p->t));
    assert_same_bits(p->out, whole + p->n_out / 2, p->n_out / 2 * sizeof *whole);
    p->d.seed++; /* another seed drops others */
    test_ok(mo_attention_forward(&p->d, &p->t));
    assert_true(memcmp(p->out, whole + p->n_out / 2, p->n_out / 2 * sizeof *whole) != 0);
    free(whole);
    problem_end(p);
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
    static const options o = {150, 4, 2, 16, 0, 70, 64, 25};
    problem *p = problem_with(&r, &o, 1, 1);
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

/* ---- qkv ------------------------------------------------------------------------------------- */

/* Small numbers are exact in float, so that sums of products are too. */
static float *integers(test_rng *r, size_t n) {
    float *x = test_floats(n);
    for (size_t i = 0; i < n; i++) x[i] = (float)test_below(r, 9) - 4;
    return x;
}

static void qkv_is_three_projections_and_their_gradients(void **state) {
    (void)state;
    enum { rows = 7, channels = 5, width = (4 + 2 * 2) * 3 };
    test_rng r = test_rng_begin(__func__);
    mo_gemm_env env;
    memset(&env, 0, sizeof env);
    env.workspace_size = mo_gemm_workspace_size(NULL, NULL);
    env.workspace = mo_alloc(NULL, env.workspace_size, 64);
    float *x = integers(&r, rows * channels), *w = integers(&r, width * channels);
    float *bias = integers(&r, width), *qkv = test_floats(rows * width);
    float *dqkv = integers(&r, rows * width), *dx = test_floats(rows * channels);
    float *dw = integers(&r, width * channels), *dbias = integers(&r, width);
    float *dw0 = test_copy(dw, width * channels), *dbias0 = test_copy(dbias, width);
    for (int k = 0; k < 4; k++) {
        const int transposed = k & 1, biased = k >> 1;
        const size_t out = transposed ? 1 : channels, in = transposed ? width : 1;
        const mo_qkv_desc d = {rows, channels, 4, 2, 3, transposed, &env};
        const mo_qkv_tensors t = {
            x, w, biased ? bias : NULL, qkv, dqkv, dx, dw, biased ? dbias : NULL};
        memcpy(dw, dw0, width * channels * sizeof *dw);
        memcpy(dbias, dbias0, width * sizeof *dbias);
        assert_int_equal(mo_qkv_width(&d), width);
        test_ok(mo_qkv_forward(&d, &t));
        test_ok(mo_qkv_backward(&d, &t));
        for (size_t i = 0; i < rows * width; i++) {
            float sum = biased ? bias[i % width] : 0;
            for (size_t c = 0; c < channels; c++)
                sum += x[i / width * channels + c] * w[i % width * out + c * in];
            assert_true(qkv[i] == sum);
        }
        for (size_t i = 0; i < rows * channels; i++) {
            float sum = 0;
            for (size_t o = 0; o < width; o++)
                sum += dqkv[i / channels * width + o] * w[o * out + i % channels * in];
            assert_true(dx[i] == sum);
        }
        for (size_t i = 0; i < width * channels; i++) {
            const size_t o = i / channels, c = i % channels;
            float sum = dw0[o * out + c * in];
            for (size_t b = 0; b < rows; b++) sum += dqkv[b * width + o] * x[b * channels + c];
            assert_true(dw[o * out + c * in] == sum);
        }
        for (size_t o = 0; o < width; o++) {
            float sum = dbias0[o];
            for (size_t b = 0; b < rows && biased; b++) sum += dqkv[b * width + o];
            assert_true(dbias[o] == sum);
        }
    }
    mo_free(NULL, env.workspace, env.workspace_size, 64);
    free(x), free(w), free(bias), free(qkv), free(dqkv), free(dx), free(dw), free(dbias);
    free(dw0), free(dbias0);
}

static void qkv_tells_attention_where_its_parts_are(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    static const options o = {20, 4, 2, 3, 0, 0, 0, 0};
    problem *p = problem_with(&r, &o, 1, 1);
    mo_qkv_desc d;
    mo_qkv_tensors t;
    memset(&d, 0, sizeof d);
    memset(&t, 0, sizeof t);
    d.rows = 40;
    d.channels = 1;
    d.heads = 4;
    d.kv_heads = 2;
    d.head_size = 3;
    t.qkv = p->qkv;
    t.dqkv = p->dqkv;
    mo_attention_tensors same = p->t;
    mo_attention_desc shape = p->d;
    same.q = same.k = same.v = NULL;
    same.dq = same.dk = same.dv = NULL;
    shape.heads = shape.kv_heads = shape.head_size = shape.stride = 0;
    test_ok(mo_qkv_attention(&d, &t, &shape, &same));
    assert_true(same.q == p->t.q && same.k == p->t.k && same.v == p->t.v);
    assert_true(same.dq == p->t.dq && same.dk == p->t.dk && same.dv == p->t.dv);
    assert_true(shape.stride == 24 && shape.heads == 4 && shape.kv_heads == 2);
    test_ok(mo_attention_forward(&shape, &same));
    d.kv_heads = 3;
    assert_int_equal(mo_qkv_attention(&d, &t, &shape, &same), MO_E_INVALID);
    assert_int_equal(mo_qkv_forward(&d, &t), MO_E_INVALID);
    assert_int_equal(mo_qkv_width(&d), 0);
    d.kv_heads = 2;
    assert_int_equal(mo_qkv_forward(&d, &t), MO_E_INVALID); /* no env, x, weight */
    assert_int_equal(mo_qkv_backward(&d, &t), MO_E_INVALID);
    d.rows = SIZE_MAX / 4;
    assert_int_equal(mo_qkv_backward(&d, &t), MO_E_OVERFLOW);
    assert_int_equal(mo_qkv_forward(NULL, &t), MO_E_INVALID);
    assert_int_equal(mo_qkv_width(NULL), 0);
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
        cmocka_unit_test(variants_match_double),
        cmocka_unit_test(gradients_of_all_options_match_central_differences),
        cmocka_unit_test(what_is_hidden_is_not_computed),
        cmocka_unit_test(part_of_a_batch_drops_what_the_whole_drops),
        cmocka_unit_test(qkv_is_three_projections_and_their_gradients),
        cmocka_unit_test(qkv_tells_attention_where_its_parts_are),
        cmocka_unit_test(what_is_not_seen_does_not_matter),
        cmocka_unit_test(a_head_leaves_nothing_behind_for_the_next),
        cmocka_unit_test(huge_scores_stay_finite),
        cmocka_unit_test(the_number_of_threads_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
