/* test_plan.c - mo_plan: schedule, lifetimes and offsets together, run by a simulated network. */
#include "test_util.h"

enum { MAX_STAGES = 9, MAX_TENSORS = 8, MAX_OPS = 128, MAX_VALUES = 4 + MAX_TENSORS };

typedef struct network {
    mo_chain chain;
    mo_stage stages[MAX_STAGES];
    mo_stage_tensor tensors[MAX_STAGES][MAX_TENSORS];
} network;

/* ---- a network by chance ------------------------------------------------------------------- */

static void random_range(test_rng *rng, unsigned steps, unsigned *first, unsigned *last) {
    *first = (unsigned)test_below(rng, steps);
    *last = *first + (unsigned)test_below(rng, steps - *first);
}

static size_t random_size(test_rng *rng) {
    static const size_t steps[] = {1, 8, 64};
    return test_below(rng, 8) ? steps[test_below(rng, 3)] * test_below(rng, 30) : 0;
}

static void random_stage(test_rng *rng, mo_stage *stage, mo_stage_tensor *tensors, int is_loss) {
    unsigned forward = (unsigned)test_below(rng, 5), backward = (unsigned)test_below(rng, 5);
    unsigned n_forward = forward ? forward : 1, n_backward = backward ? backward : 1;
    memset(stage, 0, sizeof *stage);
    stage->name = test_below(rng, 4) ? "block" : NULL;
    stage->output_size = random_size(rng);
    stage->forward_steps = forward;
    stage->backward_steps = backward;
    stage->output_first = (unsigned)test_below(rng, n_forward);
    stage->gradient_first = (unsigned)test_below(rng, is_loss ? n_forward : n_backward);
    stage->tensors = tensors;
    stage->n_tensors = test_below(rng, MAX_TENSORS + 1);
    stage->forward_s = 1 + test_uniform(rng);
    stage->backward_s = 2 + test_uniform(rng);
    stage->light_s = stage->output_s = 0.25;
    for (size_t i = 0; i < stage->n_tensors; i++) {
        memset(&tensors[i], 0, sizeof tensors[i]);
        tensors[i].name = test_below(rng, 4) ? "tensor" : NULL;
        tensors[i].size = random_size(rng);
        tensors[i].role = (mo_tensor_role)test_below(rng, is_loss ? 3 : 4);
        tensors[i].category = (mo_category)test_below(rng, MO_CATEGORY_COUNT);
        random_range(rng, n_forward, &tensors[i].forward_first, &tensors[i].forward_last);
        random_range(rng, n_backward, &tensors[i].backward_first, &tensors[i].backward_last);
    }
}

static void random_network(test_rng *rng, network *net) {
    size_t n = 1 + test_below(rng, MAX_STAGES);
    for (size_t i = 0; i < n; i++) random_stage(rng, &net->stages[i], net->tensors[i], i + 1 == n);
    net->chain.input_size = random_size(rng);
    net->chain.stages = net->stages;
    net->chain.n_stages = n;
}

static int keeps(const mo_stage *stage, int light) {
    for (size_t i = 0; i < stage->n_tensors; i++) {
        mo_tensor_role role = stage->tensors[i].role;
        if (stage->tensors[i].size && role <= (light ? MO_TENSOR_SAVED : MO_TENSOR_CHEAP)) return 1;
    }
    return 0;
}

static size_t add_op(mo_remat_op *ops, size_t n, mo_step_op op, size_t stage, int save, int light) {
    mo_remat_op entry = {op, stage, save, light};
    ops[n] = entry;
    return n + 1;
}

/* Each stage saves at once or later, at either level; now and then a stage runs again for
 * nothing. */
