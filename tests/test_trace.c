/* test_trace.c - mo_trace */
#include "test_svg.h"
#include <math.h>

static mo_track *track_of(size_t max_events, uint64_t budget, uint64_t (*now_ns)(void)) {
    static mo_track track; /* it must not move */
    mo_track_desc desc = {
        .max_events = max_events, .max_blocks = 64, .budget_bytes = budget, .now_ns = now_ns};
    test_ok(mo_track_init(&track, &desc));
    return &track;
}

static void add(
    mo_track *track, size_t key, uint64_t size, mo_category category, const char *name) {
    test_ok(mo_track_add(track, (const void *)(uintptr_t)key, size, category, name));
}
static void drop(mo_track *track, size_t key) {
    test_ok(mo_track_remove(track, (const void *)(uintptr_t)key));
}
static void write_svg(const mo_track *track) {
    mo_writer writer = text_begin(-1);
    test_ok(mo_trace_write_svg(track, NULL, &writer));
}

/* The smallest y of any area: the highest point of the timeline. */
static double highest_y(void) {
    double best = 1e9;
    for (const char *at = out.at; (at = strstr(at, " d=\"M72 ")) != NULL; at++)
        for (const char *c = at; *c && *c != 'Z'; c++)
            if (*c == 'V') best = strtod(c + 1, NULL) < best ? strtod(c + 1, NULL) : best;
    return best;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void an_empty_track_is_an_empty_picture(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0, NULL);
    write_svg(track);
    assert_well_formed();
    assert_int_equal(count("<path"), 0);
    mo_track_free(track);
}

static void the_picture_shows_peak_budget_categories_and_blocks(void **state) {
    (void)state;
    mo_track *track = track_of(0, 4 << 20, NULL);
    add(track, 1, 1 << 20, MO_CATEGORY_PARAM, "wte");
    mo_track_mark(track, "forward");
    add(track, 2, 2 << 20, MO_CATEGORY_ACTIVATION, "logits");
    drop(track, 2);
    assert_int_equal(mo_track_add(track, track, 4 << 20, MO_CATEGORY_GRAD, 0), MO_E_NO_SPACE);
    write_svg(track);
    assert_well_formed();
    assert_int_equal(count(">peak 3.0 MiB</text>"), 1);
    assert_int_equal(count("peak 3.0 MiB, 75 % of the budget of 4.0 MiB, 1 failed"), 1);
    assert_int_equal(count(">budget 4.0 MiB</text>"), 1);
    assert_int_equal(count("<title>param</title>"), 1);
    assert_int_equal(count("<title>activation</title>"), 1);
    assert_int_equal(count("<title>grad</title>"), 0);
    assert_int_equal(count(">forward</text>"), 1);
    assert_int_equal(count(">logits</text>"), 1);
    assert_int_equal(count("out of memory: 4.0 MiB requested"), 1);
    mo_track_free(track);
}

static void names_cannot_break_the_text(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0, NULL);
    add(track, 1, 1 << 20, MO_CATEGORY_PARAM, "a<b>&\"c\"\n\xff");
    mo_track_mark(track, "</text>\"\\");
    write_svg(track);
    assert_well_formed();
    assert_int_equal(count("a&#60;b&#62;&#38;&#34;c&#34;??"), 1);
    mo_writer writer = text_begin(-1);
    test_ok(mo_trace_write_json(track, &writer));
    assert_int_equal(count("\"name\":\"</text>\\\"\\\\\""), 1);
    mo_track_free(track);
}

static void the_peak_survives_gathering_events_in_columns(void **state) {
    (void)state;
    mo_track *track = track_of(20000, 0, NULL);
    add(track, 1, 100, MO_CATEGORY_PARAM, "w");
    for (int i = 0; i < 9000; i++) {
        add(track, 2, i == 4321 ? 900 : 100, MO_CATEGORY_GRAD, "g");
        drop(track, 2);
    }
    write_svg(track);
    assert_well_formed();
    double top = 112, bottom = 432, full = 1000 * 1.12; /* the default geometry */
    assert_true(fabs(highest_y() - (bottom - (bottom - top) * 1000 / full)) <= 0.1);
    assert_true(out.size < 200000);
    mo_track_free(track);
}

static void a_forgotten_peak_is_not_marked(void **state) {
    (void)state;
    mo_track *track = track_of(10, 0, NULL);
    add(track, 1, 1000, MO_CATEGORY_GRAD, "g");
    drop(track, 1);
    for (int i = 0; i < 20; i++) {
        add(track, 2, 10, MO_CATEGORY_PARAM, "w");
        drop(track, 2);
    }
    write_svg(track);
    assert_int_equal(count("<circle"), 0);
    mo_track_free(track);
}

