/* mo_cl_page_optim.c - see mo_cl_page_optim.h; how tensors are cut is in mo_optim_pages.c. */

#define MOI_CL_PAGE_OPTIM_BYTES ((size_t)16 << 20)

typedef enum moi_cl_page_work {
    MOI_CL_PAGE_STEP,
    MOI_CL_PAGE_STEP_BF16,
    MOI_CL_PAGE_MASTER
} moi_cl_page_work;

/* ---- cutting ------------------------------------------------------------------------------- */

static mo_status moi_cl_page_cut_all(mo_cl_page_optim *optim, moi_optim_cut *cut) {
    cut->page = cut->used = cut->n_slices = 0;
    for (size_t i = 0; i < optim->n_tensors; i++) {
        if (moi_optim_cut_tensor(cut, &optim->tensors[i])) continue;
        moi_cl_say(&optim->heap->cl->log, MO_LOG_ERROR,
            "cl: a page of %zu bytes is too small for states of tensor %zu, %zu numbers",
            cut->page_bytes, i, optim->tensors[i].n);
        return MO_E_UNSUPPORTED;
    }
    return MO_OK;
}

/* ---- start and end ------------------------------------------------------------------------- */

/* The tensors, and the bytes of all their states. */
static mo_status moi_cl_page_tensors(
    mo_cl_page_optim *optim, const mo_cl_page_optim_desc *desc, size_t *bytes) {
    mo_status status = MO_OK;
    *bytes = 0;
    for (size_t i = 0; i < desc->n_tensors && status == MO_OK; i++)
        status = moi_optim_tensor_init(&desc->tensors[i], desc->n[i], &optim->tensors[i], bytes);
    return status;
}

static mo_status moi_cl_page_optim_slices(
    mo_cl_page_optim *optim, const mo_cl_page_optim_desc *desc, moi_optim_cut *cut) {
    size_t bytes = 0;
    mo_status status = moi_cl_page_tensors(optim, desc, &bytes);
    if (status != MO_OK) return status;
    status = moi_optim_cut_begin(
        desc->page_bytes ? desc->page_bytes : MOI_CL_PAGE_OPTIM_BYTES, bytes, cut);
    if (status == MO_OK) status = moi_cl_page_cut_all(optim, cut);
    if (status != MO_OK) return status;
    optim->slices = (moi_optim_slice *)moi_cl_new(
        &optim->heap->cl->allocator, cut->n_slices, sizeof *optim->slices);
    if (!optim->slices) return MO_E_NO_MEMORY;
    optim->n_slices = cut->n_slices;
    cut->slices = optim->slices;
    return moi_cl_page_cut_all(optim, cut);
}

/* A slice in host memory. */
static mo_status moi_cl_page_optim_at(const mo_cl_page_optim *optim, const moi_optim_tensor *tensor,
    const moi_optim_slice *slice, int is_new, mo_optim_state *state) {
    char *memory = (char *)mo_cl_page_host(&optim->pages, slice->page) + slice->off;
    return is_new ? mo_optim_state_init(&tensor->desc, slice->n, memory, slice->size, state)
                  : mo_optim_state_attach(&tensor->desc, slice->n, memory, slice->size, state);
}

static mo_status moi_cl_page_optim_begin(
    mo_cl_page_optim *optim, const mo_cl_page_optim_desc *desc) {
    moi_optim_cut cut;
    mo_cl_page_desc pages;
    mo_optim_state state;
    mo_status status = moi_cl_page_optim_slices(optim, desc, &cut);
    if (status != MO_OK) return status;
    memset(&pages, 0, sizeof pages);
    pages.size = (uint64_t)cut.page * cut.page_bytes + cut.used;
    pages.page_bytes = cut.page_bytes;
    pages.n_slots = desc->n_slots;
    pages.slots = desc->slots;
    pages.category = MO_CATEGORY_OPTIMIZER;
    pages.name = desc->name ? desc->name : "states";
    status = mo_cl_page_init(&optim->pages, optim->heap, &pages);
    for (size_t i = 0; i < optim->n_tensors && status == MO_OK; i++) {
        const moi_optim_tensor *tensor = &optim->tensors[i];
        for (size_t k = 0; k < tensor->n_slices && status == MO_OK; k++)
            status =
                moi_cl_page_optim_at(optim, tensor, &optim->slices[tensor->first + k], 1, &state);
    }
    return status;
}

