/* test_graph_order.c - mo_graph_order, mo_graph_lifetimes. */
#include "test_graph.h"

enum { MAX_OPS = 64, MAX_TENSORS = 256 };

static mo_graph_order_result order_of(const mo_graph *graph, size_t *order) {
    mo_graph_order_result result;
    mo_graph_live live;
    size_t takes_over[MAX_TENSORS];
    test_ok(mo_graph_order(graph, NULL, order, &result));
    assert_order(graph, order);
    assert_true(result.lower_bound_bytes <= result.peak_bytes);
    assert_true(result.peak_bytes <= result.given_peak_bytes);
    test_ok(mo_graph_lifetimes(graph, order, NULL, takes_over, NULL, &live));
    assert_int_equal(live.peak_bytes, result.peak_bytes);
    return result;
}

/* ---- examples ------------------------------------------------------------------------------ */

static const char two_branches[] = "tensor x 100 input\n"
                                   "tensor big1 1000\n"
                                   "tensor small1 10\n"
                                   "tensor big2 1000\n"
                                   "tensor small2 10\n"
                                   "tensor y 10 output\n"
                                   "op a widen : x -> big1\n"
                                   "op b widen attrs=\"2\" : x -> big2\n"
                                   "op c sum : big1 -> small1\n"
                                   "op d sum : big2 -> small2\n"
                                   "op e add : small1 small2 -> y\n";

static void one_branch_is_finished_before_the_next_begins(void **state) {
    (void)state;
    mo_graph *graph = graph_of(two_branches);
    size_t order[5];
    mo_graph_order_result result = order_of(graph, order);
    assert_int_equal(result.given_peak_bytes, 100 + 1000 + 1000 + 10);
    assert_int_equal(result.peak_bytes, 100 + 10 + 1000 + 10);
    assert_true(result.proved);
    mo_graph_destroy(graph);
}

static void as_given_keeps_the_order_and_delays_what_comes_too_early(void **state) {
    (void)state;
    mo_graph *graph = graph_of(two_branches), *late;
    mo_graph_order_desc desc = {.as_given = 1};
    mo_graph_order_result result;
    size_t order[5];
    test_ok(mo_graph_order(graph, &desc, order, &result));
    for (size_t i = 0; i < 5; i++) assert_int_equal(order[i], i);
    assert_int_equal(result.peak_bytes, result.given_peak_bytes);
    mo_graph_destroy(graph);
    late = graph_of("tensor x 1 input\ntensor y 1\ntensor z 1 output\n"
                    "op second k : y -> z\nop first k : x -> y\n");
    test_ok(mo_graph_order(late, &desc, order, NULL));
    assert_int_equal(order[0], 1);
    assert_int_equal(order[1], 0);
    mo_graph_destroy(late);
}

static void lifetimes_are_what_the_layout_takes(void **state) {
    (void)state;
    mo_graph *graph =
        graph_of("tensor w 256 input\ntensor x 64 input reuse\ntensor a 128 align=32\n"
                 "tensor b 128\ntensor unread 8\ntensor y 4 output\ntensor none 99\n"
                 "op 1 k cost=0.5 : x w -> a\nop 2 k cost=0.25 : a -> b unread\n"
                 "op 3 k : b -> y\n");
    mo_layout_item items[7];
    size_t live[3], offsets[7];
    mo_graph_live result;
    mo_layout_result layout;
    test_ok(mo_graph_lifetimes(graph, NULL, items, NULL, live, &result));
    static const size_t want[7][4] = {{256, 0, 0, 2}, {64, 0, 0, 0}, {128, 32, 0, 1},
        {128, 0, 1, 2}, {8, 0, 1, 1}, {4, 0, 2, 2}, {0, 0, 0, 0}};
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(items[i].size, want[i][0]);
        assert_int_equal(items[i].align, want[i][1]);
        assert_int_equal(items[i].first, want[i][2]);
        assert_int_equal(items[i].last, want[i][3]);
    }
    assert_int_equal(live[0], 256 + 64 + 128);
    assert_int_equal(live[1], 256 + 128 + 128 + 8);
    assert_int_equal(live[2], 256 + 128 + 4);
    assert_int_equal(result.peak_bytes, 520);
    assert_int_equal(result.peak_step, 1);
    assert_true(result.cost_s == 0.75);
    test_ok(mo_layout_solve(NULL, items, 7, offsets, &layout));
    test_ok(mo_layout_check(NULL, items, 7, offsets, layout.peak));
    mo_graph_destroy(graph);
}

