/* mo_layout_check.c - whether offsets are a layout, and why a layout is as large as it is. */

/* ---- check --------------------------------------------------------------------------------- */

/* A sweep over the steps that keeps the bytes in use sorted by space and offset: as long as each
 * piece lies apart from its neighbours there, all do. */
typedef struct moi_layout_sweep {
    const moi_layout_call *call;
    const size_t *offsets;
    const size_t *space;      /* NULL = one */
    moi_layout_piece *pieces; /* [max_pieces] in bytes from the start of the space; block = item */
    size_t n_pieces, max_pieces;
    moi_layout_key *begins, *ends; /* [n_pieces] by first and last step */
    size_t *live;                  /* [n_pieces] pieces by space and offset */
    size_t n_live;
    moi_layout_memory memory;
} moi_layout_sweep;

static mo_status moi_layout_check_place(
    const moi_layout_call *call, const size_t *offsets, size_t i, size_t peak) {
    const mo_log *log = call->desc.log;
    size_t size = call->items[i].size, align = moi_layout_align(&call->desc, &call->items[i]);
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
    if (call->desc.fixed && call->desc.fixed[i] != SIZE_MAX && call->desc.fixed[i] != offsets[i]) {
        moi_log(log, MO_LOG_ERROR, "layout: item %zu: offset %zu, but it is fixed at %zu", i,
            offsets[i], call->desc.fixed[i]);
        return MO_E_INVALID;
    }
    return MO_OK;
}

static int moi_layout_took_rightly(const moi_layout_sweep *s, moi_layout_choice *c, size_t i) {
    size_t from = s->call->taken[i];
    if (from >= s->call->n || s->offsets[i] != s->offsets[from]) return 0;
    if (s->space && s->space[i] != s->space[from]) return 0;
    for (size_t k = c->edge_begin[i]; k < c->n_edges && c->edges[k].b == i; k++)
        if (c->edges[k].index == from && c->given[from] == SIZE_MAX) {
            c->given[from] = i;
            return 1;
        }
    return 0;
}

static mo_status moi_layout_check_taken(const moi_layout_sweep *s, moi_layout_call *call) {
    moi_layout_choice c;
    if (!call->taken) return MO_OK;
    mo_status status = moi_layout_begin_choice(&c, call);
    if (status != MO_OK) return status;
    for (size_t i = 0; status == MO_OK && i < call->n; i++) {
        if (call->taken[i] == SIZE_MAX || moi_layout_took_rightly(s, &c, i)) continue;
        moi_log(call->desc.log, MO_LOG_ERROR, "layout: item %zu cannot lie over item %zu", i,
            call->taken[i]);
        status = MO_E_INVALID;
    }
    moi_layout_end_choice(&c);
    return status;
}

/* The items that overlap, the lower index first. */
static mo_status moi_layout_say_overlap(const moi_layout_sweep *sweep, size_t p, size_t q) {
    const moi_layout_call *call = sweep->call;
    size_t x = sweep->pieces[p].block, y = sweep->pieces[q].block;
    size_t i = moi_min(x, y), j = moi_max(x, y);
    moi_log(call->desc.log, MO_LOG_ERROR,
        "layout: items %zu (offset %zu, size %zu) and %zu (offset %zu, size %zu) overlap", i,
        sweep->offsets[i], call->items[i].size, j, sweep->offsets[j], call->items[j].size);
    return MO_E_INVALID;
}

static int moi_layout_lies_before(const moi_layout_sweep *sweep, size_t p, size_t q) {
    const moi_layout_piece *x = &sweep->pieces[p], *y = &sweep->pieces[q];
    if (sweep->space && sweep->space[x->block] != sweep->space[y->block])
        return sweep->space[x->block] < sweep->space[y->block];
    return x->low < y->low;
}

static int moi_layout_lies_apart(const moi_layout_sweep *sweep, size_t lower, size_t upper) {
    const moi_layout_piece *x = &sweep->pieces[lower], *y = &sweep->pieces[upper];
    if (sweep->space && sweep->space[x->block] != sweep->space[y->block]) return 1;
    return x->high <= y->low;
}

/* Where piece p lies or would lie among what is live. */
static size_t moi_layout_live_at(const moi_layout_sweep *sweep, size_t p) {
    size_t low = 0, high = sweep->n_live;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (moi_layout_lies_before(sweep, sweep->live[middle], p)) low = middle + 1;
        else high = middle;
    }
    return low;
}

