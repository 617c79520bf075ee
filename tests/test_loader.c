// LDFLAGS: -Wl,--wrap=pread,--wrap=pread64
/* test_loader.c - mo_loader */
#include "test_io.h"

#include <math.h>

#include "test_tokens.h"

/* ---- texts ----------------------------------------------------------------------------------- */

enum { MAX_TOKENS = 4000 };
static test_log logged;

/* Files of 0, 1, 2, ...: every token is its own number. */
static mo_tokens tokens_of(const size_t *counts, size_t n_files) {
    uint32_t next = 0;
    for (size_t i = 0; i < n_files; next += (uint32_t)counts[i++])
        write_tokens(i, 20240520, 1, (int)counts[i], counts[i], next);
    mo_tokens t = {0};
    const mo_tokens_desc desc = {.paths = path_list, .n_paths = n_files};
    test_ok(mo_tokens_open(&t, &desc));
    return t;
}

static mo_loader loader_of(const mo_loader_desc *desc) {
    mo_loader loader = {0};
    test_ok(mo_loader_init(&loader, desc));
    return loader;
}

/* Takes the next batch, checks its sequences, and gives their first tokens. */
static uint64_t take(mo_loader *loader, const mo_loader_desc *desc, int32_t *firsts) {
    mo_loader_batch batch = {0};
    test_ok(mo_loader_next(loader, &batch));
    assert_ptr_equal(batch.targets, batch.inputs + desc->batch * desc->seq);
    assert_int_equal((uintptr_t)batch.inputs % 64, 0);
    for (size_t b = 0; b < desc->batch; b++) {
        const int32_t *inputs = batch.inputs + b * desc->seq;
        const int32_t *targets = batch.targets + b * desc->seq;
        for (size_t i = 0; i < desc->seq; i++) {
            assert_int_equal(inputs[i], inputs[0] + (int32_t)i);
            assert_int_equal(targets[i], inputs[i] + 1);
        }
        firsts[b] = inputs[0];
    }
    return batch.epoch;
}

static void expect(mo_loader *loader, const mo_loader_desc *desc, const int32_t *want, size_t n) {
    int32_t firsts[64];
    for (size_t i = 0; i < n; i++) {
        (void)take(loader, desc, firsts);
        for (size_t b = 0; b < desc->batch; b++)
            assert_int_equal(firsts[b], want[i * desc->batch + b]);
    }
}

/* ---- examples -------------------------------------------------------------------------------- */

/* 47 tokens: 11 sequences of 4 and their target, 5 batches of 2, and one sequence left out. */
static void batches_come_in_the_order_of_the_text(void **state) {
    (void)state;
    static const size_t count = 47;
    static const int32_t want[] = {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 0, 4, 8, 12};
    mo_tokens t = tokens_of(&count, 1);
    const mo_loader_desc desc = {.tokens = &t, .batch = 2, .seq = 4};
    mo_loader loader = loader_of(&desc);
    expect(&loader, &desc, want, 7);
    const mo_loader_stats stats = mo_loader_get_stats(&loader);
    assert_int_equal(stats.n_sequences, 11);
    assert_int_equal(stats.epoch_batches, 5);
    assert_int_equal(stats.n_batches, 7);
    mo_loader_free(&loader);
    assert_null(loader.impl);
    mo_loader_free(&loader);
    mo_loader_free(NULL);
    mo_tokens_close(&t);
}

/* One update takes two batches; the fifth batch has no second one. */
static void a_group_does_not_reach_over_the_end(void **state) {
    (void)state;
    static const size_t count = 47;
    static const int32_t want[] = {0, 4, 8, 12, 16, 20, 24, 28, 0, 4};
    mo_tokens t = tokens_of(&count, 1);
    const mo_loader_desc desc = {.tokens = &t, .batch = 2, .seq = 4, .group = 2};
    mo_loader loader = loader_of(&desc);
    expect(&loader, &desc, want, 5);
    mo_loader_free(&loader);
    mo_tokens_close(&t);
}

