/* attention_tile.cl - what attention.cl takes where a group has several items: MO_ROWS rows of a
 * head against blocks of MO_OTHER rows of the other side. Behind attention_lanes.cl.
 *
 * The items stand in MO_TR rows of MO_TC. An item has MO_MR rows of the tile, of which it keeps
 * every MO_TC-th column: 4 scores of a block, and MO_NC elements of the result. Operands pass
 * through local memory in pieces. Helpers are always inlined: a compiler that inlines functions
 * with barriers late was seen to crash. */

#if MEMOPT_WG > 1
/* Arrays whose places are all known are registers. */
#if MEMOPT_WG >= 32
#define MO_UNROLL _Pragma("unroll")
#else
#define MO_UNROLL
#endif
#define MO_INLINE static inline __attribute__((always_inline))

#define MO_TR    (MEMOPT_WG / MO_TC)
#define MO_ROWS  (MO_TR * MO_MR)
#define MO_OTHER (4 * MO_TC)
#define MO_NC    (MO_HEAD / MO_TC)

#define MO_PIECE 16             /* elements of a head that a product takes at once */
#define MO_PITCH (MO_PIECE + 1) /* of their rows: away from the same bank */
#define MO_BUFFER 1664
#define MO_DEEP (MO_BUFFER / MO_HEAD) /* rows of the other side that a sum takes at once */
#define MO_SOME (MO_NC < 16 ? MO_NC : 16) /* elements of a row that an item adds at once */

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
    MO_UNROLL for (uint i = 0; i < MO_MR; i++)
        MO_UNROLL for (uint j = 0; j < 4; j++) s[i][j] = 0.0f;
    for (uint begin = 0; begin < n; begin += MO_PIECE) {
        const uint size = min(n - begin, (uint)MO_PIECE);
        barrier(CLK_LOCAL_MEM_FENCE);
        mo_attention_copy(x + begin, x_stride, x_rows, size, MO_ROWS, MO_PIECE, MO_PITCH, buffer);
        mo_attention_copy(y + begin, y_stride, y_rows, size, MO_OTHER, MO_PIECE, MO_PITCH, other);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint c = 0; c < size; c++) {
            float b[4];
            MO_UNROLL for (uint j = 0; j < 4; j++) b[j] = other[(tc + j * MO_TC) * MO_PITCH + c];
            MO_UNROLL for (uint i = 0; i < MO_MR; i++) {
                const float a = buffer[(tr * MO_MR + i) * MO_PITCH + c];
                MO_UNROLL for (uint j = 0; j < 4; j++) s[i][j] = mo_mad(a, b[j], s[i][j]);
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
        MO_UNROLL for (uint first = 0; first < MO_NC; first += MO_SOME)
            for (uint k = 0; k < deep; k++) {
                float w[MO_MR];
                MO_UNROLL for (uint i = 0; i < MO_MR; i++)
                    w[i] = weights[(tr * MO_MR + i) * (MO_OTHER + 1) + begin + k];
                MO_UNROLL for (uint j = first; j < first + MO_SOME; j++) {
                    const float b = buffer[k * MO_HEAD + tc + j * MO_TC];
                    MO_UNROLL for (uint i = 0; i < MO_MR; i++)
                        sum[i][j] = mo_mad(w[i], b, sum[i][j]);
                }
            }
    }
}

/* For each of the item's rows the sum, or the largest, over the MO_TC items that share it. */
MO_INLINE void mo_attention_share(float v[MO_MR], int largest, __local float *buffer) {
    const uint tr = (uint)get_local_id(0) / MO_TC, tc = (uint)get_local_id(0) % MO_TC;
    barrier(CLK_LOCAL_MEM_FENCE);
    MO_UNROLL for (uint i = 0; i < MO_MR; i++) buffer[(tr * MO_MR + i) * MO_TC + tc] = v[i];
    barrier(CLK_LOCAL_MEM_FENCE);
    MO_UNROLL for (uint i = 0; i < MO_MR; i++) {
        __local const float *row = buffer + (tr * MO_MR + i) * MO_TC;
        float t = row[0];
        MO_UNROLL for (uint j = 1; j < MO_TC; j++)
            t = largest ? (row[j] > t ? row[j] : t) : t + row[j];
        v[i] = t;
    }
}

MO_INLINE void mo_attention_store(float sum[MO_MR][MO_NC], uint rows, uint n,
    __global float *x, ulong stride) {
    const uint tr = (uint)get_local_id(0) / MO_TC, tc = (uint)get_local_id(0) % MO_TC;
    MO_UNROLL for (uint i = 0; i < MO_MR; i++)
        MO_UNROLL for (uint j = 0; j < MO_NC; j++)
            if (tr * MO_MR + i < rows && tc + j * MO_TC < n)
                x[(tr * MO_MR + i) * stride + tc + j * MO_TC] = sum[i][j];
}

#if MO_DROP
/* What the probability of a key is multiplied with: 0, or kept. */
MO_INLINE float mo_attention_keep(uint row_key, uint key, uint dropped, float kept) {
    return mo_random(key, row_key) < dropped ? 0.0f : kept;
}
#endif

#define MO_EACH_SCORE                                                                              \
    MO_UNROLL for (uint i = 0; i < MO_MR; i++)                                                     \
        MO_UNROLL for (uint j = 0; j < 4; j++)
#endif
