/* test_gguf.c - mo_gguf, mo_gguf_writer and mo_gguf_type. */
#define _GNU_SOURCE
#include <math.h>
#include <time.h>

#define FUZZ_NO_MAIN
#include "../fuzz/fuzz_gguf.c"

#define TEST_FILE "model.gguf"
#include "test_folder.h"

/* ---- help ---------------------------------------------------------------------------------- */

static test_log logged;

static const uint8_t u8s[] = {1, 2, 3};
static const double f64s[] = {1.5, -2.5};
static const int16_t i16s[] = {-1, 300};
static const mo_gguf_text words[] = {{"a", 1}, {"", 0}, {"\xff\0b", 3}};
static const mo_gguf_text arch[] = {{"llama", 5}};
static const mo_gguf_pair pairs[] = {
    {.key = "general.architecture", .kind = MO_GGUF_KIND_STRING, .n = 1, .strings = arch},
    {.key = "u8", .kind = MO_GGUF_KIND_U8, .n = 1, .u64 = 255},
    {.key = "i8", .kind = MO_GGUF_KIND_I8, .n = 1, .i64 = -128},
    {.key = "u16", .kind = MO_GGUF_KIND_U16, .n = 1, .u64 = 65535},
    {.key = "i16", .kind = MO_GGUF_KIND_I16, .n = 1, .i64 = 32767},
    {.key = "u32", .kind = MO_GGUF_KIND_U32, .n = 1, .u64 = 4000000000u},
    {.key = "i32", .kind = MO_GGUF_KIND_I32, .n = 1, .i64 = -5},
    {.key = "f32", .kind = MO_GGUF_KIND_F32, .n = 1, .f64 = 0.5},
    {.key = "bool", .kind = MO_GGUF_KIND_BOOL, .n = 1, .u64 = 1},
    {.key = "u64", .kind = MO_GGUF_KIND_U64, .n = 1, .u64 = UINT64_MAX},
    {.key = "i64", .kind = MO_GGUF_KIND_I64, .n = 1, .i64 = INT64_MIN},
    {.key = "f64", .kind = MO_GGUF_KIND_F64, .n = 1, .f64 = 0.1},
    {.key = "u8s", .kind = MO_GGUF_KIND_U8, .is_array = 1, .n = 3, .data = u8s},
    {.key = "f64s", .kind = MO_GGUF_KIND_F64, .is_array = 1, .n = 2, .data = f64s},
    {.key = "i16s", .kind = MO_GGUF_KIND_I16, .is_array = 1, .n = 2, .data = i16s},
    {.key = "words", .kind = MO_GGUF_KIND_STRING, .is_array = 1, .n = 3, .strings = words},
};
static const mo_gguf_entry tensors[] = {
    {.name = "w", .type = MO_GGUF_F32, .n_dims = 2, .shape = {3, 2}},
    {.name = "empty", .type = MO_GGUF_F16, .n_dims = 3, .shape = {0, 4, 2}},
    {.name = "q8", .type = MO_GGUF_Q8_0, .n_dims = 2, .shape = {32, 2}},
    {.name = "q4", .type = MO_GGUF_Q4_0, .n_dims = 1, .shape = {64}},
    {.name = "scalar", .type = MO_GGUF_BF16},
};
enum { N_PAIRS = n_elements(pairs), N_TENSORS = n_elements(tensors) };

static void fill(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = (float)((double)i * 0.25 - 3);
}

/* Numbers of every tensor, encoded; in chunks of 7 bytes. */
static mo_status write_model(const mo_gguf_writer_desc *desc) {
    mo_gguf_writer w = {0};
    mo_status status = mo_gguf_create(&w, path, tensors, N_TENSORS, desc);
    for (size_t i = 0; status == MO_OK && i < N_TENSORS; i++) {
        float x[64];
        unsigned char y[256];
        const size_t n = (size_t)mo_gguf_elements(&tensors[i]);
        const mo_gguf_code code = {tensors[i].type, desc->big_endian, NULL};
        const size_t bytes = n / mo_gguf_type_block(code.type) * mo_gguf_type_bytes(code.type);
        fill(x, n);
        test_ok(mo_gguf_encode(&code, x, n, y));
        for (size_t at = 0; status == MO_OK && at < bytes; at += 7)
            status = mo_gguf_write(&w, y + at, bytes - at < 7 ? bytes - at : 7);
    }
    if (status == MO_OK) status = mo_gguf_commit(&w);
    mo_gguf_discard(&w);
    return status;
}