static void with_carry_an_epoch_goes_on_into_the_next(void **state) {
    (void)state;
    static const size_t count = 13; /* three sequences */
    static const int32_t want[] = {0, 4, 8, 0, 4, 8, 0, 4};
    mo_tokens t = tokens_of(&count, 1);
    const mo_loader_desc desc = {.tokens = &t, .batch = 2, .seq = 4, .carry = 1};
    mo_loader loader = loader_of(&desc);
    expect(&loader, &desc, want, 4);
    mo_loader_free(&loader);
    mo_tokens_close(&t);
}

static void sequences_reach_over_files_unless_they_are_apart(void **state) {
    (void)state;
    static const size_t counts[] = {10, 0, 3, 9};
    static const int32_t together[] = {0, 4, 8, 12, 16}, apart[] = {0, 4, 13, 17, 0};
    mo_tokens t = tokens_of(counts, 4);
    mo_loader_desc desc = {.tokens = &t, .batch = 1, .seq = 4};
    mo_loader loader = loader_of(&desc);
    expect(&loader, &desc, together, 5);
    mo_loader_free(&loader);
    desc.apart = 1;
    loader = loader_of(&desc);
    expect(&loader, &desc, apart, 5);
    mo_loader_free(&loader);
    mo_tokens_close(&t);
}

static void ranks_take_batches_in_turn(void **state) {
    (void)state;
    static const size_t count = 8 * 4 + 1;
    static const int32_t first[] = {0, 4, 16, 20, 0, 4}, second[] = {8, 12, 24, 28, 8, 12};
    mo_tokens t = tokens_of(&count, 1);
    mo_loader_desc desc = {.tokens = &t, .batch = 2, .seq = 4, .n_ranks = 2};
    mo_loader loader = loader_of(&desc);
    expect(&loader, &desc, first, 3);
    mo_loader_free(&loader);
    desc.rank = 1;
    loader = loader_of(&desc);
    expect(&loader, &desc, second, 3);
    mo_loader_free(&loader);
    mo_tokens_close(&t);
}

static void a_position_between_sequences_is_rounded_up(void **state) {
    (void)state;
    static const size_t count = 41;
    static const int32_t want[] = {8, 12}, begin[] = {0};
    mo_tokens t = tokens_of(&count, 1);
    const mo_loader_desc desc = {.tokens = &t, .batch = 1, .seq = 4};
    mo_loader loader = loader_of(&desc);
    mo_loader_state at = {.position = 5};
    mo_loader_set_state(&loader, &at);
    expect(&loader, &desc, want, 2);
    at.position = UINT64_MAX; /* beyond the text */
    mo_loader_set_state(&loader, &at);
    assert_int_equal(mo_loader_get_state(&loader).epoch, 1);
    expect(&loader, &desc, begin, 1);
    mo_loader_free(&loader);
    mo_tokens_close(&t);
}

static void batches_lie_in_the_memory_that_was_given_for_them(void **state) {
    (void)state;
    static const size_t count = 41;
    test_heap pinned;
    mo_tokens t = tokens_of(&count, 1);
    const mo_loader_desc desc = {
        .tokens = &t, .batch = 2, .seq = 4, .depth = 3, .memory = test_heap_begin(&pinned, -1)};
    mo_loader loader = loader_of(&desc);
    assert_int_equal(pinned.live_blocks, 4);
    assert_int_equal(pinned.live_bytes, 4 * 2 * 2 * 4 * sizeof(int32_t));
    mo_loader_free(&loader);
    assert_int_equal(pinned.live_blocks, 0);
    mo_tokens_close(&t);
}

static void a_state_is_a_text_and_back(void **state) {
    (void)state;
    const mo_loader_state at = {2, 30720, UINT64_MAX, 1};
    mo_loader_state back = {0};
    char text[100];
    test_ok(mo_loader_format(&at, text, sizeof text));
    assert_string_equal(text, "epoch=2 position=30720 seed=18446744073709551615 shuffle=1");
    test_ok(mo_loader_parse(text, &back));
    assert_int_equal(back.epoch, 2);
    assert_int_equal(back.position, 30720);
    assert_true(back.seed == UINT64_MAX);
    assert_int_equal(back.shuffle, 1);
    assert_int_equal(mo_loader_format(&at, text, strlen(text)), MO_E_NO_SPACE);
    test_ok(mo_loader_format(&at, text, strlen(text) + 1));
}

