/* mo_cl_program.c - see mo_cl_program.h. */

/* 128 bits of what decides on the binary. Not against an attacker: the folder is the user's own. */
typedef struct moi_cl_key {
    uint64_t a, b;
} moi_cl_key;

struct mo_cl_program {
    struct mo_cl_program *next;
    moi_cl_key key;
    cl_program program;
    cl_kernel *kernels; /* [n_kernels] */
    size_t n_kernels;
};

/* ---- keys ---------------------------------------------------------------------------------- */

static uint64_t moi_cl_fnv(uint64_t hash, const void *data, size_t size) {
    const unsigned char *bytes = (const unsigned char *)data;
    for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* Every bit of the input changes half of the bits of the output. */
static uint64_t moi_cl_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void moi_cl_key_add(moi_cl_key *key, const void *data, size_t size) {
    const unsigned char *bytes = (const unsigned char *)data;
    key->a = moi_cl_fnv(key->a, data, size);
    for (size_t i = 0; i < size; i++)
        key->b =
            ((key->b ^ bytes[i]) + (key->b << 7 | key->b >> 57)) * UINT64_C(0x9e3779b97f4a7c15);
}

/* With its 0, so that "ab" "c" and "a" "bc" differ. NULL is like "". */
static void moi_cl_key_text(moi_cl_key *key, const char *text) {
    if (!text) text = "";
    moi_cl_key_add(key, text, strlen(text) + 1);
}

static moi_cl_key moi_cl_key_of(const mo_cl *cl, const mo_cl_source *source, const char *options) {
    moi_cl_key key = {UINT64_C(0xcbf29ce484222325), UINT64_C(0x6a09e667f3bcc908)};
    const mo_cl_info *info = &cl->info;
    const char *const texts[] = {mo_version(), info->platform, info->platform_version, info->name,
        info->vendor, info->driver, info->device_version, options};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) moi_cl_key_text(&key, texts[i]);
    moi_cl_key_add(&key, &info->address_bits, sizeof info->address_bits);
    /* The parts are one text: where it is cut does not matter. */
    for (size_t i = 0; i < source->n_parts; i++)
        moi_cl_key_add(&key, source->parts[i], strlen(source->parts[i]));
    key.a = moi_cl_mix(key.a);
    key.b = moi_cl_mix(key.b);
    return key;
}

/* ---- options ------------------------------------------------------------------------------- */

/* All options of a build, allocated: *size bytes with the 0. */
static mo_status moi_cl_options(
    const mo_cl *cl, const mo_cl_source *source, char **options, size_t *size) {
    const char *rounding =
        cl->info.correctly_rounded ? " -cl-fp32-correctly-rounded-divide-sqrt" : "";
    const char *common = cl->build_options ? cl->build_options : "";
    const char *own = source->options ? source->options : "";
    size_t n = 128;
    if (!moi_add(n, strlen(common), &n) || !moi_add(n, strlen(own), &n)) return MO_E_OVERFLOW;
    char *text = (char *)mo_alloc(&cl->allocator, n, 1);
    if (!text) return MO_E_NO_MEMORY;
    snprintf(text, n, "-cl-std=CL1.2 -DMEMOPT_WG=%zu%s%s%s%s%s", cl->work_group, rounding,
        *common ? " " : "", common, *own ? " " : "", own);
    *options = text;
    *size = n;
    return MO_OK;
}

static int moi_cl_source_valid(const mo_cl_source *source) {
    if (!source || !source->parts || source->n_parts == 0) return 0;
    for (size_t i = 0; i < source->n_parts; i++)
        if (!source->parts[i]) return 0;
    return source->n_parts <= 0x7fffffff;
}

static const char *moi_cl_source_name(const mo_cl_source *source) {
    return source->name ? source->name : "program";
}

/* ---- build --------------------------------------------------------------------------------- */

/* Every line of the compiler is a message of its own. */
static void moi_cl_say_lines(const mo_log *log, const char *text) {
    while (*text) {
        size_t n = strcspn(text, "\r\n");
        if (n > 0) moi_cl_say(log, MO_LOG_ERROR, "cl: %.*s", (int)moi_min(n, 900), text);
        text += n + strspn(text + n, "\r\n");
    }
}

