/* test_optim_state.c - mo_optim: states moved to another precision or block size, their bytes, and
 * what is refused. */
#include "test_optim.h"

/* ---- states moved to another precision ------------------------------------------------------- */

/* A state with contents, after 3 steps. */
static tensor trained_tensor(mo_optim_desc d, size_t n) {
    test_rng r = {6};
    tensor t = tensor_begin(&r, d, n);
    for (uint64_t at = 1; at <= 3; at++) {
        for (size_t i = 0; i < n; i++)
            t.grad[i] = test_normal(&r) * powf(10, -3 * (float)test_uniform(&r));
        step(&t, at);
    }
    return t;
}
/* from's states under another desc */
static tensor moved(const tensor *from, mo_optim_desc d) {
    tensor t = *from;
    t.d = d;
    t.param = test_copy(from->param, t.n);
    t.grad = test_copy(from->grad, t.n);
    tensor_state(&t);
    test_ok(mo_optim_state_copy(&t.state, &from->state, 3));
    return t;
}

static void the_same_coding_is_copied_bit_for_bit(void **state) {
    (void)state;
    for (int i = 0; i < N_DESCS; i++) {
        mo_optim_desc d = nth_desc(i);
        tensor t = trained_tensor(d, 1000), copy = moved(&t, d);
        assert_same_bits(t.memory, copy.memory, t.size);
        d.plain_v = 1; /* chosen at init */
        tensor plain = trained_tensor(d, 1000), again = moved(&plain, d);
        assert_same_bits(plain.memory, again.memory, plain.size);
        tensor_end(&t);
        tensor_end(&copy);
        tensor_end(&plain);
        tensor_end(&again);
    }
}

/* |a - b| <= part |b| + of_block times the largest number of its block of 256 */
static void assert_near(const void *a0, const void *b0, size_t n, double part, double of_block) {
    const float *a = (const float *)a0, *b = (const float *)b0;
    if (!a) return;
    for (size_t i = 0; i < n; i++) {
        double most = 0;
        for (size_t j = i / 256 * 256; j < n && j < i / 256 * 256 + 256; j++)
            most = fmax(most, fabs((double)b[j]));
        const double bar = part * fabs((double)b[i]) + of_block * most;
        if (!(fabs((double)a[i] - (double)b[i]) <= bar))
            print_message("%zu: %g %g, of %g\n", i, (double)a[i], (double)b[i], most);
        assert_true(fabs((double)a[i] - (double)b[i]) <= bar);
    }
}
static void assert_near_states(const tensor *a, const tensor *b, double part, double of_block) {
    tensor x = tensor_decoded(a), y = tensor_decoded(b);
    assert_near(x.state.m, y.state.m, x.state.n_states, part, of_block);
    assert_near(x.state.slow, y.state.slow, x.state.n_states, part, of_block);
    assert_near(x.state.v, y.state.v, x.state.n_states, part, of_block);
    if (x.state.row) assert_same_bits(x.state.row, y.state.row, x.state.rows * sizeof(float));
    if (x.state.column)
        assert_same_bits(x.state.column, y.state.column, x.state.columns * sizeof(float));
    tensor_end(&x);
    tensor_end(&y);
}

/* Half the widest cells of the maps: the decade below 1 of the signed map has 64 steps of 0.9 / 64,
 * of which half is 0.007 of the largest number; a root doubles that. In the decades below, a cell
 * is some part of the number. To bf16: 2^-7, stochastic. 8 bits to fp32 is exact; back again is
 * not, as the largest code below 0 is -0.993, and v may become roots or cease to be. */
