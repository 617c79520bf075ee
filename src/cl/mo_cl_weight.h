/* mo_cl_weight.h - mo_weight.h on a device: a frozen matrix in the memory that its format takes,
 * bit for bit as on the CPU.
 *
 * Commands go to the compute queue in their order and are not waited for, but where nested scales
 * are encoded. */
#ifndef MEMOPT_CL_WEIGHT_H
#define MEMOPT_CL_WEIGHT_H

#include "mo_cl_gemm.h"
#include "mo_cl_heap.h"

/* mo_cl_weight - mo_weight with device memory; offset is on the host. Since: 0.1 */
typedef struct mo_cl_weight {
    mo_gemm_type type;
    size_t rows, columns, block;
    int nested;
    mo_cl_mem data, absmax, codes, absmax2;
    float offset;
} mo_cl_weight;

/* mo_cl_weight_size, mo_cl_weight_place, mo_cl_weight_workspace_size - as those of mo_weight.h; the
 * bytes lie in memory as they do there, so that either can be copied to the other.
 *
 * memory  at least mo_cl_weight_size bytes, at a multiple of 4
 *
 * Threads: safe for distinct weights
 * Errors:  MO_E_INVALID (NULL, type, sizes, block, alignment), MO_E_NO_SPACE (size)
 * Since:   0.1 */
MEMOPT_API size_t mo_cl_weight_size(const mo_cl_weight *w);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_weight_place(mo_cl_weight *w, mo_cl_mem memory);
MEMOPT_API size_t mo_cl_weight_workspace_size(const mo_cl_weight *w);

/* mo_cl_weight_encode - all numbers, as mo_weight_encode.
 * mo_cl_weight_decode - rows first .. first + n - 1 as float, as mo_weight_decode.
 * mo_cl_weight_operand - what mo_cl_gemm_mixed reads, as mo_weight_operand.
 *
 * x          encode: in, [rows x columns] float; decode: out, [n x columns] float
 * workspace  mo_cl_weight_workspace_size bytes; {0} where none is needed. Here decode needs it too
 *
 * Memory:  the workspace; encoding nested scales: see mo_cl_quant_nested_encode
 * Threads: one at a time
 * Errors:  MO_E_INVALID (NULL, type, sizes, block, rows outside), MO_E_NO_SPACE (workspace),
 *          MO_E_UNSUPPORTED (does not build), MO_E_NO_MEMORY, what OpenCL says
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_weight_encode(
    mo_cl *cl, mo_cl_weight *w, mo_cl_mem x, mo_cl_mem workspace);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_weight_decode(
    mo_cl *cl, const mo_cl_weight *w, size_t first, size_t n, mo_cl_mem x, mo_cl_mem workspace);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_weight_operand(
    mo_cl *cl, const mo_cl_weight *w, mo_cl_mem workspace, mo_cl_gemm_operand *operand);

#endif
