/* test_remat_optimal.c - the flat chain, the table and the floor against an exhaustive search. */
#include "test_util.h"
#include <math.h>

enum { MAX_STAGES = 400, MAX_OPTIONS = 2 };

typedef struct test_chain {
    mo_flat_chain chain;
    mo_flat_stage stages[MAX_STAGES];
    mo_flat_option options[MAX_STAGES][MAX_OPTIONS];
} test_chain;

/* ---- chains -------------------------------------------------------------------------------- */

static void begin_chain(test_chain *c, size_t input_size, size_t n_stages) {
    memset(c, 0, sizeof *c);
    c->chain.input_size = input_size;
    c->chain.stages = c->stages;
    c->chain.n_stages = n_stages;
    for (size_t i = 0; i < n_stages; i++) {
        c->stages[i].options = c->options[i];
        c->stages[i].n_options = 1;
    }
}

/* Small whole numbers, so that sums in floats are exact. */
static void random_chain(test_rng *rng, test_chain *c, size_t n_layers, size_t n_options) {
    begin_chain(c, 1 + test_below(rng, 6), n_layers + 1);
    for (size_t i = 0; i < n_layers; i++) {
        mo_flat_stage *stage = &c->stages[i];
        stage->forward_s = (double)(1 + test_below(rng, 9));
        stage->backward_s = (double)test_below(rng, 9);
        stage->output_size = 1 + test_below(rng, 6);
        stage->forward_tmp = test_below(rng, 4);
        stage->n_options = 1 + test_below(rng, n_options);
        for (size_t k = 0; k < stage->n_options; k++) {
            c->options[i][k].kept = stage->output_size + test_below(rng, 9);
            c->options[i][k].extra_s = k == 0 ? 0 : (double)test_below(rng, 5);
            c->options[i][k].forward_tmp = test_below(rng, 4);
            c->options[i][k].backward_tmp = test_below(rng, 4);
        }
    }
    c->stages[n_layers].backward_s = (double)test_below(rng, 3);
    c->stages[n_layers].forward_tmp = test_below(rng, 3);
}

static mo_flat_result simulate(const test_chain *c, const mo_flat_op *ops, size_t n_ops) {
    mo_flat_result result;
    test_ok(mo_remat_flat_simulate(&c->chain, 0, ops, n_ops, NULL, NULL, NULL, &result));
    return result;
}

static size_t store_all_peak(const test_chain *c) {
    mo_remat_solution s;
    test_ok(mo_remat_baseline_solve(&c->chain, MO_BASELINE_NONE, SIZE_MAX, NULL, NULL, &s));
    size_t peak = s.peak_bytes;
    mo_remat_solution_free(&s);
    return peak;
}

static mo_remat_solution solve(const test_chain *c, size_t budget, mo_remat_mode mode) {
    mo_remat_table_desc desc = {.chain = &c->chain, .budget = budget, .mode = mode};
    mo_remat_solution s;
    test_ok(mo_remat_optimal(&desc, &s));
    if (s.feasible) {
        mo_flat_result result = simulate(c, s.ops, s.n_ops);
        assert_true(s.peak_bytes <= budget);
        assert_int_equal(result.peak_bytes, s.peak_bytes);
        assert_true(result.cost_s == s.cost_s);
        assert_int_equal(s.floor_bytes, 0);
    } else {
        assert_true(s.floor_bytes > budget);
        assert_null(s.ops);
    }
    return s;
}

/* ---- the exhaustive search: shortest paths over what is in memory --------------------------- */

enum { MAX_STATES = 1 << 17, MAX_ENTRIES = 1 << 19, MAX_COST = 1000 };

/* What is there: plain x as bits, kept[i] by option + 1, and which dx: L + 1 = none yet. */
typedef struct memory {
    unsigned x, kept[6], dx;
} memory;

/* A state in the bucket of its cost; one reached again at a lower cost is in two. */
typedef struct entry {
    memory memory;
    int next;
} entry;

typedef struct search {
    const test_chain *c;
    size_t n, budget; /* layers; bytes */
    int keep_input;   /* x[i] is not dropped while stage i is saved */
    int dist[MAX_STATES], bucket[MAX_COST];
    entry entries[MAX_ENTRIES];
    int n_entries;
} search;

static size_t x_size(const test_chain *c, size_t i) {
    return i == 0 ? c->chain.input_size : c->stages[i - 1].output_size;
}

static int has_x(const memory *m, size_t i) { return (m->x >> i & 1) || (i > 0 && m->kept[i - 1]); }

