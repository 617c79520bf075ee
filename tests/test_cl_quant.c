/* test_cl_quant.c - 8-bit and 4-bit codes on a device, against those of mo_quant.h and mo_quant4.h:
 * every bit. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

static size_t n_blocks(size_t n, size_t block) { return (n + block - 1) / block; }

/* Numbers of n / 64 kinds, 64 at a time: spread over decades, near the half-way points between the
 * values of a map, zeros of both signs; and blocks that are special as a whole. */
static float *numbers(test_rng *r, const float *map, size_t n_map, size_t n) {
    float *x = test_floats(n);
    for (size_t i = 0; i < n; i++) {
        const uint64_t u = test_u64(r);
        const size_t k = (size_t)(u >> 8) % (n_map - 1);
        float v = (map[k] + map[k + 1]) * 0.5f;
        if (u % 4 == 0) v = test_float(test_bits(v) + (uint32_t)(u >> 40) % 5 - 2);
        if (u % 4 == 1) v = (float)exp(-25 * test_uniform(r));
        if (u % 16 == 2) v = u >> 63 ? 0.0f : -0.0f;
        if (i % 64 == 0) v = 1;
        if (test_cl_flushes() && (test_bits(v) & 0x7f800000) == 0) v = 0;
        x[i] = u >> 62 & 1 ? -v : v;
    }
    return x;
}

/* factor: the scale of a block, which is a power of two in most of them, so that the half-way
 * points stay what they are. */
static void scale_blocks(test_rng *r, float *x, size_t n, size_t block) {
    for (size_t at = 0; at < n; at += block) {
        const size_t kind = test_below(r, 16), end = at + block < n ? at + block : n;
        float factor = ldexpf(1, (int)test_below(r, 100) - 50);
        if (kind < 3) factor *= 1 + (float)test_uniform(r);
        if (kind == 3) factor = 0;
        if (kind == 4 && !test_cl_flushes()) factor = ldexpf(1, -126 - (int)test_below(r, 3));
        if (kind == 5 && !test_cl_flushes()) factor = 0x1.7p+127f;
        for (size_t i = at; i < end; i++) x[i] *= factor;
        if (kind == 6) x[at + test_below(r, end - at)] = -HUGE_VALF;
        if (kind == 7) x[at + test_below(r, end - at)] = test_float(0xffc00123);
        if (kind == 8) /* subnormal as a whole */
            for (size_t i = at; i < end; i++) x[i] = test_float((uint32_t)test_below(r, 0x800000));
    }
}

/* ---- 8 bits -------------------------------------------------------------------------------- */

static void q8_case(test_cl *t, const mo_quant8_desc *d, size_t n, const float *x) {
    const size_t scales = n_blocks(n, d->block ? d->block : 256) * sizeof(float);
    uint8_t *codes = test_array(n, 1), *got = test_array(n + 1, 1);
    float *absmax = test_array(scales, 1), *got_absmax = test_array(scales, 1);
    memset(got, 0x55, n + 1);
    mo_cl_mem on_x = test_cl_put(t, x, n * sizeof *x, 4), on_codes = test_cl_put(t, got, n + 1, 3);
    mo_cl_mem on_absmax = test_cl_new(t, scales, 12);
    test_ok(mo_cl_quant8_encode(&t->cl, d, on_x, n, on_codes, on_absmax));
    test_ok(mo_quant8_encode(d, x, n, codes, absmax));
    test_cl_get(t, on_absmax, got_absmax, scales);
    test_cl_get(t, on_codes, got, n + 1);
    assert_same_bits(got_absmax, absmax, scales);
    assert_same_bits(got, codes, n);
    assert_int_equal(got[n], 0x55); /* what lies behind the end stays */
    test_cl_clear(t);
    free(codes), free(got), free(absmax), free(got_absmax);
}

