/* mo_stream.h - layers whose weights lie in a file, or in other memory, pass through a window of a
 * few bytes: the next ones are read in the background while this one computes.
 *
 *   mo_stream_source file = mo_stream_safetensors(&st);
 *   for (i = 0; i < st.n; i++) tensors[i] = mo_stream_tensor_of(file, &st.entries[i]);
 *   ... layers[k] = the tensors of layer k ...
 *   mo_stream_desc desc = {0};
 *   desc.layers = layers;
 *   desc.n_layers = n_layers;
 *   desc.limit_bytes = 64 << 20;
 *   mo_stream stream;
 *   mo_stream_layer_view layer;
 *   status = mo_stream_init(&stream, &desc);
 *   while ((status = mo_stream_next(&stream, &layer)) == MO_OK && !layer.is_end)
 *       compute(layer.index, layer.data[0], layer.data[1]);
 *   mo_stream_free(&stream);
 *
 * The order is known in advance, so what is read ahead takes the place of the layers that are
 * needed again last (Belady). Of a model that is a little larger than the window, only what does
 * not fit is read again in each pass. */
#ifndef MEMOPT_STREAM_H
#define MEMOPT_STREAM_H

#include "mo_gguf.h"
#include "mo_queue.h"
#include "mo_safetensors.h"

/* mo_stream_source - where bytes come from: a file of any format, or memory.
 *
 * read  put size bytes at offset into dst. It is called on threads of the queue, several at a time,
 *       so it must not log; a status other than MO_OK is handed on by mo_stream_next
 * self  the caller's, valid until mo_stream_free
 * name  of the file, for messages; NULL = none. Valid as long */
typedef struct mo_stream_source {
    mo_status (*read)(void *self, uint64_t offset, void *dst, size_t size);
    void *self;
    const char *name;
} mo_stream_source;

/* What becomes of a tensor on its way: nothing, or every number a float. Bytes of a file are
 * little-endian, and a big-endian host has to swap them. */
typedef enum mo_stream_decode {
    MO_STREAM_RAW = 0,
    MO_STREAM_F16, /* to float, exactly, as mo_half_decode does */
    MO_STREAM_BF16,
    MO_STREAM_F8_E4M3,
    MO_STREAM_F8_E5M2,
    MO_STREAM_DECODE_COUNT
} mo_stream_decode;

/* mo_stream_tensor - a range of a source.
 *
 * offset, bytes  in the source; 0 bytes are allowed
 * name           for messages; NULL = none */
typedef struct mo_stream_tensor {
    mo_stream_source source;
    uint64_t offset;
    size_t bytes;
    mo_stream_decode decode;
    const char *name;
} mo_stream_tensor;

/* mo_stream_layer - what is needed at the same time. */
typedef struct mo_stream_layer {
    const mo_stream_tensor *tensors; /* [n_tensors] */
    size_t n_tensors;
} mo_stream_layer;

typedef enum mo_stream_direction {
    MO_STREAM_FORWARD = 0, /* 0 .. n-1 */
    MO_STREAM_BACKWARD,    /* n-1 .. 0 */
    MO_STREAM_BOTH         /* 0 .. n-1, then n-1 .. 0: a training step that computes again */
} mo_stream_direction;

/* mo_stream_desc
 *
 * layers       [n_layers] the caller's, like the tensors valid until mo_stream_free
 * direction    the order of a pass, unless order says it
 * order        [n_order] indices of layers, any of them any number of times; copied. NULL = by
 *              direction
 * n_passes     how often the order is gone through; 0 = once, MEMOPT_STREAM_ENDLESS = without end
 * depth        layers that are read ahead; 1 is double buffering, 2 triple; 0 = 2. They are read as
 *              far ahead as the window has room
 * limit_bytes  of the window, at least those of the largest layer; 0 = those of 1 + depth such
 *              layers. A layer takes the bytes of its tensors as they are used (decoded), each
 *              rounded up to 64
 * queue        whose threads read; NULL = its own, of n_threads threads, 0 = 1
 * allocator    for the window, in one piece, and the lists; zero = C heap
 * log          one line for each failure; zero = none */
