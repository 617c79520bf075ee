/* test_cl_store.c - host memory that is pinned, and a store in it that a device moves activations
 * to and from while its kernels go on. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

enum { WORDS = 16384, BYTES = 4 * WORDS };

static mo_cl_heap_stats stats_of(test_cl *t) {
    mo_cl_heap_stats stats;
    mo_cl_heap_get_stats(&t->heap, &stats);
    return stats;
}

/* Many kernels, so that a copy that does not wait for them finds another value. */
static void fill_slowly(test_cl *t, mo_cl_mem mem, uint32_t value) {
    const uint64_t n = mem.size / 4;
    const uint32_t rounds = test_cl_small() ? 2 : 40;
    for (uint32_t i = 0; i < rounds; i++)
        test_ok(mo_cl_fill_u32(
            &t->heap, MO_CL_COMPUTE, &mem, 0, n, value + rounds - 1 - i, NULL, NULL));
}
static void assert_filled(test_cl *t, mo_cl_mem mem, uint32_t value) {
    static uint32_t words[WORDS];
    test_cl_get(t, mem, words, (size_t)mem.size);
    for (size_t i = 0; i < mem.size / 4; i++)
        if (words[i] != value) fail_msg("word %zu is %u, not %u", i, words[i], value);
}

/* ---- staging ------------------------------------------------------------------------------- */

static void staging_is_host_memory_outside_the_budget(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_staging a, b;
    const mo_cl_heap_stats before = stats_of(t);
    test_ok(mo_cl_staging_alloc(&t->heap, BYTES, &a));
    test_ok(mo_cl_staging_alloc(&t->heap, 100, &b));
    assert_int_equal((uintptr_t)a.data % 64, 0);
    const uint64_t pinned = (a.pinned ? BYTES : 0) + (b.pinned ? 100 : 0);
    uint32_t *words = a.data;
    for (uint32_t i = 0; i < WORDS; i++) words[i] = i * 2654435761u;
    mo_cl_mem mem = test_cl_put(t, words, BYTES, 4);
    static uint32_t got[WORDS];
    test_cl_get(t, mem, got, BYTES);
    assert_memory_equal(got, words, BYTES);
    test_cl_get(t, mo_cl_part(&mem, 400, 100), b.data, 100);
    assert_memory_equal(b.data, words + 100, 100);
    mo_cl_heap_stats stats = stats_of(t);
    assert_int_equal(stats.staging_bytes, BYTES + 100);
    assert_int_equal(stats.pinned_bytes, pinned);
    test_cl_clear(t);
    mo_cl_staging_free(&a);
    mo_cl_staging_free(&b);
    mo_cl_staging_free(&b); /* {0} */
    stats = stats_of(t);
    assert_int_equal(stats.staging_bytes, 0);
    assert_int_equal(stats.pinned_bytes, 0);
    assert_int_equal(stats.peak_staging_bytes, BYTES + 100);
    assert_int_equal(stats.used_bytes, before.used_bytes);
}

static void where_the_driver_refuses_staging_is_plain_memory(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_staging a;
    const uint64_t most = t->cl.info.max_alloc_bytes;
    t->cl.info.max_alloc_bytes = 4096; /* as if the device had less */
    test_ok(mo_cl_staging_alloc(&t->heap, BYTES, &a));
    t->cl.info.max_alloc_bytes = most;
    assert_false(a.pinned);
    assert_int_equal((uintptr_t)a.data % 64, 0);
    memset(a.data, 7, a.size);
    mo_cl_mem mem = test_cl_put(t, a.data, BYTES, 0);
    assert_filled(t, mem, 0x07070707);
    assert_int_equal(stats_of(t).pinned_bytes, 0);
    test_cl_clear(t);
    mo_cl_staging_free(&a);
}

/* ---- the store ----------------------------------------------------------------------------- */

static void what_goes_out_is_what_the_kernels_before_it_wrote(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_store store;
    test_ok(mo_cl_store_init(&store, &t->heap, 3 * BYTES));
    mo_cl_mem mem = test_cl_new(t, BYTES, 8);
    for (uint32_t round = 0; round < 3; round++) {
        fill_slowly(t, mem, 1000 * round + 7);
        test_ok(mo_cl_store_out(&store, mem, round * BYTES));
        test_ok(mo_cl_store_wait(&store, round * BYTES, BYTES));
        fill_slowly(t, mem, 5);
    }
    for (uint32_t round = 3; round-- > 0;) {
        test_ok(mo_cl_store_in(&store, mem, round * BYTES));
        test_ok(mo_cl_store_wait(&store, round * BYTES, BYTES));
        assert_filled(t, mem, 1000 * round + 7);
    }
    assert_int_equal(store.stats.out_bytes, 3 * BYTES);
    assert_int_equal(store.stats.in_bytes, 3 * BYTES);
    assert_int_equal(store.stats.n_out, 3);
    assert_int_equal(store.stats.n_waits, 6);
    mo_cl_store_free(&store);
    test_cl_clear(t);
}

