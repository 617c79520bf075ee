/* mo_trace.c - see mo_trace.h.
 *
 * Nothing is stored: the events are read again for each layer of the picture. Layer k is drawn as
 * the area of the categories 0..k together, the highest first, so each covers the part below it and
 * needs no lower edge. Numbers are written without %f, whose decimal point follows the locale. */

enum { MOI_TRACE_COLUMNS = 2000, MOI_TRACE_BLOCKS = 10, MOI_TRACE_MAX_BLOCKS = 32 };
enum { MOI_TRACE_LEFT = 72, MOI_TRACE_RIGHT = 24, MOI_TRACE_ROW = 22 };

/* From the bottom of the stack up: what stays comes first, so that it draws as a quiet base. */
static const mo_category moi_trace_stack[MO_CATEGORY_COUNT] = {MO_CATEGORY_INPUT, MO_CATEGORY_PARAM,
    MO_CATEGORY_OPTIMIZER, MO_CATEGORY_GRAD, MO_CATEGORY_ACTIVATION, MO_CATEGORY_WORKSPACE,
    MO_CATEGORY_OTHER};

/* The colours of PyTorch's memory timeline; on dark ground the dark ones are lighter. */
static const char *const moi_trace_style[] = {
    "<style>\n",
    "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;",
    "fill:#1f2328}\n",
    ".bg{fill:#fff}.title{font-size:18px;font-weight:600}.muted{fill:#59636e}\n",
    ".num{font-variant-numeric:tabular-nums}.small{font-size:12px}.strong{font-weight:600}\n",
    ".grid{stroke:#d1d9e0;stroke-width:1}.axis{stroke:#59636e;stroke-width:1}\n",
    ".mark{stroke:#59636e;stroke-width:1;stroke-dasharray:2 3;opacity:.6}\n",
    ".budget{stroke:#cf222e;stroke-width:1.5;stroke-dasharray:7 4}.over{fill:#cf222e}\n",
    ".failed{fill:#cf222e;stroke:#fff;stroke-width:1.5}\n",
    ".dot{fill:#1f2328;stroke:#fff;stroke-width:2}.track{fill:#eff2f5}\n",
    ".halo{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}\n",
    ".param{fill:darkgreen}.optimizer{fill:goldenrod}.grad{fill:mediumblue}\n",
    ".activation{fill:red}.workspace{fill:mediumpurple}.input{fill:black}.other{fill:grey}\n",
    "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.bg{fill:#0d1117}\n",
    ".muted{fill:#9198a1}.grid{stroke:#3d444d}.axis,.mark{stroke:#9198a1}\n",
    ".budget{stroke:#ff7b72}.over,.failed{fill:#ff7b72}.failed{stroke:#0d1117}\n",
    ".dot{fill:#f0f6fc;stroke:#0d1117}\n",
    ".track{fill:#21262d}.halo{stroke:#0d1117}.param{fill:#2ea043}.grad{fill:#6f8cff}\n",
    ".activation{fill:#ff5c5c}.input{fill:#c9d1d9}}\n",
    "</style>\n",
};

/* The picture: the plot is [left, right] x [top, bottom] in pixels. */
typedef struct moi_trace_chart {
    const mo_track *track;
    mo_trace_desc desc;
    moi_track_out out;
    double left, right, top, bottom;
    double full_bytes;  /* at the top of the plot */
    uint64_t max_bytes; /* highest total of the events kept */
    uint64_t n_events, first_event, first_ns, last_ns;
    size_t n_columns;
    mo_track_block blocks[MOI_TRACE_MAX_BLOCKS];
    size_t n_blocks;
    char summary[256];
    int is_narrow;
} moi_trace_chart;

/* ---- numbers and text ---------------------------------------------------------------------- */

