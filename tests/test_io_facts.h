/* test_io_facts.h - what holds for a file format when the k-th system call fails, for all k. Before
 * the include are test_io.h, test_folder.h, and
 *
 *   logged, heap   the log and the allocator that the next two begin
 *   write_file     makes `path`, which differs in every byte of its data from one of another fill
 *   read_file      opens it and compares all data; map: in memory, else by reading
 *   LEAST_CALLS    that write_file makes, or more */
#ifndef TEST_IO_FACTS_H
#define TEST_IO_FACTS_H

static void assert_file_is(char fill) {
    io.armed = 0;
    test_ok(read_file(fill, 0));
    assert_int_equal(count_files("*"), 1);
}

static void assert_clean(mo_status status) {
    assert_int_equal(io.n_open, 0);
    assert_int_equal(heap.live_blocks, 0);
    if (status != MO_OK) {
        assert_int_equal(logged.n, 1);
        assert_memory_equal(logged.text, path, strlen(path));
    }
}

static void a_failed_call_leaves_the_old_file(void **state) {
    (void)state;
    static const int errors[] = {ENOSPC, EIO, EDQUOT};
    for (size_t e = 0; e < n_elements(errors); e++) {
        io.armed = 0;
        test_ok(write_file('a'));
        for (int k = 0;; k++) {
            io_arm(FAIL, errors[e], k);
            mo_status status = write_file('b');
            if (!io.hit) break;
            assert_clean(status);
            assert_int_equal(status, io.failed_at_folder ? MO_OK : MO_E_IO);
            if (status != MO_OK) assert_non_null(strstr(logged.text, strerror(errors[e])));
            assert_file_is(status == MO_OK ? 'b' : 'a');
            if (status == MO_OK) test_ok(write_file('a'));
        }
        assert_true(io.n_calls > LEAST_CALLS);
        assert_file_is('b');
    }
}

static void interrupted_and_short_calls_go_on(void **state) {
    (void)state;
    for (int mode = INTERRUPT; mode <= SHORTEN; mode++)
        for (int k = 0;; k++) {
            io_arm(mode, 0, k);
            mo_status status = write_file((char)('a' + k % 20));
            int hit = io.hit;
            test_ok(status);
            assert_clean(status);
            assert_int_equal(logged.n, 0);
            assert_file_is((char)('a' + k % 20));
            if (!hit) break;
        }
}

static void a_failed_call_while_reading_is_clean(void **state) {
    (void)state;
    io.armed = 0;
    test_ok(write_file('r'));
    for (int map = 0; map < 2; map++)
        for (int k = 0;; k++) {
            io_arm(FAIL, EIO, k);
            mo_status status = read_file('r', map);
            if (!io.hit) break;
            assert_clean(status);
            /* the last one is close, which has nothing to lose */
            if (status == MO_OK) assert_int_equal(io.n_calls, k + 1);
            else assert_int_equal(status, MO_E_IO);
        }
}

static void interrupted_and_short_reads_go_on(void **state) {
    (void)state;
    io.armed = 0;
    test_ok(write_file('r'));
    for (int mode = INTERRUPT; mode <= SHORTEN; mode++)
        for (int k = 0;; k++) {
            io_arm(mode, 0, k);
            mo_status status = read_file('r', 0);
            int hit = io.hit;
            assert_clean(status);
            test_ok(status);
            if (!hit) break;
        }
}

#endif
