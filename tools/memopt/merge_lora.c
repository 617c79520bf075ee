// merge_lora.c - memopt merge-lora: a LoRA adapter becomes part of the weights.
#include "model_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "elements.h"
#include "json.h"

// What the adapter has for a tensor of the base.
typedef struct target {
    const model_tensor *a, *b; // [r, in], [out, r]
    const model_tensor *whole; // replaces it
    double scale;
} target;

typedef struct merge {
    model_file base, adapter;
    const char *out;
    char *adapter_path, *config_path;
    double alpha; // 0 = of the configuration
    bool rslora, is_fan_in_fan_out, json;
    target *targets; // [base.n]
    size_t n_merged, n_replaced;
    model_writer writer;
    void *raw, *workspace;
    float *a, *b, *rows; // decoded
    size_t workspace_size;
} merge;

// ---- settings -----------------------------------------------------------------------------------

// ADAPTER is the file, or the folder that PEFT has written.
static void find_adapter(merge *m, const char *path) {
    const bool is_in_folder = is_folder(path);
    const size_t n = is_in_folder ? strlen(path) : folder_size(path);
    m->adapter_path =
        is_in_folder ? path_in(path, n, "adapter_model.safetensors") : path_in("", 0, path);
    m->config_path = path_in(path, n, "adapter_config.json");
}

// What the formula here does not cover.
static void refuse_others(const merge *m, json_value config) {
    char *type = json_text(json_get(config, "peft_type"));
    if (type && strcmp(type, "LORA") != 0)
        fail(EXIT_USAGE, "%s: peft_type is '%s', not LORA", m->config_path, type);
    if (json_is(json_get(config, "use_dora"), "true"))
        fail(EXIT_USAGE, "%s: use_dora: DoRA is not supported", m->config_path);
    const json_value pattern = json_get(config, "alpha_pattern");
    if (pattern.at && !json_is(pattern, "null") && !json_is_empty(pattern))
        fail(EXIT_USAGE, "%s: alpha_pattern: more than one alpha is not supported", m->config_path);
    free(type);
}

static void read_config(merge *m) {
    struct stat info;
    if (stat(m->config_path, &info) != 0) {
        if (m->alpha == 0) fail(EXIT_USAGE, "--alpha missing, and there is no %s", m->config_path);
        return;
    }
    char *text = json_read(m->config_path);
    const json_value config = json_root(text);
    double alpha = 0;
    refuse_others(m, config);
    if (m->alpha == 0) {
        if (!json_number(json_get(config, "lora_alpha"), &alpha) || !(alpha > 0))
            fail(EXIT_USAGE, "%s: lora_alpha is no number above 0 (--alpha)", m->config_path);
        m->alpha = alpha;
    }
    if (json_is(json_get(config, "use_rslora"), "true")) m->rslora = true;
    if (json_is(json_get(config, "fan_in_fan_out"), "true")) m->is_fan_in_fan_out = true;
    free(text);
}

// ---- what belongs to what -----------------------------------------------------------------------

// The base's tensor of this name, or of its end behind a dot: files of the bare model lack the
// prefix, such as "transformer.", that names of the adapter have.
static size_t find_base(const merge *m, const char *whole) {
    for (const char *name = whole; name; name = strchr(name, '.')) {
        if (*name == '.') name++;
        const model_tensor *t = strchr(name, '.') ? model_find(&m->base, name) : NULL;
        if (t) return (size_t)(t - m->base.tensors);
    }
    fail(EXIT_USAGE, "%s: '%s' is not in %s", m->adapter_path, whole, m->base.path);
}

// "x.lora_A.weight" and "x.lora_A.default.weight" belong to "x.weight". which becomes 'A' or 'B',
// or 0 where the name is none of them.
static char *target_name(const char *name, char *which) {
    const size_t size = strlen(name) + 1;
    char *text = allocate(size, 1);
    check(mo_lora_target(name, which, text, size), name);
    return text;
}

