/* mo_mask.c - see mo_mask.h. All of it is y = decided ? high x : low x. */

typedef enum moi_mask_by { moi_mask_by_sign, moi_mask_by_bits, moi_mask_by_seed } moi_mask_by;

typedef struct moi_mask_job {
    moi_mask_by by;
    const float *sign, *x;
    const uint32_t *mask;
    uint64_t seed;
    uint32_t key, below; /* of random numbers of 24 bits */
    float high, low;
    int zero; /* low is 0, also of infinity and NaN */
    float *y;
    uint32_t *to; /* the mask that is written; NULL = none */
    size_t n;
} moi_mask_job;

/* bit of each lane */
static const uint32_t moi_mask_lanes[16] = {
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};

#define MOI_ISA scalar
#include "mo_mask.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_mask.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_mask.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_mask.inc"
#undef MOI_ISA
#endif

static int moi_mask_keeps(const moi_mask_job *job, size_t i) {
    if (job->by == moi_mask_by_sign) return job->sign[i] > 0;
    if (job->by == moi_mask_by_bits) return (int)(job->mask[i / 32] >> i % 32 & 1);
    return moi_random_mix((uint32_t)i ^ job->key) >> 8 >= job->below;
}

/* The last word, where it is not whole. */
static void moi_mask_rest(const moi_mask_job *job) {
    uint32_t word = 0;
    for (size_t i = job->n / 32 * 32; i < job->n; i++) {
        const int kept = moi_mask_keeps(job, i);
        const float below = job->zero ? 0.0f : job->x[i] * job->low;
        job->y[i] = kept ? job->x[i] * job->high : below;
        word |= (uint32_t)kept << i % 32;
    }
    if (job->to) job->to[job->n / 32] = word;
}

enum { moi_mask_key_words = 1 << 27 }; /* those of the numbers that share a key */

static void moi_mask_words_of(const void *context, size_t begin, size_t end) {
    moi_mask_job job = *(const moi_mask_job *)context;
    for (size_t next; begin < end; begin = next) {
        next = moi_min(end, (begin / moi_mask_key_words + 1) * moi_mask_key_words);
        job.key = moi_random_key(job.seed, begin / moi_mask_key_words);
        const size_t whole = moi_min(next, job.n / 32);
        if (begin < whole) MOI_DISPATCH(moi_mask_run, (&job, begin, whole));
        if (whole < next) moi_mask_rest(&job);
    }
}

size_t mo_mask_words(size_t n) { return moi_ceil_div(n, 32); }

static void moi_mask_start(
    moi_mask_job *job, const float *x, float *y, size_t n, const mo_parallel *parallel) {
    job->x = x;
    job->y = y;
    job->n = n;
    job->zero = job->low == 0.0f;
    mo_parallel_for(parallel, mo_mask_words(n), 128, moi_mask_words_of, job);
}

/* ---- ReLU ---------------------------------------------------------------------------------- */

static mo_status moi_relu(const float *sign, const uint32_t *mask, const float *x, float slope,
    uint32_t *to, float *y, size_t n, const mo_parallel *parallel) {
    moi_mask_job job;
    if ((!sign && !mask) || !x || !y || !(slope >= 0)) return MO_E_INVALID;
    memset(&job, 0, sizeof job);
    job.by = mask ? moi_mask_by_bits : moi_mask_by_sign;
    job.sign = sign;
    job.mask = mask;
    job.high = 1.0f;
    job.low = slope;
    job.to = to;
    moi_mask_start(&job, x, y, n, parallel);
    return MO_OK;
}

mo_status mo_relu_forward(
    const float *x, float slope, uint32_t *mask, float *y, size_t n, const mo_parallel *parallel) {
    return moi_relu(x, NULL, x, slope, mask, y, n, parallel);
}

mo_status mo_relu_backward(const uint32_t *mask, const float *dy, float slope, float *dx, size_t n,
    const mo_parallel *parallel) {
    return moi_relu(NULL, mask, dy, slope, NULL, dx, n, parallel);
}

mo_status mo_relu_backward_output(const float *y, const float *dy, float slope, float *dx, size_t n,
    const mo_parallel *parallel) {
    return moi_relu(y, NULL, dy, slope, NULL, dx, n, parallel);
}

/* ---- dropout ------------------------------------------------------------------------------- */

static mo_status moi_dropout(const mo_dropout_desc *desc, const uint32_t *mask, const float *x,
    uint32_t *to, float *y, size_t n) {
    moi_mask_job job;
    if (!desc || !x || !y || !(desc->p >= 0 && desc->p < 1)) return MO_E_INVALID;
    memset(&job, 0, sizeof job);
    job.by = mask ? moi_mask_by_bits : moi_mask_by_seed;
    job.mask = mask;
    job.seed = desc->seed;
    job.below = (uint32_t)(desc->p * 16777216.0f);
    job.high = 1.0f / (1.0f - desc->p);
    job.to = to;
    moi_mask_start(&job, x, y, n, desc->parallel);
    return MO_OK;
}

mo_status mo_dropout_forward(
    const mo_dropout_desc *desc, const float *x, uint32_t *mask, float *y, size_t n) {
    return moi_dropout(desc, NULL, x, mask, y, n);
}

mo_status mo_dropout_backward(
    const mo_dropout_desc *desc, const uint32_t *mask, const float *dy, float *dx, size_t n) {
    return moi_dropout(desc, mask, dy, NULL, dx, n);
}
