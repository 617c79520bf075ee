/* mo_suggest.c - see mo_suggest.h. */

static mo_status moi_suggest_begin(moi_suggest *f, const mo_suggest_desc *desc) {
    static const unsigned bits[] = {MO_SUGGEST_OPEN_RELEASE, MO_SUGGEST_OPEN_ACT,
        MO_STRATEGY_OPEN_PRECISION, MO_STRATEGY_OPEN_PAGED, MO_SUGGEST_OPEN_LORA};
    memset(f, 0, sizeof *f);
    f->desc = desc;
    f->t = desc->training;
    f->budget = desc->budget ? desc->budget : UINT64_MAX;
    f->open = desc->open ? desc->open : (unsigned)MO_STRATEGY_OPEN_ALL;
    if (desc->closed) f->open = 0;
    if ((f->open & ~moi_suggest_known) || !(desc->seconds >= 0)) return MO_E_INVALID;
    for (unsigned i = 0; i < 5; i++)
        if (f->open & bits[i]) f->sets |= 1u << i;
    mo_status status = mo_training_check(&f->t);
    f->t.log = NULL; /* that a trial cannot be is no news */
    f->given = desc->training.params;
    if (status != MO_OK || f->given) return status;
    mo_params_init(&f->params, desc->training.allocator);
    status = mo_training_add_params(&f->t, &f->params);
    f->given = &f->params;
    if (status != MO_OK) mo_params_free(&f->params);
    return status;
}

static void moi_suggest_end(moi_suggest *f) {
    if (f->given == &f->params) mo_params_free(&f->params);
}

/* Nothing to fit: what costs next to nothing. */
static void moi_suggest_cheap(moi_suggest *f) {
    mo_strategy s = f->desc->training.strategy;
    if (f->open & MO_STRATEGY_OPEN_CHECKPOINT) s.checkpoint = MO_STRATEGY_LIGHT;
    if (f->open & MO_STRATEGY_OPEN_LOSS) s.loss_rows = 256;
    s.accum = moi_max(s.accum, 1);
    moi_suggest_look(f, &s);
}

static void moi_suggest_run(moi_suggest *f) {
    if (f->desc->budget == 0) {
        moi_suggest_cheap(f);
        return;
    }
    moi_suggest_sweep(f);
    if (f->has_best || !(f->open & MO_STRATEGY_OPEN_CHECKPOINT)) return;
    f->rest = 1;
    moi_suggest_sweep(f);
}

/* Nothing can be planned: the strategy that was given once more, now with the caller's log. */
static mo_status moi_suggest_say_why(const moi_suggest *f) {
    mo_training t = f->desc->training;
    mo_plan *plan = NULL;
    t.params = f->given;
    const mo_status status = mo_training_plan(&plan, &t, f->desc->budget, NULL);
    mo_plan_destroy(plan);
    return status == MO_OK ? MO_E_NO_SPACE : status;
}

static mo_status moi_suggest_finish(moi_suggest *f) {
    mo_suggest_result *r = &f->found;
    if (f->status == MO_OK && r->least.bytes == 0) f->status = moi_suggest_say_why(f);
    if (f->status != MO_OK) return f->status;
    r->fits = f->has_best;
    if (!r->fits) {
        r->best = r->least;
        r->missing_bytes = r->least.bytes - f->budget;
    }
    r->in_time = moi_suggest_in_time(f, &r->best);
    if (f->desc->explain) moi_suggest_explain(f);
    return f->status;
}

mo_status mo_suggest(const mo_suggest_desc *desc, mo_suggest_result *result) {
    moi_suggest f;
    if (!desc || !result) return MO_E_INVALID;
    mo_status status = moi_suggest_begin(&f, desc);
    if (status != MO_OK) return status;
    moi_suggest_run(&f);
    status = moi_suggest_finish(&f);
    if (status == MO_OK) *result = f.found;
    moi_suggest_end(&f);
    return status;
}

mo_status mo_suggest_each(const mo_suggest_desc *desc,
    int (*visit)(void *self, const mo_suggest_trial *trial), void *self) {
    moi_suggest f;
    if (!desc || !visit) return MO_E_INVALID;
    mo_status status = moi_suggest_begin(&f, desc);
    if (status != MO_OK) return status;
    f.visit = visit;
    f.self = self;
    moi_suggest_sweep(&f);
    moi_suggest_end(&f);
    return f.status;
}
