/* mo_footprint.c - see mo_footprint.h. */

enum {
    MOI_FOOTPRINT_CODED = 4096, /* smaller tensors keep fp32 states */
    MOI_FOOTPRINT_NF4_BLOCK = 64,
    MOI_FOOTPRINT_NESTED_BLOCK = 256,
    MOI_FOOTPRINT_8BIT_BLOCK = 256,
    MOI_FOOTPRINT_4BIT_BLOCK = 128
};

/* One estimate while it is made. */
typedef struct moi_footprint {
    const mo_model *m;
    mo_footprint_desc d; /* complete */
    mo_footprint f;
    uint64_t h, q, k, hidden, wide; /* widths; wide: m f */
    uint64_t tokens, e;             /* s b; bytes of compute */
    size_t temporary;               /* from this line on they take turns with logits */
    int failed;                     /* something did not fit 64 bits */
} moi_footprint;

typedef unsigned long long moi_footprint_n; /* for printf */

static uint64_t moi_footprint_mul(moi_footprint *x, uint64_t a, uint64_t b) {
    if (a != 0 && b > UINT64_MAX / a) x->failed = 1;
    return a * b;
}

static uint64_t moi_footprint_add(moi_footprint *x, uint64_t a, uint64_t b) {
    if (b > UINT64_MAX - a) x->failed = 1;
    return a + b;
}

static uint64_t moi_footprint_up(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }

/* A line with its formula so far, to be counted. */
static mo_footprint_line *moi_footprint_line(
    mo_footprint *f, const char *name, uint64_t bytes, const char *format, va_list args) {
    mo_footprint_line *line = &f->lines[f->n++];
    line->name = name;
    line->bytes = bytes;
    vsnprintf(line->formula, sizeof line->formula, format, args);
    return line;
}

MOI_PRINTF(4)
static mo_footprint_line *moi_footprint_put(
    moi_footprint *x, const char *name, uint64_t bytes, const char *format, ...) {
    va_list args;
    va_start(args, format);
    mo_footprint_line *line = moi_footprint_line(&x->f, name, bytes, format, args);
    va_end(args);
    return line;
}

/* What a stage of ZeRO splits over the devices. */
static void moi_footprint_split(moi_footprint *x, mo_footprint_line *line, int is_split) {
    const size_t n = strlen(line->formula);
    if (!is_split || x->d.devices == 1) return;
    line->bytes = moi_footprint_up(line->bytes, x->d.devices);
    snprintf(line->formula + n, sizeof line->formula - n, ", / %llu devices",
        (moi_footprint_n)x->d.devices);
}

/* ---- formats -------------------------------------------------------------------------------- */

static const char *const moi_footprint_formats[MO_FOOTPRINT_FORMAT_COUNT] = {
    "default", "f32", "bf16", "f16", "int8", "nf4", "nf4-plain", "gguf"};

const char *mo_footprint_format_name(mo_footprint_format format) {
    return format > MO_FOOTPRINT_DEFAULT && format < MO_FOOTPRINT_FORMAT_COUNT
        ? moi_footprint_formats[format]
        : "?";
}

mo_footprint_format mo_footprint_format_find(const char *name, mo_gguf_type *gguf) {
    char upper[32];
    size_t n = 0;
    if (!name) return MO_FOOTPRINT_FORMAT_COUNT;
    for (int i = MO_FOOTPRINT_F32; i < MO_FOOTPRINT_GGUF; i++)
        if (strcmp(name, moi_footprint_formats[i]) == 0) return (mo_footprint_format)i;
    for (; name[n] && n + 1 < sizeof upper; n++)
        upper[n] = (char)(name[n] >= 'a' && name[n] <= 'z' ? name[n] - 'a' + 'A' : name[n]);
    upper[n] = '\0';
    const mo_gguf_type type = mo_gguf_type_find(upper);
    if (name[n] || type == MO_GGUF_TYPE_COUNT) return MO_FOOTPRINT_FORMAT_COUNT;
    if (gguf) *gguf = type;
    return MO_FOOTPRINT_GGUF;
}

