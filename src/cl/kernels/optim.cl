/* optim.cl - optimizer steps with states in fp32 and bf16, see mo_optim.h.
 *
 * groups  ceil(n / MO_TILE)
 *
 * check: -DMO_KIND=0 -DMO_STATE=0 -DMO_PARAM=0
 * check: -DMO_KIND=0 -DMO_STATE=0 -DMO_PARAM=1
 * check: -DMO_KIND=0 -DMO_STATE=2 -DMO_PARAM=2
 * check: -DMO_KIND=1 -DMO_STATE=2 -DMO_PARAM=1
 * check: -DMO_KIND=2 -DMO_STATE=2 -DMO_PARAM=0
 * check: -DMO_KIND=3 -DMO_STATE=0 -DMO_PARAM=0
 * check: -DMO_KIND=4 -DMO_STATE=2 -DMO_PARAM=0
 * check: -DMO_KIND=5 -DMO_STATE=0 -DMO_PARAM=0
 * check: -DMO_KIND=6 -DMO_STATE=2 -DMO_PARAM=1
 * check: -DMO_KIND=7 -DMO_STATE=2 -DMO_PARAM=2
 * check: -DMO_KIND=8 -DMO_STATE=0 -DMO_PARAM=1
 * check: -DMO_KIND=9 -DMO_STATE=2 -DMO_PARAM=0 */

MO_KERNEL void mo_cl_optim_step(MO_STEP_ARGS) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    const mo_noise noise = mo_noise_of(seed, offset + tile);
#if MO_KIND == MO_ADAM_MINI
    MO_ROW_USE(tile);
#endif
    __global const float *const g_at = grad + grad_off + tile;
    MO_PARAM_USE(tile);
#if MO_HAS_M
    MO_STATE_USE(m, tile);
#endif
#if MO_HAS_SLOW
    MO_STATE_USE(slow, tile);
#endif
#if MO_HAS_V
    MO_STATE_USE(v, tile);
#endif
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        mo_number x;
        x.p = MO_PARAM_LOAD(i);
#if MO_HAS_M
        x.m = MO_STATE_LOAD(m, i);
#endif
#if MO_HAS_SLOW
        x.slow = MO_STATE_LOAD(slow, i);
#endif
#if MO_HAS_V
        x.v = MO_STATE_LOAD(v, i);
#endif
#if MO_KIND == MO_ADAM_MINI
        x.divisor = MO_DIVISOR(i);
#endif
        mo_update(f, g_at[i], &x);
        MO_PARAM_STORE(i, &noise, x.p);
#if MO_HAS_M
        MO_STATE_STORE(m, i, 1u, &noise, x.m);
#endif
#if MO_HAS_SLOW
        MO_STATE_STORE(slow, i, 2u, &noise, x.slow);
#endif
#if MO_HAS_V
        MO_STATE_STORE(v, i, 3u, &noise, x.v);
#endif
    }
}