static uint64_t fake_time;
static uint64_t fake_now(void) { return fake_time; }

static void x_can_be_time(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0, fake_now);
    fake_time = 1000000;
    add(track, 1, 1000, MO_CATEGORY_GRAD, "g");
    fake_time += 3000000;
    drop(track, 1);
    fake_time += 1000000;
    add(track, 2, 500, MO_CATEGORY_GRAD, "h");
    mo_trace_desc desc = {.by_time = 1, .title = "T & t", .no_table = 1};
    mo_writer writer = text_begin(-1);
    test_ok(mo_trace_write_svg(track, &desc, &writer));
    assert_well_formed();
    assert_int_equal(count(">ms</text>"), 1);
    assert_int_equal(count(">T &#38; t</text>"), 1);
    assert_int_equal(count("Largest blocks"), 0);
    const char *drop_x = strstr(out.at, "class=\"grad\" d=\"");
    drop_x = strchr(strchr(drop_x, 'H') + 1, 'H'); /* where the area falls: 3/4 of the plot */
    assert_true(fabs(strtod(drop_x + 1, NULL) - (72 + 0.75 * (936 - 72))) < 2);
    mo_track_free(track);
}

static void the_json_trace_has_counters_and_marks(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0, NULL);
    add(track, 1, 1000, MO_CATEGORY_GRAD, "g");
    mo_track_mark(track, "step");
    mo_writer writer = text_begin(-1);
    test_ok(mo_trace_write_json(track, &writer));
    assert_string_equal(out.at,
        "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"
        "{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"memopt\"}},\n"
        "{\"ph\":\"M\",\"pid\":1,\"tid\":1,\"name\":\"thread_name\",\"args\":{\"name\":"
        "\"stages\"}},\n"
        "{\"ph\":\"C\",\"pid\":1,\"tid\":1,\"ts\":1.000,\"name\":\"memory\",\"args\":{\"other\":0,"
        "\"param\":0,\"grad\":1000,\"optimizer\":0,\"activation\":0,\"workspace\":0,"
        "\"input\":0}},\n"
        "{\"ph\":\"C\",\"pid\":1,\"tid\":1,\"ts\":1.000,\"name\":\"total\",\"args\":{\"bytes\":"
        "1000}},\n"
        "{\"ph\":\"i\",\"pid\":1,\"tid\":1,\"ts\":2.000,\"name\":\"step\",\"s\":\"g\"}\n]}\n");
    mo_track_free(track);
}

static void check_counters(const char *line) {
    const char *at = strstr(line, "\"args\":{");
    assert_non_null(at);
    at += 8;
    do {
        at = strchr(at + 1, ':') + 1;
        size_t digits = strspn(at, "0123456789");
        assert_true(digits > 0);
        at += digits;
    } while (*at == ',');
    assert_int_equal(*at, '}');
}

/* Perfetto's rules: an end has its begin, time does not go back, counters are numbers. Returns how
 * many slices there are. Each line is a string of its own: sanitizers measure all of a string that
 * is searched. */
static int check_trace(void) {
    int depth = 0, n = 0;
    double last = 0;
    for (char *line = out.at, *end; (end = memchr(line, '\n', 4096)) != NULL; line = end + 1) {
        *end = 0;
        const char phase = strncmp(line, "{\"ph\":\"", 7) == 0 ? line[7] : 'M';
        const char *ts = strstr(line, ",\"ts\":");
        if (phase != 'M') {
            assert_non_null(ts);
            assert_true(strtod(ts + 6, NULL) >= last);
            last = strtod(ts + 6, NULL);
        }
        if (phase == 'B') depth++, n++;
        if (phase == 'E') assert_true(depth-- > 0);
        if (phase == 'C') check_counters(line);
        *end = '\n';
        if (end + 1 == out.at + out.size) break;
    }
    assert_int_equal(depth, 0);
    return n;
}

static void stages_are_slices_that_end(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0, fake_now);
    fake_time = 5000;
    mo_track_end(track); /* of a stage that nobody began */
    mo_track_begin(track, "step", NULL);
    mo_track_begin(track, "forward", "h.\"0");
    add(track, 1, 1000, MO_CATEGORY_GRAD, "g");
    fake_time = 9000;
    mo_track_end(track);
    fake_time = 7000; /* the clock went back */
    mo_track_begin(track, NULL, NULL);
    mo_writer writer = text_begin(-1);
    test_ok(mo_trace_write_json(track, &writer));
    assert_int_equal(check_trace(), 3);
    assert_int_equal(count("{\"ph\":\"B\",\"pid\":1,\"tid\":1,\"ts\":5.000,\"name\":\"forward "
                           "h.\\\"0\"}"),
        1);
    assert_int_equal(count("{\"ph\":\"E\",\"pid\":1,\"tid\":1,\"ts\":9.000}"), 3);
    mo_track_free(track);
}

