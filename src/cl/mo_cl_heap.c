/* mo_cl_heap.c - the blocks of mo_cl_heap.h.
 *
 * A block has a record in a table, whose address is also its key in the track: it is unique for
 * every heap, which an offset in a buffer is not. */

#define MOI_CL_HEAP_BUFFER     ((uint64_t)64 << 20)
#define MOI_CL_HEAP_ALIGN      ((uint64_t)512)
#define MOI_CL_HEAP_MAX_ALLOCS ((size_t)8192)
enum { MOI_CL_SAY_BUFFERS = 8 };

/* ---- budget -------------------------------------------------------------------------------- */

/* "1073741824", "512M"; 0 when it is not a size above 0. */
static uint64_t moi_cl_parse_bytes(const char *text) {
    uint64_t value = 0, unit = 1;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (value > (UINT64_MAX - 9) / 10) return 0;
        value = value * 10 + (uint64_t)(*at - '0');
    }
    if (*at == 'K' || *at == 'k') unit = (uint64_t)1 << 10;
    else if (*at == 'M' || *at == 'm') unit = (uint64_t)1 << 20;
    else if (*at == 'G' || *at == 'g') unit = (uint64_t)1 << 30;
    if (unit != 1) at++;
    if (*at != '\0' || value > UINT64_MAX / unit) return 0;
    return value * unit;
}

/* OpenCL cannot tell what is free; others, and the driver itself, need some. */
static uint64_t moi_cl_device_budget(const mo_cl_info *info) {
    const uint64_t total = info->global_bytes, least = UINT64_C(600000000);
    const uint64_t spare = total / 10 > least ? total / 10 : least;
    return total > 2 * spare ? total - spare : total / 2;
}

static mo_status moi_cl_budget(const mo_cl *cl, uint64_t asked, uint64_t *budget) {
    const char *text = getenv("MEMOPT_CL_MEM");
    *budget = asked;
    if (asked != 0) return MO_OK;
    if (!text || !*text) {
        *budget = moi_cl_device_budget(&cl->info);
        return MO_OK;
    }
    *budget = moi_cl_parse_bytes(text);
    if (*budget != 0) return MO_OK;
    moi_cl_say(&cl->log, MO_LOG_ERROR, "cl: MEMOPT_CL_MEM=%.200s is not a number of bytes", text);
    return MO_E_INVALID;
}

/* ---- start and end ------------------------------------------------------------------------- */

/* What was asked for (0 = the default), raised until each block can be a sub-buffer. */
static uint64_t moi_cl_heap_align(const mo_cl *cl, uint64_t asked) {
    uint64_t align = asked ? asked : MOI_CL_HEAP_ALIGN;
    while (align < cl->info.base_align_bytes) align *= 2;
    return align;
}

mo_status mo_cl_heap_init(mo_cl_heap *heap, mo_cl *cl, const mo_cl_heap_desc *desc) {
    mo_cl_heap_desc none;
    mo_cl_heap made;
    memset(&none, 0, sizeof none);
    memset(&made, 0, sizeof made);
    if (!desc) desc = &none;
    if (!heap || !cl || desc->max_allocs >= 0x7fffffff) return MO_E_INVALID;
    if ((desc->align_bytes & (desc->align_bytes - 1)) != 0 ||
        desc->align_bytes > cl->info.max_alloc_bytes)
        return MO_E_INVALID;
    made.align = moi_cl_heap_align(cl, desc->align_bytes);
    mo_status status = moi_cl_budget(cl, desc->budget_bytes, &made.stats.budget_bytes);
    if (status != MO_OK) return status;
    made.cl = cl;
    made.track = desc->track;
    made.debug = moi_cl_debug_wanted(desc);
    made.buffer_bytes = desc->buffer_bytes ? desc->buffer_bytes : MOI_CL_HEAP_BUFFER;
    made.max_allocs = desc->max_allocs ? desc->max_allocs : MOI_CL_HEAP_MAX_ALLOCS;
    made.blocks = (moi_cl_block *)moi_cl_new(&cl->allocator, made.max_allocs, sizeof *made.blocks);
    if (!made.blocks) return MO_E_NO_MEMORY;
    memset(made.blocks, 0, made.max_allocs * sizeof *made.blocks);
    for (size_t i = 0; i < made.max_allocs; i++)
        made.blocks[i].next = i + 1 < made.max_allocs ? (uint32_t)(i + 1) : MOI_CL_NO_BLOCK;
    *heap = made;
    return MO_OK;
}

