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

/* The same in bf16, rounded at random; number i has the random bits of index offset + i. */
MO_KERNEL void mo_cl_accum_add_bf16_stochastic(__global const float *restrict grad, ulong grad_off,
    float scale, __global ushort *restrict sum, ulong sum_off, ulong n, ulong seed, ulong offset) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE, index = offset + tile;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    const uint first = (uint)index, high = (uint)(index >> 32);
    const uint key = mo_random_key(seed, high), next = mo_random_key(seed, high + 1u);
    __global const float *from = grad + grad_off + tile;
    __global ushort *to = sum + sum_off + tile;
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        const float exact = mo_bf16_value(to[i]) + scale * from[i];
        to[i] = (ushort)mo_bf16_round_random(exact, mo_random_at(first, i, key, next));
    }
}

/* The same in bf16, to nearest, what that loses kept for the next term. */
MO_KERNEL void mo_cl_accum_add_bf16_kahan(__global const float *restrict grad, ulong grad_off,
    float scale, __global ushort *restrict sum, ulong sum_off, __global ushort *restrict lost,
    ulong lost_off, ulong n) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global const float *from = grad + grad_off + tile;
    __global ushort *to = sum + sum_off + tile, *rest = lost + lost_off + tile;
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        const float was = mo_bf16_value(to[i]), add = scale * from[i] + mo_bf16_value(rest[i]);
        const uint code = mo_bf16_round(was + add);
        const float moved = was - mo_bf16_value(code);
        to[i] = (ushort)code;
        rest[i] = (ushort)mo_bf16_round(moved + add);
    }
}

/* x[i] *= scale */
MO_KERNEL void mo_cl_accum_scale(__global float *restrict x, ulong x_off, float scale, ulong n) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global float *to = x + x_off + tile;
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) to[i] = to[i] * scale;
}

/* The same; overflow = 1 where a result is not finite. */
MO_KERNEL void mo_cl_accum_unscale(__global float *restrict x, ulong x_off, float scale, ulong n,
    __global uint *restrict overflow, ulong overflow_off) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    __global float *to = x + x_off + tile;
    uint most = 0;
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        const float scaled = to[i] * scale;
        most = max(most, mo_magnitude(scaled));
        to[i] = scaled;
    }
    if (most >= MO_INFINITY) atomic_or(overflow + overflow_off, 1u);
}
