/* test_suggest.c - mo_suggest: what fits, against trying everything; mo_machine_costs. */
#include "test_util.h"

#include <math.h>

static mo_training tiny(mo_model_arch arch, size_t layers, size_t channels, size_t seq) {
    mo_training t;
    memset(&t, 0, sizeof t);
    t.model.arch = arch;
    t.model.layers = layers, t.model.channels = channels, t.model.heads = 2;
    t.model.vocab = 96;
    if (arch == MO_MODEL_GPT2) t.model.positions = seq;
    test_ok(mo_model_complete(&t.model, NULL));
    t.batch = 4, t.seq = seq;
    return t;
}

static mo_suggest_desc desc_of(const mo_training *t, uint64_t budget) {
    mo_suggest_desc d;
    memset(&d, 0, sizeof d);
    d.training = *t;
    d.budget = budget;
    return d;
}

static mo_suggest_result suggest(const mo_suggest_desc *d) {
    mo_suggest_result r;
    test_ok(mo_suggest(d, &r));
    return r;
}

static uint64_t plan_bytes(const mo_training *run, const mo_strategy *s, uint64_t budget) {
    mo_training t = *run;
    mo_plan *plan;
    t.strategy = *s;
    test_ok(mo_training_plan(&plan, &t, budget, NULL));
    const uint64_t bytes = mo_plan_describe(plan).peak_bytes;
    mo_plan_destroy(plan);
    return bytes;
}

/* ---- against trying everything -------------------------------------------------------------- */

/* The smallest plan of all strategies, by loops of the test's own. */
static uint64_t brute_force(const mo_training *t, uint64_t budget, int paged) {
    static const size_t rows[] = {0, 1024, 512, 256, 128, 64, 32, 16};
    uint64_t least = UINT64_MAX;
    for (size_t accum = 1; accum <= t->batch; accum++)
        for (int optim = 0; t->batch % accum == 0 && optim < 2; optim++)
            for (size_t i = 0; i < n_elements(rows); i++)
                for (int c = 0; c < MO_STRATEGY_CHECKPOINT_COUNT; c++) {
                    mo_strategy s;
                    memset(&s, 0, sizeof s);
                    s.accum = accum, s.optim = (mo_optim_precision)optim, s.loss_rows = rows[i];
                    s.checkpoint = (mo_strategy_checkpoint)c, s.paged = paged;
                    if (rows[i] >= t->batch / accum * t->seq) continue;
                    const uint64_t bytes = plan_bytes(t, &s, budget);
                    if (bytes < least) least = bytes;
                }
    return least;
}

static mo_training random_run(test_rng *rng) {
    mo_training t = tiny((mo_model_arch)test_below(rng, 2), 1 + test_below(rng, 2),
        16 + 16 * test_below(rng, 3), 16 + 8 * test_below(rng, 4));
    t.batch = 1 + test_below(rng, 4);
    return t;
}

static void what_fits_is_within_the_budget_and_cannot_means_that_nothing_is(void **state) {
    (void)state;
    test_rng rng = test_rng_begin(__func__);
    int n_fit = 0, n_cannot = 0;
    for (int i = 0; i < 20; i++) {
        const mo_training t = random_run(&rng);
        const mo_strategy plain = {.accum = 1};
        const double share = 0.2 + 0.8 * test_uniform(&rng);
        const uint64_t budget = (uint64_t)(share * (double)plan_bytes(&t, &plain, 0));
        mo_suggest_desc d = desc_of(&t, budget);
        d.open = MO_STRATEGY_OPEN_ALL & ~MO_STRATEGY_OPEN_PAGED;
        const mo_suggest_result r = suggest(&d);
        const uint64_t least = brute_force(&t, budget, 0);
        assert_int_equal(r.fits, least <= budget);
        assert_int_equal(plan_bytes(&t, &r.best.strategy, r.best.budget), r.best.bytes);
        if (r.fits) {
            assert_true(r.best.bytes <= budget && r.missing_bytes == 0);
            n_fit++;
            continue;
        }
        n_cannot++;
        assert_int_equal(r.least.bytes, least);
        assert_int_equal(r.missing_bytes, least - budget);
        d.budget = least; /* the smallest budget that works does, and a byte less does not */
        assert_int_equal(suggest(&d).fits, 1);
        d.budget = least - 1;
        assert_int_equal(suggest(&d).fits, 0);
    }
    assert_true(n_fit >= 3 && n_cannot >= 3);
}

/* ---- what is open --------------------------------------------------------------------------- */

