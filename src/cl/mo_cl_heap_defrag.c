/* mo_cl_heap_defrag.c - mo_cl_heap_defrag: blocks move together on the device.
 *
 * First whole buffers are emptied into the gaps of others, the least used ones first, since only a
 * whole buffer can be given back. Then the blocks of each buffer slide to its begin, in the order
 * of their offsets, and once more buffers are emptied. */

enum { MOI_CL_DEFRAG_PIECES = 1024 }; /* of a block that overlaps its new place */

/* A block that may move, and its place: off in its own buffer, or in another one. */
typedef struct moi_cl_move {
    moi_cl_block *block;
    uint64_t off;
    moi_cl_buffer *to;
    mo_suballoc_block place;
} moi_cl_move;

typedef struct moi_cl_defrag {
    mo_cl_heap *heap;
    moi_cl_move *moves; /* [n_allocs]; those of one buffer at a time */
    uint64_t left_bytes;
    mo_cl_heap_moved moved;
} moi_cl_defrag;

static int moi_cl_move_compare(const void *a, const void *b) {
    const uint64_t x = ((const moi_cl_move *)a)->off, y = ((const moi_cl_move *)b)->off;
    return (x > y) - (x < y);
}

static uint64_t moi_cl_defrag_used(const moi_cl_buffer *buffer) {
    mo_suballoc_stats stats;
    mo_suballoc_get_stats(&buffer->sub, &stats);
    return stats.used_bytes;
}

/* The blocks of a buffer by their offsets. */
static size_t moi_cl_defrag_gather(moi_cl_defrag *d, const moi_cl_buffer *buffer) {
    size_t n = 0;
    for (size_t i = 0; i < d->heap->max_allocs; i++) {
        moi_cl_block *block = &d->heap->blocks[i];
        if (block->mem.handle == 0 || block->from != buffer) continue;
        memset(&d->moves[n], 0, sizeof d->moves[n]);
        d->moves[n].block = block;
        d->moves[n++].off = block->mem.off;
    }
    qsort(d->moves, n, sizeof *d->moves, moi_cl_move_compare);
    return n;
}

static mo_status moi_cl_defrag_copy(moi_cl_defrag *d, const moi_cl_block *block, cl_mem to,
    uint64_t to_off, uint64_t from_off, uint64_t size) {
    cl_int code = clEnqueueCopyBuffer(d->heap->cl->queues[MO_CL_COMPUTE], block->mem.buffer, to,
        (size_t)from_off, (size_t)to_off, (size_t)size, 0, NULL, NULL);
    return code == CL_SUCCESS ? MO_OK
                              : moi_cl_fail(&d->heap->cl->log, "clEnqueueCopyBuffer", code,
                                    "a block moves, %llu bytes", (unsigned long long)size);
}

static void moi_cl_defrag_moved(
    moi_cl_defrag *d, moi_cl_block *block, cl_mem buffer, uint64_t off) {
    block->mem.buffer = buffer;
    block->mem.off = off;
    d->moved.n_moves++;
    d->moved.bytes += block->rounded_bytes;
    d->left_bytes -= block->rounded_bytes;
}

/* ---- emptying a buffer --------------------------------------------------------------------- */

/* Places in other buffers for its n blocks, the last first; how many found one. */
static size_t moi_cl_defrag_places(moi_cl_defrag *d, const moi_cl_buffer *buffer, size_t n) {
    for (size_t k = 0; k < n; k++) {
        moi_cl_move *move = &d->moves[k];
        for (moi_cl_buffer *b = d->heap->buffers; b && !move->to; b = b->next)
            if (b != buffer && moi_cl_defrag_used(b) > 0 &&
                mo_suballoc_alloc(&b->sub, move->block->rounded_bytes, 0, &move->place) == MO_OK)
                move->to = b;
        if (!move->to) return k;
    }
    return n;
}

/* Moves the blocks whose place is taken; after a failure the rest stays. */
static mo_status moi_cl_defrag_leave(moi_cl_defrag *d, size_t n) {
    mo_status status = MO_OK;
    for (size_t k = 0; k < n; k++) {
        moi_cl_move *move = &d->moves[k];
        moi_cl_block *block = move->block;
        if (status == MO_OK)
            status = moi_cl_defrag_copy(
                d, block, move->to->buffer, move->place.off, block->mem.off, block->rounded_bytes);
        if (status != MO_OK) {
            mo_suballoc_dealloc(&move->to->sub, move->place.handle);
            continue;
        }
        mo_suballoc_dealloc(&block->from->sub, block->sub_handle);
        block->from = move->to;
        block->sub_handle = move->place.handle;
        moi_cl_defrag_moved(d, block, move->to->buffer, move->place.off);
    }
    return status;
}

/* Whether a buffer may be emptied, and with how many bytes. */
static int moi_cl_defrag_movable(const moi_cl_defrag *d, const moi_cl_buffer *buffer) {
    if (moi_cl_defrag_used(buffer) > d->left_bytes) return 0;
    for (size_t i = 0; i < d->heap->max_allocs; i++) {
        const moi_cl_block *block = &d->heap->blocks[i];
        if (block->mem.handle && block->from == buffer && block->is_pinned) return 0;
    }
    return 1;
}

