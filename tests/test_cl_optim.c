/* test_cl_optim.c - optimizer steps on a device, against those of mo_optim.h: the same bits in
 * parameters and states. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"
#include "test_optim.h"

/* A tensor of the host, and one of the device that should be the same. */
typedef struct twins {
    test_cl *t;
    tensor host;
    mo_cl_mem param, grad, block;
    mo_cl_optim_state state;
} twins;

/* Parameters: fp32, bf16, bf16 with a master copy. */
enum { PLAIN, HALF, MASTER, N_TYPES };

static size_t param_bytes(const twins *w) {
    return w->host.n * (w->host.half ? sizeof(uint16_t) : sizeof(float));
}
static void *param_data(const twins *w) {
    return w->host.half ? (void *)w->host.half : (void *)w->host.param;
}

static twins twins_begin(test_cl *t, mo_optim_desc d, int type, size_t n) {
    twins w;
    w.t = t;
    d.master = type == MASTER;
    d.seed = 0x0123456789abcdefu;
    w.host = type == PLAIN ? tensor_begin(&t->rng, d, n) : tensor_begin_half(&t->rng, d, n);
    w.param = test_cl_put(t, param_data(&w), param_bytes(&w), 12);
    w.grad = test_cl_new(t, n * sizeof(float), 4);
    w.block = test_cl_new(t, w.host.size, 8);
    test_ok(mo_cl_optim_state_init(&t->cl, &d, n, w.block, &w.state));
    if (type == MASTER) test_ok(mo_cl_optim_master_init(&t->cl, &w.state, w.param));
    return w;
}
static void twins_end(twins *w) {
    tensor_end(&w->host);
    test_cl_clear(w->t);
}

static void put_grad(const twins *w) {
    test_ok(mo_cl_upload(&w->t->heap, MO_CL_COMPUTE, &w->grad, 0, w->host.grad,
        w->host.n * sizeof(float), NULL, NULL));
}
static mo_status cl_step(const twins *w, uint64_t at) {
    mo_cl *cl = &w->t->cl;
    if (w->host.half)
        return mo_cl_optim_step_bf16(cl, &w->host.d, at, w->param, w->grad, &w->state);
    return mo_cl_optim_step(cl, &w->host.d, at, w->param, w->grad, &w->state);
}
static void both_step(twins *w, uint64_t at) {
    put_grad(w);
    step(&w->host, at);
    test_ok(cl_step(w, at));
}

/* Where two arrays differ first. */
static void same_or_say(const twins *w, const char *what, const void *got, const void *want,
    size_t bytes, uint64_t at) {
    const unsigned char *a = got, *b = want;
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i])
            fail_msg("%s %s, %s parameters%s, n %zu, step %u: %s differs at byte %zu of %zu",
                test_kind_name(w->host.d.kind), test_precision_name(w->host.state.precision),
                w->host.half ? "bf16" : "fp32", w->host.d.master ? " with master" : "", w->host.n,
                (unsigned)at, what, i, bytes);
}
static void assert_twins(const twins *w, uint64_t at) {
    void *param = test_array(param_bytes(w), 1), *block = test_array(w->host.size, 1);
    test_cl_get(w->t, w->param, param, param_bytes(w));
    test_cl_get(w->t, w->block, block, w->host.size);
    same_or_say(w, "the parameter", param, param_data(w), param_bytes(w), at);
    same_or_say(w, "the state", block, w->host.memory, w->host.size, at);
    free(param), free(block);
}

/* New gradients of sizes that differ by far from number to number; some are zero. */
static void new_gradients(twins *w, double spread) {
    test_rng *r = &w->t->rng;
    for (size_t i = 0; i < w->host.n; i++) {
        const double size = pow(10, -spread * test_uniform(r));
        w->host.grad[i] = i % 7 == 3 ? 0.0f : test_normal(r) * 0.1f * (float)size;
    }
}

static void steps_agree(test_cl *t, mo_optim_desc d, int type, size_t n, uint64_t steps) {
    twins w = twins_begin(t, d, type, n);
    assert_twins(&w, 0);
    for (uint64_t at = 1; at <= steps; at++) {
        new_gradients(&w, at % 2 ? 0 : 4);
        both_step(&w, at);
        assert_twins(&w, at);
    }
    twins_end(&w);
}

static mo_optim_desc whole_desc(mo_optim_kind kind, mo_optim_precision precision, size_t columns) {
    mo_optim_desc d = decayed(kind, precision);
    d.columns = columns;
    return d;
}

