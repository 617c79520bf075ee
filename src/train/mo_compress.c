/* mo_compress.c - see mo_compress.h. A code is found in fixed point: the number in 2^-22 or 2^-26
 * of a step, plus as many random bits, and what is left of the point. */

typedef struct moi_compress_range {
    float low, step;
} moi_compress_range;

typedef struct moi_compress_job {
    int bits;
    size_t block, n;
    uint64_t seed;
    const float *from; /* encode */
    float *x;          /* decode */
    moi_compress_range *ranges;
    uint8_t *codes;
} moi_compress_job;

enum { moi_compress_ahead_bytes = 2048 };

/* Limits: below 2^-70 a device that flushes subnormal numbers would find other codes. */
static moi_compress_range moi_compress_range_of(int bits, float low, float high, float most) {
    const float span = high - low;
    moi_compress_range range = {low, 0.0f};
    if (!(most < HUGE_VALF && span < HUGE_VALF)) range.low = moi_bits_float(0x7fc00000);
    else if (span >= 8.470329473e-22f)
        range.step = span * (bits == 8 ? 0.00392156886f : 0.0666666701f);
    if ((moi_float_bits(range.low) & 0x7fffffff) < 0x00800000) range.low = 0.0f;
    return range;
}

#define MOI_ISA scalar
#include "mo_compress.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_compress.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_compress.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_compress.inc"
#undef MOI_ISA
#endif

static int moi_compress_begin(moi_compress_job *job, const mo_compress_desc *desc, size_t n) {
    if (!desc) return 0;
    memset(job, 0, sizeof *job);
    job->bits = desc->bits == 0 ? 8 : desc->bits;
    if (job->bits != 8 && job->bits != 4) return 0;
    job->block = desc->block;
    if (job->block == 0) job->block = job->bits == 8 ? 256 : 64;
    job->seed = desc->seed;
    job->n = n;
    return moi_is_pow2(job->block) && job->block >= 64 && job->block <= 256;
}

size_t mo_compress_size(const mo_compress_desc *desc, size_t n) {
    moi_compress_job job;
    size_t size;
    if (!moi_compress_begin(&job, desc, n)) return 0;
    const size_t codes = job.bits == 8 ? n : moi_ceil_div(n, 2);
    if (!moi_mul(moi_ceil_div(n, job.block), sizeof *job.ranges, &size)) return 0;
    return moi_add(size, codes, &size) ? size : 0;
}

static mo_status moi_compress_bind(
    moi_compress_job *job, const mo_compress_desc *desc, size_t n, const void *codes) {
    if (!codes || !moi_compress_begin(job, desc, n)) return MO_E_INVALID;
    job->ranges = (moi_compress_range *)(uintptr_t)codes;
    job->codes = (uint8_t *)(job->ranges + moi_ceil_div(n, job->block));
    return MO_OK;
}

static void moi_compress_encode_rows(const void *context, size_t begin, size_t end) {
    const moi_compress_job *job = (const moi_compress_job *)context;
    const size_t at = begin * job->block, n = moi_min(end * job->block, job->n) - at;
    uint8_t *codes = job->codes + (job->bits == 8 ? at : at / 2);
    MOI_DISPATCH(
        moi_compress_encode_blocks, (job, at, job->from + at, n, job->ranges + begin, codes));
}

static void moi_compress_decode_rows(const void *context, size_t begin, size_t end) {
    const moi_compress_job *job = (const moi_compress_job *)context;
    const size_t at = begin * job->block, n = moi_min(end * job->block, job->n) - at;
    const uint8_t *codes = job->codes + (job->bits == 8 ? at : at / 2);
    MOI_DISPATCH(moi_compress_decode_blocks, (job, job->ranges + begin, codes, n, job->x + at));
}

mo_status mo_compress_encode(const mo_compress_desc *desc, const float *x, size_t n, void *codes) {
    moi_compress_job job;
    if (!x) return MO_E_INVALID;
    const mo_status status = moi_compress_bind(&job, desc, n, codes);
    if (status != MO_OK) return status;
    job.from = x;
    mo_parallel_for(desc->parallel, moi_ceil_div(n, job.block), 16, moi_compress_encode_rows, &job);
    return MO_OK;
}

mo_status mo_compress_decode(const mo_compress_desc *desc, const void *codes, size_t n, float *x) {
    moi_compress_job job;
    if (!x) return MO_E_INVALID;
    const mo_status status = moi_compress_bind(&job, desc, n, codes);
    if (status != MO_OK) return status;
    job.x = x;
    mo_parallel_for(desc->parallel, moi_ceil_div(n, job.block), 16, moi_compress_decode_rows, &job);
    return MO_OK;
}
