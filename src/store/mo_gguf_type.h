/* mo_gguf_type.h - the element types of GGUF files, and conversion of the plain ones. */
#ifndef MEMOPT_GGUF_TYPE_H
#define MEMOPT_GGUF_TYPE_H

#include "mo_base.h"

/* The one list of types, X(name, number in the file, elements of a block, bytes of a block). The
 * numbers that are missing were taken out of the format.
 * Source: ggml-org/ggml, ggml.h and ggml-common.h at d99724f2 */
#define MEMOPT_GGUF_TYPE_LIST(X)                                                                   \
    X(F32, 0, 1, 4)                                                                                \
    X(F16, 1, 1, 2)                                                                                \
    X(Q4_0, 2, 32, 18)                                                                             \
    X(Q4_1, 3, 32, 20)                                                                             \
    X(Q5_0, 6, 32, 22)                                                                             \
    X(Q5_1, 7, 32, 24)                                                                             \
    X(Q8_0, 8, 32, 34)                                                                             \
    X(Q8_1, 9, 32, 36)                                                                             \
    X(Q2_K, 10, 256, 84)                                                                           \
    X(Q3_K, 11, 256, 110)                                                                          \
    X(Q4_K, 12, 256, 144)                                                                          \
    X(Q5_K, 13, 256, 176)                                                                          \
    X(Q6_K, 14, 256, 210)                                                                          \
    X(Q8_K, 15, 256, 292)                                                                          \
    X(IQ2_XXS, 16, 256, 66)                                                                        \
    X(IQ2_XS, 17, 256, 74)                                                                         \
    X(IQ3_XXS, 18, 256, 98)                                                                        \
    X(IQ1_S, 19, 256, 50)                                                                          \
    X(IQ4_NL, 20, 32, 18)                                                                          \
    X(IQ3_S, 21, 256, 110)                                                                         \
    X(IQ2_S, 22, 256, 82)                                                                          \
    X(IQ4_XS, 23, 256, 136)                                                                        \
    X(I8, 24, 1, 1)                                                                                \
    X(I16, 25, 1, 2)                                                                               \
    X(I32, 26, 1, 4)                                                                               \
    X(I64, 27, 1, 8)                                                                               \
    X(F64, 28, 1, 8)                                                                               \
    X(IQ1_M, 29, 256, 56)                                                                          \
    X(BF16, 30, 1, 2)                                                                              \
    X(TQ1_0, 34, 256, 54)                                                                          \
    X(TQ2_0, 35, 256, 66)                                                                          \
    X(MXFP4, 39, 32, 17)                                                                           \
    X(NVFP4, 40, 64, 36)                                                                           \
    X(Q1_0, 41, 128, 18)                                                                           \
    X(Q2_0, 42, 64, 18)

#define MEMOPT_GGUF_TYPE_ENUM_(name, number, block, bytes) MO_GGUF_##name = number,
typedef enum mo_gguf_type {
    MEMOPT_GGUF_TYPE_LIST(MEMOPT_GGUF_TYPE_ENUM_) MO_GGUF_TYPE_COUNT
} mo_gguf_type;
#undef MEMOPT_GGUF_TYPE_ENUM_

/* mo_gguf_type_name - "Q8_0"; "?" for a number that is no type.
 * mo_gguf_type_block - elements of a block: rows are whole blocks; 0 for a number that is no type.
 * mo_gguf_type_bytes - bytes of a block; 0 for a number that is no type.
 * mo_gguf_type_find - the type of that name, as it is written here; MO_GGUF_TYPE_COUNT when there
 *                     is none.
 *
 * Memory:  static strings
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API const char *mo_gguf_type_name(mo_gguf_type type);
MEMOPT_API size_t mo_gguf_type_block(mo_gguf_type type);
MEMOPT_API size_t mo_gguf_type_bytes(mo_gguf_type type);
MEMOPT_API mo_gguf_type mo_gguf_type_find(const char *name);

/* mo_gguf_code
 *
 * type        F32, F16, BF16, Q8_0 or Q4_0; 0 = F32
 * big_endian  of the coded bytes; 0 = little-endian, as nearly all files are
 * parallel    NULL = default
 * Since: 0.1 */
typedef struct mo_gguf_code {
    mo_gguf_type type;
    int big_endian;
    const mo_parallel *parallel;
} mo_gguf_code;

/* mo_gguf_encode - floats to the elements of a file.
 *
 *   F16, BF16  to nearest, ties to even; overflow to infinity
 *   Q8_0       a block of 32: fp16 d = max |x| / 127, then int8 q[i] = round(x[i] * (1 / d)), ties
 *              away from zero
 *   Q4_0       a block of 32: fp16 d = (the x of largest magnitude, the first of them) / -8, then
 *              16 bytes, byte i with q[i] in its low and q[i + 16] in its high half,
 *              q = min(15, trunc(x * (1 / d) + 8.5))
 *
 * code  in   type, big_endian, parallel
 * x     in   [n] any float; n a multiple of mo_gguf_type_block
 * y     out  [n / block * bytes of a block], of any alignment
 *
 * The bits are those of ggml's reference for every block whose numbers are finite and whose 1 / d
 * is. What ggml leaves undefined: a block with NaN or infinity has d = NaN, so that it decodes to
 * NaN; one whose largest magnitude is below 2^-121 (Q8_0) or 2^-125 (Q4_0) has d = 0 as one of
 * zeros.
 *
 * Memory:  none; x and y must not overlap
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, n), MO_E_UNSUPPORTED (type)
 * Source:  ggml-org/ggml, ggml-quants.c at d99724f2, quantize_row_q8_0_ref and _q4_0_ref
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gguf_encode(
    const mo_gguf_code *code, const float *x, size_t n, void *y);

/* mo_gguf_decode - the elements of a file to floats, exact: d * q[i] (Q8_0), d * (q[i] - 8) (Q4_0).
 *
 * code  in   type, big_endian, parallel
 * x     in   [n / block * bytes of a block], of any alignment; n a multiple of mo_gguf_type_block
 * y     out  [n]
 *
 * Memory:  none; x and y must not overlap
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, n), MO_E_UNSUPPORTED (type)
 * Source:  ggml-org/ggml, ggml-quants.c at d99724f2
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gguf_decode(
    const mo_gguf_code *code, const void *x, size_t n, float *y);

#endif
