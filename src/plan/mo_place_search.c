/* mo_place_search.c - the best placement by branch and bound; see mo_place.h.
 *
 * Depth first: the cluster with the most travel for a byte first (pinned ones before them), the
 * fastest device first, no place last. Bound: what is left may be cut at any byte; then the most
 * travel for a byte goes to the fastest device that has room. The order of depths is that order, so
 * the bound is a look-up in sums over it. Of the bytes that are free on a device, only a multiple
 * of what divides all sizes left can be filled.
 *
 * How much room devices keep depends on the largest layer that is streamed, so the tree is walked
 * once for each class of sizes that it may have: that room is kept from the start, and larger
 * layers may not be streamed: their clusters are placed before the others. The classes with the
 * lowest bounds come first, each with a share of the nodes, then those that did not end with all.
 *
 * Equal clusters take devices in ascending rank only, and of devices that compute, hold equally
 * much and may hold equally much, only the first is tried: what is left out is the same with names
 * changed. */

/* The largest streamed layer has low to high bytes. */
typedef struct moi_place_class {
    size_t low, high;
    int is_done;
} moi_place_class;

enum { MOI_PLACE_MAX_CLASSES = 64 };

typedef struct moi_place_tree {
    const moi_place *place;
    size_t n, n_pinned, n_devices;
    size_t n_first;   /* the depth from which on clusters are in the order of travel */
    size_t n_front;   /* devices in front of all that stream */
    size_t low, high; /* of the class */
    size_t *sorted;   /* [n] clusters that are not pinned, by travel; the pinned behind them */
    moi_place_state state;
    size_t *order;  /* [n] cluster of each depth */
    size_t *rank;   /* [n_devices] devices, the cheapest first */
    double *cost;   /* [n_devices] of one byte */
    size_t *choice; /* [n] rank of each depth + 1, n_devices + 1 = no place; 0 = none yet */
    size_t *saved;  /* [n * n_devices] state.behind before each depth */
    size_t *best;   /* [n_clusters] device */
    size_t *missing, best_missing; /* [n + 1] bytes without a place before each depth */
    double *spent, best_cost;      /* [n + 1] cost before each depth */
    size_t *bytes_at;              /* [n + 1] bytes of the clusters before each depth */
    size_t *unit_at;      /* [n] the greatest divisor of all bytes from a depth on; 0 = all are 0 */
    double *moved_at;     /* [n + 1] what they would travel */
    moi_layout_key *keys; /* [n] */
    size_t depth;
    uint64_t n_nodes, max_nodes;
    double end_s;
    moi_layout_memory memory;
} moi_place_tree;

/* Looks at the clock only so often. */
enum { MOI_PLACE_CLOCK_EVERY = 1024 };

static void moi_place_carve_tree(moi_place_tree *t) {
    moi_layout_memory *m = &t->memory;
    size_t n = t->n, n_devices = t->n_devices, cells;
    if (!moi_mul(n, n_devices, &cells)) cells = SIZE_MAX;
    t->state.used = (size_t *)moi_layout_take(m, n_devices, sizeof(size_t));
    t->state.behind = (size_t *)moi_layout_take(m, n_devices, sizeof(size_t));
    t->sorted = (size_t *)moi_layout_take(m, n, sizeof *t->sorted);
    t->order = (size_t *)moi_layout_take(m, n, sizeof *t->order);
    t->rank = (size_t *)moi_layout_take(m, n_devices, sizeof *t->rank);
    t->cost = (double *)moi_layout_take(m, n_devices, sizeof *t->cost);
    t->choice = (size_t *)moi_layout_take(m, n, sizeof *t->choice);
    t->saved = (size_t *)moi_layout_take(m, cells, sizeof *t->saved);
    t->missing = (size_t *)moi_layout_take(m, n + 1, sizeof *t->missing);
    t->spent = (double *)moi_layout_take(m, n + 1, sizeof *t->spent);
    t->bytes_at = (size_t *)moi_layout_take(m, n + 1, sizeof *t->bytes_at);
    t->unit_at = (size_t *)moi_layout_take(m, n + 1, sizeof *t->unit_at);
    t->moved_at = (double *)moi_layout_take(m, n + 1, sizeof *t->moved_at);
    t->keys = (moi_layout_key *)moi_layout_take(m, moi_max(n, n_devices), sizeof *t->keys);
}

/* ---- tables -------------------------------------------------------------------------------- */

