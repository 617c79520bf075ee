/* mo_mezo_rules.c - see mo_mezo_rules.h. */

/* A power of two whose inverse is a number too. */
static int moi_mezo_is_grid(double grid) {
    int exponent;
    return grid > 0 && frexp(grid, &exponent) == 0.5 && exponent > -120 && exponent < 120;
}

/* What both passes have; comparisons with NaN are false. */
static mo_status moi_mezo_begin(
    const mo_mezo_desc *desc, uint64_t t, moi_mezo_factors *f, uint64_t *seed) {
    const double most = 1e30;
    if (!desc || t == 0 || !(fabs(desc->lr) < most) || !(fabs(desc->epsilon) < most) ||
        !(fabs(desc->weight_decay) < most) || (desc->grid != 0 && !moi_mezo_is_grid(desc->grid)))
        return MO_E_INVALID;
    memset(f, 0, sizeof *f);
    f->keep = f->times = 1;
    f->grid = (float)desc->grid;
    f->inverse = desc->grid != 0 ? (float)(1 / desc->grid) : 0;
    *seed = desc->seed + t * 0x9e3779b97f4a7c15u;
    return MO_OK;
}

static mo_status moi_mezo_perturbation(
    const mo_mezo_desc *desc, uint64_t t, double times, moi_mezo_factors *f, uint64_t *seed) {
    const mo_status status = moi_mezo_begin(desc, t, f, seed);
    if (status != MO_OK || !(fabs(times) < 1e30)) return MO_E_INVALID;
    const double epsilon = mo_mezo_desc_defaults(desc).epsilon;
    f->times = (float)times;
    f->scale = (float)(f->grid != 0.0f ? epsilon : times * epsilon);
    return MO_OK;
}

static mo_status moi_mezo_update(const mo_mezo_desc *desc, uint64_t t, double gradient,
    moi_mezo_factors *f, uint64_t *seed, int *moves) {
    const mo_status status = moi_mezo_begin(desc, t, f, seed);
    if (status != MO_OK) return status;
    f->keep = (float)(1 - desc->lr * desc->weight_decay);
    f->decay = (float)(0 - desc->lr * desc->weight_decay);
    f->scale = (float)(0 - desc->lr * gradient);
    f->dither = 1;
    *moves = fabs(gradient) < 1e30;
    return MO_OK;
}
