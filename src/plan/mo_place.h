/* mo_place.h - which device holds which weights, where no device holds all of them: GPUs first, the
 * rest in host memory or on a disk, from where it travels to the first device in each step.
 *
 *     mo_place_device devices[] = {
 *         {"0", 10u << 30, 0, 1}, {"cpu", 16u << 30, 25e9, 0}, {"disk", SIZE_MAX, 3e9, 0}};
 *     mo_place_desc desc = {0};
 *     desc.devices = devices, desc.n_devices = 3;
 *     desc.items = items, desc.n_items = n;
 *     if (mo_place_solve(&desc, device, NULL, &result) != MO_OK) ...
 *     if (result.missing_bytes > 0) ...
 *     for (size_t i = 0; i < n; i++) load(items[i].name, device[i]);
 *
 * A LAYER is what a step needs at once: the items of a no-split group, or one item of no group.
 * Layers with tied weights live together. A layer on a device with a link is STREAMED: it travels
 * to the first device each time it is needed. */
#ifndef MEMOPT_PLACE_H
#define MEMOPT_PLACE_H

#include "mo_base.h"

/* mo_place_device - one device. The order is the order of preference.
 *
 * name         for messages and tables; NULL = its index
 * limit_bytes  that items and room may take; SIZE_MAX = no limit
 * bytes_per_s  of the link to the first device; 0 = it computes with what it holds, nothing travels
 * n_buffers    room that is kept here for so many times the largest layer streamed from a device
 *              behind this one; 1 = a layer is fetched when it is needed (accelerate, for the first
 *              device and for the host), 2 = the next one is on its way while one computes */
typedef struct mo_place_device {
    const char *name;
    size_t limit_bytes;
    double bytes_per_s;
    size_t n_buffers;
} mo_place_device;

/* mo_place_item - a parameter or a module. The order is the order of execution.
 *
 * name    for maps, messages and tables; NULL = its index
 * bytes   0 allowed
 * group   items of the same no-split group stay together; 0 = alone
 * tied    items of the same number are one tensor: they have the same bytes, which take place once;
 *         streamed, they travel once for each layer. 0 = a tensor of its own
 * pinned  not 0: this item, and all that stays with it, lies on device
 * device  index; with pinned alone
 * uses    how often a step needs it, may be a fraction (an expert that few tokens take); 0 = 1 */
typedef struct mo_place_item {
    const char *name;
    size_t bytes;
    size_t group;
    size_t tied;
    int pinned;
    size_t device;
    double uses;
} mo_place_item;

typedef enum mo_place_method {
    MO_PLACE_OPTIMAL = 0, /* the least time on the links, or bytes */
    MO_PLACE_GREEDY /* layer after layer; a device that was full once is not looked at again */
} mo_place_method;

typedef enum mo_place_goal {
    MO_PLACE_SECONDS = 0, /* seconds on the links in a step */
    MO_PLACE_BYTES        /* bytes over links in a step, whichever link */
} mo_place_goal;

/* mo_place_desc - what is placed where, and how. Nothing needs to stay valid.
 *
 * goal          of MO_PLACE_OPTIMAL
 * max_nodes     limit of the search, in placements tried: the same on every machine. 0 = 1,000,000,
 *               or no limit where time_limit_s is set
 * time_limit_s  seconds on the wall clock after which the search stops; 0 = none. Where it ends a
 *               search, results differ from run to run
 * allocator     NULL = heap
 * log           told what is wrong with which item or device; NULL = silent */
typedef struct mo_place_desc {
    const mo_place_device *devices;
    size_t n_devices;
    const mo_place_item *items;
    size_t n_items;
    mo_place_method method;
    mo_place_goal goal;
    uint64_t max_nodes;
    double time_limit_s;
    const mo_allocator *allocator;
    const mo_log *log;
} mo_place_desc;

/* mo_place_use - what one device holds.
 *
 * bytes        of its items, tied ones once
 * room_bytes   kept for streamed layers
 * over_bytes   by which both exceed the limit; 0 after mo_place_solve
 * moved_bytes  from here to the first device in a step
 * n_items */
typedef struct mo_place_use {
    size_t bytes, room_bytes, over_bytes;
    double moved_bytes;
    size_t n_items;
} mo_place_use;

/* mo_place_result - what a placement costs.
 *
 * missing_bytes  of the items that have no place, tied ones once; 0 = all have one
 * n_missing      these items
 * over_bytes     by which limits are exceeded, the sum; 0 after mo_place_solve
 * step_s         seconds on the links in a step
 * moved_bytes    over the links in a step
 * bound          seconds, or bytes with that goal, that no placement with so few missing bytes goes
 *                below; 0 where nothing was searched
 * is_optimal     no placement has fewer missing bytes, and none with as few of them is better, by
 *                more than 1e-12 of it
 * n_nodes        placements that the search tried */
typedef struct mo_place_result {
    size_t missing_bytes, n_missing, over_bytes;
    double step_s, moved_bytes;
    double bound;
    int is_optimal;
    uint64_t n_nodes;
} mo_place_result;

