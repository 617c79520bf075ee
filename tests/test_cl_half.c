/* test_cl_half.c - conversions on a device, against those of mo_half.h: every bit. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

static size_t small(size_t n, size_t few) { return test_cl_small() ? few : n; }

/* Numbers at which rounding or a range changes, then any bits: half of them near those that are
 * numbers of fp16 or fp8. */
static float *numbers(test_rng *r, size_t n) {
    static const uint32_t special[] = {0, 1, 0x7fffff, 0x800000, 0x33000000, 0x33000001, 0x387fffff,
        0x38800000, 0x477fe000, 0x477fefff, 0x477ff000, 0x47800000, 0x47800001, 0x43e00000,
        0x43e80000, 0x43e80001, 0x43f00000, 0x47600000, 0x47700000, 0x7f7f0000, 0x7f7f7fff,
        0x7f7f8000, 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7f801fff, 0x7fbfffff, 0x7fc00000,
        0x7fc12345, 0x7fffffff};
    float *x = test_floats(n);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)test_u64(r);
        if (i / 2 < n_elements(special)) bits = special[i / 2] | (uint32_t)i << 31;
        else if (i % 2) /* 2^-30 .. 2^18, with few bits below those that fp16 keeps */
            bits = (bits & 0x80000000) | ((97 + (bits >> 8) % 48) << 23) | (bits & 0x7fe000) |
                (bits % 5 == 0 ? 0x1000 : bits % 5);
        x[i] = test_float(bits);
    }
    return x;
}

static void encode_case(test_cl *t, const mo_half_desc *d, const float *x, size_t n) {
    const size_t bytes = mo_half_bytes(d->format) * n;
    unsigned char *got = test_array(bytes, 1), *want = test_array(bytes, 1);
    mo_cl_mem on_x = test_cl_put(t, x, n * sizeof *x, 4), on_y = test_cl_new(t, bytes, 6);
    test_ok(mo_cl_half_encode(&t->cl, d, on_x, n, on_y));
    test_ok(mo_half_encode(d, x, n, want));
    test_cl_get(t, on_y, got, bytes);
    assert_same_bits(got, want, bytes);
    test_cl_clear(t);
    free(got), free(want);
}

static void encoding_has_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t n = small(65536, 2048);
    float *x = numbers(&t->rng, n);
    for (int i = 0; i < MO_HALF_FORMAT_COUNT * 2; i++) {
        const mo_half_desc d = {.format = (mo_half_format)(i / 2), .saturate = i % 2};
        encode_case(t, &d, x, n);
    }
    free(x);
}

static void random_rounding_has_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t n = small(65536, 2048);
    const uint64_t end = (uint64_t)1 << 32;
    float *x = numbers(&t->rng, n);
    for (int i = 0; i < MO_HALF_FORMAT_COUNT * 2; i++) {
        mo_half_desc d = {.format = (mo_half_format)(i / 2), .saturate = i % 2};
        d.stochastic = 1;
        d.seed = test_u64(&t->rng);
        encode_case(t, &d, x, n);
        d.offset = end - 777; /* the upper half changes within a tile */
        encode_case(t, &d, x, n);
        d.offset = 5 * end + 123456789;
        encode_case(t, &d, x, n);
    }
    free(x);
}

static void every_pattern_decodes_as_on_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (int format = 0; format < MO_HALF_FORMAT_COUNT; format++) {
        const mo_half_desc d = {.format = (mo_half_format)format};
        const size_t width = mo_half_bytes(d.format), n = width == 1 ? 256 : 65536;
        unsigned char *x = test_array(n, width);
        float *got = test_floats(n), *want = test_floats(n);
        for (size_t i = 0; i < n; i++) memcpy(x + i * width, &i, width); /* little endian */
        mo_cl_mem on_x = test_cl_put(t, x, n * width, 2);
        mo_cl_mem on_y = test_cl_new(t, n * sizeof *got, 12);
        test_ok(mo_cl_half_decode(&t->cl, &d, on_x, n, on_y));
        test_ok(mo_half_decode(&d, x, n, want));
        test_cl_get(t, on_y, got, n * sizeof *got);
        assert_same_bits(got, want, n * sizeof *got);
        test_cl_clear(t);
        free(x), free(got), free(want);
    }
}

