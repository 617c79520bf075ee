/* mo_optim.c - see mo_optim.h. */

/* What the update needs of desc and t, each rounded to float once. */
typedef struct moi_optim_factors {
    float grad_scale, beta1, beta2, one_minus_beta1, one_minus_beta2;
    float keep;   /* 1 - lr weight_decay */
    float step;   /* AdamW: lr / (1 - beta1^t); SGD: lr */
    float debias; /* 1 / sqrt(1 - beta2^t) */
    float epsilon, decay;
} moi_optim_factors;

typedef struct moi_optim_job {
    moi_optim_factors factors;
    moi_q8_coder m_coder, v_coder; /* 8-bit */
    const mo_optim_state *state;
    float *param;
    const float *grad;
} moi_optim_job;

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

mo_optim_desc mo_optim_desc_defaults(const mo_optim_desc *desc) {
    mo_optim_desc d = *desc;
    if (d.beta1 == 0 && d.kind == MO_OPTIM_ADAMW) d.beta1 = 0.9;
    if (d.beta2 == 0) d.beta2 = 0.999;
    if (d.epsilon == 0) d.epsilon = 1e-8;
    if (d.grad_scale == 0) d.grad_scale = 1;
    if (d.block == 0) d.block = 256;
    if (d.min_8bit_size == 0) d.min_8bit_size = 4096;
    return d;
}

static int moi_optim_valid(const mo_optim_desc *d) {
    return (unsigned)d->kind < MO_OPTIM_KIND_COUNT &&
        (unsigned)d->precision < MO_OPTIM_PRECISION_COUNT && moi_is_pow2(d->block) &&
        d->block >= 64 && d->block <= moi_q8_max_block;
}

/* Bytes of one state and of its scales, each rounded up to a cache line. */
static int moi_optim_sizes(const mo_optim_desc *d, size_t n, size_t *state, size_t *scales) {
    int small = n < d->min_8bit_size;
    *scales = 0;
    if (d->precision == MO_OPTIM_F32 || small)
        return moi_mul(n, sizeof(float), state) && moi_align_up(*state, MOI_CACHE_LINE, state);
    *scales = moi_ceil_div(n, d->block) * sizeof(float);
    return moi_align_up(n, MOI_CACHE_LINE, state) && moi_align_up(*scales, MOI_CACHE_LINE, scales);
}

size_t mo_optim_state_size(const mo_optim_desc *desc, size_t n) {
    size_t state, scales, one;
    if (!desc) return 0;
    const mo_optim_desc d = mo_optim_desc_defaults(desc);
    if (!moi_optim_valid(&d) || !moi_optim_sizes(&d, n, &state, &scales)) return 0;
    if (!moi_add(state, scales, &one)) return 0;
    return moi_mul(one, d.kind == MO_OPTIM_ADAMW ? 2 : 1, &one) ? one : 0;
}

mo_status mo_optim_state_init(
    const mo_optim_desc *desc, size_t n, void *memory, size_t size, mo_optim_state *state) {
    if (!desc || !memory || !state) return MO_E_INVALID;
    const mo_optim_desc d = mo_optim_desc_defaults(desc);
    size_t bytes, scales, need = mo_optim_state_size(desc, n);
    if (!moi_optim_valid(&d)) return MO_E_INVALID;
    if (!moi_optim_sizes(&d, n, &bytes, &scales) || (need == 0 && n != 0)) return MO_E_OVERFLOW;
    if (size < need) return MO_E_NO_SPACE;
    char *at = (char *)memory;
    memset(at, 0, need);
    memset(state, 0, sizeof *state);
    state->n = n;
    state->precision = scales != 0 ? MO_OPTIM_8BIT : MO_OPTIM_F32;
    state->block = d.block;
    state->m = at;
    if (d.kind == MO_OPTIM_ADAMW) state->v = at + bytes;
    if (scales == 0) return MO_OK;
    char *absmax = at + need - scales;
    memset(state->m, 127, n); /* the code of 0 in the signed map */
    if (state->v) {
        state->v_absmax = (float *)(void *)absmax;
        absmax -= scales;
    }
    state->m_absmax = (float *)(void *)absmax;
    return MO_OK;
}

mo_status mo_optim_state_slice(
    const mo_optim_state *state, size_t begin, size_t n, mo_optim_state *slice) {
    if (!state || !slice || begin > state->n || n > state->n - begin) return MO_E_INVALID;
    const int low_bit = state->precision == MO_OPTIM_8BIT;
    if (low_bit && begin % state->block != 0) return MO_E_INVALID;
    if (low_bit && n % state->block != 0 && begin + n != state->n) return MO_E_INVALID;
    const size_t width = low_bit ? 1 : sizeof(float), at = begin / state->block;
    mo_optim_state s = *state;
    s.n = n;
    s.m = (char *)s.m + begin * width;
    if (s.v) s.v = (char *)s.v + begin * width;
    if (s.m_absmax) s.m_absmax += at;
    if (s.v_absmax) s.v_absmax += at;
    *slice = s;
    return MO_OK;
}

static moi_optim_factors moi_optim_factors_of(const mo_optim_desc *d, uint64_t t) {
    moi_optim_factors f;
    const double correct1 = 1 - pow(d->beta1, (double)t);
    const double correct2 = 1 - pow(d->beta2, (double)t);
    const int adamw = d->kind == MO_OPTIM_ADAMW;
    f.grad_scale = (float)d->grad_scale;
    /* at t = 1 momentum starts from the gradient: what is in the state does not count */
    f.beta1 = !adamw && t == 1 ? 0.0f : (float)d->beta1;
    f.beta2 = (float)d->beta2;
    f.one_minus_beta1 = (float)(1 - d->beta1);
    f.one_minus_beta2 = (float)(1 - d->beta2);
    f.keep = (float)(1 - d->lr * d->weight_decay);
    f.step = (float)(adamw ? d->lr / correct1 : d->lr);
    f.debias = (float)(1 / sqrt(correct2));
    f.epsilon = (float)d->epsilon;
    f.decay = (float)d->weight_decay;
    return f;
}

static void moi_optim_rows(const void *context, size_t begin, size_t end) {
    MOI_DISPATCH(moi_optim_range, ((const moi_optim_job *)context, begin, end));
}

mo_status mo_optim_step(const mo_optim_desc *desc, uint64_t t, float *param, const float *grad,
    const mo_optim_state *state) {
    if (!desc || !param || !grad || !state || !state->m || t == 0) return MO_E_INVALID;
    mo_optim_desc d = mo_optim_desc_defaults(desc);
    d.block = state->block; /* chosen at init */
    if (!moi_optim_valid(&d) || (d.kind == MO_OPTIM_ADAMW) != (state->v != NULL))
        return MO_E_INVALID;
    moi_optim_job job;
    job.factors = moi_optim_factors_of(&d, t);
    job.state = state;
    job.param = param;
    job.grad = grad;
    if (state->precision == MO_OPTIM_8BIT) {
        moi_q8_begin(&job.m_coder, MO_QUANT_SIGNED, 0);
        moi_q8_begin(&job.v_coder, MO_QUANT_UNSIGNED, 1);
    }
    moi_for_rows(d.parallel, state->n, moi_q8_max_block, moi_optim_rows, &job);
    return MO_OK;
}
