/* mo_graph_greedy.c - see mo_graph.h. Orders by list scheduling: of the ops that can be done, the
 * one after which the fewest bytes are live.
 *
 * Backwards the same is asked of the last op: before which one are the fewest bytes live? Keys only
 * ever get smaller, by tensors of which one reader is left, or backwards by tensors that are live
 * already; so a heap of ops with their places is enough. */

#define MOI_GRAPH_ZERO (SIZE_MAX / 2 + 1) /* a key of no growth; sums of sizes are below it */
#define MOI_GRAPH_DONE (SIZE_MAX - 1)     /* the place of an op that is done; SIZE_MAX: not ready */

typedef enum moi_graph_rule {
    MOI_GRAPH_NEWEST,      /* of equal ones that which could be done last */
    MOI_GRAPH_FIRST,       /* that which comes first in the order as given */
    MOI_GRAPH_AHEAD,       /* as before; a key counts the best op that only waits for it */
    MOI_GRAPH_BACK_NEWEST, /* from the last op backwards */
    MOI_GRAPH_BACK_LAST,
    MOI_GRAPH_RULES
} moi_graph_rule;

/* growth   [ops] of the live bytes, + MOI_GRAPH_ZERO
 * ahead    [ops] the smallest growth of an op that only waits for this one, + MOI_GRAPH_ZERO
 * rank     [ops] which of equal growth comes first
 * waits    [ops] how many of its reads are not written; backwards: reads of its outputs not done
 * awaited  [ops] who writes the one tensor that it waits for; SIZE_MAX = not looked up
 * left     [tensors] readers not done; backwards: 0 = live already
 * step_of  [ops] step in the order as given */
typedef struct moi_graph_sched {
    moi_graph_view *view;
    moi_graph_rule rule;
    size_t *growth, *ahead, *rank, *waits, *left, *step_of;
    size_t *awaited, *heap, *place;
    size_t n_heap, n_ready;
} moi_graph_sched;

/* ---- the heap ------------------------------------------------------------------------------ */

static size_t moi_graph_sched_key(const moi_graph_sched *s, size_t op) {
    size_t gain = s->rule == MOI_GRAPH_AHEAD ? s->ahead[op] - MOI_GRAPH_ZERO : 0;
    return s->growth[op] + gain; /* gain is 0 or below, modulo the range of size_t */
}

static int moi_graph_sched_less(const moi_graph_sched *s, size_t x, size_t y) {
    size_t a = moi_graph_sched_key(s, x), b = moi_graph_sched_key(s, y);
    return a != b ? a < b : s->rank[x] < s->rank[y];
}

static void moi_graph_sched_set(moi_graph_sched *s, size_t at, size_t op) {
    s->heap[at] = op;
    s->place[op] = at;
}

/* Up to where it belongs: its key got smaller. */
static void moi_graph_sched_up(moi_graph_sched *s, size_t op) {
    size_t at = s->place[op];
    if (at >= MOI_GRAPH_DONE) return;
    for (; at > 0 && moi_graph_sched_less(s, op, s->heap[(at - 1) / 2]); at = (at - 1) / 2)
        moi_graph_sched_set(s, at, s->heap[(at - 1) / 2]);
    moi_graph_sched_set(s, at, op);
}

static void moi_graph_sched_push(moi_graph_sched *s, size_t op) {
    size_t n = s->view->n_ops, number = s->n_ready++;
    if (s->rule == MOI_GRAPH_NEWEST || s->rule == MOI_GRAPH_BACK_NEWEST) s->rank[op] = n - number;
    else s->rank[op] = s->rule == MOI_GRAPH_BACK_LAST ? n - s->step_of[op] : s->step_of[op];
    moi_graph_sched_set(s, s->n_heap++, op);
    moi_graph_sched_up(s, op);
}

static size_t moi_graph_sched_pop(moi_graph_sched *s) {
    size_t top = s->heap[0], op = s->heap[--s->n_heap], at = 0;
    for (size_t child; (child = 2 * at + 1) < s->n_heap; at = child) {
        if (child + 1 < s->n_heap && moi_graph_sched_less(s, s->heap[child + 1], s->heap[child]))
            child++;
        if (!moi_graph_sched_less(s, s->heap[child], op)) break;
        moi_graph_sched_set(s, at, s->heap[child]);
    }
    if (s->n_heap) moi_graph_sched_set(s, at, op);
    s->place[top] = MOI_GRAPH_DONE;
    return top;
}

