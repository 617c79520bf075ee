/* test_place.c - mo_place: examples, golden placements of accelerate, all placements of small
 * cases. */
#include "test_place.h"

#include <math.h>

/* ---- examples by hand ---------------------------------------------------------------------- */

static void what_fits_stays_on_the_first_device(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, 30, 0, 1);
    add_device(&p, SIZE_MAX, 10, 0);
    for (int i = 0; i < 3; i++) add_item(&p, NULL, 10, 0);
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "000");
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "000");
    assert_true(p.result.step_s == 0 && p.result.moved_bytes == 0);
    assert_int_equal(p.use[0].bytes, 30);
    assert_int_equal(p.use[0].room_bytes, 0);
}

/* 100 bytes: a streamed layer of 50 needs as much room, so only one stays. */
static void room_for_the_largest_streamed_layer_is_kept(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, 100, 0, 1);
    add_device(&p, SIZE_MAX, 10, 0);
    for (int i = 0; i < 3; i++) add_item(&p, NULL, 50, 0);
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "011");
    assert_int_equal(p.use[0].room_bytes, 50);
    assert_true(p.result.moved_bytes == 100 && p.result.step_s == 10);
    assert_true(p.result.is_optimal && p.result.bound == 10);
    p.devices[0].n_buffers = 0;
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "001");
    p.devices[0].n_buffers = 2; /* two layers of 50 at once: nothing else fits */
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "111");
    p.devices[0].n_buffers = 3;
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "00-");
    assert_int_equal(p.result.missing_bytes, 50);
}

/* The largest layer on the device makes room for more small ones than it would take. */
static void optimal_moves_less_than_greedy(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, 100, 0, 1);
    add_device(&p, 60, 100, 0);
    add_device(&p, SIZE_MAX, 10, 0);
    add_item(&p, NULL, 30, 0);
    add_item(&p, NULL, 60, 0);
    add_item(&p, NULL, 20, 0);
    add_item(&p, NULL, 20, 0);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "0122");
    assert_true(fabs(p.result.step_s - 4.6) < 1e-12);
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "1012");
    assert_true(fabs(p.result.step_s - 2.5) < 1e-12);
}

static void a_group_stays_together(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, 50, 0, 0);
    add_device(&p, SIZE_MAX, 10, 0);
    add_item(&p, NULL, 20, 7);
    add_item(&p, NULL, 20, 7);
    add_item(&p, NULL, 20, 7);
    add_item(&p, NULL, 20, 3);
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "1110");
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "1111");
    p.items[2].group = 3;
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "0011");
}

/* Embedding and head: 40 bytes once in memory, twice over the link. */
static void tied_weights_take_place_once_and_travel_for_each_layer(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, 60, 0, 0);
    add_device(&p, 100, 10, 0);
    add_item(&p, NULL, 40, 0)->tied = 1;
    add_item(&p, NULL, 50, 0);
    add_item(&p, NULL, 40, 0)->tied = 1;
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "010");
    assert_int_equal(p.use[0].bytes, 40);
    assert_true(p.result.moved_bytes == 50);
    p.devices[0].limit_bytes = 39;
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "111");
    assert_int_equal(p.use[1].bytes, 90);
    assert_true(p.result.moved_bytes == 130);
}

static void an_item_that_is_rarely_used_travels(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, 50, 0, 0);
    add_device(&p, SIZE_MAX, 10, 0);
    add_item(&p, NULL, 50, 0)->uses = 0.25;
    add_item(&p, NULL, 50, 0);
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "10");
    assert_true(p.result.moved_bytes == 12.5);
}

static void a_pinned_item_lies_where_it_must_with_what_stays_with_it(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, 100, 0, 0);
    add_device(&p, 30, 10, 0);
    add_item(&p, NULL, 20, 1);
    add_item(&p, NULL, 10, 1);
    add_item(&p, NULL, 10, 0);
    p.items[1].pinned = 1;
    p.items[1].device = 1;
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "110");
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "110");
    p.devices[1].limit_bytes = 29;
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "--0");
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "--0");
    assert_int_equal(p.result.missing_bytes, 30);
    assert_int_equal(p.result.n_missing, 2);
}

