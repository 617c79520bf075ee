/* test_remat_offload.c - mo_remat_offload: schedules that move activations over a link. */
#include "test_util.h"

#include <math.h>

enum { MAX_STAGES = 40, MAX_OPTIONS = 2 };

typedef struct network {
    mo_flat_option options[MAX_STAGES][MAX_OPTIONS];
    mo_flat_stage stages[MAX_STAGES];
    mo_flat_chain chain;
} network;

static void uniform(network *net, size_t n_layers, size_t x, size_t kept) {
    memset(net, 0, sizeof *net);
    for (size_t i = 0; i <= n_layers; i++) {
        net->options[i][0].kept = kept;
        net->stages[i].forward_s = i < n_layers ? 1 : 0;
        net->stages[i].backward_s = i < n_layers ? 2 : 0;
        net->stages[i].output_size = x;
        net->stages[i].options = net->options[i];
        net->stages[i].n_options = 1;
    }
    net->chain.input_size = x;
    net->chain.stages = net->stages;
    net->chain.n_stages = n_layers + 1;
}

static void random_network(network *net, test_rng *r) {
    size_t n = 2 + test_below(r, 18), with_options = test_below(r, 2);
    uniform(net, n, 1, 1);
    net->chain.input_size = test_below(r, 20);
    for (size_t i = 0; i < n; i++) {
        mo_flat_stage *stage = &net->stages[i];
        stage->forward_s = 0.1 + test_uniform(r);
        stage->backward_s = 0.1 + 2 * test_uniform(r);
        stage->output_size = 1 + test_below(r, 20);
        stage->forward_tmp = test_below(r, 10);
        stage->n_options = 1 + (with_options && test_below(r, 2));
        for (size_t k = 0; k < stage->n_options; k++) {
            mo_flat_option *option = &net->options[i][k];
            option->kept = stage->output_size + test_below(r, k ? 30 : 100);
            option->extra_s = k ? 0.3 * test_uniform(r) : 0;
            option->forward_tmp = test_below(r, 10);
            option->backward_tmp = test_below(r, 20);
            option->unread_s = 0.5 * stage->forward_s * (double)test_below(r, 2);
        }
    }
    net->stages[n].forward_tmp = test_below(r, 20);
    net->stages[n].backward_s = test_uniform(r);
}

/* Store-all peak, and the least budget of recomputation. */
static size_t peak_of_store_all(const network *net) {
    mo_flat_op ops[2 * MAX_STAGES];
    mo_flat_result result;
    size_t n = 0, last = net->chain.n_stages - 1;
    for (size_t i = 0; i < last; i++) ops[n++] = (mo_flat_op){i, MO_FLAT_SAVE, 0};
    ops[n++] = (mo_flat_op){last, MO_FLAT_LOSS, 0};
    for (size_t i = last; i-- > 0;) ops[n++] = (mo_flat_op){i, MO_FLAT_BACKWARD, 0};
    test_ok(mo_remat_flat_simulate(&net->chain, 0, ops, n, NULL, NULL, NULL, &result));
    return result.peak_bytes;
}

static size_t floor_of(const network *net) {
    size_t bytes = 0;
    test_ok(mo_remat_floor(&net->chain, 0, MO_REMAT_MODE_ANY, NULL, &bytes));
    return bytes;
}

/* ---- a second simulator -------------------------------------------------------------------- */

/* Runs the list op by op, with a compute stream and two copy streams, and checks that everything
 * that is read is there. x[i] is plain, or inside kept[i - 1]. */
typedef struct machine {
    const mo_flat_chain *chain;
    const mo_offload_link *link;
    double now, out_free, in_free;
    double out_end[MAX_STAGES], in_end[MAX_STAGES];
    int x[MAX_STAGES + 1], kept[MAX_STAGES], dx[MAX_STAGES + 1]; /* kept: 1 + option */
    int arriving[MAX_STAGES];                                    /* has bytes, may not be read */
    int stored[MAX_STAGES]; /* 1 = on its way out, 2 = in the store */
    size_t live, peak, store, store_peak;
    int n_backward;
} machine;

static size_t x_size(const mo_flat_chain *chain, size_t i) {
    return i == 0 ? chain->input_size : chain->stages[i - 1].output_size;
}

static int has_x(const machine *m, size_t i) {
    if (i > 0 && m->arriving[i - 1]) return 0;
    return m->x[i] || (i > 0 && m->kept[i - 1]);
}

static void create(machine *m, size_t bytes, size_t tmp) {
    m->live += bytes;
    if (m->live + tmp > m->peak) m->peak = m->live + tmp;
}

