// checkpoint.c - weights, optimizer states and position in one safetensors file.
#include "app.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- reading ----------------------------------------------------------------------------------

static void open_file(mo_safetensors *st, const char *path) {
    mo_safetensors_desc desc = {.log = app_log};
    memset(st, 0, sizeof *st);
    if (mo_safetensors_open(st, path, &desc) != MO_OK) exit(EXIT_BAD); // app_log has said why
}

// Files saved from GPT2LMHeadModel carry a prefix.
static const mo_safetensors_entry *find(const mo_safetensors *st, const char *name) {
    char longer[160];
    const mo_safetensors_entry *e = mo_safetensors_find(st, name);
    snprintf(longer, sizeof longer, "transformer.%s", name);
    return e ? e : mo_safetensors_find(st, longer);
}

static void format_shape(const uint64_t *shape, size_t n, char *text, size_t size) {
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; i < n && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%" PRIu64, i ? ", " : "", shape[i]);
}

static const mo_safetensors_entry *need(const mo_safetensors *st, const char *path,
    const char *name, mo_dtype dtype, const uint64_t *shape, size_t n_dims) {
    char is[100], want[100];
    const mo_safetensors_entry *e = find(st, name);
    if (!e) fail(EXIT_BAD, "%s: tensor '%s' is missing", path, name);
    if (e->dtype != dtype)
        fail(EXIT_BAD, "%s: tensor '%s' has dtype %s, not %s", path, name, mo_dtype_name(e->dtype),
            mo_dtype_name(dtype));
    if (e->n_dims != n_dims || memcmp(e->shape, shape, n_dims * sizeof *shape) != 0) {
        format_shape(e->shape, e->n_dims, is, sizeof is);
        format_shape(shape, n_dims, want, sizeof want);
        fail(EXIT_BAD, "%s: tensor '%s' has shape [%s], not [%s]", path, name, is, want);
    }
    return e;
}

static uint64_t dim(const mo_safetensors *st, const char *path, const char *name, size_t axis) {
    const mo_safetensors_entry *e = find(st, name);
    if (!e) fail(EXIT_BAD, "%s: tensor '%s' is missing", path, name);
    if (e->n_dims != 2 || e->shape[axis] == 0 || e->shape[axis] > 1u << 30)
        fail(EXIT_BAD, "%s: tensor '%s' is not a matrix of a usable size", path, name);
    return e->shape[axis];
}

static size_t count_layers(const mo_safetensors *st) {
    char name[64];
    for (size_t layer = 0;; layer++) {
        snprintf(name, sizeof name, "h.%zu.ln_1.weight", layer);
        if (!find(st, name)) return layer;
    }
}

static uint64_t number(
    const mo_safetensors *st, const char *path, const char *key, uint64_t least) {
    const char *text = mo_safetensors_metadata(st, key);
    char *end = NULL;
    uint64_t x = text ? strtoull(text, &end, 10) : 0;
    if (!text) fail(EXIT_BAD, "%s: not saved by train_gpt: metadata '%s' is missing", path, key);
    if (end == text || *end || *text == '-' || x < least || x > INT64_MAX)
        fail(EXIT_BAD, "%s: metadata '%s' is '%s', not a number that fits", path, key, text);
    return x;
}

// A size from the file; a flag that says otherwise is an error, not a silent choice.
static void take(
    const trainer *t, const char *path, const char *flag, size_t given, uint64_t is, size_t *out) {
    if (options_given(t->o, flag) && given != is)
        fail(EXIT_BAD, "%s: %s is %" PRIu64 " there, not %zu", path, flag, is, given);
    *out = (size_t)is;
}

static void read_resume(trainer *t, const mo_safetensors *st, const char *path) {
    const char *optim = mo_safetensors_metadata(st, "memopt.optim");
    t->step = number(st, path, "memopt.step", 0);
    t->position = (size_t)number(st, path, "memopt.position", 0);
    take(t, path, "--heads", t->o->heads, number(st, path, "memopt.heads", 1), &t->config.heads);
    const size_t seq = (size_t)number(st, path, "memopt.seq", 1);
    if (!options_given(t->o, "--seq")) t->config.seq = seq;
    t->optim.precision = optim ? precision_find(optim, strlen(optim)) : MO_OPTIM_PRECISION_COUNT;
    if (t->optim.precision == MO_OPTIM_PRECISION_COUNT)
        fail(EXIT_BAD, "%s: metadata 'memopt.optim' is '%s', not a precision", path,
            optim ? optim : "missing");
}

