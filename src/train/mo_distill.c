/* mo_distill.c - see mo_distill.h. */

/* Rows of a chunk of both sides' logits; indices and log_probs are those of the chunk. */
typedef struct moi_kd_job {
    const moi_loss_job *ce;
    float *teacher; /* [rows x vocab], k = 0 */
    float *kept;    /* [rows x k] the student's logits at the indices */
    size_t k;
    const void *indices;
    const uint16_t *log_probs;
    float temperature, weight;
} moi_kd_job;

/* What a row of k is made of: the student's sums of e^(logit / T), over all and over the others
 * than the k; the teacher's probabilities are to be divided by norm, and ratio is how much more of
 * the others the teacher has than the student. */
typedef struct moi_kd_parts {
    float sum, rest, norm, ratio;
} moi_kd_parts;

static size_t moi_kd_index_at(const void *indices, size_t vocab, size_t i) {
    return vocab <= 65536 ? ((const uint16_t *)indices)[i] : ((const uint32_t *)indices)[i];
}

static size_t moi_kd_index(const moi_kd_job *job, size_t row, size_t j) {
    return moi_kd_index_at(job->indices, job->ce->vocab, row * job->k + j);
}

static float moi_kd_prob(const moi_kd_job *job, size_t row, size_t j, float norm) {
    return expf(moi_load_f16_scalar(job->log_probs + row * job->k + j)) / norm;
}

/* Fills in all but rest, and returns the divergence. */
static float moi_kd_topk_of(
    const moi_kd_job *job, size_t row, const float *kept, float most, moi_kd_parts *p) {
    const float least =
        8.7e-27f; /* e^-60: what moi_exp takes for nothing is not a reason for inf */
    float kl = 0, total = 0;
    p->rest = p->rest > least || p->rest != p->rest ? p->rest : least;
    p->sum = job->k == job->ce->vocab ? 0.0f : p->rest;
    for (size_t j = 0; j < job->k; j++) {
        p->sum += expf((kept[j] - most) / job->temperature);
        total += moi_kd_prob(job, row, j, 1.0f);
    }
    const int whole = job->k == job->ce->vocab || total >= 1.0f;
    const float others = whole ? 0.0f : 1.0f - total, log_sum = logf(p->sum);
    p->norm = whole ? total : 1.0f;
    p->ratio = others * p->sum / p->rest;
    for (size_t j = 0; j < job->k; j++) {
        const float own = moi_kd_prob(job, row, j, p->norm);
        if (own > 0.0f) kl += own * (logf(own) - (kept[j] - most) / job->temperature + log_sum);
    }
    return others > 0.0f ? kl + others * (logf(others) - logf(p->rest) + log_sum) : kl;
}

/* A teacher's k largest logits of each row of a chunk. */
typedef struct moi_topk_job {
    const moi_loss_job *ce;
    size_t k;
    float *values;     /* [rows x k] heaps, the least in front */
    uint32_t *indices; /* [rows x k] theirs */
    void *to;          /* [rows x k] */
    uint16_t *log_probs;
    float temperature;
} moi_topk_job;

static int moi_topk_below(const float *values, const uint32_t *indices, size_t a, size_t b) {
    return values[a] < values[b] || (values[a] == values[b] && indices[a] > indices[b]);
}

/* Element i of a heap of n goes down to where it belongs. */
static void moi_topk_sink(float *values, uint32_t *indices, size_t i, size_t n) {
    for (size_t least = i;; i = least) {
        const size_t left = 2 * i + 1;
        if (left < n && moi_topk_below(values, indices, left, least)) least = left;
        if (left + 1 < n && moi_topk_below(values, indices, left + 1, least)) least = left + 1;
        if (least == i) return;
        const float value = values[i];
        const uint32_t index = indices[i];
        values[i] = values[least], indices[i] = indices[least];
        values[least] = value, indices[least] = index;
    }
}

/* The k largest of a row, falling. */
static void moi_topk_select(const float *l, size_t n, float *values, uint32_t *indices, size_t k) {
    for (size_t i = 0; i < k; i++) values[i] = l[i], indices[i] = (uint32_t)i;
    for (size_t i = k / 2; i-- > 0;) moi_topk_sink(values, indices, i, k);
    for (size_t i = k; i < n; i++) {
        if (!(l[i] > values[0])) continue;
        values[0] = l[i], indices[0] = (uint32_t)i;
        moi_topk_sink(values, indices, 0, k);
    }
    for (size_t i = k; i-- > 1;) { /* the least of those in front goes behind them */
        const float value = values[0];
        const uint32_t index = indices[0];
        values[0] = values[i], indices[0] = indices[i];
        values[i] = value, indices[i] = index;
        moi_topk_sink(values, indices, 0, i);
    }
}

