// merge.c - memopt merge: shards with an index become one file.
#include "model_file.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"

typedef struct shard {
    char *name, *path;
    model_file file;
    size_t n; // tensors that the index has in it
} shard;

// A tensor of the new file and the shard that holds it.
typedef struct merged {
    const model_tensor *from;
    const shard *shard;
    size_t place; // in the index
} merged;

typedef struct merge {
    const char *index, *out;
    bool json;
    shard *shards;
    size_t n_shards;
    merged *list;
    size_t n;
    uint64_t bytes;
    model_writer writer;
} merge;

// ---- the index ----------------------------------------------------------------------------------

static char *path_beside(const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    const size_t n = slash ? (size_t)(slash - path) + 1 : 0;
    char *text = allocate(n + strlen(name) + 1, 1);
    memcpy(text, path, n);
    return strcpy(text + n, name) - n;
}

// Takes name. Shards lie beside the index.
static shard *find_shard(merge *m, char *name) {
    for (size_t i = m->n_shards; i-- > 0;)
        if (strcmp(m->shards[i].name, name) == 0) {
            free(name);
            return &m->shards[i];
        }
    if (!*name || strchr(name, '/'))
        fail(EXIT_USAGE, "%s: weight_map: '%s' is no file beside it", m->index, name);
    shard *s = &m->shards[m->n_shards++];
    *s = (shard){.name = name, .path = path_beside(m->index, name)};
    model_open(&s->file, s->path);
    return s;
}

static void add_tensor(merge *m, const char *name, json_value file) {
    char *text = json_text(file);
    if (!text) fail(EXIT_USAGE, "%s: weight_map: '%s' has no file", m->index, name);
    shard *s = find_shard(m, text);
    const model_tensor *t = model_find(&s->file, name);
    if (!t) fail(EXIT_USAGE, "%s: '%s' is not in it, but in %s", s->path, name, m->index);
    if (t->type.dtype == MO_DTYPE_COUNT)
        fail(EXIT_USAGE, "%s: '%s' is %s, which safetensors does not have", s->path, name,
            t->type.name);
    m->list[m->n] = (merged){.from = t, .shard = s, .place = m->n};
    m->bytes += t->bytes;
    m->n++;
    s->n++;
}

static size_t count_members(json_value object) {
    const char *place = NULL;
    char *key = NULL;
    json_value v;
    size_t n = 0;
    for (; json_next(object, &place, &key, &v); n++) free(key);
    return n;
}

static void read_index(merge *m) {
    char *text = json_read(m->index), *key = NULL;
    const json_value map = json_get(json_root(text), "weight_map");
    const char *place = NULL;
    json_value v;
    double total;
    if (!map.at || *map.at != '{') fail(EXIT_USAGE, "%s: no weight_map in it", m->index);
    const size_t n = count_members(map);
    m->list = allocate(n, sizeof *m->list);
    m->shards = allocate(n, sizeof *m->shards);
    for (; json_next(map, &place, &key, &v); free(key)) add_tensor(m, key, v);
    for (size_t i = 0; i < m->n_shards; i++)
        if (m->shards[i].n != m->shards[i].file.n)
            fail(EXIT_USAGE, "%s: %zu tensors, of which %zu are in %s", m->shards[i].path,
                m->shards[i].file.n, m->shards[i].n, m->index);
    const json_value size = json_get(json_get(json_root(text), "metadata"), "total_size");
    if (json_number(size, &total) && total != (double)m->bytes)
        fail(EXIT_USAGE, "%s: total_size is %.0f, the tensors have %llu bytes", m->index, total,
            (unsigned long long)m->bytes);
    free(text);
}

// ---- writing ------------------------------------------------------------------------------------

// Larger elements first, so that all are aligned.
static int compare_merged(const void *left, const void *right) {
    const merged *a = left, *b = right;
    const unsigned p = a->from->type.block_bytes * b->from->type.block;
    const unsigned r = b->from->type.block_bytes * a->from->type.block;
    if (p != r) return p > r ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

static void copy_tensor(merge *m, const merged *from, void *raw) {
    for (uint64_t at = 0; at < from->from->n; at += MODEL_PIECE) {
        const uint64_t left = from->from->n - at;
        const size_t n = left < MODEL_PIECE ? (size_t)left : MODEL_PIECE;
        model_read(&from->shard->file, from->from, at, n, raw);
        model_write(&m->writer, raw, n);
    }
}

static void write_tensors(merge *m) {
    model_file none = {0};
    pair_list pairs = model_pairs(m->n_shards ? &m->shards->file : &none, 0);
    model_tensor *tensors = allocate(m->n, sizeof *tensors);
    void *raw = allocate(MODEL_PIECE, 8);
    qsort(m->list, m->n, sizeof *m->list, compare_merged);
    for (size_t i = 0; i < m->n; i++) tensors[i] = *m->list[i].from;
    model_create(&m->writer, m->out, MODEL_SAFETENSORS, tensors, m->n, &pairs);
    for (size_t i = 0; i < m->n; i++) copy_tensor(m, &m->list[i], raw);
    model_commit(&m->writer);
    free(raw);
    free(tensors);
    free(pairs.items);
}

// ---- the command ------------------------------------------------------------------------------

static void print_answer(const merge *m) {
    if (m->json) {
        printf("{\"out\":");
        json_string(stdout, m->out);
        printf(",\"shards\":%zu,\"tensors\":%zu,\"bytes\":%llu}\n", m->n_shards, m->n,
            (unsigned long long)m->bytes);
        return;
    }
    print_name(stdout, m->out, 0);
    printf(": %zu tensor%s of %zu shard%s, %llu bytes (%s)\n", m->n, plural(m->n), m->n_shards,
        plural(m->n_shards), (unsigned long long)m->bytes, text_bytes(m->bytes).text);
}

static int run(const command *self, int argc, const char *const *argv) {
    merge m = {0};
    const char *files[2];
    const flag flags[] = {{"--json", FLAG_SWITCH, &m.json}};
    flags_parse(self, argc, argv, flags, sizeof flags / sizeof *flags, files, 2);
    m.index = files[0];
    m.out = files[1];
    read_index(&m);
    write_tensors(&m);
    print_answer(&m);
    flush_stdout();
    for (size_t i = 0; i < m.n_shards; i++) {
        free(m.shards[i].name);
        free(m.shards[i].path);
        model_close(&m.shards[i].file);
    }
    free(m.shards);
    free(m.list);
    return 0;
}

const command merge_command = {
    "merge",
    "shards with an index become one file",
    "  memopt merge INDEX OUT [flags]\n"
    "\n"
    "  --json   one object on standard output\n"
    "\n"
    "INDEX is model.safetensors.index.json; its shards lie beside it. Every tensor must be where "
    "the\n"
    "index says, and there must be no others. The metadata is that of the first shard. OUT "
    "appears\n"
    "whole or not at all.\n"
    "\n"
    "  memopt merge shards/model.safetensors.index.json model.safetensors\n"
    "\n"
    "Exit status: 0 done; 1 the machine does not allow it; 2 usage, input.\n",
    run,
};
