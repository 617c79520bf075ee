/* mo_layout.h - lifetimes to offsets: where each of many buffers lies in one block, so that buffers
 * which are needed at different times share bytes and the block is as small as possible.
 *
 *     mo_layout_item items[] = {{4096, 0, 0, 2}, {1024, 0, 1, 1}, {4096, 0, 3, 4}};
 *     size_t offsets[3];
 *     mo_layout_result result;
 *     if (mo_layout_solve(NULL, items, 3, offsets, &result) != MO_OK) ...
 *     char *block = malloc(result.peak);
 */
#ifndef MEMOPT_LAYOUT_H
#define MEMOPT_LAYOUT_H

#include "mo_base.h"

/* mo_layout_item - one buffer.
 *
 * size   bytes; 0 = takes no place, its offset is 0
 * align  of the offset, a power of two; 0 = the desc's
 * first  step that writes it first
 * last   step that needs it last, inclusive; last >= first. Steps are any numbers; gaps cost
 *        nothing */
typedef struct mo_layout_item {
    size_t size;
    size_t align;
    size_t first, last;
} mo_layout_item;

/* mo_layout_gap - steps in which only a part of an item holds something.
 *
 * item         index of the item
 * first, last  steps within its lifetime, inclusive; gaps of one item do not overlap
 * low, high    bytes [low, high) of the item are in use meanwhile; low == high = nothing */
typedef struct mo_layout_gap {
    size_t item;
    size_t first, last;
    size_t low, high;
} mo_layout_gap;

/* mo_layout_alias - an output that may be written over an input: where the solver finds it good,
 * the item lies at the offset of from.
 *
 * item  the output; no larger than from, first written at from's last step
 * from  the input. It may be named by several outputs, and an output may name several inputs; each
 *       takes and gives at most once. Nothing is taken where one of them is fixed or has a gap at
 *       that step, nor where both live in that step only */
typedef struct mo_layout_alias {
    size_t item, from;
} mo_layout_alias;

/* mo_layout_desc - how to solve, and what else is known of the items. Arrays stay the caller's.
 *
 * align         of items that have none, a power of two; 0 = 64
 * allocator     for the tables, during the call only; NULL = heap
 * log           told which item is wrong; NULL = silent
 * capacity      bytes: stop at the first layout that fits; 0 = as small as possible
 * max_nodes     limit of the search, in placements tried: the same on every machine.
 *               0 = the less of 4 n + 400 and n + 8400, or no limit where time_limit_s is set
 * time_limit_s  seconds on the wall clock after which the search stops; 0 = none. Where it ends a
 *               search, results differ from run to run
 * fixed         in   [n] offsets that are given; SIZE_MAX = to be chosen; NULL = all. Fixed items
 *                    lie in the first space
 * gaps          in   [n_gaps] in any order
 * aliases       in   [n_aliases] in any order
 * taken         out of solve, in of check: [n] the item whose bytes this one took over; SIZE_MAX =
 *                    none. Needed with aliases, else may be NULL
 * spaces        in   [n_spaces] size of each space in bytes; NULL = one without limit
 * space         out of solve, in of check: [n] the space of each item. Needed with spaces */
typedef struct mo_layout_desc {
    size_t align;
    const mo_allocator *allocator;
    const mo_log *log;
    size_t capacity;
    uint64_t max_nodes;
    double time_limit_s;
    const size_t *fixed;
    const mo_layout_gap *gaps;
    size_t n_gaps;
    const mo_layout_alias *aliases;
    size_t n_aliases;
    size_t *taken;
    const size_t *spaces;
    size_t n_spaces;
    size_t *space;
} mo_layout_desc;

/* mo_layout_result - what was found.
 *
 * peak         bytes of the block: the highest offset + size. With spaces: the sum of their blocks
 * lower_bound  bytes that no layout can go below: the live bound, or more where the search went
 *              through all layouts of that size and found none
 * peak_step    the first step with the most rounded live bytes
 * proved       peak == lower_bound: no layout is smaller
 * live_bound   the most bytes live at one step, after aliases. Offsets are multiples of the
 *              smallest alignment, so each live size is rounded up to that, except that of the
 *              topmost buffer: the one with the largest rest is left as it is. With spaces or
 *              aliases nothing is rounded. At least the end of every fixed item
 * n_nodes      placements that the search tried */
typedef struct mo_layout_result {
    size_t peak, lower_bound;
    size_t peak_step;
    int proved;
    size_t live_bound;
    uint64_t n_nodes;
} mo_layout_result;

