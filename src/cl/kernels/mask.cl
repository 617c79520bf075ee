/* mask.cl - ReLU and dropout by a bit a number, see mo_mask.h. Behind codec.cl.
 *
 * groups  ceil(n / MO_TILE)
 *
 * y = decided ? high x : low x, where low 0 gives 0 of infinity and NaN too. x, sign and y may be
 * the same memory.
 *
 * MO_BY  what decides: 0 the sign of sign[i], 1 the mask, 2 random bits
 * MO_TO  1 = the mask is written
 *
 * check: -DMO_BY=0 -DMO_TO=0
 * check: -DMO_BY=0 -DMO_TO=1
 * check: -DMO_BY=1 -DMO_TO=0
 * check: -DMO_BY=2 -DMO_TO=0
 * check: -DMO_BY=2 -DMO_TO=1 */

static inline uint mo_mask_keeps(float sign, uint word, uint i, uint random, uint below) {
#if MO_BY == 0
    return sign > 0.0f ? 1u : 0u;
#elif MO_BY == 1
    return word >> i & 1u;
#else
    return random >> 8 >= below ? 1u : 0u;
#endif
}

MO_KERNEL void mo_cl_mask_run(__global const float *sign, ulong sign_off, __global uint *mask,
    ulong mask_off, __global const float *x, ulong x_off, __global float *y, ulong y_off, ulong n,
    float high, float low, uint below, ulong seed) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    const uint key = mo_random_key(seed, (uint)(tile >> 32)); /* tiles do not reach across */
    __global uint *words = mask + mask_off + tile / 32u;
    __global const float *decides = sign + sign_off + tile, *from = x + x_off + tile;
    __global float *to = y + y_off + tile;
    const uint id = (uint)get_local_id(0);
    uint start = 0u;
#if MO_TO && MEMOPT_WG == 1
    for (; start + 32u <= size; start += 32u) { /* in arrays, so that it becomes vectors */
        float v[32];
        uint bits[32], made_word = 0u;
        for (uint k = 0u; k < 32u; k++) {
            const uint random = MO_BY == 2 ? mo_random((uint)tile + start + k, key) : 0u;
            const float sign_k = MO_BY == 0 ? decides[start + k] : 0.0f;
            bits[k] = mo_mask_keeps(sign_k, 0u, k, random, below) << k;
            v[k] = from[start + k];
        }
        for (uint k = 0u; k < 32u; k++) made_word |= bits[k];
        for (uint k = 0u; k < 32u; k++)
            to[start + k] = bits[k] ? v[k] * high : low == 0.0f ? 0.0f : v[k] * low;
        words[start / 32u] = made_word;
    }
#endif
#if MO_TO
    __local uint made[MO_TILE / 32u];
    for (uint w = id; w < MO_TILE / 32u; w += MEMOPT_WG) made[w] = 0u;
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
    for (uint i = start + id; i < size; i += MEMOPT_WG) {
        const uint random = MO_BY == 2 ? mo_random((uint)tile + i, key) : 0u;
        const uint word = MO_BY == 1 ? words[i / 32u] : 0u;
        const float sign_i = MO_BY == 0 ? decides[i] : 0.0f, v = from[i];
        const uint kept = mo_mask_keeps(sign_i, word, i % 32u, random, below);
        to[i] = kept ? v * high : low == 0.0f ? 0.0f : v * low;
#if MO_TO && MEMOPT_WG == 1
        made[i / 32u] |= kept << i % 32u;
#elif MO_TO
        if (kept) atomic_or(&made[i / 32u], 1u << i % 32u);
#endif
    }
#if MO_TO
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint w = start / 32u + id; 32u * w < size; w += MEMOPT_WG) words[w] = made[w];
#endif
}
