/* mo_optim_low.c - see mo_optim_low.h. The numbers that stand for a channel are those of a small
 * tensor, whose gradient is r: AdamW's own step keeps its states and makes u of it. */

#define MOI_ISA scalar
#include "mo_optim_low.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_optim_low.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_optim_low.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_optim_low.inc"
#undef MOI_ISA
#endif

/* numbers: the states by themselves, of AdamW; seed: of the signs. */
typedef struct moi_low_job {
    const moi_optim_job *optim;
    const mo_optim_desc *d;
    mo_optim_desc adam;
    mo_optim_state numbers;
    moi_low_shape shape;
    uint64_t t, seed;
    float scale, keep, step;
    float *extra;
    size_t chunk_tiles;
} moi_low_job;

/* Numbers of all channels of a tile at a time. */
enum { moi_low_piece = 64, moi_low_most = moi_low_lanes * moi_low_most_rank };
/* Channels of a chunk: as many as there are numbers, where the rank is 1. */
enum { moi_low_most_squares = moi_q8_max_block };

/* ---- random signs ---------------------------------------------------------------------------- */

static uint32_t moi_low_word(uint64_t seed, uint64_t index) {
    return moi_random_mix((uint32_t)index ^ moi_random_key(seed, index >> 32));
}

static void moi_low_fill_words(const moi_low_job *job, size_t begin, size_t n, uint32_t *words) {
    const size_t n_words = moi_low_words(job->shape.rank);
    for (size_t i = 0; i < n * n_words; i++)
        words[i] = moi_low_word(job->seed, (uint64_t)begin * n_words + i);
}

/* ---- the numbers of a tile ------------------------------------------------------------------- */

static size_t moi_low_count(const moi_low_shape *s, size_t tile) {
    return moi_min(s->large - tile * moi_low_lanes, moi_low_lanes);
}

/* Numbers begin..begin + n - 1 of the gradient's channels, rows of 16. */
static void moi_low_gather(const moi_low_job *job, size_t tile, size_t begin, size_t n, float *to) {
    const moi_low_shape *s = &job->shape;
    const size_t count = moi_low_count(s, tile);
    const float *from =
        job->optim->grad + tile * moi_low_lanes * s->channel_step + begin * s->number_step;
    if (count < moi_low_lanes) memset(to, 0, n * moi_low_lanes * sizeof *to);
    if (s->channel_step == 1)
        for (size_t i = 0; i < n; i++)
            memcpy(to + i * moi_low_lanes, from + i * s->number_step, count * sizeof *to);
    else
        for (size_t c = 0; c < count; c++)
            for (size_t i = 0; i < n; i++)
                to[i * moi_low_lanes + c] = from[c * s->channel_step + i];
}

/* r of a tile, and the squares of its channels' gradients. */
static void moi_low_project(const moi_low_job *job, size_t tile, float *r, float *squares) {
    const moi_low_shape *s = &job->shape;
    float x[moi_low_piece * moi_low_lanes];
    uint32_t words[moi_low_piece * moi_low_most_rank / 32];
    memset(r, 0, s->rank * moi_low_lanes * sizeof *r);
    memset(squares, 0, moi_low_lanes * sizeof *squares);
    for (size_t at = 0; at < s->small; at += moi_low_piece) {
        const size_t n = moi_min(moi_low_piece, s->small - at);
        moi_low_gather(job, tile, at, n, x);
        for (size_t i = 0; i < n * moi_low_lanes; i++) squares[i % moi_low_lanes] += x[i] * x[i];
        if (job->d->kind == MO_OPTIM_GALORE) {
            MOI_DISPATCH(moi_low_add, (job->extra + at * s->rank, s->rank, x, n, r));
        } else {
            moi_low_fill_words(job, at, n, words);
            MOI_DISPATCH(moi_low_add_signed, (words, s->rank, x, n, r));
        }
    }
    for (size_t i = 0; i < s->rank * moi_low_lanes; i++) r[i] *= job->scale;
}

