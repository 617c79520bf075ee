/* test_snapshot.c - mo_snapshot, read back by an unpickler with the opcodes of PyTorch's viewer */
#include "test_svg.h"

/* ---- unpickling ---------------------------------------------------------------------------- */

typedef struct value {
    char kind; /* 'i' number, 's' string, 'l' list, 'd' dict: keys and values in turn */
    uint64_t number;
    const char *text;
    size_t n, first; /* children are linked */
    size_t last, next;
} value;
static value values[1 << 18]; /* 0 is none */
static size_t n_values, stack[64], depth, marks[16], n_marks, memo[256];
static char texts[1 << 21];
static size_t n_texts;

static size_t push(char kind) {
    assert_true(n_values + 1 < n_elements(values) && depth < n_elements(stack));
    values[++n_values] = (value){.kind = kind};
    return stack[depth++] = n_values;
}
static void add_child(size_t parent, size_t child) {
    value *p = &values[parent];
    if (p->last) values[p->last].next = child;
    else p->first = child;
    p->last = child;
    p->n++;
}
static uint64_t little_endian(const unsigned char *at, size_t n) {
    uint64_t x = 0;
    for (size_t i = 0; i < n; i++) x |= (uint64_t)at[i] << (8 * i);
    return x;
}
/* A copy, since a memoized value may stand in several lists. */
static void push_copy(size_t of) {
    size_t at = push(values[of].kind);
    values[at] = (value){.kind = values[of].kind, .text = values[of].text};
}
static void push_text(const unsigned char *from, size_t size) {
    size_t at = push('s');
    assert_true(n_texts + size < sizeof texts);
    values[at].text = memcpy(texts + n_texts, from, size);
    texts[n_texts + size] = 0;
    n_texts += size + 1;
}

/* The whole of what was written is one value. */
static size_t unpickle(void) {
    const unsigned char *at = (const unsigned char *)out.at, *end = at + out.size;
    n_values = n_texts = depth = n_marks = 0;
    memset(memo, 0, sizeof memo);
    assert_memory_equal(at, "\x80\x02", 2);
    for (at += 2; at < end; at++) {
        switch (*at) {
        case '}': push('d'); break;
        case ']': push('l'); break;
        case '(': marks[n_marks++] = depth; break;
        case 'K': values[push('i')].number = at[1], at += 1; break;
        case 'J':
            assert_true(at[4] < 128);
            values[push('i')].number = little_endian(at + 1, 4), at += 4;
            break;
        case 0x8a:
            assert_int_equal(at[1], 8);
            assert_true(at[9] < 128);
            values[push('i')].number = little_endian(at + 2, 8), at += 9;
            break;
        case 'X':
            push_text(at + 5, little_endian(at + 1, 4));
            at += 4 + little_endian(at + 1, 4);
            break;
        case 'q': memo[at[1]] = stack[depth - 1], at++; break;
        case 'h':
            assert_true(memo[at[1]] != 0);
            push_copy(memo[at[1]]), at++;
            break;
        case 'a':
            assert_true(depth >= 2);
            depth--;
            assert_int_equal(values[stack[depth - 1]].kind, 'l');
            add_child(stack[depth - 1], stack[depth]);
            break;
        case 'u': {
            size_t from = marks[--n_marks];
            assert_true(from > 0 && (depth - from) % 2 == 0);
            assert_int_equal(values[stack[from - 1]].kind, 'd');
            for (size_t i = from; i < depth; i++) add_child(stack[from - 1], stack[i]);
            depth = from;
            break;
        }
        case '.': assert_true(at + 1 == end && depth == 1 && n_marks == 0); return stack[0];
        default: fail_msg("opcode 0x%02x", *at);
        }
    }
    fail_msg("no STOP");
    return 0;
}

