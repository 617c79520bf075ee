/* test_accum.c - mo_accum: sums of gradients, norm, clipping, loss scaling. */
#include "test_numeric.h"
#include <float.h>

/* ---- examples ------------------------------------------------------------------------------ */

static void add_by_hand(void **state) {
    (void)state;
    const float grad[] = {1, -2, 0.5f};
    float sum[] = {10, 10, 10};
    mo_accum_add(grad, 2, sum, 3, NULL);
    assert_true(sum[0] == 12 && sum[1] == 6 && sum[2] == 11);
    mo_accum_add(grad, 1, sum, 0, NULL);
    assert_true(sum[0] == 12);
}

static void square_sum_by_hand(void **state) {
    (void)state;
    const float x[] = {3, -4, 0};
    assert_true(mo_accum_square_sum(x, 3, NULL) == 25);
    assert_true(mo_accum_square_sum(x, 0, NULL) == 0);
}

static float from_bf16(uint16_t x) { return test_float((uint32_t)x << 16); }

static void bf16_sums_by_hand(void **state) {
    (void)state;
    const float grad[] = {1, -2, 0.5f};
    uint16_t sum[] = {0x4120, 0x4120, 0x4120}, lost[3] = {0}; /* 10 */
    mo_accum_add_bf16_stochastic(grad, 2, sum, 3, NULL, NULL);
    assert_true(from_bf16(sum[0]) == 12 && from_bf16(sum[1]) == 6 && from_bf16(sum[2]) == 11);
    mo_accum_add_bf16_kahan(grad, -2, sum, lost, 3, NULL);
    assert_true(sum[0] == 0x4120 && sum[1] == 0x4120 && sum[2] == 0x4120 && lost[0] == 0);
    mo_accum_add_bf16_stochastic(grad, 1, sum, 0, NULL, NULL);
    mo_accum_add_bf16_kahan(grad, 1, sum, lost, 0, NULL);
    assert_true(sum[0] == 0x4120);
}

/* 256 + 1 is half-way between two bf16: to nearest even, ones would be lost for ever. */
static void kahan_keeps_what_rounding_loses(void **state) {
    (void)state;
    const float one = 1;
    uint16_t sum = 0x4380, lost = 0; /* 256 */
    for (int i = 1; i <= 200; i++) {
        mo_accum_add_bf16_kahan(&one, 1, &sum, &lost, 1, NULL);
        assert_true(from_bf16(sum) + from_bf16(lost) == 256 + (float)i);
    }
}

static void a_bf16_sum_that_is_not_finite_stays_so(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    const float bad[] = {HUGE_VALF, -HUGE_VALF, NAN};
    float grad[35];
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t b = 0; b < n_elements(bad); b++) {
            uint16_t sum[35] = {0}, kahan[35] = {0}, lost[35] = {0};
            for (int round = 0; round < 3; round++) {
                for (int i = 0; i < 35; i++) grad[i] = round == 1 && i % 2 ? bad[b] : 1;
                mo_accum_add_bf16_stochastic(grad, 1, sum, 35, NULL, NULL);
                mo_accum_add_bf16_kahan(grad, 1, kahan, lost, 35, NULL);
            }
            for (int i = 0; i < 35; i++) {
                assert_int_equal(isfinite(from_bf16(sum[i])) != 0, i % 2 == 0);
                assert_int_equal(isfinite(from_bf16(kahan[i])) != 0, i % 2 == 0);
            }
        }
}

static void the_largest_floats_do_not_overflow(void **state) {
    (void)state;
    float x[100];
    for (int i = 0; i < 100; i++) x[i] = i % 2 ? FLT_MAX : -FLT_MAX;
    const double sum = mo_accum_square_sum(x, 100, NULL);
    assert_true(sum > 1.1e79 && isfinite(sum));
}

static void one_infinity_or_nan_anywhere_is_seen(void **state) {
    (void)state;
    enum { N = 1001 };
    const mo_cpu initial = mo_cpu_current();
    float x[N];
    for (size_t i = 0; i < N; i++) x[i] = 1;
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (size_t at = 0; at < N; at += at < 40 ? 1 : 31) {
            const float bad[] = {HUGE_VALF, -HUGE_VALF, NAN};
            for (int b = 0; b < 3; b++) {
                x[at] = bad[b];
                assert_true(!isfinite(mo_accum_square_sum(x, N, NULL)));
            }
            x[at] = 1;
        }
    assert_true(mo_accum_square_sum(x, N, NULL) == N);
}

