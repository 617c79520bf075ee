/* cl_layer.c - an OpenCL layer: the device below it with less memory, smaller limits and failing
 * calls, and a count of what a program does not release. The loader puts it in between:
 *
 *     OPENCL_LAYERS=$PWD/build/test/cl_layer.so TEST_LAYER_QUOTA=1000000 PROGRAM
 *
 * TEST_LAYER_QUOTA=BYTES       of all buffers together: clCreateBuffer fails beyond it
 * TEST_LAYER_LAZY=1            it is the first command that uses a buffer which fails
 * TEST_LAYER_FAIL=POINT:K      the K-th call fails, from 0; once. POINT: create (anything), build,
 *                              arg, enqueue, map, late (accepted, its event fails)
 * TEST_LAYER_WORK_GROUP=N      most work-items of a group
 * TEST_LAYER_LOCAL=BYTES       of local memory
 * TEST_LAYER_ALIGN=BYTES       of the origin of a sub-buffer
 * TEST_LAYER_MAX_ALLOC=BYTES   of one buffer
 * TEST_LAYER_GLOBAL=BYTES      of the device, as it says; nothing is enforced
 * TEST_LAYER_TYPE=gpu|cpu      what it is
 * TEST_LAYER_NAME=TEXT         its name
 * TEST_LAYER_EXTENSIONS=TEXT   its extensions
 * TEST_LAYER_UNIFIED=0|1       whether it shares the host's memory
 * TEST_LAYER_ROUNDED=0         division and square root are not correctly rounded, and the option
 *                              that asks for it is refused
 * TEST_LAYER_BY_NAME=1         kernels come by their names only, not all of a program at once
 * TEST_LAYER_REPORT=FILE       written at exit: what was created, the peak, and a line that begins
 *                              with "leaked" for each kind that is still there
 *
 * Everything else goes straight through. */
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl_layer.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cl_layer.h"

#define EXPORT __attribute__((visibility("default")))

static struct _cl_icd_dispatch table;
static const struct _cl_icd_dispatch *next;

/* ---- what the environment asks for --------------------------------------------------------- */

static const char *const point_names[] = {"create", "build", "arg", "enqueue", "map", "late"};

static struct {
    size_t quota, work_group, local, align, max_alloc, global; /* 0 = as below */
    int by_name, lazy, fail_point, unified, not_rounded;       /* -1 = none, as below */
    size_t fail_at;
    cl_device_type type;
    const char *name, *extensions;
} config;

static size_t env_size(const char *name) {
    const char *text = getenv(name);
    return text ? (size_t)strtoull(text, NULL, 0) : 0;
}
static int env_flag(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : -1;
}

static void read_fail(void) {
    const char *text = getenv("TEST_LAYER_FAIL"), *colon = text ? strchr(text, ':') : NULL;
    config.fail_point = -1;
    if (!colon) return;
    for (int i = 0; i < LAYER_POINTS; i++)
        if (strncmp(text, point_names[i], (size_t)(colon - text)) == 0) config.fail_point = i;
    config.fail_at = (size_t)strtoull(colon + 1, NULL, 0);
}

static void read_config(void) {
    const char *type = getenv("TEST_LAYER_TYPE");
    memset(&config, 0, sizeof config);
    config.quota = env_size("TEST_LAYER_QUOTA");
    config.work_group = env_size("TEST_LAYER_WORK_GROUP");
    config.local = env_size("TEST_LAYER_LOCAL");
    config.align = env_size("TEST_LAYER_ALIGN");
    config.max_alloc = env_size("TEST_LAYER_MAX_ALLOC");
    config.global = env_size("TEST_LAYER_GLOBAL");
    config.by_name = env_flag("TEST_LAYER_BY_NAME") == 1;
    config.lazy = env_flag("TEST_LAYER_LAZY") == 1;
    config.unified = env_flag("TEST_LAYER_UNIFIED");
    config.not_rounded = env_flag("TEST_LAYER_ROUNDED") == 0;
    if (type) config.type = strcmp(type, "gpu") == 0 ? CL_DEVICE_TYPE_GPU : CL_DEVICE_TYPE_CPU;
    config.name = getenv("TEST_LAYER_NAME");
    config.extensions = getenv("TEST_LAYER_EXTENSIONS");
    read_fail();
}

