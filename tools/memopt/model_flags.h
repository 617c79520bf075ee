// model_flags.h - the sizes of a model from the command line: a file, flags, or both.
#ifndef MODEL_FLAGS_H
#define MODEL_FLAGS_H

#include "cli.h"

typedef struct model_flags {
    const char *config, *arch;
    size_t layers, channels, heads, kv_heads, hidden, vocab, positions;
    bool untied;
} model_flags;

enum { N_MODEL_FLAGS = 10 };

// What --help says of them.
#define MODEL_FLAGS_HELP                                                                           \
    "  --config FILE     config.json of Hugging Face, safetensors, an index of shards, GGUF, or "  \
    "a\n"                                                                                          \
    "                    folder of these\n"                                                        \
    "  --arch NAME       gpt2 or llama; default: gpt2\n"                                           \
    "  --layers N, --channels N, --heads N, --vocab N\n"                                           \
    "  --kv-heads N      heads of keys and values; default: as --heads\n"                          \
    "  --hidden N        units of the MLP; default: 4 channels, llama: 8/3 of them\n"              \
    "  --positions N     of gpt2: the longest sequence\n"                                          \
    "  --untied          the head has a matrix of its own\n"                                       \
    "                    a flag beside --config replaces what the file says\n"

// The flags themselves, [N_MODEL_FLAGS].
void model_flags_list(model_flags *m, flag *flags);

// The model; fails the program where sizes are missing or do not fit. info: what the file says
// beside them; all zero where there is none.
mo_model model_flags_read(const model_flags *m, mo_model_file_info *info);

// "llama: 32 layers of 4096 channels, ..."
void model_print(FILE *out, const mo_model *m);
// "model":{...}
void model_json(const mo_model *m);

#endif
