// device.c - an OpenCL device as the place of a run.
#include "app.h"

#include <stdlib.h>
#include <string.h>

const char *device_name(const device *d) {
    (void)d;
    return "cpu";
}
device *device_open(const char *text, const backend **b) {
    if (strcmp(text, "cpu") != 0) fail(EXIT_BAD, "--device %s: not yet", text);
    *b = &cpu_backend;
    return NULL;
}
void device_close(device *d) { (void)d; }
void device_list(void) { exit(0); }
