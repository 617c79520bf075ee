/* attention.cl - exact attention where a group has several items, see mo_attention.h: MO_ROWS rows
 * of a head against blocks of MO_OTHER rows of the other side. Behind math.cl.
 *
 * groups  batch * heads * ceil(seq / MO_ROWS)
 *
 * The items stand in MO_TR rows of MO_TC. An item has MO_MR rows of the tile, of which it keeps
 * every MO_TC-th column: 4 scores of a block, and MO_NC elements of the result. Operands pass
 * through local memory in pieces. Helpers are always inlined: a compiler that inlines functions
 * with barriers late was seen to crash.
 *
 * MO_PART  0: forward, 1: dq, 2: dk and dv
 * MO_HEAD  most elements of a head, a multiple of MO_TC, at least head_size
 * MO_TC    divides MEMOPT_WG, at most 16
 * MO_MR    rows of an item
 *
 * check: -DMO_PART=0 -DMO_HEAD=64 -DMO_TC=8 -DMO_MR=4
 * check: -DMO_PART=1 -DMO_HEAD=64 -DMO_TC=8 -DMO_MR=2
 * check: -DMO_PART=2 -DMO_HEAD=64 -DMO_TC=8 -DMO_MR=2
 * check: -DMO_PART=0 -DMO_HEAD=256 -DMO_TC=8 -DMO_MR=1
 * check: -DMO_PART=1 -DMO_HEAD=256 -DMO_TC=8 -DMO_MR=1
 * check: -DMO_PART=2 -DMO_HEAD=256 -DMO_TC=8 -DMO_MR=1 */
#if MEMOPT_WG > 1
#define MO_INLINE static inline __attribute__((always_inline))

#define MO_TR    (MEMOPT_WG / MO_TC)
#define MO_ROWS  (MO_TR * MO_MR)
#define MO_OTHER (4 * MO_TC)
#define MO_NC    (MO_HEAD / MO_TC)

#define MO_PIECE 16             /* elements of a head that a product takes at once */
#define MO_PITCH (MO_PIECE + 1) /* of their rows: away from the same bank */
#define MO_BUFFER 1664
#define MO_DEEP (MO_BUFFER / MO_HEAD) /* rows of the other side that a sum takes at once */

/* x[0..rows-1][0..columns-1] to local memory, zeros behind what is there. */
MO_INLINE void mo_attention_copy(__global const float *x, ulong stride, uint rows, uint columns,
    uint all_rows, uint all_columns, uint pitch, __local float *to) {
    for (uint i = (uint)get_local_id(0); i < all_rows * all_columns; i += MEMOPT_WG) {
        const uint r = i / all_columns, c = i % all_columns;
        to[r * pitch + c] = r < rows && c < columns ? x[r * stride + c] : 0.0f;
    }
}

/* s[i][j] = row i of the item in x times row (column of the item) j of the block in y */
MO_INLINE void mo_attention_product(__global const float *x, ulong x_stride, uint x_rows,
    __global const float *y, ulong y_stride, uint y_rows, uint n, __local float *buffer,
    float s[MO_MR][4]) {
    const uint tr = (uint)get_local_id(0) / MO_TC, tc = (uint)get_local_id(0) % MO_TC;
    __local float *other = buffer + MO_ROWS * MO_PITCH;
    for (uint i = 0; i < MO_MR; i++)
        for (uint j = 0; j < 4; j++) s[i][j] = 0.0f;
    for (uint begin = 0; begin < n; begin += MO_PIECE) {
        const uint size = min(n - begin, (uint)MO_PIECE);
        barrier(CLK_LOCAL_MEM_FENCE);
        mo_attention_copy(x + begin, x_stride, x_rows, size, MO_ROWS, MO_PIECE, MO_PITCH, buffer);
        mo_attention_copy(y + begin, y_stride, y_rows, size, MO_OTHER, MO_PIECE, MO_PITCH, other);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint c = 0; c < size; c++) {
            float b[4];
            for (uint j = 0; j < 4; j++) b[j] = other[(tc + j * MO_TC) * MO_PITCH + c];
            for (uint i = 0; i < MO_MR; i++) {
                const float a = buffer[(tr * MO_MR + i) * MO_PITCH + c];
                for (uint j = 0; j < 4; j++) s[i][j] = mo_mad(a, b[j], s[i][j]);
            }
        }
    }
}

