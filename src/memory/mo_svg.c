/* mo_svg.c - the parts of an SVG picture that mo_trace and mo_layout_svg share.
 *
 * Numbers are written without %f, whose decimal point follows the locale. */

enum { MOI_SVG_LEFT = 72, MOI_SVG_RIGHT = 24, MOI_SVG_EDGE = 24 };

/* From the bottom of the stack up: what stays comes first, so that it draws as a quiet base. */
static const mo_category moi_svg_stack[MO_CATEGORY_COUNT] = {MO_CATEGORY_INPUT, MO_CATEGORY_PARAM,
    MO_CATEGORY_OPTIMIZER, MO_CATEGORY_GRAD, MO_CATEGORY_ACTIVATION, MO_CATEGORY_WORKSPACE,
    MO_CATEGORY_OTHER};

/* The colours of PyTorch's memory timeline; on dark ground the dark ones are lighter. */
static const char *const moi_svg_style[] = {
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
    ".plain{fill:steelblue}.line{fill:none;stroke:steelblue;stroke-width:2}\n",
    ".item{fill-opacity:.5;stroke:#fff;stroke-width:.7}\n",
    "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.bg{fill:#0d1117}\n",
    ".muted{fill:#9198a1}.grid{stroke:#3d444d}.axis,.mark{stroke:#9198a1}\n",
    ".budget{stroke:#ff7b72}.over,.failed{fill:#ff7b72}.failed{stroke:#0d1117}\n",
    ".dot{fill:#f0f6fc;stroke:#0d1117}.item{stroke:#0d1117}\n",
    ".track{fill:#21262d}.halo{stroke:#0d1117}.param{fill:#2ea043}.grad{fill:#6f8cff}\n",
    ".activation{fill:#ff5c5c}.input{fill:#c9d1d9}}\n",
    "</style>\n",
};

/* Bytes over something: [left, right] x [top, bottom] in pixels. */
typedef struct moi_svg_plot {
    moi_track_out *out;
    double left, right, top, bottom;
    double full_bytes; /* at the top */
} moi_svg_plot;

/* ---- numbers and text ---------------------------------------------------------------------- */

/* One decimal, for coordinates and ticks. */
static moi_track_text moi_svg_number(double value) {
    moi_track_text out;
    long long tenths = (long long)(value * 10 + 0.5);
    if (tenths % 10) snprintf(out.text, sizeof out.text, "%lld.%lld", tenths / 10, tenths % 10);
    else snprintf(out.text, sizeof out.text, "%lld", tenths / 10);
    return out;
}

/* A character of text that may hold anything, as it may stand in XML or in a JSON string. */
static void moi_svg_put_char(moi_track_out *out, char text, int json) {
    unsigned char c = (unsigned char)text;
    if (c < 32 || c > 126) moi_track_put(out, "?", 1);
    else if (json && (c == '"' || c == '\\')) moi_track_print(out, "\\%c", c);
    else if (!json && strchr("&<>\"'", c)) moi_track_print(out, "&#%d;", c);
    else moi_track_put(out, &text, 1);
}

static void moi_svg_put_escaped(moi_track_out *out, const char *text, int json) {
    for (; *text; text++) moi_svg_put_char(out, *text, json);
}

/* The smallest of 1, 2, 5, 10, 20, .. times unit that cuts range into at most n steps. */
static double moi_svg_step(double range, double unit, int n) {
    static const double factors[] = {2, 2.5, 2};
    double step = unit;
    for (int i = 0; step * n < range; i = (i + 1) % 3) step *= factors[i];
    return step;
}

static void moi_svg_begin_text(
    moi_track_out *out, const char *style, const char *anchor, double x, double y) {
    moi_track_print(out, "<text class=\"%s\" text-anchor=\"%s\" x=\"%s\" y=\"%s\">", style, anchor,
        moi_svg_number(x).text, moi_svg_number(y).text);
}

