/* mo_report.c - see mo_report.h.
 *
 * The pictures bring their style sheet, which is the same in all of them and has the colours of the
 * categories; so the page only styles elements, and uses those colours. */

enum { MOI_REPORT_BLOCKS = 10, MOI_REPORT_MAX_BLOCKS = 32 };

static const char *const moi_report_style[] = {
    "<style>\n",
    "body{margin:0 auto;padding:16px;max-width:960px;background:#fff;color:#1f2328;",
    "font:14px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n",
    "h1{font-size:22px;margin:8px 24px 4px}h2{font-size:16px;margin:28px 24px 8px}\n",
    "p{margin:0 24px}svg{max-width:100%;height:auto;display:block}\n",
    "table{margin:0 24px;border-collapse:collapse;font-variant-numeric:tabular-nums}\n",
    "th,td{padding:4px 12px 4px 0;text-align:right;border-bottom:1px solid #d1d9e0}\n",
    "th{font-weight:600}th:first-child,td:first-child{overflow-wrap:anywhere}\n",
    "th:first-child,td:first-child,th.left,td.left{text-align:left}\n",
    "td svg{display:inline-block;margin-right:7px}\n",
    "tfoot td{font-weight:600;border-bottom:0}\n",
    "section{overflow-x:auto;margin-top:20px}h2+section{margin-top:0}\n",
    "pre{margin:0 24px;overflow-x:auto;font-size:12px}\n",
    "@media(prefers-color-scheme:dark){body{background:#0d1117;color:#f0f6fc}\n",
    "th,td{border-color:#3d444d}}\n",
    "</style>\n",
};

static void moi_report_cell(moi_track_out *out, uint64_t bytes) {
    moi_track_print(out, "<td>%s</td>", moi_track_bytes(bytes).text);
}

/* A square in the category's colour and the category. */
static void moi_report_category(moi_track_out *out, mo_category category) {
    const char *name = mo_category_name(category);
    moi_track_print(out,
        "<td class=\"left\"><svg width=\"11\" height=\"11\"><rect class=\"%s\" width=\"11\" "
        "height=\"11\" "
        "rx=\"2\"/></svg>%s</td>",
        name, name);
}

static void moi_report_title(moi_track_out *out, const char *title) {
    if (!title) return;
    moi_track_print(out, "<h2>");
    moi_svg_put_escaped(out, title, 0);
    moi_track_print(out, "</h2>\n");
}

/* ---- tables -------------------------------------------------------------------------------- */

static void moi_report_counts(moi_track_out *out, const mo_track_counts *row, uint64_t at_peak) {
    moi_report_cell(out, row->current_bytes);
    moi_report_cell(out, row->peak_bytes);
    moi_report_cell(out, at_peak);
    moi_report_cell(out, row->allocated_bytes);
    moi_report_cell(out, row->freed_bytes);
    moi_track_print(out, "<td>%llu</td></tr>\n", (unsigned long long)row->n_current);
}

static void moi_report_books(moi_track_out *out, const mo_track_stats *stats) {
    moi_report_title(out, "By category");
    moi_track_print(out,
        "<section><table><thead><tr><th>category</th><th>current</th><th>peak</th>"
        "<th>at the total's peak</th><th>allocated</th><th>freed</th><th>blocks</th></tr></thead>\n"
        "<tbody>\n");
    for (int i = MO_CATEGORY_COUNT - 1; i >= 0; i--) {
        mo_category category = moi_svg_stack[i];
        if (stats->by_category[category].n_allocated == 0) continue;
        moi_track_print(out, "<tr>");
        moi_report_category(out, category);
        moi_report_counts(out, &stats->by_category[category], stats->at_peak_bytes[category]);
    }
    moi_track_print(out, "</tbody><tfoot><tr><td>total</td>");
    moi_report_counts(out, &stats->total, stats->total.peak_bytes);
    moi_track_print(out, "</tfoot></table></section>\n");
    if (stats->n_untracked)
        moi_track_print(out, "<p>%llu live blocks are not listed: raise max_blocks</p>\n",
            (unsigned long long)stats->n_untracked);
}

/* The largest blocks, with their share of that many bytes. */
static void moi_report_blocks(moi_track_out *out, const char *title, const mo_track_block *blocks,
    size_t n, uint64_t of_bytes) {
    if (n == 0) return;
    moi_report_title(out, title);
    moi_track_print(out,
        "<section><table><thead><tr><th>block</th><th "
        "class=\"left\">category</th><th>bytes</th><th>share</th>"
        "</tr></thead><tbody>\n");
    for (size_t i = 0; i < n; i++) {
        moi_track_print(out, "<tr><td>");
        moi_svg_put_escaped(out, moi_track_label(blocks[i].name, blocks[i].line).text, 0);
        moi_track_print(out, "</td>");
        moi_report_category(out, blocks[i].category);
        moi_report_cell(out, blocks[i].size);
        moi_track_print(out, "<td>%s %%</td></tr>\n",
            moi_svg_number(100 * (double)blocks[i].size / (double)of_bytes).text);
    }
    moi_track_print(out, "</tbody></table></section>\n");
}