/* The item's weights of a block to where all see them. */
#define MO_WEIGHT(i, j)                                                                            \
    weights[((uint)get_local_id(0) / MO_TC * MO_MR + (i)) * (MO_OTHER + 1) +                       \
            (uint)get_local_id(0) % MO_TC + (j) * MO_TC]

/* sum[i][j] += the sum over the block's rows of weight times element j of the row in y */
MO_INLINE void mo_attention_accumulate(__local const float *weights, __global const float *y,
    ulong stride, uint rows, uint n, __local float *buffer, float sum[MO_MR][MO_NC]) {
    const uint tr = (uint)get_local_id(0) / MO_TC, tc = (uint)get_local_id(0) % MO_TC;
    for (uint begin = 0; begin < rows; begin += MO_DEEP) {
        const uint deep = min(rows - begin, (uint)MO_DEEP);
        barrier(CLK_LOCAL_MEM_FENCE);
        mo_attention_copy(y + begin * stride, stride, deep, n, deep, MO_HEAD, MO_HEAD, buffer);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint k = 0; k < deep; k++) {
            float w[MO_MR];
            for (uint i = 0; i < MO_MR; i++)
                w[i] = weights[(tr * MO_MR + i) * (MO_OTHER + 1) + begin + k];
#if MEMOPT_WG >= 32
#pragma unroll
#endif
            for (uint j = 0; j < MO_NC; j++) {
                const float b = buffer[k * MO_HEAD + tc + j * MO_TC];
                for (uint i = 0; i < MO_MR; i++) sum[i][j] = mo_mad(w[i], b, sum[i][j]);
            }
        }
    }
}

/* For each of the item's rows the sum, or the largest, over the MO_TC items that share it. */
MO_INLINE void mo_attention_share(float v[MO_MR], int largest, __local float *buffer) {
    const uint tr = (uint)get_local_id(0) / MO_TC, tc = (uint)get_local_id(0) % MO_TC;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < MO_MR; i++) buffer[(tr * MO_MR + i) * MO_TC + tc] = v[i];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = 0; i < MO_MR; i++) {
        __local const float *row = buffer + (tr * MO_MR + i) * MO_TC;
        float t = row[0];
        for (uint j = 1; j < MO_TC; j++) t = largest ? (row[j] > t ? row[j] : t) : t + row[j];
        v[i] = t;
    }
}

MO_INLINE void mo_attention_store(float sum[MO_MR][MO_NC], uint rows, uint n,
    __global float *x, ulong stride) {
    const uint tr = (uint)get_local_id(0) / MO_TC, tc = (uint)get_local_id(0) % MO_TC;
    for (uint i = 0; i < MO_MR; i++)
        for (uint j = 0; j < MO_NC; j++)
            if (tr * MO_MR + i < rows && tc + j * MO_TC < n)
                x[(tr * MO_MR + i) * stride + tc + j * MO_TC] = sum[i][j];
}

/* Which of the group's heads, and where its rows begin. */
typedef struct mo_attention_place {
    ulong in, out, stats; /* first elements of the head in q, in out, and in lse */
    ulong out_stride;
    uint row, rows;
} mo_attention_place;

MO_INLINE mo_attention_place mo_attention_find(uint seq, uint heads, uint n, ulong stride) {
    const uint tiles = (seq + MO_ROWS - 1) / MO_ROWS, id = (uint)get_group_id(0);
    const uint at = id / tiles, sequence = at / heads, head = at % heads;
    mo_attention_place p;
    p.out_stride = (ulong)heads * n;
    p.in = (ulong)sequence * seq * stride + head * n;
    p.out = (ulong)sequence * seq * p.out_stride + head * n;
    p.stats = (ulong)at * seq;
    p.row = id % tiles * MO_ROWS;
    p.rows = min(seq - p.row, (uint)MO_ROWS);
    return p;
}

#define MO_EACH_SCORE                                                                              \
    for (uint i = 0; i < MO_MR; i++)                                                               \
        for (uint j = 0; j < 4; j++)

