/* mo_suggest.c - see mo_suggest.h. */

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

/* ---- reasons -------------------------------------------------------------------------------- */

/* One field of the strategy that was chosen; 0 = it is as it was. */
typedef int moi_suggest_change(
    const moi_suggest *f, const mo_strategy *to, mo_strategy *s, char *text, size_t size);

static int moi_suggest_loss_step(
    const moi_suggest *f, const mo_strategy *to, mo_strategy *s, char *text, size_t size) {
    (void)f;
    if (s->loss_rows == to->loss_rows) return 0;
    s->loss_rows = to->loss_rows;
    snprintf(text, size, "loss=%zu: logits of so many rows at a time", s->loss_rows);
    return 1;
}

static int moi_suggest_accum_step(
    const moi_suggest *f, const mo_strategy *to, mo_strategy *s, char *text, size_t size) {
    if (s->accum == to->accum) return 0;
    s->accum = to->accum;
    const size_t n = f->desc->training.batch / s->accum;
    snprintf(
        text, size, "accum=%zu: micro-batches of %zu sequence%s", s->accum, n, n == 1 ? "" : "s");
    return 1;
}

static int moi_suggest_optim_step(
    const moi_suggest *f, const mo_strategy *to, mo_strategy *s, char *text, size_t size) {
    (void)f;
    if (s->optim == to->optim) return 0;
    s->optim = to->optim;
    snprintf(
        text, size, "optim=%s: optimizer states in fewer bits", mo_strategy_optim_name(s->optim));
    return 1;
}

static int moi_suggest_checkpoint_step(
    const moi_suggest *f, const mo_strategy *to, mo_strategy *s, char *text, size_t size) {
    static const char *const what[] = {"everything is kept", "what is cheap is computed again",
        "blocks are computed again", "runs of blocks are computed again",
        "the fastest schedule that fits"};
    (void)f;
    if (s->checkpoint == to->checkpoint) return 0;
    s->checkpoint = to->checkpoint;
    snprintf(text, size, "checkpoint=%s: %s", mo_strategy_checkpoint_name(s->checkpoint),
        what[s->checkpoint]);
    return 1;
}

/* Light checkpoints cost next to nothing, and come before what costs more. */
static int moi_suggest_light_step(
    const moi_suggest *f, const mo_strategy *to, mo_strategy *s, char *text, size_t size) {
    return to->checkpoint == MO_STRATEGY_LIGHT && moi_suggest_checkpoint_step(f, to, s, text, size);
}

static int moi_suggest_release_step(
    const moi_suggest *f, const mo_strategy *to, mo_strategy *s, char *text, size_t size) {
    (void)f;
    if (s->release == to->release) return 0;
    s->release = to->release;
    snprintf(text, size, "release: gradients of one stage at a time");
    return 1;
}

static int moi_suggest_act_step(
    const moi_suggest *f, const mo_strategy *to, mo_strategy *s, char *text, size_t size) {
    (void)f;
    if (s->act == to->act) return 0;
    s->act = to->act;
    snprintf(text, size, "act=%d: saved activations in so many bits", s->act);
    return 1;
}

static int moi_suggest_precision_step(
    const moi_suggest *f, const mo_strategy *to, mo_strategy *s, char *text, size_t size) {
    (void)f;
    if (s->bf16 == to->bf16) return 0;
    s->bf16 = to->bf16;
    snprintf(text, size, "precision=bf16: matrices of blocks in 16 bits");
    return 1;
}

static int moi_suggest_paged_step(
    const moi_suggest *f, const mo_strategy *to, mo_strategy *s, char *text, size_t size) {
    (void)f;
    if (s->paged == to->paged) return 0;
    s->paged = to->paged;
    snprintf(text, size, "paged: most optimizer states out of memory");
    return 1;
}

static int moi_suggest_lora_step(
    const moi_suggest *f, const mo_strategy *to, mo_strategy *s, char *text, size_t size) {
    (void)f;
    if (s->lora == to->lora && s->base == to->base) return 0;
    s->lora = to->lora;
    s->base = to->base;
    snprintf(text, size, "lora=%zu,base=%s: adapters alone are trained", s->lora,
        mo_strategy_base_name(s->base));
    return 1;
}

static moi_suggest_change *const moi_suggest_changes[] = {moi_suggest_loss_step,
    moi_suggest_light_step, moi_suggest_accum_step, moi_suggest_optim_step,
    moi_suggest_release_step, moi_suggest_act_step, moi_suggest_checkpoint_step,
    moi_suggest_precision_step, moi_suggest_paged_step, moi_suggest_lora_step};

/* A part that cannot stand without a later one is told together with that. */
static void moi_suggest_explain(moi_suggest *f) {
    mo_suggest_result *r = &f->found;
    mo_suggest_trial at, next;
    mo_strategy s = moi_suggest_start(f);
    const size_t n_trials = r->n_trials;
    if (!moi_suggest_try(f, &s, f->budget, &at)) return;
    r->plain = at;
    for (size_t i = 0; i < sizeof moi_suggest_changes / sizeof *moi_suggest_changes; i++) {
        mo_suggest_step *step = &r->steps[r->n_steps];
        if (!moi_suggest_changes[i](f, &r->best.strategy, &s, step->text, sizeof step->text))
            continue;
        if (mo_strategy_check(&s, NULL) != MO_OK || !moi_suggest_try(f, &s, f->budget, &next))
            continue;
        step->bytes_before = at.bytes, step->bytes_after = next.bytes;
        step->seconds_before = at.seconds, step->seconds_after = next.seconds;
        at = next;
        r->n_steps++;
    }
    r->n_trials = n_trials;
}

