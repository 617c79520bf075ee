// LDFLAGS: -Wl,--wrap=open,--wrap=open64,--wrap=close,--wrap=write,--wrap=pread,--wrap=pread64
// LDFLAGS: -Wl,--wrap=fsync,--wrap=rename,--wrap=fstat,--wrap=fstat64,--wrap=mmap,--wrap=mmap64
// LDFLAGS: -Wl,--wrap=opendir,--wrap=readdir,--wrap=readdir64,--wrap=closedir,--wrap=unlink
/* test_safetensors_io.c - mo_safetensors when the k-th system call fails, for all k. */
#include "test_io.h"

#define TEST_FILE "model.safetensors"
#include "test_folder.h"

/* ---- help ---------------------------------------------------------------------------------- */

static test_log logged;
static test_heap heap;

/* Two writers of files that differ in every byte of their data; the header takes two writes. */
enum { N = 40, BYTES = 50 };
static mo_status write_file(char fill) {
    static const uint64_t shape[] = {BYTES};
    static mo_safetensors_entry entries[N];
    static char names[N][100];
    char data[BYTES];
    mo_safetensors_writer w = {0};
    mo_safetensors_writer_desc desc = {
        test_heap_begin(&heap, -1), test_log_begin(&logged), NULL, 0};
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "%090d", i);
        mo_safetensors_entry e = {names[i], MO_DTYPE_U8, 1, shape, 0, 0};
        entries[i] = e;
    }
    memset(data, fill, sizeof data);
    mo_status status = mo_safetensors_create(&w, path, entries, N, &desc);
    for (int i = 0; status == MO_OK && i < N; i++)
        status = mo_safetensors_write(&w, data, sizeof data);
    if (status == MO_OK) status = mo_safetensors_commit(&w);
    mo_safetensors_discard(&w);
    return status;
}

static mo_status read_file(char fill, int map) {
    char data[BYTES];
    mo_safetensors st = {0};
    mo_safetensors_desc desc = {test_heap_begin(&heap, -1), test_log_begin(&logged)};
    mo_status status = mo_safetensors_open(&st, path, &desc);
    for (size_t i = 0; status == MO_OK && i < st.n; i++) {
        const char *view = data;
        memset(data, fill + 1, sizeof data);
        if (map) view = (const char *)mo_safetensors_data(&st, &st.entries[i]);
        else status = mo_safetensors_read(&st, &st.entries[i], 0, data, sizeof data);
        if (!view) status = MO_E_IO;
        for (size_t k = 0; status == MO_OK && k < BYTES; k++) assert_int_equal(view[k], fill);
    }
    mo_safetensors_close(&st);
    return status;
}

enum { LEAST_CALLS = N + 6 };
#include "test_io_facts.h"

/* ---- facts --------------------------------------------------------------------------------- */

static void a_full_disk_is_said_with_how_far_it_went(void **state) {
    (void)state;
    remove(path);
    io_arm(FAIL, ENOSPC, 6); /* open, two writes of the header, three of data */
    assert_int_equal(write_file('a'), MO_E_IO);
    io.armed = 0;
    const char *text = logged.text + strlen(path);
    unsigned long long written, total;
    assert_int_equal(
        sscanf(text, ": No space left on device (%llu of %llu bytes written)", &written, &total),
        2);
    assert_int_equal(total - written, (N - 3) * BYTES);
    assert_int_equal(count_files("*"), 0);
}

static void a_folder_that_cannot_be_synchronized_is_a_warning(void **state) {
    (void)state;
    io_arm(FAIL, EIO, -1);
    test_ok(write_file('a'));
    io_arm(FAIL, EIO, io.n_calls - 2); /* fsync, then close */
    test_ok(write_file('b'));
    assert_non_null(strstr(logged.text, "its folder cannot be synchronized: Input/output error"));
    assert_file_is('b');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_call_leaves_the_old_file),
        cmocka_unit_test(a_full_disk_is_said_with_how_far_it_went),
        cmocka_unit_test(a_folder_that_cannot_be_synchronized_is_a_warning),
        cmocka_unit_test(interrupted_and_short_calls_go_on),
        cmocka_unit_test(a_failed_call_while_reading_is_clean),
        cmocka_unit_test(interrupted_and_short_reads_go_on),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL) + remove_folder();
}
