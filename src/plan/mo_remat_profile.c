/* mo_remat_profile.c - see mo_remat_profile.h. */

/* What is told apart: a cost of a stage by what the step does. */
typedef enum moi_profile_kind {
    MOI_PROFILE_FORWARD,
    MOI_PROFILE_UNREAD, /* a recompute whose output nobody reads */
    MOI_PROFILE_BACKWARD,
    MOI_PROFILE_LIGHT,  /* a backward at the light level */
    MOI_PROFILE_ENCODE, /* a forward, and a backward, at the compressed level */
    MOI_PROFILE_DECODE,
    MOI_PROFILE_LOSS,
    MOI_PROFILE_KINDS
} moi_profile_kind;
enum { MOI_PROFILE_REPEATS = 16, MOI_PROFILE_LINK_REPEATS = 5, MOI_PROFILE_LINK_MOST = 64 };

/* ---- samples ------------------------------------------------------------------------------- */

mo_status mo_profile_init(
    mo_profile *profile, size_t n_stages, size_t max_repeats, const mo_allocator *allocator) {
    mo_profile made;
    size_t n = MOI_PROFILE_KINDS, n_samples;
    if (!profile || n_stages == 0) return MO_E_INVALID;
    memset(&made, 0, sizeof made);
    if (allocator) made.allocator = *allocator;
    made.n_stages = n_stages;
    made.max_repeats = max_repeats ? max_repeats : (size_t)MOI_PROFILE_REPEATS;
    if (!moi_mul(n, n_stages, &n) || !moi_mul(n, made.max_repeats, &n_samples))
        return MO_E_OVERFLOW;
    made.counts = (uint32_t *)moi_alloc_array(allocator, n, sizeof *made.counts);
    if (!made.counts) return MO_E_NO_MEMORY;
    made.samples = (double *)moi_alloc_array(allocator, n_samples, sizeof *made.samples);
    if (!made.samples) {
        moi_free_array(allocator, made.counts, n, sizeof *made.counts);
        return MO_E_NO_MEMORY;
    }
    memset(made.counts, 0, n * sizeof *made.counts);
    *profile = made;
    return MO_OK;
}

void mo_profile_free(mo_profile *profile) {
    if (!profile) return;
    size_t n = profile->n_stages * MOI_PROFILE_KINDS;
    moi_free_array(&profile->allocator, profile->counts, n, sizeof *profile->counts);
    moi_free_array(
        &profile->allocator, profile->samples, n * profile->max_repeats, sizeof *profile->samples);
    memset(profile, 0, sizeof *profile);
}

static void moi_profile_add(mo_profile *profile, size_t stage, int kind, double seconds) {
    size_t at = stage * MOI_PROFILE_KINDS + (size_t)kind;
    uint32_t *count = &profile->counts[at];
    profile->samples[at * profile->max_repeats + *count % profile->max_repeats] = seconds;
    /* Past the first round the number only says which one is the oldest. */
    *count = *count + 1 < 2 * profile->max_repeats ? *count + 1 : (uint32_t)profile->max_repeats;
}

/* The k-th smallest of n numbers: as many are smaller as stand before it. Without sorting, since
 * the samples are kept. */
static double moi_profile_kth(const double *x, size_t n, size_t k) {
    for (size_t i = 0; i < n; i++) {
        size_t before = 0;
        for (size_t j = 0; j < n; j++) before += x[j] < x[i] || (x[j] == x[i] && j < i);
        if (before == k) return x[i];
    }
    return 0;
}

static double moi_profile_middle(const double *x, size_t n) {
    return 0.5 * (moi_profile_kth(x, n, (n - 1) / 2) + moi_profile_kth(x, n, n / 2));
}

/* The median of what was measured, -1 when nothing was. */
static double moi_profile_median(const mo_profile *profile, size_t stage, int kind) {
    size_t at = stage * MOI_PROFILE_KINDS + (size_t)kind, n = profile->counts[at];
    if (n == 0) return -1;
    return moi_profile_middle(
        profile->samples + at * profile->max_repeats, moi_min(n, profile->max_repeats));
}