static void assert_model(const mo_gguf *g) {
    float x[64], y[64];
    assert_int_equal(g->n, N_TENSORS);
    for (size_t i = 0; i < N_TENSORS; i++) {
        const mo_gguf_entry *e = &g->entries[i];
        const size_t n = (size_t)mo_gguf_elements(e);
        assert_string_equal(e->name, tensors[i].name);
        assert_int_equal(e->type, tensors[i].type);
        assert_int_equal(e->n_dims, tensors[i].n_dims);
        for (size_t k = 0; k < e->n_dims; k++) assert_int_equal(e->shape[k], tensors[i].shape[k]);
        assert_int_equal(e->begin % g->alignment, 0);
        fill(x, n);
        test_ok(mo_gguf_read_f32(g, e, 0, n, y));
        /* a step of the scale: 3/8 for 4 bits, 12.75/127 for 8, nothing for the others */
        const double step = e->type == MO_GGUF_Q4_0 ? 1.6 : e->type == MO_GGUF_Q8_0 ? 0.11 : 0;
        for (size_t k = 0; k < n; k++) assert_true(fabs((double)x[k] - (double)y[k]) <= step);
    }
}

static void assert_pairs(const mo_gguf *g) {
    assert_int_equal(g->n_metadata, N_PAIRS);
    for (size_t i = 0; i < N_PAIRS; i++) {
        const mo_gguf_pair *a = &g->metadata[i], *b = &pairs[i];
        assert_string_equal(a->key, b->key);
        assert_int_equal(a->kind, b->kind);
        assert_int_equal(a->is_array, b->is_array);
        assert_int_equal(a->n, b->n);
        assert_true(a->u64 == b->u64 && a->i64 == b->i64);
        assert_true(a->f64 >= b->f64 && a->f64 <= b->f64);
        if (b->data) assert_memory_equal(a->data, b->data, b->n * mo_gguf_kind_bytes(b->kind));
        for (size_t k = 0; b->strings && k < b->n; k++) {
            assert_int_equal(a->strings[k].size, b->strings[k].size);
            assert_memory_equal(a->strings[k].text, b->strings[k].text, b->strings[k].size + 1);
        }
    }
}

/* ---- types --------------------------------------------------------------------------------- */

static void types_have_the_formats_numbers_and_sizes(void **state) {
    (void)state;
    assert_int_equal(MO_GGUF_BF16, 30);
    assert_string_equal(mo_gguf_type_name(MO_GGUF_Q6_K), "Q6_K");
    assert_int_equal(mo_gguf_type_bytes(MO_GGUF_Q6_K), 210);
    assert_int_equal(mo_gguf_type_block(MO_GGUF_IQ1_M), 256);
    assert_int_equal(mo_gguf_type_find("MXFP4"), 39);
    assert_int_equal(mo_gguf_type_find("?"), MO_GGUF_TYPE_COUNT);
    assert_int_equal(mo_gguf_type_find("q8"), MO_GGUF_TYPE_COUNT);
    assert_int_equal(mo_gguf_type_block((mo_gguf_type)4), 0);
    assert_string_equal(mo_gguf_type_name((mo_gguf_type)4), "?");
    assert_string_equal(mo_gguf_kind_name(MO_GGUF_KIND_STRING), "string");
    assert_int_equal(mo_gguf_kind_bytes(MO_GGUF_KIND_F64), 8);
    assert_int_equal(mo_gguf_kind_bytes(MO_GGUF_KIND_COUNT), 0);
}

