/* norm.cl - layer normalization, see mo_norm.h. Behind math.cl.
 *
 * groups  ceil(rows / MO_ROWS): a group walks over its rows one after the other
 *
 * check: -DMO_STATS=0
 * check: -DMO_STATS=1
 * check: -DMO_ADD=1
 *
 * MO_STATS  1: mean and rstd of the rows are written, 0: they are read
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

/* This item's part of the sum over a row; and of (x - mean)^2. */
static inline float mo_norm_part(__global const float *x, uint n, float mean, int squares) {
    float sum = 0.0f;
    uint i = (uint)get_local_id(0);
#if MEMOPT_WG == 1
    float16 sums = 0.0f;
    for (; i + 15 < n; i += 16) {
        const float16 v = vload16(0, x + i) - mean;
        sums = squares ? mo_mad16(v, v, sums) : sums + v;
    }
    sum = mo_sum16(sums);
#endif
    for (; i < n; i += MEMOPT_WG) {
        const float v = x[i] - mean;
        sum = squares ? mo_mad(v, v, sum) : sum + v;
    }
    return sum;
}

/* y = (x - mean) rstd weight + bias; y may be x, of which an item touches its own places only. */
MO_KERNEL void mo_cl_layernorm_forward(__global const float *x, ulong x_off,
    __global const float *restrict weight, ulong weight_off, __global const float *restrict bias,
    ulong bias_off, __global float *restrict mean, ulong mean_off, __global float *restrict rstd,
    ulong rstd_off, __global float *y, ulong y_off, float epsilon, ulong rows, uint n) {
#if MO_STATS
    __local float scratch[MEMOPT_WG];
#endif
    const ulong begin = (ulong)get_group_id(0) * MO_ROWS;
    const uint n_rows = (uint)min(rows - begin, (ulong)MO_ROWS);
    weight += weight_off;
    bias += bias_off;
    for (uint k = 0; k < n_rows; k++) {
        const ulong row = begin + k;
        __global const float *from = x + x_off + row * n;
        __global float *to = y + y_off + row * n;
        uint i = (uint)get_local_id(0);
#if MO_STATS
        const float m = mo_group_sum(mo_norm_part(from, n, 0.0f, 0), scratch) / (float)n;
        const float variance = mo_group_sum(mo_norm_part(from, n, m, 1), scratch) / (float)n;
        const float r = 1.0f / sqrt(variance + epsilon);
        if (i == 0) {
            mean[mean_off + row] = m;
            rstd[rstd_off + row] = r;
        }
#else
        const float m = mean[mean_off + row], r = rstd[rstd_off + row];
        (void)epsilon;
#endif
#if MEMOPT_WG == 1
        for (; i + 15 < n; i += 16) {
            const float16 h = (vload16(0, from + i) - m) * r;
            vstore16(mo_mad16(h, vload16(0, weight + i), vload16(0, bias + i)), 0, to + i);
        }
#endif
        for (; i < n; i += MEMOPT_WG) to[i] = mo_mad((from[i] - m) * r, weight[i], bias[i]);
    }
}

/* The means over a row of g = dy weight (x), and of g h (y). */
static inline float2 mo_norm_means(__global const float *x, __global const float *dy,
    __global const float *weight, uint n, float mean, float rstd, __local float *scratch) {
    float sum_g = 0.0f, sum_gh = 0.0f;
    uint i = (uint)get_local_id(0);
#if MEMOPT_WG == 1
    float16 sums_g = 0.0f, sums_gh = 0.0f;
    for (; i + 15 < n; i += 16) {
        const float16 g = vload16(0, dy + i) * vload16(0, weight + i);
        sums_g += g;
        sums_gh = mo_mad16(g, (vload16(0, x + i) - mean) * rstd, sums_gh);
    }
    sum_g = mo_sum16(sums_g);
    sum_gh = mo_sum16(sums_gh);
#endif
    for (; i < n; i += MEMOPT_WG) {
        const float g = dy[i] * weight[i];
        sum_g += g;
        sum_gh = mo_mad(g, (x[i] - mean) * rstd, sum_gh);
    }
    sum_g = mo_group_sum(sum_g, scratch);
    sum_gh = mo_group_sum(sum_gh, scratch);
    return (float2)(sum_g / (float)n, sum_gh / (float)n);
}

/* dx = rstd (g - mean(g) - h mean(g h)); dx may be dy. */
MO_KERNEL void mo_cl_layernorm_dx(__global const float *restrict x, ulong x_off,
    __global const float *dy, ulong dy_off, __global const float *restrict weight, ulong weight_off,
    __global const float *restrict mean, ulong mean_off, __global const float *restrict rstd,
    ulong rstd_off, __global float *dx, ulong dx_off, ulong rows, uint n) {
    __local float scratch[MEMOPT_WG];
    const ulong begin = (ulong)get_group_id(0) * MO_ROWS;
    const uint n_rows = (uint)min(rows - begin, (ulong)MO_ROWS);
    weight += weight_off;
    for (uint k = 0; k < n_rows; k++) {
        const ulong row = begin + k;
        __global const float *at = x + x_off + row * n, *from = dy + dy_off + row * n;
        __global float *to = dx + dx_off + row * n;
        const float m = mean[mean_off + row], r = rstd[rstd_off + row];
        const float2 means = mo_norm_means(at, from, weight, n, m, r, scratch);
        uint i = (uint)get_local_id(0);
#if MEMOPT_WG == 1
        for (; i + 15 < n; i += 16) {
            const float16 g = vload16(0, from + i) * vload16(0, weight + i);
            const float16 h = (vload16(0, at + i) - m) * r;
            float16 v = r * (g - means.x - h * means.y);
#if MO_ADD
            v = vload16(0, to + i) + v;
#endif
            vstore16(v, 0, to + i);
        }
#endif
        for (; i < n; i += MEMOPT_WG) {
            const float h = (at[i] - m) * r;
            const float v = r * (from[i] * weight[i] - means.x - h * means.y);
#if MO_ADD
            to[i] = to[i] + v;
#else
            to[i] = v;
#endif
        }
    }
}

/* x = (y - bias) / weight / rstd + mean; x may be y. */
MO_KERNEL void mo_cl_layernorm_restore(__global const float *y, ulong y_off,
    __global const float *restrict weight, ulong weight_off, __global const float *restrict bias,
    ulong bias_off, __global const float *restrict mean, ulong mean_off,
    __global const float *restrict rstd, ulong rstd_off, __global float *x, ulong x_off, ulong rows,
    uint n) {
    const ulong begin = (ulong)get_group_id(0) * MO_ROWS;
    const uint n_rows = (uint)min(rows - begin, (ulong)MO_ROWS);
    weight += weight_off;
    bias += bias_off;
    for (uint k = 0; k < n_rows; k++) {
        const ulong row = begin + k;
        const float m = mean[mean_off + row], r = rstd[rstd_off + row];
        __global const float *from = y + y_off + row * n;
        __global float *to = x + x_off + row * n;
        for (uint i = (uint)get_local_id(0); i < n; i += MEMOPT_WG)
            to[i] = (from[i] - bias[i]) / weight[i] / r + m;
    }
}
