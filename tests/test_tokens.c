// LDFLAGS: -Wl,--wrap=open,--wrap=open64,--wrap=close,--wrap=pread,--wrap=pread64
// LDFLAGS: -Wl,--wrap=fstat,--wrap=fstat64
/* test_tokens.c - mo_tokens */
#include "test_io.h"

#include "test_tokens.h"

/* ---- files ----------------------------------------------------------------------------------- */

static test_log logged;

static void write_bytes(size_t i, const void *bytes, size_t size) {
    save_file(paths[i], bytes, size);
}

static mo_tokens_desc desc_of(size_t n, mo_tokens_format format) {
    return (mo_tokens_desc){
        .paths = path_list, .n_paths = n, .format = format, .log = test_log_begin(&logged)};
}

static mo_tokens open_files(size_t n, mo_tokens_format format) {
    mo_tokens t = {0};
    const mo_tokens_desc desc = desc_of(n, format);
    test_ok(mo_tokens_open(&t, &desc));
    return t;
}

/* ---- examples -------------------------------------------------------------------------------- */

static void both_widths_of_llm_c_are_read(void **state) {
    (void)state;
    int32_t ids[4], max = -1;
    write_tokens(0, 20240520, 1, 4, 4, 65532);
    mo_tokens t = open_files(1, MO_TOKENS_BIN);
    assert_int_equal(t.n, 4);
    test_ok(mo_tokens_read(&t, 0, 4, ids));
    for (int i = 0; i < 4; i++) assert_int_equal(ids[i], 65532 + i);
    test_ok(mo_tokens_max(&t, &max));
    assert_int_equal(max, 65535);
    mo_tokens_close(&t);
    write_tokens(0, 20240801, 7, 3, 3, 128253);
    t = open_files(1, MO_TOKENS_BIN);
    assert_int_equal(t.n, 3);
    test_ok(mo_tokens_read(&t, 1, 2, ids));
    assert_int_equal(ids[0], 128254);
    assert_int_equal(ids[1], 128255);
    test_ok(mo_tokens_max(&t, &max));
    assert_int_equal(max, 128255);
    mo_tokens_close(&t);
}

static void bytes_are_tokens(void **state) {
    (void)state;
    int32_t ids[5], max = 0;
    write_bytes(0, "a\0\xff", 3);
    write_bytes(1, "", 0);
    write_bytes(2, "bc", 2);
    mo_tokens t = open_files(3, MO_TOKENS_BYTES);
    assert_int_equal(t.n, 5);
    test_ok(mo_tokens_read(&t, 0, 5, ids));
    assert_int_equal(ids[0], 'a');
    assert_int_equal(ids[1], 0);
    assert_int_equal(ids[2], 255);
    assert_int_equal(ids[3], 'b');
    assert_int_equal(ids[4], 'c');
    test_ok(mo_tokens_max(&t, &max));
    assert_int_equal(max, 255);
    test_ok(mo_tokens_read(&t, 5, 0, NULL));
    mo_tokens_close(&t);
}

static void an_empty_text_has_no_tokens(void **state) {
    (void)state;
    int32_t max = -1, id;
    write_bytes(0, "", 0);
    mo_tokens t = open_files(1, MO_TOKENS_BYTES);
    assert_int_equal(t.n, 0);
    test_ok(mo_tokens_max(&t, &max));
    assert_int_equal(max, 0);
    test_ok(mo_tokens_read(&t, 0, 0, NULL));
    assert_int_equal(mo_tokens_read(&t, 0, 1, &id), MO_E_INVALID);
    mo_tokens_close(&t);
    mo_tokens_close(&t);
    mo_tokens_close(NULL);
}

/* ---- properties ------------------------------------------------------------------------------ */

