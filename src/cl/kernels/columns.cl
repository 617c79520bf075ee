/* columns.cl - sums over the columns of a matrix, for biases and norms; biases into rows. Behind
 * math.cl.
 *
 * groups  sums: ceil(columns / MO_COLUMNS) * chunks, columns first; fill: ceil(rows / MO_ROWS)
 *
 * A chunk of rows gives one row of partial sums; the same kernel sums those. Rows are added in
 * their order whatever MEMOPT_WG is.
 *
 * check: -DMO_ADD=0 -DMO_RESIDUAL=0
 * check: -DMO_ADD=1 -DMO_RESIDUAL=1
 * check: -DMO_ADD=1 -DMO_DW=0
 * check: -DMO_ADD=1 -DMO_DB=0
 *
 * MO_ADD       1: the sums are added to what is there
 * MO_DW, MO_DB 0: dw or db of mo_cl_columns_norm is not wanted, and neither read nor written
 * MO_RESIDUAL  1: y is bias and residual, 0: bias */
#ifndef MO_ADD
#define MO_ADD 0
#endif
#ifndef MO_DW
#define MO_DW 1
#endif
#ifndef MO_DB
#define MO_DB 1
#endif
#ifndef MO_RESIDUAL
#define MO_RESIDUAL 0
#endif

#if MEMOPT_WG == 1
#define MO_COLUMNS 64u
#define MO_ROWS 16u
#else
#define MO_COLUMNS ((uint)MEMOPT_WG)
#define MO_ROWS 1u
#endif

static inline void mo_columns_store(__global float *sum, uint i, float v) {
#if MO_ADD
    sum[i] = sum[i] + v;
#else
    sum[i] = v;
#endif
}

/* sum[chunk][i] = sum over the chunk's rows of dy[row][i] */
MO_KERNEL void mo_cl_columns_sum(__global const float *restrict dy, ulong dy_off,
    __global float *restrict sum, ulong sum_off, ulong rows, uint columns, ulong chunk_rows) {
    const uint blocks = (columns + MO_COLUMNS - 1) / MO_COLUMNS;
    const uint chunk = (uint)get_group_id(0) / blocks;
    const uint begin = (uint)get_group_id(0) % blocks * MO_COLUMNS;
    const uint end = min(begin + MO_COLUMNS, columns);
    const ulong first = chunk * chunk_rows;
    const ulong n = min(rows - first, chunk_rows);
    __global const float *from = dy + dy_off + first * columns;
    __global float *to = sum + sum_off + (ulong)chunk * columns;
    uint i = begin + (uint)get_local_id(0);
#if MEMOPT_WG == 1
    if (end - begin == MO_COLUMNS) {
        float16 s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
        for (ulong row = 0; row < n; row++) {
            __global const float *at = from + row * columns + begin;
            s0 += vload16(0, at);
            s1 += vload16(1, at);
            s2 += vload16(2, at);
            s3 += vload16(3, at);
        }
        to += begin;
#if MO_ADD
        s0 += vload16(0, to);
        s1 += vload16(1, to);
        s2 += vload16(2, to);
        s3 += vload16(3, to);
#endif
        vstore16(s0, 0, to);
        vstore16(s1, 1, to);
        vstore16(s2, 2, to);
        vstore16(s3, 3, to);
        return;
    }
#endif
    for (; i < end; i += MEMOPT_WG) {
        float s = 0.0f;
        for (ulong row = 0; row < n; row++) s += from[row * columns + i];
        mo_columns_store(to, i, s);
    }
}

