/* test_plan.c - mo_plan: schedule, lifetimes and offsets together, run by a simulated network. */
#include "test_plan.h"

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
    test_ok(mo_plan_check(plan, NULL));
    mo_plan_info info = mo_plan_describe(plan);
    simulation sim = {malloc(info.store_bytes + 1), 0, 0};
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
    run_plan(&sim, plan, desc->chain, info.n_steps);
    mo_arena_get_stats(&arena, &stats);
    assert_int_equal(stats.peak_bytes, info.peak_bytes);
    sim.is_late = 1;
    run_plan(&sim, plan, desc->chain, info.n_steps);
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
    free(sim.store);
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

/* "F0s" and so on as ops: see test_remat.c. */
static size_t parse_schedule(const char *text, mo_remat_op *ops) {
    static const char letters[] = "FRLBOoPp";
    size_t n = 0;
    for (char *end; *text; text = *end ? end + 1 : end) {
        ops[n].op = (mo_step_op)(strchr(letters, *text) - letters);
        ops[n].stage = strtoul(text + 1, &end, 10);
        ops[n].light = 0;
        ops[n++].save = *end == 's' ? end++, 1 : 0;
    }
    return n;
}

static void what_is_moved_leaves_room_for_others(void **state) {
    (void)state;
    network net;
    mo_remat_op ops[24];
    mo_plan_desc desc = {0};
    make_blocks(&net, 3);
    desc.chain = &net.chain;
    desc.ops = ops;
    /* At the loss the tensors of stage 0 are away: compare with peaks_by_hand. */
    desc.n_ops = parse_schedule("F0s O0s F1s o0s F2s L3 B2 B1 P0s p0s B0", ops);
    mo_plan_info info = run_desc(&desc);
    assert_int_equal(info.peak_bytes, 4 * 64 + 2 * (256 + 128) + 512);
    assert_int_equal(info.store_bytes, 256 + 128);
    assert_int_equal(info.out_bytes, 256 + 128);
    assert_int_equal(info.in_bytes, 256 + 128);
    assert_true(info.cost_s == 6);
    /* Two at different times share the store; x[1], which comes back twice, has its own place. */
    desc.n_ops = parse_schedule("F0 F1s O1 o1 F2s O2s o2s P2s p2s L3 B2 O1s o1s P1 p1 P1s p1s B1 "
                                "P1 p1 R0s B0",
        ops);
    info = run_desc(&desc);
    assert_int_equal(info.store_bytes, 256 + 128 + 64);
    assert_int_equal(info.out_bytes, 2 * (256 + 128) + 64);
    assert_int_equal(info.in_bytes, 2 * (256 + 128) + 2 * 64);
}

static void bytes_that_leave_are_live_until_the_wait(void **state) {
    (void)state;
    network net;
    mo_remat_op ops[24];
    mo_plan_desc desc = {0};
    make_blocks(&net, 3);
    desc.chain = &net.chain;
    desc.ops = ops;
    desc.n_ops = parse_schedule("F0s O0s F1s F2s L3 o0s P0s B2 B1 p0s B0", ops);
    mo_plan_info info = run_desc(&desc);
    assert_int_equal(info.peak_bytes, 4 * 64 + 3 * (256 + 128) + 512); /* as if never moved */
    desc.n_ops = parse_schedule("F0s O0s o0s F1s F2s P0s L3 B2 B1 p0s B0", ops);
    info = run_desc(&desc);
    assert_int_equal(info.peak_bytes, 4 * 64 + 3 * (256 + 128) + 512);
}

/* Of a bound plan: the first step of this op. */
static mo_step step_of(mo_plan *plan, mo_step_op op) {
    mo_step step;
    mo_plan_begin(plan);
    while (mo_plan_next(plan, &step))
        if (step.op == op) return step;
    fail_msg("no step %d", (int)op);
    return step;
}