/* ---- objects that are live ----------------------------------------------------------------- */

typedef struct object {
    struct object *next;
    const void *handle;
    int kind, resident, failed; /* failed: an event */
    unsigned refs;
    size_t bytes;          /* of a buffer that is not part of another */
    const void *parent;    /* of a sub-buffer */
    const void *args[128]; /* of a kernel: the buffers among them */
} object;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static object *objects;
static layer_counts counts;

/* With the lock held. The newest come first: those are asked for most. */
static object *find(const void *handle, int kind) {
    for (object *o = objects; o; o = o->next)
        if (o->handle == handle && o->kind == kind) return o;
    return NULL;
}

static void add(const void *handle, int kind, size_t bytes, const void *parent) {
    object *o = calloc(1, sizeof *o);
    if (!handle || !o) return;
    pthread_mutex_lock(&lock);
    o->handle = handle;
    o->kind = kind;
    o->refs = 1;
    o->bytes = bytes;
    o->parent = parent;
    o->next = objects;
    objects = o;
    counts.created[kind]++;
    counts.live[kind]++;
    counts.live_bytes += bytes;
    pthread_mutex_unlock(&lock);
}

static void retain(const void *handle, int kind) {
    pthread_mutex_lock(&lock);
    object *o = find(handle, kind);
    if (o) o->refs++;
    pthread_mutex_unlock(&lock);
}

static void release(const void *handle, int kind) {
    pthread_mutex_lock(&lock);
    for (object **at = &objects; *at; at = &(*at)->next) {
        object *o = *at;
        if (o->handle != handle || o->kind != kind) continue;
        if (--o->refs > 0) break;
        *at = o->next;
        counts.live[kind]--;
        counts.live_bytes -= o->bytes;
        if (o->resident) counts.resident_bytes -= o->bytes;
        free(o);
        break;
    }
    pthread_mutex_unlock(&lock);
}

/* ---- failing calls, and memory ------------------------------------------------------------- */

static int fails(int point) {
    pthread_mutex_lock(&lock);
    const size_t k = counts.calls[point]++;
    pthread_mutex_unlock(&lock);
    return point == config.fail_point && k == config.fail_at;
}

static int over_quota(size_t bytes) {
    return config.quota && counts.resident_bytes + bytes > config.quota;
}

/* The buffer takes its memory; with the lock held. */
static cl_int take_memory(object *o) {
    if (!o || o->resident) return CL_SUCCESS;
    if (over_quota(o->bytes)) return CL_MEM_OBJECT_ALLOCATION_FAILURE;
    o->resident = 1;
    counts.resident_bytes += o->bytes;
    if (counts.resident_bytes > counts.peak_bytes) counts.peak_bytes = counts.resident_bytes;
    return CL_SUCCESS;
}

static cl_int use_buffer(const void *buffer) {
    pthread_mutex_lock(&lock);
    object *o = find(buffer, LAYER_BUFFER);
    if (o && o->parent) o = find(o->parent, LAYER_BUFFER);
    const cl_int code = take_memory(o);
    pthread_mutex_unlock(&lock);
    return code;
}

static cl_int use_args(const void *kernel) {
    const void *args[sizeof((object *)0)->args / sizeof(void *)];
    cl_int code = CL_SUCCESS;
    pthread_mutex_lock(&lock);
    object *o = find(kernel, LAYER_KERNEL);
    if (o) memcpy(args, o->args, sizeof args);
    else memset(args, 0, sizeof args);
    pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < sizeof args / sizeof *args && code == CL_SUCCESS; i++)
        if (args[i]) code = use_buffer(args[i]);
    return code;
}

static int has_failed(cl_event event) {
    pthread_mutex_lock(&lock);
    const object *o = find(event, LAYER_EVENT);
    const int failed = o && o->failed;
    pthread_mutex_unlock(&lock);
    return failed;
}

/* Whether a command that uses these buffers, NULL = none, may go on. One that waits for a command
 * that has failed may not: PoCL would never come back. */
static cl_int before(const void *a, const void *b, cl_uint n, const cl_event *list) {
    if (fails(LAYER_ENQUEUE)) return CL_OUT_OF_RESOURCES;
    for (cl_uint i = 0; i < n; i++)
        if (has_failed(list[i])) return CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST;
    cl_int code = a ? use_buffer(a) : CL_SUCCESS;
    return code == CL_SUCCESS && b ? use_buffer(b) : code;
}

