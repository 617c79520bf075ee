/* fuzz_safetensors.c - any bytes as a safetensors file: rejected or consistent, never a crash.
 *
 *   make fuzz
 *   build/fuzz/fuzz_safetensors NEW_FOLDER fuzz/corpus/safetensors
 *
 * Compiled without libFuzzer and FUZZ_NO_MAIN it replays the files it is given. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memopt.h"

static void fuzz_check(int truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "fuzz_safetensors: %s\n", what);
    abort();
}

/* What every caller may rely on once a file is open. */
static void fuzz_safetensors_use(mo_safetensors *st, const uint8_t *data, size_t size) {
    uint64_t end = 0;
    for (size_t i = 0; i < st->n; i++) {
        const mo_safetensors_entry *e = &st->entries[i];
        fuzz_check(e->begin == end && e->end >= e->begin, "hole or overlap");
        fuzz_check(mo_safetensors_find(st, e->name) == e, "name not found");
        const uint8_t *view = (const uint8_t *)mo_safetensors_data(st, e);
        fuzz_check(view >= data && view + (e->end - e->begin) <= data + size, "view outside");
        uint8_t last;
        if (e->end > e->begin)
            fuzz_check(mo_safetensors_read(st, e, e->end - e->begin - 1, &last, 1) == MO_OK &&
                    last == view[e->end - e->begin - 1],
                "read and view differ");
        end = e->end;
    }
    fuzz_check(st->data_off + end == size, "bytes not covered");
    for (size_t i = 0; i < st->n_metadata; i++)
        fuzz_check(mo_safetensors_metadata(st, st->metadata[i].key) == st->metadata[i].value,
            "key not found");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mo_safetensors st = {0};
    mo_status status = mo_safetensors_open_memory(&st, data, size, NULL);
    if (status == MO_OK) fuzz_safetensors_use(&st, data, size);
    else fuzz_check(status == MO_E_FORMAT || status == MO_E_NO_MEMORY, "unexpected status");
    mo_safetensors_close(&st);
    return 0;
}

#include "fuzz_replay.h"
