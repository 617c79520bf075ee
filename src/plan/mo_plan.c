/* mo_plan.c - see mo_plan.h.
 *
 * Time is counted in sub-steps: every op takes as many as its stage's forward or backward has. A
 * "life" is one stretch of time in which a tensor must keep its bytes; a tensor that is computed
 * twice has two. Lives are what the layout places and what steps hand out. */

/* Life 0 stands for "no tensor": its address is NULL for ever. */
typedef struct moi_plan_life {
    const char *name;
    size_t size, off;
    size_t first, last;
    mo_category category;
    int is_read; /* somebody needs it; else it gets no memory */
    int is_live; /* begun and not ended, in the run */
    void *address;
} moi_plan_life;

/* A tensor of the chain: its name, and its latest life while the plan is being made. */
typedef struct moi_plan_slot {
    const char *name;
    size_t life;
} moi_plan_slot;

/* slot is the first of the stage's: output, its gradient, then the tensors. */
typedef struct moi_plan_stage {
    const char *name;
    size_t slot, n_tensors;
} moi_plan_stage;

/* Where an op's lives are in the table: x, y, dy, dx, then the tensors of its stage. */
typedef struct moi_plan_op {
    size_t begin, end; /* sub-steps, inclusive */
    size_t row;
} moi_plan_op;
enum { MOI_PLAN_X, MOI_PLAN_Y, MOI_PLAN_DY, MOI_PLAN_DX, MOI_PLAN_TENSORS };

typedef struct moi_plan_block {
    const char *name;
    size_t size, off;
    mo_category category;
    void *address;
} moi_plan_block;

/* How many elements the arrays of a plan have. */
typedef struct moi_plan_counts {
    size_t ops, stages, slots, table, lives, events, row, fixed, names;
} moi_plan_counts;

struct mo_plan {
    mo_allocator allocator;
    mo_log log;
    size_t align;
    mo_plan_info info;
    moi_plan_counts max; /* of the arrays */
    size_t n_ops, n_lives, n_events, n_names;
    mo_remat_op *ops;
    moi_plan_op *spans;
    moi_plan_stage *stages;
    moi_plan_slot *slots;
    size_t *table;
    moi_plan_life *lives;
    moi_layout_key *events; /* a = sub-step, b = 0 end or 1 begin, index = life */
    moi_plan_block *fixed;
    char *names;
    void **row; /* the addresses of the current step */
    mo_arena *arena;
    mo_track *track;
    size_t at, at_event;
};

/* ---- arrays -------------------------------------------------------------------------------- */

static void moi_plan_free_arrays(mo_plan *plan) {
    const mo_allocator *from = &plan->allocator;
    moi_free_array(from, plan->ops, plan->max.ops, sizeof *plan->ops);
    moi_free_array(from, plan->spans, plan->max.ops, sizeof *plan->spans);
    moi_free_array(from, plan->stages, plan->max.stages, sizeof *plan->stages);
    moi_free_array(from, plan->slots, plan->max.slots, sizeof *plan->slots);
    moi_free_array(from, plan->table, plan->max.table, sizeof *plan->table);
    moi_free_array(from, plan->lives, plan->max.lives, sizeof *plan->lives);
    moi_free_array(from, plan->events, plan->max.events, sizeof *plan->events);
    moi_free_array(from, plan->fixed, plan->max.fixed, sizeof *plan->fixed);
    moi_free_array(from, plan->names, plan->max.names, 1);
    moi_free_array(from, plan->row, plan->max.row, sizeof *plan->row);
}

/* Everything but the ops, which are needed to know the counts. */
static mo_status moi_plan_alloc_arrays(mo_plan *plan) {
    const mo_allocator *from = &plan->allocator;
    const moi_plan_counts *max = &plan->max;
    plan->spans = (moi_plan_op *)moi_alloc_array(from, max->ops, sizeof *plan->spans);
    plan->stages = (moi_plan_stage *)moi_alloc_array(from, max->stages, sizeof *plan->stages);
    plan->slots = (moi_plan_slot *)moi_alloc_array(from, max->slots, sizeof *plan->slots);
    plan->table = (size_t *)moi_alloc_array(from, max->table, sizeof *plan->table);
    plan->lives = (moi_plan_life *)moi_alloc_array(from, max->lives, sizeof *plan->lives);
    plan->events = (moi_layout_key *)moi_alloc_array(from, max->events, sizeof *plan->events);
    plan->fixed = (moi_plan_block *)moi_alloc_array(from, max->fixed, sizeof *plan->fixed);
    plan->names = (char *)moi_alloc_array(from, max->names, 1);
    plan->row = (void **)moi_alloc_array(from, max->row, sizeof *plan->row);
    if (!plan->spans || !plan->stages || !plan->slots || !plan->table || !plan->lives ||
        !plan->events || (!plan->fixed && max->fixed) || !plan->names || !plan->row)
        return MO_E_NO_MEMORY;
    memset(plan->table, 0, max->table * sizeof *plan->table);
    memset(plan->slots, 0, max->slots * sizeof *plan->slots);
    return MO_OK;
}