/* In place of the event of a complete command one that has failed. */
static void fail_late(cl_command_queue queue, cl_event *event) {
    cl_context context = NULL;
    next->clWaitForEvents(1, event);
    next->clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof context, &context, NULL);
    cl_event failed = next->clCreateUserEvent(context, NULL);
    if (!failed) return;
    next->clSetUserEventStatus(failed, CL_OUT_OF_RESOURCES);
    next->clReleaseEvent(*event);
    *event = failed;
}

/* The command's event, if the caller wants it, is his to release. */
static cl_int after(cl_command_queue queue, cl_int code, cl_event *event) {
    if (code != CL_SUCCESS || !event || !*event) return code;
    const int late = fails(LAYER_LATE);
    if (late) fail_late(queue, event);
    add(*event, LAYER_EVENT, 0, NULL);
    pthread_mutex_lock(&lock);
    find(*event, LAYER_EVENT)->failed = late;
    pthread_mutex_unlock(&lock);
    return code;
}

/* An object from the layer below, or the code of a failure in both places. */
static void *made(void *handle, int kind) {
    add(handle, kind, 0, NULL);
    return handle;
}
static void *none(cl_int *out, cl_int code) {
    if (out) *out = code;
    return NULL;
}

/* ---- contexts, queues, programs, kernels --------------------------------------------------- */

typedef void(CL_CALLBACK *context_notify)(const char *, const void *, size_t, void *);
typedef void(CL_CALLBACK *program_notify)(cl_program, void *);

static cl_context CL_API_CALL create_context(const cl_context_properties *properties, cl_uint n,
    const cl_device_id *devices, context_notify notify, void *user, cl_int *code) {
    if (fails(LAYER_CREATE)) return none(code, CL_OUT_OF_HOST_MEMORY);
    return made(next->clCreateContext(properties, n, devices, notify, user, code), LAYER_CONTEXT);
}

static cl_command_queue CL_API_CALL create_queue(
    cl_context context, cl_device_id id, cl_command_queue_properties properties, cl_int *code) {
    if (fails(LAYER_CREATE)) return none(code, CL_OUT_OF_RESOURCES);
    return made(next->clCreateCommandQueue(context, id, properties, code), LAYER_QUEUE);
}

static cl_program CL_API_CALL create_program(
    cl_context context, cl_uint n, const char **texts, const size_t *lengths, cl_int *code) {
    if (fails(LAYER_CREATE)) return none(code, CL_OUT_OF_HOST_MEMORY);
    return made(next->clCreateProgramWithSource(context, n, texts, lengths, code), LAYER_PROGRAM);
}

static cl_program CL_API_CALL create_from_binary(cl_context context, cl_uint n,
    const cl_device_id *devices, const size_t *sizes, const unsigned char **binaries,
    cl_int *loaded, cl_int *code) {
    if (fails(LAYER_CREATE)) return none(code, CL_OUT_OF_HOST_MEMORY);
    return made(next->clCreateProgramWithBinary(context, n, devices, sizes, binaries, loaded, code),
        LAYER_PROGRAM);
}

static cl_int CL_API_CALL build_program(cl_program program, cl_uint n, const cl_device_id *devices,
    const char *options, program_notify notify, void *user) {
    if (fails(LAYER_BUILD)) return CL_BUILD_PROGRAM_FAILURE;
    if (config.not_rounded && options && strstr(options, "correctly-rounded-divide-sqrt"))
        return CL_INVALID_BUILD_OPTIONS;
    return next->clBuildProgram(program, n, devices, options, notify, user);
}

static cl_kernel CL_API_CALL create_kernel(cl_program program, const char *name, cl_int *code) {
    if (fails(LAYER_CREATE)) return none(code, CL_OUT_OF_HOST_MEMORY);
    return made(next->clCreateKernel(program, name, code), LAYER_KERNEL);
}

