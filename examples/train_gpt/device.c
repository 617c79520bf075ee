// device.c - an OpenCL device as the place of a run: its memory, updates, offload. The plan's
// addresses stand for bytes of the device; see mo_cl_arena.h.
#ifdef NO_OPENCL
#include "app.h"

#include <string.h>

device *device_open(const char *text, const backend **b) {
    const bool any = strcmp(text, "auto") == 0;
    if (!any && strcmp(text, "cpu") != 0) fail(EXIT_BAD, "--device %s: built without OpenCL", text);
    if (any) fprintf(stderr, "train_gpt: --device auto: the CPU, since built without OpenCL\n");
    *b = &cpu_backend;
    return NULL;
}
void device_close(device *d) { (void)d; }
const char *device_name(const device *d) {
    (void)d;
    return "cpu";
}
const char *device_model(const device *d) {
    (void)d;
    return "";
}
void device_list(void) { fail(EXIT_BAD, "--device list: built without OpenCL"); }
#else
#include "device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// ---- memory -----------------------------------------------------------------------------------

mo_cl_mem device_at(const device *d, const void *address, size_t size) {
    const mo_cl_mem mem = mo_cl_arena_at(&d->arena, address, size);
    if (address && size && !mem.buffer) fail(EXIT_BAD, "%zu bytes lie outside the plan", size);
    return mem;
}

mo_cl_mem device_floats(const device *d, const float *address, size_t n) {
    return device_at(d, address, n * sizeof *address);
}

mo_cl_mem device_param(const device *d, const mo_param *p) {
    return device_at(d, mo_param_data(p), mo_param_bytes(p));
}

static mo_training_target target(const trainer *t) { return mo_cl_training_target(&t->device->cl); }

// What a heap would take by itself.
static uint64_t most(const trainer *t) {
    mo_cl_heap heap;
    mo_cl_heap_stats stats;
    check(mo_cl_heap_init(&heap, &t->device->cl, NULL), "mo_cl_heap_init");
    mo_cl_heap_get_stats(&heap, &stats);
    mo_cl_heap_free(&heap);
    return stats.budget_bytes;
}

static mo_arena *take(trainer *t, size_t size, uint64_t budget) {
    device *d = t->device;
    const mo_cl_arena_desc desc = {.budget_bytes = size, .piece = target(t).piece};
    (void)budget; // the plan is within it
    d->states = allocate(t->params.n * sizeof *d->states);
    if (mo_cl_arena_init(&d->arena, &d->cl, size, &desc) != MO_OK)
        fail(EXIT_BAD, "--device %s: no room for the plan of %zu bytes", d->name, size);
    return &d->arena.tokens;
}

static void give_back(trainer *t) {
    mo_cl_arena_free(&t->device->arena);
    free(t->device->states);
    t->device->states = NULL;
}

static uint64_t peak_bytes(const trainer *t) {
    mo_cl_heap_stats stats;
    mo_cl_heap_get_stats(&t->device->arena.heap, &stats);
    return stats.peak_reserved_bytes;
}

static void *host_begin(const trainer *t, void *address, size_t size, bool read) {
    device *d = t->device;
    if (pages_hold(t, address)) return pages_host_begin(t, address, size, read);
    const mo_cl_mem mem = device_at(d, address, size);
    void *host = allocate(size);
    if (read)
        check(mo_cl_download(&d->arena.heap, MO_CL_COMPUTE, host, &mem, 0, size, NULL, NULL),
            "mo_cl_download");
    return host;
}

static void host_end(const trainer *t, void *address, void *host, size_t size, bool write) {
    device *d = t->device;
    if (pages_hold(t, address)) {
        pages_host_end(t, address, host, size, write);
        return;
    }
    const mo_cl_mem mem = device_at(d, address, size);
    if (write)
        check(mo_cl_upload(&d->arena.heap, MO_CL_COMPUTE, &mem, 0, host, size, NULL, NULL),
            "mo_cl_upload");
    free(host);
}

static void clear(const trainer *t, void *address, size_t size) {
    device *d = t->device;
    const mo_cl_mem mem = device_at(d, address, size);
    check(mo_cl_fill_u32(&d->arena.heap, MO_CL_COMPUTE, &mem, 0, size / 4, 0, NULL, NULL),
        "mo_cl_fill_u32");
}

