/* mo_replay.c - see mo_replay.h.
 *
 * One sub-allocator has the whole range. A plan in use is one block of it or several, the claims,
 * so everything else stays clear of the plan without knowing it, and a plan that is left midway is
 * cut at its live blocks, the rest freed. A plan knows lifetimes, not addresses: it is placed when
 * a step begins, if the blocks outside of steps have changed since; in one piece where there is
 * room, else item by item around them.
 *
 * Time counts the allocations of a step. Item i lives from time i to the number of the last
 * allocation before it is freed, so the i-th allocation may take its place once every item with a
 * last time below i is freed: n_left counts those, and blocks may be freed earlier than recorded,
 * and in another order. */

#define MOI_REPLAY_NONE 0xffffffffu
enum { MOI_REPLAY_GRANULE = 64, MOI_REPLAY_MAX_LIVE = 16384, MOI_REPLAY_MAX_PLANS = 16 };
enum { MOI_REPLAY_RECORD = 1024 };

/* A live block. */
typedef struct moi_replay_block {
    uint64_t off;
    uint64_t handle; /* of the sub-allocator; 0 = in the plan that this step follows */
    uint64_t size;   /* as asked for; 0 = an empty place of the table */
    uint32_t item;   /* of the record; NONE = not of this step */
    uint32_t slot;   /* item of the plan */
} moi_replay_block;

typedef struct moi_replay_item {
    size_t size; /* in whole granules */
    size_t off;  /* in the range */
    size_t laid; /* in the layout */
    uint32_t last;
    uint8_t align_log2, outlives;
} moi_replay_item;

typedef struct moi_replay_claim {
    uint64_t handle;
    size_t off, size;
} moi_replay_claim;

/* Items that outlive the step have no place, and the sub-allocator serves them. */
typedef struct moi_replay_plan {
    uint64_t key, used_at, epoch;
    size_t n, n_places, n_claims;
    size_t peak, align;
    moi_replay_item *items;   /* [n] */
    moi_replay_claim *claims; /* [n + 1], by offset */
    uint32_t *n_last;         /* [n] how many items with a place have this last time, */
    uint32_t *n_left;         /* [n] and of them are still to be freed */
    uint32_t *order;          /* [n_places] by offset in the layout, */
    uint32_t *placed;         /* [n_places] and in the range */
} moi_replay_plan;

/* ---- the table of live blocks -------------------------------------------------------------- */

static size_t moi_replay_hash(const mo_replay *replay, uint64_t off) {
    return (size_t)((off * 0x9e3779b97f4a7c15u) >> replay->table_shift);
}

static moi_replay_block *moi_replay_find(const mo_replay *replay, uint64_t off) {
    size_t i = moi_replay_hash(replay, off);
    for (; replay->table[i].size; i = (i + 1) & replay->table_mask)
        if (replay->table[i].off == off) return &replay->table[i];
    return NULL;
}

static void moi_replay_insert(mo_replay *replay, const moi_replay_block *block) {
    size_t i = moi_replay_hash(replay, block->off);
    while (replay->table[i].size) i = (i + 1) & replay->table_mask;
    replay->table[i] = *block;
    replay->n_live++;
    replay->stats.live_bytes += (size_t)block->size;
    if (replay->stats.live_bytes > replay->stats.live_peak_bytes)
        replay->stats.live_peak_bytes = replay->stats.live_bytes;
}

/* Moves back what probing would no longer find behind the hole. */
static void moi_replay_erase(mo_replay *replay, moi_replay_block *block) {
    size_t mask = replay->table_mask, hole = (size_t)(block - replay->table);
    replay->n_live--;
    replay->stats.live_bytes -= (size_t)block->size;
    for (size_t i = (hole + 1) & mask; replay->table[i].size; i = (i + 1) & mask) {
        size_t home = moi_replay_hash(replay, replay->table[i].off);
        if (((i - home) & mask) < ((i - hole) & mask)) continue;
        replay->table[hole] = replay->table[i];
        hole = i;
    }
    replay->table[hole].size = 0;
}

/* ---- start and end ------------------------------------------------------------------------- */

static mo_status moi_replay_check(const mo_replay_desc *desc) {
    if (desc->arena ? desc->block != NULL : desc->size == 0) return MO_E_INVALID;
    if (!moi_is_pow2(desc->granule)) return MO_E_INVALID;
    return desc->max_live <= (size_t)1 << 28 ? MO_OK : MO_E_INVALID;
}

static mo_replay_desc moi_replay_defaults(const mo_replay_desc *desc) {
    mo_replay_desc full = *desc;
    if (full.granule == 0) full.granule = MOI_REPLAY_GRANULE;
    if (full.max_live == 0) full.max_live = MOI_REPLAY_MAX_LIVE;
    if (full.max_plans == 0) full.max_plans = MOI_REPLAY_MAX_PLANS;
    return full;
}

