/* test_cl_devices.c - two devices in one program: two halves of a CPU that stand for two GPUs, in
 * one context and in two; a pipeline from one vendor's device to another's. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_numeric.h"

enum { N = 20000, BYTES = N * sizeof(float), STAGES = 6 };

/* ---- two devices --------------------------------------------------------------------------- */

typedef struct pair {
    cl_device_id ids[2];
    cl_context context; /* of both; NULL = each has its own */
    mo_cl cl[2];
    mo_cl_heap heap[2];
    mo_cl_mem x[2], y[2];
} pair;

static void pair_open_one(pair *p, int i) {
    mo_cl_desc desc = {.context = p->context, .device_id = p->ids[i], .cache_folder = ""};
    mo_cl_heap_desc heap = {.budget_bytes = 1 << 20};
    test_ok(mo_cl_init(&p->cl[i], &desc));
    test_ok(mo_cl_heap_init(&p->heap[i], &p->cl[i], &heap));
    test_ok(mo_cl_heap_alloc(&p->heap[i], BYTES, MO_CATEGORY_OTHER, "x", &p->x[i]));
    test_ok(mo_cl_heap_alloc(&p->heap[i], BYTES, MO_CATEGORY_OTHER, "y", &p->y[i]));
}

/* Skips where the device cannot be divided. */
static void pair_open(pair *p, int one_context) {
    const mo_cl_device device = test_device();
    const cl_device_partition_property equally[] = {CL_DEVICE_PARTITION_EQUALLY, 1, 0};
    cl_device_id ids[64];
    cl_uint n = 0;
    memset(p, 0, sizeof *p);
    if (clCreateSubDevices(device.id, equally, 0, NULL, &n) != CL_SUCCESS || n < 2 || n > 64) {
        print_message("one compute unit, or a device that cannot be divided\n");
        skip();
    }
    assert_int_equal(clCreateSubDevices(device.id, equally, n, ids, NULL), CL_SUCCESS);
    for (cl_uint i = 2; i < n; i++) clReleaseDevice(ids[i]);
    memcpy(p->ids, ids, sizeof p->ids);
    if (one_context) {
        p->context = clCreateContext(NULL, 2, p->ids, NULL, NULL, NULL);
        assert_non_null(p->context);
    }
    for (int i = 0; i < 2; i++) pair_open_one(p, i);
    assert_int_equal(p->cl[0].context == p->cl[1].context, one_context);
}

static void pair_close(pair *p) {
    for (int i = 0; i < 2; i++) {
        mo_cl_heap_free(&p->heap[i]);
        mo_cl_free(&p->cl[i]);
        clReleaseDevice(p->ids[i]);
    }
    if (p->context) clReleaseContext(p->context);
}

static float first[N], second[N], got[N];

static void fill_inputs(void) {
    test_rng rng = test_rng_begin("devices");
    for (int i = 0; i < N; i++) {
        first[i] = test_normal(&rng);
        second[i] = test_normal(&rng);
    }
}

static mo_status put(pair *p, int i, const mo_cl_mem *mem, const float *data) {
    return mo_cl_upload(&p->heap[i], MO_CL_COMPUTE, mem, 0, data, BYTES, NULL, NULL);
}
static mo_status take(pair *p, int i, const mo_cl_mem *mem, float *data) {
    return mo_cl_download(&p->heap[i], MO_CL_COMPUTE, data, mem, 0, BYTES, NULL, NULL);
}

/* ---- at the same time ---------------------------------------------------------------------- */

/* Commands of both devices are under way before either is waited for. */
static void both_work_at_the_same_time(int one_context) {
    enum { ROUNDS = 20 };
    static float expected[2][N];
    pair p;
    pair_open(&p, one_context);
    fill_inputs();
    for (int i = 0; i < 2; i++) {
        test_ok(put(&p, i, &p.x[i], i ? second : first));
        test_ok(put(&p, i, &p.y[i], i ? first : second));
        memcpy(expected[i], i ? first : second, BYTES);
    }
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < 2; i++) {
            const float scale = i ? 0.25f : -0.5f;
            test_ok(mo_cl_accum_add(&p.cl[i], p.x[i], scale, p.y[i], N));
            test_ok(mo_cl_flush(&p.cl[i], MO_CL_COMPUTE));
            mo_accum_add(i ? second : first, scale, expected[i], N, NULL);
        }
    for (int i = 0; i < 2; i++) {
        test_ok(take(&p, i, &p.y[i], got));
        assert_memory_equal(got, expected[i], BYTES);
    }
    pair_close(&p);
}

