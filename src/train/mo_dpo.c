/* mo_dpo.c - see mo_dpo.h. */

/* log(1 / (1 + e^-x)), without overflow on either side */
static double moi_dpo_log_sigmoid(double x) { return x < 0 ? x - log1p(exp(x)) : -log1p(exp(-x)); }

static double moi_dpo_sigmoid(double x) {
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}

mo_status mo_dpo_pairs(const mo_dpo_pairs_desc *desc, const double *policy, const double *reference,
    double *gradients, double *loss) {
    if (!desc || !policy || !reference || !loss || desc->pairs == 0 || !(desc->beta >= 0.0f) ||
        !(desc->label_smoothing >= 0.0f && desc->label_smoothing <= 0.5f))
        return MO_E_INVALID;
    const size_t n = desc->pairs;
    const double beta = desc->beta == 0.0f ? 0.1 : (double)desc->beta;
    const double scale = desc->scale == 0.0f ? 1.0 / (double)n : (double)desc->scale;
    const double s = (double)desc->label_smoothing;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double m = beta * ((policy[i] - reference[i]) - (policy[n + i] - reference[n + i]));
        sum -= (1 - s) * moi_dpo_log_sigmoid(m) + s * moi_dpo_log_sigmoid(-m);
        if (!gradients) continue;
        gradients[i] = scale * beta * (s * moi_dpo_sigmoid(m) - (1 - s) * moi_dpo_sigmoid(-m));
        gradients[n + i] = -gradients[i];
    }
    *loss = scale * sum;
    return MO_OK;
}

/* ---- sequences ----------------------------------------------------------------------------- */

/* The workspace: that of the cross-entropy, then per sequence a log-probability and its gradient,
 * then per row its loss, which becomes its weight. */
typedef struct moi_dpo_space {
    double *log_probs, *gradients;
    float *rows;
} moi_dpo_space;

size_t mo_linear_dpo_workspace_size(const mo_linear_dpo_desc *desc) {
    size_t n, doubles, size = desc ? mo_linear_ce_workspace_size(&desc->ce) : 0;
    if (size == 0 || !moi_mul(desc->pairs.pairs, 4 * sizeof(double), &doubles)) return 0;
    if (!moi_mul(desc->ce.rows, sizeof(float), &n) || !moi_add(n, doubles, &n)) return 0;
    return moi_add(size, n, &n) && moi_align_up(n, MOI_CACHE_LINE, &n) ? n : 0;
}

static moi_dpo_space moi_dpo_space_of(const mo_linear_dpo_desc *d) {
    moi_dpo_space s;
    s.log_probs = (double *)(void *)((char *)d->ce.workspace + mo_linear_ce_workspace_size(&d->ce));
    s.gradients = s.log_probs + 2 * d->pairs.pairs;
    s.rows = (float *)(void *)(s.gradients + 2 * d->pairs.pairs);
    return s;
}

static size_t moi_dpo_end(const mo_linear_dpo_desc *d, size_t i) {
    return d->ends ? d->ends[i] : (i + 1) * (d->ce.rows / (2 * d->pairs.pairs));
}

static mo_status moi_dpo_check(const mo_linear_dpo_desc *d, const mo_linear_ce_tensors *t) {
    if (!d || !t || t->weights || t->losses || d->ce.label_smoothing != 0.0f ||
        d->ce.z_loss != 0.0f || d->pairs.pairs == 0 || d->pairs.pairs > d->ce.rows)
        return MO_E_INVALID;
    const size_t n = 2 * d->pairs.pairs;
    if (!d->ends && d->ce.rows % n != 0) return MO_E_INVALID;
    for (size_t i = 0; i < n; i++)
        if (moi_dpo_end(d, i) > d->ce.rows || (i && moi_dpo_end(d, i) < moi_dpo_end(d, i - 1)))
            return MO_E_INVALID;
    if (moi_dpo_end(d, n - 1) != d->ce.rows) return MO_E_INVALID;
    return moi_loss_check(&d->ce, t, mo_linear_dpo_workspace_size(d), 1);
}

/* Log-probabilities of the sequences, by a sweep without gradients. */
static mo_status moi_dpo_forward(
    const mo_linear_dpo_desc *d, const mo_linear_ce_tensors *tensors, double *log_probs) {
    const moi_dpo_space space = moi_dpo_space_of(d);
    mo_linear_ce_desc ce = d->ce;
    mo_linear_ce_tensors t = *tensors;
    double sum;
    ce.scale = 1.0f;
    t.dx = t.dw = NULL;
    t.losses = space.rows;
    const mo_status status = mo_linear_ce(&ce, &t, &sum);
    if (status != MO_OK) return status;
    for (size_t i = 0, row = 0; i < 2 * d->pairs.pairs; i++)
        for (log_probs[i] = 0; row < moi_dpo_end(d, i); row++)
            log_probs[i] -= (double)space.rows[row];
    return MO_OK;
}

mo_status mo_linear_dpo_log_probs(
    const mo_linear_dpo_desc *desc, const mo_linear_ce_tensors *tensors, double *log_probs) {
    if (!log_probs || (tensors && (tensors->dx || tensors->dw))) return MO_E_INVALID;
    const mo_status status = moi_dpo_check(desc, tensors);
    return status == MO_OK ? moi_dpo_forward(desc, tensors, log_probs) : status;
}

/* A row's loss is less its log-probability. */
static mo_status moi_dpo_backward(
    const mo_linear_dpo_desc *d, const mo_linear_ce_tensors *tensors, const double *gradients) {
    const moi_dpo_space space = moi_dpo_space_of(d);
    mo_linear_ce_desc ce = d->ce;
    mo_linear_ce_tensors t = *tensors;
    double sum;
    for (size_t i = 0, row = 0; i < 2 * d->pairs.pairs; i++)
        for (; row < moi_dpo_end(d, i); row++) space.rows[row] = (float)-gradients[i];
    ce.scale = 1.0f;
    t.weights = space.rows;
    return mo_linear_ce(&ce, &t, &sum);
}

mo_status mo_linear_dpo(const mo_linear_dpo_desc *desc, const mo_linear_ce_tensors *tensors,
    const double *reference, double *log_probs, double *loss) {
    double found;
    if (!reference || !loss) return MO_E_INVALID;
    mo_status status = moi_dpo_check(desc, tensors);
    if (status != MO_OK) return status;
    const moi_dpo_space space = moi_dpo_space_of(desc);
    status = moi_dpo_forward(desc, tensors, space.log_probs);
    if (status == MO_OK)
        status = mo_dpo_pairs(&desc->pairs, space.log_probs, reference, space.gradients, &found);
    if (status == MO_OK && tensors->dx) status = moi_dpo_backward(desc, tensors, space.gradients);
    if (status != MO_OK) return status;
    if (log_probs) memcpy(log_probs, space.log_probs, 2 * desc->pairs.pairs * sizeof *log_probs);
    *loss = found;
    return MO_OK;
}
