/* compress.cl - compressed activations, see mo_compress.h. Behind codec.cl.
 *
 * groups  ceil(n / MO_TILE)
 *
 * A block is 2^shift numbers, 64..256. Ranges: {low, step} of each block, as bits.
 *
 * MO_BITS  8, 4
 *
 * check: -DMO_BITS=8
 * check: -DMO_BITS=4 */

#define MO_COMPRESS_SHIFT (30 - MO_BITS)
#define MO_COMPRESS_MOST  ((float)(((1u << MO_BITS) - 1u) << MO_COMPRESS_SHIFT))
#define MO_COMPRESS_STEP  (MO_BITS == 8 ? 0.00392156886f : 0.0666666701f)

/* The range of a block by its ends and its largest magnitude. */
static inline uint2 mo_compress_range(float low, float high, uint most) {
    const float span = high - low;
    const uint whole = mo_magnitude(span);
    uint2 range = (uint2)(as_uint(low), 0u);
    if (most >= MO_INFINITY || whole >= MO_INFINITY) range.s0 = 0x7fc00000u;
    else if (span >= 8.470329473e-22f) range.s1 = as_uint(span * MO_COMPRESS_STEP); /* 2^-70 */
    if ((range.s0 & 0x7fffffffu) < MO_LEAST) range.s0 = 0u;
    return range;
}

/* unit: 2^MO_COMPRESS_SHIFT / step */
static inline uint mo_compress_code(float x, float low, float unit, uint random) {
    const float t = (x - low) * unit;
    const float within = t < MO_COMPRESS_MOST ? t : MO_COMPRESS_MOST;
    return ((uint)(int)within + (random & ((1u << MO_COMPRESS_SHIFT) - 1u))) >> MO_COMPRESS_SHIFT;
}

static inline float mo_compress_unit(float step) {
    return 1.0f / step * (float)(1u << MO_COMPRESS_SHIFT);
}

/* Byte i of the codes of a block of n numbers, whose first one has index first. */
static inline uchar mo_compress_byte(
    __global const float *x, uint i, uint n, float low, float unit, uint first, uint key) {
#if MO_BITS == 8
    (void)n;
    return (uchar)mo_compress_code(x[i], low, unit, mo_random(first + i, key));
#else
    const uint at = 2u * i;
    const uint a = mo_compress_code(x[at], low, unit, mo_random(first + at, key));
    if (at + 1u >= n) return (uchar)(a << 4);
    const uint b = mo_compress_code(x[at + 1u], low, unit, mo_random(first + at + 1u, key));
    return (uchar)(a << 4 | b);
#endif
}

