/* test_training.c - mo_model_params, mo_strategy, mo_training, mo_estimate: the tensors of a model,
 * strategies as text, and plans whose lines add up. */
#include "test_util.h"

static test_log heard;

static mo_model tiny(mo_model_arch arch) {
    mo_model m = {.arch = arch,
        .layers = 4,
        .channels = 32,
        .heads = 4,
        .kv_heads = arch == MO_MODEL_LLAMA ? 2 : 0,
        .positions = 16,
        .vocab = 64};
    test_ok(mo_model_complete(&m, NULL));
    return m;
}

static const mo_parallel one_thread = {.n_threads = 1};

static mo_training run_of(mo_model_arch arch, const char *strategy) {
    static mo_log log;
    mo_training t = {.model = tiny(arch), .batch = 4, .seq = 16};
    log = test_log_begin(&heard);
    t.target.parallel = &one_thread;
    t.log = &log;
    if (mo_strategy_parse(strategy, &t.strategy, NULL, &log) != MO_OK) fail_msg("%s", heard.text);
    if (t.strategy.share > 1) t.model.share = t.strategy.share;
    return t;
}

/* ---- parameters ------------------------------------------------------------------------------ */

static void tensors_of_every_kind_have_the_numbers_that_are_counted(void **state) {
    (void)state;
    for (int i = 0; i < 16; i++) {
        mo_model m = tiny(i & 1 ? MO_MODEL_LLAMA : MO_MODEL_GPT2);
        mo_params params;
        m.untied_head = (i & 2) != 0;
        m.share = i & 4 ? 2 : 1;
        m.qkv_bias = (i & 1) && (i & 8);
        mo_params_init(&params, NULL);
        test_ok(mo_model_add_params(&m, &params));
        assert_int_equal(params.n, mo_model_n_params(&m));
        assert_int_equal(mo_params_count(&params, MO_PARAMS_ALL), mo_model_count(&m));
        mo_params_free(&params);
    }
}

static void adapters_follow_the_matrices_of_the_blocks(void **state) {
    (void)state;
    for (int arch = 0; arch < MO_MODEL_ARCH_COUNT; arch++) {
        const mo_training t = run_of((mo_model_arch)arch, "lora=3");
        const size_t n = mo_model_n_params(&t.model);
        mo_params params;
        size_t at = n;
        mo_params_init(&params, NULL);
        test_ok(mo_training_add_params(&t, &params));
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(mo_training_adapter(&t.model, i), at);
            assert_false(mo_training_trains(&t, &params, i));
            if (!mo_model_is_block_matrix(&t.model, i)) continue;
            const size_t *shape = params.items[i].shape;
            assert_int_equal(
                params.items[at].n + params.items[at + 1].n, 3 * (shape[0] + shape[1]));
            assert_true(mo_training_trains(&t, &params, at));
            at += 2;
        }
        assert_int_equal(at, params.n);
        mo_params_free(&params);
    }
}

/* ---- strategies ------------------------------------------------------------------------------ */

/* Strategies that a plan is made for; what is not said is plain. */
static const char *const strategies[] = {"none", "checkpoint=light", "checkpoint=block",
    "checkpoint=sqrt", "checkpoint=optimal", "checkpoint=optimal,offload", "act=8",
    "act=4,checkpoint=block", "accum=2", "accum=4,loss=5", "loss=chunked", "optim=8bit",
    "optim=bf16", "optim=4bit", "precision=bf16", "release", "release=exact,checkpoint=block",
    "release=tensor,optim=8bit", "release=previous,act=8", "share=2", "share=4,checkpoint=sqrt",
    "paged", "paged=60K,optim=8bit", "lora=4", "lora=2,base=nf4", "lora=2,base=int8,release",
    "lora=1,base=f16,checkpoint=block", "lora=1,base=bf16,paged", "lora=4,base=fp4,act=4"};

