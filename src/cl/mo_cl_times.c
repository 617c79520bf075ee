/* mo_cl_times.c - see mo_cl_times.h. */

/* What runs, by what it counts as. */
typedef struct moi_cl_command {
    cl_event event;
    moi_cl_command_kind kind;
    uint64_t bytes;
} moi_cl_command;

struct moi_cl_recorder {
    moi_cl_command *commands;
    size_t n, max, n_missed;
};

enum { MOI_CL_TIMES_LEAST = 20 }; /* ns that a command takes */

/* A command begins (+1) or ends (-1). */
typedef struct moi_cl_edge {
    cl_ulong time;
    int is_transfer, change;
} moi_cl_edge;

static int moi_cl_recording(const mo_cl *cl) { return cl->recorder != NULL; }

static void moi_cl_record_command(
    mo_cl *cl, moi_cl_command_kind kind, uint64_t bytes, cl_event event) {
    struct moi_cl_recorder *recorder = cl->recorder;
    if (!recorder || !event) return;
    if (recorder->n == recorder->max) {
        recorder->n_missed++;
        return;
    }
    moi_cl_command *command = &recorder->commands[recorder->n++];
    clRetainEvent(command->event = event);
    command->kind = kind;
    command->bytes = bytes;
}

static void moi_cl_record_free(mo_cl *cl) {
    struct moi_cl_recorder *recorder = cl->recorder;
    if (!recorder) return;
    for (size_t i = 0; i < recorder->n; i++) clReleaseEvent(recorder->commands[i].event);
    moi_cl_delete(&cl->allocator, recorder->commands, recorder->max, sizeof *recorder->commands);
    moi_cl_delete(&cl->allocator, recorder, 1, sizeof *recorder);
    cl->recorder = NULL;
}

static mo_status moi_cl_check_profiling(const mo_cl *cl) {
    for (int i = 0; i < MO_CL_QUEUE_COUNT; i++) {
        cl_command_queue_properties properties = 0;
        cl_int code = clGetCommandQueueInfo(
            cl->queues[i], CL_QUEUE_PROPERTIES, sizeof properties, &properties, NULL);
        if (code != CL_SUCCESS)
            return moi_cl_fail(&cl->log, "clGetCommandQueueInfo", code, "queue %d", i);
        if (properties & CL_QUEUE_PROFILING_ENABLE) continue;
        moi_cl_say(
            &cl->log, MO_LOG_ERROR, "cl: the queues keep no times; see mo_cl_desc.profiling");
        return MO_E_UNSUPPORTED;
    }
    return MO_OK;
}

mo_status mo_cl_times_begin(mo_cl *cl, size_t max_commands) {
    size_t bytes;
    if (!cl || !cl->context || max_commands == 0) return MO_E_INVALID;
    if (cl->recorder) return MO_E_STATE;
    if (!moi_mul(max_commands, sizeof(moi_cl_command), &bytes)) return MO_E_OVERFLOW;
    mo_status status = moi_cl_check_profiling(cl);
    if (status != MO_OK) return status;
    struct moi_cl_recorder *made =
        (struct moi_cl_recorder *)moi_cl_new(&cl->allocator, 1, sizeof *made);
    if (!made) return MO_E_NO_MEMORY;
    memset(made, 0, sizeof *made);
    made->max = max_commands;
    made->commands =
        (moi_cl_command *)moi_cl_new(&cl->allocator, max_commands, sizeof *made->commands);
    if (!made->commands) {
        moi_cl_delete(&cl->allocator, made, 1, sizeof *made);
        return MO_E_NO_MEMORY;
    }
    cl->recorder = made;
    return MO_OK;
}

static int moi_cl_edge_compare(const void *a, const void *b) {
    const cl_ulong x = ((const moi_cl_edge *)a)->time, y = ((const moi_cl_edge *)b)->time;
    return (x > y) - (x < y);
}

/* Two edges of a command; 0 when the driver has no times for it. Some always give the same ones,
 * which are equal or differ by a nanosecond. */
static int moi_cl_edges_of(const moi_cl_command *command, moi_cl_edge *edges) {
    for (int i = 0; i < 2; i++) {
        cl_int code = clGetEventProfilingInfo(command->event,
            i == 0 ? CL_PROFILING_COMMAND_START : CL_PROFILING_COMMAND_END, sizeof edges[i].time,
            &edges[i].time, NULL);
        if (code != CL_SUCCESS) return 0;
        edges[i].is_transfer = command->kind != MOI_CL_RAN_KERNEL;
        edges[i].change = i == 0 ? 1 : -1;
    }
    return edges[1].time >= edges[0].time + MOI_CL_TIMES_LEAST;
}

/* Walks along the time line; between two edges the same commands run. */
static void moi_cl_add_times(const moi_cl_edge *edges, size_t n, mo_cl_times *times) {
    int running[2] = {0, 0};
    for (size_t i = 0; i < n; i++) {
        const double seconds = i == 0 ? 0 : 1e-9 * (double)(edges[i].time - edges[i - 1].time);
        if (running[0] > 0) times->kernel_s += seconds;
        if (running[1] > 0) times->transfer_s += seconds;
        if (running[0] > 0 && running[1] > 0) times->both_s += seconds;
        running[edges[i].is_transfer] += edges[i].change;
    }
    if (n > 0) times->span_s = 1e-9 * (double)(edges[n - 1].time - edges[0].time);
}

static mo_status moi_cl_read_times(mo_cl *cl, mo_cl_times *times) {
    const struct moi_cl_recorder *recorder = cl->recorder;
    const size_t n = recorder->n;
    times->n_missed = recorder->n_missed;
    if (n == 0) return MO_OK;
    moi_cl_edge *edges = (moi_cl_edge *)moi_cl_new(&cl->allocator, n, 2 * sizeof *edges);
    if (!edges) return MO_E_NO_MEMORY;
    size_t n_timed = 0;
    for (size_t i = 0; i < n; i++) {
        const moi_cl_command *command = &recorder->commands[i];
        n_timed += (size_t)moi_cl_edges_of(command, &edges[2 * n_timed]);
        if (command->kind == MOI_CL_RAN_UPLOAD) times->in_bytes += command->bytes;
        if (command->kind == MOI_CL_RAN_DOWNLOAD) times->out_bytes += command->bytes;
        *(command->kind == MOI_CL_RAN_KERNEL ? &times->n_kernels : &times->n_transfers) += 1;
    }
    qsort(edges, 2 * n_timed, sizeof *edges, moi_cl_edge_compare);
    moi_cl_add_times(edges, 2 * n_timed, times);
    moi_cl_delete(&cl->allocator, edges, n, 2 * sizeof *edges);
    return n_timed > n / 2 ? MO_OK : MO_E_UNSUPPORTED;
}

mo_status mo_cl_times_end(mo_cl *cl, mo_cl_times *times) {
    mo_cl_times made;
    if (!cl || !times) return MO_E_INVALID;
    if (!cl->recorder) return MO_E_STATE;
    memset(&made, 0, sizeof made);
    mo_status status = mo_cl_sync(cl, MO_CL_COMPUTE);
    if (status == MO_OK) status = mo_cl_sync(cl, MO_CL_TRANSFER);
    if (status == MO_OK) status = moi_cl_read_times(cl, &made);
    moi_cl_record_free(cl);
    if (status == MO_OK) *times = made;
    return status;
}
