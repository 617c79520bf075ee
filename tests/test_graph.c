/* test_graph.c - mo_graph: building, dropping, merging, text. */
#include "test_graph.h"
#include "test_files.h"
#include <locale.h>
#include <math.h>

#define FUZZ_NO_MAIN
#include "../fuzz/fuzz_graph.c"

static test_log logged;
static graph_text picture;

static mo_graph *logged_graph(void) {
    static mo_log log;
    mo_graph_desc desc = {.log = &log};
    mo_graph *graph;
    log = test_log_begin(&logged);
    test_ok(mo_graph_create(&desc, &graph));
    return graph;
}

/* ---- building ------------------------------------------------------------------------------ */

static void what_was_added_is_there(void **state) {
    (void)state;
    mo_graph *graph;
    test_ok(mo_graph_create(NULL, &graph));
    mo_graph_tensor x = {.name = "x", .size = 64, .align = 32, .flags = MO_GRAPH_INPUT};
    mo_graph_tensor y = {.name = "y", .size = 8, .category = MO_CATEGORY_GRAD, .writer = 55};
    size_t ids[3], op_id;
    test_ok(mo_graph_add_tensor(graph, &x, &ids[0]));
    test_ok(mo_graph_add_tensor(graph, &y, &ids[1]));
    y.name = "z";
    test_ok(mo_graph_add_tensor(graph, &y, &ids[2]));
    assert_int_equal(get_tensor(graph, 1).writer, SIZE_MAX);
    const size_t twice[] = {0, 0};
    const mo_graph_alias pairs[] = {{2, 0}, {1, 0}, {2, 0}};
    mo_graph_op op = {"o", "k", "a=1", 0.5, MO_GRAPH_RANDOM, twice, 2, ids + 1, 2, pairs, 3};
    test_ok(mo_graph_add_op(graph, &op, &op_id));
    assert_int_equal(op_id, 0);
    assert_int_equal(mo_graph_n_tensors(graph), 3);
    assert_int_equal(mo_graph_n_ops(graph), 1);
    mo_graph_tensor got = get_tensor(graph, 0);
    assert_string_equal(got.name, "x");
    assert_int_equal(got.size, 64);
    assert_int_equal(got.align, 32);
    assert_int_equal(got.flags, MO_GRAPH_INPUT);
    assert_int_equal(get_tensor(graph, 1).category, MO_CATEGORY_GRAD);
    assert_int_equal(get_tensor(graph, 1).writer, 0);
    mo_graph_op have = get_op(graph, 0);
    assert_string_equal(have.kind, "k");
    assert_string_equal(have.attrs, "a=1");
    assert_true(have.cost_s == 0.5);
    assert_int_equal(have.n_inputs, 2);
    assert_int_equal(have.outputs[1], 2);
    assert_int_equal(have.n_aliases, 3); /* by output now */
    assert_int_equal(have.aliases[0].output, 1);
    assert_int_equal(have.aliases[2].output, 2);
    assert_int_equal(mo_graph_find_tensor(graph, "z"), 2);
    assert_int_equal(mo_graph_find_tensor(graph, "o"), SIZE_MAX);
    assert_int_equal(mo_graph_find_op(graph, "o"), 0);
    assert_int_equal(mo_graph_get_tensor(graph, 3, &got), MO_E_INVALID);
    assert_int_equal(mo_graph_get_op(graph, 1, &have), MO_E_INVALID);
    mo_graph_destroy(graph);
}

static void assert_bad_tensor(mo_graph *graph, mo_graph_tensor tensor, const char *message) {
    size_t id = 77;
    assert_int_equal(mo_graph_add_tensor(graph, &tensor, &id), MO_E_INVALID);
    assert_string_equal(logged.text, message);
    assert_int_equal(id, 77);
    assert_int_equal(mo_graph_n_tensors(graph), 1);
}

