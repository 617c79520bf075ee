/* test_optim_low.c - mo_optim's low-rank kinds on matrices: APOLLO, APOLLO_MINI and GALORE against
 * the rules of their papers in double, their states, their directions. */
#include "test_optim.h"

static const mo_optim_kind kinds[] = {MO_OPTIM_APOLLO, MO_OPTIM_APOLLO_MINI, MO_OPTIM_GALORE};

typedef struct shape {
    size_t rows, columns, rank;
} shape;
static const shape shapes[] = {
    {20, 50, 0}, {50, 20, 3}, {33, 33, 1}, {9, 200, 9}, {130, 70, 40}, {2, 2, 0}};

static mo_optim_desc low(mo_optim_kind kind, mo_optim_precision precision, shape s) {
    mo_optim_desc d = decayed(kind, precision);
    d.columns = s.columns;
    d.rank = s.rank;
    d.seed = 0x123456789u;
    d.grad_scale = 0.7;
    return d;
}

/* ---- a reference in double ------------------------------------------------------------------- */

/* A gradient as small x large, what is kept of it as rank x large. */
typedef struct reference {
    size_t rows, columns, small, large, rank;
    double *p, *g, *q, *r, *m, *v, *u, last, most;
} reference;

static reference reference_begin(const tensor *t) {
    reference ref;
    memset(&ref, 0, sizeof ref);
    ref.columns = t->d.columns;
    ref.rows = t->n / ref.columns;
    ref.small = ref.rows < ref.columns ? ref.rows : ref.columns;
    ref.large = t->n / ref.small;
    ref.rank = t->state.rank;
    double **all[] = {&ref.p, &ref.g, &ref.q, &ref.r, &ref.m, &ref.v, &ref.u};
    for (size_t k = 0; k < n_elements(all); k++) {
        *all[k] = test_doubles(t->n + ref.rank * ref.large + 1);
        for (size_t i = 0; i < t->n + ref.rank * ref.large + 1; i++) (*all[k])[i] = 0;
    }
    for (size_t i = 0; i < t->n; i++) ref.p[i] = (double)t->param[i];
    return ref;
}
static void reference_end(reference *r) {
    double *all[] = {r->p, r->g, r->q, r->r, r->m, r->v, r->u};
    for (size_t k = 0; k < n_elements(all); k++) free(all[k]);
}

/* Where number i of channel c is: channels are columns where those are more. */
static size_t place(const reference *r, size_t i, size_t c) {
    return r->rows < r->columns ? i * r->columns + c : c * r->columns + i;
}

static double sign_of(const mo_optim_desc *d, uint64_t t, size_t i, size_t k, size_t rank) {
    const uint64_t interval = d->interval ? d->interval : 200;
    const uint64_t seed = d->seed + ((t - 1) / interval + 1) * 0xd1342543de82ef95u;
    const uint32_t words[] = {0, (uint32_t)(seed >> 32), (uint32_t)seed};
    uint32_t x = 0;
    for (int n = 0; n < 4; n++) {
        x = n < 3 ? x + words[n] : x ^ (uint32_t)(i * ((rank + 31) / 32) + k / 32);
        x = (x ^ (x >> 16)) * 0x7feb352du;
        x = (x ^ (x >> 15)) * 0x846ca68bu;
        x ^= x >> 16;
    }
    return x >> k % 32 & 1 ? -1 : 1;
}

/* q [small][rank]: random signs, or the directions that the state has */
static void reference_projection(
    reference *r, const mo_optim_desc *d, uint64_t t, const mo_optim_state *s) {
    for (size_t i = 0; i < r->small; i++)
        for (size_t k = 0; k < r->rank; k++)
            r->q[i * r->rank + k] = d->kind == MO_OPTIM_GALORE
                ? (double)s->extra[i * r->rank + k]
                : sign_of(d, t, i, k, r->rank) / sqrt((double)r->rank);
}

