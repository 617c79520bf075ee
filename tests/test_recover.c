/* test_recover.c - mo_recover: the ladder of cheaper configs, and the driver that goes down it. */
#include "test_util.h"
#include <math.h>

/* ---- the ladder ----------------------------------------------------------------------------- */

typedef struct rung {
    mo_recover_step step;
    mo_recover_config config;
    const char *text;
} rung;

static void assert_same(const mo_recover_config *a, const mo_recover_config *b) {
    assert_int_equal(a->batch, b->batch);
    assert_int_equal(a->accum, b->accum);
    assert_int_equal(a->loss_rows, b->loss_rows);
    assert_int_equal(a->recompute, b->recompute);
    assert_int_equal(a->precision, b->precision);
    assert_int_equal(a->paged, b->paged);
}

/* Every rung from config on, and then nothing. */
static void assert_ladder(
    const mo_recover_desc *desc, mo_recover_config config, const rung *rungs, size_t n) {
    mo_recover_config next;
    mo_recover_step step;
    char text[128];
    for (size_t i = 0; i < n; i++) {
        test_ok(mo_recover_next(desc, &config, &next, &step));
        assert_int_equal(step, rungs[i].step);
        assert_same(&next, &rungs[i].config);
        const size_t length = mo_recover_text(&config, &next, text, sizeof text);
        assert_int_equal(length, strlen(text));
        assert_string_equal(text, rungs[i].text);
        config = next;
    }
    next = (mo_recover_config){.batch = 99};
    test_ok(mo_recover_next(desc, &config, &next, &step));
    assert_int_equal(step, MO_RECOVER_NONE);
    assert_int_equal(next.batch, 99);
}

static void the_ladder_is_the_documented_one(void **state) {
    (void)state;
    const mo_recover_desc desc = {.steps = MO_RECOVER_ALL, .loss_rows = 64};
    const rung rungs[] = {
        {MO_RECOVER_BATCH, {4, 2, 0, 0, 0, 0}, "batch 8 x 1 -> 4 x 2"},
        {MO_RECOVER_BATCH, {2, 4, 0, 0, 0, 0}, "batch 4 x 2 -> 2 x 4"},
        {MO_RECOVER_BATCH, {1, 8, 0, 0, 0, 0}, "batch 2 x 4 -> 1 x 8"},
        {MO_RECOVER_LOSS, {1, 8, 64, 0, 0, 0}, "loss rows all -> 64"},
        {MO_RECOVER_LIGHT, {1, 8, 64, MO_RECOVER_KEEP_LIGHT, 0, 0}, "recompute none -> light"},
        {MO_RECOVER_BLOCK, {1, 8, 64, MO_RECOVER_KEEP_BLOCK, 0, 0}, "recompute light -> block"},
        {MO_RECOVER_8BIT, {1, 8, 64, MO_RECOVER_KEEP_BLOCK, MO_OPTIM_8BIT, 0},
            "states f32 -> 8bit"},
        {MO_RECOVER_4BIT, {1, 8, 64, MO_RECOVER_KEEP_BLOCK, MO_OPTIM_4BIT, 0},
            "states 8bit -> 4bit"},
        {MO_RECOVER_PAGED, {1, 8, 64, MO_RECOVER_KEEP_BLOCK, MO_OPTIM_4BIT, 1},
            "states resident -> paged"},
    };
    assert_ladder(&desc, (mo_recover_config){.batch = 8}, rungs, n_elements(rungs));
}

static void an_odd_batch_goes_to_the_next_divisor_of_the_samples(void **state) {
    (void)state;
    const mo_recover_desc desc = {.steps = MO_RECOVER_BATCH};
    const rung fifteen[] = {{MO_RECOVER_BATCH, {5, 3, 0, 0, 0, 0}, "batch 15 x 1 -> 5 x 3"},
        {MO_RECOVER_BATCH, {3, 5, 0, 0, 0, 0}, "batch 5 x 3 -> 3 x 5"},
        {MO_RECOVER_BATCH, {1, 15, 0, 0, 0, 0}, "batch 3 x 5 -> 1 x 15"}};
    const rung prime[] = {{MO_RECOVER_BATCH, {1, 7, 0, 0, 0, 0}, "batch 7 x 1 -> 1 x 7"}};
    const rung split[] = {{MO_RECOVER_BATCH, {6, 7, 0, 0, 0, 0}, "batch 7 x 6 -> 6 x 7"},
        {MO_RECOVER_BATCH, {3, 14, 0, 0, 0, 0}, "batch 6 x 7 -> 3 x 14"},
        {MO_RECOVER_BATCH, {2, 21, 0, 0, 0, 0}, "batch 3 x 14 -> 2 x 21"},
        {MO_RECOVER_BATCH, {1, 42, 0, 0, 0, 0}, "batch 2 x 21 -> 1 x 42"}};
    assert_ladder(&desc, (mo_recover_config){.batch = 15}, fifteen, n_elements(fifteen));
    assert_ladder(&desc, (mo_recover_config){.batch = 7}, prime, n_elements(prime));
    assert_ladder(&desc, (mo_recover_config){.batch = 7, .accum = 6}, split, n_elements(split));
}

