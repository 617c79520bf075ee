/* test_safetensors.c - mo_safetensors, mo_safetensors_writer and mo_dtype. */
#define _GNU_SOURCE
#include <sys/stat.h>
#include <time.h>

#define FUZZ_NO_MAIN
#include "../fuzz/fuzz_safetensors.c"

#define TEST_FILE "model.safetensors"
#include "test_folder.h"

/* ---- help ---------------------------------------------------------------------------------- */

static int clean(void **state) {
    (void)state;
    empty_folder();
    return 0;
}

/* A file image: length, header, n_data zero bytes. The caller frees it. */
typedef struct image {
    unsigned char *bytes;
    size_t size;
} image;
static image make_image(uint64_t length, const char *header, size_t n_header, size_t n_data) {
    image m = {calloc(1, 8 + n_header + n_data + 1), 8 + n_header + n_data};
    for (int i = 0; i < 8; i++) m.bytes[i] = (unsigned char)(length >> 8 * i);
    memcpy(m.bytes + 8, header, n_header);
    return m;
}

/* Open an image in a block of exactly its size. The message, if any, is in logged. */
static test_log logged;
static mo_status open_image(const image *m) {
    mo_safetensors st = {0};
    mo_safetensors_desc desc = {.log = test_log_begin(&logged)};
    unsigned char *exact = malloc(m->size ? m->size : 1);
    memcpy(exact, m->bytes, m->size);
    mo_status status = mo_safetensors_open_memory(&st, exact, m->size, &desc);
    if (status == MO_OK) fuzz_safetensors_use(&st, exact, m->size);
    mo_safetensors_close(&st);
    free(exact);
    assert_int_equal(logged.n, status == MO_OK ? 0 : 1);
    assert_null(strpbrk(logged.text, "\n\r"));
    return status;
}

static mo_status open_text(const char *header, size_t n_data) {
    image m = make_image(strlen(header), header, strlen(header), n_data);
    mo_status status = open_image(&m);
    free(m.bytes);
    return status;
}

static void assert_rejected(const char *header, size_t n_data, const char *message) {
    assert_int_equal(open_text(header, n_data), MO_E_FORMAT);
    if (!strstr(logged.text, message)) fail_msg("'%s' instead of '%s'", logged.text, message);
}

static const char matrix[] =
    "{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}";

/* ---- dtypes -------------------------------------------------------------------------------- */

static void dtypes_have_the_formats_order_names_and_sizes(void **state) {
    (void)state;
    assert_int_equal(MO_DTYPE_COUNT, 22);
    assert_int_equal(MO_DTYPE_BOOL, 0);
    assert_string_equal(mo_dtype_name(MO_DTYPE_F8_E5M2FNUZ), "F8_E5M2FNUZ");
    assert_int_equal(mo_dtype_bits(MO_DTYPE_F6_E3M2), 6);
    assert_int_equal(mo_dtype_bits(MO_DTYPE_C64), 64);
    for (int i = 0; i < MO_DTYPE_COUNT; i++)
        assert_int_equal(mo_dtype_find(mo_dtype_name((mo_dtype)i)), i);
    assert_int_equal(mo_dtype_find("float32"), MO_DTYPE_COUNT);
    assert_string_equal(mo_dtype_name(MO_DTYPE_COUNT), "?");
    assert_int_equal(mo_dtype_bits(MO_DTYPE_COUNT), 0);
}

/* ---- reading: the reference implementation's vectors ----------------------------------------- */

static void vector_matrix_is_accepted(void **state) {
    (void)state;
    mo_safetensors st = {0};
    image m = make_image(sizeof matrix - 1, matrix, sizeof matrix - 1, 16);
    test_ok(mo_safetensors_open_memory(&st, m.bytes, m.size, NULL));
    assert_int_equal(st.n, 1);
    const mo_safetensors_entry *e = mo_safetensors_find(&st, "test");
    assert_ptr_equal(e, st.entries);
    assert_int_equal(e->dtype, MO_DTYPE_I32);
    assert_int_equal(e->n_dims, 2);
    assert_int_equal(e->shape[0] * 10 + e->shape[1], 22);
    assert_int_equal(e->end, 16);
    assert_ptr_equal(mo_safetensors_data(&st, e), m.bytes + m.size - 16);
    assert_null(mo_safetensors_find(&st, "tes"));
    assert_null(mo_safetensors_metadata(&st, "format"));
    mo_safetensors_close(&st);
    mo_safetensors_close(&st);
    free(m.bytes);
}

static void vectors_of_wrong_sizes_are_rejected(void **state) {
    (void)state;
    static const struct {
        uint64_t length;
        const char *header;
        size_t n_data;
    } bad[] = {
        {0x3c, matrix, 16 + 34}, /* a polyglot file */
        {0x3c, matrix, 14},
        {0xffffff000000003c, matrix, 16},
        {0x3c, "", 0},
        {0, "", 0},
        {1, "\xff", 0},
        {1, "{", 0},
        {100000001, matrix, 16},
        {SIZE_MAX, matrix, 16},
    };
    for (size_t i = 0; i < n_elements(bad); i++) {
        image m = make_image(bad[i].length, bad[i].header, strlen(bad[i].header), bad[i].n_data);
        assert_int_equal(open_image(&m), MO_E_FORMAT);
        free(m.bytes);
    }
    image none = {(unsigned char *)"", 0};
    assert_int_equal(open_image(&none), MO_E_FORMAT);
}

