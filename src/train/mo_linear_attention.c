/* mo_linear_attention.c - see mo_linear_attention.h. A 1 behind v makes z the last column of S, and
 * what is a sum over positions before the chunk is a product with the state; within the chunk it is
 * a product of chunk x chunk weights. The products are mo_gemm's serial ones on strided views. */

#define MOI_ISA scalar
#include "mo_linear_attention.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_linear_attention.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_linear_attention.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_linear_attention.inc"
#undef MOI_ISA
#endif

typedef struct moi_linear_job {
    mo_linear_attention_desc d; /* with its defaults */
    mo_linear_attention_tensors t;
    int backward, n_parts;
} moi_linear_job;

/* What one thread works in: a chunk of one head, and the state. n is head_size, wide n + 1. */
typedef struct moi_linear_scratch {
    const mo_linear_attention_desc *d;
    size_t wide, rows; /* positions of the chunk */
    float *fq, *fk;    /* [rows x n] features */
    float *v, *u;      /* [rows x wide] v and 1; gradients of the sums of v and of the weights */
    float *part;       /* [rows x wide] */
    float *qk, *uv;    /* [rows x rows] */
    float *state;      /* [n x wide] */
    float *gemm;
} moi_linear_scratch;

/* One head of one sequence: where its rows start. */
typedef struct moi_linear_head {
    const float *q, *k, *v, *dout, *out;
    float *to, *norm, *dq, *dk, *dv;
    size_t out_stride;
} moi_linear_head;

static size_t moi_linear_chunk(const mo_linear_attention_desc *d) {
    return moi_min(d->chunk == 0 ? 64 : d->chunk, d->seq);
}

static size_t moi_linear_gemm_floats(size_t rows, size_t n) {
    size_t floats = moi_gemm_floats(rows, n + 1, n);
    floats = moi_max(floats, moi_gemm_floats(rows, rows, n + 1));
    floats = moi_max(floats, moi_gemm_floats(rows, n + 1, rows));
    floats = moi_max(floats, moi_gemm_floats(n, n + 1, rows));
    return moi_max(floats, moi_gemm_floats(rows, n, n + 1));
}

/* Floats of scratch for one thread; 0 when they do not fit. */
static size_t moi_linear_floats(const mo_linear_attention_desc *d) {
    const size_t rows = moi_linear_chunk(d), n = d->head_size;
    size_t columns, chunk, state;
    if (n > SIZE_MAX / 16 - 1 || rows > SIZE_MAX / 16) return 0;
    columns = 2 * rows + 2 * n + 3 * (n + 1);
    if (!moi_mul(rows, columns, &chunk) || !moi_mul(n, n + 1, &state)) return 0;
    if (!moi_add(chunk, state, &chunk) || chunk > SIZE_MAX / 64) return 0;
    return (chunk + moi_linear_gemm_floats(rows, n) + 15) / 16 * 16;
}

static moi_linear_scratch moi_linear_scratch_of(const mo_linear_attention_desc *d, int part) {
    const size_t rows = moi_linear_chunk(d), n = d->head_size;
    moi_linear_scratch s;
    s.d = d;
    s.wide = n + 1;
    s.rows = rows;
    s.fq = (float *)d->workspace + (size_t)part * moi_linear_floats(d);
    s.fk = s.fq + rows * n;
    s.v = s.fk + rows * n;
    s.u = s.v + rows * s.wide;
    s.part = s.u + rows * s.wide;
    s.qk = s.part + rows * s.wide;
    s.uv = s.qk + rows * rows;
    s.state = s.uv + rows * rows;
    s.gemm = s.state + n * s.wide;
    return s;
}

static moi_linear_head moi_linear_head_of(const moi_linear_job *job, size_t i) {
    const mo_linear_attention_desc *d = &job->d;
    const mo_linear_attention_tensors *t = &job->t;
    const size_t sequence = i / d->heads, head = i % d->heads;
    const size_t in = sequence * d->seq * d->stride + head * d->head_size;
    moi_linear_head h;
    h.out_stride = d->heads * d->head_size;
    const size_t out = sequence * d->seq * h.out_stride + head * d->head_size;
    h.q = t->q + in;
    h.k = t->k + in;
    h.v = t->v + in;
    h.to = t->out + out;
    h.out = h.to;
    h.norm = t->norm + i * d->seq;
    h.dout = job->backward ? t->dout + out : NULL;
    h.dq = job->backward ? t->dq + in : NULL;
    h.dk = job->backward ? t->dk + in : NULL;
    h.dv = job->backward ? t->dv + in : NULL;
    return h;
}

/* C = alpha A B + beta C, all rows following each other but those of A and B as viewed */
static void moi_linear_gemm(const moi_linear_scratch *s, size_t m, size_t n, size_t k, moi_matrix a,
    moi_matrix b, float beta, float *c, size_t ldc) {
    moi_gemm_serial(m, n, k, 1.0f, a, b, beta, c, ldc, s->gemm);
}

