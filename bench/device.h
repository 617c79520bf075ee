// device.h - an OpenCL device under the cases of cases_device*.c.
#ifndef BENCH_DEVICE_H
#define BENCH_DEVICE_H

#include "memopt_cl.h" // first: it asks the system's headers for more than bench.h does
#include "bench.h"

enum { MAX_BLOCKS = 32 };

struct bench_device {
    mo_cl cl;
    mo_cl_heap heap;
    char name[32]; // "cl:P.D"
    mo_cl_mem blocks[MAX_BLOCKS];
    int n_blocks;
    mo_cl_mem from, to; // of the copy, on devices that are no CPU
    size_t n;
};

// Memory of the case, freed behind it; {0} when there is no more. Random: from -scale to scale.
mo_cl_mem device_take(work *w, uint64_t size);
mo_cl_mem device_take_random(work *w, size_t n, float scale);
bool device_took(const mo_cl_mem *mems, size_t n); // all of them

#endif
