/* mo_plan_build.c - see mo_plan_build.h. The flat chain is a model: it rounds, and counts a little
 * more than a plan needs. So its schedules are laid out, fastest first, until one fits. */

/* A build on its way: the best plan so far is the fastest that fits, or the smallest where none
 * does. */
typedef struct moi_build {
    const mo_plan_build_desc *desc;
    size_t budget;
    mo_plan *best;
    mo_plan_build_result result;
    size_t best_bytes;
    size_t for_stages; /* bytes of the budget behind the fixed blocks */
    mo_flat_chain flat;
    mo_remat_table *table;
    mo_remat_op *ops;
    size_t n_ops, capacity;
} moi_build;

static const mo_allocator *moi_build_allocator(const moi_build *b) {
    return b->desc->plan.allocator;
}

/* Lays a schedule out and keeps the plan when it is better. wait_s: see cost_s of the result. */
static mo_status moi_build_try(
    moi_build *b, const mo_plan_desc *desc, double wait_s, size_t *peak_bytes) {
    mo_plan *plan;
    const mo_status status = mo_plan_create(&plan, desc);
    if (status != MO_OK) return status;
    const mo_plan_info info = mo_plan_describe(plan);
    const double cost_s = info.cost_s + wait_s;
    const int fits = info.peak_bytes <= b->budget;
    int better = b->best == NULL || fits > b->result.fits;
    if (!better && fits == b->result.fits) {
        better = fits ? cost_s < b->result.cost_s : info.peak_bytes < b->best_bytes;
        if (fits && cost_s <= b->result.cost_s && info.peak_bytes < b->best_bytes) better = 1;
    }
    b->result.n_plans++;
    b->result.least_bytes = moi_min(b->result.least_bytes, info.peak_bytes);
    *peak_bytes = info.peak_bytes;
    if (!better) {
        mo_plan_destroy(plan);
        return MO_OK;
    }
    mo_plan_destroy(b->best);
    b->best = plan;
    b->best_bytes = info.peak_bytes;
    b->result.fits = fits;
    b->result.cost_s = cost_s;
    return MO_OK;
}

static mo_status moi_build_policy(
    moi_build *b, mo_remat_policy policy, int keep_cheap, int compress) {
    mo_plan_desc desc = b->desc->plan;
    size_t peak_bytes;
    desc.ops = NULL;
    desc.n_ops = 0;
    memset(&desc.remat, 0, sizeof desc.remat);
    desc.remat.policy = policy;
    desc.remat.keep_cheap = keep_cheap;
    desc.remat.compress = compress;
    return moi_build_try(b, &desc, 0, &peak_bytes);
}

static int moi_build_compresses(const mo_chain *chain) {
    for (size_t i = 0; i < chain->n_stages; i++)
        if (moi_flat_has(&chain->stages[i], MO_TENSOR_CODES)) return 1;
    return 0;
}

static mo_status moi_build_policies(moi_build *b) {
    mo_status status = moi_build_policy(b, MO_REMAT_LIGHT, 0, 0);
    for (int keep = 0; keep < 2 && status == MO_OK; keep++) {
        status = moi_build_policy(b, MO_REMAT_BLOCK, keep, 0);
        if (status == MO_OK) status = moi_build_policy(b, MO_REMAT_SQRT, keep, 0);
    }
    if (status != MO_OK || !moi_build_compresses(b->desc->plan.chain)) return status;
    status = moi_build_policy(b, MO_REMAT_LIGHT, 0, 1);
    if (status == MO_OK) status = moi_build_policy(b, MO_REMAT_BLOCK, 0, 1);
    return status == MO_OK ? moi_build_policy(b, MO_REMAT_SQRT, 0, 1) : status;
}

static mo_remat_table_desc moi_build_table_desc(const moi_build *b, size_t budget) {
    mo_remat_table_desc d;
    memset(&d, 0, sizeof d);
    d.chain = &b->flat;
    d.budget = budget;
    d.slots = b->desc->slots;
    d.allocator = moi_build_allocator(b);
    d.log = b->desc->plan.log;
    return d;
}

