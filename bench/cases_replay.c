// cases_replay.c - steps of a GPT served from plans, and recorded and planned anew each time.
#include "bench.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS = 4, RUNS = 2 };

typedef struct event {
    size_t step;
    int is_alloc;
    uint32_t tensor;
} event;

typedef struct steps {
    mo_replay replay;
    mo_layout_item items[STEPS][GPT_MAX_ITEMS];
    event events[STEPS][2 * GPT_MAX_ITEMS];
    size_t n_events[STEPS];
    size_t offsets[GPT_MAX_ITEMS];
    uint64_t key;
} steps;

// In a step, what ended before it is freed first.
static int by_time(const void *a, const void *b) {
    const event *x = a, *y = b;
    if (x->step != y->step) return x->step < y->step ? -1 : 1;
    if (x->is_alloc != y->is_alloc) return x->is_alloc - y->is_alloc;
    return x->tensor < y->tensor ? -1 : 1;
}

static size_t make_step(steps *s, int k) {
    static const size_t seq[STEPS] = {256, 192, 248, 131};
    const gpt_shape shape = {12, 4, seq[k], 768, 12, 8192};
    const size_t n = gpt_lifetimes(&shape, 0, s->items[k]);
    for (uint32_t i = 0; i < n; i++) {
        s->events[k][2 * i] = (event){s->items[k][i].first, 1, i};
        s->events[k][2 * i + 1] = (event){s->items[k][i].last + 1, 0, i};
    }
    s->n_events[k] = 2 * n;
    qsort(s->events[k], 2 * n, sizeof s->events[k][0], by_time);
    return 2 * n;
}

static void run_step(steps *s, int k, uint64_t key) {
    must(mo_replay_begin_step(&s->replay, key));
    for (size_t i = 0; i < s->n_events[k]; i++) {
        const event *e = &s->events[k][i];
        size_t *off = &s->offsets[e->tensor];
        if (e->is_alloc) must(mo_replay_alloc(&s->replay, s->items[k][e->tensor].size, 0, off));
        else must(mo_replay_dealloc(&s->replay, *off));
    }
    must(mo_replay_end_step(&s->replay));
}

static void replay_run(void *state) {
    for (int k = 0; k < STEPS; k++) run_step(state, k, (uint64_t)k);
}

// A key that never was.
static void record_run(void *state) {
    steps *s = state;
    for (int k = 0; k < STEPS; k++) run_step(s, k, s->key++);
}

// variant: 1 = a new key for each step, and the unit is a step
static bool setup_steps(work *w) {
    mo_replay_stats stats;
    steps *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    const mo_allocator allocator = mo_arena_allocator(w->arena);
    mo_replay_desc desc = {.size = (size_t)1 << 40, .allocator = w->variant ? NULL : &allocator};
    must(mo_replay_init(&s->replay, &desc));
    w->units = 0;
    for (int k = 0; k < STEPS; k++) w->units += make_step(s, k);
    for (int i = 0; i < RUNS; i++) replay_run(s);
    mo_replay_get_stats(&s->replay, &stats);
    add_extra(w, "replayed_per_peak", (double)stats.replayed_bytes / (double)stats.live_peak_bytes);
    add_extra(w, "recorded_per_peak", (double)stats.reserved_bytes / (double)stats.live_peak_bytes);
    add_extra(w, "peak_mib", (double)stats.live_peak_bytes / 0x1p20);
    if (w->variant) w->units = STEPS;
    w->state = s;
    w->threads = 1;
    return true;
}

const bench_case cases_replay[] = {
    {"replay.step", "event", "allocs and frees of a GPT's steps, served from their plans", 0,
        setup_steps, replay_run, 0},
    {"replay.record", "step", "the same, each step recorded and planned", 0, setup_steps,
        record_run, 1},
    {0}};
