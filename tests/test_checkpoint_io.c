// LDFLAGS: -Wl,--wrap=open,--wrap=open64,--wrap=close,--wrap=write,--wrap=pread,--wrap=pread64
// LDFLAGS: -Wl,--wrap=fsync,--wrap=rename,--wrap=fstat,--wrap=fstat64,--wrap=mmap,--wrap=mmap64
// LDFLAGS: -Wl,--wrap=opendir,--wrap=readdir,--wrap=readdir64,--wrap=closedir,--wrap=unlink
/* test_checkpoint_io.c - mo_checkpoint when the k-th system call fails, for all k. */

#include "test_io.h"

#include "test_checkpoint.h"

static test_run run, other;
static test_log logged;
static test_heap heap;
static mo_checkpoint_desc desc;
static char file[4096];

static int begin(void **state) {
    (void)state;
    memset(&io, 0, sizeof io);
    memset(&desc, 0, sizeof desc);
    run_begin(&run, MO_OPTIM_8BIT);
    run_begin(&other, MO_OPTIM_8BIT);
    return 0;
}
static int end(void **state) {
    (void)state;
    io.armed = 0;
    empty_folder();
    run_end(&run);
    run_end(&other);
    return 0;
}

static void watch(void) {
    desc.log = test_log_begin(&logged);
    desc.allocator = test_heap_begin(&heap, -1);
}

static void assert_clean(mo_status status) {
    io.armed = 0;
    assert_int_equal(io.n_open, 0);
    assert_int_equal(heap.live_blocks, 0);
    if (status == MO_OK) return;
    assert_true(logged.n > 0);
    assert_memory_equal(logged.text, folder, strlen(folder));
}

/* That step is the newest, and whole. */
static void assert_newest(uint64_t step) {
    uint64_t is = 0;
    io.armed = 0;
    watch();
    test_ok(mo_checkpoint_latest(path, &desc, file, sizeof file));
    test_ok(mo_checkpoint_verify(file, &desc, &is));
    assert_int_equal(is, step);
}

static mo_status save(uint64_t step) {
    run.run.step = step;
    return mo_checkpoint_save(path, &run.run, &desc);
}

static void a_failed_call_leaves_the_older_files(void **state) {
    (void)state;
    static const int errors[] = {ENOSPC, EIO, EDQUOT, EACCES};
    for (desc.keep = 0; desc.keep < 3; desc.keep++)
        for (size_t e = 0; e < n_elements(errors); e++) {
            empty_folder();
            run_fill(&run, 1, 1);
            io.armed = 0;
            watch();
            uint64_t newest = 1;
            test_ok(save(1));
            test_ok(save(2));
            newest = 2;
            for (int k = 0;; k++) {
                /* of a killed run */
                save_file(in_folder("run.safetensors.tmp99999999-0"), NULL, 0);
                watch();
                io_arm(FAIL, errors[e], k);
                const mo_status status = save((uint64_t)k + 3);
                const int hit = io.hit, at_folder = io.failed_at_folder;
                assert_clean(status);
                if (!hit || at_folder) test_ok(status);
                if (status != MO_OK) assert_int_equal(status, MO_E_IO);
                if (status == MO_OK) newest = (uint64_t)k + 3;
                assert_newest(newest);
                if (!hit) {
                    assert_true(k > 20);
                    break;
                }
            }
            watch();
            test_ok(save(1000)); /* whatever was left is removed later */
            assert_int_equal(count_files("*.safetensors*"), desc.keep ? (int)desc.keep : 1);
            assert_newest(1000);
        }
}

static void interrupted_and_short_calls_go_on(void **state) {
    (void)state;
    desc.keep = 2;
    run_fill(&run, 1, 1);
    for (int mode = INTERRUPT; mode <= SHORTEN; mode++)
        for (int k = 0;; k++) {
            watch();
            io_arm(mode, 0, k);
            const mo_status status = save((uint64_t)k + 1);
            const int hit = io.hit;
            test_ok(status);
            assert_clean(status);
            assert_int_equal(logged.n, 0);
            assert_newest((uint64_t)k + 1);
            if (!hit) break;
        }
    for (int mode = INTERRUPT; mode <= SHORTEN; mode++)
        for (int k = 0;; k++) {
            assert_newest(run.run.step);
            watch();
            io_arm(mode, 0, k);
            test_ok(mo_checkpoint_load(file, &other.run, &desc));
            const int hit = io.hit;
            assert_clean(MO_OK);
            assert_true(run_same(&run, &other));
            run_fill(&other, 3, 3);
            if (!hit) break;
        }
}

/* What the first reading does not see is said aloud. */
static void a_failed_call_while_loading_leaves_the_run(void **state) {
    (void)state;
    int first = 0, second = 0;
    run_fill(&run, 1, 1);
    watch();
    test_ok(save(1));
    for (int k = 0;; k++) {
        run_fill(&other, 3, 3);
        const contents before = *run_look(&other);
        watch();
        io_arm(FAIL, EIO, k);
        const mo_status status = mo_checkpoint_load(path, &other.run, &desc);
        const int hit = io.hit;
        assert_clean(status);
        if (status == MO_OK) assert_true(run_same(&run, &other));
        else {
            assert_int_equal(status, MO_E_IO);
            const int partly = strstr(logged.text, "is partly overwritten") != NULL;
            if (!partly) assert_memory_equal(run_look(&other), &before, sizeof before);
            first += !partly, second += partly;
        }
        if (!hit) break;
    }
    assert_true(first > 10 && second > 5);
}

static void a_failed_call_while_searching_never_gives_a_broken_file(void **state) {
    (void)state;
    desc.keep = 3;
    run_fill(&run, 1, 1);
    watch();
    for (uint64_t step = 1; step <= 3; step++) test_ok(save(step));
    for (int k = 0;; k++) {
        uint64_t step = 0;
        watch();
        io_arm(FAIL, EIO, k);
        const mo_status status = mo_checkpoint_latest(folder, &desc, file, sizeof file);
        const int hit = io.hit;
        assert_clean(status);
        if (status != MO_OK) assert_int_equal(status, MO_E_IO);
        else test_ok(mo_checkpoint_verify(file, &desc, &step));
        if (status == MO_OK) assert_true(step >= 2);
        if (!hit) {
            assert_int_equal(step, 3);
            break;
        }
    }
}

#define fact(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
    const struct CMUnitTest tests[] = {
        fact(a_failed_call_leaves_the_older_files),
        fact(interrupted_and_short_calls_go_on),
        fact(a_failed_call_while_loading_leaves_the_run),
        fact(a_failed_call_while_searching_never_gives_a_broken_file),
    };
    return cmocka_run_group_tests(tests, make_folder_in_memory, NULL) + remove_folder();
}
