/* mo_math.c - exp and row reductions that softmax, losses and activations share. */

#define MOI_ISA scalar
#include "mo_math.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_math.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_math.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_math.inc"
#undef MOI_ISA
#endif

/* Rows 0..n-1 cut into one range per thread: task(job, begin, end). */
typedef struct moi_rows {
    void (*task)(const void *job, size_t begin, size_t end);
    const void *job;
    size_t n, grain;
    int n_parts;
} moi_rows;

static void moi_rows_task(void *context, int i) {
    const moi_rows *rows = (const moi_rows *)context;
    size_t begin, end;
    moi_part(rows->n, rows->grain, i, rows->n_parts, &begin, &end);
    if (begin < end) rows->task(rows->job, begin, end);
}

static void moi_for_rows(const mo_parallel *parallel, size_t n, size_t grain,
    void (*task)(const void *job, size_t begin, size_t end), const void *job) {
    moi_rows rows;
    rows.task = task;
    rows.job = job;
    rows.n = n;
    rows.grain = grain;
    rows.n_parts = (int)moi_min((size_t)mo_parallel_threads(parallel), moi_ceil_div(n, grain));
    mo_parallel_run(parallel, rows.n_parts, moi_rows_task, &rows);
}
