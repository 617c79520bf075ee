/* mo_quant.c - see mo_quant.h. The nearest code is found by arithmetic and then put right by the
 * two thresholds around it, which is exact and needs two loads instead of a search. */

#include "mo_quant_tables.inc"

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
    if (map == MO_QUANT_SIGNED) return moi_q8_signed;
    return map == MO_QUANT_UNSIGNED ? moi_q8_unsigned : NULL;
}

/* the largest float below x; x is not 0 */
static float moi_q8_before(float x) {
    uint32_t bits = moi_float_bits(x);
    return moi_bits_float(x > 0.0f ? bits - 1 : bits + 1);
}

static void moi_q8_begin(moi_q8_coder *coder, mo_quant_map map, int no_zero) {
    const float *values = mo_quant8_table(map);
    coder->map = values;
    coder->is_signed = map == MO_QUANT_SIGNED;
    coder->zero = coder->is_signed ? 127 : 0;
    coder->no_zero = no_zero != 0;
    coder->threshold[0] = -HUGE_VALF;
    coder->threshold[256] = HUGE_VALF;
    for (int i = 0; i < 255; i++) {
        float half_way = (values[i] + values[i + 1]) * 0.5f;
        coder->threshold[i + 1] = i % 2 == 0 ? half_way : moi_q8_before(half_way);
    }
}

typedef struct moi_q8_job {
    moi_q8_coder coder;
    size_t block, n;
    const float *from; /* encode */
    uint8_t *to;
    float *to_absmax;
    const uint8_t *codes; /* decode */
    const float *absmax;
    float *x;
} moi_q8_job;

static void moi_q8_encode_rows(const void *context, size_t begin, size_t end) {
    const moi_q8_job *job = (const moi_q8_job *)context;
    const size_t at = begin * job->block, n = moi_min(end * job->block, job->n) - at;
    MOI_DISPATCH(moi_q8_encode_blocks,
        (&job->coder, job->block, job->from + at, n, job->to + at, job->to_absmax + begin));
}

static void moi_q8_decode_rows(const void *context, size_t begin, size_t end) {
    const moi_q8_job *job = (const moi_q8_job *)context;
    const size_t at = begin * job->block, n = moi_min(end * job->block, job->n) - at;
    MOI_DISPATCH(moi_q8_decode_blocks,
        (&job->coder, job->block, job->codes + at, job->absmax + begin, n, job->x + at));
}

static mo_status moi_q8_job_begin(moi_q8_job *job, const mo_quant8_desc *desc, size_t n) {
    if ((unsigned)desc->map >= MO_QUANT_MAP_COUNT) return MO_E_INVALID;
    job->block = desc->block == 0 ? 256 : desc->block;
    if (!moi_is_pow2(job->block) || job->block < 64 || job->block > moi_q8_max_block)
        return MO_E_INVALID;
    job->n = n;
    moi_q8_begin(&job->coder, desc->map, desc->no_zero);
    return MO_OK;
}

mo_status mo_quant8_encode(
    const mo_quant8_desc *desc, const float *x, size_t n, uint8_t *codes, float *absmax) {
    moi_q8_job job;
    if (!desc || !x || !codes || !absmax) return MO_E_INVALID;
    mo_status status = moi_q8_job_begin(&job, desc, n);
    if (status != MO_OK) return status;
    job.from = x;
    job.to = codes;
    job.to_absmax = absmax;
    moi_for_rows(desc->parallel, moi_ceil_div(n, job.block), 16, moi_q8_encode_rows, &job);
    return MO_OK;
}

mo_status mo_quant8_decode(
    const mo_quant8_desc *desc, const uint8_t *codes, const float *absmax, size_t n, float *x) {
    moi_q8_job job;
    if (!desc || !x || !codes || !absmax) return MO_E_INVALID;
    mo_status status = moi_q8_job_begin(&job, desc, n);
    if (status != MO_OK) return status;
    job.codes = codes;
    job.absmax = absmax;
    job.x = x;
    moi_for_rows(desc->parallel, moi_ceil_div(n, job.block), 16, moi_q8_decode_rows, &job);
    return MO_OK;
}
