/* test_lora.c - mo_weight and mo_lora: every format against double, gradients against differences,
 * dropout, merging. */
#include "test_numeric.h"

static const char *const type_names[] = {"f32", "bf16", "f16", "int8", "nf4", "fp4", "nf4 nested"};
enum { NESTED = MO_GEMM_TYPE_COUNT, N_KINDS };

/* ---- a weight and its memory ---------------------------------------------------------------- */

static void *aligned(size_t size) {
    void *p = mo_alloc(NULL, size ? size : 64, 64);
    assert_non_null(p);
    memset(p, 0xff, size ? size : 64); /* NaN */
    return p;
}
static void release(void *p, size_t size) { mo_free(NULL, p, size ? size : 64, 64); }

typedef struct stored {
    mo_weight w;
    size_t size, scratch_size;
    void *memory, *scratch;
} stored;

static stored stored_begin(int kind, size_t rows, size_t columns, size_t block, const float *x) {
    stored s;
    memset(&s, 0, sizeof s);
    s.w.type = kind == NESTED ? MO_GEMM_NF4 : (mo_gemm_type)kind;
    s.w.nested = kind == NESTED;
    s.w.rows = rows;
    s.w.columns = columns;
    s.w.block = block;
    s.size = mo_weight_size(&s.w);
    s.scratch_size = mo_weight_workspace_size(&s.w);
    s.memory = aligned(s.size);
    s.scratch = aligned(s.scratch_size);
    test_ok(mo_weight_place(&s.w, s.memory, s.size));
    test_ok(mo_weight_encode(&s.w, x, s.scratch, s.scratch_size, NULL));
    return s;
}
static void stored_end(stored *s) {
    release(s->memory, s->size);
    release(s->scratch, s->scratch_size);
}
static float *decoded(const mo_weight *w) {
    float *x = test_floats(w->rows * w->columns);
    test_ok(mo_weight_decode(w, 0, w->rows, x, NULL));
    return x;
}

/* ---- a layer -------------------------------------------------------------------------------- */

typedef struct layer {
    size_t rows, in, out, rank;
    stored base;
    float *w; /* as decoded */
    float *x, *dy, *a, *b, *da, *db;
    mo_parallel parallel;
    mo_gemm_env env;
    mo_lora_desc d;
    mo_lora_tensors t;
} layer;

static layer layer_begin(test_rng *r, int kind, mo_lora_desc d, size_t in, size_t out) {
    layer l;
    memset(&l, 0, sizeof l);
    l.rows = d.rows, l.in = in, l.out = out, l.rank = d.rank;
    float *w = test_normals(r, in * out, 0.1f);
    l.base = d.in_out ? stored_begin(kind, in, out, 32, w) : stored_begin(kind, out, in, 32, w);
    free(w);
    l.w = decoded(&l.base.w);
    l.x = test_normals(r, d.rows * in, 1);
    l.dy = test_normals(r, d.rows * out, 1);
    l.a = test_normals(r, d.rank * in, 0.3f);
    l.b = test_normals(r, out * d.rank, 0.3f);
    l.da = test_normals(r, d.rank * in, 1);
    l.db = test_normals(r, out * d.rank, 1);
    l.d = d;
    return l;
}
/* The layer does not move from here on. */
static void layer_bind(layer *l, int threads) {
    const size_t least = mo_lora_merge_workspace_size(&l->d, &l->base.w);
    l->parallel.n_threads = threads;
    l->env.parallel = &l->parallel;
    l->env.workspace_size = mo_gemm_workspace_size(&l->parallel, NULL);
    l->env.workspace = aligned(l->env.workspace_size);
    l->d.env = &l->env;
    l->d.workspace_size = mo_lora_workspace_size(&l->d, &l->base.w);
    if (l->d.workspace_size < least) l->d.workspace_size = least;
    l->d.workspace = aligned(l->d.workspace_size);
    l->t.weight = &l->base.w;
    l->t.a = l->a, l->t.b = l->b, l->t.da = l->da, l->t.db = l->db;
}
static void layer_end(layer *l) {
    float *all[] = {l->w, l->x, l->dy, l->a, l->b, l->da, l->db};
    for (size_t i = 0; i < n_elements(all); i++) free(all[i]);
    release(l->env.workspace, l->env.workspace_size);
    release(l->d.workspace, l->d.workspace_size);
    stored_end(&l->base);
}

