/* amalgamate.c - joins a library's files into one header, and embeds text files into it.
 *
 *   amalgamate [-I DIR]... [-k NAME]... HEADER.h IMPLEMENTATION.c OUT
 *
 * HEADER.h and IMPLEMENTATION.c are the umbrellas: their include order is the order of the layers,
 * and only they introduce files. OUT is the joined HEADER.h, then the joined IMPLEMENTATION.c under
 * #ifdef X_IMPLEMENTATION, where X is the name of HEADER.h in capitals.
 *
 *   #include "x.h", "x.c"  spliced where an umbrella introduces it, dropped after that
 *   #include "x.inc"       spliced every time
 *   #include <x.h>         stays, and so does "NAME" given by -k
 *   @embed-text PATH       inside a comment: the file's lines, as they are
 *   @embed-lines PATH      the file's lines as C strings, each with its newline and a comma
 *
 * A quoted name is looked up in every -I directory and must be in exactly one. PATH starts at the
 * current directory. OUT is a pure function of the files, and is not touched when one is rejected.
 * The program ends soon, so it frees nothing. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DIRS = 64, MAX_NAME = 512 };

typedef enum { UNSEEN, OPEN, DONE } state;

typedef struct source {
    char *path;
    const char *name; /* the last part of path */
    char *text;
    state state;
    int searched; /* by find_way, which runs once */
    struct source *next;
} source;

/* One line of a source, without its newline. */
typedef struct line {
    const char *text;
    int length;
    int number;
    int in_comment; /* whether it starts inside a block comment */
} line;

static const char *dirs[MAX_DIRS], *kept[MAX_DIRS];
static int n_dirs, n_kept;
static source *sources, *umbrellas[2], *umbrella;
static char *out;
static size_t out_size, out_capacity;

static void fail(const char *path, int number, const char *format, ...) {
    va_list args;
    if (number) fprintf(stderr, "%s:%d: ", path, number);
    else fprintf(stderr, "%s: ", path);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static void *grow(void *block, size_t size) {
    block = realloc(block, size);
    if (!block) fail("amalgamate", 0, "out of memory");
    return block;
}

/* ---- files --------------------------------------------------------------------------------- */

/* The whole file with a 0 behind it, NULL when it cannot be opened. */
static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t size = 0, capacity = 1 << 16;
    if (!file) return NULL;
    char *text = grow(NULL, capacity + 1);
    for (;;) {
        size += fread(text + size, 1, capacity - size, file);
        if (size < capacity) break;
        text = grow(text, (capacity *= 2) + 1);
    }
    if (ferror(file)) fail(path, 0, "cannot be read");
    fclose(file);
    text[size] = 0;
    return text;
}

static source *source_at(const char *path) {
    if (strncmp(path, "./", 2) == 0) path += 2;
    for (source *s = sources; s; s = s->next)
        if (strcmp(s->path, path) == 0) return s;
    char *text = read_file(path);
    if (!text) return NULL;
    source *s = grow(NULL, sizeof *s);
    memset(s, 0, sizeof *s);
    s->path = strcpy(grow(NULL, strlen(path) + 1), path);
    s->name = strrchr(s->path, '/') ? strrchr(s->path, '/') + 1 : s->path;
    s->text = text;
    s->next = sources;
    return sources = s;
}

static source *find_source(const source *from, int number, const char *name) {
    source *found = NULL;
    char path[2 * MAX_NAME];
    for (int i = 0; i < n_dirs; i++) {
        snprintf(path, sizeof path, "%s/%s", dirs[i], name);
        source *s = source_at(path);
        if (s && found)
            fail(from->path, number, "%s is ambiguous: %s and %s", name, found->path, path);
        if (s) found = s;
    }
    if (!found) fail(from->path, number, "%s includes %s, which does not exist", from->name, name);
    return found;
}

/* ---- lines --------------------------------------------------------------------------------- */

static const char *skip_literal(const char *at, const char *end) {
    char quote = *at++;
    while (at < end && *at != quote) at += *at == '\\' ? 2 : 1;
    return at + 1;
}

/* Whether the text behind a line is inside a block comment. */
static int ends_in_comment(const line *l) {
    const char *at = l->text, *end = at + l->length;
    int inside = l->in_comment;
    while (at < end) {
        int pair = at + 1 < end;
        if (inside && pair && at[0] == '*' && at[1] == '/') inside = 0, at += 2;
        else if (inside) at++;
        else if (pair && at[0] == '/' && at[1] == '*') inside = 1, at += 2;
        else if (pair && at[0] == '/' && at[1] == '/') break;
        else if (*at == '"' || *at == '\'') at = skip_literal(at, end);
        else at++;
    }
    return inside;
}