#if MO_PART == 0
/* out = softmax(scale q k^T) v of a tile of queries */
MO_KERNEL void mo_cl_attention_forward(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
    __global float *restrict out, ulong out_off, __global float *restrict lse, ulong lse_off,
    uint seq, uint heads, uint n, ulong stride, float scale, uint full) {
    __local float buffer[MO_BUFFER], weights[MO_ROWS * (MO_OTHER + 1)];
    const mo_attention_place at = mo_attention_find(seq, heads, n, stride);
    const uint tr = (uint)get_local_id(0) / MO_TC, tc = (uint)get_local_id(0) % MO_TC;
    const uint end = full ? seq : at.row + at.rows;
    float s[MO_MR][4], sums[MO_MR][MO_NC], most[MO_MR], sum[MO_MR], now[MO_MR];
    for (uint i = 0; i < MO_MR; i++) {
        most[i] = -FLT_MAX;
        sum[i] = 0.0f;
        for (uint j = 0; j < MO_NC; j++) sums[i][j] = 0.0f;
    }
    q += q_off + at.in + at.row * stride;
    k += k_off + at.in;
    v += v_off + at.in;
    for (uint key = 0; key < end; key += MO_OTHER) {
        const uint keys = min(end - key, (uint)MO_OTHER);
        mo_attention_product(q, stride, at.rows, k + key * stride, stride, keys, n, buffer, s);
        for (uint i = 0; i < MO_MR; i++) now[i] = most[i];
        MO_EACH_SCORE {
            const uint column = tc + j * MO_TC, row = at.row + tr * MO_MR + i;
            const int seen = column < keys && (full || key + column <= row);
            s[i][j] = seen ? s[i][j] * scale : -INFINITY;
            now[i] = s[i][j] > now[i] ? s[i][j] : now[i];
        }
        mo_attention_share(now, 1, buffer);
        for (uint i = 0; i < MO_MR; i++) {
            const float shrink = mo_exp(most[i] - now[i]);
            most[i] = now[i];
            sum[i] *= shrink;
            for (uint j = 0; j < MO_NC; j++) sums[i][j] *= shrink;
        }
        MO_EACH_SCORE {
            const float p = mo_exp(s[i][j] - most[i]);
            sum[i] += p;
            MO_WEIGHT(i, j) = p;
        }
        mo_attention_accumulate(weights, v + key * stride, stride, keys, n, buffer, sums);
    }
    mo_attention_share(sum, 0, buffer);
    for (uint i = 0; i < MO_MR; i++) {
        const uint row = tr * MO_MR + i;
        const float inverse = 1.0f / sum[i];
        for (uint j = 0; j < MO_NC; j++) sums[i][j] *= inverse;
        if (tc == 0 && row < at.rows)
            lse[lse_off + at.stats + at.row + row] = most[i] + log(sum[i]);
    }
    out += out_off + at.out + at.row * at.out_stride;
    mo_attention_store(sums, at.rows, n, out, at.out_stride);
}
#endif

#if MO_PART == 1
/* dq of a tile of queries; delta[row] = dout out, for the other kernel */
MO_KERNEL void mo_cl_attention_dq(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
    __global const float *restrict out, ulong out_off, __global const float *restrict lse,
    ulong lse_off, __global const float *restrict dout, ulong dout_off,
    __global float *restrict delta, ulong delta_off, __global float *restrict dq, ulong dq_off,
    uint seq, uint heads, uint n, ulong stride, float scale, uint full) {
    __local float buffer[MO_BUFFER], weights[MO_ROWS * (MO_OTHER + 1)];
    const mo_attention_place at = mo_attention_find(seq, heads, n, stride);
    const uint tr = (uint)get_local_id(0) / MO_TC, tc = (uint)get_local_id(0) % MO_TC;
    const uint end = full ? seq : at.row + at.rows;
    float s[MO_MR][4], ds[MO_MR][4], sums[MO_MR][MO_NC], norm[MO_MR], dot[MO_MR];
    q += q_off + at.in + at.row * stride;
    k += k_off + at.in;
    v += v_off + at.in;
    out += out_off + at.out + at.row * at.out_stride;
    dout += dout_off + at.out + at.row * at.out_stride;
    for (uint i = 0; i < MO_MR; i++) {
        const uint row = min(tr * MO_MR + i, at.rows - 1);
        dot[i] = 0.0f;
        for (uint c = tc; c < n; c += MO_TC)
            dot[i] = mo_mad(dout[row * at.out_stride + c], out[row * at.out_stride + c], dot[i]);
        norm[i] = lse[lse_off + at.stats + at.row + row];
        for (uint j = 0; j < MO_NC; j++) sums[i][j] = 0.0f;
    }
    mo_attention_share(dot, 0, buffer);
    for (uint i = 0; i < MO_MR; i++)
        if (tc == 0 && tr * MO_MR + i < at.rows)
            delta[delta_off + at.stats + at.row + tr * MO_MR + i] = dot[i];
    for (uint key = 0; key < end; key += MO_OTHER) {
        const uint keys = min(end - key, (uint)MO_OTHER);
        __global const float *rows_k = k + key * stride, *rows_v = v + key * stride;
        mo_attention_product(q, stride, at.rows, rows_k, stride, keys, n, buffer, s);
        mo_attention_product(dout, at.out_stride, at.rows, rows_v, stride, keys, n, buffer, ds);
        MO_EACH_SCORE {
            const uint column = tc + j * MO_TC, row = at.row + tr * MO_MR + i;
            const int seen = column < keys && (full || key + column <= row);
            const float p = mo_exp(s[i][j] * scale - norm[i]);
            MO_WEIGHT(i, j) = seen ? p * (ds[i][j] - dot[i]) * scale : 0.0f;
        }
        mo_attention_accumulate(weights, rows_k, stride, keys, n, buffer, sums);
    }
    mo_attention_store(sums, at.rows, n, dq + dq_off + at.in + at.row * stride, stride);
}
#endif

