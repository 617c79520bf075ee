/* test_cl_accum.c - accumulation on a device, against that of mo_accum.h. */
#include "test_cl.h"
#ifndef TEST_NO_OPENCL
#include "test_cl_numeric.h"

static void a_sum_has_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (size_t i = 0; i < sizeof test_cl_sizes / sizeof *test_cl_sizes; i++) {
        const size_t n = test_cl_sizes[i], bytes = n * sizeof(float);
        float *grad = test_normals(&t->rng, n, 1), *sum = test_normals(&t->rng, n, 10);
        float *got = test_floats(n);
        mo_cl_mem on_grad = test_cl_put(t, grad, bytes, 4), on_sum = test_cl_put(t, sum, bytes, 12);
        test_ok(mo_cl_accum_add(&t->cl, on_grad, 0.3f, on_sum, n));
        mo_accum_add(grad, 0.3f, sum, n, NULL);
        test_cl_get(t, on_sum, got, bytes);
        assert_same_bits(got, sum, bytes);
        test_cl_clear(t);
        free(grad), free(sum), free(got);
    }
}

static void what_does_not_fit_its_block_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    float x[64] = {0};
    mo_cl_mem a = test_cl_put(t, x, sizeof x, 0), none = {0};
    assert_int_equal(mo_cl_accum_add(&t->cl, a, 1, a, 65), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_add(&t->cl, none, 1, a, 1), MO_E_INVALID);
    assert_int_equal(mo_cl_accum_add(NULL, a, 1, a, 1), MO_E_INVALID);
    test_cl_clear(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sum_has_the_bits_of_the_cpu),
        cmocka_unit_test(what_does_not_fit_its_block_is_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
