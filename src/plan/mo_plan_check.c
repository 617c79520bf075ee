/* mo_plan_check.c - see mo_plan_check.h.
 *
 * Nothing here knows lifetimes. Every datum of the chain has a number: x[i], dx[i], each tensor of
 * each stage. A map says for each byte of the block which byte of which datum was last written
 * there. Writing replaces, reading compares, copying to the store takes entries along; so whatever
 * shares bytes with something that is still needed shows when that is read. */

/* Bytes [begin, end) hold datum id, whose first byte is at origin (modulo 2^64: it may lie before
 * the block after a copy of a part). step wrote them. */
typedef struct moi_check_node {
    size_t begin, end;
    size_t id, origin;
    size_t step;
} moi_check_node;

/* The nodes are disjoint and ascending; bytes between them were never written. */
typedef struct moi_check_map {
    moi_check_node *nodes;
    size_t n, capacity;
    size_t size; /* of what is mapped */
} moi_check_map;

/* A datum in one step: written at sub-step first, unless it is an input, and unharmed until before
 * sub-step end. */
typedef struct moi_check_value {
    const char *name;
    size_t id, off, size;
    size_t first, end;
    int is_input;
} moi_check_value;

typedef struct moi_check {
    const mo_plan_check_desc *desc;
    const mo_chain *chain;
    size_t align;
    moi_check_map block, store;
    size_t *first_ids;       /* [n_stages] of the stage's tensors */
    size_t *starts;          /* [2 * n_stages] the step that began the latest copy of x, of saved */
    mo_remat_op *ops;        /* [n_steps] */
    moi_check_value *values; /* [max_values] of the current step */
    size_t n_values, max_values;
    size_t at; /* the current step */
    mo_status status;
} moi_check;

/* ---- the map ------------------------------------------------------------------------------- */

/* The first node that ends behind a byte. */
static size_t moi_check_find(const moi_check_map *map, size_t byte) {
    size_t low = 0, high = map->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (map->nodes[middle].end <= byte) low = middle + 1;
        else high = middle;
    }
    return low;
}

static int moi_check_grow(moi_check_map *map, size_t n, const mo_allocator *from) {
    size_t capacity = map->capacity ? map->capacity : 64;
    if (n <= map->capacity) return 1;
    while (capacity < n) capacity *= 2;
    moi_check_node *nodes = (moi_check_node *)moi_alloc_array(from, capacity, sizeof *map->nodes);
    if (!nodes) return 0;
    if (map->n > 0) memcpy(nodes, map->nodes, map->n * sizeof *nodes);
    moi_free_array(from, map->nodes, map->capacity, sizeof *map->nodes);
    map->nodes = nodes;
    map->capacity = capacity;
    return 1;
}

/* A node takes its bytes from those that had them, which keep what sticks out on either side. */
static void moi_check_write(moi_check *c, moi_check_map *map, moi_check_node node) {
    moi_check_node parts[3];
    size_t first = moi_check_find(map, node.begin), last = first, n = 0;
    if (node.begin == node.end || c->status != MO_OK) return;
    while (last < map->n && map->nodes[last].begin < node.end) last++;
    if (first < last && map->nodes[first].begin < node.begin) {
        parts[n] = map->nodes[first];
        parts[n++].end = node.begin;
    }
    parts[n++] = node;
    if (first < last && map->nodes[last - 1].end > node.end) {
        parts[n] = map->nodes[last - 1];
        parts[n++].begin = node.end;
    }
    if (!moi_check_grow(map, map->n + n, c->desc->allocator)) {
        c->status = MO_E_NO_MEMORY;
        return;
    }
    memmove(map->nodes + first + n, map->nodes + last, (map->n - last) * sizeof *map->nodes);
    memcpy(map->nodes + first, parts, n * sizeof *parts);
    map->n += n - (last - first);
}

/* The first byte of [begin, end) that does not hold this datum; end when all do. *node: who holds
 * it, NULL = nobody. */
static size_t moi_check_compare(const moi_check_map *map, size_t begin, size_t end, size_t id,
    size_t origin, const moi_check_node **node) {
    size_t i = moi_check_find(map, begin);
    for (; begin < end; begin = map->nodes[i++].end) {
        *node = i < map->n && map->nodes[i].begin <= begin ? &map->nodes[i] : NULL;
        if (!*node || (*node)->id != id || (*node)->origin != origin) return begin;
    }
    return end;
}

