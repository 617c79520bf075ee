/* mo_lora_file.c - see mo_lora_file.h. */

static const char moi_lora_prefix[] = "base_model.model.", moi_lora_suffix[] = ".weight";
enum {
    MOI_LORA_PREFIX = sizeof moi_lora_prefix - 1,
    MOI_LORA_SUFFIX = sizeof moi_lora_suffix - 1,
    MOI_LORA_LONGER = 25, /* bytes that a name has more than its weight's, and the 0 */
    MOI_LORA_NAME_SIZE = 512
};

/* ---- names ---------------------------------------------------------------------------------- */

/* Bytes of a weight's name before its end; 0 when it has another end. */
static size_t moi_lora_stem(const char *weight) {
    const size_t n = strlen(weight);
    if (n <= MOI_LORA_SUFFIX) return 0;
    return strcmp(weight + n - MOI_LORA_SUFFIX, moi_lora_suffix) == 0 ? n - MOI_LORA_SUFFIX : 0;
}

/* weight is one that has a stem, size enough. */
static void moi_lora_put_name(const char *weight, char which, char *text, size_t size) {
    snprintf(text, size, "%s%.*s.lora_%c%s", moi_lora_prefix, (int)moi_lora_stem(weight), weight,
        which, moi_lora_suffix);
}

mo_status mo_lora_name(const char *weight, char which, char *text, size_t size) {
    if (!weight || !text || (which != 'A' && which != 'B')) return MO_E_INVALID;
    const size_t stem = moi_lora_stem(weight);
    if (stem == 0 || stem > 0x7fffffff) return MO_E_INVALID;
    if (size < stem + MOI_LORA_SUFFIX + MOI_LORA_LONGER) return MO_E_NO_SPACE;
    moi_lora_put_name(weight, which, text, size);
    return MO_OK;
}

/* Where ".lora_A.weight" or ".lora_A.default.weight" begins; NULL. */
static const char *moi_lora_mark(const char *name) {
    const char *at = strstr(name, ".lora_");
    if (!at || (at[6] != 'A' && at[6] != 'B') || at[7] != '.') return NULL;
    return strcmp(strrchr(at, '.'), moi_lora_suffix) == 0 ? at : NULL;
}

static const char *moi_lora_strip(const char *name) {
    return strncmp(name, moi_lora_prefix, MOI_LORA_PREFIX) == 0 ? name + MOI_LORA_PREFIX : name;
}

mo_status mo_lora_target(const char *name, char *which, char *text, size_t size) {
    if (!name || !which || !text) return MO_E_INVALID;
    const char *stem = moi_lora_strip(name), *mark = moi_lora_mark(stem);
    const size_t n = mark ? (size_t)(mark - stem) : strlen(stem);
    const char *end = mark ? moi_lora_suffix : "";
    if (size <= n + strlen(end)) return MO_E_NO_SPACE;
    memcpy(text, stem, n);
    memcpy(text + n, end, strlen(end) + 1);
    *which = '\0';
    if (mark) *which = mark[6];
    return MO_OK;
}

/* ---- adapter_config.json -------------------------------------------------------------------- */

/* The last part of a weight's module: c_attn of transformer.h.0.attn.c_attn.weight. */
static moi_json_text moi_lora_module(const char *weight) {
    moi_json_text module;
    const size_t stem = moi_lora_stem(weight);
    size_t begin = stem;
    while (begin > 0 && weight[begin - 1] != '.') begin--;
    module.begin = weight + begin;
    module.size = stem - begin;
    return module;
}

static int moi_lora_module_is_new(const mo_lora_entry *entries, size_t i) {
    const moi_json_text module = moi_lora_module(entries[i].name);
    for (size_t k = 0; k < i; k++) {
        const moi_json_text other = moi_lora_module(entries[k].name);
        if (other.size == module.size && memcmp(other.begin, module.begin, module.size) == 0)
            return 0;
    }
    return 1;
}

