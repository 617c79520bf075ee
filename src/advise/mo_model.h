/* mo_model.h - sizes of a decoder-only transformer: what estimates and plans start from. */
#ifndef MEMOPT_MODEL_H
#define MEMOPT_MODEL_H

#include "mo_base.h"

/* mo_model_arch - what a block is made of.
 *
 * MO_MODEL_GPT2   LayerNorm, GELU, learned positions, biases, weights [in x out]
 * MO_MODEL_LLAMA  RMSNorm, SwiGLU, rotary positions, no biases, weights [out x in]
 * Since: 0.1 */
typedef enum mo_model_arch { MO_MODEL_GPT2, MO_MODEL_LLAMA, MO_MODEL_ARCH_COUNT } mo_model_arch;

/* mo_model - the sizes.
 *
 * layers       that a token passes
 * share        so many in a row are one block's; 0 = 1
 * channels     width of the residual stream
 * heads        of queries
 * kv_heads     of keys and values; divides heads; 0 = heads
 * head_size    0 = channels / heads
 * hidden       units of the MLP; 0 = 4 channels, or for Llama's kind 8/3 of them in whole 32
 * positions    learned ones, for GPT-2's kind: the longest sequence
 * vocab        words
 * untied_head  the head has a matrix of its own; 0 = it is the embedding
 * qkv_bias     q, k and v have biases in Llama's kind too, as in Qwen2
 * Since: 0.1 */
typedef struct mo_model {
    mo_model_arch arch;
    size_t layers, share, channels, heads, kv_heads, head_size, hidden, positions, vocab;
    int untied_head, qkv_bias;
} mo_model;

/* mo_model_complete - put the defaults where a field is 0, and check the rest.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID, with a line in log that names field and value (NULL = no line): a size of
 *          0, heads that do not divide channels, kv_heads that do not divide heads, share that does
 *          not divide layers, an odd head_size of Llama's kind
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_model_complete(mo_model *model, const mo_log *log);

/* mo_model_default_hidden - what hidden is where it is 0. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_model_default_hidden(mo_model_arch arch, size_t channels);

/* mo_model_count - numbers in all tensors of a complete model; shared and tied ones count once.
 *
 * GPT-2's kind: V h + P h + L (12 h^2 + 13 h) + 2 h, where hidden is 4 h; 124,439,808 for GPT-2.
 * Llama's kind: 2 V h + L (2 h^2 + 2 h kv d + 3 h f + 2 h) + h; 6,738,415,616 for Llama 2 7B.
 *
 * Threads: safe
 * Errors:  0 where it does not fit 64 bits
 * Since:   0.1 */
MEMOPT_API uint64_t mo_model_count(const mo_model *model);

#endif
