/* test_remat_optimal_flat.c - from the detailed chain to the flat one, and back. */
#include "test_util.h"
#include <math.h>

enum { MAX_STAGES = 12, MAX_TENSORS = 6 };

typedef struct detailed {
    mo_chain chain;
    mo_stage stages[MAX_STAGES];
    mo_stage_tensor tensors[MAX_STAGES][MAX_TENSORS];
} detailed;

static void random_tensor(
    test_rng *rng, const mo_stage *stage, int is_loss, mo_stage_tensor *tensor) {
    tensor->size = test_below(rng, 5) ? 1 + test_below(rng, 4000) : 0;
    tensor->role = (mo_tensor_role)test_below(rng, is_loss ? 3 : 6);
    tensor->forward_first = (unsigned)test_below(rng, stage->forward_steps);
    tensor->forward_last = tensor->forward_first +
        (unsigned)test_below(rng, stage->forward_steps - tensor->forward_first);
    tensor->backward_first = (unsigned)test_below(rng, stage->backward_steps);
    tensor->backward_last = tensor->backward_first +
        (unsigned)test_below(rng, stage->backward_steps - tensor->backward_first);
}

static void random_detailed(test_rng *rng, detailed *d, size_t n_stages) {
    memset(d, 0, sizeof *d);
    d->chain.input_size = test_below(rng, 3) ? 1 + test_below(rng, 2000) : 0;
    d->chain.stages = d->stages;
    d->chain.n_stages = n_stages;
    for (size_t i = 0; i < n_stages; i++) {
        mo_stage *stage = &d->stages[i];
        stage->output_size = 1 + test_below(rng, 2000);
        stage->forward_steps = 1 + (unsigned)test_below(rng, 4);
        stage->backward_steps = 1 + (unsigned)test_below(rng, 4);
        stage->output_first = (unsigned)test_below(rng, stage->forward_steps);
        stage->gradient_first = (unsigned)test_below(
            rng, i + 1 == n_stages ? stage->forward_steps : stage->backward_steps);
        stage->forward_s = 1 + test_uniform(rng);
        stage->backward_s = 1 + 2 * test_uniform(rng);
        stage->light_s = 0.3 * test_uniform(rng);
        stage->output_s = 0.5 * test_uniform(rng);
        stage->compress_s = 0.2 * test_uniform(rng);
        stage->tensors = d->tensors[i];
        stage->n_tensors = test_below(rng, MAX_TENSORS + 1);
        for (size_t j = 0; j < stage->n_tensors; j++)
            random_tensor(rng, stage, i + 1 == n_stages, &d->tensors[i][j]);
    }
}

/* One block: saved 8 bytes, cheap 4 written in sub-step 1 and needed at the end of backward, a
 * temporary of 3 in forward and one of 5 in backward; x is 2 bytes. */
static void the_levels_and_their_transients_follow_from_the_sub_steps(void **state) {
    (void)state;
    static detailed d;
    memset(&d, 0, sizeof d);
    d.chain.input_size = 2;
    d.chain.stages = d.stages;
    d.chain.n_stages = 2;
    const mo_stage_tensor tensors[] = {{"saved", 8, MO_TENSOR_SAVED, 0, 0, 0, 0, 1},
        {"cheap", 4, MO_TENSOR_CHEAP, 0, 1, 1, 1, 2}, {"up", 3, MO_TENSOR_FORWARD, 0, 1, 1, 0, 0},
        {"down", 5, MO_TENSOR_BACKWARD, 0, 0, 0, 2, 2}};
    d.stages[0].name = "block";
    d.stages[0].output_size = 2;
    d.stages[0].forward_steps = d.stages[0].backward_steps = 3;
    d.stages[0].output_first = 2;
    d.stages[0].gradient_first = 2;
    d.stages[0].tensors = tensors;
    d.stages[0].n_tensors = 4;
    d.stages[0].forward_s = 4;
    d.stages[0].light_s = 1;
    d.stages[0].output_s = 3;
    d.stages[1].output_size = 7;
    mo_flat_chain flat;
    test_ok(mo_remat_flatten(&d.chain, NULL, NULL, &flat));
    const mo_flat_stage *block = &flat.stages[0];
    assert_int_equal(block->n_options, 2);
    assert_int_equal(block->options[0].kept, 2 + 8 + 4);
    assert_int_equal(block->options[1].kept, 2 + 8);
    assert_true(block->options[0].extra_s == 0 && block->options[1].extra_s == 1);
    assert_true(block->options[0].unread_s == 3);
    assert_int_equal(block->forward_tmp, 8 - 2);              /* sub-step 0: saved alone */
    assert_int_equal(block->options[0].forward_tmp, 15 - 14); /* sub-step 1: all but x */
    assert_int_equal(block->options[1].forward_tmp, 15 - 10);
    assert_int_equal(block->options[0].backward_tmp, 0); /* 12 in sub-steps 0 and 1, 11 in 2 */
    assert_int_equal(block->options[1].backward_tmp, 0);
    assert_int_equal(flat.stages[1].forward_tmp, 7); /* the loss's output beside its gradient */
    mo_remat_flat_free(&flat, NULL);
}