static void batches_stay_above_the_smallest_allowed(void **state) {
    (void)state;
    const mo_recover_desc desc = {.steps = MO_RECOVER_BATCH, .min_batch = 4};
    const rung rungs[] = {{MO_RECOVER_BATCH, {6, 2, 0, 0, 0, 0}, "batch 12 x 1 -> 6 x 2"},
        {MO_RECOVER_BATCH, {4, 3, 0, 0, 0, 0}, "batch 6 x 2 -> 4 x 3"}};
    assert_ladder(&desc, (mo_recover_config){.batch = 12}, rungs, n_elements(rungs));
    assert_ladder(&desc, (mo_recover_config){.batch = 3}, NULL, 0);
}

static void by_default_no_step_changes_the_result(void **state) {
    (void)state;
    const rung rungs[] = {
        {MO_RECOVER_LOSS, {1, 1, 256, 0, MO_OPTIM_BF16, 0}, "loss rows 300 -> 256"},
        {MO_RECOVER_LIGHT, {1, 1, 256, MO_RECOVER_KEEP_LIGHT, MO_OPTIM_BF16, 0},
            "recompute none -> light"},
        {MO_RECOVER_BLOCK, {1, 1, 256, MO_RECOVER_KEEP_BLOCK, MO_OPTIM_BF16, 0},
            "recompute light -> block"},
        {MO_RECOVER_PAGED, {1, 1, 256, MO_RECOVER_KEEP_BLOCK, MO_OPTIM_BF16, 1},
            "states resident -> paged"},
    };
    const mo_recover_config config = {.loss_rows = 300, .precision = MO_OPTIM_BF16};
    assert_ladder(NULL, config, rungs, n_elements(rungs));
}

static void a_step_that_is_left_out_is_passed_over(void **state) {
    (void)state;
    const mo_recover_desc desc = {.steps = MO_RECOVER_BLOCK | MO_RECOVER_4BIT};
    const rung rungs[] = {
        {MO_RECOVER_BLOCK, {6, 1, 0, MO_RECOVER_KEEP_BLOCK, 0, 0}, "recompute none -> block"},
        {MO_RECOVER_4BIT, {6, 1, 0, MO_RECOVER_KEEP_BLOCK, MO_OPTIM_4BIT, 0}, "states f32 -> 4bit"},
    };
    assert_ladder(&desc, (mo_recover_config){.batch = 6}, rungs, n_elements(rungs));
    const mo_recover_desc bits = {.steps = MO_RECOVER_8BIT};
    const rung half[] = {{MO_RECOVER_8BIT, {1, 1, 0, 0, MO_OPTIM_8BIT, 0}, "states bf16 -> 8bit"}};
    assert_ladder(&bits, (mo_recover_config){.precision = MO_OPTIM_BF16}, half, 1);
    assert_ladder(&bits, (mo_recover_config){.precision = MO_OPTIM_4BIT}, NULL, 0);
}

/* What a step may change, and nothing else. */
static unsigned changed(const mo_recover_config *a, const mo_recover_config *b) {
    unsigned steps = 0;
    if (a->batch != b->batch || a->accum != b->accum) steps |= MO_RECOVER_BATCH;
    if (a->loss_rows != b->loss_rows) steps |= MO_RECOVER_LOSS;
    if (a->recompute != b->recompute)
        steps |= b->recompute == MO_RECOVER_KEEP_LIGHT ? MO_RECOVER_LIGHT : MO_RECOVER_BLOCK;
    if (a->precision != b->precision)
        steps |= b->precision == MO_OPTIM_8BIT ? MO_RECOVER_8BIT : MO_RECOVER_4BIT;
    if (a->paged != b->paged) steps |= MO_RECOVER_PAGED;
    return steps;
}

static mo_recover_config random_config(test_rng *rng) {
    return (mo_recover_config){.batch = 1 + test_below(rng, 200),
        .accum = 1 + test_below(rng, 20),
        .loss_rows = test_below(rng, 3) * test_below(rng, 400),
        .recompute = (mo_recover_recompute)test_below(rng, MO_RECOVER_KEEP_COUNT),
        .precision = (mo_optim_precision)test_below(rng, MO_OPTIM_PRECISION_COUNT),
        .paged = (int)test_below(rng, 2)};
}

static void every_ladder_ends_keeps_the_samples_and_takes_allowed_steps_alone(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("ladder");
    for (int i = 0; i < 20000; i++) {
        mo_recover_config config = random_config(&rng), next;
        const mo_recover_desc desc = {.steps = 1 + (unsigned)test_below(&rng, MO_RECOVER_ALL),
            .min_batch = test_below(&rng, 4),
            .loss_rows = test_below(&rng, 300)};
        const size_t samples = config.batch * config.accum, most = config.batch + 5;
        size_t n = 0;
        for (mo_recover_step step;; n++) {
            test_ok(mo_recover_next(&desc, &config, &next, &step));
            if (step == MO_RECOVER_NONE) break;
            assert_true(n < most);
            assert_int_equal(changed(&config, &next), step);
            assert_true(step & desc.steps);
            if (step == MO_RECOVER_BATCH)
                assert_true(next.batch < config.batch && next.batch >= desc.min_batch);
            assert_int_equal(next.batch * next.accum, samples);
            config = next;
        }
    }
}

