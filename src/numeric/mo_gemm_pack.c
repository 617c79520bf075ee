/* mo_gemm_pack.c - blocks of matrices as mo_gemm.c multiplies them, see mo_gemm_internal.h. */

/* to[4 rows of width][4] = the 4 x 4 block at from, transposed */
MOI_ALWAYS_INLINE void moi_transpose4(const float *from, size_t stride, float *to, size_t width) {
#if MOI_X86
    __m128 r0 = _mm_loadu_ps(from), r1 = _mm_loadu_ps(from + stride);
    __m128 r2 = _mm_loadu_ps(from + 2 * stride), r3 = _mm_loadu_ps(from + 3 * stride);
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    _mm_storeu_ps(to, r0);
    _mm_storeu_ps(to + width, r1);
    _mm_storeu_ps(to + 2 * width, r2);
    _mm_storeu_ps(to + 3 * width, r3);
#else
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) to[j * width + i] = from[i * stride + j];
#endif
}

/* Asks for the cache line so many numbers after p: packing waits for memory more than for anything
 * else, and processors see no pattern in rows that are far apart. p need not be in an array. */
MOI_ALWAYS_INLINE void moi_gemm_fetch(const float *p, size_t ahead) {
#if MOI_X86
    _mm_prefetch((const char *)((uintptr_t)p + ahead * sizeof *p), _MM_HINT_T0);
#else
    (void)p, (void)ahead;
#endif
}

enum { moi_gemm_rows_ahead = 4, moi_gemm_depths_ahead = 8 };

/* One panel whose lines are contiguous along the depth: to[d][i] = from[i * stride + d], i < n <=
 * width, zero for the rest of the width. Four depths at a time, so that what is written stays
 * near. The next panel's lines are fetched meanwhile. */
static void moi_gemm_pack_across(
    size_t n, size_t depth, size_t width, const float *from, size_t stride, float *to) {
    const size_t whole = n / 4 * 4;
    size_t d = 0;
    for (; d + 4 <= depth; d += 4) {
        for (size_t i = 0; d % moi_gemm_line == 0 && i < width; i++)
            moi_gemm_fetch(from, (i + width) * stride + d);
        for (size_t i = 0; i < whole; i += 4)
            moi_transpose4(from + i * stride + d, stride, to + d * width + i, width);
    }
    for (; d < depth; d++)
        for (size_t i = 0; i < whole; i++) to[d * width + i] = from[i * stride + d];
    for (size_t i = whole; i < width; i++)
        for (d = 0; d < depth; d++) to[d * width + i] = i < n ? from[i * stride + d] : 0.0f;
}

/* Panels of which the last may reach over the end: a few depths at a time, so that memory is read
 * along its rows. The next ones are fetched meanwhile. */
MOI_ALWAYS_INLINE void moi_gemm_copy_along(size_t lines, size_t depth, size_t width,
    const float *from, size_t stride, float *to, size_t panel) {
    for (size_t d = 0; d < depth; d += moi_gemm_depths_ahead) {
        const size_t end = moi_min(d + moi_gemm_depths_ahead, depth);
        float *at = to;
        for (size_t i = 0; i + width <= lines; i += width, at += panel)
            for (size_t k = d; k < end; k++) {
                moi_gemm_fetch(from + i, (k + moi_gemm_depths_ahead) * stride);
                memcpy(at + k * width, from + k * stride + i, width * sizeof *at);
            }
        const size_t whole = lines / width * width;
        for (size_t k = d; whole < lines && k < end; k++)
            for (size_t i = 0; i < width; i++)
                at[k * width + i] = whole + i < lines ? from[k * stride + whole + i] : 0.0f;
    }
}

/* Panels whose lines are contiguous along the width, panel numbers apart: to[i][d] =
 * from[d * stride + i], zero up to a whole panel. The widths are constants, for the compiler. */
static void moi_gemm_pack_along(size_t lines, size_t depth, size_t width, const float *from,
    size_t stride, float *to, size_t panel) {
    switch (width) {
    case 6: moi_gemm_copy_along(lines, depth, 6, from, stride, to, panel); break;
    case 8: moi_gemm_copy_along(lines, depth, 8, from, stride, to, panel); break;
    case 12: moi_gemm_copy_along(lines, depth, 12, from, stride, to, panel); break;
    case 16: moi_gemm_copy_along(lines, depth, 16, from, stride, to, panel); break;
    case 32: moi_gemm_copy_along(lines, depth, 32, from, stride, to, panel); break;
    default: moi_gemm_copy_along(lines, depth, width, from, stride, to, panel); break;
    }
}

/* Floats of a block of lines x depth into panels of width lines. line is the stride from line to
 * line, along the one along the depth; one of them is 1. */
static void moi_gemm_pack_floats(size_t lines, size_t depth, size_t width, const float *from,
    size_t line, size_t along, float *to) {
    if (along != 1 || line == 1) {
        moi_gemm_pack_along(lines, depth, width, from, along, to, width * depth);
        return;
    }
    for (size_t i = 0; i < lines; i += width, to += width * depth)
        moi_gemm_pack_across(moi_min(width, lines - i), depth, width, from + i * line, line, to);
}

