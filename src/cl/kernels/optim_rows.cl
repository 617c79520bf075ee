/* optim_rows.cl - the statistics of rows and columns that ADAM_MINI and ADAFACTOR keep, see
 * mo_optim.h.
 *
 * check: -DMO_DOUBLE=0
 * check: -DMO_DOUBLE=1 */

/* row[i] = beta2 row[i] + one_minus_beta2 mean((scale grad)^2 of row i)
 *
 * groups  ceil(rows / (MO_TEAMS * each)): each rows for a team of lanes */
MO_KERNEL void mo_cl_optim_rows(__global const float *restrict grad, ulong grad_off,
    __global float *restrict row, ulong row_off, ulong rows, ulong columns, uint each, float scale,
    float beta2, float one_minus_beta2) {
    MO_LOCAL_LANES(all)
    const mo_double factor = mo_double_of(fabs(scale)), n = mo_double_count(columns);
    const ulong first = (ulong)get_group_id(0) * MO_TEAMS * each + MO_TEAM;
    for (uint i = 0; i < each; i++) {
        const ulong at = first + (ulong)i * MO_TEAMS;
        mo_double lanes[MO_EACH];
        mo_lanes_clear(lanes);
        if (at < rows) mo_lanes_squares(lanes, grad + grad_off + at * columns, columns);
        const mo_double sum = mo_lanes_total(lanes, all);
        const mo_double scaled = mo_double_mul(mo_double_mul(sum, factor), factor);
        const float mean = mo_double_float(mo_double_div(scaled, n));
        if (at < rows && MO_LANE(0) == 0)
            row[row_off + at] = beta2 * row[row_off + at] + one_minus_beta2 * mean;
    }
}

/* Columns of an item: side by side on a CPU. */
#if MEMOPT_WG == 1
#define MO_WIDE 64u
#else
#define MO_WIDE 1u
#endif

/* column[i] = beta2 column[i] + one_minus_beta2 mean((scale grad)^2 of column i)
 *
 * groups  ceil(columns / (MO_WIDE * MEMOPT_WG)) */
MO_KERNEL void mo_cl_optim_columns(__global const float *restrict grad, ulong grad_off,
    __global float *restrict column, ulong column_off, ulong rows, ulong columns, float scale,
    float beta2, float one_minus_beta2) {
    const ulong first = (ulong)get_global_id(0) * MO_WIDE;
    const uint size = first < columns ? (uint)min(columns - first, (ulong)MO_WIDE) : 0;
    __global const float *g = grad + grad_off + first;
    __global float *to = column + column_off + first;
    mo_double sums[MO_WIDE];
    for (uint k = 0; k < size; k++) sums[k] = mo_double_of(0.0f);
    for (ulong i = 0; i < rows; i++, g += columns)
        for (uint k = 0; k < size; k++)
            sums[k] = mo_double_add(sums[k], mo_double_square(g[k] * scale));
    for (uint k = 0; k < size; k++) {
        const float mean = mo_double_float(mo_double_div(sums[k], mo_double_count(rows)));
        to[k] = beta2 * to[k] + one_minus_beta2 * mean;
    }
}

/* sum = all rows in their order
 *
 * groups  1 */
MO_KERNEL void mo_cl_optim_row_sum(__global const float *restrict row, ulong row_off, ulong rows,
    __global ulong *restrict sum, ulong sum_off) {
    mo_double total = mo_double_of(0.0f);
    if (get_local_id(0) != 0) return;
    for (ulong i = 0; i < rows; i++) total = mo_double_add(total, mo_double_of(row[row_off + i]));
    sum[sum_off] = mo_double_bits(total);
}
