/* mo_training_plan.c - see mo_training.h: seconds and plans. */

/* ---- seconds -------------------------------------------------------------------------------- */

static mo_stage_costs moi_costs_typical(
    double flops, double output_flops, double light_bytes, double compressed) {
    const mo_stage_costs costs = {
        flops * 1e-11, output_flops * 1e-11, 2e-11 * flops, light_bytes * 1e-10, compressed * 1e-9};
    return costs;
}

/* Of a core with 100 GFLOP/s and 10 GB/s: what matters is how they compare. */
static mo_training_costs moi_costs_all_typical(const moi_training_job *job) {
    const mo_model *m = &job->t->model;
    const double rows = (double)mo_training_rows(job->t), width = (double)m->channels;
    const double query = (double)mo_model_size(m, MO_MODEL_WIDTH_QUERY);
    const double square = rows * width * query;
    const double qkv = (double)mo_model_size(m, MO_MODEL_WIDTH_QKV);
    const double wide = (double)mo_model_size(m, MO_MODEL_WIDTH_WIDE), hidden = (double)m->hidden;
    mo_training_costs c;
    memset(&c, 0, sizeof c);
    c.rows = rows;
    c.embedding = moi_costs_typical(rows * width, 0, 0, 0);
    c.attention = moi_costs_typical(
        2 * rows * width * qkv + 2 * square + 2 * rows * query * (double)job->t->seq, 2 * square,
        8 * rows * width, rows * (qkv + query));
    c.mlp = moi_costs_typical(2 * rows * width * (wide + hidden), 2 * rows * width * hidden,
        rows * (8 * width + 4 * (wide + hidden)), rows * wide);
    c.head = moi_costs_typical(2 * rows * width * (double)m->vocab, 0, 0, 0);
    c.update = 3.6e-9 * (double)moi_training_n_trained(job->t, job->params);
    c.copy_bytes_per_s = 5e9;
    if (job->teacher)
        c.teacher = 2e-11 * rows * (double)mo_params_count(job->teacher, MO_PARAMS_ALL);
    return c;
}

static mo_training_costs moi_training_costs_of(const moi_training_job *job) {
    return job->t->costs.rows > 0 ? job->t->costs : moi_costs_all_typical(job);
}

/* Typical stages leave out that gradients are added to, by chunks. */
static double moi_costs_gradients(const moi_training_job *job) {
    const mo_training *t = job->t;
    const double n = (double)moi_training_n_trained(t, job->params);
    const double head = (double)t->model.vocab * (double)t->model.channels;
    const double rows = (double)mo_training_rows(t);
    const size_t chunk = t->strategy.loss_rows;
    const double chunks = chunk == 0 ? 1 : ceil(rows / (double)chunk);
    return (8 * n + 16 * head * chunks) * 1e-10;
}

static double moi_training_update(const moi_training_job *job, double micro_batch_s) {
    const mo_training *t = job->t;
    const mo_training_costs costs = moi_training_costs_of(job);
    double micro = micro_batch_s;
    if (!(t->costs.rows > 0)) micro += moi_costs_gradients(job);
    if (t->teacher) micro += costs.teacher * (double)mo_training_rows(t) / costs.rows;
    const double n_passes = t->strategy.release && t->strategy.clip == MO_RELEASE_EXACT ? 2.0 : 1.0;
    const size_t n = moi_max(t->strategy.accum, 1) * moi_max(t->accum, 1);
    return (double)n * n_passes * micro + costs.update;
}

mo_status mo_training_update_s(const mo_training *t, double micro_batch_s, double *seconds) {
    moi_training_job job;
    if (!seconds) return MO_E_INVALID;
    const mo_status status = moi_training_open(&job, t);
    if (status != MO_OK) return status;
    *seconds = moi_training_update(&job, micro_batch_s);
    moi_training_close(&job);
    return MO_OK;
}

/* ---- plans ---------------------------------------------------------------------------------- */

static void moi_training_plan_desc(const mo_training *t, const mo_training_chain *g,
    const mo_training_fixed *fixed, mo_plan_desc *d) {
    memset(d, 0, sizeof *d);
    d->chain = &g->chain;
    d->fixed = fixed->blocks;
    d->n_fixed = fixed->n_blocks;
    d->align = moi_training_align(t);
    d->piece = t->target.piece;
    d->seed = t->seed;
    d->allocator = t->allocator;
    d->log = t->log;
}

/* copy_bytes_per_s 0: nothing is moved. */
static mo_status moi_training_fastest(const mo_plan_desc *desc, uint64_t budget,
    double copy_bytes_per_s, mo_plan **plan, double *seconds) {
    mo_plan_build_desc d;
    mo_plan_build_result found;
    memset(&d, 0, sizeof d);
    d.plan = *desc;
    d.budget = budget > SIZE_MAX ? SIZE_MAX : (size_t)budget;
    d.link.out_bytes_per_s = copy_bytes_per_s;
    const mo_status status = mo_plan_build(plan, &d, &found);
    if (status == MO_OK) *seconds = found.cost_s;
    return status;
}

