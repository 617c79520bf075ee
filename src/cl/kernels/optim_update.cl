/* optim_update.cl - shared by the optimizers: one number's update, and how parameters and states
 * are kept; the bits of the scalar kernels of mo_optim.inc.
 *
 * MO_KIND     mo_optim_kind
 * MO_STATE    mo_optim_precision of the states
 * MO_PARAM    0 fp32; 1 bf16, rounded at random; 2 fp32, and a copy rounded to bf16
 * MO_PLAIN_V  1: 8-bit v is kept as bitsandbytes does
 *
 * The factors of a step are those of moi_optim_factors, in their order. */

#define MO_ADAMW     0
#define MO_SGD       1
#define MO_ADAM      2
#define MO_LION      3
#define MO_RMSPROP   4
#define MO_ADAGRAD   5
#define MO_ADEMAMIX  6
#define MO_LAMB      7
#define MO_LARS      8
#define MO_ADAM_MINI 9
#define MO_ADAFACTOR 10
#define MO_APOLLO    11
#define MO_GALORE    13

#define MO_HAS_M                                                                                   \
    (MO_KIND != MO_RMSPROP && MO_KIND != MO_ADAGRAD && MO_KIND != MO_ADAFACTOR)
#define MO_HAS_SLOW (MO_KIND == MO_ADEMAMIX)
#define MO_HAS_V                                                                                   \
    (MO_KIND == MO_ADAMW || MO_KIND == MO_ADAM || MO_KIND == MO_RMSPROP ||                         \
        MO_KIND == MO_ADAGRAD || MO_KIND == MO_ADEMAMIX || MO_KIND == MO_LAMB)

#define mo_grad_scale      f.s0
#define mo_beta1           f.s1
#define mo_beta2           f.s2
#define mo_beta3           f.s3
#define mo_one_minus_beta1 f.s4
#define mo_one_minus_beta2 f.s5
#define mo_one_minus_beta3 f.s6
#define mo_keep            f.s7
#define mo_decay           f.s8
#define mo_step            f.s9
#define mo_debias          f.sa
#define mo_debias_m        f.sb
#define mo_epsilon         f.sc
#define mo_alpha           f.sd

/* ---- the update ----------------------------------------------------------------------------- */

/* One number: what is updated; root: of the new v; u: LAMB's direction; divisor: ADAM_MINI's. */
typedef struct mo_number {
    float p, m, slow, v, root, u, divisor;
} mo_number;

/* gradients whose square is finite; the others leave everything as it is */
static inline int mo_usable(float g) { return fabs(g) < 1.8e19f; }

static inline float mo_mix(float b, float was, float c, float g) { return b * was + c * g; }