static void moi_cl_buffer_drop(mo_cl_heap *heap, moi_cl_buffer *buffer) {
    clReleaseMemObject(buffer->buffer);
    mo_suballoc_free(&buffer->sub);
    heap->stats.reserved_bytes -= buffer->size;
    heap->stats.n_buffers--;
    heap->stats.n_released++;
    moi_cl_delete(&heap->cl->allocator, buffer, 1, sizeof *buffer);
}

static mo_status moi_cl_heap_sync(mo_cl_heap *heap) {
    mo_status status = mo_cl_sync(heap->cl, MO_CL_COMPUTE);
    mo_status other = mo_cl_sync(heap->cl, MO_CL_TRANSFER);
    return status != MO_OK ? status : other;
}

void mo_cl_heap_free(mo_cl_heap *heap) {
    if (!heap || !heap->cl) return;
    mo_status status = moi_cl_heap_sync(heap);
    if (status == MO_OK) status = mo_cl_heap_check(heap);
    (void)status; /* said in the log; the buffers go in any case */
    for (size_t i = 0; i < heap->max_allocs; i++)
        if (heap->blocks[i].is_tracked) mo_track_remove(heap->track, &heap->blocks[i]);
    while (heap->buffers) {
        moi_cl_buffer *buffer = heap->buffers;
        heap->buffers = buffer->next;
        moi_cl_buffer_drop(heap, buffer);
    }
    moi_cl_delete(&heap->cl->allocator, heap->blocks, heap->max_allocs, sizeof *heap->blocks);
    memset(heap, 0, sizeof *heap);
}

/* Buffers without blocks, whose commands are complete. */
static uint64_t moi_cl_drop_empty(mo_cl_heap *heap) {
    uint64_t freed = 0;
    moi_cl_buffer **at = &heap->buffers;
    while (*at) {
        moi_cl_buffer *buffer = *at;
        mo_suballoc_stats stats;
        mo_suballoc_get_stats(&buffer->sub, &stats);
        if (stats.n_allocs != 0) {
            at = &buffer->next;
            continue;
        }
        *at = buffer->next;
        freed += buffer->size;
        moi_cl_buffer_drop(heap, buffer);
    }
    return freed;
}

mo_status mo_cl_heap_trim(mo_cl_heap *heap, uint64_t *freed_bytes) {
    if (!heap || !heap->cl) return MO_E_INVALID;
    mo_status status = moi_cl_heap_sync(heap);
    if (status != MO_OK) return status;
    uint64_t freed = moi_cl_drop_empty(heap);
    if (freed_bytes) *freed_bytes = freed;
    return MO_OK;
}

/* ---- buffers ------------------------------------------------------------------------------- */

/* The largest buffer that the device and the alignment allow. */
static uint64_t moi_cl_largest(const mo_cl_heap *heap) {
    return heap->cl->info.max_alloc_bytes / heap->align * heap->align;
}

/* Bytes for a new buffer that holds size; 0 = the budget has no room for it. */
static uint64_t moi_cl_buffer_size(const mo_cl_heap *heap, uint64_t size) {
    uint64_t left = heap->stats.budget_bytes - heap->stats.reserved_bytes;
    uint64_t bytes = heap->buffer_bytes > size && !heap->debug ? heap->buffer_bytes : size;
    if (bytes > moi_cl_largest(heap)) bytes = moi_cl_largest(heap);
    if (bytes > left) bytes = left;
    bytes = bytes / heap->align * heap->align;
    return bytes >= size ? bytes : 0;
}

/* A processor walks over large buffers a fifth faster on huge pages. Drivers place a buffer at its
 * first mapping, before anything is written to it. */
static mo_status moi_cl_advise_huge(mo_cl_heap *heap, cl_mem buffer, size_t size) {
    cl_int code = CL_SUCCESS;
    cl_event done = NULL;
    cl_command_queue queue = heap->cl->queues[MO_CL_COMPUTE];
    if (!(heap->cl->info.type & CL_DEVICE_TYPE_CPU) || size < moi_huge_bytes) return MO_OK;
    void *mapped = clEnqueueMapBuffer(
        queue, buffer, CL_TRUE, CL_MAP_WRITE_INVALIDATE_REGION, 0, size, 0, NULL, NULL, &code);
    if (!mapped || code != CL_SUCCESS)
        return moi_cl_fail(&heap->cl->log, "clEnqueueMapBuffer", code, "new buffer");
    moi_huge_advise(mapped, size);
    code = clEnqueueUnmapMemObject(queue, buffer, mapped, 0, NULL, &done);
    if (code != CL_SUCCESS)
        return moi_cl_fail(&heap->cl->log, "clEnqueueUnmapMemObject", code, "new buffer");
    mo_status status = mo_cl_wait(heap->cl, 1, &done);
    clReleaseEvent(done);
    return status;
}

