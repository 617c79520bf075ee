/* mo_dtr.c - see mo_dtr.h: slots, running, the calls.
 *
 * Ops that must run again stand on a stack that is linked through the ops themselves: each is on it
 * at most once, since the graph has no cycles. While an op waits there, the inputs that it found
 * are pinned, as in Kirisame et al. 2021, but only as long as there is room for that. */

/* ---- start and end ------------------------------------------------------------------------- */

static mo_dtr_desc moi_dtr_defaults(const mo_dtr_desc *desc) {
    mo_dtr_desc full = *desc;
    if (full.max_tensors == 0) full.max_tensors = MOI_DTR_TENSORS;
    if (full.max_inputs == 0) full.max_inputs = MOI_DTR_INPUTS_EACH * full.max_tensors;
    if (full.max_args == 0) full.max_args = MOI_DTR_ARGS;
    return full;
}

static mo_suballoc_desc moi_dtr_sub_desc(const mo_dtr_desc *full) {
    mo_suballoc_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.size = moi_max(full->size, MOI_DTR_ALIGN);
    desc.granule = MOI_DTR_ALIGN;
    desc.max_allocs = full->max_tensors;
    return desc;
}

/* Where the parts lie in the workspace. */
typedef struct moi_dtr_parts {
    size_t tensors_off, ops_off, edges_off, groups_off, owners_off, args_off, sub_off, size;
} moi_dtr_parts;

static int moi_dtr_part(size_t *end, size_t n, size_t size, size_t *off) {
    size_t bytes;
    return moi_mul(n, size, &bytes) && moi_align_up(*end, MOI_CACHE_LINE, off) &&
        moi_add(*off, bytes, end);
}

static mo_status moi_dtr_layout(const mo_dtr_desc *full, moi_dtr_parts *parts) {
    size_t end = 0, n = full->max_tensors, sub_size;
    if (n > (size_t)1 << 28 || full->max_inputs > (size_t)1 << 30) return MO_E_INVALID;
    if (full->max_args > (size_t)1 << 30) return MO_E_INVALID;
    mo_suballoc_desc sub = moi_dtr_sub_desc(full);
    mo_status status = mo_suballoc_workspace_size(&sub, &sub_size);
    if (status != MO_OK) return status;
    if (!moi_dtr_part(&end, n, sizeof(moi_dtr_tensor), &parts->tensors_off) ||
        !moi_dtr_part(&end, n, sizeof(moi_dtr_op), &parts->ops_off) ||
        !moi_dtr_part(&end, full->max_inputs, sizeof(moi_dtr_edge), &parts->edges_off) ||
        !moi_dtr_part(&end, n, sizeof(moi_dtr_group), &parts->groups_off) ||
        !moi_dtr_part(&end, 2 * n + 1, sizeof(uint32_t), &parts->owners_off) ||
        !moi_dtr_part(&end, full->max_args, sizeof(void *), &parts->args_off) ||
        !moi_dtr_part(&end, sub_size, 1, &parts->sub_off) ||
        !moi_add(end, MOI_CACHE_LINE, &parts->size))
        return MO_E_OVERFLOW;
    return MO_OK;
}

mo_status mo_dtr_workspace_size(const mo_dtr_desc *desc, size_t *size) {
    moi_dtr_parts parts;
    if (!desc || !size) return MO_E_INVALID;
    mo_dtr_desc full = moi_dtr_defaults(desc);
    mo_status status = moi_dtr_layout(&full, &parts);
    if (status == MO_OK) *size = parts.size;
    return status;
}

static void moi_dtr_set_up(
    mo_dtr *dtr, const mo_dtr_desc *full, const moi_dtr_parts *parts, void *workspace) {
    uintptr_t line = MOI_CACHE_LINE - 1;
    unsigned char *base = (unsigned char *)(((uintptr_t)workspace + line) & ~line);
    dtr->block = (unsigned char *)full->block;
    dtr->tensors = (moi_dtr_tensor *)(void *)(base + parts->tensors_off);
    dtr->ops = (moi_dtr_op *)(void *)(base + parts->ops_off);
    dtr->edges = (moi_dtr_edge *)(void *)(base + parts->edges_off);
    dtr->groups = (moi_dtr_group *)(void *)(base + parts->groups_off);
    dtr->owners = (uint32_t *)(void *)(base + parts->owners_off);
    dtr->args = (void **)(void *)(base + parts->args_off);
    dtr->max_tensors = (uint32_t)full->max_tensors;
    dtr->max_edges = (uint32_t)full->max_inputs;
    dtr->max_args = (uint32_t)full->max_args;
    dtr->free_tensor = dtr->free_op = dtr->free_edge = dtr->free_group = MOI_DTR_NONE;
    dtr->first_resident = MOI_DTR_NONE;
    dtr->heuristic = full->heuristic;
    if (full->log) dtr->log = *full->log;
    if (full->allocator) dtr->allocator = *full->allocator;
}

