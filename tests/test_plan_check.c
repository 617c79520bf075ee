/* test_plan_check.c - mo_plan_check: accepts what a simulated network survives, and no more. */
#include "test_plan.h"

/* Steps of a plan that may be changed, over a block and a store of their own. */
typedef struct recording {
    mo_step steps[MAX_OPS];
    void *rows[MAX_OPS][MAX_TENSORS];
    mo_plan_copy copies[MAX_OPS][MAX_TENSORS];
    unsigned char *memory; /* what block lies in */
    mo_plan_check_desc desc;
} recording;

static const void *moved(const recording *r, const mo_arena *arena, const void *address) {
    if (!address) return NULL;
    size_t off = (size_t)((const char *)address -
        (const char *)mo_arena_at((mo_arena *)(uintptr_t)arena, 0, 0));
    return (const unsigned char *)r->desc.base + off;
}

static void record_step(recording *r, const mo_arena *arena, const mo_step *step) {
    size_t k = r->desc.n_steps++, n = r->desc.chain->stages[step->stage].n_tensors;
    mo_step *to = &r->steps[k];
    *to = *step;
    to->x = moved(r, arena, step->x);
    to->y = (void *)(uintptr_t)moved(r, arena, step->y);
    to->dy = moved(r, arena, step->dy);
    to->dx = (void *)(uintptr_t)moved(r, arena, step->dx);
    for (size_t i = 0; i < n; i++)
        r->rows[k][i] = (void *)(uintptr_t)moved(r, arena, step->tensors[i]);
    for (size_t i = 0; i < step->n_copies; i++) {
        r->copies[k][i] = step->copies[i];
        r->copies[k][i].address = (void *)(uintptr_t)moved(r, arena, step->copies[i].address);
    }
    to->tensors = r->rows[k];
    to->copies = r->copies[k];
}

/* The block is as large as the plan says, and its content undefined. */
static void record(recording *r, const mo_plan_desc *desc) {
    mo_plan *plan;
    mo_arena arena;
    mo_step step;
    memset(r, 0, sizeof *r);
    test_ok(mo_plan_create(&plan, desc));
    const mo_plan_info info = mo_plan_describe(plan);
    r->memory = malloc(info.peak_bytes + 64);
    memset(r->memory, 0xdd, info.peak_bytes + 64);
    r->desc.chain = desc->chain;
    r->desc.steps = r->steps;
    r->desc.base = (const void *)(((uintptr_t)r->memory + 63) / 64 * 64);
    r->desc.fixed_bytes = info.fixed_bytes;
    r->desc.size = info.peak_bytes;
    r->desc.store_bytes = info.store_bytes;
    r->desc.align = 64;
    test_ok(mo_arena_init(&arena, NULL));
    test_ok(mo_plan_bind(plan, &arena, NULL));
    while (mo_plan_next(plan, &step)) record_step(r, &arena, &step);
    mo_plan_destroy(plan);
    mo_arena_free(&arena);
    test_ok(mo_plan_check_steps(&r->desc));
}

/* Bytes that go wrong when the steps run, with copies early and late. */
static size_t simulate(const recording *r) {
    simulation sim = {malloc(r->desc.store_bytes + 1), 0, 0};
    for (sim.is_late = 0; sim.is_late < 2; sim.is_late++)
        for (size_t k = 0; k < r->desc.n_steps; k++)
            run_step(&sim, r->desc.chain, &r->steps[k], k == 0);
    free(sim.store);
    return sim.n_wrong;
}

/* ---- examples ------------------------------------------------------------------------------ */

/* One block of input and output 64, saved 128, and the loss: F0 L1 B0, or with the saved tensor
 * moved while the loss runs: F0 O0 o0 L1 P0 p0 B0. */
static const mo_stage_tensor one_block[] = {
    {"saved", 128, MO_TENSOR_SAVED, MO_CATEGORY_OTHER, 0, 0, 0, 0},
    {"dsaved", 64, MO_TENSOR_BACKWARD, MO_CATEGORY_OTHER, 0, 1, 1, 1}};
