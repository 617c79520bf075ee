/* test_suballoc.c - mo_suballoc */
#include "test_util.h"

static mo_suballoc sub_of(uint64_t size, uint64_t granule, size_t max_allocs) {
    mo_suballoc sub;
    mo_suballoc_desc desc = {.size = size, .granule = granule, .max_allocs = max_allocs};
    test_ok(mo_suballoc_init(&sub, &desc));
    return sub;
}

static mo_suballoc_stats stats_of(const mo_suballoc *sub) {
    mo_suballoc_stats stats;
    mo_suballoc_get_stats(sub, &stats);
    return stats;
}

static mo_suballoc_block alloc(mo_suballoc *sub, uint64_t size) {
    mo_suballoc_block block;
    test_ok(mo_suballoc_alloc(sub, size, 0, &block));
    return block;
}

/* ---- examples ------------------------------------------------------------------------------ */

static void blocks_come_from_the_bottom_in_granules(void **state) {
    (void)state;
    mo_suballoc sub = sub_of(4096, 256, 16);
    mo_suballoc_block a = alloc(&sub, 1), b = alloc(&sub, 257), c = alloc(&sub, 256);
    assert_int_equal(a.off, 0);
    assert_int_equal(b.off, 256);
    assert_int_equal(b.size, 512);
    assert_int_equal(c.off, 768);
    assert_int_equal(stats_of(&sub).used_bytes, 1024);
    assert_int_equal(stats_of(&sub).extent_bytes, 1024);
    mo_suballoc_free(&sub);
}

static void the_smallest_sufficient_hole_is_taken(void **state) {
    (void)state;
    mo_suballoc sub = sub_of(10000, 1, 64);
    uint64_t sizes[] = {120, 1, 101, 1, 110, 1, 101, 1}, handles[8];
    for (int i = 0; i < 8; i++) handles[i] = alloc(&sub, sizes[i]).handle;
    for (int i = 0; i < 8; i += 2) test_ok(mo_suballoc_dealloc(&sub, handles[i]));
    assert_int_equal(alloc(&sub, 100).off, 121);
    assert_int_equal(alloc(&sub, 100).off, 121 + 101 + 1 + 110 + 1);
    assert_int_equal(alloc(&sub, 105).off, 121 + 101 + 1);
    mo_suballoc_free(&sub);
}

static void the_whole_range_can_be_one_block(void **state) {
    (void)state;
    mo_suballoc sub = sub_of((uint64_t)1 << 40, 0, 4);
    mo_suballoc_block all = alloc(&sub, (uint64_t)1 << 40), none;
    assert_int_equal(all.size, (uint64_t)1 << 40);
    assert_int_equal(mo_suballoc_alloc(&sub, 1, 0, &none), MO_E_NO_SPACE);
    assert_true(stats_of(&sub).fragmentation == 0);
    test_ok(mo_suballoc_dealloc(&sub, all.handle));
    assert_int_equal(stats_of(&sub).largest_free_bytes, (uint64_t)1 << 40);
    mo_suballoc_free(&sub);
}

static void alignment_above_the_granule_is_kept_and_the_gap_is_usable(void **state) {
    (void)state;
    mo_suballoc sub = sub_of(1 << 16, 256, 16);
    mo_suballoc_block a = alloc(&sub, 256), b;
    test_ok(mo_suballoc_alloc(&sub, 256, 4096, &b));
    assert_int_equal(b.off, 4096);
    assert_int_equal(alloc(&sub, 4096 - 256).off, 256);
    test_ok(mo_suballoc_dealloc(&sub, a.handle));
    mo_suballoc_free(&sub);
}

static void an_aligned_block_finds_the_only_place_that_fits(void **state) {
    (void)state;
    mo_suballoc sub = sub_of(8192, 256, 64);
    mo_suballoc_block block, blocks[32];
    for (int i = 0; i < 32; i++) blocks[i] = alloc(&sub, 256);
    for (int i = 15; i < 20; i++) test_ok(mo_suballoc_dealloc(&sub, blocks[i].handle));
    assert_int_equal(mo_suballoc_alloc(&sub, 1280, 4096, &block), MO_E_NO_SPACE);
    test_ok(mo_suballoc_alloc(&sub, 1024, 4096, &block));
    assert_int_equal(block.off, 4096);
    mo_suballoc_free(&sub);
}

