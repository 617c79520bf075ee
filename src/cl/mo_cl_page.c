/* mo_cl_page.c - see mo_cl_page.h.
 *
 * Three rules order everything. A transfer into or out of a slot waits for the mark that the last
 * release of the slot left in the compute queue. The transfer queue keeps the order of its
 * commands, so a page that is written back is there before it is read again, and a slot is empty
 * before it is filled. The compute queue waits for the last transfer of a slot when its page is
 * acquired. A queue is flushed before the other one waits for its events. */

#define MOI_CL_PAGE_NONE SIZE_MAX
enum { MOI_CL_PAGE_CHUNK = 64 << 20 };

/* page = NONE: empty.
 * next_use  see mo_page_route.h
 * moved     the last transfer, when the compute queue has not waited for it yet
 * released  the mark of the last release, when no transfer has waited for it yet */
typedef struct moi_cl_page_slot {
    mo_cl_mem mem;
    size_t page, n_users;
    int is_dirty, is_ahead;
    uint64_t next_use;
    cl_event moved, released;
} moi_cl_page_slot;

/* ---- start and end ------------------------------------------------------------------------- */

static void moi_cl_page_forget(cl_event *event) {
    if (*event) clReleaseEvent(*event);
    *event = NULL;
}

static size_t moi_cl_page_size(const mo_cl_page *page, size_t i) {
    const uint64_t left = page->desc.size - (uint64_t)i * page->desc.page_bytes;
    return left < page->desc.page_bytes ? (size_t)left : page->desc.page_bytes;
}

static mo_status moi_cl_page_host_init(mo_cl_page *page) {
    const mo_allocator *allocator = &page->heap->cl->allocator;
    const size_t bytes = page->desc.page_bytes;
    if (page->desc.host) return MO_OK;
    page->pages_per_chunk = bytes < MOI_CL_PAGE_CHUNK ? MOI_CL_PAGE_CHUNK / bytes : 1;
    page->n_chunks = moi_ceil_div(page->n_pages, page->pages_per_chunk);
    page->chunks = (mo_cl_staging *)moi_cl_new(allocator, page->n_chunks, sizeof *page->chunks);
    if (!page->chunks) return MO_E_NO_MEMORY;
    memset(page->chunks, 0, page->n_chunks * sizeof *page->chunks);
    for (size_t i = 0; i < page->n_chunks; i++) {
        const uint64_t begin = (uint64_t)i * page->pages_per_chunk * bytes;
        const uint64_t left = page->desc.size - begin, most = page->pages_per_chunk * bytes;
        mo_status status =
            mo_cl_staging_alloc(page->heap, (size_t)(left < most ? left : most), &page->chunks[i]);
        if (status != MO_OK) return status;
    }
    return MO_OK;
}

static mo_status moi_cl_page_slots_init(mo_cl_page *page) {
    const size_t n = page->desc.n_slots;
    page->slots =
        (moi_cl_page_slot *)moi_cl_new(&page->heap->cl->allocator, n, sizeof *page->slots);
    if (!page->slots) return MO_E_NO_MEMORY;
    memset(page->slots, 0, n * sizeof *page->slots);
    for (size_t i = 0; i < n; i++) {
        page->slots[i].page = MOI_CL_PAGE_NONE;
        if (page->desc.slots) {
            page->slots[i].mem = page->desc.slots[i];
            page->slots[i].mem.handle = 0; /* not the heap's to move or to take back */
            if (page->slots[i].mem.size < moi_cl_page_size(page, 0)) return MO_E_NO_SPACE;
            continue;
        }
        mo_status status = mo_cl_heap_alloc(page->heap, moi_cl_page_size(page, 0),
            page->desc.category, page->desc.name, &page->slots[i].mem);
        if (status != MO_OK) return status;
    }
    return MO_OK;
}

mo_status mo_cl_page_init(mo_cl_page *page, mo_cl_heap *heap, const mo_cl_page_desc *desc) {
    mo_cl_page made;
    if (!page || !heap || !heap->cl || !desc) return MO_E_INVALID;
    memset(&made, 0, sizeof made);
    made.heap = heap;
    made.desc = *desc;
    if (made.desc.n_slots == 0) made.desc.n_slots = 2;
    if (made.desc.n_ahead == 0) made.desc.n_ahead = 1;
    if (desc->size == 0 || desc->page_bytes == 0 || made.desc.n_ahead >= made.desc.n_slots)
        return MO_E_INVALID;
    const uint64_t n = desc->size / desc->page_bytes + (desc->size % desc->page_bytes != 0);
    if (n > SIZE_MAX / 2) return MO_E_OVERFLOW;
    made.n_pages = (size_t)n;
    mo_status status = moi_cl_page_slots_init(&made);
    if (status == MO_OK) status = moi_cl_page_host_init(&made);
    made.desc.slots = NULL; /* the caller's */
    if (status == MO_OK) *page = made;
    else mo_cl_page_free(&made);
    return status;
}