static void neighbours_are_one_copy_and_waits_give_it_again(void **state) {
    (void)state;
    static const mo_stage_tensor tensors[] = {
        {"a", 128, MO_TENSOR_SAVED, MO_CATEGORY_OTHER, 0, 0, 0, 0},
        {"b", 64, MO_TENSOR_SAVED, MO_CATEGORY_OTHER, 0, 0, 0, 0},
        {"c", 100, MO_TENSOR_SAVED, MO_CATEGORY_OTHER, 0, 0, 0, 0},
        {"d", 64, MO_TENSOR_BACKWARD, MO_CATEGORY_OTHER, 0, 0, 0, 0}};
    network net;
    mo_remat_op ops[24];
    mo_plan_desc desc = {0};
    mo_plan *plan;
    mo_arena arena;
    make_blocks(&net, 1);
    net.stages[0].tensors = tensors;
    net.stages[0].n_tensors = n_elements(tensors);
    desc.chain = &net.chain;
    desc.ops = ops;
    desc.n_ops = parse_schedule("F0s O0s o0s L1 P0s p0s B0", ops);
    test_ok(mo_plan_create(&plan, &desc));
    assert_int_equal(mo_plan_describe(plan).store_bytes, 128 + 100 + 28 + 64);
    test_ok(mo_arena_init(&arena, NULL));
    test_ok(mo_plan_bind(plan, &arena, NULL));
    mo_step step = step_of(plan, MO_STEP_OFFLOAD);
    assert_int_equal(step.n_copies, 2); /* behind c there are 28 bytes of nobody */
    assert_ptr_equal(step.copies[0].address, step.tensors[0]);
    assert_int_equal(step.copies[0].size + step.copies[1].size, 128 + 100 + 64);
    assert_int_equal(step.copies[0].store_off, 0);
    assert_null(step.x);
    assert_null(step.tensors[3]);
    const mo_plan_copy first = step.copies[0];
    step = step_of(plan, MO_STEP_OFFLOAD_WAIT);
    assert_int_equal(step.n_copies, 2);
    assert_ptr_equal(step.copies[0].address, first.address);
    assert_int_equal(step.copies[0].size, first.size);
    step = step_of(plan, MO_STEP_PREFETCH);
    assert_ptr_equal(step.copies[0].address, step.tensors[0]);
    assert_int_equal(step_of(plan, MO_STEP_PREFETCH_WAIT).n_copies, 2);
    assert_int_equal(step_of(plan, MO_STEP_LOSS).n_copies, 0);
    mo_plan_destroy(plan);
    mo_arena_free(&arena);
}

static void a_gradient_in_place_has_the_address_of_the_one_before(void **state) {
    (void)state;
    network net;
    mo_remat_op ops[24];
    mo_plan_desc desc = {0};
    make_blocks(&net, 3);
    static const mo_stage_tensor wide[] = {
        {"dwide", 2048, MO_TENSOR_BACKWARD, MO_CATEGORY_OTHER, 0, 0, 0, 0}};
    net.stages[1].tensors = wide; /* so that the peak is here: x, y, dy, dx, dwide */
    net.stages[1].n_tensors = 1;
    desc.chain = &net.chain;
    desc.ops = ops;
    desc.n_ops = parse_schedule("F0s F1s F2s L3 B2 B1 B0", ops);
    mo_plan_info apart = run_desc(&desc);
    net.stages[1].in_place = 1;
    mo_plan_info in_place = run_desc(&desc);
    assert_int_equal(apart.live_bytes, in_place.live_bytes + 64);
    assert_int_equal(apart.n_tensors, in_place.n_tensors + 1);
    net.stages[0].output_size = 128; /* another size: in_place is not used */
    assert_int_equal(run_desc(&desc).n_tensors, apart.n_tensors);
}

/* The seeds of one pass, [n_steps]. */
static void seeds_of(mo_plan *plan, uint64_t *seeds) {
    mo_step step;
    while (mo_plan_next(plan, &step)) *seeds++ = step.seed;
}