static void vectors_of_wrong_offsets_are_rejected(void **state) {
    (void)state;
    assert_rejected("{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,4]}}", 16,
        "tensor 'test': data_offsets [0, 4] do not match shape [2, 2] of I32 (16 bytes)");
    assert_rejected(
        "{\"test\":{\"dtype\":\"I32\",\"shape\":[2,18446744073709551614],\"data_offsets\":[0,16]}}",
        16, "dimension over 2^48 - 1");
    assert_rejected(
        "{\"test\":{\"dtype\":\"I32\",\"shape\":[2,9223372036854775807],\"data_offsets\":[0,16]}}",
        16, "dimension over 2^48 - 1");
}

static void vectors_of_unusual_files_are_accepted(void **state) {
    (void)state;
    test_ok(open_text("{}\r \t\n", 0));
    test_ok(open_text("\t\n{}\r ", 0));
    test_ok(open_text("{\"test\":{\"dtype\":\"I32\",\"shape\":[2,0],\"data_offsets\":[0, 0]}}", 0));
    test_ok(open_text("{\"test\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4));
}

/* ---- reading: one thing wrong ---------------------------------------------------------------- */

static void holes_overlaps_and_reversed_offsets_are_rejected(void **state) {
    (void)state;
    assert_rejected("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2,
        "tensor 'a': data_offsets [1, 2] are not in order after 0");
    assert_rejected("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                    "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
        3, "tensor 'b'");
    assert_rejected("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                    "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
        3, "tensor 'b'");
    assert_rejected(
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, "not in order");
    assert_rejected("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],"
                    "\"data_offsets\":[0,281474976710656]}}",
        0, "over 2^48 - 1");
}

/* 100,000 times the same bytes: refused while the text is read, with no memory but its own. */
static void many_claims_on_the_same_bytes_take_no_memory(void **state) {
    (void)state;
    enum { N = 100000 };
    char *header = malloc(100 * N);
    size_t n = 0;
    header[n++] = '{';
    for (int i = 0; i < N; i++)
        n += (size_t)sprintf(header + n,
            "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[160000],\"data_offsets\":[0,160000]}",
            i ? "," : "", i);
    header[n++] = '}';
    image m = make_image(n, header, n, 160000);
    test_heap heap;
    mo_safetensors st = {0};
    mo_safetensors_desc desc = {.allocator = test_heap_begin(&heap, -1)};
    desc.log = test_log_begin(&logged);
    assert_int_equal(mo_safetensors_open_memory(&st, m.bytes, m.size, &desc), MO_E_FORMAT);
    assert_non_null(strstr(logged.text, "'t1': with it, tensors take more bytes than there are"));
    assert_int_equal(heap.n_requests, 1);
    assert_int_equal(heap.live_blocks, 0);
    free(header), free(m.bytes);
}

static void overflowing_shapes_are_rejected(void **state) {
    (void)state;
    assert_rejected("{\"a\":{\"dtype\":\"U8\",\"shape\":[281474976710655,281474976710655],"
                    "\"data_offsets\":[0,0]}}",
        0, "too many elements");
    assert_rejected("{\"a\":{\"dtype\":\"U64\",\"shape\":[281474976710655,65536],"
                    "\"data_offsets\":[0,0]}}",
        0, "too many elements");
    assert_rejected("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1,
        "shape [3] of F4 does not fill whole bytes");
    assert_rejected("{\"a\":{\"dtype\":\"U8\",\"shape\":[18446744073709551616],"
                    "\"data_offsets\":[0,0]}}",
        0, "header, byte 47: integer does not fit");
}

static void wrong_schema_is_rejected(void **state) {
    (void)state;
    static const struct {
        const char *header, *message;
    } bad[] = {
        {"[]", "byte 0: expected '{'"},
        {"{\"a\":1}", "expected '{'"},
        {"{\"a\":{}}", "tensor 'a' has no dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", "tensor 'a' has no shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}", "tensor 'a' has no data_offsets"},
        {"{\"a\":{\"dtype\":\"U9\",\"shape\":[0],\"data_offsets\":[0,0]}}",
            "tensor 'a': unknown dtype 'U9'"},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", "tensor 'a': a second field 'dtype'"},
        {"{\"a\":{\"x\":\"U8\"}}", "tensor 'a': unknown field 'x'"},
        {"{\"a\":{\"dtype\":8}}", "expected a string"},
        {"{\"a\":{\"shape\":[1.5]}}", "expected ',' or ']'"},
        {"{\"a\":{\"shape\":[01]}}", "expected ',' or ']'"},
        {"{\"a\":{\"shape\":[-1]}}", "not negative"},
        {"{\"a\":{\"shape\":[1,]}}", "not negative"},
        {"{\"a\":{\"data_offsets\":[0]}}", "two numbers"},
        {"{\"a\":{\"data_offsets\":[0,1,2]}}", "two numbers"},
        {"{\"__metadata__\":{\"a\":1}}", "expected a string"},
        {"{\"__metadata__\":null}", "expected '{'"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", "__metadata__ is there twice"},
        {"{\"__metadata__\":{\"a\":\"\",\"\\u0061\":\"\"}}", "key 'a' is there twice"},
        {"{} {}", "text after the end"},
        {"{,}", "expected a string"},
        {"{\"a\" 1}", "expected ':'"},
        {"{\"a", "string without an end"},
        {"{\"a\\", "invalid escape"},
        {"{\"a\\x\"", "invalid escape"},
        {"{\"\\u12g4\"", "invalid escape"},
        {"{\"\\ud800\":{}}", "invalid escape"},
        {"{\"\\ud800\\u0041\":{}}", "invalid escape"},
        {"{\"\\udc00\":{}}", "invalid escape"},
        {"{\"\\u0000\":{}}", "NUL character"},
        {"{\"a\nb\":{}}", "control character"},
    };
    for (size_t i = 0; i < n_elements(bad); i++) assert_rejected(bad[i].header, 0, bad[i].message);
}

static void duplicate_names_are_rejected_however_they_are_spelled(void **state) {
    (void)state;
    assert_rejected("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                    "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},"
                    "\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}",
        1, "tensor 'a' is there twice");
}

static void invalid_utf8_is_rejected(void **state) {
    (void)state;
    static const char *const bad[] = {"\xff", "\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xe2\x82", "\xf0\x9f\x98",
        "\xc3("};
    char header[100];
    for (size_t i = 0; i < n_elements(bad); i++) {
        snprintf(header, sizeof header,
            "{\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", bad[i]);
        assert_rejected(header, 0, "header is not UTF-8 at byte 2");
    }
}

static void names_are_decoded(void **state) {
    (void)state;
    static const char header[] =
        "{\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20AC\\ud83d\\ude00\xc3\xa9\":"
        "{\"d\\u0074ype\":\"F\\u0033\\u0032\",\"shape\":[],\"data_offsets\":[0,4]}}";
    mo_safetensors st = {0};
    image m = make_image(sizeof header - 1, header, sizeof header - 1, 4);
    test_ok(mo_safetensors_open_memory(&st, m.bytes, m.size, NULL));
    assert_string_equal(
        st.entries[0].name, "a\"\\/\b\f\n\r\t\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xc3\xa9");
    assert_int_equal(st.entries[0].dtype, MO_DTYPE_F32);
    mo_safetensors_close(&st);
    free(m.bytes);
}

static void a_message_is_one_line_whatever_the_name(void **state) {
    (void)state;
    assert_rejected("{\"a\\nb\\u001bc\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,1]}}",
        1, "tensor 'a?b?c'");
    char header[4000] = "{\"";
    memset(header + 2, 'x', 3000);
    strcat(header, "\":{\"dtype\":\"U8\",\"shape\":[2");
    for (int i = 0; i < 100; i++) strcat(header, ",1");
    strcat(header, "],\"data_offsets\":[0,1]}}");
    assert_rejected(header, 1, "1, 1, ...] of U8 (2 bytes)");
}

static void deep_nesting_is_rejected(void **state) {
    (void)state;
    static char header[100000];
    memset(header, '[', sizeof header - 1);
    assert_rejected(header, 0, "expected '{'");
    memcpy(header, "{\"a\":{\"shape\":", 14);
    assert_rejected(header, 0, "expected an integer");
    memset(header, '{', 14);
    assert_rejected(header, 0, "expected a string");
}

static void entries_are_sorted_by_offset_and_empty_ones_keep_their_order(void **state) {
    (void)state;
    static const char header[] = "{\"z\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]},"
                                 "\"y\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},"
                                 "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},"
                                 "\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    mo_safetensors st = {0};
    image m = make_image(sizeof header - 1, header, sizeof header - 1, 3);
    test_ok(mo_safetensors_open_memory(&st, m.bytes, m.size, NULL));
    for (size_t i = 0; i < 4; i++) assert_int_equal(st.entries[i].name[0], "xybz"[i]);
    mo_safetensors_close(&st);
    free(m.bytes);
}

/* ---- reading files ------------------------------------------------------------------------- */

static void missing_file_folder_and_pipe_are_said(void **state) {
    (void)state;
    mo_safetensors st = {0};
    mo_safetensors_desc desc = {.log = test_log_begin(&logged)};
    char expected[sizeof path + 40];
    assert_int_equal(mo_safetensors_open(&st, path, &desc), MO_E_NOT_FOUND);
    snprintf(expected, sizeof expected, "%s: No such file or directory", path);
    assert_string_equal(logged.text, expected);
    assert_int_equal(mo_safetensors_open(&st, folder, &desc), MO_E_IO);
    assert_non_null(strstr(logged.text, "Not a regular file"));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(mo_safetensors_open(&st, path, &desc), MO_E_IO);
    assert_non_null(strstr(logged.text, "Not a regular file"));
    assert_int_equal(mo_safetensors_open(NULL, path, &desc), MO_E_INVALID);
    assert_int_equal(mo_safetensors_open(&st, NULL, &desc), MO_E_INVALID);
    assert_int_equal(mo_safetensors_open_memory(&st, NULL, 1, &desc), MO_E_INVALID);
}

static void a_file_cut_at_any_byte_is_rejected(void **state) {
    (void)state;
    image m = make_image(sizeof matrix - 1, matrix, sizeof matrix - 1, 16);
    mo_safetensors st = {0};
    for (size_t size = 0; size < m.size; size++) {
        image cut = {m.bytes, size};
        assert_int_equal(open_image(&cut), MO_E_FORMAT);
        save_file(path, m.bytes, size);
        assert_int_equal(mo_safetensors_open(&st, path, NULL), MO_E_FORMAT);
    }
    free(m.bytes);
}

static void a_file_cut_after_opening_is_an_error_and_no_signal(void **state) {
    (void)state;
    char bytes[16];
    const void *view = NULL;
    mo_safetensors st = {0};
    mo_safetensors_desc desc = {.log = test_log_begin(&logged)};
    image m = make_image(sizeof matrix - 1, matrix, sizeof matrix - 1, 16);
    for (int mapped = 0; mapped < 2; mapped++) {
        save_file(path, m.bytes, m.size);
        test_ok(mo_safetensors_open(&st, path, &desc));
        if (mapped) assert_non_null(mo_safetensors_data(&st, st.entries));
        assert_int_equal(truncate(path, 70), 0);
        assert_int_equal(mo_safetensors_read(&st, st.entries, 0, bytes, 16), MO_E_IO);
        assert_non_null(strstr(logged.text, "shorter"));
        assert_int_equal(mo_safetensors_view(&st, st.entries, 0, bytes, 16, &view), MO_E_IO);
        assert_null(view);
        assert_null(mo_safetensors_data(&st, st.entries));
        assert_non_null(strstr(logged.text, "changed its size"));
        mo_safetensors_close(&st);
    }
    free(m.bytes);
}

static void a_view_copies_only_what_comes_from_a_file(void **state) {
    (void)state;
    char bytes[16];
    const void *view = NULL;
    mo_safetensors st = {0};
    image m = make_image(sizeof matrix - 1, matrix, sizeof matrix - 1, 16);
    save_file(path, m.bytes, m.size);
    test_ok(mo_safetensors_open(&st, path, NULL));
    test_ok(mo_safetensors_view(&st, st.entries, 4, bytes, 12, &view));
    assert_ptr_equal(view, bytes);
    assert_int_equal(mo_safetensors_view(&st, st.entries, 4, NULL, 12, &view), MO_E_INVALID);
    assert_int_equal(mo_safetensors_view(&st, st.entries, 4, bytes, 13, &view), MO_E_INVALID);
    mo_safetensors_close(&st);
    test_ok(mo_safetensors_open_memory(&st, m.bytes, m.size, NULL));
    test_ok(mo_safetensors_view(&st, st.entries, 4, NULL, 12, &view));
    assert_ptr_equal(view, m.bytes + m.size - 12);
    mo_safetensors_close(&st);
    free(m.bytes);
}

static void read_takes_ranges_inside_the_tensor_only(void **state) {
    (void)state;
    unsigned char bytes[17];
    mo_safetensors st = {0};
    image m = make_image(sizeof matrix - 1, matrix, sizeof matrix - 1, 16);
    for (int i = 0; i < 16; i++) m.bytes[m.size - 16 + (size_t)i] = (unsigned char)i;
    save_file(path, m.bytes, m.size);
    test_ok(mo_safetensors_open(&st, path, NULL));
    test_ok(mo_safetensors_read(&st, st.entries, 5, bytes, 3));
    assert_memory_equal(bytes, "\5\6\7", 3);
    test_ok(mo_safetensors_read(&st, st.entries, 16, NULL, 0));
    assert_int_equal(mo_safetensors_read(&st, st.entries, 0, bytes, 17), MO_E_INVALID);
    assert_int_equal(mo_safetensors_read(&st, st.entries, 17, bytes, 0), MO_E_INVALID);
    assert_int_equal(mo_safetensors_read(&st, st.entries, UINT64_MAX, bytes, 2), MO_E_INVALID);
    assert_null(st.input.bytes); /* not mapped so far */
    assert_memory_equal(mo_safetensors_data(&st, st.entries), m.bytes + m.size - 16, 16);
    mo_safetensors_close(&st);
    free(m.bytes);
}

static void a_header_over_the_limit_is_not_read(void **state) {
    (void)state;
    const char length[8] = {1, (char)0xe1, (char)0xf5, 5}; /* 100,000,001 */
    mo_safetensors st = {0};
    mo_safetensors_desc desc = {.log = test_log_begin(&logged)};
    test_heap heap;
    save_file(path, length, 8);
    assert_int_equal(truncate(path, 200000000), 0); /* sparse */
    desc.allocator = test_heap_begin(&heap, -1);
    assert_int_equal(mo_safetensors_open(&st, path, &desc), MO_E_FORMAT);
    assert_non_null(
        strstr(logged.text, "header of 100000001 bytes is over the limit of 100000000"));
    assert_int_equal(heap.live_blocks, 0);
}

static void bogus_entries_cost_little_time_and_memory(void **state) {
    (void)state;
    static const char one[] = "\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,16]},";
    size_t n = 100000, size = n * (sizeof one - 1) + 1;
    char *header = malloc(size);
    header[0] = '{';
    for (size_t i = 0; i < n; i++) memcpy(header + 1 + i * (sizeof one - 1), one, sizeof one - 1);
    header[size - 1] = '}';
    image m = make_image(size, header, size, 16);
    test_heap heap;
    mo_safetensors st = {0};
    mo_safetensors_desc desc = {.allocator = test_heap_begin(&heap, -1)};
    clock_t start = clock();
    assert_int_equal(mo_safetensors_open_memory(&st, m.bytes, m.size, &desc), MO_E_FORMAT);
    m.bytes[7 + size] = ' ', m.bytes[6 + size] = '}'; /* without the last comma: now it is JSON */
    assert_int_equal(mo_safetensors_open_memory(&st, m.bytes, m.size, &desc), MO_E_FORMAT);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 1);
    assert_true(heap.peak_bytes < 6 * size);
    assert_int_equal(heap.live_blocks, 0);
    /* ten million of them are over the header's limit and not looked at */
    uint64_t length = 10000000 * (uint64_t)(sizeof one - 1);
    for (int i = 0; i < 8; i++) m.bytes[i] = (unsigned char)(length >> 8 * i);
    assert_int_equal(open_image(&m), MO_E_FORMAT);
    free(header);
    free(m.bytes);
}

/* ---- writing ------------------------------------------------------------------------------- */

static const uint64_t dims[] = {3, 2, 0};
static const mo_safetensors_entry three[] = {
    {"a \"quoted\" \\ \x01\n\x7f \xc3\xa9 \xf0\x9f\x98\x80", MO_DTYPE_F32, 2, dims, 0, 0},
    {"empty", MO_DTYPE_F64, 3, dims, 0, 0},
    {"scalar", MO_DTYPE_BF16, 0, NULL, 0, 0},
};
static const mo_safetensors_pair pairs[] = {{"format", "pt"}, {"e\n\"", "\x1f\xe2\x82\xac"}};
static const char three_bytes[26] = "abcdefghijklmnopqrstuvwxyz";

static mo_status write_three(const mo_safetensors_writer_desc *desc) {
    mo_safetensors_writer w = {0};
    mo_status status = mo_safetensors_create(&w, path, three, 3, desc);
    if (status == MO_OK) status = mo_safetensors_write(&w, three_bytes, 1);
    if (status == MO_OK) status = mo_safetensors_write(&w, three_bytes + 1, 25);
    if (status == MO_OK) status = mo_safetensors_commit(&w);
    mo_safetensors_discard(&w);
    return status;
}

static void assert_three(void) {
    mo_safetensors st = {0};
    test_ok(mo_safetensors_open(&st, path, NULL));
    assert_int_equal(st.n, 3);
    assert_int_equal(st.data_off % 8, 0);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(st.entries[i].name, three[i].name);
        assert_int_equal(st.entries[i].dtype, three[i].dtype);
        assert_int_equal(st.entries[i].n_dims, three[i].n_dims);
        for (size_t k = 0; k < three[i].n_dims; k++)
            assert_int_equal(st.entries[i].shape[k], three[i].shape[k]);
    }
    assert_memory_equal(mo_safetensors_data(&st, &st.entries[0]), three_bytes, 24);
    assert_memory_equal(mo_safetensors_data(&st, mo_safetensors_find(&st, "scalar")), "yz", 2);
    mo_safetensors_close(&st);
}