/* One decimal, for coordinates and ticks. */
static moi_track_text moi_trace_number(double value) {
    moi_track_text out;
    long tenths = (long)(value * 10 + 0.5);
    if (tenths % 10) snprintf(out.text, sizeof out.text, "%ld.%ld", tenths / 10, tenths % 10);
    else snprintf(out.text, sizeof out.text, "%ld", tenths / 10);
    return out;
}

/* Text that may hold anything, as it may stand in XML or in a JSON string. */
static void moi_trace_put_escaped(moi_track_out *out, const char *text, int json) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 32 || c > 126) moi_track_put(out, "?", 1);
        else if (json && (c == '"' || c == '\\')) moi_track_print(out, "\\%c", c);
        else if (!json && strchr("&<>\"'", c)) moi_track_print(out, "&#%d;", c);
        else moi_track_put(out, text, 1);
    }
}

static uint64_t moi_trace_total(const uint64_t bytes[]) {
    uint64_t total = 0;
    for (int i = 0; i < MO_CATEGORY_COUNT; i++) total += bytes[i];
    return total;
}

/* The smallest of 1, 2, 5, 10, 20, .. times unit that cuts range into at most n steps. */
static double moi_trace_step(double range, double unit, int n) {
    static const double factors[] = {2, 2.5, 2};
    double step = unit;
    for (int i = 0; step * n < range; i = (i + 1) % 3) step *= factors[i];
    return step;
}

/* ---- columns ------------------------------------------------------------------------------- */

static size_t moi_trace_column(const moi_trace_chart *chart, const mo_track_event *event) {
    double n = (double)chart->n_columns, at, all;
    if (chart->desc.by_time) {
        at = (double)(event->time_ns - chart->first_ns);
        all = (double)(chart->last_ns - chart->first_ns) + 1;
    } else {
        at = (double)(event->number - chart->first_event);
        all = (double)chart->n_events;
    }
    return moi_min((size_t)(at * n / all), chart->n_columns - 1);
}

static double moi_trace_column_x(const moi_trace_chart *chart, double column) {
    return chart->left + (chart->right - chart->left) * column / (double)chart->n_columns;
}

static double moi_trace_event_x(const moi_trace_chart *chart, const mo_track_event *event) {
    return moi_trace_column_x(chart, (double)moi_trace_column(chart, event) + 0.5);
}

static double moi_trace_y(const moi_trace_chart *chart, double bytes) {
    return chart->bottom - (chart->bottom - chart->top) * bytes / chart->full_bytes;
}

typedef struct moi_trace_columns {
    mo_track_cursor cursor;
    int has_event;
    size_t n_read;
    uint64_t bytes[MO_CATEGORY_COUNT]; /* shown by the column */
    uint64_t after[MO_CATEGORY_COUNT]; /* after its last event */
} moi_trace_columns;

/* The next column: its highest event, or without events what the one before left. */
static int moi_trace_next_column(const moi_trace_chart *chart, moi_trace_columns *at) {
    size_t column = at->n_read++, n = 0;
    const mo_track_event *event = &at->cursor.event;
    if (column >= chart->n_columns) return 0;
    memcpy(at->bytes, at->after, sizeof at->bytes);
    for (;; n++) {
        if (!at->has_event) at->has_event = mo_track_next(chart->track, &at->cursor);
        if (!at->has_event || moi_trace_column(chart, event) > column) return 1;
        if (n == 0 || moi_trace_total(event->bytes) > moi_trace_total(at->bytes))
            memcpy(at->bytes, event->bytes, sizeof at->bytes);
        memcpy(at->after, event->bytes, sizeof at->after);
        at->has_event = 0;
    }
}

/* ---- layers -------------------------------------------------------------------------------- */

