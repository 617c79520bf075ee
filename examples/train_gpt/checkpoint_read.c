// checkpoint_read.c - sizes, settings and weights from a safetensors file.
#include "app.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static size_t count_layers(const gpt_arch *arch, const mo_safetensors *st) {
    char name[96];
    for (size_t layer = 0;; layer++) {
        mo_model_block_name(arch, layer, arch->params[0].name, name, sizeof name);
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

// What the run was trained with, unless the command line says otherwise.
static void take_setting(
    trainer *t, const mo_safetensors *st, const char *path, const char *flag, const char *key) {
    const char *text = mo_safetensors_metadata(st, key);
    if (!text || options_given(t->o, flag)) return;
    if (!options_set(&t->own, flag, text))
        fail(EXIT_BAD, "%s: metadata '%s' is '%s', which %s does not take", path, key, text, flag);
}

// The base of rotary positions is part of the model: it cannot become another one.
static void take_theta(trainer *t, const mo_safetensors *st, const char *path) {
    const double given = t->own.rope_theta;
    const bool is_given = options_given(t->o, "--rope-theta");
    const char *text = mo_safetensors_metadata(st, "memopt.rope_theta");
    if (text && !options_set(&t->own, "--rope-theta", text))
        fail(EXIT_BAD, "%s: metadata 'memopt.rope_theta' is '%s', not a base", path, text);
    if (text && is_given && given != t->own.rope_theta)
        fail(EXIT_BAD, "%s: --rope-theta is %s there, not %.17g", path, text, given);
}

// Matrices in bf16 continue so: nothing is lost, and nothing rounded again.
static void take_precision(trainer *t, const mo_safetensors *st, const char *path) {
    const gpt_arch *arch = t->config.arch;
    char name[96];
    mo_model_block_name(arch, 0, arch->params[arch->parts[PROJECT].first].name, name, sizeof name);
    const mo_safetensors_entry *e = find(st, name);
    const bool is_bf16 = e && e->dtype == MO_DTYPE_BF16;
    strategy *s = &t->own.strategy;
    if (t->o->named & OPEN_PRECISION && s->bf16 != is_bf16)
        fail(EXIT_BAD, "%s: has precision=%s, --strategy precision=%s", path,
            is_bf16 ? "bf16" : "f32", s->bf16 ? "bf16" : "f32");
    s->bf16 = is_bf16;
}

// What is frozen has no states in the file: it stays so.
static void take_freeze(trainer *t, const mo_safetensors *st, const char *path) {
    const char *text = mo_safetensors_metadata(st, "memopt.freeze");
    const char *given = t->o->freeze;
    if (options_given(t->o, "--freeze") && (!text || strcmp(text, given) != 0))
        fail(EXIT_BAD, "%s: --freeze is '%s' there, not '%s'", path, text ? text : "", given);
    if (!text || given) return;
    t->freeze = allocate(strlen(text) + 1);
    strcpy(t->freeze, text);
    t->own.freeze = t->freeze;
}

static bool read_norm(const char *text, double *norm) {
    char *end;
    *norm = strtod(text, &end);
    return end != text && !*end && *norm >= 0 && *norm < HUGE_VAL;
}

static void read_resume(trainer *t, const mo_safetensors *st, const char *path) {
    take_setting(t, st, path, "--batch", "memopt.batch");
    take_setting(t, st, path, "--accum", "memopt.accum");
    take_setting(t, st, path, "--lr", "memopt.lr");
    take_setting(t, st, path, "--weight-decay", "memopt.weight_decay");
    take_setting(t, st, path, "--clip", "memopt.clip");
    take_setting(t, st, path, "--seed", "memopt.seed");
    const char *optim = mo_safetensors_metadata(st, "memopt.optim");
    const char *norm = mo_safetensors_metadata(st, "memopt.norm");
    const char *base = mo_safetensors_metadata(st, "memopt.base");
    if (t->o->strategy.lora &&
        (!base || strcmp(base, mo_strategy_base_name(t->o->strategy.base)) != 0))
        fail(EXIT_BAD, "%s: adapters on base=%s, not base=%s", path, base ? base : "(none)",
            mo_strategy_base_name(t->o->strategy.base));
    t->step = number(st, path, "memopt.step", 0);
    t->position = number(st, path, "memopt.position", 0);
    if (mo_safetensors_metadata(st, "memopt.epoch")) t->epoch = number(st, path, "memopt.epoch", 0);
    if (mo_safetensors_metadata(st, "memopt.shuffle"))
        t->shuffle = t->shuffle || number(st, path, "memopt.shuffle", 0) != 0;
    take_theta(t, st, path);
    take_freeze(t, st, path);
    take(t, path, "--heads", t->o->heads, number(st, path, "memopt.heads", 1), &t->config.heads);
    const size_t seq = (size_t)number(st, path, "memopt.seq", 1);
    if (!options_given(t->o, "--seq")) t->config.seq = seq;
    t->optim.precision =
        optim ? mo_strategy_optim_find(optim, strlen(optim)) : MO_OPTIM_PRECISION_COUNT;
    if (t->optim.precision == MO_OPTIM_PRECISION_COUNT)
        fail(EXIT_BAD, "%s: metadata 'memopt.optim' is '%s', not a precision", path,
            optim ? optim : "missing");
    take_precision(t, st, path);
    if (norm && !read_norm(norm, &t->norm))
        fail(EXIT_BAD, "%s: metadata 'memopt.norm' is '%s', not a norm", path, norm);
}

// The architecture whose names the file has.
static const gpt_arch *arch_of(const trainer *t, const mo_safetensors *st, const char *path) {
    const gpt_arch *arch = NULL;
    const char *saved = mo_safetensors_metadata(st, "memopt.arch");
    for (int i = N_ARCHS; i-- > 0;)
        if (find(st, gpt_arch_at(i)->embedding)) arch = gpt_arch_at(i);
    if (!arch) arch = t->config.arch; // what it lacks is named below
    if (saved && strcmp(saved, arch->name) != 0)
        fail(EXIT_BAD, "%s: metadata 'memopt.arch' is '%s', but its tensors are those of %s", path,
            saved, arch->name);
    if (t->o->arch && strcmp(t->o->arch, arch->name) != 0)
        fail(EXIT_BAD, "%s: --arch is %s there, not %s", path, arch->name, t->o->arch);
    return arch;
}

// What this Llama has not: a head of its own, and biases.
static void check_llama(mo_safetensors *st, const char *path) {
    const mo_safetensors_entry *head = find(st, "lm_head.weight");
    const mo_safetensors_entry *wte = find(st, "model.embed_tokens.weight");
    const uint64_t size = wte->end - wte->begin;
    if (find(st, "model.layers.0.self_attn.q_proj.bias"))
        fail(EXIT_BAD,
            "%s: tensor 'model.layers.0.self_attn.q_proj.bias': --arch llama has no "
            "biases",
            path);
    if (!head) return;
    const void *a = mo_safetensors_data(st, head), *b = mo_safetensors_data(st, wte);
    if (!a || !b || head->end - head->begin != size || memcmp(a, b, (size_t)size) != 0)
        fail(EXIT_BAD, "%s: tensor 'lm_head.weight' is not the embedding, as it is in --arch llama",
            path);
}

static void read_llama(trainer *t, mo_safetensors *st, const char *path) {
    gpt_config *c = &t->config;
    c->hidden = (size_t)dim(st, path, "model.layers.0.mlp.gate_proj.weight", 0);
    c->positions = SIZE_MAX; // as many as are asked for
    check_llama(st, path);
}

// Heads of k and v are what their matrix has rows for.
static void read_kv_heads(trainer *t, const mo_safetensors *st, const char *path) {
    static const char name[] = "model.layers.0.self_attn.k_proj.weight";
    gpt_config *c = &t->config;
    const uint64_t rows = dim(st, path, name, 0);
    if (c->channels % c->heads != 0) return; // is refused later
    const size_t size = c->channels / c->heads;
    if (rows % size != 0)
        fail(EXIT_BAD, "%s: tensor '%s' has %" PRIu64 " rows, not heads of %zu: see --heads", path,
            name, rows, size);
    take(t, path, "--kv-heads", t->o->kv_heads, rows / size, &c->kv_heads);
}

static void read_gpt2(trainer *t, mo_safetensors *st, const char *path) {
    gpt_config *c = &t->config;
    c->hidden = mo_model_default_hidden(MO_MODEL_GPT2, c->channels);
    c->positions = (size_t)dim(st, path, "wpe.weight", 0);
    if (!options_given(t->o, "--seq")) c->seq = c->seq < c->positions ? c->seq : c->positions;
}

// A run goes on with the network that it has.
static void take_share(trainer *t, const mo_safetensors *st, const char *path) {
    const bool has = mo_safetensors_metadata(st, "memopt.share") != NULL;
    const uint64_t share = has ? number(st, path, "memopt.share", 1) : 1;
    if (t->o->named & OPEN_SHARE && t->config.share != share)
        fail(EXIT_BAD, "%s: has share=%" PRIu64 ", --strategy share=%zu", path, share,
            t->config.share);
    if (share > 1u << 20)
        fail(EXIT_BAD, "%s: metadata 'memopt.share' is %" PRIu64 ", more than there are layers",
            path, share);
    t->config.share = t->own.strategy.share = (size_t)share;
}

static void check_seq(const gpt_config *c, const char *path) {
    if (c->seq > c->positions)
        fail(EXIT_BAD, "%s: --seq is %zu, but '%s' has %zu positions", path, c->seq,
            c->arch->positions, c->positions);
}

// Adapters of a network that applies its blocks as often.
static void check_share(const trainer *t, const mo_safetensors *st, const char *path) {
    const bool has = mo_safetensors_metadata(st, "memopt.share") != NULL;
    const uint64_t share = has ? number(st, path, "memopt.share", 1) : 1;
    if (share != t->config.share)
        fail(EXIT_BAD, "%s: has share=%" PRIu64 ", --strategy share=%zu", path, share,
            t->config.share);
}

void checkpoint_read_settings(trainer *t, const char *path) {
    mo_safetensors st;
    open_file(&st, path);
    check_share(t, &st, path);
    read_resume(t, &st, path);
    check_seq(&t->config, path);
    mo_safetensors_close(&st);
}

void checkpoint_read_config(trainer *t, const char *path, bool resume) {
    mo_safetensors st;
    gpt_config *c = &t->config;
    char name[96];
    open_file(&st, path);
    const gpt_arch *arch = c->arch = arch_of(t, &st, path);
    if (resume) take_share(t, &st, path);
    take(t, path, "--layers", t->o->layers, c->share * count_layers(arch, &st), &c->layers);
    take(t, path, "--channels", t->o->channels, dim(&st, path, arch->embedding, 1), &c->channels);
    c->vocab = (size_t)dim(&st, path, arch->embedding, 0);
    mo_model_block_name(arch, 0, arch->params[0].name, name, sizeof name);
    if (c->layers == 0) fail(EXIT_BAD, "%s: tensor '%s' is missing", path, name);
    if (arch->llama) read_llama(t, &st, path);
    else read_gpt2(t, &st, path);
    if (resume) read_resume(t, &st, path);
    c->kv_heads = t->o->kv_heads ? t->o->kv_heads : c->heads;
    if (arch->llama) read_kv_heads(t, &st, path);
    check_seq(c, path);
    mo_safetensors_close(&st);
}

void checkpoint_read_teacher(trainer *t, const char *path) {
    mo_safetensors st;
    gpt_config *c = &t->config;
    open_file(&st, path);
    const size_t channels = (size_t)dim(&st, path, arch_of(t, &st, path)->embedding, 1);
    c->heads = channels / 64 ? channels / 64 : 1; // GPT-2's of any size
    if (mo_safetensors_metadata(&st, "memopt.heads"))
        c->heads = (size_t)number(&st, path, "memopt.heads", 1);
    c->share = 1;
    if (mo_safetensors_metadata(&st, "memopt.share"))
        c->share = (size_t)number(&st, path, "memopt.share", 1);
    take_theta(t, &st, path);
    c->rope_theta = t->own.rope_theta;
    mo_safetensors_close(&st);
    checkpoint_read_config(t, path, false);
}

// fp32 or bf16, whatever the parameter is.
static const mo_safetensors_entry *need_param(
    const mo_safetensors *st, const char *path, const mo_param *p) {
    const uint64_t shape[2] = {p->shape[0], p->shape[1]};
    const mo_safetensors_entry *e = find(st, p->name);
    const mo_dtype dtype = e && e->dtype == MO_DTYPE_BF16 ? MO_DTYPE_BF16 : MO_DTYPE_F32;
    return need(st, path, p->name, dtype, shape, p->n_dims);
}

static void load_stored(trainer *t, mo_safetensors *st, const char *path, size_t i) {
    const mo_param *p = &t->params.items[i];
    const mo_safetensors_entry *e = need_param(st, path, p);
    const size_t stored = (size_t)(e->end - e->begin);
    float *x = allocate(p->n * sizeof *x);
    void *from = e->dtype == MO_DTYPE_BF16 ? allocate(stored) : x;
    if (mo_safetensors_read(st, e, 0, from, stored) != MO_OK) exit(EXIT_BAD);
    if (from != x) mo_bf16_to_f32(from, x, p->n, &t->parallel), free(from);
    lora_store(t, i, x);
    free(x);
}

static void load_param(trainer *t, mo_safetensors *st, const char *path, size_t i) {
    const mo_param *p = &t->params.items[i];
    if (lora_stores(t, i)) {
        load_stored(t, st, path, i);
        return;
    }
    const mo_safetensors_entry *e = need_param(st, path, p);
    const bool is_bf16 = e->dtype == MO_DTYPE_BF16, same = is_bf16 == (p->is_bf16 != 0);
    const size_t size = mo_param_bytes(p), stored = (size_t)(e->end - e->begin);
    void *host = t->backend->host_begin(t, mo_param_data(p), size, false);
    void *from = same ? host : allocate(stored);
    if (mo_safetensors_read(st, e, 0, from, stored) != MO_OK) exit(EXIT_BAD);
    if (!same && is_bf16) mo_bf16_to_f32(from, host, p->n, &t->parallel);
    if (!same && !is_bf16) mo_f32_to_bf16(from, host, p->n, &t->parallel);
    if (!same) free(from);
    t->backend->host_end(t, mo_param_data(p), host, size, true);
}

void checkpoint_check_params(const trainer *t, const char *path) {
    mo_safetensors st;
    open_file(&st, path);
    for (size_t i = 0; i < (t->n_base ? t->n_base : t->params.n); i++) {
        const mo_param *p = &t->params.items[i];
        if (p->tied_to == i) need_param(&st, path, p);
    }
    mo_safetensors_close(&st);
}

void checkpoint_load_weights(trainer *t, const char *path) {
    mo_safetensors st;
    open_file(&st, path);
    for (size_t i = 0; i < (t->n_base ? t->n_base : t->params.n); i++)
        if (t->params.items[i].tied_to == i) load_param(t, &st, path, i);
    mo_safetensors_close(&st);
    lora_init(t);
}
