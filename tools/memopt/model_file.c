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
#include "safetensors_file.h"

static const model_driver *const drivers[] = {
    [MODEL_SAFETENSORS] = &safetensors_driver,
    [MODEL_SHARDS] = &shards_driver,
    [MODEL_GGUF] = &gguf_driver,
    [MODEL_LLMC] = &llmc_driver,
};

const char *model_format_name(model_format format) { return drivers[format]->name; }

model_type model_type_of(mo_dtype dtype) {
    const unsigned bits = mo_dtype_bits(dtype);
    const unsigned block = bits == 4 ? 2 : bits == 6 ? 4 : 1; // to whole bytes
    const char *name = mo_dtype_name(dtype);
    return (model_type){name, dtype, block, bits * block / 8, mo_gguf_type_find(name)};
}

uint64_t model_bytes_of(const model_type *type, uint64_t n) {
    return n / type->block * type->block_bytes;
}

int model_compare_types(const model_type *a, const model_type *b) {
    const unsigned p = a->block_bytes * b->block, q = b->block_bytes * a->block;
    return p > q ? -1 : p < q;
}

void model_check_layout(const model_file *m) {
    for (size_t i = 0; i < m->n; i++)
        if (m->tensors[i].is_transposed)
            fail(EXIT_USAGE, "%s: '%s' lies the other way in llm.c (memopt convert first)", m->path,
                m->tensors[i].name);
}

// ---- opening ------------------------------------------------------------------------------------

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

static bool is_index(const char *path) { return ends_with(path, ".index.json"); }

// What is no regular file is left to the reader of safetensors to refuse.
static model_format recognize(const char *path) {
    struct stat info;
    unsigned char head[8] = {0};
    if (is_index(path)) return MODEL_SHARDS;
    FILE *file = stat(path, &info) == 0 && S_ISREG(info.st_mode) ? fopen(path, "rb") : NULL;
    if (!file) return MODEL_SAFETENSORS;
    const bool is_long = fread(head, 1, 8, file) == 8;
    fclose(file);
    if (memcmp(head, "GGUF", 4) == 0) return MODEL_GGUF;
    return is_long && llmc_is(head) ? MODEL_LLMC : MODEL_SAFETENSORS;
}

// The index in a folder, or the only file.
static bool find_in_folder(model_file *m) {
    static const char *const names[] = {"model.safetensors.index.json", "model.safetensors"};
    struct stat info;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        m->found = path_in(m->path, strlen(m->path), names[i]);
        if (stat(m->found, &info) == 0) {
            m->path = m->found;
            return true;
        }
        free(m->found);
        m->found = NULL;
    }
    return false;
}

static mo_status refuse_folder(const char *path, const mo_log *log) {
    char text[512];
    snprintf(text, sizeof text,
        "%.400s: neither model.safetensors.index.json nor model.safetensors in it", path);
    if (log->write) log->write(log->self, MO_LOG_ERROR, text);
    return MO_E_NOT_FOUND;
}

mo_status model_try_open(model_file *m, const char *path, const mo_log *log) {
    *m = (model_file){.path = path};
    if (is_folder(path) && !find_in_folder(m)) return refuse_folder(path, log);
    m->format = recognize(m->path);
    const mo_status status = drivers[m->format]->open(m, log);
    m->tensors = m->owned;
    for (size_t i = 0; status == MO_OK && i < m->n; i++) m->bytes += m->tensors[i].bytes;
    return status;
}

void model_open(model_file *m, const char *path) {
    const mo_status status = model_try_open(m, path, &cli_log);
    if (status != MO_OK) exit(status == MO_E_NO_MEMORY ? EXIT_NO : EXIT_USAGE);
}

void model_close(model_file *m) {
    drivers[m->format]->close(m);
    free(m->owned);
    free(m->found);
    *m = (model_file){0};
}

const model_tensor *model_find(const model_file *m, const char *name) {
    return drivers[m->format]->find(m, name);
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
static bool is_little(void) {
    const uint16_t one = 1;
    return *(const unsigned char *)&one == 1;
}

static volatile sig_atomic_t signal_number;

static void stop_when_asked(const char *path) {
    if (signal_number) fail(EXIT_NO, "%s: interrupted, nothing is written", path);
}

mo_status model_try_read(
    const model_file *m, const model_tensor *t, uint64_t first, size_t n, void *to) {
    const bool is_swapped = m->format == MODEL_GGUF ? gguf_is_swapped(m) : !is_little();
    stop_when_asked(m->path);
    if (m->format == MODEL_GGUF && is_swapped && t->type.block != 1)
        fail(EXIT_USAGE, "%s: '%s' is %s in the other byte order (convert --dtype)", m->path,
            t->name, t->type.name);
    const mo_status status = drivers[m->format]->read(
        m, t, model_bytes_of(&t->type, first), to, (size_t)model_bytes_of(&t->type, n));
    if (status == MO_OK && is_swapped) swap_always(&t->type, to, n);
    return status;
}

void model_read(const model_file *m, const model_tensor *t, uint64_t first, size_t n, void *to) {
    check_said(model_try_read(m, t, first, n, to));
}

size_t model_piece(uint64_t n, uint64_t at) {
    return n - at < MODEL_PIECE ? (size_t)(n - at) : MODEL_PIECE;
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
        check_said(gguf_read_f32(m, t, first, n, to));
        return;
    }
    for (size_t at = 0; at < n; at += MODEL_PIECE) {
        const size_t count = model_piece(n, at);
        model_read(m, t, first + at, count, raw);
        elements_to_f32(t->type.dtype, raw, count, to + at);
    }
}

