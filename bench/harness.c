// harness.c - memory for the cases, timing, and the copy that they are held against.
#include "bench.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const double sample_s = 2e-3; // a sample lasts at least this long

typedef struct copier {
    const mo_parallel *parallel;
    float *from, *to, *to_stream; // lines that memcpy left in a cache would slow the stream down
    size_t n;
    bench_device *device; // that copies its own memory; NULL = the CPU does
} copier;

// What is timed in turns. The yardstick is the faster of the two copies.
enum { CASE, COPY, STREAM, RIVAL, N_TIMED };

struct harness {
    const options *options;
    mo_parallel parallel;
    mo_arena arena;
    size_t mark;
    mo_cblas_sgemm *cblas;
    copier copier;
    bench_device *device;
    char name[64];
    size_t copy_calls;
    double *samples; // [N_TIMED * repeats]
};

void must(mo_status status) {
    if (status != MO_OK) fail(EXIT_FAILED, "a case failed: %s", mo_status_text(status));
}

void *take(work *w, size_t size) { return mo_arena_alloc(w->arena, size ? size : 1, 0); }

float *take_random(work *w, size_t n, float scale) {
    float *x = take(w, n * sizeof *x);
    uint32_t bits = 2463534242u + 0x9e3779b9u * w->seed++;
    for (size_t i = 0; x && i < n; i++) { // xorshift32
        bits ^= bits << 13;
        bits ^= bits >> 17;
        bits ^= bits << 5;
        x[i] = scale * ((float)(int32_t)bits * 0x1p-31f);
    }
    return x;
}

void add_extra(work *w, const char *name, double value) {
    if (w->n_extras < MAX_EXTRAS) w->extras[w->n_extras++] = (extra){name, value};
}

