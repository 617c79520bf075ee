/* mo_block_rules.h - what descs of a block's parts say, wherever they run; never part of the public
 * header. */
#ifndef MEMOPT_BLOCK_RULES_H
#define MEMOPT_BLOCK_RULES_H

/* Defaults filled in; n: units. */
MOI_ALWAYS_INLINE mo_status moi_swiglu_check(
    const mo_swiglu_desc *desc, mo_swiglu_desc *d, size_t *n) {
    size_t bytes;
    if (!desc) return MO_E_INVALID;
    *d = *desc;
    if (d->stride == 0) d->stride = d->hidden;
    if (d->y_stride == 0) d->y_stride = d->hidden;
    if (d->stride < d->hidden || d->y_stride < d->hidden) return MO_E_INVALID;
    if (!moi_mul(d->rows, d->hidden, n) ||
        !moi_mul(d->rows, moi_max(d->stride, d->y_stride), &bytes) ||
        !moi_mul(bytes, sizeof(float), &bytes))
        return MO_E_OVERFLOW;
    return MO_OK;
}

/* Defaults filled in; rows: of them all. */
MOI_ALWAYS_INLINE mo_status moi_rope_check(
    const mo_rope_desc *desc, mo_rope_desc *d, size_t *rows) {
    size_t width, last, bytes;
    if (!desc) return MO_E_INVALID;
    *d = *desc;
    if (d->heads == 0 || d->head_size == 0 || d->head_size % 2 != 0 || d->seq == 0)
        return MO_E_INVALID;
    if (!moi_mul(d->heads, d->head_size, &width) || !moi_add(d->first, d->seq, &last) ||
        !moi_mul(d->batch, d->seq, rows))
        return MO_E_OVERFLOW;
    if (d->stride == 0) d->stride = width;
    if (d->positions == 0) d->positions = last;
    if (d->stride < width || d->positions < last) return MO_E_INVALID;
    if (!moi_mul(*rows, d->stride, &bytes) || !moi_mul(bytes, sizeof(float), &bytes) ||
        !moi_mul(d->positions, d->head_size, &bytes) || !moi_mul(bytes, sizeof(float), &bytes))
        return MO_E_OVERFLOW;
    return MO_OK;
}

#endif
