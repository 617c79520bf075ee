/* test_params.c - mo_params: the list of parameters, ties, placement. */
#include "test_util.h"

static size_t add(mo_params *p, const char *name, size_t rows, size_t columns) {
    const size_t shape[] = {rows, columns};
    size_t index;
    test_ok(mo_params_add(p, name, shape, columns ? 2 : 1, &index));
    return index;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void a_parameter_is_kept_as_given(void **state) {
    (void)state;
    mo_params p;
    char name[] = "h.0.attn.c_attn.weight";
    const size_t shape[] = {2, 3, 4, 5};
    size_t index = 99;
    mo_params_init(&p, NULL);
    test_ok(mo_params_add(&p, name, shape, 4, &index));
    assert_int_equal(index, 0);
    name[0] = 'x'; /* the list has a copy */
    const mo_param *item = &p.items[0];
    assert_string_equal(item->name, "h.0.attn.c_attn.weight");
    assert_int_equal(item->n, 120);
    assert_int_equal(item->n_dims, 4);
    assert_memory_equal(item->shape, shape, sizeof shape);
    assert_int_equal(item->tied_to, 0);
    assert_int_equal(item->frozen, 0);
    assert_null(item->data);
    assert_null(item->grad);
    test_ok(mo_params_add(&p, "b", shape, 1, NULL));
    assert_int_equal(p.n, 2);
    mo_params_free(&p);
}

static void a_parameter_is_found_by_its_name(void **state) {
    (void)state;
    mo_params p;
    mo_params_init(&p, NULL);
    assert_null(mo_params_find(&p, "a"));
    add(&p, "a", 1, 0);
    add(&p, "ab", 2, 0);
    assert_ptr_equal(mo_params_find(&p, "ab"), &p.items[1]);
    assert_null(mo_params_find(&p, "abc"));
    assert_null(mo_params_find(&p, ""));
    assert_null(mo_params_find(&p, NULL));
    assert_null(mo_params_find(NULL, "a"));
    mo_params_free(&p);
}

static void wrong_parameters_are_refused_and_change_nothing(void **state) {
    (void)state;
    mo_params p;
    const size_t shape[] = {2, 3, 4, 5, 6}, zero[] = {2, 0}, huge[] = {SIZE_MAX / 2, 3},
                 bytes[] = {SIZE_MAX / 4 + 1};
    size_t index = 7;
    mo_params_init(&p, NULL);
    add(&p, "taken", 1, 0);
    assert_int_equal(mo_params_add(NULL, "a", shape, 1, &index), MO_E_INVALID);
    assert_int_equal(mo_params_add(&p, NULL, shape, 1, &index), MO_E_INVALID);
    assert_int_equal(mo_params_add(&p, "a", NULL, 1, &index), MO_E_INVALID);
    assert_int_equal(mo_params_add(&p, "a", shape, 0, &index), MO_E_INVALID);
    assert_int_equal(mo_params_add(&p, "a", shape, 5, &index), MO_E_INVALID);
    assert_int_equal(mo_params_add(&p, "a", zero, 2, &index), MO_E_INVALID);
    assert_int_equal(mo_params_add(&p, "taken", shape, 1, &index), MO_E_INVALID);
    assert_int_equal(mo_params_add(&p, "a", huge, 2, &index), MO_E_OVERFLOW);
    assert_int_equal(mo_params_add(&p, "a", bytes, 1, &index), MO_E_OVERFLOW);
    assert_int_equal(index, 7);
    assert_int_equal(p.n, 1);
    mo_params_free(&p);
}

static void count_and_size_skip_what_is_frozen_or_tied(void **state) {
    (void)state;
    mo_params p;
    mo_params_init(&p, NULL);
    const size_t wte = add(&p, "wte", 10, 8), bias = add(&p, "bias", 3, 0),
                 head = add(&p, "head", 10, 8);
    assert_int_equal(mo_params_count(&p, MO_PARAMS_ALL), 163);
    assert_int_equal(mo_params_size(&p, MO_PARAMS_ALL), 320 + 64 + 320); /* each to 64 bytes */
    test_ok(mo_params_tie(&p, head, wte));
    assert_int_equal(mo_params_count(&p, MO_PARAMS_ALL), 83);
    p.items[bias].frozen = 1;
    assert_int_equal(mo_params_count(&p, MO_PARAMS_ALL), 83);
    assert_int_equal(mo_params_count(&p, MO_PARAMS_TRAINED), 80);
    assert_int_equal(mo_params_size(&p, MO_PARAMS_ALL), 384);
    assert_int_equal(mo_params_size(&p, MO_PARAMS_TRAINED), 320);
    mo_params_free(&p);
    assert_int_equal(mo_params_count(&p, MO_PARAMS_ALL), 0);
    assert_int_equal(mo_params_size(NULL, MO_PARAMS_ALL), 0);
    assert_int_equal(mo_params_count(NULL, MO_PARAMS_TRAINED), 0);
}

static void bind_places_data_and_gradients_in_order(void **state) {
    (void)state;
    mo_params p;
    mo_params_init(&p, NULL);
    const size_t a = add(&p, "a", 17, 0), f = add(&p, "frozen", 1, 0), b = add(&p, "b", 16, 0),
                 t = add(&p, "tied", 17, 0);
    p.items[f].frozen = 1;
    test_ok(mo_params_tie(&p, t, a));
    const size_t size = mo_params_size(&p, MO_PARAMS_ALL);
    const size_t grads = mo_params_size(&p, MO_PARAMS_TRAINED);
    assert_int_equal(size, 128 + 64 + 64);
    assert_int_equal(grads, 128 + 64);
    char *data = (char *)mo_alloc(NULL, size, 64), *grad = (char *)mo_alloc(NULL, grads, 64);
    memset(data, 1, size);
    test_ok(mo_params_bind(&p, data, grad));
    assert_ptr_equal(p.items[a].data, data);
    assert_ptr_equal(p.items[f].data, data + 128);
    assert_ptr_equal(p.items[b].data, data + 192);
    assert_ptr_equal(p.items[t].data, data);
    assert_ptr_equal(p.items[a].grad, grad);
    assert_null(p.items[f].grad);
    assert_ptr_equal(p.items[b].grad, grad + 128);
    assert_ptr_equal(p.items[t].grad, grad);
    for (size_t i = 0; i < size; i++) assert_int_equal(data[i], 1); /* contents stay */
    test_ok(mo_params_bind(&p, data, NULL));
    for (size_t i = 0; i < p.n; i++) assert_null(p.items[i].grad);
    assert_int_equal(mo_params_bind(&p, NULL, grad), MO_E_INVALID);
    assert_int_equal(mo_params_bind(NULL, data, grad), MO_E_INVALID);
    mo_free(NULL, data, size, 64);
    mo_free(NULL, grad, grads, 64);
    mo_params_free(&p);
}

static void a_bf16_parameter_takes_half_the_bytes_and_an_fp32_gradient(void **state) {
    (void)state;
    mo_params p;
    mo_params_init(&p, NULL);
    const size_t a = add(&p, "a", 17, 4), b = add(&p, "b", 16, 0), t = add(&p, "tied", 17, 4);
    p.items[a].is_bf16 = 1;
    test_ok(mo_params_tie(&p, t, a));
    assert_null(mo_param_data(&p.items[a]));
    assert_int_equal(mo_param_bytes(&p.items[a]), 136);
    assert_int_equal(mo_params_size(&p, MO_PARAMS_ALL), 192 + 64);
    assert_int_equal(mo_params_size(&p, MO_PARAMS_TRAINED), 320 + 64);
    char *data = (char *)mo_alloc(NULL, 256, 64), *grad = (char *)mo_alloc(NULL, 384, 64);
    test_ok(mo_params_bind(&p, data, grad));
    assert_ptr_equal(p.items[a].bf16, data);
    assert_null(p.items[a].data);
    assert_ptr_equal(p.items[b].data, data + 192);
    assert_null(p.items[b].bf16);
    assert_ptr_equal(p.items[b].grad, grad + 320);
    assert_ptr_equal(p.items[t].bf16, data);
    assert_true(p.items[t].is_bf16);
    assert_ptr_equal(mo_param_data(&p.items[t]), data);
    assert_ptr_equal(mo_param_data(&p.items[b]), data + 192);
    mo_free(NULL, data, 256, 64);
    mo_free(NULL, grad, 384, 64);
    mo_params_free(&p);
}

/* One block applied many times: any number of parameters may share one tensor. */
static void many_parameters_may_be_tied_to_one(void **state) {
    (void)state;
    mo_params p;
    float data[16], grad[16];
    mo_params_init(&p, NULL);
    for (size_t i = 0; i < 24; i++) {
        char name[32];
        snprintf(name, sizeof name, "h.%zu.weight", i);
        add(&p, name, 4, 4);
        if (i != 0) test_ok(mo_params_tie(&p, i, 0));
    }
    p.items[0].frozen = 1; /* the owner's counts */
    assert_int_equal(mo_params_count(&p, MO_PARAMS_ALL), 16);
    assert_int_equal(mo_params_count(&p, MO_PARAMS_TRAINED), 0);
    test_ok(mo_params_bind(&p, data, grad));
    for (size_t i = 0; i < 24; i++) assert_null(p.items[i].grad);
    p.items[0].frozen = 0;
    assert_int_equal(mo_params_size(&p, MO_PARAMS_TRAINED), 64);
    test_ok(mo_params_bind(&p, data, grad));
    for (size_t i = 0; i < 24; i++) assert_ptr_equal(p.items[i].grad, grad);
    mo_params_free(&p);
}

static void a_parameter_may_be_tied_to_a_later_one(void **state) {
    (void)state;
    mo_params p;
    mo_params_init(&p, NULL);
    const size_t head = add(&p, "head", 4, 4),
                 wte = add(&p, "wte", 16, 0); /* same n, other shape */
    float data[16], grad[16];
    test_ok(mo_params_tie(&p, head, wte));
    test_ok(mo_params_bind(&p, data, grad));
    assert_ptr_equal(p.items[head].data, data);
    assert_ptr_equal(p.items[wte].data, data);
    assert_ptr_equal(p.items[head].grad, grad);
    mo_params_free(&p);
}

static void ties_that_make_no_sense_are_refused(void **state) {
    (void)state;
    mo_params p;
    mo_params_init(&p, NULL);
    const size_t a = add(&p, "a", 4, 0), b = add(&p, "b", 4, 0), c = add(&p, "c", 4, 0),
                 other = add(&p, "other", 5, 0);
    assert_int_equal(mo_params_tie(NULL, a, b), MO_E_INVALID);
    assert_int_equal(mo_params_tie(&p, a, a), MO_E_INVALID);
    assert_int_equal(mo_params_tie(&p, 4, a), MO_E_INVALID);
    assert_int_equal(mo_params_tie(&p, a, 4), MO_E_INVALID);
    assert_int_equal(mo_params_tie(&p, a, other), MO_E_INVALID);
    test_ok(mo_params_tie(&p, b, a));
    assert_int_equal(mo_params_tie(&p, c, b), MO_E_INVALID); /* b is itself tied */
    assert_int_equal(mo_params_tie(&p, a, c), MO_E_INVALID); /* b would lose its tensor */
    test_ok(mo_params_tie(&p, c, a));
    assert_int_equal(p.items[a].tied_to, a);
    mo_params_free(&p);
}

static void an_empty_list_is_valid(void **state) {
    (void)state;
    mo_params p;
    float data[1];
    mo_params_init(&p, NULL);
    test_ok(mo_params_bind(&p, data, NULL));
    assert_int_equal(mo_params_size(&p, MO_PARAMS_ALL), 0);
    mo_params_free(&p);
    mo_params_free(&p); /* twice is once */
    mo_params_free(NULL);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void any_list_is_placed_without_overlap(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (int round = 0; round < 30; round++) {
        mo_params p;
        mo_params_init(&p, NULL);
        const size_t n = 1 + test_below(&r, 100);
        for (size_t i = 0; i < n; i++) {
            char name[32];
            snprintf(name, sizeof name, "p%zu", i);
            add(&p, name, 1 + test_below(&r, 50), test_below(&r, 4));
            p.items[i].frozen = test_below(&r, 4) == 0;
            if (i && test_below(&r, 3) == 0) { /* where the numbers happen to agree */
                mo_status status = mo_params_tie(&p, i, test_below(&r, i));
                assert_true(status == MO_OK || status == MO_E_INVALID);
            }
        }
        const size_t size = mo_params_size(&p, MO_PARAMS_ALL);
        const size_t grads = mo_params_size(&p, MO_PARAMS_TRAINED);
        char *data = (char *)mo_alloc(NULL, size, 64);
        char *grad = (char *)mo_alloc(NULL, grads ? grads : 64, 64);
        test_ok(mo_params_bind(&p, data, grad));
        char *data_end = data, *grad_end = grad;
        for (size_t i = 0; i < n; i++) {
            const mo_param *item = &p.items[i];
            if (item->tied_to != i) {
                assert_ptr_equal(item->data, p.items[item->tied_to].data);
                continue;
            }
            assert_int_equal((uintptr_t)item->data % 64, 0);
            assert_true((char *)item->data >= data_end);
            data_end = (char *)(item->data + item->n);
            if (!item->grad) continue;
            assert_int_equal((uintptr_t)item->grad % 64, 0);
            assert_true((char *)item->grad >= grad_end);
            grad_end = (char *)(item->grad + item->n);
        }
        assert_true(data_end <= data + size && grad_end <= grad + grads);
        mo_free(NULL, data, size, 64);
        mo_free(NULL, grad, grads ? grads : 64, 64);
        mo_params_free(&p);
    }
}

/* ---- failure ------------------------------------------------------------------------------- */

/* 70 parameters: two growths of the list. Returns the status of the first failure. */
static mo_status build(mo_params *p) {
    for (int i = 0; i < 70; i++) {
        const size_t shape[] = {3}, before = p->n;
        char name[16];
        snprintf(name, sizeof name, "p%d", i);
        size_t index = 1234;
        mo_status status = mo_params_add(p, name, shape, 1, &index);
        if (status != MO_OK) {
            assert_int_equal(p->n, before);
            assert_int_equal(index, 1234);
            return status;
        }
    }
    return MO_OK;
}

static void the_kth_allocation_may_fail(void **state) {
    (void)state;
    for (int k = 0;; k++) {
        test_heap heap;
        const mo_allocator allocator = test_heap_begin(&heap, k);
        mo_params p;
        mo_params_init(&p, &allocator);
        mo_status status = build(&p);
        if (status == MO_OK) {
            assert_int_equal(k, 73); /* 70 names, 3 lists: every allocation has failed once */
            mo_params_free(&p);
            assert_int_equal(heap.live_blocks, 0);
            return;
        }
        assert_int_equal(status, MO_E_NO_MEMORY);
        for (size_t i = 0; i < p.n; i++) assert_int_equal(p.items[i].n, 3);
        const size_t shape[] = {1};
        test_ok(mo_params_add(&p, "goes on", shape, 1, NULL));
        mo_params_free(&p);
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(heap.live_bytes, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_parameter_is_kept_as_given),
        cmocka_unit_test(a_parameter_is_found_by_its_name),
        cmocka_unit_test(wrong_parameters_are_refused_and_change_nothing),
        cmocka_unit_test(count_and_size_skip_what_is_frozen_or_tied),
        cmocka_unit_test(bind_places_data_and_gradients_in_order),
        cmocka_unit_test(a_bf16_parameter_takes_half_the_bytes_and_an_fp32_gradient),
        cmocka_unit_test(many_parameters_may_be_tied_to_one),
        cmocka_unit_test(a_parameter_may_be_tied_to_a_later_one),
        cmocka_unit_test(ties_that_make_no_sense_are_refused),
        cmocka_unit_test(an_empty_list_is_valid),
        cmocka_unit_test(any_list_is_placed_without_overlap),
        cmocka_unit_test(the_kth_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
