/* mo_cl_kernel.c - see mo_cl_kernel.h. */

#include "mo_cl_kernels.inc"

/* ---- the tables ---------------------------------------------------------------------------- */

typedef struct moi_cl_text {
    const char *name;
    const char *const *lines, *const *shared;
    size_t n_lines, n_shared;
} moi_cl_text;

#define MOI_CL_COUNT(name) (sizeof moi_cl_##name##_lines / sizeof *moi_cl_##name##_lines)
#define MOI_CL_TEXT(name, shared)                                                                  \
    {#name ".cl", moi_cl_##name##_lines, moi_cl_##shared##_lines, MOI_CL_COUNT(name),              \
        MOI_CL_COUNT(shared)},
static const moi_cl_text moi_cl_texts[MOI_CL_FILE_COUNT] = {MOI_CL_FILES(MOI_CL_TEXT)};
#undef MOI_CL_TEXT

#define MOI_CL_ENTRY(file, name) {MOI_CL_FILE_##file, #name},
static const struct {
    moi_cl_file file;
    const char *name;
} moi_cl_kernel_names[MOI_CL_KERNEL_COUNT] = {MOI_CL_KERNELS(MOI_CL_ENTRY)};
#undef MOI_CL_ENTRY

/* ---- kernels that are ready ---------------------------------------------------------------- */

/* A kernel that was asked for, under its options: hashing the source again would take longer than
 * many a kernel. */
struct moi_cl_ready {
    struct moi_cl_ready *next;
    moi_cl_kernel id;
    cl_kernel kernel;
    size_t size; /* of the options with their 0, which follow */
};

static char *moi_cl_ready_options(struct moi_cl_ready *ready) { return (char *)(ready + 1); }

static void moi_cl_kernels_clear(mo_cl *cl) {
    while (cl->ready) {
        struct moi_cl_ready *next = cl->ready->next;
        moi_cl_delete(&cl->allocator, cl->ready, 1, sizeof *cl->ready + cl->ready->size);
        cl->ready = next;
    }
}

/* Found ones move to the front. */
static cl_kernel moi_cl_ready_find(mo_cl *cl, moi_cl_kernel id, const char *options) {
    for (struct moi_cl_ready **at = &cl->ready; *at; at = &(*at)->next) {
        struct moi_cl_ready *found = *at;
        if (found->id != id || strcmp(moi_cl_ready_options(found), options) != 0) continue;
        *at = found->next;
        found->next = cl->ready;
        cl->ready = found;
        return found->kernel;
    }
    return NULL;
}

static mo_status moi_cl_ready_add(
    mo_cl *cl, moi_cl_kernel id, const char *options, cl_kernel kernel) {
    const size_t size = strlen(options) + 1;
    struct moi_cl_ready *ready =
        (struct moi_cl_ready *)moi_cl_new(&cl->allocator, 1, sizeof *ready + size);
    if (!ready) return MO_E_NO_MEMORY;
    ready->next = cl->ready;
    ready->id = id;
    ready->kernel = kernel;
    ready->size = size;
    memcpy(moi_cl_ready_options(ready), options, size);
    cl->ready = ready;
    return MO_OK;
}

/* The file that is shared by another one, where it shares one itself; else NULL. */
static const moi_cl_text *moi_cl_shared(const moi_cl_text *text) {
    for (int i = 0; i < MOI_CL_FILE_COUNT; i++)
        if (moi_cl_texts[i].lines == text->shared) return &moi_cl_texts[i];
    return NULL;
}

/* The texts of a file in their order, allocated: the prelude, what is shared, the file. */
static const char **moi_cl_join(const mo_cl *cl, const moi_cl_text *text, size_t *n) {
    const size_t n_prelude = MOI_CL_COUNT(prelude);
    size_t end = n_prelude + text->n_lines;
    for (const moi_cl_text *at = text; at; at = moi_cl_shared(at))
        if (at->shared != moi_cl_prelude_lines) end += at->n_shared;
    const char **parts = (const char **)moi_cl_new(&cl->allocator, end, sizeof *parts);
    if (!parts) return NULL;
    *n = end;
    memcpy(parts, moi_cl_prelude_lines, n_prelude * sizeof *parts);
    end -= text->n_lines;
    memcpy(parts + end, text->lines, text->n_lines * sizeof *parts);
    for (const moi_cl_text *at = text; end > n_prelude; at = moi_cl_shared(at)) {
        end -= at->n_shared;
        memcpy(parts + end, at->shared, at->n_shared * sizeof *parts);
    }
    return parts;
}
#undef MOI_CL_COUNT

