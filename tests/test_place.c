/* test_place.c - mo_place: golden placements of accelerate, all placements of small cases, maps by
 * hand, what is streamed when. */
#include "test_util.h"

#include <math.h>

enum { MAX_ITEMS = 400, MAX_DEVICES = 8 };

/* ---- help ---------------------------------------------------------------------------------- */

typedef struct problem {
    mo_place_device devices[MAX_DEVICES];
    mo_place_item items[MAX_ITEMS];
    mo_place_desc desc;
    size_t device[MAX_ITEMS];
    mo_place_use use[MAX_DEVICES];
    mo_place_result result;
} problem;

static void begin(problem *p) {
    memset(p, 0, sizeof *p);
    p->desc.devices = p->devices;
    p->desc.items = p->items;
}

static void add_device(problem *p, size_t limit, double speed, size_t n_buffers) {
    const mo_place_device device = {NULL, limit, speed, n_buffers};
    p->devices[p->desc.n_devices++] = device;
}

static mo_place_item *add_item(problem *p, const char *name, size_t bytes, size_t group) {
    mo_place_item *item = &p->items[p->desc.n_items++];
    item->name = name;
    item->bytes = bytes;
    item->group = group;
    return item;
}

static void solve(problem *p, mo_place_method method) {
    p->desc.method = method;
    test_ok(mo_place_solve(&p->desc, p->device, p->use, &p->result));
}

/* The devices as digits, '-' = no place. */
static const char *placed(problem *p, mo_place_method method) {
    static char text[MAX_ITEMS + 1];
    solve(p, method);
    for (size_t i = 0; i < p->desc.n_items; i++)
        text[i] = p->device[i] == SIZE_MAX ? '-' : (char)('0' + p->device[i]);
    text[p->desc.n_items] = 0;
    return text;
}

/* The accelerate devices: GPUs, where the first keeps room, then a disk without limit. */
static void add_gpus(problem *p, size_t n, const size_t *limits) {
    for (size_t d = 0; d < n; d++) add_device(p, limits[d], 0, d == 0);
    add_device(p, SIZE_MAX, 3e9, 0);
}

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

