// 01_quickstart.c - weights and activations in one block of memory, under a budget.
//     cc -I. examples/01_quickstart.c -o quickstart -lm
#define MEMOPT_IMPLEMENTATION
#include "memopt.h"
#include <stdio.h>

int main(void) {
    mo_arena arena;
    mo_arena_stats stats;
    mo_arena_desc desc = {0};
    desc.limit = 1 << 20; // bytes of address space; memory follows as it is needed
    if (mo_arena_init(&arena, &desc) != MO_OK) return 1;

    float *weights = (float *)mo_arena_alloc(&arena, 1000 * sizeof *weights, 0);
    size_t step_begin = mo_arena_mark(&arena);
    for (int step = 0; step < 3; step++) {
        float *activations = (float *)mo_arena_alloc(&arena, 5000 * sizeof *activations, 0);
        if (!weights || !activations) return 1;
        for (int i = 0; i < 5000; i++) activations[i] = (float)i;
        mo_arena_rewind(&arena, step_begin); // all activations are free again
    }
    mo_arena_get_stats(&arena, &stats);
    printf("peak %zu of %zu bytes\n", stats.peak_bytes, stats.limit_bytes);
    mo_arena_free(&arena);
    return 0;
}
