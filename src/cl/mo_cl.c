/* mo_cl.c - see mo_cl.h. */

/* ---- lists of events ----------------------------------------------------------------------- */

static int moi_cl_list_valid(const mo_cl_wait_list *after) {
    return !after || after->n == 0 || (after->events && after->n <= 0x7fffffff);
}
static cl_uint moi_cl_list_n(const mo_cl_wait_list *after) { return after ? (cl_uint)after->n : 0; }
/* OpenCL wants NULL when there are none. */
static const cl_event *moi_cl_list_events(const mo_cl_wait_list *after) {
    return moi_cl_list_n(after) ? after->events : NULL;
}

/* ---- start and end ------------------------------------------------------------------------- */

/* A copy of a text; *out = NULL for NULL. */
static mo_status moi_cl_copy_text(const mo_allocator *allocator, const char *text, char **out) {
    *out = NULL;
    if (!text) return MO_OK;
    size_t size = strlen(text) + 1;
    *out = (char *)mo_alloc(allocator, size, 1);
    if (!*out) return MO_E_NO_MEMORY;
    memcpy(*out, text, size);
    return MO_OK;
}
static void moi_cl_free_text(const mo_allocator *allocator, char *text) {
    if (text) mo_free(allocator, text, strlen(text) + 1, 1);
}

/* The user's cache folder with "/memopt" behind it; "" where there is none. */
static void moi_cl_default_folder(char *out, size_t size) {
#ifdef _WIN32
    static const char *const variables[] = {"LOCALAPPDATA", "TEMP"};
    static const char *const below[] = {"/memopt", "/memopt"};
#else
    static const char *const variables[] = {"XDG_CACHE_HOME", "HOME"};
    static const char *const below[] = {"/memopt", "/.cache/memopt"};
#endif
    out[0] = '\0';
    for (size_t i = 0; i < 2 && !out[0]; i++) {
        const char *folder = getenv(variables[i]);
        if (!folder || !*folder) continue;
        if (strlen(folder) + strlen(below[i]) < size) {
            strcpy(out, folder);
            strcat(out, below[i]);
        }
    }
}

static mo_status moi_cl_set_folder(mo_cl *cl, const char *folder) {
    char text[1024];
    if (!folder) folder = getenv("MEMOPT_CL_CACHE");
    if (!folder) {
        moi_cl_default_folder(text, sizeof text);
        folder = text;
    }
    return moi_cl_copy_text(&cl->allocator, *folder ? folder : NULL, &cl->cache_folder);
}

/* Context and device of a queue. */
static mo_status moi_cl_queue_owner(
    const mo_cl *cl, cl_command_queue queue, cl_context *context, cl_device_id *device) {
    cl_int code = clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof *context, context, NULL);
    if (code == CL_SUCCESS)
        code = clGetCommandQueueInfo(queue, CL_QUEUE_DEVICE, sizeof *device, device, NULL);
    return code == CL_SUCCESS
        ? MO_OK
        : moi_cl_fail(&cl->log, "clGetCommandQueueInfo", code, "not a command queue");
}

static mo_status moi_cl_attach_queues(mo_cl *cl, const mo_cl_desc *desc) {
    cl_context context = NULL;
    cl_device_id device = NULL;
    mo_status status = moi_cl_queue_owner(cl, desc->compute, &context, &device);
    if (status != MO_OK) return status;
    cl_context other_context = context;
    cl_device_id other_device = device;
    if (desc->transfer) {
        status = moi_cl_queue_owner(cl, desc->transfer, &other_context, &other_device);
        if (status != MO_OK) return status;
    }
    if (context != other_context || device != other_device) {
        moi_cl_say(&cl->log, MO_LOG_ERROR, "cl: the two queues are not of one context and device");
        return MO_E_INVALID;
    }
    clRetainContext(cl->context = context);
    clRetainDevice(cl->device = device);
    clRetainCommandQueue(cl->queues[MO_CL_COMPUTE] = desc->compute);
    if (desc->transfer) clRetainCommandQueue(cl->queues[MO_CL_TRANSFER] = desc->transfer);
    return MO_OK;
}

