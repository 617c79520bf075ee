// corpus.c - where the training tokens come from.
#include "app.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static FILE *open_file(const char *path, uint64_t *size) {
    struct stat info;
    if (stat(path, &info) != 0) fail(EXIT_BAD, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode)) fail(EXIT_BAD, "%s: not a regular file", path);
    FILE *file = fopen(path, "rb");
    if (!file) fail(EXIT_BAD, "%s: %s", path, strerror(errno));
    *size = (uint64_t)info.st_size;
    return file;
}

void corpus_open_texts(corpus *c, const char *const *paths, size_t n_paths) {
    memset(c, 0, sizeof *c);
    c->name = n_paths == 1 ? paths[0] : "the text files";
    c->vocab = 256;
    for (size_t i = 0; i < n_paths; i++) {
        uint64_t size;
        FILE *file = open_file(paths[i], &size);
        uint8_t *bytes = realloc(c->bytes, c->n + size + 1);
        if (!bytes)
            fail(EXIT_BAD, "%s: out of memory for %zu bytes of text", paths[i], c->n + size);
        c->bytes = bytes;
        size_t got = fread(bytes + c->n, 1, size, file);
        if (got != size) fail(EXIT_BAD, "%s: read %zu of %zu bytes", paths[i], got, (size_t)size);
        c->n += size;
        fclose(file);
    }
}

enum { HEADER_INTS = 256, HEADER_BYTES = HEADER_INTS * 4 };

static void check_header(const char *path, const int32_t *header, uint64_t file_size) {
    static const char *const fields[] = {"magic number", "version"};
    static const int32_t want[] = {20240520, 1};
    for (int i = 0; i < 2; i++)
        if (header[i] != want[i])
            fail(EXIT_BAD, "%s: %s in the header is %d, not %d", path, fields[i], header[i],
                want[i]);
    uint64_t need = HEADER_BYTES + 2 * (uint64_t)(header[2] < 0 ? 0 : header[2]);
    if (header[2] < 0 || need != file_size)
        fail(EXIT_BAD, "%s: token count in the header is %d, but the file has %.0f bytes of tokens",
            path, header[2], (double)file_size - HEADER_BYTES);
}

void corpus_open_tokens(corpus *c, const char *path) {
    int32_t header[HEADER_INTS];
    uint16_t tokens[4096];
    uint64_t size;
    memset(c, 0, sizeof *c);
    c->name = path;
    c->file = open_file(path, &size);
    if (fread(header, 1, HEADER_BYTES, c->file) != HEADER_BYTES)
        fail(EXIT_BAD, "%s: %.0f bytes are too few for a token file's header of %d", path,
            (double)size, HEADER_BYTES);
    check_header(path, header, size);
    for (size_t n; (n = fread(tokens, 2, sizeof tokens / 2, c->file)) != 0; c->n += n)
        for (size_t i = 0; i < n; i++)
            if (tokens[i] >= c->vocab) c->vocab = tokens[i] + 1u;
    if (c->n != (size_t)header[2])
        fail(EXIT_BAD, "%s: read %zu of %d tokens", path, c->n, header[2]);
}

void corpus_close(corpus *c) {
    free(c->bytes);
    if (c->file) fclose(c->file);
}

void corpus_read(const corpus *c, size_t position, size_t n, int32_t *inputs, int32_t *targets) {
    uint16_t token = 0;
    if (c->file && fseeko(c->file, (off_t)(HEADER_BYTES + 2 * position), SEEK_SET) != 0)
        fail(EXIT_BAD, "%s: %s", c->name, strerror(errno));
    for (size_t i = 0; i <= n; i++) {
        if (c->bytes) token = c->bytes[position + i];
        else if (fread(&token, 2, 1, c->file) != 1)
            fail(EXIT_BAD, "%s: token %zu cannot be read", c->name, position + i);
        if (i < n) inputs[i] = token;
        if (i > 0) targets[i - 1] = token;
    }
}
