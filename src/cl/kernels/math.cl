/* math.cl - e^x, and sums over a group: what activations, normalization, softmax and losses share;
 * joined in front of their files.
 *
 * Where MEMOPT_WG is 1, rows are walked over in vectors of 16. */

/* a b + c, rounded once where the device does that in one step. */
#pragma OPENCL FP_CONTRACT ON
static inline float mo_mad(float a, float b, float c) { return a * b + c; }
static inline float16 mo_mad16(float16 a, float16 b, float16 c) { return a * b + c; }
#pragma OPENCL FP_CONTRACT OFF

/* e^x as mo_math.inc has it: relative error below 2e-7; clamped above 88.3; 0 below -60; NaN stays
 * NaN. F is float or float16. */
#define MO_EXP(name, F, bits, to_float, mad)                                                       \
    static inline F name(F x) {                                                                    \
        const F most = (F)88.3f, least = (F)-60.0f, magic = (F)12582912.0f;                        \
        F y = select(x, least, x < least);                                                         \
        y = select(y, most, y > most);                                                             \
        const F whole = y * 1.44269504f + magic; /* nearest integer, in the low bits */            \
        F n = whole - magic;                                                                       \
        F r = mad(n, (F)-0.693359375f, y);                                                         \
        r = mad(n, (F)2.12194440e-4f, r);                                                          \
        F p = mad((F)1.9875691500e-4f, r, (F)1.3981999507e-3f);                                    \
        p = mad(p, r, (F)8.3334519073e-3f);                                                        \
        p = mad(p, r, (F)4.1665795894e-2f);                                                        \
        p = mad(p, r, (F)1.6666665459e-1f);                                                        \
        p = mad(p, r, (F)5.0000001201e-1f);                                                        \
        p = mad(p, r * r, r) + 1.0f;                                                               \
        p = p * to_float((bits(whole) - 0x4b400000u + 127u) << 23);                                \
        return select(p, (F)0.0f, x < least);                                                      \
    }
MO_EXP(mo_exp, float, as_uint, as_float, mo_mad)
/* Rounded after each product too: the bits of the CPU. */
#define MO_TWO_STEPS(a, b, c) ((a) * (b) + (c))
MO_EXP(mo_exp_same, float, as_uint, as_float, MO_TWO_STEPS)

#if MEMOPT_WG == 1
MO_EXP(mo_exp16, float16, as_uint16, as_float16, mo_mad16)
MO_EXP(mo_exp_same16, float16, as_uint16, as_float16, MO_TWO_STEPS)

static inline float mo_sum16(float16 v) {
    const float8 a = v.lo + v.hi;
    const float4 b = a.lo + a.hi;
    const float2 c = b.lo + b.hi;
    return c.x + c.y;
}
static inline float mo_max16(float16 v) {
    const float8 a = select(v.lo, v.hi, v.hi > v.lo);
    const float4 b = select(a.lo, a.hi, a.hi > a.lo);
    const float2 c = b.lo > b.hi ? b.lo : b.hi;
    return c.x > c.y ? c.x : c.y;
}
#endif

/* Sum, and largest, of one value from each item; scratch has MEMOPT_WG floats. Every item of the
 * group calls it and gets the result. */
static inline float mo_group_sum(float x, __local float *scratch) {
#if MEMOPT_WG > 1
    const uint item = (uint)get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    scratch[item] = x;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint step = MEMOPT_WG / 2; step > 0; step /= 2) {
        if (item < step) scratch[item] += scratch[item + step];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    x = scratch[0];
#else
    (void)scratch;
#endif
    return x;
}
static inline float mo_group_max(float x, __local float *scratch) {
#if MEMOPT_WG > 1
    const uint item = (uint)get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    scratch[item] = x;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint step = MEMOPT_WG / 2; step > 0; step /= 2) {
        if (item < step && scratch[item + step] > scratch[item])
            scratch[item] = scratch[item + step];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    x = scratch[0];
#else
    (void)scratch;
#endif
    return x;
}
