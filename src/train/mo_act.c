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
