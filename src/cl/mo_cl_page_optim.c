/* mo_cl_page_optim.c - see mo_cl_page_optim.h.
 *
 * A slice in a page is a state of its own, laid out as mo_optim_state_init lays out one of its
 * numbers; its offset makes stochastic rounding that of the whole tensor. Slices begin at multiples
 * of the largest block. */

#define MOI_CL_PAGE_OPTIM_BYTES ((size_t)16 << 20)
enum { MOI_CL_PAGE_OPTIM_STEP = 4096, MOI_CL_PAGE_OPTIM_ALIGN = 4096 };

/* desc: with the precision that the tensor's size decides, for slices of any size. */
typedef struct moi_cl_page_tensor {
    mo_optim_desc desc;
    size_t n, first, n_slices;
} moi_cl_page_tensor;

typedef struct moi_cl_page_slice {
    size_t begin, n, page, off, size;
} moi_cl_page_slice;

typedef enum moi_cl_page_work {
    MOI_CL_PAGE_STEP,
    MOI_CL_PAGE_STEP_BF16,
    MOI_CL_PAGE_MASTER
} moi_cl_page_work;

/* ---- cutting ------------------------------------------------------------------------------- */

/* slices = NULL: only counts. page, used: where the next slice goes. */
typedef struct moi_cl_page_cut {
    size_t page_bytes, page, used, n_slices;
    moi_cl_page_slice *slices;
} moi_cl_page_cut;

/* The most numbers, of n, whose states take room bytes; 0 = none. */
static size_t moi_cl_page_fit(const mo_optim_desc *d, size_t n, size_t room) {
    if (mo_optim_state_size(d, n) <= room) return n;
    if (moi_optim_traits(d->kind, 0) & MOI_WHOLE) return 0;
    size_t low = 0, high = moi_ceil_div(n, MOI_CL_PAGE_OPTIM_STEP);
    while (high - low > 1) { /* low steps fit, high do not */
        const size_t middle = low + (high - low) / 2;
        if (mo_optim_state_size(d, middle * MOI_CL_PAGE_OPTIM_STEP) <= room) low = middle;
        else high = middle;
    }
    return low * MOI_CL_PAGE_OPTIM_STEP;
}

/* 0: not even an empty page is enough. */
static int moi_cl_page_cut_tensor(moi_cl_page_cut *cut, moi_cl_page_tensor *tensor) {
    tensor->first = cut->n_slices;
    for (size_t begin = 0; begin < tensor->n;) {
        const size_t left = tensor->n - begin;
        size_t n = moi_cl_page_fit(&tensor->desc, left, cut->page_bytes - cut->used);
        if (n == 0 && cut->used == 0) return 0;
        if (n == 0) {
            cut->page++;
            cut->used = 0;
            continue;
        }
        const size_t size = mo_optim_state_size(&tensor->desc, n);
        if (cut->slices) {
            moi_cl_page_slice *slice = &cut->slices[cut->n_slices];
            slice->begin = begin;
            slice->n = n;
            slice->page = cut->page;
            slice->off = cut->used;
            slice->size = size;
        }
        cut->n_slices++;
        cut->used = (cut->used + size + MOI_CACHE_LINE - 1) / MOI_CACHE_LINE * MOI_CACHE_LINE;
        if (cut->used > cut->page_bytes) cut->used = cut->page_bytes;
        begin += n;
    }
    tensor->n_slices = cut->n_slices - tensor->first;
    return 1;
}

