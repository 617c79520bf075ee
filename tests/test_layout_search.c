/* test_layout_search.c - mo_layout: the search, gaps, aliases, fixed offsets and spaces, against
 * trying everything. */
#include "test_util.h"

#include <stdbool.h>

enum { MAX_N = 8, MAX_STEPS = 8, N_ROUNDS = 1500 };

/* ---- trying everything --------------------------------------------------------------------- */

/* What of each item is in use at each step, and where the items lie. */
typedef struct world {
    size_t n, n_spaces;
    mo_layout_item items[MAX_N];
    size_t low[MAX_N][MAX_STEPS], high[MAX_N][MAX_STEPS];
    size_t fixed[MAX_N], from[MAX_N], sizes[2];
    size_t at[MAX_N], space[MAX_N], end[2];
    size_t best, stop;
} world;

static void use_whole(world *w) {
    memset(w->low, 0, sizeof w->low);
    memset(w->high, 0, sizeof w->high);
    for (size_t i = 0; i < w->n; i++) {
        w->fixed[i] = w->from[i] = SIZE_MAX;
        for (size_t t = w->items[i].first; t <= w->items[i].last; t++)
            w->high[i][t] = w->items[i].size;
    }
}

/* from's last step is i's first: from holds both there. */
static bool lie_apart(const world *w, size_t i, size_t j) {
    if (w->space[i] != w->space[j]) return true;
    for (size_t t = 0; t < MAX_STEPS; t++) {
        if (w->low[i][t] == w->high[i][t] || w->low[j][t] == w->high[j][t]) continue;
        if (t == w->items[i].first && w->from[i] != SIZE_MAX) continue; /* judged as from */
        if (t == w->items[j].first && w->from[j] != SIZE_MAX) continue;
        if (w->at[i] + w->low[i][t] < w->at[j] + w->high[j][t] &&
            w->at[j] + w->low[j][t] < w->at[i] + w->high[i][t])
            return false;
    }
    return true;
}

static void try_offsets(world *w, size_t i);

static void try_offset(world *w, size_t i, size_t space, size_t at) {
    size_t end = at + w->items[i].size, before = w->end[space];
    w->at[i] = at;
    w->space[i] = space;
    if (w->n_spaces && end > w->sizes[space]) return;
    for (size_t j = 0; j < i; j++)
        if (!lie_apart(w, i, j)) return;
    if (end > before) w->end[space] = end;
    if (w->end[0] + w->end[1] < w->best) try_offsets(w, i + 1);
    w->end[space] = before;
}

/* Every offset of item i and those behind it that is below the best sum of ends. */
static void try_offsets(world *w, size_t i) {
    if (i == w->n) {
        w->best = w->end[0] + w->end[1];
        return;
    }
    size_t align = w->items[i].align;
    for (size_t space = 0; space < (w->n_spaces ? w->n_spaces : 1) && w->best > w->stop; space++) {
        if (w->from[i] < i && space != w->space[w->from[i]]) continue;
        if (w->fixed[i] != SIZE_MAX && space) continue;
        for (size_t at = 0; at + w->items[i].size < w->best; at += align) {
            if (w->fixed[i] != SIZE_MAX && at != w->fixed[i]) continue;
            if (w->from[i] < i && at != w->at[w->from[i]]) continue;
            try_offset(w, i, space, at);
            if (w->best <= w->stop) return;
        }
    }
}

/* The smallest sum of ends up to most - 1, else most. */
static size_t brute_force(world *w, size_t most, size_t stop) {
    w->best = most;
    w->stop = stop;
    w->end[0] = w->end[1] = 0;
    try_offsets(w, 0);
    return w->best;
}

/* ---- random items -------------------------------------------------------------------------- */

