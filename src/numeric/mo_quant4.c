/* mo_quant4.c - see mo_quant4.h. Tables of 16 numbers fit one or two registers, so codes are found
 * and decoded without a load. */

/* By code; bitsandbytes' constants to the bit. */
static const float moi_nf4_map[16] = {-1.0f, -0.696192801f, -0.525073051f, -0.394917488f,
    -0.284441382f, -0.18477343f, -0.0910500363f, 0.0f, 0.0795802996f, 0.160930201f, 0.246112302f,
    0.337915242f, 0.440709829f, 0.562617004f, 0.722956836f, 1.0f};
static const float moi_fp4_map[16] = {0.0f, 0.00520833349f, 0.666666687f, 1.0f, 0.333333343f, 0.5f,
    0.166666672f, 0.25f, -0.0f, -0.00520833349f, -0.666666687f, -1.0f, -0.333333343f, -0.5f,
    -0.166666672f, -0.25f};

/* What moi_out writes; streams need vectors that are aligned. */
enum {
    moi_out_f32 = 0,
    moi_out_f32_stream,
    moi_out_bf16,
    moi_out_bf16_stream,
    moi_out_f16,
    moi_out_f16_stream,
    moi_out_u16, /* the patterns in the low half of the bits */
    moi_out_u16_stream
};
/* the type without streaming, for single numbers */
MOI_ALWAYS_INLINE int moi_out_whole(int type) { return type & ~1; }

enum { moi_q4_ahead_bytes = 2048 }; /* how far encoding asks for what it reads */

#define MOI_ISA scalar
#include "mo_quant4.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_quant4.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_quant4.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_quant4.inc"
#undef MOI_ISA
#endif

const float *mo_quant4_table(mo_quant4_map map) {
    if (map == MO_QUANT_NF4) return moi_nf4_map;
    return map == MO_QUANT_FP4 ? moi_fp4_map : NULL;
}

/* Outputs from 8 MiB on are not in the cache when they are read again. */
static int moi_out_type(int type, const void *x, size_t bytes) {
    return bytes >= (size_t)8 << 20 && (uintptr_t)x % 64 == 0 ? type + 1 : type;
}

typedef struct moi_q4_job {
    int fp4, type;
    size_t block, n, first;
    const float *from; /* encode */
    uint8_t *to;
    float *to_absmax;
    const uint8_t *codes; /* decode */
    const float *absmax;
    void *x;
} moi_q4_job;

static mo_status moi_q4_job_begin(moi_q4_job *job, const mo_quant4_desc *desc, size_t n) {
    if (!mo_quant4_table(desc->map)) return MO_E_INVALID;
    memset(job, 0, sizeof *job);
    job->block = desc->block == 0 ? 64 : desc->block;
    if (!moi_is_pow2(job->block) || job->block < 32 || job->block > 4096) return MO_E_INVALID;
    job->fp4 = desc->map == MO_QUANT_FP4;
    job->n = n;
    return MO_OK;
}

static void moi_q4_encode_rows(const void *context, size_t begin, size_t end) {
    const moi_q4_job *job = (const moi_q4_job *)context;
    const size_t at = begin * job->block, n = moi_min(end * job->block, job->n) - at;
    MOI_DISPATCH(moi_q4_encode_blocks,
        (job->fp4, job->block, job->from + at, n, job->to + at / 2, job->to_absmax + begin));
}

mo_status mo_quant4_encode(
    const mo_quant4_desc *desc, const float *x, size_t n, uint8_t *codes, float *absmax) {
    moi_q4_job job;
    if (!desc || !x || !codes || !absmax) return MO_E_INVALID;
    const mo_status status = moi_q4_job_begin(&job, desc, n);
    if (status != MO_OK) return status;
    job.from = x;
    job.to = codes;
    job.to_absmax = absmax;
    mo_parallel_for(desc->parallel, moi_ceil_div(n, job.block), 64, moi_q4_encode_rows, &job);
    return MO_OK;
}

