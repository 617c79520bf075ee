/* mo_model_file.c - see mo_model_file.h; config.json itself is read by mo_model_config.c. */

enum { MOI_MODEL_NAME_SIZE = 128, MOI_MODEL_HEAD_SIZE = 64, MOI_MODEL_LAYERS_MOST = 1 << 20 };

/* ---- tensors of any format ------------------------------------------------------------------ */

typedef struct moi_model_tensors {
    moi_model_reading *reading;
    mo_model_file_format format;
    mo_safetensors st;
    mo_safetensors_shards shards;
    mo_gguf gguf;
    const char *prefix; /* before GPT-2's names; of Llama's kind it is part of them */
} moi_model_tensors;

/* A tensor as it lies in its file; dims has the slowest dimension first. */
typedef struct moi_model_tensor {
    const char *type;
    size_t n_dims;
    uint64_t dims[2]; /* the last two */
    uint64_t numbers, bytes;
} moi_model_tensor;

static void moi_model_tensor_st(moi_model_tensor *t, const mo_safetensors_entry *e) {
    memset(t, 0, sizeof *t);
    t->type = mo_dtype_name(e->dtype);
    t->n_dims = e->n_dims;
    t->bytes = e->end - e->begin;
    t->numbers = 1;
    for (size_t i = 0; i < e->n_dims; i++) t->numbers *= e->shape[i]; /* the reader's check */
    for (size_t i = 0; i < moi_min(e->n_dims, 2); i++)
        t->dims[i] = e->shape[i + (e->n_dims > 2 ? e->n_dims - 2 : 0)];
}

static void moi_model_tensor_gguf(moi_model_tensor *t, const mo_gguf_entry *e) {
    memset(t, 0, sizeof *t);
    t->type = mo_gguf_type_name(e->type);
    t->n_dims = e->n_dims;
    t->bytes = e->end - e->begin;
    t->numbers = mo_gguf_elements(e);
    t->dims[0] = e->n_dims > 1 ? e->shape[1] : e->shape[0];
    t->dims[1] = e->n_dims > 1 ? e->shape[0] : 0;
}

static size_t moi_model_tensors_n(const moi_model_tensors *f) {
    if (f->format == MO_MODEL_FILE_GGUF) return f->gguf.n;
    return f->format == MO_MODEL_FILE_SHARDS ? f->shards.n : f->st.n;
}

static void moi_model_tensors_get(const moi_model_tensors *f, size_t i, moi_model_tensor *t) {
    if (f->format == MO_MODEL_FILE_GGUF) moi_model_tensor_gguf(t, &f->gguf.entries[i]);
    else if (f->format == MO_MODEL_FILE_SHARDS) moi_model_tensor_st(t, f->shards.entries[i].entry);
    else moi_model_tensor_st(t, &f->st.entries[i]);
}

/* Whether there is one of that name; t may be NULL. */
static int moi_model_tensors_find(
    const moi_model_tensors *f, const char *name, moi_model_tensor *t) {
    moi_model_tensor none;
    if (!t) t = &none;
    if (f->format == MO_MODEL_FILE_GGUF) {
        const mo_gguf_entry *e = mo_gguf_find(&f->gguf, name);
        if (e) moi_model_tensor_gguf(t, e);
        return e != NULL;
    }
    const mo_safetensors_entry *e = NULL;
    if (f->format == MO_MODEL_FILE_SHARDS) {
        const mo_safetensors_shards_entry *s = mo_safetensors_shards_find(&f->shards, name);
        if (s) e = s->entry;
    } else e = mo_safetensors_find(&f->st, name);
    if (e) moi_model_tensor_st(t, e);
    return e != NULL;
}

static mo_status moi_model_tensors_open(moi_model_tensors *f, const char *path) {
    const moi_model_reading *r = f->reading;
    mo_safetensors_desc desc;
    mo_gguf_desc gguf;
    desc.allocator = r->allocator;
    desc.log = r->log;
    if (f->format == MO_MODEL_FILE_SHARDS)
        return mo_safetensors_shards_open(&f->shards, path, &desc);
    if (f->format == MO_MODEL_FILE_SAFETENSORS) return mo_safetensors_open(&f->st, path, &desc);
    memset(&gguf, 0, sizeof gguf);
    gguf.allocator = r->allocator;
    gguf.log = r->log;
    return mo_gguf_open(&f->gguf, path, &gguf);
}