static size_t random_schedule(test_rng *rng, const mo_chain *chain, mo_remat_op *ops) {
    size_t n = 0, last = chain->n_stages - 1;
    int light[MAX_STAGES], is_saved[MAX_STAGES];
    for (size_t i = 0; i < last; i++) {
        light[i] = (int)test_below(rng, 2);
        is_saved[i] = (int)test_below(rng, 2);
        n = add_op(ops, n, MO_STEP_FORWARD, i, is_saved[i], light[i]);
        if (test_below(rng, 4) == 0)
            n = add_op(ops, n, MO_STEP_RECOMPUTE, test_below(rng, i + 1), 0, 0);
    }
    n = add_op(ops, n, MO_STEP_LOSS, last, 0, 0);
    for (size_t i = last; i > 0; i--) {
        for (size_t extra = test_below(rng, 3); extra > 0; extra--)
            n = add_op(ops, n, MO_STEP_RECOMPUTE, test_below(rng, i), 0, 0);
        if (!is_saved[i - 1] && keeps(&chain->stages[i - 1], light[i - 1]))
            n = add_op(ops, n, MO_STEP_RECOMPUTE, i - 1, 1, light[i - 1]);
        n = add_op(ops, n, MO_STEP_BACKWARD, i - 1, 0, light[i - 1]);
    }
    return n;
}

/* ---- the simulated network ----------------------------------------------------------------- */

/* A value in one op: bytes that only it has, written at sub-step first unless an earlier op did,
 * and unharmed in every sub-step until last. */
typedef struct value {
    unsigned char *at;
    size_t size;
    unsigned number;
    unsigned first, last;
    int is_written;
} value;

static unsigned char value_byte(unsigned number, size_t i) {
    return (unsigned char)(number * 151 + i * 7 + (i >> 8) * 13 + (number >> 8));
}

static void write_value(const value *v) {
    for (size_t i = 0; i < v->size; i++) v->at[i] = value_byte(v->number, i);
}

static void check_value(const value *v) {
    for (size_t i = 0; i < v->size; i++)
        if (v->at[i] != value_byte(v->number, i)) fail_msg("value %u: byte %zu", v->number, i);
}

static void run_values(value *values, size_t n, unsigned steps) {
    for (unsigned u = 0; u < steps; u++) {
        for (size_t i = 0; i < n; i++)
            if (values[i].first == u && !values[i].is_written) write_value(&values[i]);
        for (size_t i = 0; i < n; i++)
            if (values[i].first <= u && u <= values[i].last) check_value(&values[i]);
    }
}

static size_t add_value(value *values, size_t n, const void *at, size_t size, unsigned number,
    unsigned first, unsigned last, int is_written) {
    value v = {(unsigned char *)(uintptr_t)at, size, number, first, last, is_written};
    if (size == 0 || !at) assert_null(at);
    assert_int_equal((uintptr_t)at % 64, 0);
    if (!at) return n;
    values[n] = v;
    return n + 1;
}

enum { NUMBER_X = 0, NUMBER_DX = 100, NUMBER_TENSOR = 200 };

/* Where tensor i of a stage must be usable in this op: 0 = nowhere. */
static int tensor_range(const mo_step *step, const mo_stage_tensor *t, unsigned steps,
    unsigned *first, unsigned *last, int *is_written) {
    int kept = t->role == MO_TENSOR_SAVED || (t->role == MO_TENSOR_CHEAP && !step->light);
    int is_backward = step->op == MO_STEP_BACKWARD;
    if (t->size == 0 || t->role == (is_backward ? MO_TENSOR_FORWARD : MO_TENSOR_BACKWARD)) return 0;
    *is_written = is_backward && kept;
    *first = is_backward ? (kept ? 0 : t->backward_first) : t->forward_first;
    *last = is_backward ? t->backward_last : t->forward_last;
    if (step->save && kept) *last = steps - 1;
    return 1;
}

static size_t tensor_values(
    const mo_stage *stage, const mo_step *step, unsigned steps, value *values) {
    size_t n = 0;
    for (size_t i = 0; i < stage->n_tensors; i++) {
        unsigned first = 0, last = 0, number = (unsigned)(NUMBER_TENSOR + step->stage * 100 + i);
        int is_written = 0;
        if (!tensor_range(step, &stage->tensors[i], steps, &first, &last, &is_written)) {
            assert_null(step->tensors[i]);
            continue;
        }
        assert_non_null(step->tensors[i]);
        n = add_value(
            values, n, step->tensors[i], stage->tensors[i].size, number, first, last, is_written);
    }
    return n;
}