static mo_status moi_cl_kernel_build(
    mo_cl *cl, moi_cl_kernel id, const char *options, cl_kernel *kernel) {
    const moi_cl_text *text = &moi_cl_texts[moi_cl_kernel_names[id].file];
    mo_cl_source source;
    mo_cl_program *program = NULL;
    memset(&source, 0, sizeof source);
    const char **parts = moi_cl_join(cl, text, &source.n_parts);
    if (!parts) return MO_E_NO_MEMORY;
    source.name = text->name;
    source.parts = parts;
    source.options = options;
    mo_status status = mo_cl_program_get(cl, &source, &program);
    moi_cl_delete(&cl->allocator, parts, source.n_parts, sizeof *parts);
    if (status != MO_OK) return status;
    status = mo_cl_program_kernel(program, moi_cl_kernel_names[id].name, kernel);
    return status == MO_OK ? moi_cl_ready_add(cl, id, options, *kernel) : status;
}

/* ---- calls --------------------------------------------------------------------------------- */

static moi_cl_call moi_cl_begin(mo_cl *cl, moi_cl_kernel id, const char *options) {
    moi_cl_call call;
    memset(&call, 0, sizeof call);
    call.cl = cl;
    call.id = id;
    call.status = MO_E_INVALID;
    if (!cl || !cl->context) return call;
    if (!options) options = "";
    call.kernel = moi_cl_ready_find(cl, id, options);
    call.status = call.kernel ? MO_OK : moi_cl_kernel_build(cl, id, options, &call.kernel);
    return call;
}

static void moi_cl_raw_arg(moi_cl_call *call, const void *value, size_t size) {
    if (call->status != MO_OK) return;
    cl_int code = clSetKernelArg(call->kernel, call->n_args, size, value);
    if (code != CL_SUCCESS)
        call->status = moi_cl_fail(&call->cl->log, "clSetKernelArg", code, "%s, argument %u",
            moi_cl_kernel_names[call->id].name, (unsigned)call->n_args);
    call->n_args++;
}

static void moi_cl_mem_arg(moi_cl_call *call, const mo_cl_mem *mem, size_t size, uint64_t n) {
    if (call->status != MO_OK) return;
    if (!mem->buffer || mem->off % size != 0 || n > mem->size / size) {
        moi_cl_say(&call->cl->log, MO_LOG_ERROR,
            "cl: %s, argument %u: %llu elements of %zu bytes at offset %llu, in a block of %llu",
            moi_cl_kernel_names[call->id].name, (unsigned)call->n_args, (unsigned long long)n, size,
            (unsigned long long)mem->off, (unsigned long long)mem->size);
        call->status = MO_E_INVALID;
        return;
    }
    moi_cl_raw_arg(call, &mem->buffer, sizeof mem->buffer);
    moi_cl_u64_arg(call, mem->off / size);
}

static void moi_cl_u32_arg(moi_cl_call *call, uint32_t value) {
    const cl_uint v = value;
    moi_cl_raw_arg(call, &v, sizeof v);
}
static void moi_cl_u64_arg(moi_cl_call *call, uint64_t value) {
    const cl_ulong v = value;
    moi_cl_raw_arg(call, &v, sizeof v);
}
static void moi_cl_f32_arg(moi_cl_call *call, float value) {
    const cl_float v = value;
    moi_cl_raw_arg(call, &v, sizeof v);
}

static mo_status moi_cl_end(moi_cl_call *call, mo_cl_queue queue, uint64_t n_groups,
    const mo_cl_wait_list *after, cl_event *event) {
    if (call->status != MO_OK) return call->status;
    if (n_groups > SIZE_MAX) return MO_E_OVERFLOW;
    if (n_groups == 0) {
        if (event) *event = NULL;
        return MO_OK;
    }
    return mo_cl_launch(call->cl, queue, call->kernel, (size_t)n_groups, after, event);
}

static mo_status moi_cl_run(moi_cl_call *call, uint64_t n_groups) {
    return moi_cl_end(call, MO_CL_COMPUTE, n_groups, NULL, NULL);
}

static int moi_cl_has_floats(const mo_cl_mem *mem, uint64_t n) {
    return mem->buffer && mem->off % sizeof(float) == 0 && n <= mem->size / sizeof(float);
}

static uint64_t moi_cl_tiles(const mo_cl *cl, uint64_t n) {
    const uint64_t tile = cl && cl->work_group == 1 ? 16384 : 4096; /* MO_TILE of prelude.cl */
    return n / tile + (n % tile != 0);
}