/* The area of the lowest n categories of the stack. */
static void moi_trace_area(moi_trace_chart *chart, int n) {
    moi_track_out *out = &chart->out;
    moi_trace_columns at;
    double y = chart->bottom;
    const char *name = mo_category_name(moi_trace_stack[n - 1]);
    memset(&at, 0, sizeof at);
    moi_track_print(out, "<path class=\"%s\" d=\"M%s %s", name, moi_trace_number(chart->left).text,
        moi_trace_number(chart->bottom).text);
    for (size_t column = 0; moi_trace_next_column(chart, &at); column++) {
        uint64_t bytes = 0;
        for (int i = 0; i < n; i++) bytes += at.bytes[moi_trace_stack[i]];
        double next_y = moi_trace_y(chart, (double)bytes);
        if (fabs(next_y - y) < 0.05) continue;
        y = next_y;
        moi_track_print(out, "H%sV%s",
            moi_trace_number(moi_trace_column_x(chart, (double)column)).text,
            moi_trace_number(y).text);
    }
    moi_track_print(out, "H%sV%sZ\"><title>%s</title></path>\n",
        moi_trace_number(chart->right).text, moi_trace_number(chart->bottom).text, name);
}

static void moi_trace_areas(moi_trace_chart *chart) {
    const mo_track_stats *stats = &chart->track->stats;
    for (int n = MO_CATEGORY_COUNT; n > 0 && chart->n_events > 0; n--)
        if (stats->by_category[moi_trace_stack[n - 1]].n_allocated) moi_trace_area(chart, n);
}

static void moi_trace_line(
    moi_track_out *out, const char *style, double x1, double y1, double x2, double y2) {
    moi_track_print(out, "<line class=\"%s\" x1=\"%s\" y1=\"%s\" x2=\"%s\" y2=\"%s\"/>\n", style,
        moi_trace_number(x1).text, moi_trace_number(y1).text, moi_trace_number(x2).text,
        moi_trace_number(y2).text);
}

static void moi_trace_begin_text(
    moi_track_out *out, const char *style, const char *anchor, double x, double y) {
    moi_track_print(out, "<text class=\"%s\" text-anchor=\"%s\" x=\"%s\" y=\"%s\">", style, anchor,
        moi_trace_number(x).text, moi_trace_number(y).text);
}

static void moi_trace_text(moi_track_out *out, const char *style, const char *anchor, double x,
    double y, const char *text) {
    moi_trace_begin_text(out, style, anchor, x, y);
    moi_trace_put_escaped(out, text, 0);
    moi_track_print(out, "</text>\n");
}

/* Round numbers of KiB, MiB or GiB. */
static void moi_trace_y_axis(moi_trace_chart *chart) {
    moi_track_out *out = &chart->out;
    double mib = 1024 * 1024, top = chart->full_bytes;
    double unit = top < 2 * mib ? 1024 : top < 20 * 1024 * mib ? mib : 1024 * mib;
    double step = moi_trace_step(top, unit / 10, (int)((chart->bottom - chart->top) / 40));
    const char *name = unit < mib ? "KiB" : unit > mib ? "GiB" : "MiB";
    moi_trace_text(out, "muted small", "end", chart->left - 8, chart->top - 8, name);
    for (int i = 0; i * step <= top * 1.0001; i++) {
        double y = moi_trace_y(chart, i * step);
        moi_trace_line(out, i ? "grid" : "axis", chart->left, y, chart->right, y);
        moi_trace_text(out, "muted small num", "end", chart->left - 8, y + 4,
            moi_trace_number(i * step / unit).text);
    }
}

static void moi_trace_x_axis(moi_trace_chart *chart) {
    moi_track_out *out = &chart->out;
    int n_ticks = (int)((chart->right - chart->left) / 90), by_time = chart->desc.by_time;
    double range =
        by_time ? (double)(chart->last_ns - chart->first_ns) + 1 : (double)chart->n_events;
    double unit = !by_time ? 1 : range < 2e3 ? 1 : range < 2e6 ? 1e3 : range < 2e9 ? 1e6 : 1e9;
    const char *name = !by_time ? "events"
        : unit < 1e3            ? "ns"
        : unit < 1e6            ? "us"
        : unit < 1e9            ? "ms"
                                : "s";
    double step = moi_trace_step(range, by_time ? unit / 10 : 1, n_ticks);
    double first = by_time ? 0 : (double)(chart->first_event - 1);
    for (double at = 0; at <= range - step / 2; at += step)
        moi_trace_text(out, "muted small num", "middle",
            chart->left + (chart->right - chart->left) * at / range, chart->bottom + 18,
            moi_trace_number((first + at) / unit).text);
    moi_trace_text(out, "muted small", "end", chart->right, chart->bottom + 18, name);
}

