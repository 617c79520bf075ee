// train.c - plans, the search for a strategy that fits, and the training loop.
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

// ---- planning ---------------------------------------------------------------------------------

static size_t optimizer_size(const trainer *t, mo_optim_precision precision) {
    mo_optim_desc desc = t->optim;
    size_t size = 0;
    desc.precision = precision;
    for (size_t i = 0; i < t->params.n; i++)
        if (t->params.items[i].tied_to == i)
            size += mo_optim_state_size(&desc, t->params.items[i].n);
    return size;
}

static size_t micro_batch(const trainer *t, const strategy *s) { return t->o->batch / s->accum; }

// Products and attention never run at the same time, so they share one workspace.
static size_t workspace_size(const trainer *t, const strategy *s) {
    const gpt_config *c = &t->config;
    const size_t rows = micro_batch(t, s) * c->seq, wide = 4 * c->channels;
    size_t most = rows > wide ? rows : wide;
    if (c->vocab > most) most = c->vocab;
    const mo_gemm_desc largest = {.m = most, .n = most, .k = most};
    size_t gemm = t->cblas ? 0 : mo_gemm_workspace_size(&t->parallel, &largest);
    size_t attention = gpt_attention_workspace_size(c, micro_batch(t, s), &t->parallel);
    return gemm > attention ? gemm : attention;
}

mo_plan *trainer_plan(const trainer *t, const strategy *s) {
    const size_t tokens = 2 * micro_batch(t, s) * t->config.seq * sizeof(int32_t);
    const mo_plan_fixed fixed[N_FIXED] = {
        [FIXED_PARAM] = {"parameters", mo_params_size(&t->params, MO_PARAMS_ALL),
            MO_CATEGORY_PARAM},
        [FIXED_GRAD] = {"gradients", mo_params_size(&t->params, MO_PARAMS_TRAINED),
            MO_CATEGORY_GRAD},
        [FIXED_OPTIMIZER] = {"optimizer", optimizer_size(t, s->optim), MO_CATEGORY_OPTIMIZER},
        [FIXED_TOKENS] = {"tokens", tokens, MO_CATEGORY_INPUT},
        [FIXED_WORKSPACE] = {"workspace", workspace_size(t, s), MO_CATEGORY_WORKSPACE},
    };
    gpt_chain g;
    mo_plan *plan = NULL;
    gpt_chain_build(&g, &t->config, micro_batch(t, s), s->loss_rows);
    mo_plan_desc desc = {.chain = &g.chain,
        .remat = {.policy = s->checkpoint},
        .fixed = fixed,
        .n_fixed = N_FIXED,
        .log = &app_log};
    check(mo_plan_create(&plan, &desc), "mo_plan_create");
    gpt_chain_free(&g);
    return plan;
}

// Seconds of an update on a core with 100 GFLOP/s and 10 GB/s: good for comparing strategies.
static double update_cost(const trainer *t, const strategy *s, const mo_plan_info *info) {
    const double n = (double)mo_params_count(&t->params, MO_PARAMS_TRAINED);
    const double rows = (double)(micro_batch(t, s) * t->config.seq);
    const double head = (double)t->config.vocab * (double)t->config.channels;
    const double chunks = s->loss_rows == 0 ? 1 : ceil(rows / (double)s->loss_rows);
    const double micro = info->cost_s + (8 * n + 16 * head * chunks) * 1e-10;
    const double update = (double)(s->accum * t->o->accum) * micro + 2.8e-9 * n;
    // fewer bits are not free: they count as a twentieth of the time
    return update * (s->optim == MO_OPTIM_8BIT ? 1.05 : 1);
}

uint64_t trainer_budget(const trainer *t) {
    const strategy plain = {.accum = 1};
    if (t->o->budget_percent == 0) return t->o->budget;
    mo_plan *plan = trainer_plan(t, &plain);
    double bytes = (double)mo_plan_describe(plan).peak_bytes;
    mo_plan_destroy(plan);
    return (uint64_t)(bytes * t->o->budget_percent / 100);
}

typedef struct search {
    const trainer *t;
    uint64_t budget, least_bytes;
    strategy best, least;
    double best_cost; // 0 = none fits
} search;

static void try_strategy(search *f, const strategy *s) {
    mo_plan *plan = trainer_plan(f->t, s);
    const mo_plan_info info = mo_plan_describe(plan);
    const double cost = update_cost(f->t, s, &info);
    mo_plan_destroy(plan);
    if (f->least_bytes == 0 || info.peak_bytes < f->least_bytes) {
        f->least_bytes = info.peak_bytes;
        f->least = *s;
    }
    if (info.peak_bytes > f->budget || (f->best_cost != 0 && cost >= f->best_cost)) return;
    f->best_cost = cost;
    f->best = *s;
}

// Open fields take all their values, from plain to sparing; the first of equal cost wins.
static void try_losses(search *f, strategy s, unsigned open) {
    try_strategy(f, &s);
    for (size_t rows = 1024; (open & OPEN_LOSS) && rows >= 16; rows /= 2) {
        if (rows >= micro_batch(f->t, &s) * f->t->config.seq) continue;
        s.loss_rows = rows;
        try_strategy(f, &s);
    }
}

static void try_all(search *f, strategy s, unsigned open) {
    const size_t batch = f->t->o->batch, first = s.accum;
    const int optims = open & OPEN_OPTIM ? 2 : 1, policies = open & OPEN_CHECKPOINT ? 4 : 1;
    const strategy given = s;
    for (s.accum = first; s.accum <= batch; s.accum++) {
        if (batch % s.accum != 0) continue;
        for (int optim = 0; optim < optims; optim++)
            for (int policy = 0; policy < policies; policy++) {
                s.optim = open & OPEN_OPTIM ? (mo_optim_precision)optim : given.optim;
                s.checkpoint = open & OPEN_CHECKPOINT ? (mo_remat_policy)policy : given.checkpoint;
                try_losses(f, s, open);
            }
        if (!(open & OPEN_ACCUM)) break;
    }
}

