/* mo_place.c - items to layers and clusters, and the calls; see mo_place.h. */

/* ---- messages ------------------------------------------------------------------------------ */

/* A name, or the index where there is none, cut to fit one line of a log. */
typedef struct moi_place_text {
    char text[128];
} moi_place_text;

static moi_place_text moi_place_name(const char *name, size_t index) {
    moi_place_text out;
    if (name) snprintf(out.text, sizeof out.text, "'%.100s'", name);
    else snprintf(out.text, sizeof out.text, "%zu", index);
    return out;
}

static moi_place_text moi_place_item_name(const mo_place_desc *desc, size_t i) {
    return moi_place_name(desc->items[i].name, i);
}

static mo_status moi_place_check_devices(const mo_place_desc *desc) {
    for (size_t d = 0; d < desc->n_devices; d++) {
        double speed = desc->devices[d].bytes_per_s;
        if (speed >= 0 && speed - speed == 0) continue;
        moi_log(desc->log, MO_LOG_ERROR, "place: device %s: %g bytes_per_s",
            moi_place_name(desc->devices[d].name, d).text, speed);
        return MO_E_INVALID;
    }
    return MO_OK;
}

static mo_status moi_place_check_items(const mo_place_desc *desc) {
    size_t total = 0;
    for (size_t i = 0; i < desc->n_items; i++) {
        const mo_place_item *item = &desc->items[i];
        if (!(item->uses >= 0) || item->uses - item->uses != 0) {
            moi_log(desc->log, MO_LOG_ERROR, "place: item %s: %g uses",
                moi_place_item_name(desc, i).text, item->uses);
            return MO_E_INVALID;
        }
        if (item->pinned && item->device >= desc->n_devices) {
            moi_log(desc->log, MO_LOG_ERROR, "place: item %s: pinned to device %zu of %zu",
                moi_place_item_name(desc, i).text, item->device, desc->n_devices);
            return MO_E_INVALID;
        }
        if (!moi_add(total, item->bytes, &total)) {
            moi_log(desc->log, MO_LOG_ERROR, "place: item %s: %zu bytes overflow the sum",
                moi_place_item_name(desc, i).text, item->bytes);
            return MO_E_OVERFLOW;
        }
    }
    return MO_OK;
}

static mo_status moi_place_check(const mo_place_desc *desc) {
    if (!desc || !desc->devices || desc->n_devices == 0 || (!desc->items && desc->n_items > 0) ||
        !(desc->time_limit_s >= 0) || (unsigned)desc->method > MO_PLACE_GREEDY ||
        (unsigned)desc->goal > MO_PLACE_BYTES)
        return MO_E_INVALID;
    mo_status status = moi_place_check_devices(desc);
    return status == MO_OK ? moi_place_check_items(desc) : status;
}

/* ---- items to layers ----------------------------------------------------------------------- */

static void moi_place_carve(moi_place *place) {
    moi_layout_memory *m = &place->memory;
    size_t n = place->desc->n_items;
    place->layer_of = (size_t *)moi_layout_take(m, n, sizeof *place->layer_of);
    place->parent = (size_t *)moi_layout_take(m, n, sizeof *place->parent);
    place->repeats = (unsigned char *)moi_layout_take(m, n, sizeof *place->repeats);
    place->keys = (moi_layout_key *)moi_layout_take(m, n, sizeof *place->keys);
    place->sums = (size_t *)moi_layout_take(m, n, sizeof *place->sums);
    place->layers = (moi_place_layer *)moi_layout_take(m, n, sizeof *place->layers);
    place->clusters = (moi_place_cluster *)moi_layout_take(m, n, sizeof *place->clusters);
}

