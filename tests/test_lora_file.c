// LDFLAGS: -Wl,--wrap=open,--wrap=open64,--wrap=close,--wrap=write,--wrap=pread,--wrap=pread64
// LDFLAGS: -Wl,--wrap=fsync,--wrap=rename,--wrap=fstat,--wrap=fstat64,--wrap=unlink
/* test_lora_file.c - mo_lora_file: names, configuration and matrices, also when the k-th system
 * call or allocation fails. */
#include "test_io.h"

#define TEST_FILE "adapter_model.safetensors"
#include "test_folder.h"

static test_log logged;
static test_heap heap;

static int clean(void **state) {
    (void)state;
    io.armed = 0;
    empty_folder();
    return 0;
}

/* ---- names --------------------------------------------------------------------------------- */

static void names_are_those_of_peft(void **state) {
    (void)state;
    char text[64];
    test_ok(mo_lora_name("h.0.c_attn.weight", 'A', text, sizeof text));
    assert_string_equal(text, "base_model.model.h.0.c_attn.lora_A.weight");
    test_ok(mo_lora_name("x.weight", 'B', text, 8 + 25));
    assert_string_equal(text, "base_model.model.x.lora_B.weight");
    assert_int_equal(mo_lora_name("x.weight", 'B', text, 8 + 24), MO_E_NO_SPACE);
    assert_int_equal(mo_lora_name("x.bias", 'B', text, sizeof text), MO_E_INVALID);
    assert_int_equal(mo_lora_name(".weight", 'B', text, sizeof text), MO_E_INVALID);
    assert_int_equal(mo_lora_name("x.weight", 'C', text, sizeof text), MO_E_INVALID);
    assert_int_equal(mo_lora_name(NULL, 'A', text, sizeof text), MO_E_INVALID);
}

static void names_lead_back_to_the_weight(void **state) {
    (void)state;
    static const struct {
        const char *name, *target;
        char which;
    } known[] = {
        {"base_model.model.x.lora_A.weight", "x.weight", 'A'},
        {"x.y.lora_B.weight", "x.y.weight", 'B'},
        {"base_model.model.x.lora_B.default.weight", "x.weight", 'B'},
        {"base_model.model.x.weight", "x.weight", 0},
        {"x.lora_A.bias", "x.lora_A.bias", 0},
        {"x.lora_C.weight", "x.lora_C.weight", 0},
        {"x.lora_magnitude_vector", "x.lora_magnitude_vector", 0},
        {"", "", 0},
    };
    for (size_t i = 0; i < n_elements(known); i++) {
        char text[64], which = 'x';
        test_ok(mo_lora_target(known[i].name, &which, text, strlen(known[i].name) + 1));
        assert_string_equal(text, known[i].target);
        assert_int_equal(which, known[i].which);
        assert_int_equal(mo_lora_target(known[i].name, &which, text, strlen(text)), MO_E_NO_SPACE);
    }
}

/* ---- two adapters --------------------------------------------------------------------------- */

enum { RANK = 2, IN = 3, OUT = 5 };
static float a[2][RANK * IN], b[2][OUT * RANK];
static const char *const weights[2] = {"h.0.attn.c_proj.weight", "h.1.mlp.c_proj.weight"};
static const mo_lora_config config = {
    .rank = RANK, .alpha = 2.5f, .dropout = 0.125f, .rslora = 1, .in_out = 1, .base = "a \"b\""};

static void fill(mo_lora_entry *entries, float first) {
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < RANK * IN; i++) a[k][i] = first + (float)(10 * k + i);
        for (int i = 0; i < OUT * RANK; i++) b[k][i] = -first - (float)(10 * k + i);
        entries[k] = (mo_lora_entry){weights[k], IN, OUT, a[k], b[k]};
    }
}

static mo_status save(float first, mo_dtype dtype, int fail_at) {
    mo_lora_entry entries[2];
    const mo_lora_file_desc desc = {
        test_heap_begin(&heap, fail_at), test_log_begin(&logged), dtype};
    fill(entries, first);
    const mo_status status = mo_lora_save(folder, &config, entries, 2, &desc);
    assert_int_equal(heap.live_blocks, 0);
    return status;
}