static void any_range_over_any_files_is_what_lies_there(void **state) {
    (void)state;
    test_rng r = test_rng_begin("any_range_over_any_files_is_what_lies_there");
    for (int round = 0; round < 40; round++) {
        const size_t n_files = 1 + test_below(&r, MAX_FILES);
        static int32_t ids[MAX_FILES * 3000];
        size_t n = 0;
        for (size_t i = 0; i < n_files; i++) {
            const size_t count = test_below(&r, 3) ? test_below(&r, 3000) : 0;
            const int wide = (int)test_below(&r, 2);
            write_tokens(
                i, wide ? 20240801 : 20240520, wide ? 7 : 1, (int)count, count, (uint32_t)n);
            n += count;
        }
        mo_tokens t = open_files(n_files, MO_TOKENS_BIN);
        assert_int_equal(t.n, n);
        for (int k = 0; k < 20; k++) {
            const size_t at = test_below(&r, n + 1), part = test_below(&r, n - at + 1);
            test_ok(mo_tokens_read(&t, at, part, ids));
            for (size_t i = 0; i < part; i++) assert_int_equal(ids[i], at + i);
        }
        mo_tokens_close(&t);
    }
}

/* ---- failures -------------------------------------------------------------------------------- */

static void expect_refused(mo_status want, const char *text) {
    mo_tokens t = {0};
    const mo_tokens_desc desc = desc_of(1, MO_TOKENS_BIN);
    assert_int_equal(mo_tokens_open(&t, &desc), want);
    assert_int_equal(logged.n, 1);
    assert_memory_equal(logged.text, paths[0], strlen(paths[0]));
    if (!strstr(logged.text, text)) fail_msg("'%s' is not in '%s'", text, logged.text);
    assert_null(t.files);
}

static void other_headers_are_refused(void **state) {
    (void)state;
    write_tokens(0, 20240521, 1, 9, 9, 0);
    expect_refused(MO_E_FORMAT, "magic number in the header is 20240521, not 20240520 or 20240801");
    write_tokens(0, -1, 1, 9, 9, 0);
    expect_refused(MO_E_FORMAT, "magic number in the header is -1,");
    write_tokens(0, 20240520, 2, 9, 9, 0);
    expect_refused(MO_E_FORMAT, "version in the header is 2, not 1");
    write_tokens(0, 20240801, 1, 9, 9, 0);
    expect_refused(MO_E_FORMAT, "version in the header is 1, not 7");
    static const int counts[] = {-1, -2147483647 - 1, 0, 8, 10, 2147483647};
    for (size_t i = 0; i < n_elements(counts); i++) {
        char text[100];
        write_tokens(0, 20240520, 1, counts[i], 9, 0);
        snprintf(text, sizeof text, "token count in the header is %d, but the file has 18 bytes",
            counts[i]);
        expect_refused(MO_E_FORMAT, text);
    }
    write_bytes(0, "", 0);
    expect_refused(MO_E_FORMAT, "0 bytes are too few");
    write_tokens(0, 20240520, 1, 9, 9, 0);
    assert_int_equal(truncate(paths[0], 1023), 0);
    expect_refused(MO_E_FORMAT, "1023 bytes are too few");
    write_tokens(0, 20240520, 1, 9, 9, 0);
    assert_int_equal(truncate(paths[0], 1024 + 17), 0);
    expect_refused(MO_E_FORMAT, "but the file has 17 bytes");
    remove(paths[0]);
    expect_refused(MO_E_NOT_FOUND, "No such file");
    assert_int_equal(mkdir(paths[0], 0700), 0);
    expect_refused(MO_E_IO, "regular file");
    rmdir(paths[0]);
}

static void a_file_that_was_cut_short_ends_in_a_status(void **state) {
    (void)state;
    int32_t ids[100];
    write_tokens(0, 20240520, 1, 50, 50, 0);
    write_tokens(1, 20240520, 1, 50, 50, 50);
    mo_tokens t = open_files(2, MO_TOKENS_BIN);
    assert_int_equal(truncate(paths[1], 1024 + 2 * 20), 0);
    test_ok(mo_tokens_read(&t, 0, 70, ids));
    assert_int_equal(mo_tokens_read(&t, 0, 71, ids), MO_E_IO);
    assert_non_null(strstr(logged.text, "1.bin: The file has become shorter"));
    mo_tokens_close(&t);
}

static void a_token_that_no_int_holds_is_a_status(void **state) {
    (void)state;
    int32_t ids[8], max = 7;
    write_tokens(0, 20240801, 7, 8, 8, 0x7ffffffcu);
    mo_tokens t = open_files(1, MO_TOKENS_BIN);
    test_ok(mo_tokens_read(&t, 0, 4, ids));
    assert_int_equal(ids[3], INT32_MAX);
    assert_int_equal(mo_tokens_read(&t, 2, 4, ids), MO_E_FORMAT);
    assert_non_null(strstr(logged.text, "0.bin: token 4 is 2147483648, not below 2^31"));
    assert_int_equal(mo_tokens_max(&t, &max), MO_E_FORMAT);
    assert_int_equal(max, 7);
    mo_tokens_close(&t);
}

