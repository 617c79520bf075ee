/* test_cl_lora.c - stored weights and adapters on a device, against the CPU. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

enum { NESTED = MO_GEMM_TYPE_COUNT, N_KINDS };

/* ---- one problem on host and device ---------------------------------------------------------- */

typedef struct problem {
    size_t rows, in, out, rank, n_x, n_y, n_dx, n_a, n_b, size;
    float *weight, *x, *dy, *a, *b, *da, *db, *y, *dx; /* results of the host */
    void *memory, *scratch;
    mo_weight w;
    mo_gemm_env env;
    mo_lora_desc d;
    mo_lora_tensors t;
    mo_cl_weight on_w;
    mo_cl_gemm_env on_env;
    mo_cl_lora_desc on_d;
    mo_cl_lora_tensors on_t;
    mo_cl_mem on_scratch, on_x, on_dy, on_y, on_dx;
} problem;

static void *zeroed(size_t size) {
    void *p = mo_alloc(NULL, size + 64, 64);
    assert_non_null(p);
    memset(p, 0, size + 64);
    return p;
}

/* The host's memory of a weight; padding is zero, so that bytes can be compared. */
static void host_begin(problem *p, int kind) {
    const int in_out = p->d.in_out;
    memset(&p->w, 0, sizeof p->w);
    p->w.type = kind == NESTED ? MO_GEMM_NF4 : (mo_gemm_type)kind;
    p->w.nested = kind == NESTED;
    p->w.rows = in_out ? p->in : p->out;
    p->w.columns = in_out ? p->out : p->in;
    p->size = mo_weight_size(&p->w);
    p->memory = zeroed(p->size);
    p->scratch = zeroed(mo_weight_workspace_size(&p->w));
    test_ok(mo_weight_place(&p->w, p->memory, p->size));
    test_ok(mo_weight_encode(&p->w, p->weight, p->scratch, mo_weight_workspace_size(&p->w), NULL));
    p->env.workspace_size = mo_gemm_workspace_size(NULL, NULL);
    p->env.workspace = zeroed(p->env.workspace_size);
    p->d.env = &p->env;
    p->d.workspace_size =
        mo_lora_workspace_size(&p->d, &p->w) + mo_lora_merge_workspace_size(&p->d, &p->w);
    p->d.workspace = zeroed(p->d.workspace_size);
    p->t = (mo_lora_tensors){&p->w, p->a, p->b, p->da, p->db};
}

static void device_begin(test_cl *t, problem *p) {
    p->on_w = (mo_cl_weight){
        .type = p->w.type, .rows = p->w.rows, .columns = p->w.columns, .nested = p->w.nested};
    void *zero = zeroed(p->size);
    assert_int_equal(mo_cl_weight_size(&p->on_w), p->size);
    test_ok(mo_cl_weight_place(&p->on_w, test_cl_put(t, zero, p->size, 12)));
    mo_free(NULL, zero, p->size + 64, 64);
    p->on_scratch = test_cl_new(t, mo_cl_weight_workspace_size(&p->on_w) + 4, 4);
    test_ok(mo_cl_weight_encode(
        &t->cl, &p->on_w, test_cl_put(t, p->weight, p->in * p->out * 4, 4), p->on_scratch));
    p->on_env.cl = &t->cl;
    p->on_d = (mo_cl_lora_desc){p->d.rows, p->d.rank, p->d.alpha, p->d.rslora, p->d.in_out,
        p->d.add, p->d.dropout, p->d.seed, p->d.chunk_rows, p->d.y_stride, p->d.dx_stride,
        &p->on_env, {0}};
    const size_t bytes = mo_cl_lora_workspace_size(&p->on_d, &p->on_w) +
        mo_cl_lora_merge_workspace_size(&p->on_d, &p->on_w);
    assert_int_equal(bytes, p->d.workspace_size);
    p->on_d.workspace = test_cl_new(t, bytes, 4);
    p->on_t = (mo_cl_lora_tensors){&p->on_w, test_cl_put(t, p->a, p->n_a * 4, 4),
        test_cl_put(t, p->b, p->n_b * 4, 8), test_cl_put(t, p->da, p->n_a * 4, 4),
        test_cl_put(t, p->db, p->n_b * 4, 12)};
    p->on_x = test_cl_put(t, p->x, p->n_x * 4, 4);
    p->on_dy = test_cl_put(t, p->dy, p->n_y * 4, 8);
    p->on_y = test_cl_put(t, p->y, p->n_y * 4, 4);
    p->on_dx = test_cl_put(t, p->dx, p->n_dx * 4, 20);
}