mo_status mo_dtr_init(mo_dtr *dtr, const mo_dtr_desc *desc) {
    moi_dtr_parts parts;
    mo_dtr made;
    if (!dtr || !desc || !desc->block || desc->size < MOI_DTR_ALIGN) return MO_E_INVALID;
    if ((uintptr_t)desc->block % MOI_DTR_ALIGN != 0) return MO_E_INVALID;
    if ((unsigned)desc->heuristic > MO_DTR_MSPS) return MO_E_INVALID;
    mo_dtr_desc full = moi_dtr_defaults(desc);
    mo_status status = moi_dtr_layout(&full, &parts);
    if (status != MO_OK) return status;
    void *workspace = full.workspace;
    if (!workspace) workspace = mo_alloc(full.allocator, parts.size, MOI_CACHE_LINE);
    if (!workspace) return MO_E_NO_MEMORY;
    memset(&made, 0, sizeof made);
    moi_dtr_set_up(&made, &full, &parts, workspace);
    made.workspace = full.workspace ? NULL : workspace;
    made.workspace_size = parts.size;
    mo_suballoc_desc sub = moi_dtr_sub_desc(&full);
    sub.workspace = (unsigned char *)(void *)made.tensors + parts.sub_off;
    status = mo_suballoc_init(&made.sub, &sub);
    MEMOPT_ASSERT(status == MO_OK); /* the layout asked it for its size */
    MOI_POISON(full.block, (size_t)(made.sub.size << made.sub.shift));
    *dtr = made;
    return status;
}

void mo_dtr_free(mo_dtr *dtr) {
    if (!dtr) return;
    MOI_UNPOISON(dtr->block, (size_t)(dtr->sub.size << dtr->sub.shift));
    mo_suballoc_free(&dtr->sub);
    mo_free(&dtr->allocator, dtr->workspace, dtr->workspace_size, MOI_CACHE_LINE);
    memset(dtr, 0, sizeof *dtr);
}

/* ---- slots --------------------------------------------------------------------------------- */

static uint32_t moi_dtr_new_tensor(mo_dtr *dtr, const char *name, size_t size) {
    uint32_t i = dtr->free_tensor, generation = 0;
    if (i != MOI_DTR_NONE) {
        dtr->free_tensor = dtr->tensors[i].next;
        generation = dtr->tensors[i].generation;
    } else {
        i = dtr->n_tensors++;
    }
    moi_dtr_tensor *t = &dtr->tensors[i];
    memset(t, 0, sizeof *t);
    t->generation = generation == UINT32_MAX ? 1 : generation + 1;
    t->name = name;
    t->size = size;
    t->used = dtr->clock;
    t->op = t->next_output = t->first_user = t->prev = t->next = MOI_DTR_NONE;
    t->held = 1;
    dtr->live_tensors++;
    return i;
}

static void moi_dtr_free_tensor(mo_dtr *dtr, uint32_t i) {
    dtr->tensors[i].held = 0;
    dtr->tensors[i].op = MOI_DTR_NONE;
    dtr->tensors[i].state = MOI_DTR_ABSENT;
    dtr->tensors[i].next = dtr->free_tensor;
    dtr->free_tensor = i;
    dtr->live_tensors--;
}

static uint32_t moi_dtr_new_op(mo_dtr *dtr, const mo_dtr_op_desc *desc) {
    uint32_t i = dtr->free_op;
    if (i != MOI_DTR_NONE) dtr->free_op = dtr->ops[i].below;
    else i = dtr->n_ops++;
    moi_dtr_op *op = &dtr->ops[i];
    memset(op, 0, sizeof *op);
    op->run = desc->run;
    op->self = desc->self;
    op->name = desc->name ? desc->name : "op";
    op->cost = desc->cost;
    op->seed = desc->seed;
    op->first_input = op->first_output = MOI_DTR_NONE;
    op->group = op->below = MOI_DTR_NONE;
    dtr->live_ops++;
    return i;
}