static void a_stage_whose_begin_is_forgotten_is_no_slice(void **state) {
    (void)state;
    mo_track *track = track_of(3, 0, NULL);
    mo_track_begin(track, "forward", NULL);
    add(track, 1, 1000, MO_CATEGORY_GRAD, "g");
    drop(track, 1);
    mo_track_end(track);
    mo_writer writer = text_begin(-1);
    test_ok(mo_trace_write_json(track, &writer));
    assert_int_equal(check_trace(), 0);
    assert_int_equal(count("\"ph\":\"E\""), 0);
    mo_track_free(track);
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0, NULL);
    mo_writer writer = text_begin(-1);
    mo_trace_desc narrow = {.width = 479}, low = {.height = 119}, long_table = {.n_blocks = 33};
    assert_int_equal(mo_trace_write_svg(NULL, NULL, &writer), MO_E_INVALID);
    assert_int_equal(mo_trace_write_svg(track, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_trace_write_svg(track, &narrow, &writer), MO_E_INVALID);
    assert_int_equal(mo_trace_write_svg(track, &low, &writer), MO_E_INVALID);
    assert_int_equal(mo_trace_write_svg(track, &long_table, &writer), MO_E_INVALID);
    assert_int_equal(mo_trace_write_json(track, NULL), MO_E_INVALID);
    assert_int_equal(out.n_calls, 0);
    mo_track_free(track);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void random_tracks_give_well_formed_pictures(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("trace");
    for (int round = 0; round < 40; round++) {
        uint64_t scale = (uint64_t)1 << test_below(&rng, 50);
        mo_track *track =
            track_of(1 + test_below(&rng, 5000), test_below(&rng, 2) * 20 * scale, NULL);
        int live[65] = {0};
        for (size_t n = test_below(&rng, 8000); n > 0; n--) {
            size_t key = 1 + test_below(&rng, 64);
            const void *at = (const void *)(uintptr_t)key;
            mo_category category = (mo_category)(key % MO_CATEGORY_COUNT);
            if (test_below(&rng, 50) == 0) mo_track_mark(track, "a phase");
            if (test_below(&rng, 50) == 0) mo_track_begin(track, "a stage", "of it");
            if (test_below(&rng, 50) == 0) mo_track_end(track);
            if (live[key]) drop(track, key), live[key] = 0;
            else live[key] = mo_track_add(track, at, scale, category, "block") == MO_OK;
        }
        mo_trace_desc desc = {.width = 480 + (int)test_below(&rng, 1000)};
        mo_writer writer = text_begin(-1);
        test_ok(mo_trace_write_svg(track, &desc, &writer));
        assert_well_formed();
        assert_true(highest_y() >= 112);
        if (round < 10) {
            writer = text_begin(-1);
            test_ok(mo_trace_write_json(track, &writer));
            check_trace();
        }
        mo_track_free(track);
    }
}

/* ---- failures ------------------------------------------------------------------------------ */

static void a_writer_that_refuses_ends_the_text(void **state) {
    (void)state;
    mo_track *track = track_of(0, 0, NULL);
    add(track, 1, 1 << 20, MO_CATEGORY_PARAM, "w");
    write_svg(track);
    for (int k = 0, n = out.n_calls; k < n; k++) {
        mo_writer writer = text_begin(k);
        assert_int_equal(mo_trace_write_svg(track, NULL, &writer), MO_E_IO);
        assert_int_equal(out.n_calls, k + 1);
    }
    mo_track_begin(track, "a", "b");
    mo_track_mark(track, "c");
    mo_writer writer = text_begin(-1);
    test_ok(mo_trace_write_json(track, &writer));
    for (int k = 0, n = out.n_calls; k < n; k++) {
        writer = text_begin(k);
        assert_int_equal(mo_trace_write_json(track, &writer), MO_E_IO);
        assert_int_equal(out.n_calls, k + 1);
    }
    mo_track_free(track);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_track_is_an_empty_picture),
        cmocka_unit_test(the_picture_shows_peak_budget_categories_and_blocks),
        cmocka_unit_test(names_cannot_break_the_text),
        cmocka_unit_test(the_peak_survives_gathering_events_in_columns),
        cmocka_unit_test(a_forgotten_peak_is_not_marked),
        cmocka_unit_test(x_can_be_time),
        cmocka_unit_test(the_json_trace_has_counters_and_marks),
        cmocka_unit_test(stages_are_slices_that_end),
        cmocka_unit_test(a_stage_whose_begin_is_forgotten_is_no_slice),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(random_tracks_give_well_formed_pictures),
        cmocka_unit_test(a_writer_that_refuses_ends_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
