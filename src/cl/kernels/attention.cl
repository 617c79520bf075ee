/* attention.cl - exact attention, see mo_attention.h, in two forms: for groups of one item, behind
 * attention_lanes.cl, and for larger ones, behind attention_tile.cl.
 *
 * groups  batch * heads * ceil(seq / 16), or ceil(seq / MO_ROWS); kv_heads for dk and dv
 *
 * MO_HEAD  most elements of a head, at least head_size, a multiple of MO_TC
 * MO_BLOCKS, MO_DROP  see attention_mask.cl
 * and where MEMOPT_WG is more than 1:
 * MO_PART  0: forward, 1: dq, 2: dk and dv
 * MO_TC    divides MEMOPT_WG, at most 16
 * MO_MR    rows of an item
 *
 * check: -DMO_BLOCKS=0 -DMO_DROP=0 -DMO_PART=0 -DMO_HEAD=64 -DMO_TC=8 -DMO_MR=4
 * check: -DMO_BLOCKS=0 -DMO_DROP=0 -DMO_PART=1 -DMO_HEAD=64 -DMO_TC=8 -DMO_MR=2
 * check: -DMO_BLOCKS=0 -DMO_DROP=0 -DMO_PART=2 -DMO_HEAD=64 -DMO_TC=8 -DMO_MR=2
 * check: -DMO_BLOCKS=1 -DMO_DROP=1 -DMO_PART=0 -DMO_HEAD=64 -DMO_TC=8 -DMO_MR=4
 * check: -DMO_BLOCKS=1 -DMO_DROP=1 -DMO_PART=1 -DMO_HEAD=64 -DMO_TC=8 -DMO_MR=2
 * check: -DMO_BLOCKS=1 -DMO_DROP=1 -DMO_PART=2 -DMO_HEAD=64 -DMO_TC=8 -DMO_MR=2
 * check: -DMO_BLOCKS=0 -DMO_DROP=0 -DMO_PART=0 -DMO_HEAD=128 -DMO_TC=8 -DMO_MR=2
 * check: -DMO_BLOCKS=0 -DMO_DROP=0 -DMO_PART=1 -DMO_HEAD=128 -DMO_TC=8 -DMO_MR=2
 * check: -DMO_BLOCKS=0 -DMO_DROP=0 -DMO_PART=2 -DMO_HEAD=128 -DMO_TC=8 -DMO_MR=1
 * check: -DMO_BLOCKS=0 -DMO_DROP=0 -DMO_PART=0 -DMO_HEAD=256 -DMO_TC=8 -DMO_MR=1
 * check: -DMO_BLOCKS=0 -DMO_DROP=0 -DMO_PART=1 -DMO_HEAD=256 -DMO_TC=8 -DMO_MR=1
 * check: -DMO_BLOCKS=0 -DMO_DROP=0 -DMO_PART=2 -DMO_HEAD=256 -DMO_TC=8 -DMO_MR=1 */

#if MEMOPT_WG == 1

