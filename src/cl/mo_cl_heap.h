/* mo_cl_heap.h - device memory: blocks in a few large buffers, under a budget that holds.
 *
 *     mo_cl_heap heap;
 *     mo_cl_heap_desc desc = {0};
 *     desc.budget_bytes = (uint64_t)512 << 20;
 *     if (mo_cl_heap_init(&heap, &cl, &desc) != MO_OK) ...
 *     mo_cl_mem x;
 *     if (mo_cl_heap_alloc(&heap, size, MO_CATEGORY_PARAM, "wte", &x) != MO_OK) ...
 *     mo_cl_upload(&heap, MO_CL_COMPUTE, &x, 0, data, size, NULL, NULL);
 *     ... kernels take x.buffer and x.off
 *     mo_cl_heap_dealloc(&heap, x.handle);
 *
 * The bytes of all buffers together stay within the budget, which is checked before OpenCL is
 * asked for one: some drivers end the process when memory runs out. */
#ifndef MEMOPT_CL_HEAP_H
#define MEMOPT_CL_HEAP_H

#include "mo_cl.h"
#include "mo_cl_program.h"

/* mo_cl_heap_desc - how much, and in what pieces.
 *
 * budget_bytes  of all buffers together; 0 = MEMOPT_CL_MEM of the environment in bytes, or with K,
 *               M or G behind the number; else the device's memory less a tenth, and at least
 *               600 MB less (a device that has no more than that: half of it)
 * buffer_bytes  of one buffer; a larger block gets one of its own, the last ones take what the
 *               budget has left; 0 = 64 MiB; cut down to the device's largest allocation
 * align_bytes   of every block, a power of two; raised to what a sub-buffer needs, so that each
 *               block can be one; 0 = 512
 * max_allocs    most blocks at once; 0 = 8192. Books take 80 bytes for each, and 80 in each buffer
 * debug         each block gets a buffer of its own, begins as NaNs, and has zones before and
 *               behind it that are checked when it is freed, and by mo_cl_heap_check. Slow. Also
 *               by MEMOPT_CL_DEBUG=1 of the environment. The zones are in no figure, and a block
 *               of the device's largest allocation does not fit with them
 * track         keeps the books of the blocks by category and reports when memory runs out; its own
 *               budget counts too; valid as long as the heap; NULL = none */
typedef struct mo_cl_heap_desc {
    uint64_t budget_bytes, buffer_bytes, align_bytes;
    size_t max_allocs;
    int debug;
    mo_track *track;
} mo_cl_heap_desc;

/* mo_cl_mem - size bytes at off of a buffer: a block, where handle is not 0 and is recognized as
 * stale when the block was freed; or a part of one, or of a buffer of your own, which the kernels
 * of memopt_cl take as well. size is what was asked for. {0} stands for NULL. */
typedef struct mo_cl_mem {
    cl_mem buffer;
    uint64_t off, size;
    uint64_t handle;
} mo_cl_mem;

/* mo_cl_heap_stats - figures in bytes.
 *
 * reserved_bytes   of all buffers; never above budget_bytes
 * used_bytes       of the blocks, rounded up to the alignment
 * largest_free     the largest block that fits into the buffers that are there
 * fragmentation    1 - largest_free_bytes / what is free in the buffers; 0 when nothing is
 * n_buffers        there now; n_created, n_released: since mo_cl_heap_init
 * n_failed         blocks refused: budget, device or books
 * n_damaged        blocks whose zones were found written to (mo_cl_heap_desc.debug)
 * staging_bytes    of host memory (mo_cl_staging.h), not in the budget
 * pinned_bytes     of that, page-locked
 * wrapped_bytes    of the caller's host memory (mo_cl_wrap.h), not in the budget */
typedef struct mo_cl_heap_stats {
    uint64_t budget_bytes, reserved_bytes, peak_reserved_bytes;
    uint64_t used_bytes, peak_used_bytes, largest_free_bytes;
    size_t n_buffers, n_allocs;
    uint64_t n_created, n_released, n_failed, n_damaged;
    uint64_t staging_bytes, peak_staging_bytes, pinned_bytes, wrapped_bytes;
    double fragmentation;
} mo_cl_heap_stats;

/* mo_cl_heap - owned by the caller, must not move; every field is private. */
typedef struct mo_cl_heap {
    mo_cl *cl;
    struct moi_cl_buffer *buffers;
    struct moi_cl_block *blocks; /* [max_allocs] */
    uint32_t free_block;
    size_t max_allocs;
    uint64_t align, buffer_bytes;
    int debug;
    mo_track *track;
    mo_cl_heap_stats stats;
} mo_cl_heap;