static void stale_handles_are_refused(void **state) {
    (void)state;
    mo_suballoc sub = sub_of(4096, 256, 16);
    mo_suballoc_block a = alloc(&sub, 256), got;
    assert_int_not_equal(a.handle, 0);
    test_ok(mo_suballoc_dealloc(&sub, a.handle));
    assert_int_equal(mo_suballoc_dealloc(&sub, a.handle), MO_E_INVALID);
    mo_suballoc_block b = alloc(&sub, 256);
    assert_int_equal(b.off, a.off);
    assert_int_equal(mo_suballoc_dealloc(&sub, a.handle), MO_E_INVALID);
    assert_int_equal(mo_suballoc_get(&sub, a.handle, &got), MO_E_INVALID);
    mo_suballoc_reset(&sub);
    assert_int_equal(mo_suballoc_dealloc(&sub, b.handle), MO_E_INVALID);
    mo_suballoc_block c = alloc(&sub, 256);
    assert_int_equal(mo_suballoc_dealloc(&sub, b.handle), MO_E_INVALID);
    test_ok(mo_suballoc_dealloc(&sub, c.handle));
    assert_int_equal(mo_suballoc_dealloc(&sub, 0), MO_E_INVALID);
    assert_int_equal(mo_suballoc_dealloc(&sub, UINT64_MAX), MO_E_INVALID);
    mo_suballoc_free(&sub);
}

static void max_allocs_is_reached_exactly(void **state) {
    (void)state;
    mo_suballoc sub = sub_of(1 << 20, 256, 100);
    uint64_t handles[100];
    mo_suballoc_block block;
    for (int i = 0; i < 100; i++) { /* with padding everywhere: the most free parts there can be */
        test_ok(mo_suballoc_alloc(&sub, 256, 1024, &block));
        handles[i] = block.handle;
    }
    assert_int_equal(mo_suballoc_alloc(&sub, 1, 0, &block), MO_E_NO_SPACE);
    assert_int_equal(stats_of(&sub).n_free_blocks, 100);
    for (int i = 0; i < 100; i++) test_ok(mo_suballoc_dealloc(&sub, handles[i]));
    assert_int_equal(stats_of(&sub).n_free_blocks, 1);
    mo_suballoc_free(&sub);
}

static void a_crowded_size_class_still_gives_its_only_fit(void **state) {
    (void)state;
    enum { N = 200 };
    mo_suballoc sub = sub_of(1040 + (N - 1) * 1024 + N, 1, 2 * N);
    uint64_t handles[N];
    for (int i = 0; i < N; i++) {
        handles[i] = alloc(&sub, i == 0 ? 1040 : 1024).handle;
        alloc(&sub, 1);
    }
    for (int i = 0; i < N; i++) test_ok(mo_suballoc_dealloc(&sub, handles[i]));
    assert_int_equal(alloc(&sub, 1040).off, 0);
    mo_suballoc_free(&sub);
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    mo_suballoc sub;
    mo_suballoc_block block = {0};
    mo_suballoc_desc tiny = {.size = 255}, odd = {.size = 1000, .granule = 3};
    mo_suballoc_desc many = {.size = 1000, .max_allocs = ((size_t)1 << 30) + 1};
    assert_int_equal(mo_suballoc_init(&sub, NULL), MO_E_INVALID);
    assert_int_equal(mo_suballoc_init(&sub, &tiny), MO_E_INVALID);
    assert_int_equal(mo_suballoc_init(&sub, &odd), MO_E_INVALID);
    assert_int_equal(mo_suballoc_init(&sub, &many), MO_E_INVALID);
    sub = sub_of(1000, 0, 0);
    assert_int_equal(stats_of(&sub).size_bytes, 768);
    assert_int_equal(mo_suballoc_alloc(&sub, 0, 0, &block), MO_E_INVALID);
    assert_int_equal(mo_suballoc_alloc(&sub, 1, 3, &block), MO_E_INVALID);
    assert_int_equal(mo_suballoc_alloc(&sub, 1, 768, &block), MO_E_INVALID);
    assert_int_equal(mo_suballoc_alloc(&sub, UINT64_MAX, 0, &block), MO_E_NO_SPACE);
    assert_int_equal(mo_suballoc_alloc(&sub, 769, 0, &block), MO_E_NO_SPACE);
    assert_int_equal(block.size, 0);
    test_ok(mo_suballoc_alloc(&sub, 1, (uint64_t)1 << 62, &block));
    assert_int_equal(block.off, 0);
    mo_suballoc_free(&sub);
}