static void what_is_no_config_is_refused_and_changes_nothing(void **state) {
    (void)state;
    const mo_recover_config good = {.batch = 2},
                            bad[] = {{.recompute = MO_RECOVER_KEEP_COUNT},
                                {.precision = MO_OPTIM_PRECISION_COUNT}};
    const mo_recover_config large = {.batch = SIZE_MAX, .accum = 2};
    const mo_recover_desc desc = {.steps = MO_RECOVER_ALL + 1};
    mo_recover_config next = {.batch = 99};
    mo_recover_step step = MO_RECOVER_ALL;
    for (size_t i = 0; i < n_elements(bad); i++)
        assert_int_equal(mo_recover_next(NULL, &bad[i], &next, &step), MO_E_INVALID);
    assert_int_equal(mo_recover_next(NULL, &large, &next, &step), MO_E_OVERFLOW);
    assert_int_equal(mo_recover_next(&desc, &good, &next, &step), MO_E_INVALID);
    assert_int_equal(mo_recover_next(NULL, NULL, &next, &step), MO_E_INVALID);
    assert_int_equal(mo_recover_next(NULL, &good, NULL, &step), MO_E_INVALID);
    assert_int_equal(next.batch, 99);
    assert_int_equal(step, MO_RECOVER_ALL);
    test_ok(mo_recover_next(NULL, &good, &next, NULL));
}

static void a_text_says_what_changes_and_fits_where_it_should(void **state) {
    (void)state;
    char text[256];
    const mo_recover_config plain = {0}, end = {2, 4, 64, MO_RECOVER_KEEP_BLOCK, MO_OPTIM_8BIT, 1};
    mo_recover_text(&plain, &end, text, sizeof text);
    assert_string_equal(text,
        "batch 1 x 1 -> 2 x 4, loss rows all -> 64, recompute none -> block, states f32 -> 8bit, "
        "states resident -> paged");
    const size_t length = mo_recover_text(NULL, &end, text, sizeof text);
    assert_string_equal(text, "batch 2 x 4, loss rows 64, recompute block, states 8bit paged");
    assert_int_equal(length, strlen(text));
    assert_int_equal(mo_recover_text(NULL, &end, NULL, 0), length);
    assert_int_equal(mo_recover_text(NULL, &end, text, 8), length);
    assert_string_equal(text, "batch 2");
    assert_int_equal(mo_recover_text(&end, &end, text, sizeof text), 0);
    assert_string_equal(text, "");
    const mo_recover_config most = {.batch = SIZE_MAX, .loss_rows = SIZE_MAX - 1},
                            least = {.accum = SIZE_MAX, .loss_rows = SIZE_MAX, .paged = 1};
    assert_true(mo_recover_text(&most, &least, NULL, 0) < 256);
}

static void three_statuses_say_that_memory_ran_out(void **state) {
    (void)state;
    for (int status = 5; status > -20; status--)
        assert_int_equal(mo_recover_is_oom((mo_status)status),
            status == MO_E_NO_MEMORY || status == MO_E_NO_SPACE || status == MO_E_NO_DEVICE_MEMORY);
}

/* ---- the driver, with calls that keep a journal ---------------------------------------------- */

/* Which call fails with what: the k-th convert, prepare or step (from 0); the others do not. */
typedef struct script {
    char journal[2000];
    size_t length;
    struct {
        char call;
        int k;
        mo_status status;
        int applied;
    } faults[8];
    int n_converts, n_prepares, n_steps;
    uint64_t bytes; /* a sample needs, by the estimate */
    test_log log;
} script;

static void note(script *s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    s->length +=
        (size_t)vsnprintf(s->journal + s->length, sizeof s->journal - s->length, format, args);
    va_end(args);
    assert_true(s->length < sizeof s->journal);
}

static mo_status fault(const script *s, char call, int k, int *applied) {
    for (size_t i = 0; i < n_elements(s->faults); i++)
        if (s->faults[i].call == call && s->faults[i].k == k) {
            if (applied) *applied = s->faults[i].applied;
            return s->faults[i].status;
        }
    return MO_OK;
}

static mo_status script_convert(
    void *self, const mo_recover_config *from, const mo_recover_config *to) {
    script *s = (script *)self;
    static const char names[] = "FEBQ"; /* by mo_optim_precision; paged in small letters */
    const int now = names[to->precision] + (to->paged ? 32 : 0);
    note(s, "%c>%c ", from ? names[from->precision] + (from->paged ? 32 : 0) : '-', now);
    return fault(s, 'c', s->n_converts++, NULL);
}
static mo_status script_prepare(void *self, const mo_recover_config *config) {
    script *s = (script *)self;
    note(s, "prepare %d ", (int)config->batch);
    return fault(s, 'p', s->n_prepares++, NULL);
}
static mo_status script_step(void *self, const mo_retry_turn *turn, int *applied) {
    script *s = (script *)self;
    assert_int_equal(*applied, 0);
    note(s, "step %d@%d ", (int)turn->step, (int)turn->first);
    return fault(s, 's', s->n_steps++, applied);
}
static void script_release(void *self) { note((script *)self, "release "); }
static uint64_t script_estimate(void *self, const mo_recover_config *config) {
    return ((script *)self)->bytes * config->batch;
}

static mo_retry_desc script_desc(script *s) {
    const mo_retry_calls calls = {
        script_convert, script_prepare, script_step, script_release, script_estimate, s};
    return (mo_retry_desc){.config = {.batch = 8}, .calls = calls, .log = test_log_begin(&s->log)};
}

static void assert_journal(script *s, const char *text) {
    assert_string_equal(s->journal, text);
    s->journal[s->length = 0] = 0;
}

