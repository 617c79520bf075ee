/* test_graph_draw.c - mo_graph: DOT and SVG. */
#include "test_graph.h"
#include "test_svg.h"

static const char odd_names[] =
    "tensor \"<x> & 'y'\" 64KiB input category=param\n"
    "tensor \"\\\"\\\\\\x0a\\xff\" 32KiB\n"
    "tensor y 16KiB output category=grad\n"
    "op \"a<b\" \"k\\\"\\\\\" : \"<x> & 'y'\" -> \"\\\"\\\\\\x0a\\xff\"\n"
    "op last k : \"\\\"\\\\\\x0a\\xff\" -> y=\"\\\"\\\\\\x0a\\xff\"\n";

static void dot_names_ops_tensors_and_edges(void **state) {
    (void)state;
    mo_graph *graph = graph_of(odd_names);
    mo_writer writer = text_begin(-1);
    test_ok(mo_graph_write_dot(graph, &writer));
    assert_int_equal(count("digraph memopt {\n"), 1);
    assert_int_equal(count("t0 [label=\"<x> & 'y'\\n64.0 KiB\",shape=ellipse,style=bold];\n"), 1);
    assert_int_equal(count("t1 [label=\"\\\"\\\\??\\n32.0 KiB\",shape=ellipse];\n"), 1);
    assert_int_equal(count("t2 [label=\"y\\n16.0 KiB\",shape=ellipse,peripheries=2];\n"), 1);
    assert_int_equal(count("o0 [label=\"a<b\\nk\\\"\\\\\"];\n"), 1);
    assert_int_equal(count("t0 -> o0;\no0 -> t1;\n"), 1);
    assert_int_equal(count("t2 -> t1 [style=dashed"), 1);
    mo_graph_destroy(graph);
}

static void svg_shows_bars_the_curve_and_the_peak(void **state) {
    (void)state;
    mo_graph *graph = graph_of(odd_names);
    mo_graph_svg_desc desc = {.title = "<title>", .n_bars = 2};
    mo_writer writer = text_begin(-1);
    test_ok(mo_graph_write_svg(graph, NULL, NULL, &writer));
    assert_well_formed();
    assert_int_equal(count(">peak 96.0 KiB</text>"), 1);
    assert_int_equal(count("2 ops, 3 tensors, peak 96.0 KiB at step 0, 1 in place (16.0 KiB)"), 1);
    assert_int_equal(count("<title>&#60;x&#62; &#38; &#39;y&#39;: 64.0 KiB, steps 0 to 1<"), 1);
    assert_int_equal(count("<title>y: 16.0 KiB, steps 1 to 1, in place of &#34;\\?\?</title>"), 1);
    assert_int_equal(count("<rect class=\"param\""), 1);
    assert_int_equal(count(">a&#60;b</text>"), 1);
    assert_int_equal(count("<title>live bytes</title>"), 1);
    writer = text_begin(-1);
    test_ok(mo_graph_write_svg(graph, NULL, &desc, &writer));
    assert_well_formed();
    assert_int_equal(count(">&#60;title&#62;</text>"), 1);
    assert_int_equal(count("<rect class=\"grad\""), 0); /* the smallest gets no bar */
    mo_graph_destroy(graph);
}

static void svg_of_nothing_and_of_much_is_a_picture(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("svg_of_nothing_and_of_much_is_a_picture");
    mo_graph *graph = graph_of("");
    mo_writer writer = text_begin(-1);
    test_ok(mo_graph_write_svg(graph, NULL, NULL, &writer));
    assert_well_formed();
    for (size_t i = 0; i < 5000; i++) {
        char name[32];
        mo_graph_tensor tensor = {.name = name, .size = test_below(&rng, 1000)};
        mo_graph_op op = {.name = name, .kind = "k", .outputs = &i, .n_outputs = 1};
        snprintf(name, sizeof name, "%zu", i);
        if (i == 4321) tensor.size = 1 << 20;
        test_ok(mo_graph_add_tensor(graph, &tensor, NULL));
        test_ok(mo_graph_add_op(graph, &op, NULL));
    }
    writer = text_begin(-1);
    test_ok(mo_graph_write_svg(graph, NULL, NULL, &writer));
    assert_well_formed();
    assert_int_equal(count(">peak 1.0 MiB</text>"), 1);
    assert_int_equal(count("<rect"), 41);
    mo_graph_svg_desc wrong = {.width = 479};
    assert_int_equal(mo_graph_write_svg(graph, NULL, &wrong, &writer), MO_E_INVALID);
    wrong.width = 0;
    wrong.n_bars = 1001;
    assert_int_equal(mo_graph_write_svg(graph, NULL, &wrong, &writer), MO_E_INVALID);
    mo_graph_destroy(graph);
}

static void a_writer_that_refuses_is_an_error(void **state) {
    (void)state;
    mo_graph *graph = graph_of(odd_names);
    mo_status (*const writes[])(const mo_graph *, const mo_writer *) = {
        mo_graph_write, mo_graph_write_dot};
    for (size_t i = 0; i < 3; i++) {
        mo_status status = MO_E_IO;
        for (int k = 0; status != MO_OK; k++) {
            mo_writer writer = text_begin(k);
            status =
                i < 2 ? writes[i](graph, &writer) : mo_graph_write_svg(graph, NULL, NULL, &writer);
            assert_int_equal(status, out.n_calls > k ? MO_E_IO : MO_OK);
            assert_true(out.n_calls <= k + 1);
        }
    }
    mo_writer none = {NULL, NULL};
    assert_int_equal(mo_graph_write(graph, &none), MO_E_INVALID);
    assert_int_equal(mo_graph_write_dot(graph, NULL), MO_E_INVALID);
    assert_int_equal(mo_graph_write_svg(NULL, NULL, NULL, &none), MO_E_INVALID);
    mo_graph_destroy(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dot_names_ops_tensors_and_edges),
        cmocka_unit_test(svg_shows_bars_the_curve_and_the_peak),
        cmocka_unit_test(svg_of_nothing_and_of_much_is_a_picture),
        cmocka_unit_test(a_writer_that_refuses_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
