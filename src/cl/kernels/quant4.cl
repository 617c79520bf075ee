/* quant4.cl - blockwise 4-bit codes, see mo_quant4.h.
 *
 * groups  encoding: ceil(n / MO_TILE); decoding: ceil((lead + n) / MO_TILE)
 *
 * A block is 2^shift numbers, 32..4096.
 *
 * MO_FP4  0 NF4, 1 FP4
 * MO_OUT  of decoding, see codec.cl
 *
 * check: -DMO_FP4=0 -DMO_OUT=0
 * check: -DMO_FP4=1 -DMO_OUT=0
 * check: -DMO_FP4=0 -DMO_OUT=1
 * check: -DMO_FP4=0 -DMO_OUT=2 */

#define MO_Q4_ZEROS      (MO_FP4 ? 0x00u : 0x77u) /* two codes of 0 */
#define MO_Q4_INFINITIES (MO_FP4 ? 0x33u : 0xffu) /* two codes of 1 */

static inline uint mo_q4_code(float t) {
    return MO_FP4 ? mo_fp4_code(t) : mo_nf4_code(t);
}

static inline uint mo_q4_pair(float first, float second) {
    return mo_q4_code(first) << 4 | mo_q4_code(second);
}

/* Byte i of the codes of n numbers, the last one with the code of 0 behind an odd end. */
static inline uint mo_q4_byte(__global const float *x, uint i, uint n, uint scale) {
    const float inverse = 1.0f / as_float(scale);
    const float second = 2u * i + 1u < n ? x[2u * i + 1u] * inverse : 0.0f;
    if (scale == 0u) return MO_Q4_ZEROS;
    if (scale == MO_INFINITY) return MO_Q4_INFINITIES;
    return mo_q4_pair(x[2u * i] * inverse, second);
}

#if MEMOPT_WG == 1
/* One block, whose scale it returns. */
static inline float mo_q4_encode_block(__global const float *x, uint n, __global uchar *codes) {
    const uint pairs = n / 2u, scale = mo_q8_scale(mo_most(x, n, 0.0f));
    const float inverse = 1.0f / as_float(scale);
    if (scale == 0u || scale == MO_INFINITY)
        for (uint i = 0u; i < pairs; i++)
            codes[i] = (uchar)(scale == 0u ? MO_Q4_ZEROS : MO_Q4_INFINITIES);
    else
        for (uint i = 0u; i < pairs; i++)
            codes[i] = (uchar)mo_q4_pair(x[2u * i] * inverse, x[2u * i + 1u] * inverse);
    if (n % 2u) codes[pairs] = (uchar)mo_q4_byte(x, pairs, n, scale);
    return as_float(scale);
}
#endif

/* code of i = nearest(map, x[i] * (1 / absmax[i >> shift])); that of 2k is in the high half of byte
 * k, that of 2k + 1 in the low half. */
MO_KERNEL void mo_cl_quant4_encode(__global const float *restrict x, ulong x_off,
    __global uchar *restrict codes, ulong codes_off, __global float *restrict absmax,
    ulong absmax_off, ulong n, uint shift) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global const float *from = x + x_off + tile;
    __global uchar *to = codes + codes_off + tile / 2u;
    __global float *scales = absmax + absmax_off + (tile >> shift);
#if MEMOPT_WG == 1
    for (uint i = 0u; i < size; i += 1u << shift) {
        const uint block = min(size - i, 1u << shift);
        scales[i >> shift] = block == 64u ? mo_q4_encode_block(from + i, 64u, to + i / 2u)
                                          : mo_q4_encode_block(from + i, block, to + i / 2u);
    }
#else
    __local uint most[MO_MOST_WORDS];
    mo_most_blocks(from, size, shift, 0.0f, most);
    for (uint i = (uint)get_local_id(0); 2u * i < size; i += MEMOPT_WG) {
        const uint scale = mo_q8_scale(most[2u * i >> shift]);
        to[i] = (uchar)mo_q4_byte(from, i, size, scale);
        if ((2u * i & ((1u << shift) - 1u)) == 0u) scales[2u * i >> shift] = as_float(scale);
    }
#endif
}

#if MEMOPT_WG == 1
/* The numbers of n bytes of one block. */
#if MO_OUT == 0
static inline void mo_q4_decode_bytes(__global const uchar *codes, uint n, float scale,
    __global const uint *tables, __global float *x) {
    __global const uint *pairs = tables + MO_TABLE_PAIRS4(MO_FP4);
    for (uint i = 0u; i < n; i++) vstore2(as_float2(vload2(codes[i], pairs)) * scale, i, x);
}

