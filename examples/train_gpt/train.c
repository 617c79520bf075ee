// train.c - the training loop.
#include "app.h"

#include <dlfcn.h>
#include <math.h>
#include <signal.h>
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

// Where whole batches of what --valid holds out begin, whatever micro-batches they are split into;
// and how many of the strategy's size there are.
static uint64_t valid_begin(const trainer *t) {
    const uint64_t batch = (uint64_t)t->o->batch * t->config.seq;
    return (t->corpus.training.n + batch - 1) / batch * batch;
}

static size_t valid_batches(const trainer *t, const strategy *s) {
    const uint64_t batch = (uint64_t)t->o->batch * t->config.seq, n = t->corpus.tokens.n;
    const uint64_t end = n ? (n - 1) / batch * batch : 0;
    return end > valid_begin(t) ? (size_t)((end - valid_begin(t)) / trainer_rows(t, s)) : 0;
}

static void check_config(const trainer *t) {
    const gpt_config *c = &t->config;
    const double need = (double)t->o->batch * (double)t->o->accum * (double)c->seq + 1;
    if (c->layers % c->share != 0)
        fail(EXIT_USAGE, "--strategy: share=%zu does not divide --layers %zu", c->share, c->layers);
    if (c->channels % c->heads != 0)
        fail(EXIT_BAD, "--heads: %zu does not divide the %zu channels", c->heads, c->channels);
    if (c->heads % c->kv_heads != 0)
        fail(EXIT_BAD, "--kv-heads: %zu does not divide the %zu heads", c->kv_heads, c->heads);
    if (!c->arch->llama && c->kv_heads != c->heads)
        fail(EXIT_USAGE, "--kv-heads: needs --arch llama");
    if (c->arch->llama && c->channels / c->heads % 2 != 0)
        fail(EXIT_BAD,
            "--heads: %zu of %zu channels have an odd size, which --arch llama cannot turn",
            c->heads, c->channels);
    if ((double)t->corpus.training.n < need) // a product of sizes may not fit a size_t
        fail(EXIT_BAD, "%s: %llu tokens%s are fewer than one update reads: %.0f", t->corpus.name,
            (unsigned long long)t->corpus.training.n, t->o->valid > 0 ? " beside --valid" : "",
            need);
    if (t->corpus.vocab > c->vocab)
        fail(EXIT_BAD, "%s: token %u is outside the vocabulary of %zu", t->corpus.name,
            t->corpus.vocab - 1, c->vocab);
    if (t->o->batch % t->o->strategy.accum != 0)
        fail(EXIT_USAGE, "--strategy: accum=%zu does not divide --batch %zu", t->o->strategy.accum,
            t->o->batch);
    release_check(t, &t->o->strategy);
    if (t->o->valid > 0 && valid_batches(t, &t->o->strategy) == 0)
        fail(EXIT_BAD, "%s: --valid holds out %llu tokens, fewer than one batch reads",
            t->corpus.name, (unsigned long long)(t->corpus.tokens.n - t->corpus.training.n));
}

void trainer_open(trainer *t, const options *o) {
    const char *from = o->init;
    memset(t, 0, sizeof *t);
    t->own = *o;
    o = t->o = &t->own;
    t->config = (gpt_config){.arch = o->arch ? gpt_arch_find(o->arch) : gpt_arch_at(0),
        .layers = o->layers,
        .share = o->strategy.share ? o->strategy.share : 1,
        .channels = o->channels,
        .heads = o->heads,
        .kv_heads = o->kv_heads ? o->kv_heads : o->heads,
        .positions = o->seq,
        .seq = o->seq,
        .vocab = 256};
    t->parallel.n_threads = (int)o->threads;
    t->optim.parallel = &t->parallel;
    t->device = device_open(o->device, &t->backend);
    t->shuffle = o->shuffle;
    corpus_open(&t->corpus, o);
    if (o->resume) checkpoint_find(t);
    if (o->resume && !from) from = t->resume; // with lora the weights are in --init
    if (from) checkpoint_read_config(t, from, from == t->resume);
    else {
        t->config.vocab = t->corpus.vocab;
        const mo_model_arch arch = t->config.arch->llama ? MO_MODEL_LLAMA : MO_MODEL_GPT2;
        t->config.hidden = mo_model_default_hidden(arch, o->channels);
    }
    if (o->resume && from != t->resume) checkpoint_read_settings(t, t->resume);
    t->config.rope_theta = o->rope_theta;
    teacher_open(t);
    check_config(t);
    t->optim.lr = o->lr;
    t->optim.weight_decay = o->weight_decay;
    if (o->save) checkpoint_can_save(o->save);
    if (o->report) report_begin(o->report);
    if (o->blas) open_blas(t, o->blas);
    mo_params_init(&t->params, NULL);
    lora_add_params(t);
    freeze_params(t);
    if (from) checkpoint_check_params(t, from);
    t->state_at = allocate(t->params.n * sizeof *t->state_at);
}

