// LDFLAGS: -Wl,--wrap=open,--wrap=open64,--wrap=close,--wrap=pread,--wrap=pread64,--wrap=pwrite
// LDFLAGS: -Wl,--wrap=pwrite64,--wrap=fsync,--wrap=ftruncate,--wrap=ftruncate64,--wrap=fcntl
// LDFLAGS: -Wl,--wrap=fcntl64,--wrap=posix_fallocate,--wrap=posix_fallocate64,--wrap=unlink
/* test_page_io.c - mo_page when the k-th system call fails, for all k, on whichever thread. */
#include "test_io.h"

#define TEST_FILE "states"
#include "test_folder.h"

/* ---- help ---------------------------------------------------------------------------------- */

enum { PAGE = 8192, PAGES = 5, ROUNDS = 2 };

static test_log logged;
static test_heap heap;

typedef enum backing { TEMPORARY, RENAMED, NAMED, N_BACKINGS } backing;

static mo_page_desc small(backing b, int walks) {
    return (mo_page_desc){.size = PAGE * PAGES,
        .page_bytes = PAGE,
        .resident_bytes = 3 * PAGE,
        .folder = folder,
        .path = b == NAMED ? path : NULL,
        .reserve = b != TEMPORARY,
        .buffered = b != TEMPORARY || walks, /* direct I/O waits for a disk */
        .allocator = test_heap_begin(&heap, -1),
        .log = test_log_begin(&logged)};
}

/* Calls that return an error are made again: how many did, all the last of `statuses`. */
typedef struct outcome {
    int n_errors;
    mo_status status;
} outcome;

#define insist(o, call)                                                                            \
    do {                                                                                           \
        mo_status insisted_;                                                                       \
        while ((insisted_ = (call)) != MO_OK && (o)->n_errors < 5) {                               \
            (o)->status = insisted_;                                                               \
            (o)->n_errors++;                                                                       \
        }                                                                                          \
        assert_int_equal(insisted_, MO_OK);                                                        \
    } while (0)

static char value(size_t i, int round) { return (char)(1 + (int)i * 7 + round * 50); }

/* Two rounds over all pages, each of which finds what the one before has written; then a look. */
static outcome use(const mo_page_desc *desc, int walks) {
    outcome o = {0};
    mo_page page;
    void *data = NULL;
    insist(&o, mo_page_init(&page, desc));
    if (walks) test_ok(mo_page_walk(&page, NULL, PAGES));
    for (int round = 0; round <= ROUNDS; round++) {
        for (size_t i = 0; i < PAGES; i++) {
            insist(&o, mo_page_acquire(&page, i, round < ROUNDS ? MO_PAGE_WRITE : 0, &data));
            for (size_t k = 0; k < PAGE; k++)
                if (((char *)data)[k] != (round ? value(i, round - 1) : 0))
                    fail_msg("page %zu, round %d: byte %zu", i, round, k);
            if (round < ROUNDS) memset(data, value(i, round), PAGE);
            test_ok(mo_page_release(&page, i));
        }
        insist(&o, mo_page_sync(&page));
    }
    mo_page_free(&page);
    return o;
}

static void assert_clean(void) {
    io.armed = 0;
    assert_int_equal(io.n_open, 0);
    assert_int_equal(heap.live_blocks, 0);
    remove(path);
    assert_int_equal(count_files("*"), 0);
}

/* ---- facts --------------------------------------------------------------------------------- */

/* All k of one mode. Which call is the k-th may differ from run to run: a read ahead that is late
 * comes another time. */
