/* memory.cl - filling and copying, in words of 32 bits.
 *
 * groups  ceil(n / MO_TILE)
 *
 * Offsets and n are in words. */

/* x[off + i] = value for i in 0..n-1. */
MO_KERNEL void mo_cl_fill_u32(__global uint *restrict x, ulong off, uint value, ulong n) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global uint *to = x + off + tile;
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) to[i] = value;
}

/* y[y_off + i] = x[x_off + i] for i in 0..n-1; the ranges do not overlap. */
MO_KERNEL void mo_cl_copy_u32(
    __global const uint *restrict x, ulong x_off, __global uint *restrict y, ulong y_off, ulong n) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global const uint *from = x + x_off + tile;
    __global uint *to = y + y_off + tile;
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) to[i] = from[i];
}
