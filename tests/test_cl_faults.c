/* test_cl_faults.c - what happens on a device that is full, poor or failing: every call of OpenCL
 * fails once, memory runs out at every size, limits are small. The layer of cl_layer.c plays that
 * device; the loader reads it at its first call, so this program starts itself again with it. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include <dlfcn.h>
#include "cl_layer.h"
#include "test_numeric.h"

enum { N = 5000, BYTES = N * sizeof(float), MIB = 1024 * 1024 };

/* ---- the layer ----------------------------------------------------------------------------- */

static layer_restart_fn layer_restart;
static layer_counts_fn layer_read;

static layer_counts counts_now(void) {
    layer_counts counts;
    layer_read(&counts);
    return counts;
}

/* "" or NULL takes a variable away. */
static void layer_set(const char *name, const char *value) {
    if (value && *value) setenv(name, value, 1);
    else unsetenv(name);
    layer_restart();
}
static void layer_number(const char *name, size_t value) {
    char text[32];
    snprintf(text, sizeof text, "%zu", value);
    layer_set(name, text);
}

/* As the device below is, except for the time that starting takes. */
static void layer_clear(void) {
    static const char *const names[] = {"QUOTA", "LAZY", "FAIL", "WORK_GROUP", "LOCAL", "ALIGN",
        "MAX_ALLOC", "GLOBAL", "TYPE", "NAME", "EXTENSIONS", "UNIFIED", "ROUNDED", "BY_NAME"};
    char name[64];
    for (size_t i = 0; i < n_elements(names); i++) {
        snprintf(name, sizeof name, "TEST_LAYER_%s", names[i]);
        unsetenv(name);
    }
    layer_restart();
}

/* NULL when the layer is in use; else why it is not. */
static const char *layer_find(void) {
    const char *path = getenv("OPENCL_LAYERS");
    void *layer = path ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
    if (!layer) return "the OpenCL loader takes no layers";
    layer_restart = (layer_restart_fn)(uintptr_t)dlsym(layer, "cl_layer_restart");
    layer_read = (layer_counts_fn)(uintptr_t)dlsym(layer, "cl_layer_counts");
    return layer_restart && layer_read ? NULL : "another layer is in use";
}

static void use_layer(void) {
    const char *why = layer_find();
    test_device();
    if (why) why = layer_find(); /* loaded by the first call */
    if (why) {
        print_message("%s\n", why);
        skip();
    }
    layer_clear();
}

static void assert_nothing_live(void) {
    const layer_counts counts = counts_now();
    for (int kind = 0; kind < LAYER_KINDS; kind++) assert_int_equal(counts.live[kind], 0);
    assert_int_equal(counts.live_bytes, 0);
    assert_int_equal(counts.resident_bytes, 0);
}

/* ---- a program that trains ----------------------------------------------------------------- */

/* One run: a device, a heap, and the blocks of the step that runs now. */
typedef struct work {
    mo_cl cl;
    mo_cl_heap heap;
    mo_cl_mem blocks[16];
    size_t n_blocks;
    int retries;  /* a step that fails is done again, this often */
    int n_failed; /* statuses that were not MO_OK */
    mo_status status;
} work;

typedef mo_status (*step_fn)(work *);

/* Steps go on with OR_RETURN: what fails is returned, and the blocks are given back by step_run. */
#define OR_RETURN(call)                                                                            \
    do {                                                                                           \
        mo_status status_ = (call);                                                                \
        if (status_ != MO_OK) return status_;                                                      \
    } while (0)

static mo_status put(work *w, const void *data, size_t bytes, mo_cl_mem *mem) {
    OR_RETURN(mo_cl_heap_alloc(&w->heap, bytes, MO_CATEGORY_OTHER, "put", mem));
    assert_true(w->n_blocks < n_elements(w->blocks));
    w->blocks[w->n_blocks++] = *mem;
    return mo_cl_upload(&w->heap, MO_CL_COMPUTE, mem, 0, data, bytes, NULL, NULL);
}

static mo_status get(work *w, const mo_cl_mem *mem, void *data, size_t bytes) {
    return mo_cl_download(&w->heap, MO_CL_COMPUTE, data, mem, 0, bytes, NULL, NULL);
}

static float input[N], other[N], result[N], expected[N];

static void fill_inputs(void) {
    test_rng rng = {7};
    for (int i = 0; i < N; i++) {
        input[i] = test_normal(&rng);
        other[i] = test_normal(&rng);
    }
}

