// model_file.c - files of tensors behind one interface.
#include "model_file.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "elements.h"
#include "gguf_file.h"
#include "llmc.h"

const char *model_format_name(model_format format) {
    return format == MODEL_LLMC ? "llm.c" : format == MODEL_GGUF ? "GGUF" : "safetensors";
}

model_type model_type_of(mo_dtype dtype) {
    const unsigned bits = mo_dtype_bits(dtype);
    const unsigned block = bits == 4 ? 2 : bits == 6 ? 4 : 1; // to whole bytes
    const char *name = mo_dtype_name(dtype);
    return (model_type){name, dtype, block, bits * block / 8, mo_gguf_type_find(name)};
}

uint64_t model_bytes_of(const model_type *type, uint64_t n) {
    return n / type->block * type->block_bytes;
}

// ---- opening ------------------------------------------------------------------------------------

// What is no regular file is left to the reader of safetensors to refuse.
static model_format recognize(const char *path) {
    struct stat info;
    unsigned char head[8] = {0};
    FILE *file = stat(path, &info) == 0 && S_ISREG(info.st_mode) ? fopen(path, "rb") : NULL;
    if (!file) return MODEL_SAFETENSORS;
    const bool is_long = fread(head, 1, 8, file) == 8;
    fclose(file);
    if (memcmp(head, "GGUF", 4) == 0) return MODEL_GGUF;
    return is_long && llmc_is(head) ? MODEL_LLMC : MODEL_SAFETENSORS;
}

static mo_status open_safetensors(model_file *m, const mo_log *log) {
    const mo_safetensors_desc desc = {.log = *log};
    const mo_status status = mo_safetensors_open(&m->st, m->path, &desc);
    if (status != MO_OK) return status;
    m->n = m->st.n;
    m->metadata = m->st.metadata;
    m->n_metadata = m->st.n_metadata;
    m->owned = allocate(m->n, sizeof *m->owned);
    for (size_t i = 0; i < m->n; i++) {
        const mo_safetensors_entry *e = &m->st.entries[i];
        model_tensor *t = &m->owned[i];
        *t = (model_tensor){.name = e->name,
            .type = model_type_of(e->dtype),
            .n_dims = e->n_dims,
            .shape = e->shape,
            .bytes = e->end - e->begin,
            .entry = e};
        t->n = t->bytes / t->type.block_bytes * t->type.block;
    }
    return MO_OK;
}

mo_status model_try_open(model_file *m, const char *path, const mo_log *log) {
    *m = (model_file){.path = path, .format = recognize(path)};
    const mo_status status = m->format == MODEL_LLMC ? llmc_open(m, log)
        : m->format == MODEL_GGUF                    ? gguf_open(m, log)
                                                     : open_safetensors(m, log);
    m->tensors = m->owned;
    for (size_t i = 0; status == MO_OK && i < m->n; i++) m->bytes += m->tensors[i].bytes;
    return status;
}

void model_open(model_file *m, const char *path) {
    const mo_status status = model_try_open(m, path, &cli_log);
    if (status != MO_OK) exit(status == MO_E_NO_MEMORY ? EXIT_NO : EXIT_USAGE);
}

void model_close(model_file *m) {
    if (m->format == MODEL_LLMC) llmc_close(m);
    if (m->format == MODEL_GGUF) gguf_close(m);
    mo_safetensors_close(&m->st);
    free(m->owned);
    *m = (model_file){0};
}

const model_tensor *model_find(const model_file *m, const char *name) {
    if (m->format == MODEL_SAFETENSORS) {
        const mo_safetensors_entry *e = mo_safetensors_find(&m->st, name);
        return e ? &m->tensors[e - m->st.entries] : NULL;
    }
    if (m->format == MODEL_GGUF) return gguf_find(m, name);
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->tensors[i].name, name) == 0) return &m->tensors[i];
    return NULL;
}

// ---- reading ------------------------------------------------------------------------------------

