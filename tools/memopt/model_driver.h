// model_driver.h - what model_file.c wants of a format.
#ifndef MODEL_DRIVER_H
#define MODEL_DRIVER_H

#include "model_file.h"

// open says what is wrong; it sets n, owned and the metadata of m. at and size are bytes of t. What
// is written is little-endian, in any pieces of a tensor; discard also follows a failed create.
typedef struct model_driver {
    const char *name;
    mo_status (*open)(model_file *m, const mo_log *log);
    void (*close)(model_file *m);
    const model_tensor *(*find)(const model_file *m, const char *name);
    mo_status (*read)(
        const model_file *m, const model_tensor *t, uint64_t at, void *to, size_t size);
    void (*create)(model_writer *w, const pair_list *metadata);
    void (*write)(model_writer *w, const void *data, size_t size);
    void (*commit)(model_writer *w);
    void (*discard)(model_writer *w);
} model_driver;

// Fails the program where the library has said why a file cannot be begun.
void model_check_created(mo_status status);

#endif
