/* test_quant.c - mo_quant8: nearest codes, found here by looking at all 256 values. */
#include "test_numeric.h"
#include <float.h>

enum { N_DYNAMIC = 2 };
static const mo_quant_map maps[] = {
    MO_QUANT_SIGNED, MO_QUANT_UNSIGNED, MO_QUANT_LINEAR_SIGNED, MO_QUANT_LINEAR_UNSIGNED};

static int is_signed(mo_quant_map map) {
    return map == MO_QUANT_SIGNED || map == MO_QUANT_LINEAR_SIGNED;
}
/* of +0 */
static int zero_code(mo_quant_map map) {
    return map == MO_QUANT_SIGNED ? 127 : map == MO_QUANT_LINEAR_SIGNED ? 128 : 0;
}

static size_t n_blocks(size_t n, size_t block) { return (n + block - 1) / block; }

/* ---- the reference ------------------------------------------------------------------------- */

/* Where the code goes from i to i + 1: half-way, rounded to float as the values are. */
static float midpoint(const float *map, int i) { return (map[i] + map[i + 1]) * 0.5f; }

/* Nearest value in exact arithmetic (double is exact here), even code on a tie; a tie is equality
 * with the rounded midpoint. Starts from scratch for every number: no threshold table, no guess. */
static int nearest(mo_quant_map kind, float t) {
    const float *map = mo_quant8_table(kind);
    int low = 0;
    if (kind == MO_QUANT_LINEAR_SIGNED && signbit(t)) return 255 - nearest(kind, -t);
    for (int step = 128; step > 0; step /= 2) /* last value that is <= t, else 0 */
        if (low + step < 256 && map[low + step] <= t) low += step;
    if (low == 255 || t <= map[0]) return low;
    if (t == midpoint(map, low)) return low + low % 2;
    return (double)t - (double)map[low] < (double)map[low + 1] - (double)t ? low : low + 1;
}

static int nearest_brute(mo_quant_map kind, float t) {
    const float *map = mo_quant8_table(kind);
    int best = 0;
    if (kind == MO_QUANT_LINEAR_SIGNED && signbit(t)) return 255 - nearest_brute(kind, -t);
    for (int i = 1; i < 256; i++) { /* the last of two 0 */
        const double d = fabs((double)t - (double)map[i]),
                     least = fabs((double)t - (double)map[best]);
        if (d < least || map[i] == map[best]) best = i;
    }
    if (best < 255 && t == midpoint(map, best)) best += best % 2;
    else if (best > 0 && t == midpoint(map, best - 1) && map[best - 1] != map[best])
        best -= best % 2;
    return best;
}

static int nearest_no_zero(mo_quant_map map, float t) {
    const int code = nearest(map, t);
    if (mo_quant8_table(map)[code] != 0 || t == 0) return code;
    return t > 0 ? zero_code(map) + 1 : 126;
}

/* One float up or down. */
static float next(float x, int up) { return nextafterf(x, up ? HUGE_VALF : -HUGE_VALF); }

/* Numbers in [-1, 1] (or [0, 1]) that hit every edge: all midpoints, values and powers of ten with
 * their neighbours, zeros, denormals, and the rest spread over the decades. Every block of 256
 * starts with 1, so that absmax is 1 and t is the number itself. */
static float *edge_cases(test_rng *r, mo_quant_map map, size_t n) {
    const float *values = mo_quant8_table(map);
    float *x = test_floats(n);
    size_t at = 0, special = 0;
    for (size_t i = 0; i < n; i++) {
        float v;
        if (i % 256 == 0) {
            x[i] = 1;
            continue;
        }
        special = at++;
        if (special < 255 * 5) {
            const int off = (int)(special % 5) - 2; /* floats away from the midpoint */
            v = midpoint(values, (int)(special / 5));
            for (int k = 0; k < abs(off); k++) v = next(v, off > 0);
        } else if (special < 255 * 5 + 256 * 3) {
            special -= 255 * 5;
            v = values[special / 3];
            if (special % 3) v = next(v, special % 3 == 1);
        } else if (special < 255 * 5 + 256 * 3 + 8 * 9) {
            special -= 255 * 5 + 256 * 3;
            v = powf(10.0f, -(float)(special / 9));
            for (size_t k = 0; k < special % 9; k++) v = next(v, special % 2 == 0);
        } else if (special % 16 == 0)
            v = test_float((uint32_t)test_below(r, 0x800000)); /* subnormal */
        else if (special % 16 == 1) v = 0;
        else if (special % 16 == 2) v = -0.0f;
        else if (special % 16 < 9) v = (float)exp(-20 * test_uniform(r)); /* log-uniform */
        else if (special % 16 == 9) v = (float)exp(-100 * test_uniform(r));
        else v = (float)test_uniform(r);
        if (v > 1) v = 1;
        if (is_signed(map) && test_below(r, 2)) v = -v;
        if (!is_signed(map) && v < 0) v = -v;
        x[i] = v;
    }
    return x;
}

