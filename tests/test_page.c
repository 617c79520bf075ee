/* test_page.c - mo_page against a plain array. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>

#define TEST_FILE "states"
#include "test_folder.h"

enum { PAGE = 4096, PAGES = 7, TAIL = 1000, SIZE = (PAGES - 1) * PAGE + TAIL };

static test_log logged;

static mo_page_desc small(size_t n_resident) {
    return (mo_page_desc){.size = SIZE,
        .page_bytes = PAGE,
        .resident_bytes = n_resident * PAGE,
        .folder = folder,
        .log = test_log_begin(&logged)};
}
static mo_page open_pages(const mo_page_desc *desc) {
    mo_page page;
    test_ok(mo_page_init(&page, desc));
    return page;
}
static void fill(mo_page *page, size_t i, int byte) {
    void *data = NULL;
    test_ok(mo_page_acquire(page, i, MO_PAGE_OVERWRITE, &data));
    memset(data, byte, mo_page_size(page, i));
    test_ok(mo_page_release(page, i));
}
static void touch(mo_page *page, size_t i, mo_page_access access) {
    void *data = NULL;
    test_ok(mo_page_acquire(page, i, access, &data));
    test_ok(mo_page_release(page, i));
}
static void assert_page(mo_page *page, size_t i, const char *want) {
    void *data = NULL;
    test_ok(mo_page_acquire(page, i, MO_PAGE_READ, &data));
    assert_memory_equal(data, want, mo_page_size(page, i));
    test_ok(mo_page_release(page, i));
}
static void assert_filled(mo_page *page, size_t i, int byte) {
    char want[PAGE];
    memset(want, byte, sizeof want);
    assert_page(page, i, want);
}

/* ---- examples ------------------------------------------------------------------------------ */

static void a_temporary_file_is_zero_and_has_no_name(void **state) {
    (void)state;
    mo_page_desc desc = small(2);
    mo_page page = open_pages(&desc);
    assert_int_equal(mo_page_count(&page), PAGES);
    assert_int_equal(mo_page_size(&page, 0), PAGE);
    assert_int_equal(mo_page_size(&page, PAGES - 1), TAIL);
    assert_int_equal(mo_page_size(&page, PAGES), 0);
    assert_int_equal(rmdir(folder), 0); /* it is empty */
    assert_int_equal(mkdir(folder, 0700), 0);
    for (size_t i = 0; i < PAGES; i++) assert_filled(&page, i, 0);
    for (size_t i = 0; i < PAGES; i++) fill(&page, i, 'a' + (int)i);
    for (size_t i = 0; i < PAGES; i++) assert_filled(&page, i, 'a' + (int)i);
    mo_page_free(&page);
    mo_page_free(&page);
}

static void memory_of_the_host_is_current_after_a_sync(void **state) {
    (void)state;
    char host[SIZE], want[SIZE];
    memset(host, 'x', sizeof host);
    mo_page_desc desc = small(3);
    desc.host = host;
    mo_page page = open_pages(&desc);
    test_ok(mo_page_walk(&page, NULL, PAGES));
    assert_filled(&page, 0, 'x');
    fill(&page, 1, 'y');
    fill(&page, PAGES - 1, 'z');
    test_ok(mo_page_sync(&page));
    memset(want, 'x', sizeof want);
    memset(want + PAGE, 'y', PAGE);
    memset(want + SIZE - TAIL, 'z', TAIL);
    assert_memory_equal(host, want, sizeof want);
    host[0] = '!'; /* and pages see what changes there */
    want[0] = '!';
    assert_page(&page, 0, want);
    assert_int_equal(page.stats.is_direct, 0);
    mo_page_free(&page);
}

static void a_named_file_is_kept_and_goes_on(void **state) {
    (void)state;
    struct stat info;
    mo_page_desc desc = small(2);
    desc.path = path;
    mo_page page = open_pages(&desc);
    for (size_t i = 0; i < PAGES; i++) fill(&page, i, 'a' + (int)i);
    test_ok(mo_page_sync(&page));
    mo_page_free(&page);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, SIZE);
    page = open_pages(&desc);
    for (size_t i = 0; i < PAGES; i++) assert_filled(&page, i, 'a' + (int)i);
    mo_page_free(&page);
    desc.size++;
    assert_int_equal(mo_page_init(&page, &desc), MO_E_FORMAT);
    assert_non_null(strstr(logged.text, path));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, SIZE);
    remove(path);
}

