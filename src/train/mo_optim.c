/* mo_optim.c - see mo_optim.h. A tensor goes through in chunks: states and parameters are decoded
 * into buffers in the first level cache, updated in fp32, and encoded again; what is fp32 already
 * is updated where it is. */

/* Rows of one chunk. */
typedef struct moi_optim_arrays {
    const float *g;
    float *p, *m, *slow, *v;
} moi_optim_arrays;

enum { moi_optim_chunk_size = moi_q8_max_block };
typedef struct moi_optim_buffers {
    float p[moi_optim_chunk_size], m[moi_optim_chunk_size];
    float slow[moi_optim_chunk_size], v[moi_optim_chunk_size];
} moi_optim_buffers;

/* Of the one loop that 8-bit and 4-bit AdamW have for themselves. */
enum { moi_packed_max = 2048 };
typedef struct moi_packed_buffer {
    float m[moi_packed_max], v[moi_packed_max], roots[moi_packed_max];
} moi_packed_buffer;

/* Where one state, or the parameters, are and how they are coded. */
typedef struct moi_optim_slot {
    void *data; /* NULL: the kind has none */
    float *absmax;
    mo_optim_precision precision;
    size_t block, offset;
    const moi_q8_coder *q8;
    const moi_q4_coder *q4;
    uint64_t seed;
    int may_root; /* v: a block may hold square roots; a negative scale says so */
} moi_optim_slot;

typedef struct moi_optim_job {
    mo_optim_kind kind;
    moi_optim_factors factors;
    moi_optim_slot param, m, slow, v;
    uint16_t *rounded; /* bf16 parameters beside a master copy */
    const float *grad;
    const mo_optim_state *state;
    size_t chunk, n;
    int measure;
    double (*sums)[2]; /* [moi_accum_parts] of a measuring pass */
} moi_optim_job;

/* bf16 by stochastic rounding; index is that of x[0] in the tensor. */
static void moi_optim_dither(const float *x, uint16_t *y, size_t n, uint64_t seed, uint64_t index) {
    mo_half_desc d;
    memset(&d, 0, sizeof d);
    d.format = MO_HALF_BF16;
    d.stochastic = d.saturate = 1;
    d.seed = seed;
    d.offset = index;
    d.parallel = &moi_serial;
    const mo_status status = mo_half_encode(&d, x, n, y);
    MEMOPT_ASSERT(status == MO_OK);
    (void)status;
}

/* A measuring pass must not change what is updated in place. */
static float *moi_optim_keep(float *x, float *buffer, size_t n) {
    if (!x || x == buffer) return x;
    memcpy(buffer, x, n * sizeof *x);
    return buffer;
}

/* Whether a block of v, whose values other than 0 go from least to most, is kept as square roots:
 * in 4 bits, and where it differs by more than 1000 times. */
static int moi_optim_takes_roots(const moi_optim_slot *s, float least, float most) {
    return s->may_root && (s->precision == MO_OPTIM_4BIT || least < most * 1e-3f);
}

/* ADAM_MINI: sqrt(v / k2) + eps of the row that each number is in. */
static void moi_optim_row_scales(const moi_optim_job *job, size_t begin, size_t n, float *scale) {
    const mo_optim_state *s = job->state;
    for (size_t i = 0; i < n; i++)
        scale[i] =
            sqrtf(s->row[(begin + i) / s->columns]) * job->factors.debias + job->factors.epsilon;
}

#define MOI_ISA scalar
#include "mo_optim.inc"
#undef MOI_ISA
#if MOI_X86
#define MOI_ISA avx2
#include "mo_optim.inc"
#undef MOI_ISA
#define MOI_ISA avx512
#include "mo_optim.inc"
#undef MOI_ISA
#endif
#if MOI_NEON
#define MOI_ISA neon
#include "mo_optim.inc"
#undef MOI_ISA
#endif

/* ---- states ---------------------------------------------------------------------------------- */

static double moi_optim_default_epsilon(mo_optim_kind kind) {
    if (kind == MO_OPTIM_ADAGRAD) return 1e-10;
    if (kind == MO_OPTIM_ADAFACTOR) return 1e-30;
    return kind == MO_OPTIM_LAMB ? 1e-6 : 1e-8;
}

