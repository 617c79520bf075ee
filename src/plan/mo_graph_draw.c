/* mo_graph_draw.c - see mo_graph.h. DOT and SVG. */

/* ---- DOT ----------------------------------------------------------------------------------- */

static void moi_graph_dot_tensor(moi_track_out *out, const mo_graph *graph, size_t id) {
    const moi_graph_tensor *tensor = &graph->tensors[id];
    moi_track_print(out, "t%zu [label=\"", id);
    moi_svg_put_escaped(out, moi_graph_tensor_name(graph, id), 1);
    moi_track_print(out, "\\n%s\",shape=ellipse", moi_track_bytes(tensor->size).text);
    if (tensor->flags & MO_GRAPH_INPUT) moi_track_print(out, ",style=bold");
    if (tensor->flags & MO_GRAPH_OUTPUT) moi_track_print(out, ",peripheries=2");
    moi_track_print(out, "];\n");
}

static void moi_graph_dot_op(moi_track_out *out, const mo_graph *graph, size_t id) {
    const moi_graph_op *op = &graph->ops[id];
    moi_track_print(out, "o%zu [label=\"", id);
    moi_svg_put_escaped(out, moi_graph_op_name(graph, id), 1);
    moi_track_print(out, "\\n");
    moi_svg_put_escaped(out, moi_graph_text(graph, op->kind), 1);
    moi_track_print(out, "\"];\n");
    for (size_t i = 0; i < op->n_inputs; i++)
        moi_track_print(out, "t%zu -> o%zu;\n", graph->numbers[op->inputs + i], id);
    for (size_t i = 0; i < op->n_outputs; i++)
        moi_track_print(out, "o%zu -> t%zu;\n", id, graph->numbers[op->outputs + i]);
    for (size_t i = 0; i < op->n_aliases; i++)
        moi_track_print(out, "t%zu -> t%zu [style=dashed,arrowhead=none,constraint=false];\n",
            graph->pairs[op->aliases + i].output, graph->pairs[op->aliases + i].input);
}

mo_status mo_graph_write_dot(const mo_graph *graph, const mo_writer *writer) {
    moi_track_out out = {writer, MO_OK};
    if (!graph || !writer || !writer->write) return MO_E_INVALID;
    moi_track_print(&out, "digraph memopt {\nnode [shape=box];\n");
    for (size_t i = 0; i < graph->n_tensors; i++) moi_graph_dot_tensor(&out, graph, i);
    for (size_t i = 0; i < graph->n_ops; i++) moi_graph_dot_op(&out, graph, i);
    moi_track_print(&out, "}\n");
    return out.status;
}

/* ---- SVG: the picture ---------------------------------------------------------------------- */

enum { MOI_GRAPH_COLUMNS = 2000, MOI_GRAPH_BARS = 40, MOI_GRAPH_MAX_BARS = 1000 };
enum { MOI_GRAPH_LEFT = 72, MOI_GRAPH_RIGHT = 24, MOI_GRAPH_TOP = 84, MOI_GRAPH_HEIGHT = 240 };
enum { MOI_GRAPH_ROW = 18, MOI_GRAPH_LABEL = 18 };

/* Below the curve are the names or numbers of the steps,
 * then the bars from rows on.
 *
 * bars   [n_bars] tensors by first step
 * steps  [ops] the order */
typedef struct moi_graph_chart {
    const mo_graph *graph;
    const size_t *order; /* NULL = as given */
    mo_graph_svg_desc desc;
    moi_track_out out;
    moi_svg_plot plot; /* the curve */
    double rows;
    mo_layout_item *items;
    size_t *takes_over, *live, *bars, *steps;
    size_t n_bars;
    mo_graph_live result;
    int has_names;
} moi_graph_chart;

static double moi_graph_x(const moi_graph_chart *chart, double step) {
    double n = chart->graph->n_ops ? (double)chart->graph->n_ops : 1;
    return chart->plot.left + (chart->plot.right - chart->plot.left) * step / n;
}

