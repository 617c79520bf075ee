// llmc.h - the checkpoints of llm.c: GPT-2 in fp32 or bf16.
//
// 256 integers of 32 bits: 20240326, version (3 = fp32, 5 = bf16), positions, vocabulary, layers,
// heads, channels, padded vocabulary; then 16 arrays, those of the layers stacked. The names are
// those of Hugging Face's GPT-2, whose four matrices of a layer lie the other way.
#ifndef LLMC_H
#define LLMC_H

#include "model_driver.h"

bool llmc_is(const unsigned char head[8]); // the first bytes of such a file

extern const model_driver llmc_driver;

// The number of the array and of the layer that a tensor of this name is; false = none.
bool llmc_place(const char *name, size_t *array, size_t *layer);
bool llmc_is_transposed(const char *name);

#endif
