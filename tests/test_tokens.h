/* test_tokens.h - token files in the format of llm.c, for the tests of mo_tokens and mo_loader. */
#ifndef TEST_TOKENS_H
#define TEST_TOKENS_H

#include "test_folder.h"

enum { MAX_FILES = 6, MAX_FILE_TOKENS = 5000 };
static char paths[MAX_FILES][FOLDER_SIZE + 16];
static const char *path_list[MAX_FILES];

static int make_files(void **state) {
    for (int i = 0; i < MAX_FILES; i++) path_list[i] = paths[i];
    if (make_folder(state) != 0) return -1;
    for (int i = 0; i < MAX_FILES; i++) snprintf(paths[i], sizeof paths[i], "%s/%d.bin", folder, i);
    return 0;
}
static int remove_files(void) {
    for (int i = 0; i < MAX_FILES; i++) remove(paths[i]);
    return remove_folder();
}

/* A header that claims count tokens, and n of them: first, first + 1, ... */
static void write_tokens(size_t i, int magic, int version, int count, size_t n, uint32_t first) {
    static unsigned char bytes[1024 + 4 * MAX_FILE_TOKENS];
    const size_t width = magic == 20240801 ? 4 : 2;
    const int32_t header[3] = {magic, version, count};
    assert_true(n <= MAX_FILE_TOKENS);
    memset(bytes, 0, 1024);
    for (int k = 0; k < 12; k++)
        bytes[k] = (unsigned char)((uint32_t)header[k / 4] >> (8 * (k % 4)));
    for (size_t k = 0; k < n; k++)
        for (size_t b = 0; b < width; b++)
            bytes[1024 + k * width + b] = (unsigned char)((first + k) >> (8 * b));
    save_file(paths[i], bytes, 1024 + n * width);
}

#endif
