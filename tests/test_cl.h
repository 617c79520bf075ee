/* test_cl.h - what the tests of memopt_cl.h share: a device or a skip, a folder of their own, the
 * test program started again with another environment. */
#ifndef TEST_CL_H
#define TEST_CL_H

#include "test_util.h"

#ifdef NO_OPENCL
static void opencl_is_installed(void **state) {
    (void)state;
    skip();
}
int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(opencl_is_installed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "memopt_cl.h"
#include "test_files.h"

/* What drivers, LLVM in them and the loader never free is not ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libpocl\nleak:libLLVM\nleak:libclang\nleak:libhwloc\nleak:libOpenCL\n"
           "leak:libRusticl\nleak:libMesa\nleak:libltdl\nleak:pocl_\nleak:_dl_\n";
}

/* A folder that begins empty and is removed with the files in it. */
typedef struct test_folder {
    char path[FOLDER_SIZE];
} test_folder;

/* Returns how many files were not cached programs. */
static inline int test_folder_clear(const test_folder *folder) {
    const int n = folder_count(folder->path, "*") - folder_count(folder->path, "*.moclbin");
    folder_empty(folder->path);
    return n;
}
static inline test_folder test_folder_make(void) {
    test_folder folder;
    if (folder_make(folder.path, "/tmp") != 0) fail_msg("no temporary folder");
    return folder;
}
static inline int test_folder_remove(const test_folder *folder) {
    const int n = test_folder_clear(folder);
    assert_int_equal(folder_remove(folder->path), 0);
    return n;
}

/* The device that the tests run on: MEMOPT_CL_DEVICE, else the best; skips when there is none. */
static inline mo_cl_device test_device(void) {
    mo_cl_device device;
    memset(&device, 0, sizeof device);
    mo_status status = mo_cl_choose(NULL, &device, NULL);
    if (status == MO_E_UNSUPPORTED) skip();
    assert_int_equal(status, MO_OK);
    return device;
}

static inline void test_open(mo_cl *cl, const char *cache_folder) {
    mo_cl_desc desc = {.device_id = test_device().id, .cache_folder = cache_folder};
    test_ok(mo_cl_init(cl, &desc));
}

/* Runs this program again with one argument, and NAME=VALUE in its environment; its exit status. */
static inline int test_spawn(const char *name, const char *value, const char *argument, int *pid) {
    *pid = fork();
    if (*pid == 0) {
        if (name) setenv(name, value, 1);
        execl("/proc/self/exe", "test", argument, (char *)NULL);
        _exit(127);
    }
    return *pid > 0;
}
static inline int test_wait(int pid) {
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return -1;
    return WEXITSTATUS(status);
}

#endif
#endif