static void precisions_change_within_their_cells(void **state) {
    (void)state;
    static const mo_optim_precision to[] = {
        MO_OPTIM_F32, MO_OPTIM_8BIT, MO_OPTIM_BF16, MO_OPTIM_8BIT};
    static const size_t blocks[] = {256, 64, 256, 256};
    for (int kind = 0; kind < MO_OPTIM_KIND_COUNT; kind++)
        for (size_t i = 0; i < n_elements(to); i++) {
            mo_optim_desc d8 = decayed((mo_optim_kind)kind, MO_OPTIM_8BIT), d = d8;
            d.precision = to[i];
            d.block = blocks[i];
            d.plain_v = i == 3;
            d8.columns = d.columns = 4;
            tensor a = trained_tensor(d8, 1000), b = moved(&a, d), back = moved(&b, d8);
            const double part = to[i] == MO_OPTIM_BF16 ? 0x1p-7 : 0;
            const double there = to[i] == MO_OPTIM_8BIT ? 0.015 : 0;
            assert_near_states(&b, &a, part, there);
            assert_near_states(&back, &a, part, 0.015);
            tensor_end(&a);
            tensor_end(&b);
            tensor_end(&back);
        }
}

/* 8 bits -> 4 -> 8: the widest cells are 0.225 of the largest number for m, 1/15 of the root for
 * v. */
static void states_move_to_4_bits_and_back(void **state) {
    (void)state;
    mo_optim_desc d8 = decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT);
    const mo_optim_desc d4 = decayed(MO_OPTIM_ADAMW, MO_OPTIM_4BIT);
    tensor a = trained_tensor(d8, 1001), b = moved(&a, d4), back = moved(&b, d8);
    assert_near_states(&b, &a, 0, 0.13);
    assert_near_states(&back, &a, 0, 0.15);
    tensor seen = tensor_decoded(&b), was = tensor_decoded(&a);
    for (size_t i = 0; i < 1001; i++) /* no v > 0 becomes 0 */
        if (((float *)was.state.v)[i] > 0) assert_true(((float *)seen.state.v)[i] > 0);
    tensor_end(&a);
    tensor_end(&b);
    tensor_end(&back);
    tensor_end(&seen);
    tensor_end(&was);
}

static void slices_are_copied_into_states_of_their_own(void **state) {
    (void)state;
    mo_optim_desc d = decayed(MO_OPTIM_ADAMW, MO_OPTIM_8BIT);
    tensor whole = trained_tensor(d, 1000), part = trained_tensor(d, 512),
           again = trained_tensor(d, 1000);
    mo_optim_state s;
    test_ok(mo_optim_state_slice(&whole.state, 256, 512, &s));
    test_ok(mo_optim_state_copy(&part.state, &s, 0)); /* split */
    assert_same_bits(part.state.m, (char *)whole.state.m + 256, 512);
    assert_same_bits(part.state.v_absmax, whole.state.v_absmax + 1, 2 * sizeof(float));
    memset(again.state.m, 0, 1000);
    test_ok(mo_optim_state_slice(&again.state, 256, 512, &s));
    test_ok(mo_optim_state_copy(&s, &part.state, 0)); /* merge */
    assert_same_bits((char *)again.state.m + 256, part.state.m, 512);
    tensor_end(&whole);
    tensor_end(&part);
    tensor_end(&again);
}

static void states_that_differ_in_shape_are_not_copied(void **state) {
    (void)state;
    mo_optim_desc d = decayed(MO_OPTIM_ADAFACTOR, MO_OPTIM_F32);
    d.columns = 4;
    tensor a = trained_tensor(d, 1000);
    d.columns = 8;
    tensor b = trained_tensor(d, 1000);
    tensor c = trained_tensor(decayed(MO_OPTIM_SGD, MO_OPTIM_F32), 1000);
    tensor e = trained_tensor(decayed(MO_OPTIM_SGD, MO_OPTIM_F32), 999);
    assert_int_equal(mo_optim_state_copy(&b.state, &a.state, 0), MO_E_INVALID);
    assert_int_equal(mo_optim_state_copy(&c.state, &a.state, 0), MO_E_INVALID);
    assert_int_equal(mo_optim_state_copy(&e.state, &c.state, 0), MO_E_INVALID);
    assert_int_equal(mo_optim_state_copy(NULL, &c.state, 0), MO_E_INVALID);
    assert_int_equal(mo_optim_state_copy(&c.state, NULL, 0), MO_E_INVALID);
    tensor_end(&a);
    tensor_end(&b);
    tensor_end(&c);
    tensor_end(&e);
}

/* ---- sizes and arguments --------------------------------------------------------------------- */

