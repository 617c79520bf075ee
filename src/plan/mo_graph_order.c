/* mo_graph_order.c - see mo_graph.h. The exact search over sets of ops, and who calls what.
 *
 * What is live after a set of ops has been done does not depend on their order. So an order is a
 * path through the sets, and the lowest peak is the path whose largest step is smallest: Dijkstra's
 * algorithm with max in place of the sum. Of equal ones the set with more ops comes first, so that
 * an order without a rise above the lower bound is found straight away.
 *
 * An op that fits under the peak so far and leaves no more live than there was can be done at once:
 * moved to the front of any order that follows, it makes no later step larger: what it would have
 * freed later is freed by others instead, and with more inputs that end at an op, no output that
 * was computed in place is computed elsewhere.
 *
 * Where that takes too many sets, windows around the peak are searched in the same way, and by a
 * beam that keeps the best sets of each size. */

enum {
    MOI_GRAPH_WINDOW = 64, /* ops in a set */
    MOI_GRAPH_MAX_NODES = 1 << 17,
    MOI_GRAPH_MAX_ROUNDS = 1000
};

/* A set of ops of the window. peak: the largest step on the best way to it; live: after it. */
typedef struct moi_graph_node {
    uint64_t set;
    size_t peak, live;
    uint32_t from;
    unsigned char op, n_done, is_final;
} moi_graph_node;

/* then: of equal peaks the smaller first; ops left, or live bytes. */
typedef struct moi_graph_entry {
    size_t peak, then;
    uint32_t node;
} moi_graph_entry;

/* The steps [begin, begin + n) of an order.
 *
 * needs  [n] set of ops that come before; masks: [tensors] readers of a tensor that ends here */
typedef struct moi_graph_search {
    moi_graph_view *view;
    moi_graph_walk *walk;
    size_t begin, n;
    size_t op[MOI_GRAPH_WINDOW];
    uint64_t needs[MOI_GRAPH_WINDOW];
    uint64_t *masks;
    size_t *window_of; /* [ops] place in the window, SIZE_MAX = not there */
    moi_graph_node *nodes;
    moi_graph_entry *heap;
    uint32_t *slots;                     /* node + 1 by set */
    size_t max_nodes, max_heap, n_slots; /* there is room for */
    size_t limit, mask, n_nodes, n_heap; /* of this search; mask: of the slots in use */
    size_t spent;
    int is_beam;
} moi_graph_search;

typedef enum moi_graph_found {
    MOI_GRAPH_BETTER,
    MOI_GRAPH_NONE_BETTER,
    MOI_GRAPH_GAVE_UP
} moi_graph_found;

/* ---- nodes --------------------------------------------------------------------------------- */

static int moi_graph_entry_less(const moi_graph_entry *x, const moi_graph_entry *y) {
    if (x->peak != y->peak) return x->peak < y->peak;
    if (x->then != y->then) return x->then < y->then;
    return x->node < y->node;
}

