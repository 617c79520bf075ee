// device.h - what device.c and device_ops.c share.
#ifndef DEVICE_H
#define DEVICE_H

#include "memopt_cl.h" // first: it asks the system's headers for more than app.h does
#include "app.h"

struct device {
    mo_cl cl;
    char name[32]; // "cl:P.D"
    mo_cl_arena arena;
    mo_cl_optim_state *states; // [params.n]
    mo_cl_page_optim paged;
    mo_cl_store store;
};

// The device memory that an address of the plan stands for; {0} for NULL.
mo_cl_mem device_at(const device *d, const void *address, size_t size);
mo_cl_mem device_floats(const device *d, const float *address, size_t n);
mo_cl_mem device_param(const device *d, const mo_param *p);

extern const gpt_kernels device_kernels;

#endif
