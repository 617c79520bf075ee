/* mo_half.h - fp16 and bf16: two bytes a number.
 *
 * Both directions are exact IEEE conversions: nearest even, subnormals kept, overflow to infinity,
 * NaN stays NaN (made quiet, payload cut). Results are bit-identical on every CPU. */
#ifndef MEMOPT_HALF_H
#define MEMOPT_HALF_H

#include "mo_base.h"

/* mo_f32_to_f16, mo_f32_to_bf16 - y[i] = x[i] rounded to nearest even
 * mo_f16_to_f32, mo_bf16_to_f32 - y[i] = x[i], exact
 *
 * x         in   [n]
 * y         out  [n]
 * parallel  in   NULL = default
 *
 * Memory:  none; x and y must not overlap
 * Threads: safe for distinct outputs
 * Errors:  none; n may be 0
 * Cost:    bytes moved: 6 n
 * Since:   0.1 */
MEMOPT_API void mo_f32_to_f16(const float *x, uint16_t *y, size_t n, const mo_parallel *parallel);
MEMOPT_API void mo_f32_to_bf16(const float *x, uint16_t *y, size_t n, const mo_parallel *parallel);
MEMOPT_API void mo_f16_to_f32(const uint16_t *x, float *y, size_t n, const mo_parallel *parallel);
MEMOPT_API void mo_bf16_to_f32(const uint16_t *x, float *y, size_t n, const mo_parallel *parallel);

#endif
