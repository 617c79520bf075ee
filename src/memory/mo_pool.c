/* mo_pool.c - see mo_pool.h.
 *
 * The free list is a stack of indices outside the blocks, so that device memory can be managed too
 * and a thread never reads a block that another one owns. Shared, its head is one word of index and
 * tag; the tag grows with every change, so that a compare-and-swap never mistakes an index that was
 * popped and pushed meanwhile for an unchanged stack (Treiber 1986). Each block of the stack knows
 * how deep it lies, so that the number of free blocks can be read off the head: a counter would be
 * one more word that all threads write. */

typedef struct moi_pool_shared {
    uint64_t head;                                          /* tag << 32 | index */
    unsigned char apart[MOI_CACHE_LINE - sizeof(uint64_t)]; /* the rest is rarely written */
    uint32_t n_peak, n_failed;
    uint32_t n_used; /* of a pool for one thread */
} moi_pool_shared;

/* A free block: the next one, and how many are free from this one down. */
typedef struct moi_pool_link {
    uint32_t next, depth;
} moi_pool_link;

/* ---- atomics ------------------------------------------------------------------------------- */

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
static uint64_t moi_pool_load64(const uint64_t *at) {
    return (uint64_t)_InterlockedCompareExchange64((volatile __int64 *)at, 0, 0);
}
static int moi_pool_cas64(uint64_t *at, uint64_t *expected, uint64_t wanted) {
    uint64_t was = (uint64_t)_InterlockedCompareExchange64(
        (volatile __int64 *)at, (__int64)wanted, (__int64)*expected);
    int done = was == *expected;
    *expected = was;
    return done;
}
static uint32_t moi_pool_load32(const uint32_t *at) { return *(const volatile uint32_t *)at; }
static void moi_pool_store32(uint32_t *at, uint32_t value) { *(volatile uint32_t *)at = value; }
static uint32_t moi_pool_add32(uint32_t *at, uint32_t value) {
    return (uint32_t)_InterlockedExchangeAdd((volatile long *)at, (long)value) + value;
}
static int moi_pool_cas32(uint32_t *at, uint32_t *expected, uint32_t wanted) {
    uint32_t was =
        (uint32_t)_InterlockedCompareExchange((volatile long *)at, (long)wanted, (long)*expected);
    int done = was == *expected;
    *expected = was;
    return done;
}
static void moi_pool_store8(uint8_t *at, uint8_t value) { *(volatile uint8_t *)at = value; }
static uint8_t moi_pool_exchange8(uint8_t *at, uint8_t value) {
    return (uint8_t)_InterlockedExchange8((volatile char *)at, (char)value);
}
#else
static uint64_t moi_pool_load64(const uint64_t *at) {
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
static int moi_pool_cas64(uint64_t *at, uint64_t *expected, uint64_t wanted) {
    return __atomic_compare_exchange_n(at, expected, wanted, 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
static uint32_t moi_pool_load32(const uint32_t *at) {
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}
static void moi_pool_store32(uint32_t *at, uint32_t value) {
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}
static uint32_t moi_pool_add32(uint32_t *at, uint32_t value) {
    return __atomic_add_fetch(at, value, __ATOMIC_RELAXED);
}
static int moi_pool_cas32(uint32_t *at, uint32_t *expected, uint32_t wanted) {
    return __atomic_compare_exchange_n(at, expected, wanted, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
static void moi_pool_store8(uint8_t *at, uint8_t value) {
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
}
static uint8_t moi_pool_exchange8(uint8_t *at, uint8_t value) {
    return __atomic_exchange_n(at, value, __ATOMIC_ACQ_REL);
}
#endif

#if MOI_X86
#define MOI_POOL_PAUSE() _mm_pause()
#elif MOI_NEON && (defined(__GNUC__) || defined(__clang__))
#define MOI_POOL_PAUSE() __asm__ volatile("yield")
#else
#define MOI_POOL_PAUSE() ((void)0)
#endif

/* ---- start and end ------------------------------------------------------------------------- */

/* Where the parts lie in the workspace. Counters, table and blocks each begin a cache line. */
typedef struct moi_pool_parts {
    size_t stride, links_off, used_off, blocks_off, size;
} moi_pool_parts;

/* Adds n * size bytes to the end of the parts and returns where they begin in *off. */
static int moi_pool_part(size_t *end, size_t n, size_t size, size_t align, size_t *off) {
    size_t bytes;
    return moi_mul(n, size, &bytes) && moi_align_up(*end, align, off) && moi_add(*off, bytes, end);
}

static mo_status moi_pool_layout(const mo_pool_desc *desc, moi_pool_parts *parts) {
    size_t align = desc->align ? desc->align : (size_t)MOI_CACHE_LINE, end = 0, head_off;
    int has_memory = !desc->indices_only;
    if (desc->n_blocks == 0 || desc->n_blocks > 0x80000000u) return MO_E_INVALID;
    if (!moi_is_pow2(align) || (has_memory && desc->block_size == 0)) return MO_E_INVALID;
    if (!moi_align_up(desc->block_size, align, &parts->stride)) return MO_E_OVERFLOW;
    if (!has_memory) parts->stride = 0, align = 1;
    size_t line = moi_max(align, MOI_CACHE_LINE), n = desc->n_blocks;
    if (!moi_pool_part(&end, 1, sizeof(moi_pool_shared), MOI_CACHE_LINE, &head_off) ||
        !moi_pool_part(&end, n, sizeof(moi_pool_link), MOI_CACHE_LINE, &parts->links_off) ||
        !moi_pool_part(&end, n, 1, MOI_CACHE_LINE, &parts->used_off) ||
        !moi_pool_part(&end, n, parts->stride, line, &parts->blocks_off) ||
        !moi_add(end, line, &parts->size)) /* for a workspace that is not aligned */
        return MO_E_OVERFLOW;
    return MO_OK;
}

mo_status mo_pool_workspace_size(const mo_pool_desc *desc, size_t *size) {
    moi_pool_parts parts;
    if (!desc || !size) return MO_E_INVALID;
    mo_status status = moi_pool_layout(desc, &parts);
    if (status == MO_OK) *size = parts.size;
    return status;
}

/* The begin of a block is off = index * stride with stride = odd << shift. Multiplying off >> shift
 * by the inverse of odd gives the index back exactly, without a division, and any other off gives
 * an index that fails index * stride == off. Newton's method doubles the correct bits, from 3. */
static void moi_pool_set_stride(mo_pool *pool, size_t stride) {
    size_t odd = stride, inverse;
    pool->stride = stride;
    while (odd != 0 && (odd & 1) == 0) odd >>= 1, pool->shift++;
    inverse = odd;
    for (int i = 0; i < 5; i++) inverse *= 2 - odd * inverse;
    pool->inverse = inverse;
}

static void moi_pool_place(mo_pool *pool, unsigned char *base, const moi_pool_parts *parts) {
    pool->shared = (moi_pool_shared *)(void *)base;
    pool->links = (moi_pool_link *)(void *)(base + parts->links_off);
    pool->used = base + parts->used_off;
    memset(pool->shared, 0, sizeof *pool->shared);
    memset(pool->used, 0, pool->n_blocks);
    for (uint32_t i = 0; i < pool->n_blocks; i++) {
        pool->links[i].next = i + 1;
        pool->links[i].depth = pool->n_blocks - i;
    }
    pool->links[pool->n_blocks - 1].next = MEMOPT_POOL_NONE;
    if (parts->stride == 0) return;
    pool->blocks = base + parts->blocks_off;
    MOI_POISON(pool->blocks, pool->stride * pool->n_blocks);
}

mo_status mo_pool_init(mo_pool *pool, const mo_pool_desc *desc) {
    moi_pool_parts parts;
    mo_pool made;
    if (!pool || !desc) return MO_E_INVALID;
    mo_status status = moi_pool_layout(desc, &parts);
    if (status != MO_OK) return status;
    memset(&made, 0, sizeof made);
    if (desc->allocator) made.allocator = *desc->allocator;
    made.block_size = desc->block_size;
    made.n_blocks = (uint32_t)desc->n_blocks;
    made.thread_safe = desc->thread_safe;
    made.workspace_size = parts.size;
    moi_pool_set_stride(&made, parts.stride);
    if (!desc->workspace) made.workspace = mo_alloc(&made.allocator, parts.size, MOI_CACHE_LINE);
    void *memory = desc->workspace ? desc->workspace : made.workspace;
    if (!memory) return MO_E_NO_MEMORY;
    size_t align = moi_max(desc->indices_only ? 0 : desc->align, MOI_CACHE_LINE);
    size_t skip = (size_t)(0 - (uintptr_t)memory) & (align - 1);
    moi_pool_place(&made, (unsigned char *)memory + skip, &parts);
    *pool = made;
    return MO_OK;
}

void mo_pool_free(mo_pool *pool) {
    if (!pool || !pool->shared) return;
    if (pool->blocks) MOI_UNPOISON(pool->blocks, pool->stride * pool->n_blocks);
    mo_free(&pool->allocator, pool->workspace, pool->workspace_size, MOI_CACHE_LINE);
    memset(pool, 0, sizeof *pool);
}

/* ---- one thread ---------------------------------------------------------------------------- */

static uint32_t moi_pool_pop(mo_pool *pool) {
    moi_pool_shared *shared = pool->shared;
    uint32_t index = (uint32_t)shared->head;
    if (index == MEMOPT_POOL_NONE) {
        shared->n_failed++;
        return index;
    }
    shared->head = pool->links[index].next;
    pool->used[index] = 1;
    if (++shared->n_used > shared->n_peak) shared->n_peak = shared->n_used;
    return index;
}

static mo_status moi_pool_push(mo_pool *pool, uint32_t index) {
    if (!pool->used[index]) return MO_E_INVALID;
    if (pool->blocks) MOI_POISON(pool->blocks + index * pool->stride, pool->stride);
    pool->used[index] = 0;
    pool->links[index].next = (uint32_t)pool->shared->head;
    pool->shared->head = index;
    pool->shared->n_used--;
    return MO_OK;
}

/* ---- many threads -------------------------------------------------------------------------- */

static void moi_pool_shared_peak(moi_pool_shared *shared, uint32_t n_used) {
    uint32_t peak = moi_pool_load32(&shared->n_peak);
    while (n_used > peak && !moi_pool_cas32(&shared->n_peak, &peak, n_used)) {
    }
}

static uint64_t moi_pool_head(uint64_t old, uint32_t index) {
    return ((old >> 32) + 1) << 32 | index;
}

static uint32_t moi_pool_depth(const mo_pool *pool, uint32_t index) {
    return index == MEMOPT_POOL_NONE ? 0 : moi_pool_load32(&pool->links[index].depth);
}

/* Two threads that met once should not meet again at once. */
static void moi_pool_back_off(unsigned *spins) {
    for (unsigned i = 0; i < *spins; i++) MOI_POOL_PAUSE();
    if (*spins < 64) *spins *= 2;
}

/* The link may be stale by the time it is read, but then the tag has changed and the swap fails.
 * After the swap the block is this thread's: nobody else writes its used. */
static uint32_t moi_pool_shared_pop(mo_pool *pool) {
    moi_pool_shared *shared = pool->shared;
    uint64_t head = moi_pool_load64(&shared->head);
    uint32_t index, depth;
    for (unsigned spins = 1;; moi_pool_back_off(&spins)) {
        index = (uint32_t)head;
        if (index == MEMOPT_POOL_NONE) {
            moi_pool_add32(&shared->n_failed, 1);
            return index;
        }
        depth = moi_pool_load32(&pool->links[index].depth);
        uint32_t next = moi_pool_load32(&pool->links[index].next);
        if (moi_pool_cas64(&shared->head, &head, moi_pool_head(head, next))) break;
    }
    moi_pool_store8(&pool->used[index], 1);
    moi_pool_shared_peak(shared, pool->n_blocks - depth + 1);
    return index;
}

/* The exchange lets exactly one of two threads that release the same block through. */
static mo_status moi_pool_shared_push(mo_pool *pool, uint32_t index) {
    moi_pool_shared *shared = pool->shared;
    if (!moi_pool_exchange8(&pool->used[index], 0)) return MO_E_INVALID;
    if (pool->blocks) MOI_POISON(pool->blocks + index * pool->stride, pool->stride);
    uint64_t head = moi_pool_load64(&shared->head);
    for (unsigned spins = 1;; moi_pool_back_off(&spins)) {
        moi_pool_store32(&pool->links[index].next, (uint32_t)head);
        moi_pool_store32(&pool->links[index].depth, moi_pool_depth(pool, (uint32_t)head) + 1);
        if (moi_pool_cas64(&shared->head, &head, moi_pool_head(head, index))) return MO_OK;
    }
}

/* ---- the API ------------------------------------------------------------------------------- */

uint32_t mo_pool_acquire_index(mo_pool *pool) {
    uint32_t index = pool->thread_safe ? moi_pool_shared_pop(pool) : moi_pool_pop(pool);
    if (index != MEMOPT_POOL_NONE && pool->blocks)
        MOI_UNPOISON(pool->blocks + index * pool->stride, pool->block_size);
    return index;
}

mo_status mo_pool_release_index(mo_pool *pool, uint32_t index) {
    if (index >= pool->n_blocks) return MO_E_INVALID;
    return pool->thread_safe ? moi_pool_shared_push(pool, index) : moi_pool_push(pool, index);
}

void *mo_pool_acquire(mo_pool *pool) {
    if (!pool->blocks) return NULL;
    uint32_t index = mo_pool_acquire_index(pool);
    return index == MEMOPT_POOL_NONE ? NULL : pool->blocks + index * pool->stride;
}

mo_status mo_pool_release(mo_pool *pool, void *block) {
    return mo_pool_release_index(pool, mo_pool_index(pool, block));
}

uint32_t mo_pool_index(const mo_pool *pool, const void *ptr) {
    if (!pool->blocks) return MEMOPT_POOL_NONE;
    size_t off = (size_t)((uintptr_t)ptr - (uintptr_t)pool->blocks);
    size_t index = (off >> pool->shift) * pool->inverse;
    return index < pool->n_blocks && index * pool->stride == off ? (uint32_t)index
                                                                 : MEMOPT_POOL_NONE;
}

void *mo_pool_at(const mo_pool *pool, uint32_t index) {
    return pool->blocks && index < pool->n_blocks ? pool->blocks + index * pool->stride : NULL;
}

int mo_pool_owns(const mo_pool *pool, const void *ptr) {
    return mo_pool_index(pool, ptr) != MEMOPT_POOL_NONE;
}

static void *moi_pool_alloc_hook(void *self, size_t size, size_t align) {
    mo_pool *pool = (mo_pool *)self;
    if (size > pool->block_size || (pool->stride & (align - 1)) != 0) return NULL;
    if (((uintptr_t)pool->blocks & (align - 1)) != 0) return NULL;
    return mo_pool_acquire(pool);
}

static void moi_pool_free_hook(void *self, void *ptr, size_t size, size_t align) {
    mo_status status = mo_pool_release((mo_pool *)self, ptr);
    (void)size, (void)align;
    MEMOPT_ASSERT(status == MO_OK);
    (void)status;
}

mo_allocator mo_pool_allocator(mo_pool *pool) {
    mo_allocator allocator;
    allocator.alloc = moi_pool_alloc_hook;
    allocator.free = moi_pool_free_hook;
    allocator.self = pool;
    return allocator;
}

void mo_pool_get_stats(const mo_pool *pool, mo_pool_stats *stats) {
    stats->n_blocks = pool->n_blocks;
    stats->n_used = pool->shared->n_used;
    if (pool->thread_safe) {
        uint32_t index = (uint32_t)moi_pool_load64(&pool->shared->head);
        stats->n_used = pool->n_blocks - moi_pool_depth(pool, index);
    }
    stats->n_peak = moi_pool_load32(&pool->shared->n_peak);
    stats->n_failed = moi_pool_load32(&pool->shared->n_failed);
    stats->block_size = pool->block_size;
}

#undef MOI_POOL_PAUSE
