/* optim_low.cl - what the low-rank kinds of mo_optim make of a gradient, see mo_optim.h; the bits
 * of mo_optim_low.c. A matrix is large channels of small numbers: number i of channel c is at
 * c channel_step + i number_step. What stands for a channel lies in tiles of 16 channels.
 *
 * MO_SIGNS  1: the projection has random signs, 0: it is in memory, [small][rank]
 *
 * check: -DMO_SIGNS=0
 * check: -DMO_SIGNS=1 */

/* Channels that an item has side by side. */
#if MEMOPT_WG == 1
#define MO_SIDE 16u
#else
#define MO_SIDE 1u
#endif

/* -1 or 1; fewer than 2^32 words, as small times large is an address. */
static inline float mo_low_sign(ulong i, uint k, uint rank, uint key) {
    const uint word = mo_random((uint)i * ((rank + 31u) / 32u) + k / 32u, key);
    return word >> k % 32u & 1u ? -1.0f : 1.0f;
}

#if MO_SIGNS
#define MO_BASIS_ARGS
#define MO_BASIS(i, k) mo_low_sign(i, k, rank, key)
#else
#define MO_BASIS_ARGS  __global const float *restrict basis, ulong basis_off,
#define MO_BASIS(i, k) basis[basis_off + (i) * rank + (k)]
#endif

/* r = scale times the projections, u = 0, for n numbers of which the first is number first of all
 *
 * groups  ceil(n / MO_TILE) */
MO_KERNEL void mo_cl_low_project(__global const float *restrict grad, ulong grad_off,
    MO_BASIS_ARGS __global float *restrict r, ulong r_off, __global float *restrict u, ulong u_off,
    ulong first, ulong n, ulong small, ulong large, ulong channel_step, ulong number_step,
    uint rank, float scale, ulong seed) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE), key = mo_random_key(seed, 0u);
    (void)key; /* of signs */
    for (uint at = (uint)get_local_id(0) * MO_SIDE; at < size; at += MEMOPT_WG * MO_SIDE) {
        const ulong number = first + tile + at, row = number / 16u;
        const uint k = (uint)(row % rank);
        const ulong channel = row / rank * 16u + number % 16u;
        const uint count = channel < large ? (uint)min(large - channel, (ulong)MO_SIDE) : 0;
        __global const float *g = grad + grad_off + channel * channel_step;
        float sum[MO_SIDE];
        for (uint j = 0; j < MO_SIDE; j++) sum[j] = 0.0f;
        for (ulong i = 0; i < small && count != 0; i++, g += number_step) {
            const float p = MO_BASIS(i, k);
            if (MO_SIDE > 1 && channel_step == 1 && count == MO_SIDE)
                for (uint j = 0; j < MO_SIDE; j++) sum[j] += p * g[j];
            else
                for (uint j = 0; j < count; j++) sum[j] += p * g[j * channel_step];
        }
        for (uint j = 0; j < MO_SIDE; j++) {
            r[r_off + tile + at + j] = sum[j] * scale;
            u[u_off + tile + at + j] = 0.0f;
        }
    }
}

/* APOLLO: to[c] = |u| / |r| of n channels from number first on, length[c] = to[c] |g| scale; mini:
 * |u| and |r|
 *
 * groups  ceil(n / MO_TILE) */
MO_KERNEL void mo_cl_low_lengths(__global const float *restrict grad, ulong grad_off,
    __global const float *restrict r, ulong r_off, __global const float *restrict u, ulong u_off,
    __global float *restrict to, ulong to_off, __global float *restrict length, ulong length_off,
    ulong first, ulong n, ulong small, ulong large, ulong channel_step, ulong number_step,
    uint rank, float scale, uint mini) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    for (uint at = (uint)get_local_id(0) * MO_SIDE; at < size; at += MEMOPT_WG * MO_SIDE) {
        const ulong channel = first + tile + at;
        const uint count = channel < large ? (uint)min(large - channel, (ulong)MO_SIDE) : 0;
        const ulong number = (tile + at) / 16u * 16u * rank + at % 16u;
        __global const float *g = grad + grad_off + channel * channel_step;
        float square[MO_SIDE];
        for (uint j = 0; j < MO_SIDE; j++) square[j] = 0.0f;
        for (ulong i = 0; i < small && count != 0 && mini == 0; i++, g += number_step)
            for (uint j = 0; j < count; j++)
                square[j] += g[j * channel_step] * g[j * channel_step];
        for (uint j = 0; j < MO_SIDE; j++) {
            float uu = 0.0f, rr = 0.0f;
            for (uint k = 0; k < rank; k++) {
                const float u_at = u[u_off + number + k * 16u + j];
                const float r_at = r[r_off + number + k * 16u + j];
                uu += u_at * u_at;
                rr += r_at * r_at;
            }
            const float ratio = rr > 0.0f ? sqrt(uu) / sqrt(rr) : 0.0f;
            to[to_off + channel + j] = mini ? sqrt(uu) : ratio;
            length[length_off + channel + j] = mini ? sqrt(rr) : ratio * (sqrt(square[j]) * scale);
        }
    }
}