static void every_call(int mode, int error, int most_errors) {
    for (int b = 0; b < N_BACKINGS; b++)
        for (int walks = 0; walks < 2; walks++)
            for (int k = 0, hit = 1; hit; k++) {
                const mo_page_desc desc = small((backing)b, walks);
                io_arm(mode, error, k);
                io.no_unnamed = b == RENAMED;
                io.no_fsync = 1;
                const outcome o = use(&desc, walks);
                hit = io.hit;
                assert_in_range(o.n_errors, 0, hit ? most_errors : 0);
                if (o.n_errors) {
                    assert_int_equal(o.status, MO_E_IO);
                    assert_int_equal(logged.n, 1);
                    assert_non_null(strstr(logged.text, strerror(error)));
                    assert_memory_equal(logged.text, folder, strlen(folder));
                }
                if (!hit) assert_true(k > 2 * PAGES);
                if (b == RENAMED && o.n_errors && count_files("*") == 1)
                    empty_folder(); /* its unlink failed */
                assert_clean();
            }
}

static void a_call_that_fails_once_is_a_status_and_loses_nothing(void **state) {
    (void)state;
    every_call(FAIL, EIO, 1);
}

static void an_interrupted_call_is_made_again(void **state) {
    (void)state;
    every_call(INTERRUPT, EINTR, 0);
}

static void short_reads_and_writes_are_continued(void **state) {
    (void)state;
    every_call(SHORTEN, 0, 0);
}

/* Nothing can be written for a while: what has changed stays, and gets to the file later. */
static void a_full_disk_keeps_changed_pages_until_there_is_room(void **state) {
    (void)state;
    for (int walks = 0; walks < 2; walks++) {
        const mo_page_desc desc = small(TEMPORARY, walks);
        mo_page page;
        void *data = NULL;
        io_arm(FAIL, 0, -1);
        test_ok(mo_page_init(&page, &desc));
        if (walks) test_ok(mo_page_walk(&page, NULL, PAGES));
        io.disk_full = 1;
        size_t n = 0;
        while (n < PAGES && mo_page_acquire(&page, n, MO_PAGE_WRITE, &data) == MO_OK) {
            memset(data, 'a' + (int)n, PAGE);
            test_ok(mo_page_release(&page, n++));
        }
        assert_in_range(n, 1, 3); /* no more than fit */
        for (int i = 0; i < 3; i++) assert_int_equal(mo_page_sync(&page), MO_E_IO);
        assert_non_null(strstr(logged.text, "cannot write page"));
        assert_non_null(strstr(logged.text, strerror(ENOSPC)));
        io.disk_full = 0;
        test_ok(mo_page_sync(&page));
        for (size_t i = 0; i < PAGES; i++) {
            test_ok(mo_page_acquire(&page, i, MO_PAGE_READ, &data));
            assert_int_equal(*(char *)data, i < n ? 'a' + (int)i : 0);
            test_ok(mo_page_release(&page, i));
        }
        mo_page_free(&page);
        assert_clean();
    }
}

static void a_full_disk_is_known_at_the_start_when_room_is_reserved(void **state) {
    (void)state;
    for (int named = 0; named < 2; named++) {
        struct stat info;
        mo_page page;
        const mo_page_desc desc = small(named ? NAMED : RENAMED, 0);
        int found = 0;
        for (int k = 0; !found && k < 10; k++) { /* the posix_fallocate among the first calls */
            io_arm(FAIL, ENOSPC, k);
            found = mo_page_init(&page, &desc) != MO_OK && strstr(logged.text, "make room");
            if (!found && page.n_pages) mo_page_free(&page);
            memset(&page, 0, sizeof page);
        }
        assert_true(found);
        io.armed = 0;
        if (named) {
            assert_int_equal(stat(path, &info), 0);
            assert_int_equal(info.st_size, 0);
        }
        assert_clean();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_fails_once_is_a_status_and_loses_nothing),
        cmocka_unit_test(an_interrupted_call_is_made_again),
        cmocka_unit_test(short_reads_and_writes_are_continued),
        cmocka_unit_test(a_full_disk_keeps_changed_pages_until_there_is_room),
        cmocka_unit_test(a_full_disk_is_known_at_the_start_when_room_is_reserved),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL) + remove_folder();
}