static mo_status step_transfer(work *w) {
    mo_cl_mem mem;
    cl_event event = NULL;
    OR_RETURN(put(w, input, BYTES, &mem));
    OR_RETURN(mo_cl_download(&w->heap, MO_CL_TRANSFER, result, &mem, 0, BYTES, NULL, &event));
    mo_status status = mo_cl_wait(&w->cl, 1, &event);
    clReleaseEvent(event);
    if (status == MO_OK) assert_memory_equal(result, input, BYTES);
    return status;
}

static mo_status step_fill_and_copy(work *w) {
    mo_cl_mem a, b;
    mo_cl_heap *heap = &w->heap;
    OR_RETURN(put(w, input, BYTES, &a));
    OR_RETURN(put(w, other, BYTES, &b));
    OR_RETURN(mo_cl_fill_u32(heap, MO_CL_COMPUTE, &a, 0, N / 2, 0, NULL, NULL));
    OR_RETURN(mo_cl_copy_u32(heap, MO_CL_COMPUTE, &b, 0, &a, 0, N, NULL, NULL));
    OR_RETURN(mo_cl_copy(heap, MO_CL_COMPUTE, &a, 0, &b, BYTES / 2, BYTES / 2, NULL, NULL));
    OR_RETURN(get(w, &a, result, BYTES / 2));
    assert_memory_equal(result, input + N / 2, BYTES / 2);
    return MO_OK;
}

/* The mapping goes in any case: what a program cannot unmap it may still release. */
static mo_status step_map(work *w) {
    mo_cl_mem mem;
    void *mapped = NULL;
    OR_RETURN(put(w, input, BYTES, &mem));
    OR_RETURN(mo_cl_map(&w->heap, MO_CL_COMPUTE, &mem, 0, BYTES, MO_CL_WRITE, NULL, &mapped));
    memcpy(mapped, other, BYTES);
    mo_status status = mo_cl_unmap(&w->heap, MO_CL_COMPUTE, &mem, mapped, NULL);
    if (status != MO_OK) return status;
    OR_RETURN(get(w, &mem, result, BYTES));
    assert_memory_equal(result, other, BYTES);
    return MO_OK;
}

static mo_status step_queues(work *w) {
    mo_cl_mem a, b;
    cl_event ready = NULL;
    OR_RETURN(put(w, input, BYTES, &a));
    OR_RETURN(put(w, other, BYTES, &b));
    OR_RETURN(mo_cl_copy_u32(&w->heap, MO_CL_COMPUTE, &b, 0, &a, 0, N, NULL, NULL));
    OR_RETURN(mo_cl_mark(&w->cl, MO_CL_COMPUTE, &ready));
    mo_cl_wait_list after = {&ready, 1};
    mo_status status = mo_cl_flush(&w->cl, MO_CL_COMPUTE);
    if (status == MO_OK) status = mo_cl_barrier(&w->cl, MO_CL_TRANSFER, &after);
    clReleaseEvent(ready);
    if (status != MO_OK) return status;
    OR_RETURN(mo_cl_download(&w->heap, MO_CL_TRANSFER, result, &b, 0, BYTES, NULL, NULL));
    assert_memory_equal(result, input, BYTES);
    return MO_OK;
}

static mo_status step_accum(work *w) {
    mo_cl_mem grad, sum;
    OR_RETURN(put(w, input, BYTES, &grad));
    OR_RETURN(put(w, other, BYTES, &sum));
    OR_RETURN(mo_cl_accum_add(&w->cl, grad, 0.3f, sum, N));
    OR_RETURN(get(w, &sum, result, BYTES));
    memcpy(expected, other, BYTES);
    mo_accum_add(input, 0.3f, expected, N, NULL);
    assert_memory_equal(result, expected, BYTES);
    return MO_OK;
}

#include "test_cl_training.h"

/* The steps of a training run: each uploads what it needs, runs, and checks what came out, so that
 * it can be done again. Those of further modules are added here. */
static const step_fn steps[] = {step_transfer, step_fill_and_copy, step_map, step_queues,
    step_accum, step_norm_and_gelu, step_linear, step_attention, step_loss, step_optim};

static mo_status step_run(work *w, step_fn step) {
    mo_status status = step(w);
    while (w->n_blocks > 0) test_ok(mo_cl_heap_dealloc(&w->heap, w->blocks[--w->n_blocks].handle));
    return status;
}