/* Steps to the next line; starts at {text, 0, 0, 0}. 0 at the end of the text. */
static int next_line(line *l) {
    if (l->number > 0) {
        l->in_comment = ends_in_comment(l);
        l->text += l->length;
        if (*l->text) l->text++;
    }
    if (!*l->text) return 0;
    l->length = (int)strcspn(l->text, "\n");
    l->number++;
    return 1;
}

static const char *skip(const char *at, const char *set) { return at + strspn(at, set); }

/* The name in a line #include "name". */
static int is_include(const line *l, char name[MAX_NAME]) {
    const char *at = skip(l->text, " \t");
    if (l->in_comment || *at != '#') return 0;
    at = skip(at + 1, " \t");
    if (strncmp(at, "include", 7) != 0) return 0;
    at = skip(at + 7, " \t");
    size_t length = *at == '"' ? strcspn(at + 1, "\"\n") : 0;
    if (length == 0 || length >= MAX_NAME) return 0;
    memcpy(name, at + 1, length);
    name[length] = 0;
    return 1;
}

/* The path in a line that holds nothing but a directive, a path and comment marks. */
static int is_embed(const line *l, const char *directive, char path[MAX_NAME]) {
    const char *at = skip(l->text, " \t/*");
    size_t n = strlen(directive);
    if (strncmp(at, directive, n) != 0 || !strchr(" \t", at[n])) return 0;
    at = skip(at + n, " \t");
    size_t length = strcspn(at, " \t\n");
    if (length == 0 || length >= MAX_NAME) return 0;
    memcpy(path, at, length);
    path[length] = 0;
    at = skip(at + length, " \t*/");
    return *at == '\n' || *at == 0;
}

/* ---- output -------------------------------------------------------------------------------- */

static void emit(const char *text, size_t length) {
    if (out_size + length + 1 > out_capacity) {
        out_capacity = 2 * (out_size + length + 1);
        out = grow(out, out_capacity);
    }
    memcpy(out + out_size, text, length);
    out_size += length;
    out[out_size] = 0;
}

static void emit_line(const char *text, int length) {
    emit(text, (size_t)length);
    emit("\n", 1);
}

static void emit_format(const char *format, const char *word) {
    char text[2 * MAX_NAME];
    emit_line(text, snprintf(text, sizeof text, format, word));
}

/* Dropped includes leave blank lines behind; one in a row is enough. */
static void emit_squeezed(const line *l) {
    int blank = l->length == 0 && out_size >= 2 && strcmp(out + out_size - 2, "\n\n") == 0;
    if (!blank) emit_line(l->text, l->length);
}

/* ---- embed --------------------------------------------------------------------------------- */

static void embed_text(const source *from, const line *at, const char *path) {
    const char *text = read_file(path);
    if (!at->in_comment) fail(from->path, at->number, "@embed-text outside a comment");
    if (!text) fail(from->path, at->number, "%s does not exist", path);
    if (strstr(text, "*/") || strstr(text, "/*"))
        fail(from->path, at->number, "%s has a comment mark, /* or */, in it", path);
    for (line l = {text, 0, 0, 0}; next_line(&l);) emit_line(l.text, l.length);
}

static void emit_string(const line *l) {
    emit("\"", 1);
    for (int i = 0; i < l->length; i++) {
        if (strchr("\"\\", l->text[i])) emit("\\", 1);
        if (l->text[i] == '\t') emit("\\t", 2);
        else emit(l->text + i, 1);
    }
    emit_line("\\n\",", 4);
}

static void embed_lines(const source *from, const line *at, const char *path) {
    const char *text = read_file(path);
    if (!text) fail(from->path, at->number, "%s does not exist", path);
    for (line l = {text, 0, 0, 0}; next_line(&l);) emit_string(&l);
}

/* ---- join ---------------------------------------------------------------------------------- */

static int ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int is_kept(const char *name) {
    for (int i = 0; i < n_kept; i++)
        if (strcmp(kept[i], name) == 0) return 1;
    return 0;
}

static int lists(const source *s, const char *name) {
    char included[MAX_NAME];
    for (line l = {s->text, 0, 0, 0}; next_line(&l);)
        if (is_include(&l, included) && strcmp(included, name) == 0) return 1;
    return 0;
}

/* Appends " -> a.h -> b.h" to chain for the includes that lead from s to target; 0 = none do. */
static int find_way(source *s, const source *target, char *chain, size_t size) {
    char name[MAX_NAME];
    size_t used = strlen(chain);
    snprintf(chain + used, size - used, " -> %s", s->name);
    if (s == target) return 1;
    for (line l = {s->text, 0, 0, 0}; !s->searched && next_line(&l);) {
        if (!is_include(&l, name) || is_kept(name)) continue;
        if (find_way(find_source(s, l.number, name), target, chain, size)) return 1;
    }
    s->searched = 1;
    chain[used] = 0;
    return 0;
}