static void a_wait_reaches_the_copies_of_its_range_and_those_before(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_store store;
    test_ok(mo_cl_store_init(&store, &t->heap, 4096));
    mo_cl_mem mem = test_cl_new(t, 1024, 0);
    for (uint64_t i = 0; i < 4; i++) test_ok(mo_cl_store_out(&store, mem, i * 1024));
    test_ok(mo_cl_store_wait(&store, 4096, 0));
    test_ok(mo_cl_store_wait(&store, 1024, 0));
    assert_int_equal(store.n_copies, 4);
    test_ok(mo_cl_store_wait(&store, 2047, 1));
    assert_int_equal(store.n_copies, 2);
    test_ok(mo_cl_store_wait(&store, 0, 2048)); /* done before */
    assert_int_equal(store.stats.n_waits, 1);
    test_ok(mo_cl_store_wait(&store, 0, 4096));
    assert_int_equal(store.n_copies, 0);
    /* More copies than are remembered: the oldest are waited for on the way. */
    for (int i = 0; i < 200; i++) test_ok(mo_cl_store_out(&store, mem, 0));
    mo_cl_store_free(&store); /* with copies on their way */
    mo_cl_store_free(&store);
    test_cl_clear(t);
}

static void bad_ranges_are_refused(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_store store, nothing;
    mo_cl_mem mem = test_cl_new(t, 1024, 0), none = {0};
    assert_int_equal(mo_cl_staging_alloc(&t->heap, 0, &store.memory), MO_E_INVALID);
    assert_int_equal(mo_cl_staging_alloc(NULL, 1, &store.memory), MO_E_INVALID);
    assert_int_equal(mo_cl_store_init(NULL, &t->heap, 1), MO_E_INVALID);
    assert_int_equal(mo_cl_store_init(&store, NULL, 1), MO_E_INVALID);
    test_ok(mo_cl_store_init(&store, &t->heap, 2000));
    test_ok(mo_cl_store_init(&nothing, &t->heap, 0));
    assert_int_equal(mo_cl_store_out(&store, mem, 977), MO_E_INVALID);
    assert_int_equal(mo_cl_store_in(&store, mem, UINT64_MAX), MO_E_INVALID);
    assert_int_equal(mo_cl_store_out(&store, none, 0), MO_E_INVALID);
    assert_int_equal(mo_cl_store_out(NULL, mem, 0), MO_E_INVALID);
    assert_int_equal(mo_cl_store_wait(&store, 1, 2000), MO_E_INVALID);
    assert_int_equal(mo_cl_store_out(&nothing, mem, 0), MO_E_INVALID);
    mo_cl_arena arena;
    test_ok(mo_cl_arena_init(&arena, &t->cl, 1024, NULL));
    char *base = mo_arena_at(&arena.tokens, 0, 0);
    mo_plan_copy copy = {base, 1024, 977};
    mo_step step = {.op = MO_STEP_OFFLOAD, .copies = &copy, .n_copies = 1};
    assert_int_equal(mo_cl_store_step(&store, &arena, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_store_step(&store, NULL, &step), MO_E_INVALID);
    assert_int_equal(mo_cl_store_step(&store, &arena, &step), MO_E_INVALID);
    copy.store_off = 0;
    copy.address = base + 1;
    assert_int_equal(mo_cl_store_step(&store, &arena, &step), MO_E_INVALID);
    mo_cl_arena_free(&arena);
    assert_int_equal(store.stats.n_out, 0);
    test_ok(mo_cl_store_out(&store, mem, 976));
    mo_cl_store_free(&store);
    mo_cl_store_free(&nothing);
    test_cl_clear(t);
}

/* ---- a plan's steps ------------------------------------------------------------------------ */

enum { BLOCKS = 3 };

/* F0 F1 F2, the loss, B2 B1 B0; what blocks 0 and 1 saved is moved meanwhile. */
static const mo_remat_op moving_ops[] = {{MO_STEP_FORWARD, 0, 1, 0}, {MO_STEP_OFFLOAD, 0, 1, 0},
    {MO_STEP_FORWARD, 1, 1, 0}, {MO_STEP_OFFLOAD_WAIT, 0, 1, 0}, {MO_STEP_OFFLOAD, 1, 1, 0},
    {MO_STEP_FORWARD, 2, 1, 0}, {MO_STEP_OFFLOAD_WAIT, 1, 1, 0}, {MO_STEP_LOSS, 3, 0, 0},
    {MO_STEP_BACKWARD, 2, 0, 0}, {MO_STEP_PREFETCH, 1, 1, 0}, {MO_STEP_PREFETCH_WAIT, 1, 1, 0},
    {MO_STEP_PREFETCH, 0, 1, 0}, {MO_STEP_BACKWARD, 1, 0, 0}, {MO_STEP_PREFETCH_WAIT, 0, 1, 0},
    {MO_STEP_BACKWARD, 0, 0, 0}};

typedef struct run {
    test_cl *t;
    mo_plan *plan;
    mo_cl_store store;
    mo_cl_arena arena;
    mo_cl_mem seen; /* what each backward found, [BLOCKS][BYTES] */
    uint32_t pass;
} run;

/* A stage fills what it saves in forward, and keeps a copy of it in backward. */
static void run_step(run *r, const mo_step *step) {
    mo_cl_heap *heap = &r->t->heap;
    const uint32_t value = r->pass * 100000 + 1000 * (uint32_t)step->stage;
    if (step->op == MO_STEP_FORWARD)
        fill_slowly(r->t, mo_cl_arena_at(&r->arena, step->tensors[0], BYTES), value);
    if (step->op == MO_STEP_BACKWARD) {
        mo_cl_mem saved = mo_cl_arena_at(&r->arena, step->tensors[0], BYTES);
        test_ok(mo_cl_copy_u32(
            heap, MO_CL_COMPUTE, &r->seen, step->stage * BYTES, &saved, 0, WORDS, NULL, NULL));
        fill_slowly(r->t, mo_cl_arena_at(&r->arena, step->tensors[1], BYTES), 3);
    }
    test_ok(mo_cl_store_step(&r->store, &r->arena, step));
}

static void a_plan_moves_its_activations_beside_the_kernels(void **state) {
    static const mo_stage_tensor tensors[] = {
        {"saved", BYTES, MO_TENSOR_SAVED, MO_CATEGORY_OTHER, 0, 0, 0, 0},
        {"dsaved", BYTES, MO_TENSOR_BACKWARD, MO_CATEGORY_OTHER, 0, 0, 0, 0}};
    run r = {.t = test_cl_of(state)};
    mo_stage stages[BLOCKS + 1];
    mo_chain chain = {.input_size = 64, .stages = stages, .n_stages = BLOCKS + 1};
    mo_plan_desc desc = {.chain = &chain,
        .ops = moving_ops,
        .n_ops = n_elements(moving_ops),
        .align = mo_cl_arena_align(&r.t->cl),
        .piece = mo_cl_arena_piece(&r.t->cl)};
    mo_step step;
    memset(stages, 0, sizeof stages);
    for (int i = 0; i <= BLOCKS; i++) {
        stages[i].output_size = i < BLOCKS ? 64 : 0;
        stages[i].tensors = tensors;
        stages[i].n_tensors = i < BLOCKS ? 2 : 0;
    }
    test_ok(mo_plan_create(&r.plan, &desc));
    const mo_plan_info info = mo_plan_describe(r.plan);
    assert_int_equal(info.store_bytes, 2 * BYTES);
    assert_true(info.peak_bytes < 3 * BYTES + 8 * desc.align); /* with all kept it would be 4 */
    test_ok(mo_cl_arena_init(&r.arena, &r.t->cl, info.peak_bytes, NULL));
    test_ok(mo_plan_bind(r.plan, &r.arena.tokens, NULL));
    r.seen = test_cl_new(r.t, BLOCKS * BYTES, 0);
    test_ok(mo_cl_store_init(&r.store, &r.t->heap, info.store_bytes));
    for (r.pass = 0; r.pass < 3; r.pass++) {
        mo_plan_begin(r.plan);
        while (mo_plan_next(r.plan, &step)) run_step(&r, &step);
        for (uint32_t i = 0; i < BLOCKS; i++)
            assert_filled(r.t, mo_cl_part(&r.seen, i * BYTES, BYTES), r.pass * 100000 + 1000 * i);
    }
    assert_int_equal(r.store.stats.out_bytes, 3 * info.out_bytes);
    assert_int_equal(r.store.stats.in_bytes, 3 * info.in_bytes);
    mo_cl_store_free(&r.store);
    mo_plan_destroy(r.plan);
    mo_cl_arena_free(&r.arena);
    test_cl_clear(r.t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(staging_is_host_memory_outside_the_budget),
        cmocka_unit_test(where_the_driver_refuses_staging_is_plain_memory),
        cmocka_unit_test(what_goes_out_is_what_the_kernels_before_it_wrote),
        cmocka_unit_test(a_wait_reaches_the_copies_of_its_range_and_those_before),
        cmocka_unit_test(bad_ranges_are_refused),
        cmocka_unit_test(a_plan_moves_its_activations_beside_the_kernels),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
