/* int8.cl - rows of 8-bit integers, see mo_int8.h.
 *
 * groups  of rows: ceil(rows / rows_each), where a group has rows_each rows (1 when MEMOPT_WG > 1)
 *         mo_cl_int8_decode: those of tiles, ceil(columns / MO_TILE) for each rows_each rows
 *         mo_cl_int8_scatter: ceil(n / MO_TILE)
 *
 * limit: numbers whose bits without sign reach it are outliers. The list of them has 3 words for
 * each: row, column, bits.
 *
 * MO_OUT  of decoding, see codec.cl
 *
 * check: -DMO_OUT=0
 * check: -DMO_OUT=1
 * check: -DMO_OUT=2 */

#define MO_ID ((uint)get_local_id(0))

static inline uint mo_int8_inside(float x, uint limit) {
    const uint bits = mo_magnitude(x);
    return bits < limit ? bits : 0u;
}

/* The scale of a row by its largest bits; below 2^-121 it is 0, so that 127 / scale is finite. */
static inline float mo_int8_scale(uint most) {
    most = min(most, MO_INFINITY);
    return as_float(most < 0x03000000u ? 0u : most);
}

/* x * factor to the nearest integer; the range is for NaN (infinity * 0) */
static inline char mo_int8_code(float x, uint limit, float factor) {
    const float kept = mo_magnitude(x) < limit ? x : 0.0f, t = kept * factor;
    return (char)(int)(as_uint((t > -127.0f ? t : -127.0f) + 12582912.0f) - 0x4b400000u);
}

/* A row in pieces whose columns fit a uint with room to spare. */
#define MO_PIECE (1u << 30)

#if MEMOPT_WG > 1
/* The largest value of a group, or the sum; all items come by. */
static inline uint mo_group_most(uint value, __local uint *of_group) {
    if (MO_ID == 0u) *of_group = 0u;
    barrier(CLK_LOCAL_MEM_FENCE);
    atomic_max(of_group, value);
    barrier(CLK_LOCAL_MEM_FENCE);
    return *of_group;
}
static inline uint mo_group_sum(uint value, __local uint *of_group) {
    if (MO_ID == 0u) *of_group = 0u;
    barrier(CLK_LOCAL_MEM_FENCE);
    atomic_add(of_group, value);
    barrier(CLK_LOCAL_MEM_FENCE);
    return *of_group;
}
#else
#define mo_group_most(value, of_group) (value)
#define mo_group_sum(value, of_group)  (value)
#endif

static inline uint mo_int8_most(__global const float *x, ulong columns, uint limit) {
    uint most = 0u;
    for (ulong at = 0u; at < columns; at += MO_PIECE) {
        const uint n = (uint)min(columns - at, (ulong)MO_PIECE);
        for (uint i = MO_ID; i < n; i += MEMOPT_WG)
            most = max(most, mo_int8_inside(x[at + i], limit));
    }
    return most;
}

static inline void mo_int8_row(
    __global const float *x, ulong columns, uint limit, float scale, __global char *codes) {
    const float factor = scale == 0.0f ? 0.0f : 127.0f / scale;
    for (ulong at = 0u; at < columns; at += MO_PIECE) {
        const uint n = (uint)min(columns - at, (ulong)MO_PIECE);
        for (uint i = MO_ID; i < n; i += MEMOPT_WG)
            codes[at + i] = mo_int8_code(x[at + i], limit, factor);
    }
}

/* absmax[r] = max |x[r][c]| over what is no outlier, codes[r][c] = x[r][c] * (127 / absmax[r]) */
MO_KERNEL void mo_cl_int8_encode(__global const float *restrict x, ulong x_off,
    __global char *restrict codes, ulong codes_off, __global float *restrict absmax,
    ulong absmax_off, ulong rows, ulong columns, uint limit, uint rows_each) {
#if MEMOPT_WG > 1
    __local uint of_group;
#endif
    const ulong first = (ulong)get_group_id(0) * rows_each;
    const ulong end = min(first + rows_each, rows);
    for (ulong row = first; row < end; row++) {
        __global const float *from = x + x_off + row * columns;
        const uint most = mo_group_most(mo_int8_most(from, columns, limit), &of_group);
        const float scale = mo_int8_scale(most);
        if (MO_ID == 0u) absmax[absmax_off + row] = scale;
        mo_int8_row(from, columns, limit, scale, codes + codes_off + row * columns);
    }
}