/* r, and u: AdamW's direction for it */
static void reference_adam(reference *r, const mo_optim_desc *d, double t) {
    for (size_t c = 0; c < r->large; c++)
        for (size_t k = 0; k < r->rank; k++) {
            const size_t at = c * r->rank + k;
            double sum = 0;
            for (size_t i = 0; i < r->small; i++)
                sum += r->q[i * r->rank + k] * r->g[place(r, i, c)];
            r->r[at] = sum;
            r->m[at] = d->beta1 * r->m[at] + (1 - d->beta1) * sum;
            r->v[at] = d->beta2 * r->v[at] + (1 - d->beta2) * sum * sum;
            r->u[at] = r->m[at] / (1 - pow(d->beta1, t)) /
                (sqrt(r->v[at] / (1 - pow(d->beta2, t))) + d->epsilon);
        }
}

static double squares(const double *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

/* g becomes the direction of the update. APOLLO, algorithm 1 of arXiv:2412.05270; GaLore, algorithm
 * 2 of arXiv:2403.03507 */
static void reference_direction(reference *r, const mo_optim_desc *d) {
    const size_t n = r->rows * r->columns, all = r->large * r->rank;
    const double whole = sqrt(squares(r->u, all) / squares(r->r, all));
    for (size_t c = 0; c < r->large; c++) {
        const double *u = r->u + c * r->rank;
        const double factor = d->kind == MO_OPTIM_APOLLO_MINI
            ? whole
            : sqrt(squares(u, r->rank) / squares(r->r + c * r->rank, r->rank));
        for (size_t i = 0; i < r->small; i++) {
            double *g = r->g + place(r, i, c), sum = 0;
            for (size_t k = 0; k < r->rank; k++) sum += r->q[i * r->rank + k] * u[k];
            *g = d->kind == MO_OPTIM_GALORE ? sum : *g * factor;
        }
    }
    if (d->kind == MO_OPTIM_GALORE) return;
    const double norm = sqrt(squares(r->g, n));
    const double by = r->last > 0 && norm > d->trust * r->last ? d->trust * r->last / norm : 1;
    for (size_t i = 0; i < n; i++) r->g[i] *= by;
    r->last = norm * by;
}

static void reference_step(reference *r, const tensor *t, uint64_t at) {
    const mo_optim_desc d = mo_optim_desc_defaults(&t->d);
    for (size_t i = 0; i < t->n; i++) r->g[i] = d.grad_scale * (double)t->grad[i];
    reference_projection(r, &d, at, &t->state);
    reference_adam(r, &d, (double)at);
    reference_direction(r, &d);
    for (size_t i = 0; i < t->n; i++) {
        const double by = d.lr * d.alpha * r->g[i];
        r->p[i] = r->p[i] * (1 - d.lr * d.weight_decay) - by;
        r->most = fmax(r->most, fabs(by));
    }
}

/* Gradients: one of rank 3 that stays, and noise. */
static void new_gradients(test_rng *r, tensor *t, uint64_t at) {
    const size_t columns = t->d.columns;
    test_rng still = {11};
    float *a = test_normals(&still, 3 * t->n / columns, 0.01f);
    float *b = test_normals(&still, 3 * columns, 1);
    for (size_t i = 0; i < t->n; i++) {
        t->grad[i] = 0.003f * test_normal(r);
        for (size_t k = 0; k < 3; k++)
            t->grad[i] += a[3 * (i / columns) + k] * b[3 * (i % columns) + k] *
                (float)cos(0.1 * (double)at * (double)k);
    }
    free(a);
    free(b);
}

/* p is rounded twice a step; sums of up to 200 numbers, and of squares, have errors of sqrt(200)
 * roundings in practice, 16 2^-24 of the largest update. */
static void assert_follows_double(mo_optim_kind kind, shape s, uint64_t interval) {
    enum { STEPS = 30 };
    test_rng r = test_rng_begin(test_kind_name(kind));
    mo_optim_desc d = low(kind, MO_OPTIM_F32, s);
    d.interval = interval;
    tensor t = tensor_begin(&r, d, s.rows * s.columns);
    reference ref = reference_begin(&t);
    double worst = 0;
    for (uint64_t at = 1; at <= STEPS; at++) {
        new_gradients(&r, &t, at);
        step(&t, at);
        reference_step(&ref, &t, at);
    }
    for (size_t i = 0; i < t.n; i++) {
        const double bar = STEPS * (0x1p-24 * 3 * fabs(ref.p[i]) + 0x1p-20 * ref.most);
        worst = fmax(worst, fabs((double)t.param[i] - ref.p[i]) / bar);
    }
    print_message("%s %zu x %zu rank %zu: %.3f of the bar\n", test_kind_name(kind), s.rows,
        s.columns, t.state.rank, worst);
    assert_true(worst <= 1);
    reference_end(&ref);
    tensor_end(&t);
}

static void every_kind_and_shape_follows_double(void **state) {
    (void)state;
    for (size_t k = 0; k < n_elements(kinds); k++)
        for (size_t i = 0; i < n_elements(shapes); i++) {
            assert_follows_double(kinds[k], shapes[i], 0);
            assert_follows_double(kinds[k], shapes[i], 7); /* new projections in between */
        }
}

/* ||p - fp32|| / ||fp32 - start|| after 30 steps; bars are 20 % above what was measured. */
static void states_of_one_and_two_bytes_stay_near(void **state) {
    (void)state;
    static const double bars[][2] = {{.0087, .0011}, {.0018, 4e-5}, {.056, .0042}};
    for (size_t k = 0; k < n_elements(kinds); k++)
        for (int half = 0; half < 2; half++) {
            const shape s = {64, 100, 16};
            test_rng r = {5};
            tensor a = tensor_begin(&r, low(kinds[k], MO_OPTIM_F32, s), s.rows * s.columns);
            tensor b = a;
            b.d.precision = half ? MO_OPTIM_BF16 : MO_OPTIM_8BIT;
            b.param = test_copy(a.param, a.n);
            tensor_state(&b);
            float *start = test_copy(a.param, a.n);
            double error = 0, moved = 0;
            for (uint64_t at = 1; at <= 30; at++) {
                new_gradients(&r, &a, at);
                step(&a, at);
                step(&b, at); /* b.grad is a.grad */
            }
            for (size_t i = 0; i < a.n; i++) {
                error += pow((double)b.param[i] - (double)a.param[i], 2);
                moved += pow((double)a.param[i] - (double)start[i], 2);
            }
            const double x = sqrt(error / moved);
            print_message("%s %s: %.5f\n", test_kind_name(kinds[k]), half ? "bf16" : "8bit", x);
            assert_error_below(x, bars[k][half]);
            mo_free(NULL, b.memory, b.size, 64);
            free(b.param);
            free(start);
            tensor_end(&a);
        }
}

/* ---- one step by hand ------------------------------------------------------------------------ */

/* At t = 1 u is the sign of r. One number for each channel: |u| / |r| is 1 / |r|, and r the sum of
 * the channel with two signs. */
static void apollo_makes_each_channel_as_long_as_adam_would(void **state) {
    (void)state;
    const shape s = {2, 4, 1};
    test_rng r = {0};
    mo_optim_desc d = desc(MO_OPTIM_APOLLO, MO_OPTIM_F32);
    d.columns = s.columns;
    d.rank = 1;
    d.lr = 0.5;
    tensor t = tensor_begin(&r, d, 8);
    const float g[] = {3, 5, -7, 1, 1, -1, 2, 0.25f};
    memcpy(t.grad, g, sizeof g);
    float *was = test_copy(t.param, 8);
    step(&t, 1);
    const double s0 = sign_of(&d, 1, 0, 0, 1), s1 = sign_of(&d, 1, 1, 0, 1);
    for (int i = 0; i < 8; i++) {
        const double sum = fabs(s0 * (double)g[i % 4] + s1 * (double)g[i % 4 + 4]);
        const double want = (double)was[i] - 0.5 * (double)g[i] / sum;
        assert_true(fabs((double)t.param[i] - want) <= 1e-6);
    }
    free(was);
    tensor_end(&t);
}

static double moved(const tensor *t, const float *was) {
    double sum = 0;
    for (size_t i = 0; i < t->n; i++) sum += pow((double)t->param[i] - (double)was[i], 2);
    return sqrt(sum);
}

/* Gradients change their sign in every step, so that m is small, and then keep it once: the update
 * would be longer by a part of what m grows by, 2.8 times. */
static void updates_grow_by_no_more_than_trust_in_a_step(void **state) {
    (void)state;
    for (int mini = 0; mini < 2; mini++)
        for (int limited = 0; limited < 2; limited++) {
            const shape s = {40, 60, 4};
            test_rng r = {1};
            mo_optim_desc d = low(mini ? MO_OPTIM_APOLLO_MINI : MO_OPTIM_APOLLO, MO_OPTIM_F32, s);
            d.weight_decay = 0;
            d.trust = limited ? 0 : 1e20;
            d.lr = 0.01;
            tensor t = tensor_begin(&r, d, s.rows * s.columns);
            double norms[2];
            for (uint64_t at = 1; at <= 12; at++) {
                new_gradients(&r, &t, 0);
                for (size_t i = 0; i < t.n && at % 2 && at < 12; i++) t.grad[i] *= -1;
                for (size_t i = 0; i < t.n && at == 12; i++) t.grad[i] *= -1;
                float *was = test_copy(t.param, t.n);
                step(&t, at);
                norms[at % 2] = moved(&t, was);
                free(was);
            }
            const double growth = norms[0] / norms[1];
            print_message("growth %.4f\n", growth);
            if (limited) assert_true(fabs(growth - 1.01) < 1e-4);
            else assert_true(growth > 1.2);
            tensor_end(&t);
        }
}

/* ---- directions ------------------------------------------------------------------------------ */

static void directions_are_orthonormal(void **state) {
    (void)state;
    for (size_t i = 0; i < n_elements(shapes); i++)
        for (int zero = 0; zero < 2; zero++) {
            test_rng r = {2};
            const shape s = shapes[i];
            tensor t = tensor_begin(&r, low(MO_OPTIM_GALORE, MO_OPTIM_F32, s), s.rows * s.columns);
            const size_t rank = t.state.rank, small = s.rows < s.columns ? s.rows : s.columns;
            new_gradients(&r, &t, 1);
            for (size_t j = 0; zero && j < t.n; j++) t.grad[j] = 0;
            step(&t, 1);
            for (size_t a = 0; a < rank; a++)
                for (size_t b = 0; b <= a; b++) {
                    double dot = 0;
                    for (size_t j = 0; j < small; j++)
                        dot += (double)t.state.extra[j * rank + a] *
                            (double)t.state.extra[j * rank + b];
                    assert_true(fabs(dot - (a == b)) <= 1e-5);
                }
            tensor_end(&t);
        }
}

/* G = sum of s_k a_k b_k^T with orthonormal a (a basis of cosines) and s = 1, 1/2, 1/4, ...: what
 * the directions leave of a_k. After three rounds the last of them, a_3, has 2^-6 of what a random
 * start has of a_4 beside it, the square of which is 2.4e-4; ten times that. */
static void directions_are_the_largest_singular_ones(void **state) {
    (void)state;
    enum { SMALL = 16, LARGE = 40, RANK = 4 };
    for (int turned = 0; turned < 2; turned++) {
        const shape s = {turned ? LARGE : SMALL, turned ? SMALL : LARGE, RANK};
        test_rng r = {2};
        tensor t = tensor_begin(&r, low(MO_OPTIM_GALORE, MO_OPTIM_F32, s), SMALL * LARGE);
        double a[SMALL][SMALL];
        for (int k = 0; k < SMALL; k++)
            for (int i = 0; i < SMALL; i++)
                a[k][i] = sqrt((k ? 2.0 : 1.0) / SMALL) * cos(acos(-1.0) * (i + 0.5) * k / SMALL);
        for (int i = 0; i < SMALL; i++)
            for (int j = 0; j < LARGE; j++) {
                double sum = 0;
                for (int k = 0; k < SMALL; k++)
                    sum += pow(0.5, k) * a[k][i] * cos(acos(-1.0) * (j + 0.5) * k / LARGE);
                t.grad[turned ? j * SMALL + i : i * LARGE + j] = 1e-6f * (float)sum;
            }
        step(&t, 1);
        for (int k = 0; k < RANK; k++) {
            double left = 1;
            for (int l = 0; l < RANK; l++) {
                double dot = 0;
                for (int i = 0; i < SMALL; i++)
                    dot += a[k][i] * (double)t.state.extra[i * RANK + l];
                left -= dot * dot;
            }
            print_message("direction %d: %.2e is left\n", k, left);
            assert_true(left < 2.4e-3);
        }
        tensor_end(&t);
    }
}

static void directions_stay_for_an_interval(void **state) {
    (void)state;
    const shape s = {24, 30, 5};
    for (size_t k = 0; k < n_elements(kinds); k++) {
        test_rng r = {2};
        mo_optim_desc d = low(kinds[k], MO_OPTIM_F32, s);
        d.interval = 3;
        tensor t = tensor_begin(&r, d, s.rows * s.columns);
        if (kinds[k] != MO_OPTIM_GALORE) { /* nothing is kept of them */
            assert_true(sign_of(&d, 1, 3, 2, 5) == sign_of(&d, 3, 3, 2, 5));
            tensor_end(&t);
            continue;
        }
        float was[24 * 5];
        for (uint64_t at = 1; at <= 7; at++) {
            new_gradients(&r, &t, at);
            step(&t, at);
            const int same = memcmp(was, t.state.extra, sizeof was) == 0;
            assert_int_equal(same, (at - 1) % 3 != 0);
            memcpy(was, t.state.extra, sizeof was);
        }
        tensor_end(&t);
    }
}

/* ---- states ---------------------------------------------------------------------------------- */

static void sizes_and_ranks_are_those_of_the_shape(void **state) {
    (void)state;
    static const struct {
        mo_optim_kind kind;
        mo_optim_precision precision;
        size_t rows, columns, rank, want, n_states;
    } all[] = {{MO_OPTIM_APOLLO, MO_OPTIM_F32, 768, 3072, 0, 128, 3072 * 128},
        {MO_OPTIM_APOLLO, MO_OPTIM_F32, 3072, 4096, 0, 256, 4096 * 256},
        {MO_OPTIM_APOLLO_MINI, MO_OPTIM_F32, 768, 3072, 0, 1, 3072},
        {MO_OPTIM_GALORE, MO_OPTIM_F32, 100, 60, 96, 60, 112 * 60},
        {MO_OPTIM_GALORE, MO_OPTIM_8BIT, 100, 60, 96, 32, 112 * 32},
        {MO_OPTIM_GALORE, MO_OPTIM_F32, 1, 60, 4, 0, 60},
        {MO_OPTIM_APOLLO, MO_OPTIM_F32, 60, 1, 4, 0, 60}};
    for (size_t i = 0; i < n_elements(all); i++) {
        const size_t n = all[i].rows * all[i].columns;
        mo_optim_desc d = decayed(all[i].kind, all[i].precision);
        d.columns = all[i].columns;
        d.rank = all[i].rank;
        const size_t size = mo_optim_state_size(&d, n);
        void *memory = mo_alloc(NULL, size, 64);
        mo_optim_state s;
        test_ok(mo_optim_state_init(&d, n, memory, size, &s));
        assert_int_equal(s.rank, all[i].want);
        assert_int_equal(s.n_states, all[i].n_states);
        assert_int_equal(!s.extra, !s.rank);
        if (s.precision == MO_OPTIM_F32)
            assert_in_range(
                size, 8 * s.n_states + 4 * s.n_extra, 8 * s.n_states + 4 * s.n_extra + 3 * 63);
        assert_int_equal(mo_optim_state_init(&d, n, memory, size - 1, &s), MO_E_NO_SPACE);
        mo_free(NULL, memory, size, 64);
    }
    mo_optim_desc d = decayed(MO_OPTIM_GALORE, MO_OPTIM_F32);
    d.columns = 2000;
    d.rank = 1025;
    assert_int_equal(mo_optim_state_size(&d, 2000 * 2000), 0);
}

static void states_of_matrices_have_no_slices_and_one_kind(void **state) {
    (void)state;
    const shape s = {20, 50, 4};
    test_rng r = {0};
    for (size_t k = 0; k < n_elements(kinds); k++) {
        tensor t = tensor_begin(&r, low(kinds[k], MO_OPTIM_F32, s), 1000);
        mo_optim_state part;
        assert_int_equal(mo_optim_state_slice(&t.state, 0, 500, &part), MO_E_UNSUPPORTED);
        test_ok(mo_optim_state_slice(&t.state, 0, 1000, &part));
        assert_int_equal(part.n_states, t.state.n_states);
        mo_optim_desc other = t.d;
        other.kind = MO_OPTIM_ADAMW;
        assert_int_equal(mo_optim_step(&other, 1, t.param, t.grad, &t.state), MO_E_INVALID);
        other.kind = kinds[k] == MO_OPTIM_GALORE ? MO_OPTIM_APOLLO : MO_OPTIM_GALORE;
        assert_int_equal(mo_optim_step(&other, 1, t.param, t.grad, &t.state), MO_E_INVALID);
        tensor_end(&t);
    }
}

static void threads_and_zero_gradients_change_nothing(void **state) {
    (void)state;
    const mo_parallel three = test_threads(3);
    for (size_t k = 0; k < n_elements(kinds); k++)
        for (int p = 0; p < 3; p++) {
            const mo_optim_precision all[] = {MO_OPTIM_F32, MO_OPTIM_8BIT, MO_OPTIM_BF16};
            const shape s = {130, 70, 16};
            test_rng r = {4};
            mo_optim_desc d = low(kinds[k], all[p], s);
            d.weight_decay = 0;
            tensor a = tensor_begin(&r, d, s.rows * s.columns), b = tensor_copy(&a);
            b.d.parallel = &three;
            for (uint64_t at = 1; at <= 3; at++) {
                new_gradients(&r, &a, at);
                memcpy(b.grad, a.grad, a.n * sizeof(float));
                step(&a, at);
                step(&b, at);
                assert_same_tensor(&a, &b);
            }
            tensor_end(&b);
            b = tensor_begin(&r, d, a.n);
            float *was = test_copy(b.param, b.n);
            memset(b.grad, 0, b.n * sizeof(float));
            for (uint64_t at = 1; at <= 2; at++) step(&b, at);
            assert_same_bits(was, b.param, b.n * sizeof(float));
            free(was);
            tensor_end(&a);
            tensor_end(&b);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_and_shape_follows_double),
        cmocka_unit_test(states_of_one_and_two_bytes_stay_near),
        cmocka_unit_test(apollo_makes_each_channel_as_long_as_adam_would),
        cmocka_unit_test(updates_grow_by_no_more_than_trust_in_a_step),
        cmocka_unit_test(directions_are_orthonormal),
        cmocka_unit_test(directions_are_the_largest_singular_ones),
        cmocka_unit_test(directions_stay_for_an_interval),
        cmocka_unit_test(sizes_and_ranks_are_those_of_the_shape),
        cmocka_unit_test(states_of_matrices_have_no_slices_and_one_kind),
        cmocka_unit_test(threads_and_zero_gradients_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