static void only_what_is_open_changes(void **state) {
    (void)state;
    mo_training t = tiny(MO_MODEL_GPT2, 2, 32, 32);
    t.strategy.loss_rows = 48;
    t.strategy.optim = MO_OPTIM_BF16;
    mo_suggest_desc d = desc_of(&t, 1);
    d.open = MO_STRATEGY_OPEN_ACCUM;
    mo_suggest_result r = suggest(&d);
    assert_int_equal(r.fits, 0);
    assert_int_equal(r.n_trials, 3);
    assert_int_equal(r.least.strategy.accum, 4);
    assert_int_equal(r.least.strategy.loss_rows, 48);
    assert_int_equal(r.least.strategy.optim, MO_OPTIM_BF16);
    assert_int_equal(r.least.strategy.checkpoint, MO_STRATEGY_NONE);
    d.closed = 1;
    r = suggest(&d);
    assert_int_equal(r.n_trials, 1);
    assert_int_equal(r.least.strategy.accum, 1);
}

static void without_a_budget_nothing_is_searched(void **state) {
    (void)state;
    const mo_training t = tiny(MO_MODEL_LLAMA, 1, 32, 32);
    mo_suggest_desc d = desc_of(&t, 0);
    const mo_suggest_result r = suggest(&d);
    assert_int_equal(r.n_trials, 1);
    assert_true(r.fits && r.in_time);
    assert_int_equal(r.best.strategy.checkpoint, MO_STRATEGY_LIGHT);
    assert_int_equal(r.best.strategy.loss_rows, 256);
}

static mo_strategy chosen(const mo_training *t, uint64_t budget, unsigned open) {
    mo_suggest_desc d = desc_of(t, budget);
    d.open = open;
    const mo_suggest_result r = suggest(&d);
    assert_true(r.fits && r.best.bytes <= budget);
    return r.best.strategy;
}

static uint64_t least_of(const mo_training *t, unsigned open) {
    mo_suggest_desc d = desc_of(t, 1);
    d.open = open;
    return suggest(&d).least.bytes;
}

/* Each is taken where what comes before it cannot do, and no sooner. */
static void what_changes_more_comes_last(void **state) {
    (void)state;
    const mo_training t = tiny(MO_MODEL_GPT2, 3, 64, 16);
    static const unsigned more[] = {MO_SUGGEST_OPEN_RELEASE, MO_SUGGEST_OPEN_ACT,
        MO_STRATEGY_OPEN_PRECISION, MO_STRATEGY_OPEN_PAGED, MO_SUGGEST_OPEN_LORA};
    unsigned open = MO_STRATEGY_OPEN_ALL & ~MO_STRATEGY_OPEN_PAGED;
    uint64_t before = least_of(&t, open);
    mo_strategy s = chosen(&t, before, open | MO_SUGGEST_OPEN_RELEASE | MO_SUGGEST_OPEN_LORA);
    assert_true(!s.release && !s.lora);
    for (size_t i = 0; i < n_elements(more); i++) {
        const uint64_t least = least_of(&t, open | more[i]);
        assert_true(least <= before);
        if (least == before) continue;
        s = chosen(&t, before - 1, open | more[i]);
        assert_true(i != 0 || (s.release && s.accum == 1));
        assert_true(i != 1 || s.act);
        assert_true(i != 2 || s.bf16);
        assert_true(i != 3 || s.paged);
        assert_true(i != 4 || s.lora >= 4);
    }
    assert_true(least_of(&t, open | MO_SUGGEST_OPEN_LORA) < before);
    assert_true(least_of(&t, open | MO_SUGGEST_OPEN_RELEASE) < before);
    assert_true(least_of(&t, open | MO_STRATEGY_OPEN_PRECISION) < before);
}

static void four_bits_are_asked_for(void **state) {
    (void)state;
    const mo_training t = tiny(MO_MODEL_LLAMA, 2, 64, 16);
    const uint64_t least = least_of(&t, MO_STRATEGY_OPEN_OPTIM);
    assert_true(least_of(&t, MO_STRATEGY_OPEN_OPTIM | MO_SUGGEST_OPEN_4BIT) < least);
    const mo_strategy s = chosen(&t, least - 1, MO_STRATEGY_OPEN_OPTIM | MO_SUGGEST_OPEN_4BIT);
    assert_int_equal(s.optim, MO_OPTIM_4BIT);
}

/* ---- reasons, time -------------------------------------------------------------------------- */

