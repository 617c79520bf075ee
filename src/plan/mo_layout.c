/* mo_layout.c - see mo_layout.h. */

/* A place in a sorted list: ascending by a, then b, then index, so that no two are equal. */
typedef struct moi_layout_key {
    uint64_t a, b;
    size_t index;
} moi_layout_key;

/* An item that has its place. */
typedef struct moi_layout_span {
    size_t begin, end;
    size_t first, last;
} moi_layout_span;

/* What one call works on. Alignments are the items' own, or the desc's. */
typedef struct moi_layout {
    const mo_layout_item *items;
    size_t n, align;
    moi_layout_key *keys;    /* [n] the order in which items are placed */
    moi_layout_key *ends;    /* [n] the sweep: items by last step */
    moi_layout_span *placed; /* [n] by offset */
    size_t *offsets;         /* [n] of the order being tried */
} moi_layout;

/* ---- sorting ------------------------------------------------------------------------------- */

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
    for (size_t i = n / 2; i > 0; i--) moi_layout_sift(keys, n, i - 1);
    for (size_t i = n; i > 1; i--) {
        moi_layout_key top = keys[0];
        keys[0] = keys[i - 1];
        keys[i - 1] = top;
        moi_layout_sift(keys, i - 1, 0);
    }
}

/* ---- items --------------------------------------------------------------------------------- */

static size_t moi_layout_align(const moi_layout *layout, size_t i) {
    return layout->items[i].align ? layout->items[i].align : layout->align;
}

static int moi_layout_overlap(size_t first, size_t last, size_t other_first, size_t other_last) {
    return first <= other_last && other_first <= last;
}

static mo_status moi_layout_check_items(const moi_layout *layout, const mo_log *log) {
    for (size_t i = 0; i < layout->n; i++) {
        const mo_layout_item *item = &layout->items[i];
        if (item->first > item->last) {
            moi_log(log, MO_LOG_ERROR, "layout: item %zu: first step %zu > last step %zu", i,
                item->first, item->last);
            return MO_E_INVALID;
        }
        if (!moi_is_pow2(moi_layout_align(layout, i))) {
            moi_log(log, MO_LOG_ERROR, "layout: item %zu: alignment %zu is no power of two", i,
                moi_layout_align(layout, i));
            return MO_E_INVALID;
        }
    }
    return MO_OK;
}

/* ---- lower bound --------------------------------------------------------------------------- */

/* A sweep over the steps at which items begin: the live bytes can only peak there. */
typedef struct moi_layout_sweep {
    size_t n_begun, n_ended;
    size_t step, live;
} moi_layout_sweep;

/* What an item takes where all offsets are multiples of grain. */
static size_t moi_layout_rounded(const moi_layout *layout, size_t i, size_t grain) {
    size_t size = SIZE_MAX; /* of an item that does not fit; the sum then overflows as well */
    (void)moi_align_up(layout->items[i].size, grain, &size);
    return size;
}

/* To the next step at which items begin: 1, or 0 at the end, or -1 on overflow. */
static int moi_layout_sweep_next(const moi_layout *layout, size_t grain, moi_layout_sweep *sweep) {
    if (sweep->n_begun == layout->n) return 0;
    sweep->step = layout->items[layout->keys[sweep->n_begun].index].first;
    for (; layout->ends[sweep->n_ended].a < sweep->step; sweep->n_ended++)
        sweep->live -= moi_layout_rounded(layout, layout->ends[sweep->n_ended].index, grain);
    for (; sweep->n_begun < layout->n; sweep->n_begun++) {
        size_t i = layout->keys[sweep->n_begun].index;
        if (layout->items[i].first != sweep->step) break;
        if (!moi_add(sweep->live, moi_layout_rounded(layout, i, grain), &sweep->live)) return -1;
    }
    return 1;
}

/* The largest rest of an item live at this step: only the topmost item can do without its
 * rounding. */
static size_t moi_layout_rest(const moi_layout *layout, size_t grain, size_t step) {
    size_t rest = 0;
    for (size_t i = 0; i < layout->n; i++) {
        const mo_layout_item *item = &layout->items[i];
        if (item->size == 0 || !moi_layout_overlap(item->first, item->last, step, step)) continue;
        rest = moi_max(rest, moi_layout_rounded(layout, i, grain) - item->size);
    }
    return rest;
}

static size_t moi_layout_grain(const moi_layout *layout) {
    size_t grain = SIZE_MAX;
    for (size_t i = 0; i < layout->n; i++)
        if (layout->items[i].size) grain = moi_min(grain, moi_layout_align(layout, i));
    return grain == SIZE_MAX ? 1 : grain;
}

/* Two sweeps: the rest at a step costs a look at every item and is less than grain, so only steps
 * within grain of the highest one can decide. */