/* APOLLO kinds: what is kept of the channels of a tile. */
static void moi_low_measure(
    const moi_low_job *job, size_t tile, const float *r, const float *u, const float *squares) {
    const moi_low_shape *s = &job->shape;
    float *first = job->extra + moi_low_factors + tile * moi_low_lanes;
    float *second = job->extra + moi_low_lengths(s) + tile * moi_low_lanes;
    for (size_t c = 0; c < moi_low_lanes; c++) {
        float uu = 0, rr = 0;
        for (size_t k = c; k < s->rank * moi_low_lanes; k += moi_low_lanes) {
            uu += u[k] * u[k];
            rr += r[k] * r[k];
        }
        first[c] = sqrtf(uu);
        second[c] = sqrtf(rr);
        if (job->d->kind == MO_OPTIM_APOLLO_MINI) continue;
        first[c] = rr > 0.0f ? first[c] / second[c] : 0.0f;
        second[c] = first[c] * (sqrtf(squares[c]) * (float)fabs(job->d->grad_scale));
    }
}

/* p = p keep - step y, for neighbours from number at on; n is at most a piece. */
static void moi_low_move(const moi_low_job *job, size_t at, size_t n, const float *y) {
    float buffer[moi_low_piece];
    float *p = MOI_CAT(moi_slot_load, scalar)(&job->optim->param, at, n, buffer);
    for (size_t i = 0; i < n; i++) p[i] = p[i] * job->keep - job->step * y[i];
    MOI_CAT(moi_slot_store, scalar)(&job->optim->param, at, n, p);
}

/* GALORE: u back in the space of the gradient. */
static void moi_low_back(const moi_low_job *job, size_t tile, const float *u) {
    const moi_low_shape *s = &job->shape;
    const size_t count = moi_low_count(s, tile), channel = tile * moi_low_lanes;
    float y[moi_low_piece * moi_low_lanes], line[moi_low_piece];
    for (size_t at = 0; at < s->small; at += moi_low_piece) {
        const size_t n = moi_min(moi_low_piece, s->small - at);
        MOI_DISPATCH(moi_low_expand, (job->extra + at * s->rank, s->rank, u, n, y));
        if (s->channel_step == 1) {
            for (size_t i = 0; i < n; i++)
                moi_low_move(
                    job, (at + i) * s->number_step + channel, count, y + i * moi_low_lanes);
            continue;
        }
        for (size_t c = 0; c < count; c++) {
            for (size_t i = 0; i < n; i++) line[i] = y[i * moi_low_lanes + c];
            moi_low_move(job, (channel + c) * s->channel_step + at, n, line);
        }
    }
}

/* Rows are chunks of tiles: whole blocks of the states. */
static void moi_low_chunks(const void *context, size_t begin, size_t end) {
    const moi_low_job *job = (const moi_low_job *)context;
    const size_t tile = job->shape.rank * moi_low_lanes;
    float r[moi_low_most], u[moi_low_most], squares[moi_low_most_squares];
    for (; begin < end; begin++) {
        const size_t first = begin * job->chunk_tiles;
        const size_t n = moi_min(job->chunk_tiles, job->shape.tiles - first);
        mo_optim_state part;
        for (size_t i = 0; i < n; i++)
            moi_low_project(job, first + i, r + i * tile, squares + i * moi_low_lanes);
        memset(u, 0, n * tile * sizeof *u);
        mo_status status = mo_optim_state_slice(&job->numbers, first * tile, n * tile, &part);
        if (status == MO_OK) status = mo_optim_step(&job->adam, job->t, u, r, &part);
        MEMOPT_ASSERT(status == MO_OK);
        (void)status;
        for (size_t i = 0; i < n; i++)
            if (job->d->kind == MO_OPTIM_GALORE) moi_low_back(job, first + i, u + i * tile);
            else
                moi_low_measure(
                    job, first + i, r + i * tile, u + i * tile, squares + i * moi_low_lanes);
    }
}

