// estimate.c - memopt estimate: what a model takes, before anything runs.
#include <string.h>

#include "footprint.h"
#include "model_flags.h"

// Runs of train_gpt, which are planned to the byte.
typedef struct run_flags {
    const char *strategy;
    size_t accum, threads, budget;
} run_flags;

static bool only_zero(const void *data, size_t size) {
    const unsigned char *at = data;
    for (size_t i = 0; i < size; i++)
        if (at[i]) return false;
    return true;
}

// A run has what its strategy says; the flags of formulas would say something else.
static void check_run(const footprint_flags *f) {
    footprint_flags others = *f;
    others.batch = others.seq = 0;
    if (!only_zero(&others, sizeof others))
        fail(EXIT_USAGE,
            "--strategy plans a run of train_gpt: of the flags for formulas, only --batch and "
            "--seq go with it");
}

static void print_run(const mo_training *t, const mo_estimate *e, bool explain) {
    char strategy[192];
    mo_strategy_format(&t->strategy, strategy, sizeof strategy);
    printf("train_gpt --strategy %s: %zu x %zu tokens on %d thread%s\n", strategy, t->batch, t->seq,
        mo_parallel_threads(t->target.parallel),
        plural((size_t)mo_parallel_threads(t->target.parallel)));
    footprint_print(&t->model, &(mo_model_file_info){0}, &e->sum, explain);
    if (e->most_bytes != e->plan.peak_bytes)
        printf("%-12s %12s %18llu  where the run measures another link\n", "at most",
            text_bytes(e->most_bytes).text, (unsigned long long)e->most_bytes);
    if (e->store_bytes)
        printf("%-12s %12s %18llu  in the host's memory beside\n", "moved",
            text_bytes(e->store_bytes).text, (unsigned long long)e->store_bytes);
    if (e->paged_bytes)
        printf("%-12s %12s %18llu  in a file beside\n", "paged", text_bytes(e->paged_bytes).text,
            (unsigned long long)e->paged_bytes);
    printf("%-12s %10.3g s  an update, on a core of 100 GFLOP/s and 10 GB/s\n", "time", e->seconds);
    if (!explain) return;
    printf("\nat the peak, step %zu of %zu:\n", e->plan.peak_step + 1, e->plan.n_steps);
    for (size_t i = 0; i < e->n_stages; i++)
        printf("  %-12s %12s %18llu\n", e->stages[i].name, text_bytes(e->stages[i].bytes).text,
            (unsigned long long)e->stages[i].bytes);
}

static void json_run(const mo_training *t, const mo_estimate *e) {
    char strategy[192];
    mo_strategy_format(&t->strategy, strategy, sizeof strategy);
    printf("{\"strategy\":\"%s\",\"batch\":%zu,\"seq\":%zu,\"threads\":%d,\"peak_bytes\":%zu,"
           "\"most_bytes\":%llu,\"live_bytes\":%zu,\"store_bytes\":%llu,\"paged_bytes\":%llu,"
           "\"seconds\":%.15g,"
           "\"stages\":[",
        strategy, t->batch, t->seq, mo_parallel_threads(t->target.parallel), e->plan.peak_bytes,
        (unsigned long long)e->most_bytes, e->plan.live_bytes, (unsigned long long)e->store_bytes,
        (unsigned long long)e->paged_bytes, e->seconds);
    for (size_t i = 0; i < e->n_stages; i++)
        printf("%s{\"name\":\"%s\",\"bytes\":%llu}", i ? "," : "", e->stages[i].name,
            (unsigned long long)e->stages[i].bytes);
    printf("],\"estimate\":");
    footprint_json(&t->model, &(mo_model_file_info){0}, &e->sum, 1);
    printf("}\n");
}

