/* optim_norms.cl - what LAMB and LARS measure of a tensor before its step, see mo_optim.h.
 *
 * groups  MO_PARTS
 *
 * MO_CHUNK  numbers whose squares are added by themselves: a block, 1024 where there are none
 *
 * check: -DMO_KIND=7 -DMO_STATE=0 -DMO_PARAM=0 -DMO_CHUNK=1024 -DMO_DOUBLE=1
 * check: -DMO_KIND=7 -DMO_STATE=2 -DMO_PARAM=1 -DMO_CHUNK=1024 -DMO_DOUBLE=0
 * check: -DMO_KIND=7 -DMO_STATE=1 -DMO_PARAM=2 -DMO_PLAIN_V=0 -DMO_CHUNK=256 -DMO_DOUBLE=1
 * check: -DMO_KIND=8 -DMO_STATE=0 -DMO_PARAM=1 -DMO_CHUNK=1024 -DMO_DOUBLE=0
 * check: -DMO_KIND=8 -DMO_STATE=1 -DMO_PARAM=0 -DMO_PLAIN_V=0 -DMO_CHUNK=256 -DMO_DOUBLE=1 */

#if MO_STATE == 1
#define MO_OLD_USE(s, at)                                                                          \
    __global const uchar *const s##_at = s + s##_off + (at);                                       \
    const float s##_scale = count ? s##_absmax[s##_absmax_off + (at) / MO_CHUNK] : 0.0f
#define MO_OLD_LOAD(s, i) mo_decoded(s##_map, s##_at, i, s##_scale)
#define MO_TABLES_ARGS    , __global const uint *restrict tables
#else
#define MO_OLD_USE(s, at) MO_STATE_USE(s, at)
#define MO_OLD_LOAD(s, i) MO_STATE_LOAD(s, i)
#define MO_TABLES_ARGS
#endif

/* sums[2 i] = the squares of the parameters in part i, sums[2 i + 1] of LAMB's u, or of the
 * gradients. The step is 0, so that the parameters are those before it. */
MO_KERNEL void mo_cl_optim_norms(
    MO_STEP_ARGS MO_TABLES_ARGS, __global ulong *restrict sums, ulong sums_off) {
    MO_LOCAL_LANES(lanes)
    MO_LOCAL_TEAMS(teams)
    const uint part = (uint)get_group_id(0);
    const ulong begin = mo_part_begin(n, MO_CHUNK, part);
    const ulong end = mo_part_begin(n, MO_CHUNK, part + 1);
    (void)seed, (void)offset; /* nothing is rounded */
    mo_double param_sum = mo_double_of(0.0f), other_sum = param_sum;
#if MO_STATE == 1
    MO_MAP_USE(m, tables, 0u, 0u);
#if MO_HAS_V
    MO_MAP_USE(v, tables, MO_V_MAP, MO_V_NO_ZERO);
#endif
#endif
    for (ulong first = begin; first < end; first += MO_TEAMS * MO_CHUNK) {
        const ulong at = first + MO_TEAM * MO_CHUNK;
        const uint count = at < end ? (uint)min(end - at, (ulong)MO_CHUNK) : 0;
        __global const float *const g_at = grad + grad_off + at;
        mo_double params[MO_EACH], others[MO_EACH];
        MO_PARAM_USE(at);
        MO_OLD_USE(m, at);
#if MO_HAS_V
        MO_OLD_USE(v, at);
#endif
        mo_lanes_clear(params);
        mo_lanes_clear(others);
        for (uint row = 0; row < count; row += 16)
            for (uint k = 0; k < MO_EACH; k++) {
                const uint i = row + MO_LANE(k);
                mo_number x;
                if (i >= count) break;
                x.p = MO_PARAM_LOAD(i);
                x.m = MO_OLD_LOAD(m, i);
#if MO_HAS_V
                x.v = MO_OLD_LOAD(v, i);
#endif
                mo_update(f, g_at[i], &x);
#if MO_KIND == MO_LAMB
                const float other = x.u;
#else
                const float other = g_at[i];
#endif
                params[k] = mo_double_add(params[k], mo_double_square(x.p));
                others[k] = mo_double_add(others[k], mo_double_square(other));
            }
        param_sum = mo_teams_add(param_sum, mo_lanes_total(params, lanes), teams);
        other_sum = mo_teams_add(other_sum, mo_lanes_total(others, lanes), teams);
    }
    if (get_local_id(0) == 0) {
        sums[sums_off + 2 * part] = mo_double_bits(param_sum);
        sums[sums_off + 2 * part + 1] = mo_double_bits(other_sum);
    }
}
