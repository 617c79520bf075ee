/* mo_arena.c - see mo_arena.h.
 *
 * Reserved address space costs nothing, so the arena reserves all it may ever use and never moves.
 * Only committed memory is poisoned for AddressSanitizer: the shadow of 64 GiB would cost 8 GiB,
 * and what is reserved only faults anyway. */

static const size_t moi_arena_step_min = (size_t)64 << 10;
static const size_t moi_arena_step_max = (size_t)64 << 20;
#if SIZE_MAX > 0xffffffffu
static const size_t moi_arena_default_size = (size_t)64 << 30;
#else
static const size_t moi_arena_default_size = (size_t)1 << 30;
#endif

/* ---- start and end ------------------------------------------------------------------------- */

/* Only the default size is halved: a size that was asked for is given, or it is an error. */
static mo_status moi_arena_reserve(mo_arena *arena, size_t size, size_t limit) {
    int asked = size != 0 || limit != 0;
    if (size == 0) size = limit != 0 ? limit : moi_arena_default_size;
    arena->page = moi_os_page_size();
    if (!moi_align_up(size, arena->page, &arena->reserved)) return MO_E_NO_MEMORY;
    arena->base = (unsigned char *)moi_os_reserve(arena->reserved);
    while (!arena->base && !asked && arena->reserved > moi_arena_step_min) {
        arena->reserved /= 2;
        arena->base = (unsigned char *)moi_os_reserve(arena->reserved);
    }
    if (!arena->base) return MO_E_NO_MEMORY;
    arena->limit = asked ? size : arena->reserved;
    return MO_OK;
}

mo_status mo_arena_init(mo_arena *arena, const mo_arena_desc *desc) {
    static const mo_arena_desc defaults = {NULL, 0, 0, NULL, 0};
    mo_arena made;
    if (!desc) desc = &defaults;
    if (!arena || (desc->block && (desc->size == 0 || desc->tokens))) return MO_E_INVALID;
    memset(&made, 0, sizeof made);
    made.last_begin = SIZE_MAX;
    made.tokens = desc->tokens != 0;
    if (desc->log) made.log = *desc->log;
    if (desc->block) {
        made.base = (unsigned char *)desc->block;
        made.reserved = made.committed = made.dirty = made.limit = desc->size;
        MOI_POISON(made.base, made.committed);
    } else {
        mo_status status = moi_arena_reserve(&made, desc->size, desc->limit);
        if (status != MO_OK) return status;
    }
    if (desc->limit != 0) made.limit = moi_min(made.limit, desc->limit);
    *arena = made;
    return MO_OK;
}

void mo_arena_free(mo_arena *arena) {
    if (!arena || !arena->base) return;
    MOI_UNPOISON(arena->base, arena->committed);
    if (arena->page) moi_os_release(arena->base, arena->reserved);
    memset(arena, 0, sizeof *arena);
}

/* ---- growing ------------------------------------------------------------------------------- */

/* Commits at least end bytes; a caller's block is committed from the start, tokens never are. */
static int moi_arena_grow_to(mo_arena *arena, size_t end) {
    size_t target;
    if (end <= arena->committed || arena->tokens) return 1;
    if (!moi_align_up(end, arena->page, &target)) return 0;
    unsigned char *from = arena->base + arena->committed;
    size_t more = target - arena->committed;
    if (!moi_os_commit(from, more)) return 0;
    moi_huge_advise(from, more);
    MOI_POISON(from, more);
    arena->committed = target;
    return 1;
}

/* Doubling keeps the number of system calls logarithmic; the cap keeps the overshoot small. When
 * the system refuses the step, exactly what is needed is tried. */
static int moi_arena_grow(mo_arena *arena, size_t end) {
    size_t step = moi_max(arena->committed, moi_arena_step_min), target;
    step = moi_min(step, moi_arena_step_max);
    target = moi_min(arena->limit, arena->committed + moi_min(step, arena->limit));
    if (target > end && moi_arena_grow_to(arena, target)) return 1;
    return moi_arena_grow_to(arena, end);
}

static void *moi_arena_full(mo_arena *arena, size_t size, mo_status status) {
    if (arena->status == MO_OK) arena->status = status;
    moi_log(&arena->log, MO_LOG_ERROR, "arena: %zu bytes requested, %zu used, limit %zu: %s", size,
        arena->used, arena->limit, mo_status_text(status));
    return NULL;
}

/* Hands out [begin, end), which lies within the limit. */
static void *moi_arena_take(mo_arena *arena, size_t begin, size_t end) {
    if (end > arena->committed && !moi_arena_grow(arena, end))
        return moi_arena_full(arena, end - begin, MO_E_NO_MEMORY);
    if (!arena->tokens) MOI_UNPOISON(arena->base + begin, end - begin);
    if (end > arena->used) arena->used = end;
    if (end > arena->peak) arena->peak = end;
    return arena->base + begin;
}

/* ---- allocation ---------------------------------------------------------------------------- */