/* ---- every kind, precision and type of parameters ------------------------------------------ */

/* Each kind with each precision, and with each type of parameters; with TEST_CL_FULL all of these
 * with one another, more than a hundred programs to compile. */
static void steps_have_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (int i = 0; i < N_DESCS; i++)
        for (int type = 0; type < N_TYPES; type++) {
            if ((type + i) % N_TYPES != 0 && !getenv("TEST_CL_FULL")) continue;
            steps_agree(t, nth_desc(i), type, test_cl_small() ? 300 : 5 * 256 + 76, 3);
        }
}

static void sizes_may_be_ragged(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_optim_desc all[] = {decayed(MO_OPTIM_ADAMW, MO_OPTIM_F32),
        decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT), decayed(MO_OPTIM_ADAMW, MO_OPTIM_4BIT)};
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < sizeof test_cl_sizes / sizeof *test_cl_sizes; i++)
            if (!test_cl_small() || test_cl_sizes[i] < 300)
                steps_agree(t, all[k], PLAIN, test_cl_sizes[i], 2);
}

static void blocks_may_have_any_size(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t blocks[] = {64, 512, 4096};
    for (size_t i = 0; i < (test_cl_small() ? 1u : 3u); i++) {
        mo_optim_desc d = decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT);
        d.block = blocks[i];
        steps_agree(t, d, PLAIN, 5 * blocks[i] + 37, 2);
        d.precision = MO_OPTIM_4BIT;
        steps_agree(t, d, PLAIN, 5 * blocks[i] + 37, 2);
    }
}

static void plain_v_has_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_optim_kind kinds[] = {MO_OPTIM_ADAMW, MO_OPTIM_RMSPROP, MO_OPTIM_ADAGRAD};
    for (size_t i = 0; i < 3; i++) {
        mo_optim_desc d = decayed(kinds[i], MO_OPTIM_8BIT);
        d.plain_v = 1;
        steps_agree(t, d, PLAIN, 1003, 3);
    }
}

/* Rows shorter and longer than what a team, a piece and a tile take. */
static void rows_and_columns_may_have_any_size(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t shapes[][2] = {
        {1, 1}, {1, 5}, {200, 3}, {70, 17}, {5, 1025}, {2, 2100}, {3, 16390}};
    for (int turn = 0; test_cl_next_double(t, &turn); turn++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            const size_t n = shapes[i][0] * shapes[i][1], columns = shapes[i][1];
            if (test_cl_small() && n > 1000) continue;
            steps_agree(t, whole_desc(MO_OPTIM_ADAM_MINI, MO_OPTIM_F32, columns), PLAIN, n, 2);
            steps_agree(t, whole_desc(MO_OPTIM_ADAFACTOR, MO_OPTIM_F32, columns), PLAIN, n, 2);
        }
}

static void sums_of_whole_kinds_need_no_double(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t n = test_cl_small() ? 300 : 70000;
    for (int turn = 0; test_cl_next_double(t, &turn); turn++) {
        steps_agree(t, whole_desc(MO_OPTIM_LAMB, MO_OPTIM_F32, 0), PLAIN, n, 3);
        steps_agree(t, whole_desc(MO_OPTIM_LAMB, MO_OPTIM_8BIT, 0), PLAIN, n, 3);
        steps_agree(t, whole_desc(MO_OPTIM_LARS, MO_OPTIM_F32, 0), PLAIN, n, 3);
        steps_agree(t, whole_desc(MO_OPTIM_ADAFACTOR, MO_OPTIM_F32, 0), PLAIN, n, 3);
    }
}

/* Channels that are columns, and rows; ranks, tiles and pieces that are not whole, several strips
 * of scratch, directions found again at step 3. */
static void low_rank_kinds_have_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    static const size_t shapes[][3] = {
        {20, 50, 5}, {50, 20, 3}, {70, 41, 33}, {8, 10001, 8}, {300, 4, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int kind = MO_OPTIM_APOLLO; kind <= MO_OPTIM_GALORE; kind++) {
            const size_t n = shapes[i][0] * shapes[i][1];
            if (test_cl_small() && n > 1000) continue;
            mo_optim_desc d = whole_desc(
                (mo_optim_kind)kind, i == 2 ? MO_OPTIM_8BIT : MO_OPTIM_F32, shapes[i][1]);
            d.rank = shapes[i][2];
            d.interval = 2;
            d.grad_scale = -0.37;
            steps_agree(t, d, i == 0 ? HALF : PLAIN, n, 3);
        }
}