static void swap_always(const model_type *type, void *data, size_t n) {
    const size_t parts = elements_per_entry(type->dtype), size = type->block_bytes / parts;
    unsigned char *at = data;
    for (size_t i = 0; type->block == 1 && size > 1 && i < n * parts; i++, at += size)
        for (size_t k = 0; k < size / 2; k++) {
            const unsigned char byte = at[k];
            at[k] = at[size - 1 - k];
            at[size - 1 - k] = byte;
        }
}

// All files but some of GGUF are little-endian.
static void swap(const model_type *type, void *data, size_t n) {
    const uint16_t one = 1;
    if (*(const unsigned char *)&one == 0) swap_always(type, data, n);
}

static mo_status read_gguf(
    const model_file *m, const model_tensor *t, uint64_t at, void *to, size_t size, size_t n) {
    if (gguf_is_swapped(m) && t->type.block != 1)
        fail(EXIT_USAGE, "%s: '%s' is %s in the other byte order (convert --dtype)", m->path,
            t->name, t->type.name);
    const mo_status status = gguf_read(m, t, at, to, size);
    if (status == MO_OK && gguf_is_swapped(m)) swap_always(&t->type, to, n);
    return status;
}

static volatile sig_atomic_t signal_number;

static void stop_when_asked(const char *path) {
    if (signal_number) fail(EXIT_NO, "%s: interrupted, nothing is written", path);
}

mo_status model_try_read(
    const model_file *m, const model_tensor *t, uint64_t first, size_t n, void *to) {
    const uint64_t at = model_bytes_of(&t->type, first);
    const size_t size = (size_t)model_bytes_of(&t->type, n);
    stop_when_asked(m->path);
    if (m->format == MODEL_GGUF) return read_gguf(m, t, at, to, size, n);
    const mo_status status = m->format == MODEL_LLMC
        ? llmc_read(m, t->at + at, to, size)
        : mo_safetensors_read(&m->st, t->entry, at, to, size);
    if (status == MO_OK) swap(&t->type, to, n);
    return status;
}

void model_read(const model_file *m, const model_tensor *t, uint64_t first, size_t n, void *to) {
    const mo_status status = model_try_read(m, t, first, n, to);
    if (status != MO_OK) quit(status);
}

// Blocks that can be decoded; the plain types of GGUF are those of safetensors.
static bool is_block(const model_type *type) {
    return type->dtype == MO_DTYPE_COUNT &&
        (type->gguf == MO_GGUF_Q8_0 || type->gguf == MO_GGUF_Q4_0);
}

bool model_is_float(const model_type *type) {
    return is_block(type) || elements_are_float(type->dtype);
}

void model_encode(
    const model_type *type, const float *from, size_t n, bool is_saturated, void *to) {
    const mo_gguf_code code = {.type = type->gguf};
    if (is_block(type)) check(mo_gguf_encode(&code, from, n, to), type->name);
    else elements_from_f32(type->dtype, from, n, is_saturated, to);
}

void model_read_f32(
    const model_file *m, const model_tensor *t, uint64_t first, size_t n, void *raw, float *to) {
    if (is_block(&t->type)) {
        stop_when_asked(m->path);
        const mo_status status = gguf_read_f32(m, t, first, n, to);
        if (status != MO_OK) quit(status);
        return;
    }
    for (size_t at = 0; at < n; at += MODEL_PIECE) {
        const size_t count = n - at < MODEL_PIECE ? n - at : MODEL_PIECE;
        model_read(m, t, first + at, count, raw);
        elements_to_f32(t->type.dtype, raw, count, to + at);
    }
}

void pairs_set(pair_list *p, const char *key, const char *value) {
    size_t i = 0;
    while (i < p->n && strcmp(p->items[i].key, key) != 0) i++;
    p->items[i] = (mo_safetensors_pair){key, value};
    if (i == p->n) p->n++;
}

pair_list model_pairs(const model_file *m, size_t room) {
    pair_list p = {allocate(m->n_metadata + room + 1, sizeof *p.items), 0, m};
    pairs_set(&p, "format", "pt");
    for (size_t i = 0; i < m->n_metadata; i++)
        pairs_set(&p, m->metadata[i].key, m->metadata[i].value);
    return p;
}

