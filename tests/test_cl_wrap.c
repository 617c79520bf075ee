/* test_cl_wrap.c - host memory that kernels use as it is. */
#include "test_cl.h"
#ifndef NO_OPENCL
#include "test_cl_numeric.h"
#include <fcntl.h>
#include <sys/mman.h>

enum { N = 10000, BYTES = 4 * N };

static uint64_t wrapped_bytes(test_cl *t) {
    mo_cl_heap_stats stats;
    mo_cl_heap_get_stats(&t->heap, &stats);
    return stats.wrapped_bytes;
}

static void kernels_read_and_write_the_memory_itself(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_mem mem, b = test_cl_new(t, BYTES, 0);
    uint32_t *data = mo_alloc(NULL, 40960, MO_CL_WRAP_ALIGN);
    if (!t->cl.info.unified) skip();
    for (uint32_t i = 0; i < N; i++) data[i] = i;
    test_ok(mo_cl_wrap(&t->heap, data, BYTES, &mem));
    assert_int_equal(mem.size, BYTES);
    assert_int_equal(wrapped_bytes(t), BYTES);
    test_ok(mo_cl_copy_u32(&t->heap, MO_CL_COMPUTE, &b, 0, &mem, 0, N, NULL, NULL));
    test_ok(mo_cl_fill_u32(&t->heap, MO_CL_COMPUTE, &mem, 4 * 100, 5, 77, NULL, NULL));
    void *seen = NULL;
    test_ok(mo_cl_map(&t->heap, MO_CL_COMPUTE, &mem, 0, BYTES, MO_CL_WRITE, NULL, &seen));
    assert_ptr_equal(seen, data); /* no copy */
    for (uint32_t i = 0; i < N; i++) assert_int_equal(data[i], i >= 100 && i < 105 ? 77 : i);
    data[7] = 12345;
    test_ok(mo_cl_unmap(&t->heap, MO_CL_COMPUTE, &mem, seen, NULL));
    test_ok(mo_cl_copy_u32(&t->heap, MO_CL_COMPUTE, &b, 0, &mem, 28, 1, NULL, NULL));
    uint32_t got[2];
    test_cl_get(t, mo_cl_part(&b, 0, 8), got, 8);
    assert_int_equal(got[0], 12345);
    assert_int_equal(got[1], 1);
    mo_cl_unwrap(&t->heap, &mem);
    assert_null(mem.buffer);
    mo_cl_unwrap(&t->heap, &mem);
    assert_int_equal(wrapped_bytes(t), 0);
    mo_free(NULL, data, 40960, MO_CL_WRAP_ALIGN);
    test_cl_clear(t);
}

/* Tensors of a file begin anywhere in it. */
static void a_file_mapped_read_only_is_device_memory(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_mem mem, b = test_cl_new(t, BYTES, 0);
    char path[] = "/tmp/memopt_wrap_XXXXXX";
    static const size_t offs[] = {0, 4, 4096, 4100, 8188};
    static uint32_t words[3 * N], got[N];
    if (!t->cl.info.unified) skip();
    for (uint32_t i = 0; i < 3 * N; i++) words[i] = i * 2654435761u;
    int file = mkstemp(path);
    assert_int_equal(write(file, words, sizeof words), sizeof words);
    char *data = mmap(NULL, sizeof words, PROT_READ, MAP_PRIVATE, file, 0);
    assert_true(data != MAP_FAILED);
    for (size_t k = 0; k < n_elements(offs); k++) {
        test_ok(mo_cl_wrap_const(&t->heap, data + offs[k], BYTES, &mem));
        assert_int_equal(mem.size, BYTES);
        test_ok(mo_cl_copy_u32(&t->heap, MO_CL_COMPUTE, &b, 0, &mem, 0, N, NULL, NULL));
        test_cl_get(t, b, got, BYTES);
        assert_memory_equal(got, (char *)words + offs[k], BYTES);
        mo_cl_unwrap(&t->heap, &mem);
    }
    munmap(data, sizeof words);
    close(file);
    unlink(path);
    test_cl_clear(t);
}

static void what_cannot_be_wrapped_is_refused(void **state) {
    test_cl *t = test_cl_of(state);
    mo_cl_mem mem;
    char *data = mo_alloc(NULL, 8192, MO_CL_WRAP_ALIGN);
    const mo_cl_info info = t->cl.info;
    assert_int_equal(mo_cl_wrap(NULL, data, 8192, &mem), MO_E_INVALID);
    assert_int_equal(mo_cl_wrap(&t->heap, NULL, 8192, &mem), MO_E_INVALID);
    assert_int_equal(mo_cl_wrap(&t->heap, data, 0, &mem), MO_E_INVALID);
    assert_int_equal(mo_cl_wrap(&t->heap, data, 8192, NULL), MO_E_INVALID);
    assert_int_equal(mo_cl_wrap(&t->heap, data + 64, 4096, &mem), MO_E_INVALID);
    assert_int_equal(mo_cl_wrap_const(&t->heap, data + 1, SIZE_MAX, &mem), MO_E_INVALID);
    assert_int_equal(mo_cl_wrap_const(&t->heap, NULL, 1, &mem), MO_E_INVALID);
    t->cl.info.max_alloc_bytes = 4096; /* as if the device had less */
    assert_int_equal(mo_cl_wrap(&t->heap, data, 8192, &mem), MO_E_UNSUPPORTED);
    t->cl.info = info;
    t->cl.info.unified = 0; /* as if it had its own memory */
    assert_int_equal(mo_cl_wrap(&t->heap, data, 8192, &mem), MO_E_UNSUPPORTED);
    assert_int_equal(mo_cl_wrap_const(&t->heap, data, 8192, &mem), MO_E_UNSUPPORTED);
    t->cl.info = info;
    assert_int_equal(wrapped_bytes(t), 0);
    mo_free(NULL, data, 8192, MO_CL_WRAP_ALIGN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_read_and_write_the_memory_itself),
        cmocka_unit_test(a_file_mapped_read_only_is_device_memory),
        cmocka_unit_test(what_cannot_be_wrapped_is_refused),
    };
    return cmocka_run_group_tests(tests, test_cl_setup, test_cl_teardown);
}
#endif
