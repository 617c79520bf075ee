/* mo_strategy.h - what a training run trades for memory, as a value and as a line of text. */
#ifndef MEMOPT_STRATEGY_H
#define MEMOPT_STRATEGY_H

#include "mo_base.h"
#include "mo_gemm.h"
#include "mo_optim.h"
#include "mo_release.h"
#include "mo_remat.h"

/* mo_strategy_checkpoint - what backward computes again: a policy of mo_remat.h, or the fastest
 * schedule of halves of blocks within the budget. Since: 0.1 */
typedef enum mo_strategy_checkpoint {
    MO_STRATEGY_NONE = MO_REMAT_NONE,
    MO_STRATEGY_LIGHT = MO_REMAT_LIGHT,
    MO_STRATEGY_BLOCK = MO_REMAT_BLOCK,
    MO_STRATEGY_SQRT = MO_REMAT_SQRT,
    MO_STRATEGY_OPTIMAL,
    MO_STRATEGY_CHECKPOINT_COUNT
} mo_strategy_checkpoint;

/* mo_strategy - zero is the plain one. The order of the fields is that of the text.
 *
 * checkpoint  see above
 * accum       a batch is split into so many micro-batches; 0 = 1
 * optim       precision of the optimizer's states
 * loss_rows   rows of logits that exist at a time; 0 = all
 * act         bits that saved activations are kept in: 8, 4; 0 = all
 * offload     not 0: OPTIMAL may also move activations to other memory
 * release     not 0: parameters are updated inside backward, and gradients end there
 * clip        how they are clipped then
 * share       each block is applied so many times in a row; 0 = 1. Part of the model too:
 *             mo_model.share is what plans read
 * bf16        not 0: matrices of blocks are; norms, biases and embeddings stay fp32
 * paged       not 0: optimizer states are in pages, of which not all are resident
 * resident    most bytes that are; 0 = an eighth of the states
 * lora        rank of adapters, which alone are trained; 0 = none
 * base        how the weights that have adapters are stored
 * Since: 0.1 */
typedef struct mo_strategy {
    mo_strategy_checkpoint checkpoint;
    size_t accum;
    mo_optim_precision optim;
    size_t loss_rows;
    int act, offload, release;
    mo_release_clip clip;
    size_t share;
    int bf16, paged;
    uint64_t resident;
    size_t lora;
    mo_gemm_type base;
} mo_strategy;

/* Fields that a search may choose (ALL), and two that a model's file decides. */
enum {
    MO_STRATEGY_OPEN_CHECKPOINT = 1,
    MO_STRATEGY_OPEN_ACCUM = 2,
    MO_STRATEGY_OPEN_OPTIM = 4,
    MO_STRATEGY_OPEN_LOSS = 8,
    MO_STRATEGY_OPEN_PAGED = 16,
    MO_STRATEGY_OPEN_ALL = 31,
    MO_STRATEGY_OPEN_PRECISION = 32,
    MO_STRATEGY_OPEN_SHARE = 64
};

/* mo_strategy_text - what a text says beside the values.
 *
 * open          MO_STRATEGY_OPEN_*: what "auto" leaves to a search
 * named         MO_STRATEGY_OPEN_*: what the text says itself
 * distill       [distill_size] the file of a teacher, in the text; NULL = none
 * Since: 0.1 */
typedef struct mo_strategy_text {
    unsigned open, named;
    const char *distill;
    size_t distill_size;
} mo_strategy_text;

/* mo_strategy_parse - from text.
 *
 *   none                       plain
 *   auto                       open is ALL but for what the rest of the list names
 *   checkpoint=none|light|block|sqrt|optimal     offload           act=8|4
 *   accum=N    optim=f32|bf16|8bit|4bit          precision=f32|bf16
 *   share=N    release[=none|tensor|previous|exact]                paged[=SIZE]
 *   loss=full|chunked|ROWS     lora=R            base=f32|bf16|f16|int8|nf4|fp4
 *   distill=FILE               the file goes to asked
 *
 * text   in   items with commas between; what none names is plain; chunked is 256 rows
 * s      out
 * asked  out  NULL = not wanted
 * log    in   told word and value of what is wrong; NULL = silent
 *
 * Memory:  none; asked points into text
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, an unknown item or value; what mo_strategy_check refuses)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_strategy_parse(
    const char *text, mo_strategy *s, mo_strategy_text *asked, const mo_log *log);

/* mo_strategy_format - as mo_strategy_parse reads it, without what is plain in most runs.
 *
 * text  out  [size] cut where it does not fit; 192 are enough for every strategy
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API void mo_strategy_format(const mo_strategy *s, char *text, size_t size);

/* mo_strategy_check - whether its parts go together: base needs lora, offload needs OPTIMAL,
 * release excludes accum, lora excludes bf16.
 *
 * Threads: safe
 * Errors:  MO_E_INVALID, with a line in log (NULL = silent): NULL, a value out of range, two parts
 *          that exclude each other
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_strategy_check(const mo_strategy *s, const mo_log *log);

/* Words of the text, and back from one of n characters: the COUNT for another word.
 *
 * mo_strategy_checkpoint_name   "none", "light", ...
 * mo_strategy_optim_name        "f32", "8bit", ...
 * mo_strategy_base_name         "f32", "nf4", ...
 * mo_strategy_clip_name         "none", "tensor", ...
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API const char *mo_strategy_checkpoint_name(mo_strategy_checkpoint checkpoint);
MEMOPT_API const char *mo_strategy_optim_name(mo_optim_precision precision);
MEMOPT_API const char *mo_strategy_base_name(mo_gemm_type type);
MEMOPT_API const char *mo_strategy_clip_name(mo_release_clip clip);
MEMOPT_API mo_strategy_checkpoint mo_strategy_checkpoint_find(const char *word, size_t n);
MEMOPT_API mo_optim_precision mo_strategy_optim_find(const char *word, size_t n);
MEMOPT_API mo_gemm_type mo_strategy_base_find(const char *word, size_t n);
MEMOPT_API mo_release_clip mo_strategy_clip_find(const char *word, size_t n);

/* mo_parse_bytes - the number of bytes in 300, 300K, 1.5G, 2GiB (1024); 0 = it is none.
 *
 * text  in  of n characters, all of which belong to it
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API uint64_t mo_parse_bytes(const char *text, size_t n);

#endif
