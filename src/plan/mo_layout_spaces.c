/* mo_layout_spaces.c - items over several spaces, each with its own size. */

enum { MOI_LAYOUT_MAX_SPREAD = 128 }; /* more items than this are not searched */

/* An assignment of items to spaces. Items that took over others go where those go. */
typedef struct moi_layout_spread {
    moi_layout_call *call;
    size_t n, n_heads;
    moi_layout_key *heads; /* [n] the larger first: index = item that took over nothing */
    size_t *group;         /* [n] the space of each item; n_spaces = none yet */
    size_t *offsets;       /* [n] */
    size_t *best_group, *best_offsets;
    size_t *taken;
    size_t capacity; /* of the sum; each space on its own is made as small as possible */
    size_t best;     /* the sum of the peaks; SIZE_MAX = none found */
    size_t live_bound, peak_step;
    int is_complete; /* every assignment was decided */
    moi_layout_memory memory;
} moi_layout_spread;

static void moi_layout_carve_spread(moi_layout_spread *s) {
    size_t n = s->n,
           **arrays[] = {&s->group, &s->offsets, &s->best_group, &s->best_offsets, &s->taken};
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++)
        *arrays[k] = (size_t *)moi_layout_take(&s->memory, n, sizeof **arrays[k]);
    s->heads = (moi_layout_key *)moi_layout_take(&s->memory, n, sizeof *s->heads);
}

static int moi_layout_is_fixed(const moi_layout_call *call, size_t i) {
    return call->desc.fixed && call->desc.fixed[i] != SIZE_MAX;
}

/* The aliases are those that lower the live bound the most. */
static mo_status moi_layout_take_aliases(moi_layout_spread *s) {
    moi_layout_choice c;
    for (size_t i = 0; i < s->n; i++) s->taken[i] = SIZE_MAX;
    if (s->call->desc.n_aliases == 0) return MO_OK;
    mo_status status = moi_layout_begin_choice(&c, s->call);
    if (status != MO_OK) return status;
    moi_layout_take_most(&c);
    memcpy(s->taken, c.taken, s->n * sizeof *s->taken);
    moi_layout_end_choice(&c);
    s->call->taken = s->taken;
    return MO_OK;
}

/* Without rounding, since each space has a topmost block of its own. */
static mo_status moi_layout_bound_spread(moi_layout_spread *s) {
    moi_layout layout;
    mo_layout_result result;
    memset(&result, 0, sizeof result);
    s->call->ignore_align = 1;
    mo_status status = moi_layout_create(&layout, s->call);
    if (status == MO_OK) {
        status = moi_layout_bound(&layout, &result);
        moi_layout_destroy(&layout);
    }
    s->call->ignore_align = 0;
    s->live_bound = result.live_bound;
    s->peak_step = result.peak_step;
    return status;
}

static mo_status moi_layout_begin_spread(moi_layout_spread *s, moi_layout_call *call) {
    memset(s, 0, sizeof *s);
    s->call = call;
    s->n = call->n;
    s->best = SIZE_MAX;
    s->capacity = call->desc.capacity;
    call->desc.capacity = 0;
    moi_layout_carve_spread(s);
    mo_status status = moi_layout_provide(&s->memory, call->desc.allocator);
    if (status != MO_OK) return status;
    moi_layout_carve_spread(s);
    status = moi_layout_take_aliases(s);
    if (status == MO_OK) status = moi_layout_bound_spread(s);
    if (status != MO_OK)
        mo_free(call->desc.allocator, s->memory.base, s->memory.size, MOI_CACHE_LINE);
    call->group = s->group;
    for (size_t i = 0; status == MO_OK && i < s->n; i++) {
        moi_layout_key key = {SIZE_MAX - call->items[i].size, call->items[i].first, i};
        if (call->items[i].size != 0 && s->taken[i] == SIZE_MAX) s->heads[s->n_heads++] = key;
    }
    if (status == MO_OK) moi_layout_sort(s->heads, s->n_heads);
    return status;
}

