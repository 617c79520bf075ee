/* mo_accum.c - see mo_accum.h. The sum of squares has lanes and parts whose number does not depend
 * on the CPU and the threads, so that the result is the same everywhere. */

enum {
    moi_accum_grain = 16384,
    moi_accum_lanes = 16,
    moi_accum_parts = 64,
    moi_accum_ahead_bytes = 2048
};

/* Some elements of the arrays; first and key are those of the random bits. */
typedef struct moi_accum_slice {
    const float *grad;
    void *sum;
    uint16_t *lost; /* Kahan */
    float scale;
    size_t n;
    uint32_t first, key;
} moi_accum_slice;

#define MOI_ISA scalar
#include "mo_accum.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_accum.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_accum.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_accum.inc"
#undef MOI_ISA
#endif

/* ---- sums ---------------------------------------------------------------------------------- */

typedef enum moi_accum_kind {
    moi_accum_is_f32,
    moi_accum_is_stochastic,
    moi_accum_is_kahan,
    moi_accum_is_multiply
} moi_accum_kind;

typedef struct moi_accum_job {
    moi_accum_kind kind;
    moi_accum_slice all;
    mo_accum_noise noise;
} moi_accum_job;

static void moi_accum_scalar(moi_accum_kind kind, const moi_accum_slice *s) {
    switch (kind) {
    case moi_accum_is_f32: moi_accum_f32_scalar(s); break;
    case moi_accum_is_stochastic: moi_accum_stochastic_scalar(s); break;
    case moi_accum_is_kahan: moi_accum_kahan_scalar(s); break;
    case moi_accum_is_multiply: moi_accum_multiply_scalar(s); break;
    }
}
static void moi_accum_vectors(moi_accum_kind kind, const moi_accum_slice *s) {
    switch (kind) {
    case moi_accum_is_f32: MOI_DISPATCH(moi_accum_f32, (s)); break;
    case moi_accum_is_stochastic: MOI_DISPATCH(moi_accum_stochastic, (s)); break;
    case moi_accum_is_kahan: MOI_DISPATCH(moi_accum_kahan, (s)); break;
    case moi_accum_is_multiply: MOI_DISPATCH(moi_accum_multiply, (s)); break;
    }
}

static moi_accum_slice moi_accum_cut(const moi_accum_job *job, size_t begin, size_t n) {
    const uint64_t index = job->noise.offset + begin;
    const int is_float = job->kind == moi_accum_is_f32 || job->kind == moi_accum_is_multiply;
    moi_accum_slice s = job->all;
    if (s.grad) s.grad += begin;
    if (s.lost) s.lost += begin;
    s.sum = (char *)s.sum + begin * (is_float ? sizeof(float) : sizeof(uint16_t));
    s.n = n;
    s.first = (uint32_t)index;
    s.key = moi_random_key(job->noise.seed, index >> 32);
    return s;
}

static void moi_accum_rows(const void *context, size_t begin, size_t end) {
    const moi_accum_job *job = (const moi_accum_job *)context;
    while (begin < end) {
        /* a slice has one key, so it ends where the upper half of the index changes */
        const uint64_t same_key = 0x100000000u - (uint32_t)(job->noise.offset + begin);
        const size_t n = same_key < end - begin ? (size_t)same_key : end - begin,
                     body = n / 16 * 16;
        const moi_accum_slice vectors = moi_accum_cut(job, begin, body);
        const moi_accum_slice rest = moi_accum_cut(job, begin + body, n - body);
        moi_accum_vectors(job->kind, &vectors);
        moi_accum_scalar(job->kind, &rest);
        begin += n;
    }
}

static void moi_accum_run(moi_accum_kind kind, moi_accum_slice all, const mo_accum_noise *noise,
    const mo_parallel *parallel) {
    moi_accum_job job = {kind, all, {0, 0}};
    if (noise) job.noise = *noise;
    mo_parallel_for(parallel, all.n, moi_accum_grain, moi_accum_rows, &job);
}

void mo_accum_add(
    const float *grad, float scale, float *sum, size_t n, const mo_parallel *parallel) {
    const moi_accum_slice all = {grad, sum, NULL, scale, n, 0, 0};
    moi_accum_run(moi_accum_is_f32, all, NULL, parallel);
}