static void a_strategy_is_the_same_after_text_and_back(void **state) {
    (void)state;
    for (size_t i = 0; i < n_elements(strategies); i++) {
        mo_strategy s, again;
        char text[192], twice[192];
        test_ok(mo_strategy_parse(strategies[i], &s, NULL, NULL));
        test_ok(mo_strategy_check(&s, NULL));
        mo_strategy_format(&s, text, sizeof text);
        test_ok(mo_strategy_parse(text, &again, NULL, NULL));
        mo_strategy_format(&again, twice, sizeof twice);
        assert_string_equal(text, twice);
        assert_memory_equal(&s, &again, sizeof s);
    }
}

static void auto_leaves_open_what_the_rest_does_not_name(void **state) {
    (void)state;
    mo_strategy s;
    mo_strategy_text asked;
    test_ok(mo_strategy_parse("optim=8bit,auto,loss=7,distill=a/b.st", &s, &asked, NULL));
    assert_int_equal(
        asked.open, MO_STRATEGY_OPEN_CHECKPOINT | MO_STRATEGY_OPEN_ACCUM | MO_STRATEGY_OPEN_PAGED);
    assert_int_equal(asked.named, MO_STRATEGY_OPEN_OPTIM | MO_STRATEGY_OPEN_LOSS);
    assert_int_equal(asked.distill_size, 6);
    assert_memory_equal(asked.distill, "a/b.st", 6);
    assert_int_equal(s.optim, MO_OPTIM_8BIT);
    assert_int_equal(s.loss_rows, 7);
}

static void what_a_text_has_wrong_is_named(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"checkpoint=some", "checkpoint"},
        {"fast", "unknown 'fast'"}, {"accum=0", "accum=0 is not"}, {"accum=x", "accum=x is not"},
        {"act=5", "act"}, {"optim=2bit", "optim"}, {"paged=lots", "paged=lots is not a size"},
        {"base=nf4", "base=nf4 needs lora"},
        {"checkpoint=light,offload", "offload needs checkpoint=optimal"},
        {"release,accum=2", "release and accum=2"}, {"release=most", "release"},
        {"lora=2,precision=bf16", "lora and precision=bf16"}, {"lora=0", "lora=0 is not"},
        {"share=-1", "share=-1 is not"}, {"precision=f8", "precision"}};
    for (size_t i = 0; i < n_elements(cases); i++) {
        mo_strategy s;
        const mo_log log = test_log_begin(&heard);
        assert_int_equal(mo_strategy_parse(cases[i][0], &s, NULL, &log), MO_E_INVALID);
        if (heard.n != 1 || !strstr(heard.text, cases[i][1]))
            fail_msg("%s: %d lines, '%s'", cases[i][0], heard.n, heard.text);
    }
}

/* ---- plans and estimates --------------------------------------------------------------------- */

static void refused(mo_training t, const char *want) {
    mo_estimate e;
    mo_plan *plan;
    assert_int_equal(mo_training_check(&t), MO_E_INVALID);
    if (!strstr(heard.text, want)) fail_msg("'%s' has no '%s'", heard.text, want);
    assert_int_equal(mo_training_plan(&plan, &t, 0, NULL), MO_E_INVALID);
    assert_int_equal(mo_estimate_training(&e, &t, 0), MO_E_INVALID);
}