static int moi_footprint_is_float(mo_footprint_format format) {
    return format >= MO_FOOTPRINT_F32 && format <= MO_FOOTPRINT_F16;
}

/* The name of the weights' format, of GGUF's the type's. */
static const char *moi_footprint_weights_name(const moi_footprint *x) {
    return x->d.weights == MO_FOOTPRINT_GGUF ? mo_gguf_type_name(x->d.gguf)
                                             : mo_footprint_format_name(x->d.weights);
}

static uint64_t moi_footprint_width(mo_footprint_format format) {
    return format == MO_FOOTPRINT_F32 ? 4 : format == MO_FOOTPRINT_INT8 ? 1 : 2;
}

static uint64_t moi_footprint_bytes(
    moi_footprint *x, mo_footprint_format format, uint64_t n, uint64_t rows) {
    const uint64_t blocks = moi_footprint_up(n, MOI_FOOTPRINT_NF4_BLOCK);
    const mo_gguf_type type = x->d.gguf;
    switch (format) {
    case MO_FOOTPRINT_INT8: return n + 4 * rows;
    case MO_FOOTPRINT_NF4:
        return moi_footprint_up(n, 2) + blocks +
            4 * moi_footprint_up(blocks, MOI_FOOTPRINT_NESTED_BLOCK);
    case MO_FOOTPRINT_NF4_PLAIN: return moi_footprint_up(n, 2) + 4 * blocks;
    case MO_FOOTPRINT_GGUF:
        return moi_footprint_mul(
            x, moi_footprint_up(n, mo_gguf_type_block(type)), mo_gguf_type_bytes(type));
    default: return moi_footprint_mul(x, n, moi_footprint_width(format));
    }
}

/* ---- tensors -------------------------------------------------------------------------------- */

typedef enum moi_footprint_place {
    MOI_FOOTPRINT_BLOCK, /* part of a block */
    MOI_FOOTPRINT_WORDS, /* embedding and head */
    MOI_FOOTPRINT_OTHER
} moi_footprint_place;

/* Numbers and bytes by where they are: in the format of the weights, or the rest's. */
typedef struct moi_footprint_tally {
    uint64_t n, bytes, n_rest, rest_bytes;
    uint64_t n_coded, blocks, n_plain; /* of states */
    uint64_t in_block, block_bytes;    /* of one block */
} moi_footprint_tally;

static mo_footprint_format moi_footprint_format_of(
    const moi_footprint *x, moi_footprint_place place, uint64_t columns) {
    const mo_footprint_format format = x->d.weights;
    if (moi_footprint_is_float(format)) return format;
    if (columns != 0 && place == MOI_FOOTPRINT_BLOCK) return format;
    if (format != MO_FOOTPRINT_GGUF) return x->d.rest;
    return columns != 0 && place == MOI_FOOTPRINT_WORDS ? format : MO_FOOTPRINT_F32;
}

/* States of `times` tensors of n numbers. */
static void moi_footprint_count_states(
    moi_footprint *x, moi_footprint_tally *t, uint64_t n, uint64_t times) {
    const mo_footprint_optim optim = x->d.optim;
    const int coded = n >= MOI_FOOTPRINT_CODED &&
        (optim == MO_FOOTPRINT_ADAM_8BIT || optim == MO_FOOTPRINT_ADAM_4BIT);
    const uint64_t block =
        optim == MO_FOOTPRINT_ADAM_8BIT ? MOI_FOOTPRINT_8BIT_BLOCK : MOI_FOOTPRINT_4BIT_BLOCK;
    uint64_t *to = coded ? &t->n_coded : &t->n_plain;
    *to = moi_footprint_add(x, *to, moi_footprint_mul(x, n, times));
    if (coded) t->blocks += moi_footprint_up(n, block) * times;
}