static size_t bytes_of(const search *s, const memory *m) {
    size_t bytes = m->dx <= s->n ? x_size(s->c, m->dx) : 0;
    for (size_t i = 0; i <= s->n; i++) bytes += (m->x >> i & 1) ? x_size(s->c, i) : 0;
    for (size_t i = 0; i < s->n; i++)
        bytes += m->kept[i] ? s->c->options[i][m->kept[i] - 1].kept : 0;
    return bytes;
}

static size_t index_of(const search *s, const memory *m) {
    size_t index = m->dx;
    for (size_t i = 0; i < s->n; i++) index = index * (MAX_OPTIONS + 1) + m->kept[i];
    return index << (s->n + 1) | m->x;
}

static void reach(search *s, const memory *m, int cost) {
    size_t index = index_of(s, m);
    assert_true(index < MAX_STATES && cost < MAX_COST);
    if (s->dist[index] <= cost) return;
    s->dist[index] = cost;
    assert_true(s->n_entries < MAX_ENTRIES);
    s->entries[s->n_entries] = (entry){*m, s->bucket[cost]};
    s->bucket[cost] = s->n_entries++;
}

static void forward_ops(search *s, const memory *m, size_t i, int cost) {
    const mo_flat_stage *stage = &s->c->stages[i];
    size_t before = bytes_of(s, m);
    int drop_ok = (m->x >> i & 1) && !(s->keep_input && m->kept[i]);
    int after = cost + (int)stage->forward_s;
    if (!has_x(m, i + 1) && before + stage->output_size + stage->forward_tmp <= s->budget) {
        memory to = *m;
        to.x |= 1u << (i + 1);
        reach(s, &to, after);
        to.x &= ~(1u << i);
        if (drop_ok) reach(s, &to, after);
    }
    for (size_t k = 0; k < stage->n_options && !m->kept[i] && i < m->dx; k++) {
        const mo_flat_option *option = &stage->options[k];
        if (before + option->kept + option->forward_tmp > s->budget) continue;
        memory to = *m;
        to.kept[i] = (unsigned)k + 1;
        reach(s, &to, after);
        to.x &= ~(1u << i);
        if ((m->x >> i & 1) && !s->keep_input) reach(s, &to, after);
    }
}

static void gradient_op(search *s, const memory *m, int cost) {
    size_t before = bytes_of(s, m), i = m->dx > s->n ? s->n : m->dx - 1;
    const mo_flat_stage *stage = &s->c->stages[i];
    memory to = *m;
    size_t tmp = stage->forward_tmp;
    if (!has_x(m, i)) return;
    if (m->dx <= s->n) {
        if (!m->kept[i]) return;
        const mo_flat_option *option = &stage->options[m->kept[i] - 1];
        tmp = option->backward_tmp;
        cost += (int)option->extra_s;
        to.kept[i] = 0;
    }
    if (before + x_size(s->c, i) + tmp > s->budget) return;
    to.dx = (unsigned)i;
    to.x &= ~(1u << i);
    reach(s, &to, cost + (int)(stage->backward_s));
}

/* The least cost, or -1. */
static int exhaustive(search *s, const test_chain *c, size_t budget, int keep_input) {
    memory start = {.x = 1, .dx = (unsigned)c->chain.n_stages};
    s->c = c;
    s->n = c->chain.n_stages - 1;
    s->budget = budget;
    s->keep_input = keep_input;
    s->n_entries = 0;
    memory last = {.x = (2u << s->n) - 1, .dx = (unsigned)s->n + 1};
    for (size_t i = 0; i < s->n; i++) last.kept[i] = MAX_OPTIONS;
    for (size_t i = 0; i <= index_of(s, &last); i++) s->dist[i] = MAX_COST;
    for (size_t i = 0; i < MAX_COST; i++) s->bucket[i] = -1;
    if (bytes_of(s, &start) > budget) return -1;
    reach(s, &start, 0);
    for (int cost = 0; cost < MAX_COST; cost++)
        while (s->bucket[cost] >= 0) {
            const entry *at = &s->entries[s->bucket[cost]];
            memory m = at->memory;
            s->bucket[cost] = at->next;
            if (s->dist[index_of(s, &m)] != cost) continue;
            if (m.dx == 0) return cost;
            for (size_t i = 0; i < s->n; i++)
                if (has_x(&m, i)) forward_ops(s, &m, i, cost);
            gradient_op(s, &m, cost);
        }
    return -1;
}

/* ---- by hand ------------------------------------------------------------------------------- */

