/* mo_safetensors_writer.h - write a safetensors file as a stream, all of it or nothing.
 *
 *   mo_safetensors_writer w = {0};
 *   status = mo_safetensors_create(&w, "model.safetensors", entries, n, &desc);
 *   for (i = 0; status == MO_OK && i < n; i++) status = mo_safetensors_write(&w, data[i], size[i]);
 *   if (status == MO_OK) status = mo_safetensors_commit(&w);
 *   mo_safetensors_discard(&w);
 *
 * The bytes go to a temporary file beside the target, which replaces it on commit: until then, and
 * after any failure, what was at path is there, byte for byte. */
#ifndef MEMOPT_SAFETENSORS_WRITER_H
#define MEMOPT_SAFETENSORS_WRITER_H

#include "mo_safetensors.h"

typedef struct mo_safetensors_writer_desc {
    mo_allocator allocator;              /* for paths and the check of the names; zero = C heap */
    mo_log log;                          /* one line for each failure; zero = none */
    const mo_safetensors_pair *metadata; /* [n_metadata] keys unique; {"format", "pt"} for HF */
    size_t n_metadata;                   /* 0 = the file has no __metadata__ */
} mo_safetensors_writer_desc;

/* mo_safetensors_writer - a file that is being written.
 *
 * data_size, data_written  bytes of all tensors, and how many of them have been written so far */
typedef struct mo_safetensors_writer {
    uint64_t data_size, data_written;
    /* private */
    uint64_t header_size; /* with the 8 bytes in front */
    mo_output output;
} mo_safetensors_writer;

/* mo_safetensors_create - start a file: check the entries and write the header.
 *
 * w        out  untouched on failure
 * path     a new name, a regular file, or a symbolic link to one, which stays a link; anything else
 *          (device, directory, pipe) is refused
 * entries  in   [n] name, dtype and shape; begin and end are not read: the tensors lie one after
 *               the other in this order. Descending element size keeps all of them aligned. The
 *               data itself begins on a multiple of 8 bytes.
 * desc     NULL = all defaults; copied
 *
 * Memory:  O(n) during the call; until the end only the paths
 * Threads: safe for distinct objects
 * Errors:  MO_E_INVALID (NULL; a name that is used twice, not UTF-8 or "__metadata__"; a dimension
 *          or sum over 2^48 - 1; a tensor of 4 or 6 bit elements that ends inside a byte; a header
 *          over 100,000,000 bytes), MO_E_NOT_FOUND (no such directory), MO_E_IO, MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_safetensors_create(mo_safetensors_writer *w,
    const char *path, const mo_safetensors_entry *entries, size_t n,
    const mo_safetensors_writer_desc *desc);

/* mo_safetensors_write - append the next bytes of the tensors, little-endian, in any chunks.
 *
 * Each call is one write to the file: small chunks are slow. A failure discards the file.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (more bytes than the entries have), MO_E_IO, MO_E_STATE (not created)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_safetensors_write(
    mo_safetensors_writer *w, const void *data, size_t size);

/* mo_safetensors_write_f32 - append numbers that become fewer bytes on the way out.
 *
 * dtype  of the file: F32, F16, BF16, F8_E4M3 or F8_E5M2, to nearest even; what is too large
 *        becomes infinity (NaN in F8_E4M3)
 * x      in  [n]
 *
 * Memory:  8 KiB on the stack, however many numbers
 * Threads: one at a time
 * Errors:  MO_E_UNSUPPORTED (dtype; nothing is written), those of mo_safetensors_write
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_safetensors_write_f32(
    mo_safetensors_writer *w, mo_dtype dtype, const float *x, size_t n);

/* mo_safetensors_commit - make the file durable (fsync) and put it at its path.
 *
 * Success or failure, the writer is free afterwards. MO_OK: the new file is in place; if only the
 * directory could not be made durable, the log says so. Any other status: the old file is.
 *
 * Threads: one at a time
 * Errors:  MO_E_STATE (not created, or bytes are missing), MO_E_IO
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_safetensors_commit(mo_safetensors_writer *w);

/* mo_safetensors_discard - remove the temporary file; nothing after commit or failure.
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API void mo_safetensors_discard(mo_safetensors_writer *w);

#endif
