/* mo_cl.h - an OpenCL device in use: its context, one queue for kernels and one for transfers, made
 * here or taken from a program that has them already.
 *
 *     mo_cl cl;
 *     mo_cl_desc desc = {0};
 *     desc.device = "auto";
 *     if (mo_cl_init(&cl, &desc) != MO_OK) ... use the CPU
 *     ...
 *     mo_cl_free(&cl);
 */
#ifndef MEMOPT_CL_CONTEXT_H
#define MEMOPT_CL_CONTEXT_H

#include "mo_cl_device.h"

/* The two queues; both may be one and the same. */
typedef enum mo_cl_queue { MO_CL_COMPUTE = 0, MO_CL_TRANSFER, MO_CL_QUEUE_COUNT } mo_cl_queue;

/* mo_cl_desc - which device, or which context and queues. What is set first in this order counts:
 * compute, context, device_id, device.
 *
 * device         see mo_cl_choose; NULL = "auto"
 * device_id      this device, such as one of clCreateSubDevices
 * context        use this context, with device_id or else its first device
 * compute        use this queue, with its context and its device
 * transfer       use this queue for transfers; only with compute, and of the same context and
 *                device; NULL = a new one
 * profiling      queues made here keep the times of commands
 * work_group     work-items of a group in the kernels, a power of two; 0 = 1 on CPUs, 64 elsewhere
 *                and on Mesa's llvmpipe
 * build_options  added to those of every program; NULL = none; copied
 * cache_folder   of compiled programs, created when missing; "" = none; NULL = MEMOPT_CL_CACHE of
 *                the environment, else "memopt" in the user's cache folder; copied
 * allocator      host memory; copied; NULL = heap
 * log            copied; NULL = silent
 *
 * Handles that are passed in are retained, and released by mo_cl_free. */
typedef struct mo_cl_desc {
    const char *device;
    cl_device_id device_id;
    cl_context context;
    cl_command_queue compute, transfer;
    int profiling;
    size_t work_group;
    const char *build_options;
    const char *cache_folder;
    const mo_allocator *allocator;
    const mo_log *log;
} mo_cl_desc;

/* mo_cl_program_stats - where programs came from, since mo_cl_init.
 *
 * n_memory    asked for again: nothing was compiled or read
 * n_disk      read from the cache folder
 * n_built     compiled
 * n_rejected  files of the cache that were damaged, foreign, or refused by the driver
 * n_written   files written to the cache */
typedef struct mo_cl_program_stats {
    uint64_t n_memory, n_disk, n_built, n_rejected, n_written;
} mo_cl_program_stats;

/* mo_cl - owned by the caller, must not move; the fields up to work_group may be read, and the
 * handles used in calls of OpenCL; the rest is private. */
typedef struct mo_cl {
    cl_device_id device;
    cl_context context;
    cl_command_queue queues[MO_CL_QUEUE_COUNT];
    mo_cl_info info;
    size_t work_group;
    char *build_options, *cache_folder;
    struct mo_cl_program *programs;
    struct moi_cl_ready *ready;
    struct moi_cl_recorder *recorder;
    cl_mem tables, sums, low;
    unsigned clblast; /* which pairs of transposes passed the test, and which failed */
    mo_cl_program_stats program_stats;
    mo_allocator allocator;
    mo_log log;
} mo_cl;

/* mo_cl_init - open the device, or attach to the handles of the desc. mo_cl_free - release
 * everything; commands that still run are waited for.
 *
 * desc  NULL = all defaults
 *
 * Threads: one at a time, as everything that takes a mo_cl; different ones at once
 * Errors:  MO_E_INVALID (NULL cl, work_group, handles that do not belong together),
 *          MO_E_NO_MEMORY, those of mo_cl_choose, and what OpenCL says (mo_cl_error_status), with
 *          the call and the code in the log
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_init(mo_cl *cl, const mo_cl_desc *desc);
MEMOPT_API void mo_cl_free(mo_cl *cl);

/* mo_cl_wait - until all these events are complete. The events are not released.
 * mo_cl_sync - until everything enqueued so far on a queue is complete, whoever enqueued it.
 * mo_cl_flush - hand enqueued commands to the device, without waiting.
 *
 * They wait for events, since clFlush and then clFinish returns at once on some drivers, whatever
 * still runs. A wait for n = 0 events returns at once.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, queue); what a failed command left behind (MO_E_NO_DEVICE_MEMORY
 *          also comes here, from drivers that take memory at the first use)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_wait(mo_cl *cl, size_t n, const cl_event *events);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_sync(mo_cl *cl, mo_cl_queue queue);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_flush(mo_cl *cl, mo_cl_queue queue);

/* mo_cl_wait_list - events that a command waits for before it starts; NULL or {0} = none. They may
 * belong to the other queue. */
typedef struct mo_cl_wait_list {
    const cl_event *events;
    size_t n;
} mo_cl_wait_list;

/* mo_cl_barrier - what is enqueued on the queue from here on waits for the events, which may belong
 *                 to the other queue.
 * mo_cl_mark - an event that is complete when everything enqueued so far on the queue is; to be
 *              released by the caller.
 *
 * Together they order the two queues: mark one, let the other wait.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, queue), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_barrier(
    mo_cl *cl, mo_cl_queue queue, const mo_cl_wait_list *after);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_mark(mo_cl *cl, mo_cl_queue queue, cl_event *event);

/* mo_cl_launch - enqueue a kernel whose arguments are set, in n_groups work-groups of one
 * dimension with cl->work_group work-items each.
 *
 * after  may be NULL
 * event  out  of the command, to be released by the caller; may be NULL
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, queue, n_groups 0), MO_E_OVERFLOW, MO_E_UNSUPPORTED (the kernel
 *          needs more local memory or a smaller work-group than the device has), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_launch(mo_cl *cl, mo_cl_queue queue, cl_kernel kernel,
    size_t n_groups, const mo_cl_wait_list *after, cl_event *event);

/* mo_cl_event_seconds - how long a complete command ran on the device.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL), MO_E_UNSUPPORTED (no profiling, or a driver that has no times)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_event_seconds(cl_event event, double *seconds);

#endif
