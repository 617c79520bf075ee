/* mo_layout_svg.c - see mo_layout_svg.h. */

enum { MOI_LAYOUT_SVG_COLUMNS = 2000, MOI_LAYOUT_SVG_CURVE = 90 };

typedef struct moi_layout_svg {
    mo_layout_svg_desc desc;
    const mo_layout_item *items;
    const size_t *offsets;
    size_t n;
    mo_layout_gap *pieces; /* [n_pieces] the bytes [low, high) of items that are in use */
    size_t n_pieces, max_pieces;
    moi_layout_key *begins, *ends; /* [n_pieces] by first step, by last step */
    moi_track_out out;
    moi_svg_plot curve, map;
    size_t first_step, last_step;
    double n_steps;
    size_t peak, live_peak, peak_step;
    size_t n_hidden;
    uint64_t at_peak[MO_CATEGORY_COUNT];
    int is_used[MO_CATEGORY_COUNT];
    int has_categories; /* not all are MO_CATEGORY_OTHER */
    char summary[384];
} moi_layout_svg;

/* ---- pieces -------------------------------------------------------------------------------- */

static void moi_layout_svg_add(
    moi_layout_svg *svg, size_t item, size_t first, size_t last, size_t low, size_t high) {
    mo_layout_gap piece = {item, first, last, low, high};
    if (low < high) svg->pieces[svg->n_pieces++] = piece;
}

/* An item around its gaps, the first of which is gap n_read by item and step. */
static mo_status moi_layout_svg_cut(moi_layout_svg *svg, size_t i, size_t *n_read) {
    const mo_layout_item *item = &svg->items[i];
    size_t first = item->first;
    int at_end = 0;
    if (item->first > item->last) return MO_E_INVALID;
    for (; *n_read < svg->desc.n_gaps && svg->begins[*n_read].a == i; ++*n_read) {
        const mo_layout_gap *gap = &svg->desc.gaps[svg->begins[*n_read].index];
        if (at_end || gap->first < first || gap->last < gap->first || gap->last > item->last ||
            gap->low > gap->high || gap->high > item->size)
            return MO_E_INVALID;
        if (gap->first > first) moi_layout_svg_add(svg, i, first, gap->first - 1, 0, item->size);
        moi_layout_svg_add(svg, i, gap->first, gap->last, gap->low, gap->high);
        at_end = gap->last == item->last;
        first = gap->last + 1;
    }
    if (!at_end) moi_layout_svg_add(svg, i, first, item->last, 0, item->size);
    return MO_OK;
}

static mo_status moi_layout_svg_cut_all(moi_layout_svg *svg) {
    size_t n_read = 0, n_gaps = svg->desc.n_gaps;
    mo_status status = MO_OK;
    for (size_t i = 0; i < n_gaps; i++) {
        moi_layout_key key = {svg->desc.gaps[i].item, svg->desc.gaps[i].first, i};
        svg->begins[i] = key;
    }
    moi_layout_sort(svg->begins, n_gaps);
    for (size_t i = 0; i < svg->n && status == MO_OK; i++)
        status = moi_layout_svg_cut(svg, i, &n_read);
    return status == MO_OK && n_read < n_gaps ? MO_E_INVALID : status;
}

/* ---- over the steps ------------------------------------------------------------------------ */

/* After each change of the live bytes; `at` counts steps from the first one. */
typedef struct moi_layout_svg_sweep {
    size_t n_begun, n_ended;
    size_t live;
    double at;
} moi_layout_svg_sweep;

static size_t moi_layout_svg_size(const moi_layout_svg *svg, size_t i) {
    return svg->pieces[i].high - svg->pieces[i].low;
}

/* Pieces that begin at the next step, or end there when none does; 0 when all have ended, -1 on
 * overflow. What ends at a step is gone before the step after it. */