/* Until the transfer queue is idle: its last command may be behind those of the slots. */
static mo_status moi_cl_page_wait(mo_cl_page *page) {
    mo_status status = mo_cl_flush(page->heap->cl, MO_CL_COMPUTE);
    return status == MO_OK ? mo_cl_sync(page->heap->cl, MO_CL_TRANSFER) : status;
}

void mo_cl_page_free(mo_cl_page *page) {
    if (!page || !page->heap) return;
    const mo_allocator *allocator = &page->heap->cl->allocator;
    mo_status status = moi_cl_page_wait(page);
    (void)status; /* said in the log; the memory goes in any case */
    for (size_t i = 0; page->slots && i < page->desc.n_slots; i++) {
        moi_cl_page_forget(&page->slots[i].moved);
        moi_cl_page_forget(&page->slots[i].released);
        if (page->slots[i].mem.handle)
            (void)mo_cl_heap_dealloc(page->heap, page->slots[i].mem.handle);
    }
    for (size_t i = 0; page->chunks && i < page->n_chunks; i++)
        mo_cl_staging_free(&page->chunks[i]);
    moi_cl_delete(allocator, page->slots, page->desc.n_slots, sizeof *page->slots);
    moi_cl_delete(allocator, page->chunks, page->n_chunks, sizeof *page->chunks);
    moi_page_route_free(&page->route, allocator);
    memset(page, 0, sizeof *page);
}

size_t mo_cl_page_count(const mo_cl_page *page) { return page ? page->n_pages : 0; }

void *mo_cl_page_host(const mo_cl_page *page, size_t i) {
    if (!page || i >= page->n_pages) return NULL;
    if (page->desc.host) return (char *)page->desc.host + i * page->desc.page_bytes;
    return (char *)page->chunks[i / page->pages_per_chunk].data +
        i % page->pages_per_chunk * page->desc.page_bytes;
}

/* ---- transfers ----------------------------------------------------------------------------- */

/* Where the slot is now. */
static mo_status moi_cl_page_locate(const mo_cl_page *page, moi_cl_page_slot *slot) {
    if (!slot->mem.handle) return MO_OK;
    return mo_cl_heap_get(page->heap, slot->mem.handle, &slot->mem);
}

/* Starts a page's transfer behind the kernels that used the slot, which may have moved. */
static mo_status moi_cl_page_move(mo_cl_page *page, moi_cl_page_slot *slot, size_t i, int out) {
    const mo_cl_wait_list after = {&slot->released, slot->released != NULL};
    const size_t size = moi_cl_page_size(page, i);
    void *host = mo_cl_page_host(page, i);
    cl_event moved = NULL;
    mo_status status = moi_cl_page_locate(page, slot);
    if (status != MO_OK) return status;
    status = out
        ? mo_cl_download(page->heap, MO_CL_TRANSFER, host, &slot->mem, 0, size, &after, &moved)
        : mo_cl_upload(page->heap, MO_CL_TRANSFER, &slot->mem, 0, host, size, &after, &moved);
    if (status != MO_OK) return status;
    moi_cl_page_forget(&slot->released);
    moi_cl_page_forget(&slot->moved);
    slot->moved = moved;
    *(out ? &page->stats.out_bytes : &page->stats.in_bytes) += size;
    *(out ? &page->stats.n_out : &page->stats.n_in) += 1;
    return MO_OK;
}

/* The slot's page leaves it. */
static mo_status moi_cl_page_empty(mo_cl_page *page, moi_cl_page_slot *slot) {
    if (slot->is_dirty) {
        mo_status status = moi_cl_page_move(page, slot, slot->page, 1);
        if (status != MO_OK) return status;
    }
    slot->page = MOI_CL_PAGE_NONE;
    slot->is_dirty = slot->is_ahead = 0;
    return MO_OK;
}

static mo_status moi_cl_page_fill(
    mo_cl_page *page, moi_cl_page_slot *slot, size_t i, int is_uploaded) {
    mo_status status = moi_cl_page_empty(page, slot);
    if (status != MO_OK) return status;
    if (is_uploaded) status = moi_cl_page_move(page, slot, i, 0);
    if (status == MO_OK) slot->page = i;
    mo_status flushed = mo_cl_flush(page->heap->cl, MO_CL_TRANSFER);
    return status != MO_OK ? status : flushed;
}

/* ---- slots --------------------------------------------------------------------------------- */

static moi_cl_page_slot *moi_cl_page_find(const mo_cl_page *page, size_t i) {
    for (size_t s = 0; s < page->desc.n_slots; s++)
        if (page->slots[s].page == i) return &page->slots[s];
    return NULL;
}

/* The slot whose page is needed last, an empty one before all others; NULL: all are acquired. */
static moi_cl_page_slot *moi_cl_page_victim(const mo_cl_page *page) {
    moi_cl_page_slot *best = NULL;
    for (size_t s = 0; s < page->desc.n_slots; s++) {
        moi_cl_page_slot *slot = &page->slots[s];
        if (slot->page == MOI_CL_PAGE_NONE) return slot;
        if (slot->n_users > 0) continue;
        if (!best || slot->next_use > best->next_use) best = slot;
    }
    return best;
}

/* ---- walks --------------------------------------------------------------------------------- */