static void a_block_can_be_asked_for_at_an_offset(void **state) {
    (void)state;
    mo_suballoc sub = sub_of(4096, 256, 4);
    mo_suballoc_block a, b, c = {0};
    test_ok(mo_suballoc_alloc_at(&sub, 1024, 500, &a));
    assert_int_equal(a.off, 1024);
    assert_int_equal(a.size, 512);
    assert_int_equal(stats_of(&sub).top_bytes, 1536);
    test_ok(mo_suballoc_alloc_at(&sub, 1536, 2560, &b));
    assert_int_equal(mo_suballoc_alloc_at(&sub, 1000, 1, &c), MO_E_INVALID);
    assert_int_equal(mo_suballoc_alloc_at(&sub, 0, 0, &c), MO_E_INVALID);
    assert_int_equal(mo_suballoc_alloc_at(&sub, 4096, 1, &c), MO_E_NO_SPACE);
    assert_int_equal(mo_suballoc_alloc_at(&sub, 0, 1025, &c), MO_E_NO_SPACE);
    assert_int_equal(mo_suballoc_alloc_at(&sub, 1280, 256, &c), MO_E_NO_SPACE);
    assert_int_equal(mo_suballoc_alloc_at(&sub, 0, UINT64_MAX, &c), MO_E_NO_SPACE);
    assert_int_equal(c.size, 0);
    test_ok(mo_suballoc_alloc_at(&sub, 0, 1024, &c));
    assert_int_equal(stats_of(&sub).free_bytes, 0);
    test_ok(mo_suballoc_dealloc(&sub, b.handle));
    assert_int_equal(stats_of(&sub).top_bytes, 1536);
    assert_int_equal(stats_of(&sub).extent_bytes, 4096);
    test_ok(mo_suballoc_alloc_at(&sub, 2048, 256, &b));
    test_ok(mo_suballoc_alloc_at(&sub, 3072, 256, &c));
    assert_int_equal(mo_suballoc_alloc_at(&sub, 3840, 256, &c), MO_E_NO_SPACE); /* max_allocs */
    mo_suballoc_free(&sub);
}

static void a_part_of_a_block_can_be_freed_after_a_split(void **state) {
    (void)state;
    mo_suballoc sub = sub_of(4096, 256, 3);
    mo_suballoc_block whole, middle, end, none = {0};
    test_ok(mo_suballoc_alloc(&sub, 2048, 1024, &whole));
    test_ok(mo_suballoc_split(&sub, whole.handle, 512, &middle));
    assert_int_equal(middle.off, 512);
    assert_int_equal(middle.size, 1536);
    test_ok(mo_suballoc_split(&sub, middle.handle, 1280, &end));
    assert_int_equal(mo_suballoc_split(&sub, middle.handle, 256, &none), MO_E_NO_SPACE);
    test_ok(mo_suballoc_get(&sub, middle.handle, &middle));
    assert_int_equal(middle.size, 1280);
    assert_int_equal(stats_of(&sub).used_bytes, 2048);
    assert_int_equal(stats_of(&sub).peak_bytes, 2048);
    test_ok(mo_suballoc_dealloc(&sub, middle.handle));
    assert_int_equal(stats_of(&sub).largest_free_bytes, 2048);
    assert_int_equal(mo_suballoc_split(&sub, middle.handle, 256, &none), MO_E_INVALID);
    assert_int_equal(mo_suballoc_split(&sub, whole.handle, 100, &none), MO_E_INVALID);
    assert_int_equal(mo_suballoc_split(&sub, whole.handle, 0, &none), MO_E_INVALID);
    assert_int_equal(mo_suballoc_split(&sub, whole.handle, 512, &none), MO_E_INVALID);
    assert_int_equal(none.handle, 0);
    test_ok(mo_suballoc_dealloc(&sub, end.handle));
    test_ok(mo_suballoc_dealloc(&sub, whole.handle));
    assert_int_equal(stats_of(&sub).largest_free_bytes, 4096);
    mo_suballoc_free(&sub);
}

static void a_callers_workspace_of_any_alignment_is_enough(void **state) {
    (void)state;
    mo_suballoc_desc desc = {.size = 1 << 20, .max_allocs = 10};
    size_t size;
    test_ok(mo_suballoc_workspace_size(&desc, &size));
    for (int shift = 0; shift < 3; shift++) {
        char *memory = malloc(size + (size_t)shift);
        mo_suballoc sub;
        desc.workspace = memory + shift;
        test_ok(mo_suballoc_init(&sub, &desc));
        for (int i = 0; i < 10; i++) {
            mo_suballoc_block block;
            test_ok(mo_suballoc_alloc(&sub, 1, 1024, &block));
        }
        mo_suballoc_free(&sub);
        free(memory);
    }
}

