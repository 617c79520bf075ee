/* test_cl.c - mo_cl_device, mo_cl, mo_cl_program: devices, contexts, waiting, programs and their
 * cache. */
#include "test_cl.h"

#ifndef NO_OPENCL

/* ---- devices ------------------------------------------------------------------------------- */

static void a_device_text_is_auto_cl_or_indices(void **state) {
    (void)state;
    static const char *const bad[] = {"cl:", "cl:x", "cl:1.", "cl:.1", "cl:0.0.0", "cl:-1", "gpu",
        "cl:0.0 ", " cl", "CL", "cl0", "cl:12345", "0.0", "cl:0,0"};
    mo_cl_device device = {.platform_index = 77};
    test_log kept;
    mo_log log = test_log_begin(&kept);
    for (size_t i = 0; i < n_elements(bad); i++) {
        kept.text[0] = '\0';
        assert_int_equal(mo_cl_choose(bad[i], &device, &log), MO_E_INVALID);
        assert_non_null(strstr(kept.text, bad[i]));
    }
    assert_int_equal(mo_cl_choose("auto", NULL, &log), MO_E_INVALID);
    assert_int_equal(device.platform_index, 77);
}

static void the_environment_decides_what_the_text_leaves_open(void **state) {
    (void)state;
    char text[64];
    const mo_cl_device device = test_device();
    mo_cl_device got;
    test_log kept;
    mo_log log = test_log_begin(&kept);
    const char *before = getenv("MEMOPT_CL_DEVICE");
    char saved[64];
    snprintf(saved, sizeof saved, "%s", before ? before : "");
    setenv("MEMOPT_CL_DEVICE", "cl:77.1", 1);
    mo_status missing = mo_cl_choose("auto", &got, &log);
    snprintf(text, sizeof text, "cl:%d.%d", device.platform_index, device.device_index);
    mo_status named = mo_cl_choose(text, &got, NULL);
    setenv("MEMOPT_CL_DEVICE", "fastest", 1);
    mo_status wrong = mo_cl_choose(NULL, &got, &log);
    setenv("MEMOPT_CL_DEVICE", saved, 1);
    assert_int_equal(missing, MO_E_NOT_FOUND);
    assert_int_equal(named, MO_OK);
    assert_int_equal(wrong, MO_E_INVALID);
    assert_non_null(strstr(kept.text, "MEMOPT_CL_DEVICE=fastest"));
}

static void every_listed_device_is_chosen_by_its_indices(void **state) {
    (void)state;
    mo_cl_device all[64], got;
    size_t n = 0, only = 0;
    test_device();
    test_ok(mo_cl_list(all, n_elements(all), &n, NULL));
    test_ok(mo_cl_list(NULL, 0, &only, NULL));
    assert_int_equal(n, only);
    for (size_t i = 0; i < n; i++) {
        char text[64];
        snprintf(text, sizeof text, "cl:%d.%d", all[i].platform_index, all[i].device_index);
        test_ok(mo_cl_choose(text, &got, NULL));
        assert_ptr_equal(got.id, all[i].id);
        if (all[i].device_index != 0) continue;
        snprintf(text, sizeof text, "cl:%d", all[i].platform_index);
        test_ok(mo_cl_choose(text, &got, NULL));
        assert_ptr_equal(got.id, all[i].id);
    }
}

static void platforms_without_devices_are_skipped(void **state) {
    (void)state;
    cl_platform_id platforms[64];
    cl_uint n_platforms = 0;
    size_t n = 0, listed = 0;
    mo_cl_device all[64];
    test_device();
    assert_int_equal(clGetPlatformIDs(64, platforms, &n_platforms), CL_SUCCESS);
    for (cl_uint p = 0; p < n_platforms; p++) {
        cl_uint count = 0;
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, 0, NULL, &count) == CL_SUCCESS)
            n += count;
    }
    test_ok(mo_cl_list(all, n_elements(all), &listed, NULL));
    assert_int_equal(listed, n);
    for (size_t i = 0; i < listed; i++)
        assert_ptr_equal(all[i].platform, platforms[all[i].platform_index]);
}

