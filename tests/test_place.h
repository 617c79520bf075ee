/* test_place.h - placement problems for the tests of mo_place. */
#ifndef TEST_PLACE_H
#define TEST_PLACE_H

#include "test_util.h"

enum { MAX_ITEMS = 400, MAX_DEVICES = 8 };

typedef struct problem {
    mo_place_device devices[MAX_DEVICES];
    mo_place_item items[MAX_ITEMS];
    mo_place_desc desc;
    size_t device[MAX_ITEMS];
    mo_place_use use[MAX_DEVICES];
    mo_place_result result;
} problem;

static inline void begin(problem *p) {
    memset(p, 0, sizeof *p);
    p->desc.devices = p->devices;
    p->desc.items = p->items;
}

static inline void add_device(problem *p, size_t limit, double speed, size_t n_buffers) {
    const mo_place_device device = {NULL, limit, speed, n_buffers};
    p->devices[p->desc.n_devices++] = device;
}

static inline mo_place_item *add_item(problem *p, const char *name, size_t bytes, size_t group) {
    mo_place_item *item = &p->items[p->desc.n_items++];
    item->name = name;
    item->bytes = bytes;
    item->group = group;
    return item;
}

static inline void solve(problem *p, mo_place_method method) {
    p->desc.method = method;
    test_ok(mo_place_solve(&p->desc, p->device, p->use, &p->result));
}

/* The devices as digits, '-' = no place. */
static inline const char *placed(problem *p, mo_place_method method) {
    static char text[MAX_ITEMS + 1];
    solve(p, method);
    for (size_t i = 0; i < p->desc.n_items; i++)
        text[i] = p->device[i] == SIZE_MAX ? '-' : (char)('0' + p->device[i]);
    text[p->desc.n_items] = 0;
    return text;
}

/* The accelerate devices: GPUs, where the first keeps room, then a disk without limit. */
static inline void add_gpus(problem *p, size_t n, const size_t *limits) {
    for (size_t d = 0; d < n; d++) add_device(p, limits[d], 0, d == 0);
    add_device(p, SIZE_MAX, 3e9, 0);
}

static inline void make_random(problem *p, test_rng *rng, size_t max_items, size_t n_devices) {
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

#endif
