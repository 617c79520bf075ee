/* mo_graph.h - a computation as ops and tensors: drops what nobody needs, merges what is computed
 * twice, finds an order with a low peak, and says from when to when each tensor needs its bytes.
 *
 *     mo_graph *graph;
 *     if (mo_graph_parse(NULL, text, size, &graph) != MO_OK) ... or mo_graph_create, mo_graph_add_x
 *     if (mo_graph_prune(graph, NULL, NULL) != MO_OK) ...
 *     if (mo_graph_order(graph, NULL, order, NULL) != MO_OK) ...
 *     if (mo_graph_lifetimes(graph, order, items, takes_over, NULL, NULL) != MO_OK) ...
 *     mo_graph_destroy(graph);
 *
 * Tensors and ops are numbered from 0 as they are added. Every tensor is an input of the graph, or
 * is written by one op, once. Ops may be added in any order.
 *
 * LIVE BYTES. A step is one op of an order. A tensor is live from the step that writes it, an input
 * of the graph from step 0, to the last step that reads it; to the last step of all when it is an
 * output, an input without MO_GRAPH_REUSE, or an input that nobody reads. A tensor that nobody
 * reads is live while it is written. The live bytes of a step are the bytes of the tensors live
 * then, less those of the outputs that take over the bytes of an input.
 *
 * IN PLACE. The output of an op takes over the bytes of an input when a pair added with the op
 * allows it, this step is the last that needs the input, and the output is neither larger nor more
 * aligned. The op's first output chooses first, of its pairs the first that is left; every input is
 * taken once.
 */
#ifndef MEMOPT_GRAPH_H
#define MEMOPT_GRAPH_H

#include "mo_base.h"
#include "mo_layout.h"

/* What a tensor is beside being written and read. */
enum {
    MO_GRAPH_INPUT = 1,  /* has its data before the first op; no op writes it */
    MO_GRAPH_OUTPUT = 2, /* needed after the last op */
    MO_GRAPH_REUSE = 4   /* of an input: its bytes are free after its last reader */
};

/* What an op does beside writing its outputs. */
enum {
    MO_GRAPH_EFFECT = 1, /* something outside the graph: never dropped, never merged */
    MO_GRAPH_RANDOM = 2  /* twice the same op gives two results: never merged */
};

/* mo_graph_tensor - one value.
 *
 * name      unique among the tensors, not empty
 * size      bytes; 0 = takes no place, and orders two ops that share no data
 * align     of its address, a power of two; 0 = the layout's
 * category  for reports
 * flags     MO_GRAPH_INPUT, _OUTPUT, _REUSE
 * writer    number of the op that writes it, SIZE_MAX = none; set by the graph */
typedef struct mo_graph_tensor {
    const char *name;
    size_t size;
    size_t align;
    mo_category category;
    unsigned flags;
    size_t writer;
} mo_graph_tensor;

/* mo_graph_alias - the bytes of input may become those of output; both are tensors of the op. */
typedef struct mo_graph_alias {
    size_t output, input;
} mo_graph_alias;

/* mo_graph_op - one step of the computation.
 *
 * name     unique among the ops, not empty
 * kind     what it does, not empty
 * attrs    whatever else decides its result, as text; NULL = ""
 * cost_s   seconds, finite, 0 or more
 * flags    MO_GRAPH_EFFECT, MO_GRAPH_RANDOM
 * inputs   [n_inputs] tensors that it reads; one may stand there twice
 * outputs  [n_outputs] tensors that it writes
 * aliases  [n_aliases] outputs that may be computed in place; for each the best pair first */
typedef struct mo_graph_op {
    const char *name, *kind, *attrs;
    double cost_s;
    unsigned flags;
    const size_t *inputs;
    size_t n_inputs;
    const size_t *outputs;
    size_t n_outputs;
    const mo_graph_alias *aliases;
    size_t n_aliases;
} mo_graph_op;

