// result.c - what is shown and known of a run: progress, held-out text, figures, a sample.
#include "app.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

// ---- held-out text ------------------------------------------------------------------------------

// Where whole batches of what --valid holds out begin, whatever micro-batches they are split into;
// and how many of the strategy's size there are.
static uint64_t valid_begin(const trainer *t) {
    const uint64_t batch = (uint64_t)t->o->batch * t->config.seq;
    return (t->corpus.training.n + batch - 1) / batch * batch;
}

size_t trainer_valid_batches(const trainer *t, const strategy *s) {
    const uint64_t batch = (uint64_t)t->o->batch * t->config.seq, n = t->corpus.tokens.n;
    const uint64_t end = n ? (n - 1) / batch * batch : 0;
    return end > valid_begin(t) ? (size_t)((end - valid_begin(t)) / trainer_rows(t, s)) : 0;
}

// Mean loss of what --valid holds out, in batches of the strategy's size; the student's alone.
static double validate(session *x) {
    const trainer *t = x->t;
    const size_t rows = trainer_rows(t, x->s), n = trainer_valid_batches(t, x->s);
    const mo_loader_desc desc = {.tokens = &t->corpus.tokens,
        .batch = rows / t->config.seq,
        .seq = t->config.seq,
        .vocab = (uint32_t)t->config.vocab,
        .log = app_log};
    const mo_loader_state at = {.position = valid_begin(t)};
    const distillation *distill = x->run.distill;
    mo_loader loader = {0};
    double loss = 0;
    check(mo_loader_init(&loader, &desc), "batches of the held-out text");
    mo_loader_set_state(&loader, &at);
    x->run.distill = NULL;
    x->run.evaluate = true;
    for (size_t i = 0; i < n; i++) {
        mo_step step = {.op = MO_STEP_FORWARD};
        bool done = false;
        session_read_tokens(x, &loader, rows);
        mo_plan_begin(x->plan);
        while (mo_plan_next(x->plan, &step)) {
            if (!done || step.op > MO_STEP_BACKWARD) session_step(x, &step); // copies go on
            done = done || step.op == MO_STEP_LOSS;
        }
        loss += x->run.kernels->loss(&x->run);
    }
    x->run.evaluate = false;
    x->run.distill = distill;
    mo_loader_free(&loader);
    return loss * (double)(x->s->accum * t->o->accum) / (double)n; // of n micro-batches
}

// ---- figures ------------------------------------------------------------------------------------

