/* mo_cl_times.h - what a device did when: how long kernels ran, how long transfers, and how much of
 * the transfers' time lay inside the kernels'.
 *
 *     desc.profiling = 1;                    of mo_cl_init
 *     mo_cl_times times;
 *     if (mo_cl_times_begin(&cl, 10000) != MO_OK) ...
 *     ... the commands of a step or more
 *     if (mo_cl_times_end(&cl, &times) == MO_OK)
 *         printf("%.0f %% hidden\n", 100 * times.both_s / times.transfer_s);
 */
#ifndef MEMOPT_CL_TIMES_H
#define MEMOPT_CL_TIMES_H

#include "mo_cl.h"

/* mo_cl_times - by the device's clock, in seconds.
 *
 * kernel_s     at least one kernel ran; copies on the device count as kernels
 * transfer_s   at least one upload or download ran; both_s: and a kernel at the same time
 * span_s       from the first start to the last end
 * in_bytes     uploaded; out_bytes: downloaded
 * n_missed     commands behind the first max_commands: they are in no other figure
 *
 * Mappings, and commands that the program enqueues by OpenCL itself, are not seen. */
typedef struct mo_cl_times {
    double kernel_s, transfer_s, both_s, span_s;
    uint64_t in_bytes, out_bytes;
    size_t n_kernels, n_transfers, n_missed;
} mo_cl_times;

/* mo_cl_times_begin - record the commands from here on. mo_cl_times_end - wait for both queues, add
 * up, and record no longer; when it fails too.
 *
 * max_commands  1 or more; each takes 40 bytes and keeps its event
 * times         out
 *
 * Memory:  the mo_cl's allocator; end takes 32 bytes more per command meanwhile
 * Threads: one at a time
 * Errors:  begin: MO_E_INVALID (NULL, 0), MO_E_STATE (begun already), MO_E_UNSUPPORTED (a queue has
 *          no profiling), MO_E_NO_MEMORY, MO_E_OVERFLOW. end: MO_E_INVALID (NULL), MO_E_STATE (not
 *          begun), MO_E_UNSUPPORTED (the driver has no times), MO_E_NO_MEMORY, what a failed
 *          command left behind
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_times_begin(mo_cl *cl, size_t max_commands);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_times_end(mo_cl *cl, mo_cl_times *times);

#endif
