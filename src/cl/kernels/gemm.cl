/* gemm.cl - matrix products, see mo_gemm.h: C = alpha op(A) op(B) + beta C, sums in float. Behind
 * codec.cl.
 *
 * groups  n_bands times the bands of columns that make n
 *
 * MO_TRANS_A, MO_TRANS_B  1: the matrix is stored transposed
 * MO_TYPE_A, MO_TYPE_B    how its elements are stored, a mo_gemm_type
 * MO_FMA                  1: fma is an instruction
 * MO_LANES                floats of a vector, 4, 8 or 16; only where MEMOPT_WG is 1
 * MO_DEEP                 1: 224 KiB of local memory are there; only where MEMOPT_WG is 1
 *
 * check: -DMO_TRANS_A=0 -DMO_TRANS_B=0 -DMO_TYPE_A=0 -DMO_TYPE_B=0 -DMO_FMA=1 -DMO_LANES=8
 * check: -DMO_TRANS_A=0 -DMO_TRANS_B=1 -DMO_TYPE_A=0 -DMO_TYPE_B=0 -DMO_FMA=0 -DMO_LANES=16
 * check: -DMO_TRANS_A=1 -DMO_TRANS_B=0 -DMO_TYPE_A=1 -DMO_TYPE_B=2 -DMO_FMA=1 -DMO_LANES=4
 * check: -DMO_TRANS_A=1 -DMO_TRANS_B=1 -DMO_TYPE_A=3 -DMO_TYPE_B=0 -DMO_FMA=1 -DMO_LANES=8
 * check: -DMO_TRANS_A=0 -DMO_TRANS_B=1 -DMO_TYPE_A=0 -DMO_TYPE_B=4 -DMO_FMA=1 -DMO_LANES=8
 * check: -DMO_TRANS_A=0 -DMO_TRANS_B=0 -DMO_TYPE_A=5 -DMO_TYPE_B=4 -DMO_FMA=1 -DMO_LANES=16 */

#if MO_FMA
#define MO_MAC(a, b, c) fma(a, b, c)
#else
#define MO_MAC(a, b, c) mad(a, b, c)
#endif

/* Types of elements, as in mo_gemm_type. */
#define MO_F32  0u
#define MO_BF16 1u
#define MO_F16  2u
#define MO_INT8 3u
#define MO_NF4  4u

/* A matrix as it is stored: element (r, c) is number r * ld + c. INT8 has a scale for each row, NF4
 * and FP4 for each 2^shift numbers. */
typedef struct mo_matrix {
    __global const uchar *data;
    ulong ld;
    __global const float *absmax;
    uint shift;
    const MO_TABLE *map;
} mo_matrix;

/* What all elements of a row have in common. */
static inline float mo_gemm_scale(const uint type, mo_matrix x, uint r) {
    return type == MO_INT8 ? x.absmax[r] / 127.0f : 1.0f;
}

static inline float mo_gemm_value(const uint type, mo_matrix x, float scale, ulong number) {
    if (type == MO_BF16) return mo_bf16_value(((__global const ushort *)x.data)[number]);
    if (type == MO_F16) return mo_f16_value(((__global const ushort *)x.data)[number]);
    if (type == MO_INT8) return (float)((__global const char *)x.data)[number] * scale;
    if (type >= MO_NF4) {
        const uint pair = x.data[number >> 1];
        const uint code = (number & 1u) != 0 ? pair & 15u : pair >> 4;
        return mo_map_value(x.map, code) * x.absmax[number >> x.shift];
    }
    return ((__global const float *)x.data)[number];
}

/* alpha sum + beta C; beta 0 does not read C. */
static inline void mo_gemm_write(__global float *c, float sum, float alpha, float beta) {
    *c = beta == 0.0f ? alpha * sum : MO_MAC(alpha, sum, beta * *c);
}

/* Whether the lines of an operand, which are rows of op(A) or columns of op(B), are stored one
 * behind the other. */
#define MO_LINES_A (!MO_TRANS_A)
#define MO_LINES_B (MO_TRANS_B)