static void q8_codes_have_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t block[] = {0, 64, 128, 1024, 4096}, n = test_cl_small() ? 4200 : 50000;
    for (int i = 0; i < MO_QUANT_MAP_COUNT * 2; i++)
        for (size_t k = 0; k < n_elements(block); k++) {
            if (test_cl_small() && k != (size_t)i % n_elements(block)) continue;
            const mo_quant8_desc d = {(mo_quant_map)(i / 2), block[k], i % 2, NULL};
            float *x = numbers(&t->rng, mo_quant8_table(d.map), 256, n);
            scale_blocks(&t->rng, x, n, block[k] ? block[k] : 256);
            q8_case(t, &d, n - k, x);
            free(x);
        }
}

static void q8_codes_of_every_size_are_those_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (size_t i = 0; i < n_elements(test_cl_sizes); i++) {
        const size_t n = test_cl_sizes[i];
        const mo_quant8_desc d = {(mo_quant_map)(i % 4), i % 3 ? 64 : 256, 0, NULL};
        float *x = test_normals(&t->rng, n, 1);
        q8_case(t, &d, n, x);
        free(x);
    }
}

/* absmax of decoding: some that are not finite, or 0; rarely products that are subnormal. */
static float *scales_of(test_rng *r, size_t n) {
    static const float special[] = {0, HUGE_VALF, 0x1p-120f, 0x1p-126f, 0x1p+127f, -1.5f};
    float *absmax = test_floats(n);
    for (size_t i = 0; i < n; i++) {
        absmax[i] = ldexpf(0.5f + (float)test_uniform(r), (int)test_below(r, 60) - 40);
        const size_t k = test_below(r, 40);
        if (k < n_elements(special) && !(test_cl_flushes() && (k == 2 || k == 3)))
            absmax[i] = special[k];
    }
    return absmax;
}

typedef mo_status (*q8_decode_half)(
    const mo_quant8_desc *, const uint8_t *, const float *, size_t, uint16_t *);
typedef mo_status (*q8_cl_decode)(
    mo_cl *, const mo_quant8_desc *, mo_cl_mem, mo_cl_mem, size_t, mo_cl_mem);

static void q8_decode_case(test_cl *t, const mo_quant8_desc *d, size_t n) {
    static const q8_cl_decode on_device[] = {
        mo_cl_quant8_decode, mo_cl_quant8_decode_bf16, mo_cl_quant8_decode_f16};
    static const q8_decode_half on_cpu[] = {NULL, mo_quant8_decode_bf16, mo_quant8_decode_f16};
    const size_t scales = n_blocks(n, d->block ? d->block : 256);
    float *absmax = scales_of(&t->rng, scales);
    uint8_t *codes = test_array(n, 1);
    for (size_t i = 0; i < n; i++) codes[i] = (uint8_t)test_u64(&t->rng);
    mo_cl_mem on_codes = test_cl_put(t, codes, n, 5);
    mo_cl_mem on_absmax = test_cl_put(t, absmax, scales * sizeof *absmax, 4);
    for (int type = 0; type < 3; type++) {
        const size_t bytes = n * (type ? 2 : 4);
        void *got = test_array(bytes, 1), *want = test_array(bytes, 1);
        mo_cl_mem on_x = test_cl_new(t, bytes, 4);
        test_ok(on_device[type](&t->cl, d, on_codes, on_absmax, n, on_x));
        if (type == 0) test_ok(mo_quant8_decode(d, codes, absmax, n, want));
        else test_ok(on_cpu[type](d, codes, absmax, n, want));
        test_cl_get(t, on_x, got, bytes);
        assert_same_bits(got, want, bytes);
        free(got), free(want);
    }
    test_cl_clear(t);
    free(absmax), free(codes);
}

static void q8_numbers_have_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t block[] = {64, 0, 4096};
    for (int map = 0; map < MO_QUANT_MAP_COUNT; map++)
        for (size_t k = 0; k < n_elements(block); k++) {
            const mo_quant8_desc d = {(mo_quant_map)map, block[k], 0, NULL};
            q8_decode_case(t, &d, test_cl_sizes[(size_t)map * 3 + k]);
            if (!test_cl_small()) q8_decode_case(t, &d, 40000 + k);
        }
}