static void an_index_that_is_not_there_is_not_found(void **state) {
    (void)state;
    const mo_cl_device device = test_device();
    mo_cl_device got;
    char text[64];
    test_log kept;
    mo_log log = test_log_begin(&kept);
    snprintf(text, sizeof text, "cl:%d.63", device.platform_index);
    assert_int_equal(mo_cl_choose(text, &got, &log), MO_E_NOT_FOUND);
    assert_non_null(strstr(kept.text, "no such device"));
    assert_int_equal(mo_cl_choose("cl:9999", &got, &log), MO_E_NOT_FOUND);
    assert_non_null(strstr(kept.text, "no such platform"));
}

static void info_is_what_the_device_says(void **state) {
    (void)state;
    const mo_cl_device device = test_device();
    mo_cl_info info;
    cl_uint align_bits = 0;
    cl_ulong largest = 0;
    char name[256];
    test_ok(mo_cl_device_info(device.id, &info));
    clGetDeviceInfo(device.id, CL_DEVICE_MEM_BASE_ADDR_ALIGN, sizeof align_bits, &align_bits, NULL);
    clGetDeviceInfo(device.id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof largest, &largest, NULL);
    clGetDeviceInfo(device.id, CL_DEVICE_NAME, sizeof name, name, NULL);
    assert_int_equal(info.base_align_bytes * 8, align_bits);
    assert_int_equal(info.max_alloc_bytes, largest);
    assert_memory_equal(info.name, name, strlen(info.name));
    assert_true(strlen(info.name) > 0 && strlen(info.platform) > 0 && strlen(info.driver) > 0);
    assert_in_range(info.version, 12, 99);
    assert_in_range(info.c_version, 10, 99);
    assert_true(info.address_bits == 32 || info.address_bits == 64);
    assert_true(info.max_work_group >= 1 && info.compute_units >= 1);
    assert_true(info.global_bytes >= info.max_alloc_bytes && info.local_bytes >= 1024);
    assert_int_equal(mo_cl_device_info(NULL, &info), MO_E_INVALID);
    assert_int_equal(mo_cl_device_info(device.id, NULL), MO_E_INVALID);
}

static void an_extension_is_found_by_its_whole_name(void **state) {
    (void)state;
    const mo_cl_device device = test_device();
    assert_true(mo_cl_device_has(device.id, "cl_khr_byte_addressable_store"));
    assert_false(mo_cl_device_has(device.id, "cl_khr_byte_addressable"));
    assert_false(mo_cl_device_has(device.id, "khr_byte_addressable_store"));
    assert_false(mo_cl_device_has(device.id, ""));
}

static void codes_have_names_and_statuses(void **state) {
    (void)state;
    assert_string_equal(mo_cl_error_name(CL_OUT_OF_RESOURCES), "CL_OUT_OF_RESOURCES");
    assert_string_equal(mo_cl_error_name(-1001), "CL_PLATFORM_NOT_FOUND_KHR");
    assert_string_equal(mo_cl_error_name(-12345), "?");
    assert_int_equal(mo_cl_error_status(CL_SUCCESS), MO_OK);
    assert_int_equal(mo_cl_error_status(CL_MEM_OBJECT_ALLOCATION_FAILURE), MO_E_NO_DEVICE_MEMORY);
    assert_int_equal(mo_cl_error_status(CL_OUT_OF_RESOURCES), MO_E_NO_DEVICE_MEMORY);
    assert_int_equal(mo_cl_error_status(CL_OUT_OF_HOST_MEMORY), MO_E_NO_MEMORY);
    assert_int_equal(mo_cl_error_status(CL_BUILD_PROGRAM_FAILURE), MO_E_UNSUPPORTED);
    assert_int_equal(mo_cl_error_status(CL_INVALID_KERNEL_ARGS), MO_E_INVALID);
    assert_int_equal(mo_cl_error_status(-9999), MO_E_STATE);
}

/* In a process of its own: the loader looks for drivers once. */
static int child_without_platform(void) {
    mo_cl_device device;
    mo_cl cl;
    size_t n = 5;
    test_log kept;
    mo_log log = test_log_begin(&kept);
    mo_cl_desc desc = {.log = &log};
    if (mo_cl_list(NULL, 0, &n, &log) != MO_E_UNSUPPORTED || n != 5) return 1;
    if (mo_cl_choose("cl:0.0", &device, &log) != MO_E_UNSUPPORTED) return 2;
    if (mo_cl_init(&cl, &desc) != MO_E_UNSUPPORTED) return 3;
    return strstr(kept.text, "no OpenCL platform") ? 0 : 4;
}

