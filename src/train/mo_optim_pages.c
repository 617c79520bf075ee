/* mo_optim_pages.c - see mo_optim_pages.h. */

enum { MOI_OPTIM_PAGE_STEP = 4096 };

/* The most numbers, of n, whose states take room bytes; 0 = none. */
static size_t moi_optim_fit(const mo_optim_desc *d, size_t n, size_t room) {
    if (mo_optim_state_size(d, n) <= room) return n;
    if (moi_optim_traits(d->kind, 0) & MOI_WHOLE) return 0;
    size_t low = 0, high = moi_ceil_div(n, MOI_OPTIM_PAGE_STEP);
    while (high - low > 1) { /* low steps fit, high do not */
        const size_t middle = low + (high - low) / 2;
        if (mo_optim_state_size(d, middle * MOI_OPTIM_PAGE_STEP) <= room) low = middle;
        else high = middle;
    }
    return low * MOI_OPTIM_PAGE_STEP;
}

static int moi_optim_cut_tensor(moi_optim_cut *cut, moi_optim_tensor *tensor) {
    tensor->first = cut->n_slices;
    for (size_t begin = 0; begin < tensor->n;) {
        const size_t left = tensor->n - begin;
        size_t n = moi_optim_fit(&tensor->desc, left, cut->page_bytes - cut->used);
        if (n == 0 && cut->used == 0) return 0;
        if (n == 0) {
            cut->page++;
            cut->used = 0;
            continue;
        }
        const size_t size = mo_optim_state_size(&tensor->desc, n);
        if (cut->slices) {
            moi_optim_slice *slice = &cut->slices[cut->n_slices];
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

static mo_status moi_optim_tensor_init(
    const mo_optim_desc *desc, size_t n, moi_optim_tensor *tensor, size_t *bytes) {
    moi_optim_layout layout;
    if (n == 0) return MO_E_INVALID;
    tensor->n = n;
    tensor->desc = mo_optim_desc_defaults(desc);
    mo_status status = moi_optim_layout_check(&tensor->desc, n);
    if (status != MO_OK) return status;
    if (!moi_optim_lay_out(&tensor->desc, n, &layout) || !moi_add(*bytes, layout.size, bytes) ||
        !moi_add(*bytes, MOI_CACHE_LINE, bytes))
        return MO_E_OVERFLOW;
    tensor->desc.precision = layout.precision;
    tensor->desc.min_8bit_size = 1;
    return MO_OK;
}

static mo_status moi_optim_cut_begin(size_t page_bytes, size_t bytes, moi_optim_cut *cut) {
    memset(cut, 0, sizeof *cut);
    return moi_align_up(moi_min(page_bytes, bytes), MOI_OPTIM_PAGE_ALIGN, &cut->page_bytes)
        ? MO_OK
        : MO_E_OVERFLOW;
}

static size_t moi_optim_least(const moi_optim_tensor *tensor) {
    const int is_whole = (moi_optim_traits(tensor->desc.kind, 0) & MOI_WHOLE) != 0;
    const size_t n = is_whole ? tensor->n : moi_min(tensor->n, MOI_OPTIM_PAGE_STEP);
    return mo_optim_state_size(&tensor->desc, n);
}

static mo_status moi_optim_walk_size(const moi_optim_tensor *tensors, size_t n_tensors,
    const size_t *order, size_t n, size_t *n_steps) {
    if (!order || n == 0) return MO_E_INVALID;
    *n_steps = 0;
    for (size_t k = 0; k < n; k++) {
        if (order[k] >= n_tensors) return MO_E_INVALID;
        *n_steps += tensors[order[k]].n_slices;
    }
    return MO_OK;
}

static size_t moi_optim_walk_pages(const moi_optim_tensor *tensors, const moi_optim_slice *slices,
    const size_t *order, size_t n, size_t *pages) {
    size_t n_pages = 0;
    for (size_t k = 0; k < n; k++) {
        const moi_optim_tensor *tensor = &tensors[order[k]];
        for (size_t s = 0; s < tensor->n_slices; s++) {
            const size_t page = slices[tensor->first + s].page;
            if (n_pages == 0 || pages[n_pages - 1] != page) pages[n_pages++] = page;
        }
    }
    return n_pages;
}

static int moi_optim_tensor_has(const moi_optim_tensor *tensor, const mo_optim_state *state) {
    return state->n == tensor->n && state->precision == tensor->desc.precision &&
        (!moi_optim_is_blockwise(state->precision) || state->block == tensor->desc.block);
}

static void *moi_optim_state_array(const mo_optim_state *s, int array) {
    switch (array) {
    case moi_optim_m: return s->m;
    case moi_optim_m_absmax: return s->m_absmax;
    case moi_optim_slow: return s->slow;
    case moi_optim_slow_absmax: return s->slow_absmax;
    case moi_optim_v: return s->v;
    case moi_optim_v_absmax: return s->v_absmax;
    case moi_optim_row: return s->row;
    case moi_optim_column: return s->column;
    case moi_optim_extra: return s->extra;
    default: return s->master;
    }
}

static mo_status moi_optim_slice_copy(
    const moi_optim_tensor *tensor, const mo_optim_state *from, const mo_optim_state *to) {
    moi_optim_layout layout;
    if (!moi_optim_lay_out(&tensor->desc, from->n, &layout)) return MO_E_OVERFLOW;
    for (int i = 0; i < moi_optim_n_arrays; i++) {
        size_t bytes = 0;
        const void *src = moi_optim_state_array(from, i);
        void *dst = moi_optim_state_array(to, i);
        if (!src != !dst) return MO_E_INVALID;
        if (src && moi_optim_array_bytes(&layout, i, &bytes)) memcpy(dst, src, bytes);
    }
    return MO_OK;
}