static void the_reasons_lead_from_plain_to_what_was_chosen(void **state) {
    (void)state;
    const mo_training t = tiny(MO_MODEL_GPT2, 2, 32, 64);
    mo_suggest_desc d = desc_of(&t, 0);
    d.budget = least_of(&t, MO_STRATEGY_OPEN_ALL & ~MO_STRATEGY_OPEN_PAGED);
    d.explain = 1;
    const mo_suggest_result r = suggest(&d);
    const mo_strategy plain = {.accum = 1};
    assert_int_equal(r.plain.bytes, plan_bytes(&t, &plain, 0));
    assert_true(r.n_steps >= 3);
    assert_int_equal(r.steps[0].bytes_before, r.plain.bytes);
    for (size_t i = 0; i + 1 < r.n_steps; i++) {
        assert_int_equal(r.steps[i].bytes_after, r.steps[i + 1].bytes_before);
        assert_true(r.steps[i].seconds_after == r.steps[i + 1].seconds_before);
    }
    assert_int_equal(r.steps[r.n_steps - 1].bytes_after, r.best.bytes);
    assert_non_null(strstr(r.steps[0].text, "loss="));
    d.explain = 0;
    assert_int_equal(suggest(&d).n_steps, 0);
    assert_int_equal(suggest(&d).n_trials, r.n_trials);
}

static void a_wish_for_time_is_met_or_said_not_to_be(void **state) {
    (void)state;
    const mo_training t = tiny(MO_MODEL_GPT2, 2, 32, 32);
    const mo_machine machine = mo_machine_typical();
    mo_suggest_desc d = desc_of(&t, 100u << 20);
    d.machine = &machine;
    d.seconds = 3600;
    mo_suggest_result r = suggest(&d);
    assert_true(r.fits && r.in_time);
    d.seconds = r.best.seconds / 2;
    r = suggest(&d);
    assert_true(r.fits && !r.in_time);
}

/* ---- fit ------------------------------------------------------------------------------------ */

static void the_largest_batch_fits_and_the_next_does_not(void **state) {
    (void)state;
    mo_training t = tiny(MO_MODEL_GPT2, 1, 32, 16);
    mo_suggest_desc d = desc_of(&t, 0);
    d.training.batch = 1;
    d.budget = 2 * least_of(&d.training, MO_STRATEGY_OPEN_ALL);
    mo_suggest_fit_result r;
    d.open = MO_STRATEGY_OPEN_ALL & ~MO_STRATEGY_OPEN_PAGED;
    test_ok(mo_suggest_fit(&d, MO_SUGGEST_BATCH, 0, &r));
    assert_true(r.n > 2 && r.at.fits && r.at.best.bytes <= d.budget);
    assert_int_equal(r.at.best.strategy.accum, 1);
    assert_true(!r.next.fits && r.next.missing_bytes > 0);
    t.batch = r.n + 1;
    assert_int_equal(
        plan_bytes(&t, &r.next.least.strategy, r.next.least.budget), r.next.least.bytes);
    const size_t n = r.n;
    test_ok(mo_suggest_fit(&d, MO_SUGGEST_BATCH, n - 1, &r));
    assert_int_equal(r.n, n - 1);
    assert_int_equal(r.next.least.bytes, 0);
    d.training.strategy.accum = 2;
    test_ok(mo_suggest_fit(&d, MO_SUGGEST_BATCH, 0, &r));
    assert_true(r.n >= 2 * n && r.n <= 2 * n + 1);
    d.budget = 1000;
    test_ok(mo_suggest_fit(&d, MO_SUGGEST_BATCH, 0, &r));
    assert_int_equal(r.n, 0);
    assert_true(!r.at.fits && r.at.missing_bytes > 0);
}

static void the_longest_sequence_takes_its_positions_along(void **state) {
    (void)state;
    const mo_training t = tiny(MO_MODEL_GPT2, 1, 32, 16);
    mo_suggest_desc d = desc_of(&t, 2 * least_of(&t, MO_STRATEGY_OPEN_ALL));
    mo_suggest_fit_result r;
    d.closed = 1;
    test_ok(mo_suggest_fit(&d, MO_SUGGEST_SEQ, 0, &r));
    d.training.seq = d.training.model.positions = r.n;
    assert_true(r.n == 0 || suggest(&d).fits);
    d.training.seq = d.training.model.positions = r.n + 1;
    assert_false(suggest(&d).fits);
    d.budget = 100u << 20;
    d.training.model.positions = 40, d.training.seq = 16;
    test_ok(mo_suggest_fit(&d, MO_SUGGEST_SEQ, 0, &r));
    assert_int_equal(r.n, 40); /* a model that has learned so many */
}

/* ---- all strategies ------------------------------------------------------------------------- */