/* Where the range begins: its first byte is aligned to a cache line and the granule, and to a page
 * where the arena has pages. */
static mo_status moi_replay_place_range(mo_replay *replay) {
    mo_arena *arena = replay->desc.arena;
    unsigned char *base = arena ? arena->base : (unsigned char *)replay->desc.block;
    size_t align = moi_max(replay->desc.granule, MOI_CACHE_LINE), used = 0, room, padding;
    replay->size = replay->desc.size;
    replay->max_align = (SIZE_MAX >> 2) + 1;
    if (!base) return MO_OK;
    if (arena && arena->planned) return MO_E_STATE;
    if (arena) used = arena->used, align = moi_max(align, arena->page);
    padding = (size_t)(0 - ((uintptr_t)base + used)) & (align - 1);
    room = (arena ? arena->limit : replay->size) - used;
    if (padding >= room) return MO_E_NO_SPACE;
    if (arena && replay->size > room - padding) return MO_E_NO_SPACE;
    if (!arena || replay->size == 0) replay->size = room - padding;
    replay->start = used + padding;
    replay->memory = base + replay->start;
    replay->max_align = (size_t)((uintptr_t)replay->memory & (0 - (uintptr_t)replay->memory));
    if (!arena) replay->backed = replay->size;
    return MO_OK;
}

static void moi_replay_free_tables(mo_replay *replay) {
    mo_suballoc_free(&replay->sub);
    moi_free_array(
        &replay->allocator, replay->table, replay->table_mask + 1, sizeof *replay->table);
    moi_free_array(&replay->allocator, replay->record, replay->max_record, sizeof *replay->record);
    moi_free_array(
        &replay->allocator, replay->plans, replay->desc.max_plans, sizeof *replay->plans);
}

/* A plan that is left needs two blocks more than there are live ones. */
static mo_status moi_replay_alloc_tables(mo_replay *replay) {
    mo_suballoc_desc sub;
    size_t capacity = 16;
    memset(&sub, 0, sizeof sub);
    sub.size = replay->size;
    sub.granule = replay->desc.granule;
    sub.max_allocs = replay->desc.max_live + 2;
    sub.allocator = &replay->allocator;
    while (capacity < 2 * replay->desc.max_live) capacity *= 2;
    replay->table_mask = capacity - 1;
    replay->table_shift = 64 - (int)moi_suballoc_log2(capacity);
    replay->max_record = MOI_REPLAY_RECORD;
    mo_status status = mo_suballoc_init(&replay->sub, &sub);
    if (status != MO_OK) return status;
    replay->table =
        (moi_replay_block *)moi_alloc_array(&replay->allocator, capacity, sizeof *replay->table);
    replay->record = (moi_replay_item *)moi_alloc_array(
        &replay->allocator, replay->max_record, sizeof *replay->record);
    replay->plans = (moi_replay_plan *)moi_alloc_array(
        &replay->allocator, replay->desc.max_plans, sizeof *replay->plans);
    if (replay->table && replay->record && replay->plans) return MO_OK;
    moi_replay_free_tables(replay);
    return MO_E_NO_MEMORY;
}

mo_status mo_replay_init(mo_replay *replay, const mo_replay_desc *desc) {
    mo_replay made;
    if (!replay || !desc) return MO_E_INVALID;
    memset(&made, 0, sizeof made);
    made.desc = moi_replay_defaults(desc);
    mo_status status = moi_replay_check(&made.desc);
    if (status != MO_OK) return status;
    if (desc->allocator) made.allocator = *desc->allocator;
    made.desc.allocator = NULL;
    status = moi_replay_place_range(&made);
    if (status == MO_OK) status = moi_replay_alloc_tables(&made);
    if (status != MO_OK) return status;
    memset(made.table, 0, (made.table_mask + 1) * sizeof *made.table);
    if (made.desc.arena) made.desc.arena->planned = made.start + made.size;
    else if (made.memory) MOI_POISON(made.memory, made.size);
    *replay = made;
    return MO_OK;
}

static void moi_replay_free_plan(mo_replay *replay, moi_replay_plan *plan) {
    moi_free_array(&replay->allocator, plan->items, plan->n, sizeof *plan->items);
    moi_free_array(&replay->allocator, plan->claims, plan->n + 1, sizeof *plan->claims);
    moi_free_array(&replay->allocator, plan->n_last, plan->n, 4 * sizeof *plan->n_last);
}

