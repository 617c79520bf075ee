/* mo_suballoc.c - see mo_suballoc.h.
 *
 * TLSF's two levels of bins and bitmaps (Masmano et al. 2004), with the books in an array of nodes
 * outside the range. Taking the best block of the bin, and looking into the bin that the size
 * rounds down into as well, gives the packing of an exact best fit; measured on training traces it
 * needs 1.01-1.12 times the live bytes where plain TLSF needs 1.06-1.20. Nodes: neighbours by
 * address form one list, free ones of a bin another. Two free parts are never neighbours, so
 * 2 * max_allocs + 1 nodes are enough for any max_allocs blocks. */

#define MOI_SUBALLOC_NONE 0xffffffffu
enum { MOI_SUBALLOC_ROWS = 64, MOI_SUBALLOC_COLUMNS = 32, MOI_SUBALLOC_N_BINS = 64 * 32 };
enum { MOI_SUBALLOC_SCAN = 64, MOI_SUBALLOC_MAX_ALLOCS = 65536, MOI_SUBALLOC_GRANULE = 256 };
static const uint64_t moi_suballoc_limit = (uint64_t)1 << 62;

/* Offsets and sizes in granules. */
typedef struct moi_suballoc_node {
    uint64_t off, size;
    uint32_t prev, next;         /* neighbours by address */
    uint32_t bin_prev, bin_next; /* in the bin while free; or bin_next: nodes without a part */
    uint32_t generation;         /* grows with every allocation of this node, never 0 then */
    uint8_t used, align_log2;
} moi_suballoc_node;

typedef struct moi_suballoc_bins {
    uint64_t rows;                       /* bit i: row i has a part */
    uint32_t columns[MOI_SUBALLOC_ROWS]; /* bit j: bin [i][j] has a part */
    uint32_t heads[MOI_SUBALLOC_N_BINS];
} moi_suballoc_bins;

/* What a free part must offer: size granules from a multiple of mask + 1. */
typedef struct moi_suballoc_need {
    uint64_t size, mask;
    uint32_t scan; /* parts of a bin to look at */
} moi_suballoc_need;

/* ---- bits ---------------------------------------------------------------------------------- */

#if defined(__GNUC__) || defined(__clang__)
static unsigned moi_suballoc_log2(uint64_t x) { return 63u - (unsigned)__builtin_clzll(x); }
#else
static unsigned moi_suballoc_log2(uint64_t x) {
    unsigned log = 0;
    for (unsigned step = 32; step; step /= 2)
        if (x >> step) x >>= step, log += step;
    return log;
}
#endif

static unsigned moi_suballoc_lowest(uint64_t x) { return moi_suballoc_log2(x & (0 - x)); }

/* 32 bins to a power of two, so below 64 granules every size has its own. */
static unsigned moi_suballoc_bin(uint64_t size) {
    if (size < MOI_SUBALLOC_COLUMNS) return (unsigned)size;
    unsigned log = moi_suballoc_log2(size);
    return (log - 4) * MOI_SUBALLOC_COLUMNS + (unsigned)((size >> (log - 5)) & 31);
}

/* The first bin from here on that has a part; N_BINS when there is none. */
static unsigned moi_suballoc_next_bin(const moi_suballoc_bins *bins, unsigned from) {
    unsigned row = from / MOI_SUBALLOC_COLUMNS;
    if (from >= MOI_SUBALLOC_N_BINS) return MOI_SUBALLOC_N_BINS;
    uint32_t columns = bins->columns[row] & (0xffffffffu << (from % MOI_SUBALLOC_COLUMNS));
    if (!columns) {
        uint64_t rows = bins->rows & (UINT64_MAX << row << 1);
        if (!rows) return MOI_SUBALLOC_N_BINS;
        row = moi_suballoc_lowest(rows);
        columns = bins->columns[row];
    }
    return row * MOI_SUBALLOC_COLUMNS + moi_suballoc_lowest(columns);
}

/* ---- the lists ----------------------------------------------------------------------------- */

static void moi_suballoc_put(mo_suballoc *sub, uint32_t i) {
    moi_suballoc_node *node = &sub->nodes[i];
    moi_suballoc_bins *bins = sub->bins;
    unsigned bin = moi_suballoc_bin(node->size), row = bin / MOI_SUBALLOC_COLUMNS;
    node->used = 0;
    node->bin_prev = MOI_SUBALLOC_NONE;
    node->bin_next = bins->heads[bin];
    if (node->bin_next != MOI_SUBALLOC_NONE) sub->nodes[node->bin_next].bin_prev = i;
    bins->heads[bin] = i;
    bins->columns[row] |= 1u << (bin % MOI_SUBALLOC_COLUMNS);
    bins->rows |= (uint64_t)1 << row;
    sub->n_free++;
}