/* 25 of 10 + 20 + 15 have a place at most; greedy places the first that fits. */
static void missing_bytes_are_as_few_as_can_be(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, 25, 0, 0);
    add_item(&p, NULL, 20, 0);
    add_item(&p, NULL, 10, 0);
    add_item(&p, NULL, 15, 0);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "0--");
    assert_int_equal(p.result.missing_bytes, 25);
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "-00");
    assert_int_equal(p.result.missing_bytes, 20);
    assert_int_equal(p.result.is_optimal, 1);
}

static void bytes_or_seconds_are_the_goal(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, 10, 0, 0);
    add_device(&p, 16, 100, 0);
    add_device(&p, SIZE_MAX, 1, 0);
    add_item(&p, NULL, 10, 0);
    add_item(&p, NULL, 9, 0);
    add_item(&p, NULL, 16, 0);
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "021");
    assert_true(fabs(p.result.step_s - 9.16) < 1e-12);
    p.desc.goal = MO_PLACE_BYTES;
    solve(&p, MO_PLACE_OPTIMAL);
    assert_true(p.result.moved_bytes == 25 && p.result.bound == 25);
}

static void nothing_to_place_is_placed(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, 0, 0, 1);
    test_ok(mo_place_solve(&p.desc, NULL, p.use, &p.result));
    assert_true(p.result.is_optimal && p.result.missing_bytes == 0);
    add_item(&p, NULL, 0, 0); /* zero bytes fit into zero bytes */
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "0");
}

/* ---- golden: huggingface/accelerate, tests/test_modeling_utils.py at 16cb6eb ---------------- */

/* ModelForTest: linear1 64 bytes, batchnorm 72, linear2 100. */
static void add_model(problem *p, size_t group) {
    add_item(p, NULL, 64, group);
    add_item(p, NULL, 72, group);
    add_item(p, NULL, 100, group);
}

static void begin_model(problem *p, size_t n_models, int no_split, size_t limit0, size_t limit1) {
    const size_t limits[] = {limit0, limit1};
    begin(p);
    add_gpus(p, 2, limits);
    for (size_t m = 0; m < n_models; m++) add_model(p, no_split ? m + 1 : 0);
}

static void accelerate_infer_auto_device_map(void **state) {
    (void)state;
    problem p;
    begin_model(&p, 1, 0, 200, 200);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "011");
    begin_model(&p, 1, 0, 200, 172);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "011");
    begin_model(&p, 3, 0, 500, 500);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "000001111");
    begin_model(&p, 3, 1, 500, 500);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "000111111");
}

/* linear1.weight is linear2.weight: 80 bytes, with biases of 16 and 20. */
static void accelerate_tied_model_fits_the_first_device(void **state) {
    (void)state;
    const size_t limits[] = {200, 200};
    problem p;
    begin(&p);
    add_gpus(&p, 2, limits);
    add_item(&p, "linear1.weight", 80, 1)->tied = 1;
    add_item(&p, "linear1.bias", 16, 1);
    add_item(&p, "batchnorm", 72, 0);
    add_item(&p, "linear2.weight", 80, 2)->tied = 1;
    add_item(&p, "linear2.bias", 20, 2);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "00000");
    assert_int_equal(p.use[0].bytes, 188);
}

/* Three ModelForTest by layer: linear1.weight 48 + bias 16, batchnorm 72, linear2.weight 80 + bias
 * 20. weights[k] is the tensor of the weights of linear1, linear2, in each model. */
static void add_layers(problem *p, const size_t weights[6]) {
    const size_t limits[] = {400, 500};
    begin(p);
    add_gpus(p, 2, limits);
    for (size_t m = 0; m < 3; m++) {
        add_item(p, NULL, 48, 10 + m)->tied = weights[2 * m];
        add_item(p, NULL, 16, 10 + m);
        add_item(p, NULL, 72, 0);
        add_item(p, NULL, 80, 20 + m)->tied = weights[2 * m + 1];
        add_item(p, NULL, 20, 20 + m);
    }
}

static void accelerate_tied_weights(void **state) {
    (void)state;
    const size_t two[] = {0, 1, 0, 0, 0, 1}, three[] = {0, 1, 0, 1, 0, 1};
    const size_t groups[] = {2, 1, 2, 1, 0, 1};
    problem p;
    add_layers(&p, two);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "000001111111100");
    add_layers(&p, three);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "000001110011100");
    add_layers(&p, groups);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "000000010011100");
}

