/* mo_recover.c - see mo_recover.h. */

/* ---- the ladder ----------------------------------------------------------------------------- */

/* The config with zeros replaced; where it cannot be one, an error. */
static mo_status moi_recover_check(const mo_recover_desc *desc, mo_recover_config *config) {
    size_t samples;
    if (desc->steps & ~(unsigned)MO_RECOVER_ALL) return MO_E_INVALID;
    if ((unsigned)config->recompute >= MO_RECOVER_KEEP_COUNT) return MO_E_INVALID;
    if ((unsigned)config->precision >= MO_OPTIM_PRECISION_COUNT) return MO_E_INVALID;
    if (config->batch == 0) config->batch = 1;
    if (config->accum == 0) config->accum = 1;
    config->paged = config->paged != 0;
    return moi_mul(config->batch, config->accum, &samples) ? MO_OK : MO_E_OVERFLOW;
}

static mo_recover_desc moi_recover_defaults(const mo_recover_desc *desc) {
    mo_recover_desc d;
    memset(&d, 0, sizeof d);
    if (desc) d = *desc;
    if (d.steps == 0) d.steps = MO_RECOVER_SAME;
    if (d.min_batch == 0) d.min_batch = 1;
    if (d.loss_rows == 0) d.loss_rows = 256;
    return d;
}

/* The next smaller micro-batch, at least min_batch; 0 = none. Halves keep sizes even, as kernels
 * like them; every micro-batch of a step has the same size, since they are weighed alike. */
static size_t moi_recover_smaller(size_t batch, size_t accum, size_t min_batch) {
    size_t d = batch / 2;
    if (batch % 2 == 0 && d >= min_batch) return d;
    for (d = batch - 1; d >= min_batch; d--)
        if (batch * accum % d == 0) return d;
    return 0;
}

static mo_recover_step moi_recover_batch(const mo_recover_desc *d, mo_recover_config *config) {
    const size_t batch = moi_recover_smaller(config->batch, config->accum, d->min_batch);
    if (batch == 0) return MO_RECOVER_NONE;
    config->accum = config->batch * config->accum / batch;
    config->batch = batch;
    return MO_RECOVER_BATCH;
}

static mo_recover_step moi_recover_loss(const mo_recover_desc *d, mo_recover_config *config) {
    if (config->loss_rows != 0 && config->loss_rows <= d->loss_rows) return MO_RECOVER_NONE;
    config->loss_rows = d->loss_rows;
    return MO_RECOVER_LOSS;
}

static mo_recover_step moi_recover_recompute(const mo_recover_desc *d, mo_recover_config *config) {
    if (config->recompute < MO_RECOVER_KEEP_LIGHT && (d->steps & MO_RECOVER_LIGHT)) {
        config->recompute = MO_RECOVER_KEEP_LIGHT;
        return MO_RECOVER_LIGHT;
    }
    if (config->recompute < MO_RECOVER_KEEP_BLOCK && (d->steps & MO_RECOVER_BLOCK)) {
        config->recompute = MO_RECOVER_KEEP_BLOCK;
        return MO_RECOVER_BLOCK;
    }
    return MO_RECOVER_NONE;
}

static mo_recover_step moi_recover_bits(const mo_recover_desc *d, mo_recover_config *config) {
    const int wide = config->precision == MO_OPTIM_F32 || config->precision == MO_OPTIM_BF16;
    if (wide && (d->steps & MO_RECOVER_8BIT)) {
        config->precision = MO_OPTIM_8BIT;
        return MO_RECOVER_8BIT;
    }
    if (config->precision != MO_OPTIM_4BIT && (d->steps & MO_RECOVER_4BIT)) {
        config->precision = MO_OPTIM_4BIT;
        return MO_RECOVER_4BIT;
    }
    return MO_RECOVER_NONE;
}

/* One rung down; config is untouched when there is none. */
static mo_recover_step moi_recover_down(const mo_recover_desc *d, mo_recover_config *config) {
    mo_recover_step step = MO_RECOVER_NONE;
    if (d->steps & MO_RECOVER_BATCH) step = moi_recover_batch(d, config);
    if (!step && (d->steps & MO_RECOVER_LOSS)) step = moi_recover_loss(d, config);
    if (!step) step = moi_recover_recompute(d, config);
    if (!step) step = moi_recover_bits(d, config);
    if (!step && (d->steps & MO_RECOVER_PAGED) && !config->paged) {
        config->paged = 1;
        step = MO_RECOVER_PAGED;
    }
    return step;
}

