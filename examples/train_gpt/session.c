// session.c - a run in its memory: where everything lies, and first values.
#include "app.h"

#include <stdlib.h>
#include <string.h>

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

void session_open(session *x, trainer *t, const strategy *s) {
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

void session_close(session *x) {
    mo_loader_free(&x->loader);
    session_free(x);
    free(x->step_s);
}
