/* test_cl_arena.c - plans whose memory is a device's. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

static void it_takes_the_bytes_of_the_plan_and_no_more(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t align = mo_cl_arena_align(&t->cl), size = 5 * align - 3;
    const mo_cl_arena_desc desc = {.budget_bytes = 5 * align, .piece = 2 * align};
    mo_cl_arena arena;
    mo_cl_heap_stats stats;
    test_ok(mo_cl_arena_init(&arena, &t->cl, size, &desc));
    mo_cl_heap_get_stats(&arena.heap, &stats);
    assert_int_equal(stats.reserved_bytes, 5 * align);
    assert_int_equal(stats.n_buffers, 3);
    mo_cl_arena_free(&arena);
    const mo_cl_arena_desc less = {.budget_bytes = 5 * align - 1};
    assert_int_equal(mo_cl_arena_init(&arena, &t->cl, size, &less), MO_E_NO_SPACE);
    const mo_cl_arena_desc odd = {.piece = align + 1};
    assert_int_equal(mo_cl_arena_init(&arena, &t->cl, size, &odd), MO_E_INVALID);
    const mo_cl_arena_desc large = {.piece = mo_cl_arena_piece(&t->cl) + align};
    assert_int_equal(mo_cl_arena_init(&arena, &t->cl, size, &large), MO_E_INVALID);
    assert_int_equal(mo_cl_arena_init(&arena, &t->cl, 0, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_arena_init(NULL, &t->cl, size, NULL), MO_E_INVALID);
    memset(&arena, 0, sizeof arena);
    mo_cl_arena_free(&arena);
}

static void addresses_stand_for_bytes_of_their_piece(void **state) {
    test_cl *t = test_cl_of(state);
    const size_t align = mo_cl_arena_align(&t->cl);
    const mo_cl_arena_desc desc = {.piece = 2 * align};
    mo_cl_arena arena;
    test_ok(mo_cl_arena_init(&arena, &t->cl, 4 * align, &desc));
    char *base = mo_arena_at(&arena.tokens, 0, 4 * align), *outside = base + 4 * align;
    mo_cl_mem a = mo_cl_arena_at(&arena, base + align, align);
    mo_cl_mem b = mo_cl_arena_at(&arena, base + 2 * align + 4, 8);
    assert_ptr_equal(a.buffer, arena.pieces[0].buffer);
    assert_int_equal(a.off - arena.pieces[0].off, align);
    assert_ptr_equal(b.buffer, arena.pieces[1].buffer);
    assert_int_equal(b.off - arena.pieces[1].off, 4);
    assert_int_equal(b.size, 8);
    assert_null(mo_cl_arena_at(&arena, base + align, align + 1).buffer); /* across two pieces */
    assert_null(mo_cl_arena_at(&arena, NULL, 1).buffer);
    assert_null(mo_cl_arena_at(&arena, outside, 1).buffer);
    assert_null(mo_cl_arena_at(&arena, base - 1, 1).buffer);
    mo_cl_arena_free(&arena);
}

/* Each stage adds its number to a copy of its input; backward adds it to the gradient. */
static void add(test_cl *t, mo_cl_arena *arena, const void *from, void *to, size_t n, float x) {
    const float one[1] = {1};
    mo_cl_mem a = mo_cl_arena_at(arena, from, n * 4), b = mo_cl_arena_at(arena, to, n * 4);
    mo_cl_mem ones = test_cl_put(t, one, sizeof one, 0);
    if (from != to && from)
        test_ok(mo_cl_copy_u32(&t->heap, MO_CL_COMPUTE, &b, 0, &a, 0, n, NULL, NULL));
    if (!from) test_ok(mo_cl_fill_u32(&t->heap, MO_CL_COMPUTE, &b, 0, n, 0, NULL, NULL));
    b = mo_cl_part(&b, 4 * (n - 1), 4);
    test_ok(mo_cl_accum_add(&t->cl, ones, x, b, 1));
    test_ok(mo_cl_sync(&t->cl, MO_CL_COMPUTE));
    test_cl_clear(t);
}

static void a_plan_runs_in_several_buffers(void **state) {
    test_cl *t = test_cl_of(state);
    enum { STAGES = 6, N = 1000 };
    mo_stage stages[STAGES];
    memset(stages, 0, sizeof stages);
    for (int i = 0; i < STAGES - 1; i++) stages[i].output_size = N * sizeof(float);
    const mo_chain chain = {.stages = stages, .n_stages = STAGES};
    mo_plan_desc desc = {.chain = &chain, .align = mo_cl_arena_align(&t->cl)};
    desc.piece = (8192 + desc.align - 1) / desc.align * desc.align + desc.align;
    desc.remat.policy = MO_REMAT_BLOCK;
    mo_plan *plan;
    mo_cl_arena arena;
    mo_step step;
    float sum = 0, got = 0;
    test_ok(mo_plan_create(&plan, &desc));
    const mo_plan_info info = mo_plan_describe(plan);
    const mo_cl_arena_desc arena_desc = {.budget_bytes = info.peak_bytes, .piece = desc.piece};
    test_ok(mo_cl_arena_init(&arena, &t->cl, info.peak_bytes, &arena_desc));
    assert_true(arena.n_pieces > 1);
    test_ok(mo_plan_bind(plan, &arena.tokens, NULL));
    while (mo_plan_next(plan, &step)) {
        const float x = (float)(step.stage + 1);
        if (step.op == MO_STEP_LOSS) add(t, &arena, step.x, step.dx, N, x);
        else if (step.op == MO_STEP_BACKWARD && step.dx)
            add(t, &arena, step.dy, step.dx, N, 100 * x);
        else if (step.op == MO_STEP_BACKWARD) {
            mo_cl_mem dy = mo_cl_arena_at(&arena, step.dy, N * 4);
            test_ok(mo_cl_download(
                &t->heap, MO_CL_COMPUTE, &got, &dy, 4 * (N - 1), sizeof got, NULL, NULL));
        } else if (step.y) add(t, &arena, step.x, step.y, N, x);
    }
    for (int i = 0; i < STAGES; i++)
        sum += (float)(i + 1) * (i > 0 && i < STAGES - 1 ? 101.0f : 1.0f);
    assert_float_equal(got, sum, 0);
    mo_plan_destroy(plan);
    mo_cl_arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_takes_the_bytes_of_the_plan_and_no_more),
        cmocka_unit_test(addresses_stand_for_bytes_of_their_piece),
        cmocka_unit_test(a_plan_runs_in_several_buffers),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
