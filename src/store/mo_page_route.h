/* mo_page_route.h - the order in which pages are going to be used, over and over, and where in it a
 * walk is: what pages on the CPU and on devices share; never part of the public header.
 *
 * Steps of all rounds are counted on. A page that the route does not have is used after all steps,
 * the one that was asked for last before the others. */
#ifndef MEMOPT_PAGE_ROUTE_H
#define MEMOPT_PAGE_ROUTE_H

static const uint64_t moi_page_never = UINT64_MAX / 2;

/* An entry. again: entries from here to the next one of the same page, n at most. */
typedef struct moi_page_step {
    size_t page, again;
} moi_page_step;

/* A route that begins at its first step: order [n] of pages below n_pages, NULL = 0, 1 .. n - 1;
 * n = 0: none. When it fails the old one stays. */
static mo_status moi_page_route_set(moi_page_route *route, const mo_allocator *allocator,
    const size_t *order, size_t n, size_t n_pages);
static void moi_page_route_free(moi_page_route *route, const mo_allocator *allocator);

/* The page of a step, with a route. */
static size_t moi_page_route_page(const moi_page_route *route, uint64_t step);

/* The first step from here on that has the page; of one that has none, its rank behind all. */
static uint64_t moi_page_route_next(moi_page_route *route, size_t page);

/* The page of this step is used now; returns its next use. *skips: steps were left out, and next
 * uses before the route's step have to be moved on by catch_up. */
static uint64_t moi_page_route_advance(moi_page_route *route, uint64_t step, int *skips);
static uint64_t moi_page_route_catch_up(const moi_page_route *route, uint64_t next_use);

#endif
