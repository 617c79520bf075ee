// LDFLAGS: -Wl,--wrap=open,--wrap=open64,--wrap=close,--wrap=write,--wrap=pread,--wrap=pread64
// LDFLAGS: -Wl,--wrap=fsync,--wrap=rename,--wrap=fstat,--wrap=fstat64,--wrap=mmap,--wrap=mmap64
// LDFLAGS: -Wl,--wrap=opendir,--wrap=readdir,--wrap=readdir64,--wrap=closedir,--wrap=unlink
/* test_safetensors_shards.c - mo_safetensors_shards, also when the k-th system call fails. */
#include "test_io.h"

#define TEST_FILE "model.safetensors"
#include "test_folder.h"

static char index_path[160], shard_path[160];
static test_log logged;
static test_heap heap;

static int begin(void **state) {
    if (make_folder(state) != 0) return -1;
    snprintf(index_path, sizeof index_path, "%s", in_folder("model.safetensors.index.json"));
    snprintf(shard_path, sizeof shard_path, "%s", in_folder("model-00002-of-00003.safetensors"));
    return 0;
}

static int clean(void **state) {
    (void)state;
    io.armed = 0;
    empty_folder();
    return 0;
}

/* 10 + 20 | 40 | 5 + empty bytes with a limit of 30 */
static const uint64_t dims[] = {10, 20, 40, 5, 0};
static const mo_safetensors_entry five[] = {
    {"a", MO_DTYPE_U8, 1, &dims[0], 0, 0},
    {"b\n", MO_DTYPE_U8, 1, &dims[1], 0, 0},
    {"c", MO_DTYPE_U8, 1, &dims[2], 0, 0},
    {"d", MO_DTYPE_U8, 1, &dims[3], 0, 0},
    {"e", MO_DTYPE_U8, 1, &dims[4], 0, 0},
};
enum { TOTAL = 75 };

static mo_status write_model(uint64_t limit, char fill, int fail_at) {
    char bytes[TOTAL];
    mo_safetensors_shards_writer w = {0};
    const mo_safetensors_shards_desc desc = {
        test_heap_begin(&heap, fail_at), test_log_begin(&logged), NULL, 0, limit};
    mo_status status = mo_safetensors_shards_create(&w, path, five, 5, &desc);
    for (int i = 0; i < TOTAL; i++) bytes[i] = (char)(fill + i);
    if (status == MO_OK) status = mo_safetensors_shards_write(&w, bytes, 3);
    if (status == MO_OK) status = mo_safetensors_shards_write(&w, bytes + 3, TOTAL - 3);
    if (status == MO_OK) status = mo_safetensors_shards_commit(&w);
    mo_safetensors_shards_discard(&w);
    return status;
}

static mo_status open_model(int fail_at) {
    mo_safetensors_shards s = {0};
    const mo_safetensors_desc desc = {test_heap_begin(&heap, fail_at), test_log_begin(&logged)};
    mo_status status = mo_safetensors_shards_open(&s, index_path, &desc);
    mo_safetensors_shards_close(&s);
    assert_int_equal(heap.live_blocks, 0);
    assert_int_equal(logged.n, status != MO_OK);
    return status;
}

static void assert_model(char fill, size_t n_shards) {
    mo_safetensors_shards s = {0};
    char expected = fill;
    test_ok(mo_safetensors_shards_open(&s, index_path, NULL));
    assert_int_equal(s.n, 5);
    assert_int_equal(s.n_shards, n_shards);
    assert_int_equal(s.total_size, TOTAL);
    if (n_shards == 3) assert_string_equal(s.files[1], "model-00002-of-00003.safetensors");
    for (size_t i = 0; i < 5; i++) {
        char bytes[40];
        const mo_safetensors_shards_entry *e = mo_safetensors_shards_find(&s, five[i].name);
        assert_non_null(e);
        assert_string_equal(e->name, five[i].name);
        test_ok(mo_safetensors_read(&s.shards[e->shard], e->entry, 0, bytes, (size_t)dims[i]));
        for (size_t k = 0; k < dims[i]; k++) assert_int_equal(bytes[k], expected++);
    }
    assert_null(mo_safetensors_shards_find(&s, "f"));
    mo_safetensors_shards_close(&s);
}

static void save(const char *text) { save_file(index_path, text, strlen(text)); }

/* ---- facts --------------------------------------------------------------------------------- */

