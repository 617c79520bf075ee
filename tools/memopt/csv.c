// csv.c - see csv.h. The text is cut into cells in place.
#include "csv.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- errors -----------------------------------------------------------------------------------

// Part of a text as it may stand in a message.
typedef struct excerpt {
    char text[64];
} excerpt;

static excerpt excerpt_of(const char *from) {
    enum { MOST = 48 };
    excerpt e;
    size_t n = 0;
    for (; from[n] && n < MOST; n++) e.text[n] = from[n] >= 32 && from[n] < 127 ? from[n] : '?';
    strcpy(e.text + n, from[n] ? "..." : "");
    return e;
}

// line 0: the whole file
static bool set_error(csv *c, size_t line, const char *format, va_list args) {
    const char *path = strcmp(c->path, "-") == 0 ? "standard input" : c->path;
    int n = line ? snprintf(c->error, sizeof c->error, "%.200s:%zu: ", path, line)
                 : snprintf(c->error, sizeof c->error, "%.200s: ", path);
    vsnprintf(c->error + n, sizeof c->error - (size_t)n, format, args);
    return false;
}

bool csv_fail_file(csv *c, const char *format, ...) {
    va_list args;
    va_start(args, format);
    set_error(c, 0, format, args);
    va_end(args);
    return false;
}

__attribute__((format(printf, 3, 4))) static bool fail_line(
    csv *c, size_t line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    set_error(c, line, format, args);
    va_end(args);
    return false;
}

bool csv_fail(csv *c, size_t row, int column, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail_line(c, c->lines[row], "%s '%s': %s", excerpt_of(c->names[column]).text,
        excerpt_of(csv_cell(c, row, column)).text, text);
}

// ---- cells ------------------------------------------------------------------------------------

typedef struct cutter {
    char *at, *end; // *end is 0
    size_t line;
} cutter;

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

// What stands between quotes, with "" for a quote. NULL when the last quote is missing, or when
// something follows it.
static char *cut_quoted(cutter *t) {
    char *cell = ++t->at, *to = cell;
    bool is_closed = false;
    for (; t->at < t->end; t->at++) {
        if (*t->at == '"' && *++t->at != '"') {
            is_closed = true;
            break;
        }
        t->line += *t->at == '\n';
        *to++ = *t->at;
    }
    while (is_blank(*t->at)) t->at++;
    if (*t->at == '\r' && (t->at[1] == '\n' || t->at + 1 == t->end)) t->at++;
    if (!is_closed || (t->at < t->end && *t->at != ',' && *t->at != '\n')) return NULL;
    *to = 0; // the closing quote, or before it
    return cell;
}

static char *cut_plain(cutter *t, char **last) {
    char *cell = t->at;
    while (t->at < t->end && *t->at != ',' && *t->at != '\n') t->at++;
    *last = t->at;
    if (*last > cell && *t->at != ',' && (*last)[-1] == '\r') --*last;
    while (*last > cell && is_blank((*last)[-1])) --*last;
    return cell;
}

typedef struct list {
    const char **cells;
    size_t n, room;
} list;

static bool list_add(csv *c, list *l, const char *cell) {
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        const char **cells =
            room <= SIZE_MAX / sizeof *cells ? realloc(l->cells, room * sizeof *cells) : NULL;
        if (!cells) return csv_fail_file(c, "out of memory");
        l->cells = cells;
        l->room = room;
    }
    l->cells[l->n++] = cell;
    return true;
}

// One row, and the newline behind it.
static bool cut_row(csv *c, cutter *t, list *cells) {
    for (;;) {
        char *cell, *last = NULL, separator;
        while (t->at < t->end && is_blank(*t->at)) t->at++;
        if (*t->at == '"') {
            const size_t line = t->line;
            if (!(cell = cut_quoted(t)))
                return fail_line(c, line, "quotes that do not close, or text behind them");
        } else cell = cut_plain(t, &last);
        separator = t->at < t->end ? *t->at : 0;
        if (last) *last = 0;
        if (!list_add(c, cells, cell)) return false;
        t->at += separator != 0;
        if (separator == ',') continue;
        t->line++;
        return true;
    }
}

// Empty lines, and comments where there may be some.
static void skip_lines(cutter *t, bool comments) {
    while (t->at < t->end) {
        char *at = t->at;
        while (is_blank(*at)) at++;
        if (*at == '\r' && (at[1] == '\n' || at + 1 == t->end)) at++;
        if (at < t->end && *at != '\n' && !(comments && *at == '#')) return;
        while (at < t->end && *at != '\n') at++;
        t->at = at + (at < t->end);
        t->line++;
    }
}

// ---- the table --------------------------------------------------------------------------------

static bool check_names(csv *c, size_t line) {
    enum { MOST = 1000 };
    if (c->n_columns > MOST)
        return fail_line(c, line, "%zu columns, more than %d", c->n_columns, MOST);
    for (size_t i = 0; i < c->n_columns; i++) {
        if (!*c->names[i]) return fail_line(c, line, "column %zu of the header has no name", i + 1);
        for (size_t k = 0; k < i; k++)
            if (strcmp(c->names[i], c->names[k]) == 0)
                return fail_line(
                    c, line, "column '%s' is there twice", excerpt_of(c->names[i]).text);
    }
    return true;
}

static bool add_line(csv *c, size_t line, size_t *room) {
    if (c->n_rows == *room) {
        *room = *room ? 2 * *room : 64;
        size_t *lines = realloc(c->lines, *room * sizeof *lines);
        if (!lines) return csv_fail_file(c, "out of memory");
        c->lines = lines;
    }
    c->lines[c->n_rows++] = line;
    return true;
}