/* columns: 0 for a vector. */
static void moi_footprint_count(moi_footprint *x, moi_footprint_tally *t, moi_footprint_place place,
    uint64_t rows, uint64_t columns, uint64_t times) {
    const mo_footprint_format format = moi_footprint_format_of(x, place, columns);
    const uint64_t n = moi_footprint_mul(x, rows, columns ? columns : 1);
    const uint64_t bytes = moi_footprint_bytes(x, format, n, rows);
    const int rest = format != x->d.weights;
    uint64_t *to_n = rest ? &t->n_rest : &t->n, *to = rest ? &t->rest_bytes : &t->bytes;
    *to_n = moi_footprint_add(x, *to_n, moi_footprint_mul(x, n, times));
    *to = moi_footprint_add(x, *to, moi_footprint_mul(x, bytes, times));
    if (place == MOI_FOOTPRINT_BLOCK) t->in_block += n, t->block_bytes += bytes;
    if (!x->d.infer && x->d.lora_rank == 0) moi_footprint_count_states(x, t, n, times);
}

static moi_footprint_tally moi_footprint_count_all(moi_footprint *x) {
    const mo_model *m = x->m;
    const mo_model_layout *layout = mo_model_layout_of(m);
    moi_footprint_tally t;
    memset(&t, 0, sizeof t);
    moi_footprint_count(x, &t, MOI_FOOTPRINT_WORDS, m->vocab, x->h, m->untied_head ? 2 : 1);
    if (layout->positions) moi_footprint_count(x, &t, MOI_FOOTPRINT_OTHER, m->positions, x->h, 1);
    for (size_t i = 0; i < layout->n_params; i++)
        moi_footprint_count(x, &t, MOI_FOOTPRINT_BLOCK, mo_model_size(m, layout->params[i].rows),
            mo_model_size(m, layout->params[i].columns), m->layers / m->share);
    moi_footprint_count(x, &t, MOI_FOOTPRINT_OTHER, x->h, 0, mo_model_n_norm_params(layout));
    return t;
}

/* ---- adapters ------------------------------------------------------------------------------- */

/* Whether matrix i of a block has an adapter. */
static int moi_footprint_is_target(const moi_footprint *x, size_t i) {
    const mo_model_layout *layout = mo_model_layout_of(x->m);
    const mo_model_block_part *qkv = &layout->parts[MO_MODEL_TO_QKV];
    const size_t last = layout->parts[MO_MODEL_PROJECT].first;
    if (layout->params[i].columns == MO_MODEL_WIDTH_NONE) return 0;
    if (x->d.lora_targets == MO_FOOTPRINT_ALL_MATRICES) return 1;
    const int is_qkv = i >= qkv->first && i < qkv->first + qkv->n;
    if (x->d.lora_targets == MO_FOOTPRINT_ATTENTION) return is_qkv || i == last;
    return is_qkv && (qkv->n == 1 || i != qkv->first + 1);
}

/* Numbers of all adapters; n: how many a block has. */
static uint64_t moi_footprint_adapters(moi_footprint *x, moi_footprint_tally *t, uint64_t *n) {
    const mo_model_layout *layout = mo_model_layout_of(x->m);
    const uint64_t rank = x->d.lora_rank, blocks = x->m->layers / x->m->share;
    uint64_t all = 0;
    *n = 0;
    for (size_t i = 0; rank != 0 && i < layout->n_params; i++) {
        if (!moi_footprint_is_target(x, i)) continue;
        const uint64_t rows = mo_model_size(x->m, layout->params[i].rows);
        const uint64_t columns = mo_model_size(x->m, layout->params[i].columns);
        const uint64_t a = moi_footprint_mul(x, rank, rows);
        const uint64_t b = moi_footprint_mul(x, rank, columns);
        moi_footprint_count_states(x, t, a, blocks);
        moi_footprint_count_states(x, t, b, blocks);
        all = moi_footprint_add(x, all, moi_footprint_mul(x, moi_footprint_add(x, a, b), blocks));
        ++*n;
    }
    return all;
}

/* ---- what stays ----------------------------------------------------------------------------- */

