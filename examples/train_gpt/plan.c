// plan.c - memory and time of a strategy, and the search for one that fits.
#include "app.h"

#include <stdlib.h>

mo_training trainer_training(const trainer *t, const strategy *s) {
    return (mo_training){.model = gpt_model(&t->config),
        .strategy = *s,
        .batch = t->o->batch,
        .seq = t->config.seq,
        .accum = t->o->accum,
        .teacher = t->teacher ? &t->teacher->model : NULL,
        .target = t->backend->target(t),
        .costs = t->costs,
        .optim = t->optim,
        .seed = t->o->seed,
        .params = &t->params,
        .teacher_params = t->teacher ? &t->teacher->like.params : NULL,
        .log = &app_log};
}

size_t trainer_rows(const trainer *t, const strategy *s) {
    return t->o->batch / s->accum * t->config.seq;
}

bool trainer_is_bf16(const trainer *t, const strategy *s, size_t i) {
    const mo_training x = trainer_training(t, s);
    return mo_training_is_bf16(&x, i);
}

bool trainer_trains(const trainer *t, const strategy *s, size_t i) {
    const mo_training x = trainer_training(t, s);
    return mo_training_trains(&x, &t->params, i);
}

size_t trainer_n_trained(const trainer *t, const strategy *s) {
    size_t n = 0;
    for (size_t i = 0; i < t->params.n; i++)
        if (trainer_trains(t, s, i)) n += t->params.items[i].n;
    return n;
}

void trainer_fixed_open(const trainer *t, const strategy *s, fixed_layout *f) {
    const mo_training x = trainer_training(t, s);
    check_said(mo_training_fixed_init(f, &x), "the plan's fixed memory");
}

double trainer_update_s(const trainer *t, const strategy *s, double micro_batch_s) {
    const mo_training x = trainer_training(t, s);
    double seconds = 0;
    check_said(mo_training_update_s(&x, micro_batch_s, &seconds), "seconds of an update");
    return seconds;
}

mo_plan *trainer_plan(const trainer *t, const strategy *s, uint64_t budget, double *seconds) {
    const mo_training x = trainer_training(t, s);
    mo_plan *plan = NULL;
    check_said(mo_training_plan(&plan, &x, budget, seconds), "the plan");
    return plan;
}

uint64_t trainer_budget(const trainer *t) {
    const strategy plain = {.accum = 1};
    if (t->o->budget_percent == 0) return t->o->budget;
    mo_plan *plan = trainer_plan(t, &plain, 0, NULL);
    double bytes = (double)mo_plan_describe(plan).peak_bytes;
    mo_plan_destroy(plan);
    return (uint64_t)(bytes * t->o->budget_percent / 100);
}

// ---- the search -------------------------------------------------------------------------------

static void say_why(const mo_suggest_result *r, uint64_t budget) {
    char text[192], bytes[32];
    mo_strategy_format(&r->best.strategy, text, sizeof text);
    format_mib(budget, bytes, sizeof bytes);
    fprintf(
        stderr, "%zu strategies for %s: %s is the fastest that fits\n", r->n_trials, bytes, text);
    if (r->missed.bytes == 0 || r->missed.seconds >= r->best.seconds) return;
    mo_strategy_format(&r->missed.strategy, text, sizeof text);
    format_mib(r->missed.bytes, bytes, sizeof bytes);
    fprintf(stderr, "  %s would take %.2f times its time, but %s\n", text,
        r->missed.seconds / r->best.seconds, bytes);
}

_Noreturn static void say_what_is_missing(
    const trainer *t, const mo_suggest_result *r, uint64_t budget, bool is_auto) {
    char want[32], least[32], text[192];
    format_mib(budget, want, sizeof want);
    format_mib(r->least.bytes, least, sizeof least);
    mo_strategy_format(&r->least.strategy, text, sizeof text);
    fail(EXIT_BAD,
        "--budget %s (%llu bytes) is too small: the smallest that %s finds on %d threads is %s "
        "(%llu bytes), with %s",
        want, (unsigned long long)budget, is_auto ? "--strategy auto" : "this --strategy",
        mo_parallel_threads(&t->parallel), least, (unsigned long long)r->least.bytes, text);
}

strategy trainer_choose(const trainer *t, uint64_t budget, bool say) {
    mo_suggest_result r;
    strategy s = t->o->strategy;
    unsigned open = t->o->open;
    if (t->o->resume && !(t->o->named & OPEN_OPTIM)) {
        s.optim = t->optim.precision; // the file's
        open &= ~(unsigned)OPEN_OPTIM;
    }
    const mo_suggest_desc d = {
        .training = trainer_training(t, &s), .open = open, .closed = open == 0, .budget = budget};
    check_said(mo_suggest(&d, &r), "planning");
    if (!r.fits) say_what_is_missing(t, &r, budget, open == OPEN_ALL);
    if (say && r.n_trials > 1) say_why(&r, budget);
    return r.best.strategy;
}