/* Numbers layers by their first item. parent serves as the first item of each item's group. */
static void moi_place_find_layers(moi_place *place) {
    const mo_place_item *items = place->desc->items;
    size_t n = place->desc->n_items;
    for (size_t i = 0; i < n; i++) {
        moi_layout_key key = {items[i].group, 0, i};
        place->keys[i] = key;
    }
    moi_layout_sort(place->keys, n);
    for (size_t k = 0, first = 0; k < n; k++) {
        size_t i = place->keys[k].index;
        if (k == 0 || place->keys[k].a == 0 || place->keys[k].a != place->keys[k - 1].a) first = i;
        place->parent[i] = first;
    }
    for (size_t i = 0; i < n; i++) {
        size_t first = place->parent[i];
        place->layer_of[i] = first == i ? place->n_layers++ : place->layer_of[first];
    }
}

static size_t moi_place_root(size_t *parent, size_t layer) {
    while (parent[layer] != layer) {
        parent[layer] = parent[parent[layer]];
        layer = parent[layer];
    }
    return layer;
}

/* The first layer of both clusters stays the root. */
static void moi_place_join(size_t *parent, size_t a, size_t b) {
    a = moi_place_root(parent, a);
    b = moi_place_root(parent, b);
    if (a < b) parent[b] = a;
    else parent[a] = b;
}

/* Sorts tied items by tensor, layer and index, marks all but the first, joins their layers. */
static mo_status moi_place_tie(moi_place *place) {
    const mo_place_desc *desc = place->desc;
    size_t n = 0;
    memset(place->repeats, 0, desc->n_items);
    for (size_t i = 0; i < place->n_layers; i++) place->parent[i] = i;
    for (size_t i = 0; i < desc->n_items; i++) {
        moi_layout_key key = {desc->items[i].tied, place->layer_of[i], i};
        if (key.a != 0) place->keys[n++] = key;
    }
    moi_layout_sort(place->keys, n);
    for (size_t k = 1; k < n; k++) {
        const moi_layout_key *at = &place->keys[k], *before = at - 1;
        if (at->a != before->a) continue;
        if (desc->items[at->index].bytes != desc->items[before->index].bytes) {
            moi_log(desc->log, MO_LOG_ERROR,
                "place: items %s and %s are tied, but of %zu and %zu bytes",
                moi_place_item_name(desc, before->index).text,
                moi_place_item_name(desc, at->index).text, desc->items[before->index].bytes,
                desc->items[at->index].bytes);
            return MO_E_INVALID;
        }
        place->repeats[at->index] =
            (unsigned char)(MOI_PLACE_IN_CLUSTER | (at->b == before->b ? MOI_PLACE_IN_LAYER : 0));
        moi_place_join(place->parent, (size_t)at->b, (size_t)before->b);
    }
    return MO_OK;
}

static void moi_place_find_clusters(moi_place *place) {
    const moi_place_cluster none = {0, 0, 0, SIZE_MAX};
    for (size_t i = 0; i < place->n_layers; i++) {
        size_t root = moi_place_root(place->parent, i);
        moi_place_layer layer = {0, root == i ? place->n_clusters : place->layers[root].cluster};
        place->layers[i] = layer;
        if (root == i) place->clusters[place->n_clusters++] = none;
    }
}

static double moi_place_uses(const mo_place_item *item) { return item->uses == 0 ? 1 : item->uses; }

static mo_status moi_place_sum(moi_place *place) {
    const mo_place_desc *desc = place->desc;
    for (size_t i = 0; i < desc->n_items; i++) {
        const mo_place_item *item = &desc->items[i];
        moi_place_layer *layer = &place->layers[place->layer_of[i]];
        moi_place_cluster *cluster = &place->clusters[layer->cluster];
        if (!(place->repeats[i] & MOI_PLACE_IN_CLUSTER)) cluster->bytes += item->bytes;
        if (!(place->repeats[i] & MOI_PLACE_IN_LAYER)) {
            layer->bytes += item->bytes;
            cluster->moved += moi_place_uses(item) * (double)item->bytes;
        }
        if (!item->pinned) continue;
        if (cluster->pin != SIZE_MAX && cluster->pin != item->device) {
            moi_log(desc->log, MO_LOG_ERROR,
                "place: item %s: pinned to device %zu, but another that stays with it to %zu",
                moi_place_item_name(desc, i).text, item->device, cluster->pin);
            return MO_E_INVALID;
        }
        cluster->pin = item->device;
    }
    for (size_t i = 0; i < place->n_layers; i++) {
        moi_place_cluster *cluster = &place->clusters[place->layers[i].cluster];
        cluster->largest = moi_max(cluster->largest, place->layers[i].bytes);
    }
    return MO_OK;
}

