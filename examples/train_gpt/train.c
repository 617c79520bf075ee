// train.c - the training loop.
#include "app.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void open_blas(trainer *t, const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(EXIT_BAD, "--blas: %s", dlerror());
    void *symbol = dlsym(library, "cblas_sgemm");
    if (!symbol) fail(EXIT_BAD, "--blas: %s has no cblas_sgemm", path);
    memcpy(&t->cblas, &symbol, sizeof symbol); // ISO C has no cast from object to function
    void (*set_threads)(int) = NULL;
    symbol = dlsym(library, "openblas_set_num_threads");
    memcpy(&set_threads, &symbol, sizeof symbol);
    if (set_threads) set_threads(mo_parallel_threads(&t->parallel));
}

static void check_config(const trainer *t) {
    const gpt_config *c = &t->config;
    const double need = (double)t->o->batch * (double)t->o->accum * (double)c->seq + 1;
    if (c->channels % c->heads != 0)
        fail(EXIT_BAD, "--heads: %zu does not divide the %zu channels", c->heads, c->channels);
    if ((double)t->corpus.n < need) // a product of sizes may not fit a size_t
        fail(EXIT_BAD, "%s: %zu tokens are fewer than one update reads: %.0f", t->corpus.name,
            t->corpus.n, need);
    if (t->corpus.vocab > c->vocab)
        fail(EXIT_BAD, "%s: token %u is outside the vocabulary of %zu", t->corpus.name,
            t->corpus.vocab - 1, c->vocab);
    if (t->o->batch % t->o->strategy.accum != 0)
        fail(EXIT_USAGE, "--strategy: accum=%zu does not divide --batch %zu", t->o->strategy.accum,
            t->o->batch);
}

void trainer_open(trainer *t, const options *o) {
    const char *from = o->resume ? o->resume : o->init;
    memset(t, 0, sizeof *t);
    t->o = o;
    t->config = (gpt_config){o->layers, o->channels, o->heads, o->seq, o->seq, 256};
    t->optim = (mo_optim_desc){.lr = o->lr, .weight_decay = o->weight_decay};
    t->parallel.n_threads = (int)o->threads;
    t->optim.parallel = &t->parallel;
    if (o->tokens) corpus_open_tokens(&t->corpus, o->tokens);
    else corpus_open_texts(&t->corpus, o->texts, o->n_texts);
    if (from) checkpoint_read_config(t, from, o->resume != NULL);
    else t->config.vocab = t->corpus.vocab;
    check_config(t);
    if (o->save) checkpoint_can_save(o->save);
    if (o->report) report_begin(o->report);
    if (o->blas) open_blas(t, o->blas);
    mo_params_init(&t->params, NULL);
    gpt_add_params(&t->config, &t->params);
    if (from) checkpoint_check_params(t, from);
    t->states = allocate(t->params.n * sizeof *t->states);
}

void trainer_close(trainer *t) {
    free(t->states);
    mo_params_free(&t->params);
    corpus_close(&t->corpus);
}

// ---- running ----------------------------------------------------------------------------------

static void bind_states(session *x) {
    trainer *t = x->t;
    char *at = mo_plan_fixed_address(x->plan, FIXED_OPTIMIZER);
    for (size_t i = 0; i < t->params.n; i++) {
        if (t->params.items[i].tied_to != i) continue;
        size_t n = t->params.items[i].n, size = mo_optim_state_size(&t->optim, n);
        check(mo_optim_state_init(&t->optim, n, at, size, &t->states[i]), t->params.items[i].name);
        at += size;
    }
}

void session_bind(session *x, size_t n_blocks, bool halves) {
    trainer *t = x->t;
    const mo_plan_info info = mo_plan_describe(x->plan);
    const mo_arena_desc arena = {.size = info.peak_bytes, .log = &app_log};
    const mo_track_desc track = {.max_blocks = info.n_tensors + N_FIXED + 1,
        .max_events = 6 * info.n_tensors + 64, // the last three passes
        .budget_bytes = x->budget,
        .log = &app_log};
    if (mo_arena_init(&x->arena, &arena) != MO_OK)
        fail(EXIT_BAD, "no address space for the plan of %zu bytes", info.peak_bytes);
    check(mo_track_init(&x->track, &track), "mo_track_init");
    check(mo_plan_bind(x->plan, &x->arena, &x->track), "memory for the plan");
    if (info.store_bytes != 0) x->transfer = transfer_open(info.store_bytes, 2 * n_blocks + 2);
    t->optim.precision = x->s->optim;
    check(mo_params_bind(&t->params, mo_plan_fixed_address(x->plan, FIXED_PARAM),
              mo_plan_fixed_address(x->plan, FIXED_GRAD)),
        "mo_params_bind");
    bind_states(x);
    x->inputs = mo_plan_fixed_address(x->plan, FIXED_TOKENS);
    x->targets = x->inputs + trainer_rows(t, x->s);

    void *workspace = mo_plan_fixed_address(x->plan, FIXED_WORKSPACE);
    const size_t size = trainer_workspace_size(t, x->s);
    x->run = (gpt_run){.config = &t->config,
        .params = &t->params,
        .batch = trainer_rows(t, x->s) / t->config.seq,
        .n_blocks = n_blocks,
        .halves = halves,
        .inputs = x->inputs,
        .targets = x->targets,
        .loss_rows = x->s->loss_rows,
        .loss_scale = 1.0f / (float)(t->o->batch * t->o->accum * t->config.seq),
        .env = {&t->parallel, t->cblas, workspace, size},
        .attention_workspace = workspace,
        .attention_workspace_size = size};
}

