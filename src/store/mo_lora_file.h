/* mo_lora_file.h - LoRA adapters in files that PEFT reads, and the other way round.
 *
 * An adapter is a folder of adapter_model.safetensors and adapter_config.json. The matrices of the
 * weight NAME.weight are base_model.model.NAME.lora_A.weight, [rank, in], and
 * base_model.model.NAME.lora_B.weight, [out, rank]. */
#ifndef MEMOPT_LORA_FILE_H
#define MEMOPT_LORA_FILE_H

#include "mo_safetensors.h"

/* mo_lora_config - what adapter_config.json says: one rank and one alpha for all.
 *
 * rank     r
 * alpha    lora_alpha; 0 = rank
 * dropout  lora_dropout
 * rslora   use_rslora
 * in_out   fan_in_fan_out: the base has its matrices as [in, out]
 * base     base_model_name_or_path; NULL = null; not read
 * task     task_type; NULL = CAUSAL_LM; not read
 * Since: 0.1 */
typedef struct mo_lora_config {
    size_t rank;
    float alpha, dropout;
    int rslora, in_out;
    const char *base, *task;
} mo_lora_config;

/* mo_lora_entry - the adapter of one weight.
 *
 * name     of the weight as the model has it: "transformer.h.0.attn.c_attn.weight"
 * in, out  features
 * a, b     [rank x in] and [out x rank], the caller's; not read by mo_lora_save_config
 * Since: 0.1 */
typedef struct mo_lora_entry {
    const char *name;
    size_t in, out;
    float *a, *b;
} mo_lora_entry;

/* mo_lora_file_desc
 *
 * dtype  of the file: F32, F16 or BF16; 0 = F32
 * Since: 0.1 */
typedef struct mo_lora_file_desc {
    mo_allocator allocator; /* zero = C heap */
    mo_log log;             /* one line for each failure: file, field, value; zero = none */
    mo_dtype dtype;
} mo_lora_file_desc;

/* mo_lora_name - the name of a matrix of a weight's adapter: base_model.model.X.lora_A.weight of
 * X.weight.
 *
 * weight  in   ends with .weight
 * which   in   'A' or 'B'
 * text    out  [size] strlen(weight) + 25 bytes are enough
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, another end or letter), MO_E_NO_SPACE (size)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_lora_name(
    const char *weight, char which, char *text, size_t size);

/* mo_lora_target - the weight that a tensor of an adapter belongs to.
 *
 * name    in   base_model.model.X.lora_A.weight, also without what is in front of X, and with the
 *              adapter's name behind lora_A: X.weight. Other names: what is behind
 *              base_model.model.
 * which   out  'A' or 'B'; 0 for other names
 * text    out  [size] strlen(name) + 1 bytes are enough
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL), MO_E_NO_SPACE (size)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_lora_target(
    const char *name, char *which, char *text, size_t size);

/* mo_lora_save - write both files of an adapter, or neither.
 *
 * folder   there already
 * config   rank is that of all entries
 * entries  [n] names differ
 * desc     NULL = all defaults
 *
 * Memory:  O(n) during the call
 * Threads: safe for distinct folders
 * Errors:  MO_E_INVALID (NULL, a size of 0, alpha or dropout, a name, dtype, n = 0),
 *          MO_E_NOT_FOUND (no such folder), MO_E_IO, MO_E_NO_MEMORY. A failure leaves both files as
 *          they were, unless it comes between the two renames
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_lora_save(const char *folder, const mo_lora_config *config,
    const mo_lora_entry *entries, size_t n, const mo_lora_file_desc *desc);

/* mo_lora_save_config - adapter_config.json alone, for matrices that are in a checkpoint: its
 * target_modules are the last parts of the entries' names.
 *
 * path  of the file
 *
 * Threads: safe for distinct paths
 * Errors:  as mo_lora_save
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_lora_save_config(const char *path,
    const mo_lora_config *config, const mo_lora_entry *entries, size_t n,
    const mo_lora_file_desc *desc);

/* mo_lora_load_config - read adapter_config.json; base and task become NULL.
 *
 * path    of the file
 * config  out  untouched on failure
 *
 * Memory:  the file during the call
 * Threads: safe
 * Errors:  MO_E_NOT_FOUND, MO_E_IO, MO_E_NO_MEMORY, MO_E_FORMAT (no JSON, no rank or alpha),
 *          MO_E_UNSUPPORTED (not LoRA; DoRA; several ranks or alphas), MO_E_INVALID (NULL)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_lora_load_config(
    const char *path, mo_lora_config *config, const mo_lora_file_desc *desc);

/* mo_lora_load - the matrices of all entries, from F32, F16 or BF16.
 *
 * st       in   an open adapter_model.safetensors
 * rank     in   of all entries
 * entries  in   [n] a and b are written; undefined after a failure
 *
 * Names in the file are taken as mo_lora_target does, and need not be in the entries' order.
 *
 * Memory:  none; 8 KiB on the stack
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL), MO_E_FORMAT (a matrix missing or twice, its shape or type; one that
 *          belongs to no entry), MO_E_IO; the file's log names tensor and value
 * Cost:    O(n) comparisons of names for each tensor of the file
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_lora_load(
    const mo_safetensors *st, size_t rank, const mo_lora_entry *entries, size_t n);

#endif