static double moi_optim_default_alpha(mo_optim_kind kind) {
    if (kind == MO_OPTIM_APOLLO) return 1;
    if (kind == MO_OPTIM_APOLLO_MINI) return sqrt(128.0);
    return kind == MO_OPTIM_GALORE ? 0.25 : 5;
}

static double moi_optim_default_trust(mo_optim_kind kind) {
    if (kind == MO_OPTIM_APOLLO || kind == MO_OPTIM_APOLLO_MINI) return 1.01;
    return kind == MO_OPTIM_LARS ? 0.001 : 1;
}

mo_optim_desc mo_optim_desc_defaults(const mo_optim_desc *desc) {
    mo_optim_desc d = *desc;
    const int momentum = d.kind == MO_OPTIM_SGD || d.kind == MO_OPTIM_LARS;
    const int fast = d.kind == MO_OPTIM_LION || d.kind == MO_OPTIM_RMSPROP;
    if (d.beta1 == 0 && !momentum) d.beta1 = 0.9;
    if (d.beta2 == 0) d.beta2 = fast ? 0.99 : 0.999;
    if (d.beta3 == 0) d.beta3 = 0.9999;
    if (d.alpha == 0) d.alpha = moi_optim_default_alpha(d.kind);
    if (d.interval == 0) d.interval = 200;
    if (d.epsilon == 0) d.epsilon = moi_optim_default_epsilon(d.kind);
    if (d.trust == 0) d.trust = moi_optim_default_trust(d.kind);
    if (d.grad_scale == 0) d.grad_scale = 1;
    if (d.block == 0) d.block = d.precision == MO_OPTIM_4BIT ? 128 : 256;
    if (d.min_8bit_size == 0) d.min_8bit_size = 4096;
    return d;
}

size_t mo_optim_state_size(const mo_optim_desc *desc, size_t n) {
    moi_optim_layout layout;
    if (!desc) return 0;
    const mo_optim_desc d = mo_optim_desc_defaults(desc);
    return moi_optim_valid(&d) && moi_optim_lay_out(&d, n, &layout) ? layout.size : 0;
}

static void *moi_optim_array(const moi_optim_layout *layout, void *memory, int array) {
    return layout->has >> array & 1 ? (char *)memory + layout->at[array] : NULL;
}

static void moi_optim_state_fill(
    const mo_optim_desc *d, const moi_optim_layout *layout, void *memory, mo_optim_state *s) {
    memset(s, 0, sizeof *s);
    s->n = layout->n;
    s->precision = layout->precision;
    s->block = layout->block;
    s->plain_v = d->plain_v;
    s->m = moi_optim_array(layout, memory, moi_optim_m);
    s->slow = moi_optim_array(layout, memory, moi_optim_slow);
    s->v = moi_optim_array(layout, memory, moi_optim_v);
    s->m_absmax = (float *)moi_optim_array(layout, memory, moi_optim_m_absmax);
    s->slow_absmax = (float *)moi_optim_array(layout, memory, moi_optim_slow_absmax);
    s->v_absmax = (float *)moi_optim_array(layout, memory, moi_optim_v_absmax);
    s->row = (float *)moi_optim_array(layout, memory, moi_optim_row);
    s->column = (float *)moi_optim_array(layout, memory, moi_optim_column);
    s->master = (float *)moi_optim_array(layout, memory, moi_optim_master);
    s->extra = (float *)moi_optim_array(layout, memory, moi_optim_extra);
    s->rows = layout->rows;
    s->columns = layout->columns;
    s->rank = layout->rank;
    s->n_states = layout->n_states;
    s->n_extra = layout->n_extra;
}

/* What can be wrong, and where everything lies. */
static mo_status moi_optim_layout_in(const mo_optim_desc *desc, size_t n, const void *memory,
    size_t size, moi_optim_layout *layout) {
    if (!desc || !memory) return MO_E_INVALID;
    const mo_optim_desc d = mo_optim_desc_defaults(desc);
    const mo_status status = moi_optim_layout_check(&d, n);
    if (status != MO_OK) return status;
    if (!moi_optim_lay_out(&d, n, layout)) return MO_E_OVERFLOW;
    return size < layout->size ? MO_E_NO_SPACE : MO_OK;
}