static size_t get(size_t dict, const char *key) {
    assert_int_equal(values[dict].kind, 'd');
    for (size_t at = values[dict].first; at; at = values[values[at].next].next)
        if (strcmp(values[at].text, key) == 0) return values[at].next;
    fail_msg("no %s", key);
    return 0;
}
static uint64_t get_int(size_t dict, const char *key) {
    size_t at = get(dict, key);
    assert_int_equal(values[at].kind, 'i');
    return values[at].number;
}
static const char *get_text(size_t dict, const char *key) {
    size_t at = get(dict, key);
    assert_int_equal(values[at].kind, 's');
    return values[at].text;
}
static size_t first_of(size_t list) { return values[list].first; }
static size_t next_of(size_t at) { return values[at].next; }

/* ---- what the viewer does with it ---------------------------------------------------------- */

typedef struct range {
    uint64_t begin, size;
} range;
static range live[4096];
static size_t n_live;

static void end_range(uint64_t begin, uint64_t size) {
    for (size_t i = 0; i < n_live; i++) {
        if (live[i].begin != begin) continue;
        assert_int_equal(live[i].size, size);
        live[i] = live[--n_live];
        return;
    }
    fail_msg("not live");
}
static void begin_range(uint64_t begin, uint64_t size) {
    for (size_t i = 0; i < n_live; i++)
        assert_true(begin + size <= live[i].begin || live[i].begin + live[i].size <= begin);
    live[n_live++] = (range){begin, size};
}
static void assert_in_a_segment(size_t segments, uint64_t begin, uint64_t size) {
    for (size_t s = first_of(segments); s; s = next_of(s))
        if (begin >= get_int(s, "address") &&
            begin + size <= get_int(s, "address") + get_int(s, "total_size"))
            return;
    fail_msg("in no segment");
}

/* The blocks of a segment fill it, and segments do not overlap; the live ones are collected. */
static void check_segments(size_t segments) {
    uint64_t end = 0;
    n_live = 0;
    for (size_t s = first_of(segments); s; s = next_of(s)) {
        uint64_t at = get_int(s, "address"), used = 0;
        assert_true(at >= end);
        end = at + get_int(s, "total_size");
        for (size_t b = first_of(get(s, "blocks")); b; b = next_of(b)) {
            uint64_t size = get_int(b, "size");
            assert_int_equal(get_int(b, "address"), at);
            if (strcmp(get_text(b, "state"), "active_allocated") == 0) {
                begin_range(at, size);
                used += size;
                assert_int_equal(get_int(b, "requested_size"), size);
                assert_int_equal(values[get(b, "frames")].n, 1);
            } else assert_string_equal(get_text(b, "state"), "inactive");
            at += size;
        }
        assert_int_equal(at, end);
        assert_int_equal(get_int(s, "allocated_size"), used);
        assert_int_equal(get_int(s, "active_size"), used);
        assert_int_equal(get_int(s, "device"), 0);
    }
}

/* Back from the end: a free makes its block live again, an alloc takes it away; what is live never
 * overlaps and is always in a segment. Returns the most bytes that were live. */
static uint64_t check_events(size_t segments, size_t trace) {
    size_t n = 0, unknown = 0;
    static size_t events[1 << 16];
    uint64_t bytes = 0, peak = 0;
    for (size_t e = first_of(trace); e; e = next_of(e)) {
        events[n++] = e;
        unknown += strcmp(get_text(e, "category"), "unknown") == 0;
    }
    assert_true(unknown > 0);
    for (size_t i = 0; i < n_live; i++) bytes += live[i].size;
    peak = bytes;
    while (n-- > 0) {
        const char *action = get_text(events[n], "action");
        uint64_t begin = get_int(events[n], "addr"), size = get_int(events[n], "size");
        assert_true(begin + size <= (uint64_t)1 << 53);
        if (strcmp(action, "free_completed") == 0) {
            begin_range(begin, size);
            assert_in_a_segment(segments, begin, size);
            bytes += size;
            assert_string_equal(get_text(events[n - 1], "action"), "free_requested");
            assert_int_equal(get_int(events[n - 1], "addr"), begin);
        } else if (strcmp(action, "alloc") == 0) {
            end_range(begin, size);
            bytes -= size;
        }
        if (bytes > peak) peak = bytes;
    }
    assert_int_equal(n_live, 0);
    return peak;
}

