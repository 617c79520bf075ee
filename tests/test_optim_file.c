/* test_optim_file.c - optimizer states through safetensors files: whole, in parts, requantized. */

#include "test_util.h"
#include <math.h>
#include <unistd.h>

static char path[64];

static int make_path(void **state) {
    (void)state;
    snprintf(path, sizeof path, "build/test_optim_file_%ld.safetensors", (long)getpid());
    return 0;
}
static int remove_path(void **state) {
    (void)state;
    return remove(path) != 0 && access(path, F_OK) == 0;
}

typedef struct tensor {
    mo_optim_desc desc;
    mo_optim_state state;
    size_t n, size;
    void *memory;
} tensor;

static tensor tensor_begin(mo_optim_desc desc, size_t n) {
    tensor t;
    t.desc = desc;
    t.n = n;
    t.size = mo_optim_state_size(&desc, n);
    t.memory = mo_alloc(NULL, t.size, 64);
    test_ok(mo_optim_state_init(&desc, n, t.memory, t.size, &t.state));
    return t;
}
static void tensor_end(tensor *t) { mo_free(NULL, t->memory, t->size, 64); }

static mo_optim_desc desc_of(mo_optim_kind kind, mo_optim_precision precision, size_t block) {
    mo_optim_desc d;
    memset(&d, 0, sizeof d);
    d.kind = kind;
    d.precision = precision;
    d.block = block;
    d.lr = 1e-3;
    d.min_8bit_size = 1;
    return d;
}

/* Some steps, so that the states hold something. */
static void train(tensor *t, uint64_t steps) {
    test_rng r = {7};
    float *p = calloc(t->n, sizeof *p), *g = malloc(t->n * sizeof *g);
    for (uint64_t at = 1; at <= steps; at++) {
        for (size_t i = 0; i < t->n; i++) g[i] = 0.01f * test_normal(&r);
        test_ok(mo_optim_step(&t->desc, at, p, g, &t->state));
    }
    free(p);
    free(g);
}

/* The states of one tensor "w", or of the slice s of it, as a file. */
static void save(const tensor *t, const mo_optim_state *s, uint64_t step) {
    char names[MO_OPTIM_MAX_PARTS][64], text[160];
    mo_optim_part parts[MO_OPTIM_MAX_PARTS];
    mo_safetensors_entry entries[MO_OPTIM_MAX_PARTS];
    const size_t n = mo_optim_state_parts(s, parts);
    test_ok(mo_optim_format(&t->desc, s, t->n, step, text, sizeof text));
    const mo_safetensors_pair pair = {"memopt.optimizer.w", text};
    mo_safetensors_writer_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.metadata = &pair;
    desc.n_metadata = 1;
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "optimizer.w.%s", parts[i].suffix);
        const mo_safetensors_entry e = {names[i], parts[i].dtype, 1, &parts[i].n, 0, 0};
        entries[i] = e;
    }
    mo_safetensors_writer w;
    memset(&w, 0, sizeof w);
    test_ok(mo_safetensors_create(&w, path, entries, n, &desc));
    for (size_t i = 0; i < n; i++) {
        const size_t width = mo_dtype_bits(parts[i].dtype) / 8;
        test_ok(mo_safetensors_write(&w, parts[i].data, (size_t)parts[i].n * width));
    }
    test_ok(mo_safetensors_commit(&w));
}

static mo_status load(tensor *t, size_t *n, uint64_t *step, test_log *log) {
    mo_safetensors st;
    mo_safetensors_desc desc;
    memset(&desc, 0, sizeof desc);
    memset(&st, 0, sizeof st);
    if (log) desc.log = test_log_begin(log);
    test_ok(mo_safetensors_open(&st, path, &desc));
    const mo_status status = mo_optim_load(&st, &t->desc, "w", t->n, &t->state, n, step);
    mo_safetensors_close(&st);
    return status;
}

static void every_kind_and_precision_comes_back_bit_for_bit(void **state) {
    (void)state;
    for (int kind = 0; kind < MO_OPTIM_KIND_COUNT; kind++)
        for (int precision = 0; precision < MO_OPTIM_PRECISION_COUNT; precision++) {
            if (precision == MO_OPTIM_4BIT && kind != MO_OPTIM_ADAMW) continue;
            mo_optim_desc d = desc_of((mo_optim_kind)kind, (mo_optim_precision)precision, 0);
            if (kind >= MO_OPTIM_ADAM_MINI) d.columns = 100;
            tensor a = tensor_begin(d, 1500), b = tensor_begin(d, 1500);
            size_t n = 0;
            uint64_t step = 0;
            train(&a, 5);
            save(&a, &a.state, 5);
            test_ok(load(&b, &n, &step, NULL));
            assert_int_equal(n, 1500);
            assert_int_equal(step, 5);
            assert_memory_equal(a.memory, b.memory, a.size);
            tensor_end(&a);
            tensor_end(&b);
        }
}

