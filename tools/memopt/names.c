// names.c - names of tensors.
#include "names.h"

#include <fnmatch.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

bool name_is_any(const char *name, const word_list *patterns) {
    for (size_t i = 0; i < patterns->n; i++)
        if (fnmatch(patterns->items[i], name, 0) == 0) return true;
    return false;
}

// from and to are parts of text, a copy of the rule.
typedef struct rename_rule {
    char *text;
    const char *from, *to;
    bool is_regex, is_global;
    regex_t regex;
} rename_rule;

struct renames {
    rename_rule *rules;
    size_t n;
};

// ---- rules --------------------------------------------------------------------------------------

// s/FROM/TO/ with one of / | , # : ! @ % between them, and nothing or g behind it.
static bool split_regex(rename_rule *r) {
    char sign[2] = {r->text[1], 0};
    char *from = r->text + 2, *to = strchr(from, *sign), *end = to ? strchr(to + 1, *sign) : NULL;
    if (!end || to == from || (end[1] && strcmp(end + 1, "g") != 0)) return false;
    r->is_global = end[1] != 0;
    *to = *end = 0;
    r->from = from;
    r->to = to + 1;
    return true;
}

static void read_regex(rename_rule *r, const char *rule) {
    char why[128];
    if (!split_regex(r)) fail(EXIT_USAGE, "--rename: '%s' is not s/FROM/TO/ or s/FROM/TO/g", rule);
    const int error = regcomp(&r->regex, r->from, REG_EXTENDED);
    if (error == 0) return;
    regerror(error, &r->regex, why, sizeof why);
    fail(EXIT_USAGE, "--rename: '%s': %s", rule, why);
}

static void read_prefix(rename_rule *r, const char *rule) {
    char *equals = strchr(r->text, '=');
    if (!equals || equals == r->text)
        fail(EXIT_USAGE, "--rename: '%s' is neither FROM=TO nor s/FROM/TO/", rule);
    *equals = 0;
    r->from = r->text;
    r->to = equals + 1;
}

renames *renames_create(const word_list *rules) {
    renames *r = allocate(1, sizeof *r);
    r->rules = allocate(rules->n, sizeof *r->rules);
    for (size_t i = 0; i < rules->n; i++) {
        rename_rule *rule = &r->rules[r->n++];
        const char *text = rules->items[i];
        rule->text = allocate(strlen(text) + 1, 1);
        strcpy(rule->text, text);
        rule->is_regex = *text == 's' && text[1] && strchr("/|,#:!@%", text[1]);
        if (rule->is_regex) read_regex(rule, text);
        else read_prefix(rule, text);
    }
    return r;
}

void renames_destroy(renames *r) {
    for (size_t i = 0; i < r->n; i++) {
        if (r->rules[i].is_regex) regfree(&r->rules[i].regex);
        free(r->rules[i].text);
    }
    free(r->rules);
    free(r);
}

// ---- names --------------------------------------------------------------------------------------

// What stands in TO for one place, whose parts are in groups.
static void write_to(FILE *out, const char *to, const char *name, const regmatch_t *groups) {
    for (; *to; to++) {
        const bool is_group = *to == '&' || (*to == '\\' && to[1] >= '0' && to[1] <= '9');
        if (is_group) {
            const regmatch_t *g = &groups[*to == '&' ? 0 : *++to - '0'];
            if (g->rm_so >= 0) fwrite(name + g->rm_so, 1, (size_t)(g->rm_eo - g->rm_so), out);
        } else {
            if (*to == '\\' && to[1]) to++;
            fputc(*to, out);
        }
    }
}

static void write_regex(FILE *out, const rename_rule *r, const char *name) {
    regmatch_t groups[10];
    int flags = 0;
    while (*name && regexec(&r->regex, name, 10, groups, flags) == 0) {
        fwrite(name, 1, (size_t)groups->rm_so, out);
        write_to(out, r->to, name, groups);
        name += groups->rm_eo;
        if (groups->rm_so == groups->rm_eo && *name) fputc(*name++, out);
        flags = REG_NOTBOL;
        if (!r->is_global) break;
    }
    fputs(name, out);
}

static char *apply(const rename_rule *r, const char *name) {
    const size_t n = strlen(r->from);
    text_stream t;
    text_begin(&t);
    if (r->is_regex) write_regex(t.file, r, name);
    else if (strncmp(name, r->from, n) == 0) fprintf(t.file, "%s%s", r->to, name + n);
    else fputs(name, t.file);
    return text_end(&t);
}

char *renames_apply(const renames *r, const char *name) {
    char *text = allocate(strlen(name) + 1, 1);
    strcpy(text, name);
    for (size_t i = 0; i < r->n; i++) {
        char *next = apply(&r->rules[i], text);
        free(text);
        text = next;
    }
    return text;
}