static mo_status moi_layout_sweep_begin(moi_layout_sweep *sweep, size_t p) {
    size_t at = moi_layout_live_at(sweep, p), *live = sweep->live;
    if (at < sweep->n_live && !moi_layout_lies_apart(sweep, p, live[at]))
        return moi_layout_say_overlap(sweep, p, live[at]);
    if (at > 0 && !moi_layout_lies_apart(sweep, live[at - 1], p))
        return moi_layout_say_overlap(sweep, live[at - 1], p);
    memmove(&live[at + 1], &live[at], (sweep->n_live - at) * sizeof *live);
    live[at] = p;
    sweep->n_live++;
    return MO_OK;
}

static void moi_layout_sweep_end(moi_layout_sweep *sweep, size_t p) {
    size_t at = moi_layout_live_at(sweep, p), *live = sweep->live;
    sweep->n_live--;
    memmove(&live[at], &live[at + 1], (sweep->n_live - at) * sizeof *live);
}

static void moi_layout_carve_sweep(moi_layout_sweep *s) {
    size_t n = s->max_pieces;
    s->pieces = (moi_layout_piece *)moi_layout_take(&s->memory, n, sizeof *s->pieces);
    s->begins = (moi_layout_key *)moi_layout_take(&s->memory, n, sizeof *s->begins);
    s->ends = (moi_layout_key *)moi_layout_take(&s->memory, n, sizeof *s->ends);
    s->live = (size_t *)moi_layout_take(&s->memory, n, sizeof *s->live);
}

static void moi_layout_fill_sweep(moi_layout_sweep *s) {
    for (size_t i = 0; i < s->call->n; i++) {
        if (s->call->items[i].size == 0 || s->offsets[i] == SIZE_MAX) continue;
        size_t n = moi_layout_expand(s->call, i, s->pieces + s->n_pieces);
        for (; n > 0; n--) {
            moi_layout_piece *piece = &s->pieces[s->n_pieces];
            moi_layout_key begin = {piece->first, 0, s->n_pieces};
            moi_layout_key end = {piece->last, 0, s->n_pieces};
            piece->low += s->offsets[i];
            piece->high += s->offsets[i];
            piece->block = i;
            s->begins[s->n_pieces] = begin;
            s->ends[s->n_pieces++] = end;
        }
    }
    moi_layout_sort(s->begins, s->n_pieces);
    moi_layout_sort(s->ends, s->n_pieces);
}

static mo_status moi_layout_run_sweep(moi_layout_sweep *s) {
    mo_status status = MO_OK;
    size_t n_ended = 0;
    moi_layout_fill_sweep(s);
    for (size_t k = 0; status == MO_OK && k < s->n_pieces; k++) {
        for (; s->ends[n_ended].a < s->begins[k].a; n_ended++)
            moi_layout_sweep_end(s, s->ends[n_ended].index);
        status = moi_layout_sweep_begin(s, s->begins[k].index);
    }
    return status;
}

/* The highest end in each space is within its size, and their sum within the peak. */
static mo_status moi_layout_check_spaces(
    const moi_layout_call *call, const size_t *offsets, size_t peak) {
    size_t n_spaces = call->desc.n_spaces, sum = 0;
    for (size_t i = 0; n_spaces && i < call->n; i++) {
        if (call->items[i].size == 0 || call->desc.space[i] < n_spaces) continue;
        moi_log(call->desc.log, MO_LOG_ERROR, "layout: item %zu: no space %zu of %zu", i,
            call->desc.space[i], n_spaces);
        return MO_E_INVALID;
    }
    for (size_t k = 0; k < n_spaces; k++) {
        size_t end = 0;
        for (size_t i = 0; i < call->n; i++)
            if (call->items[i].size != 0 && call->desc.space[i] == k)
                end = moi_max(end, offsets[i] + call->items[i].size);
        if (end <= call->desc.spaces[k] && moi_add(sum, end, &sum) && sum <= peak) continue;
        moi_log(call->desc.log, MO_LOG_ERROR,
            "layout: space %zu: end %zu passes its size %zu or the peak %zu", k, end,
            call->desc.spaces[k], peak);
        return MO_E_INVALID;
    }
    return MO_OK;
}