static void a_run_that_never_fails_prepares_once(void **state) {
    (void)state;
    script s = {0};
    mo_retry retry;
    mo_retry_desc desc = script_desc(&s);
    desc.first_step = 5;
    test_ok(mo_retry_init(&retry, &desc));
    assert_journal(&s, "");
    for (int i = 0; i < 3; i++) test_ok(mo_retry_step(&retry));
    mo_retry_free(&retry);
    mo_retry_free(&retry);
    assert_journal(&s, "->F prepare 8 step 5@40 step 6@48 step 7@56 release ");
    assert_int_equal(retry.stats.n_steps, 3);
    assert_int_equal(retry.stats.n_attempts, 3);
    assert_int_equal(retry.stats.n_failed, 0);
    assert_int_equal(s.log.n, 0);
}

static void a_step_that_runs_out_of_memory_is_done_again_with_less(void **state) {
    (void)state;
    const mo_status oom[] = {MO_E_NO_MEMORY, MO_E_NO_SPACE, MO_E_NO_DEVICE_MEMORY};
    for (size_t i = 0; i < n_elements(oom); i++) {
        script s = {.faults = {{'s', 1, oom[i], 0}, {'p', 1, oom[i], 0}}};
        char line[200];
        mo_retry retry;
        mo_retry_desc desc = script_desc(&s);
        test_ok(mo_retry_init(&retry, &desc));
        for (int k = 0; k < 3; k++) test_ok(mo_retry_step(&retry));
        assert_journal(&s,
            "->F prepare 8 step 0@0 step 1@8 release prepare 4 release prepare 2 step 1@8 "
            "step 2@16 ");
        assert_int_equal(retry.stats.n_steps, 3);
        assert_int_equal(retry.stats.n_attempts, 5);
        assert_int_equal(retry.stats.n_failed, 2);
        assert_int_equal(retry.stats.n_rungs, 2);
        assert_int_equal(retry.stats.last, MO_RECOVER_BATCH);
        assert_int_equal(retry.config.batch, 2);
        assert_int_equal(retry.config.accum, 4);
        assert_int_equal(s.log.n, 2);
        snprintf(line, sizeof line, "step 1: %s: batch 4 x 2 -> 2 x 4", mo_status_text(oom[i]));
        assert_string_equal(s.log.text, line);
        mo_retry_free(&retry);
        assert_journal(&s, "release ");
    }
}

static void a_step_that_fails_behind_its_update_is_not_done_again(void **state) {
    (void)state;
    script s = {.faults = {{'s', 0, MO_E_NO_MEMORY, 1}, {'s', 2, MO_E_IO, 1}}};
    mo_retry retry;
    mo_retry_desc desc = script_desc(&s);
    test_ok(mo_retry_init(&retry, &desc));
    test_ok(mo_retry_step(&retry));
    test_ok(mo_retry_step(&retry));
    assert_int_equal(mo_retry_step(&retry), MO_E_IO);
    test_ok(mo_retry_step(&retry));
    assert_journal(&s, "->F prepare 8 step 0@0 release prepare 4 step 1@8 step 2@16 step 3@24 ");
    assert_int_equal(retry.stats.n_steps, 4);
    mo_retry_free(&retry);
}

static void any_other_error_passes_through_unchanged(void **state) {
    (void)state;
    for (int status = MO_E_INVALID; status >= MO_E_STATE; status--)
        for (const char *call = "cps"; *call; call++) {
            if (mo_recover_is_oom((mo_status)status)) continue;
            script s = {.faults = {{*call, 0, (mo_status)status, 0}}};
            mo_retry retry;
            mo_retry_desc desc = script_desc(&s);
            test_ok(mo_retry_init(&retry, &desc));
            assert_int_equal(mo_retry_step(&retry), status);
            assert_int_equal(retry.config.batch, 8);
            assert_int_equal(retry.stats.n_steps, 0);
            assert_int_equal(s.log.n, 0);
            test_ok(mo_retry_step(&retry));
            mo_retry_free(&retry);
            assert_journal(&s,
                *call == 'c'       ? "->F ->F prepare 8 step 0@0 release "
                    : *call == 'p' ? "->F prepare 8 release prepare 8 step 0@0 release "
                                   : "->F prepare 8 step 0@0 step 0@0 release ");
        }
}

static void states_are_converted_from_what_they_are(void **state) {
    (void)state;
    /* Into 8 bits it fails, so the states are still what they were. */
    script s = {.faults = {{'s', 1, MO_E_NO_MEMORY, 0}, {'c', 1, MO_E_NO_MEMORY, 0},
                    {'s', 3, MO_E_NO_SPACE, 0}}};
    mo_retry retry;
    mo_retry_desc desc = script_desc(&s);
    desc.ladder.steps = MO_RECOVER_8BIT | MO_RECOVER_4BIT | MO_RECOVER_PAGED;
    test_ok(mo_retry_init(&retry, &desc));
    for (int i = 0; i < 3; i++) test_ok(mo_retry_step(&retry));
    mo_retry_free(&retry);
    assert_journal(&s,
        "->F prepare 8 step 0@0 step 1@8 release F>E F>Q prepare 8 step 1@8 step 2@16 release "
        "Q>q prepare 8 step 2@16 release ");
}

