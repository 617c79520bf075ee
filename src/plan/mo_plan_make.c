/* mo_plan_make.c - schedule, lives and offsets of a plan: see mo_plan_internal.h. */

/* ---- arrays -------------------------------------------------------------------------------- */

static void moi_plan_free_arrays(mo_plan *plan) {
    const mo_allocator *from = &plan->allocator;
    const moi_plan_counts *max = &plan->max;
    moi_free_array(from, plan->ops, max->ops, sizeof *plan->ops);
    moi_free_array(from, plan->spans, max->ops, sizeof *plan->spans);
    moi_free_array(from, plan->stages, max->stages, sizeof *plan->stages);
    moi_free_array(from, plan->tensors, max->tensors, sizeof *plan->tensors);
    moi_free_array(from, plan->stage_slots, max->stages, sizeof *plan->stage_slots);
    moi_free_array(from, plan->slots, max->slots, sizeof *plan->slots);
    moi_free_array(from, plan->table, max->table, sizeof *plan->table);
    moi_free_array(from, plan->lives, max->lives, sizeof *plan->lives);
    moi_free_array(from, plan->events, max->events, sizeof *plan->events);
    moi_free_array(from, plan->moves, max->moves, sizeof *plan->moves);
    moi_free_array(from, plan->copies, max->copies, sizeof *plan->copies);
    moi_free_array(from, plan->fixed, max->fixed, sizeof *plan->fixed);
    moi_free_array(from, plan->names, max->names, 1);
    moi_free_array(from, plan->row, max->row, sizeof *plan->row);
    moi_free_array(from, plan->row_copies, max->row, sizeof *plan->row_copies);
}

/* Everything but the ops, which are needed to know the counts. */
static mo_status moi_plan_alloc_arrays(mo_plan *plan) {
    const mo_allocator *from = &plan->allocator;
    const moi_plan_counts *max = &plan->max;
    plan->spans = (moi_plan_op *)moi_alloc_array(from, max->ops, sizeof *plan->spans);
    plan->stages = (mo_stage *)moi_alloc_array(from, max->stages, sizeof *plan->stages);
    plan->tensors = (mo_stage_tensor *)moi_alloc_array(from, max->tensors, sizeof *plan->tensors);
    plan->stage_slots =
        (moi_plan_stage *)moi_alloc_array(from, max->stages, sizeof *plan->stage_slots);
    plan->slots = (moi_plan_slot *)moi_alloc_array(from, max->slots, sizeof *plan->slots);
    plan->table = (size_t *)moi_alloc_array(from, max->table, sizeof *plan->table);
    plan->lives = (moi_plan_life *)moi_alloc_array(from, max->lives, sizeof *plan->lives);
    plan->events = (moi_layout_key *)moi_alloc_array(from, max->events, sizeof *plan->events);
    plan->moves = (moi_plan_move *)moi_alloc_array(from, max->moves, sizeof *plan->moves);
    plan->copies = (moi_plan_copy *)moi_alloc_array(from, max->copies, sizeof *plan->copies);
    plan->fixed = (moi_plan_block *)moi_alloc_array(from, max->fixed, sizeof *plan->fixed);
    plan->names = (char *)moi_alloc_array(from, max->names, 1);
    plan->row = (void **)moi_alloc_array(from, max->row, sizeof *plan->row);
    plan->row_copies = (mo_plan_copy *)moi_alloc_array(from, max->row, sizeof *plan->row_copies);
    if (!plan->spans || !plan->stages || (!plan->tensors && max->tensors) || !plan->stage_slots ||
        !plan->slots || !plan->table || !plan->lives || !plan->events ||
        (!plan->moves && max->moves) || (!plan->copies && max->copies) ||
        (!plan->fixed && max->fixed) || !plan->names || !plan->row || !plan->row_copies)
        return MO_E_NO_MEMORY;
    memset(plan->table, 0, max->table * sizeof *plan->table);
    memset(plan->slots, 0, max->slots * sizeof *plan->slots);
    memset(plan->stage_slots, 0, max->stages * sizeof *plan->stage_slots);
    return MO_OK;
}

static void moi_plan_count_stages(moi_plan_counts *max, const mo_chain *chain) {
    max->stages = chain->n_stages;
    max->slots = 2;
    max->names += sizeof "input" + sizeof "input_grad";
    for (size_t i = 0; i < chain->n_stages; i++) {
        const mo_stage *stage = &chain->stages[i];
        size_t length = strlen(moi_remat_stage_name(stage));
        max->tensors += stage->n_tensors;
        max->slots += 2 + stage->n_tensors;
        max->row = moi_max(max->row, MOI_PLAN_TENSORS + stage->n_tensors);
        max->names += 3 * length + sizeof "" + sizeof ".output" + sizeof ".output_grad";
        for (size_t j = 0; j < stage->n_tensors; j++)
            max->names += length + strlen(moi_remat_tensor_name(&stage->tensors[j])) + 2;
    }
}