static mo_status moi_cl_page_cut_all(mo_cl_page_optim *optim, moi_cl_page_cut *cut) {
    cut->page = cut->used = cut->n_slices = 0;
    for (size_t i = 0; i < optim->n_tensors; i++) {
        if (moi_cl_page_cut_tensor(cut, &optim->tensors[i])) continue;
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
    *bytes = 0;
    for (size_t i = 0; i < desc->n_tensors; i++) {
        moi_cl_page_tensor *tensor = &optim->tensors[i];
        moi_optim_layout layout;
        if (desc->n[i] == 0) return MO_E_INVALID;
        tensor->n = desc->n[i];
        tensor->desc = mo_optim_desc_defaults(&desc->tensors[i]);
        mo_status status = moi_optim_layout_check(&tensor->desc, tensor->n);
        if (status != MO_OK) return status;
        if (!moi_optim_lay_out(&tensor->desc, tensor->n, &layout) ||
            !moi_add(*bytes, layout.size, bytes) || !moi_add(*bytes, MOI_CACHE_LINE, bytes))
            return MO_E_OVERFLOW;
        tensor->desc.precision = layout.precision;
        tensor->desc.min_8bit_size = 1;
    }
    return MO_OK;
}

static mo_status moi_cl_page_optim_slices(
    mo_cl_page_optim *optim, const mo_cl_page_optim_desc *desc, moi_cl_page_cut *cut) {
    size_t bytes = 0;
    mo_status status = moi_cl_page_tensors(optim, desc, &bytes);
    if (status != MO_OK) return status;
    memset(cut, 0, sizeof *cut);
    cut->page_bytes = desc->page_bytes ? desc->page_bytes : MOI_CL_PAGE_OPTIM_BYTES;
    if (bytes < cut->page_bytes) cut->page_bytes = bytes;
    if (!moi_align_up(cut->page_bytes, MOI_CL_PAGE_OPTIM_ALIGN, &cut->page_bytes))
        return MO_E_OVERFLOW;
    status = moi_cl_page_cut_all(optim, cut);
    if (status != MO_OK) return status;
    optim->slices = (moi_cl_page_slice *)moi_cl_new(
        &optim->heap->cl->allocator, cut->n_slices, sizeof *optim->slices);
    if (!optim->slices) return MO_E_NO_MEMORY;
    optim->n_slices = cut->n_slices;
    cut->slices = optim->slices;
    return moi_cl_page_cut_all(optim, cut);
}

/* A slice in host memory. */
static mo_status moi_cl_page_optim_at(const mo_cl_page_optim *optim,
    const moi_cl_page_tensor *tensor, const moi_cl_page_slice *slice, int is_new,
    mo_optim_state *state) {
    char *memory = (char *)mo_cl_page_host(&optim->pages, slice->page) + slice->off;
    return is_new ? mo_optim_state_init(&tensor->desc, slice->n, memory, slice->size, state)
                  : mo_optim_state_attach(&tensor->desc, slice->n, memory, slice->size, state);
}

static mo_status moi_cl_page_optim_begin(
    mo_cl_page_optim *optim, const mo_cl_page_optim_desc *desc) {
    moi_cl_page_cut cut;
    mo_cl_page_desc pages;
    mo_optim_state state;
    mo_status status = moi_cl_page_optim_slices(optim, desc, &cut);
    if (status != MO_OK) return status;
    memset(&pages, 0, sizeof pages);
    pages.size = (uint64_t)cut.page * cut.page_bytes + cut.used;
    pages.page_bytes = cut.page_bytes;
    pages.n_slots = desc->n_slots;
    pages.category = MO_CATEGORY_OPTIMIZER;
    pages.name = desc->name ? desc->name : "states";
    status = mo_cl_page_init(&optim->pages, optim->heap, &pages);
    for (size_t i = 0; i < optim->n_tensors && status == MO_OK; i++) {
        const moi_cl_page_tensor *tensor = &optim->tensors[i];
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
    made.tensors = (moi_cl_page_tensor *)moi_cl_new(
        &heap->cl->allocator, desc->n_tensors, sizeof *made.tensors);
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

/* Neighbours that share a page are one entry of the walk. */
mo_status mo_cl_page_optim_walk(mo_cl_page_optim *optim, const size_t *order, size_t n) {
    size_t n_steps = 0, n_pages = 0;
    if (!optim || !optim->heap || !order || n == 0) return MO_E_INVALID;
    for (size_t k = 0; k < n; k++) {
        if (order[k] >= optim->n_tensors) return MO_E_INVALID;
        n_steps += optim->tensors[order[k]].n_slices;
    }
    size_t *pages = (size_t *)moi_cl_new(&optim->heap->cl->allocator, n_steps, sizeof *pages);
    if (!pages) return MO_E_NO_MEMORY;
    for (size_t k = 0; k < n; k++) {
        const moi_cl_page_tensor *tensor = &optim->tensors[order[k]];
        for (size_t s = 0; s < tensor->n_slices; s++) {
            const size_t page = optim->slices[tensor->first + s].page;
            if (n_pages == 0 || pages[n_pages - 1] != page) pages[n_pages++] = page;
        }
    }
    mo_status status = mo_cl_page_walk(&optim->pages, pages, n_pages);
    moi_cl_delete(&optim->heap->cl->allocator, pages, n_steps, sizeof *pages);
    optim->is_walking = status == MO_OK;
    return status;
}

static mo_status moi_cl_page_optim_slice(mo_cl_page_optim *optim, const moi_cl_page_slice *slice,
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
    const moi_cl_page_tensor *tensor = &optim->tensors[i];
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

/* Between two states of the same shape. */
static mo_status moi_cl_page_optim_copy(
    const moi_cl_page_tensor *tensor, const mo_optim_state *from, const mo_optim_state *to) {
    moi_optim_layout layout;
    if (!moi_optim_lay_out(&tensor->desc, from->n, &layout)) return MO_E_OVERFLOW;
    for (int i = 0; i < moi_optim_n_arrays; i++) {
        size_t bytes = 0;
        const void *src = moi_cl_optim_host_array(from, i);
        void *dst = moi_cl_optim_host_array(to, i);
        if (!src != !dst) return MO_E_INVALID;
        if (src && moi_optim_array_bytes(&layout, i, &bytes)) memcpy(dst, src, bytes);
    }
    return MO_OK;
}

static mo_status moi_cl_page_optim_exchange(
    mo_cl_page_optim *optim, size_t i, const mo_optim_state *state, int is_read) {
    if (!optim || !optim->heap || i >= optim->n_tensors || !state) return MO_E_INVALID;
    const moi_cl_page_tensor *tensor = &optim->tensors[i];
    if (state->n != tensor->n || state->precision != tensor->desc.precision ||
        (moi_optim_is_blockwise(state->precision) && state->block != tensor->desc.block))
        return MO_E_INVALID;
    mo_status status = mo_cl_page_sync(&optim->pages);
    for (size_t k = 0; k < tensor->n_slices && status == MO_OK; k++) {
        const moi_cl_page_slice *slice = &optim->slices[tensor->first + k];
        mo_optim_state whole, paged;
        status = mo_optim_state_slice(state, slice->begin, slice->n, &whole);
        if (status == MO_OK) status = moi_cl_page_optim_at(optim, tensor, slice, 0, &paged);
        if (status != MO_OK) return status;
        status = is_read ? moi_cl_page_optim_copy(tensor, &paged, &whole)
                         : moi_cl_page_optim_copy(tensor, &whole, &paged);
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
