// remat.c - memopt remat: what to keep, what to compute again.
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chain.h"

// What stands beside the schedule: the first keeps everything.
static const mo_remat_baseline baselines[] = {MO_BASELINE_NONE, MO_BASELINE_BLOCK,
    MO_BASELINE_SEGMENTS, MO_BASELINE_FIRST_N, MO_BASELINE_GREEDY};
enum { N_BASELINES = sizeof baselines / sizeof *baselines };

// A line of the schedule.
typedef struct shown_op {
    const char *what;
    size_t stage;
    bool is_backward; // stages count down
} shown_op;

typedef struct remat {
    chain c;
    size_t budget;
    double bandwidth, unit_s; // bytes a second, 0 = no link; seconds of the file's unit of time
    const char *strategy, *unit;
    bool json, frontier;
    mo_remat_solution chosen, others[N_BASELINES];
    mo_offload_solution moved; // with a link: instead of chosen
    shown_op *shown;
    size_t n_shown;
    size_t floor; // the least budget, where that is more than there is; else 0
    mo_remat_point *points;
    size_t n_points;
} remat;

// Where everything is kept.
static const mo_remat_solution *plain(const remat *r) { return &r->others[0]; }

// Of the schedule that is the answer.
static size_t chosen_bytes(const remat *r) {
    return r->moved.feasible ? r->moved.peak_bytes : r->chosen.peak_bytes;
}
static double chosen_time(const remat *r) {
    return r->moved.feasible ? r->moved.makespan_s : r->chosen.cost_s;
}

static double ratio(const remat *r, double cost) {
    return plain(r)->cost_s > 0 ? cost / plain(r)->cost_s : 1;
}

static bool fits(const remat *r, size_t bytes) { return bytes <= r->budget; }

// ---- the schedule -----------------------------------------------------------------------------

static void show(remat *r, const char *what, size_t stage, bool is_backward) {
    r->shown[r->n_shown++] = (shown_op){what, stage, is_backward};
}

static void show_flat(remat *r, const mo_flat_op *op) {
    static const char *const kinds[] = {"keep", "drop", "save", "save-drop", "loss", "backward"};
    show(r, kinds[op->kind], op->stage, op->kind == MO_FLAT_BACKWARD);
}

static void show_moved(remat *r, const mo_offload_op *op) {
    static const char *const moves[][2] = {{NULL, NULL}, {"offload", "offload-x"},
        {"offloaded", "offloaded-x"}, {"prefetch", "prefetch-x"}, {"prefetched", "prefetched-x"}};
    const bool is_x = op->flat.kind == MO_FLAT_KEEP;
    if (op->kind == MO_OFFLOAD_RUN) show_flat(r, &op->flat);
    else show(r, moves[op->kind][is_x], op->flat.stage, op->kind >= MO_OFFLOAD_IN);
}

static void show_ops(remat *r) {
    r->shown = allocate(r->moved.n_ops + r->chosen.n_ops, sizeof *r->shown);
    for (size_t i = 0; i < r->moved.n_ops; i++) show_moved(r, &r->moved.ops[i]);
    for (size_t i = 0; !r->moved.feasible && i < r->chosen.n_ops; i++)
        show_flat(r, &r->chosen.ops[i]);
}

// ---- solving ----------------------------------------------------------------------------------

// The fastest that fits, else the one with the lowest peak.
static mo_remat_solution solve_baseline(const remat *r, mo_remat_baseline which, size_t budget) {
    mo_remat_solution s;
    const char *path = r->c.table.path;
    check(mo_remat_baseline_solve(&r->c.flat, which, budget, NULL, &cli_log, &s), path);
    if (!s.feasible)
        check(mo_remat_baseline_solve(&r->c.flat, which, s.floor_bytes, NULL, &cli_log, &s), path);
    return s;
}

static mo_remat_solution solve_optimal(remat *r, mo_remat_mode mode) {
    mo_remat_table_desc desc = {
        .chain = &r->c.flat, .budget = r->budget, .mode = mode, .log = &cli_log};
    mo_remat_solution s;
    check(mo_remat_optimal(&desc, &s), r->c.table.path);
    if (s.feasible) return s;
    r->floor = desc.budget = s.floor_bytes;
    check(mo_remat_optimal(&desc, &s), r->c.table.path);
    if (!s.feasible) fail(EXIT_NO, "%s: no schedule of %zu bytes", r->c.table.path, r->floor);
    return s;
}

