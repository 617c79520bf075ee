/* test_optim.c - mo_optim: steps by hand and against double, 8-bit states, slices, bit-identity.
 * What kinds and precisions add: test_optim_kinds.c. */
#include "test_optim.h"

/* ---- examples ------------------------------------------------------------------------------ */

static void zeros_in_the_desc_are_the_defaults(void **state) {
    (void)state;
    mo_optim_desc zero;
    memset(&zero, 0, sizeof zero);
    const mo_optim_desc d = mo_optim_desc_defaults(&zero);
    assert_true(d.lr == 0 && d.beta1 == 0.9 && d.beta2 == 0.999 && d.epsilon == 1e-8);
    assert_true(d.weight_decay == 0 && d.grad_scale == 1);
    assert_int_equal(d.block, 256);
    assert_int_equal(d.min_8bit_size, 4096);
    zero.kind = MO_OPTIM_SGD;
    assert_true(mo_optim_desc_defaults(&zero).beta1 == 0); /* no momentum */
}

static void a_step_size_of_zero_changes_the_state_only(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    mo_optim_desc d = desc(MO_OPTIM_ADAMW, MO_OPTIM_F32);
    d.lr = 0;
    tensor t = tensor_begin(&r, d, 1);
    const float p = t.param[0];
    step(&t, 1);
    assert_true(t.param[0] == p && *(float *)t.state.m != 0);
    tensor_end(&t);
}

/* At t = 1 the corrections cancel: m / (1 - b1) = g, sqrt(v / (1 - b2)) = |g|. */
static void the_first_adamw_step_is_lr_against_the_sign(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    mo_optim_desc d = desc(MO_OPTIM_ADAMW, MO_OPTIM_F32);
    d.lr = 0.125;
    tensor t = tensor_begin(&r, d, 4);
    const float p[] = {1, 1, 1, 1}, g[] = {3, -0.5f, 1e-3f, 0};
    const double want[] = {0.875, 1.125, 0.875, 1};
    memcpy(t.param, p, sizeof p);
    memcpy(t.grad, g, sizeof g);
    step(&t, 1);
    /* epsilon 1e-8 against 1e-3 is 1e-5 of the step, the roundings are below 1e-6 */
    for (int i = 0; i < 4; i++) assert_true(fabs((double)t.param[i] - want[i]) <= 2e-5 * 0.125);
    tensor_end(&t);
}

static void sgd_by_hand(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    mo_optim_desc d = desc(MO_OPTIM_SGD, MO_OPTIM_F32);
    d.lr = 0.5;
    d.beta1 = 0.5;
    d.weight_decay = 0.25;
    tensor t = tensor_begin(&r, d, 1);
    t.param[0] = 4, t.grad[0] = 1;
    step(&t, 1); /* m = 1 + 0.25 * 4 = 2, p = 4 - 1 */
    assert_true(t.param[0] == 3 && *(float *)t.state.m == 2);
    step(&t, 2); /* m = 1 + 1 + 0.75 = 2.75, p = 3 - 1.375 */
    assert_true(t.param[0] == 1.625f && *(float *)t.state.m == 2.75f);
    tensor_end(&t);
}

static void decay_alone_shrinks_the_parameter(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    mo_optim_desc d = desc(MO_OPTIM_ADAMW, MO_OPTIM_F32);
    d.lr = 0.5;
    d.weight_decay = 0.5;
    tensor t = tensor_begin(&r, d, 1);
    t.param[0] = 4, t.grad[0] = 0;
    step(&t, 1);
    assert_true(t.param[0] == 3);
    tensor_end(&t);
}

static void a_power_of_two_as_grad_scale_is_a_scaled_gradient(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    for (int i = 0; i < N_DESCS; i++) {
        tensor a = tensor_begin(&r, nth_desc(i), 1000), b = tensor_copy(&a);
        a.d.grad_scale = 0.25;
        for (size_t j = 0; j < b.n; j++) b.grad[j] *= 0.25f;
        for (uint64_t at = 1; at <= 5; at++) step(&a, at), step(&b, at);
        assert_same_tensor(&a, &b);
        tensor_end(&a);
        tensor_end(&b);
    }
}

