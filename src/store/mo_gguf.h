/* mo_gguf.h - read GGUF files, versions 2 and 3, of either byte order: every check of ggml's
 * reader, then tensors and metadata by name, a zero-copy view, or reads into the caller's memory.
 *
 *   mo_gguf g = {0};
 *   if (mo_gguf_open(&g, "model.gguf", NULL) != MO_OK) return 1;
 *   const mo_gguf_entry *e = mo_gguf_find(&g, "token_embd.weight");
 *   if (e) status = mo_gguf_read_f32(&g, e, 0, n, weights);
 *   mo_gguf_close(&g); */
#ifndef MEMOPT_GGUF_H
#define MEMOPT_GGUF_H

#include "mo_gguf_type.h"
#include "mo_store_parts.h"

enum { MO_GGUF_DIMS = 4 };

/* mo_gguf_entry - one tensor.
 *
 * name        UTF-8, any characters but NUL
 * n_dims      0..4; 0 for a scalar, though most writers store one as [1]
 * shape       the FASTEST dimension first, so in the reverse of safetensors' and PyTorch's order;
 *             1 beyond n_dims
 * begin, end  its bytes, relative to the first byte of the data; the writer computes them itself */
typedef struct mo_gguf_entry {
    const char *name;
    mo_gguf_type type;
    size_t n_dims;
    uint64_t shape[MO_GGUF_DIMS];
    uint64_t begin, end;
} mo_gguf_entry;

/* What a value of the metadata is, or an element of an array: the file's numbers. */
typedef enum mo_gguf_kind {
    MO_GGUF_KIND_U8 = 0,
    MO_GGUF_KIND_I8 = 1,
    MO_GGUF_KIND_U16 = 2,
    MO_GGUF_KIND_I16 = 3,
    MO_GGUF_KIND_U32 = 4,
    MO_GGUF_KIND_I32 = 5,
    MO_GGUF_KIND_F32 = 6,
    MO_GGUF_KIND_BOOL = 7,
    MO_GGUF_KIND_STRING = 8,
    MO_GGUF_KIND_U64 = 10,
    MO_GGUF_KIND_I64 = 11,
    MO_GGUF_KIND_F64 = 12,
    MO_GGUF_KIND_COUNT = 13
} mo_gguf_kind;

/* mo_gguf_kind_name - "u8", "string", ...; "?" for a number that is no kind.
 * mo_gguf_kind_bytes - bytes of a number of that kind; 0 for strings and what is no kind.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API const char *mo_gguf_kind_name(mo_gguf_kind kind);
MEMOPT_API size_t mo_gguf_kind_bytes(mo_gguf_kind kind);

/* A string of the metadata: any bytes, for vocabularies hold parts of characters. A NUL follows
 * them. */
typedef struct mo_gguf_text {
    const char *text;
    size_t size;
} mo_gguf_text;

/* mo_gguf_pair - one key of the metadata; the reader's, and what the writer takes.
 *
 * key       UTF-8, at most 65535 bytes, such as "llama.context_length"
 * kind      of the value or of the elements
 * is_array  0: one value, in u64, i64, f64 or strings[0]
 * n         elements; 1 when it is no array
 * u64       U8, U16, U32, U64, BOOL (0 or 1)
 * i64       I8, I16, I32, I64
 * f64       F32, F64
 * strings   [n] of kind STRING, else NULL
 * data      [n] an array of numbers, of the kind's size, in the byte order of this host, aligned;
 *           BOOL takes one byte. Else NULL */
typedef struct mo_gguf_pair {
    const char *key;
    mo_gguf_kind kind;
    int is_array;
    size_t n;
    uint64_t u64;
    int64_t i64;
    double f64;
    const mo_gguf_text *strings;
    const void *data;
} mo_gguf_pair;

/* mo_gguf_desc
 *
 * max_header_bytes  what stands before the data: a file that has more there is rejected before
 *                   anything is allocated for it; 0 = 256 MiB
 * long_names        0 = names of 64 bytes and more are rejected, as by ggml; else of more than
 *                   65536 */
typedef struct mo_gguf_desc {
    mo_allocator allocator; /* for the header and its index; zero = C heap */
    mo_log log;             /* one line for each failure: file, field, value; zero = none */
    uint64_t max_header_bytes;
    int long_names;
} mo_gguf_desc;

/* mo_gguf - an open file.
 *
 * entries     [n] in the order of the file, which is that of their data
 * metadata    [n_metadata] in the order of the file
 * version     2 or 3
 * alignment   of the tensors in the data; a power of two
 * big_endian  of the tensors' bytes; the metadata is in the order of this host
 * data_off    where the data begins in the file; data_size is up to the end of the file
 *
 * What it points to belongs to it and is valid until mo_gguf_close. Read only. */
typedef struct mo_gguf {
    const mo_gguf_entry *entries;
    const mo_gguf_pair *metadata;
    size_t n, n_metadata;
    uint32_t version, alignment;
    int big_endian;
    uint64_t data_off, data_size;
    /* private */
    mo_allocator allocator;
    mo_log log;
    mo_input input;
    uint64_t max_header_bytes, max_name_bytes;
    size_t header_size, n_strings;
    char *header;          /* [header_size]; strings and arrays are moved and swapped in place */
    mo_gguf_text *strings; /* [n_strings] */
    mo_names names, keys;
} mo_gguf;