/* mo_graph_desc - what a graph works with.
 *
 * allocator  for everything, until mo_graph_destroy; copied; NULL = heap
 * log        told which op or tensor is wrong, and the line of a text; copied; NULL = silent */
typedef struct mo_graph_desc {
    const mo_allocator *allocator;
    const mo_log *log;
} mo_graph_desc;

/* mo_graph_order_desc - how to look for an order.
 *
 * no_in_place  judge orders as if no output took over an input
 * as_given     leave the order as given: no search
 * max_nodes    most sets of ops that the search looks at, up to 2^30; 0 = 131072. Bounds the time,
 *              and the memory of about 100 bytes for each with up to 64 ops, for an eighth of them
 *              with more */
typedef struct mo_graph_order_desc {
    int no_in_place;
    int as_given;
    size_t max_nodes;
} mo_graph_order_desc;

/* mo_graph_order_result - what was found.
 *
 * peak_bytes         most live bytes at one step
 * given_peak_bytes   the same for the order as given
 * lower_bound_bytes  no order has less: what the largest op needs at once
 * proved             no order has a lower peak
 * n_nodes            sets of ops that the search looked at */
typedef struct mo_graph_order_result {
    size_t peak_bytes, given_peak_bytes, lower_bound_bytes;
    int proved;
    size_t n_nodes;
} mo_graph_order_result;

/* mo_graph_live - what an order needs.
 *
 * peak_bytes      most live bytes at one step
 * peak_step       the first step with that many
 * n_in_place      outputs that take over an input
 * in_place_bytes  bytes of those outputs
 * cost_s          sum over the ops */
typedef struct mo_graph_live {
    size_t peak_bytes, peak_step;
    size_t n_in_place, in_place_bytes;
    double cost_s;
} mo_graph_live;

/* mo_graph_svg_desc - what to draw.
 *
 * title  valid during the call; NULL = "Graph"
 * width  of the picture in pixels, at least 480; 0 = 960
 * n_bars most tensors that get a bar, the largest ones; up to 1000; 0 = 40 */
typedef struct mo_graph_svg_desc {
    const char *title;
    int width;
    size_t n_bars;
} mo_graph_svg_desc;

typedef struct mo_graph mo_graph;

/* ---- building ------------------------------------------------------------------------------ */

/* mo_graph_create - a graph without ops and tensors. mo_graph_destroy - give its memory back; NULL
 * does nothing.
 *
 * desc   NULL = all defaults
 * graph  out
 *
 * Threads: safe for distinct graphs
 * Errors:  MO_E_INVALID (NULL), MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_create(const mo_graph_desc *desc, mo_graph **graph);
MEMOPT_API void mo_graph_destroy(mo_graph *graph);

/* mo_graph_add_tensor, mo_graph_add_op - one more; on failure the graph is as before.
 *
 * tensor, op  in   copied with all they point to; writer is not read
 * id          out  its number; may be NULL
 *
 * Memory:  from the graph's allocator, doubled as it grows
 * Threads: one at a time
 * Errors:  MO_E_INVALID; the log says what: a name that is empty or taken, an alignment, category
 *          or flag that does not exist, MO_GRAPH_REUSE of what is no input; a tensor that does not
 *          exist, is written twice, is an input of the graph and written, or is read and written
 *          by the same op; a cost that is negative or no number; a pair of tensors of which one is
 *          not the op's. MO_E_OVERFLOW (the sizes of all tensors exceed SIZE_MAX / 2),
 *          MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_add_tensor(
    mo_graph *graph, const mo_graph_tensor *tensor, size_t *id);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_add_op(
    mo_graph *graph, const mo_graph_op *op, size_t *id);

/* mo_graph_n_tensors, mo_graph_n_ops - how many there are.
 * mo_graph_get_tensor, mo_graph_get_op - one of them; what it points to is valid until the graph
 *                    changes.
 * mo_graph_find_tensor, mo_graph_find_op - its number; SIZE_MAX = no such name.
 *
 * Threads: safe while the graph does not change
 * Errors:  MO_E_INVALID (NULL, no such number)
 * Cost:    O(1)
 * Since:   0.1 */