/* ---- the reference: double ------------------------------------------------------------------ */

static uint32_t mix(uint32_t h) {
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    return h ^ h >> 16;
}
static uint32_t random_bits(uint64_t seed, uint64_t i) {
    return mix(
        (uint32_t)i ^ mix((uint32_t)seed + mix((uint32_t)(seed >> 32) + mix((uint32_t)(i >> 32)))));
}
static double kept(const layer *l, size_t i) {
    const double p = (double)l->d.dropout;
    return random_bits(l->d.seed, i) < (uint32_t)(p * 4294967296.0) ? 0 : 1 / (1 - p);
}
static double scale_of(const layer *l) {
    const double rank = (double)l->rank, alpha = l->d.alpha == 0 ? rank : (double)l->d.alpha;
    return alpha / (l->d.rslora ? sqrt(rank) : rank);
}
static double weight_at(const layer *l, size_t o, size_t i) {
    return (double)(l->d.in_out ? l->w[i * l->out + o] : l->w[o * l->in + i]);
}
static double *as_double(const float *x, size_t n) {
    double *y = test_doubles(n);
    for (size_t i = 0; i < n; i++) y[i] = (double)x[i];
    return y;
}

/* y = x W^T + s (drop(x) A^T) B^T */
static double *forward_double(const layer *l, const double *x, const double *a, const double *b) {
    double *y = test_doubles(l->rows * l->out), *h = test_doubles(l->rank);
    double *seen = test_doubles(l->in);
    for (size_t n = 0; n < l->rows; n++) {
        for (size_t i = 0; i < l->in; i++) seen[i] = x[n * l->in + i] * kept(l, n * l->in + i);
        for (size_t k = 0; k < l->rank; k++) {
            h[k] = 0;
            for (size_t i = 0; i < l->in; i++) h[k] += a[k * l->in + i] * seen[i];
        }
        for (size_t o = 0; o < l->out; o++) {
            double sum = 0;
            for (size_t k = 0; k < l->rank; k++) sum += scale_of(l) * b[o * l->rank + k] * h[k];
            for (size_t i = 0; i < l->in; i++) sum += x[n * l->in + i] * weight_at(l, o, i);
            y[n * l->out + o] = sum;
        }
    }
    free(h), free(seen);
    return y;
}

/* What backward is the gradient of. */
static double loss_double(const layer *l, const double *x, const double *a, const double *b) {
    double *y = forward_double(l, x, a, b), sum = 0;
    for (size_t i = 0; i < l->rows * l->out; i++) sum += y[i] * (double)l->dy[i];
    free(y);
    return sum;
}

/* got - before = the difference quotients of the loss by each number of at. The loss is linear in
 * each of them, so the quotient is exact but for double's rounding. */
static void assert_differences(const layer *l, double *const values[3], int which, const float *got,
    const float *before, size_t n) {
    double *want = test_doubles(n);
    for (size_t i = 0; i < n; i++) {
        const double was = values[which][i];
        values[which][i] = was + 0.5;
        const double up = loss_double(l, values[0], values[1], values[2]);
        values[which][i] = was - 0.5;
        want[i] = up - loss_double(l, values[0], values[1], values[2]);
        if (before) want[i] += (double)before[i];
        values[which][i] = was;
    }
    assert_error_below(test_error(got, want, n), 1e-5);
    free(want);
}

/* ---- weights -------------------------------------------------------------------------------- */

