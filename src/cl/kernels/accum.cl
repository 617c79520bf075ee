/* accum.cl - sums of gradients, see mo_accum.h.
 *
 * groups  ceil(n / MO_TILE) */

/* sum[i] += scale * grad[i] */
MO_KERNEL void mo_cl_accum_add(__global const float *restrict grad, ulong grad_off, float scale,
    __global float *restrict sum, ulong sum_off, ulong n) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global const float *from = grad + grad_off + tile;
    __global float *to = sum + sum_off + tile;
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) to[i] = to[i] + scale * from[i];
}