typedef struct mo_stream_desc {
    mo_allocator allocator;
    mo_log log;
    const mo_stream_layer *layers;
    size_t n_layers;
    mo_stream_direction direction;
    const size_t *order;
    size_t n_order;
    uint64_t n_passes;
    size_t depth, limit_bytes;
    mo_queue *queue;
    size_t n_threads;
} mo_stream_desc;

#define MEMOPT_STREAM_ENDLESS UINT64_MAX

/* mo_stream_layer_view - a layer that is there.
 *
 * data    [n_tensors of the layer] its tensors, each aligned to 64 bytes. Read only: a layer that
 *         stays in the window is not read again
 * index   of the layer in the desc
 * step    in the order, from 0; pass is how often the order was gone through before
 * is_end  1 when there is no further one; the rest is zero then */
typedef struct mo_stream_layer_view {
    const void *const *data;
    size_t index, step;
    uint64_t pass;
    int is_end;
} mo_stream_layer_view;

/* mo_stream_stats - since mo_stream_init.
 *
 * window_bytes    what the window takes; resident_bytes of it are held by layers that are there or
 *                 being read, at most peak_bytes so far: neither is ever above the limit
 * n_layers        views that mo_stream_next gave
 * n_reads         layers that were read for them, also ahead; the others were still in the window
 * n_stalls        views that had to be waited for, stall_s seconds in all
 * read_bytes      from the sources, in read_s seconds of all threads together; read_bytes / read_s
 *                 is the bandwidth of one thread, decoding included */
typedef struct mo_stream_stats {
    uint64_t n_layers, n_reads, n_stalls, read_bytes;
    size_t window_bytes, resident_bytes, peak_bytes;
    double stall_s, read_s;
} mo_stream_stats;

/* mo_stream - owned by the caller; private. */
typedef struct mo_stream {
    struct moi_stream *impl;
} mo_stream;

/* mo_stream_safetensors - the data of an open file, or of one in memory; offset 0 is its first
 * byte after the header. st stays open until mo_stream_free. The file is read, not mapped: one that
 * another program cuts short ends in MO_E_IO.
 * mo_stream_gguf - the same of a GGUF file.
 * mo_stream_memory - bytes in memory; offset 0 is at base.
 * mo_stream_tensor_of, mo_stream_gguf_tensor - an entry of the file that the source reads, as it is
 * there; NULL entry = no bytes.
 *
 * Memory:  none
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API mo_stream_source mo_stream_safetensors(const mo_safetensors *st);
MEMOPT_API mo_stream_source mo_stream_gguf(const mo_gguf *g);
MEMOPT_API mo_stream_source mo_stream_memory(const void *base);
MEMOPT_API mo_stream_tensor mo_stream_tensor_of(
    mo_stream_source source, const mo_safetensors_entry *entry);
MEMOPT_API mo_stream_tensor mo_stream_gguf_tensor(
    mo_stream_source source, const mo_gguf_entry *entry);

/* mo_stream_init - make the window; nothing is read yet.
 *
 * stream  out  untouched on failure
 *
 * Memory:  the window; 64 + 80 n_threads bytes a layer, 8 a tensor, 16 a step of the order
 * Threads: safe for distinct streams
 * Errors:  MO_E_INVALID (NULL; no layers; an order, direction or decode that is none; bytes that
 *          are no whole numbers to decode), MO_E_OVERFLOW, MO_E_NO_SPACE (limit_bytes is less than
 *          the largest layer), MO_E_NO_MEMORY
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_stream_init(mo_stream *stream, const mo_stream_desc *desc);

/* mo_stream_free - wait for the reads that are on their way, and give back all of it. A zeroed or
 * freed stream is left as it is. Threads: one at a time. Since: 0.1 */
MEMOPT_API void mo_stream_free(mo_stream *stream);

/* mo_stream_next - the next layer of the order, when it is there. The one before may be overwritten
 * from here on.
 *
 * view  out  valid until the next call; untouched on failure
 *
 * After a failure the same layer is next: a further call reads it again.
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  those of the source's read: MO_E_IO for a file
 * Cost:    O(layers in the window) for each one that is evicted
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_stream_next(mo_stream *stream, mo_stream_layer_view *view);

/* mo_stream_restart - begin again with the first pass; what is in the window is used.
 * mo_stream_get_stats - what has been done so far.
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API void mo_stream_restart(mo_stream *stream);
MEMOPT_API mo_stream_stats mo_stream_get_stats(const mo_stream *stream);

#endif
