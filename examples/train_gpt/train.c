// train.c - the training loop.
#include "app.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void session_check_norm(const session *x, double square_sum) {
    if (!isfinite(square_sum))
        fail(EXIT_BAD, "step %llu: the gradient's norm is not finite; a smaller --lr may help",
            (unsigned long long)x->t->step);
}

static void clip(session *x) {
    double sum = 0;
    x->t->backend->square_sums(x->t, 0, x->t->params.n, x->run.workspace, x->square_sums);
    for (size_t i = 0; i < x->t->params.n; i++) sum += x->square_sums[i];
    session_check_norm(x, sum);
    x->t->optim.grad_scale = mo_accum_clip_scale(sqrt(sum), x->t->o->clip);
}

void session_update(session *x) {
    trainer *t = x->t;
    t->step++;
    if (t->o->clip > 0) clip(x);
    for (size_t i = 0; i < t->params.n; i++) {
        if (!trainer_trains(t, x->s, i)) continue;
        if (t->pages) pages_step(t, i);
        else t->backend->update(t, i);
    }
    mo_track_mark(&x->track, "update");
}

void session_clear_gradients(const session *x) {
    for (size_t i = 0; i < x->t->params.n; i++) {
        const mo_param *p = &x->t->params.items[i];
        if (p->tied_to == i && p->grad) x->t->backend->clear(x->t, p->grad, p->n * sizeof(float));
    }
}

void session_step(session *x, const mo_step *step) {
    if (step->op > MO_STEP_BACKWARD) {
        x->t->backend->transfer_step(x->t, step);
        return;
    }
    if (x->s->release) release_before(x, step);
    gpt_step(&x->run, step);
    if (x->s->release) release_after(x, step);
}

void session_read_tokens(session *x, mo_loader *loader, size_t rows) {
    const trainer *t = x->t;
    const size_t size = 2 * rows * sizeof(int32_t);
    mo_loader_batch batch;
    if (mo_loader_next(loader, &batch) != MO_OK) exit(EXIT_BAD); // app_log has said why
    int32_t *host = t->backend->host_begin(t, x->inputs, size, false);
    memcpy(host, batch.inputs, size); // and the targets behind them
    t->backend->host_end(t, x->inputs, host, size, true);
}

static double run_plan(session *x) {
    mo_step step;
    mo_plan_begin_pass(x->plan, x->pass); // a run that is resumed has the seeds of the whole one
    while (mo_plan_next(x->plan, &step)) session_step(x, &step);
    return x->run.kernels->loss(&x->run);
}

static double train_step(session *x) {
    trainer *t = x->t;
    const size_t rows = trainer_rows(t, x->s), n = x->s->accum * t->o->accum;
    double loss = 0;
    x->pass = t->step * n;
    if (x->s->release) {
        session_read_tokens(x, &x->loader, rows);
        teacher_forward(x);
        loss = release_update(x, run_plan);
    } else {
        session_clear_gradients(x);
        for (size_t i = 0; i < n; i++) {
            session_read_tokens(x, &x->loader, rows);
            teacher_forward(x);
            loss += run_plan(x);
            x->pass++;
        }
        session_update(x);
    }
    t->backend->wait(t);
    const mo_loader_state at = mo_loader_get_state(&x->loader);
    t->epoch = at.epoch;
    t->position = at.position;
    if (!isfinite(loss))
        fail(EXIT_BAD, "step %llu: the loss is not finite; a smaller --lr or --clip 1 may help",
            (unsigned long long)t->step);
    return loss;
}

// ---- saving -----------------------------------------------------------------------------------

// What has asked the run to end. The second signal finds the default action again.
static volatile sig_atomic_t stop;

static void on_signal(int number) { stop = number; }

// Not where the signal is ignored, as it is for what a shell runs in the background.
static void listen_for(int number) {
    struct sigaction before, action = {.sa_handler = on_signal};
    action.sa_flags = (int)SA_RESETHAND | SA_RESTART;
    sigemptyset(&action.sa_mask);
    if (sigaction(number, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(number, &action, NULL);
}

// Once for each step, also where the last one is one of --save-every.
static void save(session *x) {
    if (x->has_saved && x->saved == x->t->step) return;
    if (x->t->o->half) checkpoint_save_half(x->t, x->t->o->save);
    else checkpoint_save(x->t, x->t->o->save);
    if (x->s->lora) lora_save_config(x->t, x->t->o->save);
    x->saved = x->t->step;
    x->has_saved = true;
}

static void finish(session *x) {
    const options *o = x->t->o;
    const bool early = x->done<o->steps, changed = x->done> 0 || !early;
    if (o->save && changed) save(x);
    if (early)
        fprintf(stderr, "%strain_gpt: signal %d after step %zu of %zu: %s\n",
            isatty(STDERR_FILENO) ? "\n" : "", (int)stop, x->done, o->steps,
            changed ? "saved" : "nothing to save");
    if (o->report) report_files(o->report, &x->track, x->plan);
    if (o->sample != 0) session_sample(x);
}

void trainer_run(trainer *t, const strategy *s, result *r, double *losses) {
    session x;
    session_open(&x, t, s);
    if (t->o->save) listen_for(SIGINT), listen_for(SIGTERM);
    while (x.done < t->o->steps && !stop) {
        const double start = now_s();
        losses[x.done] = train_step(&x);
        x.step_s[x.done] = now_s() - start;
        x.done++;
        session_show_progress(&x, x.done, losses[x.done - 1]);
        if (t->o->save_every && t->step % t->o->save_every == 0) save(&x);
    }
    session_fill_result(&x, r, losses);
    finish(&x);
    session_close(&x);
}
