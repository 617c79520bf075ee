/* mo_model.c - see mo_model.h. */

static const size_t moi_model_most = (size_t)1 << 40; /* products of three stay within doubles */

static mo_status moi_model_refuse(const mo_log *log, const char *field, size_t value) {
    moi_log(log, MO_LOG_ERROR, "model: %s is %zu", field, value);
    return MO_E_INVALID;
}

/* Sizes that have no default, and those which do. */
static mo_status moi_model_check_sizes(const mo_model *m, const mo_log *log) {
    const struct {
        const char *name;
        size_t value;
        int needed;
    } fields[] = {{"layers", m->layers, 1}, {"channels", m->channels, 1}, {"heads", m->heads, 1},
        {"vocab", m->vocab, 1}, {"positions", m->positions, m->arch == MO_MODEL_GPT2},
        {"share", m->share, 0}, {"kv_heads", m->kv_heads, 0}, {"head_size", m->head_size, 0},
        {"hidden", m->hidden, 0}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if ((fields[i].needed && fields[i].value == 0) || fields[i].value > moi_model_most)
            return moi_model_refuse(log, fields[i].name, fields[i].value);
    return MO_OK;
}

static mo_status moi_model_divides(
    const mo_log *log, const char *field, size_t part, const char *of, size_t whole) {
    if (whole % part == 0) return MO_OK;
    moi_log(log, MO_LOG_ERROR, "model: %s of %zu do not divide %s of %zu", field, part, of, whole);
    return MO_E_INVALID;
}

size_t mo_model_default_hidden(mo_model_arch arch, size_t channels) {
    return arch == MO_MODEL_LLAMA ? (8 * channels / 3 + 31) / 32 * 32 : 4 * channels;
}

mo_status mo_model_complete(mo_model *model, const mo_log *log) {
    if (!model || model->arch < MO_MODEL_GPT2 || model->arch >= MO_MODEL_ARCH_COUNT)
        return MO_E_INVALID;
    mo_model m = *model;
    mo_status status = moi_model_check_sizes(&m, log);
    if (status == MO_OK && m.head_size == 0)
        status = moi_model_divides(log, "heads", m.heads, "channels", m.channels);
    if (status != MO_OK) return status;
    if (m.share == 0) m.share = 1;
    if (m.kv_heads == 0) m.kv_heads = m.heads;
    if (m.head_size == 0) m.head_size = m.channels / m.heads;
    if (m.hidden == 0) m.hidden = mo_model_default_hidden(m.arch, m.channels);
    status = moi_model_divides(log, "kv_heads", m.kv_heads, "heads", m.heads);
    if (status == MO_OK) status = moi_model_divides(log, "share", m.share, "layers", m.layers);
    if (status != MO_OK) return status;
    if (m.arch == MO_MODEL_LLAMA && m.head_size % 2 != 0)
        return moi_model_refuse(
            log, "head_size, which rotary positions need to be even,", m.head_size);
    *model = m;
    return MO_OK;
}

/* ---- counting ------------------------------------------------------------------------------- */

/* A sum of products that says when it has not fitted. */
typedef struct moi_model_sum {
    uint64_t n;
    int failed;
} moi_model_sum;

static void moi_model_add(moi_model_sum *s, uint64_t rows, uint64_t columns) {
    if (columns != 0 && rows > (UINT64_MAX - s->n) / columns) s->failed = 1;
    else s->n += rows * columns;
}

/* Of one block: matrices, norms, biases. */
static void moi_model_add_block(moi_model_sum *s, const mo_model *m) {
    const uint64_t h = m->channels, f = m->hidden, q = (uint64_t)m->heads * m->head_size;
    const uint64_t qkv = q + 2 * (uint64_t)m->kv_heads * m->head_size;
    const int llama = m->arch == MO_MODEL_LLAMA;
    moi_model_add(s, h, qkv);
    moi_model_add(s, q, h);
    moi_model_add(s, h, llama ? 3 * f : 2 * f);
    moi_model_add(s, 2, h);
    if (!llama || m->qkv_bias) moi_model_add(s, 1, qkv);
    if (!llama) moi_model_add(s, 1, 4 * h + f);
}

uint64_t mo_model_count(const mo_model *m) {
    moi_model_sum sum = {0, 0}, block = {0, 0};
    if (!m || m->share == 0 || m->head_size == 0) return 0;
    const int llama = m->arch == MO_MODEL_LLAMA;
    moi_model_add(&sum, m->vocab, (uint64_t)m->channels * (m->untied_head ? 2 : 1));
    if (!llama) moi_model_add(&sum, m->positions, m->channels);
    moi_model_add(&sum, llama ? 1 : 2, m->channels);
    moi_model_add_block(&block, m);
    moi_model_add(&sum, m->layers / m->share, block.n);
    return sum.failed || block.failed ? 0 : sum.n;
}