/* ---- messages ------------------------------------------------------------------------------ */

static void moi_check_fail(moi_check *c, const char *name, const char *what) {
    const mo_step *step = &c->desc->steps[c->at];
    if (c->status != MO_OK) return;
    c->status = MO_E_INVALID;
    moi_log(c->desc->log, MO_LOG_ERROR, "plan: step %zu (%s of stage %zu %s): %s %s", c->at,
        moi_remat_op_name(step->op), step->stage,
        moi_remat_stage_name(&c->chain->stages[step->stage]), name, what);
}

static void moi_check_fail_byte(
    moi_check *c, const char *name, size_t byte, const moi_check_node *node) {
    char text[128];
    if (node)
        snprintf(
            text, sizeof text, "is not at byte %zu, which step %zu has written", byte, node->step);
    else snprintf(text, sizeof text, "is not at byte %zu, which nobody has written", byte);
    moi_check_fail(c, name, text);
}

/* ---- what a step touches ------------------------------------------------------------------- */

static size_t moi_check_id_x(size_t i) { return 1 + 2 * i; }
static size_t moi_check_id_dx(size_t i) { return 2 + 2 * i; }

/* An address as an offset in the block; 0 with a failed check when it does not fit there. */
static size_t moi_check_offset(
    moi_check *c, const char *name, const void *address, size_t size, size_t align) {
    uintptr_t off = (uintptr_t)address - (uintptr_t)c->desc->base;
    if ((uintptr_t)address < (uintptr_t)c->desc->base || off > c->desc->size ||
        size > c->desc->size - off)
        moi_check_fail(c, name, "is not within the block");
    else if (off < c->desc->fixed_bytes) moi_check_fail(c, name, "is among the fixed bytes");
    else if (off % align != 0) moi_check_fail(c, name, "is not aligned");
    else return (size_t)off;
    return 0;
}

static moi_check_value *moi_check_add(moi_check *c, const char *name, size_t id,
    const void *address, size_t size, size_t first, size_t end) {
    moi_check_value *value = &c->values[c->n_values];
    if (size == 0 || c->status != MO_OK) return NULL;
    if (!address) {
        moi_check_fail(c, name, "has no address");
        return NULL;
    }
    value->name = name;
    value->id = id;
    value->off = moi_check_offset(c, name, address, size, c->align);
    value->size = size;
    value->first = first;
    value->end = end;
    value->is_input = 0;
    c->n_values++;
    return value;
}

static void moi_check_add_input(
    moi_check *c, const char *name, size_t id, const void *address, size_t size, size_t end) {
    moi_check_value *value = moi_check_add(c, name, id, address, size, 0, end);
    if (value) value->is_input = 1;
}

static void moi_check_add_tensor(
    moi_check *c, const mo_step *step, const mo_stage_tensor *t, size_t i, size_t n_steps) {
    const char *name = moi_remat_tensor_name(t);
    size_t id = c->first_ids[step->stage] + i;
    const void *address = step->tensors[i];
    int is_kept = moi_remat_kept(t, step->light);
    if (!moi_remat_has(t, step->op == MO_STEP_BACKWARD, step->save, step->light)) return;
    if (step->op == MO_STEP_BACKWARD) {
        size_t end = (size_t)t->backward_last + 1;
        if (is_kept) moi_check_add_input(c, name, id, address, t->size, end);
        else moi_check_add(c, name, id, address, t->size, t->backward_first, end);
        return;
    }
    moi_check_add(c, name, id, address, t->size, t->forward_first,
        step->save && is_kept ? n_steps : (size_t)t->forward_last + 1);
}

