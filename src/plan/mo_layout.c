/* mo_layout.c - the calls, and items to blocks; see mo_layout.h. */

/* ---- sorting and memory -------------------------------------------------------------------- */

static int moi_layout_less(const moi_layout_key *x, const moi_layout_key *y) {
    if (x->a != y->a) return x->a < y->a;
    if (x->b != y->b) return x->b < y->b;
    return x->index < y->index;
}

static void moi_layout_sift(moi_layout_key *keys, size_t n, size_t at) {
    moi_layout_key key = keys[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && moi_layout_less(&keys[child], &keys[child + 1])) child++;
        if (!moi_layout_less(&key, &keys[child])) break;
        keys[at] = keys[child];
    }
    keys[at] = key;
}

/* Heapsort: the C library's qsort takes memory behind our back and may order ties as it likes. */
static void moi_layout_sort(moi_layout_key *keys, size_t n) {
    size_t sorted = 1;
    while (sorted < n && moi_layout_less(&keys[sorted - 1], &keys[sorted])) sorted++;
    if (sorted >= n) return;
    for (size_t i = n / 2; i > 0; i--) moi_layout_sift(keys, n, i - 1);
    for (size_t i = n; i > 1; i--) {
        moi_layout_key top = keys[0];
        keys[0] = keys[i - 1];
        keys[i - 1] = top;
        moi_layout_sift(keys, i - 1, 0);
    }
}

static void *moi_layout_take(moi_layout_memory *memory, size_t n, size_t size) {
    size_t at = memory->used, bytes;
    if (at == SIZE_MAX || !moi_mul(n, size, &bytes) ||
        !moi_align_up(bytes, MOI_CACHE_LINE, &bytes) || !moi_add(at, bytes, &memory->used)) {
        memory->used = SIZE_MAX;
        return NULL;
    }
    return memory->base ? memory->base + at : NULL;
}

static mo_status moi_layout_provide(moi_layout_memory *memory, const mo_allocator *allocator) {
    if (memory->used == SIZE_MAX) return MO_E_OVERFLOW;
    memory->size = moi_max(memory->used, MOI_CACHE_LINE);
    memory->used = 0;
    memory->base = (char *)mo_alloc(allocator, memory->size, MOI_CACHE_LINE);
    return memory->base ? MO_OK : MO_E_NO_MEMORY;
}

static int moi_layout_overlap(size_t first, size_t last, size_t other_first, size_t other_last) {
    return first <= other_last && other_first <= last;
}

/* ---- what the caller gave ------------------------------------------------------------------ */

static size_t moi_layout_align(const mo_layout_desc *desc, const mo_layout_item *item) {
    return item->align ? item->align : desc->align;
}

static mo_status moi_layout_check_item(const moi_layout_call *call, size_t i) {
    const mo_layout_item *item = &call->items[i];
    const mo_log *log = call->desc.log;
    size_t align = moi_layout_align(&call->desc, item), end;
    if (item->first > item->last) {
        moi_log(log, MO_LOG_ERROR, "layout: item %zu: first step %zu > last step %zu", i,
            item->first, item->last);
        return MO_E_INVALID;
    }
    if (!moi_is_pow2(align)) {
        moi_log(log, MO_LOG_ERROR, "layout: item %zu: alignment %zu is no power of two", i, align);
        return MO_E_INVALID;
    }
    if (!call->desc.fixed || call->desc.fixed[i] == SIZE_MAX || item->size == 0) return MO_OK;
    if (call->desc.fixed[i] % align != 0) {
        moi_log(log, MO_LOG_ERROR, "layout: item %zu: fixed offset %zu is no multiple of %zu", i,
            call->desc.fixed[i], align);
        return MO_E_INVALID;
    }
    return moi_add(call->desc.fixed[i], item->size, &end) ? MO_OK : MO_E_OVERFLOW;
}

