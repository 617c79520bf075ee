/* test_cl_page.c - arrays of which a few pages are on the device, against the same work unpaged;
 * and the times of commands, which show what ran beside what. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"

enum { N_PAGE = 4096, PAGE = 4 * N_PAGE, N_TAIL = 1001, PAGES = 7 };
enum { N = (PAGES - 1) * N_PAGE + N_TAIL };

static size_t n_of(size_t i) { return i + 1 < PAGES ? N_PAGE : N_TAIL; }

static void open_pages(test_cl *t, mo_cl_page *page, size_t n_slots, size_t n_ahead, void *host) {
    mo_cl_page_desc desc = {.size = 4 * N,
        .page_bytes = PAGE,
        .n_slots = n_slots,
        .n_ahead = n_ahead,
        .host = host,
        .category = MO_CATEGORY_OPTIMIZER,
        .name = "pages"};
    test_ok(mo_cl_page_init(page, &t->heap, &desc));
    assert_int_equal(mo_cl_page_count(page), PAGES);
}
static void put_pages(const mo_cl_page *page, const float *x) {
    for (size_t i = 0; i < PAGES; i++)
        memcpy(mo_cl_page_host(page, i), x + i * N_PAGE, 4 * n_of(i));
}
static void assert_pages(mo_cl_page *page, const float *x) {
    test_ok(mo_cl_page_sync(page));
    for (size_t i = 0; i < PAGES; i++)
        assert_same_bits(mo_cl_page_host(page, i), x + i * N_PAGE, 4 * n_of(i));
}

/* page += scale * its part of grad, so often that a transfer that does not wait is too early */
static void add_to(test_cl *t, mo_cl_page *page, size_t i, mo_cl_mem grad, int rounds) {
    mo_cl_mem mem;
    mo_cl_mem part = mo_cl_part(&grad, (uint64_t)i * PAGE, 4 * n_of(i));
    test_ok(mo_cl_page_acquire(page, i, MO_CL_WRITE, &mem));
    assert_int_equal(mem.size, 4 * n_of(i));
    for (int r = 0; r < rounds; r++)
        test_ok(mo_cl_accum_add(&t->cl, part, 0.3f + (float)r, mem, n_of(i)));
    test_ok(mo_cl_page_release(page, i));
}
static void add_on_cpu(const float *grad, float *x, size_t i, int rounds) {
    for (int r = 0; r < rounds; r++)
        mo_accum_add(grad + i * N_PAGE, 0.3f + (float)r, x + i * N_PAGE, n_of(i), NULL);
}

/* ---- walks --------------------------------------------------------------------------------- */

static void a_walk_with_two_slots_has_the_bits_of_the_whole_array(void **state) {
    test_cl *t = test_cl_of(state);
    float *x = test_normals(&t->rng, N, 10), *grad = test_normals(&t->rng, N, 1);
    mo_cl_page page;
    mo_cl_mem on_grad = test_cl_put(t, grad, 4 * N, 0);
    open_pages(t, &page, 0, 0, NULL);
    put_pages(&page, x);
    test_ok(mo_cl_page_walk(&page, NULL, PAGES));
    for (int walk = 0; walk < 3; walk++)
        for (size_t i = 0; i < PAGES; i++) {
            add_to(t, &page, i, on_grad, 10);
            add_on_cpu(grad, x, i, 10);
        }
    assert_int_equal(page.stats.n_acquired, 3 * PAGES);
    assert_int_equal(page.stats.n_ahead, 3 * PAGES); /* the first too: fetched by walk */
    assert_pages(&page, x);
    assert_int_equal(page.stats.n_out, 3 * PAGES);
    assert_int_equal(page.stats.out_bytes, 3 * 4 * N);
    mo_cl_page_free(&page);
    test_cl_clear(t);
    free(x), free(grad);
}