static cl_int CL_API_CALL create_kernels(
    cl_program program, cl_uint n, cl_kernel *kernels, cl_uint *n_made) {
    cl_uint all = 0;
    if (fails(LAYER_CREATE)) return CL_OUT_OF_HOST_MEMORY;
    if (config.by_name) return CL_INVALID_PROGRAM_EXECUTABLE;
    cl_int code = next->clCreateKernelsInProgram(program, n, kernels, &all);
    for (cl_uint i = 0; code == CL_SUCCESS && kernels && i < all; i++)
        add(kernels[i], LAYER_KERNEL, 0, NULL);
    if (code == CL_SUCCESS && n_made) *n_made = all;
    return code;
}

static cl_int CL_API_CALL set_arg(cl_kernel kernel, cl_uint index, size_t size, const void *value) {
    const void *buffer = NULL;
    if (fails(LAYER_ARG)) return CL_OUT_OF_RESOURCES;
    if (size == sizeof buffer && value) memcpy(&buffer, value, sizeof buffer);
    pthread_mutex_lock(&lock);
    object *o = find(kernel, LAYER_KERNEL);
    if (o && index < sizeof o->args / sizeof *o->args)
        o->args[index] = find(buffer, LAYER_BUFFER) ? buffer : NULL;
    pthread_mutex_unlock(&lock);
    return next->clSetKernelArg(kernel, index, size, value);
}

/* ---- buffers ------------------------------------------------------------------------------- */

static cl_mem CL_API_CALL create_buffer(
    cl_context context, cl_mem_flags flags, size_t size, void *host, cl_int *code) {
    if (fails(LAYER_CREATE)) return none(code, CL_MEM_OBJECT_ALLOCATION_FAILURE);
    if (config.max_alloc && size > config.max_alloc) return none(code, CL_INVALID_BUFFER_SIZE);
    if (!config.lazy && over_quota(size)) return none(code, CL_MEM_OBJECT_ALLOCATION_FAILURE);
    cl_mem buffer = next->clCreateBuffer(context, flags, size, host, code);
    add(buffer, LAYER_BUFFER, size, NULL);
    if (buffer && !config.lazy) use_buffer(buffer);
    return buffer;
}

static cl_mem CL_API_CALL create_sub_buffer(
    cl_mem buffer, cl_mem_flags flags, cl_buffer_create_type type, const void *info, cl_int *code) {
    const cl_buffer_region *region = info;
    if (fails(LAYER_CREATE)) return none(code, CL_OUT_OF_RESOURCES);
    if (config.align && type == CL_BUFFER_CREATE_TYPE_REGION && region->origin % config.align != 0)
        return none(code, CL_MISALIGNED_SUB_BUFFER_OFFSET);
    cl_mem part = next->clCreateSubBuffer(buffer, flags, type, info, code);
    add(part, LAYER_BUFFER, 0, buffer);
    return part;
}

/* ---- retaining and releasing --------------------------------------------------------------- */

#define RETAIN_AND_RELEASE(name, object_type, kind)                                                \
    static cl_int CL_API_CALL retain_##name(object_type handle) {                                  \
        retain(handle, kind);                                                                      \
        return next->clRetain##name(handle);                                                       \
    }                                                                                              \
    static cl_int CL_API_CALL release_##name(object_type handle) {                                 \
        release(handle, kind);                                                                     \
        return next->clRelease##name(handle);                                                      \
    }
RETAIN_AND_RELEASE(Context, cl_context, LAYER_CONTEXT)
RETAIN_AND_RELEASE(CommandQueue, cl_command_queue, LAYER_QUEUE)
RETAIN_AND_RELEASE(MemObject, cl_mem, LAYER_BUFFER)
RETAIN_AND_RELEASE(Program, cl_program, LAYER_PROGRAM)
RETAIN_AND_RELEASE(Kernel, cl_kernel, LAYER_KERNEL)
RETAIN_AND_RELEASE(Event, cl_event, LAYER_EVENT)
#undef RETAIN_AND_RELEASE

/* ---- commands ------------------------------------------------------------------------------ */

static cl_int CL_API_CALL enqueue_read(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
    size_t off, size_t size, void *to, cl_uint n, const cl_event *list, cl_event *event) {
    cl_int code = before(buffer, NULL, n, list);
    if (code != CL_SUCCESS) return code;
    return after(queue,
        next->clEnqueueReadBuffer(queue, buffer, blocking, off, size, to, n, list, event), event);
}