static void moi_cl_say_build_log(const mo_cl *cl, cl_program program) {
    size_t size = 0;
    if (!cl->log.write) return;
    clGetProgramBuildInfo(program, cl->device, CL_PROGRAM_BUILD_LOG, 0, NULL, &size);
    char *text = size ? (char *)mo_alloc(&cl->allocator, size, 1) : NULL;
    if (!text) return;
    if (clGetProgramBuildInfo(program, cl->device, CL_PROGRAM_BUILD_LOG, size, text, NULL) ==
        CL_SUCCESS) {
        text[size - 1] = '\0';
        moi_cl_say_lines(&cl->log, text);
    }
    mo_free(&cl->allocator, text, size, 1);
}

static void moi_cl_program_drop(mo_cl *cl, mo_cl_program *p) {
    for (size_t i = 0; p->kernels && i < p->n_kernels; i++)
        if (p->kernels[i]) clReleaseKernel(p->kernels[i]);
    moi_cl_delete(&cl->allocator, p->kernels, p->n_kernels, sizeof *p->kernels);
    if (p->program) clReleaseProgram(p->program);
    p->program = NULL;
    p->kernels = NULL;
    p->n_kernels = 0;
}

static mo_status moi_cl_room_for_kernels(mo_cl *cl, mo_cl_program *p, size_t n) {
    cl_kernel *kernels = (cl_kernel *)moi_cl_new(&cl->allocator, n, sizeof *kernels);
    if (!kernels) return MO_E_NO_MEMORY;
    memset(kernels, 0, n * sizeof *kernels);
    p->kernels = kernels;
    p->n_kernels = n;
    return MO_OK;
}

/* One after the other, from the names "a;b;c". */
static cl_int moi_cl_make_named(mo_cl_program *p, char *names) {
    cl_int code = CL_SUCCESS;
    for (size_t i = 0; i < p->n_kernels && code == CL_SUCCESS; i++) {
        const size_t length = strcspn(names, ";");
        const int last = names[length] == '\0';
        names[length] = '\0';
        p->kernels[i] = clCreateKernel(p->program, names, &code);
        names += last ? length : length + 1;
    }
    return code;
}

static mo_status moi_cl_make_by_name(mo_cl *cl, mo_cl_program *p, const char *name) {
    size_t n = 0, size = 0;
    cl_int code = clGetProgramInfo(p->program, CL_PROGRAM_NUM_KERNELS, sizeof n, &n, NULL);
    if (code == CL_SUCCESS)
        code = clGetProgramInfo(p->program, CL_PROGRAM_KERNEL_NAMES, 0, NULL, &size);
    if (code != CL_SUCCESS) return moi_cl_fail(&cl->log, "clGetProgramInfo", code, "%s", name);
    if (n == 0 || size == 0) return MO_OK;
    mo_status status = moi_cl_room_for_kernels(cl, p, n);
    char *names = status == MO_OK ? (char *)mo_alloc(&cl->allocator, size, 1) : NULL;
    if (!names) return MO_E_NO_MEMORY;
    code = clGetProgramInfo(p->program, CL_PROGRAM_KERNEL_NAMES, size, names, NULL);
    names[size - 1] = '\0';
    if (code == CL_SUCCESS) code = moi_cl_make_named(p, names);
    mo_free(&cl->allocator, names, size, 1);
    return code == CL_SUCCESS ? MO_OK : moi_cl_fail(&cl->log, "clCreateKernel", code, "%s", name);
}

/* All kernels at once: some drivers leave out of the binary what was not created before. Intel's
 * refuses that where the context has devices that the program is not built for. */
