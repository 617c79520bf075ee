/* mo_int8.h - 8-bit integers with one scale per row, as in LLM.int8(): the few large numbers that
 * would spoil their rows can be kept apart. */
#ifndef MEMOPT_INT8_H
#define MEMOPT_INT8_H

#include "mo_base.h"

/* mo_int8_desc
 *
 * rows, columns  of the matrix, row-major; each at most 2^32 - 1
 * threshold      |x| of this size or more is an outlier, and so are infinities and NaN; 0 = there
 *                are none
 * parallel       NULL = default
 * Since: 0.1 */
typedef struct mo_int8_desc {
    size_t rows, columns;
    float threshold;
    const mo_parallel *parallel;
} mo_int8_desc;

/* One number that is kept apart. Since: 0.1 */
typedef struct mo_int8_outlier {
    uint32_t row, column;
    float value;
} mo_int8_outlier;

/* mo_int8_outliers - a list of them in the caller's memory, by row, then by column.
 *
 * capacity  how many fit
 * n         how many there are
 * Since: 0.1 */
typedef struct mo_int8_outliers {
    mo_int8_outlier *list;
    size_t capacity, n;
} mo_int8_outliers;

/* mo_int8_outlier_count - how many outliers x has, for the capacity of their list.
 *
 * x  in   [rows][columns]
 * n  out  0 when the threshold is 0
 *
 * Memory:  none
 * Threads: safe; runs on one
 * Errors:  MO_E_INVALID (NULL, size, threshold below 0 or NaN)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_int8_outlier_count(
    const mo_int8_desc *desc, const float *x, size_t *n);

/* mo_int8_encode - codes, scales and outliers.
 *
 *   absmax[r] = max |x[r][c]| over all c that are no outlier
 *   codes[r][c] = x[r][c] * (127 / absmax[r]) to the nearest integer, ties to even; outlier: 0
 *
 * x         in   [rows][columns] finite, but for outliers
 * codes     out  [rows][columns]
 * absmax    out  [rows]; 0 for an all-zero row, whose codes are 0. A row with no number of 2^-121
 *                or more counts as all-zero.
 * outliers  out  list and n; may be NULL when the threshold is 0
 *
 * Bit-identical on every CPU and for any number of threads. A row that holds an infinity or NaN,
 * and no threshold, has absmax infinity and decodes to no finite number.
 *
 * Memory:  none; outputs must not overlap x
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, size, threshold below 0 or NaN), MO_E_NO_SPACE (capacity)
 * Cost:    bytes moved: 5 per number; with a threshold x is read twice more
 * Source:  Dettmers et al. 2022, arXiv:2208.07339, section 2
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_int8_encode(const mo_int8_desc *desc, const float *x,
    int8_t *codes, float *absmax, mo_int8_outliers *outliers);

/* mo_int8_decode, mo_int8_decode_bf16, mo_int8_decode_f16
 *
 *   x[r][c] = codes[r][c] * (absmax[r] / 127), then the outliers at their places
 *
 * codes     in   [rows][columns]
 * absmax    in   [rows]
 * outliers  in   in any order, all inside the matrix; NULL = none
 * x         out  [rows][columns] float; bf16 or fp16: that float rounded to nearest even
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, size, an outlier outside)
 * Cost:    bytes moved: 5 per number; 3 for bf16 and fp16
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_int8_decode(const mo_int8_desc *desc, const int8_t *codes,
    const float *absmax, const mo_int8_outliers *outliers, float *x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_int8_decode_bf16(const mo_int8_desc *desc,
    const int8_t *codes, const float *absmax, const mo_int8_outliers *outliers, uint16_t *x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_int8_decode_f16(const mo_int8_desc *desc,
    const int8_t *codes, const float *absmax, const mo_int8_outliers *outliers, uint16_t *x);

#endif
