// cases_memory.c - arena, pool, suballoc, and malloc beside them.
#include "bench.h"

#include <stdlib.h>
#include <string.h>

// ---- arena ----------------------------------------------------------------------------------

enum { N_ALLOCS = 1000, BATCH = 64, PAIRS = 16384, BLOCK = 256 };

static void arena_alloc(void *state) {
    mo_arena *arena = state;
    mo_arena_reset(arena);
    for (size_t i = 0; i < N_ALLOCS; i++)
        if (!mo_arena_alloc(arena, 16 + i % 61 * 16, 0)) must(MO_E_NO_SPACE);
}

static bool setup_arena(work *w) {
    mo_arena *arena = take(w, sizeof *arena);
    mo_arena_desc desc = {.size = 1 << 20, .block = take(w, 1 << 20)};
    if (!arena || !desc.block) return false;
    must(mo_arena_init(arena, &desc));
    w->state = arena;
    w->units = N_ALLOCS;
    w->threads = 1;
    return true;
}

// ---- pool, malloc: a batch of blocks is taken, then given back in another order -------------

typedef struct blocks {
    mo_pool pool;
    const mo_parallel *parallel;
} blocks;

static void pool_pairs(void *context, int thread) {
    blocks *s = context;
    (void)thread;
    for (int pairs = 0; pairs < PAIRS; pairs += BATCH) {
        void *taken[BATCH];
        for (int i = 0; i < BATCH; i++) *(char *)(taken[i] = mo_pool_acquire(&s->pool)) = 1;
        for (int i = 0; i < BATCH; i++) must(mo_pool_release(&s->pool, taken[i * 37 % BATCH]));
    }
}
static void pool_run(void *state) { pool_pairs(state, 0); }
static void pool_run_threads(void *state) {
    blocks *s = state;
    mo_parallel_run(s->parallel, mo_parallel_threads(s->parallel), pool_pairs, s);
}

static void malloc_pairs(void *context, int thread) {
    (void)context, (void)thread;
    for (int pairs = 0; pairs < PAIRS; pairs += BATCH) {
        void *taken[BATCH];
        for (int i = 0; i < BATCH; i++) {
            taken[i] = malloc(BLOCK);
            if (!taken[i]) must(MO_E_NO_MEMORY);
            *(volatile char *)taken[i] = 1;
        }
        for (int i = 0; i < BATCH; i++) free(taken[i * 37 % BATCH]);
    }
}
static void malloc_run(void *state) { malloc_pairs(state, 0); }
static void malloc_run_threads(void *state) {
    blocks *s = state;
    mo_parallel_run(s->parallel, mo_parallel_threads(s->parallel), malloc_pairs, s);
}

// variant: not 0 = all threads at once; ns is then what each of them waits for a pair
static bool setup_pairs(work *w) {
    blocks *s = take(w, sizeof *s);
    size_t size;
    if (!s) return false;
    mo_pool_desc desc = {.block_size = BLOCK, .thread_safe = w->variant};
    desc.n_blocks = (size_t)(BATCH * w->threads);
    must(mo_pool_workspace_size(&desc, &size));
    desc.workspace = take(w, size);
    if (!desc.workspace) return false;
    must(mo_pool_init(&s->pool, &desc));
    s->parallel = w->parallel;
    w->state = s;
    w->units = PAIRS;
    if (!w->variant) w->threads = 1;
    return true;
}

// ---- suballoc: four training steps of a GPT with sequences of different length --------------

enum { STEPS = 4, MAX_TENSORS = STEPS * GPT_MAX_ITEMS };

typedef struct event {
    size_t step;
    int is_alloc;
    uint32_t tensor;
} event;

typedef struct replay {
    mo_suballoc sub;
    mo_suballoc_desc desc;
    mo_layout_item items[MAX_TENSORS];
    uint64_t handles[MAX_TENSORS];
    event events[2 * MAX_TENSORS];
    size_t n_items, n_events;
} replay;

