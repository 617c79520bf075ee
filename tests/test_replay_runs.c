// LDFLAGS: -Wl,--wrap=mprotect
/* test_replay_runs.c - mo_replay over whole runs: training on many lengths, random deviations,
 * memory that ends. */
#include "test_replay.h"

/* ---- properties ---------------------------------------------------------------------------- */

/* A transformer's training step without in-place operations: two layers, activations kept for
 * backward, gradients of the weights kept to the end of the step. */
enum { LAYERS = 4, CHANNELS = 256, HEADS = 8, VOCAB = 3000 };

typedef struct net {
    mo_replay *replay;
    size_t grads[8 * LAYERS], n_grads;
} net;

static size_t floats(net *n, size_t count) { return take(n->replay, (count * 4 + 63) / 64 * 64); }
static void weight_grad(net *n, size_t count) { n->grads[n->n_grads++] = floats(n, count); }

typedef struct layer {
    size_t norm, qkv, scores, probs, mixed, sum, norm2, hidden, gelu;
} layer;

static size_t forward(net *n, layer *l, size_t x, size_t t) {
    const size_t c = t * CHANNELS;
    (void)x; /* kept: it is the layer's input */
    l->norm = floats(n, c);
    l->qkv = floats(n, 3 * c);
    l->scores = floats(n, t * t * HEADS);
    l->probs = floats(n, t * t * HEADS);
    give(n->replay, l->scores);
    l->mixed = floats(n, c);
    size_t projected = floats(n, c);
    l->sum = floats(n, c);
    give(n->replay, projected);
    l->norm2 = floats(n, c);
    l->hidden = floats(n, 4 * c);
    l->gelu = floats(n, 4 * c);
    projected = floats(n, c);
    size_t y = floats(n, c);
    give(n->replay, projected);
    return y;
}

/* Frees dy, the layer's output y, and what forward has kept; returns dx. */
static size_t backward(net *n, const layer *l, size_t dy, size_t y, size_t t) {
    const size_t c = t * CHANNELS;
    give(n->replay, y);
    size_t dgelu = floats(n, 4 * c);
    weight_grad(n, 4 * CHANNELS * CHANNELS);
    give(n->replay, l->gelu);
    size_t dhidden = floats(n, 4 * c);
    give(n->replay, dgelu);
    give(n->replay, l->hidden);
    size_t dnorm2 = floats(n, c);
    weight_grad(n, 4 * CHANNELS * CHANNELS);
    give(n->replay, dhidden);
    give(n->replay, l->norm2);
    size_t dsum = floats(n, c);
    give(n->replay, dnorm2);
    give(n->replay, dy);
    give(n->replay, l->sum);
    size_t dmixed = floats(n, c);
    weight_grad(n, CHANNELS * CHANNELS);
    give(n->replay, l->mixed);
    size_t dprobs = floats(n, t * t * HEADS), dscores = floats(n, t * t * HEADS);
    give(n->replay, dprobs);
    give(n->replay, l->probs);
    size_t dqkv = floats(n, 3 * c);
    give(n->replay, dscores);
    give(n->replay, dmixed);
    give(n->replay, l->qkv);
    size_t dnorm = floats(n, c);
    weight_grad(n, 3 * CHANNELS * CHANNELS);
    give(n->replay, dqkv);
    give(n->replay, l->norm);
    size_t dx = floats(n, c);
    give(n->replay, dnorm);
    give(n->replay, dsum);
    return dx;
}