static mo_status moi_cl_make_kernels(mo_cl *cl, mo_cl_program *p, const char *name) {
    cl_uint n = 0;
    cl_int code = clCreateKernelsInProgram(p->program, 0, NULL, &n);
    if (code == CL_INVALID_PROGRAM_EXECUTABLE) return moi_cl_make_by_name(cl, p, name);
    if (code != CL_SUCCESS)
        return moi_cl_fail(&cl->log, "clCreateKernelsInProgram", code, "%s", name);
    if (n == 0) return MO_OK;
    mo_status status = moi_cl_room_for_kernels(cl, p, n);
    if (status != MO_OK) return status;
    code = clCreateKernelsInProgram(p->program, n, p->kernels, NULL);
    if (code != CL_SUCCESS)
        return moi_cl_fail(&cl->log, "clCreateKernelsInProgram", code, "%s", name);
    return MO_OK;
}

static mo_status moi_cl_compile(
    mo_cl *cl, const mo_cl_source *source, const char *options, mo_cl_program *p) {
    cl_int code = CL_SUCCESS;
    const char *name = moi_cl_source_name(source);
    /* OpenCL does not write through it; its type comes from before const was taken seriously. */
    const char **parts = (const char **)(uintptr_t)source->parts;
    p->program =
        clCreateProgramWithSource(cl->context, (cl_uint)source->n_parts, parts, NULL, &code);
    if (!p->program || code != CL_SUCCESS)
        return moi_cl_fail(&cl->log, "clCreateProgramWithSource", code, "%s", name);
    code = clBuildProgram(p->program, 1, &cl->device, options, NULL, NULL);
    if (code != CL_SUCCESS) {
        mo_status status =
            moi_cl_fail(&cl->log, "clBuildProgram", code, "%s, with %s", name, options);
        moi_cl_say_build_log(cl, p->program);
        return status;
    }
    cl->program_stats.n_built++;
    return moi_cl_make_kernels(cl, p, name);
}

/* ---- the file of a program ----------------------------------------------------------------- */

/* magic, key, size and checksum of the binary, checksum of all that; numbers are little-endian. */
enum {
    MOI_CL_FILE_KEY = 8,
    MOI_CL_FILE_BYTES = 24,
    MOI_CL_FILE_SUM = 32,
    MOI_CL_FILE_HEADER_SUM = 40,
    MOI_CL_FILE_HEADER = 48
};
static const char moi_cl_file_magic[] = "MOCLBIN1";
#define MOI_CL_FILE_LARGEST ((uint64_t)1 << 30)

static void moi_cl_put64(unsigned char *at, uint64_t value) {
    for (int i = 0; i < 8; i++) at[i] = (unsigned char)(value >> (8 * i));
}
static uint64_t moi_cl_get64(const unsigned char *at) {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) value |= (uint64_t)at[i] << (8 * i);
    return value;
}
static uint64_t moi_cl_sum(const void *data, size_t size) {
    return moi_cl_mix(moi_cl_fnv(UINT64_C(0xcbf29ce484222325), data, size));
}

static void moi_cl_file_header(
    unsigned char *header, moi_cl_key key, const void *binary, size_t size) {
    memcpy(header, moi_cl_file_magic, 8);
    moi_cl_put64(header + MOI_CL_FILE_KEY, key.a);
    moi_cl_put64(header + MOI_CL_FILE_KEY + 8, key.b);
    moi_cl_put64(header + MOI_CL_FILE_BYTES, size);
    moi_cl_put64(header + MOI_CL_FILE_SUM, moi_cl_sum(binary, size));
    moi_cl_put64(header + MOI_CL_FILE_HEADER_SUM, moi_cl_sum(header, MOI_CL_FILE_HEADER_SUM));
}

/* Whether a header is intact and of this key; *size = bytes of the binary. */
static int moi_cl_file_valid(
    const unsigned char *header, moi_cl_key key, uint64_t file_size, uint64_t *size) {
    *size = moi_cl_get64(header + MOI_CL_FILE_BYTES);
    return memcmp(header, moi_cl_file_magic, 8) == 0 &&
        moi_cl_get64(header + MOI_CL_FILE_HEADER_SUM) ==
        moi_cl_sum(header, MOI_CL_FILE_HEADER_SUM) &&
        moi_cl_get64(header + MOI_CL_FILE_KEY) == key.a &&
        moi_cl_get64(header + MOI_CL_FILE_KEY + 8) == key.b && *size > 0 &&
        *size <= MOI_CL_FILE_LARGEST && file_size == *size + MOI_CL_FILE_HEADER;
}