/* ---- running ------------------------------------------------------------------------------- */

static double moi_profile_now(const mo_profile_clock *clock) {
    return clock && clock->now_s ? clock->now_s(clock->self) : moi_os_now_s();
}

/* -1 for steps that are no cost of a stage. */
static int moi_profile_kind_of(const mo_step *step) {
    const int is_compressed = step->light == MO_LEVEL_COMPRESSED;
    switch (step->op) {
    case MO_STEP_FORWARD:
    case MO_STEP_RECOMPUTE:
        if (step->save && is_compressed) return step->y ? MOI_PROFILE_ENCODE : -1;
        return step->y || step->op == MO_STEP_FORWARD ? MOI_PROFILE_FORWARD : MOI_PROFILE_UNREAD;
    case MO_STEP_LOSS: return MOI_PROFILE_LOSS;
    case MO_STEP_BACKWARD:
        if (is_compressed) return MOI_PROFILE_DECODE;
        return step->light ? MOI_PROFILE_LIGHT : MOI_PROFILE_BACKWARD;
    default: return -1;
    }
}

static mo_status moi_profile_pass(mo_profile *profile, const mo_profile_desc *desc, int counts) {
    mo_step step;
    int any = 0;
    mo_plan_begin(desc->plan);
    for (; mo_plan_next(desc->plan, &step); any = 1) {
        if (step.stage >= profile->n_stages) return MO_E_STATE;
        double begun = moi_profile_now(&desc->clock);
        desc->run(desc->self, &step);
        double seconds = moi_profile_now(&desc->clock) - begun;
        int kind = moi_profile_kind_of(&step);
        if (counts && kind >= 0) moi_profile_add(profile, step.stage, kind, fmax(0, seconds));
    }
    return any ? MO_OK : MO_E_STATE;
}

mo_status mo_profile_run(mo_profile *profile, const mo_profile_desc *desc) {
    if (!profile || !desc || !desc->plan || !desc->run || !(desc->limit_s >= 0))
        return MO_E_INVALID;
    size_t least = desc->min_repeats ? desc->min_repeats : 3, n = 0;
    double limit = desc->limit_s > 0 ? desc->limit_s : 1, begun = moi_profile_now(&desc->clock);
    mo_status status = moi_profile_pass(profile, desc, 0); /* caches and pages are cold */
    while (status == MO_OK &&
        (n < least ||
            (n < profile->max_repeats && moi_profile_now(&desc->clock) - begun < limit))) {
        status = moi_profile_pass(profile, desc, 1);
        n++;
    }
    return status;
}

/* ---- costs --------------------------------------------------------------------------------- */

/* A part of a cost that has become another one. */
static double moi_profile_scaled(double part, double was, double is) {
    return was > 0 ? part / was * is : 0;
}

static void moi_profile_fill_loss(const mo_profile *profile, size_t i, mo_stage *stage) {
    double loss = moi_profile_median(profile, i, MOI_PROFILE_LOSS);
    if (loss < 0) loss = moi_profile_median(profile, i, MOI_PROFILE_FORWARD);
    double was = stage->forward_s + stage->backward_s;
    stage->backward_s = moi_profile_scaled(stage->backward_s, was, loss);
    stage->forward_s = loss - stage->backward_s;
}

static void moi_profile_fill_forward(const mo_profile *profile, size_t i, mo_stage *stage) {
    double forward = moi_profile_median(profile, i, MOI_PROFILE_FORWARD);
    double unread = moi_profile_median(profile, i, MOI_PROFILE_UNREAD);
    stage->output_s = unread >= 0 ? fmax(0, forward - unread)
                                  : moi_profile_scaled(stage->output_s, stage->forward_s, forward);
    stage->forward_s = forward;
}

