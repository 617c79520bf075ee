/* mo_page.c - see mo_page.h.
 *
 * A slot is memory for a page. At most one job is under way for a slot, which writes the page that
 * leaves, reads the one that comes, or both; until the caller's thread has collected its result the
 * slot belongs to the job. A page that cannot be written comes back to its slot then. A page is not
 * read while a job writes it: what it holds is known only after that. */

#define MOI_PAGE_NONE SIZE_MAX
enum { MOI_PAGE_BYTES = 2 << 20 };

/* size 0 = nothing to do */
typedef struct moi_page_move {
    size_t page, size;
    uint64_t offset;
    int error; /* of a file */
} moi_page_move;

/* page = NONE: empty; while a job is under way, what the slot holds when all goes well.
 * next_use  see mo_page_route.h */
typedef struct moi_page_slot {
    mo_queue_job job;
    char *memory, *host;
    intptr_t file;
    moi_page_move out, in;
    int is_busy; /* a job was submitted, and not collected */
    int is_dirty, is_ahead;
    size_t page, n_users;
    uint64_t next_use;
} moi_page_slot;

/* ---- sizes ---------------------------------------------------------------------------------- */

size_t mo_page_count(const mo_page *page) { return page ? page->n_pages : 0; }

size_t mo_page_size(const mo_page *page, size_t i) {
    if (!page || i >= page->n_pages) return 0;
    const uint64_t left = page->desc.size - (uint64_t)i * page->desc.page_bytes;
    return left < page->desc.page_bytes ? (size_t)left : page->desc.page_bytes;
}

/* What follows from the sizes of a desc, whose zeros are replaced. */
static mo_status moi_page_sizes(mo_page *page, const mo_page_desc *desc) {
    mo_page_desc *d = &page->desc;
    *d = *desc;
    if (d->size == 0) return MO_E_INVALID;
    if (d->page_bytes == 0) d->page_bytes = MOI_PAGE_BYTES;
    const uint64_t n = d->size / d->page_bytes + (d->size % d->page_bytes != 0);
    if (n > SIZE_MAX / 2 || d->size > UINT64_MAX / 2) return MO_E_OVERFLOW;
    page->n_pages = (size_t)n;
    if (!moi_align_up(d->page_bytes, MOI_CACHE_LINE, &page->stride)) return MO_E_OVERFLOW;
    size_t n_slots = d->resident_bytes ? d->resident_bytes / page->stride : 3;
    if (n_slots > page->n_pages) n_slots = page->n_pages;
    if (n_slots < moi_min(2, page->n_pages)) return MO_E_NO_SPACE;
    page->n_slots = n_slots;
    if (!moi_mul(n_slots, page->stride, &d->resident_bytes)) return MO_E_OVERFLOW;
    if (d->n_ahead == 0) d->n_ahead = moi_min(2, n_slots - 1);
    return d->n_ahead < n_slots || n_slots == page->n_pages ? MO_OK : MO_E_INVALID;
}

size_t mo_page_resident_bytes(const mo_page_desc *desc) {
    mo_page page;
    return desc && moi_page_sizes(&page, desc) == MO_OK ? page.desc.resident_bytes : 0;
}

/* ---- the file ------------------------------------------------------------------------------- */

static mo_status moi_page_file_failed(const mo_page *page, const char *what, int error) {
    char text[MOI_FILE_TEXT_SIZE];
    return moi_file_fail(&page->desc.log, page->name, moi_file_status(error),
        "cannot %s for %llu bytes of pages: %s", what, (unsigned long long)page->desc.size,
        moi_file_text(error, text));
}

static mo_status moi_page_set_name(mo_page *page, const char *name) {
    const size_t size = strlen(name) + 1;
    page->name = (char *)mo_alloc(&page->desc.allocator, size, 1);
    if (!page->name) return MO_E_NO_MEMORY;
    memcpy(page->name, name, size);
    return MO_OK;
}

static int moi_page_is_aligned(const mo_page *page) {
    const size_t align = MOI_FILE_DIRECT_ALIGN;
    return page->stride % align == 0 && page->desc.page_bytes % align == 0 &&
        (uintptr_t)page->memory % align == 0;
}

/* In direct I/O a temporary file ends with a whole block; one that is kept has its size, and then
 * that must be whole blocks. */
