/* quant8.cl - blockwise 8-bit codes, see mo_quant.h, and the scales of scales of mo_quant4.h.
 *
 * groups  ceil(n / MO_TILE)
 *
 * A block is 2^shift numbers, 64..4096; table is the place of a map or of its cells among the
 * tables, zero the map's code of 0, low its first value.
 *
 * MO_OUT     of decoding, see codec.cl
 * MO_NESTED  1: decoding adds offset
 *
 * check: -DMO_OUT=0 -DMO_NESTED=0
 * check: -DMO_OUT=0 -DMO_NESTED=1
 * check: -DMO_OUT=1 -DMO_NESTED=0
 * check: -DMO_OUT=2 -DMO_NESTED=0 */

#if MEMOPT_WG == 1
/* Codes of n numbers of one block. */
static inline void mo_q8_encode_block(__global const float *x, uint n, float offset, float inverse,
    __global uchar *codes, __global const uint *cells, uint zero, uint no_zero, float low) {
    for (uint i = 0u; i < n; i++) {
        const float t = mo_q8_scaled(x[i] - offset, inverse, low);
        codes[i] = (uchar)mo_q8_code(cells, t, zero, no_zero);
    }
}
#endif

/* codes[i] = nearest(map, (x[i] - offset) * (1 / absmax[i >> shift])) */
MO_KERNEL void mo_cl_quant8_encode(__global const uint *restrict tables,
    __global const float *restrict x, ulong x_off, __global uchar *restrict codes, ulong codes_off,
    __global float *restrict absmax, ulong absmax_off, ulong n, uint shift, float offset,
    uint table, uint zero, uint no_zero, float low) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global const float *from = x + x_off + tile;
    __global uchar *to = codes + codes_off + tile;
    __global float *scales = absmax + absmax_off + (tile >> shift);
    __global const uint *cells = tables + table;
#if MEMOPT_WG == 1
    for (uint i = 0u; i < size; i += 1u << shift) {
        const uint block = min(size - i, 1u << shift);
        const uint scale = mo_q8_scale(mo_most(from + i, block, offset));
        scales[i >> shift] = as_float(scale);
        if (scale == 0u)
            for (uint k = 0u; k < block; k++) to[i + k] = (uchar)zero;
        else
            mo_q8_encode_block(from + i, block, offset, 1.0f / as_float(scale), to + i, cells, zero,
                no_zero, low);
    }
#else
    __local uint most[MO_MOST_WORDS];
    mo_most_blocks(from, size, shift, offset, most);
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        const uint scale = mo_q8_scale(most[i >> shift]);
        const float inverse = scale == 0u ? 0.0f : 1.0f / as_float(scale); /* t stays below 1 */
        const float t = mo_q8_scaled(from[i] - offset, inverse, low);
        const uint code = mo_q8_code(cells, t, zero, no_zero);
        to[i] = (uchar)(scale == 0u ? zero : code);
        if ((i & ((1u << shift) - 1u)) == 0u) scales[i >> shift] = as_float(scale);
    }
#endif
}

/* x[i] = map[codes[i]] * absmax[i >> shift], + offset */
MO_KERNEL void mo_cl_quant8_decode(__global const uint *restrict tables,
    __global const uchar *restrict codes, ulong codes_off, __global const float *restrict absmax,
    ulong absmax_off, __global MO_OUT_TYPE *restrict x, ulong x_off, ulong n, uint shift,
    float offset, uint table) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global const uchar *from = codes + codes_off + tile;
    __global const float *scales = absmax + absmax_off + (tile >> shift);
    __global MO_OUT_TYPE *to = x + x_off + tile;
    MO_TABLE_USE(map, tables, table, MO_MAP_WORDS);
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        const float value = mo_map_value(map, from[i]) * scales[i >> shift];
        to[i] = mo_out(MO_NESTED ? value + offset : value);
    }
}
