/* mo_chart.c - see mo_chart.h. */

enum { MOI_CHART_MAX_BARS = 256, MOI_CHART_ROW = 42, MOI_CHART_BAR = 14 };

typedef struct moi_chart {
    mo_chart_desc desc;
    moi_track_out out;
    moi_svg_plot plot;
    double top; /* of the plot, below the heading */
    char summary[256];
} moi_chart;

static mo_status moi_chart_set_up(moi_chart *chart, const mo_chart_desc *desc, const char *title,
    const void *data, size_t n, const mo_writer *writer) {
    memset(chart, 0, sizeof *chart);
    if ((!data && n) || !writer || !writer->write) return MO_E_INVALID;
    if (desc) chart->desc = *desc;
    if (!chart->desc.title) chart->desc.title = title;
    if (chart->desc.width == 0) chart->desc.width = 960;
    if (chart->desc.height == 0) chart->desc.height = 420;
    if (chart->desc.width < 480 || chart->desc.height < 120) return MO_E_INVALID;
    chart->out.writer = writer;
    chart->plot.out = &chart->out;
    return MO_OK;
}

/* The scale for bytes up to max; a budget far above them is left out. */
static double moi_chart_full(const moi_chart *chart, uint64_t max, double room) {
    double full = max > 0 ? (double)max * room : 1024, budget = (double)chart->desc.budget_bytes;
    if (budget <= 3 * (double)max && budget * room > full) return budget * room;
    return full;
}

static int moi_chart_has_budget(const moi_chart *chart) {
    double budget = (double)chart->desc.budget_bytes;
    return budget > 0 && budget <= chart->plot.full_bytes;
}

static void moi_chart_begin(moi_chart *chart, int height, double below) {
    int width = chart->desc.width;
    chart->top = moi_svg_is_narrow(chart->desc.title, chart->summary, width) ? 74 : 52;
    moi_svg_begin(&chart->out, width, (int)(chart->top + below) + height);
    moi_svg_heading(&chart->out, chart->desc.title, chart->summary, width);
}

/* ---- waterfall ----------------------------------------------------------------------------- */

static double moi_chart_bar_x(const moi_chart *chart, uint64_t bytes) {
    return chart->plot.left +
        (chart->plot.right - chart->plot.left) * (double)bytes / chart->plot.full_bytes;
}

static void moi_chart_rect(
    moi_chart *chart, const char *style, uint64_t from, uint64_t to, double y) {
    double x = moi_chart_bar_x(chart, from), width = moi_chart_bar_x(chart, to) - x;
    moi_track_print(&chart->out,
        "<rect class=\"%s\" x=\"%s\" y=\"%s\" width=\"%s\" height=\"%d\"/>\n", style,
        moi_svg_number(x).text, moi_svg_number(y).text, moi_svg_number(width).text, MOI_CHART_BAR);
}

/* The bar of row i, and how much that is less or more than the row before. */
static void moi_chart_row(moi_chart *chart, const mo_chart_bar *bars, size_t i, double y) {
    uint64_t bytes = bars[i].bytes, before = i ? bars[i - 1].bytes : bytes;
    uint64_t least = bytes < before ? bytes : before;
    moi_track_out *out = &chart->out;
    moi_svg_text(out, "small", "start", chart->plot.left, y, moi_track_label(bars[i].name, 0).text);
    moi_svg_begin_text(out, "small num strong", "end", chart->plot.right, y);
    if (bytes != before)
        moi_track_print(out, "<tspan class=\"muted\" font-weight=\"400\">%s%s</tspan>",
            bytes < before ? "-" : "+",
            moi_track_bytes(bytes < before ? before - bytes : bytes - before).text);
    moi_track_print(out, "<tspan dx=\"%d\">%s</tspan></text>\n", bytes != before ? 12 : 0,
        moi_track_bytes(bytes).text);
    moi_chart_rect(chart, "plain", 0, least, y + 6);
    if (bytes < before) moi_chart_rect(chart, "track", bytes, before, y + 6);
    if (bytes > before) moi_chart_rect(chart, "over", before, bytes, y + 6);
}

static void moi_chart_bar_budget(moi_chart *chart, double top, double bottom) {
    double x = moi_chart_bar_x(chart, chart->desc.budget_bytes);
    int at_end = x > (chart->plot.left + chart->plot.right) / 2;
    char text[96];
    snprintf(text, sizeof text, "budget %s", moi_track_bytes(chart->desc.budget_bytes).text);
    moi_svg_line(&chart->out, "budget", x, top, x, bottom);
    moi_svg_text(&chart->out, "over halo small strong", at_end ? "end" : "start",
        at_end ? x - 6 : x + 6, top + 10, text);
}