mo_status mo_optim_state_attach(
    const mo_optim_desc *desc, size_t n, void *memory, size_t size, mo_optim_state *state) {
    moi_optim_layout layout;
    if (!state) return MO_E_INVALID;
    const mo_status status = moi_optim_layout_in(desc, n, memory, size, &layout);
    if (status == MO_OK) moi_optim_state_fill(desc, &layout, memory, state);
    return status;
}

mo_status mo_optim_state_init(
    const mo_optim_desc *desc, size_t n, void *memory, size_t size, mo_optim_state *state) {
    moi_optim_layout layout;
    size_t bytes = 0;
    if (!state) return MO_E_INVALID;
    const mo_status status = moi_optim_layout_in(desc, n, memory, size, &layout);
    if (status != MO_OK) return status;
    memset(memory, 0, layout.size);
    for (int i = 0; i < moi_optim_n_arrays; i++) {
        const int first = moi_optim_first_byte(&layout, desc->plain_v, i);
        if (first == 0 || !(layout.has >> i & 1)) continue;
        if (moi_optim_array_bytes(&layout, i, &bytes))
            memset((char *)memory + layout.at[i], first, bytes);
    }
    moi_optim_state_fill(desc, &layout, memory, state);
    return MO_OK;
}

mo_status mo_optim_state_slice(
    const mo_optim_state *state, size_t begin, size_t n, mo_optim_state *slice) {
    size_t bytes = 0;
    if (!state || !slice || begin > state->n || n > state->n - begin) return MO_E_INVALID;
    if ((state->row || state->extra) && (begin != 0 || n != state->n)) return MO_E_UNSUPPORTED;
    const mo_status status =
        moi_optim_slice_check(state->precision, state->block, state->n, begin, n);
    if (status != MO_OK) return status;
    if (!moi_optim_bytes(state->precision, begin, &bytes)) return MO_E_INVALID;
    mo_optim_state s = *state;
    const size_t at = begin / state->block;
    s.n = n;
    if (!s.extra) s.n_states = n;
    s.offset += begin;
    if (s.m) s.m = (char *)s.m + bytes;
    if (s.slow) s.slow = (char *)s.slow + bytes;
    if (s.v) s.v = (char *)s.v + bytes;
    if (s.m_absmax) s.m_absmax += at;
    if (s.slow_absmax) s.slow_absmax += at;
    if (s.v_absmax) s.v_absmax += at;
    if (s.master) s.master += begin;
    *slice = s;
    return MO_OK;
}

mo_status mo_optim_master_init(const mo_optim_state *state, const uint16_t *param) {
    if (!state || !param || !state->master) return MO_E_INVALID;
    mo_bf16_to_f32(param, state->master, state->n, NULL);
    return MO_OK;
}

/* ---- coders --------------------------------------------------------------------------------- */

typedef struct moi_optim_coders {
    moi_q8_coder q8_signed, q8_unsigned;
    moi_q4_coder q4_signed, q4_unsigned;
} moi_optim_coders;

static void moi_optim_coders_begin(moi_optim_coders *c, const mo_optim_state *s) {
    if (s->precision == MO_OPTIM_8BIT) {
        moi_q8_begin(&c->q8_signed, MO_QUANT_SIGNED, 0);
        moi_q8_begin(&c->q8_unsigned, MO_QUANT_UNSIGNED, !s->plain_v);
    } else if (s->precision == MO_OPTIM_4BIT) {
        moi_q4_begin(&c->q4_signed, 1);
        moi_q4_begin(&c->q4_unsigned, 0);
    }
}

static moi_optim_slot moi_optim_slot_of(const mo_optim_state *s, const moi_optim_coders *c,
    void *data, float *absmax, int is_signed, uint64_t seed) {
    moi_optim_slot slot;
    slot.data = data;
    slot.absmax = absmax;
    slot.precision = s->precision;
    slot.block = s->block;
    slot.offset = s->offset;
    slot.q8 = is_signed ? &c->q8_signed : &c->q8_unsigned;
    slot.q4 = is_signed ? &c->q4_signed : &c->q4_unsigned;
    slot.seed = seed;
    slot.may_root = 0;
    return slot;
}

/* plain_v of kinds without m: see mo_optim_state_init */
static int moi_optim_v_is_signed(const mo_optim_state *s) { return s->plain_v && !s->m; }

