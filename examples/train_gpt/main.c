// train_gpt - trains a GPT, GPT-2's or Llama's kind, on text within a memory budget. --help lists
// the flags.
//
// options.c  command line          corpus.c      tokens
// arch.c     sizes, first values   plan.c        what the library plans, and the search
// ops.c      what stages compute   trainer.c     what is known before memory is planned
// session.c  a run in its memory   train.c       the loop
// result.c   what is known of it   profile.c     what the stages cost here
// cpu.c      memory and kernels of the CPU
// device.c   an OpenCL device      transfer.c    activations in host memory
// sample.c   text from the model   checkpoint.c  save and resume; checkpoint_read.c: sizes, weights
// pages.c    paged states          release.c     updates inside backward
// report.c   tables, JSON, pictures
// teacher.c  distillation          compress.c    activations in few bits
// lora.c     adapters              compare.c     what each part of a strategy saves
// freeze.c   what is not trained   estimate.c    what a run would take
#include "app.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void fail(int code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("train_gpt: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(code);
}

void check(mo_status status, const char *what) {
    if (status != MO_OK) fail(EXIT_BAD, "%s: %s", what, mo_status_text(status));
}

void *allocate(size_t size) {
    void *p = calloc(1, size ? size : 1);
    if (!p) fail(EXIT_BAD, "out of memory for %zu bytes", size);
    return p;
}

double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t n_logged;

static void write_log(void *self, mo_log_level level, const char *text) {
    (void)self, (void)level;
    n_logged++;
    fprintf(stderr, "train_gpt: %s\n", text);
}
const mo_log app_log = {write_log, NULL};

void check_said(mo_status status, const char *what) {
    if (status != MO_OK && n_logged != 0) exit(EXIT_BAD);
    check(status, what);
}

// plain, c: NULL = nothing to compare with
static void train(const options *o, result *r, double *losses, const result *plain, comparison *c) {
    trainer t;
    trainer_open(&t, o);
    const strategy s = trainer_choose(&t, trainer_budget(&t), true);
    trainer_run(&t, &s, r, losses);
    if (c) compare_parts(&t, plain, r, c);
    if (c && o->report) report_waterfall(o->report, c, r->budget_bytes);
    trainer_close(&t);
}

static void pass(int pipe_end, void *data, size_t size, bool in) {
    for (char *at = data; size != 0;) {
        ssize_t n = in ? read(pipe_end, at, size) : write(pipe_end, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) fail(EXIT_BAD, "--compare: the plain run ended without a result");
        at += n;
        size -= (size_t)n;
    }
}

// A budget that cannot be met fails before the plain run, not after it. Not checked with a BLAS or
// an OpenCL device, whose threads do not survive the fork.
static void check_budget(const options *o) {
    trainer t;
    if (o->blas || strcmp(o->device, "cpu") != 0) return;
    trainer_open(&t, o);
    (void)trainer_choose(&t, trainer_budget(&t), false);
    trainer_close(&t);
}

// The plain run gets a process of its own, so that each run has its own peak RSS.
static void train_plainly(const options *o, result *r, double *losses) {
    int ends[2], status;
    fflush(NULL);
    if (pipe(ends) != 0) fail(EXIT_BAD, "--compare: %s", strerror(errno));
    const pid_t child = fork();
    if (child < 0) fail(EXIT_BAD, "--compare: %s", strerror(errno));
    if (child == 0) {
        options plain = *o;
        if (plain.strategy.lora) plain.resume = NULL; // the file has adapters alone
        plain.strategy = (strategy){.accum = 1};
        plain.open = 0;
        plain.named = OPEN_ALL;
        plain.budget = 0;
        plain.budget_percent = 0;
        plain.save = plain.report = NULL;
        plain.save_every = plain.keep = 0;
        plain.sample = 0;
        plain.is_plain = true;
        train(&plain, r, losses, NULL, NULL);
        pass(ends[1], r, sizeof *r, false);
        pass(ends[1], losses, o->steps * sizeof *losses, false);
        exit(0);
    }
    close(ends[1]);
    ssize_t first = read(ends[0], r, 1); // 0: it failed and has said why
    if (first == 1) {
        pass(ends[0], (char *)r + 1, sizeof *r - 1, true);
        pass(ends[0], losses, o->steps * sizeof *losses, true);
    }
    close(ends[0]);
    status = EXIT_BAD << 8;
    if (waitpid(child, &status, 0) == child && WIFSIGNALED(status))
        fail(EXIT_BAD, "--compare: the plain run was ended by signal %d", WTERMSIG(status));
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : EXIT_BAD);
}

static void estimate(const options *o) {
    trainer t;
    trainer_open(&t, o);
    const uint64_t budget = trainer_budget(&t);
    const strategy s = trainer_choose(&t, budget, true);
    report_estimate(stdout, &t, &s, budget);
    trainer_close(&t);
}

int main(int argc, char **argv) {
    options o;
    result runs[2] = {{0}};
    comparison parts = {.n = 0}, *c = NULL;
    options_parse(&o, argc, (const char *const *)argv);
    if (o.estimate) {
        estimate(&o);
        if (fflush(stdout) != 0) fail(EXIT_BAD, "standard output: %s", strerror(errno));
        return 0;
    }
    double *losses = allocate(o.steps * sizeof *losses), *plain = allocate(o.steps * sizeof *plain);
    if (o.compare) {
        check_budget(&o);
        train_plainly(&o, &runs[0], plain);
        c = &parts;
    }
    train(&o, &runs[1], losses, &runs[0], c);
    if (o.json) report_json(stdout, &runs[1], losses, &runs[0], plain, c);
    else report_table(stdout, c ? runs : runs + 1, c ? 2 : 1);
    if (c && !o.json) report_parts(stdout, c);
    free(losses);
    free(plain);
    if (fflush(stdout) != 0) fail(EXIT_BAD, "standard output: %s", strerror(errno));
    return runs[1].early ? EXIT_EARLY : 0;
}
