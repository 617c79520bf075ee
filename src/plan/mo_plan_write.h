/* mo_plan_write.h - a plan to read: as text, as JSON, as a picture. */
#ifndef MEMOPT_PLAN_WRITE_H
#define MEMOPT_PLAN_WRITE_H

#include "mo_base.h"
#include "mo_plan.h"

/* mo_plan_write_text - the plan as text: the figures, the fixed blocks, then every step with the
 * tensors that begin in it: offset, size, category, and the step that needs it last; and with what
 * it moves: offset, size, offset in the store.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL), MO_E_IO (the writer refused)
 * Since:   0.1 */
MEMOPT_API mo_status mo_plan_write_text(const mo_plan *plan, const mo_writer *writer);

/* mo_plan_write_json - the plan as one JSON object, on one line:
 *
 *     {"peak_bytes": .., "fixed_bytes": .., "lower_bound": .., "live_bytes": .., "gap_bytes": ..,
 *      "store_bytes": .., "out_bytes": .., "in_bytes": .., "align": .., "proved": true,
 *      "cost_s": .., "ideal_s": .., "peak_step": .., "bytes": {"param": .., ..},
 *      "fixed": [{"name": .., "category": .., "offset": .., "size": ..}, ..],
 *      "steps": [{"op": "forward", "stage": 0, "name": .., "save": true, "light": false,
 *                 "compressed": false, "first": 0, "last": 3,
 *                 "copies": [{"offset": .., "size": .., "store_offset": ..}, ..]}, ..],
 *      "tensors": [{"name": .., "category": .., "offset": .., "size": .., "first": .., "last": ..,
 *                   "first_step": .., "last_step": ..}, ..]}
 *
 * first and last are sub-steps, inclusive; first_step and last_step are indices in steps. A tensor
 * that is computed twice stands there twice. Costs are numbers, null where they are not finite.
 * Names are written as ASCII, other characters as '?'.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL), MO_E_IO (the writer refused)
 * Since:   0.1 */
MEMOPT_API mo_status mo_plan_write_json(const mo_plan *plan, const mo_writer *writer);

/* mo_plan_write_svg - the plan as a picture: time in sub-steps to the right, addresses upwards,
 * every tensor a rectangle; the bytes live and their peak. See mo_layout_write_svg.
 *
 * title  valid during the call; NULL = "Plan"
 *
 * Memory:  100 bytes per tensor and step, during the call, from the plan's allocator
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL), MO_E_NO_MEMORY, MO_E_IO (the writer refused)
 * Since:   0.1 */
MEMOPT_API mo_status mo_plan_write_svg(
    const mo_plan *plan, const char *title, const mo_writer *writer);

#endif
