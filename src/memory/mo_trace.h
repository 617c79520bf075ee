/* mo_trace.h - what mo_track saw as an SVG timeline, and as a trace for Chrome and Perfetto. */
#ifndef MEMOPT_TRACE_H
#define MEMOPT_TRACE_H

#include "mo_base.h"
#include "mo_track.h"

/* mo_trace_desc - what to draw.
 *
 * title     valid during the call; NULL = "Memory"
 * by_time   x is the time of the events (the track needs now_ns), else their order
 * width     of the picture in pixels, at least 480; 0 = 960
 * height    of the plot area in pixels, at least 120; 0 = 320
 * n_blocks  most rows in the table of the largest blocks at the peak, up to 32; 0 = 10
 * no_table  leave that table out */
typedef struct mo_trace_desc {
    const char *title;
    int by_time;
    int width, height;
    size_t n_blocks;
    int no_table;
} mo_trace_desc;

/* mo_trace_write_svg - the timeline of the events kept: bytes stacked by category, the budget line,
 * the peak, marks, failed allocations; below it the largest blocks at the peak. Light or dark as
 * the viewer prefers; no scripts. Names are written as ASCII, other characters as '?'.
 *
 * desc  NULL = all defaults
 *
 * More than 2000 events are gathered in columns that show their highest event, so a peak is never
 * lost.
 *
 * Memory:  none
 * Threads: one at a time; the track must not change meanwhile
 * Errors:  MO_E_INVALID (NULL, size), MO_E_IO (the writer refused)
 * Cost:    about ten passes over the events; at most 300 KB of text
 * Since:   0.1 */
MEMOPT_API mo_status mo_trace_write_svg(
    const mo_track *track, const mo_trace_desc *desc, const mo_writer *writer);

/* mo_trace_write_json - the events kept in the Chrome trace format: a slice for each stage
 * (mo_track_begin; the steps of a plan), one counter with the bytes of each category and one with
 * their sum, an instant event for each mark and each failed allocation. Opens in chrome://tracing
 * and ui.perfetto.dev. Without now_ns one event lasts one microsecond; a clock that goes back
 * stands still. A stage that has not ended ends with the last event.
 *
 * Memory:  none
 * Threads: one at a time; the track must not change meanwhile
 * Errors:  MO_E_INVALID (NULL), MO_E_IO (the writer refused)
 * Since:   0.1 */
MEMOPT_API mo_status mo_trace_write_json(const mo_track *track, const mo_writer *writer);

#endif
