/* mo_suballoc.h - allocates offsets in a range: a host block, a device buffer, a file. It never
 * touches the memory that it manages; its books lie elsewhere.
 *
 *     mo_suballoc sub;
 *     mo_suballoc_desc desc = {0};
 *     desc.size = (uint64_t)4 << 30;
 *     if (mo_suballoc_init(&sub, &desc) != MO_OK) ...
 *     mo_suballoc_block block;
 *     if (mo_suballoc_alloc(&sub, bytes, 0, &block) == MO_OK) use(block.off);
 *     mo_suballoc_dealloc(&sub, block.handle);
 */
#ifndef MEMOPT_SUBALLOC_H
#define MEMOPT_SUBALLOC_H

#include "mo_base.h"

/* mo_suballoc_desc - the range and the size of the books.
 *
 * size        bytes of the range, up to 2^62; cut down to a multiple of granule
 * granule     power of two; offsets and sizes are multiples of it; 0 = 256
 * max_allocs  most blocks allocated at once, up to 2^30; 0 = 65536
 * workspace   caller's memory of mo_suballoc_workspace_size bytes, any alignment, valid until
 *             mo_suballoc_free; NULL = taken from allocator
 * allocator   copied; NULL = heap */
typedef struct mo_suballoc_desc {
    uint64_t size;
    uint64_t granule;
    size_t max_allocs;
    void *workspace;
    const mo_allocator *allocator;
} mo_suballoc_desc;

/* mo_suballoc_block - a part of the range. handle is never 0 for an allocated block, and 0 for a
 * free one; it stays valid when the block is moved, and is recognized as stale when it was
 * freed. */
typedef struct mo_suballoc_block {
    uint64_t handle;
    uint64_t off;
    uint64_t size;
    uint32_t position; /* private */
} mo_suballoc_block;

/* mo_suballoc_move - copy size bytes from one offset to a lower one. Where overlaps is set, the two
 * ranges overlap: use memmove, or copy ascending pieces of from - to bytes. */
typedef struct mo_suballoc_move {
    uint64_t handle;
    uint64_t from, to, size;
    int overlaps;
} mo_suballoc_move;

/* mo_suballoc_stats - bytes are multiples of the granule.
 *
 * extent_bytes   end of the highest block that ever was
 * top_bytes      end of the highest block that is allocated now
 * fragmentation  1 - largest_free_bytes / free_bytes; 0 when nothing is free */
typedef struct mo_suballoc_stats {
    uint64_t size_bytes, used_bytes, free_bytes, peak_bytes, extent_bytes, top_bytes;
    uint64_t largest_free_bytes;
    size_t n_allocs, n_free_blocks;
    double fragmentation;
} mo_suballoc_stats;

/* mo_suballoc - owned by the caller; every field is private. */
typedef struct mo_suballoc {
    struct moi_suballoc_node *nodes; /* [max_nodes] */
    struct moi_suballoc_bins *bins;
    uint32_t n_nodes, max_nodes, first, last, free_node, n_allocs, max_allocs, n_free;
    int shift;                         /* log2 of the granule */
    uint64_t size, used, peak, extent; /* in granules */
    uint64_t n_changes, planned_at;
    void *workspace; /* to be given back; NULL = the caller's */
    size_t workspace_size;
    mo_allocator allocator;
} mo_suballoc;