static void what_is_written_can_be_read(void **state) {
    (void)state;
    mo_safetensors st = {0};
    mo_safetensors_writer_desc desc = {.metadata = pairs, .n_metadata = 2};
    test_ok(write_three(&desc));
    assert_three();
    assert_int_equal(count_files("*"), 1);
    test_ok(mo_safetensors_open(&st, path, NULL));
    assert_int_equal(st.n_metadata, 2);
    assert_string_equal(mo_safetensors_metadata(&st, "format"), "pt");
    assert_string_equal(mo_safetensors_metadata(&st, "e\n\""), pairs[1].value);
    assert_null(mo_safetensors_metadata(&st, "a"));
    mo_safetensors_close(&st);
}

static void a_file_without_tensors_can_be_written(void **state) {
    (void)state;
    char bytes[17];
    mo_safetensors_writer w = {0};
    test_ok(mo_safetensors_create(&w, path, NULL, 0, NULL));
    test_ok(mo_safetensors_commit(&w));
    FILE *f = fopen(path, "rb");
    assert_int_equal(fread(bytes, 1, 17, f), 16);
    fclose(f);
    assert_memory_equal(bytes, "\x08\0\0\0\0\0\0\0{}      ", 16);
}

static void ten_thousand_tensors_make_the_round_trip(void **state) {
    (void)state;
    enum { N = 10000 };
    static mo_safetensors_entry entries[N];
    static uint64_t shapes[N][3];
    static char names[N][32];
    test_rng r = test_rng_begin("ten_thousand_tensors_make_the_round_trip");
    mo_safetensors_writer w = {0};
    for (size_t i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "h.%zu.\xc3\xa9\t%zu", test_below(&r, 1000), i);
        for (int k = 0; k < 3; k++) shapes[i][k] = test_below(&r, 5);
        mo_safetensors_entry e = {names[i], (mo_dtype)(MO_DTYPE_U8 + test_below(&r, 18)),
            test_below(&r, 4), shapes[i], 0, 0};
        entries[i] = e;
    }
    test_ok(mo_safetensors_create(&w, path, entries, N, NULL));
    uint64_t seed = r.state, size = w.data_size;
    for (uint64_t at = 0; at < size; at += 8) {
        uint64_t word = test_u64(&r);
        test_ok(mo_safetensors_write(&w, &word, size - at < 8 ? (size_t)(size - at) : 8));
    }
    test_ok(mo_safetensors_commit(&w));
    mo_safetensors st = {0};
    test_ok(mo_safetensors_open(&st, path, NULL));
    assert_int_equal(st.n, N);
    assert_int_equal(st.data_size, size);
    for (size_t i = 0; i < N; i++) {
        const mo_safetensors_entry *e = mo_safetensors_find(&st, names[i]);
        assert_non_null(e);
        assert_int_equal(e->dtype, entries[i].dtype);
        assert_int_equal(e->n_dims, entries[i].n_dims);
        assert_memory_equal(e->shape, shapes[i], 8 * e->n_dims);
    }
    r.state = seed;
    mo_safetensors_entry all = {"", MO_DTYPE_U8, 0, NULL, 0, size};
    for (uint64_t at = 0; at + 8 <= size; at += 8) {
        uint64_t word, expected = test_u64(&r);
        test_ok(mo_safetensors_read(&st, &all, at, &word, 8));
        assert_int_equal(word, expected);
    }
    mo_safetensors_close(&st);
}