static void run_step(const mo_chain *chain, const mo_step *step, int is_first) {
    const mo_stage *stage = &chain->stages[step->stage];
    int is_backward = step->op == MO_STEP_BACKWARD, is_last = step->stage + 1 == chain->n_stages;
    unsigned steps = is_backward ? stage->backward_steps : stage->forward_steps;
    unsigned last = steps ? steps - 1 : 0, s = (unsigned)step->stage;
    size_t x_size = s ? chain->stages[s - 1].output_size : chain->input_size;
    value values[MAX_VALUES];
    size_t n = tensor_values(stage, step, last + 1, values);
    if (x_size) assert_non_null(step->x);
    n = add_value(values, n, step->x, x_size, NUMBER_X + s, 0, last, 1);
    if (is_first && step->x) write_value(&values[n - 1]);
    if (step->op == MO_STEP_LOSS || is_last)
        assert_int_equal(step->y != NULL, stage->output_size > 0);
    n = add_value(
        values, n, step->y, stage->output_size, NUMBER_X + s + 1, stage->output_first, last, 0);
    if (is_backward) assert_int_equal(step->dy != NULL, stage->output_size > 0);
    else assert_null(step->dy);
    n = add_value(values, n, step->dy, stage->output_size, NUMBER_DX + s + 1, 0, last, 1);
    if (step->op >= MO_STEP_LOSS) assert_int_equal(step->dx != NULL, x_size > 0);
    else assert_null(step->dx);
    n = add_value(values, n, step->dx, x_size, NUMBER_DX + s, stage->gradient_first, last, 0);
    run_values(values, n, last + 1);
}

static void run_plan(mo_plan *plan, const mo_chain *chain, size_t n_steps) {
    mo_step step;
    size_t n = 0;
    mo_plan_begin(plan);
    for (; mo_plan_next(plan, &step); n++) run_step(chain, &step, n == 0);
    assert_int_equal(n, n_steps);
    assert_int_equal(mo_plan_next(plan, &step), 0);
}

/* ---- plan, run, compare -------------------------------------------------------------------- */

static void check_info(const mo_plan_info *info) {
    size_t sum = 0;
    for (int i = 0; i < MO_CATEGORY_COUNT; i++) sum += info->bytes[i];
    assert_int_equal(sum, info->live_bytes);
    assert_int_equal(sum + info->gap_bytes, info->peak_bytes);
    assert_true(info->lower_bound <= info->peak_bytes);
    assert_true(info->live_bytes <= info->peak_bytes && info->fixed_bytes <= info->peak_bytes);
    assert_int_equal(info->proved, info->lower_bound == info->peak_bytes);
    assert_true(info->peak_step < info->n_steps);
}

static void check_track(const mo_track *track, const mo_plan_info *info, size_t fixed_size) {
    mo_track_stats stats;
    mo_track_get_stats(track, &stats);
    assert_int_equal(stats.total.current_bytes, fixed_size);
    assert_int_equal(stats.total.peak_bytes, info->live_bytes);
    for (int i = 0; i < MO_CATEGORY_COUNT; i++)
        assert_int_equal(stats.at_peak_bytes[i], info->bytes[i]);
}