void session_free(session *x) {
    transfer_close(x->transfer);
    mo_track_free(&x->track);
    mo_plan_destroy(x->plan);
    mo_arena_free(&x->arena);
}

static void say_plan(const session *x) {
    char text[128], plan[32], budget[32], time[48] = "";
    strategy_format(x->s, text, sizeof text);
    format_mib(mo_plan_describe(x->plan).peak_bytes, plan, sizeof plan);
    format_mib(x->budget, budget, sizeof budget);
    if (x->predicted_s > 0)
        snprintf(time, sizeof time, " | about %.0f ms a step", 1e3 * x->predicted_s);
    fprintf(stderr, "%zu parameters, %zu tokens | %s | plan %s%s%s%s\n",
        mo_params_count(&x->t->params, MO_PARAMS_ALL), x->t->corpus.n, text, plan,
        x->budget ? " of budget " : "", x->budget ? budget : "", time);
}

static void session_open(session *x, trainer *t, const strategy *s) {
    const char *from = t->o->resume ? t->o->resume : t->o->init;
    double seconds;
    memset(x, 0, sizeof *x);
    x->t = t;
    x->s = s;
    x->budget = trainer_budget(t);
    if (x->budget != 0 || s->checkpoint == CHECKPOINT_OPTIMAL) measure_costs(t, s, x->budget);
    x->plan = trainer_plan(t, s, x->budget, &seconds);
    if (x->budget != 0 && mo_plan_describe(x->plan).peak_bytes > x->budget) {
        mo_plan_destroy(x->plan); // what a link can do depends on the costs: back to what fitted
        t->costs.rows = 0;
        x->plan = trainer_plan(t, s, x->budget, &seconds);
    }
    if (t->costs.rows != 0) x->predicted_s = trainer_update_s(t, s, seconds);
    x->step_s = allocate(t->o->steps * sizeof *x->step_s);
    say_plan(x);
    session_bind(x, t->config.layers, s->checkpoint == CHECKPOINT_OPTIMAL);
    if (from) checkpoint_load(t, from, t->o->resume != NULL);
    else gpt_init_params(&t->config, &t->params, t->o->seed);
    x->started_s = now_s();
}

static void session_close(session *x) {
    session_free(x);
    free(x->step_s);
}

static void clip(session *x) {
    double sum = 0;
    for (size_t i = 0; i < x->t->params.n; i++) {
        const mo_param *p = &x->t->params.items[i];
        if (p->tied_to == i) sum += mo_accum_square_sum(p->grad, p->n, &x->t->parallel);
    }
    if (!isfinite(sum))
        fail(EXIT_BAD, "step %llu: the gradient's norm is not finite; a smaller --lr may help",
            (unsigned long long)x->t->step + 1);
    x->t->optim.grad_scale = mo_accum_clip_scale(sqrt(sum), x->t->o->clip);
}

void session_update(session *x) {
    trainer *t = x->t;
    if (t->o->clip > 0) clip(x);
    t->step++;
    for (size_t i = 0; i < t->params.n; i++) {
        const mo_param *p = &t->params.items[i];
        if (p->tied_to != i) continue;
        check(mo_optim_step(&t->optim, t->step, p->data, p->grad, &t->states[i]), p->name);
    }
    mo_track_mark(&x->track, "update");
}

static void clear_range(const void *context, size_t begin, size_t end) {
    char *const *bytes = context;
    memset(*bytes + begin, 0, end - begin);
}

void session_clear_gradients(const session *x) {
    char *bytes = mo_plan_fixed_address(x->plan, FIXED_GRAD);
    const size_t size = mo_params_size(&x->t->params, MO_PARAMS_TRAINED);
    mo_parallel_for(&x->t->parallel, size, 4096, clear_range, &bytes);
}

void session_step(session *x, const mo_step *step) {
    if (step->op <= MO_STEP_BACKWARD) gpt_step(&x->run, step);
    else transfer_step(x->transfer, step);
}