static void any_order_any_slots_and_any_access_keep_every_page(void **state) {
    test_cl *t = test_cl_of(state);
    const int n_rounds = test_cl_small() ? 3 : 30;
    float *x = test_normals(&t->rng, N, 10), *grad = test_normals(&t->rng, N, 1);
    mo_cl_mem on_grad = test_cl_put(t, grad, 4 * N, 4), mem, seen = test_cl_new(t, PAGE, 0);
    float *got = test_floats(N_PAGE);
    for (int round = 0; round < n_rounds; round++) {
        mo_cl_page page;
        const size_t n_slots = 2 + test_below(&t->rng, 4), n_ahead = test_below(&t->rng, n_slots);
        size_t order[12], n_order = test_below(&t->rng, 12);
        open_pages(t, &page, n_slots, n_ahead, NULL);
        put_pages(&page, x);
        for (size_t k = 0; k < n_order; k++) order[k] = test_below(&t->rng, PAGES);
        test_ok(mo_cl_page_walk(&page, order, n_order));
        for (size_t k = 0; k < 40; k++) {
            const int follows = n_order && test_below(&t->rng, 5) > 0;
            const size_t i = follows ? order[k % n_order] : test_below(&t->rng, PAGES);
            const size_t n = n_of(i), what = test_below(&t->rng, 4);
            float *part = x + i * N_PAGE;
            if (what >= 2) {
                add_to(t, &page, i, on_grad, 2);
                add_on_cpu(grad, x, i, 2);
            } else if (what == 1) {
                const uint32_t bits = test_bits((float)k);
                test_ok(mo_cl_page_acquire(&page, i, MO_CL_OVERWRITE, &mem));
                test_ok(mo_cl_fill_u32(&t->heap, MO_CL_COMPUTE, &mem, 0, n, bits, NULL, NULL));
                test_ok(mo_cl_page_release(&page, i));
                for (size_t j = 0; j < n; j++) part[j] = (float)k;
            } else {
                test_ok(mo_cl_page_acquire(&page, i, MO_CL_READ, &mem));
                test_ok(mo_cl_copy_u32(&t->heap, MO_CL_COMPUTE, &seen, 0, &mem, 0, n, NULL, NULL));
                test_ok(mo_cl_page_release(&page, i));
                test_cl_get(t, mo_cl_part(&seen, 0, 4 * n), got, 4 * n);
                assert_same_bits(got, part, 4 * n);
            }
        }
        if (round % 2) assert_pages(&page, x);
        else {
            test_ok(mo_cl_page_sync(&page));
            for (size_t i = 0; i < PAGES; i++)
                memcpy(x + i * N_PAGE, mo_cl_page_host(&page, i), 4 * n_of(i));
        }
        mo_cl_page_free(&page);
    }
    test_cl_clear(t);
    free(x), free(grad), free(got);
}

static void a_walk_fetches_ahead_and_keeps_what_it_needs_soonest(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_page page;
    mo_cl_mem mem;
    float *x = test_normals(&t->rng, N, 1);
    /* PAGES + 1 slots: each page is fetched once, and none goes back while it is only read. */
    open_pages(t, &page, PAGES + 1, 0, x);
    test_ok(mo_cl_page_walk(&page, NULL, PAGES));
    for (size_t k = 0; k < 3 * PAGES; k++) {
        test_ok(mo_cl_page_acquire(&page, k % PAGES, MO_CL_READ, &mem));
        test_ok(mo_cl_page_release(&page, k % PAGES));
    }
    assert_int_equal(page.stats.n_in, PAGES);
    assert_int_equal(page.stats.n_ahead, PAGES);
    assert_int_equal(page.stats.n_there, 2 * PAGES);
    assert_int_equal(page.stats.n_out, 0);
    mo_cl_page_free(&page);
    /* Of 4 slots one works and one is ahead; the other two keep pages over the walks: as the best
     * schedule, PAGES and then PAGES - 2 a walk or fewer. */
    open_pages(t, &page, 4, 1, x);
    test_ok(mo_cl_page_walk(&page, NULL, PAGES));
    for (size_t k = 0; k < 10 * PAGES; k++) {
        test_ok(mo_cl_page_acquire(&page, k % PAGES, MO_CL_READ, &mem));
        test_ok(mo_cl_page_release(&page, k % PAGES));
    }
    assert_true(page.stats.n_in <= PAGES + 9 * (PAGES - 2) + 1);
    assert_int_equal(page.stats.n_ahead + page.stats.n_there, 10 * PAGES);
    mo_cl_page_free(&page);
    /* Without a walk nothing is fetched ahead, and the page used last but one goes first. */
    open_pages(t, &page, 2, 1, x);
    static const size_t asked[] = {0, 1, 0, 2, 0, 1};
    for (size_t k = 0; k < n_elements(asked); k++) {
        test_ok(mo_cl_page_acquire(&page, asked[k], MO_CL_READ, &mem));
        test_ok(mo_cl_page_release(&page, asked[k]));
    }
    assert_int_equal(page.stats.n_in, 4);
    assert_int_equal(page.stats.n_there, 2);
    mo_cl_page_free(&page);
    free(x);
}

