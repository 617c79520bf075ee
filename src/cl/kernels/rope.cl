/* rope.cl - rotary position embedding in place, see mo_rope.h.
 *
 * groups  ceil(pairs / MO_TILE) of the rows' pairs, which are batch seq heads head_size / 2
 *
 * Nothing is fused: the bits are those of the CPU.
 *
 * check: -DMO_INTERLEAVED=0
 * check: -DMO_INTERLEAVED=1
 *
 * MO_INTERLEAVED  1: pairs are (2 i, 2 i + 1), 0: (i, i + head_size / 2) */
#ifndef MO_INTERLEAVED
#define MO_INTERLEAVED 0
#endif

/* Pair i of a head at x; sign: 1, or -1 to turn back. */
static inline void mo_rope_pair(__global float *x, __global const float *cosine, uint half_size,
    uint i, float sign) {
#if MO_INTERLEAVED
    __global float *at_a = x + 2 * i, *at_b = x + 2 * i + 1;
#else
    __global float *at_a = x + i, *at_b = x + i + half_size;
#endif
    const float a = *at_a, b = *at_b, c = cosine[i], s = sign * cosine[half_size + i];
    *at_a = a * c - b * s;
    *at_b = b * c + a * s;
}

MO_KERNEL void mo_cl_rope_turn(__global const float *restrict table, ulong table_off,
    __global float *restrict x, ulong x_off, float sign, ulong n_pairs, ulong seq, ulong first,
    uint heads, uint half_size, ulong stride) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint n = (uint)min(n_pairs - tile, (ulong)MO_TILE);
    /* where the tile begins; from there on numbers are small, and divisions cheap */
    const uint pair = (uint)(tile % half_size), head = (uint)(tile / half_size % heads);
    const ulong row = tile / half_size / heads;
    table += table_off;
    x += x_off;
#if MEMOPT_WG == 1
    for (uint k = 0, i = pair, h = head; k < n; i = 0, h++) {
        const ulong r = row + h / heads;
        const uint end = min(half_size, i + n - k);
        __global const float *cosine = table + (first + r % seq) * 2 * half_size;
        __global float *at = x + r * stride + h % heads * 2 * half_size;
        k += end - i;
        for (; i < end; i++) mo_rope_pair(at, cosine, half_size, i, sign);
    }
#else
    for (uint k = (uint)get_local_id(0); k < n; k += MEMOPT_WG) {
        const uint h = head + (pair + k) / half_size;
        const ulong r = row + h / heads;
        __global const float *cosine = table + (first + r % seq) * 2 * half_size;
        mo_rope_pair(x + r * stride + h % heads * 2 * half_size, cosine, half_size,
            (pair + k) % half_size, sign);
    }
#endif
}
