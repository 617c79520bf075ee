// 07_record_replay.c - training on sequences of many lengths: a step is recorded once, planned as a
// whole, and from then on served from the plan.
//     cc -I. examples/07_record_replay.c memopt.c -o record_replay -lm
#include "memopt.h"
#include <stdio.h>
#include <string.h>

enum { STEPS = 30, LAYERS = 6, CHANNELS = 128, HEADS = 4 };

// A tensor of n floats. The program allocates and frees as it goes, as with malloc.
static float *tensor(const mo_allocator *a, size_t n) {
    float *x = mo_alloc(a, n * sizeof *x, 64);
    if (x) memset(x, 0, n * sizeof *x); // a layer would compute here
    return x;
}
static void drop(const mo_allocator *a, float *x, size_t n) { mo_free(a, x, n * sizeof *x, 64); }

// One step: each layer keeps its input and probabilities for backward. Returns 0 when memory ends.
static int train_step(const mo_allocator *a, size_t seq) {
    const size_t x = seq * CHANNELS, p = seq * seq * HEADS;
    float *kept[LAYERS] = {0}, *probs[LAYERS] = {0}, *dx = NULL;
    int fits = 1;
    for (int i = 0; i < LAYERS; i++) {
        kept[i] = tensor(a, x);
        float *scores = tensor(a, p);
        probs[i] = tensor(a, p);
        fits = fits && kept[i] && scores && probs[i];
        drop(a, scores, p);
    }
    for (int i = LAYERS; i-- > 0;) {
        float *dprobs = tensor(a, p), *next = tensor(a, x);
        fits = fits && dprobs && next;
        drop(a, probs[i], p);
        drop(a, dx, x);
        drop(a, dprobs, p);
        drop(a, kept[i], x);
        dx = next;
    }
    drop(a, dx, x);
    return fits;
}

int main(void) {
    mo_arena arena;
    mo_arena_stats memory;
    mo_arena_desc arena_desc = {.limit = (size_t)256 << 20};
    if (mo_arena_init(&arena, &arena_desc) != MO_OK) return 1;
    mo_replay replay;
    mo_replay_stats stats;
    mo_replay_desc desc = {.arena = &arena, .ordered_keys = 1}; // the plan of 512 serves 300 too
    if (mo_replay_init(&replay, &desc) != MO_OK) return 1;
    const mo_allocator allocator = mo_replay_allocator(&replay);

    float *weights = tensor(&allocator, LAYERS * CHANNELS * CHANNELS); // outside of steps: stays
    int fits = weights != NULL;
    for (size_t step = 0; fits && step < STEPS; step++) {
        const size_t seq = 64 + step * 7919 % 449; // 64..512, each length new
        if (mo_replay_begin_step(&replay, seq) != MO_OK) return 1;
        fits = train_step(&allocator, seq);
        if (mo_replay_end_step(&replay) != MO_OK) return 1;
    }
    mo_replay_trim(&replay); // what recording took beyond the plans
    mo_replay_get_stats(&replay, &stats);
    mo_arena_get_stats(&arena, &memory);
    printf("%d steps: %d served from %zu plans, %d recorded\n", STEPS, (int)stats.n_hits,
        stats.n_plans, (int)(stats.n_misses + stats.n_fallbacks));
    printf("most bytes live at once  %9zu\n", stats.live_peak_bytes);
    printf("taken while recording    %9zu (x%.3f)\n", stats.reserved_bytes,
        (double)stats.reserved_bytes / (double)stats.live_peak_bytes);
    printf("taken by the plans       %9zu (x%.3f)\n", stats.replayed_bytes,
        (double)stats.replayed_bytes / (double)stats.live_peak_bytes);
    printf("committed now            %9zu\n", memory.committed_bytes);
    mo_replay_free(&replay);
    mo_arena_free(&arena);
    return !fits;
}