static void moi_plan_count(mo_plan *plan, const mo_plan_desc *desc) {
    moi_plan_counts *max = &plan->max;
    moi_plan_count_stages(max, desc->chain);
    max->fixed = desc->n_fixed;
    max->lives = 2;
    for (size_t i = 0; i < desc->n_fixed; i++)
        max->names += desc->fixed[i].name ? strlen(desc->fixed[i].name) + 1 : sizeof "fixed";
    for (size_t i = 0; i < plan->n_ops; i++) {
        const mo_remat_op *op = &plan->ops[i];
        size_t n = desc->chain->stages[op->stage].n_tensors, n_moved = op->save ? n : 1;
        max->table += MOI_PLAN_TENSORS + n;
        if (op->op < MO_STEP_OFFLOAD) max->lives += 2 + n;
        if (op->op == MO_STEP_PREFETCH) max->lives += n_moved;
        if (op->op == MO_STEP_OFFLOAD || op->op == MO_STEP_PREFETCH) max->copies += n_moved;
        if (op->op == MO_STEP_OFFLOAD) max->moves++;
    }
    max->events = 2 * max->lives;
}

/* ---- the chain, and names ------------------------------------------------------------------ */

/* "a" or "a.b" in the plan's own memory. */
static const char *moi_plan_name(mo_plan *plan, const char *a, const char *b) {
    char *name = plan->names + plan->n_names;
    size_t length = strlen(a);
    memcpy(name, a, length + 1);
    if (b) {
        name[length++] = '.';
        memcpy(name + length, b, strlen(b) + 1);
        length += strlen(b);
    }
    plan->n_names += length + 1;
    return name;
}

/* The chain in the plan's own memory. A stage's name stands before those of its tensors. */
static void moi_plan_copy_stage(mo_plan *plan, size_t i, const mo_stage *from, size_t *n_tensors) {
    mo_stage *to = &plan->stages[i];
    mo_stage_tensor *tensors = plan->tensors + *n_tensors;
    size_t slot = plan->stage_slots[i].slot;
    *to = *from;
    to->name = moi_plan_name(plan, moi_remat_stage_name(from), NULL);
    to->tensors = tensors;
    plan->slots[slot++].name = moi_plan_name(plan, to->name, "output");
    plan->slots[slot++].name = moi_plan_name(plan, to->name, "output_grad");
    for (size_t j = 0; j < from->n_tensors; j++) {
        const char *name = moi_plan_name(plan, to->name, moi_remat_tensor_name(&from->tensors[j]));
        tensors[j] = from->tensors[j];
        tensors[j].name = name + strlen(to->name) + 1;
        plan->slots[slot++].name = name;
    }
    *n_tensors += from->n_tensors;
}

static void moi_plan_copy_chain(mo_plan *plan, const mo_chain *chain) {
    size_t slot = 2, n_tensors = 0;
    plan->chain = *chain;
    plan->chain.stages = plan->stages;
    plan->slots[0].name = moi_plan_name(plan, "input", NULL);
    plan->slots[1].name = moi_plan_name(plan, "input_grad", NULL);
    for (size_t i = 0; i < chain->n_stages; i++) {
        plan->stage_slots[i].slot = slot;
        moi_plan_copy_stage(plan, i, &chain->stages[i], &n_tensors);
        slot += 2 + chain->stages[i].n_tensors;
    }
}

/* ---- lives --------------------------------------------------------------------------------- */

/* Slot of x[i]; that of dx[i] is the next one. */
static size_t moi_plan_x_slot(const mo_plan *plan, size_t i) {
    return i == 0 ? 0 : plan->stage_slots[i - 1].slot;
}

/* A new life of a slot's tensor. */
static size_t moi_plan_begin_life(
    mo_plan *plan, size_t slot, size_t size, mo_category category, size_t first, size_t last) {
    moi_plan_life *life = &plan->lives[plan->n_lives];
    if (size == 0) return 0;
    memset(life, 0, sizeof *life);
    life->name = plan->slots[slot].name;
    life->size = size;
    life->first = first;
    life->last = last;
    life->category = category;
    life->is_read = 1;
    return plan->n_lives++;
}