static void problem_begin(test_cl *t, problem *p, int kind, mo_lora_desc d, size_t in, size_t out) {
    test_rng *r = &t->rng;
    memset(p, 0, sizeof *p);
    p->d = d;
    p->rows = d.rows, p->in = in, p->out = out, p->rank = d.rank;
    p->n_x = d.rows * in, p->n_y = d.rows * (d.y_stride ? d.y_stride : out);
    p->n_dx = d.rows * (d.dx_stride ? d.dx_stride : in);
    p->n_a = d.rank * in, p->n_b = d.rank * out;
    p->weight = test_normals(r, in * out, 0.2f);
    p->x = test_normals(r, p->n_x, 1), p->dy = test_normals(r, p->n_y, 1);
    p->a = test_normals(r, p->n_a, 0.3f), p->b = test_normals(r, p->n_b, 0.3f);
    p->da = test_normals(r, p->n_a, 1), p->db = test_normals(r, p->n_b, 1);
    p->y = test_normals(r, p->n_y, 1), p->dx = test_normals(r, p->n_dx, 1);
    host_begin(p, kind);
    device_begin(t, p);
}
static void problem_end(test_cl *t, problem *p) {
    float *all[] = {p->weight, p->x, p->dy, p->a, p->b, p->da, p->db, p->y, p->dx};
    test_cl_clear(t);
    for (size_t i = 0; i < n_elements(all); i++) free(all[i]);
    mo_free(NULL, p->memory, p->size + 64, 64);
    mo_free(NULL, p->scratch, mo_weight_workspace_size(&p->w) + 64, 64);
    mo_free(NULL, p->env.workspace, p->env.workspace_size + 64, 64);
    mo_free(NULL, p->d.workspace, p->d.workspace_size + 64, 64);
}

static void assert_near(test_cl *t, mo_cl_mem mem, const float *want, size_t n, double bar) {
    float *got = test_floats(n);
    double *ref = test_doubles(n);
    for (size_t i = 0; i < n; i++) ref[i] = (double)want[i];
    test_cl_get(t, mem, got, n * sizeof *got);
    assert_error_below(test_error(got, ref, n), bar);
    free(got), free(ref);
}

/* The arrays of the device's weight are the host's, to the bit. */
static void assert_same_weight(test_cl *t, const problem *p) {
    const struct {
        mo_cl_mem mem;
        const void *host;
    } parts[] = {{p->on_w.data, p->w.data}, {p->on_w.absmax, p->w.absmax},
        {p->on_w.codes, p->w.codes}, {p->on_w.absmax2, p->w.absmax2}};
    for (size_t i = 0; i < n_elements(parts); i++) {
        assert_int_equal(!parts[i].mem.buffer, !parts[i].host);
        if (!parts[i].host) continue;
        unsigned char *got = test_array(parts[i].mem.size, 1);
        test_cl_get(t, parts[i].mem, got, parts[i].mem.size);
        assert_same_bits(got, parts[i].host, parts[i].mem.size);
        free(got);
    }
    assert_true(p->on_w.offset == p->w.offset);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void weights_have_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (int kind = 0; kind < N_KINDS; kind++) {
        problem p;
        problem_begin(t, &p, kind, (mo_lora_desc){.rows = 1, .rank = 1}, 45, 70);
        assert_same_weight(t, &p);
        float want[20 * 45], got[20 * 45];
        const mo_cl_mem part = test_cl_new(t, sizeof got, 4);
        test_ok(mo_weight_decode(&p.w, 33, 20, want, NULL));
        test_ok(mo_cl_weight_decode(&t->cl, &p.on_w, 33, 20, part, p.on_scratch));
        test_cl_get(t, part, got, sizeof got);
        assert_same_bits(got, want, sizeof got);
        problem_end(t, &p);
    }
}