void trainer_close(trainer *t) {
    teacher_close(t);
    device_close(t->device);
    free(t->state_at);
    free(t->weights);
    free(t->freeze);
    mo_params_free(&t->params);
    corpus_close(&t->corpus);
}

// ---- running ----------------------------------------------------------------------------------

static char *place_address(const session *x, const fixed_layout *f, int kind, size_t i) {
    const tensor_place *place = &f->places[kind][i];
    if (place->size == 0) return NULL;
    return (char *)mo_plan_fixed_address(x->plan, place->block) + place->off;
}

static void bind_pages(session *x, const fixed_layout *f) {
    void **slots = allocate(f->n_slots * sizeof *slots);
    for (size_t i = 0; i < f->n_slots; i++) slots[i] = place_address(x, f, TENSOR_STATE, i);
    memset(x->t->state_at, 0, x->t->params.n * sizeof *x->t->state_at);
    pages_open(x->t, x->s, slots, f->n_slots);
    free(slots);
}

static void bind_params(session *x, const fixed_layout *f) {
    trainer *t = x->t;
    if (f->n_slots) bind_pages(x, f);
    for (size_t i = 0; i < t->params.n; i++) {
        mo_param *p = &t->params.items[i];
        if (!f->n_slots) t->state_at[i] = place_address(x, f, TENSOR_STATE, i);
        char *data = place_address(x, f, TENSOR_PARAM, i);
        p->is_bf16 = trainer_is_bf16(t, x->s, i);
        p->data = p->is_bf16 ? NULL : (float *)data;
        p->bf16 = p->is_bf16 ? (uint16_t *)data : NULL;
        p->grad = (float *)place_address(x, f, TENSOR_GRAD, i);
        if (trainer_trains(t, x->s, i) && !f->n_slots) t->backend->state_begin(t, i);
    }
    for (size_t i = 0; i < t->params.n; i++) {
        mo_param *p = &t->params.items[i];
        p->is_bf16 = t->params.items[p->tied_to].is_bf16;
        p->data = t->params.items[p->tied_to].data;
        p->bf16 = t->params.items[p->tied_to].bf16;
        p->grad = t->params.items[p->tied_to].grad;
    }
    if (x->s->lora) lora_bind(t);
}

float *rope_begin(const trainer *t, void *memory) {
    const gpt_config *c = &t->config;
    const size_t size = mo_rope_table_size(c->channels / c->heads, c->seq);
    float *host = t->backend->host_begin(t, memory, size, false);
    check(mo_rope_table(c->channels / c->heads, c->seq, c->rope_theta, host), "mo_rope_table");
    t->backend->host_end(t, memory, host, size, true);
    return memory;
}

// NULL where there is none.
static float *bind_rope(const session *x, const fixed_layout *f) {
    return f->rope ? rope_begin(x->t, mo_plan_fixed_address(x->plan, f->rope)) : NULL;
}

static void bind_teacher(session *x, const fixed_layout *f) {
    mo_params *params = &x->t->teacher->like.params;
    for (size_t i = 0; i < params->n; i++)
        params->items[i].data = (float *)place_address(x, f, TENSOR_TEACHER, i);
    for (size_t i = 0; i < params->n; i++)
        params->items[i].data = params->items[params->items[i].tied_to].data;
    teacher_bind(x, mo_plan_fixed_address(x->plan, f->teacher));
}

