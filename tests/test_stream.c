// LDFLAGS: -Wl,--wrap=pread,--wrap=pread64
/* test_stream.c - mo_stream */
#include "test_io.h"

#define TEST_FILE "model.safetensors"
#include "test_folder.h"

/* ---- a model in memory ----------------------------------------------------------------------- */

enum { MAX_LAYERS = 24, MAX_TENSORS = 3 };
typedef struct model {
    unsigned char *bytes;
    size_t n_layers, sizes[MAX_LAYERS]; /* sizes as the window counts them */
    mo_stream_tensor tensors[MAX_LAYERS][MAX_TENSORS];
    mo_stream_layer layers[MAX_LAYERS];
} model;

static size_t rounded(size_t size) { return (size + 63) / 64 * 64; }

static void model_add(model *m, size_t *offset, size_t n_tensors, const size_t *bytes) {
    const size_t layer = m->n_layers++;
    m->layers[layer].n_tensors = n_tensors; /* its tensors: desc_of, where the model stays */
    for (size_t i = 0; i < n_tensors; i++) {
        m->tensors[layer][i] = (mo_stream_tensor){.offset = *offset, .bytes = bytes[i]};
        m->sizes[layer] += rounded(bytes[i]);
        *offset += bytes[i];
    }
}

/* The bytes, once all layers are known; never the same at two places nearby. */
static void model_fill(model *m, size_t size) {
    m->bytes = malloc(size ? size : 1);
    for (size_t i = 0; i < size; i++) m->bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    for (size_t i = 0; i < m->n_layers; i++)
        for (size_t k = 0; k < m->layers[i].n_tensors; k++)
            m->tensors[i][k].source = mo_stream_memory(m->bytes);
}

static model model_of(size_t n_layers, size_t layer_bytes) {
    model m = {0};
    size_t offset = 0;
    for (size_t i = 0; i < n_layers; i++) model_add(&m, &offset, 1, &layer_bytes);
    model_fill(&m, offset);
    return m;
}

static void check_layer(const model *m, const mo_stream_layer_view *view) {
    const size_t n = m->layers[view->index].n_tensors;
    for (size_t i = 0; i < n; i++) {
        const mo_stream_tensor *t = &m->tensors[view->index][i];
        assert_int_equal((uintptr_t)view->data[i] % 64, 0);
        assert_memory_equal(view->data[i], m->bytes + t->offset, t->bytes);
    }
}

static mo_stream_desc desc_of(model *m, size_t limit) {
    for (size_t i = 0; i < m->n_layers; i++) m->layers[i].tensors = m->tensors[i];
    return (mo_stream_desc){.layers = m->layers, .n_layers = m->n_layers, .limit_bytes = limit};
}

static mo_stream stream_of(const mo_stream_desc *desc) {
    mo_stream stream = {0};
    test_ok(mo_stream_init(&stream, desc));
    return stream;
}

/* All of it: the layers have to come in this order, with their bytes. */
static void expect(mo_stream *stream, const model *m, const size_t *order, size_t n) {
    mo_stream_layer_view view;
    for (size_t i = 0; i < n; i++) {
        test_ok(mo_stream_next(stream, &view));
        assert_false(view.is_end);
        assert_int_equal(view.index, order[i]);
        check_layer(m, &view);
    }
}

static void expect_end(mo_stream *stream) {
    mo_stream_layer_view view;
    for (int i = 0; i < 2; i++) {
        test_ok(mo_stream_next(stream, &view));
        assert_true(view.is_end);
    }
}

/* ---- examples -------------------------------------------------------------------------------- */

static void layers_come_forward_backward_or_both_ways(void **state) {
    (void)state;
    static const size_t forward[] = {0, 1, 2, 3}, backward[] = {3, 2, 1, 0};
    static const size_t both[] = {0, 1, 2, 3, 3, 2, 1, 0};
    model m = model_of(4, 1000);
    mo_stream_desc desc = desc_of(&m, 2048);
    mo_stream stream = stream_of(&desc);
    expect(&stream, &m, forward, 4);
    expect_end(&stream);
    mo_stream_free(&stream);
    desc.direction = MO_STREAM_BACKWARD;
    stream = stream_of(&desc);
    expect(&stream, &m, backward, 4);
    expect_end(&stream);
    mo_stream_free(&stream);
    desc.direction = MO_STREAM_BOTH;
    stream = stream_of(&desc);
    expect(&stream, &m, both, 8);
    expect_end(&stream);
    mo_stream_free(&stream);
    free(m.bytes);
}

