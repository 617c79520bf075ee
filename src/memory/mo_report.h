/* mo_report.h - what mo_track saw as one HTML page: timeline, tables, and what the caller adds. */
#ifndef MEMOPT_REPORT_H
#define MEMOPT_REPORT_H

#include "mo_base.h"
#include "mo_track.h"

/* mo_report_section - a part of the page that the caller writes.
 *
 * title    above it; NULL = none, as the SVGs of memopt have their own
 * write    writes one SVG, as mo_chart, mo_layout_svg and mo_plan_write_svg do, or text
 * self     its first argument
 * is_text  not 0 = it writes plain text, which is shown in columns: mo_track_write_leaks. Else it
 *          goes into the page as it is */
typedef struct mo_report_section {
    const char *title;
    mo_status (*write)(void *self, const mo_writer *writer);
    void *self;
    int is_text;
} mo_report_section;

/* mo_report_desc - what is in the page. All of it is valid during the call.
 *
 * title     NULL = "Memory report"
 * by_time   as in mo_trace_desc
 * n_blocks  most rows in the tables of the largest blocks, up to 32; 0 = 10
 * spaces    [n_spaces] rows of the table of fragmentation; NULL = no table
 * sections  [n_sections] after the tables, in order; NULL = none */
typedef struct mo_report_desc {
    const char *title;
    int by_time;
    size_t n_blocks;
    const mo_track_space *spaces;
    size_t n_spaces;
    const mo_report_section *sections;
    size_t n_sections;
} mo_report_desc;

/* mo_report_write_html - the page: where memory is now, the timeline, the books by category, the
 * largest blocks at the peak and now, the spaces, the sections. It is one file without scripts that
 * loads nothing, light or dark as the viewer prefers; also well-formed XML. Names are written as
 * ASCII, other characters as '?'.
 *
 * desc  NULL = all defaults
 *
 * Memory:  none
 * Threads: one at a time; the track must not change meanwhile
 * Errors:  MO_E_INVALID (NULL, n_blocks), MO_E_IO (the writer refused), what a section returns
 * Since:   0.1 */
MEMOPT_API mo_status mo_report_write_html(
    const mo_track *track, const mo_report_desc *desc, const mo_writer *writer);

#endif