static void moi_model_tensors_close(moi_model_tensors *f) {
    mo_safetensors_shards_close(&f->shards);
    mo_safetensors_close(&f->st);
    mo_gguf_close(&f->gguf);
}

/* Types in the order in which they come. There are fewer of them than there is room. */
static void moi_model_tensors_count(const moi_model_tensors *f, mo_model_file_info *info) {
    const size_t n = moi_model_tensors_n(f);
    for (size_t i = 0; i < n; i++) {
        moi_model_tensor t;
        size_t k = 0;
        moi_model_tensors_get(f, i, &t);
        while (k < info->n_types && strcmp(info->types[k].name, t.type) != 0) k++;
        if (k == MO_MODEL_FILE_TYPES) continue;
        if (k == info->n_types) info->types[info->n_types++].name = t.type;
        info->types[k].n_tensors++;
        info->types[k].numbers += t.numbers;
        info->types[k].bytes += t.bytes;
        info->numbers += t.numbers;
        info->bytes += t.bytes;
    }
}

/* ---- sizes of shapes ------------------------------------------------------------------------ */

static mo_status moi_model_need(
    const moi_model_tensors *f, const char *name, size_t n_dims, moi_model_tensor *t) {
    const moi_model_reading *r = f->reading;
    if (!moi_model_tensors_find(f, name, t))
        return moi_file_fail(&r->log, r->path, MO_E_FORMAT, "tensor '%s' is missing", name);
    if (t->n_dims != n_dims || t->numbers == 0 || t->dims[0] > moi_model_most ||
        t->dims[1] > moi_model_most)
        return moi_file_fail(&r->log, r->path, MO_E_FORMAT,
            "tensor '%s' has %llu dimensions and %llu numbers, not a shape that fits", name,
            (unsigned long long)t->n_dims, (unsigned long long)t->numbers);
    return MO_OK;
}

/* "h.0.ln_1.weight" and the like, with what stands before it. */
static const char *moi_model_block_name(
    const moi_model_tensors *f, size_t layer, const char *part, char *name) {
    const size_t n = strlen(f->prefix);
    memcpy(name, f->prefix, n);
    mo_model_block_name(
        mo_model_layout_of(&f->reading->model), layer, part, name + n, MOI_MODEL_NAME_SIZE - n);
    return name;
}

static size_t moi_model_count_layers(const moi_model_tensors *f, const char *part) {
    char name[MOI_MODEL_NAME_SIZE];
    size_t n = 0;
    while (n < MOI_MODEL_LAYERS_MOST &&
        moi_model_tensors_find(f, moi_model_block_name(f, n, part, name), NULL))
        n++;
    return n;
}

/* A number in the metadata of a file of train_gpt; 0 where it is not there. */
static mo_status moi_model_metadata(const moi_model_tensors *f, const char *key, size_t *number) {
    const moi_model_reading *r = f->reading;
    char shown[MOI_ST_NAME_SIZE];
    moi_json j;
    uint64_t value = 0;
    *number = 0;
    if (f->format != MO_MODEL_FILE_SAFETENSORS) return MO_OK;
    const char *text = mo_safetensors_metadata(&f->st, key);
    if (!text) return MO_OK;
    memset(&j, 0, sizeof j);
    j.text = text;
    j.size = strlen(text);
    if (!moi_json_u64(&j, &value) || !moi_json_end(&j) || value == 0 || value > moi_model_most)
        return moi_file_fail(&r->log, r->path, MO_E_FORMAT, "metadata '%s' is '%s', not a size",
            key, moi_st_printable_name(text, shown));
    *number = (size_t)value;
    return MO_OK;
}

