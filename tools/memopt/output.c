// output.c - files that appear whole or not at all; text.
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bytes_text text_bytes(uint64_t bytes) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double x = (double)bytes / 1024;
    int unit = 0;
    bytes_text t;
    for (; x >= 1024 && unit < 5; unit++) x /= 1024;
    if (bytes < 1024) snprintf(t.text, sizeof t.text, "%u B", (unsigned)bytes);
    else snprintf(t.text, sizeof t.text, "%.1f %s", x, units[unit]);
    return t;
}

bytes_text text_size(uint64_t bytes) {
    bytes_text t;
    snprintf(t.text, sizeof t.text, "%llu bytes (%.24s)", (unsigned long long)bytes,
        text_bytes(bytes).text);
    return t;
}

// Bytes of the UTF-8 character at text; 0 = it is none.
static size_t utf8_size(const unsigned char *text) {
    const unsigned char c = *text;
    const size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    if ((c == 0xe0 && text[1] < 0xa0) || (c == 0xed && text[1] > 0x9f) ||
        (c == 0xf0 && text[1] < 0x90) || (c == 0xf4 && text[1] > 0x8f))
        return 0;
    return n;
}

void json_string(FILE *out, const char *text) {
    fputc('"', out);
    for (size_t n; *text; text += n ? n : 1) {
        const unsigned char c = (unsigned char)*text;
        n = utf8_size((const unsigned char *)text);
        if (c == '"' || c == '\\') fprintf(out, "\\%c", c);
        else if (c < 32 || c == 127) fprintf(out, "\\u%04x", c);
        else if (n) fwrite(text, 1, n, out);
        else fputs("\\ufffd", out);
    }
    fputc('"', out);
}

void json_after(const char *before, const char *text) {
    fputs(before, stdout);
    json_string(stdout, text);
}

const char *plural(size_t n) { return n == 1 ? "" : "s"; }

void print_name(FILE *out, const char *text, int width) {
    for (; *text; text++, width--) {
        const unsigned char c = (unsigned char)*text;
        fputc(c < 32 || c == 127 ? '?' : c, out);
    }
    for (; width > 0; width--) fputc(' ', out);
}

bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

size_t folder_size(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

char *path_in(const char *path, size_t n, const char *name) {
    char *text = allocate(n + strlen(name) + 2, 1);
    memcpy(text, path, n);
    if (n && text[n - 1] != '/') text[n++] = '/';
    strcpy(text + n, name);
    return text;
}

void flush_stdout(void) {
    if (fflush(stdout) != 0 || ferror(stdout))
        fail(EXIT_NO, "standard output: %s", strerror(errno));
}

static bool is_stdout(const char *path) { return strcmp(path, "-") == 0; }

// What is neither a regular file nor nothing.
static bool is_special(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && !S_ISREG(info.st_mode);
}

int write_all(int file, const char *data, size_t size) {
    while (size != 0) {
        const ssize_t n = write(file, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? errno : EIO;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

// The new file lies beside the target, which is what path stands for when it is a link.
int fresh_open(fresh *f, const char *path) {
    struct stat info;
    char *real = realpath(path, NULL);
    const mode_t mode = stat(path, &info) == 0 ? info.st_mode & 0777 : 0666;
    const size_t room = strlen(real ? real : path) + 32;
    f->target = allocate(room, 1);
    f->temp = allocate(room, 1);
    strcpy(f->target, real ? real : path);
    free(real);
    f->file = -1;
    for (unsigned i = 0; f->file < 0 && i < 100; i++) {
        snprintf(f->temp, room, "%s.tmp%lu.%u", f->target, (unsigned long)getpid() % 1000000, i);
        f->file = open(f->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (f->file < 0 && errno != EEXIST) break;
    }
    return f->file < 0 ? errno : 0;
}

// Moves it to its place unless there was an error.
int fresh_close(fresh *f, int error) {
    if (f->file >= 0) {
        if (error == 0 && fsync(f->file) != 0) error = errno;
        if (close(f->file) != 0 && error == 0) error = errno;
        if (error == 0 && rename(f->temp, f->target) != 0) error = errno;
        if (error != 0) unlink(f->temp);
    }
    free(f->temp);
    free(f->target);
    return error;
}

static int write_path(const char *path, const char *data, size_t size) {
    if (is_stdout(path)) return write_all(STDOUT_FILENO, data, size);
    if (is_special(path)) {
        const int file = open(path, O_WRONLY | O_CLOEXEC);
        if (file < 0) return errno;
        const int error = write_all(file, data, size);
        return close(file) != 0 && error == 0 ? errno : error;
    }
    fresh f;
    int error = fresh_open(&f, path);
    if (error == 0) error = write_all(f.file, data, size);
    return fresh_close(&f, error);
}

void output_check(const char *path) {
    if (is_stdout(path)) return;
    fresh f;
    int error = 0;
    if (is_special(path)) {
        const int file = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
        error = file < 0 ? errno : 0;
        if (error == ENXIO) return; // a pipe that nobody reads yet
        if (file >= 0) close(file);
    } else {
        error = fresh_open(&f, path);
        if (error == 0) unlink(f.temp), close(f.file), f.file = -1;
        error = fresh_close(&f, error);
    }
    if (error != 0) fail(EXIT_NO, "%s: %s", path, strerror(error));
}

void text_begin(text_stream *t) {
    *t = (text_stream){0};
    t->file = open_memstream(&t->data, &t->size);
    if (!t->file) fail(EXIT_NO, "out of memory");
}

char *text_end(text_stream *t) {
    const bool is_whole = !ferror(t->file);
    if (fclose(t->file) != 0 || !is_whole) fail(EXIT_NO, "out of memory");
    return t->data;
}

void output_open(output *o, const char *path) {
    *o = (output){.path = path};
    text_begin(&o->text);
    o->file = o->text.file;
}

static int write_text(void *self, const char *text, size_t size) {
    return fwrite(text, 1, size, ((output *)self)->file) != size;
}

mo_writer output_writer(output *o) { return (mo_writer){write_text, o}; }

void output_close(output *o) {
    text_end(&o->text);
    const int error = write_path(o->path, o->text.data, o->text.size);
    free(o->text.data);
    if (error != 0)
        fail(EXIT_NO, "%s: %s", is_stdout(o->path) ? "standard output" : o->path, strerror(error));
}