static void moi_lora_put_text(moi_sink *sink, const char *key, const char *text) {
    moi_sink_text(sink, "  ");
    moi_sink_json(sink, key);
    moi_sink_text(sink, ": ");
    if (text) moi_sink_json(sink, text);
    else moi_sink_text(sink, "null");
    moi_sink_text(sink, ",\n");
}

static void moi_lora_put_real(moi_sink *sink, const char *key, float x) {
    char text[40];
    snprintf(text, sizeof text, "  \"%s\": %.9g,\n", key, (double)x);
    moi_sink_text(sink, text);
}

static void moi_lora_put_flag(moi_sink *sink, const char *key, int flag) {
    char text[48];
    snprintf(text, sizeof text, "  \"%s\": %s,\n", key, flag ? "true" : "false");
    moi_sink_text(sink, text);
}

static void moi_lora_put_modules(moi_sink *sink, const mo_lora_entry *entries, size_t n) {
    char escaped[6];
    moi_sink_text(sink, "  \"target_modules\": [");
    for (size_t i = 0; i < n; i++) {
        if (!moi_lora_module_is_new(entries, i)) continue;
        const moi_json_text module = moi_lora_module(entries[i].name);
        moi_sink_text(sink, i ? ", \"" : "\"");
        for (size_t k = 0; k < module.size; k++)
            moi_sink_put(sink, escaped, moi_json_escape(module.begin[k], escaped));
        moi_sink_text(sink, "\"");
    }
    moi_sink_text(sink, "],\n");
}

static void moi_lora_put_config(
    moi_sink *sink, const mo_lora_config *config, const mo_lora_entry *entries, size_t n) {
    const float alpha = config->alpha == 0.0f ? (float)config->rank : config->alpha;
    moi_sink_text(sink, "{\n");
    moi_lora_put_text(sink, "peft_type", "LORA");
    moi_lora_put_text(sink, "task_type", config->task ? config->task : "CAUSAL_LM");
    moi_lora_put_text(sink, "base_model_name_or_path", config->base);
    moi_sink_text(sink, "  \"r\": ");
    moi_sink_u64(sink, config->rank);
    moi_sink_text(sink, ",\n");
    moi_lora_put_real(sink, "lora_alpha", alpha);
    moi_lora_put_real(sink, "lora_dropout", config->dropout);
    moi_lora_put_flag(sink, "use_rslora", config->rslora);
    moi_lora_put_flag(sink, "fan_in_fan_out", config->in_out);
    moi_lora_put_modules(sink, entries, n);
    moi_lora_put_text(sink, "bias", "none");
    moi_sink_text(sink, "  \"inference_mode\": true\n}\n");
}

/* Finite and within the range of either. */
static int moi_lora_config_valid(const mo_lora_config *c) {
    return c->rank != 0 && c->alpha >= 0.0f && c->alpha <= 3e38f && c->dropout >= 0.0f &&
        c->dropout < 1.0f && (!c->base || moi_is_text(c->base)) &&
        (!c->task || moi_is_text(c->task));
}

static mo_status moi_lora_check(const char *path, const mo_lora_config *config,
    const mo_lora_entry *entries, size_t n, const mo_log *log) {
    if (!moi_lora_config_valid(config))
        return moi_file_fail(log, path, MO_E_INVALID, "adapter of rank %llu, alpha %g, dropout %g",
            (unsigned long long)config->rank, (double)config->alpha, (double)config->dropout);
    for (size_t i = 0; i < n; i++) {
        const mo_lora_entry *e = &entries[i];
        if (!e->name || !moi_is_text(e->name) || moi_lora_stem(e->name) == 0 || e->in == 0 ||
            e->out == 0)
            return moi_file_fail(log, path, MO_E_INVALID,
                "adapter %llu has no weight with a name and sizes", (unsigned long long)i);
    }
    return MO_OK;
}