static void a_weight_takes_the_bytes_of_its_format(void **state) {
    (void)state;
    static const size_t want[N_KINDS] = {
        40000, 20032, 20032, 10048 + 448, 5056 + 640, 5056 + 640, 5056 + 192 + 64};
    for (int kind = 0; kind < N_KINDS; kind++) {
        mo_weight w = {.rows = 100, .columns = 100, .nested = kind == NESTED};
        w.type = kind == NESTED ? MO_GEMM_NF4 : (mo_gemm_type)kind;
        if (mo_weight_size(&w) != want[kind])
            fail_msg("%s: %zu, not %zu bytes", type_names[kind], mo_weight_size(&w), want[kind]);
    }
}

static void rows_decode_as_the_whole(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, 301 * 67, 1);
    for (int kind = 0; kind < N_KINDS; kind++) {
        stored s = stored_begin(kind, 301, 67, 32, x);
        float *all = decoded(&s.w), part[5 * 67];
        for (size_t first = 0; first + 5 <= 301; first += 37) {
            test_ok(mo_weight_decode(&s.w, first, 5, part, NULL));
            assert_same_bits(part, all + first * 67, sizeof part);
        }
        free(all);
        stored_end(&s);
    }
    free(x);
}

static void encoding_what_was_decoded_changes_nothing(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, 40 * 50, 1);
    for (int kind = 0; kind < NESTED; kind++) { /* nested scales do not come back exactly */
        stored s = stored_begin(kind, 40, 50, 64, x);
        float *once = decoded(&s.w);
        stored again = stored_begin(kind, 40, 50, 64, once);
        float *twice = decoded(&again.w);
        /* int8: the scale is divided by 127 and multiplied again */
        for (size_t i = 0; i < 40 * 50; i++)
            assert_true(fabsf(once[i] - twice[i]) <= 1e-6f * fabsf(once[i]));
        free(once), free(twice);
        stored_end(&s), stored_end(&again);
    }
    free(x);
}

static void what_is_no_weight_is_refused(void **state) {
    (void)state;
    mo_weight w = {.type = MO_GEMM_NF4, .rows = 4, .columns = 8, .nested = 1};
    float x[32] = {0}, scale[16];
    mo_gemm_operand operand;
    float memory[64];
    assert_int_equal(mo_weight_decode(&w, 0, 4, x, NULL), MO_E_INVALID); /* no memory yet */
    assert_int_equal(mo_weight_place(&w, memory, 64), MO_E_NO_SPACE);
    test_ok(mo_weight_place(&w, memory, sizeof memory));
    assert_int_equal(mo_weight_encode(&w, x, NULL, 0, NULL), MO_E_NO_SPACE);
    assert_int_equal(mo_weight_operand(&w, NULL, 0, &operand), MO_E_NO_SPACE);
    test_ok(mo_weight_encode(&w, x, scale, sizeof scale, NULL));
    assert_int_equal(mo_weight_decode(&w, 3, 2, x, NULL), MO_E_INVALID);
    w.block = 48;
    assert_int_equal(mo_weight_size(&w), 0);
    w.block = 0, w.type = MO_GEMM_TYPE_COUNT;
    assert_int_equal(mo_weight_size(&w), 0);
    w.type = MO_GEMM_F32, w.rows = SIZE_MAX / 2;
    assert_int_equal(mo_weight_size(&w), 0);
}

/* ---- adapters ------------------------------------------------------------------------------- */

static void a_layer_by_hand(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, MO_GEMM_F32, (mo_lora_desc){.rows = 1, .rank = 1, .alpha = 2}, 2, 1);
    layer_bind(&l, 1);
    float *w = (float *)l.base.w.data, y[1], dx[2];
    w[0] = 1, w[1] = 2, l.x[0] = 3, l.x[1] = 5, l.a[0] = 1, l.a[1] = -1, l.b[0] = 4;
    l.dy[0] = 1, l.da[0] = l.da[1] = l.db[0] = 0;
    test_ok(mo_lora_forward(&l.d, &l.t, l.x, y)); /* 3 + 10 + 2 * 4 * (3 - 5) */
    assert_true(y[0] == -3);
    test_ok(mo_lora_backward(&l.d, &l.t, l.x, l.dy, dx));
    assert_true(dx[0] == 9 && dx[1] == -6);
    assert_true(l.da[0] == 24 && l.da[1] == 40 && l.db[0] == -4);
    layer_end(&l);
}