static void moi_topk_write(
    const moi_topk_job *job, size_t row, const float *l, float most, float log_sum) {
    const size_t at = row * job->k;
    float *values = job->values + at;
    uint32_t *indices = job->indices + at;
    moi_topk_select(l, job->ce->vocab, values, indices, job->k);
    for (size_t j = 0; j < job->k; j++) {
        moi_store_f16_scalar(
            job->log_probs + at + j, (values[j] - most) / job->temperature - log_sum);
        if (job->ce->vocab <= 65536) ((uint16_t *)job->to)[at + j] = (uint16_t)indices[j];
        else ((uint32_t *)job->to)[at + j] = indices[j];
    }
}

#define MOI_ISA scalar
#include "mo_distill.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_distill.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_distill.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_distill.inc"
#undef MOI_ISA
#endif

static void moi_kd_task(const void *context, size_t begin, size_t end) {
    MOI_DISPATCH(moi_kd_rows, ((const moi_kd_job *)context, begin, end));
}

static void moi_topk_task(const void *context, size_t begin, size_t end) {
    MOI_DISPATCH(moi_topk_rows, ((const moi_topk_job *)context, begin, end));
}

/* ---- the student --------------------------------------------------------------------------- */

/* Floats per row beside those of the cross-entropy, in front of which they cannot stand: its
 * workspace is aligned. */
static size_t moi_kd_bytes(const mo_linear_ce_desc *ce, size_t per_row) {
    size_t n, size = mo_linear_ce_workspace_size(ce);
    if (size == 0 || !moi_mul(per_row, moi_loss_chunk(ce), &n)) return 0;
    if (!moi_mul(n, sizeof(float), &n) || !moi_add(size, n, &n)) return 0;
    return moi_align_up(n, MOI_CACHE_LINE, &n) ? n : 0;
}

size_t mo_linear_kd_workspace_size(const mo_linear_kd_desc *desc) {
    if (!desc) return 0;
    return moi_kd_bytes(&desc->ce, desc->k ? desc->k : desc->ce.vocab);
}

static float moi_kd_temperature(float temperature) { return temperature == 0 ? 2.0f : temperature; }
static float moi_kd_weight(float weight) { return weight == 0 ? 0.5f : weight; }

static mo_status moi_kd_check(const mo_linear_kd_desc *d, const mo_linear_kd_tensors *t) {
    const int has_teacher = d->k ? t->indices && t->log_probs : t->teacher_x && t->teacher_w;
    if (!has_teacher || d->k > d->ce.vocab || !(d->temperature >= 0.0f) ||
        !(d->weight >= 0.0f && d->weight <= 1.0f))
        return MO_E_INVALID;
    const mo_status status = moi_loss_check(
        &d->ce, &t->ce, mo_linear_kd_workspace_size(d), moi_kd_weight(d->weight) != 1.0f);
    for (size_t i = 0; status == MO_OK && i < d->ce.rows * d->k; i++)
        if (moi_kd_index_at(t->indices, d->ce.vocab, i) >= d->ce.vocab) return MO_E_INVALID;
    return status;
}

typedef struct moi_kd_call {
    const mo_linear_kd_desc *desc;
    const mo_linear_kd_tensors *tensors;
} moi_kd_call;

static mo_status moi_kd_chunk(moi_loss_sweep *sweep, size_t row, size_t rows) {
    const moi_kd_call *call = (const moi_kd_call *)sweep->self;
    const mo_linear_kd_desc *d = call->desc;
    const mo_linear_kd_tensors *t = call->tensors;
    const size_t channels = d->teacher_channels ? d->teacher_channels : d->ce.channels;
    moi_kd_job job;
    memset(&job, 0, sizeof job);
    job.ce = &sweep->job;
    job.k = d->k;
    job.teacher = job.kept =
        (float *)((char *)d->ce.workspace + mo_linear_ce_workspace_size(&d->ce));
    job.temperature = moi_kd_temperature(d->temperature);
    job.weight = moi_kd_weight(d->weight);
    if (d->k) {
        const size_t width = d->ce.vocab <= 65536 ? sizeof(uint16_t) : sizeof(uint32_t);
        job.indices = (const char *)t->indices + row * d->k * width;
        job.log_probs = t->log_probs + row * d->k;
    } else {
        mo_gemm_desc product = {rows, d->ce.vocab, channels, 0, 1, 0, 0, 0, 0, 0};
        const mo_status status =
            mo_gemm(d->ce.env, &product, t->teacher_x + row * channels, t->teacher_w, job.teacher);
        if (status != MO_OK) return status;
    }
    mo_parallel_for(d->ce.env->parallel, rows, 1, moi_kd_task, &job);
    return MO_OK;
}

