/* codec.cl - shared by the kernels that convert and quantize: the bits of the scalar kernels of
 * mo_half.inc, mo_quant.inc and mo_quant4.inc.
 *
 * A code is a uint here, whatever it is stored as. Compares go by the bits where a device that
 * flushes subnormal numbers would see zeros. */

#define MO_INFINITY 0x7f800000u
#define MO_LEAST    0x00800000u /* the smallest normal number */

static inline uint mo_magnitude(float x) { return as_uint(x) & 0x7fffffffu; }

/* 2^exponent, a normal number */
static inline float mo_power(int exponent) { return as_float((uint)(exponent + 127) << 23); }

/* x between -limit and limit, which are given by their bits; NaN stays. */
static inline float mo_clamp(float x, uint limit) {
    const uint bits = as_uint(x), magnitude = bits & 0x7fffffffu;
    const uint clamped = (bits & 0x80000000u) | limit;
    return as_float(magnitude > limit && magnitude <= MO_INFINITY ? clamped : bits);
}

/* ---- bf16, fp16, fp8 ------------------------------------------------------------------------ */

/* To nearest, ties to even. */
static inline uint mo_bf16_round(float x) {
    const uint bits = as_uint(x), kept = bits >> 16;
    const uint rounded = (bits + 0x7fffu + (kept & 1u)) >> 16;
    return (bits & 0x7fffffffu) > MO_INFINITY ? kept | 0x40u : rounded;
}

/* Up by the chance of what is cut. */
static inline uint mo_bf16_round_random(float x, uint random) {
    const uint bits = as_uint(x), kept = bits >> 16;
    const uint rounded = (bits + (random & 0xffffu)) >> 16;
    return (bits & 0x7fffffffu) > MO_INFINITY ? kept | 0x40u : rounded;
}

static inline float mo_bf16_value(uint code) { return as_float(code << 16); }

static inline uint mo_f16_round(float x) {
    const uint bits = as_uint(x), magnitude = bits & 0x7fffffffu;
    /* subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits */
    const uint small = as_uint(as_float(magnitude) + 0.5f) - 0x3f000000u;
    uint half_code = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    half_code = magnitude < 0x38800000u ? small : half_code;
    half_code = magnitude >= 0x477ff000u ? 0x7c00u : half_code; /* 65520 rounds to infinity */
    half_code = magnitude > MO_INFINITY ? 0x7e00u | (magnitude >> 13 & 0x3ffu) : half_code;
    return (bits >> 16 & 0x8000u) | half_code;
}

static inline float mo_f16_value(uint code) {
    const uint magnitude = code & 0x7fffu;
    const uint small = as_uint((float)(int)magnitude * 5.9604644775390625e-8f); /* 2^-24 */
    uint bits = (magnitude << 13) + 0x38000000u;
    bits = magnitude < 0x400u ? small : bits;
    bits = magnitude >= 0x7c00u ? 0x7f800000u | magnitude << 13 : bits;
    bits = magnitude > 0x7c00u ? bits | 0x400000u : bits; /* NaN becomes quiet */
    return as_float(bits | (code & 0x8000u) << 16);
}

/* A format with a smaller exponent than fp32: bits, of which the mantissa has some; the exponent of
 * its least normal number; its quiet NaN. These are constants at every call. */
static inline uint mo_small_sign(float x, uint width) {
    return as_uint(x) >> (32u - width) & 1u << (width - 1u);
}

static inline uint mo_small_round(float x, uint width, uint mantissa, int least, uint nan_code) {
    const uint cut = 23u - mantissa, first = (uint)(least + 127) << 23;
    const uint magnitude = mo_magnitude(x), based = magnitude + ((1u << 23) - first);
    const float one = mo_power(least + (int)cut); /* its last bit is that of the format */
    const uint small = as_uint(as_float(magnitude) + one) - as_uint(one);
    uint y = (based + (based >> cut & 1u) + ((1u << (cut - 1u)) - 1u)) >> cut;
    y = magnitude < first ? small : y;
    y = magnitude > MO_INFINITY ? nan_code : y;
    return y | mo_small_sign(x, width);
}

static inline uint mo_small_round_random(
    float x, uint random, uint width, uint mantissa, int least, uint nan_code) {
    const uint cut = 23u - mantissa, cut_fixed = 30u - mantissa, first = (uint)(least + 127) << 23;
    const uint magnitude = mo_magnitude(x);
    const float part = as_float(min(magnitude, first)) * mo_power(30 - least); /* <= 2^30 */
    const uint fixed = (uint)(int)part + (random & ((1u << cut_fixed) - 1u));
    uint y = (magnitude + ((1u << 23) - first) + (random & ((1u << cut) - 1u))) >> cut;
    y = magnitude < first ? fixed >> cut_fixed : y;
    y = magnitude > MO_INFINITY ? nan_code : y;
    return y | mo_small_sign(x, width);
}

