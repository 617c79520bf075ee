/* mo_weight.h - a frozen matrix in the memory that its format takes: float, 16, 8 or 4 bits, and
 * the scales of 4 bits in 8 bits too. Products read it as it is stored. */
#ifndef MEMOPT_WEIGHT_H
#define MEMOPT_WEIGHT_H

#include "mo_base.h"
#include "mo_gemm.h"

/* mo_weight - rows x columns numbers, row-major.
 *
 * type     see mo_gemm.h
 * block    NF4, FP4: numbers per scale, a power of two, 32..4096; 0 = 64
 * nested   NF4, FP4: not 0: scales are 8-bit codes (mo_quant_nested_encode); 4.13 bits a number
 *          instead of 4.5
 * data     float, uint16_t, int8_t, or bytes of two codes each
 * absmax   INT8: [rows]; NF4, FP4: [blocks], NULL when nested
 * codes    nested: [blocks]
 * absmax2  nested: [ceil(blocks / 256)]
 * offset   nested: the mean of the scales
 *
 * blocks = ceil(rows * columns / block). The pointers are the caller's, or set by mo_weight_place.
 * Since: 0.1 */
typedef struct mo_weight {
    mo_gemm_type type;
    size_t rows, columns, block;
    int nested;
    void *data;
    float *absmax;
    uint8_t *codes;
    float *absmax2;
    float offset;
} mo_weight;

/* mo_weight_size - bytes of data and scales; 0 when type, sizes or block are wrong or do not fit.
 * mo_weight_place - let the pointers stand for places in a block of memory; nothing is written.
 *
 * w       in out  type, rows, columns, block, nested; place sets the pointers
 * memory  in      [size] aligned to 64 bytes; the caller's, valid as long as it is used
 * size    in      at least mo_weight_size
 *
 * Each array begins at a multiple of 64 bytes: data first.
 *
 * Threads: safe for distinct weights
 * Errors:  MO_E_INVALID (NULL, type, sizes, block), MO_E_NO_SPACE (size)
 * Since:   0.1 */
MEMOPT_API size_t mo_weight_size(const mo_weight *w);
MEMOPT_NODISCARD MEMOPT_API mo_status mo_weight_place(mo_weight *w, void *memory, size_t size);

/* mo_weight_workspace_size - bytes that mo_weight_encode and mo_weight_operand need: a float for
 * each scale when they are nested, else 0. Threads: safe. Since: 0.1 */
MEMOPT_API size_t mo_weight_workspace_size(const mo_weight *w);

/* mo_weight_encode - all numbers, as mo_half_encode (to nearest), mo_int8_encode, mo_quant4_encode
 * and mo_quant_nested_encode give them.
 *
 * w               in out  what its pointers point to, and offset, are written
 * x               in      [rows x columns] finite
 * workspace       scratch of workspace_size bytes, 64-byte aligned; NULL where none is needed
 * parallel        NULL = default
 *
 * Memory:  the workspace
 * Threads: safe for distinct weights and workspaces
 * Errors:  MO_E_INVALID (NULL, type, sizes, block), MO_E_NO_SPACE (workspace)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_weight_encode(mo_weight *w, const float *x,
    void *workspace, size_t workspace_size, const mo_parallel *parallel);

/* mo_weight_decode - rows first .. first + n - 1 as float.
 *
 * x         out  [n x columns]
 * parallel  NULL = default
 *
 * Memory:  none
 * Threads: safe for distinct outputs
 * Errors:  MO_E_INVALID (NULL, type, sizes, block, rows outside)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_weight_decode(
    const mo_weight *w, size_t first, size_t n, float *x, const mo_parallel *parallel);

/* mo_weight_operand - what mo_gemm_mixed reads. Nested scales are decoded into the workspace, which
 * has to stay as it is until the product is done.
 *
 * workspace  scratch of workspace_size bytes, 64-byte aligned; NULL where none is needed
 * operand    out
 *
 * Memory:  the workspace
 * Threads: safe for distinct workspaces
 * Errors:  as mo_weight_encode
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_weight_operand(
    const mo_weight *w, void *workspace, size_t workspace_size, mo_gemm_operand *operand);

#endif
