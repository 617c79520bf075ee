/* mo_attention.c - see mo_attention.h. Queries go in tiles of moi_attention_rows, keys in blocks of
 * moi_attention_keys: blocks as long as a short sequence, so that the running softmax of the papers
 * rescales nothing there. The products are mo_gemm's serial ones on strided views. */

enum { moi_attention_rows = 64, moi_attention_keys = 512 };

/* A tile of scores: rows queries from query on, against keys keys from key on. */
typedef struct moi_attention_tile {
    size_t query, rows, key, keys, head_size, out_stride;
    int full;
    float *scores;     /* [rows x keys] */
    float *most, *sum; /* [rows], running over the key blocks */
    float *out;        /* rows of out_stride */
} moi_attention_tile;

/* how many of the tile's keys row r may see */
static size_t moi_attention_valid(const moi_attention_tile *t, size_t r) {
    if (t->full) return t->keys;
    size_t seen = t->query + r + 1;
    return seen <= t->key ? 0 : moi_min(seen - t->key, t->keys);
}

#define MOI_ISA scalar
#include "mo_attention.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_attention.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_attention.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_attention.inc"
#undef MOI_ISA
#endif

/* What one thread works in. */
typedef struct moi_attention_scratch {
    float *scores, *dscores; /* [rows x keys] */
    float *most, *sum;       /* [rows]; in backward sum holds delta */
    float *gemm;
} moi_attention_scratch;

typedef struct moi_attention_job {
    mo_attention_desc d;
    mo_attention_tensors t;
    int backward, n_parts;
} moi_attention_job;

/* Floats of scratch for one thread: tiles, row statistics, and the largest of the products. */
static size_t moi_attention_floats(const mo_attention_desc *d) {
    const size_t rows = moi_min(d->seq, moi_attention_rows), head = d->head_size;
    const size_t keys = moi_min(d->seq, moi_attention_keys);
    size_t gemm = moi_gemm_floats(rows, keys, head);
    gemm = moi_max(gemm, moi_gemm_floats(rows, head, keys));
    gemm = moi_max(gemm, moi_gemm_floats(keys, head, rows));
    return (2 * rows * keys + 2 * moi_attention_rows + gemm + 15) / 16 * 16;
}

/* How many threads can have work: one head of one sequence each. */
static size_t moi_attention_parts(const mo_attention_desc *d) {
    size_t heads, threads = (size_t)mo_parallel_threads(d->parallel);
    if (!moi_mul(d->batch, d->heads, &heads)) return threads;
    return moi_max(1, moi_min(threads, heads));
}

static moi_attention_scratch moi_attention_scratch_of(const mo_attention_desc *d, int part) {
    const size_t tile = moi_min(d->seq, moi_attention_rows) * moi_min(d->seq, moi_attention_keys);
    moi_attention_scratch s;
    s.scores = (float *)d->workspace + (size_t)part * moi_attention_floats(d);
    s.dscores = s.scores + tile;
    s.most = s.dscores + tile;
    s.sum = s.most + moi_attention_rows;
    s.gemm = s.sum + moi_attention_rows;
    return s;
}

static moi_matrix moi_view(const float *data, size_t row, size_t column) {
    moi_matrix m;
    m.data = data;
    m.row = row;
    m.column = column;
    return m;
}

/* One head of one sequence: where its rows start. */
typedef struct moi_attention_head {
    const float *q, *k, *v, *dout;
    float *out, *lse, *dq, *dk, *dv;
} moi_attention_head;

static moi_attention_head moi_attention_head_of(const moi_attention_job *job, size_t i) {
    const mo_attention_desc *d = &job->d;
    const mo_attention_tensors *t = &job->t;
    const size_t sequence = i / d->heads, head = i % d->heads;
    const size_t in = sequence * d->seq * d->stride + head * d->head_size;
    const size_t out = sequence * d->seq * d->heads * d->head_size + head * d->head_size;
    moi_attention_head h;
    h.q = t->q + in;
    h.k = t->k + in;
    h.v = t->v + in;
    h.out = t->out + out;
    h.lse = t->lse + i * d->seq;
    h.dout = job->backward ? t->dout + out : NULL;
    h.dq = job->backward ? t->dq + in : NULL;
    h.dk = job->backward ? t->dk + in : NULL;
    h.dv = job->backward ? t->dv + in : NULL;
    return h;
}

