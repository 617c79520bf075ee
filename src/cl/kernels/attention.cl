/* attention.cl - exact attention, see mo_attention.h, in two forms: for groups of one item, behind
 * attention_lanes.cl, and for larger ones, behind attention_tile.cl.
 *
 * groups  batch * heads * ceil(seq / 16), or ceil(seq / MO_ROWS)
 *
 * MO_HEAD  most elements of a head, at least head_size, a multiple of MO_TC
 * and where MEMOPT_WG is more than 1:
 * MO_PART  0: forward, 1: dq, 2: dk and dv
 * MO_TC    divides MEMOPT_WG, at most 16
 * MO_MR    rows of an item
 *
 * check: -DMO_PART=0 -DMO_HEAD=64 -DMO_TC=8 -DMO_MR=4
 * check: -DMO_PART=1 -DMO_HEAD=64 -DMO_TC=8 -DMO_MR=2
 * check: -DMO_PART=2 -DMO_HEAD=64 -DMO_TC=8 -DMO_MR=2
 * check: -DMO_PART=0 -DMO_HEAD=128 -DMO_TC=8 -DMO_MR=2
 * check: -DMO_PART=1 -DMO_HEAD=128 -DMO_TC=8 -DMO_MR=2
 * check: -DMO_PART=2 -DMO_HEAD=128 -DMO_TC=8 -DMO_MR=1
 * check: -DMO_PART=0 -DMO_HEAD=256 -DMO_TC=8 -DMO_MR=1
 * check: -DMO_PART=1 -DMO_HEAD=256 -DMO_TC=8 -DMO_MR=1
 * check: -DMO_PART=2 -DMO_HEAD=256 -DMO_TC=8 -DMO_MR=1 */

#if MEMOPT_WG == 1

/* out = softmax(scale q k^T) v of 16 queries */
MO_KERNEL void mo_cl_attention_forward(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
    __global float *restrict out, ulong out_off, __global float *restrict lse, ulong lse_off,
    uint seq, uint heads, uint n, ulong stride, float scale, uint full) {
    const mo_lanes_place at = mo_lanes_find(seq, heads, n, stride);
    const uint end = full ? seq : at.row + at.rows;
    const int16 last = full ? (int16)((int)seq - 1) : (int)at.row + MO_LANES;
    float16 tile[MO_HEAD], sums[MO_HEAD], s[MO_OTHER];
    float16 most = -FLT_MAX, sum = 0.0f;
    k += k_off + at.in;
    v += v_off + at.in;
    mo_lanes_load(q + q_off + at.in + at.row * stride, stride, at.rows, n, tile);
    mo_lanes_zero(sums, n);
    for (uint key = 0; key < end; key += MO_OTHER) {
        const uint keys = min(end - key, MO_OTHER);
        mo_lanes_product(tile, k + key * stride, stride, keys, n, s);
        float16 now = most;
        for (uint j = 0; j < keys; j++) {
            const float16 score = s[j] * scale;
            s[j] = select(score, (float16)-INFINITY, (int16)(int)(key + j) > last);
            now = select(now, s[j], s[j] > now);
        }
        const float16 shrink = mo_exp16(most - now);
        sum *= shrink;
        for (uint j = 0; j < keys; j++) {
            s[j] = mo_exp16(s[j] - now);
            sum += s[j];
        }
        most = now;
        mo_lanes_accumulate(s, v + key * stride, stride, keys, n, shrink, sums);
    }
    const float16 inverse = 1.0f / sum;
    for (uint c = 0; c < n; c++) sums[c] *= inverse;
    out += out_off + at.out + at.row * at.out_stride;
    mo_lanes_store(sums, at.rows, n, out, at.out_stride);
    float stats[16];
    vstore16(most + log(sum), 0, stats);
    for (uint r = 0; r < at.rows; r++) lse[lse_off + at.stats + at.row + r] = stats[r];
}

