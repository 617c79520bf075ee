/* mo_pool.h - blocks of one size, acquired and released in O(1), in any order.
 *
 *     mo_pool pool;
 *     mo_pool_desc desc = {0};
 *     desc.block_size = 4096;
 *     desc.n_blocks = 100;
 *     if (mo_pool_init(&pool, &desc) != MO_OK) ...
 *     void *page = mo_pool_acquire(&pool);
 */
#ifndef MEMOPT_POOL_H
#define MEMOPT_POOL_H

#include "mo_base.h"

/* mo_pool_desc - what the pool consists of.
 *
 * block_size    bytes of a block
 * n_blocks      1..2^31
 * align         of every block, a power of two; 0 = 64
 * thread_safe   acquire, release and the figures may be called from any threads at once (lock-free)
 * indices_only  no memory behind the blocks: the pool hands out indices, as for slots of a device
 *               buffer; block_size may then be 0
 * workspace     caller's memory of mo_pool_workspace_size bytes, any alignment, valid until
 *               mo_pool_free; NULL = taken from allocator
 * allocator     copied; NULL = heap */
typedef struct mo_pool_desc {
    size_t block_size;
    size_t n_blocks;
    size_t align;
    int thread_safe;
    int indices_only;
    void *workspace;
    const mo_allocator *allocator;
} mo_pool_desc;

/* mo_pool - owned by the caller; every field is private. */
typedef struct mo_pool {
    struct moi_pool_shared *shared;
    struct moi_pool_link *links; /* [n_blocks] free list */
    uint8_t *used;               /* [n_blocks] 1 = acquired */
    unsigned char *blocks;       /* NULL = indices only */
    size_t block_size, stride, inverse;
    uint32_t n_blocks;
    int shift, thread_safe;
    void *workspace; /* to be given back; NULL = the caller's */
    size_t workspace_size;
    mo_allocator allocator;
} mo_pool;

/* mo_pool_stats - n_failed counts acquires that found the pool empty. */
typedef struct mo_pool_stats {
    size_t n_blocks, n_used, n_peak, n_failed;
    size_t block_size;
} mo_pool_stats;

/* "No block", as an index. */
#define MEMOPT_POOL_NONE 0xffffffffu

/* mo_pool_workspace_size - bytes that the pool needs: the blocks, and 9 bytes for each of them.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (block_size, n_blocks, align), MO_E_OVERFLOW
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_pool_workspace_size(
    const mo_pool_desc *desc, size_t *size);

/* mo_pool_init - a pool with all blocks free. mo_pool_free - the end of all blocks.
 *
 * Memory:  the workspace
 * Threads: one at a time, also when thread_safe
 * Errors:  as mo_pool_workspace_size; MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_pool_init(mo_pool *pool, const mo_pool_desc *desc);
MEMOPT_API void mo_pool_free(mo_pool *pool);

/* mo_pool_acquire - a block, its content undefined. mo_pool_release - it is free again.
 *
 * Memory:  the pool's; the block is the caller's until it is released
 * Threads: safe when thread_safe, else one at a time
 * Errors:  acquire: NULL when all blocks are in use, or indices_only.
 *          release: MO_E_INVALID (not a block of this pool, or not acquired: a double release)
 * Cost:    2 to 3 ns; thread_safe 20 ns, more when threads meet
 * Since:   0.1 */
MEMOPT_API void *mo_pool_acquire(mo_pool *pool);
MEMOPT_API mo_status mo_pool_release(mo_pool *pool, void *block);

/* mo_pool_acquire_index, mo_pool_release_index - the same by index, 0..n_blocks-1.
 *
 * Threads: safe when thread_safe, else one at a time
 * Errors:  acquire: MEMOPT_POOL_NONE when all are in use; release: MO_E_INVALID
 * Since:   0.1 */
MEMOPT_API uint32_t mo_pool_acquire_index(mo_pool *pool);
MEMOPT_API mo_status mo_pool_release_index(mo_pool *pool, uint32_t index);

/* mo_pool_index - index of a block, MEMOPT_POOL_NONE when ptr is not the begin of one.
 * mo_pool_at - the block with that index, NULL out of range or indices_only.
 * mo_pool_owns - whether ptr is the begin of a block of this pool, free or not.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API uint32_t mo_pool_index(const mo_pool *pool, const void *ptr);
MEMOPT_API void *mo_pool_at(const mo_pool *pool, uint32_t index);
MEMOPT_API int mo_pool_owns(const mo_pool *pool, const void *ptr);

/* mo_pool_allocator - the pool as a mo_allocator, valid while the pool is. Requests that are larger
 * or more strictly aligned than a block return NULL. Threads: as acquire. Since: 0.1 */
MEMOPT_API mo_allocator mo_pool_allocator(mo_pool *pool);

/* mo_pool_get_stats - figures of this moment; while other threads work they may be a moment apart.
 *
 * Threads: as acquire
 * Since:   0.1 */
MEMOPT_API void mo_pool_get_stats(const mo_pool *pool, mo_pool_stats *stats);

#endif
