/* mo_layout_greedy.c - orders in which blocks go, one after the other, where there is room. */

enum {
    MOI_LAYOUT_CUT = 64,            /* pieces of a block beyond which greedy takes it as a whole */
    MOI_LAYOUT_MAX_FREE = 4096,     /* free ranges that a replay remembers */
    MOI_LAYOUT_GATHER_COST = 24,    /* what a gathered piece costs, where a scanned one costs 1 */
    MOI_LAYOUT_MAX_COST = 700000000 /* of all orders */
};

/* The orders of the portfolio: the first decides, the second breaks ties. */
typedef enum moi_layout_measure {
    MOI_LAYOUT_SIZE,
    MOI_LAYOUT_DURATION,
    MOI_LAYOUT_AREA,
    MOI_LAYOUT_EARLY
} moi_layout_measure;

typedef struct moi_layout_order {
    moi_layout_measure by, then;
    int best_fit; /* the smallest gap that is large enough; else the lowest */
} moi_layout_order;

enum { MOI_LAYOUT_N_GREEDY = 5 };
static const moi_layout_order moi_layout_orders[MOI_LAYOUT_N_GREEDY] = {
    {MOI_LAYOUT_SIZE, MOI_LAYOUT_EARLY, 0},
    {MOI_LAYOUT_SIZE, MOI_LAYOUT_DURATION, 1},
    {MOI_LAYOUT_DURATION, MOI_LAYOUT_SIZE, 1},
    {MOI_LAYOUT_AREA, MOI_LAYOUT_SIZE, 1},
    {MOI_LAYOUT_EARLY, MOI_LAYOUT_DURATION, 1},
};

static uint64_t moi_layout_value(const moi_layout_block *block, moi_layout_measure measure) {
    double area = (double)block->size * ((double)(block->last - block->first) + 1);
    switch (measure) {
    case MOI_LAYOUT_SIZE: return block->size;
    case MOI_LAYOUT_DURATION: return block->last - block->first;
    case MOI_LAYOUT_AREA: return area < 1.8e19 ? (uint64_t)area : UINT64_MAX;
    case MOI_LAYOUT_EARLY: break;
    }
    return UINT64_MAX - block->first;
}

static void moi_layout_sort_by(moi_layout *layout, const moi_layout_order *order) {
    for (size_t i = 0; i < layout->n; i++) {
        const moi_layout_block *block = &layout->blocks[i];
        layout->keys[i].a = UINT64_MAX - moi_layout_value(block, order->by);
        layout->keys[i].b = UINT64_MAX - moi_layout_value(block, order->then);
        layout->keys[i].index = i;
    }
    moi_layout_sort(layout->keys, layout->n);
}

/* ---- what is placed ------------------------------------------------------------------------ */

/* Pieces lie in placed by offset and are all looked at; or, where a block meets few of many, they
 * lie there in the order of their first steps, under a tree
 * of the last steps + 1 of what is placed: 0 = nothing is. Steps of SIZE_MAX are taken as one less,
 * which makes them overlap no fewer others: the last step of all is met by rank. */
static void moi_layout_put(moi_layout *layout, size_t n_placed, size_t piece, size_t offset) {
    const moi_layout_piece *p = &layout->pieces[piece];
    moi_layout_span span = {offset + p->low, offset + p->high, p->first, p->last};
    if (layout->has_tree) {
        size_t at = layout->rank[piece];
        layout->placed[at] = span;
        for (at += layout->leaves; at > 0; at /= 2)
            layout->tree[at] = moi_max(layout->tree[at], moi_min(p->last, SIZE_MAX - 1) + 1);
        return;
    }
    size_t low = 0, high = n_placed;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (layout->placed[middle].begin <= span.begin) low = middle + 1;
        else high = middle;
    }
    memmove(&layout->placed[low + 1], &layout->placed[low], (n_placed - low) * sizeof span);
    layout->placed[low] = span;
}

/* ---- what a block meets -------------------------------------------------------------------- */