static void other_texts_are_no_state(void **state) {
    (void)state;
    static const char *const bad[] = {"", "epoch=1", "epoch=1 position=2 seed=3 shuffle=2",
        "epoch=1 position=2 seed=3 shuffle=1 ", " epoch=1 position=2 seed=3 shuffle=1",
        "epoch=-1 position=2 seed=3 shuffle=1", "epoch=01 position=2 seed=3 shuffle=1",
        "epoch=1 position=18446744073709551616 seed=3 shuffle=1",
        "epoch=1  position=2 seed=3 shuffle=1",
        "epoch=1 position=2 seed=3 shuffle=1............................................"
        "......................."};
    mo_loader_state s = {7, 7, 7, 7};
    for (size_t i = 0; i < n_elements(bad); i++)
        assert_int_equal(mo_loader_parse(bad[i], &s), MO_E_FORMAT);
    assert_int_equal(mo_loader_parse(NULL, &s), MO_E_INVALID);
    assert_int_equal(s.epoch, 7);
}

/* ---- properties ------------------------------------------------------------------------------ */

/* The formula of the manual page once more. */
static uint32_t mix(uint32_t h) {
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    return h ^ h >> 16;
}
static uint64_t permuted(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t x) {
    const uint32_t key = mix((uint32_t)seed + mix((uint32_t)(seed >> 32) + mix((uint32_t)epoch)));
    int bits = 0;
    while (bits < 64 && (n - 1) >> bits) bits += 2;
    const uint64_t side = (uint64_t)1 << bits / 2;
    do {
        uint64_t l = x / side, r = x % side;
        for (uint32_t k = 1; k <= 8; k++) {
            const uint64_t t = l ^ mix((uint32_t)r ^ mix(key + 0x9e3779b9u * k)) % side;
            l = r, r = t;
        }
        x = l * side + r;
    } while (x >= n);
    return x;
}

static void an_order_has_each_number_once(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 2, 3, 4, 5, 15, 16, 17, 100, 1000, 4097};
    for (size_t i = 0; i < n_elements(sizes); i++)
        for (uint64_t seed = 0; seed < 4; seed++) {
            unsigned char seen[4097] = {0};
            for (uint64_t k = 0; k < sizes[i]; k++) {
                const uint64_t x = mo_loader_permute(seed, seed / 2, sizes[i], k);
                assert_true(x < sizes[i] && !seen[x]);
                assert_int_equal(x, permuted(seed, seed / 2, sizes[i], k));
                seen[x] = 1;
            }
        }
    const uint64_t large = ((uint64_t)1 << 48) + 12345;
    for (uint64_t k = 0; k < 100; k++)
        assert_true(mo_loader_permute(9, 9, large, k) == permuted(9, 9, large, k));
}

/* The mean distance of neighbours in a random order is n / 3, and a third of it is 50 standard
 * deviations away. */
static void orders_of_seeds_and_epochs_differ_and_are_scattered(void **state) {
    (void)state;
    enum { N = 10000 };
    double distance = 0;
    int same_seed = 0, same_epoch = 0;
    for (uint64_t i = 0; i < N; i++) {
        const double x = (double)mo_loader_permute(1, 0, N, i);
        distance += fabs(x - (double)mo_loader_permute(1, 0, N, (i + 1) % N)) / N;
        same_seed += x == (double)mo_loader_permute(2, 0, N, i);
        same_epoch += x == (double)mo_loader_permute(1, 1, N, i);
    }
    assert_true(distance > N / 3.0 * 0.95 && distance < N / 3.0 * 1.05);
    assert_in_range(same_seed, 0, 20);
    assert_in_range(same_epoch, 0, 20);
}

typedef struct random_text {
    mo_tokens tokens;
    mo_loader_desc desc;
    size_t n_sequences;
} random_text;

