/* mo_model_params.h - the tensors of a transformer: names as Hugging Face has them, shapes, and
 * which share one tensor. */
#ifndef MEMOPT_MODEL_PARAMS_H
#define MEMOPT_MODEL_PARAMS_H

#include "mo_base.h"
#include "mo_model.h"
#include "mo_params.h"

/* mo_model_width - sizes that parameters and activations have.
 *
 * CHANNELS  of the residual stream
 * QUERY     heads * head_size
 * KV        kv_heads * head_size
 * QKV       QUERY + 2 KV: q, k and v side by side
 * HIDDEN    units of the MLP
 * WIDE      what its first product makes: gate and up in Llama's kind, so 2 HIDDEN there
 * Since: 0.1 */
typedef enum mo_model_width {
    MO_MODEL_WIDTH_NONE = 0,
    MO_MODEL_WIDTH_CHANNELS,
    MO_MODEL_WIDTH_QUERY,
    MO_MODEL_WIDTH_KV,
    MO_MODEL_WIDTH_QKV,
    MO_MODEL_WIDTH_HIDDEN,
    MO_MODEL_WIDTH_WIDE,
    MO_MODEL_WIDTH_COUNT
} mo_model_width;

/* mo_model_block_param - a parameter of a block; columns NONE: a vector. Since: 0.1 */
typedef struct mo_model_block_param {
    const char *name;
    mo_model_width rows, columns;
} mo_model_block_param;

/* mo_model_part - parts of a block that have parameters, in their order. Since: 0.1 */
typedef enum mo_model_part {
    MO_MODEL_NORM1,
    MO_MODEL_TO_QKV,
    MO_MODEL_PROJECT,
    MO_MODEL_NORM2,
    MO_MODEL_TO_HIDDEN,
    MO_MODEL_FROM_HIDDEN,
    MO_MODEL_PART_COUNT
} mo_model_part;

/* mo_model_block_part - where a part begins in the block's list, and how many matrices it has (of a
 * norm: 1 vector), whose outputs stand side by side. Biases come behind all of them. Since: 0.1 */
typedef struct mo_model_block_part {
    size_t first, n;
} mo_model_block_part;

/* mo_model_layout - the parameters of a kind of model, in this order: embedding, positions, those
 * of each block, last norm, head.
 *
 * name       "gpt2", "llama"
 * positions  NULL = none; last_bias: the same
 * params     [n_params] of a block
 * llama      not 0: Llama's kind, whose matrices are [out x in]
 * Since: 0.1 */
typedef struct mo_model_layout {
    const char *name, *embedding, *positions, *last_norm, *last_bias;
    const mo_model_block_param *params;
    size_t n_params;
    mo_model_block_part parts[MO_MODEL_PART_COUNT];
    int llama;
} mo_model_layout;

/* mo_model_layout_of - the layout of a model; only arch and qkv_bias count. NULL for an arch that
 * there is not. mo_model_arch_name, mo_model_arch_find - "gpt2", "llama", and back;
 * MO_MODEL_ARCH_COUNT for another word, "?" for another number.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API const mo_model_layout *mo_model_layout_of(const mo_model *model);
MEMOPT_API const char *mo_model_arch_name(mo_model_arch arch);
MEMOPT_API mo_model_arch mo_model_arch_find(const char *name);

/* mo_model_size - a width of a complete model, in numbers; 0 for NONE. Threads: safe.
 * Since: 0.1 */
MEMOPT_API size_t mo_model_size(const mo_model *model, mo_model_width width);

/* mo_model_block_name - the name of a block's parameter, such as "h.0.ln_1.weight".
 *
 * name  out  [size] cut where it does not fit; 96 are enough for the names of a layout
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API void mo_model_block_name(
    const mo_model_layout *layout, size_t layer, const char *param, char *name, size_t size);

/* mo_model_front - how many parameters come before those of the first block.
 * mo_model_n_block_params - how many the blocks have together.
 * mo_model_n_norm_params - how many the norm before the head has.
 * mo_model_n_params - how many mo_model_add_params adds.
 * mo_model_is_block_matrix - whether parameter i of that list is a matrix of a block.
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_model_front(const mo_model_layout *layout);
MEMOPT_API size_t mo_model_n_block_params(const mo_model *model);
MEMOPT_API size_t mo_model_n_norm_params(const mo_model_layout *layout);
MEMOPT_API size_t mo_model_n_params(const mo_model *model);
MEMOPT_API int mo_model_is_block_matrix(const mo_model *model, size_t i);

/* mo_model_add_params - append all parameters of a complete model.
 *
 * A block that is applied several times in a row is listed as often, under its name with "@1",
 * "@2", ..., and tied to the first time. The head is listed last, as "lm_head.weight"; without
 * untied_head it is tied to the embedding.
 *
 * Memory:  names and items, from the list's allocator
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, arch, a name is taken), MO_E_OVERFLOW, MO_E_NO_MEMORY; what was
 *          added before stays in the list
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_model_add_params(const mo_model *model, mo_params *params);

/* mo_model_gradient_is_local - whether the gradient of parameter i comes from one stage alone: it
 * is tied to none, and none to it. Threads: safe. Since: 0.1 */
MEMOPT_API int mo_model_gradient_is_local(const mo_params *params, size_t i);

#endif