static void moi_report_spaces(moi_track_out *out, const mo_track_space *spaces, size_t n) {
    if (n == 0) return;
    moi_report_title(out, "Spaces");
    moi_track_print(out,
        "<section><table><thead><tr><th>space</th><th>reserved</th><th>used</th><th>peak</th>"
        "<th>free</th><th>largest free</th><th>fragmentation</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < n; i++) {
        moi_track_print(out, "<tr><td>");
        moi_svg_put_escaped(out, moi_track_label(spaces[i].name, 0).text, 0);
        moi_track_print(out, "</td>");
        moi_report_cell(out, spaces[i].reserved_bytes);
        moi_report_cell(out, spaces[i].used_bytes);
        moi_report_cell(out, spaces[i].peak_bytes);
        moi_report_cell(out, spaces[i].free_bytes);
        moi_report_cell(out, spaces[i].largest_free_bytes);
        moi_track_print(out, "<td>%s %%</td></tr>\n",
            moi_svg_number(100 * mo_track_fragmentation(&spaces[i])).text);
    }
    moi_track_print(out, "</tbody></table></section>\n");
}

/* ---- sections ------------------------------------------------------------------------------ */

/* A writer through which text becomes what may stand in the page. */
static int moi_report_write_text(void *self, const char *text, size_t size) {
    moi_track_out *out = (moi_track_out *)self;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n') moi_track_put(out, "\n", 1);
        else moi_svg_put_char(out, text[i], 0);
    }
    return out->status != MO_OK;
}

static void moi_report_section(moi_track_out *out, const mo_report_section *section) {
    mo_writer text;
    text.write = moi_report_write_text;
    text.self = out;
    moi_report_title(out, section->title);
    moi_track_print(out, section->is_text ? "<pre>" : "<section>\n");
    if (out->status != MO_OK) return;
    out->status = section->write(section->self, section->is_text ? &text : out->writer);
    moi_track_print(out, section->is_text ? "</pre>\n" : "</section>\n");
}

/* ---- the page ------------------------------------------------------------------------------ */

static void moi_report_begin(moi_track_out *out, const mo_track *track, const char *title) {
    char line[256];
    mo_track_status_line(track, line, sizeof line);
    moi_track_print(out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
        "<meta name=\"viewport\" content=\"width=device-width\"/>\n"
        "<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>");
    moi_svg_put_escaped(out, title, 0);
    moi_track_print(out, "</title>\n");
    for (size_t i = 0; i < sizeof moi_report_style / sizeof *moi_report_style; i++)
        moi_track_put(out, moi_report_style[i], strlen(moi_report_style[i]));
    moi_track_print(out, "</head><body>\n<h1>");
    moi_svg_put_escaped(out, title, 0);
    moi_track_print(out, "</h1>\n<p>%s</p>\n", line);
}

static void moi_report_timeline(moi_track_out *out, const mo_track *track, int by_time) {
    mo_trace_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.title = "Timeline";
    desc.by_time = by_time;
    desc.no_table = 1;
    moi_track_print(out, "<section>\n");
    if (out->status == MO_OK) out->status = mo_trace_write_svg(track, &desc, out->writer);
    moi_track_print(out, "</section>\n");
}

mo_status mo_report_write_html(
    const mo_track *track, const mo_report_desc *desc, const mo_writer *writer) {
    mo_track_block blocks[MOI_REPORT_MAX_BLOCKS];
    mo_report_desc d;
    moi_track_out out;
    memset(&d, 0, sizeof d);
    if (desc) d = *desc;
    if (!d.title) d.title = "Memory report";
    if (d.n_blocks == 0) d.n_blocks = MOI_REPORT_BLOCKS;
    if (!track || !writer || !writer->write || d.n_blocks > MOI_REPORT_MAX_BLOCKS ||
        (!d.spaces && d.n_spaces) || (!d.sections && d.n_sections))
        return MO_E_INVALID;
    const mo_track_counts *total = &track->stats.total;
    out.writer = writer;
    out.status = MO_OK;
    moi_report_begin(&out, track, d.title);
    moi_report_timeline(&out, track, d.by_time);
    moi_report_books(&out, &track->stats);
    size_t n = mo_track_top_peak(track, blocks, d.n_blocks);
    moi_report_blocks(&out, "Largest blocks at the peak", blocks, n, total->peak_bytes);
    n = mo_track_top_live(track, blocks, d.n_blocks);
    moi_report_blocks(&out, "Largest blocks now", blocks, n, total->current_bytes);
    moi_report_spaces(&out, d.spaces, d.n_spaces);
    for (size_t i = 0; i < d.n_sections; i++) moi_report_section(&out, &d.sections[i]);
    moi_track_print(&out, "</body></html>\n");
    return out.status;
}
