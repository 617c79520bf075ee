// report.c - what a run prints and writes about itself.
#include "app.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const mo_category rows[] = {MO_CATEGORY_PARAM, MO_CATEGORY_GRAD, MO_CATEGORY_OPTIMIZER,
    MO_CATEGORY_ACTIVATION, MO_CATEGORY_WORKSPACE};
enum { N_ROWS = sizeof rows / sizeof *rows };

// ---- the table --------------------------------------------------------------------------------

static void print_row(FILE *out, const char *name, const double *cells, size_t n, int digits) {
    fprintf(out, "| %-22s |", name);
    for (size_t i = 0; i < n; i++) {
        if (cells[i] < 0) fprintf(out, " %11s |", "");
        else fprintf(out, " %11.*f |", digits, cells[i]);
    }
    fputc('\n', out);
}

static void print_line(FILE *out, size_t n_columns) {
    fputs("|------------------------|", out);
    for (size_t i = 0; i < n_columns; i++) fputs("------------:|", out);
    fputc('\n', out);
}

static double mib(uint64_t bytes) { return (double)bytes / 0x1p20; }

// planned and measured of every run; -1 leaves a cell empty
static void print_pairs(FILE *out, const char *name, const result *runs, size_t n, int row) {
    double cells[8];
    for (size_t i = 0; i < n; i++) {
        const result *r = &runs[i];
        cells[2 * i] = cells[2 * i + 1] = -1;
        if (row >= 0) {
            cells[2 * i] = mib(r->planned[row]);
            cells[2 * i + 1] = mib(r->measured[row]);
        } else if (row == -1) {
            cells[2 * i] = mib(r->plan_bytes);
            cells[2 * i + 1] = mib(r->peak_bytes);
        } else if (r->budget_bytes != 0) {
            cells[2 * i] = mib(r->budget_bytes - (row == -2 ? r->plan_bytes : 0));
            cells[2 * i + 1] = mib(r->budget_bytes - (row == -2 ? r->peak_bytes : 0));
        }
    }
    print_row(out, name, cells, 2 * n, 1);
}

void report_table(FILE *out, const result *runs, size_t n_runs) {
    double store[8], paged[8], released[8], rss[8], ms[8], speed[8], loss[8], valid[8];
    for (size_t i = 0; i < n_runs; i++)
        fprintf(out, "%s%s: %s\n", i == 0 ? "\n" : "", n_runs > 1 && i == 0 ? "plain" : "memopt",
            runs[i].strategy);
    fprintf(out, "\n| %-22s |", "MiB at the peak");
    for (size_t i = 0; i < n_runs; i++)
        fputs(
            n_runs > 1 && i == 0 ? "  plain plan |  plain used |" : " memopt plan | memopt used |",
            out);
    fputc('\n', out);
    print_line(out, 2 * n_runs);
    for (int i = 0; i < N_ROWS; i++)
        print_pairs(out, mo_category_name(rows[i]), runs, n_runs, (int)rows[i]);
    print_pairs(out, "= arena peak", runs, n_runs, -1);
    if (runs[n_runs - 1].budget_bytes != 0) {
        print_pairs(out, "+ free", runs, n_runs, -2);
        print_pairs(out, "= budget", runs, n_runs, -3);
    }
    for (size_t i = 0; i < 2 * n_runs; i++) {
        const result *r = &runs[i / 2];
        store[i] = r->store_bytes ? mib(r->store_bytes) : -1;
        paged[i] = r->page.paged_out_bytes ? mib(r->page.paged_out_bytes) : -1;
        released[i] = r->released_bytes ? mib(r->released_bytes) : -1;
        rss[i] = i % 2 ? mib(r->rss_bytes) : -1;
        ms[i] = i % 2 ? r->ms_per_step : r->predicted_ms > 0 ? r->predicted_ms : -1;
        speed[i] = i % 2 ? r->tokens_per_s : -1;
        loss[i] = i % 2 ? r->last_loss : -1;
        valid[i] = i % 2 ? r->valid_loss : -1;
    }
    if (runs[n_runs - 1].store_bytes != 0)
        print_row(out, "in host memory beside", store, 2 * n_runs, 1);
    if (runs[n_runs - 1].page.paged_out_bytes != 0)
        print_row(out, "optimizer, paged out", paged, 2 * n_runs, 1);
    if (runs[n_runs - 1].released_bytes != 0)
        print_row(out, "gradients, released", released, 2 * n_runs, 1);
    print_row(out, "process peak RSS", rss, 2 * n_runs, 1);
    print_row(out, "ms per update", ms, 2 * n_runs, 1);
    print_row(out, "tokens per second", speed, 2 * n_runs, 0);
    print_row(out, "loss of the last step", loss, 2 * n_runs, 6);
    if (runs[n_runs - 1].valid_loss >= 0)
        print_row(out, "loss of held-out text", valid, 2 * n_runs, 6);
    if (n_runs > 1)
        fprintf(out, "\n%.1f %% of the plain run's memory at %.2f times its time.\n",
            100.0 * (double)runs[1].peak_bytes / (double)runs[0].peak_bytes,
            runs[1].ms_per_step / runs[0].ms_per_step);
}