/* What the arena holds ends with the range, unless others have allocated behind it. */
static int moi_replay_is_last(const mo_replay *replay) {
    const mo_arena *arena = replay->desc.arena;
    return arena->used >= replay->start && arena->used <= replay->start + replay->size;
}

void mo_replay_free(mo_replay *replay) {
    if (!replay || !replay->table) return;
    mo_arena *arena = replay->desc.arena;
    for (size_t i = 0; i < replay->stats.n_plans; i++)
        moi_replay_free_plan(replay, &replay->plans[i]);
    if (arena) {
        arena->planned = 0;
        if (moi_replay_is_last(replay)) (void)mo_arena_rewind(arena, replay->start);
    } else if (replay->memory) {
        MOI_UNPOISON(replay->memory, replay->size);
    }
    moi_replay_free_tables(replay);
    memset(replay, 0, sizeof *replay);
}

/* ---- memory -------------------------------------------------------------------------------- */

/* Commits the range up to end. */
static mo_status moi_replay_back(mo_replay *replay, size_t end) {
    if (end > replay->step_top) replay->step_top = end;
    if (!replay->memory || end <= replay->backed) return MO_OK;
    size_t more = end - replay->backed;
    void *from = mo_arena_at(replay->desc.arena, replay->start + replay->backed, more);
    if (!from) return MO_E_NO_MEMORY;
    MOI_POISON(from, more);
    replay->backed = end;
    return MO_OK;
}

/* ---- placing a plan ------------------------------------------------------------------------ */

/* Puts the claims of a plan that is placed into the books; none of them when one does not fit. */
static int moi_replay_claim_all(mo_replay *replay, moi_replay_plan *plan) {
    mo_suballoc_block block;
    size_t n = 0, end = 0;
    for (; n < plan->n_claims; n++) {
        moi_replay_claim *claim = &plan->claims[n];
        if (mo_suballoc_alloc_at(&replay->sub, claim->off, claim->size, &block) != MO_OK) break;
        claim->handle = block.handle;
        end = claim->off + claim->size;
    }
    if (n == plan->n_claims && moi_replay_back(replay, end) == MO_OK) return 1;
    while (n > 0) (void)mo_suballoc_dealloc(&replay->sub, plan->claims[--n].handle);
    return 0;
}

/* In one piece, where the sub-allocator has room for that and it ends at or below limit. */
static int moi_replay_place_whole(mo_replay *replay, moi_replay_plan *plan, size_t limit) {
    const uint64_t extent = replay->sub.extent, peak = replay->sub.peak;
    mo_suballoc_block block;
    if (mo_suballoc_alloc(&replay->sub, plan->peak, plan->align, &block) != MO_OK) return 0;
    (void)mo_suballoc_dealloc(&replay->sub, block.handle);
    replay->sub.extent = extent; /* it was only a question */
    replay->sub.peak = peak;
    if (block.off + plan->peak > limit) return 0;
    plan->n_claims = 1;
    plan->claims[0].off = (size_t)block.off;
    plan->claims[0].size = plan->peak;
    for (size_t i = 0; i < plan->n; i++)
        plan->items[i].off = (size_t)block.off + plan->items[i].laid;
    memcpy(plan->placed, plan->order, plan->n_places * sizeof *plan->placed);
    return 1;
}

/* The next offset from at on where a free part of the range takes the item; SIZE_MAX = none. */
static size_t moi_replay_in_free(
    const mo_replay *replay, const moi_replay_item *item, size_t at, mo_suballoc_block *part) {
    size_t begin;
    do {
        if (part->handle == 0 && part->off + part->size > at) {
            begin = moi_max(at, (size_t)part->off);
            if (moi_align_up(begin, (size_t)1 << item->align_log2, &begin) &&
                (uint64_t)begin + item->size <= part->off + part->size)
                return begin;
        }
    } while (mo_suballoc_next(&replay->sub, part));
    return SIZE_MAX;
}

/* The lowest place that is free and that no item placed before takes while this one lives. */
static size_t moi_replay_find_place(
    const mo_replay *replay, const moi_replay_plan *plan, size_t n_placed, uint32_t i) {
    const moi_replay_item *item = &plan->items[i];
    mo_suballoc_block part = {0, 0, 0, 0};
    (void)mo_suballoc_next(&replay->sub, &part);
    size_t at = moi_replay_in_free(replay, item, 0, &part);
    for (size_t k = 0; k < n_placed && at != SIZE_MAX; k++) {
        uint32_t j = plan->placed[k];
        const moi_replay_item *other = &plan->items[j];
        if (other->off >= at + item->size) break;
        if (i > other->last || j > item->last || other->off + other->size <= at) continue;
        at = moi_replay_in_free(replay, item, other->off + other->size, &part);
    }
    return at;
}