static void wrong_tensors_are_named(void **state) {
    (void)state;
    mo_graph *graph = logged_graph();
    mo_graph_tensor good = {.name = "x", .size = 1}, bad = good;
    test_ok(mo_graph_add_tensor(graph, &good, NULL));
    assert_bad_tensor(graph, bad, "graph: tensor 'x': is there already");
    bad.name = "";
    assert_bad_tensor(graph, bad, "graph: tensor '': has no name");
    bad.name = NULL;
    assert_bad_tensor(graph, bad, "graph: tensor '': has no name");
    bad.name = "y";
    bad.align = 48;
    assert_bad_tensor(graph, bad, "graph: tensor 'y': alignment is no power of two");
    bad.align = 0;
    bad.category = MO_CATEGORY_COUNT;
    assert_bad_tensor(graph, bad, "graph: tensor 'y': category does not exist");
    bad.category = MO_CATEGORY_OTHER;
    bad.flags = 8;
    assert_bad_tensor(graph, bad, "graph: tensor 'y': flag does not exist");
    bad.flags = MO_GRAPH_REUSE;
    assert_bad_tensor(graph, bad, "graph: tensor 'y': reuse is for inputs of the graph");
    bad.flags = 0;
    bad.size = SIZE_MAX / 2;
    assert_int_equal(mo_graph_add_tensor(graph, &bad, NULL), MO_E_OVERFLOW);
    assert_string_equal(logged.text, "graph: tensor 'y': the sum of all sizes is too large");
    bad.size--;
    test_ok(mo_graph_add_tensor(graph, &bad, NULL));
    assert_int_equal(mo_graph_add_tensor(NULL, &good, NULL), MO_E_INVALID);
    mo_graph_destroy(graph);
}

static void assert_bad_op(mo_graph *graph, mo_graph_op op, const char *message) {
    size_t n = mo_graph_n_ops(graph), id = 77;
    assert_int_equal(mo_graph_add_op(graph, &op, &id), MO_E_INVALID);
    assert_string_equal(logged.text, message);
    assert_int_equal(id, 77);
    assert_int_equal(mo_graph_n_ops(graph), n);
}

static void wrong_ops_are_named(void **state) {
    (void)state;
    mo_graph *graph = logged_graph();
    static const char *const names[] = {"x", "a", "b"};
    for (size_t i = 0; i < 3; i++) {
        mo_graph_tensor tensor = {.name = names[i], .flags = i ? 0 : MO_GRAPH_INPUT};
        test_ok(mo_graph_add_tensor(graph, &tensor, NULL));
    }
    const size_t x = 0, a = 1, b = 2, far = 3, both[] = {2, 2};
    const mo_graph_alias not_output = {0, 0}, not_input = {2, 1};
    mo_graph_op good = {.name = "1", .kind = "k", .inputs = &x, .n_inputs = 1, .outputs = &a};
    good.n_outputs = 1;
    test_ok(mo_graph_add_op(graph, &good, NULL));
    mo_graph_op op = good;
    assert_bad_op(graph, op, "graph: op '1': is there already");
    op.name = "";
    assert_bad_op(graph, op, "graph: op '': has no name");
    op.name = "2";
    assert_bad_op(graph, op, "graph: op '2': tensor 'a' is written twice");
    op.outputs = both;
    op.n_outputs = 2;
    assert_bad_op(graph, op, "graph: op '2': tensor 'b' is written twice");
    op.n_outputs = 1;
    op.outputs = &x;
    op.n_inputs = 0;
    assert_bad_op(graph, op, "graph: op '2': tensor 'x' is an input of the graph");
    op.n_inputs = 1;
    op.inputs = op.outputs = &b;
    assert_bad_op(graph, op, "graph: op '2': tensor 'b' is read and written by it");
    op.inputs = &far;
    assert_bad_op(graph, op, "graph: op '2': there is no tensor 3");
    op.inputs = &x;
    op.outputs = &far;
    assert_bad_op(graph, op, "graph: op '2': there is no tensor 3");
    op.outputs = &b;
    op.kind = "";
    assert_bad_op(graph, op, "graph: op '2': has no kind");
    op.kind = "k";
    op.cost_s = -1;
    assert_bad_op(graph, op, "graph: op '2': cost is negative or no number");
    op.cost_s = HUGE_VAL;
    assert_bad_op(graph, op, "graph: op '2': cost is negative or no number");
    op.cost_s = 0;
    op.flags = 4;
    assert_bad_op(graph, op, "graph: op '2': flag does not exist");
    op.flags = 0;
    op.n_aliases = 1;
    assert_bad_op(graph, op, "graph: op '2': a list is NULL");
    op.aliases = &not_output;
    assert_bad_op(graph, op, "graph: op '2': tensor 'x' is not its output");
    op.aliases = &not_input;
    assert_bad_op(graph, op, "graph: op '2': tensor 'a' is not its input");
    op.n_aliases = 0;
    test_ok(mo_graph_add_op(graph, &op, NULL));
    mo_graph_destroy(graph);
}

/* ---- check --------------------------------------------------------------------------------- */