static void moi_footprint_put_weights(moi_footprint *x, const moi_footprint_tally *t) {
    const uint64_t bytes = moi_footprint_add(x, t->bytes, t->rest_bytes);
    mo_footprint_line *line = moi_footprint_is_float(x->d.weights)
        ? moi_footprint_put(x, "weights", bytes, "N w = %llu x %llu (%s)", (moi_footprint_n)t->n,
              (moi_footprint_n)moi_footprint_width(x->d.weights), moi_footprint_weights_name(x))
        : moi_footprint_put(x, "weights", bytes,
              "N w = %llu in %s of %.4f bytes + %llu others of %llu bytes", (moi_footprint_n)t->n,
              moi_footprint_weights_name(x), (double)t->bytes / (double)(t->n ? t->n : 1),
              (moi_footprint_n)t->n_rest,
              (moi_footprint_n)(t->n_rest ? t->rest_bytes / t->n_rest : 0));
    moi_footprint_split(x, line, x->d.infer || x->d.zero == 3);
}

static void moi_footprint_put_states(moi_footprint *x, const moi_footprint_tally *t) {
    const uint64_t codes = x->d.optim == MO_FOOTPRINT_ADAM_8BIT ? 2 : 1;
    mo_footprint_line *line;
    if (x->d.optim == MO_FOOTPRINT_ADAM_F32)
        line = moi_footprint_put(x, "optimizer", moi_footprint_mul(x, 8, t->n_plain),
            "8 N_t = 8 x %llu (fp32 m and v)", (moi_footprint_n)t->n_plain);
    else if (x->d.optim == MO_FOOTPRINT_ADAM_BF16)
        line = moi_footprint_put(x, "optimizer", moi_footprint_mul(x, 4, t->n_plain),
            "4 N_t = 4 x %llu (bf16 m and v)", (moi_footprint_n)t->n_plain);
    else
        line = moi_footprint_put(x, "optimizer",
            moi_footprint_add(x, moi_footprint_mul(x, codes, t->n_coded) + 8 * t->blocks,
                moi_footprint_mul(x, 8, t->n_plain)),
            "%llu N_t + 8 blocks = %llu x %llu + 8 x %llu, + 8 x %llu of small tensors",
            (moi_footprint_n)codes, (moi_footprint_n)codes, (moi_footprint_n)t->n_coded,
            (moi_footprint_n)t->blocks, (moi_footprint_n)t->n_plain);
    moi_footprint_split(x, line, x->d.zero >= 1);
}

/* The largest block or the embedding is whole on every device for a moment, with its gradient. */
static void moi_footprint_put_gathered(moi_footprint *x, const moi_footprint_tally *t) {
    const uint64_t words = moi_footprint_mul(x, x->m->vocab, x->h);
    const uint64_t words_bytes = moi_footprint_bytes(
        x, moi_footprint_format_of(x, MOI_FOOTPRINT_WORDS, x->h), words, x->m->vocab);
    const int is_words = words_bytes > t->block_bytes;
    const uint64_t n = is_words ? words : t->in_block;
    const uint64_t bytes = is_words ? words_bytes : t->block_bytes;
    const uint64_t g = x->d.lora_rank ? 0 : moi_footprint_width(x->d.gradients);
    if (x->d.zero != 3 || x->d.devices == 1) return;
    moi_footprint_put(x, "gathered", moi_footprint_add(x, bytes, moi_footprint_mul(x, g, n)),
        "%s's weights + g n = %llu + %llu x %llu", is_words ? "embedding" : "block",
        (moi_footprint_n)bytes, (moi_footprint_n)g, (moi_footprint_n)n);
}