/* Three equal layers: x 1 byte, kept 3, forward 1 s, backward 2 s. */
static void three_layers(test_chain *c) {
    begin_chain(c, 1, 4);
    for (size_t i = 0; i < 3; i++) {
        c->stages[i].forward_s = 1;
        c->stages[i].backward_s = 2;
        c->stages[i].output_size = 1;
        c->options[i][0].kept = 3;
    }
}

static void the_simulation_counts_what_each_op_needs(void **state) {
    (void)state;
    static test_chain c;
    three_layers(&c);
    c.options[1][0].backward_tmp = 10;
    const mo_flat_op ops[] = {{0, MO_FLAT_KEEP, 0}, {1, MO_FLAT_SAVE, 0}, {2, MO_FLAT_SAVE, 0},
        {3, MO_FLAT_LOSS, 0}, {2, MO_FLAT_BACKWARD, 0}, {1, MO_FLAT_BACKWARD, 0},
        {0, MO_FLAT_SAVE, 0}, {0, MO_FLAT_BACKWARD, 0}};
    const size_t expected[] = {2, 5, 8, 9, 10, 17, 5, 6};
    size_t bytes[8];
    mo_flat_result result;
    test_ok(mo_remat_flat_simulate(&c.chain, 0, ops, 8, NULL, NULL, bytes, &result));
    for (size_t i = 0; i < 8; i++) assert_int_equal(bytes[i], expected[i]);
    assert_int_equal(result.peak_bytes, 17);
    assert_int_equal(result.peak_op, 5);
    assert_true(result.cost_s == 10 && result.ideal_s == 9);
}

static void a_save_whose_output_nobody_reads_costs_less(void **state) {
    (void)state;
    static test_chain c;
    three_layers(&c);
    for (size_t i = 0; i < 3; i++) c.options[i][0].unread_s = 0.5;
    mo_remat_solution s;
    test_ok(mo_remat_baseline_solve(&c.chain, MO_BASELINE_NONE, SIZE_MAX, NULL, NULL, &s));
    assert_true(s.cost_s == 9);
    mo_remat_solution_free(&s);
    test_ok(mo_remat_baseline_solve(&c.chain, MO_BASELINE_BLOCK, SIZE_MAX, NULL, NULL, &s));
    assert_true(s.cost_s == 9 + 3 * 0.5);
    mo_remat_solution_free(&s);
}

static void the_simulation_says_what_is_missing(void **state) {
    (void)state;
    static test_chain c;
    static const struct {
        mo_flat_op ops[3];
        size_t n;
        const char *text;
    } cases[] = {
        {{{1, MO_FLAT_KEEP, 0}}, 1, "op 0 (kind 0 of stage 1): its input is not there"},
        {{{0, MO_FLAT_KEEP, 0}, {0, MO_FLAT_KEEP, 0}}, 2, "its output is there already"},
        {{{0, MO_FLAT_SAVE, 0}, {0, MO_FLAT_SAVE, 0}}, 2, "it is saved already"},
        {{{0, MO_FLAT_SAVE, 1}}, 1, "it has no such option"},
        {{{3, MO_FLAT_SAVE, 0}}, 1, "the last stage is the loss"},
        {{{3, MO_FLAT_LOSS, 0}}, 1, "its input is not there"},
        {{{0, MO_FLAT_LOSS, 0}}, 1, "only the last stage is the loss"},
        {{{0, MO_FLAT_BACKWARD, 0}}, 1, "the gradient of its output is not there"},
        {{{4, MO_FLAT_KEEP, 0}}, 1, "no such stage"},
        {{{0, (mo_flat_kind)9, 0}}, 1, "unknown op"},
        {{{0, MO_FLAT_KEEP, 0}}, 1, "the backward of the first stage has not run"},
    };
    three_layers(&c);
    for (size_t i = 0; i < n_elements(cases); i++) {
        test_log lines;
        mo_log log = test_log_begin(&lines);
        assert_int_equal(
            mo_remat_flat_simulate(&c.chain, 0, cases[i].ops, cases[i].n, NULL, &log, NULL, NULL),
            MO_E_INVALID);
        assert_non_null(strstr(lines.text, cases[i].text));
    }
}

static void with_enough_memory_nothing_runs_twice(void **state) {
    (void)state;
    static test_chain c;
    three_layers(&c);
    mo_remat_solution s = solve(&c, store_all_peak(&c), MO_REMAT_MODE_ANY);
    assert_true(s.feasible && s.cost_s == s.ideal_s && s.n_ops == 7);
    mo_remat_solution_free(&s);
}

