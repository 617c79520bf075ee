/* test_graph.h - graphs from text and from a generator, what they compute, and a slow reading of
 * the rules of mo_graph.h. */
#ifndef TEST_GRAPH_H
#define TEST_GRAPH_H

#include "test_util.h"

/* ---- text ---------------------------------------------------------------------------------- */

typedef struct graph_text {
    char at[1 << 16];
    size_t size;
    int n_calls, fail_at;
} graph_text;
static inline int graph_text_write(void *self, const char *from, size_t size) {
    graph_text *t = (graph_text *)self;
    if (t->n_calls++ == t->fail_at) return 1;
    assert_true(t->size + size < sizeof t->at);
    memcpy(t->at + t->size, from, size);
    t->size += size;
    t->at[t->size] = 0;
    return 0;
}
static inline mo_writer graph_text_begin(graph_text *t, int fail_at) {
    t->size = 0;
    t->at[0] = 0;
    t->n_calls = 0;
    t->fail_at = fail_at;
    return (mo_writer){graph_text_write, t};
}

static inline mo_graph *graph_of(const char *text) {
    mo_graph *graph = NULL;
    size_t size = strlen(text);
    char *exact = malloc(size ? size : 1); /* so that a sanitizer sees a byte too many */
    assert_non_null(exact);
    memcpy(exact, text, size);
    test_ok(mo_graph_parse(NULL, exact, size, &graph));
    free(exact);
    return graph;
}

static inline size_t tensor_of(const mo_graph *graph, const char *name) {
    size_t id = mo_graph_find_tensor(graph, name);
    assert_true(id != SIZE_MAX);
    return id;
}
static inline size_t op_of(const mo_graph *graph, const char *name) {
    size_t id = mo_graph_find_op(graph, name);
    assert_true(id != SIZE_MAX);
    return id;
}
static inline mo_graph_tensor get_tensor(const mo_graph *graph, size_t id) {
    mo_graph_tensor tensor;
    test_ok(mo_graph_get_tensor(graph, id, &tensor));
    return tensor;
}
static inline mo_graph_op get_op(const mo_graph *graph, size_t id) {
    mo_graph_op op;
    test_ok(mo_graph_get_op(graph, id, &op));
    return op;
}

/* ---- random graphs ------------------------------------------------------------------------- */

/* Up to max_ops ops of few kinds with few inputs, so that there are duplicates, dead ends, tensors
 * read twice, several outputs and pairs that do not fit. Half of them come with the ops in an order
 * in which they cannot be done. */