/* The bits of a double that is not negative sort as it does. */
static uint64_t moi_place_double_key(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void moi_place_rank_devices(moi_place_tree *t) {
    const mo_place_desc *desc = t->place->desc;
    for (size_t d = 0; d < t->n_devices; d++) {
        double speed = desc->devices[d].bytes_per_s;
        t->cost[d] = speed == 0 ? 0 : desc->goal == MO_PLACE_BYTES ? 1 : 1 / speed;
        moi_layout_key key = {moi_place_double_key(t->cost[d]), 0, d};
        t->keys[d] = key;
    }
    moi_layout_sort(t->keys, t->n_devices);
    for (size_t r = 0; r < t->n_devices; r++) t->rank[r] = t->keys[r].index;
}

static size_t moi_place_divisor(size_t a, size_t b) {
    while (b != 0) {
        size_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void moi_place_sort_clusters(moi_place_tree *t) {
    const moi_place_cluster *clusters = t->place->clusters;
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        const moi_place_cluster *c = &clusters[i];
        double density = c->bytes ? c->moved / (double)c->bytes : 0;
        moi_layout_key key = {UINT64_MAX - moi_place_double_key(density), SIZE_MAX - c->bytes, i};
        if (c->pin == SIZE_MAX) t->keys[n++] = key;
        else t->sorted[t->n - ++t->n_pinned] = i;
    }
    moi_layout_sort(t->keys, n);
    for (size_t k = 0; k < n; k++) t->sorted[k] = t->keys[k].index;
}

/* The order of depths: pinned clusters, those too large for the class to be streamed, the rest. */
static void moi_place_order_clusters(moi_place_tree *t) {
    const moi_place_cluster *clusters = t->place->clusters;
    size_t n = 0, n_sorted = t->n - t->n_pinned;
    for (size_t k = n_sorted; k < t->n; k++) t->order[n++] = t->sorted[k];
    for (size_t k = 0; k < n_sorted; k++)
        if (clusters[t->sorted[k]].largest > t->high) t->order[n++] = t->sorted[k];
    t->n_first = n;
    for (size_t k = 0; k < n_sorted; k++)
        if (clusters[t->sorted[k]].largest <= t->high) t->order[n++] = t->sorted[k];
    t->bytes_at[0] = 0;
    t->moved_at[0] = 0;
    for (size_t k = 0; k < t->n; k++) {
        t->bytes_at[k + 1] = t->bytes_at[k] + clusters[t->order[k]].bytes;
        t->moved_at[k + 1] = t->moved_at[k] + clusters[t->order[k]].moved;
    }
    t->unit_at[t->n] = 0;
    for (size_t k = t->n; k-- > 0;)
        t->unit_at[k] = moi_place_divisor(t->unit_at[k + 1], clusters[t->order[k]].bytes);
}

static const moi_place_cluster *moi_place_at(const moi_place_tree *t, size_t depth) {
    return &t->place->clusters[t->order[depth]];
}

static int moi_place_is_equal(const moi_place_tree *t, size_t depth) {
    const moi_place_cluster *a = moi_place_at(t, depth - 1), *b = moi_place_at(t, depth);
    return a->bytes == b->bytes && a->largest == b->largest && a->moved == b->moved &&
        a->pin == b->pin;
}

/* ---- the bound ----------------------------------------------------------------------------- */

/* What clusters of all depths up to byte x would travel. */
static double moi_place_moved_below(const moi_place_tree *t, size_t x) {
    size_t low = 0, high = t->n;
    while (low < high) { /* the first depth that begins at x or above */
        size_t middle = low + (high - low) / 2;
        if (t->bytes_at[middle] < x) low = middle + 1;
        else high = middle;
    }
    if (t->bytes_at[low] == x || low == 0) return t->moved_at[low];
    double part =
        (double)(x - t->bytes_at[low - 1]) / (double)(t->bytes_at[low] - t->bytes_at[low - 1]);
    return t->moved_at[low - 1] + part * (t->moved_at[low] - t->moved_at[low - 1]);
}

/* What clusters from depth on can fill of a device at most. */
static size_t moi_place_free(const moi_place_tree *t, size_t depth, size_t d) {
    const mo_place_device *device = &t->place->desc->devices[d];
    size_t taken, unit = t->unit_at[depth];
    if (device->limit_bytes == SIZE_MAX) return SIZE_MAX;
    if (!moi_add(t->state.used[d], moi_place_room(device, t->state.behind[d]), &taken)) return 0;
    if (taken >= device->limit_bytes || unit == 0) return 0;
    return (device->limit_bytes - taken) / unit * unit;
}

/* Bytes from depth on that cannot have a place. */
static size_t moi_place_must_miss(const moi_place_tree *t, size_t depth) {
    size_t left = t->bytes_at[t->n] - t->bytes_at[depth];
    for (size_t d = 0; d < t->n_devices; d++) left -= moi_min(left, moi_place_free(t, depth, d));
    return left;
}

/* The least that everything from depth on costs, when missed bytes of it, those with the most
 * travel, cost nothing. What may not be streamed takes its bytes where nothing travels. */
static double moi_place_least(const moi_place_tree *t, size_t depth, size_t missed) {
    size_t from = moi_max(depth, t->n_first), at = t->bytes_at[from], end = t->bytes_at[t->n];
    size_t fixed = t->bytes_at[from] - t->bytes_at[moi_min(moi_max(depth, t->n_pinned), from)];
    size_t r = 0, free_bytes = missed;
    double cost = 0;
    for (; r < t->n_devices && t->cost[t->rank[r]] == 0; r++)
        if (!moi_add(free_bytes, moi_place_free(t, depth, t->rank[r]), &free_bytes))
            free_bytes = SIZE_MAX;
    if (fixed > free_bytes) return INFINITY;
    at += moi_min(free_bytes - fixed, end - at);
    for (; r < t->n_devices && at < end; r++) {
        size_t d = t->rank[r], take = moi_min(moi_place_free(t, depth, d), end - at);
        cost += t->cost[d] * (moi_place_moved_below(t, at + take) - moi_place_moved_below(t, at));
        at += take;
    }
    return cost;
}

/* By more than rounding. */
static int moi_place_is_less(double a, double b) { return a < b - 1e-12 * b; }

/* Whether something below this node may be better than the best. */
static int moi_place_may_win(const moi_place_tree *t, size_t depth) {
    size_t must = moi_place_must_miss(t, depth), missing = t->missing[depth];
    if (missing > t->best_missing || must > t->best_missing - missing) return 0;
    if (must < t->best_missing - missing) return 1;
    return moi_place_is_less(t->spent[depth] + moi_place_least(t, depth, must), t->best_cost);
}

/* ---- the tree ------------------------------------------------------------------------------ */

/* A device before it in rank is the same, and holds as much. */
static int moi_place_has_twin(const moi_place_tree *t, size_t choice) {
    const mo_place_device *devices = t->place->desc->devices;
    size_t d = t->rank[choice - 1];
    if (devices[d].bytes_per_s > 0 || devices[d].n_buffers > 0) return 0;
    for (size_t k = 1; k < choice; k++) {
        size_t e = t->rank[k - 1];
        if (devices[e].bytes_per_s == 0 && devices[e].n_buffers == 0 &&
            devices[e].limit_bytes == devices[d].limit_bytes &&
            t->state.used[e] == t->state.used[d])
            return 1;
    }
    return 0;
}

static int moi_place_may_choose(const moi_place_tree *t, size_t choice) {
    const moi_place_cluster *c = moi_place_at(t, t->depth);
    if (choice > t->n_devices) return 1;
    size_t d = t->rank[choice - 1];
    if (t->cost[d] > 0 && c->largest > t->high) return 0;
    if (c->pin != SIZE_MAX) return d == c->pin && moi_place_fits(t->place, &t->state, c, d);
    return moi_place_fits(t->place, &t->state, c, d) && !moi_place_has_twin(t, choice);
}

static void moi_place_descend(moi_place_tree *t, size_t choice) {
    const moi_place_cluster *c = moi_place_at(t, t->depth);
    size_t k = t->depth;
    t->choice[k] = choice;
    t->missing[k + 1] = t->missing[k];
    t->spent[k + 1] = t->spent[k];
    memcpy(t->saved + k * t->n_devices, t->state.behind, t->n_devices * sizeof *t->saved);
    if (choice > t->n_devices) t->missing[k + 1] += c->bytes;
    else {
        size_t d = t->rank[choice - 1];
        t->spent[k + 1] += t->cost[d] * c->moved;
        moi_place_put(t->place, &t->state, c, d);
    }
    t->depth = k + 1;
    if (t->depth == t->n) return;
    t->choice[k + 1] = moi_place_is_equal(t, k + 1) ? choice - 1 : 0;
}

static void moi_place_ascend(moi_place_tree *t) {
    size_t k = --t->depth, choice = t->choice[k];
    if (choice <= t->n_devices) t->state.used[t->rank[choice - 1]] -= moi_place_at(t, k)->bytes;
    memcpy(t->state.behind, t->saved + k * t->n_devices, t->n_devices * sizeof *t->saved);
}

static void moi_place_keep_best(moi_place_tree *t) {
    double cost = t->spent[t->n];
    if (t->missing[t->n] > t->best_missing) return;
    if (t->missing[t->n] == t->best_missing && !moi_place_is_less(cost, t->best_cost)) return;
    t->best_missing = t->missing[t->n];
    t->best_cost = cost;
    for (size_t k = 0; k < t->n; k++)
        t->best[t->order[k]] = t->choice[k] > t->n_devices ? SIZE_MAX : t->rank[t->choice[k] - 1];
}

static int moi_place_is_over(const moi_place_tree *t) {
    if (t->n_nodes >= t->max_nodes) return 1;
    return t->end_s > 0 && t->n_nodes % MOI_PLACE_CLOCK_EVERY == 0 && moi_os_now_s() >= t->end_s;
}

/* 1 = the whole tree was seen, 0 = a limit came first. */
static int moi_place_walk_tree(moi_place_tree *t) {
    if (t->n == 0 || !moi_place_may_win(t, 0)) return 1;
    t->choice[0] = 0;
    for (;;) {
        size_t choice = t->choice[t->depth] + 1;
        while (choice <= t->n_devices && !moi_place_may_choose(t, choice)) choice++;
        if (choice > t->n_devices + 1) {
            if (t->depth == 0) return 1;
            moi_place_ascend(t);
            continue;
        }
        if (moi_place_is_over(t)) return 0;
        t->n_nodes++;
        moi_place_descend(t, choice);
        if (t->depth == t->n) moi_place_keep_best(t);
        if (t->depth == t->n || !moi_place_may_win(t, t->depth)) moi_place_ascend(t);
    }
}

/* ---- classes ------------------------------------------------------------------------------- */

/* Whether the devices in front hold the room of the class. */
static int moi_place_begin_class(moi_place_tree *t, const moi_place_class *at) {
    const mo_place_device *devices = t->place->desc->devices;
    t->low = at->low;
    t->high = at->high;
    t->depth = 0;
    memset(t->state.used, 0, t->n_devices * sizeof(size_t));
    memset(t->state.behind, 0, t->n_devices * sizeof(size_t));
    moi_place_order_clusters(t);
    for (size_t d = 0; d < t->n_front; d++) {
        if (!moi_place_holds(&devices[d], 0, t->low)) return 0;
        t->state.behind[d] = t->low;
    }
    return 1;
}

/* A bound for what no placement of the class goes below. */
static double moi_place_class_bound(moi_place_tree *t, const moi_place_class *at) {
    if (!moi_place_begin_class(t, at)) return INFINITY;
    size_t must = moi_place_must_miss(t, 0);
    return must > t->best_missing ? INFINITY : moi_place_least(t, 0, t->best_missing);
}

/* Sizes of layers, cut into classes of equally many sizes, behind the class of nothing streamed.
 * One class is enough where no device in front keeps room. */
static size_t moi_place_make_classes(moi_place_tree *t, moi_place_class *classes) {
    const moi_place *place = t->place;
    size_t n_sizes = 0, n = 0, has_room = 0;
    moi_place_class all = {0, SIZE_MAX, 0}, none = {0, 0, 0};
    while (t->n_front < t->n_devices && t->cost[t->n_front] == 0)
        has_room |= place->desc->devices[t->n_front++].n_buffers > 0;
    if (!has_room || t->n_front == t->n_devices) {
        classes[0] = all;
        return 1;
    }
    for (size_t i = 0; i < t->n; i++) {
        moi_layout_key key = {place->clusters[i].largest, 0, i};
        t->keys[i] = key;
    }
    moi_layout_sort(t->keys, t->n);
    for (size_t i = 0; i < t->n; i++)
        if (t->keys[i].a > (n_sizes ? t->keys[n_sizes - 1].a : 0)) t->keys[n_sizes++] = t->keys[i];
    classes[n++] = none;
    size_t each = moi_ceil_div(n_sizes, MOI_PLACE_MAX_CLASSES - 1);
    for (size_t i = 0; i < n_sizes; i += each) {
        size_t last = moi_min(i + each, n_sizes) - 1;
        moi_place_class some = {(size_t)t->keys[i].a, (size_t)t->keys[last].a, 0};
        classes[n++] = some;
    }
    return n;
}

/* By bound, the lowest first. */
static void moi_place_sort_classes(moi_place_tree *t, moi_place_class *classes, size_t n) {
    moi_place_class sorted[MOI_PLACE_MAX_CLASSES];
    moi_layout_key keys[MOI_PLACE_MAX_CLASSES];
    for (size_t i = 0; i < n; i++) {
        moi_layout_key key = {moi_place_double_key(moi_place_class_bound(t, &classes[i])), 0, i};
        keys[i] = key;
    }
    moi_layout_sort(keys, n);
    for (size_t i = 0; i < n; i++) sorted[i] = classes[keys[i].index];
    memcpy(classes, sorted, n * sizeof *classes);
}

/* All classes that are not done, up to max_nodes for each; returns how many are still not. */
static size_t moi_place_walk_classes(
    moi_place_tree *t, moi_place_class *classes, size_t n, uint64_t max_nodes) {
    uint64_t limit = t->max_nodes;
    size_t n_left = 0;
    for (size_t i = 0; i < n; i++) {
        if (classes[i].is_done) continue;
        t->max_nodes = limit - t->n_nodes < max_nodes ? limit : t->n_nodes + max_nodes;
        classes[i].is_done = !moi_place_begin_class(t, &classes[i]) || moi_place_walk_tree(t);
        n_left += !classes[i].is_done;
    }
    t->max_nodes = limit;
    return n_left;
}

static void moi_place_walk_all(
    moi_place_tree *t, moi_place_class *classes, size_t n, mo_place_result *result) {
    uint64_t share = moi_max(4 * t->n, 1000);
    moi_place_sort_classes(t, classes, n);
    size_t n_left = moi_place_walk_classes(t, classes, n, share);
    if (n_left > 0) n_left = moi_place_walk_classes(t, classes, n, UINT64_MAX);
    result->is_optimal = n_left == 0;
    result->n_nodes = t->n_nodes;
    result->bound = t->best_cost;
    for (size_t i = 0; i < n; i++) {
        if (classes[i].is_done) continue;
        double bound = moi_place_class_bound(t, &classes[i]);
        if (bound < result->bound) result->bound = bound;
    }
}

/* ---- the call ------------------------------------------------------------------------------ */

/* The placement so far is what has to be better. */
static void moi_place_begin_tree(moi_place_tree *t, const size_t *device) {
    const mo_place_desc *desc = t->place->desc;
    moi_place_rank_devices(t);
    moi_place_sort_clusters(t);
    t->missing[0] = 0;
    t->spent[0] = 0;
    for (size_t i = 0; i < t->n; i++) {
        const moi_place_cluster *c = &t->place->clusters[i];
        if (device[i] == SIZE_MAX) t->best_missing += c->bytes;
        else t->best_cost += t->cost[device[i]] * c->moved;
    }
    t->max_nodes = desc->max_nodes;
    if (t->max_nodes == 0) t->max_nodes = desc->time_limit_s > 0 ? UINT64_MAX : 1000000;
    if (desc->time_limit_s > 0) t->end_s = moi_os_now_s() + desc->time_limit_s;
}

static mo_status moi_place_search(const moi_place *place, size_t *device, mo_place_result *result) {
    const mo_allocator *allocator = place->desc->allocator;
    moi_place_class classes[MOI_PLACE_MAX_CLASSES];
    moi_place_tree t;
    memset(&t, 0, sizeof t);
    t.place = place;
    t.n = place->n_clusters;
    t.n_devices = place->desc->n_devices;
    t.best = device;
    moi_place_carve_tree(&t);
    mo_status status = moi_layout_provide(&t.memory, allocator);
    if (status != MO_OK) return status;
    moi_place_carve_tree(&t);
    moi_place_begin_tree(&t, device);
    moi_place_walk_all(&t, classes, moi_place_make_classes(&t, classes), result);
    mo_free(allocator, t.memory.base, t.memory.size, MOI_CACHE_LINE);
    return MO_OK;
}