/* The claims cover the items and nothing else. */
static void moi_replay_cover(moi_replay_plan *plan) {
    plan->n_claims = 0;
    for (size_t k = 0; k < plan->n_places; k++) {
        const moi_replay_item *item = &plan->items[plan->placed[k]];
        moi_replay_claim *claim = plan->claims + plan->n_claims - (plan->n_claims != 0);
        if (plan->n_claims != 0 && item->off <= claim->off + claim->size) {
            claim->size = moi_max(claim->size, item->off + item->size - claim->off);
            continue;
        }
        claim = &plan->claims[plan->n_claims++];
        claim->off = item->off;
        claim->size = item->size;
    }
}

/* Item by item around what is in use, in the order of the layout, which that repeats where nothing
 * is in the way. */
static int moi_replay_place_around(mo_replay *replay, moi_replay_plan *plan) {
    for (size_t n = 0; n < plan->n_places; n++) {
        uint32_t i = plan->order[n];
        size_t off = moi_replay_find_place(replay, plan, n, i), k = n;
        if (off == SIZE_MAX) return 0;
        plan->items[i].off = off;
        for (; k > 0 && plan->items[plan->placed[k - 1]].off > off; k--)
            plan->placed[k] = plan->placed[k - 1];
        plan->placed[k] = i;
    }
    moi_replay_cover(plan);
    return 1;
}

/* In one piece where that raises nothing, else around what is in use where that ends lower. */
static int moi_replay_choose_place(mo_replay *replay, moi_replay_plan *plan) {
    size_t reserved = (size_t)(replay->sub.extent << replay->sub.shift), end = SIZE_MAX;
    if (moi_replay_place_whole(replay, plan, reserved)) return 1;
    if (moi_replay_place_around(replay, plan)) {
        const moi_replay_claim *last = &plan->claims[plan->n_claims - 1];
        end = last->off + last->size;
        if (end <= reserved) return 1;
    }
    return moi_replay_place_whole(replay, plan, end) || end != SIZE_MAX;
}

static int moi_replay_follow(mo_replay *replay, moi_replay_plan *plan) {
    if (plan->n_places != 0 && plan->epoch != replay->epoch) {
        if (!moi_replay_choose_place(replay, plan)) return 0;
        plan->epoch = replay->epoch;
    }
    if (!moi_replay_claim_all(replay, plan)) return 0;
    memcpy(plan->n_left, plan->n_last, plan->n * sizeof *plan->n_left);
    plan->used_at = replay->clock;
    replay->plan = plan;
    return 1;
}

/* ---- leaving a plan ------------------------------------------------------------------------ */

/* The live block that has the place of a plan's item; NULL = none. */
static moi_replay_block *moi_replay_in_place(const mo_replay *replay, uint32_t slot) {
    moi_replay_block *block = moi_replay_find(replay, replay->plan->items[slot].off);
    return block && block->handle == 0 && block->slot == slot ? block : NULL;
}

/* max_allocs leaves room for this. */
static void moi_replay_split(
    mo_replay *replay, uint64_t handle, uint64_t size, mo_suballoc_block *rest) {
    mo_status status = mo_suballoc_split(&replay->sub, handle, size, rest);
    MEMOPT_ASSERT(status == MO_OK);
    (void)status;
}

/* Cuts off and frees the first size bytes. */
static uint64_t moi_replay_drop_front(mo_replay *replay, uint64_t handle, uint64_t size) {
    mo_suballoc_block rest;
    if (size == 0) return handle;
    moi_replay_split(replay, handle, size, &rest);
    (void)mo_suballoc_dealloc(&replay->sub, handle);
    return rest.handle;
}

/* Live blocks in a claim become blocks of their own; k walks over the places by offset. */
static void moi_replay_release_claim(mo_replay *replay, const moi_replay_claim *claim, size_t *k) {
    const moi_replay_plan *plan = replay->plan;
    uint64_t handle = claim->handle;
    size_t at = claim->off, end = claim->off + claim->size, size = 0;
    for (; replay->n_planned > 0 && *k < plan->n_places; ++*k) {
        if (plan->items[plan->placed[*k]].off >= end) break;
        moi_replay_block *block = moi_replay_in_place(replay, plan->placed[*k]);
        if (!block) continue;
        mo_suballoc_block rest = {0, 0, 0, 0};
        handle = moi_replay_drop_front(replay, handle, block->off - at);
        (void)moi_align_up((size_t)block->size, replay->desc.granule, &size);
        at = (size_t)block->off + size;
        if (at < end) moi_replay_split(replay, handle, size, &rest);
        block->handle = handle;
        handle = rest.handle;
        replay->n_planned--;
    }
    if (handle) (void)mo_suballoc_dealloc(&replay->sub, handle);
}