/* linear1 and linear3 (64 + 16 bytes) share weight and bias; linear2 and linear4 are 168. */
static void accelerate_ties_of_whole_layers(void **state) {
    (void)state;
    const size_t limits[] = {250, 400};
    problem p;
    begin(&p);
    add_gpus(&p, 2, limits);
    for (size_t i = 0; i < 2; i++) {
        add_item(&p, NULL, 64, 1 + i)->tied = 1;
        add_item(&p, NULL, 16, 1 + i)->tied = 2;
        add_item(&p, NULL, 168, 0);
    }
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "001001");
    assert_int_equal(p.use[0].bytes, 80);
}

/* With buffers: linear1 144, batchnorm 232, linear2 220, linear3 180. */
static void accelerate_buffer_check(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, 400, 0, 1);
    add_device(&p, 1000000000, 25e9, 1);
    add_device(&p, SIZE_MAX, 3e9, 0);
    add_item(&p, NULL, 144, 0);
    add_item(&p, NULL, 232, 0);
    add_item(&p, NULL, 220, 0);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "011");
    begin(&p);
    add_device(&p, 400, 0, 1);
    add_device(&p, 400, 0, 0);
    add_device(&p, 1000000000, 25e9, 1);
    add_device(&p, SIZE_MAX, 3e9, 0);
    add_item(&p, NULL, 144, 0);
    add_item(&p, NULL, 232, 0);
    add_item(&p, NULL, 220, 0);
    add_item(&p, NULL, 180, 0);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "0122");
}

/* Its fallback allocation goes out of order; here that is what the optimum does. linear1 176,
 * linear2 80, linear3 160 bytes under 256; linear 460, batchnorm 188, linear 460 under 678. */
static void accelerate_fallback_allocation(void **state) {
    (void)state;
    const size_t limits[] = {256, 678, 600, 5000};
    problem p;
    begin(&p);
    add_gpus(&p, 1, &limits[0]);
    add_item(&p, NULL, 176, 0);
    add_item(&p, NULL, 80, 0);
    add_item(&p, NULL, 160, 0);
    assert_string_equal(placed(&p, MO_PLACE_GREEDY), "111");
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "101");
    begin(&p);
    add_gpus(&p, 1, &limits[1]);
    add_item(&p, NULL, 460, 0);
    add_item(&p, NULL, 188, 0);
    add_item(&p, NULL, 460, 0);
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "101");
    begin(&p); /* tied: 400 bytes of weight once, two biases of 40 */
    add_gpus(&p, 1, &limits[2]);
    for (size_t i = 0; i < 2; i++) {
        add_item(&p, NULL, 400, 1 + i)->tied = 1;
        add_item(&p, NULL, 40, 1 + i);
    }
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "0000");
    begin(&p);
    add_gpus(&p, 1, &limits[3]);
    for (size_t i = 0; i < 6; i++) add_item(&p, NULL, 1680, 0);
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "011111");
}

static void balanced(problem *p, size_t n, const size_t *limits, size_t *out) {
    begin(p);
    add_model(p, 0);
    for (size_t d = 0; d < n; d++) add_device(p, limits[d], 0, 0);
    test_ok(mo_place_balanced(&p->desc, 0, out));
}

static void accelerate_get_balanced_memory(void **state) {
    (void)state;
    static const size_t cases[][2][3] = {{{200, 200, 1}, {200, 200, 1}},
        {{300, 300, 0}, {215, 300, 0}}, {{300, 500, 0}, {215, 500, 0}},
        {{0, 300, 300}, {0, 215, 300}}, {{300, 0, 0}, {300, 0, 0}}};
    problem p;
    size_t out[3];
    for (size_t c = 0; c < n_elements(cases); c++) {
        balanced(&p, c == 0 ? 2 : 3, cases[c][0], out);
        for (size_t d = 0; d < (c == 0 ? 2 : 3); d++) assert_int_equal(out[d], cases[c][1][d]);
    }
    begin(&p); /* the host is not one of those that compute */
    add_model(&p, 0);
    add_device(&p, 300, 0, 1);
    add_device(&p, 1000, 25e9, 1);
    test_ok(mo_place_balanced(&p.desc, 0, out));
    assert_true(out[0] == 300 && out[1] == 1000);
}

