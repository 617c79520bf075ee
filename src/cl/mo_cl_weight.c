/* mo_cl_weight.c - see mo_cl_weight.h. */

/* The same weight on the host, placed from address 64 on: its addresses say where the arrays lie
 * in a block, and are not used otherwise. */
static mo_weight moi_cl_weight_like(const mo_cl_weight *w) {
    mo_weight like;
    memset(&like, 0, sizeof like);
    like.type = w->type;
    like.rows = w->rows;
    like.columns = w->columns;
    like.block = w->block;
    like.nested = w->nested;
    return like;
}

static int moi_cl_weight_is_4bit(const mo_cl_weight *w) { return w->type >= MO_GEMM_NF4; }
static int moi_cl_weight_is_nested(const mo_cl_weight *w) {
    return moi_cl_weight_is_4bit(w) && w->nested;
}
static size_t moi_cl_weight_block(const mo_cl_weight *w) { return w->block == 0 ? 64 : w->block; }
static size_t moi_cl_weight_scales(const mo_cl_weight *w) {
    const size_t block = moi_cl_weight_block(w);
    return (w->rows * w->columns + block - 1) / block;
}

size_t mo_cl_weight_size(const mo_cl_weight *w) {
    if (!w) return 0;
    const mo_weight like = moi_cl_weight_like(w);
    return mo_weight_size(&like);
}

size_t mo_cl_weight_workspace_size(const mo_cl_weight *w) {
    if (!w) return 0;
    const mo_weight like = moi_cl_weight_like(w);
    return mo_weight_workspace_size(&like);
}

/* The part of a block from one address to another; {0} where there is no array. */
static mo_cl_mem moi_cl_weight_part(
    const mo_cl_mem *memory, uintptr_t base, const void *begin, uintptr_t end) {
    mo_cl_mem none;
    memset(&none, 0, sizeof none);
    if (!begin) return none;
    return mo_cl_part(memory, (uintptr_t)begin - base, end - (uintptr_t)begin);
}

mo_status mo_cl_weight_place(mo_cl_weight *w, mo_cl_mem memory) {
    const uintptr_t base = 64;
    const size_t size = mo_cl_weight_size(w);
    if (size == 0 || !memory.buffer || memory.off % sizeof(float) != 0) return MO_E_INVALID;
    if (memory.size < size) return MO_E_NO_SPACE;
    mo_weight like = moi_cl_weight_like(w);
    const mo_status status = mo_weight_place(&like, (void *)base, size);
    if (status != MO_OK) return status;
    const uintptr_t end = base + size;
    const uintptr_t absmax2 = like.absmax2 ? (uintptr_t)like.absmax2 : end;
    const uintptr_t codes = like.codes ? (uintptr_t)like.codes : absmax2;
    const uintptr_t absmax = like.absmax ? (uintptr_t)like.absmax : codes;
    w->data = moi_cl_weight_part(&memory, base, like.data, absmax);
    w->absmax = moi_cl_weight_part(&memory, base, like.absmax, codes);
    w->codes = moi_cl_weight_part(&memory, base, like.codes, absmax2);
    w->absmax2 = moi_cl_weight_part(&memory, base, like.absmax2, end);
    return MO_OK;
}

/* Whether everything is there that the type needs, and scratch for nested scales; the kernels look
 * at the sizes. */
static mo_status moi_cl_weight_check(
    const mo_cl *cl, const mo_cl_weight *w, const mo_cl_mem *workspace) {
    if (!cl || mo_cl_weight_size(w) == 0 || !w->data.buffer) return MO_E_INVALID;
    if (w->type < MO_GEMM_INT8) return MO_OK;
    if (!moi_cl_weight_is_nested(w)) return w->absmax.buffer ? MO_OK : MO_E_INVALID;
    if (!w->codes.buffer || !w->absmax2.buffer) return MO_E_INVALID;
    return moi_cl_has_floats(workspace, moi_cl_weight_scales(w)) ? MO_OK : MO_E_NO_SPACE;
}

static mo_quant4_desc moi_cl_weight_quant4(const mo_cl_weight *w) {
    mo_quant4_desc d;
    memset(&d, 0, sizeof d);
    d.map = w->type == MO_GEMM_FP4 ? MO_QUANT_FP4 : MO_QUANT_NF4;
    d.block = w->block;
    return d;
}

static mo_int8_desc moi_cl_weight_int8(const mo_cl_weight *w, size_t rows) {
    mo_int8_desc d;
    memset(&d, 0, sizeof d);
    d.rows = rows;
    d.columns = w->columns;
    return d;
}

static mo_status moi_cl_weight_copy(mo_cl *cl, mo_cl_mem from, mo_cl_mem to, size_t n) {
    moi_cl_call call = moi_cl_begin(cl, MOI_CL_mo_cl_copy_u32, NULL);
    moi_cl_mem_arg(&call, &from, sizeof(float), n);
    moi_cl_mem_arg(&call, &to, sizeof(float), n);
    moi_cl_u64_arg(&call, n);
    return moi_cl_run(&call, moi_cl_tiles(cl, n));
}