/* Plan, run twice, and compare what was measured with what was planned. */
static mo_plan_info run_desc(const mo_plan_desc *desc) {
    mo_plan *plan;
    mo_arena arena;
    mo_track track;
    mo_arena_stats stats;
    mo_track_stats after;
    mo_arena_desc arena_desc = {0};
    size_t fixed_size = 0;
    test_ok(mo_plan_create(&plan, desc));
    mo_plan_info info = mo_plan_describe(plan);
    check_info(&info);
    arena_desc.limit = info.peak_bytes ? info.peak_bytes : 1;
    test_ok(mo_arena_init(&arena, &arena_desc));
    test_ok(mo_track_init(&track, NULL));
    test_ok(mo_plan_bind(plan, &arena, &track));
    for (size_t i = 0; i < desc->n_fixed; i++) {
        fixed_size += desc->fixed[i].size;
        assert_int_equal(mo_plan_fixed_address(plan, i) != NULL, desc->fixed[i].size > 0);
        if (desc->fixed[i].size) memset(mo_plan_fixed_address(plan, i), 7, desc->fixed[i].size);
    }
    run_plan(plan, desc->chain, info.n_steps);
    mo_arena_get_stats(&arena, &stats);
    assert_int_equal(stats.peak_bytes, info.peak_bytes);
    run_plan(plan, desc->chain, info.n_steps);
    mo_arena_get_stats(&arena, &stats);
    assert_int_equal(stats.peak_bytes, info.peak_bytes);
    check_track(&track, &info, fixed_size);
    for (size_t i = 0; i < desc->n_fixed; i++)
        for (size_t j = 0; j < desc->fixed[i].size; j++)
            assert_int_equal(((unsigned char *)mo_plan_fixed_address(plan, i))[j], 7);
    mo_plan_unbind(plan);
    mo_track_get_stats(&track, &after);
    assert_int_equal(after.total.current_bytes, 0);
    mo_track_free(&track);
    mo_plan_destroy(plan);
    mo_arena_free(&arena);
    return info;
}

/* ---- examples ------------------------------------------------------------------------------ */

/* Blocks of input and output 64, saved 256, cheap 128, and a loss with a workspace of 512. */
static void make_blocks(network *net, size_t n_blocks) {
    static const mo_stage_tensor block[] = {
        {"saved", 256, MO_TENSOR_SAVED, MO_CATEGORY_OTHER, 0, 0, 0, 0},
        {"cheap", 128, MO_TENSOR_CHEAP, MO_CATEGORY_OTHER, 0, 0, 0, 0}};
    static const mo_stage_tensor loss[] = {
        {"logits", 512, MO_TENSOR_FORWARD, MO_CATEGORY_OTHER, 0, 0, 0, 0}};
    memset(net, 0, sizeof *net);
    for (size_t i = 0; i < n_blocks; i++) {
        net->stages[i].name = "block";
        net->stages[i].output_size = 64;
        net->stages[i].tensors = block;
        net->stages[i].n_tensors = n_elements(block);
        net->stages[i].forward_s = net->stages[i].backward_s = 1;
        net->stages[i].light_s = 0.25;
    }
    net->stages[n_blocks].name = "loss";
    net->stages[n_blocks].tensors = loss;
    net->stages[n_blocks].n_tensors = n_elements(loss);
    net->chain.stages = net->stages;
    net->chain.n_stages = n_blocks + 1;
}

static mo_plan_info info_of(const network *net, mo_remat_policy policy) {
    mo_plan_desc desc = {0};
    desc.chain = &net->chain;
    desc.remat.policy = policy;
    return run_desc(&desc);
}

static void peaks_by_hand(void **state) {
    (void)state;
    network net;
    make_blocks(&net, 3);
    /* At the loss: three outputs, dx, three saved and three cheap tensors, the logits. */
    mo_plan_info info = info_of(&net, MO_REMAT_NONE);
    assert_int_equal(info.peak_bytes, 4 * 64 + 3 * (256 + 128) + 512);
    assert_int_equal(info.peak_step, 3);
    assert_int_equal(info.bytes[MO_CATEGORY_ACTIVATION], 4 * 64 + 3 * (256 + 128));
    assert_int_equal(info.bytes[MO_CATEGORY_WORKSPACE], 512);
    assert_int_equal(info.gap_bytes, 0);
    assert_true(info.proved);
    assert_true(info.cost_s == 6 && info.ideal_s == 6);
    info = info_of(&net, MO_REMAT_LIGHT);
    assert_int_equal(info.peak_bytes, 4 * 64 + 3 * 256 + 512);
    assert_true(info.cost_s == 6.75);
    /* Still the loss, with nothing but the outputs. */
    info = info_of(&net, MO_REMAT_BLOCK);
    assert_int_equal(info.peak_bytes, 4 * 64 + 512);
    assert_true(info.cost_s == 9.75);
    /* A block's tensors, its input and its output. */
    info = info_of(&net, MO_REMAT_INFERENCE);
    assert_int_equal(info.peak_bytes, 64 + 512);
    assert_true(info.cost_s == 3 && info.ideal_s == 3);
}

