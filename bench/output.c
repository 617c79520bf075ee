// output.c - rows as a Markdown table, CSV, JSON, or one JSON object a line.
#include "bench.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

static bool first_row;
static const harness *measured;

// The CPU's own name, where the system tells it.
static void cpu_name(char *name, size_t size) {
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(name, size, "unknown");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(name, size, "%s", colon + 1 + (colon[1] == ' '));
        break;
    }
    if (file) fclose(file);
}

static void json_string(const char *name, const char *text) {
    printf("\"%s\":\"", name);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        if ((unsigned char)*text >= ' ') putchar(*text);
    }
    putchar('"');
}

static void json_number(const char *name, double x) {
    if (isfinite(x)) printf(",\"%s\":%.6g", name, x);
    else printf(",\"%s\":null", name);
}

static void json_context(const options *o) {
    char cpu[256], date[32];
    time_t now = time(NULL);
    cpu_name(cpu, sizeof cpu);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    printf("\"context\":{");
    json_string("program", "memopt-bench");
    putchar(',');
    json_string("version", mo_version());
    putchar(',');
    json_string("date", date);
    putchar(',');
    json_string("cpu", cpu);
    putchar(',');
    json_string("isa", mo_cpu_name(mo_cpu_current()));
    if (harness_model(measured)) {
        putchar(',');
        json_string("device", harness_device(measured));
        putchar(',');
        json_string("device_name", harness_model(measured));
    }
    printf(",\"cpus\":%ld,\"threads\":%d,\"n\":%zu,\"repeats\":%d}", sysconf(_SC_NPROCESSORS_ONLN),
        o->threads, o->n, o->repeats);
}

static void json_row(const row *r) {
    json_string("name", r->bench->name);
    printf(",\"device\":\"%s\",\"n\":%zu,\"unit\":\"%s\",\"threads\":%d", r->device, r->n,
        r->bench->unit, r->threads);
    json_number("ns", r->ns);
    json_number("spread", r->spread);
    json_number("gb_s", r->gb_s);
    json_number("copy_gb_s", r->copy_gb_s);
    json_number("copy_ratio", r->copy_ratio);
    json_number("floor_ns", r->floor_ns);
    json_number("gflop_s", r->gflop_s);
    if (isfinite(r->old_ns)) {
        json_number("old_ns", r->old_ns);
        json_number("vs_old", r->ns / r->old_ns);
    }
    for (int i = 0; i < r->n_extras; i++) json_number(r->extras[i].name, r->extras[i].value);
}

static void csv_number(double x) {
    if (isfinite(x)) printf(",%.6g", x);
    else putchar(',');
}

static void csv_row(const row *r) {
    printf("%s,%s,%zu,%s,%d", r->bench->name, r->device, r->n, r->bench->unit, r->threads);
    csv_number(r->ns);
    csv_number(r->spread);
    csv_number(r->gb_s);
    csv_number(r->copy_ratio);
    csv_number(r->floor_ns);
    csv_number(r->gflop_s);
    csv_number(r->ns / r->old_ns);
    for (int i = 0; i < r->n_extras; i++)
        printf("%c%s=%.6g", i ? ' ' : ',', r->extras[i].name, r->extras[i].value);
    puts(r->n_extras ? "" : ",");
}

// Four digits or so, and no exponent.
static void md_number(int width, double x) {
    int digits = x >= 1000 ? 0 : x >= 100 ? 1 : x >= 10 ? 2 : 3;
    if (isfinite(x)) printf(" %*.*f |", width, digits, x);
    else printf(" %*s |", width, "-");
}

static void md_row(const options *o, const row *r) {
    printf("| %-23s | %-10s | %8zu | %-7s | %2d |", r->bench->name, r->device, r->n, r->bench->unit,
        r->threads);
    md_number(9, r->ns);
    printf(" %5.0f%% |", 100 * r->spread);
    md_number(6, r->gb_s);
    md_number(10, r->copy_ratio);
    md_number(8, r->floor_ns);
    md_number(7, r->gflop_s);
    if (o->compare) md_number(6, r->ns / r->old_ns);
    for (int i = 0; i < r->n_extras; i++) printf(" %s %.4g", r->extras[i].name, r->extras[i].value);
    puts(r->n_extras ? " |" : " |");
}

static void md_head(const options *o) {
    char cpu[256];
    cpu_name(cpu, sizeof cpu);
    if (harness_model(measured)) snprintf(cpu, sizeof cpu, "%s", harness_model(measured));
    printf("memopt %s, %s, %s, %d thread%s, n = %zu, %d repeat%s\n\n", mo_version(), cpu,
        harness_device(measured), o->threads, o->threads == 1 ? "" : "s", o->n, o->repeats,
        o->repeats == 1 ? "" : "s");
    printf("| %-23s | %-10s | %8s | %-7s | th | %9s | spread | %6s | copy_ratio | floor_ns | "
           "GFLOP/s |%s also |\n",
        "name", "device", "n", "unit", "ns", "GB/s", o->compare ? " vs_old |" : "");
    printf("|-------------------------|------------|---------:|---------|---:|----------:|-------:|"
           "-------:|-----------:|---------:|--------:|%s------|\n",
        o->compare ? "-------:|" : "");
}

void output_begin(const options *o, const harness *h) {
    first_row = true;
    measured = h;
    switch (o->format) {
    case FORMAT_MD: md_head(o); break;
    case FORMAT_CSV:
        puts("name,device,n,unit,threads,ns,spread,gb_s,copy_ratio,floor_ns,gflop_s,vs_old,also");
        break;
    case FORMAT_JSON:
        putchar('{');
        json_context(o);
        fputs(",\"rows\":[", stdout);
        break;
    default: break;
    }
}

void output_row(const options *o, const row *r) {
    switch (o->format) {
    case FORMAT_MD: md_row(o, r); break;
    case FORMAT_CSV: csv_row(r); break;
    case FORMAT_JSON:
        fputs(first_row ? "\n{" : ",\n{", stdout);
        json_row(r);
        putchar('}');
        break;
    default:
        putchar('{');
        json_row(r);
        putchar(',');
        json_context(o);
        puts("}");
        break;
    }
    first_row = false;
    fflush(stdout);
}

void output_end(const options *o) {
    if (o->format == FORMAT_JSON) puts("\n]}");
}
