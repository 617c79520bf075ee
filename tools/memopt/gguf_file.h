// gguf_file.h - GGUF files as models. For model_file.c alone.
#ifndef GGUF_FILE_H
#define GGUF_FILE_H

#include "model_file.h"

mo_status gguf_open(model_file *m, const mo_log *log);
void gguf_close(model_file *m);
const model_tensor *gguf_find(const model_file *m, const char *name);
mo_status gguf_read(const model_file *m, const model_tensor *t, uint64_t at, void *to, size_t size);
mo_status gguf_read_f32(
    const model_file *m, const model_tensor *t, uint64_t first, size_t n, float *to);
bool gguf_is_swapped(const model_file *m); // numbers are not in the order of this machine

// The line of metadata that pair is, where it comes from a GGUF file as it is; else NULL.
const mo_gguf_pair *gguf_origin(const model_file *m, const mo_safetensors_pair *pair);

void gguf_create(model_writer *w, const pair_list *metadata);
void gguf_write(model_writer *w, const void *data, size_t size);
void gguf_commit(model_writer *w);
void gguf_discard(model_writer *w);

#endif