static void adapters_begin_as_on_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    enum { N_A = 9 * 2001, N_B = 9 * 7 };
    float *a = test_floats(N_A), *b = test_floats(N_B), *got = test_floats(N_A);
    const mo_cl_mem on_a = test_cl_new(t, N_A * 4, 4), on_b = test_cl_new(t, N_B * 4, 8);
    test_ok(mo_lora_init(2001, 7, 9, 1ull << 33 | 5, a, b));
    test_ok(mo_cl_lora_init(&t->cl, 2001, 7, 9, 1ull << 33 | 5, on_a, on_b));
    test_cl_get(t, on_a, got, N_A * 4);
    assert_same_bits(got, a, N_A * 4);
    test_cl_get(t, on_b, got, N_B * 4);
    assert_same_bits(got, b, N_B * 4);
    assert_int_equal(mo_cl_lora_init(&t->cl, 2001, 8, 9, 5, on_a, on_b), MO_E_INVALID);
    test_cl_clear(t);
    free(a), free(b), free(got);
}

/* Products are summed in another order than on the CPU. */
static void forward_and_backward_match_the_cpu(void **state) {
    static const size_t sizes[][4] = {{1, 1, 1, 1}, {7, 33, 18, 2}, {70, 40, 65, 5}};
    test_cl *t = test_cl_of(state);
    for (int k = 0; k < N_KINDS * 2; k++) {
        const size_t *s = sizes[test_cl_small() ? k % 2 : k % 3];
        const mo_lora_desc d = {.rows = s[0],
            .rank = s[3],
            .alpha = 3,
            .in_out = k & 1,
            .add = k & 1,
            .rslora = k & 1,
            .chunk_rows = 32,
            .y_stride = k % 3 ? 0 : s[2] + 5,
            .dx_stride = k % 3 ? 0 : s[1] + 2,
            .dropout = k % 4 < 2 ? 0.3f : 0,
            .seed = 99};
        problem p;
        problem_begin(t, &p, k / 2, d, s[1], s[2]);
        test_ok(mo_lora_forward(&p.d, &p.t, p.x, p.y));
        test_ok(mo_lora_backward(&p.d, &p.t, p.x, p.dy, p.dx));
        test_ok(mo_cl_lora_forward(&p.on_d, &p.on_t, p.on_x, p.on_y));
        test_ok(mo_cl_lora_backward(&p.on_d, &p.on_t, p.on_x, p.on_dy, p.on_dx));
        assert_near(t, p.on_y, p.y, p.n_y, 2e-6);
        assert_near(t, p.on_dx, p.dx, p.n_dx, 2e-6);
        assert_near(t, p.on_t.da, p.da, p.n_a, 2e-6);
        assert_near(t, p.on_t.db, p.db, p.n_b, 2e-6);
        problem_end(t, &p);
    }
}

/* x of ones through B and A of ones: what is dropped is the CPU's, to the bit. */
static void the_device_drops_what_the_cpu_drops(void **state) {
    test_cl *t = test_cl_of(state);
    problem p;
    problem_begin(t, &p, MO_GEMM_F32,
        (mo_lora_desc){.rows = 150, .rank = 1, .dropout = 0.5f, .seed = 1ull << 40}, 130, 1);
    float *got = test_floats(p.n_x), *ones = test_floats(p.n_x);
    for (size_t i = 0; i < p.n_x; i++) ones[i] = 1;
    memset(p.memory, 0, p.size);
    memcpy(p.a, ones, p.n_a * 4), memcpy(p.b, ones, 4), memcpy(p.dy, ones, p.n_y * 4);
    p.on_w.data = test_cl_put(t, p.memory, p.n_a * 4, 4);
    p.on_t.a = test_cl_put(t, ones, p.n_a * 4, 4), p.on_t.b = test_cl_put(t, ones, 4, 4);
    p.on_dy = test_cl_put(t, ones, p.n_y * 4, 4);
    test_ok(mo_lora_backward(&p.d, &p.t, p.x, p.dy, p.dx));
    test_ok(mo_cl_lora_backward(&p.on_d, &p.on_t, p.on_x, p.on_dy, p.on_dx));
    test_cl_get(t, p.on_dx, got, p.n_x * 4);
    assert_same_bits(got, p.dx, p.n_x * 4);
    free(got), free(ones);
    problem_end(t, &p);
}

