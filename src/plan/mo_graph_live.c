/* mo_graph_live.c - see mo_graph.h. Walks an order: live bytes, lifetimes, who takes over what. */

/* ---- in place ------------------------------------------------------------------------------ */

static int moi_graph_fits(const moi_graph_view *view, const mo_graph_alias *pair) {
    const moi_graph_tensor *output = &view->graph->tensors[pair->output];
    const moi_graph_tensor *input = &view->graph->tensors[pair->input];
    if (output->size == 0 || output->size > input->size) return 0;
    /* 0 is the layout's alignment, which is not known here */
    return output->align == input->align || (output->align && output->align <= input->align);
}

/* Which outputs of the op take over the inputs that are marked as dying; returns their bytes. */
static size_t moi_graph_match(moi_graph_view *view, size_t id, size_t *takes_over) {
    const moi_graph_op *op = &view->graph->ops[id];
    size_t bytes = 0, stamp = ++view->stamp;
    if (view->no_in_place) return 0;
    for (size_t i = 0; i < op->n_aliases; i++) {
        const mo_graph_alias *pair = &view->graph->pairs[op->aliases + i];
        if (!view->dying[pair->input] || view->taken[pair->input] == stamp) continue;
        if (view->taken[pair->output] == stamp || !moi_graph_fits(view, pair)) continue;
        view->taken[pair->input] = view->taken[pair->output] = stamp;
        bytes += view->graph->tensors[pair->output].size;
        if (takes_over) takes_over[pair->output] = pair->input;
    }
    return bytes;
}

/* ---- walking ------------------------------------------------------------------------------- */

static void moi_graph_walk_free(const moi_graph_view *view, moi_graph_walk *walk) {
    moi_graph_free(view, walk->order, view->n_ops);
    moi_graph_free(view, walk->bytes, view->n_ops);
    moi_graph_free(view, walk->before, view->n_ops);
    moi_graph_free(view, walk->last, view->n_tensors);
}

static mo_status moi_graph_walk_alloc(const moi_graph_view *view, moi_graph_walk *walk) {
    walk->order = moi_graph_alloc(view, view->n_ops);
    walk->bytes = moi_graph_alloc(view, view->n_ops);
    walk->before = moi_graph_alloc(view, view->n_ops);
    walk->last = moi_graph_alloc(view, view->n_tensors);
    if (walk->order && walk->bytes && walk->before && walk->last) return MO_OK;
    moi_graph_walk_free(view, walk);
    return MO_E_NO_MEMORY;
}

static size_t moi_graph_input_bytes(const moi_graph_view *view) {
    size_t bytes = 0;
    for (size_t i = 0; i < view->n_tensors; i++)
        if (view->graph->tensors[i].flags & MO_GRAPH_INPUT) bytes += view->graph->tensors[i].size;
    return bytes;
}

/* The last step of every tensor that the ops of the steps [begin, end) read, where they are the
 * last readers. */
static void moi_graph_walk_last(
    const moi_graph_view *view, moi_graph_walk *walk, size_t begin, size_t end) {
    for (size_t step = begin; step < end; step++) {
        size_t id = walk->order[step];
        for (size_t k = view->reads.begin[id]; k < view->reads.begin[id + 1]; k++) {
            size_t *last = &walk->last[view->reads.at[k]];
            if (*last < end) *last = step;
        }
    }
}

/* The live bytes of the steps [begin, end); live bytes before begin are known. Returns the most. */
static size_t moi_graph_walk_steps(moi_graph_view *view, moi_graph_walk *walk, size_t begin,
    size_t end, size_t live, size_t *takes_over) {
    size_t peak = 0;
    for (size_t step = begin; step < end; step++) {
        size_t id = walk->order[step], freed = view->dead[id];
        const size_t *reads = view->reads.at + view->reads.begin[id];
        size_t n_reads = view->reads.begin[id + 1] - view->reads.begin[id];
        for (size_t k = 0; k < n_reads; k++) {
            if (view->kept[reads[k]] || walk->last[reads[k]] != step) continue;
            view->dying[reads[k]] = 1;
            freed += view->graph->tensors[reads[k]].size;
        }
        walk->before[step] = live;
        walk->bytes[step] = live + view->made[id] - moi_graph_match(view, id, takes_over);
        live = live + view->made[id] - freed;
        peak = moi_max(peak, walk->bytes[step]);
        for (size_t k = 0; k < n_reads; k++) view->dying[reads[k]] = 0;
    }
    return peak;
}

/* All of it, for the order that stands in walk->order; without ops the inputs are the peak. */
static size_t moi_graph_walk_all(moi_graph_view *view, moi_graph_walk *walk, size_t *takes_over) {
    size_t inputs = moi_graph_input_bytes(view);
    for (size_t i = 0; i < view->n_tensors; i++) walk->last[i] = 0;
    moi_graph_walk_last(view, walk, 0, view->n_ops);
    size_t peak = moi_graph_walk_steps(view, walk, 0, view->n_ops, inputs, takes_over);
    return view->n_ops ? peak : inputs;
}