/* mo_gguf_open - check a file and read its header; the data stays on disk.
 * mo_gguf_open_memory - the same for bytes in memory; mo_gguf_data points into them.
 *
 * g     out  untouched on failure
 * data  in   [size], the caller's, valid until mo_gguf_close
 * desc  NULL = all defaults; copied
 *
 * Rejected, as by ggml: another magic or version; counts, strings and arrays past the end of the
 * file; empty keys; names and keys that are there twice; arrays of arrays and unknown kinds; an
 * alignment that is no power of two; more than 4 dimensions; sizes that overflow; unknown types;
 * rows that are not whole blocks; offsets that do not follow each other; tensors past the end of
 * the file. Beyond it: names and keys that are not UTF-8 or hold a NUL, keys over 65535 bytes,
 * booleans that are neither 0 nor 1. What follows the last tensor is not looked at.
 *
 * Memory:  at most 8 times the header's bytes, once all but names has been checked without any; and
 *          nothing in proportion to what a header claims
 * Threads: safe for distinct objects
 * Errors:  MO_E_NOT_FOUND (no such file), MO_E_IO (cannot be read, not a regular file),
 *          MO_E_FORMAT, MO_E_NO_MEMORY, MO_E_INVALID (NULL)
 * Cost:    O(header)
 * Source:  ggml-org/ggml, gguf.cpp and docs/gguf.md at d99724f2
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gguf_open(
    mo_gguf *g, const char *path, const mo_gguf_desc *desc);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gguf_open_memory(
    mo_gguf *g, const void *data, size_t size, const mo_gguf_desc *desc);

/* mo_gguf_close - give back all of it. A zeroed or closed object is left as it is.
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API void mo_gguf_close(mo_gguf *g);

/* mo_gguf_find - the entry of that name, NULL when there is none.
 * mo_gguf_find_key - the pair of that key, NULL when there is none.
 * mo_gguf_string - the text under that key, NULL when there is none or it is no string.
 *
 * Memory:  valid until mo_gguf_close
 * Threads: safe
 * Cost:    O(log n)
 * Since:   0.1 */
MEMOPT_API const mo_gguf_entry *mo_gguf_find(const mo_gguf *g, const char *name);
MEMOPT_API const mo_gguf_pair *mo_gguf_find_key(const mo_gguf *g, const char *key);
MEMOPT_API const char *mo_gguf_string(const mo_gguf *g, const char *key);

/* mo_gguf_u64 - the integer or boolean under that key, whatever its width.
 * mo_gguf_f64 - the number under that key, whatever its kind.
 *
 * value  out  untouched on failure
 *
 * Threads: safe
 * Errors:  MO_E_NOT_FOUND (no such key), MO_E_FORMAT (another kind, an array, a negative integer;
 *          the log names it), MO_E_INVALID (NULL)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gguf_u64(
    const mo_gguf *g, const char *key, uint64_t *value);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gguf_f64(const mo_gguf *g, const char *key, double *value);

/* mo_gguf_elements - numbers in a tensor. Threads: safe. Since: 0.1 */
MEMOPT_API uint64_t mo_gguf_elements(const mo_gguf_entry *entry);

/* mo_gguf_data - a read-only view of the tensor's bytes, [entry->end - entry->begin].
 *
 * As mo_safetensors_data: it maps the file, each call looks whether it still has its size, and
 * nothing guards a touch after another program has cut it (SIGBUS). mo_gguf_read and mo_gguf_view
 * do not have that risk.
 *
 * Memory:  valid until mo_gguf_close; aligned to g->alignment or to a page, whichever is less
 * Threads: the first call one at a time, then safe
 * Errors:  NULL when the file cannot be mapped or has changed its size since it was opened
 * Since:   0.1 */
MEMOPT_API const void *mo_gguf_data(mo_gguf *g, const mo_gguf_entry *entry);

/* mo_gguf_read - copy size bytes of the tensor, from byte offset on, into dst.
 * mo_gguf_view - the same bytes, copied into buffer only when they come from a file.
 *
 * dst     out  [size]; undefined after a failure
 * buffer  out  [size]; not touched when the object is open on memory, and may be NULL then
 * view    out  [size] the bytes, in buffer or in the caller's memory: safe to touch either way
 *
 * Memory:  none; the file is read without being mapped, so pages are not counted twice
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, range outside the tensor), MO_E_IO (also: file shorter than it was)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gguf_read(
    const mo_gguf *g, const mo_gguf_entry *entry, uint64_t offset, void *dst, size_t size);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gguf_view(const mo_gguf *g, const mo_gguf_entry *entry,
    uint64_t offset, void *buffer, size_t size, const void **view);

/* mo_gguf_read_f32 - elements first .. first + n - 1 of the tensor as floats (mo_gguf_decode), read
 * and decoded in parts.
 *
 * dst  out  [n]; undefined after a failure
 *
 * first and n are multiples of the type's block.
 *
 * Memory:  18 KiB of stack
 * Threads: safe for distinct outputs
 * Errors:  as mo_gguf_read; MO_E_UNSUPPORTED (no F32, F16, BF16, Q8_0 or Q4_0)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gguf_read_f32(
    const mo_gguf *g, const mo_gguf_entry *entry, uint64_t first, size_t n, float *dst);

#endif