typedef struct coded {
    uint8_t *codes;
    float *absmax;
    size_t n, blocks;
} coded;

static coded encode(const mo_quant8_desc *d, const float *x, size_t n) {
    coded c;
    c.n = n;
    c.blocks = n_blocks(n, d->block ? d->block : 256);
    c.codes = (uint8_t *)test_array(n, 1);
    c.absmax = test_floats(c.blocks);
    test_ok(mo_quant8_encode(d, x, n, c.codes, c.absmax));
    return c;
}
static void release(coded *c) {
    free(c->codes);
    free(c->absmax);
}
static void assert_same_coded(const coded *a, const coded *b) {
    assert_same_bits(a->codes, b->codes, a->n);
    assert_same_bits(a->absmax, b->absmax, a->blocks * sizeof(float));
}

/* ---- examples ------------------------------------------------------------------------------ */

static void the_tables_ascend_and_hold_0_and_1(void **state) {
    (void)state;
    for (size_t k = 0; k < n_elements(maps); k++) {
        const float *map = mo_quant8_table(maps[k]);
        for (int i = 1; i < 256; i++)
            assert_true(map[i] > map[i - 1] || (maps[k] == MO_QUANT_LINEAR_SIGNED && i == 128));
        assert_true(map[255] == 1.0f);
        assert_int_equal(test_bits(map[zero_code(maps[k])]), 0);
    }
    assert_null(mo_quant8_table(MO_QUANT_MAP_COUNT));
    assert_null(mo_quant8_table((mo_quant_map)-1));
}

static void the_tables_are_the_formula_rounded_once(void **state) {
    (void)state;
    for (size_t k = 0; k < N_DYNAMIC; k++) {
        const float *map = mo_quant8_table(maps[k]);
        int at = maps[k] == MO_QUANT_SIGNED ? 128 : 1;
        for (int decade = 0; decade < 7; decade++) {
            const int n = 1 << (decade + (maps[k] == MO_QUANT_SIGNED ? 0 : 1));
            for (int i = 0; i < n; i++, at++) {
                const double value = (2.0 * n + 9 * (2 * i + 1)) / (20.0 * n * pow(10, 6 - decade));
                assert_true(map[at] == (float)value);
                if (maps[k] == MO_QUANT_SIGNED) assert_true(map[254 - at] == -(float)value);
            }
        }
        assert_int_equal(at, 255);
    }
}

static void the_linear_tables_are_equal_steps(void **state) {
    (void)state;
    const float *two = mo_quant8_table(MO_QUANT_LINEAR_SIGNED),
                *one = mo_quant8_table(MO_QUANT_LINEAR_UNSIGNED);
    for (int i = 0; i < 256; i++) {
        assert_true(two[i] == (float)((i < 128 ? i - 127 : i - 128) / 127.0));
        assert_true(one[i] == (float)(i / 255.0));
    }
}

static void a_block_by_hand(void **state) {
    (void)state;
    const float x[] = {2, -2, 0, 1, -0.0f, 2e-9f};
    const uint8_t want[] = {255, 0, 127, 220, 127, 127};
    const mo_quant8_desc d = {MO_QUANT_SIGNED, 0, 0, NULL};
    coded c = encode(&d, x, n_elements(x));
    assert_true(c.absmax[0] == 2.0f);
    for (size_t i = 0; i < n_elements(x); i++)
        if (i != 3) assert_int_equal(c.codes[i], want[i]);
    assert_int_equal(c.codes[3], nearest_brute(MO_QUANT_SIGNED, 0.5f));
    float y[n_elements(x)];
    test_ok(mo_quant8_decode(&d, c.codes, c.absmax, n_elements(x), y));
    assert_true(y[0] == 2.0f && y[2] == 0.0f && y[4] == 0.0f);
    release(&c);
}