/* The slot's latest life goes on until this sub-step. */
static size_t moi_plan_extend_life(mo_plan *plan, size_t slot, size_t last) {
    size_t life = plan->slots[slot].life;
    plan->lives[life].last = last;
    plan->lives[life].is_read = 1;
    return life;
}

static mo_category moi_plan_category(const mo_stage_tensor *tensor) {
    if (tensor->category != MO_CATEGORY_OTHER) return tensor->category;
    return tensor->role == MO_TENSOR_FORWARD || tensor->role == MO_TENSOR_BACKWARD
        ? MO_CATEGORY_WORKSPACE
        : MO_CATEGORY_ACTIVATION;
}

/* Backward extends the life that is kept, and no other: a stage may run again between the two. */
static size_t moi_plan_forward_tensor(mo_plan *plan, size_t slot, const mo_stage_tensor *tensor,
    const moi_plan_op *span, const mo_remat_op *op) {
    if (!moi_remat_has(tensor, 0, op->save, op->light)) return 0;
    size_t life = moi_plan_begin_life(plan, slot, tensor->size, moi_plan_category(tensor),
        span->begin + tensor->forward_first, span->begin + tensor->forward_last);
    if (op->save && moi_remat_kept(tensor, op->light)) plan->slots[slot].life = life;
    return life;
}

static size_t moi_plan_backward_tensor(
    mo_plan *plan, size_t slot, const mo_stage_tensor *tensor, const moi_plan_op *span, int light) {
    if (!moi_remat_has(tensor, 1, 0, light)) return 0;
    if (moi_remat_kept(tensor, light))
        return moi_plan_extend_life(plan, slot, span->begin + tensor->backward_last);
    return moi_plan_begin_life(plan, slot, tensor->size, moi_plan_category(tensor),
        span->begin + tensor->backward_first, span->begin + tensor->backward_last);
}

static size_t moi_plan_begin_output(
    mo_plan *plan, const mo_stage *stage, const moi_plan_op *span, size_t slot, int is_read) {
    size_t life = moi_plan_begin_life(plan, slot, stage->output_size, MO_CATEGORY_ACTIVATION,
        span->begin + stage->output_first, span->end);
    plan->lives[life].is_read = is_read;
    return plan->slots[slot].life = life;
}

/* In place: the gradient of the output lives on as that of the input. */
static size_t moi_plan_begin_gradient(mo_plan *plan, const mo_stage *stage, const moi_plan_op *span,
    size_t slot, size_t size, size_t dy) {
    if (dy != 0 && stage->in_place && plan->lives[dy].size == size)
        return plan->slots[slot].life = dy;
    return plan->slots[slot].life = moi_plan_begin_life(plan, slot, size, MO_CATEGORY_ACTIVATION,
               span->begin + stage->gradient_first, span->end);
}

/* x, y, dy and dx are live during the whole op, but y and dx only from where they are written. An
 * output is not read until a later op extends it. */
static void moi_plan_op_edges(mo_plan *plan, size_t k) {
    const mo_chain *chain = &plan->chain;
    const mo_remat_op *op = &plan->ops[k];
    const moi_plan_op *span = &plan->spans[k];
    const mo_stage *stage = &chain->stages[op->stage];
    size_t *row = &plan->table[span->row], in = moi_plan_x_slot(plan, op->stage);
    size_t out = moi_plan_x_slot(plan, op->stage + 1);
    row[MOI_PLAN_X] = moi_plan_extend_life(plan, in, span->end);
    if (op->op != MO_STEP_BACKWARD)
        row[MOI_PLAN_Y] =
            moi_plan_begin_output(plan, stage, span, out, op->stage + 1 == chain->n_stages);
    if (op->op == MO_STEP_BACKWARD)
        row[MOI_PLAN_DY] = moi_plan_extend_life(plan, out + 1, span->end);
    if (op->op == MO_STEP_BACKWARD || op->op == MO_STEP_LOSS)
        row[MOI_PLAN_DX] = moi_plan_begin_gradient(
            plan, stage, span, in + 1, moi_remat_x_size(chain, op->stage), row[MOI_PLAN_DY]);
}

static void moi_plan_op_tensors(mo_plan *plan, size_t k) {
    const mo_remat_op *op = &plan->ops[k];
    const mo_stage *stage = &plan->chain.stages[op->stage];
    size_t *row = &plan->table[plan->spans[k].row + MOI_PLAN_TENSORS];
    for (size_t i = 0; i < stage->n_tensors; i++) {
        size_t slot = plan->stage_slots[op->stage].slot + 2 + i;
        const mo_stage_tensor *tensor = &stage->tensors[i];
        row[i] = op->op == MO_STEP_BACKWARD
            ? moi_plan_backward_tensor(plan, slot, tensor, &plan->spans[k], op->light)
            : moi_plan_forward_tensor(plan, slot, tensor, &plan->spans[k], op);
    }
}

