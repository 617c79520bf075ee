// plan.c - memopt plan: lifetimes to offsets.
#include "cli.h"
#include "lifetimes.h"

#include <stdlib.h>
#include <string.h>

typedef struct plan {
    lifetimes l;
    size_t capacity; // 0 = as small as possible
    double seconds;
    const char *svg, *out;
    bool json;
    size_t *offsets;
    mo_layout_result result;
    double took_s;
} plan;

static mo_layout_desc describe(const plan *p) {
    return (mo_layout_desc){
        .align = 1,
        .log = &cli_log,
        .capacity = p->capacity,
        .time_limit_s = p->seconds,
        .fixed = p->l.fixed,
        .gaps = p->l.gaps,
        .n_gaps = p->l.n_gaps,
    };
}

// ---- what does not fit ------------------------------------------------------------------------

enum { N_LARGEST = 8, N_SET = 40 };

static void print_buffer(const plan *p, size_t i) {
    const mo_layout_item *item = &p->l.items[i];
    fprintf(stderr, "  %-24s %12zu bytes, steps %zu to %zu\n", lifetimes_name(&p->l, i), item->size,
        item->first, item->last);
}

static void print_live(const mo_layout_reason *reason, const plan *p, const size_t *live) {
    fprintf(stderr, "at step %zu, %zu buffer%s need %zu bytes", reason->peak_step, reason->n_live,
        plural(reason->n_live), reason->live_bytes);
    fprintf(stderr, reason->n_live > N_LARGEST ? ", the largest are:\n" : ":\n");
    for (size_t i = 0; i < reason->n_live && i < N_LARGEST; i++) print_buffer(p, live[i]);
}

static void print_set(const mo_layout_reason *reason, const plan *p, const size_t *set) {
    if (reason->n_set == 0) return;
    fprintf(stderr, "%zu of the buffers do not fit even alone%s:", reason->n_set,
        reason->irreducible ? ", but without any one of them" : "");
    for (size_t i = 0; i < reason->n_set && i < N_SET; i++)
        fprintf(stderr, " %s", lifetimes_name(&p->l, set[i]));
    fprintf(stderr, reason->n_set > N_SET ? " ...\n" : "\n");
}

// Each set of buffers that is tried gets a short search: the library's default, without a clock.
static void report_misfit(const plan *p) {
    mo_layout_desc desc = describe(p);
    size_t *live = allocate(p->l.n, sizeof *live), *set = allocate(p->l.n, sizeof *set);
    mo_layout_reason reason;
    fprintf(stderr, "memopt plan: does not fit: %s needs %zu bytes, the capacity is %zu\n",
        p->result.proved ? "the smallest layout" : "the best layout found", p->result.peak,
        p->capacity);
    if (p->result.lower_bound <= p->capacity)
        fprintf(stderr, "whether a smaller one exists is open: try a longer --time\n");
    desc.time_limit_s = 0;
    check(mo_layout_explain(&desc, p->l.items, p->l.n, live, set, &reason), p->l.table.path);
    print_live(&reason, p, live);
    print_set(&reason, p, set);
    free(live);
    free(set);
}

// ---- the command ------------------------------------------------------------------------------

static void write_svg(const plan *p) {
    mo_layout_label *labels = allocate(p->l.n, sizeof *labels);
    output o;
    for (size_t i = 0; i < p->l.n; i++) {
        labels[i].name = lifetimes_name(&p->l, i);
        labels[i].category = MO_CATEGORY_OTHER;
    }
    output_open(&o, p->svg);
    const mo_writer writer = output_writer(&o);
    const mo_layout_svg_desc desc = {
        .title = strcmp(p->l.table.path, "-") == 0 ? NULL : p->l.table.path,
        .labels = labels,
        .capacity = p->capacity,
        .gaps = p->l.gaps,
        .n_gaps = p->l.n_gaps};
    check(mo_layout_write_svg(&desc, p->l.items, p->l.n, p->offsets, &writer), p->svg);
    output_close(&o);
    free(labels);
}

static void write_offsets(const plan *p) {
    output o;
    output_open(&o, p->out);
    lifetimes_write(&p->l, p->offsets, o.file);
    output_close(&o);
}

static void print_json(const plan *p) {
    const mo_layout_result *r = &p->result;
    fputs("{\"file\":", stdout);
    json_string(stdout, p->l.table.path);
    printf(",\"lower_bound\":%zu,\"peak\":%zu,\"proved\":%s,\"capacity\":%zu,\"fits\":%s,"
           "\"seconds\":%.3f,\"buffers\":[",
        r->lower_bound, r->peak, r->proved ? "true" : "false", p->capacity,
        p->capacity == 0 || r->peak <= p->capacity ? "true" : "false", p->took_s);
    for (size_t i = 0; i < p->l.n; i++) {
        fputs(i ? ",{\"id\":" : "{\"id\":", stdout);
        json_string(stdout, lifetimes_name(&p->l, i));
        printf(",\"size\":%zu,\"offset\":%zu}", p->l.items[i].size, p->offsets[i]);
    }
    fputs("]}\n", stdout);
    flush_stdout();
}

