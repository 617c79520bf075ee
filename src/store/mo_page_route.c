/* mo_page_route.c - see mo_page_route.h. */

static moi_page_step *moi_page_route_steps(
    const mo_allocator *allocator, const size_t *order, size_t n, size_t n_pages) {
    size_t step_bytes, next_bytes;
    if (!moi_mul(n, sizeof(moi_page_step), &step_bytes)) return NULL;
    if (!moi_mul(n_pages, sizeof(size_t), &next_bytes)) return NULL;
    moi_page_step *steps = (moi_page_step *)mo_alloc(allocator, step_bytes, MOI_CACHE_LINE);
    size_t *next = (size_t *)mo_alloc(allocator, next_bytes, MOI_CACHE_LINE);
    for (size_t k = steps && next ? 2 * n : 0; k-- > 0;) { /* two rounds, from behind */
        const size_t page = order ? order[k % n] : k % n;
        if (k < n) {
            steps[k].page = page;
            steps[k].again = next[page] - k;
        }
        next[page] = k;
    }
    if (!next) {
        mo_free(allocator, steps, step_bytes, MOI_CACHE_LINE);
        return NULL;
    }
    mo_free(allocator, next, next_bytes, MOI_CACHE_LINE);
    return steps;
}

static mo_status moi_page_route_set(moi_page_route *route, const mo_allocator *allocator,
    const size_t *order, size_t n, size_t n_pages) {
    moi_page_step *steps = NULL;
    if ((!order && n > n_pages) || n > SIZE_MAX / 2) return MO_E_INVALID;
    for (size_t k = 0; order && k < n; k++)
        if (order[k] >= n_pages) return MO_E_INVALID;
    if (n > 0) {
        steps = moi_page_route_steps(allocator, order, n, n_pages);
        if (!steps) return MO_E_NO_MEMORY;
    }
    moi_page_route_free(route, allocator);
    route->steps = steps;
    route->n = n;
    route->step = 0;
    return MO_OK;
}

static void moi_page_route_free(moi_page_route *route, const mo_allocator *allocator) {
    mo_free(allocator, route->steps, route->n * sizeof *route->steps, MOI_CACHE_LINE);
    route->steps = NULL;
    route->n = 0;
}

static size_t moi_page_route_page(const moi_page_route *route, uint64_t step) {
    return route->steps[step % route->n].page;
}

static uint64_t moi_page_route_next(moi_page_route *route, size_t page) {
    /* Once more the page of the last step: the walk stays behind it. */
    if (route->n && route->step > 0 && moi_page_route_page(route, route->step) != page &&
        moi_page_route_page(route, route->step - 1) == page)
        return route->step - 1;
    for (size_t k = 0; k < route->n; k++)
        if (moi_page_route_page(route, route->step + k) == page) return route->step + k;
    return UINT64_MAX - route->tick++;
}

static uint64_t moi_page_route_advance(moi_page_route *route, uint64_t step, int *skips) {
    *skips = step != route->step;
    route->step = step + 1;
    return step + route->steps[step % route->n].again;
}

static uint64_t moi_page_route_catch_up(const moi_page_route *route, uint64_t next_use) {
    while (next_use < route->step) next_use += route->steps[next_use % route->n].again;
    return next_use;
}