/* out = softmax(scale q k^T) v of 16 queries */
MO_KERNEL void mo_cl_attention_forward(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
    __global float *restrict out, ulong out_off, __global float *restrict lse, ulong lse_off,
    MO_SHAPE_ARGS) {
    const mo_attention_place at = mo_attention_find(seq, heads, 16u);
    const ulong out_stride = (ulong)heads * n;
    const ulong in = mo_attention_head(at, at.head, seq, stride, n) + at.row * stride;
    const ulong kv = mo_attention_head(at, at.head / (heads / kv_heads), seq, kv_stride, n);
    const ulong row = mo_attention_head(at, at.head, seq, out_stride, n) + at.row * out_stride;
    const ulong stats = ((ulong)at.sequence * heads + at.head) * seq + at.row;
    const uint begin = MO_ALIGN(mo_attention_back(at.row, window)), stop = at.row + at.rows - 1;
    const uint end = 1 + (full ? mo_attention_ahead(stop, window, seq) : stop);
    const int16 rows = (int)at.row + MO_LANES, first = mo_lanes_back(rows, window);
    const int16 last = full ? mo_lanes_ahead(rows, window, seq) : rows;
    float16 tile[MO_HEAD], sums[MO_HEAD], s[MO_OTHER];
    float16 most = -FLT_MAX, sum = 0.0f;
#if MO_DROP
    const uint16 row_keys = mo_lanes_random_keys(seed, offset + stats);
#endif
    k += k_off + kv;
    v += v_off + kv;
    mo_lanes_load(q + q_off + in, stride, at.rows, n, tile);
    mo_lanes_zero(sums, n);
    for (uint key = begin; key < end; key += MO_OTHER) {
        if (MO_HIDDEN(at.row, key)) continue;
        const uint keys = min(end - key, MO_OTHER);
        mo_lanes_product(tile, k + key * kv_stride, kv_stride, keys, n, s);
        float16 now = most;
        for (uint j = 0; j < keys; j++) {
            const float16 score = s[j] * scale;
            const int16 at_key = (int)(key + j);
            s[j] = select(score, (float16)-INFINITY, (at_key > last) | (at_key < first));
            now = select(now, s[j], s[j] > now);
        }
        const float16 shrink = mo_exp16(most - now);
        sum *= shrink;
        for (uint j = 0; j < keys; j++) {
            s[j] = mo_exp16(s[j] - now);
            sum += s[j];
#if MO_DROP
            s[j] *= mo_lanes_keep(row_keys, (uint16)(key + j), dropped, kept);
#endif
        }
        most = now;
        mo_lanes_accumulate(s, v + key * kv_stride, kv_stride, keys, n, shrink, sums);
    }
    const int16 none = sum == 0.0f;
    const float16 inverse = select(1.0f / sum, (float16)0.0f, none);
    for (uint c = 0; c < n; c++) sums[c] *= inverse;
    mo_lanes_store(sums, at.rows, n, out + out_off + row, out_stride);
    most = select(most + log(sum), (float16)-INFINITY, none);
    mo_lanes_store(&most, at.rows, 1, lse + lse_off + stats, 1);
}

/* dq of 16 queries; delta[row] = dout out, for the other kernel */
MO_KERNEL void mo_cl_attention_dq(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
    __global const float *restrict out, ulong out_off, __global const float *restrict lse,
    ulong lse_off, __global const float *restrict dout, ulong dout_off,
    __global float *restrict delta, ulong delta_off, __global float *restrict dq, ulong dq_off,
    MO_SHAPE_ARGS) {
    const mo_attention_place at = mo_attention_find(seq, heads, 16u);
    const ulong out_stride = (ulong)heads * n;
    const ulong in = mo_attention_head(at, at.head, seq, stride, n) + at.row * stride;
    const ulong kv = mo_attention_head(at, at.head / (heads / kv_heads), seq, kv_stride, n);
    const ulong row = mo_attention_head(at, at.head, seq, out_stride, n) + at.row * out_stride;
    const ulong stats = ((ulong)at.sequence * heads + at.head) * seq + at.row;
    const uint begin = MO_ALIGN(mo_attention_back(at.row, window)), stop = at.row + at.rows - 1;
    const uint end = 1 + (full ? mo_attention_ahead(stop, window, seq) : stop);
    const int16 rows = (int)at.row + MO_LANES, first = mo_lanes_back(rows, window);
    const int16 last = full ? mo_lanes_ahead(rows, window, seq) : rows;
    float16 tile[MO_HEAD], dtile[MO_HEAD], sums[MO_HEAD], s[MO_OTHER], ds[MO_OTHER];
#if MO_DROP
    const uint16 row_keys = mo_lanes_random_keys(seed, offset + stats);
#endif
    k += k_off + kv;
    v += v_off + kv;
    mo_lanes_load(q + q_off + in, stride, at.rows, n, tile);
    mo_lanes_load(dout + dout_off + row, out_stride, at.rows, n, dtile);
    mo_lanes_load(out + out_off + row, out_stride, at.rows, n, sums);
    const float16 norm = mo_lanes_row(lse + lse_off + stats, at.rows);
    float16 dot = 0.0f;
    for (uint c = 0; c < n; c++) dot = mo_mad16(dtile[c], sums[c], dot);
    mo_lanes_store(&dot, at.rows, 1, delta + delta_off + stats, 1);
    mo_lanes_zero(sums, n);
    for (uint key = begin; key < end; key += MO_OTHER) {
        if (MO_HIDDEN(at.row, key)) continue;
        const uint keys = min(end - key, MO_OTHER);
        mo_lanes_product(tile, k + key * kv_stride, kv_stride, keys, n, s);
        mo_lanes_product(dtile, v + key * kv_stride, kv_stride, keys, n, ds);
        for (uint j = 0; j < keys; j++) {
            const int16 at_key = (int)(key + j);
            const float16 p = mo_exp16(s[j] * scale - norm);
#if MO_DROP
            ds[j] *= mo_lanes_keep(row_keys, (uint16)(key + j), dropped, kept);
#endif
            const float16 d = p * (ds[j] - dot) * scale;
            ds[j] = select(d, (float16)0.0f, (at_key > last) | (at_key < first));
        }
        mo_lanes_accumulate(ds, k + key * kv_stride, kv_stride, keys, n, (float16)1.0f, sums);
    }
    mo_lanes_store(sums, at.rows, n, dq + dq_off + in, stride);
}