static void seeds_replay_in_a_pass_and_differ_between_passes(void **state) {
    (void)state;
    enum { F0, F1, L2, R1, B1, R0, B0, N };
    network net;
    mo_plan *plan;
    mo_plan_desc desc = {0};
    mo_arena arena;
    uint64_t first[N], second[N], again[N];
    make_blocks(&net, 2);
    desc.chain = &net.chain;
    desc.remat.policy = MO_REMAT_BLOCK;
    test_ok(mo_plan_create(&plan, &desc));
    test_ok(mo_arena_init(&arena, NULL));
    test_ok(mo_plan_bind(plan, &arena, NULL));
    mo_plan_begin(plan);
    seeds_of(plan, first);
    assert_true(first[F0] == first[R0] && first[F0] == first[B0]);
    assert_true(first[F1] == first[R1] && first[F1] == first[B1]);
    assert_true(first[F0] != first[F1] && first[F0] != first[L2] && first[F1] != first[L2]);
    mo_plan_begin(plan);
    mo_plan_begin(plan); /* no step has run since: still the second pass */
    seeds_of(plan, second);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) assert_true(first[i] != second[j]);
    mo_plan_begin_pass(plan, 0);
    seeds_of(plan, again);
    assert_memory_equal(again, first, sizeof first);
    mo_plan_begin(plan);
    seeds_of(plan, again);
    assert_memory_equal(again, second, sizeof second);
    mo_plan_unbind(plan);
    mo_arena_reset(&arena);
    test_ok(mo_plan_bind(plan, &arena, NULL)); /* counts from 0 again, without a begin too */
    seeds_of(plan, again);
    assert_memory_equal(again, first, sizeof first);
    mo_plan_destroy(plan);
    desc.seed = 1;
    mo_arena_reset(&arena);
    test_ok(mo_plan_create(&plan, &desc));
    test_ok(mo_plan_bind(plan, &arena, NULL));
    seeds_of(plan, again);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) assert_true(again[i] != first[j] && again[i] != second[j]);
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