static void find_frontier(remat *r) {
    const mo_remat_table_desc desc = {
        .chain = &r->c.flat, .budget = plain(r)->peak_bytes, .log = &cli_log};
    mo_remat_table *table;
    check(mo_remat_table_create(&table, &desc), r->c.table.path);
    const size_t n = mo_remat_table_describe(table).n_columns;
    r->points = allocate(n, sizeof *r->points);
    check(mo_remat_table_frontier(table, 0, r->points, n, &r->n_points), r->c.table.path);
    mo_remat_table_destroy(table);
}

static void solve_link(remat *r) {
    const mo_offload_desc desc = {.chain = &r->c.flat,
        .budget = r->budget,
        .link = {.out_bytes_per_s = r->bandwidth * r->unit_s},
        .log = &cli_log};
    check(mo_remat_offload(&desc, &r->moved), r->c.table.path);
}

static void solve(remat *r) {
    for (int i = 1; i < N_BASELINES; i++) r->others[i] = solve_baseline(r, baselines[i], r->budget);
    if (strcmp(r->strategy, "optimal") == 0) r->chosen = solve_optimal(r, MO_REMAT_MODE_ANY);
    else if (strcmp(r->strategy, "rotor") == 0)
        r->chosen = solve_optimal(r, MO_REMAT_MODE_KEEP_INPUT);
    for (int i = 0; i < N_BASELINES; i++)
        if (strcmp(r->strategy, mo_remat_baseline_name(baselines[i])) == 0)
            r->chosen = solve_baseline(r, baselines[i], r->budget);
    if (r->bandwidth > 0) solve_link(r);
    if (r->frontier) find_frontier(r);
    show_ops(r);
}

// ---- as text ----------------------------------------------------------------------------------

static void print_row(const remat *r, const char *name, size_t bytes, double time) {
    printf("%-10s %12s %15zu %12.6g %8.4f  %s\n", name, text_bytes(bytes).text, bytes, time,
        ratio(r, time), fits(r, bytes) ? "fits" : "does not fit");
}

// Ops of one kind on neighbouring stages are one line.
static void print_ops(const remat *r) {
    for (size_t i = 0, end; i < r->n_shown; i = end) {
        const shown_op *a = &r->shown[i], *b = a;
        for (end = i + 1; end < r->n_shown; end++, b++) {
            const size_t next = a->is_backward ? b->stage - 1 : b->stage + 1;
            if (strcmp(b[1].what, a->what) != 0 || b[1].stage != next) break;
        }
        const char *first = r->c.stages[a->stage].name, *last = r->c.stages[b->stage].name;
        if (a == b) printf("  %-12s %zu  %s\n", a->what, a->stage, first);
        else printf("  %-12s %zu..%zu  %s..%s\n", a->what, a->stage, b->stage, first, last);
    }
}

static void print_text(const remat *r) {
    printf("%s: %zu stages, budget %s (%zu), %.4g %% of what keeping everything needs\n\n",
        r->c.table.path, r->c.flat.n_stages, text_bytes(r->budget).text, r->budget,
        100.0 * (double)r->budget / (double)plain(r)->peak_bytes);
    printf("%-10s %12s %15s %12s %8s\n", "strategy", "peak", "bytes", "time", "ratio");
    if (r->moved.feasible) print_row(r, "offload", r->moved.peak_bytes, r->moved.makespan_s);
    print_row(r, r->strategy, r->chosen.peak_bytes, r->chosen.cost_s);
    for (int i = 0; i < N_BASELINES; i++)
        if (strcmp(r->strategy, mo_remat_baseline_name(baselines[i])) != 0)
            print_row(r, mo_remat_baseline_name(baselines[i]), r->others[i].peak_bytes,
                r->others[i].cost_s);
    if (r->moved.feasible)
        printf("\noffload at %.4g bytes/s: %zu items leave, at most %s (%zu) at once; it waits for "
               "%.6g\n",
            r->bandwidth, r->moved.n_items, text_bytes(r->moved.store_bytes).text,
            r->moved.store_bytes, r->moved.stall_s);
    printf("\nschedule of %s:\n", r->moved.feasible ? "offload" : r->strategy);
    print_ops(r);
    if (!r->frontier) return;
    printf("\nfrontier:\n%15s %12s %8s\n", "bytes", "time", "ratio");
    for (size_t i = 0; i < r->n_points; i++)
        printf("%15zu %12.6g %8.4f\n", r->points[i].bytes, r->points[i].cost_s,
            ratio(r, r->points[i].cost_s));
}

