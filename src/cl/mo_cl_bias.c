/* mo_cl_bias.c - see mo_cl_bias.h; and the sums of columns that normalization takes as well. */

/* Groups of kernels whose groups walk over MO_ROWS rows. */
static uint64_t moi_cl_row_groups(const mo_cl *cl, uint64_t rows) {
    return cl && cl->work_group == 1 ? rows / 16 + (rows % 16 != 0) : rows;
}

/* Rows are summed in up to 256 chunks of 64 rows or more. */
static uint64_t moi_cl_chunk_rows(uint64_t rows) {
    return rows <= 64 * 256 ? 64 : rows / 256 + (rows % 256 != 0);
}
static uint64_t moi_cl_chunks(uint64_t rows) {
    const uint64_t chunk = moi_cl_chunk_rows(rows);
    return rows / chunk + (rows % chunk != 0);
}

/* Bytes of the partial sums of so many matrices; 0: none are needed, or it does not fit. */
static size_t moi_cl_columns_bytes(size_t rows, size_t columns, size_t n_matrices) {
    size_t n = (size_t)moi_cl_chunks(rows);
    if (n <= 1 || !moi_mul(n, columns, &n) || !moi_mul(n, n_matrices * sizeof(float), &n)) return 0;
    return n;
}

/* Whether rows x columns is a matrix that kernels can count. */
static mo_status moi_cl_matrix(size_t rows, size_t columns, size_t *n) {
    if (columns == 0) return MO_E_INVALID;
    return columns <= UINT32_MAX / 2 && moi_mul(rows, columns, n) && *n <= SIZE_MAX / 8
        ? MO_OK
        : MO_E_OVERFLOW;
}

static uint64_t moi_cl_columns_groups(const mo_cl *cl, size_t columns, uint64_t chunks) {
    const size_t block = cl->work_group == 1 ? 64 : cl->work_group; /* MO_COLUMNS of columns.cl */
    return (columns / block + (columns % block != 0)) * chunks;
}

/* One stage: chunks of chunk_rows rows of dy to rows of sum, or all of them added to sum. */
static mo_status moi_cl_columns_stage(mo_cl *cl, const mo_cl_mem *dy, uint64_t rows, size_t columns,
    uint64_t chunk_rows, int add, const mo_cl_mem *sum) {
    const uint64_t chunks = rows / chunk_rows + (rows % chunk_rows != 0);
    moi_cl_call call =
        moi_cl_begin(cl, MOI_CL_mo_cl_columns_sum, add ? "-DMO_ADD=1" : "-DMO_ADD=0");
    moi_cl_mem_arg(&call, dy, sizeof(float), rows * columns);
    moi_cl_mem_arg(&call, sum, sizeof(float), (add ? 1 : chunks) * columns);
    moi_cl_u64_arg(&call, rows);
    moi_cl_u32_arg(&call, (uint32_t)columns);
    moi_cl_u64_arg(&call, chunk_rows);
    return moi_cl_run(&call, call.status == MO_OK ? moi_cl_columns_groups(cl, columns, chunks) : 0);
}

mo_status mo_cl_bias_forward(
    mo_cl *cl, mo_cl_mem bias, mo_cl_mem residual, size_t rows, size_t columns, mo_cl_mem y) {
    size_t n;
    mo_status status = moi_cl_matrix(rows, columns, &n);
    if (status != MO_OK) return status;
    moi_cl_call call = moi_cl_begin(
        cl, MOI_CL_mo_cl_bias_forward, residual.buffer ? "-DMO_RESIDUAL=1" : "-DMO_RESIDUAL=0");
    moi_cl_mem_arg(&call, &bias, sizeof(float), columns);
    if (residual.buffer) moi_cl_mem_arg(&call, &residual, sizeof(float), n);
    moi_cl_mem_arg(&call, &y, sizeof(float), n);
    moi_cl_u64_arg(&call, rows);
    moi_cl_u32_arg(&call, (uint32_t)columns);
    return moi_cl_run(&call, moi_cl_row_groups(cl, rows));
}

size_t mo_cl_bias_workspace_size(const mo_cl *cl, size_t rows, size_t columns) {
    return cl ? moi_cl_columns_bytes(rows, columns, 1) : 0;
}

mo_status mo_cl_bias_backward(
    mo_cl *cl, mo_cl_mem dy, size_t rows, size_t columns, mo_cl_mem dbias, mo_cl_mem workspace) {
    size_t n;
    mo_status status = moi_cl_matrix(rows, columns, &n);
    if (status != MO_OK) return status;
    if (!cl || !moi_cl_has_floats(&dy, n) || !moi_cl_has_floats(&dbias, columns))
        return MO_E_INVALID;
    if (rows == 0) return MO_OK;
    const size_t bytes = moi_cl_columns_bytes(rows, columns, 1);
    if (bytes == 0 || !workspace.buffer)
        return moi_cl_columns_stage(cl, &dy, rows, columns, rows, 1, &dbias);
    if (!moi_cl_has_floats(&workspace, bytes / sizeof(float))) return MO_E_NO_SPACE;
    const uint64_t chunk = moi_cl_chunk_rows(rows), chunks = moi_cl_chunks(rows);
    status = moi_cl_columns_stage(cl, &dy, rows, columns, chunk, 0, &workspace);
    if (status != MO_OK) return status;
    return moi_cl_columns_stage(cl, &workspace, chunks, columns, chunks, 1, &dbias);
}