/* 10,000 numbers: more than one piece of the conversion. */
static void numbers_become_half_on_their_way_out(void **state) {
    (void)state;
    enum { N = 10000 };
    static const mo_dtype dtypes[] = {
        MO_DTYPE_F32, MO_DTYPE_F16, MO_DTYPE_BF16, MO_DTYPE_F8_E4M3, MO_DTYPE_F8_E5M2};
    static float x[N], want[N];
    static uint8_t got[N * sizeof(float)];
    const uint64_t shape[] = {N};
    test_rng r = test_rng_begin("half");
    for (int i = 0; i < N; i++) x[i] = test_normal(&r);
    for (size_t k = 0; k < n_elements(dtypes); k++) {
        const mo_safetensors_entry entry = {"x", dtypes[k], 1, shape, 0, 0};
        mo_safetensors_writer w = {0};
        mo_safetensors st = {0};
        test_ok(mo_safetensors_create(&w, path, &entry, 1, NULL));
        test_ok(mo_safetensors_write_f32(&w, dtypes[k], x, 17));
        test_ok(mo_safetensors_write_f32(&w, dtypes[k], x + 17, N - 17));
        test_ok(mo_safetensors_commit(&w));
        test_ok(mo_safetensors_open(&st, path, NULL));
        const size_t size = (size_t)st.entries[0].end;
        test_ok(mo_safetensors_read(&st, &st.entries[0], 0, got, size));
        mo_half_desc desc = {.format = (mo_half_format)(k - 1)};
        if (k == 0) memcpy(want, x, sizeof x);
        else test_ok(mo_half_encode(&desc, x, N, want));
        assert_int_equal(size, k == 0 ? sizeof x : N * mo_half_bytes(desc.format));
        assert_memory_equal(got, want, size);
        mo_safetensors_close(&st);
    }
}

