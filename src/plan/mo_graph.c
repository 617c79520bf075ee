/* mo_graph.c - see mo_graph.h. Building, and the passes that drop and merge. */

enum { MOI_GRAPH_FLAGS = MO_GRAPH_INPUT | MO_GRAPH_OUTPUT | MO_GRAPH_REUSE };
enum { MOI_GRAPH_FIRST_SIZE = 16 };

/* ---- storage ------------------------------------------------------------------------------- */

static const char *moi_graph_text(const mo_graph *graph, size_t at) {
    return graph->characters + at;
}

static const char *moi_graph_tensor_name(const mo_graph *graph, size_t id) {
    return moi_graph_text(graph, graph->tensors[id].name);
}

static const char *moi_graph_op_name(const mo_graph *graph, size_t id) {
    return moi_graph_text(graph, graph->ops[id].name);
}

/* Room for `more` elements behind the n that are there. */
static mo_status moi_graph_reserve(
    mo_graph *graph, void **array, size_t n, size_t *max, size_t more, size_t size) {
    size_t need, bytes, grown = *max ? *max : (size_t)MOI_GRAPH_FIRST_SIZE;
    if (!moi_add(n, more, &need)) return MO_E_OVERFLOW;
    if (need <= *max) return MO_OK;
    while (grown < need)
        if (!moi_mul(grown, 2, &grown)) return MO_E_OVERFLOW;
    if (!moi_mul(grown, size, &bytes)) return MO_E_OVERFLOW;
    void *moved = moi_alloc_array(&graph->allocator, grown, size);
    if (!moved) return MO_E_NO_MEMORY;
    if (n) memcpy(moved, *array, n * size);
    moi_free_array(&graph->allocator, *array, *max, size);
    *array = moved;
    *max = grown;
    return MO_OK;
}

static mo_status moi_graph_reserve_numbers(mo_graph *graph, size_t more) {
    void *array = graph->numbers;
    mo_status status = moi_graph_reserve(
        graph, &array, graph->n_numbers, &graph->max_numbers, more, sizeof *graph->numbers);
    graph->numbers = (size_t *)array;
    return status;
}

static mo_status moi_graph_reserve_pairs(mo_graph *graph, size_t more) {
    void *array = graph->pairs;
    mo_status status = moi_graph_reserve(
        graph, &array, graph->n_pairs, &graph->max_pairs, more, sizeof *graph->pairs);
    graph->pairs = (mo_graph_alias *)array;
    return status;
}

static mo_status moi_graph_reserve_characters(mo_graph *graph, size_t more) {
    void *array = graph->characters;
    mo_status status =
        moi_graph_reserve(graph, &array, graph->n_characters, &graph->max_characters, more, 1);
    graph->characters = (char *)array;
    return status;
}

static mo_status moi_graph_reserve_tensor(mo_graph *graph) {
    void *array = graph->tensors;
    mo_status status = moi_graph_reserve(
        graph, &array, graph->n_tensors, &graph->max_tensors, 1, sizeof *graph->tensors);
    graph->tensors = (moi_graph_tensor *)array;
    return status;
}

static mo_status moi_graph_reserve_op(mo_graph *graph) {
    void *array = graph->ops;
    mo_status status =
        moi_graph_reserve(graph, &array, graph->n_ops, &graph->max_ops, 1, sizeof *graph->ops);
    graph->ops = (moi_graph_op *)array;
    return status;
}

/* Behind a reservation. */
static size_t moi_graph_put_text(mo_graph *graph, const char *text) {
    size_t at = graph->n_characters, size = strlen(text) + 1;
    memcpy(graph->characters + at, text, size);
    graph->n_characters += size;
    return at;
}

static size_t moi_graph_put_numbers(mo_graph *graph, const size_t *from, size_t n) {
    size_t at = graph->n_numbers;
    if (n) memcpy(graph->numbers + at, from, n * sizeof *from);
    graph->n_numbers += n;
    return at;
}