/* What leaves keeps its bytes until OFFLOAD_WAIT, though x may be computed again meanwhile; what
 * comes back is a new life from PREFETCH on. */
static size_t moi_plan_move_slot(mo_plan *plan, mo_step_op op, size_t slot, size_t now) {
    moi_plan_slot *at = &plan->slots[slot];
    const moi_plan_life *old = &plan->lives[at->life];
    switch (op) {
    case MO_STEP_OFFLOAD: return at->leaving = moi_plan_extend_life(plan, slot, now);
    case MO_STEP_OFFLOAD_WAIT: plan->lives[at->leaving].last = now; return at->leaving;
    case MO_STEP_PREFETCH:
        return at->life = moi_plan_begin_life(plan, slot, old->size, old->category, now, now);
    default: return moi_plan_extend_life(plan, slot, now);
    }
}

static void moi_plan_op_moves(mo_plan *plan, size_t k) {
    const mo_remat_op *op = &plan->ops[k];
    const mo_stage *stage = &plan->chain.stages[op->stage];
    size_t *row = &plan->table[plan->spans[k].row], now = plan->spans[k].begin;
    size_t slot = plan->stage_slots[op->stage].slot + 2;
    if (!op->save)
        row[MOI_PLAN_X] = moi_plan_move_slot(plan, op->op, moi_plan_x_slot(plan, op->stage), now);
    for (size_t i = 0; op->save && i < stage->n_tensors; i++)
        if (moi_remat_kept(&stage->tensors[i], op->light))
            row[MOI_PLAN_TENSORS + i] = moi_plan_move_slot(plan, op->op, slot + i, now);
}

/* Sub-steps of an op. */
static size_t moi_plan_duration(const mo_chain *chain, const mo_remat_op *op) {
    const mo_stage *stage = &chain->stages[op->stage];
    if (op->op >= MO_STEP_OFFLOAD) return 1;
    return op->op == MO_STEP_BACKWARD ? moi_remat_backward_steps(stage)
                                      : moi_remat_forward_steps(stage);
}

static mo_status moi_plan_make_lives(mo_plan *plan) {
    size_t time = 0, row = 0;
    memset(&plan->lives[0], 0, sizeof plan->lives[0]);
    plan->n_lives = 1;
    plan->slots[0].life =
        moi_plan_begin_life(plan, 0, plan->chain.input_size, MO_CATEGORY_INPUT, 0, 0);
    for (size_t k = 0; k < plan->n_ops; k++) {
        const mo_remat_op *op = &plan->ops[k];
        moi_plan_op *span = &plan->spans[k];
        memset(span, 0, sizeof *span);
        span->begin = time;
        if (!moi_add(time, moi_plan_duration(&plan->chain, op), &time)) return MO_E_OVERFLOW;
        span->end = time - 1;
        span->row = row;
        row += MOI_PLAN_TENSORS + plan->chain.stages[op->stage].n_tensors;
        if (op->op >= MO_STEP_OFFLOAD) {
            moi_plan_op_moves(plan, k);
        } else {
            moi_plan_op_edges(plan, k);
            moi_plan_op_tensors(plan, k);
        }
    }
    return MO_OK;
}

/* Lives that nobody reads become life 0, and the others move up. */
static void moi_plan_drop_unread(mo_plan *plan, size_t n_table) {
    size_t kept = 1;
    for (size_t i = 1; i < plan->n_lives; i++) /* off: the new number, until the layout is known */
        plan->lives[i].off = plan->lives[i].is_read ? kept++ : 0;
    for (size_t i = 0; i < n_table; i++) plan->table[i] = plan->lives[plan->table[i]].off;
    for (size_t i = 1; i < plan->n_lives; i++)
        if (plan->lives[i].is_read) plan->lives[plan->lives[i].off] = plan->lives[i];
    plan->n_lives = kept;
}

/* ---- offsets ------------------------------------------------------------------------------- */

/* Whether size bytes fit into one piece, beside the bytes at its end that stay empty. */
static mo_status moi_plan_check_size(const mo_plan *plan, const char *name, size_t size) {
    if (plan->piece == 0 || size <= plan->piece - plan->align) return MO_OK;
    moi_log(&plan->log, MO_LOG_ERROR, "plan: %s has %zu bytes, a piece of memory %zu", name, size,
        plan->piece - plan->align);
    return MO_E_NO_SPACE;
}

