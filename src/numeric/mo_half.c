/* mo_half.c - see mo_half.h. vcvtneps2bf16 is not used: it flushes subnormal inputs to zero. */

#define MOI_ISA scalar
#include "mo_half.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_half.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_half.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_half.inc"
#undef MOI_ISA
#endif

typedef struct moi_half_job {
    int from_half, brain; /* direction; bf16 or fp16 */
    const void *x;
    void *y;
    size_t n;
    int n_parts;
} moi_half_job;

static void moi_half_task(void *context, int i) {
    const moi_half_job *job = (const moi_half_job *)context;
    size_t begin, end;
    moi_part(job->n, 1024, i, job->n_parts, &begin, &end);
    size_t n = end - begin;
    if (job->from_half) {
        const uint16_t *x = (const uint16_t *)job->x + begin;
        float *y = (float *)job->y + begin;
        if (job->brain) MOI_DISPATCH(moi_bf16_to_f32, (x, y, n));
        else MOI_DISPATCH(moi_f16_to_f32, (x, y, n));
    } else {
        const float *x = (const float *)job->x + begin;
        uint16_t *y = (uint16_t *)job->y + begin;
        if (job->brain) MOI_DISPATCH(moi_f32_to_bf16, (x, y, n));
        else MOI_DISPATCH(moi_f32_to_f16, (x, y, n));
    }
}

static void moi_half_run(moi_half_job job, const mo_parallel *parallel) {
    job.n_parts = (int)moi_min((size_t)mo_parallel_threads(parallel), moi_ceil_div(job.n, 16384));
    mo_parallel_run(parallel, job.n_parts, moi_half_task, &job);
}

void mo_f32_to_f16(const float *x, uint16_t *y, size_t n, const mo_parallel *parallel) {
    moi_half_job job = {0, 0, x, y, n, 0};
    moi_half_run(job, parallel);
}

void mo_f32_to_bf16(const float *x, uint16_t *y, size_t n, const mo_parallel *parallel) {
    moi_half_job job = {0, 1, x, y, n, 0};
    moi_half_run(job, parallel);
}

void mo_f16_to_f32(const uint16_t *x, float *y, size_t n, const mo_parallel *parallel) {
    moi_half_job job = {1, 0, x, y, n, 0};
    moi_half_run(job, parallel);
}

void mo_bf16_to_f32(const uint16_t *x, float *y, size_t n, const mo_parallel *parallel) {
    moi_half_job job = {1, 1, x, y, n, 0};
    moi_half_run(job, parallel);
}