static mo_status moi_cl_file_path(const mo_cl *cl, moi_cl_key key, char *path, size_t size) {
    if (!cl->cache_folder) return MO_E_STATE;
    if (strlen(cl->cache_folder) + 64 > size) return MO_E_NO_SPACE;
    snprintf(path, size, "%s/%016llx%016llx.moclbin", cl->cache_folder, (unsigned long long)key.a,
        (unsigned long long)key.b);
    return MO_OK;
}

/* A part of a path that may exist already; what is really wrong shows when the file is made. */
static void moi_cl_make_one_folder(const char *path) {
#ifdef _WIN32
    wchar_t wide[MOI_FILE_PATH_SIZE];
    if (moi_file_wide(path, wide) == 0) CreateDirectoryW(wide, NULL);
#else
    if (mkdir(path, 0700) != 0) errno = 0;
#endif
}

static void moi_cl_make_folders(const char *folder) {
    char path[MOI_FILE_PATH_SIZE];
    size_t n = strlen(folder);
    if (n >= sizeof path) return;
    memcpy(path, folder, n + 1);
    for (size_t i = 1; i < n; i++) {
        if (path[i] != '/') continue;
        path[i] = '\0';
        moi_cl_make_one_folder(path);
        path[i] = '/';
    }
    moi_cl_make_one_folder(path);
}

static int moi_cl_file_fill(
    intptr_t file, const unsigned char *header, const void *binary, size_t size) {
    size_t n;
    int error = moi_file_write(file, header, MOI_CL_FILE_HEADER, &n);
    return error ? error : moi_file_write(file, binary, size, &n);
}

/* Not synced: after a crash of the system the checksum finds what is missing. */
static int moi_cl_file_save(const char *path, moi_cl_key key, const void *binary, size_t size) {
    unsigned char header[MOI_CL_FILE_HEADER];
    char temp[MOI_FILE_PATH_SIZE + MOI_FILE_TEMP_SIZE];
    intptr_t file = -1;
    moi_cl_file_header(header, key, binary, size);
    int error = moi_file_create(path, 0600, temp, &file);
    if (error) return error;
    error = moi_cl_file_fill(file, header, binary, size);
    int closed = moi_file_close(file);
    if (!error) error = closed;
    if (!error) error = moi_file_rename(temp, path);
    if (error) moi_file_remove(temp);
    return error;
}

/* ---- binaries ------------------------------------------------------------------------------ */

/* Drivers list the parent of a sub-device. */
static cl_device_id moi_cl_parent(cl_device_id id) {
    cl_device_id parent = NULL;
    clGetDeviceInfo(id, CL_DEVICE_PARENT_DEVICE, sizeof parent, &parent, NULL);
    return parent;
}

/* The place of our device among those of the program, and the size of its binary; 0 = none. */
static size_t moi_cl_binary_size(const mo_cl *cl, cl_program program, size_t *n, size_t *index) {
    cl_device_id ids[MO_CL_MAX_DEVICES];
    size_t sizes[MO_CL_MAX_DEVICES], bytes = 0;
    if (clGetProgramInfo(program, CL_PROGRAM_DEVICES, sizeof ids, ids, &bytes) != CL_SUCCESS)
        return 0;
    *n = bytes / sizeof *ids;
    if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof sizes, sizes, NULL) != CL_SUCCESS)
        return 0;
    const cl_device_id parent = moi_cl_parent(cl->device);
    for (*index = 0; *index < *n; ++*index)
        if ((ids[*index] == cl->device || ids[*index] == parent) && sizes[*index] > 0)
            return sizes[*index];
    return 0;
}

