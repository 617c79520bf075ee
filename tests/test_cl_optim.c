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

static int small(void) { return getenv("TEST_CL_SMALL") != NULL; }

/* ---- every kind, precision and type of parameters ------------------------------------------ */

static void all_steps_have_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (int i = 0; i < N_DESCS; i++)
        for (int type = 0; type < N_TYPES; type++) {
            const mo_optim_desc d = nth_desc(i);
            if (small() && (type + i) % N_TYPES != 0) continue;
            if (getenv("V")) print_message("%d %d\n", i, type);
            steps_agree(t, d, type, small() ? 524 : 5 * 256 + 76, 3);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_steps_have_the_bits_of_the_cpu),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
