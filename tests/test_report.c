/* test_report.c - mo_report and mo_chart */
#include "test_svg.h"
#include <math.h>

static mo_track *track_of(uint64_t budget) {
    static mo_track track; /* it must not move */
    mo_track_desc desc = {.max_events = 300, .max_blocks = 64, .budget_bytes = budget};
    test_ok(mo_track_init(&track, &desc));
    return &track;
}
static void add(
    mo_track *track, size_t key, uint64_t size, mo_category category, const char *name) {
    test_ok(mo_track_add(track, (const void *)(uintptr_t)key, size, category, name));
}

/* A page is XML behind its first line, has no scripts, and names nothing to load. */
static void assert_page(void) {
    const char *doctype = "<!DOCTYPE html>\n";
    assert_memory_equal(out.at, doctype, strlen(doctype));
    assert_well_formed_from(out.at + strlen(doctype));
    assert_int_equal(count("<script"), 0);
    assert_int_equal(count("href"), 0);
    assert_int_equal(count("src="), 0);
    assert_int_equal(count("url("), 0);
    assert_int_equal(count("@import"), 0);
    assert_int_equal(count("http"), count("xmlns=\"http://www.w3.org/2000/svg\""));
}
static void write_page(const mo_track *track, const mo_report_desc *desc) {
    mo_writer writer = text_begin(-1);
    test_ok(mo_report_write_html(track, desc, &writer));
    assert_page();
}

/* ---- report -------------------------------------------------------------------------------- */

static void an_empty_track_is_a_page(void **state) {
    (void)state;
    mo_track *track = track_of(0);
    write_page(track, NULL);
    assert_int_equal(count("<h1>Memory report</h1>"), 1);
    assert_int_equal(count("Largest blocks"), 0);
    mo_track_free(track);
}

static mo_status write_leaks(void *self, const mo_writer *writer) {
    return mo_track_write_leaks((const mo_track *)self, writer);
}
static mo_status write_waterfall(void *self, const mo_writer *writer) {
    (void)self;
    const mo_chart_bar bars[] = {{"plain", 100}, {"light", 60}};
    return mo_chart_write_waterfall(NULL, bars, 2, writer);
}

static void the_page_has_timeline_tables_spaces_and_sections(void **state) {
    (void)state;
    mo_track *track = track_of(8 << 20);
    add(track, 1, 1 << 20, MO_CATEGORY_PARAM, "wte");
    add(track, 2, 3 << 20, MO_CATEGORY_ACTIVATION, "logits");
    test_ok(mo_track_remove(track, (const void *)2));
    const mo_track_space spaces[] = {{"heap", 4 << 20, 1 << 20, 4 << 20, 3 << 20, 1 << 20}};
    const mo_report_section sections[] = {
        {"Leaks", write_leaks, track, 1}, {NULL, write_waterfall, NULL, 0}};
    const mo_report_desc desc = {
        .title = "Run 1", .spaces = spaces, .n_spaces = 1, .sections = sections, .n_sections = 2};
    write_page(track, &desc);
    assert_int_equal(count("<h1>Run 1</h1>"), 1);
    assert_int_equal(count("<p>memory 1.0 MiB, peak 4.0 MiB, budget 8.0 MiB</p>"), 1);
    assert_int_equal(count(">peak 4.0 MiB</text>"), 1);
    assert_int_equal(count("activation</td><td>0 B</td><td>3.0 MiB</td><td>3.0 MiB</td>"
                           "<td>3.0 MiB</td><td>3.0 MiB</td><td>0</td>"),
        1);
    assert_int_equal(count("<td>logits</td>"), 1); /* at the peak, and not now */
    assert_int_equal(count("<td>wte</td>"), 2);
    assert_int_equal(count("<td>75 %</td>"), 1);
    assert_int_equal(count("<td>heap</td><td>4.0 MiB</td><td>1.0 MiB</td><td>4.0 MiB</td>"
                           "<td>3.0 MiB</td><td>1.0 MiB</td><td>66.7 %</td>"),
        1);
    assert_int_equal(count("<h2>Leaks</h2>\n<pre>1 blocks, 1.0 MiB leaked\n"), 1);
    assert_int_equal(count("<svg xmlns"), 2);
    mo_track_free(track);
}

static mo_status write_odd_text(void *self, const mo_writer *writer) {
    (void)self;
    const char odd[] = "</pre><b>&\x01\xff\nend";
    return writer->write(writer->self, odd, sizeof odd - 1) ? MO_E_IO : MO_OK;
}

