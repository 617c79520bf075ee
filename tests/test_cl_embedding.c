/* test_cl_embedding.c - embeddings and biases on a device, against loops in C. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

/* ---- embeddings ----------------------------------------------------------------------------- */

typedef struct problem {
    mo_cl_embedding_desc d;
    int32_t *tokens;
    float *wte, *wpe, *dy, *y;
    mo_cl_mem on_tokens, on_wte, on_wpe, on_dy, on_y;
} problem;

static problem problem_begin(
    test_cl *t, size_t rows, size_t seq, size_t channels, size_t vocab, size_t used) {
    problem p = {.d = {rows, seq, channels, vocab},
        .tokens = test_array(rows, sizeof(int32_t)),
        .wte = test_normals(&t->rng, vocab * channels, 1),
        .wpe = test_normals(&t->rng, seq * channels, 1),
        .dy = test_normals(&t->rng, rows * channels, 1),
        .y = test_floats(rows * channels)};
    for (size_t i = 0; i < rows; i++) p.tokens[i] = (int32_t)test_below(&t->rng, used);
    p.tokens[rows - 1] = (int32_t)vocab - 1;
    p.on_wte = test_cl_put(t, p.wte, vocab * channels * 4, 4);
    p.on_wpe = test_cl_put(t, p.wpe, seq * channels * 4, 8);
    p.on_dy = test_cl_put(t, p.dy, rows * channels * 4, 12);
    p.on_y = test_cl_new(t, rows * channels * 4, 20);
    return p;
}
static void tokens_go(test_cl *t, problem *p) {
    p->on_tokens = test_cl_put(t, p->tokens, p->d.rows * 4, 4);
}
static void problem_end(test_cl *t, problem *p) {
    test_cl_clear(t);
    free(p->tokens), free(p->wte), free(p->wpe), free(p->dy), free(p->y);
}
/* Forward into y; the tables are changed as the gradients are. */
static void loop(problem *p) {
    const size_t n = p->d.channels;
    for (size_t row = 0; row < p->d.rows; row++) {
        const int32_t token = p->tokens[row];
        const int valid = token >= 0 && (size_t)token < p->d.vocab;
        for (size_t i = 0; i < n; i++) {
            const float place = p->wpe[row % p->d.seq * n + i];
            p->y[row * n + i] = valid ? p->wte[(size_t)token * n + i] + place : place;
        }
    }
    for (size_t row = 0; row < p->d.rows; row++) {
        const int32_t token = p->tokens[row];
        const int valid = token >= 0 && (size_t)token < p->d.vocab;
        for (size_t i = 0; i < n; i++) {
            if (valid) p->wte[(size_t)token * n + i] += p->dy[row * n + i];
            p->wpe[row % p->d.seq * n + i] += p->dy[row * n + i];
        }
    }
}
static void assert_bits(test_cl *t, mo_cl_mem mem, const float *ref, size_t n) {
    float *got = test_floats(n);
    test_cl_get(t, mem, got, n * 4);
    assert_same_bits(got, ref, n * 4);
    free(got);
}
/* The tables themselves are what the gradients are added to. */
static void assert_as_the_loop(test_cl *t, problem *p) {
    const mo_cl_embedding_desc *d = &p->d;
    test_ok(mo_cl_embedding_forward(&t->cl, d, p->on_tokens, p->on_wte, p->on_wpe, p->on_y));
    test_ok(mo_cl_embedding_backward(&t->cl, d, p->on_tokens, p->on_dy, p->on_wte, p->on_wpe));
    loop(p);
    assert_bits(t, p->on_y, p->y, d->rows * d->channels);
    assert_bits(t, p->on_wte, p->wte, d->vocab * d->channels);
    assert_bits(t, p->on_wpe, p->wpe, d->seq * d->channels);
}

static void every_size_has_the_bits_of_a_loop_over_rows(void **state) {
    test_cl *t = test_cl_of(state);
    static const size_t shapes[][5] = {/* rows, seq, channels, vocab, tokens that occur */
        {1, 1, 1, 1, 1}, {1, 8, 3, 2, 2}, {7, 3, 17, 5, 5}, {64, 64, 64, 256, 256},
        {65, 32, 65, 100, 1}, {300, 100, 20, 1000, 1000}, {600, 64, 30, 90, 7}, {9, 4, 1000, 8, 4}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        const size_t *s = shapes[k];
        problem p = problem_begin(t, s[0], s[1], s[2], s[3], s[4]);
        tokens_go(t, &p);
        assert_as_the_loop(t, &p);
        problem_end(t, &p);
    }
}