MEMOPT_API size_t mo_graph_n_tensors(const mo_graph *graph);
MEMOPT_API size_t mo_graph_n_ops(const mo_graph *graph);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_get_tensor(
    const mo_graph *graph, size_t id, mo_graph_tensor *tensor);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_get_op(
    const mo_graph *graph, size_t id, mo_graph_op *op);
MEMOPT_API size_t mo_graph_find_tensor(const mo_graph *graph, const char *name);
MEMOPT_API size_t mo_graph_find_op(const mo_graph *graph, const char *name);

/* mo_graph_check - whether the graph is whole: no op waits for itself, and every tensor that is
 * read or an output is an input of the graph or written by an op. The calls below check it too.
 *
 * Memory:  about 50 bytes per op, 20 per tensor, 16 per tensor read, during the call
 * Threads: safe while the graph does not change
 * Errors:  MO_E_INVALID (the log names an op of the cycle, or the tensor), MO_E_NO_MEMORY
 * Cost:    O((ops + tensors read) log ops)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_check(const mo_graph *graph);

/* ---- passes -------------------------------------------------------------------------------- */

/* mo_graph_prune - drop every op that no output of the graph and no op with MO_GRAPH_EFFECT needs,
 * and the tensors that are left to nobody. An op that is needed keeps all its outputs.
 * mo_graph_merge - of ops that compute the same keep one: same kind, attrs and inputs (after
 * merging), sizes and alignments of the outputs. An op that writes an output of the graph stays,
 * and is the one that is kept where there is one; else it is the first.
 *
 * op_map      out  [ops before] new number; SIZE_MAX = dropped; of a merged op that of the kept
 *                  one. May be NULL
 * tensor_map  out  [tensors before] the same for tensors. May be NULL
 *
 * Both number what stays anew, from 0, in the order as before. Merging saves time and may lengthen
 * the life of a tensor.
 *
 * Memory:  about 110 bytes per op, 45 per tensor, 16 per tensor read, during the call
 * Threads: one at a time
 * Errors:  MO_E_INVALID (as mo_graph_check), MO_E_NO_MEMORY; the graph is as before then
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_prune(
    mo_graph *graph, size_t *op_map, size_t *tensor_map);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_merge(
    mo_graph *graph, size_t *op_map, size_t *tensor_map);

/* mo_graph_order - an order of the ops with a low peak of live bytes, never a higher one than that
 * of the order as given: by number, where an op that was added before one that it needs comes as
 * soon as it can.
 *
 * desc    NULL = all defaults
 * order   out  [ops] their numbers, first to last
 * result  out  may be NULL
 *
 * First five greedy orders: the op after which the fewest bytes are live, of equal ones the newest
 * or the first, or with a look at the op behind it; and the same from the last op backwards. Then,
 * with up to 64 ops, an exact search over the sets of ops that can be done. With more, or when
 * three quarters of max_nodes are spent, the same search over windows of 16, 32 and 64 ops around
 * the peak, and a beam search where that takes too long. The same graph gives the same order on
 * every machine.
 *
 * Memory:  about 140 bytes per op, 35 per tensor, 16 per tensor read, and the nodes; during the
 *          call
 * Threads: safe while the graph does not change
 * Errors:  MO_E_INVALID (NULL, max_nodes, as mo_graph_check), MO_E_NO_MEMORY
 * Cost:    under a second for 100,000 ops
 * Source:  the exact search is the shortest path, by its largest step, over the down-sets, as in
 *          Ahn et al. 2020, Ordering Chaos, arXiv:2003.02369, with an early exit for ops that free
 *          more than they take
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_order(const mo_graph *graph,
    const mo_graph_order_desc *desc, size_t *order, mo_graph_order_result *result);

/* mo_graph_lifetimes - what an order needs: an array for mo_layout_solve, and who computes in
 * place.
 *
 * order       in   [ops] as from mo_graph_order; NULL = as given
 * items       out  [tensors] size, alignment, first and last step; a tensor that is neither written
 *                  nor an input has size 0. May be NULL
 * takes_over  out  [tensors] k = takes over the bytes of tensor k, whose last step is its first;
 *                  SIZE_MAX = has its own. NULL = nothing is computed in place
 * live        out  [ops] live bytes at each step; may be NULL
 * result      out  may be NULL
 *
 * Memory:  about 75 bytes per op, 25 per tensor, 16 per tensor read, during the call
 * Threads: safe while the graph does not change
 * Errors:  MO_E_INVALID (NULL graph; the log names an op that stands twice or too early, and the
 *          tensor that it lacks; as mo_graph_check), MO_E_NO_MEMORY
 * Cost:    linear
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_lifetimes(const mo_graph *graph, const size_t *order,
    mo_layout_item *items, size_t *takes_over, size_t *live, mo_graph_live *result);

/* ---- text and pictures --------------------------------------------------------------------- */

