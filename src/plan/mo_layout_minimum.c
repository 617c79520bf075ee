/* mo_layout_minimum.c - which capacities the search tries, and for how long. */

/* The lowest end of a block above bytes: the least that a layout can take which bytes cannot
 * hold. */
static size_t moi_layout_bytes_above(const moi_layout *layout, size_t bytes) {
    size_t above = SIZE_MAX;
    for (size_t i = 0; i < layout->n; i++) {
        const moi_layout_block *block = &layout->blocks[i];
        size_t units = bytes < block->bytes ? 0 : (bytes - block->bytes) / layout->unit + 1;
        above = moi_min(above, units * layout->unit + block->bytes);
    }
    return above;
}

/* The three orders in turn at one capacity; a verdict of any of them is one. */
static moi_layout_verdict moi_layout_try(
    moi_layout_search_state *s, size_t bytes, uint64_t max_nodes) {
    moi_layout_verdict verdict = MOI_LAYOUT_LIMIT;
    for (int order = 0; order < MOI_LAYOUT_N_ORDERS && verdict == MOI_LAYOUT_LIMIT; order++) {
        const moi_layout_effort *effort = s->layout->call->effort;
        if (effort->n_nodes >= effort->max_nodes) break;
        verdict = moi_layout_attempt(s, bytes, order, max_nodes);
    }
    return verdict;
}

static int moi_layout_may_go_on(const moi_layout *layout, const mo_layout_result *result) {
    const moi_layout_effort *effort = layout->call->effort;
    size_t capacity = layout->call->desc.capacity;
    if (moi_layout_is_enough(layout, result)) return 0;
    if (capacity != 0 && result->lower_bound > capacity) return 0;
    return effort->n_nodes < effort->max_nodes &&
        (effort->end_s == 0 || moi_os_now_s() < effort->end_s);
}

/* Whether a layout is found gets neither easier nor harder with the capacity, so each round gives
 * several of them a limited try: the lower bound, where the search is tightest, and values towards
 * the best known; or the one asked for. */
static size_t moi_layout_target(
    const moi_layout *layout, const mo_layout_result *result, int which) {
    size_t low = result->lower_bound, gap = result->peak - low;
    if (layout->call->desc.capacity != 0)
        return which == 0 ? moi_max(layout->call->desc.capacity, low) : low;
    if (which == 0) return low;
    return which == 1 ? low + gap / 2 : low + gap / 8 * 7;
}

static void moi_layout_rounds(moi_layout_search_state *s, mo_layout_result *result) {
    moi_layout *layout = s->layout;
    for (uint64_t limit = 2 * (uint64_t)s->n; moi_layout_may_go_on(layout, result); limit *= 2) {
        size_t before = SIZE_MAX;
        for (int which = 0; which < 3 && moi_layout_may_go_on(layout, result); which++) {
            size_t bytes = moi_layout_target(layout, result, which);
            if (bytes >= result->peak || bytes == before) continue;
            before = bytes;
            uint64_t nodes = which != 0 && limit / 4 >= 2 * (uint64_t)s->n ? limit / 4 : limit;
            moi_layout_verdict verdict = moi_layout_try(s, bytes, nodes);
            result->peak = moi_layout_peak(layout, layout->best);
            if (verdict == MOI_LAYOUT_NONE && !layout->partial)
                result->lower_bound = moi_layout_bytes_above(layout, bytes);
        }
    }
}

static int moi_layout_fits_search(const moi_layout *layout, const mo_layout_result *result) {
    if (result->peak / layout->unit >= MOI_LAYOUT_MAX_UNITS) return 0;
    for (size_t i = 0; i < layout->n; i++)
        if (layout->blocks[i].align > MOI_LAYOUT_MAX_UNITS) return 0;
    return layout->n_pieces < MOI_LAYOUT_MAX_LISTED;
}

static mo_status moi_layout_search(moi_layout *layout, mo_layout_result *result) {
    moi_layout_search_state s;
    int is_searchable;
    if (!moi_layout_fits_search(layout, result) || !moi_layout_may_go_on(layout, result))
        return MO_OK;
    mo_status status = moi_layout_create_search(&s, layout, &is_searchable);
    if (status != MO_OK) return status;
    if (is_searchable) moi_layout_rounds(&s, result);
    moi_layout_destroy_search(&s);
    return MO_OK;
}