/* Sends the item, and what took over its bytes, to a space. */
static void moi_layout_follow_heads(moi_layout_spread *s) {
    for (size_t i = 0; i < s->n; i++) {
        size_t head = i;
        while (s->taken[head] != SIZE_MAX) head = s->taken[head];
        s->group[i] = s->group[head];
    }
}

/* Solves each space by itself and keeps the assignment if the sum is the smallest so far. Returns 0
 * in *is_decided when some space might hold what it did not. */
static mo_status moi_layout_solve_spread(moi_layout_spread *s, int *is_decided) {
    size_t sum = 0;
    *is_decided = 1;
    for (size_t k = 0; k < s->call->desc.n_spaces; k++) {
        mo_layout_result result;
        s->call->pick = k;
        mo_status status = moi_layout_solve_call(s->call, s->offsets, &result);
        if (status != MO_OK) return status;
        *is_decided &= result.proved || result.lower_bound > s->call->desc.spaces[k];
        if (result.peak > s->call->desc.spaces[k] || !moi_add(sum, result.peak, &sum)) return MO_OK;
    }
    if (sum >= s->best) return MO_OK;
    s->best = sum;
    memcpy(s->best_offsets, s->offsets, s->n * sizeof *s->offsets);
    memcpy(s->best_group, s->group, s->n * sizeof *s->group);
    return MO_OK;
}

/* Sends to space k what one order places there; the rest stays. Returns how many items moved. */
static mo_status moi_layout_fill_space(
    moi_layout_spread *s, size_t k, const moi_layout_order *order, size_t *n_moved) {
    moi_layout layout;
    s->call->pick = s->call->desc.n_spaces;
    mo_status status = moi_layout_create(&layout, s->call);
    if (status != MO_OK) return status;
    moi_layout_sort_by(&layout, order);
    moi_layout_place(&layout, order->best_fit, s->call->desc.spaces[k], 1);
    for (size_t i = 0; i < s->n; i++) {
        size_t block = layout.block_of[i];
        if (block == SIZE_MAX || layout.offsets[block] == SIZE_MAX) continue;
        s->group[i] = k;
        ++*n_moved;
    }
    moi_layout_destroy(&layout);
    return MO_OK;
}

/* One order after the other over all spaces in turn, the first space first. */
static mo_status moi_layout_spread_greedy(moi_layout_spread *s) {
    size_t n_spaces = s->call->desc.n_spaces, n_items = 0;
    int is_decided;
    for (size_t i = 0; i < s->n; i++) n_items += s->call->items[i].size != 0;
    for (size_t o = 0; o < MOI_LAYOUT_N_GREEDY; o++) {
        size_t n_moved = 0;
        for (size_t i = 0; i < s->n; i++) s->group[i] = s->call->items[i].size != 0 ? n_spaces : 0;
        for (size_t k = 0; k < n_spaces; k++) {
            mo_status status = moi_layout_fill_space(s, k, &moi_layout_orders[o], &n_moved);
            if (status != MO_OK) return status;
        }
        if (n_moved < n_items) continue;
        mo_status status = moi_layout_solve_spread(s, &is_decided);
        if (status != MO_OK) return status;
        if (s->best <= moi_max(s->capacity, s->live_bound)) break;
    }
    return MO_OK;
}

/* Whether the space before is as large, and none of the first n heads lies there: either would
 * do. */
static int moi_layout_is_same_again(const moi_layout_spread *s, size_t n, size_t space) {
    const size_t *spaces = s->call->desc.spaces;
    if (space == 0 || spaces[space] != spaces[space - 1]) return 0;
    if (space == 1 && s->call->desc.fixed) return 0;
    for (size_t k = 0; k < n; k++)
        if (s->group[s->heads[k].index] == space - 1) return 0;
    return 1;
}