static int moi_layout_is_whole(const moi_layout *layout, const moi_layout_block *block) {
    const moi_layout_piece *piece = &layout->pieces[block->piece];
    return block->n_piece == 1 && piece->low == 0 && piece->high == block->size &&
        piece->first == block->first && piece->last == block->last;
}

/* A placed span as the block sees it: the block ends below begin or starts at or above end. For a
 * block with pieces both move, so far that every one of its pieces that meets the span is clear. */
static size_t moi_layout_add_near(
    moi_layout *layout, const moi_layout_block *block, const moi_layout_span *span, size_t n) {
    moi_layout_used seen = {SIZE_MAX, 0};
    if (!moi_layout_overlap(block->first, block->last, span->first, span->last)) return n;
    if (moi_layout_is_whole(layout, block) || block->n_piece > MOI_LAYOUT_CUT) {
        seen.begin = span->begin;
        seen.end = span->end;
        layout->near[n] = seen;
        return n + 1;
    }
    for (size_t k = 0; k < block->n_piece; k++) {
        const moi_layout_piece *piece = &layout->pieces[block->piece + k];
        if (!moi_layout_overlap(piece->first, piece->last, span->first, span->last)) continue;
        seen.begin = moi_min(seen.begin, span->begin + (block->size - piece->high));
        seen.end = moi_max(seen.end, span->end > piece->low ? span->end - piece->low : 0);
    }
    if (seen.end == 0) return n; /* they do not meet, or the block can lie anywhere above */
    layout->near[n] = seen;
    return n + 1;
}

