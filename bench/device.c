// device.c - memory, copies and waiting of an OpenCL device; without OpenCL there is none.
#ifdef NO_OPENCL
#include "bench.h"

const bench_case cases_device[] = {{0}};
const bench_case cases_device_model[] = {{0}};

bench_device *device_open(const char *text, size_t n) {
    (void)n;
    fail(EXIT_FAILED, "--device %s: built without OpenCL", text);
}
void device_close(bench_device *d) { (void)d; }
const char *device_name(const bench_device *d) {
    (void)d;
    return "";
}
const char *device_model(const bench_device *d) {
    (void)d;
    return "";
}
bool device_is_cpu(const bench_device *d) {
    (void)d;
    return false;
}
void device_copy(void *d) { (void)d; }
void device_copy_buffer(void *d) { (void)d; }
void device_finish(void *d) { (void)d; }
void device_rewind(bench_device *d) { (void)d; }
#else
#include "device.h"

#include <stdlib.h>
#include <string.h>

static void say(void *self, mo_log_level level, const char *text) {
    (void)self;
    if (level == MO_LOG_ERROR) fprintf(stderr, "memopt-bench: %s\n", text);
}

bool device_is_cpu(const bench_device *d) { return d->cl.info.type & CL_DEVICE_TYPE_CPU; }

bench_device *device_open(const char *text, size_t n) {
    static const mo_log log = {say, NULL};
    bench_device *d = calloc(1, sizeof *d);
    mo_cl_device found;
    if (!d) fail(EXIT_FAILED, "out of memory");
    if (mo_cl_choose(text, &found, &log) != MO_OK) exit(EXIT_FAILED);
    const mo_cl_desc desc = {.device_id = found.id, .log = &log};
    const mo_cl_heap_desc heap = {.buffer_bytes = 1}; // each block a buffer: nothing to search
    if (mo_cl_init(&d->cl, &desc) != MO_OK || mo_cl_heap_init(&d->heap, &d->cl, &heap) != MO_OK)
        exit(EXIT_FAILED);
    snprintf(d->name, sizeof d->name, "cl:%d.%d", found.platform_index, found.device_index);
    d->n = n;
    if (device_is_cpu(d)) return d; // held against copies by the CPU itself
    const uint64_t size = 4 * (uint64_t)n;
    if (mo_cl_heap_alloc(&d->heap, size, MO_CATEGORY_OTHER, "copy", &d->from) != MO_OK ||
        mo_cl_heap_alloc(&d->heap, size, MO_CATEGORY_OTHER, "copy", &d->to) != MO_OK)
        fail(EXIT_FAILED, "no device memory for --n %zu: take fewer", n);
    must(mo_cl_fill_u32(&d->heap, MO_CL_COMPUTE, &d->from, 0, n, 1, NULL, NULL));
    return d;
}

void device_close(bench_device *d) {
    if (!d) return;
    mo_cl_heap_free(&d->heap);
    mo_cl_free(&d->cl);
    free(d);
}

const char *device_name(const bench_device *d) { return d->name; }
const char *device_model(const bench_device *d) { return d->cl.info.name; }

void device_copy(void *state) {
    bench_device *d = state;
    must(mo_cl_copy_u32(&d->heap, MO_CL_COMPUTE, &d->to, 0, &d->from, 0, d->n, NULL, NULL));
}

void device_copy_buffer(void *state) {
    bench_device *d = state;
    must(mo_cl_copy(&d->heap, MO_CL_COMPUTE, &d->to, 0, &d->from, 0, 4 * d->n, NULL, NULL));
}

void device_finish(void *state) {
    bench_device *d = state;
    must(mo_cl_sync(&d->cl, MO_CL_COMPUTE));
}

void device_rewind(bench_device *d) {
    while (d->n_blocks > 0) must(mo_cl_heap_dealloc(&d->heap, d->blocks[--d->n_blocks].handle));
    must(mo_cl_heap_trim(&d->heap, NULL));
}

mo_cl_mem device_take(work *w, uint64_t size) {
    bench_device *d = w->device;
    mo_cl_mem mem = {0};
    if (d->n_blocks == MAX_BLOCKS) return mem;
    if (mo_cl_heap_alloc(&d->heap, size ? size : 1, MO_CATEGORY_OTHER, "case", &mem) != MO_OK)
        return (mo_cl_mem){0};
    d->blocks[d->n_blocks++] = mem;
    return mem;
}

mo_cl_mem device_take_random(work *w, size_t n, float scale) {
    mo_cl_mem mem = device_take(w, 4 * (uint64_t)n);
    const size_t mark = mo_arena_mark(w->arena);
    float *x = take_random(w, n, scale);
    if (!x || !mem.buffer) return (mo_cl_mem){0};
    must(mo_cl_upload(&w->device->heap, MO_CL_COMPUTE, &mem, 0, x, 4 * n, NULL, NULL));
    must(mo_arena_rewind(w->arena, mark));
    return mem;
}

bool device_took(const mo_cl_mem *mems, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!mems[i].buffer) return false;
    return true;
}
#endif