static void names_cannot_break_the_page(void **state) {
    (void)state;
    mo_track *track = track_of(0);
    const char *name = "\"'</script></td>&\xc3\xa9";
    add(track, 1, 1 << 20, MO_CATEGORY_PARAM, name);
    mo_track_mark(track, name);
    const mo_track_space spaces[] = {{name, 4, 3, 4, 1, 1}};
    const mo_report_section sections[] = {{name, write_odd_text, NULL, 1}};
    const mo_report_desc desc = {
        .title = name, .spaces = spaces, .n_spaces = 1, .sections = sections, .n_sections = 1};
    write_page(track, &desc);
    assert_int_equal(count("<h1>&#34;&#39;&#60;/script&#62;&#60;/td&#62;&#38;?"
                           "?</h1>"),
        1);
    assert_int_equal(count("<pre>&#60;/pre&#62;&#60;b&#62;&#38;?"
                           "?\nend</pre>"),
        1);
    mo_track_free(track);
}

static void a_huge_history_stays_a_small_page(void **state) {
    (void)state;
    mo_track track;
    mo_track_desc track_desc = {.max_events = 100000, .max_blocks = 64};
    test_ok(mo_track_init(&track, &track_desc));
    for (size_t i = 0; i < 120000; i++) {
        const void *key = (const void *)(uintptr_t)(1 + i / 2 % 9);
        if (i % 2) test_ok(mo_track_remove(&track, key));
        else add(&track, 1 + i / 2 % 9, 1 + i, (mo_category)(i / 2 % MO_CATEGORY_COUNT), "x");
    }
    write_page(&track, NULL);
    assert_true(out.size < 400000);
    mo_track_free(&track);
}

static mo_status fail_section(void *self, const mo_writer *writer) {
    (void)self, (void)writer;
    return MO_E_STATE;
}

static void what_a_section_returns_ends_the_page(void **state) {
    (void)state;
    mo_track *track = track_of(0);
    mo_writer writer = text_begin(-1);
    const mo_report_section sections[] = {{"bad", fail_section, NULL, 0}};
    mo_report_desc desc = {.sections = sections, .n_sections = 1};
    assert_int_equal(mo_report_write_html(track, &desc, &writer), MO_E_STATE);
    assert_int_equal(count("</html>"), 0);
    writer = text_begin(-1);
    desc = (mo_report_desc){.n_blocks = 33};
    assert_int_equal(mo_report_write_html(track, &desc, &writer), MO_E_INVALID);
    desc = (mo_report_desc){.n_sections = 1};
    assert_int_equal(mo_report_write_html(track, &desc, &writer), MO_E_INVALID);
    desc = (mo_report_desc){.n_spaces = 1};
    assert_int_equal(mo_report_write_html(track, &desc, &writer), MO_E_INVALID);
    assert_int_equal(mo_report_write_html(NULL, NULL, &writer), MO_E_INVALID);
    assert_int_equal(mo_report_write_html(track, NULL, NULL), MO_E_INVALID);
    assert_int_equal(out.n_calls, 0);
    mo_track_free(track);
}

/* ---- waterfall ----------------------------------------------------------------------------- */

/* x of the n-th rectangle of that style, and its right end. */
static void find_rect(const char *style, int n, double *left, double *right) {
    char begin[64];
    const char *at = out.at;
    snprintf(begin, sizeof begin, "<rect class=\"%s\" x=\"", style);
    for (; n >= 0; n--) assert_non_null(at = strstr(at + 1, begin));
    *left = strtod(at + strlen(begin), NULL);
    *right = *left + strtod(strstr(at, "width=\"") + 7, NULL);
}

