/* test_page_optim.c - optimizer states that are paged, against mo_optim_step on the whole. */
#include "test_optim.h"

/* A model of a few tensors: as it should be, and paged. */
enum { TENSORS = 4, PAGE = 64 * 1024 };
static const size_t sizes[TENSORS] = {21000, 60, 4097, 12300};

typedef struct model {
    tensor whole[TENSORS], paged[TENSORS]; /* of paged only parameters and gradients are used */
    mo_page_optim optim;
} model;

static model model_begin(test_rng *r, mo_optim_desc d, int is_half, const mo_page_desc *pages) {
    model m;
    mo_optim_desc descs[TENSORS];
    for (int i = 0; i < TENSORS; i++) {
        m.whole[i] = is_half ? tensor_begin_half(r, d, sizes[i]) : tensor_begin(r, d, sizes[i]);
        m.paged[i] = tensor_copy(&m.whole[i]);
        descs[i] = m.whole[i].d;
    }
    const mo_page_optim_desc desc = {
        .tensors = descs, .n = sizes, .n_tensors = TENSORS, .pages = *pages};
    test_ok(mo_page_optim_init(&m.optim, &desc));
    for (size_t i = 0; i < TENSORS && d.master; i++)
        test_ok(mo_page_optim_master_init(&m.optim, i, m.paged[i].half));
    return m;
}
static void model_end(model *m) {
    mo_page_optim_free(&m->optim);
    for (int i = 0; i < TENSORS; i++) tensor_end(&m->whole[i]), tensor_end(&m->paged[i]);
}
static void both_step(model *m, size_t i, uint64_t at) {
    tensor *p = &m->paged[i];
    step(&m->whole[i], at);
    if (p->half) test_ok(mo_page_optim_step_bf16(&m->optim, i, NULL, at, p->half, p->grad));
    else test_ok(mo_page_optim_step(&m->optim, i, NULL, at, p->param, p->grad));
}
static void assert_model(model *m) {
    for (size_t i = 0; i < TENSORS; i++) {
        tensor *got = &m->paged[i];
        memset(got->memory, 0xee, got->size);
        test_ok(mo_optim_state_init(&got->d, got->n, got->memory, got->size, &got->state));
        test_ok(mo_page_optim_read(&m->optim, i, &got->state));
        assert_same_tensor(got, &m->whole[i]);
    }
}

static void steps_and_states_have_the_bits_of_the_whole(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("kinds");
    for (int kind = 0; kind < MO_OPTIM_KIND_COUNT; kind++)
        for (int precision = 0; precision < MO_OPTIM_PRECISION_COUNT; precision++) {
            if (precision == MO_OPTIM_4BIT && kind != MO_OPTIM_ADAMW) continue;
            mo_optim_desc d = desc((mo_optim_kind)kind, (mo_optim_precision)precision);
            d.seed = 77;
            d.weight_decay = 0.01;
            /* A whole kind must fit one page. */
            const size_t page_bytes = kind >= MO_OPTIM_LAMB ? 3 * PAGE : PAGE;
            const mo_page_desc pages = {
                .page_bytes = page_bytes, .resident_bytes = 2 * page_bytes, .buffered = 1};
            model m = model_begin(&rng, d, 0, &pages);
            for (uint64_t at = 1; at <= 3; at++)
                for (size_t i = 0; i < TENSORS; i++) both_step(&m, i, at);
            assert_model(&m);
            model_end(&m);
        }
}

static void parameters_in_bf16_may_have_a_master_copy(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("bf16");
    const mo_page_desc pages = {.page_bytes = PAGE, .buffered = 1};
    for (int master = 0; master < 2; master++) {
        mo_optim_desc d = desc(MO_OPTIM_ADAMW, MO_OPTIM_8BIT);
        d.seed = 5;
        d.master = master;
        model m = model_begin(&rng, d, 1, &pages);
        for (uint64_t at = 1; at <= 3; at++)
            for (size_t i = 0; i < TENSORS; i++) both_step(&m, i, at);
        assert_model(&m);
        model_end(&m);
    }
}