static void moi_footprint_put_training(moi_footprint *x, moi_footprint_tally *t) {
    uint64_t per_block = 0;
    const uint64_t adapters = moi_footprint_adapters(x, t, &per_block);
    const int lora = x->d.lora_rank != 0;
    const uint64_t trained = lora ? adapters : x->f.count;
    const mo_footprint_format format = lora ? x->d.lora_format : x->d.weights;
    const uint64_t width = moi_footprint_width(x->d.gradients);
    x->f.trained = trained;
    if (lora) {
        const uint64_t w = moi_footprint_width(format);
        moi_footprint_split(x,
            moi_footprint_put(x, "adapters", moi_footprint_mul(x, w, adapters),
                "N_t w = %llu x %llu (rank %llu, %llu a block)", (moi_footprint_n)adapters,
                (moi_footprint_n)w, (moi_footprint_n)x->d.lora_rank, (moi_footprint_n)per_block),
            x->d.zero == 3);
    }
    if (x->d.master && format != MO_FOOTPRINT_F32)
        moi_footprint_split(x,
            moi_footprint_put(x, "master", moi_footprint_mul(x, 4, trained),
                "4 N_t = 4 x %llu (fp32 copy)", (moi_footprint_n)trained),
            x->d.zero >= 1);
    moi_footprint_split(x,
        moi_footprint_put(x, "gradients", moi_footprint_mul(x, width, trained),
            "g N_t = %llu x %llu", (moi_footprint_n)width, (moi_footprint_n)trained),
        x->d.zero >= 2);
    moi_footprint_put_states(x, t);
    moi_footprint_put_gathered(x, t);
}

/* ---- what comes and goes -------------------------------------------------------------------- */

/* e a s^2 b: a matrix of scores. */
static uint64_t moi_footprint_scores(moi_footprint *x) {
    const uint64_t rows = moi_footprint_mul(x, x->tokens, x->m->heads);
    return moi_footprint_mul(x, moi_footprint_mul(x, rows, x->d.seq), x->e);
}

/* Of one block; scores: with attention's matrices. */
static uint64_t moi_footprint_block(moi_footprint *x, int scores, uint64_t *elements) {
    uint64_t ranks = 0;
    moi_footprint_tally none;
    memset(&none, 0, sizeof none);
    (void)moi_footprint_adapters(x, &none, &ranks);
    const uint64_t n =
        4 * x->h + 2 * x->q + 2 * x->k + x->wide + moi_footprint_mul(x, ranks, x->d.lora_rank);
    const uint64_t fixed = (x->m->arch == MO_MODEL_GPT2 ? 16u : 8u) +
        (x->d.math ? 0 : 4 * (uint64_t)x->m->heads) + (x->d.dropout ? 2 * x->h : 0);
    uint64_t bytes =
        moi_footprint_mul(x, x->tokens, moi_footprint_add(x, moi_footprint_mul(x, x->e, n), fixed));
    if (x->d.math && scores) {
        const uint64_t matrix = moi_footprint_scores(x);
        bytes = moi_footprint_add(x, bytes, matrix);
        if (x->d.dropout) bytes = moi_footprint_add(x, bytes, matrix + matrix / x->e);
    }
    *elements = n;
    return bytes;
}

static void moi_footprint_put_activations(moi_footprint *x) {
    const uint64_t layers = x->m->layers;
    uint64_t n = 0;
    const int scores = x->d.recompute == MO_FOOTPRINT_KEEP_ALL;
    const uint64_t block = moi_footprint_block(x, scores, &n);
    const uint64_t input = moi_footprint_mul(x, moi_footprint_mul(x, x->e, x->tokens), x->h);
    if (x->d.recompute == MO_FOOTPRINT_FULL) {
        moi_footprint_put(x, "activations", moi_footprint_mul(x, layers, input),
            "L e s b h = %llu x %llu x %llu x %llu", (moi_footprint_n)layers, (moi_footprint_n)x->e,
            (moi_footprint_n)x->tokens, (moi_footprint_n)x->h);
        x->temporary = x->f.n;
        moi_footprint_put(x, "recomputed", moi_footprint_block(x, 1, &n),
            "one block: e s b (4h + 2q + 2k + m f) + ... = %llu x %llu x %llu + ...",
            (moi_footprint_n)x->e, (moi_footprint_n)x->tokens, (moi_footprint_n)n);
        return;
    }
    moi_footprint_put(x, "activations", moi_footprint_mul(x, layers, block),
        "L (e s b (4h + 2q + 2k + m f) + %s) = %llu x (%llu x %llu x %llu + %llu)",
        x->d.math && scores ? "scores, statistics" : "statistics", (moi_footprint_n)layers,
        (moi_footprint_n)x->e, (moi_footprint_n)x->tokens, (moi_footprint_n)n,
        (moi_footprint_n)(block - x->e * x->tokens * n));
    x->temporary = x->f.n;
}