static void a_page_that_is_overwritten_is_not_uploaded(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_page page;
    mo_cl_mem mem;
    open_pages(t, &page, 2, 0, NULL);
    for (size_t i = 0; i < PAGES; i++) {
        test_ok(mo_cl_page_acquire(&page, i, MO_CL_OVERWRITE, &mem));
        test_ok(mo_cl_fill_u32(&t->heap, MO_CL_COMPUTE, &mem, 0, n_of(i), (uint32_t)i, NULL, NULL));
        test_ok(mo_cl_page_release(&page, i));
    }
    test_ok(mo_cl_page_sync(&page));
    assert_int_equal(page.stats.n_in, 0);
    for (size_t i = 0; i < PAGES; i++) {
        const uint32_t *words = mo_cl_page_host(&page, i);
        for (size_t j = 0; j < n_of(i); j++) assert_int_equal(words[j], i);
    }
    mo_cl_page_free(&page);
}

static void what_the_host_changes_after_a_sync_is_what_kernels_see(void **state) {
    test_cl *t = test_cl_of(state);
    float *x = test_floats(N), *grad = test_normals(&t->rng, N, 1);
    mo_cl_page page;
    mo_cl_mem on_grad = test_cl_put(t, grad, 4 * N, 0);
    for (size_t i = 0; i < N; i++) x[i] = 0;
    float *host = test_copy(x, N);
    open_pages(t, &page, 3, 2, host);
    assert_ptr_equal(mo_cl_page_host(&page, 2), host + 2 * N_PAGE);
    test_ok(mo_cl_page_walk(&page, NULL, PAGES));
    test_ok(mo_cl_page_sync(&page));
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) host[i] = x[i] = x[i] + 1;
        for (size_t i = 0; i < PAGES; i++) {
            add_to(t, &page, i, on_grad, 1);
            add_on_cpu(grad, x, i, 1);
        }
        assert_pages(&page, x);
    }
    mo_cl_page_free(&page);
    test_cl_clear(t);
    free(x), free(grad), free(host);
}

/* ---- limits -------------------------------------------------------------------------------- */

static void slots_are_in_the_budget_and_the_rest_is_not(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_heap heap;
    mo_cl_page page;
    mo_cl_heap_stats stats;
    mo_cl_heap_desc heap_desc = {.budget_bytes = 2 * PAGE};
    test_ok(mo_cl_heap_init(&heap, &t->cl, &heap_desc));
    mo_cl_page_desc desc = {.size = 4 * N, .page_bytes = PAGE, .n_slots = 3};
    assert_int_equal(mo_cl_page_init(&page, &heap, &desc), MO_E_NO_SPACE);
    mo_cl_heap_get_stats(&heap, &stats);
    assert_int_equal(stats.n_allocs, 0);
    desc.n_slots = 2;
    test_ok(mo_cl_page_init(&page, &heap, &desc));
    mo_cl_heap_get_stats(&heap, &stats);
    assert_int_equal(stats.used_bytes, 2 * PAGE);
    assert_int_equal(stats.staging_bytes, 4 * N);
    mo_cl_page_free(&page);
    mo_cl_page_free(&page);
    mo_cl_heap_get_stats(&heap, &stats);
    assert_int_equal(stats.n_allocs, 0);
    assert_int_equal(stats.staging_bytes, 0);
    mo_cl_heap_free(&heap);
}