/* Dotted lines; a label only where it does not run into the one before or out of the picture. */
static void moi_trace_marks(moi_trace_chart *chart) {
    mo_track_cursor cursor;
    double free_line = 0, free_label = chart->left - 1;
    memset(&cursor, 0, sizeof cursor);
    while (mo_track_next(chart->track, &cursor)) {
        if (cursor.event.kind != MO_TRACK_MARK) continue;
        moi_track_text name = moi_track_label(cursor.event.name, 0);
        double x = moi_trace_event_x(chart, &cursor.event);
        double width = 7.2 * (double)strlen(name.text) + 10;
        if (x < free_line) continue;
        free_line = x + 24;
        moi_trace_line(&chart->out, "mark", x, chart->top, x, chart->bottom);
        if (x < free_label || x + width > chart->right + 16) continue;
        free_label = x + width;
        moi_trace_text(&chart->out, "muted small", "start", x, chart->top - 8, name.text);
    }
}

/* A triangle that points at the bytes in use when an allocation failed. */
static void moi_trace_failures(moi_trace_chart *chart) {
    mo_track_cursor cursor;
    double free_from = 0;
    memset(&cursor, 0, sizeof cursor);
    while (mo_track_next(chart->track, &cursor)) {
        double x = moi_trace_event_x(chart, &cursor.event);
        if (cursor.event.kind != MO_TRACK_OOM || x < free_from) continue;
        double y = moi_trace_y(chart, (double)moi_trace_total(cursor.event.bytes)) - 2;
        free_from = x + 10;
        moi_track_print(&chart->out, "<path class=\"failed\" d=\"M%s %sl5 -9h-10z\"><title>",
            moi_trace_number(x).text, moi_trace_number(y).text);
        moi_track_print(&chart->out, "out of memory: %s requested</title></path>\n",
            moi_track_bytes(cursor.event.size).text);
    }
}

/* x of the peak's event; negative when the ring has forgotten it. */
static double moi_trace_peak_x(const moi_trace_chart *chart) {
    mo_track_event event;
    memset(&event, 0, sizeof event);
    event.number = chart->track->peak_event;
    if (event.number == 0 || event.number < chart->first_event) return -1;
    mo_track_cursor cursor;
    memset(&cursor, 0, sizeof cursor);
    while (mo_track_next(chart->track, &cursor))
        if (cursor.event.number == event.number) return moi_trace_event_x(chart, &cursor.event);
    return -1;
}

static void moi_trace_budget(moi_trace_chart *chart, double peak_x) {
    uint64_t budget = chart->track->stats.budget_bytes;
    char text[96];
    if (!budget || (double)budget > chart->full_bytes) return;
    double y = moi_trace_y(chart, (double)budget);
    int at_left = peak_x > (chart->left + chart->right) / 2;
    snprintf(text, sizeof text, "budget %s", moi_track_bytes(budget).text);
    moi_trace_line(&chart->out, "budget", chart->left, y, chart->right, y);
    moi_trace_text(&chart->out, "over halo small strong", at_left ? "start" : "end",
        at_left ? chart->left + 6 : chart->right - 6, y - 6, text);
}