static void the_first_adapter_changes_nothing(void **state) {
    (void)state;
    float a[7 * 64], b[5 * 7];
    double sum = 0;
    test_ok(mo_lora_init(64, 5, 7, 3, a, b));
    for (size_t i = 0; i < n_elements(a); i++) {
        assert_true(fabsf(a[i]) <= 0.125f);
        sum += (double)a[i] * (double)a[i];
    }
    for (size_t i = 0; i < n_elements(b); i++) assert_true(b[i] == 0);
    /* the variance of a uniform number: bound^2 / 3 */
    assert_true(fabs(sum / n_elements(a) * 3 * 64 - 1) < 0.15);
    assert_true(a[0] == ((float)(random_bits(3, 0) >> 8) / 8388608.0f - 1) * 0.125f);
    assert_int_equal(mo_lora_init(64, 5, 0, 3, a, b), MO_E_INVALID);
}

static void forward_matches_double_for_all_formats(void **state) {
    (void)state;
    static const size_t sizes[][4] = {{1, 1, 1, 1}, {3, 33, 17, 2}, {70, 48, 65, 5}};
    test_rng r = test_rng_begin(__func__);
    for (int k = 0; k < N_KINDS * 12; k++) {
        const size_t *s = sizes[k / 4 % 3];
        const mo_lora_desc d = {.rows = s[0],
            .rank = s[3],
            .alpha = 3,
            .in_out = k & 1,
            .add = k >> 1 & 1,
            .rslora = k >> 1 & 1,
            .chunk_rows = 32,
            .dropout = k % 3 == 0 ? 0.25f : 0,
            .seed = 77};
        layer l = layer_begin(&r, k / 12, d, s[1], s[2]);
        layer_bind(&l, 1 + k % 2);
        const size_t n = l.rows * l.out;
        double *x = as_double(l.x, l.rows * l.in), *a = as_double(l.a, l.rank * l.in);
        double *b = as_double(l.b, l.out * l.rank), *want = forward_double(&l, x, a, b);
        float *y = test_normals(&r, n, 1);
        for (size_t i = 0; l.d.add && i < n; i++) want[i] += (double)y[i];
        test_ok(mo_lora_forward(&l.d, &l.t, l.x, y));
        assert_error_below(test_error(y, want, n), 2e-6);
        free(x), free(a), free(b), free(want), free(y);
        layer_end(&l);
    }
}

static void gradients_match_central_differences(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (int k = 0; k < N_KINDS * 2; k++) {
        const mo_lora_desc d = {.rows = 9,
            .rank = 3,
            .alpha = 5,
            .in_out = k & 1,
            .add = k & 1,
            .rslora = k & 1,
            .chunk_rows = 4,
            .dropout = k % 4 < 2 ? 0.4f : 0,
            .seed = 5};
        layer l = layer_begin(&r, k / 2, d, 7, 11);
        layer_bind(&l, 1);
        double *values[3] = {as_double(l.x, 9 * 7), as_double(l.a, 3 * 7), as_double(l.b, 11 * 3)};
        float *da = test_copy(l.da, 3 * 7), *db = test_copy(l.db, 11 * 3);
        float *dx = test_normals(&r, 9 * 7, 1), *before = test_copy(dx, 9 * 7);
        test_ok(mo_lora_backward(&l.d, &l.t, l.x, l.dy, dx));
        assert_differences(&l, values, 0, dx, l.d.add ? before : NULL, 9 * 7);
        assert_differences(&l, values, 1, l.da, da, 3 * 7);
        assert_differences(&l, values, 2, l.db, db, 11 * 3);
        for (int i = 0; i < 3; i++) free(values[i]);
        free(da), free(db), free(dx), free(before);
        layer_end(&l);
    }
}

