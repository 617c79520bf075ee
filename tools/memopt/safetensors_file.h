// safetensors_file.h - safetensors files as models: one file, or shards with an index. For
// model_file.c alone.
#ifndef SAFETENSORS_FILE_H
#define SAFETENSORS_FILE_H

#include "model_driver.h"

extern const model_driver safetensors_driver, shards_driver;

#endif
