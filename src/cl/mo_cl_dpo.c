/* mo_cl_dpo.c - see mo_cl_dpo.h. */

size_t mo_cl_linear_dpo_workspace_size(const mo_cl_linear_dpo_desc *desc) {
    size_t n, size = desc ? mo_cl_linear_ce_workspace_size(&desc->ce) : 0;
    if (size == 0 || !moi_mul(desc->ce.rows, sizeof(float), &n)) return 0;
    return moi_add(size, n, &n) ? n : 0;
}

static size_t moi_cl_dpo_end(const mo_cl_linear_dpo_desc *d, size_t i) {
    return d->ends ? d->ends[i] : (i + 1) * (d->ce.rows / (2 * d->pairs.pairs));
}

static mo_status moi_cl_dpo_check(
    const mo_cl_linear_dpo_desc *d, const mo_cl_linear_ce_tensors *t, const double *log_probs) {
    if (!d || !t || !log_probs || t->weights.buffer || d->ce.label_smoothing != 0.0f ||
        d->ce.z_loss != 0.0f || d->pairs.pairs == 0 || d->pairs.pairs > d->ce.rows)
        return MO_E_INVALID;
    const size_t n = 2 * d->pairs.pairs;
    if (!d->ends && d->ce.rows % n != 0) return MO_E_INVALID;
    for (size_t i = 0; i < n; i++)
        if (moi_cl_dpo_end(d, i) > d->ce.rows ||
            (i && moi_cl_dpo_end(d, i) < moi_cl_dpo_end(d, i - 1)))
            return MO_E_INVALID;
    if (moi_cl_dpo_end(d, n - 1) != d->ce.rows) return MO_E_INVALID;
    mo_cl_linear_ce_desc ce = d->ce;
    ce.scale = 1.0f; /* nothing is counted */
    return moi_cl_loss_check(&ce, t, mo_cl_linear_dpo_workspace_size(d), 1, 1);
}

/* One sweep over the rows, with a weight for each where there are gradients. */
static mo_status moi_cl_dpo_sweep(
    const mo_cl_linear_dpo_desc *d, const mo_cl_linear_ce_tensors *tensors, int gradients) {
    const mo_cl_mem none = {NULL, 0, 0, 0};
    mo_cl_linear_ce_desc ce = d->ce;
    mo_cl_linear_ce_tensors t = *tensors;
    ce.scale = 1.0f;
    t.counted = none;
    if (gradients)
        t.weights = mo_cl_part(
            &ce.workspace, mo_cl_linear_ce_workspace_size(&ce), (uint64_t)ce.rows * sizeof(float));
    else t.dx = t.dw = none;
    return mo_cl_linear_ce(&ce, &t, NULL);
}

static mo_status moi_cl_dpo_read(
    const mo_cl_linear_dpo_desc *d, const mo_cl_mem *losses, double *log_probs) {
    float part[1024];
    size_t sequence = 0;
    for (size_t i = 0; i < 2 * d->pairs.pairs; i++) log_probs[i] = 0;
    for (size_t row = 0; row < d->ce.rows; row += 1024) {
        const size_t n = d->ce.rows - row < 1024 ? d->ce.rows - row : 1024;
        const mo_status status = moi_cl_loss_fetch(d->ce.env->cl, losses, row, n, part);
        if (status != MO_OK) return status;
        for (size_t i = 0; i < n; i++) {
            while (row + i >= moi_cl_dpo_end(d, sequence)) sequence++;
            log_probs[sequence] -= (double)part[i];
        }
    }
    return MO_OK;
}

mo_status mo_cl_linear_dpo_log_probs(
    const mo_cl_linear_dpo_desc *desc, const mo_cl_linear_ce_tensors *tensors, double *log_probs) {
    mo_status status = moi_cl_dpo_check(desc, tensors, log_probs);
    if (status != MO_OK) return status;
    if (tensors->dx.buffer || tensors->dw.buffer) return MO_E_INVALID;
    status = moi_cl_dpo_sweep(desc, tensors, 0);
    return status == MO_OK ? moi_cl_dpo_read(desc, &tensors->losses, log_probs) : status;
}

/* The weights of the rows of sequence i. */
static mo_status moi_cl_dpo_fill(const mo_cl_linear_dpo_desc *d, size_t i, float weight) {
    const size_t begin = i ? moi_cl_dpo_end(d, i - 1) : 0, n = moi_cl_dpo_end(d, i) - begin;
    const mo_cl_mem rows = mo_cl_part(&d->ce.workspace,
        mo_cl_linear_ce_workspace_size(&d->ce) + begin * sizeof(float), n * sizeof(float));
    if (n == 0) return MO_OK;
    moi_cl_call call = moi_cl_begin(d->ce.env->cl, MOI_CL_mo_cl_fill_u32, NULL);
    moi_cl_mem_arg(&call, &rows, sizeof(float), n);
    moi_cl_u32_arg(&call, moi_float_bits(weight));
    moi_cl_u64_arg(&call, n);
    return moi_cl_run(&call, moi_cl_tiles(d->ce.env->cl, n));
}

/* Pair by pair, so that no memory for all gradients is needed. */
static mo_status moi_cl_dpo_pairs(const mo_cl_linear_dpo_desc *d, const double *log_probs,
    const double *reference, int gradients, double *loss) {
    const size_t n = d->pairs.pairs;
    mo_dpo_pairs_desc one = d->pairs;
    double sum = 0;
    one.pairs = 1;
    if (one.scale == 0.0f) one.scale = 1.0f / (float)n;
    for (size_t i = 0; i < n; i++) {
        const double policy[2] = {log_probs[i], log_probs[n + i]};
        const double before[2] = {reference[i], reference[n + i]};
        double g[2], part;
        mo_status status = mo_dpo_pairs(&one, policy, before, g, &part);
        if (status == MO_OK && gradients) status = moi_cl_dpo_fill(d, i, (float)-g[0]);
        if (status == MO_OK && gradients) status = moi_cl_dpo_fill(d, n + i, (float)-g[1]);
        if (status != MO_OK) return status;
        sum += part;
    }
    *loss = sum;
    return MO_OK;
}

mo_status mo_cl_linear_dpo(const mo_cl_linear_dpo_desc *desc,
    const mo_cl_linear_ce_tensors *tensors, const double *reference, double *log_probs,
    double *loss) {
    double found = 0;
    mo_status status = moi_cl_dpo_check(desc, tensors, log_probs);
    if (status != MO_OK) return status;
    if (!reference || !loss || !(desc->pairs.beta >= 0.0f) ||
        !(desc->pairs.label_smoothing >= 0.0f && desc->pairs.label_smoothing <= 0.5f))
        return MO_E_INVALID;
    const int gradients = tensors->dx.buffer != NULL;
    status = moi_cl_dpo_sweep(desc, tensors, 0);
    if (status == MO_OK) status = moi_cl_dpo_read(desc, &tensors->losses, log_probs);
    if (status == MO_OK) status = moi_cl_dpo_pairs(desc, log_probs, reference, gradients, &found);
    if (status == MO_OK && gradients) status = moi_cl_dpo_sweep(desc, tensors, 1);
    if (status == MO_OK) *loss = found;
    return status;
}