/* Full, light and compressed, or without what is CHEAP full and compressed: the last option. */
static void the_compressed_level_is_the_last_option(void **state) {
    (void)state;
    static detailed d;
    memset(&d, 0, sizeof d);
    d.chain.stages = d.stages;
    d.chain.n_stages = 2;
    const mo_stage_tensor tensors[] = {{"wide", 80, MO_TENSOR_WIDE, 0, 0, 0, 0, 0},
        {"codes", 10, MO_TENSOR_CODES, 0, 0, 0, 0, 0},
        {"cheap", 4, MO_TENSOR_CHEAP, 0, 0, 0, 0, 0}};
    d.stages[0].tensors = tensors;
    d.stages[0].light_s = 1;
    d.stages[0].compress_s = 2;
    for (size_t n_tensors = 2; n_tensors <= 3; n_tensors++) {
        mo_flat_chain flat;
        const mo_flat_op ops[] = {{0, MO_FLAT_SAVE, (unsigned)n_tensors - 1}, {1, MO_FLAT_LOSS, 0},
            {0, MO_FLAT_BACKWARD, (unsigned)n_tensors - 1}};
        mo_remat_op out[3];
        size_t n;
        d.stages[0].n_tensors = n_tensors;
        test_ok(mo_remat_flatten(&d.chain, NULL, NULL, &flat));
        const mo_flat_option *last = &flat.stages[0].options[n_tensors - 1];
        assert_int_equal(flat.stages[0].n_options, n_tensors);
        assert_int_equal(last->kept, 10);
        assert_int_equal(last->forward_tmp, n_tensors == 3 ? 84 : 80);
        assert_int_equal(last->backward_tmp, n_tensors == 3 ? 84 : 80);
        assert_true(last->extra_s == 3);
        test_ok(mo_remat_unflatten(&d.chain, ops, 3, NULL, out, &n));
        assert_int_equal(n, 3);
        assert_int_equal(out[0].light, MO_LEVEL_COMPRESSED);
        assert_int_equal(out[2].light, MO_LEVEL_COMPRESSED);
        mo_remat_flat_free(&flat, NULL);
    }
}

/* What the flat chain says of a schedule, against the plan of that schedule. */
static void compare_with_plan(const detailed *d, const mo_remat_solution *s) {
    mo_remat_op *ops = (mo_remat_op *)malloc(s->n_ops * sizeof *ops);
    mo_plan_desc desc = {.chain = &d->chain};
    mo_plan *plan;
    test_ok(mo_remat_unflatten(&d->chain, s->ops, s->n_ops, NULL, ops, &desc.n_ops));
    desc.ops = ops;
    test_ok(mo_remat_check(&d->chain, ops, desc.n_ops, NULL));
    test_ok(mo_plan_create(&plan, &desc));
    assert_true(mo_plan_describe(plan).live_bytes <= s->peak_bytes);
    assert_true(fabs(mo_plan_describe(plan).cost_s - s->cost_s) < 1e-9 * s->cost_s);
    mo_plan_destroy(plan);
    free(ops);
}