/* Saving a stage without its input lets the budget hold; the input is made again for backward. */
static void a_saved_stage_may_drop_its_input(void **state) {
    (void)state;
    static test_chain c;
    const double forward_s[] = {4, 5, 1}, backward_s[] = {3, 2, 4};
    const size_t output[] = {2, 3, 4}, kept[] = {5, 6, 6};
    begin_chain(&c, 2, 4);
    for (size_t i = 0; i < 3; i++) {
        c.stages[i].forward_s = forward_s[i];
        c.stages[i].backward_s = backward_s[i];
        c.stages[i].output_size = output[i];
        c.stages[i].forward_tmp = c.options[i][0].forward_tmp = i != 1;
        c.options[i][0].kept = kept[i];
    }
    c.options[0][0].backward_tmp = 2;
    c.stages[3].backward_s = 1;
    mo_remat_solution any = solve(&c, 21, MO_REMAT_MODE_ANY);
    mo_remat_solution rotor = solve(&c, 21, MO_REMAT_MODE_KEEP_INPUT);
    assert_true(any.cost_s == 24 && rotor.cost_s == 29);
    int n_drops = 0;
    for (size_t i = 0; i < any.n_ops; i++) n_drops += any.ops[i].kind == MO_FLAT_SAVE_DROP;
    assert_int_equal(n_drops, 1);
    mo_remat_solution_free(&any);
    mo_remat_solution_free(&rotor);
}

static void a_chain_of_the_loss_alone_is_solved(void **state) {
    (void)state;
    static test_chain c;
    begin_chain(&c, 5, 1);
    c.stages[0].backward_s = 3;
    c.stages[0].forward_tmp = 2;
    mo_remat_solution s = solve(&c, 12, MO_REMAT_MODE_ANY);
    assert_true(s.feasible && s.n_ops == 1 && s.cost_s == 3 && s.peak_bytes == 12);
    mo_remat_solution_free(&s);
    s = solve(&c, 11, MO_REMAT_MODE_ANY);
    assert_true(!s.feasible && s.floor_bytes == 12);
    s = solve(&c, 0, MO_REMAT_MODE_ANY);
    assert_true(!s.feasible && s.floor_bytes == 12);
}

/* Eight stages of a ResNet-50 in units of 1 MiB or so. The optimum is that of an exhaustive search;
 * rotor that of the original program (INRIA, 2023), which keeps the input of a saved stage. */
static void a_resnet_has_its_known_optimum(void **state) {
    (void)state;
    static const struct {
        size_t budget;
        double any, rotor;
    } known[] = {{50, 1.273386, 1.273386}, {56, 1.202308, 1.202308}, {62, 1.166769, 1.202308},
        {67, 1.131230, 1.166769}, {73, 1.131230, 1.131230}, {79, 1.095691, 1.131230},
        {84, 1.095691, 1.095691}, {90, 1.071078, 1.095691}, {96, 1.060152, 1.060152},
        {101, 1.035539, 1.060152}, {107, 1.035539, 1.035539}, {113, 1, 1}};
    static const size_t output[] = {4, 4, 4, 4, 4, 4, 2, 2},
                        kept[] = {22, 12, 12, 12, 12, 12, 11, 6};
    static test_chain c;
    begin_chain(&c, 8, 9);
    for (size_t i = 0; i < 8; i++) {
        int strided = i == 0 || i == 6;
        c.stages[i].forward_s = strided ? 2060.643071 : 1217.480421;
        c.stages[i].backward_s = strided ? 4118.286143 : 2431.960842;
        c.stages[i].output_size = output[i];
        c.options[i][0].kept = kept[i];
        c.options[i][0].backward_tmp = i < 6 ? 4 : 2;
    }
    c.stages[8].backward_s = 3;
    c.stages[8].forward_tmp = 1;
    for (size_t i = 0; i < n_elements(known); i++) {
        mo_remat_solution any = solve(&c, known[i].budget, MO_REMAT_MODE_ANY);
        mo_remat_solution rotor = solve(&c, known[i].budget, MO_REMAT_MODE_KEEP_INPUT);
        assert_true(fabs(any.cost_s / any.ideal_s - known[i].any) < 1e-6);
        assert_true(fabs(rotor.cost_s / rotor.ideal_s - known[i].rotor) < 1e-6);
        mo_remat_solution_free(&any);
        mo_remat_solution_free(&rotor);
    }
    mo_remat_solution s = solve(&c, 45, MO_REMAT_MODE_ANY);
    assert_false(s.feasible);
}

/* ---- properties ---------------------------------------------------------------------------- */