static void a_token_outside_the_vocabulary_is_a_row_of_zeros(void **state) {
    test_cl *t = test_cl_of(state);
    problem p = problem_begin(t, 70, 10, 33, 6, 6);
    const int32_t bad[] = {-1, 6, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 70; i += 3) p.tokens[i] = bad[i % 4];
    tokens_go(t, &p);
    assert_as_the_loop(t, &p);
    problem_end(t, &p);
}

static void positions_need_no_table(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_mem none = {0};
    problem p = problem_begin(t, 70, 10, 33, 6, 6);
    memset(p.wpe, 0, 10 * 33 * sizeof *p.wpe);
    p.tokens[3] = 6;
    tokens_go(t, &p);
    test_ok(mo_cl_embedding_forward(&t->cl, &p.d, p.on_tokens, p.on_wte, none, p.on_y));
    loop(&p);
    assert_bits(t, p.on_y, p.y, 70 * 33);
    problem_end(t, &p);
}

static void frozen_tables_are_left_alone(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_cl_mem none = {0};
    problem p = problem_begin(t, 20, 10, 5, 6, 6);
    tokens_go(t, &p);
    test_ok(mo_cl_embedding_backward(&t->cl, &p.d, p.on_tokens, p.on_dy, none, p.on_wpe));
    assert_bits(t, p.on_wte, p.wte, 30);
    loop(&p);
    assert_bits(t, p.on_wpe, p.wpe, 50);
    test_ok(mo_cl_embedding_backward(&t->cl, &p.d, p.on_tokens, p.on_dy, p.on_wte, none));
    assert_bits(t, p.on_wte, p.wte, 30);
    problem_end(t, &p);
}

static void wrong_arguments_are_refused(void **state) {
    test_cl *t = test_cl_of(state);
    problem p = problem_begin(t, 20, 10, 5, 6, 6);
    tokens_go(t, &p);
    const mo_cl_mem none = {0};
    const mo_cl_mem tokens = p.on_tokens, wte = p.on_wte, wpe = p.on_wpe, y = p.on_y;
    mo_cl_embedding_desc bad[8];
    for (int i = 0; i < 8; i++) bad[i] = p.d;
    bad[0].seq = bad[1].channels = bad[2].vocab = 0;
    bad[3].rows++, bad[4].seq++, bad[5].vocab++;
    bad[6].rows = (size_t)1 << 33, bad[7].channels = SIZE_MAX / 4;
    for (int i = 0; i < 8; i++) {
        const mo_status status = i < 6 ? MO_E_INVALID : MO_E_OVERFLOW;
        assert_int_equal(mo_cl_embedding_forward(&t->cl, &bad[i], tokens, wte, wpe, y), status);
        assert_int_equal(mo_cl_embedding_backward(&t->cl, &bad[i], tokens, y, wte, wpe), status);
    }
    assert_int_equal(mo_cl_embedding_forward(NULL, &p.d, tokens, wte, wpe, y), MO_E_INVALID);
    assert_int_equal(mo_cl_embedding_forward(&t->cl, NULL, tokens, wte, wpe, y), MO_E_INVALID);
    assert_int_equal(mo_cl_embedding_forward(&t->cl, &p.d, none, wte, wpe, y), MO_E_INVALID);
    assert_int_equal(mo_cl_embedding_backward(&t->cl, &p.d, none, y, wte, wpe), MO_E_INVALID);
    assert_int_equal(mo_cl_embedding_backward(&t->cl, &p.d, tokens, none, wte, wpe), MO_E_INVALID);
    p.d.rows = 0;
    test_ok(mo_cl_embedding_forward(&t->cl, &p.d, tokens, wte, wpe, y));
    test_ok(mo_cl_embedding_backward(&t->cl, &p.d, tokens, y, wte, wpe));
    problem_end(t, &p);
}

/* ---- biases --------------------------------------------------------------------------------- */

