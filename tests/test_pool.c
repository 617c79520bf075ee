/* test_pool.c - mo_pool */
#include "test_util.h"
#include <pthread.h>

static mo_pool pool_of(size_t block_size, size_t n_blocks, int thread_safe) {
    mo_pool pool;
    mo_pool_desc desc = {
        .block_size = block_size, .n_blocks = n_blocks, .thread_safe = thread_safe};
    test_ok(mo_pool_init(&pool, &desc));
    return pool;
}

static mo_pool_stats stats_of(const mo_pool *pool) {
    mo_pool_stats stats;
    mo_pool_get_stats(pool, &stats);
    return stats;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void all_blocks_come_out_once_and_aligned(void **state) {
    (void)state;
    for (int thread_safe = 0; thread_safe < 2; thread_safe++) {
        mo_pool pool = pool_of(100, 10, thread_safe);
        unsigned seen = 0;
        for (int i = 0; i < 10; i++) {
            unsigned char *block = mo_pool_acquire(&pool);
            assert_int_equal((uintptr_t)block % 64, 0);
            memset(block, i, 100);
            seen |= 1u << mo_pool_index(&pool, block);
        }
        assert_int_equal(seen, (1 << 10) - 1);
        assert_null(mo_pool_acquire(&pool));
        assert_int_equal(stats_of(&pool).n_used, 10);
        assert_int_equal(stats_of(&pool).n_peak, 10);
        assert_int_equal(stats_of(&pool).n_failed, 1);
        mo_pool_free(&pool);
    }
}

static void the_last_released_block_comes_out_first(void **state) {
    (void)state;
    for (int thread_safe = 0; thread_safe < 2; thread_safe++) {
        mo_pool pool = pool_of(64, 3, thread_safe);
        void *a = mo_pool_acquire(&pool), *b = mo_pool_acquire(&pool);
        test_ok(mo_pool_release(&pool, a));
        test_ok(mo_pool_release(&pool, b));
        assert_ptr_equal(mo_pool_acquire(&pool), b);
        assert_ptr_equal(mo_pool_acquire(&pool), a);
        mo_pool_free(&pool);
    }
}

static void a_double_release_is_refused(void **state) {
    (void)state;
    for (int thread_safe = 0; thread_safe < 2; thread_safe++) {
        mo_pool pool = pool_of(64, 3, thread_safe);
        void *a = mo_pool_acquire(&pool);
        test_ok(mo_pool_release(&pool, a));
        assert_int_equal(mo_pool_release(&pool, a), MO_E_INVALID);
        assert_int_equal(stats_of(&pool).n_used, 0);
        mo_pool_free(&pool);
    }
}

static void foreign_pointers_are_refused(void **state) {
    (void)state;
    mo_pool pool = pool_of(96, 3, 0);
    char *a = mo_pool_acquire(&pool), other;
    assert_true(mo_pool_owns(&pool, a));
    assert_true(mo_pool_owns(&pool, a + 2 * 128));
    assert_false(mo_pool_owns(&pool, a + 1));
    assert_false(mo_pool_owns(&pool, a + 64));
    assert_false(mo_pool_owns(&pool, a + 3 * 128));
    assert_false(mo_pool_owns(&pool, a - 128));
    assert_int_equal(mo_pool_release(&pool, &other), MO_E_INVALID);
    assert_int_equal(mo_pool_release(&pool, NULL), MO_E_INVALID);
    assert_int_equal(mo_pool_release_index(&pool, 3), MO_E_INVALID);
    mo_pool_free(&pool);
}

static void index_and_block_belong_together_for_any_stride(void **state) {
    (void)state;
    for (size_t size = 1; size < 300; size += 7) {
        mo_pool pool;
        mo_pool_desc desc = {.block_size = size, .n_blocks = 20, .align = 1};
        test_ok(mo_pool_init(&pool, &desc));
        char *base = mo_pool_at(&pool, 0);
        for (size_t off = 0; off < 21 * size; off++) {
            int is_block = off % size == 0 && off / size < 20;
            assert_int_equal(mo_pool_owns(&pool, base + off), is_block);
            if (is_block) assert_int_equal(mo_pool_index(&pool, base + off), off / size);
        }
        assert_null(mo_pool_at(&pool, 20));
        mo_pool_free(&pool);
    }
}

static void a_callers_block_of_any_alignment_is_enough(void **state) {
    (void)state;
    mo_pool_desc desc = {.block_size = 40, .n_blocks = 5, .align = 256};
    size_t size;
    test_ok(mo_pool_workspace_size(&desc, &size));
    char *memory = malloc(size + 1);
    for (int shift = 0; shift < 2; shift++) {
        mo_pool pool;
        desc.workspace = memory + shift;
        test_ok(mo_pool_init(&pool, &desc));
        for (int i = 0; i < 5; i++) {
            char *block = mo_pool_acquire(&pool);
            assert_int_equal((uintptr_t)block % 256, 0);
            assert_in_range((uintptr_t)block, (uintptr_t)memory, (uintptr_t)memory + size - 40);
            memset(block, 1, 40);
        }
        mo_pool_free(&pool);
    }
    free(memory);
}

static void a_pool_of_indices_has_no_memory(void **state) {
    (void)state;
    mo_pool pool;
    mo_pool_desc desc = {.n_blocks = 4, .indices_only = 1};
    test_ok(mo_pool_init(&pool, &desc));
    assert_null(mo_pool_acquire(&pool));
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(mo_pool_acquire_index(&pool), i);
    assert_int_equal(mo_pool_acquire_index(&pool), MEMOPT_POOL_NONE);
    test_ok(mo_pool_release_index(&pool, 2));
    assert_int_equal(mo_pool_release_index(&pool, 2), MO_E_INVALID);
    assert_int_equal(mo_pool_acquire_index(&pool), 2);
    mo_pool_free(&pool);
}

static void its_allocator_refuses_what_does_not_fit(void **state) {
    (void)state;
    mo_pool pool = pool_of(100, 2, 0);
    mo_allocator allocator = mo_pool_allocator(&pool);
    assert_null(mo_alloc(&allocator, 101, 8));
    assert_null(mo_alloc(&allocator, 8, 4096));
    void *p = mo_alloc(&allocator, 100, 64);
    assert_non_null(p);
    mo_free(&allocator, p, 100, 64);
    assert_int_equal(stats_of(&pool).n_used, 0);
    mo_pool_free(&pool);
}

static void bad_descs_are_refused(void **state) {
    (void)state;
    mo_pool pool;
    mo_pool_desc none = {.block_size = 8}, align = {.block_size = 8, .n_blocks = 1, .align = 3};
    mo_pool_desc empty = {.n_blocks = 8}, large = {.block_size = SIZE_MAX / 2, .n_blocks = 3};
    assert_int_equal(mo_pool_init(&pool, NULL), MO_E_INVALID);
    assert_int_equal(mo_pool_init(&pool, &none), MO_E_INVALID);
    assert_int_equal(mo_pool_init(&pool, &align), MO_E_INVALID);
    assert_int_equal(mo_pool_init(&pool, &empty), MO_E_INVALID);
    assert_int_equal(mo_pool_init(&pool, &large), MO_E_OVERFLOW);
}

/* ---- properties ---------------------------------------------------------------------------- */

static void random_use_never_hands_out_a_block_twice(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("pool");
    for (int thread_safe = 0; thread_safe < 2; thread_safe++) {
        enum { N = 50 };
        void *held[N];
        size_t n = 0;
        mo_pool pool = pool_of(24, N, thread_safe);
        for (int round = 0; round < 20000; round++) {
            if (n == N || (n > 0 && test_below(&rng, 2))) {
                size_t i = test_below(&rng, n);
                test_ok(mo_pool_release(&pool, held[i]));
                held[i] = held[--n];
            } else {
                held[n] = mo_pool_acquire(&pool);
                assert_non_null(held[n]);
                for (size_t i = 0; i < n; i++) assert_ptr_not_equal(held[i], held[n]);
                n++;
            }
            assert_int_equal(stats_of(&pool).n_used, n);
        }
        mo_pool_free(&pool);
    }
}

/* Every thread writes its own number into the blocks that it holds and checks it before release. */
typedef struct worker {
    mo_pool *pool;
    int number, n_wrong;
} worker;
static void *work(void *self) {
    worker *w = self;
    test_rng rng = {(uint64_t)w->number};
    int *held[8];
    size_t n = 0;
    for (int round = 0; round < 50000; round++) {
        int *block = n < 8 && test_below(&rng, 2) ? mo_pool_acquire(w->pool) : NULL;
        if (block) {
            block[0] = block[3] = w->number;
            held[n++] = block;
        } else if (n > 0) {
            block = held[--n];
            if (block[0] != w->number || block[3] != w->number) w->n_wrong++;
            if (mo_pool_release(w->pool, block) != MO_OK) w->n_wrong++;
        }
    }
    while (n > 0)
        if (mo_pool_release(w->pool, held[--n]) != MO_OK) w->n_wrong++;
    return NULL;
}

static void threads_share_a_pool_without_a_lock(void **state) {
    (void)state;
    enum { N = 4 };
    pthread_t threads[N];
    worker workers[N];
    mo_pool pool = pool_of(16, 12, 1);
    for (int i = 0; i < N; i++) {
        workers[i] = (worker){&pool, i + 1, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].n_wrong, 0);
    }
    assert_int_equal(stats_of(&pool).n_used, 0);
    assert_in_range(stats_of(&pool).n_peak, 1, 12);
    for (int i = 0; i < 12; i++) assert_non_null(mo_pool_acquire(&pool));
    assert_null(mo_pool_acquire(&pool));
    mo_pool_free(&pool);
}