static void assert_not_whole(const char *text, const char *message) {
    test_log said;
    mo_log log = test_log_begin(&said);
    mo_graph_desc desc = {.log = &log};
    mo_graph *graph;
    size_t order[8] = {77};
    test_ok(mo_graph_parse(&desc, text, strlen(text), &graph));
    assert_int_equal(mo_graph_check(graph), MO_E_INVALID);
    if (strcmp(said.text, message) != 0) fail_msg("'%s' instead of '%s'", said.text, message);
    assert_int_equal(mo_graph_prune(graph, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_graph_merge(graph, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_graph_order(graph, NULL, order, NULL), MO_E_INVALID);
    assert_int_equal(mo_graph_lifetimes(graph, NULL, NULL, NULL, NULL, NULL), MO_E_INVALID);
    assert_int_equal(order[0], 77);
    mo_graph_destroy(graph);
}

static void a_graph_that_is_not_whole_is_rejected(void **state) {
    (void)state;
    assert_not_whole("tensor a 1\ntensor b 1 output\nop o k : a -> b\n",
        "graph: op 'o': tensor 'a' is read, but nothing writes it and it is no input");
    assert_not_whole("tensor a 1 output\n",
        "graph: tensor 'a' is an output, but nothing writes it and it is no input");
    /* last waits for mid, which waits for the cycle; neither is in it */
    assert_not_whole("tensor x 1 input\ntensor a 1\ntensor b 1\ntensor c 1\ntensor d 1\n"
                     "op last k : a -> d\nop one k : x c -> b\nop mid k : x b -> a\n"
                     "op two k : b -> c\n",
        "graph: op 'one' waits for itself");
    assert_int_equal(mo_graph_check(NULL), MO_E_INVALID);
    mo_graph *whole = graph_of("tensor a 1\n"); /* of no use, but not wrong */
    test_ok(mo_graph_check(whole));
    mo_graph_destroy(whole);
}

/* ---- prune --------------------------------------------------------------------------------- */

static void what_no_output_and_no_effect_needs_is_dropped(void **state) {
    (void)state;
    mo_graph *graph = graph_of("tensor unused 9 input\ntensor x 1 input\ntensor a 2\ntensor b 3\n"
                               "tensor side 4\ntensor y 5 output\ntensor d 6\ntensor e 7\n"
                               "tensor kept 8 input output\ntensor nobody 1\n"
                               "op dead k : x -> a\n"
                               "op dead2 k : a -> b\n"
                               "op y k : x -> y side\n"
                               "op d k : x -> d\n"
                               "op log k effect : d -> e\n"
                               "op noise k random : x ->\n");
    size_t op_map[6], tensor_map[10];
    uint64_t before = meaning(graph);
    test_ok(mo_graph_prune(graph, op_map, tensor_map));
    static const size_t ops[] = {SIZE_MAX, SIZE_MAX, 0, 1, 2, SIZE_MAX};
    static const size_t tensors[] = {SIZE_MAX, 0, SIZE_MAX, SIZE_MAX, 1, 2, 3, 4, 5, SIZE_MAX};
    assert_memory_equal(op_map, ops, sizeof ops);
    assert_memory_equal(tensor_map, tensors, sizeof tensors);
    assert_int_equal(mo_graph_n_ops(graph), 3);
    assert_int_equal(mo_graph_n_tensors(graph), 6);
    assert_int_equal(get_tensor(graph, tensor_of(graph, "e")).writer, op_of(graph, "log"));
    assert_int_equal(mo_graph_find_tensor(graph, "b"), SIZE_MAX);
    assert_int_equal(mo_graph_find_op(graph, "dead"), SIZE_MAX);
    assert_true(meaning(graph) == before);
    mo_graph_destroy(graph);
}

static void a_pruned_graph_can_grow_again(void **state) {
    (void)state;
    mo_graph *graph = graph_of("tensor x 1 input\ntensor a 1\ntensor y 1 output\n"
                               "op dead k : x -> a\nop y k : x -> y\n");
    test_ok(mo_graph_prune(graph, NULL, NULL));
    mo_graph_tensor tensor = {.name = "a", .size = 2, .flags = MO_GRAPH_OUTPUT};
    size_t id, x = tensor_of(graph, "x");
    test_ok(mo_graph_add_tensor(graph, &tensor, &id));
    mo_graph_op op = {.name = "dead", .kind = "k", .inputs = &x, .n_inputs = 1, .outputs = &id};
    op.n_outputs = 1;
    test_ok(mo_graph_add_op(graph, &op, NULL));
    test_ok(mo_graph_check(graph));
    assert_int_equal(id, 2);
    mo_graph_destroy(graph);
}

/* ---- merge --------------------------------------------------------------------------------- */

static void equal_ops_are_merged_through_their_readers(void **state) {
    (void)state;
    mo_graph *graph = graph_of("tensor x 1 input\ntensor a 2\ntensor b 2\ntensor c 3\ntensor d 3\n"
                               "tensor y 4 output\n"
                               "op a relu : x -> a\n"
                               "op b relu : x -> b\n"
                               "op c norm attrs=\"1e-5\" : a -> c=a\n"
                               "op d norm attrs=\"1e-5\" : b -> d=b\n"
                               "op y add : c d -> y=d\n");
    size_t op_map[5], tensor_map[6];
    test_ok(mo_graph_merge(graph, op_map, tensor_map));
    static const size_t ops[] = {0, 0, 1, 1, 2}, tensors[] = {0, 1, 1, 2, 2, 3};
    assert_memory_equal(op_map, ops, sizeof ops);
    assert_memory_equal(tensor_map, tensors, sizeof tensors);
    mo_graph_op y = get_op(graph, 2);
    assert_int_equal(y.inputs[0], 2);
    assert_int_equal(y.inputs[1], 2);
    assert_int_equal(y.aliases[0].input, 2);
    assert_int_equal(y.aliases[0].output, 3);
    mo_graph_destroy(graph);
}

static void ops_that_differ_are_not_merged(void **state) {
    (void)state;
    static const char *const pairs[] = {
        "tensor a 1\ntensor b 1\nop 1 k : x y -> a\nop 2 k : y x -> b\n",
        "tensor a 1\ntensor b 1\nop 1 k : x -> a\nop 2 l : x -> b\n",
        "tensor a 1\ntensor b 1\nop 1 k attrs=\"1\" : x -> a\nop 2 k : x -> b\n",
        "tensor a 1\ntensor b 2\nop 1 k : x -> a\nop 2 k : x -> b\n",
        "tensor a 1\ntensor b 1 align=2\nop 1 k : x -> a\nop 2 k : x -> b\n",
        "tensor a 1\ntensor b 1\nop 1 k random : x -> a\nop 2 k random : x -> b\n",
        "tensor a 1\ntensor b 1\nop 1 k effect : x -> a\nop 2 k effect : x -> b\n",
        "tensor a 1\ntensor b 1\nop 1 k : x -> a\nop 2 k : x x -> b\n",
        "tensor a 1\ntensor b 1\ntensor c 1\nop 1 k : x -> a\nop 2 k : x -> b c\n",
        "tensor a 1 output\ntensor b 1 output\nop 1 k : x -> a\nop 2 k : x -> b\n"};
    for (size_t i = 0; i < n_elements(pairs); i++) {
        char text[400];
        snprintf(text, sizeof text, "tensor x 1 input\ntensor y 1 input\n%s", pairs[i]);
        mo_graph *graph = graph_of(text);
        test_ok(mo_graph_merge(graph, NULL, NULL));
        if (mo_graph_n_ops(graph) != 2) fail_msg("merged: %s", pairs[i]);
        mo_graph_destroy(graph);
    }
}

static void the_op_that_writes_an_output_is_kept(void **state) {
    (void)state;
    mo_graph *graph = graph_of("tensor x 1 input\ntensor a 2\ntensor b 2 output\ntensor c 2\n"
                               "tensor y 3 output\n"
                               "op a k : x -> a\nop b k : x -> b\nop c k : x -> c\n"
                               "op y k : a c -> y\n");
    size_t op_map[4];
    uint64_t before = meaning(graph);
    test_ok(mo_graph_merge(graph, op_map, NULL));
    static const size_t ops[] = {0, 0, 0, 1};
    assert_memory_equal(op_map, ops, sizeof ops);
    assert_int_equal(op_of(graph, "b"), 0);
    assert_int_equal(get_op(graph, 1).inputs[1], tensor_of(graph, "b"));
    assert_true(meaning(graph) == before);
    mo_graph_destroy(graph);
}

/* ---- properties of the passes -------------------------------------------------------------- */

/* An output, and what effects see, is what it was; the maps name tensors of the same value. */
static void check_pass(
    mo_graph *graph, mo_status (*pass)(mo_graph *graph, size_t *op_map, size_t *tensor_map)) {
    size_t n_ops = mo_graph_n_ops(graph), n = mo_graph_n_tensors(graph), op_map[64];
    size_t tensor_map[256];
    uint64_t before[256], after[256], sum = meaning(graph);
    evaluate(graph, before);
    test_ok(pass(graph, op_map, tensor_map));
    test_ok(mo_graph_check(graph));
    assert_true(meaning(graph) == sum);
    evaluate(graph, after);
    for (size_t i = 0; i < n; i++)
        if (tensor_map[i] != SIZE_MAX) assert_true(before[i] == after[tensor_map[i]]);
    for (size_t i = 0; i < n_ops; i++)
        assert_true(op_map[i] == SIZE_MAX || op_map[i] < mo_graph_n_ops(graph));
    for (size_t i = 0; i < mo_graph_n_tensors(graph); i++)
        assert_int_equal(tensor_of(graph, get_tensor(graph, i).name), i);
    for (size_t i = 0; i < mo_graph_n_ops(graph); i++)
        assert_int_equal(op_of(graph, get_op(graph, i).name), i);
}

/* Nothing left to do: no two ops that compute the same, unless they both write an output. */
static void assert_merged(const mo_graph *graph) {
    uint64_t values[256];
    evaluate(graph, values);
    for (size_t i = 0; i < mo_graph_n_ops(graph); i++)
        for (size_t k = 0; k < i; k++) {
            mo_graph_op a = get_op(graph, i), b = get_op(graph, k);
            int is_same = values[a.outputs[0]] == values[b.outputs[0]], is_output[2] = {0, 0};
            for (size_t j = 0; is_same && j < a.n_outputs; j++) {
                is_output[0] |= get_tensor(graph, a.outputs[j]).flags & MO_GRAPH_OUTPUT;
                is_output[1] |= get_tensor(graph, b.outputs[j]).flags & MO_GRAPH_OUTPUT;
            }
            if (is_same) assert_true(is_output[0] && is_output[1]);
        }
}

static void passes_keep_what_the_graph_computes(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("passes_keep_what_the_graph_computes");
    size_t n_dropped = 0, n_merged = 0;
    for (int round = 0; round < 10000; round++) {
        mo_graph *graph = random_graph(&rng, round % 50 ? 10 : 30);
        size_t n = mo_graph_n_ops(graph);
        check_pass(graph, mo_graph_merge);
        assert_merged(graph);
        n_merged += n - mo_graph_n_ops(graph);
        n = mo_graph_n_ops(graph);
        check_pass(graph, mo_graph_prune);
        n_dropped += n - mo_graph_n_ops(graph);
        n = mo_graph_n_ops(graph);
        check_pass(graph, mo_graph_prune); /* a second time nothing is left to drop */
        assert_int_equal(mo_graph_n_ops(graph), n);
        if (round % 10 == 0) fuzz_graph_use(graph);
        mo_graph_destroy(graph);
    }
    assert_true(n_dropped > 1000);
    assert_true(n_merged > 1000);
}

/* ---- text ---------------------------------------------------------------------------------- */

static const char readable[] = "# a comment\n"
                               "\n"
                               "tensor x 4KiB input reuse\r\n"
                               "tensor w 1MiB input category=param align=64 # behind a line\n"
                               "  tensor\t\"a name\" 4096\n"
                               "tensor y 4096 output\n"
                               "op mul.1 matmul cost=0.002 attrs=\"transposed \\\"b\\\"\" random : "
                               "x w -> \"a name\"\n"
                               "op act1 relu effect:\"a name\"->y=\"a name\"=w";

static const char written[] =
    "tensor x 4096 input reuse\n"
    "tensor w 1048576 input align=64 category=param\n"
    "tensor \"a name\" 4096\n"
    "tensor y 4096 output\n"
    "op mul.1 matmul cost=0.002 random attrs=\"transposed \\\"b\\\"\" : x "
    "w -> \"a name\"\n"
    "op act1 relu effect : \"a name\" w -> y=\"a name\"=w\n";

static void text_is_read_and_written(void **state) {
    (void)state;
    char text[sizeof readable];
    static graph_text out;
    mo_writer writer = graph_text_begin(&out, -1);
    memcpy(text, readable, sizeof readable);
    mo_graph *graph;
    /* w is no input of act1: the pair is wrong, and said to be */
    test_log said;
    mo_log log = test_log_begin(&said);
    mo_graph_desc desc = {.log = &log};
    assert_int_equal(mo_graph_parse(&desc, text, strlen(text), &graph), MO_E_FORMAT);
    assert_string_equal(
        said.text, "graph: line 8, column 4: op 'act1': tensor 'w' is not its input");
    graph = graph_of(written);
    test_ok(mo_graph_write(graph, &writer));
    assert_string_equal(out.at, written);
    mo_graph_destroy(graph);
    char *colon = strstr(text, ":\"a name\"");
    memcpy(colon, ":w       ", 9); /* instead of "a name" */
    strcpy(strstr(text, "=\"a name\"=w"), "=w");
    graph = graph_of(text);
    mo_graph_op act = get_op(graph, op_of(graph, "act1"));
    assert_int_equal(act.inputs[0], tensor_of(graph, "w"));
    assert_int_equal(act.flags, MO_GRAPH_EFFECT);
    mo_graph_op mul = get_op(graph, op_of(graph, "mul.1"));
    assert_string_equal(mul.attrs, "transposed \"b\"");
    assert_true(mul.cost_s == 0.002);
    assert_int_equal(get_tensor(graph, tensor_of(graph, "w")).align, 64);
    assert_int_equal(get_tensor(graph, tensor_of(graph, "w")).category, MO_CATEGORY_PARAM);
    mo_graph_destroy(graph);
}

static void assert_bad_text(const char *text, mo_status status, const char *message) {
    test_log said;
    mo_log log = test_log_begin(&said);
    mo_graph_desc desc = {.log = &log};
    mo_graph *graph = NULL;
    char *exact = malloc(strlen(text) + 1);
    assert_non_null(exact);
    memcpy(exact, text, strlen(text));
    assert_int_equal(mo_graph_parse(&desc, exact, strlen(text), &graph), status);
    free(exact);
    assert_null(graph);
    if (strcmp(said.text, message) != 0) fail_msg("'%s' instead of '%s'", said.text, message);
    assert_int_equal(said.n, 1);
}

static void wrong_text_is_named_by_line_and_column(void **state) {
    (void)state;
    assert_bad_text("what 1\n", MO_E_FORMAT,
        "graph: line 1, column 1: expected 'tensor' or 'op' in place of 'what'");
    assert_bad_text("\n  =\n", MO_E_FORMAT, "graph: line 2, column 3: expected 'tensor' or 'op'");
    assert_bad_text(
        "tensor", MO_E_FORMAT, "graph: line 1, column 7: expected the name of the tensor");
    assert_bad_text("tensor x", MO_E_FORMAT, "graph: line 1, column 9: expected a number of bytes");
    assert_bad_text("tensor x 5kb", MO_E_FORMAT,
        "graph: line 1, column 10: no number of bytes that fits: '5kb'");
    assert_bad_text("tensor x 99999999999999999999", MO_E_FORMAT,
        "graph: line 1, column 10: no number of bytes that fits: '99999999999999999999'");
    assert_bad_text("tensor x 18014398509481984KiB", MO_E_FORMAT,
        "graph: line 1, column 10: no number of bytes that fits: '18014398509481984KiB'");
    assert_bad_text("tensor x 1 inputs", MO_E_FORMAT,
        "graph: line 1, column 12: no such option of a tensor: 'inputs'");
    assert_bad_text("tensor x 1 align=big", MO_E_FORMAT,
        "graph: line 1, column 12: no such option, or no such value of 'align'");
    assert_bad_text("tensor x 1 align=3", MO_E_FORMAT,
        "graph: line 1, column 8: tensor 'x': alignment is no power of two");
    assert_bad_text("tensor x 1\ntensor y 2\n tensor x 3\n", MO_E_FORMAT,
        "graph: line 3, column 9: tensor 'x': is there already");
    assert_bad_text("tensor x 9223372036854775807\ntensor y 1\n", MO_E_OVERFLOW,
        "graph: line 2, column 8: tensor 'y': the sum of all sizes is too large");
    assert_bad_text("op o k", MO_E_FORMAT, "graph: line 1, column 7: expected an option or ':'");
    assert_bad_text(
        "op o k : x -> y", MO_E_FORMAT, "graph: line 1, column 10: there is no tensor 'x'");
    assert_bad_text("op o k : # ->", MO_E_FORMAT, "graph: line 1, column 10: expected '->'");
    assert_bad_text("op o k cost=fast : ->", MO_E_FORMAT,
        "graph: line 1, column 8: no such option, or no such value of 'cost'");
    assert_bad_text("op o k cost=0x10 : ->", MO_E_FORMAT,
        "graph: line 1, column 8: no such option, or no such value of 'cost'");
    assert_bad_text("op o k cost=1e999 : ->", MO_E_FORMAT,
        "graph: line 1, column 4: op 'o': cost is negative or no number");
    assert_bad_text("op o k kind=1 : ->", MO_E_FORMAT,
        "graph: line 1, column 8: no such option, or no such value of 'kind'");
    assert_bad_text("tensor \"x", MO_E_FORMAT,
        "graph: line 1, column 10: no such character or escape in quotes");
    assert_bad_text("tensor \"x\n\" 1", MO_E_FORMAT,
        "graph: line 1, column 10: no such character or escape in quotes");
    assert_bad_text("tensor \"\\x00\" 1", MO_E_FORMAT,
        "graph: line 1, column 13: no such character or escape in quotes");
    assert_bad_text(
        "tensor \"\" 1", MO_E_FORMAT, "graph: line 1, column 8: tensor '': has no name");
    mo_graph *graph;
    assert_int_equal(mo_graph_parse(NULL, NULL, 1, &graph), MO_E_INVALID);
    assert_int_equal(mo_graph_parse(NULL, "", 0, NULL), MO_E_INVALID);
}

static void names_of_any_characters_come_back(void **state) {
    (void)state;
    static graph_text out;
    mo_writer writer = graph_text_begin(&out, -1);
    mo_graph *graph;
    char name[256];
    for (int c = 1; c < 256; c++) name[c - 1] = (char)c;
    name[255] = 0;
    test_ok(mo_graph_create(NULL, &graph));
    mo_graph_tensor tensor = {.name = name, .size = 1, .flags = MO_GRAPH_INPUT};
    test_ok(mo_graph_add_tensor(graph, &tensor, NULL));
    tensor.name = "->";
    test_ok(mo_graph_add_tensor(graph, &tensor, NULL));
    const size_t inputs[] = {0, 1};
    mo_graph_op op = {.name = name, .kind = name, .attrs = name, .inputs = inputs, .n_inputs = 2};
    test_ok(mo_graph_add_op(graph, &op, NULL));
    test_ok(mo_graph_write(graph, &writer));
    mo_graph *again = graph_of(out.at);
    assert_string_equal(get_tensor(again, 0).name, name);
    assert_string_equal(get_tensor(again, 1).name, "->");
    assert_string_equal(get_op(again, 0).attrs, name);
    assert_string_equal(get_op(again, 0).kind, name);
    mo_graph_destroy(again);
    mo_graph_destroy(graph);
}

static void costs_come_back_to_the_bit(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("costs_come_back_to_the_bit");
    static graph_text out;
    static const char *const locales[] = {"C", "de_DE.UTF-8", "de_DE"};
    for (int round = 0; round < 600; round++) {
        mo_writer writer = graph_text_begin(&out, -1);
        mo_graph *graph;
        mo_graph_op op = {.name = "o", .kind = "k"};
        op.cost_s = ldexp(test_uniform(&rng), (int)test_below(&rng, 200) - 150);
        if (round == 0) op.cost_s = 1.7976931348623157e308;
        if (round == 1) op.cost_s = 5e-324;
        (void)setlocale(LC_NUMERIC, locales[round / 200]); /* where it is there */
        test_ok(mo_graph_create(NULL, &graph));
        test_ok(mo_graph_add_op(graph, &op, NULL));
        test_ok(mo_graph_write(graph, &writer));
        assert_null(strchr(out.at, ','));
        mo_graph *again = graph_of(out.at);
        assert_true(get_op(again, 0).cost_s == op.cost_s);
        mo_graph_destroy(again);
        mo_graph_destroy(graph);
    }
    (void)setlocale(LC_NUMERIC, "C");
}

static void random_graphs_come_back(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("random_graphs_come_back");
    for (int round = 0; round < 1000; round++) {
        static graph_text out, again;
        mo_writer writer = graph_text_begin(&out, -1), to_again = graph_text_begin(&again, -1);
        mo_graph *graph = random_graph(&rng, 20), *copy;
        test_ok(mo_graph_write(graph, &writer));
        copy = graph_of(out.at);
        test_ok(mo_graph_write(copy, &to_again));
        assert_string_equal(out.at, again.at);
        assert_int_equal(mo_graph_n_ops(copy), mo_graph_n_ops(graph));
        if (mo_graph_check(graph) == MO_OK) assert_true(meaning(copy) == meaning(graph));
        for (size_t i = 0; i < mo_graph_n_ops(graph); i++) {
            mo_graph_op a = get_op(graph, i), b = get_op(copy, i);
            assert_int_equal(a.n_aliases, b.n_aliases);
            assert_memory_equal(a.aliases, b.aliases, a.n_aliases * sizeof *a.aliases);
            assert_true(a.cost_s == b.cost_s);
        }
        mo_graph_destroy(copy);
        mo_graph_destroy(graph);
    }
}

static void damaged_text_is_rejected_or_a_graph(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("damaged_text_is_rejected_or_a_graph");
    static const char tokens[] = " \t\n\r\"\\=:->#xay0123456789KMGiBtensor op";
    for (int round = 0; round < 20000; round++) {
        char text[sizeof written + 8];
        size_t size = sizeof written - 1;
        memcpy(text, written, size);
        for (size_t n = 1 + test_below(&rng, 4); n > 0; n--) {
            size_t at = test_below(&rng, size);
            int what = (int)test_below(&rng, 4);
            if (what == 0) text[at] = (char)test_u64(&rng);
            if (what == 1) text[at] = tokens[test_below(&rng, sizeof tokens - 1)];
            if (what == 2) memmove(text + at, text + at + 1, --size - at);
            if (what == 3) size -= test_below(&rng, 5);
        }
        char *exact = malloc(size);
        assert_non_null(exact);
        memcpy(exact, text, size);
        LLVMFuzzerTestOneInput((const uint8_t *)exact, size);
        free(exact);
    }
}

static void replay(const char *file, const char *name) {
    static char text[1 << 16];
    mo_graph *graph = NULL;
    assert_int_equal(fuzz_replay(file), 0);
    const size_t size = load_file(file, text, sizeof text);
    mo_status status = mo_graph_parse(NULL, text, size, &graph);
    if (strncmp(name, "bad_", 4) == 0) assert_int_equal(status, MO_E_FORMAT);
    else test_ok(status);
    if (strncmp(name, "ok_", 3) == 0) test_ok(mo_graph_check(graph));
    if (strncmp(name, "part_", 5) == 0) assert_int_equal(mo_graph_check(graph), MO_E_INVALID);
    mo_graph_destroy(graph);
}

static void the_fuzz_corpus_replays(void **state) {
    (void)state;
    each_file("fuzz/corpus/graph", 12, replay);
}

/* ---- the k-th allocation ------------------------------------------------------------------- */

static const char forty_ops[] = "tensor x 1 input\n";

/* Everything once; the first failure ends it. */
static mo_status do_everything(const mo_allocator *allocator) {
    mo_graph_desc desc = {.allocator = allocator};
    mo_writer writer = graph_text_begin(&picture, -1);
    mo_graph *graph = NULL;
    mo_status status = mo_graph_parse(&desc, forty_ops, sizeof forty_ops - 1, &graph);
    for (size_t i = 0; status == MO_OK && i < 40; i++) {
        char name[32];
        mo_graph_tensor tensor = {.name = name, .size = 64, .flags = i == 39 ? MO_GRAPH_OUTPUT : 0};
        size_t inputs[] = {i, i / 2}, output = i + 1, n = mo_graph_n_tensors(graph);
        mo_graph_alias pair = {output, i};
        mo_graph_op op = {name, "k", NULL, 0, 0, inputs, 2, &output, 1, &pair, 1};
        snprintf(name, sizeof name, "a rather long name %zu", i);
        status = mo_graph_add_tensor(graph, &tensor, NULL);
        if (status == MO_OK) status = mo_graph_add_op(graph, &op, NULL);
        if (status == MO_E_NO_MEMORY) assert_true(mo_graph_n_ops(graph) == i);
        if (mo_graph_n_tensors(graph) > n) assert_int_equal(mo_graph_find_tensor(graph, name), n);
    }
    size_t n = mo_graph_n_ops(graph);
    if (status == MO_OK) status = mo_graph_check(graph);
    if (status == MO_OK) status = mo_graph_merge(graph, NULL, NULL);
    if (status == MO_OK) status = mo_graph_prune(graph, NULL, NULL);
    if (status == MO_OK) status = mo_graph_write_svg(graph, NULL, NULL, &writer);
    assert_int_equal(mo_graph_n_ops(graph), n); /* there was nothing to drop */
    mo_graph_destroy(graph);
    return status;
}

static void any_failed_allocation_is_reported(void **state) {
    (void)state;
    mo_status status = MO_E_NO_MEMORY;
    int k = 0;
    for (; status != MO_OK; k++) {
        test_heap heap;
        mo_allocator allocator = test_heap_begin(&heap, k);
        status = do_everything(&allocator);
        assert_int_equal(status, heap.n_requests > k ? MO_E_NO_MEMORY : MO_OK);
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(heap.live_bytes, 0);
    }
    assert_true(k > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_added_is_there),
        cmocka_unit_test(wrong_tensors_are_named),
        cmocka_unit_test(wrong_ops_are_named),
        cmocka_unit_test(a_graph_that_is_not_whole_is_rejected),
        cmocka_unit_test(what_no_output_and_no_effect_needs_is_dropped),
        cmocka_unit_test(a_pruned_graph_can_grow_again),
        cmocka_unit_test(equal_ops_are_merged_through_their_readers),
        cmocka_unit_test(ops_that_differ_are_not_merged),
        cmocka_unit_test(the_op_that_writes_an_output_is_kept),
        cmocka_unit_test(passes_keep_what_the_graph_computes),
        cmocka_unit_test(text_is_read_and_written),
        cmocka_unit_test(wrong_text_is_named_by_line_and_column),
        cmocka_unit_test(names_of_any_characters_come_back),
        cmocka_unit_test(costs_come_back_to_the_bit),
        cmocka_unit_test(random_graphs_come_back),
        cmocka_unit_test(damaged_text_is_rejected_or_a_graph),
        cmocka_unit_test(the_fuzz_corpus_replays),
        cmocka_unit_test(any_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