mo_status mo_cl_page_optim_init(
    mo_cl_page_optim *optim, mo_cl_heap *heap, const mo_cl_page_optim_desc *desc) {
    mo_cl_page_optim made;
    if (!optim || !heap || !heap->cl || !desc || !desc->tensors || !desc->n || desc->n_tensors == 0)
        return MO_E_INVALID;
    memset(&made, 0, sizeof made);
    made.heap = heap;
    made.tensors =
        (moi_optim_tensor *)moi_cl_new(&heap->cl->allocator, desc->n_tensors, sizeof *made.tensors);
    if (!made.tensors) return MO_E_NO_MEMORY;
    made.n_tensors = desc->n_tensors;
    mo_status status = moi_cl_page_optim_begin(&made, desc);
    if (status == MO_OK) *optim = made;
    else mo_cl_page_optim_free(&made);
    return status;
}

void mo_cl_page_optim_free(mo_cl_page_optim *optim) {
    if (!optim || !optim->heap) return;
    const mo_allocator *allocator = &optim->heap->cl->allocator;
    mo_cl_page_free(&optim->pages);
    moi_cl_delete(allocator, optim->slices, optim->n_slices, sizeof *optim->slices);
    moi_cl_delete(allocator, optim->tensors, optim->n_tensors, sizeof *optim->tensors);
    memset(optim, 0, sizeof *optim);
}

/* ---- steps --------------------------------------------------------------------------------- */

mo_status mo_cl_page_optim_walk(mo_cl_page_optim *optim, const size_t *order, size_t n) {
    size_t n_steps = 0;
    if (!optim || !optim->heap) return MO_E_INVALID;
    mo_status status = moi_optim_walk_size(optim->tensors, optim->n_tensors, order, n, &n_steps);
    if (status != MO_OK) return status;
    size_t *pages = (size_t *)moi_cl_new(&optim->heap->cl->allocator, n_steps, sizeof *pages);
    if (!pages) return MO_E_NO_MEMORY;
    const size_t n_pages = moi_optim_walk_pages(optim->tensors, optim->slices, order, n, pages);
    status = mo_cl_page_walk(&optim->pages, pages, n_pages);
    moi_cl_delete(&optim->heap->cl->allocator, pages, n_steps, sizeof *pages);
    optim->is_walking |= status == MO_OK;
    return status;
}

static mo_status moi_cl_page_optim_slice(mo_cl_page_optim *optim, const moi_optim_slice *slice,
    const mo_optim_desc *d, moi_cl_page_work work, uint64_t t, const mo_cl_mem *param,
    const mo_cl_mem *grad) {
    mo_cl *cl = optim->heap->cl;
    const size_t param_size = work == MOI_CL_PAGE_STEP ? sizeof(float) : sizeof(uint16_t);
    const mo_cl_mem p = mo_cl_part(param, slice->begin * param_size, slice->n * param_size);
    mo_cl_mem g, mem;
    mo_cl_optim_state state;
    memset(&g, 0, sizeof g);
    if (work != MOI_CL_PAGE_MASTER)
        g = mo_cl_part(grad, slice->begin * sizeof(float), slice->n * sizeof(float));
    mo_status status = mo_cl_page_acquire(&optim->pages, slice->page, MO_CL_WRITE, &mem);
    if (status != MO_OK) return status;
    mem = mo_cl_part(&mem, slice->off, slice->size);
    status = mo_cl_optim_state_attach(d, slice->n, mem, &state);
    if (status == MO_OK) {
        state.offset = slice->begin;
        if (work == MOI_CL_PAGE_STEP) status = mo_cl_optim_step(cl, d, t, p, g, &state);
        else if (work == MOI_CL_PAGE_MASTER) status = mo_cl_optim_master_init(cl, &state, p);
        else status = mo_cl_optim_step_bf16(cl, d, t, p, g, &state);
    }
    mo_status released = mo_cl_page_release(&optim->pages, slice->page);
    return status != MO_OK ? status : released;
}