mo_status mo_linear_kd(
    const mo_linear_kd_desc *desc, const mo_linear_kd_tensors *tensors, double *loss) {
    if (!desc || !tensors || !loss) return MO_E_INVALID;
    const mo_status status = moi_kd_check(desc, tensors);
    if (status != MO_OK) return status;
    const moi_kd_call call = {desc, tensors};
    moi_loss_sweep sweep;
    memset(&sweep, 0, sizeof sweep);
    sweep.desc = &desc->ce;
    sweep.tensors = &tensors->ce;
    sweep.rows = moi_kd_chunk;
    sweep.self = &call;
    return moi_loss_run(&sweep, loss);
}

/* ---- the teacher, written down ------------------------------------------------------------- */

typedef struct moi_topk_call {
    const mo_linear_kd_topk_desc *desc;
    void *indices;
    uint16_t *log_probs;
} moi_topk_call;

static mo_linear_ce_desc moi_topk_ce(const mo_linear_kd_topk_desc *d) {
    mo_linear_ce_desc ce;
    memset(&ce, 0, sizeof ce);
    ce.rows = d->rows;
    ce.channels = d->channels;
    ce.vocab = d->vocab;
    ce.chunk_rows = d->chunk_rows;
    ce.env = d->env;
    ce.workspace = d->workspace;
    ce.workspace_size = d->workspace_size;
    return ce;
}

size_t mo_linear_kd_topk_workspace_size(const mo_linear_kd_topk_desc *desc) {
    size_t per_row;
    if (!desc || !moi_mul(desc->k, 2, &per_row)) return 0;
    const mo_linear_ce_desc ce = moi_topk_ce(desc);
    return moi_kd_bytes(&ce, per_row);
}

static mo_status moi_topk_chunk(moi_loss_sweep *sweep, size_t row, size_t rows) {
    const moi_topk_call *call = (const moi_topk_call *)sweep->self;
    const mo_linear_kd_topk_desc *d = call->desc;
    const size_t width = d->vocab <= 65536 ? sizeof(uint16_t) : sizeof(uint32_t);
    moi_topk_job job;
    memset(&job, 0, sizeof job);
    job.ce = &sweep->job;
    job.k = d->k;
    job.values = (float *)((char *)d->workspace + mo_linear_ce_workspace_size(sweep->desc));
    job.indices = (uint32_t *)(void *)(job.values + moi_loss_chunk(sweep->desc) * d->k);
    job.to = (char *)call->indices + row * d->k * width;
    job.log_probs = call->log_probs + row * d->k;
    job.temperature = moi_kd_temperature(d->temperature);
    mo_parallel_for(d->env->parallel, rows, 1, moi_topk_task, &job);
    return MO_OK;
}

mo_status mo_linear_kd_topk(const mo_linear_kd_topk_desc *desc, const float *x, const float *w,
    void *indices, uint16_t *log_probs) {
    if (!desc || !indices || !log_probs || desc->k == 0 || desc->k > desc->vocab ||
        !(desc->temperature >= 0.0f))
        return MO_E_INVALID;
    const mo_linear_ce_desc ce = moi_topk_ce(desc);
    const moi_topk_call call = {desc, indices, log_probs};
    mo_linear_ce_tensors tensors;
    moi_loss_sweep sweep;
    double nothing;
    memset(&tensors, 0, sizeof tensors);
    tensors.x = x;
    tensors.w = w;
    const mo_status status =
        moi_loss_check(&ce, &tensors, mo_linear_kd_topk_workspace_size(desc), 0);
    if (status != MO_OK) return status;
    if ((uint64_t)desc->vocab > UINT32_MAX) return MO_E_OVERFLOW;
    memset(&sweep, 0, sizeof sweep);
    sweep.desc = &ce;
    sweep.tensors = &tensors;
    sweep.rows = moi_topk_chunk;
    sweep.self = &call;
    return moi_loss_run(&sweep, &nothing);
}