// ---- writing ------------------------------------------------------------------------------------

static model_writer *writing; // NULL = nothing to remove

static void discard(void) {
    if (!writing) return;
    if (writing->format == MODEL_LLMC) llmc_discard(writing);
    else if (writing->format == MODEL_GGUF) gguf_discard(writing);
    else mo_safetensors_discard(&writing->st);
    writing = NULL;
}

static void take_signal(int number) { signal_number = number; }

// The writer is removed by exit, so signals only ask for it.
static void guard(model_writer *w) {
    static bool is_set;
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    if (!is_set && atexit(discard) != 0) fail(EXIT_NO, "out of memory");
    for (size_t i = 0; !is_set && i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction action = {.sa_handler = take_signal}, old;
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
    is_set = true;
    writing = w;
}

model_format model_format_of(const char *path) {
    const char *dot = strrchr(path, '.');
    if (dot && strcmp(dot, ".bin") == 0) return MODEL_LLMC;
    return dot && strcmp(dot, ".gguf") == 0 ? MODEL_GGUF : MODEL_SAFETENSORS;
}

static void create_safetensors(model_writer *w, const pair_list *metadata) {
    mo_safetensors_entry *entries = allocate(w->n, sizeof *entries);
    mo_safetensors_pair *pairs = allocate(metadata->n, sizeof *pairs);
    mo_safetensors_writer_desc desc = {.log = cli_log, .metadata = pairs};
    for (size_t i = 0; i < metadata->n; i++) {
        const mo_gguf_pair *origin = gguf_origin(metadata->of, &metadata->items[i]);
        if (!origin || !origin->is_array) pairs[desc.n_metadata++] = metadata->items[i];
    }
    for (size_t i = 0; i < w->n; i++) {
        if (w->tensors[i].type.dtype == MO_DTYPE_COUNT)
            fail(EXIT_USAGE, "%s: '%s' is %s, which safetensors does not have (convert --dtype)",
                w->path, w->tensors[i].name, w->tensors[i].type.name);
        entries[i] = (mo_safetensors_entry){.name = w->tensors[i].name,
            .dtype = w->tensors[i].type.dtype,
            .n_dims = w->tensors[i].n_dims,
            .shape = w->tensors[i].shape};
    }
    const mo_status status = mo_safetensors_create(&w->st, w->path, entries, w->n, &desc);
    free(entries);
    free(pairs);
    if (status != MO_OK) exit(status == MO_E_INVALID ? EXIT_USAGE : EXIT_NO);
}

void model_create(model_writer *w, const char *path, model_format format,
    const model_tensor *tensors, size_t n, const pair_list *metadata) {
    *w = (model_writer){.path = path, .format = format, .tensors = tensors, .n = n};
    guard(w);
    if (format == MODEL_LLMC) llmc_create(w, metadata);
    else if (format == MODEL_GGUF) gguf_create(w, metadata);
    else create_safetensors(w, metadata);
}

void model_write(model_writer *w, const void *data, size_t n) {
    while (w->at < w->n && w->written == w->tensors[w->at].n) w->at++, w->written = 0;
    const model_type *type = &w->tensors[w->at].type;
    const size_t size = (size_t)model_bytes_of(type, n);
    stop_when_asked(w->path);
    swap(type, (void *)(uintptr_t)data, n);
    w->written += n;
    if (w->format != MODEL_SAFETENSORS) {
        if (w->format == MODEL_LLMC) llmc_write(w, data, size);
        else gguf_write(w, data, size);
        return;
    }
    const mo_status status = mo_safetensors_write(&w->st, data, size);
    if (status != MO_OK) quit(status);
}

void model_commit(model_writer *w) {
    if (w->format == MODEL_LLMC) {
        llmc_commit(w);
    } else if (w->format == MODEL_GGUF) {
        gguf_commit(w);
    } else {
        const mo_status status = mo_safetensors_commit(&w->st);
        if (status != MO_OK) quit(status);
    }
    writing = NULL;
}