/* Of the model with SAVE_DROP a few schedules are out of the table's reach: 3 of 252 in the chains
 * that it was designed on. */
static void small_chains_are_solved_as_by_an_exhaustive_search(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("exhaustive");
    static test_chain c;
    static search s;
    int n_feasible = 0, n_equal[2] = {0, 0};
    for (int i = 0; i < 10000; i++) {
        size_t n_layers = i % 100 == 0 ? 5 : i % 20 == 0 ? 4 : 1 + test_below(&rng, 3);
        random_chain(&rng, &c, n_layers, MAX_OPTIONS);
        size_t lowest, highest = store_all_peak(&c);
        test_ok(mo_remat_floor(&c.chain, 0, MO_REMAT_MODE_ANY, NULL, &lowest));
        size_t budget = lowest - 1 + test_below(&rng, highest - lowest + 2);
        for (int mode = 0; mode < 2; mode++) {
            int least = exhaustive(&s, &c, budget, mode);
            mo_remat_solution got = solve(&c, budget, (mo_remat_mode)mode);
            if (least < 0) assert_false(got.feasible);
            else if (got.feasible) {
                assert_true(got.cost_s >= least);
                n_equal[mode] += got.cost_s == least;
            }
            n_feasible += mode == 0 && least >= 0;
            mo_remat_solution_free(&got);
        }
    }
    print_message("%d feasible, equal: %d and %d\n", n_feasible, n_equal[0], n_equal[1]);
    assert_true(n_feasible > 7000);
    assert_true(n_equal[0] >= n_feasible * 0.99 && n_equal[1] >= n_feasible * 0.99);
}

static void make_large(test_rng *rng, test_chain *c, size_t n_layers) {
    begin_chain(c, 1 + test_below(rng, 1u << 28), n_layers + 1);
    for (size_t i = 0; i < n_layers; i++) {
        mo_flat_stage *stage = &c->stages[i];
        stage->forward_s = 0.1 + test_uniform(rng);
        stage->backward_s = 0.1 + 2 * test_uniform(rng);
        stage->output_size = 1 + test_below(rng, 1u << 28);
        stage->forward_tmp = test_below(rng, 1u << 26);
        stage->n_options = 1 + test_below(rng, 2);
        for (size_t k = 0; k < stage->n_options; k++) {
            c->options[i][k].kept =
                stage->output_size + test_below(rng, (size_t)1 << (k ? 28 : 30));
            c->options[i][k].extra_s = k ? 0.2 * test_uniform(rng) : 0;
            c->options[i][k].unread_s = 0.2 * stage->forward_s;
            c->options[i][k].backward_tmp = test_below(rng, 1u << 28);
        }
    }
    c->stages[n_layers].backward_s = 1;
}

static void it_is_feasible_exactly_from_the_floor_on(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("floor");
    static test_chain c;
    for (int i = 0; i < 60; i++) {
        size_t floor_bytes;
        mo_remat_mode mode = (mo_remat_mode)(i % 2);
        make_large(&rng, &c, 1 + test_below(&rng, 20));
        test_ok(mo_remat_floor(&c.chain, 0, mode, NULL, &floor_bytes));
        mo_remat_solution s = solve(&c, floor_bytes, mode);
        assert_true(s.feasible);
        mo_remat_solution_free(&s);
        s = solve(&c, floor_bytes - 1, mode);
        assert_false(s.feasible);
        assert_int_equal(s.floor_bytes, floor_bytes);
    }
}

static void no_baseline_is_better(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("baselines");
    static test_chain c;
    for (int i = 0; i < 40; i++) {
        make_large(&rng, &c, 1 + test_below(&rng, 24));
        size_t budget = store_all_peak(&c) / 100 * (20 + test_below(&rng, 81));
        mo_remat_solution best = solve(&c, budget, MO_REMAT_MODE_ANY);
        for (int k = 0; k < MO_BASELINE_COUNT; k++) {
            mo_remat_solution s;
            test_ok(
                mo_remat_baseline_solve(&c.chain, (mo_remat_baseline)k, budget, NULL, NULL, &s));
            if (s.feasible) {
                assert_true(best.feasible);
                /* rounding to slots: far less than this */
                assert_true(best.cost_s <= s.cost_s + 1e-3 * best.ideal_s);
            }
            mo_remat_solution_free(&s);
        }
        mo_remat_solution_free(&best);
    }
}

