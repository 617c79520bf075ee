/* mo_graph_pass.c - see mo_graph.h. The tables of a pass, the order as given, dropping, merging. */

/* ---- tables -------------------------------------------------------------------------------- */

static size_t *moi_graph_alloc(const moi_graph_view *view, size_t n) {
    size_t one_more;
    if (!moi_add(n, 1, &one_more)) return NULL;
    return (size_t *)moi_alloc_array(&view->graph->allocator, one_more, sizeof(size_t));
}

static void moi_graph_free(const moi_graph_view *view, size_t *array, size_t n) {
    moi_free_array(&view->graph->allocator, array, n + 1, sizeof(size_t));
}

static int moi_graph_alloc_lists(
    const moi_graph_view *view, moi_graph_lists *lists, size_t n, size_t max) {
    lists->n = n;
    lists->max = max;
    lists->begin = moi_graph_alloc(view, n);
    lists->at = moi_graph_alloc(view, max);
    return lists->begin && lists->at;
}

static void moi_graph_free_lists(const moi_graph_view *view, moi_graph_lists *lists) {
    moi_graph_free(view, lists->begin, lists->n);
    moi_graph_free(view, lists->at, lists->max);
}

static void moi_graph_view_free(moi_graph_view *view) {
    const mo_allocator *allocator = &view->graph->allocator;
    moi_graph_free_lists(view, &view->reads);
    moi_graph_free_lists(view, &view->readers);
    moi_graph_free(view, view->made, view->n_ops);
    moi_graph_free(view, view->dead, view->n_ops);
    moi_graph_free(view, view->missing, view->n_ops);
    moi_graph_free(view, view->given, view->n_ops);
    moi_graph_free(view, view->taken, view->n_tensors);
    moi_free_array(allocator, view->kept, view->n_tensors + 1, 1);
    moi_free_array(allocator, view->dying, view->n_tensors + 1, 1);
}

static mo_status moi_graph_view_alloc(moi_graph_view *view, const mo_graph *graph) {
    size_t n_reads = 0;
    memset(view, 0, sizeof *view);
    view->graph = graph;
    view->n_ops = graph->n_ops;
    view->n_tensors = graph->n_tensors;
    for (size_t i = 0; i < graph->n_ops; i++) n_reads += graph->ops[i].n_inputs;
    int ok = moi_graph_alloc_lists(view, &view->reads, view->n_ops, n_reads);
    ok &= moi_graph_alloc_lists(view, &view->readers, view->n_tensors, n_reads);
    view->made = moi_graph_alloc(view, view->n_ops);
    view->dead = moi_graph_alloc(view, view->n_ops);
    view->missing = moi_graph_alloc(view, view->n_ops);
    view->given = moi_graph_alloc(view, view->n_ops);
    view->taken = moi_graph_alloc(view, view->n_tensors);
    view->kept = (unsigned char *)moi_alloc_array(&graph->allocator, view->n_tensors + 1, 1);
    view->dying = (unsigned char *)moi_alloc_array(&graph->allocator, view->n_tensors + 1, 1);
    ok = ok && view->made && view->dead && view->missing && view->given && view->taken &&
        view->kept && view->dying;
    if (ok) return MO_OK;
    moi_graph_view_free(view);
    return MO_E_NO_MEMORY;
}

/* Each tensor that an op reads once, however often the op names it. */
static void moi_graph_fill_reads(moi_graph_view *view) {
    const mo_graph *graph = view->graph;
    size_t n = 0;
    memset(view->taken, 0, (view->n_tensors + 1) * sizeof *view->taken);
    memset(view->readers.begin, 0, (view->n_tensors + 1) * sizeof *view->readers.begin);
    for (size_t i = 0; i < view->n_ops; i++) {
        const moi_graph_op *op = &graph->ops[i];
        view->reads.begin[i] = n;
        view->stamp++;
        for (size_t k = 0; k < op->n_inputs; k++) {
            size_t id = graph->numbers[op->inputs + k];
            if (view->taken[id] == view->stamp) continue;
            view->taken[id] = view->stamp;
            view->reads.at[n++] = id;
            view->readers.begin[id + 1]++;
        }
    }
    view->reads.begin[view->n_ops] = n;
}

