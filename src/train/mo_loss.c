/* mo_loss.c - see mo_loss.h. */

static int moi_loss_counts(const moi_loss_job *job, size_t i) {
    return !job->ignore || job->targets[i] != job->ignore_index;
}

static float moi_loss_weight(const moi_loss_job *job, size_t i) {
    return job->weights ? job->weights[i] : 1.0f;
}

static moi_loss_row moi_loss_row_of(
    const moi_loss_job *job, float scale, float most, float sum, float at_target, float mean) {
    const float s = job->label_smoothing, log_sum = logf(sum), z = log_sum + most;
    moi_loss_row r;
    r.loss = log_sum - (1.0f - s) * at_target - s * mean + job->z_loss * z * z;
    r.a = scale * (1.0f + 2.0f * job->z_loss * z) / sum;
    r.b = scale * s / (float)job->vocab;
    r.c = scale * (1.0f - s);
    return r;
}

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

/* ---- the sweep ----------------------------------------------------------------------------- */

static int moi_loss_ignored(const mo_linear_ce_desc *d, const mo_linear_ce_tensors *t, size_t row) {
    return d->ignore && t->targets && t->targets[row] == d->ignore_index;
}

static mo_status moi_loss_check(
    const mo_linear_ce_desc *d, const mo_linear_ce_tensors *t, size_t needed, int has_targets) {
    if (!d->env || !t->x || !t->w || (has_targets && !t->targets) || d->rows == 0 ||
        d->channels == 0 || d->vocab == 0 ||
        !(d->label_smoothing >= 0.0f && d->label_smoothing <= 1.0f))
        return MO_E_INVALID;
    if (needed == 0) return MO_E_OVERFLOW;
    if (!d->workspace || d->workspace_size < needed) return MO_E_NO_SPACE;
    for (size_t i = 0; t->targets && i < d->rows; i++)
        if (!moi_loss_ignored(d, t, i) && (t->targets[i] < 0 || (size_t)t->targets[i] >= d->vocab))
            return MO_E_INVALID;
    return MO_OK;
}

static size_t moi_loss_count(const mo_linear_ce_desc *d, const mo_linear_ce_tensors *t) {
    size_t n = 0;
    for (size_t i = 0; i < d->rows; i++) n += !moi_loss_ignored(d, t, i);
    return n;
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

/* Rows begin..end-1 that do not count, so that no chunk has them. */
static void moi_loss_skip(const moi_loss_sweep *s, size_t begin, size_t end) {
    const mo_linear_ce_tensors *t = s->tensors;
    const size_t channels = s->desc->channels;
    if (begin == end) return;
    if (t->losses) memset(t->losses + begin, 0, (end - begin) * sizeof *t->losses);
    if (t->dx) memset(t->dx + begin * channels, 0, (end - begin) * channels * sizeof *t->dx);
}

static void moi_loss_job_begin(moi_loss_sweep *s, size_t counted) {
    const mo_linear_ce_desc *d = s->desc;
    moi_loss_job *job = &s->job;
    job->logits = (float *)d->workspace;
    job->vocab = d->vocab;
    job->scale = d->scale != 0.0f ? d->scale : counted ? 1.0f / (float)counted : 0.0f;
    job->label_smoothing = d->label_smoothing;
    job->z_loss = d->z_loss;
    job->gradient = s->tensors->dx != NULL;
    job->ignore = d->ignore && s->tensors->targets;
    job->ignore_index = d->ignore_index;
}

/* One chunk: logits, what they become, and the products with that. */
static mo_status moi_loss_step(moi_loss_sweep *s, size_t row, size_t rows, double *sum) {
    const mo_linear_ce_desc *d = s->desc;
    const mo_linear_ce_tensors *t = s->tensors;
    mo_gemm_desc product = {rows, d->vocab, d->channels, 0, 1, 0, 0, 0, 0, 0};
    s->job.targets = t->targets ? t->targets + row : NULL;
    s->job.weights = t->weights ? t->weights + row : NULL;
    s->job.losses =
        t->losses ? t->losses + row : (float *)d->workspace + moi_loss_chunk(d) * d->vocab;
    mo_status status = mo_gemm(d->env, &product, t->x + row * d->channels, t->w, s->job.logits);
    if (status == MO_OK) status = s->rows(s, row, rows);
    if (status != MO_OK) return status;
    for (size_t i = 0; i < rows; i++) *sum += (double)s->job.losses[i];
    return t->dx ? moi_loss_gradients(d, t, s->job.logits, row, rows) : MO_OK;
}

static mo_status moi_loss_run(moi_loss_sweep *sweep, double *loss) {
    const mo_linear_ce_desc *d = sweep->desc;
    const mo_linear_ce_tensors *t = sweep->tensors;
    const size_t chunk = moi_loss_chunk(d), counted = moi_loss_count(d, t);
    mo_status status = MO_OK;
    double sum = 0;
    moi_loss_job_begin(sweep, counted);
    for (size_t row = 0, end; row < d->rows && status == MO_OK; row = end) {
        size_t first = row, last;
        while (first < d->rows && moi_loss_ignored(d, t, first)) first++;
        last = end = first + moi_equal_part(d->rows - first, chunk, moi_gemm_max_mr);
        while (last > first && moi_loss_ignored(d, t, last - 1)) last--;
        moi_loss_skip(sweep, row, first);
        moi_loss_skip(sweep, last, end);
        if (first < last) status = moi_loss_step(sweep, first, last - first, &sum);
    }
    if (status != MO_OK) return status;
    if (t->counted) *t->counted = counted;
    *loss = d->scale != 0.0f ? sum * (double)d->scale : counted ? sum / (double)counted : 0;
    return MO_OK;
}

static mo_status moi_loss_ce_rows(moi_loss_sweep *sweep, size_t row, size_t rows) {
    (void)row;
    mo_parallel_for(sweep->desc->env->parallel, rows, 1, moi_loss_task, &sweep->job);
    return MO_OK;
}

mo_status mo_linear_ce(
    const mo_linear_ce_desc *desc, const mo_linear_ce_tensors *tensors, double *loss) {
    if (!desc || !tensors || !loss) return MO_E_INVALID;
    mo_status status = moi_loss_check(desc, tensors, mo_linear_ce_workspace_size(desc), 1);
    if (status != MO_OK) return status;
    moi_loss_sweep sweep;
    memset(&sweep, 0, sizeof sweep);
    sweep.desc = desc;
    sweep.tensors = tensors;
    sweep.rows = moi_loss_ce_rows;
    return moi_loss_run(&sweep, loss);
}