/* Of an inference plan nothing: its costs keep their ratio to forward. */
static void moi_profile_fill_backward(
    const mo_profile *profile, size_t i, mo_stage *stage, double forward_was) {
    double full = moi_profile_median(profile, i, MOI_PROFILE_BACKWARD);
    double light = moi_profile_median(profile, i, MOI_PROFILE_LIGHT);
    double was = stage->backward_s, light_was = stage->light_s;
    if (full >= 0) {
        stage->backward_s = full;
        stage->light_s =
            light >= 0 ? fmax(0, light - full) : moi_profile_scaled(light_was, was, full);
    } else if (light >= 0) {
        stage->light_s = moi_profile_scaled(light_was, was + light_was, light);
        stage->backward_s = light - stage->light_s;
    } else {
        stage->backward_s = moi_profile_scaled(was, forward_was, stage->forward_s);
        stage->light_s = moi_profile_scaled(light_was, forward_was, stage->forward_s);
    }
}

/* What the compressed level takes more, where both its steps and others have been measured. */
static void moi_profile_fill_compress(
    const mo_profile *profile, size_t i, mo_stage *stage, double forward_was) {
    const double encode = moi_profile_median(profile, i, MOI_PROFILE_ENCODE);
    const double decode = moi_profile_median(profile, i, MOI_PROFILE_DECODE);
    stage->compress_s = moi_profile_scaled(stage->compress_s, forward_was, stage->forward_s);
    if (encode >= 0 && decode >= 0)
        stage->compress_s = fmax(0, encode - stage->forward_s) +
            fmax(0, decode - stage->backward_s - stage->light_s);
}

static int moi_profile_has_run(const mo_profile *profile, size_t i) {
    if (moi_profile_median(profile, i, MOI_PROFILE_FORWARD) >= 0) return 1;
    return i + 1 == profile->n_stages && moi_profile_median(profile, i, MOI_PROFILE_LOSS) >= 0;
}

mo_status mo_profile_fill(const mo_profile *profile, mo_stage *stages) {
    if (!profile || !stages) return MO_E_INVALID;
    for (size_t i = 0; i < profile->n_stages; i++)
        if (!moi_profile_has_run(profile, i)) return MO_E_STATE;
    for (size_t i = 0; i + 1 < profile->n_stages; i++) {
        double forward_was = stages[i].forward_s;
        moi_profile_fill_forward(profile, i, &stages[i]);
        moi_profile_fill_backward(profile, i, &stages[i], forward_was);
        moi_profile_fill_compress(profile, i, &stages[i], forward_was);
    }
    moi_profile_fill_loss(profile, profile->n_stages - 1, &stages[profile->n_stages - 1]);
    return MO_OK;
}

/* ---- the link ------------------------------------------------------------------------------ */

static void moi_profile_copy(const mo_profile_link_desc *desc) {
    if (desc->copy) desc->copy(desc->self, desc->to, desc->from, desc->size);
    else memcpy(desc->to, desc->from, desc->size);
}

mo_status mo_profile_link(const mo_profile_link_desc *desc, double *bytes_per_s) {
    double samples[MOI_PROFILE_LINK_MOST];
    if (!desc || !desc->to || !desc->from || desc->size == 0 || !bytes_per_s) return MO_E_INVALID;
    size_t n = desc->repeats ? desc->repeats : (size_t)MOI_PROFILE_LINK_REPEATS;
    if (n > MOI_PROFILE_LINK_MOST) return MO_E_INVALID;
    moi_profile_copy(desc);
    for (size_t i = 0; i < n; i++) {
        double begun = moi_profile_now(desc->clock);
        moi_profile_copy(desc);
        samples[i] = moi_profile_now(desc->clock) - begun;
    }
    double seconds = moi_profile_middle(samples, n);
    if (!(seconds > 0)) return MO_E_UNSUPPORTED;
    *bytes_per_s = (double)desc->size / seconds;
    return MO_OK;
}