static void moi_trace_peak(moi_trace_chart *chart, double x) {
    uint64_t peak = chart->track->stats.total.peak_bytes;
    double y = moi_trace_y(chart, (double)peak);
    char text[96];
    if (x < 0 || peak == 0) return;
    const char *anchor = x < chart->left + 60 ? "start" : x > chart->right - 60 ? "end" : "middle";
    snprintf(text, sizeof text, "peak %s", moi_track_bytes(peak).text);
    moi_track_print(&chart->out, "<circle class=\"dot\" cx=\"%s\" cy=\"%s\" r=\"5\"/>\n",
        moi_trace_number(x).text, moi_trace_number(y).text);
    moi_trace_text(&chart->out, "halo strong", anchor, x, y - 11, text);
}

/* ---- around the plot ----------------------------------------------------------------------- */

static void moi_trace_set_summary(moi_trace_chart *chart) {
    const mo_track_stats *stats = &chart->track->stats;
    uint64_t peak = stats->total.peak_bytes, budget = stats->budget_bytes;
    char of_budget[96] = "", failed[48] = "";
    if (budget)
        snprintf(of_budget, sizeof of_budget, ", %u %% of the budget of %s",
            (unsigned)(100 * (double)peak / (double)budget + 0.5), moi_track_bytes(budget).text);
    if (stats->n_failed)
        snprintf(failed, sizeof failed, ", %llu failed", (unsigned long long)stats->n_failed);
    snprintf(chart->summary, sizeof chart->summary, "peak %s%s%s", moi_track_bytes(peak).text,
        of_budget, failed);
}

/* The summary stands at the right of the title, or below it where there is no room. */
static void moi_trace_heading(moi_trace_chart *chart) {
    double right = chart->desc.width - MOI_TRACE_RIGHT;
    moi_trace_text(&chart->out, "title", "start", 24, 34, chart->desc.title);
    if (chart->is_narrow) moi_trace_text(&chart->out, "muted", "start", 24, 56, chart->summary);
    else moi_trace_text(&chart->out, "muted", "end", right, 34, chart->summary);
}

static void moi_trace_legend_item(
    moi_trace_chart *chart, mo_category category, double x, double y, const char *bytes) {
    const char *name = mo_category_name(category);
    moi_track_print(&chart->out,
        "<rect class=\"%s\" x=\"%s\" y=\"%s\" width=\"11\" height=\"11\" rx=\"2\"/>\n", name,
        moi_trace_number(x).text, moi_trace_number(y).text);
    moi_trace_begin_text(&chart->out, "small", "start", x + 16, y + 10);
    moi_track_print(&chart->out, "%s <tspan class=\"muted num\">%s</tspan></text>\n", name, bytes);
}

/* The categories with their bytes at the peak; returns where the legend ends. Only measures when
 * asked not to draw. */
static double moi_trace_legend(moi_trace_chart *chart, int draw) {
    const mo_track_stats *stats = &chart->track->stats;
    double x = 24, y = chart->is_narrow ? 74 : 52;
    for (int i = 0; i < MO_CATEGORY_COUNT; i++) {
        mo_category category = moi_trace_stack[i];
        if (!stats->by_category[category].n_allocated) continue;
        moi_track_text bytes = moi_track_bytes(stats->at_peak_bytes[category]);
        size_t n = strlen(mo_category_name(category)) + strlen(bytes.text) + 1;
        double width = 34 + 7 * (double)n;
        if (x > 24 && x + width > chart->desc.width) x = 24, y += 20;
        if (draw) moi_trace_legend_item(chart, category, x, y, bytes.text);
        x += width;
    }
    return y + 11;
}