static void moi_optim_slots(
    moi_optim_job *job, const mo_optim_state *s, const moi_optim_coders *c, uint64_t seed) {
    job->m = moi_optim_slot_of(s, c, s->m, s->m_absmax, 1, seed + 1);
    job->slow = moi_optim_slot_of(s, c, s->slow, s->slow_absmax, 1, seed + 2);
    job->v = moi_optim_slot_of(s, c, s->v, s->v_absmax, moi_optim_v_is_signed(s), seed + 3);
    job->v.may_root = !s->plain_v || s->precision == MO_OPTIM_4BIT;
}

/* ---- passes --------------------------------------------------------------------------------- */

static void moi_optim_dispatch(
    const moi_optim_job *job, size_t begin, size_t n, moi_optim_buffers *b) {
    MOI_DISPATCH(moi_optim_chunk, (job, begin, n, b));
}

/* The whole blocks of 8-bit and 4-bit AdamW on fp32 parameters; the others go by chunks. */
static size_t moi_optim_packed_blocks(const moi_optim_job *job) {
    const mo_optim_precision precision = job->m.precision;
    const int fits = job->kind == MO_OPTIM_ADAMW && !job->rounded && job->chunk <= moi_packed_max &&
        job->param.precision == MO_OPTIM_F32 &&
        (precision == MO_OPTIM_8BIT || precision == MO_OPTIM_4BIT);
    return fits ? job->n / job->chunk : 0;
}

/* Rows are blocks. */
static void moi_optim_update_packed(const void *context, size_t begin, size_t end) {
    const moi_optim_job *job = (const moi_optim_job *)context;
    moi_packed_buffer b[2];
    if (begin < end) MOI_DISPATCH(moi_optim_packed, (job, begin, end, b));
}

/* Rows are chunks. */
static void moi_optim_update_chunks(const void *context, size_t begin, size_t end) {
    const moi_optim_job *job = (const moi_optim_job *)context;
    moi_optim_buffers b;
    for (; begin < end; begin++) {
        const size_t at = begin * job->chunk;
        moi_optim_dispatch(job, at, moi_min(job->chunk, job->n - at), &b);
    }
}

/* Rows are parts, whose number does not depend on the threads. [0]: squares of the parameters; [1]:
 * of LAMB's u, or of LARS's gradients. */
static void moi_optim_measure_parts(const void *context, size_t begin, size_t end) {
    const moi_optim_job *job = (const moi_optim_job *)context;
    moi_optim_buffers b;
    for (; begin < end; begin++) {
        size_t at, to;
        double param = 0, other = 0;
        moi_part(job->n, job->chunk, (int)begin, moi_accum_parts, &at, &to);
        for (; at < to; at += job->chunk) {
            const size_t n = moi_min(job->chunk, to - at);
            moi_optim_dispatch(job, at, n, &b);
            param += moi_accum_squares(b.p, n);
            if (job->kind == MO_OPTIM_LAMB) other += moi_accum_squares(b.slow, n);
            else other += moi_accum_squares(job->grad + at, n);
        }
        job->sums[begin][0] = param;
        job->sums[begin][1] = other;
    }
}

/* LAMB and LARS: the step of this tensor. 0: its gradient is not finite, nothing must change. */
static int moi_optim_trust(moi_optim_job *job, const mo_optim_desc *d) {
    const moi_optim_factors factors = job->factors;
    double sums[moi_accum_parts][2], param = 0, other = 0;
    job->sums = sums;
    job->measure = 1;
    job->factors = moi_optim_still(d, &factors);
    mo_parallel_for(d->parallel, moi_accum_parts, 1, moi_optim_measure_parts, job);
    job->measure = 0;
    job->factors = factors;
    for (int i = 0; i < moi_accum_parts; i++) {
        param += sums[i][0];
        other += sums[i][1];
    }
    return moi_optim_trust_step(d, param, other, &job->factors.step);
}

/* ---- rows and columns: plain C, the same on every CPU ---------------------------------------- */

typedef struct moi_optim_matrix {
    const mo_optim_state *state;
    const float *grad;
    const moi_optim_slot *param;
    float grad_scale, beta2, one_minus_beta2, epsilon, mean_row, keep, step;
    double *square_sums; /* [rows] or [moi_accum_parts] */
} moi_optim_matrix;

static double moi_optim_row_mean(const moi_optim_matrix *x, size_t row) {
    const size_t columns = x->state->columns;
    const double scale = (double)x->grad_scale;
    return moi_accum_squares(x->grad + row * columns, columns) * scale * scale / (double)columns;
}

