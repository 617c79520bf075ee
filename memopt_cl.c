#define MEMOPT_CL_IMPLEMENTATION
#include "memopt_cl.h"