static void the_last_reader_computes_in_place(void **state) {
    (void)state;
    mo_graph *graph = graph_of("tensor x 64 input\ntensor a 64\ntensor b 64\ntensor c 64\n"
                               "tensor y 64 output\n"
                               "op 1 relu : x -> a=x\n"    /* x is the caller's */
                               "op 2 relu : a -> b=a\n"    /* a is read again */
                               "op 3 add : a b -> c=b=a\n" /* b first */
                               "op 4 relu : c -> y=c\n");
    size_t takes_over[5], live[4];
    mo_graph_live result;
    test_ok(mo_graph_lifetimes(graph, NULL, NULL, takes_over, live, &result));
    assert_int_equal(takes_over[tensor_of(graph, "a")], SIZE_MAX);
    assert_int_equal(takes_over[tensor_of(graph, "b")], SIZE_MAX);
    assert_int_equal(takes_over[tensor_of(graph, "c")], tensor_of(graph, "b"));
    assert_int_equal(takes_over[tensor_of(graph, "y")], tensor_of(graph, "c"));
    assert_int_equal(live[2], 64 + 64 + 64);
    assert_int_equal(live[3], 64 + 64);
    assert_int_equal(result.n_in_place, 2);
    assert_int_equal(result.in_place_bytes, 128);
    mo_graph_destroy(graph);
}

static void an_output_takes_over_only_what_fits(void **state) {
    (void)state;
    mo_graph *graph = graph_of(
        "tensor x 64 input reuse\ntensor a 64 align=64\ntensor b 65\ntensor c 32\ntensor d 32\n"
        "tensor k 32 output\ntensor e 32 output\n"
        "op 1 k : x -> a=x\n"     /* its alignment is not known to fit */
        "op 2 k : a -> b=a\n"     /* larger */
        "op 3 k : b -> c=b d=b\n" /* smaller; b is taken once */
        "op 4 k : c -> k=c\n"
        "op 5 k : k d -> e=k=d\n"); /* k is kept */
    size_t takes_over[7];
    test_ok(mo_graph_lifetimes(graph, NULL, NULL, takes_over, NULL, NULL));
    assert_int_equal(takes_over[tensor_of(graph, "a")], SIZE_MAX);
    assert_int_equal(takes_over[tensor_of(graph, "b")], SIZE_MAX);
    assert_int_equal(takes_over[tensor_of(graph, "c")], tensor_of(graph, "b"));
    assert_int_equal(takes_over[tensor_of(graph, "d")], SIZE_MAX);
    assert_int_equal(takes_over[tensor_of(graph, "k")], tensor_of(graph, "c"));
    assert_int_equal(takes_over[tensor_of(graph, "e")], tensor_of(graph, "d"));
    mo_graph_destroy(graph);
}

static void an_input_for_reuse_is_taken_over(void **state) {
    (void)state;
    mo_graph *graph = graph_of("tensor x 64 input reuse\ntensor y 64 output\nop 1 k : x -> y=x\n");
    mo_graph_order_desc plain = {.no_in_place = 1};
    mo_graph_order_result result;
    size_t takes_over[2], order[1];
    test_ok(mo_graph_lifetimes(graph, NULL, NULL, takes_over, NULL, NULL));
    assert_int_equal(takes_over[1], 0);
    test_ok(mo_graph_order(graph, NULL, order, &result));
    assert_int_equal(result.peak_bytes, 64);
    test_ok(mo_graph_order(graph, &plain, order, &result));
    assert_int_equal(result.peak_bytes, 128);
    mo_graph_destroy(graph);
}

static void a_graph_without_ops_holds_its_inputs(void **state) {
    (void)state;
    mo_graph *graph = graph_of("tensor x 64 input\ntensor y 32 input output\n"), *empty;
    mo_layout_item items[2];
    mo_graph_order_result result;
    mo_graph_live live;
    test_ok(mo_graph_order(graph, NULL, NULL, &result));
    assert_int_equal(result.peak_bytes, 96);
    assert_true(result.proved);
    test_ok(mo_graph_lifetimes(graph, NULL, items, NULL, NULL, &live));
    assert_int_equal(live.peak_bytes, 96);
    assert_int_equal(items[1].last, 0);
    mo_graph_destroy(graph);
    empty = graph_of("");
    test_ok(mo_graph_order(empty, NULL, NULL, &result));
    test_ok(mo_graph_lifetimes(empty, NULL, NULL, NULL, NULL, &live));
    assert_int_equal(live.peak_bytes, 0);
    mo_graph_destroy(empty);
}