/* last: the code of the largest finite number; what follows is infinity, or NaN. */
static inline float mo_small_value(uint code, uint width, uint mantissa, int least, uint last) {
    const uint cut = 23u - mantissa, sign = 1u << (width - 1u), magnitude = code & (sign - 1u);
    const uint shifted = magnitude << cut;
    const uint small = as_uint((float)(int)magnitude * mo_power(least - (int)mantissa));
    uint y = shifted + ((uint)(least + 126) << 23);
    y = magnitude < 1u << mantissa ? small : y;
    y = magnitude > last ? shifted | MO_INFINITY : y;
    y = magnitude > last + 1u ? shifted | 0x7fc00000u : y;
    return as_float(y | (code & sign) << (32u - width));
}

static inline uint mo_e4m3_round(float x) { return mo_small_round(x, 8u, 3u, -6, 0x7fu); }
static inline uint mo_e5m2_round(float x) { return mo_small_round(x, 8u, 2u, -14, 0x7eu); }
static inline float mo_e4m3_value(uint code) { return mo_small_value(code, 8u, 3u, -6, 0x7eu); }
static inline float mo_e5m2_value(uint code) { return mo_small_value(code, 8u, 2u, -14, 0x7bu); }

/* ---- tables -------------------------------------------------------------------------------- */

/* Words of the buffer that moi_cl_tables_arg passes; floats as their bits. Maps are those of
 * mo_quant_map. Kinds of 4-bit codes: 0 NF4, 1 FP4, 2 and 3 the optimizers' signed and unsigned
 * ones: 16 values by code, and behind them 16 thresholds; pairs: the two values of each byte. */
#define MO_TABLE_MAP(map)            ((map) * 256u)
#define MO_TABLE_CELLS(map, no_zero) (1024u + ((map) * 2u + (no_zero)) * 2960u)
#define MO_TABLE_MAP4(kind)          (24704u + (kind) * 32u)
#define MO_TABLE_PAIRS4(kind)        (24832u + (kind) * 512u)

#define MO_MAP_WORDS  256
#define MO_MAP4_WORDS 32 /* with the thresholds */

/* MO_TABLE_USE declares a pointer to n words of the tables, for the functions below, which take
 * const MO_TABLE *. It stands where a kernel's variables do, and all items come by: on a GPU a
 * group keeps a copy in local memory. Cells, 12 KB of them, stay in global memory: caches hold the
 * part that the numbers use. */
