/* test_remat_profile.c - mo_profile: costs of stages by a clock that the test turns. */
#include "test_util.h"

#include <math.h>

enum { N_STAGES = 4 };

/* Steps that take what a table says, on a clock of their own. Every disturb-th step takes ten times
 * as long. */
typedef struct world {
    mo_stage_tensor tensors[2];
    mo_stage stages[N_STAGES];
    mo_chain chain;
    mo_plan *plan;
    mo_arena arena;
    double now, forward[N_STAGES], unread[N_STAGES], backward[N_STAGES], light[N_STAGES];
    int n_steps, disturb, n_clock, stuck;
} world;

static double now_s(void *self) {
    world *w = self;
    w->n_clock++;
    return w->now;
}

static void run_step(void *self, const mo_step *step) {
    world *w = self;
    const size_t i = step->stage;
    double seconds = 0;
    switch (step->op) {
    case MO_STEP_FORWARD: seconds = w->forward[i]; break;
    case MO_STEP_RECOMPUTE: seconds = w->forward[i] - (step->y ? 0 : w->unread[i]); break;
    case MO_STEP_LOSS: seconds = w->forward[i] + w->backward[i]; break;
    case MO_STEP_BACKWARD: seconds = w->backward[i] + (step->light ? w->light[i] : 0); break;
    default: break;
    }
    if (step->light == MO_LEVEL_COMPRESSED) seconds += step->save ? 0.125 : 0.375;
    w->n_steps++;
    if (w->disturb && w->n_steps % w->disturb == 0) seconds *= 10;
    if (!w->stuck) w->now += seconds;
}

/* compress: everything is saved at that level, where encoding takes 0.125 and decoding 0.375. */
static void open_world(world *w, mo_remat_policy policy, int compress) {
    memset(w, 0, sizeof *w);
    w->tensors[0] = (mo_stage_tensor){.name = "saved", .size = 64};
    w->tensors[1] = (mo_stage_tensor){.name = "cheap", .size = 64, .role = MO_TENSOR_CHEAP};
    for (int i = 0; i < N_STAGES; i++) {
        w->stages[i] = (mo_stage){.output_size = 64, .tensors = w->tensors, .n_tensors = 2};
        w->stages[i].forward_s = 10; /* estimates in another unit */
        w->stages[i].backward_s = 20;
        w->stages[i].light_s = 5;
        w->stages[i].output_s = 2;
        w->forward[i] = 1 + i;
        w->unread[i] = 0.25;
        w->backward[i] = 4 + i;
        w->light[i] = 0.5;
    }
    w->chain.stages = w->stages;
    w->chain.n_stages = N_STAGES;
    mo_plan_desc desc = {.chain = &w->chain, .remat = {.policy = policy, .compress = compress}};
    test_ok(mo_plan_create(&w->plan, &desc));
    mo_arena_desc arena = {.size = mo_plan_describe(w->plan).peak_bytes};
    test_ok(mo_arena_init(&w->arena, &arena));
    test_ok(mo_plan_bind(w->plan, &w->arena, NULL));
}

static void close_world(world *w) {
    mo_plan_destroy(w->plan);
    mo_arena_free(&w->arena);
}

static mo_profile_desc desc_of(world *w) {
    mo_profile_desc desc = {.plan = w->plan, .run = run_step, .self = w};
    desc.clock.now_s = now_s;
    desc.clock.self = w;
    return desc;
}

static int near(double a, double b) { return fabs(a - b) < 1e-9; /* sums of doubles */ }

/* Profiles a plan of one policy with the world's costs; disturb below 0: compressed. */
static void profile_policy(world *w, mo_profile *profile, mo_remat_policy policy, int disturb) {
    open_world(w, policy, disturb < 0);
    w->disturb = disturb > 0 ? disturb : 0;
    mo_profile_desc desc = desc_of(w);
    desc.min_repeats = 5;
    test_ok(mo_profile_run(profile, &desc));
}