/* A new first input of op: they are added from the last to the first. */
static void moi_dtr_add_input(mo_dtr *dtr, uint32_t op, uint32_t tensor) {
    uint32_t i = dtr->free_edge;
    if (i != MOI_DTR_NONE) dtr->free_edge = dtr->edges[i].next_input;
    else i = dtr->n_edges++;
    moi_dtr_edge *edge = &dtr->edges[i];
    moi_dtr_tensor *t = &dtr->tensors[tensor];
    edge->op = op;
    edge->tensor = tensor;
    edge->lock = MOI_DTR_UNLOCKED;
    edge->next_input = dtr->ops[op].first_input;
    edge->prev_user = MOI_DTR_NONE;
    edge->next_user = t->first_user;
    if (t->first_user != MOI_DTR_NONE) dtr->edges[t->first_user].prev_user = i;
    t->first_user = i;
    dtr->ops[op].first_input = i;
    dtr->ops[op].n_inputs++;
    dtr->live_edges++;
}

static void moi_dtr_unlink_user(mo_dtr *dtr, const moi_dtr_edge *edge) {
    if (edge->prev_user != MOI_DTR_NONE) dtr->edges[edge->prev_user].next_user = edge->next_user;
    else dtr->tensors[edge->tensor].first_user = edge->next_user;
    if (edge->next_user != MOI_DTR_NONE) dtr->edges[edge->next_user].prev_user = edge->prev_user;
}

/* The slot of a tensor that the caller holds; NONE when it is stale. */
static uint32_t moi_dtr_lookup(const mo_dtr *dtr, mo_dtr_tensor tensor) {
    uint32_t i = (uint32_t)tensor;
    if (i >= dtr->n_tensors || !dtr->tensors[i].held) return MOI_DTR_NONE;
    return dtr->tensors[i].generation == (uint32_t)(tensor >> 32) ? i : MOI_DTR_NONE;
}

static mo_dtr_tensor moi_dtr_handle(const mo_dtr *dtr, uint32_t i) {
    return (mo_dtr_tensor)dtr->tensors[i].generation << 32 | i;
}

/* ---- forgetting ---------------------------------------------------------------------------- */

/* An op of which every needed output is kept never runs again: what it reads can go. */
static void moi_dtr_forget_later(mo_dtr *dtr, uint32_t i, uint32_t *forget) {
    moi_dtr_op *op = &dtr->ops[i];
    if (op->n_needed > op->n_kept || op->forgetting) return;
    op->forgetting = 1;
    op->below = *forget;
    *forget = i;
}

/* Called when the caller or an op needs a tensor no more. */
static void moi_dtr_settle(mo_dtr *dtr, uint32_t tensor, uint32_t *forget) {
    moi_dtr_tensor *t = &dtr->tensors[tensor];
    uint32_t i = t->op;
    if (t->held || t->first_user != MOI_DTR_NONE) return;
    if (t->state == MOI_DTR_EVICTED) moi_dtr_unevict(dtr, tensor);
    if (t->handle) moi_dtr_take_bytes(dtr, tensor);
    if (i == MOI_DTR_NONE) {
        moi_dtr_free_tensor(dtr, tensor);
        return;
    }
    if (t->state == MOI_DTR_RESIDENT) moi_dtr_unlist(dtr, tensor);
    dtr->ops[i].n_needed--;
    dtr->ops[i].n_kept -= t->kept;
    moi_dtr_forget_later(dtr, i, forget);
}

static void moi_dtr_forget_inputs(mo_dtr *dtr, uint32_t i, uint32_t *forget) {
    uint32_t next;
    for (uint32_t e = dtr->ops[i].first_input; e != MOI_DTR_NONE; e = next) {
        moi_dtr_edge *edge = &dtr->edges[e];
        next = edge->next_input;
        moi_dtr_unlink_user(dtr, edge);
        edge->next_input = dtr->free_edge;
        dtr->free_edge = e;
        dtr->live_edges--;
        moi_dtr_settle(dtr, edge->tensor, forget);
    }
    dtr->ops[i].first_input = MOI_DTR_NONE;
    dtr->ops[i].n_inputs = 0;
}