static void state_sizes_are_the_formula(void **state) {
    (void)state;
    mo_optim_desc d = desc(MO_OPTIM_ADAMW, MO_OPTIM_8BIT);
    const size_t n = 256 * 16 * 5;
    assert_true((double)mo_optim_state_size(&d, n) == 2.03125 * (double)n);
    d.kind = MO_OPTIM_SGD;
    assert_true((double)mo_optim_state_size(&d, n) == 1.015625 * (double)n);
    d.block = 4096;
    assert_int_equal(mo_optim_state_size(&d, 4096 * 16), 4096 * 16 + 64);
    d = desc(MO_OPTIM_ADAMW, MO_OPTIM_F32);
    assert_int_equal(mo_optim_state_size(&d, n), 8 * n);
    assert_int_equal(mo_optim_state_size(&d, 1), 128); /* each state is rounded up to 64 */
    assert_int_equal(mo_optim_state_size(NULL, 1), 0);
    assert_int_equal(mo_optim_state_size(&d, SIZE_MAX / 2), 0);
    assert_int_equal(mo_optim_state_size(&d, SIZE_MAX / 6), 0);
    d.precision = MO_OPTIM_8BIT;
    assert_int_equal(mo_optim_state_size(&d, SIZE_MAX), 0);
    d.block = 100;
    assert_int_equal(mo_optim_state_size(&d, n), 0);
}

static void small_tensors_keep_fp32_states(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    mo_optim_desc d = desc(MO_OPTIM_ADAMW, MO_OPTIM_8BIT);
    tensor small = tensor_begin(&r, d, 4095), large = tensor_begin(&r, d, 4096);
    assert_int_equal(small.state.precision, MO_OPTIM_F32);
    assert_int_equal(large.state.precision, MO_OPTIM_8BIT);
    assert_int_equal(small.size, 2 * 4096 * 4);
    assert_int_equal(large.size, 2 * (4096 + 64));
    tensor_end(&small);
    d.min_8bit_size = 1;
    small = tensor_begin(&r, d, 1);
    assert_int_equal(small.state.precision, MO_OPTIM_8BIT);
    tensor_end(&small);
    tensor_end(&large);
}

static void states_start_at_zero_inside_their_memory(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    tensor t = tensor_begin(&r, decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT), 1000);
    const uint8_t *m = (uint8_t *)t.state.m, *v = (uint8_t *)t.state.v;
    for (size_t i = 0; i < t.n; i++) assert_true(m[i] == 127 && v[i] == 0);
    for (size_t i = 0; i < 4; i++)
        assert_true(t.state.m_absmax[i] == 0 && t.state.v_absmax[i] == 0);
    const void *const parts[] = {t.state.m, t.state.m_absmax, t.state.v, t.state.v_absmax};
    const size_t sizes[] = {1000, 16, 1000, 16};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal((uintptr_t)parts[i] % 64, 0);
        assert_true((const char *)parts[i] + sizes[i] <= (char *)t.memory + t.size);
        for (size_t j = 0; j < i; j++)
            assert_true((const char *)parts[j] + sizes[j] <= (const char *)parts[i]);
    }
    tensor_end(&t);
    t = tensor_begin(&r, decayed(MO_OPTIM_SGD, MO_OPTIM_8BIT), 1000);
    assert_null(t.state.v);
    assert_null(t.state.v_absmax);
    tensor_end(&t);
}