static void moi_optim_rows_task(const void *context, size_t begin, size_t end) {
    const moi_optim_matrix *x = (const moi_optim_matrix *)context;
    for (; begin < end; begin++) {
        const float mean = (float)moi_optim_row_mean(x, begin);
        float *row = x->state->row + begin;
        *row = x->beta2 * *row + x->one_minus_beta2 * mean;
    }
}

static void moi_optim_columns_task(const void *context, size_t begin, size_t end) {
    const moi_optim_matrix *x = (const moi_optim_matrix *)context;
    const size_t rows = x->state->rows, columns = x->state->columns;
    for (; begin < end; begin += 64) {
        double sum[64] = {0};
        const size_t n = moi_min(64, end - begin);
        for (size_t row = 0; row < rows; row++) {
            const float *g = x->grad + row * columns + begin;
            for (size_t i = 0; i < n; i++) {
                const double scaled = (double)(g[i] * x->grad_scale);
                sum[i] += scaled * scaled;
            }
        }
        for (size_t i = 0; i < n; i++) {
            float *column = x->state->column + begin + i;
            const float mean = (float)(sum[i] / (double)rows);
            *column = x->beta2 * *column + x->one_minus_beta2 * mean;
        }
    }
}

/* u of one row into out, of columns begin..end-1. The weights of the means add up to 1 from the
 * first step on, so that epsilon may be added here and the states of zero gradients stay zero. */
static void moi_optim_factored_row(
    const moi_optim_matrix *x, size_t row, size_t begin, size_t end, float *out) {
    const float *g = x->grad + row * x->state->columns;
    const float first = x->state->row[row] + x->epsilon, *c = x->state->column;
    const float r = first / x->mean_row;
    for (size_t i = begin; i < end; i++) {
        const float v = c ? r * (c[i] + x->epsilon) : first;
        out[i - begin] = g[i] * x->grad_scale / sqrtf(v);
    }
}

enum { moi_factored_piece = 1024 };

static void moi_optim_factored_move(
    const moi_optim_matrix *x, size_t at, size_t n, const float *u, float *buffer) {
    float *p = MOI_CAT(moi_slot_load, scalar)(x->param, at, n, buffer);
    for (size_t k = 0; k < n; k++) p[k] = p[k] * x->keep - x->step * u[k];
    MOI_CAT(moi_slot_store, scalar)(x->param, at, n, p);
}

static void moi_optim_factored_task(const void *context, size_t begin, size_t end) {
    const moi_optim_matrix *x = (const moi_optim_matrix *)context;
    const size_t columns = x->state->columns;
    float u[moi_factored_piece], buffer[moi_factored_piece];
    for (; begin < end; begin++) {
        size_t row, last;
        double sum = 0;
        moi_part(x->state->rows, 1, (int)begin, moi_accum_parts, &row, &last);
        for (; row < last; row++)
            for (size_t i = 0; i < columns; i += moi_factored_piece) {
                const size_t n = moi_min(moi_factored_piece, columns - i);
                moi_optim_factored_row(x, row, i, i + n, u);
                sum += moi_accum_squares(u, n);
                if (x->step != 0.0f) moi_optim_factored_move(x, row * columns + i, n, u, buffer);
            }
        x->square_sums[begin] = sum;
    }
}

static double moi_optim_factored_pass(moi_optim_matrix *x, const mo_parallel *parallel) {
    double sum = 0;
    mo_parallel_for(parallel, moi_accum_parts, 1, moi_optim_factored_task, x);
    for (int i = 0; i < moi_accum_parts; i++) sum += x->square_sums[i];
    return sum;
}

static moi_optim_matrix moi_optim_matrix_of(
    const moi_optim_job *job, const mo_optim_desc *d, const mo_optim_state *s) {
    moi_optim_matrix x;
    memset(&x, 0, sizeof x);
    x.state = s;
    x.grad = job->grad;
    x.param = &job->param;
    x.grad_scale = job->factors.grad_scale;
    x.beta2 = job->factors.beta2;
    x.one_minus_beta2 = job->factors.one_minus_beta2;
    x.keep = (float)(1 - d->lr * d->weight_decay);
    return x;
}

