/* mo_suggest_search.c - every strategy that is open, see mo_suggest.h. */

/* What comes one after the other: a set of them is a number, and sets whose last one is earlier are
 * smaller numbers. */
enum {
    MOI_SUGGEST_RELEASE = 1,
    MOI_SUGGEST_ACT = 2,
    MOI_SUGGEST_PRECISION = 4,
    MOI_SUGGEST_PAGED = 8,
    MOI_SUGGEST_LORA = 16,
    MOI_SUGGEST_SETS = 32
};

static const unsigned moi_suggest_known = (unsigned)MO_STRATEGY_OPEN_ALL |
    (unsigned)MO_STRATEGY_OPEN_PRECISION | (unsigned)MO_SUGGEST_OPEN_4BIT |
    (unsigned)MO_SUGGEST_OPEN_RELEASE | (unsigned)MO_SUGGEST_OPEN_ACT |
    (unsigned)MO_SUGGEST_OPEN_LORA;

typedef struct moi_suggest {
    const mo_suggest_desc *desc;
    mo_training t; /* its strategy is the trial's */
    mo_params params;
    const mo_params *given; /* with the adapters of the strategy that was given */
    unsigned open, set, sets;
    uint64_t budget;
    int rest;  /* checkpoints that are left out at first */
    int quick; /* the first that fits will do */
    int (*visit)(void *self, const mo_suggest_trial *trial);
    void *self;
    mo_suggest_result found;
    int has_best, stopped;
    mo_status status;
} moi_suggest;

static int moi_suggest_is_over(const moi_suggest *f) {
    return f->status != MO_OK || f->stopped || (f->quick && f->has_best);
}

/* ---- one strategy --------------------------------------------------------------------------- */

static mo_status moi_suggest_plan(
    moi_suggest *f, const mo_strategy *s, uint64_t budget, mo_suggest_trial *trial) {
    mo_plan *plan = NULL;
    double seconds = 0;
    f->t.strategy = *s;
    f->t.params = s->lora == f->desc->training.strategy.lora ? f->given : NULL;
    mo_status status = MO_OK;
    if (f->desc->machine) status = mo_machine_costs(f->desc->machine, &f->t, &f->t.costs);
    if (status == MO_OK) status = mo_training_plan(&plan, &f->t, budget, &seconds);
    if (status == MO_OK) status = mo_training_update_s(&f->t, seconds, &seconds);
    f->found.n_trials++;
    if (status == MO_OK) {
        memset(trial, 0, sizeof *trial);
        trial->strategy = *s;
        trial->bytes = mo_plan_describe(plan).peak_bytes;
        trial->seconds = seconds;
        trial->budget = s->checkpoint == MO_STRATEGY_OPTIMAL ? budget : 0;
    }
    mo_plan_destroy(plan);
    return status;
}

/* Fewer bits are not free. */
static double moi_suggest_cost(const mo_suggest_trial *x) {
    const double bits = x->strategy.optim == MO_OPTIM_8BIT ? 1.05
        : x->strategy.optim == MO_OPTIM_4BIT               ? 1.1
                                                           : 1.0;
    return x->seconds * bits;
}

static int moi_suggest_in_time(const moi_suggest *f, const mo_suggest_trial *x) {
    return f->desc->seconds == 0 || x->seconds <= f->desc->seconds;
}

/* Sums of the same costs in another order are equal: the simpler strategy came first. */
static int moi_suggest_is_better(
    const moi_suggest *f, const mo_suggest_trial *x, const mo_suggest_trial *than) {
    const int in_time = moi_suggest_in_time(f, x);
    if (in_time != moi_suggest_in_time(f, than)) return in_time;
    return moi_suggest_cost(x) < moi_suggest_cost(than) * (1 - 1e-9);
}

static void moi_suggest_keep(moi_suggest *f, const mo_suggest_trial *x) {
    mo_suggest_result *r = &f->found;
    if (r->least.bytes == 0 || x->bytes < r->least.bytes) r->least = *x;
    if (x->bytes > f->budget) {
        if (r->missed.bytes == 0 || moi_suggest_cost(x) < moi_suggest_cost(&r->missed) * (1 - 1e-9))
            r->missed = *x;
    } else if (!f->has_best || moi_suggest_is_better(f, x, &r->best)) {
        r->best = *x;
        f->has_best = 1;
    }
}

/* What goes into a trial's memory whatever its schedule: nothing below that can fit, or be less. */
static int moi_suggest_is_hopeless(moi_suggest *f, const mo_strategy *s) {
    mo_training_fixed fixed;
    uint64_t size = 0;
    if (f->set == 0 || f->found.least.bytes == 0) return 0;
    f->t.strategy = *s;
    f->t.params = s->lora == f->desc->training.strategy.lora ? f->given : NULL;
    if (mo_training_fixed_init(&fixed, &f->t) != MO_OK) return 0; /* the plan will say why */
    for (size_t i = 0; i < fixed.n_blocks; i++) size += fixed.blocks[i].size;
    mo_training_fixed_free(&fixed);
    return size > f->budget && size >= f->found.least.bytes;
}

