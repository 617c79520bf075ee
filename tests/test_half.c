/* test_half.c - mo_half: exact conversions, the same bits on every instruction set. */
#include "test_numeric.h"

typedef struct format {
    const char *name;
    int mantissa_bits, least_exponent; /* stored mantissa; exponent of the smallest normal */
    uint16_t infinity;
    void (*to)(const float *x, uint16_t *y, size_t n, const mo_parallel *parallel);
    void (*from)(const uint16_t *x, float *y, size_t n, const mo_parallel *parallel);
} format;

static const format formats[] = {
    {"fp16", 10, -14, 0x7c00, mo_f32_to_f16, mo_f16_to_f32},
    {"bf16", 7, -126, 0x7f80, mo_f32_to_bf16, mo_bf16_to_f32},
};

/* ---- the reference: the definition of the format in double --------------------------------- */

static double value_of(const format *f, uint16_t half) {
    const int fraction = half & ((1 << f->mantissa_bits) - 1);
    const int exponent = (half & 0x7fff) >> f->mantissa_bits;
    const double sign = half & 0x8000 ? -1 : 1;
    if ((half & 0x7fff) > f->infinity) return (double)NAN;
    if ((half & 0x7fff) == f->infinity) return sign * HUGE_VAL;
    if (exponent == 0) return sign * ldexp(fraction, f->least_exponent - f->mantissa_bits);
    return sign *
        ldexp(fraction + (1 << f->mantissa_bits),
            f->least_exponent - f->mantissa_bits + exponent - 1);
}

/* Nearest even: |x| in units of the last place, rounded by rint. The pattern then counts up through
 * the exponents by itself. NaN: 0xffff. */
static uint16_t pattern_of(const format *f, float x) {
    if (isnan(x)) return 0xffff;
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    const double magnitude = fabs((double)x);
    int exponent;
    if (magnitude == 0) return sign;
    if (isinf(x)) return (uint16_t)(sign | f->infinity);
    (void)frexp(magnitude, &exponent); /* magnitude = [0.5, 1) * 2^exponent */
    exponent = exponent - 1 > f->least_exponent ? exponent - 1 : f->least_exponent;
    const double units = rint(ldexp(magnitude, f->mantissa_bits - exponent));
    double pattern = units + ldexp(exponent - f->least_exponent, f->mantissa_bits);
    if (pattern > f->infinity) pattern = f->infinity;
    return (uint16_t)(sign | (unsigned)pattern);
}

static int is_nan(const format *f, uint16_t half) { return (half & 0x7fff) > f->infinity; }

/* ---- examples ------------------------------------------------------------------------------ */

static void known_numbers_have_known_patterns(void **state) {
    (void)state;
    const float x[] = {0, -0.0f, 1, -2, 65504, 65520, 0.333333343f, 5.9604645e-8f, 2.9802322e-8f,
        1e-10f, HUGE_VALF};
    const uint16_t f16[] = {0, 0x8000, 0x3c00, 0xc000, 0x7bff, 0x7c00, 0x3555, 1, 0, 0, 0x7c00};
    const uint16_t bf16[] = {
        0, 0x8000, 0x3f80, 0xc000, 0x4780, 0x4780, 0x3eab, 0x3380, 0x3300, 0x2edc, 0x7f80};
    uint16_t y[n_elements(x)];
    mo_f32_to_f16(x, y, n_elements(x), NULL);
    assert_memory_equal(y, f16, sizeof y);
    mo_f32_to_bf16(x, y, n_elements(x), NULL);
    assert_memory_equal(y, bf16, sizeof y);
}

static void nan_stays_nan_with_its_sign_and_becomes_quiet(void **state) {
    (void)state;
    const uint32_t bits[] = {
        0x7f800001, 0xff800001, 0x7fc00000, 0x7fffffff, 0xffffffff, 0x7f80ffff};
    for (size_t k = 0; k < n_elements(formats); k++)
        for (size_t i = 0; i < n_elements(bits); i++) {
            float x[16];
            uint16_t y[16];
            for (int j = 0; j < 16; j++) memcpy(x + j, bits + i, 4);
            formats[k].to(x, y, 16, NULL);
            for (int j = 0; j < 16; j++) {
                assert_true(is_nan(&formats[k], y[j]));
                assert_int_equal(y[j] >> 15, bits[i] >> 31);
                assert_true(y[j] & 1 << (formats[k].mantissa_bits - 1));
            }
        }
}

static void no_numbers_are_no_work(void **state) {
    (void)state;
    float x = 7;
    uint16_t y = 7;
    for (size_t k = 0; k < n_elements(formats); k++) {
        formats[k].to(&x, &y, 0, NULL);
        formats[k].from(&y, &x, 0, NULL);
    }
    assert_true(x == 7 && y == 7);
}