static void an_all_zero_block_has_scale_0_and_stays_0(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    float x[300] = {0}, y[300];
    x[7] = -0.0f;
    for (size_t k = 0; k < n_elements(maps); k++)
        for (int no_zero = 0; no_zero < 2; no_zero++)
            for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
                const mo_quant8_desc d = {maps[k], 256, no_zero, NULL};
                coded c = encode(&d, x, 300);
                for (size_t i = 0; i < 300; i++) assert_int_equal(c.codes[i], zero_code(maps[k]));
                assert_true(c.absmax[0] == 0.0f && c.absmax[1] == 0.0f);
                test_ok(mo_quant8_decode(&d, c.codes, c.absmax, 300, y));
                for (size_t i = 0; i < 300; i++) assert_int_equal(test_bits(y[i]), 0);
                release(&c);
            }
}

/* 1 / absmax overflows below 2^-128, and 0 * infinity is no number. */
static void a_block_of_subnormals_counts_as_zero(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    float x[64] = {0}, y[64];
    for (size_t k = 0; k < n_elements(maps); k++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
            for (uint32_t bits = 1; bits < 0x800000; bits = bits * 2 + 1) {
                const mo_quant8_desc d = {maps[k], 64, 1, NULL};
                for (size_t i = 0; i < 64; i += 3) x[i] = test_float(bits);
                coded c = encode(&d, x, 64);
                assert_true(c.absmax[0] == 0.0f);
                test_ok(mo_quant8_decode(&d, c.codes, c.absmax, 64, y));
                for (size_t i = 0; i < 64; i++) assert_true(y[i] == 0.0f);
                release(&c);
            }
}

static void the_smallest_and_the_largest_normal_scale_work(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    const float scale[] = {FLT_MIN, FLT_MAX};
    for (size_t k = 0; k < n_elements(maps); k++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
            for (size_t s = 0; s < 2; s++) {
                const mo_quant8_desc d = {maps[k], 64, 0, NULL};
                const float inverse = 1.0f / scale[s];
                float x[64], y[64];
                for (size_t i = 0; i < 64; i++) x[i] = (float)(i + 1) / 64.0f * scale[s];
                coded c = encode(&d, x, 64);
                assert_true(c.absmax[0] == scale[s]);
                for (size_t i = 0; i < 64; i++)
                    assert_int_equal(c.codes[i], nearest(maps[k], x[i] * inverse));
                test_ok(mo_quant8_decode(&d, c.codes, c.absmax, 64, y));
                assert_true(y[63] == scale[s]);
                release(&c);
            }
}

static void a_number_below_the_unsigned_map_gets_code_0(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    float x[67];
    for (size_t i = 0; i < 67; i++) x[i] = i % 2 ? 1.0f : -(float)i / 66.0f;
    for (int no_zero = 0; no_zero < 2; no_zero++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            const mo_quant8_desc d = {MO_QUANT_UNSIGNED, 4096, no_zero, NULL};
            coded c = encode(&d, x, 67);
            for (size_t i = 0; i < 67; i++) assert_int_equal(c.codes[i], i % 2 ? 255 : 0);
            release(&c);
        }
}

/* What is not finite is outside the contract; this is what happens: the block's scale is infinity
 * whatever else is in it, every number of it decodes to an infinity or NaN, the neighbours are not
 * touched, and all instruction sets agree on the codes. */
static void a_block_with_a_number_that_is_not_finite_decodes_to_none_that_is(void **state) {
    (void)state;
    enum { N = 64 * 3 + 5 };
    const mo_cpu initial = mo_cpu_current();
    const uint32_t bad[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff};
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < n_elements(maps); k++)
        for (size_t b = 0; b < n_elements(bad); b++)
            for (size_t at = 64; at < N; at += at == 128 ? 64 : 1) {
                const mo_quant8_desc d = {maps[k], 64, (int)(at % 2), NULL};
                float x[N], y[N];
                for (size_t i = 0; i < N; i++) x[i] = fabsf(test_normal(&r));
                x[at] = test_float(bad[b]);
                test_ok(mo_cpu_select(MO_CPU_SCALAR));
                coded want = encode(&d, x, N);
                for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
                    coded c = encode(&d, x, N);
                    assert_same_coded(&c, &want);
                    test_ok(mo_quant8_decode(&d, c.codes, c.absmax, N, y));
                    for (size_t i = 0; i < N; i++) {
                        assert_int_equal(isfinite(y[i]) != 0, i / 64 != at / 64);
                    }
                    assert_true(isinf(c.absmax[at / 64]));
                    release(&c);
                }
                release(&want);
            }
}