/* Brings the pages of the next steps, unless a page that is needed sooner would have to go. */
static mo_status moi_cl_page_ahead(mo_cl_page *page) {
    if (page->route.n == 0) return MO_OK;
    for (size_t k = 0; k < page->desc.n_ahead; k++) {
        const uint64_t step = page->route.step + k;
        const size_t i = moi_page_route_page(&page->route, step);
        if (moi_cl_page_find(page, i)) continue;
        moi_cl_page_slot *slot = moi_cl_page_victim(page);
        if (!slot || (slot->page != MOI_CL_PAGE_NONE && slot->next_use <= step)) return MO_OK;
        mo_status status = moi_cl_page_fill(page, slot, i, 1);
        if (status != MO_OK) return status;
        slot->next_use = step;
        slot->is_ahead = 1;
    }
    return MO_OK;
}

/* The walk goes on behind the slot's page. Steps that were left out are used no more. */
static void moi_cl_page_use(mo_cl_page *page, moi_cl_page_slot *slot) {
    int skips = 0;
    slot->next_use = moi_page_route_next(&page->route, slot->page);
    if (slot->next_use < moi_page_never)
        slot->next_use = moi_page_route_advance(&page->route, slot->next_use, &skips);
    for (size_t s = 0; skips && s < page->desc.n_slots; s++) {
        moi_cl_page_slot *other = &page->slots[s];
        if (other->page != MOI_CL_PAGE_NONE)
            other->next_use = moi_page_route_catch_up(&page->route, other->next_use);
    }
}

mo_status mo_cl_page_walk(mo_cl_page *page, const size_t *order, size_t n) {
    if (!page || !page->heap) return MO_E_INVALID;
    mo_status status =
        moi_page_route_set(&page->route, &page->heap->cl->allocator, order, n, page->n_pages);
    if (status != MO_OK) return status;
    for (size_t s = 0; s < page->desc.n_slots; s++)
        if (page->slots[s].page != MOI_CL_PAGE_NONE)
            page->slots[s].next_use = moi_page_route_next(&page->route, page->slots[s].page);
    return moi_cl_page_ahead(page);
}

/* ---- use ----------------------------------------------------------------------------------- */

mo_status mo_cl_page_acquire(mo_cl_page *page, size_t i, mo_cl_access access, mo_cl_mem *mem) {
    mo_status status = MO_OK;
    if (!page || i >= page->n_pages || (unsigned)access >= MO_CL_ACCESS_COUNT || !mem)
        return MO_E_INVALID;
    moi_cl_page_slot *slot = moi_cl_page_find(page, i);
    const int was_there = slot != NULL;
    if (!slot) {
        slot = moi_cl_page_victim(page);
        if (!slot) return MO_E_NO_SPACE;
        status = moi_cl_page_fill(page, slot, i, access != MO_CL_OVERWRITE);
        if (status != MO_OK) return status;
    }
    status = moi_cl_page_locate(page, slot);
    if (status != MO_OK) return status;
    if (slot->moved) {
        const mo_cl_wait_list after = {&slot->moved, 1};
        status = mo_cl_barrier(page->heap->cl, MO_CL_COMPUTE, &after);
        if (status != MO_OK) return status;
        moi_cl_page_forget(&slot->moved);
    }
    moi_cl_page_use(page, slot);
    slot->n_users++;
    status = moi_cl_page_ahead(page);
    if (status != MO_OK) {
        slot->n_users--;
        return status;
    }
    page->stats.n_acquired++;
    page->stats.n_there += was_there && !slot->is_ahead;
    page->stats.n_ahead += (uint64_t)slot->is_ahead;
    slot->is_ahead = 0;
    slot->is_dirty |= access != MO_CL_READ;
    *mem = mo_cl_part(&slot->mem, 0, moi_cl_page_size(page, i));
    mem->handle = 0;
    return MO_OK;
}

mo_status mo_cl_page_release(mo_cl_page *page, size_t i) {
    moi_cl_page_slot *slot = page && i < page->n_pages ? moi_cl_page_find(page, i) : NULL;
    cl_event released = NULL;
    if (!slot || slot->n_users == 0) return MO_E_INVALID;
    mo_status status = mo_cl_mark(page->heap->cl, MO_CL_COMPUTE, &released);
    if (status != MO_OK) return status;
    moi_cl_page_forget(&slot->released);
    slot->released = released;
    slot->n_users--;
    return mo_cl_flush(page->heap->cl, MO_CL_COMPUTE);
}

mo_status mo_cl_page_sync(mo_cl_page *page) {
    if (!page || !page->heap) return MO_E_INVALID;
    for (size_t s = 0; s < page->desc.n_slots; s++)
        if (page->slots[s].n_users > 0) return MO_E_STATE;
    for (size_t s = 0; s < page->desc.n_slots; s++) {
        mo_status status = moi_cl_page_empty(page, &page->slots[s]);
        if (status != MO_OK) return status;
    }
    mo_status status = moi_cl_page_wait(page);
    for (size_t s = 0; s < page->desc.n_slots; s++) moi_cl_page_forget(&page->slots[s].moved);
    return status;
}

#undef MOI_CL_PAGE_NONE