static double moi_graph_y(const moi_graph_chart *chart, double bytes) {
    return moi_svg_y(&chart->plot, bytes);
}

/* The live bytes; of more steps than columns the highest in each. */
static void moi_graph_curve(moi_graph_chart *chart) {
    moi_track_out *out = &chart->out;
    size_t n = chart->graph->n_ops, n_columns = moi_min(n, (size_t)MOI_GRAPH_COLUMNS), step = 0;
    moi_track_print(out, "<path class=\"workspace\" d=\"M%s %s",
        moi_svg_number(chart->plot.left).text, moi_svg_number(chart->plot.bottom).text);
    for (size_t column = 1; column <= n_columns; column++) {
        double end = (double)n * (double)column / (double)n_columns, bytes = 0;
        for (; step < n && (double)step < end; step++)
            bytes = (double)chart->live[step] > bytes ? (double)chart->live[step] : bytes;
        moi_track_print(out, "V%sH%s", moi_svg_number(moi_graph_y(chart, bytes)).text,
            moi_svg_number(moi_graph_x(chart, end)).text);
    }
    moi_track_print(
        out, "V%sZ\"><title>live bytes</title></path>\n", moi_svg_number(chart->plot.bottom).text);
}

/* The start of a name. */
static moi_track_text moi_graph_short(const char *name) {
    moi_track_text out;
    snprintf(out.text, sizeof out.text, "%.*s%s", MOI_GRAPH_LABEL, name,
        strlen(name) > MOI_GRAPH_LABEL ? ".." : "");
    return out;
}

/* Names of the ops where they have room, else numbers of steps. */
static void moi_graph_x_axis(moi_graph_chart *chart) {
    moi_track_out *out = &chart->out;
    size_t n = chart->graph->n_ops;
    if (!chart->has_names) {
        double step =
            moi_svg_step((double)n, 1, (int)((chart->plot.right - chart->plot.left) / 90));
        for (double at = 0; at < (double)n; at += step)
            moi_svg_text(out, "muted small num", "middle", moi_graph_x(chart, at + 0.5),
                chart->plot.bottom + 18, moi_svg_number(at).text);
        moi_svg_text(
            out, "muted small", "end", chart->plot.right, chart->plot.bottom + 34, "steps");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        moi_track_text x = moi_svg_number(moi_graph_x(chart, (double)i + 0.5) + 4);
        moi_track_text y = moi_svg_number(chart->plot.bottom + 12);
        moi_track_print(out,
            "<text class=\"muted small\" text-anchor=\"end\" x=\"%s\" y=\"%s\" "
            "transform=\"rotate(-60 %s %s)\">",
            x.text, y.text, x.text, y.text);
        moi_svg_put_escaped(
            out, moi_graph_short(moi_graph_op_name(chart->graph, chart->steps[i])).text, 0);
        moi_track_print(out, "</text>\n");
    }
}

static void moi_graph_mark_peak(moi_graph_chart *chart) {
    double x = moi_graph_x(chart, (double)chart->result.peak_step + 0.5);
    double y = moi_graph_y(chart, (double)chart->result.peak_bytes);
    if (chart->graph->n_ops == 0) return;
    moi_svg_line(&chart->out, "mark", x, y, x, chart->rows + MOI_GRAPH_ROW * (double)chart->n_bars);
    moi_svg_peak(&chart->plot, x, chart->result.peak_bytes);
}

