/* mo_safetensors.h - read safetensors files: every check of the reference implementation, then
 * entries by name, a zero-copy view, or reads into the caller's memory.
 *
 *   mo_safetensors_desc desc = {0};
 *   mo_safetensors st = {0};
 *   if (mo_safetensors_open(&st, "model.safetensors", &desc) != MO_OK) return 1;
 *   const mo_safetensors_entry *wte = mo_safetensors_find(&st, "wte.weight");
 *   if (wte) status = mo_safetensors_read(&st, wte, 0, weights, sizeof weights);
 *   mo_safetensors_close(&st);
 *
 * Tensor data is little-endian and row-major, and may be unaligned in a file that other programs
 * wrote; a big-endian host has to swap the bytes of what it reads. */
#ifndef MEMOPT_SAFETENSORS_H
#define MEMOPT_SAFETENSORS_H

#include "mo_dtype.h"
#include "mo_store_parts.h"

/* mo_safetensors_entry - one tensor.
 *
 * name        UTF-8, any characters but NUL
 * n_dims      0 for a scalar; the format knows no upper limit
 * shape       [n_dims], slowest dimension first; each at most 2^48 - 1, 0 allowed
 * begin, end  its bytes, relative to the first byte of the data; the writer computes them itself */
typedef struct mo_safetensors_entry {
    const char *name;
    mo_dtype dtype;
    size_t n_dims;
    const uint64_t *shape;
    uint64_t begin, end;
} mo_safetensors_entry;

/* One line of the file's free text, such as {"format", "pt"}. UTF-8, any characters but NUL. */
typedef struct mo_safetensors_pair {
    const char *key, *value;
} mo_safetensors_pair;

typedef struct mo_safetensors_desc {
    mo_allocator allocator; /* for the header and its index; zero = C heap */
    mo_log log;             /* one line for each failure: file, field, value; zero = none */
} mo_safetensors_desc;

/* mo_safetensors - an open file.
 *
 * entries   [n] sorted by (begin, end); they cover the data without holes or overlaps
 * metadata  [n_metadata] in the order of the file
 * data_off  where the data begins in the file; data_size is up to the end of the file
 *
 * What it points to belongs to it and is valid until mo_safetensors_close. Read only. */
typedef struct mo_safetensors {
    const mo_safetensors_entry *entries;
    const mo_safetensors_pair *metadata;
    size_t n, n_metadata;
    uint64_t data_off, data_size;
    /* private */
    mo_allocator allocator;
    mo_log log;
    mo_input input;
    char *header; /* [data_off - 8]; strings are decoded in place */
    mo_names names, keys;
    uint64_t *dims; /* [n_shape], all shapes one after the other */
    size_t n_shape;
} mo_safetensors;

/* mo_safetensors_open - check a file and read its header; the data stays on disk.
 * mo_safetensors_open_memory - the same for bytes in memory; mo_safetensors_data points into them.
 *
 * st    out  untouched on failure
 * data  in   [size], the caller's, valid until mo_safetensors_close
 * desc  NULL = all defaults; copied
 *
 * Rejected, as by the reference: a header over 100,000,000 bytes or past the end of the file; text
 * that is not UTF-8 or not JSON; holes and overlaps between tensors; sizes that overflow or do not
 * match the offsets; bytes after the last tensor. Beyond it: duplicate names and keys, unknown
 * fields, dimensions and offsets over 2^48 - 1, NUL characters in a string.
 *
 * Memory:  at most 8 times the header's bytes, and nothing in proportion to what a header claims
 * Threads: safe for distinct objects
 * Errors:  MO_E_NOT_FOUND (no such file), MO_E_IO (cannot be read, not a regular file),
 *          MO_E_FORMAT, MO_E_NO_MEMORY, MO_E_INVALID (NULL)
 * Cost:    O(header), also for one that was made to be slow: 100 MB take about half a second
 * Source:  huggingface/safetensors, tensor.rs at 24b0b28
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_safetensors_open(
    mo_safetensors *st, const char *path, const mo_safetensors_desc *desc);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_safetensors_open_memory(
    mo_safetensors *st, const void *data, size_t size, const mo_safetensors_desc *desc);

/* mo_safetensors_close - give back all of it. A zeroed or closed object is left as it is.
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API void mo_safetensors_close(mo_safetensors *st);

/* mo_safetensors_find - the entry of that name, NULL when there is none.
 * mo_safetensors_metadata - the text under that key, NULL when there is none.
 *
 * Memory:  valid until mo_safetensors_close
 * Threads: safe
 * Cost:    O(log n)
 * Since:   0.1 */
MEMOPT_API const mo_safetensors_entry *mo_safetensors_find(
    const mo_safetensors *st, const char *name);
MEMOPT_API const char *mo_safetensors_metadata(const mo_safetensors *st, const char *key);

/* mo_safetensors_data - a read-only view of the tensor's bytes, [entry->end - entry->begin].
 *
 * The first call maps the whole file. Nothing can keep another program from cutting the file short
 * while the view is in use, and touching what is gone raises SIGBUS, as with any mapping; each call
 * looks at the size, but not each touch. A file that is replaced by a rename, as the writer does,
 * stays whole. Where a file may be cut, use mo_safetensors_read or mo_safetensors_view.
 *
 * Memory:  valid until mo_safetensors_close; as aligned as the file has it
 * Threads: the first call one at a time, then safe
 * Errors:  NULL when the file cannot be mapped or has changed its size since it was opened
 * Since:   0.1 */
MEMOPT_API const void *mo_safetensors_data(mo_safetensors *st, const mo_safetensors_entry *entry);

/* mo_safetensors_read - copy size bytes of the tensor, from byte offset on, into dst.
 *
 * dst   out  [size]; undefined after a failure
 *
 * Memory:  none; the file is read without being mapped, so pages are not counted twice
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, range outside the tensor), MO_E_IO (also: file shorter than it was)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_safetensors_read(const mo_safetensors *st,
    const mo_safetensors_entry *entry, uint64_t offset, void *dst, size_t size);

/* mo_safetensors_view - the same bytes, copied only when they come from a file.
 *
 * buffer  out  [size]; not touched when the object is open on memory, and may be NULL then
 * view    out  [size] the bytes, in buffer or in the caller's memory: safe to touch either way
 *
 * Memory:  none
 * Threads: safe for distinct buffers
 * Errors:  as mo_safetensors_read
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_safetensors_view(const mo_safetensors *st,
    const mo_safetensors_entry *entry, uint64_t offset, void *buffer, size_t size,
    const void **view);

#endif
