// plan.c - memory and time of a strategy, and the search for one that fits.
#include "app.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

// One strategy that was looked at.
typedef struct trial {
    strategy s;
    uint64_t bytes;
    double cost; // 0 = there is none
} trial;

typedef struct search {
    const trainer *t;
    uint64_t budget;
    size_t n;
    trial best, least; // the fastest that fits, the smallest
    trial missed;      // the fastest that does not fit
} search;

static void try_strategy(search *f, const strategy *s) {
    double seconds;
    mo_plan *plan = trainer_plan(f->t, s, f->budget, &seconds);
    // fewer bits are not free: they count as a twentieth of the time
    const double bits = s->optim == MO_OPTIM_8BIT ? 1.05 : 1;
    const trial x = {
        *s, mo_plan_describe(plan).peak_bytes, trainer_update_s(f->t, s, seconds) * bits};
    mo_plan_destroy(plan);
    f->n++;
    if (f->least.cost == 0 || x.bytes < f->least.bytes) f->least = x;
    trial *kept = x.bytes <= f->budget ? &f->best : &f->missed;
    // sums of the same costs in another order are equal: the simpler strategy came first
    if (kept->cost == 0 || x.cost < kept->cost * (1 - 1e-9)) *kept = x;
}

// Nothing of this batch and loss can be faster than what keeps everything.
static bool can_win(const search *f, strategy s) {
    double seconds;
    if (f->best.cost == 0) return true;
    s.checkpoint = MO_STRATEGY_NONE;
    s.act = 0;
    mo_plan_destroy(trainer_plan(f->t, &s, 0, &seconds));
    return trainer_update_s(f->t, &s, seconds) < f->best.cost;
}

// Open fields take all their values, from plain to sparing; the first of equal cost wins.
static void try_checkpoints(search *f, strategy s, unsigned open) {
    static const mo_strategy_checkpoint all[] = {
        MO_STRATEGY_NONE, MO_STRATEGY_LIGHT, MO_STRATEGY_OPTIMAL};
    if (!can_win(f, s)) return;
    if (!(open & OPEN_CHECKPOINT)) try_strategy(f, &s);
    for (size_t i = 0; (open & OPEN_CHECKPOINT) && i < sizeof all / sizeof *all; i++) {
        s.checkpoint = all[i];
        try_strategy(f, &s);
    }
}

static void try_losses(search *f, strategy s, unsigned open) {
    try_checkpoints(f, s, open);
    for (size_t rows = 1024; (open & OPEN_LOSS) && rows >= 16; rows /= 2) {
        if (rows >= trainer_rows(f->t, &s)) continue;
        s.loss_rows = rows;
        try_checkpoints(f, s, open);
    }
}

static void try_all(search *f, strategy s, unsigned open) {
    const size_t batch = f->t->o->batch, first = s.accum;
    const mo_optim_precision given = s.optim;
    for (s.accum = first; s.accum <= batch; s.accum++) {
        if (batch % s.accum != 0) continue;
        for (int optim = 0; optim < (open & OPEN_OPTIM ? 2 : 1); optim++) {
            s.optim = open & OPEN_OPTIM ? (mo_optim_precision)optim : given;
            try_losses(f, s, open);
        }
        if (!(open & OPEN_ACCUM) || s.release) break;
    }
}

static void say_why(const search *f) {
    char text[192], bytes[32];
    mo_strategy_format(&f->best.s, text, sizeof text);
    format_mib(f->budget, bytes, sizeof bytes);
    fprintf(stderr, "%zu strategies for %s: %s is the fastest that fits\n", f->n, bytes, text);
    if (f->missed.cost == 0 || f->missed.cost >= f->best.cost) return;
    mo_strategy_format(&f->missed.s, text, sizeof text);
    format_mib(f->missed.bytes, bytes, sizeof bytes);
    fprintf(stderr, "  %s would take %.2f times its time, but %s\n", text,
        f->missed.cost / f->best.cost, bytes);
}

strategy trainer_choose(const trainer *t, uint64_t budget, bool say) {
    char want[32], least[32], text[192];
    strategy s = t->o->strategy;
    unsigned open = t->o->open;
    if (t->o->resume && !(t->o->named & OPEN_OPTIM)) {
        s.optim = t->optim.precision; // the file's
        open &= ~(unsigned)OPEN_OPTIM;
    }
    if (budget == 0) { // nothing to fit: what costs next to nothing
        if (open & OPEN_CHECKPOINT) s.checkpoint = MO_STRATEGY_LIGHT;
        if (open & OPEN_LOSS) s.loss_rows = 256;
        return s;
    }
    search f = {.t = t, .budget = budget};
    try_all(&f, s, open);
    if (f.best.cost == 0 && open & OPEN_PAGED) { // last of all: it needs a disk
        s.paged = true;
        try_all(&f, s, open);
    }
    if (f.best.cost != 0) {
        if (say && f.n > 1) say_why(&f);
        return f.best.s;
    }
    format_mib(budget, want, sizeof want);
    format_mib(f.least.bytes, least, sizeof least);
    mo_strategy_format(&f.least.s, text, sizeof text);
    fail(EXIT_BAD,
        "--budget %s (%llu bytes) is too small: the smallest that %s finds on %d threads is %s "
        "(%llu bytes), with %s",
        want, (unsigned long long)budget, open == OPEN_ALL ? "--strategy auto" : "this --strategy",
        mo_parallel_threads(&t->parallel), least, (unsigned long long)f.least.bytes, text);
}
