// gguf_file.c - GGUF files as models.
#include "gguf_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct gguf_file {
    mo_gguf g;
    uint64_t *shapes; // [n][MO_GGUF_DIMS], slowest dimension first
    mo_safetensors_pair *pairs;
    char **texts; // of the pairs that are no strings
};

model_type model_type_of_gguf(mo_gguf_type type) {
    const char *name = mo_gguf_type_name(type);
    const mo_dtype dtype = mo_dtype_find(name);
    return (model_type){.name = name,
        .dtype = dtype,
        .block = (unsigned)mo_gguf_type_block(type),
        .block_bytes = (unsigned)mo_gguf_type_bytes(type),
        .gguf = type};
}

// ---- metadata ---------------------------------------------------------------------------------

static void put_number(FILE *out, const mo_gguf_pair *p, size_t i) {
    const char *at = p->data ? (const char *)p->data + i * mo_gguf_kind_bytes(p->kind) : NULL;
    uint64_t u = p->u64;
    int64_t s = p->i64;
    double f = p->f64;
    switch (p->kind) {
    case MO_GGUF_KIND_BOOL:
    case MO_GGUF_KIND_U8: u = at ? *(const uint8_t *)at : u; break;
    case MO_GGUF_KIND_I8: s = at ? *(const int8_t *)at : s; break;
    case MO_GGUF_KIND_U16: u = at ? *(const uint16_t *)(const void *)at : u; break;
    case MO_GGUF_KIND_I16: s = at ? *(const int16_t *)(const void *)at : s; break;
    case MO_GGUF_KIND_U32: u = at ? *(const uint32_t *)(const void *)at : u; break;
    case MO_GGUF_KIND_I32: s = at ? *(const int32_t *)(const void *)at : s; break;
    case MO_GGUF_KIND_F32: f = at ? (double)*(const float *)(const void *)at : f; break;
    case MO_GGUF_KIND_U64: u = at ? *(const uint64_t *)(const void *)at : u; break;
    case MO_GGUF_KIND_I64: s = at ? *(const int64_t *)(const void *)at : s; break;
    case MO_GGUF_KIND_F64: f = at ? *(const double *)(const void *)at : f; break;
    case MO_GGUF_KIND_STRING:
    case MO_GGUF_KIND_COUNT: break;
    }
    switch (p->kind) {
    case MO_GGUF_KIND_BOOL: fputs(u ? "true" : "false", out); break;
    case MO_GGUF_KIND_I8:
    case MO_GGUF_KIND_I16:
    case MO_GGUF_KIND_I32:
    case MO_GGUF_KIND_I64: fprintf(out, "%lld", (long long)s); break;
    case MO_GGUF_KIND_F32: fprintf(out, "%.9g", f); break;
    case MO_GGUF_KIND_F64: fprintf(out, "%.17g", f); break;
    default: fprintf(out, "%llu", (unsigned long long)u); break;
    }
}

// Short arrays of numbers as they are, others by their size.
static char *value_text(const mo_gguf_pair *p) {
    enum { SHORT = 8 };
    text_stream t;
    text_begin(&t);
    if (!p->is_array) put_number(t.file, p, 0);
    else if (p->kind == MO_GGUF_KIND_STRING || p->n > SHORT)
        fprintf(t.file, "%zu of %s", p->n, mo_gguf_kind_name(p->kind));
    else {
        fputc('[', t.file);
        for (size_t i = 0; i < p->n; i++) {
            if (i) fputc(',', t.file);
            put_number(t.file, p, i);
        }
        fputc(']', t.file);
    }
    return text_end(&t);
}

static void list_metadata(model_file *m) {
    struct gguf_file *f = m->gguf;
    m->n_metadata = f->g.n_metadata;
    f->pairs = allocate(m->n_metadata, sizeof *f->pairs);
    f->texts = allocate(m->n_metadata, sizeof *f->texts);
    for (size_t i = 0; i < m->n_metadata; i++) {
        const mo_gguf_pair *p = &f->g.metadata[i];
        const bool is_text = p->kind == MO_GGUF_KIND_STRING && !p->is_array;
        if (!is_text) f->texts[i] = value_text(p);
        f->pairs[i] = (mo_safetensors_pair){p->key, is_text ? p->strings->text : f->texts[i]};
    }
    m->metadata = f->pairs;
}

