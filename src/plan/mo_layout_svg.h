/* mo_layout_svg.h - a layout as a picture: every buffer a rectangle over its steps and its
 * addresses. */
#ifndef MEMOPT_LAYOUT_SVG_H
#define MEMOPT_LAYOUT_SVG_H

#include "mo_base.h"
#include "mo_layout.h"

/* mo_layout_label - how an item appears.
 *
 * name      NULL = its number
 * category  its colour, that of mo_trace; where all are MO_CATEGORY_OTHER there is only one */
typedef struct mo_layout_label {
    const char *name;
    mo_category category;
} mo_layout_label;

/* mo_layout_mark - a step with a name, such as the first one of an op. */
typedef struct mo_layout_mark {
    size_t step;
    const char *name;
} mo_layout_mark;

/* mo_layout_svg_desc - what to draw beside the items. All of it is valid during the call.
 *
 * title      NULL = "Layout"
 * labels     [n] one for each item; NULL = all are numbered, in one colour
 * marks      [n_marks] by ascending step; NULL = none
 * gaps       [n_gaps] in any order: what an item leaves unused is not drawn and not counted
 * capacity   draws a line there; 0 = none
 * width      of the picture in pixels, at least 480; 0 = 960
 * height     of the map in pixels, at least 120; 0 = 420
 * allocator  for the tables, during the call only; NULL = heap */
typedef struct mo_layout_svg_desc {
    const char *title;
    const mo_layout_label *labels;
    const mo_layout_mark *marks;
    size_t n_marks;
    const mo_layout_gap *gaps;
    size_t n_gaps;
    size_t capacity;
    int width, height;
    const mo_allocator *allocator;
} mo_layout_svg_desc;

/* mo_layout_write_svg - the layout as an SVG: above, the bytes live at each step with their peak;
 * below, the address map, with the peak of the layout, the capacity and the marks. Each rectangle
 * tells name, size, address and steps when pointed at. Light or dark as the viewer prefers; no
 * scripts. Names are written as ASCII, other characters as '?'.
 *
 * desc     NULL = all defaults
 * items    in  [n]
 * offsets  in  [n]
 *
 * Rectangles of less than half a square pixel are left out and counted in the heading. The layout
 * need not be valid: what overlaps is drawn so.
 *
 * Memory:  88 bytes per item and twice that per gap from desc->allocator during the call
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, first > last, gaps, size of the picture), MO_E_OVERFLOW,
 *          MO_E_NO_MEMORY, MO_E_IO (the writer refused; what it took before stays written)
 * Cost:    O(n log n); about 300 bytes of text per item
 * Since:   0.1 */
MEMOPT_API mo_status mo_layout_write_svg(const mo_layout_svg_desc *desc,
    const mo_layout_item *items, size_t n, const size_t *offsets, const mo_writer *writer);

#endif