static void moi_plan_count(mo_plan *plan, const mo_plan_desc *desc) {
    const mo_chain *chain = desc->chain;
    moi_plan_counts *max = &plan->max;
    max->stages = chain->n_stages;
    max->fixed = desc->n_fixed;
    max->slots = 2;
    max->lives = 2;
    max->names = sizeof "input" + sizeof "input_grad";
    for (size_t i = 0; i < chain->n_stages; i++) {
        const mo_stage *stage = &chain->stages[i];
        size_t length = strlen(moi_remat_stage_name(stage));
        max->slots += 2 + stage->n_tensors;
        max->row = moi_max(max->row, MOI_PLAN_TENSORS + stage->n_tensors);
        max->names += 3 * length + sizeof "" + sizeof ".output" + sizeof ".output_grad";
        for (size_t j = 0; j < stage->n_tensors; j++)
            max->names += length + strlen(moi_remat_tensor_name(&stage->tensors[j])) + 2;
    }
    for (size_t i = 0; i < desc->n_fixed; i++)
        max->names += desc->fixed[i].name ? strlen(desc->fixed[i].name) + 1 : sizeof "fixed";
    for (size_t i = 0; i < plan->n_ops; i++) {
        size_t n = chain->stages[plan->ops[i].stage].n_tensors;
        max->table += MOI_PLAN_TENSORS + n;
        max->lives += 2 + n;
    }
    max->events = 2 * max->lives;
}

/* ---- names --------------------------------------------------------------------------------- */

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

static void moi_plan_name_all(mo_plan *plan, const mo_chain *chain) {
    size_t slot = 2;
    plan->slots[0].name = moi_plan_name(plan, "input", NULL);
    plan->slots[1].name = moi_plan_name(plan, "input_grad", NULL);
    for (size_t i = 0; i < chain->n_stages; i++) {
        const mo_stage *from = &chain->stages[i];
        moi_plan_stage *to = &plan->stages[i];
        to->name = moi_plan_name(plan, moi_remat_stage_name(from), NULL);
        to->slot = slot;
        to->n_tensors = from->n_tensors;
        plan->slots[slot++].name = moi_plan_name(plan, to->name, "output");
        plan->slots[slot++].name = moi_plan_name(plan, to->name, "output_grad");
        for (size_t j = 0; j < from->n_tensors; j++)
            plan->slots[slot++].name =
                moi_plan_name(plan, to->name, moi_remat_tensor_name(&from->tensors[j]));
    }
}

/* ---- lives --------------------------------------------------------------------------------- */

/* Slot of x[i]; that of dx[i] is the next one. */
static size_t moi_plan_x_slot(const mo_plan *plan, size_t i) {
    return i == 0 ? 0 : plan->stages[i - 1].slot;
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
    return tensor->role == MO_TENSOR_SAVED || tensor->role == MO_TENSOR_CHEAP
        ? MO_CATEGORY_ACTIVATION
        : MO_CATEGORY_WORKSPACE;
}

/* Backward extends the life that is kept, and no other: a stage may run again between the two. */
static size_t moi_plan_forward_tensor(mo_plan *plan, size_t slot, const mo_stage_tensor *tensor,
    const moi_plan_op *span, const mo_remat_op *op) {
    if (tensor->role == MO_TENSOR_BACKWARD) return 0;
    size_t life = moi_plan_begin_life(plan, slot, tensor->size, moi_plan_category(tensor),
        span->begin + tensor->forward_first, span->begin + tensor->forward_last);
    if (op->save && moi_remat_kept(tensor, op->light)) plan->slots[slot].life = life;
    return life;
}