// How much a budget is passed by is an answer too.
static int estimate_run(const run_flags *f, const footprint_flags *wanted, mo_model model,
    mo_model_file_info *info, bool json, bool explain) {
    mo_strategy_text asked;
    mo_parallel parallel = {.n_threads = (int)f->threads};
    mo_training t = {.model = model,
        .batch = wanted->batch ? wanted->batch : 4,
        .seq = wanted->seq    ? wanted->seq
            : model.positions ? model.positions
                              : info->context,
        .accum = f->accum,
        .target = {.parallel = &parallel},
        .log = &cli_log};
    mo_estimate e;
    check_said(mo_strategy_parse(f->strategy, &t.strategy, &asked, &cli_log));
    if (asked.open) fail(EXIT_USAGE, "--strategy: auto is a search, and this is not (see --help)");
    if (asked.distill) fail(EXIT_USAGE, "--strategy: distill=: the teacher is not planned here");
    if (t.strategy.share > 1) t.model.share = t.strategy.share;
    check_said(mo_model_complete(&t.model, &cli_log));
    check_said(mo_training_check(&t));
    check(mo_estimate_training(&e, &t, f->budget), "the plan");
    if (json) json_run(&t, &e);
    else print_run(&t, &e, explain);
    flush_stdout();
    const size_t peak = e.plan.peak_bytes;
    mo_estimate_free(&e);
    if (f->budget == 0 || peak <= f->budget) return 0;
    fail(EXIT_NO, "does not fit: %zu bytes, the budget is %zu", peak, f->budget);
}

static int run(const command *self, int argc, const char *const *argv) {
    model_flags sizes = {0};
    footprint_flags wanted = {0};
    run_flags of_run = {0};
    bool json = false, explain = false;
    enum { N_OWN = 6, N_FLAGS = N_OWN + N_MODEL_FLAGS + N_FOOTPRINT_FLAGS };
    flag flags[N_FLAGS] = {
        {"--json", FLAG_SWITCH, &json},
        {"--explain", FLAG_SWITCH, &explain},
        {"--strategy", FLAG_TEXT, &of_run.strategy},
        {"--accum", FLAG_COUNT, &of_run.accum},
        {"--threads", FLAG_COUNT, &of_run.threads},
        {"--budget", FLAG_BYTES, &of_run.budget},
    };
    model_flags_list(&sizes, flags + N_OWN);
    footprint_flags_list(&wanted, flags + N_OWN + N_MODEL_FLAGS);
    flags_parse(self, argc, argv, flags, N_FLAGS, NULL, 0);
    if (!of_run.strategy && !only_zero(&of_run, sizeof of_run))
        fail(EXIT_USAGE, "--accum, --threads, --budget: go with --strategy (see --help)");
    if (of_run.strategy) check_run(&wanted);
    if (of_run.strategy && !sizes.config && sizes.positions == 0) sizes.positions = wanted.seq;
    mo_model_file_info info;
    const mo_model m = model_flags_read(&sizes, &info);
    if (of_run.strategy) return estimate_run(&of_run, &wanted, m, &info, json, explain);
    const mo_footprint_desc desc = footprint_flags_read(&wanted, &m, &info);
    mo_footprint f;
    const mo_status status = mo_footprint_estimate(&f, &m, &desc, &cli_log);
    if (status == MO_E_OVERFLOW) check(status, "these sizes");
    check_said(status);
    if (json) footprint_json(&m, &info, &f, desc.devices);
    else footprint_print(&m, &info, &f, explain);
    flush_stdout();
    return 0;
}

const command estimate_command = {.name = "estimate",
    .summary = "what a model takes in training or generating",
    .help = "usage: memopt estimate (--config FILE | sizes) [flags]\n\n"
            "Bytes on each device of a training step, or with --infer of generating text, by "
            "formulas:\n"
            "weights, adapters, gradients, optimizer states, activations, logits, cache. Nothing "
            "runs,\n"
            "and of files only headers are read. Activations of a step's end and of a block's "
            "backward\n"
            "are not there at once: the smaller is not in the total.\n\n"
            "The model:\n" MODEL_FLAGS_HELP "\n"
            "What is done with it:\n" FOOTPRINT_FLAGS_HELP "\n"
            "A run of train_gpt, from its own plan: what the run takes, to the byte:\n"
            "  --strategy S      as of train_gpt, without auto: none, or a list such as\n"
            "                    checkpoint=block,loss=256,optim=8bit. With --batch (4) and --seq "
            "(the\n"
            "                    positions), and:\n"
            "  --accum N         batches in an update; default: 1\n"
            "  --threads N       of the CPU, on which workspaces depend; default: all\n"
            "  --budget SIZE     of the arena: checkpoint=optimal keeps within it; with offload, "
            "what\n"
            "                    is moved depends on the link that the run measures\n\n"
            "  --explain         the formula of each line, with the numbers put in\n"
            "  --json            the same as one object\n\n"
            "Exit status: 0 done; 1 more than the budget; 2 usage, or a file that is broken or of "
            "another architecture.\n",
    .run = run};
