/* test_quant4.c - NF4 and FP4 against a search over thresholds; scales of scales. */
#include "test_numeric.h"
#include <float.h>

static const mo_quant4_map maps[] = {MO_QUANT_NF4, MO_QUANT_FP4};

/* ---- the reference: bitsandbytes' comparisons, one by one ------------------------------------ */

static const uint32_t nf4_bits[15] = {0xbf591cd8, 0xbf1c5270, 0xbeeb8480, 0xbeadea76, 0xbe703cec,
    0xbe0d38bc, 0xbd3a7871, 0x3d22faff, 0x3df64862, 0x3e5067e0, 0x3e9582d4, 0x3ec753f9, 0x3f006d04,
    0x3f248daf, 0x3f5c89da};
static const uint32_t fp4_bits[7] = {
    0x3b2aaab9, 0x3db00000, 0x3e555555, 0x3e955555, 0x3ed55556, 0x3f155550, 0x3f555555};
static const int fp4_order[8] = {0, 1, 6, 7, 4, 5, 2, 3};

static int reference_code(mo_quant4_map map, float t) {
    int place = 0;
    if (map == MO_QUANT_NF4) {
        for (int i = 0; i < 15; i++) place += t > test_float(nf4_bits[i]);
        return place;
    }
    for (int i = 0; i < 7; i++) place += fabsf(t) > test_float(fp4_bits[i]);
    return fp4_order[place] | (t < 0 ? 8 : 0);
}

static int code_at(const uint8_t *codes, size_t i) {
    return i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4;
}

typedef struct coded4 {
    uint8_t *codes;
    float *absmax;
    size_t n, block, bytes, blocks;
} coded4;

static coded4 encode4(const mo_quant4_desc *d, const float *x, size_t n) {
    coded4 c;
    c.n = n;
    c.block = d->block ? d->block : 64;
    c.bytes = (n + 1) / 2;
    c.blocks = (n + c.block - 1) / c.block;
    c.codes = (uint8_t *)test_array(c.bytes, 1);
    c.absmax = test_floats(c.blocks);
    test_ok(mo_quant4_encode(d, x, n, c.codes, c.absmax));
    return c;
}
static void release4(coded4 *c) {
    free(c->codes);
    free(c->absmax);
}
static void assert_same_coded4(const coded4 *a, const coded4 *b) {
    assert_same_bits(a->codes, b->codes, a->bytes);
    assert_same_bits(a->absmax, b->absmax, a->blocks * sizeof(float));
}

static void assert_reference(mo_quant4_map map, const float *x, const coded4 *c) {
    for (size_t b = 0; b < c->blocks; b++) {
        const size_t end = (b + 1) * c->block < c->n ? (b + 1) * c->block : c->n;
        float most = 0;
        for (size_t i = b * c->block; i < end; i++) most = fmaxf(most, fabsf(x[i]));
        if (most < FLT_MIN) most = 0;
        assert_true(c->absmax[b] == most);
        const float inverse = most == 0 ? 0 : 1 / most;
        for (size_t i = b * c->block; i < end; i++)
            assert_int_equal(code_at(c->codes, i), reference_code(map, x[i] * inverse));
    }
    if (c->n % 2) assert_int_equal(code_at(c->codes, c->n), reference_code(map, 0));
}

/* ---- examples ------------------------------------------------------------------------------ */

static void the_tables_hold_what_bitsandbytes_has(void **state) {
    (void)state;
    static const uint32_t nf4[16] = {0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0, 0xbe91a24d,
        0xbe3d353f, 0xbdba7871, 0, 0x3da2faff, 0x3e24cae3, 0x3e7c04dd, 0x3ead033a, 0x3ee1a4b8,
        0x3f1007ab, 0x3f3913b3, 0x3f800000};
    static const uint32_t fp4[8] = {
        0, 0x3baaaaab, 0x3f2aaaab, 0x3f800000, 0x3eaaaaab, 0x3f000000, 0x3e2aaaab, 0x3e800000};
    for (int i = 0; i < 16; i++) {
        assert_int_equal(test_bits(mo_quant4_table(MO_QUANT_NF4)[i]), nf4[i]);
        assert_int_equal(
            test_bits(mo_quant4_table(MO_QUANT_FP4)[i]), fp4[i % 8] | (i < 8 ? 0 : 0x80000000u));
    }
    assert_null(mo_quant4_table(MO_QUANT4_MAP_COUNT));
    assert_null(mo_quant4_table((mo_quant4_map)-1));
}