static void any_order_is_gone_through_as_often_as_asked(void **state) {
    (void)state;
    static const size_t order[] = {2, 0, 0, 3, 2};
    model m = model_of(4, 100);
    mo_stream_desc desc = desc_of(&m, 256);
    mo_stream_layer_view view;
    desc.order = order, desc.n_order = 5, desc.n_passes = 3;
    mo_stream stream = stream_of(&desc);
    for (size_t i = 0; i < 15; i++) {
        test_ok(mo_stream_next(&stream, &view));
        assert_int_equal(view.index, order[i % 5]);
        assert_int_equal(view.step, i % 5);
        assert_int_equal(view.pass, i / 5);
        check_layer(&m, &view);
    }
    expect_end(&stream);
    mo_stream_free(&stream);
    free(m.bytes);
}

static void a_restart_begins_with_what_is_there(void **state) {
    (void)state;
    static const size_t order[] = {0, 1, 2, 3};
    model m = model_of(4, 64);
    mo_stream_desc desc = desc_of(&m, 4 * 64);
    mo_stream stream = stream_of(&desc);
    expect(&stream, &m, order, 4);
    mo_stream_restart(&stream);
    expect(&stream, &m, order, 2);
    mo_stream_restart(&stream);
    expect(&stream, &m, order, 4);
    expect_end(&stream);
    assert_int_equal(mo_stream_get_stats(&stream).n_reads, 4);
    assert_int_equal(mo_stream_get_stats(&stream).n_layers, 10);
    assert_int_equal(mo_stream_get_stats(&stream).read_bytes, 4 * 64);
    mo_stream_free(&stream);
    free(m.bytes);
}

static void a_window_of_one_layer_is_enough(void **state) {
    (void)state;
    static const size_t order[] = {0, 1, 2};
    model m = model_of(3, 200);
    mo_stream_desc desc = desc_of(&m, 256);
    mo_stream stream = stream_of(&desc);
    expect(&stream, &m, order, 3);
    assert_int_equal(mo_stream_get_stats(&stream).peak_bytes, 256);
    mo_stream_free(&stream);
    free(m.bytes);
}

static void by_default_the_window_holds_one_layer_and_those_ahead(void **state) {
    (void)state;
    model m = model_of(9, 256);
    mo_stream_desc desc = desc_of(&m, 0);
    mo_stream stream = stream_of(&desc);
    assert_int_equal(mo_stream_get_stats(&stream).window_bytes, 3 * 256);
    mo_stream_free(&stream);
    desc.depth = 1;
    stream = stream_of(&desc);
    assert_int_equal(mo_stream_get_stats(&stream).window_bytes, 2 * 256);
    mo_stream_free(&stream);
    desc.limit_bytes = 1 << 30; /* never more than the model */
    stream = stream_of(&desc);
    assert_int_equal(mo_stream_get_stats(&stream).window_bytes, 9 * 256);
    mo_stream_free(&stream);
    free(m.bytes);
}

static void numbers_become_floats_as_mo_half_decode_makes_them(void **state) {
    (void)state;
    enum { N = 150001 };
    const size_t bytes[] = {2, 2, 1, 1};
    const mo_half_format formats[] = {MO_HALF_F16, MO_HALF_BF16, MO_HALF_F8_E4M3, MO_HALF_F8_E5M2};
    model m = {0};
    size_t offset = 0;
    float *want = malloc(N * sizeof *want);
    for (int i = 0; i < 4; i++) {
        const size_t size = N * bytes[i];
        model_add(&m, &offset, 1, &size);
        m.tensors[i][0].decode = (mo_stream_decode)(MO_STREAM_F16 + i);
        offset += offset % 2;
    }
    model_fill(&m, offset);
    for (size_t n_threads = 1; n_threads <= 3; n_threads++) {
        mo_stream_desc desc = desc_of(&m, 2 * rounded(N * sizeof *want));
        mo_stream_layer_view view;
        desc.n_threads = n_threads;
        mo_stream stream = stream_of(&desc);
        for (int i = 0; i < 4; i++) {
            const mo_half_desc half = {.format = formats[i]};
            test_ok(mo_stream_next(&stream, &view));
            test_ok(mo_half_decode(&half, m.bytes + m.tensors[i][0].offset, N, want));
            assert_memory_equal(view.data[0], want, N * sizeof *want);
        }
        mo_stream_free(&stream);
    }
    free(want);
    free(m.bytes);
}