/* What the memory cannot hold in its pieces, or in two pages, is no strategy. */
static int moi_suggest_try(
    moi_suggest *f, const mo_strategy *s, uint64_t budget, mo_suggest_trial *trial) {
    const mo_status status = moi_suggest_plan(f, s, budget, trial);
    if (status != MO_OK && status != MO_E_NO_SPACE) f->status = status;
    return status == MO_OK;
}

static void moi_suggest_look(moi_suggest *f, const mo_strategy *s) {
    mo_suggest_trial trial;
    if (moi_suggest_is_over(f) || mo_strategy_check(s, NULL) != MO_OK) return;
    if (f->visit) {
        if (moi_suggest_try(f, s, f->budget, &trial)) f->stopped = f->visit(f->self, &trial);
    } else if (!moi_suggest_is_hopeless(f, s) && moi_suggest_try(f, s, f->budget, &trial))
        moi_suggest_keep(f, &trial);
}

/* ---- checkpoints ---------------------------------------------------------------------------- */

/* Nothing of this batch and loss can be faster than what keeps everything. */
static int moi_suggest_can_win(moi_suggest *f, mo_strategy s) {
    mo_suggest_trial trial;
    if (!f->has_best || f->visit) return 1;
    s.checkpoint = MO_STRATEGY_NONE;
    s.offload = 0;
    s.act = 0;
    if (!moi_suggest_try(f, &s, 0, &trial)) return f->status == MO_OK;
    f->found.n_trials--; /* it has only been asked for its time */
    if (!moi_suggest_in_time(f, &f->found.best)) return 1;
    return trial.seconds < moi_suggest_cost(&f->found.best);
}

/* The schedules between the fastest and the smallest. */
static void moi_suggest_visit_optimal(moi_suggest *f, const mo_strategy *s) {
    enum { BUDGETS = 4 };
    mo_suggest_trial fastest, least, trial;
    const uint64_t budget = f->desc->budget;
    if (mo_strategy_check(s, NULL) != MO_OK || moi_suggest_is_over(f)) return;
    if (!moi_suggest_try(f, s, 0, &fastest) || !moi_suggest_try(f, s, 1, &least)) return;
    least.budget = least.bytes;
    f->stopped = f->visit(f->self, &fastest);
    if (!f->stopped && least.bytes < fastest.bytes) f->stopped = f->visit(f->self, &least);
    const uint64_t step = fastest.bytes > least.bytes ? (fastest.bytes - least.bytes) / BUDGETS : 0;
    for (uint64_t i = 1; i < BUDGETS && step > 0 && !moi_suggest_is_over(f); i++)
        if (moi_suggest_try(f, s, least.bytes + i * step, &trial))
            f->stopped = f->visit(f->self, &trial);
    if (budget > least.bytes && budget < fastest.bytes && !moi_suggest_is_over(f) &&
        moi_suggest_try(f, s, budget, &trial))
        f->stopped = f->visit(f->self, &trial);
}

static void moi_suggest_visit_checkpoints(moi_suggest *f, mo_strategy s) {
    const int open = (f->open & MO_STRATEGY_OPEN_CHECKPOINT) != 0;
    for (int i = open ? 0 : (int)s.checkpoint; i < MO_STRATEGY_CHECKPOINT_COUNT; i++) {
        s.checkpoint = (mo_strategy_checkpoint)i;
        if (i == MO_STRATEGY_OPTIMAL) moi_suggest_visit_optimal(f, &s);
        else moi_suggest_look(f, &s);
        if (!open) break;
    }
}

static void moi_suggest_checkpoints(moi_suggest *f, mo_strategy s) {
    static const mo_strategy_checkpoint all[][3] = {
        {MO_STRATEGY_NONE, MO_STRATEGY_LIGHT, MO_STRATEGY_OPTIMAL},
        {MO_STRATEGY_BLOCK, MO_STRATEGY_SQRT, MO_STRATEGY_CHECKPOINT_COUNT}};
    if (moi_suggest_is_over(f)) return;
    if (f->visit) {
        moi_suggest_visit_checkpoints(f, s);
        return;
    }
    if (!moi_suggest_can_win(f, s)) return;
    if (!(f->open & MO_STRATEGY_OPEN_CHECKPOINT)) {
        moi_suggest_look(f, &s);
        return;
    }
    for (int i = 0; i < 3 && all[f->rest][i] != MO_STRATEGY_CHECKPOINT_COUNT; i++) {
        s.checkpoint = all[f->rest][i];
        moi_suggest_look(f, &s);
    }
}