static void numbers_become_no_integers(void **state) {
    (void)state;
    const mo_safetensors_entry entry = {"x", MO_DTYPE_I32, 0, NULL, 0, 0};
    const float x = 1;
    mo_safetensors_writer w = {0};
    assert_int_equal(mo_safetensors_write_f32(NULL, MO_DTYPE_F16, &x, 1), MO_E_INVALID);
    assert_int_equal(mo_safetensors_write_f32(&w, MO_DTYPE_F16, &x, 1), MO_E_STATE);
    test_ok(mo_safetensors_create(&w, path, &entry, 1, NULL));
    assert_int_equal(mo_safetensors_write_f32(&w, MO_DTYPE_I32, &x, 1), MO_E_UNSUPPORTED);
    assert_int_equal(w.data_written, 0);
    mo_safetensors_discard(&w);
}

static mo_status create(const mo_safetensors_entry *entries, size_t n) {
    mo_safetensors_writer w = {0};
    mo_safetensors_writer_desc desc = {.log = test_log_begin(&logged)};
    mo_status status = mo_safetensors_create(&w, path, entries, n, &desc);
    mo_safetensors_discard(&w);
    assert_int_equal(count_files("*"), 0);
    return status;
}

static void entries_that_no_reader_accepts_are_refused(void **state) {
    (void)state;
    static const uint64_t big = (uint64_t)1 << 48, odd = 3, half = (uint64_t)1 << 47;
    static const struct {
        mo_safetensors_entry entries[2];
        size_t n;
        const char *message;
    } bad[] = {
        {{{"a", MO_DTYPE_U8, 0, NULL, 0, 0}, {"a", MO_DTYPE_U8, 0, NULL, 0, 0}}, 2,
            "'a' is there twice"},
        {{{"__metadata__", MO_DTYPE_U8, 0, NULL, 0, 0}}, 1, "reserved"},
        {{{NULL, MO_DTYPE_U8, 0, NULL, 0, 0}}, 1, "not UTF-8"},
        {{{"\xff", MO_DTYPE_U8, 0, NULL, 0, 0}}, 1, "not UTF-8"},
        {{{"a", MO_DTYPE_COUNT, 0, NULL, 0, 0}}, 1, "invalid dtype"},
        {{{"a", MO_DTYPE_U8, 1, NULL, 0, 0}}, 1, "no shape"},
        {{{"a", MO_DTYPE_U8, 1, &big, 0, 0}}, 1, "dimension over"},
        {{{"a", MO_DTYPE_F4, 1, &odd, 0, 0}}, 1, "whole bytes"},
        {{{"a", MO_DTYPE_U8, 1, &half, 0, 0}, {"b", MO_DTYPE_U8, 1, &half, 0, 0}}, 2,
            "over 2^48 - 1"},
    };
    for (size_t i = 0; i < n_elements(bad); i++) {
        assert_int_equal(create(bad[i].entries, bad[i].n), MO_E_INVALID);
        assert_non_null(strstr(logged.text, bad[i].message));
    }
    assert_int_equal(create(NULL, 1), MO_E_INVALID);
}

