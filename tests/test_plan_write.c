/* test_plan_write.c - a plan as text, JSON and picture. */
#include "test_util.h"

typedef struct text_buffer {
    char text[65536];
    size_t size, limit;
} text_buffer;

static int text_write(void *self, const char *text, size_t size) {
    text_buffer *b = (text_buffer *)self;
    if (b->size + size > b->limit) return 1;
    memcpy(b->text + b->size, text, size);
    b->text[b->size += size] = 0;
    return 0;
}

/* A block of input and output 64, saved 256, cheap 128, and a loss with a workspace of 512. */
static mo_plan *make_plan(const mo_remat_op *ops, size_t n_ops, const char *name) {
    static const mo_stage_tensor block[] = {
        {"saved", 256, MO_TENSOR_SAVED, MO_CATEGORY_OTHER, 0, 0, 0, 0},
        {"cheap", 128, MO_TENSOR_CHEAP, MO_CATEGORY_OTHER, 0, 0, 0, 0}};
    static const mo_stage_tensor loss[] = {
        {"logits", 512, MO_TENSOR_FORWARD, MO_CATEGORY_OTHER, 0, 0, 0, 0}};
    static const mo_plan_fixed fixed[] = {{"weights", 128, MO_CATEGORY_PARAM}};
    mo_stage stages[2];
    mo_chain chain = {0, stages, 2};
    mo_plan_desc desc = {0};
    mo_plan *plan;
    memset(stages, 0, sizeof stages);
    stages[0].name = name;
    stages[0].output_size = 64;
    stages[0].tensors = block;
    stages[0].n_tensors = n_elements(block);
    stages[0].forward_s = stages[0].backward_s = 1;
    stages[0].light_s = 0.25;
    stages[1].name = "loss";
    stages[1].tensors = loss;
    stages[1].n_tensors = n_elements(loss);
    desc.chain = &chain;
    desc.remat.policy = MO_REMAT_BLOCK;
    desc.ops = ops;
    desc.n_ops = n_ops;
    desc.fixed = fixed;
    desc.n_fixed = 1;
    test_ok(mo_plan_create(&plan, &desc));
    return plan;
}

static const mo_remat_op moving[] = {{MO_STEP_FORWARD, 0, 1, 1}, {MO_STEP_OFFLOAD, 0, 1, 1},
    {MO_STEP_OFFLOAD_WAIT, 0, 1, 1}, {MO_STEP_LOSS, 1, 0, 0}, {MO_STEP_PREFETCH, 0, 1, 1},
    {MO_STEP_PREFETCH_WAIT, 0, 1, 1}, {MO_STEP_BACKWARD, 0, 0, 1}};

static mo_status write_svg(const mo_plan *plan, const mo_writer *writer) {
    return mo_plan_write_svg(plan, NULL, writer);
}

typedef mo_status write_function(const mo_plan *plan, const mo_writer *writer);
static write_function *const writers[] = {mo_plan_write_text, mo_plan_write_json, write_svg};

/* ---- what is written ----------------------------------------------------------------------- */

static const char *written(mo_plan *plan, write_function *write) {
    static text_buffer buffer;
    buffer.size = 0;
    buffer.limit = sizeof buffer.text - 1;
    mo_writer writer = {text_write, &buffer};
    test_ok(write(plan, &writer));
    mo_plan_destroy(plan);
    return buffer.text;
}

static void text_shows_steps_and_addresses(void **state) {
    (void)state;
    assert_string_equal(written(make_plan(NULL, 0, "block"), mo_plan_write_text),
        "plan: peak 768 (proved, bound 768), fixed 128, live 768, gap 0 bytes\n"
        "  param               128\n"
        "  activation          128\n"
        "  workspace           512\n"
        "cost 3.25, ideal 2; 4 steps, peak at step 1\n"
        "             0          128 param      weights\n"
        "step 0: forward 0 block\n"
        "           640           64 activation block.output until step 1\n"
        "           128          256 activation block.saved until step 0\n"
        "           384          128 activation block.cheap until step 0\n"
        "step 1: loss 1 loss\n"
        "           704           64 activation block.output_grad until step 3\n"
        "           128          512 workspace  loss.logits until step 1\n"
        "step 2: recompute 0 block save light\n"
        "           128          256 activation block.saved until step 3\n"
        "           384          128 activation block.cheap until step 2\n"
        "step 3: backward 0 block light\n"
        "           384          128 activation block.cheap until step 3\n");
}

static void text_shows_what_moves(void **state) {
    (void)state;
    const char *text = written(make_plan(moving, n_elements(moving), "block"), mo_plan_write_text);
    assert_non_null(strstr(text, "store 256 bytes, 256 out, 256 in\n"));
    assert_non_null(strstr(text,
        "step 1: offload 0 block saved light\n"
        "           128          256 to store 0\n"
        "step 2: offload_wait 0 block saved light\n"
        "step 3: loss 1 loss\n"));
    assert_non_null(strstr(text,
        "step 4: prefetch 0 block saved light\n"
        "           128          256 activation block.saved until step 6\n"
        "           128          256 from store 0\n"));
}