/* MO_OK, or the status with which a call failed again after all retries. */
#define WITH_RETRIES(w, call)                                                                      \
    for (int tries = 0; ((w)->status = (call)) != MO_OK; tries++) {                                \
        (w)->n_failed++;                                                                           \
        if (tries == (w)->retries) break;                                                          \
    }

static mo_status open_heap(work *w) {
    mo_cl_heap_desc desc = {.budget_bytes = 4 * MIB, .buffer_bytes = 64 * 1024};
    return mo_cl_heap_init(&w->heap, &w->cl, &desc);
}

/* Compiled programs of all runs; "" = none. */
static const char *cache_folder = "";

/* Opens, does n steps, closes; the first status that no retry made good. faults are those of the
 * steps and of what comes behind; with no steps, those of all. */
static mo_status run(work *w, const step_fn *do_these, size_t n, int retries, const char *faults) {
    const char *group = getenv("TEST_CL_WORK_GROUP");
    mo_cl_desc desc = {.cache_folder = cache_folder,
        .work_group = group ? (size_t)atoi(group) : 0,
        .build_options = getenv("TEST_CL_OPTIONS")};
    memset(w, 0, sizeof *w);
    w->retries = retries;
    layer_set("TEST_LAYER_FAIL", n == 0 ? faults : NULL);
    WITH_RETRIES(w, mo_cl_init(&w->cl, &desc));
    if (w->status != MO_OK) return w->status;
    WITH_RETRIES(w, open_heap(w));
    if (n != 0) layer_set("TEST_LAYER_FAIL", faults);
    for (size_t i = 0; w->status == MO_OK && i < n; i++) WITH_RETRIES(w, step_run(w, do_these[i]));
    mo_status status = w->status;
    mo_cl_heap_free(&w->heap);
    mo_cl_free(&w->cl);
    return status;
}
static mo_status run_all(work *w) { return run(w, steps, n_elements(steps), 0, NULL); }

/* ---- every call fails once ----------------------------------------------------------------- */

static int is_clean(mo_status status) {
    return status == MO_E_NO_DEVICE_MEMORY || status == MO_E_NO_MEMORY ||
        status == MO_E_UNSUPPORTED || status == MO_E_STATE;
}

/* For all k until fewer calls than that are made: the k-th fails. Without a retry the run ends
 * with a status; with one it comes to its end. Nothing stays either way. Returns how often a
 * failure was seen: some are not, such as that of the sync of a free. */
static size_t sweep(int point, const char *name, const step_fn *step, int retries) {
    work w;
    char text[32];
    size_t n_seen = 0;
    for (size_t k = 0;; k++) {
        snprintf(text, sizeof text, "%s:%zu", name, k);
        const mo_status status = run(&w, step, step ? 1 : 0, retries, text);
        const int failed = counts_now().calls[point] > k;
        if (retries ? status != MO_OK : status != MO_OK && !is_clean(status))
            fail_msg("%s: %s", text, mo_status_name(status));
        assert_true(w.n_failed <= failed);
        assert_nothing_live();
        n_seen += w.n_failed > 0;
        if (!failed) return n_seen;
    }
}

static void every_call_fails_once(int point, const char *name, size_t least) {
    use_layer();
    test_folder folder = test_folder_make();
    cache_folder = folder.path;
    size_t n_seen = 0;
    for (int retries = 0; retries <= 1; retries++) {
        n_seen += sweep(point, name, NULL, retries);
        for (size_t i = 0; i < n_elements(steps); i++)
            n_seen += sweep(point, name, &steps[i], retries);
    }
    cache_folder = "";
    test_folder_remove(&folder);
    layer_clear();
    print_message("%s: %zu failures seen\n", name, n_seen);
    assert_true(n_seen >= least);
}

static void every_failing_create_is_a_status(void **state) {
    (void)state;
    every_call_fails_once(LAYER_CREATE, "create", 6);
}
static void every_failing_argument_is_a_status(void **state) {
    (void)state;
    every_call_fails_once(LAYER_ARG, "arg", 30);
}
static void every_failing_enqueue_is_a_status(void **state) {
    (void)state;
    every_call_fails_once(LAYER_ENQUEUE, "enqueue", 40);
}
static void every_failing_map_is_a_status(void **state) {
    (void)state;
    every_call_fails_once(LAYER_MAP, "map", 2);
}
static void every_command_that_fails_late_is_a_status(void **state) {
    (void)state;
    every_call_fails_once(LAYER_LATE, "late", 30);
}