/* Rectangles that fill steps x height, cut in two over and over. */
static size_t fill_grid(
    test_rng *rng, mo_layout_item *items, size_t n, size_t steps, size_t height) {
    size_t made = 1;
    mo_layout_item whole = {height, 1, 0, steps - 1};
    items[0] = whole;
    for (int tries = 0; made < n && tries < 60; tries++) {
        mo_layout_item *item = &items[test_below(rng, made)], *other = &items[made];
        *other = *item;
        if (test_below(rng, 2) && item->last > item->first) {
            item->last = item->first + test_below(rng, item->last - item->first);
            other->first = item->last + 1;
            made++;
        } else if (item->size > 1) {
            item->size = 1 + test_below(rng, item->size - 1);
            other->size -= item->size;
            made++;
        }
    }
    for (size_t i = made; i > 1; i--) {
        size_t k = test_below(rng, i);
        mo_layout_item swap = items[k];
        items[k] = items[i - 1];
        items[i - 1] = swap;
    }
    return made;
}

/* Items at random, as long as no step has more live than height. */
static size_t fill_steps(
    test_rng *rng, mo_layout_item *items, size_t n, size_t steps, size_t height) {
    size_t live[MAX_STEPS] = {0}, made = 0;
    for (int tries = 0; made < n && tries < 100; tries++) {
        size_t first = test_below(rng, steps), last = first + test_below(rng, steps - first);
        mo_layout_item item = {1 + test_below(rng, height / 2 + 1), 1, first, last};
        size_t most = 0;
        for (size_t t = first; t <= last; t++)
            if (live[t] > most) most = live[t];
        if (most + item.size > height) continue;
        for (size_t t = first; t <= last; t++) live[t] += item.size;
        items[made++] = item;
    }
    return made;
}

/* 8 bytes are live at most, and no layout takes less than 9. */
static const mo_layout_item above_bound[8] = {{4, 1, 0, 2}, {1, 1, 1, 3}, {4, 1, 5, 5},
    {2, 1, 1, 4}, {1, 1, 5, 5}, {3, 1, 3, 4}, {3, 1, 4, 5}, {4, 1, 0, 0}};

/* That one, but for two sizes. */
static void near_above_bound(test_rng *rng, world *w) {
    w->n = 8;
    w->n_spaces = 0;
    memset(w->space, 0, sizeof w->space);
    memcpy(w->items, above_bound, sizeof above_bound);
    for (int k = 0; k < 2; k++) {
        mo_layout_item *item = &w->items[test_below(rng, 8)];
        item->size += test_below(rng, 3);
        if (item->size > 1) item->size -= test_below(rng, 2);
    }
    use_whole(w);
}

/* A grid, or one whose rectangles were moved and stretched, or anything at all, or what fills its
 * steps well. */
static void random_world(test_rng *rng, world *w, size_t max_n, size_t max_size) {
    size_t n = 2 + test_below(rng, max_n - 1), steps = 2 + test_below(rng, MAX_STEPS - 1);
    size_t kind = test_below(rng, 4), height = 2 + test_below(rng, max_size - 1);
    w->n_spaces = 0;
    memset(w->space, 0, sizeof w->space);
    w->n = kind == 3 ? fill_steps(rng, w->items, n, steps, height)
                     : fill_grid(rng, w->items, n, steps, height);
    for (size_t i = 0; i < w->n; i++) {
        mo_layout_item *item = &w->items[i];
        if (kind == 1 && test_below(rng, 3) == 0) item->last = item->first + test_below(rng, 3);
        if (kind == 2) {
            item->size = 1 + test_below(rng, max_size);
            item->first = test_below(rng, steps);
            item->last = item->first + test_below(rng, steps);
        }
        if (item->last >= steps) item->last = steps - 1;
    }
    use_whole(w);
}

static mo_layout_desc search_desc(void) {
    mo_layout_desc desc = {.align = 1, .max_nodes = 1000000};
    return desc;
}

/* ---- the search ---------------------------------------------------------------------------- */

