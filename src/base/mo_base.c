/* mo_base.c - see mo_base.h. */

const char *mo_status_name(mo_status status) {
#define MOI_STATUS_NAME(name, value, text)                                                         \
    case name: return #name;
    switch (status) {
        MEMOPT_STATUS_LIST(MOI_STATUS_NAME)
    default: return "?";
    }
#undef MOI_STATUS_NAME
}

const char *mo_status_text(mo_status status) {
#define MOI_STATUS_TEXT(name, value, text)                                                         \
    case name: return text;
    switch (status) {
        MEMOPT_STATUS_LIST(MOI_STATUS_TEXT)
    default: return "?";
    }
#undef MOI_STATUS_TEXT
}

#define MOI_STRINGIFY_(x) #x
#define MOI_STRINGIFY(x)  MOI_STRINGIFY_(x)
const char *mo_version(void) {
    return MOI_STRINGIFY(MEMOPT_VERSION_MAJOR) "." MOI_STRINGIFY(
        MEMOPT_VERSION_MINOR) "." MOI_STRINGIFY(MEMOPT_VERSION_PATCH);
}
#undef MOI_STRINGIFY
#undef MOI_STRINGIFY_

const char *mo_category_name(mo_category category) {
    static const char *const names[MO_CATEGORY_COUNT] = {
        "other", "param", "grad", "optimizer", "activation", "workspace", "input"};
    return (unsigned)category < MO_CATEGORY_COUNT ? names[category] : "?";
}

/* ---- allocator ----------------------------------------------------------------------------- */

/* The heap allocator over-allocates and keeps the address that malloc gave in front of the block:
 * aligned_alloc is missing on Windows and refuses sizes that are not multiples of the alignment. */
static void *moi_heap_alloc(void *self, size_t size, size_t align) {
    size_t slack = moi_max(align, sizeof(void *)) + sizeof(void *), total;
    (void)self;
    if (!moi_add(size, slack, &total)) return NULL;
    char *raw = (char *)malloc(total);
    if (!raw) return NULL;
    uintptr_t at = ((uintptr_t)raw + slack - 1) & ~(uintptr_t)(moi_max(align, sizeof(void *)) - 1);
    ((void **)at)[-1] = raw;
    return (void *)at;
}

static void moi_heap_free(void *self, void *ptr, size_t size, size_t align) {
    (void)self, (void)size, (void)align;
    free(((void **)ptr)[-1]);
}

mo_allocator mo_allocator_heap(void) {
    mo_allocator heap;
    heap.alloc = moi_heap_alloc;
    heap.free = moi_heap_free;
    heap.self = NULL;
    return heap;
}

void *mo_alloc(const mo_allocator *allocator, size_t size, size_t align) {
    if (size == 0 || !moi_is_pow2(align)) return NULL;
    if (!allocator || !allocator->alloc) return moi_heap_alloc(NULL, size, align);
    return allocator->alloc(allocator->self, size, align);
}

void mo_free(const mo_allocator *allocator, void *ptr, size_t size, size_t align) {
    if (!ptr) return;
    if (!allocator || !allocator->alloc) moi_heap_free(NULL, ptr, size, align);
    else if (allocator->free) allocator->free(allocator->self, ptr, size, align);
}

/* n elements of one size, 0 bytes or overflow = NULL. */
MEMOPT_UNUSED static void *moi_alloc_array(const mo_allocator *allocator, size_t n, size_t size) {
    size_t bytes;
    return moi_mul(n, size, &bytes) ? mo_alloc(allocator, bytes, MOI_CACHE_LINE) : NULL;
}

MEMOPT_UNUSED static void moi_free_array(
    const mo_allocator *allocator, void *ptr, size_t n, size_t size) {
    mo_free(allocator, ptr, n * size, MOI_CACHE_LINE);
}

/* ---- log ----------------------------------------------------------------------------------- */

MEMOPT_UNUSED MOI_PRINTF(3) static void moi_log(
    const mo_log *log, mo_log_level level, const char *format, ...) {
    char text[1024];
    va_list args;
    if (!log || !log->write) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log->write(log->self, level, text);
}

/* ---- parallel ------------------------------------------------------------------------------ */

int mo_parallel_threads(const mo_parallel *parallel) {
    const int asked = parallel ? parallel->n_threads : 0;
    if (parallel && parallel->run) return asked > 0 ? asked : 1;
#ifdef _OPENMP
    return asked > 0 ? asked : omp_get_max_threads();
#else
    return 1;
#endif
}

void mo_parallel_run(
    const mo_parallel *parallel, int n, void (*task)(void *context, int i), void *context) {
    if (parallel && parallel->run) {
        parallel->run(parallel->self, n, task, context);
        return;
    }
#ifdef _OPENMP
    int threads = mo_parallel_threads(parallel);
    if (n > 1 && threads > 1) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
        for (int i = 0; i < n; i++) task(context, i);
        return;
    }
#endif
    for (int i = 0; i < n; i++) task(context, i);
}

/* For small work inside a task. */
MEMOPT_UNUSED static const mo_parallel moi_serial = {NULL, NULL, 1};

/* A range [0, n) cut into equal parts for mo_parallel_run: part i of n_parts, aligned to grain. */
MEMOPT_UNUSED static void moi_part(
    size_t n, size_t grain, int i, int n_parts, size_t *begin, size_t *end) {
    size_t grains = moi_ceil_div(n, grain), parts = (size_t)n_parts, at = (size_t)i;
    size_t low = grains / parts * at + moi_min(at, grains % parts);
    size_t high = low + grains / parts + (at < grains % parts ? 1 : 0);
    *begin = moi_min(low * grain, n);
    *end = moi_min(high * grain, n);
}