static void drop_x(machine *m, size_t i) {
    if (m->x[i]) m->live -= x_size(m->chain, i);
    m->x[i] = 0;
}

static void run_op(machine *m, const mo_flat_op *op, double cost) {
    const mo_flat_stage *stage = &m->chain->stages[op->stage];
    const mo_flat_option *option = stage->options ? &stage->options[op->option] : NULL;
    size_t i = op->stage;
    assert_true(has_x(m, i));
    m->now += cost;
    switch (op->kind) {
    case MO_FLAT_KEEP:
    case MO_FLAT_DROP:
        assert_false(m->x[i + 1]);
        create(m, stage->output_size, stage->forward_tmp);
        m->x[i + 1] = 1;
        if (op->kind == MO_FLAT_DROP) drop_x(m, i);
        break;
    case MO_FLAT_SAVE:
    case MO_FLAT_SAVE_DROP:
        assert_false(m->kept[i]);
        create(m, option->kept, option->forward_tmp);
        m->kept[i] = 1 + (int)op->option;
        if (op->kind == MO_FLAT_SAVE_DROP) drop_x(m, i);
        break;
    case MO_FLAT_LOSS:
        create(m, x_size(m->chain, i), stage->forward_tmp);
        drop_x(m, i);
        m->dx[i] = 1;
        break;
    case MO_FLAT_BACKWARD:
        assert_true(m->dx[i + 1] && m->kept[i] == 1 + (int)op->option && !m->arriving[i]);
        create(m, x_size(m->chain, i), option->backward_tmp);
        m->live -= stage->output_size + option->kept;
        m->dx[i + 1] = m->kept[i] = 0;
        m->dx[i] = 1;
        m->n_backward++;
        drop_x(m, i);
        break;
    }
}

static void move(machine *m, const mo_offload_op *op) {
    size_t j = op->flat.stage;
    int is_kept = op->flat.kind == MO_FLAT_SAVE;
    size_t bytes = is_kept ? m->chain->stages[j].options[op->flat.option].kept
                           : m->chain->stages[j].output_size;
    assert_int_equal(op->bytes, bytes);
    switch (op->kind) {
    case MO_OFFLOAD_OUT:
        assert_true(is_kept ? m->kept[j] == 1 + (int)op->flat.option : m->x[j + 1]);
        m->out_free = fmax(m->out_free, m->now) + m->link->latency_s +
            (double)bytes / m->link->out_bytes_per_s;
        m->out_end[j] = m->out_free;
        m->stored[j] = 1;
        m->store += bytes;
        if (m->store > m->store_peak) m->store_peak = m->store;
        break;
    case MO_OFFLOAD_OUT_WAIT:
        assert_int_equal(m->stored[j], 1);
        m->now = fmax(m->now, m->out_end[j]);
        m->stored[j] = 2;
        if (is_kept) m->kept[j] = 0;
        else m->x[j + 1] = 0;
        m->live -= bytes;
        break;
    case MO_OFFLOAD_IN:
        assert_int_equal(m->stored[j], 2);
        m->in_free =
            fmax(m->in_free, m->now) + m->link->latency_s + (double)bytes / m->link->in_bytes_per_s;
        m->in_end[j] = m->in_free;
        m->stored[j] = 0;
        m->arriving[j] = 1;
        create(m, bytes, 0);
        break;
    default:
        assert_true(m->arriving[j]);
        m->now = fmax(m->now, m->in_end[j]);
        m->arriving[j] = 0;
        if (is_kept) m->kept[j] = 1 + (int)op->flat.option;
        else m->x[j + 1] = 1;
        break;
    }
}

/* Whether the next op that has to do with x[stage + 1] behind op k reads it. */
static int output_is_read(const mo_offload_solution *s, size_t k) {
    for (size_t i = k + 1; i < s->n_ops; i++) {
        const mo_flat_op *op = &s->ops[i].flat;
        if (s->ops[i].kind != MO_OFFLOAD_RUN) continue;
        if (op->stage == s->ops[k].flat.stage + 1) return 1;
        if (op->stage == s->ops[k].flat.stage && op->kind != MO_FLAT_BACKWARD) return 0;
    }
    return 0;
}

static double cost_of(const mo_flat_chain *chain, const mo_offload_solution *s, size_t k) {
    const mo_flat_op *op = &s->ops[k].flat;
    const mo_flat_stage *stage = &chain->stages[op->stage];
    if (op->kind == MO_FLAT_LOSS) return stage->forward_s + stage->backward_s;
    if (op->kind == MO_FLAT_BACKWARD) return stage->backward_s + stage->options[op->option].extra_s;
    if (op->kind == MO_FLAT_KEEP || op->kind == MO_FLAT_DROP || output_is_read(s, k))
        return stage->forward_s;
    return stage->forward_s - stage->options[op->option].unread_s;
}

