/* test_svg.h - written text in memory, and whether it is a well-formed SVG. */
#ifndef TEST_SVG_H
#define TEST_SVG_H

#include "test_util.h"

typedef struct text {
    char at[1 << 22];
    size_t size;
    int n_calls, fail_at;
} text;
static text out;
static inline int text_write(void *self, const char *from, size_t size) {
    (void)self;
    if (out.n_calls++ == out.fail_at) return 1;
    assert_true(out.size + size < sizeof out.at);
    memcpy(out.at + out.size, from, size);
    out.size += size;
    out.at[out.size] = 0;
    return 0;
}
static inline mo_writer text_begin(int fail_at) {
    out.size = 0;
    out.at[0] = 0;
    out.n_calls = 0;
    out.fail_at = fail_at;
    return (mo_writer){text_write, NULL};
}

static inline size_t count(const char *what) {
    size_t n = 0;
    for (const char *at = out.at; (at = strstr(at, what)) != NULL; at++) n++;
    return n;
}

/* Every tag is closed in order, and no character stands where XML does not allow it. */
static inline void assert_well_formed_from(const char *begin) {
    char open[16][16];
    size_t depth = 0;
    for (const char *at = begin; *at; at++) {
        assert_true((*at >= 32 && *at < 127) || *at == '\n');
        if (*at == '&') assert_int_equal(at[1], '#');
        if (*at != '<') continue;
        const char *end = strchr(at, '>');
        assert_non_null(end);
        size_t size = strcspn(at + 1 + (at[1] == '/'), " />");
        assert_in_range(size, 1, 15);
        if (at[1] == '/') {
            assert_in_range(depth, 1, 16);
            depth--;
            assert_int_equal(strlen(open[depth]), size);
            assert_memory_equal(open[depth], at + 2, size);
        } else if (end[-1] != '/') {
            assert_in_range(depth, 0, 15);
            memcpy(open[depth], at + 1, size);
            open[depth++][size] = 0;
        }
        at = end;
    }
    assert_int_equal(depth, 0);
}
static inline void assert_well_formed(void) { assert_well_formed_from(out.at); }

#endif
