/* mo_cl_quant.h - mo_quant.h on a device: blockwise 8-bit codes, bit for bit as on the CPU.
 *
 * On a device that flushes subnormal numbers, those in x, in x / absmax, in 1 / absmax (absmax
 * above 2^126) and in what decoding gives count as 0; all else keeps its bits.
 *
 * Commands go to the compute queue in their order and are not waited for. */
#ifndef MEMOPT_CL_QUANT_H
#define MEMOPT_CL_QUANT_H

#include "mo_cl_heap.h"

/* mo_cl_quant8_encode - codes and scales, as mo_quant8_encode.
 *
 * desc    in   read before it returns; parallel is not used
 * x       in   [n] float
 * codes   out  [n] uint8_t
 * absmax  out  [ceil(n / block)] float
 *
 * Outputs do not overlap x.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, map, block, sizes, alignment), MO_E_UNSUPPORTED (does not build),
 *          MO_E_NO_MEMORY, what OpenCL says
 * Cost:    bytes moved: 5 n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_quant8_encode(mo_cl *cl, const mo_quant8_desc *desc,
    mo_cl_mem x, size_t n, mo_cl_mem codes, mo_cl_mem absmax);

/* mo_cl_quant8_decode - x[i] = map[codes[i]] * absmax[i / block], as mo_quant8_decode.
 * mo_cl_quant8_decode_bf16, mo_cl_quant8_decode_f16 - the same, rounded to nearest even.
 *
 * codes   in   [n] uint8_t
 * absmax  in   [ceil(n / block)] float
 * x       out  [n] float, bf16 or fp16; does not overlap the others
 *
 * Threads: one at a time
 * Errors:  as mo_cl_quant8_encode
 * Cost:    bytes moved: 5 n; 3 n for bf16 and fp16
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_quant8_decode(mo_cl *cl, const mo_quant8_desc *desc,
    mo_cl_mem codes, mo_cl_mem absmax, size_t n, mo_cl_mem x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_quant8_decode_bf16(mo_cl *cl,
    const mo_quant8_desc *desc, mo_cl_mem codes, mo_cl_mem absmax, size_t n, mo_cl_mem x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_quant8_decode_f16(mo_cl *cl, const mo_quant8_desc *desc,
    mo_cl_mem codes, mo_cl_mem absmax, size_t n, mo_cl_mem x);

#endif
