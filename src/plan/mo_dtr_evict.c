/* mo_dtr_evict.c - which tensors mo_dtr evicts, and the eviction.
 *
 * The values h are those of Kirisame et al. 2021, but costs belong to ops here, so that an op with
 * several evicted outputs counts once. What is evicted lies in one piece, as in Zhang et al. 2023:
 * where large tensors meet small ones, scattered holes cause several times the recomputes. */

/* ---- groups of evicted ops ----------------------------------------------------------------- */

static void moi_dtr_group_leave(mo_dtr *dtr, uint32_t i) {
    moi_dtr_op *op = &dtr->ops[i];
    moi_dtr_group *group = &dtr->groups[op->group];
    if (op->group_prev != MOI_DTR_NONE) dtr->ops[op->group_prev].group_next = op->group_next;
    else group->first = op->group_next;
    if (op->group_next != MOI_DTR_NONE) dtr->ops[op->group_next].group_prev = op->group_prev;
    group->cost -= op->cost;
    if (--group->n == 0) {
        group->first = dtr->free_group;
        dtr->free_group = op->group;
    }
    op->group = MOI_DTR_NONE;
}

static void moi_dtr_group_enter(mo_dtr *dtr, uint32_t i, uint32_t g) {
    moi_dtr_op *op = &dtr->ops[i];
    moi_dtr_group *group = &dtr->groups[g];
    op->group = g;
    op->group_prev = MOI_DTR_NONE;
    op->group_next = group->first;
    if (group->first != MOI_DTR_NONE) dtr->ops[group->first].group_prev = i;
    group->first = i;
    group->cost += op->cost;
    group->n++;
}

static void moi_dtr_group_found(mo_dtr *dtr, uint32_t i) {
    uint32_t g = dtr->free_group;
    if (g != MOI_DTR_NONE) dtr->free_group = dtr->groups[g].first;
    else g = dtr->n_groups++;
    memset(&dtr->groups[g], 0, sizeof dtr->groups[g]);
    dtr->groups[g].first = MOI_DTR_NONE;
    moi_dtr_group_enter(dtr, i, g);
}

static void moi_dtr_group_merge(mo_dtr *dtr, uint32_t a, uint32_t b) {
    if (a == b) return;
    if (dtr->groups[a].n < dtr->groups[b].n) {
        uint32_t swap = a;
        a = b;
        b = swap;
    }
    for (uint32_t n = dtr->groups[b].n; n > 0; n--) {
        uint32_t i = dtr->groups[b].first;
        moi_dtr_group_leave(dtr, i);
        moi_dtr_group_enter(dtr, i, a);
    }
}

/* ---- what an eviction would cost ----------------------------------------------------------- */

/* Adds an op to a visit, once; it stays on the stack until its neighbours were looked at. */
static double moi_dtr_visit(mo_dtr *dtr, uint32_t i, uint32_t *stack) {
    moi_dtr_op *op = &dtr->ops[i];
    if (op->mark == dtr->epoch) return 0;
    op->mark = dtr->epoch;
    op->visited = *stack;
    *stack = i;
    return op->cost;
}

static double moi_dtr_visit_inputs(mo_dtr *dtr, uint32_t i, uint32_t *stack) {
    double cost = 0;
    for (uint32_t e = dtr->ops[i].first_input; e != MOI_DTR_NONE; e = dtr->edges[e].next_input) {
        const moi_dtr_tensor *input = &dtr->tensors[dtr->edges[e].tensor];
        if (input->state == MOI_DTR_EVICTED) cost += moi_dtr_visit(dtr, input->op, stack);
    }
    return cost;
}

static double moi_dtr_visit_users(mo_dtr *dtr, uint32_t tensor, uint32_t *stack) {
    double cost = 0;
    for (uint32_t e = dtr->tensors[tensor].first_user; e != MOI_DTR_NONE;
         e = dtr->edges[e].next_user)
        if (dtr->ops[dtr->edges[e].op].n_evicted)
            cost += moi_dtr_visit(dtr, dtr->edges[e].op, stack);
    return cost;
}

