// main.c - memopt-bench: options, and one case after the other.
#include "bench.h"

#include <ctype.h>
#include <errno.h>
#include <regex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "memopt-bench - how fast memopt's kernels and allocators are here, beside a copy of memory\n"
    "\n"
    "  --list           names of the cases, and the bytes that each one moves\n"
    "  --filter REGEX   only cases whose name matches (POSIX extended)\n"
    "  -o FORMAT        md (default), csv, json or jsonl, on standard output\n"
    "  -r REPEATS       samples of each case; the median counts (5)\n"
    "  --n ELEMENTS     length of the streaming cases; K, M, G are 1024 times (16M)\n"
    "  --threads N      (all)\n"
    "  --device D       cpu (default), or an OpenCL device: cl, cl:P.D, auto (as cl); its cases\n"
    "                   carry the same names. copy_ratio is over the device's own copy, by a\n"
    "                   kernel or by clEnqueueCopyBuffer; for CPU devices over the CPU's\n"
    "  --compare FILE   an earlier -o json or jsonl: adds vs_old, the time now over the time then\n"
    "  --blas LIBRARY   times gemm.* in turns with the cblas_sgemm of this shared library\n"
    "  --help\n"
    "\n"
    "ns          median time of one element or operation\n"
    "spread      (slowest - fastest sample) / median\n"
    "GB/s        bytes read and written by the case / time\n"
    "copy_ratio  GB/s over that of a copy, timed in turns with the case on the same threads\n"
    "            (memcpy or streaming stores, whichever is faster for --n)\n"
    "floor_ns    the case's bytes / the copy's bandwidth; updates in place can go a little below\n"
    "\n"
    "Exit status: 0 done; 1 a file or the machine does not allow it; 2 usage.\n";

static const bench_case *const tables[] = {cases_bandwidth, cases_numeric, cases_train, cases_model,
    cases_memory, cases_plan, cases_remat, cases_replay, cases_page, cases_stream, cases_compress};
static const bench_case *const device_tables[] = {
    cases_device, cases_device_model, cases_device_compress};
enum { MAX_CASES = 128 };

_Noreturn void fail(int exit_status, const char *text, ...) {
    va_list arguments;
    va_start(arguments, text);
    fflush(stdout);
    fputs("memopt-bench: ", stderr);
    vfprintf(stderr, text, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(exit_status);
}

static size_t parse_count(const char *flag, const char *text, size_t most) {
    char *end;
    errno = 0;
    unsigned long long x = strtoull(text, &end, 10);
    bool bad = !isdigit((unsigned char)*text) || errno == ERANGE;
    const char *unit = *end ? strchr("KMG", toupper((unsigned char)*end)) : NULL;
    int shift = unit ? 10 * (int)(unit - "KMG" + 1) : 0;
    if (unit) end++;
    if (bad || *end || x == 0 || x > most >> shift)
        fail(EXIT_USAGE, "%s: '%s' is not a whole number from 1 to %zu", flag, text, most);
    return (size_t)x << shift;
}

static format parse_format(const char *text) {
    static const char *const names[N_FORMATS] = {"md", "csv", "json", "jsonl"};
    for (int i = 0; i < N_FORMATS; i++)
        if (strcmp(text, names[i]) == 0) return (format)i;
    fail(EXIT_USAGE, "-o: '%s' is not md, csv, json or jsonl", text);
}

static void parse_option(options *o, const char *flag, const char *value) {
    if (strcmp(flag, "--filter") == 0) o->filter = value;
    else if (strcmp(flag, "-o") == 0) o->format = parse_format(value);
    else if (strcmp(flag, "-r") == 0) o->repeats = (int)parse_count(flag, value, 10000);
    else if (strcmp(flag, "--n") == 0) o->n = parse_count(flag, value, (size_t)1 << 36);
    else if (strcmp(flag, "--threads") == 0) o->threads = (int)parse_count(flag, value, 1024);
    else if (strcmp(flag, "--compare") == 0) o->compare = value;
    else if (strcmp(flag, "--device") == 0) o->device = value;
    else o->blas = value;
}

static options parse_options(int argc, char **argv) {
    static const char *const with_value[] = {
        "--filter", "-o", "-r", "--n", "--threads", "--compare", "--device", "--blas"};
    options o = {
        .n = (size_t)16 << 20, .repeats = 5, .device = "cpu", .threads = mo_parallel_threads(NULL)};
    for (int i = 1; i < argc; i++) {
        const char *flag = argv[i];
        size_t k = 0, n = sizeof with_value / sizeof *with_value;
        if (strcmp(flag, "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        if (strcmp(flag, "--list") == 0) {
            o.list = true;
            continue;
        }
        while (k < n && strcmp(flag, with_value[k]) != 0) k++;
        if (k == n) fail(EXIT_USAGE, "unknown option '%s' (see --help)", flag);
        if (++i == argc) fail(EXIT_USAGE, "%s needs a value (see --help)", flag);
        parse_option(&o, flag, argv[i]);
    }
#ifndef _OPENMP
    if (o.threads > 1) fputs("memopt-bench: built without OpenMP, so on one thread\n", stderr);
    o.threads = 1;
#endif
    return o;
}

// The cases that the filter lets through, in order.
static int choose(const options *o, const bench_case **chosen) {
    regex_t regex;
    int n = 0, error = regcomp(&regex, o->filter ? o->filter : "", REG_EXTENDED | REG_NOSUB);
    if (error) {
        char text[128];
        regerror(error, &regex, text, sizeof text);
        fail(EXIT_USAGE, "--filter: '%s': %s", o->filter, text);
    }
    const bool cpu = strcmp(o->device, "cpu") == 0;
    const bench_case *const *of = cpu ? tables : device_tables;
    const size_t n_of =
        cpu ? sizeof tables / sizeof *tables : sizeof device_tables / sizeof *device_tables;
    for (size_t t = 0; t < n_of; t++)
        for (const bench_case *c = of[t]; c->name; c++)
            if (n < MAX_CASES && regexec(&regex, c->name, 0, NULL, 0) == 0) chosen[n++] = c;
    regfree(&regex);
    if (n == 0) fail(EXIT_FAILED, "--filter: no case matches '%s' (see --list)", o->filter);
    return n;
}

static void measure_all(const options *o, const bench_case *const *chosen, int n) {
    bool with_copy = false;
    old_run *old = o->compare ? old_read(o->compare) : NULL;
    for (int i = 0; i < n; i++) with_copy |= chosen[i]->bytes > 0;
    harness *h = harness_open(o, with_copy);
    output_begin(o, h);
    for (int i = 0; i < n; i++) {
        fprintf(stderr, "[%2d/%d] %s\n", i + 1, n, chosen[i]->name);
        row r = harness_measure(h, chosen[i]);
        r.old_ns = old ? old_ns(old, chosen[i]->name) : NAN;
        output_row(o, &r);
    }
    output_end(o);
    harness_close(h);
    old_free(old);
}

int main(int argc, char **argv) {
    const bench_case *chosen[MAX_CASES];
    options o = parse_options(argc, argv);
    int n = choose(&o, chosen);
    if (!o.list) measure_all(&o, chosen, n);
    else
        for (int i = 0; i < n; i++) printf("%-24s %s\n", chosen[i]->name, chosen[i]->about);
    if (fflush(stdout) != 0 || ferror(stdout)) fail(EXIT_FAILED, "standard output: write failed");
    return 0;
}