static void moi_place_destroy(moi_place *place) {
    mo_free(place->desc->allocator, place->memory.base, place->memory.size, MOI_CACHE_LINE);
}

static mo_status moi_place_create(moi_place *place, const mo_place_desc *desc) {
    mo_status status = moi_place_check(desc);
    if (status != MO_OK) return status;
    memset(place, 0, sizeof *place);
    place->desc = desc;
    moi_place_carve(place);
    status = moi_layout_provide(&place->memory, desc->allocator);
    if (status != MO_OK) return status;
    moi_place_carve(place);
    moi_place_find_layers(place);
    status = moi_place_tie(place);
    if (status == MO_OK) {
        moi_place_find_clusters(place);
        status = moi_place_sum(place);
    }
    if (status != MO_OK) moi_place_destroy(place);
    return status;
}

/* ---- what fits ----------------------------------------------------------------------------- */

static size_t moi_place_room(const mo_place_device *device, size_t largest) {
    size_t room;
    return moi_mul(device->n_buffers, largest, &room) ? room : SIZE_MAX;
}

static int moi_place_holds(const mo_place_device *device, size_t used, size_t largest) {
    return used <= device->limit_bytes &&
        moi_place_room(device, largest) <= device->limit_bytes - used;
}

static int moi_place_fits(
    const moi_place *place, const moi_place_state *state, const moi_place_cluster *c, size_t d) {
    const mo_place_device *devices = place->desc->devices;
    if (!moi_place_holds(&devices[d], state->used[d] + c->bytes, state->behind[d])) return 0;
    for (size_t e = 0; devices[d].bytes_per_s > 0 && e < d; e++)
        if (c->largest > state->behind[e] &&
            !moi_place_holds(&devices[e], state->used[e], c->largest))
            return 0;
    return 1;
}

static void moi_place_put(
    const moi_place *place, moi_place_state *state, const moi_place_cluster *c, size_t d) {
    state->used[d] += c->bytes;
    for (size_t e = 0; place->desc->devices[d].bytes_per_s > 0 && e < d; e++)
        state->behind[e] = moi_max(state->behind[e], c->largest);
}

/* ---- what a placement costs ---------------------------------------------------------------- */

static mo_status moi_place_check_placement(const mo_place_desc *desc, const size_t *device) {
    for (size_t i = 0; i < desc->n_items; i++)
        if (device[i] != SIZE_MAX && device[i] >= desc->n_devices) {
            moi_log(desc->log, MO_LOG_ERROR, "place: item %s: device %zu of %zu",
                moi_place_item_name(desc, i).text, device[i], desc->n_devices);
            return MO_E_INVALID;
        }
    return MO_OK;
}

/* Tied items as keys: a = tensor, b = device, index. */
static size_t moi_place_sort_ties(moi_place *place, const size_t *device) {
    size_t n = 0;
    for (size_t i = 0; i < place->desc->n_items; i++) {
        moi_layout_key key = {place->desc->items[i].tied, device[i], i};
        if (key.a != 0) place->keys[n++] = key;
    }
    moi_layout_sort(place->keys, n);
    return n;
}