mo_status mo_chart_write_waterfall(
    const mo_chart_desc *desc, const mo_chart_bar *bars, size_t n, const mo_writer *writer) {
    moi_chart chart;
    uint64_t max = 0;
    mo_status status = moi_chart_set_up(&chart, desc, "Memory by strategy", bars, n, writer);
    if (status != MO_OK) return status;
    if (n > MOI_CHART_MAX_BARS) return MO_E_INVALID;
    for (size_t i = 0; i < n; i++)
        if (bars[i].bytes > max) max = bars[i].bytes;
    if (n && bars[0].bytes)
        snprintf(chart.summary, sizeof chart.summary, "%s to %s: %s %%",
            moi_track_bytes(bars[0].bytes).text, moi_track_bytes(bars[n - 1].bytes).text,
            moi_svg_number(100 * (double)bars[n - 1].bytes / (double)bars[0].bytes).text);
    chart.plot.left = MOI_SVG_EDGE;
    chart.plot.right = chart.desc.width - MOI_SVG_RIGHT;
    chart.plot.full_bytes = moi_chart_full(&chart, max, 1);
    double rows = MOI_CHART_ROW * (double)n;
    moi_chart_begin(&chart, 32, rows);
    for (size_t i = 0; i < n; i++)
        moi_chart_row(&chart, bars, i, chart.top + 28 + MOI_CHART_ROW * (double)i);
    if (moi_chart_has_budget(&chart))
        moi_chart_bar_budget(&chart, chart.top, chart.top + 16 + rows);
    moi_track_print(&chart.out, "</svg>\n");
    return chart.out.status;
}

/* ---- pareto -------------------------------------------------------------------------------- */

/* A name, or the beginning of a long one. */
static moi_track_text moi_chart_name(const char *name) {
    moi_track_text out;
    if (!name) name = "(unnamed)";
    if (strlen(name) < sizeof out.text) snprintf(out.text, sizeof out.text, "%s", name);
    else snprintf(out.text, sizeof out.text, "%.60s...", name);
    return out;
}

typedef struct moi_pareto {
    moi_chart chart;
    const mo_chart_point *points;
    size_t n, n_frontier;
    double full_s;
} moi_pareto;

static double moi_pareto_x(const moi_pareto *p, const mo_chart_point *point) {
    const moi_svg_plot *plot = &p->chart.plot;
    return plot->left + (plot->right - plot->left) * point->time_s / p->full_s;
}

static double moi_pareto_y(const moi_pareto *p, const mo_chart_point *point) {
    return moi_svg_y(&p->chart.plot, (double)point->bytes);
}

/* The order along the frontier; equal points by their position. */
static int moi_pareto_before(const mo_chart_point *a, const mo_chart_point *b) {
    if (a->time_s != b->time_s) return a->time_s < b->time_s;
    return a->bytes != b->bytes ? a->bytes > b->bytes : a < b;
}

/* The point of the frontier behind that one, NULL = the first; NULL after the last. */
static const mo_chart_point *moi_pareto_next(const moi_pareto *p, const mo_chart_point *at) {
    const mo_chart_point *next = NULL;
    for (size_t i = 0; i < p->n; i++) {
        const mo_chart_point *point = &p->points[i];
        if (!point->on_frontier || (at && !moi_pareto_before(at, point))) continue;
        if (!next || moi_pareto_before(point, next)) next = point;
    }
    return next;
}

static mo_status moi_pareto_scan(moi_pareto *p) {
    double max_s = 0;
    uint64_t max = 0;
    for (size_t i = 0; i < p->n; i++) {
        const mo_chart_point *point = &p->points[i];
        if (!(point->time_s >= 0 && point->time_s <= 1e9)) return MO_E_INVALID;
        if (point->time_s > max_s) max_s = point->time_s;
        if (point->bytes > max) max = point->bytes;
        p->n_frontier += point->on_frontier != 0;
    }
    p->full_s = max_s > 1e-9 ? 1.08 * max_s : 1e-9;
    p->chart.plot.full_bytes = moi_chart_full(&p->chart, max, 1.08);
    return MO_OK;
}

static void moi_pareto_summarize(moi_pareto *p) {
    uint64_t budget = p->chart.desc.budget_bytes;
    const mo_chart_point *best = moi_pareto_next(p, NULL);
    const char *unit;
    while (best && budget && best->bytes > budget) best = moi_pareto_next(p, best);
    int n = snprintf(p->chart.summary, sizeof p->chart.summary, "%zu of %zu on the frontier",
        p->n_frontier, p->n);
    char *end = p->chart.summary + n;
    size_t size = sizeof p->chart.summary - (size_t)n;
    if (!best) {
        if (budget && p->n) snprintf(end, size, "; none within the budget");
        return;
    }
    double ns = moi_svg_time_unit(1e9 * best->time_s, &unit);
    snprintf(end, size, "; fastest%s: %s, %s %s, %s", budget ? " within the budget" : "",
        moi_chart_name(best->name).text, moi_svg_number(1e9 * best->time_s / ns).text, unit,
        moi_track_bytes(best->bytes).text);
}