/* ---- APOLLO ---------------------------------------------------------------------------------- */

/* Rows are pieces of the tensor. */
static void moi_low_scaled(const void *context, size_t begin, size_t end) {
    const moi_low_job *job = (const moi_low_job *)context;
    const moi_low_shape *s = &job->shape;
    const size_t columns = job->optim->state->columns, all = job->optim->n;
    const float *factors = job->extra + moi_low_factors;
    float y[moi_low_piece], buffer[moi_low_piece];
    for (; begin < end; begin++) {
        const size_t at = begin * moi_low_piece, n = moi_min(moi_low_piece, all - at);
        float *p = MOI_CAT(moi_slot_load, scalar)(&job->optim->param, at, n, buffer);
        for (size_t i = 0; i < n; i++) y[i] = job->step;
        for (size_t i = 0; i < n && job->d->kind == MO_OPTIM_APOLLO; i++)
            y[i] *= factors[s->channel_step == 1 ? (at + i) % columns : (at + i) / columns];
        for (size_t i = 0; i < n; i++) p[i] = p[i] * job->keep - y[i] * job->optim->grad[at + i];
        MOI_CAT(moi_slot_store, scalar)(&job->optim->param, at, n, p);
    }
}

static void moi_low_apollo(moi_low_job *job, double squares) {
    const size_t n = job->shape.tiles * moi_low_lanes;
    const mo_parallel *parallel = job->d->parallel;
    const double first = mo_accum_square_sum(job->extra + moi_low_factors, n, parallel);
    const double second =
        mo_accum_square_sum(job->extra + moi_low_lengths(&job->shape), n, parallel);
    job->step = moi_low_step_of(job->d, first, second, squares, job->extra);
    mo_parallel_for(parallel, moi_ceil_div(job->optim->n, moi_low_piece), 64, moi_low_scaled, job);
}

/* ---- GALORE's directions --------------------------------------------------------------------- */

/* out [n_out][out_ld] = scale grad in, where grad[a out_step + b in_step] is element (a, b); width
 * columns. */
typedef struct moi_low_product {
    const float *grad, *in;
    float *out, scale;
    size_t out_step, in_step, n_out, n_in, in_ld, out_ld, width;
} moi_low_product;

/* Rows are 16 rows of out. */
static void moi_low_multiply(const void *context, size_t begin, size_t end) {
    const moi_low_product *x = (const moi_low_product *)context;
    for (; begin < end; begin++) {
        const size_t first = begin * moi_low_lanes;
        const size_t count = moi_min(x->n_out - first, moi_low_lanes);
        float sum[moi_low_lanes][moi_low_wide], line[moi_low_wide] = {0};
        memset(sum, 0, sizeof sum);
        for (size_t b = 0; b < x->n_in; b++) {
            const float *g = x->grad + first * x->out_step + b * x->in_step;
            memcpy(line, x->in + b * x->in_ld, x->width * sizeof *line);
            for (size_t a = 0; a < count; a++)
                for (size_t j = 0; j < moi_low_wide; j++) sum[a][j] += g[a * x->out_step] * line[j];
        }
        for (size_t a = 0; a < count; a++)
            for (size_t j = 0; j < x->width; j++)
                x->out[(first + a) * x->out_ld + j] = sum[a][j] * x->scale;
    }
}

/* width columns of the directions, from k on, become G G^T times them. */
static void moi_low_power_columns(const moi_low_job *job, size_t k, size_t width, float scale) {
    const moi_low_shape *s = &job->shape;
    const mo_parallel *parallel = job->d->parallel;
    const size_t ld = moi_low_width(s);
    float *q = job->extra + k, *wide = job->extra + moi_low_channels(s);
    const moi_low_product there = {job->optim->grad, q, wide, scale, s->channel_step,
        s->number_step, s->large, s->small, s->rank, ld, width};
    const moi_low_product back = {job->optim->grad, wide, q, scale, s->number_step, s->channel_step,
        s->small, s->large, ld, s->rank, width};
    mo_parallel_for(parallel, moi_ceil_div(s->large, moi_low_lanes), 1, moi_low_multiply, &there);
    mo_parallel_for(parallel, moi_ceil_div(s->small, moi_low_lanes), 1, moi_low_multiply, &back);
}

