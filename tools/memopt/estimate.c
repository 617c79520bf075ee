// estimate.c - memopt estimate: what a model takes, before anything runs.
#include <string.h>

#include "footprint.h"
#include "model_flags.h"

static int run(const command *self, int argc, const char *const *argv) {
    model_flags sizes = {0};
    footprint_flags wanted = {0};
    bool json = false, explain = false;
    enum { N_OWN = 2, N_FLAGS = N_OWN + N_MODEL_FLAGS + N_FOOTPRINT_FLAGS };
    flag flags[N_FLAGS] = {
        {"--json", FLAG_SWITCH, &json},
        {"--explain", FLAG_SWITCH, &explain},
    };
    model_flags_list(&sizes, flags + N_OWN);
    footprint_flags_list(&wanted, flags + N_OWN + N_MODEL_FLAGS);
    flags_parse(self, argc, argv, flags, N_FLAGS, NULL, 0);
    mo_model_file_info info;
    const mo_model m = model_flags_read(&sizes, &info);
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
            "  --explain         the formula of each line, with the numbers put in\n"
            "  --json            the same as one object\n\n"
            "Exit status: 0 done; 2 usage, or a file that is broken or of another architecture.\n",
    .run = run};
