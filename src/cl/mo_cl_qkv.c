/* mo_cl_qkv.c - see mo_cl_qkv.h. */

size_t mo_cl_qkv_width(const mo_cl_qkv_desc *desc) {
    mo_qkv_desc same;
    if (!desc) return 0;
    memset(&same, 0, sizeof same);
    same.heads = desc->heads;
    same.kv_heads = desc->kv_heads;
    same.head_size = desc->head_size;
    return mo_qkv_width(&same);
}

/* The row of qkv, when all sizes go together and fit. */
static mo_status moi_cl_qkv_check(const mo_cl_qkv_desc *d, size_t *width) {
    size_t n;
    if (!d || d->rows == 0 || d->channels == 0 || d->heads == 0 || d->head_size == 0)
        return MO_E_INVALID;
    if (d->kv_heads != 0 && d->heads % d->kv_heads != 0) return MO_E_INVALID;
    *width = mo_cl_qkv_width(d);
    if (*width == 0 || !moi_mul(d->rows, *width, &n) || n > SIZE_MAX / 8 ||
        !moi_mul(d->channels, *width, &n))
        return MO_E_OVERFLOW;
    return MO_OK;
}

mo_status mo_cl_qkv_forward(const mo_cl_qkv_desc *desc, const mo_cl_qkv_tensors *tensors) {
    const mo_cl_qkv_tensors *t = tensors;
    mo_cl_mem none;
    size_t width;
    mo_status status = moi_cl_qkv_check(desc, &width);
    if (status != MO_OK) return status;
    if (!desc->env || !t) return MO_E_INVALID;
    memset(&none, 0, sizeof none);
    const int bias = t->bias.buffer != NULL;
    if (bias) status = mo_cl_bias_forward(desc->env->cl, t->bias, none, desc->rows, width, t->qkv);
    const mo_gemm_desc product = {
        desc->rows, width, desc->channels, 0, !desc->transposed, 0, 0, 0, 0, bias ? 1.0f : 0.0f};
    return status == MO_OK ? mo_cl_gemm(desc->env, &product, t->x, t->weight, t->qkv) : status;
}

static mo_status moi_cl_qkv_dweight(
    const mo_cl_qkv_desc *d, const mo_cl_qkv_tensors *t, size_t width) {
    if (d->transposed) {
        const mo_gemm_desc product = {d->channels, width, d->rows, 1, 0, 0, 0, 0, 0, 1.0f};
        return mo_cl_gemm(d->env, &product, t->x, t->dqkv, t->dweight);
    }
    const mo_gemm_desc product = {width, d->channels, d->rows, 1, 0, 0, 0, 0, 0, 1.0f};
    return mo_cl_gemm(d->env, &product, t->dqkv, t->x, t->dweight);
}

mo_status mo_cl_qkv_backward(const mo_cl_qkv_desc *desc, const mo_cl_qkv_tensors *tensors) {
    const mo_cl_qkv_tensors *t = tensors;
    size_t width;
    mo_status status = moi_cl_qkv_check(desc, &width);
    if (status != MO_OK) return status;
    if (!desc->env || !t || !t->dqkv.buffer) return MO_E_INVALID;
    const mo_gemm_desc to_x = {
        desc->rows, desc->channels, width, 0, desc->transposed, 0, 0, 0, 0, 0};
    if (t->dx.buffer) status = mo_cl_gemm(desc->env, &to_x, t->dqkv, t->weight, t->dx);
    if (status == MO_OK && t->dweight.buffer) status = moi_cl_qkv_dweight(desc, t, width);
    if (status != MO_OK || !t->dbias.buffer) return status;
    return mo_cl_bias_backward(
        desc->env->cl, t->dqkv, desc->rows, width, t->dbias, desc->workspace);
}

static mo_cl_mem moi_cl_qkv_part(const mo_cl_mem *qkv, size_t off) {
    return mo_cl_part(qkv, off * sizeof(float), qkv->size - off * sizeof(float));
}

mo_status mo_cl_qkv_attention(const mo_cl_qkv_desc *desc, const mo_cl_qkv_tensors *tensors,
    mo_cl_attention_desc *attention, mo_cl_attention_tensors *attention_tensors) {
    size_t width;
    const mo_status status = moi_cl_qkv_check(desc, &width);
    if (status != MO_OK) return status;
    if (!tensors || !attention || !attention_tensors) return MO_E_INVALID;
    const uint64_t n = (uint64_t)desc->rows * width;
    const int backward = tensors->dqkv.buffer != NULL;
    if (!moi_cl_has_floats(&tensors->qkv, n)) return MO_E_INVALID;
    if (backward && !moi_cl_has_floats(&tensors->dqkv, n)) return MO_E_INVALID;
    const size_t k = desc->heads * desc->head_size, v = k + (width - k) / 2;
    attention->heads = desc->heads;
    attention->kv_heads = desc->kv_heads;
    attention->head_size = desc->head_size;
    attention->stride = attention->kv_stride = width;
    attention_tensors->q = tensors->qkv;
    attention_tensors->k = moi_cl_qkv_part(&tensors->qkv, k);
    attention_tensors->v = moi_cl_qkv_part(&tensors->qkv, v);
    if (!backward) return MO_OK;
    attention_tensors->dq = tensors->dqkv;
    attention_tensors->dk = moi_cl_qkv_part(&tensors->dqkv, k);
    attention_tensors->dv = moi_cl_qkv_part(&tensors->dqkv, v);
    return MO_OK;
}