/* ---- properties ---------------------------------------------------------------------------- */

/* A machine with one cell for each tensor, or that of the tensor it takes over: every read finds
 * what was written for it, and the outputs are there in the end. */
static void run_in_place(const mo_graph *graph, const size_t *order, const size_t *takes_over) {
    uint64_t want[MAX_TENSORS], cells[MAX_TENSORS];
    size_t n = mo_graph_n_tensors(graph), cell[MAX_TENSORS];
    evaluate(graph, want);
    for (size_t i = 0; i < n; i++) cells[i] = want[i], cell[i] = i;
    for (size_t step = 0; step < mo_graph_n_ops(graph); step++) {
        mo_graph_op op = get_op(graph, order[step]);
        for (size_t k = 0; k < op.n_inputs; k++)
            assert_true(cells[cell[op.inputs[k]]] == want[op.inputs[k]]);
        for (size_t k = 0; k < op.n_outputs; k++) {
            size_t id = op.outputs[k], over = takes_over[id];
            if (over != SIZE_MAX) cell[id] = cell[over];
            cells[cell[id]] = want[id];
        }
        for (size_t k = 0; k < op.n_outputs; k++)
            assert_true(cells[cell[op.outputs[k]]] == want[op.outputs[k]]);
    }
    for (size_t i = 0; i < n; i++) {
        unsigned flags = get_tensor(graph, i).flags;
        int is_there =
            flags & MO_GRAPH_OUTPUT || (flags & MO_GRAPH_INPUT && !(flags & MO_GRAPH_REUSE));
        if (is_there) assert_true(cells[cell[i]] == want[i]);
    }
}

/* The arrays against the slow reading of the rules. */
static void check_lifetimes(const mo_graph *graph, const size_t *order, int in_place) {
    mo_layout_item items[MAX_TENSORS];
    size_t takes_over[MAX_TENSORS], want[MAX_TENSORS], live[MAX_OPS], first, last, peak = 0;
    mo_graph_live result;
    test_ok(mo_graph_lifetimes(graph, order, items, in_place ? takes_over : NULL, live, &result));
    for (size_t i = 0; i < mo_graph_n_tensors(graph); i++) {
        slow_life(graph, order, i, &first, &last);
        assert_int_equal(items[i].size, get_tensor(graph, i).size);
        assert_int_equal(items[i].first, first);
        assert_int_equal(items[i].last, last);
        want[i] = SIZE_MAX;
    }
    for (size_t step = 0; step < mo_graph_n_ops(graph); step++) {
        assert_int_equal(live[step], slow_step(graph, order, step, in_place, want));
        if (live[step] > peak) peak = live[step];
    }
    assert_int_equal(result.peak_bytes, peak);
    assert_int_equal(live[result.peak_step], peak);
    if (!in_place) return;
    assert_memory_equal(takes_over, want, mo_graph_n_tensors(graph) * sizeof *want);
    run_in_place(graph, order, takes_over);
}

static void orders_are_valid_and_lifetimes_right_on_random_graphs(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("orders_are_valid_and_lifetimes_right_on_random_graphs");
    size_t order[MAX_OPS];
    for (int round = 0; round < 10000; round++) {
        mo_graph *graph = random_graph(&rng, round % 50 ? 9 : 20);
        (void)order_of(graph, order);
        check_lifetimes(graph, order, round % 4 != 0);
        mo_graph_destroy(graph);
    }
}

/* The lowest peak of all orders that begin with these n ops; peak: of those. */
static size_t best_of_all(const mo_graph *graph, size_t *order, size_t n, size_t *best) {
    size_t n_ops = mo_graph_n_ops(graph), takes_over[MAX_TENSORS];
    for (size_t id = 0; n < n_ops && id < n_ops; id++) {
        if (!can_be_done(graph, order, n, id)) continue;
        order[n] = id;
        (void)best_of_all(graph, order, n + 1, best);
    }
    if (n == n_ops) {
        size_t peak = 0;
        for (size_t step = 0; step < n; step++) {
            size_t bytes = slow_step(graph, order, step, 1, takes_over);
            if (bytes > peak) peak = bytes;
            if (peak >= *best) return *best;
        }
        *best = peak;
    }
    return *best;
}