/* Claims without a live block go at once, so that max_allocs leaves room to cut the others. */
static void moi_replay_release_empty(mo_replay *replay) {
    moi_replay_plan *plan = replay->plan;
    for (size_t i = 0, k = 0; i < plan->n_claims; i++) {
        moi_replay_claim *claim = &plan->claims[i];
        int has_live = 0;
        for (; replay->n_planned > 0 && k < plan->n_places; k++) {
            if (plan->items[plan->placed[k]].off >= claim->off + claim->size) break;
            has_live |= moi_replay_in_place(replay, plan->placed[k]) != NULL;
        }
        if (has_live) continue;
        (void)mo_suballoc_dealloc(&replay->sub, claim->handle);
        claim->handle = 0;
    }
}

/* The plan is no longer followed. */
static void moi_replay_release(mo_replay *replay) {
    moi_replay_plan *plan = replay->plan;
    size_t k = 0;
    moi_replay_release_empty(replay);
    for (size_t i = 0; i < plan->n_claims; i++)
        if (plan->claims[i].handle) moi_replay_release_claim(replay, &plan->claims[i], &k);
    MEMOPT_ASSERT(replay->n_planned == 0);
    replay->plan = NULL;
}

static void moi_replay_leave(mo_replay *replay) {
    moi_replay_release(replay);
    replay->has_left = 1;
}

/* ---- making a plan ------------------------------------------------------------------------- */

static moi_replay_plan *moi_replay_plan_of(const mo_replay *replay, uint64_t key) {
    for (size_t i = 0; i < replay->stats.n_plans; i++)
        if (replay->plans[i].key == key) return &replay->plans[i];
    return NULL;
}

/* Its own, or that of the largest key above it. */
static moi_replay_plan *moi_replay_choose(const mo_replay *replay, uint64_t key) {
    moi_replay_plan *plan = moi_replay_plan_of(replay, key);
    if (plan || !replay->desc.ordered_keys) return plan;
    for (size_t i = 0; i < replay->stats.n_plans; i++) {
        moi_replay_plan *other = &replay->plans[i];
        if (other->key > key && (!plan || other->key > plan->key)) plan = other;
    }
    return plan;
}

/* A place for a plan with this key: that of the old one, a new one, or the one longest unused. */
static moi_replay_plan *moi_replay_new_plan(mo_replay *replay, uint64_t key) {
    moi_replay_plan *plan = moi_replay_plan_of(replay, key);
    if (!plan && replay->stats.n_plans < replay->desc.max_plans)
        return &replay->plans[replay->stats.n_plans++];
    if (!plan) {
        plan = replay->plans;
        for (size_t i = 1; i < replay->stats.n_plans; i++)
            if (replay->plans[i].used_at < plan->used_at) plan = &replay->plans[i];
    }
    moi_replay_free_plan(replay, plan);
    return plan;
}

/* What is needed while a plan is made. */
typedef struct moi_replay_work {
    mo_layout_item *items; /* [n] */
    size_t *offsets;       /* [n] */
    moi_layout_key *keys;  /* [n] */
} moi_replay_work;

static mo_status moi_replay_alloc_plan(
    mo_replay *replay, moi_replay_plan *plan, moi_replay_work *work) {
    const mo_allocator *allocator = &replay->allocator;
    size_t n = replay->n_record;
    memset(plan, 0, sizeof *plan);
    plan->n = n;
    plan->items = (moi_replay_item *)moi_alloc_array(allocator, n, sizeof *plan->items);
    plan->claims = (moi_replay_claim *)moi_alloc_array(allocator, n + 1, sizeof *plan->claims);
    plan->n_last = (uint32_t *)moi_alloc_array(allocator, n, 4 * sizeof *plan->n_last);
    work->items = (mo_layout_item *)moi_alloc_array(allocator, n, sizeof *work->items);
    work->offsets = (size_t *)moi_alloc_array(allocator, n, sizeof *work->offsets);
    work->keys = (moi_layout_key *)moi_alloc_array(allocator, n, sizeof *work->keys);
    if (!plan->items || !plan->claims || !plan->n_last) return MO_E_NO_MEMORY;
    if (!work->items || !work->offsets || !work->keys) return MO_E_NO_MEMORY;
    plan->n_left = plan->n_last + n;
    plan->order = plan->n_left + n;
    plan->placed = plan->order + n;
    return MO_OK;
}

static void moi_replay_free_work(mo_replay *replay, moi_replay_work *work, size_t n) {
    moi_free_array(&replay->allocator, work->items, n, sizeof *work->items);
    moi_free_array(&replay->allocator, work->offsets, n, sizeof *work->offsets);
    moi_free_array(&replay->allocator, work->keys, n, sizeof *work->keys);
}