static void the_same_chain_gives_the_same_schedule(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("determinism");
    static test_chain c;
    make_large(&rng, &c, 30);
    size_t budget = store_all_peak(&c) / 2;
    mo_remat_solution a = solve(&c, budget, MO_REMAT_MODE_ANY);
    mo_remat_solution b = solve(&c, budget, MO_REMAT_MODE_ANY);
    assert_int_equal(a.n_ops, b.n_ops);
    for (size_t i = 0; i < a.n_ops; i++) {
        assert_int_equal(a.ops[i].stage, b.ops[i].stage);
        assert_int_equal(a.ops[i].kind, b.ops[i].kind);
        assert_int_equal(a.ops[i].option, b.ops[i].option);
    }
    mo_remat_solution_free(&a);
    mo_remat_solution_free(&b);
}

/* ---- the table ----------------------------------------------------------------------------- */

static mo_remat_table *create(const test_chain *c, size_t budget, size_t n_groups) {
    mo_remat_table_desc desc = {.chain = &c->chain, .budget = budget, .n_groups = n_groups};
    mo_remat_table *table;
    test_ok(mo_remat_table_create(&table, &desc));
    return table;
}

static void the_frontier_rises_in_bytes_and_falls_in_cost(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("frontier");
    static test_chain c;
    make_large(&rng, &c, 16);
    mo_remat_table *table = create(&c, store_all_peak(&c), 0);
    mo_remat_table_info info = mo_remat_table_describe(table);
    mo_remat_point *points = (mo_remat_point *)malloc(info.n_columns * sizeof *points);
    size_t n;
    test_ok(mo_remat_table_frontier(table, 0, points, info.n_columns, &n));
    assert_true(n > 10);
    for (size_t i = 0; i < n; i++) {
        mo_remat_solution s;
        test_ok(mo_remat_table_schedule(table, 0, points[i].column, &s));
        assert_int_equal(s.peak_bytes, points[i].bytes);
        assert_true(s.cost_s == points[i].cost_s);
        mo_remat_solution_free(&s);
        if (i == 0) continue;
        assert_true(points[i].bytes > points[i - 1].bytes);
        assert_true(points[i].cost_s < points[i - 1].cost_s);
    }
    assert_true(points[n - 1].cost_s <= mo_remat_flat_ideal(&c.chain, 0) * (1 + 1e-12));
    assert_int_equal(mo_remat_table_frontier(table, 0, points, 3, &n), MO_E_NO_SPACE);
    free(points);
    mo_remat_table_destroy(table);
}

static void a_suffix_is_solved_by_the_same_table(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("suffix");
    static test_chain c;
    make_large(&rng, &c, 12);
    size_t budget = store_all_peak(&c);
    mo_remat_table *table = create(&c, budget, 0);
    for (size_t first = 0; first < c.chain.n_stages; first++) {
        mo_remat_solution s;
        mo_flat_result result;
        double ideal = mo_remat_flat_ideal(&c.chain, first);
        test_ok(mo_remat_table_solve(table, first, budget, &s));
        assert_true(s.feasible && s.ideal_s == ideal && s.cost_s <= ideal * (1 + 1e-12));
        double estimate = mo_remat_table_estimate(table, first, budget);
        assert_true(estimate > 0.999999 * ideal && estimate < 1.5 * ideal);
        test_ok(mo_remat_flat_simulate(&c.chain, first, s.ops, s.n_ops, NULL, NULL, NULL, &result));
        assert_int_equal(result.peak_bytes, s.peak_bytes);
        mo_remat_solution_free(&s);
    }
    mo_remat_solution none;
    assert_int_equal(mo_remat_table_solve(table, c.chain.n_stages, budget, &none), MO_E_INVALID);
    assert_true(isinf(mo_remat_table_estimate(table, c.chain.n_stages, budget)));
    assert_true(isinf(mo_remat_table_estimate(table, 0, 0)));
    mo_remat_table_destroy(table);
}

static void equal_blocks_share_rows(void **state) {
    (void)state;
    static test_chain c;
    begin_chain(&c, 10, 41);
    for (size_t i = 0; i < 40; i++) {
        c.stages[i].forward_s = i % 2 ? 3 : 5 + 1e-3 * (double)i;
        c.stages[i].backward_s = 4;
        c.stages[i].output_size = 10;
        c.options[i][0].kept = i % 2 ? 30 : 50;
    }
    size_t budget = store_all_peak(&c) / 2;
    mo_remat_table_desc desc = {.chain = &c.chain, .budget = budget};
    mo_remat_table *table;
    test_ok(mo_remat_table_create(&table, &desc));
    assert_int_equal(mo_remat_table_describe(table).n_rows, 41 * 42 / 2 - 19);
    mo_remat_table_destroy(table);
    desc.tolerance = 0.02;
    test_ok(mo_remat_table_create(&table, &desc));
    assert_true(mo_remat_table_describe(table).n_rows < 160);
    mo_remat_solution exact = solve(&c, budget, MO_REMAT_MODE_ANY), s;
    test_ok(mo_remat_table_solve(table, 0, budget, &s));
    assert_true(s.feasible && s.peak_bytes <= budget);
    assert_true(s.cost_s <= exact.cost_s * 1.005);
    mo_remat_solution_free(&s);
    mo_remat_solution_free(&exact);
    mo_remat_table_destroy(table);
}