static void text_shows_the_codes_of_compressed_tensors(void **state) {
    (void)state;
    static const mo_stage_tensor tensors[] = {
        {"wide", 256, MO_TENSOR_WIDE, MO_CATEGORY_OTHER, 0, 0, 0, 0},
        {"codes", 64, MO_TENSOR_CODES, MO_CATEGORY_OTHER, 0, 0, 0, 0}};
    mo_stage stages[2];
    const mo_chain chain = {0, stages, 2};
    mo_plan_desc desc = {0};
    mo_plan *plan;
    memset(stages, 0, sizeof stages);
    stages[0].name = "block";
    stages[0].tensors = tensors;
    stages[0].n_tensors = 2;
    desc.chain = &chain;
    desc.remat.compress = 1;
    test_ok(mo_plan_create(&plan, &desc));
    assert_non_null(strstr(written(plan, mo_plan_write_text),
        "step 0: forward 0 block save compressed\n"
        "             0          256 activation block.wide until step 0\n"
        "           256           64 activation block.codes until step 2\n"
        "step 1: loss 1 stage\n"
        "step 2: backward 0 block compressed\n"
        "             0          256 activation block.wide until step 2\n"));
}

static void a_long_name_is_written_whole(void **state) {
    (void)state;
    char name[1500];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    for (size_t i = 0; i < 2; i++)
        assert_non_null(strstr(written(make_plan(NULL, 0, name), writers[i]), name));
}

static void json_holds_the_whole_plan(void **state) {
    (void)state;
    assert_string_equal(
        written(make_plan(moving, n_elements(moving), "b\"\\\n"), mo_plan_write_json),
        "{\"peak_bytes\":768,\"fixed_bytes\":128,\"lower_bound\":768,\"live_bytes\":768,"
        "\"gap_bytes\":0,\"store_bytes\":256,\"out_bytes\":256,\"in_bytes\":256,\"align\":64,"
        "\"proved\":true,\"cost_s\":2.25,\"ideal_s\":2,\"peak_step\":3,"
        "\"bytes\":{\"other\":0,\"param\":128,\"grad\":0,\"optimizer\":0,\"activation\":128,"
        "\"workspace\":512,\"input\":0},"
        "\"fixed\":[{\"name\":\"weights\",\"category\":\"param\",\"offset\":0,\"size\":128}],"
        "\"steps\":["
        "{\"op\":\"forward\",\"stage\":0,\"name\":\"b\\\"\\\\?\",\"save\":true,\"light\":true,"
        "\"compressed\":false,"
        "\"first\":0,\"last\":0,\"copies\":[]},"
        "{\"op\":\"offload\",\"stage\":0,\"name\":\"b\\\"\\\\?\",\"save\":true,\"light\":true,"
        "\"compressed\":false,"
        "\"first\":1,\"last\":1,\"copies\":[{\"offset\":128,\"size\":256,\"store_offset\":0}]},"
        "{\"op\":\"offload_wait\",\"stage\":0,\"name\":\"b\\\"\\\\?\",\"save\":true,\"light\":true,"
        "\"compressed\":false,"
        "\"first\":2,\"last\":2,\"copies\":[{\"offset\":128,\"size\":256,\"store_offset\":0}]},"
        "{\"op\":\"loss\",\"stage\":1,\"name\":\"loss\",\"save\":false,\"light\":false,"
        "\"compressed\":false,"
        "\"first\":3,\"last\":3,\"copies\":[]},"
        "{\"op\":\"prefetch\",\"stage\":0,\"name\":\"b\\\"\\\\?\",\"save\":true,\"light\":true,"
        "\"compressed\":false,"
        "\"first\":4,\"last\":4,\"copies\":[{\"offset\":128,\"size\":256,\"store_offset\":0}]},"
        "{\"op\":\"prefetch_wait\",\"stage\":0,\"name\":\"b\\\"\\\\?\",\"save\":true,\"light\":"
        "true,\"compressed\":false,"
        "\"first\":5,\"last\":5,\"copies\":[{\"offset\":128,\"size\":256,\"store_offset\":0}]},"
        "{\"op\":\"backward\",\"stage\":0,\"name\":\"b\\\"\\\\?\",\"save\":false,\"light\":true,"
        "\"compressed\":false,"
        "\"first\":6,\"last\":6,\"copies\":[]}"
        "],\"tensors\":["
        "{\"name\":\"b\\\"\\\\?.output\",\"category\":\"activation\",\"offset\":640,\"size\":64,"
        "\"first\":0,\"last\":3,\"first_step\":0,\"last_step\":3},"
        "{\"name\":\"b\\\"\\\\?.saved\",\"category\":\"activation\",\"offset\":128,\"size\":256,"
        "\"first\":0,\"last\":2,\"first_step\":0,\"last_step\":2},"
        "{\"name\":\"b\\\"\\\\?.cheap\",\"category\":\"activation\",\"offset\":384,\"size\":128,"
        "\"first\":0,\"last\":0,\"first_step\":0,\"last_step\":0},"
        "{\"name\":\"b\\\"\\\\?.output_grad\",\"category\":\"activation\",\"offset\":704,\"size\":"
        "64,"
        "\"first\":3,\"last\":6,\"first_step\":3,\"last_step\":6},"
        "{\"name\":\"loss.logits\",\"category\":\"workspace\",\"offset\":128,\"size\":512,"
        "\"first\":3,\"last\":3,\"first_step\":3,\"last_step\":3},"
        "{\"name\":\"b\\\"\\\\?.saved\",\"category\":\"activation\",\"offset\":128,\"size\":256,"
        "\"first\":4,\"last\":6,\"first_step\":4,\"last_step\":6},"
        "{\"name\":\"b\\\"\\\\?.cheap\",\"category\":\"activation\",\"offset\":384,\"size\":128,"
        "\"first\":6,\"last\":6,\"first_step\":6,\"last_step\":6}"
        "]}\n");
}

