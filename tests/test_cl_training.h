/* test_cl_training.h - the operations of a training step for test_cl_faults.c: each uploads what it
 * needs, runs, and looks at what came out. Small, since each runs some hundred times. */
#ifndef TEST_CL_TRAINING_H
#define TEST_CL_TRAINING_H

enum { ROWS = 16, WIDTH = 32, HEADS = 2, VOCAB = 24, CELLS = ROWS * WIDTH };

/* Sums have another order than on the CPU. */
static void assert_near(const float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++) assert_float_equal(x[i], y[i], 1e-4f);
}

static mo_status put_floats(work *w, const float *x, size_t n, mo_cl_mem *mem) {
    return put(w, x, n * sizeof *x, mem);
}
static mo_status get_floats(work *w, const mo_cl_mem *mem, float *x, size_t n) {
    return get(w, mem, x, n * sizeof *x);
}

static mo_status step_norm_and_gelu(work *w) {
    float mean[ROWS], rstd[ROWS], dweight[WIDTH] = {0}, dbias[WIDTH] = {0};
    float y[CELLS], dx[CELLS], got[CELLS];
    mo_cl_mem x, dy, out;
    mo_cl_layernorm_desc d = {.n = ROWS, .channels = WIDTH};
    const mo_layernorm_desc cpu = {.n = ROWS,
        .channels = WIDTH,
        .weight = other,
        .bias = other + WIDTH,
        .mean = mean,
        .rstd = rstd,
        .dweight = dweight,
        .dbias = dbias};
    OR_RETURN(put_floats(w, input, CELLS, &x));
    OR_RETURN(put_floats(w, other, CELLS, &dy));
    OR_RETURN(put_floats(w, input, CELLS, &out));
    OR_RETURN(put_floats(w, other, WIDTH, &d.weight));
    OR_RETURN(put_floats(w, other + WIDTH, WIDTH, &d.bias));
    OR_RETURN(put_floats(w, mean, ROWS, &d.mean));
    OR_RETURN(put_floats(w, rstd, ROWS, &d.rstd));
    OR_RETURN(put_floats(w, dweight, WIDTH, &d.dweight));
    OR_RETURN(put_floats(w, dbias, WIDTH, &d.dbias));
    OR_RETURN(mo_cl_layernorm_forward(&w->cl, &d, x, out));
    OR_RETURN(mo_cl_gelu_forward(&w->cl, out, out, CELLS));
    OR_RETURN(get_floats(w, &out, got, CELLS));
    test_ok(mo_layernorm_forward(&cpu, input, y));
    mo_gelu_forward(y, y, CELLS, NULL);
    assert_near(got, y, CELLS);
    OR_RETURN(mo_cl_layernorm_backward(&w->cl, &d, x, dy, out));
    OR_RETURN(get_floats(w, &out, got, CELLS));
    test_ok(mo_layernorm_backward(&cpu, input, other, dx));
    assert_near(got, dx, CELLS);
    return MO_OK;
}

static mo_status step_linear(work *w) {
    float y[CELLS], got[CELLS];
    mo_cl_mem x, weight, bias, out;
    const mo_cl_gemm_env env = {.cl = &w->cl, .use = MO_CL_GEMM_OWN};
    const mo_gemm_desc d = {.m = ROWS, .n = WIDTH, .k = WIDTH, .beta = 1};
    OR_RETURN(put_floats(w, input, CELLS, &x));
    OR_RETURN(put_floats(w, other, WIDTH * WIDTH, &weight));
    OR_RETURN(put_floats(w, input + CELLS, WIDTH, &bias));
    OR_RETURN(put_floats(w, input, CELLS, &out));
    OR_RETURN(mo_cl_bias_forward(&w->cl, bias, (mo_cl_mem){0}, ROWS, WIDTH, out));
    OR_RETURN(mo_cl_gemm(&env, &d, x, weight, out));
    OR_RETURN(mo_cl_bias_backward(&w->cl, x, ROWS, WIDTH, bias, (mo_cl_mem){0}));
    OR_RETURN(get_floats(w, &out, got, CELLS));
    for (size_t i = 0; i < CELLS; i++) {
        double sum = input[CELLS + i % WIDTH];
        for (size_t k = 0; k < WIDTH; k++)
            sum += (double)input[i / WIDTH * WIDTH + k] * (double)other[k * WIDTH + i % WIDTH];
        y[i] = (float)sum;
    }
    assert_near(got, y, CELLS);
    return MO_OK;
}

