/* act.cl - GELU and SwiGLU, see mo_act.h. Behind math.cl.
 *
 * groups  ceil(n / MO_TILE); of SwiGLU ceil(rows hidden / MO_TILE)
 *
 * Inputs and results may be the same memory; that is why a CPU takes vectors by hand. */

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

/* SwiGLU: y, or both gradients, of one unit; nothing is fused: the bits of the CPU where it divides
 * exactly. F is float or float16; 1 - s is e s. */
#define MO_SWIGLU(forward, backward, F, exp)                                                       \
    static inline F forward(F gate, F up) { return gate * ((F)1.0f / (1.0f + exp(-gate))) * up; }  \
    static inline F backward(F gate, F up, F dy, F *dup) {                                         \
        const F e = exp(-gate), s = (F)1.0f / (1.0f + e);                                          \
        *dup = dy * (gate * s);                                                                    \
        return dy * up * (s * (1.0f + gate * (e * s)));                                            \
    }
MO_SWIGLU(mo_swiglu_y, mo_swiglu_slopes, float, mo_exp_same)
#if MEMOPT_WG == 1
MO_SWIGLU(mo_swiglu_y16, mo_swiglu_slopes16, float16, mo_exp_same16)
#endif

/* A tile of the rows' units is cut at the ends of rows. */
MO_KERNEL void mo_cl_swiglu_forward(__global const float *gate, ulong gate_off,
    __global const float *up, ulong up_off, __global float *y, ulong y_off, ulong n, ulong hidden,
    ulong stride, ulong y_stride) {
    ulong at = (ulong)get_group_id(0) * MO_TILE;
    const ulong end = min(at + MO_TILE, n);
    while (at < end) {
        const ulong row = at / hidden, column = at % hidden;
        const uint size = (uint)min(hidden - column, end - at);
        __global const float *g = gate + gate_off + row * stride + column;
        __global const float *u = up + up_off + row * stride + column;
        __global float *to = y + y_off + row * y_stride + column;
        uint i = (uint)get_local_id(0);
#if MEMOPT_WG == 1
        for (; i + 15 < size; i += 16)
            vstore16(mo_swiglu_y16(vload16(0, g + i), vload16(0, u + i)), 0, to + i);
#endif
        for (; i < size; i += MEMOPT_WG) to[i] = mo_swiglu_y(g[i], u[i]);
        at += size;
    }
}

MO_KERNEL void mo_cl_swiglu_backward(__global const float *gate, ulong gate_off,
    __global const float *up, ulong up_off, __global const float *dy, ulong dy_off,
    __global float *dgate, ulong dgate_off, __global float *dup, ulong dup_off, ulong n,
    ulong hidden, ulong stride, ulong y_stride) {
    ulong at = (ulong)get_group_id(0) * MO_TILE;
    const ulong end = min(at + MO_TILE, n);
    while (at < end) {
        const ulong row = at / hidden, column = at % hidden, place = row * stride + column;
        const uint size = (uint)min(hidden - column, end - at);
        __global const float *g = gate + gate_off + place, *u = up + up_off + place;
        __global const float *from = dy + dy_off + row * y_stride + column;
        __global float *to_gate = dgate + dgate_off + place, *to_up = dup + dup_off + place;
        uint i = (uint)get_local_id(0);
#if MEMOPT_WG == 1
        for (; i + 15 < size; i += 16) {
            float16 second;
            const float16 first = mo_swiglu_slopes16(
                vload16(0, g + i), vload16(0, u + i), vload16(0, from + i), &second);
            vstore16(first, 0, to_gate + i);
            vstore16(second, 0, to_up + i);
        }
#endif
        for (; i < size; i += MEMOPT_WG) {
            float second;
            const float first = mo_swiglu_slopes(g[i], u[i], from[i], &second);
            to_gate[i] = first;
            to_up[i] = second;
        }
        at += size;
    }
}