/* The text under a temporary name. */
static mo_status moi_lora_write_config(mo_output *out, const char *path,
    const mo_lora_config *config, const mo_lora_entry *entries, size_t n,
    const mo_lora_file_desc *desc) {
    moi_sink sink;
    memset(out, 0, sizeof *out);
    out->allocator = desc->allocator;
    out->log = desc->log;
    moi_sink_begin(&sink, NULL);
    moi_lora_put_config(&sink, config, entries, n);
    mo_status status = moi_output_create(out, path, sink.size);
    if (status != MO_OK) return status;
    moi_sink_begin(&sink, out);
    moi_lora_put_config(&sink, config, entries, n);
    status = moi_sink_end(&sink);
    return status == MO_OK ? moi_output_seal(out) : status;
}

mo_status mo_lora_save_config(const char *path, const mo_lora_config *config,
    const mo_lora_entry *entries, size_t n, const mo_lora_file_desc *desc) {
    mo_lora_file_desc none;
    mo_output out;
    memset(&none, 0, sizeof none);
    if (!desc) desc = &none;
    if (!path || !config || !entries || n == 0) return MO_E_INVALID;
    mo_status status = moi_lora_check(path, config, entries, n, &desc->log);
    if (status == MO_OK) status = moi_lora_write_config(&out, path, config, entries, n, desc);
    return status == MO_OK ? moi_output_publish(&out, 1) : status;
}

/* ---- reading it ----------------------------------------------------------------------------- */

/* What is of no kind that the formulas here cover; NULL = fine. */
typedef struct moi_lora_parser {
    moi_json json;
    mo_lora_config config;
    const char *unsupported;
    int has_alpha;
} moi_lora_parser;

static int moi_lora_real(moi_json *j, float *x) {
    double number = 0;
    if (!moi_json_real(j, &number)) return 0;
    *x = (float)number;
    return 1;
}

/* A value that has to be empty. */
static int moi_lora_nothing(moi_lora_parser *p, const char *what) {
    moi_json_text value;
    if (!moi_json_value(&p->json, &value)) return 0;
    size_t i = 1;
    while (i + 1 < value.size && strchr(" \n\t\r", value.begin[i])) i++;
    const int empty = value.size >= 2 && *value.begin == '{' && i + 1 == value.size;
    if (!empty && !moi_json_is(value, "null")) p->unsupported = what;
    return 1;
}

static int moi_lora_kind(moi_lora_parser *p) {
    moi_json_text value;
    if (!moi_json_value(&p->json, &value)) return 0;
    if (!moi_json_is(value, "\"LORA\"")) p->unsupported = "peft_type is not LORA";
    return 1;
}

static int moi_lora_parse_field(moi_lora_parser *p, moi_json_text key) {
    moi_json *j = &p->json;
    uint64_t rank = 0;
    int dora = 0;
    if (moi_json_is(key, "peft_type")) return moi_lora_kind(p);
    if (moi_json_is(key, "r")) {
        if (!moi_json_u64(j, &rank)) return 0;
        p->config.rank = (size_t)rank;
        return rank == 0 || rank > SIZE_MAX / 8 ? moi_json_fail(j, "r is no rank") : 1;
    }
    if (moi_json_is(key, "lora_alpha")) {
        p->has_alpha = 1;
        return moi_lora_real(j, &p->config.alpha);
    }
    if (moi_json_is(key, "lora_dropout")) return moi_lora_real(j, &p->config.dropout);
    if (moi_json_is(key, "use_rslora")) return moi_json_flag(j, &p->config.rslora);
    if (moi_json_is(key, "fan_in_fan_out")) return moi_json_flag(j, &p->config.in_out);
    if (moi_json_is(key, "rank_pattern")) return moi_lora_nothing(p, "rank_pattern");
    if (moi_json_is(key, "alpha_pattern")) return moi_lora_nothing(p, "alpha_pattern");
    if (!moi_json_is(key, "use_dora")) return moi_json_skip(j);
    if (!moi_json_flag(j, &dora)) return 0;
    if (dora) p->unsupported = "use_dora";
    return 1;
}