/* Bytes on one device, or without a place: tied items that lie there together count once. */
static void moi_place_count(
    moi_place *place, const size_t *device, mo_place_use *use, mo_place_result *result) {
    const mo_place_item *items = place->desc->items;
    size_t n = moi_place_sort_ties(place, device);
    for (size_t i = 0; i < place->desc->n_items; i++) {
        if (device[i] == SIZE_MAX) result->n_missing++;
        else use[device[i]].n_items++;
        if (items[i].tied != 0) continue;
        if (device[i] == SIZE_MAX) result->missing_bytes += items[i].bytes;
        else use[device[i]].bytes += items[i].bytes;
    }
    for (size_t k = 0; k < n; k++) {
        const moi_layout_key *at = &place->keys[k];
        if (k > 0 && at->a == at[-1].a && at->b == at[-1].b) continue;
        if (at->b == SIZE_MAX) result->missing_bytes += items[at->index].bytes;
        else use[at->b].bytes += items[at->index].bytes;
    }
}

static int moi_place_is_streamed(const mo_place_desc *desc, size_t device) {
    return device != SIZE_MAX && desc->devices[device].bytes_per_s > 0;
}

static void moi_place_count_moves(
    const moi_place *place, const size_t *device, mo_place_use *use, mo_place_result *result) {
    const mo_place_desc *desc = place->desc;
    for (size_t i = 0; i < desc->n_items; i++)
        if (moi_place_is_streamed(desc, device[i]) && !(place->repeats[i] & MOI_PLACE_IN_LAYER))
            use[device[i]].moved_bytes +=
                moi_place_uses(&desc->items[i]) * (double)desc->items[i].bytes;
    for (size_t d = 0; d < desc->n_devices; d++) {
        if (use[d].moved_bytes == 0) continue;
        result->moved_bytes += use[d].moved_bytes;
        result->step_s += use[d].moved_bytes / desc->devices[d].bytes_per_s;
    }
}

/* The largest sum over the items of one layer that are streamed from behind d. */
static size_t moi_place_largest_behind(const moi_place *place, const size_t *device, size_t d) {
    size_t largest = 0;
    memset(place->sums, 0, place->n_layers * sizeof *place->sums);
    for (size_t i = 0; i < place->desc->n_items; i++) {
        size_t *sum = &place->sums[place->layer_of[i]];
        if (device[i] <= d || !moi_place_is_streamed(place->desc, device[i]) ||
            (place->repeats[i] & MOI_PLACE_IN_LAYER))
            continue;
        *sum += place->desc->items[i].bytes;
        largest = moi_max(largest, *sum);
    }
    return largest;
}

static void moi_place_count_room(
    const moi_place *place, const size_t *device, mo_place_use *use, mo_place_result *result) {
    for (size_t d = 0; d < place->desc->n_devices; d++) {
        const mo_place_device *at = &place->desc->devices[d];
        size_t limit = at->limit_bytes, room = 0, over;
        if (at->n_buffers > 0)
            room = moi_place_room(at, moi_place_largest_behind(place, device, d));
        use[d].room_bytes = room;
        if (moi_add(use[d].bytes, room, &over)) over = over > limit ? over - limit : 0;
        else over = SIZE_MAX - limit;
        use[d].over_bytes = over;
        if (!moi_add(result->over_bytes, over, &result->over_bytes)) result->over_bytes = SIZE_MAX;
    }
}

/* Fills what a placement alone decides: the fields of the search stay as they are. */
static mo_status moi_place_account(
    moi_place *place, const size_t *device, mo_place_use *use, mo_place_result *result) {
    const mo_place_desc *desc = place->desc;
    mo_place_use *uses =
        (mo_place_use *)moi_alloc_array(desc->allocator, desc->n_devices, sizeof *uses);
    if (!uses) return MO_E_NO_MEMORY;
    memset(uses, 0, desc->n_devices * sizeof *uses);
    moi_place_count(place, device, uses, result);
    moi_place_count_moves(place, device, uses, result);
    moi_place_count_room(place, device, uses, result);
    if (use) memcpy(use, uses, desc->n_devices * sizeof *use);
    moi_free_array(desc->allocator, uses, desc->n_devices, sizeof *uses);
    return MO_OK;
}

