/* test_release.c - mo_release: updates inside backward, and how they are clipped. */
#include "test_optim.h"

enum { N_TENSORS = 5, N_STEPS = 4 };

/* A model, twice: stepped inside backward, and as a program steps that has all gradients. */
typedef struct twins {
    tensor in[N_TENSORS], out[N_TENSORS];
    double sums[N_TENSORS];
    mo_release release;
} twins;

static twins twins_begin(test_rng *r, mo_release_desc desc, mo_optim_desc adam, int half) {
    twins t;
    memset(&t, 0, sizeof t);
    const uint64_t seed = test_u64(r);
    for (int twin = 0; twin < 2; twin++) {
        test_rng same = {seed};
        for (int i = 0; i < N_TENSORS; i++)
            (twin ? t.out : t.in)[i] = half ? tensor_begin_half(&same, adam, 300 + 77 * (size_t)i)
                                            : tensor_begin(&same, adam, 300 + 77 * (size_t)i);
    }
    desc.n_tensors = N_TENSORS;
    desc.square_sums = t.sums;
    test_ok(mo_release_init(&t.release, &desc));
    return t;
}

static void twins_end(twins *t) {
    for (int i = 0; i < N_TENSORS; i++) tensor_end(&t->in[i]), tensor_end(&t->out[i]);
}

/* Gradients of a step, the same for both. */
static void twins_gradients(twins *t, test_rng *r, float size) {
    for (int i = 0; i < N_TENSORS; i++)
        for (size_t k = 0; k < t->in[i].n; k++)
            t->in[i].grad[k] = t->out[i].grad[k] = size * test_normal(r);
}

static double norm_of(const tensor *t) { return sqrt(mo_accum_square_sum(t->grad, t->n, NULL)); }

static double global_norm(const twins *t) {
    double sum = 0;
    for (int i = 0; i < N_TENSORS; i++)
        sum += mo_accum_square_sum(t->out[i].grad, t->out[i].n, NULL);
    return sqrt(sum);
}

/* The stages backwards, as backward comes to them. */
static int run_released(twins *t, uint64_t step) {
    int n_passes = 0;
    t->release.desc.square_sums = t->sums; /* the struct may have moved */
    mo_release_begin(&t->release);
    for (; mo_release_next(&t->release); n_passes++)
        for (size_t i = N_TENSORS; i-- > 0;) {
            tensor *x = &t->in[i];
            test_ok(x->half
                    ? mo_release_step_bf16(&t->release, i, &x->d, step, x->half, x->grad, &x->state)
                    : mo_release_step(&t->release, i, &x->d, step, x->param, x->grad, &x->state));
        }
    return n_passes;
}

static void run_plainly(twins *t, uint64_t step, const double *scales) {
    for (int i = 0; i < N_TENSORS; i++) {
        tensor *x = &t->out[i];
        mo_optim_desc d = x->d;
        d.grad_scale = (d.grad_scale == 0 ? 1 : d.grad_scale) * scales[i];
        test_ok(x->half ? mo_optim_step_bf16(&d, step, x->half, x->grad, &x->state)
                        : mo_optim_step(&d, step, x->param, x->grad, &x->state));
    }
}

static void twins_are_the_same_bits(const twins *t) {
    for (int i = 0; i < N_TENSORS; i++) {
        const tensor *a = &t->in[i], *b = &t->out[i];
        assert_memory_equal(a->memory, b->memory, a->size);
        if (a->half) assert_memory_equal(a->half, b->half, a->n * sizeof *a->half);
        else assert_memory_equal(a->param, b->param, a->n * sizeof *a->param);
    }
}