// ---- as JSON ----------------------------------------------------------------------------------

static void json_schedule(const remat *r, const char *name, size_t bytes, double time) {
    printf("{\"strategy\":\"%s\",\"fits\":%s,\"peak_bytes\":%zu,\"time\":%.15g,\"ratio\":%.15g",
        name, fits(r, bytes) ? "true" : "false", bytes, time, ratio(r, time));
}

static void print_json(const remat *r) {
    printf("{\"file\":");
    json_string(stdout, r->c.table.path);
    printf(",\"stages\":%zu,\"budget_bytes\":%zu,\"plain_time\":%.15g,\"floor_bytes\":",
        r->c.flat.n_stages, r->budget, plain(r)->cost_s);
    if (r->floor) printf("%zu,\"chosen\":", r->floor);
    else printf("null,\"chosen\":");
    json_schedule(r, r->moved.feasible ? "offload" : r->strategy, chosen_bytes(r), chosen_time(r));
    if (r->moved.feasible)
        printf(",\"store_bytes\":%zu,\"stall\":%.15g,\"recompute_time\":%.15g",
            r->moved.store_bytes, r->moved.stall_s, r->chosen.cost_s);
    printf(",\"ops\":[");
    for (size_t i = 0; i < r->n_shown; i++)
        printf("%s[\"%s\",%zu]", i ? "," : "", r->shown[i].what, r->shown[i].stage);
    printf("]},\"baselines\":[");
    for (int i = 0; i < N_BASELINES; i++) {
        if (i) putchar(',');
        json_schedule(
            r, mo_remat_baseline_name(baselines[i]), r->others[i].peak_bytes, r->others[i].cost_s);
        putchar('}');
    }
    printf("]");
    if (r->frontier) printf(",\"frontier\":[");
    for (size_t i = 0; i < r->n_points; i++)
        printf("%s[%zu,%.15g]", i ? "," : "", r->points[i].bytes, r->points[i].cost_s);
    printf(r->frontier ? "]}\n" : "}\n");
}

// ---- the command ------------------------------------------------------------------------------

static void check_strategy(const char *name) {
    bool is_known = strcmp(name, "optimal") == 0 || strcmp(name, "rotor") == 0;
    for (int i = 0; i < N_BASELINES; i++)
        is_known |= strcmp(name, mo_remat_baseline_name(baselines[i])) == 0;
    if (!is_known) fail(EXIT_USAGE, "--strategy: unknown '%s' (see --help)", name);
}

