// compare.c - the names and times in an earlier -o json or jsonl, whoever has reformatted it since.
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OLD = 256, MAX_NAME = 64, MAX_DEPTH = 16 };
typedef struct old_row {
    char name[MAX_NAME];
    double ns;
} old_row;
struct old_run {
    old_row rows[MAX_OLD];
    int n;
};

// The content of a file as a string to be freed.
static char *read_text(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(EXIT_FAILED, "--compare: %s: %s", path, strerror(errno));
    size_t size = 0, capacity = 1 << 16, got;
    char *text = malloc(capacity);
    while (text && (got = fread(text + size, 1, capacity - size - 1, file)) > 0) {
        size += got;
        if (capacity - size < 2) text = realloc(text, capacity *= 2);
    }
    if (!text || ferror(file)) fail(EXIT_FAILED, "--compare: %s: cannot be read", path);
    fclose(file);
    text[size] = 0;
    return text;
}

// The end of a string literal: its second quote, or the end of the text.
static char *end_of_string(char *at) {
    for (at++; *at && *at != '"'; at++)
        if (*at == '\\' && at[1]) at++;
    return at;
}

// Behind a key: takes the values of "name" and "ns".
static void take_member(old_row *r, const char *key, size_t n, const char *value) {
    if (n == 2 && memcmp(key, "ns", 2) == 0) r->ns = strtod(value, NULL);
    if (n != 4 || memcmp(key, "name", 4) != 0 || *value != '"') return;
    size_t length = strcspn(value + 1, "\"\\");
    if (length >= MAX_NAME) return;
    memcpy(r->name, value + 1, length);
    r->name[length] = 0;
}

// Every object of the text that has a name and a time is a row; all else is skipped.
static void scan(old_run *old, char *at) {
    old_row open[MAX_DEPTH] = {{{0}, 0}};
    int depth = 0;
    for (; *at; at++) {
        if (*at == '{') {
            if (depth + 1 == MAX_DEPTH) return;
            open[++depth] = (old_row){{0}, 0};
        }
        if (*at == '}' && depth > 0) {
            const old_row *r = &open[depth--];
            if (r->name[0] && r->ns > 0 && old->n < MAX_OLD) old->rows[old->n++] = *r;
        }
        if (*at != '"') continue;
        char *key = at + 1, *end = at = end_of_string(at);
        if (!*at) return;
        char *value = at + 1 + strspn(at + 1, " \t\r\n");
        if (*value != ':') continue;
        value += 1 + strspn(value + 1, " \t\r\n");
        take_member(&open[depth], key, (size_t)(end - key), value);
    }
}

old_run *old_read(const char *path) {
    old_run *old = calloc(1, sizeof *old);
    char *text = read_text(path);
    if (!old) fail(EXIT_FAILED, "out of memory");
    scan(old, text);
    free(text);
    if (old->n == 0) fail(EXIT_FAILED, "--compare: %s: not an output of -o json or jsonl", path);
    return old;
}

double old_ns(const old_run *old, const char *name) {
    for (int i = 0; i < old->n; i++)
        if (strcmp(old->rows[i].name, name) == 0) return old->rows[i].ns;
    return NAN;
}

void old_free(old_run *old) { free(old); }
