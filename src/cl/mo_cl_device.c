/* mo_cl_device.c - see mo_cl_device.h. */

/* ---- what the files share ------------------------------------------------------------------ */

static void *moi_cl_new(const mo_allocator *allocator, size_t n, size_t size) {
    size_t bytes;
    return moi_mul(n, size, &bytes) ? mo_alloc(allocator, bytes, MOI_CACHE_LINE) : NULL;
}

static void moi_cl_delete(const mo_allocator *allocator, void *ptr, size_t n, size_t size) {
    mo_free(allocator, ptr, n * size, MOI_CACHE_LINE);
}

static void moi_cl_say(const mo_log *log, mo_log_level level, const char *format, ...) {
    char text[1024];
    va_list args;
    if (!log || !log->write) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log->write(log->self, level, text);
}

static mo_status moi_cl_fail(
    const mo_log *log, const char *call, cl_int code, const char *format, ...) {
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    moi_cl_say(
        log, MO_LOG_ERROR, "cl: %s: %s (%d): %s", call, mo_cl_error_name(code), (int)code, what);
    return mo_cl_error_status(code);
}

/* ---- codes --------------------------------------------------------------------------------- */

/* Codes of OpenCL 1.2, and of extensions and later versions that a loader may hand out. */
#define MOI_CL_CODES(X)                                                                            \
    X(0, CL_SUCCESS)                                                                               \
    X(-1, CL_DEVICE_NOT_FOUND)                                                                     \
    X(-2, CL_DEVICE_NOT_AVAILABLE)                                                                 \
    X(-3, CL_COMPILER_NOT_AVAILABLE)                                                               \
    X(-4, CL_MEM_OBJECT_ALLOCATION_FAILURE)                                                        \
    X(-5, CL_OUT_OF_RESOURCES)                                                                     \
    X(-6, CL_OUT_OF_HOST_MEMORY)                                                                   \
    X(-7, CL_PROFILING_INFO_NOT_AVAILABLE)                                                         \
    X(-8, CL_MEM_COPY_OVERLAP)                                                                     \
    X(-9, CL_IMAGE_FORMAT_MISMATCH)                                                                \
    X(-10, CL_IMAGE_FORMAT_NOT_SUPPORTED)                                                          \
    X(-11, CL_BUILD_PROGRAM_FAILURE)                                                               \
    X(-12, CL_MAP_FAILURE)                                                                         \
    X(-13, CL_MISALIGNED_SUB_BUFFER_OFFSET)                                                        \
    X(-14, CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)                                           \
    X(-15, CL_COMPILE_PROGRAM_FAILURE)                                                             \
    X(-16, CL_LINKER_NOT_AVAILABLE)                                                                \
    X(-17, CL_LINK_PROGRAM_FAILURE)                                                                \
    X(-18, CL_DEVICE_PARTITION_FAILED)                                                             \
    X(-19, CL_KERNEL_ARG_INFO_NOT_AVAILABLE)                                                       \
    X(-30, CL_INVALID_VALUE)                                                                       \
    X(-31, CL_INVALID_DEVICE_TYPE)                                                                 \
    X(-32, CL_INVALID_PLATFORM)                                                                    \
    X(-33, CL_INVALID_DEVICE)                                                                      \
    X(-34, CL_INVALID_CONTEXT)                                                                     \
    X(-35, CL_INVALID_QUEUE_PROPERTIES)                                                            \
    X(-36, CL_INVALID_COMMAND_QUEUE)                                                               \
    X(-37, CL_INVALID_HOST_PTR)                                                                    \
    X(-38, CL_INVALID_MEM_OBJECT)                                                                  \
    X(-39, CL_INVALID_IMAGE_FORMAT_DESCRIPTOR)                                                     \
    X(-40, CL_INVALID_IMAGE_SIZE)                                                                  \
    X(-41, CL_INVALID_SAMPLER)                                                                     \
    X(-42, CL_INVALID_BINARY)                                                                      \
    X(-43, CL_INVALID_BUILD_OPTIONS)                                                               \
    X(-44, CL_INVALID_PROGRAM)                                                                     \
    X(-45, CL_INVALID_PROGRAM_EXECUTABLE)                                                          \
    X(-46, CL_INVALID_KERNEL_NAME)                                                                 \
    X(-47, CL_INVALID_KERNEL_DEFINITION)                                                           \
    X(-48, CL_INVALID_KERNEL)                                                                      \
    X(-49, CL_INVALID_ARG_INDEX)                                                                   \
    X(-50, CL_INVALID_ARG_VALUE)                                                                   \
    X(-51, CL_INVALID_ARG_SIZE)                                                                    \
    X(-52, CL_INVALID_KERNEL_ARGS)                                                                 \
    X(-53, CL_INVALID_WORK_DIMENSION)                                                              \
    X(-54, CL_INVALID_WORK_GROUP_SIZE)                                                             \
    X(-55, CL_INVALID_WORK_ITEM_SIZE)                                                              \
    X(-56, CL_INVALID_GLOBAL_OFFSET)                                                               \
    X(-57, CL_INVALID_EVENT_WAIT_LIST)                                                             \
    X(-58, CL_INVALID_EVENT)                                                                       \
    X(-59, CL_INVALID_OPERATION)                                                                   \
    X(-60, CL_INVALID_GL_OBJECT)                                                                   \
    X(-61, CL_INVALID_BUFFER_SIZE)                                                                 \
    X(-62, CL_INVALID_MIP_LEVEL)                                                                   \
    X(-63, CL_INVALID_GLOBAL_WORK_SIZE)                                                            \
    X(-64, CL_INVALID_PROPERTY)                                                                    \
    X(-65, CL_INVALID_IMAGE_DESCRIPTOR)                                                            \
    X(-66, CL_INVALID_COMPILER_OPTIONS)                                                            \
    X(-67, CL_INVALID_LINKER_OPTIONS)                                                              \
    X(-68, CL_INVALID_DEVICE_PARTITION_COUNT)                                                      \
    X(-69, CL_INVALID_PIPE_SIZE)                                                                   \
    X(-70, CL_INVALID_DEVICE_QUEUE)                                                                \
    X(-71, CL_INVALID_SPEC_ID)                                                                     \
    X(-72, CL_MAX_SIZE_RESTRICTION_EXCEEDED)                                                       \
    X(-1001, CL_PLATFORM_NOT_FOUND_KHR)