static void check_link(remat *r) {
    static const struct {
        const char *name;
        double s;
    } units[] = {{"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"ns", 1e-9}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(r->unit, units[i].name) == 0) r->unit_s = units[i].s;
    if (r->unit_s == 0) fail(EXIT_USAGE, "--unit: '%s' is not s, ms, us or ns", r->unit);
    if (r->bandwidth > 0 && strcmp(r->strategy, "optimal") != 0)
        fail(EXIT_USAGE, "--bandwidth goes with --strategy optimal, not %s", r->strategy);
}

static size_t budget_of(const share *s, size_t plain) {
    if (s->bytes) return s->bytes;
    const double bytes = s->percent > 0 ? floor(s->percent / 100 * (double)plain) : (double)plain;
    return bytes < 1 ? 1 : bytes < 0x1p64 ? (size_t)bytes : SIZE_MAX;
}

static void report_misfit(const remat *r) {
    const size_t peak = r->chosen.peak_bytes;
    fprintf(stderr, "memopt remat: does not fit: %s needs %zu bytes, the budget is %zu\n",
        r->floor ? "the least that any schedule" : r->strategy, r->floor ? r->floor : peak,
        r->budget);
}

static int run(const command *self, int argc, const char *const *argv) {
    remat r = {.strategy = "optimal", .unit = "us"};
    const char *file;
    share budget = {0};
    const flag flags[] = {
        {"--budget", FLAG_SHARE, &budget},
        {"--bandwidth", FLAG_RATE, &r.bandwidth},
        {"--unit", FLAG_TEXT, &r.unit},
        {"--strategy", FLAG_TEXT, &r.strategy},
        {"--frontier", FLAG_SWITCH, &r.frontier},
        {"--json", FLAG_SWITCH, &r.json},
    };
    flags_parse(self, argc, argv, flags, sizeof flags / sizeof *flags, &file, 1);
    check_strategy(r.strategy);
    check_link(&r);
    if (!budget.bytes && budget.percent == 0 && !r.frontier)
        fail(EXIT_USAGE, "--budget missing: a size such as 4G, or 40%% of what keeping all needs");
    if (!chain_read(&r.c, file)) fail(EXIT_USAGE, "%s", r.c.table.error);
    if (mo_remat_flat_check(&r.c.flat, &cli_log) != MO_OK) return EXIT_USAGE;
    r.others[0] = solve_baseline(&r, baselines[0], SIZE_MAX);
    r.budget = budget_of(&budget, plain(&r)->peak_bytes);
    solve(&r);
    if (r.json) print_json(&r);
    else print_text(&r);
    flush_stdout();
    const bool is_good = fits(&r, chosen_bytes(&r));
    if (!is_good) report_misfit(&r);
    for (int i = 0; i < N_BASELINES; i++) mo_remat_solution_free(&r.others[i]);
    mo_remat_solution_free(&r.chosen);
    mo_offload_solution_free(&r.moved);
    free(r.shown);
    free(r.points);
    chain_close(&r.c);
    return is_good ? 0 : EXIT_NO;
}

const command remat_command = {
    "remat",
    "what to keep and what to compute again, under a budget",
    "  memopt remat CHAIN.csv --budget SIZE|N% [flags]\n"
    "\n"
    "  --budget SIZE|N%   the peak must not pass it: 300M, 4G; or part of what keeping everything\n"
    "                     needs\n"
    "  --strategy S       optimal    the least time that fits (default)\n"
    "                     rotor      the same, where a saved stage keeps its input\n"
    "                     none       everything is kept\n"
    "                     block      every stage runs again before its backward\n"
    "                     segments   segments of equal length, all but the last run again\n"
    "                     first_n    the first stages run again, as few as fit\n"
    "                     greedy     single stages run again, the most bytes for the time first\n"
    "  --bandwidth RATE   what is saved may also travel to host memory and back, over a link of "
    "so\n"
    "                     many bytes a second each way: 25e9, 25G\n"
    "  --unit U           unit of the file's times, for the bandwidth: us (default), ns, ms, s\n"
    "  --frontier         all trades of bytes for time, without a link\n"
    "  --json             one object on standard output\n"
    "\n"
    "CHAIN.csv has a header and one row for each stage, the loss last; lines with # in front are\n"
    "comments; - is standard input. Columns, in any order:\n"
    "  index, name        0, 1, 2, ..\n"
    "  fw, bw             time of forward and backward, in any unit\n"
    "  x_in, x_out        bytes of the stage's input and output\n"
    "  xbar               bytes that it saves for its backward: with its output, without its "
    "input\n"
    "  fwd_tmp, bwd_tmp   bytes more while they run\n"
    "\n"
    "The schedule names ops and stages: keep = forward, the input stays; drop = forward, the "
    "input\n"
    "goes; save = forward, xbar stays; save-drop = forward, xbar stays, the input goes; offload,\n"
    "prefetch = a copy of xbar starts; offloaded, prefetched = wait for it; with -x, of the "
    "output.\n"
    "\n"
    "Exit status: 0 done; 1 does not fit (the schedule of the lowest peak is printed); 2 usage,\n"
    "input.\n",
    run,
};