/* dq of 16 queries; delta[row] = dout out, for the other kernel */
MO_KERNEL void mo_cl_attention_dq(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
    __global const float *restrict out, ulong out_off, __global const float *restrict lse,
    ulong lse_off, __global const float *restrict dout, ulong dout_off,
    __global float *restrict delta, ulong delta_off, __global float *restrict dq, ulong dq_off,
    uint seq, uint heads, uint n, ulong stride, float scale, uint full) {
    const mo_lanes_place at = mo_lanes_find(seq, heads, n, stride);
    const uint end = full ? seq : at.row + at.rows;
    const int16 last = full ? (int16)((int)seq - 1) : (int)at.row + MO_LANES;
    const ulong row = at.out + at.row * at.out_stride, stats = at.stats + at.row;
    float16 tile[MO_HEAD], dtile[MO_HEAD], sums[MO_HEAD], s[MO_OTHER], ds[MO_OTHER];
    k += k_off + at.in;
    v += v_off + at.in;
    mo_lanes_load(q + q_off + at.in + at.row * stride, stride, at.rows, n, tile);
    mo_lanes_load(dout + dout_off + row, at.out_stride, at.rows, n, dtile);
    mo_lanes_load(out + out_off + row, at.out_stride, at.rows, n, sums);
    const float16 norm = mo_lanes_row(lse + lse_off + stats, at.rows);
    float16 dot = 0.0f;
    for (uint c = 0; c < n; c++) dot = mo_mad16(dtile[c], sums[c], dot);
    mo_lanes_store(&dot, at.rows, 1, delta + delta_off + stats, 1);
    mo_lanes_zero(sums, n);
    for (uint key = 0; key < end; key += MO_OTHER) {
        const uint keys = min(end - key, MO_OTHER);
        mo_lanes_product(tile, k + key * stride, stride, keys, n, s);
        mo_lanes_product(dtile, v + key * stride, stride, keys, n, ds);
        for (uint j = 0; j < keys; j++) {
            const float16 p = mo_exp16(s[j] * scale - norm);
            const float16 d = p * (ds[j] - dot) * scale;
            ds[j] = select(d, (float16)0.0f, (int16)(int)(key + j) > last);
        }
        mo_lanes_accumulate(ds, k + key * stride, stride, keys, n, (float16)1.0f, sums);
    }
    mo_lanes_store(sums, at.rows, n, dq + dq_off + at.in + at.row * stride, stride);
}

/* dk and dv of 16 keys */
MO_KERNEL void mo_cl_attention_dkv(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
    __global const float *restrict lse, ulong lse_off, __global const float *restrict dout,
    ulong dout_off, __global const float *restrict delta, ulong delta_off,
    __global float *restrict dk, ulong dk_off, __global float *restrict dv, ulong dv_off, uint seq,
    uint heads, uint n, ulong stride, float scale, uint full) {
    const mo_lanes_place at = mo_lanes_find(seq, heads, n, stride);
    const int16 key = (int)at.row + MO_LANES;
    const ulong rows = at.in + at.row * stride;
    float16 tile[MO_HEAD], vtile[MO_HEAD], dks[MO_HEAD], dvs[MO_HEAD], s[MO_OTHER], ds[MO_OTHER];
    q += q_off + at.in;
    dout += dout_off + at.out;
    lse += lse_off + at.stats;
    delta += delta_off + at.stats;
    mo_lanes_load(k + k_off + rows, stride, at.rows, n, tile);
    mo_lanes_load(v + v_off + rows, stride, at.rows, n, vtile);
    mo_lanes_zero(dks, n);
    mo_lanes_zero(dvs, n);
    for (uint query = full ? 0 : at.row; query < seq; query += MO_OTHER) {
        const uint queries = min(seq - query, MO_OTHER);
        __global const float *rows_q = q + query * stride;
        __global const float *rows_d = dout + query * at.out_stride;
        mo_lanes_product(tile, rows_q, stride, queries, n, s);
        mo_lanes_product(vtile, rows_d, at.out_stride, queries, n, ds);
        for (uint j = 0; j < queries; j++) {
            const float16 e = mo_exp16(s[j] * scale - lse[query + j]);
            const int16 first = full ? (int16)0 : key;
            const float16 p = select(e, (float16)0.0f, first > (int16)(int)(query + j));
            s[j] = p;
            ds[j] = p * (ds[j] - delta[query + j]) * scale;
        }
        mo_lanes_accumulate(s, rows_d, at.out_stride, queries, n, (float16)1.0f, dvs);
        mo_lanes_accumulate(ds, rows_q, stride, queries, n, (float16)1.0f, dks);
    }
    mo_lanes_store(dks, at.rows, n, dk + dk_off + rows, stride);
    mo_lanes_store(dvs, at.rows, n, dv + dv_off + rows, stride);
}

