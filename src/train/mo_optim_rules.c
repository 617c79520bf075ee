/* mo_optim_rules.c - see mo_optim_rules.h. */

static unsigned moi_optim_traits(mo_optim_kind kind, size_t columns) {
    switch (kind) {
    case MO_OPTIM_ADAMW: return MOI_HAS_M | MOI_HAS_V;
    case MO_OPTIM_SGD: return MOI_HAS_M | MOI_COUPLED;
    case MO_OPTIM_ADAM: return MOI_HAS_M | MOI_HAS_V | MOI_COUPLED;
    case MO_OPTIM_LION: return MOI_HAS_M;
    case MO_OPTIM_RMSPROP:
    case MO_OPTIM_ADAGRAD: return MOI_HAS_V | MOI_COUPLED;
    case MO_OPTIM_ADEMAMIX: return MOI_HAS_M | MOI_HAS_SLOW | MOI_HAS_V;
    case MO_OPTIM_LAMB: return MOI_HAS_M | MOI_HAS_V | MOI_COUPLED | MOI_WHOLE;
    case MO_OPTIM_LARS: return MOI_HAS_M | MOI_COUPLED | MOI_WHOLE;
    case MO_OPTIM_ADAM_MINI: return MOI_HAS_M | MOI_HAS_ROW | MOI_WHOLE;
    case MO_OPTIM_APOLLO:
    case MO_OPTIM_APOLLO_MINI:
    case MO_OPTIM_GALORE: return MOI_HAS_M | MOI_HAS_V | MOI_WHOLE;
    default: break;
    }
    return MOI_WHOLE | (columns ? MOI_HAS_ROW | MOI_HAS_COLUMN : MOI_HAS_ROW);
}

static int moi_optim_is_beta(double beta) { return beta >= 0 && beta < 1; }

/* comparisons with NaN are false */
static int moi_optim_has_numbers(const mo_optim_desc *d) {
    const double most = 1e30;
    return moi_optim_is_beta(d->beta1) && moi_optim_is_beta(d->beta2) &&
        moi_optim_is_beta(d->beta3) && d->epsilon > 0 && d->epsilon < most && fabs(d->lr) < most &&
        fabs(d->weight_decay) < most && fabs(d->grad_scale) < most && fabs(d->alpha) < most &&
        d->trust > 0 && d->trust < most;
}

static int moi_optim_valid(const mo_optim_desc *d) {
    return moi_optim_has_numbers(d) && (unsigned)d->kind < MO_OPTIM_KIND_COUNT &&
        (unsigned)d->precision < MO_OPTIM_PRECISION_COUNT && moi_is_pow2(d->block) &&
        d->block >= 64 && d->block <= moi_q8_max_block && d->rank <= moi_low_most_rank;
}

static int moi_optim_is_blockwise(mo_optim_precision precision) {
    return precision == MO_OPTIM_8BIT || precision == MO_OPTIM_4BIT;
}

static int moi_optim_is_low(mo_optim_kind kind) {
    return kind == MO_OPTIM_APOLLO || kind == MO_OPTIM_APOLLO_MINI || kind == MO_OPTIM_GALORE;
}

/* ---- where the states lie ------------------------------------------------------------------- */

static int moi_optim_bytes(mo_optim_precision precision, size_t n, size_t *size) {
    switch (precision) {
    case MO_OPTIM_8BIT: *size = n; return 1;
    case MO_OPTIM_4BIT: *size = moi_ceil_div(n, 2); return 1;
    case MO_OPTIM_BF16: return moi_mul(n, sizeof(uint16_t), size);
    default: return moi_mul(n, sizeof(float), size);
    }
}

static int moi_optim_array_bytes(const moi_optim_layout *layout, int array, size_t *size) {
    switch (array) {
    case moi_optim_m:
    case moi_optim_slow:
    case moi_optim_v: return moi_optim_bytes(layout->precision, layout->n_states, size);
    case moi_optim_row: return moi_mul(layout->rows, sizeof(float), size);
    case moi_optim_column: return moi_mul(layout->columns, sizeof(float), size);
    case moi_optim_master: return moi_mul(layout->n, sizeof(float), size);
    case moi_optim_extra: return moi_mul(layout->n_extra, sizeof(float), size);
    default: return moi_mul(moi_ceil_div(layout->n_states, layout->block), sizeof(float), size);
    }
}