/* ---- 4 bits -------------------------------------------------------------------------------- */

static void q4_case(test_cl *t, const mo_quant4_desc *d, size_t n, const float *x) {
    const size_t scales = n_blocks(n, d->block ? d->block : 64) * sizeof(float),
                 bytes = (n + 1) / 2;
    uint8_t *codes = test_array(bytes, 1), *got = test_array(bytes + 1, 1);
    float *absmax = test_array(scales, 1), *got_absmax = test_array(scales, 1);
    memset(got, 0x55, bytes + 1);
    mo_cl_mem on_x = test_cl_put(t, x, n * sizeof *x, 8);
    mo_cl_mem on_codes = test_cl_put(t, got, bytes + 1, 1), on_absmax = test_cl_new(t, scales, 4);
    test_ok(mo_cl_quant4_encode(&t->cl, d, on_x, n, on_codes, on_absmax));
    test_ok(mo_quant4_encode(d, x, n, codes, absmax));
    test_cl_get(t, on_absmax, got_absmax, scales);
    test_cl_get(t, on_codes, got, bytes + 1);
    assert_same_bits(got_absmax, absmax, scales);
    assert_same_bits(got, codes, bytes);
    assert_int_equal(got[bytes], 0x55);
    test_cl_clear(t);
    free(codes), free(got), free(absmax), free(got_absmax);
}

static void q4_codes_have_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t block[] = {0, 32, 256, 4096}, n = test_cl_small() ? 1500 : 50000;
    for (int map = 0; map < MO_QUANT4_MAP_COUNT; map++)
        for (size_t k = 0; k < n_elements(block); k++) {
            const mo_quant4_desc d = {(mo_quant4_map)map, block[k], NULL};
            float *x = numbers(&t->rng, mo_quant4_table(d.map), map ? 4 : 16, n);
            scale_blocks(&t->rng, x, n, block[k] ? block[k] : 64);
            q4_case(t, &d, n - k, x);
            free(x);
        }
}

/* also those that end with a special block of an odd length */
static void q4_codes_of_every_size_are_those_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (size_t i = 0; i < n_elements(test_cl_sizes); i++) {
        const size_t n = test_cl_sizes[i];
        float *x = test_normals(&t->rng, n, 1);
        for (int kind = 0; kind < 6; kind++) {
            const mo_quant4_desc d = {(mo_quant4_map)(kind % 2), kind < 3 ? 64 : 32, NULL};
            for (size_t k = (n - 1) / 64 * 64; k < n && kind / 2; k++)
                x[k] = kind / 2 == 1 ? 0.0f : -HUGE_VALF;
            q4_case(t, &d, n, x);
        }
        free(x);
    }
}

typedef mo_status (*q4_decode_half)(
    const mo_quant4_desc *, const uint8_t *, const float *, size_t, size_t, uint16_t *);
typedef mo_status (*q4_cl_decode)(
    mo_cl *, const mo_quant4_desc *, mo_cl_mem, mo_cl_mem, size_t, size_t, mo_cl_mem);

static void q4_decode_case(
    test_cl *t, const mo_quant4_desc *d, size_t first, size_t n, int type, size_t all) {
    static const q4_cl_decode on_device[] = {
        mo_cl_quant4_decode, mo_cl_quant4_decode_bf16, mo_cl_quant4_decode_f16};
    static const q4_decode_half on_cpu[] = {NULL, mo_quant4_decode_bf16, mo_quant4_decode_f16};
    const size_t scales = n_blocks(all, d->block ? d->block : 64), bytes = n * (type ? 2 : 4);
    float *absmax = scales_of(&t->rng, scales);
    uint8_t *codes = test_array((all + 1) / 2, 1);
    for (size_t i = 0; i < (all + 1) / 2; i++) codes[i] = (uint8_t)test_u64(&t->rng);
    uint8_t *got = test_array(bytes + 4, 1), *want = test_array(bytes + 4, 1);
    memset(want, 0x55, bytes + 4);
    mo_cl_mem on_codes = test_cl_put(t, codes, (all + 1) / 2, 3);
    mo_cl_mem on_absmax = test_cl_put(t, absmax, scales * sizeof *absmax, 4);
    mo_cl_mem on_x = test_cl_put(t, want, bytes + 4, 4 + 4 * (n / 2 % 2));
    test_ok(on_device[type](&t->cl, d, on_codes, on_absmax, first, n, on_x));
    if (type == 0) test_ok(mo_quant4_decode(d, codes, absmax, first, n, (float *)(void *)want));
    else test_ok(on_cpu[type](d, codes, absmax, first, n, (uint16_t *)(void *)want));
    test_cl_get(t, on_x, got, bytes + 4);
    assert_same_bits(got, want, bytes + 4);
    test_cl_clear(t);
    free(absmax), free(codes), free(got), free(want);
}