static void no_plan_has_more_live_bytes_than_the_flat_chain_counts(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("flatten");
    static detailed d;
    for (int i = 0; i < 150; i++) {
        mo_flat_chain flat;
        mo_remat_solution s;
        random_detailed(&rng, &d, 1 + test_below(&rng, MAX_STAGES));
        test_ok(mo_remat_flatten(&d.chain, NULL, NULL, &flat));
        test_ok(mo_remat_flat_check(&flat, NULL));
        test_ok(mo_remat_baseline_solve(&flat, MO_BASELINE_NONE, SIZE_MAX, NULL, NULL, &s));
        compare_with_plan(&d, &s);
        mo_remat_table_desc desc = {.chain = &flat, .budget = s.peak_bytes, .slots = 200};
        mo_remat_solution_free(&s);
        for (size_t percent = 30; percent <= 100; percent += 10) {
            mo_remat_table_desc part = desc;
            part.budget = desc.budget / 100 * percent;
            test_ok(mo_remat_optimal(&part, &s));
            if (s.feasible) compare_with_plan(&d, &s);
            mo_remat_solution_free(&s);
        }
        mo_remat_flat_free(&flat, NULL);
    }
}

static void what_does_not_fit_is_reported(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("overflow");
    static detailed d;
    test_log lines;
    mo_log log = test_log_begin(&lines);
    mo_flat_chain flat = {0};
    random_detailed(&rng, &d, 3);
    d.stages[1].name = "large";
    d.stages[1].output_size = SIZE_MAX;
    d.stages[1].n_tensors = 1;
    d.tensors[1][0] = (mo_stage_tensor){.size = 2, .role = MO_TENSOR_SAVED};
    assert_int_equal(mo_remat_flatten(&d.chain, NULL, &log, &flat), MO_E_OVERFLOW);
    assert_non_null(strstr(lines.text, "stage 1 (large)"));
    d.stages[1].forward_s = -1;
    assert_int_equal(mo_remat_flatten(&d.chain, NULL, &log, &flat), MO_E_INVALID);
    assert_null(flat.stages);
    mo_remat_flat_free(&flat, NULL);
}

static void every_failed_allocation_leaves_nothing(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("allocation");
    static detailed d;
    random_detailed(&rng, &d, 5);
    test_heap heap;
    mo_allocator allocator = test_heap_begin(&heap, 0);
    mo_flat_chain flat = {0};
    const mo_flat_op op = {0, MO_FLAT_SAVE, 0};
    mo_remat_op out;
    size_t n_out = 77;
    assert_int_equal(mo_remat_flatten(&d.chain, &allocator, NULL, &flat), MO_E_NO_MEMORY);
    assert_null(flat.stages);
    allocator = test_heap_begin(&heap, 0);
    assert_int_equal(
        mo_remat_unflatten(&d.chain, &op, 1, &allocator, &out, &n_out), MO_E_NO_MEMORY);
    assert_int_equal(n_out, 77);
    allocator = test_heap_begin(&heap, -1);
    test_ok(mo_remat_flatten(&d.chain, &allocator, NULL, &flat));
    for (int k = 0; k < 2; k++) {
        test_heap other;
        mo_allocator failing = test_heap_begin(&other, k);
        assert_int_equal(
            mo_remat_flat_simulate(&flat, 0, &op, 1, &failing, NULL, NULL, NULL), MO_E_NO_MEMORY);
        assert_int_equal(other.live_blocks, 0);
    }
    mo_remat_flat_free(&flat, &allocator);
    assert_int_equal(heap.live_blocks, 0);
    assert_int_equal(heap.live_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_compressed_level_is_the_last_option),
        cmocka_unit_test(the_levels_and_their_transients_follow_from_the_sub_steps),
        cmocka_unit_test(no_plan_has_more_live_bytes_than_the_flat_chain_counts),
        cmocka_unit_test(what_does_not_fit_is_reported),
        cmocka_unit_test(every_failed_allocation_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