static unsigned moi_optim_has(unsigned traits, int blockwise, int master) {
    const unsigned scaled = blockwise ? 3 : 1; /* numbers with their scales */
    unsigned has = 0;
    if (traits & MOI_HAS_M) has |= scaled << moi_optim_m;
    if (traits & MOI_HAS_SLOW) has |= scaled << moi_optim_slow;
    if (traits & MOI_HAS_V) has |= scaled << moi_optim_v;
    if (traits & MOI_HAS_ROW) has |= 1u << moi_optim_row;
    if (traits & MOI_HAS_COLUMN) has |= 1u << moi_optim_column;
    return master ? has | 1u << moi_optim_master : has;
}

static size_t moi_low_power(size_t x) {
    size_t power = 1;
    while (power <= x / 2) power *= 2;
    return power;
}

/* The rank of a matrix whose shorter side is small. */
static size_t moi_low_rank(const mo_optim_desc *d, size_t small, mo_optim_precision precision) {
    size_t rank = d->rank;
    if (rank == 0) rank = d->kind == MO_OPTIM_APOLLO_MINI ? 1 : moi_low_power(small / 4);
    if (d->rank == 0) rank = moi_min(rank, 256);
    rank = moi_min(rank, small);
    return moi_optim_is_blockwise(precision) ? moi_low_power(rank) : rank;
}

/* What low-rank kinds have of a matrix; 0 when that does not fit. */
static int moi_optim_lay_low(const mo_optim_desc *d, moi_optim_layout *l) {
    const size_t columns = d->columns, rows = columns ? l->n / columns : 0;
    if (rows < 2 || columns < 2) return 1;
    l->rank = moi_low_rank(d, moi_min(rows, columns), l->precision);
    l->columns = columns;
    const moi_low_shape s = moi_low_shape_of(l->n, columns, l->rank);
    size_t most; /* more than extra has */
    if (!moi_mul(s.large, moi_low_lanes, &most) || !moi_add(most, l->n, &most) ||
        !moi_mul(s.tiles * moi_low_lanes, l->rank, &l->n_states))
        return 0;
    l->n_extra = moi_low_extra(d, l->n, columns, l->rank);
    return 1;
}

static int moi_optim_lay_out(const mo_optim_desc *d, size_t n, moi_optim_layout *layout) {
    const unsigned traits = moi_optim_traits(d->kind, d->columns);
    moi_optim_layout l;
    size_t bytes;
    memset(&l, 0, sizeof l);
    l.n = l.n_states = n;
    l.precision =
        moi_optim_is_blockwise(d->precision) && n < d->min_8bit_size ? MO_OPTIM_F32 : d->precision;
    l.block = d->block;
    if (traits & MOI_HAS_ROW) {
        /* a vector is one row to ADAM_MINI, and rows of one number to ADAFACTOR */
        l.columns = d->columns;
        if (!l.columns) l.columns = d->kind == MO_OPTIM_ADAFACTOR ? 1 : n;
        l.rows = l.columns ? n / l.columns : 0;
    }
    l.has = moi_optim_has(traits, moi_optim_is_blockwise(l.precision), d->master);
    if (!moi_mul(n, sizeof(float), &bytes)) return 0;
    if (moi_optim_is_low(d->kind) && !moi_optim_lay_low(d, &l)) return 0;
    if (l.rank) l.has |= 1u << moi_optim_extra;
    for (int i = 0; i < moi_optim_n_arrays; i++) {
        if (!(l.has >> i & 1)) continue;
        l.at[i] = l.size;
        if (!moi_optim_array_bytes(&l, i, &bytes) || !moi_align_up(bytes, MOI_CACHE_LINE, &bytes) ||
            !moi_add(l.size, bytes, &l.size))
            return 0;
    }
    *layout = l;
    return 1;
}

static mo_status moi_optim_layout_check(const mo_optim_desc *d, size_t n) {
    if (!moi_optim_valid(d) || (d->columns && n % d->columns != 0)) return MO_E_INVALID;
    if (d->precision == MO_OPTIM_4BIT && d->kind != MO_OPTIM_ADAMW) return MO_E_UNSUPPORTED;
    return MO_OK;
}