static void make_random(problem *p, test_rng *rng, size_t max_items, size_t n_devices) {
    const size_t n = 1 + test_below(rng, max_items);
    const size_t range = test_below(rng, 2) ? 5 : 100;
    const int has_groups = test_below(rng, 2) == 0, has_ties = test_below(rng, 2) == 0;
    const int has_pins = test_below(rng, 4) == 0, has_uses = test_below(rng, 3) == 0;
    size_t tied_bytes[4] = {0}, total = 0;
    begin(p);
    for (size_t k = 1; k < 4; k++) tied_bytes[k] = test_below(rng, range);
    for (size_t i = 0; i < n; i++) {
        mo_place_item *item = add_item(p, NULL, test_below(rng, range), 0);
        if (has_groups && test_below(rng, 2)) item->group = 1 + test_below(rng, 3);
        if (has_ties && test_below(rng, 3) == 0) item->tied = 1 + test_below(rng, 3);
        if (item->tied) item->bytes = tied_bytes[item->tied];
        if (has_uses) item->uses = 0.25 * (double)test_below(rng, 9);
        total += item->bytes;
    }
    if (has_pins) {
        mo_place_item *item = &p->items[test_below(rng, n)];
        item->pinned = 1;
        item->device = test_below(rng, n_devices);
    }
    for (size_t d = 0; d < n_devices; d++) {
        const size_t limit = test_below(rng, total + 2);
        const int computes = d == 0 || test_below(rng, 3) == 0;
        add_device(p, test_below(rng, 8) == 0 ? SIZE_MAX : limit,
            computes ? 0 : (double)(1 + test_below(rng, 50)), test_below(rng, 3));
    }
    p->desc.goal = test_below(rng, 3) == 0 ? MO_PLACE_BYTES : MO_PLACE_SECONDS;
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

/* ---- maps by hand -------------------------------------------------------------------------- */

static void add_names(problem *p) {
    begin(p);
    for (int d = 0; d < 3; d++) add_device(p, 100, d == 0 ? 0 : 10, 0);
    add_item(p, "wte.weight", 1, 0);
    add_item(p, "h.1.attn.weight", 2, 0);
    add_item(p, "h.1.mlp.weight", 4, 0);
    add_item(p, "h.10.mlp.weight", 8, 0);
    add_item(p, "h.1", 16, 0);
}

static void the_longest_prefix_wins_at_dots(void **state) {
    (void)state;
    const mo_place_rule rules[] = {{"h.1", 1}, {"", 2}, {"h.1.mlp", 0}};
    const size_t expected[] = {2, 1, 0, 2, 1};
    problem p;
    add_names(&p);
    test_ok(mo_place_map(&p.desc, rules, n_elements(rules), p.device));
    assert_memory_equal(p.device, expected, sizeof expected);
    test_ok(mo_place_measure(&p.desc, p.device, p.use, &p.result));
    assert_true(p.use[0].bytes == 4 && p.use[1].bytes == 18 && p.use[2].bytes == 9);
    assert_true(p.result.moved_bytes == 27 && p.result.over_bytes == 0);
}

static void what_no_rule_covers_is_named(void **state) {
    (void)state;
    const mo_place_rule rules[] = {{"h.1", 1}, {"wte.w", 0}};
    problem p;
    test_log logged;
    mo_log log = test_log_begin(&logged);
    add_names(&p);
    p.desc.log = &log;
    p.device[0] = 77;
    assert_int_equal(mo_place_map(&p.desc, rules, 2, p.device), MO_E_NOT_FOUND);
    assert_string_equal(logged.text, "place: no rule covers item 'wte.weight', nor 1 more");
    assert_int_equal(p.device[0], 77);
}

static void rules_that_make_no_sense_are_named(void **state) {
    (void)state;
    const mo_place_rule far[] = {{"", 3}}, twice[] = {{"h", 0}, {"", 0}, {"h", 0}};
    const mo_place_rule none[] = {{NULL, 0}}, all[] = {{"", 0}};
    problem p;
    test_log logged;
    mo_log log = test_log_begin(&logged);
    add_names(&p);
    p.desc.log = &log;
    assert_int_equal(mo_place_map(&p.desc, far, 1, p.device), MO_E_INVALID);
    assert_string_equal(logged.text, "place: rule '': device 3 of 3");
    assert_int_equal(mo_place_map(&p.desc, twice, 3, p.device), MO_E_INVALID);
    assert_string_equal(logged.text, "place: rule 'h' twice");
    assert_int_equal(mo_place_map(&p.desc, none, 1, p.device), MO_E_INVALID);
    assert_int_equal(mo_place_map(NULL, all, 1, p.device), MO_E_INVALID);
    assert_int_equal(mo_place_map(&p.desc, NULL, 1, p.device), MO_E_INVALID);
    assert_int_equal(mo_place_map(&p.desc, all, 1, NULL), MO_E_INVALID);
    p.items[2].name = NULL;
    assert_int_equal(mo_place_map(&p.desc, all, 1, p.device), MO_E_INVALID);
    assert_string_equal(logged.text, "place: item 2 has no name");
}

/* ---- measuring ----------------------------------------------------------------------------- */

static void a_placement_by_hand_may_break_limits_groups_and_ties(void **state) {
    (void)state;
    const size_t device[] = {0, 1, 1, 2, SIZE_MAX};
    problem p;
    begin(&p);
    add_device(&p, 100, 0, 2);
    add_device(&p, 40, 10, 0);
    add_device(&p, SIZE_MAX, 5, 0);
    add_item(&p, NULL, 30, 1)->tied = 1;
    add_item(&p, NULL, 20, 1);
    add_item(&p, NULL, 30, 2)->tied = 1;
    add_item(&p, NULL, 10, 2);
    add_item(&p, NULL, 30, 3)->tied = 1;
    test_ok(mo_place_measure(&p.desc, device, p.use, &p.result));
    assert_true(p.use[0].bytes == 30 && p.use[1].bytes == 50 && p.use[2].bytes == 10);
    assert_int_equal(
        p.use[0].room_bytes, 80); /* the second group: 30 from one, 10 from the other */
    assert_true(p.use[0].over_bytes == 10 && p.use[1].over_bytes == 10);
    assert_int_equal(p.result.over_bytes, 20);
    assert_true(p.result.missing_bytes == 30 && p.result.n_missing == 1);
    assert_true(p.result.moved_bytes == 60 && p.result.step_s == 7);
}

/* ---- what is streamed ---------------------------------------------------------------------- */

/* Five layers of two items; 0 stays, the others travel. */
static void add_stream(problem *p) {
    begin(p);
    add_device(p, SIZE_MAX, 0, 2);
    add_device(p, SIZE_MAX, 10, 0);
    for (size_t i = 0; i < 10; i++) {
        add_item(p, NULL, 10 + i, 1 + i / 2);
        p->device[i] = i >= 2;
    }
}

static void fetches_come_in_order_and_start_when_a_buffer_is_free(void **state) {
    (void)state;
    problem p;
    mo_place_fetch fetches[MAX_ITEMS];
    size_t n;
    add_stream(&p);
    test_ok(mo_place_stream(&p.desc, p.device, 2, fetches, &n));
    assert_int_equal(n, 4);
    for (size_t k = 0; k < n; k++) {
        assert_int_equal(fetches[k].item, 2 + 2 * k);
        assert_int_equal(fetches[k].last, 3 + 2 * k);
        assert_int_equal(fetches[k].device, 1);
        assert_int_equal(fetches[k].bytes, 25 + 4 * k);
        assert_true(fabs(fetches[k].link_s - (2.5 + 0.4 * (double)k)) < 1e-12);
    }
    /* Of the four, the last two of a step leave their buffers to the first two of the next: one
     * behind item 7, in the step before, one behind its end. */
    assert_true(fetches[0].begin == 8 && fetches[0].wraps);
    assert_true(fetches[1].begin == 0 && !fetches[1].wraps);
    assert_true(fetches[2].begin == 4 && !fetches[2].wraps);
    assert_true(fetches[3].begin == 6 && !fetches[3].wraps);
}

static void one_buffer_is_filled_when_it_is_needed(void **state) {
    (void)state;
    problem p;
    mo_place_fetch fetches[MAX_ITEMS];
    size_t n;
    add_stream(&p);
    test_ok(mo_place_stream(&p.desc, p.device, 1, fetches, &n));
    for (size_t k = 1; k < n; k++) assert_int_equal(fetches[k].begin, fetches[k].item);
    assert_int_equal(fetches[0].begin, 0); /* while the first layer computes */
    test_ok(mo_place_stream(&p.desc, p.device, 9, fetches, &n));
    for (size_t k = 0; k < 3; k++)
        assert_true(fetches[k].begin == fetches[k].last + 1 && fetches[k].wraps);
}

static void tied_weights_are_fetched_for_each_layer(void **state) {
    (void)state;
    problem p;
    mo_place_fetch fetches[MAX_ITEMS];
    size_t n;
    add_stream(&p);
    p.items[2].bytes = p.items[3].bytes = p.items[9].bytes = 7;
    p.items[2].tied = p.items[3].tied = p.items[9].tied = 5;
    test_ok(mo_place_stream(&p.desc, p.device, 2, fetches, &n));
    assert_int_equal(fetches[0].bytes, 7);
    assert_int_equal(fetches[3].bytes, 25);
}

static void layers_that_are_needed_at_once_need_buffers(void **state) {
    (void)state;
    problem p;
    mo_place_fetch fetches[MAX_ITEMS];
    size_t n = 99;
    test_log logged;
    mo_log log = test_log_begin(&logged);
    add_stream(&p);
    add_device(&p, SIZE_MAX, 5, 0);
    p.desc.log = &log;
    p.device[2] = 2; /* half of a layer from another device */
    assert_int_equal(mo_place_stream(&p.desc, p.device, 1, fetches, &n), MO_E_NO_SPACE);
    assert_string_equal(
        logged.text, "place: items 2 and 3 are needed at once, and 1 buffers are too few");
    assert_int_equal(n, 99);
    test_ok(mo_place_stream(&p.desc, p.device, 2, fetches, &n));
    assert_int_equal(n, 5);
    assert_true(fetches[0].item == 2 && fetches[1].item == 3 && fetches[1].device == 1);
}

/* The room that solve keeps is a ring of buffers for the largest fetch. */
static void the_room_holds_the_buffers(void **state) {
    (void)state;
    test_rng rng = test_rng_begin(__func__);
    mo_place_fetch fetches[MAX_ITEMS];
    for (int round = 0; round < 200; round++) {
        problem p;
        size_t n, largest = 0;
        double seconds = 0;
        make_random(&p, &rng, 30, 3);
        for (size_t i = 0; i < p.desc.n_items; i++) {
            p.items[i].group = 1 + i / 3; /* in a row, so that any number of buffers will do */
            p.items[i].pinned = 0;
            p.items[i].uses = 1;
        }
        p.desc.max_nodes = 1000;
        solve(&p, MO_PLACE_OPTIMAL);
        test_ok(mo_place_stream(&p.desc, p.device, 1 + test_below(&rng, 3), fetches, &n));
        for (size_t k = 0; k < n; k++) {
            largest = fetches[k].bytes > largest ? fetches[k].bytes : largest;
            seconds += fetches[k].link_s;
            if (k > 0) assert_true(fetches[k].item > fetches[k - 1].last);
            if (!fetches[k].wraps) assert_true(fetches[k].begin <= fetches[k].item);
        }
        assert_int_equal(p.use[0].room_bytes, p.devices[0].n_buffers * largest);
        assert_true(fabs(seconds - p.result.step_s) <= 1e-9 * seconds);
    }
}

/* ---- text and JSON ------------------------------------------------------------------------- */

typedef struct text_buffer {
    char text[8192];
    size_t size, limit;
} text_buffer;

static int text_write(void *self, const char *text, size_t size) {
    text_buffer *b = self;
    if (b->size + size > b->limit) return 1;
    memcpy(b->text + b->size, text, size);
    b->text[b->size += size] = 0;
    return 0;
}

typedef mo_status write_function(const mo_place_desc *desc, const size_t *device,
    const mo_place_use *use, const mo_place_result *result, const mo_writer *writer);

static void make_written(problem *p) {
    begin(p);
    add_device(p, 100, 0, 1);
    add_device(p, SIZE_MAX, 10, 0);
    p->devices[1].name = "disk \"a\"";
    add_item(p, "embed", 40, 0);
    add_item(p, "h.0", 30, 0);
    add_item(p, "h.1", 30, 0);
    add_item(p, NULL, 30, 0);
    solve(p, MO_PLACE_OPTIMAL);
}

static const char *written(const problem *p, write_function *write, text_buffer *b) {
    const mo_writer writer = {text_write, b};
    b->size = 0;
    b->limit = sizeof b->text - 1;
    test_ok(write(&p->desc, p->device, p->use, &p->result, &writer));
    return b->text;
}

static void text_is_a_table(void **state) {
    (void)state;
    problem p;
    text_buffer b;
    make_written(&p);
    assert_string_equal(written(&p, mo_place_write_text, &b),
        "placement: 60 bytes over links, 6 s in a step (optimal)\n"
        "           limit   items' bytes           room          moved   items  device\n"
        "             100             70             30              0       2  0\n"
        "               -             60              0             60       2  disk \"a\"\n"
        "           bytes   items  device  first .. last\n"
        "              70       2  0  embed .. h.0\n"
        "              60       2  disk \"a\"  h.1 .. 3\n");
}

static void text_says_what_is_missing(void **state) {
    (void)state;
    problem p;
    text_buffer b;
    make_written(&p);
    p.desc.n_devices = 1;
    solve(&p, MO_PLACE_OPTIMAL);
    const char *text = written(&p, mo_place_write_text, &b);
    assert_non_null(strstr(text, "no place for 1 items of 30 bytes\n"));
    assert_non_null(strstr(text, "  nowhere  "));
}

static void json_holds_the_whole_placement(void **state) {
    (void)state;
    problem p;
    text_buffer b;
    make_written(&p);
    p.device[3] = SIZE_MAX;
    test_ok(mo_place_measure(&p.desc, p.device, p.use, &p.result));
    assert_string_equal(written(&p, mo_place_write_json, &b),
        "{\"fits\":false,\"is_optimal\":false,\"step_s\":3,\"moved_bytes\":30,\"bound\":0,"
        "\"missing_bytes\":30,\"over_bytes\":0,\"devices\":["
        "{\"name\":\"0\",\"limit_bytes\":100,\"bytes\":70,\"room_bytes\":30,\"moved_bytes\":0,"
        "\"items\":2},"
        "{\"name\":\"disk \\\"a\\\"\",\"limit_bytes\":null,\"bytes\":30,\"room_bytes\":0,"
        "\"moved_bytes\":30,\"items\":1}],\"items\":["
        "{\"name\":\"embed\",\"bytes\":40,\"device\":\"0\"},"
        "{\"name\":\"h.0\",\"bytes\":30,\"device\":\"0\"},"
        "{\"name\":\"h.1\",\"bytes\":30,\"device\":\"disk \\\"a\\\"\"},"
        "{\"name\":\"3\",\"bytes\":30,\"device\":null}]}\n");
}

static void a_writer_that_refuses_is_reported(void **state) {
    (void)state;
    write_function *const writers[] = {mo_place_write_text, mo_place_write_json};
    problem p;
    text_buffer b;
    const mo_writer writer = {text_write, &b}, none = {NULL, NULL};
    make_written(&p);
    for (size_t i = 0; i < n_elements(writers); i++) {
        written(&p, writers[i], &b);
        const size_t size = b.size;
        for (b.limit = 0; b.limit < size; b.limit++) {
            b.size = 0;
            assert_int_equal(writers[i](&p.desc, p.device, p.use, &p.result, &writer), MO_E_IO);
        }
        const size_t device = p.device[0];
        p.device[0] = 2;
        assert_int_equal(writers[i](&p.desc, p.device, p.use, &p.result, &writer), MO_E_INVALID);
        p.device[0] = device;
        assert_int_equal(writers[i](NULL, p.device, p.use, &p.result, &writer), MO_E_INVALID);
        assert_int_equal(writers[i](&p.desc, NULL, p.use, &p.result, &writer), MO_E_INVALID);
        assert_int_equal(writers[i](&p.desc, p.device, NULL, &p.result, &writer), MO_E_INVALID);
        assert_int_equal(writers[i](&p.desc, p.device, p.use, NULL, &writer), MO_E_INVALID);
        assert_int_equal(writers[i](&p.desc, p.device, p.use, &p.result, &none), MO_E_INVALID);
    }
}

/* ---- errors -------------------------------------------------------------------------------- */

static void refuses(problem *p, mo_status status, const char *message) {
    test_log logged;
    mo_log log = test_log_begin(&logged);
    const size_t before = p->device[0] = 77;
    p->desc.log = &log;
    assert_int_equal(mo_place_solve(&p->desc, p->device, NULL, NULL), status);
    assert_int_equal(p->device[0], before);
    assert_string_equal(logged.text, message);
}

static void make_simple(problem *p) {
    begin(p);
    add_device(p, 100, 0, 1);
    add_device(p, 100, 10, 0);
    p->devices[1].name = "cpu";
    add_item(p, "a", 10, 0);
    add_item(p, NULL, 20, 0);
}

static void input_that_makes_no_sense_is_named(void **state) {
    (void)state;
    static const double wrong[] = {-1, NAN, INFINITY};
    static const char *const words[] = {"-1", "nan", "inf"};
    problem p;
    char message[100];
    for (size_t i = 0; i < 3; i++) {
        make_simple(&p);
        p.devices[1].bytes_per_s = wrong[i];
        snprintf(message, sizeof message, "place: device 'cpu': %s bytes_per_s", words[i]);
        refuses(&p, MO_E_INVALID, message);
        make_simple(&p);
        p.items[1].uses = wrong[i];
        snprintf(message, sizeof message, "place: item 1: %s uses", words[i]);
        refuses(&p, MO_E_INVALID, message);
    }
    make_simple(&p);
    p.items[0].pinned = 1;
    p.items[0].device = 2;
    refuses(&p, MO_E_INVALID, "place: item 'a': pinned to device 2 of 2");
    make_simple(&p);
    p.items[0].tied = p.items[1].tied = 9;
    refuses(&p, MO_E_INVALID, "place: items 'a' and 1 are tied, but of 10 and 20 bytes");
    make_simple(&p);
    p.items[0].group = p.items[1].group = 9;
    p.items[0].pinned = p.items[1].pinned = 1;
    p.items[1].device = 1;
    refuses(
        &p, MO_E_INVALID, "place: item 1: pinned to device 1, but another that stays with it to 0");
    make_simple(&p);
    p.items[1].bytes = SIZE_MAX - 9;
    snprintf(message, sizeof message, "place: item 1: %zu bytes overflow the sum", SIZE_MAX - 9);
    refuses(&p, MO_E_OVERFLOW, message);
}

static void missing_arguments_are_refused(void **state) {
    (void)state;
    problem p;
    mo_place_fetch fetch[2];
    size_t n, limits[2];
    make_simple(&p);
    assert_int_equal(mo_place_solve(NULL, p.device, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_place_solve(&p.desc, NULL, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_place_measure(&p.desc, NULL, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_place_measure(NULL, p.device, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_place_balanced(&p.desc, 0, NULL), MO_E_INVALID);
    assert_int_equal(mo_place_balanced(NULL, 0, limits), MO_E_INVALID);
    assert_int_equal(mo_place_stream(NULL, p.device, 1, fetch, &n), MO_E_INVALID);
    assert_int_equal(mo_place_stream(&p.desc, NULL, 1, fetch, &n), MO_E_INVALID);
    assert_int_equal(mo_place_stream(&p.desc, p.device, 0, fetch, &n), MO_E_INVALID);
    assert_int_equal(mo_place_stream(&p.desc, p.device, 1, NULL, &n), MO_E_INVALID);
    assert_int_equal(mo_place_stream(&p.desc, p.device, 1, fetch, NULL), MO_E_INVALID);
    p.device[1] = 2;
    assert_int_equal(mo_place_measure(&p.desc, p.device, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_place_stream(&p.desc, p.device, 1, fetch, &n), MO_E_INVALID);
    p.desc.n_devices = 0;
    assert_int_equal(mo_place_solve(&p.desc, p.device, NULL, NULL), MO_E_INVALID);
    make_simple(&p);
    p.desc.items = NULL;
    assert_int_equal(mo_place_solve(&p.desc, p.device, NULL, NULL), MO_E_INVALID);
    make_simple(&p);
    p.desc.time_limit_s = NAN;
    assert_int_equal(mo_place_solve(&p.desc, p.device, NULL, NULL), MO_E_INVALID);
    make_simple(&p);
    p.desc.method = (mo_place_method)7;
    assert_int_equal(mo_place_solve(&p.desc, p.device, NULL, NULL), MO_E_INVALID);
}

/* Sizes, limits and buffers near the largest number do not wrap around. */
static void numbers_at_the_edge_are_counted_right(void **state) {
    (void)state;
    problem p;
    begin(&p);
    add_device(&p, SIZE_MAX, 0, SIZE_MAX);
    add_device(&p, SIZE_MAX - 1, 1, 0);
    add_item(&p, NULL, SIZE_MAX - 3, 0);
    add_item(&p, NULL, 3, 0);
    solve(&p, MO_PLACE_OPTIMAL);
    assert_int_equal(p.use[0].bytes, SIZE_MAX);
    assert_int_equal(p.result.missing_bytes, 0);
    p.device[0] = p.device[1] = 1; /* the room is more than there is */
    test_ok(mo_place_measure(&p.desc, p.device, p.use, &p.result));
    assert_int_equal(p.use[0].room_bytes, SIZE_MAX);
    assert_int_equal(p.use[1].over_bytes, 1);
    p.devices[0].limit_bytes = 10;
    p.devices[0].n_buffers = 1;
    assert_string_equal(placed(&p, MO_PLACE_OPTIMAL), "-0");
}

typedef mo_status call_function(problem *p);
static mo_status call_solve(problem *p) {
    return mo_place_solve(&p->desc, p->device, p->use, &p->result);
}
static mo_status call_measure(problem *p) {
    return mo_place_measure(&p->desc, p->device, p->use, &p->result);
}
static mo_status call_stream(problem *p) {
    mo_place_fetch fetches[MAX_ITEMS];
    size_t n;
    return mo_place_stream(&p->desc, p->device, 2, fetches, &n);
}
static mo_status call_balanced(problem *p) {
    size_t limits[MAX_DEVICES];
    return mo_place_balanced(&p->desc, 1, limits);
}

static void any_failed_allocation_is_reported(void **state) {
    (void)state;
    call_function *const calls[] = {call_solve, call_measure, call_stream, call_balanced};
    for (size_t c = 0; c < n_elements(calls); c++) {
        mo_status status = MO_E_NO_MEMORY;
        for (int k = 0; status != MO_OK; k++) {
            test_heap heap;
            const mo_allocator allocator = test_heap_begin(&heap, k);
            problem p;
            add_stream(&p);
            p.desc.allocator = &allocator;
            p.device[0] = 1;
            status = calls[c](&p);
            assert_int_equal(status, heap.n_requests > k ? MO_E_NO_MEMORY : MO_OK);
            assert_int_equal(heap.live_blocks, 0);
            if (status != MO_OK) assert_int_equal(p.device[0], 1);
            assert_true(k < 10);
        }
    }
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
        cmocka_unit_test(the_longest_prefix_wins_at_dots),
        cmocka_unit_test(what_no_rule_covers_is_named),
        cmocka_unit_test(rules_that_make_no_sense_are_named),
        cmocka_unit_test(a_placement_by_hand_may_break_limits_groups_and_ties),
        cmocka_unit_test(fetches_come_in_order_and_start_when_a_buffer_is_free),
        cmocka_unit_test(one_buffer_is_filled_when_it_is_needed),
        cmocka_unit_test(tied_weights_are_fetched_for_each_layer),
        cmocka_unit_test(layers_that_are_needed_at_once_need_buffers),
        cmocka_unit_test(the_room_holds_the_buffers),
        cmocka_unit_test(text_is_a_table),
        cmocka_unit_test(text_says_what_is_missing),
        cmocka_unit_test(json_holds_the_whole_placement),
        cmocka_unit_test(a_writer_that_refuses_is_reported),
        cmocka_unit_test(input_that_makes_no_sense_is_named),
        cmocka_unit_test(missing_arguments_are_refused),
        cmocka_unit_test(numbers_at_the_edge_are_counted_right),
        cmocka_unit_test(any_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
