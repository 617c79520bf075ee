/* mo_gguf_writer.h - write a GGUF file, version 3, as a stream, all of it or nothing.
 *
 *   mo_gguf_writer w = {0};
 *   status = mo_gguf_create(&w, "model.gguf", entries, n, &desc);
 *   for (i = 0; status == MO_OK && i < n; i++) status = mo_gguf_write(&w, data[i], size[i]);
 *   if (status == MO_OK) status = mo_gguf_commit(&w);
 *   mo_gguf_discard(&w);
 *
 * The bytes go to a temporary file beside the target, which replaces it on commit: until then, and
 * after any failure, what was at path is there, byte for byte. */
#ifndef MEMOPT_GGUF_WRITER_H
#define MEMOPT_GGUF_WRITER_H

#include "mo_gguf.h"

/* mo_gguf_writer_desc
 *
 * metadata    [n_metadata] keys unique; a u32 "general.alignment" among them sets the alignment of
 *             the data, else it is 32
 * big_endian  of the whole file; 0 = little-endian
 * long_names  0 = names of 64 bytes and more are refused, as ggml does; else of more than 65536 */
typedef struct mo_gguf_writer_desc {
    mo_allocator allocator; /* for paths, sizes and the check of the names; zero = C heap */
    mo_log log;             /* one line for each failure; zero = none */
    const mo_gguf_pair *metadata;
    size_t n_metadata;
    int big_endian, long_names;
} mo_gguf_writer_desc;

/* mo_gguf_writer - a file that is being written.
 *
 * data_size, data_written  bytes of all tensors without the padding between them, and how many of
 *                          them have been written so far */
typedef struct mo_gguf_writer {
    uint64_t data_size, data_written;
    /* private */
    uint64_t *ends; /* [n] what data_written is behind each tensor */
    size_t n, at;   /* tensor at is being written */
    uint32_t alignment;
    mo_output output;
} mo_gguf_writer;

/* mo_gguf_create - start a file: check entries and metadata and write the header.
 *
 * w        out  untouched on failure
 * path     a new name, a regular file, or a symbolic link to one, which stays a link; anything else
 *          (device, directory, pipe) is refused
 * entries  in   [n] name, type and shape; begin and end are not read: the tensors lie one after the
 *               other in this order, each aligned
 * desc     NULL = all defaults; copied
 *
 * Memory:  O(n) during the call; until the end 8 n bytes and the paths
 * Threads: safe for distinct objects
 * Errors:  MO_E_INVALID (NULL; a name or key that is used twice, not UTF-8, too long or an empty
 *          key; an unknown type or kind, a value that its kind cannot hold; more than 4 dimensions;
 *          rows that are not whole blocks; sizes that overflow; a header over 256 MiB),
 *          MO_E_NOT_FOUND (no such directory), MO_E_IO, MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gguf_create(mo_gguf_writer *w, const char *path,
    const mo_gguf_entry *entries, size_t n, const mo_gguf_writer_desc *desc);

/* mo_gguf_write - append the next bytes of the tensors, as the file has them (mo_gguf_encode), in
 * any chunks; the padding between tensors is added.
 *
 * Each call is one write to the file or more: small chunks are slow. A failure discards the file.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (more bytes than the entries have), MO_E_IO, MO_E_STATE (not created)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gguf_write(
    mo_gguf_writer *w, const void *data, size_t size);

/* mo_gguf_commit - make the file durable (fsync) and put it at its path.
 *
 * Success or failure, the writer is free afterwards. MO_OK: the new file is in place; if only the
 * directory could not be made durable, the log says so. Any other status: the old file is.
 *
 * Threads: one at a time
 * Errors:  MO_E_STATE (not created, or bytes are missing), MO_E_IO
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gguf_commit(mo_gguf_writer *w);

/* mo_gguf_discard - remove the temporary file; nothing after commit or failure.
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API void mo_gguf_discard(mo_gguf_writer *w);

#endif
