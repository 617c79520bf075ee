/* optim_low_step.cl - the updates of the low-rank kinds of mo_optim, see optim_low.cl.
 *
 * check: -DMO_KIND=11 -DMO_STATE=0 -DMO_PARAM=0
 * check: -DMO_KIND=12 -DMO_STATE=0 -DMO_PARAM=1
 * check: -DMO_KIND=13 -DMO_STATE=0 -DMO_PARAM=1
 * check: -DMO_KIND=13 -DMO_STATE=0 -DMO_PARAM=2 */

#if MO_KIND != MO_GALORE
/* p = p keep - step factor g, the factor that of the channel. APOLLO_MINI: none
 *
 * groups  ceil(n / MO_TILE) */
MO_KERNEL void mo_cl_low_scaled(MO_PARAM_ARGS __global const float *restrict grad, ulong grad_off,
    __global const float *restrict factors, ulong factors_off, ulong columns, uint by_columns,
    float keep, float step, ulong seed, ulong offset, ulong n) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    const mo_noise noise = mo_noise_of(seed, offset + tile);
    const ulong row = tile / columns, rest = tile % columns;
    __global const float *const g_at = grad + grad_off + tile;
    MO_PARAM_USE(tile);
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        const ulong down = mo_row_of(rest, i, columns);
        const ulong channel = by_columns ? rest + i - down * columns : row + down;
#if MO_KIND == MO_APOLLO
        const float by = step * factors[factors_off + channel];
#else
        const float by = step;
#endif
        const float p = MO_PARAM_LOAD(i) * keep - by * g_at[i];
        MO_PARAM_STORE(i, &noise, p);
    }
}
#else
#if MEMOPT_WG == 1
#define MO_SIDE 16u
#else
#define MO_SIDE 1u
#endif

/* p = p keep - step times what u is in the space of the gradient; u is that of n_tiles tiles, the
 * first of which is tile first of all
 *
 * groups  ceil(n / MO_TILE), n = 16 n_tiles small */
MO_KERNEL void mo_cl_low_back(MO_PARAM_ARGS __global const float *restrict basis, ulong basis_off,
    __global const float *restrict u, ulong u_off, ulong first, ulong n, ulong small, ulong large,
    ulong channel_step, ulong number_step, uint rank, float keep, float step, ulong seed,
    ulong offset) {
    const ulong begin = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - begin, (ulong)MO_TILE);
    for (uint at = (uint)get_local_id(0) * MO_SIDE; at < size; at += MEMOPT_WG * MO_SIDE) {
        const ulong unit = begin + at, tile = unit / (16u * small), rest = unit % (16u * small);
        /* neighbours in memory are side by side */
        const int across = MO_SIDE > 1 || channel_step == 1;
        const ulong i = across ? rest / 16u : rest % small;
        const uint lane = (uint)(across ? rest % 16u : rest / small);
        const ulong channel = (first + tile) * 16u + lane;
        __global const float *const q = basis + basis_off + i * rank;
        __global const float *u_at = u + u_off + tile * 16u * rank + lane;
        float sum[MO_SIDE];
        for (uint j = 0; j < MO_SIDE; j++) sum[j] = 0.0f;
        for (uint k = 0; k < rank; k++, u_at += 16)
            for (uint j = 0; j < MO_SIDE; j++) sum[j] += q[k] * u_at[j];
        for (uint j = 0; j < MO_SIDE && channel + j < large; j++) {
            const ulong number = (channel + j) * channel_step + i * number_step;
            MO_PARAM_USE(number);
#if MO_PARAM == 1
            const mo_noise noise = mo_noise_of(seed, offset + number);
#else
            const mo_noise noise = {0};
#endif
            const float p = MO_PARAM_LOAD(0u) * keep - step * sum[j];
            MO_PARAM_STORE(0u, &noise, p);
        }
    }
}
#endif
