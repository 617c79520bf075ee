/* mo_gemm.h - the one matrix product that everything else uses: a built-in kernel for AVX2,
 * AVX-512, NEON and plain C, or the cblas_sgemm of a BLAS that the caller links. */
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

/* mo_gemm_workspace_size - bytes that the built-in kernel needs: about 3 MiB a thread for large
 * products.
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

#endif