/* mo_suballoc_workspace_size - bytes of the books: 8.5 KiB and 80 bytes per max_allocs.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (size below a granule, granule, max_allocs), MO_E_OVERFLOW
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_suballoc_workspace_size(
    const mo_suballoc_desc *desc, size_t *size);

/* mo_suballoc_init - a range that is all free. mo_suballoc_free - give the workspace back.
 *
 * Threads: one at a time, as everything here
 * Errors:  as mo_suballoc_workspace_size; MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_suballoc_init(
    mo_suballoc *sub, const mo_suballoc_desc *desc);
MEMOPT_API void mo_suballoc_free(mo_suballoc *sub);

/* mo_suballoc_alloc - the smallest free part that is large enough, nearly always (of equal ones the
 * lowest), cut to size.
 *
 * size   bytes, 1 or more; rounded up to the granule
 * align  of the offset, a power of two up to 2^62; 0 = granule
 * block  out  handle, offset, size
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (size, align), MO_E_NO_SPACE (no free part is large enough, or max_allocs)
 * Cost:    15-25 ns; a failing call may look at every free block of one size class
 * Source:  Masmano et al. 2004, TLSF: a new dynamic memory allocator for real-time systems; with
 *          best fit inside the size class, which takes exact best fit's memory at TLSF's speed
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_suballoc_alloc(
    mo_suballoc *sub, uint64_t size, uint64_t align, mo_suballoc_block *block);

/* mo_suballoc_alloc_at - the part of the range that begins at off, when it is free.
 *
 * off    multiple of the granule
 * size   bytes, 1 or more; rounded up to the granule
 * block  out  handle, offset, size
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (off, size), MO_E_NO_SPACE (some of it is in use, or max_allocs)
 * Cost:    walks over the parts below off or over those above, whichever are fewer
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_suballoc_alloc_at(
    mo_suballoc *sub, uint64_t off, uint64_t size, mo_suballoc_block *block);

/* mo_suballoc_split - cut a block in two: its first size bytes keep the handle, the rest becomes a
 * block of its own. So a part of a block can be freed, at its end or in its middle.
 *
 * size  multiple of the granule, less than the block's
 * rest  out  the new block; defragmentation takes it as aligned to the granule
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (handle, size), MO_E_NO_SPACE (max_allocs)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_suballoc_split(
    mo_suballoc *sub, uint64_t handle, uint64_t size, mo_suballoc_block *rest);

/* mo_suballoc_dealloc - free a block; it joins free neighbours. mo_suballoc_get - its place now.
 * mo_suballoc_reset - free all blocks; their handles become stale.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (handle is none, was freed before, or is from before a reset)
 * Since:   0.1 */
MEMOPT_API mo_status mo_suballoc_dealloc(mo_suballoc *sub, uint64_t handle);
MEMOPT_API mo_status mo_suballoc_get(
    const mo_suballoc *sub, uint64_t handle, mo_suballoc_block *block);
MEMOPT_API void mo_suballoc_reset(mo_suballoc *sub);

/* mo_suballoc_next - step through all parts, allocated and free, by rising offset; they cover the
 * range without holes. Returns 0 after the last.
 *
 *     mo_suballoc_block block = {0};
 *     while (mo_suballoc_next(&sub, &block)) show(&block);
 *
 * block  in and out; {0} = before the first
 *
 * Threads: one at a time; nothing may change between two steps
 * Since:   0.1 */
MEMOPT_API int mo_suballoc_next(const mo_suballoc *sub, mo_suballoc_block *block);

/* mo_suballoc_get_stats - figures of this moment. Threads: one at a time. Since: 0.1 */
MEMOPT_API void mo_suballoc_get_stats(const mo_suballoc *sub, mo_suballoc_stats *stats);

/* mo_suballoc_defrag_plan - moves that slide the blocks together, lowest first.
 * mo_suballoc_defrag_commit - the moves were made: from now on the blocks are at their new offsets.
 *
 * The protocol: plan; copy the moves in their order, all of them or the first n; commit those n;
 * ask mo_suballoc_get, or take move.to, for the new offsets. Nothing may be allocated or freed
 * between plan and commit. In that order no copy overwrites what is still to be moved, and every
 * offset keeps the alignment that it was allocated with.
 *
 * max_bytes     most bytes to move; 0 = no limit
 * skip_overlap  leave blocks in place that would overlap their own new place
 * moves         out  [capacity]
 * n_moves       out  moves written; at most capacity
 *
 * Threads: one at a time
 * Errors:  plan: MO_E_INVALID (NULL). commit: MO_E_STATE (a change since the plan), MO_E_INVALID
 *          (not the planned moves; those before the wrong one are done)
 * Cost:    one pass over the blocks
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_suballoc_defrag_plan(mo_suballoc *sub, uint64_t max_bytes,
    int skip_overlap, mo_suballoc_move *moves, size_t capacity, size_t *n_moves);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_suballoc_defrag_commit(
    mo_suballoc *sub, const mo_suballoc_move *moves, size_t n_moves);

#endif