static void runs_that_cannot_be_are_refused_with_a_line(void **state) {
    (void)state;
    mo_training t = run_of(MO_MODEL_GPT2, "none");
    t.batch = 0;
    refused(t, "batch is 0");
    t = run_of(MO_MODEL_GPT2, "none");
    t.seq = 0;
    refused(t, "seq 0");
    t.seq = 17;
    refused(t, "seq is 17, but the model has 16 positions");
    t = run_of(MO_MODEL_LLAMA, "none");
    t.batch = SIZE_MAX / 64;
    refused(t, "is too large");
    t = run_of(MO_MODEL_GPT2, "accum=3");
    refused(t, "accum=3 does not divide the batch of 4");
    t = run_of(MO_MODEL_GPT2, "none");
    t.model.head_size = 0;
    refused(t, "the model is not complete");
    t = run_of(MO_MODEL_GPT2, "none");
    t.strategy.offload = 1;
    refused(t, "offload needs");
    t = run_of(MO_MODEL_GPT2, "none");
    mo_model teacher = tiny(MO_MODEL_GPT2);
    teacher.positions = 8;
    t.teacher = &teacher;
    refused(t, "the teacher has 8 positions");
    assert_int_equal(mo_training_check(NULL), MO_E_INVALID);
    assert_int_equal(mo_training_plan(NULL, &t, 0, NULL), MO_E_INVALID);
    assert_int_equal(mo_estimate_training(NULL, &t, 0), MO_E_INVALID);
    mo_estimate_free(NULL);
}

static const mo_footprint_line *line_of(const mo_estimate *e, const char *name) {
    for (size_t i = 0; i < e->sum.n; i++)
        if (strcmp(e->sum.lines[i].name, name) == 0) return &e->sum.lines[i];
    return NULL;
}

static uint64_t bytes_of(const mo_estimate *e, const char *name) {
    const mo_footprint_line *line = line_of(e, name);
    return line ? line->bytes : 0;
}

/* Lines that are not apart are the peak; what stages hold is what comes and goes. */
static void check_sums(const mo_training *t, const mo_estimate *e) {
    mo_plan *plan;
    double seconds, update_s;
    uint64_t sum = 0, live = 0;
    test_ok(mo_training_plan(&plan, t, 0, &seconds));
    const mo_plan_info info = mo_plan_describe(plan);
    mo_plan_destroy(plan);
    for (size_t i = 0; i < e->sum.n; i++)
        if (!e->sum.lines[i].apart) sum += e->sum.lines[i].bytes;
    assert_int_equal(sum, e->sum.total);
    assert_int_equal(e->sum.total, info.peak_bytes);
    assert_int_equal(e->most_bytes, info.peak_bytes);
    for (size_t i = 0; i < e->n_stages; i++) live += e->stages[i].bytes;
    const mo_footprint_line *logits = line_of(e, "logits");
    assert_int_equal(live,
        bytes_of(e, "activations") + bytes_of(e, "backward") + bytes_of(e, "released") +
            (logits->apart ? 0 : logits->bytes));
    /* slack is the gap, and the alignment of tensors in fixed blocks */
    assert_true(bytes_of(e, "slack") >= info.gap_bytes);
    assert_true(bytes_of(e, "slack") <= info.gap_bytes + 64 * 3 * 200);
    test_ok(mo_training_update_s(t, seconds, &update_s));
    assert_true(e->seconds == update_s && update_s > 0);
    assert_true(e->paged_bytes != 0 || !t->strategy.paged);
}

static void lines_of_every_strategy_add_up_to_the_peak_of_its_plan(void **state) {
    (void)state;
    for (size_t i = 0; i < 2 * n_elements(strategies); i++) {
        const mo_training t = run_of(i % 2 ? MO_MODEL_LLAMA : MO_MODEL_GPT2, strategies[i / 2]);
        mo_estimate e;
        if (mo_estimate_training(&e, &t, 0) != MO_OK)
            fail_msg("%s: %s", strategies[i / 2], heard.text);
        check_sums(&t, &e);
        assert_int_equal(e.sum.count, mo_model_count(&t.model));
        mo_estimate_free(&e);
    }
}

static void a_teacher_has_lines_of_its_own(void **state) {
    (void)state;
    mo_training t = run_of(MO_MODEL_LLAMA, "checkpoint=block");
    const mo_model teacher = tiny(MO_MODEL_GPT2);
    mo_estimate e;
    t.teacher = &teacher;
    test_ok(mo_estimate_training(&e, &t, 0));
    check_sums(&t, &e);
    assert_int_equal(bytes_of(&e, "teacher"), 4 * mo_model_count(&teacher));
    assert_true(bytes_of(&e, "teaching") > 0);
    assert_int_equal(bytes_of(&e, "rotary"), 4 * 16 * 8);
    mo_estimate_free(&e);
}

