/* mo_cl_heap_debug.c - the heap's debug mode: a buffer for each block, with zones around it.
 *
 * A kernel that runs past its block hits a neighbour in the same buffer, which no driver and no
 * simulator of devices sees. With a buffer for each block those see what leaves the buffer, and the
 * zones show what was written just before the block's first byte or behind its last one. */

enum { MOI_CL_DEBUG_CHUNK = 1024, MOI_CL_DEBUG_BYTE = 0xa5 };

static int moi_cl_debug_wanted(const mo_cl_heap_desc *desc) {
    const char *text = getenv("MEMOPT_CL_DEBUG");
    return desc->debug || (text && *text && strcmp(text, "0") != 0);
}

/* The zone before the block, or the one behind it, which begins at the size that was asked for. */
static mo_cl_mem moi_cl_debug_zone(const moi_cl_block *block, int behind) {
    const moi_cl_buffer *from = block->from;
    mo_cl_mem zone = block->mem;
    zone.off = behind ? block->mem.off + block->mem.size : 0;
    zone.size = behind ? from->size + 2 * from->zone - zone.off : from->zone;
    return zone;
}

static mo_status moi_cl_debug_fill_zone(mo_cl_heap *heap, const mo_cl_mem *zone) {
    unsigned char bytes[MOI_CL_DEBUG_CHUNK];
    mo_status status = MO_OK;
    memset(bytes, MOI_CL_DEBUG_BYTE, sizeof bytes);
    for (uint64_t off = 0; off < zone->size && status == MO_OK; off += sizeof bytes) {
        const uint64_t left = zone->size - off;
        status = mo_cl_upload(heap, MO_CL_COMPUTE, zone, off, bytes,
            left < sizeof bytes ? (size_t)left : sizeof bytes, NULL, NULL);
    }
    return status;
}

/* The block itself begins as NaNs, so that who reads it before writing it sees them. */
static mo_status moi_cl_debug_begin(mo_cl_heap *heap, const moi_cl_block *block) {
    if (!heap->debug) return MO_OK;
    mo_status status = mo_cl_fill_u32(
        heap, MO_CL_COMPUTE, &block->mem, 0, block->mem.size / 4, 0xffffffffu, NULL, NULL);
    for (int behind = 0; behind < 2 && status == MO_OK; behind++) {
        const mo_cl_mem zone = moi_cl_debug_zone(block, behind);
        status = moi_cl_debug_fill_zone(heap, &zone);
    }
    return status;
}

/* *distance = bytes between the block and the nearest byte that was written; 0 = none. */
static mo_status moi_cl_debug_look(
    mo_cl_heap *heap, const mo_cl_mem *zone, int behind, uint64_t *distance) {
    unsigned char bytes[MOI_CL_DEBUG_CHUNK];
    *distance = 0;
    for (uint64_t off = 0; off < zone->size; off += sizeof bytes) {
        const uint64_t left = zone->size - off;
        const size_t n = left < sizeof bytes ? (size_t)left : sizeof bytes;
        mo_status status = mo_cl_download(heap, MO_CL_COMPUTE, bytes, zone, off, n, NULL, NULL);
        if (status != MO_OK) return status;
        for (size_t i = 0; i < n; i++) {
            if (bytes[i] == MOI_CL_DEBUG_BYTE || (behind && *distance)) continue;
            *distance = behind ? off + i + 1 : zone->size - off - i;
        }
    }
    return MO_OK;
}

static mo_status moi_cl_debug_check(mo_cl_heap *heap, const moi_cl_block *block) {
    static const char *const where[] = {"before its begin", "behind its end"};
    if (!heap->debug) return MO_OK;
    mo_status status = moi_cl_heap_sync(heap);
    int is_damaged = 0;
    for (int behind = 0; behind < 2 && status == MO_OK; behind++) {
        const mo_cl_mem zone = moi_cl_debug_zone(block, behind);
        uint64_t distance = 0;
        status = moi_cl_debug_look(heap, &zone, behind, &distance);
        if (distance == 0) continue;
        is_damaged = 1;
        moi_cl_say(&heap->cl->log, MO_LOG_ERROR,
            "cl: block '%s' of %llu bytes: something was written %llu bytes %s",
            block->name ? block->name : "?", (unsigned long long)block->mem.size,
            (unsigned long long)distance, where[behind]);
    }
    if (!is_damaged || status != MO_OK) return status;
    heap->stats.n_damaged++;
    return MO_E_STATE;
}

mo_status mo_cl_heap_check(mo_cl_heap *heap) {
    mo_status status = MO_OK;
    if (!heap || !heap->cl) return MO_E_INVALID;
    for (size_t i = 0; heap->debug && i < heap->max_allocs; i++) {
        if (heap->blocks[i].mem.handle == 0) continue;
        mo_status checked = moi_cl_debug_check(heap, &heap->blocks[i]);
        if (checked != MO_OK) status = checked;
    }
    return status;
}