/* Cost of the op that made it and of its evicted ancestors, and descendants. */
static double moi_dtr_region(mo_dtr *dtr, uint32_t tensor, int descendants) {
    uint32_t stack = MOI_DTR_NONE, output;
    dtr->epoch++;
    double cost = moi_dtr_visit(dtr, dtr->tensors[tensor].op, &stack);
    while (stack != MOI_DTR_NONE) {
        uint32_t i = stack;
        stack = dtr->ops[i].visited;
        cost += moi_dtr_visit_inputs(dtr, i, &stack);
    }
    if (descendants) cost += moi_dtr_visit_users(dtr, tensor, &stack);
    while (stack != MOI_DTR_NONE) {
        output = dtr->ops[stack].first_output;
        stack = dtr->ops[stack].visited;
        for (; output != MOI_DTR_NONE; output = dtr->tensors[output].next_output)
            if (dtr->tensors[output].state == MOI_DTR_EVICTED)
                cost += moi_dtr_visit_users(dtr, output, &stack);
    }
    return cost;
}

static double moi_dtr_count_group(mo_dtr *dtr, uint32_t g) {
    if (g == MOI_DTR_NONE || dtr->groups[g].mark == dtr->epoch) return 0;
    dtr->groups[g].mark = dtr->epoch;
    return dtr->groups[g].cost;
}

/* The same by the groups that it touches; its own op may be in one, through another output. */
static double moi_dtr_touched(mo_dtr *dtr, uint32_t tensor) {
    const moi_dtr_tensor *t = &dtr->tensors[tensor];
    const moi_dtr_op *op = &dtr->ops[t->op];
    dtr->epoch++;
    double cost = op->group == MOI_DTR_NONE ? op->cost : moi_dtr_count_group(dtr, op->group);
    for (uint32_t e = op->first_input; e != MOI_DTR_NONE; e = dtr->edges[e].next_input) {
        const moi_dtr_tensor *input = &dtr->tensors[dtr->edges[e].tensor];
        if (input->state == MOI_DTR_EVICTED)
            cost += moi_dtr_count_group(dtr, dtr->ops[input->op].group);
    }
    for (uint32_t e = t->first_user; e != MOI_DTR_NONE; e = dtr->edges[e].next_user)
        cost += moi_dtr_count_group(dtr, dtr->ops[dtr->edges[e].op].group);
    return cost;
}

static double moi_dtr_h(mo_dtr *dtr, uint32_t tensor) {
    const moi_dtr_tensor *t = &dtr->tensors[tensor];
    double size = (double)t->size, stale = dtr->clock - t->used, cost = 1;
    switch (dtr->heuristic) {
    case MO_DTR_EQ: cost = moi_dtr_touched(dtr, tensor); break;
    case MO_DTR_FULL: cost = moi_dtr_region(dtr, tensor, 1); break;
    case MO_DTR_LOCAL: cost = dtr->ops[t->op].cost; break;
    case MO_DTR_LRU: size = 1; break;
    case MO_DTR_SIZE: stale = 1; break;
    case MO_DTR_MSPS:
        cost = moi_dtr_region(dtr, tensor, 0);
        stale = 1;
        break;
    }
    if (cost <= 0) return 0;
    return stale > 0 ? cost / (size * stale) : HUGE_VAL;
}

/* ---- evicting ------------------------------------------------------------------------------ */

static void moi_dtr_take_bytes(mo_dtr *dtr, uint32_t tensor) {
    moi_dtr_tensor *t = &dtr->tensors[tensor];
    mo_status status = mo_suballoc_dealloc(&dtr->sub, t->handle);
    MEMOPT_ASSERT(status == MO_OK);
    (void)status;
    MOI_POISON(t->address, t->size);
    t->handle = 0;
}