static void two_devices_of_one_context_work_at_the_same_time(void **state) {
    (void)state;
    both_work_at_the_same_time(1);
}
static void two_devices_of_two_contexts_work_at_the_same_time(void **state) {
    (void)state;
    both_work_at_the_same_time(0);
}

/* ---- from one to the other ----------------------------------------------------------------- */

/* In one context a block of one device is read by the other, and an event of one queue is waited
 * for by another's: nothing goes through the host until the end. */
static void data_moves_between_devices_of_one_context(void **state) {
    (void)state;
    static float expected[N];
    pair p;
    cl_event done = NULL;
    pair_open(&p, 1);
    fill_inputs();
    test_ok(put(&p, 0, &p.x[0], first));
    test_ok(put(&p, 0, &p.y[0], second));
    memcpy(expected, second, BYTES);
    for (int stage = 0; stage < STAGES; stage++) {
        const int from = stage % 2, to = 1 - from;
        test_ok(mo_cl_accum_add(&p.cl[from], p.x[from], 0.5f, p.y[from], N));
        mo_accum_add(first, 0.5f, expected, N, NULL);
        test_ok(mo_cl_mark(&p.cl[from], MO_CL_COMPUTE, &done));
        test_ok(mo_cl_flush(&p.cl[from], MO_CL_COMPUTE));
        mo_cl_wait_list after = {&done, 1};
        mo_cl_heap *heap = &p.heap[to];
        test_ok(mo_cl_copy(heap, MO_CL_COMPUTE, &p.x[to], 0, &p.x[from], 0, BYTES, &after, NULL));
        test_ok(mo_cl_copy(heap, MO_CL_COMPUTE, &p.y[to], 0, &p.y[from], 0, BYTES, NULL, NULL));
        clReleaseEvent(done);
    }
    test_ok(take(&p, STAGES % 2, &p.y[STAGES % 2], got));
    assert_memory_equal(got, expected, BYTES);
    pair_close(&p);
}

/* Through host memory, in two halves: the second half is computed while the first one travels. */
static void data_moves_between_contexts_through_the_host(void **state) {
    (void)state;
    enum { HALF = N / 2, HALF_BYTES = BYTES / 2 };
    static float staging[N], expected[N];
    pair p;
    cl_event events[2];
    pair_open(&p, 0);
    fill_inputs();
    test_ok(put(&p, 0, &p.x[0], first));
    test_ok(put(&p, 0, &p.y[0], second));
    for (int half = 0; half < 2; half++) {
        mo_cl_mem x = mo_cl_part(&p.x[0], (uint64_t)half * HALF_BYTES, HALF_BYTES);
        mo_cl_mem y = mo_cl_part(&p.y[0], (uint64_t)half * HALF_BYTES, HALF_BYTES);
        cl_event computed = NULL;
        test_ok(mo_cl_accum_add(&p.cl[0], x, 2, y, HALF));
        test_ok(mo_cl_mark(&p.cl[0], MO_CL_COMPUTE, &computed));
        test_ok(mo_cl_flush(&p.cl[0], MO_CL_COMPUTE));
        mo_cl_wait_list after = {&computed, 1};
        test_ok(mo_cl_download(&p.heap[0], MO_CL_TRANSFER, staging + half * HALF, &y, 0, HALF_BYTES,
            &after, &events[half]));
        test_ok(mo_cl_flush(&p.cl[0], MO_CL_TRANSFER));
        clReleaseEvent(computed);
    }
    for (int half = 0; half < 2; half++) {
        test_ok(mo_cl_wait(&p.cl[0], 1, &events[half]));
        clReleaseEvent(events[half]);
        test_ok(mo_cl_upload(&p.heap[1], MO_CL_TRANSFER, &p.y[1], (uint64_t)half * HALF_BYTES,
            staging + half * HALF, HALF_BYTES, NULL, NULL));
    }
    test_ok(put(&p, 1, &p.x[1], second));
    test_ok(mo_cl_accum_add(&p.cl[1], p.x[1], -1, p.y[1], N));
    test_ok(take(&p, 1, &p.y[1], got));
    memcpy(expected, second, BYTES);
    mo_accum_add(first, 2, expected, N, NULL);
    mo_accum_add(second, -1, expected, N, NULL);
    assert_memory_equal(got, expected, BYTES);
    pair_close(&p);
}

/* ---- two vendors --------------------------------------------------------------------------- */