static void five_numbers_by_hand(void **state) {
    (void)state;
    const float x[] = {2, -2, 0, 1, -0.001f};
    static const uint8_t want[2][3] = {{0xf0, 0x7c, 0x77}, {0x3b, 0x05, 0x80}};
    for (size_t k = 0; k < 2; k++) {
        const mo_quant4_desc d = {maps[k], 0, NULL};
        coded4 c = encode4(&d, x, 5);
        float y[5];
        assert_true(c.absmax[0] == 2);
        assert_memory_equal(c.codes, want[k], 3);
        test_ok(mo_quant4_decode(&d, c.codes, c.absmax, 0, 5, y));
        assert_true(y[0] == 2 && y[1] == -2 && y[2] == 0 && y[4] == 0);
        assert_true(y[3] == mo_quant4_table(maps[k])[want[k][1] & 15] * 2);
        release4(&c);
    }
}

static void a_block_of_zeros_or_subnormals_has_scale_0_and_decodes_to_0(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    float x[101] = {0}, y[101];
    x[70] = -0.0f, x[80] = test_float(0x007fffff), x[90] = test_float(0x80000001);
    for (size_t k = 0; k < 2; k++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            const mo_quant4_desc d = {maps[k], 64, NULL};
            coded4 c = encode4(&d, x, 101);
            assert_true(c.absmax[0] == 0 && c.absmax[1] == 0);
            for (size_t i = 0; i < c.bytes; i++) assert_int_equal(c.codes[i], k ? 0x00 : 0x77);
            test_ok(mo_quant4_decode(&d, c.codes, c.absmax, 0, 101, y));
            for (size_t i = 0; i < 101; i++) assert_int_equal(test_bits(y[i]), 0);
            release4(&c);
        }
}