static void schedules_with_moves_run_and_measure_what_they_planned(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("schedules_with_moves_run_and_measure_what_they_planned");
    size_t n_out = 0, n_in = 0, smaller = 0;
    for (int round = 0; round < 600; round++) {
        network net;
        mo_remat_op ops[MAX_OPS];
        mo_plan_desc desc = {0};
        random_network(&rng, &net);
        desc.chain = &net.chain;
        desc.align = test_below(&rng, 3) ? 0 : 256;
        desc.ops = ops;
        desc.n_ops = random_schedule(&rng, &net.chain, ops);
        const mo_plan_info without = run_desc(&desc);
        desc.n_ops = random_moves(&rng, &net.chain, ops, desc.n_ops);
        const mo_plan_info with = run_desc(&desc);
        size_t out = 0, in = 0;
        for (size_t i = 0; i < desc.n_ops; i++) {
            size_t bytes = mo_remat_copy_bytes(&net.chain, &ops[i]);
            out += ops[i].op == MO_STEP_OFFLOAD ? bytes : 0;
            in += ops[i].op == MO_STEP_PREFETCH ? bytes : 0;
            n_out += ops[i].op == MO_STEP_OFFLOAD;
            n_in += ops[i].op == MO_STEP_PREFETCH;
        }
        assert_int_equal(with.out_bytes, out);
        assert_int_equal(with.in_bytes, in);
        assert_int_equal(with.store_bytes > 0, out > 0);
        smaller += with.live_bytes < without.live_bytes;
    }
    assert_true(n_out > 600 && n_in > n_out + 100 && smaller > 20); /* it moves things at all */
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

/* Whether size bytes at an address lie in one piece, clear of its last align bytes when there is
 * another one behind it. */
static void check_in_piece(
    const mo_arena *arena, const mo_plan_desc *desc, size_t peak, const void *at, size_t size) {
    const size_t off = (size_t)((const unsigned char *)at - arena->base);
    if (!at || size == 0) return;
    assert_true(off + size <= peak);
    assert_int_equal(off / desc->piece, (off + size - 1) / desc->piece);
}

static void check_step_in_pieces(
    const mo_arena *arena, const mo_plan_desc *desc, size_t peak, const mo_step *step) {
    const mo_stage *stage = &desc->chain->stages[step->stage];
    const size_t in = step->stage == 0 ? desc->chain->input_size : stage[-1].output_size;
    check_in_piece(arena, desc, peak, step->x, in);
    check_in_piece(arena, desc, peak, step->dx, in);
    check_in_piece(arena, desc, peak, step->y, stage->output_size);
    check_in_piece(arena, desc, peak, step->dy, stage->output_size);
    for (size_t i = 0; i < stage->n_tensors; i++)
        check_in_piece(arena, desc, peak, step->tensors[i], stage->tensors[i].size);
    for (size_t i = 0; i < step->n_copies; i++)
        check_in_piece(arena, desc, peak, step->copies[i].address, step->copies[i].size);
}

/* The addresses stand for other memory here: nothing is written there. */
static void nothing_lies_across_two_pieces(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("pieces");
    static network net; /* 1856 bytes is the largest tensor */
    int n_pieces = 0;
    for (int i = 0; i < 300; i++) {
        mo_remat_op ops[MAX_OPS];
        const size_t align = (size_t)64 << test_below(&rng, 2);
        const size_t piece = align * (1856 / align + 2 + test_below(&rng, 20));
        const mo_plan_fixed fixed[] = {{"a", test_below(&rng, 1800), MO_CATEGORY_PARAM},
            {"b", test_below(&rng, 1800), MO_CATEGORY_GRAD}, {"c", 100, MO_CATEGORY_GRAD}};
        random_network(&rng, &net);
        mo_plan_desc desc = {.chain = &net.chain, .fixed = fixed, .n_fixed = 3, .ops = ops};
        desc.n_ops = random_schedule(&rng, &net.chain, ops);
        if (i % 2) desc.n_ops = random_moves(&rng, &net.chain, ops, desc.n_ops);
        desc.align = align;
        desc.piece = piece;
        mo_plan *plan;
        mo_arena arena;
        mo_step step;
        test_ok(mo_plan_create(&plan, &desc));
        const mo_plan_info info = mo_plan_describe(plan);
        check_info(&info);
        assert_int_equal(info.peak_bytes % align, 0);
        n_pieces += info.peak_bytes > piece;
        const mo_arena_desc arena_desc = {.size = info.peak_bytes, .tokens = 1};
        test_ok(mo_arena_init(&arena, &arena_desc));
        test_ok(mo_plan_bind(plan, &arena, NULL));
        for (size_t k = 0; k < 3; k++)
            check_in_piece(
                &arena, &desc, info.peak_bytes, mo_plan_fixed_address(plan, k), fixed[k].size);
        while (mo_plan_next(plan, &step))
            check_step_in_pieces(&arena, &desc, info.peak_bytes, &step);
        mo_plan_destroy(plan);
        mo_arena_free(&arena);
    }
    assert_true(n_pieces > 100);
}

static void pieces_that_are_too_small_are_refused(void **state) {
    (void)state;
    network net;
    mo_plan *plan = NULL;
    test_log text;
    mo_log log = test_log_begin(&text);
    make_blocks(&net, 2);
    mo_plan_fixed fixed = {"weights", 700, MO_CATEGORY_PARAM};
    mo_plan_desc desc = {.chain = &net.chain, .log = &log, .piece = 100};
    assert_int_equal(mo_plan_create(&plan, &desc), MO_E_INVALID);
    assert_string_equal(text.text, "plan: a piece of 100 bytes at an alignment of 64");
    desc.piece = 512; /* the logits alone, but not their neighbours */
    assert_int_equal(mo_plan_create(&plan, &desc), MO_E_NO_SPACE);
    assert_string_equal(text.text, "plan: loss.logits has 512 bytes, a piece of memory 448");
    desc.piece = 576;
    desc.fixed = &fixed;
    desc.n_fixed = 1;
    assert_int_equal(mo_plan_create(&plan, &desc), MO_E_NO_SPACE);
    assert_string_equal(text.text, "plan: weights has 700 bytes, a piece of memory 512");
    fixed.size = 500;
    test_ok(mo_plan_create(&plan, &desc));
    mo_plan_destroy(plan);
}

static void a_run_may_stop_early_and_begin_again(void **state) {
    (void)state;
    network net;
    mo_plan *plan;
    mo_plan_desc desc = {0};
    mo_arena arena;
    mo_track track;
    mo_track_stats stats;
    mo_step step;
    simulation sim = {0};
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
    run_plan(&sim, plan, &net.chain, 7);
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
    run_plan(&sim, plan, &net.chain, 7);
    mo_track_free(&track);
    mo_plan_destroy(plan);
    mo_arena_free(&arena);
}

static void every_step_is_a_stage_of_the_track(void **state) {
    (void)state;
    network net;
    mo_plan *plan;
    mo_plan_desc desc = {0};
    mo_arena arena;
    mo_track track;
    mo_track_cursor cursor = {0};
    static const char *const names[] = {"forward", "recompute", "loss", "backward"};
    mo_step steps[64];
    size_t n = 0, n_begun = 0, depth = 0;
    make_blocks(&net, 3);
    desc.chain = &net.chain;
    test_ok(mo_plan_create(&plan, &desc));
    test_ok(mo_arena_init(&arena, NULL));
    test_ok(mo_track_init(&track, NULL));
    test_ok(mo_plan_bind(plan, &arena, &track));
    while (mo_plan_next(plan, &steps[n])) n++;
    assert_int_equal(n, mo_plan_describe(plan).n_steps);
    mo_plan_begin(plan);
    assert_true(mo_plan_next(plan, &steps[n++])); /* and no more */
    mo_plan_unbind(plan);
    while (mo_track_next(&track, &cursor)) {
        if (cursor.event.kind == MO_TRACK_END) assert_int_equal(depth--, 1);
        if (cursor.event.kind != MO_TRACK_BEGIN) continue;
        const mo_step *step = &steps[n_begun++];
        assert_int_equal(depth++, 0);
        assert_string_equal(cursor.event.name, names[step->op]);
        const char *stage = net.chain.stages[step->stage].name;
        assert_string_equal(cursor.event.what, stage ? stage : "stage");
    }
    assert_int_equal(depth, 0);
    assert_int_equal(n_begun, n);
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
    mo_remat_op ops[24];
    size_t n_ops = parse_schedule("F0s O0s o0s F1s F2s L3 B2 B1 P0s p0s B0", ops);
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
        desc.ops = ops;
        desc.n_ops = n_ops;
        desc.allocator = &allocator;
        status = mo_plan_create(&plan, &desc);
        assert_int_equal(status, heap.n_requests > k ? MO_E_NO_MEMORY : MO_OK);
        if (status != MO_OK) assert_null(plan);
        mo_plan_destroy(plan);
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(heap.live_bytes, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peaks_by_hand),
        cmocka_unit_test(an_output_that_nobody_reads_has_no_address),
        cmocka_unit_test(fixed_blocks_come_first_in_order),
        cmocka_unit_test(what_is_moved_leaves_room_for_others),
        cmocka_unit_test(bytes_that_leave_are_live_until_the_wait),
        cmocka_unit_test(neighbours_are_one_copy_and_waits_give_it_again),
        cmocka_unit_test(a_gradient_in_place_has_the_address_of_the_one_before),
        cmocka_unit_test(seeds_replay_in_a_pass_and_differ_between_passes),
        cmocka_unit_test(every_policy_runs_and_measures_what_it_planned),
        cmocka_unit_test(schedules_by_hand_run_and_measure_what_they_planned),
        cmocka_unit_test(schedules_with_moves_run_and_measure_what_they_planned),
        cmocka_unit_test(the_estimated_number_of_segments_is_close_to_the_best),
        cmocka_unit_test(nothing_lies_across_two_pieces),
        cmocka_unit_test(pieces_that_are_too_small_are_refused),
        cmocka_unit_test(a_run_may_stop_early_and_begin_again),
        cmocka_unit_test(every_step_is_a_stage_of_the_track),
        cmocka_unit_test(bind_reports_what_does_not_fit),
        cmocka_unit_test(create_names_what_is_wrong),
        cmocka_unit_test(any_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