/* Some drivers take memory at the first use only. */
static mo_status moi_cl_make_resident(mo_cl_heap *heap, cl_mem buffer) {
    cl_event done = NULL;
    cl_int code = clEnqueueMigrateMemObjects(heap->cl->queues[MO_CL_COMPUTE], 1, &buffer,
        CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED, 0, NULL, &done);
    if (code != CL_SUCCESS)
        return moi_cl_fail(&heap->cl->log, "clEnqueueMigrateMemObjects", code, "new buffer");
    mo_status status = mo_cl_wait(heap->cl, 1, &done);
    clReleaseEvent(done);
    return status;
}

/* size bytes, and zones before and behind them. */
static mo_status moi_cl_create(mo_cl_heap *heap, uint64_t size, uint64_t zone, cl_mem *out) {
    const cl_mem_flags where = heap->cl->info.unified ? CL_MEM_ALLOC_HOST_PTR : 0;
    cl_int code = CL_SUCCESS;
    if (size > SIZE_MAX - 2 * zone) return MO_E_OVERFLOW;
    cl_mem buffer = clCreateBuffer(
        heap->cl->context, CL_MEM_READ_WRITE | where, (size_t)(size + 2 * zone), NULL, &code);
    if (!buffer || code != CL_SUCCESS)
        return moi_cl_fail(
            &heap->cl->log, "clCreateBuffer", code, "%llu bytes", (unsigned long long)size);
    mo_status status = moi_cl_advise_huge(heap, buffer, (size_t)(size + 2 * zone));
    if (status == MO_OK) status = moi_cl_make_resident(heap, buffer);
    if (status == MO_OK) *out = buffer;
    else clReleaseMemObject(buffer);
    return status;
}

static mo_status moi_cl_buffer_add(mo_cl_heap *heap, uint64_t size) {
    mo_suballoc_desc desc;
    const mo_allocator *allocator = &heap->cl->allocator;
    moi_cl_buffer *buffer = (moi_cl_buffer *)moi_cl_new(allocator, 1, sizeof *buffer);
    if (!buffer) return MO_E_NO_MEMORY;
    memset(&desc, 0, sizeof desc);
    desc.size = size;
    desc.granule = heap->align;
    desc.allocator = allocator;
    desc.max_allocs = heap->max_allocs;
    buffer->zone = heap->debug ? heap->align : 0;
    if (heap->debug) desc.max_allocs = 1;
    if (desc.max_allocs > size / heap->align) desc.max_allocs = (size_t)(size / heap->align);
    mo_status status = mo_suballoc_init(&buffer->sub, &desc);
    if (status == MO_OK) {
        status = moi_cl_create(heap, size, buffer->zone, &buffer->buffer);
        if (status != MO_OK) mo_suballoc_free(&buffer->sub);
    }
    if (status != MO_OK) {
        moi_cl_delete(allocator, buffer, 1, sizeof *buffer);
        return status;
    }
    buffer->size = size;
    buffer->next = heap->buffers;
    heap->buffers = buffer;
    mo_cl_heap_stats *s = &heap->stats;
    s->n_buffers++;
    s->n_created++;
    s->reserved_bytes += size;
    if (s->reserved_bytes > s->peak_reserved_bytes) s->peak_reserved_bytes = s->reserved_bytes;
    return MO_OK;
}

/* A new buffer with room for size; when there is none, what is empty goes first, then once more. */
static mo_status moi_cl_grow(mo_cl_heap *heap, uint64_t size) {
    for (int trimmed = 0;; trimmed = 1) {
        const uint64_t bytes = moi_cl_buffer_size(heap, size);
        mo_status status = bytes ? moi_cl_buffer_add(heap, bytes) : MO_E_NO_SPACE;
        /* A device that is full may still have room for the block alone. */
        if (status == MO_E_NO_DEVICE_MEMORY && bytes > size && trimmed)
            status = moi_cl_buffer_add(heap, size);
        if (status != MO_E_NO_SPACE && status != MO_E_NO_DEVICE_MEMORY) return status;
        if (trimmed) return status;
        mo_status synced = moi_cl_heap_sync(heap);
        if (synced != MO_OK) return synced;
        moi_cl_drop_empty(heap);
    }
}