/* The gradients that a block's backward holds at most. */
static void moi_footprint_put_backward(moi_footprint *x) {
    const uint64_t row = x->h + x->wide;
    uint64_t bytes = moi_footprint_mul(x, moi_footprint_mul(x, x->e, x->tokens), row);
    if (!x->d.math) {
        moi_footprint_put(x, "backward", bytes, "e s b (h + m f) = %llu x %llu x %llu",
            (moi_footprint_n)x->e, (moi_footprint_n)x->tokens, (moi_footprint_n)row);
        return;
    }
    const uint64_t two = moi_footprint_mul(x, 2, moi_footprint_scores(x));
    const uint64_t less =
        moi_footprint_mul(x, 6, moi_footprint_mul(x, moi_footprint_mul(x, x->e, x->tokens), x->h));
    if (two > less && two - less > bytes) bytes = two - less;
    if (x->d.recompute == MO_FOOTPRINT_SELECTIVE) bytes = moi_footprint_add(x, bytes, two / 2);
    moi_footprint_put(x, "backward", bytes,
        "the larger of e s b (h + m f), 2 e a s^2 b - 6 e s b h = %llu x %llu x %llu, %llu - "
        "%llu%s",
        (moi_footprint_n)x->e, (moi_footprint_n)x->tokens, (moi_footprint_n)row,
        (moi_footprint_n)two, (moi_footprint_n)less,
        x->d.recompute == MO_FOOTPRINT_SELECTIVE ? ", + scores" : "");
}

/* Logits, and which of them and a block's backward is the peak. */
static void moi_footprint_put_logits(moi_footprint *x) {
    const uint64_t vocab = x->m->vocab;
    const int whole = x->d.chunk == 0 || x->d.chunk >= x->tokens;
    const uint64_t rows = whole ? x->tokens : (uint64_t)x->d.chunk;
    const uint64_t head = whole && x->d.lora_rank == 0
        ? moi_footprint_mul(x, moi_footprint_mul(x, x->e, vocab), x->h)
        : 0;
    const uint64_t bytes = moi_footprint_add(
        x, moi_footprint_mul(x, moi_footprint_mul(x, rows, vocab), 4 + x->e), head);
    uint64_t others = 0;
    for (size_t i = x->temporary; i < x->f.n; i++)
        others = moi_footprint_add(x, others, x->f.lines[i].bytes);
    for (size_t i = x->temporary; i < x->f.n; i++) x->f.lines[i].apart = bytes > others;
    mo_footprint_line *line = moi_footprint_put(x, "logits", bytes,
        "rows V (4 + e) + head's gradient = %llu x %llu x %llu + %llu", (moi_footprint_n)rows,
        (moi_footprint_n)vocab, (moi_footprint_n)(4 + x->e), (moi_footprint_n)head);
    line->apart = bytes <= others;
}