/* With x of ones, A of ones and W of zeros, y counts what was kept; dx from dA alone shows it. */
static void backward_drops_what_forward_dropped(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    const mo_lora_desc d = {.rows = 600, .rank = 1, .dropout = 0.3f, .seed = 1ull << 40 | 9};
    layer l = layer_begin(&r, MO_GEMM_F32, d, 37, 1);
    layer_bind(&l, 2);
    size_t n_kept = 0;
    float *y = test_floats(600), *dx = test_floats(600 * 37);
    memset(l.base.w.data, 0, 37 * sizeof(float));
    for (size_t i = 0; i < 600 * 37; i++) l.x[i] = 1;
    for (size_t i = 0; i < 600; i++) l.dy[i] = 1;
    for (size_t i = 0; i < 37; i++) l.a[i] = 1, l.da[i] = 0;
    l.b[0] = 1;
    test_ok(mo_lora_forward(&l.d, &l.t, l.x, y));
    test_ok(mo_lora_backward(&l.d, &l.t, l.x, l.dy, dx));
    for (size_t row = 0; row < 600; row++) {
        float sum = 0;
        for (size_t i = 0; i < 37; i++) {
            const float want = (float)kept(&l, row * 37 + i);
            assert_true(dx[row * 37 + i] == want);
            sum += want, n_kept += want != 0;
        }
        assert_true(fabsf(y[row] - sum) < 1e-4f);
    }
    assert_true(fabs((double)n_kept / (600 * 37) - 0.7) < 0.02);
    free(y), free(dx);
    layer_end(&l);
}

static void results_do_not_depend_on_threads(void **state) {
    (void)state;
    float *first[4] = {NULL};
    for (int threads = 1; threads <= 3; threads += 2) {
        test_rng r = test_rng_begin("threads");
        const mo_lora_desc d = {.rows = 90, .rank = 4, .dropout = 0.1f, .chunk_rows = 50};
        layer l = layer_begin(&r, NESTED, d, 70, 90);
        layer_bind(&l, threads);
        float *y = test_floats(90 * 90), *dx = test_floats(90 * 70);
        test_ok(mo_lora_forward(&l.d, &l.t, l.x, y));
        test_ok(mo_lora_backward(&l.d, &l.t, l.x, l.dy, dx));
        float *all[4] = {y, dx, l.da, l.db};
        const size_t sizes[4] = {90 * 90, 90 * 70, 4 * 70, 90 * 4};
        for (int i = 0; i < 4; i++) {
            if (first[i]) assert_same_bits(first[i], all[i], sizes[i] * sizeof(float));
            else first[i] = test_copy(all[i], sizes[i]);
        }
        free(y), free(dx);
        layer_end(&l);
    }
    for (int i = 0; i < 4; i++) free(first[i]);
}

static void spread(const float *from, size_t rows, size_t n, size_t stride, float *to) {
    for (size_t i = 0; i < rows; i++) memcpy(to + i * stride, from + i * n, n * sizeof *to);
}