/* mo_graph_parse - a graph from text, one tensor or op per line:
 *
 *     # tensors before the ops that use them; sizes in bytes, KiB, MiB, GiB
 *     tensor x 4KiB input reuse
 *     tensor w 1MiB input category=param align=64
 *     tensor "a name" 4096
 *     tensor y 4096 output
 *     op mul1 matmul cost=0.002 attrs="transposed" : x w -> "a name"
 *     op act1 relu : "a name" -> y="a name"
 *
 * y=x after the arrow: y may take over x; y=x=z: x or else z. Further words of an op: effect,
 * random. A name with other characters than letters, digits and _ . / - + * @ % $ stands in quotes,
 * with \" \\ and \x0a inside.
 *
 * desc   NULL = all defaults
 * text   in   [size] need not be terminated
 * graph  out  to be destroyed by the caller
 *
 * Memory:  from desc->allocator
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL), MO_E_FORMAT (the log names line and column), MO_E_OVERFLOW,
 *          MO_E_NO_MEMORY. A graph that is not whole is no error here: see mo_graph_check
 * Cost:    linear
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_parse(
    const mo_graph_desc *desc, const char *text, size_t size, mo_graph **graph);

/* mo_graph_write - the graph as such text; parsed again it is the same graph.
 * mo_graph_write_dot - for Graphviz: ops as boxes, tensors as ellipses with their bytes, dashed
 * lines for what may be in place.
 *
 * Memory:  none
 * Threads: safe while the graph does not change
 * Errors:  MO_E_INVALID (NULL), MO_E_IO (the writer refused)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_write(
    const mo_graph *graph, const mo_writer *writer);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_write_dot(
    const mo_graph *graph, const mo_writer *writer);

/* mo_graph_write_svg - the live bytes over the steps with the peak marked, and below a bar from
 * first to last step for each of the largest tensors. Light or dark as the viewer prefers; no
 * scripts.
 * Names are written as ASCII, other characters as '?'.
 *
 * order  in  [ops]; NULL = as given
 * desc   NULL = all defaults
 *
 * More than 2000 steps are gathered in columns that show their highest step.
 *
 * Memory:  as mo_graph_lifetimes, and 50 bytes per tensor and 16 per op, during the call
 * Threads: safe while the graph does not change
 * Errors:  MO_E_INVALID (NULL, width, n_bars, as mo_graph_lifetimes), MO_E_NO_MEMORY, MO_E_IO
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_graph_write_svg(const mo_graph *graph, const size_t *order,
    const mo_graph_svg_desc *desc, const mo_writer *writer);

#endif
