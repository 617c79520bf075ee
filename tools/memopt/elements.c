// elements.c - numbers of tensors.
#include "elements.h"

#include <math.h>
#include <string.h>

static bool half_format(mo_dtype type, mo_half_format *format) {
    switch (type) {
    case MO_DTYPE_F16: *format = MO_HALF_F16; return true;
    case MO_DTYPE_BF16: *format = MO_HALF_BF16; return true;
    case MO_DTYPE_F8_E4M3: *format = MO_HALF_F8_E4M3; return true;
    case MO_DTYPE_F8_E5M2: *format = MO_HALF_F8_E5M2; return true;
    default: return false;
    }
}

bool elements_are_float(mo_dtype type) {
    mo_half_format format;
    return type == MO_DTYPE_F32 || type == MO_DTYPE_F64 || half_format(type, &format);
}

bool elements_are_numbers(mo_dtype type) {
    switch (type) {
    case MO_DTYPE_BOOL:
    case MO_DTYPE_U8:
    case MO_DTYPE_I8:
    case MO_DTYPE_I16:
    case MO_DTYPE_U16:
    case MO_DTYPE_I32:
    case MO_DTYPE_U32:
    case MO_DTYPE_C64:
    case MO_DTYPE_I64:
    case MO_DTYPE_U64: return true;
    default: return elements_are_float(type);
    }
}

size_t elements_per_entry(mo_dtype type) { return type == MO_DTYPE_C64 ? 2 : 1; }

// ---- to and from --------------------------------------------------------------------------------

void elements_to_f32(mo_dtype type, const void *from, size_t n, float *to) {
    mo_half_desc desc = {0};
    if (type == MO_DTYPE_F32) memcpy(to, from, n * sizeof *to);
    else if (type == MO_DTYPE_F64) {
        const double *x = from;
        for (size_t i = 0; i < n; i++) to[i] = (float)x[i];
    } else if (half_format(type, &desc.format)) check(mo_half_decode(&desc, from, n, to), "decode");
    else fail(EXIT_USAGE, "%s is no floating-point type", mo_dtype_name(type));
}

void elements_from_f32(mo_dtype type, const float *from, size_t n, bool is_saturated, void *to) {
    mo_half_desc desc = {.saturate = is_saturated};
    if (type == MO_DTYPE_F32) memcpy(to, from, n * sizeof *from);
    else if (type == MO_DTYPE_F64) {
        double *x = to;
        for (size_t i = 0; i < n; i++) x[i] = from[i];
    } else if (half_format(type, &desc.format)) check(mo_half_encode(&desc, from, n, to), "encode");
    else fail(EXIT_USAGE, "%s is no floating-point type", mo_dtype_name(type));
}

// Half precision goes through float, in pieces.
static void widen(mo_dtype type, const void *from, size_t n, double *to) {
    enum { PIECE = 1024 };
    const size_t size = mo_dtype_bits(type) / 8;
    float piece[PIECE];
    for (size_t at = 0; at < n; at += PIECE) {
        const size_t count = n - at < PIECE ? n - at : PIECE;
        elements_to_f32(type, (const char *)from + at * size, count, piece);
        for (size_t i = 0; i < count; i++) to[at + i] = piece[i];
    }
}

#define FROM(type)                                                                                 \
    for (size_t i = 0; i < n; i++) to[i] = (double)((const type *)from)[i];                        \
    break

void elements_to_f64(mo_dtype type, const void *from, size_t n, double *to) {
    n *= elements_per_entry(type);
    switch (type) {
    case MO_DTYPE_BOOL:
    case MO_DTYPE_U8: FROM(uint8_t);
    case MO_DTYPE_I8: FROM(int8_t);
    case MO_DTYPE_I16: FROM(int16_t);
    case MO_DTYPE_U16: FROM(uint16_t);
    case MO_DTYPE_I32: FROM(int32_t);
    case MO_DTYPE_U32: FROM(uint32_t);
    case MO_DTYPE_I64: FROM(int64_t);
    case MO_DTYPE_U64: FROM(uint64_t);
    case MO_DTYPE_C64:
    case MO_DTYPE_F32: FROM(float);
    case MO_DTYPE_F64: memcpy(to, from, n * sizeof *to); break;
    default: widen(type, from, n, to);
    }
}
#undef FROM

// ---- not finite ---------------------------------------------------------------------------------

// The bits without the sign: at inf an infinity, above it NaN. Counts of 32 bits make vectors.
#define COUNT(type, sign, top)                                                                     \
    do {                                                                                           \
        uint32_t nans = 0, infs = 0;                                                               \
        for (size_t i = 0; i < n; i++) {                                                           \
            const type x = (type)(((const type *)from)[i] & (type) ~(type)(sign));                 \
            nans += x > (type)(top);                                                               \
            infs += x == (type)(top);                                                              \
        }                                                                                          \
        count->nan += nans;                                                                        \
        count->inf += infs;                                                                        \
    } while (0)

static uint64_t count_byte(const uint8_t *from, size_t n, uint8_t mask, uint8_t byte) {
    uint64_t count = 0;
    for (size_t i = 0; i < n; i++) count += (from[i] & mask) == byte;
    return count;
}

void elements_count(mo_dtype type, const void *from, size_t n, not_finite *count) {
    n *= elements_per_entry(type);
    switch (type) {
    case MO_DTYPE_C64:
    case MO_DTYPE_F32: COUNT(uint32_t, 0x80000000u, 0x7f800000u); break;
    case MO_DTYPE_F64: COUNT(uint64_t, 0x8000000000000000u, 0x7ff0000000000000u); break;
    case MO_DTYPE_F16: COUNT(uint16_t, 0x8000u, 0x7c00u); break;
    case MO_DTYPE_BF16: COUNT(uint16_t, 0x8000u, 0x7f80u); break;
    case MO_DTYPE_F8_E5M2: COUNT(uint8_t, 0x80u, 0x7cu); break;
    case MO_DTYPE_F8_E4M3: count->nan += count_byte(from, n, 0x7f, 0x7f); break;
    case MO_DTYPE_F8_E8M0: count->nan += count_byte(from, n, 0xff, 0xff); break;
    case MO_DTYPE_F8_E4M3FNUZ:
    case MO_DTYPE_F8_E5M2FNUZ: count->nan += count_byte(from, n, 0xff, 0x80); break;
    default: break;
    }
}
#undef COUNT