static void a_walk_reads_ahead_and_keeps_what_it_needs_soonest(void **state) {
    (void)state;
    /* All fit: each is read once, and none is written while it is only read. */
    mo_page_desc desc = small(PAGES);
    mo_page page = open_pages(&desc);
    test_ok(mo_page_walk(&page, NULL, PAGES));
    for (size_t k = 0; k < 3 * PAGES; k++) touch(&page, k % PAGES, MO_PAGE_READ);
    assert_int_equal(page.stats.n_in, PAGES);
    assert_int_equal(page.stats.n_ahead, PAGES);
    assert_int_equal(page.stats.n_there, 2 * PAGES);
    assert_int_equal(page.stats.n_out, 0);
    mo_page_free(&page);
    /* Of 4 one works and one is ahead; the other two stay from walk to walk. */
    desc = small(4);
    desc.n_ahead = 1;
    page = open_pages(&desc);
    test_ok(mo_page_walk(&page, NULL, PAGES));
    for (size_t k = 0; k < 10 * PAGES; k++) touch(&page, k % PAGES, MO_PAGE_READ);
    assert_true(page.stats.n_in <= PAGES + 9 * (PAGES - 2) + 1);
    assert_int_equal(page.stats.n_ahead + page.stats.n_there, 10 * PAGES);
    mo_page_free(&page);
    /* Without a walk the page used last but one goes first. */
    static const size_t asked[] = {0, 1, 0, 2, 0, 1};
    desc = small(2);
    page = open_pages(&desc);
    for (size_t k = 0; k < n_elements(asked); k++) touch(&page, asked[k], MO_PAGE_READ);
    assert_int_equal(page.stats.n_in, 4);
    assert_int_equal(page.stats.n_there, 2);
    mo_page_free(&page);
}

static void a_walk_that_changes_pages_moves_each_once(void **state) {
    (void)state;
    mo_page_desc desc = small(2);
    mo_page page = open_pages(&desc);
    test_ok(mo_page_walk(&page, NULL, PAGES));
    for (size_t k = 0; k < 3 * PAGES; k++) touch(&page, k % PAGES, MO_PAGE_WRITE);
    assert_int_equal(page.stats.n_ahead, 3 * PAGES);
    test_ok(mo_page_sync(&page));
    assert_int_equal(page.stats.n_out, 3 * PAGES);
    assert_int_equal(page.stats.n_acquired, 3 * PAGES);
    mo_page_free(&page);
}

static void a_page_that_is_overwritten_is_not_read(void **state) {
    (void)state;
    mo_page_desc desc = small(3);
    mo_page page = open_pages(&desc);
    for (size_t i = 0; i < PAGES; i++) fill(&page, i, 1);
    test_ok(mo_page_sync(&page));
    assert_int_equal(page.stats.n_in, 0);
    assert_int_equal(page.stats.n_out, PAGES);
    mo_page_free(&page);
}

static void no_more_is_resident_than_the_limit(void **state) {
    (void)state;
    test_heap heap;
    mo_page_desc desc = small(0);
    desc.size = 100 * PAGE;
    desc.resident_bytes = 5 * PAGE + PAGE - 1;
    desc.allocator = test_heap_begin(&heap, -1);
    assert_int_equal(mo_page_resident_bytes(&desc), 5 * PAGE);
    mo_page page = open_pages(&desc);
    assert_int_equal(page.stats.resident_bytes, 5 * PAGE);
    assert_true(heap.live_bytes < 5 * PAGE + 8192);
    mo_page_free(&page);
    assert_int_equal(heap.live_blocks, 0);
    desc.resident_bytes = 1000 * PAGE;
    assert_int_equal(mo_page_resident_bytes(&desc), 100 * PAGE);
    desc.resident_bytes = 0;
    assert_int_equal(mo_page_resident_bytes(&desc), 3 * PAGE);
    desc.page_bytes = 0;
    desc.size = (uint64_t)1 << 30;
    assert_int_equal(mo_page_resident_bytes(&desc), 6 << 20);
    desc.size = 0;
    assert_int_equal(mo_page_resident_bytes(&desc), 0);
    assert_int_equal(mo_page_resident_bytes(NULL), 0);
}