static void clip_scale_brings_the_norm_down_to_max_norm(void **state) {
    (void)state;
    assert_true(mo_accum_clip_scale(0.5, 1) == 1);
    assert_true(mo_accum_clip_scale(0, 1) == 1);
    assert_true(mo_accum_clip_scale(100, 0) == 1);
    assert_true(mo_accum_clip_scale(4, 1) == 1 / (4 + 1e-6));
    assert_true(mo_accum_clip_scale(1, 1) == 1 / (1 + 1e-6)); /* as torch does it */
    assert_true(mo_accum_clip_scale(HUGE_VAL, 1) == 1);
    assert_true(mo_accum_clip_scale(NAN, 1) == 1);
}

static void a_tensor_is_clipped_to_its_own_norm(void **state) {
    (void)state;
    float x[] = {3, -4, 0};
    assert_true(mo_accum_clip(x, 3, 10, NULL) == 5);
    assert_true(x[0] == 3 && x[1] == -4);
    assert_true(mo_accum_clip(x, 3, 0, NULL) == 5);
    assert_true(x[0] == 3);
    assert_true(mo_accum_clip(x, 3, 1, NULL) == 5);
    const float scale = (float)(1 / (5 + 1e-6));
    assert_true(x[0] == 3 * scale && x[1] == -4 * scale && x[2] == 0);
    x[2] = NAN;
    assert_true(isnan(mo_accum_clip(x, 3, 1e-3, NULL)));
    assert_true(x[0] == 3 * scale);
}

static void a_percentile_follows_the_rule_of_bitsandbytes(void **state) {
    (void)state;
    mo_percentile_clip clip;
    test_ok(mo_percentile_clip_init(&clip, 50));
    assert_true(mo_percentile_clip_update(&clip, 4) == 1); /* fills the history */
    for (int i = 0; i < 100; i++) assert_true(clip.square_sums[i] == 4);
    assert_true(mo_percentile_clip_update(&clip, 16) == 0.5);
    assert_true(clip.square_sums[2] == 16 && clip.square_sums[1] == 4);
    assert_true(mo_percentile_clip_update(&clip, 1) == 1);
    assert_true(clip.square_sums[3] == 1);
    assert_int_equal(clip.step, 3);
    for (int i = 4; i <= 100; i++) (void)mo_percentile_clip_update(&clip, 9);
    assert_true(clip.square_sums[0] == 9 && clip.square_sums[1] == 4); /* step 100, step 1 */
    assert_true(mo_percentile_clip_update(&clip, 36) == 0.5);
    assert_true(clip.square_sums[1] == 36);
}

static void a_percentile_of_100_never_clips(void **state) {
    (void)state;
    mo_percentile_clip clip;
    test_ok(mo_percentile_clip_init(&clip, 100));
    for (int i = 0; i < 300; i++) assert_true(mo_percentile_clip_update(&clip, i * 1e9) == 1);
    assert_int_equal(mo_percentile_clip_init(&clip, 101), MO_E_INVALID);
    assert_int_equal(mo_percentile_clip_init(NULL, 5), MO_E_INVALID);
}

static void norms_that_are_not_finite_never_enter_the_history(void **state) {
    (void)state;
    const double bad[] = {HUGE_VAL, NAN};
    mo_percentile_clip clip;
    test_ok(mo_percentile_clip_init(&clip, 5));
    for (int i = 0; i < 250; i++) {
        const mo_percentile_clip before = clip;
        assert_true(mo_percentile_clip_update(&clip, bad[i % 2]) == 1);
        assert_same_bits(&clip, &before, sizeof clip);
        (void)mo_percentile_clip_update(&clip, i + 1);
        for (int j = 0; j < 100; j++) assert_true(isfinite(clip.square_sums[j]));
    }
}