static double train_step(session *x) {
    trainer *t = x->t;
    const size_t rows = trainer_rows(t, x->s), n = x->s->accum * t->o->accum;
    double loss = 0;
    mo_step step;
    if (t->position + n * rows + 1 > t->corpus.n) t->position = 0;
    session_clear_gradients(x);
    for (size_t i = 0; i < n; i++, t->position += rows) {
        corpus_read(&t->corpus, t->position, rows, x->inputs, x->targets);
        mo_plan_begin(x->plan);
        while (mo_plan_next(x->plan, &step)) session_step(x, &step);
        loss += x->run.loss;
    }
    session_update(x);
    if (!isfinite(loss))
        fail(EXIT_BAD, "step %llu: the loss is not finite; a smaller --lr or --clip 1 may help",
            (unsigned long long)t->step);
    return loss;
}

// One line that is written over on a terminal, else a line now and then.
static void show_progress(const session *x, size_t done, double loss) {
    const size_t steps = x->t->o->steps, every = steps < 10 ? 1 : steps / 10;
    const bool terminal = isatty(STDERR_FILENO);
    if (!terminal && done % every != 0 && done != steps) return;
    mo_track_stats now;
    mo_arena_stats arena;
    char budget[32] = "";
    mo_track_get_stats(&x->track, &now);
    mo_arena_get_stats(&x->arena, &arena);
    const double elapsed = now_s() - x->started_s;
    const double tokens = (double)(x->t->o->batch * x->t->o->accum * x->t->config.seq);
    if (x->budget) snprintf(budget, sizeof budget, " of %.1f", (double)x->budget / 0x1p20);
    fprintf(stderr,
        "%sstep %zu/%zu | loss %.6f | %.0f tokens/s | memory %.1f, peak %.1f%s MiB | %.0f s left%s",
        terminal ? "\r\033[K" : "", done, steps, loss, tokens * (double)done / elapsed,
        (double)now.total.current_bytes / 0x1p20, (double)arena.peak_bytes / 0x1p20, budget,
        elapsed / (double)done * (double)(steps - done), terminal && done != steps ? "" : "\n");
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

static void fill_result(const session *x, result *r, const double *losses) {
    const size_t steps = x->t->o->steps, first = steps > 1 ? 1 : 0; // the first warms up
    const mo_plan_info info = mo_plan_describe(x->plan);
    uint64_t planned[MO_CATEGORY_COUNT];
    mo_arena_stats arena;
    mo_track_stats track;
    struct rusage usage;
    memset(r, 0, sizeof *r);
    mo_arena_get_stats(&x->arena, &arena);
    mo_track_get_stats(&x->track, &track);
    for (int i = 0; i < MO_CATEGORY_COUNT; i++) planned[i] = info.bytes[i];
    split_peak(planned, info.peak_bytes, r->planned);
    split_peak(track.at_peak_bytes, arena.peak_bytes, r->measured);
    r->budget_bytes = x->budget;
    r->plan_bytes = info.peak_bytes;
    r->store_bytes = info.store_bytes;
    r->predicted_ms = 1e3 * x->predicted_s;
    r->peak_bytes = arena.peak_bytes;
    if (getrusage(RUSAGE_SELF, &usage) == 0) r->rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
    qsort(x->step_s + first, steps - first, sizeof *x->step_s, compare_doubles);
    r->ms_per_step = 1e3 * x->step_s[first + (steps - first) / 2];
    r->tokens_per_s =
        1e3 * (double)(x->t->o->batch * x->t->o->accum * x->t->config.seq) / r->ms_per_step;
    r->first_loss = losses[0];
    r->last_loss = losses[steps - 1];
    strategy_format(x->s, r->strategy, sizeof r->strategy);
}

static void finish(session *x, const result *r) {
    const options *o = x->t->o;
    if (o->save) checkpoint_save(x->t, o->save);
    if (o->report) report_files(o->report, &x->track, x->plan);
    if (o->sample != 0) { // activations are dead now: their memory holds the sampler's cache
        const size_t begin = mo_plan_describe(x->plan).fixed_bytes, size = r->plan_bytes - begin;
        void *memory = mo_arena_at(&x->arena, begin, size);
        FILE *out = o->json ? stderr : stdout;
        fprintf(out, "--- sample of %zu tokens\n", o->sample);
        if (memory) gpt_sample(&x->t->config, &x->t->params, o->sample, o->seed, memory, size, out);
        fputs("---\n", out);
        fflush(out);
    }
}

void trainer_run(trainer *t, const strategy *s, result *r, double *losses) {
    session x;
    session_open(&x, t, s);
    for (size_t i = 0; i < t->o->steps; i++) {
        const double start = now_s();
        losses[i] = train_step(&x);
        x.step_s[i] = now_s() - start;
        show_progress(&x, i + 1, losses[i]);
    }
    fill_result(&x, r, losses);
    finish(&x, r);
    session_close(&x);
}