/* Layers side by side: the bits of rows that follow each other; what lies between them stays. */
static void rows_may_lie_apart(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    enum { ROWS = 40, IN = 19, OUT = 23, Y = 31, DX = 22, RANK = 3 };
    for (int k = 0; k < 4; k++) {
        const mo_lora_desc d = {.rows = ROWS,
            .rank = RANK,
            .in_out = k & 1,
            .add = k & 1,
            .dropout = k < 2 ? 0 : 0.4f,
            .seed = 5,
            .chunk_rows = 16};
        layer l = layer_begin(&r, k == 3 ? NESTED : k, d, IN, OUT);
        layer_bind(&l, 2);
        float *y = test_normals(&r, ROWS * OUT, 1), *dx = test_normals(&r, ROWS * IN, 1);
        float *da = test_copy(l.da, RANK * IN), *db = test_copy(l.db, OUT * RANK);
        float *far_y = test_normals(&r, ROWS * Y, 1), *far_dx = test_normals(&r, ROWS * DX, 1);
        float *want_y = test_copy(far_y, ROWS * Y), *want_dx = test_copy(far_dx, ROWS * DX);
        float *far_dy = test_normals(&r, ROWS * Y, 1);
        spread(y, ROWS, OUT, Y, far_y), spread(dx, ROWS, IN, DX, far_dx);
        spread(l.dy, ROWS, OUT, Y, far_dy);
        test_ok(mo_lora_forward(&l.d, &l.t, l.x, y));
        test_ok(mo_lora_backward(&l.d, &l.t, l.x, l.dy, dx));
        spread(y, ROWS, OUT, Y, want_y), spread(dx, ROWS, IN, DX, want_dx);
        l.d.y_stride = Y, l.d.dx_stride = DX;
        l.t.da = da, l.t.db = db;
        test_ok(mo_lora_forward(&l.d, &l.t, l.x, far_y));
        test_ok(mo_lora_backward(&l.d, &l.t, l.x, far_dy, far_dx));
        assert_same_bits(far_y, want_y, ROWS * Y * sizeof *y);
        assert_same_bits(far_dx, want_dx, ROWS * DX * sizeof *y);
        assert_same_bits(da, l.da, RANK * IN * sizeof *y);
        assert_same_bits(db, l.db, OUT * RANK * sizeof *y);
        float *all[] = {y, dx, da, db, far_y, far_dy, far_dx, want_y, want_dx};
        for (size_t i = 0; i < n_elements(all); i++) free(all[i]);
        layer_end(&l);
    }
}

static void gradients_are_optional(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, MO_GEMM_INT8, (mo_lora_desc){.rows = 6, .rank = 2}, 8, 5);
    layer_bind(&l, 1);
    float *da = test_copy(l.da, 16), *db = test_copy(l.db, 10), *dx = test_floats(48);
    l.t.da = NULL;
    test_ok(mo_lora_backward(&l.d, &l.t, l.x, l.dy, NULL));
    assert_same_bits(l.da, da, 16 * sizeof *da);
    assert_true(memcmp(l.db, db, 10 * sizeof *db) != 0);
    memcpy(db, l.db, 10 * sizeof *db);
    l.t.da = l.da, l.t.db = NULL;
    test_ok(mo_lora_backward(&l.d, &l.t, l.x, l.dy, dx));
    assert_true(memcmp(l.da, da, 16 * sizeof *da) != 0);
    assert_same_bits(l.db, db, 10 * sizeof *db);
    float *alone = test_floats(48);
    l.t.da = NULL; /* dx alone does not depend on x */
    test_ok(mo_lora_backward(&l.d, &l.t, NULL, l.dy, alone));
    assert_same_bits(alone, dx, 48 * sizeof *dx);
    free(da), free(db), free(dx), free(alone);
    layer_end(&l);
}

static void counting_cblas(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
    const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc) {
    assert_int_equal(order, 101);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int l = 0; l < k; l++)
                sum += (double)(trans_a == 112 ? a[l * lda + i] : a[i * lda + l]) *
                    (double)(trans_b == 112 ? b[j * ldb + l] : b[l * ldb + j]);
            c[i * ldc + j] = alpha * (float)sum + (beta == 0 ? 0 : beta * c[i * ldc + j]);
        }
}

static void a_blas_works_beside_a_quantized_weight(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, NESTED, (mo_lora_desc){.rows = 5, .rank = 2}, 40, 9);
    layer_bind(&l, 1);
    double *x = as_double(l.x, 200), *a = as_double(l.a, 80), *b = as_double(l.b, 18);
    double *want = forward_double(&l, x, a, b);
    float y[45];
    l.env.cblas = counting_cblas;
    test_ok(mo_lora_forward(&l.d, &l.t, l.x, y));
    assert_error_below(test_error(y, want, 45), 2e-6);
    free(x), free(a), free(b), free(want);
    layer_end(&l);
}

