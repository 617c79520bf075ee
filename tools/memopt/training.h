// training.h - a run of train_gpt, as suggest, fit and pareto are told of it, and the command line
// that starts it.
#ifndef TRAINING_H
#define TRAINING_H

#include "cli.h"
#include "model_flags.h"

typedef struct training_run {
    model_flags sizes;
    const char *strategy, *open, *tokens, *devices;
    word_list texts;
    size_t seq, batch, accum, threads, steps, budget;
    bool measure, json;
    mo_training training; // filled by training_open, as is the rest
    mo_parallel parallel;
    mo_machine machine; // measured, where n_threads is not 0
    unsigned open_bits;
    bool closed;
    bool is_init;    // the model is a file that train_gpt starts from
    const char *odd; // a size that train_gpt has no flag for; NULL = none
} training_run;

// The flags that all three have, into flags; returns how many. TRAINING_HELP tells of them.
enum { N_OWN_TRAINING_FLAGS = 11, N_TRAINING_FLAGS = N_OWN_TRAINING_FLAGS + N_MODEL_FLAGS };
size_t training_flags(training_run *r, flag *flags);

// Flags to a run; fails the program on what cannot be. Measures the machine, when asked to or when
// need is set.
void training_open(training_run *r, bool need);
void training_close(training_run *r);

mo_suggest_desc training_desc(const training_run *r);
const mo_machine *training_machine(const training_run *r); // NULL = not measured

// "gpt2, 6 layers of 384 channels ..."
void training_print(const training_run *r);
// What starts this run with the trial's strategy.
void training_command(FILE *out, const training_run *r, const mo_suggest_trial *trial);
// {"strategy":..,"bytes":..,"seconds":..,"command":..
void training_json_trial(const training_run *r, const mo_suggest_trial *trial);
void training_json_machine(const training_run *r);

// Seconds where the machine was measured, else times the first: "0.25 s", "1.2 x".
bytes_text training_time(const training_run *r, double seconds, double plain);

#define TRAINING_HELP                                                                              \
    MODEL_FLAGS_HELP                                                                               \
    "                    without --config, train_gpt's defaults: 6 layers, 384 channels, 6 "       \
    "heads,\n"                                                                                     \
    "                    256 words (bytes), and as many positions as tokens in a sequence\n"       \
    "  --seq N           tokens in a sequence (256, or what a file's positions allow)\n"           \
    "  --batch N         sequences in a batch (4)    --accum N   batches in an update (1)\n"       \
    "  --threads N       of the CPU that it runs on (all): workspaces depend on it\n"              \
    "  --strategy S      as of train_gpt: what it names stays as it is, what auto in it leaves\n"  \
    "                    open is chosen (default: auto)\n"                                         \
    "  --open LIST       what may be chosen beside: release, act, precision, lora, 4bit; each "    \
    "but\n"                                                                                        \
    "                    release changes the result of the training\n"                             \
    "  --text FILE, --tokens FILE, --steps N\n"                                                    \
    "                    go into the command line that is printed; FILE stands for the text "      \
    "where\n"                                                                                      \
    "                    none is given\n"                                                          \
    "  --measure         measure this machine for a second, so that times are seconds of it; "     \
    "else\n"                                                                                       \
    "                    they only compare\n"

#endif