static void every_block_size_from_64_to_4096_is_taken(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, 10007, 3);
    for (size_t block = 64; block <= 4096; block *= 2) {
        const mo_quant8_desc d = {MO_QUANT_SIGNED, block, 0, NULL};
        coded c = encode(&d, x, 10007);
        for (size_t b = 0; b < c.blocks; b++) {
            float most = 0;
            for (size_t i = b * block; i < (b + 1) * block && i < 10007; i++)
                most = fmaxf(most, fabsf(x[i]));
            assert_true(c.absmax[b] == most);
            const float inverse = 1.0f / most;
            for (size_t i = b * block; i < (b + 1) * block && i < 10007; i++)
                assert_int_equal(c.codes[i], nearest(MO_QUANT_SIGNED, x[i] * inverse));
        }
        release(&c);
    }
    free(x);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    float x[4] = {1, 2, 3, 4}, absmax[1];
    uint8_t codes[4] = {0};
    const mo_quant8_desc good = {MO_QUANT_SIGNED, 0, 0, NULL};
    assert_int_equal(mo_quant8_encode(NULL, x, 4, codes, absmax), MO_E_INVALID);
    assert_int_equal(mo_quant8_encode(&good, NULL, 4, codes, absmax), MO_E_INVALID);
    assert_int_equal(mo_quant8_encode(&good, x, 4, NULL, absmax), MO_E_INVALID);
    assert_int_equal(mo_quant8_encode(&good, x, 4, codes, NULL), MO_E_INVALID);
    assert_int_equal(mo_quant8_decode(NULL, codes, absmax, 4, x), MO_E_INVALID);
    assert_int_equal(mo_quant8_decode(&good, NULL, absmax, 4, x), MO_E_INVALID);
    assert_int_equal(mo_quant8_decode(&good, codes, NULL, 4, x), MO_E_INVALID);
    assert_int_equal(mo_quant8_decode(&good, codes, absmax, 4, NULL), MO_E_INVALID);
    const size_t blocks[] = {1, 32, 63, 65, 100, 8192, SIZE_MAX};
    for (size_t i = 0; i < n_elements(blocks); i++) {
        const mo_quant8_desc d = {MO_QUANT_SIGNED, blocks[i], 0, NULL};
        assert_int_equal(mo_quant8_encode(&d, x, 4, codes, absmax), MO_E_INVALID);
        assert_int_equal(mo_quant8_decode(&d, codes, absmax, 4, x), MO_E_INVALID);
    }
    const mo_quant8_desc no_map = {MO_QUANT_MAP_COUNT, 0, 0, NULL};
    const mo_quant8_desc below = {(mo_quant_map)-1, 0, 0, NULL};
    assert_int_equal(mo_quant8_encode(&no_map, x, 4, codes, absmax), MO_E_INVALID);
    assert_int_equal(mo_quant8_encode(&below, x, 4, codes, absmax), MO_E_INVALID);
    assert_int_equal(mo_quant8_decode(&no_map, codes, absmax, 4, x), MO_E_INVALID);
    test_ok(mo_quant8_encode(&good, x, 0, codes, absmax));
    test_ok(mo_quant8_decode(&good, codes, absmax, 0, x));
    assert_true(x[0] == 1 && codes[0] == 0);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void the_short_reference_agrees_with_the_search_through_all_256(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < n_elements(maps); k++) {
        float *x = edge_cases(&r, maps[k], 20000);
        for (size_t i = 0; i < 20000; i++)
            assert_int_equal(nearest(maps[k], x[i]), nearest_brute(maps[k], x[i]));
        free(x);
    }
}

static void a_million_codes_are_the_nearest_on_every_instruction_set(void **state) {
    (void)state;
    enum { N = 1000003 };
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < n_elements(maps); k++) {
        float *x = edge_cases(&r, maps[k], N);
        uint8_t *want = (uint8_t *)test_array(N, 1);
        for (size_t i = 0; i < N; i++) want[i] = (uint8_t)nearest(maps[k], x[i]);
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            const mo_quant8_desc d = {maps[k], 256, 0, NULL};
            coded c = encode(&d, x, N);
            for (size_t i = 0; i < N; i++)
                if (c.codes[i] != want[i])
                    fail_msg("%s: %a -> %d, not %d", mo_cpu_name(mo_cpu_current()), (double)x[i],
                        want[i], c.codes[i]);
            release(&c);
        }
        free(x);
        free(want);
    }
}

