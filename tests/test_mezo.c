/* test_mezo.c - mo_mezo: the directions are normal, perturbations are taken back, steps go down. */
#include "test_numeric.h"

static mo_mezo_desc desc_of(uint64_t seed) {
    mo_mezo_desc d;
    memset(&d, 0, sizeof d);
    d.seed = seed;
    d.lr = 1e-3;
    return d;
}

/* z itself: perturbations of zeros, times 1 / epsilon. */
static void direction(const mo_mezo_desc *desc, uint64_t t, float *z, size_t n) {
    mo_mezo_desc d = *desc;
    d.epsilon = 1;
    memset(z, 0, n * sizeof *z);
    test_ok(mo_mezo_perturb(&d, t, 1, z, z, n));
}

/* ---- the direction --------------------------------------------------------------------------- */

/* In double, by the library of C. */
static double normal_of(uint64_t seed, uint64_t t, uint64_t index) {
    double bits[2];
    for (uint32_t k = 0; k < 2; k++) {
        uint32_t x = 0;
        const uint64_t s = seed + t * 0x9e3779b97f4a7c15u + k;
        const uint32_t words[] = {(uint32_t)(index >> 32), (uint32_t)(s >> 32), (uint32_t)s};
        for (int i = 0; i < 4; i++) {
            x = i < 3 ? x + words[i] : x ^ (uint32_t)index;
            x = (x ^ (x >> 16)) * 0x7feb352du;
            x = (x ^ (x >> 15)) * 0x846ca68bu;
            x ^= x >> 16;
        }
        bits[k] = (double)(x >> 8);
    }
    return sqrt(-2 * log((bits[0] + 1) * 0x1p-24)) * cos(2 * acos(-1.0) * bits[1] * 0x1p-24);
}

/* A logarithm of 2e-7, halved by the root, and a cosine of 1e-7: 4e-7 of |z| < 5.8 at most; near 0
 * the logarithm has an error of 2e-7 of 1 - u. */
static void directions_are_those_of_box_and_muller(void **state) {
    (void)state;
    enum { N = 4000 };
    const mo_cpu initial = mo_cpu_current();
    float *z = test_floats(N);
    mo_mezo_desc d = desc_of(0x123456789abcdefu);
    d.offset = 0xfffff800u; /* over the end of an upper half */
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        direction(&d, 3, z, N);
        for (size_t i = 0; i < N; i++) {
            const double want = normal_of(d.seed, 3, d.offset + i);
            if (!(fabs((double)z[i] - want) <= 2.5e-6))
                fail_msg("%zu: %.9g, not %.9g", i, (double)z[i], want);
        }
    }
    free(z);
}

/* Of n = 2^18 normal numbers: the means of z^k for k = 1..4 are 0, 1, 0, 3 with deviations of
 * sqrt(1, 2, 15, 96) / 2^9; that of neighbours' products is 0 with 1 / 2^9. Four deviations. */
static void directions_have_the_moments_of_a_normal_distribution(void **state) {
    (void)state;
    enum { N = 1 << 18 };
    const double want[] = {0, 1, 0, 3, 0, 0}, squares[] = {1, 2, 15, 96, 1, 1};
    double sum[6] = {0};
    float *z = test_floats(N), *next = test_floats(N);
    const mo_mezo_desc d = desc_of(7);
    direction(&d, 1, z, N);
    direction(&d, 2, next, N);
    for (size_t i = 0; i < N; i++) {
        const double x = (double)z[i];
        for (int k = 0; k < 4; k++) sum[k] += pow(x, k + 1);
        sum[4] += x * (double)z[(i + 1) % N];
        sum[5] += x * (double)next[i];
    }
    for (int k = 0; k < 6; k++) {
        const double mean = sum[k] / N;
        print_message("moment %d: %.5f\n", k + 1, mean);
        assert_true(fabs(mean - want[k]) <= 4 * sqrt(squares[k]) / 512);
    }
    free(z);
    free(next);
}