/* The record as items of the plan and of the layout. */
static void moi_replay_copy_record(
    const mo_replay *replay, moi_replay_plan *plan, moi_replay_work *work) {
    memcpy(plan->items, replay->record, plan->n * sizeof *plan->items);
    memset(plan->n_last, 0, plan->n * sizeof *plan->n_last);
    plan->align = replay->desc.granule;
    for (size_t i = 0; i < plan->n; i++) {
        const moi_replay_item *item = &plan->items[i];
        mo_layout_item laid = {item->size, (size_t)1 << item->align_log2, i, item->last};
        if (item->outlives) laid.size = 0, laid.last = i;
        else plan->n_last[item->last]++, plan->align = moi_max(plan->align, laid.align);
        work->items[i] = laid;
    }
}

/* What the layout has found. */
static void moi_replay_take_layout(
    moi_replay_plan *plan, const moi_replay_work *work, size_t peak) {
    plan->peak = peak;
    for (size_t i = 0; i < plan->n; i++) {
        plan->items[i].laid = work->offsets[i];
        if (plan->items[i].outlives) continue;
        moi_layout_key key = {work->offsets[i], i, i};
        work->keys[plan->n_places++] = key;
    }
    moi_layout_sort(work->keys, plan->n_places);
    for (size_t k = 0; k < plan->n_places; k++) plan->order[k] = (uint32_t)work->keys[k].index;
}

/* A plan of the record, in the place of an older one only when all went well. */
static mo_status moi_replay_learn(mo_replay *replay) {
    moi_replay_plan plan;
    moi_replay_work work;
    mo_layout_desc layout = replay->desc.layout;
    mo_layout_result result;
    if (!layout.allocator) layout.allocator = &replay->allocator;
    if (!replay->is_complete) return MO_E_NO_MEMORY;
    if (replay->n_record == 0) return MO_OK;
    mo_status status = moi_replay_alloc_plan(replay, &plan, &work);
    if (status == MO_OK) {
        moi_replay_copy_record(replay, &plan, &work);
        status = mo_layout_solve(&layout, work.items, plan.n, work.offsets, &result);
    }
    if (status == MO_OK) moi_replay_take_layout(&plan, &work, result.peak);
    moi_replay_free_work(replay, &work, plan.n);
    if (status != MO_OK) {
        moi_replay_free_plan(replay, &plan);
        return status;
    }
    plan.key = replay->key;
    plan.used_at = replay->clock;
    plan.epoch = replay->epoch - 1;
    *moi_replay_new_plan(replay, plan.key) = plan;
    replay->stats.n_layouts++;
    return MO_OK;
}

/* ---- the record ---------------------------------------------------------------------------- */

static int moi_replay_grow_record(mo_replay *replay) {
    size_t n = replay->max_record;
    if (n > MOI_REPLAY_NONE / 2) return 0;
    moi_replay_item *more =
        (moi_replay_item *)moi_alloc_array(&replay->allocator, 2 * n, sizeof *more);
    if (!more) return 0;
    memcpy(more, replay->record, n * sizeof *more);
    moi_free_array(&replay->allocator, replay->record, n, sizeof *more);
    replay->record = more;
    replay->max_record = 2 * n;
    return 1;
}

/* Its number in the record; NONE when that cannot grow: the step then ends without a plan. */
static uint32_t moi_replay_write(mo_replay *replay, size_t off, size_t size, unsigned align_log2) {
    if (!replay->in_step || !replay->is_complete) return MOI_REPLAY_NONE;
    if (replay->n_record == replay->max_record && !moi_replay_grow_record(replay)) {
        replay->is_complete = 0;
        return MOI_REPLAY_NONE;
    }
    moi_replay_item *item = &replay->record[replay->n_record];
    item->size = size;
    item->off = off;
    item->laid = 0;
    item->last = MOI_REPLAY_NONE;
    item->align_log2 = (uint8_t)align_log2;
    item->outlives = 0;
    return (uint32_t)replay->n_record++;
}

/* ---- steps --------------------------------------------------------------------------------- */

static size_t moi_replay_top(const mo_replay *replay) {
    mo_suballoc_stats stats;
    mo_suballoc_get_stats(&replay->sub, &stats);
    return (size_t)stats.top_bytes;
}

mo_status mo_replay_begin_step(mo_replay *replay, uint64_t key) {
    if (replay->in_step) return MO_E_STATE;
    replay->in_step = replay->is_complete = 1;
    replay->has_left = 0;
    replay->key = key;
    replay->clock++;
    replay->n_record = replay->at = 0;
    replay->step_top = moi_replay_top(replay);
    moi_replay_plan *plan = moi_replay_choose(replay, key);
    if (!plan || !moi_replay_follow(replay, plan)) replay->stats.n_misses++;
    return MO_OK;
}

