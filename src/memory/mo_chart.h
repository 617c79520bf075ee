/* mo_chart.h - strategies compared in pictures: what each one saves, and memory over time. */
#ifndef MEMOPT_CHART_H
#define MEMOPT_CHART_H

#include "mo_base.h"

/* mo_chart_bar - a row of a waterfall. name is valid during the call; NULL = "(unnamed)". */
typedef struct mo_chart_bar {
    const char *name;
    uint64_t bytes;
} mo_chart_bar;

/* mo_chart_point - a configuration: the time it takes, the bytes it needs.
 *
 * name         valid during the call; NULL = "(unnamed)"
 * time_s       finite, not negative
 * on_frontier  not 0 = no other point is better in both */
typedef struct mo_chart_point {
    const char *name;
    double time_s;
    uint64_t bytes;
    int on_frontier;
} mo_chart_point;

/* mo_chart_desc - what to draw beside the data.
 *
 * title         valid during the call; NULL = "Memory by strategy", "Memory over time of a step"
 * budget_bytes  a line there; 0 = none
 * width         of the picture in pixels, at least 480; 0 = 960
 * height        of the plot of mo_chart_write_pareto in pixels, at least 120; 0 = 420 */
typedef struct mo_chart_desc {
    const char *title;
    uint64_t budget_bytes;
    int width, height;
} mo_chart_desc;

/* mo_chart_write_waterfall - an SVG of strategies added one after the other: a bar for the bytes
 * after each, pale what it saved against the row before, red what it added.
 * mo_chart_write_pareto - an SVG of bytes over time: a dot for each point, a stair through those on
 * the frontier, which are named where there is room; the fastest one within the budget is in the
 * heading.
 *
 * desc    NULL = all defaults
 * bars    in  [n] n <= 256
 * points  in  [n] in any order
 *
 * Light or dark as the viewer prefers; no scripts. Names are written as ASCII, other characters as
 * '?', of long ones the end. A budget more than three times the largest value is not drawn.
 *
 * Memory:  none
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, size of the picture, n, time_s), MO_E_IO (the writer refused)
 * Cost:    pareto: n for each point on the frontier
 * Since:   0.1 */
MEMOPT_API mo_status mo_chart_write_waterfall(
    const mo_chart_desc *desc, const mo_chart_bar *bars, size_t n, const mo_writer *writer);
MEMOPT_API mo_status mo_chart_write_pareto(
    const mo_chart_desc *desc, const mo_chart_point *points, size_t n, const mo_writer *writer);

#endif
