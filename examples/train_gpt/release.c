// release.c - updates inside backward: the gradients of a stage live in its backward alone. That of
// the embedding, which is the head too, lives from the head's backward to the embedding's.
#include "app.h"

#include <stdlib.h>
#include <string.h>

void release_check(const trainer *t, const strategy *s) {
    if (!s->release) return;
    if (s->accum > 1 || t->o->accum > 1)
        fail(EXIT_USAGE, "--strategy: release and %s%zu exclude each other: every backward updates",
            s->accum > 1 ? "accum=" : "--accum ", s->accum > 1 ? s->accum : t->o->accum);
    if (t->o->clip > 0 && s->clip == MO_RELEASE_NONE)
        fail(EXIT_USAGE,
            "--clip %g: release needs to know how: release=tensor, release=previous or "
            "release=exact",
            t->o->clip);
    if (t->o->clip == 0 && s->clip != MO_RELEASE_NONE)
        fail(EXIT_USAGE, "--strategy: release=%s needs --clip", mo_strategy_clip_name(s->clip));
}

bool release_has(const trainer *t, const strategy *s, size_t i) {
    const mo_training x = trainer_training(t, s);
    return mo_training_releases(&x, &t->params, i);
}

// What is trained for n parameters from first on: themselves, or the adapters of their matrices.
static stage_params trained(const trainer *t, const strategy *s, size_t first, size_t n) {
    if (s->lora == 0) return (stage_params){.first = first, .n = n};
    const size_t begin = lora_adapter(&t->config, first);
    const size_t end = lora_adapter(&t->config, first + n);
    return (stage_params){.first = begin, .n = end - begin};
}

static size_t aligned(const trainer *t, size_t size) {
    const size_t align = t->backend->target(t).align;
    return (size + align - 1) / align * align;
}

uint64_t release_bytes(const trainer *t, const strategy *s) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < t->params.n; i++)
        if (release_has(t, s, i)) bytes += t->params.items[i].n * sizeof(float);
    return bytes;
}

void release_open(session *x) {
    const trainer *t = x->t;
    x->square_sums = allocate(t->params.n * sizeof *x->square_sums);
    const mo_release_desc desc = {.clip = x->s->release ? x->s->clip : MO_RELEASE_NONE,
        .max_norm = t->o->clip,
        .first_norm = t->norm,
        .n_tensors = t->params.n,
        .square_sums = x->square_sums};
    check(mo_release_init(&x->release, &desc), "mo_release_init");
}

void release_close(session *x) { free(x->square_sums); }

// Whether this is where the gradients of a stage come from.
static bool is_backward(const mo_step *step) {
    return step->op == MO_STEP_BACKWARD || step->op == MO_STEP_LOSS;
}

// The gradients of what is trained for a parameter, one behind the other. all: also those that
// backward writes without reading: a block's matrices, but not their adapters.
static void begin_gradient(session *x, size_t param, void *memory, bool in_block, bool all) {
    trainer *t = x->t;
    const stage_params of = trained(t, x->s, param, 1);
    char *at = memory;
    for (size_t i = of.first; i < of.first + of.n; i++) {
        mo_param *p = &t->params.items[i];
        const bool fresh = in_block && p->n_dims > 1 && x->s->lora == 0;
        if (!release_has(t, x->s, i)) continue;
        p->grad = (float *)at;
        at += aligned(t, p->n * sizeof(float));
        if (fresh) x->run.fresh = true;
        if (all || !fresh) t->backend->clear(t, p->grad, p->n * sizeof(float));
    }
}

static void begin_gradients(session *x, const mo_step *step, bool all) {
    const stage_params of = gpt_stage_params(&x->run, step);
    const bool in_block = step->op == MO_STEP_BACKWARD && step->stage != 0;
    x->run.fresh = false;
    for (size_t i = 0; i < of.n; i++)
        begin_gradient(x, of.first + i, step->tensors[of.tensor + i], in_block, all);
}

static void end_gradients(session *x, const stage_params *of) {
    for (size_t i = of->first; i < of->first + of->n; i++)
        if (release_has(x->t, x->s, i)) x->t->params.items[i].grad = NULL;
}

// What is trained in a step's stage.
static stage_params stage_trains(const session *x, const mo_step *step) {
    const stage_params of = gpt_stage_params(&x->run, step);
    return trained(x->t, x->s, of.first, of.n);
}

void release_before(session *x, const mo_step *step) {
    if (is_backward(step)) begin_gradients(x, step, false);
}

static void update(session *x, size_t i) {
    trainer *t = x->t;
    t->optim.grad_scale = mo_release_scale(&x->release, i);
    if (t->pages) pages_step(t, i);
    else t->backend->update(t, i);
}

// A device waits here for the sums of a stage, where clipping asks for them.
static void measure(session *x, const stage_params *of) {
    double *sums = allocate(of->n * sizeof *sums);
    x->t->backend->square_sums(x->t, of->first, of->n, x->run.workspace, sums);
    for (size_t i = 0; i < of->n; i++) {
        session_check_norm(x, sums[i]);
        mo_release_measure(&x->release, of->first + i, sums[i]);
    }
    free(sums);
}

// Tied parameters come before those that share their tensor: their stage is the last to add to it.
void release_after(session *x, const mo_step *step) {
    trainer *t = x->t;
    if (!is_backward(step)) return;
    const stage_params of = stage_trains(x, step);
    if (x->release.pass != 0) {
        if (mo_release_needs(&x->release) != MO_RELEASE_NO_NORM) measure(x, &of);
        for (size_t i = of.first + of.n; i-- > of.first && mo_release_updates(&x->release);)
            if (trainer_trains(t, x->s, i)) update(x, i);
    }
    end_gradients(x, &of);
}

double release_update(session *x, double (*pass)(session *x)) {
    double loss = 0;
    x->t->step++;
    mo_release_begin(&x->release);
    while (mo_release_next(&x->release)) {
        session_clear_gradients(x);
        loss = pass(x);
    }
    if (x->s->clip == MO_RELEASE_PREVIOUS) x->t->norm = x->release.norm;
    mo_track_mark(&x->track, "update");
    return loss;
}

void release_rehearse(session *x) {
    mo_step step;
    x->t->step++;
    mo_plan_begin(x->plan);
    while (mo_plan_next(x->plan, &step)) {
        if (!is_backward(&step)) continue;
        const stage_params of = stage_trains(x, &step);
        begin_gradients(x, &step, true);
        for (size_t i = of.first + of.n; i-- > of.first;)
            if (trainer_trains(x->t, x->s, i)) update(x, i);
        end_gradients(x, &of);
    }
}