/* Blocks that are still live are of no step from now on. Returns whether the plan had some. */
static int moi_replay_end_blocks(mo_replay *replay) {
    int planned = replay->n_planned > 0, any = !replay->is_complete;
    for (size_t i = 0; i < replay->n_record; i++) {
        moi_replay_item *item = &replay->record[i];
        if (item->last != MOI_REPLAY_NONE) continue;
        moi_replay_find(replay, item->off)->item = MOI_REPLAY_NONE;
        item->outlives = 1;
        any = 1;
    }
    if (any) replay->epoch++;
    return planned;
}

mo_status mo_replay_end_step(mo_replay *replay) {
    if (!replay->in_step) return MO_E_STATE;
    int outlived = moi_replay_end_blocks(replay), followed = replay->plan != NULL;
    replay->in_step = 0;
    if (followed) moi_replay_release(replay);
    if (followed && !outlived) {
        replay->stats.n_hits++;
        if (replay->step_top > replay->stats.replayed_bytes)
            replay->stats.replayed_bytes = replay->step_top;
        return MO_OK;
    }
    if (followed || replay->has_left) replay->stats.n_fallbacks++;
    return moi_replay_learn(replay);
}

/* ---- lifetimes that are known ---------------------------------------------------------------- */

/* The number of items that begin at or before step. */
static size_t moi_replay_begun(const mo_layout_item *items, size_t n, size_t step) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (items[middle].first <= step) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Writes item i as if it had been recorded. */
static mo_status moi_replay_write_known(
    mo_replay *replay, const mo_layout_item *items, size_t n, size_t i) {
    size_t align = moi_max(items[i].align, replay->desc.granule), size;
    if (items[i].size == 0 || items[i].first > items[i].last) return MO_E_INVALID;
    if (i > 0 && items[i].first < items[i - 1].first) return MO_E_INVALID;
    if (!moi_is_pow2(align) || align > replay->max_align) return MO_E_INVALID;
    if (!moi_align_up(items[i].size, replay->desc.granule, &size)) return MO_E_OVERFLOW;
    uint32_t at = moi_replay_write(replay, 0, size, moi_suballoc_log2(align));
    if (at == MOI_REPLAY_NONE) return MO_E_NO_MEMORY;
    replay->record[at].last = (uint32_t)moi_replay_begun(items, n, items[i].last) - 1;
    return MO_OK;
}

mo_status mo_replay_add_plan(
    mo_replay *replay, uint64_t key, const mo_layout_item *items, size_t n) {
    mo_status status = MO_OK;
    if (!items || n == 0) return MO_E_INVALID;
    if (replay->in_step) return MO_E_STATE;
    replay->in_step = replay->is_complete = 1; /* the record is only written in steps */
    replay->n_record = 0;
    for (size_t i = 0; status == MO_OK && i < n; i++)
        status = moi_replay_write_known(replay, items, n, i);
    replay->in_step = 0;
    replay->key = key;
    return status == MO_OK ? moi_replay_learn(replay) : status;
}

/* ---- blocks -------------------------------------------------------------------------------- */

/* The plan's item for the next allocation; NONE = that is not as planned. What outlived its step
 * once need not come again. */
static uint32_t moi_replay_next(const mo_replay *replay, size_t size, unsigned align_log2) {
    const moi_replay_plan *plan = replay->plan;
    for (size_t i = replay->at; i < plan->n; i++) {
        const moi_replay_item *item = &plan->items[i];
        if (i > 0 && plan->n_left[i - 1] != 0) return MOI_REPLAY_NONE;
        if (item->outlives) {
            if (item->size == size && item->align_log2 == align_log2) return (uint32_t)i;
            continue;
        }
        return size <= item->size && align_log2 <= item->align_log2 ? (uint32_t)i : MOI_REPLAY_NONE;
    }
    return MOI_REPLAY_NONE;
}

/* From the sub-allocator. A plan is left rather than that the space is not enough. */
static mo_status moi_replay_take(
    mo_replay *replay, size_t size, size_t align, moi_replay_block *block) {
    mo_suballoc_block got;
    mo_status status = mo_suballoc_alloc(&replay->sub, size, align, &got);
    if (status == MO_E_NO_SPACE && replay->plan) {
        moi_replay_leave(replay);
        status = mo_suballoc_alloc(&replay->sub, size, align, &got);
    }
    if (status != MO_OK) return status;
    status = moi_replay_back(replay, (size_t)(got.off + got.size));
    if (status != MO_OK) {
        (void)mo_suballoc_dealloc(&replay->sub, got.handle);
        return status;
    }
    block->off = got.off;
    block->handle = got.handle;
    return MO_OK;
}

