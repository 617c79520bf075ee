/* rmsnorm.cl - RMSNorm, see mo_norm.h. Behind math.cl.
 *
 * groups  ceil(rows / MO_ROWS): a group walks over its rows one after the other
 *
 * Nothing is fused, and where MEMOPT_WG is 1 rows have sixteen sums as on the CPU: the same bits.
 *
 * check: -DMO_STATS=0
 * check: -DMO_STATS=1
 * check: -DMO_ADD=1
 *
 * MO_STATS  1: rstd of the rows is written, 0: it is read
 * MO_ADD    1: the gradient is added to what is there */
#ifndef MO_STATS
#define MO_STATS 0
#endif
#ifndef MO_ADD
#define MO_ADD 0
#endif

#if MEMOPT_WG == 1
#define MO_ROWS 16u
#else
#define MO_ROWS 1u
#endif

/* The sum over a row of x^2. */
static inline float mo_rms_squares(__global const float *x, uint n, __local float *scratch) {
    float sum = 0.0f;
    uint i = (uint)get_local_id(0);
#if MEMOPT_WG == 1
    float16 sums = 0.0f;
    for (; i + 15 < n; i += 16) {
        const float16 v = vload16(0, x + i);
        sums += v * v;
    }
    sum = mo_sum16(sums);
#endif
    for (; i < n; i += MEMOPT_WG) sum += x[i] * x[i];
    return mo_group_sum(sum, scratch);
}

/* The sum over a row of x dy weight. */
static inline float mo_rms_products(__global const float *x, __global const float *dy,
    __global const float *weight, uint n, __local float *scratch) {
    float sum = 0.0f;
    uint i = (uint)get_local_id(0);
#if MEMOPT_WG == 1
    float16 sums = 0.0f;
    for (; i + 15 < n; i += 16)
        sums += vload16(0, x + i) * (vload16(0, dy + i) * vload16(0, weight + i));
    sum = mo_sum16(sums);
#endif
    for (; i < n; i += MEMOPT_WG) sum += x[i] * (dy[i] * weight[i]);
    return mo_group_sum(sum, scratch);
}

/* y = x rstd weight; y may be x, of which an item touches its own places only. */
MO_KERNEL void mo_cl_rmsnorm_forward(__global const float *x, ulong x_off,
    __global const float *restrict weight, ulong weight_off, __global float *restrict rstd,
    ulong rstd_off, __global float *y, ulong y_off, float epsilon, ulong rows, uint n) {
#if MO_STATS
    __local float scratch[MEMOPT_WG];
#endif
    const ulong begin = (ulong)get_group_id(0) * MO_ROWS;
    const uint n_rows = (uint)min(rows - begin, (ulong)MO_ROWS);
    weight += weight_off;
    for (uint k = 0; k < n_rows; k++) {
        const ulong row = begin + k;
        __global const float *from = x + x_off + row * n;
        __global float *to = y + y_off + row * n;
        uint i = (uint)get_local_id(0);
#if MO_STATS
        const float square = mo_rms_squares(from, n, scratch) / (float)n;
        const float r = 1.0f / sqrt(square + epsilon);
        if (i == 0) rstd[rstd_off + row] = r;
#else
        const float r = rstd[rstd_off + row];
        (void)epsilon;
#endif
#if MEMOPT_WG == 1
        for (; i + 15 < n; i += 16)
            vstore16(vload16(0, from + i) * r * vload16(0, weight + i), 0, to + i);
#endif
        for (; i < n; i += MEMOPT_WG) to[i] = from[i] * r * weight[i];
    }
}

/* dx = rstd (g - h mean(g h)), g = dy weight, h = x rstd; dx may be dy. */
MO_KERNEL void mo_cl_rmsnorm_dx(__global const float *restrict x, ulong x_off,
    __global const float *dy, ulong dy_off, __global const float *restrict weight, ulong weight_off,
    __global const float *restrict rstd, ulong rstd_off, __global float *dx, ulong dx_off,
    ulong rows, uint n) {
    __local float scratch[MEMOPT_WG];
    const ulong begin = (ulong)get_group_id(0) * MO_ROWS;
    const uint n_rows = (uint)min(rows - begin, (ulong)MO_ROWS);
    weight += weight_off;
    for (uint k = 0; k < n_rows; k++) {
        const ulong row = begin + k;
        __global const float *at = x + x_off + row * n, *from = dy + dy_off + row * n;
        __global float *to = dx + dx_off + row * n;
        const float r = rstd[rstd_off + row];
        const float mean = mo_rms_products(at, from, weight, n, scratch) / (float)n * r;
        uint i = (uint)get_local_id(0);
#if MEMOPT_WG == 1
        for (; i + 15 < n; i += 16) {
            const float16 g = vload16(0, from + i) * vload16(0, weight + i);
            float16 v = r * (g - vload16(0, at + i) * r * mean);
#if MO_ADD
            v = vload16(0, to + i) + v;
#endif
            vstore16(v, 0, to + i);
        }
#endif
        for (; i < n; i += MEMOPT_WG) {
            const float v = r * (from[i] * weight[i] - at[i] * r * mean);
#if MO_ADD
            to[i] = to[i] + v;
#else
            to[i] = v;
#endif
        }
    }
}