/* A text of a few files, and batches of a few sequences of it. */
static random_text random_begin(test_rng *r) {
    random_text x = {0};
    size_t counts[MAX_FILES];
    const size_t n_files = 1 + test_below(r, MAX_FILES);
    for (size_t i = 0; i < n_files; i++) counts[i] = test_below(r, MAX_TOKENS / MAX_FILES);
    counts[test_below(r, n_files)] += 200;
    x.tokens = tokens_of(counts, n_files);
    x.desc = (mo_loader_desc){.batch = 1 + test_below(r, 4),
        .seq = 1 + test_below(r, 8),
        .group = test_below(r, 3),
        .n_ranks = test_below(r, 3),
        .apart = (int)test_below(r, 2),
        .shuffle = (int)test_below(r, 2),
        .carry = (int)test_below(r, 2),
        .seed = test_u64(r)};
    return x;
}

static mo_loader random_loader(random_text *x, size_t rank, size_t depth, size_t n_threads) {
    x->desc.tokens = &x->tokens;
    x->desc.rank = rank, x->desc.depth = depth, x->desc.n_threads = n_threads;
    mo_loader loader = loader_of(&x->desc);
    x->n_sequences = (size_t)mo_loader_get_stats(&loader).n_sequences;
    return loader;
}

/* All ranks together: with carry each sequence once in every epoch; without, at most once, and as
 * many as fill groups. */
static void each_sequence_comes_once_in_an_epoch(void **state) {
    (void)state;
    test_rng r = test_rng_begin("each_sequence_comes_once_in_an_epoch");
    for (int round = 0; round < 60; round++) {
        static unsigned char seen[MAX_TOKENS + 1000];
        random_text x = random_begin(&r);
        const size_t n_ranks = x.desc.n_ranks ? x.desc.n_ranks : 1, taken = n_ranks * x.desc.batch;
        const size_t group = taken * (x.desc.group ? x.desc.group : 1);
        mo_loader loaders[2] = {{0}};
        for (size_t k = 0; k < n_ranks; k++) loaders[k] = random_loader(&x, k, 0, 0);
        const size_t in_epoch =
            x.desc.carry ? x.n_sequences : x.n_sequences - x.n_sequences % group;
        size_t n_seen = 0;
        memset(seen, 0, sizeof seen);
        for (size_t k = 0; n_seen < 2 * in_epoch; k++) {
            int32_t firsts[8];
            (void)take(&loaders[k % n_ranks], &x.desc, firsts);
            for (size_t b = 0; b < x.desc.batch && n_seen < 2 * in_epoch; b++, n_seen++) {
                if (n_seen == in_epoch) memset(seen, 0, sizeof seen);
                assert_false(seen[firsts[b]]);
                seen[firsts[b]] = 1;
            }
        }
        for (size_t k = 0; k < n_ranks; k++) mo_loader_free(&loaders[k]);
        mo_tokens_close(&x.tokens);
    }
}

enum { RUN = 24 };
static void record(mo_loader *loader, const mo_loader_desc *desc, int32_t firsts[RUN][8]) {
    memset(firsts, 0, RUN * sizeof *firsts);
    for (int i = 0; i < RUN; i++) (void)take(loader, desc, firsts[i]);
}

static void threads_and_depth_change_no_batch(void **state) {
    (void)state;
    test_rng r = test_rng_begin("threads_and_depth_change_no_batch");
    for (int round = 0; round < 15; round++) {
        int32_t want[RUN][8], got[RUN][8];
        random_text x = random_begin(&r);
        mo_loader loader = random_loader(&x, 0, 1, 1);
        record(&loader, &x.desc, want);
        mo_loader_free(&loader);
        for (size_t n_threads = 1; n_threads <= 4; n_threads++) {
            loader = random_loader(&x, 0, 1 + test_below(&r, 7), n_threads);
            record(&loader, &x.desc, got);
            assert_memory_equal(got, want, sizeof want);
            mo_loader_free(&loader);
        }
        mo_tokens_close(&x.tokens);
    }
}