static void empty_layers_and_tensors_are_layers_and_tensors(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 65, 0}, order[] = {0, 1, 2};
    model m = {0};
    size_t offset = 0;
    model_add(&m, &offset, 0, NULL);
    model_add(&m, &offset, 3, sizes);
    model_add(&m, &offset, 1, sizes);
    model_fill(&m, offset);
    mo_stream_desc desc = desc_of(&m, 0);
    mo_stream stream = stream_of(&desc);
    expect(&stream, &m, order, 3);
    expect_end(&stream);
    mo_stream_free(&stream);
    desc = (mo_stream_desc){.layers = m.layers, .n_layers = 1}; /* nothing at all */
    stream = stream_of(&desc);
    expect(&stream, &m, order, 1);
    expect_end(&stream);
    mo_stream_free(&stream);
    free(m.bytes);
}

static void threads_of_a_queue_can_be_shared(void **state) {
    (void)state;
    static const size_t order[] = {0, 1, 2, 3, 4};
    model m = model_of(5, 3 << 20);
    mo_queue queue = {0};
    const mo_queue_desc threads = {.n_threads = 2};
    test_ok(mo_queue_init(&queue, &threads));
    mo_stream_desc desc = desc_of(&m, 0);
    desc.queue = &queue;
    mo_stream a = stream_of(&desc), b = stream_of(&desc);
    for (int i = 0; i < 5; i++) {
        expect(&a, &m, order + i, 1);
        expect(&b, &m, order + i, 1);
    }
    mo_stream_free(&a);
    mo_stream_free(&b);
    mo_queue_free(&queue);
    free(m.bytes);
}

/* ---- what is kept, and what is read ---------------------------------------------------------- */

static uint64_t reads_of(const model *m, const mo_stream_desc *desc, size_t n) {
    mo_stream_layer_view view;
    mo_stream stream = stream_of(desc);
    for (size_t i = 0; i < n; i++) {
        test_ok(mo_stream_next(&stream, &view));
        check_layer(m, &view);
    }
    const uint64_t n_reads = mo_stream_get_stats(&stream).n_reads;
    mo_stream_free(&stream);
    return n_reads;
}

static void a_model_that_fits_is_read_once(void **state) {
    (void)state;
    model m = model_of(6, 128);
    mo_stream_desc desc = desc_of(&m, 6 * 128);
    desc.n_passes = MEMOPT_STREAM_ENDLESS;
    assert_int_equal(reads_of(&m, &desc, 60), 6);
    free(m.bytes);
}

/* Ten layers, room for five, one of them read ahead: three stay for good, and seven are read in a
 * pass. First in, first out would read all ten. */
static void of_a_model_that_does_not_fit_only_the_rest_is_read_again(void **state) {
    (void)state;
    enum { PASSES = 20 };
    model m = model_of(10, 64);
    mo_stream_desc desc = desc_of(&m, 5 * 64);
    desc.n_passes = PASSES;
    desc.depth = 1;
    const uint64_t n_reads = reads_of(&m, &desc, 10 * PASSES);
    assert_in_range(n_reads, 10 + 6 * (PASSES - 1), 10 + 7 * (PASSES - 1));
    free(m.bytes);
}

static void the_last_layers_are_still_there_on_the_way_back(void **state) {
    (void)state;
    model m = model_of(8, 64);
    mo_stream_desc desc = desc_of(&m, 3 * 64);
    desc.direction = MO_STREAM_BOTH;
    desc.depth = 1;
    assert_in_range(reads_of(&m, &desc, 16), 13, 14);
    free(m.bytes);
}

typedef struct counted {
    const unsigned char *bytes;
    atomic_int n_reads, fail_at; /* -1 = none */
} counted;

static mo_status read_counted(void *self, uint64_t offset, void *dst, size_t size) {
    counted *c = self;
    if (atomic_fetch_add(&c->n_reads, 1) == atomic_load(&c->fail_at)) return MO_E_IO;
    memcpy(dst, c->bytes + offset, size);
    return MO_OK;
}

