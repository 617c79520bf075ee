/* test_plan_build.c - mo_plan_build: budgets that hold, and nothing simple that is faster. */
#include "test_plan.h"

#include <math.h>

static mo_plan_build_result build_into(
    const network *net, size_t budget, double link, mo_plan **plan) {
    mo_plan_build_desc desc = {0};
    mo_plan_build_result result;
    desc.plan.chain = &net->chain;
    desc.budget = budget;
    desc.link.out_bytes_per_s = link;
    test_ok(mo_plan_build(plan, &desc, &result));
    const mo_plan_info info = mo_plan_describe(*plan);
    assert_int_equal(result.fits, budget == 0 || info.peak_bytes <= budget);
    assert_true(result.least_bytes <= info.peak_bytes);
    assert_true(result.cost_s >= info.cost_s);
    test_ok(mo_plan_check(*plan, NULL));
    return result;
}

static mo_plan_build_result build(const network *net, size_t budget, double link) {
    mo_plan *plan;
    const mo_plan_build_result result = build_into(net, budget, link, &plan);
    mo_plan_destroy(plan);
    return result;
}

static mo_plan_info policy_info(const network *net, mo_remat_policy policy, int keep_cheap) {
    mo_plan_desc desc = {0};
    mo_plan *plan;
    desc.chain = &net->chain;
    desc.remat.policy = policy;
    desc.remat.keep_cheap = keep_cheap;
    test_ok(mo_plan_create(&plan, &desc));
    const mo_plan_info info = mo_plan_describe(plan);
    mo_plan_destroy(plan);
    return info;
}

static size_t least_bytes(const network *net) { return build(net, 1, 0).least_bytes; }

/* Eight equal stages that save 8 units and pass on 1, and a loss. */
static void make_equal(network *net) {
    memset(net, 0, sizeof *net);
    for (size_t i = 0; i < MAX_STAGES; i++) {
        const mo_stage_tensor saved = {"saved", 512, MO_TENSOR_SAVED, 0, 0, 0, 0, 0};
        net->tensors[i][0] = saved;
        net->stages[i].output_size = i + 1 < MAX_STAGES ? 64 : 0;
        net->stages[i].tensors = net->tensors[i];
        net->stages[i].n_tensors = i + 1 < MAX_STAGES;
        net->stages[i].forward_s = 1;
        net->stages[i].backward_s = 2;
    }
    net->chain.input_size = 64;
    net->chain.stages = net->stages;
    net->chain.n_stages = MAX_STAGES;
}

static void without_a_budget_everything_is_kept(void **state) {
    (void)state;
    network net;
    make_equal(&net);
    const mo_plan_info all = policy_info(&net, MO_REMAT_NONE, 0);
    const mo_plan_build_result result = build(&net, 0, 0);
    assert_true(result.fits && result.cost_s == all.ideal_s);
    assert_int_equal(build(&net, all.peak_bytes, 0).least_bytes, all.peak_bytes);
}

/* One stage less in memory than all: one runs again, and no more. */
static void a_little_too_small_a_budget_costs_one_stage(void **state) {
    (void)state;
    network net;
    make_equal(&net);
    const mo_plan_info all = policy_info(&net, MO_REMAT_NONE, 0);
    const mo_plan_build_result result = build(&net, all.peak_bytes - 1, 0);
    assert_true(result.fits && result.cost_s == all.ideal_s + 1);
}

static void a_fast_link_makes_recomputation_needless(void **state) {
    (void)state;
    network net;
    make_equal(&net);
    const mo_plan_info all = policy_info(&net, MO_REMAT_NONE, 0);
    const size_t budget = all.peak_bytes / 2;
    const double without = build(&net, budget, 0).cost_s;
    mo_plan *plan;
    const mo_plan_build_result with = build_into(&net, budget, 1e6, &plan);
    assert_true(mo_plan_describe(plan).store_bytes > 0);
    mo_plan_destroy(plan);
    assert_true(with.fits && with.cost_s < without);
    assert_true(with.cost_s < all.ideal_s * 1.01);
}

static void fixed_blocks_count(void **state) {
    (void)state;
    network net;
    make_equal(&net);
    const mo_plan_fixed fixed = {"weights", 4096, MO_CATEGORY_PARAM};
    mo_plan_build_desc desc = {0};
    mo_plan_build_result result;
    mo_plan *plan;
    desc.plan.chain = &net.chain;
    desc.plan.fixed = &fixed;
    desc.plan.n_fixed = 1;
    desc.budget = 2000;
    const double alone = build(&net, desc.budget, 0).cost_s;
    test_ok(mo_plan_build(&plan, &desc, &result));
    assert_int_equal(result.fits, 0);
    assert_true(result.least_bytes > 4096);
    mo_plan_destroy(plan);
    desc.budget += 4096;
    test_ok(mo_plan_build(&plan, &desc, &result));
    assert_true(result.fits && result.cost_s == alone);
    mo_plan_destroy(plan);
}

static void nothing_simple_that_fits_is_faster(void **state) {
    (void)state;
    test_rng rng = test_rng_begin(__func__);
    for (int round = 0; round < 300; round++) {
        network net;
        random_network(&rng, &net);
        const size_t all = policy_info(&net, MO_REMAT_NONE, 0).peak_bytes;
        const size_t budget = 1 + test_below(&rng, all + 64);
        const mo_plan_build_result result = build(&net, budget, 0);
        for (int policy = MO_REMAT_NONE; policy <= MO_REMAT_SQRT; policy++)
            for (int keep = 0; keep < 2; keep++) {
                const mo_plan_info info = policy_info(&net, (mo_remat_policy)policy, keep);
                if (info.peak_bytes > budget) continue;
                assert_true(result.fits);
                assert_true(result.cost_s <= info.cost_s);
            }
    }
}