static void a_state_for_another_kind_is_refused(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    tensor t = tensor_begin(&r, desc(MO_OPTIM_ADAMW, MO_OPTIM_F32), 8);
    const mo_optim_desc sgd = desc(MO_OPTIM_SGD, MO_OPTIM_F32);
    assert_int_equal(mo_optim_step(&sgd, 1, t.param, t.grad, &t.state), MO_E_INVALID);
    tensor_end(&t);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    tensor t = tensor_begin(&r, desc(MO_OPTIM_ADAMW, MO_OPTIM_F32), 8);
    mo_optim_state s;
    assert_int_equal(mo_optim_step(NULL, 1, t.param, t.grad, &t.state), MO_E_INVALID);
    assert_int_equal(mo_optim_step(&t.d, 0, t.param, t.grad, &t.state), MO_E_INVALID);
    assert_int_equal(mo_optim_step(&t.d, 1, NULL, t.grad, &t.state), MO_E_INVALID);
    assert_int_equal(mo_optim_step(&t.d, 1, t.param, NULL, &t.state), MO_E_INVALID);
    assert_int_equal(mo_optim_step(&t.d, 1, t.param, t.grad, NULL), MO_E_INVALID);
    assert_int_equal(mo_optim_state_init(NULL, 8, t.memory, t.size, &s), MO_E_INVALID);
    assert_int_equal(mo_optim_state_init(&t.d, 8, NULL, t.size, &s), MO_E_INVALID);
    assert_int_equal(mo_optim_state_init(&t.d, 8, t.memory, t.size, NULL), MO_E_INVALID);
    assert_int_equal(mo_optim_state_init(&t.d, 8, t.memory, t.size - 1, &s), MO_E_NO_SPACE);
    assert_int_equal(mo_optim_state_init(&t.d, SIZE_MAX / 6, t.memory, t.size, &s), MO_E_OVERFLOW);
    assert_int_equal(mo_optim_state_init(&t.d, SIZE_MAX, t.memory, t.size, &s), MO_E_OVERFLOW);
    mo_optim_desc wrong[4] = {t.d, t.d, t.d, t.d};
    wrong[0].kind = MO_OPTIM_KIND_COUNT;
    wrong[1].precision = MO_OPTIM_PRECISION_COUNT;
    wrong[2].block = 96;
    wrong[3].block = 8192;
    for (size_t i = 0; i < n_elements(wrong); i++) {
        assert_int_equal(mo_optim_state_init(&wrong[i], 8, t.memory, t.size, &s), MO_E_INVALID);
        s = t.state;
        s.block = wrong[i].block; /* a step takes it from the state */
        assert_int_equal(mo_optim_step(&wrong[i], 1, t.param, t.grad, &s), MO_E_INVALID);
    }
    tensor_end(&t);
}

static void a_slice_that_cuts_a_block_is_refused(void **state) {
    (void)state;
    test_rng r = test_rng_begin(__func__);
    tensor t = tensor_begin(&r, decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT), 1000);
    mo_optim_state s;
    assert_int_equal(mo_optim_state_slice(&t.state, 1, 256, &s), MO_E_INVALID);
    assert_int_equal(mo_optim_state_slice(&t.state, 0, 255, &s), MO_E_INVALID);
    assert_int_equal(mo_optim_state_slice(&t.state, 256, 700, &s), MO_E_INVALID);
    assert_int_equal(
        mo_optim_state_slice(&t.state, 768, 233, &s), MO_E_INVALID); /* behind the end */
    assert_int_equal(mo_optim_state_slice(&t.state, 1001, 0, &s), MO_E_INVALID);
    assert_int_equal(mo_optim_state_slice(&t.state, 256, SIZE_MAX, &s), MO_E_INVALID);
    assert_int_equal(mo_optim_state_slice(NULL, 0, 256, &s), MO_E_INVALID);
    assert_int_equal(mo_optim_state_slice(&t.state, 0, 256, NULL), MO_E_INVALID);
    test_ok(mo_optim_state_slice(&t.state, 768, 232, &s)); /* the short last block */
    test_ok(mo_optim_state_slice(&t.state, 0, 1000, &s));
    tensor_end(&t);
    t = tensor_begin(&r, decayed(MO_OPTIM_ADAMW, MO_OPTIM_F32), 1000);
    test_ok(mo_optim_state_slice(&t.state, 1, 255, &s)); /* fp32 has no blocks */
    tensor_end(&t);
}

/* ---- properties ---------------------------------------------------------------------------- */

typedef struct reference {
    double *p, *m, *v;
} reference;
static reference reference_begin(const float *param, size_t n) {
    reference ref = {test_doubles(n), test_doubles(n), test_doubles(n)};
    for (size_t i = 0; i < n; i++) ref.p[i] = (double)param[i], ref.m[i] = ref.v[i] = 0;
    return ref;
}
static void reference_end(reference *ref) {
    free(ref->p);
    free(ref->m);
    free(ref->v);
}
static void reference_adamw(
    const reference *ref, const mo_optim_desc *desc0, uint64_t t, const float *grad, size_t n) {
    const mo_optim_desc d = mo_optim_desc_defaults(desc0);
    const double k1 = 1 - pow(d.beta1, (double)t), k2 = 1 - pow(d.beta2, (double)t);
    for (size_t i = 0; i < n; i++) {
        const double g = d.grad_scale * (double)grad[i];
        ref->m[i] = d.beta1 * ref->m[i] + (1 - d.beta1) * g;
        ref->v[i] = d.beta2 * ref->v[i] + (1 - d.beta2) * g * g;
        ref->p[i] *= 1 - d.lr * d.weight_decay;
        ref->p[i] -= d.lr * (ref->m[i] / k1) / (sqrt(ref->v[i] / k2) + d.epsilon);
    }
}