/* Arguments that only some types have. */
#define MO_SIZE(type) ((type) == MO_F32 ? 4u : (type) <= MO_F16 ? 2u : 1u)
#if MO_TYPE_A >= 3
#define MO_ARGS_A __global const float *absmax_a, ulong absmax_a_off, uint shift_a,
#define MO_SCALES_A absmax_a + absmax_a_off, shift_a
#else
#define MO_ARGS_A
#define MO_SCALES_A 0, 0u
#endif
#if MO_TYPE_B >= 3
#define MO_ARGS_B __global const float *absmax_b, ulong absmax_b_off, uint shift_b,
#define MO_SCALES_B absmax_b + absmax_b_off, shift_b
#else
#define MO_ARGS_B
#define MO_SCALES_B 0, 0u
#endif
#if MO_TYPE_A >= 4 || MO_TYPE_B >= 4
#define MO_ARGS_MAP __global const uint *tables,
#else
#define MO_ARGS_MAP
#endif
#if MO_TYPE_A >= 4
#define MO_USE_A MO_TABLE_USE(map_a, tables, MO_TABLE_MAP4(MO_TYPE_A - MO_NF4), 16);
#else
#define MO_USE_A const MO_TABLE *map_a = 0;
#endif
#if MO_TYPE_B >= 4
#define MO_USE_B MO_TABLE_USE(map_b, tables, MO_TABLE_MAP4(MO_TYPE_B - MO_NF4), 16);
#else
#define MO_USE_B const MO_TABLE *map_b = 0;
#endif
#define MO_ARGS                                                                                    \
    __global const uchar *a, ulong a_off, ulong lda, MO_ARGS_A __global const uchar *b,            \
        ulong b_off, ulong ldb, MO_ARGS_B __global float *c, ulong c_off, ulong ldc,               \
        MO_ARGS_MAP uint m, uint n, uint k, float alpha, float beta, uint band_rows,               \
        uint band_columns, uint n_bands
#define MO_OPERANDS                                                                                \
    MO_USE_A                                                                                       \
    MO_USE_B                                                                                       \
    const mo_matrix from_a = {a + a_off * MO_SIZE(MO_TYPE_A), lda, MO_SCALES_A, map_a};            \
    const mo_matrix from_b = {b + b_off * MO_SIZE(MO_TYPE_B), ldb, MO_SCALES_B, map_b};

#if MEMOPT_WG == 1
/* ---- CPUs: after Goto and van de Geijn, a block of op(A) in the second level cache, a panel of
 * op(B) in the first, the tile of C in registers. */

#if MO_LANES == 16
#define MO_TILE_ROWS 12u
typedef float16 mo_vector;
#define MO_LOAD vload16
#define MO_STORE vstore16
#define MO_ROWS(R) R(0) R(1) R(2) R(3) R(4) R(5) R(6) R(7) R(8) R(9) R(10) R(11)
#else
#define MO_TILE_ROWS 6u
#define MO_ROWS(R) R(0) R(1) R(2) R(3) R(4) R(5)
#if MO_LANES == 8
typedef float8 mo_vector;
#define MO_LOAD vload8
#define MO_STORE vstore8
#else
typedef float4 mo_vector;
#define MO_LOAD vload4
#define MO_STORE vstore4
#endif
#endif
#define MO_TILE_COLUMNS (2u * MO_LANES)

/* The sums of elements are cut at MO_DEPTH; a group packs up to MO_BLOCK rows of A. */
#if MO_DEEP
#define MO_DEPTH 256u
#define MO_BLOCK 192u
#else
#define MO_DEPTH 64u
#define MO_BLOCK 24u
#endif