static void bytes_per_number(void **state) {
    (void)state;
    const size_t n = 1 << 20;
    const struct {
        mo_optim_kind kind;
        mo_optim_precision precision;
        size_t columns;
        int master;
        double bytes;
    } want[] = {{MO_OPTIM_ADAMW, MO_OPTIM_F32, 0, 0, 8},
        {MO_OPTIM_ADAMW, MO_OPTIM_8BIT, 0, 0, 2.03125}, {MO_OPTIM_ADAMW, MO_OPTIM_BF16, 0, 0, 4},
        {MO_OPTIM_ADAMW, MO_OPTIM_4BIT, 0, 0, 1.0625},
        {MO_OPTIM_ADAMW, MO_OPTIM_8BIT, 0, 1, 6.03125},
        {MO_OPTIM_LION, MO_OPTIM_8BIT, 0, 0, 1.015625},
        {MO_OPTIM_ADEMAMIX, MO_OPTIM_8BIT, 0, 0, 3.046875},
        {MO_OPTIM_ADAFACTOR, MO_OPTIM_F32, 1024, 0, 4.0 / 1024 + 4.0 / 1024},
        {MO_OPTIM_ADAFACTOR, MO_OPTIM_F32, 0, 0, 4},
        {MO_OPTIM_ADAM_MINI, MO_OPTIM_8BIT, 1024, 0, 1.015625 + 4.0 / 1024}};
    for (size_t i = 0; i < n_elements(want); i++) {
        mo_optim_desc d = desc(want[i].kind, want[i].precision);
        d.columns = want[i].columns;
        d.master = want[i].master;
        assert_true((double)mo_optim_state_size(&d, n) == want[i].bytes * (double)n);
    }
}

static void shapes_and_precisions_that_do_not_fit_are_refused(void **state) {
    (void)state;
    test_rng r = {0};
    tensor t = tensor_begin(&r, desc(MO_OPTIM_ADEMAMIX, MO_OPTIM_F32), 1000);
    mo_optim_state s;
    for (int kind = 0; kind < MO_OPTIM_KIND_COUNT; kind++) {
        mo_optim_desc d = desc((mo_optim_kind)kind, MO_OPTIM_4BIT);
        assert_int_equal(mo_optim_state_init(&d, 1000, t.memory, t.size, &s),
            kind == MO_OPTIM_ADAMW ? MO_OK : MO_E_UNSUPPORTED);
        d.precision = MO_OPTIM_F32;
        d.columns = 7;
        assert_int_equal(mo_optim_state_init(&d, 1000, t.memory, t.size, &s), MO_E_INVALID);
        d.columns = 0;
        test_ok(mo_optim_state_init(&d, 0, t.memory, t.size, &s)); /* nothing to do */
        test_ok(mo_optim_step(&d, 1, t.param, t.grad, &s));
    }
    tensor_end(&t);
}

/* Kinds with the same states cannot be told apart. */
static void states_of_another_kind_are_refused(void **state) {
    (void)state;
    static const int layout[] = {0, 1, 0, 1, 2, 2, 3, 0, 1, 4, 5, 0, 0, 0};
    test_rng r = {0};
    for (int a = 0; a < MO_OPTIM_KIND_COUNT; a++) {
        tensor t = tensor_begin(&r, desc((mo_optim_kind)a, MO_OPTIM_F32), 8);
        for (int b = 0; b < MO_OPTIM_KIND_COUNT; b++) {
            const mo_optim_desc d = desc((mo_optim_kind)b, MO_OPTIM_F32);
            assert_int_equal(mo_optim_step(&d, 1, t.param, t.grad, &t.state),
                layout[a] == layout[b] ? MO_OK : MO_E_INVALID);
        }
        tensor_end(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_coding_is_copied_bit_for_bit),
        cmocka_unit_test(precisions_change_within_their_cells),
        cmocka_unit_test(states_move_to_4_bits_and_back),
        cmocka_unit_test(slices_are_copied_into_states_of_their_own),
        cmocka_unit_test(states_that_differ_in_shape_are_not_copied),
        cmocka_unit_test(bytes_per_number),
        cmocka_unit_test(shapes_and_precisions_that_do_not_fit_are_refused),
        cmocka_unit_test(states_of_another_kind_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