void checkpoint_read_config(trainer *t, const char *path, bool resume) {
    mo_safetensors st;
    gpt_config *c = &t->config;
    open_file(&st, path);
    take(t, path, "--layers", t->o->layers, count_layers(&st), &c->layers);
    take(t, path, "--channels", t->o->channels, dim(&st, path, "wte.weight", 1), &c->channels);
    c->vocab = (size_t)dim(&st, path, "wte.weight", 0);
    c->positions = (size_t)dim(&st, path, "wpe.weight", 0);
    if (c->layers == 0) fail(EXIT_BAD, "%s: tensor 'h.0.ln_1.weight' is missing", path);
    if (!options_given(t->o, "--seq")) c->seq = c->seq < c->positions ? c->seq : c->positions;
    if (resume) read_resume(t, &st, path);
    if (c->seq > c->positions)
        fail(EXIT_BAD, "%s: --seq is %zu, but 'wpe.weight' has %zu positions", path, c->seq,
            c->positions);
    mo_safetensors_close(&st);
}

static void load_param(const trainer *t, mo_safetensors *st, const char *path, const mo_param *p) {
    const uint64_t shape[2] = {p->shape[0], p->shape[1]};
    const mo_safetensors_entry *e = need(st, path, p->name, MO_DTYPE_F32, shape, p->n_dims);
    const size_t size = (size_t)(e->end - e->begin);
    void *host = t->backend->host_begin(t, p->data, size, false);
    if (mo_safetensors_read(st, e, 0, host, size) != MO_OK) exit(EXIT_BAD);
    t->backend->host_end(t, p->data, host, size, true);
}

void checkpoint_check_params(const trainer *t, const char *path) {
    mo_safetensors st;
    open_file(&st, path);
    for (size_t i = 0; i < t->params.n; i++) {
        const mo_param *p = &t->params.items[i];
        const uint64_t shape[2] = {p->shape[0], p->shape[1]};
        if (p->tied_to == i) need(&st, path, p->name, MO_DTYPE_F32, shape, p->n_dims);
    }
    mo_safetensors_close(&st);
}

// States come back bit for bit, or moved to the precision that this run has.
static void load_states(trainer *t, const mo_safetensors *st, const char *path, size_t i) {
    const mo_param *p = &t->params.items[i];
    const size_t size = mo_optim_state_size(&t->optim, p->n);
    size_t n = 0;
    uint64_t step = 0;
    mo_optim_state state;
    void *host = t->backend->host_begin(t, t->state_at[i], size, false);
    check(mo_optim_state_init(&t->optim, p->n, host, size, &state), p->name);
    if (mo_optim_load(st, &t->optim, p->name, p->n, &state, &n, &step) != MO_OK)
        exit(EXIT_BAD); // app_log has said why
    t->backend->host_end(t, t->state_at[i], host, size, true);
    if (n != p->n || step != t->step)
        fail(EXIT_BAD,
            "%s: optimizer states of '%s' are %zu numbers at step %" PRIu64
            ", not %zu at step %" PRIu64,
            path, p->name, n, step, p->n, t->step);
}

void checkpoint_load(trainer *t, const char *path, bool resume) {
    mo_safetensors st;
    open_file(&st, path);
    for (size_t i = 0; i < t->params.n; i++) {
        const mo_param *p = &t->params.items[i];
        if (p->tied_to != i) continue;
        load_param(t, &st, path, p);
        if (resume) load_states(t, &st, path, i);
    }
    mo_safetensors_close(&st);
}

// ---- writing ----------------------------------------------------------------------------------

typedef struct writing {
    const trainer *t;
    mo_safetensors_entry *entries;
    void **data; // addresses in the plan
    size_t n;
    mo_safetensors_pair *pairs;
    size_t n_pairs;
} writing;

static char *copy_text(const char *text) { return strcpy(allocate(strlen(text) + 1), text); }

static void put(
    writing *w, const char *name, mo_dtype dtype, const size_t *dims, size_t n_dims, void *data) {
    uint64_t *shape = allocate(n_dims * sizeof *shape);
    for (size_t i = 0; i < n_dims; i++) shape[i] = dims[i];
    w->entries[w->n] = (mo_safetensors_entry){copy_text(name), dtype, n_dims, shape, 0, 0};
    w->data[w->n++] = data;
}