static void a_scaler_has_the_defaults_of_torch(void **state) {
    (void)state;
    mo_loss_scaler s;
    test_ok(mo_loss_scaler_init(&s, NULL));
    assert_true(s.scale == 65536 && s.desc.growth == 2 && s.desc.backoff == 0.5);
    assert_int_equal(s.desc.interval, 2000);
    assert_int_equal(s.skipped, 0);
}

static void a_scaler_refuses_numbers_that_make_no_sense(void **state) {
    (void)state;
    mo_loss_scaler s;
    const mo_loss_scaler_desc wrong[] = {{-1, 0, 0, 0, 0}, {HUGE_VAL, 0, 0, 0, 0},
        {NAN, 0, 0, 0, 0}, {0, 0.5, 0, 0, 0}, {0, NAN, 0, 0, 0}, {0, HUGE_VAL, 0, 0, 0},
        {0, 0, 1.5, 0, 0}, {0, 0, -0.5, 0, 0}, {0, 0, NAN, 0, 0}};
    for (size_t i = 0; i < n_elements(wrong); i++)
        assert_int_equal(mo_loss_scaler_init(&s, &wrong[i]), MO_E_INVALID);
    assert_int_equal(mo_loss_scaler_init(NULL, NULL), MO_E_INVALID);
}

/* What torch.amp.GradScaler(init_scale=1024, growth_interval=3) does: scale after each update. */
static void a_scaler_follows_the_table_of_torch(void **state) {
    (void)state;
    static const struct {
        int overflow;
        double scale;
        uint32_t good_steps;
    } table[] = {{0, 1024, 1}, {0, 1024, 2}, {0, 2048, 0}, {0, 2048, 1}, {1, 1024, 0}, {1, 512, 0},
        {0, 512, 1}, {0, 512, 2}, {1, 256, 0}, {0, 256, 1}, {0, 256, 2}, {0, 512, 0}, {0, 512, 1},
        {0, 512, 2}, {0, 1024, 0}};
    const mo_loss_scaler_desc d = {1024, 0, 0, 3, 0};
    mo_loss_scaler s;
    uint64_t skipped = 0;
    test_ok(mo_loss_scaler_init(&s, &d));
    for (size_t i = 0; i < n_elements(table); i++) {
        const double bad[] = {HUGE_VAL, NAN};
        const int go = mo_loss_scaler_update(&s, table[i].overflow ? bad[i % 2] : 1.0);
        assert_int_equal(go, !table[i].overflow);
        assert_true(s.scale == table[i].scale);
        assert_int_equal(s.good_steps, table[i].good_steps);
        skipped += (uint64_t)table[i].overflow;
        assert_int_equal(s.skipped, skipped);
    }
}

static void a_scaler_uses_its_own_factors(void **state) {
    (void)state;
    const mo_loss_scaler_desc d = {100, 3, 0.25, 1, 0};
    mo_loss_scaler s;
    test_ok(mo_loss_scaler_init(&s, &d));
    assert_int_equal(mo_loss_scaler_update(&s, 0), 1);
    assert_true(s.scale == 300);
    assert_int_equal(mo_loss_scaler_update(&s, NAN), 0);
    assert_true(s.scale == 75);
}

static void a_static_scaler_skips_but_keeps_its_scale(void **state) {
    (void)state;
    const mo_loss_scaler_desc d = {128, 0, 0, 1, 1};
    mo_loss_scaler s;
    test_ok(mo_loss_scaler_init(&s, &d));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(mo_loss_scaler_update(&s, 1), 1);
        assert_int_equal(mo_loss_scaler_update(&s, HUGE_VAL), 0);
        assert_true(s.scale == 128);
    }
    assert_int_equal(s.skipped, 5);
}

/* As in torch: a scale that float cannot hold would make every loss infinite. */
static void a_scale_does_not_grow_beyond_float(void **state) {
    (void)state;
    const mo_loss_scaler_desc d = {0x1p100, 0, 0, 1, 0};
    mo_loss_scaler s;
    test_ok(mo_loss_scaler_init(&s, &d));
    for (int i = 0; i < 100; i++) assert_int_equal(mo_loss_scaler_update(&s, 0), 1);
    assert_true(s.scale == 0x1p127);
}