mo_status mo_recover_next(const mo_recover_desc *desc, const mo_recover_config *config,
    mo_recover_config *next, mo_recover_step *step) {
    const mo_recover_desc d = moi_recover_defaults(desc);
    mo_recover_config c;
    if (!config || !next) return MO_E_INVALID;
    c = *config;
    const mo_status status = moi_recover_check(&d, &c);
    if (status != MO_OK) return status;
    const mo_recover_step taken = moi_recover_down(&d, &c);
    if (taken != MO_RECOVER_NONE) *next = c;
    if (step) *step = taken;
    return MO_OK;
}

int mo_recover_is_oom(mo_status status) {
    return status == MO_E_NO_MEMORY || status == MO_E_NO_SPACE || status == MO_E_NO_DEVICE_MEMORY;
}

/* ---- text ----------------------------------------------------------------------------------- */

/* A text that grows in the caller's room; length counts what did not fit, too. */
typedef struct moi_recover_line {
    char *text;
    size_t size, length;
} moi_recover_line;

MOI_PRINTF(2) static void moi_recover_add(moi_recover_line *line, const char *format, ...) {
    const size_t at = moi_min(line->length, line->size);
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(line->text ? line->text + at : NULL, line->size - at, format, args);
    va_end(args);
    if (n > 0) line->length += (size_t)n;
}

/* Before a change, or an item of a whole config. */
static void moi_recover_item(moi_recover_line *line, const char *name) {
    moi_recover_add(line, "%s%s ", line->length ? ", " : "", name);
}

static void moi_recover_rows(moi_recover_line *line, size_t rows) {
    if (rows) moi_recover_add(line, "%llu", (unsigned long long)rows);
    else moi_recover_add(line, "all");
}

static const char *moi_recover_kept(mo_recover_recompute recompute) {
    static const char *const names[MO_RECOVER_KEEP_COUNT] = {"none", "light", "block"};
    return (unsigned)recompute < MO_RECOVER_KEEP_COUNT ? names[recompute] : "?";
}

static const char *moi_recover_precision(mo_optim_precision precision) {
    static const char *const names[MO_OPTIM_PRECISION_COUNT] = {"f32", "8bit", "bf16", "4bit"};
    return (unsigned)precision < MO_OPTIM_PRECISION_COUNT ? names[precision] : "?";
}

static void moi_recover_product(moi_recover_line *line, const mo_recover_config *c) {
    moi_recover_add(line, "%llu x %llu", (unsigned long long)(c->batch ? c->batch : 1),
        (unsigned long long)(c->accum ? c->accum : 1));
}

static const char *moi_recover_place(const mo_recover_config *c) {
    return c->paged ? "paged" : "resident";
}

static void moi_recover_whole(moi_recover_line *line, const mo_recover_config *c) {
    moi_recover_item(line, "batch");
    moi_recover_product(line, c);
    moi_recover_item(line, "loss rows");
    moi_recover_rows(line, c->loss_rows);
    moi_recover_item(line, "recompute");
    moi_recover_add(line, "%s", moi_recover_kept(c->recompute));
    moi_recover_item(line, "states");
    moi_recover_add(line, "%s %s", moi_recover_precision(c->precision), moi_recover_place(c));
}

static int moi_recover_same_product(const mo_recover_config *a, const mo_recover_config *b) {
    return moi_max(a->batch, 1) == moi_max(b->batch, 1) &&
        moi_max(a->accum, 1) == moi_max(b->accum, 1);
}