static int moi_layout_svg_next(const moi_layout_svg *svg, moi_layout_svg_sweep *sweep) {
    size_t n = svg->n_pieces, begin, end;
    if (sweep->n_ended == n) return 0;
    end = svg->ends[sweep->n_ended].a;
    begin = sweep->n_begun < n ? svg->begins[sweep->n_begun].a : end;
    if (sweep->n_begun == n || end < begin) {
        for (; sweep->n_ended < n && svg->ends[sweep->n_ended].a == end; sweep->n_ended++)
            sweep->live -= moi_layout_svg_size(svg, svg->ends[sweep->n_ended].index);
        sweep->at = (double)(end - svg->first_step) + 1;
        return 1;
    }
    for (; sweep->n_begun < n && svg->begins[sweep->n_begun].a == begin; sweep->n_begun++) {
        size_t size = moi_layout_svg_size(svg, svg->begins[sweep->n_begun].index);
        if (!moi_add(sweep->live, size, &sweep->live)) return -1;
    }
    sweep->at = (double)(begin - svg->first_step);
    return 1;
}

static void moi_layout_svg_sort(moi_layout_svg *svg) {
    size_t n = svg->n_pieces;
    for (size_t i = 0; i < n; i++) {
        moi_layout_key begin = {svg->pieces[i].first, 0, i}, end = {svg->pieces[i].last, 0, i};
        svg->begins[i] = begin;
        svg->ends[i] = end;
    }
    moi_layout_sort(svg->begins, n);
    moi_layout_sort(svg->ends, n);
    svg->first_step = n ? svg->begins[0].a : 0;
    svg->last_step = n ? svg->ends[n - 1].a : 0;
    svg->n_steps = (double)(svg->last_step - svg->first_step) + 1;
}

static mo_category moi_layout_svg_category(const moi_layout_svg *svg, size_t i) {
    mo_category category = svg->desc.labels[i].category;
    return (unsigned)category < MO_CATEGORY_COUNT ? category : MO_CATEGORY_OTHER;
}

static mo_status moi_layout_svg_scan(moi_layout_svg *svg) {
    moi_layout_svg_sweep sweep = {0, 0, 0, 0};
    int more;
    while ((more = moi_layout_svg_next(svg, &sweep)) > 0) {
        if (sweep.live <= svg->live_peak) continue;
        svg->live_peak = sweep.live;
        svg->peak_step = svg->begins[sweep.n_begun - 1].a;
    }
    if (more < 0) return MO_E_OVERFLOW;
    for (size_t i = 0; i < svg->n; i++) {
        size_t end;
        if (!moi_add(svg->offsets[i], svg->items[i].size, &end)) return MO_E_OVERFLOW;
        svg->peak = moi_max(svg->peak, end);
    }
    for (size_t i = 0; i < svg->n_pieces && svg->desc.labels; i++) {
        const mo_layout_gap *piece = &svg->pieces[i];
        mo_category category = moi_layout_svg_category(svg, piece->item);
        svg->is_used[category] = 1;
        svg->has_categories |= category != MO_CATEGORY_OTHER;
        if (moi_layout_overlap(piece->first, piece->last, svg->peak_step, svg->peak_step))
            svg->at_peak[category] += moi_layout_svg_size(svg, i);
    }
    return MO_OK;
}

/* ---- rectangles ---------------------------------------------------------------------------- */

static double moi_layout_svg_x(const moi_layout_svg *svg, double at) {
    return svg->map.left + (svg->map.right - svg->map.left) * at / svg->n_steps;
}

typedef struct moi_layout_svg_rect {
    double x, y, width, height;
} moi_layout_svg_rect;

static moi_layout_svg_rect moi_layout_svg_place(const moi_layout_svg *svg, size_t i) {
    const mo_layout_gap *piece = &svg->pieces[i];
    double offset = (double)svg->offsets[piece->item];
    moi_layout_svg_rect r;
    r.x = moi_layout_svg_x(svg, (double)(piece->first - svg->first_step));
    r.width = moi_layout_svg_x(svg, (double)(piece->last - svg->first_step) + 1) - r.x;
    r.y = moi_svg_y(&svg->map, offset + (double)piece->high);
    r.height = moi_svg_y(&svg->map, offset + (double)piece->low) - r.y;
    return r;
}

static int moi_layout_svg_is_hidden(const moi_layout_svg_rect *r) {
    return r->width * r->height < 0.5;
}

static moi_track_text moi_layout_svg_name(const moi_layout_svg *svg, size_t i) {
    moi_track_text name;
    if (svg->desc.labels && svg->desc.labels[i].name)
        return moi_track_label(svg->desc.labels[i].name, 0);
    snprintf(name.text, sizeof name.text, "%zu", i);
    return name;
}

