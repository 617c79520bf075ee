/* mo_rope.c - see mo_rope.h. */

#define MOI_ISA scalar
#include "mo_rope.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_rope.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_rope.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_rope.inc"
#undef MOI_ISA
#endif

size_t mo_rope_table_size(size_t head_size, size_t positions) {
    size_t n;
    return moi_mul(head_size, positions, &n) && moi_mul(n, sizeof(float), &n) ? n : 0;
}

mo_status mo_rope_table(size_t head_size, size_t positions, double base, float *table) {
    const size_t half = head_size / 2;
    if (base == 0) base = 10000;
    if (!table || head_size == 0 || head_size % 2 != 0 || !(base > 0) || base > 1e300)
        return MO_E_INVALID;
    if (positions != 0 && mo_rope_table_size(head_size, positions) == 0) return MO_E_OVERFLOW;
    for (size_t i = 0; i < half; i++) {
        const double turn = pow(base, -2.0 * (double)i / (double)head_size);
        for (size_t p = 0; p < positions; p++) {
            table[p * head_size + i] = (float)cos((double)p * turn);
            table[p * head_size + half + i] = (float)sin((double)p * turn);
        }
    }
    return MO_OK;
}

typedef struct moi_rope_job {
    mo_rope_desc desc;
    float *x;
    int back;
} moi_rope_job;

static void moi_rope_range(const void *context, size_t begin, size_t end) {
    const moi_rope_job *job = (const moi_rope_job *)context;
    MOI_DISPATCH(moi_rope_rows, (&job->desc, job->x, job->back, begin, end));
}

static mo_status moi_rope_run(const mo_rope_desc *desc, float *x, int back) {
    moi_rope_job job;
    size_t rows;
    if (!desc || !desc->table || !x) return MO_E_INVALID;
    const mo_status status = moi_rope_check(desc, &job.desc, &rows);
    if (status != MO_OK) return status;
    job.x = x;
    job.back = back;
    mo_parallel_for(
        desc->parallel, rows, 1 + 4096 / (desc->heads * desc->head_size), moi_rope_range, &job);
    return MO_OK;
}

mo_status mo_rope_forward(const mo_rope_desc *desc, float *x) { return moi_rope_run(desc, x, 0); }
mo_status mo_rope_backward(const mo_rope_desc *desc, float *dx) {
    return moi_rope_run(desc, dx, 1);
}