static void a_machine_without_platforms_gives_one_clear_line(void **state) {
    (void)state;
    int pid;
    test_folder empty = test_folder_make();
    assert_true(test_spawn("OCL_ICD_VENDORS", empty.path, "no-platform", &pid));
    assert_int_equal(test_wait(pid), 0);
    test_folder_remove(&empty);
}

static void a_broken_driver_is_like_none(void **state) {
    (void)state;
    int pid;
    char path[256];
    test_folder folder = test_folder_make();
    snprintf(path, sizeof path, "%s/broken.icd", folder.path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "%s/broken.icd\n", folder.path); /* names itself: not a library */
    fclose(file);
    assert_true(test_spawn("OCL_ICD_VENDORS", folder.path, "no-platform", &pid));
    assert_int_equal(test_wait(pid), 0);
    test_folder_remove(&folder);
}

/* ---- contexts ------------------------------------------------------------------------------ */

static cl_uint context_count(void *handle) {
    cl_context context = handle;
    cl_uint count = 0;
    clGetContextInfo(context, CL_CONTEXT_REFERENCE_COUNT, sizeof count, &count, NULL);
    return count;
}
static cl_uint queue_count(void *handle) {
    cl_command_queue queue = handle;
    cl_uint count = 0;
    clGetCommandQueueInfo(queue, CL_QUEUE_REFERENCE_COUNT, sizeof count, &count, NULL);
    return count;
}

/* PoCL drops the references of a command a moment after the command is complete. */
static int drops_to(cl_uint (*count)(void *handle), void *handle, cl_uint n) {
    for (int i = 0; i < 1000 && count(handle) > n; i++) usleep(1000);
    return count(handle) == n;
}

static void all_zero_opens_a_device_with_two_queues(void **state) {
    (void)state;
    mo_cl cl;
    test_device();
    test_ok(mo_cl_init(&cl, NULL));
    assert_non_null(cl.queues[MO_CL_COMPUTE]);
    assert_non_null(cl.queues[MO_CL_TRANSFER]);
    assert_ptr_not_equal(cl.queues[MO_CL_COMPUTE], cl.queues[MO_CL_TRANSFER]);
    const int loops = (cl.info.type & CL_DEVICE_TYPE_CPU) && !strstr(cl.info.name, "llvmpipe");
    assert_int_equal(cl.work_group, loops ? 1 : 64);
    test_ok(mo_cl_sync(&cl, MO_CL_COMPUTE));
    test_ok(mo_cl_flush(&cl, MO_CL_TRANSFER));
    test_ok(mo_cl_wait(&cl, 0, NULL));
    assert_int_equal(mo_cl_sync(&cl, MO_CL_QUEUE_COUNT), MO_E_INVALID);
    mo_cl_free(&cl);
    mo_cl_free(&cl);
}

static void attached_handles_are_retained_and_given_back(void **state) {
    (void)state;
    const mo_cl_device device = test_device();
    cl_context context = clCreateContext(NULL, 1, &device.id, NULL, NULL, NULL);
    cl_command_queue queue = clCreateCommandQueue(context, device.id, 0, NULL);
    const cl_uint contexts = context_count(context), queues = queue_count(queue);
    mo_cl cl;
    mo_cl_desc desc = {.context = context};
    test_ok(mo_cl_init(&cl, &desc));
    assert_ptr_equal(cl.context, context);
    assert_ptr_equal(cl.device, device.id);
    mo_cl_free(&cl);
    desc.context = NULL;
    desc.compute = queue;
    test_ok(mo_cl_init(&cl, &desc));
    assert_ptr_equal(cl.context, context);
    assert_ptr_equal(cl.queues[MO_CL_COMPUTE], queue);
    mo_cl_free(&cl);
    desc.transfer = queue;
    test_ok(mo_cl_init(&cl, &desc));
    assert_true(drops_to(queue_count, queue, queues + 2));
    mo_cl_free(&cl);
    assert_true(drops_to(queue_count, queue, queues));
    assert_true(drops_to(context_count, context, contexts));
    clReleaseCommandQueue(queue);
    clReleaseContext(context);
}