/* The buffer with the fewest bytes in use above those that were tried; NULL = no more. */
static moi_cl_buffer *moi_cl_defrag_next(const moi_cl_defrag *d, uint64_t tried) {
    moi_cl_buffer *best = NULL;
    uint64_t least = UINT64_MAX;
    for (moi_cl_buffer *b = d->heap->buffers; b; b = b->next) {
        const uint64_t used = moi_cl_defrag_used(b);
        if (used <= tried || used >= least) continue;
        best = b;
        least = used;
    }
    return best;
}

/* Of buffers with the same bytes in use one is tried. */
static mo_status moi_cl_defrag_empty(moi_cl_defrag *d) {
    uint64_t tried = 0;
    for (;;) {
        moi_cl_buffer *buffer = moi_cl_defrag_next(d, tried);
        if (!buffer) return MO_OK;
        tried = moi_cl_defrag_used(buffer);
        if (!moi_cl_defrag_movable(d, buffer)) continue;
        const size_t n = moi_cl_defrag_gather(d, buffer);
        const size_t n_placed = moi_cl_defrag_places(d, buffer, n);
        if (n_placed < n) {
            for (size_t k = 0; k < n_placed; k++)
                mo_suballoc_dealloc(&d->moves[k].to->sub, d->moves[k].place.handle);
            continue;
        }
        mo_status status = moi_cl_defrag_leave(d, n);
        if (status != MO_OK) return status;
    }
}

/* ---- sliding ------------------------------------------------------------------------------- */

/* A block moves down in its buffer: the pieces of an overlap ascend, so that none is overwritten
 * before it was copied. */
static mo_status moi_cl_defrag_slide_one(moi_cl_defrag *d, moi_cl_block *block, uint64_t to) {
    const uint64_t size = block->rounded_bytes, from = block->mem.off, distance = from - to;
    const uint64_t piece = distance < size ? distance : size;
    mo_suballoc_move move;
    size_t n = 0;
    mo_status status = MO_OK;
    for (uint64_t at = 0; at < size && status == MO_OK; at += piece)
        status = moi_cl_defrag_copy(
            d, block, block->mem.buffer, to + at, from + at, size - at < piece ? size - at : piece);
    if (status != MO_OK) return status;
    memset(&move, 0, sizeof move);
    move.handle = block->sub_handle;
    move.from = from;
    move.to = to;
    move.size = size;
    status = mo_suballoc_defrag_plan(&block->from->sub, 0, 0, NULL, 0, &n); /* opens a commit */
    if (status == MO_OK) status = mo_suballoc_defrag_commit(&block->from->sub, &move, 1);
    MEMOPT_ASSERT(status == MO_OK);
    moi_cl_defrag_moved(d, block, block->mem.buffer, to);
    return status;
}

/* Pinned blocks stay, and those for which it would take too many pieces: the gap below such a block
 * is under a thousandth of it. */
static mo_status moi_cl_defrag_slide(moi_cl_defrag *d, const moi_cl_buffer *buffer) {
    const size_t n = moi_cl_defrag_gather(d, buffer);
    uint64_t end = 0;
    for (size_t k = 0; k < n; k++) {
        moi_cl_block *block = d->moves[k].block;
        const uint64_t size = block->rounded_bytes, off = block->mem.off;
        const int stays = block->is_pinned || off == end || size > d->left_bytes ||
            (off - end) < size / MOI_CL_DEFRAG_PIECES;
        if (!stays) {
            mo_status status = moi_cl_defrag_slide_one(d, block, end);
            if (status != MO_OK) return status;
        }
        end = block->mem.off + size;
    }
    return MO_OK;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static mo_status moi_cl_defrag_run(moi_cl_defrag *d) {
    mo_status status = moi_cl_defrag_empty(d);
    for (moi_cl_buffer *b = d->heap->buffers; b && status == MO_OK; b = b->next)
        status = moi_cl_defrag_slide(d, b);
    if (status == MO_OK) status = moi_cl_defrag_empty(d);
    /* What comes next on the transfer queue must find the blocks moved, and buffers go. */
    mo_status synced = mo_cl_sync(d->heap->cl, MO_CL_COMPUTE);
    if (synced == MO_OK) d->moved.freed_bytes = moi_cl_drop_empty(d->heap);
    return status != MO_OK ? status : synced;
}

mo_status mo_cl_heap_defrag(mo_cl_heap *heap, uint64_t max_bytes, mo_cl_heap_moved *moved) {
    moi_cl_defrag d;
    if (!heap || !heap->cl) return MO_E_INVALID;
    memset(&d, 0, sizeof d);
    d.heap = heap;
    d.left_bytes = max_bytes ? max_bytes : UINT64_MAX;
    const size_t n = heap->stats.n_allocs;
    mo_status status = moi_cl_heap_sync(heap);
    if (status == MO_OK && n > 0 && !heap->debug) {
        d.moves = (moi_cl_move *)moi_cl_new(&heap->cl->allocator, n, sizeof *d.moves);
        if (!d.moves) return MO_E_NO_MEMORY;
        status = moi_cl_defrag_run(&d);
        moi_cl_delete(&heap->cl->allocator, d.moves, n, sizeof *d.moves);
    } else if (status == MO_OK) {
        d.moved.freed_bytes = moi_cl_drop_empty(heap);
    }
    if (moved) *moved = d.moved;
    return status;
}

mo_status mo_cl_heap_pin(mo_cl_heap *heap, uint64_t handle, int pinned) {
    moi_cl_block *block = moi_cl_record(heap, handle);
    if (!block) return MO_E_INVALID;
    block->is_pinned = pinned != 0;
    return MO_OK;
}