/* The name stands inside where it fits. */
static void moi_layout_svg_piece(moi_layout_svg *svg, size_t i) {
    const mo_layout_gap *piece = &svg->pieces[i];
    moi_layout_svg_rect r = moi_layout_svg_place(svg, i);
    moi_track_text name = moi_layout_svg_name(svg, piece->item);
    moi_track_out *out = &svg->out;
    if (moi_layout_svg_is_hidden(&r)) return;
    moi_track_print(out, "<rect class=\"item %s\" x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\">",
        svg->has_categories ? mo_category_name(moi_layout_svg_category(svg, piece->item)) : "plain",
        moi_svg_number(r.x).text, moi_svg_number(r.y).text,
        moi_svg_number(r.width < 0.3 ? 0.3 : r.width).text,
        moi_svg_number(r.height < 0.3 ? 0.3 : r.height).text);
    moi_track_print(out, "<title>");
    moi_svg_put_escaped(out, name.text, 0);
    moi_track_print(out, ": %zu bytes at %zu, steps %zu to %zu</title></rect>\n",
        piece->high - piece->low, svg->offsets[piece->item] + piece->low, piece->first,
        piece->last);
    if (r.height >= 13 && r.width >= 7.2 * (double)strlen(name.text) + 8)
        moi_svg_text(out, "small", "start", r.x + 4, r.y + r.height / 2 + 4, name.text);
}

/* ---- curve and axes ------------------------------------------------------------------------ */

typedef struct moi_layout_svg_pen {
    double y;
    size_t column, high;
} moi_layout_svg_pen;

static void moi_layout_svg_draw(
    moi_layout_svg *svg, moi_layout_svg_pen *pen, double n_columns, size_t column, size_t bytes) {
    double y = moi_svg_y(&svg->curve, (double)bytes);
    if (fabs(y - pen->y) < 0.05) return;
    pen->y = y;
    moi_track_print(&svg->out, "H%s",
        moi_svg_number(moi_layout_svg_x(svg, (double)column * svg->n_steps / n_columns)).text);
    moi_track_print(&svg->out, "V%s", moi_svg_number(y).text);
}

/* Many changes are gathered in columns that show the highest one, so the peak is never lost. */
static void moi_layout_svg_curve(moi_layout_svg *svg) {
    moi_layout_svg_sweep sweep = {0, 0, 0, 0};
    moi_layout_svg_pen pen = {svg->curve.bottom, 0, 0};
    double n = fmin(svg->n_steps, MOI_LAYOUT_SVG_COLUMNS);
    size_t live = 0;
    moi_track_print(&svg->out, "<path class=\"item plain\" d=\"M%s %s",
        moi_svg_number(svg->curve.left).text, moi_svg_number(svg->curve.bottom).text);
    while (moi_layout_svg_next(svg, &sweep) > 0) {
        size_t column = (size_t)(sweep.at * n / svg->n_steps);
        if (column != pen.column) {
            moi_layout_svg_draw(svg, &pen, n, pen.column, pen.high);
            moi_layout_svg_draw(svg, &pen, n, pen.column + 1, live);
            pen.column = column;
            pen.high = 0;
        }
        pen.high = moi_max(pen.high, sweep.live);
        live = sweep.live;
    }
    moi_layout_svg_draw(svg, &pen, n, pen.column, pen.high);
    moi_track_print(&svg->out, "H%sV%sZ\"><title>live bytes</title></path>\n",
        moi_svg_number(svg->curve.right).text, moi_svg_number(svg->curve.bottom).text);
}

/* The number of a step stands at its begin, or in its middle where every step has one. */
static void moi_layout_svg_x_axis(moi_layout_svg *svg) {
    double width = svg->map.right - svg->map.left, y = svg->map.bottom + 18;
    double step = moi_svg_step(svg->n_steps, 1, (int)(width / 60));
    char text[32];
    for (double at = 0; at <= svg->n_steps - 1; at += step) {
        double x = moi_layout_svg_x(svg, step > 1 ? at : at + 0.5);
        if (x > svg->map.right - 50 && svg->n_steps > 1) break;
        snprintf(text, sizeof text, "%zu", svg->first_step + (size_t)at);
        moi_svg_text(&svg->out, "muted small num", "middle", x, y, text);
    }
    moi_svg_text(&svg->out, "muted small", "end", svg->map.right, y, "steps");
}