/* ---- blocks -------------------------------------------------------------------------------- */

/* Among the buffers that are there. */
static int moi_cl_place(
    mo_cl_heap *heap, uint64_t size, moi_cl_buffer **from, mo_suballoc_block *block) {
    for (moi_cl_buffer *b = heap->buffers; b; b = b->next)
        if (size <= b->size && mo_suballoc_alloc(&b->sub, size, 0, block) == MO_OK) {
            *from = b;
            return 1;
        }
    return 0;
}

static mo_status moi_cl_find_place(
    mo_cl_heap *heap, uint64_t size, moi_cl_buffer **from, mo_suballoc_block *block) {
    if (!heap->debug && moi_cl_place(heap, size, from, block)) return MO_OK;
    mo_status status = moi_cl_grow(heap, size);
    if (status != MO_OK) return status;
    return moi_cl_place(heap, size, from, block) ? MO_OK : MO_E_NO_SPACE;
}

/* The size rounded up, and whether the heap could hold it at all. */
static mo_status moi_cl_check_size(const mo_cl_heap *heap, uint64_t size, uint64_t *rounded) {
    if (size > moi_cl_largest(heap)) {
        moi_cl_say(&heap->cl->log, MO_LOG_ERROR,
            "cl: a block of %llu bytes; one allocation of '%s' has up to %llu",
            (unsigned long long)size, heap->cl->info.name,
            (unsigned long long)heap->cl->info.max_alloc_bytes);
        return MO_E_UNSUPPORTED;
    }
    *rounded = (size + heap->align - 1) / heap->align * heap->align;
    if (heap->free_block != MOI_CL_NO_BLOCK) return MO_OK;
    moi_cl_say(&heap->cl->log, MO_LOG_ERROR, "cl: %zu blocks are allocated, no more fit the books",
        heap->max_allocs);
    return MO_E_NO_SPACE;
}

/* The report when there is no room: why, with what would help, and each buffer. */
static void moi_cl_say_full(mo_cl_heap *heap, uint64_t size, mo_category category) {
    mo_cl_heap_stats s;
    size_t n = 0;
    mo_cl_heap_get_stats(heap, &s);
    if (heap->cl->log.write) {
        moi_cl_say(&heap->cl->log, MO_LOG_ERROR,
            "cl: no room for %llu bytes: budget %llu, in %zu buffers %llu, used %llu in %zu "
            "blocks, "
            "free %llu, largest free %llu, fragmentation %.0f %%%s",
            (unsigned long long)size, (unsigned long long)s.budget_bytes, s.n_buffers,
            (unsigned long long)s.reserved_bytes, (unsigned long long)s.used_bytes, s.n_allocs,
            (unsigned long long)(s.reserved_bytes - s.used_bytes),
            (unsigned long long)s.largest_free_bytes, 100 * s.fragmentation,
            s.reserved_bytes - s.used_bytes >= size ? "; mo_cl_heap_defrag may make room" : "");
        for (const moi_cl_buffer *b = heap->buffers; b && n < MOI_CL_SAY_BUFFERS; b = b->next) {
            mo_suballoc_stats own;
            mo_suballoc_get_stats(&b->sub, &own);
            moi_cl_say(&heap->cl->log, MO_LOG_ERROR,
                "cl:   %2zu. buffer of %llu bytes: used %llu in %zu blocks, largest free %llu", ++n,
                (unsigned long long)b->size, (unsigned long long)own.used_bytes, own.n_allocs,
                (unsigned long long)own.largest_free_bytes);
        }
    }
    if (heap->track) mo_track_oom(heap->track, size, category);
}

static void moi_cl_use(mo_cl_heap *heap, moi_cl_block *record, moi_cl_buffer *from,
    const mo_suballoc_block *place, uint64_t size) {
    heap->free_block = record->next;
    record->from = from;
    record->sub_handle = place->handle;
    record->rounded_bytes = place->size;
    record->generation++;
    record->mem.buffer = from->buffer;
    record->mem.off = from->zone + place->off;
    record->mem.size = size;
    record->mem.handle = (uint64_t)record->generation << 32 | (uint64_t)(record - heap->blocks + 1);
    mo_cl_heap_stats *s = &heap->stats;
    s->n_allocs++;
    s->used_bytes += place->size;
    if (s->used_bytes > s->peak_used_bytes) s->peak_used_bytes = s->used_bytes;
}