static int moi_graph_enqueue(moi_graph_search *search, uint32_t node, size_t then) {
    moi_graph_entry entry, *heap = search->heap;
    size_t at = search->n_heap;
    if (at == search->max_heap) return 0;
    entry.peak = search->nodes[node].peak;
    entry.node = node;
    entry.then = then;
    for (; at > 0 && moi_graph_entry_less(&entry, &heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = entry;
    search->n_heap++;
    return 1;
}

static uint32_t moi_graph_dequeue(moi_graph_search *search) {
    moi_graph_entry *heap = search->heap, last = heap[--search->n_heap];
    uint32_t node = heap[0].node;
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < search->n_heap; at = child) {
        if (child + 1 < search->n_heap && moi_graph_entry_less(&heap[child + 1], &heap[child]))
            child++;
        if (!moi_graph_entry_less(&heap[child], &last)) break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return node;
}

/* A way to a set: new, better than the one known, or of no use. 0 = no room for a new one. */
static int moi_graph_reach(moi_graph_search *search, const moi_graph_node *node) {
    size_t mask = search->mask, n_left = search->n - node->n_done;
    size_t at = (size_t)moi_graph_hash(0xcbf29ce484222325u, &node->set, sizeof node->set) & mask;
    for (; search->slots[at]; at = (at + 1) & mask) {
        moi_graph_node *known = &search->nodes[search->slots[at] - 1];
        if (known->set != node->set) continue;
        if (known->is_final || known->peak <= node->peak) return 1;
        *known = *node;
        return search->is_beam || moi_graph_enqueue(search, search->slots[at] - 1, n_left);
    }
    if (search->n_nodes == search->limit) return 0;
    search->nodes[search->n_nodes] = *node;
    search->slots[at] = (uint32_t)++search->n_nodes;
    return search->is_beam || moi_graph_enqueue(search, (uint32_t)search->n_nodes - 1, n_left);
}

/* ---- steps --------------------------------------------------------------------------------- */

/* Does op i of the window behind the node: next is the set with it. Returns the live bytes of the
 * step. */
static size_t moi_graph_do_op(
    const moi_graph_search *search, const moi_graph_node *node, size_t i, moi_graph_node *next) {
    moi_graph_view *view = search->view;
    size_t id = search->op[i], freed = view->dead[id];
    const size_t *reads = view->reads.at + view->reads.begin[id];
    size_t n_reads = view->reads.begin[id + 1] - view->reads.begin[id];
    uint64_t bit = (uint64_t)1 << i;
    for (size_t k = 0; k < n_reads; k++) {
        if ((search->masks[reads[k]] & ~node->set) != bit) continue;
        view->dying[reads[k]] = 1;
        freed += view->graph->tensors[reads[k]].size;
    }
    size_t bytes = node->live + view->made[id] - moi_graph_match(view, id, NULL);
    for (size_t k = 0; k < n_reads; k++) view->dying[reads[k]] = 0;
    next->set = node->set | bit;
    next->live = node->live + view->made[id] - freed;
    next->peak = moi_max(node->peak, bytes);
    next->op = (unsigned char)i;
    next->n_done = (unsigned char)(node->n_done + 1);
    next->is_final = 0;
    return bytes;
}

/* All sets one op further; only steps below bound count. 0 = no room. */
static int moi_graph_expand(moi_graph_search *search, uint32_t from, size_t bound) {
    moi_graph_node node = search->nodes[from], next[MOI_GRAPH_WINDOW];
    size_t n = 0;
    for (size_t i = 0; i < search->n; i++) {
        if (node.set >> i & 1 || (search->needs[i] & ~node.set)) continue;
        size_t bytes = moi_graph_do_op(search, &node, i, &next[n]);
        if (bytes >= bound) continue;
        next[n].from = from;
        if (next[n].live <= node.live && bytes <= node.peak)
            return moi_graph_reach(search, &next[n]);
        n++;
    }
    for (size_t i = 0; i < n; i++)
        if (!moi_graph_reach(search, &next[i])) return 0;
    return 1;
}

static void moi_graph_take_path(moi_graph_search *search, uint32_t node) {
    for (size_t i = search->n; i > 0; i--, node = search->nodes[node].from)
        search->walk->order[search->begin + i - 1] = search->op[search->nodes[node].op];
}

/* Empty tables with the set of no ops. 0 = no room, or nothing to look for. */
static int moi_graph_begin_search(
    moi_graph_search *search, int is_beam, size_t floor, size_t bound, size_t limit) {
    moi_graph_node root;
    memset(&root, 0, sizeof root);
    root.peak = floor;
    root.live = search->walk->before[search->begin];
    search->is_beam = is_beam;
    search->limit = moi_min(limit, search->max_nodes);
    search->n_nodes = search->n_heap = 0;
    search->mask = MOI_GRAPH_FIRST_SIZE - 1;
    while (search->mask < 2 * search->limit) search->mask = 2 * search->mask + 1;
    memset(search->slots, 0, (search->mask + 1) * sizeof *search->slots);
    return floor < bound && moi_graph_reach(search, &root);
}

/* Looks for an order of the window whose steps are all below bound; none is below floor. */
static moi_graph_found moi_graph_best_first(
    moi_graph_search *search, size_t floor, size_t bound, size_t limit) {
    moi_graph_found found = MOI_GRAPH_NONE_BETTER;
    int has_room = moi_graph_begin_search(search, 0, floor, bound, limit);
    if (!has_room && floor < bound) found = MOI_GRAPH_GAVE_UP;
    while (found == MOI_GRAPH_NONE_BETTER && search->n_heap > 0) {
        uint32_t node = moi_graph_dequeue(search);
        if (search->nodes[node].is_final) continue;
        search->nodes[node].is_final = 1;
        if (search->nodes[node].n_done == search->n) {
            moi_graph_take_path(search, node);
            found = MOI_GRAPH_BETTER;
        } else if (!moi_graph_expand(search, node, bound)) found = MOI_GRAPH_GAVE_UP;
    }
    search->spent += search->n_nodes;
    return found;
}

/* The same where that took too many sets: of those with k ops only the best go on, by peak, then by
 * live bytes. Every k gets its share of the nodes; a quarter of them go on. */
static moi_graph_found moi_graph_beam(
    moi_graph_search *search, size_t floor, size_t bound, size_t limit) {
    size_t begin = 0, end, n = search->n;
    int has_begun = moi_graph_begin_search(search, 1, floor, bound, limit);
    size_t all = search->limit;
    for (size_t k = 0; has_begun && k < n && begin < search->n_nodes; k++, begin = end) {
        size_t share = (all - search->n_nodes) / (n - k);
        end = search->n_nodes;
        search->limit = end + share;
        search->n_heap = 0;
        for (size_t i = begin; i < end; i++)
            (void)moi_graph_enqueue(search, (uint32_t)i, search->nodes[i].live);
        for (size_t i = 0; i <= share / 4 && search->n_heap > 0; i++)
            if (!moi_graph_expand(search, moi_graph_dequeue(search), bound)) break;
    }
    search->spent += search->n_nodes;
    if (!has_begun || begin == search->n_nodes) return MOI_GRAPH_GAVE_UP;
    moi_graph_take_path(search, (uint32_t)search->n_nodes - 1);
    return MOI_GRAPH_BETTER;
}

/* ---- windows ------------------------------------------------------------------------------- */

static void moi_graph_open_window(moi_graph_search *search, size_t begin, size_t n) {
    const moi_graph_view *view = search->view;
    search->begin = begin;
    search->n = n;
    for (size_t i = 0; i < n; i++) {
        search->op[i] = search->walk->order[begin + i];
        search->window_of[search->op[i]] = i;
        search->needs[i] = 0;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = view->reads.begin[search->op[i]]; k < view->reads.begin[search->op[i] + 1];
             k++) {
            size_t tensor = view->reads.at[k], writer = view->graph->tensors[tensor].writer;
            if (writer != SIZE_MAX && search->window_of[writer] != SIZE_MAX)
                search->needs[i] |= (uint64_t)1 << search->window_of[writer];
            if (!view->kept[tensor] && search->walk->last[tensor] < begin + n)
                search->masks[tensor] |= (uint64_t)1 << i;
        }
}

static void moi_graph_close_window(moi_graph_search *search) {
    const moi_graph_view *view = search->view;
    for (size_t i = 0; i < search->n; i++) {
        size_t id = search->op[i];
        search->window_of[id] = SIZE_MAX;
        for (size_t k = view->reads.begin[id]; k < view->reads.begin[id + 1]; k++)
            search->masks[view->reads.at[k]] = 0;
    }
}

typedef moi_graph_found (*moi_graph_method)(
    moi_graph_search *search, size_t floor, size_t bound, size_t limit);

/* Orders one window below bound, if that can be done. */
static moi_graph_found moi_graph_improve(moi_graph_search *search, moi_graph_method method,
    size_t begin, size_t n, size_t floor, size_t bound, size_t limit) {
    moi_graph_walk *walk = search->walk;
    moi_graph_open_window(search, begin, n);
    moi_graph_found found = method(search, floor, bound, limit);
    moi_graph_close_window(search);
    if (found != MOI_GRAPH_BETTER) return found;
    moi_graph_walk_last(search->view, walk, begin, begin + n);
    (void)moi_graph_walk_steps(search->view, walk, begin, begin + n, walk->before[begin], NULL);
    return found;
}

static size_t moi_graph_peak_step(const moi_graph_view *view, const moi_graph_walk *walk) {
    size_t step = 0;
    for (size_t i = 1; i < view->n_ops; i++)
        if (walk->bytes[i] > walk->bytes[step]) step = i;
    return step;
}

/* One window of n ops that holds the peak, in three places, until one gets below it. */
static int moi_graph_improve_peak(
    moi_graph_search *search, moi_graph_method method, size_t n, size_t floor, size_t max_nodes) {
    const moi_graph_walk *walk = search->walk;
    size_t n_ops = search->view->n_ops, step = moi_graph_peak_step(search->view, walk);
    size_t bound = walk->bytes[step];
    const size_t behind[3] = {n / 2, n - 1, 0}; /* ops of the window before the peak */
    for (int i = 0; i < (n < n_ops ? 3 : 1) && search->spent < max_nodes; i++) {
        size_t begin = moi_min(step - moi_min(step, behind[i]), n_ops - n);
        size_t limit = moi_min(max_nodes - search->spent, max_nodes / 8);
        if (moi_graph_improve(search, method, begin, n, floor, bound, limit) == MOI_GRAPH_BETTER)
            return 1;
    }
    return 0;
}

/* Windows in growing sizes, the largest also by the beam, as long as one gets below the peak. */
static void moi_graph_improve_windows(moi_graph_search *search, size_t floor, size_t max_nodes) {
    size_t n_ops = search->view->n_ops, largest = moi_min(n_ops, (size_t)MOI_GRAPH_WINDOW);
    for (int round = 0, is_better = 1; is_better && round < MOI_GRAPH_MAX_ROUNDS; round++) {
        is_better = 0;
        for (size_t n = 16; !is_better && n <= MOI_GRAPH_WINDOW && n < n_ops; n *= 2)
            is_better = moi_graph_improve_peak(search, moi_graph_best_first, n, floor, max_nodes);
        if (!is_better)
            is_better = moi_graph_improve_peak(search, moi_graph_beam, largest, floor, max_nodes);
    }
}

/* ---- bounds and rules ---------------------------------------------------------------------- */

/* Bytes of the outputs of an op that may be in place, each once. */
static size_t moi_graph_may_save(moi_graph_view *view, size_t id) {
    const moi_graph_op *op = &view->graph->ops[id];
    size_t bytes = 0, stamp = ++view->stamp;
    for (size_t i = 0; i < op->n_aliases && !view->no_in_place; i++) {
        const mo_graph_alias *pair = &view->graph->pairs[op->aliases + i];
        if (view->kept[pair->input] || view->taken[pair->output] == stamp) continue;
        if (!moi_graph_fits(view, pair)) continue;
        view->taken[pair->output] = stamp;
        bytes += view->graph->tensors[pair->output].size;
    }
    return bytes;
}

/* No order has less: what is there at the start, at the end, and around each op. */
static size_t moi_graph_lower_bound(moi_graph_view *view) {
    const moi_graph_tensor *tensors = view->graph->tensors;
    size_t fixed = 0, at_end = 0, bound;
    for (size_t i = 0; i < view->n_tensors; i++) {
        int is_there = tensors[i].writer != SIZE_MAX || (tensors[i].flags & MO_GRAPH_INPUT);
        if (!view->kept[i] || !is_there) continue;
        at_end += tensors[i].size;
        if (tensors[i].flags & MO_GRAPH_INPUT) fixed += tensors[i].size;
    }
    bound = moi_max(at_end, moi_graph_input_bytes(view));
    for (size_t id = 0; id < view->n_ops; id++) {
        size_t bytes = fixed + view->made[id] - moi_graph_may_save(view, id);
        for (size_t k = view->reads.begin[id]; k < view->reads.begin[id + 1]; k++) {
            size_t tensor = view->reads.at[k];
            if (!view->kept[tensor] || !(tensors[tensor].flags & MO_GRAPH_INPUT))
                bytes += tensors[tensor].size;
        }
        bound = moi_max(bound, bytes);
    }
    return bound;
}

/* The best of the greedy orders, where it is below the order as given. */
static mo_status moi_graph_try_rules(
    moi_graph_view *view, moi_graph_walk *walk, size_t floor, size_t *peak) {
    moi_graph_sched sched;
    size_t *best = moi_graph_alloc(view, view->n_ops);
    mo_status status = best ? moi_graph_sched_alloc(&sched, view) : MO_E_NO_MEMORY;
    if (status == MO_OK) {
        memcpy(best, walk->order, view->n_ops * sizeof *best);
        for (int rule = 0; rule<MOI_GRAPH_RULES && * peak> floor; rule++) {
            moi_graph_sched_run(&sched, (moi_graph_rule)rule, walk->order);
            size_t found = moi_graph_walk_all(view, walk, NULL);
            if (found >= *peak) continue;
            *peak = found;
            memcpy(best, walk->order, view->n_ops * sizeof *best);
        }
        memcpy(walk->order, best, view->n_ops * sizeof *best);
        *peak = moi_graph_walk_all(view, walk, NULL);
        moi_graph_sched_free(&sched);
    }
    moi_graph_free(view, best, view->n_ops);
    return status;
}

/* ---- the call ------------------------------------------------------------------------------ */

static void moi_graph_search_free(moi_graph_search *search) {
    const mo_allocator *allocator = &search->view->graph->allocator;
    moi_free_array(allocator, search->masks, search->view->n_tensors + 1, sizeof *search->masks);
    moi_graph_free(search->view, search->window_of, search->view->n_ops);
    moi_free_array(allocator, search->nodes, search->max_nodes, sizeof *search->nodes);
    moi_free_array(allocator, search->heap, search->max_heap, sizeof *search->heap);
    moi_free_array(allocator, search->slots, search->n_slots, sizeof *search->slots);
}

/* A set of n ops has 2^n parts. */
static mo_status moi_graph_search_alloc(
    moi_graph_search *search, moi_graph_view *view, moi_graph_walk *walk, size_t max_nodes) {
    const mo_allocator *allocator = &view->graph->allocator;
    memset(search, 0, sizeof *search);
    search->view = view;
    search->walk = walk;
    search->max_nodes = view->n_ops < 30 ? moi_min(max_nodes, (size_t)1 << view->n_ops) : max_nodes;
    search->max_heap = 2 * search->max_nodes;
    search->n_slots = MOI_GRAPH_FIRST_SIZE;
    while (search->n_slots <= 2 * search->max_nodes) search->n_slots *= 2;
    search->masks =
        (uint64_t *)moi_alloc_array(allocator, view->n_tensors + 1, sizeof *search->masks);
    search->window_of = moi_graph_alloc(view, view->n_ops);
    search->nodes =
        (moi_graph_node *)moi_alloc_array(allocator, search->max_nodes, sizeof *search->nodes);
    search->heap =
        (moi_graph_entry *)moi_alloc_array(allocator, search->max_heap, sizeof *search->heap);
    search->slots = (uint32_t *)moi_alloc_array(allocator, search->n_slots, sizeof *search->slots);
    if (!search->masks || !search->window_of || !search->nodes || !search->heap || !search->slots) {
        moi_graph_search_free(search);
        return MO_E_NO_MEMORY;
    }
    memset(search->masks, 0, (view->n_tensors + 1) * sizeof *search->masks);
    for (size_t i = 0; i < view->n_ops; i++) search->window_of[i] = SIZE_MAX;
    return MO_OK;
}

/* All ops at once where a set can hold them, with three quarters of the nodes; else, or when they
 * are spent, the windows. */
static mo_status moi_graph_try_search(
    moi_graph_view *view, moi_graph_walk *walk, size_t max_nodes, mo_graph_order_result *result) {
    moi_graph_search search;
    moi_graph_found found = MOI_GRAPH_GAVE_UP;
    size_t floor = result->lower_bound_bytes, whole = max_nodes - max_nodes / 4;
    int is_small = view->n_ops <= MOI_GRAPH_WINDOW;
    mo_status status =
        moi_graph_search_alloc(&search, view, walk, is_small ? whole : max_nodes / 8 + 1);
    if (status != MO_OK) return status;
    if (is_small)
        found = moi_graph_improve(
            &search, moi_graph_best_first, 0, view->n_ops, floor, result->peak_bytes, whole);
    if (found == MOI_GRAPH_GAVE_UP) moi_graph_improve_windows(&search, floor, max_nodes);
    result->peak_bytes = walk->bytes[moi_graph_peak_step(view, walk)];
    result->proved = found != MOI_GRAPH_GAVE_UP || result->peak_bytes == floor;
    result->n_nodes = search.spent;
    moi_graph_search_free(&search);
    return MO_OK;
}

static mo_status moi_graph_order_run(moi_graph_view *view, moi_graph_walk *walk,
    const mo_graph_order_desc *desc, mo_graph_order_result *result) {
    memcpy(walk->order, view->given, view->n_ops * sizeof *walk->order);
    result->given_peak_bytes = moi_graph_walk_all(view, walk, NULL);
    result->lower_bound_bytes = moi_graph_lower_bound(view);
    result->peak_bytes = result->given_peak_bytes;
    result->proved = result->peak_bytes == result->lower_bound_bytes;
    if (desc->as_given || result->proved) return MO_OK;
    mo_status status =
        moi_graph_try_rules(view, walk, result->lower_bound_bytes, &result->peak_bytes);
    result->proved = result->peak_bytes == result->lower_bound_bytes;
    if (status != MO_OK || result->proved) return status;
    size_t max_nodes = desc->max_nodes ? desc->max_nodes : (size_t)MOI_GRAPH_MAX_NODES;
    return moi_graph_try_search(view, walk, max_nodes, result);
}

mo_status mo_graph_order(const mo_graph *graph, const mo_graph_order_desc *desc, size_t *order,
    mo_graph_order_result *result) {
    const mo_graph_order_desc none = {0, 0, 0};
    mo_graph_order_result found;
    moi_graph_view view;
    moi_graph_walk walk;
    if (!desc) desc = &none;
    if (!graph || (!order && graph->n_ops)) return MO_E_INVALID;
    if (desc->max_nodes > (size_t)1 << 30) return MO_E_INVALID;
    mo_status status = moi_graph_view_init(&view, graph);
    if (status != MO_OK) return status;
    view.no_in_place = desc->no_in_place;
    memset(&found, 0, sizeof found);
    status = moi_graph_walk_alloc(&view, &walk);
    if (status == MO_OK) {
        status = moi_graph_order_run(&view, &walk, desc, &found);
        if (status == MO_OK && view.n_ops) memcpy(order, walk.order, view.n_ops * sizeof *order);
        if (status == MO_OK && result) *result = found;
        moi_graph_walk_free(&view, &walk);
    }
    moi_graph_view_free(&view);
    return status;
}