/* Into arrays of zeros, in another order than that of the file. */
static mo_status load(int fail_at) {
    const mo_safetensors_desc desc = {test_heap_begin(&heap, fail_at), test_log_begin(&logged)};
    mo_safetensors st = {0};
    mo_lora_entry entries[2];
    mo_status status = mo_safetensors_open(&st, path, &desc);
    memset(a, 0, sizeof a), memset(b, 0, sizeof b);
    for (int k = 0; k < 2; k++) entries[1 - k] = (mo_lora_entry){weights[k], IN, OUT, a[k], b[k]};
    if (status == MO_OK) status = mo_lora_load(&st, RANK, entries, 2);
    mo_safetensors_close(&st);
    return status;
}

static void assert_loads(float first) {
    float was_a[2][RANK * IN], was_b[2][OUT * RANK];
    mo_lora_entry entries[2];
    test_ok(load(-1));
    memcpy(was_a, a, sizeof a), memcpy(was_b, b, sizeof b);
    fill(entries, first);
    assert_memory_equal(was_a, a, sizeof a);
    assert_memory_equal(was_b, b, sizeof b);
}

static void adapters_come_back(void **state) {
    (void)state;
    static const mo_dtype types[] = {(mo_dtype)0, MO_DTYPE_F32, MO_DTYPE_F16, MO_DTYPE_BF16};
    for (size_t i = 0; i < n_elements(types); i++) {
        test_ok(save((float)i, types[i], -1)); /* small integers are exact in all */
        assert_int_equal(count_files("*"), 2);
        assert_loads((float)i);
    }
    assert_int_equal(save(0, MO_DTYPE_I8, -1), MO_E_INVALID);
}

static void the_configuration_is_what_peft_reads(void **state) {
    (void)state;
    static const char want[] = "{\n"
                               "  \"peft_type\": \"LORA\",\n"
                               "  \"task_type\": \"CAUSAL_LM\",\n"
                               "  \"base_model_name_or_path\": \"a \\\"b\\\"\",\n"
                               "  \"r\": 2,\n"
                               "  \"lora_alpha\": 2.5,\n"
                               "  \"lora_dropout\": 0.125,\n"
                               "  \"use_rslora\": true,\n"
                               "  \"fan_in_fan_out\": true,\n"
                               "  \"target_modules\": [\"c_proj\"],\n"
                               "  \"bias\": \"none\",\n"
                               "  \"inference_mode\": true\n"
                               "}\n";
    char text[1024];
    test_ok(save(1, MO_DTYPE_F32, -1));
    const size_t n = load_file(in_folder("adapter_config.json"), text, sizeof text);
    assert_int_equal(n, sizeof want - 1);
    assert_memory_equal(text, want, n);
}

static void the_configuration_comes_back(void **state) {
    (void)state;
    mo_lora_config got;
    test_ok(save(1, MO_DTYPE_F32, -1));
    test_ok(mo_lora_load_config(in_folder("adapter_config.json"), &got, NULL));
    assert_true(got.rank == 2 && got.alpha == 2.5f && got.dropout == 0.125f);
    assert_true(got.rslora == 1 && got.in_out == 1 && !got.base && !got.task);
}

static void a_configuration_alone_has_the_modules(void **state) {
    (void)state;
    const mo_lora_entry entries[] = {{.name = "x.q.weight", .in = 1, .out = 1},
        {.name = "y.k.weight", .in = 1, .out = 1}, {.name = "z.q.weight", .in = 1, .out = 1},
        {.name = "v.weight", .in = 1, .out = 1}};
    const mo_lora_config plain = {.rank = 4};
    char text[1024];
    test_ok(mo_lora_save_config(in_folder("c.json"), &plain, entries, 4, NULL));
    text[load_file(in_folder("c.json"), text, sizeof text - 1)] = '\0';
    assert_non_null(strstr(text, "\"target_modules\": [\"q\", \"k\", \"v\"]"));
    assert_non_null(strstr(text, "\"lora_alpha\": 4,"));
    assert_non_null(strstr(text, "\"base_model_name_or_path\": null"));
}

/* ---- what is wrong --------------------------------------------------------------------------- */