/* dk and dv of 16 keys */
MO_KERNEL void mo_cl_attention_dkv(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
    __global const float *restrict lse, ulong lse_off, __global const float *restrict dout,
    ulong dout_off, __global const float *restrict delta, ulong delta_off,
    __global float *restrict dk, ulong dk_off, __global float *restrict dv, ulong dv_off,
    MO_SHAPE_ARGS) {
    const mo_attention_place at = mo_attention_find(seq, kv_heads, 16u);
    const ulong out_stride = (ulong)heads * n;
    const ulong kv = mo_attention_head(at, at.head, seq, kv_stride, n) + at.row * kv_stride;
    const uint group = heads / kv_heads, stop = at.row + at.rows - 1;
    const uint begin = MO_ALIGN(full ? mo_attention_back(at.row, window) : at.row);
    const uint end = 1 + mo_attention_ahead(stop, window, seq);
    const int16 rows = (int)at.row + MO_LANES, last = mo_lanes_ahead(rows, window, seq);
    const int16 first = full ? mo_lanes_back(rows, window) : rows;
    float16 tile[MO_HEAD], vtile[MO_HEAD], dks[MO_HEAD], dvs[MO_HEAD], s[MO_OTHER], ds[MO_OTHER];
    mo_lanes_load(k + k_off + kv, kv_stride, at.rows, n, tile);
    mo_lanes_load(v + v_off + kv, kv_stride, at.rows, n, vtile);
    mo_lanes_zero(dks, n);
    mo_lanes_zero(dvs, n);
    for (uint head = at.head * group; head < at.head * group + group; head++) {
        const ulong stats = ((ulong)at.sequence * heads + head) * seq;
        __global const float *head_q = q + q_off + mo_attention_head(at, head, seq, stride, n);
        __global const float *head_d =
            dout + dout_off + mo_attention_head(at, head, seq, out_stride, n);
        for (uint query = begin; query < end; query += MO_OTHER) {
            if (MO_HIDDEN(query, at.row)) continue;
            const uint queries = min(end - query, (uint)MO_OTHER);
            __global const float *rows_q = head_q + query * stride;
            __global const float *rows_d = head_d + query * out_stride;
            mo_lanes_product(tile, rows_q, stride, queries, n, s);
            mo_lanes_product(vtile, rows_d, out_stride, queries, n, ds);
            for (uint j = 0; j < queries; j++) {
                const ulong row = stats + query + j;
                const int16 at_query = (int)(query + j);
                const float16 e = mo_exp16(s[j] * scale - lse[lse_off + row]);
                const float16 p =
                    select(e, (float16)0.0f, (first > at_query) | (last < at_query));
                s[j] = p;
#if MO_DROP
                const uint row_key = mo_random_key(seed, (uint)(offset + row));
                const float16 keep =
                    mo_lanes_keep((uint16)row_key, as_uint16(rows), dropped, kept);
                s[j] *= keep;
                ds[j] *= keep;
#endif
                ds[j] = p * (ds[j] - delta[delta_off + row]) * scale;
            }
            mo_lanes_accumulate(s, rows_d, out_stride, queries, n, (float16)1.0f, dvs);
            mo_lanes_accumulate(ds, rows_q, stride, queries, n, (float16)1.0f, dks);
        }
    }
    mo_lanes_store(dks, at.rows, n, dk + dk_off + kv, kv_stride);
    mo_lanes_store(dvs, at.rows, n, dv + dv_off + kv, kv_stride);
}