// A number or an empty cell.
static void print_cell(FILE *out, bool has, double x) {
    if (has) fprintf(out, " %11.1f |", x);
    else fprintf(out, " %11s |", "");
}

void report_parts(FILE *out, const comparison *c) {
    fprintf(out,
        "\n| %-32s |    plan MiB |   saves MiB |    used MiB |  ms planned |          ms |\n",
        "what each part saves");
    fputs("|----------------------------------|", out);
    for (int i = 0; i < 5; i++) fputs("------------:|", out);
    fputc('\n', out);
    for (size_t i = 0; i < c->n; i++) {
        const compared_part *p = &c->parts[i];
        fprintf(out, "| %s%-*s |", i ? "+ " : "", i ? 30 : 32, p->part);
        print_cell(out, true, mib(p->plan_bytes));
        print_cell(out, i != 0, (double)compare_saved(c, i) / 0x1p20);
        print_cell(out, p->result, p->result ? mib(p->result->peak_bytes) : 0);
        print_cell(out, p->predicted_ms > 0, p->predicted_ms);
        print_cell(out, p->result, p->result ? p->result->ms_per_step : 0);
        fputc('\n', out);
    }
    fprintf(out, "| %-32s | %11s | %11.1f | %11s | %11s | %11s |\n", "= saved in all", "",
        (double)compare_saved_in_all(c) / 0x1p20, "", "", "");
}

// ---- JSON -------------------------------------------------------------------------------------

static void print_page(FILE *out, const page_figures *f) {
    fprintf(out, ",\"page\":{\"resident_bytes\":%" PRIu64 ",\"paged_out_bytes\":%" PRIu64,
        f->resident_bytes, f->paged_out_bytes);
    if (f->stall_s < 0) fputs(",\"stall_s\":null", out);
    else fprintf(out, ",\"stall_s\":%.6f", f->stall_s);
    fprintf(out, ",\"in_bytes\":%" PRIu64 ",\"out_bytes\":%" PRIu64 "}", f->in_bytes, f->out_bytes);
}

static void print_object(FILE *out, const result *r, const double *losses, const char *end) {
    fprintf(out, "{\"device\":\"%s\",\"strategy\":\"%s\",\"steps\":%zu,\"loss\":[", r->device,
        r->strategy, r->steps);
    for (size_t i = 0; i < r->steps; i++) fprintf(out, "%s%.17g", i ? "," : "", losses[i]);
    fputc(']', out);
    if (r->valid_loss >= 0) fprintf(out, ",\"valid_loss\":%.17g", r->valid_loss);
    fprintf(out, ",\"ms_per_step\":%.4f,\"tokens_per_s\":%.2f", r->ms_per_step, r->tokens_per_s);
    if (r->predicted_ms > 0) fprintf(out, ",\"predicted_ms\":%.4f", r->predicted_ms);
    fprintf(out, ",\"budget_bytes\":%" PRIu64 ",\"plan_bytes\":%" PRIu64, r->budget_bytes,
        r->plan_bytes);
    fprintf(out, ",\"peak_bytes\":%" PRIu64 ",\"rss_bytes\":%" PRIu64, r->peak_bytes, r->rss_bytes);
    fprintf(out, ",\"store_bytes\":%" PRIu64 ",\"released_bytes\":%" PRIu64, r->store_bytes,
        r->released_bytes);
    print_page(out, &r->page);
    fputs(",\"bytes\":{", out);
    for (int i = 0; i < N_ROWS; i++)
        fprintf(out, "%s\"%s\":%" PRIu64, i ? "," : "", mo_category_name(rows[i]),
            r->measured[rows[i]]);
    fprintf(out, "}%s", end);
}

static void print_parts(FILE *out, const comparison *c) {
    fputs(",\"compare\":[", out);
    for (size_t i = 0; i < c->n; i++) {
        const compared_part *p = &c->parts[i];
        fprintf(out, "%s{\"part\":\"%s\",\"strategy\":\"%s\",\"plan_bytes\":%" PRIu64, i ? "," : "",
            p->part, p->strategy, p->plan_bytes);
        fprintf(out, ",\"saved_bytes\":%" PRId64, compare_saved(c, i));
        if (p->predicted_ms > 0) fprintf(out, ",\"predicted_ms\":%.4f", p->predicted_ms);
        if (p->result)
            fprintf(out, ",\"peak_bytes\":%" PRIu64 ",\"ms_per_step\":%.4f", p->result->peak_bytes,
                p->result->ms_per_step);
        fputc('}', out);
    }
    fprintf(out, "],\"saved_bytes\":%" PRId64, compare_saved_in_all(c));
}