/* ---- failures ------------------------------------------------------------------------------ */

static void a_failed_allocation_leaves_nothing_behind(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        test_heap heap;
        mo_allocator allocator = test_heap_begin(&heap, k);
        mo_pool pool;
        mo_pool_desc desc = {.block_size = 8, .n_blocks = 8, .allocator = &allocator};
        mo_status status = mo_pool_init(&pool, &desc);
        assert_int_equal(status, k == 0 ? MO_E_NO_MEMORY : MO_OK);
        if (status == MO_OK) mo_pool_free(&pool);
        assert_int_equal(heap.live_bytes, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_blocks_come_out_once_and_aligned),
        cmocka_unit_test(the_last_released_block_comes_out_first),
        cmocka_unit_test(a_double_release_is_refused),
        cmocka_unit_test(foreign_pointers_are_refused),
        cmocka_unit_test(index_and_block_belong_together_for_any_stride),
        cmocka_unit_test(a_callers_block_of_any_alignment_is_enough),
        cmocka_unit_test(a_pool_of_indices_has_no_memory),
        cmocka_unit_test(its_allocator_refuses_what_does_not_fit),
        cmocka_unit_test(bad_descs_are_refused),
        cmocka_unit_test(random_use_never_hands_out_a_block_twice),
        cmocka_unit_test(threads_share_a_pool_without_a_lock),
        cmocka_unit_test(a_failed_allocation_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