/* ---- gradients ------------------------------------------------------------------------------ */

static void zero_gradients_change_what_they_do_on_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (int i = 0; i < N_DESCS; i++) {
        const mo_optim_desc d = nth_desc(i);
        if (i % N_TYPES != 0) continue; /* programs that are there */
        twins w = twins_begin(t, d, PLAIN, 700);
        memset(w.host.grad, 0, 700 * sizeof(float));
        for (uint64_t at = 1; at <= 2; at++) both_step(&w, at);
        assert_twins(&w, 2);
        twins_end(&w);
    }
}

static void gradients_that_are_not_finite_leave_things_alone(void **state) {
    test_cl *t = test_cl_of(state);
    const float bad[] = {HUGE_VALF, -HUGE_VALF, test_float(0x7fc00000), 1e30f, -3e38f, 1.9e19f};
    for (int i = 0; i < N_DESCS; i++)
        for (size_t k = 0; k < 6; k++) {
            if (i % N_TYPES != 0 || (test_cl_small() && k != 0)) continue;
            twins w = twins_begin(t, nth_desc(i), PLAIN, 700);
            for (uint64_t at = 1; at <= 3; at++) {
                new_gradients(&w, 2);
                if (at == 2) w.host.grad[5] = w.host.grad[300] = bad[k];
                both_step(&w, at);
            }
            assert_twins(&w, 3);
            twins_end(&w);
        }
}

/* ---- what a desc can say -------------------------------------------------------------------- */

static void settings_mean_the_same(void **state) {
    test_cl *t = test_cl_of(state);
    mo_optim_desc d = decayed(MO_OPTIM_ADEMAMIX, MO_OPTIM_F32);
    d.warmup = 3;
    steps_agree(t, d, PLAIN, 333, 5);
    d = decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT);
    d.grad_scale = -0.37;
    d.weight_decay = 0.3;
    d.beta1 = 0.8, d.beta2 = 0.95, d.epsilon = 1e-4;
    steps_agree(t, d, PLAIN, 333, 3);
    d = decayed(MO_OPTIM_SGD, MO_OPTIM_F32);
    d.beta1 = 0;
    steps_agree(t, d, PLAIN, 333, 2);
    d = whole_desc(MO_OPTIM_LARS, MO_OPTIM_F32, 0);
    d.grad_scale = -0.37;
    steps_agree(t, d, PLAIN, 333, 2);
    d = whole_desc(MO_OPTIM_ADAM_MINI, MO_OPTIM_F32, 37);
    d.grad_scale = -0.37;
    steps_agree(t, d, PLAIN, 333, 2);
    d = whole_desc(MO_OPTIM_ADAFACTOR, MO_OPTIM_F32, 37);
    d.lr = 0;
    steps_agree(t, d, MASTER, 333, 2);
    d.lr = 0.1, d.trust = 0.01;
    steps_agree(t, d, MASTER, 333, 2);
}

static void momentum_starts_anew_at_step_1(void **state) {
    test_cl *t = test_cl_of(state);
    twins w = twins_begin(t, decayed(MO_OPTIM_SGD, MO_OPTIM_F32), PLAIN, 100);
    const uint64_t steps[] = {1, 2, 1, 2};
    for (size_t i = 0; i < 4; i++) {
        new_gradients(&w, 1);
        both_step(&w, steps[i]);
    }
    assert_twins(&w, 2);
    twins_end(&w);
}

static void small_tensors_keep_fp32_states(void **state) {
    test_cl *t = test_cl_of(state);
    mo_optim_desc d = decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT);
    d.min_8bit_size = 0;
    twins w = twins_begin(t, d, PLAIN, 4095);
    assert_int_equal(w.state.precision, MO_OPTIM_F32);
    twins_end(&w);
    steps_agree(t, d, PLAIN, 300, 2);
}

/* ---- slices and moves ----------------------------------------------------------------------- */