static void a_plan_is_void_after_a_change(void **state) {
    (void)state;
    mo_suballoc sub = sub_of(4096, 256, 16);
    mo_suballoc_move moves[4];
    size_t n;
    assert_int_equal(mo_suballoc_defrag_commit(&sub, moves, 0), MO_E_STATE);
    mo_suballoc_block a = alloc(&sub, 256), b = alloc(&sub, 256);
    test_ok(mo_suballoc_dealloc(&sub, a.handle));
    test_ok(mo_suballoc_defrag_plan(&sub, 0, 0, moves, 4, &n));
    assert_int_equal(n, 1);
    assert_int_equal(moves[0].from, 256);
    assert_int_equal(moves[0].to, 0);
    assert_false(moves[0].overlaps);
    alloc(&sub, 256);
    assert_int_equal(mo_suballoc_defrag_commit(&sub, moves, n), MO_E_STATE);
    test_ok(mo_suballoc_get(&sub, b.handle, &b));
    assert_int_equal(b.off, 256);
    mo_suballoc_free(&sub);
}

static void a_plan_keeps_to_the_byte_limit_and_the_capacity(void **state) {
    (void)state;
    mo_suballoc sub = sub_of(1 << 16, 256, 64);
    mo_suballoc_move moves[8];
    uint64_t handles[16];
    size_t n;
    for (int i = 0; i < 16; i++) handles[i] = alloc(&sub, 1024).handle;
    for (int i = 0; i < 16; i += 2) test_ok(mo_suballoc_dealloc(&sub, handles[i]));
    test_ok(mo_suballoc_defrag_plan(&sub, 3000, 0, moves, 8, &n));
    assert_int_equal(n, 2);
    test_ok(mo_suballoc_defrag_plan(&sub, 0, 0, moves, 3, &n));
    assert_int_equal(n, 3);
    test_ok(mo_suballoc_defrag_commit(&sub, moves, 1));
    assert_int_equal(mo_suballoc_defrag_commit(&sub, moves + 1, 1), MO_E_STATE);
    mo_suballoc_free(&sub);
}

/* ---- properties ---------------------------------------------------------------------------- */

enum { MAX_LIVE = 300, RANGE = 100000 };

/* The parts of the iteration cover the range in order, no two free ones touch, and all agrees with
 * the statistics and with the model: which byte belongs to which live block. */
typedef struct model {
    mo_suballoc_block live[MAX_LIVE];
    uint64_t align[MAX_LIVE];
    size_t n;
    uint64_t used;
} model;

static void check(const mo_suballoc *sub, const model *m) {
    mo_suballoc_block part = {0};
    mo_suballoc_stats stats = stats_of(sub);
    uint64_t end = 0, used = 0, largest = 0, top = 0;
    size_t n_used = 0, n_free = 0;
    int was_free = 0;
    while (mo_suballoc_next(sub, &part)) {
        int is_free = part.handle == 0;
        assert_int_equal(part.off, end);
        assert_false(is_free && was_free);
        end += part.size;
        if (is_free) n_free++, largest = part.size > largest ? part.size : largest;
        else n_used++, used += part.size, top = end;
        was_free = is_free;
    }
    assert_int_equal(end, stats.size_bytes);
    assert_int_equal(n_used, m->n);
    assert_int_equal(n_used, stats.n_allocs);
    assert_int_equal(n_free, stats.n_free_blocks);
    assert_int_equal(used, m->used);
    assert_int_equal(used, stats.used_bytes);
    assert_int_equal(top, stats.top_bytes);
    assert_int_equal(end - used, stats.free_bytes);
    assert_int_equal(largest, stats.largest_free_bytes);
    for (size_t i = 0; i < m->n; i++) {
        mo_suballoc_block now;
        test_ok(mo_suballoc_get(sub, m->live[i].handle, &now));
        assert_int_equal(now.off, m->live[i].off);
        assert_int_equal(now.size, m->live[i].size);
    }
}

/* Whether some hole of the range takes such a block: what an exact allocator could do. */
static int has_place(const mo_suballoc *sub, uint64_t size, uint64_t align) {
    mo_suballoc_block part = {0};
    while (mo_suballoc_next(sub, &part)) {
        uint64_t begin = (part.off + align - 1) / align * align;
        if (part.handle == 0 && begin + size <= part.off + part.size) return 1;
    }
    return 0;
}

