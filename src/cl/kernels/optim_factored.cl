/* optim_factored.cl - ADAFACTOR's update from its rows and columns, see mo_optim.h.
 *
 * MO_COLUMN  1: a matrix; 0: a vector, whose numbers are rows
 *
 * check: -DMO_KIND=10 -DMO_STATE=0 -DMO_PARAM=0 -DMO_COLUMN=0 -DMO_DOUBLE=0
 * check: -DMO_KIND=10 -DMO_STATE=0 -DMO_PARAM=1 -DMO_COLUMN=1 -DMO_DOUBLE=1
 * check: -DMO_KIND=10 -DMO_STATE=0 -DMO_PARAM=2 -DMO_COLUMN=1 -DMO_DOUBLE=0 */

#if MO_COLUMN
#define MO_COLUMN_ARGS __global const float *restrict column, ulong column_off,
#define MO_COLUMN_AT(i) (column[column_off + (i)] + epsilon)
#else
#define MO_COLUMN_ARGS
#define MO_COLUMN_AT(i) 0.0f
#endif
#define MO_FACTORED_ARGS                                                                           \
    __global const float *restrict grad, ulong grad_off, __global const float *restrict row,       \
        ulong row_off, MO_COLUMN_ARGS ulong rows, ulong columns, float scale, float epsilon,       \
        float mean_row

/* The direction of a number whose row and column these are. */
static inline float mo_factored(float g, float row, float column, float mean_row) {
    const float v = MO_COLUMN ? row / mean_row * column : row;
    return g / sqrt(v);
}

/* Columns whose squares are added by themselves. */
#define MO_PIECE 1024u

/* sums[i] = the squares of the direction in part i of the rows
 *
 * groups  MO_PARTS */
MO_KERNEL void mo_cl_optim_factored_norms(
    MO_FACTORED_ARGS, __global ulong *restrict sums, ulong sums_off) {
    MO_LOCAL_LANES(all)
    MO_LOCAL_TEAMS(teams)
    const uint part = (uint)get_group_id(0);
    const ulong begin = mo_part_begin(rows, 1, part), end = mo_part_begin(rows, 1, part + 1);
    const ulong pieces = (columns + MO_PIECE - 1) / MO_PIECE, last = (end - begin) * pieces;
    mo_double sum = mo_double_of(0.0f);
    for (ulong first = 0; first < last; first += MO_TEAMS) {
        const ulong piece = min(first + MO_TEAM, last - 1), at = begin + piece / pieces;
        const ulong left = piece % pieces * MO_PIECE;
        const uint size = first + MO_TEAM < last ? (uint)min(columns - left, (ulong)MO_PIECE) : 0;
        const float row_at = row[row_off + at] + epsilon;
        __global const float *g = grad + grad_off + at * columns + left;
        mo_double lanes[MO_EACH];
        mo_lanes_clear(lanes);
        for (uint j = 0; j < size; j += 16)
            for (uint k = 0; k < MO_EACH; k++) {
                const uint i = j + MO_LANE(k);
                if (i >= size) break;
                const float u = mo_factored(g[i] * scale, row_at, MO_COLUMN_AT(left + i), mean_row);
                lanes[k] = mo_double_add(lanes[k], mo_double_square(u));
            }
        sum = mo_teams_add(sum, mo_lanes_total(lanes, all), teams);
    }
    if (get_local_id(0) == 0) sums[sums_off + part] = mo_double_bits(sum);
}

/* p = p keep - step u
 *
 * groups  ceil(n / MO_TILE) */
MO_KERNEL void mo_cl_optim_factored_step(MO_PARAM_ARGS MO_FACTORED_ARGS, float keep, float step,
    ulong seed, ulong offset, ulong n) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    const mo_noise noise = mo_noise_of(seed, offset + tile);
    const ulong first = tile / columns, rest = tile % columns;
    (void)rows;
    __global const float *const g_at = grad + grad_off + tile;
    MO_PARAM_USE(tile);
    for (uint i = (uint)get_local_id(0); i < size; i += MEMOPT_WG) {
        const ulong down = mo_row_of(rest, i, columns);
        const float row_at = row[row_off + first + down] + epsilon;
        const float column_at = MO_COLUMN_AT(rest + i - down * columns);
        const float u = mo_factored(g_at[i] * scale, row_at, column_at, mean_row);
        const float p = MO_PARAM_LOAD(i) * keep - step * u;
        MO_PARAM_STORE(i, &noise, p);
    }
}