static void without_convert_states_stay_as_they_are(void **state) {
    (void)state;
    script s = {.faults = {{'s', 0, MO_E_NO_MEMORY, 0}}};
    mo_retry retry;
    mo_retry_desc desc = script_desc(&s);
    desc.calls.convert = NULL;
    desc.ladder.steps = MO_RECOVER_8BIT | MO_RECOVER_4BIT | MO_RECOVER_PAGED;
    test_ok(mo_retry_init(&retry, &desc));
    assert_int_equal(mo_retry_step(&retry), MO_E_NO_MEMORY);
    assert_int_equal(retry.stats.n_rungs, 0);
    assert_string_equal(s.log.text,
        "step 0: out of host memory, and nothing is left: batch 8 x 1, loss rows all, recompute "
        "none, states f32 resident");
    /* Memory has come back. */
    test_ok(mo_retry_step(&retry));
    mo_retry_free(&retry);
    assert_journal(&s, "prepare 8 step 0@0 release prepare 8 step 0@0 release ");
}

static void attempts_are_bounded_and_go_on_where_they_ended(void **state) {
    (void)state;
    script s = {.faults = {{'p', 0, MO_E_NO_MEMORY, 0}, {'p', 1, MO_E_NO_SPACE, 0},
                    {'p', 2, MO_E_NO_MEMORY, 0}}};
    mo_retry retry;
    mo_retry_desc desc = script_desc(&s);
    desc.max_attempts = 2;
    test_ok(mo_retry_init(&retry, &desc));
    assert_int_equal(mo_retry_step(&retry), MO_E_NO_SPACE);
    assert_string_equal(s.log.text, "step 0: given up after 2 configs");
    assert_int_equal(retry.stats.n_attempts, 2);
    test_ok(mo_retry_step(&retry));
    mo_retry_free(&retry);
    assert_journal(&s,
        "->F prepare 8 release prepare 4 release prepare 2 release prepare 1 step 0@0 release ");
}

static void configs_that_cannot_fit_are_not_tried(void **state) {
    (void)state;
    script s = {.bytes = 100};
    mo_retry retry;
    mo_retry_desc desc = script_desc(&s);
    desc.budget_bytes = 250;
    test_ok(mo_retry_init(&retry, &desc));
    test_ok(mo_retry_step(&retry));
    assert_journal(&s, "->F prepare 2 step 0@0 ");
    assert_int_equal(retry.stats.n_skipped, 2);
    assert_int_equal(retry.stats.n_attempts, 1);
    assert_string_equal(
        s.log.text, "step 0: needs 400 bytes of 250 by the estimate: batch 4 x 2 -> 2 x 4");
    mo_retry_free(&retry);
}

static void configs_that_need_no_less_than_one_that_failed_are_not_tried(void **state) {
    (void)state;
    script s = {.bytes = 100, .faults = {{'s', 0, MO_E_NO_DEVICE_MEMORY, 0}}};
    mo_retry retry;
    mo_retry_desc desc = script_desc(&s);
    desc.ladder.steps = MO_RECOVER_LOSS | MO_RECOVER_LIGHT; /* the estimate sees no less */
    test_ok(mo_retry_init(&retry, &desc));
    assert_int_equal(mo_retry_step(&retry), MO_E_NO_DEVICE_MEMORY);
    assert_int_equal(retry.stats.n_skipped, 2);
    assert_int_equal(retry.stats.n_attempts, 1);
    /* What failed once may fit later. */
    test_ok(mo_retry_step(&retry));
    mo_retry_free(&retry);
    assert_journal(&s, "->F prepare 8 step 0@0 release prepare 8 step 0@0 release ");
}

static void what_is_missing_is_said_when_nothing_can_fit(void **state) {
    (void)state;
    script s = {.bytes = 100};
    mo_retry retry;
    mo_retry_desc desc = script_desc(&s);
    desc.budget_bytes = 30;
    test_ok(mo_retry_init(&retry, &desc));
    assert_int_equal(mo_retry_step(&retry), MO_E_NO_SPACE);
    assert_int_equal(retry.stats.missing_bytes, 70);
    assert_int_equal(retry.stats.n_attempts, 0);
    assert_journal(&s, "");
    assert_string_equal(s.log.text,
        "step 0: needs 100 bytes of 30 by the estimate, and nothing is left: batch 1 x 8, loss "
        "rows 256, recompute block, states f32 paged");
    s.bytes = 30;
    test_ok(mo_retry_step(&retry));
    assert_int_equal(retry.stats.missing_bytes, 0);
    mo_retry_free(&retry);
}

static void a_driver_without_its_calls_is_refused(void **state) {
    (void)state;
    script s = {0};
    mo_retry retry = {.prepared = 77};
    mo_retry_desc bad[6];
    for (size_t i = 0; i < n_elements(bad); i++) bad[i] = script_desc(&s);
    bad[0].calls.prepare = NULL;
    bad[1].calls.step = NULL;
    bad[2].calls.release = NULL;
    bad[3].ladder.steps = 1024;
    bad[4].config.recompute = MO_RECOVER_KEEP_COUNT;
    bad[5].config.precision = MO_OPTIM_PRECISION_COUNT;
    for (size_t i = 0; i < n_elements(bad); i++)
        assert_int_equal(mo_retry_init(&retry, &bad[i]), MO_E_INVALID);
    bad[0] = script_desc(&s);
    bad[0].config.accum = SIZE_MAX;
    assert_int_equal(mo_retry_init(&retry, &bad[0]), MO_E_OVERFLOW);
    assert_int_equal(mo_retry_init(&retry, NULL), MO_E_INVALID);
    assert_int_equal(mo_retry_init(NULL, &bad[0]), MO_E_INVALID);
    assert_int_equal(mo_retry_step(NULL), MO_E_INVALID);
    assert_int_equal(retry.prepared, 77);
    mo_retry_free(NULL);
    memset(&retry, 0, sizeof retry);
    mo_retry_free(&retry);
}