const mo_gguf_pair *gguf_origin(const model_file *m, const mo_safetensors_pair *pair) {
    if (!m || m->format != MODEL_GGUF) return NULL;
    for (size_t i = 0; i < m->n_metadata; i++)
        if (m->metadata[i].key == pair->key && m->metadata[i].value == pair->value)
            return &m->gguf->g.metadata[i];
    return NULL;
}

// ---- reading ----------------------------------------------------------------------------------

static void list_tensors(model_file *m) {
    struct gguf_file *f = m->gguf;
    m->n = f->g.n;
    m->owned = allocate(m->n, sizeof *m->owned);
    f->shapes = allocate(m->n, MO_GGUF_DIMS * sizeof *f->shapes);
    for (size_t i = 0; i < m->n; i++) {
        const mo_gguf_entry *e = &f->g.entries[i];
        uint64_t *shape = f->shapes + MO_GGUF_DIMS * i;
        for (size_t k = 0; k < e->n_dims; k++) shape[k] = e->shape[e->n_dims - 1 - k];
        m->owned[i] = (model_tensor){.name = e->name,
            .type = model_type_of_gguf(e->type),
            .n_dims = e->n_dims,
            .shape = shape,
            .n = mo_gguf_elements(e),
            .bytes = e->end - e->begin,
            .at = i};
    }
}

static mo_status open_file(model_file *m, const mo_log *log) {
    const mo_gguf_desc desc = {.log = *log, .long_names = 1};
    struct gguf_file *f = allocate(1, sizeof *f);
    const mo_status status = mo_gguf_open(&f->g, m->path, &desc);
    if (status != MO_OK) {
        free(f);
        return status;
    }
    m->gguf = f;
    list_tensors(m);
    list_metadata(m);
    return MO_OK;
}

static void close_file(model_file *m) {
    if (!m->gguf) return;
    for (size_t i = 0; i < m->n_metadata; i++) free(m->gguf->texts[i]);
    mo_gguf_close(&m->gguf->g);
    free(m->gguf->shapes);
    free(m->gguf->pairs);
    free(m->gguf->texts);
    free(m->gguf);
    m->gguf = NULL;
}

static const model_tensor *find(const model_file *m, const char *name) {
    const mo_gguf_entry *e = mo_gguf_find(&m->gguf->g, name);
    return e ? &m->tensors[e - m->gguf->g.entries] : NULL;
}

static mo_status read_bytes(
    const model_file *m, const model_tensor *t, uint64_t at, void *to, size_t size) {
    return mo_gguf_read(&m->gguf->g, &m->gguf->g.entries[t->at], at, to, size);
}

mo_status gguf_read_f32(
    const model_file *m, const model_tensor *t, uint64_t first, size_t n, float *to) {
    return mo_gguf_read_f32(&m->gguf->g, &m->gguf->g.entries[t->at], first, n, to);
}

bool gguf_is_swapped(const model_file *m) {
    const uint16_t one = 1;
    const bool is_little = *(const unsigned char *)&one == 1;
    return m->gguf->g.big_endian ? is_little : !is_little;
}

// ---- writing ----------------------------------------------------------------------------------

struct gguf_out {
    mo_gguf_writer writer;
};

// "key:u32" and the like; the key alone is a string. copy is cut at the colon.
static bool find_kind(char *copy, mo_gguf_kind *kind) {
    char *colon = strrchr(copy, ':');
    for (int i = 0; colon && i < MO_GGUF_KIND_COUNT; i++)
        if (mo_gguf_kind_bytes((mo_gguf_kind)i) &&
            strcmp(mo_gguf_kind_name((mo_gguf_kind)i), colon + 1) == 0) {
            *colon = 0;
            *kind = (mo_gguf_kind)i;
            return true;
        }
    return false;
}