static void lines_of_a_plain_run_are_their_formulas(void **state) {
    (void)state;
    const mo_training t = run_of(MO_MODEL_GPT2, "none");
    const unsigned n = 64 * 32 + 16 * 32 + 4 * (12 * 32 * 32 + 13 * 32) + 2 * 32;
    char text[256];
    mo_estimate e;
    test_ok(mo_estimate_training(&e, &t, 0));
    assert_int_equal(e.sum.trained, n);
    assert_int_equal(bytes_of(&e, "weights"), 4 * n);
    assert_string_equal(line_of(&e, "weights")->formula,
        "4 (V h + P h + L (12 h^2 + 13 h) + 2 h = 64 x 32 + 16 x 32 + 4 x 12704 + 2 x 32)");
    assert_int_equal(bytes_of(&e, "gradients"), 4 * n);
    assert_int_equal(bytes_of(&e, "optimizer"), 8 * n);
    snprintf(text, sizeof text, "8 N_t = 8 x %u (m and v)", n);
    assert_string_equal(line_of(&e, "optimizer")->formula, text);
    assert_int_equal(bytes_of(&e, "logits"), 4 * 64 * 65);
    assert_non_null(strstr(line_of(&e, "activations")->formula, "4 T n w, 4 T = 256: 4 x 128 fc"));
    assert_int_equal(e.n_stages, 6);
    assert_string_equal(e.stages[1].name, "h.0");
    mo_estimate_free(&e);
}

static void what_a_strategy_saves_is_in_its_line(void **state) {
    (void)state;
    static const struct {
        const char *strategy, *line;
    } cases[] = {{"checkpoint=block", "activations"}, {"checkpoint=light", "activations"},
        {"act=8", "activations"}, {"accum=4", "activations"}, {"loss=5", "logits"},
        {"optim=8bit", "optimizer"}, {"paged", "optimizer"}, {"precision=bf16", "weights"},
        {"release", "gradients"}, {"share=2", "weights"}, {"lora=2", "gradients"}};
    const mo_training plain = run_of(MO_MODEL_GPT2, "none");
    mo_estimate a, b;
    test_ok(mo_estimate_training(&a, &plain, 0));
    for (size_t i = 0; i < n_elements(cases); i++) {
        const mo_training t = run_of(MO_MODEL_GPT2, cases[i].strategy);
        test_ok(mo_estimate_training(&b, &t, 0));
        if (bytes_of(&b, cases[i].line) >= bytes_of(&a, cases[i].line))
            fail_msg("%s does not save %s", cases[i].strategy, cases[i].line);
        assert_true(b.sum.total < a.sum.total);
        mo_estimate_free(&b);
    }
    mo_estimate_free(&a);
}

/* Without offload, times say how long a schedule takes, not which one is taken. */
static void one_budget_has_one_optimal_plan_whatever_was_measured(void **state) {
    (void)state;
    mo_training t = run_of(MO_MODEL_GPT2, "checkpoint=optimal");
    mo_estimate all, less, measured;
    test_ok(mo_estimate_training(&all, &t, 0));
    assert_false(all.measured);
    for (uint64_t i = 1; i < 20; i++) {
        const uint64_t budget = all.sum.total - all.sum.total * i / 100;
        memset(&t.costs, 0, sizeof t.costs);
        test_ok(mo_estimate_training(&less, &t, budget));
        assert_int_equal(less.most_bytes, less.sum.total);
        t.costs.rows = 64;
        t.costs.attention.forward = i % 2 ? 1000 : 0;
        t.costs.mlp.forward = i % 2 ? 0 : 1000;
        test_ok(mo_estimate_training(&measured, &t, budget));
        assert_true(measured.measured);
        assert_int_equal(measured.most_bytes, less.sum.total);
        assert_int_equal(measured.sum.total, less.sum.total);
        assert_true(measured.plan.cost_s >= 4000); /* each half of the blocks runs at least once */
        assert_true(measured.plan.ideal_s == 4000);
        assert_true(less.plan.cost_s < 1);
        mo_estimate_free(&less);
        mo_estimate_free(&measured);
    }
    mo_estimate_free(&all);
}