/* Four lines of float, transposed 4 x 4 at a time. */
static inline void mo_gemm_pack4(
    __global const float *x, ulong ld, const uint width, uint depth, __local float *to) {
    uint d = 0;
    for (; d + 4 <= depth; d += 4, to += 4 * width) {
        const float4 a = vload4(0, x + d), b = vload4(0, x + ld + d);
        const float4 e = vload4(0, x + 2 * ld + d), f = vload4(0, x + 3 * ld + d);
        vstore4((float4)(a.s0, b.s0, e.s0, f.s0), 0, to);
        vstore4((float4)(a.s1, b.s1, e.s1, f.s1), 0, to + width);
        vstore4((float4)(a.s2, b.s2, e.s2, f.s2), 0, to + 2 * width);
        vstore4((float4)(a.s3, b.s3, e.s3, f.s3), 0, to + 3 * width);
    }
    for (; d < depth; d++, to += width)
        for (uint i = 0; i < 4; i++) to[i] = x[i * ld + d];
}

/* to[depth][width] = lines line0... of an operand, zero behind the n-th. */
static inline void mo_gemm_pack(const uint type, const int by_lines, const uint width,
    mo_matrix from, uint line0, uint n, uint depth0, uint depth, __local float *to) {
    if (n < width)
        for (uint i = 0; i < width * depth; i++) to[i] = 0.0f;
    if (by_lines) {
        uint i = 0;
        if (type == MO_F32)
            for (; i + 4 <= n; i += 4)
                mo_gemm_pack4((__global const float *)from.data + (line0 + i) * from.ld + depth0,
                    from.ld, width, depth, to + i);
        for (; i < n; i++) {
            const float scale = mo_gemm_scale(type, from, line0 + i);
            const ulong first = (line0 + i) * from.ld + depth0;
            for (uint d = 0; d < depth; d++)
                to[d * width + i] = mo_gemm_value(type, from, scale, first + d);
        }
        return;
    }
    for (uint d = 0; d < depth; d++) {
        const float scale = mo_gemm_scale(type, from, depth0 + d);
        const ulong first = (depth0 + d) * from.ld + line0;
        if (n == width)
            for (uint i = 0; i < width; i++)
                to[d * width + i] = mo_gemm_value(type, from, scale, first + i);
        else
            for (uint i = 0; i < n; i++)
                to[d * width + i] = mo_gemm_value(type, from, scale, first + i);
    }
}

#define MO_ROW_ZERO(i) mo_vector c##i##0 = 0.0f, c##i##1 = 0.0f;
#define MO_ROW_ADD(i)                                                                              \
    ai = (mo_vector)a[i];                                                                          \
    c##i##0 = MO_MAC(ai, b0, c##i##0);                                                             \
    c##i##1 = MO_MAC(ai, b1, c##i##1);