/* From source; a binary of the cache that fails is compiled instead. */
static void every_failing_build_is_a_status(void **state) {
    (void)state;
    use_layer();
    for (int retries = 0; retries <= 1; retries++) {
        size_t n_seen = 0;
        for (size_t i = 0; i < n_elements(steps); i++)
            n_seen += sweep(LAYER_BUILD, "build", &steps[i], retries);
        assert_true(n_seen >= 3);
    }
    every_call_fails_once(LAYER_BUILD, "build", 0);
}

/* Intel's driver, where a context has two devices. */
static void kernels_that_come_by_name_only_are_found(void **state) {
    (void)state;
    work w;
    use_layer();
    layer_set("TEST_LAYER_BY_NAME", "1");
    test_ok(run_all(&w));
    for (int retries = 0; retries <= 1; retries++)
        assert_true(sweep(LAYER_CREATE, "create", &steps[n_elements(steps) - 1], retries) >= 2);
    layer_clear();
}

/* ---- memory runs out ----------------------------------------------------------------------- */

/* From nothing until it is enough, on drivers that take memory when a buffer is created and on
 * those that do at its first use: it is always the heap that says so. */
static void a_full_device(int lazy) {
    work w;
    size_t n_refused = 0;
    use_layer();
    layer_set("TEST_LAYER_LAZY", lazy ? "1" : NULL);
    for (size_t quota = 1;; quota += 16 * 1024 - 100) {
        layer_number("TEST_LAYER_QUOTA", quota);
        const mo_status status = run_all(&w);
        assert_true(counts_now().peak_bytes <= quota);
        assert_nothing_live();
        if (status == MO_OK) break;
        assert_int_equal(status, MO_E_NO_DEVICE_MEMORY);
        assert_true(++n_refused < 100);
    }
    assert_true(n_refused >= 2);
    layer_clear();
}

static void a_device_that_is_full_at_create_is_a_status(void **state) {
    (void)state;
    a_full_device(0);
}
static void a_device_that_is_full_at_the_first_use_is_a_status(void **state) {
    (void)state;
    a_full_device(1);
}

static void the_heap_fails_where_a_driver_puts_it_off(void **state) {
    (void)state;
    work w;
    mo_cl_mem a, b;
    use_layer();
    layer_set("TEST_LAYER_LAZY", "1");
    layer_number("TEST_LAYER_QUOTA", 100000);
    memset(&w, 0, sizeof w);
    test_open(&w.cl, "");
    test_ok(open_heap(&w));
    test_ok(mo_cl_heap_alloc(&w.heap, 60000, MO_CATEGORY_OTHER, "a", &a));
    assert_int_equal(
        mo_cl_heap_alloc(&w.heap, 60000, MO_CATEGORY_OTHER, "b", &b), MO_E_NO_DEVICE_MEMORY);
    /* Room comes back with what is given back. */
    test_ok(mo_cl_heap_dealloc(&w.heap, a.handle));
    test_ok(mo_cl_heap_alloc(&w.heap, 90000, MO_CATEGORY_OTHER, "b", &b));
    test_ok(mo_cl_fill_u32(&w.heap, MO_CL_COMPUTE, &b, 0, 1000, 1, NULL, NULL));
    mo_cl_heap_free(&w.heap);
    mo_cl_free(&w.cl);
    assert_nothing_live();
    layer_clear();
}

/* ---- and a training loop goes on with less -------------------------------------------------- */

/* A step adds BATCH samples up on the device, a micro-batch at a time in their order, and then the
 * sum to the total of the host. */
enum { BATCH = 8, SAMPLE = N / 2, SAMPLE_BYTES = SAMPLE * sizeof(float), N_TURNS = 2 };
typedef struct adder {
    work w;
    float total[SAMPLE];
} adder;

static const float *sample(uint64_t number) { return input + number * 37 % SAMPLE; }

