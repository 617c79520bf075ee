// gguf_file.h - GGUF files as models. For model_file.c alone.
#ifndef GGUF_FILE_H
#define GGUF_FILE_H

#include "model_driver.h"

extern const model_driver gguf_driver;

mo_status gguf_read_f32(
    const model_file *m, const model_tensor *t, uint64_t first, size_t n, float *to);
bool gguf_is_swapped(const model_file *m); // numbers are not in the order of this machine

// The line of metadata that pair is, where it comes from a GGUF file as it is; else NULL.
const mo_gguf_pair *gguf_origin(const model_file *m, const mo_safetensors_pair *pair);

#endif
