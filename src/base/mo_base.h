/* mo_base.h - status codes, allocator, log and parallel hooks, CPU level, version. */
#ifndef MEMOPT_BASE_H
#define MEMOPT_BASE_H

#include <stddef.h>
#include <stdint.h>

#define MEMOPT_VERSION_MAJOR 0
#define MEMOPT_VERSION_MINOR 1
#define MEMOPT_VERSION_PATCH 0

/* MEMOPT_API marks every public function. MEMOPT_STATIC makes them static, for one-file
 * programs. */
#if defined(__GNUC__) || defined(__clang__)
#define MEMOPT_NODISCARD __attribute__((warn_unused_result))
#define MEMOPT_UNUSED    __attribute__((unused))
#else
#define MEMOPT_NODISCARD
#define MEMOPT_UNUSED
#endif
#ifndef MEMOPT_API
#ifdef MEMOPT_STATIC
#define MEMOPT_API MEMOPT_UNUSED static
#else
#define MEMOPT_API extern
#endif
#endif

/* The one list of status codes: enum, strings and the table of the manual page come from it.
 * Numbers never change. */
#include "mo_status.inc"

#define MEMOPT_STATUS_ENUM_(name, value, text) name = value,
typedef enum mo_status {
    MEMOPT_STATUS_LIST(MEMOPT_STATUS_ENUM_) MO_STATUS_FORCE_INT_ = 0x7fffffff
} mo_status;
#undef MEMOPT_STATUS_ENUM_

/* mo_status_name - "MO_E_INVALID"; mo_status_text - "invalid argument". "?" for an unknown code.
 *
 * Memory:  static strings
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API const char *mo_status_name(mo_status status);
MEMOPT_API const char *mo_status_text(mo_status status);

/* mo_version - "0.1.0". Threads: safe. Since: 0.1 */
MEMOPT_API const char *mo_version(void);

/* ---- memory -------------------------------------------------------------------------------- */

/* mo_allocator - where the library takes memory from. A NULL allocator pointer, or one whose alloc
 * is NULL, means the C heap.
 *
 * alloc   returns NULL when full; align is a power of two
 * free    gets back the size and alignment that were asked for; ptr is never NULL
 *
 * Every memopt allocator (arena, pool, track) exposes itself as a mo_allocator, so they compose.
 * Since: 0.1 */
typedef struct mo_allocator {
    void *(*alloc)(void *self, size_t size, size_t align);
    void (*free)(void *self, void *ptr, size_t size, size_t align);
    void *self;
} mo_allocator;

/* mo_allocator_heap - the C heap with any alignment. Threads: safe. Since: 0.1 */
MEMOPT_API mo_allocator mo_allocator_heap(void);

/* mo_alloc, mo_free - through an allocator; NULL allocator = heap. mo_free of NULL does nothing.
 *
 * Threads: as the allocator
 * Errors:  NULL when full, when size is 0, or when align is not a power of two
 * Since:   0.1 */
MEMOPT_API void *mo_alloc(const mo_allocator *allocator, size_t size, size_t align);
MEMOPT_API void mo_free(const mo_allocator *allocator, void *ptr, size_t size, size_t align);

/* What a block of memory is for. Reports, timelines and budgets are split by it. */
typedef enum mo_category {
    MO_CATEGORY_OTHER = 0,
    MO_CATEGORY_PARAM,
    MO_CATEGORY_GRAD,
    MO_CATEGORY_OPTIMIZER,
    MO_CATEGORY_ACTIVATION,
    MO_CATEGORY_WORKSPACE,
    MO_CATEGORY_INPUT,
    MO_CATEGORY_COUNT
} mo_category;

/* mo_category_name - "param", "grad", ...; "?" out of range. Threads: safe. Since: 0.1 */
MEMOPT_API const char *mo_category_name(mo_category category);

/* ---- hooks --------------------------------------------------------------------------------- */