static void moi_dtr_list(mo_dtr *dtr, uint32_t tensor) {
    moi_dtr_tensor *t = &dtr->tensors[tensor];
    t->prev = MOI_DTR_NONE;
    t->next = dtr->first_resident;
    if (t->next != MOI_DTR_NONE) dtr->tensors[t->next].prev = tensor;
    dtr->first_resident = tensor;
    t->state = MOI_DTR_RESIDENT;
}

static void moi_dtr_unlist(mo_dtr *dtr, uint32_t tensor) {
    moi_dtr_tensor *t = &dtr->tensors[tensor];
    if (t->prev != MOI_DTR_NONE) dtr->tensors[t->prev].next = t->next;
    else dtr->first_resident = t->next;
    if (t->next != MOI_DTR_NONE) dtr->tensors[t->next].prev = t->prev;
    t->state = MOI_DTR_ABSENT;
}

/* An output counts as evicted no more: it was made again, or nobody needs it. */
static void moi_dtr_unevict(mo_dtr *dtr, uint32_t tensor) {
    uint32_t i = dtr->tensors[tensor].op;
    dtr->tensors[tensor].state = MOI_DTR_ABSENT;
    if (--dtr->ops[i].n_evicted == 0 && dtr->heuristic == MO_DTR_EQ) moi_dtr_group_leave(dtr, i);
}

static void moi_dtr_join_neighbours(mo_dtr *dtr, uint32_t tensor) {
    const moi_dtr_tensor *t = &dtr->tensors[tensor];
    const moi_dtr_op *op = &dtr->ops[t->op];
    if (op->group == MOI_DTR_NONE) moi_dtr_group_found(dtr, t->op);
    for (uint32_t e = op->first_input; e != MOI_DTR_NONE; e = dtr->edges[e].next_input) {
        const moi_dtr_tensor *input = &dtr->tensors[dtr->edges[e].tensor];
        if (input->state == MOI_DTR_EVICTED)
            moi_dtr_group_merge(dtr, op->group, dtr->ops[input->op].group);
    }
    for (uint32_t e = t->first_user; e != MOI_DTR_NONE; e = dtr->edges[e].next_user) {
        uint32_t group = dtr->ops[dtr->edges[e].op].group;
        if (group != MOI_DTR_NONE) moi_dtr_group_merge(dtr, op->group, group);
    }
}

static void moi_dtr_evict(mo_dtr *dtr, uint32_t tensor) {
    moi_dtr_take_bytes(dtr, tensor);
    moi_dtr_unlist(dtr, tensor);
    dtr->tensors[tensor].state = MOI_DTR_EVICTED;
    dtr->ops[dtr->tensors[tensor].op].n_evicted++;
    if (dtr->heuristic == MO_DTR_EQ) moi_dtr_join_neighbours(dtr, tensor);
}

static int moi_dtr_is_pinned(const moi_dtr_tensor *t) {
    return t->op == MOI_DTR_NONE || t->kept || t->pins || t->locks;
}

/* Neighbouring parts of the block that are free or can be, from part `begin` on. fresh counts
 * tensors that nothing ran after: they go last. */
typedef struct moi_dtr_window {
    mo_suballoc_block begin;
    uint64_t bytes, fresh;
    double h;
} moi_dtr_window;

static uint32_t moi_dtr_owner(const mo_dtr *dtr, const mo_suballoc_block *part) {
    return part->handle ? dtr->owners[(uint32_t)part->handle] : MOI_DTR_NONE;
}

/* Adds a part at the end of a window, or with sign -1 takes it away at its begin. */
static void moi_dtr_window_add(
    const mo_dtr *dtr, moi_dtr_window *window, const mo_suballoc_block *part, int sign) {
    uint32_t i = moi_dtr_owner(dtr, part);
    window->bytes += sign > 0 ? part->size : 0 - part->size;
    if (i == MOI_DTR_NONE) return;
    if (dtr->tensors[i].h < HUGE_VAL) window->h += sign * dtr->tensors[i].h;
    else window->fresh += sign > 0 ? 1 : UINT64_MAX;
}