static void moi_trace_table_row(moi_trace_chart *chart, size_t i, double y) {
    const mo_track_block *block = &chart->blocks[i];
    moi_track_out *out = &chart->out;
    const char *name = mo_category_name(block->category);
    double right = chart->desc.width - MOI_TRACE_RIGHT, bar = right - 150, left = 24 + 340;
    double peak = (double)chart->track->stats.total.peak_bytes;
    double width = (bar - left) * (double)block->size / (double)chart->blocks[0].size;
    moi_trace_text(
        out, "small", "start", 24, y + 12, moi_track_label(block->name, block->line).text);
    if (chart->desc.width >= 720) {
        moi_trace_text(out, "small muted", "start", left - 86, y + 12, name);
        moi_track_print(out,
            "<rect class=\"%s\" x=\"%s\" y=\"%s\" width=\"%s\" height=\"11\" rx=\"2\"/>\n", name,
            moi_trace_number(left).text, moi_trace_number(y + 2).text,
            moi_trace_number(width < 1 ? 1 : width).text);
    }
    moi_trace_text(out, "small num", "end", right - 56, y + 12, moi_track_bytes(block->size).text);
    moi_trace_begin_text(out, "small muted num", "end", right, y + 12);
    moi_track_print(out, "%s %%</text>\n", moi_trace_number(100 * (double)block->size / peak).text);
}

static void moi_trace_table(moi_trace_chart *chart) {
    double y = chart->bottom + 52;
    if (chart->n_blocks == 0) return;
    moi_trace_text(&chart->out, "strong", "start", 24, y, "Largest blocks at the peak");
    for (size_t i = 0; i < chart->n_blocks; i++)
        moi_trace_table_row(chart, i, y + 10 + MOI_TRACE_ROW * (double)i);
}

/* ---- the picture --------------------------------------------------------------------------- */

static void moi_trace_scan(moi_trace_chart *chart) {
    mo_track_cursor cursor;
    const mo_track_event *event = &cursor.event;
    memset(&cursor, 0, sizeof cursor);
    while (mo_track_next(chart->track, &cursor)) {
        uint64_t total = moi_trace_total(event->bytes);
        if (total > chart->max_bytes) chart->max_bytes = total;
        if (chart->n_events++ == 0) {
            chart->first_event = event->number;
            chart->first_ns = event->time_ns;
        }
        chart->last_ns = event->time_ns;
    }
    chart->n_columns = MOI_TRACE_COLUMNS;
    if (!chart->desc.by_time && chart->n_events < MOI_TRACE_COLUMNS)
        chart->n_columns = (size_t)(chart->n_events ? chart->n_events : 1);
}

/* Room above the peak for its label; a budget far above all bytes is left to the heading. */
static void moi_trace_scale(moi_trace_chart *chart) {
    double max = (double)chart->max_bytes, budget = (double)chart->track->stats.budget_bytes;
    chart->full_bytes = max > 0 ? max * 1.12 : 1024;
    if (budget <= 3 * max && budget * 1.08 > chart->full_bytes) chart->full_bytes = budget * 1.08;
}

static mo_status moi_trace_set_up(moi_trace_chart *chart, const mo_track *track,
    const mo_trace_desc *desc, const mo_writer *writer) {
    memset(chart, 0, sizeof *chart);
    if (!track || !writer || !writer->write) return MO_E_INVALID;
    if (desc) chart->desc = *desc;
    if (!chart->desc.title) chart->desc.title = "Memory";
    if (chart->desc.width == 0) chart->desc.width = 960;
    if (chart->desc.height == 0) chart->desc.height = 320;
    if (chart->desc.n_blocks == 0) chart->desc.n_blocks = MOI_TRACE_BLOCKS;
    if (chart->desc.width < 480 || chart->desc.height < 120) return MO_E_INVALID;
    if (chart->desc.n_blocks > MOI_TRACE_MAX_BLOCKS) return MO_E_INVALID;
    chart->track = track;
    chart->out.writer = writer;
    chart->left = MOI_TRACE_LEFT;
    chart->right = chart->desc.width - MOI_TRACE_RIGHT;
    moi_trace_set_summary(chart);
    chart->is_narrow = 10 * strlen(chart->desc.title) + 7 * strlen(chart->summary) + 60 >
        (size_t)chart->desc.width;
    chart->top = moi_trace_legend(chart, 0) + 49;
    chart->bottom = chart->top + chart->desc.height;
    if (!chart->desc.no_table)
        chart->n_blocks = mo_track_top_peak(track, chart->blocks, chart->desc.n_blocks);
    moi_trace_scan(chart);
    moi_trace_scale(chart);
    return MO_OK;
}