static const mo_remat_op plain_ops[] = {
    {MO_STEP_FORWARD, 0, 1, 0}, {MO_STEP_LOSS, 1, 0, 0}, {MO_STEP_BACKWARD, 0, 0, 0}};
static const mo_remat_op moving_ops[] = {{MO_STEP_FORWARD, 0, 1, 0}, {MO_STEP_OFFLOAD, 0, 1, 0},
    {MO_STEP_OFFLOAD_WAIT, 0, 1, 0}, {MO_STEP_LOSS, 1, 0, 0}, {MO_STEP_PREFETCH, 0, 1, 0},
    {MO_STEP_PREFETCH_WAIT, 0, 1, 0}, {MO_STEP_BACKWARD, 0, 0, 0}};
enum { FORWARD, LOSS, BACKWARD };
enum { OFFLOAD = 1, OFFLOAD_WAIT, MOVING_LOSS, PREFETCH, PREFETCH_WAIT, MOVING_BACKWARD };

static void record_one(recording *r, network *net, int is_moving, size_t fixed_bytes) {
    static mo_plan_fixed fixed = {"weights", 0, MO_CATEGORY_PARAM};
    mo_plan_desc desc = {0};
    memset(net, 0, sizeof *net);
    net->stages[0].name = "block";
    net->stages[0].output_size = 64;
    net->stages[0].backward_steps = 2;
    net->stages[0].tensors = one_block;
    net->stages[0].n_tensors = n_elements(one_block);
    net->stages[1].name = "loss";
    net->chain.input_size = 64;
    net->chain.stages = net->stages;
    net->chain.n_stages = 2;
    fixed.size = fixed_bytes;
    desc.chain = &net->chain;
    desc.fixed = &fixed;
    desc.n_fixed = 1;
    desc.ops = is_moving ? moving_ops : plain_ops;
    desc.n_ops = is_moving ? n_elements(moving_ops) : n_elements(plain_ops);
    record(r, &desc);
}

static void assert_rejected(recording *r, const char *message) {
    test_log text;
    mo_log log = test_log_begin(&text);
    r->desc.log = &log;
    assert_int_equal(mo_plan_check_steps(&r->desc), MO_E_INVALID);
    assert_string_equal(text.text, message);
    r->desc.log = NULL;
}

/* A message with an offset in it. */
static const char *with_byte(const char *format, const recording *r, const void *address) {
    static char text[256];
    snprintf(
        text, sizeof text, format, (size_t)((const char *)address - (const char *)r->desc.base));
    return text;
}

static void wrong_addresses_are_named(void **state) {
    (void)state;
    static recording r;
    network net;
    record_one(&r, &net, 0, 100);
    mo_step *s = r.steps;
    void *saved = r.rows[FORWARD][0], *y = s[FORWARD].y, *dx = s[LOSS].dx;

    r.rows[FORWARD][0] = NULL;
    assert_rejected(&r, "plan: step 0 (forward of stage 0 block): saved has no address");
    r.rows[FORWARD][0] = saved;

    s[FORWARD].y = NULL; /* which says that nobody reads it */
    assert_int_equal(mo_plan_check_steps(&r.desc), MO_E_INVALID);
    s[FORWARD].y = (void *)(uintptr_t)s[FORWARD].x;
    assert_rejected(&r,
        with_byte("plan: step 0 (forward of stage 0 block): x is not at byte %zu, which step 0 has "
                  "written",
            &r, s[FORWARD].x));
    s[FORWARD].y = (char *)(uintptr_t)r.desc.base + r.desc.size - 32;
    assert_rejected(&r, "plan: step 0 (forward of stage 0 block): y is not within the block");
    s[FORWARD].y = (char *)(uintptr_t)r.desc.base - 64;
    assert_rejected(&r, "plan: step 0 (forward of stage 0 block): y is not within the block");
    s[FORWARD].y = (char *)(uintptr_t)r.desc.base;
    assert_rejected(&r, "plan: step 0 (forward of stage 0 block): y is among the fixed bytes");
    s[FORWARD].y = (char *)y + 8;
    assert_rejected(&r, "plan: step 0 (forward of stage 0 block): y is not aligned");
    s[FORWARD].y = y;

    s[LOSS].dx = saved; /* what backward still reads */
    s[BACKWARD].dy = saved;
    assert_rejected(&r,
        with_byte("plan: step 2 (backward of stage 0 block): saved is not at byte %zu, which step "
                  "1 has written",
            &r, saved));
    s[LOSS].dx = dx;
    assert_rejected(&r,
        with_byte("plan: step 2 (backward of stage 0 block): dy is not at byte %zu, which step 0 "
                  "has written",
            &r, saved));
    s[BACKWARD].dy = dx;
    test_ok(mo_plan_check_steps(&r.desc));

    s[LOSS].op = MO_STEP_BACKWARD;
    assert_rejected(&r,
        "schedule: op 1 (backward of stage 1): backward must follow the loss, once "
        "per stage, in reverse order");
    free(r.memory);
}

