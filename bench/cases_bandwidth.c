// cases_bandwidth.c - what the memory of this machine does: the yardstick of all other cases.
#include "bench.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

typedef struct arrays {
    const mo_parallel *parallel;
    size_t n;
    float *a, *b, *c;
    uint64_t *sums; // [threads], so that reading is not optimised away
} arrays;

// The part of n elements that task i of the hook's threads works on.
typedef struct part {
    size_t begin, n;
} part;
static part part_of(const mo_parallel *parallel, size_t n, int i) {
    size_t parts = (size_t)mo_parallel_threads(parallel), step = (n / parts + 64) & ~(size_t)63;
    size_t begin = step * (size_t)i < n ? step * (size_t)i : n;
    return (part){begin, n - begin < step ? n - begin : step};
}

static void copy_part(void *context, int i) {
    arrays *s = context;
    part p = part_of(s->parallel, s->n, i);
    memcpy(s->a + p.begin, s->b + p.begin, p.n * sizeof *s->a);
}

// Past the caches: memcpy does so too, but only for arrays larger than its threshold.
static void stream_part(void *context, int i) {
    arrays *s = context;
    part p = part_of(s->parallel, s->n, i);
    size_t k = 0;
#ifdef __SSE2__
    for (; k + 16 <= p.n; k += 16)
        for (size_t j = 0; j < 16; j += 4)
            _mm_stream_ps(s->a + p.begin + k + j, _mm_load_ps(s->b + p.begin + k + j));
    _mm_sfence();
#endif
    memcpy(s->a + p.begin + k, s->b + p.begin + k, (p.n - k) * sizeof *s->a);
}

static void write_part(void *context, int i) {
    arrays *s = context;
    part p = part_of(s->parallel, s->n, i);
    memset(s->a + p.begin, 1, p.n * sizeof *s->a);
}

static void read_part(void *context, int i) {
    arrays *s = context;
    part p = part_of(s->parallel, s->n, i);
    const float *from = s->b + p.begin;
    uint64_t sum[8] = {0};
    for (size_t k = 0; k + 16 <= p.n; k += 16) {
        uint64_t x[8];
        memcpy(x, from + k, sizeof x);
        for (int j = 0; j < 8; j++) sum[j] ^= x[j];
    }
    for (int j = 0; j < 8; j++) s->sums[i] += sum[j];
}

static void update_part(void *context, int i) {
    arrays *s = context;
    part p = part_of(s->parallel, s->n, i);
    float *a = s->a + p.begin;
    for (size_t k = 0; k < p.n; k++) a[k] = 1 - a[k];
}

static void triad_part(void *context, int i) {
    arrays *s = context;
    part p = part_of(s->parallel, s->n, i);
    float *restrict a = s->a + p.begin;
    const float *b = s->b + p.begin, *c = s->c + p.begin;
    for (size_t k = 0; k < p.n; k++) a[k] = b[k] + 3 * c[k];
}

static void in_parts(arrays *s, void (*task)(void *context, int i)) {
    mo_parallel_run(s->parallel, mo_parallel_threads(s->parallel), task, s);
}
static void run_copy(void *state) { in_parts(state, copy_part); }
static void run_stream(void *state) { in_parts(state, stream_part); }
static void run_read(void *state) { in_parts(state, read_part); }
static void run_write(void *state) { in_parts(state, write_part); }
static void run_update(void *state) { in_parts(state, update_part); }
static void run_triad(void *state) { in_parts(state, triad_part); }

void copy_floats(const mo_parallel *parallel, float *to, const float *from, size_t n, bool stream) {
    arrays s = {.parallel = parallel, .n = n, .a = to, .b = (float *)from};
    in_parts(&s, stream ? stream_part : copy_part);
}

static bool setup(work *w) {
    arrays *s = take(w, sizeof *s);
    if (!s) return false;
    s->parallel = w->parallel;
    s->n = w->units = w->n;
    s->a = take(w, w->n * sizeof *s->a);
    s->b = take_random(w, w->n, 1);
    s->c = take_random(w, w->n, 1);
    s->sums = take(w, (size_t)w->threads * sizeof *s->sums);
    w->state = s;
    return s->a && s->b && s->c && s->sums;
}

const bench_case cases_bandwidth[] = {
    {"bandwidth.copy", "element", "8 B: memcpy", 8, setup, run_copy, 0},
    {"bandwidth.stream", "element", "8 B: copy by streaming stores", 8, setup, run_stream, 0},
    {"bandwidth.read", "element", "4 B: sum", 4, setup, run_read, 0},
    {"bandwidth.write", "element", "4 B: memset", 4, setup, run_write, 0},
    {"bandwidth.update", "element", "8 B: a = 1 - a", 8, setup, run_update, 0},
    {"bandwidth.triad", "element", "12 B: a = b + 3 c, plain stores", 12, setup, run_triad, 0},
    {0}};
