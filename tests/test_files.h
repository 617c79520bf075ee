/* test_files.h - whole files, and temporary folders of any number. */
#ifndef TEST_FILES_H
#define TEST_FILES_H

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <unistd.h>

#include "test_util.h"

/* ---- whole files --------------------------------------------------------------------------- */

static inline void save_file(const char *file, const void *data, size_t size) {
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    if (size > 0) assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* Its bytes, of which there are fewer than limit; how many. */
static inline size_t load_file(const char *file, void *data, size_t limit) {
    FILE *f = fopen(file, "rb");
    assert_non_null(f);
    const size_t size = fread(data, 1, limit, f);
    assert_true(size < limit && !ferror(f));
    fclose(f);
    return size;
}

/* Looks at each file of a folder of the repository, of which there are so many at least. */
static inline void each_file(
    const char *in, int at_least, void (*look)(const char *file, const char *name)) {
    int n = 0;
    DIR *dir = opendir(in);
    if (!dir) fail_msg("%s: run the tests from the repository's root", in);
    for (struct dirent *e; (e = readdir(dir));) {
        char file[512];
        if (e->d_name[0] == '.') continue;
        snprintf(file, sizeof file, "%s/%s", in, e->d_name);
        look(file, e->d_name);
        n++;
    }
    closedir(dir);
    assert_true(n >= at_least);
}

/* ---- folders ------------------------------------------------------------------------------- */

enum { FOLDER_SIZE = 64 };

/* A new one below another; 0, or -1. made [FOLDER_SIZE] */
static inline int folder_make(char *made, const char *below) {
    snprintf(made, FOLDER_SIZE, "%s/memopt_test.XXXXXX", below);
    return mkdtemp(made) ? 0 : -1;
}

/* How many names match the pattern of a shell; hidden ones do not match "*". */
static inline int folder_count(const char *in, const char *pattern) {
    int n = 0;
    DIR *dir = opendir(in);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) n += fnmatch(pattern, e->d_name, FNM_PERIOD) == 0;
    closedir(dir);
    return n;
}

/* Removes what "*" matches. */
static inline void folder_empty(const char *in) {
    char file[512];
    DIR *dir = opendir(in);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        snprintf(file, sizeof file, "%s/%s", in, e->d_name);
        if (e->d_name[0] != '.') remove(file);
    }
    closedir(dir);
}

/* Removes an empty one; else says what is in it. 0, or 1. */
static inline int folder_remove(const char *made) {
    if (rmdir(made) == 0) return 0;
    print_error("%s: %s:", made, strerror(errno));
    DIR *dir = opendir(made);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            print_error(" %s", e->d_name);
    if (dir) closedir(dir);
    print_error("\n");
    return 1;
}

#endif
