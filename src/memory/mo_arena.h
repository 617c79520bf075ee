/* mo_arena.h - bump allocation over a caller's block or over address space that is committed as it
 * grows; everything freed at once, or back to a mark.
 *
 *     mo_arena arena;
 *     mo_arena_desc desc = {0};
 *     desc.limit = (size_t)300 << 20;
 *     if (mo_arena_init(&arena, &desc) != MO_OK) ...
 *     float *x = (float *)mo_arena_alloc(&arena, n * sizeof *x, 0);
 *     mo_arena_free(&arena);
 */
#ifndef MEMOPT_ARENA_H
#define MEMOPT_ARENA_H

#include "mo_base.h"

/* mo_arena_desc - where the memory comes from and how much of it may be used.
 *
 * block  caller's memory of size bytes, valid until mo_arena_free; NULL = reserve address space
 * size   bytes of block; without a block the bytes of address space to reserve, 0 = limit, and when
 *        that is 0 too: 64 GiB, 1 GiB on 32-bit systems (less where the system refuses that)
 * limit  budget in bytes; 0 or more than size = size
 * log    told about every allocation that does not fit; copied; NULL = silent
 * tokens not 0: memory is never committed. The addresses stand for bytes elsewhere, such as a
 *        device's, and must be neither read nor written */
typedef struct mo_arena_desc {
    void *block;
    size_t size;
    size_t limit;
    const mo_log *log;
    int tokens;
} mo_arena_desc;

/* mo_arena - owned by the caller; every field is private. */
typedef struct mo_arena {
    unsigned char *base;
    size_t reserved, committed, limit;
    size_t used, peak, dirty;
    size_t planned; /* claimed by a plan, piece by piece: other allocations go behind it */
    size_t last_begin, last_used; /* the most recent block (SIZE_MAX = none), and used before it */
    size_t wasted, n_allocs;
    size_t page; /* 0 = the block is the caller's */
    int tokens;
    mo_status status;
    mo_log log;
} mo_arena;

/* mo_arena_stats - all in bytes but n_allocs.
 *
 * used_bytes       handed out now, with the padding between blocks
 * peak_bytes       highest used_bytes since init; exact, not rounded to pages
 * committed_bytes  backed by memory; the block's size when the caller gave one
 * reserved_bytes   address space
 * limit_bytes      the budget
 * wasted_bytes     alignment padding of the n_allocs allocations since init or reset */
typedef struct mo_arena_stats {
    size_t used_bytes, peak_bytes, committed_bytes, reserved_bytes, limit_bytes, wasted_bytes;
    size_t n_allocs;
} mo_arena_stats;

/* mo_arena_init - start an empty arena. mo_arena_free - give everything back; also of a zeroed one.
 *
 * desc  NULL = all defaults
 *
 * Memory:  no heap; reserved address space costs no memory until it is committed
 * Threads: one at a time, as everything here
 * Errors:  MO_E_INVALID (NULL arena, block without size or with tokens), MO_E_NO_MEMORY (no address
 *          space)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_arena_init(mo_arena *arena, const mo_arena_desc *desc);
MEMOPT_API void mo_arena_free(mo_arena *arena);

/* mo_arena_alloc - the next size bytes. mo_arena_alloc_zero - the same, zeroed; memory that was
 * never used before is known to be zero and is not touched.
 *
 * align  any power of two; 0 = 64
 *
 * Memory:  the arena's, valid until rewind below it, reset or free; never moves
 * Threads: one at a time
 * Errors:  NULL when size is 0, align is no power of two, or it does not fit; the last sets
 *          mo_arena_status and logs one line with the bytes requested, used and allowed
 * Cost:    2 to 3 ns; 0.4 us when memory is committed, in steps that double from 64 KiB to 64 MiB
 * Since:   0.1 */
MEMOPT_API void *mo_arena_alloc(mo_arena *arena, size_t size, size_t align);
MEMOPT_API void *mo_arena_alloc_zero(mo_arena *arena, size_t size, size_t align);

/* mo_arena_status - MO_OK, or why the first allocation since init, rewind or reset that failed did:
 * MO_E_NO_SPACE (past the limit) or MO_E_NO_MEMORY (the system refused). So a row of allocations
 * needs one check at its end.
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_arena_status(const mo_arena *arena);

/* mo_arena_mark - the current position. mo_arena_rewind - free everything allocated since that
 * mark, and clear the status, so that a smaller try can be checked the same way.
 * mo_arena_reset - free everything and clear the status.
 *
 * Memory:  stays committed; see mo_arena_trim
 * Threads: one at a time
 * Errors:  rewind: MO_E_INVALID (the mark is past the current position); nothing is freed
 * Since:   0.1 */
MEMOPT_API size_t mo_arena_mark(const mo_arena *arena);
MEMOPT_API mo_status mo_arena_rewind(mo_arena *arena, size_t mark);
MEMOPT_API void mo_arena_reset(mo_arena *arena);

/* mo_arena_trim - give committed memory past the used part back to the system. Nothing for a
 * caller's block. Threads: one at a time. Since: 0.1 */
MEMOPT_API void mo_arena_trim(mo_arena *arena);

/* mo_arena_commit - back the first size bytes now, so that mo_arena_at and mo_arena_alloc within
 * them cannot fail. A system that overcommits (Linux's default) still finds pages at first touch.
 *
 * Threads: one at a time
 * Errors:  MO_E_NO_SPACE (size > limit), MO_E_NO_MEMORY (the system refused)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_arena_commit(mo_arena *arena, size_t size);

/* mo_arena_at - the address of the bytes [off, off + size) of the arena, for planned memory: a
 * layout decides the offsets, the arena enforces the limit and measures.
 *
 * off  bytes from the arena's first byte, which is aligned to a page, or as the caller's block is
 *
 * used and peak rise to off + size where that is more, to the byte; so peak_bytes is the plan's
 * peak when the plan ran in full. While a mo_plan is bound, mo_arena_alloc places behind all of it.
 *
 * Memory:  the arena's; ranges may overlap, that is the plan's business
 * Threads: one at a time
 * Errors:  NULL as mo_arena_alloc; size 0 is fine here
 * Since:   0.1 */
MEMOPT_API void *mo_arena_at(mo_arena *arena, size_t off, size_t size);

/* mo_arena_allocator - the arena as a mo_allocator, valid while the arena is. Freeing the most
 * recent block gives it back; other frees do nothing. Threads: one at a time. Since: 0.1 */
MEMOPT_API mo_allocator mo_arena_allocator(mo_arena *arena);

/* mo_arena_get_stats - figures of this moment. Threads: one at a time. Since: 0.1 */
MEMOPT_API void mo_arena_get_stats(const mo_arena *arena, mo_arena_stats *stats);

#endif