static void transformer_step(mo_replay *replay, size_t t) {
    net n = {.replay = replay};
    layer layers[LAYERS];
    size_t x[LAYERS + 1];
    begin(replay, t);
    x[0] = floats(&n, t * CHANNELS);
    for (int i = 0; i < LAYERS; i++) x[i + 1] = forward(&n, &layers[i], x[i], t);
    size_t logits = floats(&n, t * VOCAB), probs = floats(&n, t * VOCAB);
    give(replay, logits);
    size_t dlogits = floats(&n, t * VOCAB);
    give(replay, probs);
    size_t dx = floats(&n, t * CHANNELS);
    weight_grad(&n, VOCAB * CHANNELS);
    give(replay, dlogits);
    for (int i = LAYERS; i-- > 0;) dx = backward(&n, &layers[i], dx, x[i + 1], t);
    give(replay, x[0]);
    give(replay, dx);
    for (size_t i = 0; i < n.n_grads; i++) give(replay, n.grads[i]);
    end(replay);
}

static void steps_of_many_lengths_take_what_is_live_at_once_and_no_more(void **state) {
    (void)state;
    enum { STEPS = 40 };
    test_rng rng = test_rng_begin("replay lengths");
    size_t lengths[STEPS];
    for (int i = 0; i < STEPS; i++) lengths[i] = 128 + test_below(&rng, 897);
    for (int ordered = 0; ordered < 2; ordered++) {
        mo_replay replay;
        mo_replay_desc desc = {
            .size = (size_t)1 << 30, .max_plans = STEPS, .ordered_keys = ordered};
        test_ok(mo_replay_init(&replay, &desc));
        size_t weights = take(&replay, (size_t)40 << 20);
        for (int epoch = 0; epoch < 2; epoch++)
            for (int i = 0; i < STEPS; i++) transformer_step(&replay, lengths[i]);
        mo_replay_stats stats = stats_of(&replay);
        assert_int_equal(stats.replayed_bytes, stats.live_peak_bytes);
        assert_true(stats.reserved_bytes > stats.live_peak_bytes); /* what the record took */
        assert_true(stats.n_hits >= STEPS);
        assert_true(!ordered || stats.n_layouts < STEPS / 2);
        assert_int_equal(stats.n_fallbacks, 0);
        give(&replay, weights);
        mo_replay_free(&replay);
    }
}

/* A program of allocations and frees, run against a list of what is live. */
enum { MAX_OPS = 120, LIVE = 400 };

typedef struct op {
    int is_alloc, id;
    size_t size, align;
} op;

typedef struct program {
    op ops[MAX_OPS];
    int n;
} program;

typedef struct shadow {
    mo_replay replay;
    size_t off[LIVE], size[LIVE];
    int id[LIVE], n;
    size_t bytes, peak;
} shadow;

static void shadow_alloc(shadow *s, const op *o) {
    size_t off, size = (o->size + 63) / 64 * 64;
    if (s->n == LIVE) return;
    test_ok(mo_replay_alloc(&s->replay, o->size, o->align, &off));
    assert_int_equal(off % o->align, 0);
    for (int i = 0; i < s->n; i++)
        assert_true(off + size <= s->off[i] || off >= s->off[i] + (s->size[i] + 63) / 64 * 64);
    s->off[s->n] = off;
    s->size[s->n] = o->size;
    s->id[s->n++] = o->id;
    s->bytes += o->size;
    s->peak = s->bytes > s->peak ? s->bytes : s->peak;
}

static void shadow_free(shadow *s, int i) {
    give(&s->replay, s->off[i]);
    assert_int_equal(mo_replay_dealloc(&s->replay, s->off[i]), MO_E_INVALID);
    s->bytes -= s->size[i];
    s->n--;
    s->off[i] = s->off[s->n];
    s->size[i] = s->size[s->n];
    s->id[i] = s->id[s->n];
}

static void shadow_run(shadow *s, const program *p, uint64_t key) {
    begin(&s->replay, key);
    for (int i = 0; i < p->n; i++) {
        if (p->ops[i].is_alloc) shadow_alloc(s, &p->ops[i]);
        else
            for (int k = s->n; k-- > 0;)
                if (s->id[k] == p->ops[i].id) {
                    shadow_free(s, k);
                    break;
                }
    }
    end(&s->replay);
    mo_replay_stats stats = stats_of(&s->replay);
    assert_int_equal(stats.n_live, s->n);
    assert_int_equal(stats.live_bytes, s->bytes);
    assert_int_equal(stats.live_peak_bytes, s->peak);
    assert_true(stats.replayed_bytes <= stats.reserved_bytes);
}