/* mo_layout_desc_defaults - the desc with every zero replaced that does not depend on the items.
 * NULL = all defaults.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API mo_layout_desc mo_layout_desc_defaults(const mo_layout_desc *desc);

/* mo_layout_solve - choose the offsets.
 *
 * desc     NULL = all defaults
 * items    in   [n]
 * offsets  out  [n] bytes from the start of a block (of the item's space) that is aligned to the
 *               largest alignment
 * result   out  may be NULL
 *
 * First a portfolio of greedy orders: size descending with first fit, then size and duration,
 * duration and size, area and size, first use and duration with best fit. Where none reaches the
 * lower bound or the capacity, a search goes through the layouts in which nothing can move down,
 * each in one order only, at capacities from the lower bound upwards, until it fits, all have been
 * seen, or the limits end. The answer is the best valid layout so far. Without time_limit_s the
 * same input gives the same offsets on every machine.
 *
 * Gaps: an item that has parts in use with low > 0 is searched only below or above others as a
 * whole, so there a full search proves nothing beyond the live bound.
 * Aliases: all that lower the bound are taken, then others are tried.
 * Spaces: a large item goes first, into the first space that has room; where that fails, other
 * choices are tried. capacity bounds the sum.
 *
 * Memory:  330 bytes per item and 450 per gap, from desc->allocator during the call. The search:
 *          400 more, 16 per pair of items that meet, 4 per item and section; it is left out where
 *          these would pass 400 MB
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, alignment no power of two, first > last, a gap outside its item, an
 *          alias that does not fit, fixed items that overlap or are not aligned), MO_E_OVERFLOW,
 *          MO_E_NO_SPACE (no layout was found that fits the spaces), MO_E_NO_MEMORY
 * Cost:    greedy 0.3 ms for 600 items, up to 1 s for 20,000 and 2 s for 100,000; of many items
 *          that mostly meet, fewer orders are tried. The search 1 to 5 us per node at 400 items. It
 *          is left out where the block has 2^30 units or more; a unit divides all sizes
 * Source:  Pisarchyk & Lee 2020, arXiv:2001.03288 (greedy by size); XLA's best-fit heap (orders);
 *          google/minimalloc (the search: canonical order, section inference, decomposition)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_layout_solve(const mo_layout_desc *desc,
    const mo_layout_item *items, size_t n, size_t *offsets, mo_layout_result *result);

/* mo_layout_check - whether offsets are a layout: every offset aligned, every item ends at or below
 * peak, fixed items lie where they must, and no two items share a byte at a step at which both use
 * it, unless one took it over from the other.
 *
 * desc     for align, log, fixed, gaps, aliases, taken, spaces, space; NULL = all defaults
 * items    in  [n]
 * offsets  in  [n]
 * peak     bytes of the block. With spaces: at least the sum of the highest ends in each
 *
 * Memory:  90 bytes per item, 120 per gap, from desc->allocator during the call
 * Threads: safe
 * Errors:  MO_E_INVALID; the log names the item or the pair of items, with offsets and sizes.
 *          MO_E_NO_MEMORY
 * Cost:    a sweep over the steps: O(n log n), and O(n) moves of 4 bytes per item at worst
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_layout_check(const mo_layout_desc *desc,
    const mo_layout_item *items, size_t n, const size_t *offsets, size_t peak);

/* mo_layout_reason - why a layout is as large as it is.
 *
 * peak_step    the first step with the most rounded live bytes
 * n_live       items in use at that step, in live
 * live_bytes   the sum of what they use then
 * n_set        items in set: they alone do not fit into the capacity; 0 = no such set was found
 * irreducible  without any one of the set, the others fit */
typedef struct mo_layout_reason {
    size_t peak_step, n_live, live_bytes;
    size_t n_set;
    int irreducible;
} mo_layout_reason;

/* mo_layout_explain - which items make the peak, and which cannot lie together in the capacity.
 *
 * desc    as for mo_layout_solve, without spaces; aliases count as taken where that lowers the live
 *         bound. The limits hold for each set that is tried
 * items   in   [n]
 * live    out  [n] the first n_live: items at the peak step, largest first
 * set     out  [n] the first n_set: items that do not fit into desc->capacity, by index; may be
 *              NULL. With capacity 0 the set is empty
 *
 * Where more is live at one step than the capacity, the set is the fewest of the largest items at
 * that step. Else items are left out in halves, quarters, and so on, as long as a full search still
 * proves that the rest does not fit.
 *
 * Memory:  as mo_layout_solve, and 24 bytes per item
 * Threads: safe
 * Errors:  as mo_layout_solve
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_layout_explain(const mo_layout_desc *desc,
    const mo_layout_item *items, size_t n, size_t *live, size_t *set, mo_layout_reason *reason);

#endif