static void groups_keep_the_budget_and_come_close(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("groups");
    static test_chain c;
    for (int i = 0; i < 4; i++) {
        make_large(&rng, &c, 60);
        size_t budget = store_all_peak(&c) / 100 * (30 + 15 * (size_t)i);
        mo_remat_table *table = create(&c, budget, 20);
        assert_true(mo_remat_table_describe(table).n_groups <= 21);
        mo_remat_solution exact = solve(&c, budget, MO_REMAT_MODE_ANY), s;
        test_ok(mo_remat_table_solve(table, 0, budget, &s));
        assert_true(s.feasible && s.peak_bytes <= budget);
        assert_int_equal(simulate(&c, s.ops, s.n_ops).peak_bytes, s.peak_bytes);
        assert_true(s.cost_s < exact.cost_s + 0.05 * exact.ideal_s);
        mo_remat_solution_free(&s);
        mo_remat_solution_free(&exact);
        mo_remat_table_destroy(table);
    }
}

static void a_long_chain_is_grouped_by_itself(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("long");
    static test_chain c;
    make_large(&rng, &c, MAX_STAGES - 1);
    size_t budget = store_all_peak(&c) / 2;
    mo_remat_table_desc desc = {.chain = &c.chain, .budget = budget, .slots = 100};
    desc.mode = MO_REMAT_MODE_KEEP_INPUT;
    mo_remat_table *table;
    mo_remat_solution s;
    test_ok(mo_remat_table_create(&table, &desc));
    assert_in_range(mo_remat_table_describe(table).n_groups, 64, 129);
    test_ok(mo_remat_table_solve(table, 0, budget, &s));
    assert_true(s.feasible && s.peak_bytes <= budget && s.cost_s < 1.25 * s.ideal_s);
    mo_remat_solution_free(&s);
    mo_remat_table_destroy(table);
}

/* ---- hostile ------------------------------------------------------------------------------- */

static void a_chain_that_makes_no_sense_is_named(void **state) {
    (void)state;
    static test_chain c;
    test_log lines;
    mo_log log = test_log_begin(&lines);
    mo_remat_table_desc desc = {.chain = &c.chain, .budget = 100, .log = &log};
    mo_remat_table *table = NULL;
    const double costs[] = {-1, NAN, INFINITY};
    for (size_t i = 0; i < 3; i++) {
        three_layers(&c);
        c.stages[1].name = "middle";
        c.stages[1].backward_s = costs[i];
        assert_int_equal(mo_remat_table_create(&table, &desc), MO_E_INVALID);
        assert_non_null(strstr(lines.text, "stage 1 (middle): costs 1,"));
        three_layers(&c);
        c.options[2][0].extra_s = costs[i];
        assert_int_equal(mo_remat_table_create(&table, &desc), MO_E_INVALID);
        assert_non_null(strstr(lines.text, "stage 2 (stage): option 0: extra"));
    }
    three_layers(&c);
    c.options[0][0].kept = 0;
    assert_int_equal(mo_remat_table_create(&table, &desc), MO_E_INVALID);
    assert_non_null(strstr(lines.text, "option 0 keeps 0 of 1 bytes"));
    three_layers(&c);
    c.stages[0].n_options = 0;
    assert_int_equal(mo_remat_table_create(&table, &desc), MO_E_INVALID);
    three_layers(&c);
    c.chain.n_stages = 0;
    assert_int_equal(mo_remat_table_create(&table, &desc), MO_E_INVALID);
    three_layers(&c);
    desc.tolerance = NAN;
    assert_int_equal(mo_remat_table_create(&table, &desc), MO_E_INVALID);
    desc.tolerance = 0;
    desc.mode = (mo_remat_mode)7;
    assert_int_equal(mo_remat_table_create(&table, &desc), MO_E_INVALID);
    assert_int_equal(mo_remat_table_create(&table, NULL), MO_E_INVALID);
    assert_null(table);
}

