/* test_folder.h - the temporary folder of a test program.
 *
 * A test of files makes it before its first fact and removes it after the last one:
 *
 *   return cmocka_run_group_tests(tests, make_folder, NULL) + remove_folder();
 *
 * Where TEST_FILE is defined before the include, `path` is the file of that name in the folder. It
 * may be there in the end. Anything else that is left fails the program: not as a teardown of the
 * group, because cmocka prints that and returns 0. */
#ifndef TEST_FOLDER_H
#define TEST_FOLDER_H

#include "test_files.h"

static char folder[FOLDER_SIZE];
#ifdef TEST_FILE
static char path[FOLDER_SIZE + 64];
#endif

static inline int make_folder_below(const char *below) {
    if (folder_make(folder, below) != 0) return -1;
#ifdef TEST_FILE
    snprintf(path, sizeof path, "%s/%s", folder, TEST_FILE);
#endif
    return 0;
}
static inline int make_folder(void **state) {
    (void)state;
    return make_folder_below("/tmp");
}
/* In memory where that is possible, for tests that would wait for a disk all the time. */
static inline int make_folder_in_memory(void **state) {
    (void)state;
    return make_folder_below(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
}
static inline int remove_folder(void) {
#ifdef TEST_FILE
    remove(path);
#endif
    return folder_remove(folder);
}

static inline int count_files(const char *pattern) { return folder_count(folder, pattern); }
static inline void empty_folder(void) { folder_empty(folder); }

/* The file of that name; the last four answers stay. */
static inline const char *in_folder(const char *name) {
    static char file[4][256];
    static int at;
    at = (at + 1) % 4;
    snprintf(file[at], sizeof file[at], "%s/%s", folder, name);
    return file[at];
}

#endif
