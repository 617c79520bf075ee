// llmc.c - the checkpoints of llm.c.
#include "llmc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    MAGIC = 20240326,
    VERSION_F32 = 3,
    VERSION_BF16 = 5,
    N_HEADER = 256,
    N_ARRAYS = 16,
    ROW_ALIGN = 128 // the vocabulary is padded to it
};

typedef struct llmc_size {
    uint64_t positions, vocabulary, layers, heads, channels, padded;
} llmc_size;

// rows and columns of a layer's array as llm.c has it, in channels; 0 = a vector, or the only one.
typedef struct array_kind {
    const char *name; // behind "h.N." where is_layer
    bool is_layer, is_transposed;
    unsigned rows, columns;
} array_kind;

static const array_kind arrays[N_ARRAYS] = {
    {"wte.weight", false, false, 0, 1}, // rows: the vocabulary, padded
    {"wpe.weight", false, false, 0, 1}, // rows: the positions
    {"ln_1.weight", true, false, 1, 0},
    {"ln_1.bias", true, false, 1, 0},
    {"attn.c_attn.weight", true, true, 3, 1},
    {"attn.c_attn.bias", true, false, 3, 0},
    {"attn.c_proj.weight", true, true, 1, 1},
    {"attn.c_proj.bias", true, false, 1, 0},
    {"ln_2.weight", true, false, 1, 0},
    {"ln_2.bias", true, false, 1, 0},
    {"mlp.c_fc.weight", true, true, 4, 1},
    {"mlp.c_fc.bias", true, false, 4, 0},
    {"mlp.c_proj.weight", true, true, 1, 4},
    {"mlp.c_proj.bias", true, false, 1, 0},
    {"ln_f.weight", false, false, 1, 0},
    {"ln_f.bias", false, false, 1, 0},
};

static void array_shape(const llmc_size *s, size_t array, uint64_t shape[2]) {
    const array_kind *a = &arrays[array];
    shape[0] = array == 0 ? s->vocabulary : array == 1 ? s->positions : a->rows * s->channels;
    shape[1] = a->columns * s->channels;
}

static size_t array_dims(size_t array) { return arrays[array].columns ? 2 : 1; }

// Elements of one layer's, without padding.
static uint64_t array_n(const llmc_size *s, size_t array) {
    uint64_t shape[2];
    array_shape(s, array, shape);
    return shape[0] * (shape[1] ? shape[1] : 1);
}

bool llmc_place(const char *name, size_t *array, size_t *layer) {
    char *end = NULL;
    const bool is_layer = strncmp(name, "h.", 2) == 0;
    *layer = is_layer ? strtoul(name + 2, &end, 10) : 0;
    if (is_layer && (end == name + 2 || *end != '.' || name[2] < '0' || name[2] > '9'))
        return false;
    for (*array = 0; *array < N_ARRAYS; ++*array)
        if (arrays[*array].is_layer == is_layer &&
            strcmp(arrays[*array].name, is_layer ? end + 1 : name) == 0)
            return true;
    return false;
}

bool llmc_is_transposed(const char *name) {
    size_t array, layer;
    return llmc_place(name, &array, &layer) && arrays[array].is_transposed;
}

// ---- reading ------------------------------------------------------------------------------------

struct llmc {
    FILE *file;
    llmc_size size;
    model_type type;
    char *names;
    uint64_t *shapes; // two each
    mo_log log;
    mo_safetensors_pair pair;
    char heads[24];
};

