/* mo_model_config.c - Hugging Face's config.json; see mo_model_file.h. */

/* What a reading of a model gathers. path NULL: data in memory. */
typedef struct moi_model_reading {
    mo_model model;
    mo_model_file_info info;
    const char *path;
    mo_allocator allocator;
    mo_log log;
} moi_model_reading;

/* Lines of mo_model_complete, behind the path. */
static void moi_model_file_write(void *self, mo_log_level level, const char *text) {
    const moi_model_reading *r = (const moi_model_reading *)self;
    moi_log(&r->log, level, "%s: %s", r->path ? r->path : "data in memory", text);
}

static mo_status moi_model_file_complete(moi_model_reading *r) {
    mo_log log;
    log.write = moi_model_file_write;
    log.self = r;
    return mo_model_complete(&r->model, &log);
}

static void moi_model_reading_begin(
    moi_model_reading *r, const char *path, const mo_model_file_desc *desc) {
    memset(r, 0, sizeof *r);
    r->path = path;
    r->info.dtype = MO_DTYPE_COUNT;
    if (!desc) return;
    r->allocator = desc->allocator;
    r->log = desc->log;
}

/* ---- fields --------------------------------------------------------------------------------- */

/* The fields that count. Those from MOI_CONFIG_REAL on are no sizes. */
enum {
    MOI_CONFIG_N_LAYER,
    MOI_CONFIG_N_EMBD,
    MOI_CONFIG_N_HEAD,
    MOI_CONFIG_N_POSITIONS,
    MOI_CONFIG_N_CTX,
    MOI_CONFIG_N_INNER,
    MOI_CONFIG_VOCAB,
    MOI_CONFIG_LAYERS,
    MOI_CONFIG_HIDDEN,
    MOI_CONFIG_HEADS,
    MOI_CONFIG_KV_HEADS,
    MOI_CONFIG_HEAD_DIM,
    MOI_CONFIG_INTERMEDIATE,
    MOI_CONFIG_CONTEXT,
    MOI_CONFIG_LOCAL_EXPERTS,
    MOI_CONFIG_EXPERTS,
    MOI_CONFIG_ROUTED_EXPERTS,
    MOI_CONFIG_REAL,
    MOI_CONFIG_THETA = MOI_CONFIG_REAL,
    MOI_CONFIG_FLAG,
    MOI_CONFIG_TIE = MOI_CONFIG_FLAG,
    MOI_CONFIG_ATTENTION_BIAS,
    MOI_CONFIG_MLP_BIAS,
    MOI_CONFIG_TEXT,
    MOI_CONFIG_TYPE = MOI_CONFIG_TEXT,
    MOI_CONFIG_TORCH_DTYPE,
    MOI_CONFIG_DTYPE,
    MOI_CONFIG_COUNT
};

static const char *const moi_config_names[MOI_CONFIG_COUNT] = {"n_layer", "n_embd", "n_head",
    "n_positions", "n_ctx", "n_inner", "vocab_size", "num_hidden_layers", "hidden_size",
    "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "max_position_embeddings", "num_local_experts", "num_experts", "n_routed_experts", "rope_theta",
    "tie_word_embeddings", "attention_bias", "mlp_bias", "model_type", "torch_dtype", "dtype"};

typedef struct moi_config {
    moi_json json;
    moi_model_reading *reading;
    mo_status status; /* of a failure that has been said */
    uint64_t seen;    /* a bit for each field, also one that is null */
    uint64_t set;     /* of those that are not */
    uint64_t sizes[MOI_CONFIG_REAL];
    double theta;
    int flags[MOI_CONFIG_TEXT - MOI_CONFIG_FLAG];
    char texts[MOI_CONFIG_COUNT - MOI_CONFIG_TEXT][32];
} moi_config;

static int moi_config_fail(moi_config *c, int field, moi_json_text value, const char *wanted) {
    char text[48];
    const moi_model_reading *r = c->reading;
    c->status = moi_file_fail(&r->log, r->path, MO_E_FORMAT, "%s is %s, not %s",
        moi_config_names[field], moi_printable(value.begin, value.size, text, sizeof text), wanted);
    return 0;
}

/* Kept as far as it fits: a longer one is none of those that are known. */
static void moi_config_keep_text(char *to, size_t size, moi_json_text text) {
    const moi_json_text string = {text.begin + 1, text.size - 2};
    moi_printable(string.begin, string.size, to, size);
}