static void all_65536_patterns_become_their_exact_value(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    uint16_t *x = (uint16_t *)test_array(65536, sizeof *x);
    float *y = test_floats(65536);
    for (size_t i = 0; i < 65536; i++) x[i] = (uint16_t)i;
    for (size_t k = 0; k < n_elements(formats); k++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            formats[k].from(x, y, 65536, NULL);
            for (size_t i = 0; i < 65536; i++) {
                const double want = value_of(&formats[k], x[i]);
                if (isnan(want)) assert_true(isnan(y[i]));
                else assert_true((double)y[i] == want && !signbit(y[i]) == !signbit(want));
            }
        }
    free(x);
    free(y);
}

static void all_65536_patterns_come_back(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    uint16_t *x = (uint16_t *)test_array(65536, sizeof *x);
    uint16_t *again = (uint16_t *)test_array(65536, sizeof *x);
    float *y = test_floats(65536);
    for (size_t i = 0; i < 65536; i++) x[i] = (uint16_t)i;
    for (size_t k = 0; k < n_elements(formats); k++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            formats[k].from(x, y, 65536, NULL);
            formats[k].to(y, again, 65536, NULL);
            for (size_t i = 0; i < 65536; i++) {
                if (is_nan(&formats[k], x[i])) assert_true(is_nan(&formats[k], again[i]));
                else assert_int_equal(again[i], x[i]);
            }
        }
    free(x);
    free(again);
    free(y);
}

/* ---- properties ---------------------------------------------------------------------------- */

/* Bit patterns of every kind: any, near the edges of both formats, and exact ties. */
static float *odd_floats(test_rng *r, size_t n) {
    float *x = test_floats(n);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)test_u64(r);
        switch (i % 8) {
        case 0:
            bits = (bits & 0x80000fffu) | (0x33000000u + (uint32_t)test_below(r, 0x6000) * 4096);
            break;
        case 1: bits = (bits & 0x807fffffu) | (0x60u + (uint32_t)test_below(r, 0x30)) << 23; break;
        case 2: bits = (bits & 0x8fffe000u) | 0x30001000u; break; /* a tie of fp16 */
        case 3: bits = (bits & 0xffff0000u) | 0x8000u; break;     /* a tie of bf16 */
        case 4: bits = (bits & 0x807fffffu); break;               /* subnormal */
        case 5: bits = (bits & 0x8000ffffu) | 0x7f7f0000u; break; /* around the largest */
        default: break;
        }
        memcpy(x + i, &bits, 4);
    }
    return x;
}

static void a_million_floats_round_to_the_nearest_even(void **state) {
    (void)state;
    enum { N = 1000003 };
    test_rng r = test_rng_begin(__func__);
    float *x = odd_floats(&r, N);
    uint16_t *y = (uint16_t *)test_array(N, sizeof *y);
    for (size_t k = 0; k < n_elements(formats); k++) {
        size_t wrong = 0;
        formats[k].to(x, y, N, NULL);
        for (size_t i = 0; i < N; i++) {
            const uint16_t want = pattern_of(&formats[k], x[i]);
            if (want == 0xffff ? !is_nan(&formats[k], y[i]) : y[i] != want) {
                if (wrong++ == 0)
                    print_message(
                        "%s: %a -> %04x, not %04x\n", formats[k].name, (double)x[i], want, y[i]);
            }
        }
        assert_int_equal(wrong, 0);
    }
    free(x);
    free(y);
}

static void every_instruction_set_gives_the_bits_of_scalar(void **state) {
    (void)state;
    enum { N = 1000003 };
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *x = odd_floats(&r, N), *back = test_floats(N), *back_scalar = test_floats(N);
    uint16_t *y = (uint16_t *)test_array(N, sizeof *y),
             *scalar = (uint16_t *)test_array(N, sizeof *y);
    uint16_t *any = (uint16_t *)test_array(N, sizeof *y);
    for (size_t i = 0; i < N; i++) any[i] = (uint16_t)test_u64(&r);
    for (size_t k = 0; k < n_elements(formats); k++) {
        test_ok(mo_cpu_select(MO_CPU_SCALAR));
        formats[k].to(x, scalar, N, NULL);
        formats[k].from(any, back_scalar, N, NULL);
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            formats[k].to(x, y, N, NULL);
            assert_same_bits(y, scalar, N * sizeof *y);
            formats[k].from(any, back, N, NULL);
            assert_same_bits(back, back_scalar, N * sizeof *back);
        }
    }
    free(x);
    free(y);
    free(scalar);
    free(any);
    free(back);
    free(back_scalar);
}