static void reject_cycle(const source *from, int number, source *included) {
    char chain[4 * MAX_NAME];
    snprintf(chain, sizeof chain, "%s", from->name);
    if (find_way(included, from, chain, sizeof chain))
        fail(from->path, number, "include cycle: %s", chain);
}

static void reject_order(const source *from, int number, source *included) {
    reject_cycle(from, number, included);
    int later = lists(umbrellas[0], included->name) || lists(umbrellas[1], included->name);
    fail(from->path, number, "%s includes %s, which %s", from->name, included->name,
        later ? "the umbrella lists later" : "no umbrella lists");
}

static void splice(source *s);

static void include(source *from, const line *l, const char *name) {
    if (is_kept(name)) {
        emit_line(l->text, l->length);
        return;
    }
    source *s = find_source(from, l->number, name);
    if (s->state == OPEN) reject_cycle(from, l->number, s);
    if (s->state == DONE && !ends_with(name, ".inc")) return;
    if (from != umbrella && !ends_with(name, ".inc")) reject_order(from, l->number, s);
    splice(s);
}

static void splice(source *s) {
    char name[MAX_NAME];
    s->state = OPEN;
    for (line l = {s->text, 0, 0, 0}; next_line(&l);) {
        if (is_include(&l, name)) include(s, &l, name);
        else if (is_embed(&l, "@embed-text", name)) embed_text(s, &l, name);
        else if (is_embed(&l, "@embed-lines", name)) embed_lines(s, &l, name);
        else emit_squeezed(&l);
    }
    s->state = DONE;
}

/* memopt_cl.h -> MEMOPT_CL */
static void capitals(const char *name, char prefix[MAX_NAME]) {
    size_t n = strcspn(name, ".");
    if (n >= MAX_NAME) n = MAX_NAME - 1;
    for (size_t i = 0; i < n; i++) prefix[i] = (char)toupper((unsigned char)name[i]);
    prefix[n] = 0;
}

static void join(void) {
    char prefix[MAX_NAME];
    capitals(umbrellas[0]->name, prefix);
    emit_format("/* Generated by tools/amalgamate.c from %s", umbrellas[0]->path);
    out_size--;
    emit_format(" and %s; do not edit. */", umbrellas[1]->path);
    splice(umbrella = umbrellas[0]);
    emit_format("\n/* ---- implementation of %s ---- */", umbrellas[0]->name);
    emit_format("#ifdef %s_IMPLEMENTATION", prefix);
    emit_format("#ifndef %s_IMPLEMENTATION_DONE", prefix);
    emit_format("#define %s_IMPLEMENTATION_DONE\n", prefix);
    splice(umbrella = umbrellas[1]);
    emit_format("\n#endif /* %s_IMPLEMENTATION_DONE */", prefix);
    emit_format("#endif /* %s_IMPLEMENTATION */", prefix);
}

static void write_out(const char *path) {
    char temp[2 * MAX_NAME];
    snprintf(temp, sizeof temp, "%s.tmp", path);
    FILE *file = fopen(temp, "wb");
    if (!file) fail(temp, 0, "cannot be written");
    size_t written = fwrite(out, 1, out_size, file);
    if (fclose(file) != 0 || written != out_size) {
        remove(temp);
        fail(temp, 0, "cannot be written");
    }
#ifdef _WIN32
    remove(path); /* rename does not replace there */
#endif
    if (rename(temp, path) != 0) fail(path, 0, "cannot be replaced");
}

static void take_option(const char *option, const char *value) {
    if (strcmp(option, "-I") == 0 && n_dirs < MAX_DIRS) dirs[n_dirs++] = value;
    else if (strcmp(option, "-k") == 0 && n_kept < MAX_DIRS) kept[n_kept++] = value;
    else fail(option, 0, "unknown option, or too many of it");
}

int main(int argc, char **argv) {
    int at = 1;
    for (; at + 1 < argc && argv[at][0] == '-'; at += 2) take_option(argv[at], argv[at + 1]);
    if (argc - at != 3) fail("usage", 0, "%s [-I DIR]... [-k NAME]... HEADER IMPL OUT", argv[0]);
    for (int i = 0; i < 2; i++) {
        umbrellas[i] = source_at(argv[at + i]);
        if (!umbrellas[i]) fail(argv[at + i], 0, "does not exist");
    }
    join();
    write_out(argv[at + 2]);
    return 0;
}