/* The lists of readers from the lists of reads; their lengths are counted one place ahead. */
static void moi_graph_fill_readers(moi_graph_view *view) {
    size_t *begin = view->readers.begin, *at = view->readers.at;
    for (size_t i = 0; i < view->n_tensors; i++) begin[i + 1] += begin[i];
    for (size_t i = view->n_ops; i > 0; i--)
        for (size_t k = view->reads.begin[i - 1]; k < view->reads.begin[i]; k++)
            at[--begin[view->reads.at[k] + 1]] = i - 1;
    /* now begin[i + 1] is where list i begins */
    for (size_t i = 0; i < view->n_tensors; i++) begin[i] = begin[i + 1];
    begin[view->n_tensors] = view->reads.begin[view->n_ops];
}

static size_t moi_graph_n_readers(const moi_graph_view *view, size_t id) {
    return view->readers.begin[id + 1] - view->readers.begin[id];
}

static void moi_graph_fill_bytes(moi_graph_view *view) {
    const mo_graph *graph = view->graph;
    memset(view->made, 0, (view->n_ops + 1) * sizeof *view->made);
    memset(view->dead, 0, (view->n_ops + 1) * sizeof *view->dead);
    memset(view->dying, 0, view->n_tensors + 1);
    for (size_t i = 0; i < view->n_tensors; i++) {
        const moi_graph_tensor *tensor = &graph->tensors[i];
        int is_read = moi_graph_n_readers(view, i) > 0, is_input = tensor->flags & MO_GRAPH_INPUT;
        view->kept[i] = (tensor->flags & MO_GRAPH_OUTPUT) ||
            (is_input && (!is_read || !(tensor->flags & MO_GRAPH_REUSE)));
        if (tensor->writer == SIZE_MAX) continue;
        view->made[tensor->writer] += tensor->size;
        if (!is_read && !view->kept[i]) view->dead[tensor->writer] += tensor->size;
    }
}

/* ---- the order as given -------------------------------------------------------------------- */

static mo_status moi_graph_check_written(const moi_graph_view *view) {
    const mo_graph *graph = view->graph;
    for (size_t i = 0; i < view->n_tensors; i++) {
        const moi_graph_tensor *tensor = &graph->tensors[i];
        const char *name = moi_graph_text(graph, tensor->name);
        if (tensor->writer != SIZE_MAX || (tensor->flags & MO_GRAPH_INPUT)) continue;
        if (moi_graph_n_readers(view, i)) {
            moi_log(&graph->log, MO_LOG_ERROR,
                "graph: op '%s': tensor '%s' is read, but nothing writes it and it is no input",
                moi_graph_op_name(graph, view->readers.at[view->readers.begin[i]]), name);
            return MO_E_INVALID;
        }
        if (tensor->flags & MO_GRAPH_OUTPUT) {
            moi_log(&graph->log, MO_LOG_ERROR,
                "graph: tensor '%s' is an output, but nothing writes it and it is no input", name);
            return MO_E_INVALID;
        }
    }
    return MO_OK;
}

/* The op that still misses something which is written by an op that misses something .. until one
 * comes again: that one is in a cycle. */
static mo_status moi_graph_name_cycle(const moi_graph_view *view) {
    const mo_graph *graph = view->graph;
    size_t *missing = view->missing, op = 0;
    while (missing[op] == 0) op++;
    while (missing[op] != SIZE_MAX) {
        size_t k = view->reads.begin[op], writer;
        do writer = graph->tensors[view->reads.at[k++]].writer;
        while (writer == SIZE_MAX || missing[writer] == 0);
        missing[op] = SIZE_MAX;
        op = writer;
    }
    moi_log(
        &graph->log, MO_LOG_ERROR, "graph: op '%s' waits for itself", moi_graph_op_name(graph, op));
    return MO_E_INVALID;
}