static op random_alloc(test_rng *rng, int id) {
    op o = {1, id, 1 + test_below(rng, 20000), (size_t)64 << test_below(rng, 4)};
    return o;
}

static program random_program(test_rng *rng) {
    program p = {.n = 0};
    int live[MAX_OPS], n_live = 0, id = 0;
    while (id < 40 || n_live > 0) {
        if (id < 40 && (n_live == 0 || test_below(rng, 5) < 3)) {
            p.ops[p.n++] = random_alloc(rng, id);
            live[n_live++] = id++;
        } else {
            size_t k = test_below(rng, (size_t)n_live);
            p.ops[p.n++] = (op){0, live[k], 0, 0};
            live[k] = live[--n_live];
        }
    }
    return p;
}

static void insert_op(program *p, size_t at, op o) {
    memmove(&p->ops[at + 1], &p->ops[at], ((size_t)p->n++ - at) * sizeof o);
    p->ops[at] = o;
}

/* One to three differences: a block more (that may outlive the step), one less, one of another
 * size, one freed later. */
static program deviation(test_rng *rng, const program *base, int id) {
    program p = *base;
    for (size_t k = 1 + test_below(rng, 3); k > 0; k--) {
        size_t at = test_below(rng, (size_t)p.n), later = at + test_below(rng, (size_t)p.n - at);
        op o = p.ops[at];
        switch (test_below(rng, 4)) {
        case 0:
            if (test_below(rng, 4)) insert_op(&p, later, (op){0, id, 0, 0});
            insert_op(&p, at, random_alloc(rng, id++));
            break;
        case 1: memmove(&p.ops[at], &p.ops[at + 1], (size_t)(--p.n - (int)at) * sizeof o); break;
        case 2: p.ops[at].size = 1 + test_below(rng, 30000); break;
        default:
            if (o.is_alloc) break;
            memmove(&p.ops[at], &p.ops[at + 1], (later - at) * sizeof o);
            p.ops[later] = o;
        }
    }
    return p;
}

static void random_deviations_never_overlap_and_the_plan_comes_back(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("replay deviations");
    shadow *s = calloc(1, sizeof *s);
    program programs[3];
    uint64_t n_back = 0;
    mo_replay_desc desc = {.size = (size_t)64 << 20, .max_live = LIVE, .max_plans = 2};
    test_ok(mo_replay_init(&s->replay, &desc));
    for (int i = 0; i < 3; i++) programs[i] = random_program(&rng);
    for (int step = 0; step < 10000; step += 4) {
        size_t key = test_below(&rng, 3);
        program other = deviation(&rng, &programs[key], 100 + step);
        shadow_run(s, &programs[key], key);
        shadow_run(s, &other, key);
        shadow_run(s, &programs[key], key);
        uint64_t hits = stats_of(&s->replay).n_hits;
        shadow_run(s, &programs[key], key);
        assert_int_equal(stats_of(&s->replay).n_hits, hits + 1);
        n_back++;
        while (s->n > 0 && (s->n > 100 || test_below(&rng, 3) == 0))
            shadow_free(s, (int)test_below(&rng, (size_t)s->n));
    }
    mo_replay_stats stats = stats_of(&s->replay);
    assert_int_equal(stats.n_hits + stats.n_misses + stats.n_fallbacks, 10000);
    assert_true(stats.n_fallbacks > 1000);
    assert_int_equal(n_back, 2500);
    while (s->n > 0) shadow_free(s, s->n - 1);
    size_t all = take(&s->replay, (size_t)64 << 20); /* nothing is lost */
    give(&s->replay, all);
    mo_replay_free(&s->replay);
    free(s);
}

/* ---- failures ------------------------------------------------------------------------------ */