static void any_length_at_any_address_touches_its_numbers_only(void **state) {
    (void)state;
    enum { MOST = 67 };
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *x = odd_floats(&r, MOST + 8), back[MOST + 8];
    uint16_t y[MOST + 8];
    for (size_t k = 0; k < n_elements(formats); k++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
            for (size_t n = 0; n <= MOST; n++)
                for (size_t at = 0; at < 4; at++) {
                    memset(y, 0xee, sizeof y);
                    formats[k].to(x + at, y + 3 - at, n, NULL);
                    for (size_t i = 0; i < n_elements(y); i++) {
                        const uint16_t got = y[i];
                        if (i < 3 - at || i >= 3 - at + n) {
                            assert_int_equal(got, 0xeeee);
                            continue;
                        }
                        const uint16_t want = pattern_of(&formats[k], x[i + 2 * at - 3]);
                        if (want == 0xffff) assert_true(is_nan(&formats[k], got));
                        else assert_int_equal(got, want);
                    }
                    memset(back, 0xee, sizeof back);
                    formats[k].from(y + 3 - at, back + at, n, NULL);
                    for (size_t i = 0; i < n_elements(back); i++)
                        if (i < at || i >= at + n) assert_int_equal(test_bits(back[i]), 0xeeeeeeee);
                        else if (!is_nan(&formats[k], y[i + 3 - 2 * at]))
                            assert_true(
                                (double)back[i] == value_of(&formats[k], y[i + 3 - 2 * at]));
                }
    free(x);
}

static void the_number_of_threads_does_not_matter(void **state) {
    (void)state;
    enum { N = 100003 };
    test_rng r = test_rng_begin(__func__);
    float *x = odd_floats(&r, N), *back = test_floats(N), *back1 = test_floats(N);
    uint16_t *y = (uint16_t *)test_array(N, sizeof *y), *y1 = (uint16_t *)test_array(N, sizeof *y);
    for (size_t k = 0; k < n_elements(formats); k++) {
        const mo_parallel one = test_threads(1);
        formats[k].to(x, y1, N, &one);
        formats[k].from(y1, back1, N, &one);
        for (int threads = 2; threads <= 7; threads++) {
            const mo_parallel p = test_threads(threads);
            memset(y, 0, N * sizeof *y);
            formats[k].to(x, y, N, &p);
            assert_same_bits(y, y1, N * sizeof *y);
            formats[k].from(y, back, N, &p);
            assert_same_bits(back, back1, N * sizeof *back);
        }
    }
    free(x);
    free(y);
    free(y1);
    free(back);
    free(back1);
}

/* ---- golden -------------------------------------------------------------------------------- */

static void the_table_of_fp16_has_the_golden_hash(void **state) {
    (void)state;
    unsigned char *bytes = (unsigned char *)test_array(65536, 4);
    for (uint32_t i = 0; i < 65536; i++) {
        const uint16_t half = (uint16_t)i;
        float y;
        mo_f16_to_f32(&half, &y, 1, NULL);
        const uint32_t bits = isnan(y) ? (i & 0x8000) << 16 | 0x7fc00000 : test_bits(y);
        for (int b = 0; b < 4; b++) bytes[i * 4 + (unsigned)b] = (unsigned char)(bits >> 8 * b);
    }
    assert_true(test_fnv1a(bytes, 65536 * 4) == 0xd87ea19efabf8d45u);
    free(bytes);
}

static void golden_conversions_match(void **state) {
    (void)state;
    static const char *const names[] = {"cvt_f16.u16", "cvt_bf16.u16"};
    size_t n, n_golden;
    float *x = (float *)test_golden("cvt_in.u32", 4, &n);
    uint16_t *y = (uint16_t *)test_array(n, sizeof *y);
    for (size_t k = 0; k < n_elements(formats); k++) {
        uint16_t *golden = (uint16_t *)test_golden(names[k], 2, &n_golden);
        assert_int_equal(n, n_golden);
        formats[k].to(x, y, n, NULL);
        for (size_t i = 0; i < n; i++) {
            if (is_nan(&formats[k], golden[i])) assert_true(is_nan(&formats[k], y[i]));
            else assert_int_equal(y[i], golden[i]);
        }
        free(golden);
    }
    free(x);
    free(y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_numbers_have_known_patterns),
        cmocka_unit_test(nan_stays_nan_with_its_sign_and_becomes_quiet),
        cmocka_unit_test(no_numbers_are_no_work),
        cmocka_unit_test(all_65536_patterns_become_their_exact_value),
        cmocka_unit_test(all_65536_patterns_come_back),
        cmocka_unit_test(a_million_floats_round_to_the_nearest_even),
        cmocka_unit_test(every_instruction_set_gives_the_bits_of_scalar),
        cmocka_unit_test(any_length_at_any_address_touches_its_numbers_only),
        cmocka_unit_test(the_number_of_threads_does_not_matter),
        cmocka_unit_test(the_table_of_fp16_has_the_golden_hash),
        cmocka_unit_test(golden_conversions_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