static void low_rank_states_move_between_precisions_of_one_rank(void **state) {
    (void)state;
    mo_optim_desc d = desc_of(MO_OPTIM_GALORE, MO_OPTIM_8BIT, 0), f32, other;
    test_log log;
    size_t n = 0;
    d.columns = 100;
    d.rank = 4;
    f32 = other = d;
    f32.precision = MO_OPTIM_F32;
    other.rank = 8;
    tensor a = tensor_begin(d, 1500), b = tensor_begin(f32, 1500), c = tensor_begin(other, 1500);
    tensor again = tensor_begin(f32, 1500);
    train(&a, 5);
    save(&a, &a.state, 5);
    test_ok(load(&b, &n, NULL, NULL));
    test_ok(mo_optim_state_copy(&again.state, &a.state, 0));
    assert_memory_equal(b.memory, again.memory, b.size);
    assert_int_equal(load(&c, &n, NULL, &log), MO_E_FORMAT);
    assert_non_null(strstr(log.text, "rank is 4, not 8"));
    tensor_end(&a);
    tensor_end(&b);
    tensor_end(&c);
    tensor_end(&again);
}

static void a_slice_is_read_from_a_whole_file(void **state) {
    (void)state;
    const mo_optim_desc d = desc_of(MO_OPTIM_ADAMW, MO_OPTIM_8BIT, 256);
    tensor a = tensor_begin(d, 1500), b = tensor_begin(d, 1500);
    mo_optim_state whole = b.state;
    size_t n = 0;
    train(&a, 5);
    save(&a, &a.state, 5);
    test_ok(mo_optim_state_slice(&whole, 512, 512, &b.state));
    test_ok(load(&b, &n, NULL, NULL));
    assert_int_equal(n, 512);
    const uint8_t *m = (const uint8_t *)whole.m, *want = (const uint8_t *)a.state.m;
    assert_memory_equal(m + 512, want + 512, 512);
    for (size_t i = 0; i < 512; i++) assert_int_equal(m[i], 127); /* left as it was */
    tensor_end(&a);
    tensor_end(&b);
}

/* Two files with a part each, into blocks of four times the size. */
static void parts_are_merged_and_requantized(void **state) {
    (void)state;
    tensor a = tensor_begin(desc_of(MO_OPTIM_ADAMW, MO_OPTIM_8BIT, 256), 3000);
    tensor b = tensor_begin(desc_of(MO_OPTIM_ADAMW, MO_OPTIM_8BIT, 1024), 3000);
    tensor f = tensor_begin(desc_of(MO_OPTIM_ADAMW, MO_OPTIM_F32, 0), 3000);
    size_t n = 0, sum = 0;
    train(&a, 5);
    for (size_t begin = 0; begin < 3000; begin += 2048) {
        mo_optim_state part;
        const size_t end = begin == 0 ? 2048 : 3000;
        test_ok(mo_optim_state_slice(&a.state, begin, end - begin, &part));
        save(&a, &part, 5);
        test_ok(load(&b, &n, NULL, NULL));
        test_ok(load(&f, &n, NULL, NULL));
        sum += n;
    }
    assert_int_equal(sum, 3000);
    tensor g = tensor_begin(f.desc, 3000); /* b in fp32 */
    test_ok(mo_optim_state_copy(&g.state, &b.state, 0));
    for (size_t i = 0; i < 3000; i++) {
        /* a code is at most half a cell of the first decade off: 0.9 / 64 / 2 of the scale */
        const float m = ((float *)f.state.m)[i], again = ((float *)g.state.m)[i];
        assert_true(fabsf(m - again) <= 0.00704f * b.state.m_absmax[i / 1024]);
        assert_true(((float *)f.state.v)[i] > 0);
    }
    tensor_end(&a);
    tensor_end(&b);
    tensor_end(&f);
    tensor_end(&g);
}

static void parts_that_meet_inside_a_block_are_refused(void **state) {
    (void)state;
    tensor a = tensor_begin(desc_of(MO_OPTIM_ADAMW, MO_OPTIM_8BIT, 256), 3000);
    tensor b = tensor_begin(desc_of(MO_OPTIM_ADAMW, MO_OPTIM_8BIT, 1024), 3000);
    mo_optim_state part;
    size_t n = 0;
    test_log log;
    test_ok(mo_optim_state_slice(&a.state, 0, 256, &part));
    save(&a, &part, 1);
    assert_int_equal(load(&b, &n, NULL, &log), MO_E_INVALID);
    assert_non_null(strstr(log.text, "'w': numbers 0 to 256 do not begin and end at blocks"));
    tensor_end(&a);
    tensor_end(&b);
}

