/* fuzz_replay.h - files given to a fuzzer's function, for those without libFuzzer: behind its
 * definition. With FUZZ_NO_MAIN a test or libFuzzer has the main function. */
#ifndef FUZZ_REPLAY_H
#define FUZZ_REPLAY_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline int fuzz_replay(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return perror(path), 1;
    static uint8_t data[1 << 20];
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    /* a block of exactly that size, so that a sanitizer sees a byte too many */
    uint8_t *copy = (uint8_t *)malloc(size ? size : 1);
    if (!copy) return 1;
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    return 0;
}

#ifndef FUZZ_NO_MAIN
int main(int argc, char **argv) {
    int failed = 0;
    for (int i = 1; i < argc; i++) failed |= fuzz_replay(argv[i]);
    return failed;
}
#endif

#endif
