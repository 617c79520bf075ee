/* mo_cl_wrap.h - host memory as device memory without a copy, on devices that share the host's
 * memory: CPUs, and the GPUs of laptops, phones and boards.
 *
 *     mo_cl_mem w;
 *     if (mo_cl_wrap_const(&heap, file.data, file.size, &w) == MO_OK) ... use it
 *     else if (mo_cl_heap_alloc(&heap, file.size, category, "w", &w) == MO_OK) ... and upload
 *     ...
 *     mo_cl_unwrap(&heap, &w);
 */
#ifndef MEMOPT_CL_WRAP_H
#define MEMOPT_CL_WRAP_H

#include "mo_cl_heap.h"

/* What memory is aligned to that may be wrapped for writing. */
enum { MO_CL_WRAP_ALIGN = 4096 };

/* mo_cl_wrap - the caller's memory, for kernels that read and write it.
 * mo_cl_wrap_const - for kernels that only read it; it may be a file that was mapped read-only, of
 *                    which only the pages that kernels read are loaded.
 * mo_cl_unwrap - wait for both queues and let go; {0} does nothing, and mem becomes {0}.
 *
 * data  [size] valid until mo_cl_unwrap. mo_cl_wrap: aligned to MO_CL_WRAP_ALIGN; where size is no
 *       multiple of 64 some drivers keep a copy, which is right too. mo_cl_wrap_const: any address,
 *       since the whole pages around it are wrapped
 * mem   out  with handle 0
 *
 * The host sees what kernels wrote between mo_cl_map and mo_cl_unmap, and there alone may it
 * change something. Wrapped bytes are in the heap's statistics, and not in its budget.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, size 0, alignment), MO_E_UNSUPPORTED (the device has its own memory,
 *          cl->info.unified is 0, or size is beyond its largest allocation), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_wrap(
    mo_cl_heap *heap, void *data, size_t size, mo_cl_mem *mem);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_wrap_const(
    mo_cl_heap *heap, const void *data, size_t size, mo_cl_mem *mem);
MEMOPT_API void mo_cl_unwrap(mo_cl_heap *heap, mo_cl_mem *mem);

#endif