static void handles_of_two_contexts_are_refused(void **state) {
    (void)state;
    const mo_cl_device device = test_device();
    cl_context contexts[2];
    cl_command_queue queues[2];
    test_log kept;
    mo_log log = test_log_begin(&kept);
    mo_cl cl;
    for (int i = 0; i < 2; i++) {
        contexts[i] = clCreateContext(NULL, 1, &device.id, NULL, NULL, NULL);
        queues[i] = clCreateCommandQueue(contexts[i], device.id, 0, NULL);
    }
    mo_cl_desc desc = {.compute = queues[0], .transfer = queues[1], .log = &log};
    assert_int_equal(mo_cl_init(&cl, &desc), MO_E_INVALID);
    assert_non_null(strstr(kept.text, "two queues"));
    desc.compute = NULL;
    assert_int_equal(mo_cl_init(&cl, &desc), MO_E_INVALID);
    for (int i = 0; i < 2; i++) {
        clReleaseCommandQueue(queues[i]);
        clReleaseContext(contexts[i]);
    }
}

static void work_groups_are_powers_of_two_that_the_device_has(void **state) {
    (void)state;
    const mo_cl_device device = test_device();
    mo_cl cl;
    test_log kept;
    mo_log log = test_log_begin(&kept);
    mo_cl_desc desc = {.device_id = device.id, .work_group = 48, .log = &log};
    assert_int_equal(mo_cl_init(&cl, &desc), MO_E_INVALID);
    desc.work_group = (size_t)1 << 30;
    assert_int_equal(mo_cl_init(&cl, &desc), MO_E_INVALID);
    assert_non_null(strstr(kept.text, "work-groups of"));
}

/* ---- programs ------------------------------------------------------------------------------ */

static const char *const scale_parts[] = {"__kernel void scale(__global int *x, int by) {\n",
    "    x[get_global_id(0)] *= by + ADD;\n}\n",
    "__kernel void slow(__global int *x, int n) {\n"
    "    int y = x[0];\n"
    "    for (int i = 0; i < n; i++) y = y * 1103515245 + 12345;\n"
    "    x[0] = y;\n}\n"};
static const mo_cl_source scale_source = {"scale", scale_parts, 3, "-DADD=1"};

/* 7 * (5 + 1), computed on the device. */
static int scale_works(mo_cl *cl, mo_cl_program *program) {
    cl_kernel kernel = NULL;
    cl_int x = 7, by = 5;
    if (mo_cl_program_kernel(program, "scale", &kernel) != MO_OK) return 0;
    cl_mem buffer =
        clCreateBuffer(cl->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof x, &x, NULL);
    size_t one = 1;
    clSetKernelArg(kernel, 0, sizeof buffer, &buffer);
    clSetKernelArg(kernel, 1, sizeof by, &by);
    cl_int code = clEnqueueNDRangeKernel(
        cl->queues[MO_CL_COMPUTE], kernel, 1, NULL, &one, NULL, 0, NULL, NULL);
    if (code == CL_SUCCESS)
        code = clEnqueueReadBuffer(
            cl->queues[MO_CL_COMPUTE], buffer, CL_TRUE, 0, sizeof x, &x, 0, NULL, NULL);
    clReleaseMemObject(buffer);
    return code == CL_SUCCESS && x == 42;
}

static mo_cl_program_stats get_scale(const char *folder, const mo_log *log) {
    mo_cl cl;
    mo_cl_program *program = NULL;
    mo_cl_program_stats stats;
    mo_cl_desc desc = {.device_id = test_device().id, .cache_folder = folder, .log = log};
    test_ok(mo_cl_init(&cl, &desc));
    test_ok(mo_cl_program_get(&cl, &scale_source, &program));
    assert_true(scale_works(&cl, program));
    mo_cl_program_get_stats(&cl, &stats);
    mo_cl_free(&cl);
    return stats;
}

static void a_program_is_compiled_once_in_memory_and_once_on_disk(void **state) {
    (void)state;
    test_device();
    test_folder folder = test_folder_make();
    mo_cl cl;
    mo_cl_program *first = NULL, *again = NULL, *other = NULL;
    mo_cl_program_stats stats;
    char path[256];
    test_open(&cl, folder.path);
    test_ok(mo_cl_program_get(&cl, &scale_source, &first));
    assert_true(scale_works(&cl, first));
    test_ok(mo_cl_program_get(&cl, &scale_source, &again));
    assert_ptr_equal(first, again);
    test_ok(mo_cl_program_path(&cl, &scale_source, path, sizeof path));
    assert_int_equal(access(path, R_OK), 0);
    mo_cl_source differs = scale_source;
    differs.options = "-DADD=2";
    test_ok(mo_cl_program_get(&cl, &differs, &other));
    assert_ptr_not_equal(first, other);
    assert_false(scale_works(&cl, other));
    mo_cl_program_get_stats(&cl, &stats);
    assert_int_equal(stats.n_built, 2);
    assert_int_equal(stats.n_memory, 1);
    assert_int_equal(stats.n_written, 2);
    mo_cl_free(&cl);
    stats = get_scale(folder.path, NULL);
    assert_int_equal(stats.n_disk, 1);
    assert_int_equal(stats.n_built, 0);
    assert_int_equal(test_folder_remove(&folder), 0);
}