static inline mo_graph *random_graph(test_rng *r, size_t max_ops) {
    enum { MAX = 64 };
    static const char *const kinds[] = {"add", "relu", "norm"};
    mo_graph *graph;
    size_t n_ops = 1 + test_below(r, max_ops), n_inputs = 1 + test_below(r, 3), n = 0;
    size_t inputs[MAX][3], n_in[MAX], outputs[MAX][2], n_out[MAX], at[MAX], kind[MAX];
    test_ok(mo_graph_create(NULL, &graph));
    for (size_t i = 0; i < n_inputs; i++, n++) {
        static const unsigned flags[] = {0, 0, MO_GRAPH_REUSE, MO_GRAPH_REUSE, MO_GRAPH_OUTPUT};
        char name[32];
        mo_graph_tensor tensor = {name, 64 * test_below(r, 9), 0, MO_CATEGORY_INPUT, 0, 0};
        snprintf(name, sizeof name, "in %zu", i);
        tensor.flags = MO_GRAPH_INPUT | flags[test_below(r, 5)];
        test_ok(mo_graph_add_tensor(graph, &tensor, NULL));
    }
    for (size_t i = 0; i < n_ops; i++) {
        size_t at_most = n;
        n_in[i] = test_below(r, 4);
        n_out[i] = 1 + (test_below(r, 4) == 0);
        for (size_t k = 0; k < n_in[i]; k++) {
            size_t back = test_below(r, 2) ? test_below(r, at_most) : test_below(r, 4) % at_most;
            inputs[i][k] = at_most - 1 - back;
        }
        kind[i] = test_below(r, 3);
        if (i > 0 && test_below(r, 3) == 0) { /* like another one */
            size_t as = test_below(r, i);
            memcpy(inputs[i], inputs[as], sizeof inputs[i]);
            n_in[i] = n_in[as];
            kind[i] = kind[as];
        }
        for (size_t k = 0; k < n_out[i]; k++, n++) {
            char name[64];
            mo_graph_tensor tensor = {name, 256, 0, MO_CATEGORY_OTHER, 0, 0};
            if (test_below(r, 2)) tensor.size = 64 * test_below(r, 9);
            if (test_below(r, 8) == 0) tensor.align = (size_t)32 << test_below(r, 4);
            tensor.flags = test_below(r, i + 1 == n_ops ? 2 : 8) ? 0 : MO_GRAPH_OUTPUT;
            snprintf(name, sizeof name, "t%zu.%zu", i, k);
            test_ok(mo_graph_add_tensor(graph, &tensor, &outputs[i][k]));
        }
        at[i] = i;
    }
    if (test_below(r, 2))
        for (size_t i = n_ops; i > 1; i--) {
            size_t k = test_below(r, i), swap = at[i - 1];
            at[i - 1] = at[k];
            at[k] = swap;
        }
    for (size_t k = 0; k < n_ops; k++) {
        size_t i = at[k];
        char name[32];
        mo_graph_alias pairs[6];
        mo_graph_op op = {.name = name, .inputs = inputs[i], .n_inputs = n_in[i]};
        snprintf(name, sizeof name, "op%zu", i);
        op.kind = kinds[kind[i]];
        op.attrs = test_below(r, 4) ? NULL : "fast";
        op.cost_s = 0.001 * (double)test_below(r, 10);
        op.flags = test_below(r, 8) ? 0 : 1 + (unsigned)test_below(r, 3);
        op.outputs = outputs[i];
        op.n_outputs = n_out[i];
        op.aliases = pairs;
        for (size_t j = 0; n_in[i] && j < test_below(r, 5); j++, op.n_aliases++) {
            pairs[j].output = outputs[i][test_below(r, n_out[i])];
            pairs[j].input = inputs[i][test_below(r, n_in[i])];
        }
        test_ok(mo_graph_add_op(graph, &op, NULL));
    }
    return graph;
}

/* ---- what it computes ---------------------------------------------------------------------- */

static inline uint64_t mix(uint64_t a, uint64_t b) {
    test_rng r = {a * 31 + b};
    return test_u64(&r);
}
static inline uint64_t mix_text(uint64_t a, const char *text) {
    for (; *text; text++) a = mix(a, (unsigned char)*text);
    return mix(a, 1234567);
}

/* The value that op gives its k-th output from the values of its inputs. Ops with outputs of other
 * sizes, and any two random ops, never give the same. */
static inline uint64_t value_of(
    const mo_graph *graph, const mo_graph_op *op, const uint64_t *values, size_t k) {
    uint64_t value = mix_text(mix_text(k, op->kind), op->attrs);
    for (size_t i = 0; i < op->n_inputs; i++) value = mix(value, values[op->inputs[i]]);
    for (size_t i = 0; i < op->n_outputs; i++) {
        mo_graph_tensor tensor = get_tensor(graph, op->outputs[i]);
        value = mix(mix(value, tensor.size), tensor.align);
    }
    return op->flags ? mix_text(value, op->name) : value;
}

/* The value of every tensor, from the definition alone. */
static inline void evaluate(const mo_graph *graph, uint64_t *values) {
    size_t n = mo_graph_n_ops(graph);
    for (size_t i = 0; i < mo_graph_n_tensors(graph); i++)
        values[i] = mix_text(0, get_tensor(graph, i).name);
    for (size_t round = 0; round < n; round++) /* n rounds reach the deepest op */
        for (size_t i = 0; i < n; i++) {
            mo_graph_op op = get_op(graph, i);
            for (size_t k = 0; k < op.n_outputs; k++)
                values[op.outputs[k]] = value_of(graph, &op, values, k);
        }
}

