// bench.h - what the files of memopt-bench share.
//
// A case sets itself up once, then its run function is timed. Everything that it needs it takes
// from one arena, which is rewound before the next case, so that all of them run in the same pages.
#ifndef BENCH_H
#define BENCH_H

#include "memopt.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

typedef enum format { FORMAT_MD, FORMAT_CSV, FORMAT_JSON, FORMAT_JSONL, N_FORMATS } format;

typedef struct options {
    const char *filter, *compare, *blas;
    const char *device; // "cpu", or an OpenCL device
    format format;
    size_t n;
    int repeats, threads;
    bool list;
} options;

// A figure that only some cases have.
typedef struct extra {
    const char *name;
    double value;
} extra;
enum { MAX_EXTRAS = 4 };

typedef struct bench_device bench_device; // device.h

// One case while it is measured.
typedef struct work {
    // what setup may use
    size_t n; // --n
    const mo_parallel *parallel;
    mo_cblas_sgemm *cblas; // of --blas, or NULL
    bench_device *device;  // NULL = the CPU
    mo_arena *arena;
    uint32_t seed; // of take_random: the next array's
    int variant;   // the case's
    // what setup says
    void *state;                // given to run
    size_t units;               // elements or operations in one call of run
    int threads;                // that run uses
    double flops;               // of one call; 0 = not counted
    void (*end)(void *state);   // called after the case; NULL = nothing to do
    void (*rival)(void *state); // timed in turns with run: a BLAS, or the plain way; NULL = none
    bool rival_is_plain;        // where flops are counted and it is no BLAS
    extra extras[MAX_EXTRAS];
    int n_extras;
} work;

typedef struct bench_case {
    const char *name, *unit;
    const char *about; // for --list
    double bytes;      // moved per unit, counted as read + written; 0 = not bound by bandwidth
    bool (*setup)(work *w);
    void (*run)(void *state);
    int variant;
} bench_case;

// Each cases_*.c has one table, ended by a case without a name.
extern const bench_case cases_bandwidth[], cases_numeric[], cases_train[], cases_model[];
extern const bench_case cases_memory[], cases_plan[], cases_remat[], cases_replay[];
extern const bench_case cases_page[], cases_stream[], cases_compress[];
extern const bench_case cases_device[], cases_device_model[]; // the only ones on a device
extern const bench_case cases_device_compress[];

// 1024 tokens of a 384-channel GPT, as train_gpt's default multiplies them.
enum { N_GEMM_SHAPES = 5 };
extern const mo_gemm_desc gemm_shapes[N_GEMM_SHAPES];

// One line of the output; NAN = does not apply.
typedef struct row {
    const bench_case *bench;
    const char *device;
    size_t n;
    int threads;
    double ns, spread;                            // median per unit; (slowest - fastest) / median
    double gb_s, copy_gb_s, copy_ratio, floor_ns; // cases with bytes
    double gflop_s, old_ns;
    extra extras[MAX_EXTRAS];
    int n_extras;
} row;

// main.c
_Noreturn void fail(int exit_status, const char *text, ...);
enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

// harness.c
typedef struct harness harness;
harness *harness_open(const options *o, bool with_copy);
// "cpu avx512", "cl:0.0"; and the processor's own name
const char *harness_device(const harness *h);
const char *harness_model(const harness *h);
row harness_measure(harness *h, const bench_case *c);
void harness_close(harness *h);
void must(mo_status status); // of calls that cannot fail here
void *take(work *w, size_t size);
float *take_random(work *w, size_t n, float scale); // in -scale..scale
void add_extra(work *w, const char *name, double value);

// device.c: an OpenCL device; finish waits for what was run. The copies are of n elements.
bench_device *device_open(const char *text, size_t n);
void device_close(bench_device *d); // NULL does nothing
const char *device_name(const bench_device *d);
const char *device_model(const bench_device *d);
bool device_is_cpu(const bench_device *d);
void device_copy(void *device);
void device_copy_buffer(void *device);
void device_finish(void *device);
void device_rewind(bench_device *d); // frees what the case took

// cases_bandwidth.c
// 64-byte aligned; stream = with streaming stores, else memcpy
void copy_floats(const mo_parallel *parallel, float *to, const float *from, size_t n, bool stream);

// gpt.c: a transformer's training step as lifetimes
typedef struct gpt_shape {
    size_t layers, batch, seq, channels, heads, vocab;
} gpt_shape;
enum { GPT_MAX_ITEMS = 1024 };
size_t gpt_lifetimes(const gpt_shape *shape, size_t clock, mo_layout_item *items); // how many
size_t gpt_end(const gpt_shape *shape); // first step after

// compare.c
typedef struct old_run old_run;
old_run *old_read(const char *path);
double old_ns(const old_run *old, const char *name); // NAN = not there
void old_free(old_run *old);

// output.c
void output_begin(const options *o, const harness *h);
void output_row(const options *o, const row *r);
void output_end(const options *o);

#endif