static uint64_t moi_page_file_size(const mo_page *page) {
    const uint64_t rest = page->desc.size % MOI_FILE_DIRECT_ALIGN;
    return page->desc.path || rest == 0 ? page->desc.size
                                        : page->desc.size + (MOI_FILE_DIRECT_ALIGN - rest);
}

/* Whether a file system takes direct I/O shows in the first read at the latest. */
static void moi_page_try_direct(mo_page *page) {
    const uint64_t size = moi_page_file_size(page);
    if (page->desc.buffered || !moi_page_is_aligned(page) || size % MOI_FILE_DIRECT_ALIGN != 0)
        return;
    if (moi_file_direct(page->file, 1) != 0) return;
    if (moi_file_read(page->file, 0, page->memory, MOI_FILE_DIRECT_ALIGN) == 0)
        page->stats.is_direct = 1;
    else (void)moi_file_direct(page->file, 0);
}

static mo_status moi_page_open_named(mo_page *page, uint64_t *size) {
    mo_status status = moi_page_set_name(page, page->desc.path);
    if (status != MO_OK) return status;
    page->is_kept = 1;
    const int error = moi_file_open_update(page->desc.path, &page->file, size);
    if (error) return moi_page_file_failed(page, "open the file", error);
    if (*size == 0 || *size == page->desc.size) return MO_OK;
    return moi_file_fail(&page->desc.log, page->name, MO_E_FORMAT,
        "the file has %llu bytes, the pages have %llu", (unsigned long long)*size,
        (unsigned long long)page->desc.size);
}

static mo_status moi_page_open_unnamed(mo_page *page) {
    char folder[MOI_FILE_PATH_SIZE];
    int error = page->desc.folder ? 0 : moi_file_temp_folder(folder);
    mo_status status = moi_page_set_name(page,
        page->desc.folder ? page->desc.folder
            : error       ? ""
                          : folder);
    if (status != MO_OK) return status;
    if (!error) error = moi_file_create_unnamed(page->name, &page->file);
    return error ? moi_page_file_failed(page, "make a file", error) : MO_OK;
}

static mo_status moi_page_open(mo_page *page) {
    uint64_t size = 0;
    mo_status status =
        page->desc.path ? moi_page_open_named(page, &size) : moi_page_open_unnamed(page);
    if (status != MO_OK) return status;
    const uint64_t wanted = moi_page_file_size(page);
    int error = 0;
    if (page->desc.reserve) error = moi_file_reserve(page->file, wanted);
    else if (size != wanted) error = moi_file_resize(page->file, wanted);
    if (error && page->is_kept && size == 0) (void)moi_file_resize(page->file, 0);
    if (error) return moi_page_file_failed(page, "make room", error);
    moi_page_try_direct(page);
    return MO_OK;
}

/* ---- jobs ----------------------------------------------------------------------------------- */

/* On a thread of the queue. */
static mo_status moi_page_run(void *self) {
    moi_page_slot *slot = (moi_page_slot *)self;
    moi_page_move *out = &slot->out, *in = &slot->in;
    if (out->size > 0) {
        if (slot->host) memcpy(slot->host + out->offset, slot->memory, out->size);
        else out->error = moi_file_write_at(slot->file, out->offset, slot->memory, out->size);
    }
    if (in->size > 0 && !out->error) {
        if (slot->host) memcpy(slot->memory, slot->host + in->offset, in->size);
        else in->error = moi_file_read(slot->file, in->offset, slot->memory, in->size);
    }
    return MO_OK;
}

static moi_page_move moi_page_move_of(const mo_page *page, size_t i) {
    moi_page_move move;
    memset(&move, 0, sizeof move);
    move.page = i;
    move.offset = (uint64_t)i * page->desc.page_bytes;
    move.size = mo_page_size(page, i);
    if (page->stats.is_direct)
        move.size = moi_ceil_div(move.size, MOI_FILE_DIRECT_ALIGN) * MOI_FILE_DIRECT_ALIGN;
    return move;
}

/* Without threads the work is done here, and waited for. */
static void moi_page_submit(mo_page *page, moi_page_slot *slot) {
    const int waits = mo_queue_threads(&page->queue) == 0;
    const double begin_s = waits ? moi_os_now_s() : 0;
    slot->is_busy = 1;
    mo_queue_submit(&page->queue, &slot->job);
    if (!waits) return;
    page->stats.n_stalls++;
    page->stats.stall_s += moi_os_now_s() - begin_s;
}