typedef enum mo_log_level { MO_LOG_ERROR = 0, MO_LOG_WARN, MO_LOG_INFO } mo_log_level;

/* mo_log - where messages go; the library itself never prints. An error status that has more to say
 * (file, field, value) says it here first, as one line without a newline.
 *
 * text is valid during the call only.
 * Threads: the library calls it on the thread that called the library
 * Since:   0.1 */
typedef struct mo_log {
    void (*write)(void *self, mo_log_level level, const char *text);
    void *self;
} mo_log;

/* mo_writer - where generated text goes: a file, a string, a socket.
 *
 * write  takes size bytes of text; returns 0 when all were taken, anything else stops the writing
 *
 * text is valid during the call only and not terminated.
 * Since: 0.1 */
typedef struct mo_writer {
    int (*write)(void *self, const char *text, size_t size);
    void *self;
} mo_writer;

/* mo_parallel - how work is split over threads. Zero means: OpenMP when compiled with it (as many
 * threads as OpenMP would take), else serial.
 *
 * run        calls task(context, i) once for every i in 0..n-1, in any order, on any threads, and
 *            returns when all have ended; NULL = the default above
 * n_threads  how many tasks can run at once, so in how many parts work is cut and workspaces are
 *            sized; 0 = OpenMP's number, or 1 with a run of your own. Without OpenMP and run: 1
 *
 * Results of the library do not depend on the number of threads unless a comment says so.
 * Since: 0.1 */
typedef struct mo_parallel {
    void (*run)(void *self, int n, void (*task)(void *context, int i), void *context);
    void *self;
    int n_threads;
} mo_parallel;

/* mo_parallel_threads - how many tasks run at once under this hook, at least 1. NULL = default.
 * mo_parallel_run - run task(context, i) for i in 0..n-1 through the hook.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API int mo_parallel_threads(const mo_parallel *parallel);
MEMOPT_API void mo_parallel_run(
    const mo_parallel *parallel, int n, void (*task)(void *context, int i), void *context);

/* mo_parallel_for - cut 0..n-1 into one range for each thread, and run task(context, begin, end)
 * for those that are not empty.
 *
 * grain  ranges begin at multiples of it; 0 = 1. There are at most n / grain ranges, so it is also
 *        the least work that is worth a thread
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API void mo_parallel_for(const mo_parallel *parallel, size_t n, size_t grain,
    void (*task)(const void *context, size_t begin, size_t end), const void *context);

/* ---- CPU ----------------------------------------------------------------------------------- */

/* Instruction sets that the kernels are written for. */
typedef enum mo_cpu {
    MO_CPU_SCALAR = 0,
    MO_CPU_AVX2,   /* AVX2 + FMA + F16C */
    MO_CPU_AVX512, /* AVX-512 F, BW, DQ, VL, beside AVX2 + FMA + F16C */
    MO_CPU_NEON,   /* AArch64 */
    MO_CPU_COUNT
} mo_cpu;

/* mo_cpu_best - the fastest set that this CPU and this build have.
 * mo_cpu_has - whether kernels for this set can run here.
 * mo_cpu_current - the set in use: the last mo_cpu_select, else MEMOPT_CPU of the environment
 *                  (scalar, avx2, avx512, neon) where this CPU has it, else the best.
 * mo_cpu_select - use another set from now on, in the whole process.
 * mo_cpu_name - "scalar", "avx2", "avx512", "neon"; "?" out of range.
 *
 * Threads: safe, but select while kernels run lets those finish with either set
 * Errors:  mo_cpu_select: MO_E_UNSUPPORTED (this CPU or build lacks it)
 * Since:   0.1 */
MEMOPT_API mo_cpu mo_cpu_best(void);
MEMOPT_API int mo_cpu_has(mo_cpu cpu);
MEMOPT_API mo_cpu mo_cpu_current(void);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cpu_select(mo_cpu cpu);
MEMOPT_API const char *mo_cpu_name(mo_cpu cpu);

#endif