static void fill(double *scales, double x) {
    for (int i = 0; i < N_TENSORS; i++) scales[i] = x;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void without_clipping_a_step_is_the_ordinary_one(void **state) {
    (void)state;
    test_rng r = test_rng_begin("none");
    const mo_release_desc none = {MO_RELEASE_NONE, 0, 0, 0, NULL};
    mo_optim_desc adam = {0};
    double scales[N_TENSORS];
    adam.lr = 1e-2;
    twins t = twins_begin(&r, none, adam, 0);
    fill(scales, 1);
    for (uint64_t step = 1; step <= N_STEPS; step++) {
        twins_gradients(&t, &r, 1);
        assert_int_equal(run_released(&t, step), 1);
        run_plainly(&t, step, scales);
        twins_are_the_same_bits(&t);
    }
    twins_end(&t);
}

static void a_tensor_is_clipped_by_its_own_norm(void **state) {
    (void)state;
    test_rng r = test_rng_begin("tensor");
    const mo_release_desc desc = {MO_RELEASE_TENSOR, 18, 0, 0, NULL};
    mo_optim_desc sgd = {0};
    double scales[N_TENSORS];
    int n_clipped = 0;
    sgd.kind = MO_OPTIM_SGD, sgd.lr = 1e-2;
    twins t = twins_begin(&r, desc, sgd, 0);
    for (uint64_t step = 1; step <= N_STEPS; step++) {
        twins_gradients(&t, &r, 1);
        for (int i = 0; i < N_TENSORS; i++) {
            scales[i] = mo_accum_clip_scale(norm_of(&t.out[i]), 18);
            n_clipped += scales[i] < 1;
        }
        assert_int_equal(run_released(&t, step), 1);
        run_plainly(&t, step, scales);
        twins_are_the_same_bits(&t);
    }
    assert_true(n_clipped > 0 && n_clipped < N_TENSORS * N_STEPS);
    assert_true(t.release.norm == global_norm(&t));
    twins_end(&t);
}

static void a_step_is_clipped_by_the_norm_of_the_step_before(void **state) {
    (void)state;
    test_rng r = test_rng_begin("previous");
    const mo_release_desc desc = {MO_RELEASE_PREVIOUS, 30, 0, 0, NULL};
    mo_optim_desc adam = {0};
    double scales[N_TENSORS], before = 0;
    adam.lr = 1e-2;
    twins t = twins_begin(&r, desc, adam, 0);
    for (uint64_t step = 1; step <= N_STEPS; step++) {
        twins_gradients(&t, &r, (float)step);
        fill(scales, mo_accum_clip_scale(before, 30));
        for (int i = 0; i < N_TENSORS && step == 1; i++)
            scales[i] = mo_accum_clip_scale(norm_of(&t.out[i]), 30);
        before = global_norm(&t);
        assert_int_equal(run_released(&t, step), 1);
        run_plainly(&t, step, scales);
        twins_are_the_same_bits(&t);
        assert_true(t.release.norm == before);
    }
    twins_end(&t);
}

static void a_first_norm_scales_the_first_step(void **state) {
    (void)state;
    test_rng r = test_rng_begin("first norm");
    const mo_release_desc desc = {MO_RELEASE_PREVIOUS, 30, 120, 0, NULL};
    mo_optim_desc adam = {0};
    double scales[N_TENSORS];
    adam.lr = 1e-2;
    twins t = twins_begin(&r, desc, adam, 0);
    fill(scales, mo_accum_clip_scale(120, 30));
    twins_gradients(&t, &r, 1);
    assert_int_equal(run_released(&t, 1), 1);
    run_plainly(&t, 1, scales);
    twins_are_the_same_bits(&t);
    twins_end(&t);
}

static void norms_are_those_of_the_scaled_gradient(void **state) {
    (void)state;
    test_rng r = test_rng_begin("loss scale");
    const mo_release_desc desc = {MO_RELEASE_EXACT, 1, 0, 0, NULL};
    mo_optim_desc adam = {0};
    adam.lr = 1e-2, adam.grad_scale = 0.125;
    twins t = twins_begin(&r, desc, adam, 0);
    twins_gradients(&t, &r, 1);
    assert_int_equal(run_released(&t, 1), 2);
    assert_true(fabs(t.release.norm - global_norm(&t) / 8) < 1e-9);
    twins_end(&t);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void exact_is_the_ordinary_clipped_step_bit_for_bit(void **state) {
    (void)state;
    test_rng r = test_rng_begin("exact");
    const mo_release_desc desc = {MO_RELEASE_EXACT, 30, 0, 0, NULL};
    for (int precision = 0; precision < MO_OPTIM_PRECISION_COUNT; precision++)
        for (int half = 0; half < 2; half++) {
            mo_optim_desc adam = {0};
            double scales[N_TENSORS];
            adam.lr = 1e-2, adam.min_8bit_size = 1;
            adam.precision = (mo_optim_precision)precision;
            twins t = twins_begin(&r, desc, adam, half);
            for (uint64_t step = 1; step <= N_STEPS; step++) {
                twins_gradients(&t, &r, (float)step);
                fill(scales, mo_accum_clip_scale(global_norm(&t), 30));
                assert_int_equal(run_released(&t, step), 2);
                run_plainly(&t, step, scales);
                twins_are_the_same_bits(&t);
            }
            twins_end(&t);
        }
}

/* ---- what is not finite, and refusals ------------------------------------------------------ */

static void exact_skips_a_step_whose_norm_is_not_finite(void **state) {
    (void)state;
    test_rng r = test_rng_begin("overflow");
    const mo_release_desc desc = {MO_RELEASE_EXACT, 1, 0, 0, NULL};
    mo_optim_desc adam = {0};
    adam.lr = 1e-2;
    twins t = twins_begin(&r, desc, adam, 0);
    twins_gradients(&t, &r, 1);
    t.in[3].grad[7] = (float)HUGE_VAL;
    assert_int_equal(run_released(&t, 1), 1);
    assert_int_equal(t.release.skipped, 1);
    twins_are_the_same_bits(&t); /* nothing has changed */
    twins_gradients(&t, &r, 1);
    assert_int_equal(run_released(&t, 1), 2);
    assert_int_equal(t.release.skipped, 1);
    twins_end(&t);
}

static void a_norm_that_is_not_finite_is_not_remembered(void **state) {
    (void)state;
    test_rng r = test_rng_begin("previous overflow");
    const mo_release_desc desc = {MO_RELEASE_PREVIOUS, 1, 50, 0, NULL};
    mo_optim_desc adam = {0};
    adam.lr = 1e-2;
    twins t = twins_begin(&r, desc, adam, 0);
    twins_gradients(&t, &r, 1);
    t.in[0].grad[0] = (float)NAN;
    assert_int_equal(run_released(&t, 1), 1);
    assert_true(t.release.norm == 50);
    twins_end(&t);
}

static void what_makes_no_sense_is_refused(void **state) {
    (void)state;
    mo_release x;
    double sums[2];
    mo_release_desc d = {MO_RELEASE_EXACT, 1, 0, 2, sums};
    test_ok(mo_release_init(&x, &d));
    assert_int_equal(mo_release_init(NULL, &d), MO_E_INVALID);
    assert_int_equal(mo_release_init(&x, NULL), MO_E_INVALID);
    const double wrong[] = {0, -1, NAN, HUGE_VAL};
    for (size_t i = 0; i < n_elements(wrong); i++) {
        d.max_norm = wrong[i];
        assert_int_equal(mo_release_init(&x, &d), MO_E_INVALID);
        d.max_norm = 1, d.first_norm = wrong[i];
        if (wrong[i] != 0) assert_int_equal(mo_release_init(&x, &d), MO_E_INVALID);
        d.first_norm = 0;
    }
    d.square_sums = NULL;
    assert_int_equal(mo_release_init(&x, &d), MO_E_INVALID);
    d.square_sums = sums, d.n_tensors = 0;
    assert_int_equal(mo_release_init(&x, &d), MO_E_INVALID);
    d.n_tensors = 2, d.clip = MO_RELEASE_CLIP_COUNT;
    assert_int_equal(mo_release_init(&x, &d), MO_E_INVALID);
}

static void a_tensor_is_stepped_inside_a_pass_only(void **state) {
    (void)state;
    test_rng r = {1};
    mo_release x;
    double sums[2];
    const mo_release_desc d = {MO_RELEASE_TENSOR, 1, 0, 2, sums};
    mo_optim_desc adam = {0};
    tensor t = tensor_begin(&r, adam, 100);
    test_ok(mo_release_init(&x, &d));
    mo_release_begin(&x);
    assert_int_equal(mo_release_step(&x, 0, &t.d, 1, t.param, t.grad, &t.state), MO_E_STATE);
    assert_int_equal(mo_release_next(&x), 1);
    test_ok(mo_release_step(&x, 0, &t.d, 1, t.param, t.grad, &t.state));
    assert_int_equal(mo_release_step(&x, 2, &t.d, 1, t.param, t.grad, &t.state), MO_E_INVALID);
    assert_int_equal(mo_release_step(&x, 0, &t.d, 0, t.param, t.grad, &t.state), MO_E_INVALID);
    assert_int_equal(mo_release_step(&x, 0, NULL, 1, t.param, t.grad, &t.state), MO_E_INVALID);
    assert_int_equal(mo_release_step(NULL, 0, &t.d, 1, t.param, t.grad, &t.state), MO_E_INVALID);
    assert_int_equal(mo_release_step(&x, 0, &t.d, 1, t.param, NULL, &t.state), MO_E_INVALID);
    assert_int_equal(mo_release_next(&x), 0);
    assert_int_equal(mo_release_step(&x, 0, &t.d, 1, t.param, t.grad, &t.state), MO_E_STATE);
    tensor_end(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_clipping_a_step_is_the_ordinary_one),
        cmocka_unit_test(a_tensor_is_clipped_by_its_own_norm),
        cmocka_unit_test(a_step_is_clipped_by_the_norm_of_the_step_before),
        cmocka_unit_test(a_first_norm_scales_the_first_step),
        cmocka_unit_test(norms_are_those_of_the_scaled_gradient),
        cmocka_unit_test(exact_is_the_ordinary_clipped_step_bit_for_bit),
        cmocka_unit_test(exact_skips_a_step_whose_norm_is_not_finite),
        cmocka_unit_test(a_norm_that_is_not_finite_is_not_remembered),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_tensor_is_stepped_inside_a_pass_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