static void tensors_may_be_stepped_in_any_order(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("order");
    static const size_t backward[] = {3, 2, 1, 0}, none[] = {4};
    const mo_page_desc pages = {.page_bytes = PAGE, .resident_bytes = 3 * PAGE};
    model m = model_begin(&rng, desc(MO_OPTIM_ADAMW, MO_OPTIM_F32), 0, &pages);
    assert_int_equal(mo_page_optim_walk(&m.optim, none, 1), MO_E_INVALID);
    assert_int_equal(mo_page_optim_walk(&m.optim, NULL, 1), MO_E_INVALID);
    assert_int_equal(mo_page_optim_walk(&m.optim, backward, 0), MO_E_INVALID);
    test_ok(mo_page_optim_walk(&m.optim, backward, TENSORS));
    const mo_page_stats before = m.optim.pages.stats;
    for (uint64_t at = 1; at <= 2; at++)
        for (size_t k = 0; k < TENSORS; k++) both_step(&m, backward[k], at);
    const mo_page_stats after = m.optim.pages.stats;
    assert_int_equal(after.n_ahead + after.n_there - before.n_ahead - before.n_there,
        after.n_acquired - before.n_acquired);
    for (uint64_t at = 3; at <= 6; at++) /* not as announced */
        for (size_t k = 0; k < TENSORS; k++) both_step(&m, (k * 3 + at) % TENSORS, at);
    assert_model(&m);
    model_end(&m);
}

static void any_limit_that_holds_two_pages_will_do(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("limits");
    for (size_t limit = 512 * 1024; limit >= 64 * 1024; limit = limit * 3 / 4) {
        const mo_page_desc pages = {.resident_bytes = limit, .buffered = 1};
        model m = model_begin(&rng, desc(MO_OPTIM_ADAMW, MO_OPTIM_F32), 0, &pages);
        assert_true(m.optim.pages.stats.resident_bytes <= limit);
        for (uint64_t at = 1; at <= 2; at++)
            for (size_t i = 0; i < TENSORS; i++) both_step(&m, i, at);
        assert_model(&m);
        model_end(&m);
    }
}

static void a_whole_state_goes_on_in_pages(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("write");
    const mo_page_desc pages = {.page_bytes = PAGE, .buffered = 1};
    model m = model_begin(&rng, desc(MO_OPTIM_ADAMW, MO_OPTIM_8BIT), 0, &pages);
    for (size_t i = 0; i < TENSORS; i++) { /* three steps of the whole alone */
        tensor *whole = &m.whole[i];
        for (uint64_t at = 1; at <= 3; at++) step(whole, at);
        memcpy(m.paged[i].param, whole->param, 4 * whole->n);
        test_ok(mo_page_optim_write(&m.optim, i, &whole->state));
    }
    for (uint64_t at = 4; at <= 6; at++)
        for (size_t i = 0; i < TENSORS; i++) both_step(&m, i, at);
    assert_model(&m);
    assert_int_equal(mo_page_optim_read(&m.optim, 0, &m.whole[2].state), MO_E_INVALID);
    assert_int_equal(mo_page_optim_read(&m.optim, 4, &m.whole[0].state), MO_E_INVALID);
    assert_int_equal(mo_page_optim_write(&m.optim, 0, NULL), MO_E_INVALID);
    model_end(&m);
}

static void another_learning_rate_is_given_with_the_step(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("rate");
    mo_optim_desc d = desc(MO_OPTIM_LION, MO_OPTIM_8BIT);
    const mo_page_desc pages = {.page_bytes = PAGE, .buffered = 1};
    model m = model_begin(&rng, d, 0, &pages);
    for (uint64_t at = 1; at <= 3; at++)
        for (size_t i = 0; i < TENSORS; i++) {
            tensor *p = &m.paged[i];
            m.whole[i].d.lr = d.lr = 1e-3 / (double)at;
            step(&m.whole[i], at);
            test_ok(mo_page_optim_step(&m.optim, i, &d, at, p->param, p->grad));
        }
    assert_model(&m);
    model_end(&m);
}