static void count_reads(model *m, counted *c) {
    c->bytes = m->bytes;
    atomic_store(&c->n_reads, 0);
    atomic_store(&c->fail_at, -1);
    for (size_t i = 0; i < m->n_layers; i++)
        for (size_t k = 0; k < m->layers[i].n_tensors; k++)
            m->tensors[i][k].source = (mo_stream_source){read_counted, c, "model.bin"};
}

static void the_next_layers_are_read_while_the_caller_computes(void **state) {
    (void)state;
    model m = model_of(9, 64);
    counted c;
    mo_stream_layer_view view;
    count_reads(&m, &c);
    mo_stream_desc desc = desc_of(&m, 0);
    desc.depth = 3;
    mo_stream stream = stream_of(&desc);
    assert_int_equal(atomic_load(&c.n_reads), 0);
    test_ok(mo_stream_next(&stream, &view));
    for (int i = 0; i < 5000 && atomic_load(&c.n_reads) < 4; i++) usleep(1000);
    assert_int_equal(atomic_load(&c.n_reads), 4);
    check_layer(&m, &view);
    mo_stream_free(&stream);
    free(m.bytes);
}

/* ---- properties ------------------------------------------------------------------------------ */

static model random_model(test_rng *r) {
    model m = {0};
    size_t offset = 0;
    const size_t n_layers = 1 + test_below(r, MAX_LAYERS);
    for (size_t i = 0; i < n_layers; i++) {
        size_t bytes[MAX_TENSORS];
        const size_t n = test_below(r, MAX_TENSORS + 1);
        for (size_t k = 0; k < n; k++) bytes[k] = test_below(r, 1u << test_below(r, 14));
        model_add(&m, &offset, n, bytes);
    }
    model_fill(&m, offset);
    return m;
}