/* mo_cl_heap_init - an empty heap; buffers come with the first blocks. mo_cl_heap_free - release
 * everything, after waiting for both queues; blocks still allocated are taken off the track.
 *
 * cl    valid as long as the heap
 * desc  NULL = all defaults
 *
 * Memory:  the mo_cl's allocator
 * Threads: one at a time, as everything here, and not beside other calls on the same mo_cl
 * Errors:  MO_E_INVALID (NULL, align_bytes, max_allocs >= 2^31, MEMOPT_CL_MEM is not a number),
 *          MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_heap_init(
    mo_cl_heap *heap, mo_cl *cl, const mo_cl_heap_desc *desc);
MEMOPT_API void mo_cl_heap_free(mo_cl_heap *heap);

/* mo_cl_heap_alloc - a block of device memory; its content is undefined.
 *
 * size      1 or more
 * category  for the track; name as well, kept as a pointer, may be NULL
 * mem       out
 *
 * A buffer is made resident when it is created, so that a driver that puts that off fails here and
 * not in a kernel. When the budget or the device is full, empty buffers are released first.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, size 0), MO_E_UNSUPPORTED (larger than the device's largest
 *          allocation: split it), MO_E_NO_SPACE (the budget, the track's, or max_allocs),
 *          MO_E_NO_DEVICE_MEMORY, MO_E_NO_MEMORY; the log then hears budget, buffers and
 *          fragmentation, and the track reports what is held
 * Cost:    under 100 ns from a buffer that is there
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_heap_alloc(
    mo_cl_heap *heap, uint64_t size, mo_category category, const char *name, mo_cl_mem *mem);

/* mo_cl_heap_dealloc - free a block. Commands on the compute queue may still use it: those behind
 * them in that queue are what gets its bytes next. Commands on the transfer queue must be complete,
 * or waited for by the next one that uses new blocks.
 * mo_cl_heap_get - the block of a handle.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (handle is none, or was freed before); dealloc in debug mode: MO_E_STATE
 *          (something wrote around the block, which is freed all the same; the log says where)
 * Since:   0.1 */
MEMOPT_API mo_status mo_cl_heap_dealloc(mo_cl_heap *heap, uint64_t handle);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_heap_get(
    const mo_cl_heap *heap, uint64_t handle, mo_cl_mem *mem);

/* mo_cl_part - size bytes of mem from off on; {0} where they are not inside.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API mo_cl_mem mo_cl_part(const mo_cl_mem *mem, uint64_t off, uint64_t size);

/* mo_cl_heap_trim - release the buffers that hold no block, after waiting for both queues.
 *
 * freed_bytes  out  may be NULL
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL), those of mo_cl_sync (nothing is released then)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_heap_trim(mo_cl_heap *heap, uint64_t *freed_bytes);

/* mo_cl_heap_moved - what mo_cl_heap_defrag did: blocks moved, their bytes, bytes of the buffers
 * released. */
typedef struct mo_cl_heap_moved {
    uint64_t n_moves, bytes, freed_bytes;
} mo_cl_heap_moved;

/* mo_cl_heap_defrag - move blocks together, by copies on the device: empty whole buffers into the
 * gaps of others and release them, then slide the blocks of each buffer to its begin.
 * mo_cl_heap_pin - keep a block where it is from now on, or (pinned 0) no longer.
 *
 * max_bytes  most bytes to move; 0 = no limit
 * moved      out  also after a failure; may be NULL
 *
 * Handles stay valid, but every mo_cl_mem of a block that is not pinned may be stale, and so are
 * parts of it: call it between two steps, and ask mo_cl_heap_get for all of them then. Paged arrays
 * do that by themselves. A heap in debug mode moves nothing. Statistics before and after:
 * mo_cl_heap_get_stats.
 *
 * Memory:  64 bytes per block from the mo_cl's allocator, meanwhile
 * Threads: one at a time
 * Errors:  defrag: MO_E_INVALID (NULL), MO_E_NO_MEMORY, what OpenCL says: the content of a block
 *          that it failed to move within its buffer is undefined then. pin: MO_E_INVALID (handle)
 * Cost:    waits for both queues; twice the bytes moved, and up to 1024 commands for a block that
 *          overlaps its new place
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_heap_defrag(
    mo_cl_heap *heap, uint64_t max_bytes, mo_cl_heap_moved *moved);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_heap_pin(mo_cl_heap *heap, uint64_t handle, int pinned);

/* mo_cl_heap_check - in debug mode, whether something wrote around any block so far; waits for both
 * queues. Else nothing.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL), MO_E_STATE (something did; the log names block and distance), what
 *          OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_heap_check(mo_cl_heap *heap);

/* mo_cl_heap_get_stats - figures of this moment. Threads: one at a time. Since: 0.1 */
MEMOPT_API void mo_cl_heap_get_stats(const mo_cl_heap *heap, mo_cl_heap_stats *stats);