static void moi_suballoc_unput(mo_suballoc *sub, uint32_t i) {
    moi_suballoc_node *node = &sub->nodes[i];
    moi_suballoc_bins *bins = sub->bins;
    sub->n_free--;
    if (node->bin_next != MOI_SUBALLOC_NONE) sub->nodes[node->bin_next].bin_prev = node->bin_prev;
    if (node->bin_prev != MOI_SUBALLOC_NONE) {
        sub->nodes[node->bin_prev].bin_next = node->bin_next;
        return;
    }
    unsigned bin = moi_suballoc_bin(node->size), row = bin / MOI_SUBALLOC_COLUMNS;
    bins->heads[bin] = node->bin_next;
    if (node->bin_next != MOI_SUBALLOC_NONE) return;
    bins->columns[row] &= ~(1u << (bin % MOI_SUBALLOC_COLUMNS));
    if (!bins->columns[row]) bins->rows &= ~((uint64_t)1 << row);
}

/* A node that no part uses. Nodes are first used in order, which touches memory only as needed. */
static uint32_t moi_suballoc_new_node(mo_suballoc *sub) {
    uint32_t i = sub->free_node;
    if (i != MOI_SUBALLOC_NONE) {
        sub->free_node = sub->nodes[i].bin_next;
        return i;
    }
    MEMOPT_ASSERT(sub->n_nodes < sub->max_nodes);
    i = sub->n_nodes++;
    memset(&sub->nodes[i], 0, sizeof sub->nodes[i]);
    return i;
}

/* Takes a node out of the address order and keeps it for later. */
static void moi_suballoc_drop_node(mo_suballoc *sub, uint32_t i) {
    moi_suballoc_node *node = &sub->nodes[i];
    if (node->prev != MOI_SUBALLOC_NONE) sub->nodes[node->prev].next = node->next;
    else sub->first = node->next;
    if (node->next != MOI_SUBALLOC_NONE) sub->nodes[node->next].prev = node->prev;
    else sub->last = node->prev;
    node->used = 0;
    node->bin_next = sub->free_node;
    sub->free_node = i;
}

/* A new node for [off, off + size) behind node i, in no bin yet. */
static uint32_t moi_suballoc_add_node(mo_suballoc *sub, uint32_t i, uint64_t off, uint64_t size) {
    uint32_t added = moi_suballoc_new_node(sub);
    moi_suballoc_node *node = &sub->nodes[i], *after = &sub->nodes[added];
    after->off = off;
    after->size = size;
    after->prev = i;
    after->next = node->next;
    if (node->next != MOI_SUBALLOC_NONE) sub->nodes[node->next].prev = added;
    else sub->last = added;
    node->next = added;
    return added;
}

static int moi_suballoc_is_free(const mo_suballoc *sub, uint32_t i) {
    return i != MOI_SUBALLOC_NONE && !sub->nodes[i].used;
}

/* ---- start and end ------------------------------------------------------------------------- */

static mo_suballoc_desc moi_suballoc_defaults(const mo_suballoc_desc *desc) {
    mo_suballoc_desc full = *desc;
    if (full.granule == 0) full.granule = MOI_SUBALLOC_GRANULE;
    if (full.max_allocs == 0) full.max_allocs = MOI_SUBALLOC_MAX_ALLOCS;
    return full;
}

static mo_status moi_suballoc_check(const mo_suballoc_desc *full) {
    if ((full->granule & (full->granule - 1)) != 0) return MO_E_INVALID;
    if (full->size < full->granule || full->size > moi_suballoc_limit) return MO_E_INVALID;
    return full->max_allocs <= (size_t)1 << 30 ? MO_OK : MO_E_INVALID;
}

mo_status mo_suballoc_workspace_size(const mo_suballoc_desc *desc, size_t *size) {
    size_t bytes;
    if (!desc || !size) return MO_E_INVALID;
    mo_suballoc_desc full = moi_suballoc_defaults(desc);
    mo_status status = moi_suballoc_check(&full);
    if (status != MO_OK) return status;
    if (!moi_mul(2 * full.max_allocs + 1, sizeof(moi_suballoc_node), &bytes) ||
        !moi_add(bytes, sizeof(moi_suballoc_bins) + 2 * MOI_CACHE_LINE, &bytes))
        return MO_E_OVERFLOW;
    *size = bytes;
    return MO_OK;
}