static void memory_of_the_caller_holds_the_pages(void **state) {
    (void)state;
    test_heap heap;
    char *memory = mo_alloc(NULL, 3 * PAGE, PAGE);
    void *data = NULL;
    mo_page_desc desc = small(3);
    desc.memory = memory;
    desc.allocator = test_heap_begin(&heap, -1);
    mo_page page = open_pages(&desc);
    assert_true(heap.live_bytes < 8192);
    for (size_t i = 0; i < PAGES; i++) {
        test_ok(mo_page_acquire(&page, i, MO_PAGE_READ, &data));
        assert_true((char *)data >= memory && (char *)data < memory + 3 * PAGE);
        test_ok(mo_page_release(&page, i));
    }
    mo_page_free(&page);
    assert_int_equal(heap.live_blocks, 0);
    desc.memory = memory + 8;
    assert_int_equal(mo_page_init(&page, &desc), MO_E_INVALID);
    mo_free(NULL, memory, 3 * PAGE, PAGE);
}

/* O_DIRECT as the file system of the folder takes it, asked in another way. */
static void direct_io_is_used_where_the_file_system_takes_it(void **state) {
    (void)state;
    int takes = 0, fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0600);
    void *block = mo_alloc(NULL, PAGE, PAGE);
    memset(block, 0, PAGE);
    if (fd >= 0) takes = write(fd, block, PAGE) == PAGE, close(fd);
    mo_free(NULL, block, PAGE, PAGE);
    remove(path);
    mo_page_desc desc = small(2);
    mo_page page = open_pages(&desc);
    assert_int_equal(page.stats.is_direct, takes);
    mo_page_free(&page);
    desc.buffered = 1;
    page = open_pages(&desc);
    assert_int_equal(page.stats.is_direct, 0);
    mo_page_free(&page);
    desc.buffered = 0;
    desc.page_bytes = 4000; /* no whole blocks */
    page = open_pages(&desc);
    assert_int_equal(page.stats.is_direct, 0);
    mo_page_free(&page);
}

static void pages_that_are_acquired_stay(void **state) {
    (void)state;
    mo_page_desc desc = small(2);
    mo_page page = open_pages(&desc);
    void *first = NULL, *second = NULL, *again = NULL, *none = NULL;
    test_ok(mo_page_acquire(&page, 0, MO_PAGE_WRITE, &first));
    test_ok(mo_page_acquire(&page, 1, MO_PAGE_WRITE, &second));
    test_ok(mo_page_acquire(&page, 0, MO_PAGE_READ, &again));
    assert_ptr_equal(first, again);
    assert_int_equal(mo_page_acquire(&page, 2, MO_PAGE_READ, &none), MO_E_NO_SPACE);
    assert_int_equal(mo_page_sync(&page), MO_E_STATE);
    test_ok(mo_page_release(&page, 0));
    assert_int_equal(mo_page_acquire(&page, 2, MO_PAGE_READ, &none), MO_E_NO_SPACE);
    assert_null(none);
    test_ok(mo_page_release(&page, 0));
    assert_int_equal(mo_page_release(&page, 0), MO_E_INVALID);
    test_ok(mo_page_acquire(&page, 2, MO_PAGE_READ, &none));
    mo_page_free(&page); /* with pages acquired */
}

static void what_makes_no_sense_is_refused(void **state) {
    (void)state;
    mo_page page;
    void *data = NULL;
    static const size_t order[] = {0, PAGES};
    mo_page_desc desc = small(2), bad = desc;
    assert_int_equal(mo_page_init(NULL, &desc), MO_E_INVALID);
    assert_int_equal(mo_page_init(&page, NULL), MO_E_INVALID);
    bad.size = 0;
    assert_int_equal(mo_page_init(&page, &bad), MO_E_INVALID);
    bad = desc;
    bad.n_ahead = 2;
    assert_int_equal(mo_page_init(&page, &bad), MO_E_INVALID);
    bad = desc;
    bad.resident_bytes = 2 * PAGE - 1;
    assert_int_equal(mo_page_init(&page, &bad), MO_E_NO_SPACE);
    assert_int_equal(logged.n, 1);
    bad = desc;
    bad.page_bytes = SIZE_MAX;
    bad.size = UINT64_MAX;
    assert_int_equal(mo_page_init(&page, &bad), MO_E_OVERFLOW);
    bad = desc;
    bad.folder = "/nowhere/at/all";
    assert_int_equal(mo_page_init(&page, &bad), MO_E_NOT_FOUND);
    assert_non_null(strstr(logged.text, "/nowhere/at/all"));
    bad = desc;
    bad.path = folder;
    assert_int_equal(mo_page_init(&page, &bad), MO_E_IO);
    page = open_pages(&desc);
    assert_int_equal(mo_page_walk(&page, order, 2), MO_E_INVALID);
    assert_int_equal(mo_page_walk(&page, NULL, PAGES + 1), MO_E_INVALID);
    assert_int_equal(mo_page_walk(NULL, NULL, 1), MO_E_INVALID);
    assert_int_equal(mo_page_acquire(&page, PAGES, MO_PAGE_READ, &data), MO_E_INVALID);
    assert_int_equal(mo_page_acquire(&page, 0, MO_PAGE_ACCESS_COUNT, &data), MO_E_INVALID);
    assert_int_equal(mo_page_acquire(&page, 0, MO_PAGE_READ, NULL), MO_E_INVALID);
    assert_int_equal(mo_page_release(&page, 0), MO_E_INVALID);
    assert_int_equal(mo_page_sync(NULL), MO_E_INVALID);
    mo_page_free(&page);
    mo_page_free(NULL);
}