static inline uint mo_int8_count(
    __global const float *x, uint begin, uint end, uint step, uint limit) {
    uint count = 0u;
    for (uint i = begin; i < end; i += step) count += mo_magnitude(x[i]) >= limit ? 1u : 0u;
    return count;
}

/* counts[r] = the outliers of row r; columns < 2^31 */
MO_KERNEL void mo_cl_int8_count(__global const float *restrict x, ulong x_off,
    __global uint *restrict counts, ulong counts_off, ulong rows, uint columns, uint limit,
    uint rows_each) {
#if MEMOPT_WG > 1
    __local uint of_group;
#endif
    const ulong first = (ulong)get_group_id(0) * rows_each;
    const ulong end = min(first + rows_each, rows);
    for (ulong row = first; row < end; row++) {
        __global const float *from = x + x_off + row * columns;
        const uint count = mo_int8_count(from, MO_ID, columns, MEMOPT_WG, limit);
        const uint all = mo_group_sum(count, &of_group);
        if (MO_ID == 0u) counts[counts_off + row] = all;
    }
}

/* The outliers of row r to list[starts[r]..], in the order of their columns: an item has a part of
 * the row, behind the parts of the items before it. columns < 2^31; rows without any are passed
 * over: starts[rows] = n. */
MO_KERNEL void mo_cl_int8_collect(__global const float *restrict x, ulong x_off,
    __global const uint *restrict starts, ulong starts_off, __global uint *restrict list,
    ulong list_off, ulong rows, uint columns, uint limit, uint n, uint rows_each) {
    const ulong first = (ulong)get_group_id(0) * rows_each;
    const ulong end = min(first + rows_each, rows);
    const uint part = (columns + MEMOPT_WG - 1u) / MEMOPT_WG;
    const uint begin = min(MO_ID * part, columns), stop = min(begin + part, columns);
#if MEMOPT_WG > 1
    __local uint before[MEMOPT_WG];
#endif
    for (ulong row = first; row < end; row++) {
        __global const float *from = x + x_off + row * columns;
        uint at = starts[starts_off + row];
        const uint next = row + 1u < rows ? starts[starts_off + row + 1u] : n;
#if MEMOPT_WG > 1
        before[MO_ID] = mo_int8_count(from, begin, stop, 1u, limit);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint i = 0u; i < MO_ID; i++) at += before[i];
        barrier(CLK_LOCAL_MEM_FENCE);
#endif
        __global uint *to = list + list_off;
        for (uint i = begin; i < stop && at < next; i++) {
            if (mo_magnitude(from[i]) < limit) continue;
            to[3u * (ulong)at] = (uint)row;
            to[3u * (ulong)at + 1u] = i;
            to[3u * (ulong)at + 2u] = as_uint(from[i]);
            at++;
        }
    }
}

/* x[r][c] = codes[r][c] * (absmax[r] / 127) */
MO_KERNEL void mo_cl_int8_decode(__global const char *restrict codes, ulong codes_off,
    __global const float *restrict absmax, ulong absmax_off, __global MO_OUT_TYPE *restrict x,
    ulong x_off, ulong rows, ulong columns, uint rows_each) {
    const ulong tiles = columns / MO_TILE + (columns % MO_TILE != 0u);
    const ulong group = (ulong)get_group_id(0), first = group / tiles * rows_each;
    const ulong tile = group % tiles * MO_TILE, end = min(first + rows_each, rows);
    const uint size = (uint)min(columns - tile, (ulong)MO_TILE);
    for (ulong row = first; row < end; row++) {
        const float scale = absmax[absmax_off + row] / 127.0f;
        __global const char *from = codes + codes_off + row * columns + tile;
        __global MO_OUT_TYPE *to = x + x_off + row * columns + tile;
        for (uint i = MO_ID; i < size; i += MEMOPT_WG) to[i] = mo_out((float)from[i] * scale);
    }
}

/* The n outliers of the list to their places; what is outside stays away. */
MO_KERNEL void mo_cl_int8_scatter(__global const uint *restrict list, ulong list_off,
    __global MO_OUT_TYPE *restrict x, ulong x_off, ulong rows, ulong columns, ulong n) {
    const ulong tile = (ulong)get_group_id(0) * MO_TILE;
    const uint size = (uint)min(n - tile, (ulong)MO_TILE);
    for (uint i = MO_ID; i < size; i += MEMOPT_WG) {
        __global const uint *from = list + list_off + 3u * (tile + i);
        const ulong row = from[0], column = from[1];
        if (row < rows && column < columns)
            x[x_off + row * columns + column] = mo_out(as_float(from[2]));
    }
}