/* One free part; what nodes remember of their generation makes old handles stale. */
void mo_suballoc_reset(mo_suballoc *sub) {
    memset(sub->bins, 0, sizeof *sub->bins);
    memset(sub->bins->heads, 0xff, sizeof sub->bins->heads);
    sub->free_node = MOI_SUBALLOC_NONE;
    for (uint32_t i = sub->n_nodes; i-- > 0;) {
        sub->nodes[i].used = 0;
        sub->nodes[i].bin_next = sub->free_node;
        sub->free_node = i;
    }
    sub->n_allocs = sub->n_free = 0;
    sub->used = 0;
    sub->n_changes++;
    sub->first = sub->last = moi_suballoc_new_node(sub);
    moi_suballoc_node *all = &sub->nodes[sub->first];
    all->off = 0;
    all->size = sub->size;
    all->prev = all->next = MOI_SUBALLOC_NONE;
    moi_suballoc_put(sub, sub->first);
}

mo_status mo_suballoc_init(mo_suballoc *sub, const mo_suballoc_desc *desc) {
    mo_suballoc made;
    size_t size;
    if (!sub) return MO_E_INVALID;
    mo_status status = mo_suballoc_workspace_size(desc, &size);
    if (status != MO_OK) return status;
    mo_suballoc_desc full = moi_suballoc_defaults(desc);
    memset(&made, 0, sizeof made);
    if (full.allocator) made.allocator = *full.allocator;
    made.workspace_size = size;
    made.shift = (int)moi_suballoc_log2(full.granule);
    made.size = full.size >> made.shift;
    made.max_allocs = (uint32_t)full.max_allocs;
    made.max_nodes = 2 * made.max_allocs + 1;
    if (!full.workspace) made.workspace = mo_alloc(&made.allocator, size, MOI_CACHE_LINE);
    void *memory = full.workspace ? full.workspace : made.workspace;
    if (!memory) return MO_E_NO_MEMORY;
    unsigned char *base = (unsigned char *)memory;
    base += (size_t)(0 - (uintptr_t)base) & (MOI_CACHE_LINE - 1);
    made.nodes = (moi_suballoc_node *)(void *)base;
    made.bins = (moi_suballoc_bins *)(void *)(made.nodes + made.max_nodes);
    mo_suballoc_reset(&made);
    *sub = made;
    return MO_OK;
}

void mo_suballoc_free(mo_suballoc *sub) {
    if (!sub || !sub->nodes) return;
    mo_free(&sub->allocator, sub->workspace, sub->workspace_size, MOI_CACHE_LINE);
    memset(sub, 0, sizeof *sub);
}

/* ---- allocation ---------------------------------------------------------------------------- */

static uint64_t moi_suballoc_padding(const moi_suballoc_node *node, uint64_t mask) {
    return (0 - node->off) & mask;
}

/* The smallest part of a bin that is enough, of equal ones the lowest. */
static uint32_t moi_suballoc_best(
    const mo_suballoc *sub, unsigned bin, const moi_suballoc_need *need) {
    uint32_t best = MOI_SUBALLOC_NONE, left = need->scan;
    uint64_t best_size = UINT64_MAX, best_off = UINT64_MAX;
    for (uint32_t i = sub->bins->heads[bin]; i != MOI_SUBALLOC_NONE && left; left--) {
        const moi_suballoc_node *node = &sub->nodes[i];
        uint64_t wanted = need->size + moi_suballoc_padding(node, need->mask);
        if (node->size >= wanted &&
            (node->size < best_size || (node->size == best_size && node->off < best_off))) {
            best = i;
            best_size = node->size;
            best_off = node->off;
        }
        i = node->bin_next;
    }
    return best;
}

/* Without a strict alignment the first bin above the size's own always has a part that fits. */
static uint32_t moi_suballoc_find(const mo_suballoc *sub, const moi_suballoc_need *need) {
    unsigned bin = moi_suballoc_next_bin(sub->bins, moi_suballoc_bin(need->size));
    for (; bin < MOI_SUBALLOC_N_BINS; bin = moi_suballoc_next_bin(sub->bins, bin + 1)) {
        uint32_t best = moi_suballoc_best(sub, bin, need);
        if (best != MOI_SUBALLOC_NONE) return best;
    }
    return MOI_SUBALLOC_NONE;
}