static void slices_add_up_to_the_whole(void **state) {
    test_cl *t = test_cl_of(state);
    const mo_optim_desc all[] = {decayed(MO_OPTIM_ADAMW, MO_OPTIM_F32),
        decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT), decayed(MO_OPTIM_SGD, MO_OPTIM_BF16),
        decayed(MO_OPTIM_ADAMW, MO_OPTIM_4BIT)};
    const size_t cuts[] = {0, 256, 768, 1024, 1201};
    const int types[] = {MASTER, PLAIN, HALF, PLAIN};
    for (size_t i = 0; i < 4; i++) {
        twins w = twins_begin(t, all[i], types[i], 1201);
        const size_t width = param_bytes(&w) / w.host.n;
        w.host.state.offset = w.state.offset = 0xfffffe00u; /* noise of two keys */
        for (uint64_t at = 1; at <= 2; at++) {
            new_gradients(&w, 2);
            put_grad(&w);
            step(&w.host, at);
            for (size_t k = 0; k + 1 < sizeof cuts / sizeof *cuts; k++) {
                twins part = w;
                const size_t begin = cuts[k], n = cuts[k + 1] - begin;
                test_ok(mo_cl_optim_state_slice(&w.state, begin, n, &part.state));
                part.param = mo_cl_part(&w.param, begin * width, n * width);
                part.grad = mo_cl_part(&w.grad, begin * sizeof(float), n * sizeof(float));
                test_ok(cl_step(&part, at));
            }
            assert_twins(&w, at);
        }
        twins_end(&w);
    }
}

static void slices_that_cannot_be_are_refused(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_optim_state slice;
    twins w = twins_begin(t, decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT), PLAIN, 1000);
    assert_int_equal(mo_cl_optim_state_slice(&w.state, 1, 256, &slice), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_state_slice(&w.state, 0, 100, &slice), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_state_slice(&w.state, 512, 489, &slice), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_state_slice(&w.state, 0, 256, NULL), MO_E_INVALID);
    test_ok(mo_cl_optim_state_slice(&w.state, 768, 232, &slice));
    assert_int_equal(slice.offset, 768);
    twins_end(&w);
    w = twins_begin(t, whole_desc(MO_OPTIM_ADAFACTOR, MO_OPTIM_F32, 10), PLAIN, 1000);
    assert_int_equal(mo_cl_optim_state_slice(&w.state, 0, 500, &slice), MO_E_UNSUPPORTED);
    twins_end(&w);
}

/* A run that changes the machine in the middle, and back. */
static void a_state_can_move_between_host_and_device(void **state) {
    test_cl *t = test_cl_of(state);
    for (int i = 0; i < N_DESCS; i++) {
        const int type = i % 2 ? PLAIN : MASTER;
        if ((type + i) % N_TYPES != 0) continue; /* programs that are there */
        twins w = twins_begin(t, nth_desc(i), type, 780);
        tensor alone = tensor_copy(&w.host);
        for (uint64_t at = 1; at <= 6; at++) {
            new_gradients(&w, 2);
            memcpy(alone.grad, w.host.grad, 780 * sizeof(float));
            step(&alone, at);
            if (at == 3) {
                test_ok(mo_cl_optim_state_write(&t->cl, &w.host.state, &w.state));
                test_ok(mo_cl_upload(&t->heap, MO_CL_COMPUTE, &w.param, 0, param_data(&w),
                    param_bytes(&w), NULL, NULL));
            }
            put_grad(&w);
            if (at < 3 || at > 4) step(&w.host, at);
            else test_ok(cl_step(&w, at));
            if (at == 4) {
                memset(w.host.memory, 0xee, 4);
                test_ok(mo_cl_optim_state_read(&t->cl, &w.state, &w.host.state));
                test_cl_get(t, w.param, param_data(&w), param_bytes(&w));
            }
        }
        assert_same_bits(w.host.memory, alone.memory, alone.size);
        assert_same_bits(
            param_data(&w), alone.half ? (void *)alone.half : (void *)alone.param, param_bytes(&w));
        tensor_end(&alone);
        twins_end(&w);
    }
}

static void attaching_to_a_state_finds_it(void **state) {
    test_cl *t = test_cl_of(state);
    twins w = twins_begin(t, decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT), PLAIN, 1000);
    new_gradients(&w, 2);
    both_step(&w, 1);
    memset(&w.state, 0xee, sizeof w.state);
    test_ok(mo_cl_optim_state_attach(&w.host.d, 1000, w.block, &w.state));
    assert_twins(&w, 1);
    both_step(&w, 2);
    assert_twins(&w, 2);
    const mo_cl_mem less = mo_cl_part(&w.block, 0, w.host.size - 1);
    assert_int_equal(mo_cl_optim_state_attach(&w.host.d, 1000, less, &w.state), MO_E_NO_SPACE);
    assert_int_equal(mo_cl_optim_state_attach(&w.host.d, 1000, w.block, NULL), MO_E_INVALID);
    twins_end(&w);
}