/* One number for the outputs of the graph, by name, and what its effects get to see. */
static inline uint64_t meaning(const mo_graph *graph) {
    uint64_t values[256], sum = 0;
    evaluate(graph, values);
    for (size_t i = 0; i < mo_graph_n_tensors(graph); i++) {
        mo_graph_tensor tensor = get_tensor(graph, i);
        if (tensor.flags & MO_GRAPH_OUTPUT) sum += mix_text(values[i], tensor.name);
    }
    for (size_t i = 0; i < mo_graph_n_ops(graph); i++) {
        mo_graph_op op = get_op(graph, i);
        if (op.flags & MO_GRAPH_EFFECT) sum += value_of(graph, &op, values, 99);
    }
    return sum;
}

/* ---- the rules, slowly --------------------------------------------------------------------- */

static inline int reads(const mo_graph_op *op, size_t tensor) {
    for (size_t i = 0; i < op->n_inputs; i++)
        if (op->inputs[i] == tensor) return 1;
    return 0;
}

/* First and last step of a tensor in an order. */
static inline void slow_life(
    const mo_graph *graph, const size_t *order, size_t id, size_t *first, size_t *last) {
    mo_graph_tensor tensor = get_tensor(graph, id);
    size_t n = mo_graph_n_ops(graph);
    int is_read = 0;
    *first = *last = 0;
    for (size_t step = 0; step < n; step++)
        if (order[step] == tensor.writer) *first = *last = step;
    for (size_t step = 0; step < n; step++) {
        mo_graph_op op = get_op(graph, order[step]);
        if (reads(&op, id)) *last = step, is_read = 1;
    }
    if (tensor.flags & MO_GRAPH_OUTPUT) *last = n - 1;
    if ((tensor.flags & MO_GRAPH_INPUT) && (!is_read || !(tensor.flags & MO_GRAPH_REUSE)))
        *last = n - 1;
}

/* The live bytes of one step; takes_over is set for the op's outputs. */
static inline size_t slow_step(
    const mo_graph *graph, const size_t *order, size_t step, int in_place, size_t *takes_over) {
    size_t bytes = 0, n = mo_graph_n_tensors(graph), first, last;
    mo_graph_op op = get_op(graph, order[step]);
    for (size_t i = 0; i < n; i++) {
        slow_life(graph, order, i, &first, &last);
        if (first <= step && step <= last) bytes += get_tensor(graph, i).size;
    }
    for (size_t k = 0; k < op.n_outputs; k++) takes_over[op.outputs[k]] = SIZE_MAX;
    for (size_t k = 0; in_place && k < op.n_outputs; k++)
        for (size_t j = 0; j < op.n_aliases; j++) {
            mo_graph_tensor out = get_tensor(graph, op.outputs[k]);
            mo_graph_tensor in = get_tensor(graph, op.aliases[j].input);
            int is_free = op.aliases[j].output == op.outputs[k] && out.size > 0;
            slow_life(graph, order, op.aliases[j].input, &first, &last);
            is_free &= last == step && out.size <= in.size;
            if ((in.flags & MO_GRAPH_INPUT) && !(in.flags & MO_GRAPH_REUSE)) is_free = 0;
            if (in.flags & MO_GRAPH_OUTPUT) is_free = 0;
            if (out.align != in.align && (!out.align || out.align > in.align)) is_free = 0;
            for (size_t m = 0; m < k; m++)
                if (takes_over[op.outputs[m]] == op.aliases[j].input) is_free = 0;
            if (!is_free) continue;
            takes_over[op.outputs[k]] = op.aliases[j].input;
            bytes -= out.size;
            break;
        }
    return bytes;
}

static inline int can_be_done(const mo_graph *graph, const size_t *order, size_t n, size_t id) {
    mo_graph_op op = get_op(graph, id);
    for (size_t i = 0; i < n; i++)
        if (order[i] == id) return 0;
    for (size_t k = 0; k < op.n_inputs; k++) {
        size_t writer = get_tensor(graph, op.inputs[k]).writer;
        int is_done = writer == SIZE_MAX;
        for (size_t i = 0; i < n; i++) is_done |= order[i] == writer;
        if (!is_done) return 0;
    }
    return 1;
}

/* Every op once, behind those that it needs. */
static inline void assert_order(const mo_graph *graph, const size_t *order) {
    for (size_t i = 0; i < mo_graph_n_ops(graph); i++)
        assert_true(can_be_done(graph, order, i, order[i]));
}

#endif
