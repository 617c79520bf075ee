/* mo_model_file.h - the sizes of a model from its files: a config.json, safetensors or GGUF. Only
 * headers are read. */
#ifndef MEMOPT_MODEL_FILE_H
#define MEMOPT_MODEL_FILE_H

#include "mo_dtype.h"
#include "mo_model.h"

typedef struct mo_model_file_desc {
    mo_allocator allocator; /* for headers and texts, until the call returns; zero = C heap */
    mo_log log;             /* one line for each failure: file, field, value; and warnings */
} mo_model_file_desc;

/* What the sizes come from. */
typedef enum mo_model_file_format {
    MO_MODEL_FILE_CONFIG,
    MO_MODEL_FILE_SAFETENSORS,
    MO_MODEL_FILE_SHARDS,
    MO_MODEL_FILE_GGUF,
    MO_MODEL_FILE_FORMAT_COUNT
} mo_model_file_format;

/* mo_model_file_type - the tensors of one element type: its name, as the file's format has it. */
typedef struct mo_model_file_type {
    const char *name;
    uint64_t n_tensors, numbers, bytes;
} mo_model_file_type;

enum { MO_MODEL_FILE_TYPES = 40 }; /* as many as there are */

/* mo_model_file_info - what a file says beside the sizes.
 *
 * kind          model_type, or general.architecture of GGUF; of tensors alone "gpt2" or "llama"
 * context       the longest sequence that it is made for; 0 = unknown
 * rope_theta    base of rotary positions; 0 = unknown
 * dtype         torch_dtype of a config.json; MO_DTYPE_COUNT = unknown
 * heads_unsure  1 = heads are a guess, of 64 channels each or one alone; a warning has said so
 * types         [n_types] of the weights, as they are stored, in the order of the file; n_types is
 *               0 where there is only a config.json
 * numbers       in all tensors of the file
 * bytes         of all tensors of the file
 * Since: 0.1 */
typedef struct mo_model_file_info {
    mo_model_file_format format;
    char kind[32];
    size_t context;
    double rope_theta;
    mo_dtype dtype;
    int heads_unsure;
    size_t n_types;
    mo_model_file_type types[MO_MODEL_FILE_TYPES];
    uint64_t numbers, bytes;
} mo_model_file_info;

/* mo_model_read - the sizes of the model in a file or folder, complete.
 *
 * model  out  untouched on failure
 * info   out  untouched on failure; NULL = not wanted
 * path   in   one of
 *   NAME.json              Hugging Face's config.json of model_type gpt2, llama, mistral or qwen2
 *   NAME.safetensors       sizes from names and shapes of the tensors, with or without the prefix
 *                          "transformer."; the heads from a config.json beside it, or the metadata
 *                          of files of train_gpt, or a guess, 64 channels each or one alone, which
 *                          is said
 *   NAME.index.json        the same, split over files
 *   any file of "GGUF"     of the architectures gpt2, llama and qwen2
 *   a folder               of a config.json, whose weights count into info where they are there as
 *                          model.safetensors.index.json or model.safetensors; or of these alone
 * desc   in   NULL = all defaults
 *
 * Of config.json: gpt2 n_layer, n_embd, n_head, n_positions or n_ctx, vocab_size, n_inner; the
 * others num_hidden_layers, hidden_size, num_attention_heads, num_key_value_heads (mistral: 8 where
 * it is missing, the others all), head_dim, intermediate_size, vocab_size, max_position_embeddings,
 * rope_theta, attention_bias. Other fields are skipped, null is as missing. With attention_bias
 * Llama's output projection has a bias too, L h numbers that mo_model does not know; a warning says
 * so. A config.json beside tensors has to agree with their shapes.
 *
 * Threads: safe for distinct objects
 * Errors:  MO_E_UNSUPPORTED (another architecture, a mixture of experts, biases in the MLP), which
 *          is named; MO_E_FORMAT (not JSON, a field that is missing, there twice or no size,
 *          tensors that are missing or do not fit), MO_E_INVALID (NULL; sizes that
 *          mo_model_complete refuses), MO_E_NOT_FOUND, MO_E_IO, MO_E_NO_MEMORY
 * Source:  huggingface/transformers, configuration_gpt2.py, configuration_llama.py,
 *          configuration_mistral.py, configuration_qwen2.py; ggml-org/ggml, docs/gguf.md
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_model_read(
    mo_model *model, mo_model_file_info *info, const char *path, const mo_model_file_desc *desc);

/* mo_model_read_config - the same for the text of a config.json in memory.
 *
 * text  in  [size]; no 0 need follow
 *
 * Memory:  none
 * Threads: safe for distinct objects
 * Errors:  as mo_model_read; MO_E_INVALID (NULL)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_model_read_config(mo_model *model,
    mo_model_file_info *info, const char *text, size_t size, const mo_model_file_desc *desc);

#endif
