/* mo_cl_int8.h - mo_int8.h on a device: rows of 8-bit integers and their outliers, bit for bit as
 * on the CPU.
 *
 * A device that flushes subnormal numbers takes those that decoding gives as 0.
 *
 * Commands go to the compute queue in their order and are not waited for, but where a number of
 * outliers comes back to the host. */
#ifndef MEMOPT_CL_INT8_H
#define MEMOPT_CL_INT8_H

#include "mo_cl_heap.h"

/* mo_cl_int8_outliers - a list of them on the device, by row, then by column.
 *
 * list      [capacity] mo_int8_outlier
 * starts    [rows] uint32_t: row r has those from starts[r] on; decoding does not need it
 * capacity  how many fit
 * n         how many there are
 * Since: 0.1 */
typedef struct mo_cl_int8_outliers {
    mo_cl_mem list, starts;
    size_t capacity, n;
} mo_cl_int8_outliers;

/* mo_cl_int8_outlier_count - how many outliers x has, for the capacity of their list; as
 * mo_int8_outlier_count, and waits.
 *
 * x       in   [rows][columns] float
 * starts  out  [rows] uint32_t, as in mo_cl_int8_outliers; not used when the threshold is 0
 * n       out  on the host; 0 when the threshold is 0
 *
 * Memory:  4 rows bytes of the mo_cl's allocator while it runs
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, size, threshold below 0 or NaN, alignment), MO_E_OVERFLOW (2^32
 *          outliers, or 2^31 columns), MO_E_NO_MEMORY, MO_E_UNSUPPORTED (does not build), what
 *          OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_int8_outlier_count(
    mo_cl *cl, const mo_int8_desc *desc, mo_cl_mem x, mo_cl_mem starts, size_t *n);

/* mo_cl_int8_encode - codes, scales and outliers, as mo_int8_encode.
 *
 * desc      in   read before it returns; parallel is not used
 * x         in   [rows][columns] float
 * codes     out  [rows][columns] int8_t
 * absmax    out  [rows] float
 * outliers  out  list, starts and n; may be NULL when the threshold is 0
 *
 * Outputs do not overlap x. With a threshold it waits for the number of outliers; what fails then
 * leaves all but starts as it was.
 *
 * Memory:  with a threshold 4 rows bytes of the mo_cl's allocator while it runs
 * Threads: one at a time
 * Errors:  as mo_cl_int8_outlier_count; MO_E_NO_SPACE (capacity)
 * Cost:    bytes moved: 5 per number; with a threshold x is read twice more
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_int8_encode(mo_cl *cl, const mo_int8_desc *desc,
    mo_cl_mem x, mo_cl_mem codes, mo_cl_mem absmax, mo_cl_int8_outliers *outliers);

/* mo_cl_int8_decode, mo_cl_int8_decode_bf16, mo_cl_int8_decode_f16 - as mo_int8_decode.
 *
 *   x[r][c] = codes[r][c] * (absmax[r] / 127), then the outliers at their places
 *
 * codes     in   [rows][columns] int8_t
 * absmax    in   [rows] float
 * outliers  in   list and n, in any order, each place once; those outside the matrix are passed
 *                over; NULL = none
 * x         out  [rows][columns] float, bf16 or fp16; does not overlap the others
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, size, threshold below 0 or NaN, alignment), MO_E_UNSUPPORTED (does
 *          not build), what OpenCL says
 * Cost:    bytes moved: 5 per number; 3 for bf16 and fp16
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_int8_decode(mo_cl *cl, const mo_int8_desc *desc,
    mo_cl_mem codes, mo_cl_mem absmax, const mo_cl_int8_outliers *outliers, mo_cl_mem x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_int8_decode_bf16(mo_cl *cl, const mo_int8_desc *desc,
    mo_cl_mem codes, mo_cl_mem absmax, const mo_cl_int8_outliers *outliers, mo_cl_mem x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_int8_decode_f16(mo_cl *cl, const mo_int8_desc *desc,
    mo_cl_mem codes, mo_cl_mem absmax, const mo_cl_int8_outliers *outliers, mo_cl_mem x);

#endif