/* A heap of ops, the smallest number on top. */
static void moi_graph_heap_push(size_t *heap, size_t n, size_t op) {
    for (; n > 0 && heap[(n - 1) / 2] > op; n = (n - 1) / 2) heap[n] = heap[(n - 1) / 2];
    heap[n] = op;
}

static size_t moi_graph_heap_pop(size_t *heap, size_t n) {
    size_t top = heap[0], op = heap[n - 1], at = 0;
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (op <= heap[child]) break;
        heap[at] = heap[child];
    }
    heap[at] = op;
    return top;
}

static void moi_graph_count_missing(const moi_graph_view *view) {
    for (size_t i = 0; i < view->n_ops; i++) {
        view->missing[i] = 0;
        for (size_t k = view->reads.begin[i]; k < view->reads.begin[i + 1]; k++)
            view->missing[i] += view->graph->tensors[view->reads.at[k]].writer != SIZE_MAX;
    }
}

/* Of the ops that can be done, the one added first. heap has room for all ops. */
static mo_status moi_graph_order_as_given(moi_graph_view *view, size_t *heap) {
    const mo_graph *graph = view->graph;
    size_t n_heap = 0, n = 0;
    moi_graph_count_missing(view);
    for (size_t i = 0; i < view->n_ops; i++)
        if (view->missing[i] == 0) moi_graph_heap_push(heap, n_heap++, i);
    while (n_heap > 0) {
        size_t op = moi_graph_heap_pop(heap, n_heap--);
        view->given[n++] = op;
        for (size_t i = 0; i < graph->ops[op].n_outputs; i++) {
            size_t id = graph->numbers[graph->ops[op].outputs + i];
            for (size_t k = view->readers.begin[id]; k < view->readers.begin[id + 1]; k++)
                if (--view->missing[view->readers.at[k]] == 0)
                    moi_graph_heap_push(heap, n_heap++, view->readers.at[k]);
        }
    }
    return n == view->n_ops ? MO_OK : moi_graph_name_cycle(view);
}

/* The tables of a graph that is whole. */
static mo_status moi_graph_view_init(moi_graph_view *view, const mo_graph *graph) {
    mo_status status = moi_graph_view_alloc(view, graph);
    if (status != MO_OK) return status;
    moi_graph_fill_reads(view);
    moi_graph_fill_readers(view);
    moi_graph_fill_bytes(view);
    status = moi_graph_check_written(view);
    if (status == MO_OK) {
        size_t *heap = moi_graph_alloc(view, view->n_ops);
        status = heap ? moi_graph_order_as_given(view, heap) : MO_E_NO_MEMORY;
        moi_graph_free(view, heap, view->n_ops);
    }
    if (status != MO_OK) moi_graph_view_free(view);
    return status;
}

mo_status mo_graph_check(const mo_graph *graph) {
    moi_graph_view view;
    if (!graph) return MO_E_INVALID;
    mo_status status = moi_graph_view_init(&view, graph);
    if (status == MO_OK) moi_graph_view_free(&view);
    return status;
}

/* ---- what stays ---------------------------------------------------------------------------- */

/* Where ops and tensors go: their own number = stay, another = merged into that one, which stays,
 * SIZE_MAX = dropped. new_x: the numbers after. */
typedef struct moi_graph_cut {
    size_t *ops, *tensors;
    size_t *new_ops, *new_tensors;
} moi_graph_cut;

static void moi_graph_cut_free(const moi_graph_view *view, moi_graph_cut *cut) {
    moi_graph_free(view, cut->ops, view->n_ops);
    moi_graph_free(view, cut->tensors, view->n_tensors);
    moi_graph_free(view, cut->new_ops, view->n_ops);
    moi_graph_free(view, cut->new_tensors, view->n_tensors);
}

static mo_status moi_graph_cut_alloc(const moi_graph_view *view, moi_graph_cut *cut) {
    cut->ops = moi_graph_alloc(view, view->n_ops);
    cut->tensors = moi_graph_alloc(view, view->n_tensors);
    cut->new_ops = moi_graph_alloc(view, view->n_ops);
    cut->new_tensors = moi_graph_alloc(view, view->n_tensors);
    if (cut->ops && cut->tensors && cut->new_ops && cut->new_tensors) return MO_OK;
    moi_graph_cut_free(view, cut);
    return MO_E_NO_MEMORY;
}