static void a_block_with_nan_or_infinity_decodes_to_nothing_finite(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    const float bad[] = {HUGE_VALF, -HUGE_VALF, NAN, test_float(0xffc12345)};
    float x[100], y[100];
    for (size_t k = 0; k < 2; k++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
            for (size_t b = 0; b < n_elements(bad); b++)
                for (size_t at = 0; at < 36; at += 7) {
                    const mo_quant4_desc d = {maps[k], 64, NULL};
                    for (size_t i = 0; i < 100; i++) x[i] = (float)i - 50;
                    x[64 + at] = bad[b];
                    coded4 c = encode4(&d, x, 100);
                    test_ok(mo_quant4_decode(&d, c.codes, c.absmax, 0, 100, y));
                    assert_true(c.absmax[0] == 50);
                    for (size_t i = 0; i < 100; i++) assert_true(isfinite(y[i]) ? i < 64 : i >= 64);
                    release4(&c);
                }
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    float x[64] = {0}, absmax[2];
    uint8_t codes[32];
    uint16_t half[64];
    const mo_quant4_desc good = {MO_QUANT_NF4, 0, NULL};
    const mo_quant4_desc wrong[] = {{MO_QUANT4_MAP_COUNT, 64, NULL}, {(mo_quant4_map)-1, 64, NULL},
        {MO_QUANT_NF4, 16, NULL}, {MO_QUANT_NF4, 8192, NULL}, {MO_QUANT_FP4, 96, NULL}};
    for (size_t i = 0; i < n_elements(wrong); i++) {
        assert_int_equal(mo_quant4_encode(&wrong[i], x, 64, codes, absmax), MO_E_INVALID);
        assert_int_equal(mo_quant4_decode(&wrong[i], codes, absmax, 0, 64, x), MO_E_INVALID);
    }
    assert_int_equal(mo_quant4_encode(NULL, x, 64, codes, absmax), MO_E_INVALID);
    assert_int_equal(mo_quant4_encode(&good, NULL, 64, codes, absmax), MO_E_INVALID);
    assert_int_equal(mo_quant4_encode(&good, x, 64, NULL, absmax), MO_E_INVALID);
    assert_int_equal(mo_quant4_encode(&good, x, 64, codes, NULL), MO_E_INVALID);
    assert_int_equal(mo_quant4_decode(NULL, codes, absmax, 0, 64, x), MO_E_INVALID);
    assert_int_equal(mo_quant4_decode_bf16(&good, NULL, absmax, 0, 64, half), MO_E_INVALID);
    assert_int_equal(mo_quant4_decode_f16(&good, codes, NULL, 0, 64, half), MO_E_INVALID);
    assert_int_equal(mo_quant4_decode(&good, codes, absmax, 0, 64, NULL), MO_E_INVALID);
    float offset;
    assert_int_equal(mo_quant_nested_encode(NULL, 64, codes, absmax, &offset), MO_E_INVALID);
    assert_int_equal(mo_quant_nested_encode(x, 64, codes, absmax, NULL), MO_E_INVALID);
    assert_int_equal(mo_quant_nested_decode(codes, NULL, 0, 64, x), MO_E_INVALID);
}

/* ---- properties ---------------------------------------------------------------------------- */

/* Every block of 32 starts with 1, so that t is the number itself: all thresholds with 40 floats on
 * each side, all values, and numbers of all sizes. */
static float *edges(test_rng *r, size_t n) {
    float *x = test_floats(n);
    for (size_t i = 0, at = 0; i < n; i++) {
        if (i % 32 == 0) {
            x[i] = 1;
            continue;
        }
        const size_t which = at / 81, off = at % 81;
        at++;
        uint32_t bits;
        if (which < 15) bits = nf4_bits[which];
        else if (which < 22) bits = fp4_bits[which - 15];
        else if (which < 54) bits = test_bits(mo_quant4_table(maps[which % 2])[which / 2 % 16]);
        else bits = test_bits((float)exp(-30 * test_uniform(r) * test_uniform(r)));
        if ((bits & 0x7fffffff) > 0x800000) bits += (uint32_t)off - 40;
        x[i] = test_float(bits);
        if (which >= 15 && test_below(r, 2)) x[i] = -x[i];
        if (fabsf(x[i]) > 1) x[i] = -1;
    }
    return x;
}

static void codes_are_those_of_a_search_over_the_thresholds_on_every_instruction_set(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    enum { N = 200001 };
    test_rng r = test_rng_begin(__func__);
    float *x = edges(&r, N), *normal = test_normals(&r, N, 3e-5f);
    for (size_t k = 0; k < 2; k++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            const mo_quant4_desc small = {maps[k], 32, NULL}, large = {maps[k], 4096, NULL};
            coded4 c = encode4(&small, x, N);
            assert_reference(maps[k], x, &c);
            release4(&c);
            c = encode4(&large, normal, N);
            assert_reference(maps[k], normal, &c);
            release4(&c);
        }
    free(x);
    free(normal);
}

/* All floats of [-1, 1] in steps of a prime number of ulp. */
static void a_sweep_over_all_sizes_agrees_with_the_search(void **state) {
    (void)state;
    enum { N = 4096 };
    float x[N];
    uint8_t codes[N / 2];
    float absmax[1];
    uint32_t bits = 0;
    while (bits < 0x3f800000) {
        for (size_t i = 0; i < N; i++, bits += 2003) {
            x[i] = bits < 0x3f800000 ? test_float(bits) : 1;
            if (bits % 2) x[i] = -x[i];
        }
        x[0] = 1;
        for (size_t k = 0; k < 2; k++) {
            const mo_quant4_desc d = {maps[k], 4096, NULL};
            test_ok(mo_quant4_encode(&d, x, N, codes, absmax));
            for (size_t i = 0; i < N; i++)
                assert_int_equal(code_at(codes, i), reference_code(maps[k], x[i]));
        }
    }
}

static void any_length_and_number_of_threads_gives_the_same_bits(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (size_t n = 0; n < 20000; n = n * 5 / 4 + 1) {
        float *x = test_normals(&r, n, 1), *y1 = test_floats(n), *y = test_floats(n);
        for (size_t k = 0; k < 2; k++)
            for (size_t block = 32; block <= 4096; block *= 2) {
                const mo_parallel one = test_threads(1), five = test_threads(5);
                mo_quant4_desc d1 = {maps[k], block, &one}, d5 = {maps[k], block, &five};
                coded4 want = encode4(&d1, x, n);
                assert_reference(maps[k], x, &want);
                test_ok(mo_quant4_decode(&d1, want.codes, want.absmax, 0, n, y1));
                for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
                    coded4 c = encode4(&d5, x, n);
                    assert_same_coded4(&c, &want);
                    test_ok(mo_quant4_decode(&d5, c.codes, c.absmax, 0, n, y));
                    assert_same_bits(y, y1, n * sizeof *y);
                    release4(&c);
                }
                release4(&want);
            }
        free(x);
        free(y);
        free(y1);
    }
}

