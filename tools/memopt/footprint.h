// footprint.h - what memopt estimate says of a model by formulas alone.
#ifndef FOOTPRINT_H
#define FOOTPRINT_H

#include "cli.h"

typedef struct footprint_flags {
    bool infer, master, math, dropout;
    const char *weights, *rest, *compute, *gradients, *cache, *optim, *recompute;
    const char *lora_targets, *lora_format, *zero;
    size_t batch, seq, prompt, chunk, lora_rank, devices, runtime_bytes;
    share slack;
} footprint_flags;

enum { N_FOOTPRINT_FLAGS = 22 };

// What --help says of them.
#define FOOTPRINT_FLAGS_HELP                                                                       \
    "  --infer           generating text: weights and the cache of keys and values\n"              \
    "  --dtype F         of weights: f32, bf16, f16, int8, nf4 (with nested scales), nf4-plain, "  \
    "or\n"                                                                                         \
    "                    a type of GGUF such as q4_0; default: f32, or as --config says\n"         \
    "  --rest F          of what quantized weights leave out; default: bf16\n"                     \
    "  --compute F       of activations; default: f32 for weights in it, else bf16\n"              \
    "  --gradients F     default: as --compute\n"                                                  \
    "  --cache F         of keys and values: f32, bf16, f16, int8; default: as --compute\n"        \
    "  --master          an fp32 copy of trained 16-bit weights\n"                                 \
    "  --optim O         states of Adam: f32, 8bit, 4bit, bf16; default: f32\n"                    \
    "  --batch N, --seq N   on each device; default: 1, and the context, at most 2048\n"           \
    "  --prompt N        with --infer, tokens that pass at once; default: as --seq\n"              \
    "  --recompute R     none, selective, full; default: none\n"                                   \
    "  --math            attention keeps its scores; --dropout: and masks are kept\n"              \
    "  --chunk N         rows of logits at a time; default: all\n"                                 \
    "  --lora RANK       adapters on frozen weights\n"                                             \
    "  --lora-targets T  all, qv, attention; default: all\n"                                       \
    "  --lora-dtype F    of adapters; default: f32\n"                                              \
    "  --devices D       with --zero 0, 1, 2, 3: what is split over them; default: 0\n"            \
    "  --runtime BYTES   of the device's context and libraries\n"                                  \
    "  --slack PERCENT   of all that, for fragmentation: 5%\n"

// The flags themselves, [N_FOOTPRINT_FLAGS].
void footprint_flags_list(footprint_flags *f, flag *flags);

// The desc of the flags; fails the program on a bad one.
mo_footprint_desc footprint_flags_read(
    const footprint_flags *f, const mo_model *m, const mo_model_file_info *info);

// The estimate as a table, explain: with the formula of each line; or as one object of JSON.
void footprint_print(
    const mo_model *m, const mo_model_file_info *info, const mo_footprint *f, bool explain);
void footprint_json(
    const mo_model *m, const mo_model_file_info *info, const mo_footprint *f, size_t devices);

#endif
