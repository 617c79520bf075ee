/* mo_place_greedy.c - layer after layer, as accelerate places them; see mo_place.h. */

typedef struct moi_place_walk {
    const moi_place *place;
    moi_place_state state;
    size_t *device;        /* [n_clusters] */
    size_t *done;          /* [n_clusters] not 0: placed, or without a place */
    moi_layout_key *sizes; /* [n_layers] the larger first */
    size_t at;             /* before it, all are done */
} moi_place_walk;

static void moi_place_settle(moi_place_walk *walk, size_t cluster, size_t device) {
    walk->device[cluster] = device;
    walk->done[cluster] = 1;
    if (device != SIZE_MAX)
        moi_place_put(walk->place, &walk->state, &walk->place->clusters[cluster], device);
}

/* The largest layer still to come, besides those of the cluster at hand. */
static size_t moi_place_largest_left(moi_place_walk *walk, size_t cluster) {
    const moi_place *place = walk->place;
    while (walk->at < place->n_layers &&
        walk->done[place->layers[walk->sizes[walk->at].index].cluster])
        walk->at++;
    for (size_t k = walk->at; k < place->n_layers; k++) {
        const moi_place_layer *layer = &place->layers[walk->sizes[k].index];
        if (layer->cluster != cluster && !walk->done[layer->cluster]) return layer->bytes;
    }
    return 0;
}

static int moi_place_fits_in_turn(moi_place_walk *walk, size_t cluster, size_t d) {
    const moi_place *place = walk->place;
    const moi_place_cluster *c = &place->clusters[cluster];
    const mo_place_device *device = &place->desc->devices[d];
    size_t largest = walk->state.behind[d];
    if (device->n_buffers > 0) largest = moi_max(largest, moi_place_largest_left(walk, cluster));
    return moi_place_holds(device, walk->state.used[d] + c->bytes, largest) &&
        moi_place_fits(place, &walk->state, c, d);
}

static void moi_place_walk_pinned(moi_place_walk *walk) {
    const moi_place *place = walk->place;
    for (size_t i = 0; i < place->n_clusters; i++) {
        const moi_place_cluster *c = &place->clusters[i];
        if (c->pin == SIZE_MAX) continue;
        moi_place_settle(
            walk, i, moi_place_fits(place, &walk->state, c, c->pin) ? c->pin : SIZE_MAX);
    }
}

static void moi_place_walk_rest(moi_place_walk *walk) {
    const moi_place *place = walk->place;
    size_t turn = 0, n_devices = place->desc->n_devices;
    for (size_t i = 0; i < place->n_clusters; i++) {
        if (walk->done[i]) continue;
        while (turn < n_devices && !moi_place_fits_in_turn(walk, i, turn)) turn++;
        moi_place_settle(walk, i, turn < n_devices ? turn : SIZE_MAX);
    }
}

static void moi_place_sort_layers(moi_place_walk *walk) {
    const moi_place *place = walk->place;
    for (size_t i = 0; i < place->n_layers; i++) {
        moi_layout_key key = {UINT64_MAX - place->layers[i].bytes, 0, i};
        walk->sizes[i] = key;
    }
    moi_layout_sort(walk->sizes, place->n_layers);
}

static mo_status moi_place_greedy(const moi_place *place, size_t *device) {
    const mo_place_desc *desc = place->desc;
    moi_place_walk walk;
    size_t n = desc->n_devices;
    memset(&walk, 0, sizeof walk);
    walk.place = place;
    walk.device = device;
    walk.done = place->sums;
    walk.sizes = place->keys;
    walk.state.used = (size_t *)moi_alloc_array(desc->allocator, n, 2 * sizeof(size_t));
    if (!walk.state.used) return MO_E_NO_MEMORY;
    walk.state.behind = walk.state.used + n;
    memset(walk.state.used, 0, n * 2 * sizeof(size_t));
    if (place->n_clusters > 0) memset(walk.done, 0, place->n_clusters * sizeof *walk.done);
    moi_place_sort_layers(&walk);
    moi_place_walk_pinned(&walk);
    moi_place_walk_rest(&walk);
    moi_free_array(desc->allocator, walk.state.used, n, 2 * sizeof(size_t));
    return MO_OK;
}