/* ---- names --------------------------------------------------------------------------------- */

/* FNV-1a, over a text or over numbers, then mixed so that the low bits depend on all. */
static uint64_t moi_graph_hash(uint64_t hash, const void *bytes, size_t size) {
    const unsigned char *at = (const unsigned char *)bytes;
    for (size_t i = 0; i < size; i++) hash = (hash ^ at[i]) * 0x100000001b3u;
    return hash ^ hash >> 29;
}

static const char *moi_graph_name_of(const mo_graph *graph, int is_op, size_t id) {
    return is_op ? moi_graph_op_name(graph, id) : moi_graph_tensor_name(graph, id);
}

/* The slot that holds the name, or the free one where it belongs. */
static size_t *moi_graph_slot(const mo_graph *graph, int is_op, const char *name) {
    const moi_graph_names *names = is_op ? &graph->op_names : &graph->tensor_names;
    size_t mask = names->n_slots - 1;
    size_t at = (size_t)moi_graph_hash(0xcbf29ce484222325u, name, strlen(name)) & mask;
    for (; names->slots[at]; at = (at + 1) & mask)
        if (strcmp(moi_graph_name_of(graph, is_op, names->slots[at] - 1), name) == 0) break;
    return &names->slots[at];
}

static size_t moi_graph_find(const mo_graph *graph, int is_op, const char *name) {
    const moi_graph_names *names = is_op ? &graph->op_names : &graph->tensor_names;
    if (names->n_slots == 0) return SIZE_MAX;
    return *moi_graph_slot(graph, is_op, name) - 1; /* 0 - 1 = SIZE_MAX: not there */
}

static void moi_graph_enter_all(mo_graph *graph, int is_op) {
    moi_graph_names *names = is_op ? &graph->op_names : &graph->tensor_names;
    size_t n = is_op ? graph->n_ops : graph->n_tensors;
    if (names->n_slots) memset(names->slots, 0, names->n_slots * sizeof *names->slots);
    for (size_t i = 0; i < n; i++)
        *moi_graph_slot(graph, is_op, moi_graph_name_of(graph, is_op, i)) = i + 1;
}

/* Room for one more name. */
static mo_status moi_graph_reserve_name(mo_graph *graph, int is_op) {
    moi_graph_names *names = is_op ? &graph->op_names : &graph->tensor_names, old = *names;
    size_t n = is_op ? graph->n_ops : graph->n_tensors, bytes;
    if (n < old.n_slots / 2) return MO_OK;
    size_t grown = old.n_slots ? 2 * old.n_slots : 4 * MOI_GRAPH_FIRST_SIZE;
    if (!moi_mul(grown, sizeof *old.slots, &bytes)) return MO_E_OVERFLOW;
    size_t *slots = (size_t *)moi_alloc_array(&graph->allocator, grown, sizeof *slots);
    if (!slots) return MO_E_NO_MEMORY;
    moi_free_array(&graph->allocator, old.slots, old.n_slots, sizeof *slots);
    names->slots = slots;
    names->n_slots = grown;
    moi_graph_enter_all(graph, is_op);
    return MO_OK;
}

/* ---- building ------------------------------------------------------------------------------ */

mo_status mo_graph_create(const mo_graph_desc *desc, mo_graph **graph) {
    if (!graph) return MO_E_INVALID;
    mo_allocator allocator =
        desc && desc->allocator && desc->allocator->alloc ? *desc->allocator : mo_allocator_heap();
    mo_graph *made = (mo_graph *)mo_alloc(&allocator, sizeof *made, MOI_CACHE_LINE);
    if (!made) return MO_E_NO_MEMORY;
    memset(made, 0, sizeof *made);
    made->allocator = allocator;
    if (desc && desc->log) made->log = *desc->log;
    *graph = made;
    return MO_OK;
}

