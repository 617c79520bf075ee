/* mo_remat_baseline.c - see mo_remat_baseline.h. */

const char *mo_remat_baseline_name(mo_remat_baseline baseline) {
    static const char *const names[] = {"none", "light", "block", "segments", "first_n", "greedy"};
    return (unsigned)baseline < MO_BASELINE_COUNT ? names[baseline] : "?";
}

/* ---- schedules by segments ----------------------------------------------------------------- */

/* What a stage does in forward: it is saved; or it begins, or goes on with, a segment that keeps
 * its input alone. */
typedef enum moi_rb_mark { MOI_RB_SAVED, MOI_RB_BEGINS, MOI_RB_GOES_ON } moi_rb_mark;

/* A search over marks, on its best so far. */
typedef struct moi_rb_search {
    const mo_flat_chain *chain;
    size_t n, budget;     /* n: stages before the loss */
    int light;            /* saved by the option that keeps least */
    unsigned char *marks; /* [n] */
    moi_rm_list list;
    size_t lowest; /* peak of all that were tried */
    mo_remat_solution best;
} moi_rb_search;

static size_t moi_rb_option(const moi_rb_search *search, size_t i) {
    const mo_flat_stage *stage = &search->chain->stages[i];
    size_t best = 0;
    for (size_t k = 1; search->light && k < stage->n_options; k++)
        if (stage->options[k].kept < stage->options[best].kept) best = k;
    return best;
}

static int moi_rb_save(moi_rb_search *search, size_t begin, size_t end) {
    int ok = 1;
    for (size_t i = begin; ok && i < end; i++)
        ok = moi_rs_emit(&search->list, MO_FLAT_SAVE, i, moi_rb_option(search, i));
    return ok;
}

static int moi_rb_forward(moi_rb_search *search) {
    int ok = 1;
    for (size_t i = 0; ok && i < search->n; i++) {
        if (search->marks[i] == MOI_RB_SAVED) ok = moi_rb_save(search, i, i + 1);
        else
            ok = moi_rs_emit(&search->list,
                search->marks[i] == MOI_RB_BEGINS ? MO_FLAT_KEEP : MO_FLAT_DROP, i, 0);
    }
    return ok && moi_rs_emit(&search->list, MO_FLAT_LOSS, search->n, 0);
}

/* Segment by segment from the end: again, then backward. */
static int moi_rb_backward(moi_rb_search *search) {
    int ok = 1;
    for (size_t end = search->n; ok && end > 0;) {
        size_t begin = end - 1;
        while (search->marks[begin] == MOI_RB_GOES_ON) begin--;
        if (search->marks[begin] == MOI_RB_BEGINS) ok = moi_rb_save(search, begin, end);
        for (; ok && end > begin; end--)
            ok = moi_rs_emit(
                &search->list, MO_FLAT_BACKWARD, end - 1, moi_rb_option(search, end - 1));
    }
    return ok;
}

/* The schedule in the list is simulated, and becomes the best when it fits and costs less. */
static mo_status moi_rb_consider(moi_rb_search *search, size_t column) {
    mo_flat_result result;
    mo_status status = mo_remat_flat_simulate(search->chain, 0, search->list.ops, search->list.n,
        &search->list.allocator, NULL, NULL, &result);
    if (status == MO_E_OVERFLOW) return MO_OK;
    if (status != MO_OK) return status;
    search->lowest = moi_min(search->lowest, result.peak_bytes);
    if (result.peak_bytes > search->budget) return MO_OK;
    if (search->best.feasible && result.cost_s >= search->best.cost_s) return MO_OK;
    moi_rs_accept_list(&search->list, &result, column, &search->best);
    return MO_OK;
}

static mo_status moi_rb_try(moi_rb_search *search, size_t column) {
    search->list.n = 0;
    if (!moi_rb_forward(search) || !moi_rb_backward(search)) return MO_E_NO_MEMORY;
    return moi_rb_consider(search, column);
}

/* ---- the kinds ----------------------------------------------------------------------------- */

static mo_status moi_rb_try_segments(moi_rb_search *search) {
    mo_status status = MO_OK;
    for (size_t k = 1; status == MO_OK && k <= moi_max(search->n, 1); k++) {
        size_t length = search->n / k;
        for (size_t i = 0; i < search->n; i++)
            search->marks[i] = (unsigned char)(i / length >= k - 1 ? MOI_RB_SAVED
                    : i % length == 0                              ? MOI_RB_BEGINS
                                                                   : MOI_RB_GOES_ON);
        status = moi_rb_try(search, k);
    }
    return status;
}