static void run_copy(void *state) {
    copier *c = state;
    if (c->device) device_copy(c->device);
    else copy_floats(c->parallel, c->to, c->from, c->n, false);
}
static void run_stream(void *state) {
    copier *c = state;
    if (c->device) device_copy_buffer(c->device);
    else copy_floats(c->parallel, c->to_stream, c->from, c->n, true);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// What run enqueues on a device is waited for at the end.
static double seconds_per_call(const harness *h, void (*run)(void *), void *state, size_t calls) {
    double begin = now_s();
    for (size_t i = 0; i < calls; i++) run(state);
    if (h->device) device_finish(h->device);
    return (now_s() - begin) / (double)calls;
}

// How many calls a sample takes. The first call is the warm-up: it touches all pages.
static size_t calls_per_sample(const harness *h, void (*run)(void *), void *state) {
    size_t calls = 1;
    run(state);
    for (int attempt = 0; attempt < 8; attempt++) {
        double s = seconds_per_call(h, run, state, calls);
        if (s * (double)calls >= sample_s) break;
        size_t want = s > 0 ? (size_t)(1.2 * sample_s / s) + 1 : calls * 100;
        calls = want < calls * 100 ? want : calls * 100;
    }
    return calls;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Sorts the samples.
static double median(double *samples, int n) {
    qsort(samples, (size_t)n, sizeof *samples, ascending);
    return (samples[(n - 1) / 2] + samples[n / 2]) / 2;
}

// Never dlclosed: a BLAS keeps threads.
static mo_cblas_sgemm *load_blas(const char *path, int threads) {
    void *library = dlopen(path, RTLD_NOW);
    if (!library) fail(EXIT_FAILED, "--blas: %s", dlerror());
    mo_cblas_sgemm *sgemm = NULL;
    void (*set_threads)(int) = NULL;
    *(void **)&sgemm = dlsym(library, "cblas_sgemm");
    *(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
    if (!sgemm) fail(EXIT_FAILED, "--blas: %s has no cblas_sgemm", path);
    if (set_threads) set_threads(threads);
    return sgemm;
}

static void open_copier(harness *h) {
    work w = {.arena = &h->arena};
    copier *c = &h->copier;
    c->parallel = &h->parallel;
    c->n = h->options->n;
    if (h->device && !device_is_cpu(h->device)) {
        c->device = h->device;
        h->copy_calls = calls_per_sample(h, run_copy, c);
        return;
    }
    c->from = take_random(&w, c->n, 1);
    c->to = take(&w, c->n * sizeof *c->to);
    c->to_stream = take(&w, c->n * sizeof *c->to_stream);
    if (!c->from || !c->to || !c->to_stream)
        fail(EXIT_FAILED, "out of memory for --n %zu: take fewer", c->n);
    run_stream(c);
    h->copy_calls = calls_per_sample(h, run_copy, c);
}

harness *harness_open(const options *o, bool with_copy) {
    harness *h = calloc(1, sizeof *h);
    if (h) h->samples = malloc(N_TIMED * (size_t)o->repeats * sizeof *h->samples);
    if (!h || !h->samples) fail(EXIT_FAILED, "out of memory");
    h->options = o;
    h->parallel.n_threads = o->threads;
    if (o->blas) h->cblas = load_blas(o->blas, o->threads);
    // More than the machine has would be granted, and the process killed at first touch.
    mo_arena_desc desc = {.limit = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE)};
    must(mo_arena_init(&h->arena, &desc));
    if (strcmp(o->device, "cpu") != 0) h->device = device_open(o->device, o->n);
    if (h->device) snprintf(h->name, sizeof h->name, "%s", device_name(h->device));
    else snprintf(h->name, sizeof h->name, "cpu %s", mo_cpu_name(mo_cpu_current()));
    if (with_copy) open_copier(h);
    h->mark = mo_arena_mark(&h->arena);
    return h;
}

const char *harness_device(const harness *h) { return h->name; }
const char *harness_model(const harness *h) { return h->device ? device_model(h->device) : NULL; }

void harness_close(harness *h) {
    device_close(h->device);
    mo_arena_free(&h->arena);
    free(h->samples);
    free(h);
}

// The threads of one library spin for a while after a call, in the way of another library's; and
// threads that wake up need some time until each has a core of its own.
static void change_library(const harness *h, void (*to)(void *), void *state) {
    nanosleep(&(struct timespec){.tv_nsec = 60000000}, NULL);
    for (double begin = now_s(); now_s() - begin < 0.04;) {
        to(state);
        if (h->device) device_finish(h->device);
    }
}

// In turns, so that all see the same noise.
static void sample(harness *h, const bench_case *c, work *w) {
    const int repeats = h->options->repeats;
    const bool shares_cores = h->device && device_is_cpu(h->device);
    double *s = h->samples;
    size_t calls = calls_per_sample(h, c->run, w->state), rival_calls = 0;
    if (w->rival) rival_calls = calls_per_sample(h, w->rival, w->state);
    for (int r = 0; r < repeats; r++) {
        if (c->bytes > 0) {
            s[COPY * repeats + r] = seconds_per_call(h, run_copy, &h->copier, h->copy_calls);
            s[STREAM * repeats + r] = seconds_per_call(h, run_stream, &h->copier, h->copy_calls);
        }
        if (w->rival || shares_cores) change_library(h, c->run, w->state);
        s[CASE * repeats + r] = seconds_per_call(h, c->run, w->state, calls);
        if (!w->rival) continue;
        change_library(h, w->rival, w->state);
        s[RIVAL * repeats + r] = seconds_per_call(h, w->rival, w->state, rival_calls);
    }
}

static row make_row(harness *h, const bench_case *c, work *w) {
    const int repeats = h->options->repeats;
    double *samples = h->samples, s = median(samples, repeats);
    row r = {.bench = c,
        .device = h->name,
        .n = w->units,
        .threads = w->threads,
        .ns = 1e9 * s / (double)w->units};
    r.spread = (samples[repeats - 1] - samples[0]) / s;
    r.gb_s = r.copy_gb_s = r.copy_ratio = r.floor_ns = r.gflop_s = r.old_ns = NAN;
    if (c->bytes > 0) {
        double copy = median(samples + COPY * repeats, repeats);
        double stream = median(samples + STREAM * repeats, repeats);
        r.gb_s = c->bytes / r.ns;
        r.copy_gb_s = 1e-9 * 2 * sizeof(float) * (double)h->copier.n / fmin(copy, stream);
        r.copy_ratio = r.gb_s / r.copy_gb_s;
        r.floor_ns = c->bytes / r.copy_gb_s;
    }
    if (w->flops > 0) r.gflop_s = 1e-9 * w->flops / s;
    if (w->rival) {
        double rival = median(samples + RIVAL * repeats, repeats);
        const bool blas = w->flops > 0 && !w->rival_is_plain;
        if (w->flops > 0)
            add_extra(w, blas ? "blas_gflop_s" : "plain_gflop_s", 1e-9 * w->flops / rival);
        else add_extra(w, "plain_gb_s", 1e-9 * c->bytes * (double)w->units / rival);
        add_extra(w, blas ? "blas_ratio" : "plain_ratio", rival / s);
    }
    memcpy(r.extras, w->extras, sizeof r.extras);
    r.n_extras = w->n_extras;
    return r;
}

row harness_measure(harness *h, const bench_case *c) {
    work w = {.n = h->options->n,
        .parallel = &h->parallel,
        .cblas = h->cblas,
        .device = h->device,
        .arena = &h->arena,
        .variant = c->variant,
        .threads = h->options->threads};
    mo_arena_rewind(&h->arena, h->mark);
    if (h->device) device_rewind(h->device);
    if (!c->setup(&w)) fail(EXIT_FAILED, "%s: out of memory: take a smaller --n", c->name);
    sample(h, c, &w);
    if (w.end) w.end(w.state);
    return make_row(h, c, &w);
}
