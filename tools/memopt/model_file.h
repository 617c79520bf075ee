// model_file.h - files of tensors behind one interface: safetensors, in one file or in shards with
// an index, GGUF, and the checkpoints of llm.c.
#ifndef MODEL_FILE_H
#define MODEL_FILE_H

#include "cli.h"

typedef enum model_format { MODEL_SAFETENSORS, MODEL_SHARDS, MODEL_GGUF, MODEL_LLMC } model_format;

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
    const char *shard;     // the file that holds it, beside the index; NULL = there are no shards
    // private to the format
    uint64_t at;
    const mo_safetensors *st;
    const mo_safetensors_entry *entry;
} model_tensor;

typedef struct model_file {
    const char *path; // of the file or the index, also where a folder was asked for
    model_format format;
    const model_tensor *tensors;
    size_t n;
    uint64_t bytes; // of all tensors
    const mo_safetensors_pair *metadata;
    size_t n_metadata;
    // private
    char *found; // path in a folder
    mo_safetensors st;
    mo_safetensors_shards shards;
    struct llmc *llmc;
    struct gguf_file *gguf;
    model_tensor *owned;
} model_file;

const char *model_format_name(model_format format);
model_type model_type_of(mo_dtype dtype);
model_type model_type_of_gguf(mo_gguf_type type);
bool model_is_float(const model_type *type); // model_read_f32 and model_encode know it
uint64_t model_bytes_of(const model_type *type, uint64_t n); // n a multiple of the block

// Reads and checks the header; what is wrong goes to the log, in one line, or one for each shard.
// path: a file, an index, or a folder with either under its usual name. model_open fails the
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

size_t model_piece(uint64_t n, uint64_t at); // elements of the piece that begins at at, of n

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
const char *pairs_find(const mo_safetensors_pair *items, size_t n, const char *key); // or NULL

// ---- writing ------------------------------------------------------------------------------------

// A file that appears whole or not at all; until then the old one stays. Any failure and any signal
// that ends the program removes what has been written.
typedef struct model_writer {
    const char *path;
    model_format format;
    const model_tensor *tensors;
    size_t n, at;     // at: the tensor that comes next
    uint64_t written; // of tensor at
    size_t n_shards;  // 0 = they were not asked for
    // private to the format
    uint64_t max_bytes;
    struct safetensors_out *st;
    struct llmc_writer *llmc;
    struct gguf_out *gguf;
} model_writer;

model_format model_format_of(const char *path); // by its ending

// tensors: name, type, n_dims, shape, n, bytes; in the order in which they are written. They stay
// the caller's, as do path and the texts of metadata. One writer at a time. Neither the index nor a
// shard of the file that the metadata is of is replaced.
void model_create(model_writer *w, const char *path, model_format format,
    const model_tensor *tensors, size_t n, const pair_list *metadata);
// path: FOLDER/NAME.safetensors, as for mo_safetensors_shards_create; max_bytes: 0 = its default.
void model_create_shards(model_writer *w, const char *path, uint64_t max_bytes,
    const model_tensor *tensors, size_t n, const pair_list *metadata);
void model_write(model_writer *w, const void *data, size_t n); // n elements; data may be changed
void model_copy(model_writer *w, const model_file *m, const model_tensor *t, void *raw); // all
void model_commit(model_writer *w);

// Fails the program where a matrix would lie in a safetensors file as llm.c has it.
void model_check_layout(const model_file *m);

// Larger elements first, so that all are aligned: below 0 = a comes first.
int model_compare_types(const model_type *a, const model_type *b);

// ---- text ---------------------------------------------------------------------------------------

void print_shape(FILE *out, const model_tensor *t); // [2,3], for text and JSON
void print_kind(const model_file *m);               // safetensors, 2 shards, 28 tensors, 110.1 KiB
void print_shards(const model_file *m);             // a line for each
void json_shards(const model_file *m);              // "shards":[{"file": ..}], where it has any

#endif