static void pages_larger_than_a_piece_of_staging_are_whole(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_page page;
    if (test_cl_small()) skip();
    mo_cl_page_desc desc = {.size = (uint64_t)130 << 20, .page_bytes = (size_t)30 << 20};
    test_ok(mo_cl_page_init(&page, &t->heap, &desc));
    assert_int_equal(mo_cl_page_count(&page), 5);
    assert_int_equal(page.n_chunks, 3); /* of two pages */
    assert_ptr_equal(
        mo_cl_page_host(&page, 3), (char *)mo_cl_page_host(&page, 2) + desc.page_bytes);
    for (size_t i = 0; i < 5; i++) {
        mo_cl_mem mem;
        test_ok(mo_cl_page_acquire(&page, i, MO_CL_OVERWRITE, &mem));
        test_ok(mo_cl_fill_u32(&t->heap, MO_CL_COMPUTE, &mem, mem.size - 4, 1, 9, NULL, NULL));
        test_ok(mo_cl_page_release(&page, i));
    }
    test_ok(mo_cl_page_sync(&page));
    for (size_t i = 0; i < 5; i++) {
        const size_t size = i < 4 ? desc.page_bytes : (size_t)10 << 20;
        assert_int_equal(((uint32_t *)mo_cl_page_host(&page, i))[size / 4 - 1], 9);
    }
    mo_cl_page_free(&page);
}

static void what_makes_no_sense_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_page page;
    mo_cl_mem mem;
    mo_cl_page_desc desc = {.size = 100, .page_bytes = 0};
    assert_int_equal(mo_cl_page_init(&page, &t->heap, &desc), MO_E_INVALID);
    desc.page_bytes = 10;
    desc.n_slots = 1;
    assert_int_equal(mo_cl_page_init(&page, &t->heap, &desc), MO_E_INVALID);
    desc.n_slots = desc.n_ahead = 2;
    assert_int_equal(mo_cl_page_init(&page, &t->heap, &desc), MO_E_INVALID);
    desc.n_ahead = 0;
    assert_int_equal(mo_cl_page_init(&page, NULL, &desc), MO_E_INVALID);
    assert_int_equal(mo_cl_page_init(NULL, &t->heap, &desc), MO_E_INVALID);
    test_ok(mo_cl_page_init(&page, &t->heap, &desc));
    static const size_t order[] = {0, 10};
    assert_int_equal(mo_cl_page_walk(&page, order, 2), MO_E_INVALID);
    assert_int_equal(mo_cl_page_walk(&page, NULL, 11), MO_E_INVALID);
    assert_int_equal(mo_cl_page_acquire(&page, 10, MO_CL_READ, &mem), MO_E_INVALID);
    assert_int_equal(mo_cl_page_acquire(&page, 0, MO_CL_ACCESS_COUNT, &mem), MO_E_INVALID);
    assert_int_equal(mo_cl_page_acquire(&page, 0, MO_CL_READ, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_page_release(&page, 0), MO_E_INVALID);
    assert_null(mo_cl_page_host(&page, 10));
    memset(mo_cl_page_host(&page, 0), 0, 100);
    for (size_t i = 0; i < 2; i++) test_ok(mo_cl_page_acquire(&page, i, MO_CL_WRITE, &mem));
    test_ok(mo_cl_page_acquire(&page, 0, MO_CL_READ, &mem)); /* again */
    assert_int_equal(mo_cl_page_acquire(&page, 2, MO_CL_READ, &mem), MO_E_NO_SPACE);
    assert_int_equal(mo_cl_page_sync(&page), MO_E_STATE);
    test_ok(mo_cl_page_release(&page, 0));
    assert_int_equal(mo_cl_page_acquire(&page, 2, MO_CL_READ, &mem), MO_E_NO_SPACE);
    test_ok(mo_cl_page_release(&page, 0));
    assert_int_equal(mo_cl_page_release(&page, 0), MO_E_INVALID);
    test_ok(mo_cl_page_acquire(&page, 2, MO_CL_READ, &mem));
    mo_cl_page_free(&page); /* with pages acquired */
}

/* A walk whose downloads and uploads all fit the allocator's k requests. */
static mo_status use_pages(mo_cl *cl) {
    mo_cl_heap heap;
    mo_cl_page page;
    mo_cl_mem mem;
    mo_cl_heap_desc heap_desc = {.budget_bytes = 4096, .max_allocs = 16};
    mo_cl_page_desc desc = {.size = 5000, .page_bytes = 1024};
    mo_status status = mo_cl_heap_init(&heap, cl, &heap_desc);
    if (status != MO_OK) return status;
    status = mo_cl_page_init(&page, &heap, &desc);
    if (status == MO_OK) {
        status = mo_cl_page_walk(&page, NULL, 5);
        for (size_t i = 0; i < 5 && status == MO_OK; i++) {
            test_ok(mo_cl_page_acquire(&page, i, MO_CL_WRITE, &mem));
            test_ok(mo_cl_page_release(&page, i));
        }
        mo_cl_page_free(&page);
    }
    mo_cl_heap_free(&heap);
    return status;
}