static size_t moi_plan_backward_tensor(
    mo_plan *plan, size_t slot, const mo_stage_tensor *tensor, const moi_plan_op *span, int light) {
    if (tensor->role == MO_TENSOR_FORWARD) return 0;
    if (moi_remat_kept(tensor, light))
        return moi_plan_extend_life(plan, slot, span->begin + tensor->backward_last);
    return moi_plan_begin_life(plan, slot, tensor->size, moi_plan_category(tensor),
        span->begin + tensor->backward_first, span->begin + tensor->backward_last);
}

/* x, y, dy and dx are live during the whole op, but y and dx only from where they are written. An
 * output is not read until a later op extends it. */
static void moi_plan_op_edges(mo_plan *plan, const mo_chain *chain, size_t k) {
    const mo_remat_op *op = &plan->ops[k];
    const moi_plan_op *span = &plan->spans[k];
    const mo_stage *stage = &chain->stages[op->stage];
    size_t *row = &plan->table[span->row], in = moi_plan_x_slot(plan, op->stage);
    size_t out = moi_plan_x_slot(plan, op->stage + 1);
    row[MOI_PLAN_X] = moi_plan_extend_life(plan, in, span->end);
    if (op->op != MO_STEP_BACKWARD) {
        row[MOI_PLAN_Y] = moi_plan_begin_life(plan, out, stage->output_size, MO_CATEGORY_ACTIVATION,
            span->begin + stage->output_first, span->end);
        plan->lives[row[MOI_PLAN_Y]].is_read = op->stage + 1 == chain->n_stages;
        plan->slots[out].life = row[MOI_PLAN_Y];
    }
    if (op->op == MO_STEP_BACKWARD)
        row[MOI_PLAN_DY] = moi_plan_extend_life(plan, out + 1, span->end);
    if (op->op == MO_STEP_BACKWARD || op->op == MO_STEP_LOSS)
        row[MOI_PLAN_DX] = plan->slots[in + 1].life =
            moi_plan_begin_life(plan, in + 1, moi_remat_x_size(chain, op->stage),
                MO_CATEGORY_ACTIVATION, span->begin + stage->gradient_first, span->end);
}

static void moi_plan_op_tensors(mo_plan *plan, const mo_chain *chain, size_t k) {
    const mo_remat_op *op = &plan->ops[k];
    const mo_stage *stage = &chain->stages[op->stage];
    size_t *row = &plan->table[plan->spans[k].row + MOI_PLAN_TENSORS];
    for (size_t i = 0; i < stage->n_tensors; i++) {
        size_t slot = plan->stages[op->stage].slot + 2 + i;
        const mo_stage_tensor *tensor = &stage->tensors[i];
        row[i] = op->op == MO_STEP_BACKWARD
            ? moi_plan_backward_tensor(plan, slot, tensor, &plan->spans[k], op->light)
            : moi_plan_forward_tensor(plan, slot, tensor, &plan->spans[k], op);
    }
}

static mo_status moi_plan_make_lives(mo_plan *plan, const mo_chain *chain) {
    size_t time = 0, row = 0;
    memset(&plan->lives[0], 0, sizeof plan->lives[0]);
    plan->n_lives = 1;
    plan->slots[0].life = moi_plan_begin_life(plan, 0, chain->input_size, MO_CATEGORY_INPUT, 0, 0);
    for (size_t k = 0; k < plan->n_ops; k++) {
        const mo_stage *stage = &chain->stages[plan->ops[k].stage];
        plan->spans[k].begin = time;
        if (!moi_add(time,
                plan->ops[k].op == MO_STEP_BACKWARD ? moi_remat_backward_steps(stage)
                                                    : moi_remat_forward_steps(stage),
                &time))
            return MO_E_OVERFLOW;
        plan->spans[k].end = time - 1;
        plan->spans[k].row = row;
        row += MOI_PLAN_TENSORS + stage->n_tensors;
        moi_plan_op_edges(plan, chain, k);
        moi_plan_op_tensors(plan, chain, k);
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
        if (!moi_align_up(end, plan->align, &to->off) || !moi_add(to->off, to->size, &end))
            return MO_E_OVERFLOW;
    }
    plan->info.fixed_bytes = end;
    return MO_OK;
}