const char *pairs_find(const mo_safetensors_pair *items, size_t n, const char *key) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(items[i].key, key) == 0) return items[i].value;
    return NULL;
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
    if (writing) drivers[writing->format]->discard(writing);
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

void model_check_created(mo_status status) {
    if (status != MO_OK) exit(status == MO_E_INVALID ? EXIT_USAGE : EXIT_NO);
}

static bool is_same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

// One file in the place of an index or of a shard would break the model that is read.
static void check_path(const char *path, const model_file *of) {
    if (is_index(path)) fail(EXIT_USAGE, "%s: an index is written by memopt split", path);
    for (size_t k = 0; of && k < of->shards.n_shards; k++) {
        char *shard = path_in(of->path, folder_size(of->path), of->shards.files[k]);
        if (is_same_file(path, shard)) fail(EXIT_USAGE, "%s: is a shard of %s", path, of->path);
        free(shard);
    }
}

static void create(model_writer *w, const pair_list *metadata) {
    guard(w);
    drivers[w->format]->create(w, metadata);
}

void model_create(model_writer *w, const char *path, model_format format,
    const model_tensor *tensors, size_t n, const pair_list *metadata) {
    check_path(path, metadata->of);
    *w = (model_writer){.path = path, .format = format, .tensors = tensors, .n = n};
    create(w, metadata);
}

void model_create_shards(model_writer *w, const char *path, uint64_t max_bytes,
    const model_tensor *tensors, size_t n, const pair_list *metadata) {
    *w = (model_writer){
        .path = path, .format = MODEL_SHARDS, .tensors = tensors, .n = n, .max_bytes = max_bytes};
    create(w, metadata);
}

void model_write(model_writer *w, const void *data, size_t n) {
    while (w->at < w->n && w->written == w->tensors[w->at].n) w->at++, w->written = 0;
    const model_type *type = &w->tensors[w->at].type;
    stop_when_asked(w->path);
    if (!is_little()) swap_always(type, (void *)(uintptr_t)data, n);
    w->written += n;
    drivers[w->format]->write(w, data, (size_t)model_bytes_of(type, n));
}

void model_copy(model_writer *w, const model_file *m, const model_tensor *t, void *raw) {
    for (uint64_t at = 0; at < t->n; at += MODEL_PIECE) {
        const size_t n = model_piece(t->n, at);
        model_read(m, t, at, n, raw);
        model_write(w, raw, n);
    }
}

void model_commit(model_writer *w) {
    drivers[w->format]->commit(w);
    writing = NULL;
}

// ---- text ---------------------------------------------------------------------------------------

void print_shape(FILE *out, const model_tensor *t) {
    fputc('[', out);
    for (size_t i = 0; i < t->n_dims; i++)
        fprintf(out, "%s%llu", i ? "," : "", (unsigned long long)t->shape[i]);
    fputc(']', out);
}

void print_kind(const model_file *m) {
    printf("%s, ", model_format_name(m->format));
    if (m->format == MODEL_SHARDS)
        printf("%zu shard%s, ", m->shards.n_shards, plural(m->shards.n_shards));
    printf("%zu tensor%s, %s", m->n, plural(m->n), text_bytes(m->bytes).text);
}

void print_shards(const model_file *m) {
    for (size_t k = 0; k < m->shards.n_shards; k++) {
        const mo_safetensors *st = &m->shards.shards[k];
        print_name(stdout, m->shards.files[k], 0);
        printf("  %zu tensor%s, %s\n", st->n, plural(st->n), text_size(st->data_size).text);
    }
}

void json_shards(const model_file *m) {
    if (m->format != MODEL_SHARDS) return;
    printf(",\"shards\":[");
    for (size_t k = 0; k < m->shards.n_shards; k++) {
        const mo_safetensors *st = &m->shards.shards[k];
        json_after(k ? ",{\"file\":" : "{\"file\":", m->shards.files[k]);
        printf(",\"tensors\":%zu,\"bytes\":%llu}", st->n, (unsigned long long)st->data_size);
    }
    putchar(']');
}