static mo_status moi_page_say(const mo_page *page, const moi_page_move *move, const char *what) {
    char text[MOI_FILE_TEXT_SIZE];
    return moi_file_fail(&page->desc.log, page->name, moi_file_status(move->error),
        "cannot %s page %zu, %zu bytes at %llu: %s", what, move->page, move->size,
        (unsigned long long)move->offset, moi_file_text(move->error, text));
}

/* What became of a slot's job, after waiting for it. A page that was only read ahead and could not
 * be is read again when it is asked for. */
static mo_status moi_page_collect(mo_page *page, moi_page_slot *slot) {
    const moi_page_move *out = &slot->out, *in = &slot->in;
    if (!slot->is_busy) return MO_OK;
    if (!mo_queue_is_done(&page->queue, &slot->job)) {
        const double begin_s = moi_os_now_s();
        mo_status status = mo_queue_wait(&page->queue, &slot->job);
        (void)status; /* it is in the moves */
        page->stats.n_stalls++;
        page->stats.stall_s += moi_os_now_s() - begin_s;
    }
    slot->is_busy = 0;
    if (out->size > 0 && out->error) {
        slot->page = out->page;
        slot->is_dirty = 1;
        slot->is_ahead = 0;
        slot->next_use = moi_page_route_next(&page->route, out->page);
        return moi_page_say(page, out, "write");
    }
    page->stats.n_out += out->size > 0;
    page->stats.out_bytes += out->size;
    if (in->size > 0 && in->error) {
        slot->page = MOI_PAGE_NONE;
        slot->is_ahead = 0;
        return MO_OK;
    }
    page->stats.n_in += in->size > 0;
    page->stats.in_bytes += in->size;
    return MO_OK;
}

/* The slot's page leaves, page i comes: read, when is_read, else nothing but room. An idle slot. */
static void moi_page_exchange(mo_page *page, moi_page_slot *slot, size_t i, int is_read) {
    memset(&slot->out, 0, sizeof slot->out);
    memset(&slot->in, 0, sizeof slot->in);
    if (slot->is_dirty) slot->out = moi_page_move_of(page, slot->page);
    if (i != slot->page && is_read) slot->in = moi_page_move_of(page, i);
    slot->page = i;
    slot->is_dirty = slot->is_ahead = 0;
    if (slot->out.size > 0 || slot->in.size > 0) moi_page_submit(page, slot);
}

/* Errors of writes that have ended; the first one counts. */
static mo_status moi_page_collect_done(mo_page *page) {
    mo_status first = MO_OK;
    for (size_t s = 0; s < page->n_slots; s++) {
        moi_page_slot *slot = &page->slots[s];
        if (!slot->is_busy || !mo_queue_is_done(&page->queue, &slot->job)) continue;
        mo_status status = moi_page_collect(page, slot);
        if (first == MO_OK) first = status;
    }
    return first;
}

/* ---- start and end -------------------------------------------------------------------------- */

static mo_status moi_page_slots_init(mo_page *page) {
    const mo_allocator *allocator = &page->desc.allocator;
    page->memory = (char *)page->desc.memory;
    if (!page->memory)
        page->memory =
            (char *)mo_alloc(allocator, page->desc.resident_bytes, MOI_FILE_DIRECT_ALIGN);
    page->slots = (moi_page_slot *)moi_alloc_array(allocator, page->n_slots, sizeof *page->slots);
    return page->memory && page->slots ? MO_OK : MO_E_NO_MEMORY;
}

static void moi_page_slots_fill(mo_page *page) {
    memset(page->slots, 0, page->n_slots * sizeof *page->slots);
    for (size_t i = 0; i < page->n_slots; i++) {
        moi_page_slot *slot = &page->slots[i];
        slot->job.run = moi_page_run;
        slot->job.self = slot;
        slot->memory = page->memory + i * page->stride;
        slot->host = (char *)page->desc.host;
        slot->file = page->file;
        slot->page = MOI_PAGE_NONE;
    }
}

static mo_status moi_page_begin(mo_page *page) {
    mo_queue_desc queue;
    memset(&queue, 0, sizeof queue);
    queue.allocator = page->desc.allocator;
    queue.n_threads = page->desc.n_threads;
    mo_status status = moi_page_slots_init(page);
    if (status == MO_OK && !page->desc.host) status = moi_page_open(page);
    if (status != MO_OK) return status;
    moi_page_slots_fill(page);
    return mo_queue_init(&page->queue, &queue);
}