/* ---- the driver, training a network ---------------------------------------------------------- */

/* logits = gelu(x W1) W2^T, fitted to a fixed function of the sample's number. */
enum { IN = 6, HIDDEN = 8, VOCAB = 10, N1 = IN * HIDDEN, N2 = VOCAB * HIDDEN, SAMPLES = 12 };
enum { STEPS = 4, WORKSPACE = 160 << 10 };
static const mo_parallel serial = {.n_threads = 1}; /* it is too small for more */

typedef struct block {
    void *ptr;
    size_t size;
} block;

/* by_row: weight gradients are summed row by row, so that their bits do not depend on the cut. */
typedef struct net {
    test_heap heap;
    mo_allocator allocator;
    size_t budget;
    int by_row, fail_step;
    float params[N1 + N2], last_loss;
    mo_optim_desc adam;
    mo_optim_state states[2];
    block state_blocks[2];
    block blocks[16]; /* of the config */
    size_t n_blocks;
    float *grads, *x, *a, *h, *dh;
    int32_t *targets;
    void *workspace;
} net;

static void *net_alloc(void *self, size_t size, size_t align) {
    net *n = (net *)self;
    if (n->budget && n->heap.live_bytes + size > n->budget) return NULL;
    return test_heap_alloc(&n->heap, size, align);
}
static void net_dealloc(void *self, void *ptr, size_t size, size_t align) {
    test_heap_free(&((net *)self)->heap, ptr, size, align);
}

/* A block of the config; all are given back together. */
static void *net_take(net *n, size_t size) {
    void *ptr = mo_alloc(&n->allocator, size, 64);
    if (ptr) n->blocks[n->n_blocks++] = (block){ptr, size};
    return ptr;
}

static void net_drop(net *n) {
    const block b = n->blocks[--n->n_blocks];
    mo_free(&n->allocator, b.ptr, b.size, 64);
}

static void net_release(void *self) {
    net *n = (net *)self;
    while (n->n_blocks > 0) net_drop(n);
}

static mo_status net_prepare(void *self, const mo_recover_config *config) {
    net *n = (net *)self;
    const size_t rows = config->batch * sizeof(float);
    n->grads = (float *)net_take(n, sizeof n->params);
    n->x = (float *)net_take(n, rows * IN);
    n->a = (float *)net_take(n, rows * HIDDEN);
    n->h = (float *)net_take(n, rows * HIDDEN);
    n->dh = (float *)net_take(n, rows * HIDDEN);
    n->targets = (int32_t *)net_take(n, rows);
    n->workspace = net_take(n, WORKSPACE);
    return n->grads && n->x && n->a && n->h && n->dh && n->targets && n->workspace ? MO_OK
                                                                                   : MO_E_NO_MEMORY;
}

static const size_t state_sizes[2] = {N1, N2};

/* New states beside the old ones, which are freed at the end. */
static mo_status net_convert(
    void *self, const mo_recover_config *from, const mo_recover_config *to) {
    net *n = (net *)self;
    mo_optim_desc adam = n->adam;
    mo_optim_state states[2];
    block blocks[2] = {{0}};
    adam.precision = to->precision;
    mo_status status = MO_OK;
    for (int i = 0; i < 2 && status == MO_OK; i++) {
        const size_t size = mo_optim_state_size(&adam, state_sizes[i]);
        blocks[i] = (block){mo_alloc(&n->allocator, size, 64), size};
        if (!blocks[i].ptr) status = MO_E_NO_MEMORY;
        else status = mo_optim_state_init(&adam, state_sizes[i], blocks[i].ptr, size, &states[i]);
        if (status == MO_OK && from)
            status = mo_optim_state_copy(&states[i], &n->states[i], n->adam.seed);
    }
    block *freed = status == MO_OK ? n->state_blocks : blocks;
    for (int i = 0; i < 2; i++) mo_free(&n->allocator, freed[i].ptr, freed[i].size, 64);
    if (status != MO_OK) return status;
    n->adam = adam;
    memcpy(n->states, states, sizeof states);
    memcpy(n->state_blocks, blocks, sizeof blocks);
    return MO_OK;
}

/* x^T da onto a weight gradient: in one product, or a product for each row in their order. */
static void add_product(net *n, const mo_gemm_env *env, size_t rows) {
    const size_t k = n->by_row ? 1 : rows;
    const mo_gemm_desc d = {.m = IN, .n = HIDDEN, .k = k, .trans_a = 1, .beta = 1};
    for (size_t r = 0; r < rows; r += k)
        test_ok(mo_gemm(env, &d, n->x + r * IN, n->dh + r * HIDDEN, n->grads));
}

static void read_samples(net *n, uint64_t first, size_t rows) {
    for (size_t r = 0; r < rows; r++) {
        test_rng rng = {first + r};
        for (int i = 0; i < IN; i++) n->x[r * IN + (size_t)i] = test_normal(&rng);
        n->targets[r] = (int32_t)(n->x[r * IN] > 0 ? 3 : first + r) % VOCAB;
    }
}

