/* mo_layout_alias.c - which outputs are written over which inputs. */

enum {
    MOI_LAYOUT_MAX_ENUMERATED = 6, /* up to so many aliases every choice is tried */
    MOI_LAYOUT_MAX_LEFT_OUT = 32   /* else so many are left out, one at a time */
};

/* A choice of aliases, and the best one so far. */
typedef struct moi_layout_choice {
    moi_layout_call *call;
    moi_layout_key *edges; /* [n_edges] a = the larger outputs first, b = output, index = input */
    size_t n_edges;
    size_t *taken, *given; /* [n] of the choice: whose bytes an output has, and who has them */
    size_t *best_taken, *offsets; /* [n] */
    size_t *edge_begin;           /* [n] an output's first edge; SIZE_MAX = none */
    size_t *previous, *queue;     /* [n] for a path through outputs and inputs */
    mo_layout_result best;
    size_t lower_bound; /* of all choices that were tried */
    moi_layout_memory memory;
} moi_layout_choice;

static int moi_layout_has_gap_at(const moi_layout_call *call, size_t i, size_t step) {
    for (size_t k = moi_layout_first_gap(call, i);
         k < call->desc.n_gaps && call->gaps[k].a == i && call->gaps[k].b <= step; k++)
        if (call->desc.gaps[call->gaps[k].index].last >= step) return 1;
    return 0;
}

/* Two items of one same step could take each other over in a circle, and a fixed one cannot
 * move. */
static int moi_layout_may_take(const moi_layout_call *call, const mo_layout_alias *alias) {
    const mo_layout_item *item = &call->items[alias->item], *from = &call->items[alias->from];
    const size_t *fixed = call->desc.fixed;
    if (item->size == 0 || (item->last == item->first && from->last == from->first)) return 0;
    if (fixed && (fixed[alias->item] != SIZE_MAX || fixed[alias->from] != SIZE_MAX)) return 0;
    return !moi_layout_has_gap_at(call, alias->item, item->first) &&
        !moi_layout_has_gap_at(call, alias->from, item->first);
}

static void moi_layout_carve_choice(moi_layout_choice *c) {
    size_t n = c->call->n,
           **arrays[] = {&c->taken, &c->given, &c->best_taken, &c->offsets, &c->edge_begin,
               &c->previous, &c->queue};
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++)
        *arrays[k] = (size_t *)moi_layout_take(&c->memory, n, sizeof **arrays[k]);
    c->edges =
        (moi_layout_key *)moi_layout_take(&c->memory, c->call->desc.n_aliases, sizeof *c->edges);
}

static mo_status moi_layout_begin_choice(moi_layout_choice *c, moi_layout_call *call) {
    memset(c, 0, sizeof *c);
    c->call = call;
    moi_layout_carve_choice(c);
    mo_status status = moi_layout_provide(&c->memory, call->desc.allocator);
    if (status != MO_OK) return status;
    moi_layout_carve_choice(c);
    for (size_t k = 0; k < call->desc.n_aliases; k++) {
        const mo_layout_alias *alias = &call->desc.aliases[k];
        moi_layout_key key = {SIZE_MAX - call->items[alias->item].size, alias->item, alias->from};
        if (moi_layout_may_take(call, alias)) c->edges[c->n_edges++] = key;
    }
    moi_layout_sort(c->edges, c->n_edges);
    for (size_t i = 0; i < call->n; i++) {
        c->taken[i] = c->given[i] = c->edge_begin[i] = SIZE_MAX;
        c->previous[i] = SIZE_MAX;
    }
    for (size_t k = c->n_edges; k > 0; k--) c->edge_begin[c->edges[k - 1].b] = k - 1;
    c->best.peak = c->lower_bound = SIZE_MAX;
    return MO_OK;
}

static void moi_layout_end_choice(moi_layout_choice *c) {
    mo_free(c->call->desc.allocator, c->memory.base, c->memory.size, MOI_CACHE_LINE);
}

/* Gives the input at the end of a path to the output before it, whose own input is free then for
 * the output before that. */
static void moi_layout_give(moi_layout_choice *c, size_t input) {
    while (input != SIZE_MAX) {
        size_t output = c->previous[input], freed = c->taken[output];
        c->taken[output] = input;
        c->given[input] = output;
        input = freed;
    }
}

/* Finds an input for the output, moving other outputs to other inputs where that helps. */
static void moi_layout_augment(moi_layout_choice *c, size_t output) {
    size_t n_queue = 0, n_done = 0, found = SIZE_MAX;
    c->queue[n_queue++] = output;
    while (n_done < n_queue && found == SIZE_MAX) {
        size_t at = c->queue[n_done++];
        for (size_t k = c->edge_begin[at]; k < c->n_edges && c->edges[k].b == at; k++) {
            size_t input = c->edges[k].index;
            if (c->previous[input] != SIZE_MAX) continue;
            c->previous[input] = at;
            if (c->given[input] == SIZE_MAX) {
                found = input;
                break;
            }
            c->queue[n_queue++] = c->given[input];
        }
    }
    moi_layout_give(c, found);
    for (size_t done = 0; done < n_done; done++)
        for (size_t k = c->edge_begin[c->queue[done]];
             k < c->n_edges && c->edges[k].b == c->queue[done]; k++)
            c->previous[c->edges[k].index] = SIZE_MAX;
}

