/* mo_pareto.h - the time/memory frontier of configurations: those for which no other one is both as
 * fast and as small. */
#ifndef MEMOPT_PARETO_H
#define MEMOPT_PARETO_H

#include "mo_base.h"
#include "mo_chart.h"

/* mo_pareto_point - a configuration.
 *
 * bytes, seconds  what it needs; seconds is finite and not negative
 * index           the caller's: which one it is
 * Since: 0.1 */
typedef struct mo_pareto_point {
    uint64_t bytes;
    double seconds;
    size_t index;
} mo_pareto_point;

/* mo_pareto_frontier - put the frontier first.
 *
 *   a point is on it when every other one needs more bytes, or more seconds, or is equal in both
 *   and has a larger index
 *
 * points      in out  [n] then: those on the frontier from the fastest to the smallest, seconds
 *                     rising and bytes falling, and behind them the others in the order of seconds,
 *                     bytes and index
 * n_frontier  out     how many are on it; at least 1 where n is not 0
 *
 * Memory:  n points from allocator (NULL = heap) during the call
 * Threads: safe for distinct points
 * Errors:  MO_E_INVALID (NULL, seconds), MO_E_OVERFLOW, MO_E_NO_MEMORY; points are as they were
 * Cost:    n log n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_pareto_frontier(
    mo_pareto_point *points, size_t n, const mo_allocator *allocator, size_t *n_frontier);

/* mo_pareto_best - the fastest on the frontier that needs at most budget bytes.
 *
 * points  in  [n_frontier] as mo_pareto_frontier leaves them
 *
 * returns its position; n_frontier where none fits
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_pareto_best(const mo_pareto_point *points, size_t n_frontier, uint64_t budget);

/* mo_pareto_view - points to write.
 *
 * points      [n] as mo_pareto_frontier leaves them, the first n_frontier on the frontier
 * name        of the caller's index; the text is valid until the next call. It may return NULL, or
 *             be NULL: then the name is the index
 * self        given to name
 * Since: 0.1 */
typedef struct mo_pareto_view {
    const mo_pareto_point *points;
    size_t n, n_frontier;
    const char *(*name)(void *self, size_t index);
    void *self;
} mo_pareto_view;

/* mo_pareto_write_csv - the points, a line each, in their order:
 *
 *     index,bytes,seconds,frontier,fits,name
 *     4,8388608,0.25,1,1,"checkpoint=none,accum=1"
 *
 * budget  fits is 1 within so many bytes; 0 = no limit: always
 *
 * Seconds have up to 17 digits and a point, whatever the locale says. Quotes in names are doubled;
 * control characters become '?'.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, n_frontier above n), MO_E_IO (the writer refused)
 * Since:   0.1 */
MEMOPT_API mo_status mo_pareto_write_csv(
    const mo_pareto_view *view, uint64_t budget, const mo_writer *writer);

/* mo_pareto_write_svg - the picture of mo_chart_write_pareto, with the budget as a line.
 *
 * desc  title, budget and size; NULL = all defaults
 *
 * Memory:  96 bytes for each point, from allocator (NULL = heap) during the call; of long names the
 *          end is shown
 * Threads: safe
 * Errors:  as mo_chart_write_pareto; MO_E_OVERFLOW, MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_API mo_status mo_pareto_write_svg(const mo_pareto_view *view, const mo_chart_desc *desc,
    const mo_allocator *allocator, const mo_writer *writer);

#endif
