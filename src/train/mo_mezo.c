/* mo_mezo.c - see mo_mezo.h. */

#define MOI_ISA scalar
#include "mo_mezo.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_mezo.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_mezo.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_mezo.inc"
#undef MOI_ISA
#endif

mo_mezo_desc mo_mezo_desc_defaults(const mo_mezo_desc *desc) {
    mo_mezo_desc d = *desc;
    if (d.epsilon == 0) d.epsilon = 1e-3;
    return d;
}

typedef struct moi_mezo_job {
    moi_mezo_factors factors;
    uint64_t seed, offset;
    const float *x;
    float *y;
} moi_mezo_job;

/* In pieces whose indices have one upper half. */
static void moi_mezo_rows(const void *context, size_t begin, size_t end) {
    const moi_mezo_job *job = (const moi_mezo_job *)context;
    while (begin < end) {
        const uint64_t index = job->offset + begin, left = 0x100000000u - (index & 0xffffffffu);
        const size_t n = left < end - begin ? (size_t)left : end - begin;
        uint32_t key[moi_mezo_hashes];
        for (uint32_t k = 0; k < moi_mezo_hashes; k++)
            key[k] = moi_random_key(job->seed + k, index >> 32);
        MOI_DISPATCH(
            moi_mezo_row, (&job->factors, (uint32_t)index, key, job->x + begin, job->y + begin, n));
        begin += n;
    }
}

mo_status mo_mezo_perturb(
    const mo_mezo_desc *desc, uint64_t t, double times, const float *x, float *y, size_t n) {
    moi_mezo_job job;
    memset(&job, 0, sizeof job);
    const mo_status status = moi_mezo_perturbation(desc, t, times, &job.factors, &job.seed);
    if (status != MO_OK || !x || !y) return MO_E_INVALID;
    job.offset = desc->offset;
    job.x = x;
    job.y = y;
    mo_parallel_for(desc->parallel, n, 4096, moi_mezo_rows, &job);
    return MO_OK;
}

double mo_mezo_gradient(const mo_mezo_desc *desc, double plus, double minus) {
    return (plus - minus) / (2 * mo_mezo_desc_defaults(desc).epsilon);
}

mo_status mo_mezo_step(const mo_mezo_desc *desc, uint64_t t, double gradient, float *x, size_t n) {
    moi_mezo_job job;
    int moves = 0;
    memset(&job, 0, sizeof job);
    const mo_status status = moi_mezo_update(desc, t, gradient, &job.factors, &job.seed, &moves);
    if (status != MO_OK) return status;
    if (!x) return MO_E_INVALID;
    if (!moves) return MO_OK;
    job.offset = desc->offset;
    job.x = job.y = x;
    mo_parallel_for(desc->parallel, n, 4096, moi_mezo_rows, &job);
    return MO_OK;
}