static void moi_trace_begin(moi_trace_chart *chart) {
    moi_track_out *out = &chart->out;
    int table = chart->n_blocks ? 38 + MOI_TRACE_ROW * (int)chart->n_blocks : 0;
    int width = chart->desc.width, height = (int)chart->bottom + 40 + table;
    moi_track_print(out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
        "height=\"%d\" role=\"img\">\n",
        width, height, width, height);
    for (size_t i = 0; i < sizeof moi_trace_style / sizeof *moi_trace_style; i++)
        moi_track_put(out, moi_trace_style[i], strlen(moi_trace_style[i]));
    moi_track_print(out, "<rect class=\"bg\" width=\"%d\" height=\"%d\"/>\n", width, height);
}

mo_status mo_trace_write_svg(
    const mo_track *track, const mo_trace_desc *desc, const mo_writer *writer) {
    moi_trace_chart chart;
    mo_status status = moi_trace_set_up(&chart, track, desc, writer);
    if (status != MO_OK) return status;
    double peak_x = moi_trace_peak_x(&chart);
    moi_trace_begin(&chart);
    moi_trace_heading(&chart);
    moi_trace_legend(&chart, 1);
    moi_trace_y_axis(&chart);
    moi_trace_areas(&chart);
    moi_trace_x_axis(&chart);
    moi_trace_marks(&chart);
    moi_trace_budget(&chart, peak_x);
    moi_trace_failures(&chart);
    moi_trace_peak(&chart, peak_x);
    moi_trace_table(&chart);
    moi_track_print(&chart.out, "</svg>\n");
    return chart.out.status;
}

/* ---- Chrome trace -------------------------------------------------------------------------- */

static void moi_trace_json_event(moi_track_out *out, const mo_track_event *event) {
    unsigned long long ns = event->time_ns;
    const char *kind = event->kind == MO_TRACK_MARK ? event->name : "out of memory";
    if (event->kind == MO_TRACK_MARK || event->kind == MO_TRACK_OOM) {
        moi_track_print(out, ",\n{\"ph\":\"i\",\"s\":\"g\",\"pid\":1,\"tid\":1,\"name\":\"");
        moi_trace_put_escaped(out, kind ? kind : "mark", 1);
        moi_track_print(out, "\",\"ts\":%llu.%03llu}", ns / 1000, ns % 1000);
        return;
    }
    moi_track_print(out,
        ",\n{\"ph\":\"C\",\"pid\":1,\"name\":\"memory\",\"ts\":%llu.%03llu,\"args\":{", ns / 1000,
        ns % 1000);
    for (int i = 0; i < MO_CATEGORY_COUNT; i++)
        moi_track_print(out, "%s\"%s\":%llu", i ? "," : "", mo_category_name((mo_category)i),
            (unsigned long long)event->bytes[i]);
    moi_track_print(out, "}}");
}

mo_status mo_trace_write_json(const mo_track *track, const mo_writer *writer) {
    mo_track_cursor cursor;
    moi_track_out out;
    if (!track || !writer || !writer->write) return MO_E_INVALID;
    out.writer = writer;
    out.status = MO_OK;
    memset(&cursor, 0, sizeof cursor);
    moi_track_print(&out,
        "{\"traceEvents\":[\n"
        "{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\","
        "\"args\":{\"name\":\"memopt\"}}");
    while (mo_track_next(track, &cursor)) {
        if (!track->now_ns) cursor.event.time_ns = 1000 * cursor.event.number;
        moi_trace_json_event(&out, &cursor.event);
    }
    moi_track_print(&out, "\n]}\n");
    return out.status;
}