/* Heads, which no shape tells: the metadata, else a guess. rows: of the matrix of queries. */
static mo_status moi_model_heads(moi_model_tensors *f, uint64_t rows) {
    moi_model_reading *r = f->reading;
    mo_status status = moi_model_metadata(f, "memopt.heads", &r->model.heads);
    if (status != MO_OK || r->model.heads != 0) return status;
    r->model.heads = rows % MOI_MODEL_HEAD_SIZE == 0 ? (size_t)(rows / MOI_MODEL_HEAD_SIZE) : 1;
    r->info.heads_unsure = 1;
    moi_log(&r->log, MO_LOG_WARN,
        "%s: heads are not in the file: taken as %zu of %llu channels (a config.json beside it "
        "says "
        "them)",
        r->path, r->model.heads, (unsigned long long)rows / r->model.heads);
    return MO_OK;
}

static mo_status moi_model_read_gpt2(moi_model_tensors *f) {
    mo_model *m = &f->reading->model;
    char name[MOI_MODEL_NAME_SIZE];
    moi_model_tensor positions, mlp;
    snprintf(name, sizeof name, "%swpe.weight", f->prefix);
    mo_status status = moi_model_need(f, name, 2, &positions);
    if (status != MO_OK) return status;
    moi_model_block_name(f, 0, "mlp.c_fc.weight", name);
    status = moi_model_need(f, name, 2, &mlp);
    if (status != MO_OK) return status;
    m->positions = f->reading->info.context = (size_t)positions.dims[0];
    m->hidden = (size_t)mlp.dims[1];
    m->layers = moi_model_count_layers(f, "mlp.c_fc.weight");
    return moi_model_heads(f, m->channels);
}

static mo_status moi_model_kv_heads(moi_model_tensors *f, uint64_t q_rows, uint64_t k_rows) {
    const moi_model_reading *r = f->reading;
    mo_model *m = &f->reading->model;
    if (q_rows % m->heads == 0) m->head_size = (size_t)(q_rows / m->heads);
    if (m->head_size == 0 || k_rows % m->head_size != 0)
        return moi_file_fail(&r->log, r->path, MO_E_FORMAT,
            "%llu channels of queries and %llu of keys are no heads of the %zu that there are",
            (unsigned long long)q_rows, (unsigned long long)k_rows, m->heads);
    m->kv_heads = (size_t)(k_rows / m->head_size);
    return MO_OK;
}

static mo_status moi_model_read_llama(moi_model_tensors *f) {
    const moi_model_reading *r = f->reading;
    mo_model *m = &f->reading->model;
    char name[MOI_MODEL_NAME_SIZE];
    moi_model_tensor q, k, gate;
    if (moi_model_tensors_find(f, "model.layers.0.mlp.gate.weight", NULL) ||
        moi_model_tensors_find(f, "model.layers.0.block_sparse_moe.gate.weight", NULL))
        return moi_file_fail(&r->log, r->path, MO_E_UNSUPPORTED,
            "tensors of a mixture of experts: they are not supported");
    mo_status status =
        moi_model_need(f, moi_model_block_name(f, 0, "mlp.gate_proj.weight", name), 2, &gate);
    if (status == MO_OK)
        status =
            moi_model_need(f, moi_model_block_name(f, 0, "self_attn.q_proj.weight", name), 2, &q);
    if (status == MO_OK)
        status =
            moi_model_need(f, moi_model_block_name(f, 0, "self_attn.k_proj.weight", name), 2, &k);
    if (status == MO_OK) status = moi_model_heads(f, q.dims[0]);
    if (status != MO_OK) return status;
    m->hidden = (size_t)gate.dims[0];
    m->layers = moi_model_count_layers(f, "mlp.gate_proj.weight");
    m->qkv_bias =
        moi_model_tensors_find(f, moi_model_block_name(f, 0, "self_attn.q_proj.bias", name), NULL);
    return moi_model_kv_heads(f, q.dims[0], k.dims[0]);
}

