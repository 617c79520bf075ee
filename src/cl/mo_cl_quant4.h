/* mo_cl_quant4.h - mo_quant4.h on a device: blockwise NF4 and FP4 codes, and 8-bit codes for their
 * scales, bit for bit as on the CPU.
 *
 * A device that flushes subnormal numbers does here what mo_cl_quant.h says.
 *
 * Commands go to the compute queue in their order and are not waited for, but where a result comes
 * back to the host. */
#ifndef MEMOPT_CL_QUANT4_H
#define MEMOPT_CL_QUANT4_H

#include "mo_cl_heap.h"

/* mo_cl_quant4_encode - codes and scales, as mo_quant4_encode.
 *
 * desc    in   read before it returns; parallel is not used
 * x       in   [n] float
 * codes   out  [ceil(n / 2)] bytes
 * absmax  out  [ceil(n / block)] float
 *
 * Outputs do not overlap x.
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, map, block, sizes, alignment), MO_E_UNSUPPORTED (does not build),
 *          MO_E_NO_MEMORY, what OpenCL says
 * Cost:    bytes moved: (4.5 + 4 / block) n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_quant4_encode(mo_cl *cl, const mo_quant4_desc *desc,
    mo_cl_mem x, size_t n, mo_cl_mem codes, mo_cl_mem absmax);

/* mo_cl_quant4_decode, mo_cl_quant4_decode_bf16, mo_cl_quant4_decode_f16 - numbers first ..
 * first + n - 1, as mo_quant4_decode.
 *
 *   x[i] = map[code of first + i] * absmax[(first + i) / block]
 *
 * codes   in   of the whole array
 * absmax  in   of the whole array
 * first   in   any number
 * x       out  [n] float, bf16 or fp16; does not overlap the others
 *
 * Threads: one at a time
 * Errors:  as mo_cl_quant4_encode; MO_E_OVERFLOW (first + n)
 * Cost:    bytes moved: (4.5 + 4 / block) n; 2.5 for bf16 and fp16
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_quant4_decode(mo_cl *cl, const mo_quant4_desc *desc,
    mo_cl_mem codes, mo_cl_mem absmax, size_t first, size_t n, mo_cl_mem x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_quant4_decode_bf16(mo_cl *cl,
    const mo_quant4_desc *desc, mo_cl_mem codes, mo_cl_mem absmax, size_t first, size_t n,
    mo_cl_mem x);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_quant4_decode_f16(mo_cl *cl, const mo_quant4_desc *desc,
    mo_cl_mem codes, mo_cl_mem absmax, size_t first, size_t n, mo_cl_mem x);

/* mo_cl_quant_nested_encode - 8-bit codes for the scales of a 4-bit array, as
 * mo_quant_nested_encode.
 *
 * absmax   in   [n] float
 * codes    out  [n] bytes
 * absmax2  out  [ceil(n / 256)] float
 * offset   out  on the host: the mean. The CPU's bits need its order of the sum and double, which
 *               not every device has: absmax comes to the host for it, and the call waits for that
 *
 * Outputs do not overlap absmax.
 *
 * Memory:  256 KiB of the mo_cl's allocator while it runs
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, sizes, alignment), MO_E_NO_MEMORY, MO_E_UNSUPPORTED (does not
 *          build), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_quant_nested_encode(
    mo_cl *cl, mo_cl_mem absmax, size_t n, mo_cl_mem codes, mo_cl_mem absmax2, float *offset);

/* mo_cl_quant_nested_decode - absmax[i] = map[codes[i]] * absmax2[i / 256] + offset, as
 * mo_quant_nested_decode.
 *
 * codes    in   [n] bytes
 * absmax2  in   [ceil(n / 256)] float
 * absmax   out  [n] float; does not overlap the others
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, sizes, alignment), MO_E_NO_MEMORY, MO_E_UNSUPPORTED (does not
 *          build), what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_quant_nested_decode(
    mo_cl *cl, mo_cl_mem codes, mo_cl_mem absmax2, float offset, size_t n, mo_cl_mem absmax);

#endif