static bool parse_rows(csv *c, cutter *t, bool comments) {
    list cells = {0};
    size_t room = 0, line;
    bool ok = true;
    for (; skip_lines(t, comments), ok && t->at < t->end;) {
        line = t->line;
        ok = cut_row(c, t, &cells) && add_line(c, line, &room);
        const size_t n = ok ? cells.n - (c->n_rows - 1) * c->n_columns : 0;
        if (ok && n != c->n_columns)
            ok = fail_line(c, line, "%zu columns, but the header has %zu", n, c->n_columns);
    }
    c->cells = cells.cells;
    return ok;
}

bool csv_parse(csv *c, const char *path, char *text, size_t size, bool comments) {
    memset(c, 0, sizeof *c);
    c->path = path;
    c->text = text;
    text[size] = 0;
    cutter t = {text, text + size, 1};
    const char *zero = memchr(text, 0, size);
    if (zero) {
        for (const char *at = text; (at = memchr(at, '\n', (size_t)(zero - at))); at++) t.line++;
        return fail_line(c, t.line, "a NUL byte: this is not text");
    }
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) t.at += 3;
    skip_lines(&t, comments);
    if (t.at == t.end) return csv_fail_file(c, "empty, without a header");
    const size_t line = t.line;
    list names = {0};
    const bool ok = cut_row(c, &t, &names);
    c->names = names.cells;
    c->n_columns = names.n;
    return ok && check_names(c, line) && parse_rows(c, &t, comments);
}

static bool read_all(csv *c, FILE *file, char **text, size_t *size) {
    size_t room = 0;
    for (*text = NULL, *size = 0;;) {
        if (*size + 1 >= room) {
            room = room ? 2 * room : 1 << 16;
            char *more = realloc(*text, room);
            if (!more) return csv_fail_file(c, "out of memory");
            *text = more;
        }
        errno = 0;
        const size_t n = fread(*text + *size, 1, room - *size - 1, file);
        *size += n;
        if (n == 0 && ferror(file)) return csv_fail_file(c, "%s", strerror(errno));
        if (n == 0) return true;
    }
}

bool csv_read(csv *c, const char *path, bool comments) {
    memset(c, 0, sizeof *c);
    c->path = path;
    const bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "rb");
    char *text;
    size_t size;
    if (!file) return csv_fail_file(c, "%s", strerror(errno));
    const bool ok = read_all(c, file, &text, &size);
    if (!is_stdin) fclose(file);
    if (ok) return csv_parse(c, path, text, size, comments);
    free(text);
    return false;
}

void csv_close(csv *c) {
    free(c->text);
    free(c->names);
    free(c->cells);
    free(c->lines);
    c->text = NULL, c->names = c->cells = NULL, c->lines = NULL;
    c->n_rows = c->n_columns = 0;
}

// ---- values -----------------------------------------------------------------------------------

int csv_find(const csv *c, const char *name) {
    for (size_t i = 0; i < c->n_columns; i++)
        if (strcmp(c->names[i], name) == 0) return (int)i;
    return CSV_NONE;
}

const char *csv_cell(const csv *c, size_t row, int column) {
    return c->cells[row * c->n_columns + (size_t)column];
}

bool csv_scan_size(const char **at, size_t most, size_t *value) {
    const char *from = *at;
    size_t x = 0;
    for (; **at >= '0' && **at <= '9'; ++*at) {
        const size_t digit = (size_t)(**at - '0');
        if (digit > most || x > (most - digit) / 10) return false;
        x = 10 * x + digit;
    }
    if (*at == from) return false;
    *value = x;
    return true;
}

bool csv_size(csv *c, size_t row, int column, size_t most, size_t *value) {
    const char *at = csv_cell(c, row, column);
    if (!csv_scan_size(&at, most, value) || *at)
        return csv_fail(c, row, column, "not a whole number from 0 to %zu", most);
    return true;
}

bool csv_real(csv *c, size_t row, int column, double *value) {
    const char *text = csv_cell(c, row, column);
    char *end;
    // strtod also takes "nan", "inf" and hexadecimal numbers.
    const bool is_plain = *text && strspn(text, "+.0123456789eE-") == strlen(text);
    *value = is_plain ? strtod(text, &end) : -1;
    if (!is_plain || *end || !(*value >= 0) || isinf(*value))
        return csv_fail(c, row, column, "not a number of 0 or more");
    return true;
}

typedef struct named {
    const char *name;
    size_t row;
} named;

static int by_name(const void *x, const void *y) {
    const named *a = x, *b = y;
    const int order = strcmp(a->name, b->name);
    return order ? order : (a->row > b->row) - (a->row < b->row);
}

bool csv_unique(csv *c, int column) {
    named *rows = malloc((c->n_rows ? c->n_rows : 1) * sizeof *rows);
    bool ok = rows ? true : csv_fail_file(c, "out of memory");
    for (size_t i = 0; ok && i < c->n_rows; i++) rows[i] = (named){csv_cell(c, i, column), i};
    if (ok) qsort(rows, c->n_rows, sizeof *rows, by_name);
    for (size_t i = 1; ok && i < c->n_rows; i++)
        if (strcmp(rows[i].name, rows[i - 1].name) == 0)
            ok = csv_fail(c, rows[i].row, column, "line %zu has it too", c->lines[rows[i - 1].row]);
    free(rows);
    return ok;
}
