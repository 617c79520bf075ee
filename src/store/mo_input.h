/* mo_input.h - reading a file or memory, for the implementation only. */
#ifndef MEMOPT_INPUT_H
#define MEMOPT_INPUT_H

/* Open a regular file; nothing is left behind after a failure. */
static mo_status moi_input_open(
    mo_input *in, const char *path, const mo_allocator *allocator, const mo_log *log);
static void moi_input_open_memory(mo_input *in, const void *data, size_t size);
static void moi_input_close(mo_input *in, const mo_allocator *allocator);

/* Bytes [offset, offset + size), which the caller has checked against in->size; the file is not
 * mapped for it, so one that was cut short is an error and no signal. */
static mo_status moi_input_read(
    const mo_input *in, const mo_log *log, uint64_t offset, void *dst, size_t size);

/* The same bytes where they cannot vanish: memory as it is, a file's in buffer. */
static mo_status moi_input_view(const mo_input *in, const mo_log *log, uint64_t offset,
    void *buffer, size_t size, const void **view);

/* All bytes, mapped by the first call; NULL when the file has changed its size since it was
 * opened, which every call looks for. */
static const unsigned char *moi_input_map(mo_input *in, const mo_log *log);

/* A whole file of settings: at least 1 byte, at most 16 MiB. size bytes at text, of the allocator,
 * without a 0 behind them; both untouched after a failure. */
static mo_status moi_input_text(
    const char *path, const mo_allocator *allocator, const mo_log *log, char **text, size_t *size);

#endif
