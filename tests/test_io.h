/* test_io.h - system calls that fail on demand, for tests of files.
 *
 * A test that includes it first names the calls that the linker sends here, those of the library
 * and its own; the others stay what they are. Of those that are below:
 *
 *   // LDFLAGS: -Wl,--wrap=open,--wrap=open64,--wrap=close,--wrap=pread,--wrap=pread64
 *   // LDFLAGS: -Wl,--wrap=fstat,--wrap=fstat64
 *
 * Here the k-th of them, on whichever thread, fails with a chosen error, is interrupted, or does
 * only a part of its work. */
#ifndef TEST_IO_H
#define TEST_IO_H

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_util.h"

enum { FAIL, INTERRUPT, SHORTEN };
static struct {
    atomic_int armed, mode, error;
    atomic_int fail_at, n_calls; /* the call that fails, of those counted; -1 = none */
    atomic_int hit;              /* it did */
    atomic_int failed_at_folder; /* it was one that makes the folder durable, after the rename */
    atomic_int renamed, n_open;
    atomic_int disk_full;  /* every pwrite fails */
    atomic_int no_unnamed; /* O_TMPFILE is refused */
    atomic_int no_fsync;   /* it returns at once: nothing waits for a disk */
} io;

/* Before the threads that make calls. */
static void io_arm(int mode, int error, int k) {
    memset(&io, 0, sizeof io);
    io.mode = mode;
    io.error = error;
    io.fail_at = k;
    io.armed = 1;
}

static int io_hits(void) {
    if (!io.armed || io.n_calls++ != io.fail_at) return 0;
    io.hit = 1;
    io.failed_at_folder = io.renamed;
    return 1;
}
static int io_fails(void) {
    if (!io_hits() || io.mode == SHORTEN) return 0;
    errno = io.mode == INTERRUPT ? EINTR : io.error;
    return 1;
}
/* For calls that are never interrupted: counted only where they can fail. */
static int io_fails_for_good(void) { return io.mode == FAIL && io_fails(); }

/* How much of size this call does; -1 = it fails. Half of two blocks is one, as direct I/O asks. */
static ssize_t io_part(size_t size) {
    if (io.mode != SHORTEN) return io_fails() ? -1 : (ssize_t)size;
    return (ssize_t)(io_hits() && size > 1 ? size / 2 : size);
}

/* A real call that the test does not wrap is not there, and nothing calls what stands for it. */
#define REAL(type, name, ...) __attribute__((weak)) type __real_##name(__VA_ARGS__)

#define WRAP_OPEN(name)                                                                            \
    REAL(int, name, const char *, int, ...);                                                       \
    int __wrap_##name(const char *file, int flags, ...) {                                          \
        const int unnamed = (flags & O_TMPFILE) == O_TMPFILE;                                      \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        const mode_t mode = unnamed || flags & O_CREAT ? va_arg(args, mode_t) : 0;                 \
        va_end(args);                                                                              \
        if (unnamed && io.no_unnamed) {                                                            \
            errno = EOPNOTSUPP;                                                                    \
            return -1;                                                                             \
        }                                                                                          \
        if (io_fails()) return -1;                                                                 \
        const int fd = __real_##name(file, flags, mode);                                           \
        if (fd >= 0) io.n_open++;                                                                  \
        return fd;                                                                                 \
    }
WRAP_OPEN(open)
WRAP_OPEN(open64)

/* A close that fails has closed all the same, as on Linux. */
REAL(int, close, int);
int __wrap_close(int fd) {
    const int fails = io_fails(), error = errno;
    io.n_open--;
    const int result = __real_close(fd);
    if (fails) errno = error;
    return fails ? -1 : result;
}

REAL(ssize_t, write, int, const void *, size_t);
ssize_t __wrap_write(int fd, const void *data, size_t size) {
    const ssize_t part = io_part(size);
    return part < 0 ? -1 : __real_write(fd, data, (size_t)part);
}

#define WRAP_PREAD(name, offset)                                                                   \
    REAL(ssize_t, name, int, void *, size_t, offset);                                              \
    ssize_t __wrap_##name(int fd, void *data, size_t size, offset at) {                            \
        const ssize_t part = io_part(size);                                                        \
        return part < 0 ? -1 : __real_##name(fd, data, (size_t)part, at);                          \
    }
