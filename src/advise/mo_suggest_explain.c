/* mo_suggest_explain.c - what each part of a strategy saves, see mo_suggest.h. */

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