/* dsaved and dx are live at sub-step 1 and 0..1 of backward, saved at 0. */
static void sub_steps_count(void **state) {
    (void)state;
    static recording r;
    network net;
    record_one(&r, &net, 0, 0);
    void *dx = r.steps[BACKWARD].dx, *dsaved = r.rows[BACKWARD][1];
    r.rows[BACKWARD][1] = r.rows[BACKWARD][0]; /* saved is dead by then */
    test_ok(mo_plan_check_steps(&r.desc));
    r.rows[BACKWARD][1] = dx;
    assert_rejected(&r,
        with_byte("plan: step 2 (backward of stage 0 block): dx is not at byte %zu, which step 2 "
                  "has written",
            &r, dx));
    r.rows[BACKWARD][1] = dsaved;
    r.steps[BACKWARD].dx = r.rows[BACKWARD][0]; /* and this one begins too early */
    assert_rejected(&r,
        with_byte("plan: step 2 (backward of stage 0 block): saved is not at byte %zu, which step "
                  "2 has written",
            &r, r.rows[BACKWARD][0]));
    free(r.memory);
}

static void wrong_copies_are_named(void **state) {
    (void)state;
    static recording r;
    network net;
    record_one(&r, &net, 1, 0);
    mo_plan_copy *out = r.copies[OFFLOAD], *out_wait = r.copies[OFFLOAD_WAIT];
    const char *saved = r.copies[PREFETCH]->address;
    assert_int_equal(r.steps[OFFLOAD].n_copies, 1);

    out->size = 64;
    assert_rejected(&r,
        "plan: step 2 (offload_wait of stage 0 block): list of copies is not that "
        "of its start");
    out_wait->size = 64; /* the rest does not come back */
    assert_rejected(&r,
        with_byte("plan: step 6 (backward of stage 0 block): saved is not at byte %zu, which step "
                  "5 has written",
            &r, saved + 64));
    out->size = out_wait->size = 128;
    out->store_off = 64;
    assert_rejected(&r, "plan: step 1 (offload of stage 0 block): copy is not within the store");
    out->store_off = 0;
    free(r.memory);

    record_one(&r, &net, 1, 0);
    r.steps[OFFLOAD_WAIT] = r.steps[MOVING_LOSS]; /* the loss while the copy is on its way */
    r.steps[MOVING_LOSS] = r.steps[OFFLOAD];
    r.steps[MOVING_LOSS].op = MO_STEP_OFFLOAD_WAIT;
    test_ok(mo_plan_check_steps(&r.desc));
    r.steps[OFFLOAD_WAIT].dx = r.rows[FORWARD][0];
    assert_rejected(&r,
        with_byte("plan: step 3 (offload_wait of stage 0 block): what is being copied is not at "
                  "byte %zu, which step 2 has written",
            &r, r.rows[FORWARD][0]));
    free(r.memory);

    record_one(&r, &net, 1, 0);
    r.steps[PREFETCH_WAIT] = r.steps[MOVING_LOSS]; /* the loss while it is on its way back */
    r.steps[MOVING_LOSS] = r.steps[PREFETCH];
    r.steps[PREFETCH] = r.steps[PREFETCH_WAIT];
    r.steps[PREFETCH_WAIT] = r.steps[MOVING_LOSS];
    r.steps[PREFETCH_WAIT].op = MO_STEP_PREFETCH_WAIT;
    test_ok(mo_plan_check_steps(&r.desc));
    r.steps[PREFETCH].dx = r.copies[PREFETCH][0].address;
    assert_rejected(&r,
        with_byte("plan: step 5 (prefetch_wait of stage 0 block): what was copied is not at byte "
                  "%zu, which step 4 has written",
            &r, r.steps[PREFETCH].dx));
    free(r.memory);
}