static mo_status adder_take(work *w, size_t bytes, const char *name) {
    OR_RETURN(mo_cl_heap_alloc(&w->heap, bytes, MO_CATEGORY_OTHER, name, &w->blocks[w->n_blocks]));
    w->n_blocks++;
    return MO_OK;
}
static mo_status adder_prepare(void *self, const mo_recover_config *config) {
    work *w = &((adder *)self)->w;
    OR_RETURN(adder_take(w, config->batch * SAMPLE_BYTES, "batch"));
    return adder_take(w, SAMPLE_BYTES, "sum");
}
static void adder_release(void *self) {
    work *w = &((adder *)self)->w;
    w->status = mo_cl_sync(&w->cl, MO_CL_COMPUTE); /* and forget what failed */
    while (w->n_blocks > 0) test_ok(mo_cl_heap_dealloc(&w->heap, w->blocks[--w->n_blocks].handle));
}

static mo_status adder_step(void *self, const mo_retry_turn *turn, int *applied) {
    adder *a = (adder *)self;
    work *w = &a->w;
    const mo_cl_mem batch = w->blocks[0], sum = w->blocks[1];
    OR_RETURN(mo_cl_fill_u32(&w->heap, MO_CL_COMPUTE, &sum, 0, SAMPLE, 0, NULL, NULL));
    for (uint64_t i = 0; i < BATCH; i++) {
        const uint64_t off = i % turn->config.batch * SAMPLE_BYTES;
        OR_RETURN(mo_cl_upload(&w->heap, MO_CL_COMPUTE, &batch, off, sample(turn->first + i),
            SAMPLE_BYTES, NULL, NULL));
        OR_RETURN(
            mo_cl_accum_add(&w->cl, mo_cl_part(&batch, off, SAMPLE_BYTES), 0.3f, sum, SAMPLE));
    }
    OR_RETURN(get(w, &sum, result, SAMPLE_BYTES));
    OR_RETURN(mo_cl_sync(&w->cl, MO_CL_COMPUTE));
    mo_accum_add(result, 1, a->total, SAMPLE, NULL);
    *applied = 1;
    return MO_OK;
}

/* The steps, once with what the environment says; the total is that of the CPU. */
static mo_retry adder_run(adder *a) {
    mo_retry retry;
    const mo_retry_desc desc = {.config = {.batch = BATCH},
        .ladder = {.steps = MO_RECOVER_BATCH},
        .calls = {
            .prepare = adder_prepare, .step = adder_step, .release = adder_release, .self = a}};
    memset(a->total, 0, sizeof a->total);
    memset(expected, 0, sizeof expected);
    test_ok(mo_retry_init(&retry, &desc));
    for (uint64_t t = 0; t < N_TURNS; t++) {
        test_ok(mo_retry_step(&retry));
        memset(result, 0, SAMPLE_BYTES);
        for (uint64_t i = 0; i < BATCH; i++)
            mo_accum_add(sample(t * BATCH + i), 0.3f, result, SAMPLE, NULL);
        mo_accum_add(result, 1, expected, SAMPLE, NULL);
    }
    mo_retry_free(&retry);
    assert_memory_equal(a->total, expected, SAMPLE_BYTES);
    return retry;
}

static void adder_open(adder *a, uint64_t budget_bytes) {
    const mo_cl_heap_desc desc = {.budget_bytes = budget_bytes, .buffer_bytes = 16 * 1024};
    memset(a, 0, sizeof *a);
    test_open(&a->w.cl, "");
    test_ok(mo_cl_heap_init(&a->w.heap, &a->w.cl, &desc));
}
static void adder_close(adder *a) {
    mo_cl_heap_free(&a->w.heap);
    mo_cl_free(&a->w.cl);
    assert_nothing_live();
    layer_clear();
}

/* A budget that is refused, a device that is full, one that is full at the first use. */
static void a_step_is_done_again_in_smaller_batches_where_memory_ends(void **state) {
    (void)state;
    adder a;
    for (int kind = 0; kind < 3; kind++) {
        use_layer();
        adder_open(&a, kind == 0 ? 60000 : MIB);
        if (kind == 2) layer_set("TEST_LAYER_LAZY", "1");
        if (kind > 0) layer_number("TEST_LAYER_QUOTA", 60000);
        const mo_retry retry = adder_run(&a);
        assert_int_equal(retry.config.batch, 4);
        assert_int_equal(retry.stats.n_failed, 1);
        adder_close(&a);
    }
}

