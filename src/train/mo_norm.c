/* mo_norm.c - see mo_norm.h. */

#define MOI_ISA scalar
#include "mo_norm.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_norm.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_norm.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_norm.inc"
#undef MOI_ISA
#endif

typedef struct moi_norm_job {
    mo_layernorm_desc desc;
    int stats;
    const float *x, *dy;
    float *out; /* y or dx */
} moi_norm_job;

static void moi_norm_forward_rows(const void *context, size_t begin, size_t end) {
    const moi_norm_job *job = (const moi_norm_job *)context;
    MOI_DISPATCH(moi_norm_forward, (&job->desc, job->stats, job->x, job->out, begin, end));
}

static void moi_norm_restore_rows(const void *context, size_t begin, size_t end) {
    const moi_norm_job *job = (const moi_norm_job *)context;
    MOI_DISPATCH(moi_norm_restore, (&job->desc, job->x, job->out, begin, end));
}

static void moi_norm_dx_rows(const void *context, size_t begin, size_t end) {
    const moi_norm_job *job = (const moi_norm_job *)context;
    MOI_DISPATCH(moi_norm_dx, (&job->desc, job->x, job->dy, job->out, begin, end));
}

static void moi_norm_dw_columns(const void *context, size_t begin, size_t end) {
    const moi_norm_job *job = (const moi_norm_job *)context;
    MOI_DISPATCH(moi_norm_dw, (&job->desc, job->x, job->dy, begin, end));
}

static moi_norm_job moi_norm_job_of(const mo_layernorm_desc *desc, const float *x, float *out) {
    moi_norm_job job;
    job.desc = *desc;
    if (job.desc.epsilon == 0.0f) job.desc.epsilon = 1e-5f;
    job.stats = 0;
    job.x = x;
    job.dy = NULL;
    job.out = out;
    return job;
}

static int moi_norm_valid(const mo_layernorm_desc *d, const float *x, const float *out) {
    return d && d->weight && d->bias && d->mean && d->rstd && x && out && d->channels != 0;
}

mo_status mo_layernorm_forward(const mo_layernorm_desc *desc, const float *x, float *y) {
    if (!moi_norm_valid(desc, x, y)) return MO_E_INVALID;
    moi_norm_job job = moi_norm_job_of(desc, x, y);
    job.stats = 1;
    mo_parallel_for(desc->parallel, desc->n, 4, moi_norm_forward_rows, &job);
    return MO_OK;
}

mo_status mo_layernorm_apply(const mo_layernorm_desc *desc, const float *x, float *y) {
    if (!moi_norm_valid(desc, x, y)) return MO_E_INVALID;
    moi_norm_job job = moi_norm_job_of(desc, x, y);
    mo_parallel_for(desc->parallel, desc->n, 4, moi_norm_forward_rows, &job);
    return MO_OK;
}

mo_status mo_layernorm_backward(
    const mo_layernorm_desc *desc, const float *x, const float *dy, float *dx) {
    if (!moi_norm_valid(desc, x, dx) || !dy) return MO_E_INVALID;
    moi_norm_job job = moi_norm_job_of(desc, x, dx);
    job.dy = dy;
    if (desc->dweight || desc->dbias)
        mo_parallel_for(desc->parallel, desc->channels, 64, moi_norm_dw_columns, &job);
    mo_parallel_for(desc->parallel, desc->n, 4, moi_norm_dx_rows, &job);
    return MO_OK;
}

mo_status mo_layernorm_restore(const mo_layernorm_desc *desc, const float *y, float *x) {
    if (!moi_norm_valid(desc, y, x)) return MO_E_INVALID;
    for (size_t i = 0; i < desc->channels; i++) {
        const float weight = fabsf(desc->weight[i]);
        if (!(weight > 0 && weight >= fabsf(desc->bias[i]) * 0.000244140625f)) return MO_E_STATE;
    }
    moi_norm_job job = moi_norm_job_of(desc, y, x);
    mo_parallel_for(desc->parallel, desc->n, 4, moi_norm_restore_rows, &job);
    return MO_OK;
}

/* ---- RMSNorm --------------------------------------------------------------------------------- */

typedef struct moi_rms_job {
    mo_rmsnorm_desc desc;
    int stats;
    const float *x, *dy;
    float *out; /* y or dx */
} moi_rms_job;

static void moi_rms_forward_rows(const void *context, size_t begin, size_t end) {
    const moi_rms_job *job = (const moi_rms_job *)context;
    MOI_DISPATCH(moi_rms_forward, (&job->desc, job->stats, job->x, job->out, begin, end));
}

static void moi_rms_dx_rows(const void *context, size_t begin, size_t end) {
    const moi_rms_job *job = (const moi_rms_job *)context;
    MOI_DISPATCH(moi_rms_dx, (&job->desc, job->x, job->dy, job->out, begin, end));
}

static void moi_rms_dw_columns(const void *context, size_t begin, size_t end) {
    const moi_rms_job *job = (const moi_rms_job *)context;
    MOI_DISPATCH(moi_rms_dw, (&job->desc, job->x, job->dy, begin, end));
}

static int moi_rms_valid(const mo_rmsnorm_desc *d, const float *x, const float *out) {
    return d && d->weight && d->rstd && x && out && d->channels != 0;
}

static mo_status moi_rms_run(const mo_rmsnorm_desc *desc, int stats, const float *x, float *y) {
    if (!moi_rms_valid(desc, x, y)) return MO_E_INVALID;
    moi_rms_job job = {*desc, stats, x, NULL, y};
    if (job.desc.epsilon == 0.0f) job.desc.epsilon = 1e-5f;
    mo_parallel_for(desc->parallel, desc->n, 4, moi_rms_forward_rows, &job);
    return MO_OK;
}

mo_status mo_rmsnorm_forward(const mo_rmsnorm_desc *desc, const float *x, float *y) {
    return moi_rms_run(desc, 1, x, y);
}

mo_status mo_rmsnorm_apply(const mo_rmsnorm_desc *desc, const float *x, float *y) {
    return moi_rms_run(desc, 0, x, y);
}

mo_status mo_rmsnorm_backward(
    const mo_rmsnorm_desc *desc, const float *x, const float *dy, float *dx) {
    if (!moi_rms_valid(desc, x, dx) || !dy) return MO_E_INVALID;
    const moi_rms_job job = {*desc, 0, x, dy, dx};
    if (desc->dweight)
        mo_parallel_for(desc->parallel, desc->channels, 64, moi_rms_dw_columns, &job);
    mo_parallel_for(desc->parallel, desc->n, 4, moi_rms_dx_rows, &job);
    return MO_OK;
}