static int moi_config_value(moi_config *c, int field, moi_json_text value) {
    moi_json part;
    memset(&part, 0, sizeof part);
    part.text = value.begin;
    part.size = value.size;
    if (field < MOI_CONFIG_REAL) {
        uint64_t *n = &c->sizes[field];
        return moi_json_u64(&part, n) && moi_json_end(&part) && *n <= UINT32_MAX
            ? 1
            : moi_config_fail(c, field, value, "a whole number below 2^32");
    }
    if (field < MOI_CONFIG_FLAG)
        return moi_json_real(&part, &c->theta) && c->theta > 0
            ? 1
            : moi_config_fail(c, field, value, "a number above 0");
    if (field < MOI_CONFIG_TEXT)
        return moi_json_flag(&part, &c->flags[field - MOI_CONFIG_FLAG])
            ? 1
            : moi_config_fail(c, field, value, "true or false");
    if (*value.begin != '"') return moi_config_fail(c, field, value, "a string");
    moi_config_keep_text(c->texts[field - MOI_CONFIG_TEXT], sizeof c->texts[0], value);
    return 1;
}

static int moi_config_field(moi_config *c, moi_json_text key) {
    moi_json_text value;
    int field = 0;
    while (field < MOI_CONFIG_COUNT && !moi_json_is(key, moi_config_names[field])) field++;
    if (field == MOI_CONFIG_COUNT) return moi_json_skip(&c->json);
    if (!moi_json_value(&c->json, &value)) return 0;
    if (c->seen >> field & 1) return moi_json_fail(&c->json, "a field is there twice");
    c->seen |= UINT64_C(1) << field;
    if (value.size == 4 && memcmp(value.begin, "null", 4) == 0) return 1;
    c->set |= UINT64_C(1) << field;
    return moi_config_value(c, field, value);
}

static int moi_config_parse(moi_config *c) {
    moi_json *j = &c->json;
    moi_json_text key;
    if (!moi_json_open(j, '{')) return 0;
    for (size_t i = 0; moi_json_item(j, '}', i); i++)
        if (!moi_json_key(j, &key) || !moi_config_field(c, key)) return 0;
    return !j->error && moi_json_end(j);
}

/* ---- from fields to sizes ------------------------------------------------------------------- */

static int moi_config_has(const moi_config *c, int field) { return (int)(c->set >> field & 1); }

/* A size that has to be there. */
static size_t moi_config_need(moi_config *c, int field) {
    const moi_model_reading *r = c->reading;
    if (c->status == MO_OK && !moi_config_has(c, field))
        c->status =
            moi_file_fail(&r->log, r->path, MO_E_FORMAT, "%s is missing", moi_config_names[field]);
    else if (c->status == MO_OK && c->sizes[field] == 0)
        c->status =
            moi_file_fail(&r->log, r->path, MO_E_FORMAT, "%s is 0", moi_config_names[field]);
    return (size_t)c->sizes[field];
}

static void moi_config_gpt2(moi_config *c) {
    mo_model *m = &c->reading->model;
    const int positions =
        moi_config_has(c, MOI_CONFIG_N_POSITIONS) ? MOI_CONFIG_N_POSITIONS : MOI_CONFIG_N_CTX;
    m->arch = MO_MODEL_GPT2;
    m->layers = moi_config_need(c, MOI_CONFIG_N_LAYER);
    m->channels = moi_config_need(c, MOI_CONFIG_N_EMBD);
    m->heads = moi_config_need(c, MOI_CONFIG_N_HEAD);
    if (!moi_config_has(c, positions)) (void)moi_config_need(c, MOI_CONFIG_N_POSITIONS);
    m->positions = moi_config_need(c, positions);
    m->hidden = (size_t)c->sizes[MOI_CONFIG_N_INNER];
    m->untied_head =
        moi_config_has(c, MOI_CONFIG_TIE) && !c->flags[MOI_CONFIG_TIE - MOI_CONFIG_FLAG];
    c->reading->info.context = m->positions;
}