static void metadata_that_no_reader_accepts_is_refused(void **state) {
    (void)state;
    static const mo_safetensors_pair bad[][2] = {
        {{"a", "1"}, {"a", "2"}}, {{"a", "1"}, {"b", NULL}}, {{"a", "\xff"}, {"b", ""}}};
    mo_safetensors_writer w = {0};
    for (size_t i = 0; i < n_elements(bad); i++) {
        mo_safetensors_writer_desc desc = {.metadata = bad[i], .n_metadata = 2};
        assert_int_equal(mo_safetensors_create(&w, path, three, 3, &desc), MO_E_INVALID);
    }
    mo_safetensors_writer_desc none = {.n_metadata = 2};
    assert_int_equal(mo_safetensors_create(&w, path, three, 3, &none), MO_E_INVALID);
    assert_int_equal(count_files("*"), 0);
}

static void a_header_over_the_limit_is_not_written(void **state) {
    (void)state;
    enum { N = 101, SIZE = 1000000 };
    static mo_safetensors_pair many[N];
    static char keys[N][16];
    char *value = malloc(SIZE + 1);
    memset(value, 'x', SIZE);
    value[SIZE] = '\0';
    for (int i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "%d", i);
        mo_safetensors_pair pair = {keys[i], value};
        many[i] = pair;
    }
    mo_safetensors_writer w = {0};
    mo_safetensors_writer_desc desc = {.metadata = many, .n_metadata = N};
    desc.log = test_log_begin(&logged);
    assert_int_equal(mo_safetensors_create(&w, path, NULL, 0, &desc), MO_E_INVALID);
    assert_non_null(strstr(logged.text, "over the limit of 100000000"));
    assert_int_equal(count_files("*"), 0);
    free(value);
}

