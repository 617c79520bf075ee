/* mo_qkv.c - see mo_qkv.h. */

size_t mo_qkv_width(const mo_qkv_desc *desc) {
    size_t kv, n;
    if (!desc) return 0;
    kv = desc->kv_heads == 0 ? desc->heads : desc->kv_heads;
    if (kv == 0 || desc->heads % kv != 0) return 0;
    if (!moi_mul(kv, 2, &n) || !moi_add(n, desc->heads, &n)) return 0;
    return moi_mul(n, desc->head_size, &n) ? n : 0;
}

/* The row of qkv, when all sizes go together and fit. */
static mo_status moi_qkv_check(const mo_qkv_desc *d, size_t *width) {
    size_t n;
    if (!d || d->rows == 0 || d->channels == 0 || d->heads == 0 || d->head_size == 0)
        return MO_E_INVALID;
    if (d->kv_heads != 0 && d->heads % d->kv_heads != 0) return MO_E_INVALID;
    *width = mo_qkv_width(d);
    if (*width == 0 || !moi_mul(d->rows, *width, &n) || !moi_mul(d->channels, *width, &n))
        return MO_E_OVERFLOW;
    return MO_OK;
}

/* Sums and copies of the bias. */
typedef struct moi_qkv_bias {
    const float *bias;
    float *dbias, *qkv;
    size_t rows, width;
} moi_qkv_bias;

static void moi_qkv_bias_rows(const void *context, size_t begin, size_t end) {
    const moi_qkv_bias *job = (const moi_qkv_bias *)context;
    for (size_t r = begin; r < end; r++)
        memcpy(job->qkv + r * job->width, job->bias, job->width * sizeof(float));
}
static void moi_qkv_bias_columns(const void *context, size_t begin, size_t end) {
    const moi_qkv_bias *job = (const moi_qkv_bias *)context;
    for (size_t r = 0; r < job->rows; r++)
        for (size_t c = begin; c < end; c++) job->dbias[c] += job->qkv[r * job->width + c];
}

mo_status mo_qkv_forward(const mo_qkv_desc *desc, const mo_qkv_tensors *tensors) {
    const mo_qkv_tensors *t = tensors;
    size_t width;
    const mo_status status = moi_qkv_check(desc, &width);
    if (status != MO_OK) return status;
    if (!desc->env || !t || !t->x || !t->weight || !t->qkv) return MO_E_INVALID;
    if (t->bias) { /* the product is added to it */
        const moi_qkv_bias job = {t->bias, NULL, t->qkv, desc->rows, width};
        mo_parallel_for(desc->env->parallel, desc->rows, 64, moi_qkv_bias_rows, &job);
    }
    const mo_gemm_desc product = {
        desc->rows, width, desc->channels, 0, !desc->transposed, 0, 0, 0, 0, t->bias ? 1.0f : 0.0f};
    return mo_gemm(desc->env, &product, t->x, t->weight, t->qkv);
}

static mo_status moi_qkv_dweight(const mo_qkv_desc *d, const mo_qkv_tensors *t, size_t width) {
    if (d->transposed) {
        const mo_gemm_desc product = {d->channels, width, d->rows, 1, 0, 0, 0, 0, 0, 1.0f};
        return mo_gemm(d->env, &product, t->x, t->dqkv, t->dweight);
    }
    const mo_gemm_desc product = {width, d->channels, d->rows, 1, 0, 0, 0, 0, 0, 1.0f};
    return mo_gemm(d->env, &product, t->dqkv, t->x, t->dweight);
}

mo_status mo_qkv_backward(const mo_qkv_desc *desc, const mo_qkv_tensors *tensors) {
    const mo_qkv_tensors *t = tensors;
    size_t width;
    mo_status status = moi_qkv_check(desc, &width);
    if (status != MO_OK) return status;
    if (!desc->env || !t || !t->dqkv || (t->dx && !t->weight) || (t->dweight && !t->x))
        return MO_E_INVALID;
    const mo_gemm_desc to_x = {
        desc->rows, desc->channels, width, 0, desc->transposed, 0, 0, 0, 0, 0};
    if (t->dx) status = mo_gemm(desc->env, &to_x, t->dqkv, t->weight, t->dx);
    if (status == MO_OK && t->dweight) status = moi_qkv_dweight(desc, t, width);
    if (status != MO_OK || !t->dbias) return status;
    const moi_qkv_bias job = {NULL, t->dbias, t->dqkv, desc->rows, width};
    mo_parallel_for(desc->env->parallel, width, 64, moi_qkv_bias_columns, &job);
    return MO_OK;
}

mo_status mo_qkv_attention(const mo_qkv_desc *desc, const mo_qkv_tensors *tensors,
    mo_attention_desc *attention, mo_attention_tensors *attention_tensors) {
    size_t width;
    const mo_status status = moi_qkv_check(desc, &width);
    if (status != MO_OK) return status;
    if (!tensors || !tensors->qkv || !attention || !attention_tensors) return MO_E_INVALID;
    const size_t k = desc->heads * desc->head_size, v = k + (width - k) / 2;
    attention->heads = desc->heads;
    attention->kv_heads = desc->kv_heads;
    attention->head_size = desc->head_size;
    attention->stride = attention->kv_stride = width;
    attention_tensors->q = tensors->qkv;
    attention_tensors->k = tensors->qkv + k;
    attention_tensors->v = tensors->qkv + v;
    if (!tensors->dqkv) return MO_OK;
    attention_tensors->dq = tensors->dqkv;
    attention_tensors->dk = tensors->dqkv + k;
    attention_tensors->dv = tensors->dqkv + v;
    return MO_OK;
}
