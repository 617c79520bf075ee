// cases_stream.c - the weights of a model from a file through a small window, beside plain reads of
// the same file from its begin to its end; batches of a file of tokens.
#include "bench.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LAYERS = 32, TENSORS = 4, LIMIT = 16 << 20 };
static const size_t layer_bytes = 4 << 20; // 8 times the limit in all

typedef struct streaming {
    mo_safetensors file;
    mo_queue queue;
    mo_stream_tensor tensors[LAYERS * TENSORS];
    mo_stream_layer layers[LAYERS];
    mo_stream_desc desc;
    mo_arena arena; // of the window, which is made for each run
    char *buffer;   // as large as the window, for the plain reads
    int cold;       // descriptor of the file, to have it forgotten before each run; -1 = do not
} streaming;

// From here on it has to come from the disk.
static void forget(const streaming *s) {
    if (s->cold >= 0) posix_fadvise(s->cold, 0, 0, POSIX_FADV_DONTNEED);
}

static void stream_run(void *state) {
    streaming *s = state;
    mo_stream stream;
    mo_stream_layer_view layer;
    forget(s);
    must(mo_stream_init(&stream, &s->desc));
    do must(mo_stream_next(&stream, &layer));
    while (!layer.is_end);
    if (mo_stream_get_stats(&stream).peak_bytes > LIMIT) must(MO_E_NO_SPACE);
    mo_stream_free(&stream);
    mo_arena_reset(&s->arena);
}

// The same reads one after the other, into as much memory: all that the disk or the page cache give
// to one thread. Into a buffer that stays in a cache a copy is faster, but no weights are there.
static void plain_run(void *state) {
    streaming *s = state;
    forget(s);
    for (size_t i = 0, at = 0; i < s->file.n; i++, at = (at + layer_bytes / TENSORS) % LIMIT) {
        const mo_safetensors_entry *e = &s->file.entries[i];
        must(mo_safetensors_read(&s->file, e, 0, s->buffer + at, e->end - e->begin));
    }
}

static void end_stream(void *state) {
    streaming *s = state;
    mo_queue_free(&s->queue);
    mo_safetensors_close(&s->file);
    if (s->cold >= 0) close(s->cold);
}

static bool write_model(const char *path, char *bytes) {
    const uint64_t shape = layer_bytes / TENSORS / 2;
    char names[LAYERS * TENSORS][16];
    mo_safetensors_entry entries[LAYERS * TENSORS];
    mo_safetensors_writer writer = {0};
    for (int i = 0; i < LAYERS * TENSORS; i++) {
        snprintf(names[i], sizeof names[i], "%d", i);
        entries[i] = (mo_safetensors_entry){names[i], MO_DTYPE_BF16, 1, &shape, 0, 0};
    }
    mo_status status = mo_safetensors_create(&writer, path, entries, LAYERS * TENSORS, NULL);
    for (int i = 0; i < LAYERS && status == MO_OK; i++) {
        memset(bytes, i, layer_bytes);
        status = mo_safetensors_write(&writer, bytes, layer_bytes);
    }
    if (status == MO_OK) status = mo_safetensors_commit(&writer);
    mo_safetensors_discard(&writer);
    return status == MO_OK;
}

static bool temporary_file(char *path, size_t size) {
    const char *folder = getenv("TMPDIR");
    snprintf(path, size, "%s/memopt-bench.XXXXXX", folder ? folder : "/tmp");
    const int fd = mkstemp(path);
    return fd >= 0 && close(fd) == 0;
}

// The file has no name any more once it is open, so nothing is left behind.
static bool open_model(streaming *s, bool cold) {
    char path[512];
    if (!temporary_file(path, sizeof path)) return false;
    const bool ok =
        write_model(path, s->buffer) && mo_safetensors_open(&s->file, path, NULL) == MO_OK;
    s->cold = cold ? open(path, O_RDONLY) : -1;
    remove(path);
    return ok;
}