static void no_zero_gives_the_code_of_0_to_0_alone(void **state) {
    (void)state;
    enum { N = 300007 };
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (size_t k = 0; k < n_elements(maps); k++) {
        float *x = edge_cases(&r, maps[k], N);
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            const mo_quant8_desc d = {maps[k], 256, 1, NULL};
            coded c = encode(&d, x, N);
            for (size_t i = 0; i < N; i++)
                assert_int_equal(c.codes[i], nearest_no_zero(maps[k], x[i]));
            release(&c);
        }
        free(x);
    }
}

static void random_scales_are_bit_identical_on_every_instruction_set(void **state) {
    (void)state;
    enum { N = 200003 };
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *x = test_floats(N), *y = test_floats(N), *y_scalar = test_floats(N);
    for (size_t k = 0; k < n_elements(maps); k++)
        for (size_t block = 64; block <= 4096; block *= 8) {
            for (size_t i = 0; i < N; i++)
                x[i] = (float)ldexp(test_uniform(&r), (int)(i / 1000 % 250) - 125) *
                    (is_signed(maps[k]) && i % 3 ? -1.0f : 1.0f);
            const mo_quant8_desc d = {maps[k], block, (int)(block % 512 == 0), NULL};
            test_ok(mo_cpu_select(MO_CPU_SCALAR));
            coded scalar = encode(&d, x, N);
            test_ok(mo_quant8_decode(&d, scalar.codes, scalar.absmax, N, y_scalar));
            for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
                coded c = encode(&d, x, N);
                assert_same_coded(&c, &scalar);
                test_ok(mo_quant8_decode(&d, c.codes, c.absmax, N, y));
                assert_same_bits(y, y_scalar, N * sizeof *y);
                release(&c);
            }
            release(&scalar);
        }
    free(x);
    free(y);
    free(y_scalar);
}

static void the_number_of_threads_does_not_matter(void **state) {
    (void)state;
    enum { N = 100003 };
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, N, 1), *y = test_floats(N), *y1 = test_floats(N);
    for (size_t block = 64; block <= 4096; block *= 8) {
        const mo_parallel one = test_threads(1);
        mo_quant8_desc d = {MO_QUANT_SIGNED, block, 0, &one};
        coded want = encode(&d, x, N);
        test_ok(mo_quant8_decode(&d, want.codes, want.absmax, N, y1));
        for (int threads = 2; threads <= 7; threads++) {
            const mo_parallel p = test_threads(threads);
            d.parallel = &p;
            coded c = encode(&d, x, N);
            assert_same_coded(&c, &want);
            test_ok(mo_quant8_decode(&d, c.codes, c.absmax, N, y));
            assert_same_bits(y, y1, N * sizeof *y);
            release(&c);
        }
        release(&want);
    }
    free(x);
    free(y);
    free(y1);
}

/* Above 8 MiB the output is written by other instructions, of whole aligned vectors. */
static void a_large_output_decodes_to_the_same_numbers_at_any_alignment(void **state) {
    (void)state;
    enum { N = (8 << 20) / 4 + 1000, PIECE = 4096 * 37 };
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, N, 1), *want = test_floats(N), *y = test_floats(N + 20);
    for (size_t block = 64; block <= 4096; block *= 8) {
        mo_quant8_desc d = {MO_QUANT_SIGNED, block, 0, NULL};
        coded c = encode(&d, x, N);
        for (size_t i = 0; i < N; i += PIECE)
            test_ok(mo_quant8_decode(
                &d, c.codes + i, c.absmax + i / block, N - i < PIECE ? N - i : PIECE, want + i));
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
            for (size_t off = 0; off < 20; off += 3) {
                const mo_parallel p = test_threads(1 + (int)off % 4);
                d.parallel = &p;
                y[off + N - 1] = 0;
                if (off > 0) y[off - 1] = 77;
                test_ok(mo_quant8_decode(&d, c.codes, c.absmax, N, y + off));
                assert_same_bits(y + off, want, N * sizeof *y);
                assert_true(off == 0 || y[off - 1] == 77);
            }
        release(&c);
    }
    free(x);
    free(want);
    free(y);
}

