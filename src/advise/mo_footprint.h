/* mo_footprint.h - what a model takes by formulas alone, in any precision and on any number of
 * devices: for sizes that no plan of this library is made for. */
#ifndef MEMOPT_FOOTPRINT_H
#define MEMOPT_FOOTPRINT_H

#include "mo_gguf_type.h"
#include "mo_model.h"

/* mo_footprint_format - how numbers are stored. Formats of less than 16 bits hold the matrices of
 * blocks; GGUF's embedding and head too. What is left has the format `rest` of the desc.
 *
 * MO_FOOTPRINT_DEFAULT    as the field says
 * MO_FOOTPRINT_F32        4 bytes a number
 * MO_FOOTPRINT_BF16, F16  2
 * MO_FOOTPRINT_INT8       1, and 4 for each row
 * MO_FOOTPRINT_NF4        1/2, 1 for each block of 64, and 4 for 256 of these: nested scales, as in
 *                         QLoRA
 * MO_FOOTPRINT_NF4_PLAIN  1/2, and 4 for each block of 64
 * MO_FOOTPRINT_GGUF       the blocks of desc.gguf; positions, norms and biases in fp32
 * Since: 0.1 */
typedef enum mo_footprint_format {
    MO_FOOTPRINT_DEFAULT = 0,
    MO_FOOTPRINT_F32,
    MO_FOOTPRINT_BF16,
    MO_FOOTPRINT_F16,
    MO_FOOTPRINT_INT8,
    MO_FOOTPRINT_NF4,
    MO_FOOTPRINT_NF4_PLAIN,
    MO_FOOTPRINT_GGUF,
    MO_FOOTPRINT_FORMAT_COUNT
} mo_footprint_format;

/* States of Adam's two moments: 8 bytes a number; 2, and 8 for each block of 256; 1, and 8 for each
 * block of 128; 4. Tensors of fewer than 4096 numbers have 8 in any case but BF16. */
typedef enum mo_footprint_optim {
    MO_FOOTPRINT_ADAM_F32 = 0,
    MO_FOOTPRINT_ADAM_8BIT,
    MO_FOOTPRINT_ADAM_4BIT,
    MO_FOOTPRINT_ADAM_BF16,
    MO_FOOTPRINT_OPTIM_COUNT
} mo_footprint_optim;

/* What is computed again in backward: nothing; attention's matrix of scores; whole blocks, of which
 * the input alone is kept. */
typedef enum mo_footprint_recompute {
    MO_FOOTPRINT_KEEP_ALL = 0,
    MO_FOOTPRINT_SELECTIVE,
    MO_FOOTPRINT_FULL,
    MO_FOOTPRINT_RECOMPUTE_COUNT
} mo_footprint_recompute;

/* What has adapters: queries and values, all of attention, or every matrix of a block. A fused
 * matrix of queries, keys and values is one. */
typedef enum mo_footprint_targets {
    MO_FOOTPRINT_ALL_MATRICES = 0,
    MO_FOOTPRINT_QV,
    MO_FOOTPRINT_ATTENTION,
    MO_FOOTPRINT_TARGETS_COUNT
} mo_footprint_targets;

/* mo_footprint_desc - zero: training in fp32 on one device, a batch of one sequence.
 *
 * infer          1 = a forward pass with a cache of keys and values; nothing of a training
 * weights        0 = F32
 * gguf           for weights of MO_FOOTPRINT_GGUF
 * rest           of what quantized weights leave out, F32, BF16 or F16; 0 = BF16
 * compute        activations and gradients, F32, BF16 or F16; 0 = F32 for weights in it, else BF16
 * gradients      F32, BF16 or F16; 0 = as compute
 * cache          of keys and values, of F32, BF16, F16 or INT8 (1 byte, no scales); 0 = as compute
 * master         1 = an fp32 copy of trained weights that have 16 bits
 * optim          states
 * batch, seq     sequences on a device, tokens in each; 0 = 1, and the model's positions or 2048
 * prompt         infer: tokens that pass the network at once; 0 = seq
 * math           1 = attention keeps its seq x seq matrix, as without a fused kernel
 * dropout        1 = masks of one byte
 * recompute      see above
 * chunk          rows of logits at a time, in training; 0 = all
 * lora_rank      0 = all weights are trained; else adapters alone, on frozen weights
 * lora_targets   see above
 * lora_format    of adapters, F32, BF16 or F16; 0 = F32
 * devices        0 = 1. In training each has a batch of such a size; infer: they share weights
 *                and cache evenly
 * zero           what is split over them: 0 nothing, 1 states and master copies, 2 gradients too, 3
 *                weights too, of which one block is whole at a time
 * runtime_bytes  context of the device, libraries
 * slack          share of all that, for fragmentation: 0.05; 0 = a planned arena's
 * Since: 0.1 */