/* mo_cl_heap_space - a row of mo_track_write_spaces and of mo_report. Its peak is that of the
 * blocks. Threads: one at a time. Since: 0.1 */
MEMOPT_API mo_track_space mo_cl_heap_space(const char *name, const mo_cl_heap *heap);

/* ---- what is in the blocks ------------------------------------------------------------------ */

/* mo_cl_upload - host to device. mo_cl_download - device to host. mo_cl_copy - device to device.
 *
 * off    bytes into the block; off + size is within it
 * src    in   [size] host memory; dst out [size]
 * after  events to wait for; may be NULL
 * event  out  of the command, to be released by the caller; the host memory must stay valid and,
 *             for an upload, unchanged until it is complete. NULL: returns when it is complete
 *             (mo_cl_copy: it need not be)
 *
 * A size of 0 does nothing and gives a NULL event.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, range; copy: the ranges overlap), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_upload(mo_cl_heap *heap, mo_cl_queue queue,
    const mo_cl_mem *dst, uint64_t off, const void *src, size_t size, const mo_cl_wait_list *after,
    cl_event *event);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_download(mo_cl_heap *heap, mo_cl_queue queue, void *dst,
    const mo_cl_mem *src, uint64_t off, size_t size, const mo_cl_wait_list *after, cl_event *event);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_copy(mo_cl_heap *heap, mo_cl_queue queue,
    const mo_cl_mem *dst, uint64_t dst_off, const mo_cl_mem *src, uint64_t src_off, uint64_t size,
    const mo_cl_wait_list *after, cl_event *event);

/* mo_cl_fill_u32 - n words of a value, by a kernel; zero: value 0.
 *
 * off, n  in bytes and in words of 4 bytes; off is a multiple of 4
 *
 * after, event, Threads: as mo_cl_copy
 * Errors:  MO_E_INVALID (NULL, off, range), those of mo_cl_program_get and mo_cl_launch
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_fill_u32(mo_cl_heap *heap, mo_cl_queue queue,
    const mo_cl_mem *dst, uint64_t off, uint64_t n, uint32_t value, const mo_cl_wait_list *after,
    cl_event *event);

/* mo_cl_copy_u32 - mo_cl_copy by a kernel, in words of 4 bytes: the bandwidth that other kernels
 * are measured against. Offsets are bytes, multiples of 4; n is in words.
 *
 * after, event, Threads: as mo_cl_copy
 * Errors:  as mo_cl_fill_u32; MO_E_INVALID (the ranges overlap)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_copy_u32(mo_cl_heap *heap, mo_cl_queue queue,
    const mo_cl_mem *dst, uint64_t dst_off, const mo_cl_mem *src, uint64_t src_off, uint64_t n,
    const mo_cl_wait_list *after, cl_event *event);

/* How a mapped range is used. */
typedef enum mo_cl_access {
    MO_CL_READ = 0,
    MO_CL_WRITE,     /* both */
    MO_CL_OVERWRITE, /* everything in the range is written; what was there need not be fetched */
    MO_CL_ACCESS_COUNT
} mo_cl_access;

/* mo_cl_map - see a range of a block in host memory, when it returns; without a copy where
 * cl->info.unified says so. mo_cl_unmap - hand it back; kernels see what was written.
 *
 * size   1 or more
 * ptr    out  valid until mo_cl_unmap
 * after  may be NULL
 * event  out  of the hand-back; may be NULL: returns when it is complete
 *
 * No command may use the range meanwhile; others may use the rest of the block.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, range, access), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_map(mo_cl_heap *heap, mo_cl_queue queue,
    const mo_cl_mem *mem, uint64_t off, size_t size, mo_cl_access access,
    const mo_cl_wait_list *after, void **ptr);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_unmap(
    mo_cl_heap *heap, mo_cl_queue queue, const mo_cl_mem *mem, void *ptr, cl_event *event);

#endif