/* Pieces with a first step up to this one: a prefix of the ranks. */
static size_t moi_layout_begun(const moi_layout *layout, size_t step) {
    size_t low = 0, high = layout->n_pieces;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (layout->begins[middle].a <= step) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Of many: every placed piece with a first step up to the block's last one (by rank) and a last
 * step from the block's first one (by the tree). */
static size_t moi_layout_gather_tree(moi_layout *layout, const moi_layout_block *block) {
    struct {
        size_t node, leaf, width;
    } stack[8 * sizeof(size_t) + 2];
    size_t begun = moi_layout_begun(layout, block->last), depth = 1, n = 0;
    stack[0].node = 1;
    stack[0].leaf = 0;
    stack[0].width = layout->leaves;
    while (depth > 0) {
        size_t node = stack[--depth].node, leaf = stack[depth].leaf, width = stack[depth].width;
        if (leaf >= begun || layout->tree[node] <= moi_min(block->first, SIZE_MAX - 1)) continue;
        if (width == 1) {
            n = moi_layout_add_near(layout, block, &layout->placed[leaf], n);
            continue;
        }
        stack[depth].node = 2 * node + 1;
        stack[depth].leaf = leaf + width / 2;
        stack[depth++].width = width / 2;
        stack[depth].node = 2 * node;
        stack[depth].leaf = leaf;
        stack[depth++].width = width / 2;
    }
    return n;
}

static size_t moi_layout_gather(
    moi_layout *layout, const moi_layout_block *block, size_t n_placed) {
    size_t n = 0;
    if (layout->has_tree) return moi_layout_gather_tree(layout, block);
    for (size_t k = 0; k < n_placed; k++)
        n = moi_layout_add_near(layout, block, &layout->placed[k], n);
    return n;
}

static void moi_layout_merge(
    const moi_layout_used *from, size_t n, size_t run, moi_layout_used *to) {
    for (size_t begin = 0; begin < n; begin += 2 * run) {
        size_t middle = moi_min(begin + run, n), end = moi_min(begin + 2 * run, n);
        size_t left = begin, right = middle, k = begin;
        while (left < middle && right < end)
            to[k++] = from[left].begin <= from[right].begin ? from[left++] : from[right++];
        memcpy(&to[k], &from[left], (middle - left) * sizeof *to);
        memcpy(&to[k + middle - left], &from[right], (end - right) * sizeof *to);
    }
}

/* Runs of 8 by insertion, then merged. Returns where the sorted ranges are. */
static const moi_layout_used *moi_layout_sort_near(moi_layout *layout, size_t n) {
    moi_layout_used *from = layout->near, *to = layout->sorted;
    enum { RUN = 8 };
    for (size_t i = 1; i < n; i++) {
        moi_layout_used used = from[i];
        size_t at = i;
        for (; at % RUN != 0 && from[at - 1].begin > used.begin; at--) from[at] = from[at - 1];
        from[at] = used;
    }
    for (size_t run = RUN; run < n; run *= 2) {
        moi_layout_merge(from, n, run, to);
        moi_layout_used *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

/* ---- placing ------------------------------------------------------------------------------- */

/* Gaps between what is in use, looked at from the lowest one up. */
typedef struct moi_layout_fit {
    size_t size, align, top, at;
    size_t best, best_gap;
    int best_fit;
} moi_layout_fit;

static moi_layout_fit moi_layout_begin_fit(const moi_layout_block *block, int best_fit) {
    moi_layout_fit fit = {block->size, block->align, 0, 0, SIZE_MAX, SIZE_MAX, best_fit};
    return fit;
}

/* The next range in use. Returns 1 when no later one matters. */
MOI_ALWAYS_INLINE int moi_layout_pass(moi_layout_fit *fit, size_t begin, size_t end) {
    if (begin >= fit->at && begin - fit->at >= fit->size && begin - fit->at < fit->best_gap) {
        fit->best = fit->at;
        fit->best_gap = begin - fit->at;
        if (!fit->best_fit) return 1;
    }
    if (end <= fit->top) return 0;
    fit->top = end;
    return !moi_align_up(end, fit->align, &fit->at);
}

/* The offset that was found; SIZE_MAX when none fits into size_t. */
static size_t moi_layout_end_fit(const moi_layout_fit *fit) {
    if (fit->best != SIZE_MAX) return fit->best;
    return fit->at >= fit->top ? fit->at : SIZE_MAX;
}

static size_t moi_layout_find(
    const moi_layout *layout, const moi_layout_block *block, size_t n_placed, int best_fit) {
    moi_layout_fit fit = moi_layout_begin_fit(block, best_fit);
    for (size_t k = 0; k < n_placed; k++) {
        const moi_layout_span *span = &layout->placed[k];
        if (!moi_layout_overlap(block->first, block->last, span->first, span->last)) continue;
        if (moi_layout_pass(&fit, span->begin, span->end)) break;
    }
    return moi_layout_end_fit(&fit);
}

static size_t moi_layout_find_near(
    moi_layout *layout, const moi_layout_block *block, size_t n, int best_fit) {
    moi_layout_fit fit = moi_layout_begin_fit(block, best_fit);
    const moi_layout_used *used = moi_layout_sort_near(layout, n);
    for (size_t k = 0; k < n; k++)
        if (moi_layout_pass(&fit, used[k].begin, used[k].end)) break;
    return moi_layout_end_fit(&fit);
}

static size_t moi_layout_choose(
    moi_layout *layout, const moi_layout_block *block, size_t n_placed, int best_fit) {
    if (block->fixed != SIZE_MAX) return block->fixed;
    if (!layout->has_tree && moi_layout_is_whole(layout, block))
        return moi_layout_find(layout, block, n_placed, best_fit);
    size_t n = moi_layout_gather(layout, block, n_placed);
    return moi_layout_find_near(layout, block, n, best_fit);
}

/* The end of a block in bytes; SIZE_MAX when it does not fit into size_t. */
static size_t moi_layout_end(const moi_layout *layout, size_t i, size_t offset) {
    size_t bytes, end;
    if (!moi_mul(offset, layout->unit, &bytes) || !moi_add(bytes, layout->blocks[i].bytes, &end))
        return SIZE_MAX;
    return end;
}

/* Place everything in the order of the keys, but what is fixed first. A block that would end above
 * limit is left out, with the offset SIZE_MAX, or the end of it all. Returns the peak in bytes,
 * SIZE_MAX when it gave up. */
static size_t moi_layout_place(moi_layout *layout, int best_fit, size_t limit, int leave_out) {
    size_t n_placed = 0, peak = 0;
    if (layout->has_tree) memset(layout->tree, 0, 2 * layout->leaves * sizeof *layout->tree);
    for (int fixed = layout->has_fixed; fixed >= 0; fixed--)
        for (size_t k = 0; k < layout->n; k++) {
            size_t i = layout->keys[k].index, end;
            const moi_layout_block *block = &layout->blocks[i];
            if ((block->fixed != SIZE_MAX) != fixed) continue;
            layout->offsets[i] = moi_layout_choose(layout, block, n_placed, best_fit);
            end = moi_layout_end(layout, i, layout->offsets[i]);
            if (end == SIZE_MAX || end > limit) {
                if (!leave_out) return SIZE_MAX;
                layout->offsets[i] = SIZE_MAX;
                continue;
            }
            peak = moi_max(peak, end);
            for (size_t p = 0; p < block->n_piece; p++)
                moi_layout_put(layout, n_placed++, block->piece + p, layout->offsets[i]);
        }
    return peak;
}

/* ---- replay -------------------------------------------------------------------------------- */

/* Free ranges below top, ascending, in near. */
typedef struct moi_layout_heap {
    moi_layout_used *free;
    size_t n_free, max_free;
    size_t top;
} moi_layout_heap;

static void moi_layout_heap_remove(moi_layout_heap *heap, size_t at) {
    heap->n_free--;
    memmove(&heap->free[at], &heap->free[at + 1], (heap->n_free - at) * sizeof *heap->free);
}

static void moi_layout_heap_insert(moi_layout_heap *heap, size_t begin, size_t end) {
    size_t at = 0, high = heap->n_free;
    moi_layout_used range = {begin, end};
    while (at < high) {
        size_t middle = at + (high - at) / 2;
        if (heap->free[middle].begin < begin) at = middle + 1;
        else high = middle;
    }
    if (at < heap->n_free && heap->free[at].begin == range.end) {
        range.end = heap->free[at].end;
        moi_layout_heap_remove(heap, at);
    }
    if (at > 0 && heap->free[at - 1].end == begin) {
        range.begin = heap->free[--at].begin;
        moi_layout_heap_remove(heap, at);
    }
    if (range.end == heap->top) heap->top = range.begin;
    else if (heap->n_free < heap->max_free && range.begin < range.end) {
        memmove(&heap->free[at + 1], &heap->free[at], (heap->n_free - at) * sizeof range);
        heap->free[at] = range;
        heap->n_free++;
    }
}

/* The smallest free range that is large enough, else the top; SIZE_MAX when that overflows. */
static size_t moi_layout_heap_take(moi_layout_heap *heap, size_t size, size_t align) {
    size_t best = heap->n_free, best_size = SIZE_MAX, at = 0, end;
    for (size_t k = 0; k < heap->n_free; k++) {
        const moi_layout_used *range = &heap->free[k];
        size_t bytes = range->end - range->begin;
        if (bytes < size || bytes >= best_size) continue;
        if (!moi_align_up(range->begin, align, &at) || at > range->end || range->end - at < size)
            continue;
        best = k;
        best_size = bytes;
    }
    if (best < heap->n_free) {
        moi_layout_used range = heap->free[best];
        moi_layout_heap_remove(heap, best);
        (void)moi_align_up(range.begin, align, &at);
        moi_layout_heap_insert(heap, range.begin, at);
        moi_layout_heap_insert(heap, at + size, range.end);
        return at;
    }
    size_t top = heap->top;
    if (!moi_align_up(top, align, &at) || !moi_add(at, size, &end)) return SIZE_MAX;
    heap->top = end;
    moi_layout_heap_insert(heap, top, at);
    return at;
}

/* What an allocator would do that sees one step after the other, above everything fixed: the only
 * order that stays cheap where most blocks meet most others. */
static size_t moi_layout_replay(moi_layout *layout) {
    moi_layout_heap heap = {layout->near, 0, moi_min(layout->n_pieces, MOI_LAYOUT_MAX_FREE), 0};
    moi_layout_key *by_first = layout->keys, *by_last = layout->by_last;
    size_t n_ended = 0, peak = 0;
    for (size_t i = 0; i < layout->n; i++) {
        const moi_layout_block *block = &layout->blocks[i];
        moi_layout_key begin = {block->first, UINT64_MAX - block->size, i};
        moi_layout_key end = {block->last, 0, i};
        by_first[i] = begin;
        by_last[i] = end;
        if (block->fixed != SIZE_MAX) heap.top = moi_max(heap.top, block->fixed + block->size);
    }
    moi_layout_sort(by_first, layout->n);
    moi_layout_sort(by_last, layout->n);
    for (size_t k = 0; k < layout->n; k++) {
        size_t i = by_first[k].index;
        const moi_layout_block *block = &layout->blocks[i];
        for (; by_last[n_ended].a < block->first; n_ended++) {
            size_t ended = by_last[n_ended].index, at = layout->offsets[ended];
            if (layout->blocks[ended].fixed == SIZE_MAX)
                moi_layout_heap_insert(&heap, at, at + layout->blocks[ended].size);
        }
        layout->offsets[i] = block->fixed;
        if (block->fixed == SIZE_MAX)
            layout->offsets[i] = moi_layout_heap_take(&heap, block->size, block->align);
        if (layout->offsets[i] == SIZE_MAX) return SIZE_MAX;
        size_t end = moi_layout_end(layout, i, layout->offsets[i]);
        if (end == SIZE_MAX) return SIZE_MAX;
        peak = moi_max(peak, end);
    }
    return peak;
}

/* ---- the portfolio ------------------------------------------------------------------------- */

/* Pairs of pieces that meet: what one order looks at. */
static double moi_layout_count_pairs(const moi_layout *layout) {
    double n = 0;
    for (size_t k = 0; k < layout->n_pieces; k++)
        n += (double)(moi_layout_begun(layout, layout->pieces[layout->begins[k].index].last) - k -
            1);
    return n;
}

static void moi_layout_keep(moi_layout *layout, size_t peak, mo_layout_result *result) {
    if (peak >= result->peak) return;
    result->peak = peak;
    memcpy(layout->best, layout->offsets, layout->n * sizeof *layout->best);
}

static int moi_layout_is_enough(const moi_layout *layout, const mo_layout_result *result) {
    return result->peak <= moi_max(layout->call->desc.capacity, result->lower_bound);
}

/* What one order costs, and whether it gathers. */
static double moi_layout_choose_tree(moi_layout *layout) {
    double n = (double)layout->n_pieces, scan = n * n / 2, gather;
    if (layout->n_near == 0 || layout->n_pieces <= MOI_LAYOUT_SCANNED) return scan;
    gather = moi_layout_count_pairs(layout) * MOI_LAYOUT_GATHER_COST;
    layout->has_tree = gather < scan;
    return layout->has_tree ? gather : scan;
}

static mo_status moi_layout_portfolio(moi_layout *layout, mo_layout_result *result) {
    double each = moi_layout_choose_tree(layout), cost = each;
    result->peak = layout->n ? SIZE_MAX : 0;
    if (layout->n_pieces > MOI_LAYOUT_SCANNED)
        moi_layout_keep(layout, moi_layout_replay(layout), result);
    for (size_t i = 0; i < MOI_LAYOUT_N_GREEDY && cost < MOI_LAYOUT_MAX_COST; i++, cost += each) {
        const moi_layout_order *order = &moi_layout_orders[i];
        if (moi_layout_is_enough(layout, result)) break;
        moi_layout_sort_by(layout, order);
        moi_layout_keep(
            layout, moi_layout_place(layout, order->best_fit, result->peak - 1, 0), result);
    }
    return result->peak == SIZE_MAX ? MO_E_OVERFLOW : MO_OK;
}
