// flags.c - command lines.
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t parse_bytes(const char *text) { return (size_t)mo_parse_bytes(text, strlen(text)); }

static void set_count(const flag *f, const char *text) {
    char *end;
    errno = 0;
    const unsigned long long x = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno == ERANGE || x == 0 || x > 1u << 30)
        fail(EXIT_USAGE, "%s: '%s' is not a whole number from 1 to %u", f->name, text, 1u << 30);
    *(size_t *)f->value = x;
}

static void set_share(const flag *f, const char *text) {
    share *s = f->value;
    char *end;
    const double percent = strtod(text, &end);
    *s = (share){0};
    if (isdigit((unsigned char)*text) && *end == '%' && !end[1] && percent > 0 && percent <= 1e6)
        s->percent = percent;
    else if (!(s->bytes = parse_bytes(text)))
        fail(EXIT_USAGE, "%s: '%s' is not a size such as 300M or 2G, nor a percentage", f->name,
            text);
}

static void set_real(const flag *f, const char *text) {
    char *end;
    const double x = strtod(text, &end);
    if (!(isdigit((unsigned char)*text) || *text == '.') || *end || !(x > 0) || x > 1e12)
        fail(EXIT_USAGE, "%s: '%s' is not a number above 0", f->name, text);
    *(double *)f->value = x;
}

static void set_least(const flag *f, const char *text) {
    char *end;
    const double x = strtod(text, &end);
    if (!(isdigit((unsigned char)*text) || *text == '.') || *end || !(x >= 0) || x > 1e300)
        fail(EXIT_USAGE, "%s: '%s' is not a number of 0 or more", f->name, text);
    *(double *)f->value = x;
}

static void set_rate(const flag *f, const char *text) {
    char *end;
    double x = strtod(text, &end);
    const char *at = *end ? strchr("KMGT", toupper((unsigned char)*end)) : NULL;
    if (at) x *= pow(1000, (double)(at - "KMGT" + 1)), end++;
    if (strcmp(end, "B/s") == 0) end += 3;
    if (!(isdigit((unsigned char)*text) || *text == '.') || *end || !(x > 0) || x > 1e18)
        fail(EXIT_USAGE, "%s: '%s' is not a rate such as 25e9 or 25G", f->name, text);
    *(double *)f->value = x;
}

static void add_word(const flag *f, const char *text) {
    word_list *w = f->value;
    if (!*text) fail(EXIT_USAGE, "%s: value missing", f->name);
    w->items = realloc(w->items, (w->n + 1) * sizeof *w->items);
    if (!w->items) fail(EXIT_NO, "out of memory");
    w->items[w->n++] = text;
}

void flag_set(const flag *f, const char *text) {
    switch (f->kind) {
    case FLAG_SWITCH: *(bool *)f->value = true; break;
    case FLAG_TEXT:
        if (!*text) fail(EXIT_USAGE, "%s: value missing", f->name);
        *(const char **)f->value = text;
        break;
    case FLAG_COUNT: set_count(f, text); break;
    case FLAG_BYTES:
        if (!(*(size_t *)f->value = parse_bytes(text)))
            fail(EXIT_USAGE, "%s: '%s' is not a size such as 4096, 300M or 2G", f->name, text);
        break;
    case FLAG_SHARE: set_share(f, text); break;
    case FLAG_REAL: set_real(f, text); break;
    case FLAG_LEAST: set_least(f, text); break;
    case FLAG_RATE: set_rate(f, text); break;
    case FLAG_WORDS: add_word(f, text); break;
    }
}

static const flag *find(const char *word, size_t n, const flag *flags, size_t n_flags) {
    for (size_t i = 0; i < n_flags; i++)
        if (strlen(flags[i].name) == n && memcmp(flags[i].name, word, n) == 0) return &flags[i];
    fail(EXIT_USAGE, "unknown flag '%.*s' (see --help)", (int)n, word);
}

static void print_help(const command *self) {
    printf("memopt %s - %s\n\n%s", self->name, self->summary, self->help);
    flush_stdout();
    exit(0);
}

// The number of files, of which the first n_files are kept.
static size_t parse(const command *self, int argc, const char *const *argv, const flag *flags,
    size_t n_flags, const char **files, size_t n_files) {
    size_t n = 0;
    bool only_files = false;
    for (int at = 0; at < argc; at++) {
        const char *word = argv[at], *equals = strchr(word, '=');
        const size_t size = equals ? (size_t)(equals - word) : strlen(word);
        if (only_files || *word != '-' || !word[1]) {
            if (!*word) fail(EXIT_USAGE, "the name of a file is empty");
            if (n < n_files) files[n] = word;
            n++;
            continue;
        }
        only_files = strcmp(word, "--") == 0;
        if (only_files) continue;
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) print_help(self);
        const flag *f = find(word, size, flags, n_flags);
        if (f->kind == FLAG_SWITCH && equals) fail(EXIT_USAGE, "%s takes no value", f->name);
        if (f->kind == FLAG_SWITCH) flag_set(f, "");
        else if (equals) flag_set(f, equals + 1);
        else if (at + 1 < argc && strncmp(argv[at + 1], "--", 2) != 0) flag_set(f, argv[++at]);
        else fail(EXIT_USAGE, "%s: value missing", f->name);
    }
    return n;
}

void flags_parse(const command *self, int argc, const char *const *argv, const flag *flags,
    size_t n_flags, const char **files, size_t n_files) {
    const size_t n = parse(self, argc, argv, flags, n_flags, files, n_files);
    if (n < n_files) fail(EXIT_USAGE, "file missing (see --help)");
    if (n > n_files) fail(EXIT_USAGE, "%zu files, not %zu (see --help)", n, n_files);
}

size_t flags_parse_many(const command *self, int argc, const char *const *argv, const flag *flags,
    size_t n_flags, const char **files) {
    const size_t n = parse(self, argc, argv, flags, n_flags, files, (size_t)argc);
    if (n == 0) fail(EXIT_USAGE, "file missing (see --help)");
    return n;
}