/* Each step rounds p twice (half an ulp each) and adds an update of at most about 10 lr with a
 * relative error of some 2^-22; the factors' own rounding adds 2^-24. So after t steps at most t
 * (2^-24 (2 |p| + |p|) + 2^-22 10 lr). */
static void fp32_adamw_follows_double_over_100_steps(void **state) {
    (void)state;
    enum { N = 5003, STEPS = 100 };
    const mo_cpu initial = mo_cpu_current();
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        test_rng r = test_rng_begin(__func__);
        mo_optim_desc d = desc(MO_OPTIM_ADAMW, MO_OPTIM_F32);
        d.weight_decay = 0.1;
        d.grad_scale = 0.7;
        d.lr = 3e-3;
        tensor t = tensor_begin(&r, d, N);
        reference ref = reference_begin(t.param, N);
        double worst = 0;
        for (uint64_t at = 1; at <= STEPS; at++) {
            t.d.lr = d.lr = 3e-3 * (1 + cos((double)at / STEPS)); /* lr may change */
            for (size_t i = 0; i < N; i++) t.grad[i] = test_normal(&r) * 0.01f;
            step(&t, at);
            reference_adamw(&ref, &d, at, t.grad, N);
        }
        for (size_t i = 0; i < N; i++) {
            const double bar = STEPS * (0x1p-24 * 3 * fabs(ref.p[i]) + 0x1p-22 * 10 * 6e-3);
            worst = fmax(worst, fabs((double)t.param[i] - ref.p[i]) / bar);
        }
        print_message("%s: %.3f of the bar\n", mo_cpu_name(mo_cpu_current()), worst);
        assert_true(worst <= 1);
        reference_end(&ref);
        tensor_end(&t);
    }
}

/* Relative deviation ||p8 - p|| / ||p - p0|| from double, never synchronized. A gradient is scale *
 * (drift * a + noise): the scales inside a block spread log-uniformly over the given range, a is
 * fixed for each parameter, a and noise are normal. */
static double deviation_8bit(double spread, float drift) {
    enum { N = 4096, STEPS = 500 };
    test_rng r = test_rng_begin(__func__);
    tensor t = tensor_begin(&r, desc(MO_OPTIM_ADAMW, MO_OPTIM_8BIT), N);
    reference ref = reference_begin(t.param, N);
    float *p0 = test_copy(t.param, N), *scale = test_floats(N), *a = test_floats(N);
    double error = 0, moved = 0;
    assert_int_equal(t.state.precision, MO_OPTIM_8BIT);
    for (size_t i = 0; i < N; i++) {
        a[i] = drift * test_normal(&r);
        scale[i] = (float)(0.01 * pow(spread, -test_uniform(&r)));
    }
    for (uint64_t at = 1; at <= STEPS; at++) {
        for (size_t i = 0; i < N; i++) t.grad[i] = scale[i] * (a[i] + test_normal(&r));
        step(&t, at);
        reference_adamw(&ref, &t.d, at, t.grad, N);
    }
    for (size_t i = 0; i < N; i++) {
        error += pow((double)t.param[i] - ref.p[i], 2);
        moved += pow(ref.p[i] - (double)p0[i], 2);
    }
    free(p0);
    free(scale);
    free(a);
    reference_end(&ref);
    tensor_end(&t);
    return sqrt(error / moved);
}

static void assert_deviation(float drift, const double bars[4]) {
    for (int i = 0; i < 4; i++) {
        const double spread = pow(10, i), deviation = deviation_8bit(spread, drift);
        print_message("spread %g: deviation %.4f\n", spread, deviation);
        assert_error_below(deviation, bars[i]);
    }
}

/* The bars are a little above what 8-bit codes of sqrt(v) that are never zero can do; with codes of
 * v itself the deviation at spread 1000 is 0.7. */