/* The chunk from position at on: features, v and 1, and in backward u. */
static void moi_linear_load(moi_linear_scratch *s, const moi_linear_head *h, size_t at) {
    const size_t n = s->d->head_size, stride = s->d->stride;
    s->rows = moi_min(moi_linear_chunk(s->d), s->d->seq - at);
    for (size_t r = 0; r < s->rows; r++) {
        const size_t in = (at + r) * stride, out = (at + r) * h->out_stride;
        MOI_DISPATCH(moi_linear_features, (h->q + in, s->fq + r * n, n));
        MOI_DISPATCH(moi_linear_features, (h->k + in, s->fk + r * n, n));
        memcpy(s->v + r * s->wide, h->v + in, n * sizeof(float));
        s->v[r * s->wide + n] = 1.0f;
        if (h->dout)
            MOI_DISPATCH(moi_linear_scale,
                (h->dout + out, h->out + out, h->norm[at + r], s->u + r * s->wide, n));
    }
}

/* w[i][j] = x[i] y[j] over columns, for j of what position i of the chunk sees, else 0 */
static void moi_linear_weights(
    const moi_linear_scratch *s, const float *x, const float *y, size_t columns, float *w) {
    moi_linear_gemm(s, s->rows, s->rows, columns, moi_view(x, columns, 1), moi_view(y, 1, columns),
        0.0f, w, s->rows);
    for (size_t i = 0; i < s->rows; i++)
        memset(w + i * s->rows + i + 1, 0, (s->rows - i - 1) * sizeof *w);
}

/* state += x^T y of the chunk, y of wide columns */
static void moi_linear_add(const moi_linear_scratch *s, const float *x, const float *y) {
    const size_t n = s->d->head_size;
    moi_linear_gemm(s, n, s->wide, s->rows, moi_view(x, 1, n), moi_view(y, s->wide, 1), 1.0f,
        s->state, s->wide);
}

/* The state before the first chunk: 0, or the sum of all chunks, of keys or of queries. */
static void moi_linear_begin(moi_linear_scratch *s, const moi_linear_head *h, int of_queries) {
    memset(s->state, 0, s->d->head_size * s->wide * sizeof(float));
    for (size_t at = 0; s->d->full && at < s->d->seq; at += s->rows) {
        moi_linear_load(s, h, at);
        moi_linear_add(s, of_queries ? s->fq : s->fk, of_queries ? s->u : s->v);
    }
}

static void moi_linear_forward_head(moi_linear_scratch *s, const moi_linear_head *h) {
    const size_t n = s->d->head_size, wide = s->wide;
    moi_linear_begin(s, h, 0);
    for (size_t at = 0; at < s->d->seq; at += s->rows) {
        moi_linear_load(s, h, at);
        moi_linear_gemm(s, s->rows, wide, n, moi_view(s->fq, n, 1), moi_view(s->state, wide, 1),
            0.0f, s->part, wide);
        if (!s->d->full) {
            moi_linear_weights(s, s->fq, s->fk, n, s->qk);
            moi_linear_gemm(s, s->rows, wide, s->rows, moi_view(s->qk, s->rows, 1),
                moi_view(s->v, wide, 1), 1.0f, s->part, wide);
            moi_linear_add(s, s->fk, s->v);
        }
        for (size_t r = 0; r < s->rows; r++) {
            const float *part = s->part + r * wide, norm = part[n] + s->d->epsilon;
            float *out = h->to + (at + r) * h->out_stride;
            h->norm[at + r] = norm;
            for (size_t c = 0; c < n; c++) out[c] = part[c] / norm;
        }
    }
}

/* dx = the features' gradients in part times their derivative */
static void moi_linear_store(
    const moi_linear_scratch *s, const float *features, float *dx, size_t at) {
    const size_t n = s->d->head_size;
    for (size_t r = 0; r < s->rows; r++)
        MOI_DISPATCH(moi_linear_derivative,
            (features + r * n, s->part + r * n, dx + (at + r) * s->d->stride, n));
}

/* From the front: the gradient of f(q[t]) is S[t] u[t]. */
static void moi_linear_backward_q(moi_linear_scratch *s, const moi_linear_head *h) {
    const size_t n = s->d->head_size, wide = s->wide;
    moi_linear_begin(s, h, 0);
    for (size_t at = 0; at < s->d->seq; at += s->rows) {
        moi_linear_load(s, h, at);
        moi_linear_gemm(s, s->rows, n, wide, moi_view(s->u, wide, 1), moi_view(s->state, 1, wide),
            0.0f, s->part, n);
        if (!s->d->full) {
            moi_linear_weights(s, s->u, s->v, wide, s->uv);
            moi_linear_gemm(s, s->rows, n, s->rows, moi_view(s->uv, s->rows, 1),
                moi_view(s->fk, n, 1), 1.0f, s->part, n);
            moi_linear_add(s, s->fk, s->v);
        }
        moi_linear_store(s, s->fq, h->dq, at);
    }
}