static uint32_t get_u32(const unsigned char *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

bool llmc_is(const unsigned char head[8]) {
    return get_u32(head) == MAGIC && get_u32(head + 4) != 0;
}

__attribute__((format(printf, 4, 5))) static mo_status refuse(
    const model_file *m, const mo_log *log, mo_status status, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    const int n = snprintf(text, sizeof text, "%s: ", m->path);
    if (n >= 0 && (size_t)n < sizeof text)
        vsnprintf(text + n, sizeof text - (size_t)n, format, args);
    va_end(args);
    if (log->write) log->write(log->self, MO_LOG_ERROR, text);
    return status;
}

static mo_status read_header(model_file *m, const mo_log *log) {
    static const char *const fields[] = {
        "positions", "vocabulary", "layers", "heads", "channels", "padded vocabulary"};
    unsigned char head[N_HEADER * 4];
    uint64_t *const values = &m->llmc->size.positions;
    if (fread(head, 1, sizeof head, m->llmc->file) != sizeof head)
        return refuse(m, log, MO_E_FORMAT, "llm.c: shorter than a header");
    const uint32_t version = get_u32(head + 4);
    if (version != VERSION_F32 && version != VERSION_BF16)
        return refuse(m, log, MO_E_FORMAT, "llm.c: version %u, not 3 (fp32) or 5 (bf16)", version);
    m->llmc->type = model_type_of(version == VERSION_F32 ? MO_DTYPE_F32 : MO_DTYPE_BF16);
    for (int i = 0; i < 6; i++) {
        values[i] = get_u32(head + 4 * (i + 2));
        if (values[i] == 0 || values[i] > 1u << 24 || (i == 2 && values[i] > 4096))
            return refuse(
                m, log, MO_E_FORMAT, "llm.c: %s: %llu", fields[i], (unsigned long long)values[i]);
    }
    if (m->llmc->size.padded < m->llmc->size.vocabulary)
        return refuse(m, log, MO_E_FORMAT, "llm.c: padded vocabulary: %llu, less than %llu",
            (unsigned long long)m->llmc->size.padded, (unsigned long long)m->llmc->size.vocabulary);
    return MO_OK;
}

// Where array begins, in elements; array N_ARRAYS: the end.
static uint64_t array_begin(const llmc_size *s, size_t array) {
    uint64_t at = 0;
    for (size_t i = 0; i < array; i++)
        at +=
            i == 0 ? s->padded * s->channels : array_n(s, i) * (arrays[i].is_layer ? s->layers : 1);
    return at;
}

static mo_status check_size(model_file *m, const mo_log *log) {
    const uint64_t want =
        4 * N_HEADER + array_begin(&m->llmc->size, N_ARRAYS) * m->llmc->type.block_bytes;
    if (fseeko(m->llmc->file, 0, SEEK_END) != 0)
        return refuse(m, log, MO_E_IO, "%s", strerror(errno));
    const uint64_t size = (uint64_t)ftello(m->llmc->file);
    if (size == want) return MO_OK;
    return refuse(m, log, MO_E_FORMAT, "llm.c: %llu bytes, not the %llu of its header",
        (unsigned long long)size, (unsigned long long)want);
}

enum { NAME_SIZE = 32 };

static void list_tensor(model_file *m, size_t array, size_t layer) {
    struct llmc *l = m->llmc;
    model_tensor *t = &m->owned[m->n];
    char *name = l->names + m->n * NAME_SIZE;
    uint64_t *shape = l->shapes + 2 * m->n;
    if (arrays[array].is_layer) snprintf(name, NAME_SIZE, "h.%zu.%s", layer, arrays[array].name);
    else snprintf(name, NAME_SIZE, "%s", arrays[array].name);
    array_shape(&l->size, array, shape);
    *t = (model_tensor){.name = name,
        .type = l->type,
        .n_dims = array_dims(array),
        .shape = shape,
        .n = array_n(&l->size, array),
        .is_transposed = arrays[array].is_transposed};
    t->bytes = model_bytes_of(&t->type, t->n);
    t->at = 4 * N_HEADER + model_bytes_of(&t->type, array_begin(&l->size, array) + layer * t->n);
    m->n++;
}

static void list_tensors(model_file *m) {
    struct llmc *l = m->llmc;
    const size_t n = N_ARRAYS * (size_t)l->size.layers;
    m->owned = allocate(n, sizeof *m->owned);
    l->names = allocate(n, NAME_SIZE);
    l->shapes = allocate(n, 2 * sizeof *l->shapes);
    for (size_t array = 0; array < N_ARRAYS; array++)
        for (size_t layer = 0; layer < (arrays[array].is_layer ? l->size.layers : 1); layer++)
            list_tensor(m, array, layer);
    snprintf(l->heads, sizeof l->heads, "%llu", (unsigned long long)l->size.heads);
    l->pair = (mo_safetensors_pair){"n_head", l->heads};
    m->metadata = &l->pair;
    m->n_metadata = 1;
}

static void close_file(model_file *m) {
    if (!m->llmc) return;
    if (m->llmc->file) fclose(m->llmc->file);
    free(m->llmc->names);
    free(m->llmc->shapes);
    free(m->llmc);
    m->llmc = NULL;
}

static mo_status open_file(model_file *m, const mo_log *log) {
    m->llmc = allocate(1, sizeof *m->llmc);
    m->llmc->log = *log;
    m->llmc->file = fopen(m->path, "rb");
    if (!m->llmc->file) {
        const mo_status status = refuse(m, log, MO_E_IO, "%s", strerror(errno));
        close_file(m);
        return status;
    }
    mo_status status = read_header(m, log);
    if (status == MO_OK) status = check_size(m, log);
    if (status == MO_OK) list_tensors(m);
    else close_file(m);
    return status;
}

static const model_tensor *find(const model_file *m, const char *name) {
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->tensors[i].name, name) == 0) return &m->tensors[i];
    return NULL;
}