/* Writes the program to the cache; what goes wrong is a warning. */
static void moi_cl_store(mo_cl *cl, const mo_cl_program *p, const char *name) {
    char path[MOI_FILE_PATH_SIZE], text[MOI_FILE_TEXT_SIZE];
    unsigned char *all[MO_CL_MAX_DEVICES];
    size_t n = 0, index = 0;
    if (moi_cl_file_path(cl, p->key, path, sizeof path) != MO_OK) return;
    size_t size = moi_cl_binary_size(cl, p->program, &n, &index);
    unsigned char *binary = size ? (unsigned char *)mo_alloc(&cl->allocator, size, 1) : NULL;
    if (!binary) return;
    memset(all, 0, sizeof all);
    all[index] = binary; /* NULL for other devices: theirs are not wanted */
    cl_int code = clGetProgramInfo(p->program, CL_PROGRAM_BINARIES, n * sizeof *all, all, NULL);
    if (code == CL_SUCCESS) {
        moi_cl_make_folders(cl->cache_folder);
        int error = moi_cl_file_save(path, p->key, binary, size);
        if (!error) cl->program_stats.n_written++;
        else
            moi_cl_say(&cl->log, MO_LOG_WARN, "cl: %s is not cached: %s: %s", name, path,
                moi_file_text(error, text));
    }
    mo_free(&cl->allocator, binary, size, 1);
}

/* The binary of a valid file, allocated; NULL when there is none. *size = 0 tells a file that is
 * not there (or no memory) from one that is not valid. */
static unsigned char *moi_cl_read_binary(
    mo_cl *cl, moi_cl_key key, const char *path, uint64_t *size) {
    unsigned char header[MOI_CL_FILE_HEADER], *binary = NULL;
    uint64_t file_size = 0;
    intptr_t file = -1;
    int bad = 1;
    *size = 0;
    if (moi_file_open(path, &file, &file_size) != 0) return NULL;
    if (file_size >= MOI_CL_FILE_HEADER && moi_file_read(file, 0, header, sizeof header) == 0 &&
        moi_cl_file_valid(header, key, file_size, size)) {
        binary = (unsigned char *)mo_alloc(&cl->allocator, (size_t)*size, 1);
        bad = binary &&
            (moi_file_read(file, sizeof header, binary, (size_t)*size) != 0 ||
                moi_cl_sum(binary, (size_t)*size) != moi_cl_get64(header + MOI_CL_FILE_SUM));
    }
    moi_file_close(file);
    if (bad) {
        cl->program_stats.n_rejected++;
        moi_cl_say(&cl->log, MO_LOG_WARN, "cl: %s is damaged and not used", path);
        mo_free(&cl->allocator, binary, (size_t)*size, 1);
        binary = NULL;
    }
    return binary;
}

/* A driver may refuse a binary that is intact, after an update that kept its version. */
static int moi_cl_load_binary(
    mo_cl *cl, mo_cl_program *p, const unsigned char *binary, size_t size, const char *options) {
    cl_int code = CL_SUCCESS, loaded = CL_SUCCESS;
    mo_log loud = cl->log;
    p->program =
        clCreateProgramWithBinary(cl->context, 1, &cl->device, &size, &binary, &loaded, &code);
    if (!p->program || code != CL_SUCCESS || loaded != CL_SUCCESS) return 0;
    if (clBuildProgram(p->program, 1, &cl->device, options, NULL, NULL) != CL_SUCCESS) return 0;
    memset(&cl->log, 0, sizeof cl->log); /* it compiles from source next, so this is no error */
    mo_status status = moi_cl_make_kernels(cl, p, "");
    cl->log = loud;
    return status == MO_OK;
}

/* The program from the cache; 0 when it has to be compiled. */
static int moi_cl_load(mo_cl *cl, mo_cl_program *p, const char *options) {
    char path[MOI_FILE_PATH_SIZE];
    uint64_t size;
    if (moi_cl_file_path(cl, p->key, path, sizeof path) != MO_OK) return 0;
    unsigned char *binary = moi_cl_read_binary(cl, p->key, path, &size);
    if (!binary) return 0;
    int ok = moi_cl_load_binary(cl, p, binary, (size_t)size, options);
    mo_free(&cl->allocator, binary, (size_t)size, 1);
    if (ok) {
        cl->program_stats.n_disk++;
        return 1;
    }
    cl->program_stats.n_rejected++;
    moi_cl_say(&cl->log, MO_LOG_WARN, "cl: the driver does not take %s", path);
    moi_cl_program_drop(cl, p);
    return 0;
}

