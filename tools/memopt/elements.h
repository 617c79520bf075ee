// elements.h - numbers of tensors: to float and back, and what is not finite among them.
#ifndef ELEMENTS_H
#define ELEMENTS_H

#include "cli.h"

bool elements_are_float(mo_dtype type);   // a floating-point type that can be read and written
bool elements_are_numbers(mo_dtype type); // what elements_to_f64 knows
size_t elements_per_entry(mo_dtype type); // 2 for complex numbers, else 1

// A number that is no multiple of anything is rounded to the nearest float. to is aligned.
void elements_to_f32(mo_dtype type, const void *from, size_t n, float *to);
void elements_to_f64(mo_dtype type, const void *from, size_t n, double *to); // per entry

// Round to nearest even; is_saturated: to the largest number instead of infinity.
void elements_from_f32(mo_dtype type, const float *from, size_t n, bool is_saturated, void *to);

typedef struct not_finite {
    uint64_t nan, inf;
} not_finite;
void elements_count(mo_dtype type, const void *from, size_t n, not_finite *count); // adds to count

#endif