/* Where size bytes go behind end. */
static int moi_plan_place(const mo_plan *plan, size_t end, size_t size, size_t *off) {
    if (!moi_align_up(end, plan->align, off)) return 0;
    if (plan->piece == 0) return 1;
    const size_t left = plan->piece - *off % plan->piece;
    return size <= left - plan->align || moi_add(*off, left, off);
}

static mo_status moi_plan_place_fixed(mo_plan *plan, const mo_plan_desc *desc) {
    size_t end = 0;
    for (size_t i = 0; i < desc->n_fixed; i++) {
        const mo_plan_fixed *from = &desc->fixed[i];
        moi_plan_block *to = &plan->fixed[i];
        if ((unsigned)from->category >= MO_CATEGORY_COUNT) {
            moi_log(desc->log, MO_LOG_ERROR, "plan: fixed %zu (%s): category %d", i,
                from->name ? from->name : "fixed", (int)from->category);
            return MO_E_INVALID;
        }
        memset(to, 0, sizeof *to);
        to->name = moi_plan_name(plan, from->name ? from->name : "fixed", NULL);
        to->size = from->size;
        to->category = from->category;
        if (to->size == 0) continue;
        mo_status status = moi_plan_check_size(plan, to->name, to->size);
        if (status != MO_OK) return status;
        if (!moi_plan_place(plan, end, to->size, &to->off) || !moi_add(to->off, to->size, &end))
            return MO_E_OVERFLOW;
    }
    plan->info.fixed_bytes = end;
    return MO_OK;
}

/* The layout of the lives begins behind the fixed blocks, at base. */
static mo_status moi_plan_apply_layout(
    mo_plan *plan, size_t base, const size_t *offsets, const mo_layout_result *layout) {
    plan->info.peak_bytes = plan->info.lower_bound = plan->info.fixed_bytes;
    plan->info.proved = layout->proved;
    if (layout->peak != 0) {
        if (!moi_add(base, layout->peak, &plan->info.peak_bytes)) return MO_E_OVERFLOW;
        plan->info.lower_bound = base + layout->lower_bound;
        for (size_t i = 1; i < plan->n_lives; i++) plan->lives[i].off = base + offsets[i - 1];
    }
    if (plan->piece == 0) return MO_OK;
    const int whole = moi_align_up(plan->info.peak_bytes, plan->align, &plan->info.peak_bytes) &&
        moi_align_up(plan->info.lower_bound, plan->align, &plan->info.lower_bound);
    plan->info.proved = plan->info.peak_bytes == plan->info.lower_bound;
    return whole ? MO_OK : MO_E_OVERFLOW;
}

static mo_layout_desc moi_plan_layout_desc(const mo_plan *plan) {
    mo_layout_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.align = plan->align;
    desc.allocator = &plan->allocator;
    desc.log = &plan->log;
    return desc;
}

static mo_layout_item moi_plan_item(size_t size, size_t first, size_t last) {
    mo_layout_item item;
    memset(&item, 0, sizeof item);
    item.size = size;
    item.first = first;
    item.last = last;
    return item;
}

/* Items of a layout: the lives, and behind them the walls. */
typedef struct moi_plan_items {
    mo_layout_item *items;
    size_t *offsets, *fixed;
    size_t n, n_lives, base;
} moi_plan_items;
enum { MOI_PLAN_ITEM_BYTES = sizeof(mo_layout_item) + 2 * sizeof(size_t) };

/* An item of all times at the end of each of the next n_walls pieces: nothing lies across. */
static mo_status moi_plan_add_walls(const mo_plan *plan, size_t n_walls, moi_plan_items *x) {
    size_t last = 0, end;
    if (!moi_add(x->base - x->base % plan->piece, plan->piece, &end)) return MO_E_OVERFLOW;
    for (size_t i = 0; i < x->n_lives; i++) last = moi_max(last, x->items[i].last);
    for (size_t i = 0; i < n_walls; i++) {
        x->items[x->n] = moi_plan_item(plan->align, 0, last);
        x->fixed[x->n++] = end - plan->align - x->base;
        if (!moi_add(end, plan->piece, &end)) return MO_E_OVERFLOW;
    }
    return MO_OK;
}