static void the_search_finds_the_lowest_peak_of_all_orders(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("the_search_finds_the_lowest_peak_of_all_orders");
    int n_rounds = 1500, n_lower = 0;
    for (int round = 0; round < n_rounds; round++) {
        mo_graph *graph = random_graph(&rng, round % 10 ? 6 : 7);
        size_t order[7], all[7], best = SIZE_MAX;
        mo_graph_order_result result = order_of(graph, order);
        assert_true(result.proved);
        assert_int_equal(result.peak_bytes, best_of_all(graph, all, 0, &best));
        n_lower += result.peak_bytes < result.given_peak_bytes;
        mo_graph_destroy(graph);
    }
    assert_true(n_lower > n_rounds / 50); /* the graphs are not all trivial */
}

/* The lowest peak over all sets of ops, each the best of what leads to it. A step is read off an
 * order that begins with the set. */
static size_t best_over_sets(const mo_graph *graph) {
    static size_t best[1 << 12];
    size_t n = mo_graph_n_ops(graph), order[12], takes_over[MAX_TENSORS];
    for (size_t set = 1; set < (size_t)1 << n; set++) best[set] = SIZE_MAX;
    best[0] = 0;
    for (size_t set = 0; set + 1 < (size_t)1 << n; set++) {
        size_t n_done = 0;
        for (size_t i = 0; i < n; i++)
            if (set >> i & 1) order[n_done++] = i;
        for (size_t id = 0; id < n && best[set] != SIZE_MAX; id++) {
            if (!can_be_done(graph, order, n_done, id)) continue;
            size_t next = set | (size_t)1 << id, at = n_done;
            order[at++] = id;
            for (size_t i = 0; i < n; i++)
                if (!(next >> i & 1)) order[at++] = i;
            size_t bytes = slow_step(graph, order, n_done, 1, takes_over);
            if (bytes < best[set]) bytes = best[set];
            if (bytes < best[next]) best[next] = bytes;
        }
    }
    return best[((size_t)1 << n) - 1];
}

static void the_search_agrees_with_all_sets_of_ops(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("the_search_agrees_with_all_sets_of_ops");
    for (int round = 0; round < 1000; round++) {
        mo_graph *graph = random_graph(&rng, 12);
        size_t order[12];
        mo_graph_order_result result = order_of(graph, order);
        assert_true(result.proved);
        assert_int_equal(result.peak_bytes, best_over_sets(graph));
        mo_graph_destroy(graph);
    }
}

static void windows_are_no_worse_than_greedy_and_no_better_than_the_search(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("windows_are_no_worse_than_greedy");
    for (int round = 0; round < 300; round++) {
        mo_graph *graph = random_graph(&rng, 30);
        size_t order[MAX_OPS];
        mo_graph_order_desc few = {.max_nodes = 1 + test_below(&rng, 200)};
        mo_graph_order_result exact = order_of(graph, order), result;
        test_ok(mo_graph_order(graph, &few, order, &result));
        assert_order(graph, order);
        if (exact.proved) assert_true(result.peak_bytes >= exact.peak_bytes);
        if (result.proved && exact.proved) assert_int_equal(result.peak_bytes, exact.peak_bytes);
        assert_true(result.peak_bytes <= result.given_peak_bytes);
        assert_true(result.n_nodes <= few.max_nodes);
        check_lifetimes(graph, order, 1);
        mo_graph_destroy(graph);
    }
}

/* A chain of n ops, each of which also feeds one that is far away. */
static mo_graph *long_graph(size_t n, test_rng *rng) {
    mo_graph *graph;
    mo_graph_tensor x = {.name = "x", .size = 64, .flags = MO_GRAPH_INPUT};
    test_ok(mo_graph_create(NULL, &graph));
    test_ok(mo_graph_add_tensor(graph, &x, NULL));
    for (size_t i = 1; i <= n; i++) {
        char name[32];
        mo_graph_tensor tensor = {.name = name, .size = 64 + test_below(rng, 1000)};
        size_t inputs[3] = {i - 1, i - 1 - test_below(rng, i < 500 ? i : 500), 0};
        mo_graph_alias pair = {i, i - 1};
        mo_graph_op op = {.name = name, .kind = "k", .inputs = inputs, .n_inputs = 2};
        if (test_below(rng, 3) == 0) inputs[0] = inputs[1];
        pair.input = inputs[0];
        op.outputs = &i;
        op.n_outputs = 1;
        op.aliases = &pair;
        op.n_aliases = 1;
        snprintf(name, sizeof name, "%zu", i);
        if (i == n || test_below(rng, 100) == 0) tensor.flags = MO_GRAPH_OUTPUT;
        test_ok(mo_graph_add_tensor(graph, &tensor, NULL));
        test_ok(mo_graph_add_op(graph, &op, NULL));
    }
    return graph;
}