/* Adafactor without momentum */
static void moi_optim_adafactor(
    moi_optim_job *job, const mo_optim_desc *d, uint64_t t, const mo_optim_state *s) {
    double sums[moi_accum_parts], mean = 0;
    moi_optim_matrix x = moi_optim_matrix_of(job, d, s);
    moi_optim_factored_decay(t, &x.beta2, &x.one_minus_beta2);
    x.square_sums = sums;
    x.epsilon = (float)d->epsilon;
    mo_parallel_for(d->parallel, s->rows, 1, moi_optim_rows_task, &x);
    if (s->column) mo_parallel_for(d->parallel, s->columns, 64, moi_optim_columns_task, &x);
    for (size_t i = 0; i < s->rows; i++) mean += (double)s->row[i];
    x.mean_row = moi_optim_mean_row(d, mean, s->rows);
    x.step = moi_optim_factored_step(d, moi_optim_factored_pass(&x, d->parallel), s->n);
    if (x.step != 0.0f) (void)moi_optim_factored_pass(&x, d->parallel);
}

/* ---- the step ------------------------------------------------------------------------------- */

static int moi_optim_fits(const mo_optim_desc *d, const mo_optim_state *s) {
    const unsigned traits = moi_optim_traits(d->kind, s->column ? s->columns : 0);
    return !s->m == !(traits & MOI_HAS_M) && !s->slow == !(traits & MOI_HAS_SLOW) &&
        !s->v == !(traits & MOI_HAS_V) && !s->row == !(traits & MOI_HAS_ROW) &&
        !s->column == !(traits & MOI_HAS_COLUMN) &&
        moi_low_extra(d, s->n, s->columns, s->rank) == s->n_extra;
}

static mo_status moi_optim_run(
    moi_optim_job *job, const mo_optim_desc *desc, uint64_t t, const mo_optim_state *state) {
    if (!desc || !job->grad || !job->param.data || !state || t == 0) return MO_E_INVALID;
    mo_optim_desc d = mo_optim_desc_defaults(desc);
    moi_optim_coders coders;
    d.block = state->block; /* chosen at init */
    if (!moi_optim_valid(&d) || !moi_optim_fits(&d, state)) return MO_E_INVALID;
    if (state->n == 0) return MO_OK;
    const uint64_t seed = moi_optim_seed(&d, t);
    job->kind = d.kind;
    job->state = state;
    job->n = state->n;
    job->measure = 0;
    job->chunk = moi_optim_is_blockwise(state->precision) ? state->block : 1024;
    job->factors = moi_optim_factors_of(&d, t);
    job->param.seed = seed;
    job->param.offset = state->offset;
    moi_optim_coders_begin(&coders, state);
    moi_optim_slots(job, state, &coders, seed);
    double squares = 0;
    if (moi_optim_traits(d.kind, 0) & MOI_WHOLE) {
        squares = mo_accum_square_sum(job->grad, job->n, d.parallel);
        if (!moi_optim_sum_usable(&d, squares)) return MO_OK;
    }
    if (d.kind == MO_OPTIM_ADAFACTOR || state->rank) {
        if (state->rank) moi_low_run(job, &d, t, squares);
        else moi_optim_adafactor(job, &d, t, state);
        if (job->rounded) mo_f32_to_bf16(state->master, job->rounded, job->n, d.parallel);
        return MO_OK;
    }
    if (moi_optim_is_low(d.kind)) job->kind = MO_OPTIM_ADAMW;
    if ((d.kind == MO_OPTIM_LAMB || d.kind == MO_OPTIM_LARS) && !moi_optim_trust(job, &d))
        return MO_OK;
    if (d.kind == MO_OPTIM_ADAM_MINI) {
        moi_optim_matrix x = moi_optim_matrix_of(job, &d, state);
        mo_parallel_for(d.parallel, state->rows, 1, moi_optim_rows_task, &x);
    }
    const size_t n_chunks = moi_ceil_div(job->n, job->chunk), packed = moi_optim_packed_blocks(job);
    if (packed == 0) mo_parallel_for(d.parallel, n_chunks, 4, moi_optim_update_chunks, job);
    else mo_parallel_for(d.parallel, packed, 4, moi_optim_update_packed, job);
    if (packed != 0) moi_optim_update_chunks(job, packed, n_chunks); /* the tail */
    return MO_OK;
}