static void place_tensor(merge *m, const model_tensor *t) {
    char which, *name = target_name(t->name, &which);
    const bool is_other = !which && strstr(t->name, "lora_");
    if (is_other) fail(EXIT_USAGE, "%s: '%s' is not supported", m->adapter_path, t->name);
    if (!elements_are_float(t->type.dtype))
        fail(EXIT_USAGE, "%s: '%s' is %s", m->adapter_path, t->name, t->type.name);
    target *to = &m->targets[find_base(m, name)];
    const model_tensor **place = which == 'A' ? &to->a : which == 'B' ? &to->b : &to->whole;
    if (*place)
        fail(EXIT_USAGE, "%s: '%s' and '%s' are for the same tensor", m->adapter_path,
            (*place)->name, t->name);
    *place = t;
    free(name);
}

static void check_pair(merge *m, const model_tensor *t, target *to) {
    const model_tensor *a = to->a, *b = to->b;
    if (!a || !b)
        fail(EXIT_USAGE, "%s: '%s' has no lora_%c", m->adapter_path, (a ? a : b)->name,
            a ? 'B' : 'A');
    const bool are_matrices = t->n_dims == 2 && a->n_dims == 2 && b->n_dims == 2;
    if (!are_matrices || !elements_are_float(t->type.dtype) || to->whole)
        fail(EXIT_USAGE, "%s: '%s' is not a matrix of floats with one adapter", m->base.path,
            t->name);
    const uint64_t in = t->shape[m->is_fan_in_fan_out ? 0 : 1];
    const uint64_t out = t->shape[m->is_fan_in_fan_out ? 1 : 0];
    if (a->shape[0] != b->shape[1] || a->shape[0] == 0)
        fail(EXIT_USAGE, "%s: '%s' has rank %llu, '%s' %llu", m->adapter_path, a->name,
            (unsigned long long)a->shape[0], b->name, (unsigned long long)b->shape[1]);
    if (a->shape[1] != in || b->shape[0] != out)
        fail(EXIT_USAGE,
            "%s: '%s' is [%llu,%llu], which does not fit to an adapter from %llu to %llu%s",
            m->base.path, t->name, (unsigned long long)t->shape[0], (unsigned long long)t->shape[1],
            (unsigned long long)a->shape[1], (unsigned long long)b->shape[0],
            m->is_fan_in_fan_out ? "" : " (--fan-in-fan-out)");
    const double r = (double)a->shape[0];
    to->scale = m->alpha / (m->rslora ? sqrt(r) : r);
    m->n_merged++;
}

static void check_whole(merge *m, const model_tensor *t, const target *to) {
    const bool is_same = t->n_dims == to->whole->n_dims &&
        (t->n_dims == 0 || memcmp(t->shape, to->whole->shape, t->n_dims * sizeof *t->shape) == 0);
    if (!is_same || !elements_are_float(t->type.dtype))
        fail(EXIT_USAGE, "%s: '%s' has another shape than '%s'", m->adapter_path, to->whole->name,
            t->name);
    m->n_replaced++;
}

// What a checkpoint of train_gpt has beside the adapter.
static bool is_of_checkpoint(const char *name) {
    return strncmp(name, "optimizer.", 10) == 0 || strncmp(name, "memopt.", 7) == 0;
}

static void find_targets(merge *m) {
    m->targets = allocate(m->base.n, sizeof *m->targets);
    for (size_t i = 0; i < m->adapter.n; i++)
        if (!is_of_checkpoint(m->adapter.tensors[i].name)) place_tensor(m, &m->adapter.tensors[i]);
    for (size_t i = 0; i < m->base.n; i++) {
        target *to = &m->targets[i];
        if (to->a || to->b) check_pair(m, &m->base.tensors[i], to);
        else if (to->whole) check_whole(m, &m->base.tensors[i], to);
    }
    if (m->n_merged == 0) fail(EXIT_USAGE, "%s: no lora_A and lora_B in it", m->adapter_path);
}

// ---- the sum ------------------------------------------------------------------------------------