static void the_search_finds_the_smallest_layout_and_proves_it(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("the_search_finds_the_smallest_layout_and_proves_it");
    int n_above = 0;
    for (int round = 0; round < 4 * N_ROUNDS; round++) {
        world w;
        size_t offsets[MAX_N];
        mo_layout_result r;
        if (round % 8 == 0) near_above_bound(&rng, &w);
        else random_world(&rng, &w, 8, 9);
        mo_layout_desc desc = search_desc();
        test_ok(mo_layout_solve(&desc, w.items, w.n, offsets, &r));
        test_ok(mo_layout_check(&desc, w.items, w.n, offsets, r.peak));
        assert_true(r.proved);
        assert_int_equal(r.peak, r.lower_bound);
        assert_int_equal(brute_force(&w, r.peak + 1, r.live_bound), r.peak);
        n_above += r.peak > r.live_bound;
    }
    assert_true(n_above > 100); /* so that proofs above the live bound are among them */
}

static void mixed_alignments_are_searched_too(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("mixed_alignments_are_searched_too");
    for (int round = 0; round < N_ROUNDS; round++) {
        world w;
        size_t offsets[MAX_N];
        mo_layout_result r;
        random_world(&rng, &w, 6, 9);
        for (size_t i = 0; i < w.n; i++) w.items[i].align = (size_t)1 << test_below(&rng, 3);
        mo_layout_desc desc = search_desc();
        test_ok(mo_layout_solve(&desc, w.items, w.n, offsets, &r));
        test_ok(mo_layout_check(&desc, w.items, w.n, offsets, r.peak));
        assert_true(r.proved);
        assert_int_equal(brute_force(&w, r.peak + 1, r.live_bound), r.peak);
    }
}

static void capacity_is_where_the_search_may_stop(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("capacity_is_where_the_search_may_stop");
    for (int round = 0; round < N_ROUNDS; round++) {
        world w;
        size_t offsets[MAX_N];
        mo_layout_result r;
        if (round % 8 == 0) near_above_bound(&rng, &w);
        else random_world(&rng, &w, 8, 9);
        mo_layout_desc desc = search_desc();
        test_ok(mo_layout_solve(&desc, w.items, w.n, offsets, &r));
        size_t best = r.peak;
        for (desc.capacity = best - 1; desc.capacity <= best + 1; desc.capacity++) {
            if (desc.capacity == 0) continue;
            test_ok(mo_layout_solve(&desc, w.items, w.n, offsets, &r));
            test_ok(mo_layout_check(&desc, w.items, w.n, offsets, r.peak));
            assert_int_equal(r.peak <= desc.capacity, best <= desc.capacity);
            if (best > desc.capacity) assert_true(r.lower_bound > desc.capacity);
        }
    }
}

/* ---- fixed offsets, gaps, aliases, spaces --------------------------------------------------- */

static void fixed_items_stay_and_the_rest_is_best(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("fixed_items_stay_and_the_rest_is_best");
    for (int round = 0; round < N_ROUNDS; round++) {
        world w;
        size_t offsets[MAX_N];
        mo_layout_result r;
        random_world(&rng, &w, 7, 8);
        mo_layout_desc desc = search_desc();
        test_ok(mo_layout_solve(&desc, w.items, w.n, offsets, &r));
        for (size_t i = 0; i < w.n; i++) /* of a layout, moved up: they do not overlap */
            if (test_below(&rng, 3) == 0) w.fixed[i] = offsets[i] + (size_t)(round & 1);
        desc.fixed = w.fixed;
        test_ok(mo_layout_solve(&desc, w.items, w.n, offsets, &r));
        test_ok(mo_layout_check(&desc, w.items, w.n, offsets, r.peak));
        assert_true(r.proved);
        assert_int_equal(brute_force(&w, r.peak + 1, r.live_bound), r.peak);
    }
}