static int moi_layout_gap_ok(const moi_layout_call *call, size_t k) {
    const mo_layout_gap *gap = &call->desc.gaps[call->gaps[k].index];
    if (gap->item >= call->n) return 0;
    const mo_layout_item *item = &call->items[gap->item];
    if (gap->first > gap->last || gap->first < item->first || gap->last > item->last) return 0;
    if (gap->low > gap->high || gap->high > item->size) return 0;
    if (k == 0) return 1;
    const mo_layout_gap *before = &call->desc.gaps[call->gaps[k - 1].index];
    return before->item != gap->item || before->last < gap->first;
}

static int moi_layout_alias_ok(const moi_layout_call *call, const mo_layout_alias *alias) {
    if (alias->item >= call->n || alias->from >= call->n || alias->item == alias->from) return 0;
    const mo_layout_item *item = &call->items[alias->item], *from = &call->items[alias->from];
    return item->size <= from->size && item->first == from->last;
}

static mo_status moi_layout_check_call(moi_layout_call *call) {
    const mo_layout_desc *desc = &call->desc;
    mo_status status = MO_OK;
    for (size_t i = 0; status == MO_OK && i < call->n; i++) status = moi_layout_check_item(call, i);
    for (size_t k = 0; status == MO_OK && k < desc->n_gaps; k++) {
        if (moi_layout_gap_ok(call, k)) continue;
        moi_log(desc->log, MO_LOG_ERROR, "layout: gap %zu does not lie within item %zu",
            call->gaps[k].index, desc->gaps[call->gaps[k].index].item);
        status = MO_E_INVALID;
    }
    for (size_t k = 0; status == MO_OK && k < desc->n_aliases; k++) {
        if (moi_layout_alias_ok(call, &desc->aliases[k])) continue;
        moi_log(desc->log, MO_LOG_ERROR, "layout: item %zu cannot take over item %zu",
            desc->aliases[k].item, desc->aliases[k].from);
        status = MO_E_INVALID;
    }
    return status;
}

static mo_status moi_layout_begin_call(
    moi_layout_call *call, const mo_layout_desc *desc, const mo_layout_item *items, size_t n) {
    memset(call, 0, sizeof *call);
    call->desc = mo_layout_desc_defaults(desc);
    call->items = items;
    call->n = n;
    if (n != 0 && !items) return MO_E_INVALID;
    if ((call->desc.n_gaps && !call->desc.gaps) || (call->desc.n_aliases && !call->desc.aliases))
        return MO_E_INVALID;
    if ((call->desc.n_aliases && !call->desc.taken) || (call->desc.n_spaces && !call->desc.space) ||
        (call->desc.n_spaces && !call->desc.spaces))
        return MO_E_INVALID;
    if (call->desc.n_gaps == 0) return moi_layout_check_call(call);
    call->gaps = (moi_layout_key *)moi_alloc_array(
        call->desc.allocator, call->desc.n_gaps, sizeof *call->gaps);
    if (!call->gaps) return MO_E_NO_MEMORY;
    for (size_t k = 0; k < call->desc.n_gaps; k++) {
        moi_layout_key key = {call->desc.gaps[k].item, call->desc.gaps[k].first, k};
        call->gaps[k] = key;
    }
    moi_layout_sort(call->gaps, call->desc.n_gaps);
    mo_status status = moi_layout_check_call(call);
    if (status != MO_OK) moi_layout_end_call(call);
    return status;
}

static void moi_layout_end_call(moi_layout_call *call) {
    moi_free_array(call->desc.allocator, call->gaps, call->desc.n_gaps, sizeof *call->gaps);
    call->gaps = NULL;
}

/* ---- items to blocks ----------------------------------------------------------------------- */

/* The first of the item's gaps in call->gaps. */
static size_t moi_layout_first_gap(const moi_layout_call *call, size_t i) {
    size_t low = 0, high = call->desc.n_gaps;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (call->gaps[middle].a < i) low = middle + 1;
        else high = middle;
    }
    return low;
}