/* Items at SIZE_MAX are left out. */
static mo_status moi_layout_check_overlaps(
    moi_layout_call *call, const size_t *offsets, const size_t *space) {
    moi_layout_sweep sweep;
    memset(&sweep, 0, sizeof sweep);
    sweep.call = call;
    sweep.offsets = offsets;
    sweep.space = space;
    if (!moi_add(call->n, 2 * call->desc.n_gaps + 1, &sweep.max_pieces)) return MO_E_OVERFLOW;
    moi_layout_carve_sweep(&sweep);
    mo_status status = moi_layout_provide(&sweep.memory, call->desc.allocator);
    if (status != MO_OK) return status;
    moi_layout_carve_sweep(&sweep);
    status = moi_layout_check_taken(&sweep, call);
    if (status == MO_OK) status = moi_layout_run_sweep(&sweep);
    mo_free(call->desc.allocator, sweep.memory.base, sweep.memory.size, MOI_CACHE_LINE);
    return status;
}

static mo_status moi_layout_check_offsets(
    moi_layout_call *call, const size_t *offsets, size_t peak) {
    mo_status status = MO_OK;
    for (size_t i = 0; status == MO_OK && i < call->n; i++)
        if (call->items[i].size != 0) status = moi_layout_check_place(call, offsets, i, peak);
    if (status == MO_OK) status = moi_layout_check_spaces(call, offsets, peak);
    if (status != MO_OK) return status;
    return moi_layout_check_overlaps(call, offsets, call->desc.n_spaces ? call->desc.space : NULL);
}

mo_status mo_layout_check(const mo_layout_desc *desc, const mo_layout_item *items, size_t n,
    const size_t *offsets, size_t peak) {
    moi_layout_call call;
    if (n == 0) return MO_OK;
    if (!offsets) return MO_E_INVALID;
    mo_status status = moi_layout_begin_call(&call, desc, items, n);
    if (status != MO_OK) return status;
    call.taken = call.desc.n_aliases ? call.desc.taken : NULL;
    status = moi_layout_check_offsets(&call, offsets, peak);
    moi_layout_end_call(&call);
    return status;
}

/* ---- explain ------------------------------------------------------------------------------- */

/* What is in use of each item at a step, the most first; in keys, which has room for each item. */
static size_t moi_layout_list_live(moi_layout *layout, size_t step, size_t *bytes) {
    const moi_layout_call *call = layout->call;
    size_t n = 0;
    *bytes = 0;
    for (size_t i = 0; i < call->n; i++) {
        if (!moi_layout_is_picked(call, i)) continue;
        size_t n_pieces = moi_layout_expand(call, i, layout->pieces);
        for (size_t k = 0; k < n_pieces; k++) {
            const moi_layout_piece *piece = &layout->pieces[k];
            if (step < piece->first || step > piece->last) continue;
            moi_layout_key key = {SIZE_MAX - (piece->high - piece->low), 0, i};
            layout->keys[n++] = key;
            *bytes += piece->high - piece->low;
        }
    }
    moi_layout_sort(layout->keys, n);
    return n;
}

/* What a search at the capacity says of the items with group 1: 1 = they do not fit, 0 = they do,
 * -1 = not known. */
static mo_status moi_layout_is_infeasible(moi_layout_call *call, size_t *offsets, int *answer) {
    moi_layout_effort effort = moi_layout_begin_effort(&call->desc, call->n);
    mo_layout_result result;
    call->effort = &effort;
    mo_status status = moi_layout_solve_call(call, offsets, &result);
    if (status != MO_OK) return status;
    *answer = result.lower_bound > call->desc.capacity ? 1
        : result.peak <= call->desc.capacity           ? 0
                                                       : -1;
    return MO_OK;
}

static void moi_layout_mark(const size_t *set, size_t n, size_t *group, size_t mark) {
    for (size_t k = 0; k < n; k++) group[set[k]] = mark;
}

/* A deletion filter: parts of the set go where the rest still does not fit, first halves, at last
 * single items. What is needed once stays needed, since the set only shrinks. */
