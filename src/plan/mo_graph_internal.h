/* mo_graph_internal.h - how a graph is kept, and the tables that its passes work on; for the files
 * mo_graph*.c alone. */
#ifndef MEMOPT_GRAPH_INTERNAL_H
#define MEMOPT_GRAPH_INTERNAL_H

#include "mo_graph.h"

/* name is an offset into the characters. mark and slot are scratch of the op being added: marks are
 * never used twice. */
typedef struct moi_graph_tensor {
    size_t name, size, align;
    size_t writer;
    size_t mark, slot;
    mo_category category;
    unsigned flags;
} moi_graph_tensor;

/* inputs and outputs are offsets into the numbers, aliases into the pairs. */
typedef struct moi_graph_op {
    size_t name, kind, attrs;
    size_t inputs, n_inputs, outputs, n_outputs, aliases, n_aliases;
    double cost_s;
    unsigned flags;
} moi_graph_op;

/* Names to numbers: open addressing, number + 1 in a slot; at most half full. */
typedef struct moi_graph_names {
    size_t *slots;
    size_t n_slots;
} moi_graph_names;

struct mo_graph {
    mo_allocator allocator;
    mo_log log;
    moi_graph_tensor *tensors;
    moi_graph_op *ops;
    size_t *numbers;
    mo_graph_alias *pairs;
    char *characters;
    size_t n_tensors, n_ops, n_numbers, n_pairs, n_characters;
    size_t max_tensors, max_ops, max_numbers, max_pairs, max_characters;
    moi_graph_names tensor_names, op_names;
    size_t total_bytes, n_marks;
};

/* Lists of numbers, one after the other: list i is at[begin[i]] to at[begin[i + 1] - 1]. */
typedef struct moi_graph_lists {
    size_t *begin, *at;
    size_t n, max; /* lists; numbers that there is room for */
} moi_graph_lists;

/* What the passes look at: who reads what, each pair once, and who may take over what.
 *
 * made   bytes of all outputs; dead: of those that end with the op
 * dying  [tensors] set and cleared by who walks an order: inputs that end with the op
 * taken  [tensors] stamp of the op whose output took it or is it */
typedef struct moi_graph_view {
    const mo_graph *graph;
    size_t n_ops, n_tensors;
    moi_graph_lists reads;   /* op to tensors */
    moi_graph_lists readers; /* tensor to ops */
    size_t *made, *dead;
    size_t *taken, stamp;
    size_t *missing;     /* [ops] scratch */
    size_t *given;       /* [ops] the order as given */
    unsigned char *kept; /* tensor is live to the end */
    unsigned char *dying;
    int no_in_place;
} moi_graph_view;

/* An order and what it needs.
 *
 * last    [tensors] last step that reads it; not set where nobody does
 * bytes   [ops] live at the step; before: left live by the step before it */
typedef struct moi_graph_walk {
    size_t *order, *last, *bytes, *before;
} moi_graph_walk;

#endif
