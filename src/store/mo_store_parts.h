/* mo_store_parts.h - private parts of the readers and writers of files: not to be used. */
#ifndef MEMOPT_STORE_PARTS_H
#define MEMOPT_STORE_PARTS_H

#include "mo_base.h"

/* Where a reader takes bytes from: a file, or memory. */
typedef struct mo_input {
    char *path; /* NULL: bytes in memory */
    intptr_t file;
    uint64_t size;
    const unsigned char *bytes; /* [size], NULL until the file is mapped */
} mo_input;

/* A file that is being written beside the one that it replaces. */
typedef struct mo_output {
    mo_allocator allocator;
    mo_log log;
    uint64_t size, written; /* bytes that the file will have, and has */
    char *paths;            /* [paths_size] what the caller named, its target, the temporary file */
    const char *path, *target, *temp; /* into paths; NULL: nothing is being written */
    size_t paths_size;
    intptr_t file;
    int sealed; /* complete and closed */
} mo_output;

/* A number by a key, to be sorted. */
typedef struct mo_names_item {
    uint64_t key;
    size_t i;
} mo_names_item;

/* Names to numbers: n of them, each in the first field of a struct of stride bytes. */
typedef struct mo_names {
    mo_names_item *items; /* [n] by hash */
    const void *structs;
    size_t n, stride;
    uint64_t seed;
} mo_names;

#endif