static float *read_all(merge *m, const model_tensor *t) {
    float *x = allocate((size_t)t->n, sizeof *x);
    model_read_f32(&m->adapter, t, 0, (size_t)t->n, m->raw, x);
    return x;
}

// Rows first .. first + n - 1 of W += scale B A, or of its transpose.
static void add_product(
    const merge *m, const model_tensor *t, const target *to, uint64_t first, size_t n) {
    const size_t r = (size_t)to->a->shape[0], columns = (size_t)t->shape[1];
    const mo_gemm_env env = {.workspace = m->workspace, .workspace_size = m->workspace_size};
    mo_gemm_desc desc = {.m = n, .n = columns, .k = r, .alpha = (float)to->scale, .beta = 1};
    mo_status status;
    if (m->is_fan_in_fan_out) {
        desc.trans_a = desc.trans_b = 1;
        desc.lda = (size_t)t->shape[0];
        status = mo_gemm(&env, &desc, m->a + first, m->b, m->rows);
    } else status = mo_gemm(&env, &desc, m->b + first * r, m->a, m->rows);
    check(status, t->name);
}

static void write_rows(merge *m, const model_tensor *t, size_t n) {
    for (size_t at = 0; at < n; at += MODEL_PIECE) {
        const size_t count = model_piece(n, at);
        elements_from_f32(t->type.dtype, m->rows + at, count, false, m->raw);
        model_write(&m->writer, m->raw, count);
    }
}

static void merge_tensor(merge *m, const model_tensor *t, const target *to) {
    const size_t columns = (size_t)t->shape[1];
    size_t step = columns ? MODEL_PIECE / columns : 0;
    if (t->n == 0) return;
    if (step == 0) step = 1;
    m->a = read_all(m, to->a);
    m->b = read_all(m, to->b);
    m->rows = allocate(step, columns * sizeof *m->rows);
    for (uint64_t row = 0; row < t->shape[0]; row += step) {
        const size_t n = t->shape[0] - row < step ? (size_t)(t->shape[0] - row) : step;
        model_read_f32(&m->base, t, row * columns, n * columns, m->raw, m->rows);
        add_product(m, t, to, row, n);
        write_rows(m, t, n * columns);
    }
    free(m->a);
    free(m->b);
    free(m->rows);
}

// As the adapter has it, in the base's type.
static void replace_tensor(merge *m, const model_tensor *t, const target *to) {
    m->rows = allocate(MODEL_PIECE, sizeof *m->rows);
    for (uint64_t at = 0; at < t->n; at += MODEL_PIECE) {
        const size_t n = model_piece(t->n, at);
        model_read_f32(&m->adapter, to->whole, at, n, m->raw, m->rows);
        write_rows(m, t, n);
    }
    free(m->rows);
}

static void write_tensor(merge *m, const model_tensor *t, const target *to) {
    const bool has_type = to->whole && to->whole->type.dtype == t->type.dtype;
    if (to->a) merge_tensor(m, t, to);
    else if (to->whole && !has_type) replace_tensor(m, t, to);
    else if (to->whole) model_copy(&m->writer, &m->adapter, to->whole, m->raw);
    else model_copy(&m->writer, &m->base, t, m->raw);
}

static void write_tensors(merge *m) {
    pair_list pairs = model_pairs(&m->base, 0);
    m->raw = allocate(MODEL_PIECE, 8);
    m->workspace_size = mo_gemm_workspace_size(NULL, NULL);
    m->workspace = mo_alloc(NULL, m->workspace_size, 64);
    if (!m->workspace) fail(EXIT_NO, "out of memory for %zu bytes", m->workspace_size);
    model_create(&m->writer, m->out, MODEL_SAFETENSORS, m->base.tensors, m->base.n, &pairs);
    for (size_t i = 0; i < m->base.n; i++) write_tensor(m, &m->base.tensors[i], &m->targets[i]);
    model_commit(&m->writer);
    mo_free(NULL, m->workspace, m->workspace_size, 64);
    free(m->raw);
    free(pairs.items);
}