static mo_status moi_layout_filter(
    moi_layout_call *call, size_t *set, size_t *offsets, size_t *group, mo_layout_reason *reason) {
    reason->irreducible = 1;
    for (size_t part = moi_max(reason->n_set / 2, 1);; part /= 2) {
        for (size_t k = 0; k < reason->n_set;) {
            size_t n = moi_min(part, reason->n_set - k);
            int answer;
            moi_layout_mark(set + k, n, group, 0);
            mo_status status = moi_layout_is_infeasible(call, offsets, &answer);
            if (status != MO_OK) return status;
            if (answer == 1) {
                reason->n_set -= n;
                memmove(set + k, set + k + n, (reason->n_set - k) * sizeof *set);
                continue;
            }
            moi_layout_mark(set + k, n, group, 1);
            if (part == 1 && answer < 0) reason->irreducible = 0;
            k += n;
        }
        if (part == 1) return MO_OK;
    }
}

/* The fewest of the largest live items that do not fit, else every item. */
static mo_status moi_layout_find_set(moi_layout_call *call, const size_t *live, size_t *set,
    size_t *offsets, size_t *group, mo_layout_reason *reason) {
    int answer = 0;
    for (size_t i = 0; i < call->n; i++) group[i] = 0;
    moi_layout_mark(live, reason->n_live, group, 1);
    call->group = group;
    call->pick = 1;
    mo_status status = moi_layout_is_infeasible(call, offsets, &answer);
    if (status == MO_OK && answer != 1) {
        for (size_t i = 0; i < call->n; i++) group[i] = call->items[i].size != 0;
        status = moi_layout_is_infeasible(call, offsets, &answer);
    }
    if (status != MO_OK || answer != 1) return status;
    for (size_t i = 0; i < call->n; i++)
        if (group[i]) set[reason->n_set++] = i;
    return moi_layout_filter(call, set, offsets, group, reason);
}

static mo_status moi_layout_explain_call(
    moi_layout_call *call, size_t *live, size_t *set, mo_layout_reason *reason) {
    moi_layout layout;
    mo_layout_result result;
    memset(&result, 0, sizeof result);
    mo_status status = moi_layout_create(&layout, call);
    if (status != MO_OK) return status;
    status = moi_layout_bound(&layout, &result);
    if (status == MO_OK) {
        reason->peak_step = result.peak_step;
        reason->n_live = moi_layout_list_live(&layout, result.peak_step, &reason->live_bytes);
        for (size_t k = 0; k < reason->n_live; k++) live[k] = layout.keys[k].index;
    }
    moi_layout_destroy(&layout);
    if (status != MO_OK || !set || call->desc.capacity == 0) return status;
    size_t *scratch = (size_t *)moi_alloc_array(call->desc.allocator, 3 * call->n, sizeof *scratch);
    if (!scratch) return MO_E_NO_MEMORY;
    size_t *found = scratch + 2 * call->n;
    status = moi_layout_find_set(call, live, found, scratch, scratch + call->n, reason);
    if (status == MO_OK) memcpy(set, found, reason->n_set * sizeof *set);
    moi_free_array(call->desc.allocator, scratch, 3 * call->n, sizeof *scratch);
    return status;
}

static mo_status moi_layout_explain_aliases(
    moi_layout_call *call, size_t *live, size_t *set, mo_layout_reason *reason) {
    moi_layout_choice c;
    if (call->desc.n_aliases == 0) return moi_layout_explain_call(call, live, set, reason);
    mo_status status = moi_layout_begin_choice(&c, call);
    if (status != MO_OK) return status;
    moi_layout_take_most(&c);
    call->taken = c.taken;
    status = moi_layout_explain_call(call, live, set, reason);
    moi_layout_end_choice(&c);
    return status;
}

mo_status mo_layout_explain(const mo_layout_desc *desc, const mo_layout_item *items, size_t n,
    size_t *live, size_t *set, mo_layout_reason *reason) {
    moi_layout_call call;
    mo_layout_reason found;
    memset(&found, 0, sizeof found);
    if (!reason || (n != 0 && !live)) return MO_E_INVALID;
    if (n != 0) {
        mo_status status = moi_layout_begin_call(&call, desc, items, n);
        if (status != MO_OK) return status;
        status = call.desc.n_spaces ? MO_E_INVALID
                                    : moi_layout_explain_aliases(&call, live, set, &found);
        moi_layout_end_call(&call);
        if (status != MO_OK) return status;
    }
    *reason = found;
    return MO_OK;
}
