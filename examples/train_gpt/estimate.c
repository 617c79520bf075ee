// estimate.c - what a run would take, from its own plan: nothing is trained.
#include "app.h"

static void print_lines(FILE *out, const mo_footprint *f) {
    for (size_t i = 0; i < f->n; i++)
        fprintf(out, "%-12s %18llu%s  %s\n", f->lines[i].name,
            (unsigned long long)f->lines[i].bytes, f->lines[i].apart ? " (not at the peak)" : "",
            f->lines[i].formula);
    fprintf(out, "%-12s %18llu\n", "peak", (unsigned long long)f->total);
}

void report_estimate(FILE *out, const trainer *t, const strategy *s, uint64_t budget) {
    const mo_training x = trainer_training(t, s);
    char text[192];
    mo_estimate e;
    check_said(mo_estimate_training(&e, &x, budget), "the estimate");
    mo_strategy_format(s, text, sizeof text);
    if (t->o->json)
        fprintf(out,
            "{\"device\":\"%s\",\"strategy\":\"%s\",\"peak_bytes\":%llu,\"most_bytes\":%llu,"
            "\"store_bytes\":%llu,\"paged_bytes\":%llu}\n",
            t->o->device, text, (unsigned long long)e.sum.total, (unsigned long long)e.most_bytes,
            (unsigned long long)e.store_bytes, (unsigned long long)e.paged_bytes);
    else {
        fprintf(out, "%s: %s\n", t->o->device, text);
        print_lines(out, &e.sum);
    }
    mo_estimate_free(&e);
}
