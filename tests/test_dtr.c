/* test_dtr.c - mo_dtr: programs whose tensors are evicted and made again. */
#include "test_util.h"

enum { UNIT = 64, MAX_BLOCK = 1 << 16 };
static _Alignas(64) unsigned char block[MAX_BLOCK];

/* ---- ops that hash ------------------------------------------------------------------------- */

/* Sizes of what an op reads and writes, and how often it ran. */
typedef struct hash_op {
    size_t input_sizes[4], output_sizes[3];
    int n_runs, n_again, fails;
    mo_dtr *reenter;
} hash_op;

static uint64_t mix(uint64_t state, const unsigned char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) state = (state ^ bytes[i]) * 0x100000001b3u;
    return state;
}

static void fill(unsigned char *bytes, size_t n, uint64_t state) {
    test_rng r = {state};
    for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)test_u64(&r);
}

/* Every output byte depends on every input byte, the seed and the number of the output. */
static mo_status run_hash(void *self, const mo_dtr_call *call) {
    hash_op *op = self;
    uint64_t state = call->seed;
    op->n_runs++;
    op->n_again += call->again;
    if (op->fails) return MO_E_IO;
    if (op->reenter) {
        mo_dtr_tensor t;
        assert_int_equal(mo_dtr_constant(op->reenter, NULL, 1, NULL, &t), MO_E_STATE);
    }
    for (size_t k = 0; k < call->n_inputs; k++)
        state = mix(state, call->inputs[k], op->input_sizes[k]);
    for (size_t k = 0; k < call->n_outputs; k++)
        fill(call->outputs[k], op->output_sizes[k], state + k);
    return MO_OK;
}

static mo_dtr begin(size_t budget, mo_dtr_heuristic heuristic, const mo_log *log) {
    mo_dtr dtr;
    mo_dtr_desc desc = {0};
    desc.block = block;
    desc.size = budget;
    desc.heuristic = heuristic;
    desc.log = log;
    test_ok(mo_dtr_init(&dtr, &desc));
    return dtr;
}

/* One output of `units` from up to two inputs. */
static mo_dtr_tensor add_op(mo_dtr *dtr, hash_op *op, const char *name, size_t units, double cost,
    mo_dtr_tensor a, mo_dtr_tensor b) {
    mo_dtr_tensor inputs[2] = {a, b}, output = 0;
    mo_dtr_op_desc desc = {.name = name, .run = run_hash, .self = op, .inputs = inputs};
    desc.n_inputs = (size_t)(a != 0) + (b != 0);
    desc.output_sizes = op->output_sizes;
    desc.n_outputs = 1;
    desc.cost = cost;
    op->output_sizes[0] = units * UNIT;
    test_ok(mo_dtr_op(dtr, &desc, &output));
    return output;
}

static mo_dtr_stats stats_of(const mo_dtr *dtr) {
    mo_dtr_stats stats;
    mo_dtr_get_stats(dtr, &stats);
    return stats;
}

