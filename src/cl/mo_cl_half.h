/* mo_cl_half.h - mo_half.h on a device: fp16, bf16, fp8, bit for bit as on the CPU.
 *
 * Commands go to the compute queue in their order and are not waited for. */
#ifndef MEMOPT_CL_HALF_H
#define MEMOPT_CL_HALF_H

#include "mo_cl_heap.h"

/* mo_cl_half_encode - y[i] = x[i] rounded to the format of desc, as mo_half_encode.
 * mo_cl_half_decode - y[i] = x[i], exact, as mo_half_decode.
 *
 * desc  in   read before it returns; parallel is not used
 * x     in   [n] float; decode: [n] of mo_half_bytes(format)
 * y     out  [n] of mo_half_bytes(format); decode: [n] float; does not overlap x
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, format, sizes, alignment), MO_E_UNSUPPORTED (does not build), what
 *          OpenCL says
 * Cost:    bytes moved: (4 + mo_half_bytes) n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_half_encode(
    mo_cl *cl, const mo_half_desc *desc, mo_cl_mem x, size_t n, mo_cl_mem y);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_half_decode(
    mo_cl *cl, const mo_half_desc *desc, mo_cl_mem x, size_t n, mo_cl_mem y);

/* mo_cl_f32_to_f16, mo_cl_f32_to_bf16 - mo_cl_half_encode to nearest even, overflow to infinity
 * mo_cl_f16_to_f32, mo_cl_bf16_to_f32 - mo_cl_half_decode
 *
 * x  in   [n]
 * y  out  [n]; does not overlap x
 *
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, sizes, alignment), MO_E_UNSUPPORTED (does not build), what OpenCL
 *          says
 * Cost:    bytes moved: 6 n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_f32_to_f16(
    mo_cl *cl, mo_cl_mem x, mo_cl_mem y, size_t n);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_f32_to_bf16(
    mo_cl *cl, mo_cl_mem x, mo_cl_mem y, size_t n);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_f16_to_f32(
    mo_cl *cl, mo_cl_mem x, mo_cl_mem y, size_t n);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_bf16_to_f32(
    mo_cl *cl, mo_cl_mem x, mo_cl_mem y, size_t n);

#endif
