/* test_replay.h - short names for what the tests of mo_replay do all the time. */
#ifndef TEST_REPLAY_H
#define TEST_REPLAY_H

#include "test_util.h"

enum { KIB = 1024 };

static inline void start(mo_replay *replay, size_t size) {
    mo_replay_desc desc = {.size = size, .max_live = 1000};
    test_ok(mo_replay_init(replay, &desc));
}

static inline mo_replay_stats stats_of(const mo_replay *replay) {
    mo_replay_stats stats;
    mo_replay_get_stats(replay, &stats);
    return stats;
}

static inline size_t take(mo_replay *replay, size_t size) {
    size_t off = SIZE_MAX;
    test_ok(mo_replay_alloc(replay, size, 0, &off));
    return off;
}

static inline void give(mo_replay *replay, size_t off) { test_ok(mo_replay_dealloc(replay, off)); }
static inline void begin(mo_replay *replay, uint64_t key) {
    test_ok(mo_replay_begin_step(replay, key));
}
static inline void end(mo_replay *replay) { test_ok(mo_replay_end_step(replay)); }

/* Hits, misses and fallbacks so far. */
static inline void assert_steps(const mo_replay *replay, int hits, int misses, int fallbacks) {
    mo_replay_stats stats = stats_of(replay);
    assert_int_equal(stats.n_hits, hits);
    assert_int_equal(stats.n_misses, misses);
    assert_int_equal(stats.n_fallbacks, fallbacks);
}

/* 6 KiB at once: 4, 4 + 1, 1, 1 + 5. One after the other it needs 10: the 5 do not fit below the 1.
 * Scaled by unit. */
static inline void small_step(mo_replay *replay, uint64_t key, size_t unit) {
    begin(replay, key);
    size_t a = take(replay, 4 * unit), b = take(replay, unit);
    give(replay, a);
    size_t c = take(replay, 5 * unit);
    give(replay, b);
    give(replay, c);
    end(replay);
}

#endif