/* Opens a device of a platform with this name; 0 when there is none. */
static int open_vendor(mo_cl *cl, mo_cl_heap *heap, const char *platform) {
    mo_cl_device all[16];
    size_t n = 0;
    if (mo_cl_list(all, n_elements(all), &n, NULL) != MO_OK) return 0;
    for (size_t i = 0; i < n && i < n_elements(all); i++) {
        mo_cl_info info;
        if (mo_cl_device_info(all[i].id, &info) != MO_OK) continue;
        if (!strstr(info.platform, platform)) continue;
        mo_cl_desc desc = {.device_id = all[i].id, .cache_folder = ""};
        mo_cl_heap_desc heap_desc = {.budget_bytes = 1 << 20, .buffer_bytes = 1 << 18};
        if (mo_cl_init(cl, &desc) != MO_OK) return 0;
        return mo_cl_heap_init(heap, cl, &heap_desc) == MO_OK;
    }
    return 0;
}

/* One sum over both: each device adds its own input to what the other has left. */
static mo_status pipeline(mo_cl *cl, mo_cl_heap *heap, float *sum) {
    mo_cl_mem x[2], y[2];
    for (int i = 0; i < 2; i++) {
        const float *input = i ? second : first;
        mo_status status = mo_cl_heap_alloc(&heap[i], BYTES, MO_CATEGORY_OTHER, "x", &x[i]);
        if (status == MO_OK)
            status = mo_cl_heap_alloc(&heap[i], BYTES, MO_CATEGORY_OTHER, "y", &y[i]);
        if (status == MO_OK)
            status = mo_cl_upload(&heap[i], MO_CL_TRANSFER, &x[i], 0, input, BYTES, NULL, NULL);
        if (status != MO_OK) return status;
    }
    for (int stage = 0; stage < STAGES; stage++) {
        const int i = stage % 2;
        mo_status status = mo_cl_upload(&heap[i], MO_CL_COMPUTE, &y[i], 0, sum, BYTES, NULL, NULL);
        if (status == MO_OK) status = mo_cl_accum_add(&cl[i], x[i], 0.75f, y[i], N);
        if (status == MO_OK)
            status = mo_cl_download(&heap[i], MO_CL_COMPUTE, sum, &y[i], 0, BYTES, NULL, NULL);
        if (status != MO_OK) return status;
    }
    return MO_OK;
}

enum { NO_VENDOR = 77 };

/* In a process of its own: the loader looks for drivers once; some read the environment then. */
static int child_vendors(void) {
    static float sum[N], expected[N];
    mo_cl cl[2];
    mo_cl_heap heap[2];
    if (!open_vendor(&cl[0], &heap[0], "Portable Computing Language")) return NO_VENDOR;
    if (!open_vendor(&cl[1], &heap[1], "rusticl")) return NO_VENDOR;
    fill_inputs();
    if (pipeline(cl, heap, sum) != MO_OK) return 1;
    for (int stage = 0; stage < STAGES; stage++)
        mo_accum_add(stage % 2 ? second : first, 0.75f, expected, N, NULL);
    for (int i = 0; i < 2; i++) {
        mo_cl_heap_free(&heap[i]);
        mo_cl_free(&cl[i]);
    }
    return memcmp(sum, expected, BYTES) == 0 ? 0 : 2;
}

/* The drivers by the names that distributions give them; what is not there counts as none. */
static void write_drivers(const test_folder *folder) {
    static const char *const libraries[] = {"libpocl.so.2.10.0", "libpocl.so.2.11.0",
        "libpocl.so.2.12.0", "libpocl.so.2.13.0", "libpocl.so.2.14.0", "libRusticlOpenCL.so.1"};
    char path[256];
    for (size_t i = 0; i < n_elements(libraries); i++) {
        snprintf(path, sizeof path, "%s/%zu.icd", folder->path, i);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fprintf(file, "%s\n", libraries[i]);
        fclose(file);
    }
}

static void a_pipeline_runs_over_the_devices_of_two_vendors(void **state) {
    (void)state;
    int pid;
    test_device();
    test_folder folder = test_folder_make();
    write_drivers(&folder);
    setenv("RUSTICL_ENABLE", "llvmpipe", 1);
    assert_true(test_spawn("OCL_ICD_VENDORS", folder.path, "vendors", &pid));
    const int status = test_wait(pid);
    test_folder_remove(&folder);
    if (status == NO_VENDOR) {
        print_message("PoCL and rusticl are not both installed\n");
        skip();
    }
    assert_int_equal(status, 0);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "vendors") == 0) return child_vendors();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_devices_of_one_context_work_at_the_same_time),
        cmocka_unit_test(two_devices_of_two_contexts_work_at_the_same_time),
        cmocka_unit_test(data_moves_between_devices_of_one_context),
        cmocka_unit_test(data_moves_between_contexts_through_the_host),
        cmocka_unit_test(a_pipeline_runs_over_the_devices_of_two_vendors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
