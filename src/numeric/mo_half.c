/* mo_half.c - see mo_half.h. vcvtneps2bf16 is not used: it flushes subnormal inputs to zero. */

typedef struct moi_half_shape {
    int width, mantissa; /* bits; mantissa: those stored */
    int least;           /* exponent of the least normal number */
    uint32_t last, nan;  /* patterns without sign: the largest finite one, a quiet NaN */
    float most, over;    /* the number of last, and the one that would follow: infinity, or NaN */
} moi_half_shape;

static const moi_half_shape moi_half_shapes[MO_HALF_FORMAT_COUNT] = {
    {16, 10, -14, 0x7bff, 0x7e00, 65504.0f, 65536.0f},
    {16, 7, -126, 0x7f7f, 0x7fc0, 3.3895313892515355e38f, HUGE_VALF},
    {8, 3, -6, 0x7e, 0x7f, 448.0f, 480.0f},
    {8, 2, -14, 0x7b, 0x7e, 57344.0f, 65536.0f},
};

/* 2^exponent, a normal number */
MOI_ALWAYS_INLINE float moi_half_power(int exponent) {
    return moi_bits_float((uint32_t)(exponent + 127) << 23);
}

/* What one kernel call converts. */
typedef struct moi_half_slice {
    const void *x;
    void *y;
    size_t n;
    mo_half_format format;
    int stochastic, saturate; /* 0, 1 */
    int stream;               /* y is aligned to a cache line and goes past the caches */
    uint32_t key, first;      /* number i has the random bits of index first + i under key */
} moi_half_slice;

/* The loops over fp32 ask for memory ahead: the arithmetic of the lines in between leaves the CPU
 * too few loads in flight. The gain, 15 %, is level from 1 KiB on. */
enum { moi_half_ahead_bytes = 1024 };

#define MOI_ISA scalar
#include "mo_random.inc"
#include "mo_half.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_random.inc"
#include "mo_half.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_random.inc"
#include "mo_half.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_random.inc"
#include "mo_half.inc"
#undef MOI_ISA
#endif

/* From this size on an output goes past the caches: it would not stay in the second level cache of
 * any CPU, and a line that is written whole need not be read first. A smaller one is likely to be
 * read again while it is still there. */
enum { moi_half_stream_bytes = 8 << 20 };

typedef struct moi_half_job {
    moi_half_slice all; /* key and first are set for each slice */
    int decode;
    size_t x_bytes, y_bytes; /* of an element */
    uint64_t seed, offset;
} moi_half_job;

static moi_half_slice moi_half_cut(const moi_half_job *job, size_t begin, size_t n) {
    const uint64_t index = job->offset + begin;
    moi_half_slice s = job->all;
    s.x = (const char *)s.x + begin * job->x_bytes;
    s.y = (char *)s.y + begin * job->y_bytes;
    s.n = n;
    s.key = moi_random_key(job->seed, index >> 32);
    s.first = (uint32_t)index;
    return s;
}

static void moi_half_scalar(const moi_half_job *job, size_t begin, size_t n) {
    moi_half_slice s = moi_half_cut(job, begin, n);
    s.stream = 0;
    if (job->decode) moi_half_decode_scalar(&s);
    else moi_half_encode_scalar(&s);
}

/* Whole vectors by the kernel for this CPU, the ends by the scalar one. */
static void moi_half_piece(const moi_half_job *job, size_t begin, size_t n) {
    const uintptr_t y = (uintptr_t)job->all.y + begin * job->y_bytes;
    size_t head = 0;
    if (job->all.stream) head = moi_min(n, (0 - y) % MOI_CACHE_LINE / job->y_bytes);
    const size_t body = (n - head) / 16 * 16;
    moi_half_scalar(job, begin, head);
    moi_half_slice s = moi_half_cut(job, begin + head, body);
    if (job->decode) MOI_DISPATCH(moi_half_decode, (&s));
    else MOI_DISPATCH(moi_half_encode, (&s));
    moi_half_scalar(job, begin + head + body, n - head - body);
}

static void moi_half_range(const void *context, size_t begin, size_t end) {
    const moi_half_job *job = (const moi_half_job *)context;
    while (begin < end) { /* the indices of a piece share their high half, and so the key */
        const uint64_t left = (UINT64_C(1) << 32) - (uint32_t)(job->offset + begin);
        const size_t n = left < end - begin ? (size_t)left : end - begin;
        moi_half_piece(job, begin, n);
        begin += n;
    }
}

static void moi_half_run(const mo_half_desc *desc, int decode, const void *x, size_t n, void *y) {
    const size_t bytes = mo_half_bytes(desc->format);
    moi_half_job job;
    memset(&job, 0, sizeof job);
    job.all.x = x;
    job.all.y = y;
    job.all.n = n;
    job.all.format = desc->format;
    job.all.stochastic = desc->stochastic != 0;
    job.all.saturate = desc->saturate != 0;
    job.decode = decode;
    job.x_bytes = decode ? bytes : sizeof(float);
    job.y_bytes = decode ? sizeof(float) : bytes;
    job.all.stream = n >= moi_half_stream_bytes / job.y_bytes;
    job.seed = desc->seed;
    job.offset = desc->offset;
    mo_parallel_for(desc->parallel, n, 16384, moi_half_range, &job);
}

size_t mo_half_bytes(mo_half_format format) {
    if ((unsigned)format >= MO_HALF_FORMAT_COUNT) return 0;
    return (size_t)moi_half_shapes[format].width / 8;
}

mo_status mo_half_encode(const mo_half_desc *desc, const float *x, size_t n, void *y) {
    if (!desc || !x || !y || mo_half_bytes(desc->format) == 0) return MO_E_INVALID;
    moi_half_run(desc, 0, x, n, y);
    return MO_OK;
}

mo_status mo_half_decode(const mo_half_desc *desc, const void *x, size_t n, float *y) {
    if (!desc || !x || !y || mo_half_bytes(desc->format) == 0) return MO_E_INVALID;
    moi_half_run(desc, 1, x, n, y);
    return MO_OK;
}

static mo_half_desc moi_half_plain(mo_half_format format, const mo_parallel *parallel) {
    mo_half_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.format = format;
    desc.parallel = parallel;
    return desc;
}

void mo_f32_to_f16(const float *x, uint16_t *y, size_t n, const mo_parallel *parallel) {
    const mo_half_desc desc = moi_half_plain(MO_HALF_F16, parallel);
    moi_half_run(&desc, 0, x, n, y);
}

void mo_f32_to_bf16(const float *x, uint16_t *y, size_t n, const mo_parallel *parallel) {
    const mo_half_desc desc = moi_half_plain(MO_HALF_BF16, parallel);
    moi_half_run(&desc, 0, x, n, y);
}

void mo_f16_to_f32(const uint16_t *x, float *y, size_t n, const mo_parallel *parallel) {
    const mo_half_desc desc = moi_half_plain(MO_HALF_F16, parallel);
    moi_half_run(&desc, 1, x, n, y);
}

void mo_bf16_to_f32(const uint16_t *x, float *y, size_t n, const mo_parallel *parallel) {
    const mo_half_desc desc = moi_half_plain(MO_HALF_BF16, parallel);
    moi_half_run(&desc, 1, x, n, y);
}