static void any_model_comes_through_any_window(void **state) {
    (void)state;
    test_rng r = test_rng_begin("any_model_comes_through_any_window");
    for (int round = 0; round < 150; round++) {
        size_t order[60], largest = 0, all = 0;
        model m = random_model(&r);
        for (size_t i = 0; i < m.n_layers; i++) {
            largest = m.sizes[i] > largest ? m.sizes[i] : largest;
            all += m.sizes[i];
        }
        mo_stream_desc desc = desc_of(&m, largest + test_below(&r, all + 1));
        desc.order = order, desc.n_order = 1 + test_below(&r, n_elements(order));
        for (size_t i = 0; i < desc.n_order; i++) order[i] = test_below(&r, m.n_layers);
        desc.n_passes = 1 + test_below(&r, 3);
        desc.depth = test_below(&r, 6);
        desc.n_threads = test_below(&r, 4);
        mo_stream stream = stream_of(&desc);
        for (size_t pass = 0; pass < desc.n_passes; pass++)
            expect(&stream, &m, order, desc.n_order);
        expect_end(&stream);
        const mo_stream_stats stats = mo_stream_get_stats(&stream);
        assert_true(desc.limit_bytes == 0 || stats.window_bytes <= desc.limit_bytes);
        assert_true(stats.peak_bytes <= stats.window_bytes);
        assert_true(stats.n_reads <= stats.n_layers + desc.depth);
        mo_stream_free(&stream);
        free(m.bytes);
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

enum { FILE_TENSORS = 12, FILE_BYTES = 5000 };

/* The model that the facts of files read. */
static mo_status write_model(void) {
    static const uint64_t shape[] = {FILE_BYTES};
    char names[FILE_TENSORS][16], data[FILE_BYTES];
    mo_safetensors_entry entries[FILE_TENSORS];
    mo_safetensors_writer w = {0};
    for (int i = 0; i < FILE_TENSORS; i++) {
        snprintf(names[i], sizeof names[i], "t%02d", i);
        entries[i] = (mo_safetensors_entry){names[i], MO_DTYPE_U8, 1, shape, 0, 0};
    }
    mo_status status = mo_safetensors_create(&w, path, entries, FILE_TENSORS, NULL);
    for (int i = 0; i < FILE_TENSORS && status == MO_OK; i++) {
        for (int k = 0; k < FILE_BYTES; k++) data[k] = (char)(i * 7 + k * 3);
        status = mo_safetensors_write(&w, data, sizeof data);
    }
    if (status == MO_OK) status = mo_safetensors_commit(&w);
    mo_safetensors_discard(&w);
    return status;
}

static int begin(void **state) {
    return make_folder(state) == 0 && write_model() == MO_OK ? 0 : -1;
}

typedef struct file_model {
    mo_safetensors st;
    mo_stream_tensor tensors[FILE_TENSORS];
    mo_stream_layer layers[FILE_TENSORS / 2];
    mo_stream_desc desc;
} file_model;

static void open_model(file_model *f, const void *bytes, size_t size) {
    memset(f, 0, sizeof *f);
    if (bytes) test_ok(mo_safetensors_open_memory(&f->st, bytes, size, NULL));
    else test_ok(mo_safetensors_open(&f->st, path, NULL));
    for (size_t i = 0; i < FILE_TENSORS; i++)
        f->tensors[i] = mo_stream_tensor_of(mo_stream_safetensors(&f->st), &f->st.entries[i]);
    for (size_t i = 0; i < FILE_TENSORS / 2; i++)
        f->layers[i] = (mo_stream_layer){&f->tensors[2 * i], 2};
    f->desc = (mo_stream_desc){.layers = f->layers,
        .n_layers = FILE_TENSORS / 2,
        .limit_bytes = 2 * 2 * rounded(FILE_BYTES),
        .n_threads = 2};
}

/* Whatever came right, up to the first status that is not MO_OK. */
static mo_status go_through(mo_stream *stream) {
    mo_stream_layer_view view;
    for (;;) {
        const mo_status status = mo_stream_next(stream, &view);
        if (status != MO_OK || view.is_end) return status;
        for (int i = 0; i < 2; i++) {
            const unsigned char *data = view.data[i];
            const int number = (int)(2 * view.index) + i;
            for (int k = 0; k < FILE_BYTES; k++)
                assert_int_equal(data[k], (unsigned char)(number * 7 + k * 3));
        }
    }
}

static void tensors_of_a_safetensors_file_come_through(void **state) {
    (void)state;
    file_model f;
    open_model(&f, NULL, 0);
    assert_string_equal(f.tensors[3].name, "t03");
    mo_stream stream = stream_of(&f.desc);
    test_ok(go_through(&stream));
    mo_stream_free(&stream);
    mo_safetensors_close(&f.st);
}

static void tensors_of_a_gguf_file_come_through_and_become_floats(void **state) {
    (void)state;
    enum { N = 100 };
    const char *gguf_path = in_folder("model.gguf");
    uint16_t halves[2][N];
    mo_gguf_entry entries[2] = {
        {"a", MO_GGUF_F16, 1, {N, 1, 1, 1}, 0, 0}, {"b", MO_GGUF_F16, 1, {N, 1, 1, 1}, 0, 0}};
    mo_gguf_writer w = {0};
    mo_gguf g = {0};
    for (uint16_t i = 0; i < 2 * N; i++) halves[i / N][i % N] = (uint16_t)(0x3c00 + 3 * i);
    test_ok(mo_gguf_create(&w, gguf_path, entries, 2, NULL));
    for (int i = 0; i < 2; i++) test_ok(mo_gguf_write(&w, halves[i], sizeof halves[i]));
    test_ok(mo_gguf_commit(&w));
    test_ok(mo_gguf_open(&g, gguf_path, NULL));
    mo_stream_tensor tensors[2];
    mo_stream_layer layers[2];
    for (int i = 0; i < 2; i++) {
        tensors[i] = mo_stream_gguf_tensor(mo_stream_gguf(&g), &g.entries[i]);
        layers[i] = (mo_stream_layer){&tensors[i], 1};
    }
    tensors[1].decode = MO_STREAM_F16;
    mo_stream_desc desc = {.layers = layers, .n_layers = 2};
    mo_stream stream = stream_of(&desc);
    mo_stream_layer_view view;
    float want[N];
    test_ok(mo_stream_next(&stream, &view));
    assert_memory_equal(view.data[0], halves[0], sizeof halves[0]);
    test_ok(mo_stream_next(&stream, &view));
    mo_f16_to_f32(halves[1], want, N, NULL);
    assert_memory_equal(view.data[0], want, sizeof want);
    mo_stream_free(&stream);
    tensors[1].offset = g.data_size; /* outside the file */
    stream = stream_of(&desc);
    test_ok(mo_stream_next(&stream, &view));
    assert_int_equal(mo_stream_next(&stream, &view), MO_E_INVALID);
    mo_stream_free(&stream);
    mo_gguf_close(&g);
    assert_int_equal(remove(gguf_path), 0);
}

static void a_safetensors_file_in_memory_comes_through(void **state) {
    (void)state;
    file_model f;
    static char bytes[FILE_TENSORS * FILE_BYTES + 4096];
    const size_t size = load_file(path, bytes, sizeof bytes);
    open_model(&f, bytes, size);
    mo_stream stream = stream_of(&f.desc);
    test_ok(go_through(&stream));
    mo_stream_free(&stream);
    mo_safetensors_close(&f.st);
}

/* ---- failures -------------------------------------------------------------------------------- */

static void a_source_that_fails_is_a_status_and_can_be_read_again(void **state) {
    (void)state;
    static const size_t order[] = {0, 1, 2, 3, 4, 5};
    for (size_t n_threads = 1; n_threads <= 2; n_threads++)
        for (int k = 0; k < 6; k++) {
            model m = model_of(6, 100);
            counted c;
            test_log logged;
            mo_stream_layer_view view;
            size_t done = 0;
            count_reads(&m, &c);
            atomic_store(&c.fail_at, k);
            mo_stream_desc desc = desc_of(&m, 256);
            desc.log = test_log_begin(&logged);
            desc.n_threads = n_threads;
            mo_stream stream = stream_of(&desc);
            while (mo_stream_next(&stream, &view) == MO_OK) {
                assert_int_equal(view.index, order[done]);
                check_layer(&m, &view);
                done++;
            }
            assert_int_equal(logged.n, 1);
            assert_non_null(strstr(logged.text, "model.bin: tensor ''"));
            assert_non_null(strstr(logged.text, mo_status_text(MO_E_IO)));
            assert_true(done < 6);
            expect(&stream, &m, order + done, 6 - done);
            expect_end(&stream);
            mo_stream_free(&stream);
            free(m.bytes);
        }
}

static void a_stream_can_be_freed_while_it_reads(void **state) {
    (void)state;
    model m = model_of(8, 1 << 20);
    mo_stream_layer_view view;
    for (int i = 0; i < 8; i++) {
        mo_stream_desc desc = desc_of(&m, 0);
        mo_stream stream = stream_of(&desc);
        for (int k = 0; k < i; k++) test_ok(mo_stream_next(&stream, &view));
        mo_stream_free(&stream);
        assert_null(stream.impl);
        mo_stream_free(&stream);
    }
    mo_stream_free(NULL);
    free(m.bytes);
}

static void every_read_of_a_file_may_fail(void **state) {
    (void)state;
    for (int mode = FAIL; mode <= SHORTEN; mode++)
        for (int k = 0;; k++) {
            file_model f;
            open_model(&f, NULL, 0);
            io_arm(mode, EIO, k);
            mo_stream stream = stream_of(&f.desc);
            const mo_status status = go_through(&stream);
            const int hit = io.hit;
            assert_int_equal(status, hit && mode == FAIL ? MO_E_IO : MO_OK);
            test_ok(go_through(&stream));
            io.armed = 0;
            mo_stream_free(&stream);
            mo_safetensors_close(&f.st);
            if (!hit) {
                assert_true(k >= FILE_TENSORS);
                break;
            }
            assert_true(k < 100);
        }
}

static void a_file_that_was_cut_short_ends_in_a_status(void **state) {
    (void)state;
    file_model f;
    test_log logged;
    open_model(&f, NULL, 0);
    f.desc.log = test_log_begin(&logged);
    mo_stream stream = stream_of(&f.desc);
    assert_int_equal(truncate(path, (off_t)f.st.data_off + 6 * FILE_BYTES - 1), 0);
    assert_int_equal(go_through(&stream), MO_E_IO);
    assert_non_null(strstr(logged.text, path));
    assert_non_null(strstr(logged.text, "'t05'"));
    mo_stream_free(&stream);
    mo_safetensors_close(&f.st);
    test_ok(write_model());
}

static void nonsense_is_refused(void **state) {
    (void)state;
    static const size_t outside[] = {0, 3};
    test_log logged;
    model m = model_of(3, 101);
    mo_stream stream = {0};
    mo_stream_desc good = desc_of(&m, 0), bad;
    assert_int_equal(mo_stream_init(NULL, &good), MO_E_INVALID);
    assert_int_equal(mo_stream_init(&stream, NULL), MO_E_INVALID);
    bad = good, bad.layers = NULL;
    assert_int_equal(mo_stream_init(&stream, &bad), MO_E_INVALID);
    bad = good, bad.n_layers = 0;
    assert_int_equal(mo_stream_init(&stream, &bad), MO_E_INVALID);
    bad = good, bad.order = outside, bad.n_order = 2;
    assert_int_equal(mo_stream_init(&stream, &bad), MO_E_INVALID);
    bad = good, bad.order = outside;
    assert_int_equal(mo_stream_init(&stream, &bad), MO_E_INVALID);
    bad = good, bad.direction = (mo_stream_direction)3;
    assert_int_equal(mo_stream_init(&stream, &bad), MO_E_INVALID);
    bad = good, bad.n_threads = 1000;
    assert_int_equal(mo_stream_init(&stream, &bad), MO_E_INVALID);
    m.tensors[1][0].decode = MO_STREAM_F16; /* 101 bytes */
    assert_int_equal(mo_stream_init(&stream, &good), MO_E_INVALID);
    m.tensors[1][0].decode = MO_STREAM_DECODE_COUNT;
    assert_int_equal(mo_stream_init(&stream, &good), MO_E_INVALID);
    m.tensors[1][0].decode = MO_STREAM_F8_E4M3;
    m.tensors[1][0].bytes = SIZE_MAX / 2;
    assert_int_equal(mo_stream_init(&stream, &good), MO_E_OVERFLOW);
    m.tensors[1][0].bytes = 101;
    m.tensors[1][0].offset = UINT64_MAX - 50;
    assert_int_equal(mo_stream_init(&stream, &good), MO_E_OVERFLOW);
    m.tensors[1][0].offset = 0;
    m.tensors[1][0].source.read = NULL;
    assert_int_equal(mo_stream_init(&stream, &good), MO_E_INVALID);
    m.tensors[1][0].source = m.tensors[0][0].source;
    bad = good, bad.limit_bytes = 447, bad.log = test_log_begin(&logged);
    assert_int_equal(mo_stream_init(&stream, &bad), MO_E_NO_SPACE);
    assert_string_equal(logged.text, "stream: layer 1 takes 448 bytes, but limit_bytes is 447");
    assert_null(stream.impl);
    free(m.bytes);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    static const size_t order[] = {0, 1, 2};
    model m = model_of(3, 100);
    mo_status status = MO_E_NO_MEMORY;
    for (int k = 0; status != MO_OK; k++) {
        test_heap heap;
        mo_stream stream = {0};
        mo_stream_desc desc = desc_of(&m, 256);
        desc.allocator = test_heap_begin(&heap, k);
        status = mo_stream_init(&stream, &desc);
        if (status == MO_OK) expect(&stream, &m, order, 3);
        else {
            assert_int_equal(status, MO_E_NO_MEMORY);
            assert_null(stream.impl);
        }
        mo_stream_free(&stream);
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(heap.live_bytes, 0);
        assert_true(k < 20);
    }
    free(m.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_come_forward_backward_or_both_ways),
        cmocka_unit_test(any_order_is_gone_through_as_often_as_asked),
        cmocka_unit_test(a_restart_begins_with_what_is_there),
        cmocka_unit_test(a_window_of_one_layer_is_enough),
        cmocka_unit_test(by_default_the_window_holds_one_layer_and_those_ahead),
        cmocka_unit_test(numbers_become_floats_as_mo_half_decode_makes_them),
        cmocka_unit_test(empty_layers_and_tensors_are_layers_and_tensors),
        cmocka_unit_test(threads_of_a_queue_can_be_shared),
        cmocka_unit_test(a_model_that_fits_is_read_once),
        cmocka_unit_test(of_a_model_that_does_not_fit_only_the_rest_is_read_again),
        cmocka_unit_test(the_last_layers_are_still_there_on_the_way_back),
        cmocka_unit_test(the_next_layers_are_read_while_the_caller_computes),
        cmocka_unit_test(any_model_comes_through_any_window),
        cmocka_unit_test(tensors_of_a_safetensors_file_come_through),
        cmocka_unit_test(tensors_of_a_gguf_file_come_through_and_become_floats),
        cmocka_unit_test(a_safetensors_file_in_memory_comes_through),
        cmocka_unit_test(a_source_that_fails_is_a_status_and_can_be_read_again),
        cmocka_unit_test(a_stream_can_be_freed_while_it_reads),
        cmocka_unit_test(every_read_of_a_file_may_fail),
        cmocka_unit_test(a_file_that_was_cut_short_ends_in_a_status),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("stream", tests, begin, NULL) + remove_folder();
}