/* get_balanced_memory by its formulas: 236 / 2 + 97 = 215 for the middle, what is left for the
 * first: 236 - 215 - 500 < 0. A block of 172 bytes: 236 / 2 + 1.25 * 172 = 333. */
static void balanced_may_spare_the_first_device_and_counts_blocks(void **state) {
    (void)state;
    problem p;
    size_t out[3];
    begin(&p);
    add_model(&p, 0);
    add_device(&p, 300, 0, 0);
    add_device(&p, 300, 0, 0);
    add_device(&p, 500, 0, 0);
    test_ok(mo_place_balanced(&p.desc, 1, out));
    assert_true(out[0] == 0 && out[1] == 215 && out[2] == 500);
    p.devices[1].limit_bytes = 100;
    p.devices[2].limit_bytes = 90;
    test_ok(mo_place_balanced(&p.desc, 1, out));
    assert_true(out[0] == 46 && out[1] == 100 && out[2] == 90);
    p.items[1].group = p.items[2].group = 1;
    p.devices[0].limit_bytes = 1000;
    p.desc.n_devices = 2;
    test_ok(mo_place_balanced(&p.desc, 0, out));
    assert_true(out[0] == 333 && out[1] == 100);
}

/* ---- properties on random input ------------------------------------------------------------ */

/* What does not depend on the placement, from the items alone. */
typedef struct facts {
    int is_first[MAX_ITEMS];       /* no item before it is the same tensor */
    int is_layer_first[MAX_ITEMS]; /* none before it in its layer */
    size_t layer[MAX_ITEMS];       /* bytes of its layer */
} facts;

static int same_layer(const mo_place_item *a, const mo_place_item *b) {
    return a == b || (a->group && a->group == b->group);
}

static int same_tensor(const mo_place_item *a, const mo_place_item *b) {
    return a == b || (a->tied && a->tied == b->tied);
}

static void find_facts(const mo_place_desc *desc, facts *f) {
    const mo_place_item *items = desc->items;
    for (size_t i = 0; i < desc->n_items; i++) {
        f->is_first[i] = f->is_layer_first[i] = 1;
        for (size_t k = 0; k < i; k++) {
            if (!same_tensor(&items[k], &items[i])) continue;
            f->is_first[i] = 0;
            if (same_layer(&items[k], &items[i])) f->is_layer_first[i] = 0;
        }
    }
    for (size_t i = 0; i < desc->n_items; i++) {
        f->layer[i] = 0;
        for (size_t k = 0; k < desc->n_items; k++)
            if (same_layer(&items[k], &items[i]) && f->is_layer_first[k])
                f->layer[i] += items[k].bytes;
    }
}

/* What a placement costs that keeps together what has to be; 0 = it breaks another rule. */
static int price(const mo_place_desc *desc, const facts *f, const size_t *device, size_t *missing,
    double *cost) {
    size_t used[MAX_DEVICES] = {0}, largest[MAX_DEVICES] = {0};
    *missing = 0, *cost = 0;
    for (size_t i = 0; i < desc->n_items; i++) {
        const mo_place_item *item = &desc->items[i];
        const size_t d = device[i];
        if (f->is_first[i] && d == SIZE_MAX) *missing += item->bytes;
        if (d == SIZE_MAX) continue;
        if (item->pinned && d != item->device) return 0;
        if (f->is_first[i]) used[d] += item->bytes;
        const double speed = desc->devices[d].bytes_per_s;
        if (speed > 0 && f->is_layer_first[i])
            *cost += (item->uses == 0 ? 1 : item->uses) * (double)item->bytes /
                (desc->goal == MO_PLACE_BYTES ? 1 : speed);
        for (size_t e = 0; speed > 0 && e < d; e++)
            if (f->layer[i] > largest[e]) largest[e] = f->layer[i];
    }
    for (size_t d = 0; d < desc->n_devices; d++)
        if (used[d] + desc->devices[d].n_buffers * largest[d] > desc->devices[d].limit_bytes)
            return 0;
    return 1;
}

