/* mo_plan.c - see mo_plan.h. How a plan is made: mo_plan_make.c. */

/* ---- create -------------------------------------------------------------------------------- */

static mo_status moi_plan_check_desc(const mo_plan_desc *desc, size_t align) {
    if (desc->n_fixed != 0 && !desc->fixed) return MO_E_INVALID;
    if (!moi_is_pow2(align)) {
        moi_log(desc->log, MO_LOG_ERROR, "plan: alignment %zu is no power of two", align);
        return MO_E_INVALID;
    }
    if (desc->piece != 0 && (desc->piece % align != 0 || desc->piece / align < 2)) {
        moi_log(desc->log, MO_LOG_ERROR, "plan: a piece of %zu bytes at an alignment of %zu",
            desc->piece, align);
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
    made->piece = desc->piece;
    made->seed = desc->seed;
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
    plan->pass = 0;
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

static void moi_plan_end_step(mo_plan *plan) {
    if (plan->track && plan->in_step) mo_track_end(plan->track);
    plan->in_step = 0;
}

static void moi_plan_begin_step(mo_plan *plan, const mo_remat_op *op) {
    moi_plan_end_step(plan);
    if (plan->track)
        mo_track_begin(plan->track, moi_remat_op_name(op->op), plan->stages[op->stage].name);
    plan->in_step = plan->track != NULL;
}

/* Every tensor ends, and the first step is next. */
static void moi_plan_rewind(mo_plan *plan) {
    moi_plan_end_step(plan);
    for (size_t i = 1; i < plan->n_lives; i++)
        if (plan->lives[i].is_live) moi_plan_end_bytes(plan, &plan->lives[i]);
    plan->at = plan->at_event = 0;
}

void mo_plan_begin_pass(mo_plan *plan, uint64_t pass) {
    if (!plan || !plan->arena) return;
    moi_plan_rewind(plan);
    plan->pass = pass;
}

void mo_plan_begin(mo_plan *plan) {
    if (plan) mo_plan_begin_pass(plan, plan->pass + (plan->at != 0));
}

void mo_plan_unbind(mo_plan *plan) {
    if (!plan || !plan->arena) return;
    moi_plan_rewind(plan);
    moi_plan_unbind_fixed(plan, plan->track);
    plan->arena->planned = 0;
    plan->arena = NULL;
    plan->track = NULL;
}

/* splitmix64's finalizer: neighbouring numbers give unrelated ones. */
static uint64_t moi_plan_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t moi_plan_step_seed(const mo_plan *plan, size_t stage) {
    const uint64_t step = 0x9e3779b97f4a7c15u;
    uint64_t of_pass = moi_plan_mix(plan->seed + step * (plan->pass + 1));
    return moi_plan_mix(of_pass + step * ((uint64_t)stage + 1));
}

static void moi_plan_fill_step(
    const mo_plan *plan, size_t k, void *const *row, const mo_plan_copy *copies, mo_step *step) {
    const mo_remat_op *op = &plan->ops[k];
    step->op = op->op;
    step->stage = op->stage;
    step->save = op->save;
    step->light = op->light;
    step->x = row[MOI_PLAN_X];
    step->y = row[MOI_PLAN_Y];
    step->dy = row[MOI_PLAN_DY];
    step->dx = row[MOI_PLAN_DX];
    step->tensors = row + MOI_PLAN_TENSORS;
    step->copies = copies;
    step->n_copies = plan->spans[k].n_copies;
    step->seed = moi_plan_step_seed(plan, op->stage);
}

int mo_plan_next(mo_plan *plan, mo_step *step) {
    if (!plan || !plan->arena || !step) return 0;
    if (plan->at == plan->n_ops) {
        moi_plan_end_step(plan);
        moi_plan_play(plan, plan->spans[plan->n_ops - 1].end + 1, SIZE_MAX);
        return 0;
    }
    size_t k = plan->at++;
    const moi_plan_op *span = &plan->spans[k];
    moi_plan_begin_step(plan, &plan->ops[k]);
    moi_plan_play(plan, span->begin, span->end);
    for (size_t i = 0; i < MOI_PLAN_TENSORS + plan->stages[plan->ops[k].stage].n_tensors; i++)
        plan->row[i] = plan->lives[plan->table[span->row + i]].address;
    for (size_t i = 0; i < span->n_copies; i++) {
        const moi_plan_copy *copy = &plan->copies[span->copy + i];
        plan->row_copies[i].address = mo_arena_at(plan->arena, copy->off, copy->size);
        plan->row_copies[i].size = copy->size;
        plan->row_copies[i].store_off = copy->store_off;
    }
    moi_plan_fill_step(plan, k, plan->row, plan->row_copies, step);
    return 1;
}

void *mo_plan_fixed_address(const mo_plan *plan, size_t i) {
    return plan && i < plan->max.fixed ? plan->fixed[i].address : NULL;
}