static void every_failing_allocation_is_a_status_and_leaks_nothing(void **state) {
    test_cl *t = test_cl_of(state);
    test_heap host;
    mo_cl cl;
    int fits = 0, n_failed = 0;
    for (int k = 0; !fits; k++) {
        mo_allocator allocator = test_heap_begin(&host, -1);
        mo_cl_desc desc = {.device_id = t->cl.device, .cache_folder = "", .allocator = &allocator};
        test_ok(mo_cl_init(&cl, &desc));
        host.fail_at = host.n_requests + k;
        mo_status status = use_pages(&cl);
        assert_true(status == MO_OK || status == MO_E_NO_MEMORY);
        fits = host.n_requests <= host.fail_at;
        assert_int_equal(status == MO_OK, fits);
        n_failed += status != MO_OK;
        mo_cl_free(&cl);
        assert_int_equal(host.live_blocks, 0);
    }
    assert_true(n_failed >= 6); /* blocks, buffer and its books, slots, chunks, walk */
}

/* ---- times --------------------------------------------------------------------------------- */

enum { N_LONG = 1 << 18, LONG_PAGES = 5, LONG_ROUNDS = 20 };

/* A walk over pages whose kernels run longer than it takes to enqueue them. */
static void walk_slowly(test_cl *t, mo_cl_page *page, mo_cl_mem grad, mo_cl_times *times) {
    mo_cl_mem mem;
    test_ok(mo_cl_times_begin(&t->cl, 4096));
    for (size_t i = 0; i < LONG_PAGES; i++) {
        test_ok(mo_cl_page_acquire(page, i, MO_CL_WRITE, &mem));
        for (int r = 0; r < LONG_ROUNDS; r++)
            test_ok(mo_cl_accum_add(&t->cl, grad, 1, mem, N_LONG));
        test_ok(mo_cl_page_release(page, i));
    }
    mo_status status = mo_cl_times_end(&t->cl, times);
    if (status == MO_E_UNSUPPORTED) skip();
    test_ok(status);
}

static void transfers_run_while_kernels_do(void **state) {
    test_cl t = *test_cl_of(state);
    if (test_cl_small()) skip();
    float *x = test_normals(&t.rng, N_LONG, 1);
    double share = 0;
    mo_cl_page page;
    mo_cl_times times;
    mo_cl_desc desc = {.device_id = t.cl.device, .profiling = 1, .work_group = t.cl.work_group};
    assert_int_equal(mo_cl_times_begin(&t.cl, 10), MO_E_UNSUPPORTED); /* no profiling */
    assert_int_equal(mo_cl_times_end(&t.cl, &times), MO_E_STATE);
    test_ok(mo_cl_init(&t.cl, &desc));
    test_ok(mo_cl_heap_init(&t.heap, &t.cl, NULL));
    mo_cl_mem grad = test_cl_put(&t, x, 4 * N_LONG, 0), mem;
    mo_cl_page_desc pages = {.size = 4 * N_LONG * LONG_PAGES, .page_bytes = 4 * N_LONG};
    test_ok(mo_cl_page_init(&page, &t.heap, &pages));
    for (size_t i = 0; i < LONG_PAGES; i++) memset(mo_cl_page_host(&page, i), 0, 4 * N_LONG);
    test_ok(mo_cl_page_walk(&page, NULL, LONG_PAGES));
    for (int round = 0; round < 20 && share < 0.25; round++) {
        walk_slowly(&t, &page, grad, &times);
        assert_int_equal(times.n_kernels, LONG_ROUNDS * LONG_PAGES);
        assert_int_equal(times.n_missed, 0);
        assert_true(times.both_s <= times.kernel_s && times.both_s <= times.transfer_s);
        assert_true(times.kernel_s + times.transfer_s - times.both_s <= times.span_s + 1e-9);
        if (round > 0) {
            assert_int_equal(times.n_transfers, 2 * LONG_PAGES);
            assert_int_equal(times.in_bytes, pages.size);
            assert_int_equal(times.out_bytes, pages.size);
        }
        if (times.both_s / times.transfer_s > share) share = times.both_s / times.transfer_s;
    }
    /* How much is a matter of the machine and of what else runs there. */
    print_message("%.0f %% of the transfers' time is hidden\n", 100 * share);
    test_ok(mo_cl_page_sync(&page));
    /* More commands than there is room for. */
    test_ok(mo_cl_times_begin(&t.cl, 3));
    assert_int_equal(mo_cl_times_begin(&t.cl, 3), MO_E_STATE);
    for (size_t i = 0; i < 2; i++) {
        test_ok(mo_cl_page_acquire(&page, i, MO_CL_WRITE, &mem));
        test_ok(mo_cl_accum_add(&t.cl, grad, 1, mem, 1000));
        test_ok(mo_cl_page_release(&page, i));
    }
    test_ok(mo_cl_times_end(&t.cl, &times));
    assert_int_equal(times.n_kernels + times.n_transfers, 3);
    assert_int_equal(times.n_missed, 3);
    test_ok(mo_cl_times_begin(&t.cl, 3)); /* mo_cl_free ends it */
    mo_cl_page_free(&page);
    mo_cl_heap_free(&t.heap);
    mo_cl_free(&t.cl);
    free(x);
}

