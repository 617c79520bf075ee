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

/* mo_layout_desc - how to solve.
 *
 * align      of items that have none, a power of two; 0 = 64
 * allocator  for the tables, during the call only; NULL = heap
 * log        told which item is wrong; NULL = silent */
typedef struct mo_layout_desc {
    size_t align;
    const mo_allocator *allocator;
    const mo_log *log;
} mo_layout_desc;

/* mo_layout_result - what was found.
 *
 * peak         bytes of the block: the highest offset + size
 * lower_bound  bytes that no layout can go below: the most bytes live at one step. Offsets are
 *              multiples of the smallest alignment, so each live size is rounded up to that, except
 *              that of the topmost buffer: the one with the largest rest is left as it is
 * peak_step    the first step with the most rounded live bytes
 * proved       peak == lower_bound: no layout is smaller */
typedef struct mo_layout_result {
    size_t peak, lower_bound;
    size_t peak_step;
    int proved;
} mo_layout_result;

/* mo_layout_desc_defaults - the desc with every zero replaced. NULL = all defaults.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API mo_layout_desc mo_layout_desc_defaults(const mo_layout_desc *desc);

/* mo_layout_solve - choose the offsets.
 *
 * desc     NULL = all defaults
 * items    in   [n]
 * offsets  out  [n] bytes from the start of a block that is aligned to the largest alignment
 * result   out  may be NULL
 *
 * A portfolio of greedy orders: size descending with first fit, then size and duration, duration
 * and size, area and size, first use and duration with best fit. It stops at the first order that
 * reaches the lower bound, else the smallest peak wins, of equal ones the earlier order. The same
 * input gives the same offsets on every machine.
 *
 * Memory:  88 bytes per item from desc->allocator during the call
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, alignment no power of two, first > last), MO_E_OVERFLOW,
 *          MO_E_NO_MEMORY
 * Cost:    O(n^2) per order; with all of them under 1 ms for 300 items, 1 s for 20,000
 * Source:  Pisarchyk & Lee 2020, arXiv:2001.03288 (greedy by size); XLA's best-fit heap (orders)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_layout_solve(const mo_layout_desc *desc,
    const mo_layout_item *items, size_t n, size_t *offsets, mo_layout_result *result);

/* mo_layout_check - whether offsets are a layout: every offset aligned, every item ends at or below
 * peak, and no two items that are live at the same step share a byte.
 *
 * desc     for align and log; NULL = all defaults
 * items    in  [n]
 * offsets  in  [n]
 * peak     bytes of the block
 *
 * Memory:  none
 * Threads: safe
 * Errors:  MO_E_INVALID; the log names the item or the pair of items, with offsets and sizes
 * Cost:    O(n^2)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_layout_check(const mo_layout_desc *desc,
    const mo_layout_item *items, size_t n, const size_t *offsets, size_t peak);

#endif