static void wait_for_all(const trainer *t) {
    check(mo_cl_sync(&t->device->cl, MO_CL_COMPUTE), "mo_cl_sync");
}

// ---- updates ----------------------------------------------------------------------------------

static void state_begin(trainer *t, size_t i) {
    device *d = t->device;
    const mo_param *p = &t->params.items[i];
    const mo_cl_mem memory = device_at(d, t->state_at[i], mo_optim_state_size(&t->optim, p->n));
    check(mo_cl_optim_state_init(&d->cl, &t->optim, p->n, memory, &d->states[i]), p->name);
}

static void update(trainer *t, size_t i) {
    device *d = t->device;
    const mo_param *p = &t->params.items[i];
    const mo_cl_mem param = device_param(d, p), grad = device_floats(d, p->grad, p->n);
    check(p->is_bf16 ? mo_cl_optim_step_bf16(&d->cl, &t->optim, t->step, param, grad, &d->states[i])
                     : mo_cl_optim_step(&d->cl, &t->optim, t->step, param, grad, &d->states[i]),
        p->name);
}

static void open_pages(
    trainer *t, const mo_page_optim_desc *desc, void *const *slots, size_t n_slots) {
    device *d = t->device;
    mo_cl_mem *mems = allocate(n_slots * sizeof *mems);
    for (size_t i = 0; i < n_slots; i++) mems[i] = device_at(d, slots[i], desc->pages.page_bytes);
    const mo_cl_page_optim_desc paged = {.tensors = desc->tensors,
        .n = desc->n,
        .n_tensors = desc->n_tensors,
        .page_bytes = desc->pages.page_bytes,
        .n_slots = n_slots,
        .slots = mems};
    check(mo_cl_page_optim_init(&d->paged, &d->arena.heap, &paged), "mo_cl_page_optim_init");
    free(mems);
}

static void close_pages(trainer *t) { mo_cl_page_optim_free(&t->device->paged); }

static void step_pages(trainer *t, size_t tensor, size_t i) {
    device *d = t->device;
    const mo_param *p = &t->params.items[i];
    const mo_cl_mem param = device_param(d, p), grad = device_floats(d, p->grad, p->n);
    check(p->is_bf16
            ? mo_cl_page_optim_step_bf16(&d->paged, tensor, &t->optim, t->step, param, grad)
            : mo_cl_page_optim_step(&d->paged, tensor, &t->optim, t->step, param, grad),
        p->name);
}

static void exchange_pages(
    const trainer *t, size_t tensor, const mo_optim_state *state, bool read) {
    mo_cl_page_optim *paged = &t->device->paged;
    check(read ? mo_cl_page_optim_read(paged, tensor, state)
               : mo_cl_page_optim_write(paged, tensor, state),
        "paged states");
}

// The host never waits for a page, so how long a step did is not known.
static void figures_of_pages(const trainer *t, page_figures *f) {
    const mo_cl_page *pages = &t->device->paged.pages;
    const uint64_t resident = (uint64_t)pages->desc.n_slots * pages->desc.page_bytes;
    *f = (page_figures){.resident_bytes = resident,
        .paged_out_bytes = pages->desc.size > resident ? pages->desc.size - resident : 0,
        .in_bytes = pages->stats.in_bytes,
        .out_bytes = pages->stats.out_bytes,
        .stall_s = -1};
}

static void square_sums(const trainer *t, size_t first, size_t n, void *workspace, double *sums) {
    device *d = t->device;
    const size_t bytes = MO_CL_ACCUM_PARTS_BYTES;
    char *parts = workspace;
    double *own = allocate(n * sizeof *own);
    size_t n_own = 0;
    for (size_t i = first; i < first + n; i++) {
        const mo_param *p = &t->params.items[i];
        if (p->tied_to != i || !p->grad) continue;
        check(mo_cl_accum_square_parts(&d->cl, device_floats(d, p->grad, p->n), p->n,
                  device_at(d, parts + n_own * bytes, bytes)),
            "mo_cl_accum_square_parts");
        n_own++;
    }
    if (n_own != 0)
        check(mo_cl_accum_square_sums(&d->cl, device_at(d, parts, n_own * bytes), n_own, own),
            "mo_cl_accum_square_sums");
    n_own = 0;
    for (size_t i = 0; i < n; i++) {
        const mo_param *p = &t->params.items[first + i];
        sums[i] = p->tied_to == first + i && p->grad ? own[n_own++] : 0;
    }
    free(own);
}