static size_t moi_layout_add_piece(moi_layout_piece *pieces, size_t n, moi_layout_piece piece) {
    if (piece.low < piece.high) pieces[n++] = piece;
    return n;
}

static int moi_layout_is_picked(const moi_layout_call *call, size_t i) {
    if (call->group && call->group[i] != call->pick) return 0;
    return call->items[i].size != 0;
}

/* Whose bytes item i took over, of those looked at; SIZE_MAX = none. */
static size_t moi_layout_from(const moi_layout_call *call, size_t i) {
    size_t from = call->taken ? call->taken[i] : SIZE_MAX;
    return from != SIZE_MAX && moi_layout_is_picked(call, from) ? from : SIZE_MAX;
}

/* An item that took over another one's bytes shares the step with it, and begins behind it. */
static size_t moi_layout_expand(const moi_layout_call *call, size_t i, moi_layout_piece *pieces) {
    const mo_layout_item *item = &call->items[i];
    moi_layout_piece piece = {item->first, item->last, 0, item->size, 0};
    size_t n = 0, k = moi_layout_first_gap(call, i);
    if (moi_layout_from(call, i) != SIZE_MAX && piece.first++ == item->last) return 0;
    for (; k < call->desc.n_gaps && call->gaps[k].a == i; k++) {
        const mo_layout_gap *gap = &call->desc.gaps[call->gaps[k].index];
        moi_layout_piece within = {gap->first, gap->last, gap->low, gap->high, 0};
        if (gap->first > piece.first) {
            piece.last = gap->first - 1;
            n = moi_layout_add_piece(pieces, n, piece);
        }
        n = moi_layout_add_piece(pieces, n, within);
        if (gap->last == item->last) return n;
        piece.first = gap->last + 1;
    }
    piece.last = item->last;
    return moi_layout_add_piece(pieces, n, piece);
}

static void moi_layout_carve(moi_layout *layout) {
    moi_layout_memory *memory = &layout->memory;
    size_t n = layout->call->n, n_pieces = layout->n_pieces;
    layout->blocks = (moi_layout_block *)moi_layout_take(memory, n, sizeof *layout->blocks);
    layout->block_of = (size_t *)moi_layout_take(memory, n, sizeof *layout->block_of);
    layout->pieces = (moi_layout_piece *)moi_layout_take(memory, n_pieces, sizeof *layout->pieces);
    layout->begins = (moi_layout_key *)moi_layout_take(memory, n_pieces, sizeof *layout->begins);
    layout->ends = (moi_layout_key *)moi_layout_take(memory, n_pieces, sizeof *layout->ends);
    layout->keys = (moi_layout_key *)moi_layout_take(memory, n, sizeof *layout->keys);
    layout->placed = (moi_layout_span *)moi_layout_take(memory, n_pieces, sizeof *layout->placed);
    layout->by_last =
        (moi_layout_key *)moi_layout_take(memory, layout->n_near ? n : 0, sizeof *layout->by_last);
    layout->near = (moi_layout_used *)moi_layout_take(memory, layout->n_near, sizeof *layout->near);
    layout->sorted =
        (moi_layout_used *)moi_layout_take(memory, layout->n_near, sizeof *layout->sorted);
    layout->rank = (size_t *)moi_layout_take(memory, n_pieces, sizeof *layout->rank);
    layout->tree = (size_t *)moi_layout_take(memory, 2 * layout->leaves, sizeof *layout->tree);
    layout->offsets = (size_t *)moi_layout_take(memory, n, sizeof *layout->offsets);
    layout->best = (size_t *)moi_layout_take(memory, n, sizeof *layout->best);
}