#if MO_PART == 2
/* dk and dv of a tile of keys */
MO_KERNEL void mo_cl_attention_dkv(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
    __global const float *restrict lse, ulong lse_off, __global const float *restrict dout,
    ulong dout_off, __global const float *restrict delta, ulong delta_off,
    __global float *restrict dk, ulong dk_off, __global float *restrict dv, ulong dv_off, uint seq,
    uint heads, uint n, ulong stride, float scale, uint full) {
    __local float buffer[MO_BUFFER], weights[MO_ROWS * (MO_OTHER + 1)];
    const mo_attention_place at = mo_attention_find(seq, heads, n, stride);
    const uint tr = (uint)get_local_id(0) / MO_TC, tc = (uint)get_local_id(0) % MO_TC;
    const ulong rows = at.in + at.row * stride;
    float s[MO_MR][4], ds[MO_MR][4], dks[MO_MR][MO_NC], dvs[MO_MR][MO_NC];
    for (uint i = 0; i < MO_MR; i++)
        for (uint j = 0; j < MO_NC; j++) dks[i][j] = dvs[i][j] = 0.0f;
    q += q_off + at.in;
    k += k_off + rows;
    v += v_off + rows;
    dout += dout_off + at.out;
    lse += lse_off + at.stats;
    delta += delta_off + at.stats;
    for (uint query = full ? 0 : at.row; query < seq; query += MO_OTHER) {
        const uint queries = min(seq - query, (uint)MO_OTHER);
        __global const float *rows_q = q + query * stride;
        __global const float *rows_d = dout + query * at.out_stride;
        mo_attention_product(k, stride, at.rows, rows_q, stride, queries, n, buffer, s);
        mo_attention_product(v, stride, at.rows, rows_d, at.out_stride, queries, n, buffer, ds);
        for (uint j = 0; j < 4; j++) {
            const uint column = tc + j * MO_TC, row = query + min(column, queries - 1);
            const float norm = lse[row], dot = delta[row];
            for (uint i = 0; i < MO_MR; i++) {
                const int seen = column < queries && (full || at.row + tr * MO_MR + i <= row);
                const float p = seen ? mo_exp(s[i][j] * scale - norm) : 0.0f;
                ds[i][j] = p * (ds[i][j] - dot) * scale;
                MO_WEIGHT(i, j) = p;
            }
        }
        mo_attention_accumulate(weights, rows_d, at.out_stride, queries, n, buffer, dvs);
        barrier(CLK_LOCAL_MEM_FENCE);
        MO_EACH_SCORE MO_WEIGHT(i, j) = ds[i][j];
        mo_attention_accumulate(weights, rows_q, stride, queries, n, buffer, dks);
    }
    mo_attention_store(dks, at.rows, n, dk + dk_off + rows, stride);
    mo_attention_store(dvs, at.rows, n, dv + dv_off + rows, stride);
}
#endif
#endif