#else

#if MO_PART == 0
/* out = softmax(scale q k^T) v of a tile of queries */
MO_KERNEL void mo_cl_attention_forward(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
    __global float *restrict out, ulong out_off, __global float *restrict lse, ulong lse_off,
    MO_SHAPE_ARGS) {
    __local float buffer[MO_BUFFER], weights[MO_ROWS * (MO_OTHER + 1)];
    const mo_attention_place at = mo_attention_find(seq, heads, MO_ROWS);
    const ulong out_stride = (ulong)heads * n;
    const ulong in = mo_attention_head(at, at.head, seq, stride, n) + at.row * stride;
    const ulong kv = mo_attention_head(at, at.head / (heads / kv_heads), seq, kv_stride, n);
    const ulong row = mo_attention_head(at, at.head, seq, out_stride, n) + at.row * out_stride;
    const ulong stats = ((ulong)at.sequence * heads + at.head) * seq + at.row;
    const uint begin = MO_ALIGN(mo_attention_back(at.row, window)), stop = at.row + at.rows - 1;
    const uint end = 1 + (full ? mo_attention_ahead(stop, window, seq) : stop);
    const uint tr = (uint)get_local_id(0) / MO_TC, tc = (uint)get_local_id(0) % MO_TC;
    float s[MO_MR][4], sums[MO_MR][MO_NC], most[MO_MR], sum[MO_MR], now[MO_MR];
    MO_UNROLL for (uint i = 0; i < MO_MR; i++) {
        most[i] = -FLT_MAX;
        sum[i] = 0.0f;
        MO_UNROLL for (uint j = 0; j < MO_NC; j++) sums[i][j] = 0.0f;
    }
    q += q_off + in;
    k += k_off + kv;
    v += v_off + kv;
#if MO_DROP
    uint row_keys[MO_MR];
    MO_UNROLL for (uint i = 0; i < MO_MR; i++)
        row_keys[i] = mo_random_key(seed, (uint)(offset + stats + tr * MO_MR + i));
#endif
    for (uint key = begin; key < end; key += MO_OTHER) {
        if (MO_HIDDEN(at.row, key)) continue;
        const uint keys = min(end - key, (uint)MO_OTHER);
        mo_attention_product(
            q, stride, at.rows, k + key * kv_stride, kv_stride, keys, n, buffer, s);
        MO_UNROLL for (uint i = 0; i < MO_MR; i++) now[i] = most[i];
        MO_EACH_SCORE {
            const uint column = tc + j * MO_TC, query = at.row + tr * MO_MR + i;
            const int seen = column < keys && mo_attention_sees(query, key + column, full, window);
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
#if MO_DROP
            const uint at_key = key + tc + j * MO_TC;
            MO_WEIGHT(i, j) = p * mo_attention_keep(row_keys[i], at_key, dropped, kept);
#else
            MO_WEIGHT(i, j) = p;
#endif
        }
        mo_attention_accumulate(weights, v + key * kv_stride, kv_stride, keys, n, buffer, sums);
    }
    mo_attention_share(sum, 0, buffer);
    MO_UNROLL for (uint i = 0; i < MO_MR; i++) {
        const uint r = tr * MO_MR + i;
        const int none = sum[i] == 0.0f;
        const float inverse = none ? 0.0f : 1.0f / sum[i];
        MO_UNROLL for (uint j = 0; j < MO_NC; j++) sums[i][j] *= inverse;
        if (tc == 0 && r < at.rows)
            lse[lse_off + stats + r] = none ? -INFINITY : most[i] + log(sum[i]);
    }
    mo_attention_store(sums, at.rows, n, out + out_off + row, out_stride);
}
#endif