/* At every position, in the same loader and in a new one of another seed. */
static void a_restart_gives_the_same_rest(void **state) {
    (void)state;
    test_rng r = test_rng_begin("a_restart_gives_the_same_rest");
    for (int round = 0; round < 15; round++) {
        int32_t want[RUN][8], got[8] = {0};
        mo_loader_state states[RUN];
        random_text x = random_begin(&r);
        mo_loader loader = random_loader(&x, 0, 0, 0);
        memset(want, 0, sizeof want);
        for (int i = 0; i < RUN; i++) {
            states[i] = mo_loader_get_state(&loader);
            (void)take(&loader, &x.desc, want[i]);
        }
        for (int from = RUN - 1; from >= 0; from--) {
            random_text other = x;
            if (from % 2) other.desc.seed++, other.desc.shuffle = 0;
            mo_loader fresh = random_loader(&other, 0, 0, 0);
            mo_loader *l = from % 2 ? &fresh : &loader;
            mo_loader_set_state(l, &states[from]);
            for (int i = from; i < RUN; i++) {
                const mo_loader_state at = mo_loader_get_state(l);
                assert_memory_equal(&at.epoch, &states[i].epoch, 3 * sizeof at.epoch);
                (void)take(l, &x.desc, got);
                assert_memory_equal(got, want[i], sizeof got);
            }
            mo_loader_free(&fresh);
        }
        mo_loader_free(&loader);
        mo_tokens_close(&x.tokens);
    }
}

/* ---- failures -------------------------------------------------------------------------------- */

static void a_read_that_fails_is_a_status_and_can_be_repeated(void **state) {
    (void)state;
    static const size_t count = 4 * 12 + 1;
    static const int32_t want[] = {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44};
    mo_tokens t = tokens_of(&count, 1);
    for (int k = 0; k < 12; k++) {
        const mo_loader_desc desc = {.tokens = &t,
            .batch = 2,
            .seq = 4,
            .n_threads = 1 + (size_t)k % 3,
            .log = test_log_begin(&logged)};
        io_arm(FAIL, EIO, k);
        mo_loader loader = loader_of(&desc);
        mo_loader_batch batch;
        size_t done = 0;
        for (; mo_loader_next(&loader, &batch) == MO_OK; done++)
            assert_int_equal(batch.inputs[0], want[2 * done % 12]);
        assert_int_equal(logged.n, 1);
        assert_non_null(strstr(logged.text, paths[0]));
        assert_true(done < 9); /* threads may be at the batches ahead before the k-th call */
        for (; done < 12; done++) expect(&loader, &desc, want + 2 * done % 12, 1);
        mo_loader_free(&loader);
        io.armed = 0;
    }
    mo_tokens_close(&t);
}

static void a_file_that_was_cut_short_ends_in_a_status(void **state) {
    (void)state;
    static const size_t count = 101;
    static const int32_t want[] = {0, 10, 20, 30, 40};
    mo_tokens t = tokens_of(&count, 1);
    assert_int_equal(truncate(paths[0], 1024 + 2 * 60), 0);
    const mo_loader_desc desc = {
        .tokens = &t, .batch = 1, .seq = 10, .log = test_log_begin(&logged)};
    mo_loader loader = loader_of(&desc);
    mo_loader_batch batch;
    expect(&loader, &desc, want, 5);
    assert_int_equal(mo_loader_next(&loader, &batch), MO_E_IO);
    assert_int_equal(mo_loader_get_state(&loader).position, 50);
    assert_non_null(strstr(logged.text, "become shorter"));
    mo_loader_free(&loader);
    mo_tokens_close(&t);
}

static void a_token_outside_the_vocabulary_is_a_status(void **state) {
    (void)state;
    static const size_t counts[] = {30, 71};
    static const int32_t want[] = {0, 10, 20, 30};
    mo_tokens t = tokens_of(counts, 2);
    mo_loader_desc desc = {
        .tokens = &t, .batch = 1, .seq = 10, .vocab = 41, .log = test_log_begin(&logged)};
    mo_loader loader = loader_of(&desc);
    mo_loader_batch batch;
    expect(&loader, &desc, want, 4);
    assert_int_equal(mo_loader_next(&loader, &batch), MO_E_FORMAT);
    assert_non_null(strstr(logged.text, "1.bin: token 11 is 41, outside the vocabulary of 41"));
    mo_loader_free(&loader);
    mo_tokens_close(&t);
}