static void what_is_wrong_is_refused(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, NESTED, (mo_lora_desc){.rows = 4, .rank = 2}, 40, 6);
    layer_bind(&l, 1);
    float y[24];
    const mo_lora_desc good = l.d;
    assert_int_equal(mo_lora_forward(NULL, &l.t, l.x, y), MO_E_INVALID);
    assert_int_equal(mo_lora_forward(&l.d, NULL, l.x, y), MO_E_INVALID);
    assert_int_equal(mo_lora_forward(&l.d, &l.t, NULL, y), MO_E_INVALID);
    assert_int_equal(mo_lora_forward(&l.d, &l.t, l.x, NULL), MO_E_INVALID);
    assert_int_equal(mo_lora_backward(&l.d, &l.t, l.x, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_lora_backward(&l.d, &l.t, NULL, l.dy, NULL), MO_E_INVALID);
    l.d.rank = 0;
    assert_int_equal(mo_lora_forward(&l.d, &l.t, l.x, y), MO_E_INVALID);
    l.d = good, l.d.dropout = 1;
    assert_int_equal(mo_lora_forward(&l.d, &l.t, l.x, y), MO_E_INVALID);
    l.d.dropout = NAN;
    assert_int_equal(mo_lora_forward(&l.d, &l.t, l.x, y), MO_E_INVALID);
    l.d = good, l.d.workspace_size = mo_lora_workspace_size(&good, &l.base.w) - 1;
    assert_int_equal(mo_lora_forward(&l.d, &l.t, l.x, y), MO_E_NO_SPACE);
    assert_int_equal(mo_lora_merge(&l.d, &l.base.w, l.a, l.b), MO_E_NO_SPACE);
    l.d = good, l.d.rank = SIZE_MAX / 8;
    assert_int_equal(mo_lora_workspace_size(&l.d, &l.base.w), 0);
    assert_int_equal(mo_lora_forward(&l.d, &l.t, l.x, y), MO_E_OVERFLOW);
    l.d = good, l.d.y_stride = 5;
    assert_int_equal(mo_lora_forward(&l.d, &l.t, l.x, y), MO_E_INVALID);
    l.d = good, l.d.dx_stride = 39;
    assert_int_equal(mo_lora_backward(&l.d, &l.t, l.x, l.dy, NULL), MO_E_INVALID);
    l.d = good, l.base.w.codes = NULL;
    assert_int_equal(mo_lora_forward(&l.d, &l.t, l.x, y), MO_E_INVALID);
    layer_end(&l);
}

/* ---- merging -------------------------------------------------------------------------------- */

/* Half a step of the format, in units of the largest number of the row or block. */
static double step_of(int kind) {
    static const double steps[N_KINDS] = {1e-6, 0x1p-8, 0x1p-11, 0.5 / 127, 0.16, 0.17, 0.17};
    return steps[kind];
}

static void merging_adds_the_product(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (int k = 0; k < N_KINDS * 2; k++) {
        const mo_lora_desc d = {.rows = 1, .rank = 3, .alpha = 6, .in_out = k & 1};
        layer l = layer_begin(&r, k / 2, d, 37, 45); /* rows that end inside a block */
        layer_bind(&l, 1);
        const size_t n = 37 * 45;
        float *sum = test_floats(n);
        double most = 0;
        for (size_t o = 0; o < 45; o++)
            for (size_t i = 0; i < 37; i++) {
                double x = weight_at(&l, o, i);
                for (size_t j = 0; j < 3; j++)
                    x += 2 * (double)l.b[o * 3 + j] * (double)l.a[j * 37 + i];
                sum[l.d.in_out ? i * 45 + o : o * 37 + i] = (float)x;
                most = fmax(most, fabs(x));
            }
        test_ok(mo_lora_merge(&l.d, &l.base.w, l.a, l.b));
        float *merged = decoded(&l.base.w);
        double error = 0;
        for (size_t i = 0; i < n; i++)
            error = fmax(error, fabs((double)merged[i] - (double)sum[i]));
        assert_error_below(error / most, step_of(k / 2));
        /* what is stored is what encoding the sum at once gives, but for the sum's last bits */
        stored whole = stored_begin(k / 2, l.base.w.rows, l.base.w.columns, 32, sum);
        float *at_once = decoded(&whole.w);
        size_t differ = 0;
        for (size_t i = 0; i < n; i++)
            differ += fabsf(merged[i] - at_once[i]) > 1e-5f * (float)most;
        assert_true(differ <= n / 100);
        free(at_once), free(merged), free(sum);
        stored_end(&whole);
        layer_end(&l);
    }
}