static size_t write_and_check(const mo_track *track, uint64_t peak) {
    mo_writer writer = text_begin(-1);
    test_ok(mo_snapshot_write(track, NULL, &writer));
    size_t top = unpickle(), traces = get(top, "device_traces");
    assert_int_equal(values[traces].n, 1);
    check_segments(get(top, "segments"));
    assert_int_equal(check_events(get(top, "segments"), first_of(traces)), peak);
    return top;
}

static mo_track *track_of(size_t max_events, size_t max_blocks) {
    static mo_track track; /* it must not move */
    mo_track_desc desc = {.max_events = max_events, .max_blocks = max_blocks};
    test_ok(mo_track_init(&track, &desc));
    return &track;
}
static const void *key_at(uint64_t address) { return (const void *)(uintptr_t)address; }
static void add(
    mo_track *track, uint64_t key, uint64_t size, mo_category category, const char *name) {
    test_ok(mo_track_add(track, key_at(key), size, category, name));
}
static void drop(mo_track *track, uint64_t key) { test_ok(mo_track_remove(track, key_at(key))); }

/* ---- examples ------------------------------------------------------------------------------ */

static void an_empty_track_is_a_snapshot_of_nothing(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0);
    size_t top = write_and_check(track, 0);
    assert_int_equal(values[get(top, "segments")].n, 0);
    assert_int_equal(values[first_of(get(top, "device_traces"))].n, 1);
    mo_track_free(track);
}

static void blocks_have_address_category_and_call_site(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0);
    add(track, 0x10000, 512, MO_CATEGORY_PARAM, "wte");
    add(track, 0x10400, 256, MO_CATEGORY_OTHER, NULL);
    drop(track, 0x10400);
    void *p = MEMOPT_TRACK_ALLOC(track, 64, 0, MO_CATEGORY_GRAD);
    int line = __LINE__ - 1;
    size_t top = write_and_check(track, 768);
    size_t segment = first_of(get(top, "segments")), block = first_of(get(segment, "blocks"));
    assert_int_equal(get_int(segment, "address"), 0x10000);
    assert_int_equal(get_int(segment, "total_size"), 0x500);
    assert_int_equal(get_int(segment, "allocated_size"), 512);
    assert_string_equal(get_text(first_of(get(block, "frames")), "name"), "wte");
    assert_int_equal(values[get(segment, "blocks")].n, 2); /* and one that is free */

    size_t event = first_of(first_of(get(top, "device_traces")));
    assert_string_equal(get_text(event, "action"), "snapshot");
    event = next_of(event);
    assert_string_equal(get_text(event, "action"), "alloc");
    assert_string_equal(get_text(event, "category"), "param");
    event = next_of(event);
    assert_string_equal(get_text(event, "category"), "unknown");
    assert_string_equal(get_text(first_of(get(event, "frames")), "name"), "(unnamed)");
    event = next_of(next_of(next_of(event)));
    assert_string_equal(get_text(event, "action"), "alloc");
    assert_int_equal(get_int(event, "addr"), (uint64_t)(uintptr_t)p);
    assert_string_equal(get_text(first_of(get(event, "frames")), "filename"), __FILE__);
    assert_int_equal(get_int(first_of(get(event, "frames")), "line"), line);
    mo_track_dealloc(track, p, 64, 0, MO_CATEGORY_GRAD);
    mo_track_free(track);
}

static void failures_are_events_and_marks_are_not(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0);
    mo_track_mark(track, "mark");
    mo_track_begin(track, "forward", "h.0");
    mo_track_oom(track, (uint64_t)5 << 30, MO_CATEGORY_GRAD);
    mo_track_end(track);
    size_t top = write_and_check(track, 0), trace = first_of(get(top, "device_traces"));
    assert_int_equal(values[trace].n, 2);
    size_t event = next_of(first_of(trace));
    assert_string_equal(get_text(event, "action"), "oom");
    assert_int_equal(get_int(event, "size"), (uint64_t)5 << 30);
    assert_int_equal(get_int(event, "device_free"), 0);
    mo_track_free(track);
}