/* Of a normalization: dw[chunk][i] = sum of dy h, db[chunk][i] = sum of dy */
MO_KERNEL void mo_cl_columns_norm(__global const float *restrict x, ulong x_off,
    __global const float *restrict dy, ulong dy_off, __global const float *restrict mean,
    ulong mean_off, __global const float *restrict rstd, ulong rstd_off,
    __global float *restrict dw, ulong dw_off, __global float *restrict db, ulong db_off,
    ulong rows, uint columns, ulong chunk_rows) {
    const uint blocks = (columns + MO_COLUMNS - 1) / MO_COLUMNS;
    const uint chunk = (uint)get_group_id(0) / blocks;
    const uint begin = (uint)get_group_id(0) % blocks * MO_COLUMNS;
    const uint end = min(begin + MO_COLUMNS, columns);
    const ulong first = chunk * chunk_rows;
    const ulong n = min(rows - first, chunk_rows);
    __global const float *at = x + x_off + first * columns;
    __global const float *from = dy + dy_off + first * columns;
    __global const float *means = mean + mean_off + first, *rstds = rstd + rstd_off + first;
    __global float *to_w = dw + dw_off + (ulong)chunk * columns;
    __global float *to_b = db + db_off + (ulong)chunk * columns;
    uint i = begin + (uint)get_local_id(0);
#if MEMOPT_WG == 1
    for (; i + 15 < end; i += 16) {
        float16 sum_w = 0.0f, sum_b = 0.0f;
        for (ulong row = 0; row < n; row++) {
            const float16 g = vload16(0, from + row * columns + i);
            const float16 h = (vload16(0, at + row * columns + i) - means[row]) * rstds[row];
            sum_w = mo_mad16(g, h, sum_w);
            sum_b += g;
        }
#if MO_DW && MO_ADD
        sum_w += vload16(0, to_w + i);
#endif
#if MO_DB && MO_ADD
        sum_b += vload16(0, to_b + i);
#endif
#if MO_DW
        vstore16(sum_w, 0, to_w + i);
#endif
#if MO_DB
        vstore16(sum_b, 0, to_b + i);
#endif
    }
#endif
    for (; i < end; i += MEMOPT_WG) {
        float sum_w = 0.0f, sum_b = 0.0f;
        for (ulong row = 0; row < n; row++) {
            const float g = from[row * columns + i];
            sum_w = mo_mad(g, (at[row * columns + i] - means[row]) * rstds[row], sum_w);
            sum_b += g;
        }
#if MO_DW
        mo_columns_store(to_w, i, sum_w);
#endif
#if MO_DB
        mo_columns_store(to_b, i, sum_b);
#endif
    }
}

/* Of RMSNorm: dw[chunk][i] = sum of dy h; nothing is fused, as on the CPU */
MO_KERNEL void mo_cl_columns_rmsnorm(__global const float *restrict x, ulong x_off,
    __global const float *restrict dy, ulong dy_off, __global const float *restrict rstd,
    ulong rstd_off, __global float *restrict dw, ulong dw_off, ulong rows, uint columns,
    ulong chunk_rows) {
    const uint blocks = (columns + MO_COLUMNS - 1) / MO_COLUMNS;
    const uint chunk = (uint)get_group_id(0) / blocks;
    const uint begin = (uint)get_group_id(0) % blocks * MO_COLUMNS;
    const uint end = min(begin + MO_COLUMNS, columns);
    const ulong first = chunk * chunk_rows;
    const ulong n = min(rows - first, chunk_rows);
    __global const float *at = x + x_off + first * columns;
    __global const float *from = dy + dy_off + first * columns;
    __global const float *rstds = rstd + rstd_off + first;
    __global float *to = dw + dw_off + (ulong)chunk * columns;
    uint i = begin + (uint)get_local_id(0);
#if MEMOPT_WG == 1
    for (; i + 15 < end; i += 16) {
        float16 sum = 0.0f;
        for (ulong row = 0; row < n; row++)
            sum += vload16(0, from + row * columns + i) *
                (vload16(0, at + row * columns + i) * rstds[row]);
#if MO_ADD
        sum = vload16(0, to + i) + sum;
#endif
        vstore16(sum, 0, to + i);
    }
#endif
    for (; i < end; i += MEMOPT_WG) {
        float sum = 0.0f;
        for (ulong row = 0; row < n; row++)
            sum += from[row * columns + i] * (at[row * columns + i] * rstds[row]);
        mo_columns_store(to, i, sum);
    }
}

/* y[row][i] = residual[row][i] + bias[i]; y may be residual */
MO_KERNEL void mo_cl_bias_forward(__global const float *restrict bias, ulong bias_off,
#if MO_RESIDUAL
    __global const float *residual, ulong residual_off,
#endif
    __global float *y, ulong y_off, ulong rows, uint columns) {
    const ulong begin = (ulong)get_group_id(0) * MO_ROWS;
    const uint n_rows = (uint)min(rows - begin, (ulong)MO_ROWS);
    bias += bias_off;
    for (uint k = 0; k < n_rows; k++) {
        __global float *to = y + y_off + (begin + k) * columns;
        uint i = (uint)get_local_id(0);
#if MO_RESIDUAL
        __global const float *from = residual + residual_off + (begin + k) * columns;
#if MEMOPT_WG == 1
        for (; i + 15 < columns; i += 16)
            vstore16(vload16(0, from + i) + vload16(0, bias + i), 0, to + i);
#endif
        for (; i < columns; i += MEMOPT_WG) to[i] = from[i] + bias[i];
#else
        for (; i < columns; i += MEMOPT_WG) to[i] = bias[i];
#endif
    }
}