static mo_status read_bytes(
    const model_file *m, const model_tensor *t, uint64_t at, void *to, size_t size) {
    FILE *file = m->llmc->file;
    if (fseeko(file, (off_t)(t->at + at), SEEK_SET) != 0 || fread(to, 1, size, file) != size)
        return refuse(m, &m->llmc->log, MO_E_IO, "%s",
            ferror(file) ? strerror(errno) : "shorter than it was");
    return MO_OK;
}

// ---- writing ------------------------------------------------------------------------------------

struct llmc_writer {
    fresh fresh;
    uint64_t padding; // bytes behind the table of tokens
    bool is_open;
};

static size_t position(size_t array, size_t layer, size_t layers) {
    for (size_t i = 0; i < array; i++) layer += arrays[i].is_layer ? layers : 1;
    return layer;
}

// Sizes from the shapes, in the order of the file; every shape must agree with them.
static llmc_size measure(const model_writer *w) {
    llmc_size s = {0};
    if (w->n <= N_ARRAYS - 1 || (w->n - 4) % 12 != 0)
        fail(EXIT_USAGE, "%s: %zu tensors are not those of GPT-2: 4, and 12 for each layer",
            w->path, w->n);
    s.layers = (w->n - 4) / 12;
    for (size_t i = 0; i < w->n; i++) {
        size_t array, layer;
        uint64_t shape[2];
        const model_tensor *t = &w->tensors[i];
        if (!llmc_place(t->name, &array, &layer))
            fail(EXIT_USAGE, "%s: llm.c has no tensor '%s'", w->path, t->name);
        if (position(array, layer, s.layers) != i)
            fail(EXIT_USAGE, "%s: '%s' of %llu layers, where another one is missing", w->path,
                t->name, (unsigned long long)s.layers);
        if (t->n_dims != array_dims(array))
            fail(EXIT_USAGE, "%s: '%s' has %zu dimensions", w->path, t->name, t->n_dims);
        if (array == 0) s.vocabulary = t->shape[0], s.channels = t->shape[1];
        if (array == 1) s.positions = t->shape[0];
        array_shape(&s, array, shape);
        if (t->shape[0] != shape[0] || (t->n_dims == 2 && t->shape[1] != shape[1]))
            fail(EXIT_USAGE, "%s: '%s' does not fit to %llu channels", w->path, t->name,
                (unsigned long long)s.channels);
        if (t->type.dtype != w->tensors->type.dtype)
            fail(EXIT_USAGE, "%s: '%s' is %s, 'wte.weight' %s: llm.c has one type (--dtype)",
                w->path, t->name, t->type.name, w->tensors->type.name);
    }
    s.padded = (s.vocabulary + ROW_ALIGN - 1) / ROW_ALIGN * ROW_ALIGN;
    return s;
}

