/* fuzz_gguf.c - any bytes as a GGUF file: rejected or consistent, never a crash.
 *
 *   make fuzz
 *   build/fuzz/fuzz_gguf NEW_FOLDER fuzz/corpus/gguf
 *
 * Compiled without libFuzzer and FUZZ_NO_MAIN it replays the files it is given. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memopt.h"

static void fuzz_check(int truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "fuzz_gguf: %s\n", what);
    abort();
}

static void fuzz_gguf_pair(const mo_gguf *g, const mo_gguf_pair *pair) {
    static volatile unsigned char byte; /* each is read */
    uint64_t integer = 0;
    double number = 0;
    fuzz_check(mo_gguf_find_key(g, pair->key) == pair, "key not found");
    if (mo_gguf_u64(g, pair->key, &integer) == MO_OK)
        fuzz_check(mo_gguf_f64(g, pair->key, &number) == MO_OK, "an integer that is no number");
    if (pair->kind == MO_GGUF_KIND_STRING)
        for (size_t i = 0; i < pair->n; i++) {
            const mo_gguf_text *t = &pair->strings[i];
            fuzz_check(t->text[t->size] == '\0', "a string without its end");
            for (size_t k = 0; k < t->size; k++) byte ^= (unsigned char)t->text[k];
        }
    else if (pair->is_array) {
        const size_t bytes = mo_gguf_kind_bytes(pair->kind);
        fuzz_check((uintptr_t)pair->data % bytes == 0, "an array that is not aligned");
        for (size_t i = 0; i < pair->n * bytes; i++) byte ^= ((const uint8_t *)pair->data)[i];
    } else fuzz_check(pair->n == 1, "more than one value");
}

static void fuzz_gguf_entry(mo_gguf *g, const mo_gguf_entry *e, const uint8_t *data, size_t size) {
    const uint8_t *view = (const uint8_t *)mo_gguf_data(g, e);
    float numbers[64];
    uint8_t last;
    fuzz_check(mo_gguf_find(g, e->name) == e, "name not found");
    fuzz_check(view >= data && view + (e->end - e->begin) <= data + size, "view outside");
    fuzz_check(mo_gguf_elements(e) / mo_gguf_type_block(e->type) * mo_gguf_type_bytes(e->type) ==
            e->end - e->begin,
        "shape and bytes differ");
    if (e->end == e->begin) return;
    fuzz_check(mo_gguf_read(g, e, e->end - e->begin - 1, &last, 1) == MO_OK &&
            last == view[e->end - e->begin - 1],
        "read and view differ");
    const uint64_t n = mo_gguf_elements(e);
    const mo_status status = mo_gguf_read_f32(g, e, 0, n < 64 ? (size_t)n : 64, numbers);
    fuzz_check(status == MO_OK || status == MO_E_UNSUPPORTED, "not decoded");
}

/* What every caller may rely on once a file is open. */
static void fuzz_gguf_use(mo_gguf *g, const uint8_t *data, size_t size) {
    uint64_t end = 0;
    for (size_t i = 0; i < g->n_metadata; i++) fuzz_gguf_pair(g, &g->metadata[i]);
    for (size_t i = 0; i < g->n; i++) {
        const mo_gguf_entry *e = &g->entries[i];
        fuzz_check(e->begin >= end && e->begin - end < g->alignment, "hole or overlap");
        fuzz_check(e->begin % g->alignment == 0, "not aligned");
        fuzz_gguf_entry(g, e, data, size);
        end = e->end;
    }
    fuzz_check(end <= g->data_size && g->data_off + g->data_size == size, "sizes differ");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mo_gguf g = {0};
    mo_gguf_desc desc = {0};
    desc.long_names = size % 2 == 1;
    mo_status status = mo_gguf_open_memory(&g, data, size, &desc);
    if (status == MO_OK) fuzz_gguf_use(&g, data, size);
    else fuzz_check(status == MO_E_FORMAT || status == MO_E_NO_MEMORY, "unexpected status");
    mo_gguf_close(&g);
    return 0;
}

#include "fuzz_replay.h"
