// 02_arena.c - an arena that grows under a limit: a mark per step, who holds what, and what happens
// when the limit is hit.
//     cc -I. examples/02_arena.c memopt.c -o arena -lm
#include "memopt.h"
#include <stdio.h>

enum { LIMIT = 8 << 20, PARAMS = 1 << 20, BATCH_BYTES = 600 << 10 };

// The library never prints: messages and tables go where these two say.
static void log_line(void *self, mo_log_level level, const char *text) {
    (void)self, (void)level;
    printf("  log: %s\n", text);
}
static int write_text(void *self, const char *text, size_t size) {
    return fwrite(text, 1, size, self) != size;
}

// One training step; the batch grows from step to step. Returns 0 when it does not fit.
static int train_step(mo_arena *arena, mo_track *track, int step) {
    const size_t mark = mo_arena_mark(arena), size = (size_t)(step + 1) * BATCH_BYTES;
    char *begin = NULL;
    for (int layer = 0; layer < 3; layer++) {
        float *x = MEMOPT_TRACK_ALLOC(track, size, 0, MO_CATEGORY_ACTIVATION);
        if (layer == 0) begin = (char *)x;
        if (!x) break;
        x[0] = 1; // forward and backward would be here
    }
    const int fits = mo_arena_status(arena) == MO_OK; // one check for all three
    if (begin) mo_track_remove_range(track, begin, mo_arena_mark(arena) - mark);
    mo_arena_rewind(arena, mark); // every activation is free again
    return fits;
}

int main(void) {
    const mo_log log = {log_line, NULL};
    const mo_writer writer = {write_text, stdout};
    mo_arena arena;
    mo_arena_stats stats;
    mo_arena_desc arena_desc = {.limit = LIMIT};
    if (mo_arena_init(&arena, &arena_desc) != MO_OK) return 1;
    const mo_allocator allocator = mo_arena_allocator(&arena), heap = mo_allocator_heap();
    mo_track track;
    mo_track_desc track_desc = {.allocator = &allocator, .tables = &heap, .log = &log};
    if (mo_track_init(&track, &track_desc) != MO_OK) return 1;

    void *params = mo_track_alloc(&track, PARAMS, 0, MO_CATEGORY_PARAM, "params", 0);
    void *grads = mo_track_alloc(&track, PARAMS, 0, MO_CATEGORY_GRAD, "grads", 0);
    for (int step = 0; params && grads; step++) {
        int fits = train_step(&arena, &track, step);
        mo_arena_get_stats(&arena, &stats);
        printf("step %d: %s; peak %zu, committed %zu of %zu bytes\n", step,
            fits ? "done" : "no room", stats.peak_bytes, stats.committed_bytes, stats.limit_bytes);
        if (!fits) break; // a smaller batch would go on: nothing is lost
    }
    mo_track_write_summary(&track, &writer);
    mo_track_free(&track);
    mo_arena_free(&arena);
    return 0;
}
