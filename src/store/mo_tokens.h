/* mo_tokens.h - the tokens of a training text, in one file or many, as if they lay in a row.
 *
 *   mo_tokens_desc desc = {0};
 *   desc.paths = paths;
 *   desc.n_paths = n;
 *   mo_tokens tokens;
 *   if (mo_tokens_open(&tokens, &desc) != MO_OK) return 1;
 *   status = mo_tokens_read(&tokens, at, 1024, ids);
 *   mo_tokens_close(&tokens);
 *
 * Files are read where they are, not loaded, and not mapped: a mapping of a file that another
 * program cuts short raises SIGBUS at any access, a read ends in a status. Copying a few thousand
 * tokens out of the page cache takes microseconds. */
#ifndef MEMOPT_TOKENS_H
#define MEMOPT_TOKENS_H

#include "mo_base.h"

/* mo_tokens_format
 *
 * BIN    256 int32 {magic, version, count, 0, ...}, then count tokens, little-endian: uint16 after
 *        {20240520, 1}, uint32 after {20240801, 7}
 * BYTES  any file: each byte is a token
 *
 * Source: karpathy/llm.c, dev/data/data_common.py
 * Since:  0.1 */
typedef enum mo_tokens_format {
    MO_TOKENS_BIN = 0,
    MO_TOKENS_BYTES,
    MO_TOKENS_FORMAT_COUNT
} mo_tokens_format;

/* mo_tokens_desc
 *
 * paths      [n_paths] at least one; copied
 * format     of all of them
 * allocator  for the list of files; zero = C heap
 * log        one line for each failure: file, field, value; zero = none */
typedef struct mo_tokens_desc {
    mo_allocator allocator;
    mo_log log;
    const char *const *paths;
    size_t n_paths;
    mo_tokens_format format;
} mo_tokens_desc;

/* mo_tokens - open files; owned by the caller, read only.
 *
 * n  tokens in all files together */
typedef struct mo_tokens {
    uint64_t n;
    size_t n_files;
    /* private */
    mo_allocator allocator;
    mo_log log;
    struct moi_tokens_file *files; /* [n_paths], n_files of them open */
    size_t n_paths;
} mo_tokens;

/* mo_tokens_open - open the files and check their headers. mo_tokens_close - give back all of it; a
 * zeroed or closed object is left as it is.
 *
 * tokens  out  untouched on failure
 *
 * An empty text is one of no tokens. Each file stays open, and takes a descriptor.
 *
 * Memory:  60 bytes and the path for each file
 * Threads: safe for distinct objects
 * Errors:  MO_E_INVALID (NULL, format), MO_E_NOT_FOUND, MO_E_IO (cannot be read, not a regular
 *          file), MO_E_FORMAT (another header, or another count than the file has), MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_tokens_open(mo_tokens *tokens, const mo_tokens_desc *desc);
MEMOPT_API void mo_tokens_close(mo_tokens *tokens);

/* mo_tokens_read - n tokens from number at on, which may lie in several files.
 *
 * ids  out  [n]; undefined after a failure
 *
 * Memory:  none
 * Threads: safe, where the log is
 * Errors:  MO_E_INVALID (NULL, range), MO_E_IO (also: file shorter than it was), MO_E_FORMAT (a
 *          token of 2^31 or more)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_tokens_read(
    const mo_tokens *tokens, uint64_t at, size_t n, int32_t *ids);

/* mo_tokens_max - the largest token, 0 when there is none: one less than the vocabulary needs.
 *
 * Memory:  4 KiB of stack
 * Threads: safe, where the log is
 * Errors:  as mo_tokens_read
 * Cost:    reads all files, but for bytes, which are below 256
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_tokens_max(const mo_tokens *tokens, int32_t *max);

#endif
