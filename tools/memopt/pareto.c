// pareto.c - memopt pareto: time and memory of all strategies.
#include <stdlib.h>
#include <string.h>

#include "training.h"

typedef struct frontier {
    training_run run;
    const char *csv, *svg;
    bool all;
    mo_suggest_trial *trials; // in the order in which they were planned
    mo_pareto_point *points;
    size_t n, room, n_frontier;
    double plain; // seconds of the first
    char name[240];
} frontier;

static int keep(void *self, const mo_suggest_trial *trial) {
    frontier *f = self;
    if (f->n == f->room) {
        f->room = f->room ? 2 * f->room : 256;
        f->trials = realloc(f->trials, f->room * sizeof *f->trials);
        if (!f->trials) fail(EXIT_NO, "out of memory");
    }
    f->trials[f->n++] = *trial;
    return 0;
}

// Of a schedule its budget too, since that makes it.
static const char *name(void *self, size_t index) {
    frontier *f = self;
    const mo_suggest_trial *t = &f->trials[index];
    mo_strategy_format(&t->strategy, f->name, sizeof f->name);
    const size_t n = strlen(f->name);
    if (t->budget)
        snprintf(f->name + n, sizeof f->name - n, ",budget=%llu", (unsigned long long)t->budget);
    return f->name;
}

static void solve(frontier *f) {
    const mo_machine typical = mo_machine_typical();
    mo_suggest_desc d = training_desc(&f->run);
    if (!d.machine) d.machine = &typical; // pages cost something there too
    check(mo_suggest_each(&d, keep, f), "planning");
    if (f->n == 0) fail(EXIT_NO, "no strategy can be planned");
    f->plain = f->trials[0].seconds;
    f->points = allocate(f->n, sizeof *f->points);
    for (size_t i = 0; i < f->n; i++)
        f->points[i] = (mo_pareto_point){f->trials[i].bytes, f->trials[i].seconds, i};
    check(mo_pareto_frontier(f->points, f->n, NULL, &f->n_frontier), "the frontier");
}

static void write_files(frontier *f) {
    const mo_pareto_view view = {
        .points = f->points, .n = f->n, .n_frontier = f->n_frontier, .name = name, .self = f};
    output o;
    if (f->csv) {
        output_open(&o, f->csv);
        const mo_writer writer = output_writer(&o);
        check(mo_pareto_write_csv(&view, f->run.budget, &writer), f->csv);
        output_close(&o);
    }
    if (f->svg) {
        const mo_chart_desc chart = {
            .title = "Memory over time of an update", .budget_bytes = f->run.budget};
        output_open(&o, f->svg);
        const mo_writer writer = output_writer(&o);
        check(mo_pareto_write_svg(&view, &chart, NULL, &writer), f->svg);
        output_close(&o);
    }
}

static size_t n_shown(const frontier *f) { return f->all ? f->n : f->n_frontier; }

static bool fits(const frontier *f, size_t i) {
    return f->run.budget == 0 || f->points[i].bytes <= f->run.budget;
}

static int print_text_part(void *self, const char *text, size_t size) {
    return fwrite(text, 1, size, self) != size;
}

static void print_text(frontier *f) {
    training_print(&f->run);
    if (training_machine(&f->run)) {
        const mo_writer writer = {print_text_part, stdout};
        printf("\n");
        check(mo_machine_write_text(&f->run.machine, &writer), "standard output");
    }
    printf("\n%12s %15s %10s  %s\n", "memory", "bytes", "update", "strategy");
    for (size_t i = 0; i < n_shown(f); i++)
        printf("%12s %15llu %10s  %s%s\n", text_bytes(f->points[i].bytes).text,
            (unsigned long long)f->points[i].bytes,
            training_time(&f->run, f->points[i].seconds, f->plain).text,
            name(f, f->points[i].index), fits(f, i) ? "" : "  (over the budget)");
    printf("\n%zu of %zu on the frontier\n", f->n_frontier, f->n);
    const size_t best = mo_pareto_best(f->points, f->n_frontier, f->run.budget);
    if (f->run.budget == 0 || best == f->n_frontier) return;
    printf("the fastest within %s:\n", text_size(f->run.budget).text);
    training_command(stdout, &f->run, &f->trials[f->points[best].index]);
    printf("\n");
}

static void print_json(frontier *f) {
    const size_t best = mo_pareto_best(f->points, f->n_frontier, f->run.budget);
    printf("{\"trials\":%zu,\"on_frontier\":%zu,\"budget_bytes\":%zu,\"best\":", f->n,
        f->n_frontier, f->run.budget);
    if (f->run.budget && best < f->n_frontier) printf("%zu", best);
    else printf("null");
    printf(",\"points\":[");
    for (size_t i = 0; i < n_shown(f); i++) {
        printf(i ? "," : "");
        training_json_trial(&f->run, &f->trials[f->points[i].index]);
        printf(",\"frontier\":%s,\"fits\":%s}", i < f->n_frontier ? "true" : "false",
            fits(f, i) ? "true" : "false");
    }
    printf("]");
    training_json_machine(&f->run);
    printf("}\n");
}

static int run(const command *self, int argc, const char *const *argv) {
    frontier f;
    memset(&f, 0, sizeof f);
    flag flags[N_TRAINING_FLAGS + 5];
    size_t n = training_flags(&f.run, flags);
    flags[n++] = (flag){"--json", FLAG_SWITCH, &f.run.json};
    flags[n++] = (flag){"--budget", FLAG_BYTES, &f.run.budget};
    flags[n++] = (flag){"--csv", FLAG_TEXT, &f.csv};
    flags[n++] = (flag){"--svg", FLAG_TEXT, &f.svg};
    flags[n++] = (flag){"--all", FLAG_SWITCH, &f.all};
    flags_parse(self, argc, argv, flags, n, NULL, 0);
    if (f.csv) output_check(f.csv);
    if (f.svg) output_check(f.svg);
    training_open(&f.run, false);
    solve(&f);
    write_files(&f);
    if (f.run.json) print_json(&f);
    else print_text(&f);
    flush_stdout();
    const bool can = mo_pareto_best(f.points, f.n_frontier, f.run.budget) < f.n_frontier;
    const uint64_t least = f.points[f.n_frontier - 1].bytes;
    free(f.points);
    free(f.trials);
    training_close(&f.run);
    if (f.run.budget == 0 || can) return 0;
    fail(EXIT_NO, "does not fit: the smallest of %zu strategies needs %llu bytes", f.n,
        (unsigned long long)least);
}

const command pareto_command = {"pareto", "time and memory of all ways to train",
    "  memopt pareto [--measure] [flags]\n"
    "\n"
    "Plans the training of a GPT by train_gpt in all ways, allocating nothing, and prints those\n"
    "which no other one beats in both memory and time: from the fastest to the smallest. Bytes "
    "are\n"
    "exact; times are the cost model's, of this machine with --measure.\n"
    "\n"
    "  --budget SIZE     bytes, with K, M or G (1024): what fits, and a line in the picture\n"
    "  --all             those that are beaten too, behind the others\n"
    "  --csv FILE        all of them as a table: index,bytes,seconds,frontier,fits,name\n"
    "  --svg FILE        all of them as a picture\n" TRAINING_HELP
    "  --json            one object\n"
    "\n"
    "Paged states count with the speed of TMPDIR, or /tmp.\n"
    "\n"
    "Example:\n"
    "  memopt pareto --measure --layers 6 --batch 8 --budget 200M --svg pareto.svg\n"
    "\n"
    "Exit status: 0 done; 1 nothing fits the budget; 2 usage.\n",
    run};