/* The sizes of safetensors, whose names say the architecture. */
static mo_status moi_model_read_shapes(moi_model_tensors *f) {
    moi_model_reading *r = f->reading;
    moi_model_tensor embedding;
    size_t share = 0;
    const int llama = moi_model_tensors_find(f, "model.embed_tokens.weight", NULL);
    f->prefix = moi_model_tensors_find(f, "transformer.wte.weight", NULL) ? "transformer." : "";
    mo_status status = moi_model_need(f,
        llama            ? "model.embed_tokens.weight"
            : *f->prefix ? "transformer.wte.weight"
                         : "wte.weight",
        2, &embedding);
    if (status != MO_OK) return status;
    r->model.arch = llama ? MO_MODEL_LLAMA : MO_MODEL_GPT2;
    r->model.vocab = (size_t)embedding.dims[0];
    r->model.channels = (size_t)embedding.dims[1];
    r->model.untied_head = moi_model_tensors_find(f, "lm_head.weight", NULL);
    snprintf(r->info.kind, sizeof r->info.kind, "%s", llama ? "llama" : "gpt2");
    status = llama ? moi_model_read_llama(f) : moi_model_read_gpt2(f);
    if (status == MO_OK) status = moi_model_metadata(f, "memopt.share", &share);
    if (status != MO_OK) return status;
    r->model.share = share;
    if (share > 1 && share <= moi_model_most / r->model.layers) r->model.layers *= share;
    return moi_model_file_complete(r);
}

/* What a config.json says has to be what the tensors are. */
static mo_status moi_model_check_shapes(moi_model_tensors *f) {
    const moi_model_reading *r = f->reading;
    const mo_model *m = &r->model;
    char name[MOI_MODEL_NAME_SIZE];
    const int llama = m->arch == MO_MODEL_LLAMA;
    moi_model_tensor embedding;
    f->prefix = moi_model_tensors_find(f, "transformer.wte.weight", NULL) ? "transformer." : "";
    if (llama) snprintf(name, sizeof name, "model.embed_tokens.weight");
    else snprintf(name, sizeof name, "%swte.weight", f->prefix);
    const mo_status status = moi_model_need(f, name, 2, &embedding);
    if (status != MO_OK) return status;
    if (embedding.dims[0] != m->vocab || embedding.dims[1] != m->channels)
        return moi_file_fail(&r->log, r->path, MO_E_FORMAT,
            "tensor '%s' is [%llu, %llu], but config.json has [%zu, %zu]", name,
            (unsigned long long)embedding.dims[0], (unsigned long long)embedding.dims[1], m->vocab,
            m->channels);
    const size_t layers =
        moi_model_count_layers(f, llama ? "mlp.down_proj.weight" : "mlp.c_fc.weight");
    if (layers != m->layers)
        return moi_file_fail(&r->log, r->path, MO_E_FORMAT,
            "tensors of %zu layers, but config.json has %zu", layers, m->layers);
    return MO_OK;
}

/* ---- GGUF ----------------------------------------------------------------------------------- */

/* The size under "ARCHITECTURE.name"; a missing one is 0, or an error. */
static void moi_model_gguf_size(
    const moi_model_tensors *f, const char *name, int needed, size_t *size, mo_status *status) {
    const moi_model_reading *r = f->reading;
    char key[MOI_MODEL_NAME_SIZE];
    uint64_t value = 0;
    if (*status != MO_OK) return;
    snprintf(key, sizeof key, "%s.%s", r->info.kind, name);
    *status = mo_gguf_u64(&f->gguf, key, &value);
    if (*status == MO_E_NOT_FOUND && !needed) *status = MO_OK;
    else if (*status == MO_E_NOT_FOUND)
        *status = moi_file_fail(&r->log, r->path, MO_E_FORMAT, "key '%s' is missing", key);
    else if (*status == MO_OK && (value > moi_model_most || (needed && value == 0)))
        *status = moi_file_fail(&r->log, r->path, MO_E_FORMAT, "key '%s' is %llu, not a size", key,
            (unsigned long long)value);
    if (*status == MO_OK) *size = (size_t)value;
}

