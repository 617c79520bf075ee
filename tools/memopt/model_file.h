// model_file.h - files of tensors behind one interface: safetensors, GGUF, and the
// checkpoints of llm.c.
#ifndef MODEL_FILE_H
#define MODEL_FILE_H

#include "cli.h"

typedef enum model_format { MODEL_SAFETENSORS, MODEL_GGUF, MODEL_LLMC } model_format;

// What a tensor consists of: block elements in block_bytes bytes, 1 of 4 for F32.
typedef struct model_type {
    const char *name;
    mo_dtype dtype; // MO_DTYPE_COUNT: none of safetensors' types
    unsigned block, block_bytes;
    mo_gguf_type gguf; // MO_GGUF_TYPE_COUNT: none of GGUF's
} model_type;

typedef struct model_tensor {
    const char *name;
    model_type type;
    size_t n_dims;
    const uint64_t *shape; // slowest dimension first
    uint64_t n, bytes;     // elements, bytes
    bool is_transposed;    // a matrix that Hugging Face's files hold the other way
    // private to the format
    uint64_t at;
    const mo_safetensors_entry *entry;
} model_tensor;

typedef struct model_file {
    const char *path;
    model_format format;
    const model_tensor *tensors;
    size_t n;
    uint64_t bytes; // of all tensors
    const mo_safetensors_pair *metadata;
    size_t n_metadata;
    // private
    mo_safetensors st;
    struct llmc *llmc;
    struct gguf_file *gguf;
    model_tensor *owned;
} model_file;

const char *model_format_name(model_format format);
model_type model_type_of(mo_dtype dtype);
model_type model_type_of_gguf(mo_gguf_type type);
bool model_is_float(const model_type *type); // model_read_f32 and model_encode know it
uint64_t model_bytes_of(const model_type *type, uint64_t n); // n a multiple of the block

// Reads and checks the header; what is wrong goes to the log in one line. model_open fails the
// program instead.
mo_status model_try_open(model_file *m, const char *path, const mo_log *log);
void model_open(model_file *m, const char *path);
void model_close(model_file *m);
const model_tensor *model_find(const model_file *m, const char *name); // NULL = there is none

// Elements first .. first + n - 1, multiples of the block, as this machine stores numbers.
mo_status model_try_read(
    const model_file *m, const model_tensor *t, uint64_t first, size_t n, void *to);
void model_read(const model_file *m, const model_tensor *t, uint64_t first, size_t n, void *to);

// Elements in one piece of a stream. A multiple of every block, and small enough to count in 32
// bits.
enum { MODEL_PIECE = 1 << 19 };

// The elements of a floating-point tensor as float, and back. raw [MODEL_PIECE * 8] is scratch.
void model_read_f32(
    const model_file *m, const model_tensor *t, uint64_t first, size_t n, void *raw, float *to);
void model_encode(const model_type *type, const float *from, size_t n, bool is_saturated, void *to);

// Metadata for a new file: that of the old one, and the format that Hugging Face's loaders want.
// room: how many lines pairs_set may add. items is to be freed, the texts belong to others. Lines
// that come from a GGUF file keep their types on the way to another one.
typedef struct pair_list {
    mo_safetensors_pair *items;
    size_t n;
    const model_file *of;
} pair_list;
pair_list model_pairs(const model_file *m, size_t room);
void pairs_set(pair_list *p, const char *key, const char *value);

// ---- writing ------------------------------------------------------------------------------------

// A file that appears whole or not at all; until then the old one stays. Any failure and any signal
// that ends the program removes what has been written.
typedef struct model_writer {
    const char *path;
    model_format format;
    const model_tensor *tensors;
    size_t n, at;     // at: the tensor that comes next
    uint64_t written; // of tensor at
    mo_safetensors_writer st;
    struct llmc_writer *llmc;
    struct gguf_out *gguf;
} model_writer;

model_format model_format_of(const char *path); // by its ending

// tensors: name, type, n_dims, shape, n, bytes; in the order in which they are written. They stay
// the caller's, as does path. One writer at a time.
void model_create(model_writer *w, const char *path, model_format format,
    const model_tensor *tensors, size_t n, const pair_list *metadata);
void model_write(model_writer *w, const void *data, size_t n); // n elements; data may be changed
void model_commit(model_writer *w);

void print_shape(FILE *out, const model_tensor *t); // [2,3], for text and JSON

#endif