#if MO_KIND == MO_ADAMW || MO_KIND == MO_ADAM
static inline void mo_update(float16 f, float grad, mo_number *x) {
    const float scaled = grad * mo_grad_scale;
    const float g = MO_KIND == MO_ADAM ? scaled + mo_decay * x->p : scaled;
    const int usable = mo_usable(g);
    const float m = mo_mix(mo_beta1, x->m, mo_one_minus_beta1, g);
    x->v = usable ? mo_mix(mo_beta2, x->v, mo_one_minus_beta2, g * g) : x->v;
    x->root = sqrt(x->v);
    const float p = x->p * mo_keep - mo_step * (m / (x->root * mo_debias + mo_epsilon));
    x->p = usable ? p : x->p;
    x->m = usable ? m : x->m;
}
#elif MO_KIND == MO_SGD
static inline void mo_update(float16 f, float grad, mo_number *x) {
    const float g = grad * mo_grad_scale + mo_decay * x->p;
    const int usable = mo_usable(g);
    const float m = mo_beta1 * x->m + g;
    x->p = usable ? x->p - mo_step * m : x->p;
    x->m = usable ? m : x->m;
}
#elif MO_KIND == MO_LARS
static inline void mo_update(float16 f, float grad, mo_number *x) {
    const float g = grad * mo_grad_scale + mo_decay * x->p;
    x->m = mo_mix(mo_beta1, x->m, mo_step, g);
    x->p = x->p - x->m;
}
#elif MO_KIND == MO_LION
static inline void mo_update(float16 f, float grad, mo_number *x) {
    const float g = grad * mo_grad_scale;
    const int usable = mo_usable(g);
    const float q = mo_mix(mo_beta1, x->m, mo_one_minus_beta1, g);
    const float by = 0.0f < q ? mo_step : q < 0.0f ? 0.0f - mo_step : 0.0f;
    x->p = usable ? x->p * mo_keep - by : x->p;
    x->m = usable ? mo_mix(mo_beta2, x->m, mo_one_minus_beta2, g) : x->m;
}
#elif MO_KIND == MO_RMSPROP || MO_KIND == MO_ADAGRAD
static inline void mo_update(float16 f, float grad, mo_number *x) {
    const float g = grad * mo_grad_scale + mo_decay * x->p;
    const int usable = mo_usable(g);
    x->v = usable ? mo_mix(mo_beta2, x->v, mo_one_minus_beta2, g * g) : x->v;
    x->root = sqrt(x->v);
    x->p = usable ? x->p - mo_step * (g / (x->root + mo_epsilon)) : x->p;
}
#elif MO_KIND == MO_ADEMAMIX
static inline void mo_update(float16 f, float grad, mo_number *x) {
    const float g = grad * mo_grad_scale;
    const int usable = mo_usable(g);
    const float m = mo_mix(mo_beta1, x->m, mo_one_minus_beta1, g);
    const float slow = mo_mix(mo_beta3, x->slow, mo_one_minus_beta3, g);
    x->v = usable ? mo_mix(mo_beta2, x->v, mo_one_minus_beta2, g * g) : x->v;
    x->root = sqrt(x->v);
    const float both = mo_mix(mo_debias_m, m, mo_alpha, slow);
    const float p = x->p * mo_keep - mo_step * (both / (x->root * mo_debias + mo_epsilon));
    x->p = usable ? p : x->p;
    x->m = usable ? m : x->m;
    x->slow = usable ? slow : x->slow;
}
#elif MO_KIND == MO_LAMB
static inline void mo_update(float16 f, float grad, mo_number *x) {
    const float g = grad * mo_grad_scale;
    x->m = mo_mix(mo_beta1, x->m, mo_one_minus_beta1, g);
    x->v = mo_mix(mo_beta2, x->v, mo_one_minus_beta2, g * g);
    x->root = sqrt(x->v);
    const float by = mo_debias_m * x->m / (x->root * mo_debias + mo_epsilon);
    x->u = by + mo_decay * x->p;
    x->p = x->p - mo_step * x->u;
}
#elif MO_KIND == MO_ADAM_MINI
static inline void mo_update(float16 f, float grad, mo_number *x) {
    x->m = mo_mix(mo_beta1, x->m, mo_one_minus_beta1, grad * mo_grad_scale);
    x->p = x->p * mo_keep - mo_step * (x->m / x->divisor);
}
#endif

/* The row that number rest + i of a tile is in, rest < columns. */
static inline ulong mo_row_of(ulong rest, uint i, ulong columns) {
    if (columns >= MO_TILE) return rest + i >= columns ? 1 : 0;
    return ((uint)rest + i) / (uint)columns;
}

/* ---- random bits ---------------------------------------------------------------------------- */

/* Those of a tile that starts at an index; number k: 0 parameters, 1 m, 2 slow, 3 v. */
typedef struct mo_noise {
    uint first, key[4], next[4];
} mo_noise;

static inline mo_noise mo_noise_of(ulong seed, ulong index) {
    mo_noise noise;
    const uint high = (uint)(index >> 32);
    noise.first = (uint)index;
    for (uint k = 0; k < 4; k++) {
        noise.key[k] = mo_random_key(seed + k, high);
        noise.next[k] = mo_random_key(seed + k, high + 1u);
    }
    return noise;
}

static inline ushort mo_dither(float x, const mo_noise *noise, uint k, uint i) {
    const uint random = mo_random_at(noise->first, i, noise->key[k], noise->next[k]);
    return (ushort)mo_bf16_round_random(mo_clamp(x, 0x7f7f0000u), random);
}

/* ---- parameters ----------------------------------------------------------------------------- */

#if MO_PARAM == 1
#define MO_PARAM_ARGS               __global ushort *restrict param, ulong param_off,
#define MO_PARAM_USE(at)            __global ushort *const p_at = param + param_off + (at)
#define MO_PARAM_LOAD(i)            mo_bf16_value(p_at[i])
#define MO_PARAM_STORE(i, noise, x) p_at[i] = mo_dither(x, noise, 0u, i)
#elif MO_PARAM == 2
#define MO_PARAM_ARGS                                                                              \
    __global float *restrict param, ulong param_off, __global ushort *restrict rounded,            \
        ulong rounded_off,
#define MO_PARAM_USE(at)                                                                           \
    __global float *const p_at = param + param_off + (at);                                         \
    __global ushort *const r_at = rounded + rounded_off + (at)