static cl_int CL_API_CALL enqueue_write(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
    size_t off, size_t size, const void *from, cl_uint n, const cl_event *list, cl_event *event) {
    cl_int code = before(buffer, NULL, n, list);
    if (code != CL_SUCCESS) return code;
    return after(queue,
        next->clEnqueueWriteBuffer(queue, buffer, blocking, off, size, from, n, list, event),
        event);
}

static cl_int CL_API_CALL enqueue_copy(cl_command_queue queue, cl_mem from, cl_mem to,
    size_t from_off, size_t to_off, size_t size, cl_uint n, const cl_event *list, cl_event *event) {
    cl_int code = before(from, to, n, list);
    if (code != CL_SUCCESS) return code;
    return after(queue,
        next->clEnqueueCopyBuffer(queue, from, to, from_off, to_off, size, n, list, event), event);
}

static cl_int CL_API_CALL enqueue_fill(cl_command_queue queue, cl_mem buffer, const void *pattern,
    size_t pattern_size, size_t off, size_t size, cl_uint n, const cl_event *list,
    cl_event *event) {
    cl_int code = before(buffer, NULL, n, list);
    if (code != CL_SUCCESS) return code;
    return after(queue,
        next->clEnqueueFillBuffer(queue, buffer, pattern, pattern_size, off, size, n, list, event),
        event);
}

static cl_int CL_API_CALL enqueue_migrate(cl_command_queue queue, cl_uint n_buffers,
    const cl_mem *buffers, cl_mem_migration_flags flags, cl_uint n, const cl_event *list,
    cl_event *event) {
    cl_int code = before(NULL, NULL, n, list);
    for (cl_uint i = 0; i < n_buffers && code == CL_SUCCESS; i++) code = use_buffer(buffers[i]);
    if (code != CL_SUCCESS) return code;
    return after(queue,
        next->clEnqueueMigrateMemObjects(queue, n_buffers, buffers, flags, n, list, event), event);
}

static void *CL_API_CALL enqueue_map(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
    cl_map_flags flags, size_t off, size_t size, cl_uint n, const cl_event *list, cl_event *event,
    cl_int *code) {
    if (fails(LAYER_MAP)) return none(code, CL_MAP_FAILURE);
    cl_int own = use_buffer(buffer);
    if (own != CL_SUCCESS) return none(code, own);
    void *mapped =
        next->clEnqueueMapBuffer(queue, buffer, blocking, flags, off, size, n, list, event, &own);
    if (code) *code = after(queue, own, event);
    return mapped;
}

static cl_int CL_API_CALL enqueue_unmap(cl_command_queue queue, cl_mem buffer, void *mapped,
    cl_uint n, const cl_event *list, cl_event *event) {
    cl_int code = before(buffer, NULL, n, list);
    if (code != CL_SUCCESS) return code;
    return after(
        queue, next->clEnqueueUnmapMemObject(queue, buffer, mapped, n, list, event), event);
}

static cl_int CL_API_CALL enqueue_marker(
    cl_command_queue queue, cl_uint n, const cl_event *list, cl_event *event) {
    cl_int code = before(NULL, NULL, n, list);
    if (code != CL_SUCCESS) return code;
    return after(queue, next->clEnqueueMarkerWithWaitList(queue, n, list, event), event);
}

static cl_int CL_API_CALL enqueue_barrier(
    cl_command_queue queue, cl_uint n, const cl_event *list, cl_event *event) {
    cl_int code = before(NULL, NULL, n, list);
    if (code != CL_SUCCESS) return code;
    return after(queue, next->clEnqueueBarrierWithWaitList(queue, n, list, event), event);
}

static cl_event CL_API_CALL create_user_event(cl_context context, cl_int *code) {
    return made(next->clCreateUserEvent(context, code), LAYER_EVENT);
}

/* Whether a group of this size and the kernel's local memory are within the limits. */
static cl_int within_limits(
    cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t *local) {
    cl_device_id id = NULL;
    cl_ulong bytes = 0;
    size_t items = 1;
    for (cl_uint i = 0; local && i < dimensions; i++) items *= local[i];
    if (config.work_group && items > config.work_group) return CL_INVALID_WORK_GROUP_SIZE;
    if (!config.local) return CL_SUCCESS;
    next->clGetCommandQueueInfo(queue, CL_QUEUE_DEVICE, sizeof id, &id, NULL);
    next->clGetKernelWorkGroupInfo(
        kernel, id, CL_KERNEL_LOCAL_MEM_SIZE, sizeof bytes, &bytes, NULL);
    return bytes > config.local ? CL_OUT_OF_RESOURCES : CL_SUCCESS;
}