static void a_step_is_done_again_whichever_call_finds_no_memory(void **state) {
    (void)state;
    static const char *const points[] = {"create", "arg", "enqueue", "late"};
    adder a;
    char text[32];
    size_t n_seen = 0;
    use_layer();
    adder_open(&a, MIB);
    adder_run(&a); /* programs are compiled */
    for (size_t i = 0; i < n_elements(points); i++)
        for (size_t k = 0, failed = 1; failed; k++) {
            snprintf(text, sizeof text, "%s:%zu", points[i], k);
            layer_set("TEST_LAYER_FAIL", text);
            failed = adder_run(&a).stats.n_failed;
            assert_true(failed <= 1);
            n_seen += failed;
        }
    assert_true(n_seen > 20);
    adder_close(&a);
}

/* ---- a poor device ------------------------------------------------------------------------- */

static void be_poor(void) {
    setenv("TEST_LAYER_WORK_GROUP", "64", 1);
    setenv("TEST_LAYER_LOCAL", "32768", 1);
    setenv("TEST_LAYER_ALIGN", "1024", 1);
    setenv("TEST_LAYER_MAX_ALLOC", "104857600", 1);
    setenv("TEST_LAYER_GLOBAL", "1073741824", 1);
    setenv("TEST_LAYER_TYPE", "gpu", 1);
    setenv("TEST_LAYER_UNIFIED", "0", 1);
    setenv("TEST_LAYER_ROUNDED", "0", 1);
    setenv("TEST_LAYER_NAME", "Poor Device", 1);
    layer_set("TEST_LAYER_EXTENSIONS", "cl_khr_byte_addressable_store");
}

static void a_poor_device_does_everything(void **state) {
    (void)state;
    work w;
    use_layer();
    be_poor();
    test_ok(run_all(&w));
    assert_nothing_live();
    layer_clear();
}

static void limits_are_those_that_the_device_says(void **state) {
    (void)state;
    mo_cl cl;
    use_layer();
    be_poor();
    test_open(&cl, "");
    assert_int_equal(cl.work_group, 64);
    assert_int_equal(cl.info.max_work_group, 64);
    assert_int_equal(cl.info.local_bytes, 32768);
    assert_int_equal(cl.info.base_align_bytes, 1024);
    assert_int_equal(cl.info.max_alloc_bytes, 104857600);
    assert_int_equal(cl.info.global_bytes, 1073741824);
    assert_int_equal(cl.info.type, CL_DEVICE_TYPE_GPU);
    assert_string_equal(cl.info.name, "Poor Device");
    assert_false(cl.info.unified || cl.info.correctly_rounded || cl.info.fp16);
    assert_true(mo_cl_device_has(cl.device, "cl_khr_byte_addressable_store"));
    assert_false(mo_cl_device_has(cl.device, "cl_khr_fp64"));
    mo_cl_free(&cl);
    layer_clear();
}

/* Three blocks of 90 MiB where a buffer has up to 100; each may become a sub-buffer. */
static void a_heap_is_split_over_buffers_that_the_device_allows(void **state) {
    (void)state;
    mo_cl cl;
    mo_cl_heap heap;
    mo_cl_heap_stats stats;
    mo_cl_mem mem[4];
    uint32_t word = 0;
    use_layer();
    be_poor();
    test_open(&cl, "");
    mo_cl_heap_desc desc = {.budget_bytes = (uint64_t)400 * MIB, .buffer_bytes = 200 * MIB};
    test_ok(mo_cl_heap_init(&heap, &cl, &desc));
    for (uint32_t i = 0; i < 4; i++) {
        const uint64_t size = i == 3 ? 1000 : 90 * MIB;
        test_ok(mo_cl_heap_alloc(&heap, size, MO_CATEGORY_OTHER, "large", &mem[i]));
        test_ok(mo_cl_fill_u32(&heap, MO_CL_COMPUTE, &mem[i], size - 16, 4, i, NULL, NULL));
        cl_buffer_region region = {(size_t)mem[i].off, (size_t)size};
        cl_mem part = clCreateSubBuffer(
            mem[i].buffer, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &region, NULL);
        assert_non_null(part);
        clReleaseMemObject(part);
    }
    for (uint32_t i = 0; i < 4; i++) {
        test_ok(
            mo_cl_download(&heap, MO_CL_COMPUTE, &word, &mem[i], mem[i].size - 4, 4, NULL, NULL));
        assert_int_equal(word, i);
    }
    mo_cl_heap_get_stats(&heap, &stats);
    assert_int_equal(stats.n_buffers, 3);
    mo_cl_heap_free(&heap);
    mo_cl_free(&cl);
    assert_nothing_live();
    layer_clear();
}

