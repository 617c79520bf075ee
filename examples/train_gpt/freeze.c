// freeze.c - --freeze: parameters that stay as they are, without gradients and optimizer states.
#include "app.h"

#include <fnmatch.h>
#include <string.h>

// Without a wildcard: the name, or its first parts.
static bool matches(const char *pattern, const char *name) {
    const size_t n = strlen(pattern);
    if (strpbrk(pattern, "*?[")) return fnmatch(pattern, name, 0) == 0;
    return strncmp(name, pattern, n) == 0 && (name[n] == 0 || name[n] == '.');
}

// A name of a tensor that has several freezes it for all of them.
static size_t freeze(mo_params *params, const char *pattern) {
    size_t n = 0;
    for (size_t i = 0; i < params->n; i++) {
        if (!matches(pattern, params->items[i].name)) continue;
        params->items[params->items[i].tied_to].frozen = 1;
        n++;
    }
    return n;
}

void freeze_params(trainer *t) {
    char pattern[256];
    for (const char *at = t->o->freeze; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        const size_t n = strcspn(at, ",");
        if (n >= sizeof pattern) fail(EXIT_USAGE, "--freeze: a pattern of %zu characters", n);
        memcpy(pattern, at, n);
        pattern[n] = 0;
        if (freeze(&t->params, pattern) == 0 && !t->o->is_plain)
            fail(EXIT_USAGE, "--freeze: '%s' matches no parameter, such as '%s'", pattern,
                t->params.items[gpt_front(&t->config)].name);
    }
    if (trainer_n_trained(t, &t->o->strategy) == 0)
        fail(EXIT_USAGE, "--freeze %s: nothing is left to train", t->o->freeze);
}
