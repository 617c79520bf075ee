// safetensors_file.c - safetensors files as models: one file, or shards with an index.
#include "safetensors_file.h"

#include <stdlib.h>
#include <string.h>

#include "gguf_file.h"

// ---- reading ------------------------------------------------------------------------------------

static void set_tensor(model_tensor *t, const mo_safetensors *st, const mo_safetensors_entry *e) {
    *t = (model_tensor){.name = e->name,
        .type = model_type_of(e->dtype),
        .n_dims = e->n_dims,
        .shape = e->shape,
        .bytes = e->end - e->begin,
        .st = st,
        .entry = e};
    t->n = t->bytes / t->type.block_bytes * t->type.block;
}

static void set_metadata(model_file *m, const mo_safetensors *st) {
    m->metadata = st->metadata;
    m->n_metadata = st->n_metadata;
}

static mo_status open_one(model_file *m, const mo_log *log) {
    const mo_safetensors_desc desc = {.log = *log};
    const mo_status status = mo_safetensors_open(&m->st, m->path, &desc);
    if (status != MO_OK) return status;
    set_metadata(m, &m->st);
    m->n = m->st.n;
    m->owned = allocate(m->n, sizeof *m->owned);
    for (size_t i = 0; i < m->n; i++) set_tensor(&m->owned[i], &m->st, &m->st.entries[i]);
    return MO_OK;
}

// The metadata is that of the first shard.
static mo_status open_shards(model_file *m, const mo_log *log) {
    const mo_safetensors_desc desc = {.log = *log};
    mo_safetensors_shards *s = &m->shards;
    const mo_status status = mo_safetensors_shards_open(s, m->path, &desc);
    if (status != MO_OK) return status;
    if (s->n_shards) set_metadata(m, s->shards);
    m->n = s->n;
    m->owned = allocate(m->n, sizeof *m->owned);
    for (size_t i = 0; i < m->n; i++) {
        set_tensor(&m->owned[i], &s->shards[s->entries[i].shard], s->entries[i].entry);
        m->owned[i].shard = s->files[s->entries[i].shard];
    }
    return MO_OK;
}

static void close_files(model_file *m) {
    mo_safetensors_close(&m->st);
    mo_safetensors_shards_close(&m->shards);
}

static const model_tensor *find_one(const model_file *m, const char *name) {
    const mo_safetensors_entry *e = mo_safetensors_find(&m->st, name);
    return e ? &m->tensors[e - m->st.entries] : NULL;
}

static const model_tensor *find_in_shards(const model_file *m, const char *name) {
    const mo_safetensors_shards_entry *e = mo_safetensors_shards_find(&m->shards, name);
    return e ? &m->tensors[e - m->shards.entries] : NULL;
}

static mo_status read_bytes(
    const model_file *m, const model_tensor *t, uint64_t at, void *to, size_t size) {
    (void)m;
    return mo_safetensors_read(t->st, t->entry, at, to, size);
}

// ---- writing ------------------------------------------------------------------------------------

struct safetensors_out {
    mo_safetensors_writer one;
    mo_safetensors_shards_writer many;
    mo_safetensors_entry *entries;
    mo_safetensors_pair *pairs;
    size_t n_pairs;
};

static void list_entries(const model_writer *w) {
    mo_safetensors_entry *entries = w->st->entries = allocate(w->n, sizeof *entries);
    for (size_t i = 0; i < w->n; i++) {
        const model_tensor *t = &w->tensors[i];
        if (t->type.dtype == MO_DTYPE_COUNT)
            fail(EXIT_USAGE, "%s: '%s' is %s, which safetensors does not have (convert --dtype)",
                w->path, t->name, t->type.name);
        entries[i] = (mo_safetensors_entry){
            .name = t->name, .dtype = t->type.dtype, .n_dims = t->n_dims, .shape = t->shape};
    }
}

static void list_pairs(const model_writer *w, const pair_list *metadata) {
    struct safetensors_out *out = w->st;
    out->pairs = allocate(metadata->n, sizeof *out->pairs);
    for (size_t i = 0; i < metadata->n; i++) {
        const mo_gguf_pair *origin = gguf_origin(metadata->of, &metadata->items[i]);
        if (!origin || !origin->is_array) out->pairs[out->n_pairs++] = metadata->items[i];
    }
}

static void begin(model_writer *w, const pair_list *metadata) {
    w->st = allocate(1, sizeof *w->st);
    list_entries(w);
    list_pairs(w, metadata);
}

static void create_one(model_writer *w, const pair_list *metadata) {
    begin(w, metadata);
    const mo_safetensors_writer_desc desc = {
        .log = cli_log, .metadata = w->st->pairs, .n_metadata = w->st->n_pairs};
    model_check_created(mo_safetensors_create(&w->st->one, w->path, w->st->entries, w->n, &desc));
}

static void create_shards(model_writer *w, const pair_list *metadata) {
    begin(w, metadata);
    const mo_safetensors_shards_desc desc = {.log = cli_log,
        .metadata = w->st->pairs,
        .n_metadata = w->st->n_pairs,
        .max_shard_bytes = w->max_bytes};
    model_check_created(
        mo_safetensors_shards_create(&w->st->many, w->path, w->st->entries, w->n, &desc));
    w->n_shards = w->st->many.n_shards;
}

static void write_one(model_writer *w, const void *data, size_t size) {
    check_said(mo_safetensors_write(&w->st->one, data, size));
}

static void write_shards(model_writer *w, const void *data, size_t size) {
    check_said(mo_safetensors_shards_write(&w->st->many, data, size));
}

static void discard(model_writer *w) {
    if (!w->st) return;
    mo_safetensors_discard(&w->st->one);
    mo_safetensors_shards_discard(&w->st->many);
    free(w->st->entries);
    free(w->st->pairs);
    free(w->st);
    w->st = NULL;
}

static void commit_one(model_writer *w) {
    check_said(mo_safetensors_commit(&w->st->one));
    discard(w);
}

static void commit_shards(model_writer *w) {
    check_said(mo_safetensors_shards_commit(&w->st->many));
    discard(w);
}

const model_driver safetensors_driver = {"safetensors", open_one, close_files, find_one, read_bytes,
    create_one, write_one, commit_one, discard};
const model_driver shards_driver = {"safetensors", open_shards, close_files, find_in_shards,
    read_bytes, create_shards, write_shards, commit_shards, discard};