static void check_by_machine(const mo_offload_desc *desc, const mo_offload_solution *s) {
    machine m;
    mo_offload_link link = desc->link;
    if (!(link.in_bytes_per_s > 0)) link.in_bytes_per_s = link.out_bytes_per_s;
    memset(&m, 0, sizeof m);
    m.chain = desc->chain;
    m.link = &link;
    m.x[0] = 1;
    m.live = m.peak = desc->chain->input_size;
    for (size_t k = 0; k < s->n_ops; k++)
        if (s->ops[k].kind == MO_OFFLOAD_RUN) run_op(&m, &s->ops[k].flat, cost_of(m.chain, s, k));
        else move(&m, &s->ops[k]);
    assert_int_equal(m.n_backward, m.chain->n_stages - 1);
    assert_int_equal(m.live, m.chain->input_size);
    assert_true(fabs(m.now - s->makespan_s) < 1e-9 * (1 + m.now)); /* sums in another order */
    assert_int_equal(m.peak, s->peak_bytes);
    assert_true(m.peak <= desc->budget);
    assert_int_equal(m.store_peak, s->store_bytes);
}

static mo_offload_solution solve_and_check(const mo_offload_desc *desc) {
    mo_offload_solution s;
    test_ok(mo_remat_offload(desc, &s));
    if (!s.feasible) {
        assert_null(s.ops);
        return s;
    }
    check_by_machine(desc, &s);
    assert_true(s.makespan_s <= s.recompute_s);
    assert_true(s.makespan_s >= s.ideal_s * (1 - 1e-9));
    assert_true(fabs(s.makespan_s - s.cost_s - s.stall_s) < 1e-9 * (1 + s.makespan_s));
    return s;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void a_fast_link_makes_recomputation_needless(void **state) {
    (void)state;
    network net;
    uniform(&net, 12, 10, 100);
    mo_offload_desc desc = {.chain = &net.chain, .budget = 600};
    desc.link.out_bytes_per_s = 1000;
    mo_offload_solution s = solve_and_check(&desc);
    assert_true(s.feasible && s.n_items > 0);
    assert_true(s.makespan_s == s.ideal_s);
    assert_true(s.recompute_s > s.ideal_s);
    mo_offload_solution_free(&s);
    mo_offload_solution_free(&s);
}

static void without_a_link_it_is_recomputation_alone(void **state) {
    (void)state;
    network net;
    uniform(&net, 12, 10, 100);
    mo_offload_desc desc = {.chain = &net.chain, .budget = 600};
    mo_remat_table_desc table = {.chain = &net.chain, .budget = 600};
    mo_remat_solution alone;
    mo_offload_solution s = solve_and_check(&desc);
    test_ok(mo_remat_optimal(&table, &alone));
    assert_int_equal(s.n_items, 0);
    assert_int_equal(s.n_ops, alone.n_ops);
    assert_true(s.makespan_s == alone.cost_s);
    for (size_t k = 0; k < s.n_ops; k++) {
        assert_int_equal(s.ops[k].kind, MO_OFFLOAD_RUN);
        assert_memory_equal(&s.ops[k].flat, &alone.ops[k], sizeof alone.ops[k]);
    }
    mo_remat_solution_free(&alone);
    mo_offload_solution_free(&s);
}

/* A faster link is never worse, and what it gives lies between recomputation and nothing. */
static void bandwidth_buys_time(void **state) {
    (void)state;
    network net;
    double before = HUGE_VAL;
    uniform(&net, 24, 10, 100);
    for (double bandwidth = 5; bandwidth <= 320; bandwidth *= 2) {
        mo_offload_desc desc = {.chain = &net.chain, .budget = 900};
        desc.link.out_bytes_per_s = bandwidth;
        mo_offload_solution s = solve_and_check(&desc);
        assert_true(s.makespan_s <= before);
        before = s.makespan_s;
        if (bandwidth == 5) assert_true(s.makespan_s > 1.1 * s.ideal_s);
        if (bandwidth == 320) assert_true(s.makespan_s == s.ideal_s);
        mo_offload_solution_free(&s);
    }
}

static void the_store_has_a_limit_too(void **state) {
    (void)state;
    network net;
    uniform(&net, 12, 10, 100);
    mo_offload_desc desc = {.chain = &net.chain, .budget = 600};
    desc.link.out_bytes_per_s = 1000;
    mo_offload_solution all = solve_and_check(&desc);
    desc.store_bytes = all.store_bytes - 1;
    mo_offload_solution some = solve_and_check(&desc);
    assert_true(some.store_bytes < all.store_bytes);
    mo_offload_solution_free(&all);
    mo_offload_solution_free(&some);
}

static void a_long_latency_makes_the_link_useless(void **state) {
    (void)state;
    network net;
    uniform(&net, 12, 10, 100);
    mo_offload_desc desc = {.chain = &net.chain, .budget = 600};
    desc.link.out_bytes_per_s = 1e9;
    desc.link.latency_s = 100;
    mo_offload_solution s = solve_and_check(&desc);
    assert_int_equal(s.n_items, 0);
    mo_offload_solution_free(&s);
}

static void that_nothing_fits_is_an_outcome(void **state) {
    (void)state;
    network net;
    uniform(&net, 16, 50, 60);
    mo_offload_desc desc = {.chain = &net.chain, .budget = 100};
    desc.link.out_bytes_per_s = 100;
    mo_offload_solution s = solve_and_check(&desc);
    assert_false(s.feasible);
    assert_true(s.recompute_s == HUGE_VAL);
    mo_offload_solution_free(&s);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void random_chains_agree_with_the_second_simulator(void **state) {
    (void)state;
    test_rng r = test_rng_begin("random chains");
    int n_moved = 0, n_stalled = 0, n_outputs = 0;
    for (int i = 0; i < 300; i++) {
        network net;
        random_network(&net, &r);
        size_t low = floor_of(&net), high = peak_of_store_all(&net);
        mo_offload_desc desc = {.chain = &net.chain};
        desc.budget = low + test_below(&r, high > low ? high - low + 10 : 10);
        desc.link.out_bytes_per_s = 5 + 200 * test_uniform(&r);
        if (test_below(&r, 2)) desc.link.in_bytes_per_s = 5 + 200 * test_uniform(&r);
        if (test_below(&r, 2)) desc.link.latency_s = 0.1 * test_uniform(&r);
        mo_offload_solution s = solve_and_check(&desc);
        assert_true(s.feasible);
        n_moved += s.n_items > 0;
        n_stalled += s.stall_s > 0.01;
        for (size_t k = 0; k < s.n_ops; k++)
            n_outputs += s.ops[k].kind == MO_OFFLOAD_OUT && s.ops[k].flat.kind == MO_FLAT_KEEP;
        mo_offload_solution_free(&s);
    }
    assert_true(n_moved > 100);
    assert_true(n_stalled > 5);
    assert_true(n_outputs > 5);
}

/* ---- the detailed chain -------------------------------------------------------------------- */

typedef struct detailed {
    mo_stage_tensor tensors[MAX_STAGES][3];
    mo_stage stages[MAX_STAGES];
    mo_chain chain;
} detailed;

static void random_detailed(detailed *net, test_rng *r) {
    size_t n = 3 + test_below(r, 10);
    memset(net, 0, sizeof *net);
    for (size_t i = 0; i <= n; i++) {
        mo_stage *stage = &net->stages[i];
        mo_stage_tensor *t = net->tensors[i];
        stage->output_size = 64 * (1 + test_below(r, 10));
        stage->forward_s = 0.1 + test_uniform(r);
        stage->backward_s = 0.2 + test_uniform(r);
        stage->light_s = 0.1 * test_uniform(r);
        stage->output_s = 0.2 * stage->forward_s;
        if (i == n) continue;
        t[0].size = 64 * test_below(r, 60);
        t[0].role = MO_TENSOR_SAVED;
        t[1].size = 64 * test_below(r, 30);
        t[1].role = MO_TENSOR_CHEAP;
        t[2].size = 64 * test_below(r, 10);
        t[2].role = MO_TENSOR_BACKWARD;
        stage->tensors = t;
        stage->n_tensors = 3;
    }
    net->chain.input_size = 64 * test_below(r, 10);
    net->chain.stages = net->stages;
    net->chain.n_stages = n + 1;
}

/* A plan runs each op to its end before the next: what it has live at once is in the budget, since
 * the flat chain counts at least as much. */
static void plans_take_the_schedule_within_the_budget(void **state) {
    (void)state;
    test_rng r = test_rng_begin("plans");
    int n_moved = 0;
    for (int i = 0; i < 100; i++) {
        detailed net;
        mo_flat_chain flat;
        size_t least = 0, n_ops = 0;
        random_detailed(&net, &r);
        test_ok(mo_remat_flatten(&net.chain, NULL, NULL, &flat));
        test_ok(mo_remat_floor(&flat, 0, MO_REMAT_MODE_ANY, NULL, &least));
        mo_offload_desc desc = {.chain = &flat};
        desc.budget = least + 64 * test_below(&r, 100);
        desc.link.out_bytes_per_s = 200 + 20000 * test_uniform(&r);
        mo_offload_solution s = solve_and_check(&desc);
        mo_remat_op *ops = malloc(2 * s.n_ops * sizeof *ops);
        test_ok(mo_remat_offload_unflatten(&net.chain, s.ops, s.n_ops, NULL, ops, &n_ops));
        test_ok(mo_remat_check(&net.chain, ops, n_ops, NULL));
        assert_true(mo_remat_cost(&net.chain, ops, n_ops) <= s.cost_s * (1 + 1e-9));
        mo_plan *plan;
        mo_plan_desc plan_desc = {.chain = &net.chain, .ops = ops, .n_ops = n_ops};
        test_ok(mo_plan_create(&plan, &plan_desc));
        assert_true(mo_plan_describe(plan).live_bytes <= desc.budget);
        n_moved += s.n_items > 0;
        mo_plan_destroy(plan);
        free(ops);
        mo_offload_solution_free(&s);
        mo_remat_flat_free(&flat, NULL);
    }
    assert_true(n_moved > 30);
}

/* ---- what goes wrong ----------------------------------------------------------------------- */

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    network net;
    mo_offload_solution s;
    uniform(&net, 4, 10, 100);
    mo_offload_desc desc = {.chain = &net.chain, .budget = 600};
    assert_int_equal(mo_remat_offload(NULL, &s), MO_E_INVALID);
    assert_int_equal(mo_remat_offload(&desc, NULL), MO_E_INVALID);
    desc.link.out_bytes_per_s = -1;
    assert_int_equal(mo_remat_offload(&desc, &s), MO_E_INVALID);
    desc.link.out_bytes_per_s = HUGE_VAL;
    assert_int_equal(mo_remat_offload(&desc, &s), MO_E_INVALID);
    desc.link.out_bytes_per_s = 1;
    desc.link.latency_s = NAN;
    assert_int_equal(mo_remat_offload(&desc, &s), MO_E_INVALID);
    desc.link.latency_s = 0;
    net.options[1][0].kept = 5; /* less than its output */
    assert_int_equal(mo_remat_offload(&desc, &s), MO_E_INVALID);
    mo_offload_op op = {MO_OFFLOAD_OUT, {9, MO_FLAT_SAVE, 0}, 1};
    mo_remat_op out[2];
    detailed small;
    test_rng r = {1};
    size_t n;
    random_detailed(&small, &r);
    op.flat.stage = small.chain.n_stages - 1;
    assert_int_equal(mo_remat_offload_unflatten(&small.chain, &op, 1, NULL, out, &n), MO_E_INVALID);
    assert_int_equal(mo_remat_offload_unflatten(NULL, &op, 1, NULL, out, &n), MO_E_INVALID);
}

static void any_failed_allocation_is_reported(void **state) {
    (void)state;
    network net;
    mo_status status = MO_E_NO_MEMORY;
    uniform(&net, 8, 10, 100);
    for (int k = 0; status != MO_OK; k++) {
        test_heap heap;
        mo_allocator allocator = test_heap_begin(&heap, k);
        mo_offload_desc desc = {.chain = &net.chain, .budget = 400, .allocator = &allocator};
        mo_offload_solution s = {.n_ops = 77};
        desc.link.out_bytes_per_s = 50;
        status = mo_remat_offload(&desc, &s);
        assert_int_equal(status, heap.n_requests > k ? MO_E_NO_MEMORY : MO_OK);
        if (status != MO_OK) assert_int_equal(s.n_ops, 77);
        else mo_offload_solution_free(&s);
        assert_int_equal(heap.live_blocks, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fast_link_makes_recomputation_needless),
        cmocka_unit_test(without_a_link_it_is_recomputation_alone),
        cmocka_unit_test(bandwidth_buys_time),
        cmocka_unit_test(the_store_has_a_limit_too),
        cmocka_unit_test(a_long_latency_makes_the_link_useless),
        cmocka_unit_test(that_nothing_fits_is_an_outcome),
        cmocka_unit_test(random_chains_agree_with_the_second_simulator),
        cmocka_unit_test(plans_take_the_schedule_within_the_budget),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(any_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