/* Gram and Schmidt, the modified way: columns become orthonormal. One that is nothing becomes a
 * unit vector. */
static void moi_low_orthonormal(float *q, size_t small, size_t rank) {
    float dot[moi_low_most_rank];
    for (size_t k = 0; k < rank; k++) {
        memset(dot, 0, sizeof dot);
        for (size_t i = 0; i < small; i++)
            for (size_t l = k; l < rank; l++) dot[l] += q[i * rank + k] * q[i * rank + l];
        const int usable = dot[k] > 1e-30f;
        const float inverse = usable ? 1.0f / sqrtf(dot[k]) : 1.0f;
        for (size_t l = k + 1; l < rank; l++) dot[l] = usable ? dot[l] * inverse : q[k * rank + l];
        for (size_t i = 0; i < small; i++) {
            const float unit = usable ? q[i * rank + k] * inverse : i == k ? 1.0f : 0.0f;
            q[i * rank + k] = unit;
            for (size_t l = k + 1; l < rank; l++) q[i * rank + l] -= dot[l] * unit;
        }
    }
}

/* Subspace iteration from random signs: what a step finds does not depend on the steps before. */
static void moi_low_find_directions(const moi_low_job *job, double squares) {
    const moi_low_shape *s = &job->shape;
    const size_t n_words = moi_low_words(s->rank);
    const float scale = moi_low_power_scale(squares);
    for (size_t i = 0; i < s->small; i++)
        for (size_t k = 0; k < s->rank; k++) {
            const uint32_t word = moi_low_word(job->seed, (uint64_t)i * n_words + k / 32);
            job->extra[i * s->rank + k] = word >> k % 32 & 1 ? -1.0f : 1.0f;
        }
    for (int round = 0; round < moi_low_rounds; round++) {
        for (size_t k = 0; k < s->rank; k += moi_low_wide)
            moi_low_power_columns(job, k, moi_min(moi_low_wide, s->rank - k), scale);
        for (int i = 0; i < 2; i++) moi_low_orthonormal(job->extra, s->small, s->rank);
    }
}

/* ---- the step -------------------------------------------------------------------------------- */

static void moi_low_run(
    const moi_optim_job *optim, const mo_optim_desc *d, uint64_t t, double squares) {
    const mo_optim_state *s = optim->state;
    moi_low_job job;
    job.optim = optim;
    job.d = d;
    job.adam = moi_low_adam(d, s->precision, s->block);
    job.adam.parallel = &moi_serial;
    job.numbers = *s;
    job.numbers.n = s->n_states;
    job.numbers.extra = job.numbers.master = NULL;
    job.numbers.rank = job.numbers.n_extra = 0;
    job.shape = moi_low_shape_of(s->n, s->columns, s->rank);
    job.t = t;
    job.seed = moi_low_seed(d, t);
    job.scale = moi_low_scale(d, s->rank);
    job.keep = (float)(1 - d->lr * d->weight_decay);
    job.step = (float)(d->lr * d->alpha);
    job.extra = s->extra;
    job.chunk_tiles = moi_low_chunk_tiles(&job.shape, s->precision, s->block);
    if (d->kind == MO_OPTIM_GALORE && moi_low_is_due(d, t)) moi_low_find_directions(&job, squares);
    const size_t n_chunks = moi_ceil_div(job.shape.tiles, job.chunk_tiles);
    mo_parallel_for(d->parallel, n_chunks, 1, moi_low_chunks, &job);
    if (d->kind != MO_OPTIM_GALORE) moi_low_apollo(&job, squares);
}