void mo_graph_destroy(mo_graph *graph) {
    if (!graph) return;
    mo_allocator allocator = graph->allocator;
    moi_free_array(&allocator, graph->tensors, graph->max_tensors, sizeof *graph->tensors);
    moi_free_array(&allocator, graph->ops, graph->max_ops, sizeof *graph->ops);
    moi_free_array(&allocator, graph->numbers, graph->max_numbers, sizeof *graph->numbers);
    moi_free_array(&allocator, graph->pairs, graph->max_pairs, sizeof *graph->pairs);
    moi_free_array(&allocator, graph->characters, graph->max_characters, 1);
    moi_free_array(&allocator, graph->tensor_names.slots, graph->tensor_names.n_slots,
        sizeof *graph->tensor_names.slots);
    moi_free_array(
        &allocator, graph->op_names.slots, graph->op_names.n_slots, sizeof *graph->op_names.slots);
    mo_free(&allocator, graph, sizeof *graph, MOI_CACHE_LINE);
}

static mo_status moi_graph_check_tensor(const mo_graph *graph, const mo_graph_tensor *tensor) {
    const char *wrong = NULL;
    if (!tensor->name || !tensor->name[0]) wrong = "has no name";
    else if (moi_graph_find(graph, 0, tensor->name) != SIZE_MAX) wrong = "is there already";
    else if (tensor->align && !moi_is_pow2(tensor->align)) wrong = "alignment is no power of two";
    else if ((unsigned)tensor->category >= MO_CATEGORY_COUNT) wrong = "category does not exist";
    else if (tensor->flags & ~(unsigned)MOI_GRAPH_FLAGS) wrong = "flag does not exist";
    else if ((tensor->flags & MO_GRAPH_REUSE) && !(tensor->flags & MO_GRAPH_INPUT))
        wrong = "reuse is for inputs of the graph";
    if (!wrong) return MO_OK;
    moi_log(&graph->log, MO_LOG_ERROR, "graph: tensor '%s': %s", tensor->name ? tensor->name : "",
        wrong);
    return MO_E_INVALID;
}

mo_status mo_graph_add_tensor(mo_graph *graph, const mo_graph_tensor *tensor, size_t *id) {
    size_t total;
    if (!graph || !tensor) return MO_E_INVALID;
    mo_status status = moi_graph_check_tensor(graph, tensor);
    if (status != MO_OK) return status;
    if (!moi_add(graph->total_bytes, tensor->size, &total) || total > SIZE_MAX / 2) {
        moi_log(&graph->log, MO_LOG_ERROR, "graph: tensor '%s': the sum of all sizes is too large",
            tensor->name);
        return MO_E_OVERFLOW;
    }
    status = moi_graph_reserve_tensor(graph);
    if (status == MO_OK) status = moi_graph_reserve_name(graph, 0);
    if (status == MO_OK) status = moi_graph_reserve_characters(graph, strlen(tensor->name) + 1);
    if (status != MO_OK) return status;
    moi_graph_tensor *made = &graph->tensors[graph->n_tensors];
    memset(made, 0, sizeof *made);
    *moi_graph_slot(graph, 0, tensor->name) = graph->n_tensors + 1;
    made->name = moi_graph_put_text(graph, tensor->name);
    made->size = tensor->size;
    made->align = tensor->align;
    made->category = tensor->category;
    made->flags = tensor->flags;
    made->writer = SIZE_MAX;
    graph->total_bytes = total;
    if (id) *id = graph->n_tensors;
    graph->n_tensors++;
    return MO_OK;
}

static mo_status moi_graph_check_op(const mo_graph *graph, const mo_graph_op *op) {
    const char *wrong = NULL;
    if (!op->name || !op->name[0]) wrong = "has no name";
    else if (moi_graph_find(graph, 1, op->name) != SIZE_MAX) wrong = "is there already";
    else if (!op->kind || !op->kind[0]) wrong = "has no kind";
    else if (!(op->cost_s >= 0 && op->cost_s < HUGE_VAL)) wrong = "cost is negative or no number";
    else if (op->flags & ~(unsigned)(MO_GRAPH_EFFECT | MO_GRAPH_RANDOM))
        wrong = "flag does not exist";
    else if ((op->n_inputs && !op->inputs) || (op->n_outputs && !op->outputs) ||
        (op->n_aliases && !op->aliases))
        wrong = "a list is NULL";
    if (!wrong) return MO_OK;
    moi_log(&graph->log, MO_LOG_ERROR, "graph: op '%s': %s", op->name ? op->name : "", wrong);
    return MO_E_INVALID;
}

