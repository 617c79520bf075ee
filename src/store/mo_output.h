/* mo_output.h - replacing a file as a whole, for the implementation only.
 *
 *   create, write ..., commit    or, for several files that belong together,
 *   create, write ..., seal      each of them, then
 *   publish                      each of them
 *
 * Until a file is published, and after any failure, what was at its path is there. A call that
 * fails has said why, removed the temporary file, and left the output zeroed. */
#ifndef MEMOPT_OUTPUT_H
#define MEMOPT_OUTPUT_H

/* allocator and log are the caller's to set before; size is for messages. */
static mo_status moi_output_create(mo_output *out, const char *path, uint64_t size);
static mo_status moi_output_write(mo_output *out, const void *data, size_t size);

/* Make the bytes durable and close the file. */
static mo_status moi_output_seal(mo_output *out);

/* Put a sealed file at its path; folder: and make that name durable, or warn. */
static mo_status moi_output_publish(mo_output *out, int folder);
static mo_status moi_output_commit(mo_output *out);

/* Remove the temporary file; nothing when there is none. */
static void moi_output_discard(mo_output *out);

/* moi_sink - small pieces on their way to an output; only counted while it has none. The first
 * failure stays in status, with the output zeroed. */
typedef struct moi_sink {
    mo_output *out;
    uint64_t size; /* bytes put so far */
    mo_status status;
    size_t n;
    char buffer[4096];
} moi_sink;

static void moi_sink_begin(moi_sink *sink, mo_output *out);
static void moi_sink_put(moi_sink *sink, const void *data, size_t size);
static void moi_sink_text(moi_sink *sink, const char *text);

/* A JSON string with its quotes; decimal digits. */
static void moi_sink_json(moi_sink *sink, const char *text);
static void moi_sink_u64(moi_sink *sink, uint64_t number);

static void moi_sink_fill(moi_sink *sink, char with, uint64_t n);
static mo_status moi_sink_end(moi_sink *sink);

#endif
