/* mo_safetensors_shards.h - a model in several safetensors files and an index of them, named as
 * Hugging Face does: model-00001-of-00003.safetensors, model.safetensors.index.json.
 *
 *   mo_safetensors_shards s = {0};
 *   if (mo_safetensors_shards_open(&s, "model.safetensors.index.json", NULL) != MO_OK) return 1;
 *   const mo_safetensors_shards_entry *e = mo_safetensors_shards_find(&s, "wte.weight");
 *   if (e) status = mo_safetensors_read(&s.shards[e->shard], e->entry, 0, weights, bytes);
 *   mo_safetensors_shards_close(&s); */
#ifndef MEMOPT_SAFETENSORS_SHARDS_H
#define MEMOPT_SAFETENSORS_SHARDS_H

#include "mo_safetensors_writer.h"

/* mo_safetensors_shards_entry - one tensor: entry of shards[shard]. */
typedef struct mo_safetensors_shards_entry {
    const char *name;
    size_t shard;
    const mo_safetensors_entry *entry;
} mo_safetensors_shards_entry;

/* mo_safetensors_shards - an open index, with all of its files.
 *
 * entries     [n] in the order of the index
 * shards      [n_shards] in the order in which the index names them first
 * files       [n_shards] their names in the folder of the index
 * total_size  bytes of all tensors
 *
 * What it points to belongs to it and is valid until mo_safetensors_shards_close. Read only, but
 * that mo_safetensors_data maps a shard. */
typedef struct mo_safetensors_shards {
    const mo_safetensors_shards_entry *entries;
    mo_safetensors *shards;
    const char **files;
    size_t n, n_shards;
    uint64_t total_size;
    /* private */
    mo_allocator allocator;
    mo_log log;
    mo_input input;
    char *text; /* [text_size] the index; strings are decoded in place */
    size_t text_size, shards_size;
    mo_names names;
} mo_safetensors_shards;

/* mo_safetensors_shards_open - read an index, and open the files beside it that it names.
 *
 * s     out  untouched on failure
 * desc  NULL = all defaults; copied
 *
 * Rejected: an index over 100,000,000 bytes or that is not the JSON object {"metadata": {...},
 * "weight_map": {name: file}}; other fields are skipped. A name that is there twice; a file that is
 * not a plain name in the same folder; a shard that mo_safetensors_open rejects; a name that its
 * shard does not have, a tensor of a shard that the index does not name for it; a
 * metadata.total_size that is not the sum of the tensors' bytes. Shards that cannot be opened are
 * each named in the log, the first 100 of them; the status is that of the first.
 *
 * Memory:  at most 8 times the bytes of the index and of all headers; one open file per shard
 * Threads: safe for distinct objects
 * Errors:  MO_E_NOT_FOUND (the index or a shard is missing), MO_E_IO, MO_E_FORMAT, MO_E_NO_MEMORY,
 *          MO_E_INVALID (NULL)
 * Source:  huggingface/transformers, modeling_utils.py
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_safetensors_shards_open(
    mo_safetensors_shards *s, const char *path, const mo_safetensors_desc *desc);

/* mo_safetensors_shards_close - give back all of it. A zeroed or closed object is left as it is.
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API void mo_safetensors_shards_close(mo_safetensors_shards *s);

/* mo_safetensors_shards_find - the entry of that name, NULL when there is none.
 *
 * Threads: safe
 * Cost:    O(log n)
 * Since:   0.1 */
MEMOPT_API const mo_safetensors_shards_entry *mo_safetensors_shards_find(
    const mo_safetensors_shards *s, const char *name);

/* mo_safetensors_shards_desc - how to split.
 *
 * max_shard_bytes  tensors of a file, in bytes; a larger tensor has a file of its own;
 *                  0 = 5,000,000,000 */
typedef struct mo_safetensors_shards_desc {
    mo_allocator allocator;              /* for paths, entries and writers; zero = C heap */
    mo_log log;                          /* one line for each failure; zero = none */
    const mo_safetensors_pair *metadata; /* [n_metadata] of every shard */
    size_t n_metadata;
    uint64_t max_shard_bytes;
} mo_safetensors_shards_desc;

/* mo_safetensors_shards_writer - a sharded model that is being written.
 *
 * n_shards  files that it has; 1: one file at path, without an index */
typedef struct mo_safetensors_shards_writer {
    size_t n_shards;
    /* private */
    mo_allocator allocator;
    mo_log log;
    const mo_safetensors_pair *metadata;
    size_t n_metadata;
    const mo_safetensors_entry *entries; /* [n], the caller's */
    size_t n, at;                        /* shard at is being written */
    uint64_t total_size;
    size_t *first; /* [n_shards + 1] the first entry of each shard */
    char *path;    /* [path_size] what the caller named, then room for the name of a shard */
    size_t path_size;
    mo_safetensors_writer *writers; /* [n_shards] */
} mo_safetensors_shards_writer;

/* mo_safetensors_shards_create - split tensors over files, in their order, and start the first.
 *
 * w         out  untouched on failure
 * path      FOLDER/NAME.safetensors: the files are FOLDER/NAME-00001-of-0000N.safetensors and
 *           FOLDER/NAME.safetensors.index.json; or path itself when all fits into one
 * entries   in   [n] as for mo_safetensors_create; kept, with its names and shapes, until the end
 * desc      NULL = all defaults; metadata is kept until the end
 *
 * Memory:  O(n) during the call; until the end 8 bytes and a writer for each shard
 * Threads: safe for distinct objects
 * Errors:  as mo_safetensors_create; MO_E_INVALID (also: path does not end in .safetensors; a name
 *          is there twice; over 99999 shards)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_safetensors_shards_create(mo_safetensors_shards_writer *w,
    const char *path, const mo_safetensors_entry *entries, size_t n,
    const mo_safetensors_shards_desc *desc);

/* mo_safetensors_shards_write - append the next bytes of the tensors, in any chunks, also across
 * files. A failure discards all of them.
 *
 * Threads: one at a time
 * Errors:  as mo_safetensors_write and mo_safetensors_create
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_safetensors_shards_write(
    mo_safetensors_shards_writer *w, const void *data, size_t size);

/* mo_safetensors_shards_commit - put all files at their paths, the index last.
 *
 * All shards are complete and durable under temporary names before the first one is renamed.
 * Several files cannot be replaced at once: an index that is there is removed before, so that a
 * crash in between leaves none, and never one that names shards of two models. Files of an earlier
 * model under other names stay. Success or failure, the writer is free afterwards.
 *
 * Threads: one at a time
 * Errors:  MO_E_STATE (not created, or bytes are missing), MO_E_IO, MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_safetensors_shards_commit(mo_safetensors_shards_writer *w);

/* mo_safetensors_shards_discard - remove the temporary files; nothing after commit or failure.
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API void mo_safetensors_shards_discard(mo_safetensors_shards_writer *w);

#endif