/* Whether item k lies where the items before it do that it has to stay with. */
static int is_together(const mo_place_desc *desc, const size_t *device, size_t k) {
    for (size_t i = 0; i < k; i++)
        if (device[i] != device[k] &&
            (same_layer(&desc->items[i], &desc->items[k]) ||
                same_tensor(&desc->items[i], &desc->items[k])))
            return 0;
    return 1;
}

typedef struct best {
    size_t missing;
    double cost;
} best;

/* Every device for every item from the k-th on. */
static void try_all(const mo_place_desc *desc, const facts *f, size_t k, size_t *device, best *b) {
    if (k == desc->n_items) {
        size_t missing;
        double cost;
        if (price(desc, f, device, &missing, &cost) &&
            (missing < b->missing || (missing == b->missing && cost < b->cost))) {
            b->missing = missing;
            b->cost = cost;
        }
        return;
    }
    for (size_t d = 0; d <= desc->n_devices; d++) {
        device[k] = d < desc->n_devices ? d : SIZE_MAX;
        if (is_together(desc, device, k)) try_all(desc, f, k + 1, device, b);
    }
}

static double goal_of(const problem *p) {
    return p->desc.goal == MO_PLACE_BYTES ? p->result.moved_bytes : p->result.step_s;
}

/* The answer keeps the rules, and says itself what it costs. 1e-9: sums in another order. */
static void check_answer(const problem *p) {
    size_t missing;
    double cost;
    mo_place_result measured;
    facts f;
    find_facts(&p->desc, &f);
    for (size_t i = 0; i < p->desc.n_items; i++) assert_true(is_together(&p->desc, p->device, i));
    assert_true(price(&p->desc, &f, p->device, &missing, &cost));
    assert_int_equal(missing, p->result.missing_bytes);
    assert_true(fabs(cost - goal_of(p)) <= 1e-9 * cost);
    assert_int_equal(p->result.over_bytes, 0);
    test_ok(mo_place_measure(&p->desc, p->device, NULL, &measured));
    assert_int_equal(measured.missing_bytes, missing);
    assert_true(measured.step_s == p->result.step_s);
}

static void optimal_equals_all_placements_of_500_small_cases(void **state) {
    (void)state;
    test_rng rng = test_rng_begin(__func__);
    size_t n_missing = 0, n_better = 0;
    for (int round = 0; round < 500; round++) {
        problem p;
        best b = {SIZE_MAX, 0};
        facts f;
        size_t device[MAX_ITEMS];
        make_random(&p, &rng, 8, 3);
        find_facts(&p.desc, &f);
        try_all(&p.desc, &f, 0, device, &b);
        solve(&p, MO_PLACE_GREEDY);
        check_answer(&p);
        const mo_place_result greedy = p.result;
        const double greedy_cost = goal_of(&p);
        solve(&p, MO_PLACE_OPTIMAL);
        check_answer(&p);
        assert_int_equal(p.result.missing_bytes, b.missing);
        assert_true(fabs(goal_of(&p) - b.cost) <= 1e-9 * b.cost);
        assert_int_equal(p.result.is_optimal, 1);
        assert_true(fabs(p.result.bound - b.cost) <= 1e-9 * b.cost);
        n_missing += b.missing > 0;
        n_better += b.missing < greedy.missing_bytes || b.cost < 0.999 * greedy_cost;
    }
    assert_true(n_missing > 50 && n_better > 50); /* the cases are not the easy ones alone */
}

/* A limit ends the search: an answer that is valid, no worse than greedy, and not called optimal
 * when it is worse than the best; the bound is below the best. */