/* ---- programs ------------------------------------------------------------------------------ */

static mo_cl_program *moi_cl_program_find(const mo_cl *cl, moi_cl_key key) {
    mo_cl_program *p = cl->programs;
    while (p && (p->key.a != key.a || p->key.b != key.b)) p = p->next;
    return p;
}

static mo_status moi_cl_program_make(mo_cl *cl, const mo_cl_source *source, moi_cl_key key,
    const char *options, mo_cl_program **program) {
    mo_cl_program *p = (mo_cl_program *)moi_cl_new(&cl->allocator, 1, sizeof *p);
    if (!p) return MO_E_NO_MEMORY;
    memset(p, 0, sizeof *p);
    p->key = key;
    if (!moi_cl_load(cl, p, options)) {
        mo_status status = moi_cl_compile(cl, source, options, p);
        if (status != MO_OK) {
            moi_cl_program_drop(cl, p);
            moi_cl_delete(&cl->allocator, p, 1, sizeof *p);
            return status;
        }
        moi_cl_store(cl, p, moi_cl_source_name(source));
    }
    p->next = cl->programs;
    cl->programs = p;
    *program = p;
    return MO_OK;
}

mo_status mo_cl_program_get(mo_cl *cl, const mo_cl_source *source, mo_cl_program **program) {
    char *options = NULL;
    size_t size = 0;
    if (!cl || !program || !moi_cl_source_valid(source)) return MO_E_INVALID;
    mo_status status = moi_cl_options(cl, source, &options, &size);
    if (status != MO_OK) return status;
    moi_cl_key key = moi_cl_key_of(cl, source, options);
    mo_cl_program *known = moi_cl_program_find(cl, key);
    if (known) {
        cl->program_stats.n_memory++;
        *program = known;
    } else status = moi_cl_program_make(cl, source, key, options, program);
    mo_free(&cl->allocator, options, size, 1);
    return status;
}

mo_status mo_cl_program_kernel(const mo_cl_program *program, const char *name, cl_kernel *kernel) {
    char own[256];
    if (!program || !name || !kernel) return MO_E_INVALID;
    for (size_t i = 0; i < program->n_kernels; i++) {
        size_t size = 0;
        if (clGetKernelInfo(program->kernels[i], CL_KERNEL_FUNCTION_NAME, sizeof own, own, &size) !=
            CL_SUCCESS)
            continue;
        own[sizeof own - 1] = '\0';
        if (strcmp(own, name) != 0) continue;
        *kernel = program->kernels[i];
        return MO_OK;
    }
    return MO_E_NOT_FOUND;
}

void mo_cl_program_clear(mo_cl *cl) {
    if (!cl) return;
    moi_cl_kernels_clear(cl);
    while (cl->programs) {
        mo_cl_program *p = cl->programs;
        cl->programs = p->next;
        moi_cl_program_drop(cl, p);
        moi_cl_delete(&cl->allocator, p, 1, sizeof *p);
    }
}

mo_status mo_cl_program_path(const mo_cl *cl, const mo_cl_source *source, char *path, size_t size) {
    char *options = NULL;
    size_t n = 0;
    if (!cl || !path || !moi_cl_source_valid(source)) return MO_E_INVALID;
    mo_status status = moi_cl_options(cl, source, &options, &n);
    if (status != MO_OK) return status;
    status = moi_cl_file_path(cl, moi_cl_key_of(cl, source, options), path, size);
    mo_free(&cl->allocator, options, n, 1);
    return status;
}

void mo_cl_program_get_stats(const mo_cl *cl, mo_cl_program_stats *stats) {
    if (cl && stats) *stats = cl->program_stats;
}

#undef MOI_CL_FILE_LARGEST