/* Long enough for the record to grow. */
static mo_status long_step(mo_replay *replay, uint64_t key, int n) {
    size_t off[3000];
    begin(replay, key);
    for (int i = 0; i < n; i++) off[i] = take(replay, 64);
    assert_int_equal(stats_of(replay).n_live, n);
    for (int i = 0; i < n; i++) give(replay, off[i]);
    return mo_replay_end_step(replay);
}

static int run_with_failure(int k, int *failed) {
    test_heap heap;
    mo_allocator allocator = test_heap_begin(&heap, k);
    mo_replay replay;
    mo_replay_desc desc = {.size = (size_t)1 << 20, .max_plans = 1, .allocator = &allocator};
    const mo_layout_item items[] = {{64, 0, 0, 0}, {64, 0, 1, 1}};
    *failed = 0;
    mo_status status = mo_replay_init(&replay, &desc);
    if (status == MO_OK) {
        static const int lengths[] = {2, 3, 1500, 1500};
        for (int i = 0; i < 4; i++) {
            status = long_step(&replay, 1, lengths[i]);
            assert_true(status == MO_OK || status == MO_E_NO_MEMORY);
            *failed += status != MO_OK;
        }
        status = mo_replay_add_plan(&replay, 2, items, 2);
        assert_true(status == MO_OK || status == MO_E_NO_MEMORY);
        *failed += status != MO_OK;
        status = long_step(&replay, 3, 1500);
        assert_true(status == MO_OK || status == MO_E_NO_MEMORY);
        *failed += status != MO_OK;
        for (int i = 0; i < 2; i++) test_ok(long_step(&replay, 3, 1500));
        assert_int_equal(stats_of(&replay).live_bytes, 0);
        assert_true(stats_of(&replay).n_hits >= 1);
        mo_replay_free(&replay);
    } else {
        assert_int_equal(status, MO_E_NO_MEMORY);
        *failed = 1;
    }
    assert_int_equal(heap.live_blocks, 0);
    return heap.n_requests > k;
}

static void a_failed_allocation_costs_a_plan_and_nothing_else(void **state) {
    (void)state;
    int k = 0, failed;
    while (run_with_failure(k, &failed)) {
        assert_int_equal(failed, 1);
        k++;
    }
    assert_int_equal(failed, 0);
    assert_true(k > 30); /* every allocation of five plans, and the record that grows */
}

static void a_full_arena_fails_one_block_and_no_other(void **state) {
    (void)state;
    mo_arena arena;
    mo_arena_desc arena_desc = {.limit = 64 * KIB};
    test_ok(mo_arena_init(&arena, &arena_desc));
    mo_replay replay;
    mo_replay_desc desc = {.arena = &arena};
    test_ok(mo_replay_init(&replay, &desc));
    size_t off = 5;
    begin(&replay, 1);
    size_t a = take(&replay, 60 * KIB);
    assert_int_equal(mo_replay_alloc(&replay, 5 * KIB, 0, &off), MO_E_NO_SPACE);
    assert_int_equal(off, 5);
    give(&replay, a);
    end(&replay);
    mo_replay_free(&replay);
    mo_arena_free(&arena);
}

/* The system refuses to commit while this is set. */
static int refuse;
int __real_mprotect(void *ptr, size_t size, int protection);
int __wrap_mprotect(void *ptr, size_t size, int protection);
int __wrap_mprotect(void *ptr, size_t size, int protection) {
    return refuse && protection ? -1 : __real_mprotect(ptr, size, protection);
}