static void bars_are_as_long_as_their_bytes_and_show_what_was_saved(void **state) {
    (void)state;
    const mo_chart_bar bars[] = {{"plain", 1000}, {"8-bit", 400}, {"worse", 500}, {NULL, 0}};
    const mo_chart_desc desc = {.title = "A & B", .budget_bytes = 250};
    const double full = 936 - 24;
    double left, right;
    mo_writer writer = text_begin(-1);
    test_ok(mo_chart_write_waterfall(&desc, bars, 4, &writer));
    assert_well_formed();
    find_rect("plain", 1, &left, &right);
    assert_true(fabs(left - 24) < 0.1 && fabs(right - (24 + 0.4 * full)) < 0.2);
    find_rect("track", 0, &left, &right);
    assert_true(fabs(left - (24 + 0.4 * full)) < 0.2 && fabs(right - 936) < 0.2);
    find_rect("over", 0, &left, &right);
    assert_true(fabs(left - (24 + 0.4 * full)) < 0.2);
    assert_true(fabs(right - (24 + 0.5 * full)) < 0.2);
    assert_int_equal(count(">-600 B</tspan>"), 1);
    assert_int_equal(count(">+100 B</tspan>"), 1);
    assert_int_equal(count(">budget 250 B</text>"), 1);
    assert_int_equal(count("x1=\"252\""), 1); /* 24 + full / 4 */
    assert_int_equal(count("(unnamed)"), 1);
    assert_int_equal(count("1000 B to 0 B: 0 %"), 1);
}

static void a_waterfall_of_nothing_is_a_picture(void **state) {
    (void)state;
    mo_writer writer = text_begin(-1);
    const mo_chart_bar zero[] = {{"nothing", 0}};
    test_ok(mo_chart_write_waterfall(NULL, NULL, 0, &writer));
    assert_well_formed();
    writer = text_begin(-1);
    test_ok(mo_chart_write_waterfall(NULL, zero, 1, &writer));
    assert_well_formed();
}

/* ---- pareto -------------------------------------------------------------------------------- */

static void the_stair_goes_through_the_frontier_in_order_of_time(void **state) {
    (void)state;
    const mo_chart_point points[] = {{"slow", 4, 100, 1}, {"bad", 5, 900, 0}, {"fast", 1, 1000, 1},
        {"middle</text>", 2, 500, 1}};
    const mo_chart_desc desc = {.budget_bytes = 600};
    const double full_s = 5 * 1.08, full = 1000 * 1.08, wide = 936 - 72;
    mo_writer writer = text_begin(-1);
    test_ok(mo_chart_write_pareto(&desc, points, 4, &writer));
    assert_well_formed();
    assert_int_equal(count("<circle"), 4);
    assert_int_equal(count("<circle class=\"muted\""), 1);
    assert_int_equal(count("3 of 4 on the frontier; fastest within the budget: "
                           "middle&#60;/text&#62;, 2 s, 500 B"),
        1);
    assert_int_equal(count(">budget 600 B</text>"), 1);
    assert_int_equal(count(">bad</text>"), 0);
    assert_int_equal(count(">slow</text>"), 1);
    char *at = strstr(out.at, "<path class=\"line\" d=\"M");
    assert_non_null(at);
    double x = strtod(at + 23, &at), y = strtod(at, &at), bottom = 0;
    const double times[] = {1, 2, 4}, bytes[] = {1000, 500, 100};
    for (int i = 0; i < 3; i++) {
        assert_true(fabs(x - (72 + wide * times[i] / full_s)) < 0.2);
        if (i == 0) bottom = y + 420 * bytes[0] / full;
        assert_true(fabs(y - (bottom - 420 * bytes[i] / full)) < 0.2);
        if (*at != 'H') break;
        x = strtod(at + 1, &at);
        y = strtod(at + 1, &at);
    }
    assert_int_equal(*at, '"');
}

static void a_pareto_of_nothing_or_of_equals_is_a_picture(void **state) {
    (void)state;
    const mo_chart_point equal[] = {{"a", 0, 0, 1}, {"b", 0, 0, 1}};
    const mo_chart_desc desc = {.budget_bytes = 5};
    mo_writer writer = text_begin(-1);
    test_ok(mo_chart_write_pareto(NULL, NULL, 0, &writer));
    assert_well_formed();
    writer = text_begin(-1);
    test_ok(mo_chart_write_pareto(&desc, equal, 2, &writer));
    assert_well_formed();
    assert_int_equal(count("<circle"), 2);
    writer = text_begin(-1);
    const mo_chart_point large[] = {{"a", 1, 6, 1}};
    test_ok(mo_chart_write_pareto(&desc, large, 1, &writer));
    assert_int_equal(count("none within the budget"), 1);
}

