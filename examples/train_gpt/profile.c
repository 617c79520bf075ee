// profile.c - what the stages cost on this machine.
#include "app.h"

#include <stdlib.h>
#include <string.h>

static void run(void *self, const mo_step *step) {
    session *x = self;
    session_step(x, step);
    x->t->backend->wait(x->t);
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// An update of parameters and gradients that are zero, so that nothing can become infinite.
static double time_update(session *x) {
    const uint64_t step = x->t->step;
    double s[3];
    for (int i = 0; i < 3; i++) {
        const double start = now_s();
        session_clear_gradients(x);
        if (x->s->release) release_rehearse(x);
        else session_update(x);
        x->t->backend->wait(x->t);
        s[i] = now_s() - start;
    }
    x->t->step = step;
    qsort(s, 3, sizeof *s, compare);
    return s[1];
}

// The second of two runs, on tokens that are whatever they are.
static double time_teacher(session *x) {
    double start = 0;
    for (int i = 0; i < 2; i++) {
        start = now_s();
        teacher_forward(x);
        x->t->backend->wait(x->t);
    }
    return now_s() - start;
}

// Runs the plan of a few blocks several times, when there is one.
static bool profile_plan(mo_profile *profile, trainer *t, const strategy *s, mo_plan *plan,
    double *update_s, double *teacher_s) {
    if (!plan) return false;
    session x;
    memset(&x, 0, sizeof x);
    x.t = t;
    x.s = s;
    x.plan = plan;
    const mo_training of = trainer_training(t, s);
    session_bind(&x, mo_training_part_blocks(&of), true);
    const mo_profile_desc desc = {.plan = plan, .run = run, .self = &x};
    check(mo_profile_run(profile, &desc), "mo_profile_run");
    if (update_s) *update_s = time_update(&x);
    if (t->teacher) *teacher_s = time_teacher(&x);
    session_free(&x);
    return true;
}

static mo_stage_costs costs_of(const mo_stage *s) {
    return (mo_stage_costs){s->forward_s, s->output_s, s->backward_s, s->light_s, s->compress_s};
}

// Bytes a second of a copy to other memory, such as the transfer's. No plan has memory then: both
// buffers together stay within the budget.
static double copy_speed(uint64_t budget) {
    enum { MOST = 32 << 20 };
    const size_t size = budget != 0 && budget / 2 < MOST ? (size_t)(budget / 2) : MOST;
    char *from = allocate(size), *to = allocate(size);
    double bytes_per_s = 0;
    memset(from, 1, size);
    const mo_profile_link_desc desc = {.to = to, .from = from, .size = size};
    check(mo_profile_link(&desc, &bytes_per_s), "mo_profile_link");
    free(from);
    free(to);
    return bytes_per_s;
}

static mo_plan *part_plan(const mo_training *of, mo_training_part part, uint64_t budget) {
    mo_plan *plan = NULL;
    check_said(mo_training_part_plan(&plan, of, part, budget), "the plan of a few stages");
    return plan;
}

void measure_costs(trainer *t, const strategy *s, uint64_t budget) {
    mo_profile profile;
    mo_training_chain g;
    const mo_training of = trainer_training(t, s);
    double update_s = 0, teacher_s = 0;
    check(mo_training_chain_init(&g, &of, mo_training_part_blocks(&of), 1), "a few stages");
    check(mo_profile_init(&profile, g.chain.n_stages, 0, NULL), "mo_profile_init");
    bool done = profile_plan(
        &profile, t, s, part_plan(&of, MO_TRAINING_PART_AGAIN, budget), &update_s, &teacher_s);
    if (done) {
        (void)profile_plan(
            &profile, t, s, part_plan(&of, MO_TRAINING_PART_KEPT, budget), NULL, &teacher_s);
        if (s->act)
            (void)profile_plan(&profile, t, s, part_plan(&of, MO_TRAINING_PART_COMPRESSED, budget),
                NULL, &teacher_s);
    } else
        done = profile_plan(
            &profile, t, s, part_plan(&of, MO_TRAINING_PART_LEAST, budget), &update_s, &teacher_s);
    if (done) {
        const mo_stage *halves =
            &g.stages[1 + mo_training_part_blocks(&of) / 2 * 2]; // in the middle
        check(mo_profile_fill(&profile, g.stages), "mo_profile_fill");
        t->costs = (mo_training_costs){.rows = (double)trainer_rows(t, s),
            .embedding = costs_of(&g.stages[0]),
            .attention = costs_of(&halves[0]),
            .mlp = costs_of(&halves[1]),
            .head = costs_of(&g.stages[g.chain.n_stages - 1]),
            .update = update_s,
            .teacher = teacher_s,
            .copy_bytes_per_s = s->offload ? copy_speed(budget) : 0};
    }
    mo_profile_free(&profile);
    mo_training_chain_free(&g);
}