/* The layout of the lives begins behind the fixed blocks. */
static mo_status moi_plan_apply_layout(
    mo_plan *plan, const size_t *offsets, const mo_layout_result *layout) {
    size_t base;
    plan->info.peak_bytes = plan->info.lower_bound = plan->info.fixed_bytes;
    plan->info.proved = layout->proved;
    if (layout->peak == 0) return MO_OK;
    if (!moi_align_up(plan->info.fixed_bytes, plan->align, &base) ||
        !moi_add(base, layout->peak, &plan->info.peak_bytes))
        return MO_E_OVERFLOW;
    plan->info.lower_bound = base + layout->lower_bound;
    for (size_t i = 1; i < plan->n_lives; i++) plan->lives[i].off = base + offsets[i - 1];
    return MO_OK;
}

static mo_status moi_plan_layout(mo_plan *plan) {
    size_t n = plan->n_lives - 1, n_bytes = sizeof(mo_layout_item) + sizeof(size_t);
    mo_layout_desc desc;
    mo_layout_result result;
    memset(&desc, 0, sizeof desc);
    memset(&result, 0, sizeof result);
    desc.align = plan->align;
    desc.allocator = &plan->allocator;
    desc.log = &plan->log;
    result.proved = 1;
    if (n == 0) return moi_plan_apply_layout(plan, NULL, &result);
    mo_layout_item *items = (mo_layout_item *)moi_alloc_array(&plan->allocator, n, n_bytes);
    if (!items) return MO_E_NO_MEMORY;
    size_t *offsets = (size_t *)(items + n);
    for (size_t i = 0; i < n; i++) {
        items[i].size = plan->lives[i + 1].size;
        items[i].align = 0;
        items[i].first = plan->lives[i + 1].first;
        items[i].last = plan->lives[i + 1].last;
    }
    mo_status status = mo_layout_solve(&desc, items, n, offsets, &result);
    if (status == MO_OK) status = moi_plan_apply_layout(plan, offsets, &result);
    moi_free_array(&plan->allocator, items, n, n_bytes);
    return status;
}

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

/* ---- create -------------------------------------------------------------------------------- */

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

static void moi_plan_make_costs(mo_plan *plan, const mo_chain *chain) {
    int has_backward = plan->ops[plan->n_ops - 1].op >= MO_STEP_LOSS;
    plan->info.n_steps = plan->n_ops;
    plan->info.n_tensors = plan->n_lives;
    plan->info.cost_s = mo_remat_cost(chain, plan->ops, plan->n_ops);
    plan->info.ideal_s = has_backward ? mo_remat_ideal_cost(chain) : mo_remat_forward_cost(chain);
}

static mo_status moi_plan_make(mo_plan *plan, const mo_plan_desc *desc) {
    mo_status status = moi_plan_make_ops(plan, desc);
    if (status != MO_OK) return status;
    moi_plan_count(plan, desc);
    status = moi_plan_alloc_arrays(plan);
    if (status != MO_OK) return status;
    moi_plan_name_all(plan, desc->chain);
    status = moi_plan_make_lives(plan, desc->chain);
    if (status != MO_OK) return status;
    moi_plan_drop_unread(plan, plan->max.table);
    status = moi_plan_place_fixed(plan, desc);
    if (status == MO_OK) status = moi_plan_layout(plan);
    if (status != MO_OK) return status;
    moi_plan_make_events(plan);
    moi_plan_find_peak(plan);
    moi_plan_make_costs(plan, desc->chain);
    return MO_OK;
}

static mo_status moi_plan_check_desc(const mo_plan_desc *desc, size_t align) {
    if (desc->n_fixed != 0 && !desc->fixed) return MO_E_INVALID;
    if (!moi_is_pow2(align)) {
        moi_log(desc->log, MO_LOG_ERROR, "plan: alignment %zu is no power of two", align);
        return MO_E_INVALID;
    }
    return mo_chain_check(desc->chain, desc->log);
}

mo_status mo_plan_create(mo_plan **plan, const mo_plan_desc *desc) {
    if (!plan || !desc) return MO_E_INVALID;
    size_t align = desc->align;
    if (align == 0) align = MOI_CACHE_LINE;
    mo_status status = moi_plan_check_desc(desc, align);
    if (status != MO_OK) return status;
    mo_plan *made = (mo_plan *)mo_alloc(desc->allocator, sizeof *made, MOI_CACHE_LINE);
    if (!made) return MO_E_NO_MEMORY;
    memset(made, 0, sizeof *made);
    if (desc->allocator) made->allocator = *desc->allocator;
    if (desc->log) made->log = *desc->log;
    made->align = align;
    status = moi_plan_make(made, desc);
    if (status == MO_OK) *plan = made;
    else mo_plan_destroy(made);
    return status;
}