static void q4_numbers_have_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t first[] = {0, 1, 2, 31, 63, 64, 65, 127, 4095, 4096, 5001, 16383, 16387};
    const size_t block[] = {0, 32, 4096};
    const int step = test_cl_small() ? 17 : 1;
    int at = 0;
    for (size_t i = 0; i < n_elements(first); i++)
        for (size_t k = 0; k < n_elements(test_cl_sizes); k++, at++) {
            const mo_quant4_desc d = {(mo_quant4_map)(at % 2), block[(i + k) % 3], NULL};
            if (at % step) continue;
            q4_decode_case(
                t, &d, first[i], test_cl_sizes[k], at / 2 % 3, first[i] + test_cl_sizes[k] + i % 2);
        }
}

/* ---- scales of scales ---------------------------------------------------------------------- */

static void nested_scales_have_the_bits_of_the_cpu(void **state) {
    test_cl *t = test_cl_of(state);
    for (size_t i = 0; i < n_elements(test_cl_sizes); i++) {
        const size_t n = i == 0 ? 70001 : test_cl_sizes[i],
                     scales = n_blocks(n, 256) * sizeof(float);
        float *absmax = test_normals(&t->rng, n, 0.1f), *absmax2 = test_array(scales, 1);
        float *got = test_floats(n), offset, got_offset;
        uint8_t *codes = test_array(n, 1), *got_codes = test_array(n, 1);
        for (size_t k = 0; k < n; k++) absmax[k] = fabsf(absmax[k]);
        mo_cl_mem on_absmax = test_cl_put(t, absmax, n * sizeof(float), 4);
        mo_cl_mem on_codes = test_cl_new(t, n, 1), on_absmax2 = test_cl_new(t, scales, 8);
        test_ok(mo_cl_quant_nested_encode(&t->cl, on_absmax, n, on_codes, on_absmax2, &got_offset));
        test_ok(mo_quant_nested_encode(absmax, n, codes, absmax2, &offset));
        test_cl_get(t, on_codes, got_codes, n);
        test_cl_get(t, on_absmax2, got, scales);
        assert_int_equal(test_bits(got_offset), test_bits(offset));
        assert_same_bits(got, absmax2, scales);
        assert_same_bits(got_codes, codes, n);
        test_ok(mo_cl_quant_nested_decode(&t->cl, on_codes, on_absmax2, offset, n, on_absmax));
        test_ok(mo_quant_nested_decode(codes, absmax2, offset, n, absmax));
        test_cl_get(t, on_absmax, got, n * sizeof(float));
        assert_same_bits(got, absmax, n * sizeof(float));
        test_cl_clear(t);
        free(absmax), free(absmax2), free(got), free(codes), free(got_codes);
    }
}

/* ---- refusals ------------------------------------------------------------------------------ */