static uint64_t find_heads(const model_writer *w, const llmc_size *s, const char *text) {
    char *end;
    const uint64_t heads = text ? strtoull(text, &end, 10) : s->channels / 64;
    if ((text && *end) || heads == 0 || s->channels % heads != 0)
        fail(EXIT_USAGE, "%s: %s heads for %llu channels (--metadata n_head=N)", w->path,
            text ? text : "unknown", (unsigned long long)s->channels);
    return heads;
}

static void put(model_writer *w, const void *data, size_t size) {
    const int error = write_all(w->llmc->fresh.file, data, size);
    if (error != 0) fail(EXIT_NO, "%s: %s", w->path, strerror(error));
}

static void put_header(model_writer *w, const llmc_size *s, uint32_t version) {
    const uint64_t values[] = {
        MAGIC, version, s->positions, s->vocabulary, s->layers, s->heads, s->channels, s->padded};
    unsigned char head[N_HEADER * 4] = {0};
    for (size_t i = 0; i < 8; i++) {
        if (values[i] > INT32_MAX) fail(EXIT_USAGE, "%s: too large for llm.c", w->path);
        for (int k = 0; k < 4; k++) head[4 * i + k] = (unsigned char)(values[i] >> 8 * k);
    }
    put(w, head, sizeof head);
}

static void create(model_writer *w, const pair_list *metadata) {
    llmc_size s = measure(w);
    const mo_dtype type = w->tensors->type.dtype;
    s.heads = find_heads(w, &s, pairs_find(metadata->items, metadata->n, "n_head"));
    if (type != MO_DTYPE_F32 && type != MO_DTYPE_BF16)
        fail(EXIT_USAGE, "%s: llm.c has F32 and BF16, not %s (--dtype)", w->path,
            mo_dtype_name(type));
    w->llmc = allocate(1, sizeof *w->llmc);
    const int error = fresh_open(&w->llmc->fresh, w->path);
    w->llmc->is_open = true;
    if (error != 0) fail(EXIT_NO, "%s: %s", w->path, strerror(error));
    w->llmc->padding = model_bytes_of(&w->tensors->type, (s.padded - s.vocabulary) * s.channels);
    put_header(w, &s, type == MO_DTYPE_F32 ? VERSION_F32 : VERSION_BF16);
}

static void write_bytes(model_writer *w, const void *data, size_t size) {
    static const char zeros[4096];
    put(w, data, size);
    if (w->at != 0 || w->written != w->tensors->n) return;
    for (uint64_t n; w->llmc->padding != 0; w->llmc->padding -= n) {
        n = w->llmc->padding < sizeof zeros ? w->llmc->padding : sizeof zeros;
        put(w, zeros, (size_t)n);
    }
}

static int finish(model_writer *w, int error) {
    if (w->llmc->is_open) error = fresh_close(&w->llmc->fresh, error);
    free(w->llmc);
    w->llmc = NULL;
    return error;
}

static void commit(model_writer *w) {
    const int error = finish(w, 0);
    if (error != 0) fail(EXIT_NO, "%s: %s", w->path, strerror(error));
}

static void discard(model_writer *w) {
    if (w->llmc) finish(w, ECANCELED);
}

const model_driver llmc_driver = {
    "llm.c", open_file, close_file, find, read_bytes, create, write_bytes, commit, discard};
