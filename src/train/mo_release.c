/* mo_release.c - see mo_release.h. */

static int moi_release_is_norm(double x) { return x >= 0 && x < HUGE_VAL; } /* not for NaN */

static int moi_release_valid(const mo_release_desc *d) {
    if ((unsigned)d->clip >= MO_RELEASE_CLIP_COUNT) return 0;
    if (d->clip == MO_RELEASE_NONE) return 1;
    return moi_release_is_norm(d->max_norm) && d->max_norm > 0 &&
        moi_release_is_norm(d->first_norm) && d->n_tensors != 0 && d->square_sums;
}

mo_status mo_release_init(mo_release *release, const mo_release_desc *desc) {
    if (!release || !desc || !moi_release_valid(desc)) return MO_E_INVALID;
    memset(release, 0, sizeof *release);
    release->desc = *desc;
    release->scale = 1;
    if (desc->clip == MO_RELEASE_PREVIOUS) release->norm = desc->first_norm;
    return MO_OK;
}

void mo_release_begin(mo_release *release) {
    const mo_release_desc *d = &release->desc;
    release->pass = 0;
    release->scale = 1;
    for (size_t i = 0; d->clip != MO_RELEASE_NONE && i < d->n_tensors; i++) d->square_sums[i] = 0;
}

/* The sum in the order of the tensors, not in that in which backward gave them. */
static double moi_release_global_norm(const mo_release_desc *d) {
    double sum = 0;
    for (size_t i = 0; i < d->n_tensors; i++) sum += d->square_sums[i];
    return sqrt(sum);
}

/* What a pass that has ended leaves behind; 0: no other one may follow. */
static int moi_release_end_pass(mo_release *release) {
    const mo_release_desc *d = &release->desc;
    if (mo_release_needs(release) == MO_RELEASE_NO_NORM) return 1;
    const double norm = moi_release_global_norm(d);
    const int finite = moi_release_is_norm(norm);
    if (finite) release->norm = norm;
    if (d->clip != MO_RELEASE_EXACT) return 1;
    if (!finite) release->skipped++;
    release->scale = mo_accum_clip_scale(norm, d->max_norm);
    return finite;
}

int mo_release_next(mo_release *release) {
    const int n_passes = release->desc.clip == MO_RELEASE_EXACT ? 2 : 1;
    const int goes_on = release->pass == 0 || moi_release_end_pass(release);
    if (goes_on && release->pass < n_passes) {
        release->pass++;
        return 1;
    }
    release->pass = 0;
    return 0;
}

int mo_release_updates(const mo_release *release) {
    return release->desc.clip != MO_RELEASE_EXACT || release->pass == 2;
}

mo_release_need mo_release_needs(const mo_release *release) {
    switch (release->desc.clip) {
    case MO_RELEASE_TENSOR: return MO_RELEASE_NORM_FIRST;
    case MO_RELEASE_PREVIOUS:
        return release->norm > 0 ? MO_RELEASE_NORM_LATER : MO_RELEASE_NORM_FIRST;
    case MO_RELEASE_EXACT: return release->pass == 1 ? MO_RELEASE_NORM_LATER : MO_RELEASE_NO_NORM;
    default: return MO_RELEASE_NO_NORM;
    }
}

void mo_release_measure(mo_release *release, size_t tensor, double square_sum) {
    if (release->desc.clip != MO_RELEASE_NONE && tensor < release->desc.n_tensors)
        release->desc.square_sums[tensor] = square_sum;
}

double mo_release_scale(const mo_release *release, size_t tensor) {
    const mo_release_desc *d = &release->desc;
    if (d->clip == MO_RELEASE_NONE || tensor >= d->n_tensors) return 1;
    if (d->clip == MO_RELEASE_EXACT) return release->scale;
    return mo_accum_clip_scale(mo_release_needs(release) == MO_RELEASE_NORM_FIRST
            ? sqrt(d->square_sums[tensor])
            : release->norm,
        d->max_norm);
}

/* The norm that the pass asks for, and the desc with the scale. */
static mo_status moi_release_scaled(mo_release *release, size_t tensor, const mo_optim_desc *optim,
    const float *grad, const mo_optim_state *state, mo_optim_desc *scaled) {
    if (!release || !optim || !grad || !state) return MO_E_INVALID;
    if (release->desc.clip != MO_RELEASE_NONE && tensor >= release->desc.n_tensors)
        return MO_E_INVALID;
    if (release->pass == 0) return MO_E_STATE;
    const double by = optim->grad_scale == 0 ? 1 : optim->grad_scale;
    if (mo_release_needs(release) != MO_RELEASE_NO_NORM)
        mo_release_measure(
            release, tensor, by * by * mo_accum_square_sum(grad, state->n, optim->parallel));
    *scaled = *optim;
    scaled->grad_scale = by * mo_release_scale(release, tensor);
    return MO_OK;
}

mo_status mo_release_step(mo_release *release, size_t tensor, const mo_optim_desc *optim,
    uint64_t t, float *param, const float *grad, const mo_optim_state *state) {
    mo_optim_desc scaled;
    const mo_status status = moi_release_scaled(release, tensor, optim, grad, state, &scaled);
    if (status != MO_OK || !mo_release_updates(release)) return status;
    return mo_optim_step(&scaled, t, param, grad, state);
}

mo_status mo_release_step_bf16(mo_release *release, size_t tensor, const mo_optim_desc *optim,
    uint64_t t, uint16_t *param, const float *grad, const mo_optim_state *state) {
    mo_optim_desc scaled;
    const mo_status status = moi_release_scaled(release, tensor, optim, grad, state, &scaled);
    if (status != MO_OK || !mo_release_updates(release)) return status;
    return mo_optim_step_bf16(&scaled, t, param, grad, state);
}
