/* mo_gemm_internal.h - the serial product on any strides, for the modules above. */
#ifndef MEMOPT_GEMM_INTERNAL_H
#define MEMOPT_GEMM_INTERNAL_H

/* A matrix seen through strides: element (i, j) is at data[i * row + j * column]; one stride is
 * 1. */
typedef struct moi_matrix {
    const float *data;
    size_t row, column;
} moi_matrix;

/* op of a stored matrix: element (i, j) is number origin + i * row + j * column of the operand,
 * whose rows are ld apart; one stride is 1. */
typedef struct moi_gemm_view {
    mo_gemm_operand from;
    size_t ld, origin, row, column;
} moi_gemm_view;

/* The largest tile, and the numbers in a line of the cache. */
enum { moi_gemm_max_mr = 12, moi_gemm_max_nr = 32, moi_gemm_line = 16 };

/* Panels of A (rows x depth) and B (depth x columns) that are packed at a time. */
enum { moi_gemm_rows = 384, moi_gemm_columns = 1536, moi_gemm_depth = 384 };

/* Columns when one panel of A has all rows, so that it stays; and the most numbers that are fetched
 * while others are multiplied: a part of the second level cache. */
enum { moi_gemm_few_columns = 96, moi_gemm_fetched = 65536 };

/* Rows that are a multiple of so many numbers apart, a page, share the sets of a cache. */
enum { moi_gemm_crowded = 1024 };

/* Floats of workspace for products of at most m x n x k; 64-byte multiple. */
static size_t moi_gemm_floats(size_t m, size_t n, size_t k);

/* C[m x n, ldc] = alpha A B + beta C on this thread. */
static void moi_gemm_serial(size_t m, size_t n, size_t k, float alpha, moi_matrix a, moi_matrix b,
    float beta, float *c, size_t ldc, float *workspace);

#endif