static void nonsense_is_refused(void **state) {
    (void)state;
    static const size_t count = 41;
    mo_tokens t = tokens_of(&count, 1);
    mo_loader loader = {0};
    const mo_loader_desc good = {.tokens = &t, .batch = 2, .seq = 4};
    mo_loader_desc bad = good;
    char text[4];
    assert_int_equal(mo_loader_init(NULL, &good), MO_E_INVALID);
    assert_int_equal(mo_loader_init(&loader, NULL), MO_E_INVALID);
    bad.tokens = NULL;
    assert_int_equal(mo_loader_init(&loader, &bad), MO_E_INVALID);
    bad = good, bad.batch = 0;
    assert_int_equal(mo_loader_init(&loader, &bad), MO_E_INVALID);
    bad = good, bad.seq = 0;
    assert_int_equal(mo_loader_init(&loader, &bad), MO_E_INVALID);
    bad = good, bad.rank = 1;
    assert_int_equal(mo_loader_init(&loader, &bad), MO_E_INVALID);
    bad = good, bad.n_threads = 65;
    assert_int_equal(mo_loader_init(&loader, &bad), MO_E_INVALID);
    bad = good, bad.batch = 11, bad.log = test_log_begin(&logged);
    assert_int_equal(mo_loader_init(&loader, &bad), MO_E_INVALID);
    assert_string_equal(logged.text,
        "loader: 10 sequences of 4 tokens are fewer than a group of batches takes: 11");
    bad = good, bad.seq = 41, bad.carry = 1;
    assert_int_equal(mo_loader_init(&loader, &bad), MO_E_INVALID);
    bad = good, bad.batch = SIZE_MAX / 2, bad.group = 3;
    assert_int_equal(mo_loader_init(&loader, &bad), MO_E_OVERFLOW);
    bad = good, bad.batch = SIZE_MAX / 8, bad.carry = 1;
    assert_int_equal(mo_loader_init(&loader, &bad), MO_E_OVERFLOW);
    bad = good, bad.depth = SIZE_MAX;
    assert_int_equal(mo_loader_init(&loader, &bad), MO_E_OVERFLOW);
    assert_null(loader.impl);
    assert_int_equal(mo_loader_format(NULL, text, sizeof text), MO_E_INVALID);
    mo_tokens_close(&t);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    static const size_t count = 41;
    static const int32_t want[] = {0, 4, 8, 12};
    mo_tokens t = tokens_of(&count, 1);
    mo_status status = MO_E_NO_MEMORY;
    for (int k = 0; status != MO_OK; k++) {
        test_heap heap;
        mo_loader loader = {0};
        const mo_loader_desc desc = {
            .tokens = &t, .batch = 2, .seq = 4, .apart = 1, .allocator = test_heap_begin(&heap, k)};
        status = mo_loader_init(&loader, &desc);
        if (status == MO_OK) expect(&loader, &desc, want, 2);
        else assert_int_equal(status, MO_E_NO_MEMORY);
        mo_loader_free(&loader);
        assert_int_equal(heap.live_blocks, 0);
        assert_int_equal(heap.live_bytes, 0);
        assert_true(k < 20);
    }
    mo_tokens_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_come_in_the_order_of_the_text),
        cmocka_unit_test(a_group_does_not_reach_over_the_end),
        cmocka_unit_test(with_carry_an_epoch_goes_on_into_the_next),
        cmocka_unit_test(sequences_reach_over_files_unless_they_are_apart),
        cmocka_unit_test(ranks_take_batches_in_turn),
        cmocka_unit_test(a_position_between_sequences_is_rounded_up),
        cmocka_unit_test(batches_lie_in_the_memory_that_was_given_for_them),
        cmocka_unit_test(a_state_is_a_text_and_back),
        cmocka_unit_test(other_texts_are_no_state),
        cmocka_unit_test(an_order_has_each_number_once),
        cmocka_unit_test(orders_of_seeds_and_epochs_differ_and_are_scattered),
        cmocka_unit_test(each_sequence_comes_once_in_an_epoch),
        cmocka_unit_test(threads_and_depth_change_no_batch),
        cmocka_unit_test(a_restart_gives_the_same_rest),
        cmocka_unit_test(a_read_that_fails_is_a_status_and_can_be_repeated),
        cmocka_unit_test(a_file_that_was_cut_short_ends_in_a_status),
        cmocka_unit_test(a_token_outside_the_vocabulary_is_a_status),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("loader", tests, make_files, NULL) + remove_files();
}