static mo_status step_attention(work *w) {
    float out[CELLS], lse[ROWS * HEADS], got[CELLS];
    mo_cl_attention_desc d = {.batch = 1, .seq = ROWS, .heads = HEADS, .head_size = WIDTH / HEADS};
    mo_cl_attention_tensors t;
    mo_attention_desc cpu = {.batch = 1, .seq = ROWS, .heads = HEADS, .head_size = WIDTH / HEADS};
    const mo_attention_tensors same = {
        .q = input, .k = other, .v = input + CELLS, .out = out, .lse = lse};
    memset(&t, 0, sizeof t);
    OR_RETURN(put_floats(w, input, CELLS, &t.q));
    OR_RETURN(put_floats(w, other, CELLS, &t.k));
    OR_RETURN(put_floats(w, input + CELLS, CELLS, &t.v));
    OR_RETURN(put_floats(w, input, CELLS, &t.out));
    OR_RETURN(put_floats(w, input, ROWS * HEADS, &t.lse));
    OR_RETURN(put_floats(w, other + CELLS, CELLS, &t.dout));
    OR_RETURN(put_floats(w, input, CELLS, &t.dq));
    OR_RETURN(put_floats(w, input, CELLS, &t.dk));
    OR_RETURN(put_floats(w, input, CELLS, &t.dv));
    OR_RETURN(put(w, input, mo_cl_attention_workspace_size(&d), &d.workspace));
    OR_RETURN(mo_cl_attention_forward(&w->cl, &d, &t));
    OR_RETURN(mo_cl_attention_backward(&w->cl, &d, &t));
    OR_RETURN(get_floats(w, &t.out, got, CELLS));
    cpu.workspace_size = mo_attention_workspace_size(&cpu);
    cpu.workspace = mo_alloc(NULL, cpu.workspace_size, 64);
    test_ok(mo_attention_forward(&cpu, &same));
    mo_free(NULL, cpu.workspace, cpu.workspace_size, 64);
    assert_near(got, out, CELLS);
    return MO_OK;
}

static mo_status step_loss(work *w) {
    int32_t tokens[ROWS];
    double loss = 0, expected_loss = 0;
    const mo_cl_gemm_env env = {.cl = &w->cl, .use = MO_CL_GEMM_OWN};
    mo_cl_linear_ce_desc d = {.rows = ROWS, .channels = WIDTH, .vocab = VOCAB, .env = &env};
    const mo_cl_embedding_desc e = {.rows = ROWS, .seq = ROWS, .channels = WIDTH, .vocab = VOCAB};
    mo_cl_linear_ce_tensors t;
    mo_cl_mem wpe;
    for (int i = 0; i < ROWS; i++) tokens[i] = i * 7 % VOCAB;
    memset(&t, 0, sizeof t);
    OR_RETURN(put(w, tokens, sizeof tokens, &t.targets));
    OR_RETURN(put_floats(w, other, CELLS, &wpe));
    OR_RETURN(put_floats(w, other, CELLS, &t.x));
    OR_RETURN(put_floats(w, input, VOCAB * WIDTH, &t.w));
    OR_RETURN(put_floats(w, input, ROWS, &t.losses));
    OR_RETURN(put_floats(w, input, CELLS, &t.dx));
    OR_RETURN(put_floats(w, input, VOCAB * WIDTH, &t.dw));
    OR_RETURN(put_floats(w, input, ROWS * VOCAB, &d.workspace));
    OR_RETURN(mo_cl_embedding_forward(&w->cl, &e, t.targets, t.w, wpe, t.x));
    OR_RETURN(mo_cl_linear_ce(&d, &t, &loss));
    OR_RETURN(mo_cl_embedding_backward(&w->cl, &e, t.targets, t.dx, t.dw, wpe));
    for (int r = 0; r < ROWS; r++) {
        double sum = 0, target = 0;
        for (int v = 0; v < VOCAB; v++) {
            double logit = 0;
            for (int i = 0; i < WIDTH; i++)
                logit += ((double)input[tokens[r] * WIDTH + i] + (double)other[r * WIDTH + i]) *
                    (double)input[v * WIDTH + i];
            sum += exp(logit);
            if (v == tokens[r]) target = logit;
        }
        expected_loss += (log(sum) - target) / ROWS;
    }
    assert_float_equal(loss, expected_loss, 1e-3);
    return MO_OK;
}

static mo_status step_optim(work *w) {
    enum { SIZE = 3 * 4096 };
    mo_optim_desc d = {.precision = MO_OPTIM_8BIT, .lr = 0.01, .min_8bit_size = 1};
    static char memory[SIZE], zero[SIZE];
    mo_optim_state state;
    mo_cl_optim_state on;
    mo_cl_mem param, grad, block;
    double norm = 0;
    const size_t size = mo_optim_state_size(&d, N);
    assert_true(size <= SIZE);
    OR_RETURN(put(w, input, BYTES, &param));
    OR_RETURN(put(w, other, BYTES, &grad));
    OR_RETURN(put(w, zero, size, &block));
    OR_RETURN(mo_cl_accum_square_sum(&w->cl, grad, N, &norm));
    assert_true(norm == mo_accum_square_sum(other, N, NULL));
    OR_RETURN(mo_cl_optim_state_init(&w->cl, &d, N, block, &on));
    OR_RETURN(mo_cl_optim_step(&w->cl, &d, 1, param, grad, &on));
    OR_RETURN(get(w, &param, result, BYTES));
    memcpy(expected, input, BYTES);
    test_ok(mo_optim_state_init(&d, N, memory, size, &state));
    test_ok(mo_optim_step(&d, 1, expected, other, &state));
    assert_memory_equal(result, expected, BYTES);
    return MO_OK;
}

#endif
