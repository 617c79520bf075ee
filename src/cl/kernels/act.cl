/* act.cl - GELU, see mo_act.h. Behind math.cl.
 *
 * groups  ceil(n / MO_TILE)
 *
 * x, dy and the result may be the same memory; that is why a CPU takes vectors by hand. */

/* sigmoid(2u), the factor that GELU multiplies x with; the derivative. F is float or float16. */
#define MO_GELU(gate, slope, F, exp, mad)                                                          \
    static inline F gate(F x, F square) {                                                          \
        const F cubic = mad((F)0.044715f, square, (F)1.0f);                                        \
        const F minus_2u = x * -1.5957691216f * cubic;                                             \
        return (F)1.0f / (1.0f + exp(minus_2u));                                                   \
    }                                                                                              \
    static inline F slope(F x) {                                                                   \
        const F square = x * x, g = gate(x, square);                                               \
        const F slope_2u = mad((F)0.2140644488f, square, (F)1.5957691216f);                        \
        return mad(x * (g * (1.0f - g)), slope_2u, g);                                             \
    }
MO_GELU(mo_gelu_gate, mo_gelu_slope, float, mo_exp, mo_mad)
#if MEMOPT_WG == 1
MO_GELU(mo_gelu_gate16, mo_gelu_slope16, float16, mo_exp16, mo_mad16)
#endif

/* y[i] = x[i] gate(x[i]) */
MO_KERNEL void mo_cl_gelu_forward(
    __global const float *x, ulong x_off, __global float *y, ulong y_off, ulong n) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global const float *from = x + x_off + tile;
    __global float *to = y + y_off + tile;
    uint i = (uint)get_local_id(0);
#if MEMOPT_WG == 1
    for (; i + 15 < size; i += 16) {
        const float16 v = vload16(0, from + i);
        vstore16(v * mo_gelu_gate16(v, v * v), 0, to + i);
    }
#endif
    for (; i < size; i += MEMOPT_WG) to[i] = from[i] * mo_gelu_gate(from[i], from[i] * from[i]);
}

/* dx[i] = dy[i] slope(x[i]) */
MO_KERNEL void mo_cl_gelu_backward(__global const float *x, ulong x_off, __global const float *dy,
    ulong dy_off, __global float *dx, ulong dx_off, ulong n) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global const float *at = x + x_off + tile, *from = dy + dy_off + tile;
    __global float *to = dx + dx_off + tile;
    uint i = (uint)get_local_id(0);
#if MEMOPT_WG == 1
    for (; i + 15 < size; i += 16)
        vstore16(vload16(0, from + i) * mo_gelu_slope16(vload16(0, at + i)), 0, to + i);
#endif
    for (; i < size; i += MEMOPT_WG) to[i] = from[i] * mo_gelu_slope(at[i]);
}