static int moi_optim_first_byte(const moi_optim_layout *layout, int plain_v, int array) {
    /* one-state optimizers of bitsandbytes use the signed map for v */
    const int v_is_signed = plain_v && !(layout->has >> moi_optim_m & 1);
    if (array != moi_optim_m && array != moi_optim_slow && !(array == moi_optim_v && v_is_signed))
        return 0;
    if (layout->precision == MO_OPTIM_8BIT) return 127;
    return layout->precision == MO_OPTIM_4BIT ? 0x77 : 0;
}

static mo_status moi_optim_slice_check(
    mo_optim_precision precision, size_t block, size_t all, size_t begin, size_t n) {
    if (begin > all || n > all - begin) return MO_E_INVALID;
    if (!moi_optim_is_blockwise(precision)) return MO_OK;
    if (begin % block != 0 || (n % block != 0 && begin + n != all)) return MO_E_INVALID;
    return MO_OK;
}

/* ---- the numbers of a step ------------------------------------------------------------------ */

/* AdEMAMix, equations of section 3: alpha grows in a line, beta3 so that its half-life does. */
static void moi_optim_warm(const mo_optim_desc *d, uint64_t t, double *beta3, double *alpha) {
    *beta3 = d->beta3;
    *alpha = d->alpha;
    if (d->warmup == 0 || t >= d->warmup) return;
    const double s = (double)t / (double)d->warmup, l1 = log(d->beta1), l3 = log(d->beta3);
    const double warm = exp(l1 * l3 / ((1 - s) * l3 + s * l1));
    *alpha = d->alpha * s;
    if (warm < d->beta3) *beta3 = warm;
}

static moi_optim_factors moi_optim_factors_of(const mo_optim_desc *d, uint64_t t) {
    moi_optim_factors f;
    const double correct1 = 1 - pow(d->beta1, (double)t), correct2 = 1 - pow(d->beta2, (double)t);
    const int coupled = (moi_optim_traits(d->kind, 0) & MOI_COUPLED) != 0;
    const int adam = d->kind == MO_OPTIM_ADAMW || d->kind == MO_OPTIM_ADAM ||
        d->kind == MO_OPTIM_ADAM_MINI || moi_optim_is_low(d->kind);
    double beta3, alpha;
    moi_optim_warm(d, t, &beta3, &alpha);
    f.grad_scale = (float)d->grad_scale;
    /* at t = 1 momentum starts from the gradient: what is in the state does not count */
    f.beta1 = d->kind == MO_OPTIM_SGD && t == 1 ? 0.0f : (float)d->beta1;
    f.beta2 = d->kind == MO_OPTIM_ADAGRAD ? 1.0f : (float)d->beta2;
    f.beta3 = (float)beta3;
    f.one_minus_beta1 = (float)(1 - d->beta1);
    f.one_minus_beta2 = d->kind == MO_OPTIM_ADAGRAD ? 1.0f : (float)(1 - d->beta2);
    f.one_minus_beta3 = (float)(1 - beta3);
    f.keep = coupled ? 1.0f : (float)(1 - d->lr * d->weight_decay);
    f.decay = coupled ? (float)d->weight_decay : 0.0f;
    f.step = (float)(adam ? d->lr / correct1 : d->lr);
    f.debias = (float)(1 / sqrt(correct2));
    f.debias_m = (float)(1 / correct1);
    f.epsilon = (float)d->epsilon;
    f.alpha = (float)alpha;
    return f;
}

static uint64_t moi_optim_seed(const mo_optim_desc *d, uint64_t t) {
    return d->seed + t * 0x9e3779b97f4a7c15u;
}

static int moi_optim_sum_usable(const mo_optim_desc *d, double square_sum) {
    return square_sum * d->grad_scale * d->grad_scale < 1.8e19 * 1.8e19;
}

static moi_optim_factors moi_optim_still(const mo_optim_desc *d, const moi_optim_factors *f) {
    moi_optim_factors still = *f;
    still.step = 0;
    if (d->kind == MO_OPTIM_LARS) still.beta1 = 0;
    return still;
}

static int moi_optim_trust_step(
    const mo_optim_desc *d, double param_sum, double other_sum, float *step) {
    double param = sqrt(param_sum), other = sqrt(other_sum);
    if (!(other <= 1.7976931348623157e308)) return 0; /* also NaN */
    if (d->kind == MO_OPTIM_LARS) {
        other = other * fabs(d->grad_scale) + d->weight_decay * param;
        param *= d->trust;
    }
    const double ratio = param > 0 && other > 0 ? param / other : 1;
    *step = (float)(d->lr * ratio);
    return 1;
}