static void keys_that_are_no_addresses_get_some(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0);
    for (uint64_t i = 1; i < 5; i++) add(track, i, 1000, MO_CATEGORY_GRAD, "g");
    drop(track, 2);
    add(track, 7, 300, MO_CATEGORY_GRAD, "g");
    size_t top = write_and_check(track, 4000), segments = get(top, "segments");
    assert_int_equal(values[segments].n, 1);
    assert_int_equal(get_int(first_of(segments), "address"), 0);
    mo_track_free(track);
}

static void names_cannot_break_the_pickle(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0);
    char name[200];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = 0;
    add(track, 0x10000, 16, MO_CATEGORY_PARAM, "a\"'</script>\n\xc3\xa9.");
    add(track, 0x20000, 16, MO_CATEGORY_PARAM, name);
    add(track, 0x30000, 16, MO_CATEGORY_PARAM, "");
    size_t top = write_and_check(track, 48);
    size_t event = next_of(first_of(first_of(get(top, "device_traces"))));
    assert_string_equal(get_text(first_of(get(event, "frames")), "name"), "a\"'</script>???.");
    event = next_of(event);
    assert_string_equal(get_text(first_of(get(event, "frames")), "name"), name);
    event = next_of(event);
    assert_string_equal(get_text(first_of(get(event, "frames")), "name"), "");
    mo_track_free(track);
}

static void what_the_ring_forgot_begins_with_the_first_event(void **state) {
    (void)state;
    mo_track *track = track_of(3, 0);
    add(track, 0x10000, 1000, MO_CATEGORY_PARAM, "w");
    add(track, 0x20000, 500, MO_CATEGORY_GRAD, "g");
    add(track, 0x30000, 50, MO_CATEGORY_GRAD, "h");
    drop(track, 0x20000); /* the three kept: its alloc is one too many */
    drop(track, 0x30000);
    add(track, 0x20000, 70, MO_CATEGORY_GRAD, "i");
    size_t top = write_and_check(track, 1550);
    size_t event = next_of(first_of(first_of(get(top, "device_traces"))));
    assert_string_equal(get_text(event, "action"), "alloc");
    assert_string_equal(get_text(event, "category"), "param");
    assert_string_equal(get_text(first_of(get(event, "frames")), "name"), "w");
    assert_int_equal(get_int(event, "time_us"), 4);
    event = next_of(event);
    assert_string_equal(get_text(first_of(get(event, "frames")), "name"), "g");
    mo_track_free(track);
}

static void a_full_table_leaves_the_rest_out(void **state) {
    (void)state;
    mo_track *track = track_of(0, 1);
    void *a = MEMOPT_TRACK_ALLOC(track, 100, 0, MO_CATEGORY_GRAD);
    void *b = MEMOPT_TRACK_ALLOC(track, 900, 0, MO_CATEGORY_GRAD);
    mo_track_dealloc(track, b, 900, 0, MO_CATEGORY_GRAD);
    write_and_check(track, 100);
    mo_track_dealloc(track, a, 100, 0, MO_CATEGORY_GRAD);
    write_and_check(track, 100);
    mo_track_free(track);
}

/* ---- properties ---------------------------------------------------------------------------- */

