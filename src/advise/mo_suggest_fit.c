/* mo_suggest_fit.c - the largest batch or sequence, see mo_suggest.h. */

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
