/* mo_loss.c - see mo_loss.h. */

/* A chunk of logits, turned into gradients in place. */
typedef struct moi_loss_job {
    float *logits; /* [rows x vocab] */
    float *losses; /* [rows] */
    const int32_t *targets;
    size_t vocab;
    float scale;
    int gradient;
} moi_loss_job;

#define MOI_ISA scalar
#include "mo_loss.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_loss.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_loss.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_loss.inc"
#undef MOI_ISA
#endif

static void moi_loss_task(const void *context, size_t begin, size_t end) {
    MOI_DISPATCH(moi_loss_rows, ((const moi_loss_job *)context, begin, end));
}

static size_t moi_loss_chunk(const mo_linear_ce_desc *d) {
    return d->chunk_rows == 0 ? d->rows : moi_min(d->chunk_rows, d->rows);
}

size_t mo_linear_ce_workspace_size(const mo_linear_ce_desc *desc) {
    size_t n;
    if (!desc || !moi_add(desc->vocab, 1, &n) || !moi_mul(n, moi_loss_chunk(desc), &n)) return 0;
    return moi_mul(n, sizeof(float), &n) && moi_align_up(n, MOI_CACHE_LINE, &n) ? n : 0;
}

static mo_status moi_loss_check(const mo_linear_ce_desc *d, const mo_linear_ce_tensors *t) {
    size_t bytes = mo_linear_ce_workspace_size(d);
    if (bytes == 0) return MO_E_OVERFLOW;
    if (!d->workspace || d->workspace_size < bytes) return MO_E_NO_SPACE;
    for (size_t i = 0; i < d->rows; i++)
        if (t->targets[i] < 0 || (size_t)t->targets[i] >= d->vocab) return MO_E_INVALID;
    return MO_OK;
}

/* dx = dlogits w and dw += dlogits^T x for the rows of one chunk */
static mo_status moi_loss_gradients(const mo_linear_ce_desc *d, const mo_linear_ce_tensors *t,
    const float *dlogits, size_t row, size_t rows) {
    mo_gemm_desc to_x = {rows, d->channels, d->vocab, 0, 0, 0, 0, 0, 0, 0};
    mo_status status = mo_gemm(d->env, &to_x, dlogits, t->w, t->dx + row * d->channels);
    if (status != MO_OK || !t->dw) return status;
    mo_gemm_desc to_w = {d->vocab, d->channels, rows, 1, 0, 0, 0, 0, 0, 1.0f};
    return mo_gemm(d->env, &to_w, dlogits, t->x + row * d->channels, t->dw);
}

mo_status mo_linear_ce(
    const mo_linear_ce_desc *desc, const mo_linear_ce_tensors *tensors, double *loss) {
    if (!desc || !tensors || !loss || !desc->env || !tensors->x || !tensors->w ||
        !tensors->targets || desc->rows == 0 || desc->channels == 0 || desc->vocab == 0)
        return MO_E_INVALID;
    mo_status status = moi_loss_check(desc, tensors);
    const size_t chunk = moi_loss_chunk(desc);
    const float scale = desc->scale == 0.0f ? 1.0f / (float)desc->rows : desc->scale;
    double sum = 0;
    moi_loss_job job;
    job.logits = (float *)desc->workspace;
    job.losses = job.logits + chunk * desc->vocab;
    job.vocab = desc->vocab;
    job.scale = scale;
    job.gradient = tensors->dx != NULL;
    for (size_t row = 0; row < desc->rows && status == MO_OK; row += chunk) {
        const size_t rows = moi_min(chunk, desc->rows - row);
        mo_gemm_desc product = {rows, desc->vocab, desc->channels, 0, 1, 0, 0, 0, 0, 0};
        job.targets = tensors->targets + row;
        status =
            mo_gemm(desc->env, &product, tensors->x + row * desc->channels, tensors->w, job.logits);
        if (status != MO_OK) break;
        mo_parallel_for(desc->env->parallel, rows, 1, moi_loss_task, &job);
        for (size_t i = 0; i < rows; i++) sum += job.losses[i];
        if (tensors->dx) status = moi_loss_gradients(desc, tensors, job.logits, row, rows);
    }
    if (status == MO_OK) *loss = sum * (desc->scale == 0.0f ? 1.0 / (double)desc->rows : scale);
    return status;
}