/* The padding follows the address, not the offset: a caller's block may start anywhere. */
static void *moi_arena_bump(mo_arena *arena, size_t size, size_t align) {
    size_t used = moi_max(arena->used, arena->planned), room = arena->limit - used;
    if (align == 0) align = MOI_CACHE_LINE;
    if (size == 0 || !moi_is_pow2(align)) return NULL;
    const size_t before = arena->used;
    size_t padding = (size_t)(0 - ((uintptr_t)arena->base + used)) & (align - 1);
    if (padding > room || size > room - padding) return moi_arena_full(arena, size, MO_E_NO_SPACE);
    void *ptr = moi_arena_take(arena, used + padding, used + padding + size);
    if (!ptr) return NULL;
    arena->last_begin = used + padding;
    arena->last_used = before;
    arena->wasted += padding;
    arena->n_allocs++;
    return ptr;
}

static void moi_arena_dirty(mo_arena *arena) {
    if (arena->used > arena->dirty) arena->dirty = arena->used;
}

void *mo_arena_alloc(mo_arena *arena, size_t size, size_t align) {
    void *ptr = moi_arena_bump(arena, size, align);
    moi_arena_dirty(arena);
    return ptr;
}

void *mo_arena_alloc_zero(mo_arena *arena, size_t size, size_t align) {
    void *ptr = moi_arena_bump(arena, size, align);
    if (ptr && arena->last_begin < arena->dirty && !arena->tokens)
        memset(ptr, 0, moi_min(size, arena->dirty - arena->last_begin));
    moi_arena_dirty(arena);
    return ptr;
}

mo_status mo_arena_status(const mo_arena *arena) { return arena->status; }

size_t mo_arena_mark(const mo_arena *arena) { return arena->used; }

mo_status mo_arena_rewind(mo_arena *arena, size_t mark) {
    if (mark > arena->used) return MO_E_INVALID;
    if (!arena->tokens) MOI_POISON(arena->base + mark, arena->used - mark);
    arena->used = mark;
    arena->last_begin = SIZE_MAX;
    arena->status = MO_OK;
    return MO_OK;
}

void mo_arena_reset(mo_arena *arena) {
    if (!arena->tokens) MOI_POISON(arena->base, arena->used);
    arena->used = arena->wasted = arena->n_allocs = 0;
    arena->last_begin = SIZE_MAX;
    arena->status = MO_OK;
}

void mo_arena_trim(mo_arena *arena) {
    size_t keep;
    if (!arena->page || !moi_align_up(arena->used, arena->page, &keep)) return;
    if (keep >= arena->committed) return;
    if (!moi_os_decommit(arena->base + keep, arena->committed - keep)) return;
    MOI_UNPOISON(arena->base + keep, arena->committed - keep);
    arena->committed = keep;
    arena->dirty = moi_min(arena->dirty, keep);
}

/* ---- planned memory ------------------------------------------------------------------------ */

mo_status mo_arena_commit(mo_arena *arena, size_t size) {
    if (size > arena->limit) return MO_E_NO_SPACE;
    return moi_arena_grow_to(arena, size) ? MO_OK : MO_E_NO_MEMORY;
}

/* A range beyond the used part ends the right of the most recent block to be given back. */
void *mo_arena_at(mo_arena *arena, size_t off, size_t size) {
    size_t end, used = arena->used;
    if (!moi_add(off, size, &end) || end > arena->limit)
        return moi_arena_full(arena, size, MO_E_NO_SPACE);
    void *ptr = moi_arena_take(arena, off, end);
    moi_arena_dirty(arena);
    if (arena->used != used) arena->last_begin = SIZE_MAX;
    return ptr;
}

/* ---- as an allocator ----------------------------------------------------------------------- */

static void *moi_arena_alloc_hook(void *self, size_t size, size_t align) {
    return mo_arena_alloc((mo_arena *)self, size, align);
}

static void moi_arena_free_hook(void *self, void *ptr, size_t size, size_t align) {
    mo_arena *arena = (mo_arena *)self;
    (void)align;
    if (arena->last_begin == SIZE_MAX) return;
    if (ptr != arena->base + arena->last_begin || arena->last_begin + size != arena->used) return;
    mo_status status = mo_arena_rewind(arena, arena->last_used);
    MEMOPT_ASSERT(status == MO_OK);
    (void)status;
}

mo_allocator mo_arena_allocator(mo_arena *arena) {
    mo_allocator allocator;
    allocator.alloc = moi_arena_alloc_hook;
    allocator.free = moi_arena_free_hook;
    allocator.self = arena;
    return allocator;
}

void mo_arena_get_stats(const mo_arena *arena, mo_arena_stats *stats) {
    stats->used_bytes = arena->used;
    stats->peak_bytes = arena->peak;
    stats->committed_bytes = arena->committed;
    stats->reserved_bytes = arena->reserved;
    stats->limit_bytes = arena->limit;
    stats->wasted_bytes = arena->wasted;
    stats->n_allocs = arena->n_allocs;
}