static void states_of_another_shape_do_not_move(void **state) {
    test_cl *t = test_cl_of(state);
    twins w = twins_begin(t, decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT), PLAIN, 1000);
    mo_optim_state host = w.host.state;
    host.n = 999;
    assert_int_equal(mo_cl_optim_state_write(&t->cl, &host, &w.state), MO_E_INVALID);
    host = w.host.state;
    host.block = 512;
    assert_int_equal(mo_cl_optim_state_write(&t->cl, &host, &w.state), MO_E_INVALID);
    host = w.host.state;
    host.v = NULL;
    assert_int_equal(mo_cl_optim_state_read(&t->cl, &w.state, &host), MO_E_INVALID);
    host = w.host.state;
    host.precision = MO_OPTIM_BF16;
    assert_int_equal(mo_cl_optim_state_read(&t->cl, &w.state, &host), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_state_read(&t->cl, &w.state, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_state_read(NULL, &w.state, &host), MO_E_INVALID);
    twins_end(&w);
}

/* ---- arguments ------------------------------------------------------------------------------ */

static void states_that_cannot_be_are_refused(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl *cl = &t->cl;
    mo_cl_optim_state s;
    const mo_cl_mem none = {0}, block = test_cl_new(t, 20000, 0);
    const mo_cl_mem odd = mo_cl_part(&block, 2, 16000), less = mo_cl_part(&block, 0, 2100);
    mo_optim_desc d = decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT);
    assert_int_equal(mo_cl_optim_state_init(NULL, &d, 1000, block, &s), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_state_init(cl, NULL, 1000, block, &s), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_state_init(cl, &d, 1000, none, &s), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_state_init(cl, &d, 1000, odd, &s), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_state_init(cl, &d, 1000, block, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_state_init(cl, &d, 1000, less, &s), MO_E_NO_SPACE);
    assert_int_equal(mo_cl_optim_state_init(cl, &d, SIZE_MAX, block, &s), MO_E_OVERFLOW);
    d.block = 100;
    assert_int_equal(mo_cl_optim_state_init(cl, &d, 1000, block, &s), MO_E_INVALID);
    d = decayed(MO_OPTIM_SGD, MO_OPTIM_4BIT);
    assert_int_equal(mo_cl_optim_state_init(cl, &d, 1000, block, &s), MO_E_UNSUPPORTED);
    d = whole_desc(MO_OPTIM_ADAFACTOR, MO_OPTIM_F32, 7);
    assert_int_equal(mo_cl_optim_state_init(cl, &d, 1000, block, &s), MO_E_INVALID);
    test_cl_clear(t);
}