/* A device that is named is not looked up in the context's list: drivers list a sub-device's parent
 * there. A wrong one fails when its queues are made. */
static mo_status moi_cl_attach_context(mo_cl *cl, const mo_cl_desc *desc) {
    cl_device_id ids[MO_CL_MAX_DEVICES];
    cl_device_id id = desc->device_id;
    if (!id) {
        cl_int code = clGetContextInfo(desc->context, CL_CONTEXT_DEVICES, sizeof ids, ids, NULL);
        if (code != CL_SUCCESS)
            return moi_cl_fail(&cl->log, "clGetContextInfo", code, "the devices of the context");
        id = ids[0];
    }
    clRetainContext(cl->context = desc->context);
    clRetainDevice(cl->device = id);
    return MO_OK;
}

static mo_status moi_cl_make_context(mo_cl *cl, const mo_cl_desc *desc) {
    cl_int code = CL_SUCCESS;
    cl_device_id id = desc->device_id;
    if (!id) {
        mo_cl_device chosen;
        mo_status status = mo_cl_choose(desc->device, &chosen, &cl->log);
        if (status != MO_OK) return status;
        id = chosen.id;
    }
    cl_context context = clCreateContext(NULL, 1, &id, NULL, NULL, &code);
    if (!context || code != CL_SUCCESS)
        return moi_cl_fail(&cl->log, "clCreateContext", code, "one device");
    cl->context = context;
    clRetainDevice(cl->device = id);
    return MO_OK;
}

/* The queues that are not the caller's. They keep the order of their commands. */
static mo_status moi_cl_make_queues(mo_cl *cl, int profiling) {
    const cl_command_queue_properties properties = profiling ? CL_QUEUE_PROFILING_ENABLE : 0;
    for (int i = 0; i < MO_CL_QUEUE_COUNT; i++) {
        cl_int code = CL_SUCCESS;
        if (cl->queues[i]) continue;
        cl_command_queue queue = clCreateCommandQueue(cl->context, cl->device, properties, &code);
        if (!queue || code != CL_SUCCESS)
            return moi_cl_fail(&cl->log, "clCreateCommandQueue", code, "%s", cl->info.name);
        cl->queues[i] = queue;
    }
    return MO_OK;
}

/* Compilers of CPU devices make loops of a group's items, and vectorize better what has none.
 * Mesa's llvmpipe makes the lanes of a vector of them, like a GPU, and ends the loops of an item
 * after 65535 turns, whatever is left, which groups of one come to. */
static size_t moi_cl_default_group(const mo_cl_info *info) {
    const int loops = (info->type & CL_DEVICE_TYPE_CPU) && strncmp(info->name, "llvmpipe", 8) != 0;
    return loops ? 1 : 64;
}

static mo_status moi_cl_open(mo_cl *cl, const mo_cl_desc *desc) {
    mo_status status = moi_cl_copy_text(&cl->allocator, desc->build_options, &cl->build_options);
    if (status == MO_OK) status = moi_cl_set_folder(cl, desc->cache_folder);
    if (status != MO_OK) return status;
    if (desc->compute) status = moi_cl_attach_queues(cl, desc);
    else if (desc->context) status = moi_cl_attach_context(cl, desc);
    else status = moi_cl_make_context(cl, desc);
    if (status == MO_OK) status = mo_cl_device_info(cl->device, &cl->info);
    if (status != MO_OK) return status;
    if (cl->work_group == 0) cl->work_group = moi_cl_default_group(&cl->info);
    if (cl->work_group > cl->info.max_work_group) {
        moi_cl_say(&cl->log, MO_LOG_ERROR, "cl: work-groups of %zu; '%s' has up to %zu",
            cl->work_group, cl->info.name, cl->info.max_work_group);
        return MO_E_INVALID;
    }
    return moi_cl_make_queues(cl, desc->profiling);
}

