// fit.c - memopt fit: the largest batch or sequence that a budget allows.
#include <string.h>

#include "training.h"

typedef struct fitting {
    training_run run;
    const char *largest;
    size_t most;
    mo_suggest_what what;
    mo_suggest_fit_result r;
} fitting;

// The run with the size that was found.
static training_run sized(const fitting *f) {
    training_run run = f->run;
    if (f->what == MO_SUGGEST_BATCH) run.training.batch = f->r.n;
    else run.training.seq = f->r.n;
    return run;
}

static const char *noun(const fitting *f) { return f->what == MO_SUGGEST_BATCH ? "batch" : "seq"; }

static void print_text(const fitting *f) {
    const training_run run = sized(f);
    if (f->r.n == 0) return;
    training_print(&run);
    printf("\nlargest %s: %zu, %s of %s\n", noun(f), f->r.n, text_size(f->r.at.best.bytes).text,
        text_size(run.budget).text);
    if (f->r.next.least.bytes)
        printf("the next larger one misses %s\n", text_size(f->r.next.missing_bytes).text);
    training_command(stdout, &run, &f->r.at.best);
    printf("\n");
}

static void print_json(const fitting *f) {
    const training_run run = sized(f);
    printf("{\"%s\":%zu,\"budget_bytes\":%zu,\"missing_bytes\":%llu,\"next_missing_bytes\":%llu,"
           "\"best\":",
        noun(f), f->r.n, run.budget, (unsigned long long)f->r.at.missing_bytes,
        (unsigned long long)f->r.next.missing_bytes);
    training_json_trial(&run, &f->r.at.best);
    printf("}");
    training_json_machine(&run);
    printf("}\n");
}

static int run(const command *self, int argc, const char *const *argv) {
    fitting f;
    char strategy[192];
    memset(&f, 0, sizeof f);
    flag flags[N_TRAINING_FLAGS + 4];
    size_t n = training_flags(&f.run, flags);
    flags[n++] = (flag){"--json", FLAG_SWITCH, &f.run.json};
    flags[n++] = (flag){"--budget", FLAG_BYTES, &f.run.budget};
    flags[n++] = (flag){"--largest", FLAG_TEXT, &f.largest};
    flags[n++] = (flag){"--most", FLAG_COUNT, &f.most};
    flags_parse(self, argc, argv, flags, n, NULL, 0);
    if (f.run.budget == 0) fail(EXIT_USAGE, "--budget missing (see --help)");
    if (f.largest && strcmp(f.largest, "seq") == 0) f.what = MO_SUGGEST_SEQ;
    else if (f.largest && strcmp(f.largest, "batch") != 0)
        fail(EXIT_USAGE, "--largest: '%s' is neither batch nor seq", f.largest);
    if (f.what == MO_SUGGEST_BATCH && f.run.batch)
        fail(EXIT_USAGE, "--batch: it is what is looked for (--largest seq looks for another)");
    if (f.what == MO_SUGGEST_SEQ && f.run.seq)
        fail(EXIT_USAGE, "--seq: it is what is looked for (--largest batch looks for another)");
    if (f.what == MO_SUGGEST_BATCH) f.run.batch = 1;
    training_open(&f.run, false);
    const size_t accum = f.run.training.strategy.accum;
    if (f.what == MO_SUGGEST_BATCH && f.most && f.most < accum)
        fail(EXIT_USAGE, "--most: %zu is less than accum=%zu", f.most, accum);
    mo_suggest_desc d = training_desc(&f.run);
    check(mo_suggest_fit(&d, f.what, f.most, &f.r), "planning");
    if (f.run.json) print_json(&f);
    else print_text(&f);
    flush_stdout();
    training_close(&f.run);
    if (f.r.n) return 0;
    mo_strategy_format(&f.r.at.least.strategy, strategy, sizeof strategy);
    fail(EXIT_NO, "does not fit: %s are missing; the smallest budget that works is %llu, with %s",
        text_size(f.r.at.missing_bytes).text, (unsigned long long)f.r.at.least.bytes, strategy);
}

const command fit_command = {"fit", "the largest batch or sequence within a budget",
    "  memopt fit --budget SIZE [--largest batch|seq] [flags]\n"
    "\n"
    "Looks for the largest number of sequences at a time, or of tokens in a sequence, that\n"
    "train_gpt can train with under a budget, and prints the command line for it. Everything else\n"
    "stays as it is given; what --strategy leaves open is chosen for each size. Nothing is\n"
    "allocated.\n"
    "\n"
    "  --budget SIZE     bytes, with K, M or G (1024)\n"
    "  --largest WHAT    batch (default): sequences at a time, so accum is not chosen, and only\n"
    "                    multiples of a given one are looked at; or seq\n"
    "  --most N          the largest that is looked at (65536)\n" TRAINING_HELP
    "  --json            one object\n"
    "\n"
    "Example:\n"
    "  memopt fit --layers 12 --channels 768 --heads 12 --budget 2G\n"
    "\n"
    "Exit status: 0 found; 1 not even 1 fits, and standard error says how many bytes are missing; "
    "2\n"
    "usage.\n",
    run};
