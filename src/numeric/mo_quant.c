/* mo_quant.c - see mo_quant.h. The half-way points between values are so far apart that at most
 * one falls among the floats that share their upper 16 bits. A table over those bits therefore
 * finds the nearest code exactly, with one load and no search. */

#include "mo_quant_tables.inc"

enum { moi_q8_ahead_bytes = 4096 };

static const float moi_q8_lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#define MOI_ISA scalar
#include "mo_quant.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_quant.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_quant.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_quant.inc"
#undef MOI_ISA
#endif

const float *mo_quant8_table(mo_quant_map map) {
    static const float *const tables[MO_QUANT_MAP_COUNT] = {
        moi_q8_signed, moi_q8_unsigned, moi_q8_linear_signed, moi_q8_linear_unsigned};
    return (unsigned)map < MO_QUANT_MAP_COUNT ? tables[map] : NULL;
}

enum { moi_q8_stream_bytes = 8 << 20 }; /* an output of more would push all else out of the cache */

typedef struct moi_q8_job {
    size_t block, n;
    /* encode */
    moi_q8_coder *coder;
    const float *from;
    uint8_t *to;
    float *to_absmax;
    /* decode */
    const float *map, *absmax;
    const uint8_t *codes;
    float *x;
    int stream;
    uint16_t *half; /* instead of x */
    int brain;
} moi_q8_job;

static void moi_q8_encode_rows(const void *context, size_t begin, size_t end) {
    const moi_q8_job *job = (const moi_q8_job *)context;
    const size_t at = begin * job->block, n = moi_min(end * job->block, job->n) - at;
    MOI_DISPATCH(moi_q8_encode_blocks,
        (job->coder, job->block, job->from + at, n, job->to + at, job->to_absmax + begin));
}

static void moi_q8_decode_rows(const void *context, size_t begin, size_t end) {
    const moi_q8_job *job = (const moi_q8_job *)context;
    const size_t at = begin * job->block, n = moi_min(end * job->block, job->n) - at;
    const uint8_t *codes = job->codes + at;
    const float *absmax = job->absmax + begin;
    if (job->stream)
        MOI_DISPATCH(moi_q8_decode_stream, (job->map, job->block, codes, absmax, n, job->x + at));
    else MOI_DISPATCH(moi_q8_decode_blocks, (job->map, job->block, codes, absmax, n, job->x + at));
}

static mo_status moi_q8_job_begin(moi_q8_job *job, const mo_quant8_desc *desc, size_t n) {
    if ((unsigned)desc->map >= MO_QUANT_MAP_COUNT) return MO_E_INVALID;
    job->block = desc->block == 0 ? 256 : desc->block;
    if (!moi_is_pow2(job->block) || job->block < 64 || job->block > moi_q8_max_block)
        return MO_E_INVALID;
    job->n = n;
    return MO_OK;
}

mo_status mo_quant8_encode(
    const mo_quant8_desc *desc, const float *x, size_t n, uint8_t *codes, float *absmax) {
    moi_q8_coder coder;
    moi_q8_job job;
    if (!desc || !x || !codes || !absmax) return MO_E_INVALID;
    mo_status status = moi_q8_job_begin(&job, desc, n);
    if (status != MO_OK) return status;
    moi_q8_begin(&coder, desc->map, desc->no_zero);
    job.coder = &coder;
    job.from = x;
    job.to = codes;
    job.to_absmax = absmax;
    mo_parallel_for(desc->parallel, moi_ceil_div(n, job.block), 16, moi_q8_encode_rows, &job);
    return MO_OK;
}

/* A block at a time through floats in the first level cache. */
static void moi_q8_decode_half_rows(const void *context, size_t begin, size_t end) {
    const moi_q8_job *job = (const moi_q8_job *)context;
    float x[moi_q8_max_block];
    for (; begin < end; begin++) {
        const size_t at = begin * job->block, n = moi_min(job->block, job->n - at);
        const uint8_t *codes = job->codes + at;
        MOI_DISPATCH(
            moi_q8_decode_blocks, (job->map, job->block, codes, job->absmax + begin, n, x));
        if (job->brain) mo_f32_to_bf16(x, job->half + at, n, &moi_serial);
        else mo_f32_to_f16(x, job->half + at, n, &moi_serial);
    }
}

static mo_status moi_q8_decode_half(const mo_quant8_desc *desc, const uint8_t *codes,
    const float *absmax, size_t n, uint16_t *half, int brain) {
    moi_q8_job job;
    if (!desc || !half || !codes || !absmax) return MO_E_INVALID;
    mo_status status = moi_q8_job_begin(&job, desc, n);
    if (status != MO_OK) return status;
    job.map = mo_quant8_table(desc->map);
    job.codes = codes;
    job.absmax = absmax;
    job.half = half;
    job.brain = brain;
    mo_parallel_for(desc->parallel, moi_ceil_div(n, job.block), 16, moi_q8_decode_half_rows, &job);
    return MO_OK;
}

mo_status mo_quant8_decode_bf16(
    const mo_quant8_desc *desc, const uint8_t *codes, const float *absmax, size_t n, uint16_t *x) {
    return moi_q8_decode_half(desc, codes, absmax, n, x, 1);
}

mo_status mo_quant8_decode_f16(
    const mo_quant8_desc *desc, const uint8_t *codes, const float *absmax, size_t n, uint16_t *x) {
    return moi_q8_decode_half(desc, codes, absmax, n, x, 0);
}

mo_status mo_quant8_decode(
    const mo_quant8_desc *desc, const uint8_t *codes, const float *absmax, size_t n, float *x) {
    moi_q8_job job;
    if (!desc || !x || !codes || !absmax) return MO_E_INVALID;
    mo_status status = moi_q8_job_begin(&job, desc, n);
    if (status != MO_OK) return status;
    job.map = mo_quant8_table(desc->map);
    job.stream = n > moi_q8_stream_bytes / sizeof *x;
    job.codes = codes;
    job.absmax = absmax;
    job.x = x;
    mo_parallel_for(desc->parallel, moi_ceil_div(n, job.block), 16, moi_q8_decode_rows, &job);
    return MO_OK;
}