// ---- offload ----------------------------------------------------------------------------------

static void transfer_begin(trainer *t, size_t store_bytes, size_t n_stages) {
    (void)n_stages;
    check(mo_cl_store_init(&t->device->store, &t->device->arena.heap, store_bytes),
        "host memory for offload");
}

static void transfer_run(trainer *t, const mo_step *step) {
    check(mo_cl_store_step(&t->device->store, &t->device->arena, step), "mo_cl_store_step");
}

static void transfer_end(trainer *t) { mo_cl_store_free(&t->device->store); }

static const backend device_backend = {.kernels = &device_kernels,
    .target = target,
    .most = most,
    .take = take,
    .give_back = give_back,
    .peak_bytes = peak_bytes,
    .host_begin = host_begin,
    .host_end = host_end,
    .clear = clear,
    .wait = wait_for_all,
    .state_begin = state_begin,
    .update = update,
    .pages_open = open_pages,
    .pages_close = close_pages,
    .pages_step = step_pages,
    .pages_exchange = exchange_pages,
    .pages_figures = figures_of_pages,
    .square_sums = square_sums,
    .transfer_open = transfer_begin,
    .transfer_step = transfer_run,
    .transfer_close = transfer_end};

// ---- the device -------------------------------------------------------------------------------

enum { MAX_DEVICES = 64 };

static const char *type_name(const mo_cl_info *info) {
    if (info->type & CL_DEVICE_TYPE_CPU) return "CPU";
    return info->type & CL_DEVICE_TYPE_GPU ? "GPU" : "accelerator";
}

void device_list(void) {
    mo_cl_device devices[MAX_DEVICES];
    mo_cl_info info;
    size_t n = 0;
    if (mo_cl_list(devices, MAX_DEVICES, &n, &app_log) != MO_OK) exit(EXIT_BAD);
    if (n == 0) fail(EXIT_BAD, "--device list: no OpenCL device here");
    for (size_t i = 0; i < n && i < MAX_DEVICES; i++)
        if (mo_cl_device_info(devices[i].id, &info) == MO_OK)
            printf("cl:%d.%d  %s, %s, %.0f MiB (%s)%s\n", devices[i].platform_index,
                devices[i].device_index, info.name, type_name(&info),
                (double)info.global_bytes / 0x1p20, info.platform,
                info.available ? "" : ", not available");
    if (fflush(stdout) != 0) fail(EXIT_BAD, "standard output: %s", strerror(errno));
    exit(0);
}

// Whether "auto" has a device that a CPU is not better than; says why not.
static bool auto_takes(const mo_cl_device *found, mo_status status) {
    mo_cl_info info;
    const char *named = getenv("MEMOPT_CL_DEVICE");
    if (status != MO_OK || mo_cl_device_info(found->id, &info) != MO_OK)
        fprintf(stderr, "train_gpt: --device auto: the CPU, since there is no OpenCL device\n");
    else if (info.type & CL_DEVICE_TYPE_CPU && !(named && *named))
        fprintf(stderr, "train_gpt: --device auto: the CPU, since no OpenCL device is a GPU\n");
    else return true;
    return false;
}

device *device_open(const char *text, const backend **b) {
    const bool any = strcmp(text, "auto") == 0;
    mo_cl_device found;
    *b = &cpu_backend;
    if (strcmp(text, "cpu") == 0) return NULL;
    const mo_status status = mo_cl_choose(text, &found, any ? NULL : &app_log);
    if (any && !auto_takes(&found, status)) return NULL;
    if (status != MO_OK) exit(EXIT_BAD); // app_log has said why
    device *d = allocate(sizeof *d);
    const mo_cl_desc desc = {.device_id = found.id, .log = &app_log};
    if (mo_cl_init(&d->cl, &desc) != MO_OK) exit(EXIT_BAD);
    snprintf(d->name, sizeof d->name, "cl:%d.%d", found.platform_index, found.device_index);
    *b = &device_backend;
    return d;
}

void device_close(device *d) {
    if (!d) return;
    mo_cl_free(&d->cl);
    free(d);
}

const char *device_name(const device *d) { return d ? d->name : "cpu"; }
const char *device_model(const device *d) { return d->cl.info.name; }
#endif