/* Cuts node i, which is in no bin, at size; the rest becomes a free part. */
static void moi_suballoc_cut(mo_suballoc *sub, uint32_t i, uint64_t size) {
    moi_suballoc_node *node = &sub->nodes[i];
    if (node->size == size) return;
    uint32_t rest = moi_suballoc_add_node(sub, i, node->off + size, node->size - size);
    node->size = size;
    moi_suballoc_put(sub, rest);
}

/* Skips padding at the begin of node i, which stays behind as a free part. */
static uint32_t moi_suballoc_skip(mo_suballoc *sub, uint32_t i, uint64_t padding) {
    moi_suballoc_node *node = &sub->nodes[i];
    if (padding == 0) return i;
    uint32_t rest = moi_suballoc_add_node(sub, i, node->off + padding, node->size - padding);
    node->size = padding;
    moi_suballoc_put(sub, i);
    return rest;
}

static void moi_suballoc_show(const mo_suballoc *sub, uint32_t i, mo_suballoc_block *block) {
    const moi_suballoc_node *node = &sub->nodes[i];
    block->handle = node->used ? (uint64_t)node->generation << 32 | i : 0;
    block->off = node->off << sub->shift;
    block->size = node->size << sub->shift;
    block->position = i + 1;
}

static void moi_suballoc_use(mo_suballoc *sub, uint32_t i, uint64_t mask) {
    moi_suballoc_node *node = &sub->nodes[i];
    if (++node->generation == 0) node->generation = 1;
    node->used = 1;
    node->align_log2 = (uint8_t)(mask ? moi_suballoc_log2(mask) + 1 : 0);
    sub->n_allocs++;
    sub->n_changes++;
    sub->used += node->size;
    if (sub->used > sub->peak) sub->peak = sub->used;
    if (node->off + node->size > sub->extent) sub->extent = node->off + node->size;
}

mo_status mo_suballoc_alloc(
    mo_suballoc *sub, uint64_t size, uint64_t align, mo_suballoc_block *block) {
    moi_suballoc_need need;
    uint64_t granule = (uint64_t)1 << sub->shift;
    if (align < granule) align = align & (align - 1) ? 0 : granule;
    if (size == 0 || align == 0 || (align & (align - 1)) != 0) return MO_E_INVALID;
    if (!block || align > moi_suballoc_limit) return MO_E_INVALID;
    if (size > sub->size << sub->shift || sub->n_allocs == sub->max_allocs) return MO_E_NO_SPACE;
    need.size = (size + granule - 1) >> sub->shift;
    need.mask = (align >> sub->shift) - 1;
    need.scan = MOI_SUBALLOC_SCAN;
    uint32_t i = moi_suballoc_find(sub, &need);
    if (i == MOI_SUBALLOC_NONE) { /* before failing, look at all parts of the crowded bins */
        need.scan = UINT32_MAX;
        i = moi_suballoc_find(sub, &need);
        if (i == MOI_SUBALLOC_NONE) return MO_E_NO_SPACE;
    }
    moi_suballoc_unput(sub, i);
    i = moi_suballoc_skip(sub, i, moi_suballoc_padding(&sub->nodes[i], need.mask));
    moi_suballoc_cut(sub, i, need.size);
    moi_suballoc_use(sub, i, need.mask);
    moi_suballoc_show(sub, i, block);
    return MO_OK;
}

/* The node of a handle; NONE when it is stale. */
static uint32_t moi_suballoc_lookup(const mo_suballoc *sub, uint64_t handle) {
    uint32_t i = (uint32_t)handle;
    if (i >= sub->n_nodes || !sub->nodes[i].used) return MOI_SUBALLOC_NONE;
    return sub->nodes[i].generation == (uint32_t)(handle >> 32) ? i : MOI_SUBALLOC_NONE;
}

/* The part that granule off lies in, from both ends of the address order at once. */
static uint32_t moi_suballoc_part_at(const mo_suballoc *sub, uint64_t off) {
    uint32_t low = sub->first, high = sub->last;
    for (;;) {
        if (sub->nodes[low].off + sub->nodes[low].size > off) return low;
        if (sub->nodes[high].off <= off) return high;
        low = sub->nodes[low].next;
        high = sub->nodes[high].prev;
    }
}