/* ---- properties ---------------------------------------------------------------------------- */

typedef struct shadow {
    test_rng rng;
    mo_page page;
    char *bytes; /* [size] */
} shadow;

static void use_page(shadow *s, size_t i) {
    void *data = NULL;
    const size_t size = mo_page_size(&s->page, i), what = test_below(&s->rng, 4);
    char *mine = s->bytes + i * s->page.desc.page_bytes;
    if (what == 0) { /* overwritten */
        test_ok(mo_page_acquire(&s->page, i, MO_PAGE_OVERWRITE, &data));
        memset(data, (int)i + 1, size);
        memset(mine, (int)i + 1, size);
    } else {
        test_ok(mo_page_acquire(&s->page, i, what == 1 ? MO_PAGE_READ : MO_PAGE_WRITE, &data));
        assert_memory_equal(data, mine, size);
        for (size_t k = 0; what > 1 && k < 5; k++) {
            const size_t at = test_below(&s->rng, size);
            ((char *)data)[at] = mine[at] = (char)test_u64(&s->rng);
        }
    }
    test_ok(mo_page_release(&s->page, i));
}

static void use_pages(shadow *s) {
    const size_t n = mo_page_count(&s->page);
    const int in_order = test_below(&s->rng, 3) == 0;
    size_t order[12], n_order = in_order ? n : test_below(&s->rng, 12);
    for (size_t k = 0; k < n_order; k++) order[k] = in_order ? k : test_below(&s->rng, n);
    test_ok(mo_page_walk(&s->page, in_order ? NULL : order, n_order));
    for (size_t k = 0; k < 40; k++) {
        const int follows = n_order && test_below(&s->rng, 5) > 0;
        use_page(s, follows ? order[k % n_order] : test_below(&s->rng, n));
        if (test_below(&s->rng, 30) == 0) test_ok(mo_page_sync(&s->page));
    }
    for (size_t i = 0; i < n; i++) assert_page(&s->page, i, s->bytes + i * s->page.desc.page_bytes);
}

static void any_use_of_any_pages_is_that_of_an_array(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 63, 64, 100, 4095, 4096, 4097, 8192};
    shadow s = {.rng = test_rng_begin("pages")};
    for (int round = 0; round < 200; round++) {
        const size_t page_bytes = sizes[test_below(&s.rng, n_elements(sizes))];
        const size_t n = 1 + test_below(&s.rng, 9);
        const size_t size = (n - 1) * page_bytes + 1 + test_below(&s.rng, page_bytes);
        const size_t stride = (page_bytes + 63) / 64 * 64;
        const int backing = (int)test_below(&s.rng, 3);
        mo_page_desc desc = {.size = size,
            .page_bytes = page_bytes,
            .resident_bytes = stride * (2 + test_below(&s.rng, 5)),
            .folder = folder,
            .buffered = (int)test_below(&s.rng, 2),
            .reserve = (int)test_below(&s.rng, 2),
            .n_threads = 1 + test_below(&s.rng, 3)};
        char *host = calloc(size, 1);
        s.bytes = calloc(size, 1);
        if (backing == 0) desc.host = host;
        if (backing == 1) desc.path = path;
        s.page = open_pages(&desc);
        use_pages(&s);
        test_ok(mo_page_sync(&s.page));
        mo_page_free(&s.page);
        if (backing == 0) assert_memory_equal(host, s.bytes, size);
        if (backing == 1) {
            s.page = open_pages(&desc);
            for (size_t i = 0; i < n; i++) assert_page(&s.page, i, s.bytes + i * page_bytes);
            mo_page_free(&s.page);
            remove(path);
        }
        free(host);
        free(s.bytes);
    }
}