static void random_points_give_well_formed_pictures(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("charts");
    static mo_chart_point points[300];
    for (int round = 0; round < 60; round++) {
        size_t n = test_below(&rng, round % 2 ? 300 : 6);
        double scale = pow(10, -9 + 18 * test_uniform(&rng));
        uint64_t bytes = (uint64_t)1 << test_below(&rng, 60);
        for (size_t i = 0; i < n; i++)
            points[i] = (mo_chart_point){i % 3 ? "checkpoint=block,optim=8bit,loss=64" : "",
                scale * test_uniform(&rng), test_below(&rng, bytes) + 1, test_below(&rng, 3) == 0};
        mo_chart_desc desc = {.width = 480 + (int)test_below(&rng, 900),
            .height = 120 + (int)test_below(&rng, 400),
            .budget_bytes = test_below(&rng, 2) * (bytes / 2)};
        mo_writer writer = text_begin(-1);
        test_ok(mo_chart_write_pareto(&desc, points, n, &writer));
        assert_well_formed();
        assert_int_equal(count("<circle"), n);
    }
}

/* ---- failures ------------------------------------------------------------------------------ */

static void bad_charts_are_refused(void **state) {
    (void)state;
    static const mo_chart_bar many[257] = {{"a", 1}};
    const mo_chart_point bad[] = {{"a", -1, 1, 1}, {"a", NAN, 1, 1}, {"a", INFINITY, 1, 1}};
    const mo_chart_desc narrow = {.width = 479}, low = {.height = 119};
    mo_writer writer = text_begin(-1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(mo_chart_write_pareto(NULL, &bad[i], 1, &writer), MO_E_INVALID);
    assert_int_equal(mo_chart_write_waterfall(NULL, many, 257, &writer), MO_E_INVALID);
    assert_int_equal(mo_chart_write_waterfall(&narrow, many, 1, &writer), MO_E_INVALID);
    assert_int_equal(mo_chart_write_pareto(&low, NULL, 0, &writer), MO_E_INVALID);
    assert_int_equal(mo_chart_write_pareto(NULL, NULL, 1, &writer), MO_E_INVALID);
    assert_int_equal(mo_chart_write_waterfall(NULL, NULL, 1, &writer), MO_E_INVALID);
    assert_int_equal(mo_chart_write_waterfall(NULL, many, 1, NULL), MO_E_INVALID);
    assert_int_equal(out.n_calls, 0);
}

static mo_status write_all(const mo_track *track, int what, const mo_writer *writer) {
    const mo_chart_bar bars[] = {{"plain", 100}, {"light", 60}};
    const mo_chart_point points[] = {{"a", 1, 6, 1}, {"b", 2, 3, 1}};
    const mo_chart_desc chart = {.budget_bytes = 5};
    const mo_report_section sections[] = {
        {"Leaks", write_leaks, (void *)(uintptr_t)track, 1}, {"b", write_waterfall, NULL, 0}};
    const mo_report_desc report = {.sections = sections, .n_sections = 2};
    if (what == 0) return mo_chart_write_waterfall(&chart, bars, 2, writer);
    if (what == 1) return mo_chart_write_pareto(&chart, points, 2, writer);
    return mo_report_write_html(track, &report, writer);
}

static void a_writer_that_refuses_ends_the_text(void **state) {
    (void)state;
    mo_track *track = track_of(0);
    add(track, 1, 1 << 20, MO_CATEGORY_PARAM, "w");
    for (int what = 0; what < 3; what++) {
        mo_writer writer = text_begin(-1);
        test_ok(write_all(track, what, &writer));
        for (int k = 0, n = out.n_calls; k < n; k++) {
            writer = text_begin(k);
            assert_int_equal(write_all(track, what, &writer), MO_E_IO);
            assert_int_equal(out.n_calls, k + 1);
        }
    }
    mo_track_free(track);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_track_is_a_page),
        cmocka_unit_test(the_page_has_timeline_tables_spaces_and_sections),
        cmocka_unit_test(names_cannot_break_the_page),
        cmocka_unit_test(a_huge_history_stays_a_small_page),
        cmocka_unit_test(what_a_section_returns_ends_the_page),
        cmocka_unit_test(bars_are_as_long_as_their_bytes_and_show_what_was_saved),
        cmocka_unit_test(a_waterfall_of_nothing_is_a_picture),
        cmocka_unit_test(the_stair_goes_through_the_frontier_in_order_of_time),
        cmocka_unit_test(a_pareto_of_nothing_or_of_equals_is_a_picture),
        cmocka_unit_test(random_points_give_well_formed_pictures),
        cmocka_unit_test(bad_charts_are_refused),
        cmocka_unit_test(a_writer_that_refuses_ends_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
