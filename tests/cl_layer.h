/* cl_layer.h - what a test can ask the layer of cl_layer.c, which the OpenCL loader has loaded into
 * its process: cl_layer_restart and cl_layer_counts, by dlsym. */
#ifndef CL_LAYER_H
#define CL_LAYER_H

#include <stddef.h>

/* Objects that a program owns until it releases them. */
enum { LAYER_CONTEXT, LAYER_QUEUE, LAYER_BUFFER, LAYER_PROGRAM, LAYER_KERNEL, LAYER_EVENT };
enum { LAYER_KINDS = LAYER_EVENT + 1 };

/* Calls that can be made to fail. LAYER_LATE is a command that is accepted and then fails, as its
 * event says. */
enum { LAYER_CREATE, LAYER_BUILD, LAYER_ARG, LAYER_ENQUEUE, LAYER_MAP, LAYER_LATE, LAYER_POINTS };

/* calls           since the last restart, of those that can be made to fail
 * created         since the last restart
 * live            now
 * live_bytes      of all buffers; resident_bytes: of those that took memory */
typedef struct layer_counts {
    size_t calls[LAYER_POINTS];
    size_t created[LAYER_KINDS], live[LAYER_KINDS];
    size_t live_bytes, resident_bytes, peak_bytes;
} layer_counts;

/* Reads the environment anew and counts from 0; objects that are live stay so. */
typedef void (*layer_restart_fn)(void);
typedef void (*layer_counts_fn)(layer_counts *counts);

#endif