/* Reads of a walk by the rule of Belady, next uses known, are as few as can be: compared with what
 * an exhaustive choice of victims needs. */
static size_t fewest(const size_t *order, size_t n, size_t at, unsigned resident, size_t n_slots) {
    if (at == n) return 0;
    const size_t page = order[at];
    size_t best = SIZE_MAX, n_resident = 0;
    if (resident >> page & 1) return fewest(order, n, at + 1, resident, n_slots);
    for (size_t i = 0; i < 8; i++) n_resident += resident >> i & 1;
    if (n_resident < n_slots) return 1 + fewest(order, n, at + 1, resident | 1u << page, n_slots);
    for (size_t i = 0; i < 8; i++) {
        if (!(resident >> i & 1)) continue;
        const size_t cost =
            1 + fewest(order, n, at + 1, (resident & ~(1u << i)) | 1u << page, n_slots);
        if (cost < best) best = cost;
    }
    return best;
}

static void a_walk_reads_hardly_more_than_the_best_choice(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("belady");
    for (int round = 0; round < 30; round++) {
        enum { N = 10 };
        size_t order[N];
        mo_page_desc desc = small(3);
        desc.n_ahead = 1;
        mo_page page = open_pages(&desc);
        for (size_t k = 0; k < N; k++) order[k] = test_below(&rng, 5);
        test_ok(mo_page_walk(&page, order, N));
        for (size_t k = 0; k < N; k++) touch(&page, order[k], MO_PAGE_READ);
        test_ok(mo_page_sync(&page));
        /* What was read ahead for the round that did not come, and a slot that is taken early. */
        assert_in_range(page.stats.n_in, fewest(order, N, 0, 0, 3), 1 + fewest(order, N, 0, 0, 2));
        mo_page_free(&page);
    }
}

/* ---- failures ------------------------------------------------------------------------------ */

static mo_status walk_once(const mo_page_desc *desc) {
    mo_page page;
    void *data = NULL;
    mo_status status = mo_page_init(&page, desc);
    if (status != MO_OK) return status;
    status = mo_page_walk(&page, NULL, PAGES);
    for (size_t i = 0; i < PAGES && status == MO_OK; i++) {
        test_ok(mo_page_acquire(&page, i, MO_PAGE_WRITE, &data));
        test_ok(mo_page_release(&page, i));
    }
    mo_page_free(&page);
    return status;
}

static void every_allocation_that_fails_is_a_status_and_leaks_nothing(void **state) {
    (void)state;
    test_heap heap;
    mo_page_desc desc = small(2);
    int k = 0, done = 0;
    for (; !done; k++) {
        desc.allocator = test_heap_begin(&heap, k);
        const mo_status status = walk_once(&desc);
        done = heap.n_requests <= k;
        assert_int_equal(status, done ? MO_OK : MO_E_NO_MEMORY);
        assert_int_equal(heap.live_blocks, 0);
    }
    assert_true(k > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_temporary_file_is_zero_and_has_no_name),
        cmocka_unit_test(memory_of_the_host_is_current_after_a_sync),
        cmocka_unit_test(a_named_file_is_kept_and_goes_on),
        cmocka_unit_test(a_walk_reads_ahead_and_keeps_what_it_needs_soonest),
        cmocka_unit_test(a_walk_that_changes_pages_moves_each_once),
        cmocka_unit_test(a_page_that_is_overwritten_is_not_read),
        cmocka_unit_test(no_more_is_resident_than_the_limit),
        cmocka_unit_test(memory_of_the_caller_holds_the_pages),
        cmocka_unit_test(direct_io_is_used_where_the_file_system_takes_it),
        cmocka_unit_test(pages_that_are_acquired_stay),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(any_use_of_any_pages_is_that_of_an_array),
        cmocka_unit_test(a_walk_reads_hardly_more_than_the_best_choice),
        cmocka_unit_test(every_allocation_that_fails_is_a_status_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL) + remove_folder();
}