static void where_a_source_is_cut_does_not_matter(void **state) {
    (void)state;
    mo_cl cl;
    char a[256], b[256];
    const char *whole[] = {"abc"}, *cut[] = {"a", "", "bc"};
    mo_cl_source first = {"x", whole, 1, NULL}, second = {"y", cut, 3, ""};
    test_open(&cl, "/nowhere");
    test_ok(mo_cl_program_path(&cl, &first, a, sizeof a));
    test_ok(mo_cl_program_path(&cl, &second, b, sizeof b));
    assert_string_equal(a, b);
    whole[0] = "abd";
    test_ok(mo_cl_program_path(&cl, &first, a, sizeof a));
    assert_string_not_equal(a, b);
    assert_int_equal(mo_cl_program_path(&cl, &first, a, 20), MO_E_NO_SPACE);
    mo_cl_free(&cl);
    test_open(&cl, "");
    assert_int_equal(mo_cl_program_path(&cl, &first, a, sizeof a), MO_E_STATE);
    mo_cl_free(&cl);
}

/* A log that looks for a text in every line. */
typedef struct line_search {
    const char *texts[3];
    int found[3];
} line_search;
static void search_line(void *self, mo_log_level level, const char *text) {
    line_search *s = self;
    (void)level;
    assert_null(strchr(text, '\n'));
    for (int i = 0; i < 3; i++) s->found[i] |= strstr(text, s->texts[i]) != NULL;
}

static void a_program_that_does_not_compile_says_call_code_and_line(void **state) {
    (void)state;
    const char *parts[] = {"__kernel void broken(__global int *x) { x[0] = nonsense; }\n"};
    mo_cl_source source = {"broken.cl", parts, 1, NULL};
    line_search search = {{"clBuildProgram", "CL_BUILD_PROGRAM_FAILURE", "nonsense"}, {0, 0, 0}};
    mo_log log = {search_line, &search};
    mo_cl cl;
    mo_cl_program *program = NULL;
    mo_cl_desc desc = {.device_id = test_device().id, .cache_folder = "", .log = &log};
    test_ok(mo_cl_init(&cl, &desc));
    assert_int_equal(mo_cl_program_get(&cl, &source, &program), MO_E_UNSUPPORTED);
    assert_null(program);
    for (int i = 0; i < 3; i++) assert_true(search.found[i]);
    source.n_parts = 0;
    assert_int_equal(mo_cl_program_get(&cl, &source, &program), MO_E_INVALID);
    mo_cl_free(&cl);
}

static void a_kernel_is_found_by_its_whole_name(void **state) {
    (void)state;
    mo_cl cl;
    mo_cl_program *program = NULL;
    cl_kernel a = NULL, b = NULL;
    test_open(&cl, "");
    test_ok(mo_cl_program_get(&cl, &scale_source, &program));
    test_ok(mo_cl_program_kernel(program, "slow", &a));
    test_ok(mo_cl_program_kernel(program, "slow", &b));
    assert_ptr_equal(a, b);
    assert_int_equal(mo_cl_program_kernel(program, "slo", &b), MO_E_NOT_FOUND);
    assert_int_equal(mo_cl_program_kernel(program, "slower", &b), MO_E_NOT_FOUND);
    assert_ptr_equal(a, b);
    mo_cl_free(&cl);
}

/* ---- waiting ------------------------------------------------------------------------------- */