static void the_times_of_nothing_are_zero(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl cl;
    mo_cl_times times;
    mo_cl_desc desc = {.device_id = t->cl.device, .profiling = 1};
    test_ok(mo_cl_init(&cl, &desc));
    assert_int_equal(mo_cl_times_begin(&cl, 0), MO_E_INVALID);
    assert_int_equal(mo_cl_times_begin(&cl, SIZE_MAX), MO_E_OVERFLOW);
    assert_int_equal(mo_cl_times_begin(NULL, 1), MO_E_INVALID);
    test_ok(mo_cl_times_begin(&cl, 1));
    assert_int_equal(mo_cl_times_end(&cl, NULL), MO_E_INVALID);
    test_ok(mo_cl_times_end(&cl, &times));
    assert_true(times.span_s == 0 && times.n_kernels == 0);
    mo_cl_free(&cl);
}

/* ---- another device ------------------------------------------------------------------------ */

static void a_sub_device_pages_too(void **state) {
    test_cl t = *test_cl_of(state);
    const cl_device_partition_property equally[] = {CL_DEVICE_PARTITION_EQUALLY, 1, 0};
    cl_device_id ids[2];
    cl_uint n = 0;
    clGetDeviceInfo(t.cl.device, CL_DEVICE_PARTITION_MAX_SUB_DEVICES, sizeof n, &n, NULL);
    if (n < 2) skip();
    if (clCreateSubDevices(t.cl.device, equally, 0, NULL, &n) != CL_SUCCESS || n != 2) skip();
    assert_int_equal(clCreateSubDevices(t.cl.device, equally, 2, ids, NULL), CL_SUCCESS);
    mo_cl_desc desc = {.device_id = ids[1]};
    test_ok(mo_cl_init(&t.cl, &desc));
    test_ok(mo_cl_heap_init(&t.heap, &t.cl, NULL));
    test_cl *sub = &t;
    a_walk_with_two_slots_has_the_bits_of_the_whole_array((void **)&sub);
    mo_cl_heap_free(&t.heap);
    mo_cl_free(&t.cl);
    for (int i = 0; i < 2; i++) clReleaseDevice(ids[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_with_two_slots_has_the_bits_of_the_whole_array),
        cmocka_unit_test(any_order_any_slots_and_any_access_keep_every_page),
        cmocka_unit_test(a_walk_fetches_ahead_and_keeps_what_it_needs_soonest),
        cmocka_unit_test(a_page_that_is_overwritten_is_not_uploaded),
        cmocka_unit_test(what_the_host_changes_after_a_sync_is_what_kernels_see),
        cmocka_unit_test(slots_are_in_the_budget_and_the_rest_is_not),
        cmocka_unit_test(pages_larger_than_a_piece_of_staging_are_whole),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(every_failing_allocation_is_a_status_and_leaks_nothing),
        cmocka_unit_test(transfers_run_while_kernels_do),
        cmocka_unit_test(the_times_of_nothing_are_zero),
        cmocka_unit_test(a_sub_device_pages_too),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