typedef struct seen {
    const mo_training *t;
    mo_pareto_point points[2000];
    size_t n, stop_at;
    int n_optimal, n_paged;
} seen;

static int see(void *self, const mo_suggest_trial *x) {
    seen *s = self;
    if (s->n % 7 == 0) assert_int_equal(plan_bytes(s->t, &x->strategy, x->budget), x->bytes);
    s->points[s->n] = (mo_pareto_point){x->bytes, x->seconds, s->n};
    s->n_optimal += x->strategy.checkpoint == MO_STRATEGY_OPTIMAL;
    s->n_paged += x->strategy.paged;
    return ++s->n == s->stop_at;
}

static void all_strategies_have_a_frontier_that_begins_plain_and_ends_with_the_least(void **state) {
    (void)state;
    static seen s;
    mo_training t = tiny(MO_MODEL_GPT2, 2, 32, 32);
    t.batch = 2;
    mo_suggest_desc d = desc_of(&t, 0);
    memset(&s, 0, sizeof s);
    s.t = &t;
    d.open = MO_STRATEGY_OPEN_ALL & ~MO_STRATEGY_OPEN_PAGED;
    test_ok(mo_suggest_each(&d, see, &s));
    assert_true(s.n > 50 && s.n_optimal > 20 && s.n_paged == 0);
    size_t n_frontier;
    test_ok(mo_pareto_frontier(s.points, s.n, NULL, &n_frontier));
    assert_true(n_frontier > 2);
    assert_int_equal(s.points[n_frontier - 1].bytes, brute_force(&t, 1, 0));
    const size_t n = s.n;
    s.n = 0, s.stop_at = 5;
    test_ok(mo_suggest_each(&d, see, &s));
    assert_int_equal(s.n, 5);
    s.n = s.stop_at = 0;
    d.open = MO_STRATEGY_OPEN_ALL;
    test_ok(mo_suggest_each(&d, see, &s));
    assert_true(s.n > n && s.n_paged > 0);
}

/* ---- costs of a machine --------------------------------------------------------------------- */

static mo_training_costs costs_of(const mo_machine *m, const mo_training *t) {
    mo_training_costs c;
    test_ok(mo_machine_costs(m, t, &c));
    return c;
}

static double product(size_t m, size_t n, size_t k, int added) {
    const mo_machine machine = mo_machine_typical();
    return mo_machine_product_s(&machine, (double)m, (double)n, (double)k, added);
}

static void costs_follow_their_formulas(void **state) {
    (void)state;
    const mo_machine m = mo_machine_typical();
    const mo_training t = tiny(MO_MODEL_LLAMA, 2, 32, 64);
    const mo_training_costs c = costs_of(&m, &t);
    const size_t rows = 256, h = 32, f = t.model.hidden;
    assert_true(c.rows == 256);
    const double output = product(rows, h, f, 1) + 4.0 * 256 * 32 / m.items[MO_MACHINE_COPY].per_s;
    assert_true(fabs(c.mlp.output - output) < 1e-9 * output);
    const double light = 256.0 * 32 / m.items[MO_MACHINE_NORM].per_s +
        256.0 * 2 * (double)f / m.items[MO_MACHINE_GELU].per_s;
    assert_true(fabs(c.mlp.light - light) < 1e-9 * light);
    const double forward = light + product(rows, 2 * f, h, 0) + output;
    assert_true(fabs(c.mlp.forward - forward) < 1e-9 * forward);
    const double backward = product(rows, f, h, 0) + product(f, h, rows, 1) +
        product(rows, h, 2 * f, 0) + product(h, 2 * f, rows, 1) +
        256.0 * 2 * (double)f / m.items[MO_MACHINE_GELU_BACKWARD].per_s +
        256.0 * 32 / m.items[MO_MACHINE_NORM_BACKWARD].per_s;
    assert_true(fabs(c.mlp.backward - backward) < 1e-9 * backward);
    const double update = (double)mo_model_count(&t.model) *
        (1 / m.items[MO_MACHINE_UPDATE_F32].per_s + 8 / m.items[MO_MACHINE_COPY].per_s);
    assert_true(fabs(c.update - update) < 1e-9 * update);
}