/* Outputs by size, the largest first, each along a path: what a step saves is the most possible, so
 * no other choice has a lower live bound. */
static void moi_layout_take_most(moi_layout_choice *c) {
    for (size_t k = 0; k < c->n_edges; k++)
        if (k == 0 || c->edges[k].b != c->edges[k - 1].b) moi_layout_augment(c, c->edges[k].b);
}

static mo_status moi_layout_try_choice(moi_layout_choice *c) {
    mo_layout_result result;
    c->call->taken = c->taken;
    mo_status status = moi_layout_solve_call(c->call, c->queue, &result);
    if (status != MO_OK) return status;
    c->lower_bound = moi_min(c->lower_bound, result.lower_bound);
    if (result.peak >= c->best.peak) return MO_OK;
    c->best = result;
    memcpy(c->offsets, c->queue, c->call->n * sizeof *c->offsets);
    memcpy(c->best_taken, c->taken, c->call->n * sizeof *c->taken);
    return MO_OK;
}

static int moi_layout_choice_is_done(const moi_layout_choice *c, size_t live_bound) {
    return c->best.peak <= moi_max(c->call->desc.capacity, live_bound);
}

/* Takes the edges in the set; 0 when two of them need the same item. */
static int moi_layout_take_set(moi_layout_choice *c, size_t set) {
    int is_valid = 1;
    for (size_t i = 0; i < c->call->n; i++) c->taken[i] = c->given[i] = SIZE_MAX;
    for (size_t k = 0; k < c->n_edges; k++) {
        size_t output = c->edges[k].b, input = c->edges[k].index;
        if (!(set >> k & 1)) continue;
        if (c->taken[output] != SIZE_MAX || c->given[input] != SIZE_MAX) is_valid = 0;
        c->taken[output] = input;
        c->given[input] = output;
    }
    return is_valid;
}

static mo_status moi_layout_try_all(moi_layout_choice *c, size_t live_bound) {
    mo_status status = MO_OK;
    size_t set = 0, n_sets = (size_t)1 << c->n_edges;
    for (; status == MO_OK && set < n_sets; set++) {
        if (moi_layout_choice_is_done(c, live_bound)) break;
        if (moi_layout_take_set(c, set)) status = moi_layout_try_choice(c);
    }
    if (set < n_sets) c->lower_bound = live_bound;
    return status;
}

static mo_status moi_layout_leave_out(moi_layout_choice *c, size_t live_bound) {
    mo_status status = MO_OK;
    size_t n_tried = 0;
    for (size_t k = 0; status == MO_OK && k < c->n_edges; k++) {
        size_t output = c->edges[k].b, input = c->edges[k].index;
        if (c->taken[output] != input) continue;
        if (moi_layout_choice_is_done(c, live_bound) || n_tried++ == MOI_LAYOUT_MAX_LEFT_OUT) break;
        size_t before = c->best.peak;
        c->taken[output] = SIZE_MAX;
        status = moi_layout_try_choice(c);
        if (c->best.peak == before) c->taken[output] = input;
    }
    c->lower_bound = live_bound;
    return status;
}

/* Nothing is rounded: what rounding adds depends on the choice. */
static mo_status moi_layout_bound_choices(moi_layout_choice *c, mo_layout_result *result) {
    moi_layout layout;
    c->call->taken = c->taken;
    c->call->ignore_align = 1;
    mo_status status = moi_layout_create(&layout, c->call);
    if (status == MO_OK) {
        status = moi_layout_bound(&layout, result);
        moi_layout_destroy(&layout);
    }
    c->call->ignore_align = 0;
    return status;
}

static mo_status moi_layout_solve_aliases(
    moi_layout_call *call, size_t *offsets, mo_layout_result *result) {
    moi_layout_choice c;
    uint64_t n_nodes = call->effort->n_nodes;
    mo_status status = moi_layout_begin_choice(&c, call);
    if (status != MO_OK) return status;
    moi_layout_take_most(&c);
    mo_layout_result bound;
    memset(&bound, 0, sizeof bound);
    status = moi_layout_bound_choices(&c, &bound);
    if (status == MO_OK) status = moi_layout_try_choice(&c);
    size_t live_bound = bound.live_bound, peak_step = bound.peak_step;
    if (status == MO_OK)
        status = c.n_edges <= MOI_LAYOUT_MAX_ENUMERATED ? moi_layout_try_all(&c, live_bound)
                                                        : moi_layout_leave_out(&c, live_bound);
    if (status == MO_OK) {
        *result = c.best;
        result->live_bound = live_bound;
        result->peak_step = peak_step;
        result->lower_bound = moi_max(c.lower_bound, live_bound);
        result->proved = result->peak == result->lower_bound;
        result->n_nodes = call->effort->n_nodes - n_nodes;
        memcpy(offsets, c.offsets, call->n * sizeof *offsets);
        memcpy(call->desc.taken, c.best_taken, call->n * sizeof *offsets);
    }
    call->taken = NULL;
    moi_layout_end_choice(&c);
    return status;
}