// In a step, what ended before it is freed first.
static int by_time(const void *a, const void *b) {
    const event *x = a, *y = b;
    if (x->step != y->step) return x->step < y->step ? -1 : 1;
    if (x->is_alloc != y->is_alloc) return x->is_alloc - y->is_alloc;
    return x->tensor < y->tensor ? -1 : 1;
}

static void make_events(replay *s) {
    static const size_t seq[STEPS] = {256, 192, 248, 131};
    size_t clock = 0;
    for (int i = 0; i < STEPS; i++) {
        gpt_shape shape = {12, 4, seq[i], 768, 12, 8192};
        s->n_items += gpt_lifetimes(&shape, clock, s->items + s->n_items);
        clock += gpt_end(&shape);
    }
    for (uint32_t i = 0; i < s->n_items; i++) {
        s->events[s->n_events++] = (event){s->items[i].first, 1, i};
        s->events[s->n_events++] = (event){s->items[i].last + 1, 0, i};
    }
    qsort(s->events, s->n_events, sizeof *s->events, by_time);
}

static bool fits(replay *s) {
    mo_suballoc_reset(&s->sub);
    for (size_t i = 0; i < s->n_events; i++) {
        const event *e = &s->events[i];
        mo_suballoc_block block;
        if (!e->is_alloc) mo_suballoc_dealloc(&s->sub, s->handles[e->tensor]);
        else {
            if (mo_suballoc_alloc(&s->sub, s->items[e->tensor].size, 0, &block) != MO_OK)
                return false;
            s->handles[e->tensor] = block.handle;
        }
    }
    return true;
}

static bool fits_in(replay *s, uint64_t size) {
    s->desc.size = size;
    must(mo_suballoc_init(&s->sub, &s->desc));
    return fits(s);
}

// The least range that the trace runs in, by bisection.
static uint64_t least_capacity(replay *s, uint64_t low, uint64_t high) {
    while (high - low > 1 << 16) {
        uint64_t middle = low + (high - low) / 2;
        if (fits_in(s, middle)) high = middle;
        else low = middle;
    }
    return high;
}

static void suballoc_replay(void *state) {
    if (!fits(state)) must(MO_E_NO_SPACE);
}

static bool setup_replay(work *w) {
    const uint64_t plenty = (uint64_t)1 << 40;
    mo_suballoc_stats stats;
    size_t size;
    replay *s = take(w, sizeof *s);
    if (!s) return false;
    memset(s, 0, sizeof *s);
    make_events(s);
    s->desc = (mo_suballoc_desc){.size = plenty, .max_allocs = MAX_TENSORS};
    must(mo_suballoc_workspace_size(&s->desc, &size));
    s->desc.workspace = take(w, size);
    if (!s->desc.workspace) return false;
    if (!fits_in(s, plenty)) must(MO_E_NO_SPACE);
    mo_suballoc_get_stats(&s->sub, &stats);
    uint64_t least = least_capacity(s, stats.peak_bytes - 1, stats.extent_bytes);
    add_extra(w, "capacity_per_peak", (double)least / (double)stats.peak_bytes);
    add_extra(w, "peak_mib", (double)stats.peak_bytes / 0x1p20);
    if (!fits_in(s, least)) must(MO_E_NO_SPACE);
    w->state = s;
    w->units = s->n_events;
    w->threads = 1;
    return true;
}

const bench_case cases_memory[] = {
    {"arena.alloc", "alloc", "1000 blocks of 16 to 976 bytes, then reset", 0, setup_arena,
        arena_alloc, 0},
    {"pool.pair", "pair", "64 blocks of 256 bytes acquired, then released", 0, setup_pairs,
        pool_run, 0},
    {"pool.pair_threads", "pair", "the same on all threads with one pool, time of one thread", 0,
        setup_pairs, pool_run_threads, 1},
    {"malloc.pair", "pair", "as pool.pair, by malloc and free", 0, setup_pairs, malloc_run, 0},
    {"malloc.pair_threads", "pair", "as pool.pair_threads, by malloc and free", 0, setup_pairs,
        malloc_run_threads, 1},
    {"suballoc.replay", "event",
        "allocs and frees of a GPT's steps in the least range that they fit", 0, setup_replay,
        suballoc_replay, 0},
    {0}};