static void tensors_are_split_in_order_and_read_back(void **state) {
    (void)state;
    test_ok(write_model(30, 'A', -1));
    assert_int_equal(count_files("*"), 4);
    assert_int_equal(access(shard_path, F_OK), 0);
    assert_model('A', 3);
    empty_folder();
    test_ok(write_model(1, 'B', -1)); /* one each; the empty one goes with the last */
    assert_model('B', 4);
}

static void what_fits_into_one_file_has_no_index(void **state) {
    (void)state;
    mo_safetensors st = {0};
    test_ok(write_model(0, 'A', -1));
    assert_int_equal(count_files("*"), 1);
    test_ok(mo_safetensors_open(&st, path, NULL));
    assert_int_equal(st.n, 5);
    mo_safetensors_close(&st);
}

static void an_index_with_other_fields_is_read(void **state) {
    (void)state;
    test_ok(write_model(30, 'A', -1));
    save(
        "{\"x\":[1,{\"y\":\"}\"},null],\"weight_map\":{\"c\":\"model-00002-of-00003.safetensors\"},"
        "\"metadata\":{\"total_parameters\":1.5e3,\"total_size\":40,\"l\":[]}}");
    test_ok(open_model(-1));
}

static void a_wrong_index_is_rejected(void **state) {
    (void)state;
#define TWO "\"model-00002-of-00003.safetensors\""
    static const struct {
        const char *text, *message;
        mo_status status;
    } bad[] = {
        {"", "index is empty", MO_E_FORMAT},
        {"[]", "expected '{'", MO_E_FORMAT},
        {"{}", "weight_map is missing", MO_E_FORMAT},
        {"{\"weight_map\":{},\"weight_map\":{}}", "weight_map is there twice", MO_E_FORMAT},
        {"{\"weight_map\":{\"c\":1}}", "expected a string", MO_E_FORMAT},
        {"{\"weight_map\":{\"c\":" TWO ",\"c\":" TWO "}}", "'c' is there twice", MO_E_FORMAT},
        {"{\"weight_map\":{\"d\":" TWO "}}", "tensor 'd' of the index is missing", MO_E_FORMAT},
        {"{\"weight_map\":{\"a\":\"model-00001-of-00003.safetensors\"}}",
            "tensor 'b?' is not in the index", MO_E_FORMAT},
        {"{\"metadata\":{\"total_size\":41},\"weight_map\":{\"c\":" TWO "}}",
            "total_size is 41, but the tensors have 40 bytes", MO_E_FORMAT},
        {"{\"weight_map\":{\"c\":\"../model.safetensors\"}}", "not the name of a file",
            MO_E_FORMAT},
        {"{\"weight_map\":{\"c\":\"/etc/passwd\"}}", "not the name of a file", MO_E_FORMAT},
        {"{\"weight_map\":{\"c\":\"..\"}}", "not the name of a file", MO_E_FORMAT},
        {"{\"weight_map\":{\"c\":\"a\\\\b\"}}", "not the name of a file", MO_E_FORMAT},
        {"{\"weight_map\":{\"c\":\"\"}}", "not the name of a file", MO_E_FORMAT},
        {"{\"weight_map\":{\"c\":\"none.safetensors\"}}", "No such file", MO_E_NOT_FOUND},
        {"{\"x\":[}]}", "a bracket that was not opened", MO_E_FORMAT},
        {"{\"x\":[1", "expected a value", MO_E_FORMAT},
        {"{\"weight_map\":{\"\xff\":1}}", "index is not UTF-8 at byte 16", MO_E_FORMAT},
    };
    test_ok(write_model(30, 'A', -1));
    for (size_t i = 0; i < n_elements(bad); i++) {
        save(bad[i].text);
        assert_int_equal(open_model(-1), bad[i].status);
        if (!strstr(logged.text, bad[i].message))
            fail_msg("'%s' instead of '%s'", logged.text, bad[i].message);
    }
}

static void every_broken_shard_is_named_once(void **state) {
    (void)state;
    mo_safetensors_shards s = {0};
    const mo_safetensors_desc desc = {test_heap_begin(&heap, -1), test_log_begin(&logged)};
    test_ok(write_model(1, 'A', -1));
    char broken[160];
    snprintf(broken, sizeof broken, "%s/model-00001-of-00004.safetensors", folder);
    assert_int_equal(truncate(broken, 9), 0);
    snprintf(broken, sizeof broken, "%s/model-00004-of-00004.safetensors", folder);
    assert_int_equal(remove(broken), 0); /* with two tensors */
    logged.n = 0;
    assert_int_equal(mo_safetensors_shards_open(&s, index_path, &desc), MO_E_FORMAT);
    assert_int_equal(logged.n, 2);
    assert_non_null(strstr(logged.text, "model-00004-of-00004.safetensors: No such file"));
    assert_int_equal(heap.live_blocks, 0);
    save("{\"weight_map\":{");
    FILE *f = fopen(index_path, "ab");
    for (int i = 0; i < 300; i++) fprintf(f, "%s\"%d\":\"none%d\"", i ? "," : "", i, i);
    fputs("}}", f);
    fclose(f);
    logged.n = 0;
    assert_int_equal(mo_safetensors_shards_open(&s, index_path, &desc), MO_E_NOT_FOUND);
    assert_int_equal(logged.n, 100);
}