static cl_int CL_API_CALL enqueue_kernel(cl_command_queue queue, cl_kernel kernel,
    cl_uint dimensions, const size_t *off, const size_t *global, const size_t *local, cl_uint n,
    const cl_event *list, cl_event *event) {
    cl_int code = before(NULL, NULL, n, list);
    if (code == CL_SUCCESS) code = within_limits(queue, kernel, dimensions, local);
    if (code == CL_SUCCESS) code = use_args(kernel);
    if (code != CL_SUCCESS) return code;
    return after(queue,
        next->clEnqueueNDRangeKernel(queue, kernel, dimensions, off, global, local, n, list, event),
        event);
}

/* ---- what the device says ------------------------------------------------------------------ */

static cl_int answer(const void *value, size_t bytes, size_t size, void *out, size_t *size_out) {
    if (out && size < bytes) return CL_INVALID_VALUE;
    if (out) memcpy(out, value, bytes);
    if (size_out) *size_out = bytes;
    return CL_SUCCESS;
}

/* A figure of the layer in the type that OpenCL gives it. */
#define FIGURE(condition, type, expression)                                                        \
    if (condition) {                                                                               \
        const type value = (type)(expression);                                                     \
        return answer(&value, sizeof value, size, out, size_out);                                  \
    }                                                                                              \
    break

static cl_int CL_API_CALL device_info(
    cl_device_id id, cl_device_info what, size_t size, void *out, size_t *size_out) {
    cl_device_fp_config floats = 0;
    switch (what) {
    case CL_DEVICE_MAX_WORK_GROUP_SIZE: FIGURE(config.work_group, size_t, config.work_group);
    case CL_DEVICE_LOCAL_MEM_SIZE: FIGURE(config.local, cl_ulong, config.local);
    case CL_DEVICE_MEM_BASE_ADDR_ALIGN: FIGURE(config.align, cl_uint, 8 * config.align);
    case CL_DEVICE_MAX_MEM_ALLOC_SIZE: FIGURE(config.max_alloc, cl_ulong, config.max_alloc);
    case CL_DEVICE_GLOBAL_MEM_SIZE: FIGURE(config.global, cl_ulong, config.global);
    case CL_DEVICE_TYPE: FIGURE(config.type, cl_device_type, config.type);
    case CL_DEVICE_HOST_UNIFIED_MEMORY: FIGURE(config.unified >= 0, cl_bool, config.unified);
    case CL_DEVICE_SINGLE_FP_CONFIG:
        next->clGetDeviceInfo(id, what, sizeof floats, &floats, NULL);
        FIGURE(config.not_rounded, cl_device_fp_config,
            floats & ~(cl_device_fp_config)CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT);
    case CL_DEVICE_NAME:
        if (!config.name) break;
        return answer(config.name, strlen(config.name) + 1, size, out, size_out);
    case CL_DEVICE_EXTENSIONS:
        if (!config.extensions) break;
        return answer(config.extensions, strlen(config.extensions) + 1, size, out, size_out);
    default: break;
    }
    return next->clGetDeviceInfo(id, what, size, out, size_out);
}

static cl_int CL_API_CALL kernel_group_info(cl_kernel kernel, cl_device_id id,
    cl_kernel_work_group_info what, size_t size, void *out, size_t *size_out) {
    switch (what) {
    case CL_KERNEL_WORK_GROUP_SIZE: FIGURE(config.work_group, size_t, config.work_group);
    default: break;
    }
    return next->clGetKernelWorkGroupInfo(kernel, id, what, size, out, size_out);
}
#undef FIGURE

/* ---- report -------------------------------------------------------------------------------- */

static void report(void) {
    static const char *const names[] = {
        "contexts", "queues", "buffers", "programs", "kernels", "events"};
    const char *path = getenv("TEST_LAYER_REPORT");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < LAYER_KINDS; i++) fprintf(file, "%s %zu\n", names[i], counts.created[i]);
    fprintf(file, "peak_bytes %zu\n", counts.peak_bytes);
    for (int i = 0; i < LAYER_KINDS; i++)
        if (counts.live[i]) fprintf(file, "leaked %zu %s\n", counts.live[i], names[i]);
    if (counts.live_bytes) fprintf(file, "leaked %zu bytes\n", counts.live_bytes);
    pthread_mutex_unlock(&lock);
    fclose(file);
}