/* Numbers from 0 for those that stay; then the others get the number that theirs has. Returns how
 * many stay. */
static size_t moi_graph_number(const size_t *to, size_t *numbers, size_t n) {
    size_t n_stay = 0;
    for (size_t i = 0; i < n; i++)
        if (to[i] == i) numbers[i] = n_stay++;
    for (size_t i = 0; i < n; i++)
        if (to[i] != i) numbers[i] = to[i] == SIZE_MAX ? SIZE_MAX : numbers[to[i]];
    return n_stay;
}

static void moi_graph_renumber_op(mo_graph *graph, const moi_graph_op *op, const size_t *to) {
    size_t *inputs = graph->numbers + op->inputs, *outputs = graph->numbers + op->outputs;
    mo_graph_alias *pairs = graph->pairs + op->aliases;
    for (size_t i = 0; i < op->n_inputs; i++) inputs[i] = to[inputs[i]];
    for (size_t i = 0; i < op->n_outputs; i++) outputs[i] = to[outputs[i]];
    for (size_t i = 0; i < op->n_aliases; i++) {
        pairs[i].output = to[pairs[i].output];
        pairs[i].input = to[pairs[i].input];
    }
}

/* Nothing here can fail. The names and lists of what went stay behind unused. */
static void moi_graph_apply(mo_graph *graph, const moi_graph_cut *cut) {
    size_t n_ops = graph->n_ops, n_tensors = graph->n_tensors;
    graph->n_ops = moi_graph_number(cut->ops, cut->new_ops, n_ops);
    graph->n_tensors = moi_graph_number(cut->tensors, cut->new_tensors, n_tensors);
    graph->total_bytes = 0;
    for (size_t i = 0; i < n_ops; i++) {
        if (cut->ops[i] != i) continue;
        moi_graph_renumber_op(graph, &graph->ops[i], cut->new_tensors);
        graph->ops[cut->new_ops[i]] = graph->ops[i];
    }
    for (size_t i = 0; i < n_tensors; i++) {
        if (cut->tensors[i] != i) continue;
        moi_graph_tensor *tensor = &graph->tensors[cut->new_tensors[i]];
        *tensor = graph->tensors[i];
        if (tensor->writer != SIZE_MAX) tensor->writer = cut->new_ops[tensor->writer];
        graph->total_bytes += tensor->size;
    }
    moi_graph_enter_all(graph, 0);
    moi_graph_enter_all(graph, 1);
}

/* A pass decides what stays; this does the rest. */
static mo_status moi_graph_pass(mo_graph *graph,
    mo_status (*decide)(moi_graph_view *view, moi_graph_cut *cut), size_t *op_map,
    size_t *tensor_map) {
    moi_graph_view view;
    moi_graph_cut cut;
    if (!graph) return MO_E_INVALID;
    mo_status status = moi_graph_view_init(&view, graph);
    if (status != MO_OK) return status;
    status = moi_graph_cut_alloc(&view, &cut);
    if (status == MO_OK) {
        status = decide(&view, &cut);
        if (status == MO_OK) {
            moi_graph_apply(graph, &cut);
            if (op_map) memcpy(op_map, cut.new_ops, view.n_ops * sizeof *op_map);
            if (tensor_map)
                memcpy(tensor_map, cut.new_tensors, view.n_tensors * sizeof *tensor_map);
        }
        moi_graph_cut_free(&view, &cut);
    }
    moi_graph_view_free(&view);
    return status;
}

/* ---- prune --------------------------------------------------------------------------------- */

static int moi_graph_writes_output(const mo_graph *graph, const moi_graph_op *op) {
    for (size_t i = 0; i < op->n_outputs; i++)
        if (graph->tensors[graph->numbers[op->outputs + i]].flags & MO_GRAPH_OUTPUT) return 1;
    return 0;
}