static void moi_footprint_put_inference(moi_footprint *x) {
    const uint64_t e = moi_footprint_width(x->d.cache), layers = x->m->layers;
    const uint64_t prompt = moi_footprint_mul(x, x->d.batch, x->d.prompt);
    const uint64_t up = x->m->arch == MO_MODEL_LLAMA ? 2 * x->hidden : x->hidden;
    const uint64_t row = 2 * x->h + (x->q + 2 * x->k > up ? x->q + 2 * x->k : up);
    moi_footprint_put(x, "activations",
        moi_footprint_mul(x, moi_footprint_mul(x, x->e, prompt), row),
        "e b p (2h + max(q + 2k, up)) = %llu x %llu x %llu", (moi_footprint_n)x->e,
        (moi_footprint_n)prompt, (moi_footprint_n)row);
    moi_footprint_put(x, "logits",
        moi_footprint_mul(x, 4, moi_footprint_mul(x, x->d.batch, x->m->vocab)),
        "4 b V = 4 x %llu x %llu", (moi_footprint_n)x->d.batch, (moi_footprint_n)x->m->vocab);
    moi_footprint_split(x,
        moi_footprint_put(x, "cache",
            moi_footprint_mul(
                x, moi_footprint_mul(x, 2 * layers, x->tokens), moi_footprint_mul(x, x->k, e)),
            "2 L b s k e = 2 x %llu x %llu x %llu x %llu", (moi_footprint_n)layers,
            (moi_footprint_n)x->tokens, (moi_footprint_n)x->k, (moi_footprint_n)e),
        1);
}

/* ---- the whole ------------------------------------------------------------------------------ */

static mo_status moi_footprint_refuse(const mo_log *log, const char *field, long long value) {
    moi_log(log, MO_LOG_ERROR, "footprint: %s is %lld", field, value);
    return MO_E_INVALID;
}

/* Formats that numbers to compute with can have. */
static mo_status moi_footprint_check_formats(const mo_footprint_desc *d, const mo_log *log) {
    const struct {
        const char *name;
        mo_footprint_format format;
    } fields[] = {{"rest", d->rest}, {"compute", d->compute}, {"gradients", d->gradients},
        {"lora_format", d->lora_format},
        {"cache", d->cache == MO_FOOTPRINT_INT8 ? MO_FOOTPRINT_DEFAULT : d->cache}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].format != MO_FOOTPRINT_DEFAULT && !moi_footprint_is_float(fields[i].format))
            return moi_footprint_refuse(log, fields[i].name, (long long)fields[i].format);
    if (d->weights < MO_FOOTPRINT_DEFAULT || d->weights >= MO_FOOTPRINT_FORMAT_COUNT)
        return moi_footprint_refuse(log, "weights", (long long)d->weights);
    if (d->weights == MO_FOOTPRINT_GGUF && mo_gguf_type_block(d->gguf) == 0)
        return moi_footprint_refuse(log, "gguf", (long long)d->gguf);
    if (d->weights > MO_FOOTPRINT_F16 && !d->infer && d->lora_rank == 0) {
        moi_log(log, MO_LOG_ERROR, "footprint: weights in %s are trained by adapters alone",
            mo_footprint_format_name(d->weights));
        return MO_E_INVALID;
    }
    return MO_OK;
}

static mo_status moi_footprint_check(const mo_footprint_desc *d, const mo_log *log) {
    if (d->optim < MO_FOOTPRINT_ADAM_F32 || d->optim >= MO_FOOTPRINT_OPTIM_COUNT)
        return moi_footprint_refuse(log, "optim", (long long)d->optim);
    if (d->recompute < MO_FOOTPRINT_KEEP_ALL || d->recompute >= MO_FOOTPRINT_RECOMPUTE_COUNT)
        return moi_footprint_refuse(log, "recompute", (long long)d->recompute);
    if (d->lora_targets < MO_FOOTPRINT_ALL_MATRICES ||
        d->lora_targets >= MO_FOOTPRINT_TARGETS_COUNT)
        return moi_footprint_refuse(log, "lora_targets", (long long)d->lora_targets);
    if (d->zero < 0 || d->zero > 3) return moi_footprint_refuse(log, "zero", d->zero);
    if (!(d->slack >= 0 && d->slack <= 10)) {
        moi_log(log, MO_LOG_ERROR, "footprint: slack is %g, not a share", d->slack);
        return MO_E_INVALID;
    }
    return moi_footprint_check_formats(d, log);
}

