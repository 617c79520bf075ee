/* mo_cl_arena.c - see mo_cl_arena.h. */

size_t mo_cl_arena_align(const mo_cl *cl) { return (size_t)moi_cl_heap_align(cl, 0); }

size_t mo_cl_arena_piece(const mo_cl *cl) {
    const uint64_t align = moi_cl_heap_align(cl, 0);
    const uint64_t most = cl->info.max_alloc_bytes;
    return (size_t)((most < SIZE_MAX / 2 ? most : SIZE_MAX / 2) / align * align);
}

static mo_status moi_cl_arena_fill(mo_cl_arena *arena, mo_cl *cl, uint64_t budget) {
    mo_arena_desc tokens;
    mo_cl_heap_desc heap;
    memset(&heap, 0, sizeof heap);
    memset(&tokens, 0, sizeof tokens);
    heap.budget_bytes = budget;
    heap.buffer_bytes = 1; /* every piece is a buffer of just its size */
    heap.max_allocs = arena->n_pieces;
    tokens.size = arena->size;
    tokens.tokens = 1;
    tokens.log = &cl->log;
    mo_status status = mo_cl_heap_init(&arena->heap, cl, &heap);
    if (status == MO_OK) status = mo_arena_init(&arena->tokens, &tokens);
    if (status != MO_OK) return status;
    arena->pieces = (mo_cl_mem *)moi_cl_new(&cl->allocator, arena->n_pieces, sizeof *arena->pieces);
    if (!arena->pieces) return MO_E_NO_MEMORY;
    for (size_t i = 0; i < arena->n_pieces && status == MO_OK; i++) {
        const size_t left = arena->size - i * arena->piece;
        status = mo_cl_heap_alloc(&arena->heap, left < arena->piece ? left : arena->piece,
            MO_CATEGORY_OTHER, "plan", &arena->pieces[i]);
    }
    return status;
}

mo_status mo_cl_arena_init(
    mo_cl_arena *arena, mo_cl *cl, size_t size, const mo_cl_arena_desc *desc) {
    if (!arena || !cl || !cl->context || size == 0) return MO_E_INVALID;
    const size_t align = mo_cl_arena_align(cl), largest = mo_cl_arena_piece(cl);
    size_t piece = desc && desc->piece ? desc->piece : largest;
    if (piece == 0 || piece % align != 0 || piece > largest) return MO_E_INVALID;
    memset(arena, 0, sizeof *arena);
    if (!moi_align_up(size, align, &arena->size)) return MO_E_NO_SPACE;
    arena->piece = piece;
    arena->n_pieces = (arena->size - 1) / piece + 1;
    mo_status status = moi_cl_arena_fill(arena, cl, desc ? desc->budget_bytes : 0);
    if (status != MO_OK) mo_cl_arena_free(arena);
    return status;
}

void mo_cl_arena_free(mo_cl_arena *arena) {
    if (!arena) return;
    mo_cl *cl = arena->heap.cl;
    if (arena->pieces)
        moi_cl_delete(&cl->allocator, arena->pieces, arena->n_pieces, sizeof *arena->pieces);
    mo_cl_heap_free(&arena->heap);
    mo_arena_free(&arena->tokens);
    memset(arena, 0, sizeof *arena);
}

mo_cl_mem mo_cl_arena_at(const mo_cl_arena *arena, const void *address, size_t size) {
    mo_cl_mem none;
    memset(&none, 0, sizeof none);
    if (!arena || !arena->pieces || !address) return none;
    const uintptr_t base = (uintptr_t)arena->tokens.base, at = (uintptr_t)address;
    if (at < base || at - base >= arena->size) return none;
    const size_t off = (size_t)(at - base);
    return mo_cl_part(&arena->pieces[off / arena->piece], off % arena->piece, size);
}