static moi_attention_tile moi_attention_tile_of(
    const mo_attention_desc *d, const moi_attention_scratch *s, float *out, size_t query) {
    moi_attention_tile t;
    t.query = query;
    t.rows = moi_min(moi_attention_rows, d->seq - query);
    t.key = t.keys = 0;
    t.head_size = d->head_size;
    t.out_stride = d->heads * d->head_size;
    t.full = d->full;
    t.scores = s->scores;
    t.most = s->most;
    t.sum = s->sum;
    t.out = out + query * t.out_stride;
    return t;
}

/* scores = scale q k^T of the tile */
static void moi_attention_scores(const mo_attention_desc *d, const moi_attention_tile *t,
    const moi_attention_head *h, float *gemm) {
    moi_gemm_serial(t->rows, t->keys, d->head_size, d->scale,
        moi_view(h->q + t->query * d->stride, d->stride, 1),
        moi_view(h->k + t->key * d->stride, 1, d->stride), 0.0f, t->scores, t->keys, gemm);
}

static void moi_attention_forward_head(
    const mo_attention_desc *d, const moi_attention_scratch *s, const moi_attention_head *h) {
    for (size_t query = 0; query < d->seq; query += moi_attention_rows) {
        moi_attention_tile t = moi_attention_tile_of(d, s, h->out, query);
        const size_t end = d->full ? d->seq : query + t.rows;
        memset(t.sum, 0, t.rows * sizeof(float));
        for (t.key = 0; t.key < end; t.key += moi_attention_keys) {
            t.keys = moi_min(moi_attention_keys, end - t.key);
            moi_attention_scores(d, &t, h, s->gemm);
            MOI_DISPATCH(moi_attention_softmax, (&t));
            moi_gemm_serial(t.rows, d->head_size, t.keys, 1.0f, moi_view(t.scores, t.keys, 1),
                moi_view(h->v + t.key * d->stride, d->stride, 1), t.key == 0 ? 0.0f : 1.0f, t.out,
                t.out_stride, s->gemm);
        }
        MOI_DISPATCH(moi_attention_normalize, (&t, h->lse + query));
    }
}

/* The products of one tile in backward; scores hold p, dscores ds. */
static void moi_attention_backward_tile(const mo_attention_desc *d, const moi_attention_tile *t,
    const moi_attention_head *h, const moi_attention_scratch *s) {
    const float *dout = h->dout + t->query * t->out_stride;
    const size_t key = t->key * d->stride, query = t->query * d->stride;
    moi_attention_scores(d, t, h, s->gemm);
    moi_gemm_serial(t->rows, t->keys, d->head_size, 1.0f, moi_view(dout, t->out_stride, 1),
        moi_view(h->v + key, 1, d->stride), 0.0f, s->dscores, t->keys, s->gemm);
    MOI_DISPATCH(
        moi_attention_softmax_backward, (t, s->dscores, h->lse + t->query, s->sum, d->scale));
    moi_gemm_serial(t->keys, d->head_size, t->rows, 1.0f, moi_view(t->scores, 1, t->keys),
        moi_view(dout, t->out_stride, 1), 1.0f, h->dv + key, d->stride, s->gemm);
    moi_gemm_serial(t->keys, d->head_size, t->rows, 1.0f, moi_view(s->dscores, 1, t->keys),
        moi_view(h->q + query, d->stride, 1), 1.0f, h->dk + key, d->stride, s->gemm);
    moi_gemm_serial(t->rows, d->head_size, t->keys, 1.0f, moi_view(s->dscores, t->keys, 1),
        moi_view(h->k + key, d->stride, 1), t->key == 0 ? 0.0f : 1.0f, h->dq + query, d->stride,
        s->gemm);
}