/* The reference, one operation after the other, as ggml-quants.c has it. */
static void reference_q8(const float *x, float *d, int8_t *q) {
    float most = 0;
    for (int i = 0; i < 32; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    *d = most / 127;
    const float id = *d > 0 ? 1.0f / *d : 0;
    for (int i = 0; i < 32; i++) q[i] = (int8_t)roundf(x[i] * id);
}

static void reference_q4(const float *x, float *d, uint8_t *q) {
    float most = 0, at = 0;
    for (int i = 0; i < 32; i++)
        if (most < fabsf(x[i])) most = fabsf(x[i]), at = x[i];
    *d = at / -8;
    const float id = fabsf(*d) > 0 ? 1.0f / *d : 0;
    for (int i = 0; i < 16; i++) {
        const int low = (int8_t)(x[i] * id + 8.5f), high = (int8_t)(x[i + 16] * id + 8.5f);
        q[i] = (uint8_t)((low < 15 ? low : 15) | (high < 15 ? high : 15) << 4);
    }
}

static void blocks_have_the_bits_of_the_reference(void **state) {
    (void)state;
    test_rng r = test_rng_begin("blocks_have_the_bits_of_the_reference");
    for (int t = 0; t < 20000; t++) {
        float x[32], d8, d4;
        int8_t q8[32];
        uint8_t q4[16], y8[34], y4[18];
        uint16_t s8, s4;
        const float scale = ldexpf(1, (int)test_below(&r, 60) - 40);
        const int grid = test_below(&r, 3) == 0; /* ties between codes */
        for (int i = 0; i < 32; i++)
            x[i] = scale * (grid ? (float)test_below(&r, 509) * 0.5f - 127 : test_normal(&r));
        if (grid) x[test_below(&r, 32)] = scale * 127;
        if (test_below(&r, 50) == 0) memset(x, 0, sizeof x);
        reference_q8(x, &d8, q8);
        reference_q4(x, &d4, q4);
        mo_f32_to_f16(&d8, &s8, 1, NULL);
        mo_f32_to_f16(&d4, &s4, 1, NULL);
        for (int big = 0; big < 2; big++) {
            const mo_gguf_code c8 = {MO_GGUF_Q8_0, big, NULL}, c4 = {MO_GGUF_Q4_0, big, NULL};
            test_ok(mo_gguf_encode(&c8, x, 32, y8));
            test_ok(mo_gguf_encode(&c4, x, 32, y4));
            assert_memory_equal(y8 + 2, q8, 32);
            assert_memory_equal(y4 + 2, q4, 16);
            assert_int_equal(y8[big ? 1 : 0] | y8[big ? 0 : 1] << 8, s8);
            assert_int_equal(y4[big ? 1 : 0] | y4[big ? 0 : 1] << 8, s4);
        }
    }
}

static void blocks_decode_to_scale_times_code(void **state) {
    (void)state;
    uint8_t y[36] = {0, 0x38}; /* 0.5 */
    float x[32];
    const mo_gguf_code c8 = {MO_GGUF_Q8_0, 0, NULL}, c4 = {MO_GGUF_Q4_0, 0, NULL};
    for (int i = 0; i < 32; i++) y[2 + i] = (uint8_t)(i - 3);
    test_ok(mo_gguf_decode(&c8, y, 32, x));
    for (int i = 0; i < 32; i++) assert_true(fabsf(x[i] - 0.5f * (float)(i - 3)) <= 0);
    y[2] = 0xf0, y[3] = 0x0f;
    test_ok(mo_gguf_decode(&c4, y, 32, x));
    assert_true(x[0] <= -4 && x[0] >= -4 && x[16] <= 3.5f && x[16] >= 3.5f);
    assert_true(x[1] >= 3.5f && x[17] <= -4);
}

static void blocks_that_are_not_finite_decode_to_nan_and_tiny_ones_to_zero(void **state) {
    (void)state;
    static const mo_gguf_type types[] = {MO_GGUF_Q8_0, MO_GGUF_Q4_0};
    static const float odd[] = {NAN, INFINITY, -INFINITY, 1e-38f, 1e-45f};
    for (size_t t = 0; t < 2; t++)
        for (size_t k = 0; k < n_elements(odd); k++) {
            float x[32] = {0}, back[32];
            uint8_t y[34];
            const mo_gguf_code code = {types[t], 0, NULL};
            x[5] = odd[k];
            test_ok(mo_gguf_encode(&code, x, 32, y));
            test_ok(mo_gguf_decode(&code, y, 32, back));
            for (int i = 0; i < 32; i++) assert_true(k < 3 ? isnan(back[i]) : fabsf(back[i]) <= 0);
        }
}

static void conversions_take_any_alignment_and_number_of_threads(void **state) {
    (void)state;
    enum { N = 40000 };
    static float x[N], back[N], again[N];
    static unsigned char bytes[N * 4 + 1], one[N * 4 + 1];
    static const mo_gguf_type types[] = {
        MO_GGUF_F32, MO_GGUF_F16, MO_GGUF_BF16, MO_GGUF_Q8_0, MO_GGUF_Q4_0};
    const mo_parallel serial = {NULL, NULL, 1};
    test_rng r = test_rng_begin("conversions_take_any_alignment_and_number_of_threads");
    for (size_t i = 0; i < N; i++) x[i] = test_normal(&r);
    for (size_t t = 0; t < n_elements(types); t++)
        for (int big = 0; big < 2; big++) {
            const mo_gguf_code many = {types[t], big, NULL}, single = {types[t], big, &serial};
            const size_t size = N / mo_gguf_type_block(types[t]) * mo_gguf_type_bytes(types[t]);
            test_ok(mo_gguf_encode(&many, x, N, bytes + 1));
            test_ok(mo_gguf_encode(&single, x, N, one));
            assert_memory_equal(bytes + 1, one, size);
            test_ok(mo_gguf_decode(&many, bytes + 1, N, back));
            test_ok(mo_gguf_decode(&single, one, N, again));
            assert_memory_equal(back, again, sizeof back);
        }
    const mo_gguf_code q8 = {MO_GGUF_Q8_0, 0, NULL}, q6 = {MO_GGUF_Q6_K, 0, NULL};
    assert_int_equal(mo_gguf_encode(&q8, x, 33, bytes), MO_E_INVALID);
    assert_int_equal(mo_gguf_encode(&q6, x, 256, bytes), MO_E_UNSUPPORTED);
    assert_int_equal(mo_gguf_decode(&q8, NULL, 32, back), MO_E_INVALID);
    assert_int_equal(mo_gguf_decode(NULL, bytes, 32, back), MO_E_INVALID);
}

/* ---- files --------------------------------------------------------------------------------- */

static void what_is_written_can_be_read_in_either_byte_order(void **state) {
    (void)state;
    for (int big = 0; big < 2; big++) {
        mo_gguf g = {0};
        const mo_gguf_writer_desc desc = {
            .metadata = pairs, .n_metadata = N_PAIRS, .big_endian = big};
        test_ok(write_model(&desc));
        test_ok(mo_gguf_open(&g, path, NULL));
        assert_int_equal(g.big_endian, big);
        assert_int_equal(g.version, 3);
        assert_int_equal(g.alignment, 32);
        assert_int_equal(g.data_off % 32, 0);
        assert_int_equal(g.data_size % 32, 0);
        assert_pairs(&g);
        assert_model(&g);
        mo_gguf_close(&g);
        mo_gguf_close(&g);
    }
}

static void metadata_is_found_and_converted(void **state) {
    (void)state;
    mo_gguf g = {0};
    uint64_t n = 7;
    double x = 7;
    const mo_gguf_writer_desc written = {.metadata = pairs, .n_metadata = N_PAIRS};
    const mo_gguf_desc desc = {.log = test_log_begin(&logged)};
    test_ok(write_model(&written));
    test_ok(mo_gguf_open(&g, path, &desc));
    assert_string_equal(mo_gguf_string(&g, "general.architecture"), "llama");
    assert_null(mo_gguf_string(&g, "words"));
    assert_null(mo_gguf_string(&g, "general.name"));
    test_ok(mo_gguf_u64(&g, "i16", &n));
    assert_int_equal(n, 32767);
    test_ok(mo_gguf_f64(&g, "i32", &x));
    assert_true(x <= -5 && x >= -5);
    test_ok(mo_gguf_f64(&g, "f32", &x));
    assert_true(x <= 0.5 && x >= 0.5);
    assert_int_equal(mo_gguf_u64(&g, "i32", &n), MO_E_FORMAT);
    assert_non_null(strstr(logged.text, "key 'i32' is a negative i32, not an integer from 0 on"));
    assert_int_equal(mo_gguf_u64(&g, "f32", &n), MO_E_FORMAT);
    assert_int_equal(mo_gguf_f64(&g, "u8s", &x), MO_E_FORMAT);
    assert_int_equal(mo_gguf_u64(&g, "none", &n), MO_E_NOT_FOUND);
    assert_int_equal(n, 32767);
    mo_gguf_close(&g);
}

static void the_alignment_of_the_metadata_is_kept(void **state) {
    (void)state;
    mo_gguf g = {0};
    const mo_gguf_pair align = {
        .key = "general.alignment", .kind = MO_GGUF_KIND_U32, .n = 1, .u64 = 4096};
    const mo_gguf_writer_desc desc = {.metadata = &align, .n_metadata = 1};
    test_ok(write_model(&desc));
    test_ok(mo_gguf_open(&g, path, NULL));
    assert_int_equal(g.alignment, 4096);
    assert_int_equal(g.data_off, 4096);
    assert_model(&g);
    assert_int_equal((uintptr_t)mo_gguf_data(&g, &g.entries[0]) % 4096, 0);
    mo_gguf_close(&g);
}

static void reads_and_views_take_ranges_inside_the_tensor_only(void **state) {
    (void)state;
    mo_gguf g = {0};
    unsigned char bytes[68];
    float x[64];
    const void *view = NULL;
    const mo_gguf_writer_desc written = {0};
    test_ok(write_model(&written));
    test_ok(mo_gguf_open(&g, path, NULL));
    const mo_gguf_entry *e = mo_gguf_find(&g, "q8");
    test_ok(mo_gguf_read(&g, e, 1, bytes, 67));
    assert_int_equal(mo_gguf_read(&g, e, 1, bytes, 68), MO_E_INVALID);
    assert_int_equal(mo_gguf_read(&g, e, UINT64_MAX, bytes, 2), MO_E_INVALID);
    test_ok(mo_gguf_view(&g, e, 34, bytes, 34, &view));
    assert_ptr_equal(view, bytes);
    assert_memory_equal(bytes, (const char *)mo_gguf_data(&g, e) + 34, 34);
    assert_int_equal(mo_gguf_view(&g, e, 34, NULL, 34, &view), MO_E_INVALID);
    test_ok(mo_gguf_read_f32(&g, e, 32, 32, x));
    assert_int_equal(mo_gguf_read_f32(&g, e, 1, 32, x), MO_E_INVALID);
    assert_int_equal(mo_gguf_read_f32(&g, e, 64, 32, x), MO_E_INVALID);
    assert_null(mo_gguf_find(&g, "q"));
    mo_gguf_close(&g);
}

static void a_file_cut_after_opening_is_an_error_and_no_signal(void **state) {
    (void)state;
    mo_gguf g = {0};
    unsigned char bytes[24];
    float x[6];
    const void *view = NULL;
    const mo_gguf_writer_desc written = {0};
    for (int mapped = 0; mapped < 2; mapped++) {
        test_ok(write_model(&written));
        test_ok(mo_gguf_open(&g, path, NULL));
        if (mapped) assert_non_null(mo_gguf_data(&g, g.entries));
        assert_int_equal(truncate(path, 70), 0);
        assert_int_equal(mo_gguf_read(&g, g.entries, 0, bytes, 24), MO_E_IO);
        assert_int_equal(mo_gguf_view(&g, g.entries, 0, bytes, 24, &view), MO_E_IO);
        assert_int_equal(mo_gguf_read_f32(&g, g.entries, 0, 6, x), MO_E_IO);
        assert_null(mo_gguf_data(&g, g.entries));
        mo_gguf_close(&g);
    }
}

static void a_file_cut_at_any_byte_is_rejected(void **state) {
    (void)state;
    const mo_gguf_writer_desc desc = {.metadata = pairs, .n_metadata = N_PAIRS};
    static unsigned char bytes[4096];
    mo_gguf g = {0};
    test_ok(write_model(&desc));
    const size_t size = load_file(path, bytes, sizeof bytes);
    for (size_t cut = 0; cut + 30 < size; cut++) { /* the padding of the last one may be missing */
        unsigned char *exact = malloc(cut ? cut : 1);
        memcpy(exact, bytes, cut);
        const mo_gguf_desc logging = {.log = test_log_begin(&logged)};
        assert_int_equal(mo_gguf_open_memory(&g, exact, cut, &logging), MO_E_FORMAT);
        assert_int_equal(logged.n, 1);
        free(exact);
    }
    test_ok(mo_gguf_open_memory(&g, bytes, size - 30, NULL));
    mo_gguf_close(&g);
    test_rng r = test_rng_begin("a_file_cut_at_any_byte_is_rejected");
    for (int i = 0; i < 20000; i++) { /* and bytes flipped */
        size_t at = test_below(&r, 1000);
        unsigned char old = bytes[at];
        bytes[at] = (unsigned char)test_u64(&r);
        LLVMFuzzerTestOneInput(bytes, size);
        bytes[at] = old;
    }
}

static void what_no_reader_accepts_is_refused(void **state) {
    (void)state;
    static char longest[70], longer[65540];
    static const uint8_t two[] = {2};
    memset(longest, 'n', 64);
    memset(longer, 'n', 65537);
    const mo_gguf_entry bad[][2] = {
        {{.name = "a"}, {.name = "a"}},
        {{.name = NULL}, {.name = "a"}},
        {{.name = "\xff"}, {.name = "a"}},
        {{.name = longest}, {.name = "a"}},
        {{.name = "a", .type = (mo_gguf_type)5}, {.name = "b"}},
        {{.name = "a", .type = MO_GGUF_Q8_0, .n_dims = 1, .shape = {31}}, {.name = "b"}},
        {{.name = "a", .n_dims = 5}, {.name = "b"}},
        {{.name = "a", .n_dims = 2, .shape = {1u << 31, UINT64_MAX / 2}}, {.name = "b"}},
    };
    const mo_gguf_pair keys[] = {
        {.key = "", .kind = MO_GGUF_KIND_U8},
        {.key = longer, .kind = MO_GGUF_KIND_U8},
        {.key = "k", .kind = MO_GGUF_KIND_U8, .u64 = 256},
        {.key = "k", .kind = MO_GGUF_KIND_I8, .i64 = -129},
        {.key = "k", .kind = MO_GGUF_KIND_BOOL, .u64 = 2},
        {.key = "k", .kind = MO_GGUF_KIND_BOOL, .is_array = 1, .n = 1, .data = two},
        {.key = "k", .kind = (mo_gguf_kind)9},
        {.key = "k", .kind = MO_GGUF_KIND_STRING},
        {.key = "k", .kind = MO_GGUF_KIND_U8, .is_array = 1, .n = 1},
        {.key = "general.alignment", .kind = MO_GGUF_KIND_U32, .u64 = 24},
        {.key = "general.alignment", .kind = MO_GGUF_KIND_U64, .u64 = 32},
    };
    remove(path);
    for (size_t i = 0; i < n_elements(bad); i++) {
        mo_gguf_writer w = {0};
        const mo_gguf_writer_desc desc = {.log = test_log_begin(&logged)};
        assert_int_equal(mo_gguf_create(&w, path, bad[i], 2, &desc), MO_E_INVALID);
        assert_int_equal(logged.n, 1);
    }
    for (size_t i = 0; i < n_elements(keys); i++) {
        mo_gguf_writer w = {0};
        const mo_gguf_writer_desc desc = {
            .log = test_log_begin(&logged), .metadata = &keys[i], .n_metadata = 1};
        assert_int_equal(mo_gguf_create(&w, path, NULL, 0, &desc), MO_E_INVALID);
        assert_int_equal(logged.n, 1);
    }
    assert_int_not_equal(access(path, F_OK), 0);
}

static void calls_out_of_order_and_wrong_sizes_leave_no_file(void **state) {
    (void)state;
    mo_gguf_writer w = {0};
    char bytes[200] = {0};
    remove(path);
    assert_int_equal(mo_gguf_write(&w, "", 0), MO_E_STATE);
    assert_int_equal(mo_gguf_commit(&w), MO_E_STATE);
    test_ok(mo_gguf_create(&w, path, tensors, 1, NULL));
    test_ok(mo_gguf_write(&w, bytes, 23));
    assert_int_equal(mo_gguf_commit(&w), MO_E_STATE);
    test_ok(mo_gguf_create(&w, path, tensors, 1, NULL));
    assert_int_equal(mo_gguf_write(&w, bytes, 25), MO_E_INVALID);
    assert_int_equal(mo_gguf_commit(&w), MO_E_STATE);
    mo_gguf_discard(NULL);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void ten_thousand_tensors_and_long_names_make_the_round_trip(void **state) {
    (void)state;
    enum { N = 10000, LONG = 65536 };
    static mo_gguf_entry entries[N + 1];
    static char names[N][24], longest[LONG + 1];
    mo_gguf_writer w = {0};
    mo_gguf g = {0};
    memset(longest, 'x', LONG);
    for (size_t i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "blk.%zu.w", i);
        mo_gguf_entry e = {.name = names[i], .type = MO_GGUF_I8, .n_dims = 1, .shape = {i % 3}};
        entries[i] = e;
    }
    mo_gguf_entry last = {.name = longest, .type = MO_GGUF_I8};
    entries[N] = last;
    const mo_gguf_writer_desc desc = {.long_names = 1};
    test_ok(mo_gguf_create(&w, path, entries, N + 1, &desc));
    for (size_t i = 0; i <= N; i++) {
        const unsigned char bytes[2] = {(unsigned char)i, (unsigned char)(i >> 8)};
        test_ok(mo_gguf_write(&w, bytes, i < N ? i % 3 : 1));
    }
    test_ok(mo_gguf_commit(&w));
    assert_int_equal(mo_gguf_open(&g, path, NULL), MO_E_FORMAT);
    const mo_gguf_desc reading = {.long_names = 1};
    test_ok(mo_gguf_open(&g, path, &reading));
    assert_int_equal(g.n, N + 1);
    for (size_t i = 0; i < N; i++) {
        unsigned char bytes[2];
        const mo_gguf_entry *e = mo_gguf_find(&g, names[i]);
        assert_non_null(e);
        test_ok(mo_gguf_read(&g, e, 0, bytes, i % 3));
        if (i % 3 == 2) assert_int_equal(bytes[0] | bytes[1] << 8, i & 0xffff);
    }
    assert_non_null(mo_gguf_find(&g, longest));
    mo_gguf_close(&g);
}

/* ---- hostile files ------------------------------------------------------------------------- */

static void claims_of_a_large_file_cost_little_time_and_memory(void **state) {
    (void)state;
    static const struct {
        uint64_t n, n_keys, key_size;
    } claims[] = {{UINT64_C(1) << 40, 0, 0}, {1000000000, 0, 0}, {0, UINT64_C(1) << 40, 0},
        {0, 1, UINT64_C(1) << 40}, {0, 1000000000, 1}, {0, 1, 65535}};
    for (size_t i = 0; i < n_elements(claims); i++) {
        char head[33] = "GGUF\3";
        test_heap heap;
        mo_gguf g = {0};
        mo_gguf_desc desc = {.allocator = test_heap_begin(&heap, -1)};
        for (int k = 0; k < 8; k++) {
            head[8 + k] = (char)(claims[i].n >> 8 * k);
            head[16 + k] = (char)(claims[i].n_keys >> 8 * k);
            head[24 + k] = (char)(claims[i].key_size >> 8 * k);
        }
        save_file(path, head, 32);
        assert_int_equal(truncate(path, (off_t)1 << 36), 0); /* sparse */
        clock_t start = clock();
        assert_int_equal(mo_gguf_open(&g, path, &desc), MO_E_FORMAT);
        assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 1);
        assert_true(heap.peak_bytes < 100000);
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(truncate(path, 0), 0);
    }
}