/* ---- the search ----------------------------------------------------------------------------- */

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

/* ---- fit ------------------------------------------------------------------------------------ */

typedef struct moi_suggest_size {
    mo_suggest_desc desc;
    mo_suggest_what what;
    size_t unit; /* sizes are multiples of it */
    int grows;   /* positions are as many as tokens in a sequence */
} moi_suggest_size;

/* The run with so many units. */
static mo_suggest_desc moi_suggest_sized(const moi_suggest_size *z, size_t n) {
    mo_suggest_desc d = z->desc;
    d.training.params = NULL; /* of other positions, maybe */
    if (z->what == MO_SUGGEST_BATCH) d.training.batch = n * z->unit;
    else d.training.seq = n;
    if (z->what == MO_SUGGEST_SEQ && z->grows) d.training.model.positions = n;
    return d;
}

/* The most sparing values first; only where they do not fit the rest is looked at. */
static mo_status moi_suggest_can(const moi_suggest_size *z, size_t n, int *can) {
    const mo_suggest_desc d = moi_suggest_sized(z, n);
    moi_suggest f;
    mo_status status = moi_suggest_begin(&f, &d);
    if (status != MO_OK) return status;
    mo_strategy s = moi_suggest_start(&f);
    f.quick = 1;
    if (f.open & MO_STRATEGY_OPEN_CHECKPOINT) s.checkpoint = MO_STRATEGY_OPTIMAL;
    if (f.open & MO_STRATEGY_OPEN_ACCUM) s.accum = d.training.batch;
    if (f.open & MO_STRATEGY_OPEN_OPTIM) s.optim = MO_OPTIM_8BIT;
    if (f.open & MO_STRATEGY_OPEN_LOSS) s.loss_rows = 16;
    moi_suggest_look(&f, &s);
    if (!f.has_best) moi_suggest_run(&f);
    status = f.status;
    if (status == MO_OK) *can = f.has_best;
    moi_suggest_end(&f);
    return status;
}

/* The largest of low .. high units that fits, low doing so and high not. */
static mo_status moi_suggest_between(const moi_suggest_size *z, size_t *low, size_t high) {
    while (high - *low > 1) {
        const size_t middle = *low + (high - *low) / 2;
        int can = 0;
        mo_status status = moi_suggest_can(z, middle, &can);
        if (status != MO_OK) return status;
        if (can) *low = middle;
        else high = middle;
    }
    return MO_OK;
}

static mo_status moi_suggest_largest(const moi_suggest_size *z, size_t most, size_t *n) {
    size_t low = 0, high = 1;
    for (;;) {
        int can = 0;
        mo_status status = moi_suggest_can(z, high, &can);
        if (status != MO_OK) return status;
        if (!can) break;
        low = high;
        if (low == most) break;
        high = low > most / 2 ? most : 2 * low;
    }
    *n = low;
    return low == most ? MO_OK : moi_suggest_between(z, n, high);
}

static mo_status moi_suggest_at(const moi_suggest_size *z, size_t n, mo_suggest_result *r) {
    const mo_suggest_desc d = moi_suggest_sized(z, n);
    return mo_suggest(&d, r);
}

mo_status mo_suggest_fit(
    const mo_suggest_desc *desc, mo_suggest_what what, size_t most, mo_suggest_fit_result *result) {
    moi_suggest_size z;
    mo_suggest_fit_result made;
    size_t n = 0;
    if (!desc || !result || desc->budget == 0 || what < MO_SUGGEST_BATCH || what > MO_SUGGEST_SEQ)
        return MO_E_INVALID;
    memset(&z, 0, sizeof z);
    memset(&made, 0, sizeof made);
    z.desc = *desc;
    z.what = what;
    z.unit = what == MO_SUGGEST_BATCH ? moi_max(desc->training.strategy.accum, 1) : 1;
    z.grows = desc->training.model.positions == desc->training.seq;
    if (most == 0) most = 65536;
    if (what == MO_SUGGEST_SEQ && !z.grows && desc->training.model.arch == MO_MODEL_GPT2)
        most = moi_min(most, desc->training.model.positions);
    if (most < z.unit) return MO_E_INVALID;
    if (z.desc.open == 0) z.desc.open = (unsigned)MO_STRATEGY_OPEN_ALL;
    if (what == MO_SUGGEST_BATCH) z.desc.open &= ~(unsigned)MO_STRATEGY_OPEN_ACCUM;
    z.desc.closed |= z.desc.open == 0;
    mo_status status = moi_suggest_largest(&z, most / z.unit, &n);
    if (status == MO_OK) status = moi_suggest_at(&z, moi_max(n, 1), &made.at);
    z.desc.explain = 0;
    if (status == MO_OK && n > 0 && n < most / z.unit)
        status = moi_suggest_at(&z, n + 1, &made.next);
    if (status != MO_OK) return status;
    made.n = n * z.unit;
    *result = made;
    return MO_OK;
}