static void put_pair(writing *w, const char *key, const char *value) {
    w->pairs[w->n_pairs++] = (mo_safetensors_pair){copy_text(key), copy_text(value)};
}

static void put_number(writing *w, const char *key, uint64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    put_pair(w, key, text);
}

static mo_optim_state state_of(const trainer *t, size_t i) {
    const size_t n = t->params.items[i].n, size = mo_optim_state_size(&t->optim, n);
    mo_optim_state state;
    check(
        mo_optim_state_attach(&t->optim, n, t->state_at[i], size, &state), t->params.items[i].name);
    return state;
}

// fp32 tensors first, so that all stay aligned
static void put_all(writing *w, bool f32) {
    const trainer *t = w->t;
    for (size_t i = 0; i < t->params.n; i++) {
        const mo_param *p = &t->params.items[i];
        mo_optim_part parts[MO_OPTIM_MAX_PARTS];
        if (p->tied_to != i) continue;
        if (f32) put(w, p->name, MO_DTYPE_F32, p->shape, p->n_dims, p->data);
        const mo_optim_state state = state_of(t, i);
        const size_t n_parts = mo_optim_state_parts(&state, parts);
        for (size_t k = 0; k < n_parts; k++) {
            char name[128];
            size_t n = (size_t)parts[k].n;
            if ((parts[k].dtype == MO_DTYPE_F32) != f32) continue;
            snprintf(name, sizeof name, "optimizer.%s.%s", p->name, parts[k].suffix);
            put(w, name, parts[k].dtype, &n, 1, parts[k].data);
        }
    }
}

static void put_metadata(writing *w) {
    const trainer *t = w->t;
    put_pair(w, "format", "pt");
    put_pair(w, "memopt.version", mo_version());
    put_number(w, "memopt.step", t->step);
    put_number(w, "memopt.position", t->position);
    put_number(w, "memopt.heads", t->config.heads);
    put_number(w, "memopt.seq", t->config.seq);
    put_pair(w, "memopt.optim", precision_name(t->optim.precision));
    for (size_t i = 0; i < t->params.n; i++) {
        const mo_param *p = &t->params.items[i];
        char key[128], text[160];
        if (p->tied_to != i) continue;
        snprintf(key, sizeof key, "memopt.optimizer.%s", p->name);
        const mo_optim_state state = state_of(t, i);
        check(mo_optim_format(&t->optim, &state, p->n, t->step, text, sizeof text), key);
        put_pair(w, key, text);
    }
}

static void write_file(const char *path, const writing *w) {
    mo_safetensors_writer_desc desc = {
        .log = app_log, .metadata = w->pairs, .n_metadata = w->n_pairs};
    mo_safetensors_writer writer = {0};
    mo_status status = mo_safetensors_create(&writer, path, w->entries, w->n, &desc);
    for (size_t i = 0; i < w->n && status == MO_OK; i++) {
        size_t size = mo_dtype_bits(w->entries[i].dtype) / 8;
        for (size_t k = 0; k < w->entries[i].n_dims; k++) size *= (size_t)w->entries[i].shape[k];
        void *host = w->t->backend->host_begin(w->t, w->data[i], size, true);
        status = mo_safetensors_write(&writer, host, size);
        w->t->backend->host_end(w->t, w->data[i], host, size, false);
    }
    if (status == MO_OK) status = mo_safetensors_commit(&writer);
    mo_safetensors_discard(&writer);
    if (status != MO_OK) exit(EXIT_BAD);
}

void checkpoint_save(const trainer *t, const char *path) {
    const size_t most = t->params.n * (1 + MO_OPTIM_MAX_PARTS);
    writing w = {.t = t};
    w.entries = allocate(most * sizeof *w.entries);
    w.data = allocate(most * sizeof *w.data);
    w.pairs = allocate((t->params.n + 7) * sizeof *w.pairs);
    put_all(&w, true);
    put_all(&w, false);
    put_metadata(&w);
    write_file(path, &w);
    for (size_t i = 0; i < w.n; i++) {
        free((void *)(uintptr_t)w.entries[i].name);
        free((void *)(uintptr_t)w.entries[i].shape);
    }
    for (size_t i = 0; i < w.n_pairs; i++) {
        free((void *)(uintptr_t)w.pairs[i].key);
        free((void *)(uintptr_t)w.pairs[i].value);
    }
    free(w.entries);
    free(w.data);
    free(w.pairs);
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