/* A y at NULL is not read by anybody: if somebody does, the check fails there. */
static void moi_check_add_edges(moi_check *c, const mo_step *step, size_t n_steps) {
    const mo_stage *stage = &c->chain->stages[step->stage];
    size_t i = step->stage, x_size = moi_remat_x_size(c->chain, i);
    moi_check_add_input(c, "x", moi_check_id_x(i), step->x, x_size, n_steps);
    if (step->op == MO_STEP_BACKWARD) {
        int over = stage->in_place && step->dy == step->dx && x_size == stage->output_size;
        moi_check_add_input(c, "dy", moi_check_id_dx(i + 1), step->dy, stage->output_size,
            over ? stage->gradient_first : n_steps);
    } else if (step->y) {
        moi_check_add(c, "y", moi_check_id_x(i + 1), step->y, stage->output_size,
            stage->output_first, n_steps);
    }
    if (step->op == MO_STEP_BACKWARD || step->op == MO_STEP_LOSS)
        moi_check_add(
            c, "dx", moi_check_id_dx(i), step->dx, x_size, stage->gradient_first, n_steps);
}

/* ---- playing ------------------------------------------------------------------------------- */

static void moi_check_read_value(moi_check *c, const moi_check_value *v) {
    const moi_check_node *node = NULL;
    size_t end = v->off + v->size;
    size_t byte = moi_check_compare(&c->block, v->off, end, v->id, v->off, &node);
    if (byte < end) moi_check_fail_byte(c, v->name, byte, node);
}

static void moi_check_write_value(moi_check *c, const moi_check_value *v) {
    moi_check_node node = {v->off, v->off + v->size, v->id, v->off, c->at};
    moi_check_write(c, &c->block, node);
}

/* Writes happen where a value begins, so only those sub-steps count: every value that is live there
 * must have survived them. */
static void moi_check_play_values(moi_check *c) {
    size_t now = 0, next;
    for (size_t i = 0; i < c->n_values; i++)
        if (c->values[i].is_input) moi_check_read_value(c, &c->values[i]);
    for (; now != SIZE_MAX && c->status == MO_OK; now = next) {
        next = SIZE_MAX;
        for (size_t i = 0; i < c->n_values; i++) {
            const moi_check_value *v = &c->values[i];
            if (v->first > now) next = moi_min(next, v->first);
            if (v->first == now && !v->is_input) moi_check_write_value(c, v);
        }
        for (size_t i = 0; i < c->n_values; i++)
            if (c->values[i].first <= now && now < c->values[i].end)
                moi_check_read_value(c, &c->values[i]);
    }
}

static void moi_check_play_op(moi_check *c, const mo_step *step) {
    const mo_stage *stage = &c->chain->stages[step->stage];
    size_t n_steps = step->op == MO_STEP_BACKWARD ? moi_remat_backward_steps(stage)
                                                  : moi_remat_forward_steps(stage);
    c->n_values = 0;
    moi_check_add_edges(c, step, n_steps);
    for (size_t i = 0; i < stage->n_tensors && c->status == MO_OK; i++)
        moi_check_add_tensor(c, step, &stage->tensors[i], i, n_steps);
    if (c->at == 0 && c->status == MO_OK && c->n_values > 0 && c->values[0].is_input)
        moi_check_write_value(c, &c->values[0]); /* the caller writes x[0] */
    if (c->status == MO_OK) moi_check_play_values(c);
}

/* The bytes of a copy on either side: where it comes from and where it goes. */
typedef struct moi_check_copy {
    moi_check_map *from, *to;
    size_t from_off, to_off, size;
} moi_check_copy;

static moi_check_copy moi_check_copy_of(moi_check *c, const mo_plan_copy *copy, int is_out) {
    size_t off = moi_check_offset(c, "copy", copy->address, copy->size, 1);
    moi_check_copy ends = {&c->block, &c->store, off, copy->store_off, copy->size};
    if (copy->store_off > c->desc->store_bytes ||
        copy->size > c->desc->store_bytes - copy->store_off)
        moi_check_fail(c, "copy", "is not within the store");
    if (is_out) return ends;
    moi_check_copy back = {&c->store, &c->block, copy->store_off, off, copy->size};
    return back;
}

/* Until the WAIT the destination holds nothing but the mark of this copy. */
static void moi_check_start_copy(moi_check *c, const moi_check_copy *copy) {
    moi_check_node busy = {
        copy->to_off, copy->to_off + copy->size, SIZE_MAX - c->at, copy->to_off, c->at};
    moi_check_write(c, copy->to, busy);
}