EXPORT void cl_layer_counts(layer_counts *out);
EXPORT void cl_layer_counts(layer_counts *out) {
    pthread_mutex_lock(&lock);
    *out = counts;
    pthread_mutex_unlock(&lock);
}

EXPORT void cl_layer_restart(void);
EXPORT void cl_layer_restart(void) {
    pthread_mutex_lock(&lock);
    read_config();
    memset(counts.calls, 0, sizeof counts.calls);
    memset(counts.created, 0, sizeof counts.created);
    counts.peak_bytes = counts.resident_bytes;
    pthread_mutex_unlock(&lock);
}

/* ---- the loader's side --------------------------------------------------------------------- */

EXPORT cl_int CL_API_CALL clGetLayerInfo(
    cl_layer_info what, size_t size, void *out, size_t *size_out) {
    static const char name[] = "memopt tests";
    const cl_layer_api_version version = CL_LAYER_API_VERSION_100;
    if (what == CL_LAYER_API_VERSION) return answer(&version, sizeof version, size, out, size_out);
    if (what == CL_LAYER_NAME) return answer(name, sizeof name, size, out, size_out);
    return CL_INVALID_VALUE;
}

static void replace_objects(void) {
    table.clCreateContext = create_context;
    table.clRetainContext = retain_Context;
    table.clReleaseContext = release_Context;
    table.clCreateCommandQueue = create_queue;
    table.clRetainCommandQueue = retain_CommandQueue;
    table.clReleaseCommandQueue = release_CommandQueue;
    table.clCreateBuffer = create_buffer;
    table.clCreateSubBuffer = create_sub_buffer;
    table.clRetainMemObject = retain_MemObject;
    table.clReleaseMemObject = release_MemObject;
    table.clCreateProgramWithSource = create_program;
    table.clCreateProgramWithBinary = create_from_binary;
    table.clRetainProgram = retain_Program;
    table.clReleaseProgram = release_Program;
    table.clBuildProgram = build_program;
    table.clCreateKernel = create_kernel;
    table.clCreateKernelsInProgram = create_kernels;
    table.clRetainKernel = retain_Kernel;
    table.clReleaseKernel = release_Kernel;
    table.clSetKernelArg = set_arg;
    table.clCreateUserEvent = create_user_event;
    table.clRetainEvent = retain_Event;
    table.clReleaseEvent = release_Event;
}

static void replace_commands(void) {
    table.clEnqueueReadBuffer = enqueue_read;
    table.clEnqueueWriteBuffer = enqueue_write;
    table.clEnqueueCopyBuffer = enqueue_copy;
    table.clEnqueueFillBuffer = enqueue_fill;
    table.clEnqueueMigrateMemObjects = enqueue_migrate;
    table.clEnqueueMapBuffer = enqueue_map;
    table.clEnqueueUnmapMemObject = enqueue_unmap;
    table.clEnqueueMarkerWithWaitList = enqueue_marker;
    table.clEnqueueBarrierWithWaitList = enqueue_barrier;
    table.clEnqueueNDRangeKernel = enqueue_kernel;
    table.clGetDeviceInfo = device_info;
    table.clGetKernelWorkGroupInfo = kernel_group_info;
}

/* A loader may know fewer functions than our header, or more: those keep to the layer below. */
EXPORT cl_int CL_API_CALL clInitLayer(
    cl_uint n, const cl_icd_dispatch *below, cl_uint *n_out, const cl_icd_dispatch **out) {
    const cl_uint known = sizeof table / sizeof(void *);
    if (!below || !n_out || !out) return CL_INVALID_VALUE;
    if (n > known) n = known;
    if (n * sizeof(void *) <= offsetof(cl_icd_dispatch, clEnqueueBarrierWithWaitList))
        return CL_INVALID_VALUE; /* not even OpenCL 1.2 */
    memcpy(&table, below, n * sizeof(void *));
    next = below;
    read_config();
    replace_objects();
    replace_commands();
    atexit(report);
    *n_out = n;
    *out = &table;
    return CL_SUCCESS;
}