strategy trainer_choose(const trainer *t, uint64_t budget) {
    char want[32], least[32], text[128];
    strategy s = t->o->strategy;
    unsigned open = t->o->open;
    if (t->o->resume && !(t->o->named & OPEN_OPTIM)) {
        s.optim = t->optim.precision; // the file's
        open &= ~(unsigned)OPEN_OPTIM;
    }
    if (budget == 0) { // nothing to fit: what costs next to nothing
        if (open & OPEN_CHECKPOINT) s.checkpoint = MO_REMAT_LIGHT;
        if (open & OPEN_LOSS) s.loss_rows = 256;
        return s;
    }
    search f = {.t = t, .budget = budget};
    try_all(&f, s, open);
    if (f.best_cost != 0) return f.best;
    format_mib(budget, want, sizeof want);
    format_mib(f.least_bytes, least, sizeof least);
    strategy_format(&f.least, text, sizeof text);
    fail(EXIT_BAD,
        "--budget %s (%llu bytes) is too small: the smallest that this model%s can run in is %s "
        "(%llu bytes), with %s",
        want, (unsigned long long)budget, open == OPEN_ALL ? "" : " and strategy", least,
        (unsigned long long)f.least_bytes, text);
}

// ---- running ----------------------------------------------------------------------------------

typedef struct session {
    trainer *t;
    const strategy *s;
    mo_plan *plan;
    mo_arena arena;
    mo_track track;
    gpt_run run;
    int32_t *inputs, *targets;
    uint64_t budget;
    double started_s, *step_s;
} session;

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

static void session_open(session *x, trainer *t, const strategy *s) {
    const char *from = t->o->resume ? t->o->resume : t->o->init;
    memset(x, 0, sizeof *x);
    x->t = t;
    x->s = s;
    x->plan = trainer_plan(t, s);
    x->budget = trainer_budget(t);
    x->step_s = allocate(t->o->steps * sizeof *x->step_s);
    const mo_plan_info info = mo_plan_describe(x->plan);
    const size_t peak = info.peak_bytes;
    const mo_arena_desc arena = {.size = peak, .log = &app_log};
    const mo_track_desc track = {.max_blocks = info.n_tensors + N_FIXED + 1,
        .max_events = 6 * info.n_tensors + 64, // the last three passes
        .budget_bytes = x->budget,
        .log = &app_log};
    if (mo_arena_init(&x->arena, &arena) != MO_OK)
        fail(EXIT_BAD, "no address space for the plan of %zu bytes", peak);
    check(mo_track_init(&x->track, &track), "mo_track_init");
    check(mo_plan_bind(x->plan, &x->arena, &x->track), "memory for the plan");
    t->optim.precision = s->optim;
    check(mo_params_bind(&t->params, mo_plan_fixed_address(x->plan, FIXED_PARAM),
              mo_plan_fixed_address(x->plan, FIXED_GRAD)),
        "mo_params_bind");
    bind_states(x);
    x->inputs = mo_plan_fixed_address(x->plan, FIXED_TOKENS);
    x->targets = x->inputs + micro_batch(t, s) * t->config.seq;
    if (from) checkpoint_load(t, from, t->o->resume != NULL);
    else gpt_init_params(&t->config, &t->params, t->o->seed);

    void *workspace = mo_plan_fixed_address(x->plan, FIXED_WORKSPACE);
    const size_t size = workspace_size(t, s), batch = micro_batch(t, s);
    x->run = (gpt_run){.config = &t->config,
        .params = &t->params,
        .batch = batch,
        .inputs = x->inputs,
        .targets = x->targets,
        .loss_rows = s->loss_rows,
        .loss_scale = 1.0f / (float)(t->o->batch * t->o->accum * t->config.seq),
        .env = {&t->parallel, t->cblas, workspace, size},
        .attention_workspace = workspace,
        .attention_workspace_size = size};
    x->started_s = now_s();
}

static void session_close(session *x) {
    mo_track_free(&x->track);
    mo_plan_destroy(x->plan);
    mo_arena_free(&x->arena);
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

static void update(session *x) {
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

typedef struct zero_job {
    char *at;
    size_t size;
    int n;
} zero_job;

static void zero_task(void *context, int i) {
    const zero_job *z = context;
    size_t begin = z->size / (size_t)z->n * (size_t)i;
    size_t end = i + 1 == z->n ? z->size : z->size / (size_t)z->n * ((size_t)i + 1);
    memset(z->at + begin, 0, end - begin);
}

static double train_step(session *x) {
    trainer *t = x->t;
    const size_t rows = micro_batch(t, x->s) * t->config.seq, n = x->s->accum * t->o->accum;
    zero_job zero = {mo_plan_fixed_address(x->plan, FIXED_GRAD),
        mo_params_size(&t->params, MO_PARAMS_TRAINED), mo_parallel_threads(&t->parallel)};
    double loss = 0;
    mo_step step;
    if (t->position + n * rows + 1 > t->corpus.n) t->position = 0;
    mo_parallel_run(&t->parallel, zero.n, zero_task, &zero);
    for (size_t i = 0; i < n; i++, t->position += rows) {
        corpus_read(&t->corpus, t->position, rows, x->inputs, x->targets);
        mo_plan_begin(x->plan);
        while (mo_plan_next(x->plan, &step)) gpt_step(&x->run, &step);
        loss += x->run.loss;
    }
    update(x);
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