/* Acquires, releases and tells whether that took a recompute. */
static int was_evicted(mo_dtr *dtr, mo_dtr_tensor tensor) {
    uint64_t before = stats_of(dtr).n_recomputes;
    void *address;
    test_ok(mo_dtr_acquire(dtr, tensor, &address));
    test_ok(mo_dtr_release(dtr, tensor));
    return stats_of(dtr).n_recomputes > before;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void an_evicted_tensor_is_made_again(void **state) {
    (void)state;
    hash_op ops[3] = {0};
    mo_dtr dtr = begin(2 * UNIT, MO_DTR_LRU, NULL);
    unsigned char first[UNIT];
    void *address;
    mo_dtr_tensor a = add_op(&dtr, &ops[0], "a", 1, 1, 0, 0);
    test_ok(mo_dtr_acquire(&dtr, a, &address));
    memcpy(first, address, UNIT);
    test_ok(mo_dtr_release(&dtr, a));
    (void)add_op(&dtr, &ops[1], "b", 1, 2, 0, 0);
    (void)add_op(&dtr, &ops[2], "c", 1, 4, 0, 0);
    assert_int_equal(stats_of(&dtr).n_evictions, 1);
    assert_int_equal(ops[0].n_runs, 1);
    test_ok(mo_dtr_acquire(&dtr, a, &address));
    assert_memory_equal(address, first, UNIT);
    assert_int_equal(ops[0].n_runs, 2);
    assert_int_equal(ops[0].n_again, 1);
    mo_dtr_stats stats = stats_of(&dtr);
    assert_int_equal(stats.n_recomputes, 1);
    assert_true(stats.cost == 7 && stats.recompute_cost == 1);
    assert_int_equal(stats.peak_bytes, 2 * UNIT);
    mo_dtr_free(&dtr);
}

static void what_is_acquired_stays_where_it_is(void **state) {
    (void)state;
    hash_op ops[4] = {0};
    mo_dtr dtr = begin(2 * UNIT, MO_DTR_LRU, NULL);
    void *address, *again;
    mo_dtr_tensor a = add_op(&dtr, &ops[0], "a", 1, 1, 0, 0);
    test_ok(mo_dtr_acquire(&dtr, a, &address));
    for (int i = 1; i < 4; i++) (void)add_op(&dtr, &ops[i], "next", 1, 1, 0, 0);
    test_ok(mo_dtr_acquire(&dtr, a, &again));
    assert_ptr_equal(address, again);
    assert_int_equal(ops[0].n_runs, 1);
    assert_int_equal(mo_dtr_drop(&dtr, a), MO_E_STATE);
    test_ok(mo_dtr_release(&dtr, a));
    test_ok(mo_dtr_release(&dtr, a));
    assert_int_equal(mo_dtr_release(&dtr, a), MO_E_STATE);
    mo_dtr_free(&dtr);
}

/* Four tensors in a block of 6 units: a of 1, b of 2 and cheap, c of 2, d of 1, from oldest to
 * newest; e of 1 evicts one of them. */
static char victim_of(mo_dtr_heuristic heuristic) {
    hash_op ops[5] = {0};
    mo_dtr_tensor t[4];
    mo_dtr dtr = begin(6 * UNIT, heuristic, NULL);
    t[0] = add_op(&dtr, &ops[0], "a", 1, 8, 0, 0);
    t[1] = add_op(&dtr, &ops[1], "b", 2, 1, 0, 0);
    t[2] = add_op(&dtr, &ops[2], "c", 2, 9, 0, 0);
    t[3] = add_op(&dtr, &ops[3], "d", 1, 2, 0, 0);
    (void)add_op(&dtr, &ops[4], "e", 1, 1, 0, 0);
    assert_int_equal(stats_of(&dtr).n_evictions, 1);
    char found = 0;
    for (int i = 3; i >= 0 && !found; i--)
        if (was_evicted(&dtr, t[i])) found = (char)('a' + i);
    mo_dtr_free(&dtr);
    return found;
}

static void heuristics_choose_as_their_formulas_say(void **state) {
    (void)state;
    assert_int_equal(victim_of(MO_DTR_LRU), 'a');
    assert_int_equal(victim_of(MO_DTR_LOCAL), 'b');
    assert_int_equal(victim_of(MO_DTR_FULL), 'b');
    assert_int_equal(victim_of(MO_DTR_EQ), 'b');
    assert_int_equal(victim_of(MO_DTR_MSPS), 'b');
    assert_int_equal(victim_of(MO_DTR_SIZE), 'b'); /* of b and c the lower one */
}

/* a -> b -> c, alone: d. With b evicted, c and a are dearer than they look, by b's cost, except
 * that MSPS sees ancestors alone. */
static char second_victim_of(mo_dtr_heuristic heuristic, double cost_of_a) {
    hash_op ops[7] = {0};
    mo_dtr dtr = begin(5 * UNIT, heuristic, NULL);
    mo_dtr_tensor a = add_op(&dtr, &ops[0], "a", 1, cost_of_a, 0, 0);
    mo_dtr_tensor b = add_op(&dtr, &ops[1], "b", 1, 100, a, 0);
    mo_dtr_tensor c = add_op(&dtr, &ops[2], "c", 1, 10, b, 0);
    test_ok(mo_dtr_drop(&dtr, b)); /* gone, but c may need it again */
    mo_dtr_tensor d = add_op(&dtr, &ops[3], "d", 1, 20, 0, 0);
    (void)add_op(&dtr, &ops[4], "late", 2, 1e6, 0, 0); /* makes the others equally stale */
    (void)add_op(&dtr, &ops[5], "new", 1, 1, 0, 0);
    assert_int_equal(stats_of(&dtr).n_evictions, 1);
    char found = 0;
    if (was_evicted(&dtr, d)) found = 'd';
    else if (was_evicted(&dtr, a)) found = 'a';
    else if (was_evicted(&dtr, c)) found = 'c';
    mo_dtr_free(&dtr);
    return found;
}

static void evicted_neighbours_make_a_tensor_dearer(void **state) {
    (void)state;
    assert_int_equal(second_victim_of(MO_DTR_LOCAL, 1000), 'c');
    assert_int_equal(second_victim_of(MO_DTR_FULL, 1000), 'd');
    assert_int_equal(second_victim_of(MO_DTR_EQ, 1000), 'd');
    assert_int_equal(second_victim_of(MO_DTR_MSPS, 1000), 'd');
    assert_int_equal(second_victim_of(MO_DTR_LOCAL, 1), 'a');
    assert_int_equal(second_victim_of(MO_DTR_FULL, 1), 'd');
    assert_int_equal(second_victim_of(MO_DTR_EQ, 1), 'd');
    assert_int_equal(second_victim_of(MO_DTR_MSPS, 1), 'a');
}

/* The cheapest two, t[0] and t[3], are not neighbours. */
static void room_is_made_in_one_piece(void **state) {
    (void)state;
    hash_op ops[6] = {0};
    mo_dtr dtr = begin(5 * UNIT, MO_DTR_LOCAL, NULL);
    mo_dtr_tensor t[4], wait;
    const double costs[4] = {1, 50, 4, 2};
    for (int i = 0; i < 4; i++) t[i] = add_op(&dtr, &ops[i], "t", 1, costs[i], 0, 0);
    wait = add_op(&dtr, &ops[4], "wait", 1, 1e6, 0, 0); /* makes them equally stale */
    test_ok(mo_dtr_drop(&dtr, wait));
    (void)add_op(&dtr, &ops[5], "wide", 3, 1, 0, 0);
    assert_int_equal(stats_of(&dtr).n_evictions, 2);
    assert_false(was_evicted(&dtr, t[0]));
    assert_false(was_evicted(&dtr, t[1]));
    mo_dtr_free(&dtr);
}

static void an_op_with_two_outputs_runs_once_for_both(void **state) {
    (void)state;
    hash_op pair = {{0}, {UNIT, UNIT, 0}, 0, 0, 0, NULL}, other = {0};
    mo_dtr dtr = begin(2 * UNIT, MO_DTR_LOCAL, NULL);
    mo_dtr_op_desc desc = {.run = run_hash, .self = &pair, .n_outputs = 2, .cost = 1};
    desc.output_sizes = pair.output_sizes;
    mo_dtr_tensor t[2], big;
    void *first, *second;
    unsigned char copy[UNIT];
    test_ok(mo_dtr_op(&dtr, &desc, t));
    test_ok(mo_dtr_acquire(&dtr, t[0], &first));
    memcpy(copy, first, UNIT);
    test_ok(mo_dtr_release(&dtr, t[0]));
    big = add_op(&dtr, &other, "big", 2, 1, 0, 0); /* evicts both */
    test_ok(mo_dtr_drop(&dtr, big));
    test_ok(mo_dtr_acquire(&dtr, t[0], &first));
    test_ok(mo_dtr_acquire(&dtr, t[1], &second));
    assert_int_equal(pair.n_runs, 2);
    assert_memory_equal(first, copy, UNIT);
    test_ok(mo_dtr_release(&dtr, t[1]));
    (void)add_op(&dtr, &other, "small", 1, 1, 0, 0); /* evicts the second */
    assert_memory_equal(first, copy, UNIT);
    mo_dtr_free(&dtr);
}

static void running_again_needs_no_room_for_what_is_there(void **state) {
    (void)state;
    hash_op pair = {{0}, {UNIT, UNIT, 0}, 0, 0, 0, NULL}, other = {0};
    mo_dtr dtr = begin(2 * UNIT, MO_DTR_LOCAL, NULL);
    mo_dtr_op_desc desc = {.run = run_hash, .self = &pair, .n_outputs = 2, .cost = 1};
    desc.output_sizes = pair.output_sizes;
    mo_dtr_tensor t[2], small;
    void *first, *second;
    unsigned char copy[UNIT];
    test_ok(mo_dtr_op(&dtr, &desc, t));
    test_ok(mo_dtr_acquire(&dtr, t[0], &first));
    memcpy(copy, first, UNIT);
    small = add_op(&dtr, &other, "small", 1, 1, 0, 0);
    test_ok(mo_dtr_drop(&dtr, small));
    test_ok(mo_dtr_acquire(&dtr, t[1], &second));
    assert_int_equal(pair.n_runs, 2);
    assert_memory_equal(first, copy, UNIT);
    mo_dtr_free(&dtr);
}

/* To make b again takes all of the block, so that a, found there, goes and is made again too. */
static void an_input_that_was_there_goes_when_it_must(void **state) {
    (void)state;
    hash_op ops[4] = {0};
    mo_dtr dtr = begin(3 * UNIT, MO_DTR_LRU, NULL);
    ops[1].input_sizes[0] = 2 * UNIT;
    ops[3].input_sizes[0] = ops[3].input_sizes[1] = UNIT;
    mo_dtr_tensor wide = add_op(&dtr, &ops[0], "wide", 2, 1, 0, 0);
    mo_dtr_tensor b = add_op(&dtr, &ops[1], "b", 1, 1, wide, 0);
    test_ok(mo_dtr_drop(&dtr, wide));
    mo_dtr_tensor filler = add_op(&dtr, &ops[0], "filler", 3, 1, 0, 0);
    test_ok(mo_dtr_drop(&dtr, filler));
    ops[0].output_sizes[0] = 2 * UNIT;
    mo_dtr_tensor a = add_op(&dtr, &ops[2], "a", 1, 1, 0, 0);
    (void)add_op(&dtr, &ops[3], "sum", 1, 1, a, b);
    assert_int_equal(ops[2].n_runs, 2);
    assert_int_equal(ops[1].n_runs, 2);
    mo_dtr_free(&dtr);
}

static void what_nobody_needs_is_forgotten(void **state) {
    (void)state;
    hash_op ops[3] = {0};
    mo_dtr dtr = begin(8 * UNIT, MO_DTR_EQ, NULL);
    mo_dtr_tensor x, a, b, c;
    test_ok(mo_dtr_constant(&dtr, "x", UNIT, NULL, &x));
    ops[0].input_sizes[0] = ops[1].input_sizes[0] = ops[2].input_sizes[0] = UNIT;
    void *address;
    test_ok(mo_dtr_acquire(&dtr, x, &address));
    memset(address, 7, UNIT);
    test_ok(mo_dtr_release(&dtr, x));
    a = add_op(&dtr, &ops[0], "a", 1, 1, x, 0);
    b = add_op(&dtr, &ops[1], "b", 1, 1, a, 0);
    c = add_op(&dtr, &ops[2], "c", 1, 1, b, 0);
    test_ok(mo_dtr_drop(&dtr, x));
    test_ok(mo_dtr_drop(&dtr, a));
    test_ok(mo_dtr_drop(&dtr, b));
    assert_int_equal(mo_dtr_drop(&dtr, b), MO_E_INVALID);
    assert_int_equal(stats_of(&dtr).n_tensors, 4);
    assert_int_equal(stats_of(&dtr).n_resident, 2); /* x cannot be made again */
    test_ok(mo_dtr_drop(&dtr, c));
    assert_int_equal(stats_of(&dtr).n_tensors, 0);
    assert_int_equal(stats_of(&dtr).n_ops, 0);
    assert_int_equal(stats_of(&dtr).resident_bytes, 0);
    mo_dtr_free(&dtr);
}

static void a_kept_tensor_lets_its_ancestors_go(void **state) {
    (void)state;
    hash_op ops[3] = {0};
    mo_dtr dtr = begin(5 * UNIT, MO_DTR_EQ, NULL);
    ops[1].input_sizes[0] = ops[2].input_sizes[0] = UNIT;
    mo_dtr_tensor a = add_op(&dtr, &ops[0], "a", 1, 1, 0, 0);
    mo_dtr_tensor b = add_op(&dtr, &ops[1], "b", 1, 1, a, 0);
    test_ok(mo_dtr_drop(&dtr, a));
    assert_int_equal(stats_of(&dtr).n_tensors, 2);
    test_ok(mo_dtr_keep(&dtr, b));
    assert_int_equal(stats_of(&dtr).n_tensors, 1);
    mo_dtr_tensor c = add_op(&dtr, &ops[2], "c", 3, 1, b, 0);
    mo_dtr_tensor d = add_op(&dtr, &ops[2], "d", 3, 1, b, 0); /* c goes, b does not */
    assert_int_equal(stats_of(&dtr).n_evictions, 1);
    assert_false(was_evicted(&dtr, b));
    test_ok(mo_dtr_drop(&dtr, b));
    assert_true(was_evicted(&dtr, c));
    assert_int_equal(ops[1].n_runs, 1);
    test_ok(mo_dtr_drop(&dtr, c));
    test_ok(mo_dtr_drop(&dtr, d));
    assert_int_equal(stats_of(&dtr).n_tensors, 0);
    mo_dtr_free(&dtr);
}

static void a_kept_output_waits_for_its_siblings(void **state) {
    (void)state;
    hash_op source = {0}, pair = {{UNIT}, {UNIT, UNIT, 0}, 0, 0, 0, NULL};
    mo_dtr dtr = begin(8 * UNIT, MO_DTR_EQ, NULL);
    mo_dtr_tensor a = add_op(&dtr, &source, "a", 1, 1, 0, 0), t[2];
    mo_dtr_op_desc desc = {.run = run_hash, .self = &pair, .inputs = &a, .n_inputs = 1};
    desc.output_sizes = pair.output_sizes;
    desc.n_outputs = 2;
    test_ok(mo_dtr_op(&dtr, &desc, t));
    test_ok(mo_dtr_drop(&dtr, a));
    test_ok(mo_dtr_keep(&dtr, t[0]));
    test_ok(mo_dtr_keep(&dtr, t[0]));
    assert_int_equal(stats_of(&dtr).n_ops, 2);
    test_ok(mo_dtr_drop(&dtr, t[1]));
    assert_int_equal(stats_of(&dtr).n_ops, 1);
    test_ok(mo_dtr_drop(&dtr, t[0]));
    assert_int_equal(stats_of(&dtr).n_ops, 0);
    mo_dtr_free(&dtr);
}

/* Everything behind the first tensor is evicted, so that the last one takes the whole chain. */
static void ten_thousand_ops_are_made_again_without_recursion(void **state) {
    (void)state;
    enum { N = 10000 };
    static mo_dtr_tensor t[N];
    static hash_op op = {{UNIT}, {UNIT}, 0, 0, 0, NULL};
    mo_dtr dtr = begin(4 * UNIT, MO_DTR_LOCAL, NULL);
    for (int i = 0; i < N; i++) {
        t[i] = add_op(&dtr, &op, "link", 1, 1, i ? t[i - 1] : 0, 0);
        if (i) test_ok(mo_dtr_drop(&dtr, t[i - 1]));
    }
    hash_op wide = {0};
    mo_dtr_tensor w = add_op(&dtr, &wide, "wide", 4, 1e9, 0, 0);
    test_ok(mo_dtr_drop(&dtr, w));
    op.n_again = 0;
    assert_true(was_evicted(&dtr, t[N - 1]));
    assert_int_equal(op.n_again, N);
    test_ok(mo_dtr_drop(&dtr, t[N - 1]));
    assert_int_equal(stats_of(&dtr).n_tensors, 0);
    mo_dtr_free(&dtr);
}

/* ---- random programs ----------------------------------------------------------------------- */

enum { MAX_LIVE = 24, MAX_OPS = 400, MAX_BYTES = 1024 };

/* A tensor with the bytes that it must have. */
typedef struct shadow {
    mo_dtr_tensor tensor;
    size_t size;
    int pinned, constant;
    void *address;
    unsigned char bytes[MAX_BYTES];
} shadow;

typedef struct program {
    test_rng rng;
    mo_dtr dtr;
    shadow live[MAX_LIVE];
    size_t n_live;
    hash_op ops[MAX_OPS];
    size_t n_ops, n_refused;
    unsigned char outside[MAX_BYTES];
} program;

static size_t random_size(program *p) { return 1 + test_below(&p->rng, MAX_BYTES); }

static void remove_shadow(program *p, size_t i) {
    shadow *s = &p->live[i];
    if (s->pinned) test_ok(mo_dtr_release(&p->dtr, s->tensor));
    test_ok(mo_dtr_drop(&p->dtr, s->tensor));
    *s = p->live[--p->n_live];
}

static void random_constant(program *p) {
    shadow *s = &p->live[p->n_live];
    memset(s, 0, sizeof *s);
    s->size = random_size(p);
    s->constant = 1;
    int outside = (int)test_below(&p->rng, 2);
    memcpy(s->bytes, p->outside, sizeof s->bytes);
    if (mo_dtr_constant(&p->dtr, "constant", s->size, outside ? p->outside : NULL, &s->tensor) !=
        MO_OK) {
        p->n_refused++;
        return;
    }
    p->n_live++;
    if (outside) return;
    void *address;
    fill(s->bytes, s->size, test_u64(&p->rng));
    test_ok(mo_dtr_acquire(&p->dtr, s->tensor, &address));
    memcpy(address, s->bytes, s->size);
    test_ok(mo_dtr_release(&p->dtr, s->tensor));
}

static void random_op(program *p) {
    hash_op *op = &p->ops[p->n_ops];
    mo_dtr_tensor inputs[4], outputs[3];
    mo_dtr_op_desc desc = {.run = run_hash, .self = op, .inputs = inputs, .seed = p->n_ops};
    uint64_t state = desc.seed;
    desc.output_sizes = op->output_sizes;
    desc.n_inputs = p->n_live ? test_below(&p->rng, 5) : 0;
    desc.n_outputs = 1 + test_below(&p->rng, 3);
    desc.cost = (double)test_below(&p->rng, 10);
    for (size_t k = 0; k < desc.n_inputs; k++) {
        const shadow *s = &p->live[test_below(&p->rng, p->n_live)];
        inputs[k] = s->tensor;
        op->input_sizes[k] = s->size;
        state = mix(state, s->bytes, s->size);
    }
    for (size_t k = 0; k < desc.n_outputs; k++) op->output_sizes[k] = random_size(p);
    if (mo_dtr_op(&p->dtr, &desc, outputs) != MO_OK) {
        p->n_refused++;
        return;
    }
    p->n_ops++;
    for (size_t k = 0; k < desc.n_outputs; k++) {
        shadow *s = &p->live[p->n_live++];
        memset(s, 0, sizeof *s);
        s->tensor = outputs[k];
        s->size = op->output_sizes[k];
        fill(s->bytes, s->size, state + k);
    }
}

/* Looks at a tensor, and may leave it pinned for a while. */
static void random_look(program *p) {
    shadow *s = &p->live[test_below(&p->rng, p->n_live)];
    if (s->pinned) {
        assert_memory_equal(s->address, s->bytes, s->size);
        test_ok(mo_dtr_release(&p->dtr, s->tensor));
        s->pinned = 0;
        return;
    }
    if (mo_dtr_acquire(&p->dtr, s->tensor, &s->address) != MO_OK) {
        p->n_refused++;
        return;
    }
    assert_memory_equal(s->address, s->bytes, s->size);
    s->pinned = test_below(&p->rng, 4) == 0;
    if (!s->pinned) test_ok(mo_dtr_release(&p->dtr, s->tensor));
}

static void random_step(program *p) {
    size_t what = test_below(&p->rng, 100);
    if (p->n_live + 3 > MAX_LIVE) remove_shadow(p, test_below(&p->rng, p->n_live));
    else if (p->n_live == 0 || what < 4) random_constant(p);
    else if (what < 45) random_op(p);
    else if (what < 80) random_look(p);
    else if (what < 82) {
        if (mo_dtr_keep(&p->dtr, p->live[test_below(&p->rng, p->n_live)].tensor) != MO_OK)
            p->n_refused++;
    } else remove_shadow(p, test_below(&p->rng, p->n_live));
}

/* With all pins gone and a budget that was not refused, every tensor still has its bytes. */
static uint64_t run_program(uint64_t seed, mo_dtr_heuristic heuristic, size_t *n_refused) {
    static program p;
    memset(&p, 0, sizeof p);
    p.rng.state = seed;
    fill(p.outside, sizeof p.outside, 99);
    size_t budget = 8 * MAX_BYTES + test_below(&p.rng, 16 * MAX_BYTES);
    p.dtr = begin(budget, heuristic, NULL);
    for (int i = 0; i < 1000 && p.n_ops < MAX_OPS; i++) {
        random_step(&p);
        assert_true(stats_of(&p.dtr).peak_bytes <= budget);
    }
    uint64_t n_recomputes = stats_of(&p.dtr).n_recomputes;
    *n_refused += p.n_refused;
    while (p.n_live > 0) remove_shadow(&p, p.n_live - 1);
    mo_dtr_stats stats = stats_of(&p.dtr);
    assert_int_equal(stats.n_tensors, 0);
    assert_int_equal(stats.n_ops, 0);
    assert_int_equal(stats.resident_bytes, 0);
    mo_dtr_free(&p.dtr);
    return n_recomputes;
}

static void random_programs_give_the_bytes_of_a_run_without_eviction(void **state) {
    (void)state;
    test_rng r = test_rng_begin("random programs");
    for (int h = 0; h <= MO_DTR_MSPS; h++) {
        uint64_t n_recomputes = 0;
        size_t n_refused = 0;
        for (int i = 0; i < 12; i++)
            n_recomputes += run_program(test_u64(&r), (mo_dtr_heuristic)h, &n_refused);
        assert_true(n_recomputes > 100);
        assert_true(n_refused > 0);
    }
}

/* A training step over a chain; the recomputes that a budget costs. */
static double chain_overhead(size_t n, size_t budget, mo_dtr_heuristic heuristic) {
    static hash_op op;
    static mo_dtr_tensor x[256];
    mo_dtr dtr = begin(budget, heuristic, NULL);
    op.input_sizes[0] = op.input_sizes[1] = UNIT;
    for (size_t i = 0; i < n; i++) x[i] = add_op(&dtr, &op, "x", 1, 1, i ? x[i - 1] : 0, 0);
    mo_dtr_tensor dy = add_op(&dtr, &op, "dy", 1, 2, x[n - 1], 0);
    for (size_t i = n - 1; i > 0; i--) {
        mo_dtr_tensor dx = add_op(&dtr, &op, "dx", 1, 2, dy, x[i - 1]);
        test_ok(mo_dtr_drop(&dtr, dy));
        test_ok(mo_dtr_drop(&dtr, x[i]));
        dy = dx;
    }
    mo_dtr_stats stats = stats_of(&dtr);
    mo_dtr_free(&dtr);
    return stats.recompute_cost / stats.cost;
}

/* The paper's theorem: with 2 sqrt(n) tensors of room the ops of a chain stay O(n). */
static void a_chain_in_the_square_root_of_its_memory_costs_a_constant(void **state) {
    (void)state;
    const mo_dtr_heuristic heuristics[] = {MO_DTR_EQ, MO_DTR_FULL, MO_DTR_MSPS};
    for (size_t h = 0; h < n_elements(heuristics); h++) {
        double small = chain_overhead(64, 16 * UNIT + 4 * UNIT, heuristics[h]);
        double large = chain_overhead(256, 32 * UNIT + 4 * UNIT, heuristics[h]);
        assert_true(small > 0 && small < 1);
        assert_true(large < 1);
    }
}

/* ---- what goes wrong ----------------------------------------------------------------------- */

static void a_small_budget_names_what_is_pinned(void **state) {
    (void)state;
    test_log text;
    mo_log log = test_log_begin(&text);
    hash_op ops[3] = {0};
    mo_dtr dtr = begin(4 * UNIT, MO_DTR_EQ, &log);
    mo_dtr_tensor w, a, out = 5;
    void *address;
    test_ok(mo_dtr_constant(&dtr, "weights", 100, NULL, &w));
    a = add_op(&dtr, &ops[0], "relu", 1, 1, 0, 0);
    test_ok(mo_dtr_acquire(&dtr, a, &address));
    const size_t sizes[2] = {UNIT, 70};
    mo_dtr_op_desc desc = {.name = "matmul", .run = run_hash, .self = &ops[1]};
    desc.output_sizes = sizes;
    desc.n_outputs = 2;
    mo_dtr_tensor pair[2] = {5, 5};
    assert_int_equal(mo_dtr_op(&dtr, &desc, pair), MO_E_NO_SPACE);
    assert_int_equal(pair[0], 5);
    assert_int_equal(ops[1].n_runs, 0);
    assert_string_equal(text.text,
        "dtr: matmul:1 needs 70 bytes in one piece of 256; 228 are pinned: weights (100), "
        "relu (64), matmul:0 (64)");
    assert_int_equal(stats_of(&dtr).n_tensors, 2);
    assert_int_equal(mo_dtr_constant(&dtr, "huge", 300, NULL, &out), MO_E_NO_SPACE);
    assert_int_equal(out, 5);
    assert_int_equal(stats_of(&dtr).n_tensors, 2);
    mo_dtr_free(&dtr);
}

static void a_failing_op_leaves_all_as_it_was(void **state) {
    (void)state;
    hash_op ops[3] = {0};
    mo_dtr dtr = begin(3 * UNIT, MO_DTR_EQ, NULL);
    ops[1].input_sizes[0] = UNIT;
    mo_dtr_tensor a = add_op(&dtr, &ops[0], "a", 1, 1, 0, 0);
    mo_dtr_tensor b = add_op(&dtr, &ops[1], "b", 1, 1, a, 0);
    mo_dtr_tensor wide = add_op(&dtr, &ops[2], "wide", 3, 1, 0, 0);
    void *address = NULL;
    ops[0].fails = 1;
    assert_int_equal(mo_dtr_acquire(&dtr, b, &address), MO_E_IO);
    assert_null(address);
    const size_t size = UNIT;
    mo_dtr_op_desc desc = {.run = run_hash, .self = &ops[0], .inputs = &b, .n_inputs = 1};
    desc.output_sizes = &size;
    desc.n_outputs = 1;
    mo_dtr_tensor out = 5;
    assert_int_equal(mo_dtr_op(&dtr, &desc, &out), MO_E_IO);
    assert_int_equal(out, 5);
    assert_int_equal(stats_of(&dtr).n_tensors, 3);
    ops[0].fails = 0;
    test_ok(mo_dtr_acquire(&dtr, b, &address));
    test_ok(mo_dtr_release(&dtr, b));
    test_ok(mo_dtr_drop(&dtr, wide));
    test_ok(mo_dtr_drop(&dtr, b));
    test_ok(mo_dtr_drop(&dtr, a));
    assert_int_equal(stats_of(&dtr).resident_bytes, 0);
    mo_dtr_free(&dtr);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    hash_op op = {0};
    mo_dtr dtr;
    mo_dtr_desc desc = {0};
    size_t size, out_size = UNIT;
    assert_int_equal(mo_dtr_init(&dtr, &desc), MO_E_INVALID);
    desc.block = block + 1;
    desc.size = UNIT;
    assert_int_equal(mo_dtr_init(&dtr, &desc), MO_E_INVALID);
    desc.block = block;
    desc.heuristic = (mo_dtr_heuristic)(MO_DTR_MSPS + 1);
    assert_int_equal(mo_dtr_init(&dtr, &desc), MO_E_INVALID);
    desc.max_tensors = SIZE_MAX / 2;
    assert_int_equal(mo_dtr_workspace_size(&desc, &size), MO_E_INVALID);
    dtr = begin(8 * UNIT, MO_DTR_EQ, NULL);
    mo_dtr_tensor t = add_op(&dtr, &op, "t", 1, 1, 0, 0), stale = t, out;
    test_ok(mo_dtr_drop(&dtr, t));
    t = add_op(&dtr, &op, "t", 1, 1, 0, 0);
    assert_true(t != stale); /* though it has the same slot */
    void *address;
    assert_int_equal(mo_dtr_acquire(&dtr, stale, &address), MO_E_INVALID);
    assert_int_equal(mo_dtr_release(&dtr, stale), MO_E_INVALID);
    assert_int_equal(mo_dtr_keep(&dtr, stale), MO_E_INVALID);
    assert_int_equal(mo_dtr_constant(&dtr, NULL, 0, NULL, &out), MO_E_INVALID);
    mo_dtr_op_desc wrong = {.run = run_hash, .self = &op, .output_sizes = &out_size};
    assert_int_equal(mo_dtr_op(&dtr, &wrong, &out), MO_E_INVALID);
    wrong.n_outputs = 1;
    wrong.inputs = &stale;
    wrong.n_inputs = 1;
    assert_int_equal(mo_dtr_op(&dtr, &wrong, &out), MO_E_INVALID);
    wrong.n_inputs = 0;
    wrong.cost = -1;
    assert_int_equal(mo_dtr_op(&dtr, &wrong, &out), MO_E_INVALID);
    wrong.cost = 0;
    out_size = 0;
    assert_int_equal(mo_dtr_op(&dtr, &wrong, &out), MO_E_INVALID);
    out_size = UNIT;
    op.reenter = &dtr;
    test_ok(mo_dtr_op(&dtr, &wrong, &out));
    mo_dtr_free(&dtr);
}

static void limits_of_the_books_are_kept(void **state) {
    (void)state;
    hash_op op = {0};
    mo_dtr dtr;
    mo_dtr_desc desc = {.block = block, .size = 64 * UNIT, .max_tensors = 2, .max_inputs = 1};
    desc.max_args = 2;
    test_ok(mo_dtr_init(&dtr, &desc));
    mo_dtr_tensor a = add_op(&dtr, &op, "a", 1, 1, 0, 0), out[3], two[2] = {a, a};
    const size_t sizes[3] = {UNIT, UNIT, UNIT};
    mo_dtr_op_desc many = {.run = run_hash, .self = &op, .output_sizes = sizes, .inputs = two};
    many.n_outputs = 3;
    assert_int_equal(mo_dtr_op(&dtr, &many, out), MO_E_NO_SPACE); /* max_args */
    many.n_outputs = 2;
    assert_int_equal(mo_dtr_op(&dtr, &many, out), MO_E_NO_SPACE); /* max_tensors */
    many.n_outputs = 1;
    many.n_inputs = 2;
    assert_int_equal(mo_dtr_op(&dtr, &many, out), MO_E_NO_SPACE); /* max_args */
    many.n_inputs = 1;
    op.input_sizes[0] = UNIT;
    test_ok(mo_dtr_op(&dtr, &many, out));
    assert_int_equal(mo_dtr_constant(&dtr, NULL, 1, NULL, &out[1]), MO_E_NO_SPACE);
    test_ok(mo_dtr_drop(&dtr, out[0]));
    test_ok(mo_dtr_op(&dtr, &many, out)); /* its input's slot came back */
    mo_dtr_free(&dtr);
}

static void any_failed_allocation_is_reported(void **state) {
    (void)state;
    mo_status status = MO_E_NO_MEMORY;
    for (int k = 0; status != MO_OK; k++) {
        test_heap heap;
        mo_allocator allocator = test_heap_begin(&heap, k);
        mo_dtr_desc desc = {.block = block, .size = UNIT, .allocator = &allocator};
        mo_dtr dtr;
        status = mo_dtr_init(&dtr, &desc);
        assert_int_equal(status, heap.n_requests > k ? MO_E_NO_MEMORY : MO_OK);
        if (status == MO_OK) mo_dtr_free(&dtr);
        assert_int_equal(heap.live_blocks, 0);
    }
}

static void the_books_fit_into_the_callers_memory(void **state) {
    (void)state;
    hash_op op = {0};
    test_heap heap;
    mo_allocator allocator = test_heap_begin(&heap, -1);
    mo_dtr_desc desc = {.block = block, .size = 4 * UNIT, .max_tensors = 8};
    size_t size;
    test_ok(mo_dtr_workspace_size(&desc, &size));
    char *memory = malloc(size + 1);
    mo_dtr dtr;
    desc.workspace = memory + 1;
    desc.allocator = &allocator;
    test_ok(mo_dtr_init(&dtr, &desc));
    for (int i = 0; i < 8; i++) (void)add_op(&dtr, &op, "t", 1, 1, 0, 0);
    mo_dtr_free(&dtr);
    assert_int_equal(heap.n_requests, 0);
    free(memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_evicted_tensor_is_made_again),
        cmocka_unit_test(what_is_acquired_stays_where_it_is),
        cmocka_unit_test(heuristics_choose_as_their_formulas_say),
        cmocka_unit_test(evicted_neighbours_make_a_tensor_dearer),
        cmocka_unit_test(room_is_made_in_one_piece),
        cmocka_unit_test(an_op_with_two_outputs_runs_once_for_both),
        cmocka_unit_test(running_again_needs_no_room_for_what_is_there),
        cmocka_unit_test(an_input_that_was_there_goes_when_it_must),
        cmocka_unit_test(what_nobody_needs_is_forgotten),
        cmocka_unit_test(a_kept_tensor_lets_its_ancestors_go),
        cmocka_unit_test(a_kept_output_waits_for_its_siblings),
        cmocka_unit_test(ten_thousand_ops_are_made_again_without_recursion),
        cmocka_unit_test(random_programs_give_the_bytes_of_a_run_without_eviction),
        cmocka_unit_test(a_chain_in_the_square_root_of_its_memory_costs_a_constant),
        cmocka_unit_test(a_small_budget_names_what_is_pinned),
        cmocka_unit_test(a_failing_op_leaves_all_as_it_was),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(limits_of_the_books_are_kept),
        cmocka_unit_test(any_failed_allocation_is_reported),
        cmocka_unit_test(the_books_fit_into_the_callers_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
