/* mo_params.c - see mo_params.h. */

void mo_params_init(mo_params *params, const mo_allocator *allocator) {
    memset(params, 0, sizeof *params);
    params->allocator = allocator && allocator->alloc ? *allocator : mo_allocator_heap();
}

void mo_params_free(mo_params *params) {
    if (!params) return;
    for (size_t i = 0; i < params->n; i++) {
        const char *name = params->items[i].name;
        mo_free(&params->allocator, (void *)(uintptr_t)name, strlen(name) + 1, 1);
    }
    moi_free_array(&params->allocator, params->items, params->capacity, sizeof *params->items);
    params->items = NULL;
    params->n = params->capacity = 0;
}

static mo_status moi_params_grow(mo_params *params) {
    if (params->n < params->capacity) return MO_OK;
    const size_t capacity = params->capacity == 0 ? 32 : params->capacity * 2;
    mo_param *items = (mo_param *)moi_alloc_array(&params->allocator, capacity, sizeof *items);
    if (!items) return MO_E_NO_MEMORY;
    if (params->n != 0) memcpy(items, params->items, params->n * sizeof *items);
    moi_free_array(&params->allocator, params->items, params->capacity, sizeof *items);
    params->items = items;
    params->capacity = capacity;
    return MO_OK;
}

mo_status mo_params_add(
    mo_params *params, const char *name, const size_t *shape, size_t n_dims, size_t *index) {
    if (!params || !name || !shape || n_dims == 0 || n_dims > MO_PARAM_MAX_DIMS)
        return MO_E_INVALID;
    if (mo_params_find(params, name)) return MO_E_INVALID;
    mo_param param;
    memset(&param, 0, sizeof param);
    param.n = 1;
    param.n_dims = n_dims;
    for (size_t i = 0; i < n_dims; i++) {
        if (shape[i] == 0) return MO_E_INVALID;
        if (!moi_mul(param.n, shape[i], &param.n)) return MO_E_OVERFLOW;
        param.shape[i] = shape[i];
    }
    size_t all = mo_params_size(params, MO_PARAMS_ALL), bytes;
    if (!moi_mul(param.n, sizeof(float), &bytes) || !moi_add(bytes, MOI_CACHE_LINE, &bytes) ||
        !moi_add(all, bytes, &all))
        return MO_E_OVERFLOW;
    mo_status status = moi_params_grow(params);
    if (status != MO_OK) return status;
    char *copy = (char *)mo_alloc(&params->allocator, strlen(name) + 1, 1);
    if (!copy) return MO_E_NO_MEMORY;
    memcpy(copy, name, strlen(name) + 1);
    param.name = copy;
    param.tied_to = params->n;
    if (index) *index = params->n;
    params->items[params->n++] = param;
    return MO_OK;
}

/* What tied parameters have in common. */
static void moi_params_share(mo_param *p, const mo_param *owner) {
    p->is_bf16 = owner->is_bf16;
    p->data = owner->data;
    p->bf16 = owner->bf16;
    p->grad = owner->grad;
}

mo_status mo_params_tie(mo_params *params, size_t index, size_t with) {
    if (!params || index >= params->n || with >= params->n || index == with) return MO_E_INVALID;
    mo_param *p = &params->items[index];
    const mo_param *shared = &params->items[with];
    if (shared->tied_to != with || shared->n != p->n) return MO_E_INVALID;
    for (size_t i = 0; i < params->n; i++) /* others tied to index would lose their tensor */
        if (i != index && params->items[i].tied_to == index) return MO_E_INVALID;
    p->tied_to = with;
    moi_params_share(p, shared);
    return MO_OK;
}

mo_param *mo_params_find(const mo_params *params, const char *name) {
    if (!params || !name) return NULL;
    for (size_t i = 0; i < params->n; i++)
        if (strcmp(params->items[i].name, name) == 0) return &params->items[i];
    return NULL;
}

static int moi_params_counts(const mo_params *params, size_t i, mo_params_what what) {
    const mo_param *p = &params->items[i];
    return p->tied_to == i && (what == MO_PARAMS_ALL || !p->frozen);
}

void *mo_param_data(const mo_param *param) {
    return param->is_bf16 ? (void *)param->bf16 : (void *)param->data;
}

size_t mo_param_bytes(const mo_param *param) {
    return param->n * (param->is_bf16 ? sizeof(uint16_t) : sizeof(float));
}

/* Sums of these fit: mo_params_add has seen to it, for fp32. */
static size_t moi_params_rounded(size_t bytes) {
    return (bytes + MOI_CACHE_LINE - 1) & ~(size_t)(MOI_CACHE_LINE - 1);
}

static size_t moi_params_grad_bytes(const mo_param *p) {
    return moi_params_rounded(p->n * sizeof(float));
}

size_t mo_params_count(const mo_params *params, mo_params_what what) {
    size_t n = 0;
    for (size_t i = 0; params && i < params->n; i++)
        if (moi_params_counts(params, i, what)) n += params->items[i].n;
    return n;
}

size_t mo_params_size(const mo_params *params, mo_params_what what) {
    size_t bytes = 0;
    for (size_t i = 0; params && i < params->n; i++)
        if (moi_params_counts(params, i, what))
            bytes += what == MO_PARAMS_ALL ? moi_params_rounded(mo_param_bytes(&params->items[i]))
                                           : moi_params_grad_bytes(&params->items[i]);
    return bytes;
}

mo_status mo_params_bind(mo_params *params, void *data, void *grad) {
    if (!params || !data) return MO_E_INVALID;
    char *data_at = (char *)data, *grad_at = (char *)grad;
    for (size_t i = 0; i < params->n; i++) {
        mo_param *p = &params->items[i];
        if (p->tied_to != i) continue;
        p->data = p->is_bf16 ? NULL : (float *)(void *)data_at;
        p->bf16 = p->is_bf16 ? (uint16_t *)(void *)data_at : NULL;
        data_at += moi_params_rounded(mo_param_bytes(p));
        p->grad = grad && !p->frozen ? (float *)(void *)grad_at : NULL;
        if (p->grad) grad_at += moi_params_grad_bytes(p);
    }
    for (size_t i = 0; i < params->n; i++) {
        mo_param *p = &params->items[i];
        moi_params_share(p, &params->items[p->tied_to]);
    }
    return MO_OK;
}