static void memory_that_the_system_refuses_fails_blocks_not_steps(void **state) {
    (void)state;
    mo_arena arena;
    mo_replay replay;
    mo_replay_desc desc = {.arena = &arena};
    const mo_layout_item items[] = {{4 * KIB, 0, 0, 1}, {KIB, 0, 1, 2}, {5 * KIB, 0, 2, 2}};
    test_ok(mo_arena_init(&arena, NULL));
    test_ok(mo_replay_init(&replay, &desc));
    test_ok(mo_replay_add_plan(&replay, 2, items, 3));
    refuse = 1;
    for (uint64_t key = 1; key <= 2; key++) { /* the second has a plan */
        size_t off = 5;
        begin(&replay, key);
        assert_int_equal(mo_replay_alloc(&replay, 4 * KIB, 0, &off), MO_E_NO_MEMORY);
        assert_int_equal(off, 5);
        end(&replay);
        assert_int_equal(stats_of(&replay).n_live, 0);
    }
    assert_steps(&replay, 0, 2, 0);
    refuse = 0;
    small_step(&replay, 2, KIB);
    assert_steps(&replay, 1, 2, 0);
    mo_replay_free(&replay);
    mo_arena_free(&arena);
}

/* Blocks live at once, for a replay over offsets that has room for few of them. */
typedef struct crowd {
    mo_replay replay;
    size_t off[64], size[64], n;
} crowd;

static void crowd_take(crowd *c, size_t size) {
    size_t off;
    if (c->n == n_elements(c->off) || mo_replay_alloc(&c->replay, size, 0, &off) != MO_OK) return;
    for (size_t i = 0; i < c->n; i++)
        assert_true(off + size <= c->off[i] || c->off[i] + c->size[i] <= off);
    c->off[c->n] = off;
    c->size[c->n++] = size;
}

static void crowd_drop(crowd *c, size_t i) {
    test_ok(mo_replay_dealloc(&c->replay, c->off[i]));
    c->n--;
    c->off[i] = c->off[c->n];
    c->size[i] = c->size[c->n];
}

static void crowd_change(crowd *c, test_rng *rng) {
    if (test_below(rng, 5) < 3) crowd_take(c, 1 + test_below(rng, test_below(rng, 3) ? 300 : 4000));
    else if (c->n) crowd_drop(c, test_below(rng, c->n));
}

/* Persistent blocks come and go between steps, and steps leave their plans. */
static void a_full_book_survives_plans_that_are_left(void **state) {
    (void)state;
    test_rng rng = test_rng_begin(__func__);
    for (int round = 0; round < 600; round++) {
        crowd c;
        mo_replay_desc desc = {0};
        mo_replay_stats stats;
        memset(&c, 0, sizeof c);
        desc.size = 4096 * (1 + test_below(&rng, 30));
        desc.granule = (size_t)16 << test_below(&rng, 4);
        desc.max_live = 1 + test_below(&rng, 24);
        desc.max_plans = 1 + test_below(&rng, 3);
        test_ok(mo_replay_init(&c.replay, &desc));
        const uint64_t script = test_u64(&rng);
        for (int step = 0; step < 25; step++) {
            const uint64_t key = test_below(&rng, 2);
            test_rng same = {script + key};
            for (size_t k = test_below(&rng, 8); k > 0; k--) crowd_change(&c, &rng);
            test_ok(mo_replay_begin_step(&c.replay, key));
            for (size_t k = 10 + test_below(&rng, 60); k > 0; k--)
                crowd_change(&c, test_below(&rng, 16) ? &same : &rng);
            const mo_status status = mo_replay_end_step(&c.replay);
            assert_true(status == MO_OK || status == MO_E_NO_MEMORY);
            mo_replay_get_stats(&c.replay, &stats);
            assert_int_equal(stats.n_live, c.n);
        }
        mo_replay_free(&c.replay);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_book_survives_plans_that_are_left),
        cmocka_unit_test(steps_of_many_lengths_take_what_is_live_at_once_and_no_more),
        cmocka_unit_test(random_deviations_never_overlap_and_the_plan_comes_back),
        cmocka_unit_test(a_failed_allocation_costs_a_plan_and_nothing_else),
        cmocka_unit_test(a_full_arena_fails_one_block_and_no_other),
        cmocka_unit_test(memory_that_the_system_refuses_fails_blocks_not_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
