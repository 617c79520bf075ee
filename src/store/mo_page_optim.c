/* mo_page_optim.c - see mo_page_optim.h; how tensors are cut is in mo_optim_pages.c. */

enum { MOI_PAGE_OPTIM_BYTES = 2 << 20 };

/* ---- cutting -------------------------------------------------------------------------------- */

/* One tensor after the other: into tensors and cut->slices where there are any, else counted. */
static mo_status moi_page_optim_cut_all(
    const mo_page_optim_desc *desc, moi_optim_cut *cut, moi_optim_tensor *tensors) {
    cut->page = cut->used = cut->n_slices = 0;
    for (size_t i = 0; i < desc->n_tensors; i++) {
        moi_optim_tensor tensor;
        size_t bytes = 0;
        mo_status status = moi_optim_tensor_init(&desc->tensors[i], desc->n[i], &tensor, &bytes);
        if (status != MO_OK) return status;
        if (!moi_optim_cut_tensor(cut, &tensor)) {
            moi_log(&desc->pages.log, MO_LOG_ERROR,
                "pages: %zu bytes are too small for states of tensor %zu, %zu numbers",
                cut->page_bytes, i, tensor.n);
            return MO_E_UNSUPPORTED;
        }
        if (tensors) tensors[i] = tensor;
    }
    return MO_OK;
}

/* Bytes of all states, and of a page that is just enough. */
static mo_status moi_page_optim_measure(
    const mo_page_optim_desc *desc, size_t *bytes, size_t *least) {
    *bytes = *least = 0;
    for (size_t i = 0; i < desc->n_tensors; i++) {
        moi_optim_tensor tensor;
        mo_status status = moi_optim_tensor_init(&desc->tensors[i], desc->n[i], &tensor, bytes);
        if (status != MO_OK) return status;
        *least = moi_max(*least, moi_optim_least(&tensor));
    }
    return MO_OK;
}

/* Pages and where the cut ends; nothing but that is done. */
static mo_status moi_page_optim_plan(
    const mo_page_optim_desc *desc, mo_page_desc *pages, moi_optim_cut *cut) {
    size_t bytes, least;
    if (!desc || !desc->tensors || !desc->n || desc->n_tensors == 0) return MO_E_INVALID;
    mo_status status = moi_page_optim_measure(desc, &bytes, &least);
    if (status != MO_OK) return status;
    *pages = desc->pages;
    size_t page_bytes = pages->page_bytes;
    if (page_bytes == 0) {
        page_bytes = MOI_PAGE_OPTIM_BYTES;
        if (pages->resident_bytes > 0)
            page_bytes = moi_min(page_bytes,
                pages->resident_bytes / 3 / MOI_OPTIM_PAGE_ALIGN * MOI_OPTIM_PAGE_ALIGN);
        page_bytes = moi_max(page_bytes, least);
    }
    status = moi_optim_cut_begin(page_bytes, bytes, cut);
    if (status == MO_OK) status = moi_page_optim_cut_all(desc, cut, NULL);
    if (status != MO_OK) return status;
    pages->page_bytes = cut->page_bytes;
    pages->size = (uint64_t)cut->page * cut->page_bytes + cut->used;
    return MO_OK;
}

mo_status mo_page_optim_pages(const mo_page_optim_desc *desc, mo_page_desc *pages) {
    mo_page_desc found;
    moi_optim_cut cut;
    if (!pages) return MO_E_INVALID;
    mo_status status = moi_page_optim_plan(desc, &found, &cut);
    if (status != MO_OK) return status;
    const size_t resident = mo_page_resident_bytes(&found);
    if (resident == 0) return MO_E_NO_SPACE;
    found.resident_bytes = resident;
    *pages = found;
    return MO_OK;
}

/* ---- start and end -------------------------------------------------------------------------- */

static mo_status moi_page_optim_allocate(
    mo_page_optim *optim, const mo_page_optim_desc *desc, moi_optim_cut *cut) {
    const mo_allocator *allocator = &desc->pages.allocator;
    optim->tensors =
        (moi_optim_tensor *)moi_alloc_array(allocator, desc->n_tensors, sizeof *optim->tensors);
    optim->slices =
        (moi_optim_slice *)moi_alloc_array(allocator, cut->n_slices, sizeof *optim->slices);
    if (!optim->tensors || !optim->slices) return MO_E_NO_MEMORY;
    cut->slices = optim->slices;
    return moi_page_optim_cut_all(desc, cut, optim->tensors);
}