static int moi_lora_parse(moi_lora_parser *p) {
    moi_json *j = &p->json;
    moi_json_text key;
    if (!moi_json_open(j, '{')) return 0;
    for (size_t i = 0; moi_json_item(j, '}', i); i++)
        if (!moi_json_key(j, &key) || !moi_lora_parse_field(p, key)) return 0;
    if (j->error || !moi_json_end(j)) return 0;
    if (p->config.rank == 0) return moi_json_fail(j, "r is missing");
    return p->has_alpha && moi_lora_config_valid(&p->config)
        ? 1
        : moi_json_fail(j, "lora_alpha or lora_dropout is no number that fits");
}

static mo_status moi_lora_parse_text(
    const char *path, const char *text, size_t size, mo_lora_config *config, const mo_log *log) {
    moi_lora_parser p;
    memset(&p, 0, sizeof p);
    p.json.text = text;
    p.json.size = size;
    if (moi_utf8_prefix(text, size) < size)
        return moi_file_fail(log, path, MO_E_FORMAT, "not UTF-8");
    if (!moi_lora_parse(&p))
        return moi_file_fail(
            log, path, MO_E_FORMAT, "byte %llu: %s", (unsigned long long)p.json.at, p.json.error);
    if (p.unsupported)
        return moi_file_fail(log, path, MO_E_UNSUPPORTED, "%s is not supported", p.unsupported);
    *config = p.config;
    return MO_OK;
}

mo_status mo_lora_load_config(
    const char *path, mo_lora_config *config, const mo_lora_file_desc *desc) {
    mo_lora_file_desc none;
    char *text = NULL;
    size_t size = 0;
    memset(&none, 0, sizeof none);
    if (!desc) desc = &none;
    if (!path || !config) return MO_E_INVALID;
    mo_status status = moi_input_text(path, &desc->allocator, &desc->log, &text, &size);
    if (status == MO_OK) status = moi_lora_parse_text(path, text, size, config, &desc->log);
    moi_free_array(&desc->allocator, text, size, 1);
    return status;
}

/* ---- writing the matrices ------------------------------------------------------------------- */

/* What mo_lora_save needs while it runs: all of it in one block. */
typedef struct moi_lora_saving {
    mo_safetensors_entry *entries; /* [2 n] */
    uint64_t *shapes;              /* [4 n] */
    char *names, *paths[2];
    size_t size; /* of the block, which begins with the entries */
} moi_lora_saving;

static const char moi_lora_model_file[] = "adapter_model.safetensors",
                  moi_lora_config_file[] = "adapter_config.json";

static mo_status moi_lora_saving_begin(moi_lora_saving *s, const char *folder,
    const mo_lora_entry *entries, size_t n, const mo_allocator *allocator) {
    const size_t length = strlen(folder) + 2;
    size_t n_names = 0, head = 0;
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < n; i++) n_names += 2 * (strlen(entries[i].name) + MOI_LORA_LONGER);
    if (!moi_mul(n, 2 * sizeof *s->entries + 4 * sizeof *s->shapes, &head)) return MO_E_NO_MEMORY;
    s->size = head + n_names + 2 * (length + sizeof moi_lora_model_file);
    s->entries = (mo_safetensors_entry *)moi_alloc_array(allocator, s->size, 1);
    if (!s->entries) return MO_E_NO_MEMORY;
    s->shapes = (uint64_t *)(void *)(s->entries + 2 * n);
    s->names = (char *)(s->shapes + 4 * n);
    for (int i = 0; i < 2; i++) {
        s->paths[i] = s->names + n_names + (size_t)i * (length + sizeof moi_lora_model_file);
        snprintf(s->paths[i], length + sizeof moi_lora_model_file, "%s/%s", folder,
            i == 0 ? moi_lora_model_file : moi_lora_config_file);
    }
    return MO_OK;
}