static void what_saves_memory_costs_what_it_does(void **state) {
    (void)state;
    const mo_machine m = mo_machine_typical();
    mo_training t = tiny(MO_MODEL_GPT2, 2, 64, 64);
    const mo_training_costs plain = costs_of(&m, &t);
    t.strategy.loss_rows = 16;
    assert_true(costs_of(&m, &t).head.backward > plain.head.backward);
    assert_true(costs_of(&m, &t).mlp.forward == plain.mlp.forward);
    t.strategy.loss_rows = 0, t.strategy.accum = 4;
    assert_true(4 * costs_of(&m, &t).mlp.forward > plain.mlp.forward);
    t.strategy.accum = 1, t.strategy.paged = 1;
    assert_true(costs_of(&m, &t).update > plain.update);
    t.strategy.paged = 0, t.strategy.lora = 4;
    assert_true(costs_of(&m, &t).update < plain.update);
    assert_true(costs_of(&m, &t).mlp.backward < plain.mlp.backward);
    const double f32 = costs_of(&m, &t).mlp.forward;
    t.strategy.base = MO_GEMM_NF4;
    assert_true(costs_of(&m, &t).mlp.forward > f32);
}

/* ---- errors --------------------------------------------------------------------------------- */

static int go_on(void *self, const mo_suggest_trial *x) {
    (void)self, (void)x;
    return 0;
}

static void what_cannot_be_asked_is_refused(void **state) {
    (void)state;
    mo_training t = tiny(MO_MODEL_GPT2, 1, 16, 16);
    mo_suggest_desc d = desc_of(&t, 1 << 20);
    mo_suggest_result r;
    mo_suggest_fit_result fit;
    mo_training_costs c;
    assert_int_equal(mo_suggest(NULL, &r), MO_E_INVALID);
    assert_int_equal(mo_suggest(&d, NULL), MO_E_INVALID);
    assert_int_equal(mo_suggest_each(&d, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_suggest_each(NULL, go_on, NULL), MO_E_INVALID);
    assert_int_equal(mo_suggest_fit(&d, (mo_suggest_what)2, 0, &fit), MO_E_INVALID);
    assert_int_equal(mo_machine_costs(NULL, &t, &c), MO_E_INVALID);
    d.open = 1u << 20;
    assert_int_equal(mo_suggest(&d, &r), MO_E_INVALID);
    d.open = 0, d.seconds = -1;
    assert_int_equal(mo_suggest(&d, &r), MO_E_INVALID);
    test_log heard;
    const mo_log log = test_log_begin(&heard);
    d.seconds = 0, d.training.seq = 17, d.training.log = &log;
    assert_int_equal(mo_suggest(&d, &r), MO_E_INVALID);
    assert_int_equal(heard.n, 1);
    d.training.seq = 16, d.budget = 0;
    assert_int_equal(mo_suggest_fit(&d, MO_SUGGEST_BATCH, 0, &fit), MO_E_INVALID);
}

static void every_failed_allocation_is_reported_and_leaves_nothing(void **state) {
    (void)state;
    const mo_training t = tiny(MO_MODEL_GPT2, 1, 16, 16);
    mo_suggest_desc d = desc_of(&t, 1);
    mo_suggest_result r;
    test_heap heap;
    mo_status status = MO_E_NO_MEMORY;
    memset(&r, 0x5a, sizeof r);
    const mo_suggest_result before = r;
    d.open = MO_STRATEGY_OPEN_OPTIM;
    d.explain = 1;
    for (int k = 0; status != MO_OK; k += k < 40 ? 1 : 7) {
        const mo_allocator a = test_heap_begin(&heap, k);
        d.training.allocator = &a;
        status = mo_suggest(&d, &r);
        assert_int_equal(heap.live_blocks, 0);
        if (status == MO_OK) break;
        assert_int_equal(status, MO_E_NO_MEMORY);
        assert_memory_equal(&r, &before, sizeof r);
    }
    assert_int_equal(r.n_trials, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_is_within_the_budget_and_cannot_means_that_nothing_is),
        cmocka_unit_test(only_what_is_open_changes),
        cmocka_unit_test(without_a_budget_nothing_is_searched),
        cmocka_unit_test(what_changes_more_comes_last),
        cmocka_unit_test(four_bits_are_asked_for),
        cmocka_unit_test(the_reasons_lead_from_plain_to_what_was_chosen),
        cmocka_unit_test(a_wish_for_time_is_met_or_said_not_to_be),
        cmocka_unit_test(the_largest_batch_fits_and_the_next_does_not),
        cmocka_unit_test(the_longest_sequence_takes_its_positions_along),
        cmocka_unit_test(all_strategies_have_a_frontier_that_begins_plain_and_ends_with_the_least),
        cmocka_unit_test(costs_follow_their_formulas),
        cmocka_unit_test(what_saves_memory_costs_what_it_does),
        cmocka_unit_test(what_cannot_be_asked_is_refused),
        cmocka_unit_test(every_failed_allocation_is_reported_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
