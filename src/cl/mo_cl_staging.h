/* mo_cl_staging.h - host memory that a device transfers to and from fast: page-locked by its
 * driver, where it does that.
 *
 *     mo_cl_staging staging;
 *     if (mo_cl_staging_alloc(&heap, size, &staging) != MO_OK) ...
 *     fill(staging.data);
 *     mo_cl_upload(&heap, MO_CL_TRANSFER, &x, 0, staging.data, size, NULL, &event);
 *     ...
 *     mo_cl_staging_free(&staging);
 *
 * A transfer from other memory goes through a small page-locked buffer of the driver, piece by
 * piece, and often is not asynchronous at all. */
#ifndef MEMOPT_CL_STAGING_H
#define MEMOPT_CL_STAGING_H

#include "mo_cl_heap.h"

/* mo_cl_staging - owned by the caller; data, size and pinned may be read, the rest is private.
 *
 * data    [size] host memory, aligned to 64 bytes at least
 * pinned  0 = the driver refused, and this is plain memory: it works the same, only slower */
typedef struct mo_cl_staging {
    void *data;
    size_t size;
    int pinned;
    mo_cl_heap *heap;
    cl_mem buffer;
    void *mapped;
} mo_cl_staging;

/* mo_cl_staging_alloc - host memory, counted in the heap's statistics and not in its budget; the
 * content is undefined. mo_cl_staging_free - give it back, before the heap; nothing may use it any
 * more. {0} does nothing.
 *
 * size  1 or more
 *
 * Memory:  a buffer with CL_MEM_ALLOC_HOST_PTR that stays mapped; plain: the mo_cl's allocator
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, size 0), MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_staging_alloc(
    mo_cl_heap *heap, size_t size, mo_cl_staging *staging);
MEMOPT_API void mo_cl_staging_free(mo_cl_staging *staging);

#endif