static void moi_q4_decode_rows(const void *context, size_t begin, size_t end) {
    const moi_q4_job *job = (const moi_q4_job *)context;
    const float *map = job->fp4 ? moi_fp4_map : moi_nf4_map;
    const size_t at = begin * job->block, n = moi_min(end * job->block, job->n) - at;
    unsigned char *x = (unsigned char *)job->x + at * (job->type < moi_out_bf16 ? 4 : 2);
    MOI_DISPATCH(moi_q4_decode_run,
        (job->type, map, job->codes, job->absmax, job->block, job->first + at, n, x));
}

static mo_status moi_q4_decode(const mo_quant4_desc *desc, const uint8_t *codes,
    const float *absmax, size_t first, size_t n, int type, void *x) {
    moi_q4_job job;
    if (!desc || !x || !codes || !absmax) return MO_E_INVALID;
    const mo_status status = moi_q4_job_begin(&job, desc, n);
    if (status != MO_OK) return status;
    job.codes = codes;
    job.absmax = absmax;
    job.first = first;
    job.x = x;
    job.type = type;
    if (first % 32 == 0) job.type = moi_out_type(type, x, n * (type < moi_out_bf16 ? 4 : 2));
    mo_parallel_for(desc->parallel, moi_ceil_div(n, job.block), 64, moi_q4_decode_rows, &job);
    return MO_OK;
}

mo_status mo_quant4_decode(const mo_quant4_desc *desc, const uint8_t *codes, const float *absmax,
    size_t first, size_t n, float *x) {
    return moi_q4_decode(desc, codes, absmax, first, n, moi_out_f32, x);
}
mo_status mo_quant4_decode_bf16(const mo_quant4_desc *desc, const uint8_t *codes,
    const float *absmax, size_t first, size_t n, uint16_t *x) {
    return moi_q4_decode(desc, codes, absmax, first, n, moi_out_bf16, x);
}
mo_status mo_quant4_decode_f16(const mo_quant4_desc *desc, const uint8_t *codes,
    const float *absmax, size_t first, size_t n, uint16_t *x) {
    return moi_q4_decode(desc, codes, absmax, first, n, moi_out_f16, x);
}

/* ---- scales of scales ---------------------------------------------------------------------- */

enum { moi_nested_block = 256 };

static mo_quant8_desc moi_nested_desc(void) {
    mo_quant8_desc d;
    memset(&d, 0, sizeof d);
    d.map = MO_QUANT_SIGNED;
    d.block = moi_nested_block;
    return d;
}

mo_status mo_quant_nested_encode(
    const float *absmax, size_t n, uint8_t *codes, float *absmax2, float *offset) {
    const mo_quant8_desc desc = moi_nested_desc();
    float part[8 * moi_nested_block]; /* the differences of some blocks */
    double sum = 0;
    if (!absmax || !codes || !absmax2 || !offset) return MO_E_INVALID;
    for (size_t i = 0; i < n; i++) sum += (double)absmax[i];
    const float mean = n == 0 ? 0.0f : (float)(sum / (double)n);
    for (size_t i = 0; i < n; i += 8 * moi_nested_block) {
        const size_t numbers = moi_min(n - i, 8 * moi_nested_block);
        for (size_t k = 0; k < numbers; k++) part[k] = absmax[i + k] - mean;
        const mo_status status =
            mo_quant8_encode(&desc, part, numbers, codes + i, absmax2 + i / moi_nested_block);
        if (status != MO_OK) return status;
    }
    *offset = mean;
    return MO_OK;
}

mo_status mo_quant_nested_decode(
    const uint8_t *codes, const float *absmax2, float offset, size_t n, float *absmax) {
    const mo_quant8_desc desc = moi_nested_desc();
    if (!codes || !absmax2 || !absmax) return MO_E_INVALID;
    const mo_status status = mo_quant8_decode(&desc, codes, absmax2, n, absmax);
    if (status != MO_OK) return status;
    for (size_t i = 0; i < n; i++) absmax[i] += offset;
    return MO_OK;
}
