/* test_cl_compress.c - compressed activations and masks on a device: the bits of the CPU. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

/* Codes from the device, and what it decodes them to, against the CPU's. */
static void compare(test_cl *t, const mo_compress_desc *d, const float *x, size_t n) {
    const size_t size = mo_compress_size(d, n);
    unsigned char *want = test_array(size, 1), *got = test_array(size, 1);
    float *y = test_floats(n), *z = test_floats(n);
    mo_cl_mem on_x = test_cl_put(t, x, n * sizeof *x, 12), codes = test_cl_new(t, size, 20);
    mo_cl_mem back = test_cl_new(t, n * sizeof *x, 4);
    test_ok(mo_compress_encode(d, x, n, want));
    test_ok(mo_compress_decode(d, want, n, y));
    test_ok(mo_cl_compress_encode(&t->cl, d, on_x, n, codes));
    test_ok(mo_cl_compress_decode(&t->cl, d, codes, n, back));
    test_cl_get(t, codes, got, size);
    test_cl_get(t, back, z, n * sizeof *z);
    assert_same_bits(got, want, size);
    for (size_t i = 0; i < n; i++) assert_true(z[i] == y[i] || (isnan(z[i]) && isnan(y[i])));
    test_cl_clear(t);
    free(want), free(got), free(y), free(z);
}

static void codes_are_those_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (size_t k = 0; k < n_elements(test_cl_sizes); k++)
        for (int bits = 4; bits <= 8; bits += 4) {
            const size_t n = test_cl_sizes[k];
            mo_compress_desc d = {0};
            d.bits = bits;
            d.block = k % 4 == 0 ? 0 : (size_t)32 << k % 4;
            d.seed = test_u64(&t->rng);
            if (test_cl_small() && n > 70) continue;
            float *x = test_normals(&t->rng, n, 3);
            for (size_t i = 0; k % 2 && i < n; i++) x[i] = fmaxf(x[i], 0);
            compare(t, &d, x, n);
            free(x);
        }
}

/* Subnormal numbers too, which a device may flush: no code depends on them. */
static void blocks_without_a_range_follow_the_cpus_rules(void **state) {
    test_cl *t = test_cl_of(state);
    float x[8 * 64];
    mo_compress_desc d = {0};
    d.bits = 4;
    d.block = 64;
    for (int i = 0; i < 64; i++) {
        const float u = (float)test_uniform(&t->rng);
        x[i] = 1.25f;
        x[64 + i] = i == 13 ? NAN : u;
        x[128 + i] = i == 40 ? -HUGE_VALF : u;
        x[192 + i] = i % 2 ? 3e38f : -3e38f;
        x[256 + i] = u * 1e-22f - 1e-28f;
        x[320 + i] = i % 3 ? u * 1e-39f : u;
        x[384 + i] = i % 2 ? -0.0f : 0.0f;
        x[448 + i] = u * -1e-39f;
    }
    compare(t, &d, x, n_elements(x));
}