static void summarize(const plan *p) {
    const mo_layout_result *r = &p->result;
    fprintf(stderr, "%zu buffer%s, lower bound %zu, peak %zu (%s), ratio %.4f, %s, %.3f s\n",
        p->l.n, plural(p->l.n), r->lower_bound, r->peak, text_bytes(r->peak).text,
        r->lower_bound ? (double)r->peak / (double)r->lower_bound : 1.0,
        r->proved                                   ? "proved smallest"
            : p->capacity && r->peak <= p->capacity ? "fits"
                                                    : "not proved smallest",
        p->took_s);
}

// Where the capacity cannot be met, the rest of the time goes to the smallest layout.
static void search_smallest(plan *p, const mo_layout_desc *desc, double seconds) {
    mo_layout_desc smallest = *desc;
    mo_layout_result found;
    size_t *offsets = allocate(p->l.n, sizeof *offsets);
    smallest.capacity = 0;
    smallest.time_limit_s = seconds;
    check(mo_layout_solve(&smallest, p->l.items, p->l.n, offsets, &found), p->l.table.path);
    if (found.lower_bound < p->result.lower_bound) found.lower_bound = p->result.lower_bound;
    if (found.peak <= p->result.peak) {
        memcpy(p->offsets, offsets, p->l.n * sizeof *offsets);
        p->result = found;
        p->result.proved = found.peak == found.lower_bound;
    }
    free(offsets);
}

static void solve(plan *p) {
    mo_layout_desc desc = describe(p);
    const double begin = now_s();
    p->offsets = allocate(p->l.n, sizeof *p->offsets);
    if (p->capacity) desc.time_limit_s = 0.75 * p->seconds;
    check(mo_layout_solve(&desc, p->l.items, p->l.n, p->offsets, &p->result), p->l.table.path);
    const double left = p->seconds - (now_s() - begin);
    if (p->capacity && p->result.peak > p->capacity && !p->result.proved && left > 0)
        search_smallest(p, &desc, left);
    p->took_s = now_s() - begin;
}

static int run(const command *self, int argc, const char *const *argv) {
    plan p = {.seconds = 10};
    const char *file;
    const flag flags[] = {
        {"--capacity", FLAG_BYTES, &p.capacity},
        {"--time", FLAG_REAL, &p.seconds},
        {"--svg", FLAG_TEXT, &p.svg},
        {"-o", FLAG_TEXT, &p.out},
        {"--json", FLAG_SWITCH, &p.json},
    };
    flags_parse(self, argc, argv, flags, sizeof flags / sizeof *flags, &file, 1);
    if (!p.out && !p.json) p.out = "-";
    if (p.svg && p.out && strcmp(p.svg, p.out) == 0)
        fail(EXIT_USAGE, "--svg and -o are the same file: %s", p.out);
    if (!lifetimes_read(&p.l, file)) fail(EXIT_USAGE, "%s", p.l.table.error);
    if (p.json && p.out && strcmp(p.out, "-") == 0)
        fail(EXIT_USAGE, "--json and -o - both write to standard output");
    if (p.out) output_check(p.out);
    if (p.svg) output_check(p.svg);
    solve(&p);
    const bool fits = p.capacity == 0 || p.result.peak <= p.capacity;
    if (p.out) write_offsets(&p);
    if (p.json) print_json(&p);
    if (p.svg) write_svg(&p);
    if (!fits) report_misfit(&p);
    summarize(&p);
    free(p.offsets);
    lifetimes_close(&p.l);
    return fits ? 0 : EXIT_NO;
}

const command plan_command = {
    "plan",
    "lifetimes to offsets: the smallest block that holds all buffers",
    "  memopt plan FILE.csv [flags]\n"
    "\n"
    "  --capacity SIZE   look for a layout of at most so many bytes: 4096, 300M, 1.5G\n"
    "  --time S          end the search after S seconds (10); what was found by then is written\n"
    "  -o FILE           write the rows with their offsets there, not to standard output\n"
    "  --svg FILE        draw the layout: addresses over steps\n"
    "  --json            one object on standard output: peak, bound, offsets; rows only with -o\n"
    "\n"
    "FILE.csv has a header and one row for each buffer; - is standard input. Columns, in any "
    "order:\n"
    "  id                name\n"
    "  lower, upper      needed from step lower on, until before step upper\n"
    "  size              bytes, or any other unit\n"
    "  alignment         of the offset, a power of two (1)\n"
    "  gaps              steps without use: LOWER-UPPER; or with use of some bytes only:\n"
    "                    LOWER-UPPER@LOW:HIGH; several with blanks between them\n"
    "  offset            where it must lie; empty = anywhere\n"
    "MiniMalloc's other names are known too: start and begin for lower, end for the last step.\n"
    "\n"
    "Exit status: 0 done; 1 does not fit (the best layout found is written), or the machine does "
    "not\n"
    "allow it; 2 usage, input.\n",
    run,
};