static void what_a_link_may_make_of_a_schedule_is_said(void **state) {
    (void)state;
    mo_training t = run_of(MO_MODEL_GPT2, "checkpoint=optimal,offload");
    mo_estimate all, less;
    test_ok(mo_estimate_training(&all, &t, 0));
    assert_int_equal(all.most_bytes, all.sum.total);
    const uint64_t budget = all.sum.total - all.sum.total / 10;
    test_ok(mo_estimate_training(&less, &t, budget));
    assert_true(less.sum.total <= budget);
    assert_int_equal(less.most_bytes, budget);
    assert_true(less.store_bytes > 0);
    mo_estimate_free(&less);
    t.costs.rows = 64;
    t.costs.attention.forward = t.costs.mlp.forward = 1;
    test_ok(mo_estimate_training(&less, &t, budget));
    assert_int_equal(less.most_bytes, less.sum.total);
    assert_true(less.measured);
    mo_estimate_free(&less);
    mo_estimate_free(&all);
}

static void every_allocation_that_fails_is_told_and_leaks_nothing(void **state) {
    (void)state;
    static const char *const some[] = {"checkpoint=sqrt,release", "lora=2,base=nf4,paged",
        "checkpoint=optimal,offload", "checkpoint=optimal"};
    for (size_t i = 0; i < n_elements(some); i++)
        for (int k = 0, done = 0; !done; k++) {
            mo_training t = run_of(MO_MODEL_LLAMA, some[i]);
            const mo_model teacher = tiny(MO_MODEL_GPT2);
            test_heap heap;
            const mo_allocator allocator = test_heap_begin(&heap, k);
            mo_estimate e;
            memset(&e, 7, sizeof e);
            const mo_estimate before = e;
            t.allocator = &allocator;
            if (i == 0) t.teacher = &teacher;
            if (i == 3) t.costs.rows = 64;
            const mo_status status = mo_estimate_training(&e, &t, 0);
            done = heap.n_requests <= k;
            if (done) {
                test_ok(status);
                assert_true(k > 10);
                mo_estimate_free(&e);
            } else {
                assert_int_equal(status, MO_E_NO_MEMORY);
                assert_memory_equal(&e, &before, sizeof e);
            }
            assert_int_equal(heap.live_blocks, 0);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_of_every_kind_have_the_numbers_that_are_counted),
        cmocka_unit_test(adapters_follow_the_matrices_of_the_blocks),
        cmocka_unit_test(a_strategy_is_the_same_after_text_and_back),
        cmocka_unit_test(auto_leaves_open_what_the_rest_does_not_name),
        cmocka_unit_test(what_a_text_has_wrong_is_named),
        cmocka_unit_test(runs_that_cannot_be_are_refused_with_a_line),
        cmocka_unit_test(lines_of_every_strategy_add_up_to_the_peak_of_its_plan),
        cmocka_unit_test(a_teacher_has_lines_of_its_own),
        cmocka_unit_test(lines_of_a_plain_run_are_their_formulas),
        cmocka_unit_test(what_a_strategy_saves_is_in_its_line),
        cmocka_unit_test(one_budget_has_one_optimal_plan_whatever_was_measured),
        cmocka_unit_test(what_a_link_may_make_of_a_schedule_is_said),
        cmocka_unit_test(every_allocation_that_fails_is_told_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