static void moi_layout_svg_marks(moi_layout_svg *svg) {
    moi_svg_marks marks = {0, svg->map.left - 1};
    for (size_t i = 0; i < svg->desc.n_marks; i++) {
        const mo_layout_mark *mark = &svg->desc.marks[i];
        if (mark->step < svg->first_step || mark->step > svg->last_step) continue;
        moi_svg_mark(&svg->curve, &marks,
            moi_layout_svg_x(svg, (double)(mark->step - svg->first_step)), svg->map.bottom,
            moi_track_label(mark->name, 0).text);
    }
}

/* The step with the most live bytes in both plots, the top of the layout, the capacity. */
static void moi_layout_svg_limits(moi_layout_svg *svg) {
    size_t capacity = svg->desc.capacity;
    double x, y = moi_svg_y(&svg->map, (double)svg->peak);
    char text[96];
    if (svg->peak == 0) return;
    snprintf(text, sizeof text, "top %s", moi_track_bytes(svg->peak).text);
    moi_svg_line(&svg->out, "axis", svg->map.left, y, svg->map.right, y);
    moi_svg_text(&svg->out, "halo small strong", "start", svg->map.left + 6, y - 6, text);
    if (capacity && (double)capacity <= svg->map.full_bytes)
        moi_svg_limit(&svg->map, "capacity", capacity, 0);
    x = moi_layout_svg_x(svg, (double)(svg->peak_step - svg->first_step) + 0.5);
    moi_svg_line(&svg->out, "mark", x, svg->curve.top, x, svg->map.bottom);
    int at_left = x > (svg->curve.left + svg->curve.right) / 2;
    moi_svg_text(&svg->out, "muted halo small", at_left ? "start" : "end",
        at_left ? svg->curve.left + 6 : svg->curve.right - 6, svg->curve.top + 12, "live bytes");
    moi_svg_peak(&svg->curve, x, svg->live_peak);
}

/* ---- the picture --------------------------------------------------------------------------- */

static mo_status moi_layout_svg_check(const moi_layout_svg *svg, const mo_writer *writer) {
    const mo_layout_svg_desc *desc = &svg->desc;
    if (!writer || !writer->write || (svg->n && (!svg->items || !svg->offsets)))
        return MO_E_INVALID;
    if (desc->width < 480 || desc->height < 120 || desc->width > 1 << 20 || desc->height > 1 << 20)
        return MO_E_INVALID;
    return (desc->n_marks && !desc->marks) || (desc->n_gaps && !desc->gaps) ? MO_E_INVALID : MO_OK;
}

static void moi_layout_svg_summarize(moi_layout_svg *svg) {
    char hidden[64] = "", capacity[96] = "";
    double percent = svg->live_peak ? 100 * (double)svg->peak / (double)svg->live_peak : 100;
    if (svg->desc.capacity)
        snprintf(
            capacity, sizeof capacity, ", capacity %s", moi_track_bytes(svg->desc.capacity).text);
    if (svg->n_hidden) snprintf(hidden, sizeof hidden, ", %zu too small to draw", svg->n_hidden);
    snprintf(svg->summary, sizeof svg->summary, "%zu buffers, top %s: %s %% of the live bytes%s%s",
        svg->n, moi_track_bytes(svg->peak).text, moi_svg_number(percent).text, capacity, hidden);
}

/* Room above the top for its label; a capacity far above it is left to the heading. The heading
 * decides where the plots begin, and their scale what it counts: its length changes nothing. */