static void adamw_8bit_stays_near_double_over_500_steps(void **state) {
    (void)state;
    const double bars[] = {.012, .036, .08, .09};
    assert_deviation(0.25f, bars);
}

/* Without drift the parameters come back to where they were, so that the same error is a larger
 * part of the way: the bars are 15 % above what was measured. */
static void adamw_8bit_stays_near_double_where_gradients_are_noise_only(void **state) {
    (void)state;
    const double bars[] = {.035, .07, .10, .145};
    assert_deviation(0, bars);
}

static void assert_zero_state(const mo_optim_state *f32, size_t i) {
    if (f32->m) assert_true(((float *)f32->m)[i] == 0);
    if (f32->slow) assert_true(((float *)f32->slow)[i] == 0);
    if (f32->v) assert_true(((float *)f32->v)[i] == 0);
    if (f32->row && f32->columns == 1) assert_true(f32->row[i] == 0);
}

/* Every third gradient is zero, and a whole block, and everything in the last short block. */
static void zero_gradients_leave_parameter_and_state_exactly_alone(void **state) {
    (void)state;
    enum { N = 256 * 5 + 100, STEPS = 1000 };
    const mo_cpu initial = mo_cpu_current();
    for (int i = 0; i < N_DESCS; i++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            test_rng r = {1};
            mo_optim_desc d = nth_desc(i);
            if (d.kind == MO_OPTIM_GALORE && d.columns) continue; /* moves along directions */
            d.weight_decay = 0;
            tensor t = tensor_begin(&r, d, N);
            t.param[0] = -0.0f;
            float *p0 = test_copy(t.param, N);
            for (uint64_t at = 1; at <= STEPS; at++) {
                for (size_t j = 0; j < N; j++)
                    t.grad[j] = j % 3 == 0 || j / 256 == 2 || j >= 1280
                        ? 0.0f
                        : (float)test_uniform(&r) - 0.4f;
                step(&t, at);
            }
            tensor seen = tensor_decoded(&t);
            for (size_t j = 0; j < N; j++) {
                const int zero = j % 3 == 0 || j / 256 == 2 || j >= 1280;
                assert_int_equal(test_bits(t.param[j]) == test_bits(p0[j]), zero);
                if (zero && !t.state.rank) assert_zero_state(&seen.state, j);
            }
            free(p0);
            tensor_end(&seen);
            tensor_end(&t);
        }
}

/* The size of the step of these does not shrink with m, and slow lives for 10000s of steps. */
static int moves_for_long(mo_optim_kind kind) {
    return kind == MO_OPTIM_LION || kind == MO_OPTIM_LAMB || kind == MO_OPTIM_ADEMAMIX;
}

/* A row of an embedding that is used once: its momentum shrinks until it is subnormal and then
 * gone. Neither crashes, and the parameters settle. */
static void gradients_that_end_leave_finite_parameters(void **state) {
    (void)state;
    enum { N = 300, STEPS = 2500 };
    const mo_cpu initial = mo_cpu_current();
    for (int i = 0; i < N_DESCS; i++)
        for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
            test_rng r = {2};
            mo_optim_desc d = nth_desc(i);
            if (moves_for_long(d.kind)) continue;
            d.weight_decay = 0;
            tensor t = tensor_begin(&r, d, N);
            for (size_t j = 0; j < N; j += 2) t.grad[j] = 0;
            step(&t, 1);
            memset(t.grad, 0, N * sizeof *t.grad);
            for (uint64_t at = 2; at <= STEPS; at++) step(&t, at);
            float *settled = test_copy(t.param, N);
            step(&t, STEPS + 1);
            assert_same_bits(t.param, settled, N * sizeof(float));
            for (size_t j = 0; j < N; j++) assert_true(fabsf(t.param[j]) < 10);
            if (t.state.m_absmax) assert_true(t.state.m_absmax[0] == 0);
            free(settled);
            tensor_end(&t);
        }
}

static int is_whole(const tensor *t) {
    return t->state.row || t->state.extra || t->d.kind == MO_OPTIM_LAMB ||
        t->d.kind == MO_OPTIM_LARS;
}