/* The layout with so many walls; *peak is its end. */
static mo_status moi_plan_solve(mo_plan *plan, size_t base, size_t n_walls, size_t *peak) {
    mo_layout_desc desc = moi_plan_layout_desc(plan);
    mo_layout_result result;
    moi_plan_items x = {NULL, NULL, NULL, plan->n_lives - 1, plan->n_lives - 1, base};
    const size_t n = x.n_lives + n_walls;
    x.items = (mo_layout_item *)moi_alloc_array(&plan->allocator, n, MOI_PLAN_ITEM_BYTES);
    if (!x.items) return MO_E_NO_MEMORY;
    x.offsets = (size_t *)(x.items + n);
    x.fixed = x.offsets + n;
    mo_status status = MO_OK;
    for (size_t i = 0; i < x.n_lives && status == MO_OK; i++) {
        const moi_plan_life *life = &plan->lives[i + 1];
        x.items[i] = moi_plan_item(life->size, life->first, life->last);
        x.fixed[i] = SIZE_MAX;
        status = moi_plan_check_size(plan, life->name ? life->name : "a tensor", life->size);
    }
    if (status == MO_OK && n_walls != 0) status = moi_plan_add_walls(plan, n_walls, &x);
    if (n_walls != 0) desc.fixed = x.fixed;
    if (status == MO_OK) status = mo_layout_solve(&desc, x.items, x.n, x.offsets, &result);
    if (status == MO_OK) status = moi_plan_apply_layout(plan, base, x.offsets, &result);
    if (status == MO_OK) *peak = plan->info.peak_bytes;
    moi_free_array(&plan->allocator, x.items, n, MOI_PLAN_ITEM_BYTES);
    return status;
}

/* With as many walls as the layout has pieces behind it, which more walls make larger. */
static mo_status moi_plan_layout(mo_plan *plan) {
    mo_layout_result none;
    size_t base, peak = 0;
    memset(&none, 0, sizeof none);
    none.proved = 1;
    if (plan->n_lives == 1) return moi_plan_apply_layout(plan, 0, NULL, &none);
    if (!moi_align_up(plan->info.fixed_bytes, plan->align, &base)) return MO_E_OVERFLOW;
    for (size_t n_walls = 0;; n_walls++) {
        mo_status status = moi_plan_solve(plan, base, n_walls, &peak);
        if (status != MO_OK || plan->piece == 0) return status;
        if (peak <= (base / plan->piece + n_walls + 1) * plan->piece) return MO_OK;
    }
}

/* ---- the store ----------------------------------------------------------------------------- */

/* What op k moves, by ascending offset: a = offset, index = place in the row. The events are not
 * made yet, so their array serves. */
static size_t moi_plan_sort_moved(mo_plan *plan, size_t k) {
    const size_t *row = &plan->table[plan->spans[k].row];
    size_t n = 0, n_row = MOI_PLAN_TENSORS + plan->stages[plan->ops[k].stage].n_tensors;
    for (size_t i = 0; i < n_row; i++) {
        moi_layout_key key = {plan->lives[row[i]].off, 0, i};
        if (row[i] != 0) plan->events[n++] = key;
    }
    moi_layout_sort(plan->events, n);
    return n;
}

static moi_plan_slot *moi_plan_moved_slot(mo_plan *plan, size_t stage, size_t in_row) {
    if (in_row == MOI_PLAN_X) return &plan->slots[moi_plan_x_slot(plan, stage)];
    return &plan->slots[plan->stage_slots[stage].slot + 2 + in_row - MOI_PLAN_TENSORS];
}

/* In the store the moved tensors have the order of their addresses, so that neighbours stay
 * neighbours. */
static mo_status moi_plan_begin_move(mo_plan *plan, size_t k, moi_plan_move *move) {
    size_t n = moi_plan_sort_moved(plan, k), end = 0;
    memset(move, 0, sizeof *move);
    move->first = plan->spans[k].begin;
    for (size_t i = 0; i < n; i++) {
        size_t in_row = plan->events[i].index;
        moi_plan_slot *slot = moi_plan_moved_slot(plan, plan->ops[k].stage, in_row);
        size_t size = plan->lives[plan->table[plan->spans[k].row + in_row]].size;
        if (!moi_align_up(end, plan->align, &slot->store_off) ||
            !moi_add(slot->store_off, size, &end))
            return MO_E_OVERFLOW;
    }
    move->size = end;
    return MO_OK;
}

static moi_plan_move *moi_plan_move_of(mo_plan *plan, const mo_remat_op *op) {
    int what = op->save ? MOI_PLAN_MOVE_SAVED : MOI_PLAN_MOVE_X;
    return &plan->moves[plan->stage_slots[op->stage].moves[what] - 1];
}