static mo_status moi_model_gguf_keys(moi_model_tensors *f) {
    moi_model_reading *r = f->reading;
    mo_model *m = &r->model;
    mo_status status = MO_OK;
    char key[MOI_MODEL_NAME_SIZE];
    size_t experts = 0;
    moi_model_gguf_size(f, "expert_count", 0, &experts, &status);
    if (status == MO_OK && experts > 1)
        return moi_file_fail(&r->log, r->path, MO_E_UNSUPPORTED,
            "architecture '%s' with %zu experts: mixtures of experts are not supported",
            r->info.kind, experts);
    moi_model_gguf_size(f, "block_count", 1, &m->layers, &status);
    moi_model_gguf_size(f, "embedding_length", 1, &m->channels, &status);
    moi_model_gguf_size(f, "feed_forward_length", 1, &m->hidden, &status);
    moi_model_gguf_size(f, "attention.head_count", 1, &m->heads, &status);
    moi_model_gguf_size(f, "attention.head_count_kv", 0, &m->kv_heads, &status);
    moi_model_gguf_size(f, "attention.key_length", 0, &m->head_size, &status);
    moi_model_gguf_size(f, "context_length", 0, &r->info.context, &status);
    if (status != MO_OK) return status;
    snprintf(key, sizeof key, "%s.rope.freq_base", r->info.kind);
    if (mo_gguf_find_key(&f->gguf, key)) status = mo_gguf_f64(&f->gguf, key, &r->info.rope_theta);
    return status;
}

static mo_status moi_model_read_gguf(moi_model_tensors *f) {
    moi_model_reading *r = f->reading;
    mo_model *m = &r->model;
    moi_model_tensor t;
    const char *architecture = mo_gguf_string(&f->gguf, "general.architecture");
    if (!architecture)
        return moi_file_fail(&r->log, r->path, MO_E_FORMAT, "general.architecture is missing");
    moi_printable(architecture, strlen(architecture), r->info.kind, sizeof r->info.kind);
    const int gpt2 = strcmp(architecture, "gpt2") == 0;
    if (!gpt2 && strcmp(architecture, "llama") != 0 && strcmp(architecture, "qwen2") != 0)
        return moi_file_fail(&r->log, r->path, MO_E_UNSUPPORTED,
            "architecture '%s' is not supported: gpt2, llama and qwen2 are", r->info.kind);
    m->arch = gpt2 ? MO_MODEL_GPT2 : MO_MODEL_LLAMA;
    mo_status status = moi_model_gguf_keys(f);
    if (status == MO_OK) status = moi_model_need(f, "token_embd.weight", 2, &t);
    if (status != MO_OK) return status;
    m->vocab = (size_t)t.dims[0];
    if (t.dims[1] != m->channels)
        return moi_file_fail(&r->log, r->path, MO_E_FORMAT,
            "tensor 'token_embd.weight' has rows of %llu, but embedding_length is %zu",
            (unsigned long long)t.dims[1], m->channels);
    m->untied_head = moi_model_tensors_find(f, "output.weight", NULL);
    m->qkv_bias = !gpt2 && moi_model_tensors_find(f, "blk.0.attn_q.bias", NULL);
    if (gpt2) {
        status = moi_model_need(f, "position_embd.weight", 2, &t);
        if (status != MO_OK) return status;
        m->positions = (size_t)t.dims[0];
    }
    return moi_model_file_complete(r);
}

/* ---- files and folders ---------------------------------------------------------------------- */

static int moi_model_ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

/* Whether a file begins with GGUF's magic; what cannot be read is left to who reads it next. */
static int moi_model_is_gguf(const char *path) {
    intptr_t file;
    uint64_t size = 0;
    char magic[4] = {0, 0, 0, 0};
    if (moi_file_open(path, &file, &size)) return 0;
    const int read = size >= sizeof magic && moi_file_read(file, 0, magic, sizeof magic) == 0;
    moi_file_close(file);
    return read && memcmp(magic, "GGUF", sizeof magic) == 0;
}

static mo_model_file_format moi_model_file_format_of(const char *path) {
    if (moi_model_is_gguf(path)) return MO_MODEL_FILE_GGUF;
    if (moi_model_ends_with(path, ".index.json")) return MO_MODEL_FILE_SHARDS;
    return moi_model_ends_with(path, ".json") ? MO_MODEL_FILE_CONFIG : MO_MODEL_FILE_SAFETENSORS;
}