static void a_wrong_configuration_is_rejected(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
        mo_status status;
    } bad[] = {
        {"", "0 bytes are no configuration", MO_E_FORMAT},
        {"[]", "expected '{'", MO_E_FORMAT},
        {"{\"lora_alpha\":1}", "r is missing", MO_E_FORMAT},
        {"{\"r\":0,\"lora_alpha\":1}", "r is no rank", MO_E_FORMAT},
        {"{\"r\":1.5,\"lora_alpha\":1}", "expected ',' or '}'", MO_E_FORMAT},
        {"{\"r\":1}", "lora_alpha or lora_dropout is no number that fits", MO_E_FORMAT},
        {"{\"r\":1,\"lora_alpha\":\"x\"}", "expected a number", MO_E_FORMAT},
        {"{\"r\":1,\"lora_alpha\":1e99}", "expected a number", MO_E_FORMAT},
        {"{\"r\":1,\"lora_alpha\":-1}", "no number that fits", MO_E_FORMAT},
        {"{\"r\":1,\"lora_alpha\":1,\"use_rslora\":1}", "expected true or false", MO_E_FORMAT},
        {"{\"r\":1,\"lora_alpha\":1,\"peft_type\":\"IA3\"}", "peft_type is not LORA",
            MO_E_UNSUPPORTED},
        {"{\"r\":1,\"lora_alpha\":1,\"use_dora\":true}", "use_dora", MO_E_UNSUPPORTED},
        {"{\"r\":1,\"lora_alpha\":1,\"rank_pattern\":{\"q\":2}}", "rank_pattern", MO_E_UNSUPPORTED},
    };
    static const char good[] = "{ \"r\" : 8, \"lora_alpha\": 16 , \"rank_pattern\": { },"
                               "\"alpha_pattern\":null,\"target_modules\":[\"q\"],\"use_dora\":"
                               "false }";
    const mo_lora_file_desc desc = {.log = test_log_begin(&logged)};
    mo_lora_config got = {.rank = 77};
    const char *file = in_folder("c.json");
    for (size_t i = 0; i < n_elements(bad); i++) {
        save_file(file, bad[i].text, strlen(bad[i].text));
        assert_int_equal(mo_lora_load_config(file, &got, &desc), bad[i].status);
        if (!strstr(logged.text, bad[i].message)) fail_msg("%s: '%s'", bad[i].text, logged.text);
        assert_int_equal(got.rank, 77);
    }
    save_file(file, good, sizeof good - 1);
    test_ok(mo_lora_load_config(file, &got, &desc));
    assert_true(got.rank == 8 && got.alpha == 16 && !got.rslora);
    assert_int_equal(mo_lora_load_config(in_folder("none"), &got, &desc), MO_E_NOT_FOUND);
}

/* A file of tensors of one number each. */
static void save_tensors(const char *const *names, size_t n, mo_dtype dtype, uint64_t rows) {
    const uint64_t shape[2] = {rows, 1};
    mo_safetensors_entry entries[4];
    mo_safetensors_writer w = {0};
    const float zeros[16] = {0};
    for (size_t i = 0; i < n; i++)
        entries[i] = (mo_safetensors_entry){names[i], dtype, 2, shape, 0, 0};
    test_ok(mo_safetensors_create(&w, path, entries, n, NULL));
    test_ok(mo_safetensors_write(&w, zeros, (size_t)w.data_size));
    test_ok(mo_safetensors_commit(&w));
}

static void wrong_matrices_are_rejected(void **state) {
    (void)state;
    static const char *const names[] = {"x.lora_A.weight", "base_model.model.x.lora_B.weight",
        "x.lora_B.default.weight", "y.lora_A.weight"};
    static const struct {
        size_t first, n;
        mo_dtype dtype;
        uint64_t rows;
        const char *message;
    } bad[] = {
        {0, 1, MO_DTYPE_F32, 1, "lora_B of 'x.weight' is there 0 times"},
        {0, 3, MO_DTYPE_F32, 1, "lora_B of 'x.weight' is there 2 times"},
        {0, 2, MO_DTYPE_F64, 1, "is F64, not F32"},
        {0, 2, MO_DTYPE_F32, 2, "shape is not [1, 1]"},
    };
    float x[2], y[2];
    mo_lora_entry entry = {"x.weight", 1, 1, x, y};
    for (size_t i = 0; i < n_elements(bad); i++) {
        const mo_safetensors_desc desc = {.log = test_log_begin(&logged)};
        mo_safetensors st = {0};
        save_tensors(names + bad[i].first, bad[i].n, bad[i].dtype, bad[i].rows);
        test_ok(mo_safetensors_open(&st, path, &desc));
        assert_int_equal(mo_lora_load(&st, 1, &entry, 1), MO_E_FORMAT);
        if (!strstr(logged.text, bad[i].message)) fail_msg("%zu: '%s'", i, logged.text);
        mo_safetensors_close(&st);
    }
    const char *const others[] = {names[0], names[1], names[3]};
    const mo_safetensors_desc desc = {.log = test_log_begin(&logged)};
    mo_safetensors st = {0};
    save_tensors(others, 3, MO_DTYPE_F32, 1);
    test_ok(mo_safetensors_open(&st, path, &desc));
    assert_int_equal(mo_lora_load(&st, 1, &entry, 1), MO_E_FORMAT);
    assert_non_null(strstr(logged.text, "'y.lora_A.weight' belongs to no weight"));
    mo_safetensors_close(&st);
}