/* From the last op to the first: every reader of an op's outputs has been decided before it. */
static mo_status moi_graph_decide_prune(moi_graph_view *view, moi_graph_cut *cut) {
    const mo_graph *graph = view->graph;
    for (size_t i = 0; i < view->n_ops; i++) cut->ops[i] = SIZE_MAX;
    for (size_t i = 0; i < view->n_tensors; i++)
        cut->tensors[i] = graph->tensors[i].flags & MO_GRAPH_OUTPUT ? i : SIZE_MAX;
    for (size_t step = view->n_ops; step > 0; step--) {
        size_t id = view->given[step - 1], is_needed = 0;
        const moi_graph_op *op = &graph->ops[id];
        const size_t *outputs = graph->numbers + op->outputs;
        for (size_t i = 0; i < op->n_outputs; i++)
            is_needed |= cut->tensors[outputs[i]] != SIZE_MAX;
        if (!is_needed && !(op->flags & MO_GRAPH_EFFECT)) continue;
        cut->ops[id] = id;
        for (size_t i = 0; i < op->n_outputs; i++) cut->tensors[outputs[i]] = outputs[i];
        for (size_t k = view->reads.begin[id]; k < view->reads.begin[id + 1]; k++)
            cut->tensors[view->reads.at[k]] = view->reads.at[k];
    }
    return MO_OK;
}

mo_status mo_graph_prune(mo_graph *graph, size_t *op_map, size_t *tensor_map) {
    return moi_graph_pass(graph, moi_graph_decide_prune, op_map, tensor_map);
}

/* ---- merge --------------------------------------------------------------------------------- */

/* Ops that compute the same are a class; tensors of equal value have the same first tensor.
 *
 * same     [ops] the first op of the class
 * values   [tensors] the output of the class's first op in its place
 * keepers  [ops] of the class with this first op: the op that stays
 * slots    open addressing by hash: first op of a class + 1 */
typedef struct moi_graph_merge {
    size_t *same, *values, *keepers, *hashes, *slots;
    size_t n_slots;
} moi_graph_merge;

static size_t moi_graph_hash_op(const moi_graph_view *view, const size_t *values, size_t id) {
    const mo_graph *graph = view->graph;
    const moi_graph_op *op = &graph->ops[id];
    const char *kind = moi_graph_text(graph, op->kind), *attrs = moi_graph_text(graph, op->attrs);
    uint64_t hash = moi_graph_hash(0xcbf29ce484222325u, kind, strlen(kind) + 1);
    hash = moi_graph_hash(hash, attrs, strlen(attrs) + 1);
    for (size_t i = 0; i < op->n_inputs; i++) {
        size_t value = values[graph->numbers[op->inputs + i]];
        hash = moi_graph_hash(hash, &value, sizeof value);
    }
    for (size_t i = 0; i < op->n_outputs; i++) {
        size_t size = graph->tensors[graph->numbers[op->outputs + i]].size;
        hash = moi_graph_hash(hash, &size, sizeof size);
    }
    return (size_t)hash;
}

static int moi_graph_same_op(const mo_graph *graph, const size_t *values, size_t x, size_t y) {
    const moi_graph_op *a = &graph->ops[x], *b = &graph->ops[y];
    if (a->n_inputs != b->n_inputs || a->n_outputs != b->n_outputs) return 0;
    if (strcmp(moi_graph_text(graph, a->kind), moi_graph_text(graph, b->kind)) != 0) return 0;
    if (strcmp(moi_graph_text(graph, a->attrs), moi_graph_text(graph, b->attrs)) != 0) return 0;
    for (size_t i = 0; i < a->n_inputs; i++)
        if (values[graph->numbers[a->inputs + i]] != values[graph->numbers[b->inputs + i]])
            return 0;
    for (size_t i = 0; i < a->n_outputs; i++) {
        const moi_graph_tensor *s = &graph->tensors[graph->numbers[a->outputs + i]];
        const moi_graph_tensor *t = &graph->tensors[graph->numbers[b->outputs + i]];
        if (s->size != t->size || s->align != t->align) return 0;
    }
    return 1;
}