static mo_status moi_graph_wrong_tensor(
    const mo_graph *graph, const mo_graph_op *op, size_t id, const char *wrong) {
    if (id < graph->n_tensors)
        moi_log(&graph->log, MO_LOG_ERROR, "graph: op '%s': tensor '%s' %s", op->name,
            moi_graph_tensor_name(graph, id), wrong);
    else moi_log(&graph->log, MO_LOG_ERROR, "graph: op '%s': there is no tensor %zu", op->name, id);
    return MO_E_INVALID;
}

/* Marks the inputs with one stamp, the outputs with the next, and checks both. */
static mo_status moi_graph_mark_tensors(mo_graph *graph, const mo_graph_op *op) {
    size_t reads = ++graph->n_marks, writes = ++graph->n_marks;
    for (size_t i = 0; i < op->n_inputs; i++) {
        if (op->inputs[i] >= graph->n_tensors)
            return moi_graph_wrong_tensor(graph, op, op->inputs[i], "");
        graph->tensors[op->inputs[i]].mark = reads;
    }
    for (size_t i = 0; i < op->n_outputs; i++) {
        size_t id = op->outputs[i];
        const char *wrong = NULL;
        if (id >= graph->n_tensors) return moi_graph_wrong_tensor(graph, op, id, "");
        moi_graph_tensor *tensor = &graph->tensors[id];
        if (tensor->mark == reads) wrong = "is read and written by it";
        else if (tensor->flags & MO_GRAPH_INPUT) wrong = "is an input of the graph";
        else if (tensor->writer != SIZE_MAX || tensor->mark == writes) wrong = "is written twice";
        if (wrong) return moi_graph_wrong_tensor(graph, op, id, wrong);
        tensor->mark = writes;
        tensor->slot = i;
    }
    for (size_t i = 0; i < op->n_aliases; i++) {
        const mo_graph_alias *pair = &op->aliases[i];
        if (pair->output >= graph->n_tensors || graph->tensors[pair->output].mark != writes)
            return moi_graph_wrong_tensor(graph, op, pair->output, "is not its output");
        if (pair->input >= graph->n_tensors || graph->tensors[pair->input].mark != reads)
            return moi_graph_wrong_tensor(graph, op, pair->input, "is not its input");
    }
    return MO_OK;
}

static mo_status moi_graph_reserve_for_op(mo_graph *graph, const mo_graph_op *op) {
    size_t numbers, characters = strlen(op->name) + 1;
    if (!moi_add(op->n_inputs, op->n_outputs, &numbers)) return MO_E_OVERFLOW;
    if (!moi_add(characters, strlen(op->kind) + 1, &characters)) return MO_E_OVERFLOW;
    if (!moi_add(characters, op->attrs ? strlen(op->attrs) + 1 : 1, &characters))
        return MO_E_OVERFLOW;
    mo_status status = moi_graph_reserve_op(graph);
    if (status == MO_OK) status = moi_graph_reserve_name(graph, 1);
    if (status == MO_OK) status = moi_graph_reserve_numbers(graph, numbers);
    if (status == MO_OK) status = moi_graph_reserve_pairs(graph, op->n_aliases);
    if (status == MO_OK) status = moi_graph_reserve_characters(graph, characters);
    return status;
}

/* By output, in the order of the op's outputs; pairs of one output stay as they are. Nearly always
 * they come sorted. */