// variant: how the numbers are decoded; COLD: from the disk
enum { COLD = MO_STREAM_DECODE_COUNT };
static bool setup_stream(work *w) {
    streaming *s = take(w, sizeof *s);
    const mo_arena_desc arena = {.size = LIMIT + (1 << 20), .block = take(w, LIMIT + (1 << 20))};
    if (!s || !arena.block) return false;
    memset(s, 0, sizeof *s);
    s->buffer = take(w, LIMIT);
    if (!s->buffer || !open_model(s, w->variant == COLD)) return false;
    must(mo_queue_init(&s->queue, NULL));
    must(mo_arena_init(&s->arena, &arena));
    for (int i = 0; i < LAYERS * TENSORS; i++) {
        s->tensors[i] = mo_stream_tensor_of(mo_stream_safetensors(&s->file), &s->file.entries[i]);
        if (w->variant != COLD) s->tensors[i].decode = (mo_stream_decode)w->variant;
    }
    for (int i = 0; i < LAYERS; i++)
        s->layers[i] = (mo_stream_layer){&s->tensors[i * TENSORS], TENSORS};
    s->desc = (mo_stream_desc){.layers = s->layers,
        .n_layers = LAYERS,
        .limit_bytes = LIMIT,
        .queue = &s->queue,
        .allocator = mo_arena_allocator(&s->arena)};
    w->state = s;
    w->rival = plain_run;
    w->end = end_stream;
    w->units = LAYERS * layer_bytes;
    w->threads = 1;
    return true;
}

// ---- loader -----------------------------------------------------------------------------------

enum { BATCH = 8, SEQ = 1024, BATCHES = 64, N_TOKENS = 1 << 23 };

typedef struct loading {
    mo_tokens tokens;
    mo_loader loader;
} loading;

static void end_loader(void *state) {
    loading *s = state;
    mo_loader_free(&s->loader);
    mo_tokens_close(&s->tokens);
}

static void loader_run(void *state) {
    loading *s = state;
    mo_loader_batch batch;
    for (int i = 0; i < BATCHES; i++) must(mo_loader_next(&s->loader, &batch));
}

static bool write_tokens(const char *path, char *bytes, size_t size) {
    const int32_t header[256] = {20240520, 1, N_TOKENS};
    FILE *file = fopen(path, "wb");
    if (!file) return false;
    const bool ok =
        fwrite(header, sizeof header, 1, file) == 1 && fwrite(bytes, 1, size, file) == size;
    return fclose(file) == 0 && ok;
}

// variant: shuffled
static bool setup_loader(work *w) {
    loading *s = take(w, sizeof *s);
    char path[512], *bytes = take(w, 2 * N_TOKENS);
    if (!s || !bytes || !temporary_file(path, sizeof path)) return false;
    memset(bytes, 1, 2 * N_TOKENS);
    const char *const paths[] = {path};
    const mo_tokens_desc files = {.paths = paths, .n_paths = 1};
    const bool ok =
        write_tokens(path, bytes, 2 * N_TOKENS) && mo_tokens_open(&s->tokens, &files) == MO_OK;
    remove(path);
    if (!ok) return false;
    const mo_loader_desc desc = {
        .tokens = &s->tokens, .batch = BATCH, .seq = SEQ, .shuffle = w->variant};
    must(mo_loader_init(&s->loader, &desc));
    w->state = s;
    w->end = end_loader;
    w->units = BATCHES * BATCH * SEQ;
    w->threads = 1;
    return true;
}

const bench_case cases_stream[] = {
    {"page.stream", "byte", "a file 8 times the window through it, read ahead by a thread", 1,
        setup_stream, stream_run, MO_STREAM_RAW},
    {"page.stream_cold", "byte", "the same, from the disk instead of the page cache", 1,
        setup_stream, stream_run, COLD},
    {"page.stream_bf16", "byte", "as page.stream, bf16 to float on the way", 1, setup_stream,
        stream_run, MO_STREAM_BF16},
    {"loader.next", "token", "batches of 8 x 1024 in the order of the text", 0, setup_loader,
        loader_run, 0},
    {"loader.next_shuffled", "token", "the same, shuffled", 0, setup_loader, loader_run, 1}, {0}};
