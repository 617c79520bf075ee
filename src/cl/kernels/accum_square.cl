/* accum_square.cl - sums of squares, see mo_accum.h.
 *
 * groups  MO_PARTS / MO_TEAMS: a team of lanes for each part
 * check: -DMO_DOUBLE=0
 * check: -DMO_DOUBLE=1 */

/* parts[i] = the sum of x[j]^2 over part i, the bits of a double */
MO_KERNEL void mo_cl_accum_square_parts(__global const float *restrict x, ulong x_off, ulong n,
    __global ulong *restrict parts, ulong parts_off) {
    MO_LOCAL_LANES(all)
    mo_double lanes[MO_EACH];
    const uint part = (uint)get_group_id(0) * MO_TEAMS + MO_TEAM;
    const ulong begin = mo_part_begin(n, 16, part), end = mo_part_begin(n, 16, part + 1);
    mo_lanes_clear(lanes);
    mo_lanes_squares(lanes, x + x_off + begin, end - begin);
    const mo_double total = mo_lanes_total(lanes, all);
    if (MO_LANE(0) == 0) parts[parts_off + part] = mo_double_bits(total);
}