static mo_profile new_profile(void) {
    mo_profile profile;
    test_ok(mo_profile_init(&profile, N_STAGES, 0, NULL));
    return profile;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void a_plan_that_keeps_all_shows_forward_and_backward(void **state) {
    (void)state;
    world w;
    mo_profile profile = new_profile();
    profile_policy(&w, &profile, MO_REMAT_NONE, 0);
    test_ok(mo_profile_fill(&profile, w.stages));
    for (int i = 0; i + 1 < N_STAGES; i++) {
        assert_true(near(w.stages[i].forward_s, w.forward[i]));
        assert_true(near(w.stages[i].backward_s, w.backward[i]));
        assert_true(near(w.stages[i].output_s, 0.2 * w.forward[i])); /* not seen: by ratio */
        assert_true(near(w.stages[i].light_s, 0.25 * w.backward[i]));
    }
    const mo_stage *loss = &w.stages[N_STAGES - 1];
    double sum = w.forward[N_STAGES - 1] + w.backward[N_STAGES - 1];
    assert_true(near(loss->forward_s, sum / 3) && near(loss->backward_s, 2 * sum / 3));
    mo_profile_free(&profile);
    close_world(&w);
}

static void a_plan_that_recomputes_shows_what_output_costs(void **state) {
    (void)state;
    world w;
    mo_profile profile = new_profile();
    profile_policy(&w, &profile, MO_REMAT_BLOCK, 0);
    test_ok(mo_profile_fill(&profile, w.stages));
    for (int i = 0; i + 1 < N_STAGES; i++) {
        assert_true(near(w.stages[i].forward_s, w.forward[i]));
        assert_true(near(w.stages[i].output_s, w.unread[i]));
        /* BLOCK saves at the light level: the sum of both is split 20 : 5 */
        assert_true(near(w.stages[i].backward_s, 0.8 * (w.backward[i] + w.light[i])));
        assert_true(near(w.stages[i].light_s, 0.2 * (w.backward[i] + w.light[i])));
    }
    mo_profile_free(&profile);
    close_world(&w);
}

static void a_compressed_plan_shows_what_its_level_takes(void **state) {
    (void)state;
    world w;
    mo_profile profile = new_profile();
    profile_policy(&w, &profile, MO_REMAT_NONE, -1);
    assert_int_equal(mo_profile_fill(&profile, w.stages), MO_E_STATE);
    close_world(&w);
    profile_policy(&w, &profile, MO_REMAT_LIGHT, 0);
    close_world(&w);
    profile_policy(&w, &profile, MO_REMAT_NONE, 0);
    test_ok(mo_profile_fill(&profile, w.stages));
    for (int i = 0; i + 1 < N_STAGES; i++) {
        assert_true(near(w.stages[i].forward_s, w.forward[i]));
        assert_true(near(w.stages[i].backward_s, w.backward[i]));
        assert_true(near(w.stages[i].light_s, w.light[i]));
        assert_true(near(w.stages[i].compress_s, 0.5));
    }
    mo_profile_free(&profile);
    close_world(&w);
}

static void two_plans_show_everything(void **state) {
    (void)state;
    world w;
    mo_profile profile = new_profile();
    profile_policy(&w, &profile, MO_REMAT_BLOCK, 0);
    close_world(&w);
    profile_policy(&w, &profile, MO_REMAT_NONE, 0);
    test_ok(mo_profile_fill(&profile, w.stages));
    for (int i = 0; i + 1 < N_STAGES; i++) {
        assert_true(near(w.stages[i].forward_s, w.forward[i]));
        assert_true(near(w.stages[i].output_s, w.unread[i]));
        assert_true(near(w.stages[i].backward_s, w.backward[i]));
        assert_true(near(w.stages[i].light_s, w.light[i]));
    }
    mo_profile_free(&profile);
    close_world(&w);
}

static void an_inference_plan_scales_backward(void **state) {
    (void)state;
    world w;
    mo_profile profile = new_profile();
    profile_policy(&w, &profile, MO_REMAT_INFERENCE, 0);
    test_ok(mo_profile_fill(&profile, w.stages));
    assert_true(near(w.stages[1].forward_s, w.forward[1]));
    assert_true(near(w.stages[1].backward_s, 2 * w.forward[1]));
    mo_profile_free(&profile);
    close_world(&w);
}

/* 7 steps in a pass, every 3rd of them ten times as slow: at most 2 of 5 samples of each step. */
static void disturbances_do_not_reach_the_median(void **state) {
    (void)state;
    world w;
    mo_profile profile = new_profile();
    profile_policy(&w, &profile, MO_REMAT_NONE, 3);
    test_ok(mo_profile_fill(&profile, w.stages));
    for (int i = 0; i + 1 < N_STAGES; i++) {
        assert_true(near(w.stages[i].forward_s, w.forward[i]));
        assert_true(near(w.stages[i].backward_s, w.backward[i]));
    }
    mo_profile_free(&profile);
    close_world(&w);
}

/* ---- how long ------------------------------------------------------------------------------ */

static int passes_of(double limit_s, size_t min_repeats, size_t max_repeats) {
    world w;
    mo_profile profile;
    open_world(&w, MO_REMAT_NONE, 0);
    test_ok(mo_profile_init(&profile, N_STAGES, max_repeats, NULL));
    mo_profile_desc desc = desc_of(&w);
    desc.limit_s = limit_s;
    desc.min_repeats = min_repeats;
    test_ok(mo_profile_run(&profile, &desc));
    int n = w.n_steps / (2 * N_STAGES - 1);
    mo_profile_free(&profile);
    close_world(&w);
    return n;
}

/* A pass takes 32 seconds; the first one is not counted. */
static void passes_end_at_the_limit_or_when_the_profile_is_full(void **state) {
    (void)state;
    assert_int_equal(passes_of(0, 0, 0), 1 + 3);
    assert_int_equal(passes_of(1, 5, 0), 1 + 5);
    assert_int_equal(passes_of(32 * 8 - 1, 1, 0), 8);
    assert_int_equal(passes_of(1e9, 1, 0), 1 + 16);
    assert_int_equal(passes_of(1e9, 1, 6), 1 + 6);
    assert_int_equal(passes_of(1e9, 9, 6), 1 + 9);
}

/* The latest samples count. */
static void a_full_profile_forgets_the_oldest(void **state) {
    (void)state;
    world w;
    mo_profile profile;
    test_ok(mo_profile_init(&profile, N_STAGES, 3, NULL));
    open_world(&w, MO_REMAT_NONE, 0);
    mo_profile_desc desc = desc_of(&w);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < N_STAGES; i++) w.forward[i] = 1 + round;
        test_ok(mo_profile_run(&profile, &desc));
    }
    test_ok(mo_profile_fill(&profile, w.stages));
    assert_true(near(w.stages[0].forward_s, 4));
    mo_profile_free(&profile);
    close_world(&w);
}