/* Items that go into one block, beginning with the one that took over nothing. */
static void moi_layout_add_block(moi_layout *layout, size_t head, const size_t *next) {
    const moi_layout_call *call = layout->call;
    const mo_layout_item *items = call->items;
    moi_layout_block block = {
        0, 0, SIZE_MAX, items[head].size, items[head].first, 0, layout->n_pieces, 0};
    for (size_t i = head; i != SIZE_MAX; i = next ? next[i] : SIZE_MAX) {
        size_t n = moi_layout_expand(call, i, layout->pieces + layout->n_pieces);
        for (size_t k = 0; k < n; k++) layout->pieces[layout->n_pieces + k].block = layout->n;
        layout->n_pieces += n;
        size_t align = call->ignore_align ? 1 : moi_layout_align(&call->desc, &items[i]);
        block.align = moi_max(block.align, align);
        layout->grain = moi_min(layout->grain, align);
        block.last = items[i].last;
        if (call->desc.fixed && call->desc.fixed[i] != SIZE_MAX) {
            block.fixed = call->desc.fixed[i];
            layout->has_fixed = 1;
        }
        layout->block_of[i] = layout->n;
    }
    block.n_piece = layout->n_pieces - block.piece;
    layout->blocks[layout->n++] = block;
}

/* next[i]: the item that takes over i. It lies in offsets, which are not needed yet. */
static void moi_layout_make_blocks(moi_layout *layout) {
    const moi_layout_call *call = layout->call;
    size_t *next = call->taken ? layout->offsets : NULL;
    layout->n = layout->n_pieces = 0;
    layout->grain = SIZE_MAX;
    for (size_t i = 0; i < call->n; i++) {
        layout->block_of[i] = SIZE_MAX;
        if (next) next[i] = SIZE_MAX;
    }
    for (size_t i = 0; next && i < call->n; i++) {
        size_t from = moi_layout_is_picked(call, i) ? moi_layout_from(call, i) : SIZE_MAX;
        if (from != SIZE_MAX) next[from] = i;
    }
    for (size_t i = 0; i < call->n; i++)
        if (moi_layout_is_picked(call, i) && moi_layout_from(call, i) == SIZE_MAX)
            moi_layout_add_block(layout, i, next);
}