/* ---- properties ---------------------------------------------------------------------------- */

/* Each element is one product and one sum, each rounded once: exact comparison. */
static void add_is_two_roundings_on_any_number_of_threads(void **state) {
    (void)state;
    enum { N = 100003 };
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *grad = test_normals(&r, N, 1), *sum = test_normals(&r, N, 10), *want = test_floats(N);
    const float scale = 1.0f / 3;
    for (size_t i = 0; i < N; i++) {
        volatile float term = scale * grad[i]; /* no fused multiply-add here */
        want[i] = sum[i] + term;
    }
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (int threads = 1; threads <= 5; threads++) {
            const mo_parallel p = test_threads(threads);
            float *got = test_copy(sum, N);
            mo_accum_add(grad, scale, got, N, &p);
            assert_same_bits(got, want, N * sizeof *got);
            free(got);
        }
    free(grad);
    free(sum);
    free(want);
}

typedef struct bf16_sums {
    uint16_t *stochastic, *kahan, *lost;
} bf16_sums;

static bf16_sums zero_sums(size_t n) {
    bf16_sums s = {
        (uint16_t *)test_array(n, 2), (uint16_t *)test_array(n, 2), (uint16_t *)test_array(n, 2)};
    memset(s.stochastic, 0, n * 2);
    memset(s.kahan, 0, n * 2);
    memset(s.lost, 0, n * 2);
    return s;
}
static void free_sums(bf16_sums *s) {
    free(s->stochastic);
    free(s->kahan);
    free(s->lost);
}
/* elements [at, at + n) of some rounds; the random bits go over 2^32 at element 1000 */
static void add_rounds(
    bf16_sums *s, const float *grad, size_t at, size_t n, const mo_parallel *parallel) {
    for (uint64_t round = 0; round < 5; round++) {
        const mo_accum_noise noise = {round, 0x2fffffc18u + at};
        mo_accum_add_bf16_stochastic(grad + at, 0.3f, s->stochastic + at, n, &noise, parallel);
        mo_accum_add_bf16_kahan(grad + at, 0.3f, s->kahan + at, s->lost + at, n, parallel);
    }
}

static void bf16_sums_are_the_same_bits_on_any_cpu_threads_and_slices(void **state) {
    (void)state;
    enum { N = 70003 };
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    float *grad = test_normals(&r, N, 1);
    bf16_sums want = zero_sums(N);
    test_ok(mo_cpu_select(MO_CPU_SCALAR));
    add_rounds(&want, grad, 0, N, NULL);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (int threads = 0; threads <= 5; threads++) {
            const mo_parallel p = test_threads(threads);
            bf16_sums got = zero_sums(N);
            if (threads == 0) /* slices of all lengths instead */
                for (size_t at = 0, n = 1; at < N; at += n++)
                    add_rounds(&got, grad, at, N - at < n ? N - at : n, NULL);
            else add_rounds(&got, grad, 0, N, &p);
            assert_same_bits(got.stochastic, want.stochastic, N * 2);
            assert_same_bits(got.kahan, want.kahan, N * 2);
            assert_same_bits(got.lost, want.lost, N * 2);
            free_sums(&got);
        }
    free(grad);
    free_sums(&want);
}

/* lost is half a unit of sum at most, 2^-8 |sum|, and is itself rounded by 2^-8, so sum + lost is
 * off by 2^-16 of the largest sum per round; fp32 adds three roundings of 2^-24 of sum and term. */