static void what_does_not_fit_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    float x[256] = {0}, offset = 7;
    mo_cl *cl = &t->cl;
    mo_cl_mem a = test_cl_put(t, x, sizeof x, 0), b = test_cl_new(t, 256, 0), none = {0};
    mo_cl_mem s = test_cl_new(t, 8, 0);
    const mo_quant8_desc d = {0}, map = {.map = MO_QUANT_MAP_COUNT}, odd = {.block = 96},
                         few = {.block = 32}, many = {.block = 8192};
    const mo_quant4_desc d4 = {.block = 128}, map4 = {.map = MO_QUANT4_MAP_COUNT},
                         few4 = {.block = 16};
    assert_int_equal(mo_cl_quant8_encode(cl, &map, a, 256, b, s), MO_E_INVALID);
    assert_int_equal(mo_cl_quant8_encode(cl, &odd, a, 256, b, s), MO_E_INVALID);
    assert_int_equal(mo_cl_quant8_encode(cl, &few, a, 256, b, s), MO_E_INVALID);
    assert_int_equal(mo_cl_quant8_decode(cl, &many, b, s, 256, a), MO_E_INVALID);
    assert_int_equal(mo_cl_quant8_encode(cl, NULL, a, 256, b, s), MO_E_INVALID);
    assert_int_equal(mo_cl_quant8_encode(NULL, &d, a, 256, b, s), MO_E_INVALID);
    assert_int_equal(mo_cl_quant8_encode(cl, &d, a, 257, b, s), MO_E_INVALID);
    assert_int_equal(mo_cl_quant8_encode(cl, &d, a, 256, none, s), MO_E_INVALID);
    assert_int_equal(mo_cl_quant8_decode(cl, &d, b, none, 256, a), MO_E_INVALID);
    assert_int_equal(mo_cl_quant8_decode_bf16(cl, &d, b, s, 257, a), MO_E_INVALID);
    assert_int_equal(mo_cl_quant4_encode(cl, &map4, a, 256, b, s), MO_E_INVALID);
    assert_int_equal(mo_cl_quant4_encode(cl, &few4, a, 256, b, s), MO_E_INVALID);
    assert_int_equal(mo_cl_quant4_encode(cl, NULL, a, 256, b, s), MO_E_INVALID);
    assert_int_equal(mo_cl_quant4_encode(NULL, &d4, a, 256, b, s), MO_E_INVALID);
    assert_int_equal(mo_cl_quant4_encode(cl, &d4, a, 257, b, s), MO_E_INVALID);
    assert_int_equal(mo_cl_quant4_decode(cl, &d4, b, s, 128, 129, a), MO_E_INVALID); /* absmax */
    assert_int_equal(mo_cl_quant4_decode(cl, &d4, b, s, 1024, 8, a), MO_E_INVALID);
    assert_int_equal(mo_cl_quant4_decode(cl, &d4, b, s, SIZE_MAX, 8, a), MO_E_OVERFLOW);
    test_ok(mo_cl_quant4_decode(cl, &d4, b, s, 128, 128, a));
    test_ok(mo_cl_quant4_decode(cl, &d4, b, s, 255, 0, a));
    assert_int_equal(mo_cl_quant_nested_encode(cl, a, 256, b, s, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_quant_nested_encode(NULL, a, 256, b, s, &offset), MO_E_INVALID);
    assert_int_equal(mo_cl_quant_nested_encode(cl, a, 257, b, s, &offset), MO_E_INVALID);
    assert_true(offset == 7);
    test_ok(mo_cl_quant_nested_encode(cl, a, 0, b, s, &offset));
    assert_true(offset == 0);
    assert_int_equal(mo_cl_quant_nested_decode(cl, b, none, 0, 256, a), MO_E_INVALID);
    test_cl_clear(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q8_codes_have_the_bits_of_the_cpu),
        cmocka_unit_test(q8_codes_of_every_size_are_those_of_the_cpu),
        cmocka_unit_test(q8_numbers_have_the_bits_of_the_cpu),
        cmocka_unit_test(q4_codes_have_the_bits_of_the_cpu),
        cmocka_unit_test(q4_codes_of_every_size_are_those_of_the_cpu),
        cmocka_unit_test(q4_numbers_have_the_bits_of_the_cpu),
        cmocka_unit_test(nested_scales_have_the_bits_of_the_cpu),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