/* The name stands behind the bar, else before it, else on it. */
static void moi_graph_bar(moi_graph_chart *chart, size_t row) {
    moi_track_out *out = &chart->out;
    size_t id = chart->bars[row], over = chart->takes_over[id];
    const mo_layout_item *item = &chart->items[id];
    moi_track_text name = moi_graph_short(moi_graph_tensor_name(chart->graph, id));
    double x = moi_graph_x(chart, (double)item->first),
           y = chart->rows + MOI_GRAPH_ROW * (double)row;
    double end = moi_graph_x(chart, (double)item->last + 1),
           room = 7 * (double)strlen(name.text) + 6;
    moi_track_print(out,
        "<rect class=\"%s\" x=\"%s\" y=\"%s\" width=\"%s\" height=\"12\" rx=\"2\">",
        mo_category_name(chart->graph->tensors[id].category), moi_svg_number(x).text,
        moi_svg_number(y).text, moi_svg_number(end - x < 1 ? 1 : end - x).text);
    moi_track_print(out, "<title>");
    moi_svg_put_escaped(out, moi_graph_tensor_name(chart->graph, id), 0);
    moi_track_print(
        out, ": %s, steps %zu to %zu", moi_track_bytes(item->size).text, item->first, item->last);
    if (over != SIZE_MAX) {
        moi_track_print(out, ", in place of ");
        moi_svg_put_escaped(out, moi_graph_tensor_name(chart->graph, over), 0);
    }
    moi_track_print(out, "</title></rect>\n");
    if (end + room < chart->plot.right)
        moi_svg_text(out, "small", "start", end + 4, y + 10, name.text);
    else if (x - room > chart->plot.left)
        moi_svg_text(out, "small", "end", x - 4, y + 10, name.text);
    else moi_svg_text(out, "small halo", "start", x + 4, y + 10, name.text);
}

static void moi_graph_heading(moi_graph_chart *chart) {
    moi_track_text peak = moi_track_bytes(chart->result.peak_bytes);
    moi_track_text in_place = moi_track_bytes(chart->result.in_place_bytes);
    char text[256];
    snprintf(text, sizeof text, "%zu ops, %zu tensors, peak %s at step %zu, %zu in place (%s)",
        chart->graph->n_ops, chart->graph->n_tensors, peak.text, chart->result.peak_step,
        chart->result.n_in_place, in_place.text);
    moi_svg_text(&chart->out, "title", "start", 24, 34, chart->desc.title);
    moi_svg_text(&chart->out, "muted", "start", 24, 56, text);
}

static void moi_graph_begin_svg(moi_graph_chart *chart) {
    int width = chart->desc.width;
    int height = (int)chart->rows + MOI_GRAPH_ROW * (int)chart->n_bars + 24;
    moi_svg_begin(&chart->out, width, height);
}

/* ---- SVG: what it shows -------------------------------------------------------------------- */

/* Whether x goes before y: by size for choosing bars, by first step for drawing them. */
static int moi_graph_bar_before(const moi_graph_chart *chart, int by_size, size_t x, size_t y) {
    const mo_layout_item *a = &chart->items[x], *b = &chart->items[y];
    if (by_size && a->size != b->size) return a->size > b->size;
    if (!by_size && a->first != b->first) return a->first < b->first;
    return x < y;
}

/* Into the sorted list; of a full one the last falls off. */
static void moi_graph_insert_bar(moi_graph_chart *chart, int by_size, size_t id, size_t max) {
    size_t at = chart->n_bars;
    if (at == max && !moi_graph_bar_before(chart, by_size, id, chart->bars[at - 1])) return;
    if (at == max) at--;
    else chart->n_bars++;
    for (; at > 0 && moi_graph_bar_before(chart, by_size, id, chart->bars[at - 1]); at--)
        chart->bars[at] = chart->bars[at - 1];
    chart->bars[at] = id;
}

static void moi_graph_choose_bars(moi_graph_chart *chart) {
    for (size_t i = 0; i < chart->graph->n_tensors; i++)
        if (chart->items[i].size) moi_graph_insert_bar(chart, 1, i, chart->desc.n_bars);
    size_t n = chart->n_bars;
    chart->n_bars = 0;
    for (size_t i = 0; i < n; i++) moi_graph_insert_bar(chart, 0, chart->bars[i], n);
}