static void kahan_stays_within_its_bound(void **state) {
    (void)state;
    enum { N = 2000, ROUNDS = 300 };
    test_rng r = test_rng_begin(__func__);
    float *grad = test_floats(N);
    double *want = test_doubles(N), *most = test_doubles(N), worst = 0, worst_plain = 0;
    bf16_sums s = zero_sums(N);
    for (size_t i = 0; i < N; i++) want[i] = most[i] = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < N; i++) {
            grad[i] = test_normal(&r) + 0.5f;
            want[i] += (double)grad[i] * 0.25;
            most[i] = fmax(most[i], fabs(want[i]) + fabs((double)grad[i]));
        }
        mo_accum_add_bf16_kahan(grad, 0.25f, s.kahan, s.lost, N, NULL);
    }
    for (size_t i = 0; i < N; i++) {
        const double sum = (double)from_bf16(s.kahan[i]), lost = (double)from_bf16(s.lost[i]);
        const double bound = ROUNDS * (0x1p-16 + 3 * 0x1p-24) * most[i] * 1.01;
        worst = fmax(worst, fabs(sum + lost - want[i]) / bound);
        worst_plain = fmax(worst_plain, fabs(sum - want[i]) / (bound + 0x1p-8 * most[i]));
    }
    print_message("largest error: %.2f of the bound with lost, %.2f without\n", worst, worst_plain);
    assert_error_below(worst, 1);
    assert_error_below(worst_plain, 1);
    free(grad);
    free(want);
    free(most);
    free_sums(&s);
}

/* 100,000 sums 1 + 2^-10: one in eight goes up a unit of 2^-7. The mean of that many draws has a
 * standard deviation of 2^-7 sqrt(1/8 7/8 / 1e5) = 8.2e-6; 5 of them are allowed. */
static void the_mean_of_stochastic_sums_is_right(void **state) {
    (void)state;
    enum { N = 100000 };
    float *grad = test_floats(N);
    uint16_t *sum = (uint16_t *)test_array(N, 2);
    for (int sign = -1; sign <= 1; sign += 2)
        for (uint64_t seed = 0; seed < 4; seed++) {
            const mo_accum_noise noise = {seed, seed * N};
            double mean = 0;
            for (size_t i = 0; i < N; i++) {
                grad[i] = (float)sign;
                sum[i] = sign > 0 ? 0x3a80 : 0xba80; /* 2^-10 */
            }
            mo_accum_add_bf16_stochastic(grad, 1, sum, N, &noise, NULL);
            for (size_t i = 0; i < N; i++) mean += (double)from_bf16(sum[i]) / N;
            assert_error_below(fabs(mean - sign * (1 + 0x1p-10)), 5 * 8.2e-6);
        }
    free(grad);
    free(sum);
}

/* To nearest, terms of a thousandth of the sum would vanish. Each rounding is off by less than a
 * unit of 2^-7 of the sum, at most 11 here: 2000 of them add up to less than sqrt(2000) 2^-4 / 2 in
 * standard deviation, and the mean over 1000 elements to 0.045; 6 of these are allowed. */
static void stochastic_sums_of_small_terms_do_not_stall(void **state) {
    (void)state;
    enum { N = 1000, ROUNDS = 2000 };
    float grad[N];
    uint16_t sum[N];
    double mean = 0;
    for (size_t i = 0; i < N; i++) {
        grad[i] = 0.005f;
        sum[i] = 0x3f80; /* 1 */
    }
    for (uint64_t round = 0; round < ROUNDS; round++) {
        const mo_accum_noise noise = {round, 0};
        mo_accum_add_bf16_stochastic(grad, 1, sum, N, &noise, NULL);
    }
    for (size_t i = 0; i < N; i++) mean += (double)from_bf16(sum[i]) / N;
    assert_error_below(fabs(mean - 11), 6 * 0.045);
}

static double sorted_by_search(const double *x, size_t n, uint32_t k) {
    for (size_t i = 0; i < n; i++) {
        uint32_t less = 0, same = 0;
        for (size_t j = 0; j < n; j++) {
            less += x[j] < x[i];
            same += x[j] == x[i];
        }
        if (k >= less && k < less + same) return x[i];
    }
    return NAN;
}

static void a_percentile_is_that_of_the_last_100_norms(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (uint32_t percentile = 0; percentile < 100; percentile += 9) {
        mo_percentile_clip clip;
        double last[100], first = 0;
        test_ok(mo_percentile_clip_init(&clip, percentile));
        for (uint64_t step = 1; step <= 350; step++) {
            const double square = exp(3 * test_uniform(&r)) + (double)test_below(&r, 3);
            if (step == 1) first = square;
            for (int i = 0; step == 1 && i < 100; i++) last[i] = first;
            last[step % 100] = square;
            const double limit = sorted_by_search(last, 100, percentile);
            const double scale = mo_percentile_clip_update(&clip, square);
            assert_true(scale == (square > limit ? sqrt(limit) / sqrt(square) : 1));
        }
    }
}