mo_status mo_suballoc_alloc_at(
    mo_suballoc *sub, uint64_t off, uint64_t size, mo_suballoc_block *block) {
    uint64_t granule = (uint64_t)1 << sub->shift, range = sub->size << sub->shift;
    if (!block || size == 0 || (off & (granule - 1)) != 0) return MO_E_INVALID;
    if (off >= range || size > range - off) return MO_E_NO_SPACE;
    if (sub->n_allocs == sub->max_allocs) return MO_E_NO_SPACE;
    off >>= sub->shift;
    size = (size + granule - 1) >> sub->shift;
    uint32_t i = moi_suballoc_part_at(sub, off);
    uint64_t padding = off - sub->nodes[i].off;
    if (sub->nodes[i].used || sub->nodes[i].size - padding < size) return MO_E_NO_SPACE;
    moi_suballoc_unput(sub, i);
    i = moi_suballoc_skip(sub, i, padding);
    moi_suballoc_cut(sub, i, size);
    moi_suballoc_use(sub, i, 0);
    moi_suballoc_show(sub, i, block);
    return MO_OK;
}

mo_status mo_suballoc_split(
    mo_suballoc *sub, uint64_t handle, uint64_t size, mo_suballoc_block *rest) {
    uint32_t i = moi_suballoc_lookup(sub, handle);
    uint64_t first = size >> sub->shift;
    if (i == MOI_SUBALLOC_NONE || !rest) return MO_E_INVALID;
    if (first == 0 || first << sub->shift != size) return MO_E_INVALID;
    moi_suballoc_node *node = &sub->nodes[i];
    if (first >= node->size) return MO_E_INVALID;
    if (sub->n_allocs == sub->max_allocs) return MO_E_NO_SPACE;
    uint64_t left = node->size - first;
    uint32_t added = moi_suballoc_add_node(sub, i, node->off + first, left);
    node->size = first;
    sub->used -= left; /* which it counts again */
    moi_suballoc_use(sub, added, 0);
    moi_suballoc_show(sub, added, rest);
    return MO_OK;
}

mo_status mo_suballoc_dealloc(mo_suballoc *sub, uint64_t handle) {
    uint32_t i = moi_suballoc_lookup(sub, handle);
    if (i == MOI_SUBALLOC_NONE) return MO_E_INVALID;
    moi_suballoc_node *node = &sub->nodes[i];
    uint32_t prev = node->prev, next = node->next;
    sub->n_allocs--;
    sub->n_changes++;
    sub->used -= node->size;
    if (moi_suballoc_is_free(sub, next)) {
        moi_suballoc_unput(sub, next);
        node->size += sub->nodes[next].size;
        moi_suballoc_drop_node(sub, next);
    }
    if (moi_suballoc_is_free(sub, prev)) {
        moi_suballoc_unput(sub, prev);
        sub->nodes[prev].size += node->size;
        moi_suballoc_drop_node(sub, i);
        i = prev;
    }
    moi_suballoc_put(sub, i);
    return MO_OK;
}

/* ---- reading ------------------------------------------------------------------------------- */

mo_status mo_suballoc_get(const mo_suballoc *sub, uint64_t handle, mo_suballoc_block *block) {
    uint32_t i = moi_suballoc_lookup(sub, handle);
    if (i == MOI_SUBALLOC_NONE || !block) return MO_E_INVALID;
    moi_suballoc_show(sub, i, block);
    return MO_OK;
}

int mo_suballoc_next(const mo_suballoc *sub, mo_suballoc_block *block) {
    uint32_t i = block->position ? sub->nodes[block->position - 1].next : sub->first;
    if (i == MOI_SUBALLOC_NONE) return 0;
    moi_suballoc_show(sub, i, block);
    return 1;
}

static uint64_t moi_suballoc_largest(const mo_suballoc *sub) {
    uint64_t largest = 0;
    if (!sub->bins->rows) return 0;
    unsigned row = moi_suballoc_log2(sub->bins->rows);
    unsigned bin = row * MOI_SUBALLOC_COLUMNS + moi_suballoc_log2(sub->bins->columns[row]);
    for (uint32_t i = sub->bins->heads[bin]; i != MOI_SUBALLOC_NONE; i = sub->nodes[i].bin_next)
        if (sub->nodes[i].size > largest) largest = sub->nodes[i].size;
    return largest;
}