enum { MOI_CL_NO_PLATFORM = -1001 };

const char *mo_cl_error_name(cl_int code) {
#define MOI_CL_CODE_NAME(value, name)                                                              \
    case value: return #name;
    switch (code) {
        MOI_CL_CODES(MOI_CL_CODE_NAME)
    default: return "?";
    }
#undef MOI_CL_CODE_NAME
}
#undef MOI_CL_CODES

mo_status mo_cl_error_status(cl_int code) {
    switch (code) {
    case CL_SUCCESS: return MO_OK;
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
    case CL_OUT_OF_RESOURCES: return MO_E_NO_DEVICE_MEMORY;
    case CL_OUT_OF_HOST_MEMORY: return MO_E_NO_MEMORY;
    case CL_DEVICE_NOT_FOUND:
    case CL_DEVICE_NOT_AVAILABLE:
    case CL_COMPILER_NOT_AVAILABLE:
    case CL_PROFILING_INFO_NOT_AVAILABLE:
    case CL_BUILD_PROGRAM_FAILURE:
    case CL_COMPILE_PROGRAM_FAILURE:
    case CL_LINKER_NOT_AVAILABLE:
    case CL_LINK_PROGRAM_FAILURE:
    case MOI_CL_NO_PLATFORM: return MO_E_UNSUPPORTED;
    case CL_MEM_COPY_OVERLAP: return MO_E_INVALID;
    default: return code <= CL_INVALID_VALUE && code > -100 ? MO_E_INVALID : MO_E_STATE;
    }
}