/* Sums are not those of the CPU to the last bit, so a few codes are the neighbours. */
static void merging_matches_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (int k = 0; k < N_KINDS; k++) {
        const mo_lora_desc d = {.rows = 1, .rank = 3, .alpha = 2, .in_out = k & 1};
        problem p;
        problem_begin(t, &p, k, d, 37, 45);
        const size_t n = 37 * 45;
        float *want = test_floats(n), *got = test_floats(n);
        const mo_cl_mem on_got = test_cl_new(t, n * 4, 4);
        for (int turn = 0; turn < 2; turn++) {
            size_t differ = 0;
            if (turn == 0) test_ok(mo_lora_merge(&p.d, &p.w, p.a, p.b));
            else test_ok(mo_lora_unmerge(&p.d, &p.w, p.a, p.b));
            if (turn == 0) test_ok(mo_cl_lora_merge(&p.on_d, &p.on_w, p.on_t.a, p.on_t.b));
            else test_ok(mo_cl_lora_unmerge(&p.on_d, &p.on_w, p.on_t.a, p.on_t.b));
            test_ok(mo_weight_decode(&p.w, 0, p.w.rows, want, NULL));
            test_ok(mo_cl_weight_decode(&t->cl, &p.on_w, 0, p.w.rows, on_got, p.on_scratch));
            test_cl_get(t, on_got, got, n * 4);
            for (size_t i = 0; i < n; i++) differ += !(fabsf(got[i] - want[i]) < 1e-4f);
            assert_true(differ <= n / 50);
        }
        free(want), free(got);
        problem_end(t, &p);
    }
}

static void what_is_wrong_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    problem p;
    problem_begin(t, &p, NESTED, (mo_lora_desc){.rows = 4, .rank = 2}, 40, 6);
    const mo_cl_lora_desc good = p.on_d;
    const mo_cl_mem none = {0};
    assert_int_equal(mo_cl_lora_forward(NULL, &p.on_t, p.on_x, p.on_y), MO_E_INVALID);
    assert_int_equal(mo_cl_lora_forward(&p.on_d, NULL, p.on_x, p.on_y), MO_E_INVALID);
    assert_int_equal(mo_cl_lora_forward(&p.on_d, &p.on_t, none, p.on_y), MO_E_INVALID);
    assert_int_equal(mo_cl_lora_forward(&p.on_d, &p.on_t, p.on_x, none), MO_E_INVALID);
    assert_int_equal(mo_cl_lora_backward(&p.on_d, &p.on_t, p.on_x, none, p.on_dx), MO_E_INVALID);
    p.on_d.workspace.size = 64;
    assert_int_equal(mo_cl_lora_forward(&p.on_d, &p.on_t, p.on_x, p.on_y), MO_E_NO_SPACE);
    assert_int_equal(mo_cl_lora_merge(&p.on_d, &p.on_w, p.on_t.a, p.on_t.b), MO_E_NO_SPACE);
    p.on_d = good, p.on_d.dropout = 1;
    assert_int_equal(mo_cl_lora_forward(&p.on_d, &p.on_t, p.on_x, p.on_y), MO_E_INVALID);
    p.on_d = good, p.on_d.y_stride = 5;
    assert_int_equal(mo_cl_lora_forward(&p.on_d, &p.on_t, p.on_x, p.on_y), MO_E_INVALID);
    p.on_d = good, p.on_d.rank = 0;
    assert_int_equal(mo_cl_lora_forward(&p.on_d, &p.on_t, p.on_x, p.on_y), MO_E_INVALID);
    assert_int_equal(mo_cl_weight_place(&p.on_w, none), MO_E_INVALID);
    assert_int_equal(mo_cl_weight_place(&p.on_w, mo_cl_part(&p.on_x, 0, 64)), MO_E_NO_SPACE);
    assert_int_equal(mo_cl_weight_decode(&t->cl, &p.on_w, 0, 1, p.on_x, none), MO_E_NO_SPACE);
    assert_int_equal(
        mo_cl_weight_decode(&t->cl, &p.on_w, 6, 1, p.on_x, p.on_scratch), MO_E_INVALID);
    problem_end(t, &p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_have_the_bits_of_the_cpu),
        cmocka_unit_test(adapters_begin_as_on_the_cpu),
        cmocka_unit_test(forward_and_backward_match_the_cpu),
        cmocka_unit_test(the_device_drops_what_the_cpu_drops),
        cmocka_unit_test(merging_matches_the_cpu),
        cmocka_unit_test(what_is_wrong_is_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