static void model_alloc(mo_suballoc *sub, model *m, test_rng *rng) {
    uint64_t size = 1 + test_below(rng, test_below(rng, 4) ? 300 : 6000);
    uint64_t align = test_below(rng, 3) ? 1 : (uint64_t)1 << test_below(rng, 9);
    int fits = m->n < MAX_LIVE && has_place(sub, size, align);
    mo_suballoc_block *block = &m->live[m->n < MAX_LIVE ? m->n : 0], unused;
    mo_status status = mo_suballoc_alloc(sub, size, align, fits ? block : &unused);
    assert_int_equal(status, fits ? MO_OK : MO_E_NO_SPACE);
    if (!fits) return;
    assert_int_equal(block->size, size);
    assert_int_equal(block->off % align, 0);
    for (size_t i = 0; i < m->n; i++)
        assert_true(
            block->off + size <= m->live[i].off || block->off >= m->live[i].off + m->live[i].size);
    m->align[m->n++] = align;
    m->used += size;
}

static void model_dealloc(mo_suballoc *sub, model *m, size_t i) {
    test_ok(mo_suballoc_dealloc(sub, m->live[i].handle));
    assert_int_equal(mo_suballoc_dealloc(sub, m->live[i].handle), MO_E_INVALID);
    m->used -= m->live[i].size;
    m->n--;
    m->live[i] = m->live[m->n];
    m->align[i] = m->align[m->n];
}

static void model_split(mo_suballoc *sub, model *m, size_t i, test_rng *rng) {
    mo_suballoc_block *block = &m->live[i], *rest = &m->live[m->n < MAX_LIVE ? m->n : 0], unused;
    uint64_t first = test_below(rng, block->size + 1);
    int can = m->n < MAX_LIVE && first > 0 && first < block->size;
    mo_status status = mo_suballoc_split(sub, block->handle, first, can ? rest : &unused);
    assert_int_equal(status == MO_OK, can);
    if (!can) return;
    assert_int_equal(rest->off, block->off + first);
    assert_int_equal(rest->size, block->size - first);
    block->size = first;
    m->align[m->n++] = 1;
}

/* Where the byte at off is free, so is the part from there to the next block. */
static void model_alloc_at(mo_suballoc *sub, model *m, test_rng *rng) {
    uint64_t off = test_below(rng, RANGE), size = 1 + test_below(rng, 300), end = RANGE;
    mo_suballoc_block *block = &m->live[m->n < MAX_LIVE ? m->n : 0], unused;
    int fits = m->n < MAX_LIVE && off + size <= RANGE;
    for (size_t i = 0; i < m->n; i++) {
        if (m->live[i].off <= off && off < m->live[i].off + m->live[i].size) fits = 0;
        if (m->live[i].off > off && m->live[i].off < end) end = m->live[i].off;
    }
    fits = fits && off + size <= end;
    mo_status status = mo_suballoc_alloc_at(sub, off, size, fits ? block : &unused);
    assert_int_equal(status, fits ? MO_OK : MO_E_NO_SPACE);
    if (!fits) return;
    assert_int_equal(block->off, off);
    assert_int_equal(block->size, size);
    m->align[m->n++] = 1;
    m->used += size;
}

static void random_use_agrees_with_a_brute_force_model(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("suballoc");
    model *m = calloc(1, sizeof *m);
    mo_suballoc sub = sub_of(RANGE, 1, MAX_LIVE);
    for (int round = 0; round < 10000; round++) {
        int grow = round / 500 % 2 == 0;
        if (m->n == 0 || test_below(&rng, 10) < (grow ? 6u : 4u)) model_alloc(&sub, m, &rng);
        else model_dealloc(&sub, m, test_below(&rng, m->n));
        if (round % 8 == 0) model_alloc_at(&sub, m, &rng);
        if (round % 8 == 4 && m->n > 0) model_split(&sub, m, test_below(&rng, m->n), &rng);
        if (round % 20 == 0) check(&sub, m);
    }
    while (m->n > 0) model_dealloc(&sub, m, test_below(&rng, m->n));
    check(&sub, m);
    assert_int_equal(stats_of(&sub).n_free_blocks, 1);
    mo_suballoc_free(&sub);
    free(m);
}