static void a_hundred_thousand_ops_are_ordered(void **state) {
    (void)state;
    enum { N = 100000 };
    test_rng rng = test_rng_begin("a_hundred_thousand_ops_are_ordered");
    mo_graph *graph = long_graph(N, &rng);
    size_t *order = malloc(N * sizeof *order), *takes_over = malloc((N + 1) * sizeof *order);
    mo_graph_order_result result;
    mo_graph_live live;
    assert_true(order && takes_over);
    test_ok(mo_graph_prune(graph, NULL, NULL));
    test_ok(mo_graph_merge(graph, NULL, NULL));
    test_ok(mo_graph_order(graph, NULL, order, &result));
    test_ok(mo_graph_lifetimes(graph, order, NULL, takes_over, NULL, &live)); /* checks it */
    assert_int_equal(live.peak_bytes, result.peak_bytes);
    assert_true(result.peak_bytes < result.given_peak_bytes);
    free(order);
    free(takes_over);
    mo_graph_destroy(graph);
}

/* A window knows who reads its tensors behind it: else it would make things worse. */
static void windows_and_beams_only_lower_the_peak(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("windows_and_beams_only_lower_the_peak");
    int n_lower = 0;
    for (int round = 0; round < 60; round++) {
        size_t order[400], takes_over[401];
        mo_graph *graph = long_graph(100 + test_below(&rng, 300), &rng);
        mo_graph_order_desc greedy = {.max_nodes = 1}, search = {.max_nodes = 20000};
        mo_graph_order_result before, after;
        mo_graph_live live;
        test_ok(mo_graph_order(graph, &greedy, order, &before));
        test_ok(mo_graph_order(graph, &search, order, &after));
        test_ok(mo_graph_lifetimes(graph, order, NULL, takes_over, NULL, &live));
        assert_int_equal(live.peak_bytes, after.peak_bytes);
        assert_true(after.peak_bytes <= before.peak_bytes);
        n_lower += after.peak_bytes < before.peak_bytes;
        mo_graph_destroy(graph);
    }
    assert_true(n_lower >= 20);
}

/* Wide graphs of 64 ops, of which most are too much for the exact search. The same every time: this
 * is a measure of quality. Beams of one set give 0.827. */
static void beams_get_far_below_the_greedy_orders(void **state) {
    (void)state;
    test_rng rng = {20261120u};
    double before = 0, after = 0;
    for (int round = 0; round < 12; round++) {
        mo_graph *graph;
        size_t order[64];
        mo_graph_order_desc greedy = {.max_nodes = 1};
        mo_graph_order_result result;
        test_ok(mo_graph_create(NULL, &graph));
        for (size_t i = 0; i < 64; i++) {
            char name[32];
            size_t inputs[3];
            mo_graph_tensor tensor = {.name = name, .size = 1 + test_below(&rng, 1000)};
            mo_graph_op op = {.name = name, .kind = "k", .inputs = inputs, .outputs = &i};
            snprintf(name, sizeof name, "%zu", i);
            op.n_outputs = 1;
            op.n_inputs = i ? 1 + test_below(&rng, 3) : 0;
            for (size_t k = 0; k < op.n_inputs; k++) inputs[k] = test_below(&rng, i);
            test_ok(mo_graph_add_tensor(graph, &tensor, NULL));
            test_ok(mo_graph_add_op(graph, &op, NULL));
        }
        test_ok(mo_graph_order(graph, &greedy, order, &result));
        before += (double)result.peak_bytes;
        after += (double)order_of(graph, order).peak_bytes;
        mo_graph_destroy(graph);
    }
    assert_true(after < 0.82 * before);
}

static void the_same_graph_gives_the_same_order(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("the_same_graph_gives_the_same_order");
    for (int round = 0; round < 100; round++) {
        mo_graph *graph = random_graph(&rng, 40);
        size_t order[MAX_OPS], again[MAX_OPS];
        test_ok(mo_graph_order(graph, NULL, order, NULL));
        test_ok(mo_graph_order(graph, NULL, again, NULL));
        assert_memory_equal(order, again, mo_graph_n_ops(graph) * sizeof *order);
        mo_graph_destroy(graph);
    }
}