static mo_status net_micro_batch(net *n, const mo_retry_turn *turn, size_t i) {
    const mo_recover_config *c = &turn->config;
    const mo_gemm_env env = {
        .parallel = &serial, .workspace = n->workspace, .workspace_size = WORKSPACE};
    const mo_gemm_desc into = {.m = c->batch, .n = HIDDEN, .k = IN};
    mo_linear_ce_desc ce = {.rows = c->batch, .channels = HIDDEN, .vocab = VOCAB};
    double loss;
    ce.chunk_rows = n->by_row ? 1 : c->loss_rows;
    ce.scale = 1.0f / (float)(c->batch * c->accum);
    ce.env = &env;
    ce.workspace_size = mo_linear_ce_workspace_size(&ce);
    ce.workspace = net_take(n, ce.workspace_size);
    if (!ce.workspace) return MO_E_NO_MEMORY;
    read_samples(n, turn->first + i * c->batch, c->batch);
    test_ok(mo_gemm(&env, &into, n->x, n->params, n->a));
    mo_gelu_forward(n->a, n->h, c->batch * HIDDEN, &serial);
    const mo_linear_ce_tensors t = {
        .x = n->h, .w = n->params + N1, .targets = n->targets, .dx = n->dh, .dw = n->grads + N1};
    test_ok(mo_linear_ce(&ce, &t, &loss));
    n->last_loss += (float)loss;
    mo_gelu_backward(n->a, n->dh, n->dh, c->batch * HIDDEN, &serial);
    add_product(n, &env, c->batch);
    net_drop(n);
    return MO_OK;
}

static mo_status net_step(void *self, const mo_retry_turn *turn, int *applied) {
    net *n = (net *)self;
    mo_status status = MO_OK;
    memset(n->grads, 0, sizeof n->params);
    n->last_loss = 0;
    for (size_t i = 0; i < turn->config.accum && status == MO_OK; i++)
        status = net_micro_batch(n, turn, i);
    if (status == MO_OK && (uint64_t)n->fail_step == turn->step + 1) {
        n->fail_step = 0;
        status = MO_E_NO_DEVICE_MEMORY;
    }
    if (status != MO_OK) return status;
    float *param = n->params, *grad = n->grads;
    for (int i = 0; i < 2; param += state_sizes[i], grad += state_sizes[i], i++)
        test_ok(mo_optim_step(&n->adam, turn->step + 1, param, grad, &n->states[i]));
    *applied = 1;
    return MO_OK;
}

static void net_begin(net *n, int by_row, int fail_at) {
    test_rng rng = {4};
    memset(n, 0, sizeof *n);
    test_heap_begin(&n->heap, fail_at);
    n->allocator = (mo_allocator){net_alloc, net_dealloc, n};
    n->by_row = by_row;
    n->adam = (mo_optim_desc){.lr = 0.05, .min_8bit_size = 1, .block = 64, .parallel = &serial};
    for (size_t i = 0; i < N1 + N2; i++) n->params[i] = 0.3f * test_normal(&rng);
}

static mo_retry_desc net_desc(net *n) {
    const mo_retry_calls calls = {net_convert, net_prepare, net_step, net_release, NULL, n};
    return (mo_retry_desc){.config = {.batch = SAMPLES},
        .ladder = {.steps = MO_RECOVER_BATCH | MO_RECOVER_LOSS, .loss_rows = 2},
        .calls = calls};
}

/* STEPS steps, and everything back. */
static mo_retry_stats net_train(net *n, const mo_retry_desc *desc) {
    mo_retry retry;
    test_ok(mo_retry_init(&retry, desc));
    for (int i = 0; i < STEPS; i++) test_ok(mo_retry_step(&retry));
    mo_retry_free(&retry);
    for (int i = 0; i < 2; i++)
        mo_free(&n->allocator, n->state_blocks[i].ptr, n->state_blocks[i].size, 64);
    assert_int_equal(n->heap.live_blocks, 0);
    assert_int_equal(n->heap.live_bytes, 0);
    assert_int_equal(retry.stats.n_steps, STEPS);
    return retry.stats;
}

static void net_undisturbed(net *n, int by_row) {
    net_begin(n, by_row, -1);
    const mo_retry_desc desc = net_desc(n);
    assert_int_equal(net_train(n, &desc).n_failed, 0);
}

static void assert_near_net(const net *a, const net *b) {
    assert_float_equal(a->last_loss, b->last_loss, 1e-4f);
    for (size_t i = 0; i < N1 + N2; i++) assert_float_equal(a->params[i], b->params[i], 1e-4f);
}

/* Sums over samples in another order: their last bits, divided by the root of a mean square. */
static void every_failing_allocation_is_recovered(int by_row) {
    net plain, n;
    net_undisturbed(&plain, by_row);
    assert_true(plain.last_loss < 2.3f && plain.last_loss > 0.1f);
    int k = 0;
    for (;; k++) {
        net_begin(&n, by_row, k);
        const mo_retry_desc desc = net_desc(&n);
        const mo_retry_stats stats = net_train(&n, &desc);
        if (stats.n_failed == 0) break;
        assert_int_equal(stats.n_failed, 1);
        assert_int_equal(stats.n_rungs, 1);
        if (by_row) assert_memory_equal(n.params, plain.params, sizeof n.params);
        else assert_near_net(&n, &plain);
    }
    assert_int_equal(k, 2 + 7 + STEPS); /* states, config, a workspace in each step */
}