typedef struct mo_footprint_desc {
    int infer;
    mo_footprint_format weights;
    mo_gguf_type gguf;
    mo_footprint_format rest, compute, gradients, cache;
    int master;
    mo_footprint_optim optim;
    size_t batch, seq, prompt;
    int math, dropout;
    mo_footprint_recompute recompute;
    size_t chunk, lora_rank;
    mo_footprint_targets lora_targets;
    mo_footprint_format lora_format;
    size_t devices;
    int zero;
    uint64_t runtime_bytes;
    double slack;
} mo_footprint_desc;

/* mo_footprint_line - one item of the sum.
 *
 * name      "weights", ...
 * bytes     on each device
 * apart     1 = at another time than a larger line of that kind: not part of the total
 * formula   in letters, then with the numbers put in */
typedef struct mo_footprint_line {
    const char *name;
    uint64_t bytes;
    int apart;
    char formula[256];
} mo_footprint_line;

enum { MO_FOOTPRINT_LINES = 16 };

/* mo_footprint - the answer.
 *
 * lines    [n] in the order weights, adapters, master copies, gradients, states, gathered weights,
 *          activations, block being recomputed, gradients in its backward, logits, cache, runtime,
 *          slack; only those that there are
 * total    bytes on a device at the peak: the sum of lines that are not apart
 * count    numbers in the model
 * trained  of which, or of adapters, there are gradients
 * Since: 0.1 */
typedef struct mo_footprint {
    mo_footprint_line lines[MO_FOOTPRINT_LINES];
    size_t n;
    uint64_t total, count, trained;
} mo_footprint;

/* mo_footprint_estimate - bytes of a training step, or of generating text.
 *
 * With N numbers, L layers, h channels, q and k channels of all queries and keys, a heads, f
 * hidden, V words, s seq, b batch, e bytes of compute, m = 2 (GPT-2's kind) or 3 (Llama's), D
 * devices:
 *
 *   weights        N w, in formats as above
 *   adapters       N_t = sum of rank (in + out) over their matrices, of every block
 *   gradients      N g, or N_t
 *   activations    L (e s b (4 h + 2 q + 2 k + m f) + 16 s b, Llama's 8 s b
 *                     + attention: 4 a s b; math: e a s^2 b, with dropout (2 e + 1) a s^2 b
 *                     + dropout: 2 s b h); with 16 bits, dropout, math and f = 4 h that is
 *                  L s b h (34 + 5 a s / h), and the statistics of norms
 *                  selective: without s^2; full: L e s b h
 *   block again    full: one block's, as above without recomputation
 *   its gradients  e s b (h + m f), math: 2 e a s^2 b - 6 e s b h where that is more
 *   logits         rows V (4 + e) of a chunk or all s b rows, and e V h for the gradient of a
 *                  trained head; not at the same time as a block's backward: the larger counts
 *   gathered       zero 3: the largest of a block and the embedding, (w + g) of it
 *   cache          2 L b s k e
 *   infer          activations of one block: e b p (2 h + max(q + 2 k, m f - f)), p = prompt
 *   infer logits   4 b V
 *
 * model  in   complete, or complete but for defaults
 * f      out  untouched on failure
 *
 * Threads: safe
 * Errors:  MO_E_INVALID (NULL, an enum or format out of its range, a negative zero or above 3,
 *          weights of less than 16 bits that are trained, seq over the positions; sizes that
 *          mo_model_complete refuses; a line in log names it), MO_E_OVERFLOW
 * Source:  Korthikanti et al. 2022, arXiv:2205.05198; Rajbhandari et al. 2020, arXiv:1910.02054;
 *          Dettmers et al. 2023, arXiv:2305.14314
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_footprint_estimate(
    mo_footprint *f, const mo_model *model, const mo_footprint_desc *desc, const mo_log *log);

/* mo_footprint_format_name - "f32", "bf16", "f16", "int8", "nf4", "nf4-plain", "gguf"; "?".
 * mo_footprint_format_find - the format of that name, or MO_FOOTPRINT_GGUF and its type for one of
 *                            GGUF's such as "q4_0", in any case of letters. gguf: out, untouched
 *                            for other formats. MO_FOOTPRINT_FORMAT_COUNT = there is none.
 *
 * Memory:  static strings
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API const char *mo_footprint_format_name(mo_footprint_format format);
MEMOPT_API mo_footprint_format mo_footprint_format_find(const char *name, mo_gguf_type *gguf);

#endif