static int moi_dtr_window_less(const moi_dtr_window *a, const moi_dtr_window *b) {
    if (a->fresh != b->fresh) return a->fresh < b->fresh;
    return a->h < b->h || (a->h == b->h && a->bytes < b->bytes);
}

/* The cheapest window of at least size bytes; 0 when there is none. A window that is as short as
 * its end allows is cheaper than a longer one, so one pass with two ends finds it. */
static int moi_dtr_find_window(const mo_dtr *dtr, uint64_t size, moi_dtr_window *best) {
    mo_suballoc_block part;
    moi_dtr_window window;
    int found = 0;
    memset(&part, 0, sizeof part);
    memset(&window, 0, sizeof window);
    while (mo_suballoc_next(&dtr->sub, &part)) {
        uint32_t i = moi_dtr_owner(dtr, &part);
        if (i != MOI_DTR_NONE && moi_dtr_is_pinned(&dtr->tensors[i])) {
            memset(&window, 0, sizeof window);
            continue;
        }
        if (window.bytes == 0) window.h = 0, window.begin = part;
        moi_dtr_window_add(dtr, &window, &part, 1);
        while (window.bytes - window.begin.size >= size) {
            moi_dtr_window_add(dtr, &window, &window.begin, -1);
            (void)mo_suballoc_next(&dtr->sub, &window.begin);
        }
        if (window.bytes < size || (found && !moi_dtr_window_less(&window, best))) continue;
        *best = window;
        found = 1;
    }
    return found;
}

static void moi_dtr_evict_window(mo_dtr *dtr, const moi_dtr_window *window) {
    mo_suballoc_block part = window->begin;
    uint32_t first = MOI_DTR_NONE;
    for (uint64_t bytes = part.size;; bytes += part.size) {
        uint32_t i = moi_dtr_owner(dtr, &part);
        if (i != MOI_DTR_NONE) {
            dtr->tensors[i].next_victim = first;
            first = i;
        }
        if (bytes >= window->bytes || !mo_suballoc_next(&dtr->sub, &part)) break;
    }
    for (; first != MOI_DTR_NONE; first = dtr->tensors[first].next_victim) {
        moi_dtr_evict(dtr, first);
        dtr->n_evictions++;
    }
}

/* Frees size bytes in one piece; 0 when what is pinned leaves none. */
static int moi_dtr_make_room(mo_dtr *dtr, uint64_t size) {
    moi_dtr_window window;
    memset(&window, 0, sizeof window);
    for (uint32_t i = dtr->first_resident; i != MOI_DTR_NONE; i = dtr->tensors[i].next)
        if (!moi_dtr_is_pinned(&dtr->tensors[i])) dtr->tensors[i].h = moi_dtr_h(dtr, i);
    if (!moi_dtr_find_window(dtr, size, &window)) return 0;
    moi_dtr_evict_window(dtr, &window);
    return 1;
}

/* Bytes in the block for a tensor, whose state stays as it is. */
static mo_status moi_dtr_give_bytes(mo_dtr *dtr, uint32_t tensor) {
    moi_dtr_tensor *t = &dtr->tensors[tensor];
    mo_suballoc_block block;
    mo_status status;
    status = mo_suballoc_alloc(&dtr->sub, t->size, 0, &block);
    if (status == MO_E_NO_SPACE && moi_dtr_make_room(dtr, t->size))
        status = mo_suballoc_alloc(&dtr->sub, t->size, 0, &block);
    if (status != MO_OK) return status;
    dtr->owners[(uint32_t)block.handle] = tensor;
    t->handle = block.handle;
    t->address = dtr->block + block.off;
    MOI_UNPOISON(t->address, t->size);
    return MO_OK;
}
