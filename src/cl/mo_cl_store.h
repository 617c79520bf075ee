/* mo_cl_store.h - a store in host memory for what a device has no room for between two uses, such
 * as the activations that a plan moves out and brings back. The copies run on the transfer queue
 * while the compute queue goes on; events order the two, and the host waits for nothing.
 *
 *     mo_cl_store store;
 *     if (mo_cl_store_init(&store, &arena.heap, mo_plan_describe(plan).store_bytes) != MO_OK) ...
 *     while (mo_plan_next(plan, &step)) {
 *         switch (step.op) {
 *         ...
 *         default: status = mo_cl_store_step(&store, &arena, &step);
 *         }
 *     }
 *     mo_cl_store_free(&store);
 */
#ifndef MEMOPT_CL_STORE_H
#define MEMOPT_CL_STORE_H

#include "mo_cl_arena.h"
#include "mo_cl_staging.h"

/* mo_cl_store_stats - since mo_cl_store_init.
 *
 * out_bytes, n_out  moved to the store; in_bytes, n_in: and back
 * n_waits           waits that found copies on their way */
typedef struct mo_cl_store_stats {
    uint64_t out_bytes, in_bytes;
    uint64_t n_out, n_in, n_waits;
} mo_cl_store_stats;

/* mo_cl_store - owned by the caller, must not move; stats may be read, the rest is private. */
typedef struct mo_cl_store {
    mo_cl_heap *heap;
    mo_cl_staging memory;
    struct moi_cl_store_copy *copies; /* on their way, the oldest first */
    size_t n_copies;
    mo_cl_store_stats stats;
} mo_cl_store;

/* mo_cl_store_init - a store of so many bytes, pinned where the driver does that.
 * mo_cl_store_free - give them back, when the copies on their way have ended.
 *
 * heap   valid as long as the store
 * bytes  0 = a store that holds nothing
 *
 * Memory:  host memory, see mo_cl_staging_alloc; 2 KiB of the mo_cl's allocator
 * Threads: one at a time, as everything here, and not beside other calls on the same mo_cl
 * Errors:  MO_E_INVALID (NULL), MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_store_init(
    mo_cl_store *store, mo_cl_heap *heap, size_t bytes);
MEMOPT_API void mo_cl_store_free(mo_cl_store *store);

/* mo_cl_store_out - start to copy device memory into the store. mo_cl_store_in - back out of it.
 *
 * mem        all of it; of a part give mo_cl_part
 * store_off  bytes into the store
 *
 * A copy begins when everything enqueued so far on the compute queue is complete, and behind the
 * copies that were started before it. What the compute queue does from here on does not wait for
 * it: until mo_cl_store_wait it must not write what goes out, nor use what comes in.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, range), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_store_out(
    mo_cl_store *store, mo_cl_mem mem, uint64_t store_off);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_store_in(
    mo_cl_store *store, mo_cl_mem mem, uint64_t store_off);

/* mo_cl_store_wait - what is enqueued on the compute queue from here on runs behind the copies from
 * and to this range of the store. Copies that were started before one of them are waited for too,
 * later ones are not.
 *
 * store_off, size  in bytes
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, range), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_store_wait(
    mo_cl_store *store, uint64_t store_off, uint64_t size);

/* mo_cl_store_step - the store's part of a step of a plan that is bound to arena->tokens: OFFLOAD
 * and PREFETCH start their copies, the WAITs wait for them, other steps do nothing.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL; a copy is not within arena and store), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_store_step(
    mo_cl_store *store, const mo_cl_arena *arena, const mo_step *step);

#endif