mo_status mo_page_init(mo_page *page, const mo_page_desc *desc) {
    mo_page made;
    if (!page || !desc || (uintptr_t)desc->memory % MOI_CACHE_LINE != 0) return MO_E_INVALID;
    memset(&made, 0, sizeof made);
    made.file = -1;
    mo_status status = moi_page_sizes(&made, desc);
    if (status == MO_E_NO_SPACE)
        moi_log(&desc->log, MO_LOG_ERROR,
            "pages: %zu bytes for resident pages are less than two of %zu", desc->resident_bytes,
            made.stride);
    if (status != MO_OK) return status;
    made.stats.resident_bytes = made.desc.resident_bytes;
    status = moi_page_begin(&made);
    made.desc.path = made.desc.folder = NULL; /* the caller's */
    if (status == MO_OK) *page = made;
    else mo_page_free(&made);
    return status;
}

void mo_page_free(mo_page *page) {
    if (!page || page->n_pages == 0) return;
    const mo_allocator allocator = page->desc.allocator;
    mo_queue_free(&page->queue);
    if (page->file != -1) (void)moi_file_close(page->file);
    moi_page_route_free(&page->route, &allocator);
    if (page->name) mo_free(&allocator, page->name, strlen(page->name) + 1, 1);
    moi_free_array(&allocator, page->slots, page->n_slots, sizeof *page->slots);
    if (!page->desc.memory)
        mo_free(&allocator, page->memory, page->desc.resident_bytes, MOI_FILE_DIRECT_ALIGN);
    memset(page, 0, sizeof *page);
}

/* ---- slots ---------------------------------------------------------------------------------- */

static moi_page_slot *moi_page_find(const mo_page *page, size_t i) {
    for (size_t s = 0; s < page->n_slots; s++)
        if (page->slots[s].page == i) return &page->slots[s];
    return NULL;
}

/* The slot whose job writes page i, which another page takes the place of. */
static moi_page_slot *moi_page_find_leaving(const mo_page *page, size_t i) {
    for (size_t s = 0; s < page->n_slots; s++) {
        moi_page_slot *slot = &page->slots[s];
        if (slot->is_busy && slot->out.size > 0 && slot->out.page == i && slot->page != i)
            return slot;
    }
    return NULL;
}

/* The slot whose page is needed last, an empty one before all others; NULL: all are acquired. */
static moi_page_slot *moi_page_victim(const mo_page *page) {
    moi_page_slot *best = NULL;
    for (size_t s = 0; s < page->n_slots; s++) {
        moi_page_slot *slot = &page->slots[s];
        if (slot->page == MOI_PAGE_NONE) return slot;
        if (slot->n_users > 0) continue;
        if (!best || slot->next_use > best->next_use) best = slot;
    }
    return best;
}

/* ---- walks ---------------------------------------------------------------------------------- */

/* Reads the pages of the next steps, unless a page that is needed sooner would have to go, or a job
 * is in the way: then it is for the next time. */
static void moi_page_read_ahead(mo_page *page) {
    for (size_t k = 0; k < page->desc.n_ahead; k++) {
        const uint64_t step = page->route.step + k;
        const size_t i = moi_page_route_page(&page->route, step);
        if (moi_page_find(page, i)) continue;
        moi_page_slot *slot = moi_page_victim(page);
        if (!slot || slot->is_busy || moi_page_find_leaving(page, i)) return;
        if (slot->page != MOI_PAGE_NONE && slot->next_use <= step) return;
        moi_page_exchange(page, slot, i, 1);
        slot->next_use = step;
        slot->is_ahead = 1;
    }
}

/* Without a walk: writes the page back that leaves next, so that it can leave at once then. */
static void moi_page_write_ahead(mo_page *page) {
    moi_page_slot *slot = moi_page_victim(page);
    if (slot && !slot->is_busy && slot->is_dirty) moi_page_exchange(page, slot, slot->page, 0);
}

static void moi_page_ahead(mo_page *page) {
    if (page->route.n > 0) moi_page_read_ahead(page);
    else moi_page_write_ahead(page);
}

/* The walk goes on behind the slot's page. Steps that were left out are used no more. */
static void moi_page_use(mo_page *page, moi_page_slot *slot) {
    int skips = 0;
    slot->next_use = moi_page_route_next(&page->route, slot->page);
    if (slot->next_use < moi_page_never)
        slot->next_use = moi_page_route_advance(&page->route, slot->next_use, &skips);
    for (size_t s = 0; skips && s < page->n_slots; s++) {
        moi_page_slot *other = &page->slots[s];
        if (other->page != MOI_PAGE_NONE)
            other->next_use = moi_page_route_catch_up(&page->route, other->next_use);
    }
}

