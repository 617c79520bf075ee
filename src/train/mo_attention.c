/* mo_attention.c - see mo_attention.h. Queries go in tiles of moi_attention_rows, keys in blocks of
 * moi_attention_keys: blocks as long as a short sequence, so that the running softmax of the papers
 * rescales nothing there. The products are mo_gemm's serial ones on strided views. */

enum { moi_attention_rows = 64, moi_attention_keys = 512 };

/* A tile of scores: rows queries from query on, against keys keys from key on. */
typedef struct moi_attention_tile {
    const mo_attention_desc *d; /* with its defaults */
    size_t query, rows, key, keys;
    size_t n;     /* tiles of these queries so far, this one included */
    uint64_t row; /* number of the first query among those of all heads, for its random bits */
    size_t out_stride;
    float *scores;     /* [rows x keys] */
    float *most, *sum; /* [rows], running over the key blocks */
    float *out;        /* rows of out_stride */
} moi_attention_tile;

/* Positions from begin to end. */
typedef struct moi_attention_range {
    size_t begin, end;
} moi_attention_range;

/* What position at sees by order and window. */
static moi_attention_range moi_attention_sees(const mo_attention_desc *d, size_t at) {
    moi_attention_range r;
    r.begin = at < d->window ? 0 : at + 1 - d->window;
    r.end = d->full ? moi_min(d->seq, at + d->window) : at + 1;
    return r;
}

/* Which of the tile's keys row r sees: blocks are those of whole tiles. */
static moi_attention_range moi_attention_valid(const moi_attention_tile *t, size_t r) {
    moi_attention_range keys = moi_attention_sees(t->d, t->query + r);
    keys.end = keys.end <= t->key ? 0 : moi_min(keys.end - t->key, t->keys);
    keys.begin = keys.begin <= t->key ? 0 : moi_min(keys.begin - t->key, keys.end);
    return keys;
}

/* The random bits of row r of the tile, and what is done with them. */
typedef struct moi_attention_noise {
    uint32_t key, first; /* key j of the tile has the bits of index first + j */
    uint32_t dropped;    /* below it, a probability becomes 0 */
    float scale;         /* of the others */
} moi_attention_noise;