static void what_does_not_fit_is_named(void **state) {
    (void)state;
    tensor a = tensor_begin(desc_of(MO_OPTIM_ADAMW, MO_OPTIM_8BIT, 256), 1000);
    tensor lion = tensor_begin(desc_of(MO_OPTIM_LION, MO_OPTIM_8BIT, 256), 1000);
    tensor longer = tensor_begin(desc_of(MO_OPTIM_ADAMW, MO_OPTIM_8BIT, 256), 1001);
    mo_safetensors st;
    size_t n = 0;
    test_log log;
    save(&a, &a.state, 1);
    assert_int_equal(load(&lion, &n, NULL, &log), MO_E_FORMAT);
    assert_non_null(strstr(log.text, "'w': kind is 0, not 3"));
    assert_int_equal(load(&longer, &n, NULL, &log), MO_E_FORMAT);
    assert_non_null(strstr(log.text, "'w': of is 1000, not 1001"));
    memset(&st, 0, sizeof st);
    test_ok(mo_safetensors_open(&st, path, NULL));
    assert_int_equal(mo_optim_load(&st, &a.desc, "x", 1000, &a.state, &n, NULL), MO_E_NOT_FOUND);
    mo_safetensors_close(&st);
    tensor_end(&a);
    tensor_end(&lion);
    tensor_end(&longer);
}

/* Headers that lie: fields out of range, cut short, too large, parts of the wrong size. */
static void hostile_metadata_is_refused(void **state) {
    (void)state;
    static const char *const texts[] = {"", "kind=0", "kind=-1 precision=0",
        "kind=0 precision=9 block=256 plain_v=0 n=8 begin=0 of=8 columns=0 t=1",
        "kind=0 precision=1 block=0 plain_v=0 n=8 begin=0 of=8 columns=0 t=1",
        "kind=0 precision=0 block=256 plain_v=0 n=9 begin=0 of=8 columns=0 t=1",
        "kind=0 precision=0 block=256 plain_v=0 n=8 begin=18446744073709551615 of=8 columns=0 t=1",
        "kind=0 precision=0 block=256 plain_v=0 n=8 begin=0 of=99999999999999999999 columns=0 t=1",
        "kind=0 precision=0 block=256 plain_v=0 n=8 begin=0 of=8 columns=0 t=1"};
    tensor a = tensor_begin(desc_of(MO_OPTIM_ADAMW, MO_OPTIM_F32, 0), 8);
    for (size_t i = 0; i < n_elements(texts); i++) {
        char header[512], file[600];
        size_t n = 0;
        const int length = snprintf(header, sizeof header,
            "{\"__metadata__\":{\"memopt.optimizer.w\":\"%s\"},\"optimizer.w.m\":{\"dtype\":"
            "\"F32\","
            "\"shape\":[7],\"data_offsets\":[0,28]}}",
            texts[i]);
        memset(file, 0, sizeof file);
        file[0] = (char)(length & 255);
        file[1] = (char)(length >> 8);
        memcpy(file + 8, header, (size_t)length);
        mo_safetensors st;
        memset(&st, 0, sizeof st);
        test_ok(mo_safetensors_open_memory(&st, file, (size_t)length + 36, NULL));
        assert_int_equal(mo_optim_load(&st, &a.desc, "w", 8, &a.state, &n, NULL), MO_E_FORMAT);
        mo_safetensors_close(&st);
    }
    tensor_end(&a);
}

static void a_failed_allocation_is_a_status(void **state) {
    (void)state;
    tensor a = tensor_begin(desc_of(MO_OPTIM_ADAMW, MO_OPTIM_8BIT, 256), 1000);
    tensor b = tensor_begin(desc_of(MO_OPTIM_ADAMW, MO_OPTIM_F32, 0), 1000);
    train(&a, 2);
    save(&a, &a.state, 2);
    mo_status status = MO_E_NO_MEMORY;
    for (int k = 0; status != MO_OK; k++) {
        test_heap heap;
        mo_safetensors_desc desc;
        mo_safetensors st;
        size_t n = 0;
        memset(&desc, 0, sizeof desc);
        memset(&st, 0, sizeof st);
        desc.allocator = test_heap_begin(&heap, k);
        status = mo_safetensors_open(&st, path, &desc);
        if (status == MO_OK) status = mo_optim_load(&st, &b.desc, "w", 1000, &b.state, &n, NULL);
        assert_true(status == MO_OK || status == MO_E_NO_MEMORY);
        mo_safetensors_close(&st);
        assert_int_equal(heap.live_blocks, 0);
    }
    tensor_end(&a);
    tensor_end(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_and_precision_comes_back_bit_for_bit),
        cmocka_unit_test(low_rank_states_move_between_precisions_of_one_rank),
        cmocka_unit_test(a_slice_is_read_from_a_whole_file),
        cmocka_unit_test(parts_are_merged_and_requantized),
        cmocka_unit_test(parts_that_meet_inside_a_block_are_refused),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(hostile_metadata_is_refused),
        cmocka_unit_test(a_failed_allocation_is_a_status),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