void mo_suballoc_get_stats(const mo_suballoc *sub, mo_suballoc_stats *stats) {
    uint64_t unused = sub->size - sub->used, largest = moi_suballoc_largest(sub);
    const moi_suballoc_node *last = &sub->nodes[sub->last];
    stats->size_bytes = sub->size << sub->shift;
    stats->used_bytes = sub->used << sub->shift;
    stats->free_bytes = unused << sub->shift;
    stats->peak_bytes = sub->peak << sub->shift;
    stats->extent_bytes = sub->extent << sub->shift;
    stats->top_bytes = (last->used ? last->off + last->size : last->off) << sub->shift;
    stats->largest_free_bytes = largest << sub->shift;
    stats->n_allocs = sub->n_allocs;
    stats->n_free_blocks = sub->n_free;
    stats->fragmentation = unused ? 1 - (double)largest / (double)unused : 0;
}

/* ---- defragmentation ----------------------------------------------------------------------- */

static void moi_suballoc_set_move(
    const mo_suballoc *sub, uint32_t i, uint64_t to, mo_suballoc_move *move) {
    const moi_suballoc_node *node = &sub->nodes[i];
    move->handle = (uint64_t)node->generation << 32 | i;
    move->from = node->off << sub->shift;
    move->to = to << sub->shift;
    move->size = node->size << sub->shift;
    move->overlaps = to + node->size > node->off;
}

/* Sliding in address order: what lies below a block's new place has moved already. */
mo_status mo_suballoc_defrag_plan(mo_suballoc *sub, uint64_t max_bytes, int skip_overlap,
    mo_suballoc_move *moves, size_t capacity, size_t *n_moves) {
    uint64_t end = 0, moved = 0;
    size_t n = 0;
    if (!sub || (!moves && capacity) || !n_moves) return MO_E_INVALID;
    for (uint32_t i = sub->first; i != MOI_SUBALLOC_NONE; i = sub->nodes[i].next) {
        const moi_suballoc_node *node = &sub->nodes[i];
        uint64_t mask = ((uint64_t)1 << node->align_log2) - 1, to = (end + mask) & ~mask;
        if (!node->used) continue;
        end = node->off + node->size;
        if (to == node->off || (skip_overlap && to + node->size > node->off)) continue;
        moved += node->size << sub->shift;
        if (n == capacity || (max_bytes && moved > max_bytes)) break;
        moi_suballoc_set_move(sub, i, to, &moves[n++]);
        end = to + node->size;
    }
    sub->planned_at = sub->n_changes;
    *n_moves = n;
    return MO_OK;
}

/* The free part in front of node i shrinks to end at `to`; what i leaves behind joins the part
 * after it. The nodes suffice, since no two free parts become neighbours. */
static void moi_suballoc_slide(mo_suballoc *sub, uint32_t i, uint64_t to) {
    moi_suballoc_node *node = &sub->nodes[i];
    uint64_t distance = node->off - to;
    uint32_t prev = node->prev, next = node->next;
    moi_suballoc_unput(sub, prev);
    sub->nodes[prev].size -= distance;
    if (sub->nodes[prev].size == 0) moi_suballoc_drop_node(sub, prev);
    else moi_suballoc_put(sub, prev);
    node->off = to;
    if (moi_suballoc_is_free(sub, next)) {
        moi_suballoc_unput(sub, next);
        sub->nodes[next].off -= distance;
        sub->nodes[next].size += distance;
    } else {
        next = moi_suballoc_add_node(sub, i, to + node->size, distance);
    }
    moi_suballoc_put(sub, next);
}

static int moi_suballoc_move_is_valid(const mo_suballoc *sub, const mo_suballoc_move *move) {
    uint32_t i = moi_suballoc_lookup(sub, move->handle);
    uint64_t to = move->to >> sub->shift;
    if (i == MOI_SUBALLOC_NONE || move->from != sub->nodes[i].off << sub->shift) return 0;
    if (move->to != to << sub->shift || to >= sub->nodes[i].off) return 0;
    return moi_suballoc_is_free(sub, sub->nodes[i].prev) &&
        to >= sub->nodes[sub->nodes[i].prev].off;
}

mo_status mo_suballoc_defrag_commit(
    mo_suballoc *sub, const mo_suballoc_move *moves, size_t n_moves) {
    if (!sub || (!moves && n_moves)) return MO_E_INVALID;
    if (sub->planned_at != sub->n_changes) return MO_E_STATE;
    sub->n_changes++;
    for (size_t k = 0; k < n_moves; k++) {
        if (!moi_suballoc_move_is_valid(sub, &moves[k])) return MO_E_INVALID;
        moi_suballoc_slide(sub, (uint32_t)moves[k].handle, moves[k].to >> sub->shift);
    }
    return MO_OK;
}

#undef MOI_SUBALLOC_NONE