static void moi_check_end_copy(moi_check *c, const moi_check_copy *copy, size_t start) {
    const moi_check_node *other = NULL;
    size_t from_end = copy->from_off + copy->size, to_end = copy->to_off + copy->size;
    size_t byte =
        moi_check_compare(copy->to, copy->to_off, to_end, SIZE_MAX - start, copy->to_off, &other);
    moi_check_node rest = {copy->to_off, to_end, 0, 0, c->at};
    if (byte < to_end) moi_check_fail_byte(c, "what was copied", byte, other);
    moi_check_write(c, copy->to, rest);
    for (size_t i = moi_check_find(copy->from, copy->from_off);
         i < copy->from->n && copy->from->nodes[i].begin < from_end && c->status == MO_OK; i++) {
        moi_check_node node = copy->from->nodes[i];
        if (node.step > start)
            moi_check_fail_byte(
                c, "what is being copied", moi_max(node.begin, copy->from_off), &node);
        node.begin = moi_max(node.begin, copy->from_off) - copy->from_off + copy->to_off;
        node.end = moi_min(node.end, from_end) - copy->from_off + copy->to_off;
        node.origin += copy->to_off - copy->from_off;
        node.step = c->at;
        moi_check_write(c, copy->to, node);
    }
}

static int moi_check_same_copies(const mo_step *a, const mo_step *b) {
    if (a->n_copies != b->n_copies) return 0;
    for (size_t i = 0; i < a->n_copies; i++)
        if (a->copies[i].address != b->copies[i].address ||
            a->copies[i].size != b->copies[i].size ||
            a->copies[i].store_off != b->copies[i].store_off)
            return 0;
    return 1;
}

static void moi_check_play_move(moi_check *c, const mo_step *step) {
    size_t *start = &c->starts[2 * step->stage + (step->save != 0)];
    int is_out = step->op == MO_STEP_OFFLOAD || step->op == MO_STEP_OFFLOAD_WAIT;
    int is_start = step->op == MO_STEP_OFFLOAD || step->op == MO_STEP_PREFETCH;
    if (is_start) *start = c->at;
    else if (!moi_check_same_copies(step, &c->desc->steps[*start]))
        moi_check_fail(c, "list of copies", "is not that of its start");
    for (size_t i = 0; i < step->n_copies && c->status == MO_OK; i++) {
        moi_check_copy copy = moi_check_copy_of(c, &step->copies[i], is_out);
        if (c->status != MO_OK) return;
        if (is_start) moi_check_start_copy(c, &copy);
        else moi_check_end_copy(c, &copy, *start);
    }
}

/* ---- the whole pass ------------------------------------------------------------------------ */

static void moi_check_number(moi_check *c) {
    size_t id = moi_check_id_x(c->chain->n_stages + 1);
    for (size_t i = 0; i < c->chain->n_stages; i++) {
        c->first_ids[i] = id;
        id += c->chain->stages[i].n_tensors;
    }
    for (size_t k = 0; k < c->desc->n_steps; k++) {
        c->ops[k].op = c->desc->steps[k].op;
        c->ops[k].stage = c->desc->steps[k].stage;
        c->ops[k].save = c->desc->steps[k].save;
        c->ops[k].light = c->desc->steps[k].light;
    }
}

static mo_status moi_check_play(moi_check *c) {
    const mo_plan_check_desc *desc = c->desc;
    mo_status status = mo_remat_check(c->chain, c->ops, desc->n_steps, desc->log);
    if (status != MO_OK) return status;
    for (c->at = 0; c->at < desc->n_steps && c->status == MO_OK; c->at++) {
        const mo_step *step = &desc->steps[c->at];
        if (step->op >= MO_STEP_OFFLOAD) moi_check_play_move(c, step);
        else moi_check_play_op(c, step);
    }
    return c->status;
}

static mo_status moi_check_alloc(moi_check *c) {
    const mo_allocator *from = c->desc->allocator;
    size_t n = c->chain->n_stages;
    for (size_t i = 0; i < n; i++)
        c->max_values = moi_max(c->max_values, 4 + c->chain->stages[i].n_tensors);
    c->first_ids = (size_t *)moi_alloc_array(from, n, sizeof *c->first_ids);
    c->starts = (size_t *)moi_alloc_array(from, n, 2 * sizeof *c->starts);
    c->ops = (mo_remat_op *)moi_alloc_array(from, c->desc->n_steps, sizeof *c->ops);
    c->values = (moi_check_value *)moi_alloc_array(from, c->max_values, sizeof *c->values);
    return c->first_ids && c->starts && c->ops && c->values ? MO_OK : MO_E_NO_MEMORY;
}