/* ---- one device ---------------------------------------------------------------------------- */

/* Figures that OpenCL 1.2 has no names for, or not the same ones in all headers. */
enum { MOI_CL_DEVICE_HALF_FP_CONFIG = 0x1033, MOI_CL_DEVICE_DOUBLE_FP_CONFIG = 0x1032 };

/* Long enough for the extensions of every device known; what is longer counts as none. */
enum { MOI_CL_EXTENSIONS_SIZE = 16384 };

/* A text of a device or a platform, cut to fit. */
static void moi_cl_device_text(cl_device_id id, cl_device_info what, char *out, size_t size) {
    char text[1024];
    size_t n = 0;
    out[0] = '\0';
    if (clGetDeviceInfo(id, what, 0, NULL, &n) != CL_SUCCESS || n == 0 || n > sizeof text) return;
    if (clGetDeviceInfo(id, what, n, text, NULL) != CL_SUCCESS) return;
    text[n - 1] = '\0';
    const char *at = text + strspn(text, " "); /* some drivers pad names */
    n = moi_min(strlen(at), size - 1);
    memcpy(out, at, n);
    out[n] = '\0';
}

static void moi_cl_platform_text(
    cl_platform_id platform, cl_platform_info what, char *out, size_t size) {
    char text[1024];
    size_t n = 0;
    out[0] = '\0';
    if (!platform) return;
    if (clGetPlatformInfo(platform, what, sizeof text, text, &n) != CL_SUCCESS || n == 0) return;
    text[n - 1] = '\0';
    n = moi_min(strlen(text), size - 1);
    memcpy(out, text, n);
    out[n] = '\0';
}

/* Figures of the types that OpenCL has; 0 where the device has no answer. */
static uint64_t moi_cl_ulong(cl_device_id id, cl_device_info what) {
    cl_ulong value = 0;
    return clGetDeviceInfo(id, what, sizeof value, &value, NULL) == CL_SUCCESS ? value : 0;
}
static unsigned moi_cl_uint(cl_device_id id, cl_device_info what) {
    cl_uint value = 0;
    return clGetDeviceInfo(id, what, sizeof value, &value, NULL) == CL_SUCCESS ? value : 0;
}
static size_t moi_cl_size(cl_device_id id, cl_device_info what) {
    size_t value = 0;
    return clGetDeviceInfo(id, what, sizeof value, &value, NULL) == CL_SUCCESS ? value : 0;
}
static int moi_cl_bool(cl_device_id id, cl_device_info what) { return moi_cl_uint(id, what) != 0; }

/* "OpenCL 3.0 ...", "OpenCL C 1.2 ..." -> 30, 12; 0 when it reads otherwise. */
static int moi_cl_version(const char *text, const char *prefix) {
    size_t n = strlen(prefix);
    if (strncmp(text, prefix, n) != 0) return 0;
    const char *at = text + n;
    if (at[0] < '0' || at[0] > '9' || at[1] != '.' || at[2] < '0' || at[2] > '9') return 0;
    return (at[0] - '0') * 10 + (at[2] - '0');
}