void mo_plan_destroy(mo_plan *plan) {
    if (!plan) return;
    mo_allocator from = plan->allocator;
    moi_plan_free_arrays(plan);
    mo_free(&from, plan, sizeof *plan, MOI_CACHE_LINE);
}

mo_plan_info mo_plan_describe(const mo_plan *plan) { return plan->info; }

/* ---- running ------------------------------------------------------------------------------- */

static mo_status moi_plan_bind_fixed(mo_plan *plan, mo_arena *arena, mo_track *track) {
    for (size_t i = 0; i < plan->max.fixed; i++) {
        moi_plan_block *block = &plan->fixed[i];
        if (block->size == 0) continue;
        void *address = mo_arena_at(arena, block->off, block->size);
        mo_status status = address ? MO_OK : MO_E_NO_MEMORY;
        if (address && track)
            status = mo_track_add(track, address, block->size, block->category, block->name);
        if (status != MO_OK) return status;
        block->address = address;
    }
    return MO_OK;
}

static void moi_plan_unbind_fixed(mo_plan *plan, mo_track *track) {
    for (size_t i = 0; i < plan->max.fixed; i++) {
        if (plan->fixed[i].address && track) (void)mo_track_remove(track, plan->fixed[i].address);
        plan->fixed[i].address = NULL;
    }
}

mo_status mo_plan_bind(mo_plan *plan, mo_arena *arena, mo_track *track) {
    mo_arena_stats stats;
    if (!plan || !arena) return MO_E_INVALID;
    mo_arena_get_stats(arena, &stats);
    if (plan->arena || stats.used_bytes != 0) return MO_E_STATE;
    mo_status status = mo_arena_commit(arena, plan->info.peak_bytes);
    if (status != MO_OK) return status;
    if ((uintptr_t)mo_arena_at(arena, 0, 0) % plan->align != 0) {
        moi_log(&plan->log, MO_LOG_ERROR, "plan: the arena is not aligned to %zu", plan->align);
        return MO_E_INVALID;
    }
    status = moi_plan_bind_fixed(plan, arena, track);
    if (status != MO_OK) {
        moi_plan_unbind_fixed(plan, track);
        (void)mo_arena_rewind(arena, 0);
        return status;
    }
    arena->planned = plan->info.peak_bytes;
    plan->arena = arena;
    plan->track = track;
    plan->at = plan->at_event = 0;
    return MO_OK;
}

static void moi_plan_begin_bytes(mo_plan *plan, moi_plan_life *life) {
    life->address = mo_arena_at(plan->arena, life->off, life->size);
    life->is_live = 1;
    if (plan->track && life->address)
        (void)mo_track_add(plan->track, life->address, life->size, life->category, life->name);
}

static void moi_plan_end_bytes(mo_plan *plan, moi_plan_life *life) {
    if (plan->track) (void)mo_track_remove(plan->track, life->address);
    life->is_live = 0;
}

/* Everything that begins or ends up to a sub-step. What ended with the step before is poisoned:
 * when this step begins nobody else has these bytes yet. */
static void moi_plan_play(mo_plan *plan, size_t begin, size_t end) {
    for (; plan->at_event < plan->n_events; plan->at_event++) {
        const moi_layout_key *event = &plan->events[plan->at_event];
        moi_plan_life *life = &plan->lives[event->index];
        if (event->a > end) return;
        if (event->b) {
            moi_plan_begin_bytes(plan, life);
            continue;
        }
        moi_plan_end_bytes(plan, life);
        if (event->a == begin) MOI_POISON(life->address, life->size);
    }
}

void mo_plan_begin(mo_plan *plan) {
    if (!plan || !plan->arena) return;
    for (size_t i = 1; i < plan->n_lives; i++)
        if (plan->lives[i].is_live) moi_plan_end_bytes(plan, &plan->lives[i]);
    plan->at = plan->at_event = 0;
}

void mo_plan_unbind(mo_plan *plan) {
    if (!plan || !plan->arena) return;
    mo_plan_begin(plan);
    moi_plan_unbind_fixed(plan, plan->track);
    plan->arena->planned = 0;
    plan->arena = NULL;
    plan->track = NULL;
}

