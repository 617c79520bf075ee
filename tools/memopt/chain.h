// chain.h - a network as a chain of stages, from a CSV file.
#ifndef CHAIN_H
#define CHAIN_H

#include "csv.h"
#include "memopt.h"

typedef struct chain {
    csv table;
    mo_flat_chain flat;
    mo_flat_stage *stages;   // [flat.n_stages]
    mo_flat_option *options; // [flat.n_stages], one for each stage
} chain;

// false = table.error says why. chain_close is right in every case.
bool chain_read(chain *c, const char *path);
bool chain_parse(chain *c, const char *path, char *text, size_t size);
void chain_close(chain *c);

#endif