static mo_status moi_cl_page_optim_work(mo_cl_page_optim *optim, size_t i,
    const mo_optim_desc *desc, moi_cl_page_work work, uint64_t t, const mo_cl_mem *param,
    const mo_cl_mem *grad) {
    mo_status status = MO_OK;
    if (!optim || !optim->heap || i >= optim->n_tensors) return MO_E_INVALID;
    const moi_optim_tensor *tensor = &optim->tensors[i];
    const uint64_t n_bytes = (uint64_t)tensor->n * (work == MOI_CL_PAGE_STEP ? 4 : 2);
    if (!param->buffer || param->size < n_bytes) return MO_E_INVALID;
    if (grad && (!grad->buffer || grad->size / sizeof(float) < tensor->n)) return MO_E_INVALID;
    mo_optim_desc d = desc ? *desc : tensor->desc;
    d.precision = tensor->desc.precision;
    d.min_8bit_size = 1;
    if (!optim->is_walking) {
        status = mo_cl_page_walk(&optim->pages, NULL, optim->pages.n_pages);
        optim->is_walking = status == MO_OK;
    }
    for (size_t k = 0; k < tensor->n_slices && status == MO_OK; k++)
        status = moi_cl_page_optim_slice(
            optim, &optim->slices[tensor->first + k], &d, work, t, param, grad);
    return status;
}

mo_status mo_cl_page_optim_step(mo_cl_page_optim *optim, size_t tensor, const mo_optim_desc *desc,
    uint64_t t, mo_cl_mem param, mo_cl_mem grad) {
    return moi_cl_page_optim_work(optim, tensor, desc, MOI_CL_PAGE_STEP, t, &param, &grad);
}
mo_status mo_cl_page_optim_step_bf16(mo_cl_page_optim *optim, size_t tensor,
    const mo_optim_desc *desc, uint64_t t, mo_cl_mem param, mo_cl_mem grad) {
    return moi_cl_page_optim_work(optim, tensor, desc, MOI_CL_PAGE_STEP_BF16, t, &param, &grad);
}
mo_status mo_cl_page_optim_master_init(mo_cl_page_optim *optim, size_t tensor, mo_cl_mem param) {
    return moi_cl_page_optim_work(optim, tensor, NULL, MOI_CL_PAGE_MASTER, 0, &param, NULL);
}

/* ---- host ---------------------------------------------------------------------------------- */

static mo_status moi_cl_page_optim_exchange(
    mo_cl_page_optim *optim, size_t i, const mo_optim_state *state, int is_read) {
    if (!optim || !optim->heap || i >= optim->n_tensors || !state) return MO_E_INVALID;
    const moi_optim_tensor *tensor = &optim->tensors[i];
    if (!moi_optim_tensor_has(tensor, state)) return MO_E_INVALID;
    mo_status status = mo_cl_page_sync(&optim->pages);
    for (size_t k = 0; k < tensor->n_slices && status == MO_OK; k++) {
        const moi_optim_slice *slice = &optim->slices[tensor->first + k];
        mo_optim_state whole, paged;
        status = mo_optim_state_slice(state, slice->begin, slice->n, &whole);
        if (status == MO_OK) status = moi_cl_page_optim_at(optim, tensor, slice, 0, &paged);
        if (status != MO_OK) return status;
        status = is_read ? moi_optim_slice_copy(tensor, &paged, &whole)
                         : moi_optim_slice_copy(tensor, &whole, &paged);
    }
    return status;
}

mo_status mo_cl_page_optim_read(
    mo_cl_page_optim *optim, size_t tensor, const mo_optim_state *state) {
    return moi_cl_page_optim_exchange(optim, tensor, state, 1);
}
mo_status mo_cl_page_optim_write(
    mo_cl_page_optim *optim, size_t tensor, const mo_optim_state *state) {
    return moi_cl_page_optim_exchange(optim, tensor, state, 0);
}

#undef MOI_CL_PAGE_OPTIM_BYTES
