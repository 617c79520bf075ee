/* test_cl_page_optim.c - optimizer states that are paged, against mo_optim_step on the whole. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"
#include "test_optim.h"

/* A model of a few tensors: on the CPU as it should be, and on the device. */
enum { TENSORS = 4, PAGE = 64 * 1024 };
static const size_t sizes[TENSORS] = {21000, 60, 4097, 12300};

typedef struct model {
    test_cl *t;
    tensor host[TENSORS];
    mo_cl_mem param[TENSORS], grad[TENSORS];
    mo_cl_page_optim optim;
} model;

static size_t param_bytes(const tensor *host) { return host->n * (host->half ? 2 : 4); }
static const void *param_data(const tensor *host) {
    return host->half ? (const void *)host->half : host->param;
}

static model model_begin(test_cl *t, mo_optim_desc d, int is_half, size_t page_bytes) {
    model m = {.t = t};
    mo_optim_desc descs[TENSORS];
    for (int i = 0; i < TENSORS; i++) {
        descs[i] = d;
        m.host[i] =
            is_half ? tensor_begin_half(&t->rng, d, sizes[i]) : tensor_begin(&t->rng, d, sizes[i]);
        m.param[i] = test_cl_put(t, param_data(&m.host[i]), param_bytes(&m.host[i]), 4);
        m.grad[i] = test_cl_put(t, m.host[i].grad, 4 * sizes[i], 0);
    }
    mo_cl_page_optim_desc desc = {
        .tensors = descs, .n = sizes, .n_tensors = TENSORS, .page_bytes = page_bytes};
    test_ok(mo_cl_page_optim_init(&m.optim, &t->heap, &desc));
    for (size_t i = 0; i < TENSORS && d.master; i++)
        test_ok(mo_cl_page_optim_master_init(&m.optim, i, m.param[i]));
    return m;
}
static void model_end(model *m) {
    mo_cl_page_optim_free(&m->optim);
    for (int i = 0; i < TENSORS; i++) tensor_end(&m->host[i]);
    test_cl_clear(m->t);
}
static void both_step(model *m, size_t i, uint64_t at) {
    tensor *host = &m->host[i];
    step(host, at);
    if (host->half)
        test_ok(mo_cl_page_optim_step_bf16(&m->optim, i, NULL, at, m->param[i], m->grad[i]));
    else test_ok(mo_cl_page_optim_step(&m->optim, i, NULL, at, m->param[i], m->grad[i]));
}
static void assert_model(model *m) {
    for (size_t i = 0; i < TENSORS; i++) {
        tensor *host = &m->host[i];
        tensor got = tensor_copy(host);
        void *param = test_array(param_bytes(host), 1);
        memset(got.memory, 0xee, got.size);
        test_ok(mo_optim_state_init(&got.d, got.n, got.memory, got.size, &got.state));
        test_ok(mo_cl_page_optim_read(&m->optim, i, &got.state));
        test_cl_get(m->t, m->param[i], param, param_bytes(host));
        assert_same_bits(param, param_data(host), param_bytes(host));
        assert_same_bits(got.memory, host->memory, host->size);
        free(param);
        tensor_end(&got);
    }
}

static void steps_and_states_have_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const int is_small = test_cl_small();
    for (int kind = 0; kind < (is_small ? 1 : MO_OPTIM_KIND_COUNT); kind++)
        for (int precision = 0; precision < MO_OPTIM_PRECISION_COUNT; precision++) {
            if (precision == MO_OPTIM_4BIT && kind != MO_OPTIM_ADAMW) continue;
            if (is_small && precision > MO_OPTIM_8BIT) continue;
            mo_optim_desc d = desc((mo_optim_kind)kind, (mo_optim_precision)precision);
            d.seed = 77;
            d.weight_decay = 0.01;
            /* A whole kind must fit one page. */
            model m = model_begin(t, d, 0, kind >= MO_OPTIM_LAMB ? 3 * PAGE : PAGE);
            for (uint64_t at = 1; at <= 3; at++)
                for (size_t i = 0; i < TENSORS; i++) both_step(&m, i, at);
            assert_model(&m);
            model_end(&m);
        }
}

static void parameters_in_bf16_may_have_a_master_copy(void **state) {
    test_cl *t = test_cl_of(state);
    for (int master = 0; master < 2; master++) {
        mo_optim_desc d = desc(MO_OPTIM_ADAMW, MO_OPTIM_8BIT);
        d.seed = 5;
        d.master = master;
        model m = model_begin(t, d, 1, PAGE);
        for (uint64_t at = 1; at <= 3; at++)
            for (size_t i = 0; i < TENSORS; i++) both_step(&m, i, at);
        assert_model(&m);
        model_end(&m);
    }
}

static void tensors_may_be_stepped_in_any_order(void **state) {
    test_cl *t = test_cl_of(state);
    static const size_t backward[] = {3, 2, 1, 0}, none[] = {4};
    model m = model_begin(t, desc(MO_OPTIM_ADAMW, MO_OPTIM_F32), 0, PAGE);
    assert_int_equal(mo_cl_page_optim_walk(&m.optim, none, 1), MO_E_INVALID);
    assert_int_equal(mo_cl_page_optim_walk(&m.optim, NULL, 1), MO_E_INVALID);
    test_ok(mo_cl_page_optim_walk(&m.optim, backward, TENSORS));
    for (uint64_t at = 1; at <= 2; at++)
        for (size_t k = 0; k < TENSORS; k++) both_step(&m, backward[k], at);
    const mo_cl_page_stats stats = m.optim.pages.stats;
    assert_int_equal(stats.n_ahead + stats.n_there, stats.n_acquired);
    for (uint64_t at = 3; at <= 6; at++) /* not as announced */
        for (size_t k = 0; k < TENSORS; k++) both_step(&m, (k * 3 + at) % TENSORS, at);
    assert_model(&m);
    model_end(&m);
}

