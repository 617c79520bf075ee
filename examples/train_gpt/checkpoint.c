// checkpoint.c - weights, optimizer states and position in one safetensors file.
#include "app.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// The run as the library sees it. Addresses are in the plan, which may be on a device.
enum { MAX_VALUES = 24 };
typedef struct whole_run {
    mo_checkpoint run;
    mo_checkpoint_desc desc;
    mo_checkpoint_value values[MAX_VALUES]; // the position comes first
    size_t n_values;
    mo_params params; // those that are saved: with lora the adapters alone
    mo_optim_state *states;
    char texts[MAX_VALUES][32];
} whole_run;

static mo_status begin_access(void *self, void *address, size_t size, int read, void **host) {
    const trainer *t = self;
    *host = t->backend->host_begin(t, address, size, read != 0);
    return MO_OK;
}

static mo_status end_access(void *self, void *address, void *host, size_t size, int write) {
    const trainer *t = self;
    t->backend->host_end(t, address, host, size, write != 0);
    return MO_OK;
}

static void put_number(whole_run *w, const char *key, uint64_t number) {
    w->values[w->n_values++] = (mo_checkpoint_value){.key = key, .number = number};
}

static void put_text(whole_run *w, const char *key, const char *text) {
    char *own = w->texts[w->n_values];
    snprintf(own, sizeof *w->texts, "%s", text);
    w->values[w->n_values++] =
        (mo_checkpoint_value){.key = key, .text = own, .text_size = sizeof *w->texts};
}

static void put_real(whole_run *w, const char *key, double x) {
    char text[32];
    snprintf(text, sizeof text, "%.17g", x);
    put_text(w, key, text);
}

static void put_values(whole_run *w, const trainer *t) {
    put_number(w, "position", t->position);
    put_number(w, "epoch", t->epoch);
    put_number(w, "shuffle", t->shuffle);
    put_number(w, "heads", t->config.heads);
    put_number(w, "seq", t->config.seq);
    put_number(w, "batch", t->o->batch);
    put_number(w, "accum", t->o->accum);
    put_number(w, "seed", t->o->seed);
    put_text(w, "optim", mo_strategy_optim_name(t->optim.precision));
    put_real(w, "lr", t->o->lr);
    put_real(w, "weight_decay", t->o->weight_decay);
    put_real(w, "clip", t->o->clip);
    put_real(w, "norm", t->norm);
    put_number(w, "share", t->config.share);
    put_text(w, "arch", t->config.arch->name);
    if (t->o->strategy.lora) put_text(w, "base", mo_strategy_base_name(t->o->strategy.base));
    if (t->config.arch->llama) put_real(w, "rope_theta", t->config.rope_theta);
    if (t->o->freeze) // is only saved: no load writes it
        w->values[w->n_values++] = (mo_checkpoint_value){.key = "freeze",
            .text = (char *)(uintptr_t)t->o->freeze,
            .text_size = strlen(t->o->freeze) + 1};
}

// What is saved, as a list of its own.
static void list_saved(whole_run *w, const trainer *t) {
    const size_t begin = t->o->strategy.lora ? t->n_base : 0;
    w->params.n = t->params.n - begin;
    w->params.items = allocate(w->params.n * sizeof *w->params.items);
    for (size_t i = 0; i < w->params.n; i++) {
        w->params.items[i] = t->params.items[begin + i];
        w->params.items[i].tied_to -= begin;
    }
}

static void whole_open(whole_run *w, const trainer *t) {
    mo_checkpoint_state *states = allocate(t->params.n * sizeof *states);
    size_t n = 0;
    memset(w, 0, sizeof *w);
    list_saved(w, t);
    w->states = allocate(t->params.n * sizeof *w->states);
    for (size_t i = 0; i < t->params.n; i++) {
        const mo_param *p = &t->params.items[i];
        if (!trainer_trains(t, &t->o->strategy, i)) continue;
        check(mo_optim_state_attach(&t->optim, p->n, t->state_at[i],
                  mo_optim_state_size(&t->optim, p->n), &w->states[n]),
            p->name);
        states[n] = (mo_checkpoint_state){.name = p->name, .desc = &t->optim};
        states[n].state = &w->states[n];
        n++;
    }
    put_values(w, t);
    w->run = (mo_checkpoint){.step = t->step,
        .params = &w->params,
        .states = states,
        .n_states = n,
        .values = w->values,
        .n_values = w->n_values};
    w->desc.log = app_log;
    w->desc.keep = t->o->keep;
    w->desc.trusted = t->verified;
    if (t->device || t->pages)
        w->desc.access = (mo_checkpoint_access){begin_access, end_access, (void *)(uintptr_t)t};
}

