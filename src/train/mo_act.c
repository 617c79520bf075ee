/* mo_act.c - see mo_act.h. */

#define MOI_ISA scalar
#include "mo_act.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_act.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_act.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_act.inc"
#undef MOI_ISA
#endif

typedef struct moi_act_job {
    const float *x, *dy; /* dy NULL: forward */
    float *out;
} moi_act_job;

static void moi_act_rows(const void *context, size_t begin, size_t end) {
    const moi_act_job *job = (const moi_act_job *)context;
    const float *x = job->x + begin;
    float *out = job->out + begin;
    if (job->dy) MOI_DISPATCH(moi_gelu_backward, (x, job->dy + begin, out, end - begin));
    else MOI_DISPATCH(moi_gelu_forward, (x, out, end - begin));
}

/* The grain is a multiple of every vector, so that the result does not depend on the threads. */
enum { moi_act_grain = 4096 };

void mo_gelu_forward(const float *x, float *y, size_t n, const mo_parallel *parallel) {
    moi_act_job job = {x, NULL, y};
    mo_parallel_for(parallel, n, moi_act_grain, moi_act_rows, &job);
}

void mo_gelu_backward(
    const float *x, const float *dy, float *dx, size_t n, const mo_parallel *parallel) {
    moi_act_job job = {x, dy, dx};
    mo_parallel_for(parallel, n, moi_act_grain, moi_act_rows, &job);
}

/* ---- SwiGLU ---------------------------------------------------------------------------------- */

typedef struct moi_swiglu_job {
    mo_swiglu_desc desc;
    const float *gate, *up, *dy; /* dy NULL: forward */
    float *y, *dgate, *dup;
} moi_swiglu_job;

/* n units of one row; at, y_at: where they are in gate and in y */
static void moi_swiglu_run(const moi_swiglu_job *job, size_t at, size_t y_at, size_t n) {
    const float *gate = job->gate + at, *up = job->up + at;
    if (job->dy)
        MOI_DISPATCH(
            moi_swiglu_backward, (gate, up, job->dy + y_at, job->dgate + at, job->dup + at, n));
    else MOI_DISPATCH(moi_swiglu_forward, (gate, up, job->y + y_at, n));
}

/* Units in any ranges: each has the same bits alone. */
static void moi_swiglu_units(const void *context, size_t begin, size_t end) {
    const moi_swiglu_job *job = (const moi_swiglu_job *)context;
    const mo_swiglu_desc *d = &job->desc;
    while (begin < end) {
        const size_t row = begin / d->hidden, column = begin % d->hidden;
        const size_t n = moi_min(end - begin, d->hidden - column);
        moi_swiglu_run(job, row * d->stride + column, row * d->y_stride + column, n);
        begin += n;
    }
}

mo_status mo_swiglu_forward(
    const mo_swiglu_desc *desc, const float *gate, const float *up, float *y) {
    moi_swiglu_job job = {{0, 0, 0, 0, NULL}, gate, up, NULL, y, NULL, NULL};
    size_t n;
    if (!gate || !up || !y) return MO_E_INVALID;
    const mo_status status = moi_swiglu_check(desc, &job.desc, &n);
    if (status == MO_OK) mo_parallel_for(desc->parallel, n, moi_act_grain, moi_swiglu_units, &job);
    return status;
}

mo_status mo_swiglu_backward(const mo_swiglu_desc *desc, const float *gate, const float *up,
    const float *dy, float *dgate, float *dup) {
    moi_swiglu_job job = {{0, 0, 0, 0, NULL}, gate, up, dy, NULL, dgate, dup};
    size_t n;
    if (!gate || !up || !dy || !dgate || !dup) return MO_E_INVALID;
    const mo_status status = moi_swiglu_check(desc, &job.desc, &n);
    if (status == MO_OK) mo_parallel_for(desc->parallel, n, moi_act_grain, moi_swiglu_units, &job);
    return status;
}