static void the_device_holds_two_pages(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_heap_stats before, after;
    mo_cl_heap_get_stats(&t->heap, &before);
    model m = model_begin(t, desc(MO_OPTIM_ADAMW, MO_OPTIM_F32), 0, PAGE);
    mo_cl_heap_get_stats(&t->heap, &after);
    const size_t align = mo_cl_arena_align(&t->cl); /* of all blocks */
    uint64_t tensors = 0, states = 0;
    for (int i = 0; i < TENSORS; i++) {
        tensors += (4 * sizes[i] + 5 + align - 1) / align * align +
            (4 * sizes[i] + 1 + align - 1) / align * align;
        states += m.host[i].size;
    }
    assert_int_equal(after.used_bytes - before.used_bytes - tensors, 2 * PAGE);
    assert_true(states > 4 * PAGE);
    assert_true(after.staging_bytes - before.staging_bytes >= states);
    assert_true(after.staging_bytes - before.staging_bytes < states + states / 4);
    model_end(&m);
    mo_cl_heap_get_stats(&t->heap, &after);
    assert_int_equal(after.used_bytes, before.used_bytes);
    assert_int_equal(after.staging_bytes, before.staging_bytes);
}

static void a_state_of_the_cpu_goes_on_in_pages(void **state) {
    test_cl *t = test_cl_of(state);
    model m = model_begin(t, desc(MO_OPTIM_ADAMW, MO_OPTIM_8BIT), 0, PAGE);
    for (int i = 0; i < TENSORS; i++) { /* three steps on the CPU alone */
        tensor *host = &m.host[i];
        for (uint64_t at = 1; at <= 3; at++) step(host, at);
        test_ok(mo_cl_upload(
            &t->heap, MO_CL_COMPUTE, &m.param[i], 0, host->param, 4 * host->n, NULL, NULL));
        test_ok(mo_cl_page_optim_write(&m.optim, (size_t)i, &host->state));
    }
    for (uint64_t at = 4; at <= 6; at++)
        for (size_t i = 0; i < TENSORS; i++) both_step(&m, i, at);
    assert_model(&m);
    assert_int_equal(mo_cl_page_optim_read(&m.optim, 0, &m.host[2].state), MO_E_INVALID);
    assert_int_equal(mo_cl_page_optim_read(&m.optim, 4, &m.host[0].state), MO_E_INVALID);
    model_end(&m);
}

static void another_learning_rate_is_given_with_the_step(void **state) {
    test_cl *t = test_cl_of(state);
    mo_optim_desc d = desc(MO_OPTIM_LION, MO_OPTIM_8BIT);
    model m = model_begin(t, d, 0, PAGE);
    for (uint64_t at = 1; at <= 3; at++)
        for (size_t i = 0; i < TENSORS; i++) {
            m.host[i].d.lr = d.lr = 1e-3 / (double)at;
            step(&m.host[i], at);
            test_ok(mo_cl_page_optim_step(&m.optim, i, &d, at, m.param[i], m.grad[i]));
        }
    assert_model(&m);
    model_end(&m);
}

static void what_does_not_fit_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_page_optim optim;
    mo_optim_desc adam = desc(MO_OPTIM_ADAMW, MO_OPTIM_F32), lamb = desc(MO_OPTIM_LAMB, 0);
    size_t n = 20000;
    mo_cl_page_optim_desc d = {.tensors = &adam, .n = &n, .n_tensors = 1, .page_bytes = 16384};
    mo_cl_mem param = test_cl_new(t, 4 * n, 0), none = {0}, part = mo_cl_part(&param, 0, 400);
    assert_int_equal(mo_cl_page_optim_init(&optim, &t->heap, &d), MO_E_UNSUPPORTED);
    d.page_bytes = 32768;
    test_ok(mo_cl_page_optim_init(&optim, &t->heap, &d));
    assert_int_equal(mo_cl_page_optim_step(&optim, 1, NULL, 1, param, param), MO_E_INVALID);
    assert_int_equal(mo_cl_page_optim_step(&optim, 0, NULL, 1, part, param), MO_E_INVALID);
    assert_int_equal(mo_cl_page_optim_step(&optim, 0, NULL, 1, param, part), MO_E_INVALID);
    assert_int_equal(mo_cl_page_optim_step(&optim, 0, NULL, 1, param, none), MO_E_INVALID);
    assert_int_equal(mo_cl_page_optim_step(NULL, 0, NULL, 1, param, param), MO_E_INVALID);
    mo_cl_page_optim_free(&optim);
    mo_cl_page_optim_free(&optim);
    d.tensors = &lamb;
    assert_int_equal(mo_cl_page_optim_init(&optim, &t->heap, &d), MO_E_UNSUPPORTED);
    d.page_bytes = 0;
    test_ok(mo_cl_page_optim_init(&optim, &t->heap, &d));
    mo_cl_page_optim_free(&optim);
    n = 0;
    assert_int_equal(mo_cl_page_optim_init(&optim, &t->heap, &d), MO_E_INVALID);
    d.n_tensors = 0;
    assert_int_equal(mo_cl_page_optim_init(&optim, &t->heap, &d), MO_E_INVALID);
    test_cl_clear(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_and_states_have_the_bits_of_the_cpu),
        cmocka_unit_test(parameters_in_bf16_may_have_a_master_copy),
        cmocka_unit_test(tensors_may_be_stepped_in_any_order),
        cmocka_unit_test(the_device_holds_two_pages),
        cmocka_unit_test(a_state_of_the_cpu_goes_on_in_pages),
        cmocka_unit_test(another_learning_rate_is_given_with_the_step),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