/* ---- values of open fields, from plain to sparing ------------------------------------------- */

static void moi_suggest_losses(moi_suggest *f, mo_strategy s) {
    moi_suggest_checkpoints(f, s);
    if (!(f->open & MO_STRATEGY_OPEN_LOSS)) return;
    f->t.strategy = s;
    const size_t all = mo_training_rows(&f->t);
    for (size_t rows = 1024; rows >= 16; rows /= 2) {
        if (rows >= all) continue;
        s.loss_rows = rows;
        moi_suggest_checkpoints(f, s);
    }
}

static void moi_suggest_acts(moi_suggest *f, mo_strategy s) {
    if (!(f->set & MOI_SUGGEST_ACT)) {
        moi_suggest_losses(f, s);
        return;
    }
    for (s.act = 8; s.act >= 4; s.act -= 4) moi_suggest_losses(f, s);
}

static void moi_suggest_optims(moi_suggest *f, mo_strategy s) {
    moi_suggest_acts(f, s);
    if (!(f->open & MO_STRATEGY_OPEN_OPTIM)) return;
    s.optim = MO_OPTIM_8BIT;
    moi_suggest_acts(f, s);
    if (!(f->open & MO_SUGGEST_OPEN_4BIT)) return;
    s.optim = MO_OPTIM_4BIT;
    moi_suggest_acts(f, s);
}

static void moi_suggest_accums(moi_suggest *f, mo_strategy s) {
    const size_t batch = f->desc->training.batch;
    for (size_t accum = moi_max(s.accum, 1); accum <= batch; accum++) {
        if (batch % accum != 0) continue;
        s.accum = accum;
        moi_suggest_optims(f, s);
        if (!(f->open & MO_STRATEGY_OPEN_ACCUM) || s.release || moi_suggest_is_over(f)) break;
    }
}

/* The largest rank that fits in the first format in which any does. */
static void moi_suggest_ranks(moi_suggest *f, mo_strategy s) {
    static const mo_gemm_type bases[] = {MO_GEMM_F32, MO_GEMM_INT8, MO_GEMM_NF4};
    for (size_t base = 0; base < 3 && (f->visit || !f->has_best); base++)
        for (s.lora = 64; s.lora >= 4 && (f->visit || !f->has_best); s.lora /= 2) {
            s.base = bases[base];
            moi_suggest_accums(f, s);
        }
}

/* Fields that are open begin plain, but for the accumulation. */
static mo_strategy moi_suggest_start(const moi_suggest *f) {
    mo_strategy s = f->desc->training.strategy;
    if (f->open & MO_STRATEGY_OPEN_CHECKPOINT) s.checkpoint = MO_STRATEGY_NONE;
    if (f->open & MO_STRATEGY_OPEN_OPTIM) s.optim = MO_OPTIM_F32;
    if (f->open & MO_STRATEGY_OPEN_LOSS) s.loss_rows = 0;
    if (f->sets & MOI_SUGGEST_RELEASE) s.release = 0;
    if (f->sets & MOI_SUGGEST_ACT) s.act = 0;
    if (f->sets & MOI_SUGGEST_PRECISION) s.bf16 = 0;
    if (f->sets & MOI_SUGGEST_PAGED) s.paged = 0;
    if (f->sets & MOI_SUGGEST_LORA) s.lora = 0, s.base = MO_GEMM_F32;
    s.accum = moi_max(s.accum, 1);
    return s;
}

static void moi_suggest_set(moi_suggest *f) {
    mo_strategy s = moi_suggest_start(f);
    if (f->set & MOI_SUGGEST_RELEASE) {
        if (s.accum > 1 || moi_max(f->desc->training.accum, 1) > 1) return;
        s.release = 1;
    }
    if (f->set & MOI_SUGGEST_PRECISION) s.bf16 = 1;
    if (f->set & MOI_SUGGEST_PAGED) s.paged = 1;
    if (f->set & MOI_SUGGEST_LORA) moi_suggest_ranks(f, s);
    else moi_suggest_accums(f, s);
}

static unsigned moi_suggest_last(unsigned set) {
    while (set & (set - 1)) set &= set - 1;
    return set;
}

static void moi_suggest_sweep(moi_suggest *f) {
    unsigned best = MOI_SUGGEST_SETS;
    for (f->set = 0; f->set < MOI_SUGGEST_SETS && !moi_suggest_is_over(f); f->set++) {
        if (f->set & ~f->sets) continue;
        if (!f->visit && f->has_best && moi_suggest_last(f->set) > best) break;
        moi_suggest_set(f);
        if (f->has_best && best == MOI_SUGGEST_SETS) best = moi_suggest_last(f->set);
    }
}