mo_status mo_place_measure(
    const mo_place_desc *desc, const size_t *device, mo_place_use *use, mo_place_result *result) {
    moi_place place;
    mo_place_result found;
    mo_status status = device || (desc && desc->n_items == 0) ? MO_OK : MO_E_INVALID;
    if (status == MO_OK) status = moi_place_create(&place, desc);
    if (status != MO_OK) return status;
    memset(&found, 0, sizeof found);
    status = moi_place_check_placement(desc, device);
    if (status == MO_OK) status = moi_place_account(&place, device, use, &found);
    if (status == MO_OK && result) *result = found;
    moi_place_destroy(&place);
    return status;
}

/* ---- the calls ----------------------------------------------------------------------------- */

/* Devices of clusters to devices of items, once nothing can fail but the last count. */
static mo_status moi_place_finish(moi_place *place, const size_t *chosen, size_t *scratch,
    size_t *device, mo_place_use *use, mo_place_result *result) {
    size_t n = place->desc->n_items;
    for (size_t i = 0; i < n; i++) scratch[i] = chosen[place->layers[place->layer_of[i]].cluster];
    mo_status status = moi_place_account(place, scratch, use, result);
    if (status == MO_OK && n > 0) memcpy(device, scratch, n * sizeof *device);
    return status;
}

mo_status mo_place_solve(
    const mo_place_desc *desc, size_t *device, mo_place_use *use, mo_place_result *result) {
    moi_place place;
    mo_place_result found;
    mo_status status = device || (desc && desc->n_items == 0) ? MO_OK : MO_E_INVALID;
    if (status == MO_OK) status = moi_place_create(&place, desc);
    if (status != MO_OK) return status;
    size_t n = desc->n_items + 1; /* an array of 0 elements would be NULL */
    size_t *chosen = (size_t *)moi_alloc_array(desc->allocator, n, 2 * sizeof *chosen);
    memset(&found, 0, sizeof found);
    status = chosen ? moi_place_greedy(&place, chosen) : MO_E_NO_MEMORY;
    if (status == MO_OK && desc->method == MO_PLACE_OPTIMAL)
        status = moi_place_search(&place, chosen, &found);
    if (status == MO_OK) status = moi_place_finish(&place, chosen, chosen + n, device, use, &found);
    if (status == MO_OK && result) *result = found;
    moi_free_array(desc->allocator, chosen, n, 2 * sizeof *chosen);
    moi_place_destroy(&place);
    return status;
}

/* ---- maps by hand -------------------------------------------------------------------------- */

static int moi_place_covers(const char *prefix, size_t size, const char *name) {
    if (size == 0) return 1;
    return strncmp(name, prefix, size) == 0 && (name[size] == '.' || name[size] == 0);
}

static mo_status moi_place_check_rules(
    const mo_place_desc *desc, const mo_place_rule *rules, size_t n_rules) {
    for (size_t r = 0; r < n_rules; r++) {
        if (!rules[r].prefix) return MO_E_INVALID;
        if (rules[r].device >= desc->n_devices) {
            moi_log(desc->log, MO_LOG_ERROR, "place: rule '%.100s': device %zu of %zu",
                rules[r].prefix, rules[r].device, desc->n_devices);
            return MO_E_INVALID;
        }
        for (size_t k = 0; k < r; k++)
            if (strcmp(rules[k].prefix, rules[r].prefix) == 0) {
                moi_log(desc->log, MO_LOG_ERROR, "place: rule '%.100s' twice", rules[r].prefix);
                return MO_E_INVALID;
            }
    }
    for (size_t i = 0; i < desc->n_items; i++)
        if (!desc->items[i].name) {
            moi_log(desc->log, MO_LOG_ERROR, "place: item %zu has no name", i);
            return MO_E_INVALID;
        }
    return MO_OK;
}