/* ---- forwards ------------------------------------------------------------------------------ */

static size_t moi_graph_size_of(const moi_graph_sched *s, size_t tensor) {
    return s->view->graph->tensors[tensor].size;
}

/* The writer of the one tensor that op waits for; SIZE_MAX while that writer is being done. */
static size_t moi_graph_sched_awaited(moi_graph_sched *s, size_t op) {
    const moi_graph_view *view = s->view;
    for (size_t k = view->reads.begin[op];
         k < view->reads.begin[op + 1] && s->awaited[op] == SIZE_MAX; k++) {
        size_t writer = view->graph->tensors[view->reads.at[k]].writer;
        if (writer != SIZE_MAX && s->place[writer] != MOI_GRAPH_DONE) s->awaited[op] = writer;
    }
    return s->awaited[op];
}

/* An op that only waits for one tensor lends its growth to the writer, when that is smaller. */
static void moi_graph_sched_lend(moi_graph_sched *s, size_t op) {
    if (s->rule != MOI_GRAPH_AHEAD || s->waits[op] != 1) return;
    size_t writer = moi_graph_sched_awaited(s, op);
    if (writer == SIZE_MAX || s->growth[op] >= s->ahead[writer]) return;
    s->ahead[writer] = s->growth[op];
    moi_graph_sched_up(s, writer);
}

/* The one reader of the tensor that is left will free it. */
static void moi_graph_sched_last_reader(moi_graph_sched *s, size_t tensor) {
    const moi_graph_lists *readers = &s->view->readers;
    size_t k = readers->begin[tensor];
    while (s->place[readers->at[k]] == MOI_GRAPH_DONE) k++;
    s->growth[readers->at[k]] -= moi_graph_size_of(s, tensor);
    moi_graph_sched_up(s, readers->at[k]);
    moi_graph_sched_lend(s, readers->at[k]);
}

static void moi_graph_sched_forwards(moi_graph_sched *s, size_t op) {
    const moi_graph_view *view = s->view;
    const moi_graph_op *from = &view->graph->ops[op];
    for (size_t k = view->reads.begin[op]; k < view->reads.begin[op + 1]; k++) {
        size_t tensor = view->reads.at[k];
        if (--s->left[tensor] == 1 && !view->kept[tensor]) moi_graph_sched_last_reader(s, tensor);
    }
    for (size_t i = 0; i < from->n_outputs; i++) {
        size_t tensor = view->graph->numbers[from->outputs + i];
        for (size_t k = view->readers.begin[tensor]; k < view->readers.begin[tensor + 1]; k++) {
            size_t reader = view->readers.at[k];
            if (--s->waits[reader] == 0) moi_graph_sched_push(s, reader);
            else moi_graph_sched_lend(s, reader);
        }
    }
}

static void moi_graph_sched_begin_forwards(moi_graph_sched *s) {
    const moi_graph_view *view = s->view;
    for (size_t op = 0; op < view->n_ops; op++) {
        s->growth[op] = MOI_GRAPH_ZERO + view->made[op] - view->dead[op];
        s->waits[op] = 0;
        for (size_t k = view->reads.begin[op]; k < view->reads.begin[op + 1]; k++) {
            size_t tensor = view->reads.at[k];
            s->waits[op] += view->graph->tensors[tensor].writer != SIZE_MAX;
            if (s->left[tensor] == 1 && !view->kept[tensor])
                s->growth[op] -= moi_graph_size_of(s, tensor);
        }
    }
    for (size_t op = 0; op < view->n_ops; op++) moi_graph_sched_lend(s, op);
}

/* ---- backwards ----------------------------------------------------------------------------- */

/* The tensor is live now whatever comes before it. */
static void moi_graph_sched_revive(moi_graph_sched *s, size_t tensor) {
    const moi_graph_lists *readers = &s->view->readers;
    if (s->left[tensor] == 0 || s->view->kept[tensor]) return;
    s->left[tensor] = 0;
    for (size_t k = readers->begin[tensor]; k < readers->begin[tensor + 1]; k++) {
        s->growth[readers->at[k]] -= moi_graph_size_of(s, tensor);
        moi_graph_sched_up(s, readers->at[k]);
    }
}