int mo_plan_next(mo_plan *plan, mo_step *step) {
    if (!plan || !plan->arena || !step) return 0;
    if (plan->at == plan->n_ops) {
        moi_plan_play(plan, plan->spans[plan->n_ops - 1].end + 1, SIZE_MAX);
        return 0;
    }
    const mo_remat_op *op = &plan->ops[plan->at];
    const moi_plan_op *span = &plan->spans[plan->at++];
    moi_plan_play(plan, span->begin, span->end);
    for (size_t i = 0; i < MOI_PLAN_TENSORS + plan->stages[op->stage].n_tensors; i++)
        plan->row[i] = plan->lives[plan->table[span->row + i]].address;
    step->op = op->op;
    step->stage = op->stage;
    step->save = op->save;
    step->light = op->light;
    step->x = plan->row[MOI_PLAN_X];
    step->y = plan->row[MOI_PLAN_Y];
    step->dy = plan->row[MOI_PLAN_DY];
    step->dx = plan->row[MOI_PLAN_DX];
    step->tensors = plan->row + MOI_PLAN_TENSORS;
    return 1;
}

void *mo_plan_fixed_address(const mo_plan *plan, size_t i) {
    return plan && i < plan->max.fixed ? plan->fixed[i].address : NULL;
}

/* ---- text ---------------------------------------------------------------------------------- */

typedef struct moi_plan_text {
    const mo_writer *writer;
    mo_status status;
} moi_plan_text;

/* One line; a name too long for it is cut. */
MOI_PRINTF(2) static void moi_plan_line(moi_plan_text *text, const char *format, ...) {
    char line[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (length < 0 || text->status != MO_OK) return;
    size_t n = moi_min((size_t)length, sizeof line - 2);
    line[n++] = '\n';
    if (text->writer->write(text->writer->self, line, n) != 0) text->status = MO_E_IO;
}

static void moi_plan_write_info(moi_plan_text *text, const mo_plan *plan) {
    const mo_plan_info *info = &plan->info;
    moi_plan_line(text, "plan: peak %zu (%s %zu), fixed %zu, live %zu, gap %zu bytes",
        info->peak_bytes, info->proved ? "proved, bound" : "bound", info->lower_bound,
        info->fixed_bytes, info->live_bytes, info->gap_bytes);
    for (int i = 0; i < MO_CATEGORY_COUNT; i++)
        if (info->bytes[i])
            moi_plan_line(text, "  %-10s %12zu", mo_category_name((mo_category)i), info->bytes[i]);
    moi_plan_line(text, "cost %g, ideal %g; %zu steps, peak at step %zu", info->cost_s,
        info->ideal_s, info->n_steps, info->peak_step);
    for (size_t i = 0; i < plan->max.fixed; i++)
        moi_plan_line(text, "  %12zu %12zu %-10s %s", plan->fixed[i].off, plan->fixed[i].size,
            mo_category_name(plan->fixed[i].category), plan->fixed[i].name);
}

static void moi_plan_write_step(moi_plan_text *text, const mo_plan *plan, size_t k) {
    const mo_remat_op *op = &plan->ops[k];
    const moi_plan_op *span = &plan->spans[k];
    const moi_plan_stage *stage = &plan->stages[op->stage];
    moi_plan_line(text, "step %zu: %s %zu %s%s%s", k, moi_remat_op_name(op->op), op->stage,
        stage->name, op->save ? " save" : "", op->light ? " light" : "");
    for (size_t i = 0; i < MOI_PLAN_TENSORS + stage->n_tensors; i++) {
        const moi_plan_life *life = &plan->lives[plan->table[span->row + i]];
        size_t last = k;
        if (life->size == 0 || life->first < span->begin) continue;
        while (plan->spans[last].end < life->last) last++;
        moi_plan_line(text, "  %12zu %12zu %-10s %s until step %zu", life->off, life->size,
            mo_category_name(life->category), life->name, last);
    }
}

mo_status mo_plan_write_text(const mo_plan *plan, const mo_writer *writer) {
    moi_plan_text text = {writer, MO_OK};
    if (!plan || !writer || !writer->write) return MO_E_INVALID;
    moi_plan_write_info(&text, plan);
    for (size_t k = 0; k < plan->n_ops && text.status == MO_OK; k++)
        moi_plan_write_step(&text, plan, k);
    return text.status;
}