mo_status mo_page_walk(mo_page *page, const size_t *order, size_t n) {
    if (!page || page->n_pages == 0) return MO_E_INVALID;
    mo_status status =
        moi_page_route_set(&page->route, &page->desc.allocator, order, n, page->n_pages);
    if (status != MO_OK) return status;
    for (size_t s = 0; s < page->n_slots; s++)
        if (page->slots[s].page != MOI_PAGE_NONE)
            page->slots[s].next_use = moi_page_route_next(&page->route, page->slots[s].page);
    if (n > 0) moi_page_read_ahead(page);
    return MO_OK;
}

/* ---- use ------------------------------------------------------------------------------------ */

/* Page i comes to a slot, and is waited for. */
static mo_status moi_page_fetch(mo_page *page, size_t i, int is_read, moi_page_slot **at) {
    moi_page_slot *slot = moi_page_find_leaving(page, i);
    mo_status status = slot ? moi_page_collect(page, slot) : MO_OK;
    if (status != MO_OK) return status;
    slot = moi_page_victim(page);
    if (!slot) return MO_E_NO_SPACE;
    status = moi_page_collect(page, slot);
    if (status != MO_OK) return status;
    moi_page_exchange(page, slot, i, is_read);
    status = moi_page_collect(page, slot);
    if (status == MO_OK && slot->page != i) status = moi_page_say(page, &slot->in, "read");
    if (status == MO_OK) *at = slot;
    return status;
}

mo_status mo_page_acquire(mo_page *page, size_t i, mo_page_access access, void **data) {
    if (!page || i >= page->n_pages || (unsigned)access >= MO_PAGE_ACCESS_COUNT || !data)
        return MO_E_INVALID;
    mo_status status = moi_page_collect_done(page);
    moi_page_slot *slot = moi_page_find(page, i);
    if (status == MO_OK && slot) status = moi_page_collect(page, slot);
    if (status != MO_OK) return status;
    if (slot && slot->page != i) slot = NULL; /* it could not be read ahead */
    const int was_there = slot != NULL;
    if (!slot) status = moi_page_fetch(page, i, access != MO_PAGE_OVERWRITE, &slot);
    if (status != MO_OK) return status;
    page->stats.n_acquired++;
    page->stats.n_there += was_there && !slot->is_ahead;
    page->stats.n_ahead += (uint64_t)slot->is_ahead;
    slot->is_ahead = 0;
    slot->is_dirty |= access != MO_PAGE_READ;
    slot->n_users++;
    moi_page_use(page, slot);
    moi_page_ahead(page);
    *data = slot->memory;
    return MO_OK;
}

mo_status mo_page_release(mo_page *page, size_t i) {
    moi_page_slot *slot = page && i < page->n_pages ? moi_page_find(page, i) : NULL;
    if (!slot || slot->n_users == 0) return MO_E_INVALID;
    slot->n_users--;
    return MO_OK;
}

/* All changed pages at once, then their results. */
static mo_status moi_page_write_all(mo_page *page) {
    mo_status first = MO_OK;
    for (int pass = 0; pass < 2; pass++)
        for (size_t s = 0; s < page->n_slots; s++) {
            moi_page_slot *slot = &page->slots[s];
            mo_status status = moi_page_collect(page, slot);
            if (first == MO_OK) first = status;
            if (pass == 0 && slot->is_dirty) moi_page_exchange(page, slot, slot->page, 0);
        }
    return first;
}

mo_status mo_page_sync(mo_page *page) {
    if (!page || page->n_pages == 0) return MO_E_INVALID;
    for (size_t s = 0; s < page->n_slots; s++)
        if (page->slots[s].n_users > 0) return MO_E_STATE;
    mo_status status = moi_page_write_all(page);
    if (status != MO_OK) return status;
    if (page->file != -1 && page->is_kept) {
        const int error = moi_file_sync(page->file);
        if (error) return moi_page_file_failed(page, "sync the file", error);
    }
    for (size_t s = 0; s < page->n_slots; s++) {
        page->slots[s].page = MOI_PAGE_NONE;
        page->slots[s].is_ahead = 0;
    }
    return MO_OK;
}

#undef MOI_PAGE_NONE