/* ---- the link ------------------------------------------------------------------------------ */

static void slow_copy(void *self, void *to, const void *from, size_t size) {
    world *w = self;
    memcpy(to, from, size);
    w->n_steps++;
    if (w->stuck) return;
    w->now += w->n_steps % 3 == 0 ? 50 : 2; /* two of five disturbed */
}

static void a_links_bandwidth_is_that_of_the_median(void **state) {
    (void)state;
    world w = {.n_steps = 0};
    char from[100] = "text", to[100];
    mo_profile_clock clock = {now_s, &w};
    mo_profile_link_desc desc = {.copy = slow_copy, .self = &w, .to = to, .from = from};
    double speed = 0;
    desc.size = sizeof from;
    desc.clock = &clock;
    test_ok(mo_profile_link(&desc, &speed));
    assert_true(near(speed, 50));
    assert_string_equal(to, "text");
    assert_int_equal(w.n_steps, 6);
    w.stuck = 1;
    assert_int_equal(mo_profile_link(&desc, &speed), MO_E_UNSUPPORTED);
    assert_true(near(speed, 50));
}

/* With the system's clock and memcpy: only that it is a number. */
static void the_system_has_a_clock(void **state) {
    (void)state;
    enum { SIZE = 1 << 22 };
    char *from = calloc(SIZE, 1), *to = calloc(SIZE, 1);
    mo_profile_link_desc desc = {.to = to, .from = from, .size = SIZE, .repeats = 3};
    double speed = 0;
    test_ok(mo_profile_link(&desc, &speed));
    assert_true(speed > 0 && speed < HUGE_VAL);
    free(from);
    free(to);
}