/* What lies behind the end stays. */
static void every_size_is_converted_and_no_more(void **state) {
    test_cl *t = test_cl_of(state);
    for (size_t i = 0; i < n_elements(test_cl_sizes); i++) {
        const size_t n = test_cl_sizes[i];
        float *x = test_normals(&t->rng, n, 1), *same = test_floats(n);
        float *back = test_array(4 * n + 4, 1);
        uint16_t *got = test_array(2 * n + 2, 1), *want = test_array(2 * n + 2, 1);
        memset(want, 0x55, 2 * n + 2), memset(back, 0x55, 4 * n + 4);
        mo_cl_mem on_x = test_cl_put(t, x, n * sizeof *x, 20);
        mo_cl_mem on_y = test_cl_put(t, want, 2 * n + 2, 2);
        mo_cl_mem on_back = test_cl_put(t, back, 4 * n + 4, 4);
        test_ok(mo_cl_f32_to_bf16(&t->cl, on_x, on_y, n));
        test_ok(mo_cl_bf16_to_f32(&t->cl, on_y, on_back, n));
        mo_f32_to_bf16(x, want, n, NULL);
        test_cl_get(t, on_y, got, 2 * n + 2);
        assert_same_bits(got, want, 2 * n + 2);
        mo_bf16_to_f32(want, same, n, NULL);
        test_cl_get(t, on_back, back, 4 * n + 4);
        assert_same_bits(back, same, 4 * n);
        assert_int_equal(test_bits(back[n]), 0x55555555);
        test_ok(mo_cl_f32_to_f16(&t->cl, on_x, on_y, n));
        test_ok(mo_cl_f16_to_f32(&t->cl, on_y, on_back, n));
        mo_f32_to_f16(x, want, n, NULL);
        test_cl_get(t, on_y, got, 2 * n + 2);
        assert_same_bits(got, want, 2 * n + 2);
        mo_f16_to_f32(want, same, n, NULL);
        test_cl_get(t, on_back, back, 4 * n + 4);
        assert_same_bits(back, same, 4 * n);
        test_cl_clear(t);
        free(x), free(back), free(same), free(got), free(want);
    }
}

static void what_does_not_fit_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    float x[64] = {0};
    mo_half_desc d = {.format = MO_HALF_FORMAT_COUNT}, plain = {.format = MO_HALF_F16};
    mo_cl_mem a = test_cl_put(t, x, sizeof x, 0), b = test_cl_new(t, 128, 0), none = {0};
    const mo_cl_mem odd = mo_cl_part(&b, 1, 100);
    assert_int_equal(mo_cl_half_encode(&t->cl, &d, a, 64, b), MO_E_INVALID);
    assert_int_equal(mo_cl_half_decode(&t->cl, &d, b, 64, a), MO_E_INVALID);
    assert_int_equal(mo_cl_half_encode(&t->cl, NULL, a, 64, b), MO_E_INVALID);
    assert_int_equal(mo_cl_half_encode(NULL, &plain, a, 64, b), MO_E_INVALID);
    assert_int_equal(mo_cl_half_encode(&t->cl, &plain, none, 64, b), MO_E_INVALID);
    assert_int_equal(mo_cl_half_encode(&t->cl, &plain, a, 65, b), MO_E_INVALID);
    assert_int_equal(mo_cl_half_encode(&t->cl, &plain, a, 16, odd), MO_E_INVALID);
    assert_int_equal(mo_cl_half_decode(&t->cl, &plain, b, 65, a), MO_E_INVALID);
    test_ok(mo_cl_half_encode(&t->cl, &plain, a, 0, b));
    test_ok(mo_cl_half_decode(&t->cl, &plain, b, 64, a));
    test_cl_clear(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding_has_the_bits_of_the_cpu),
        cmocka_unit_test(random_rounding_has_the_bits_of_the_cpu),
        cmocka_unit_test(every_pattern_decodes_as_on_the_cpu),
        cmocka_unit_test(every_size_is_converted_and_no_more),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