/* Whether the live bytes of the first n heads fit each space, where the last of them was added. */
static int moi_layout_spread_fits(const moi_layout_spread *s, size_t n) {
    const mo_layout_item *items = s->call->items;
    size_t added = s->heads[n - 1].index, space = s->group[added];
    if (moi_layout_is_fixed(s->call, added) && space != 0) return 0;
    if (moi_layout_is_same_again(s, n - 1, space)) return 0;
    if (s->call->desc.n_gaps) return items[added].size <= s->call->desc.spaces[space];
    for (size_t k = 0; k < n; k++) {
        size_t step = items[s->heads[k].index].first, live = 0;
        if (step < items[added].first || step > items[added].last) continue;
        for (size_t l = 0; l < n; l++) {
            size_t i = s->heads[l].index;
            if (s->group[i] != space || items[i].first > step || items[i].last < step) continue;
            if (!moi_add(live, items[i].size, &live)) return 0;
        }
        if (live > s->call->desc.spaces[space]) return 0;
    }
    return 1;
}

/* Every assignment, one head after the other; each counts as a node. */
static mo_status moi_layout_spread_search(moi_layout_spread *s) {
    moi_layout_effort *effort = s->call->effort;
    size_t depth = 0, n_spaces = s->call->desc.n_spaces;
    int is_new = 1, is_decided;
    s->is_complete = s->call->desc.n_aliases == 0; /* other choices of aliases are not tried */
    for (size_t i = 0; i < s->n; i++) s->group[i] = 0;
    while (s->best > moi_max(s->capacity, s->live_bound)) {
        if (effort->n_nodes >= effort->max_nodes ||
            (effort->end_s > 0 && moi_os_now_s() >= effort->end_s)) {
            s->is_complete = 0;
            break;
        }
        if (is_new && depth == s->n_heads) {
            moi_layout_follow_heads(s);
            mo_status status = moi_layout_solve_spread(s, &is_decided);
            if (status != MO_OK) return status;
            s->is_complete &= is_decided;
            is_new = 0;
        } else if (!is_new) {
            if (depth == 0) break;
            if (++s->group[s->heads[depth - 1].index] >= n_spaces) depth--;
            else is_new = moi_layout_spread_fits(s, depth);
        } else {
            effort->n_nodes++;
            s->group[s->heads[depth++].index] = 0;
            is_new = moi_layout_spread_fits(s, depth);
        }
    }
    if (s->best <= s->capacity) s->is_complete = 0; /* it is enough, and maybe not the smallest */
    return MO_OK;
}

static void moi_layout_give_spread(
    const moi_layout_spread *s, size_t *offsets, mo_layout_result *result) {
    result->peak = s->best;
    result->live_bound = s->live_bound;
    result->peak_step = s->peak_step;
    result->lower_bound = s->is_complete ? s->best : s->live_bound;
    result->proved = result->peak == result->lower_bound;
    memcpy(offsets, s->best_offsets, s->n * sizeof *offsets);
    memcpy(s->call->desc.space, s->best_group, s->n * sizeof *offsets);
    if (s->call->desc.taken) memcpy(s->call->desc.taken, s->taken, s->n * sizeof *offsets);
}

static mo_status moi_layout_solve_spaces(
    moi_layout_call *call, size_t *offsets, mo_layout_result *result) {
    moi_layout_spread s;
    uint64_t n_nodes = call->effort->n_nodes;
    mo_status status = moi_layout_begin_spread(&s, call);
    if (status == MO_OK) {
        status = moi_layout_spread_greedy(&s);
        if (status == MO_OK && s.n_heads <= MOI_LAYOUT_MAX_SPREAD)
            status = moi_layout_spread_search(&s);
        if (status == MO_OK && s.best == SIZE_MAX) {
            moi_log(call->desc.log, MO_LOG_ERROR, "layout: %zu items fit no %zu spaces%s", s.n,
                call->desc.n_spaces, s.is_complete ? "" : " by what was tried");
            status = MO_E_NO_SPACE;
        }
        if (status == MO_OK) moi_layout_give_spread(&s, offsets, result);
        mo_free(call->desc.allocator, s.memory.base, s.memory.size, MOI_CACHE_LINE);
    }
    result->n_nodes = call->effort->n_nodes - n_nodes;
    call->group = call->taken = NULL;
    return status;
}