#define MO_ROW_SET(i)                                                                              \
    MO_STORE(alpha * c##i##0, 0, c + i * ldc);                                                     \
    MO_STORE(alpha * c##i##1, 1, c + i * ldc);
#define MO_ROW_UPDATE(i)                                                                           \
    MO_STORE(MO_MAC((mo_vector)alpha, c##i##0, beta * MO_LOAD(0, c + i * ldc)), 0, c + i * ldc);   \
    MO_STORE(MO_MAC((mo_vector)alpha, c##i##1, beta * MO_LOAD(1, c + i * ldc)), 1, c + i * ldc);
#define MO_ROW_KEEP(i)                                                                             \
    MO_STORE(c##i##0, 0, edge + i * MO_TILE_COLUMNS);                                              \
    MO_STORE(c##i##1, 1, edge + i * MO_TILE_COLUMNS);

/* One tile of C, or its rows and columns that exist. */
static inline void mo_gemm_tile(uint rows, uint columns, uint depth, __local const float *a,
    __local const float *b, float alpha, float beta, __global float *c, ulong ldc) {
    mo_vector ai;
    MO_ROWS(MO_ROW_ZERO)
    for (; depth != 0; depth--, a += MO_TILE_ROWS, b += MO_TILE_COLUMNS) {
        const mo_vector b0 = MO_LOAD(0, b), b1 = MO_LOAD(1, b);
        MO_ROWS(MO_ROW_ADD)
    }
    if (rows >= MO_TILE_ROWS && columns >= MO_TILE_COLUMNS) {
        if (beta == 0.0f) {
            MO_ROWS(MO_ROW_SET)
        } else {
            MO_ROWS(MO_ROW_UPDATE)
        }
        return;
    }
    float edge[MO_TILE_ROWS * MO_TILE_COLUMNS];
    MO_ROWS(MO_ROW_KEEP)
    for (uint i = 0; i < min(rows, MO_TILE_ROWS); i++)
        for (uint j = 0; j < min(columns, MO_TILE_COLUMNS); j++)
            mo_gemm_write(c + i * ldc + j, edge[i * MO_TILE_COLUMNS + j], alpha, beta);
}

/* band_rows is a multiple of MO_TILE_ROWS and at most MO_BLOCK, band_columns of MO_TILE_COLUMNS. */
MO_KERNEL void mo_cl_gemm(MO_ARGS) {
    __local float block[MO_BLOCK * MO_DEPTH], panel[MO_TILE_COLUMNS * MO_DEPTH];
    MO_OPERANDS
    const uint group = (uint)get_group_id(0);
    const uint row = group % n_bands * band_rows, column = group / n_bands * band_columns;
    const uint rows = min(m - row, band_rows), columns = min(n - column, band_columns);
    uint l = 0;
    do {
        const uint depth = min(k - l, MO_DEPTH);
        const float scale = l == 0 ? beta : 1.0f;
        for (uint i = 0; i < rows; i += MO_TILE_ROWS)
            mo_gemm_pack(MO_TYPE_A, MO_LINES_A, MO_TILE_ROWS, from_a, row + i,
                min(rows - i, MO_TILE_ROWS), l, depth, block + i * depth);
        for (uint j = 0; j < columns; j += MO_TILE_COLUMNS) {
            mo_gemm_pack(MO_TYPE_B, MO_LINES_B, MO_TILE_COLUMNS, from_b, column + j,
                min(columns - j, MO_TILE_COLUMNS), l, depth, panel);
            for (uint i = 0; i < rows; i += MO_TILE_ROWS)
                mo_gemm_tile(rows - i, columns - j, depth, block + i * depth, panel, alpha, scale,
                    c + c_off + (row + i) * ldc + column + j, ldc);
        }
        l += depth;
    } while (l < k);
}

#else
/* ---- GPUs: each item sums 8 x 8 elements, a group a tile of MO_ROWS x MO_COLUMNS, from slices of
 * MO_DEPTH of both operands in local memory. */

#if MEMOPT_WG >= 256
#define MO_ITEMS_ACROSS 16u
#elif MEMOPT_WG >= 64
#define MO_ITEMS_ACROSS 8u
#elif MEMOPT_WG >= 16
#define MO_ITEMS_ACROSS 4u
#elif MEMOPT_WG >= 4
#define MO_ITEMS_ACROSS 2u
#else
#define MO_ITEMS_ACROSS 1u
#endif
#define MO_ITEMS_DOWN (MEMOPT_WG / MO_ITEMS_ACROSS)
#define MO_ROWS (8u * MO_ITEMS_DOWN)
#define MO_COLUMNS (8u * MO_ITEMS_ACROSS)
#define MO_DEPTH 8u

/* Floats of local memory: both slices, and room for a row of every item. */
#if MEMOPT_WG <= 256
#define MO_LOCAL (MO_DEPTH * (MO_ROWS + MO_COLUMNS))
#else
#define MO_LOCAL (8u * MEMOPT_WG)
#endif

/* to[depth][width] = the slice of an operand, zero outside of it. Items side by side read what
 * lies side by side. An item goes on by steps that all items share: numbers of its own for each
 * element would take the registers that the sums need. */
static inline void mo_gemm_slice(const uint type, const int by_lines, const uint width,
    mo_matrix from, uint line0, uint lines, uint depth0, uint depths, __local float *to) {
    const uint item = (uint)get_local_id(0);
    const uint items = MEMOPT_WG;
    const uint wide = by_lines ? items / min(items, MO_DEPTH) : min(items, width);
    const uint deep = items / wide;
    const uint line = by_lines ? item / deep : item % wide;
    const uint depth = by_lines ? item % deep : item / wide;
    ulong first = by_lines ? (line0 + line) * from.ld + depth0 + depth
                           : (depth0 + depth) * from.ld + line0 + line;
    for (uint l = line; l < width; l += wide) {
        ulong number = first;
        for (uint d = depth; d < MO_DEPTH; d += deep) {
            float x = 0.0f;
            if (line0 + l < lines && depth0 + d < depths) {
                const uint r = by_lines ? line0 + l : depth0 + d;
                x = mo_gemm_value(type, from, mo_gemm_scale(type, from, r), number);
            }
            to[d * width + l] = x;
            number += by_lines ? deep : deep * from.ld;
        }
        first += by_lines ? wide * from.ld : wide;
    }
}

/* What every item holds of one of its rows, by way of local memory: items side by side write what
 * lies side by side. */
static inline void mo_gemm_write_rows(__local float *rows, float8 sum, uint first, uint m,
    uint column, uint n, float alpha, float beta, __global float *c, ulong ldc) {
    const uint item = (uint)get_local_id(0);
    __local float *to = rows + item / MO_ITEMS_ACROSS * MO_COLUMNS + item % MO_ITEMS_ACROSS * 4u;
    barrier(CLK_LOCAL_MEM_FENCE);
    vstore4(sum.lo, 0, to);
    vstore4(sum.hi, 0, to + MO_COLUMNS / 2);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = item; i < MO_ITEMS_DOWN * MO_COLUMNS; i += MEMOPT_WG) {
        const uint r = first + i / MO_COLUMNS * 4u, at = column + i % MO_COLUMNS;
        if (r < m && at < n) mo_gemm_write(c + r * ldc + at, rows[i], alpha, beta);
    }
}

#define MO_SUMS(S) S(0) S(1) S(2) S(3) S(4) S(5) S(6) S(7)
#define MO_SUM_ZERO(i) float8 sum##i = 0.0f;
#define MO_SUM_ADD(i) sum##i = MO_MAC((float8)x.s##i, y, sum##i);
#define MO_SUM_WRITE(i)                                                                            \
    mo_gemm_write_rows(slices, sum##i, row + (i & 3) + i / 4 * (MO_ROWS / 2), m, column, n, alpha, \
        beta, c + c_off, ldc);

/* A band is MO_ROWS x MO_COLUMNS. An item's rows and columns come in two runs of 4, so that the
 * items' reads of local memory and writes of C are side by side. */
MO_KERNEL void mo_cl_gemm(MO_ARGS) {
    __local float slices[MO_LOCAL];
    __local float *const slice_a = slices, *const slice_b = slices + MO_DEPTH * MO_ROWS;
    MO_OPERANDS
    const uint group = (uint)get_group_id(0), item = (uint)get_local_id(0);
    const uint row = group % n_bands * band_rows, column = group / n_bands * band_columns;
    const uint down = item / MO_ITEMS_ACROSS * 4u, across = item % MO_ITEMS_ACROSS * 4u;
    MO_SUMS(MO_SUM_ZERO)
    for (uint l = 0; l < k; l += MO_DEPTH) {
        mo_gemm_slice(MO_TYPE_A, MO_LINES_A, MO_ROWS, from_a, row, m, l, k, slice_a);
        mo_gemm_slice(MO_TYPE_B, MO_LINES_B, MO_COLUMNS, from_b, column, n, l, k, slice_b);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint d = 0; d < MO_DEPTH; d++) {
            __local const float *at = slice_a + d * MO_ROWS + down;
            __local const float *bt = slice_b + d * MO_COLUMNS + across;
            const float8 x = (float8)(vload4(0, at), vload4(0, at + MO_ROWS / 2));
            const float8 y = (float8)(vload4(0, bt), vload4(0, bt + MO_COLUMNS / 2));
            MO_SUMS(MO_SUM_ADD)
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    MO_SUMS(MO_SUM_WRITE)
}
#endif