#define MO_PARAM_LOAD(i)            p_at[i]
#define MO_PARAM_STORE(i, noise, x) (void)(noise), p_at[i] = (x), r_at[i] = (ushort)mo_bf16_round(x)
#else
#define MO_PARAM_ARGS               __global float *restrict param, ulong param_off,
#define MO_PARAM_USE(at)            __global float *const p_at = param + param_off + (at)
#define MO_PARAM_LOAD(i)            p_at[i]
#define MO_PARAM_STORE(i, noise, x) (void)(noise), p_at[i] = (x)
#endif

/* ---- states: MO_STATE_ARGS(m) are the arguments of m ----------------------------------------- */

#if MO_STATE == 0
#define MO_STATE_ARGS(s)                  __global float *restrict s, ulong s##_off,
#define MO_STATE_USE(s, at)               __global float *const s##_at = s + s##_off + (at)
#define MO_STATE_LOAD(s, i)               s##_at[i]
#define MO_STATE_STORE(s, i, k, noise, x) (void)(noise), s##_at[i] = (x)
#elif MO_STATE == 2
#define MO_STATE_ARGS(s)                  __global ushort *restrict s, ulong s##_off,
#define MO_STATE_USE(s, at)               __global ushort *const s##_at = s + s##_off + (at)
#define MO_STATE_LOAD(s, i)               mo_bf16_value(s##_at[i])
#define MO_STATE_STORE(s, i, k, noise, x) s##_at[i] = mo_dither(x, noise, k, i)
#else
#define MO_STATE_ARGS(s)                                                                           \
    __global uchar *restrict s, ulong s##_off, __global float *restrict s##_absmax,                \
        ulong s##_absmax_off,

#define MO_BYTES (MO_STATE == 1 ? 2u : 1u) /* of two numbers */

/* The maps of v: the signed one in states of v alone that bitsandbytes can read. */
#define MO_V_MAP     (MO_PLAIN_V && !MO_HAS_M ? 0u : 1u)
#define MO_V_NO_ZERO (MO_PLAIN_V ? 0u : 1u)
#define MO_MAY_ROOT  (MO_STATE == 3 || !MO_PLAIN_V)

/* Declares a map and what codes are found with in it. */
#if MO_STATE == 1
#define MO_MAP_USE(s, tables, map, no_zero)                                                        \
    MO_TABLE_USE(s##_map, tables, MO_TABLE_MAP(map), MO_MAP_WORDS)
#define MO_CELLS __global uint
#define MO_CELLS_USE(s, tables, map, no_zero)                                                      \
    const MO_CELLS *s##_cells = (tables) + MO_TABLE_CELLS(map, no_zero)
#else
#define MO_MAP_USE(s, tables, map, no_zero)                                                        \
    MO_TABLE_USE(s##_map, tables, MO_TABLE_MAP4(2u + (map)), MO_MAP4_WORDS)
#define MO_CELLS MO_TABLE
#define MO_CELLS_USE(s, tables, map, no_zero) const MO_CELLS *s##_cells = s##_map + 16
#endif

/* The value of number i of a block of codes. */
static inline float mo_decoded(
    const MO_TABLE *map, __global const uchar *codes, uint i, float absmax) {
#if MO_STATE == 1
    const float x = mo_map_value(map, codes[i]) * fabs(absmax);
#else
    const float x = mo_map_value(map, codes[i / 2] >> (i % 2 ? 0 : 4) & 15u) * fabs(absmax);
#endif
    return absmax < 0.0f ? x * x : x;
}
#endif

#if MO_HAS_M
#define MO_M_ARGS MO_STATE_ARGS(m)
#else
#define MO_M_ARGS
#endif
#if MO_HAS_SLOW
#define MO_SLOW_ARGS MO_STATE_ARGS(slow)
#else
#define MO_SLOW_ARGS
#endif
#if MO_HAS_V
#define MO_V_ARGS MO_STATE_ARGS(v)
#else
#define MO_V_ARGS
#endif
#if MO_KIND == MO_ADAM_MINI
#define MO_ROW_ARGS __global const float *restrict row, ulong row_off, ulong columns,
#define MO_ROW_USE(at)                                                                             \
    __global const float *const row_at = row + row_off + (at) / columns;                           \
    const ulong row_rest = (at) % columns
#define MO_DIVISOR(i) (sqrt(row_at[mo_row_of(row_rest, i, columns)]) * mo_debias + mo_epsilon)
#else
#define MO_ROW_ARGS
#endif

/* What all steps take. */
#define MO_STEP_ARGS                                                                               \
    MO_PARAM_ARGS __global const float *restrict grad, ulong grad_off, MO_M_ARGS MO_SLOW_ARGS      \
        MO_V_ARGS MO_ROW_ARGS float16 f, ulong seed, ulong offset, ulong n