/* The first op of the class of id; id itself where it is the first. */
static size_t moi_graph_class_of(const moi_graph_view *view, moi_graph_merge *merge, size_t id) {
    const moi_graph_op *op = &view->graph->ops[id];
    size_t mask = merge->n_slots - 1;
    if ((op->flags & (MO_GRAPH_EFFECT | MO_GRAPH_RANDOM)) || op->n_outputs == 0) return id;
    size_t hash = moi_graph_hash_op(view, merge->values, id), at = hash & mask;
    merge->hashes[id] = hash;
    for (; merge->slots[at]; at = (at + 1) & mask) {
        size_t other = merge->slots[at] - 1;
        if (merge->hashes[other] == hash &&
            moi_graph_same_op(view->graph, merge->values, other, id))
            return other;
    }
    merge->slots[at] = id + 1;
    return id;
}

static void moi_graph_find_classes(const moi_graph_view *view, moi_graph_merge *merge) {
    const mo_graph *graph = view->graph;
    for (size_t i = 0; i < view->n_tensors; i++) merge->values[i] = i;
    for (size_t step = 0; step < view->n_ops; step++) {
        size_t id = view->given[step], first = moi_graph_class_of(view, merge, id);
        const moi_graph_op *op = &graph->ops[id], *as = &graph->ops[first];
        merge->same[id] = first;
        if (first == id) merge->keepers[id] = id;
        else if (moi_graph_writes_output(graph, op) &&
            !moi_graph_writes_output(graph, &graph->ops[merge->keepers[first]]))
            merge->keepers[first] = id;
        for (size_t i = 0; i < op->n_outputs; i++)
            merge->values[graph->numbers[op->outputs + i]] = graph->numbers[as->outputs + i];
    }
}

/* Every op that is not its class's keeper goes, unless it writes an output of the graph. */
static void moi_graph_cut_classes(
    const moi_graph_view *view, const moi_graph_merge *merge, moi_graph_cut *cut) {
    const mo_graph *graph = view->graph;
    for (size_t i = 0; i < view->n_tensors; i++) cut->tensors[i] = i;
    for (size_t id = 0; id < view->n_ops; id++) {
        const moi_graph_op *op = &graph->ops[id];
        size_t keeper = merge->keepers[merge->same[id]];
        cut->ops[id] = moi_graph_writes_output(graph, op) ? id : keeper;
        if (cut->ops[id] == id) continue;
        for (size_t i = 0; i < op->n_outputs; i++)
            cut->tensors[graph->numbers[op->outputs + i]] =
                graph->numbers[graph->ops[keeper].outputs + i];
    }
}

static mo_status moi_graph_decide_merge(moi_graph_view *view, moi_graph_cut *cut) {
    moi_graph_merge merge;
    size_t n = view->n_ops;
    merge.n_slots = MOI_GRAPH_FIRST_SIZE;
    while (merge.n_slots / 2 <= n) merge.n_slots *= 2;
    merge.same = moi_graph_alloc(view, n);
    merge.keepers = moi_graph_alloc(view, n);
    merge.hashes = moi_graph_alloc(view, n);
    merge.values = moi_graph_alloc(view, view->n_tensors);
    merge.slots = moi_graph_alloc(view, merge.n_slots);
    int ok = merge.same && merge.keepers && merge.hashes && merge.values && merge.slots;
    if (ok) {
        memset(merge.slots, 0, merge.n_slots * sizeof *merge.slots);
        moi_graph_find_classes(view, &merge);
        moi_graph_cut_classes(view, &merge, cut);
    }
    moi_graph_free(view, merge.same, n);
    moi_graph_free(view, merge.keepers, n);
    moi_graph_free(view, merge.hashes, n);
    moi_graph_free(view, merge.values, view->n_tensors);
    moi_graph_free(view, merge.slots, merge.n_slots);
    return ok ? MO_OK : MO_E_NO_MEMORY;
}

mo_status mo_graph_merge(mo_graph *graph, size_t *op_map, size_t *tensor_map) {
    return moi_graph_pass(graph, moi_graph_decide_merge, op_map, tensor_map);
}
