#define MEMOPT_IMPLEMENTATION
#include "memopt.h"
