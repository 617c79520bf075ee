// 25_memory_report.c - where the memory of a training step went, as files to look at: an HTML page,
// a trace for Perfetto, a snapshot for pytorch.org/memory_viz. Without a folder it prints a table.
//     cc -I. examples/25_memory_report.c memopt.c -o memory_report -lm && ./memory_report .
#include "memopt.h"
#include <stdio.h>
#include <time.h>

enum { LAYERS = 6, STEPS = 3, PARAMS = 800 << 10, ACTIVATIONS = 300 << 10 };

static uint64_t now_ns(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static int write_file(void *file, const char *text, size_t size) {
    return fwrite(text, 1, size, file) != size;
}

// Called after every step. The library itself never prints.
static void show_step(void *self, const mo_track_step_stats *s) {
    (void)self;
    printf("step %d: peak %.1f MiB, of it activations %.1f; now %.1f\n", (int)s->step,
        (double)s->peak_bytes / 0x1p20, (double)s->at_peak[MO_CATEGORY_ACTIVATION] / 0x1p20,
        (double)s->current_bytes / 0x1p20);
}

static void train_step(mo_track *track) {
    static const char *const names[LAYERS] = {"h.0", "h.1", "h.2", "h.3", "h.4", "h.5"};
    void *x[LAYERS];
    for (int i = 0; i < LAYERS; i++) {
        mo_track_begin(track, "forward", names[i]); // a slice in the trace
        x[i] = MEMOPT_TRACK_ALLOC(track, ACTIVATIONS, 0, MO_CATEGORY_ACTIVATION);
        mo_track_end(track);
    }
    for (int i = LAYERS; i-- > 0;) {
        mo_track_begin(track, "backward", names[i]);
        void *dx = MEMOPT_TRACK_ALLOC(track, ACTIVATIONS / 2, 0, MO_CATEGORY_WORKSPACE);
        mo_track_dealloc(track, dx, ACTIVATIONS / 2, 0, MO_CATEGORY_WORKSPACE);
        mo_track_dealloc(track, x[i], ACTIVATIONS, 0, MO_CATEGORY_ACTIVATION);
        mo_track_end(track);
    }
    mo_track_step(track, "step"); // a mark, and show_step
}

static mo_status waterfall(void *self, const mo_writer *writer) {
    static const mo_chart_bar bars[] = {{"plain", 3 * PARAMS + LAYERS * ACTIVATIONS},
        {"+ 8-bit states", PARAMS + PARAMS / 2 + LAYERS * ACTIVATIONS},
        {"+ recompute every layer", PARAMS + PARAMS / 2 + 2 * ACTIVATIONS}};
    const mo_chart_desc desc = {.budget_bytes = 3 << 20};
    (void)self;
    return mo_chart_write_waterfall(&desc, bars, sizeof bars / sizeof *bars, writer);
}

static mo_status html(const mo_track *track, const mo_writer *writer) {
    const mo_report_section sections[] = {{.write = waterfall}};
    const mo_report_desc desc = {.title = "A training step", .sections = sections, .n_sections = 1};
    return mo_report_write_html(track, &desc, writer);
}
static mo_status snapshot(const mo_track *track, const mo_writer *writer) {
    return mo_snapshot_write(track, NULL, writer);
}

static int save(const mo_track *track, const char *folder, const char *name,
    mo_status (*write)(const mo_track *, const mo_writer *)) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file) return perror(path), 1;
    const mo_writer writer = {write_file, file};
    const mo_status status = write(track, &writer);
    if (fclose(file) != 0 || status != MO_OK) return perror(path), 1;
    return printf("wrote %s\n", path), 0;
}

int main(int argc, char **argv) {
    mo_track track;
    char line[128];
    const mo_track_desc desc = {.now_ns = now_ns, .on_step = show_step, .budget_bytes = 8 << 20};
    if (mo_track_init(&track, &desc) != MO_OK) return 1;
    const mo_allocator params = mo_track_allocator(&track, MO_CATEGORY_PARAM);
    void *w = mo_alloc(&params, PARAMS, 0x40);
    void *m = mo_track_alloc(&track, 2 * PARAMS, 0, MO_CATEGORY_OPTIMIZER, "adam m, v", 0);
    for (int i = 0; i < STEPS; i++) train_step(&track);
    mo_track_status_line(&track, line, sizeof line);
    puts(line);
    const mo_writer out = {write_file, stdout};
    int rc;
    if (argc < 2) rc = mo_track_write_summary(&track, &out) != MO_OK;
    else
        rc = save(&track, argv[1], "memory.html", html) ||
            save(&track, argv[1], "memory.json", mo_trace_write_json) ||
            save(&track, argv[1], "memory.pickle", snapshot);
    mo_free(&params, w, PARAMS, 0x40);
    mo_track_dealloc(&track, m, 2 * PARAMS, 0, MO_CATEGORY_OPTIMIZER);
    mo_track_free(&track);
    return rc;
}
