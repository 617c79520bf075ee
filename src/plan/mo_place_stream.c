/* mo_place_stream.c - the order and the earliest moment of what travels; see mo_place.h. */

/* Streamed items as keys: a = layer, b = device, index. One run of equal a and b is a fetch. */
static size_t moi_place_sort_fetches(const moi_place *place, const size_t *device) {
    size_t n = 0;
    for (size_t i = 0; i < place->desc->n_items; i++) {
        moi_layout_key key = {place->layer_of[i], device[i], i};
        if (moi_place_is_streamed(place->desc, device[i])) place->keys[n++] = key;
    }
    moi_layout_sort(place->keys, n);
    return n;
}

/* One fetch for each run, in the order of layers, which is that of their first items. */
static size_t moi_place_collect(
    const moi_place *place, const size_t *device, mo_place_fetch *fetches) {
    const mo_place_desc *desc = place->desc;
    size_t n_keys = moi_place_sort_fetches(place, device), n = 0;
    for (size_t i = 0; i < desc->n_items; i++) place->sums[place->layer_of[i]] = i;
    for (size_t k = 0; k < n_keys; k++) {
        const moi_layout_key *at = &place->keys[k];
        if (k == 0 || at->a != at[-1].a || at->b != at[-1].b) {
            mo_place_fetch fetch = {at->index, place->sums[at->a], 0, 0, (size_t)at->b, 0, 0};
            fetches[n++] = fetch;
        }
        if (!(place->repeats[at->index] & MOI_PLACE_IN_LAYER))
            fetches[n - 1].bytes += desc->items[at->index].bytes;
    }
    return n;
}

/* By the item that needs it. Layers are nearly in that order already: only the parts of a layer
 * that is split over devices may have to move. */
static void moi_place_order_fetches(mo_place_fetch *fetches, size_t n) {
    for (size_t k = 1; k < n; k++) {
        mo_place_fetch fetch = fetches[k];
        size_t at = k;
        for (; at > 0 && fetches[at - 1].item > fetch.item; at--) fetches[at] = fetches[at - 1];
        fetches[at] = fetch;
    }
}

/* Fetch k takes the buffer of the one n_buffers before it, which may be one of the step before. */
static mo_status moi_place_begin_fetches(
    const mo_place_desc *desc, size_t n_buffers, mo_place_fetch *fetches, size_t n) {
    for (size_t k = 0; k < n; k++) {
        mo_place_fetch *fetch = &fetches[k];
        int wraps = k < n_buffers;
        const mo_place_fetch *before =
            wraps ? &fetches[n > n_buffers ? k + n - n_buffers : k] : &fetches[k - n_buffers];
        fetch->link_s = (double)fetch->bytes / desc->devices[fetch->device].bytes_per_s;
        fetch->begin = before->last + 1;
        fetch->wraps = wraps && fetch->begin < desc->n_items;
        if (wraps && !fetch->wraps) fetch->begin = 0;
        if (wraps || fetch->begin <= fetch->item) continue;
        moi_log(desc->log, MO_LOG_ERROR,
            "place: items %s and %s are needed at once, and %zu buffers are too few",
            moi_place_item_name(desc, before->item).text,
            moi_place_item_name(desc, fetch->item).text, n_buffers);
        return MO_E_NO_SPACE;
    }
    return MO_OK;
}

mo_status mo_place_stream(const mo_place_desc *desc, const size_t *device, size_t n_buffers,
    mo_place_fetch *fetches, size_t *n_fetches) {
    moi_place place;
    mo_place_fetch *found = NULL;
    if (!device || n_buffers == 0 || !fetches || !n_fetches) return MO_E_INVALID;
    mo_status status = moi_place_create(&place, desc);
    if (status != MO_OK) return status;
    status = moi_place_check_placement(desc, device);
    size_t room = desc->n_items + 1, n = 0;
    if (status == MO_OK) {
        found = (mo_place_fetch *)moi_alloc_array(desc->allocator, room, sizeof *found);
        if (!found) status = MO_E_NO_MEMORY;
    }
    if (status == MO_OK) {
        n = moi_place_collect(&place, device, found);
        moi_place_order_fetches(found, n);
        status = moi_place_begin_fetches(desc, n_buffers, found, n);
    }
    if (status == MO_OK) {
        memcpy(fetches, found, n * sizeof *fetches);
        *n_fetches = n;
    }
    moi_free_array(desc->allocator, found, room, sizeof *found);
    moi_place_destroy(&place);
    return status;
}