typedef struct moi_ranges {
    void (*task)(const void *context, size_t begin, size_t end);
    const void *context;
    size_t n, grain;
    int n_parts;
} moi_ranges;

static void moi_ranges_task(void *context, int i) {
    const moi_ranges *ranges = (const moi_ranges *)context;
    size_t begin, end;
    moi_part(ranges->n, ranges->grain, i, ranges->n_parts, &begin, &end);
    if (begin < end) ranges->task(ranges->context, begin, end);
}

void mo_parallel_for(const mo_parallel *parallel, size_t n, size_t grain,
    void (*task)(const void *context, size_t begin, size_t end), const void *context) {
    const size_t threads = (size_t)mo_parallel_threads(parallel);
    moi_ranges ranges;
    ranges.task = task;
    ranges.context = context;
    ranges.n = n;
    ranges.grain = grain ? grain : 1;
    ranges.n_parts = (int)moi_min(threads, moi_ceil_div(n, ranges.grain));
    mo_parallel_run(parallel, ranges.n_parts, moi_ranges_task, &ranges);
}

/* ---- CPU ----------------------------------------------------------------------------------- */

#if MOI_X86
#ifdef _MSC_VER
#include <intrin.h>
static void moi_cpuid(unsigned leaf, unsigned out[4]) { __cpuidex((int *)out, (int)leaf, 0); }
static unsigned moi_xcr0(void) { return (unsigned)_xgetbv(0); }
#else
#include <cpuid.h>
static void moi_cpuid(unsigned leaf, unsigned out[4]) {
    __cpuid_count(leaf, 0, out[0], out[1], out[2], out[3]);
}
static unsigned moi_xcr0(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}
#endif

static mo_cpu moi_cpu_detect(void) {
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, AVX = 1 << 28, F16C = 1 << 29 };
    enum { AVX2 = 1 << 5, AVX512F = 1 << 16, AVX512DQ = 1 << 17, AVX512BW = 1 << 30 };
    const unsigned avx512vl = 1u << 31, need1 = FMA | OSXSAVE | AVX | F16C;
    const unsigned need512 = AVX512F | AVX512DQ | AVX512BW | avx512vl;
    unsigned leaf0[4], leaf1[4], leaf7[4];
    moi_cpuid(0, leaf0);
    if (leaf0[0] < 7) return MO_CPU_SCALAR;
    moi_cpuid(1, leaf1);
    moi_cpuid(7, leaf7);
    if ((leaf1[2] & need1) != need1 || !(leaf7[1] & AVX2)) return MO_CPU_SCALAR;
    unsigned saved_by_os = moi_xcr0();
    if ((saved_by_os & 0x06) != 0x06) return MO_CPU_SCALAR;
    if ((leaf7[1] & need512) == need512 && (saved_by_os & 0xe6) == 0xe6) return MO_CPU_AVX512;
    return MO_CPU_AVX2;
}
#elif MOI_NEON
static mo_cpu moi_cpu_detect(void) { return MO_CPU_NEON; }
#else
static mo_cpu moi_cpu_detect(void) { return MO_CPU_SCALAR; }
#endif

mo_cpu mo_cpu_best(void) { return moi_cpu_detect(); }

int mo_cpu_has(mo_cpu cpu) {
    mo_cpu best = moi_cpu_detect();
    if (cpu == MO_CPU_SCALAR || cpu == best) return 1;
    return cpu == MO_CPU_AVX2 && best == MO_CPU_AVX512;
}

const char *mo_cpu_name(mo_cpu cpu) {
    static const char *const names[MO_CPU_COUNT] = {"scalar", "avx2", "avx512", "neon"};
    return (unsigned)cpu < MO_CPU_COUNT ? names[cpu] : "?";
}

/* The only mutable global: the set in use plus one, 0 while nobody has asked. Relaxed atomics are
 * enough, since every thread that finds 0 computes the same value. */
#if defined(_MSC_VER) && !defined(__clang__)
static volatile long moi_cpu_in_use;
#define MOI_CPU_GET()      ((int)moi_cpu_in_use)
#define MOI_CPU_SET(value) (moi_cpu_in_use = (value))
#else
static int moi_cpu_in_use;
#define MOI_CPU_GET()      __atomic_load_n(&moi_cpu_in_use, __ATOMIC_RELAXED)
#define MOI_CPU_SET(value) __atomic_store_n(&moi_cpu_in_use, (value), __ATOMIC_RELAXED)
#endif

static mo_cpu moi_cpu_from_environment(void) {
    const char *name = getenv("MEMOPT_CPU");
    for (int i = 0; name && i < MO_CPU_COUNT; i++)
        if (strcmp(name, mo_cpu_name((mo_cpu)i)) == 0 && mo_cpu_has((mo_cpu)i)) return (mo_cpu)i;
    return moi_cpu_detect();
}

mo_cpu mo_cpu_current(void) {
    int in_use = MOI_CPU_GET();
    if (MOI_LIKELY(in_use != 0)) return (mo_cpu)(in_use - 1);
    mo_cpu cpu = moi_cpu_from_environment();
    MOI_CPU_SET((int)cpu + 1);
    return cpu;
}

mo_status mo_cpu_select(mo_cpu cpu) {
    if ((unsigned)cpu >= MO_CPU_COUNT || !mo_cpu_has(cpu)) return MO_E_UNSUPPORTED;
    MOI_CPU_SET((int)cpu + 1);
    return MO_OK;
}
#undef MOI_CPU_GET
#undef MOI_CPU_SET
