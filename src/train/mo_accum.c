/* mo_accum.c - see mo_accum.h. Plain loops: they run at the speed of memory when vectorized by the
 * compiler, and the lanes of the sum are fixed, so that the result is the same everywhere. */

enum { moi_accum_grain = 16384, moi_accum_lanes = 8, moi_accum_parts = 64 };

typedef struct moi_accum_job {
    const float *grad;
    float *sum;
    float scale;
    size_t n;
    double *square_sums; /* [moi_accum_parts] */
} moi_accum_job;

static void moi_accum_rows(const void *context, size_t begin, size_t end) {
    const moi_accum_job *job = (const moi_accum_job *)context;
    const float *MOI_RESTRICT grad = job->grad;
    float *MOI_RESTRICT sum = job->sum;
    const float scale = job->scale;
    for (size_t i = begin; i < end; i++) sum[i] += scale * grad[i];
}

void mo_accum_add(
    const float *grad, float scale, float *sum, size_t n, const mo_parallel *parallel) {
    moi_accum_job job = {grad, sum, scale, n, NULL};
    moi_for_rows(parallel, n, moi_accum_grain, moi_accum_rows, &job);
}

static double moi_accum_squares(const float *x, size_t n) {
    double lane[moi_accum_lanes] = {0}, total = 0;
    size_t i = 0;
    for (; i + moi_accum_lanes <= n; i += moi_accum_lanes)
        for (size_t j = 0; j < moi_accum_lanes; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
    for (; i < n; i++) lane[0] += (double)x[i] * (double)x[i];
    for (size_t j = 0; j < moi_accum_lanes; j++) total += lane[j];
    return total;
}

/* The sum has moi_accum_parts parts whatever the number of threads; a row is a part here. */
static void moi_accum_square_rows(const void *context, size_t begin, size_t end) {
    const moi_accum_job *job = (const moi_accum_job *)context;
    for (; begin < end; begin++) {
        size_t from, to;
        moi_part(job->n, moi_accum_lanes, (int)begin, moi_accum_parts, &from, &to);
        job->square_sums[begin] = moi_accum_squares(job->grad + from, to - from);
    }
}

double mo_accum_square_sum(const float *grad, size_t n, const mo_parallel *parallel) {
    double square_sums[moi_accum_parts], total = 0;
    moi_accum_job job = {grad, NULL, 0, n, square_sums};
    moi_for_rows(parallel, moi_accum_parts, 1, moi_accum_square_rows, &job);
    for (int i = 0; i < moi_accum_parts; i++) total += square_sums[i];
    return total;
}

double mo_accum_clip_scale(double norm, double max_norm) {
    double scale = max_norm / (norm + 1e-6);
    return scale > 0 && scale < 1 ? scale : 1; /* 1 for no limit, and for an infinite or NaN norm */
}

static int moi_scaler_positive(double x) { return x > 0 && x <= 1.7976931348623157e308; }

mo_status mo_loss_scaler_init(mo_loss_scaler *scaler, const mo_loss_scaler_desc *desc) {
    const mo_loss_scaler_desc zero = {0, 0, 0, 0, 0};
    if (!scaler) return MO_E_INVALID;
    mo_loss_scaler_desc d = desc ? *desc : zero;
    if (d.initial == 0) d.initial = 65536;
    if (d.growth == 0) d.growth = 2;
    if (d.backoff == 0) d.backoff = 0.5;
    if (d.interval == 0) d.interval = 2000;
    if (!moi_scaler_positive(d.initial) || !moi_scaler_positive(d.growth) || d.growth < 1 ||
        !moi_scaler_positive(d.backoff) || d.backoff > 1)
        return MO_E_INVALID;
    scaler->scale = d.initial;
    scaler->good_steps = 0;
    scaler->skipped = 0;
    scaler->desc = d;
    return MO_OK;
}

int mo_loss_scaler_update(mo_loss_scaler *scaler, double square_sum) {
    const int overflow = !(square_sum <= 1.7976931348623157e308); /* also NaN */
    if (overflow) {
        scaler->skipped++;
        scaler->good_steps = 0;
        if (!scaler->desc.is_static) scaler->scale *= scaler->desc.backoff;
        return 0;
    }
    if (!scaler->desc.is_static && ++scaler->good_steps == scaler->desc.interval) {
        const double grown = scaler->scale * scaler->desc.growth;
        if (grown <= 3.4028234663852886e38) scaler->scale = grown; /* a float can hold it */
        scaler->good_steps = 0;
    }
    return 1;
}