static cl_event start_slow(mo_cl *cl, cl_mem *buffer) {
    cl_int n = 20000000;
    mo_cl_program *program = NULL;
    cl_kernel kernel = NULL;
    cl_event event = NULL;
    test_ok(mo_cl_program_get(cl, &scale_source, &program));
    test_ok(mo_cl_program_kernel(program, "slow", &kernel));
    *buffer = clCreateBuffer(cl->context, CL_MEM_READ_WRITE, sizeof n, NULL, NULL);
    clSetKernelArg(kernel, 0, sizeof *buffer, buffer);
    clSetKernelArg(kernel, 1, sizeof n, &n);
    test_ok(mo_cl_launch(cl, MO_CL_COMPUTE, kernel, 1, NULL, &event));
    return event;
}

static cl_int event_status(cl_event event) {
    cl_int status = CL_QUEUED;
    clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, NULL);
    return status;
}

static void sync_returns_when_the_last_command_is_complete(void **state) {
    (void)state;
    mo_cl cl;
    cl_mem buffer;
    mo_cl_desc desc = {.device_id = test_device().id, .cache_folder = "", .profiling = 1};
    test_ok(mo_cl_init(&cl, &desc));
    for (int flush = 0; flush < 2; flush++) {
        cl_event event = start_slow(&cl, &buffer);
        if (flush) test_ok(mo_cl_flush(&cl, MO_CL_COMPUTE));
        test_ok(mo_cl_sync(&cl, MO_CL_COMPUTE));
        assert_int_equal(event_status(event), CL_COMPLETE);
        double seconds = -1;
        mo_status status = mo_cl_event_seconds(event, &seconds);
        if (status == MO_OK) assert_true(seconds > 0);
        else assert_int_equal(status, MO_E_UNSUPPORTED);
        clReleaseEvent(event);
        clReleaseMemObject(buffer);
    }
    mo_cl_free(&cl);
}

static void a_failed_command_fails_the_wait(void **state) {
    (void)state;
    mo_cl cl;
    test_open(&cl, "");
    cl_event user = clCreateUserEvent(cl.context, NULL);
    assert_int_equal(clSetUserEventStatus(user, CL_OUT_OF_RESOURCES), CL_SUCCESS);
    assert_int_equal(mo_cl_wait(&cl, 1, &user), MO_E_NO_DEVICE_MEMORY);
    clReleaseEvent(user);
    mo_cl_free(&cl);
}

static void too_much_local_memory_is_refused_before_the_driver_sees_it(void **state) {
    (void)state;
    const char *parts[] = {"__kernel void local_sum(__global int *x) {\n"
                           "    __local int y[N];\n"
                           "    y[get_local_id(0)] = x[0];\n"
                           "    barrier(CLK_LOCAL_MEM_FENCE);\n"
                           "    x[0] = y[(get_local_id(0) + x[1]) % N];\n}\n"};
    mo_cl cl;
    mo_cl_program *program = NULL;
    cl_kernel kernel = NULL;
    test_open(&cl, "");
    mo_cl_source source = {"local", parts, 1, "-DN=2048"};
    test_ok(mo_cl_program_get(&cl, &source, &program));
    test_ok(mo_cl_program_kernel(program, "local_sum", &kernel));
    cl.info.local_bytes = 8191; /* as if the device had less */
    assert_int_equal(mo_cl_launch(&cl, MO_CL_COMPUTE, kernel, 1, NULL, NULL), MO_E_UNSUPPORTED);
    mo_cl_free(&cl);
}

/* ---- the cache: damage --------------------------------------------------------------------- */

static unsigned char *read_whole(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*size + 1);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static void scale_path(const char *folder, char *path, size_t size) {
    mo_cl cl;
    test_open(&cl, folder);
    test_ok(mo_cl_program_path(&cl, &scale_source, path, size));
    mo_cl_free(&cl);
}

static void damaged_files_are_compiled_anew_and_replaced(void **state) {
    (void)state;
    test_device();
    test_folder folder = test_folder_make();
    test_rng rng = test_rng_begin("damaged cache");
    char path[256];
    size_t size;
    assert_int_equal(get_scale(folder.path, NULL).n_written, 1);
    scale_path(folder.path, path, sizeof path);
    unsigned char *good = read_whole(path, &size), *bad = malloc(size + 1);
    for (size_t i = 0; i < 20; i++) {
        /* bytes of each field, bits of the binary, cuts, and a byte too many */
        const size_t cuts[] = {0, 7, 47, 48, size - 1, size + 1};
        const size_t length = i >= 14 ? cuts[i - 14] : size;
        const size_t at = i < 8 ? 6 * i : 48 + test_below(&rng, size - 48);
        memcpy(bad, good, size);
        bad[size] = 0;
        if (length == size) bad[at] ^= (unsigned char)(1u << test_below(&rng, 8));
        save_file(path, bad, length);
        test_log kept;
        mo_log log = test_log_begin(&kept);
        mo_cl_program_stats stats = get_scale(folder.path, &log);
        assert_int_equal(stats.n_rejected, 1);
        assert_int_equal(stats.n_built, 1);
        assert_int_equal(stats.n_written, 1);
        assert_non_null(strstr(kept.text, path));
    }
    assert_int_equal(get_scale(folder.path, NULL).n_disk, 1);
    free(good);
    free(bad);
    assert_int_equal(test_folder_remove(&folder), 0);
}