static void moi_dtr_forget_ops(mo_dtr *dtr, uint32_t forget) {
    while (forget != MOI_DTR_NONE) {
        uint32_t i = forget, next;
        forget = dtr->ops[i].below;
        moi_dtr_forget_inputs(dtr, i, &forget);
        dtr->ops[i].forgetting = 0;
        if (dtr->ops[i].n_needed > 0) continue;
        for (uint32_t t = dtr->ops[i].first_output; t != MOI_DTR_NONE; t = next) {
            next = dtr->tensors[t].next_output;
            moi_dtr_free_tensor(dtr, t);
        }
        dtr->ops[i].below = dtr->free_op;
        dtr->free_op = i;
        dtr->live_ops--;
    }
}

/* ---- running ------------------------------------------------------------------------------- */

static int moi_dtr_name(const mo_dtr *dtr, uint32_t tensor, char *text, size_t size) {
    const moi_dtr_tensor *t = &dtr->tensors[tensor];
    if (t->op == MOI_DTR_NONE || dtr->ops[t->op].n_outputs == 1)
        return snprintf(text, size, "%s", t->name);
    return snprintf(text, size, "%s:%u", t->name, (unsigned)t->output);
}

/* Says what is pinned, as far as a line goes. */
static void moi_dtr_report(const mo_dtr *dtr, uint32_t wanted) {
    char text[768], name[64];
    uint64_t pinned = 0;
    size_t at = 0;
    if (!dtr->log.write) return;
    text[0] = 0;
    for (uint32_t i = 0; i < dtr->n_tensors; i++) {
        const moi_dtr_tensor *t = &dtr->tensors[i];
        if (!t->handle || i == wanted || !moi_dtr_is_pinned(t)) continue;
        pinned += t->size;
        moi_dtr_name(dtr, i, name, sizeof name);
        if (at + sizeof name + 32 > sizeof text) continue;
        at += (size_t)snprintf(
            text + at, sizeof text - at, "%s%s (%zu)", at ? ", " : "", name, t->size);
    }
    moi_dtr_name(dtr, wanted, name, sizeof name);
    moi_log(&dtr->log, MO_LOG_ERROR,
        "dtr: %s needs %zu bytes in one piece of %llu; %llu are pinned: %s", name,
        dtr->tensors[wanted].size, (unsigned long long)dtr->sub.size << dtr->sub.shift,
        (unsigned long long)pinned, pinned ? text : "nothing");
}

static void moi_dtr_lock_input(mo_dtr *dtr, uint32_t e, moi_dtr_lock lock) {
    if (!dtr->edges[e].lock) dtr->tensors[dtr->edges[e].tensor].locks++;
    if (dtr->edges[e].lock != MOI_DTR_MADE) dtr->edges[e].lock = (uint8_t)lock;
}

static void moi_dtr_unlock_input(mo_dtr *dtr, uint32_t e) {
    if (!dtr->edges[e].lock) return;
    dtr->edges[e].lock = MOI_DTR_UNLOCKED;
    dtr->tensors[dtr->edges[e].tensor].locks--;
    dtr->tensors[dtr->edges[e].tensor].used = dtr->clock;
}

/* Inputs that waiting ops found in the block may go after all: they are made again then. */
static int moi_dtr_yield(mo_dtr *dtr) {
    int yielded = 0;
    for (uint32_t i = dtr->waiting; i != MOI_DTR_NONE; i = dtr->ops[i].below)
        for (uint32_t e = dtr->ops[i].first_input; e != MOI_DTR_NONE; e = dtr->edges[e].next_input)
            if (dtr->edges[e].lock == MOI_DTR_FOUND) {
                moi_dtr_unlock_input(dtr, e);
                yielded = 1;
            }
    return yielded;
}

/* Resident outputs keep their bytes, and get the same ones again. */
static mo_status moi_dtr_place_outputs(mo_dtr *dtr, const moi_dtr_op *op) {
    for (uint32_t i = op->first_output; i != MOI_DTR_NONE; i = dtr->tensors[i].next_output) {
        if (dtr->tensors[i].handle) continue;
        mo_status status = moi_dtr_give_bytes(dtr, i);
        if (status == MO_E_NO_SPACE && moi_dtr_yield(dtr)) status = moi_dtr_give_bytes(dtr, i);
        if (status == MO_OK) continue;
        moi_dtr_report(dtr, i);
        return status;
    }
    return MO_OK;
}