static void any_length_touches_its_codes_only(void **state) {
    (void)state;
    enum { MOST = 200 };
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *x = test_normals(&r, MOST, 1);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t n = 0; n <= MOST; n++) {
            uint8_t codes[MOST + 8];
            float absmax[8], y[MOST + 8];
            const mo_quant8_desc d = {MO_QUANT_SIGNED, 64, 0, NULL};
            memset(codes, 0xee, sizeof codes);
            memset(absmax, 0xee, sizeof absmax);
            memset(y, 0xee, sizeof y);
            test_ok(mo_quant8_encode(&d, x, n, codes + 1, absmax));
            test_ok(mo_quant8_decode(&d, codes + 1, absmax, n, y + 1));
            for (size_t i = n + 1; i < sizeof codes; i++) {
                assert_int_equal(codes[i], 0xee);
                assert_int_equal(test_bits(y[i]), 0xeeeeeeee);
            }
            assert_int_equal(codes[0], 0xee);
            for (size_t b = n_blocks(n, 64); b < 8; b++)
                assert_int_equal(test_bits(absmax[b]), 0xeeeeeeee);
        }
    free(x);
}

/* The bars are what an exact quantizer measures on 20 million numbers, plus 1 % for 1 million here;
 * error relative to x has |x| + 1e-8 below. */
static void the_error_stays_below_the_bars(void **state) {
    (void)state;
    enum { N = 1000000, NORMAL = 0, UNIFORM };
    static const struct {
        int input;
        mo_quant_map map;
        size_t block;
        double absolute, relative;
    } bars[] = {
        {NORMAL, MO_QUANT_SIGNED, 64, .007526, .01419},
        {NORMAL, MO_QUANT_SIGNED, 256, .008522, .01538},
        {NORMAL, MO_QUANT_SIGNED, 1024, .009345, .01628},
        {NORMAL, MO_QUANT_SIGNED, 4096, .010021, .01699},
        {UNIFORM, MO_QUANT_SIGNED, 256, .003183, .00994},
        {UNIFORM, MO_QUANT_UNSIGNED, 256, .001597, .00500},
    };
    test_rng r = test_rng_begin(__func__);
    float *x = test_floats(N), *y = test_floats(N);
    for (size_t k = 0; k < n_elements(bars); k++) {
        const mo_quant8_desc d = {bars[k].map, bars[k].block, 0, NULL};
        double absolute = 0, relative = 0;
        for (size_t i = 0; i < N; i++) {
            if (bars[k].input == UNIFORM) x[i] = (float)test_uniform(&r);
            else /* Box and Muller: the tails set absmax, so they must be right */
                x[i] = (float)(sqrt(-2 * log(1 - test_uniform(&r))) *
                    cos(6.283185307179586 * test_uniform(&r)));
        }
        coded c = encode(&d, x, N);
        test_ok(mo_quant8_decode(&d, c.codes, c.absmax, N, y));
        for (size_t i = 0; i < N; i++) {
            const double e = fabs((double)x[i] - (double)y[i]);
            absolute += e / N;
            relative += e / (fabs((double)x[i]) + 1e-8) / N;
        }
        print_message(
            "block %zu: mean error %.6f, relative %.5f\n", bars[k].block, absolute, relative);
        assert_error_below(absolute, bars[k].absolute * 1.01);
        assert_error_below(relative, bars[k].relative * 1.01);
        release(&c);
    }
    free(x);
    free(y);
}

/* ---- golden -------------------------------------------------------------------------------- */

static void golden_codes_match(mo_quant_map map, const char *prefix) {
    static const char *const suffixes[] = {
        "x.f32", "absmax.f32", "codes.u8", "codes_alt.u8", "deq.f32"};
    void *file[5];
    size_t n[5];
    for (int i = 0; i < 5; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_%s", prefix, suffixes[i]);
        file[i] = test_golden(name, i == 2 || i == 3 ? 1 : 4, &n[i]);
    }
    const uint8_t *codes = (uint8_t *)file[2], *alt = (uint8_t *)file[3];
    const mo_cpu initial = mo_cpu_current();
    const mo_quant8_desc d = {map, 256, 0, NULL};
    float *y = test_floats(n[0]);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        coded c = encode(&d, (float *)file[0], n[0]);
        assert_int_equal(c.blocks, n[1]);
        assert_same_bits(c.absmax, file[1], n[1] * sizeof(float));
        for (size_t i = 0; i < n[0]; i++)
            assert_true(c.codes[i] == codes[i] || c.codes[i] == alt[i]);
        test_ok(mo_quant8_decode(&d, codes, (float *)file[1], n[0], y));
        assert_same_bits(y, file[4], n[4] * sizeof(float));
        release(&c);
    }
    free(y);
    for (int i = 0; i < 5; i++) free(file[i]);
}

