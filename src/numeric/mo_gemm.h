/* mo_gemm.h - the one matrix product that everything else uses: a built-in kernel for AVX2,
 * AVX-512, NEON and plain C, or the cblas_sgemm of a BLAS that the caller links. The built-in one
 * also reads 16-, 8- and 4-bit matrices as they are stored. */
#ifndef MEMOPT_GEMM_H
#define MEMOPT_GEMM_H

#include "mo_base.h"

/* cblas_sgemm as every CBLAS has it (its enums are ints): order 101 is row-major, transpose 111 no,
 * 112 yes. Cast the function of your BLAS to this type. Since: 0.1 */
typedef void mo_cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
    const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);

/* mo_gemm_env - what products run on; the same for all products of a program.
 *
 * parallel        NULL = default
 * cblas           NULL = the built-in kernel
 * workspace       packed panels; mo_gemm_workspace_size bytes, 64-byte aligned; unused with cblas
 * workspace_size  bytes
 * Since: 0.1 */
typedef struct mo_gemm_env {
    const mo_parallel *parallel;
    mo_cblas_sgemm *cblas;
    void *workspace;
    size_t workspace_size;
} mo_gemm_env;

/* mo_gemm_desc - C = alpha op(A) op(B) + beta C, all row-major.
 *
 * m, n, k           C is m x n, op(A) m x k, op(B) k x n
 * trans_a, trans_b  not 0: the matrix is stored transposed (A as k x m, B as n x k)
 * lda, ldb, ldc     elements from row to row as stored; 0 = rows follow each other
 * alpha             0 = 1
 * beta              0: C is written without being read
 * Since: 0.1 */
typedef struct mo_gemm_desc {
    size_t m, n, k;
    int trans_a, trans_b;
    size_t lda, ldb, ldc;
    float alpha, beta;
} mo_gemm_desc;

/* mo_gemm_workspace_size - bytes with which the built-in kernel is fastest: about 3 MiB a thread
 * for large products, and no more than 24 MiB for up to 60 threads. With less it packs smaller
 * panels or takes fewer threads, for the same bits; about 140 KiB is the least.
 *
 * parallel  in  the env's; NULL = default
 * largest   in  m, n and k at least those of any product; NULL = products of any size
 *
 * Threads: safe
 * Since:   0.1 */
MEMOPT_API size_t mo_gemm_workspace_size(const mo_parallel *parallel, const mo_gemm_desc *largest);

/* mo_gemm - matrix product.
 *
 * env   in      see above
 * desc  in      see above
 * a, b  in      as desc says; may be the same matrix
 * c     in out  must not overlap a, b or the workspace
 *
 * With the built-in kernel an element of C depends on its row of op(A), its column of op(B) and k
 * alone: it is the same bits for any m, n, tiling and number of threads.
 *
 * Memory:  the env's workspace
 * Threads: one at a time per workspace; runs on the env's threads
 * Errors:  MO_E_INVALID (NULL, a row shorter than its matrix), MO_E_NO_SPACE (workspace),
 *          MO_E_UNSUPPORTED (cblas and a size beyond int)
 * Source:  Goto and van de Geijn 2008, doi:10.1145/1356052.1356053
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gemm(
    const mo_gemm_env *env, const mo_gemm_desc *desc, const float *a, const float *b, float *c);

/* What a stored matrix consists of. */
typedef enum mo_gemm_type {
    MO_GEMM_F32 = 0,
    MO_GEMM_BF16,
    MO_GEMM_F16,
    MO_GEMM_INT8, /* mo_int8 without outliers: a scale per stored row */
    MO_GEMM_NF4,  /* mo_quant4: a scale per block of the stored matrix, padding included */
    MO_GEMM_FP4,
    MO_GEMM_TYPE_COUNT
} mo_gemm_type;

/* mo_gemm_operand - a matrix as it is stored.
 *
 * type    see above
 * data    float, uint16_t, int8_t, or bytes of two codes each; element (r, c) is number r * ld + c
 * absmax  INT8: one per row, NF4 and FP4: one per block, as mo_int8_encode and mo_quant4_encode
 *         give them; else not read
 * block   NF4, FP4: numbers per scale, as in mo_quant4_desc; 0 = 64
 *
 * All pointers are the caller's and read during the call only.
 * Since: 0.1 */
typedef struct mo_gemm_operand {
    mo_gemm_type type;
    const void *data;
    const float *absmax;
    size_t block;
} mo_gemm_operand;

/* mo_gemm_mixed - matrix product of operands of any type, as mo_gemm does it.
 *
 * env, desc  in      as for mo_gemm; lda and ldb count elements, not bytes
 * a, b       in      may be the same
 * c          in out  must not overlap a, b or the workspace
 *
 * The operands are decoded panel by panel while they are packed and never stand in memory as float.
 * C has the bits of mo_gemm on the decoded matrices.
 *
 * Memory:  the env's workspace, as for mo_gemm
 * Threads: one at a time per workspace; runs on the env's threads
 * Errors:  as mo_gemm; MO_E_INVALID (NULL data or absmax, type, block), MO_E_UNSUPPORTED (cblas and
 *          an operand that is not F32)
 * Since:   0.1 */
MEMOPT_NODISCARD MEMOPT_API mo_status mo_gemm_mixed(const mo_gemm_env *env,
    const mo_gemm_desc *desc, const mo_gemm_operand *a, const mo_gemm_operand *b, float *c);

#endif
