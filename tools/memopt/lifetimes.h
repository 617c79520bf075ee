// lifetimes.h - buffers with their lifetimes, from and to MiniMalloc's CSV.
#ifndef LIFETIMES_H
#define LIFETIMES_H

#include <stdio.h>

#include "csv.h"
#include "memopt.h"

typedef struct lifetimes {
    csv table;
    int id, offset;        // columns; offset may be CSV_NONE
    mo_layout_item *items; // [n]
    size_t n;
    size_t *fixed;       // [n] given offsets, SIZE_MAX = free; NULL = all are free
    mo_layout_gap *gaps; // [n_gaps] by item, by step
    size_t n_gaps;
} lifetimes;

// false = table.error says why. lifetimes_close is right in every case.
bool lifetimes_read(lifetimes *l, const char *path);
bool lifetimes_parse(lifetimes *l, const char *path, char *text, size_t size);
void lifetimes_close(lifetimes *l);
const char *lifetimes_name(const lifetimes *l, size_t i);
// The same rows with a column of offsets.
void lifetimes_write(const lifetimes *l, const size_t *offsets, FILE *out);

#endif
