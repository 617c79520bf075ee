/* mo_cl_arena.h - the memory of a plan on a device: an arena whose addresses stand for bytes there.
 *
 *     mo_plan_desc plan_desc = {0};
 *     plan_desc.align = mo_cl_arena_align(&cl);
 *     plan_desc.piece = mo_cl_arena_piece(&cl);
 *     ...                                              mo_plan_create
 *     mo_cl_arena arena;
 *     if (mo_cl_arena_init(&arena, &cl, mo_plan_describe(plan).peak_bytes, NULL) != MO_OK) ...
 *     if (mo_plan_bind(plan, &arena.tokens, &track) != MO_OK) ...
 *     while (mo_plan_next(plan, &step)) {
 *         mo_cl_mem x = mo_cl_arena_at(&arena, step.x, x_size);
 *
 * The device gives exactly the bytes of the plan, in one buffer, or in as many as its largest
 * allocation asks for. */
#ifndef MEMOPT_CL_ARENA_H
#define MEMOPT_CL_ARENA_H

#include "mo_cl_heap.h"

/* mo_cl_arena_desc
 *
 * budget_bytes  as in mo_cl_heap_desc
 * piece         of one buffer, as the plan's; 0 = mo_cl_arena_piece */
typedef struct mo_cl_arena_desc {
    uint64_t budget_bytes;
    size_t piece;
} mo_cl_arena_desc;

/* mo_cl_arena - owned by the caller, must not move.
 *
 * tokens  addresses to plan with; they stand for the device's bytes and must not be read or written
 * heap    that the buffers come from; its statistics tell what the device gave
 * pieces  [n_pieces] of piece bytes each, the last one of what is left */
typedef struct mo_cl_arena {
    mo_arena tokens;
    mo_cl_heap heap;
    mo_cl_mem *pieces;
    size_t piece, n_pieces, size;
} mo_cl_arena;

/* mo_cl_arena_align - bytes that a plan's tensors are aligned to on this device.
 * mo_cl_arena_piece - mo_plan_desc.piece for it: the largest buffer. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_cl_arena_align(const mo_cl *cl);
MEMOPT_API size_t mo_cl_arena_piece(const mo_cl *cl);

/* mo_cl_arena_init - take size bytes of the device. mo_cl_arena_free - give them back, after
 * waiting for both queues; also of a zeroed arena.
 *
 * cl    valid as long as the arena
 * size  bytes, rounded up to mo_cl_arena_align
 * desc  NULL = all defaults
 *
 * Memory:  size bytes of the device; of the host, address space alone
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, size 0, piece no multiple of the alignment or beyond the largest
 *          buffer), MO_E_NO_SPACE (the budget), MO_E_NO_DEVICE_MEMORY, MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_arena_init(
    mo_cl_arena *arena, mo_cl *cl, size_t size, const mo_cl_arena_desc *desc);
MEMOPT_API void mo_cl_arena_free(mo_cl_arena *arena);

/* mo_cl_arena_at - the device memory that an address stands for, size bytes from there on; {0} for
 * NULL, and for what is not inside one piece.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API mo_cl_mem mo_cl_arena_at(const mo_cl_arena *arena, const void *address, size_t size);

#endif