static mo_status moi_plan_make_moves(mo_plan *plan) {
    mo_status status = MO_OK;
    for (size_t k = 0; k < plan->n_ops && status == MO_OK; k++) {
        const mo_remat_op *op = &plan->ops[k];
        int what = op->save ? MOI_PLAN_MOVE_SAVED : MOI_PLAN_MOVE_X;
        if (op->op == MO_STEP_OFFLOAD) {
            status = moi_plan_begin_move(plan, k, &plan->moves[plan->n_moves++]);
            plan->stage_slots[op->stage].moves[what] = plan->n_moves;
        }
        if (op->op == MO_STEP_PREFETCH_WAIT) moi_plan_move_of(plan, op)->last = plan->spans[k].end;
    }
    return status;
}

static mo_status moi_plan_layout_store(mo_plan *plan) {
    size_t n = plan->n_moves, n_bytes = sizeof(mo_layout_item) + sizeof(size_t);
    mo_layout_desc desc = moi_plan_layout_desc(plan);
    mo_layout_result result;
    mo_layout_item *items = (mo_layout_item *)moi_alloc_array(&plan->allocator, n, n_bytes);
    if (!items) return MO_E_NO_MEMORY;
    size_t *offsets = (size_t *)(items + n);
    for (size_t i = 0; i < n; i++) {
        const moi_plan_move *move = &plan->moves[i];
        items[i] = moi_plan_item(move->size, move->first, move->last);
    }
    mo_status status = mo_layout_solve(&desc, items, n, offsets, &result);
    for (size_t i = 0; i < n && status == MO_OK; i++) plan->moves[i].off = offsets[i];
    if (status == MO_OK) plan->info.store_bytes = result.peak;
    moi_free_array(&plan->allocator, items, n, n_bytes);
    return status;
}

/* One copy more, or a longer one where memory and store both go on. */
static void moi_plan_add_copy(mo_plan *plan, moi_plan_op *span, moi_plan_copy copy) {
    moi_plan_copy *last = &plan->copies[span->copy + span->n_copies] - 1;
    if (span->n_copies > 0 && last->off + last->size == copy.off &&
        last->store_off + last->size == copy.store_off) {
        last->size += copy.size;
        return;
    }
    plan->copies[span->copy + span->n_copies++] = copy;
}

static mo_status moi_plan_start_copies(
    mo_plan *plan, size_t k, const moi_plan_move *move, size_t *bytes) {
    moi_plan_op *span = &plan->spans[k];
    size_t n = moi_plan_sort_moved(plan, k);
    span->copy = plan->n_copies;
    for (size_t i = 0; i < n; i++) {
        size_t in_row = plan->events[i].index;
        const moi_plan_life *life = &plan->lives[plan->table[span->row + in_row]];
        const moi_plan_slot *slot = moi_plan_moved_slot(plan, plan->ops[k].stage, in_row);
        moi_plan_copy copy = {life->off, life->size, move->off + slot->store_off};
        moi_plan_add_copy(plan, span, copy);
        if (!moi_add(*bytes, life->size, bytes)) return MO_E_OVERFLOW;
    }
    plan->n_copies += span->n_copies;
    return MO_OK;
}

static mo_status moi_plan_make_copies(mo_plan *plan) {
    mo_status status = MO_OK;
    for (size_t k = 0; k < plan->n_ops && status == MO_OK; k++) {
        const mo_remat_op *op = &plan->ops[k];
        if (op->op < MO_STEP_OFFLOAD) continue;
        moi_plan_move *move = moi_plan_move_of(plan, op);
        if (op->op == MO_STEP_OFFLOAD || op->op == MO_STEP_PREFETCH) {
            int is_out = op->op == MO_STEP_OFFLOAD;
            move->start = k;
            status = moi_plan_start_copies(
                plan, k, move, is_out ? &plan->info.out_bytes : &plan->info.in_bytes);
        } else {
            plan->spans[k].copy = plan->spans[move->start].copy;
            plan->spans[k].n_copies = plan->spans[move->start].n_copies;
        }
    }
    return status;
}

static mo_status moi_plan_make_store(mo_plan *plan) {
    if (plan->max.moves == 0) return MO_OK;
    mo_status status = moi_plan_make_moves(plan);
    if (status == MO_OK) status = moi_plan_layout_store(plan);
    if (status == MO_OK) status = moi_plan_make_copies(plan);
    return status;
}

/* ---- events and figures -------------------------------------------------------------------- */

