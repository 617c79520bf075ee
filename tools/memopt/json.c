// json.c - small JSON files.
#include "json.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 };

static const char *skip_blanks(const char *at) { return at + strspn(at, " \t\r\n"); }

// All of these return the end of what begins at at, NULL where it is not what it should be.
static const char *skip_value(const char *at, int depth);

static const char *skip_string(const char *at) {
    if (*at++ != '"') return NULL;
    for (; *at != '"'; at++) {
        if ((unsigned char)*at < 32) return NULL;
        if (*at == '\\' && !*++at) return NULL;
    }
    return at + 1;
}

static const char *skip_list(const char *at, int depth) {
    const char end = *at == '{' ? '}' : ']';
    at = skip_blanks(at + 1);
    if (*at == end) return at + 1;
    for (;; at++) {
        at = skip_blanks(at);
        if (end == '}') {
            at = skip_string(at);
            if (!at || *(at = skip_blanks(at)) != ':') return NULL;
            at++;
        }
        at = skip_value(at, depth);
        if (!at) return NULL;
        at = skip_blanks(at);
        if (*at == end) return at + 1;
        if (*at != ',') return NULL;
    }
}

static const char *skip_number(const char *at) {
    char *end;
    const size_t n = strspn(at, "+-0123456789.eE");
    if (*at == '+' || *at == '.') return NULL;
    strtod(at, &end);
    return n != 0 && end == at + n ? end : NULL;
}

static const char *skip_value(const char *at, int depth) {
    static const char *const names[] = {"true", "false", "null"};
    at = skip_blanks(at);
    if (*at == '"') return skip_string(at);
    if (*at == '{' || *at == '[') return depth < MAX_DEPTH ? skip_list(at, depth + 1) : NULL;
    for (int i = 0; i < 3; i++)
        if (strncmp(at, names[i], strlen(names[i])) == 0) return at + strlen(names[i]);
    return skip_number(at);
}

char *json_read(const char *path) {
    enum { MOST = 1 << 28 };
    FILE *file = fopen(path, "rb");
    size_t n = 0, room = 4096;
    if (!file) fail(EXIT_USAGE, "%s: %s", path, strerror(errno));
    char *text = allocate(room, 1);
    for (size_t got; (got = fread(text + n, 1, room - n - 1, file)) != 0;) {
        n += got;
        if (n + 1 < room) continue;
        if (room > MOST) fail(EXIT_USAGE, "%s: too large for settings", path);
        text = realloc(text, room *= 2);
        if (!text) fail(EXIT_NO, "out of memory");
    }
    if (ferror(file)) fail(EXIT_USAGE, "%s: %s", path, strerror(errno));
    fclose(file);
    text[n] = 0;
    const char *end = strlen(text) == n ? skip_value(text, 0) : NULL;
    if (!end || *skip_blanks(end)) fail(EXIT_USAGE, "%s: not JSON", path);
    return text;
}

json_value json_root(const char *text) {
    const char *at = skip_blanks(text);
    return (json_value){at, skip_value(at, 0)};
}

// ---- values -------------------------------------------------------------------------------------

static size_t put_utf8(unsigned code, char *to) {
    static const unsigned char leads[] = {0, 0xc0, 0xe0, 0xf0};
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    for (int i = more; i > 0; i--, code >>= 6) to[i] = (char)(0x80 | (code & 63));
    to[0] = (char)(leads[more] | code);
    return (size_t)more + 1;
}

// Four digits; what is none counts as 0.
static unsigned read_hex(const char **at) {
    char digits[5] = {0};
    strncpy(digits, *at, 4);
    *at += strlen(digits);
    return (unsigned)strtoul(digits, NULL, 16);
}

// One escape, behind its backslash; two that are the halves of one character become that.
static const char *decode_escape(const char *at, char **to) {
    static const char from[] = "bfnrt", into[] = "\b\f\n\r\t";
    const char *known = strchr(from, *at);
    if (*at++ != 'u') {
        *(*to)++ = known ? into[known - from] : at[-1];
        return at;
    }
    unsigned code = read_hex(&at);
    if (code >= 0xd800 && code < 0xdc00 && strncmp(at, "\\u", 2) == 0) {
        at += 2;
        code = 0x10000 + ((code - 0xd800) << 10) + ((read_hex(&at) - 0xdc00) & 0x3ff);
    }
    *to += put_utf8(code, *to);
    return at;
}

char *json_text(json_value v) {
    if (!v.at || *v.at != '"') return NULL;
    char *text = allocate((size_t)(v.end - v.at), 1), *to = text;
    for (const char *at = v.at + 1; at < v.end - 1;) {
        if (*at == '\\') at = decode_escape(at + 1, &to);
        else *to++ = *at++;
    }
    return text;
}

// Next member of an object, or item of a list: place NULL at the beginning. false = no more. key is
// to be freed.
static bool next_item(json_value list, const char **place, char **key, json_value *v) {
    if (!list.at || (*list.at != '{' && *list.at != '[')) return false;
    const char *at = skip_blanks(*place ? *place : list.at + 1);
    if (*at == ',') at = skip_blanks(at + 1);
    if (*at == '}' || *at == ']') return false;
    *key = NULL;
    if (*list.at == '{') {
        const char *end = skip_string(at);
        *key = json_text((json_value){at, end});
        at = skip_blanks(skip_blanks(end) + 1);
    }
    *v = (json_value){at, skip_value(at, 0)};
    *place = v->end;
    return true;
}

json_value json_get(json_value object, const char *key) {
    const char *place = NULL;
    char *name = NULL;
    json_value v = {0}, found = {0};
    if (object.at && *object.at != '{') return found;
    while (next_item(object, &place, &name, &v)) {
        if (strcmp(name, key) == 0) found = v;
        free(name);
    }
    return found;
}

bool json_number(json_value v, double *x) {
    if (!v.at || !(isdigit((unsigned char)*v.at) || *v.at == '-')) return false;
    *x = strtod(v.at, NULL);
    return true;
}

bool json_is(json_value v, const char *word) {
    const size_t n = strlen(word);
    return v.at && (size_t)(v.end - v.at) == n && memcmp(v.at, word, n) == 0;
}

bool json_is_empty(json_value v) {
    const char *place = NULL;
    char *key = NULL;
    json_value item;
    const bool is_list = v.at && (*v.at == '{' || *v.at == '[');
    if (!is_list || !next_item(v, &place, &key, &item)) return is_list;
    free(key);
    return false;
}