/* States of zero, slice by slice: they lie in the order of the pages. */
static mo_status moi_page_optim_clear(mo_page_optim *optim) {
    mo_optim_state state;
    size_t tensor = 0;
    void *data = NULL;
    for (size_t s = 0; s < optim->n_slices;) {
        const size_t page = optim->slices[s].page;
        mo_status status = mo_page_acquire(&optim->pages, page, MO_PAGE_OVERWRITE, &data);
        if (status != MO_OK) return status;
        memset(data, 0, mo_page_size(&optim->pages, page));
        for (; s < optim->n_slices && optim->slices[s].page == page && status == MO_OK; s++) {
            const moi_optim_slice *slice = &optim->slices[s];
            while (s - optim->tensors[tensor].first >= optim->tensors[tensor].n_slices) tensor++;
            status = mo_optim_state_init(&optim->tensors[tensor].desc, slice->n,
                (char *)data + slice->off, slice->size, &state);
        }
        mo_status released = mo_page_release(&optim->pages, page);
        if (status == MO_OK) status = released;
        if (status != MO_OK) return status;
    }
    return MO_OK;
}

mo_status mo_page_optim_init(mo_page_optim *optim, const mo_page_optim_desc *desc) {
    mo_page_optim made;
    mo_page_desc pages;
    moi_optim_cut cut;
    if (!optim) return MO_E_INVALID;
    memset(&made, 0, sizeof made);
    mo_status status = moi_page_optim_plan(desc, &pages, &cut);
    if (status != MO_OK) return status;
    made.n_tensors = desc->n_tensors;
    made.n_slices = cut.n_slices;
    made.allocator = desc->pages.allocator;
    status = moi_page_optim_allocate(&made, desc, &cut);
    if (status == MO_OK) status = mo_page_init(&made.pages, &pages);
    if (status == MO_OK) status = moi_page_optim_clear(&made);
    if (status == MO_OK) *optim = made;
    else mo_page_optim_free(&made);
    return status;
}

void mo_page_optim_free(mo_page_optim *optim) {
    if (!optim || optim->n_tensors == 0) return;
    const mo_allocator allocator = optim->allocator;
    mo_page_free(&optim->pages);
    moi_free_array(&allocator, optim->slices, optim->n_slices, sizeof *optim->slices);
    moi_free_array(&allocator, optim->tensors, optim->n_tensors, sizeof *optim->tensors);
    memset(optim, 0, sizeof *optim);
}

/* ---- walks ---------------------------------------------------------------------------------- */

mo_status mo_page_optim_walk(mo_page_optim *optim, const size_t *order, size_t n) {
    if (!optim || optim->n_tensors == 0) return MO_E_INVALID;
    const mo_allocator *allocator = &optim->allocator;
    size_t n_steps = 0, n_pages = 0;
    mo_status status = moi_optim_walk_size(optim->tensors, optim->n_tensors, order, n, &n_steps);
    if (status != MO_OK) return status;
    size_t *pages = (size_t *)moi_alloc_array(allocator, n_steps, sizeof *pages);
    if (!pages) return MO_E_NO_MEMORY;
    n_pages = moi_optim_walk_pages(optim->tensors, optim->slices, order, n, pages);
    status = mo_page_walk(&optim->pages, pages, n_pages);
    moi_free_array(allocator, pages, n_steps, sizeof *pages);
    optim->is_walking |= status == MO_OK;
    return status;
}

/* The pages lie in the order of the desc. */
static mo_status moi_page_optim_start(mo_page_optim *optim) {
    if (optim->is_walking) return MO_OK;
    mo_status status = mo_page_walk(&optim->pages, NULL, mo_page_count(&optim->pages));
    optim->is_walking = status == MO_OK;
    return status;
}

/* ---- steps ---------------------------------------------------------------------------------- */

typedef enum moi_page_optim_kind {
    MOI_PAGE_OPTIM_STEP,
    MOI_PAGE_OPTIM_STEP_BF16,
    MOI_PAGE_OPTIM_MASTER,
    MOI_PAGE_OPTIM_READ,
    MOI_PAGE_OPTIM_WRITE
} moi_page_optim_kind;

/* What is done to all slices of a tensor. state: of the whole tensor, for READ and WRITE. */
typedef struct moi_page_optim_work {
    moi_page_optim_kind kind;
    mo_optim_desc desc;
    uint64_t t;
    float *param;
    uint16_t *half; /* MASTER only reads it */
    const float *grad;
    const mo_optim_state *state;
} moi_page_optim_work;

static mo_status moi_page_optim_copy(const moi_optim_tensor *tensor, const moi_optim_slice *slice,
    const moi_page_optim_work *work, const mo_optim_state *paged) {
    mo_optim_state whole;
    mo_status status = mo_optim_state_slice(work->state, slice->begin, slice->n, &whole);
    if (status != MO_OK) return status;
    return work->kind == MOI_PAGE_OPTIM_READ ? moi_optim_slice_copy(tensor, paged, &whole)
                                             : moi_optim_slice_copy(tensor, &whole, paged);
}