/* Begins and ends in the order of time; at one sub-step the ends come first. */
static void moi_plan_make_events(mo_plan *plan) {
    for (size_t i = 1; i < plan->n_lives; i++) {
        moi_layout_key begin = {plan->lives[i].first, 1, i}, end = {plan->lives[i].last + 1, 0, i};
        plan->events[plan->n_events++] = begin;
        plan->events[plan->n_events++] = end;
    }
    moi_layout_sort(plan->events, plan->n_events);
}

/* The split at the moment with the most live bytes. */
static void moi_plan_find_peak(mo_plan *plan) {
    size_t bytes[MO_CATEGORY_COUNT] = {0}, live = 0, when = 0;
    mo_plan_info *info = &plan->info;
    for (size_t i = 0; i < plan->max.fixed; i++) {
        bytes[plan->fixed[i].category] += plan->fixed[i].size;
        live += plan->fixed[i].size;
    }
    info->live_bytes = live;
    memcpy(info->bytes, bytes, sizeof bytes);
    for (size_t i = 0; i < plan->n_events; i++) {
        const moi_plan_life *life = &plan->lives[plan->events[i].index];
        size_t change = plan->events[i].b ? life->size : 0 - life->size;
        bytes[life->category] += change;
        live += change;
        if (live <= info->live_bytes) continue;
        info->live_bytes = live;
        memcpy(info->bytes, bytes, sizeof bytes);
        when = (size_t)plan->events[i].a;
    }
    while (plan->spans[info->peak_step].end < when) info->peak_step++;
    info->gap_bytes = info->peak_bytes - info->live_bytes;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static mo_status moi_plan_make_ops(mo_plan *plan, const mo_plan_desc *desc) {
    mo_status status = MO_OK;
    plan->max.ops = desc->ops ? desc->n_ops : mo_remat_schedule_capacity(desc->chain, &desc->remat);
    plan->ops = (mo_remat_op *)moi_alloc_array(&plan->allocator, plan->max.ops, sizeof *plan->ops);
    if (plan->max.ops != 0 && !plan->ops) return MO_E_NO_MEMORY;
    if (!desc->ops) {
        status =
            mo_remat_schedule(desc->chain, &desc->remat, plan->ops, plan->max.ops, &plan->n_ops);
        if (status != MO_OK)
            moi_log(&plan->log, MO_LOG_ERROR, "plan: policy %d", (int)desc->remat.policy);
    } else {
        plan->n_ops = desc->n_ops;
        if (plan->n_ops) memcpy(plan->ops, desc->ops, plan->n_ops * sizeof *plan->ops);
    }
    return status == MO_OK ? mo_remat_check(desc->chain, plan->ops, plan->n_ops, &plan->log)
                           : status;
}

static void moi_plan_make_costs(mo_plan *plan) {
    int has_backward = 0;
    for (size_t k = 0; k < plan->n_ops; k++) has_backward |= plan->ops[k].op == MO_STEP_LOSS;
    plan->info.n_steps = plan->n_ops;
    plan->info.n_tensors = plan->n_lives;
    plan->info.cost_s = mo_remat_cost(&plan->chain, plan->ops, plan->n_ops);
    plan->info.ideal_s =
        has_backward ? mo_remat_ideal_cost(&plan->chain) : mo_remat_forward_cost(&plan->chain);
}

static void moi_plan_set_costs(mo_plan *plan, const mo_chain *chain) {
    for (size_t i = 0; i < chain->n_stages; i++) {
        mo_stage *to = &plan->stages[i];
        const mo_stage *from = &chain->stages[i];
        to->forward_s = from->forward_s;
        to->backward_s = from->backward_s;
        to->light_s = from->light_s;
        to->output_s = from->output_s;
        to->compress_s = from->compress_s;
    }
    moi_plan_make_costs(plan);
}

static mo_status moi_plan_make(mo_plan *plan, const mo_plan_desc *desc) {
    mo_status status = moi_plan_make_ops(plan, desc);
    if (status != MO_OK) return status;
    moi_plan_count(plan, desc);
    status = moi_plan_alloc_arrays(plan);
    if (status != MO_OK) return status;
    moi_plan_copy_chain(plan, desc->chain);
    status = moi_plan_make_lives(plan);
    if (status != MO_OK) return status;
    moi_plan_drop_unread(plan, plan->max.table);
    status = moi_plan_place_fixed(plan, desc);
    if (status == MO_OK) status = moi_plan_layout(plan);
    if (status == MO_OK) status = moi_plan_make_store(plan);
    if (status != MO_OK) return status;
    moi_plan_make_events(plan);
    moi_plan_find_peak(plan);
    moi_plan_make_costs(plan);
    return MO_OK;
}