static mo_status moi_rb_try_first_n(moi_rb_search *search) {
    mo_status status = moi_rb_try(search, 0);
    for (size_t i = 0; status == MO_OK && i < search->n; i++) {
        search->marks[i] = MOI_RB_BEGINS;
        status = moi_rb_try(search, i + 1);
    }
    return status;
}

/* The saved stage that frees most bytes per second; SIZE_MAX = none is left. */
static size_t moi_rb_next_greedy(const moi_rb_search *search) {
    size_t best = SIZE_MAX;
    double best_rate = 0;
    for (size_t i = 0; i < search->n; i++) {
        const mo_flat_stage *stage = &search->chain->stages[i];
        double bytes = (double)(stage->options[0].kept - stage->output_size);
        double rate = stage->forward_s > 0 ? bytes / stage->forward_s : bytes * 1e300;
        if (search->marks[i] != MOI_RB_SAVED || (best != SIZE_MAX && rate <= best_rate)) continue;
        best = i;
        best_rate = rate;
    }
    return best;
}

static mo_status moi_rb_try_greedy(moi_rb_search *search) {
    mo_status status = moi_rb_try(search, 0);
    size_t n = 0, i;
    while (status == MO_OK && (i = moi_rb_next_greedy(search)) != SIZE_MAX) {
        search->marks[i] = MOI_RB_BEGINS;
        status = moi_rb_try(search, ++n);
    }
    return status;
}

static mo_status moi_rb_try_all(moi_rb_search *search, mo_remat_baseline baseline) {
    memset(search->marks, MOI_RB_SAVED, search->n);
    switch (baseline) {
    case MO_BASELINE_LIGHT: search->light = 1; break;
    case MO_BASELINE_BLOCK: memset(search->marks, MOI_RB_BEGINS, search->n); break;
    case MO_BASELINE_SEGMENTS: return moi_rb_try_segments(search);
    case MO_BASELINE_FIRST_N: return moi_rb_try_first_n(search);
    case MO_BASELINE_GREEDY: return moi_rb_try_greedy(search);
    case MO_BASELINE_NONE:
    case MO_BASELINE_COUNT: break;
    }
    return moi_rb_try(search, 0);
}

static moi_rb_search moi_rb_begin(
    const mo_flat_chain *chain, size_t budget, const mo_allocator *allocator) {
    moi_rb_search search;
    memset(&search, 0, sizeof search);
    search.chain = chain;
    search.n = chain->n_stages - 1;
    search.budget = budget;
    search.lowest = SIZE_MAX;
    if (allocator) search.list.allocator = *allocator;
    search.best.allocator = search.list.allocator;
    return search;
}

mo_status mo_remat_baseline_solve(const mo_flat_chain *chain, mo_remat_baseline baseline,
    size_t budget, const mo_allocator *allocator, const mo_log *log, mo_remat_solution *solution) {
    if (!solution || (unsigned)baseline >= MO_BASELINE_COUNT) return MO_E_INVALID;
    mo_status status = mo_remat_flat_check(chain, log);
    if (status != MO_OK) return status;
    moi_rb_search search = moi_rb_begin(chain, budget, allocator);
    search.marks = (unsigned char *)moi_alloc_array(allocator, search.n + 1, 1);
    status = search.marks ? moi_rb_try_all(&search, baseline) : MO_E_NO_MEMORY;
    moi_free_array(allocator, search.marks, search.n + 1, 1);
    moi_rs_free_list(&search.list);
    if (status == MO_OK) {
        if (!search.best.feasible) search.best.floor_bytes = search.lowest;
        *solution = search.best;
    } else mo_remat_solution_free(&search.best);
    return status;
}

/* ---- Revolve ------------------------------------------------------------------------------- */

/* beta(s, r) = C(s + r, s): the most steps that r runs of each can do; the last three of a search
 * for the least r whose beta reaches n. */
typedef struct moi_rb_revolve {
    uint64_t r, beta, before, before2; /* beta(s, r), beta(s, r - 1), beta(s, r - 2) */
} moi_rb_revolve;

/* n < 2^32, n > 1 and 1 < s < n: products stay below 2^64. */
static moi_rb_revolve moi_rb_find_r(uint64_t n, uint64_t s) {
    moi_rb_revolve found = {0, 1, 0, 0};
    while (found.beta < n) {
        found.before2 = found.before;
        found.before = found.beta;
        found.r++;
        found.beta = found.before * (s + found.r) / found.r;
    }
    return found;
}

static int moi_rb_is_revolve(size_t n, size_t s) {
    return n > 0 && s > 0 && (uint64_t)n <= UINT32_MAX;
}