static void sizes_that_overflow_are_not_feasible(void **state) {
    (void)state;
    static test_chain c;
    size_t huge = (size_t)1 << 63, bytes = 0;
    three_layers(&c);
    for (size_t i = 0; i < 3; i++) c.options[i][0].kept = huge;
    mo_remat_solution s = solve(&c, huge + 100, MO_REMAT_MODE_ANY);
    assert_true(s.feasible && s.peak_bytes <= huge + 100);
    mo_remat_solution_free(&s);
    for (size_t i = 0; i < 3; i++) c.options[i][0].forward_tmp = huge;
    s = solve(&c, SIZE_MAX - 1, MO_REMAT_MODE_ANY);
    assert_true(!s.feasible && s.floor_bytes == SIZE_MAX);
    assert_int_equal(mo_remat_floor(&c.chain, 0, MO_REMAT_MODE_ANY, NULL, &bytes), MO_E_OVERFLOW);
    const mo_flat_op op = {0, MO_FLAT_SAVE, 0};
    assert_int_equal(
        mo_remat_flat_simulate(&c.chain, 0, &op, 1, NULL, NULL, NULL, NULL), MO_E_OVERFLOW);
}

static void costs_of_any_size_are_compared(void **state) {
    (void)state;
    const double scales[] = {1e-300, 1e300, 0};
    for (size_t k = 0; k < 3; k++) {
        static test_chain c;
        three_layers(&c);
        for (size_t i = 0; i < 3; i++) c.stages[i].forward_s = scales[k] * (double)(i + 1);
        for (size_t i = 0; i < 3; i++) c.stages[i].backward_s = 0;
        mo_remat_solution s = solve(&c, 10, MO_REMAT_MODE_ANY);
        assert_true(s.feasible && s.cost_s <= 7.001 * scales[k]);
        mo_remat_solution_free(&s);
    }
}

static void every_failed_allocation_leaves_nothing(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("allocation");
    static test_chain c;
    make_large(&rng, &c, 12);
    size_t floor_bytes, budget = store_all_peak(&c) / 2;
    test_ok(mo_remat_floor(&c.chain, 0, MO_REMAT_MODE_ANY, NULL, &floor_bytes));
    for (int pass = 0; pass < 3; pass++) {
        mo_status status = MO_E_NO_MEMORY;
        for (int k = 0; status != MO_OK; k++) {
            test_heap heap;
            mo_allocator allocator = test_heap_begin(&heap, k);
            mo_remat_table_desc desc = {.chain = &c.chain, .budget = budget};
            mo_remat_solution s = {.n_ops = 77};
            desc.allocator = &allocator;
            desc.n_groups = pass == 1 ? 4 : 0;
            if (pass == 2) desc.budget = floor_bytes;
            status = mo_remat_optimal(&desc, &s);
            assert_true(status == MO_OK || status == MO_E_NO_MEMORY);
            if (status == MO_OK) mo_remat_solution_free(&s);
            else assert_int_equal(s.n_ops, 77);
            assert_int_equal(heap.live_blocks, 0);
            assert_int_equal(heap.live_bytes, 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_simulation_counts_what_each_op_needs),
        cmocka_unit_test(a_save_whose_output_nobody_reads_costs_less),
        cmocka_unit_test(the_simulation_says_what_is_missing),
        cmocka_unit_test(with_enough_memory_nothing_runs_twice),
        cmocka_unit_test(a_saved_stage_may_drop_its_input),
        cmocka_unit_test(a_chain_of_the_loss_alone_is_solved),
        cmocka_unit_test(a_resnet_has_its_known_optimum),
        cmocka_unit_test(small_chains_are_solved_as_by_an_exhaustive_search),
        cmocka_unit_test(it_is_feasible_exactly_from_the_floor_on),
        cmocka_unit_test(no_baseline_is_better),
        cmocka_unit_test(the_same_chain_gives_the_same_schedule),
        cmocka_unit_test(the_frontier_rises_in_bytes_and_falls_in_cost),
        cmocka_unit_test(a_suffix_is_solved_by_the_same_table),
        cmocka_unit_test(equal_blocks_share_rows),
        cmocka_unit_test(groups_keep_the_budget_and_come_close),
        cmocka_unit_test(a_long_chain_is_grouped_by_itself),
        cmocka_unit_test(a_chain_that_makes_no_sense_is_named),
        cmocka_unit_test(sizes_that_overflow_are_not_feasible),
        cmocka_unit_test(costs_of_any_size_are_compared),
        cmocka_unit_test(every_failed_allocation_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