static void steps_that_cannot_be_are_refused(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl *cl = &t->cl;
    twins w = twins_begin(t, decayed(MO_OPTIM_ADAMW, MO_OPTIM_F32), PLAIN, 100);
    const mo_cl_mem none = {0}, less = mo_cl_part(&w.param, 0, 396);
    mo_optim_desc d = w.host.d, other = decayed(MO_OPTIM_SGD, MO_OPTIM_F32);
    put_grad(&w);
    assert_int_equal(mo_cl_optim_step(NULL, &d, 1, w.param, w.grad, &w.state), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_step(cl, NULL, 1, w.param, w.grad, &w.state), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_step(cl, &d, 0, w.param, w.grad, &w.state), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_step(cl, &d, 1, none, w.grad, &w.state), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_step(cl, &d, 1, less, w.grad, &w.state), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_step(cl, &d, 1, w.param, none, &w.state), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_step(cl, &d, 1, w.param, less, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_step(cl, &other, 1, w.param, w.grad, &w.state), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_step_bf16(cl, &d, 1, none, w.grad, &w.state), MO_E_INVALID);
    assert_int_equal(mo_cl_optim_master_init(cl, &w.state, w.param), MO_E_INVALID);
    d.beta1 = 1;
    assert_int_equal(mo_cl_optim_step(cl, &d, 1, w.param, w.grad, &w.state), MO_E_INVALID);
    assert_twins(&w, 0);
    twins_end(&w);
}

/* ---- mezo ----------------------------------------------------------------------------------- */

/* Into another array, in place, and a step; with and without a grid, over the end of an upper
 * half of the index. */
static void mezo_has_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (int grid = 0; grid < 2; grid++)
        for (size_t i = 0; i < sizeof test_cl_sizes / sizeof *test_cl_sizes; i++) {
            const size_t n = test_cl_sizes[i], bytes = n * sizeof(float);
            if (test_cl_small() && n > 300) break;
            mo_mezo_desc d;
            memset(&d, 0, sizeof d);
            d.seed = 99, d.offset = 0xfffffff0u, d.lr = 1e-3, d.weight_decay = 0.1;
            d.grid = grid ? 0x1p-20 : 0;
            float *x = test_normals(&t->rng, n, 1), *y = test_floats(n), *got = test_floats(n);
            mo_cl_mem on_x = test_cl_put(t, x, bytes, 4), on_y = test_cl_new(t, bytes, 12);
            test_ok(mo_mezo_perturb(&d, 3, 1, x, y, n));
            test_ok(mo_mezo_perturb(&d, 3, -2, y, y, n));
            test_ok(mo_mezo_step(&d, 3, -0.3, y, n));
            test_ok(mo_mezo_step(&d, 4, (double)NAN, y, n));
            test_ok(mo_cl_mezo_perturb(&t->cl, &d, 3, 1, on_x, on_y, n));
            test_ok(mo_cl_mezo_perturb(&t->cl, &d, 3, -2, on_y, on_y, n));
            test_ok(mo_cl_mezo_step(&t->cl, &d, 3, -0.3, on_y, n));
            test_ok(mo_cl_mezo_step(&t->cl, &d, 4, (double)NAN, on_y, n));
            test_cl_get(t, on_y, got, bytes);
            assert_same_bits(got, y, bytes);
            test_cl_get(t, on_x, got, bytes);
            assert_same_bits(got, x, bytes);
            free(x), free(y), free(got);
            test_cl_clear(t);
        }
}

static void mezo_calls_that_cannot_be_are_refused(void **state) {
    test_cl *t = test_cl_of(state);
    float x[8] = {0};
    mo_cl_mem on_x = test_cl_put(t, x, sizeof x, 4), none = {0};
    mo_mezo_desc d;
    memset(&d, 0, sizeof d);
    assert_int_equal(mo_cl_mezo_perturb(NULL, &d, 1, 1, on_x, on_x, 8), MO_E_INVALID);
    assert_int_equal(mo_cl_mezo_perturb(&t->cl, NULL, 1, 1, on_x, on_x, 8), MO_E_INVALID);
    assert_int_equal(mo_cl_mezo_perturb(&t->cl, &d, 1, 1, on_x, none, 8), MO_E_INVALID);
    assert_int_equal(mo_cl_mezo_perturb(&t->cl, &d, 1, 1, on_x, on_x, 9), MO_E_INVALID);
    assert_int_equal(mo_cl_mezo_step(&t->cl, &d, 0, 1, on_x, 8), MO_E_INVALID);
    assert_int_equal(mo_cl_mezo_step(&t->cl, &d, 1, 1, none, 8), MO_E_INVALID);
    test_cl_clear(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_have_the_bits_of_the_cpu),
        cmocka_unit_test(sizes_may_be_ragged),
        cmocka_unit_test(blocks_may_have_any_size),
        cmocka_unit_test(plain_v_has_the_bits_of_the_cpu),
        cmocka_unit_test(rows_and_columns_may_have_any_size),
        cmocka_unit_test(sums_of_whole_kinds_need_no_double),
        cmocka_unit_test(low_rank_kinds_have_the_bits_of_the_cpu),
        cmocka_unit_test(zero_gradients_change_what_they_do_on_the_cpu),
        cmocka_unit_test(gradients_that_are_not_finite_leave_things_alone),
        cmocka_unit_test(settings_mean_the_same),
        cmocka_unit_test(momentum_starts_anew_at_step_1),
        cmocka_unit_test(small_tensors_keep_fp32_states),
        cmocka_unit_test(slices_add_up_to_the_whole),
        cmocka_unit_test(slices_that_cannot_be_are_refused),
        cmocka_unit_test(a_state_can_move_between_host_and_device),
        cmocka_unit_test(attaching_to_a_state_finds_it),
        cmocka_unit_test(states_of_another_shape_do_not_move),
        cmocka_unit_test(states_that_cannot_be_are_refused),
        cmocka_unit_test(steps_that_cannot_be_are_refused),
        cmocka_unit_test(mezo_has_the_bits_of_the_cpu),
        cmocka_unit_test(mezo_calls_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