/* Addresses of a sub-allocator, or keys that overlap, and rings of any size. */
static void random_tracks_play_back_without_overlap(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("snapshot");
    for (int round = 0; round < 30; round++) {
        mo_suballoc sub;
        mo_suballoc_block blocks[64];
        mo_suballoc_desc desc = {.size = 1 << 20};
        size_t max_events = 1 + test_below(&rng, round % 3 ? 3000 : 20);
        mo_track *track = track_of(max_events, 100);
        uint64_t sizes[64] = {0}, bytes = 0, peak = 0;
        int is_real = round % 2;
        test_ok(mo_suballoc_init(&sub, &desc));
        for (size_t n = test_below(&rng, 2000); n > 0; n--) {
            size_t i = test_below(&rng, 64);
            uint64_t key = is_real && sizes[i] ? 0x7000000 + blocks[i].off : 1 + i;
            if (sizes[i]) {
                if (is_real) mo_suballoc_dealloc(&sub, blocks[i].handle);
                drop(track, key);
                bytes -= sizes[i];
                sizes[i] = 0;
                continue;
            }
            uint64_t size = 1 + test_below(&rng, 12000);
            if (is_real && mo_suballoc_alloc(&sub, size, 0, &blocks[i]) != MO_OK) continue;
            add(track, is_real ? 0x7000000 + blocks[i].off : key, size, MO_CATEGORY_GRAD, "g");
            bytes += sizes[i] = size;
        }
        mo_track_cursor cursor = {0};
        while (mo_track_next(track, &cursor)) {
            uint64_t now = cursor.event.bytes[MO_CATEGORY_GRAD];
            /* before an event that frees, its block was there */
            if (cursor.event.kind == MO_TRACK_FREE) now += cursor.event.size;
            if (now > peak) peak = now;
        }
        if (bytes > peak) peak = bytes;
        size_t top = write_and_check(track, peak);
        if (is_real && values[get(top, "segments")].n > 0)
            assert_true(get_int(first_of(get(top, "segments")), "address") >= 0x7000000);
        mo_suballoc_free(&sub);
        mo_track_free(track);
    }
}

/* ---- failures ------------------------------------------------------------------------------ */

static void sizes_past_2_to_the_53_are_refused(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0);
    mo_writer writer = text_begin(-1);
    add(track, 0x10000, (uint64_t)1 << 53, MO_CATEGORY_GRAD, "g");
    test_ok(mo_snapshot_write(track, NULL, &writer)); /* at address 0 */
    add(track, 0x20000, 1, MO_CATEGORY_GRAD, "g");
    writer = text_begin(-1);
    assert_int_equal(mo_snapshot_write(track, NULL, &writer), MO_E_OVERFLOW);
    assert_int_equal(out.n_calls, 0);
    mo_track_free(track);
}

static void failed_allocations_and_writers_end_it(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0);
    mo_writer writer = text_begin(-1);
    test_heap heap;
    add(track, 0x10000, 1 << 20, MO_CATEGORY_PARAM, "w");
    add(track, 0x900000, 1 << 20, MO_CATEGORY_PARAM, "v");
    drop(track, 0x900000);
    mo_track_oom(track, 1, MO_CATEGORY_PARAM);
    mo_allocator from = test_heap_begin(&heap, -1);
    test_ok(mo_snapshot_write(track, &from, &writer));
    int n_calls = out.n_calls, n_requests = heap.n_requests;
    for (int k = 0; k < n_requests; k++) {
        from = test_heap_begin(&heap, k);
        writer = text_begin(-1);
        assert_int_equal(mo_snapshot_write(track, &from, &writer), MO_E_NO_MEMORY);
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(out.n_calls, 0);
    }
    for (int k = 0; k < n_calls; k++) {
        from = test_heap_begin(&heap, -1);
        writer = text_begin(k);
        assert_int_equal(mo_snapshot_write(track, &from, &writer), MO_E_IO);
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(out.n_calls, k + 1);
    }
    assert_int_equal(mo_snapshot_write(NULL, NULL, &writer), MO_E_INVALID);
    assert_int_equal(mo_snapshot_write(track, NULL, NULL), MO_E_INVALID);
    mo_track_free(track);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_track_is_a_snapshot_of_nothing),
        cmocka_unit_test(blocks_have_address_category_and_call_site),
        cmocka_unit_test(failures_are_events_and_marks_are_not),
        cmocka_unit_test(keys_that_are_no_addresses_get_some),
        cmocka_unit_test(names_cannot_break_the_pickle),
        cmocka_unit_test(what_the_ring_forgot_begins_with_the_first_event),
        cmocka_unit_test(a_full_table_leaves_the_rest_out),
        cmocka_unit_test(random_tracks_play_back_without_overlap),
        cmocka_unit_test(sizes_past_2_to_the_53_are_refused),
        cmocka_unit_test(failed_allocations_and_writers_end_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