static void moi_recover_changes(
    moi_recover_line *line, const mo_recover_config *from, const mo_recover_config *to) {
    if (!moi_recover_same_product(from, to)) {
        moi_recover_item(line, "batch");
        moi_recover_product(line, from);
        moi_recover_add(line, " -> ");
        moi_recover_product(line, to);
    }
    if (from->loss_rows != to->loss_rows) {
        moi_recover_item(line, "loss rows");
        moi_recover_rows(line, from->loss_rows);
        moi_recover_add(line, " -> ");
        moi_recover_rows(line, to->loss_rows);
    }
    if (from->recompute != to->recompute) {
        moi_recover_item(line, "recompute");
        moi_recover_add(
            line, "%s -> %s", moi_recover_kept(from->recompute), moi_recover_kept(to->recompute));
    }
    if (from->precision != to->precision) {
        moi_recover_item(line, "states");
        moi_recover_add(line, "%s -> %s", moi_recover_precision(from->precision),
            moi_recover_precision(to->precision));
    }
    if (!from->paged != !to->paged) {
        moi_recover_item(line, "states");
        moi_recover_add(line, "%s -> %s", moi_recover_place(from), moi_recover_place(to));
    }
}

size_t mo_recover_text(
    const mo_recover_config *from, const mo_recover_config *to, char *text, size_t size) {
    moi_recover_line line = {text, size, 0};
    if (size) text[0] = 0;
    if (!to) return 0;
    if (from) moi_recover_changes(&line, from, to);
    else moi_recover_whole(&line, to);
    return line.length;
}

/* ---- the driver ----------------------------------------------------------------------------- */

mo_status mo_retry_init(mo_retry *retry, const mo_retry_desc *desc) {
    mo_retry r;
    if (!retry || !desc) return MO_E_INVALID;
    if (!desc->calls.prepare || !desc->calls.step || !desc->calls.release) return MO_E_INVALID;
    memset(&r, 0, sizeof r);
    r.desc = *desc;
    r.desc.ladder = moi_recover_defaults(&desc->ladder);
    r.config = desc->config;
    const mo_status status = moi_recover_check(&r.desc.ladder, &r.config);
    if (status != MO_OK) return status;
    if (!desc->calls.convert)
        r.desc.ladder.steps &= ~(unsigned)(MO_RECOVER_8BIT | MO_RECOVER_4BIT | MO_RECOVER_PAGED);
    if (desc->budget_bytes == 0) r.desc.budget_bytes = UINT64_MAX;
    r.limit_bytes = r.desc.budget_bytes;
    *retry = r;
    return MO_OK;
}

static void moi_retry_release(mo_retry *retry) {
    if (retry->prepared) retry->desc.calls.release(retry->desc.calls.self);
    retry->prepared = 0;
}

void mo_retry_free(mo_retry *retry) {
    if (!retry) return;
    moi_retry_release(retry);
}

static uint64_t moi_retry_estimate(const mo_retry *retry) {
    const mo_retry_calls *calls = &retry->desc.calls;
    return calls->estimate ? calls->estimate(calls->self, &retry->config) : 0;
}

static mo_status moi_retry_convert(mo_retry *retry) {
    const mo_retry_calls *calls = &retry->desc.calls;
    const mo_recover_config *states = &retry->states, *config = &retry->config;
    const int same = retry->has_states && states->precision == config->precision &&
        states->paged == config->paged;
    if (!calls->convert || same) return MO_OK;
    const mo_status status = calls->convert(calls->self, retry->has_states ? states : NULL, config);
    if (status != MO_OK) return status;
    retry->states = *config;
    retry->has_states = 1;
    return MO_OK;
}

/* A failure says that what this config needs is not there. */
static void moi_retry_learn(mo_retry *retry, mo_status status) {
    const uint64_t bytes = mo_recover_is_oom(status) ? moi_retry_estimate(retry) : 0;
    if (bytes != 0 && bytes <= retry->limit_bytes) retry->limit_bytes = bytes - 1;
}

static mo_status moi_retry_prepare(mo_retry *retry) {
    if (retry->prepared) return MO_OK;
    mo_status status = moi_retry_convert(retry);
    if (status != MO_OK) return status;
    retry->prepared = 1;
    status = retry->desc.calls.prepare(retry->desc.calls.self, &retry->config);
    if (status != MO_OK) {
        moi_retry_release(retry);
        moi_retry_learn(retry, status);
    }
    return status;
}

/* What became of one config: refused by its estimate, or tried.
 *
 * step  that it was tried for
 * bytes by the estimate, of a config that is refused */