static void what_is_no_adapter_is_not_saved(void **state) {
    (void)state;
    mo_lora_entry entries[2];
    mo_lora_config wrong = config;
    fill(entries, 0);
    assert_int_equal(mo_lora_save(folder, &config, entries, 0, NULL), MO_E_INVALID);
    wrong.rank = 0;
    assert_int_equal(mo_lora_save(folder, &wrong, entries, 2, NULL), MO_E_INVALID);
    wrong = config, wrong.dropout = 1;
    assert_int_equal(mo_lora_save(folder, &wrong, entries, 2, NULL), MO_E_INVALID);
    wrong = config, wrong.alpha = (float)strtod("inf", NULL);
    assert_int_equal(mo_lora_save(folder, &wrong, entries, 2, NULL), MO_E_INVALID);
    entries[1].name = "x.bias";
    assert_int_equal(mo_lora_save(folder, &config, entries, 2, NULL), MO_E_INVALID);
    entries[1] = entries[0]; /* names that are there twice: the writer says so */
    assert_int_equal(mo_lora_save(folder, &config, entries, 2, NULL), MO_E_INVALID);
    assert_int_equal(mo_lora_save(in_folder("none"), &config, entries, 1, NULL), MO_E_NOT_FOUND);
    entries[0].b = NULL;
    assert_int_equal(mo_lora_save(folder, &config, entries, 1, NULL), MO_E_INVALID);
    assert_int_equal(count_files("*"), 0);
}

/* ---- failures -------------------------------------------------------------------------------- */

static void every_allocation_may_fail(void **state) {
    (void)state;
    int k = 0;
    test_ok(save(1, MO_DTYPE_F32, -1));
    for (; save(2, MO_DTYPE_F32, k) != MO_OK; k++) {
        assert_int_equal(logged.n, 1);
        assert_int_equal(count_files("*"), 2);
        assert_loads(1);
    }
    assert_true(k > 3);
    assert_loads(2);
    for (k = 0; load(k) != MO_OK; k++) assert_int_equal(logged.n, 1);
    assert_true(k > 1);
    for (k = 0;; k++) {
        const mo_lora_file_desc desc = {test_heap_begin(&heap, k), test_log_begin(&logged), 0};
        mo_lora_config got;
        const mo_status status = mo_lora_load_config(in_folder("adapter_config.json"), &got, &desc);
        assert_int_equal(heap.live_blocks, 0);
        if (status == MO_OK) break;
        assert_int_equal(status, MO_E_NO_MEMORY);
    }
    assert_true(k > 0);
}

static void every_system_call_may_fail(void **state) {
    (void)state;
    int hits = 0;
    for (int k = 0;; k++) {
        io.armed = 0;
        test_ok(save(1, MO_DTYPE_F32, -1));
        io_arm(FAIL, EIO, k);
        const mo_status status = save(2, MO_DTYPE_F32, -1);
        io.armed = 0;
        if (!io.hit) {
            test_ok(status);
            break;
        }
        hits++;
        assert_int_equal(io.n_open, 0);
        if (status == MO_OK) assert_loads(2); /* the folder alone was not made durable */
        else if (!io.renamed) assert_loads(1);
        const int left = count_files("*");
        assert_true(left == 2 || logged.n > 0); /* a temporary file that cannot be removed */
        empty_folder();
    }
    assert_true(hits > 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_those_of_peft),
        cmocka_unit_test(names_lead_back_to_the_weight),
        cmocka_unit_test_teardown(adapters_come_back, clean),
        cmocka_unit_test_teardown(the_configuration_is_what_peft_reads, clean),
        cmocka_unit_test_teardown(the_configuration_comes_back, clean),
        cmocka_unit_test_teardown(a_configuration_alone_has_the_modules, clean),
        cmocka_unit_test_teardown(a_wrong_configuration_is_rejected, clean),
        cmocka_unit_test_teardown(wrong_matrices_are_rejected, clean),
        cmocka_unit_test_teardown(what_is_no_adapter_is_not_saved, clean),
        cmocka_unit_test_teardown(every_allocation_may_fail, clean),
        cmocka_unit_test_teardown(every_system_call_may_fail, clean),
    };
    return cmocka_run_group_tests(tests, make_folder_in_memory, NULL) + remove_folder();
}