/* From the plan when the item has a place there. */
static mo_status moi_replay_serve(
    mo_replay *replay, size_t size, size_t align, moi_replay_block *block) {
    block->handle = 0;
    if (replay->plan) {
        block->slot = moi_replay_next(replay, size, moi_suballoc_log2(align));
        if (block->slot == MOI_REPLAY_NONE) {
            moi_replay_leave(replay);
        } else {
            replay->at = (size_t)block->slot + 1;
            const moi_replay_item *item = &replay->plan->items[block->slot];
            if (!item->outlives) {
                block->off = item->off;
                replay->n_planned++;
                return MO_OK;
            }
        }
    }
    return moi_replay_take(replay, size, align, block);
}

mo_status mo_replay_alloc(mo_replay *replay, size_t size, size_t align, size_t *off) {
    moi_replay_block block;
    size_t rounded;
    if (align < replay->desc.granule) align = align & (align - 1) ? 0 : replay->desc.granule;
    if (!off || size == 0 || !moi_is_pow2(align) || align > replay->max_align) return MO_E_INVALID;
    if (!moi_align_up(size, replay->desc.granule, &rounded)) return MO_E_NO_SPACE;
    if (replay->n_live == replay->desc.max_live) return MO_E_NO_SPACE;
    mo_status status = moi_replay_serve(replay, rounded, align, &block);
    if (status != MO_OK) return status;
    block.size = size;
    block.item = moi_replay_write(replay, (size_t)block.off, rounded, moi_suballoc_log2(align));
    if (!replay->in_step) replay->epoch++;
    moi_replay_insert(replay, &block);
    if (replay->memory) MOI_UNPOISON(replay->memory + block.off, size);
    *off = (size_t)block.off;
    return MO_OK;
}

mo_status mo_replay_dealloc(mo_replay *replay, size_t off) {
    moi_replay_block *block = moi_replay_find(replay, off);
    if (!block) return MO_E_INVALID;
    if (block->item == MOI_REPLAY_NONE) replay->epoch++;
    else replay->record[block->item].last = (uint32_t)replay->n_record - 1;
    if (block->handle) {
        (void)mo_suballoc_dealloc(&replay->sub, block->handle);
    } else {
        replay->plan->n_left[replay->plan->items[block->slot].last]--;
        replay->n_planned--;
    }
    if (replay->memory) MOI_POISON(replay->memory + off, (size_t)block->size);
    moi_replay_erase(replay, block);
    return MO_OK;
}

static void *moi_replay_alloc_hook(void *self, size_t size, size_t align) {
    mo_replay *replay = (mo_replay *)self;
    size_t off;
    if (!replay->memory || mo_replay_alloc(replay, size, align, &off) != MO_OK) return NULL;
    return replay->memory + off;
}

static void moi_replay_free_hook(void *self, void *ptr, size_t size, size_t align) {
    mo_replay *replay = (mo_replay *)self;
    size_t off = (size_t)((uintptr_t)ptr - (uintptr_t)replay->memory);
    mo_status status = mo_replay_dealloc(replay, off);
    (void)size, (void)align;
    MEMOPT_ASSERT(status == MO_OK);
    (void)status;
}

mo_allocator mo_replay_allocator(mo_replay *replay) {
    mo_allocator allocator;
    allocator.alloc = moi_replay_alloc_hook;
    allocator.free = moi_replay_free_hook;
    allocator.self = replay;
    return allocator;
}

/* ---- memory given back, figures ------------------------------------------------------------ */

void mo_replay_trim(mo_replay *replay) {
    mo_arena *arena = replay->desc.arena;
    size_t top = moi_replay_top(replay), keep = top;
    if (!arena || replay->in_step || !moi_replay_is_last(replay)) return;
    for (size_t i = 0; i < replay->stats.n_plans; i++) {
        const moi_replay_plan *plan = &replay->plans[i];
        const moi_replay_claim *last = plan->claims + plan->n_claims - (plan->n_claims != 0);
        size_t end = top + plan->peak; /* where it would go at most */
        if (plan->epoch == replay->epoch && plan->n_claims) end = last->off + last->size;
        keep = moi_max(keep, end);
    }
    if (keep >= replay->backed) return;
    (void)mo_arena_rewind(arena, replay->start + keep);
    mo_arena_trim(arena);
    replay->backed = keep;
}

void mo_replay_get_stats(const mo_replay *replay, mo_replay_stats *stats) {
    *stats = replay->stats;
    stats->n_live = replay->n_live;
    stats->reserved_bytes = (size_t)(replay->sub.extent << replay->sub.shift);
}

#undef MOI_REPLAY_NONE
