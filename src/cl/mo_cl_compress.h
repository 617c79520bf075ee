/* mo_cl_compress.h - mo_compress.h on a device: saved activations in 8 or 4 bits a number. Codes
 * and ranges are those of the CPU, bit for bit.
 *
 * Commands go to the compute queue in their order and are not waited for. */
#ifndef MEMOPT_CL_COMPRESS_H
#define MEMOPT_CL_COMPRESS_H

#include "mo_cl_heap.h"

/* mo_cl_compress_encode - codes and ranges, rounded stochastically.
 * mo_cl_compress_decode - x[i] = low + step code[i].
 *
 * desc   in   bits, block, seed; parallel is not used
 * x      in   [n] float; out by decode
 * codes  out  [mo_compress_size] bytes, in by decode, at an offset that is a multiple of 4
 *
 * Memory:  none; codes must not overlap x
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, bits, block, sizes), MO_E_UNSUPPORTED (does not build), what OpenCL
 *          says; n may be 0
 * Cost:    bytes moved: 5 n or 4.6 n
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_compress_encode(
    mo_cl *cl, const mo_compress_desc *desc, mo_cl_mem x, size_t n, mo_cl_mem codes);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_compress_decode(
    mo_cl *cl, const mo_compress_desc *desc, mo_cl_mem codes, size_t n, mo_cl_mem x);

#endif