static void golden_signed_codes_match(void **state) {
    (void)state;
    golden_codes_match(MO_QUANT_SIGNED, "q8s");
}

static void golden_unsigned_codes_match(void **state) {
    (void)state;
    golden_codes_match(MO_QUANT_UNSIGNED, "q8u");
}

/* FNV-1a of the tables as little-endian bytes */
static void the_tables_have_the_golden_hashes(void **state) {
    (void)state;
    const uint64_t hash[] = {0x1e28a45b2a45b220u, 0x5578dd4560cc7b77u};
    for (size_t k = 0; k < N_DYNAMIC; k++) {
        unsigned char bytes[1024];
        for (size_t i = 0; i < 1024; i++)
            bytes[i] = (unsigned char)(test_bits(mo_quant8_table(maps[k])[i / 4]) >> 8 * (i % 4));
        assert_true(test_fnv1a(bytes, sizeof bytes) == hash[k]);
    }
}

static void half_decodes_are_the_decode_rounded(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    enum { N = 256 * 20 + 77 };
    mo_quant8_desc d;
    memset(&d, 0, sizeof d);
    float *x = test_normals(&r, N, 1), absmax[21];
    uint8_t *codes = malloc(N);
    uint16_t *want = malloc(N * sizeof *want), *got = malloc(N * sizeof *got);
    test_ok(mo_quant8_encode(&d, x, N, codes, absmax));
    test_ok(mo_quant8_decode(&d, codes, absmax, N, x));
    mo_f32_to_bf16(x, want, N, NULL);
    test_ok(mo_quant8_decode_bf16(&d, codes, absmax, N, got));
    assert_memory_equal(got, want, N * sizeof *got);
    mo_f32_to_f16(x, want, N, NULL);
    test_ok(mo_quant8_decode_f16(&d, codes, absmax, N, got));
    assert_memory_equal(got, want, N * sizeof *got);
    assert_int_equal(mo_quant8_decode_bf16(&d, codes, absmax, N, NULL), MO_E_INVALID);
    free(x);
    free(codes);
    free(want);
    free(got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_decodes_are_the_decode_rounded),
        cmocka_unit_test(the_tables_ascend_and_hold_0_and_1),
        cmocka_unit_test(the_tables_are_the_formula_rounded_once),
        cmocka_unit_test(the_linear_tables_are_equal_steps),
        cmocka_unit_test(a_block_by_hand),
        cmocka_unit_test(an_all_zero_block_has_scale_0_and_stays_0),
        cmocka_unit_test(a_block_of_subnormals_counts_as_zero),
        cmocka_unit_test(the_smallest_and_the_largest_normal_scale_work),
        cmocka_unit_test(a_number_below_the_unsigned_map_gets_code_0),
        cmocka_unit_test(a_block_with_a_number_that_is_not_finite_decodes_to_none_that_is),
        cmocka_unit_test(every_block_size_from_64_to_4096_is_taken),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(the_short_reference_agrees_with_the_search_through_all_256),
        cmocka_unit_test(a_million_codes_are_the_nearest_on_every_instruction_set),
        cmocka_unit_test(no_zero_gives_the_code_of_0_to_0_alone),
        cmocka_unit_test(random_scales_are_bit_identical_on_every_instruction_set),
        cmocka_unit_test(the_number_of_threads_does_not_matter),
        cmocka_unit_test(a_large_output_decodes_to_the_same_numbers_at_any_alignment),
        cmocka_unit_test(any_length_touches_its_codes_only),
        cmocka_unit_test(the_error_stays_below_the_bars),
        cmocka_unit_test(golden_signed_codes_match),
        cmocka_unit_test(golden_unsigned_codes_match),
        cmocka_unit_test(the_tables_have_the_golden_hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