#if MEMOPT_WG == 1
static inline void mo_compress_block(__global const float *x, uint n, uint first, uint key,
    __global uchar *codes, __global uint *range) {
    const uint bytes = MO_BITS == 8 ? n : (n + 1u) / 2u;
    float low = x[0], high = x[0];
    for (uint i = 0u; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    const uint2 r = mo_compress_range(low, high, mo_most(x, n, 0.0f));
    const float least = as_float(r.s0), unit = mo_compress_unit(as_float(r.s1));
    range[0] = r.s0;
    range[1] = r.s1;
    if (r.s1 == 0u) {
        for (uint i = 0u; i < bytes; i++) codes[i] = 0;
        return;
    }
#if MO_BITS == 8
    for (uint i = 0u; i < bytes; i++)
        codes[i] = mo_compress_byte(x, i, n, least, unit, first, key);
#else
    uchar wide[256]; /* first one code a byte, which becomes vectors */
    for (uint i = 0u; i < n; i++)
        wide[i] = (uchar)mo_compress_code(x[i], least, unit, mo_random(first + i, key));
    if (n % 2u) wide[n] = 0;
    for (uint i = 0u; i < bytes; i++) codes[i] = (uchar)(wide[2u * i] << 4 | wide[2u * i + 1u]);
#endif
}
#else
/* The bits of floats as integers of their order, so that atomics find the ends, and back; NaN are
 * beyond the infinities. */
static inline int mo_compress_order(int bits) { return bits ^ (bits >> 31 & 0x7fffffff); }

/* The ends of each block of 2^shift numbers in a tile of n; all items come by. */
#define MO_COMPRESS_BLOCKS 64u /* of 64 in a tile */
static inline void mo_compress_ends(
    __global const float *x, uint n, uint shift, __local int *low, __local int *high) {
    const uint id = (uint)get_local_id(0);
    for (uint i = id; i < MO_COMPRESS_BLOCKS; i += MEMOPT_WG) {
        low[i] = 0x7fffffff;
        high[i] = (int)0x80000000u;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = id; i < n;) {
        const uint at = i >> shift;
        int least = 0x7fffffff, most = (int)0x80000000u;
        for (; i < n && i >> shift == at; i += MEMOPT_WG) {
            const int order = mo_compress_order(as_int(x[i]));
            least = min(least, order);
            most = max(most, order);
        }
        atomic_min(&low[at], least);
        atomic_max(&high[at], most);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}
#endif

/* ranges[2 i], [2 i + 1] = low, step of block i; codes[i] of the numbers. n in all. */
MO_KERNEL void mo_cl_compress_encode(__global const float *restrict x, ulong x_off,
    __global uint *restrict ranges, ulong ranges_off, __global uchar *restrict codes,
    ulong codes_off, ulong n, ulong seed, uint shift) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE), first = (uint)tile;
    const uint key = mo_random_key(seed, (uint)(tile >> 32)); /* tiles do not reach across */
    __global const float *from = x + x_off + tile;
    __global uint *range = ranges + ranges_off + 2u * (tile >> shift);
    __global uchar *to = codes + codes_off + (MO_BITS == 8 ? tile : tile / 2u);
#if MEMOPT_WG == 1
    for (uint i = 0u; i < size; i += 1u << shift) {
        const uint block = min(size - i, 1u << shift), at = i >> shift;
        __global uchar *codes_at = to + (MO_BITS == 8 ? i : i / 2u);
        if (block == 256u)
            mo_compress_block(from + i, 256u, first + i, key, codes_at, range + 2u * at);
        else mo_compress_block(from + i, block, first + i, key, codes_at, range + 2u * at);
    }
#else
    __local int low[MO_COMPRESS_BLOCKS], high[MO_COMPRESS_BLOCKS];
    const uint id = (uint)get_local_id(0);
    mo_compress_ends(from, size, shift, low, high);
    for (uint i = id; i < (size + (1u << shift) - 1u) >> shift; i += MEMOPT_WG) {
        const float least = as_float(mo_compress_order(low[i]));
        const float most = as_float(mo_compress_order(high[i]));
        const uint largest = max(mo_magnitude(least), mo_magnitude(most));
        vstore2(mo_compress_range(least, most, largest), i, range);
    }
    barrier(CLK_GLOBAL_MEM_FENCE);
    for (uint i = id; i < (MO_BITS == 8 ? size : (size + 1u) / 2u); i += MEMOPT_WG) {
        const uint block = i >> (MO_BITS == 8 ? shift : shift - 1u);
        const float step = as_float(range[2u * block + 1u]);
        to[i] = as_uint(step) == 0u ? (uchar)0
                                    : mo_compress_byte(from, i, size, as_float(range[2u * block]),
                                          mo_compress_unit(step), first, key);
    }
#endif
}

/* x[i] = low + step code[i] */
MO_KERNEL void mo_cl_compress_decode(__global const float *restrict ranges, ulong ranges_off,
    __global const uchar *restrict codes, ulong codes_off, __global float *restrict x, ulong x_off,
    ulong n, uint shift) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global const float *range = ranges + ranges_off + 2u * (tile >> shift);
    __global const uchar *from = codes + codes_off + (MO_BITS == 8 ? tile : tile / 2u);
    __global float *to = x + x_off + tile;
#if MEMOPT_WG == 1
    for (uint at = 0u; at < size; at += 1u << shift) {
        const uint end = min(size, at + (1u << shift));
        const float low = range[2u * (at >> shift)], step = range[2u * (at >> shift) + 1u];
#if MO_BITS == 8
        for (uint i = at; i < end; i++) to[i] = low + (float)from[i] * step;
#else
        for (uint i = at / 2u; i < end / 2u; i++) {
            to[2u * i] = low + (float)(from[i] >> 4) * step;
            to[2u * i + 1u] = low + (float)(from[i] & 15u) * step;
        }
        if (end % 2u) to[end - 1u] = low + (float)(from[end / 2u] >> 4) * step;
#endif
    }
#else
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        const float low = range[2u * (i >> shift)], step = range[2u * (i >> shift) + 1u];
#if MO_BITS == 8
        const uint code = from[i];
#else
        const uint code = from[i / 2u] >> (i % 2u ? 0u : 4u) & 15u;
#endif
        to[i] = low + (float)code * step;
    }
#endif
}