mo_status mo_cl_init(mo_cl *cl, const mo_cl_desc *desc) {
    mo_cl_desc none;
    memset(&none, 0, sizeof none);
    if (!desc) desc = &none;
    if (!cl || (desc->work_group != 0 && !moi_is_pow2(desc->work_group))) return MO_E_INVALID;
    if (desc->transfer && !desc->compute) return MO_E_INVALID;
    mo_cl made;
    memset(&made, 0, sizeof made);
    made.work_group = desc->work_group;
    made.allocator =
        desc->allocator && desc->allocator->alloc ? *desc->allocator : mo_allocator_heap();
    if (desc->log) made.log = *desc->log;
    mo_status status = moi_cl_open(&made, desc);
    if (status == MO_OK) *cl = made;
    else mo_cl_free(&made);
    return status;
}

void mo_cl_free(mo_cl *cl) {
    if (!cl) return;
    moi_cl_record_free(cl);
    mo_cl_program_clear(cl);
    for (int i = 0; i < MO_CL_QUEUE_COUNT; i++) {
        if (!cl->queues[i]) continue;
        mo_status status = mo_cl_sync(cl, (mo_cl_queue)i);
        (void)status; /* it has said what failed, and there is nothing left to undo */
        clReleaseCommandQueue(cl->queues[i]);
    }
    if (cl->tables) clReleaseMemObject(cl->tables);
    if (cl->sums) clReleaseMemObject(cl->sums);
    if (cl->low) clReleaseMemObject(cl->low);
    if (cl->device) clReleaseDevice(cl->device);
    if (cl->context) clReleaseContext(cl->context);
    moi_cl_free_text(&cl->allocator, cl->build_options);
    moi_cl_free_text(&cl->allocator, cl->cache_folder);
    memset(cl, 0, sizeof *cl);
}

/* ---- waiting ------------------------------------------------------------------------------- */

/* The code that the first failed event carries, else the one that the wait returned. */
static cl_int moi_cl_event_code(size_t n, const cl_event *events, cl_int code) {
    for (size_t i = 0; i < n; i++) {
        cl_int status = CL_COMPLETE;
        cl_int got = clGetEventInfo(
            events[i], CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, NULL);
        if (got == CL_SUCCESS && status < 0) return status;
    }
    return code;
}

mo_status mo_cl_wait(mo_cl *cl, size_t n, const cl_event *events) {
    if (!cl || (n != 0 && !events) || n > 0x7fffffff) return MO_E_INVALID;
    if (n == 0) return MO_OK;
    cl_int code = clWaitForEvents((cl_uint)n, events);
    if (code == CL_SUCCESS) return MO_OK;
    return moi_cl_fail(&cl->log, "clWaitForEvents", moi_cl_event_code(n, events, code),
        "waiting for %zu commands", n);
}

mo_status mo_cl_barrier(mo_cl *cl, mo_cl_queue queue, const mo_cl_wait_list *after) {
    if (!cl || (unsigned)queue >= MO_CL_QUEUE_COUNT || !moi_cl_list_valid(after))
        return MO_E_INVALID;
    if (moi_cl_list_n(after) == 0) return MO_OK;
    cl_int code = clEnqueueBarrierWithWaitList(
        cl->queues[queue], moi_cl_list_n(after), moi_cl_list_events(after), NULL);
    if (code == CL_SUCCESS) return MO_OK;
    return moi_cl_fail(&cl->log, "clEnqueueBarrierWithWaitList", code, "%zu events", after->n);
}

mo_status mo_cl_mark(mo_cl *cl, mo_cl_queue queue, cl_event *event) {
    if (!cl || (unsigned)queue >= MO_CL_QUEUE_COUNT || !event) return MO_E_INVALID;
    cl_event last = NULL;
    cl_int code = clEnqueueMarkerWithWaitList(cl->queues[queue], 0, NULL, &last);
    if (code != CL_SUCCESS)
        return moi_cl_fail(&cl->log, "clEnqueueMarkerWithWaitList", code, "end of a queue");
    *event = last;
    return MO_OK;
}