/* Every block is filled with its own byte; after the copies each still is, at its new place. */
static void run_moves(unsigned char *memory, const mo_suballoc_move *moves, size_t n, int skip) {
    for (size_t i = 0; i < n; i++) {
        const mo_suballoc_move *move = &moves[i];
        assert_true(move->to < move->from);
        assert_int_equal(move->overlaps, move->to + move->size > move->from);
        assert_false(skip && move->overlaps);
        memmove(memory + move->to, memory + move->from, (size_t)move->size);
    }
}

static void defrag_once(test_rng *rng, model *m, int skip) {
    static unsigned char memory[RANGE];
    mo_suballoc_move moves[MAX_LIVE];
    mo_suballoc sub = sub_of(RANGE, 1, MAX_LIVE);
    size_t n;
    memset(m, 0, sizeof *m);
    for (int i = 0; i < 400; i++) {
        if (m->n == 0 || test_below(rng, 10) < 7) model_alloc(&sub, m, rng);
        else model_dealloc(&sub, m, test_below(rng, m->n));
    }
    for (size_t i = 0; i < m->n; i++)
        memset(memory + m->live[i].off, (int)(i & 255), (size_t)m->live[i].size);
    double before = stats_of(&sub).fragmentation;
    test_ok(mo_suballoc_defrag_plan(&sub, 0, skip, moves, MAX_LIVE, &n));
    if (n > 0 && test_below(rng, 2)) n = test_below(rng, n + 1); /* any first part will do */
    run_moves(memory, moves, n, skip);
    test_ok(mo_suballoc_defrag_commit(&sub, moves, n));
    for (size_t i = 0; i < m->n; i++) {
        test_ok(mo_suballoc_get(&sub, m->live[i].handle, &m->live[i]));
        assert_int_equal(m->live[i].off % m->align[i], 0);
        for (uint64_t j = 0; j < m->live[i].size; j++)
            assert_int_equal(memory[m->live[i].off + j], i & 255);
    }
    check(&sub, m);
    test_ok(mo_suballoc_defrag_plan(&sub, 0, 0, moves, MAX_LIVE, &n));
    test_ok(mo_suballoc_defrag_commit(&sub, moves, n));
    assert_true(stats_of(&sub).fragmentation <= before + 1e-12);
    test_ok(mo_suballoc_defrag_plan(&sub, 0, 0, moves, MAX_LIVE, &n));
    assert_int_equal(n, 0);
    mo_suballoc_free(&sub);
}

static void defragmentation_keeps_every_byte_and_alignment(void **state) {
    (void)state;
    test_rng rng = test_rng_begin("suballoc defrag");
    model *m = calloc(1, sizeof *m);
    for (int round = 0; round < 60; round++) defrag_once(&rng, m, round % 2);
    free(m);
}

/* ---- failures ------------------------------------------------------------------------------ */

static void a_failed_allocation_leaves_nothing_behind(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        test_heap heap;
        mo_allocator allocator = test_heap_begin(&heap, k);
        mo_suballoc sub;
        mo_suballoc_desc desc = {.size = 4096, .max_allocs = 8, .allocator = &allocator};
        mo_status status = mo_suballoc_init(&sub, &desc);
        assert_int_equal(status, k == 0 ? MO_E_NO_MEMORY : MO_OK);
        if (status == MO_OK) mo_suballoc_free(&sub);
        assert_int_equal(heap.live_bytes, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_come_from_the_bottom_in_granules),
        cmocka_unit_test(the_smallest_sufficient_hole_is_taken),
        cmocka_unit_test(the_whole_range_can_be_one_block),
        cmocka_unit_test(alignment_above_the_granule_is_kept_and_the_gap_is_usable),
        cmocka_unit_test(an_aligned_block_finds_the_only_place_that_fits),
        cmocka_unit_test(stale_handles_are_refused),
        cmocka_unit_test(max_allocs_is_reached_exactly),
        cmocka_unit_test(a_crowded_size_class_still_gives_its_only_fit),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(a_block_can_be_asked_for_at_an_offset),
        cmocka_unit_test(a_part_of_a_block_can_be_freed_after_a_split),
        cmocka_unit_test(a_callers_workspace_of_any_alignment_is_enough),
        cmocka_unit_test(a_plan_is_void_after_a_change),
        cmocka_unit_test(a_plan_keeps_to_the_byte_limit_and_the_capacity),
        cmocka_unit_test(random_use_agrees_with_a_brute_force_model),
        cmocka_unit_test(defragmentation_keeps_every_byte_and_alignment),
        cmocka_unit_test(a_failed_allocation_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