int mo_cl_device_has(cl_device_id id, const char *extension) {
    char text[MOI_CL_EXTENSIONS_SIZE];
    size_t size = 0, n;
    if (!id || !extension || (n = strlen(extension)) == 0) return 0;
    if (clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, sizeof text, text, &size) != CL_SUCCESS) return 0;
    if (size == 0) return 0;
    text[size - 1] = '\0';
    for (const char *at = text; (at = strstr(at, extension)) != NULL; at += n)
        if ((at == text || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0')) return 1;
    return 0;
}

static void moi_cl_info_texts(cl_device_id id, mo_cl_info *info) {
    cl_platform_id platform = NULL;
    char c_version[64];
    clGetDeviceInfo(id, CL_DEVICE_PLATFORM, sizeof platform, &platform, NULL);
    moi_cl_device_text(id, CL_DEVICE_NAME, info->name, sizeof info->name);
    moi_cl_device_text(id, CL_DEVICE_VENDOR, info->vendor, sizeof info->vendor);
    moi_cl_device_text(id, CL_DRIVER_VERSION, info->driver, sizeof info->driver);
    moi_cl_device_text(id, CL_DEVICE_VERSION, info->device_version, sizeof info->device_version);
    moi_cl_device_text(id, CL_DEVICE_OPENCL_C_VERSION, c_version, sizeof c_version);
    moi_cl_platform_text(platform, CL_PLATFORM_NAME, info->platform, sizeof info->platform);
    moi_cl_platform_text(
        platform, CL_PLATFORM_VERSION, info->platform_version, sizeof info->platform_version);
    info->version = moi_cl_version(info->device_version, "OpenCL ");
    info->c_version = moi_cl_version(c_version, "OpenCL C ");
}

static void moi_cl_info_features(cl_device_id id, mo_cl_info *info) {
    const uint64_t single = moi_cl_ulong(id, CL_DEVICE_SINGLE_FP_CONFIG);
    const uint64_t queue = moi_cl_ulong(id, CL_DEVICE_QUEUE_PROPERTIES);
    info->available =
        moi_cl_bool(id, CL_DEVICE_AVAILABLE) && moi_cl_bool(id, CL_DEVICE_COMPILER_AVAILABLE);
    info->fp16 = mo_cl_device_has(id, "cl_khr_fp16");
    info->fp64 = moi_cl_ulong(id, MOI_CL_DEVICE_DOUBLE_FP_CONFIG) != 0;
    info->unified = moi_cl_bool(id, CL_DEVICE_HOST_UNIFIED_MEMORY);
    info->correctly_rounded = (single & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT) != 0;
    info->denormals = (single & CL_FP_DENORM) != 0;
    info->out_of_order = (queue & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE) != 0;
    info->int64_atomics = mo_cl_device_has(id, "cl_khr_int64_base_atomics");
    info->sub_groups =
        mo_cl_device_has(id, "cl_khr_subgroups") || mo_cl_device_has(id, "cl_intel_subgroups");
    info->little_endian = moi_cl_bool(id, CL_DEVICE_ENDIAN_LITTLE);
    info->address_bits = (int)moi_cl_uint(id, CL_DEVICE_ADDRESS_BITS);
}

mo_status mo_cl_device_info(cl_device_id id, mo_cl_info *info) {
    cl_device_type type = 0;
    mo_cl_info all;
    if (!id || !info) return MO_E_INVALID;
    cl_int code = clGetDeviceInfo(id, CL_DEVICE_TYPE, sizeof type, &type, NULL);
    if (code != CL_SUCCESS) return mo_cl_error_status(code);
    memset(&all, 0, sizeof all);
    all.type = type;
    moi_cl_info_texts(id, &all);
    moi_cl_info_features(id, &all);
    all.global_bytes = moi_cl_ulong(id, CL_DEVICE_GLOBAL_MEM_SIZE);
    all.max_alloc_bytes = moi_cl_ulong(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    all.local_bytes = moi_cl_ulong(id, CL_DEVICE_LOCAL_MEM_SIZE);
    all.local_is_fast = moi_cl_uint(id, CL_DEVICE_LOCAL_MEM_TYPE) == CL_LOCAL;
    all.base_align_bytes = moi_cl_uint(id, CL_DEVICE_MEM_BASE_ADDR_ALIGN) / 8; /* it is in bits */
    all.max_work_group = moi_cl_size(id, CL_DEVICE_MAX_WORK_GROUP_SIZE);
    all.compute_units = moi_cl_uint(id, CL_DEVICE_MAX_COMPUTE_UNITS);
    all.clock_mhz = moi_cl_uint(id, CL_DEVICE_MAX_CLOCK_FREQUENCY);
    *info = all;
    return MO_OK;
}

/* ---- all devices --------------------------------------------------------------------------- */

static mo_status moi_cl_platforms(
    cl_platform_id platforms[MO_CL_MAX_PLATFORMS], cl_uint *n, const mo_log *log) {
    cl_uint found = 0;
    cl_int code = clGetPlatformIDs(MO_CL_MAX_PLATFORMS, platforms, &found);
    if (code == MOI_CL_NO_PLATFORM || (code == CL_SUCCESS && found == 0)) {
        moi_cl_say(log, MO_LOG_ERROR,
            "cl: there is no OpenCL platform: no driver is installed, or none of them loads");
        return MO_E_UNSUPPORTED;
    }
    if (code != CL_SUCCESS) {
        moi_cl_fail(log, "clGetPlatformIDs", code, "the OpenCL loader does not work");
        return MO_E_UNSUPPORTED;
    }
    *n = (cl_uint)moi_min(found, MO_CL_MAX_PLATFORMS);
    return MO_OK;
}

/* The devices of one platform; none where it fails, which is only worth a warning: another
 * platform may work. Returns whether the platform gave an answer. */
static int moi_cl_devices(
    cl_platform_id platform, cl_device_id ids[MO_CL_MAX_DEVICES], cl_uint *n, const mo_log *log) {
    char name[128];
    cl_uint found = 0;
    cl_int code = clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, MO_CL_MAX_DEVICES, ids, &found);
    *n = 0;
    if (code == CL_DEVICE_NOT_FOUND) return 1;
    if (code != CL_SUCCESS) {
        moi_cl_platform_text(platform, CL_PLATFORM_NAME, name, sizeof name);
        moi_cl_say(log, MO_LOG_WARN, "cl: clGetDeviceIDs: %s (%d): platform '%s' is skipped",
            mo_cl_error_name(code), (int)code, name);
        return 0;
    }
    *n = (cl_uint)moi_min(found, MO_CL_MAX_DEVICES);
    return 1;
}

/* Calls visit for every device of every platform that works. */
static mo_status moi_cl_each(void (*visit)(void *context, const mo_cl_device *device),
    void *context, cl_uint *n_platforms, const mo_log *log) {
    cl_platform_id platforms[MO_CL_MAX_PLATFORMS];
    cl_device_id ids[MO_CL_MAX_DEVICES];
    cl_uint n_ids = 0;
    int answers = 0;
    mo_status status = moi_cl_platforms(platforms, n_platforms, log);
    if (status != MO_OK) return status;
    for (cl_uint p = 0; p < *n_platforms; p++) {
        answers += moi_cl_devices(platforms[p], ids, &n_ids, log);
        for (cl_uint d = 0; d < n_ids; d++) {
            mo_cl_device device;
            device.platform = platforms[p];
            device.id = ids[d];
            device.platform_index = (int)p;
            device.device_index = (int)d;
            visit(context, &device);
        }
    }
    return answers ? MO_OK : MO_E_UNSUPPORTED;
}

typedef struct moi_cl_list {
    mo_cl_device *devices;
    size_t capacity, n;
} moi_cl_list;

static void moi_cl_list_add(void *context, const mo_cl_device *device) {
    moi_cl_list *list = (moi_cl_list *)context;
    if (list->n < list->capacity) list->devices[list->n] = *device;
    list->n++;
}

mo_status mo_cl_list(mo_cl_device *devices, size_t capacity, size_t *n, const mo_log *log) {
    cl_uint n_platforms = 0;
    moi_cl_list list = {devices, capacity, 0};
    if (!n || (!devices && capacity != 0)) return MO_E_INVALID;
    mo_status status = moi_cl_each(moi_cl_list_add, &list, &n_platforms, log);
    if (status == MO_OK) *n = list.n;
    return status;
}

/* ---- choice -------------------------------------------------------------------------------- */

/* Digits up to 9999; returns what follows them, NULL when there are none or too many. */
static const char *moi_cl_number(const char *at, int *value) {
    const char *begin = at;
    for (*value = 0; *at >= '0' && *at <= '9'; at++) {
        if (at - begin == 4) return NULL;
        *value = *value * 10 + (*at - '0');
    }
    return at == begin ? NULL : at;
}

typedef struct moi_cl_wish {
    int any, platform, device;
} moi_cl_wish;

/* "auto", "cl", "cl:P", "cl:P.D"; 0 when the text is none of them. */
static int moi_cl_parse(const char *text, moi_cl_wish *wish) {
    wish->any = !text || !*text || strcmp(text, "auto") == 0 || strcmp(text, "cl") == 0;
    wish->platform = wish->device = 0;
    if (wish->any) return 1;
    if (strncmp(text, "cl:", 3) != 0) return 0;
    const char *at = moi_cl_number(text + 3, &wish->platform);
    if (at && *at == '.') at = moi_cl_number(at + 1, &wish->device);
    return at && *at == '\0';
}

/* Whether a is the better device. A simulator that claims to be of every type is a CPU. */
static int moi_cl_class(const mo_cl_info *info) {
    if (!info->available) return 0;
    if (info->type & CL_DEVICE_TYPE_CPU) return 1;
    return info->type & CL_DEVICE_TYPE_GPU ? 3 : 2;
}
static int moi_cl_better(const mo_cl_info *a, const mo_cl_info *b) {
    const int class_a = moi_cl_class(a), class_b = moi_cl_class(b);
    if (class_a != class_b) return class_a > class_b;
    if (a->unified != b->unified) return b->unified;
    return a->global_bytes > b->global_bytes;
}

/* Looks at the devices of all platforms, and keeps the best, or the one that is wished for. */
typedef struct moi_cl_search {
    moi_cl_wish wish;
    mo_cl_info info;
    mo_cl_device device;
    int found, n_devices;
} moi_cl_search;

static void moi_cl_consider(void *context, const mo_cl_device *device) {
    moi_cl_search *s = (moi_cl_search *)context;
    mo_cl_info info;
    s->n_devices++;
    if (!s->wish.any &&
        (device->platform_index != s->wish.platform || device->device_index != s->wish.device))
        return;
    if (mo_cl_device_info(device->id, &info) != MO_OK) return;
    if (s->wish.any && (!info.available || (s->found && !moi_cl_better(&info, &s->info)))) return;
    s->info = info;
    s->device = *device;
    s->found = 1;
}

mo_status mo_cl_choose(const char *text, mo_cl_device *device, const mo_log *log) {
    moi_cl_search s;
    const char *from = "";
    if (!device) return MO_E_INVALID;
    memset(&s, 0, sizeof s);
    int valid = moi_cl_parse(text, &s.wish);
    if (valid && s.wish.any) {
        text = getenv("MEMOPT_CL_DEVICE");
        if (text && *text) from = "MEMOPT_CL_DEVICE=";
        valid = moi_cl_parse(text, &s.wish);
    }
    if (!valid) {
        moi_cl_say(log, MO_LOG_ERROR, "cl: device '%s%.200s' is none of auto, cl, cl:P and cl:P.D",
            from, text);
        return MO_E_INVALID;
    }
    cl_uint n_platforms = 0;
    mo_status status = moi_cl_each(moi_cl_consider, &s, &n_platforms, log);
    if (status != MO_OK) return status;
    if (s.found) {
        *device = s.device;
        return MO_OK;
    }
    if (s.wish.any || s.n_devices == 0) {
        moi_cl_say(log, MO_LOG_ERROR, "cl: no OpenCL platform here has a device that works");
        return MO_E_UNSUPPORTED;
    }
    moi_cl_say(log, MO_LOG_ERROR, "cl: device '%s%s': %s", from, text,
        s.wish.platform < (int)n_platforms ? "that platform has no such device"
                                           : "there is no such platform");
    return MO_E_NOT_FOUND;
}