static void moi_footprint_defaults(mo_footprint_desc *d, const mo_model *m) {
    if (d->weights == MO_FOOTPRINT_DEFAULT) d->weights = MO_FOOTPRINT_F32;
    if (d->rest == MO_FOOTPRINT_DEFAULT) d->rest = MO_FOOTPRINT_BF16;
    if (d->compute == MO_FOOTPRINT_DEFAULT)
        d->compute = d->weights == MO_FOOTPRINT_F32 ? MO_FOOTPRINT_F32 : MO_FOOTPRINT_BF16;
    if (d->gradients == MO_FOOTPRINT_DEFAULT) d->gradients = d->compute;
    if (d->cache == MO_FOOTPRINT_DEFAULT) d->cache = d->compute;
    if (d->lora_format == MO_FOOTPRINT_DEFAULT) d->lora_format = MO_FOOTPRINT_F32;
    if (d->batch == 0) d->batch = 1;
    if (d->seq == 0) d->seq = m->arch == MO_MODEL_GPT2 ? m->positions : 2048;
    if (d->prompt == 0) d->prompt = d->seq;
    if (d->devices == 0) d->devices = 1;
}

static void moi_footprint_sizes(moi_footprint *x) {
    x->h = mo_model_size(x->m, MO_MODEL_WIDTH_CHANNELS);
    x->q = mo_model_size(x->m, MO_MODEL_WIDTH_QUERY);
    x->k = mo_model_size(x->m, MO_MODEL_WIDTH_KV);
    x->hidden = x->m->hidden;
    x->wide = (x->m->arch == MO_MODEL_GPT2 ? 2 : 3) * x->hidden;
    x->e = moi_footprint_width(x->d.compute);
    x->tokens = moi_footprint_mul(x, x->d.batch, x->d.seq);
}

static void moi_footprint_finish(moi_footprint *x) {
    const uint64_t runtime = x->d.runtime_bytes;
    if (runtime > 0)
        moi_footprint_put(x, "runtime", runtime, "given: %llu", (moi_footprint_n)runtime);
    for (size_t i = 0; i < x->f.n; i++)
        if (!x->f.lines[i].apart)
            x->f.total = moi_footprint_add(x, x->f.total, x->f.lines[i].bytes);
    if (!(x->d.slack > 0) || x->failed) return;
    const double slack = x->d.slack * (double)x->f.total;
    const uint64_t bytes = slack < 9e18 ? (uint64_t)slack : UINT64_MAX;
    moi_footprint_put(x, "slack", bytes, "%g x %llu", x->d.slack, (moi_footprint_n)x->f.total);
    x->f.total = moi_footprint_add(x, x->f.total, bytes);
}

mo_status mo_footprint_estimate(
    mo_footprint *f, const mo_model *model, const mo_footprint_desc *desc, const mo_log *log) {
    moi_footprint x;
    mo_model m;
    memset(&x, 0, sizeof x);
    if (!f || !model) return MO_E_INVALID;
    if (desc) x.d = *desc;
    m = *model;
    mo_status status = mo_model_complete(&m, log);
    if (status == MO_OK) status = moi_footprint_check(&x.d, log);
    if (status != MO_OK) return status;
    moi_footprint_defaults(&x.d, &m);
    if (m.arch == MO_MODEL_GPT2 && x.d.seq > m.positions) {
        moi_log(log, MO_LOG_ERROR, "footprint: seq is %zu, but the model has %zu positions",
            x.d.seq, m.positions);
        return MO_E_INVALID;
    }
    x.m = &m;
    x.f.count = mo_model_count(&m);
    if (x.f.count == 0 || x.f.count > UINT64_MAX / 64 || m.heads > moi_model_most / m.head_size)
        return MO_E_OVERFLOW;
    moi_footprint_sizes(&x);
    moi_footprint_tally t = moi_footprint_count_all(&x);
    moi_footprint_put_weights(&x, &t);
    if (x.d.infer) moi_footprint_put_inference(&x);
    else {
        moi_footprint_put_training(&x, &t);
        moi_footprint_put_activations(&x);
        moi_footprint_put_backward(&x);
        moi_footprint_put_logits(&x);
    }
    moi_footprint_finish(&x);
    if (x.failed) return MO_E_OVERFLOW;
    *f = x.f;
    return MO_OK;
}
