/* lora.cl - what adapters need beside products, see mo_lora.h. Behind codec.cl.
 *
 * groups  ceil(n / MO_TILE)
 *
 * MO_ADD  of mo_cl_lora_drop: 1 adds to the result
 *
 * check: -DMO_ADD=0
 * check: -DMO_ADD=1 */

/* to[i] = from[i] scale, or 0 where the random bits of index first + i are below limit */
MO_KERNEL void mo_cl_lora_drop(__global const float *from, ulong from_off, __global float *to,
    ulong to_off, ulong n, ulong seed, ulong first, uint limit, float scale) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE, index = first + tile;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    const uint low = (uint)index, high = (uint)(index >> 32);
    const uint key = mo_random_key(seed, high), next = mo_random_key(seed, high + 1u);
    __global const float *x = from + from_off + tile;
    __global float *y = to + to_off + tile;
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        const float kept = mo_random_at(low, i, key, next) >= limit ? x[i] * scale : 0.0f;
#if MO_ADD
        y[i] += kept;
#else
        y[i] = kept;
#endif
    }
}

/* a[i] = (2 u - 1) bound, u from the upper 24 random bits of index i */
MO_KERNEL void mo_cl_lora_init(
    __global float *a, ulong a_off, ulong n, ulong seed, float bound) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    const uint low = (uint)tile, high = (uint)(tile >> 32);
    const uint key = mo_random_key(seed, high), next = mo_random_key(seed, high + 1u);
    __global float *to = a + a_off + tile;
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        const float u = (float)(mo_random_at(low, i, key, next) >> 8);
        to[i] = (u * 1.1920929e-7f - 1.0f) * bound;
    }
}