static mo_status moi_page_optim_apply(const moi_optim_tensor *tensor, const moi_optim_slice *slice,
    const moi_page_optim_work *work, const mo_optim_state *state) {
    const size_t at = slice->begin;
    switch (work->kind) {
    case MOI_PAGE_OPTIM_STEP:
        return mo_optim_step(&work->desc, work->t, work->param + at, work->grad + at, state);
    case MOI_PAGE_OPTIM_STEP_BF16:
        return mo_optim_step_bf16(&work->desc, work->t, work->half + at, work->grad + at, state);
    case MOI_PAGE_OPTIM_MASTER: return mo_optim_master_init(state, work->half + at);
    default: return moi_page_optim_copy(tensor, slice, work, state);
    }
}

static mo_status moi_page_optim_slice(mo_page_optim *optim, const moi_optim_tensor *tensor,
    const moi_optim_slice *slice, const moi_page_optim_work *work) {
    const mo_page_access access = work->kind == MOI_PAGE_OPTIM_READ ? MO_PAGE_READ : MO_PAGE_WRITE;
    mo_optim_state state;
    void *data = NULL;
    mo_status status = mo_page_acquire(&optim->pages, slice->page, access, &data);
    if (status != MO_OK) return status;
    status = mo_optim_state_attach(
        &work->desc, slice->n, (char *)data + slice->off, slice->size, &state);
    if (status == MO_OK) {
        state.offset = slice->begin;
        status = moi_page_optim_apply(tensor, slice, work, &state);
    }
    mo_status released = mo_page_release(&optim->pages, slice->page);
    return status != MO_OK ? status : released;
}

static mo_status moi_page_optim_do(
    mo_page_optim *optim, size_t i, const mo_optim_desc *desc, moi_page_optim_work *work) {
    if (!optim || i >= optim->n_tensors) return MO_E_INVALID;
    const moi_optim_tensor *tensor = &optim->tensors[i];
    work->desc = desc ? *desc : tensor->desc;
    work->desc.precision = tensor->desc.precision;
    work->desc.min_8bit_size = 1;
    if (work->state && !moi_optim_tensor_has(tensor, work->state)) return MO_E_INVALID;
    mo_status status = moi_page_optim_start(optim);
    for (size_t k = 0; k < tensor->n_slices && status == MO_OK; k++)
        status = moi_page_optim_slice(optim, tensor, &optim->slices[tensor->first + k], work);
    return status;
}

static moi_page_optim_work moi_page_optim_work_of(moi_page_optim_kind kind, uint64_t t) {
    moi_page_optim_work work;
    memset(&work, 0, sizeof work);
    work.kind = kind;
    work.t = t;
    return work;
}

mo_status mo_page_optim_step(mo_page_optim *optim, size_t tensor, const mo_optim_desc *desc,
    uint64_t t, float *param, const float *grad) {
    moi_page_optim_work work = moi_page_optim_work_of(MOI_PAGE_OPTIM_STEP, t);
    work.param = param;
    work.grad = grad;
    return param && grad ? moi_page_optim_do(optim, tensor, desc, &work) : MO_E_INVALID;
}

mo_status mo_page_optim_step_bf16(mo_page_optim *optim, size_t tensor, const mo_optim_desc *desc,
    uint64_t t, uint16_t *param, const float *grad) {
    moi_page_optim_work work = moi_page_optim_work_of(MOI_PAGE_OPTIM_STEP_BF16, t);
    work.half = param;
    work.grad = grad;
    return param && grad ? moi_page_optim_do(optim, tensor, desc, &work) : MO_E_INVALID;
}

mo_status mo_page_optim_master_init(mo_page_optim *optim, size_t tensor, const uint16_t *param) {
    moi_page_optim_work work = moi_page_optim_work_of(MOI_PAGE_OPTIM_MASTER, 0);
    work.half = (uint16_t *)(uintptr_t)param;
    return param ? moi_page_optim_do(optim, tensor, NULL, &work) : MO_E_INVALID;
}

mo_status mo_page_optim_read(mo_page_optim *optim, size_t tensor, const mo_optim_state *state) {
    moi_page_optim_work work = moi_page_optim_work_of(MOI_PAGE_OPTIM_READ, 0);
    work.state = state;
    return state ? moi_page_optim_do(optim, tensor, NULL, &work) : MO_E_INVALID;
}

mo_status mo_page_optim_write(mo_page_optim *optim, size_t tensor, const mo_optim_state *state) {
    moi_page_optim_work work = moi_page_optim_work_of(MOI_PAGE_OPTIM_WRITE, 0);
    work.state = state;
    return state ? moi_page_optim_do(optim, tensor, NULL, &work) : MO_E_INVALID;
}