/* From the back, with the sum R of f(q)^T u over those who see the position: the gradient of f(k)
 * is R v, that of v is f(k) R. */
static void moi_linear_backward_kv(moi_linear_scratch *s, const moi_linear_head *h) {
    const size_t n = s->d->head_size, wide = s->wide, stride = s->d->stride;
    const size_t chunk = moi_linear_chunk(s->d);
    moi_linear_begin(s, h, 1);
    for (size_t left = moi_ceil_div(s->d->seq, chunk); left > 0; left--) {
        const size_t at = (left - 1) * chunk;
        float *dv = h->dv + at * stride;
        moi_linear_load(s, h, at);
        moi_linear_gemm(s, s->rows, n, wide, moi_view(s->v, wide, 1), moi_view(s->state, 1, wide),
            0.0f, s->part, n);
        moi_linear_gemm(
            s, s->rows, n, n, moi_view(s->fk, n, 1), moi_view(s->state, wide, 1), 0.0f, dv, stride);
        if (!s->d->full) {
            moi_linear_weights(s, s->u, s->v, wide, s->uv);
            moi_linear_weights(s, s->fq, s->fk, n, s->qk);
            moi_linear_gemm(s, s->rows, n, s->rows, moi_view(s->uv, 1, s->rows),
                moi_view(s->fq, n, 1), 1.0f, s->part, n);
            moi_linear_gemm(s, s->rows, n, s->rows, moi_view(s->qk, 1, s->rows),
                moi_view(s->u, wide, 1), 1.0f, dv, stride);
            moi_linear_add(s, s->fq, s->u);
        }
        moi_linear_store(s, s->fk, h->dk, at);
    }
}

/* Part i takes every n_parts-th head, so that it has a scratch of its own. */
static void moi_linear_task(void *context, int i) {
    const moi_linear_job *job = (const moi_linear_job *)context;
    moi_linear_scratch s = moi_linear_scratch_of(&job->d, i);
    for (size_t at = (size_t)i; at < job->d.batch * job->d.heads; at += (size_t)job->n_parts) {
        const moi_linear_head h = moi_linear_head_of(job, at);
        if (!job->backward) {
            moi_linear_forward_head(&s, &h);
        } else {
            moi_linear_backward_q(&s, &h);
            moi_linear_backward_kv(&s, &h);
        }
    }
}

size_t mo_linear_attention_workspace_size(const mo_linear_attention_desc *desc) {
    size_t bytes;
    if (!desc || !moi_mul(moi_linear_floats(desc), sizeof(float), &bytes)) return 0;
    return moi_mul(bytes, moi_attention_parts(desc->parallel, desc->batch, desc->heads), &bytes)
        ? bytes
        : 0;
}

static mo_status moi_linear_defaults(mo_linear_attention_desc *d) {
    size_t channels, n;
    if (d->batch == 0 || d->seq == 0 || d->heads == 0 || d->head_size == 0) return MO_E_INVALID;
    if (!(d->epsilon >= 0.0f)) return MO_E_INVALID;
    if (d->epsilon == 0.0f) d->epsilon = 1e-6f;
    if (!moi_mul(d->heads, d->head_size, &channels)) return MO_E_OVERFLOW;
    if (d->stride == 0) d->stride = channels;
    if (d->stride < channels) return MO_E_INVALID;
    if (!moi_mul(d->batch, d->seq, &n) || !moi_mul(n, d->stride, &n) ||
        !moi_mul(d->batch, d->heads, &n) || moi_linear_floats(d) == 0)
        return MO_E_OVERFLOW;
    return MO_OK;
}

static mo_status moi_linear_run(
    const mo_linear_attention_desc *desc, const mo_linear_attention_tensors *t, int backward) {
    if (!desc || !t || !t->q || !t->k || !t->v || !t->out || !t->norm) return MO_E_INVALID;
    if (backward && (!t->dout || !t->dq || !t->dk || !t->dv)) return MO_E_INVALID;
    moi_linear_job job;
    job.d = *desc;
    job.t = *t;
    job.backward = backward;
    const mo_status status = moi_linear_defaults(&job.d);
    if (status != MO_OK) return status;
    /* fewer threads where the workspace was sized for fewer: the result is the same */
    const size_t part = moi_linear_floats(desc) * sizeof(float);
    const size_t room = desc->workspace ? desc->workspace_size / part : 0;
    if (room == 0) return MO_E_NO_SPACE;
    job.n_parts = (int)moi_min(room, moi_attention_parts(desc->parallel, desc->batch, desc->heads));
    mo_parallel_run(desc->parallel, job.n_parts, moi_linear_task, &job);
    return MO_OK;
}

mo_status mo_linear_attention_forward(
    const mo_linear_attention_desc *desc, const mo_linear_attention_tensors *tensors) {
    return moi_linear_run(desc, tensors, 0);
}

mo_status mo_linear_attention_backward(
    const mo_linear_attention_desc *desc, const mo_linear_attention_tensors *tensors) {
    return moi_linear_run(desc, tensors, 1);
}