#if MO_STREAMS
/* 8 codes, the first in the high half of the lowest byte. */
static inline uint8 mo_q4_codes(uint bytes) {
    return (uint8)bytes >> (uint8)(4u, 0u, 12u, 8u, 20u, 16u, 28u, 24u) & 15u;
}

static inline void mo_q4_decode_stream(__global const uchar *codes, uint n, float scale,
    __global const uint *tables, __global float *x) {
    __global const uint *map = tables + MO_TABLE_MAP4(MO_FP4);
    const uint head = min(n, MO_STREAM_HEAD(float, x) / 2u);
    const float8 low = as_float8(vload8(0, map)) * scale, high = as_float8(vload8(1, map)) * scale;
    uint i = head;
    if (head > 0u) mo_q4_decode_bytes(codes, head, scale, tables, x);
    for (; i + 4u <= n; i += 4u) {
        const uint8 code = mo_q4_codes(as_uint(vload4(0, codes + i)));
        MO_STREAM_8(float, mo_lookup16(low, high, code), x + 2u * i);
    }
    if (i < n) mo_q4_decode_bytes(codes + i, n - i, scale, tables, x + 2u * i);
}
#endif
#else
/* A block has 16 different ones. */
static inline void mo_q4_decode_bytes(__global const uchar *codes, uint n, float scale,
    __global const uint *tables, __global ushort *x) {
    __global const uint *map = tables + MO_TABLE_MAP4(MO_FP4);
    ushort values[16];
    for (uint i = 0u; i < 16u; i++) values[i] = mo_out(mo_map_value(map, i) * scale);
    for (uint i = 0u; i < n; i++)
        vstore2((ushort2)(values[codes[i] >> 4], values[codes[i] & 15u]), i, x);
}
#endif
#endif

/* x[i] = map[code of lead + i] * absmax[(lead + i) >> shift] for i in 0..n-1: codes and absmax are
 * those from the beginning of a block on, the numbers those from lead behind it on. */
MO_KERNEL void mo_cl_quant4_decode(__global const uint *restrict tables,
    __global const uchar *restrict codes, ulong codes_off, __global const float *restrict absmax,
    ulong absmax_off, __global MO_OUT_TYPE *restrict x, ulong x_off, ulong n, uint shift,
    uint lead) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint begin = tile == 0u ? lead : 0u, end = (uint)min(lead + n - tile, (ulong)MO_TILE);
    __global const uchar *from = codes + codes_off + tile / 2u;
    __global const float *scales = absmax + absmax_off + (tile >> shift);
    __global MO_OUT_TYPE *to = x + x_off + (tile == 0u ? 0u : tile - lead); /* of begin */
    const uint id = (uint)get_local_id(0);
    MO_TABLE_USE(map, tables, MO_TABLE_MAP4(MO_FP4), MO_MAP4_WORDS);
#if MEMOPT_WG == 1
#if MO_STREAMS && MO_OUT == 0
    const bool pairs_align = (MO_STREAM_HEAD(float, to) + begin) % 2u == 0u;
    const bool streams = MO_STREAM_LARGE(float, n) && pairs_align;
#endif
    for (uint at = 0u; at < end; at += 1u << shift) {
        const uint i = (max(at, begin) + 1u) / 2u, stop = min(at + (1u << shift), end) / 2u;
        const float scale = scales[at >> shift];
        if (i >= stop) continue;
#if MO_STREAMS && MO_OUT == 0
        if (streams) mo_q4_decode_stream(from + i, stop - i, scale, tables, to + (2u * i - begin));
        else
#endif
            mo_q4_decode_bytes(from + i, stop - i, scale, tables, to + (2u * i - begin));
    }
#if MO_STREAMS && MO_OUT == 0
    if (streams) MO_STREAM_END();
#endif
#else
    for (uint i = (begin + 1u) / 2u + id; i < end / 2u; i += MEMOPT_WG) {
        const float scale = scales[i >> (shift - 1u)];
        to[2u * i - begin] = mo_out(mo_map_value(map, from[i] >> 4) * scale);
        to[2u * i - begin + 1u] = mo_out(mo_map_value(map, from[i] & 15u) * scale);
    }
#endif
    if (id == 0u && begin % 2u != 0u)
        to[0] = mo_out(mo_map_value(map, from[begin / 2u] & 15u) * scales[begin >> shift]);
    if (id == 0u && end % 2u != 0u && end > begin)
        to[end - 1u - begin] =
            mo_out(mo_map_value(map, from[end / 2u] >> 4) * scales[end >> shift]);
}