/* What follows of a block of memory from a place on. */
static mo_cl_mem moi_cl_weight_from(mo_cl_mem mem, uint64_t off) {
    return mo_cl_part(&mem, off, off < mem.size ? mem.size - off : 0);
}

/* Numbers first .. first + n - 1, which begin at a row (INT8) or a block (4 bits) and end at one or
 * at the end; absmax stands for w's. */
static mo_status moi_cl_weight_encode_part(
    mo_cl *cl, const mo_cl_weight *w, mo_cl_mem absmax, size_t first, size_t n, mo_cl_mem x) {
    if (moi_cl_weight_is_4bit(w)) {
        const mo_quant4_desc d = moi_cl_weight_quant4(w);
        const size_t scale = first / moi_cl_weight_block(w);
        return mo_cl_quant4_encode(cl, &d, x, n, moi_cl_weight_from(w->data, first / 2),
            moi_cl_weight_from(absmax, scale * sizeof(float)));
    }
    if (w->type == MO_GEMM_INT8) {
        const mo_int8_desc d = moi_cl_weight_int8(w, n / w->columns);
        const size_t row = first / w->columns;
        return mo_cl_int8_encode(cl, &d, x, moi_cl_weight_from(w->data, first),
            moi_cl_weight_from(absmax, row * sizeof(float)), NULL);
    }
    const size_t width = w->type == MO_GEMM_F32 ? sizeof(float) : sizeof(uint16_t);
    const mo_cl_mem to = moi_cl_weight_from(w->data, first * width);
    if (w->type == MO_GEMM_BF16) return mo_cl_f32_to_bf16(cl, x, to, n);
    if (w->type == MO_GEMM_F16) return mo_cl_f32_to_f16(cl, x, to, n);
    return moi_cl_weight_copy(cl, x, to, n);
}

mo_status mo_cl_weight_encode(mo_cl *cl, mo_cl_weight *w, mo_cl_mem x, mo_cl_mem workspace) {
    mo_status status = moi_cl_weight_check(cl, w, &workspace);
    if (status != MO_OK) return status;
    const int nested = moi_cl_weight_is_nested(w);
    const mo_cl_mem absmax = nested ? workspace : w->absmax;
    status = moi_cl_weight_encode_part(cl, w, absmax, 0, w->rows * w->columns, x);
    if (status != MO_OK || !nested) return status;
    return mo_cl_quant_nested_encode(
        cl, absmax, moi_cl_weight_scales(w), w->codes, w->absmax2, &w->offset);
}

/* absmax stands for w's. */
static mo_status moi_cl_weight_decode_part(
    mo_cl *cl, const mo_cl_weight *w, mo_cl_mem absmax, size_t first, size_t n, mo_cl_mem x) {
    const size_t at = first * w->columns, count = n * w->columns;
    if (moi_cl_weight_is_4bit(w)) {
        const mo_quant4_desc d = moi_cl_weight_quant4(w);
        return mo_cl_quant4_decode(cl, &d, w->data, absmax, at, count, x);
    }
    if (w->type == MO_GEMM_INT8) {
        const mo_int8_desc d = moi_cl_weight_int8(w, n);
        return mo_cl_int8_decode(cl, &d, moi_cl_weight_from(w->data, at),
            moi_cl_weight_from(absmax, first * sizeof(float)), NULL, x);
    }
    const size_t width = w->type == MO_GEMM_F32 ? sizeof(float) : sizeof(uint16_t);
    const mo_cl_mem from = moi_cl_weight_from(w->data, at * width);
    if (w->type == MO_GEMM_BF16) return mo_cl_bf16_to_f32(cl, from, x, count);
    if (w->type == MO_GEMM_F16) return mo_cl_f16_to_f32(cl, from, x, count);
    return moi_cl_weight_copy(cl, from, x, count);
}

mo_status mo_cl_weight_decode(
    mo_cl *cl, const mo_cl_weight *w, size_t first, size_t n, mo_cl_mem x, mo_cl_mem workspace) {
    mo_cl_gemm_operand plain;
    const mo_status status = mo_cl_weight_operand(cl, w, workspace, &plain);
    if (status != MO_OK) return status;
    if (first > w->rows || n > w->rows - first) return MO_E_INVALID;
    if (!moi_cl_has_floats(&x, n * w->columns)) return MO_E_INVALID;
    return n == 0 ? MO_OK : moi_cl_weight_decode_part(cl, w, plain.absmax, first, n, x);
}

mo_status mo_cl_weight_operand(
    mo_cl *cl, const mo_cl_weight *w, mo_cl_mem workspace, mo_cl_gemm_operand *operand) {
    mo_status status = moi_cl_weight_check(cl, w, &workspace);
    if (status == MO_OK && !operand) status = MO_E_INVALID;
    if (status != MO_OK) return status;
    const int nested = moi_cl_weight_is_nested(w);
    if (nested)
        status = mo_cl_quant_nested_decode(
            cl, w->codes, w->absmax2, w->offset, moi_cl_weight_scales(w), workspace);
    if (status != MO_OK) return status;
    operand->type = w->type;
    operand->data = w->data;
    operand->absmax = nested ? workspace : w->absmax;
    operand->block = w->block;
    return MO_OK;
}