mo_status mo_remat_revolve_extra(size_t n, size_t s, uint64_t *extra) {
    if (!extra || n == 0 || s == 0) return MO_E_INVALID;
    if (!moi_rb_is_revolve(n, s)) return MO_E_OVERFLOW;
    uint64_t steps = n, slots = moi_min(s, n - 1);
    if (steps == 1) *extra = 0;
    else if (slots == 1) *extra = steps * (steps - 1) / 2;
    else {
        moi_rb_revolve found = moi_rb_find_r(steps, slots);
        *extra = found.r * steps - found.before * (slots + found.r) / (slots + 1);
    }
    return MO_OK;
}

/* The betas of s - 1 and s - 2 follow: beta(s - 1, r) = beta(s, r) - beta(s, r - 1). */
size_t mo_remat_revolve_advance(size_t n, size_t s) {
    if (!moi_rb_is_revolve(n, s) || n == 1) return 0;
    s = moi_min(s, n - 1);
    if (s == 1) return n - 1;
    if (s == n - 1) return 1;
    moi_rb_revolve t = moi_rb_find_r(n, s);
    uint64_t b0 = t.before, b1 = t.before2, steps = n;
    uint64_t c1 = b0 - b1;                          /* beta(s - 1, t - 1) */
    uint64_t c2 = c1 * (s - 1) / (s - 1 + t.r - 1); /* beta(s - 2, t - 1) */
    uint64_t c3 = t.r > 1 ? c1 - c2 : 0;            /* beta(s - 1, t - 2) */
    if (steps <= b0 + c3) return (size_t)(steps - b0 + b1);
    if (steps <= b0 + c2 + c3) return (size_t)(b1 + c3);
    if (steps <= b0 + c1 + c2) return (size_t)(steps - c1 - c2);
    return (size_t)b0;
}

/* n stages from first on, with s slots, of which x[first] has one. */
typedef struct moi_rb_part {
    size_t first, n, s;
} moi_rb_part;

static int moi_rb_revolve_last(moi_rb_search *search, size_t i) {
    int ok = moi_rs_emit(&search->list, MO_FLAT_SAVE, i, 0);
    if (ok && i + 1 == search->n) ok = moi_rs_emit(&search->list, MO_FLAT_LOSS, i + 1, 0);
    return ok && moi_rs_emit(&search->list, MO_FLAT_BACKWARD, i, 0);
}

/* parts: [n + 1], as deep as parts can nest. */
static int moi_rb_emit_revolve(moi_rb_search *search, size_t s, moi_rb_part *parts) {
    size_t n_parts = 0;
    int ok = 1;
    moi_rb_part all = {0, search->n, s};
    if (search->n == 0) return moi_rs_emit(&search->list, MO_FLAT_LOSS, 0, 0);
    parts[n_parts++] = all;
    while (ok && n_parts > 0) {
        moi_rb_part part = parts[--n_parts];
        if (part.n == 1) {
            ok = moi_rb_revolve_last(search, part.first);
            continue;
        }
        size_t k = mo_remat_revolve_advance(part.n, part.s);
        for (size_t i = 0; ok && i < k; i++)
            ok =
                moi_rs_emit(&search->list, i == 0 ? MO_FLAT_KEEP : MO_FLAT_DROP, part.first + i, 0);
        moi_rb_part before = {part.first, k, part.s};
        moi_rb_part after = {part.first + k, part.n - k, part.s - 1};
        parts[n_parts++] = before;
        parts[n_parts++] = after;
    }
    return ok;
}

mo_status mo_remat_revolve_solve(const mo_flat_chain *chain, size_t s,
    const mo_allocator *allocator, const mo_log *log, mo_remat_solution *solution) {
    if (!solution || s == 0) return MO_E_INVALID;
    mo_status status = mo_remat_flat_check(chain, log);
    if (status != MO_OK) return status;
    moi_rb_search search = moi_rb_begin(chain, SIZE_MAX, allocator);
    if (!moi_rb_is_revolve(search.n + 1, s)) return MO_E_OVERFLOW;
    size_t n_parts = search.n + 2;
    moi_rb_part *parts = (moi_rb_part *)moi_alloc_array(allocator, n_parts, sizeof *parts);
    if (!parts) return MO_E_NO_MEMORY;
    status = moi_rb_emit_revolve(&search, s, parts) ? moi_rb_consider(&search, s) : MO_E_NO_MEMORY;
    moi_free_array(allocator, parts, n_parts, sizeof *parts);
    moi_rs_free_list(&search.list);
    if (status == MO_OK && !search.best.feasible) status = MO_E_OVERFLOW;
    if (status == MO_OK) *solution = search.best;
    else mo_remat_solution_free(&search.best);
    return status;
}