static void masks_are_those_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (size_t k = 0; k < n_elements(test_cl_sizes); k++) {
        const size_t n = test_cl_sizes[k], bytes = n * sizeof(float), words = mo_mask_words(n);
        const float slope = k % 2 ? 0.25f : 0;
        const mo_dropout_desc d = {0.3f, test_u64(&t->rng), NULL};
        const mo_cl_mem none = {0};
        if (test_cl_small() && n > 70) continue;
        float *x = test_normals(&t->rng, n, 1), *y = test_floats(n), *z = test_floats(n);
        uint32_t *want = test_array(words, 4), *got = test_array(words, 4);
        if (n > 2) x[2] = NAN, x[0] = 0;
        mo_cl_mem on_x = test_cl_put(t, x, bytes, 4), on_y = test_cl_new(t, bytes, 8);
        mo_cl_mem mask = test_cl_new(t, words * 4, 12);
        test_ok(mo_cl_relu_forward(&t->cl, on_x, slope, mask, on_y, n));
        test_ok(mo_cl_relu_backward_output(&t->cl, on_y, on_y, slope, on_y, n));
        test_ok(mo_cl_relu_backward(&t->cl, mask, on_y, slope, on_y, n));
        test_cl_get(t, on_y, z, bytes);
        test_cl_get(t, mask, got, words * 4);
        test_ok(mo_relu_forward(x, slope, want, y, n, NULL));
        test_ok(mo_relu_backward_output(y, y, slope, y, n, NULL));
        test_ok(mo_relu_backward(want, y, slope, y, n, NULL));
        assert_same_bits(got, want, words * 4);
        for (size_t i = 0; i < n; i++) assert_true(z[i] == y[i] || (isnan(z[i]) && isnan(y[i])));
        test_ok(mo_cl_dropout_forward(&t->cl, &d, on_x, mask, on_y, n));
        test_cl_get(t, on_y, z, bytes);
        test_cl_get(t, mask, got, words * 4);
        test_ok(mo_dropout_forward(&d, x, want, y, n));
        assert_same_bits(got, want, words * 4);
        for (size_t i = 0; i < n; i++) assert_true(z[i] == y[i] || (isnan(z[i]) && isnan(y[i])));
        test_ok(mo_cl_dropout_backward(&t->cl, &d, mask, on_x, on_y, n));
        test_cl_get(t, on_y, y, bytes);
        assert_same_bits(y, z, bytes);
        test_ok(mo_cl_dropout_backward(&t->cl, &d, none, on_x, on_x, n));
        test_cl_get(t, on_x, y, bytes);
        assert_same_bits(y, z, bytes);
        test_cl_clear(t);
        free(x), free(y), free(z), free(want), free(got);
    }
}

static void what_does_not_fit_its_block_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    float x[256] = {0};
    mo_cl_mem a = test_cl_put(t, x, sizeof x, 0), b = test_cl_new(t, sizeof x, 0), none = {0};
    const mo_compress_desc d = {0}, bits = {5, 0, 0, NULL}, block = {0, 32, 0, NULL};
    const mo_dropout_desc drop = {0.5f, 0, NULL}, all = {1, 0, NULL};
    mo_cl_mem short_codes = mo_cl_part(&b, 0, mo_compress_size(&d, 256) - 1);
    assert_int_equal(mo_cl_compress_encode(&t->cl, &d, a, 256, short_codes), MO_E_INVALID);
    assert_int_equal(mo_cl_compress_decode(&t->cl, &d, short_codes, 256, a), MO_E_INVALID);
    assert_int_equal(mo_cl_compress_encode(&t->cl, &d, a, 257, b), MO_E_INVALID);
    assert_int_equal(mo_cl_compress_encode(&t->cl, &bits, a, 16, b), MO_E_INVALID);
    assert_int_equal(mo_cl_compress_encode(&t->cl, &block, a, 16, b), MO_E_INVALID);
    assert_int_equal(mo_cl_compress_encode(&t->cl, NULL, a, 16, b), MO_E_INVALID);
    assert_int_equal(mo_cl_compress_encode(NULL, &d, a, 16, b), MO_E_INVALID);
    assert_int_equal(mo_cl_relu_forward(&t->cl, a, -1, none, b, 16), MO_E_INVALID);
    assert_int_equal(mo_cl_relu_forward(&t->cl, a, 0, none, b, 257), MO_E_INVALID);
    assert_int_equal(mo_cl_relu_backward(&t->cl, none, a, 0, b, 16), MO_E_INVALID);
    assert_int_equal(mo_cl_dropout_forward(&t->cl, &all, a, none, b, 16), MO_E_INVALID);
    assert_int_equal(mo_cl_dropout_backward(&t->cl, NULL, none, a, b, 16), MO_E_INVALID);
    test_ok(mo_cl_compress_encode(&t->cl, &d, a, 0, b));
    test_ok(mo_cl_relu_forward(&t->cl, a, 0, none, b, 0));
    test_ok(mo_cl_dropout_forward(&t->cl, &drop, a, none, b, 0));
    test_cl_clear(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_are_those_of_the_cpu),
        cmocka_unit_test(blocks_without_a_range_follow_the_cpus_rules),
        cmocka_unit_test(masks_are_those_of_the_cpu),
        cmocka_unit_test(what_does_not_fit_its_block_is_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