static void moi_layout_svg_scale(moi_layout_svg *svg) {
    double peak = (double)svg->peak, capacity = (double)svg->desc.capacity;
    moi_svg_plot *curve = &svg->curve, *map = &svg->map;
    const char *title = svg->desc.title;
    curve->out = map->out = &svg->out;
    curve->left = map->left = MOI_SVG_LEFT;
    curve->right = map->right = svg->desc.width - MOI_SVG_RIGHT;
    curve->full_bytes = svg->live_peak ? 1.3 * (double)svg->live_peak : 1024;
    map->full_bytes = peak > 0 ? peak * 1.06 : 1024;
    if (capacity <= 3 * peak && capacity * 1.06 > map->full_bytes)
        map->full_bytes = capacity * 1.06;
    map->top = 0;
    map->bottom = svg->desc.height;
    for (size_t i = 0; i < svg->n_pieces; i++) {
        moi_layout_svg_rect r = moi_layout_svg_place(svg, i);
        svg->n_hidden += moi_layout_svg_is_hidden(&r) != 0;
    }
    moi_layout_svg_summarize(svg);
    double y = moi_svg_is_narrow(title, svg->summary, svg->desc.width) ? 74 : 52;
    curve->top = 49 +
        (svg->has_categories ? moi_svg_legend(NULL, svg->at_peak, svg->is_used, svg->desc.width, y)
                             : y - 11);
    curve->bottom = curve->top + MOI_LAYOUT_SVG_CURVE;
    map->top = curve->bottom + 40;
    map->bottom = map->top + svg->desc.height;
}

static mo_status moi_layout_svg_write(moi_layout_svg *svg) {
    const mo_layout_svg_desc *desc = &svg->desc;
    double y = moi_svg_is_narrow(desc->title, svg->summary, desc->width) ? 74 : 52;
    moi_svg_begin(&svg->out, desc->width, (int)svg->map.bottom + 40);
    moi_svg_heading(&svg->out, desc->title, svg->summary, desc->width);
    if (svg->has_categories) moi_svg_legend(&svg->out, svg->at_peak, svg->is_used, desc->width, y);
    moi_svg_y_axis(&svg->curve);
    moi_svg_y_axis(&svg->map);
    moi_layout_svg_curve(svg);
    for (size_t i = 0; i < svg->n_pieces; i++) moi_layout_svg_piece(svg, i);
    moi_layout_svg_x_axis(svg);
    moi_layout_svg_marks(svg);
    moi_layout_svg_limits(svg);
    moi_track_print(&svg->out, "</svg>\n");
    return svg->out.status;
}

static mo_status moi_layout_svg_create(moi_layout_svg *svg) {
    const mo_allocator *allocator = svg->desc.allocator;
    size_t n;
    if (!moi_mul(svg->desc.n_gaps, 2, &n) || !moi_add(n, svg->n, &n) || !moi_add(n, 1, &n))
        return MO_E_OVERFLOW;
    svg->max_pieces = n;
    svg->pieces = (mo_layout_gap *)moi_alloc_array(allocator, n, sizeof *svg->pieces);
    svg->begins = (moi_layout_key *)moi_alloc_array(allocator, n, sizeof *svg->begins);
    svg->ends = (moi_layout_key *)moi_alloc_array(allocator, n, sizeof *svg->ends);
    return svg->pieces && svg->begins && svg->ends ? MO_OK : MO_E_NO_MEMORY;
}

static void moi_layout_svg_destroy(moi_layout_svg *svg) {
    const mo_allocator *allocator = svg->desc.allocator;
    moi_free_array(allocator, svg->pieces, svg->max_pieces, sizeof *svg->pieces);
    moi_free_array(allocator, svg->begins, svg->max_pieces, sizeof *svg->begins);
    moi_free_array(allocator, svg->ends, svg->max_pieces, sizeof *svg->ends);
}

mo_status mo_layout_write_svg(const mo_layout_svg_desc *desc, const mo_layout_item *items, size_t n,
    const size_t *offsets, const mo_writer *writer) {
    moi_layout_svg svg;
    mo_status status;
    memset(&svg, 0, sizeof svg);
    if (desc) svg.desc = *desc;
    if (!svg.desc.title) svg.desc.title = "Layout";
    if (svg.desc.width == 0) svg.desc.width = 960;
    if (svg.desc.height == 0) svg.desc.height = 420;
    svg.items = items;
    svg.offsets = offsets;
    svg.n = n;
    svg.out.writer = writer;
    status = moi_layout_svg_check(&svg, writer);
    if (status == MO_OK) status = moi_layout_svg_create(&svg);
    if (status == MO_OK) status = moi_layout_svg_cut_all(&svg);
    if (status == MO_OK) {
        moi_layout_svg_sort(&svg);
        status = moi_layout_svg_scan(&svg);
    }
    if (status == MO_OK) {
        moi_layout_svg_scale(&svg);
        status = moi_layout_svg_write(&svg);
    }
    moi_layout_svg_destroy(&svg);
    return status;
}