static void moi_svg_text(moi_track_out *out, const char *style, const char *anchor, double x,
    double y, const char *text) {
    moi_svg_begin_text(out, style, anchor, x, y);
    moi_svg_put_escaped(out, text, 0);
    moi_track_print(out, "</text>\n");
}

/* ---- the picture --------------------------------------------------------------------------- */

static void moi_svg_begin(moi_track_out *out, int width, int height) {
    moi_track_print(out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
        "height=\"%d\" role=\"img\">\n",
        width, height, width, height);
    for (size_t i = 0; i < sizeof moi_svg_style / sizeof *moi_svg_style; i++)
        moi_track_put(out, moi_svg_style[i], strlen(moi_svg_style[i]));
    moi_track_print(out, "<rect class=\"bg\" width=\"%d\" height=\"%d\"/>\n", width, height);
}

/* Whether the summary goes below the title, as there is no room at its right. */
static int moi_svg_is_narrow(const char *title, const char *summary, int width) {
    return 10 * strlen(title) + 7 * strlen(summary) + 60 > (size_t)width;
}

static void moi_svg_heading(moi_track_out *out, const char *title, const char *summary, int width) {
    int is_narrow = moi_svg_is_narrow(title, summary, width);
    moi_svg_text(out, "title", "start", MOI_SVG_EDGE, 34, title);
    if (is_narrow) moi_svg_text(out, "muted", "start", MOI_SVG_EDGE, 56, summary);
    else moi_svg_text(out, "muted", "end", width - MOI_SVG_RIGHT, 34, summary);
}

static void moi_svg_legend_item(
    moi_track_out *out, mo_category category, double x, double y, const char *bytes) {
    const char *name = mo_category_name(category);
    moi_track_print(out,
        "<rect class=\"%s\" x=\"%s\" y=\"%s\" width=\"11\" height=\"11\" rx=\"2\"/>\n", name,
        moi_svg_number(x).text, moi_svg_number(y).text);
    moi_svg_begin_text(out, "small", "start", x + 16, y + 10);
    moi_track_print(out, "%s <tspan class=\"muted num\">%s</tspan></text>\n", name, bytes);
}

/* The categories that are used, with their bytes; y is where the legend begins, returned is where
 * it ends. Only measures without out. */
static double moi_svg_legend(
    moi_track_out *out, const uint64_t bytes[], const int is_used[], int width, double y) {
    double x = MOI_SVG_EDGE;
    for (int i = 0; i < MO_CATEGORY_COUNT; i++) {
        mo_category category = moi_svg_stack[i];
        if (!is_used[category]) continue;
        moi_track_text text = moi_track_bytes(bytes[category]);
        size_t n = strlen(mo_category_name(category)) + strlen(text.text) + 1;
        double wide = 34 + 7 * (double)n;
        if (x > MOI_SVG_EDGE && x + wide > width) x = MOI_SVG_EDGE, y += 20;
        if (out) moi_svg_legend_item(out, category, x, y, text.text);
        x += wide;
    }
    return y + 11;
}

/* ---- in a plot ----------------------------------------------------------------------------- */

static double moi_svg_y(const moi_svg_plot *plot, double bytes) {
    return plot->bottom - (plot->bottom - plot->top) * bytes / plot->full_bytes;
}

static void moi_svg_line(
    moi_track_out *out, const char *style, double x1, double y1, double x2, double y2) {
    moi_track_print(out, "<line class=\"%s\" x1=\"%s\" y1=\"%s\" x2=\"%s\" y2=\"%s\"/>\n", style,
        moi_svg_number(x1).text, moi_svg_number(y1).text, moi_svg_number(x2).text,
        moi_svg_number(y2).text);
}