static void calls_out_of_order_are_refused(void **state) {
    (void)state;
    mo_safetensors_writer w = {0};
    assert_int_equal(mo_safetensors_write(&w, "", 0), MO_E_STATE);
    assert_int_equal(mo_safetensors_commit(&w), MO_E_STATE);
    mo_safetensors_discard(&w);
    mo_safetensors_discard(NULL);
}

static void too_few_or_too_many_bytes_leave_the_old_file(void **state) {
    (void)state;
    mo_safetensors_writer w = {0};
    mo_safetensors_writer_desc desc = {.log = test_log_begin(&logged)};
    test_ok(write_three(NULL));
    test_ok(mo_safetensors_create(&w, path, three, 1, &desc));
    test_ok(mo_safetensors_write(&w, three_bytes, 23));
    assert_int_equal(mo_safetensors_commit(&w), MO_E_STATE);
    assert_non_null(strstr(logged.text, "1 of the tensors' 24 bytes are missing"));
    test_ok(mo_safetensors_create(&w, path, three, 1, &desc));
    assert_int_equal(mo_safetensors_write(&w, three_bytes, 25), MO_E_INVALID);
    assert_int_equal(mo_safetensors_commit(&w), MO_E_STATE);
    assert_int_equal(count_files("*"), 1);
    assert_three();
}

static void discard_leaves_the_old_file(void **state) {
    (void)state;
    mo_safetensors_writer w = {0};
    test_ok(write_three(NULL));
    test_ok(mo_safetensors_create(&w, path, three, 1, NULL));
    assert_int_equal(count_files("*"), 2);
    mo_safetensors_discard(&w);
    assert_int_equal(count_files("*"), 1);
    assert_three();
}

static void a_mapped_file_can_be_saved_over_itself(void **state) {
    (void)state;
    mo_safetensors st = {0};
    mo_safetensors_writer w = {0};
    test_ok(write_three(NULL));
    test_ok(mo_safetensors_open(&st, path, NULL));
    test_ok(mo_safetensors_create(&w, path, st.entries, st.n, NULL));
    for (size_t i = 0; i < st.n; i++)
        test_ok(mo_safetensors_write(&w, mo_safetensors_data(&st, &st.entries[i]),
            (size_t)(st.entries[i].end - st.entries[i].begin)));
    test_ok(mo_safetensors_commit(&w));
    mo_safetensors_close(&st);
    assert_three();
}

static void devices_folders_and_pipes_are_not_replaced(void **state) {
    (void)state;
    struct stat info;
    mo_safetensors_writer w = {0};
    mo_safetensors_writer_desc desc = {.log = test_log_begin(&logged)};
    assert_int_equal(mo_safetensors_create(&w, "/dev/full", three, 3, &desc), MO_E_IO);
    assert_string_equal(logged.text, "/dev/full: Not a regular file");
    assert_int_equal(mo_safetensors_create(&w, folder, three, 3, &desc), MO_E_IO);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(mo_safetensors_create(&w, path, three, 3, &desc), MO_E_IO);
    assert_int_equal(stat(path, &info), 0);
    assert_true(S_ISFIFO(info.st_mode));
    assert_int_equal(
        mo_safetensors_create(&w, "/no/such/folder/x", three, 3, &desc), MO_E_NOT_FOUND);
}