static void whole_close(whole_run *w) {
    free((void *)(uintptr_t)w->run.states);
    free(w->states);
    free(w->params.items);
}

void checkpoint_find(trainer *t) {
    const mo_checkpoint_desc desc = {.log = app_log};
    struct stat info;
    if (stat(t->o->resume, &info) == 0 && !S_ISDIR(info.st_mode)) {
        if (strlen(t->o->resume) >= sizeof t->resume)
            fail(EXIT_BAD, "--resume: the file name is too long");
        strcpy(t->resume, t->o->resume); // this file and no other, even where there are newer ones
        return;
    }
    if (mo_checkpoint_latest(t->o->resume, &desc, t->resume, sizeof t->resume) != MO_OK)
        exit(EXIT_BAD); // app_log has said why
    t->verified = true;
    fprintf(stderr, "resumed from %s\n", t->resume);
}

// The settings are read: what is still missing is the position.
void checkpoint_load(trainer *t, const char *path, bool resume) {
    whole_run w;
    if (!resume) {
        checkpoint_load_weights(t, path);
        return;
    }
    whole_open(&w, t);
    w.run.n_values = 1;
    if (mo_checkpoint_load(path, &w.run, &w.desc) != MO_OK) exit(EXIT_BAD);
    t->position = w.values[0].number;
    whole_close(&w);
}

void checkpoint_save(const trainer *t, const char *path) {
    whole_run w;
    whole_open(&w, t);
    if (mo_checkpoint_save(path, &w.run, &w.desc) != MO_OK) exit(EXIT_BAD);
    whole_close(&w);
}

static mo_status write_half(const trainer *t, mo_safetensors_writer *w, const mo_param *p) {
    const size_t size = mo_param_bytes(p);
    void *host = t->backend->host_begin(t, mo_param_data(p), size, true);
    float *values = p->is_bf16 ? allocate(p->n * sizeof *values) : host;
    if (p->is_bf16) mo_bf16_to_f32(host, values, p->n, &t->parallel);
    const mo_status status = mo_safetensors_write_f32(w, MO_DTYPE_F16, values, p->n);
    if (p->is_bf16) free(values);
    t->backend->host_end(t, mo_param_data(p), host, size, false);
    return status;
}

// With lora the adapters alone.
static bool is_saved(const trainer *t, size_t i) {
    return t->params.items[i].tied_to == i && (t->o->strategy.lora == 0 || i >= t->n_base);
}

void checkpoint_save_half(const trainer *t, const char *path) {
    static const mo_safetensors_pair format = {"format", "pt"};
    const mo_safetensors_writer_desc desc = {.log = app_log, .metadata = &format, .n_metadata = 1};
    mo_safetensors_entry *entries = allocate(t->params.n * sizeof *entries);
    uint64_t(*shapes)[2] = allocate(t->params.n * sizeof *shapes);
    mo_safetensors_writer w = {0};
    size_t n = 0;
    for (size_t i = 0; i < t->params.n; i++) {
        const mo_param *p = &t->params.items[i];
        if (!is_saved(t, i)) continue;
        shapes[n][0] = p->shape[0], shapes[n][1] = p->shape[1];
        entries[n] = (mo_safetensors_entry){p->name, MO_DTYPE_F16, p->n_dims, shapes[n], 0, 0};
        n++;
    }
    mo_status status = mo_safetensors_create(&w, path, entries, n, &desc);
    for (size_t i = 0; i < t->params.n && status == MO_OK; i++)
        if (is_saved(t, i)) status = write_half(t, &w, &t->params.items[i]);
    if (status == MO_OK) status = mo_safetensors_commit(&w);
    mo_safetensors_discard(&w);
    free(entries), free(shapes);
    if (status != MO_OK) exit(EXIT_BAD); // app_log has said why
}

// Finds out before the training that --save cannot work, not after it.
void checkpoint_can_save(const char *path) {
    const char *slash = strrchr(path, '/');
    char *dir = allocate(strlen(path) + 2);
    struct stat info;
    memcpy(dir, slash ? path : ".", slash ? (size_t)(slash - path) + 1 : 1);
    if (!*path) fail(EXIT_BAD, "--save: the file name is empty");
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        fail(EXIT_BAD, "--save: %s: not a regular file", path);
    if (access(dir, W_OK | X_OK) != 0) fail(EXIT_BAD, "--save: %s: %s", path, strerror(errno));
    free(dir);
}
