/* mo_trace.c - see mo_trace.h.
 *
 * Nothing is stored: the events are read again for each layer of the picture. Layer k is drawn as
 * the area of the categories 0..k together, the highest first, so each covers the part below it and
 * needs no lower edge. */

enum { MOI_TRACE_COLUMNS = 2000, MOI_TRACE_BLOCKS = 10, MOI_TRACE_MAX_BLOCKS = 32 };
enum { MOI_TRACE_ROW = 22 };

typedef struct moi_trace_chart {
    const mo_track *track;
    mo_trace_desc desc;
    moi_track_out out;
    moi_svg_plot plot;
    uint64_t max_bytes; /* highest total of the events kept */
    uint64_t n_events, first_event, first_ns, last_ns;
    size_t n_columns;
    mo_track_block blocks[MOI_TRACE_MAX_BLOCKS];
    size_t n_blocks;
    char summary[256];
} moi_trace_chart;

static uint64_t moi_trace_total(const uint64_t bytes[]) {
    uint64_t total = 0;
    for (int i = 0; i < MO_CATEGORY_COUNT; i++) total += bytes[i];
    return total;
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
    return chart->plot.left +
        (chart->plot.right - chart->plot.left) * column / (double)chart->n_columns;
}

static double moi_trace_event_x(const moi_trace_chart *chart, const mo_track_event *event) {
    return moi_trace_column_x(chart, (double)moi_trace_column(chart, event) + 0.5);
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
    double y = chart->plot.bottom;
    const char *name = mo_category_name(moi_svg_stack[n - 1]);
    memset(&at, 0, sizeof at);
    moi_track_print(out, "<path class=\"%s\" d=\"M%s %s", name,
        moi_svg_number(chart->plot.left).text, moi_svg_number(chart->plot.bottom).text);
    for (size_t column = 0; moi_trace_next_column(chart, &at); column++) {
        uint64_t bytes = 0;
        for (int i = 0; i < n; i++) bytes += at.bytes[moi_svg_stack[i]];
        double next_y = moi_svg_y(&chart->plot, (double)bytes);
        if (fabs(next_y - y) < 0.05) continue;
        y = next_y;
        moi_track_print(out, "H%sV%s",
            moi_svg_number(moi_trace_column_x(chart, (double)column)).text, moi_svg_number(y).text);
    }
    moi_track_print(out, "H%sV%sZ\"><title>%s</title></path>\n",
        moi_svg_number(chart->plot.right).text, moi_svg_number(chart->plot.bottom).text, name);
}

static void moi_trace_areas(moi_trace_chart *chart) {
    const mo_track_stats *stats = &chart->track->stats;
    for (int n = MO_CATEGORY_COUNT; n > 0 && chart->n_events > 0; n--)
        if (stats->by_category[moi_svg_stack[n - 1]].n_allocated) moi_trace_area(chart, n);
}

static void moi_trace_x_axis(moi_trace_chart *chart) {
    const char *name;
    double n = (double)chart->n_events, ns = (double)(chart->last_ns - chart->first_ns) + 1;
    double unit = moi_svg_time_unit(ns, &name);
    if (chart->desc.by_time) moi_svg_x_axis(&chart->plot, 0, ns, unit, unit / 10, name);
    else moi_svg_x_axis(&chart->plot, (double)chart->first_event - 1, n, 1, 1, "events");
}