static void json_costs_that_are_no_numbers_are_null(void **state) {
    (void)state;
    mo_stage stage = {0};
    mo_chain chain = {0, &stage, 1};
    mo_plan_desc desc = {0};
    mo_plan *plan;
    stage.forward_s = 1e300 * 1e300;
    desc.chain = &chain;
    test_ok(mo_plan_create(&plan, &desc));
    assert_non_null(strstr(written(plan, mo_plan_write_json), "\"cost_s\":null,\"ideal_s\":null,"));
}

static void svg_names_tensors_and_steps(void **state) {
    (void)state;
    const char *svg = written(make_plan(moving, n_elements(moving), "a<b"), write_svg);
    assert_memory_equal(svg, "<svg", 4);
    assert_non_null(strstr(svg, ">Plan<"));
    assert_non_null(strstr(svg, "a&#60;b.saved"));
    assert_non_null(strstr(svg, "weights"));
    assert_non_null(strstr(svg, ">backward<"));
    assert_non_null(strstr(svg, "</svg>"));
}

/* ---- errors -------------------------------------------------------------------------------- */

static void a_writer_that_refuses_is_reported(void **state) {
    (void)state;
    static text_buffer buffer;
    mo_writer writer = {text_write, &buffer};
    mo_plan *plan = make_plan(moving, n_elements(moving), "block");
    for (size_t i = 0; i < n_elements(writers); i++) {
        buffer.size = 0;
        buffer.limit = sizeof buffer.text - 1;
        test_ok(writers[i](plan, &writer));
        const size_t size = buffer.size;
        for (size_t limit = 0; limit < size; limit += 40) {
            buffer.size = 0;
            buffer.limit = limit;
            assert_int_equal(writers[i](plan, &writer), MO_E_IO);
        }
        assert_int_equal(writers[i](plan, NULL), MO_E_INVALID);
        assert_int_equal(writers[i](NULL, &writer), MO_E_INVALID);
    }
    mo_plan_destroy(plan);
}

static void any_failed_allocation_of_the_picture_is_reported(void **state) {
    (void)state;
    static text_buffer buffer;
    mo_writer writer = {text_write, &buffer};
    test_heap heap;
    mo_allocator allocator = test_heap_begin(&heap, -1);
    mo_stage stage = {0};
    mo_chain chain = {64, &stage, 1};
    mo_plan_desc desc = {0};
    mo_plan *plan;
    mo_status status = MO_E_NO_MEMORY;
    desc.chain = &chain;
    desc.allocator = &allocator;
    test_ok(mo_plan_create(&plan, &desc));
    const size_t n_live = heap.live_blocks;
    buffer.limit = sizeof buffer.text - 1;
    for (int k = 0; status != MO_OK; k++) {
        const int before = heap.n_requests;
        heap.fail_at = before + k;
        buffer.size = 0;
        status = mo_plan_write_svg(plan, "title", &writer);
        assert_int_equal(status, heap.n_requests > before + k ? MO_E_NO_MEMORY : MO_OK);
        assert_int_equal(heap.live_blocks, n_live);
    }
    assert_non_null(strstr(buffer.text, ">title<"));
    mo_plan_destroy(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_shows_steps_and_addresses),
        cmocka_unit_test(text_shows_what_moves),
        cmocka_unit_test(text_shows_the_codes_of_compressed_tensors),
        cmocka_unit_test(a_long_name_is_written_whole),
        cmocka_unit_test(json_holds_the_whole_plan),
        cmocka_unit_test(json_costs_that_are_no_numbers_are_null),
        cmocka_unit_test(svg_names_tensors_and_steps),
        cmocka_unit_test(a_writer_that_refuses_is_reported),
        cmocka_unit_test(any_failed_allocation_of_the_picture_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
