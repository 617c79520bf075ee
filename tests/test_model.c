/* test_model.c - mo_model: sizes of models that everybody knows, and sizes that cannot be. */
#include "test_util.h"

static mo_model complete(mo_model m) {
    test_ok(mo_model_complete(&m, NULL));
    return m;
}

static mo_model gpt2(void) {
    mo_model m;
    memset(&m, 0, sizeof m);
    m.layers = 12, m.channels = 768, m.heads = 12, m.positions = 1024, m.vocab = 50257;
    return m;
}

static mo_model llama(size_t layers, size_t channels, size_t heads, size_t hidden) {
    mo_model m;
    memset(&m, 0, sizeof m);
    m.arch = MO_MODEL_LLAMA;
    m.layers = layers, m.channels = channels, m.heads = heads, m.hidden = hidden;
    m.vocab = 32000, m.untied_head = 1;
    return m;
}

static void published_models_have_their_published_counts(void **state) {
    (void)state;
    mo_model m = complete(gpt2());
    assert_int_equal(mo_model_count(&m), 124439808);
    m = complete(llama(32, 4096, 32, 11008));
    assert_int_equal(mo_model_count(&m), 6738415616u);
    m = complete(llama(40, 5120, 40, 13824));
    assert_int_equal(mo_model_count(&m), 13015864320u);
    m = llama(80, 8192, 64, 28672);
    m.kv_heads = 8;
    m = complete(m);
    assert_int_equal(mo_model_count(&m), 68976648192u);
}

static void zero_is_the_default(void **state) {
    (void)state;
    mo_model m = complete(gpt2());
    assert_int_equal(m.hidden, 3072);
    assert_int_equal(m.kv_heads, 12);
    assert_int_equal(m.head_size, 64);
    assert_int_equal(m.share, 1);
    m = complete(llama(2, 384, 6, 0));
    assert_int_equal(m.hidden, 1024);
}

static void a_shared_block_counts_once(void **state) {
    (void)state;
    mo_model m = gpt2();
    const mo_model all = complete(m);
    m.share = 4;
    m = complete(m);
    const uint64_t front = 51281u * 768 + 2 * 768, blocks = mo_model_count(&all) - front;
    assert_int_equal(mo_model_count(&m), front + blocks / 4);
}

static void refused(mo_model m, const char *want) {
    test_log heard;
    const mo_log log = test_log_begin(&heard);
    const mo_model before = m;
    assert_int_equal(mo_model_complete(&m, &log), MO_E_INVALID);
    assert_memory_equal(&m, &before, sizeof m);
    assert_string_equal(heard.text, want);
}

static void sizes_that_cannot_be_are_refused_by_name(void **state) {
    (void)state;
    mo_model m = gpt2();
    m.layers = 0;
    refused(m, "model: layers is 0");
    m = gpt2(), m.positions = 0;
    refused(m, "model: positions is 0");
    m = gpt2(), m.heads = 7;
    refused(m, "model: heads of 7 do not divide channels of 768");
    m = gpt2(), m.kv_heads = 5;
    refused(m, "model: kv_heads of 5 do not divide heads of 12");
    m = gpt2(), m.share = 5;
    refused(m, "model: share of 5 do not divide layers of 12");
    m = llama(2, 66, 6, 0);
    refused(m, "model: head_size, which rotary positions need to be even, is 11");
    assert_int_equal(mo_model_complete(NULL, NULL), MO_E_INVALID);
    assert_int_equal(mo_model_count(NULL), 0);
}

static void a_count_that_does_not_fit_is_0(void **state) {
    (void)state;
    mo_model m = gpt2();
    m.channels = (size_t)1 << 36, m.heads = 1;
    m = complete(m);
    assert_int_equal(mo_model_count(&m), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_models_have_their_published_counts),
        cmocka_unit_test(zero_is_the_default),
        cmocka_unit_test(a_shared_block_counts_once),
        cmocka_unit_test(sizes_that_cannot_be_are_refused_by_name),
        cmocka_unit_test(a_count_that_does_not_fit_is_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