static mo_status moi_dtr_call_op(mo_dtr *dtr, moi_dtr_op *op) {
    mo_dtr_call call;
    size_t n = 0;
    for (uint32_t e = op->first_input; e != MOI_DTR_NONE; e = dtr->edges[e].next_input)
        dtr->args[n++] = dtr->tensors[dtr->edges[e].tensor].address;
    for (uint32_t i = op->first_output; i != MOI_DTR_NONE; i = dtr->tensors[i].next_output)
        dtr->args[n++] = dtr->tensors[i].address;
    call.inputs = (const void *const *)dtr->args;
    call.n_inputs = op->n_inputs;
    call.outputs = (void *const *)(dtr->args + op->n_inputs);
    call.n_outputs = op->n_outputs;
    call.seed = op->seed;
    call.again = op->has_run;
    dtr->running = 1;
    mo_status status = op->run(op->self, &call);
    dtr->running = 0;
    if (status != MO_OK) return status;
    dtr->clock += op->cost;
    *(op->has_run ? &dtr->recompute_cost : &dtr->cost) += op->cost;
    dtr->n_recomputes += op->has_run;
    op->has_run = 1;
    return MO_OK;
}

static void moi_dtr_lock_outputs(mo_dtr *dtr, const moi_dtr_op *op) {
    for (uint32_t i = op->first_output; i != MOI_DTR_NONE; i = dtr->tensors[i].next_output)
        dtr->tensors[i].locks++;
}

/* After a run: outputs that were made are there; when it failed, or for those that nobody needs,
 * the bytes go back. */
static void moi_dtr_unlock_outputs(mo_dtr *dtr, const moi_dtr_op *op, int made) {
    for (uint32_t i = op->first_output; i != MOI_DTR_NONE; i = dtr->tensors[i].next_output) {
        moi_dtr_tensor *t = &dtr->tensors[i];
        t->locks--;
        if (made) t->used = dtr->clock;
        if (!t->handle || t->state == MOI_DTR_RESIDENT) continue;
        if (!made || (!t->held && t->first_user == MOI_DTR_NONE)) {
            moi_dtr_take_bytes(dtr, i);
            continue;
        }
        if (t->state == MOI_DTR_EVICTED) moi_dtr_unevict(dtr, i);
        moi_dtr_list(dtr, i);
    }
}

static void moi_dtr_unlock_inputs(mo_dtr *dtr, const moi_dtr_op *op) {
    for (uint32_t e = op->first_input; e != MOI_DTR_NONE; e = dtr->edges[e].next_input)
        moi_dtr_unlock_input(dtr, e);
}

/* Runs an op whose inputs are all there. */
static mo_status moi_dtr_run(mo_dtr *dtr, uint32_t i) {
    moi_dtr_op *op = &dtr->ops[i];
    for (uint32_t e = op->first_input; e != MOI_DTR_NONE; e = dtr->edges[e].next_input)
        moi_dtr_lock_input(dtr, e, MOI_DTR_MADE);
    moi_dtr_lock_outputs(dtr, op);
    mo_status status = moi_dtr_place_outputs(dtr, op);
    if (status == MO_OK) status = moi_dtr_call_op(dtr, op);
    moi_dtr_unlock_outputs(dtr, op, status == MO_OK);
    moi_dtr_unlock_inputs(dtr, op);
    return status;
}

/* The first input that is not there. The others are pinned until the op has run, if there is room
 * for that. */
static uint32_t moi_dtr_missing(mo_dtr *dtr, uint32_t i) {
    uint32_t missing = MOI_DTR_NONE;
    for (uint32_t e = dtr->ops[i].first_input; e != MOI_DTR_NONE; e = dtr->edges[e].next_input)
        if (dtr->tensors[dtr->edges[e].tensor].state == MOI_DTR_RESIDENT)
            moi_dtr_lock_input(dtr, e, MOI_DTR_FOUND);
        else if (missing == MOI_DTR_NONE) missing = e;
    return missing;
}

/* Runs op `bottom`, and before it whatever its inputs are missing. An input that was made again
 * stays until its reader has run, so every round brings the topmost op nearer to its run. */
