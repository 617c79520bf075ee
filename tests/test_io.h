/* test_io.h - system calls that fail on demand, for tests of files.
 *
 * A test that includes it asks the linker to send the library's calls here:
 *
 *   // LDFLAGS: -Wl,--wrap=open,--wrap=open64,--wrap=close,--wrap=write,--wrap=pread,--wrap=pread64
 *   // LDFLAGS: -Wl,--wrap=fsync,--wrap=rename,--wrap=fstat,--wrap=fstat64
 *   // LDFLAGS: -Wl,--wrap=mmap,--wrap=mmap64
 *   // LDFLAGS: -Wl,--wrap=opendir,--wrap=readdir,--wrap=readdir64,--wrap=closedir,--wrap=unlink
 *
 * Here the k-th of them fails with a chosen error, is interrupted, or does only a part of its
 * work. */
#ifndef TEST_IO_H
#define TEST_IO_H

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_util.h"

enum { FAIL, INTERRUPT, SHORTEN };
static struct {
    int armed, mode, error;
    int fail_at, n_calls; /* the call that fails, of those counted; -1 = none */
    int hit;              /* it did */
    int failed_at_folder; /* it was one that makes the folder durable, after the rename */
    int renamed, n_open;
} io;

/* Whether this call fails. */
static int io_fails(void) {
    if (!io.armed || io.n_calls++ != io.fail_at) return 0;
    io.hit = 1;
    io.failed_at_folder = io.renamed;
    if (io.mode == SHORTEN) return 0;
    errno = io.mode == INTERRUPT ? EINTR : io.error;
    return 1;
}
static size_t io_size(size_t size) {
    int shorten = io.armed && io.mode == SHORTEN && io.n_calls == io.fail_at + 1;
    return shorten && size > 1 ? size / 2 : size;
}

#define WRAP_OPEN(name)                                                                            \
    int __real_##name(const char *, int, ...);                                                     \
    int __wrap_##name(const char *path, int flags, ...) {                                          \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;                                  \
        va_end(args);                                                                              \
        if (io_fails()) return -1;                                                                 \
        int fd = __real_##name(path, flags, mode);                                                 \
        if (io.armed && fd >= 0) io.n_open++;                                                      \
        return fd;                                                                                 \
    }
WRAP_OPEN(open)
WRAP_OPEN(open64)

/* A close that fails has closed all the same, as on Linux. */
int __real_close(int);
int __wrap_close(int fd) {
    int fails = io_fails(), error = errno;
    if (io.armed) io.n_open--;
    int result = __real_close(fd);
    if (fails) errno = error;
    return fails ? -1 : result;
}

ssize_t __real_write(int, const void *, size_t);
ssize_t __wrap_write(int fd, const void *data, size_t size) {
    return io_fails() ? -1 : __real_write(fd, data, io_size(size));
}

#define WRAP_PREAD(name, offset)                                                                   \
    ssize_t __real_##name(int, void *, size_t, offset);                                            \
    ssize_t __wrap_##name(int fd, void *data, size_t size, offset at) {                            \
        return io_fails() ? -1 : __real_##name(fd, data, io_size(size), at);                       \
    }
WRAP_PREAD(pread, off_t)
WRAP_PREAD(pread64, off64_t)

int __real_fsync(int);
int __wrap_fsync(int fd) { return io_fails() ? -1 : __real_fsync(fd); }

/* This and what follows are never interrupted: counted only where they can fail. */
int __real_rename(const char *, const char *);
int __wrap_rename(const char *from, const char *to) {
    if (io.mode == FAIL && io_fails()) return -1;
    io.renamed = 1;
    return __real_rename(from, to);
}

#define WRAP_FSTAT(name, type)                                                                     \
    int __real_##name(int, type *);                                                                \
    int __wrap_##name(int fd, type *info) {                                                        \
        return io.mode == FAIL && io_fails() ? -1 : __real_##name(fd, info);                       \
    }
WRAP_FSTAT(fstat, struct stat)
WRAP_FSTAT(fstat64, struct stat64)

#define WRAP_MMAP(name, offset)                                                                    \
    void *__real_##name(void *, size_t, int, int, int, offset);                                    \
    void *__wrap_##name(void *at, size_t size, int access, int flags, int fd, offset from) {       \
        if (io.mode == FAIL && fd >= 0 && io_fails()) return MAP_FAILED;                           \
        return __real_##name(at, size, access, flags, fd, from);                                   \
    }
WRAP_MMAP(mmap, off_t)
WRAP_MMAP(mmap64, off64_t)

DIR *__real_opendir(const char *);
DIR *__wrap_opendir(const char *path) {
    if (io.mode == FAIL && io_fails()) return NULL;
    DIR *dir = __real_opendir(path);
    if (io.armed && dir) io.n_open++;
    return dir;
}

int __real_closedir(DIR *);
int __wrap_closedir(DIR *dir) {
    if (io.armed) io.n_open--;
    return __real_closedir(dir);
}

#define WRAP_READDIR(name, item)                                                                   \
    struct item *__real_##name(DIR *);                                                             \
    struct item *__wrap_##name(DIR *dir) {                                                         \
        return io.mode == FAIL && io_fails() ? NULL : __real_##name(dir);                          \
    }
WRAP_READDIR(readdir, dirent)
WRAP_READDIR(readdir64, dirent64)

int __real_unlink(const char *);
int __wrap_unlink(const char *path) {
    if (io.mode == FAIL && io_fails()) return -1;
    return __real_unlink(path);
}

static void io_arm(int mode, int error, int k) {
    memset(&io, 0, sizeof io);
    io.mode = mode, io.error = error, io.fail_at = k;
    io.armed = 1;
}

#endif