static void links_stay_links(void **state) {
    (void)state;
    const char *link = in_folder("link"), *target = in_folder("target");
    struct stat info;
    save_file(target, "old", 3);
    assert_int_equal(symlink("target", link), 0); /* relative */
    assert_int_equal(symlink(link, path), 0);     /* absolute, and a link to a link */
    test_ok(write_three(NULL));
    assert_int_equal(lstat(path, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(lstat(target, &info), 0);
    assert_true(S_ISREG(info.st_mode) && info.st_size > 3);
    assert_three();
    remove(target);
    test_ok(write_three(NULL)); /* a link to nothing creates its target */
    assert_int_equal(lstat(path, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_three();
    remove(link);
    assert_int_equal(symlink(path, link), 0); /* a loop */
    mo_safetensors_writer w = {0};
    assert_int_equal(mo_safetensors_create(&w, path, three, 3, NULL), MO_E_IO);
}

static void permissions_are_the_umasks_or_the_old_files(void **state) {
    (void)state;
    struct stat info;
    mode_t mask = umask(027);
    test_ok(write_three(NULL));
    umask(mask);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_int_equal(chmod(path, 0600), 0);
    test_ok(write_three(NULL));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

/* ---- random input, corpus ------------------------------------------------------------------ */

static void flipped_bytes_never_break_the_reader(void **state) {
    (void)state;
    test_rng r = test_rng_begin("flipped_bytes_never_break_the_reader");
    mo_safetensors_writer_desc desc = {.metadata = pairs, .n_metadata = 2};
    unsigned char bytes[1024];
    test_ok(write_three(&desc));
    FILE *f = fopen(path, "rb");
    image m = {bytes, fread(bytes, 1, sizeof bytes, f)};
    fclose(f);
    for (int i = 0; i < 20000; i++) {
        unsigned char old[4];
        size_t at[4], n = 1 + test_below(&r, 4);
        for (size_t k = 0; k < n; k++) {
            at[k] = test_below(&r, m.size), old[k] = bytes[at[k]];
            bytes[at[k]] = test_below(&r, 2) ? (unsigned char)"{}[]\",:\\u0019 "[test_below(&r, 14)]
                                             : (unsigned char)test_u64(&r);
        }
        (void)!open_image(&m);
        while (n-- > 0) bytes[at[n]] = old[n];
    }
    test_ok(open_image(&m));
}

static void replay(const char *file, const char *name) {
    mo_safetensors st = {0};
    assert_int_equal(fuzz_replay(file), 0);
    mo_status status = mo_safetensors_open(&st, file, NULL);
    mo_safetensors_close(&st);
    if (strncmp(name, "ok_", 3) == 0) test_ok(status);
    if (strncmp(name, "bad_", 4) == 0) assert_int_equal(status, MO_E_FORMAT);
}

static void the_fuzz_corpus_replays(void **state) {
    (void)state;
    each_file("fuzz/corpus/safetensors", 20, replay);
}

/* ---- the k-th allocation ------------------------------------------------------------------- */

static void every_failed_allocation_of_a_reader_is_clean(void **state) {
    (void)state;
    mo_safetensors_writer_desc written = {.metadata = pairs, .n_metadata = 2};
    test_ok(write_three(&written));
    for (int k = 0, done = 0; !done; k++) {
        test_heap heap;
        mo_safetensors st = {0};
        mo_safetensors_desc desc = {test_heap_begin(&heap, k), test_log_begin(&logged)};
        mo_status status = mo_safetensors_open(&st, path, &desc);
        done = status == MO_OK;
        if (!done) assert_int_equal(status, MO_E_NO_MEMORY);
        assert_int_equal(logged.n, !done);
        mo_safetensors_close(&st);
        assert_int_equal(heap.live_blocks, 0);
        assert_true(k < 100 && (!done || k == 9));
    }
}

static void every_failed_allocation_of_a_writer_is_clean(void **state) {
    (void)state;
    for (int k = 0, done = 0; !done; k++) {
        test_heap heap;
        mo_safetensors_writer_desc desc = {
            test_heap_begin(&heap, k), test_log_begin(&logged), pairs, 2};
        mo_status status = write_three(&desc);
        done = status == MO_OK;
        if (!done) assert_int_equal(status, MO_E_NO_MEMORY);
        assert_int_equal(logged.n, !done);
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(count_files("*"), done);
        assert_true(k < 100 && (!done || k == 5));
    }
}

#define fact(name) cmocka_unit_test_teardown(name, clean)
int main(void) {
    const struct CMUnitTest tests[] = {
        fact(dtypes_have_the_formats_order_names_and_sizes),
        fact(vector_matrix_is_accepted),
        fact(vectors_of_wrong_sizes_are_rejected),
        fact(vectors_of_wrong_offsets_are_rejected),
        fact(vectors_of_unusual_files_are_accepted),
        fact(holes_overlaps_and_reversed_offsets_are_rejected),
        fact(many_claims_on_the_same_bytes_take_no_memory),
        fact(overflowing_shapes_are_rejected),
        fact(wrong_schema_is_rejected),
        fact(duplicate_names_are_rejected_however_they_are_spelled),
        fact(invalid_utf8_is_rejected),
        fact(names_are_decoded),
        fact(a_message_is_one_line_whatever_the_name),
        fact(deep_nesting_is_rejected),
        fact(entries_are_sorted_by_offset_and_empty_ones_keep_their_order),
        fact(missing_file_folder_and_pipe_are_said),
        fact(a_file_cut_at_any_byte_is_rejected),
        fact(a_file_cut_after_opening_is_an_error_and_no_signal),
        fact(a_view_copies_only_what_comes_from_a_file),
        fact(read_takes_ranges_inside_the_tensor_only),
        fact(a_header_over_the_limit_is_not_read),
        fact(bogus_entries_cost_little_time_and_memory),
        fact(what_is_written_can_be_read),
        fact(a_file_without_tensors_can_be_written),
        fact(ten_thousand_tensors_make_the_round_trip),
        fact(numbers_become_half_on_their_way_out),
        fact(numbers_become_no_integers),
        fact(entries_that_no_reader_accepts_are_refused),
        fact(metadata_that_no_reader_accepts_is_refused),
        fact(a_header_over_the_limit_is_not_written),
        fact(calls_out_of_order_are_refused),
        fact(too_few_or_too_many_bytes_leave_the_old_file),
        fact(discard_leaves_the_old_file),
        fact(a_mapped_file_can_be_saved_over_itself),
        fact(devices_folders_and_pipes_are_not_replaced),
        fact(links_stay_links),
        fact(permissions_are_the_umasks_or_the_old_files),
        fact(flipped_bytes_never_break_the_reader),
        fact(the_fuzz_corpus_replays),
        fact(every_failed_allocation_of_a_reader_is_clean),
        fact(every_failed_allocation_of_a_writer_is_clean),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL) + remove_folder();
}