#if MEMOPT_WG == 1
#define MO_TABLE __global uint
#define MO_TABLE_USE(name, tables, at, n) const MO_TABLE *name = (tables) + (at)
#else
#define MO_TABLE __local uint
#define MO_TABLE_USE(name, tables, at, n)                                                          \
    __local uint name##_words[n];                                                                  \
    mo_table_copy((tables) + (at), name##_words, n);                                               \
    const MO_TABLE *name = name##_words
static inline void mo_table_copy(__global const uint *from, __local uint *to, uint n) {
    for (uint i = (uint)get_local_id(0); i < n; i += MEMOPT_WG) to[i] = from[i];
    barrier(CLK_LOCAL_MEM_FENCE);
}
#endif

#if MO_STREAMS
/* 8 values of a map of 16. */
static inline float8 mo_lookup16(float8 low, float8 high, uint8 code) {
#if defined(__AVX2__) && MO_HAS_BUILTIN(__builtin_ia32_permvarsf256)
    const float8 a = __builtin_ia32_permvarsf256(low, as_int8(code));
    const float8 b = __builtin_ia32_permvarsf256(high, as_int8(code));
    return as_float8(as_int8(code << 28) < 0 ? as_int8(b) : as_int8(a));
#else
    float values[16];
    vstore8(low, 0, values);
    vstore8(high, 1, values);
    return (float8)(values[code.s0], values[code.s1], values[code.s2], values[code.s3],
        values[code.s4], values[code.s5], values[code.s6], values[code.s7]);
#endif
}
#endif

static inline float mo_map_value(const MO_TABLE *map, uint code) { return as_float(map[code]); }

/* ---- 8-bit codes --------------------------------------------------------------------------- */

/* The code of 0 of a map. */
#define MO_Q8_ZERO(map) ((map) == 0 ? 127u : (map) == 2 ? 128u : 0u)

/* A scale by the bits of a block's largest magnitude: infinity for NaN, 0 for what is subnormal. */
static inline uint mo_q8_scale(uint most) {
    most = min(most, MO_INFINITY);
    return most < MO_LEAST ? 0u : most;
}

/* x * inverse for a map that starts at low; NaN (infinity * 0) becomes the lowest value. */
static inline float mo_q8_scaled(float x, float inverse, float low) {
    const float t = x * inverse;
    return t > low ? t : low;
}

/* The nearest code of low <= t <= 1 (and an ulp); of a larger t there is no cell. */
static inline uint mo_q8_code(__global const uint *cells, float t, uint zero, uint no_zero) {
    const uint magnitude = mo_magnitude(t);
    const uint at = (uint)max((int)magnitude - 0x34000000, 0);
    const uint found = (cells[at >> 16] + (at & 0xffffu)) >> 24;
    const uint level = (int)magnitude > (no_zero ? 0 : -1) ? found : 0u;
    const uint below = (uint)(as_int(t) >> 31);
    /* 127 - level, 127 + level; 127 - level = 128 + ~level, 128 + level; level */
    return (level ^ below) - (zero == 127u ? below : 0u) + zero;
}

/* ---- 4-bit codes --------------------------------------------------------------------------- */

/* The number of bitsandbytes' thresholds below t, by halving; without a table, so that it becomes
 * compares and selects of vectors. |t| <= 1 and an ulp. */
static inline uint mo_nf4_code(float t) {
    const bool a = t > 0.0397901498f;
    const bool b = t > (a ? 0.389312536f : -0.33967942f);
    const float lower2 = b ? -0.137911737f : -0.610632896f, upper2 = b ? 0.64278692f : 0.203521252f;
    const bool c = t > (a ? upper2 : lower2);
    const float lower_a = c ? -0.45999527f : -0.848096371f;
    const float lower_b = c ? -0.0455250181f : -0.234607399f;
    const float upper_a = c ? 0.292013764f : 0.120255247f;
    const float upper_b = c ? 0.861478448f : 0.501663446f;
    const float lower = b ? lower_b : lower_a, upper = b ? upper_b : upper_a;
    const bool d = t > (a ? upper : lower);
    return (a ? 8u : 0u) + (b ? 4u : 0u) + (c ? 2u : 0u) + (d ? 1u : 0u);
}

static inline uint mo_fp4_code(float t) {
    const float magnitude = fabs(t);
    const bool a = magnitude > 0.291666657f;
    const bool b = magnitude > (a ? 0.583333015f : 0.0859375f);
    const float lower = b ? 0.208333328f : 0.00260417f, upper = b ? 0.833333313f : 0.416666687f;
    const bool c = magnitude > (a ? upper : lower);
    /* the codes of the magnitudes in ascending order: 0 1 6 7 4 5 2 3 */
    const uint high = (a ? 4u : 0u) ^ (b ? 6u : 0u);
    return (t < 0.0f ? 8u : 0u) + high + (c ? 1u : 0u);
}

/* The number of thresholds below t: the code of a map whose values ascend. */
static inline uint mo_q4_place(const MO_TABLE *thresholds, float t) {
    uint place = as_float(thresholds[7]) < t ? 8u : 0u;
    place += as_float(thresholds[place + 3u]) < t ? 4u : 0u;
    place += as_float(thresholds[place + 1u]) < t ? 2u : 0u;
    return place + (as_float(thresholds[place]) < t ? 1u : 0u);
}

/* ---- the largest magnitude ------------------------------------------------------------------ */

/* By the bits without sign: as integers they are in the order of the numbers, and NaN comes behind
 * infinity. */
#if MEMOPT_WG == 1
/* Of x[i] - offset, i < n. */
static inline uint mo_most(__global const float *x, uint n, float offset) {
    uint most = 0u;
    for (uint i = 0u; i < n; i++) most = max(most, mo_magnitude(x[i] - offset));
    return most;
}
#else
#define MO_MOST_WORDS 128 /* blocks of 32 in a tile */
/* The same for each block of 2^shift numbers in a tile of n; all items come by. */
static inline void mo_most_blocks(
    __global const float *x, uint n, uint shift, float offset, __local uint *most) {
    const uint id = (uint)get_local_id(0);
    for (uint i = id; i < MO_MOST_WORDS; i += MEMOPT_WG) most[i] = 0u;
    barrier(CLK_LOCAL_MEM_FENCE);
    uint at = id >> shift, best = 0u;
    for (uint i = id; i < n; i += MEMOPT_WG) {
        if (i >> shift != at) {
            atomic_max(&most[at], best);
            at = i >> shift;
            best = 0u;
        }
        best = max(best, mo_magnitude(x[i] - offset));
    }
    atomic_max(&most[at], best);
    barrier(CLK_LOCAL_MEM_FENCE);
}
#endif

/* ---- what decoding writes ------------------------------------------------------------------ */

/* MO_OUT  0 float, 1 bf16, 2 fp16, to nearest */
#ifdef MO_OUT
#if MO_OUT == 0
#define MO_OUT_TYPE float
static inline float mo_out(float x) { return x; }
#else
#define MO_OUT_TYPE ushort
static inline ushort mo_out(float x) {
    return (ushort)(MO_OUT == 1 ? mo_bf16_round(x) : mo_f16_round(x));
}
#endif
#endif