static mo_status moi_training_policy(
    mo_plan_desc *desc, mo_remat_policy policy, int compress, mo_plan **plan, double *seconds) {
    desc->remat.policy = policy;
    desc->remat.compress = compress;
    const mo_status status = mo_plan_create(plan, desc);
    if (status == MO_OK) *seconds = mo_plan_describe(*plan).cost_s;
    return status;
}

/* Chain and layout, which the plan copies. */
typedef struct moi_training_draft {
    moi_training_job job;
    mo_training_fixed fixed;
    mo_training_chain chain;
    mo_plan_desc desc;
} moi_training_draft;

static void moi_training_draft_free(moi_training_draft *d) {
    mo_training_chain_free(&d->chain);
    mo_training_fixed_free(&d->fixed);
    moi_training_close(&d->job);
}

static mo_status moi_training_draft_init(
    moi_training_draft *d, const mo_training *t, size_t layers, int halves) {
    mo_status status = moi_training_open(&d->job, t);
    if (status != MO_OK) return status;
    status = moi_training_place_all(&d->job, &d->fixed);
    if (status != MO_OK) {
        moi_training_close(&d->job);
        return status;
    }
    status = moi_training_build(&d->job, layers, halves, &d->chain);
    if (status != MO_OK) moi_training_draft_free(d);
    else moi_training_plan_desc(t, &d->chain, &d->fixed, &d->desc);
    return status;
}

/* The plan's seconds by the costs of t, where others chose its schedule. */
static mo_status moi_training_set_costs(
    mo_plan *plan, const moi_training_draft *d, const mo_training *t, double *seconds) {
    mo_training_chain chain;
    moi_training_job job = d->job;
    job.t = t;
    const mo_status status = moi_training_build(&job, t->model.layers, 1, &chain);
    if (status != MO_OK) return status;
    moi_plan_set_costs(plan, &chain.chain);
    mo_training_chain_free(&chain);
    *seconds = mo_plan_describe(plan).cost_s;
    return MO_OK;
}

/* Without a link by typical costs, so that the plan is the same before and after something is
 * measured. What a link can do has no typical measure. */
static mo_status moi_training_optimal(
    mo_plan **plan, const mo_training *t, uint64_t budget, double *seconds) {
    moi_training_draft d;
    mo_training by = *t;
    if (!t->strategy.offload) by.costs.rows = 0;
    mo_status status = moi_training_draft_init(&d, &by, t->model.layers, 1);
    if (status != MO_OK) return status;
    const double speed = t->strategy.offload ? moi_training_costs_of(&d.job).copy_bytes_per_s : 0;
    status = moi_training_fastest(&d.desc, budget, speed, plan, seconds);
    if (status == MO_OK && by.costs.rows != t->costs.rows) {
        status = moi_training_set_costs(*plan, &d, t, seconds);
        if (status != MO_OK) mo_plan_destroy(*plan);
    }
    moi_training_draft_free(&d);
    return status;
}

mo_status mo_training_plan(mo_plan **plan, const mo_training *t, uint64_t budget, double *seconds) {
    moi_training_draft d;
    mo_plan *made = NULL;
    double cost_s = 0;
    mo_status status;
    if (!plan || !t) return MO_E_INVALID;
    if (t->strategy.checkpoint == MO_STRATEGY_OPTIMAL)
        status = moi_training_optimal(&made, t, budget, &cost_s);
    else {
        status = moi_training_draft_init(&d, t, t->model.layers, 0);
        if (status != MO_OK) return status;
        status = moi_training_policy(
            &d.desc, (mo_remat_policy)t->strategy.checkpoint, t->strategy.act != 0, &made, &cost_s);
        moi_training_draft_free(&d);
    }
    if (status != MO_OK) return status;
    *plan = made;
    if (seconds) *seconds = cost_s;
    return MO_OK;
}

size_t mo_training_part_blocks(const mo_training *t) { return moi_min(t->model.layers, 3); }

mo_status mo_training_part_plan(
    mo_plan **plan, const mo_training *t, mo_training_part part, uint64_t budget) {
    moi_training_draft d;
    mo_plan *made = NULL;
    double cost_s = 0;
    if (!plan || !t) return MO_E_INVALID;
    mo_status status = moi_training_draft_init(&d, t, mo_training_part_blocks(t), 1);
    if (status != MO_OK) return status;
    if (part == MO_TRAINING_PART_LEAST)
        status = moi_training_fastest(&d.desc, budget, 0, &made, &cost_s);
    else
        status = moi_training_policy(&d.desc,
            part == MO_TRAINING_PART_AGAIN ? MO_REMAT_BLOCK : MO_REMAT_NONE,
            part == MO_TRAINING_PART_COMPRESSED, &made, &cost_s);
    moi_training_draft_free(&d);
    if (status != MO_OK) return status;
    if (budget != 0 && mo_plan_describe(made).peak_bytes > budget) {
        mo_plan_destroy(made);
        made = NULL;
    }
    *plan = made;
    return MO_OK;
}