#if MO_PART == 1
/* dq of a tile of queries; delta[row] = dout out, for the other kernel */
MO_KERNEL void mo_cl_attention_dq(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
    __global const float *restrict out, ulong out_off, __global const float *restrict lse,
    ulong lse_off, __global const float *restrict dout, ulong dout_off,
    __global float *restrict delta, ulong delta_off, __global float *restrict dq, ulong dq_off,
    MO_SHAPE_ARGS) {
    __local float buffer[MO_BUFFER], weights[MO_ROWS * (MO_OTHER + 1)];
    const mo_attention_place at = mo_attention_find(seq, heads, MO_ROWS);
    const ulong out_stride = (ulong)heads * n;
    const ulong in = mo_attention_head(at, at.head, seq, stride, n) + at.row * stride;
    const ulong kv = mo_attention_head(at, at.head / (heads / kv_heads), seq, kv_stride, n);
    const ulong row = mo_attention_head(at, at.head, seq, out_stride, n) + at.row * out_stride;
    const ulong stats = ((ulong)at.sequence * heads + at.head) * seq + at.row;
    const uint begin = MO_ALIGN(mo_attention_back(at.row, window)), stop = at.row + at.rows - 1;
    const uint end = 1 + (full ? mo_attention_ahead(stop, window, seq) : stop);
    const uint tr = (uint)get_local_id(0) / MO_TC, tc = (uint)get_local_id(0) % MO_TC;
    float s[MO_MR][4], ds[MO_MR][4], sums[MO_MR][MO_NC], norm[MO_MR], dot[MO_MR];
    q += q_off + in;
    k += k_off + kv;
    v += v_off + kv;
#if MO_DROP
    uint row_keys[MO_MR];
    MO_UNROLL for (uint i = 0; i < MO_MR; i++)
        row_keys[i] = mo_random_key(seed, (uint)(offset + stats + tr * MO_MR + i));
#endif
    out += out_off + row;
    dout += dout_off + row;
    MO_UNROLL for (uint i = 0; i < MO_MR; i++) {
        const uint r = min(tr * MO_MR + i, at.rows - 1);
        dot[i] = 0.0f;
        for (uint c = tc; c < n; c += MO_TC)
            dot[i] = mo_mad(dout[r * out_stride + c], out[r * out_stride + c], dot[i]);
        norm[i] = lse[lse_off + stats + r];
        MO_UNROLL for (uint j = 0; j < MO_NC; j++) sums[i][j] = 0.0f;
    }
    mo_attention_share(dot, 0, buffer);
    MO_UNROLL for (uint i = 0; i < MO_MR; i++)
        if (tc == 0 && tr * MO_MR + i < at.rows)
            delta[delta_off + stats + tr * MO_MR + i] = dot[i];
    for (uint key = begin; key < end; key += MO_OTHER) {
        if (MO_HIDDEN(at.row, key)) continue;
        const uint keys = min(end - key, (uint)MO_OTHER);
        __global const float *rows_k = k + key * kv_stride, *rows_v = v + key * kv_stride;
        mo_attention_product(q, stride, at.rows, rows_k, kv_stride, keys, n, buffer, s);
        mo_attention_product(dout, out_stride, at.rows, rows_v, kv_stride, keys, n, buffer, ds);
        MO_EACH_SCORE {
            const uint column = tc + j * MO_TC, query = at.row + tr * MO_MR + i;
            const int seen = column < keys && mo_attention_sees(query, key + column, full, window);
            const float p = mo_exp(s[i][j] * scale - norm[i]);
#if MO_DROP
            ds[i][j] *= mo_attention_keep(row_keys[i], key + column, dropped, kept);
#endif
            MO_WEIGHT(i, j) = seen ? p * (ds[i][j] - dot[i]) * scale : 0.0f;
        }
        mo_attention_accumulate(weights, rows_k, kv_stride, keys, n, buffer, sums);
    }
    mo_attention_store(sums, at.rows, n, dq + dq_off + in, stride);
}
#endif