/* ---- packing what is not float ------------------------------------------------------------- */

/* Row by row: a matrix of one column is contiguous along both. */
static void moi_gemm_read_int8(const moi_gemm_view *view, size_t first, size_t n, float *to) {
    const int8_t *codes = (const int8_t *)view->from.data;
    while (n != 0) {
        const size_t row = first / view->ld, part = moi_min(n, (row + 1) * view->ld - first);
        const float scale = moi_i8_scale(view->from.absmax[row]);
        MOI_DISPATCH(moi_i8_decode_run, (moi_out_f32, codes + first, part, scale, to));
        first += part;
        to += part;
        n -= part;
    }
}

/* Numbers first .. first + n - 1, as floats. */
static void moi_gemm_read(const moi_gemm_view *view, size_t first, size_t n, float *to) {
    const mo_gemm_operand *from = &view->from;
    switch (from->type) {
    case MO_GEMM_BF16:
        mo_bf16_to_f32((const uint16_t *)from->data + first, to, n, &moi_serial);
        break;
    case MO_GEMM_F16:
        mo_f16_to_f32((const uint16_t *)from->data + first, to, n, &moi_serial);
        break;
    case MO_GEMM_INT8: moi_gemm_read_int8(view, first, n, to); break;
    case MO_GEMM_NF4:
    case MO_GEMM_FP4:
        MOI_DISPATCH(moi_q4_decode_run,
            (moi_out_f32, from->type == MO_GEMM_FP4 ? moi_fp4_map : moi_nf4_map,
                (const uint8_t *)from->data, from->absmax, from->block, first, n, to));
        break;
    default: memcpy(to, (const float *)from->data + first, n * sizeof *to); break;
    }
}

enum { moi_gemm_read_depth = 128, moi_gemm_read_lines = 384 }; /* a multiple of all widths */

/* Lines that are contiguous along the depth: a part of a panel is decoded, then packed. */
static void moi_gemm_read_across(size_t lines, size_t depth, size_t width,
    const moi_gemm_view *view, size_t first, size_t line, float *to) {
    MOI_ALIGNED(64) float part[moi_gemm_max_nr * moi_gemm_read_depth];
    for (size_t i = 0; i < lines; i += width, to += width * depth) {
        const size_t n = moi_min(width, lines - i);
        for (size_t d = 0; d < depth; d += moi_gemm_read_depth) {
            const size_t deep = moi_min(moi_gemm_read_depth, depth - d);
            for (size_t k = 0; k < n; k++)
                moi_gemm_read(
                    view, first + (i + k) * line + d, deep, part + k * moi_gemm_read_depth);
            moi_gemm_pack_across(n, deep, width, part, moi_gemm_read_depth, to + d * width);
        }
    }
}

/* Lines that are contiguous along the width: a piece of many panels is decoded, then dealt out. */
static void moi_gemm_read_along(size_t lines, size_t depth, size_t width, const moi_gemm_view *view,
    size_t first, size_t along, float *to) {
    MOI_ALIGNED(64) float part[moi_gemm_read_lines];
    for (size_t i = 0; i < lines; i += moi_gemm_read_lines) {
        const size_t n = moi_min(moi_gemm_read_lines, lines - i);
        for (size_t d = 0; d < depth; d++) {
            moi_gemm_read(view, first + i + d * along, n, part);
            moi_gemm_pack_along(n, 1, width, part, 0, to + i * depth + d * width, width * depth);
        }
    }
}

/* A block of a view, from number first on, into panels. */
static void moi_gemm_pack(size_t lines, size_t depth, size_t width, const moi_gemm_view *view,
    size_t first, size_t line, size_t along, float *to) {
    if (view->from.type == MO_GEMM_F32)
        moi_gemm_pack_floats(
            lines, depth, width, (const float *)view->from.data + first, line, along, to);
    else if (along == 1) moi_gemm_read_across(lines, depth, width, view, first, line, to);
    else moi_gemm_read_along(lines, depth, width, view, first, along, to);
}

/* Lines of A that are contiguous along the depth stay so: to[i][d], with lines of zeros up to a
 * whole tile. */
static void moi_gemm_copy(size_t lines, size_t depth, size_t width, const moi_gemm_view *view,
    size_t first, size_t line, float *to) {
    const int floats = view->from.type == MO_GEMM_F32;
    for (size_t i = 0; i < lines; i++, to += depth) {
        for (size_t d = 0; floats && d < depth; d += moi_gemm_line)
            moi_gemm_fetch(
                (const float *)view->from.data + d, first + (i + moi_gemm_rows_ahead) * line);
        moi_gemm_read(view, first + i * line, depth, to);
    }
    if (lines % width != 0) memset(to, 0, (width - lines % width) * depth * sizeof *to);
}