static void slices_threads_and_processors_do_not_matter(void **state) {
    (void)state;
    enum { N = 10007 };
    const mo_cpu initial = mo_cpu_current();
    test_rng r = test_rng_begin("slices");
    float *x = test_normals(&r, N, 1), *want = test_floats(N), *y = test_copy(x, N);
    for (int grid = 0; grid < 2; grid++)
        for (int step = 0; step < 2; step++) {
            const mo_parallel three = test_threads(3);
            mo_mezo_desc d = desc_of(5);
            d.grid = grid ? 0x1p-20 : 0;
            d.weight_decay = 0.1;
            memcpy(want, x, N * sizeof *x);
            test_ok(mo_cpu_select(MO_CPU_SCALAR));
            if (step) test_ok(mo_mezo_step(&d, 2, 0.3, want, N));
            else test_ok(mo_mezo_perturb(&d, 2, -2, x, want, N));
            d.parallel = &three;
            for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
                memcpy(y, x, N * sizeof *x);
                for (size_t begin = 0, n; begin < N; begin += n) {
                    n = 1 + test_below(&r, 6000);
                    if (n > N - begin) n = N - begin;
                    d.offset = begin;
                    if (step) test_ok(mo_mezo_step(&d, 2, 0.3, y + begin, n));
                    else test_ok(mo_mezo_perturb(&d, 2, -2, x + begin, y + begin, n));
                }
                assert_same_bits(y, want, N * sizeof *y);
            }
        }
    free(x);
    free(y);
    free(want);
}

/* ---- perturbations --------------------------------------------------------------------------- */

static void there_and_back(const mo_mezo_desc *d, float *x, size_t n) {
    test_ok(mo_mezo_perturb(d, 9, 1, x, x, n));
    test_ok(mo_mezo_perturb(d, 9, -2, x, x, n));
    test_ok(mo_mezo_perturb(d, 9, 1, x, x, n));
}

static void a_perturbation_on_a_grid_is_taken_back_to_the_bit(void **state) {
    (void)state;
    enum { N = 5000 };
    test_rng r = test_rng_begin("grid");
    float *x = test_normals(&r, N, 0.5f), *was, *moved = test_floats(N);
    mo_mezo_desc d = desc_of(1);
    d.grid = 0x1p-20;
    was = test_copy(x, N);
    test_ok(mo_mezo_perturb(&d, 1, 0, x, x, N)); /* onto the grid */
    for (size_t i = 0; i < N; i++) {
        assert_true(fabsf(x[i] - was[i]) <= 0x1p-21f);
        assert_true(x[i] * 0x1p20f == rintf(x[i] * 0x1p20f));
    }
    memcpy(was, x, N * sizeof *x);
    for (int i = 0; i < 20; i++) there_and_back(&d, x, N);
    assert_same_bits(x, was, N * sizeof *x);
    test_ok(mo_mezo_perturb(&d, 1, 1, x, moved, N));
    assert_true(memcmp(moved, x, N * sizeof *x) != 0);
    free(x);
    free(was);
    free(moved);
}