/* Squares of floats are exact in double. 64 x 16 partial sums of n / 1024 terms each, then 80 more:
 * less than (n / 512 + 512) 2^-53 relative, since all terms are positive. */
static void square_sum_matches_long_double(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    const size_t lengths[] = {1, 7, 8, 63, 511, 512, 513, 4097, 300007};
    for (size_t k = 0; k < n_elements(lengths); k++) {
        const size_t n = lengths[k];
        float *x = test_floats(n);
        long double want = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = test_normal(&r) * powf(10.0f, (float)test_below(&r, 30) - 15);
            want += (long double)x[i] * (long double)x[i];
        }
        const double got = mo_accum_square_sum(x, n, NULL);
        assert_error_below(fabs((double)((long double)got - want)),
            (double)want * ((double)n / 512 + 512) * 0x1p-53);
        free(x);
    }
}

static void square_sum_is_the_same_bits_everywhere(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin(__func__);
    for (size_t n = 1; n < 200000; n = n * 3 + 1) {
        float *x = test_normals(&r, n, 1);
        const mo_parallel one = test_threads(1);
        const double want = mo_accum_square_sum(x, n, &one);
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
            for (int threads = 1; threads <= 7; threads++) {
                const mo_parallel p = test_threads(threads);
                assert_true(mo_accum_square_sum(x, n, &p) == want);
            }
        free(x);
    }
}

static void clipped_gradients_have_at_most_max_norm(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    float x[1000];
    for (int round = 0; round < 100; round++) {
        const float size = powf(10.0f, (float)test_below(&r, 12) - 6);
        for (int i = 0; i < 1000; i++) x[i] = test_normal(&r) * size;
        const double norm = sqrt(mo_accum_square_sum(x, 1000, NULL));
        const double scale = mo_accum_clip_scale(norm, 1);
        assert_true(scale > 0 && scale <= 1 && norm * scale <= 1);
        if (norm < 0.999) assert_true(scale == 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add_by_hand),
        cmocka_unit_test(square_sum_by_hand),
        cmocka_unit_test(bf16_sums_by_hand),
        cmocka_unit_test(kahan_keeps_what_rounding_loses),
        cmocka_unit_test(a_bf16_sum_that_is_not_finite_stays_so),
        cmocka_unit_test(the_largest_floats_do_not_overflow),
        cmocka_unit_test(one_infinity_or_nan_anywhere_is_seen),
        cmocka_unit_test(clip_scale_brings_the_norm_down_to_max_norm),
        cmocka_unit_test(a_tensor_is_clipped_to_its_own_norm),
        cmocka_unit_test(a_percentile_follows_the_rule_of_bitsandbytes),
        cmocka_unit_test(a_percentile_of_100_never_clips),
        cmocka_unit_test(norms_that_are_not_finite_never_enter_the_history),
        cmocka_unit_test(a_scaler_has_the_defaults_of_torch),
        cmocka_unit_test(a_scaler_refuses_numbers_that_make_no_sense),
        cmocka_unit_test(a_scaler_follows_the_table_of_torch),
        cmocka_unit_test(a_scaler_uses_its_own_factors),
        cmocka_unit_test(a_static_scaler_skips_but_keeps_its_scale),
        cmocka_unit_test(a_scale_does_not_grow_beyond_float),
        cmocka_unit_test(add_is_two_roundings_on_any_number_of_threads),
        cmocka_unit_test(bf16_sums_are_the_same_bits_on_any_cpu_threads_and_slices),
        cmocka_unit_test(kahan_stays_within_its_bound),
        cmocka_unit_test(the_mean_of_stochastic_sums_is_right),
        cmocka_unit_test(stochastic_sums_of_small_terms_do_not_stall),
        cmocka_unit_test(a_percentile_is_that_of_the_last_100_norms),
        cmocka_unit_test(square_sum_matches_long_double),
        cmocka_unit_test(square_sum_is_the_same_bits_everywhere),
        cmocka_unit_test(clipped_gradients_have_at_most_max_norm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