static void moi_config_llama(moi_config *c, const char *type) {
    moi_model_reading *r = c->reading;
    mo_model *m = &r->model;
    m->arch = MO_MODEL_LLAMA;
    m->layers = moi_config_need(c, MOI_CONFIG_LAYERS);
    m->channels = moi_config_need(c, MOI_CONFIG_HIDDEN);
    m->heads = moi_config_need(c, MOI_CONFIG_HEADS);
    m->hidden = moi_config_need(c, MOI_CONFIG_INTERMEDIATE);
    m->kv_heads = (size_t)c->sizes[MOI_CONFIG_KV_HEADS];
    if (!moi_config_has(c, MOI_CONFIG_KV_HEADS) && strcmp(type, "mistral") == 0) m->kv_heads = 8;
    m->head_size = (size_t)c->sizes[MOI_CONFIG_HEAD_DIM];
    m->untied_head = !c->flags[MOI_CONFIG_TIE - MOI_CONFIG_FLAG];
    const int bias = c->flags[MOI_CONFIG_ATTENTION_BIAS - MOI_CONFIG_FLAG];
    m->qkv_bias = bias || strcmp(type, "qwen2") == 0;
    if (bias && strcmp(type, "qwen2") != 0)
        moi_log(&r->log, MO_LOG_WARN,
            "%s: attention_bias is true: the biases of output projections are not counted",
            r->path ? r->path : "data in memory");
    if (c->status == MO_OK && c->flags[MOI_CONFIG_MLP_BIAS - MOI_CONFIG_FLAG])
        c->status = moi_file_fail(&r->log, r->path, MO_E_UNSUPPORTED,
            "mlp_bias is true: biases of the MLP are not supported");
    r->info.context = (size_t)c->sizes[MOI_CONFIG_CONTEXT];
    r->info.rope_theta = c->theta;
}

/* More than one expert under any of the names that are in use. */
static void moi_config_check_experts(moi_config *c, const char *type) {
    const moi_model_reading *r = c->reading;
    for (int i = MOI_CONFIG_LOCAL_EXPERTS; i <= MOI_CONFIG_ROUTED_EXPERTS; i++)
        if (c->status == MO_OK && c->sizes[i] > 1)
            c->status = moi_file_fail(&r->log, r->path, MO_E_UNSUPPORTED,
                "model_type '%s' with %s of %llu: mixtures of experts are not supported", type,
                moi_config_names[i], (unsigned long long)c->sizes[i]);
}

static mo_dtype moi_config_dtype(const moi_config *c) {
    static const char *const names[] = {"float32", "float16", "bfloat16"};
    static const mo_dtype types[] = {MO_DTYPE_F32, MO_DTYPE_F16, MO_DTYPE_BF16};
    const char *text = c->texts[MOI_CONFIG_TORCH_DTYPE - MOI_CONFIG_TEXT];
    if (!*text) text = c->texts[MOI_CONFIG_DTYPE - MOI_CONFIG_TEXT];
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) return types[i];
    return MO_DTYPE_COUNT;
}

static mo_status moi_config_finish(moi_config *c) {
    moi_model_reading *r = c->reading;
    const char *type = c->texts[MOI_CONFIG_TYPE - MOI_CONFIG_TEXT];
    if (!*type) return moi_file_fail(&r->log, r->path, MO_E_FORMAT, "model_type is missing");
    moi_config_check_experts(c, type);
    if (c->status != MO_OK) return c->status;
    if (strcmp(type, "gpt2") == 0) moi_config_gpt2(c);
    else if (strcmp(type, "llama") == 0 || strcmp(type, "mistral") == 0 ||
        strcmp(type, "qwen2") == 0)
        moi_config_llama(c, type);
    else
        return moi_file_fail(&r->log, r->path, MO_E_UNSUPPORTED,
            "model_type '%s' is not supported: gpt2, llama, mistral and qwen2 are", type);
    r->model.vocab = moi_config_need(c, MOI_CONFIG_VOCAB);
    if (c->status != MO_OK) return c->status;
    r->info.format = MO_MODEL_FILE_CONFIG;
    r->info.dtype = moi_config_dtype(c);
    memcpy(r->info.kind, type, sizeof r->info.kind);
    return moi_model_file_complete(r);
}

static mo_status moi_config_read(moi_model_reading *r, const char *text, size_t size) {
    moi_config c;
    memset(&c, 0, sizeof c);
    c.reading = r;
    c.json.text = text;
    c.json.size = size;
    if (moi_utf8_prefix(text, size) < size)
        return moi_file_fail(&r->log, r->path, MO_E_FORMAT, "not UTF-8");
    if (moi_config_parse(&c)) return moi_config_finish(&c);
    if (c.status != MO_OK) return c.status;
    return moi_file_fail(&r->log, r->path, MO_E_FORMAT, "byte %llu: %s",
        (unsigned long long)c.json.at, c.json.error);
}

mo_status mo_model_read_config(mo_model *model, mo_model_file_info *info, const char *text,
    size_t size, const mo_model_file_desc *desc) {
    moi_model_reading r;
    if (!model || !text) return MO_E_INVALID;
    moi_model_reading_begin(&r, NULL, desc);
    const mo_status status = moi_config_read(&r, text, size);
    if (status != MO_OK) return status;
    *model = r.model;
    if (info) *info = r.info;
    return MO_OK;
}