static void nonsense_is_rejected(void **state) {
    (void)state;
    static recording r;
    network net;
    mo_plan_check_desc desc = {0};
    assert_int_equal(mo_plan_check(NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_plan_check_steps(NULL), MO_E_INVALID);
    assert_int_equal(mo_plan_check_steps(&desc), MO_E_INVALID);
    record_one(&r, &net, 0, 0);
    r.desc.align = 48;
    assert_int_equal(mo_plan_check_steps(&r.desc), MO_E_INVALID);
    r.desc.align = 0;
    test_ok(mo_plan_check_steps(&r.desc));
    r.desc.chain = NULL;
    assert_int_equal(mo_plan_check_steps(&r.desc), MO_E_INVALID);
    free(r.memory);
}

/* ---- properties ---------------------------------------------------------------------------- */

/* An address somewhere else in the block, a copy somewhere else in the store. */
static void corrupt_address(test_rng *rng, const recording *r, const void **address, size_t size) {
    size_t room = r->desc.size - r->desc.fixed_bytes;
    if (!*address || size == 0 || room < size) return;
    size_t off = r->desc.fixed_bytes + test_below(rng, room - size + 1);
    if (off / 64 * 64 >= r->desc.fixed_bytes)
        *address = (const unsigned char *)r->desc.base + off / 64 * 64;
}

/* The list of the WAIT too: that the lists differ is another mistake. */
static void corrupt_copy(test_rng *rng, recording *r, size_t k) {
    const mo_step *step = &r->steps[k];
    size_t i = test_below(rng, step->n_copies + 1), wait = k + 1;
    mo_plan_copy *copy = &r->copies[k][i];
    const void *address = copy->address;
    if (i == step->n_copies || step->op == MO_STEP_OFFLOAD_WAIT ||
        step->op == MO_STEP_PREFETCH_WAIT)
        return;
    if (test_below(rng, 2)) corrupt_address(rng, r, &address, copy->size);
    else copy->store_off = test_below(rng, r->desc.store_bytes - copy->size + 1);
    copy->address = (void *)(uintptr_t)address;
    while (r->steps[wait].op != step->op + 1 || r->steps[wait].stage != step->stage ||
        r->steps[wait].save != step->save)
        wait++;
    r->copies[wait][i] = *copy;
}

static void corrupt(test_rng *rng, recording *r) {
    size_t k = test_below(rng, r->desc.n_steps);
    mo_step *step = &r->steps[k];
    const mo_stage *stage = &r->desc.chain->stages[step->stage];
    size_t x_size = step->stage ? stage[-1].output_size : r->desc.chain->input_size;
    const void *address;
    if (step->op >= MO_STEP_OFFLOAD) {
        corrupt_copy(rng, r, k);
        return;
    }
    switch (test_below(rng, 4)) {
    case 0: corrupt_address(rng, r, &step->x, x_size); return;
    case 1:
        address = step->y;
        corrupt_address(rng, r, &address, stage->output_size);
        step->y = (void *)(uintptr_t)address;
        return;
    case 2:
        if (step->dx == step->dy) return; /* the simulation asserts that in place is allowed */
        address = step->dx;
        corrupt_address(rng, r, &address, x_size);
        if (address != step->dy) step->dx = (void *)(uintptr_t)address;
        return;
    default:
        for (size_t i = 0; i < stage->n_tensors; i++) {
            address = r->rows[k][i];
            if (test_below(rng, 2)) corrupt_address(rng, r, &address, stage->tensors[i].size);
            r->rows[k][i] = (void *)(uintptr_t)address;
        }
    }
}

/* What the check accepts, a network survives. What it rejects harms a network, but for tensors of
 * so few bytes that two may be equal by chance, and for copies that harm at other times only. */
static void the_check_agrees_with_a_simulated_network(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("the_check_agrees_with_a_simulated_network");
    static recording r;
    size_t n_accepted = 0, n_rejected = 0, n_harmless = 0;
    for (int round = 0; round < 1500; round++) {
        network net;
        mo_remat_op ops[MAX_OPS];
        mo_plan_desc desc = {0};
        random_network(&rng, &net);
        desc.chain = &net.chain;
        desc.ops = ops;
        desc.n_ops = random_schedule(&rng, &net.chain, ops);
        if (test_below(&rng, 2)) desc.n_ops = random_moves(&rng, &net.chain, ops, desc.n_ops);
        record(&r, &desc);
        assert_int_equal(simulate(&r), 0);
        memset(r.memory, 0xdd, r.desc.size);
        corrupt(&rng, &r);
        int is_accepted = mo_plan_check_steps(&r.desc) == MO_OK;
        size_t n_wrong = simulate(&r);
        if (is_accepted) assert_int_equal(n_wrong, 0);
        n_accepted += is_accepted;
        n_rejected += !is_accepted;
        n_harmless += !is_accepted && n_wrong == 0;
        free(r.memory);
    }
    print_message(
        "%zu accepted, %zu rejected, %zu of them harmless\n", n_accepted, n_rejected, n_harmless);
    assert_true(n_rejected > 300 && n_harmless * 20 < n_rejected);
}

/* ---- memory -------------------------------------------------------------------------------- */

static void any_failed_allocation_is_reported(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("any_failed_allocation_is_reported");
    network net;
    mo_remat_op ops[MAX_OPS];
    mo_plan_desc desc = {0};
    mo_plan *plan;
    test_heap heap;
    mo_allocator allocator = test_heap_begin(&heap, -1);
    mo_status status = MO_E_NO_MEMORY;
    do {
        random_network(&rng, &net);
        desc.n_ops = random_schedule(&rng, &net.chain, ops);
        desc.n_ops = random_moves(&rng, &net.chain, ops, desc.n_ops);
    } while (desc.n_ops < 60);
    desc.chain = &net.chain;
    desc.ops = ops;
    desc.allocator = &allocator;
    test_ok(mo_plan_create(&plan, &desc));
    const size_t n_live = heap.live_blocks;
    for (int k = 0; status != MO_OK; k++) {
        const int before = heap.n_requests;
        heap.fail_at = before + k;
        status = mo_plan_check(plan, NULL);
        assert_int_equal(status, heap.n_requests > before + k ? MO_E_NO_MEMORY : MO_OK);
        assert_int_equal(heap.live_blocks, n_live);
    }
    assert_true(heap.n_requests > 8); /* the maps grow */
    mo_plan_destroy(plan);
    assert_int_equal(heap.live_blocks, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_addresses_are_named),
        cmocka_unit_test(sub_steps_count),
        cmocka_unit_test(wrong_copies_are_named),
        cmocka_unit_test(nonsense_is_rejected),
        cmocka_unit_test(the_check_agrees_with_a_simulated_network),
        cmocka_unit_test(any_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