/* The device by the longest prefix; SIZE_MAX = none covers it. */
static size_t moi_place_match(const mo_place_rule *rules, size_t n_rules, const char *name) {
    size_t device = SIZE_MAX, longest = 0;
    for (size_t r = 0; r < n_rules; r++) {
        size_t size = strlen(rules[r].prefix);
        if ((device != SIZE_MAX && size < longest) ||
            !moi_place_covers(rules[r].prefix, size, name))
            continue;
        device = rules[r].device;
        longest = size;
    }
    return device;
}

mo_status mo_place_map(
    const mo_place_desc *desc, const mo_place_rule *rules, size_t n_rules, size_t *device) {
    size_t n_uncovered = 0, first = 0;
    if (!desc || (!desc->items && desc->n_items > 0) || (!rules && n_rules > 0) || !device)
        return MO_E_INVALID;
    mo_status status = moi_place_check_rules(desc, rules, n_rules);
    if (status != MO_OK) return status;
    for (size_t i = 0; i < desc->n_items; i++)
        if (moi_place_match(rules, n_rules, desc->items[i].name) == SIZE_MAX && n_uncovered++ == 0)
            first = i;
    if (n_uncovered > 0) {
        moi_log(desc->log, MO_LOG_ERROR, "place: no rule covers item %s, nor %zu more",
            moi_place_item_name(desc, first).text, n_uncovered - 1);
        return MO_E_NOT_FOUND;
    }
    for (size_t i = 0; i < desc->n_items; i++)
        device[i] = moi_place_match(rules, n_rules, desc->items[i].name);
    return MO_OK;
}

/* ---- balanced limits ----------------------------------------------------------------------- */

static int moi_place_is_balanced(const mo_place_desc *desc, size_t d) {
    return desc->devices[d].bytes_per_s == 0 && desc->devices[d].limit_bytes > 0;
}

/* Bytes beyond an even share, so that the last device gets no more than its own: 5/4 of the largest
 * group or of the mean item. */
static size_t moi_place_slack(const moi_place *place, size_t total) {
    const mo_place_desc *desc = place->desc;
    size_t largest = desc->n_items ? total / desc->n_items : 0;
    for (size_t i = 0; i < desc->n_items; i++)
        if (desc->items[i].group != 0)
            largest = moi_max(largest, place->layers[place->layer_of[i]].bytes);
    return moi_add(largest, largest / 4, &largest) ? largest : SIZE_MAX;
}

static void moi_place_balance(const moi_place *place, int low_first, size_t *limits) {
    const mo_place_desc *desc = place->desc;
    size_t n = 0, last = 0, total = 0, share, others = 0;
    for (size_t i = 0; i < place->n_clusters; i++) total += place->clusters[i].bytes;
    for (size_t d = 0; d < desc->n_devices; d++) {
        limits[d] = desc->devices[d].limit_bytes;
        if (moi_place_is_balanced(desc, d)) n++, last = d;
    }
    if (n < 2) return;
    low_first = low_first && moi_place_is_balanced(desc, 0);
    if (!moi_add(total / (low_first ? n - 1 : n), moi_place_slack(place, total), &share)) return;
    for (size_t d = low_first ? 1 : 0; d < last; d++)
        if (moi_place_is_balanced(desc, d)) limits[d] = moi_min(limits[d], share);
    if (!low_first) return;
    for (size_t d = 1; d <= last; d++)
        if (moi_place_is_balanced(desc, d) && !moi_add(others, limits[d], &others))
            others = SIZE_MAX;
    limits[0] = moi_min(limits[0], total > others ? total - others : 0);
}

mo_status mo_place_balanced(const mo_place_desc *desc, int low_first, size_t *limits) {
    moi_place place;
    if (!limits) return MO_E_INVALID;
    mo_status status = moi_place_create(&place, desc);
    if (status != MO_OK) return status;
    moi_place_balance(&place, low_first, limits);
    moi_place_destroy(&place);
    return MO_OK;
}