// ---- the command ------------------------------------------------------------------------------

static void print_json(const merge *m) {
    const char *before = "{\"name\":";
    json_after("{\"base\":", m->base.path);
    json_after(",\"adapter\":", m->adapter_path);
    json_after(",\"out\":", m->out);
    printf(",\"alpha\":%.9g,\"rslora\":%s,\"fan_in_fan_out\":%s,\"tensors\":%zu,\"replaced\":%zu,"
           "\"merged\":[",
        m->alpha, m->rslora ? "true" : "false", m->is_fan_in_fan_out ? "true" : "false", m->base.n,
        m->n_replaced);
    for (size_t i = 0; i < m->base.n; i++) {
        if (!m->targets[i].a) continue;
        json_after(before, m->base.tensors[i].name);
        printf(",\"rank\":%llu,\"scale\":%.9g}", (unsigned long long)m->targets[i].a->shape[0],
            m->targets[i].scale);
        before = ",{\"name\":";
    }
    printf("]}\n");
}

static void print_text(const merge *m) {
    print_name(stdout, m->out, 0);
    printf(": %zu of %zu tensors with their adapters, alpha %g%s%s", m->n_merged, m->base.n,
        m->alpha, m->rslora ? ", rslora" : "", m->is_fan_in_fan_out ? ", fan_in_fan_out" : "");
    if (m->n_replaced) printf("; %zu replaced", m->n_replaced);
    putchar('\n');
}

static int run(const command *self, int argc, const char *const *argv) {
    merge m = {0};
    const char *files[3];
    const flag flags[] = {
        {"--alpha", FLAG_REAL, &m.alpha},
        {"--rslora", FLAG_SWITCH, &m.rslora},
        {"--fan-in-fan-out", FLAG_SWITCH, &m.is_fan_in_fan_out},
        {"--json", FLAG_SWITCH, &m.json},
    };
    flags_parse(self, argc, argv, flags, sizeof flags / sizeof *flags, files, 3);
    m.out = files[2];
    find_adapter(&m, files[1]);
    model_open(&m.base, files[0]);
    model_open(&m.adapter, m.adapter_path);
    read_config(&m);
    find_targets(&m);
    write_tensors(&m);
    if (m.json) print_json(&m);
    else print_text(&m);
    flush_stdout();
    model_close(&m.base);
    model_close(&m.adapter);
    free(m.targets);
    free(m.adapter_path);
    free(m.config_path);
    return 0;
}

const command merge_lora_command = {
    "merge-lora",
    "add a LoRA adapter to the weights: W += alpha / r B A",
    "  memopt merge-lora BASE ADAPTER OUT [flags]\n"
    "\n"
    "  --alpha X          instead of lora_alpha of adapter_config.json\n"
    "  --rslora           alpha / sqrt(r) instead of alpha / r\n"
    "  --fan-in-fan-out   the base holds matrices as [in,out], as GPT-2 of Hugging Face does\n"
    "  --json             one object on standard output\n"
    "\n"
    "ADAPTER is a file with PEFT's names, base_model.model.X.lora_A.weight and "
    "X.lora_B.weight, or the\n"
    "folder with adapter_model.safetensors. adapter_config.json beside it gives lora_alpha, "
    "use_rslora\n"
    "and fan_in_fan_out. X.weight is looked for in BASE as it stands, then without what is in "
    "front "
    "of\n"
    "its first dot, and so on. Other tensors of the adapter (modules_to_save) replace those of "
    "BASE.\n"
    "\n"
    "The sum is computed in fp32 and rounded once to the type of BASE. OUT appears whole or not "
    "at\n"
    "all; it may be BASE.\n"
    "\n"
    "  memopt merge-lora model.safetensors adapter/ merged.safetensors\n"
    "  memopt merge-lora model.safetensors lora.safetensors merged.safetensors --alpha 16\n"
    "\n"
    "Exit status: 0 done; 1 the machine does not allow it; 2 usage, input.\n",
    run,
};