static mo_status moi_dtr_make(mo_dtr *dtr, uint32_t bottom) {
    uint32_t top = bottom;
    mo_status status = MO_OK;
    dtr->ops[bottom].below = MOI_DTR_NONE;
    while (status == MO_OK && top != MOI_DTR_NONE) {
        uint32_t missing = moi_dtr_missing(dtr, top);
        if (missing != MOI_DTR_NONE) {
            uint32_t maker = dtr->tensors[dtr->edges[missing].tensor].op;
            moi_dtr_lock_input(dtr, missing, MOI_DTR_MADE);
            dtr->ops[maker].below = top;
            top = maker;
            continue;
        }
        dtr->waiting = dtr->ops[top].below;
        status = moi_dtr_run(dtr, top);
        top = dtr->waiting;
    }
    for (; top != MOI_DTR_NONE; top = dtr->ops[top].below)
        moi_dtr_unlock_inputs(dtr, &dtr->ops[top]);
    return status;
}

/* ---- the calls ----------------------------------------------------------------------------- */

mo_status mo_dtr_constant(
    mo_dtr *dtr, const char *name, size_t size, void *address, mo_dtr_tensor *tensor) {
    if (!dtr || size == 0 || !tensor) return MO_E_INVALID;
    if (dtr->running) return MO_E_STATE;
    if (dtr->live_tensors == dtr->max_tensors) return MO_E_NO_SPACE;
    uint32_t i = moi_dtr_new_tensor(dtr, name ? name : "constant", size);
    dtr->tensors[i].address = (unsigned char *)address;
    mo_status status = address ? MO_OK : moi_dtr_give_bytes(dtr, i);
    if (status != MO_OK) {
        moi_dtr_report(dtr, i);
        moi_dtr_free_tensor(dtr, i);
        return status;
    }
    dtr->tensors[i].state = MOI_DTR_RESIDENT;
    *tensor = moi_dtr_handle(dtr, i);
    return MO_OK;
}

/* Fills in the cost in *cost when there is none. */
static mo_status moi_dtr_check_op(const mo_dtr *dtr, const mo_dtr_op_desc *desc, double *cost) {
    double bytes = 0;
    if (!desc || !desc->run || desc->n_outputs == 0 || !desc->output_sizes) return MO_E_INVALID;
    if ((desc->n_inputs && !desc->inputs) || !(desc->cost >= 0 && desc->cost < HUGE_VAL))
        return MO_E_INVALID;
    for (size_t k = 0; k < desc->n_inputs; k++) {
        uint32_t i = moi_dtr_lookup(dtr, desc->inputs[k]);
        if (i == MOI_DTR_NONE) return MO_E_INVALID;
        bytes += (double)dtr->tensors[i].size;
    }
    for (size_t k = 0; k < desc->n_outputs; k++) {
        if (desc->output_sizes[k] == 0) return MO_E_INVALID;
        bytes += (double)desc->output_sizes[k];
    }
    if (desc->n_outputs > dtr->max_args || desc->n_inputs > dtr->max_args - desc->n_outputs)
        return MO_E_NO_SPACE;
    if (desc->n_outputs > dtr->max_tensors - dtr->live_tensors) return MO_E_NO_SPACE;
    if (desc->n_inputs > dtr->max_edges - dtr->live_edges) return MO_E_NO_SPACE;
    *cost = desc->cost > 0 ? desc->cost : bytes;
    return MO_OK;
}

static uint32_t moi_dtr_add_op(mo_dtr *dtr, const mo_dtr_op_desc *desc, double cost) {
    uint32_t i = moi_dtr_new_op(dtr, desc);
    moi_dtr_op *op = &dtr->ops[i];
    op->cost = cost;
    for (size_t k = desc->n_inputs; k > 0; k--)
        moi_dtr_add_input(dtr, i, moi_dtr_lookup(dtr, desc->inputs[k - 1]));
    for (size_t k = desc->n_outputs; k > 0; k--) {
        uint32_t t = moi_dtr_new_tensor(dtr, op->name, desc->output_sizes[k - 1]);
        dtr->tensors[t].op = i;
        dtr->tensors[t].output = (uint32_t)(k - 1);
        dtr->tensors[t].next_output = op->first_output;
        op->first_output = t;
    }
    op->n_needed = op->n_outputs = (uint32_t)desc->n_outputs;
    return i;
}