static moi_attention_noise moi_attention_noise_of(const moi_attention_tile *t, size_t r) {
    moi_attention_noise noise;
    noise.key = moi_random_key(t->d->seed, t->row + r);
    noise.first = (uint32_t)t->key;
    noise.dropped = (uint32_t)((double)t->d->dropout * 4294967296.0);
    noise.scale = 1.0f / (1.0f - t->d->dropout);
    return noise;
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
static size_t moi_attention_parts(const mo_parallel *parallel, size_t batch, size_t heads) {
    size_t n, threads = (size_t)mo_parallel_threads(parallel);
    if (!moi_mul(batch, heads, &n)) return threads;
    return moi_max(1, moi_min(threads, n));
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
    uint64_t row; /* number of its first query */
} moi_attention_head;

static moi_attention_head moi_attention_head_of(const moi_attention_job *job, size_t i) {
    const mo_attention_desc *d = &job->d;
    const mo_attention_tensors *t = &job->t;
    const size_t sequence = i / d->heads, head = i % d->heads;
    const size_t kv_head = head / (d->heads / d->kv_heads);
    const size_t in = sequence * d->seq * d->stride + head * d->head_size;
    const size_t kv = sequence * d->seq * d->kv_stride + kv_head * d->head_size;
    const size_t out = sequence * d->seq * d->heads * d->head_size + head * d->head_size;
    moi_attention_head h;
    h.q = t->q + in;
    h.k = t->k + kv;
    h.v = t->v + kv;
    h.out = t->out + out;
    h.lse = t->lse + i * d->seq;
    h.dout = job->backward ? t->dout + out : NULL;
    h.dq = job->backward ? t->dq + in : NULL;
    h.dk = job->backward ? t->dk + kv : NULL;
    h.dv = job->backward ? t->dv + kv : NULL;
    h.row = d->offset + (uint64_t)i * d->seq;
    return h;
}

static moi_attention_tile moi_attention_tile_of(const mo_attention_desc *d,
    const moi_attention_scratch *s, const moi_attention_head *h, size_t query) {
    moi_attention_tile t;
    t.d = d;
    t.query = query;
    t.rows = moi_min(moi_attention_rows, d->seq - query);
    t.key = moi_attention_sees(d, query).begin;
    t.keys = t.n = 0;
    t.row = h->row + query;
    t.out_stride = d->heads * d->head_size;
    t.scores = s->scores;
    t.most = s->most;
    t.sum = s->sum;
    t.out = h->out + query * t.out_stride;
    return t;
}

/* Where the block of keys that holds key ends, when the tile's queries see it; else key. */
static size_t moi_attention_block_end(const moi_attention_tile *t, size_t key) {
    const mo_attention_desc *d = t->d;
    const size_t n = moi_ceil_div(d->seq, d->block);
    if (d->blocks && !d->blocks[t->query / d->block * n + key / d->block]) return key;
    return (key / d->block + 1) * d->block;
}

/* Moves the tile to the next keys, all of blocks that its queries see; 0 at the end. */
static int moi_attention_next(moi_attention_tile *t) {
    const mo_attention_desc *d = t->d;
    const size_t end = moi_attention_sees(d, t->query + t->rows - 1).end;
    size_t key = t->key + t->keys;
    while (key < end && moi_attention_block_end(t, key) == key)
        key = (key / d->block + 1) * d->block;
    if (key >= end) return 0;
    const size_t most = moi_min(end - key, moi_attention_keys);
    size_t stop = moi_attention_block_end(t, key);
    while (stop < key + most && moi_attention_block_end(t, stop) != stop)
        stop = moi_attention_block_end(t, stop);
    t->key = key;
    t->keys = moi_min(stop - key, most);
    t->n++;
    return 1;
}

/* x = 0 where no tile has written the rows of its queries. */
static void moi_attention_unseen(const moi_attention_tile *t, float *x, size_t stride) {
    for (size_t r = 0; t->n == 0 && r < t->rows; r++)
        memset(x + r * stride, 0, t->d->head_size * sizeof *x);
}

/* scores = scale q k^T of the tile */
static void moi_attention_scores(
    const moi_attention_tile *t, const moi_attention_head *h, float *gemm) {
    const mo_attention_desc *d = t->d;
    moi_gemm_serial(t->rows, t->keys, d->head_size, d->scale,
        moi_view(h->q + t->query * d->stride, d->stride, 1),
        moi_view(h->k + t->key * d->kv_stride, 1, d->kv_stride), 0.0f, t->scores, t->keys, gemm);
}

static void moi_attention_forward_head(
    const mo_attention_desc *d, const moi_attention_scratch *s, const moi_attention_head *h) {
    for (size_t query = 0; query < d->seq; query += moi_attention_rows) {
        moi_attention_tile t = moi_attention_tile_of(d, s, h, query);
        memset(t.sum, 0, t.rows * sizeof(float));
        while (moi_attention_next(&t)) {
            moi_attention_scores(&t, h, s->gemm);
            MOI_DISPATCH(moi_attention_softmax, (&t));
            moi_gemm_serial(t.rows, d->head_size, t.keys, 1.0f, moi_view(t.scores, t.keys, 1),
                moi_view(h->v + t.key * d->kv_stride, d->kv_stride, 1), t.n == 1 ? 0.0f : 1.0f,
                t.out, t.out_stride, s->gemm);
        }
        moi_attention_unseen(&t, t.out, t.out_stride);
        MOI_DISPATCH(moi_attention_normalize, (&t, h->lse + query));
    }
}

/* The products of one tile in backward; scores hold p, dscores ds. */
static void moi_attention_backward_tile(const mo_attention_desc *d, const moi_attention_tile *t,
    const moi_attention_head *h, const moi_attention_scratch *s) {
    const float *dout = h->dout + t->query * t->out_stride;
    const size_t key = t->key * d->kv_stride, query = t->query * d->stride;
    moi_attention_scores(t, h, s->gemm);
    moi_gemm_serial(t->rows, t->keys, d->head_size, 1.0f, moi_view(dout, t->out_stride, 1),
        moi_view(h->v + key, 1, d->kv_stride), 0.0f, s->dscores, t->keys, s->gemm);
    MOI_DISPATCH(moi_attention_softmax_backward, (t, s->dscores, h->lse + t->query, s->sum));
    moi_gemm_serial(t->keys, d->head_size, t->rows, 1.0f, moi_view(t->scores, 1, t->keys),
        moi_view(dout, t->out_stride, 1), 1.0f, h->dv + key, d->kv_stride, s->gemm);
    moi_gemm_serial(t->keys, d->head_size, t->rows, 1.0f, moi_view(s->dscores, 1, t->keys),
        moi_view(h->q + query, d->stride, 1), 1.0f, h->dk + key, d->kv_stride, s->gemm);
    moi_gemm_serial(t->rows, d->head_size, t->keys, 1.0f, moi_view(s->dscores, t->keys, 1),
        moi_view(h->k + key, d->kv_stride, 1), t->n == 1 ? 0.0f : 1.0f, h->dq + query, d->stride,
        s->gemm);
}

static void moi_attention_backward_head(
    const mo_attention_desc *d, const moi_attention_scratch *s, const moi_attention_head *h) {
    for (size_t query = 0; query < d->seq; query += moi_attention_rows) {
        moi_attention_tile t = moi_attention_tile_of(d, s, h, query);
        MOI_DISPATCH(moi_attention_delta, (&t, h->dout + query * t.out_stride, s->sum));
        while (moi_attention_next(&t)) moi_attention_backward_tile(d, &t, h, s);
        moi_attention_unseen(&t, h->dq + query * d->stride, d->stride);
    }
}

/* The heads that share head kv of k and v, one after the other: dk and dv are sums over them. */
static void moi_attention_backward_group(
    const moi_attention_job *job, const moi_attention_scratch *s, size_t kv) {
    const mo_attention_desc *d = &job->d;
    const size_t heads = d->heads / d->kv_heads;
    for (size_t i = 0; i < heads; i++) {
        const moi_attention_head h = moi_attention_head_of(job, kv * heads + i);
        for (size_t at = 0; i == 0 && at < d->seq; at++) {
            memset(h.dk + at * d->kv_stride, 0, d->head_size * sizeof(float));
            memset(h.dv + at * d->kv_stride, 0, d->head_size * sizeof(float));
        }
        moi_attention_backward_head(d, s, &h);
    }
}

/* Part i takes every n_parts-th head, so that it has a scratch of its own. */
static void moi_attention_task(void *context, int i) {
    const moi_attention_job *job = (const moi_attention_job *)context;
    const mo_attention_desc *d = &job->d;
    const moi_attention_scratch s = moi_attention_scratch_of(d, i);
    const size_t n = d->batch * (job->backward ? d->kv_heads : d->heads);
    for (size_t at = (size_t)i; at < n; at += (size_t)job->n_parts) {
        if (job->backward) {
            moi_attention_backward_group(job, &s, at);
        } else {
            const moi_attention_head h = moi_attention_head_of(job, at);
            moi_attention_forward_head(d, &s, &h);
        }
    }
}

size_t mo_attention_workspace_size(const mo_attention_desc *desc) {
    size_t bytes;
    if (!desc || desc->head_size > SIZE_MAX / 65536) return 0;
    if (!moi_mul(moi_attention_floats(desc), sizeof(float), &bytes)) return 0;
    return moi_mul(bytes, moi_attention_parts(desc->parallel, desc->batch, desc->heads), &bytes)
        ? bytes
        : 0;
}

/* Puts the defaults in; sizes that go together, and fit. */
static mo_status moi_attention_defaults(mo_attention_desc *d) {
    size_t channels, kv_channels, n;
    if (d->batch == 0 || d->seq == 0 || d->heads == 0 || d->head_size == 0) return MO_E_INVALID;
    if (d->kv_heads == 0) d->kv_heads = d->heads;
    if (d->heads % d->kv_heads != 0 || d->block % 64 != 0) return MO_E_INVALID;
    if (!(d->dropout >= 0.0f && d->dropout < 1.0f)) return MO_E_INVALID;
    if (!moi_mul(d->heads, d->head_size, &channels)) return MO_E_OVERFLOW;
    kv_channels = d->kv_heads * d->head_size;
    if (d->kv_stride == 0) d->kv_stride = d->stride == 0 ? kv_channels : d->stride;
    if (d->stride == 0) d->stride = channels;
    if (d->stride < channels || d->kv_stride < kv_channels) return MO_E_INVALID;
    if (!moi_mul(d->batch, d->seq, &n) || !moi_mul(n, moi_max(d->stride, d->kv_stride), &n) ||
        !moi_mul(d->batch, d->heads, &n))
        return MO_E_OVERFLOW;
    if (d->scale == 0.0f) d->scale = 1.0f / sqrtf((float)d->head_size);
    if (d->window == 0 || d->window > d->seq) d->window = d->seq;
    if (d->block == 0) d->block = 64;
    if (!d->blocks || d->block > d->seq) d->block = moi_ceil_div(d->seq, 64) * 64;
    return MO_OK;
}

static mo_status moi_attention_run(
    const mo_attention_desc *desc, const mo_attention_tensors *tensors, int backward) {
    if (!desc || !tensors || !tensors->q || !tensors->k || !tensors->v || !tensors->out ||
        !tensors->lse)
        return MO_E_INVALID;
    if (backward && (!tensors->dout || !tensors->dq || !tensors->dk || !tensors->dv))
        return MO_E_INVALID;
    moi_attention_job job;
    job.d = *desc;
    job.t = *tensors;
    job.backward = backward;
    const mo_status status = moi_attention_defaults(&job.d);
    if (status != MO_OK) return status;
    /* fewer threads where the workspace was sized for fewer: the result is the same */
    const size_t part = moi_attention_floats(desc) * sizeof(float);
    const size_t room = desc->workspace ? desc->workspace_size / part : 0;
    if (room == 0 || mo_attention_workspace_size(desc) == 0) return MO_E_NO_SPACE;
    job.n_parts = (int)moi_min(room, moi_attention_parts(desc->parallel, desc->batch, desc->heads));
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
