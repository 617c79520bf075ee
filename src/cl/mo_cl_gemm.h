/* mo_cl_gemm.h - mo_gemm.h on a device: the matrix product, by own kernels or by CLBlast, also of
 * matrices that are stored in 16, 8 or 4 bits. */
#ifndef MEMOPT_CL_GEMM_H
#define MEMOPT_CL_GEMM_H

#include "mo_cl_heap.h"

/* What computes products of float. CLBlast is there where the implementation was compiled with
 * MEMOPT_CL_CLBLAST, and linked with -lclblast. */
typedef enum mo_cl_gemm_use {
    MO_CL_GEMM_AUTO = 0, /* CPUs, and groups below 256: the own kernel; others: CLBlast */
    MO_CL_GEMM_OWN,
    MO_CL_GEMM_CLBLAST,
    MO_CL_GEMM_USE_COUNT
} mo_cl_gemm_use;

/* mo_cl_gemm_env - what products run on; the same for all products of a program.
 *
 * cl         the device
 * workspace  scratch of CLBlast, mo_cl_gemm_workspace_size bytes; {0} = none
 * use        0 = the faster one
 *
 * CLBlast computes a product only where its scratch fits the workspace, and where it passed a test
 * on the device, once for each pair of transposes. The own kernel does the rest, without scratch.
 * Since: 0.1 */
typedef struct mo_cl_gemm_env {
    mo_cl *cl;
    mo_cl_mem workspace;
    mo_cl_gemm_use use;
} mo_cl_gemm_env;

/* mo_cl_gemm_workspace_size - bytes of scratch for products of up to that size; 0: none is used.
 *
 * largest  in  m, n and k at least those of any product; NULL or too large to tell: 0
 *
 * Threads: one at a time
 * Since:   0.1 */
MEMOPT_API size_t mo_cl_gemm_workspace_size(const mo_cl_gemm_env *env, const mo_gemm_desc *largest);

/* mo_cl_gemm - matrix product, C = alpha op(A) op(B) + beta C.
 *
 * env   in      see above
 * desc  in      as for mo_gemm
 * a, b  in      float, as desc says; may be the same matrix
 * c     in out  must not overlap a, b or the workspace
 *
 * The own kernel sums in float, in another order than mo_gemm: as with that, the error of an
 * element is below (k + 3) 2^-24 times the sum of |a b|, and a few sqrt(k) 2^-24 times that in
 * practice. An element depends on its row of op(A), its column of op(B) and k alone: on one device
 * it is the same bits for any m, n and leading dimensions. CLBlast does not promise that.
 *
 * Memory:  the env's workspace
 * Threads: one at a time; calls of CLBlast in different threads wait for each other
 * Errors:  MO_E_INVALID (NULL, use, sizes, a row shorter than its matrix), MO_E_OVERFLOW,
 *          MO_E_UNSUPPORTED (m, n or k of 2^31 or more; does not build; CLBlast was asked for, and
 *          is not there), what OpenCL says
 * Cost:    enqueued, not waited for; the first product by CLBlast of each pair of transposes waits
 *          for its test and may compile for seconds
 * Source:  Goto and van de Geijn 2008, doi:10.1145/1356052.1356053
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_gemm(
    const mo_cl_gemm_env *env, const mo_gemm_desc *desc, mo_cl_mem a, mo_cl_mem b, mo_cl_mem c);

/* mo_cl_gemm_operand - a matrix as it is stored: mo_gemm_operand with device memory.
 *
 * type    what data consists of
 * data    element (r, c) is number r * ld + c
 * absmax  INT8: one per row, NF4 and FP4: one per block of the stored matrix; else not read
 * block   NF4, FP4: numbers per scale, a power of two, 32..4096; 0 = 64
 * Since: 0.1 */
typedef struct mo_cl_gemm_operand {
    mo_gemm_type type;
    mo_cl_mem data, absmax;
    size_t block;
} mo_cl_gemm_operand;

/* mo_cl_gemm_mixed - matrix product of operands of any type.
 *
 * env, desc  in      as for mo_cl_gemm; lda and ldb count elements, not bytes
 * a, b       in      may be the same
 * c          in out  must not overlap a, b or the workspace
 *
 * The operands are decoded tile by tile and never stand in memory as float. Unless both are F32 the
 * own kernel runs, and C has its bits on the decoded matrices.
 *
 * Memory:  none
 * Threads: one at a time
 * Errors:  as mo_cl_gemm; MO_E_INVALID (type, block, absmax)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_cl_gemm_mixed(const mo_cl_gemm_env *env,
    const mo_gemm_desc *desc, const mo_cl_gemm_operand *a, const mo_cl_gemm_operand *b,
    mo_cl_mem c);

#endif