static void the_smallest_plan_fits_into_its_own_size_and_into_no_less(void **state) {
    (void)state;
    test_rng rng = test_rng_begin(__func__);
    for (int round = 0; round < 300; round++) {
        network net;
        random_network(&rng, &net);
        const size_t least = least_bytes(&net);
        if (least == 0) continue;
        assert_true(build(&net, least, 0).fits);
        assert_true(build(&net, least + test_below(&rng, 500), 0).fits);
        if (least > 1) assert_int_equal(build(&net, least - 1, 0).least_bytes, least);
        if (least > 1) assert_int_equal(build(&net, least - 1, 0).fits, 0);
    }
}

static void plans_with_a_link_run_and_are_not_slower(void **state) {
    (void)state;
    test_rng rng = test_rng_begin(__func__);
    int n_moving = 0;
    for (int round = 0; round < 300; round++) {
        network net;
        random_network(&rng, &net);
        const size_t least = least_bytes(&net);
        const size_t all = policy_info(&net, MO_REMAT_NONE, 0).peak_bytes;
        if (least == 0) continue;
        const size_t budget = least + test_below(&rng, all - least + 1);
        mo_plan *plan;
        mo_arena arena;
        const double without = build(&net, budget, 0).cost_s;
        const mo_plan_build_result with =
            build_into(&net, budget, 1000 + 20000 * test_uniform(&rng), &plan);
        assert_true(with.fits && with.cost_s <= without);
        const mo_plan_info info = mo_plan_describe(plan);
        simulation sim = {malloc(info.store_bytes + 1), 0, 0};
        n_moving += info.store_bytes != 0;
        test_ok(mo_arena_init(&arena, NULL));
        test_ok(mo_plan_bind(plan, &arena, NULL));
        run_plan(&sim, plan, &net.chain, info.n_steps);
        sim.is_late = 1;
        run_plan(&sim, plan, &net.chain, info.n_steps);
        mo_plan_destroy(plan);
        mo_arena_free(&arena);
        free(sim.store);
    }
    assert_true(n_moving > 0);
}

static void the_same_call_gives_the_same_plan(void **state) {
    (void)state;
    test_rng rng = test_rng_begin(__func__);
    for (int round = 0; round < 50; round++) {
        network net;
        random_network(&rng, &net);
        const size_t budget = 1 + test_below(&rng, 4000);
        const mo_plan_build_result a = build(&net, budget, 500), b = build(&net, budget, 500);
        assert_true(a.cost_s == b.cost_s && a.fits == b.fits);
        assert_true(a.least_bytes == b.least_bytes && a.n_plans == b.n_plans);
    }
}

static void bad_arguments_are_told(void **state) {
    (void)state;
    network net;
    mo_plan *plan = NULL;
    mo_plan_build_desc desc = {0};
    make_equal(&net);
    assert_int_equal(mo_plan_build(&plan, &desc, NULL), MO_E_INVALID);
    desc.plan.chain = &net.chain;
    assert_int_equal(mo_plan_build(NULL, &desc, NULL), MO_E_INVALID);
    assert_int_equal(mo_plan_build(&plan, NULL, NULL), MO_E_INVALID);
    net.stages[3].forward_s = -1;
    assert_int_equal(mo_plan_build(&plan, &desc, NULL), MO_E_INVALID);
    net.stages[3].forward_s = 1;
    desc.budget = 1500;
    desc.link.out_bytes_per_s = -1;
    assert_int_equal(mo_plan_build(&plan, &desc, NULL), MO_E_INVALID);
    desc.budget = 0;
    desc.link.out_bytes_per_s = HUGE_VAL;
    assert_int_equal(mo_plan_build(&plan, &desc, NULL), MO_E_INVALID);
    assert_null(plan);
}

static void any_allocation_may_fail(void **state) {
    (void)state;
    network net;
    mo_plan_build_desc desc = {0};
    make_equal(&net);
    desc.plan.chain = &net.chain;
    desc.budget = 1500;
    desc.slots = 20;
    desc.link.out_bytes_per_s = 300;
    for (int k = 0;; k++) {
        test_heap heap;
        mo_plan *plan = NULL;
        const mo_allocator allocator = test_heap_begin(&heap, k);
        desc.plan.allocator = &allocator;
        const mo_status status = mo_plan_build(&plan, &desc, NULL);
        if (status == MO_OK) mo_plan_destroy(plan);
        else assert_int_equal(status, MO_E_NO_MEMORY);
        assert_int_equal(heap.live_blocks, 0);
        if (heap.n_requests <= k) break;
        assert_int_equal(status, MO_E_NO_MEMORY);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_budget_everything_is_kept),
        cmocka_unit_test(a_little_too_small_a_budget_costs_one_stage),
        cmocka_unit_test(a_fast_link_makes_recomputation_needless),
        cmocka_unit_test(fixed_blocks_count),
        cmocka_unit_test(nothing_simple_that_fits_is_faster),
        cmocka_unit_test(the_smallest_plan_fits_into_its_own_size_and_into_no_less),
        cmocka_unit_test(plans_with_a_link_run_and_are_not_slower),
        cmocka_unit_test(the_same_call_gives_the_same_plan),
        cmocka_unit_test(bad_arguments_are_told),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