static void a_limited_search_is_valid_and_never_worse_than_greedy(void **state) {
    (void)state;
    test_rng rng = test_rng_begin(__func__);
    size_t n_open = 0;
    for (int round = 0; round < 300; round++) {
        problem p;
        make_random(&p, &rng, 24, 4);
        solve(&p, MO_PLACE_GREEDY);
        const mo_place_result greedy = p.result;
        const double greedy_cost = goal_of(&p);
        p.desc.max_nodes = 1 + test_below(&rng, 40);
        solve(&p, MO_PLACE_OPTIMAL);
        check_answer(&p);
        assert_true(p.result.n_nodes <= p.desc.max_nodes);
        assert_true(p.result.missing_bytes <= greedy.missing_bytes);
        if (p.result.missing_bytes == greedy.missing_bytes)
            assert_true(goal_of(&p) <= greedy_cost * (1 + 1e-9));
        const mo_place_result limited = p.result;
        const double limited_cost = goal_of(&p);
        p.desc.max_nodes = 20000;
        solve(&p, MO_PLACE_OPTIMAL);
        n_open += !limited.is_optimal;
        if (!p.result.is_optimal || limited.missing_bytes > p.result.missing_bytes) continue;
        assert_true(limited.bound <= goal_of(&p) * (1 + 1e-9));
        if (limited.is_optimal) assert_true(limited_cost <= goal_of(&p) * (1 + 1e-9));
    }
    assert_true(n_open > 50);
}

/* 2 sizes over 5 devices, three of them alike: without the rules for what is equal, the tree of 200
 * layers would not end. */
static void equal_layers_and_devices_are_searched_once(void **state) {
    (void)state;
    problem p;
    begin(&p);
    for (int d = 0; d < 3; d++) add_device(&p, 1000, 0, 0);
    add_device(&p, 900, 25, 0);
    add_device(&p, SIZE_MAX, 3, 0);
    for (int i = 0; i < 200; i++) add_item(&p, NULL, i % 50 == 0 ? 77 : 33, 0);
    solve(&p, MO_PLACE_OPTIMAL);
    assert_int_equal(p.result.is_optimal, 1);
    for (size_t i = 1, last = 0; i < 200; i++) { /* the first ones come first */
        if (i % 50 == 0) continue;
        assert_true(p.device[i] >= last);
        last = p.device[i];
    }
}

static void a_time_limit_ends_the_search(void **state) {
    (void)state;
    test_rng rng = test_rng_begin(__func__);
    problem p;
    begin(&p);
    add_device(&p, 3000001, 0, 1);
    add_device(&p, 5000001, 25, 1);
    add_device(&p, SIZE_MAX, 3, 0);
    for (int i = 0; i < 300; i++) add_item(&p, NULL, 2 * (10000 + test_below(&rng, 90000)), 0);
    p.desc.time_limit_s = 0.05;
    solve(&p, MO_PLACE_OPTIMAL);
    assert_true(p.result.n_nodes > 300);
    assert_true(p.result.step_s >= p.result.bound * (1 - 1e-9));
    assert_true(p.result.step_s <= p.result.bound * 1.1); /* most of a layer of 300, at worst */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_stays_on_the_first_device),
        cmocka_unit_test(room_for_the_largest_streamed_layer_is_kept),
        cmocka_unit_test(optimal_moves_less_than_greedy),
        cmocka_unit_test(a_group_stays_together),
        cmocka_unit_test(tied_weights_take_place_once_and_travel_for_each_layer),
        cmocka_unit_test(an_item_that_is_rarely_used_travels),
        cmocka_unit_test(a_pinned_item_lies_where_it_must_with_what_stays_with_it),
        cmocka_unit_test(missing_bytes_are_as_few_as_can_be),
        cmocka_unit_test(bytes_or_seconds_are_the_goal),
        cmocka_unit_test(nothing_to_place_is_placed),
        cmocka_unit_test(accelerate_infer_auto_device_map),
        cmocka_unit_test(accelerate_tied_model_fits_the_first_device),
        cmocka_unit_test(accelerate_tied_weights),
        cmocka_unit_test(accelerate_ties_of_whole_layers),
        cmocka_unit_test(accelerate_buffer_check),
        cmocka_unit_test(accelerate_fallback_allocation),
        cmocka_unit_test(accelerate_get_balanced_memory),
        cmocka_unit_test(balanced_may_spare_the_first_device_and_counts_blocks),
        cmocka_unit_test(optimal_equals_all_placements_of_500_small_cases),
        cmocka_unit_test(a_limited_search_is_valid_and_never_worse_than_greedy),
        cmocka_unit_test(equal_layers_and_devices_are_searched_once),
        cmocka_unit_test(a_time_limit_ends_the_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