static void deep_nesting_is_rejected(void **state) {
    (void)state;
    static char text[100000] = "{\"x\":";
    memset(text + 5, '[', sizeof text - 6);
    save(text);
    assert_int_equal(open_model(-1), MO_E_FORMAT);
    assert_non_null(strstr(logged.text, "nested too deep"));
}

static void wrong_calls_leave_no_file(void **state) {
    (void)state;
    char bytes[TOTAL + 1] = {0};
    mo_safetensors_shards_writer w = {0};
    const mo_safetensors_shards_desc desc = {.max_shard_bytes = 30};
    const mo_safetensors_entry twice[] = {five[0], five[0]};
    assert_int_equal(
        mo_safetensors_shards_create(&w, in_folder("model.bin"), five, 5, &desc), MO_E_INVALID);
    assert_int_equal(mo_safetensors_shards_create(&w, path, twice, 2, &desc), MO_E_INVALID);
    assert_int_equal(mo_safetensors_shards_write(&w, bytes, 1), MO_E_STATE);
    assert_int_equal(mo_safetensors_shards_commit(&w), MO_E_STATE);
    test_ok(mo_safetensors_shards_create(&w, path, five, 5, &desc));
    test_ok(mo_safetensors_shards_write(&w, bytes, 29));
    assert_int_equal(mo_safetensors_shards_commit(&w), MO_E_STATE);
    test_ok(mo_safetensors_shards_create(&w, path, five, 5, &desc));
    assert_int_equal(mo_safetensors_shards_write(&w, bytes, TOTAL + 1), MO_E_INVALID);
    mo_safetensors_shards_discard(NULL);
    assert_int_equal(count_files("*"), 0);
}

/* Before the first rename the old model is whole; after it there is no index, or the new one. */
static void a_failed_call_never_leaves_a_mixed_model(void **state) {
    (void)state;
    int whole = 0, none = 0;
    for (int k = 0;; k++) {
        io.armed = 0;
        empty_folder();
        test_ok(write_model(30, 'A', -1));
        io_arm(FAIL, EIO, k);
        mo_status status = write_model(30, 'a', -1);
        io.armed = 0;
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(io.n_open, 0);
        if (status == MO_OK) assert_model('a', 3);
        else if (access(index_path, F_OK) == 0) assert_model('A', 3), whole++;
        else none++;
        assert_true(count_files("*") == 4 || count_files("*") == 3);
        if (!io.hit) break;
    }
    print_message("%d times the old model, %d times no index\n", whole, none);
    assert_true(whole > 15 && none > 2);
}

static void every_failed_allocation_is_clean(void **state) {
    (void)state;
    for (int k = 0, done = 0; !done; k++) {
        mo_status status = write_model(30, 'A', k);
        done = status == MO_OK;
        if (!done) assert_int_equal(status, MO_E_NO_MEMORY);
        assert_int_equal(logged.n, !done);
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(count_files("*"), done ? 4 : 0);
        assert_true(k < 100);
    }
    for (int k = 0, done = 0; !done; k++) {
        mo_status status = open_model(k);
        done = status == MO_OK;
        if (!done) assert_int_equal(status, MO_E_NO_MEMORY);
        assert_true(k < 100 && (!done || k > 20));
    }
}

#define fact(name) cmocka_unit_test_teardown(name, clean)
int main(void) {
    const struct CMUnitTest tests[] = {
        fact(tensors_are_split_in_order_and_read_back),
        fact(what_fits_into_one_file_has_no_index),
        fact(an_index_with_other_fields_is_read),
        fact(a_wrong_index_is_rejected),
        fact(every_broken_shard_is_named_once),
        fact(deep_nesting_is_rejected),
        fact(wrong_calls_leave_no_file),
        fact(a_failed_call_never_leaves_a_mixed_model),
        fact(every_failed_allocation_is_clean),
    };
    return cmocka_run_group_tests(tests, begin, NULL) + remove_folder();
}