static void a_header_over_the_limit_is_rejected(void **state) {
    (void)state;
    mo_gguf g = {0};
    const mo_gguf_writer_desc written = {.metadata = pairs, .n_metadata = N_PAIRS};
    const mo_gguf_desc desc = {.log = test_log_begin(&logged), .max_header_bytes = 100};
    test_ok(write_model(&written));
    assert_int_equal(mo_gguf_open(&g, path, &desc), MO_E_FORMAT);
    assert_non_null(strstr(logged.text, "header is over the limit of 100 bytes"));
}

static void replay(const char *file, const char *name) {
    mo_gguf g = {0};
    assert_int_equal(fuzz_replay(file), 0);
    mo_status status = mo_gguf_open(&g, file, NULL);
    mo_gguf_close(&g);
    if (strncmp(name, "ok_", 3) == 0 && status != MO_OK) fail_msg("%s", file);
    if (strncmp(name, "bad_", 4) == 0 && status != MO_E_FORMAT) fail_msg("%s", file);
}

static void the_fuzz_corpus_replays(void **state) {
    (void)state;
    each_file("fuzz/corpus/gguf", 50, replay);
}

/* ---- the k-th allocation ------------------------------------------------------------------- */

static void every_failed_allocation_is_clean(void **state) {
    (void)state;
    for (int k = 0, done = 0; !done; k++) {
        test_heap heap;
        const mo_gguf_writer_desc desc = {.allocator = test_heap_begin(&heap, k),
            .log = test_log_begin(&logged),
            .metadata = pairs,
            .n_metadata = N_PAIRS};
        mo_status status = write_model(&desc);
        done = status == MO_OK;
        if (!done) assert_int_equal(status, MO_E_NO_MEMORY);
        assert_int_equal(logged.n, !done);
        assert_int_equal(heap.live_blocks, 0);
        assert_true(k < 100 && (!done || k == 6));
    }
    for (int k = 0, done = 0; !done; k++) {
        test_heap heap;
        mo_gguf g = {0};
        const mo_gguf_desc desc = {
            .allocator = test_heap_begin(&heap, k), .log = test_log_begin(&logged)};
        mo_status status = mo_gguf_open(&g, path, &desc);
        done = status == MO_OK;
        if (!done) assert_int_equal(status, MO_E_NO_MEMORY);
        assert_int_equal(logged.n, !done);
        mo_gguf_close(&g);
        assert_int_equal(heap.live_blocks, 0);
        assert_true(k < 100 && (!done || k == 9));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_have_the_formats_numbers_and_sizes),
        cmocka_unit_test(blocks_have_the_bits_of_the_reference),
        cmocka_unit_test(blocks_decode_to_scale_times_code),
        cmocka_unit_test(blocks_that_are_not_finite_decode_to_nan_and_tiny_ones_to_zero),
        cmocka_unit_test(conversions_take_any_alignment_and_number_of_threads),
        cmocka_unit_test(what_is_written_can_be_read_in_either_byte_order),
        cmocka_unit_test(metadata_is_found_and_converted),
        cmocka_unit_test(the_alignment_of_the_metadata_is_kept),
        cmocka_unit_test(reads_and_views_take_ranges_inside_the_tensor_only),
        cmocka_unit_test(a_file_cut_after_opening_is_an_error_and_no_signal),
        cmocka_unit_test(a_file_cut_at_any_byte_is_rejected),
        cmocka_unit_test(what_no_reader_accepts_is_refused),
        cmocka_unit_test(calls_out_of_order_and_wrong_sizes_leave_no_file),
        cmocka_unit_test(ten_thousand_tensors_and_long_names_make_the_round_trip),
        cmocka_unit_test(claims_of_a_large_file_cost_little_time_and_memory),
        cmocka_unit_test(a_header_over_the_limit_is_rejected),
        cmocka_unit_test(the_fuzz_corpus_replays),
        cmocka_unit_test(every_failed_allocation_is_clean),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL) + remove_folder();
}
