/* test_layout_svg.c - mo_layout_write_svg */
#include "test_svg.h"
#include <math.h>

/* Peak 12: b5 at 8, and b1, b2, b3, b4 below it. */
static const mo_layout_item five[] = {
    {4, 1, 0, 2}, {4, 1, 3, 8}, {4, 1, 0, 8}, {4, 1, 9, 20}, {4, 1, 0, 20}};
static const size_t five_offsets[] = {0, 0, 4, 0, 8};

static void write_svg(
    const mo_layout_svg_desc *desc, const mo_layout_item *items, size_t n, const size_t *offsets) {
    mo_writer writer = text_begin(-1);
    test_ok(mo_layout_write_svg(desc, items, n, offsets, &writer));
    assert_well_formed();
}

/* The i-th rectangle of the map. */
typedef struct rect {
    double x, y, width, height;
} rect;
static int find_rect(size_t i, rect *r) {
    const char *at = out.at;
    for (size_t k = 0; k <= i; k++) {
        at = strstr(at, "<rect class=\"item ");
        if (!at) return 0;
        at++;
    }
    const int n = sscanf(strstr(at, " x=\""), " x=\"%lf\" y=\"%lf\" width=\"%lf\" height=\"%lf\"",
        &r->x, &r->y, &r->width, &r->height);
    assert_int_equal(n, 4);
    return 1;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void no_items_are_an_empty_picture(void **state) {
    (void)state;
    write_svg(NULL, NULL, 0, NULL);
    assert_int_equal(count("<rect class=\"item"), 0);
    assert_int_equal(count("0 buffers"), 1);
}

static void rectangles_lie_at_their_steps_and_addresses(void **state) {
    (void)state;
    const double left = 72, right = 936, step = (right - left) / 21;
    write_svg(NULL, five, 5, five_offsets);
    rect r, base;
    assert_true(find_rect(0, &base));
    const double byte = base.height / 4, bottom = base.y + base.height; /* offset 0 */
    for (size_t i = 0; i < 5; i++) {
        assert_true(find_rect(i, &r));
        assert_true(fabs(r.x - (left + step * (double)five[i].first)) < 0.11);
        assert_true(fabs(r.width - step * (double)(five[i].last + 1 - five[i].first)) < 0.11);
        assert_true(fabs(r.y - (bottom - byte * (double)(five_offsets[i] + 4))) < 0.3);
        assert_true(fabs(r.height - 4 * byte) < 0.11);
    }
    assert_false(find_rect(5, &r));
    assert_true(fabs(420 / byte - 12 * 1.06) < 0.01); /* the map is 420 pixels for 12 bytes */
    assert_int_equal(count("<title>4: 4 bytes at 8, steps 0 to 20</title>"), 1);
    assert_int_equal(count(">peak 12 B</text>"), 1);
    assert_int_equal(count(">top 12 B</text>"), 1);
    assert_int_equal(count("5 buffers, top 12 B: 100 % of the live bytes"), 1);
}

static void labels_marks_and_capacity_are_shown(void **state) {
    (void)state;
    const mo_layout_label labels[] = {{"x<0>", MO_CATEGORY_INPUT}, {NULL, MO_CATEGORY_GRAD},
        {"b3", MO_CATEGORY_PARAM}, {"b4", MO_CATEGORY_COUNT}, {"b5", MO_CATEGORY_PARAM}};
    const mo_layout_mark marks[] = {{3, "second"}, {9, "last & least"}, {21, "behind it"}};
    mo_layout_svg_desc desc = {
        .title = "Five", .labels = labels, .marks = marks, .n_marks = 3, .capacity = 13};
    write_svg(&desc, five, 5, five_offsets);
    assert_int_equal(count(">Five</text>"), 1);
    assert_int_equal(count("x&#60;0&#62;: 4 bytes at 0, steps 0 to 2"), 1);
    assert_int_equal(count("<title>1: 4 bytes at 0, steps 3 to 8"), 1);
    assert_int_equal(count("<rect class=\"item param\""), 2);
    assert_int_equal(count("<rect class=\"item other\""), 1); /* a category that is none */
    assert_int_equal(count(">b5</text>"), 1);
    assert_int_equal(count(">second</text>"), 1);
    assert_int_equal(count(">last &#38; least</text>"), 1);
    assert_int_equal(count("behind it"), 0);
    assert_int_equal(count(">capacity 13 B</text>"), 1);
    assert_int_equal(count("param <tspan class=\"muted num\">8 B</tspan>"), 1); /* at the peak */
    assert_int_equal(count("grad <tspan class=\"muted num\">0 B</tspan>"), 1);
}

static void a_capacity_far_above_is_left_to_the_heading(void **state) {
    (void)state;
    mo_layout_svg_desc desc = {.capacity = 1000};
    write_svg(&desc, five, 5, five_offsets);
    assert_int_equal(count(">capacity 1000 B</text>"), 0);
    assert_int_equal(count("capacity 1000 B"), 1);
}

static void gaps_are_left_out_of_map_and_curve(void **state) {
    (void)state;
    const mo_layout_item items[] = {{8, 1, 0, 9}, {8, 1, 4, 5}};
    const size_t offsets[] = {0, 2};
    const mo_layout_gap gaps[] = {{0, 6, 9, 0, 0}, {0, 4, 5, 0, 2}};
    mo_layout_svg_desc desc = {.gaps = gaps, .n_gaps = 2};
    write_svg(&desc, items, 2, offsets);
    assert_int_equal(count("<title>0: 8 bytes at 0, steps 0 to 3</title>"), 1);
    assert_int_equal(count("<title>0: 2 bytes at 0, steps 4 to 5</title>"), 1);
    assert_int_equal(count("<rect class=\"item "), 3);
    assert_int_equal(count(">peak 10 B</text>"), 1);
    assert_int_equal(count("top 10 B: 100 % of the live bytes"), 1);
}

static void what_is_too_small_is_counted_instead(void **state) {
    (void)state;
    const mo_layout_item items[] = {{1 << 30, 1, 0, 9999}, {1, 1, 5, 5}, {0, 1, 0, 9999}};
    const size_t offsets[] = {0, 1 << 30, 0};
    write_svg(NULL, items, 3, offsets);
    assert_int_equal(count("<rect class=\"item "), 1);
    assert_int_equal(count("3 buffers"), 1);
    assert_int_equal(count("1 too small to draw"), 1);
}

static void the_peak_survives_gathering_steps_in_columns(void **state) {
    (void)state;
    enum { N = 9000 };
    static mo_layout_item items[N];
    static size_t offsets[N];
    for (size_t i = 0; i < N; i++) {
        const mo_layout_item item = {i == 4321 ? 1000 : 100, 1, 7 * i, 7 * i + 2};
        items[i] = item;
    }
    write_svg(NULL, items, N, offsets);
    double highest = 1e9, y;
    for (const char *c = strstr(out.at, "<path class=\"item plain\""); *c != 'Z'; c++)
        if (*c == 'V' && (y = strtod(c + 1, NULL)) < highest) highest = y;
    const double bottom = 52 - 11 + 49 + 90;
    assert_true(fabs(highest - (bottom - 90 / 1.3)) < 0.11);
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    mo_writer writer = text_begin(-1);
    const mo_layout_item turned = {4, 1, 3, 2}, huge = {SIZE_MAX, 1, 0, 0};
    const mo_layout_item two[] = {{SIZE_MAX, 1, 0, 1}, {1, 1, 1, 1}};
    const size_t zero[] = {0, 0}, one = 1;
    const mo_layout_gap before = {0, 0, 3, 0, 0}, wide = {2, 3, 3, 0, 5}, nobody = {5, 0, 0, 0, 0};
    const mo_layout_svg_desc narrow = {.width = 479}, low = {.height = 119}, marks = {.n_marks = 1},
                             no_gaps = {.n_gaps = 1}, gap1 = {.gaps = &before, .n_gaps = 1},
                             gap2 = {.gaps = &wide, .n_gaps = 1},
                             gap3 = {.gaps = &nobody, .n_gaps = 1};
    const mo_layout_svg_desc *bad[] = {&narrow, &low, &marks, &no_gaps, &gap2, &gap3};
    for (size_t i = 0; i < n_elements(bad); i++)
        assert_int_equal(mo_layout_write_svg(bad[i], five, 5, five_offsets, &writer), MO_E_INVALID);
    assert_int_equal(mo_layout_write_svg(&gap1, five + 1, 1, zero, &writer), MO_E_INVALID);
    assert_int_equal(mo_layout_write_svg(NULL, five, 5, five_offsets, NULL), MO_E_INVALID);
    assert_int_equal(mo_layout_write_svg(NULL, NULL, 5, five_offsets, &writer), MO_E_INVALID);
    assert_int_equal(mo_layout_write_svg(NULL, five, 5, NULL, &writer), MO_E_INVALID);
    assert_int_equal(mo_layout_write_svg(NULL, &turned, 1, zero, &writer), MO_E_INVALID);
    assert_int_equal(mo_layout_write_svg(NULL, &huge, 1, &one, &writer), MO_E_OVERFLOW);
    assert_int_equal(mo_layout_write_svg(NULL, two, 2, zero, &writer), MO_E_OVERFLOW);
    assert_int_equal(out.n_calls, 0);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void random_layouts_give_well_formed_pictures(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("layout_svg");
    for (int round = 0; round < 60; round++) {
        enum { N = 200 };
        mo_layout_item items[N];
        mo_layout_label labels[N];
        size_t offsets[N], n = test_below(&rng, N);
        const uint64_t steps = test_u64(&rng) >> test_below(&rng, 64);
        const int size_bits = 8 + (int)test_below(&rng, 45);
        for (size_t i = 0; i < n; i++) {
            const size_t first = test_u64(&rng) % (steps + (steps != SIZE_MAX));
            const mo_layout_item item = {(size_t)(test_u64(&rng) >> (64 - size_bits)), 1, first,
                first + (size_t)(test_u64(&rng) % (steps - first + 1 ? steps - first + 1 : 1))};
            items[i] = item;
            offsets[i] = (size_t)(test_u64(&rng) >> (64 - size_bits));
            labels[i].name = test_below(&rng, 2) ? "a name" : NULL;
            labels[i].category = (mo_category)test_below(&rng, MO_CATEGORY_COUNT);
        }
        mo_layout_svg_desc desc = {.width = 480 + (int)test_below(&rng, 1000),
            .capacity = test_below(&rng, 2) ? (size_t)1 << size_bits : 0,
            .labels = test_below(&rng, 2) ? labels : NULL};
        write_svg(&desc, items, n, offsets);
        rect r;
        for (size_t i = 0; find_rect(i, &r); i++) {
            assert_true(r.x >= 72 && r.x + r.width <= desc.width - 24 + 0.4);
            assert_true(r.y > 0 && r.width > 0 && r.height > 0);
        }
    }
}

/* ---- failures ------------------------------------------------------------------------------ */

static void every_failed_allocation_is_clean(void **state) {
    (void)state;
    for (int k = 0;; k++) {
        test_heap heap;
        const mo_allocator allocator = test_heap_begin(&heap, k);
        const mo_layout_svg_desc desc = {.allocator = &allocator};
        mo_writer writer = text_begin(-1);
        const mo_status status = mo_layout_write_svg(&desc, five, 5, five_offsets, &writer);
        assert_int_equal(heap.live_blocks, 0);
        if (status == MO_OK) {
            assert_true(k >= 3);
            break;
        }
        assert_int_equal(status, MO_E_NO_MEMORY);
        assert_int_equal(out.n_calls, 0);
    }
}

static void a_writer_that_refuses_ends_the_text(void **state) {
    (void)state;
    write_svg(NULL, five, 5, five_offsets);
    for (int k = 0, n = out.n_calls; k < n; k++) {
        mo_writer writer = text_begin(k);
        assert_int_equal(mo_layout_write_svg(NULL, five, 5, five_offsets, &writer), MO_E_IO);
        assert_int_equal(out.n_calls, k + 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_items_are_an_empty_picture),
        cmocka_unit_test(rectangles_lie_at_their_steps_and_addresses),
        cmocka_unit_test(labels_marks_and_capacity_are_shown),
        cmocka_unit_test(a_capacity_far_above_is_left_to_the_heading),
        cmocka_unit_test(gaps_are_left_out_of_map_and_curve),
        cmocka_unit_test(what_is_too_small_is_counted_instead),
        cmocka_unit_test(the_peak_survives_gathering_steps_in_columns),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(random_layouts_give_well_formed_pictures),
        cmocka_unit_test(every_failed_allocation_is_clean),
        cmocka_unit_test(a_writer_that_refuses_ends_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