static void any_slice_of_any_type_is_that_part_of_the_whole(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    enum { N = 3001 };
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, N, 300), whole[N];
    uint16_t bf16[N], f16[N];
    for (size_t k = 0; k < 2; k++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            const mo_quant4_desc d = {maps[k], k ? 32 : 256, NULL};
            coded4 c = encode4(&d, x, N);
            for (size_t i = 0; i < N; i++)
                whole[i] = mo_quant4_table(maps[k])[code_at(c.codes, i)] * c.absmax[i / c.block];
            mo_f32_to_bf16(whole, bf16, N, NULL);
            mo_f32_to_f16(whole, f16, N, NULL);
            for (int t = 0; t < 300; t++) {
                const size_t first = t ? test_below(&r, N) : 0,
                             n = t ? test_below(&r, N - first) : N;
                float *y = test_floats(n);
                uint16_t *h = (uint16_t *)test_array(n, sizeof *h);
                test_ok(mo_quant4_decode(&d, c.codes, c.absmax, first, n, y));
                assert_same_bits(y, whole + first, n * sizeof *y);
                test_ok(mo_quant4_decode_bf16(&d, c.codes, c.absmax, first, n, h));
                assert_same_bits(h, bf16 + first, n * sizeof *h);
                test_ok(mo_quant4_decode_f16(&d, c.codes, c.absmax, first, n, h));
                assert_same_bits(h, f16 + first, n * sizeof *h);
                free(y);
                free(h);
            }
            release4(&c);
        }
    free(x);
}

/* Outputs that go past the cache, and the same ones off their alignment, which do not. */
static void large_outputs_are_the_same_bits(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    enum { N = (4 << 20) + 77 };
    test_rng r = test_rng_begin(__func__);
    float *x = test_floats(N);
    for (size_t i = 0; i < N; i++) x[i] = (float)test_uniform(&r) - 0.5f;
    float *y = (float *)mo_alloc(NULL, (N + 16) * sizeof *y, 64), *z = test_floats(N);
    const mo_parallel three = test_threads(3);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        const mo_quant4_desc d = {MO_QUANT_NF4, 64, &three};
        coded4 c = encode4(&d, x, N);
        test_ok(mo_quant4_decode(&d, c.codes, c.absmax, 0, N, y));
        test_ok(mo_quant4_decode(&d, c.codes, c.absmax, 0, N / 4, z));
        assert_same_bits(y, z, N / 4 * sizeof *y);
        memcpy(z, y, N * sizeof *y);
        test_ok(mo_quant4_decode(&d, c.codes, c.absmax, 0, N, y + 3));
        assert_same_bits(y + 3, z, N * sizeof *y);
        uint16_t *h = (uint16_t *)(void *)y, *g = (uint16_t *)test_array(N, sizeof *g);
        mo_f32_to_bf16(z, g, N, NULL);
        test_ok(mo_quant4_decode_bf16(&d, c.codes, c.absmax, 0, N, h));
        assert_same_bits(h, g, N * sizeof *h);
        mo_f32_to_f16(z, g, N, NULL);
        test_ok(mo_quant4_decode_f16(&d, c.codes, c.absmax, 0, N, h));
        assert_same_bits(h, g, N * sizeof *h);
        free(g);
        release4(&c);
    }
    mo_free(NULL, y, (N + 16) * sizeof *y, 64);
    free(x);
    free(z);
}

/* Normally distributed, unlike test_normal, whose tails are short: Box and Muller. */
static float *gaussians(test_rng *r, size_t n) {
    float *x = test_floats(n);
    for (size_t i = 0; i < n; i++)
        x[i] =
            (float)(sqrt(-2 * log(1 - test_uniform(r))) * cos(6.283185307179586 * test_uniform(r)));
    return x;
}

