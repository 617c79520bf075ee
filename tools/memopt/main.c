// memopt - plans for memory, and files of models, from the command line. memopt --help lists the
// commands.
//
// csv.c    tables         lifetimes.c  buffers    chain.c   stages
// estimate.c, model_flags.c, footprint.c   what a model takes
// flags.c  command line   output.c     files      plan.c, remat.c, place.c   the commands
// model_file.c    files of tensors, read and written; safetensors_file.c, gguf_file.c, llmc.c   of
// these formats
// training.c      runs of train_gpt           suggest.c, fit.c, pareto.c   what they need
// elements.c      numbers of any type                 names.c  patterns, renaming
// json.c          small files of settings             sha256.c
// inspect.c, verify.c, convert.c, quantize.c, diff.c, merge_lora.c, split.c, merge.c   the
// commands on them
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const command *const commands[] = {&estimate_command, &plan_command, &remat_command,
    &place_command, &inspect_command, &verify_command, &convert_command, &quantize_command,
    &diff_command, &merge_lora_command, &split_command, &merge_command, &suggest_command,
    &fit_command, &pareto_command};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static const char *running = ""; // " plan"

void fail(int code, const char *format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "memopt%s: ", running);
    print_name(stderr, text, 0);
    fputc('\n', stderr);
    exit(code);
}

static bool is_input(mo_status status) {
    return status == MO_E_INVALID || status == MO_E_OVERFLOW || status == MO_E_FORMAT ||
        status == MO_E_NOT_FOUND;
}

void check_said(mo_status status) {
    if (status != MO_OK) exit(is_input(status) ? EXIT_USAGE : EXIT_NO);
}

void check(mo_status status, const char *what) {
    if (status == MO_OK) return;
    if (strcmp(what, "-") == 0) what = "standard input";
    fail(is_input(status) ? EXIT_USAGE : EXIT_NO, "%s: %s", what, mo_status_text(status));
}

void *allocate(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p) fail(EXIT_NO, "out of memory for %zu times %zu bytes", n, size);
    return p;
}

double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void write_log(void *self, mo_log_level level, const char *text) {
    (void)self, (void)level;
    fprintf(stderr, "memopt%s: %s\n", running, text);
}
const mo_log cli_log = {write_log, NULL};

static void usage(FILE *out) {
    fprintf(out, "memopt - plans for the memory of neural networks, and their files\n\n");
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  memopt %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(out,
        "\n  memopt COMMAND --help\n  memopt --version\n\n"
        "Exit status: 0 done; 1 the answer is no, or the machine does not allow it; 2 usage, "
        "input.\n");
}

int main(int argc, char **argv) {
    const char *const *args = (const char *const *)argv;
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(args[1], "--help") == 0 || strcmp(args[1], "-h") == 0) {
        usage(stdout);
        flush_stdout();
        return 0;
    }
    if (strcmp(args[1], "--version") == 0) {
        printf("memopt %s\n", mo_version());
        flush_stdout();
        return 0;
    }
    for (int i = 0; i < N_COMMANDS; i++) {
        char name[32];
        if (strcmp(args[1], commands[i]->name) != 0) continue;
        snprintf(name, sizeof name, " %s", commands[i]->name);
        running = name;
        const int status = commands[i]->run(commands[i], argc - 2, args + 2);
        running = "";
        return status;
    }
    fail(EXIT_USAGE, "unknown %s '%s' (see memopt --help)", *args[1] == '-' ? "flag" : "command",
        args[1]);
}