static void slices_give_the_bits_of_the_whole(void **state) {
    (void)state;
    enum { N = 256 * 37 + 100 };
    test_rng r = test_rng_begin(__func__);
    for (int i = 0; i < N_DESCS; i++) {
        tensor whole = tensor_begin(&r, nth_desc(i), N), sliced = tensor_copy(&whole);
        if (is_whole(&whole)) {
            tensor_end(&whole);
            tensor_end(&sliced);
            continue;
        }
        for (uint64_t at = 1; at <= 5; at++) {
            for (size_t j = 0; j < N; j++) whole.grad[j] = sliced.grad[j] = test_normal(&r);
            step(&whole, at);
            for (size_t begin = 0, n; begin < N; begin += n) {
                mo_optim_state s;
                n = whole.state.m_absmax || whole.state.v_absmax ? 256 * (1 + test_below(&r, 9))
                                                                 : 1 + test_below(&r, 2000);
                if (n > N - begin) n = N - begin;
                test_ok(mo_optim_state_slice(&sliced.state, begin, n, &s));
                step_slice(&sliced, at, begin, &s);
            }
            assert_same_tensor(&whole, &sliced);
        }
        tensor_end(&whole);
        tensor_end(&sliced);
    }
}

/* type: 0 = fp32 parameters, 1 = bf16, 2 = bf16 with a master copy */
static void assert_same_bits_everywhere(mo_optim_desc d, int type) {
    enum { N = 4096 * 2 + 1000 + 12 };
    test_rng r = {4};
    d.master = type == 2;
    const mo_cpu initial = mo_cpu_current();
    tensor start = type ? tensor_begin_half(&r, d, N) : tensor_begin(&r, d, N), want;
    float *grads = test_floats(N * 3);
    for (size_t j = 0; j < N * 3; j++) /* scales over 12 decades, zeros */
        grads[j] = j % 7 == 0 ? 0 : test_normal(&r) * powf(10, -(float)test_below(&r, 12));
    memset(&want, 0, sizeof want);
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++)
        for (int threads = 1; threads <= 5; threads += threads == 1 ? 1 : 3) {
            const mo_parallel p = test_threads(threads);
            tensor t = tensor_copy(&start);
            t.d.parallel = &p;
            for (uint64_t at = 1; at <= 3; at++) {
                memcpy(t.grad, grads + (at - 1) * N, N * sizeof *grads);
                step(&t, at);
            }
            if (!want.param) {
                want = t; /* scalar, one thread */
                continue;
            }
            assert_same_tensor(&t, &want);
            tensor_end(&t);
        }
    tensor_end(&want);
    tensor_end(&start);
    free(grads);
}

static void instruction_sets_and_threads_give_the_same_bits(void **state) {
    (void)state;
    static const size_t blocks[] = {64, 256, 4096};
    for (int i = 0; i < N_DESCS; i++)
        for (int type = 0; type < 3; type++) {
            mo_optim_desc d = nth_desc(i);
            const int blockwise = d.precision == MO_OPTIM_8BIT || d.precision == MO_OPTIM_4BIT;
            for (size_t b = 0; b < (blockwise ? 3 : 1); b++) {
                d.block = blocks[b];
                assert_same_bits_everywhere(d, type);
            }
        }
}

/* ---- golden -------------------------------------------------------------------------------- */

/* Each step from the golden state of the step before. The golden update is in double, rounded once;
 * this one rounds each operation: |dp| <= 1e-7 + 1e-6 |p|, absmax to 1e-6. A momentum that differs
 * in its last bit may take the neighbouring code when it lies half-way: at most 2 of the 2148 do.
 * */