static const size_t shapes[][2] = {
    {1, 1}, {2, 63}, {63, 64}, {64, 65}, {65, 17}, {130, 129}, {200, 1}, {3, 1000}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void a_bias_and_a_residual_fill_the_rows(void **state) {
    test_cl *t = test_cl_of(state);
    for (int k = 0; k < N_SHAPES; k++) {
        const size_t rows = shapes[k][0], columns = shapes[k][1], n = rows * columns;
        float *bias = test_normals(&t->rng, columns, 1), *x = test_normals(&t->rng, n, 1);
        float *ref = test_floats(n);
        const mo_cl_mem none = {0}, on_bias = test_cl_put(t, bias, columns * 4, 4);
        const mo_cl_mem on_x = test_cl_put(t, x, n * 4, 12), y = test_cl_new(t, n * 4, 8);
        test_ok(mo_cl_bias_forward(&t->cl, on_bias, none, rows, columns, y));
        for (size_t i = 0; i < n; i++) ref[i] = bias[i % columns];
        assert_bits(t, y, ref, n);
        test_ok(mo_cl_bias_forward(&t->cl, on_bias, on_x, rows, columns, y));
        for (size_t i = 0; i < n; i++) ref[i] = x[i] + bias[i % columns];
        assert_bits(t, y, ref, n);
        test_ok(mo_cl_bias_forward(&t->cl, on_bias, on_x, rows, columns, on_x));
        assert_bits(t, on_x, ref, n);
        test_cl_clear(t);
        free(bias), free(x), free(ref);
    }
}

/* The rows in chunks of 64, as the device adds them; without a workspace in one. */
static void sums_of_columns_have_the_bits_of_a_loop(void **state) {
    test_cl *t = test_cl_of(state);
    for (int k = 0; k < 2 * N_SHAPES; k++) {
        const size_t rows = shapes[k / 2][0], columns = shapes[k / 2][1];
        float *dy = test_normals(&t->rng, rows * columns, 1);
        float *sum = test_normals(&t->rng, columns, 1);
        const mo_cl_mem on_dy = test_cl_put(t, dy, rows * columns * 4, 4);
        const mo_cl_mem on_sum = test_cl_put(t, sum, columns * 4, 12);
        const size_t bytes = mo_cl_bias_workspace_size(&t->cl, rows, columns);
        const size_t chunk = k % 2 ? 64 : rows;
        mo_cl_mem workspace = {0};
        assert_int_equal(bytes, rows <= 64 ? 0 : (rows + 63) / 64 * columns * 4);
        if (k % 2 && bytes) workspace = test_cl_new(t, bytes, 4);
        test_ok(mo_cl_bias_backward(&t->cl, on_dy, rows, columns, on_sum, workspace));
        for (size_t i = 0; i < columns; i++) {
            float total = 0;
            for (size_t begin = 0; begin < rows; begin += chunk) {
                float part = 0;
                for (size_t row = begin; row < rows && row < begin + chunk; row++)
                    part += dy[row * columns + i];
                total += part;
            }
            sum[i] += total;
        }
        assert_bits(t, on_sum, sum, columns);
        test_cl_clear(t);
        free(dy), free(sum);
    }
}

static void wrong_biases_are_refused(void **state) {
    test_cl *t = test_cl_of(state);
    float x[600] = {0};
    mo_cl_mem a = test_cl_put(t, x, sizeof x, 0), b = test_cl_put(t, x, 12, 0), none = {0};
    assert_int_equal(mo_cl_bias_forward(&t->cl, b, none, 201, 3, a), MO_E_INVALID);
    assert_int_equal(mo_cl_bias_forward(&t->cl, b, b, 200, 3, a), MO_E_INVALID);
    assert_int_equal(mo_cl_bias_forward(&t->cl, none, a, 200, 3, a), MO_E_INVALID);
    assert_int_equal(mo_cl_bias_forward(&t->cl, a, a, 3, 0, a), MO_E_INVALID);
    assert_int_equal(mo_cl_bias_forward(NULL, b, a, 3, 3, a), MO_E_INVALID);
    assert_int_equal(mo_cl_bias_forward(&t->cl, b, a, SIZE_MAX, 3, a), MO_E_OVERFLOW);
    assert_int_equal(mo_cl_bias_backward(&t->cl, a, 200, 3, b, b), MO_E_NO_SPACE);
    assert_int_equal(mo_cl_bias_backward(&t->cl, a, 200, 3, none, none), MO_E_INVALID);
    assert_int_equal(mo_cl_bias_backward(&t->cl, a, 201, 3, b, none), MO_E_INVALID);
    assert_int_equal(mo_cl_bias_backward(NULL, a, 200, 3, b, none), MO_E_INVALID);
    assert_int_equal(mo_cl_bias_backward(&t->cl, a, SIZE_MAX, 3, b, none), MO_E_OVERFLOW);
    assert_int_equal(mo_cl_bias_workspace_size(NULL, 200, 3), 0);
    test_ok(mo_cl_bias_backward(&t->cl, a, 0, 3, b, none));
    test_ok(mo_cl_bias_forward(&t->cl, b, none, 0, 3, a));
    test_cl_clear(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_has_the_bits_of_a_loop_over_rows),
        cmocka_unit_test(a_token_outside_the_vocabulary_is_a_row_of_zeros),
        cmocka_unit_test(positions_need_no_table),
        cmocka_unit_test(frozen_tables_are_left_alone),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(a_bias_and_a_residual_fill_the_rows),
        cmocka_unit_test(sums_of_columns_have_the_bits_of_a_loop),
        cmocka_unit_test(wrong_biases_are_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