static void an_output_that_nobody_reads_has_no_address(void **state) {
    (void)state;
    network net;
    mo_plan *plan;
    mo_plan_desc desc = {0};
    mo_step step;
    mo_arena arena;
    make_blocks(&net, 4);
    desc.chain = &net.chain;
    desc.remat.policy = MO_REMAT_SQRT;
    desc.remat.n_segments = 2;
    test_ok(mo_plan_create(&plan, &desc));
    test_ok(mo_arena_init(&arena, NULL));
    test_ok(mo_plan_bind(plan, &arena, NULL));
    while (mo_plan_next(plan, &step)) {
        if (step.op == MO_STEP_FORWARD) assert_non_null(step.y);
        if (step.op == MO_STEP_RECOMPUTE) assert_int_equal(step.y != NULL, step.stage == 0);
        if (step.op == MO_STEP_LOSS) assert_null(step.y);
        if (step.op == MO_STEP_BACKWARD) assert_int_equal(step.dx != NULL, step.stage != 0);
        if (step.stage == 0) assert_null(step.x);
    }
    mo_plan_destroy(plan);
    mo_arena_free(&arena);
}

static void fixed_blocks_come_first_in_order(void **state) {
    (void)state;
    static const mo_plan_fixed fixed[] = {{"weights", 100, MO_CATEGORY_PARAM},
        {"none", 0, MO_CATEGORY_OTHER}, {"grads", 100, MO_CATEGORY_GRAD}};
    network net;
    mo_plan *plan;
    mo_plan_desc desc = {0};
    mo_arena arena;
    make_blocks(&net, 1);
    desc.chain = &net.chain;
    desc.fixed = fixed;
    desc.n_fixed = n_elements(fixed);
    test_ok(mo_plan_create(&plan, &desc));
    assert_int_equal(mo_plan_describe(plan).fixed_bytes, 228);
    assert_int_equal(mo_plan_describe(plan).peak_bytes, 256 + 2 * 64 + 256 + 128 + 512);
    assert_int_equal(mo_plan_describe(plan).bytes[MO_CATEGORY_PARAM], 100);
    assert_int_equal(mo_plan_describe(plan).gap_bytes, 28 + 28);
    assert_null(mo_plan_fixed_address(plan, 0));
    test_ok(mo_arena_init(&arena, NULL));
    test_ok(mo_plan_bind(plan, &arena, NULL));
    char *weights = mo_plan_fixed_address(plan, 0), *grads = mo_plan_fixed_address(plan, 2);
    assert_ptr_equal(weights, mo_arena_at(&arena, 0, 0));
    assert_int_equal(grads - weights, 128);
    assert_null(mo_plan_fixed_address(plan, 1));
    assert_null(mo_plan_fixed_address(plan, 3));
    mo_plan_destroy(plan);
    mo_arena_free(&arena);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void every_policy_runs_and_measures_what_it_planned(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("every_policy_runs_and_measures_what_it_planned");
    for (int round = 0; round < 300; round++) {
        network net;
        mo_plan_fixed fixed[3] = {{"a", random_size(&rng), MO_CATEGORY_PARAM},
            {NULL, random_size(&rng), MO_CATEGORY_GRAD},
            {"c", random_size(&rng), MO_CATEGORY_PARAM}};
        mo_plan_desc desc = {0};
        random_network(&rng, &net);
        desc.chain = &net.chain;
        desc.fixed = fixed;
        desc.n_fixed = test_below(&rng, 4);
        desc.align = test_below(&rng, 3) ? 0 : 256;
        desc.remat.keep_cheap = (int)test_below(&rng, 2);
        desc.remat.n_segments = test_below(&rng, 6);
        for (int policy = MO_REMAT_NONE; policy <= MO_REMAT_INFERENCE; policy++) {
            desc.remat.policy = (mo_remat_policy)policy;
            run_desc(&desc);
        }
    }
}

static void schedules_by_hand_run_and_measure_what_they_planned(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("schedules_by_hand_run_and_measure_what_they_planned");
    for (int round = 0; round < 1000; round++) {
        network net;
        mo_remat_op ops[MAX_OPS];
        mo_plan_desc desc = {0};
        random_network(&rng, &net);
        desc.chain = &net.chain;
        desc.ops = ops;
        desc.n_ops = random_schedule(&rng, &net.chain, ops);
        mo_plan_info info = run_desc(&desc);
        assert_int_equal(info.n_steps, desc.n_ops);
        assert_true(info.cost_s == mo_remat_cost(&net.chain, ops, desc.n_ops));
    }
}

static size_t peak_of_segments(const mo_chain *chain, size_t n_segments) {
    mo_plan *plan;
    mo_plan_desc desc = {0};
    desc.chain = chain;
    desc.remat.policy = MO_REMAT_SQRT;
    desc.remat.n_segments = n_segments;
    test_ok(mo_plan_create(&plan, &desc));
    size_t peak = mo_plan_describe(plan).peak_bytes;
    mo_plan_destroy(plan);
    return peak;
}

/* The estimate leaves out gaps and adds up what a whole op has live, so it may miss the best. */
static void the_estimated_number_of_segments_is_close_to_the_best(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("the_estimated_number_of_segments_is_close_to_the_best");
    double sum = 0;
    const int n_rounds = 200;
    for (int round = 0; round < n_rounds; round++) {
        network net;
        size_t best = SIZE_MAX;
        random_network(&rng, &net);
        for (size_t n = 1; n < MAX_STAGES; n++) {
            size_t peak = peak_of_segments(&net.chain, n);
            if (peak < best) best = peak;
        }
        sum += best ? (double)peak_of_segments(&net.chain, 0) / (double)best : 1;
    }
    print_message("peak over best peak: %.3f on average\n", sum / n_rounds);
    assert_true(sum / n_rounds < 1.05);
}

/* ---- states and errors --------------------------------------------------------------------- */

static void a_run_may_stop_early_and_begin_again(void **state) {
    (void)state;
    network net;
    mo_plan *plan;
    mo_plan_desc desc = {0};
    mo_arena arena;
    mo_track track;
    mo_track_stats stats;
    mo_step step;
    make_blocks(&net, 3);
    desc.chain = &net.chain;
    test_ok(mo_plan_create(&plan, &desc));
    test_ok(mo_arena_init(&arena, NULL));
    test_ok(mo_track_init(&track, NULL));
    test_ok(mo_plan_bind(plan, &arena, &track));
    for (int i = 0; i < 4; i++) assert_int_equal(mo_plan_next(plan, &step), 1);
    mo_plan_begin(plan);
    mo_track_get_stats(&track, &stats);
    assert_int_equal(stats.total.current_bytes, 0);
    run_plan(plan, &net.chain, 7);
    mo_plan_next(plan, &step);
    mo_plan_begin(plan);
    mo_plan_next(plan, &step);
    mo_plan_unbind(plan);
    mo_plan_unbind(plan);
    mo_track_get_stats(&track, &stats);
    assert_int_equal(stats.total.current_bytes, 0);
    assert_int_equal(stats.total.n_current, 0);
    assert_int_equal(mo_plan_next(plan, &step), 0);
    mo_arena_reset(&arena);
    test_ok(mo_plan_bind(plan, &arena, NULL));
    run_plan(plan, &net.chain, 7);
    mo_track_free(&track);
    mo_plan_destroy(plan);
    mo_arena_free(&arena);
}

static void bind_reports_what_does_not_fit(void **state) {
    (void)state;
    static const mo_plan_fixed fixed[] = {
        {"weights", 128, MO_CATEGORY_PARAM}, {"grads", 128, MO_CATEGORY_GRAD}};
    network net;
    mo_plan *plan;
    mo_plan_desc desc = {0};
    mo_arena arena;
    mo_arena_desc arena_desc = {0};
    mo_track track;
    mo_track_desc track_desc = {0};
    mo_track_stats stats;
    static char block[8192];
    make_blocks(&net, 3);
    desc.chain = &net.chain;
    desc.fixed = fixed;
    desc.n_fixed = 2;
    test_ok(mo_plan_create(&plan, &desc));
    assert_int_equal(mo_plan_bind(plan, NULL, NULL), MO_E_INVALID);
    arena_desc.limit = mo_plan_describe(plan).peak_bytes - 1;
    test_ok(mo_arena_init(&arena, &arena_desc));
    assert_int_equal(mo_plan_bind(plan, &arena, NULL), MO_E_NO_SPACE);
    mo_arena_free(&arena);

    arena_desc.limit = 0;
    arena_desc.block = (void *)(((uintptr_t)block + 127) / 64 * 64 + 8);
    arena_desc.size = 8000;
    test_ok(mo_arena_init(&arena, &arena_desc));
    assert_int_equal(mo_plan_bind(plan, &arena, NULL), MO_E_INVALID);
    mo_arena_free(&arena);

    test_ok(mo_arena_init(&arena, NULL));
    assert_non_null(mo_arena_alloc(&arena, 1, 1));
    assert_int_equal(mo_plan_bind(plan, &arena, NULL), MO_E_STATE);
    mo_arena_reset(&arena);
    track_desc.budget_bytes = 200; /* the first block only */
    test_ok(mo_track_init(&track, &track_desc));
    assert_int_equal(mo_plan_bind(plan, &arena, &track), MO_E_NO_SPACE);
    mo_track_get_stats(&track, &stats);
    assert_int_equal(stats.total.current_bytes, 0);
    mo_track_free(&track);
    assert_null(mo_plan_fixed_address(plan, 0));
    test_ok(mo_plan_bind(plan, &arena, NULL));
    assert_int_equal(mo_plan_bind(plan, &arena, NULL), MO_E_STATE);
    mo_plan_destroy(plan);
    mo_arena_free(&arena);
}

static void create_names_what_is_wrong(void **state) {
    (void)state;
    network net;
    mo_plan *plan = NULL;
    mo_plan_desc desc = {0};
    test_log text;
    mo_log log = test_log_begin(&text);
    const mo_remat_op ops[] = {{MO_STEP_LOSS, 1, 0, 0}};
    mo_plan_fixed fixed = {"weights", 1, (mo_category)77};
    make_blocks(&net, 1);
    assert_int_equal(mo_plan_create(&plan, NULL), MO_E_INVALID);
    desc.log = &log;
    assert_int_equal(mo_plan_create(&plan, &desc), MO_E_INVALID);
    assert_string_equal(text.text, "chain: no stages");
    desc.chain = &net.chain;
    assert_int_equal(mo_plan_create(NULL, &desc), MO_E_INVALID);
    desc.align = 48;
    assert_int_equal(mo_plan_create(&plan, &desc), MO_E_INVALID);
    assert_string_equal(text.text, "plan: alignment 48 is no power of two");
    desc.align = 0;
    desc.remat.policy = (mo_remat_policy)55;
    assert_int_equal(mo_plan_create(&plan, &desc), MO_E_INVALID);
    assert_string_equal(text.text, "plan: policy 55");
    desc.ops = ops;
    assert_int_equal(mo_plan_create(&plan, &desc), MO_E_INVALID);
    assert_string_equal(text.text, "schedule: after op 0: not every stage has run");
    desc.n_ops = 1;
    assert_int_equal(mo_plan_create(&plan, &desc), MO_E_INVALID);
    desc.ops = NULL;
    desc.remat.policy = MO_REMAT_NONE;
    desc.n_fixed = 1;
    assert_int_equal(mo_plan_create(&plan, &desc), MO_E_INVALID);
    desc.fixed = &fixed;
    assert_int_equal(mo_plan_create(&plan, &desc), MO_E_INVALID);
    assert_string_equal(text.text, "plan: fixed 0 (weights): category 77");
    fixed.category = MO_CATEGORY_PARAM;
    fixed.size = SIZE_MAX - 100;
    assert_int_equal(mo_plan_create(&plan, &desc), MO_E_OVERFLOW);
    net.stages[0].output_size = SIZE_MAX - 100;
    assert_int_equal(mo_plan_create(&plan, &desc), MO_E_OVERFLOW);
    assert_null(plan);
    mo_plan_destroy(NULL);
}

static void any_failed_allocation_is_reported(void **state) {
    (void)state;
    static const mo_plan_fixed fixed[] = {{"weights", 128, MO_CATEGORY_PARAM}};
    network net;
    mo_status status = MO_E_NO_MEMORY;
    make_blocks(&net, 3);
    for (int k = 0; status != MO_OK; k++) {
        test_heap heap;
        mo_allocator allocator = test_heap_begin(&heap, k);
        mo_plan *plan = NULL;
        mo_plan_desc desc = {0};
        desc.chain = &net.chain;
        desc.fixed = fixed;
        desc.n_fixed = 1;
        desc.allocator = &allocator;
        status = mo_plan_create(&plan, &desc);
        assert_int_equal(status, heap.n_requests > k ? MO_E_NO_MEMORY : MO_OK);
        if (status != MO_OK) assert_null(plan);
        mo_plan_destroy(plan);
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(heap.live_bytes, 0);
    }
}

/* ---- text ---------------------------------------------------------------------------------- */

typedef struct text_buffer {
    char text[8192];
    size_t size, limit;
} text_buffer;

static int text_write(void *self, const char *text, size_t size) {
    text_buffer *b = (text_buffer *)self;
    if (b->size + size > b->limit) return 1;
    memcpy(b->text + b->size, text, size);
    b->text[b->size += size] = 0;
    return 0;
}

static void text_shows_steps_and_addresses(void **state) {
    (void)state;
    static const mo_plan_fixed fixed[] = {{"weights", 128, MO_CATEGORY_PARAM}};
    network net;
    mo_plan *plan;
    mo_plan_desc desc = {0};
    text_buffer buffer = {{0}, 0, sizeof buffer.text - 1};
    mo_writer writer = {text_write, &buffer};
    make_blocks(&net, 1);
    desc.chain = &net.chain;
    desc.fixed = fixed;
    desc.n_fixed = 1;
    desc.remat.policy = MO_REMAT_BLOCK;
    test_ok(mo_plan_create(&plan, &desc));
    test_ok(mo_plan_write_text(plan, &writer));
    assert_string_equal(buffer.text,
        "plan: peak 768 (proved, bound 768), fixed 128, live 768, gap 0 bytes\n"
        "  param               128\n"
        "  activation          128\n"
        "  workspace           512\n"
        "cost 3.25, ideal 2; 4 steps, peak at step 1\n"
        "             0          128 param      weights\n"
        "step 0: forward 0 block\n"
        "           640           64 activation block.output until step 1\n"
        "           128          256 activation block.saved until step 0\n"
        "           384          128 activation block.cheap until step 0\n"
        "step 1: loss 1 loss\n"
        "           704           64 activation block.output_grad until step 3\n"
        "           128          512 workspace  loss.logits until step 1\n"
        "step 2: recompute 0 block save light\n"
        "           128          256 activation block.saved until step 3\n"
        "           384          128 activation block.cheap until step 2\n"
        "step 3: backward 0 block light\n"
        "           384          128 activation block.cheap until step 3\n");
    for (size_t limit = 0; limit < buffer.size; limit += 40) {
        text_buffer small = {{0}, 0, limit};
        writer.self = &small;
        assert_int_equal(mo_plan_write_text(plan, &writer), MO_E_IO);
    }
    assert_int_equal(mo_plan_write_text(plan, NULL), MO_E_INVALID);
    mo_plan_destroy(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peaks_by_hand),
        cmocka_unit_test(an_output_that_nobody_reads_has_no_address),
        cmocka_unit_test(fixed_blocks_come_first_in_order),
        cmocka_unit_test(every_policy_runs_and_measures_what_it_planned),
        cmocka_unit_test(schedules_by_hand_run_and_measure_what_they_planned),
        cmocka_unit_test(the_estimated_number_of_segments_is_close_to_the_best),
        cmocka_unit_test(a_run_may_stop_early_and_begin_again),
        cmocka_unit_test(bind_reports_what_does_not_fit),
        cmocka_unit_test(create_names_what_is_wrong),
        cmocka_unit_test(any_failed_allocation_is_reported),
        cmocka_unit_test(text_shows_steps_and_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