static mo_status moi_layout_bound(moi_layout *layout, mo_layout_result *result) {
    size_t grain = moi_layout_grain(layout), highest = 0;
    moi_layout_sweep sweep = {0, 0, 0, 0}, again = {0, 0, 0, 0};
    int more;
    for (size_t i = 0; i < layout->n; i++) {
        moi_layout_key begin = {layout->items[i].first, 0, i}, end = {layout->items[i].last, 0, i};
        layout->keys[i] = begin;
        layout->ends[i] = end;
    }
    moi_layout_sort(layout->keys, layout->n);
    moi_layout_sort(layout->ends, layout->n);
    while ((more = moi_layout_sweep_next(layout, grain, &sweep)) > 0) {
        if (sweep.live <= highest) continue;
        highest = sweep.live;
        result->peak_step = sweep.step;
    }
    if (more < 0) return MO_E_OVERFLOW;
    result->lower_bound = 0;
    while (result->lower_bound < highest && moi_layout_sweep_next(layout, grain, &again) > 0)
        if (again.live > result->lower_bound && highest - again.live < grain)
            result->lower_bound = moi_max(
                result->lower_bound, again.live - moi_layout_rest(layout, grain, again.step));
    return MO_OK;
}

/* ---- placing ------------------------------------------------------------------------------- */

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

static uint64_t moi_layout_value(const mo_layout_item *item, moi_layout_measure measure) {
    double area = (double)item->size * ((double)(item->last - item->first) + 1);
    switch (measure) {
    case MOI_LAYOUT_SIZE: return item->size;
    case MOI_LAYOUT_DURATION: return item->last - item->first;
    case MOI_LAYOUT_AREA: return area < 1.8e19 ? (uint64_t)area : UINT64_MAX;
    case MOI_LAYOUT_EARLY: break;
    }
    return UINT64_MAX - item->first;
}

static void moi_layout_sort_by(moi_layout *layout, const moi_layout_order *order) {
    for (size_t i = 0; i < layout->n; i++) {
        const mo_layout_item *item = &layout->items[i];
        layout->keys[i].a = UINT64_MAX - moi_layout_value(item, order->by);
        layout->keys[i].b = UINT64_MAX - moi_layout_value(item, order->then);
        layout->keys[i].index = i;
    }
    moi_layout_sort(layout->keys, layout->n);
}

/* An offset for item i among the n_placed; SIZE_MAX when none fits into size_t. */
static size_t moi_layout_find(const moi_layout *layout, size_t n_placed, size_t i, int best_fit) {
    const mo_layout_item *item = &layout->items[i];
    size_t align = moi_layout_align(layout, i), top = 0, at = 0;
    size_t best = SIZE_MAX, best_gap = SIZE_MAX;
    for (size_t k = 0; k < n_placed; k++) {
        const moi_layout_span *span = &layout->placed[k];
        if (!moi_layout_overlap(item->first, item->last, span->first, span->last)) continue;
        if (span->begin >= at && span->begin - at >= item->size && span->begin - at < best_gap) {
            if (!best_fit) return at;
            best = at;
            best_gap = span->begin - at;
        }
        top = moi_max(top, span->end);
        if (!moi_align_up(top, align, &at)) return best;
    }
    return best != SIZE_MAX ? best : at;
}

static void moi_layout_insert(moi_layout *layout, size_t n_placed, moi_layout_span span) {
    size_t low = 0, high = n_placed;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (layout->placed[middle].begin <= span.begin) low = middle + 1;
        else high = middle;
    }
    memmove(&layout->placed[low + 1], &layout->placed[low], (n_placed - low) * sizeof span);
    layout->placed[low] = span;
}

/* Place everything in the order of the keys; gives up at the first item that ends above limit.
 * Returns the peak, SIZE_MAX when it gave up. */
static size_t moi_layout_place(moi_layout *layout, int best_fit, size_t limit) {
    size_t n_placed = 0, peak = 0;
    for (size_t k = 0; k < layout->n; k++) {
        size_t i = layout->keys[k].index;
        const mo_layout_item *item = &layout->items[i];
        moi_layout_span span = {0, 0, item->first, item->last};
        layout->offsets[i] = 0;
        if (item->size == 0) continue;
        span.begin = moi_layout_find(layout, n_placed, i, best_fit);
        if (!moi_add(span.begin, item->size, &span.end) || span.end > limit) return SIZE_MAX;
        layout->offsets[i] = span.begin;
        peak = moi_max(peak, span.end);
        moi_layout_insert(layout, n_placed++, span);
    }
    return peak;
}

static mo_status moi_layout_portfolio(
    moi_layout *layout, size_t *offsets, mo_layout_result *result) {
    static const moi_layout_order orders[] = {
        {MOI_LAYOUT_SIZE, MOI_LAYOUT_EARLY, 0},
        {MOI_LAYOUT_SIZE, MOI_LAYOUT_DURATION, 1},
        {MOI_LAYOUT_DURATION, MOI_LAYOUT_SIZE, 1},
        {MOI_LAYOUT_AREA, MOI_LAYOUT_SIZE, 1},
        {MOI_LAYOUT_EARLY, MOI_LAYOUT_DURATION, 1},
    };
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < sizeof orders / sizeof *orders && best != result->lower_bound; i++) {
        moi_layout_sort_by(layout, &orders[i]);
        size_t peak = moi_layout_place(layout, orders[i].best_fit, best - 1);
        if (peak == SIZE_MAX) continue;
        best = peak;
        memcpy(offsets, layout->offsets, layout->n * sizeof *offsets);
    }
    result->peak = best;
    result->proved = best == result->lower_bound;
    return best == SIZE_MAX ? MO_E_OVERFLOW : MO_OK;
}