void report_json(FILE *out, const result *r, const double *losses, const result *baseline,
    const double *baseline_losses, const comparison *c) {
    print_object(out, r, losses, c ? "" : "}\n");
    if (!c) return;
    print_parts(out, c);
    fputs(",\"baseline\":", out);
    print_object(out, baseline, baseline_losses, "}}\n");
}

// ---- files ------------------------------------------------------------------------------------

typedef struct report_file {
    char path[4096];
    FILE *file;
    mo_writer writer;
} report_file;

static int write_file(void *self, const char *text, size_t size) {
    return fwrite(text, 1, size, self) == size ? 0 : -1;
}

static report_file open_file(const char *dir, const char *name) {
    report_file f;
    snprintf(f.path, sizeof f.path, "%s/%s", dir, name);
    f.file = fopen(f.path, "wb");
    if (!f.file) fail(EXIT_BAD, "--report: %s: %s", f.path, strerror(errno));
    f.writer = (mo_writer){write_file, f.file};
    return f;
}

static void close_file(report_file *f, mo_status status) {
    if (status != MO_OK || fclose(f->file) != 0) {
        remove(f->path);
        fail(EXIT_BAD, "--report: %s: %s", f->path, strerror(errno));
    }
    fprintf(stderr, "wrote %s\n", f->path);
}

uint64_t now_ns(void) { return (uint64_t)(1e9 * now_s()); }

static mo_status write_timeline(const mo_track *track, const mo_plan *plan, const mo_writer *w) {
    const mo_trace_desc desc = {.title = "train_gpt: memory of the last steps"};
    (void)plan;
    return mo_trace_write_svg(track, &desc, w);
}
static mo_status write_memory(const mo_track *track, const mo_plan *plan, const mo_writer *w) {
    (void)plan;
    return mo_track_write_summary(track, w);
}
static mo_status write_plan(const mo_track *track, const mo_plan *plan, const mo_writer *w) {
    (void)track;
    return mo_plan_write_text(plan, w);
}
static mo_status write_plan_json(const mo_track *track, const mo_plan *plan, const mo_writer *w) {
    (void)track;
    return mo_plan_write_json(plan, w);
}
static mo_status write_plan_svg(const mo_track *track, const mo_plan *plan, const mo_writer *w) {
    (void)track;
    return mo_plan_write_svg(plan, "train_gpt: addresses over one micro-batch", w);
}

static mo_status write_trace(const mo_track *track, const mo_plan *plan, const mo_writer *w) {
    (void)plan;
    return mo_trace_write_json(track, w);
}
static mo_status write_snapshot(const mo_track *track, const mo_plan *plan, const mo_writer *w) {
    (void)plan;
    return mo_snapshot_write(track, NULL, w);
}
static mo_status write_addresses(void *plan, const mo_writer *w) {
    return write_plan_svg(NULL, plan, w);
}
static mo_status write_page(const mo_track *track, const mo_plan *plan, const mo_writer *w) {
    const mo_report_section addresses = {.write = write_addresses, .self = (void *)plan};
    const mo_report_desc desc = {.title = "train_gpt: memory of the last steps",
        .n_blocks = 20,
        .sections = &addresses,
        .n_sections = 1};
    return mo_report_write_html(track, &desc, w);
}

void report_begin(const char *dir) {
    struct stat info;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        fail(EXIT_BAD, "--report: %s: %s", dir, strerror(errno));
    if (stat(dir, &info) == 0 && !S_ISDIR(info.st_mode))
        fail(EXIT_BAD, "--report: %s: %s", dir, strerror(ENOTDIR));
    if (access(dir, W_OK | X_OK) != 0) fail(EXIT_BAD, "--report: %s: %s", dir, strerror(errno));
}

void report_files(const char *dir, const mo_track *track, const mo_plan *plan) {
    static const struct {
        const char *name;
        mo_status (*write)(const mo_track *, const mo_plan *, const mo_writer *);
    } files[] = {{"timeline.svg", write_timeline}, {"memory.txt", write_memory},
        {"plan.txt", write_plan}, {"plan.json", write_plan_json}, {"plan.svg", write_plan_svg},
        {"report.html", write_page}, {"trace.json", write_trace},
        {"memory.pickle", write_snapshot}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        report_file f = open_file(dir, files[i].name);
        close_file(&f, files[i].write(track, plan, &f.writer));
    }
}

void report_waterfall(const char *dir, const comparison *c, uint64_t budget) {
    mo_chart_bar bars[MAX_PARTS];
    const mo_chart_desc desc = {.title = "train_gpt: what each part saves", .budget_bytes = budget};
    for (size_t i = 0; i < c->n; i++)
        bars[i] = (mo_chart_bar){c->parts[i].part, c->parts[i].plan_bytes};
    report_file f = open_file(dir, "waterfall.svg");
    close_file(&f, mo_chart_write_waterfall(&desc, bars, c->n, &f.writer));
}