static void unmerging_gives_the_weight_back_as_far_as_said(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (int kind = 0; kind < N_KINDS; kind++) {
        layer l = layer_begin(&r, kind, (mo_lora_desc){.rows = 1, .rank = 2, .alpha = 1}, 64, 40);
        layer_bind(&l, 1);
        test_ok(mo_lora_merge(&l.d, &l.base.w, l.a, l.b));
        test_ok(mo_lora_unmerge(&l.d, &l.base.w, l.a, l.b));
        float *back = decoded(&l.base.w);
        double most = 0, error = 0;
        for (size_t i = 0; i < 64 * 40; i++) {
            most = fmax(most, fabs((double)l.w[i]));
            error = fmax(error, fabs((double)back[i] - (double)l.w[i]));
        }
        assert_error_below(error / most, 4 * step_of(kind));
        free(back);
        layer_end(&l);
    }
}

/* Many pieces, which begin inside rows. */
static void merging_in_pieces_is_merging(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    layer l = layer_begin(&r, MO_GEMM_NF4, (mo_lora_desc){.rows = 1, .rank = 1}, 521, 510);
    layer_bind(&l, 2);
    for (size_t i = 0; i < l.in; i++) l.a[i] = 0; /* the codes of what was decoded are the same */
    uint8_t *codes = (uint8_t *)test_array(521 * 255, 1);
    memcpy(codes, l.base.w.data, 521 * 255);
    float *before = decoded(&l.base.w);
    test_ok(mo_lora_merge(&l.d, &l.base.w, l.a, l.b));
    assert_memory_equal(l.base.w.data, codes, 521 * 255);
    for (size_t i = 0; i < l.in; i++) l.a[i] = 1;
    for (size_t i = 0; i < l.out; i++) l.b[i] = 4; /* larger than all: all codes are high */
    test_ok(mo_lora_merge(&l.d, &l.base.w, l.a, l.b));
    float *after = decoded(&l.base.w);
    for (size_t i = 0; i < l.in * l.out; i++) assert_true(fabsf(after[i] - before[i] - 4) < 1);
    free(codes), free(before), free(after);
    layer_end(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_weight_takes_the_bytes_of_its_format),
        cmocka_unit_test(rows_decode_as_the_whole),
        cmocka_unit_test(encoding_what_was_decoded_changes_nothing),
        cmocka_unit_test(what_is_no_weight_is_refused),
        cmocka_unit_test(a_layer_by_hand),
        cmocka_unit_test(the_first_adapter_changes_nothing),
        cmocka_unit_test(forward_matches_double_for_all_formats),
        cmocka_unit_test(gradients_match_central_differences),
        cmocka_unit_test(backward_drops_what_forward_dropped),
        cmocka_unit_test(results_do_not_depend_on_threads),
        cmocka_unit_test(gradients_are_optional),
        cmocka_unit_test(rows_may_lie_apart),
        cmocka_unit_test(a_blas_works_beside_a_quantized_weight),
        cmocka_unit_test(what_is_wrong_is_refused),
        cmocka_unit_test(merging_adds_the_product),
        cmocka_unit_test(unmerging_gives_the_weight_back_as_far_as_said),
        cmocka_unit_test(merging_in_pieces_is_merging),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