/* The format of the files, written down a second time. */
static uint64_t sum_of(const unsigned char *data, size_t size) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) h = (h ^ data[i]) * 0x100000001b3u;
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    return h ^ h >> 31;
}
static void put64(unsigned char *at, uint64_t value) {
    for (int i = 0; i < 8; i++) at[i] = (unsigned char)(value >> 8 * i);
}

static void what_the_driver_refuses_is_compiled_anew(void **state) {
    (void)state;
    const mo_cl_device device = test_device();
    mo_cl_info info;
    test_ok(mo_cl_device_info(device.id, &info));
    /* Others end the process, which no library can prevent. */
    if (!strstr(info.platform, "Portable Computing Language")) skip();
    test_folder folder = test_folder_make();
    char path[256];
    size_t size;
    get_scale(folder.path, NULL);
    scale_path(folder.path, path, sizeof path);
    unsigned char *bytes = read_whole(path, &size);
    memset(bytes + 48, 'x', size - 48);
    put64(bytes + 32, sum_of(bytes + 48, size - 48));
    put64(bytes + 40, sum_of(bytes, 40));
    save_file(path, bytes, size);
    free(bytes);
    test_log kept;
    mo_log log = test_log_begin(&kept);
    mo_cl_program_stats stats = get_scale(folder.path, &log);
    assert_int_equal(stats.n_rejected, 1);
    assert_int_equal(stats.n_built, 1);
    assert_non_null(strstr(kept.text, "driver does not take"));
    assert_int_equal(get_scale(folder.path, NULL).n_disk, 1);
    test_folder_remove(&folder);
}

static void a_cache_that_cannot_be_written_is_a_warning(void **state) {
    (void)state;
    test_device();
    test_folder folder = test_folder_make();
    char path[256];
    snprintf(path, sizeof path, "%s/file", folder.path);
    save_file(path, (const unsigned char *)"x", 1);
    snprintf(path, sizeof path, "%s/file/below", folder.path);
    test_log kept;
    mo_log log = test_log_begin(&kept);
    mo_cl_program_stats stats = get_scale(path, &log);
    assert_int_equal(stats.n_built, 1);
    assert_int_equal(stats.n_written, 0);
    assert_non_null(strstr(kept.text, "is not cached"));
    snprintf(path, sizeof path, "%s/new", folder.path);
    assert_int_equal(get_scale(path, NULL).n_written, 1); /* missing folders are made */
    assert_int_equal(get_scale(path, NULL).n_disk, 1);
    test_folder below;
    snprintf(below.path, sizeof below.path, "%.63s", path);
    assert_int_equal(test_folder_remove(&below), 0);
    test_folder_remove(&folder);
}

/* ---- the cache: many processes ------------------------------------------------------------- */

enum { WRITERS = 3, ROUNDS = 4 };

/* Compiles, writes and removes the same file again and again; every program has to work. */
static int child_writer(void) {
    const char *folder = getenv("TEST_CL_FOLDER");
    char path[256];
    for (int round = 0; round < ROUNDS; round++) {
        mo_cl cl;
        mo_cl_program *program = NULL;
        mo_cl_desc desc = {.cache_folder = folder};
        if (mo_cl_init(&cl, &desc) != MO_OK) return 1;
        if (mo_cl_program_get(&cl, &scale_source, &program) != MO_OK) return 2;
        if (!scale_works(&cl, program)) return 3;
        if (cl.program_stats.n_rejected != 0) return 4;
        if (mo_cl_program_path(&cl, &scale_source, path, sizeof path) != MO_OK) return 5;
        mo_cl_free(&cl);
        if (round + 1 < ROUNDS) unlink(path);
    }
    return 0;
}