static bool read_value(mo_gguf_pair *p, const char *text) {
    char *end = NULL;
    errno = 0;
    switch (p->kind) {
    case MO_GGUF_KIND_BOOL:
        p->u64 = strcmp(text, "true") == 0;
        return p->u64 || strcmp(text, "false") == 0;
    case MO_GGUF_KIND_F32:
    case MO_GGUF_KIND_F64: p->f64 = strtod(text, &end); break;
    case MO_GGUF_KIND_I8:
    case MO_GGUF_KIND_I16:
    case MO_GGUF_KIND_I32:
    case MO_GGUF_KIND_I64: p->i64 = strtoll(text, &end, 10); break;
    default:
        if (!isdigit((unsigned char)*text)) return false;
        p->u64 = strtoull(text, &end, 10);
    }
    return end != text && !*end && errno == 0;
}

// text holds the string's bytes, copy the key; both outlive the call.
static mo_gguf_pair make_pair(
    const model_writer *w, const mo_safetensors_pair *from, char *copy, mo_gguf_text *text) {
    mo_gguf_pair p = {.key = copy, .kind = MO_GGUF_KIND_STRING, .n = 1, .strings = text};
    *text = (mo_gguf_text){from->value, strlen(from->value)};
    if (!find_kind(copy, &p.kind)) return p;
    p.strings = NULL;
    if (!read_value(&p, from->value))
        fail(EXIT_USAGE, "%s: metadata '%s' is '%s', no %s", w->path, copy, from->value,
            mo_gguf_kind_name(p.kind));
    return p;
}

static mo_gguf_entry *list_entries(const model_writer *w) {
    mo_gguf_entry *entries = allocate(w->n, sizeof *entries);
    for (size_t i = 0; i < w->n; i++) {
        const model_tensor *t = &w->tensors[i];
        entries[i] = (mo_gguf_entry){
            .name = t->name, .type = t->type.gguf, .n_dims = t->n_dims, .shape = {1, 1, 1, 1}};
        if (t->type.gguf == MO_GGUF_TYPE_COUNT)
            fail(EXIT_USAGE, "%s: '%s' is %s, which GGUF does not have (--dtype, --drop)", w->path,
                t->name, t->type.name);
        if (t->n_dims > MO_GGUF_DIMS)
            fail(EXIT_USAGE, "%s: '%s' has %zu dimensions, GGUF at most 4", w->path, t->name,
                t->n_dims);
        for (size_t k = 0; k < t->n_dims; k++) entries[i].shape[k] = t->shape[t->n_dims - 1 - k];
    }
    return entries;
}

static void create(model_writer *w, const pair_list *metadata) {
    mo_gguf_entry *entries = list_entries(w);
    mo_gguf_pair *pairs = allocate(metadata->n, sizeof *pairs);
    mo_gguf_text *texts = allocate(metadata->n, sizeof *texts);
    char **keys = allocate(metadata->n, sizeof *keys);
    size_t n = 0;
    for (size_t i = 0; i < metadata->n; i++) {
        const mo_safetensors_pair *from = &metadata->items[i];
        const mo_gguf_pair *origin = gguf_origin(metadata->of, from);
        const bool is_of_safetensors = strcmp(from->key, "format") == 0;
        if (is_of_safetensors) continue;
        if (!origin) keys[n] = strcpy(allocate(strlen(from->key) + 1, 1), from->key);
        pairs[n] = origin ? *origin : make_pair(w, from, keys[n], &texts[n]);
        n++;
    }
    const mo_gguf_writer_desc desc = {.log = cli_log, .metadata = pairs, .n_metadata = n};
    w->gguf = allocate(1, sizeof *w->gguf);
    const mo_status status = mo_gguf_create(&w->gguf->writer, w->path, entries, w->n, &desc);
    for (size_t i = 0; i < n; i++) free(keys[i]);
    free(keys);
    free(texts);
    free(pairs);
    free(entries);
    model_check_created(status);
}

static void write_bytes(model_writer *w, const void *data, size_t size) {
    check_said(mo_gguf_write(&w->gguf->writer, data, size));
}

static void commit(model_writer *w) {
    check_said(mo_gguf_commit(&w->gguf->writer));
    free(w->gguf);
    w->gguf = NULL;
}

static void discard(model_writer *w) {
    if (!w->gguf) return;
    mo_gguf_discard(&w->gguf->writer);
    free(w->gguf);
    w->gguf = NULL;
}

const model_driver gguf_driver = {
    "GGUF", open_file, close_file, find, read_bytes, create, write_bytes, commit, discard};