mo_status mo_optim_step(const mo_optim_desc *desc, uint64_t t, float *param, const float *grad,
    const mo_optim_state *state) {
    moi_optim_job job;
    memset(&job, 0, sizeof job);
    job.grad = grad;
    job.param.data = param;
    return moi_optim_run(&job, desc, t, state);
}

mo_status mo_optim_step_bf16(const mo_optim_desc *desc, uint64_t t, uint16_t *param,
    const float *grad, const mo_optim_state *state) {
    moi_optim_job job;
    memset(&job, 0, sizeof job);
    if (!state || !param) return MO_E_INVALID;
    job.grad = grad;
    if (state->master) {
        job.param.data = state->master;
        job.rounded = param;
    } else {
        job.param.data = param;
        job.param.precision = MO_OPTIM_BF16;
    }
    return moi_optim_run(&job, desc, t, state);
}

/* ---- from one precision to another ----------------------------------------------------------- */

static void moi_optim_load(const moi_optim_slot *s, size_t begin, size_t n, float *x) {
    const float *at = MOI_CAT(moi_slot_load, scalar)(s, begin, n, x);
    if (at != x) memcpy(x, at, n * sizeof *x);
}

/* Numbers in stretches of to's blocks; from's blocks are decoded as they come. */
static void moi_optim_recode(const moi_optim_slot *to, const moi_optim_slot *from, size_t n) {
    float x[moi_q8_max_block];
    const size_t chunk =
        moi_optim_is_blockwise(to->precision) ? to->block : (size_t)moi_q8_max_block;
    const size_t piece =
        moi_optim_is_blockwise(from->precision) ? moi_min(from->block, chunk) : chunk;
    for (size_t begin = 0; begin < n; begin += chunk) {
        const size_t end = moi_min(n, begin + chunk);
        for (size_t at = begin; at < end; at += piece)
            moi_optim_load(from, at, moi_min(piece, end - at), x + (at - begin));
        if (to->precision == MO_OPTIM_F32)
            memcpy((float *)to->data + begin, x, (end - begin) * sizeof *x);
        else MOI_CAT(moi_slot_store, scalar)(to, begin, end - begin, x);
    }
}

/* The same coding: bit for bit. */
static void moi_optim_move(
    const moi_optim_slot *to, const moi_optim_slot *from, size_t n, int same_rules) {
    size_t bytes = 0;
    if (!to->data) return;
    const int blockwise = moi_optim_is_blockwise(to->precision);
    const int same = to->precision == from->precision && (!blockwise || to->block == from->block);
    if (!same || !same_rules || !moi_optim_bytes(to->precision, n, &bytes)) {
        moi_optim_recode(to, from, n);
        return;
    }
    memcpy(to->data, from->data, bytes);
    if (blockwise) memcpy(to->absmax, from->absmax, moi_ceil_div(n, to->block) * sizeof(float));
}

mo_status mo_optim_state_copy(mo_optim_state *to, const mo_optim_state *from, uint64_t seed) {
    moi_optim_job a, b;
    moi_optim_coders coders_a, coders_b;
    if (!to || !from || to->n != from->n || !to->m != !from->m || !to->slow != !from->slow ||
        !to->v != !from->v || !to->row != !from->row || !to->column != !from->column ||
        !to->master != !from->master || to->n_states != from->n_states || to->rank != from->rank ||
        to->n_extra != from->n_extra ||
        (to->row && (to->rows != from->rows || to->columns != from->columns)))
        return MO_E_INVALID;
    moi_optim_coders_begin(&coders_a, to);
    moi_optim_coders_begin(&coders_b, from);
    moi_optim_slots(&a, to, &coders_a, seed);
    moi_optim_slots(&b, from, &coders_b, seed);
    moi_optim_move(&a.m, &b.m, to->n_states, 1);
    moi_optim_move(&a.slow, &b.slow, to->n_states, 1);
    moi_optim_move(&a.v, &b.v, to->n_states, !to->plain_v == !from->plain_v);
    if (to->row) memcpy(to->row, from->row, to->rows * sizeof(float));
    if (to->column) memcpy(to->column, from->column, to->columns * sizeof(float));
    if (to->master) memcpy(to->master, from->master, to->n * sizeof(float));
    if (to->extra) memcpy(to->extra, from->extra, to->n_extra * sizeof(float));
    return MO_OK;
}