/* The entry and name of a matrix: number 2 i is A of entry i, 2 i + 1 its B. */
static char *moi_lora_list(
    moi_lora_saving *s, size_t k, const mo_lora_entry *e, size_t rank, mo_dtype dtype, char *name) {
    const int is_b = (int)(k % 2);
    const size_t size = strlen(e->name) + MOI_LORA_LONGER;
    mo_safetensors_entry *to = &s->entries[k];
    uint64_t *shape = &s->shapes[2 * k];
    moi_lora_put_name(e->name, is_b ? 'B' : 'A', name, size);
    shape[0] = is_b ? e->out : rank;
    shape[1] = is_b ? rank : e->in;
    memset(to, 0, sizeof *to);
    to->name = name;
    to->dtype = dtype;
    to->n_dims = 2;
    to->shape = shape;
    return name + size;
}

static mo_status moi_lora_write_model(const moi_lora_saving *s, mo_safetensors_writer *w,
    size_t rank, const mo_lora_entry *entries, size_t n, const mo_lora_file_desc *desc) {
    static const mo_safetensors_pair format = {"format", "pt"};
    mo_safetensors_writer_desc writer;
    writer.allocator = desc->allocator;
    writer.log = desc->log;
    writer.metadata = &format;
    writer.n_metadata = 1;
    mo_status status = mo_safetensors_create(w, s->paths[0], s->entries, 2 * n, &writer);
    for (size_t i = 0; i < n && status == MO_OK; i++) {
        const mo_lora_entry *e = &entries[i];
        status = mo_safetensors_write_f32(w, desc->dtype, e->a, rank * e->in);
        if (status == MO_OK) status = mo_safetensors_write_f32(w, desc->dtype, e->b, e->out * rank);
    }
    return status == MO_OK ? moi_stw_seal(w) : status;
}

/* Both on disk under temporary names, then the names. */
static mo_status moi_lora_write(const moi_lora_saving *s, const mo_lora_config *config,
    const mo_lora_entry *entries, size_t n, const mo_lora_file_desc *desc) {
    mo_safetensors_writer w;
    mo_output out;
    memset(&w, 0, sizeof w);
    mo_status status = moi_lora_write_config(&out, s->paths[1], config, entries, n, desc);
    if (status != MO_OK) return status;
    status = moi_lora_write_model(s, &w, config->rank, entries, n, desc);
    if (status == MO_OK) status = moi_output_publish(&w.output, 0);
    if (status == MO_OK) status = moi_output_publish(&out, 1);
    mo_safetensors_discard(&w);
    moi_output_discard(&out);
    return status;
}

static int moi_lora_is_float(mo_dtype dtype) {
    return dtype == MO_DTYPE_F32 || dtype == MO_DTYPE_F16 || dtype == MO_DTYPE_BF16;
}

static int moi_lora_has_matrices(const mo_lora_entry *entries, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!entries[i].a || !entries[i].b) return 0;
    return 1;
}

mo_status mo_lora_save(const char *folder, const mo_lora_config *config,
    const mo_lora_entry *entries, size_t n, const mo_lora_file_desc *desc) {
    mo_lora_file_desc d;
    moi_lora_saving s;
    memset(&d, 0, sizeof d);
    if (desc) d = *desc;
    if (d.dtype == (mo_dtype)0) d.dtype = MO_DTYPE_F32;
    if (!folder || !config || !entries || n == 0 || !moi_lora_has_matrices(entries, n) ||
        !moi_lora_is_float(d.dtype))
        return MO_E_INVALID;
    mo_status status = moi_lora_check(folder, config, entries, n, &d.log);
    if (status != MO_OK) return status;
    status = moi_lora_saving_begin(&s, folder, entries, n, &d.allocator);
    if (status != MO_OK)
        return moi_file_fail(&d.log, folder, status, "out of memory for the names");
    char *name = s.names;
    for (size_t k = 0; k < 2 * n; k++)
        name = moi_lora_list(&s, k, &entries[k / 2], config->rank, d.dtype, name);
    status = moi_lora_write(&s, config, entries, n, &d);
    moi_free_array(&d.allocator, s.entries, s.size, 1);
    return status;
}

/* ---- reading the matrices ------------------------------------------------------------------- */