#if MO_SIGNS
/* GALORE: where directions start
 *
 * groups  ceil(n / MO_TILE), n = small rank */
MO_KERNEL void mo_cl_low_signs(
    __global float *restrict basis, ulong basis_off, ulong n, uint rank, ulong seed) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE), key = mo_random_key(seed, 0u);
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        const ulong at = tile + i;
        basis[basis_off + at] = mo_low_sign(at / rank, (uint)(at % rank), rank, key);
    }
}
#else
/* Columns of a product. */
#define MO_WIDE 8u

/* to [n_out][to_ld] = scale grad from, where grad[a out_step + b in_step] is element (a, b); width
 * columns
 *
 * groups  ceil(n_out / (MEMOPT_WG MO_SIDE)) */
MO_KERNEL void mo_cl_low_multiply(__global const float *restrict grad, ulong grad_off,
    __global const float *restrict from, ulong from_off, __global float *restrict to, ulong to_off,
    ulong out_step, ulong in_step, ulong n_out, ulong n_in, ulong from_ld, ulong to_ld, uint width,
    float scale) {
    const ulong a = (ulong)get_global_id(0) * MO_SIDE;
    const uint count = a < n_out ? (uint)min(n_out - a, (ulong)MO_SIDE) : 0;
    __global const float *g = grad + grad_off + a * out_step;
    float sum[MO_SIDE][MO_WIDE], line[MO_WIDE];
    for (uint i = 0; i < MO_SIDE; i++)
        for (uint j = 0; j < MO_WIDE; j++) sum[i][j] = 0.0f;
    for (ulong b = 0; b < n_in && count != 0; b++, g += in_step) {
        for (uint j = 0; j < MO_WIDE; j++)
            line[j] = j < width ? from[from_off + b * from_ld + j] : 0.0f;
        for (uint i = 0; i < count; i++)
            for (uint j = 0; j < MO_WIDE; j++) sum[i][j] += g[i * out_step] * line[j];
    }
    /* counts that are known, so that sums stay in registers */
    for (uint i = 0; i < MO_SIDE; i++)
        for (uint j = 0; j < MO_WIDE; j++)
            if (i < count && j < width) to[to_off + (a + i) * to_ld + j] = sum[i][j] * scale;
}

/* Gram and Schmidt, the modified way: an item has columns of its own.
 *
 * groups  1 */
MO_KERNEL void mo_cl_low_orthonormal(
    __global float *basis, ulong basis_off, ulong small, uint rank) {
    __global float *const q = basis + basis_off;
    __local float dot[1024];
    const uint item = (uint)get_local_id(0);
    for (uint k = 0; k < rank; k++) {
        for (uint l = k + item; l < rank; l += MEMOPT_WG) dot[l] = 0.0f;
        for (ulong i = 0; i < small; i++)
            for (uint l = k + item; l < rank; l += MEMOPT_WG)
                dot[l] += q[i * rank + k] * q[i * rank + l];
        barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
        const float square = dot[k];
        const int usable = square > 1e-30f;
        const float inverse = usable ? 1.0f / sqrt(square) : 1.0f;
        for (uint l = k + 1 + item; l < rank; l += MEMOPT_WG) {
            const float by = usable ? dot[l] * inverse : q[(ulong)k * rank + l];
            for (ulong i = 0; i < small; i++) {
                const float unit = usable ? q[i * rank + k] * inverse : i == k ? 1.0f : 0.0f;
                q[i * rank + l] -= by * unit;
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
        for (ulong i = item; i < small; i += MEMOPT_WG)
            q[i * rank + k] = usable ? q[i * rank + k] * inverse : i == k ? 1.0f : 0.0f;
        barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    }
}
#endif