WRAP_PREAD(pread, off_t)
WRAP_PREAD(pread64, off64_t)

#define WRAP_PWRITE(name, offset)                                                                  \
    REAL(ssize_t, name, int, const void *, size_t, offset);                                        \
    ssize_t __wrap_##name(int fd, const void *data, size_t size, offset at) {                      \
        const ssize_t part = io_part(size);                                                        \
        if (part < 0) return -1;                                                                   \
        if (io.disk_full) {                                                                        \
            errno = ENOSPC;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
        return __real_##name(fd, data, (size_t)part, at);                                          \
    }
WRAP_PWRITE(pwrite, off_t)
WRAP_PWRITE(pwrite64, off64_t)

REAL(int, fsync, int);
int __wrap_fsync(int fd) { return io_fails() ? -1 : io.no_fsync ? 0 : __real_fsync(fd); }

#define WRAP_TRUNCATE(name, offset)                                                                \
    REAL(int, name, int, offset);                                                                  \
    int __wrap_##name(int fd, offset size) { return io_fails() ? -1 : __real_##name(fd, size); }
WRAP_TRUNCATE(ftruncate, off_t)
WRAP_TRUNCATE(ftruncate64, off64_t)

/* It returns its error. */
#define WRAP_ALLOCATE(name, offset)                                                                \
    REAL(int, name, int, offset, offset);                                                          \
    int __wrap_##name(int fd, offset at, offset size) {                                            \
        return io_fails() ? errno : __real_##name(fd, at, size);                                   \
    }
WRAP_ALLOCATE(posix_fallocate, off_t)
WRAP_ALLOCATE(posix_fallocate64, off64_t)

#define WRAP_FCNTL(name)                                                                           \
    REAL(int, name, int, int, ...);                                                                \
    int __wrap_##name(int fd, int command, ...) {                                                  \
        va_list args;                                                                              \
        va_start(args, command);                                                                   \
        const int value = command == F_SETFL ? va_arg(args, int) : 0;                              \
        va_end(args);                                                                              \
        return io_fails_for_good() ? -1 : __real_##name(fd, command, value);                       \
    }
WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)

REAL(int, rename, const char *, const char *);
int __wrap_rename(const char *from, const char *to) {
    if (io_fails_for_good()) return -1;
    io.renamed = 1;
    return __real_rename(from, to);
}

REAL(int, unlink, const char *);
int __wrap_unlink(const char *file) { return io_fails_for_good() ? -1 : __real_unlink(file); }

#define WRAP_FSTAT(name, type)                                                                     \
    REAL(int, name, int, type *);                                                                  \
    int __wrap_##name(int fd, type *info) {                                                        \
        return io_fails_for_good() ? -1 : __real_##name(fd, info);                                 \
    }
WRAP_FSTAT(fstat, struct stat)
WRAP_FSTAT(fstat64, struct stat64)

#define WRAP_MMAP(name, offset)                                                                    \
    REAL(void *, name, void *, size_t, int, int, int, offset);                                     \
    void *__wrap_##name(void *at, size_t size, int access, int flags, int fd, offset from) {       \
        if (fd >= 0 && io_fails_for_good()) return MAP_FAILED;                                     \
        return __real_##name(at, size, access, flags, fd, from);                                   \
    }
WRAP_MMAP(mmap, off_t)
WRAP_MMAP(mmap64, off64_t)

REAL(DIR *, opendir, const char *);
DIR *__wrap_opendir(const char *name) {
    if (io_fails_for_good()) return NULL;
    DIR *dir = __real_opendir(name);
    if (dir) io.n_open++;
    return dir;
}

REAL(int, closedir, DIR *);
int __wrap_closedir(DIR *dir) {
    io.n_open--;
    return __real_closedir(dir);
}

#define WRAP_READDIR(name, item)                                                                   \
    REAL(struct item *, name, DIR *);                                                              \
    struct item *__wrap_##name(DIR *dir) {                                                         \
        return io_fails_for_good() ? NULL : __real_##name(dir);                                    \
    }
WRAP_READDIR(readdir, dirent)
WRAP_READDIR(readdir64, dirent64)

#endif
