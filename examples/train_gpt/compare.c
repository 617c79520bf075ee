// compare.c - what each part of a strategy saves: plans of the plain strategy with one part after
// the other added to it. Only the first and the last of them are run.
#include "app.h"

#include <string.h>

// In an order in which each step is a strategy that may be: shared blocks are another network, so
// they come first; fewer bits and adapters decide how large what is paged or released is. The
// optimal schedule takes what the others leave of the budget: it comes last.
typedef enum part {
    OF_SHARE,
    OF_CHECKPOINT,
    OF_ACT,
    OF_ACCUM,
    OF_OPTIM,
    OF_LOSS,
    OF_PRECISION,
    OF_LORA,
    OF_RELEASE,
    OF_PAGED,
    OF_OPTIMAL,
    OF_OFFLOAD,
    OF_OPTIMAL_ACT,
    N_OF_PARTS
} part;
_Static_assert((int)N_OF_PARTS < (int)MAX_PARTS, "there is a row for each part, and one for none");

static void take_part(part which, const strategy *from, strategy *s) {
    const bool optimal = from->checkpoint == MO_STRATEGY_OPTIMAL;
    switch (which) {
    case OF_SHARE: s->share = from->share; break;
    case OF_CHECKPOINT:
        if (!optimal) s->checkpoint = from->checkpoint;
        break;
    case OF_ACT:
        if (!optimal) s->act = from->act;
        break;
    case OF_ACCUM: s->accum = from->accum; break;
    case OF_OPTIM: s->optim = from->optim; break;
    case OF_LOSS: s->loss_rows = from->loss_rows; break;
    case OF_PRECISION: s->bf16 = from->bf16; break;
    case OF_LORA:
        s->lora = from->lora;
        s->base = from->base;
        break;
    case OF_RELEASE:
        s->release = from->release;
        s->clip = from->clip;
        break;
    case OF_PAGED:
        s->paged = from->paged;
        s->resident = from->resident;
        break;
    case OF_OPTIMAL: s->checkpoint = from->checkpoint; break;
    case OF_OFFLOAD: s->offload = from->offload; break;
    default: s->act = from->act; break;
    }
}

// Whether the kernels are the same: a schedule and the size of a micro-batch decide only when and
// how often they run.
static bool costs_alike(part which) {
    return which == OF_CHECKPOINT || which == OF_ACCUM || which == OF_OPTIMAL;
}

static bool has_item(const char *list, const char *item, size_t n) {
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strcspn(at, ",") == n && memcmp(at, item, n) == 0) return true;
    return false;
}

// Those items of a strategy that the one before has not.
static void name_part(const char *before, const char *after, char *text, size_t size) {
    size_t n = 0;
    text[0] = 0;
    for (const char *at = after; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        const size_t length = strcspn(at, ",");
        if (!has_item(before, at, length) && n < size)
            n += (size_t)snprintf(text + n, size - n, "%s%.*s", n ? "," : "", (int)length, at);
    }
}

uint64_t compare_limit(const trainer *t, const strategy *s) {
    mo_plan *plan = trainer_plan(t, s, 0, NULL);
    const uint64_t bytes = mo_plan_describe(plan).peak_bytes;
    mo_plan_destroy(plan);
    return bytes;
}

static void plan_part(const trainer *t, const strategy *s, uint64_t budget, compared_part *row) {
    double seconds;
    mo_plan *plan = trainer_plan(t, s, budget, &seconds);
    row->plan_bytes = mo_plan_describe(plan).peak_bytes;
    row->predicted_ms = t->costs.rows != 0 ? 1e3 * trainer_update_s(t, s, seconds) : 0;
    mo_plan_destroy(plan);
}

static void take_result(const result *r, compared_part *row) {
    row->plan_bytes = r->plan_bytes;
    row->predicted_ms = r->predicted_ms;
    row->result = r;
}

void compare_parts(trainer *t, const result *plain, const result *run, comparison *c) {
    strategy s = plain->chosen;
    bool measured = true; // t->costs are those of s
    memset(c, 0, sizeof *c);
    t->costs = plain->costs;
    snprintf(c->parts[0].part, sizeof c->parts[0].part, "none");
    mo_strategy_format(&s, c->parts[0].strategy, sizeof c->parts[0].strategy);
    take_result(plain, &c->parts[0]);
    for (part which = 0; which < N_OF_PARTS; which++) {
        compared_part *row = &c->parts[c->n + 1];
        const char *before = c->parts[c->n].strategy;
        take_part(which, &run->chosen, &s);
        mo_strategy_format(&s, row->strategy, sizeof row->strategy);
        if (strcmp(before, row->strategy) == 0) continue;
        name_part(before, row->strategy, row->part, sizeof row->part);
        measured = measured && costs_alike(which);
        c->n++;
        if (strcmp(row->strategy, run->strategy) == 0) {
            take_result(run, row);
            continue;
        }
        if (!measured && !run->early) measure_costs(t, &s, 0);
        measured = true;
        plan_part(t, &s, run->budget_bytes, row);
    }
    c->n++;
}

int64_t compare_saved(const comparison *c, size_t i) {
    return i == 0 ? 0 : (int64_t)(c->parts[i - 1].plan_bytes - c->parts[i].plan_bytes);
}

int64_t compare_saved_in_all(const comparison *c) {
    return (int64_t)(c->parts[0].plan_bytes - c->parts[c->n - 1].plan_bytes);
}