void mo_accum_add_bf16_stochastic(const float *grad, float scale, uint16_t *sum, size_t n,
    const mo_accum_noise *noise, const mo_parallel *parallel) {
    const moi_accum_slice all = {grad, sum, NULL, scale, n, 0, 0};
    moi_accum_run(moi_accum_is_stochastic, all, noise, parallel);
}

void mo_accum_add_bf16_kahan(const float *grad, float scale, uint16_t *sum, uint16_t *lost,
    size_t n, const mo_parallel *parallel) {
    const moi_accum_slice all = {grad, sum, lost, scale, n, 0, 0};
    moi_accum_run(moi_accum_is_kahan, all, NULL, parallel);
}

/* ---- norms and clipping -------------------------------------------------------------------- */

static double moi_accum_squares(const float *x, size_t n) {
    const size_t body = n / moi_accum_lanes * moi_accum_lanes;
    double lanes[moi_accum_lanes] = {0}, total = 0;
    MOI_DISPATCH(moi_accum_square, (x, body, lanes));
    for (size_t i = body; i < n; i++) lanes[i - body] += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < moi_accum_lanes; i++) total += lanes[i];
    return total;
}

typedef struct moi_square_job {
    const float *x;
    size_t n;
    double *sums; /* [moi_accum_parts] */
} moi_square_job;

/* The sum has moi_accum_parts parts whatever the number of threads; a row is a part here. */
static void moi_accum_square_rows(const void *context, size_t begin, size_t end) {
    const moi_square_job *job = (const moi_square_job *)context;
    for (; begin < end; begin++) {
        size_t from, to;
        moi_part(job->n, moi_accum_lanes, (int)begin, moi_accum_parts, &from, &to);
        job->sums[begin] = moi_accum_squares(job->x + from, to - from);
    }
}

double mo_accum_square_sum(const float *grad, size_t n, const mo_parallel *parallel) {
    double sums[moi_accum_parts], total = 0;
    moi_square_job job = {grad, n, sums};
    mo_parallel_for(parallel, moi_accum_parts, 1, moi_accum_square_rows, &job);
    for (int i = 0; i < moi_accum_parts; i++) total += sums[i];
    return total;
}

double mo_accum_clip_scale(double norm, double max_norm) {
    double scale = max_norm / (norm + 1e-6);
    return scale > 0 && scale < 1 ? scale : 1; /* 1 for no limit, and for an infinite or NaN norm */
}

double mo_accum_clip(float *grad, size_t n, double max_norm, const mo_parallel *parallel) {
    const double norm = sqrt(mo_accum_square_sum(grad, n, parallel));
    const float scale = (float)mo_accum_clip_scale(norm, max_norm);
    const moi_accum_slice all = {NULL, grad, NULL, scale, n, 0, 0};
    if (scale < 1) moi_accum_run(moi_accum_is_multiply, all, NULL, parallel);
    return norm;
}

mo_status mo_percentile_clip_init(mo_percentile_clip *clip, uint32_t percentile) {
    if (!clip || percentile > 100) return MO_E_INVALID;
    memset(clip, 0, sizeof *clip);
    clip->percentile = percentile;
    return MO_OK;
}

/* number k of the history in ascending order */
static double moi_percentile_sorted(const mo_percentile_clip *clip, uint32_t k) {
    const double *x = clip->square_sums;
    for (int i = 0; i < MO_PERCENTILE_HISTORY; i++) {
        uint32_t less = 0, not_more = 0;
        for (int j = 0; j < MO_PERCENTILE_HISTORY; j++) {
            less += x[j] < x[i];
            not_more += x[j] <= x[i];
        }
        if (less <= k && k < not_more) return x[i];
    }
    return HUGE_VAL; /* a history with NaN, which update does not make */
}

double mo_percentile_clip_update(mo_percentile_clip *clip, double square_sum) {
    if (!(square_sum <= 1.7976931348623157e308)) return 1; /* also NaN */
    clip->step++;
    for (int i = 0; i < MO_PERCENTILE_HISTORY; i++)
        if (clip->step == 1 || clip->step % MO_PERCENTILE_HISTORY == (uint64_t)i)
            clip->square_sums[i] = square_sum;
    if (clip->percentile == 100) return 1;
    const double limit = moi_percentile_sorted(clip, clip->percentile);
    return square_sum > limit ? sqrt(limit) / sqrt(square_sum) : 1;
}

/* ---- loss scaling -------------------------------------------------------------------------- */

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