/* mo_place_solve - a device for every item.
 *
 *     bytes(d) + n_buffers(d) * largest layer streamed from behind d <= limit(d)  for all d
 *
 * device  out  [n_items] index of a device, or SIZE_MAX = no place
 * use     out  [n_devices]; may be NULL
 * result  out  may be NULL
 *
 * That something does not fit is an outcome, not an error: missing_bytes says how much.
 *
 * MO_PLACE_OPTIMAL: as few bytes without a place as can be, then as little on the links as can be:
 * branch and bound, from the greedy placement on. Of equal layers the first ones come first. Where
 * a limit ends the search, the answer is the best found, never worse than greedy.
 *
 * MO_PLACE_GREEDY: each layer goes, with what is tied to it, to the device in turn if it fits there
 * beside the room for the largest layer still to come; else the next device's turn comes. Without
 * ties and pins this is what accelerate's infer_auto_device_map does, when items are its parameters
 * and the groups are its no-split modules and its modules without children; but where a device has
 * no room for a layer that would be streamed to it, accelerate streams it all the same, and fails
 * later. With ties: accelerate goes on to the next device with a whole module when its ties do not
 * fit; and the room counts a tied weight in each layer that needs it, not in the first alone, and
 * not what is placed with the layer at hand.
 *
 * Memory:  120 bytes per item and 100 per layer, 8 per layer and device, from desc->allocator
 *          during the call
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, no device, a link speed or uses that is negative or no number, a pin
 *          to no device or to two, tied items of different bytes; the log names it), MO_E_OVERFLOW,
 *          MO_E_NO_MEMORY
 * Cost:    greedy O(n log n); a node of the search O(devices log layers), under a microsecond
 * Source:  huggingface/accelerate, utils/modeling.py at 16cb6eb (greedy); the bound is the
 *          fractional placement: the most travel for a byte goes to the fastest device
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_place_solve(
    const mo_place_desc *desc, size_t *device, mo_place_use *use, mo_place_result *result);

/* mo_place_measure - what any placement costs: one made by hand, or changed. Groups may be split
 * and limits exceeded. Pins are not looked at; is_optimal, bound and n_nodes are 0.
 *
 * device  in   [n_items] index, or SIZE_MAX = no place. Tied items count once on each device
 * use     out  [n_devices]; may be NULL
 * result  out  may be NULL
 *
 * Memory, Threads, Errors: as mo_place_solve; MO_E_INVALID also for a device that is not there
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_place_measure(
    const mo_place_desc *desc, const size_t *device, mo_place_use *use, mo_place_result *result);

/* mo_place_rule - the item of that name, and all whose name goes on with a dot behind it, lie on
 * that device. "" is every item. */
typedef struct mo_place_rule {
    const char *prefix;
    size_t device;
} mo_place_rule;

/* mo_place_map - a placement made by hand; the longest prefix wins.
 *
 *     mo_place_rule rules[] = {{"", 2}, {"h.0", 0}, {"h.1", 0}, {"h.1.mlp", 1}};
 *
 * desc    for items, their names, n_devices, log
 * device  out  [n_items]
 *
 * Memory:  none
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, an item without a name, a device that is not there, a prefix twice),
 *          MO_E_NOT_FOUND (items that no rule covers; the log names the first and says how many)
 * Cost:    items times rules
 * Source:  accelerate's device_map
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_place_map(
    const mo_place_desc *desc, const mo_place_rule *rules, size_t n_rules, size_t *device);

/* mo_place_balanced - limits with which the greedy placement fills computing devices evenly, rather
 * than the first ones to the brim:
 *
 *     min(limit, total / n + 1.25 * max(largest group, mean item))
 *
 * for all but the last of the n devices that compute (those without a link) and have a limit above
 * 0; others keep theirs.
 *
 * low_first  not 0: the first device gets only what the others, n - 1, leave; it is in use for
 *            other things
 * limits     out  [n_devices] bytes
 *
 * Memory, Threads, Errors: as mo_place_solve
 * Source:  accelerate's get_balanced_memory, with items for its modules without children. It takes
 *          the first block of each no-split class, not the largest
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_place_balanced(
    const mo_place_desc *desc, int low_first, size_t *limits);

/* mo_place_fetch - one streamed layer on its way to the first device.
 *
 * item     the first item that needs it: the copy must have ended when that one runs
 * last     the last item of the layer, wherever it lies: the buffer is free behind that one
 * begin    the first item at which the copy may start, since a buffer is free from there on
 * wraps    not 0: that is in the step before (of a loop of equal steps)
 * device   it comes from; where a layer is split, one fetch for each device
 * bytes, link_s  of the copy */
typedef struct mo_place_fetch {
    size_t item, last, begin;
    int wraps;
    size_t device;
    size_t bytes;
    double link_s;
} mo_place_fetch;

/* mo_place_stream - streamed layers in the order in which a step needs them, and how early each may
 * be fetched into a ring of n_buffers buffers: fetch k takes the buffer of fetch k - n_buffers as
 * soon as that one was used. So up to n_buffers - 1 copies run ahead of the layer that computes.
 *
 * device     in   [n_items]
 * n_buffers  at least 1; a buffer has the bytes of the largest fetch
 * fetches    out  [n_items] is always enough
 * n_fetches  out
 *
 * Memory, Threads, Errors: as mo_place_measure; MO_E_INVALID also for n_buffers 0, MO_E_NO_SPACE
 *          for layers that are needed at once and are more than n_buffers
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_place_stream(const mo_place_desc *desc,
    const size_t *device, size_t n_buffers, mo_place_fetch *fetches, size_t *n_fetches);

#endif