/* ---- what goes wrong ----------------------------------------------------------------------- */

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    world w;
    mo_profile profile = new_profile(), small;
    char bytes[2];
    double speed;
    assert_int_equal(mo_profile_init(&small, 0, 0, NULL), MO_E_INVALID);
    assert_int_equal(mo_profile_init(&small, SIZE_MAX / 2, 0, NULL), MO_E_OVERFLOW);
    open_world(&w, MO_REMAT_NONE, 0);
    mo_profile_desc desc = desc_of(&w);
    assert_int_equal(mo_profile_fill(&profile, w.stages), MO_E_STATE); /* nothing has run */
    assert_true(w.stages[0].forward_s == 10);
    desc.limit_s = -1;
    assert_int_equal(mo_profile_run(&profile, &desc), MO_E_INVALID);
    desc.limit_s = 0;
    desc.run = NULL;
    assert_int_equal(mo_profile_run(&profile, &desc), MO_E_INVALID);
    desc.run = run_step;
    test_ok(mo_profile_init(&small, N_STAGES - 1, 0, NULL));
    assert_int_equal(mo_profile_run(&small, &desc), MO_E_STATE);
    mo_plan_unbind(w.plan);
    assert_int_equal(mo_profile_run(&profile, &desc), MO_E_STATE);
    mo_profile_link_desc link = {.to = bytes, .from = bytes + 1, .size = 1, .repeats = 65};
    assert_int_equal(mo_profile_link(&link, &speed), MO_E_INVALID);
    link.size = 0;
    link.repeats = 1;
    assert_int_equal(mo_profile_link(&link, &speed), MO_E_INVALID);
    mo_profile_free(&small);
    mo_profile_free(&profile);
    close_world(&w);
}

static void any_failed_allocation_is_reported(void **state) {
    (void)state;
    mo_status status = MO_E_NO_MEMORY;
    for (int k = 0; status != MO_OK; k++) {
        test_heap heap;
        mo_allocator allocator = test_heap_begin(&heap, k);
        mo_profile profile = {.n_stages = 77};
        status = mo_profile_init(&profile, 3, 0, &allocator);
        assert_int_equal(status, heap.n_requests > k ? MO_E_NO_MEMORY : MO_OK);
        if (status != MO_OK) assert_int_equal(profile.n_stages, 77);
        else mo_profile_free(&profile);
        assert_int_equal(heap.live_blocks, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_that_keeps_all_shows_forward_and_backward),
        cmocka_unit_test(a_plan_that_recomputes_shows_what_output_costs),
        cmocka_unit_test(a_compressed_plan_shows_what_its_level_takes),
        cmocka_unit_test(two_plans_show_everything),
        cmocka_unit_test(an_inference_plan_scales_backward),
        cmocka_unit_test(disturbances_do_not_reach_the_median),
        cmocka_unit_test(passes_end_at_the_limit_or_when_the_profile_is_full),
        cmocka_unit_test(a_full_profile_forgets_the_oldest),
        cmocka_unit_test(a_links_bandwidth_is_that_of_the_median),
        cmocka_unit_test(the_system_has_a_clock),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(any_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