/* Room for the ops of a schedule of the flat chain. */
static mo_status moi_build_reserve(moi_build *b, size_t n) {
    const mo_allocator *allocator = moi_build_allocator(b);
    if (n <= b->capacity) return MO_OK;
    moi_free_array(allocator, b->ops, b->capacity, sizeof *b->ops);
    b->capacity = 0;
    b->ops = (mo_remat_op *)moi_alloc_array(allocator, n, sizeof *b->ops);
    if (!b->ops) return MO_E_NO_MEMORY;
    b->capacity = n;
    return MO_OK;
}

static mo_status moi_build_try_ops(moi_build *b, double wait_s, size_t *peak_bytes) {
    mo_plan_desc desc = b->desc->plan;
    desc.ops = b->ops;
    desc.n_ops = b->n_ops;
    return moi_build_try(b, &desc, wait_s, peak_bytes);
}

static mo_status moi_build_try_flat(moi_build *b, const mo_remat_solution *s) {
    size_t peak_bytes;
    mo_status status = moi_build_reserve(b, s->n_ops);
    if (status == MO_OK)
        status = mo_remat_unflatten(
            b->desc->plan.chain, s->ops, s->n_ops, moi_build_allocator(b), b->ops, &b->n_ops);
    return status == MO_OK ? moi_build_try_ops(b, 0, &peak_bytes) : status;
}

/* From the fastest schedule to slower and smaller ones, until none can be faster than the best. */
static mo_status moi_build_columns(moi_build *b) {
    double last_s = -1;
    size_t last_bytes = 0;
    mo_status status = MO_OK;
    for (size_t i = mo_remat_table_describe(b->table).n_columns; i > 0 && status == MO_OK; i--) {
        mo_remat_solution s;
        status = mo_remat_table_schedule(b->table, 0, i - 1, &s);
        if (status != MO_OK) break;
        const int ends = !s.feasible || s.cost_s >= b->result.cost_s;
        if (!ends && (s.cost_s != last_s || s.peak_bytes != last_bytes))
            status = moi_build_try_flat(b, &s);
        last_s = s.cost_s;
        last_bytes = s.peak_bytes;
        mo_remat_solution_free(&s);
        if (ends) break;
    }
    return status;
}

/* The schedule that needs least, from a table that no budget has a part in. */
static mo_status moi_build_floor(moi_build *b, size_t floor_bytes) {
    mo_remat_table_desc d = moi_build_table_desc(b, floor_bytes);
    mo_remat_solution s;
    mo_status status = mo_remat_optimal(&d, &s);
    if (status != MO_OK) return status;
    if (s.feasible) status = moi_build_try_flat(b, &s);
    mo_remat_solution_free(&s);
    return status;
}

/* One offload schedule of the flat chain under a budget; *peak_bytes of its plan, or 0. */
static mo_status moi_build_link(moi_build *b, size_t budget, size_t *peak_bytes) {
    mo_offload_solution s;
    mo_offload_desc d;
    memset(&d, 0, sizeof d);
    d.chain = &b->flat;
    d.budget = budget;
    d.link = b->desc->link;
    d.store_bytes = b->desc->store_bytes;
    d.table = b->table;
    d.allocator = moi_build_allocator(b);
    d.log = b->desc->plan.log;
    mo_status status = mo_remat_offload(&d, &s);
    *peak_bytes = 0;
    if (status != MO_OK) return status;
    if (s.feasible && s.n_items != 0) {
        status = moi_build_reserve(b, 2 * s.n_ops);
        if (status == MO_OK)
            status = mo_remat_offload_unflatten(
                b->desc->plan.chain, s.ops, s.n_ops, d.allocator, b->ops, &b->n_ops);
        if (status == MO_OK) status = moi_build_try_ops(b, s.stall_s, peak_bytes);
    }
    mo_offload_solution_free(&s);
    return status;
}

/* A plan may need less than the flat chain counts, or more, for holes in its layout. */
static mo_status moi_build_links(moi_build *b, size_t budget, size_t slack) {
    size_t peak_bytes;
    mo_status status = MO_OK;
    for (int i = 0; i < 12 && status == MO_OK; i++) {
        status = moi_build_link(b, budget, &peak_bytes);
        if (status != MO_OK || peak_bytes <= b->budget) break;
        const size_t over = moi_max(peak_bytes - b->budget, slack / 8);
        if (over >= budget) break;
        budget -= over;
    }
    return status;
}