static void what_pages_there_will_be_is_known_before(void **state) {
    (void)state;
    mo_optim_desc adam[2] = {desc(MO_OPTIM_ADAMW, MO_OPTIM_F32), desc(MO_OPTIM_LAMB, 0)};
    const size_t n[2] = {1000000, 40000};
    mo_page_optim_desc d = {.tensors = adam, .n = n, .n_tensors = 1};
    mo_page_optim optim;
    mo_page_desc pages;
    for (size_t limit = 0; limit < 4 << 20; limit += 777777) {
        d.pages.resident_bytes = limit;
        for (d.n_tensors = 1; d.n_tensors <= 2; d.n_tensors++) {
            if (limit && limit < 1 << 20) continue;
            test_ok(mo_page_optim_pages(&d, &pages));
            test_ok(mo_page_optim_init(&optim, &d));
            assert_int_equal(optim.pages.stats.resident_bytes, pages.resident_bytes);
            assert_int_equal(optim.pages.desc.size, pages.size);
            assert_int_equal(optim.pages.desc.page_bytes, pages.page_bytes);
            assert_true(limit == 0 || pages.resident_bytes <= limit);
            assert_true(
                d.n_tensors == 1 || pages.page_bytes >= mo_optim_state_size(&adam[1], n[1]));
            mo_page_optim_free(&optim);
        }
    }
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    mo_page_optim optim;
    test_log logged;
    mo_optim_desc adam = desc(MO_OPTIM_ADAMW, MO_OPTIM_F32), lamb = desc(MO_OPTIM_LAMB, 0);
    size_t n = 20000;
    float *x = test_floats(n);
    mo_page_optim_desc d = {.tensors = &adam,
        .n = &n,
        .n_tensors = 1,
        .pages = {.page_bytes = 16384, .log = test_log_begin(&logged)}};
    assert_int_equal(mo_page_optim_init(&optim, &d), MO_E_UNSUPPORTED);
    assert_non_null(strstr(logged.text, "tensor 0"));
    d.pages.page_bytes = 32768;
    test_ok(mo_page_optim_init(&optim, &d));
    assert_int_equal(mo_page_optim_step(&optim, 1, NULL, 1, x, x), MO_E_INVALID);
    assert_int_equal(mo_page_optim_step(&optim, 0, NULL, 1, NULL, x), MO_E_INVALID);
    assert_int_equal(mo_page_optim_step(&optim, 0, NULL, 1, x, NULL), MO_E_INVALID);
    assert_int_equal(mo_page_optim_step(NULL, 0, NULL, 1, x, x), MO_E_INVALID);
    assert_int_equal(mo_page_optim_step(&optim, 0, NULL, 0, x, x), MO_E_INVALID);
    mo_page_optim_free(&optim);
    mo_page_optim_free(&optim);
    d.tensors = &lamb;
    assert_int_equal(mo_page_optim_init(&optim, &d), MO_E_UNSUPPORTED);
    d.pages.page_bytes = 0;
    test_ok(mo_page_optim_init(&optim, &d));
    mo_page_optim_free(&optim);
    d.tensors = &adam;
    d.pages.resident_bytes = 40000;
    assert_int_equal(mo_page_optim_init(&optim, &d), MO_E_NO_SPACE);
    n = 0;
    assert_int_equal(mo_page_optim_init(&optim, &d), MO_E_INVALID);
    d.n_tensors = 0;
    assert_int_equal(mo_page_optim_init(&optim, &d), MO_E_INVALID);
    assert_int_equal(mo_page_optim_init(&optim, NULL), MO_E_INVALID);
    free(x);
}

static void every_allocation_that_fails_is_a_status_and_leaks_nothing(void **state) {
    (void)state;
    test_heap heap;
    const mo_optim_desc adam = desc(MO_OPTIM_ADAMW, MO_OPTIM_F32);
    const size_t n = 20000, order[] = {0};
    float *x = test_floats(n), *g = test_floats(n);
    memset(x, 0, n * sizeof *x), memset(g, 0, n * sizeof *g);
    mo_page_optim_desc d = {
        .tensors = &adam, .n = &n, .n_tensors = 1, .pages = {.page_bytes = PAGE, .buffered = 1}};
    int k = 0;
    for (int done = 0; !done; k++) {
        mo_page_optim optim;
        d.pages.allocator = test_heap_begin(&heap, k);
        mo_status status = mo_page_optim_init(&optim, &d);
        if (status == MO_OK) {
            status = mo_page_optim_walk(&optim, order, 1);
            if (status == MO_OK) status = mo_page_optim_step(&optim, 0, NULL, 1, x, g);
            mo_page_optim_free(&optim);
        }
        done = heap.n_requests <= k;
        assert_int_equal(status, done ? MO_OK : MO_E_NO_MEMORY);
        assert_int_equal(heap.live_blocks, 0);
    }
    assert_true(k > 8);
    free(x), free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_and_states_have_the_bits_of_the_whole),
        cmocka_unit_test(parameters_in_bf16_may_have_a_master_copy),
        cmocka_unit_test(tensors_may_be_stepped_in_any_order),
        cmocka_unit_test(any_limit_that_holds_two_pages_will_do),
        cmocka_unit_test(a_whole_state_goes_on_in_pages),
        cmocka_unit_test(another_learning_rate_is_given_with_the_step),
        cmocka_unit_test(what_pages_there_will_be_is_known_before),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(every_allocation_that_fails_is_a_status_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
