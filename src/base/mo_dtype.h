/* mo_dtype.h - element types of stored tensors: those of safetensors, in its order. */
#ifndef MEMOPT_DTYPE_H
#define MEMOPT_DTYPE_H

#include "mo_base.h"

/* The one list of element types, X(name, bits); enum, names and sizes come from it. */
#define MEMOPT_DTYPE_LIST(X)                                                                       \
    X(BOOL, 8)                                                                                     \
    X(F4, 4)                                                                                       \
    X(F6_E2M3, 6)                                                                                  \
    X(F6_E3M2, 6)                                                                                  \
    X(U8, 8)                                                                                       \
    X(I8, 8)                                                                                       \
    X(F8_E5M2, 8)                                                                                  \
    X(F8_E4M3, 8)                                                                                  \
    X(F8_E8M0, 8)                                                                                  \
    X(F8_E4M3FNUZ, 8)                                                                              \
    X(F8_E5M2FNUZ, 8)                                                                              \
    X(I16, 16)                                                                                     \
    X(U16, 16)                                                                                     \
    X(F16, 16)                                                                                     \
    X(BF16, 16)                                                                                    \
    X(I32, 32)                                                                                     \
    X(U32, 32)                                                                                     \
    X(F32, 32)                                                                                     \
    X(C64, 64)                                                                                     \
    X(F64, 64)                                                                                     \
    X(I64, 64)                                                                                     \
    X(U64, 64)

#define MEMOPT_DTYPE_ENUM_(name, bits) MO_DTYPE_##name,
typedef enum mo_dtype { MEMOPT_DTYPE_LIST(MEMOPT_DTYPE_ENUM_) MO_DTYPE_COUNT } mo_dtype;
#undef MEMOPT_DTYPE_ENUM_

/* mo_dtype_name - "F32", "BF16", ... as safetensors spells them; "?" out of range.
 * mo_dtype_bits - bits of one element, 4 to 64; 0 out of range.
 * mo_dtype_find - the type of that name; MO_DTYPE_COUNT for an unknown one.
 *
 * Memory:  static strings
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API const char *mo_dtype_name(mo_dtype dtype);
MEMOPT_API unsigned mo_dtype_bits(mo_dtype dtype);
MEMOPT_API mo_dtype mo_dtype_find(const char *name);

#endif