/* By how much a plan and the flat chain may differ: twice the largest x, and alignment. */
static size_t moi_build_slack(const moi_build *b) {
    const mo_chain *chain = b->desc->plan.chain;
    const size_t align = b->desc->plan.align ? b->desc->plan.align : (size_t)MOI_CACHE_LINE;
    size_t largest = 0, n_tensors = 0, rounding;
    for (size_t i = 0; i < chain->n_stages; i++) {
        largest = moi_max(largest, chain->stages[i].output_size);
        n_tensors += chain->stages[i].n_tensors + 2;
    }
    if (largest > SIZE_MAX / 16 || !moi_mul(n_tensors, align, &rounding)) return 0;
    return rounding > SIZE_MAX / 16 ? 0 : 2 * largest + rounding;
}

/* Which plan is the smallest depends neither on the budget nor on the link: that of a policy, or of
 * the schedule that needs least. Where it does not fit, no table is asked, so that every budget of
 * its size or more is met, and no other. */
static mo_status moi_build_solve(moi_build *b) {
    const size_t slack = moi_build_slack(b);
    size_t floor_bytes, budget;
    mo_status status =
        mo_remat_floor(&b->flat, 0, MO_REMAT_MODE_ANY, moi_build_allocator(b), &floor_bytes);
    if (status == MO_OK) status = moi_build_floor(b, floor_bytes);
    if (status != MO_OK) return status;
    if (!moi_add(b->for_stages, slack, &budget)) budget = b->for_stages;
    const mo_remat_table_desc d = moi_build_table_desc(b, moi_max(budget, floor_bytes));
    status = mo_remat_table_create(&b->table, &d);
    if (status == MO_OK && b->result.fits) status = moi_build_columns(b);
    if (status == MO_OK && b->desc->link.out_bytes_per_s > 0)
        status = moi_build_links(b, budget, slack);
    return status;
}

static mo_status moi_build_run(moi_build *b) {
    mo_status status = moi_build_policy(b, MO_REMAT_NONE, 0, 0);
    if (status != MO_OK || b->result.fits) return status; /* nothing is faster */
    const size_t fixed_bytes = mo_plan_describe(b->best).fixed_bytes;
    b->for_stages = b->budget > fixed_bytes ? b->budget - fixed_bytes : 0;
    status = moi_build_policies(b);
    if (status == MO_OK)
        status = mo_remat_flatten(
            b->desc->plan.chain, moi_build_allocator(b), b->desc->plan.log, &b->flat);
    if (status == MO_OK) status = moi_build_solve(b);
    return status;
}

static int moi_build_is_rate(double x) { return x >= 0 && x < HUGE_VAL; } /* not for NaN */

static int moi_build_valid(const mo_plan_build_desc *desc) {
    const mo_offload_link *link = &desc->link;
    if (moi_build_is_rate(link->out_bytes_per_s) && moi_build_is_rate(link->in_bytes_per_s) &&
        moi_build_is_rate(link->latency_s))
        return 1;
    moi_log(desc->plan.log, MO_LOG_ERROR, "plan: link of %g and %g bytes/s, latency %g s",
        link->out_bytes_per_s, link->in_bytes_per_s, link->latency_s);
    return 0;
}

mo_status mo_plan_build(
    mo_plan **plan, const mo_plan_build_desc *desc, mo_plan_build_result *result) {
    moi_build b;
    if (!plan || !desc || !moi_build_valid(desc)) return MO_E_INVALID;
    memset(&b, 0, sizeof b);
    b.desc = desc;
    b.budget = desc->budget ? desc->budget : SIZE_MAX;
    b.result.least_bytes = SIZE_MAX;
    const mo_status status = moi_build_run(&b);
    moi_free_array(desc->plan.allocator, b.ops, b.capacity, sizeof *b.ops);
    mo_remat_table_destroy(b.table);
    mo_remat_flat_free(&b.flat, desc->plan.allocator);
    if (status != MO_OK) {
        mo_plan_destroy(b.best);
        return status;
    }
    *plan = b.best;
    if (result) *result = b.result;
    return MO_OK;
}
