/* mo_replay.h - an allocator for steps that repeat: one step is recorded, its blocks are laid out
 * as a whole, and later steps are served from that plan. So a training run, of sequences of many
 * lengths too, takes no more than the most bytes that are live at once. What comes differently than
 * planned is served all the same.
 *
 *     mo_replay replay;
 *     mo_replay_desc desc = {0};
 *     desc.arena = &arena;
 *     if (mo_replay_init(&replay, &desc) != MO_OK) ...
 *     mo_allocator allocator = mo_replay_allocator(&replay);
 *     for (;;) {
 *         must(mo_replay_begin_step(&replay, batch << 32 | seq));
 *         train(&allocator, batch, seq);
 *         must(mo_replay_end_step(&replay));
 *     }
 */
#ifndef MEMOPT_REPLAY_H
#define MEMOPT_REPLAY_H

#include "mo_base.h"
#include "mo_arena.h"
#include "mo_layout.h"
#include "mo_suballoc.h"

/* mo_replay_desc - the range to allocate from, one of three kinds, and how to plan.
 *
 * arena         the range is size bytes of this arena, behind what it holds already, committed as
 *               needed. Until mo_replay_free the arena is neither reset nor rewound and no mo_plan
 *               is bound to it; what it allocates meanwhile lies behind the range
 * block         or the range is the caller's memory, size bytes, valid until mo_replay_free;
 *               neither of them: offsets alone, for a device buffer or a file
 * size          bytes of the range; 0 = all that the arena may still use
 * granule       power of two; offsets and sizes are multiples of it; 0 = 64
 * max_live      most blocks at once, up to 2^28; 0 = 16384
 * max_plans     plans that are kept; the one not used for longest makes room; 0 = 16
 * ordered_keys  keys grow with the shape, as the number of tokens does: a step that has no plan is
 *               served by the plan of the largest key above its own, as long as its blocks fit
 *               into those places. So one plan serves all shorter steps
 * layout        how plans are solved; its align is not used; its pointers stay valid
 * allocator     for the tables, and for a plan when it is made; copied; NULL = heap */
typedef struct mo_replay_desc {
    mo_arena *arena;
    void *block;
    size_t size;
    size_t granule;
    size_t max_live;
    size_t max_plans;
    int ordered_keys;
    mo_layout_desc layout;
    const mo_allocator *allocator;
} mo_replay_desc;

/* mo_replay_stats - bytes of the range, from its first byte; live bytes as they were asked for.
 *
 * reserved_bytes    end of the highest block or plan that ever was
 * replayed_bytes    end of the highest block or plan in steps that a plan served in full
 * n_live, n_plans   blocks and plans there are now
 * n_hits            steps that a plan served in full
 * n_misses          steps without a plan
 * n_fallbacks       steps that left their plan
 * n_layouts         plans made, also those that others have replaced */
typedef struct mo_replay_stats {
    size_t live_bytes, live_peak_bytes;
    size_t reserved_bytes, replayed_bytes;
    size_t n_live, n_plans;
    uint64_t n_hits, n_misses, n_fallbacks, n_layouts;
} mo_replay_stats;

/* mo_replay - owned by the caller; every field is private. */
typedef struct mo_replay {
    mo_suballoc sub;
    mo_replay_desc desc; /* with every zero replaced */
    unsigned char *memory;
    size_t start, backed, size; /* where the range lies in the arena; bytes that are committed */
    size_t max_align;
    struct moi_replay_block *table; /* [table_mask + 1] live blocks by offset */
    size_t table_mask;
    int table_shift;
    struct moi_replay_item *record; /* [n_record] what this step has asked for */
    size_t n_record, max_record;
    struct moi_replay_plan *plans; /* [n_plans] */
    struct moi_replay_plan *plan;  /* that this step follows; NULL = none */
    size_t at, n_planned;          /* next item of it; live blocks in it */
    uint64_t key, clock, epoch;    /* epoch: changes of the blocks outside of steps */
    int in_step, has_left, is_complete;
    size_t step_top;
    size_t n_live;
    mo_replay_stats stats;
    mo_allocator allocator;
} mo_replay;