static void without_a_grid_it_is_taken_back_within_the_stated_error(void **state) {
    (void)state;
    enum { N = 5000 };
    test_rng r = test_rng_begin("drift");
    float *x = test_normals(&r, N, 0.02f), *was = test_copy(x, N);
    mo_mezo_desc d = desc_of(1);
    size_t n_same = 0;
    there_and_back(&d, x, N);
    for (size_t i = 0; i < N; i++) {
        const double most = fabs((double)was[i]) + 1e-3 * fabs(normal_of(1, 9, i));
        assert_true(fabs((double)x[i] - (double)was[i]) <= 1.5 * 0x1p-23 * most);
        n_same += x[i] == was[i];
    }
    print_message("%zu of %d came back to the bit\n", n_same, N);
    free(x);
    free(was);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void a_step_follows_double(void **state) {
    (void)state;
    enum { N = 1000 };
    test_rng r = test_rng_begin("step");
    mo_mezo_desc d = desc_of(21);
    d.weight_decay = 0.1;
    d.lr = 0.01;
    float *x = test_normals(&r, N, 1), *was = test_copy(x, N);
    test_ok(mo_mezo_step(&d, 4, -0.7, x, N));
    for (size_t i = 0; i < N; i++) {
        const double want = (double)was[i] * (1 - 0.001) + 0.007 * normal_of(21, 4, i);
        assert_true(fabs((double)x[i] - want) <= 2e-7 * (1 + fabs(want)));
    }
    free(x);
    free(was);
}

/* A change of lr g z = grid / 8 z, below what the grid has: the mean of z x is that of z^2 / 8, to
 * four deviations of a rounding, sqrt(1/4 + ...) / sqrt(n) at most. */
static void steps_on_a_grid_are_right_on_average(void **state) {
    (void)state;
    enum { N = 1 << 16 };
    float *x = test_floats(N), *z = test_floats(N);
    mo_mezo_desc d = desc_of(3);
    double sum = 0, want = 0;
    d.grid = 0x1p-10;
    d.lr = 0x1p-13;
    direction(&d, 1, z, N); /* rounded to the grid: near enough */
    for (size_t i = 0; i < N; i++) x[i] = 1;
    test_ok(mo_mezo_step(&d, 1, 1, x, N));
    for (size_t i = 0; i < N; i++) {
        sum += (1 - (double)x[i]) * 0x1p10 * (double)z[i];
        want += (double)z[i] * (double)z[i] / 8;
    }
    print_message("%.5f, want %.5f\n", sum / N, want / N);
    assert_true(fabs(sum - want) / N <= 4 * 0.5 / 256);
    free(x);
    free(z);
}

/* loss = sum of (x - 1)^2 / 2 in 10 dimensions. */
static void a_parabola_is_descended_without_gradients(void **state) {
    (void)state;
    enum { N = 10 };
    float x[N] = {0};
    mo_mezo_desc d = desc_of(11);
    d.lr = 0.05;
    double loss[3] = {0};
    for (uint64_t t = 1; t <= 400; t++) {
        for (int k = 0; k < 3; k++) {
            loss[k] = 0;
            for (int i = 0; i < N; i++) loss[k] += pow((double)x[i] - 1, 2) / 2;
            test_ok(mo_mezo_perturb(&d, t, k == 0 ? 1 : k == 1 ? -2 : 1, x, x, N));
        }
        test_ok(mo_mezo_step(&d, t, mo_mezo_gradient(&d, loss[1], loss[2]), x, N));
    }
    print_message("loss %.6f\n", loss[0]);
    assert_true(loss[0] < 5 * 1e-3);
}

static void a_gradient_that_is_not_finite_moves_nothing(void **state) {
    (void)state;
    const double bad[] = {NAN, HUGE_VAL, -HUGE_VAL};
    const mo_mezo_desc d = desc_of(0);
    for (size_t i = 0; i < 3; i++) {
        float x[3] = {1, 2, 3};
        test_ok(mo_mezo_step(&d, 1, bad[i], x, 3));
        assert_true(x[0] == 1 && x[1] == 2 && x[2] == 3);
    }
}

static void what_makes_no_sense_is_refused(void **state) {
    (void)state;
    float x[3] = {0};
    mo_mezo_desc d = desc_of(0), wrong[4];
    for (int i = 0; i < 4; i++) wrong[i] = d;
    wrong[0].grid = 0.3;
    wrong[1].grid = -0.5;
    wrong[2].lr = NAN;
    wrong[3].epsilon = HUGE_VAL;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(mo_mezo_perturb(&wrong[i], 1, 1, x, x, 3), MO_E_INVALID);
        assert_int_equal(mo_mezo_step(&wrong[i], 1, 1, x, 3), MO_E_INVALID);
    }
    assert_int_equal(mo_mezo_perturb(&d, 0, 1, x, x, 3), MO_E_INVALID);
    assert_int_equal(mo_mezo_perturb(&d, 1, NAN, x, x, 3), MO_E_INVALID);
    assert_int_equal(mo_mezo_perturb(&d, 1, 1, NULL, x, 3), MO_E_INVALID);
    assert_int_equal(mo_mezo_perturb(NULL, 1, 1, x, x, 3), MO_E_INVALID);
    assert_int_equal(mo_mezo_step(&d, 1, 1, NULL, 3), MO_E_INVALID);
    test_ok(mo_mezo_perturb(&d, 1, 1, x, x, 0));
    assert_true(mo_mezo_desc_defaults(&d).epsilon == 1e-3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directions_are_those_of_box_and_muller),
        cmocka_unit_test(directions_have_the_moments_of_a_normal_distribution),
        cmocka_unit_test(slices_threads_and_processors_do_not_matter),
        cmocka_unit_test(a_perturbation_on_a_grid_is_taken_back_to_the_bit),
        cmocka_unit_test(without_a_grid_it_is_taken_back_within_the_stated_error),
        cmocka_unit_test(a_step_follows_double),
        cmocka_unit_test(steps_on_a_grid_are_right_on_average),
        cmocka_unit_test(a_parabola_is_descended_without_gradients),
        cmocka_unit_test(a_gradient_that_is_not_finite_moves_nothing),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