/* mean |y - x| and mean |y - x| / |x|, as bitsandbytes' tests count them */
static void mean_errors(const float *x, const float *y, size_t n, double *absolute, double *rel) {
    *absolute = *rel = 0;
    for (size_t i = 0; i < n; i++) {
        const double e = fabs((double)x[i] - (double)y[i]);
        *absolute += e / (double)n;
        *rel += e / (fabs((double)x[i]) + 1e-8) / (double)n;
    }
}

/* Means of bitsandbytes on 1 M normal numbers; 7 standard deviations as in its own test. */
static void errors_on_a_million_normal_numbers_are_those_of_bitsandbytes(void **state) {
    (void)state;
    static const double bars[2][8][4] = {/* mean abs, its std, mean rel, its std; blocks 32.. */
        {{.067746, .000069, .189726, .000304}, {.072798, .000074, .203339, .000340},
            {.076831, .000091, .215237, .000391}, {.080337, .000102, .226105, .000398},
            {.083547, .000143, .236079, .000544}, {.086610, .000187, .245370, .000600},
            {.089592, .000251, .254163, .000747}, {.092547, .000360, .262473, .000999}},
        {{.088925, .000091, .242443, .000330}, {.096543, .000111, .260125, .000379},
            {.102969, .000134, .275817, .000433}, {.108684, .000182, .289831, .000497},
            {.114115, .000234, .302881, .000583}, {.119333, .000320, .315000, .000757},
            {.124556, .000455, .326607, .000955}, {.129536, .000612, .337169, .001239}}};
    enum { N = 1 << 20 };
    test_rng r = test_rng_begin(__func__);
    float *x = gaussians(&r, N), *y = test_floats(N);
    for (size_t k = 0; k < 2; k++)
        for (size_t b = 0; b < 8; b++) {
            const mo_quant4_desc d = {maps[k], (size_t)32 << b, NULL};
            const double *bar = bars[k][b];
            double absolute, relative;
            coded4 c = encode4(&d, x, N);
            test_ok(mo_quant4_decode(&d, c.codes, c.absmax, 0, N, y));
            mean_errors(x, y, N, &absolute, &relative);
            assert_error_below(fabs(absolute - bar[0]), 7 * bar[1]);
            assert_error_below(fabs(relative - bar[2]), 7 * bar[3]);
            if (b < 3) { /* and with scales of scales */
                uint8_t *codes = (uint8_t *)test_array(c.blocks, 1);
                float *absmax2 = test_floats(c.blocks / 256 + 1), offset;
                test_ok(mo_quant_nested_encode(c.absmax, c.blocks, codes, absmax2, &offset));
                test_ok(mo_quant_nested_decode(codes, absmax2, offset, c.blocks, c.absmax));
                test_ok(mo_quant4_decode(&d, c.codes, c.absmax, 0, N, y));
                mean_errors(x, y, N, &absolute, &relative);
                assert_error_below(absolute, 0.11);
                assert_error_below(relative, 0.28);
                free(codes);
                free(absmax2);
            }
            release4(&c);
        }
    free(x);
    free(y);
}

static void nested_scales_are_the_quant8_codes_of_the_distance_to_the_mean(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    const size_t sizes[] = {0, 1, 255, 2048, 2049, 9001};
    for (size_t s = 0; s < n_elements(sizes); s++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            const size_t n = sizes[s], blocks = n / 256 + 1;
            float *x = test_normals(&r, n, 1), *d = test_copy(x, n), *back = test_floats(n);
            uint8_t *codes = (uint8_t *)test_array(2 * n, 1);
            float *absmax2 = test_floats(2 * blocks), offset = 7;
            double sum = 0;
            for (size_t i = 0; i < n; i++) sum += (double)x[i];
            const float mean = n ? (float)(sum / (double)n) : 0;
            for (size_t i = 0; i < n; i++) d[i] -= mean;
            const mo_quant8_desc q8 = {MO_QUANT_SIGNED, 256, 0, NULL};
            memset(absmax2, 0, 2 * blocks * sizeof *absmax2);
            test_ok(mo_quant_nested_encode(x, n, codes, absmax2, &offset));
            test_ok(mo_quant8_encode(&q8, d, n, codes + n, absmax2 + blocks));
            assert_true(offset == mean);
            assert_same_bits(codes, codes + n, n);
            assert_same_bits(absmax2, absmax2 + blocks, blocks * sizeof *absmax2);
            test_ok(mo_quant8_decode(&q8, codes, absmax2, n, d));
            test_ok(mo_quant_nested_decode(codes, absmax2, offset, n, back));
            for (size_t i = 0; i < n; i++) assert_true(back[i] == d[i] + offset);
            free(x);
            free(d);
            free(back);
            free(codes);
            free(absmax2);
        }
}