static void moi_attention_backward_head(
    const mo_attention_desc *d, const moi_attention_scratch *s, const moi_attention_head *h) {
    for (size_t i = 0; i < d->seq; i++) {
        memset(h->dk + i * d->stride, 0, d->head_size * sizeof(float));
        memset(h->dv + i * d->stride, 0, d->head_size * sizeof(float));
    }
    for (size_t query = 0; query < d->seq; query += moi_attention_rows) {
        moi_attention_tile t = moi_attention_tile_of(d, s, h->out, query);
        const size_t end = d->full ? d->seq : query + t.rows;
        MOI_DISPATCH(moi_attention_delta, (&t, h->dout + query * t.out_stride, s->sum));
        for (t.key = 0; t.key < end; t.key += moi_attention_keys) {
            t.keys = moi_min(moi_attention_keys, end - t.key);
            moi_attention_backward_tile(d, &t, h, s);
        }
    }
}

/* Part i takes every n_parts-th head, so that it has a scratch of its own. */
static void moi_attention_task(void *context, int i) {
    const moi_attention_job *job = (const moi_attention_job *)context;
    const moi_attention_scratch s = moi_attention_scratch_of(&job->d, i);
    for (size_t at = (size_t)i; at < job->d.batch * job->d.heads; at += (size_t)job->n_parts) {
        const moi_attention_head h = moi_attention_head_of(job, at);
        if (job->backward) moi_attention_backward_head(&job->d, &s, &h);
        else moi_attention_forward_head(&job->d, &s, &h);
    }
}

size_t mo_attention_workspace_size(const mo_attention_desc *desc) {
    size_t bytes;
    if (!desc || desc->head_size > SIZE_MAX / 65536) return 0;
    if (!moi_mul(moi_attention_floats(desc), sizeof(float), &bytes)) return 0;
    return moi_mul(bytes, moi_attention_parts(desc), &bytes) ? bytes : 0;
}

static mo_status moi_attention_run(
    const mo_attention_desc *desc, const mo_attention_tensors *tensors, int backward) {
    if (!desc || !tensors || !tensors->q || !tensors->k || !tensors->v || !tensors->out ||
        !tensors->lse)
        return MO_E_INVALID;
    if (backward && (!tensors->dout || !tensors->dq || !tensors->dk || !tensors->dv))
        return MO_E_INVALID;
    if (desc->batch == 0 || desc->seq == 0 || desc->heads == 0 || desc->head_size == 0)
        return MO_E_INVALID;
    moi_attention_job job;
    job.d = *desc;
    job.t = *tensors;
    job.backward = backward;
    size_t channels, n, heads;
    if (!moi_mul(desc->heads, desc->head_size, &channels)) return MO_E_OVERFLOW;
    if (job.d.stride == 0) job.d.stride = channels;
    if (job.d.stride < channels) return MO_E_INVALID;
    if (!moi_mul(desc->batch, desc->seq, &n) || !moi_mul(n, job.d.stride, &n) ||
        !moi_mul(desc->batch, desc->heads, &heads))
        return MO_E_OVERFLOW;
    if (job.d.scale == 0.0f) job.d.scale = 1.0f / sqrtf((float)desc->head_size);
    /* fewer threads where the workspace was sized for fewer: the result is the same */
    const size_t part = moi_attention_floats(desc) * sizeof(float);
    const size_t room = desc->workspace ? desc->workspace_size / part : 0;
    if (room == 0 || mo_attention_workspace_size(desc) == 0) return MO_E_NO_SPACE;
    job.n_parts = (int)moi_min(room, moi_attention_parts(desc));
    mo_parallel_run(desc->parallel, job.n_parts, moi_attention_task, &job);
    return MO_OK;
}

mo_status mo_attention_forward(const mo_attention_desc *desc, const mo_attention_tensors *tensors) {
    return moi_attention_run(desc, tensors, 0);
}

mo_status mo_attention_backward(
    const mo_attention_desc *desc, const mo_attention_tensors *tensors) {
    return moi_attention_run(desc, tensors, 1);
}