/* mo_replay_init - a range that is all free. mo_replay_free - the end of all its blocks.
 *
 * Memory:  210 bytes per max_live, 145 for a power of two
 * Threads: one at a time, as everything here
 * Errors:  MO_E_INVALID (arena and block, no size, granule, max_live), MO_E_STATE (the arena has a
 *          plan or a replay already), MO_E_NO_SPACE (the arena has no room), MO_E_OVERFLOW,
 *          MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_replay_init(mo_replay *replay, const mo_replay_desc *desc);
MEMOPT_API void mo_replay_free(mo_replay *replay);

/* mo_replay_begin_step, mo_replay_end_step - the bounds of what repeats, as one training step.
 *
 * key  names the shape: steps with the same key ask for the same blocks in the same order
 *
 * A step without a plan is recorded and served as mo_suballoc does; its end makes the plan. A later
 * step takes for its i-th block the i-th place, as long as size and alignment fit into that and all
 * blocks that the plan counts on are freed. At the first difference the step leaves the plan: its
 * blocks stay where they are, the rest of the plan becomes free, further blocks go wherever there
 * is room, and the end makes a new plan.
 *
 * A block may outlive its step, as lazily made gradients do: it stays where it is, and later plans
 * go around it. Blocks from outside of steps, or freed there, are fine too; many of them at the
 * bottom of the range cost least.
 *
 * Memory:  at the end of a step that was recorded 72 bytes for each of its blocks, and while the
 *          plan is made 64 more and what mo_layout_solve takes; the record grows in such a step.
 *          Nothing in a step that follows its plan
 * Threads: one at a time
 * Errors:  begin: MO_E_STATE (in a step). end: MO_E_STATE (not in a step); MO_E_NO_MEMORY,
 *          MO_E_OVERFLOW and what the layout can say: no plan was made, all else is done
 * Cost:    end: as mo_layout_solve after a step that was recorded. begin: O(n) copies for n blocks;
 *          O(n^2), 1 ms for 500, when blocks outside of steps have changed and no single free part
 *          takes the plan
 * Source:  record, plan and fall back: STAlloc, arXiv:2507.16274
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_replay_begin_step(mo_replay *replay, uint64_t key);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_replay_end_step(mo_replay *replay);

/* mo_replay_add_plan - a plan from lifetimes that are known before the step has run, so that even
 * the first one takes no more than its plan.
 *
 * key    of the steps that it is for
 * items  in   [n] what a step allocates, in that order, so first never falls; no size is 0
 *
 * Memory:  as the end of a step
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, n, an item), MO_E_STATE (in a step), and as mo_layout_solve
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_replay_add_plan(
    mo_replay *replay, uint64_t key, const mo_layout_item *items, size_t n);

/* mo_replay_alloc - a block of the range. mo_replay_dealloc - free it.
 *
 * size   bytes, 1 or more
 * align  of the offset, and of the address; a power of two, up to that of the range's first byte
 *        (a page in an arena over address space); 0 = granule
 * off    out  where the block begins; in, to free it
 *
 * Threads: one at a time
 * Errors:  alloc: MO_E_INVALID (size, align), MO_E_NO_SPACE (no room, or max_live),
 *          MO_E_NO_MEMORY (the system refused to commit).
 *          dealloc: MO_E_INVALID (no block begins there, so a second time too)
 * Cost:    a few ns in a step that follows its plan, else as mo_suballoc
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_replay_alloc(
    mo_replay *replay, size_t size, size_t align, size_t *off);
MEMOPT_API mo_status mo_replay_dealloc(mo_replay *replay, size_t off);

/* mo_replay_allocator - the range as a mo_allocator, valid while the replay is; one over offsets
 * alone always returns NULL. Threads: one at a time. Since: 0.1 */
MEMOPT_API mo_allocator mo_replay_allocator(mo_replay *replay);

/* mo_replay_trim - give committed memory of the arena that neither a block nor a plan needs back to
 * the system: what a recorded step took beyond its plan. Threads: one at a time. Since: 0.1 */
MEMOPT_API void mo_replay_trim(mo_replay *replay);

/* mo_replay_get_stats - figures of this moment. Threads: one at a time. Since: 0.1 */
MEMOPT_API void mo_replay_get_stats(const mo_replay *replay, mo_replay_stats *stats);

#endif
