/* mo_int8.c - see mo_int8.h. An outlier is a number whose bits without the sign reach those of the
 * threshold: integers, so that NaN is one too. */

enum { moi_i8_ahead_bytes = 2048 }; /* how far both directions ask for what they read */

#define MOI_ISA scalar
#include "mo_int8.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_int8.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_int8.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_int8.inc"
#undef MOI_ISA
#endif

typedef struct moi_i8_job {
    size_t columns;
    uint32_t limit;
    const float *from; /* encode */
    int8_t *to;
    float *to_absmax;
    const int8_t *codes; /* decode */
    const float *absmax;
    unsigned char *x;
    int type;
    size_t width;
} moi_i8_job;

static mo_status moi_i8_job_begin(moi_i8_job *job, const mo_int8_desc *desc) {
    const uint64_t most = 0xffffffffu;
    size_t n;
    memset(job, 0, sizeof *job);
    if (desc->rows > most || desc->columns > most || !(desc->threshold >= 0.0f) ||
        !moi_mul(desc->rows, desc->columns, &n) || n > SIZE_MAX / sizeof(float))
        return MO_E_INVALID;
    job->columns = desc->columns;
    /* -0 is 0; without a threshold no bits reach the limit */
    job->limit = desc->threshold > 0.0f ? moi_float_bits(desc->threshold) : 0x7fffffffu;
    return MO_OK;
}

/* ---- outliers ------------------------------------------------------------------------------ */

/* How many there are; those that fit go to the list. */
static size_t moi_i8_collect(
    const mo_int8_desc *desc, const float *x, mo_int8_outlier *list, size_t capacity) {
    const uint32_t limit = moi_float_bits(desc->threshold);
    size_t n = 0;
    for (size_t row = 0; row < desc->rows; row++, x += desc->columns) {
        int has = 0;
        MOI_DISPATCH(moi_i8_has_outlier, (x, desc->columns, limit, &has));
        for (size_t column = 0; has && column < desc->columns; column++) {
            if ((moi_float_bits(x[column]) & 0x7fffffff) < limit) continue;
            if (n < capacity) {
                list[n].row = (uint32_t)row;
                list[n].column = (uint32_t)column;
                list[n].value = x[column];
            }
            n++;
        }
    }
    return n;
}

mo_status mo_int8_outlier_count(const mo_int8_desc *desc, const float *x, size_t *n) {
    moi_i8_job job;
    if (!desc || !x || !n) return MO_E_INVALID;
    const mo_status status = moi_i8_job_begin(&job, desc);
    if (status != MO_OK) return status;
    *n = desc->threshold > 0.0f ? moi_i8_collect(desc, x, NULL, 0) : 0;
    return MO_OK;
}

/* ---- encode -------------------------------------------------------------------------------- */

static void moi_i8_encode_rows(const void *context, size_t begin, size_t end) {
    const moi_i8_job *job = (const moi_i8_job *)context;
    for (size_t row = begin; row < end; row++) {
        const size_t at = row * job->columns;
        MOI_DISPATCH(moi_i8_encode_row,
            (job->from + at, job->columns, job->limit, job->to + at, job->to_absmax + row));
    }
}

mo_status mo_int8_encode(const mo_int8_desc *desc, const float *x, int8_t *codes, float *absmax,
    mo_int8_outliers *outliers) {
    moi_i8_job job;
    if (!desc || !x || !codes || !absmax) return MO_E_INVALID;
    const mo_status status = moi_i8_job_begin(&job, desc);
    if (status != MO_OK) return status;
    if (desc->threshold > 0.0f) {
        if (!outliers || (!outliers->list && outliers->capacity != 0)) return MO_E_INVALID;
        if (moi_i8_collect(desc, x, NULL, 0) > outliers->capacity) return MO_E_NO_SPACE;
        outliers->n = moi_i8_collect(desc, x, outliers->list, outliers->capacity);
    } else if (outliers) outliers->n = 0;
    job.from = x;
    job.to = codes;
    job.to_absmax = absmax;
    mo_parallel_for(desc->parallel, desc->rows, 1, moi_i8_encode_rows, &job);
    return MO_OK;
}

/* ---- decode -------------------------------------------------------------------------------- */

static float moi_i8_scale(float absmax) { return absmax / 127.0f; }

static void moi_i8_decode_rows(const void *context, size_t begin, size_t end) {
    const moi_i8_job *job = (const moi_i8_job *)context;
    for (size_t row = begin; row < end; row++) {
        const size_t at = row * job->columns;
        MOI_DISPATCH(moi_i8_decode_run,
            (job->type, job->codes + at, job->columns, moi_i8_scale(job->absmax[row]),
                job->x + at * job->width));
    }
}

static int moi_i8_outside(const mo_int8_desc *desc, const mo_int8_outliers *outliers) {
    for (size_t i = 0; i < outliers->n; i++)
        if (outliers->list[i].row >= desc->rows || outliers->list[i].column >= desc->columns)
            return 1;
    return 0;
}

static mo_status moi_i8_decode(const mo_int8_desc *desc, const int8_t *codes, const float *absmax,
    const mo_int8_outliers *outliers, int type, void *x) {
    moi_i8_job job;
    if (!desc || !x || !codes || !absmax) return MO_E_INVALID;
    const mo_status status = moi_i8_job_begin(&job, desc);
    if (status != MO_OK) return status;
    if (outliers && outliers->n != 0 && (!outliers->list || moi_i8_outside(desc, outliers)))
        return MO_E_INVALID;
    job.codes = codes;
    job.absmax = absmax;
    job.x = (unsigned char *)x;
    job.width = type == moi_out_f32 ? 4 : 2;
    job.type = type;
    if (desc->columns % 32 == 0) /* every row is aligned then */
        job.type = moi_out_type(type, x, desc->rows * desc->columns * job.width);
    mo_parallel_for(desc->parallel, desc->rows, 1, moi_i8_decode_rows, &job);
    for (size_t i = 0; outliers && i < outliers->n; i++) {
        const mo_int8_outlier *o = outliers->list + i;
        moi_out_scalar(type, x, o->row * desc->columns + o->column, o->value);
    }
    return MO_OK;
}

mo_status mo_int8_decode(const mo_int8_desc *desc, const int8_t *codes, const float *absmax,
    const mo_int8_outliers *outliers, float *x) {
    return moi_i8_decode(desc, codes, absmax, outliers, moi_out_f32, x);
}
mo_status mo_int8_decode_bf16(const mo_int8_desc *desc, const int8_t *codes, const float *absmax,
    const mo_int8_outliers *outliers, uint16_t *x) {
    return moi_i8_decode(desc, codes, absmax, outliers, moi_out_bf16, x);
}
mo_status mo_int8_decode_f16(const mo_int8_desc *desc, const int8_t *codes, const float *absmax,
    const mo_int8_outliers *outliers, uint16_t *x) {
    return moi_i8_decode(desc, codes, absmax, outliers, moi_out_f16, x);
}