mo_status mo_dtr_op(mo_dtr *dtr, const mo_dtr_op_desc *desc, mo_dtr_tensor *outputs) {
    double cost = 0;
    size_t n = 0;
    if (!dtr || !outputs) return MO_E_INVALID;
    if (dtr->running) return MO_E_STATE;
    mo_status status = moi_dtr_check_op(dtr, desc, &cost);
    if (status != MO_OK) return status;
    uint32_t i = moi_dtr_add_op(dtr, desc, cost);
    status = moi_dtr_make(dtr, i);
    if (status != MO_OK) {
        dtr->ops[i].below = MOI_DTR_NONE;
        dtr->ops[i].n_needed = 0;
        moi_dtr_forget_ops(dtr, i);
        return status;
    }
    for (uint32_t t = dtr->ops[i].first_output; t != MOI_DTR_NONE; t = dtr->tensors[t].next_output)
        outputs[n++] = moi_dtr_handle(dtr, t);
    return MO_OK;
}

static mo_status moi_dtr_fetch(mo_dtr *dtr, mo_dtr_tensor tensor, uint32_t *index) {
    if (!dtr) return MO_E_INVALID;
    if (dtr->running) return MO_E_STATE;
    uint32_t i = moi_dtr_lookup(dtr, tensor);
    if (i == MOI_DTR_NONE) return MO_E_INVALID;
    *index = i;
    return dtr->tensors[i].state == MOI_DTR_RESIDENT ? MO_OK
                                                     : moi_dtr_make(dtr, dtr->tensors[i].op);
}

mo_status mo_dtr_acquire(mo_dtr *dtr, mo_dtr_tensor tensor, void **address) {
    uint32_t i = 0;
    if (!address) return MO_E_INVALID;
    mo_status status = moi_dtr_fetch(dtr, tensor, &i);
    if (status != MO_OK) return status;
    dtr->tensors[i].pins++;
    dtr->tensors[i].used = dtr->clock;
    *address = dtr->tensors[i].address;
    return MO_OK;
}

mo_status mo_dtr_release(mo_dtr *dtr, mo_dtr_tensor tensor) {
    uint32_t i = dtr ? moi_dtr_lookup(dtr, tensor) : MOI_DTR_NONE;
    if (i == MOI_DTR_NONE) return MO_E_INVALID;
    if (dtr->tensors[i].pins == 0) return MO_E_STATE;
    dtr->tensors[i].pins--;
    dtr->tensors[i].used = dtr->clock;
    return MO_OK;
}

mo_status mo_dtr_drop(mo_dtr *dtr, mo_dtr_tensor tensor) {
    uint32_t i = dtr ? moi_dtr_lookup(dtr, tensor) : MOI_DTR_NONE, forget = MOI_DTR_NONE;
    if (i == MOI_DTR_NONE) return MO_E_INVALID;
    moi_dtr_tensor *t = &dtr->tensors[i];
    if (dtr->running || t->pins) return MO_E_STATE;
    t->held = 0;
    if (t->first_user != MOI_DTR_NONE && t->state == MOI_DTR_RESIDENT && !moi_dtr_is_pinned(t))
        moi_dtr_evict(dtr, i);
    moi_dtr_settle(dtr, i, &forget);
    moi_dtr_forget_ops(dtr, forget);
    return MO_OK;
}

mo_status mo_dtr_keep(mo_dtr *dtr, mo_dtr_tensor tensor) {
    uint32_t i = 0, forget = MOI_DTR_NONE;
    mo_status status = moi_dtr_fetch(dtr, tensor, &i);
    if (status != MO_OK) return status;
    moi_dtr_tensor *t = &dtr->tensors[i];
    if (t->op == MOI_DTR_NONE || t->kept) return MO_OK;
    t->kept = 1;
    dtr->ops[t->op].n_kept++;
    moi_dtr_forget_later(dtr, t->op, &forget);
    moi_dtr_forget_ops(dtr, forget);
    return MO_OK;
}

void mo_dtr_get_stats(const mo_dtr *dtr, mo_dtr_stats *stats) {
    mo_suballoc_stats block;
    mo_suballoc_get_stats(&dtr->sub, &block);
    stats->n_evictions = dtr->n_evictions;
    stats->n_recomputes = dtr->n_recomputes;
    stats->cost = dtr->cost;
    stats->recompute_cost = dtr->recompute_cost;
    stats->resident_bytes = block.used_bytes;
    stats->peak_bytes = block.peak_bytes;
    stats->n_tensors = dtr->live_tensors;
    stats->n_ops = dtr->live_ops;
    stats->n_resident = block.n_allocs;
}

#undef MOI_DTR_NONE
