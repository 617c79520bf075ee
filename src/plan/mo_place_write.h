/* mo_place_write.h - a placement to read: as a table, as JSON. */
#ifndef MEMOPT_PLACE_WRITE_H
#define MEMOPT_PLACE_WRITE_H

#include "mo_base.h"
#include "mo_place.h"

/* mo_place_write_text - the placement as text: what it costs, a line for each device, then a line
 * for each run of items on one device.
 *
 * device  in  [n_items]
 * use     in  [n_devices], and
 * result  in  of mo_place_solve or mo_place_measure
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, a device that is not there), MO_E_IO (the writer refused)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_place_write_text(const mo_place_desc *desc,
    const size_t *device, const mo_place_use *use, const mo_place_result *result,
    const mo_writer *writer);

/* mo_place_write_json - the placement as one JSON object, on one line:
 *
 *     {"fits": true, "is_optimal": true, "step_s": .., "moved_bytes": .., "bound": ..,
 *      "missing_bytes": 0, "over_bytes": 0,
 *      "devices": [{"name": .., "limit_bytes": .., "bytes": .., "room_bytes": ..,
 *                   "moved_bytes": .., "items": ..}, ..],
 *      "items": [{"name": .., "bytes": .., "device": ..}, ..]}
 *
 * limit_bytes is null where there is no limit; the device of an item is its name, null where it has
 * none. Names are written as ASCII, other characters as '?'.
 *
 * Arguments, Threads, Errors: as mo_place_write_text
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_place_write_json(const mo_place_desc *desc,
    const size_t *device, const mo_place_use *use, const mo_place_result *result,
    const mo_writer *writer);

#endif