static void moi_graph_measure(moi_graph_chart *chart) {
    double peak = (double)chart->result.peak_bytes;
    chart->plot.out = &chart->out;
    chart->plot.left = MOI_GRAPH_LEFT;
    chart->plot.right = chart->desc.width - MOI_GRAPH_RIGHT;
    chart->plot.top = MOI_GRAPH_TOP;
    chart->plot.bottom = MOI_GRAPH_TOP + MOI_GRAPH_HEIGHT;
    chart->plot.full_bytes = peak > 0 ? peak * 1.12 : 1024;
    chart->has_names = chart->graph->n_ops > 0 &&
        (chart->plot.right - chart->plot.left) / (double)chart->graph->n_ops >= 14;
    chart->rows = chart->plot.bottom + (chart->has_names ? 130 : 50);
}

static mo_status moi_graph_draw(moi_graph_chart *chart) {
    mo_graph_order_desc as_given = {0, 1, 0};
    mo_status status = MO_OK;
    if (!chart->order) status = mo_graph_order(chart->graph, &as_given, chart->steps, NULL);
    else memcpy(chart->steps, chart->order, chart->graph->n_ops * sizeof *chart->steps);
    if (status == MO_OK)
        status = mo_graph_lifetimes(chart->graph, chart->steps, chart->items, chart->takes_over,
            chart->live, &chart->result);
    if (status != MO_OK) return status;
    moi_graph_choose_bars(chart);
    moi_graph_measure(chart);
    moi_graph_begin_svg(chart);
    moi_graph_heading(chart);
    moi_svg_y_axis(&chart->plot);
    moi_graph_curve(chart);
    moi_graph_x_axis(chart);
    for (size_t i = 0; i < chart->n_bars; i++) moi_graph_bar(chart, i);
    moi_graph_mark_peak(chart);
    moi_track_print(&chart->out, "</svg>\n");
    return chart->out.status;
}

static mo_status moi_graph_chart_init(moi_graph_chart *chart, const mo_graph *graph,
    const size_t *order, const mo_graph_svg_desc *desc, const mo_writer *writer) {
    memset(chart, 0, sizeof *chart);
    if (!graph || !writer || !writer->write) return MO_E_INVALID;
    if (desc) chart->desc = *desc;
    if (!chart->desc.title) chart->desc.title = "Graph";
    if (chart->desc.width == 0) chart->desc.width = 960;
    if (chart->desc.n_bars == 0) chart->desc.n_bars = MOI_GRAPH_BARS;
    if (chart->desc.width < 480 || chart->desc.n_bars > MOI_GRAPH_MAX_BARS) return MO_E_INVALID;
    chart->graph = graph;
    chart->order = order;
    chart->out.writer = writer;
    return MO_OK;
}

mo_status mo_graph_write_svg(const mo_graph *graph, const size_t *order,
    const mo_graph_svg_desc *desc, const mo_writer *writer) {
    moi_graph_chart chart;
    mo_status status = moi_graph_chart_init(&chart, graph, order, desc, writer);
    if (status != MO_OK) return status;
    const mo_allocator *from = &graph->allocator;
    size_t n = graph->n_tensors + 1, n_ops = graph->n_ops + 1, n_bars = chart.desc.n_bars;
    chart.items = (mo_layout_item *)moi_alloc_array(from, n, sizeof *chart.items);
    chart.takes_over = (size_t *)moi_alloc_array(from, n, sizeof *chart.takes_over);
    chart.live = (size_t *)moi_alloc_array(from, n_ops, sizeof *chart.live);
    chart.steps = (size_t *)moi_alloc_array(from, n_ops, sizeof *chart.steps);
    chart.bars = (size_t *)moi_alloc_array(from, n_bars, sizeof *chart.bars);
    int ok = chart.items && chart.takes_over && chart.live && chart.steps && chart.bars;
    status = ok ? moi_graph_draw(&chart) : MO_E_NO_MEMORY;
    moi_free_array(from, chart.items, n, sizeof *chart.items);
    moi_free_array(from, chart.takes_over, n, sizeof *chart.takes_over);
    moi_free_array(from, chart.live, n_ops, sizeof *chart.live);
    moi_free_array(from, chart.steps, n_ops, sizeof *chart.steps);
    moi_free_array(from, chart.bars, n_bars, sizeof *chart.bars);
    return status;
}