/* Round numbers of B, KiB, MiB or GiB. */
static void moi_svg_y_axis(const moi_svg_plot *plot) {
    double kib = 1024, mib = 1024 * kib, top = plot->full_bytes;
    double unit = top < kib ? 1 : top < 2 * mib ? kib : top < 20480 * mib ? mib : 1024 * mib;
    const char *name = unit < kib ? "B" : unit < mib ? "KiB" : unit > mib ? "GiB" : "MiB";
    double least = unit < kib ? 1 : unit / 10;
    double height = plot->bottom - plot->top;
    double step = moi_svg_step(top, least, (int)(height / (height < 120 ? 28 : 40)));
    moi_svg_text(plot->out, "muted small", "end", plot->left - 8, plot->top - 8, name);
    for (int i = 0; i * step <= top * 1.0001; i++) {
        double y = moi_svg_y(plot, i * step);
        moi_svg_line(plot->out, i ? "grid" : "axis", plot->left, y, plot->right, y);
        moi_svg_text(plot->out, "muted small num", "end", plot->left - 8, y + 4,
            moi_svg_number(i * step / unit).text);
    }
}

/* Round numbers of unit below the plot, whose range begins at first; least is the smallest step. */
static void moi_svg_x_axis(const moi_svg_plot *plot, double first, double range, double unit,
    double least, const char *name) {
    double wide = plot->right - plot->left, step = moi_svg_step(range, least, (int)(wide / 90));
    for (double at = 0; at <= range - step / 2; at += step)
        moi_svg_text(plot->out, "muted small num", "middle", plot->left + wide * at / range,
            plot->bottom + 18, moi_svg_number((first + at) / unit).text);
    moi_svg_text(plot->out, "muted small", "end", plot->right, plot->bottom + 18, name);
}

/* The unit in which times up to that read well, in nanoseconds. */
static double moi_svg_time_unit(double ns, const char **name) {
    *name = ns < 2e3 ? "ns" : ns < 2e6 ? "us" : ns < 2e9 ? "ms" : "s";
    return ns < 2e3 ? 1 : ns < 2e6 ? 1e3 : ns < 2e9 ? 1e6 : 1e9;
}

/* Where the last mark and its label ended. */
typedef struct moi_svg_marks {
    double free_line, free_label;
} moi_svg_marks;

/* A dotted line down to bottom; a label only where it does not run into the one before or out of
 * the picture. */
static void moi_svg_mark(
    const moi_svg_plot *plot, moi_svg_marks *marks, double x, double bottom, const char *name) {
    double width = 7.2 * (double)strlen(name) + 10;
    if (x < marks->free_line) return;
    marks->free_line = x + 24;
    moi_svg_line(plot->out, "mark", x, plot->top, x, bottom);
    if (x < marks->free_label || x + width > plot->right + 16) return;
    marks->free_label = x + width;
    moi_svg_text(plot->out, "muted small", "start", x, plot->top - 8, name);
}

/* A limit that must not be passed, with its label at one end. */
static void moi_svg_limit(const moi_svg_plot *plot, const char *name, uint64_t bytes, int at_left) {
    char text[96];
    double y = moi_svg_y(plot, (double)bytes);
    snprintf(text, sizeof text, "%s %s", name, moi_track_bytes(bytes).text);
    moi_svg_line(plot->out, "budget", plot->left, y, plot->right, y);
    moi_svg_text(plot->out, "over halo small strong", at_left ? "start" : "end",
        at_left ? plot->left + 6 : plot->right - 6, y - 6, text);
}

static void moi_svg_peak(const moi_svg_plot *plot, double x, uint64_t peak) {
    double y = moi_svg_y(plot, (double)peak);
    char text[96];
    const char *anchor = x < plot->left + 60 ? "start" : x > plot->right - 60 ? "end" : "middle";
    snprintf(text, sizeof text, "peak %s", moi_track_bytes(peak).text);
    moi_track_print(plot->out, "<circle class=\"dot\" cx=\"%s\" cy=\"%s\" r=\"5\"/>\n",
        moi_svg_number(x).text, moi_svg_number(y).text);
    moi_svg_text(plot->out, "halo strong", anchor, x, y - 11, text);
}