// One line that is written over on a terminal, else a line now and then.
void session_show_progress(const session *x, size_t done, double loss) {
    const size_t steps = x->t->o->steps, every = steps < 10 ? 1 : steps / 10;
    const bool terminal = isatty(STDERR_FILENO);
    if (!terminal && done % every != 0 && done != steps) return;
    mo_track_stats now;
    char budget[32] = "";
    mo_track_get_stats(&x->track, &now);
    const double elapsed = now_s() - x->started_s;
    const double tokens = (double)(x->t->o->batch * x->t->o->accum * x->t->config.seq);
    if (x->budget) snprintf(budget, sizeof budget, " of %.1f", (double)x->budget / 0x1p20);
    fprintf(stderr,
        "%sstep %zu/%zu | loss %.6f | %.0f tokens/s | memory %.1f, peak %.1f%s MiB | %.0f s left%s",
        terminal ? "\r\033[K" : "", done, steps, loss, tokens * (double)done / elapsed,
        (double)now.total.current_bytes / 0x1p20, (double)x->t->backend->peak_bytes(x->t) / 0x1p20,
        budget, elapsed / (double)done * (double)(steps - done),
        terminal && done != steps ? "" : "\n");
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Rows that add up to the peak: inputs and gaps count as workspace.
static void split_peak(const uint64_t *bytes, uint64_t peak, uint64_t *out) {
    memset(out, 0, MO_CATEGORY_COUNT * sizeof *out);
    uint64_t rest = peak;
    for (int i = MO_CATEGORY_PARAM; i <= MO_CATEGORY_ACTIVATION; i++) rest -= out[i] = bytes[i];
    out[MO_CATEGORY_WORKSPACE] = rest;
}

void session_fill_result(session *x, result *r, const double *losses) {
    const size_t steps = x->done, first = steps > 1 ? 1 : 0; // the first warms up
    const mo_plan_info info = mo_plan_describe(x->plan);
    uint64_t planned[MO_CATEGORY_COUNT];
    mo_track_stats track;
    struct rusage usage;
    memset(r, 0, sizeof *r);
    r->peak_bytes = x->t->backend->peak_bytes(x->t);
    mo_track_get_stats(&x->track, &track);
    for (int i = 0; i < MO_CATEGORY_COUNT; i++) planned[i] = info.bytes[i];
    split_peak(planned, info.peak_bytes, r->planned);
    split_peak(track.at_peak_bytes, r->peak_bytes, r->measured);
    r->budget_bytes = x->budget;
    r->plan_bytes = info.peak_bytes;
    r->store_bytes = info.store_bytes;
    r->released_bytes = release_bytes(x->t, x->s);
    if (x->t->pages) {
        x->t->backend->pages_figures(x->t, &r->page);
        r->page.in_bytes -= x->paged.in_bytes;
        r->page.out_bytes -= x->paged.out_bytes;
        if (r->page.stall_s >= 0) r->page.stall_s -= x->paged.stall_s;
    }
    r->predicted_ms = 1e3 * x->predicted_s;
    if (getrusage(RUSAGE_SELF, &usage) == 0) r->rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
    r->steps = steps;
    r->early = steps < x->t->o->steps;
    r->valid_loss = x->t->o->valid > 0 ? validate(x) : -1;
    mo_strategy_format(x->s, r->strategy, sizeof r->strategy);
    r->chosen = *x->s;
    r->costs = x->t->costs;
    snprintf(r->device, sizeof r->device, "%s", device_name(x->t->device));
    if (steps == 0) return;
    qsort(x->step_s + first, steps - first, sizeof *x->step_s, compare_doubles);
    r->ms_per_step = 1e3 * x->step_s[first + (steps - first) / 2];
    r->tokens_per_s =
        1e3 * (double)(x->t->o->batch * x->t->o->accum * x->t->config.seq) / r->ms_per_step;
    r->first_loss = losses[0];
    r->last_loss = losses[steps - 1];
}

// ---- a sample -----------------------------------------------------------------------------------

// On the CPU activations are dead now: their memory holds the sampler's cache. From a device the
// parameters are copied, and the cache is of the size that it would have there.
void session_sample(session *x) {
    trainer *t = x->t;
    const mo_plan_info info = mo_plan_describe(x->plan);
    const size_t begin = info.fixed_bytes, size = info.peak_bytes - begin;
    FILE *out = t->o->json ? stderr : stdout;
    mo_params host = t->params;
    host.items = allocate(host.n * sizeof *host.items);
    memcpy(host.items, t->params.items, host.n * sizeof *host.items);
    for (size_t i = 0; i < host.n; i++) {
        const mo_param *p = &t->params.items[i];
        void *data = p->tied_to != i ? mo_param_data(&host.items[p->tied_to])
            : lora_stores(t, i)
            ? lora_merged(t, i)
            : t->backend->host_begin(t, mo_param_data(p), mo_param_bytes(p), true);
        if (p->is_bf16) host.items[i].bf16 = data;
        else host.items[i].data = data;
    }
    void *memory = t->device ? allocate(size) : mo_arena_at(x->arena, begin, size);
    fprintf(out, "--- sample of %zu tokens\n", t->o->sample);
    if (memory) gpt_sample(&t->config, &host, t->o->sample, t->o->seed, memory, size, out);
    fputs("---\n", out);
    fflush(out);
    if (t->device) free(memory);
    for (size_t i = 0; i < host.n; i++) {
        const mo_param *p = &t->params.items[i];
        if (lora_stores(t, i)) free(host.items[i].data);
        else if (p->tied_to == i)
            t->backend->host_end(
                t, mo_param_data(p), mo_param_data(&host.items[i]), mo_param_bytes(p), false);
    }
    free(host.items);
}