static size_t random_gaps(test_rng *rng, world *w, mo_layout_gap *gaps, bool only_low) {
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++) {
        const mo_layout_item *item = &w->items[i];
        size_t first = item->first;
        while (first <= item->last && n < MAX_N && test_below(rng, 2)) {
            mo_layout_gap gap = {i, first + test_below(rng, item->last - first + 1), 0, 0, 0};
            gap.last = gap.first + test_below(rng, item->last - gap.first + 1);
            gap.high = test_below(rng, item->size + 1);
            if (!only_low) gap.low = test_below(rng, gap.high + 1);
            for (size_t t = gap.first; t <= gap.last; t++) {
                w->low[i][t] = gap.low;
                w->high[i][t] = gap.high;
            }
            gaps[n++] = gap;
            first = gap.last + 1;
        }
    }
    for (size_t k = n; k > 1; k--) {
        size_t l = test_below(rng, k);
        mo_layout_gap swap = gaps[l];
        gaps[l] = gaps[k - 1];
        gaps[k - 1] = swap;
    }
    return n;
}

static void gaps_are_used_in_the_best_way(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("gaps_are_used_in_the_best_way");
    for (int round = 0; round < N_ROUNDS; round++) {
        world w;
        mo_layout_gap gaps[MAX_N];
        size_t offsets[MAX_N];
        mo_layout_result r;
        random_world(&rng, &w, 6, 7);
        mo_layout_desc desc = search_desc();
        desc.gaps = gaps;
        desc.n_gaps = random_gaps(&rng, &w, gaps, true);
        test_ok(mo_layout_solve(&desc, w.items, w.n, offsets, &r));
        test_ok(mo_layout_check(&desc, w.items, w.n, offsets, r.peak));
        assert_true(r.proved);
        assert_int_equal(brute_force(&w, r.peak + 1, r.live_bound), r.peak);
    }
}

/* Windows that begin above 0: the search lays items below or above others as a whole. */
static void windows_are_valid_and_mostly_best(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("windows_are_valid_and_mostly_best");
    int n_best = 0;
    for (int round = 0; round < N_ROUNDS; round++) {
        world w;
        mo_layout_gap gaps[MAX_N];
        size_t offsets[MAX_N];
        mo_layout_result r;
        random_world(&rng, &w, 6, 7);
        mo_layout_desc desc = search_desc();
        desc.max_nodes = 2000;
        desc.gaps = gaps;
        desc.n_gaps = random_gaps(&rng, &w, gaps, false);
        test_ok(mo_layout_solve(&desc, w.items, w.n, offsets, &r));
        test_ok(mo_layout_check(&desc, w.items, w.n, offsets, r.peak));
        size_t best = brute_force(&w, r.peak + 1, r.live_bound);
        assert_true(r.peak >= best && best >= r.lower_bound);
        n_best += r.peak == best;
    }
    assert_true(n_best >= N_ROUNDS * 95 / 100);
}

/* The best over every set of aliases that can be taken together. */
static size_t brute_force_aliases(
    world *w, const mo_layout_alias *aliases, size_t n, size_t most, size_t stop) {
    size_t best = most;
    for (size_t set = 0; set < (size_t)1 << n; set++) {
        bool given[MAX_N] = {0}, is_valid = true;
        for (size_t i = 0; i < w->n; i++) w->from[i] = SIZE_MAX;
        for (size_t k = 0; k < n; k++) {
            if (!(set >> k & 1)) continue;
            is_valid &= !given[aliases[k].from] && w->from[aliases[k].item] == SIZE_MAX;
            given[aliases[k].from] = true;
            w->from[aliases[k].item] = aliases[k].from;
        }
        if (is_valid) best = brute_force(w, best, stop);
    }
    return best;
}