static void moi_optim_factored_decay(uint64_t t, float *beta2, float *one_minus_beta2) {
    const double decay = 1 - pow((double)t, -0.8);
    *beta2 = (float)decay;
    *one_minus_beta2 = (float)(1 - decay);
}

static float moi_optim_mean_row(const mo_optim_desc *d, double row_sum, size_t rows) {
    return (float)(row_sum / (double)rows) + (float)d->epsilon;
}

static float moi_optim_factored_step(const mo_optim_desc *d, double square_sum, size_t n) {
    const double rms = sqrt(square_sum / (double)n);
    return (float)(d->lr / (rms > d->trust ? rms / d->trust : 1));
}

/* ---- low-rank kinds -------------------------------------------------------------------------- */

static moi_low_shape moi_low_shape_of(size_t n, size_t columns, size_t rank) {
    const size_t rows = n / columns;
    const int by_columns = rows < columns;
    moi_low_shape s;
    s.rank = rank;
    s.small = moi_min(rows, columns);
    s.large = moi_max(rows, columns);
    s.tiles = moi_ceil_div(s.large, moi_low_lanes);
    s.channel_step = by_columns ? 1 : columns;
    s.number_step = by_columns ? columns : 1;
    return s;
}

static size_t moi_low_extra(const mo_optim_desc *d, size_t n, size_t columns, size_t rank) {
    if (!moi_optim_is_low(d->kind) || rank == 0 || columns == 0) return 0;
    const moi_low_shape s = moi_low_shape_of(n, columns, rank);
    if (d->kind != MO_OPTIM_GALORE) return moi_low_lengths(&s) + s.tiles * moi_low_lanes;
    return moi_low_channels(&s) + s.large * moi_low_width(&s);
}

static size_t moi_low_chunk_tiles(const moi_low_shape *s, mo_optim_precision p, size_t block) {
    const size_t tile = moi_low_lanes * s->rank;
    const size_t numbers = moi_optim_is_blockwise(p) ? moi_max(block, tile) : 1024;
    return moi_max(numbers / tile, 1);
}

static size_t moi_low_lengths(const moi_low_shape *s) {
    return moi_low_factors + s->tiles * moi_low_lanes;
}
static size_t moi_low_channels(const moi_low_shape *s) { return s->small * s->rank; }
static size_t moi_low_width(const moi_low_shape *s) { return moi_min(s->rank, moi_low_wide); }

static uint64_t moi_low_seed(const mo_optim_desc *d, uint64_t t) {
    return d->seed + ((t - 1) / d->interval + 1) * 0xd1342543de82ef95u;
}
static size_t moi_low_words(size_t rank) { return moi_ceil_div(rank, 32); }

static int moi_low_is_due(const mo_optim_desc *d, uint64_t t) { return (t - 1) % d->interval == 0; }

static float moi_low_power_scale(double squares) {
    return squares > 0 ? (float)(1 / sqrt(squares > 1e-60 ? squares : 1e-60)) : 0.0f;
}

static float moi_low_scale(const mo_optim_desc *d, size_t rank) {
    if (d->kind == MO_OPTIM_GALORE) return (float)d->grad_scale;
    return (float)(d->grad_scale / sqrt((double)rank));
}

static mo_optim_desc moi_low_adam(const mo_optim_desc *d, mo_optim_precision p, size_t block) {
    mo_optim_desc adam = *d;
    adam.kind = MO_OPTIM_ADAMW;
    adam.precision = p;
    adam.block = block;
    adam.lr = -1;
    adam.weight_decay = 0;
    adam.grad_scale = 1;
    return adam;
}

/* The limiter of Fira, arXiv:2410.01623, as APOLLO has it. */
static float moi_low_step_of(
    const mo_optim_desc *d, double first, double second, double squares, float *last) {
    double rate = d->grad_scale, norm = sqrt(second);
    if (d->kind == MO_OPTIM_APOLLO_MINI) {
        rate *= second > 0 ? sqrt(first / second) : 0;
        norm = fabs(rate) * sqrt(squares);
    }
    const double most = d->trust * (double)*last;
    if (most > 0 && norm > most) {
        rate *= most / norm;
        norm = most;
    }
    *last = (float)norm;
    return (float)(d->lr * d->alpha * rate);
}