/* The matrix of this name, in the entry that it belongs to; n when there is none. */
static size_t moi_lora_find(const char *name, const mo_lora_entry *entries, size_t n, char *which) {
    char target[MOI_LORA_NAME_SIZE];
    size_t i = 0;
    if (mo_lora_target(name, which, target, sizeof target) != MO_OK || !*which) return n;
    while (i < n && strcmp(moi_lora_strip(entries[i].name), target) != 0) i++;
    return i;
}

static mo_status moi_lora_read(
    const mo_safetensors *st, const mo_safetensors_entry *e, float *to, size_t n) {
    enum { PIECE = 4096 };
    uint16_t piece[PIECE];
    mo_half_desc half;
    mo_status status = MO_OK;
    if (e->dtype == MO_DTYPE_F32) return mo_safetensors_read(st, e, 0, to, n * sizeof *to);
    memset(&half, 0, sizeof half);
    half.format = e->dtype == MO_DTYPE_BF16 ? MO_HALF_BF16 : MO_HALF_F16;
    for (size_t at = 0; at < n && status == MO_OK; at += PIECE) {
        const size_t size = moi_min(n - at, PIECE);
        status = mo_safetensors_read(st, e, at * sizeof *piece, piece, size * sizeof *piece);
        if (status == MO_OK) status = mo_half_decode(&half, piece, size, to + at);
    }
    return status;
}

static mo_status moi_lora_load_matrix(const mo_safetensors *st, const mo_safetensors_entry *e,
    size_t rank, const mo_lora_entry *entry, char which) {
    char name[MOI_ST_NAME_SIZE];
    const size_t rows = which == 'A' ? rank : entry->out;
    const size_t columns = which == 'A' ? entry->in : rank;
    const char *path = st->input.path;
    moi_st_printable_name(e->name, name);
    if (!moi_lora_is_float(e->dtype))
        return moi_file_fail(&st->log, path, MO_E_FORMAT, "tensor '%s' is %s, not F32, F16 or BF16",
            name, mo_dtype_name(e->dtype));
    if (e->n_dims != 2 || e->shape[0] != rows || e->shape[1] != columns)
        return moi_file_fail(&st->log, path, MO_E_FORMAT, "tensor '%s': shape is not [%llu, %llu]",
            name, (unsigned long long)rows, (unsigned long long)columns);
    return moi_lora_read(st, e, which == 'A' ? entry->a : entry->b, rows * columns);
}

/* How many matrices of an entry the file has. */
static int moi_lora_count(const mo_safetensors *st, const mo_lora_entry *entry, char wanted) {
    int n = 0;
    for (size_t k = 0; k < st->n; k++) {
        char which;
        n += moi_lora_find(st->entries[k].name, entry, 1, &which) == 0 && which == wanted;
    }
    return n;
}

mo_status mo_lora_load(
    const mo_safetensors *st, size_t rank, const mo_lora_entry *entries, size_t n) {
    char text[MOI_ST_NAME_SIZE];
    mo_status status = MO_OK;
    if (!st || rank == 0 || !entries || !moi_lora_has_matrices(entries, n)) return MO_E_INVALID;
    for (size_t i = 0; i < n; i++)
        for (char which = 'A'; which <= 'B'; which++) {
            const int count = moi_lora_count(st, &entries[i], which);
            if (count != 1)
                return moi_file_fail(&st->log, st->input.path, MO_E_FORMAT,
                    "lora_%c of '%s' is there %d times", which,
                    moi_st_printable_name(entries[i].name, text), count);
        }
    for (size_t k = 0; k < st->n && status == MO_OK; k++) {
        const mo_safetensors_entry *e = &st->entries[k];
        char which = '\0';
        const size_t i = moi_lora_find(e->name, entries, n, &which);
        if (i < n) status = moi_lora_load_matrix(st, e, rank, &entries[i], which);
        else if (which)
            status = moi_file_fail(&st->log, st->input.path, MO_E_FORMAT,
                "tensor '%s' belongs to no weight that was asked for",
                moi_st_printable_name(e->name, text));
    }
    return status;
}