/* Items by first step, so that an alias refers backwards, as the brute force wants it. */
static size_t random_aliases(test_rng *rng, world *w, mo_layout_alias *aliases) {
    size_t n = 0;
    for (size_t i = 1; i < w->n; i++)
        for (size_t k = i; k > 0 && w->items[k].first < w->items[k - 1].first; k--) {
            mo_layout_item swap = w->items[k];
            w->items[k] = w->items[k - 1];
            w->items[k - 1] = swap;
        }
    for (size_t i = 1; i < w->n; i++) {
        size_t k = test_below(rng, i);
        mo_layout_item *item = &w->items[i], *from = &w->items[k];
        if (from->first >= item->first) continue;
        from->last = item->first;
        if (from->size < item->size) from->size = item->size;
    }
    for (size_t i = 1; i < w->n; i++)
        for (size_t k = 0; k < i; k++)
            if (w->items[k].first < w->items[i].first && w->items[k].last == w->items[i].first &&
                w->items[i].size <= w->items[k].size && n < 5 && test_below(rng, 3))
                aliases[n++] = (mo_layout_alias){i, k};
    use_whole(w);
    return n;
}

static void aliases_are_taken_where_they_help(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("aliases_are_taken_where_they_help");
    int n_taken = 0;
    for (int round = 0; round < N_ROUNDS; round++) {
        world w;
        mo_layout_alias aliases[MAX_N];
        size_t offsets[MAX_N], taken[MAX_N];
        mo_layout_result r;
        random_world(&rng, &w, 6, 7);
        mo_layout_desc desc = search_desc();
        desc.n_aliases = random_aliases(&rng, &w, aliases);
        desc.aliases = aliases;
        desc.taken = taken;
        test_ok(mo_layout_solve(&desc, w.items, w.n, offsets, &r));
        test_ok(mo_layout_check(&desc, w.items, w.n, offsets, r.peak));
        assert_true(r.proved);
        assert_int_equal(
            brute_force_aliases(&w, aliases, desc.n_aliases, r.peak + 1, r.live_bound), r.peak);
        for (size_t i = 0; i < w.n; i++) n_taken += taken[i] != SIZE_MAX;
    }
    assert_true(n_taken > N_ROUNDS / 2);
}

static void two_spaces_hold_what_they_can(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("two_spaces_hold_what_they_can");
    int n_fit = 0;
    for (int round = 0; round < N_ROUNDS; round++) {
        world w;
        size_t offsets[MAX_N], space[MAX_N], sum = 0;
        mo_layout_result r;
        random_world(&rng, &w, 6, 7);
        mo_layout_desc desc = search_desc();
        for (size_t i = 0; i < w.n; i++) sum += w.items[i].size;
        w.n_spaces = desc.n_spaces = 2;
        w.sizes[0] = 1 + test_below(&rng, 8);
        w.sizes[1] = test_below(&rng, 2) ? w.sizes[0] : 1 + test_below(&rng, 8);
        desc.spaces = w.sizes;
        desc.space = space;
        mo_status status = mo_layout_solve(&desc, w.items, w.n, offsets, &r);
        if (status == MO_E_NO_SPACE) {
            assert_int_equal(brute_force(&w, sum + 1, 0), sum + 1);
            continue;
        }
        test_ok(status);
        test_ok(mo_layout_check(&desc, w.items, w.n, offsets, r.peak));
        assert_true(r.proved);
        assert_int_equal(brute_force(&w, r.peak + 1, r.live_bound), r.peak);
        n_fit++;
    }
    assert_true(n_fit > N_ROUNDS / 10);
}

/* ---- explain ------------------------------------------------------------------------------- */