/* The record is free again, and its place in the buffer. */
static void moi_cl_unuse(mo_cl_heap *heap, moi_cl_block *record) {
    mo_suballoc_dealloc(&record->from->sub, record->sub_handle);
    if (record->is_tracked) mo_track_remove(heap->track, record);
    heap->stats.n_allocs--;
    heap->stats.used_bytes -= record->rounded_bytes;
    memset(&record->mem, 0, sizeof record->mem);
    record->from = NULL;
    record->is_tracked = record->is_pinned = 0;
    record->next = heap->free_block;
    heap->free_block = (uint32_t)(record - heap->blocks);
    if (heap->debug) moi_cl_drop_empty(heap);
}

mo_status mo_cl_heap_alloc(
    mo_cl_heap *heap, uint64_t size, mo_category category, const char *name, mo_cl_mem *mem) {
    mo_suballoc_block place;
    moi_cl_buffer *from = NULL;
    uint64_t rounded = 0;
    if (!heap || !heap->cl || !mem || size == 0) return MO_E_INVALID;
    mo_status status = moi_cl_check_size(heap, size, &rounded);
    if (status != MO_OK) {
        heap->stats.n_failed++;
        return status;
    }
    moi_cl_block *record = &heap->blocks[heap->free_block];
    /* The track first: it may have a budget of its own, and says what is held when it is passed. */
    if (heap->track) status = mo_track_add(heap->track, record, rounded, category, name);
    const int tracked = heap->track && status == MO_OK;
    if (status == MO_OK) {
        status = moi_cl_find_place(heap, rounded, &from, &place);
        if (status != MO_OK && tracked) mo_track_remove(heap->track, record);
        if (status == MO_E_NO_SPACE || status == MO_E_NO_DEVICE_MEMORY)
            moi_cl_say_full(heap, rounded, category);
    }
    if (status != MO_OK) {
        heap->stats.n_failed++;
        return status;
    }
    moi_cl_use(heap, record, from, &place, size);
    record->is_tracked = tracked != 0;
    record->name = name;
    record->category = category;
    status = moi_cl_debug_begin(heap, record);
    if (status == MO_OK) *mem = record->mem;
    else moi_cl_unuse(heap, record);
    return status;
}

static moi_cl_block *moi_cl_record(const mo_cl_heap *heap, uint64_t handle) {
    const uint64_t index = handle & 0xffffffffu;
    if (!heap || !heap->cl || index == 0 || index > heap->max_allocs) return NULL;
    moi_cl_block *record = &heap->blocks[index - 1];
    return record->mem.handle == handle ? record : NULL;
}

mo_status mo_cl_heap_dealloc(mo_cl_heap *heap, uint64_t handle) {
    moi_cl_block *record = moi_cl_record(heap, handle);
    if (!record) return MO_E_INVALID;
    mo_status status = moi_cl_debug_check(heap, record);
    moi_cl_unuse(heap, record);
    return status;
}

mo_status mo_cl_heap_get(const mo_cl_heap *heap, uint64_t handle, mo_cl_mem *mem) {
    const moi_cl_block *record = moi_cl_record(heap, handle);
    if (!record || !mem) return MO_E_INVALID;
    *mem = record->mem;
    return MO_OK;
}

void mo_cl_heap_get_stats(const mo_cl_heap *heap, mo_cl_heap_stats *stats) {
    if (!heap || !stats) return;
    *stats = heap->stats;
    for (const moi_cl_buffer *b = heap->buffers; b; b = b->next) {
        mo_suballoc_stats own;
        mo_suballoc_get_stats(&b->sub, &own);
        if (own.largest_free_bytes > stats->largest_free_bytes)
            stats->largest_free_bytes = own.largest_free_bytes;
    }
    const uint64_t unused = stats->reserved_bytes - stats->used_bytes;
    stats->fragmentation = unused ? 1 - (double)stats->largest_free_bytes / (double)unused : 0;
}

mo_track_space mo_cl_heap_space(const char *name, const mo_cl_heap *heap) {
    mo_track_space space;
    mo_cl_heap_stats stats;
    memset(&stats, 0, sizeof stats);
    mo_cl_heap_get_stats(heap, &stats);
    space.name = name;
    space.reserved_bytes = stats.reserved_bytes;
    space.used_bytes = stats.used_bytes;
    space.peak_bytes = stats.peak_used_bytes;
    space.free_bytes = stats.reserved_bytes - stats.used_bytes;
    space.largest_free_bytes = stats.largest_free_bytes;
    return space;
}

#undef MOI_CL_HEAP_BUFFER
#undef MOI_CL_HEAP_ALIGN
#undef MOI_CL_HEAP_MAX_ALLOCS