/* What a device cannot do has another status than what it has no room for. */
static void what_a_device_lacks_is_told_from_what_is_full(void **state) {
    (void)state;
    work w;
    mo_cl cl;
    mo_cl_mem mem;
    use_layer();
    be_poor();
    mo_cl_desc desc = {.cache_folder = "", .work_group = 128};
    assert_int_equal(mo_cl_init(&cl, &desc), MO_E_INVALID);
    memset(&w, 0, sizeof w);
    test_open(&w.cl, "");
    test_ok(open_heap(&w));
    const uint64_t size = 101 * MIB;
    assert_int_equal(
        mo_cl_heap_alloc(&w.heap, size, MO_CATEGORY_OTHER, "a", &mem), MO_E_UNSUPPORTED);
    assert_int_equal(
        mo_cl_heap_alloc(&w.heap, 5 * MIB, MO_CATEGORY_OTHER, "a", &mem), MO_E_NO_SPACE);
    test_ok(mo_cl_heap_alloc(&w.heap, BYTES, MO_CATEGORY_OTHER, "a", &mem));
    layer_set("TEST_LAYER_WORK_GROUP", "32"); /* a kernel may have less than the device */
    assert_int_equal(
        mo_cl_fill_u32(&w.heap, MO_CL_COMPUTE, &mem, 0, N, 0, NULL, NULL), MO_E_UNSUPPORTED);
    mo_cl_heap_free(&w.heap);
    mo_cl_free(&w.cl);
    assert_nothing_live();
    layer_clear();
}

/* ---- the layer itself ---------------------------------------------------------------------- */

/* Or all of the above would pass whatever leaks. */
static void the_layer_counts_what_is_not_released(void **state) {
    (void)state;
    const mo_cl_device device = test_device();
    use_layer();
    cl_context context = clCreateContext(NULL, 1, &device.id, NULL, NULL, NULL);
    cl_mem buffer = clCreateBuffer(context, CL_MEM_READ_WRITE, 1000, NULL, NULL);
    clRetainMemObject(buffer);
    clReleaseMemObject(buffer);
    layer_counts counts = counts_now();
    assert_int_equal(counts.live[LAYER_CONTEXT], 1);
    assert_int_equal(counts.live[LAYER_BUFFER], 1);
    assert_int_equal(counts.live_bytes, 1000);
    assert_int_equal(counts.created[LAYER_BUFFER], 1);
    clReleaseMemObject(buffer);
    clReleaseContext(context);
    assert_nothing_live();
}

/* Started again with the layer that is built beside the folder of this program. */
static int start_with_layer(void) {
    char path[1024];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    if (n <= 0) return 1;
    path[n] = '\0';
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(path, '/');
        if (!slash) return 1;
        *slash = '\0';
    }
    strcat(path, "/cl_layer.so");
    setenv("OPENCL_LAYERS", path, 1);
    execl("/proc/self/exe", "test_cl_faults", (char *)NULL);
    return 1;
}

int main(void) {
    if (!getenv("OPENCL_LAYERS")) return start_with_layer();
    fill_inputs();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_layer_counts_what_is_not_released),
        cmocka_unit_test(every_failing_create_is_a_status),
        cmocka_unit_test(every_failing_build_is_a_status),
        cmocka_unit_test(kernels_that_come_by_name_only_are_found),
        cmocka_unit_test(every_failing_argument_is_a_status),
        cmocka_unit_test(every_failing_enqueue_is_a_status),
        cmocka_unit_test(every_failing_map_is_a_status),
        cmocka_unit_test(every_command_that_fails_late_is_a_status),
        cmocka_unit_test(a_device_that_is_full_at_create_is_a_status),
        cmocka_unit_test(a_device_that_is_full_at_the_first_use_is_a_status),
        cmocka_unit_test(the_heap_fails_where_a_driver_puts_it_off),
        cmocka_unit_test(a_step_is_done_again_in_smaller_batches_where_memory_ends),
        cmocka_unit_test(a_step_is_done_again_whichever_call_finds_no_memory),
        cmocka_unit_test(a_poor_device_does_everything),
        cmocka_unit_test(limits_are_those_that_the_device_says),
        cmocka_unit_test(a_heap_is_split_over_buffers_that_the_device_allows),
        cmocka_unit_test(what_a_device_lacks_is_told_from_what_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