/* ---- errors -------------------------------------------------------------------------------- */

static void wrong_orders_are_named(void **state) {
    (void)state;
    test_log text;
    mo_log log = test_log_begin(&text);
    mo_graph_desc desc = {.log = &log};
    mo_graph *graph;
    size_t live[5] = {7};
    test_ok(mo_graph_parse(&desc, two_branches, sizeof two_branches - 1, &graph));
    static const size_t early[] = {0, 2, 3, 1, 4}, twice[] = {0, 1, 0, 3, 4}, far[] = {0, 1, 5};
    assert_int_equal(mo_graph_lifetimes(graph, early, NULL, NULL, live, NULL), MO_E_INVALID);
    assert_string_equal(
        text.text, "graph: order: step 2: op 'd' reads 'big2' before it is written");
    assert_int_equal(mo_graph_lifetimes(graph, twice, NULL, NULL, live, NULL), MO_E_INVALID);
    assert_string_equal(text.text, "graph: order: step 2: op 0 stands there twice");
    assert_int_equal(mo_graph_lifetimes(graph, far, NULL, NULL, live, NULL), MO_E_INVALID);
    assert_string_equal(text.text, "graph: order: step 2: op 5 does not exist");
    assert_int_equal(live[0], 7);
    assert_int_equal(mo_graph_order(graph, NULL, NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_graph_order(NULL, NULL, live, NULL), MO_E_INVALID);
    assert_int_equal(mo_graph_lifetimes(NULL, NULL, NULL, NULL, NULL, NULL), MO_E_INVALID);
    mo_graph_order_desc many = {.max_nodes = ((size_t)1 << 30) + 1};
    assert_int_equal(mo_graph_order(graph, &many, live, NULL), MO_E_INVALID);
    mo_graph_destroy(graph);
}

static void any_failed_allocation_is_reported(void **state) {
    (void)state;
    test_heap heap;
    mo_allocator allocator = test_heap_begin(&heap, -1);
    mo_graph_desc desc = {.allocator = &allocator};
    mo_graph *graph;
    test_ok(mo_graph_parse(&desc, two_branches, sizeof two_branches - 1, &graph));
    size_t blocks = heap.live_blocks;
    for (int k = 0, n_done = 0; n_done < 2; k++) {
        size_t order[5] = {77}, takes_over[6] = {77};
        n_done = 0;
        heap.n_requests = 0;
        heap.fail_at = k;
        mo_status status = mo_graph_order(graph, NULL, order, NULL);
        assert_int_equal(status, heap.n_requests > k ? MO_E_NO_MEMORY : MO_OK);
        if (status == MO_OK) n_done++;
        else assert_int_equal(order[0], 77);
        heap.n_requests = 0;
        status = mo_graph_lifetimes(graph, NULL, NULL, takes_over, NULL, NULL);
        assert_int_equal(status, heap.n_requests > k ? MO_E_NO_MEMORY : MO_OK);
        if (status == MO_OK) n_done++;
        else assert_int_equal(takes_over[0], 77);
        assert_int_equal(heap.live_blocks, blocks);
    }
    mo_graph_destroy(graph);
    assert_int_equal(heap.live_blocks, 0);
    assert_int_equal(heap.live_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_branch_is_finished_before_the_next_begins),
        cmocka_unit_test(as_given_keeps_the_order_and_delays_what_comes_too_early),
        cmocka_unit_test(lifetimes_are_what_the_layout_takes),
        cmocka_unit_test(the_last_reader_computes_in_place),
        cmocka_unit_test(an_output_takes_over_only_what_fits),
        cmocka_unit_test(an_input_for_reuse_is_taken_over),
        cmocka_unit_test(a_graph_without_ops_holds_its_inputs),
        cmocka_unit_test(orders_are_valid_and_lifetimes_right_on_random_graphs),
        cmocka_unit_test(the_search_finds_the_lowest_peak_of_all_orders),
        cmocka_unit_test(the_search_agrees_with_all_sets_of_ops),
        cmocka_unit_test(windows_are_no_worse_than_greedy_and_no_better_than_the_search),
        cmocka_unit_test(a_hundred_thousand_ops_are_ordered),
        cmocka_unit_test(windows_and_beams_only_lower_the_peak),
        cmocka_unit_test(beams_get_far_below_the_greedy_orders),
        cmocka_unit_test(the_same_graph_gives_the_same_order),
        cmocka_unit_test(wrong_orders_are_named),
        cmocka_unit_test(any_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