static void moi_graph_sched_backwards(moi_graph_sched *s, size_t op) {
    const moi_graph_view *view = s->view;
    for (size_t k = view->reads.begin[op]; k < view->reads.begin[op + 1]; k++) {
        size_t tensor = view->reads.at[k], writer = view->graph->tensors[tensor].writer;
        moi_graph_sched_revive(s, tensor);
        if (writer != SIZE_MAX && --s->waits[writer] == 0) moi_graph_sched_push(s, writer);
    }
}

static void moi_graph_sched_begin_backwards(moi_graph_sched *s) {
    const moi_graph_view *view = s->view;
    for (size_t op = 0; op < view->n_ops; op++) {
        const moi_graph_op *from = &view->graph->ops[op];
        s->growth[op] = MOI_GRAPH_ZERO - (view->made[op] - view->dead[op]);
        s->waits[op] = 0;
        for (size_t i = 0; i < from->n_outputs; i++)
            s->waits[op] += s->left[view->graph->numbers[from->outputs + i]];
        for (size_t k = view->reads.begin[op]; k < view->reads.begin[op + 1]; k++)
            if (!view->kept[view->reads.at[k]])
                s->growth[op] += moi_graph_size_of(s, view->reads.at[k]);
    }
}

/* ---- the call ------------------------------------------------------------------------------ */

static int moi_graph_is_back(moi_graph_rule rule) { return rule >= MOI_GRAPH_BACK_NEWEST; }

static void moi_graph_sched_run(moi_graph_sched *s, moi_graph_rule rule, size_t *order) {
    const moi_graph_view *view = s->view;
    size_t n = view->n_ops;
    s->rule = rule;
    s->n_heap = s->n_ready = 0;
    for (size_t i = 0; i < view->n_tensors; i++) s->left[i] = moi_graph_n_readers(view, i);
    for (size_t i = 0; i < n; i++) {
        s->place[i] = s->awaited[i] = SIZE_MAX;
        s->ahead[i] = MOI_GRAPH_ZERO;
        s->step_of[view->given[i]] = i;
    }
    if (moi_graph_is_back(rule)) moi_graph_sched_begin_backwards(s);
    else moi_graph_sched_begin_forwards(s);
    for (size_t i = 0; i < n; i++)
        if (s->waits[view->given[i]] == 0) moi_graph_sched_push(s, view->given[i]);
    for (size_t i = 0; i < n; i++) {
        size_t op = moi_graph_sched_pop(s);
        order[moi_graph_is_back(rule) ? n - 1 - i : i] = op;
        if (moi_graph_is_back(rule)) moi_graph_sched_backwards(s, op);
        else moi_graph_sched_forwards(s, op);
    }
}

static void moi_graph_sched_free(moi_graph_sched *s) {
    size_t n = s->view->n_ops;
    moi_graph_free(s->view, s->growth, n);
    moi_graph_free(s->view, s->ahead, n);
    moi_graph_free(s->view, s->rank, n);
    moi_graph_free(s->view, s->waits, n);
    moi_graph_free(s->view, s->step_of, n);
    moi_graph_free(s->view, s->awaited, n);
    moi_graph_free(s->view, s->heap, n);
    moi_graph_free(s->view, s->place, n);
    moi_graph_free(s->view, s->left, s->view->n_tensors);
}

static mo_status moi_graph_sched_alloc(moi_graph_sched *s, moi_graph_view *view) {
    size_t n = view->n_ops;
    memset(s, 0, sizeof *s);
    s->view = view;
    s->growth = moi_graph_alloc(view, n);
    s->ahead = moi_graph_alloc(view, n);
    s->rank = moi_graph_alloc(view, n);
    s->waits = moi_graph_alloc(view, n);
    s->step_of = moi_graph_alloc(view, n);
    s->awaited = moi_graph_alloc(view, n);
    s->heap = moi_graph_alloc(view, n);
    s->place = moi_graph_alloc(view, n);
    s->left = moi_graph_alloc(view, view->n_tensors);
    if (s->growth && s->ahead && s->rank && s->waits && s->step_of && s->awaited && s->heap &&
        s->place && s->left)
        return MO_OK;
    moi_graph_sched_free(s);
    return MO_E_NO_MEMORY;
}

#undef MOI_GRAPH_ZERO
#undef MOI_GRAPH_DONE
