/* fuzz_csv.c - any bytes as a CSV file of buffers and of stages: rejected in one line or
 * consistent, never a crash.
 *
 *   make fuzz
 *   build/fuzz/fuzz_csv NEW_FOLDER fuzz/corpus/csv fuzz/corpus/chain
 *
 * Compiled without libFuzzer and FUZZ_NO_MAIN it replays the files it is given. */
#include "../tools/memopt/chain.c"
#include "../tools/memopt/csv.c"
#include "../tools/memopt/lifetimes.c"

static void fuzz_check(int truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "fuzz_csv: %s\n", what);
    abort();
}

/* One line of plain text. */
static void fuzz_csv_error(const csv *c) {
    fuzz_check(*c->error != 0, "rejected without a word");
    for (const char *at = c->error; *at; at++)
        fuzz_check(*at >= 32 && *at < 127, "a message of more than plain text");
}

/* A copy of its own, as csv_parse takes it over. */
static char *fuzz_csv_copy(const void *data, size_t size) {
    char *text = (char *)malloc(size + 1);
    fuzz_check(text != NULL, "out of memory");
    memcpy(text, data, size);
    return text;
}

/* What is written is read back as the same buffers, with those offsets. */
static void fuzz_csv_again(const lifetimes *l) {
    static char text[1 << 16];
    size_t *offsets = (size_t *)calloc(l->n ? l->n : 1, sizeof *offsets);
    FILE *out = fmemopen(text, sizeof text, "wb");
    fuzz_check(offsets && out, "out of memory");
    lifetimes_write(l, offsets, out);
    const long size = fflush(out) == 0 ? ftell(out) : 0;
    fclose(out);
    lifetimes again;
    if (size > 0 && size < (long)sizeof text) {
        const int ok =
            lifetimes_parse(&again, "again", fuzz_csv_copy(text, (size_t)size), (size_t)size);
        fuzz_check(ok && again.n == l->n && again.n_gaps == l->n_gaps, "not read back");
        for (size_t i = 0; i < l->n; i++) {
            fuzz_check(memcmp(&again.items[i], &l->items[i], sizeof *l->items) == 0 &&
                    strcmp(lifetimes_name(&again, i), lifetimes_name(l, i)) == 0,
                "a buffer is not read back");
            fuzz_check(again.fixed[i] == 0, "an offset is not read back");
        }
        lifetimes_close(&again);
    }
    free(offsets);
}

static int fuzz_csv_lifetimes(const uint8_t *data, size_t size) {
    lifetimes l;
    const int ok = lifetimes_parse(&l, "fuzz", fuzz_csv_copy(data, size), size);
    if (!ok) fuzz_csv_error(&l.table);
    for (size_t i = 0; ok && i < l.n; i++) {
        const mo_layout_item *item = &l.items[i];
        fuzz_check(item->first <= item->last && item->last < SIZE_MAX, "a lifetime of no steps");
        fuzz_check(item->align && (item->align & (item->align - 1)) == 0, "a bad alignment");
    }
    for (size_t i = 0; ok && i < l.n_gaps; i++) {
        const mo_layout_gap *g = &l.gaps[i];
        fuzz_check(g->item < l.n && g->first >= l.items[g->item].first && g->first <= g->last &&
                g->last <= l.items[g->item].last && g->low <= g->high &&
                g->high <= l.items[g->item].size,
            "a gap outside of its buffer");
    }
    if (ok) fuzz_csv_again(&l);
    lifetimes_close(&l);
    return ok;
}

static int fuzz_csv_chain(const uint8_t *data, size_t size) {
    chain c;
    const int ok = chain_parse(&c, "fuzz", fuzz_csv_copy(data, size), size);
    if (!ok) fuzz_csv_error(&c.table);
    else fuzz_check(mo_remat_flat_check(&c.flat, NULL) == MO_OK, "not a chain");
    chain_close(&c);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_csv_lifetimes(data, size);
    fuzz_csv_chain(data, size);
    return 0;
}

#include "fuzz_replay.h"