static void moi_pareto_stair(moi_pareto *p) {
    const mo_chart_point *at = moi_pareto_next(p, NULL);
    moi_track_out *out = &p->chart.out;
    if (!at) return;
    moi_track_print(out, "<path class=\"line\" d=\"M%s %s",
        moi_svg_number(moi_pareto_x(p, at)).text, moi_svg_number(moi_pareto_y(p, at)).text);
    while ((at = moi_pareto_next(p, at)) != NULL)
        moi_track_print(out, "H%sV%s", moi_svg_number(moi_pareto_x(p, at)).text,
            moi_svg_number(moi_pareto_y(p, at)).text);
    moi_track_print(out, "\"/>\n");
}

static void moi_pareto_dot(moi_pareto *p, const mo_chart_point *point) {
    moi_track_out *out = &p->chart.out;
    const char *unit, *name = point->name ? point->name : "(unnamed)";
    double ns = moi_svg_time_unit(1e9 * point->time_s, &unit);
    moi_track_print(out, "<circle class=\"%s\" cx=\"%s\" cy=\"%s\" r=\"%s\"><title>",
        point->on_frontier ? "plain" : "muted", moi_svg_number(moi_pareto_x(p, point)).text,
        moi_svg_number(moi_pareto_y(p, point)).text, point->on_frontier ? "5" : "3.5");
    moi_svg_put_escaped(out, name, 0);
    moi_track_print(out, ": %s %s, %s</title></circle>\n",
        moi_svg_number(1e9 * point->time_s / ns).text, unit, moi_track_bytes(point->bytes).text);
}

/* Along the frontier, right above each point; a name that would run into the one before is left
 * out, as is one that starts outside. */
static void moi_pareto_names(moi_pareto *p) {
    double free_x = 0, free_y = 0;
    for (const mo_chart_point *at = moi_pareto_next(p, NULL); at; at = moi_pareto_next(p, at)) {
        moi_track_text name = moi_chart_name(at->name);
        double x = moi_pareto_x(p, at) + 8, y = moi_pareto_y(p, at) - 8;
        double width = 6.6 * (double)strlen(name.text);
        if (x + width > p->chart.plot.right) x = p->chart.plot.right - width;
        if (x < free_x && y < free_y + 14) continue;
        free_x = x + width + 8;
        free_y = y;
        moi_svg_text(&p->chart.out, "halo small", "start", x, y, name.text);
    }
}

static void moi_pareto_write(moi_pareto *p) {
    moi_chart *chart = &p->chart;
    const char *unit;
    double ns = moi_svg_time_unit(1e9 * p->full_s, &unit);
    moi_chart_begin(chart, 40, 38 + chart->desc.height);
    chart->plot.left = MOI_SVG_LEFT;
    chart->plot.right = chart->desc.width - MOI_SVG_RIGHT;
    chart->plot.top = chart->top + 38;
    chart->plot.bottom = chart->plot.top + chart->desc.height;
    moi_svg_y_axis(&chart->plot);
    moi_svg_x_axis(&chart->plot, 0, 1e9 * p->full_s, ns, ns / 10, unit);
    if (moi_chart_has_budget(chart))
        moi_svg_limit(&chart->plot, "budget", chart->desc.budget_bytes, 0);
    for (int on = 0; on < 2; on++) {
        if (on) moi_pareto_stair(p);
        for (size_t i = 0; i < p->n; i++)
            if ((p->points[i].on_frontier != 0) == on) moi_pareto_dot(p, &p->points[i]);
    }
    moi_pareto_names(p);
    moi_track_print(&chart->out, "</svg>\n");
}

mo_status mo_chart_write_pareto(
    const mo_chart_desc *desc, const mo_chart_point *points, size_t n, const mo_writer *writer) {
    moi_pareto p;
    memset(&p, 0, sizeof p);
    mo_status status =
        moi_chart_set_up(&p.chart, desc, "Memory over time of a step", points, n, writer);
    if (status != MO_OK) return status;
    p.points = points;
    p.n = n;
    status = moi_pareto_scan(&p);
    if (status != MO_OK) return status;
    moi_pareto_summarize(&p);
    moi_pareto_write(&p);
    return p.chart.out.status;
}