mo_status mo_cl_sync(mo_cl *cl, mo_cl_queue queue) {
    cl_event last = NULL;
    if (!cl || (unsigned)queue >= MO_CL_QUEUE_COUNT) return MO_E_INVALID;
    /* A marker without a list completes behind everything before it, also what the owner of an
     * attached queue has enqueued. On rusticl only when that was flushed before: within one batch
     * the events of other commands complete later. */
    mo_status status = mo_cl_flush(cl, queue);
    if (status == MO_OK) status = mo_cl_mark(cl, queue, &last);
    if (status != MO_OK) return status;
    status = mo_cl_wait(cl, 1, &last);
    clReleaseEvent(last);
    return status;
}

mo_status mo_cl_flush(mo_cl *cl, mo_cl_queue queue) {
    if (!cl || (unsigned)queue >= MO_CL_QUEUE_COUNT) return MO_E_INVALID;
    cl_int code = clFlush(cl->queues[queue]);
    return code == CL_SUCCESS ? MO_OK : moi_cl_fail(&cl->log, "clFlush", code, "queue");
}

/* ---- kernels ------------------------------------------------------------------------------- */

/* Some drivers abort, or read past the end, where others say that local memory is short. */
static mo_status moi_cl_fits(const mo_cl *cl, cl_kernel kernel) {
    cl_ulong local = 0;
    cl_int code = clGetKernelWorkGroupInfo(
        kernel, cl->device, CL_KERNEL_LOCAL_MEM_SIZE, sizeof local, &local, NULL);
    if (code != CL_SUCCESS)
        return moi_cl_fail(&cl->log, "clGetKernelWorkGroupInfo", code, "local memory");
    if (local <= cl->info.local_bytes) return MO_OK;
    moi_cl_say(&cl->log, MO_LOG_ERROR, "cl: a kernel needs %llu bytes of local memory, of %llu",
        (unsigned long long)local, (unsigned long long)cl->info.local_bytes);
    return MO_E_UNSUPPORTED;
}

mo_status mo_cl_launch(mo_cl *cl, mo_cl_queue queue, cl_kernel kernel, size_t n_groups,
    const mo_cl_wait_list *after, cl_event *event) {
    size_t global;
    if (!cl || (unsigned)queue >= MO_CL_QUEUE_COUNT || !kernel || n_groups == 0)
        return MO_E_INVALID;
    if (!moi_cl_list_valid(after)) return MO_E_INVALID;
    if (!moi_mul(n_groups, cl->work_group, &global)) return MO_E_OVERFLOW;
    mo_status status = moi_cl_fits(cl, kernel);
    if (status != MO_OK) return status;
    cl_event done = NULL;
    cl_int code = clEnqueueNDRangeKernel(cl->queues[queue], kernel, 1, NULL, &global,
        &cl->work_group, moi_cl_list_n(after), moi_cl_list_events(after),
        event || moi_cl_recording(cl) ? &done : NULL);
    if (code == CL_INVALID_WORK_GROUP_SIZE) {
        moi_cl_fail(&cl->log, "clEnqueueNDRangeKernel", code, "groups of %zu", cl->work_group);
        return MO_E_UNSUPPORTED;
    }
    if (code != CL_SUCCESS)
        return moi_cl_fail(&cl->log, "clEnqueueNDRangeKernel", code, "%zu groups of %zu", n_groups,
            cl->work_group);
    moi_cl_record_command(cl, MOI_CL_RAN_KERNEL, 0, done);
    if (event) *event = done;
    else if (done) clReleaseEvent(done);
    return MO_OK;
}

mo_status mo_cl_event_seconds(cl_event event, double *seconds) {
    cl_ulong begin = 0, end = 0;
    if (!event || !seconds) return MO_E_INVALID;
    if (clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof begin, &begin, NULL) !=
            CL_SUCCESS ||
        clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL) !=
            CL_SUCCESS)
        return MO_E_UNSUPPORTED;
    if (end <= begin) return MO_E_UNSUPPORTED; /* some drivers answer, and always with 0 */
    *seconds = 1e-9 * (double)(end - begin);
    return MO_OK;
}