/* ---- golden -------------------------------------------------------------------------------- */

static void golden_codes_and_numbers(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    size_t n, blocks, bytes, n_deq;
    float *x = (float *)test_golden("q4_x.f32", sizeof *x, &n);
    float *absmax = (float *)test_golden("nf4_absmax.f32", sizeof *absmax, &blocks);
    for (size_t k = 0; k < 2; k++) {
        uint8_t *packed = (uint8_t *)test_golden(k ? "fp4_packed.u8" : "nf4_packed.u8", 1, &bytes);
        float *deq = (float *)test_golden(k ? "fp4_deq.f32" : "nf4_deq.f32", sizeof *deq, &n_deq);
        assert_int_equal(bytes, (n + 1) / 2);
        assert_int_equal(n_deq, n);
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            const mo_quant4_desc d = {maps[k], 0, NULL};
            coded4 c = encode4(&d, x, n);
            float *y = test_floats(n);
            assert_int_equal(c.blocks, blocks);
            assert_same_bits(c.absmax, absmax, blocks * sizeof *absmax);
            assert_same_bits(c.codes, packed, bytes);
            test_ok(mo_quant4_decode(&d, packed, absmax, 0, n, y));
            for (size_t i = 0; i < n; i++) assert_true(y[i] == deq[i]); /* -0 is 0 */
            free(y);
            release4(&c);
        }
        free(packed);
        free(deq);
    }
    free(x);
    free(absmax);
}

static void golden_nested_scales(void **state) {
    (void)state;
    size_t n, n_codes, n_alt, n_absmax2, one, n_deq;
    float *absmax = (float *)test_golden("dq_absmax.f32", 4, &n);
    float *want_offset = (float *)test_golden("dq_offset.f32", 4, &one);
    uint8_t *want = (uint8_t *)test_golden("dq_codes.u8", 1, &n_codes);
    uint8_t *alt = (uint8_t *)test_golden("dq_codes_alt.u8", 1, &n_alt);
    float *want2 = (float *)test_golden("dq_absmax2.f32", 4, &n_absmax2);
    float *deq = (float *)test_golden("dq_deq_absmax.f32", 4, &n_deq);
    uint8_t *codes = (uint8_t *)test_array(n, 1);
    float *absmax2 = test_floats(n_absmax2), *back = test_floats(n), offset;
    test_ok(mo_quant_nested_encode(absmax, n, codes, absmax2, &offset));
    assert_true(offset == *want_offset);
    for (size_t i = 0; i < n; i++) assert_true(codes[i] == want[i] || codes[i] == alt[i]);
    assert_same_bits(absmax2, want2, n_absmax2 * sizeof *absmax2);
    test_ok(mo_quant_nested_decode(want, want2, *want_offset, n, back));
    assert_same_bits(back, deq, n * sizeof *back);
    free(absmax);
    free(want_offset);
    free(want);
    free(alt);
    free(want2);
    free(deq);
    free(codes);
    free(absmax2);
    free(back);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tables_hold_what_bitsandbytes_has),
        cmocka_unit_test(five_numbers_by_hand),
        cmocka_unit_test(a_block_of_zeros_or_subnormals_has_scale_0_and_decodes_to_0),
        cmocka_unit_test(a_block_with_nan_or_infinity_decodes_to_nothing_finite),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(codes_are_those_of_a_search_over_the_thresholds_on_every_instruction_set),
        cmocka_unit_test(a_sweep_over_all_sizes_agrees_with_the_search),
        cmocka_unit_test(any_length_and_number_of_threads_gives_the_same_bits),
        cmocka_unit_test(any_slice_of_any_type_is_that_part_of_the_whole),
        cmocka_unit_test(large_outputs_are_the_same_bits),
        cmocka_unit_test(errors_on_a_million_normal_numbers_are_those_of_bitsandbytes),
        cmocka_unit_test(nested_scales_are_the_quant8_codes_of_the_distance_to_the_mean),
        cmocka_unit_test(golden_codes_and_numbers),
        cmocka_unit_test(golden_nested_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