static void bind_run(session *x, const fixed_layout *f, size_t n_blocks, bool halves) {
    trainer *t = x->t;
    void *workspace = mo_plan_fixed_address(x->plan, f->workspace);
    const size_t size = f->blocks[f->workspace].size;
    x->inputs = mo_plan_fixed_address(x->plan, f->tokens);
    x->targets = x->inputs + trainer_rows(t, x->s);
    x->run = (gpt_run){.kernels = t->backend->kernels,
        .device = t->device,
        .config = &t->config,
        .params = &t->params,
        .weights = x->s->lora ? t->weights : NULL,
        .rank = x->s->lora,
        .n_base = t->n_base,
        .lora_size = lora_workspace_size(t, x->s),
        .batch = trainer_rows(t, x->s) / t->config.seq,
        .act = x->s->act,
        .n_blocks = n_blocks,
        .halves = halves,
        .inputs = x->inputs,
        .targets = x->targets,
        .rope_table = bind_rope(x, f),
        .losses = (float *)(x->targets + trainer_rows(t, x->s)),
        .loss_rows = x->s->loss_rows,
        .loss_scale = 1.0f / (float)(t->o->batch * t->o->accum * t->config.seq),
        .env = {&t->parallel, t->cblas, workspace, size},
        .workspace = workspace,
        .workspace_size = size};
}

void session_bind(session *x, size_t n_blocks, bool halves) {
    trainer *t = x->t;
    const mo_plan_info info = mo_plan_describe(x->plan);
    fixed_layout fixed;
    trainer_fixed_open(t, x->s, &fixed);
    const mo_track_desc track = {
        .max_blocks = info.n_tensors + N_TENSOR_KINDS * t->params.n + fixed.n_blocks + 4,
        .max_events = 6 * (info.n_tensors + info.n_steps) + 64, // the last three passes
        .budget_bytes = x->budget,
        .now_ns = now_ns,
        .log = &app_log};
    x->arena = t->backend->take(t, info.peak_bytes, x->budget);
    check(mo_track_init(&x->track, &track), "mo_track_init");
    check(mo_plan_bind(x->plan, x->arena, &x->track), "memory for the plan");
    x->transfers = info.store_bytes != 0;
    if (x->transfers) t->backend->transfer_open(t, info.store_bytes, 2 * n_blocks + 2);
    t->optim.precision = x->s->optim;
    bind_params(x, &fixed);
    bind_run(x, &fixed, n_blocks, halves);
    if (t->teacher) bind_teacher(x, &fixed);
    release_open(x);
    mo_training_fixed_free(&fixed);
}

void session_free(session *x) {
    pages_close(x->t);
    release_close(x);
    if (x->transfers) x->t->backend->transfer_close(x->t);
    mo_track_free(&x->track);
    mo_plan_destroy(x->plan);
    x->t->backend->give_back(x->t);
}

static void say_plan(const session *x) {
    const size_t n = mo_params_count(&x->t->params, MO_PARAMS_ALL);
    const size_t n_trained = trainer_n_trained(x->t, x->s);
    char text[192], plan[32], budget[32], time[48] = "", trained[48] = "";
    mo_strategy_format(x->s, text, sizeof text);
    format_mib(mo_plan_describe(x->plan).peak_bytes, plan, sizeof plan);
    format_mib(x->budget, budget, sizeof budget);
    if (x->predicted_s > 0)
        snprintf(time, sizeof time, " | about %.0f ms a step", 1e3 * x->predicted_s);
    if (x->t->device)
        fprintf(stderr, "%s: %s | ", device_name(x->t->device), device_model(x->t->device));
    if (n_trained != n) snprintf(trained, sizeof trained, " (%zu trained)", n_trained);
    fprintf(stderr, "%zu parameters%s, %llu tokens | %s | plan %s%s%s%s\n", n, trained,
        (unsigned long long)x->t->corpus.tokens.n, text, plan, x->budget ? " of budget " : "",
        x->budget ? budget : "", time);
}

static void init_params(trainer *t) {
    uint64_t seed = t->o->seed;
    for (size_t i = 0; i < t->params.n; i++) {
        const mo_param *p = &t->params.items[i];
        if (p->tied_to != i || i >= t->n_base) continue;
        void *data = mo_param_data(p);
        const size_t size = mo_param_bytes(p);
        const bool stored = lora_stores(t, i);
        void *host = stored ? NULL : t->backend->host_begin(t, data, size, false);
        float *values = p->is_bf16 || stored ? allocate(p->n * sizeof *values) : host;
        gpt_init_param(&t->config, p, values, &seed);
        if (stored) lora_store(t, i, values);
        if (p->is_bf16) mo_f32_to_bf16(values, host, p->n, &t->parallel);
        if (values != host) free(values);
        if (!stored) t->backend->host_end(t, data, host, size, true);
    }
    lora_init(t);
}

