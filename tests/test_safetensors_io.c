// LDFLAGS: -Wl,--wrap=open,--wrap=open64,--wrap=close,--wrap=write,--wrap=pread,--wrap=pread64
// LDFLAGS: -Wl,--wrap=fsync,--wrap=rename,--wrap=fstat,--wrap=fstat64,--wrap=mmap,--wrap=mmap64
// LDFLAGS: -Wl,--wrap=opendir,--wrap=readdir,--wrap=readdir64,--wrap=closedir,--wrap=unlink
/* test_safetensors_io.c - mo_safetensors when the k-th system call fails, for all k. */
#include "test_io.h"

/* ---- help ---------------------------------------------------------------------------------- */

static char folder[] = "/tmp/test_safetensors_io.XXXXXX";
static char path[128];
static test_log logged;
static test_heap heap;

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    remove(path);
    return rmdir(folder);
}

static int count_files(void) {
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; (e = readdir(dir));) n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

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

static void assert_file_is(char fill) {
    io.armed = 0;
    test_ok(read_file(fill, 0));
    assert_int_equal(count_files(), 1);
}

static void assert_clean(mo_status status) {
    assert_int_equal(io.n_open, 0);
    assert_int_equal(heap.live_blocks, 0);
    if (status != MO_OK) {
        assert_int_equal(logged.n, 1);
        assert_memory_equal(logged.text, path, strlen(path));
    }
}

/* ---- facts --------------------------------------------------------------------------------- */

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
            io.armed = 0;
            test_ok(write_file('a'));
        }
        assert_true(io.n_calls > N + 6);
        assert_file_is('b');
    }
}

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
    assert_int_equal(count_files(), 0);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_call_leaves_the_old_file),
        cmocka_unit_test(a_full_disk_is_said_with_how_far_it_went),
        cmocka_unit_test(a_folder_that_cannot_be_synchronized_is_a_warning),
        cmocka_unit_test(interrupted_and_short_calls_go_on),
        cmocka_unit_test(a_failed_call_while_reading_is_clean),
        cmocka_unit_test(interrupted_and_short_reads_go_on),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
