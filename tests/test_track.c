/* test_track.c - mo_track */
#include "test_util.h"

typedef struct text {
    char at[65536];
    size_t size;
    int n_calls, fail_at;
} text;
static int text_write(void *self, const char *from, size_t size) {
    text *t = self;
    if (t->n_calls++ == t->fail_at) return 1;
    assert_true(t->size + size < sizeof t->at);
    memcpy(t->at + t->size, from, size);
    t->size += size;
    t->at[t->size] = 0;
    return 0;
}
static mo_writer text_begin(text *t, int fail_at) {
    memset(t, 0, sizeof *t);
    t->fail_at = fail_at;
    return (mo_writer){text_write, t};
}

/* All lines of the log, one after the other. */
static void log_to_text(void *self, mo_log_level level, const char *line) {
    (void)level;
    text_write(self, line, strlen(line));
    text_write(self, "\n", 1);
}

static mo_track_stats stats_of(const mo_track *track) {
    mo_track_stats stats;
    mo_track_get_stats(track, &stats);
    return stats;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void bytes_are_counted_by_category(void **state) {
    (void)state;
    mo_track track;
    test_ok(mo_track_init(&track, NULL));
    void *a = MEMOPT_TRACK_ALLOC(&track, 100, 0, MO_CATEGORY_PARAM);
    void *b = MEMOPT_TRACK_ALLOC(&track, 50, 16, MO_CATEGORY_GRAD);
    mo_track_dealloc(&track, a, 100, 0, MO_CATEGORY_PARAM);
    mo_track_stats stats = stats_of(&track);
    assert_int_equal(stats.by_category[MO_CATEGORY_PARAM].current_bytes, 0);
    assert_int_equal(stats.by_category[MO_CATEGORY_PARAM].peak_bytes, 100);
    assert_int_equal(stats.by_category[MO_CATEGORY_GRAD].current_bytes, 50);
    assert_int_equal(stats.total.current_bytes, 50);
    assert_int_equal(stats.total.peak_bytes, 150);
    assert_int_equal(stats.total.allocated_bytes, 150);
    assert_int_equal(stats.total.freed_bytes, 100);
    assert_int_equal(stats.total.n_current, 1);
    assert_int_equal(stats.total.n_peak, 2);
    mo_track_dealloc(&track, b, 50, 16, MO_CATEGORY_GRAD);
    assert_int_equal(stats_of(&track).total.current_bytes, 0);
    mo_track_free(&track);
}

static void the_split_at_the_peak_is_of_that_moment(void **state) {
    (void)state;
    mo_track track;
    char key[4];
    test_ok(mo_track_init(&track, NULL));
    test_ok(mo_track_add(&track, &key[0], 100, MO_CATEGORY_PARAM, "w"));
    test_ok(mo_track_add(&track, &key[1], 60, MO_CATEGORY_ACTIVATION, "x"));
    test_ok(mo_track_remove(&track, &key[1]));
    test_ok(mo_track_add(&track, &key[2], 50, MO_CATEGORY_GRAD, "g"));
    mo_track_stats stats = stats_of(&track);
    assert_int_equal(stats.total.peak_bytes, 160);
    assert_int_equal(stats.at_peak_bytes[MO_CATEGORY_PARAM], 100);
    assert_int_equal(stats.at_peak_bytes[MO_CATEGORY_ACTIVATION], 60);
    assert_int_equal(stats.at_peak_bytes[MO_CATEGORY_GRAD], 0);
    mo_track_free(&track);
}

static void the_largest_blocks_of_now_and_of_the_peak_differ(void **state) {
    (void)state;
    mo_track track;
    mo_track_block blocks[3];
    char key[4];
    test_ok(mo_track_init(&track, NULL));
    test_ok(mo_track_add(&track, &key[0], 100, MO_CATEGORY_PARAM, "w"));
    test_ok(mo_track_add(&track, &key[1], 160, MO_CATEGORY_ACTIVATION, "x"));
    test_ok(mo_track_remove(&track, &key[1]));
    test_ok(mo_track_add(&track, &key[2], 50, MO_CATEGORY_GRAD, "g"));
    assert_int_equal(mo_track_top_live(&track, blocks, 3), 2);
    assert_string_equal(blocks[0].name, "w");
    assert_string_equal(blocks[1].name, "g");
    assert_int_equal(mo_track_top_peak(&track, blocks, 3), 2);
    assert_string_equal(blocks[0].name, "x");
    assert_string_equal(blocks[1].name, "w");
    assert_int_equal(mo_track_top_peak(&track, blocks, 1), 1);
    assert_string_equal(blocks[0].name, "x");
    assert_int_equal(mo_track_top_peak(&track, blocks, 0), 0);
    mo_track_reset_peak(&track);
    assert_int_equal(stats_of(&track).total.peak_bytes, 150);
    assert_int_equal(mo_track_top_peak(&track, blocks, 3), 2);
    assert_string_equal(blocks[1].name, "g");
    mo_track_free(&track);
}

static void blocks_know_the_call_that_made_them(void **state) {
    (void)state;
    mo_track track;
    mo_track_block block;
    test_ok(mo_track_init(&track, NULL));
    void *p = MEMOPT_TRACK_ALLOC(&track, 10, 0, MO_CATEGORY_OTHER);
    int line = __LINE__ - 1;
    assert_int_equal(mo_track_top_live(&track, &block, 1), 1);
    assert_string_equal(block.name, __FILE__);
    assert_int_equal(block.line, line);
    mo_track_dealloc(&track, p, 10, 0, MO_CATEGORY_OTHER);
    mo_track_free(&track);
}

static void it_is_an_allocator_for_each_category(void **state) {
    (void)state;
    mo_track track;
    test_ok(mo_track_init(&track, NULL));
    mo_allocator param = mo_track_allocator(&track, MO_CATEGORY_PARAM);
    mo_allocator input = mo_track_allocator(&track, MO_CATEGORY_INPUT);
    void *a = mo_alloc(&param, 10, 64), *b = mo_alloc(&input, 20, 64);
    assert_int_equal(stats_of(&track).by_category[MO_CATEGORY_PARAM].current_bytes, 10);
    assert_int_equal(stats_of(&track).by_category[MO_CATEGORY_INPUT].current_bytes, 20);
    mo_free(&param, b, 20, 64); /* the table knows better where it belongs */
    assert_int_equal(stats_of(&track).by_category[MO_CATEGORY_INPUT].current_bytes, 0);
    mo_free(&param, a, 10, 64);
    mo_track_free(&track);
}

static void past_the_budget_nothing_is_allocated_and_the_log_tells_why(void **state) {
    (void)state;
    static text seen;
    text_begin(&seen, -1);
    mo_log log = {log_to_text, &seen};
    mo_track track;
    mo_track_desc desc = {.budget_bytes = 2048, .log = &log};
    char key[2];
    test_ok(mo_track_init(&track, &desc));
    void *a = mo_track_alloc(&track, 1536, 0, MO_CATEGORY_PARAM, "weights", 0);
    assert_null(mo_track_alloc(&track, 1024, 0, MO_CATEGORY_GRAD, "grads", 0));
    assert_string_equal(seen.at,
        "out of memory: 1.0 KiB (grad) requested, 1.5 KiB in use, budget 2.0 KiB\n"
        "  in use: param 1.5 KiB\n"
        "   1.    1.5 KiB  param       weights\n");
    assert_int_equal(mo_track_add(&track, &key[0], 513, MO_CATEGORY_GRAD, "g"), MO_E_NO_SPACE);
    test_ok(mo_track_add(&track, &key[0], 512, MO_CATEGORY_GRAD, "g"));
    assert_int_equal(stats_of(&track).n_failed, 2);
    assert_int_equal(stats_of(&track).total.peak_bytes, 2048);
    mo_track_dealloc(&track, a, 1536, 0, MO_CATEGORY_PARAM);
    mo_track_free(&track);
}

static void a_key_is_live_once(void **state) {
    (void)state;
    mo_track track;
    char key;
    test_ok(mo_track_init(&track, NULL));
    test_ok(mo_track_add(&track, &key, 1, MO_CATEGORY_GRAD, NULL));
    assert_int_equal(mo_track_add(&track, &key, 1, MO_CATEGORY_GRAD, NULL), MO_E_INVALID);
    assert_int_equal(mo_track_add(&track, NULL, 1, MO_CATEGORY_GRAD, NULL), MO_E_INVALID);
    test_ok(mo_track_remove(&track, &key));
    assert_int_equal(mo_track_remove(&track, &key), MO_E_NOT_FOUND);
    mo_track_free(&track);
}

static void a_full_table_still_counts_bytes(void **state) {
    (void)state;
    mo_track track;
    mo_track_desc desc = {.max_blocks = 2};
    char key;
    void *p[4];
    test_ok(mo_track_init(&track, &desc));
    for (int i = 0; i < 4; i++) p[i] = mo_track_alloc(&track, 10, 0, MO_CATEGORY_GRAD, NULL, 0);
    assert_int_equal(stats_of(&track).total.current_bytes, 40);
    assert_int_equal(stats_of(&track).n_untracked, 2);
    assert_int_equal(mo_track_add(&track, &key, 1, MO_CATEGORY_GRAD, NULL), MO_E_NO_SPACE);
    for (int i = 0; i < 4; i++) mo_track_dealloc(&track, p[i], 10, 0, MO_CATEGORY_GRAD);
    assert_int_equal(stats_of(&track).total.current_bytes, 0);
    assert_int_equal(stats_of(&track).n_untracked, 0);
    mo_track_free(&track);
}

static void over_an_arena_a_reused_address_ends_the_old_block(void **state) {
    (void)state;
    static unsigned char block[4096];
    mo_arena arena;
    mo_arena_desc arena_desc = {.block = block, .size = sizeof block};
    test_ok(mo_arena_init(&arena, &arena_desc));
    mo_allocator inner = mo_arena_allocator(&arena), heap = mo_allocator_heap();
    mo_track track;
    mo_track_desc desc = {.allocator = &inner, .tables = &heap};
    test_ok(mo_track_init(&track, &desc));
    assert_non_null(mo_track_alloc(&track, 100, 64, MO_CATEGORY_GRAD, "a", 0));
    assert_non_null(mo_track_alloc(&track, 100, 64, MO_CATEGORY_GRAD, "b", 0));
    mo_arena_reset(&arena);
    assert_non_null(mo_track_alloc(&track, 70, 64, MO_CATEGORY_GRAD, "c", 0));
    assert_int_equal(stats_of(&track).total.current_bytes, 170);
    mo_arena_reset(&arena);
    mo_track_remove_range(&track, block, sizeof block);
    assert_int_equal(stats_of(&track).total.current_bytes, 0);
    mo_track_free(&track);
    mo_arena_free(&arena);
}

static void events_come_back_in_order_with_the_bytes_after_them(void **state) {
    (void)state;
    mo_track track;
    char key[2];
    test_ok(mo_track_init(&track, NULL));
    test_ok(mo_track_add(&track, &key[0], 5, MO_CATEGORY_PARAM, "w"));
    mo_track_mark(&track, "forward");
    test_ok(mo_track_add(&track, &key[1], 7, MO_CATEGORY_GRAD, "g"));
    test_ok(mo_track_remove(&track, &key[0]));
    mo_track_oom(&track, 99, MO_CATEGORY_INPUT);
    const struct {
        mo_track_event_kind kind;
        uint64_t size, param, grad;
    } want[] = {{MO_TRACK_ALLOC, 5, 5, 0}, {MO_TRACK_MARK, 0, 5, 0}, {MO_TRACK_ALLOC, 7, 5, 7},
        {MO_TRACK_FREE, 5, 0, 7}, {MO_TRACK_OOM, 99, 0, 7}};
    mo_track_cursor cursor = {0};
    for (size_t i = 0; i < n_elements(want); i++) {
        assert_true(mo_track_next(&track, &cursor));
        assert_int_equal(cursor.event.number, i + 1);
        assert_int_equal(cursor.event.time_ns, i + 1);
        assert_int_equal(cursor.event.kind, want[i].kind);
        assert_int_equal(cursor.event.size, want[i].size);
        assert_int_equal(cursor.event.bytes[MO_CATEGORY_PARAM], want[i].param);
        assert_int_equal(cursor.event.bytes[MO_CATEGORY_GRAD], want[i].grad);
    }
    assert_false(mo_track_next(&track, &cursor));
    mo_track_free(&track);
}

static void the_ring_forgets_the_oldest_events_but_not_their_bytes(void **state) {
    (void)state;
    mo_track track;
    mo_track_desc desc = {.max_events = 3};
    char key[10];
    test_ok(mo_track_init(&track, &desc));
    for (int i = 0; i < 10; i++) test_ok(mo_track_add(&track, &key[i], 1, MO_CATEGORY_PARAM, NULL));
    mo_track_cursor cursor = {0};
    for (uint64_t number = 8; number <= 10; number++) {
        assert_true(mo_track_next(&track, &cursor));
        assert_int_equal(cursor.event.number, number);
        assert_int_equal(cursor.event.bytes[MO_CATEGORY_PARAM], number);
    }
    assert_false(mo_track_next(&track, &cursor));
    assert_int_equal(stats_of(&track).n_events, 10);
    assert_int_equal(stats_of(&track).n_events_kept, 3);
    mo_track_free(&track);
}

static void the_summary_is_a_table(void **state) {
    (void)state;
    static text out;
    mo_writer writer = text_begin(&out, -1);
    mo_track track;
    mo_track_desc desc = {.budget_bytes = 4096};
    char key[2];
    test_ok(mo_track_init(&track, &desc));
    test_ok(mo_track_add(&track, &key[0], 1536, MO_CATEGORY_PARAM, "w"));
    test_ok(mo_track_add(&track, &key[1], 512, MO_CATEGORY_GRAD, "g"));
    test_ok(mo_track_remove(&track, &key[1]));
    test_ok(mo_track_write_summary(&track, &writer));
    static const char want[] =
        "category        current         peak      at peak    allocated        freed    blocks\n"
        "-------------------------------------------------------------------------------------\n"
        "param           1.5 KiB      1.5 KiB      1.5 KiB      1.5 KiB          0 B         1\n"
        "grad                0 B        512 B        512 B        512 B        512 B         0\n"
        "-------------------------------------------------------------------------------------\n"
        "total           1.5 KiB      2.0 KiB      2.0 KiB      2.0 KiB        512 B         1\n"
        "budget 4.0 KiB, peak uses 50 % of it\n";
    assert_string_equal(out.at, want);
    mo_track_free(&track);
}

static void the_summary_adds_up_what_was_allocated_and_freed(void **state) {
    (void)state;
    static text out;
    mo_track track;
    char key[2];
    test_ok(mo_track_init(&track, NULL));
    for (int i = 0; i < 3; i++) {
        test_ok(mo_track_add(&track, &key[0], 1 << 20, MO_CATEGORY_GRAD, "g"));
        test_ok(mo_track_remove(&track, &key[0]));
    }
    test_ok(mo_track_add(&track, &key[1], 512, MO_CATEGORY_PARAM, "w"));
    mo_writer writer = text_begin(&out, -1);
    test_ok(mo_track_write_summary(&track, &writer));
    assert_non_null(strstr(out.at,
        "grad                0 B      1.0 MiB      1.0 MiB      3.0 MiB"
        "      3.0 MiB         0\n"));
    assert_non_null(strstr(out.at,
        "total             512 B      1.0 MiB      1.0 MiB      3.0 MiB"
        "      3.0 MiB         1\n"));
    mo_track_free(&track);
}

static void an_arena_and_a_suballocator_are_rows_with_their_fragmentation(void **state) {
    (void)state;
    static text out;
    static _Alignas(64) char block[4096]; /* or the arena skips some of it */
    mo_arena arena;
    mo_suballoc sub;
    mo_suballoc_block blocks[4];
    mo_arena_desc arena_desc = {.block = block, .size = sizeof block};
    mo_suballoc_desc sub_desc = {.size = 4096, .granule = 1024};
    test_ok(mo_arena_init(&arena, &arena_desc));
    assert_non_null(mo_arena_alloc(&arena, 1024, 64));
    test_ok(mo_suballoc_init(&sub, &sub_desc));
    for (int i = 0; i < 4; i++) test_ok(mo_suballoc_alloc(&sub, 1024, 1, &blocks[i]));
    mo_suballoc_dealloc(&sub, blocks[1].handle);
    mo_suballoc_dealloc(&sub, blocks[3].handle);
    mo_track_space spaces[] = {
        mo_track_space_arena("arena", &arena), mo_track_space_suballoc("sub", &sub)};
    assert_int_equal(spaces[0].free_bytes, 3072);
    assert_true(mo_track_fragmentation(&spaces[0]) == 0);
    assert_int_equal(spaces[1].peak_bytes, 4096);
    assert_true(mo_track_fragmentation(&spaces[1]) == 0.5);
    mo_writer writer = text_begin(&out, -1);
    test_ok(mo_track_write_spaces(spaces, 2, &writer));
    assert_non_null(strstr(out.at,
        "arena           4.0 KiB      1.0 KiB      1.0 KiB      3.0 KiB"
        "       3.0 KiB     0 %\n"));
    assert_non_null(strstr(out.at,
        "sub             4.0 KiB      2.0 KiB      4.0 KiB      2.0 KiB"
        "       1.0 KiB    50 %\n"));
    for (int k = 0, n = out.n_calls; k < n; k++) {
        writer = text_begin(&out, k);
        assert_int_equal(mo_track_write_spaces(spaces, 2, &writer), MO_E_IO);
    }
    assert_int_equal(mo_track_write_spaces(NULL, 1, &writer), MO_E_INVALID);
    mo_suballoc_free(&sub);
    mo_arena_free(&arena);
}

static void the_status_line_says_what_matters_now(void **state) {
    (void)state;
    mo_track track;
    char line[128], key[2];
    mo_track_desc desc = {.budget_bytes = 4 << 20};
    test_ok(mo_track_init(&track, NULL));
    mo_track_status_line(&track, line, sizeof line);
    assert_string_equal(line, "memory 0 B, peak 0 B");
    mo_track_free(&track);
    test_ok(mo_track_init(&track, &desc));
    test_ok(mo_track_add(&track, &key[0], 3 << 20, MO_CATEGORY_GRAD, "g"));
    test_ok(mo_track_remove(&track, &key[0]));
    assert_int_equal(mo_track_add(&track, &key[1], 5 << 20, MO_CATEGORY_GRAD, "g"), MO_E_NO_SPACE);
    const char *want = "memory 0 B, peak 3.0 MiB, budget 4.0 MiB, 1 failed";
    assert_int_equal(mo_track_status_line(&track, line, sizeof line), strlen(want));
    assert_string_equal(line, want);
    assert_int_equal(mo_track_status_line(&track, line, 7), strlen(want));
    assert_string_equal(line, "memory");
    assert_int_equal(mo_track_status_line(&track, NULL, 0), strlen(want));
    mo_track_free(&track);
}

typedef struct step_log {
    mo_track_step_stats at[8];
    int n;
} step_log;
static void keep_step(void *self, const mo_track_step_stats *stats) {
    step_log *log = self;
    log->at[log->n++] = *stats;
}

static void a_step_reports_its_own_peak_and_not_the_one_before(void **state) {
    (void)state;
    mo_track track;
    char key[2];
    step_log log = {.n = 0};
    mo_track_desc desc = {.on_step = keep_step, .on_step_self = &log, .budget_bytes = 1000};
    test_ok(mo_track_init(&track, &desc));
    test_ok(mo_track_add(&track, &key[0], 100, MO_CATEGORY_PARAM, "w"));
    test_ok(mo_track_add(&track, &key[1], 500, MO_CATEGORY_ACTIVATION, "x"));
    test_ok(mo_track_remove(&track, &key[1]));
    mo_track_step(&track, "step");
    test_ok(mo_track_add(&track, &key[1], 70, MO_CATEGORY_GRAD, "g"));
    mo_track_oom(&track, 5000, MO_CATEGORY_GRAD);
    mo_track_step(&track, "step");
    mo_track_step(&track, "step");
    assert_int_equal(log.n, 3);
    assert_int_equal(log.at[0].step, 1);
    assert_int_equal(log.at[0].n_steps, 1);
    assert_int_equal(log.at[0].peak_bytes, 600);
    assert_int_equal(log.at[0].at_peak[MO_CATEGORY_ACTIVATION], 500);
    assert_int_equal(log.at[0].current_bytes, 100);
    assert_int_equal(log.at[0].allocated_bytes, 600);
    assert_int_equal(log.at[0].freed_bytes, 500);
    assert_int_equal(log.at[0].n_failed, 0);
    assert_int_equal(log.at[1].peak_bytes, 170);
    assert_int_equal(log.at[1].at_peak[MO_CATEGORY_PARAM], 100);
    assert_int_equal(log.at[1].at_peak[MO_CATEGORY_ACTIVATION], 0);
    assert_int_equal(log.at[1].current[MO_CATEGORY_GRAD], 70);
    assert_int_equal(log.at[1].allocated_bytes, 70);
    assert_int_equal(log.at[1].freed_bytes, 0);
    assert_int_equal(log.at[1].n_failed, 1);
    assert_int_equal(log.at[2].step, 3);
    assert_int_equal(log.at[2].peak_bytes, 170); /* live from the start */
    assert_int_equal(log.at[2].allocated_bytes, 0);
    mo_track_free(&track);
}

static void steps_can_be_reported_in_groups(void **state) {
    (void)state;
    mo_track track;
    char key;
    step_log log = {.n = 0};
    mo_track_desc desc = {.on_step = keep_step, .on_step_self = &log, .step_every = 3};
    test_ok(mo_track_init(&track, &desc));
    for (int i = 0; i < 8; i++) {
        test_ok(mo_track_add(&track, &key, i == 4 ? 900 : 10, MO_CATEGORY_GRAD, "g"));
        test_ok(mo_track_remove(&track, &key));
        mo_track_step(&track, "step");
    }
    assert_int_equal(log.n, 2);
    assert_int_equal(log.at[0].step, 3);
    assert_int_equal(log.at[0].n_steps, 3);
    assert_int_equal(log.at[0].peak_bytes, 10);
    assert_int_equal(log.at[1].step, 6);
    assert_int_equal(log.at[1].peak_bytes, 900);
    assert_int_equal(log.at[1].allocated_bytes, 920);
    mo_track_free(&track);
}

static void stages_are_events_with_two_names(void **state) {
    (void)state;
    mo_track track;
    char key;
    mo_track_cursor cursor = {0};
    test_ok(mo_track_init(&track, NULL));
    mo_track_begin(&track, "forward", "h.0");
    test_ok(mo_track_add(&track, &key, 10, MO_CATEGORY_GRAD, "g"));
    mo_track_end(&track);
    assert_true(mo_track_next(&track, &cursor));
    assert_int_equal(cursor.event.kind, MO_TRACK_BEGIN);
    assert_string_equal(cursor.event.name, "forward");
    assert_string_equal(cursor.event.what, "h.0");
    assert_null(cursor.event.key);
    assert_true(mo_track_next(&track, &cursor));
    assert_ptr_equal(cursor.event.key, &key);
    assert_null(cursor.event.what);
    assert_true(mo_track_next(&track, &cursor));
    assert_int_equal(cursor.event.kind, MO_TRACK_END);
    assert_int_equal(cursor.event.bytes[MO_CATEGORY_GRAD], 10);
    mo_track_free(&track);
}

static void leaks_are_listed_largest_first(void **state) {
    (void)state;
    static text out;
    mo_writer writer = text_begin(&out, -1);
    mo_track track;
    char key[40];
    test_ok(mo_track_init(&track, NULL));
    test_ok(mo_track_write_leaks(&track, &writer));
    assert_string_equal(out.at, "no leaks\n");
    writer = text_begin(&out, -1);
    for (int i = 0; i < 40; i++) test_ok(mo_track_add(&track, &key[i], 1, MO_CATEGORY_GRAD, NULL));
    test_ok(mo_track_remove(&track, &key[0]));
    test_ok(mo_track_add(&track, &key[0], 900, MO_CATEGORY_PARAM, "dir/name"));
    test_ok(mo_track_write_leaks(&track, &writer));
    const char *head = "40 blocks, 939 B leaked\n        900 B  param       dir/name\n"
                       "          1 B  grad        (unnamed)\n";
    assert_memory_equal(out.at, head, strlen(head));
    assert_non_null(strstr(out.at, "          8 B  in 8 smaller or unlisted blocks\n"));
    mo_track_free(&track);
}

/* ---- properties ---------------------------------------------------------------------------- */

/* A model keeps the whole set of live blocks at the peak; the track must give the same one back. */
enum { N_KEYS = 64 };
typedef struct live_set {
    uint64_t size[N_KEYS], birth[N_KEYS], total;
} live_set;

static void check_top(const live_set *set, const mo_track_block *blocks, size_t n) {
    size_t n_want = 0;
    for (int i = 0; i < N_KEYS; i++) n_want += set->birth[i] != 0;
    assert_int_equal(n, n_want);
    for (size_t i = 0; i < n; i++) {
        size_t key = (size_t)(uintptr_t)blocks[i].key - 1;
        assert_int_equal(blocks[i].size, set->size[key]);
        assert_int_equal(blocks[i].birth, set->birth[key]);
        assert_true(i == 0 || blocks[i].size <= blocks[i - 1].size);
    }
}

static void live_sets_now_and_at_the_peak_agree_with_a_model(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("track");
    mo_track track;
    mo_track_desc desc = {.max_blocks = N_KEYS, .max_events = 100};
    mo_track_block blocks[N_KEYS];
    live_set now = {0}, peak = {0};
    test_ok(mo_track_init(&track, &desc));
    for (uint64_t event = 1; event < 20000; event++) {
        size_t i = test_below(&rng, N_KEYS);
        const void *key = (const void *)(uintptr_t)(i + 1);
        if (now.birth[i]) {
            test_ok(mo_track_remove(&track, key));
            now.total -= now.size[i];
            now.birth[i] = 0;
        } else {
            now.size[i] = 1 + test_below(&rng, 1000);
            now.birth[i] = event;
            now.total += now.size[i];
            test_ok(mo_track_add(&track, key, now.size[i], (mo_category)(i % 7), NULL));
            if (now.total > peak.total) peak = now;
        }
        if (event % 5000 == 0) mo_track_reset_peak(&track), peak = now;
        mo_track_stats stats = stats_of(&track);
        assert_int_equal(stats.total.current_bytes, now.total);
        assert_int_equal(stats.total.peak_bytes, peak.total);
        if (event % 16) continue;
        check_top(&now, blocks, mo_track_top_live(&track, blocks, N_KEYS));
        check_top(&peak, blocks, mo_track_top_peak(&track, blocks, N_KEYS));
        uint64_t split = 0;
        for (int c = 0; c < MO_CATEGORY_COUNT; c++) split += stats.at_peak_bytes[c];
        assert_int_equal(split, peak.total);
    }
    mo_track_free(&track);
}

/* ---- failures ------------------------------------------------------------------------------ */

static void failed_table_allocations_leave_nothing_behind(void **state) {
    (void)state;
    for (int k = 0; k < 5; k++) {
        test_heap heap;
        mo_allocator allocator = test_heap_begin(&heap, k);
        mo_track track;
        mo_track_desc desc = {.allocator = &allocator};
        mo_status status = mo_track_init(&track, &desc);
        assert_int_equal(status, k < 4 ? MO_E_NO_MEMORY : MO_OK);
        if (status == MO_OK) {
            assert_null(mo_track_alloc(&track, 1, 0, MO_CATEGORY_GRAD, NULL, 0));
            assert_int_equal(stats_of(&track).n_failed, 1);
            assert_int_equal(stats_of(&track).total.current_bytes, 0);
            mo_track_free(&track);
        }
        assert_int_equal(heap.live_bytes, 0);
    }
    mo_track track;
    mo_track_desc huge = {.max_events = SIZE_MAX / 8}, many = {.max_blocks = (size_t)1 << 31};
    assert_int_equal(mo_track_init(&track, &huge), MO_E_NO_MEMORY);
    assert_int_equal(mo_track_init(&track, &many), MO_E_INVALID);
    assert_int_equal(mo_track_init(NULL, NULL), MO_E_INVALID);
}

static void a_writer_that_refuses_ends_the_report(void **state) {
    (void)state;
    static text out;
    mo_track track;
    char key;
    test_ok(mo_track_init(&track, NULL));
    test_ok(mo_track_add(&track, &key, 1, MO_CATEGORY_GRAD, NULL));
    for (int k = 0; k < 5; k++) {
        mo_writer writer = text_begin(&out, k);
        assert_int_equal(mo_track_write_summary(&track, &writer), MO_E_IO);
        assert_int_equal(out.n_calls, k + 1);
    }
    mo_writer writer = text_begin(&out, 1);
    assert_int_equal(mo_track_write_leaks(&track, &writer), MO_E_IO);
    assert_int_equal(mo_track_write_summary(&track, NULL), MO_E_INVALID);
    mo_track_free(&track);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_counted_by_category),
        cmocka_unit_test(the_split_at_the_peak_is_of_that_moment),
        cmocka_unit_test(the_largest_blocks_of_now_and_of_the_peak_differ),
        cmocka_unit_test(blocks_know_the_call_that_made_them),
        cmocka_unit_test(it_is_an_allocator_for_each_category),
        cmocka_unit_test(past_the_budget_nothing_is_allocated_and_the_log_tells_why),
        cmocka_unit_test(a_key_is_live_once),
        cmocka_unit_test(a_full_table_still_counts_bytes),
        cmocka_unit_test(over_an_arena_a_reused_address_ends_the_old_block),
        cmocka_unit_test(events_come_back_in_order_with_the_bytes_after_them),
        cmocka_unit_test(the_ring_forgets_the_oldest_events_but_not_their_bytes),
        cmocka_unit_test(the_summary_is_a_table),
        cmocka_unit_test(the_summary_adds_up_what_was_allocated_and_freed),
        cmocka_unit_test(an_arena_and_a_suballocator_are_rows_with_their_fragmentation),
        cmocka_unit_test(the_status_line_says_what_matters_now),
        cmocka_unit_test(a_step_reports_its_own_peak_and_not_the_one_before),
        cmocka_unit_test(steps_can_be_reported_in_groups),
        cmocka_unit_test(stages_are_events_with_two_names),
        cmocka_unit_test(leaks_are_listed_largest_first),
        cmocka_unit_test(live_sets_now_and_at_the_peak_agree_with_a_model),
        cmocka_unit_test(failed_table_allocations_leave_nothing_behind),
        cmocka_unit_test(a_writer_that_refuses_ends_the_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