#if MO_PART == 2
/* dk and dv of a tile of keys */
MO_KERNEL void mo_cl_attention_dkv(__global const float *restrict q, ulong q_off,
    __global const float *restrict k, ulong k_off, __global const float *restrict v, ulong v_off,
    __global const float *restrict lse, ulong lse_off, __global const float *restrict dout,
    ulong dout_off, __global const float *restrict delta, ulong delta_off,
    __global float *restrict dk, ulong dk_off, __global float *restrict dv, ulong dv_off,
    MO_SHAPE_ARGS) {
    __local float buffer[MO_BUFFER], weights[MO_ROWS * (MO_OTHER + 1)];
    const mo_attention_place at = mo_attention_find(seq, kv_heads, MO_ROWS);
    const ulong out_stride = (ulong)heads * n;
    const ulong kv = mo_attention_head(at, at.head, seq, kv_stride, n) + at.row * kv_stride;
    const uint group = heads / kv_heads, stop = at.row + at.rows - 1;
    const uint begin = MO_ALIGN(full ? mo_attention_back(at.row, window) : at.row);
    const uint end = 1 + mo_attention_ahead(stop, window, seq);
    const uint tr = (uint)get_local_id(0) / MO_TC, tc = (uint)get_local_id(0) % MO_TC;
    float s[MO_MR][4], ds[MO_MR][4], dks[MO_MR][MO_NC], dvs[MO_MR][MO_NC];
    MO_UNROLL for (uint i = 0; i < MO_MR; i++)
        MO_UNROLL for (uint j = 0; j < MO_NC; j++) dks[i][j] = dvs[i][j] = 0.0f;
    k += k_off + kv;
    v += v_off + kv;
    for (uint head = at.head * group; head < at.head * group + group; head++) {
        const ulong stats = ((ulong)at.sequence * heads + head) * seq;
        __global const float *head_q = q + q_off + mo_attention_head(at, head, seq, stride, n);
        __global const float *head_d =
            dout + dout_off + mo_attention_head(at, head, seq, out_stride, n);
        for (uint query = begin; query < end; query += MO_OTHER) {
            if (MO_HIDDEN(query, at.row)) continue;
            const uint queries = min(end - query, (uint)MO_OTHER);
            __global const float *rows_q = head_q + query * stride;
            __global const float *rows_d = head_d + query * out_stride;
            mo_attention_product(k, kv_stride, at.rows, rows_q, stride, queries, n, buffer, s);
            mo_attention_product(v, kv_stride, at.rows, rows_d, out_stride, queries, n, buffer, ds);
            MO_UNROLL for (uint j = 0; j < 4; j++) {
                const uint column = tc + j * MO_TC, at_query = query + min(column, queries - 1);
                const ulong row = stats + at_query;
                const float norm = lse[lse_off + row], dot = delta[delta_off + row];
#if MO_DROP
                const uint row_key = mo_random_key(seed, (uint)(offset + row));
#endif
                MO_UNROLL for (uint i = 0; i < MO_MR; i++) {
                    const uint at_key = at.row + tr * MO_MR + i;
                    const int seen =
                        column < queries && mo_attention_sees(at_query, at_key, full, window);
                    const float p = seen ? mo_exp(s[i][j] * scale - norm) : 0.0f;
#if MO_DROP
                    const float keep = mo_attention_keep(row_key, at_key, dropped, kept);
                    MO_WEIGHT(i, j) = p * keep;
                    ds[i][j] = p * (ds[i][j] * keep - dot) * scale;
#else
                    MO_WEIGHT(i, j) = p;
                    ds[i][j] = p * (ds[i][j] - dot) * scale;
#endif
                }
            }
            mo_attention_accumulate(weights, rows_d, out_stride, queries, n, buffer, dvs);
            barrier(CLK_LOCAL_MEM_FENCE);
            MO_EACH_SCORE MO_WEIGHT(i, j) = ds[i][j];
            mo_attention_accumulate(weights, rows_q, stride, queries, n, buffer, dks);
        }
    }
    mo_attention_store(dks, at.rows, n, dk + dk_off + kv, kv_stride);
    mo_attention_store(dvs, at.rows, n, dv + dv_off + kv, kv_stride);
}
#endif
#endif