#else

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
    MO_UNROLL for (uint i = 0; i < MO_MR; i++) {
        most[i] = -FLT_MAX;
        sum[i] = 0.0f;
        MO_UNROLL for (uint j = 0; j < MO_NC; j++) sums[i][j] = 0.0f;
    }
    q += q_off + at.in + at.row * stride;
    k += k_off + at.in;
    v += v_off + at.in;
    for (uint key = 0; key < end; key += MO_OTHER) {
        const uint keys = min(end - key, (uint)MO_OTHER);
        mo_attention_product(q, stride, at.rows, k + key * stride, stride, keys, n, buffer, s);
        MO_UNROLL for (uint i = 0; i < MO_MR; i++) now[i] = most[i];
        MO_EACH_SCORE {
            const uint column = tc + j * MO_TC, row = at.row + tr * MO_MR + i;
            const int seen = column < keys && (full || key + column <= row);
            s[i][j] = seen ? s[i][j] * scale : -INFINITY;
            now[i] = s[i][j] > now[i] ? s[i][j] : now[i];
        }
        mo_attention_share(now, 1, buffer);
        MO_UNROLL for (uint i = 0; i < MO_MR; i++) {
            const float shrink = mo_exp(most[i] - now[i]);
            most[i] = now[i];
            sum[i] *= shrink;
            MO_UNROLL for (uint j = 0; j < MO_NC; j++) sums[i][j] *= shrink;
        }
        MO_EACH_SCORE {
            const float p = mo_exp(s[i][j] - most[i]);
            sum[i] += p;
            MO_WEIGHT(i, j) = p;
        }
        mo_attention_accumulate(weights, v + key * stride, stride, keys, n, buffer, sums);
    }
    mo_attention_share(sum, 0, buffer);
    MO_UNROLL for (uint i = 0; i < MO_MR; i++) {
        const uint row = tr * MO_MR + i;
        const float inverse = 1.0f / sum[i];
        MO_UNROLL for (uint j = 0; j < MO_NC; j++) sums[i][j] *= inverse;
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
    MO_UNROLL for (uint i = 0; i < MO_MR; i++) {
        const uint row = min(tr * MO_MR + i, at.rows - 1);
        dot[i] = 0.0f;
        for (uint c = tc; c < n; c += MO_TC)
            dot[i] = mo_mad(dout[row * at.out_stride + c], out[row * at.out_stride + c], dot[i]);
        norm[i] = lse[lse_off + at.stats + at.row + row];
        MO_UNROLL for (uint j = 0; j < MO_NC; j++) sums[i][j] = 0.0f;
    }
    mo_attention_share(dot, 0, buffer);
    MO_UNROLL for (uint i = 0; i < MO_MR; i++)
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
    MO_UNROLL for (uint i = 0; i < MO_MR; i++)
        MO_UNROLL for (uint j = 0; j < MO_NC; j++) dks[i][j] = dvs[i][j] = 0.0f;
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
        MO_UNROLL for (uint j = 0; j < 4; j++) {
            const uint column = tc + j * MO_TC, row = query + min(column, queries - 1);
            const float norm = lse[row], dot = delta[row];
            MO_UNROLL for (uint i = 0; i < MO_MR; i++) {
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