static void moi_trace_marks(const moi_trace_chart *chart) {
    mo_track_cursor cursor;
    moi_svg_marks marks = {0, chart->plot.left - 1};
    memset(&cursor, 0, sizeof cursor);
    while (mo_track_next(chart->track, &cursor)) {
        if (cursor.event.kind != MO_TRACK_MARK) continue;
        moi_track_text name = moi_track_label(cursor.event.name, 0);
        double x = moi_trace_event_x(chart, &cursor.event);
        moi_svg_mark(&chart->plot, &marks, x, chart->plot.bottom, name.text);
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
        double y = moi_svg_y(&chart->plot, (double)moi_trace_total(cursor.event.bytes)) - 2;
        free_from = x + 10;
        moi_track_print(&chart->out, "<path class=\"failed\" d=\"M%s %sl5 -9h-10z\"><title>",
            moi_svg_number(x).text, moi_svg_number(y).text);
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

static void moi_trace_budget(const moi_trace_chart *chart, double peak_x) {
    uint64_t budget = chart->track->stats.budget_bytes;
    int at_left = peak_x > (chart->plot.left + chart->plot.right) / 2;
    if (!budget || (double)budget > chart->plot.full_bytes) return;
    moi_svg_limit(&chart->plot, "budget", budget, at_left);
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

/* The categories with their bytes at the peak; returns where the legend ends. */
static double moi_trace_legend(const moi_trace_chart *chart, moi_track_out *out) {
    const mo_track_stats *stats = &chart->track->stats;
    int is_used[MO_CATEGORY_COUNT], width = chart->desc.width;
    int is_narrow = moi_svg_is_narrow(chart->desc.title, chart->summary, width);
    for (int i = 0; i < MO_CATEGORY_COUNT; i++) is_used[i] = stats->by_category[i].n_allocated != 0;
    return moi_svg_legend(out, stats->at_peak_bytes, is_used, width, is_narrow ? 74 : 52);
}

static void moi_trace_table_row(moi_trace_chart *chart, size_t i, double y) {
    const mo_track_block *block = &chart->blocks[i];
    moi_track_out *out = &chart->out;
    const char *name = mo_category_name(block->category);
    double right = chart->desc.width - MOI_SVG_RIGHT, bar = right - 150, left = 24 + 340;
    double peak = (double)chart->track->stats.total.peak_bytes;
    double width = (bar - left) * (double)block->size / (double)chart->blocks[0].size;
    moi_svg_text(out, "small", "start", 24, y + 12, moi_track_label(block->name, block->line).text);
    if (chart->desc.width >= 720) {
        moi_svg_text(out, "small muted", "start", left - 86, y + 12, name);
        moi_track_print(out,
            "<rect class=\"%s\" x=\"%s\" y=\"%s\" width=\"%s\" height=\"11\" rx=\"2\"/>\n", name,
            moi_svg_number(left).text, moi_svg_number(y + 2).text,
            moi_svg_number(width < 1 ? 1 : width).text);
    }
    moi_svg_text(out, "small num", "end", right - 56, y + 12, moi_track_bytes(block->size).text);
    moi_svg_begin_text(out, "small muted num", "end", right, y + 12);
    moi_track_print(out, "%s %%</text>\n", moi_svg_number(100 * (double)block->size / peak).text);
}

static void moi_trace_table(moi_trace_chart *chart) {
    double y = chart->plot.bottom + 52;
    if (chart->n_blocks == 0) return;
    moi_svg_text(&chart->out, "strong", "start", 24, y, "Largest blocks at the peak");
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
    chart->plot.full_bytes = max > 0 ? max * 1.12 : 1024;
    if (budget <= 3 * max && budget * 1.08 > chart->plot.full_bytes)
        chart->plot.full_bytes = budget * 1.08;
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
    chart->plot.out = &chart->out;
    chart->plot.left = MOI_SVG_LEFT;
    chart->plot.right = chart->desc.width - MOI_SVG_RIGHT;
    moi_trace_set_summary(chart);
    chart->plot.top = moi_trace_legend(chart, NULL) + 49;
    chart->plot.bottom = chart->plot.top + chart->desc.height;
    if (!chart->desc.no_table)
        chart->n_blocks = mo_track_top_peak(track, chart->blocks, chart->desc.n_blocks);
    moi_trace_scan(chart);
    moi_trace_scale(chart);
    return MO_OK;
}

static void moi_trace_begin(moi_trace_chart *chart) {
    int table = chart->n_blocks ? 38 + MOI_TRACE_ROW * (int)chart->n_blocks : 0;
    int width = chart->desc.width, height = (int)chart->plot.bottom + 40 + table;
    moi_svg_begin(&chart->out, width, height);
    moi_svg_heading(&chart->out, chart->desc.title, chart->summary, width);
}

mo_status mo_trace_write_svg(
    const mo_track *track, const mo_trace_desc *desc, const mo_writer *writer) {
    moi_trace_chart chart;
    mo_status status = moi_trace_set_up(&chart, track, desc, writer);
    if (status != MO_OK) return status;
    uint64_t peak = track->stats.total.peak_bytes;
    double peak_x = moi_trace_peak_x(&chart);
    moi_trace_begin(&chart);
    moi_trace_legend(&chart, &chart.out);
    moi_svg_y_axis(&chart.plot);
    moi_trace_areas(&chart);
    moi_trace_x_axis(&chart);
    moi_trace_marks(&chart);
    moi_trace_budget(&chart, peak_x);
    moi_trace_failures(&chart);
    if (peak_x >= 0 && peak) moi_svg_peak(&chart.plot, peak_x, peak);
    moi_trace_table(&chart);
    moi_track_print(&chart.out, "</svg>\n");
    return chart.out.status;
}

/* ---- Chrome trace -------------------------------------------------------------------------- */

/* The begin of an event of that phase. */
static void moi_trace_json_begin(moi_track_out *out, char phase, uint64_t time_ns) {
    unsigned long long ns = time_ns;
    moi_track_print(out, ",\n{\"ph\":\"%c\",\"pid\":1,\"tid\":1,\"ts\":%llu.%03llu", phase,
        ns / 1000, ns % 1000);
}

/* Its name, with what the stage works on behind it. */
static void moi_trace_json_name(moi_track_out *out, const char *name, const char *what) {
    moi_track_print(out, ",\"name\":\"");
    moi_svg_put_escaped(out, name, 1);
    if (what) moi_track_put(out, " ", 1);
    if (what) moi_svg_put_escaped(out, what, 1);
    moi_track_put(out, "\"", 1);
}

/* The total is a counter of its own: chrome://tracing stacks what is in one. */
static void moi_trace_json_counters(moi_track_out *out, const mo_track_event *event) {
    moi_trace_json_begin(out, 'C', event->time_ns);
    moi_track_print(out, ",\"name\":\"memory\",\"args\":{");
    for (int i = 0; i < MO_CATEGORY_COUNT; i++)
        moi_track_print(out, "%s\"%s\":%llu", i ? "," : "", mo_category_name((mo_category)i),
            (unsigned long long)event->bytes[i]);
    moi_track_print(out, "}}");
    moi_trace_json_begin(out, 'C', event->time_ns);
    moi_track_print(out, ",\"name\":\"total\",\"args\":{\"bytes\":%llu}}",
        (unsigned long long)moi_trace_total(event->bytes));
}

static void moi_trace_json_instant(moi_track_out *out, const mo_track_event *event) {
    moi_trace_json_begin(out, 'i', event->time_ns);
    if (event->kind == MO_TRACK_OOM) moi_trace_json_name(out, "out of memory", NULL);
    else moi_trace_json_name(out, event->name ? event->name : "mark", NULL);
    moi_track_print(out, ",\"s\":\"g\"");
    if (event->kind == MO_TRACK_OOM)
        moi_track_print(out, ",\"args\":{\"bytes\":%llu}", (unsigned long long)event->size);
    moi_track_put(out, "}", 1);
}

/* depth counts the stages that are open. One whose begin the ring has forgotten has no end. */
static void moi_trace_json_event(moi_track_out *out, const mo_track_event *event, uint64_t *depth) {
    switch (event->kind) {
    case MO_TRACK_ALLOC:
    case MO_TRACK_FREE: moi_trace_json_counters(out, event); return;
    case MO_TRACK_OOM:
    case MO_TRACK_MARK: moi_trace_json_instant(out, event); return;
    case MO_TRACK_BEGIN:
        moi_trace_json_begin(out, 'B', event->time_ns);
        moi_trace_json_name(out, event->name ? event->name : "stage", event->what);
        moi_track_put(out, "}", 1);
        ++*depth;
        return;
    case MO_TRACK_END:
        if (*depth == 0) return;
        moi_trace_json_begin(out, 'E', event->time_ns);
        moi_track_put(out, "}", 1);
        --*depth;
        return;
    }
}

mo_status mo_trace_write_json(const mo_track *track, const mo_writer *writer) {
    mo_track_cursor cursor;
    moi_track_out out;
    uint64_t last_ns = 0, depth = 0;
    if (!track || !writer || !writer->write) return MO_E_INVALID;
    out.writer = writer;
    out.status = MO_OK;
    memset(&cursor, 0, sizeof cursor);
    moi_track_print(&out,
        "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"
        "{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\","
        "\"args\":{\"name\":\"memopt\"}},\n"
        "{\"ph\":\"M\",\"pid\":1,\"tid\":1,\"name\":\"thread_name\","
        "\"args\":{\"name\":\"stages\"}}");
    while (mo_track_next(track, &cursor)) {
        mo_track_event event = cursor.event;
        if (!track->now_ns) event.time_ns = 1000 * event.number;
        if (event.time_ns < last_ns) event.time_ns = last_ns;
        last_ns = event.time_ns;
        moi_trace_json_event(&out, &event, &depth);
    }
    for (; depth > 0; depth--) {
        moi_trace_json_begin(&out, 'E', last_ns);
        moi_track_put(&out, "}", 1);
    }
    moi_track_print(&out, "\n]}\n");
    return out.status;
}