static void nonsense_is_refused(void **state) {
    (void)state;
    mo_tokens t = {0};
    int32_t id;
    write_bytes(0, "abc", 3);
    mo_tokens_desc desc = desc_of(1, MO_TOKENS_BYTES);
    const char *none = NULL;
    assert_int_equal(mo_tokens_open(NULL, &desc), MO_E_INVALID);
    assert_int_equal(mo_tokens_open(&t, NULL), MO_E_INVALID);
    desc.n_paths = 0;
    assert_int_equal(mo_tokens_open(&t, &desc), MO_E_INVALID);
    desc.n_paths = 1, desc.paths = &none;
    assert_int_equal(mo_tokens_open(&t, &desc), MO_E_INVALID);
    desc.paths = NULL;
    assert_int_equal(mo_tokens_open(&t, &desc), MO_E_INVALID);
    desc = desc_of(1, MO_TOKENS_FORMAT_COUNT);
    assert_int_equal(mo_tokens_open(&t, &desc), MO_E_INVALID);
    assert_null(t.files);
    t = open_files(1, MO_TOKENS_BYTES);
    assert_int_equal(mo_tokens_read(NULL, 0, 1, &id), MO_E_INVALID);
    assert_int_equal(mo_tokens_read(&t, 0, 1, NULL), MO_E_INVALID);
    assert_int_equal(mo_tokens_read(&t, 3, 1, &id), MO_E_INVALID);
    assert_int_equal(mo_tokens_read(&t, UINT64_MAX, 2, &id), MO_E_INVALID);
    assert_int_equal(mo_tokens_max(&t, NULL), MO_E_INVALID);
    mo_tokens_close(&t);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    mo_status status = MO_E_NO_MEMORY;
    for (int i = 0; i < 3; i++) write_tokens(i, 20240520, 1, 9, 9, 0);
    for (int k = 0; status != MO_OK; k++) {
        test_heap heap;
        mo_tokens t = {0};
        mo_tokens_desc desc = desc_of(3, MO_TOKENS_BIN);
        desc.allocator = test_heap_begin(&heap, k);
        io.n_open = 0;
        status = mo_tokens_open(&t, &desc);
        assert_int_equal(status, k < 4 ? MO_E_NO_MEMORY : MO_OK);
        mo_tokens_close(&t);
        assert_int_equal(io.n_open, 0);
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(heap.live_bytes, 0);
    }
}

static void every_call_may_fail(void **state) {
    (void)state;
    int32_t ids[27];
    for (int i = 0; i < 3; i++) write_tokens(i, 20240520, 1, 9, 9, (uint32_t)i * 9);
    for (int mode = FAIL; mode <= SHORTEN; mode++)
        for (int k = 0, hit = 1; hit; k++) {
            mo_tokens t = {0};
            const mo_tokens_desc desc = desc_of(3, MO_TOKENS_BIN);
            io_arm(mode, EIO, k);
            mo_status status = mo_tokens_open(&t, &desc);
            if (status == MO_OK) status = mo_tokens_read(&t, 0, 27, ids);
            hit = io.hit;
            io.armed = 0;
            assert_int_equal(status, hit && mode == FAIL ? MO_E_IO : MO_OK);
            for (int i = 0; i < 27 && status == MO_OK; i++) assert_int_equal(ids[i], i);
            mo_tokens_close(&t);
            assert_int_equal(io.n_open, 0);
            assert_in_range(k, hit ? 0 : 6, 40);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_widths_of_llm_c_are_read),
        cmocka_unit_test(bytes_are_tokens),
        cmocka_unit_test(an_empty_text_has_no_tokens),
        cmocka_unit_test(any_range_over_any_files_is_what_lies_there),
        cmocka_unit_test(other_headers_are_refused),
        cmocka_unit_test(a_file_that_was_cut_short_ends_in_a_status),
        cmocka_unit_test(a_token_that_no_int_holds_is_a_status),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(every_call_may_fail),
    };
    return cmocka_run_group_tests_name("tokens", tests, make_files, NULL) + remove_files();
}