/* ---- lifetimes ----------------------------------------------------------------------------- */

/* Whether every op stands once, behind those that it needs. missing becomes the steps, + 1. */
static mo_status moi_graph_check_order(const moi_graph_view *view, const size_t *order) {
    const mo_graph *graph = view->graph;
    memset(view->missing, 0, (view->n_ops + 1) * sizeof *view->missing);
    for (size_t step = 0; step < view->n_ops; step++) {
        size_t id = order[step];
        if (id >= view->n_ops || view->missing[id] != 0) {
            moi_log(&graph->log, MO_LOG_ERROR, "graph: order: step %zu: op %zu %s", step, id,
                id >= view->n_ops ? "does not exist" : "stands there twice");
            return MO_E_INVALID;
        }
        for (size_t k = view->reads.begin[id]; k < view->reads.begin[id + 1]; k++) {
            size_t tensor = view->reads.at[k], writer = graph->tensors[tensor].writer;
            if (writer == SIZE_MAX || view->missing[writer]) continue;
            moi_log(&graph->log, MO_LOG_ERROR,
                "graph: order: step %zu: op '%s' reads '%s' before it is written", step,
                moi_graph_op_name(graph, id), moi_graph_tensor_name(graph, tensor));
            return MO_E_INVALID;
        }
        view->missing[id] = step + 1;
    }
    return MO_OK;
}

static void moi_graph_fill_items(
    const moi_graph_view *view, const moi_graph_walk *walk, mo_layout_item *items) {
    for (size_t i = 0; i < view->n_tensors; i++) {
        const moi_graph_tensor *tensor = &view->graph->tensors[i];
        int is_input = tensor->flags & MO_GRAPH_INPUT;
        memset(&items[i], 0, sizeof items[i]);
        items[i].align = tensor->align;
        if (!is_input && tensor->writer == SIZE_MAX) continue;
        items[i].size = tensor->size;
        items[i].first = is_input ? 0 : view->missing[tensor->writer] - 1;
        items[i].last = items[i].first;
        if (view->kept[i]) items[i].last = view->n_ops ? view->n_ops - 1 : 0;
        else if (moi_graph_n_readers(view, i)) items[i].last = walk->last[i];
    }
}

static void moi_graph_fill_live(const moi_graph_view *view, const moi_graph_walk *walk,
    const size_t *takes_over, size_t peak, mo_graph_live *result) {
    memset(result, 0, sizeof *result);
    result->peak_bytes = peak;
    for (size_t step = view->n_ops; step > 0; step--)
        if (walk->bytes[step - 1] == peak) result->peak_step = step - 1;
    for (size_t i = 0; i < view->n_ops; i++) result->cost_s += view->graph->ops[i].cost_s;
    for (size_t i = 0; takes_over && i < view->n_tensors; i++) {
        if (takes_over[i] == SIZE_MAX) continue;
        result->n_in_place++;
        result->in_place_bytes += view->graph->tensors[i].size;
    }
}

/* Behind the checks; nothing here can fail. */
static void moi_graph_live_run(moi_graph_view *view, moi_graph_walk *walk, mo_layout_item *items,
    size_t *takes_over, size_t *live, mo_graph_live *result) {
    for (size_t i = 0; takes_over && i < view->n_tensors; i++) takes_over[i] = SIZE_MAX;
    size_t peak = moi_graph_walk_all(view, walk, takes_over);
    if (items) moi_graph_fill_items(view, walk, items);
    if (live && view->n_ops) memcpy(live, walk->bytes, view->n_ops * sizeof *live);
    if (result) moi_graph_fill_live(view, walk, takes_over, peak, result);
}

mo_status mo_graph_lifetimes(const mo_graph *graph, const size_t *order, mo_layout_item *items,
    size_t *takes_over, size_t *live, mo_graph_live *result) {
    moi_graph_view view;
    moi_graph_walk walk;
    if (!graph) return MO_E_INVALID;
    mo_status status = moi_graph_view_init(&view, graph);
    if (status != MO_OK) return status;
    view.no_in_place = !takes_over;
    if (!order) order = view.given;
    status = moi_graph_check_order(&view, order);
    if (status == MO_OK) status = moi_graph_walk_alloc(&view, &walk);
    if (status == MO_OK) {
        memcpy(walk.order, order, view.n_ops * sizeof *order);
        moi_graph_live_run(&view, &walk, items, takes_over, live, result);
        moi_graph_walk_free(&view, &walk);
    }
    moi_graph_view_free(&view);
    return status;
}