static void moi_graph_put_aliases(mo_graph *graph, const mo_graph_op *op) {
    mo_graph_alias *pairs = graph->pairs + graph->n_pairs;
    for (size_t i = 0; i < op->n_aliases; i++) {
        size_t at = i, slot = graph->tensors[op->aliases[i].output].slot;
        for (; at > 0 && graph->tensors[pairs[at - 1].output].slot > slot; at--)
            pairs[at] = pairs[at - 1];
        pairs[at] = op->aliases[i];
    }
    graph->n_pairs += op->n_aliases;
}

mo_status mo_graph_add_op(mo_graph *graph, const mo_graph_op *op, size_t *id) {
    if (!graph || !op) return MO_E_INVALID;
    mo_status status = moi_graph_check_op(graph, op);
    if (status == MO_OK) status = moi_graph_mark_tensors(graph, op);
    if (status == MO_OK) status = moi_graph_reserve_for_op(graph, op);
    if (status != MO_OK) return status;
    moi_graph_op *made = &graph->ops[graph->n_ops];
    memset(made, 0, sizeof *made);
    *moi_graph_slot(graph, 1, op->name) = graph->n_ops + 1;
    made->name = moi_graph_put_text(graph, op->name);
    made->kind = moi_graph_put_text(graph, op->kind);
    made->attrs = moi_graph_put_text(graph, op->attrs ? op->attrs : "");
    made->cost_s = op->cost_s;
    made->flags = op->flags;
    made->n_inputs = op->n_inputs;
    made->n_outputs = op->n_outputs;
    made->n_aliases = op->n_aliases;
    made->inputs = moi_graph_put_numbers(graph, op->inputs, op->n_inputs);
    made->outputs = moi_graph_put_numbers(graph, op->outputs, op->n_outputs);
    made->aliases = graph->n_pairs;
    moi_graph_put_aliases(graph, op);
    for (size_t i = 0; i < op->n_outputs; i++) graph->tensors[op->outputs[i]].writer = graph->n_ops;
    if (id) *id = graph->n_ops;
    graph->n_ops++;
    return MO_OK;
}

/* ---- looking ------------------------------------------------------------------------------- */

size_t mo_graph_n_tensors(const mo_graph *graph) { return graph ? graph->n_tensors : 0; }

size_t mo_graph_n_ops(const mo_graph *graph) { return graph ? graph->n_ops : 0; }

mo_status mo_graph_get_tensor(const mo_graph *graph, size_t id, mo_graph_tensor *tensor) {
    if (!graph || !tensor || id >= graph->n_tensors) return MO_E_INVALID;
    const moi_graph_tensor *from = &graph->tensors[id];
    tensor->name = moi_graph_text(graph, from->name);
    tensor->size = from->size;
    tensor->align = from->align;
    tensor->category = from->category;
    tensor->flags = from->flags;
    tensor->writer = from->writer;
    return MO_OK;
}

mo_status mo_graph_get_op(const mo_graph *graph, size_t id, mo_graph_op *op) {
    if (!graph || !op || id >= graph->n_ops) return MO_E_INVALID;
    const moi_graph_op *from = &graph->ops[id];
    op->name = moi_graph_text(graph, from->name);
    op->kind = moi_graph_text(graph, from->kind);
    op->attrs = moi_graph_text(graph, from->attrs);
    op->cost_s = from->cost_s;
    op->flags = from->flags;
    op->inputs = graph->numbers + from->inputs;
    op->n_inputs = from->n_inputs;
    op->outputs = graph->numbers + from->outputs;
    op->n_outputs = from->n_outputs;
    op->aliases = graph->pairs + from->aliases;
    op->n_aliases = from->n_aliases;
    return MO_OK;
}

size_t mo_graph_find_tensor(const mo_graph *graph, const char *name) {
    return graph && name ? moi_graph_find(graph, 0, name) : SIZE_MAX;
}

size_t mo_graph_find_op(const mo_graph *graph, const char *name) {
    return graph && name ? moi_graph_find(graph, 1, name) : SIZE_MAX;
}
