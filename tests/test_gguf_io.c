// LDFLAGS: -Wl,--wrap=open,--wrap=open64,--wrap=close,--wrap=write,--wrap=pread,--wrap=pread64
// LDFLAGS: -Wl,--wrap=fsync,--wrap=rename,--wrap=fstat,--wrap=fstat64,--wrap=mmap,--wrap=mmap64
// LDFLAGS: -Wl,--wrap=opendir,--wrap=readdir,--wrap=readdir64,--wrap=closedir,--wrap=unlink
/* test_gguf_io.c - mo_gguf when the k-th system call fails, for all k. */
#include "test_io.h"

#define TEST_FILE "model.gguf"
#include "test_folder.h"

static test_log logged;
static test_heap heap;

/* Two writers of files that differ in every byte of their data; the header takes two writes, and
 * most tensors are padded. */
enum { N = 60, BYTES = 50 };
static mo_status write_file(char fill) {
    static mo_gguf_entry entries[N];
    static char names[N][64];
    char data[BYTES];
    mo_gguf_writer w = {0};
    mo_gguf_writer_desc desc = {
        .allocator = test_heap_begin(&heap, -1), .log = test_log_begin(&logged)};
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "%060d", i);
        mo_gguf_entry e = {.name = names[i], .type = MO_GGUF_I8, .n_dims = 1, .shape = {BYTES}};
        entries[i] = e;
    }
    memset(data, fill, sizeof data);
    mo_status status = mo_gguf_create(&w, path, entries, N, &desc);
    for (int i = 0; status == MO_OK && i < N; i++) status = mo_gguf_write(&w, data, sizeof data);
    if (status == MO_OK) status = mo_gguf_commit(&w);
    mo_gguf_discard(&w);
    return status;
}

static mo_status read_file(char fill, int map) {
    char data[BYTES];
    mo_gguf g = {0};
    mo_gguf_desc desc = {.allocator = test_heap_begin(&heap, -1), .log = test_log_begin(&logged)};
    mo_status status = mo_gguf_open(&g, path, &desc);
    for (size_t i = 0; status == MO_OK && i < g.n; i++) {
        const char *view = data;
        memset(data, fill + 1, sizeof data);
        if (map) view = (const char *)mo_gguf_data(&g, &g.entries[i]);
        else status = mo_gguf_read(&g, &g.entries[i], 0, data, sizeof data);
        if (!view) status = MO_E_IO;
        for (size_t k = 0; status == MO_OK && k < BYTES; k++) assert_int_equal(view[k], fill);
    }
    mo_gguf_close(&g);
    return status;
}

enum { LEAST_CALLS = 2 * N + 6 };
#include "test_io_facts.h"

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_call_leaves_the_old_file),
        cmocka_unit_test(interrupted_and_short_calls_go_on),
        cmocka_unit_test(a_failed_call_while_reading_is_clean),
        cmocka_unit_test(interrupted_and_short_reads_go_on),
    };
    return cmocka_run_group_tests(tests, make_folder, NULL) + remove_folder();
}
