/* mo_cl_internal.h - what the OpenCL files share; never part of the public header.
 *
 * The implementations of memopt.h and memopt_cl.h may be compiled in one file or in two, so these
 * helpers stand beside those of mo_base.c, which are static there. */
#ifndef MEMOPT_CL_INTERNAL_H
#define MEMOPT_CL_INTERNAL_H

static void *moi_cl_new(const mo_allocator *allocator, size_t n, size_t size);
static void moi_cl_delete(const mo_allocator *allocator, void *ptr, size_t n, size_t size);

MOI_PRINTF(3)
static void moi_cl_say(const mo_log *log, mo_log_level level, const char *format, ...);

/* Say that a call failed, and what with; returns the status that stands for the code. */
MOI_PRINTF(4)
static mo_status moi_cl_fail(
    const mo_log *log, const char *call, cl_int code, const char *format, ...);

/* Whether a list of events is well formed; NULL is. */
static int moi_cl_list_valid(const mo_cl_wait_list *after);
static cl_uint moi_cl_list_n(const mo_cl_wait_list *after);
static const cl_event *moi_cl_list_events(const mo_cl_wait_list *after);

/* What mo_cl_times.h adds up. */
typedef enum moi_cl_command_kind {
    MOI_CL_RAN_KERNEL = 0,
    MOI_CL_RAN_UPLOAD,
    MOI_CL_RAN_DOWNLOAD
} moi_cl_command_kind;

/* Whether commands are recorded, so that each needs an event; record one of them; end it. */
static int moi_cl_recording(const mo_cl *cl);
static void moi_cl_record_command(
    mo_cl *cl, moi_cl_command_kind kind, uint64_t bytes, cl_event event);
static void moi_cl_record_free(mo_cl *cl);

#endif