/* name in the folder that the first n bytes of path are; 1 where it is a file, 0 where not. */
static int moi_model_beside(const char *path, size_t n, const char *name, char *found) {
    intptr_t file;
    uint64_t size;
    const size_t slash = n > 0 && path[n - 1] != '/', n_name = strlen(name) + 1;
    if (n >= MOI_FILE_PATH_SIZE || n + slash + n_name > MOI_FILE_PATH_SIZE) return 0;
    memcpy(found, path, n);
    found[n] = '/';
    memcpy(found + n + slash, name, n_name);
    if (moi_file_open(found, &file, &size)) return 0;
    moi_file_close(file);
    return 1;
}

static mo_status moi_model_read_text(moi_model_reading *r, const char *path) {
    char *text = NULL;
    size_t size = 0;
    mo_status status = moi_input_text(path, &r->allocator, &r->log, &text, &size);
    r->path = path;
    if (status == MO_OK) status = moi_config_read(r, text, size);
    moi_free_array(&r->allocator, text, size, 1);
    return status;
}

/* Weights at path; config: a config.json that has the sizes, NULL = the tensors have them. */
static mo_status moi_model_read_weights(
    moi_model_reading *r, const char *path, mo_model_file_format format, const char *config) {
    moi_model_tensors f;
    mo_status status = config ? moi_model_read_text(r, config) : MO_OK;
    if (status != MO_OK) return status;
    memset(&f, 0, sizeof f);
    f.reading = r;
    f.format = format;
    f.prefix = "";
    r->path = path;
    r->info.format = format;
    status = moi_model_tensors_open(&f, path);
    if (status == MO_OK && format == MO_MODEL_FILE_GGUF) status = moi_model_read_gguf(&f);
    else if (status == MO_OK)
        status = config ? moi_model_check_shapes(&f) : moi_model_read_shapes(&f);
    if (status == MO_OK) moi_model_tensors_count(&f, &r->info);
    moi_model_tensors_close(&f);
    return status;
}

static mo_status moi_model_read_folder(moi_model_reading *r, const char *path) {
    char config[MOI_FILE_PATH_SIZE], weights[MOI_FILE_PATH_SIZE];
    const size_t n = strlen(path);
    const int has_config = moi_model_beside(path, n, "config.json", config);
    if (moi_model_beside(path, n, "model.safetensors.index.json", weights))
        return moi_model_read_weights(r, weights, MO_MODEL_FILE_SHARDS, has_config ? config : NULL);
    if (moi_model_beside(path, n, "model.safetensors", weights))
        return moi_model_read_weights(
            r, weights, MO_MODEL_FILE_SAFETENSORS, has_config ? config : NULL);
    if (has_config) return moi_model_read_text(r, config);
    return moi_file_fail(&r->log, path, MO_E_NOT_FOUND,
        "neither config.json nor model.safetensors.index.json nor model.safetensors in it");
}

static mo_status moi_model_read_file(moi_model_reading *r, const char *path) {
    char config[MOI_FILE_PATH_SIZE];
    const mo_model_file_format format = moi_model_file_format_of(path);
    if (format == MO_MODEL_FILE_CONFIG) return moi_model_read_text(r, path);
    const int has_config = format != MO_MODEL_FILE_GGUF &&
        moi_model_beside(path, moi_file_folder(path), "config.json", config);
    return moi_model_read_weights(r, path, format, has_config ? config : NULL);
}

mo_status mo_model_read(
    mo_model *model, mo_model_file_info *info, const char *path, const mo_model_file_desc *desc) {
    moi_model_reading r;
    if (!model || !path) return MO_E_INVALID;
    moi_model_reading_begin(&r, path, desc);
    const mo_status status =
        moi_file_is_folder(path) ? moi_model_read_folder(&r, path) : moi_model_read_file(&r, path);
    if (status != MO_OK) return status;
    *model = r.model;
    if (info) *info = r.info;
    return MO_OK;
}