static size_t moi_layout_gcd(size_t a, size_t b) {
    while (b != 0) {
        size_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The unit divides every size, rounded up to the smallest alignment, every bound of a piece and
 * every fixed offset; an alignment either divides it or is a multiple of it. */
static mo_status moi_layout_find_unit(moi_layout *layout) {
    size_t grain = layout->grain, unit = 0;
    for (size_t i = 0; i < layout->n; i++) {
        moi_layout_block *block = &layout->blocks[i];
        if (!moi_align_up(block->bytes, grain, &block->size)) return MO_E_OVERFLOW;
        layout->max_rest = moi_max(layout->max_rest, block->size - block->bytes);
        unit = moi_layout_gcd(block->size, unit);
        if (block->fixed != SIZE_MAX) unit = moi_layout_gcd(block->fixed, unit);
    }
    for (size_t k = 0; k < layout->n_pieces; k++) {
        moi_layout_piece *piece = &layout->pieces[k];
        piece->low &= ~(grain - 1);
        if (!moi_align_up(piece->high, grain, &piece->high)) return MO_E_OVERFLOW;
        layout->partial |= piece->low != 0;
        unit = moi_layout_gcd(piece->high, moi_layout_gcd(piece->low, unit));
    }
    for (size_t i = 0; i < layout->n; i++)
        if (unit % layout->blocks[i].align != 0)
            unit = moi_layout_gcd(unit, layout->blocks[i].align);
    layout->unit = layout->n ? unit : 1;
    return MO_OK;
}

static void moi_layout_to_units(moi_layout *layout) {
    size_t unit = layout->unit;
    for (size_t i = 0; i < layout->n; i++) {
        moi_layout_block *block = &layout->blocks[i];
        block->size /= unit;
        block->align = moi_max(block->align / unit, 1);
        if (block->fixed != SIZE_MAX) block->fixed /= unit;
    }
    for (size_t k = 0; k < layout->n_pieces; k++) {
        moi_layout_piece *piece = &layout->pieces[k];
        moi_layout_key begin = {piece->first, 0, k}, end = {piece->last, 0, k};
        piece->low /= unit;
        piece->high /= unit;
        layout->begins[k] = begin;
        layout->ends[k] = end;
    }
    moi_layout_sort(layout->begins, layout->n_pieces);
    moi_layout_sort(layout->ends, layout->n_pieces);
    for (size_t k = 0; k < layout->n_pieces; k++) layout->rank[layout->begins[k].index] = k;
}

static mo_status moi_layout_create(moi_layout *layout, const moi_layout_call *call) {
    memset(layout, 0, sizeof *layout);
    layout->call = call;
    if (call->desc.n_gaps > SIZE_MAX / 8 ||
        !moi_add(call->n, 2 * call->desc.n_gaps + 1, &layout->n_pieces) ||
        layout->n_pieces > SIZE_MAX / 4)
        return MO_E_OVERFLOW;
    for (layout->leaves = 1; layout->leaves < layout->n_pieces;) layout->leaves *= 2;
    if (layout->n_pieces > MOI_LAYOUT_SCANNED || call->desc.n_gaps || call->taken)
        layout->n_near = layout->n_pieces;
    moi_layout_carve(layout);
    mo_status status = moi_layout_provide(&layout->memory, call->desc.allocator);
    if (status != MO_OK) return status;
    moi_layout_carve(layout);
    moi_layout_make_blocks(layout);
    status = moi_layout_find_unit(layout);
    if (status == MO_OK) moi_layout_to_units(layout);
    else moi_layout_destroy(layout);
    return status;
}

static void moi_layout_destroy(moi_layout *layout) {
    mo_free(layout->call->desc.allocator, layout->memory.base, layout->memory.size, MOI_CACHE_LINE);
}

static size_t moi_layout_peak(const moi_layout *layout, const size_t *offsets) {
    size_t peak = 0;
    for (size_t i = 0; i < layout->n; i++)
        peak = moi_max(peak, offsets[i] * layout->unit + layout->blocks[i].bytes);
    return peak;
}

/* ---- lower bound --------------------------------------------------------------------------- */

/* The largest rest of what is live: the topmost block alone can do without its rounding. Rests are
 * the leaves of a tree of maxima. */
static void moi_layout_set_rest(moi_layout *layout, size_t piece, int is_live) {
    const moi_layout_block *block = &layout->blocks[layout->pieces[piece].block];
    size_t at = layout->leaves + piece;
    if (layout->max_rest == 0) return;
    layout->tree[at] = is_live ? block->size * layout->unit - block->bytes : 0;
    for (at /= 2; at > 0; at /= 2)
        layout->tree[at] = moi_max(layout->tree[2 * at], layout->tree[2 * at + 1]);
}

/* A sweep over the steps at which pieces begin: the live bytes can only peak there. */
static mo_status moi_layout_bound(moi_layout *layout, mo_layout_result *result) {
    size_t live = 0, highest = 0, bytes = 0, ended = 0;
    memset(layout->tree, 0, 2 * layout->leaves * sizeof *layout->tree);
    for (size_t k = 0; k < layout->n_pieces;) {
        size_t step = layout->begins[k].a;
        for (; layout->ends[ended].a < step; ended++) {
            const moi_layout_piece *piece = &layout->pieces[layout->ends[ended].index];
            live -= piece->high - piece->low;
            moi_layout_set_rest(layout, layout->ends[ended].index, 0);
        }
        for (; k < layout->n_pieces && layout->begins[k].a == step; k++) {
            const moi_layout_piece *piece = &layout->pieces[layout->begins[k].index];
            if (!moi_add(live, piece->high - piece->low, &live) ||
                !moi_mul(live, layout->unit, &bytes))
                return MO_E_OVERFLOW;
            moi_layout_set_rest(layout, layout->begins[k].index, 1);
        }
        if (live > highest) {
            highest = live;
            result->peak_step = step;
        }
        result->live_bound = moi_max(result->live_bound, live * layout->unit - layout->tree[1]);
    }
    for (size_t i = 0; i < layout->n; i++) {
        const moi_layout_block *block = &layout->blocks[i];
        size_t low = block->fixed == SIZE_MAX ? 0 : block->fixed * layout->unit;
        result->live_bound = moi_max(result->live_bound, low + block->bytes);
    }
    result->lower_bound = result->live_bound;
    return MO_OK;
}

/* ---- the calls ----------------------------------------------------------------------------- */

mo_layout_desc mo_layout_desc_defaults(const mo_layout_desc *desc) {
    mo_layout_desc full;
    memset(&full, 0, sizeof full);
    if (desc) full = *desc;
    if (full.align == 0) full.align = MOI_CACHE_LINE;
    return full;
}

static mo_status moi_layout_solve_call(
    const moi_layout_call *call, size_t *offsets, mo_layout_result *result) {
    moi_layout layout;
    uint64_t n_nodes = call->effort->n_nodes;
    memset(result, 0, sizeof *result);
    mo_status status = moi_layout_create(&layout, call);
    if (status != MO_OK) return status;
    status = moi_layout_bound(&layout, result);
    if (status == MO_OK) status = moi_layout_portfolio(&layout, result);
    if (status == MO_OK && result->peak > moi_max(call->desc.capacity, result->lower_bound))
        status = moi_layout_search(&layout, result);
    for (size_t i = 0; status == MO_OK && i < call->n; i++) {
        if (call->group && call->group[i] != call->pick) continue;
        size_t block = layout.block_of[i];
        offsets[i] = block == SIZE_MAX ? 0 : layout.best[block] * layout.unit;
    }
    moi_layout_destroy(&layout);
    result->proved = result->peak == result->lower_bound;
    result->n_nodes = call->effort->n_nodes - n_nodes;
    return status;
}

static moi_layout_effort moi_layout_begin_effort(const mo_layout_desc *desc, size_t n) {
    moi_layout_effort effort = {0, desc->max_nodes, 0};
    if (desc->time_limit_s > 0) effort.end_s = moi_os_now_s() + desc->time_limit_s;
    if (effort.max_nodes == 0 && desc->time_limit_s > 0) effort.max_nodes = UINT64_MAX;
    if (effort.max_nodes == 0) effort.max_nodes = moi_min(4 * n + 400, n + 8400);
    return effort;
}

static mo_status moi_layout_solve_any(
    moi_layout_call *call, size_t *offsets, mo_layout_result *result) {
    if (call->desc.n_spaces) return moi_layout_solve_spaces(call, offsets, result);
    if (call->desc.n_aliases) return moi_layout_solve_aliases(call, offsets, result);
    mo_status status = moi_layout_solve_call(call, offsets, result);
    for (size_t i = 0; status == MO_OK && call->desc.taken && i < call->n; i++)
        call->desc.taken[i] = SIZE_MAX;
    return status;
}

mo_status mo_layout_solve(const mo_layout_desc *desc, const mo_layout_item *items, size_t n,
    size_t *offsets, mo_layout_result *result) {
    moi_layout_call call;
    mo_layout_result found;
    memset(&found, 0, sizeof found);
    found.proved = 1;
    if (n != 0) {
        if (!offsets) return MO_E_INVALID;
        mo_status status = moi_layout_begin_call(&call, desc, items, n);
        if (status != MO_OK) return status;
        moi_layout_effort effort = moi_layout_begin_effort(&call.desc, n);
        call.effort = &effort;
        if (call.desc.fixed) status = moi_layout_check_overlaps(&call, call.desc.fixed, NULL);
        if (status == MO_OK) status = moi_layout_solve_any(&call, offsets, &found);
        moi_layout_end_call(&call);
        if (status != MO_OK) return status;
    }
    if (result) *result = found;
    return MO_OK;
}