static void explain_lists_what_is_live_at_the_peak(void **state) {
    (void)state;
    const mo_layout_item items[] = {{64, 0, 0, 3}, {512, 0, 1, 2}, {128, 0, 2, 2}, {1024, 0, 4, 4}};
    const mo_layout_gap gap = {1, 2, 2, 0, 256};
    mo_layout_desc desc = {.capacity = 500};
    size_t live[4], set[4];
    mo_layout_reason reason;
    test_ok(mo_layout_explain(&desc, items, 4, live, set, &reason));
    assert_int_equal(reason.peak_step, 4);
    assert_int_equal(reason.n_live, 1);
    assert_int_equal(live[0], 3);
    assert_int_equal(reason.n_set, 1);
    assert_int_equal(set[0], 3);
    assert_true(reason.irreducible);
    desc.capacity = 600;
    desc.gaps = &gap;
    desc.n_gaps = 1;
    test_ok(mo_layout_explain(&desc, items, 3, live, set, &reason));
    assert_int_equal(reason.peak_step, 1);
    assert_int_equal(reason.live_bytes, 64 + 512);
    assert_int_equal(live[0], 1);
    assert_int_equal(live[1], 0);
    assert_int_equal(reason.n_set, 0); /* they fit */
}

/* Without the set nothing can be said, without any one of it the rest fits. */
static void explain_names_an_irreducible_set(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("explain_names_an_irreducible_set");
    int n_above = 0;
    for (int round = 0; round < N_ROUNDS / 10; round++) {
        world w;
        size_t offsets[MAX_N], live[MAX_N], set[MAX_N];
        mo_layout_result r;
        mo_layout_reason reason;
        if (round % 4 == 0) near_above_bound(&rng, &w);
        else random_world(&rng, &w, 8, 9);
        mo_layout_desc desc = search_desc();
        test_ok(mo_layout_solve(&desc, w.items, w.n, offsets, &r));
        desc.capacity = r.peak - 1;
        if (desc.capacity == 0) continue;
        test_ok(mo_layout_explain(&desc, w.items, w.n, live, set, &reason));
        assert_true(reason.irreducible);
        assert_true(reason.n_set > 0);
        world without = w;
        for (size_t left_out = 0; left_out <= reason.n_set; left_out++) {
            without.n = 0;
            for (size_t k = 0; k < reason.n_set; k++)
                if (k != left_out) without.items[without.n++] = w.items[set[k]];
            use_whole(&without);
            size_t best = brute_force(&without, r.peak, 0);
            assert_int_equal(best <= desc.capacity, left_out < reason.n_set);
        }
        n_above += reason.n_set > reason.n_live;
    }
    assert_true(n_above > 0); /* more than what is live at one step */
}

/* Taking over lowers what is live, and yet, as sizes are rounded, the block is smaller without. */
static void rounding_may_make_not_taking_over_better(void **state) {
    (void)state;
    const mo_layout_item items[] = {{8, 8, 0, 0}, {1, 8, 0, 1}, {16, 8, 1, 1}};
    const mo_layout_alias alias = {1, 0};
    const size_t apart[] = {0, 16, 0}, none[] = {SIZE_MAX, SIZE_MAX, SIZE_MAX};
    size_t offsets[3], taken[3];
    mo_layout_desc desc = {0};
    mo_layout_result result;
    desc.aliases = &alias;
    desc.n_aliases = 1;
    desc.taken = taken;
    test_ok(mo_layout_solve(&desc, items, 3, offsets, &result));
    test_ok(mo_layout_check(&desc, items, 3, offsets, result.peak));
    assert_true(result.lower_bound <= 17);
    memcpy(taken, none, sizeof none);
    test_ok(mo_layout_check(&desc, items, 3, apart, 17));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding_may_make_not_taking_over_better),
        cmocka_unit_test(the_search_finds_the_smallest_layout_and_proves_it),
        cmocka_unit_test(mixed_alignments_are_searched_too),
        cmocka_unit_test(capacity_is_where_the_search_may_stop),
        cmocka_unit_test(fixed_items_stay_and_the_rest_is_best),
        cmocka_unit_test(gaps_are_used_in_the_best_way),
        cmocka_unit_test(windows_are_valid_and_mostly_best),
        cmocka_unit_test(aliases_are_taken_where_they_help),
        cmocka_unit_test(two_spaces_hold_what_they_can),
        cmocka_unit_test(explain_lists_what_is_live_at_the_peak),
        cmocka_unit_test(explain_names_an_irreducible_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