// A plan without a budget may be more than a device has.
static void check_room(const session *x) {
    const uint64_t most = x->t->backend->most(x->t);
    char plan[32], room[32];
    if (most == 0 || mo_plan_describe(x->plan).peak_bytes <= most) return;
    format_mib(mo_plan_describe(x->plan).peak_bytes, plan, sizeof plan);
    format_mib(most, room, sizeof room);
    fail(EXIT_BAD, "--device %s: the plan takes %s, and it has %s to give: see --budget",
        device_name(x->t->device), plan, room);
}

// An update takes a group of batches; where it begins in the text comes from the file to resume.
static void open_loader(session *x) {
    const trainer *t = x->t;
    const mo_loader_desc desc = {.tokens = &t->corpus.training,
        .batch = trainer_rows(t, x->s) / t->config.seq,
        .seq = t->config.seq,
        .group = x->s->accum * t->o->accum,
        .vocab = (uint32_t)t->config.vocab,
        .log = app_log};
    const mo_loader_state at = {t->epoch, t->position, t->o->seed, t->shuffle};
    check(mo_loader_init(&x->loader, &desc), "batches of the text");
    mo_loader_set_state(&x->loader, &at);
}

static void session_open(session *x, trainer *t, const strategy *s) {
    double seconds;
    memset(x, 0, sizeof *x);
    x->t = t;
    x->s = s;
    x->budget = trainer_budget(t);
    if (x->budget != 0 || s->checkpoint == MO_STRATEGY_OPTIMAL) measure_costs(t, s, x->budget);
    else if (t->o->compare) measure_costs(t, s, compare_limit(t, s));
    x->plan = trainer_plan(t, s, x->budget, &seconds);
    if (x->budget != 0 && mo_plan_describe(x->plan).peak_bytes > x->budget) {
        mo_plan_destroy(x->plan); // what a link can do depends on the costs: back to what fitted
        t->costs.rows = 0;
        x->plan = trainer_plan(t, s, x->budget, &seconds);
    }
    if (t->costs.rows != 0) x->predicted_s = trainer_update_s(t, s, seconds);
    x->step_s = allocate(t->o->steps * sizeof *x->step_s);
    say_plan(x);
    check_room(x);
    session_bind(x, t->config.layers, s->checkpoint == MO_STRATEGY_OPTIMAL);
    teacher_load(t);
    if (t->o->init) checkpoint_load(t, t->o->init, false);
    if (t->o->resume) checkpoint_load(t, t->resume, true);
    if (!t->o->init && !t->o->resume) init_params(t);
    if (t->pages) t->backend->pages_figures(t, &x->paged);
    if (t->o->steps != 0) open_loader(x);
    x->started_s = now_s();
}

static void session_close(session *x) {
    mo_loader_free(&x->loader);
    session_free(x);
    free(x->step_s);
}

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

static void read_tokens(session *x, mo_loader *loader, size_t rows) {
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
        read_tokens(x, &x->loader, rows);
        teacher_forward(x);
        loss = release_update(x, run_plan);
    } else {
        session_clear_gradients(x);
        for (size_t i = 0; i < n; i++) {
            read_tokens(x, &x->loader, rows);
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

// Mean loss of what --valid holds out, in batches of the strategy's size; the student's alone.
static double validate(session *x) {
    const trainer *t = x->t;
    const size_t rows = trainer_rows(t, x->s), n = valid_batches(t, x->s);
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
        read_tokens(x, &loader, rows);
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

// One line that is written over on a terminal, else a line now and then.
static void show_progress(const session *x, size_t done, double loss) {
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

static void fill_result(session *x, result *r, const double *losses) {
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

// On the CPU activations are dead now: their memory holds the sampler's cache. From a device the
// parameters are copied, and the cache is of the size that it would have there.
static void sample(session *x) {
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
    if (o->sample != 0) sample(x);
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
        show_progress(&x, x.done, losses[x.done - 1]);
        if (t->o->save_every && t->step % t->o->save_every == 0) save(&x);
    }
    fill_result(&x, r, losses);
    finish(&x);
    session_close(&x);
}