/* ---- the calls ----------------------------------------------------------------------------- */

mo_layout_desc mo_layout_desc_defaults(const mo_layout_desc *desc) {
    mo_layout_desc full = {0, NULL, NULL};
    if (desc) full = *desc;
    if (full.align == 0) full.align = MOI_CACHE_LINE;
    return full;
}

static void moi_layout_free(moi_layout *layout, const mo_allocator *allocator) {
    moi_free_array(allocator, layout->keys, layout->n, sizeof *layout->keys);
    moi_free_array(allocator, layout->ends, layout->n, sizeof *layout->ends);
    moi_free_array(allocator, layout->placed, layout->n, sizeof *layout->placed);
    moi_free_array(allocator, layout->offsets, layout->n, sizeof *layout->offsets);
}

static mo_status moi_layout_alloc(moi_layout *layout, const mo_allocator *allocator) {
    size_t n = layout->n;
    layout->keys = (moi_layout_key *)moi_alloc_array(allocator, n, sizeof *layout->keys);
    layout->ends = (moi_layout_key *)moi_alloc_array(allocator, n, sizeof *layout->ends);
    layout->placed = (moi_layout_span *)moi_alloc_array(allocator, n, sizeof *layout->placed);
    layout->offsets = (size_t *)moi_alloc_array(allocator, n, sizeof *layout->offsets);
    if (layout->keys && layout->ends && layout->placed && layout->offsets) return MO_OK;
    moi_layout_free(layout, allocator);
    return MO_E_NO_MEMORY;
}

mo_status mo_layout_solve(const mo_layout_desc *desc, const mo_layout_item *items, size_t n,
    size_t *offsets, mo_layout_result *result) {
    mo_layout_desc full = mo_layout_desc_defaults(desc);
    moi_layout layout = {items, n, full.align, NULL, NULL, NULL, NULL};
    mo_layout_result found = {0, 0, 0, 1};
    if (n != 0) {
        if (!items || !offsets) return MO_E_INVALID;
        mo_status status = moi_layout_check_items(&layout, full.log);
        if (status == MO_OK) status = moi_layout_alloc(&layout, full.allocator);
        if (status != MO_OK) return status;
        status = moi_layout_bound(&layout, &found);
        if (status == MO_OK) status = moi_layout_portfolio(&layout, offsets, &found);
        moi_layout_free(&layout, full.allocator);
        if (status != MO_OK) return status;
    }
    if (result) *result = found;
    return MO_OK;
}

/* Whether i and j, both live at some step, lie apart. */
static int moi_layout_apart(const moi_layout *layout, const size_t *offsets, size_t i, size_t j) {
    const mo_layout_item *x = &layout->items[i], *y = &layout->items[j];
    if (!moi_layout_overlap(x->first, x->last, y->first, y->last)) return 1;
    return offsets[i] + x->size <= offsets[j] || offsets[j] + y->size <= offsets[i];
}

static mo_status moi_layout_check_place(
    const moi_layout *layout, const size_t *offsets, size_t i, size_t peak, const mo_log *log) {
    size_t size = layout->items[i].size, align = moi_layout_align(layout, i);
    if (offsets[i] % align != 0) {
        moi_log(log, MO_LOG_ERROR, "layout: item %zu: offset %zu is no multiple of %zu", i,
            offsets[i], align);
        return MO_E_INVALID;
    }
    if (size > peak || offsets[i] > peak - size) {
        moi_log(log, MO_LOG_ERROR, "layout: item %zu: offset %zu and size %zu pass the peak %zu", i,
            offsets[i], size, peak);
        return MO_E_INVALID;
    }
    return MO_OK;
}

mo_status mo_layout_check(const mo_layout_desc *desc, const mo_layout_item *items, size_t n,
    const size_t *offsets, size_t peak) {
    mo_layout_desc full = mo_layout_desc_defaults(desc);
    moi_layout layout = {items, n, full.align, NULL, NULL, NULL, NULL};
    if (n != 0 && (!items || !offsets)) return MO_E_INVALID;
    mo_status status = moi_layout_check_items(&layout, full.log);
    for (size_t i = 0; status == MO_OK && i < n; i++) {
        if (items[i].size == 0) continue;
        status = moi_layout_check_place(&layout, offsets, i, peak, full.log);
        for (size_t j = 0; status == MO_OK && j < i; j++) {
            if (items[j].size == 0 || moi_layout_apart(&layout, offsets, i, j)) continue;
            moi_log(full.log, MO_LOG_ERROR,
                "layout: items %zu (offset %zu, size %zu) and %zu (offset %zu, size %zu) overlap",
                j, offsets[j], items[j].size, i, offsets[i], items[i].size);
            status = MO_E_INVALID;
        }
    }
    return status;
}