static void golden_8bit_momentum_steps_match(void **state) {
    (void)state;
    const mo_cpu initial = mo_cpu_current();
    for (int cpu = 0; test_next_cpu(&cpu, initial); cpu++) {
        size_t n, m, worst = 0;
        float *p = (float *)test_golden("momentum8_p0.f32", 4, &n);
        mo_optim_desc d = desc(MO_OPTIM_SGD, MO_OPTIM_8BIT);
        d.lr = 1e-2;
        d.beta1 = 0.9;
        d.weight_decay = 1e-3;
        d.min_8bit_size = 1;
        test_rng r = {0};
        tensor t = tensor_begin(&r, d, n);
        for (int at = 1; at <= 3; at++) {
            char name[64];
            size_t wrong = 0;
            snprintf(name, sizeof name, "momentum8_g%d.f32", at);
            float *g = (float *)test_golden(name, 4, &m);
            snprintf(name, sizeof name, "momentum8_p%d.f32", at);
            float *want = (float *)test_golden(name, 4, &m);
            snprintf(name, sizeof name, "momentum8_c1_%d.u8", at);
            uint8_t *codes = (uint8_t *)test_golden(name, 1, &m);
            snprintf(name, sizeof name, "momentum8_absmax1_%d.f32", at);
            float *absmax = (float *)test_golden(name, 4, &m);
            memcpy(t.param, p, n * sizeof *p);
            memcpy(t.grad, g, n * sizeof *g);
            step(&t, (uint64_t)at);
            for (size_t i = 0; i < n; i++) {
                assert_true(fabsf(t.param[i] - want[i]) <= 1e-7f + 1e-6f * fabsf(want[i]));
                wrong += ((uint8_t *)t.state.m)[i] != codes[i];
            }
            for (size_t i = 0; i < m; i++)
                assert_true(fabsf(t.state.m_absmax[i] - absmax[i]) <= 1e-6f * absmax[i]);
            worst = wrong > worst ? wrong : worst;
            memcpy(t.state.m, codes, n);
            memcpy(t.state.m_absmax, absmax, m * sizeof *absmax);
            free(p);
            p = want;
            free(g);
            free(codes);
            free(absmax);
        }
        print_message("%s: %zu codes differ\n", mo_cpu_name(mo_cpu_current()), worst);
        assert_true(worst <= 2);
        free(p);
        tensor_end(&t);
    }
}

static void attaching_to_a_state_changes_nothing_in_it(void **state) {
    (void)state;
    enum { N = 5000 };
    const mo_optim_desc d = {.precision = MO_OPTIM_8BIT, .lr = 0.1};
    const size_t size = mo_optim_state_size(&d, N);
    char *memory = mo_alloc(NULL, size, 64), *before = test_array(size, 1);
    mo_optim_state made, attached;
    test_ok(mo_optim_state_init(&d, N, memory, size, &made));
    memset(memory, 0x5a, size);
    memcpy(before, memory, size);
    test_ok(mo_optim_state_attach(&d, N, memory, size, &attached));
    assert_memory_equal(&attached, &made, sizeof made);
    assert_memory_equal(memory, before, size);
    assert_int_equal(mo_optim_state_attach(&d, N, memory, size - 64, &attached), MO_E_NO_SPACE);
    assert_int_equal(mo_optim_state_attach(&d, N, NULL, size, &attached), MO_E_INVALID);
    assert_int_equal(mo_optim_state_init(&d, N, memory, size, NULL), MO_E_INVALID);
    assert_memory_equal(memory, before, size);
    mo_free(NULL, memory, size, 64);
    free(before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeros_in_the_desc_are_the_defaults),
        cmocka_unit_test(the_first_adamw_step_is_lr_against_the_sign),
        cmocka_unit_test(sgd_by_hand),
        cmocka_unit_test(decay_alone_shrinks_the_parameter),
        cmocka_unit_test(a_power_of_two_as_grad_scale_is_a_scaled_gradient),
        cmocka_unit_test(state_sizes_are_the_formula),
        cmocka_unit_test(small_tensors_keep_fp32_states),
        cmocka_unit_test(states_start_at_zero_inside_their_memory),
        cmocka_unit_test(a_state_for_another_kind_is_refused),
        cmocka_unit_test(a_step_size_of_zero_changes_the_state_only),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(a_slice_that_cuts_a_block_is_refused),
        cmocka_unit_test(fp32_adamw_follows_double_over_100_steps),
        cmocka_unit_test(adamw_8bit_stays_near_double_over_500_steps),
        cmocka_unit_test(adamw_8bit_stays_near_double_where_gradients_are_noise_only),
        cmocka_unit_test(zero_gradients_leave_parameter_and_state_exactly_alone),
        cmocka_unit_test(gradients_that_end_leave_finite_parameters),
        cmocka_unit_test(slices_give_the_bits_of_the_whole),
        cmocka_unit_test(instruction_sets_and_threads_give_the_same_bits),
        cmocka_unit_test(golden_8bit_momentum_steps_match),
        cmocka_unit_test(attaching_to_a_state_changes_nothing_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