static void every_failing_allocation_is_recovered_to_the_same_bits(void **state) {
    (void)state;
    every_failing_allocation_is_recovered(1);
}
static void every_failing_allocation_is_recovered_to_the_same_sums(void **state) {
    (void)state;
    every_failing_allocation_is_recovered(0);
}

/* From one micro-batch of all samples down to the last rung, wherever the limit is. */
static void a_hard_limit_is_kept_and_the_result_too(void **state) {
    (void)state;
    net plain, n;
    net_undisturbed(&plain, 0);
    mo_recover_config reached = {0};
    size_t n_refused = 0, n_recovered = 0;
    for (size_t budget = plain.heap.peak_bytes; n_refused == 0; budget -= 64) {
        net_begin(&n, 0, -1);
        n.budget = budget;
        mo_retry retry;
        const mo_retry_desc desc = net_desc(&n);
        test_ok(mo_retry_init(&retry, &desc));
        mo_status status = MO_OK;
        for (int i = 0; i < STEPS && status == MO_OK; i++) status = mo_retry_step(&retry);
        mo_retry_free(&retry);
        net_release(&n);
        assert_true(n.heap.peak_bytes <= budget);
        if (status == MO_OK) {
            assert_near_net(&n, &plain);
            reached = retry.config;
            n_recovered += retry.stats.n_rungs > 0;
        } else {
            assert_int_equal(status, MO_E_NO_MEMORY);
            n_refused++;
        }
        for (int i = 0; i < 2; i++)
            mo_free(&n.allocator, n.state_blocks[i].ptr, n.state_blocks[i].size, 64);
        assert_int_equal(n.heap.live_blocks, 0);
    }
    assert_true(n_recovered > 10);
    assert_int_equal(reached.batch, 1);
}

/* The same as switching by hand, and the states go on from what they were. */
static void states_move_to_fewer_bits_in_the_middle_of_a_run(void **state) {
    (void)state;
    static const mo_optim_precision to[] = {MO_OPTIM_8BIT, MO_OPTIM_4BIT};
    static const unsigned steps[] = {MO_RECOVER_8BIT, MO_RECOVER_4BIT};
    for (size_t i = 0; i < n_elements(to); i++) {
        net n, hand;
        net_begin(&n, 0, -1);
        n.fail_step = 3;
        mo_retry_desc desc = net_desc(&n);
        desc.ladder.steps = steps[i];
        assert_int_equal(net_train(&n, &desc).n_rungs, 1);
        net_begin(&hand, 0, -1);
        mo_retry_turn turn = {.config = {.batch = SAMPLES, .accum = 1}};
        mo_recover_config f32 = turn.config, low = turn.config;
        low.precision = to[i];
        test_ok(net_convert(&hand, NULL, &f32));
        test_ok(net_prepare(&hand, &f32));
        for (turn.step = 0; turn.step < STEPS; turn.step++) {
            int applied = 0;
            if (turn.step == 2) test_ok(net_convert(&hand, &f32, &low));
            turn.first = turn.step * SAMPLES;
            test_ok(net_step(&hand, &turn, &applied));
        }
        assert_memory_equal(n.params, hand.params, sizeof n.params);
        net_release(&hand);
        for (int k = 0; k < 2; k++)
            mo_free(&hand.allocator, hand.state_blocks[k].ptr, hand.state_blocks[k].size, 64);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_ladder_is_the_documented_one),
        cmocka_unit_test(an_odd_batch_goes_to_the_next_divisor_of_the_samples),
        cmocka_unit_test(batches_stay_above_the_smallest_allowed),
        cmocka_unit_test(by_default_no_step_changes_the_result),
        cmocka_unit_test(a_step_that_is_left_out_is_passed_over),
        cmocka_unit_test(every_ladder_ends_keeps_the_samples_and_takes_allowed_steps_alone),
        cmocka_unit_test(what_is_no_config_is_refused_and_changes_nothing),
        cmocka_unit_test(a_text_says_what_changes_and_fits_where_it_should),
        cmocka_unit_test(three_statuses_say_that_memory_ran_out),
        cmocka_unit_test(a_run_that_never_fails_prepares_once),
        cmocka_unit_test(a_step_that_runs_out_of_memory_is_done_again_with_less),
        cmocka_unit_test(a_step_that_fails_behind_its_update_is_not_done_again),
        cmocka_unit_test(any_other_error_passes_through_unchanged),
        cmocka_unit_test(states_are_converted_from_what_they_are),
        cmocka_unit_test(without_convert_states_stay_as_they_are),
        cmocka_unit_test(attempts_are_bounded_and_go_on_where_they_ended),
        cmocka_unit_test(configs_that_cannot_fit_are_not_tried),
        cmocka_unit_test(configs_that_need_no_less_than_one_that_failed_are_not_tried),
        cmocka_unit_test(what_is_missing_is_said_when_nothing_can_fit),
        cmocka_unit_test(a_driver_without_its_calls_is_refused),
        cmocka_unit_test(every_failing_allocation_is_recovered_to_the_same_bits),
        cmocka_unit_test(every_failing_allocation_is_recovered_to_the_same_sums),
        cmocka_unit_test(a_hard_limit_is_kept_and_the_result_too),
        cmocka_unit_test(states_move_to_fewer_bits_in_the_middle_of_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