static void moi_check_free(moi_check *c) {
    const mo_allocator *from = c->desc->allocator;
    moi_free_array(from, c->first_ids, c->chain->n_stages, sizeof *c->first_ids);
    moi_free_array(from, c->starts, c->chain->n_stages, 2 * sizeof *c->starts);
    moi_free_array(from, c->ops, c->desc->n_steps, sizeof *c->ops);
    moi_free_array(from, c->values, c->max_values, sizeof *c->values);
    moi_free_array(from, c->block.nodes, c->block.capacity, sizeof *c->block.nodes);
    moi_free_array(from, c->store.nodes, c->store.capacity, sizeof *c->store.nodes);
}

mo_status mo_plan_check_steps(const mo_plan_check_desc *desc) {
    moi_check c;
    if (!desc || !desc->steps || desc->n_steps == 0) return MO_E_INVALID;
    mo_status status = mo_chain_check(desc->chain, desc->log);
    if (status != MO_OK) return status;
    memset(&c, 0, sizeof c);
    c.desc = desc;
    c.chain = desc->chain;
    c.align = desc->align ? desc->align : 1;
    if (!moi_is_pow2(c.align)) return MO_E_INVALID;
    status = moi_check_alloc(&c);
    if (status == MO_OK) {
        moi_check_number(&c);
        status = moi_check_play(&c);
    }
    moi_check_free(&c);
    return status;
}

/* ---- a plan's own steps -------------------------------------------------------------------- */

/* As mo_plan_next would give them, from a base that is no memory: only differences count. */
static void moi_check_fill_steps(
    const mo_plan *plan, mo_step *steps, void **rows, mo_plan_copy *copies) {
    uintptr_t base = plan->align;
    for (size_t i = 0; i < plan->n_copies; i++) {
        copies[i].address = (void *)(base + plan->copies[i].off);
        copies[i].size = plan->copies[i].size;
        copies[i].store_off = plan->copies[i].store_off;
    }
    for (size_t i = 0; i < plan->max.table; i++) {
        size_t life = plan->table[i];
        rows[i] = life ? (void *)(base + plan->lives[life].off) : NULL;
    }
    for (size_t k = 0; k < plan->n_ops; k++) {
        const moi_plan_op *span = &plan->spans[k];
        moi_plan_fill_step(plan, k, rows + span->row, copies + span->copy, &steps[k]);
    }
}

mo_status mo_plan_check(const mo_plan *plan, const mo_log *log) {
    mo_plan_check_desc desc;
    if (!plan) return MO_E_INVALID;
    size_t n_bytes = sizeof(mo_plan_copy) + sizeof(mo_step), n = plan->n_ops + plan->n_copies;
    mo_step *steps = (mo_step *)moi_alloc_array(&plan->allocator, n, n_bytes);
    void **rows = (void **)moi_alloc_array(&plan->allocator, plan->max.table, sizeof *rows);
    mo_status status = MO_E_NO_MEMORY;
    if (steps && rows) {
        moi_check_fill_steps(plan, steps, rows, (mo_plan_copy *)(steps + plan->n_ops));
        memset(&desc, 0, sizeof desc);
        desc.chain = &plan->chain;
        desc.steps = steps;
        desc.n_steps = plan->n_ops;
        desc.base = (const void *)(uintptr_t)plan->align;
        desc.fixed_bytes = plan->info.fixed_bytes;
        desc.size = plan->info.peak_bytes;
        desc.store_bytes = plan->info.store_bytes;
        desc.align = plan->align;
        desc.allocator = &plan->allocator;
        desc.log = log;
        status = mo_plan_check_steps(&desc);
    }
    moi_free_array(&plan->allocator, steps, n, n_bytes);
    moi_free_array(&plan->allocator, rows, plan->max.table, sizeof *rows);
    return status;
}