typedef struct moi_retry_try {
    mo_status status;
    int refused, applied;
    uint64_t step, bytes;
    size_t n_tried;
} moi_retry_try;

/* The step with the config that is there; its memory goes when there was not enough. */
static mo_status moi_retry_run(mo_retry *retry, moi_retry_try *t) {
    const mo_retry_calls *calls = &retry->desc.calls;
    mo_retry_turn turn;
    mo_status status = moi_retry_prepare(retry);
    if (status != MO_OK) return status;
    turn.config = retry->config;
    turn.step = t->step;
    turn.first = turn.step * turn.config.batch * turn.config.accum;
    status = calls->step(calls->self, &turn, &t->applied);
    if (status == MO_OK || t->applied) retry->stats.n_steps++;
    if (mo_recover_is_oom(status)) {
        moi_retry_release(retry);
        moi_retry_learn(retry, status);
    }
    return status;
}

static void moi_retry_attempt(mo_retry *retry, moi_retry_try *t) {
    const uint64_t bytes = retry->prepared ? 0 : moi_retry_estimate(retry);
    t->step = retry->desc.first_step + retry->stats.n_steps;
    t->refused = bytes > retry->limit_bytes;
    t->bytes = bytes;
    if (t->refused) {
        retry->stats.n_skipped++;
        if (t->status == MO_OK) t->status = MO_E_NO_SPACE; /* else why an earlier one failed */
        return;
    }
    t->n_tried++;
    retry->stats.n_attempts++;
    t->status = moi_retry_run(retry, t);
    if (mo_recover_is_oom(t->status)) retry->stats.n_failed++;
}

/* "step 12: out of host memory" */
static void moi_retry_why(const mo_retry *retry, const moi_retry_try *t, moi_recover_line *line) {
    moi_recover_add(line, "step %llu: ", (unsigned long long)t->step);
    if (t->refused)
        moi_recover_add(line, "needs %llu bytes of %llu by the estimate",
            (unsigned long long)t->bytes, (unsigned long long)retry->limit_bytes);
    else moi_recover_add(line, "%s", mo_status_text(t->status));
}

/* Nothing is left, or enough was tried. What failed may fit when the caller comes again. */
static mo_status moi_retry_give_up(mo_retry *retry, const moi_retry_try *t) {
    if (t->refused) retry->stats.missing_bytes = t->bytes - retry->limit_bytes;
    retry->limit_bytes = retry->desc.budget_bytes;
    return t->status;
}

/* The next config, and a line in the log; 0 when nothing is left. */
static int moi_retry_down(mo_retry *retry, const moi_retry_try *t) {
    char text[512], change[256];
    moi_recover_line line = {text, sizeof text, 0};
    mo_recover_config next = retry->config;
    const mo_recover_step step = moi_recover_down(&retry->desc.ladder, &next);
    moi_retry_why(retry, t, &line);
    mo_recover_text(step ? &retry->config : NULL, &next, change, sizeof change);
    moi_recover_add(&line, "%s: %s", step ? "" : ", and nothing is left", change);
    moi_log(&retry->desc.log, step ? MO_LOG_WARN : MO_LOG_ERROR, "%s", text);
    if (!step) return 0;
    retry->config = next;
    retry->stats.last = step;
    retry->stats.n_rungs++;
    return 1;
}

mo_status mo_retry_step(mo_retry *retry) {
    moi_retry_try t;
    if (!retry) return MO_E_INVALID;
    memset(&t, 0, sizeof t);
    retry->stats.missing_bytes = 0;
    for (;;) {
        moi_retry_attempt(retry, &t);
        if (!mo_recover_is_oom(t.status)) return t.status;
        if (!moi_retry_down(retry, &t)) return moi_retry_give_up(retry, &t);
        if (t.applied) return MO_OK;
        if (retry->desc.max_attempts != 0 && t.n_tried >= retry->desc.max_attempts) {
            moi_log(&retry->desc.log, MO_LOG_ERROR, "step %llu: given up after %llu configs",
                (unsigned long long)t.step, (unsigned long long)t.n_tried);
            return moi_retry_give_up(retry, &t);
        }
    }
}