static void processes_share_a_cache_without_seeing_half_a_file(void **state) {
    (void)state;
    test_device();
    test_folder folder = test_folder_make();
    int pids[WRITERS];
    for (int i = 0; i < WRITERS; i++)
        assert_true(test_spawn("TEST_CL_FOLDER", folder.path, "writer", &pids[i]));
    for (int i = 0; i < WRITERS; i++) assert_int_equal(test_wait(pids[i]), 0);
    get_scale(folder.path, NULL);
    assert_int_equal(get_scale(folder.path, NULL).n_disk, 1);
    assert_int_equal(test_folder_remove(&folder), 0);
}

/* ---- failing allocations ------------------------------------------------------------------- */

/* Init and one program; the status of the first that fails. */
static mo_status open_and_build(const char *folder, const mo_allocator *allocator, int *built) {
    mo_cl cl;
    mo_cl_program *program = NULL;
    mo_cl_desc desc = {.device_id = test_device().id,
        .cache_folder = folder,
        .build_options = "-DUNUSED=1",
        .allocator = allocator};
    mo_status status = mo_cl_init(&cl, &desc);
    if (status != MO_OK) return status;
    status = mo_cl_program_get(&cl, &scale_source, &program);
    if (status == MO_OK) assert_true(scale_works(&cl, program));
    *built = cl.program_stats.n_built > 0;
    mo_cl_free(&cl);
    return status;
}

static void every_failing_allocation_is_a_status_and_leaks_nothing(void **state) {
    (void)state;
    test_device();
    test_folder folder = test_folder_make();
    test_heap heap;
    for (int warm = 0; warm < 2; warm++) {
        int n_failed = 0, fits = 0;
        for (int k = 0; !fits; k++) {
            int built = 0;
            mo_allocator allocator = test_heap_begin(&heap, k);
            if (!warm) test_folder_clear(&folder);
            mo_status status = open_and_build(folder.path, &allocator, &built);
            assert_true(status == MO_OK || status == MO_E_NO_MEMORY);
            assert_int_equal(heap.live_blocks, 0);
            n_failed += status != MO_OK;
            fits = heap.n_requests <= k;
        }
        assert_true(n_failed >= 4); /* options, folder, record, kernels at least */
    }
    test_folder_remove(&folder);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "no-platform") == 0) return child_without_platform();
    if (argc == 2 && strcmp(argv[1], "writer") == 0) return child_writer();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_text_is_auto_cl_or_indices),
        cmocka_unit_test(the_environment_decides_what_the_text_leaves_open),
        cmocka_unit_test(every_listed_device_is_chosen_by_its_indices),
        cmocka_unit_test(platforms_without_devices_are_skipped),
        cmocka_unit_test(an_index_that_is_not_there_is_not_found),
        cmocka_unit_test(info_is_what_the_device_says),
        cmocka_unit_test(an_extension_is_found_by_its_whole_name),
        cmocka_unit_test(codes_have_names_and_statuses),
        cmocka_unit_test(a_machine_without_platforms_gives_one_clear_line),
        cmocka_unit_test(a_broken_driver_is_like_none),
        cmocka_unit_test(all_zero_opens_a_device_with_two_queues),
        cmocka_unit_test(attached_handles_are_retained_and_given_back),
        cmocka_unit_test(handles_of_two_contexts_are_refused),
        cmocka_unit_test(work_groups_are_powers_of_two_that_the_device_has),
        cmocka_unit_test(a_program_is_compiled_once_in_memory_and_once_on_disk),
        cmocka_unit_test(where_a_source_is_cut_does_not_matter),
        cmocka_unit_test(a_program_that_does_not_compile_says_call_code_and_line),
        cmocka_unit_test(a_kernel_is_found_by_its_whole_name),
        cmocka_unit_test(sync_returns_when_the_last_command_is_complete),
        cmocka_unit_test(a_failed_command_fails_the_wait),
        cmocka_unit_test(too_much_local_memory_is_refused_before_the_driver_sees_it),
        cmocka_unit_test(damaged_files_are_compiled_anew_and_replaced),
        cmocka_unit_test(what_the_driver_refuses_is_compiled_anew),
        cmocka_unit_test(a_cache_that_cannot_be_written_is_a_warning),
        cmocka_unit_test(processes_share_a_cache_without_seeing_half_a_file),
        cmocka_unit_test(every_failing_allocation_is_a_status_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
