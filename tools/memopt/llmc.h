// llmc.h - the checkpoints of llm.c: GPT-2 in fp32 or bf16. For model_file.c alone.
//
// 256 integers of 32 bits: 20240326, version (3 = fp32, 5 = bf16), positions, vocabulary, layers,
// heads, channels, padded vocabulary; then 16 arrays, those of the layers stacked. The names are
// those of Hugging Face's GPT-2, whose four matrices of a layer lie the other way.
#ifndef LLMC_H
#define LLMC_H

#include "model_file.h"

bool llmc_is(const unsigned char head[8]); // the first bytes of such a file

mo_status llmc_open(model_file *m, const mo_log *log);
void llmc_close(model_file *m);
mo_status llmc_read(const model_file *m, uint64_t at, void *to, size_t size);

// The number of the array and of the layer that a tensor of this name is; false = none.
bool llmc_place(const char *name, size_t *array, size_t *layer);
bool llmc_is_transposed(const char *name);

void llmc_create(model_writer *w, const pair_list *metadata);
void llmc_write(model_writer *w, const void *data, size_t size);
void llmc_commit(model_writer *w);
void llmc_discard(model_writer *w);

#endif
